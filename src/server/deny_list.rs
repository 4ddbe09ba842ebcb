//! Who gets nothing from this process, and what was begun for a user before that was decided.
//!
//! What the store of all instances says comes on top of it ([`SharedDenyList`]).
//!
//! Three things are kept of a user, and only while there is something to keep: that the user is denied, how many holds there
//! are (while the user is being forgotten), and a *generation*, for as long as requests are under way. A hold or a denial starts a
//! new generation; what was begun in an older one ends with an error, whenever it ends, and [`UserHold::drained`] waits for what may
//! still reach AWS.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Notify;

use super::deny_entry::{denied, held};
use super::shared_deny_list::SharedDenyList;
use crate::clock::{Clock, Expiry, Now, Timer};
use crate::error::Error;
use crate::ids::DeveloperUserId;
use crate::metrics;

/// A request that nobody waits for any more may still be on its way for so long: what a call may take, attempts and pauses
/// included.
pub(super) const ON_ITS_WAY: Duration = Duration::from_secs(12);

/// Users who are denied, users who are held while their identity is taken down, and requests under way.
#[derive(Debug)]
pub(super) struct DenyList {
    users: RwLock<HashMap<DeveloperUserId, UserState>>,
    shared: Option<Arc<SharedDenyList>>,
    clock: Clock,
    changed: Notify,
}

/// A denial by this process.
#[derive(Debug, Clone, Copy)]
struct Denial {
    /// `None`: until it is taken back.
    until: Option<Expiry>,
}

#[derive(Debug, Default)]
struct UserState {
    denied: Option<Denial>,
    holds: usize,
    generation: u64,
    /// Admissions that are out.
    begun: usize,
    /// Those of them whose request may have reached AWS and is not answered yet.
    sent: usize,
    /// Requests that were given up unanswered may arrive until then.
    stray_until: Option<Expiry>,
}

impl UserState {
    fn is_denied(&self, now: Now) -> bool {
        let until = |denial: Denial| denial.until.is_none_or(|until| !until.is_over(now));
        self.denied.is_some_and(until)
    }

    fn check(&self, now: Now) -> Result<(), Error> {
        if self.is_denied(now) {
            Err(denied())
        } else if self.holds > 0 {
            Err(held())
        } else {
            Ok(())
        }
    }
}

impl DenyList {
    pub(super) fn new(clock: Clock, shared: Option<Arc<SharedDenyList>>) -> Arc<Self> {
        Arc::new(Self {
            users: RwLock::default(),
            shared,
            clock,
            changed: Notify::new(),
        })
    }

    /// Whether the user may be served at this moment.
    pub(super) fn check(&self, user: &DeveloperUserId, now: Now) -> Result<(), Error> {
        self.check_here(user, now)?;
        self.check_shared(user, now)
    }

    /// Whether the user is known to be refused at this moment: an old list says it, too, and refuses nobody else.
    pub(super) fn check_known(&self, user: &DeveloperUserId) -> Result<(), Error> {
        self.check_here(user, self.clock.now())?;
        self.shared.as_ref().map_or(Ok(()), |shared| shared.check_known(user))
    }

    fn check_here(&self, user: &DeveloperUserId, now: Now) -> Result<(), Error> {
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        users.get(user).map_or(Ok(()), |state| state.check(now))
    }

    fn check_shared(&self, user: &DeveloperUserId, now: Now) -> Result<(), Error> {
        self.shared.as_ref().map_or(Ok(()), |shared| shared.check(user, now))
    }

    /// What the store says, if there is one that instances share.
    pub(super) fn shared(&self) -> Option<&Arc<SharedDenyList>> {
        self.shared.as_ref()
    }

    /// Lets something that began at `began` go on for a user: [`Admission`] says later whether it may still land.
    pub(super) fn admit(self: &Arc<Self>, user: &DeveloperUserId, began: Now) -> Result<Admission, Error> {
        let mut now = began;
        if let Some(shared) = &self.shared {
            // The store may have been waited for since.
            now = self.clock.now();
            shared.check_begun(user, began, now)?;
        }
        let mut admitted = Ok(0);
        self.change(user, now, &mut |state| {
            admitted = state.check(now).map(|()| {
                state.begun += 1;
                state.generation
            });
        });
        Ok(Admission {
            list: Arc::clone(self),
            user: user.clone(),
            generation: admitted?,
            sent: AtomicBool::new(false),
        })
    }

    /// Denies a user in this process, for good or for some time.
    pub(super) fn deny(&self, user: &DeveloperUserId, time: Option<Duration>) {
        let now = self.clock.now();
        let until = time.map(|time| Expiry::after(now, time));
        self.change(user, now, &mut |state| {
            state.denied = Some(Denial { until });
            state.generation += 1;
        });
    }

    /// Takes the denial by this process back, or leaves it to the store.
    pub(super) fn allow(&self, user: &DeveloperUserId) {
        self.change(user, self.clock.now(), &mut |state| state.denied = None);
    }

    /// Refuses the user until the hold is dropped.
    pub(super) fn hold(self: &Arc<Self>, user: &DeveloperUserId) -> UserHold {
        self.change(user, self.clock.now(), &mut |state| {
            state.holds += 1;
            state.generation += 1;
        });
        UserHold {
            list: Arc::clone(self),
            user: user.clone(),
        }
    }

    /// Changes what is kept of a user, and keeps it only as long as it says something. The clock, which may be the app's, is not read
    /// under the lock.
    fn change(&self, user: &DeveloperUserId, now: Now, change: &mut dyn FnMut(&mut UserState)) {
        let more = {
            let mut users = self.users.write().unwrap_or_else(PoisonError::into_inner);
            let mut new = UserState::default();
            let kept = users.get_mut(user);
            let was_kept = kept.is_some();
            let state = kept.unwrap_or(&mut new);
            let was_denied = state.denied.is_some();
            change(state);
            state.stray_until = state.stray_until.filter(|until| !until.is_over(now));
            let keep = state.is_denied(now) || state.holds > 0 || state.begun > 0 || state.stray_until.is_some();
            let is_denied = keep && state.denied.is_some();
            match (was_kept, keep) {
                (true, false) => drop(users.remove(user)),
                (false, true) => drop(users.insert(user.clone(), new)),
                _ => {}
            }
            f64::from(u8::from(is_denied)) - f64::from(u8::from(was_denied))
        };
        metrics::denied_users(more);
    }
}

impl Drop for DenyList {
    fn drop(&mut self) {
        let users = self.users.get_mut().unwrap_or_else(PoisonError::into_inner);
        metrics::denied_users(-(users.values().filter(|state| state.denied.is_some()).count() as f64));
    }
}

/// A permission to do something for a user, good for as long as nobody has held or denied the user since.
#[derive(Debug)]
pub(super) struct Admission {
    list: Arc<DenyList>,
    user: DeveloperUserId,
    generation: u64,
    sent: AtomicBool,
}

impl Admission {
    /// Whether the user may still be served.
    pub(super) fn check(&self) -> Result<(), Error> {
        let now = self.list.clock.now();
        self.list.check_shared(&self.user, now)?;
        let users = self.list.users.read().unwrap_or_else(PoisonError::into_inner);
        // While an admission is out, its user has an entry.
        users
            .get(&self.user)
            .map_or(Ok(()), |state| self.check_state(state, now))
    }

    fn check_state(&self, state: &UserState, now: Now) -> Result<(), Error> {
        state.check(now)?;
        if state.generation == self.generation {
            Ok(())
        } else {
            Err(held())
        }
    }

    /// As [`check`](Self::check), at the last moment before a request that changes something: from here on a hold waits for it.
    pub(super) fn send(&self) -> Result<(), Error> {
        let now = self.list.clock.now();
        self.list.check_shared(&self.user, now)?;
        self.change(now, |state| {
            self.check_state(state, now)?;
            if !self.sent.swap(true, Ordering::Relaxed) {
                state.sent += 1;
            }
            Ok(())
        })
    }

    /// The request has been answered, or is known not to arrive any more. Whether the user may have what it brought.
    pub(super) fn answered(&self, now: Now) -> Result<(), Error> {
        self.ended(now, false)
    }

    /// No answer has come, and the request may have arrived or may still: a hold waits for as long as it can be on its way.
    pub(super) fn lost(&self, now: Now) -> Result<(), Error> {
        self.ended(now, true)
    }

    fn ended(&self, now: Now, is_lost: bool) -> Result<(), Error> {
        let checked = self.change(now, |state| {
            self.note_end(state, is_lost, now);
            self.check_state(state, now)
        });
        self.list.changed.notify_waiters();
        checked.and_then(|()| self.list.check_shared(&self.user, now))
    }

    fn note_end(&self, state: &mut UserState, is_lost: bool, now: Now) {
        if self.sent.swap(false, Ordering::Relaxed) {
            state.sent -= 1;
            if is_lost {
                state.stray_until = Some(Expiry::after(now, ON_ITS_WAY));
            }
        }
    }

    fn change(&self, now: Now, change: impl Fn(&mut UserState) -> Result<(), Error>) -> Result<(), Error> {
        let mut checked = Ok(());
        self.list.change(&self.user, now, &mut |state| checked = change(state));
        checked
    }
}

impl Drop for Admission {
    fn drop(&mut self) {
        let now = self.list.clock.now();
        self.list.change(&self.user, now, &mut |state| {
            state.begun -= 1;
            self.note_end(state, true, now);
        });
        self.list.changed.notify_waiters();
    }
}

/// Keeps a user from being served until it is dropped.
#[derive(Debug)]
pub(super) struct UserHold {
    list: Arc<DenyList>,
    user: DeveloperUserId,
}

impl UserHold {
    /// Waits until nothing can reach AWS any more that was sent for the user before the hold.
    pub(super) async fn drained(&self, timer: &Timer) {
        loop {
            let changed = self.list.changed.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            let (sent, stray) = {
                let users = self.list.users.read().unwrap_or_else(PoisonError::into_inner);
                let state = users.get(&self.user);
                let stray = state.and_then(|state| state.stray_until);
                (state.is_some_and(|state| state.sent > 0), stray)
            };
            if sent {
                changed.await;
                continue;
            }
            let stray = stray.map(|until| until.remaining(self.list.clock.now()));
            if let Some(wait) = stray.filter(|wait| !wait.is_zero())
                && let Some(sleep) = timer.after(wait)
            {
                sleep.await;
            }
            // Nothing is sent under a hold, so that what was waited for was all.
            return;
        }
    }
}

impl Drop for UserHold {
    fn drop(&mut self) {
        let now = self.list.clock.now();
        self.list.change(&self.user, now, &mut |state| state.holds -= 1);
    }
}

#[cfg(test)]
mod tests {
    use crate::error::ErrorKind;
    use std::time::{SystemTime, UNIX_EPOCH};

    use aws_smithy_async::test_util::ManualTimeSource;
    use aws_smithy_async::time::SharedTimeSource;
    use futures_util::FutureExt;

    use super::*;

    fn list() -> Arc<DenyList> {
        let time: SystemTime = UNIX_EPOCH + Duration::from_secs(1_790_000_000);
        DenyList::new(Clock::new(SharedTimeSource::new(ManualTimeSource::new(time))), None)
    }

    fn user() -> DeveloperUserId {
        DeveloperUserId::new("alice").unwrap()
    }

    fn is_empty(list: &DenyList) -> bool {
        list.users.read().unwrap().is_empty()
    }

    fn admit(list: &Arc<DenyList>) -> Result<Admission, Error> {
        list.admit(&user(), list.clock.now())
    }

    #[test]
    fn what_was_begun_before_a_hold_never_lands() {
        let list = list();
        let before = admit(&list).unwrap();
        let hold = list.hold(&user());
        assert_eq!(
            list.check(&user(), list.clock.now()).unwrap_err().kind(),
            ErrorKind::Denied
        );
        assert!(admit(&list).is_err() && before.send().is_err());
        drop(hold);
        assert!(list.check(&user(), list.clock.now()).is_ok());
        let error = before.send().unwrap_err();
        assert!(error.is_retryable() && error.kind() == ErrorKind::Denied);
        let after = admit(&list).unwrap();
        assert!(after.send().is_ok() && after.answered(list.clock.now()).is_ok());
        drop((before, after));
        assert!(is_empty(&list));
    }

    #[test]
    fn what_was_begun_before_a_denial_never_lands_either_once_it_is_taken_back() {
        let list = list();
        let before = admit(&list).unwrap();
        before.send().unwrap();
        list.deny(&user(), None);
        list.allow(&user());
        assert!(before.answered(list.clock.now()).is_err());
        drop(before);
        assert!(is_empty(&list));
    }

    #[test]
    fn a_hold_waits_for_what_was_sent_and_for_nothing_else() {
        let list = list();
        let timer = Timer::new(None);
        let (queued, sent) = (admit(&list).unwrap(), admit(&list).unwrap());
        sent.send().unwrap();
        let hold = list.hold(&user());
        let mut drained = Box::pin(hold.drained(&timer));
        assert!(drained.as_mut().now_or_never().is_none());
        assert!(sent.answered(list.clock.now()).is_err());
        assert!(drained.as_mut().now_or_never().is_some());
        drop(drained);
        drop((hold, sent, queued));
        assert!(is_empty(&list));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_was_given_up_is_waited_for_as_long_as_it_can_take() {
        use aws_smithy_async::rt::sleep::{SharedAsyncSleep, TokioSleep};
        let list = list();
        let timer = Timer::new(Some(SharedAsyncSleep::new(TokioSleep::new())));
        let sent = admit(&list).unwrap();
        sent.send().unwrap();
        drop(sent);
        let hold = list.hold(&user());
        let began = tokio::time::Instant::now();
        hold.drained(&timer).await;
        assert_eq!(began.elapsed(), ON_ITS_WAY);
    }
}
