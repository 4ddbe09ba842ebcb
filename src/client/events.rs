//! [`Events`]: what happens to the login, told to whoever wants to know. Nobody who listens can hold up who tells.

use std::collections::VecDeque;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use futures_util::Stream;

use super::app_code::{drop_quietly, quietly};
use crate::error::Error;
use crate::ids::IdentityId;

/// Something that happened to a session.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Event {
    /// The session's number; sessions are numbered in the order in which they took force.
    pub epoch: u64,
    /// What happened.
    pub kind: EventKind,
}

/// What happened to a session. `Debug` shows the last four characters of identity ids only.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum EventKind {
    /// A login took force and its first credentials are here.
    SignedIn {
        /// Who it is to Cognito.
        identity_id: IdentityId,
    },
    /// The identity stayed the same over a change of login: a guest's was linked, or a login added.
    IdentityKept {
        /// The identity.
        identity_id: IdentityId,
    },
    /// Another identity took the place of the one before. Data that is filed under the old one stays there.
    IdentityReplaced {
        /// The identity before.
        from: IdentityId,
        /// The identity from now on.
        to: IdentityId,
    },
    /// The credentials were renewed.
    Refreshed,
    /// The credentials cannot be renewed, and those at hand live less than five more minutes.
    RefreshFailing {
        /// Why.
        error: Error,
    },
    /// Nothing can succeed before the user has signed in again.
    NeedsSignIn {
        /// Why.
        error: Error,
    },
    /// The service does not know the identity any more, or forbids it. For a guest another one may follow
    /// ([`EventKind::IdentityReplaced`]).
    IdentityLost {
        /// The identity that is lost.
        identity_id: IdentityId,
    },
    /// Nobody is signed in any more.
    SignedOut,
    /// The closure of [`Login::decided_by`](crate::Login::decided_by) was asked and could not be followed; the login stays as it is.
    LoginUndecided {
        /// What was wrong with the answer, and what to write.
        error: Error,
    },
    /// This subscriber was too slow: events before the next one were dropped.
    Missed {
        /// How many.
        count: u64,
    },
}

/// A subscription to the [`Event`]s of a provider, from the moment on in which it was made.
///
/// Events come in the order in which their sessions took force; once there was one of a session, none of an earlier session
/// follows. Up to [`Events::CAPACITY`] wait to be fetched. Beyond that the oldest are dropped, and [`EventKind::Missed`] comes in
/// their place, so a listener that is slow, or has died, holds up nobody.
///
/// It is a [`Stream`], too, and needs no particular runtime.
///
/// ```
/// use cognito_identity_pool::client::{EventKind, Events};
///
/// async fn listen(mut events: Events) {
///     while let Some(event) = events.next().await {
///         match event.kind {
///             EventKind::NeedsSignIn { .. } => println!("please sign in again"),
///             EventKind::IdentityReplaced { from, to } => println!("{from:?} has become {to:?}"),
///             _ => {}
///         }
///     }
/// }
/// ```
pub struct Events {
    inbox: Arc<Inbox>,
}

impl Events {
    /// How many events wait for a subscriber at most.
    pub const CAPACITY: usize = 64;

    /// The next event; `None` once the last clone of the provider is gone and all of its events were fetched. Sessions and SDK
    /// clients may live on, and are heard of no more.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: an event that was not returned is returned by the next call.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &Context<'_>) -> Poll<Option<Event>> {
        // A waker's clone and drop are anybody's code, and run under no lock.
        let waker = context.waker().clone();
        let mut waiting = self.inbox.lock();
        let ready = match waiting.take() {
            None if !waiting.closed => None,
            event => Some(event),
        };
        if let Some(ready) = ready {
            drop(waiting);
            return Poll::Ready(ready);
        }
        let before = waiting.waker.replace(waker);
        drop(waiting);
        drop(before);
        Poll::Pending
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        self.poll(context)
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events")
            .field("waiting", &self.inbox.lock().events.len())
            .finish()
    }
}

/// What one subscriber has not fetched yet.
#[derive(Default)]
struct Inbox(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    events: VecDeque<Event>,
    /// How many were dropped before the first of `events`, and the epoch of the last of them.
    missed: u64,
    missed_epoch: u64,
    waker: Option<Waker>,
    closed: bool,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn put(&mut self, event: Event) {
        if self.events.len() == Events::CAPACITY
            && let Some(dropped) = self.events.pop_front()
        {
            self.missed += 1;
            self.missed_epoch = dropped.epoch;
        }
        self.events.push_back(event);
    }

    fn take(&mut self) -> Option<Event> {
        if self.missed == 0 {
            return self.events.pop_front();
        }
        let count = std::mem::take(&mut self.missed);
        Some(Event {
            epoch: self.missed_epoch,
            kind: EventKind::Missed { count },
        })
    }
}

/// Where events come from. Its drop ends the subscriptions.
#[derive(Default)]
pub(crate) struct EventSource {
    audience: Mutex<Audience>,
}

#[derive(Default)]
struct Audience {
    epoch: u64,
    closed: bool,
    inboxes: Vec<Weak<Inbox>>,
}

impl EventSource {
    /// Tells all subscribers. What comes from a session older than one that was told of is dropped: it would be taken for
    /// news of the session in force.
    ///
    /// Never waits for a subscriber, and a waker that panics is the subscriber's loss.
    pub(crate) fn publish(&self, epoch: u64, kind: EventKind) {
        let mut audience = self.lock();
        if epoch < audience.epoch {
            return;
        }
        audience.epoch = epoch;
        let heard: Vec<_> = audience.inboxes.iter().filter_map(Weak::upgrade).collect();
        audience.inboxes.retain(|inbox| inbox.strong_count() > 0);
        let mut wakers = Vec::new();
        for inbox in &heard {
            let mut waiting = inbox.lock();
            let kind = kind.clone();
            waiting.put(Event { epoch, kind });
            wakers.extend(waiting.waker.take());
        }
        // Wakers are anybody's code, and the last reference to an inbox drops one: they run under no lock.
        drop(audience);
        drop_quietly(heard);
        wake(wakers);
    }

    /// Ends the subscriptions: what was published is still fetched, and nothing follows.
    pub(crate) fn close(&self) {
        let mut audience = self.lock();
        audience.closed = true;
        let heard: Vec<_> = audience.inboxes.drain(..).filter_map(|inbox| inbox.upgrade()).collect();
        let mut wakers = Vec::new();
        for inbox in &heard {
            let mut waiting = inbox.lock();
            waiting.closed = true;
            wakers.extend(waiting.waker.take());
        }
        drop(audience);
        drop_quietly(heard);
        wake(wakers);
    }

    /// A subscription to what is published from now on.
    pub(crate) fn subscribe(&self) -> Events {
        let inbox = Arc::new(Inbox::default());
        let mut audience = self.lock();
        if audience.closed {
            inbox.lock().closed = true;
        }
        audience.inboxes.retain(|inbox| inbox.strong_count() > 0);
        audience.inboxes.push(Arc::downgrade(&inbox));
        drop(audience);
        Events { inbox }
    }

    fn lock(&self) -> MutexGuard<'_, Audience> {
        self.audience.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for EventSource {
    fn drop(&mut self) {
        self.close();
    }
}

impl fmt::Debug for EventSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let audience = self.lock();
        f.debug_struct("EventSource")
            .field("epoch", &audience.epoch)
            .field("subscribers", &audience.inboxes.len())
            .finish()
    }
}

fn wake(wakers: Vec<Waker>) {
    for waker in wakers {
        // A panic must not reach the session that tells, nor keep it from telling others.
        quietly(|| waker.wake());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use futures_util::StreamExt;

    use super::*;
    use crate::error::ErrorKind;

    fn id(n: u32) -> IdentityId {
        IdentityId::new(format!("us-east-1:00000000-0000-0000-0000-{n:012x}")).unwrap()
    }

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    struct Panics;

    impl Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("a listener's executor");
        }
    }

    /// What is there without waiting: `None` while it would wait, `Some(None)` at the end.
    fn now(events: &mut Events) -> Option<Option<Event>> {
        match events.poll(&Context::from_waker(Waker::noop())) {
            Poll::Ready(event) => Some(event),
            Poll::Pending => None,
        }
    }

    fn told(events: &mut Events) -> Vec<(u64, String)> {
        std::iter::from_fn(|| now(events).flatten())
            .map(|event| (event.epoch, format!("{:?}", event.kind)))
            .collect()
    }

    #[test]
    fn all_subscribers_are_told_of_all_that_happens_after_they_came() {
        let source = EventSource::default();
        source.publish(1, EventKind::SignedOut);
        let mut early = source.subscribe();
        source.publish(2, EventKind::SignedIn { identity_id: id(1) });
        let mut late = source.subscribe();
        source.publish(2, EventKind::Refreshed);
        assert_eq!(
            told(&mut early),
            [
                (2, r#"SignedIn { identity_id: IdentityId("…0001") }"#.to_owned()),
                (2, "Refreshed".to_owned())
            ]
        );
        assert_eq!(told(&mut late), [(2, "Refreshed".to_owned())]);
    }

    #[test]
    fn nothing_of_an_older_session_follows_what_is_newer() {
        let source = EventSource::default();
        let mut events = source.subscribe();
        source.publish(7, EventKind::Refreshed);
        source.publish(8, EventKind::SignedOut);
        source.publish(7, EventKind::IdentityReplaced { from: id(1), to: id(2) });
        source.publish(8, EventKind::Refreshed);
        let epochs: Vec<_> = told(&mut events).into_iter().map(|(epoch, _)| epoch).collect();
        assert_eq!(epochs, [7, 8, 8]);
        // Not even to one who has not heard of the newer one.
        let mut later = source.subscribe();
        source.publish(7, EventKind::Refreshed);
        assert!(now(&mut later).is_none());
    }

    #[test]
    fn a_slow_listener_loses_the_oldest_and_hears_how_many() {
        let source = EventSource::default();
        let (mut slow, mut fast) = (source.subscribe(), source.subscribe());
        let all = Events::CAPACITY as u64 + 10;
        for epoch in 1..=all {
            source.publish(epoch, EventKind::Refreshed);
            assert_eq!(now(&mut fast).flatten().map(|event| event.epoch), Some(epoch));
        }
        let told = told(&mut slow);
        assert_eq!(told.len(), Events::CAPACITY + 1);
        assert_eq!(told[0], (10, "Missed { count: 10 }".to_owned()));
        assert!(told.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!(told.last().map(|(epoch, _)| *epoch), Some(all));
        // What was told once is not told again.
        source.publish(all, EventKind::SignedOut);
        assert_eq!(now(&mut slow).flatten().map(|event| event.epoch), Some(all));
        assert!(now(&mut slow).is_none());
    }

    #[test]
    fn who_waits_is_woken_once_for_each_wait_and_at_the_end() {
        let source = EventSource::default();
        let mut events = source.subscribe();
        let counter = Arc::new(Counter::default());
        let waker = Waker::from(Arc::clone(&counter));
        let context = Context::from_waker(&waker);
        for round in 1..=3 {
            assert!(events.poll(&context).is_pending());
            assert!(events.poll(&context).is_pending());
            source.publish(1, EventKind::Refreshed);
            source.publish(1, EventKind::Refreshed);
            assert_eq!(counter.0.load(Ordering::SeqCst), round);
            assert_eq!(told(&mut events).len(), 2);
        }
        assert!(events.poll(&context).is_pending());
        drop(source);
        assert_eq!(counter.0.load(Ordering::SeqCst), 4);
        assert!(matches!(now(&mut events), Some(None)));
    }

    #[test]
    fn a_listener_that_panics_or_is_gone_takes_nothing_from_the_others() {
        let source = EventSource::default();
        let (mut panics, gone, mut good) = (source.subscribe(), source.subscribe(), source.subscribe());
        let waker = Waker::from(Arc::new(Panics));
        assert!(panics.poll(&Context::from_waker(&waker)).is_pending());
        drop(gone);
        let counter = Arc::new(Counter::default());
        let waker = Waker::from(Arc::clone(&counter));
        assert!(good.poll(&Context::from_waker(&waker)).is_pending());
        source.publish(1, EventKind::Refreshed);
        assert_eq!((counter.0.load(Ordering::SeqCst), told(&mut good).len()), (1, 1));
        assert_eq!(told(&mut panics).len(), 1, "its event is still there for it");
        assert!(format!("{source:?}").contains("subscribers: 2"), "{source:?}");
    }

    #[tokio::test]
    async fn what_was_published_before_the_end_is_still_fetched() {
        let source = EventSource::default();
        let mut events = source.subscribe();
        let error = Error::new(ErrorKind::SignedOut, "the backend says so");
        source.publish(1, EventKind::NeedsSignIn { error });
        drop(source);
        assert!(
            matches!(Events::next(&mut events).await.unwrap().kind, EventKind::NeedsSignIn { error } if error.needs_sign_in())
        );
        assert!(StreamExt::next(&mut events).await.is_none());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn publishers_on_many_threads_and_a_listener_lose_nothing_between_them() {
        let source = Arc::new(EventSource::default());
        let mut events = source.subscribe();
        let threads = (0..8).map(|_| {
            let source = Arc::clone(&source);
            std::thread::spawn(move || (1..=500).for_each(|epoch| source.publish(epoch, EventKind::Refreshed)))
        });
        let threads: Vec<_> = threads.collect();
        drop(source);
        let (mut last, mut heard) = (0, 0);
        while let Some(event) = events.next().await {
            assert!(event.epoch >= last, "{} after {last}", event.epoch);
            last = event.epoch;
            heard += match event.kind {
                EventKind::Missed { count } => count,
                _ => 1,
            };
        }
        for thread in threads {
            thread.join().unwrap();
        }
        // Each epoch was published at least by the thread that came to it first.
        assert_eq!(last, 500);
        assert!((500..=4_000).contains(&heard), "{heard}");
    }

    #[test]
    fn debug_of_an_event_shows_no_guest() {
        let shown = format!(
            "{:?}",
            EventKind::IdentityReplaced {
                from: id(0xABCDEF),
                to: id(2)
            }
        );
        assert!(!shown.contains("0000-0000") && shown.contains("…cdef"), "{shown}");
    }
}
