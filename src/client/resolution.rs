//! Which sessions a resolution of credentials has asked. What comes of it (a role assumed with a user's credentials, a chain or a
//! wrapper around the provider) is *derived*: it belongs to those sessions, and ends with them.
//!
//! Properties on `Credentials` would say so without a thread-local, but each clone of them allocates, and a role's credentials do
//! not carry those of the user who assumed it. So an identity cache of ours listens while it polls somebody else's resolver, and
//! our providers say that they were asked.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::error::Error;
use crate::refresh::Failure;

/// A session, among those of all providers of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SessionId {
    pub(super) epoch: u64,
    /// Which provider it is a session of.
    pub(super) provider: usize,
}

/// What is derived from a session looks here whether it still serves.
#[derive(Debug)]
pub(super) struct SessionMark {
    pub(super) id: SessionId,
    /// Grows when the session's credentials are cleared or refused: what was derived from them is derived anew.
    version: AtomicU64,
    ended: AtomicBool,
}

/// A session that was asked, as it was then.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) mark: Arc<SessionMark>,
    version: u64,
}

impl SessionMark {
    pub(super) fn new(id: SessionId) -> Arc<Self> {
        Arc::new(Self {
            id,
            version: AtomicU64::new(0),
            ended: AtomicBool::new(false),
        })
    }

    /// Another session has taken its place.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Its credentials were cleared or refused.
    pub(super) fn renew(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
    }

    pub(super) fn asked(self: &Arc<Self>) -> Asked {
        Asked {
            version: self.version.load(Ordering::Acquire),
            mark: Arc::clone(self),
        }
    }
}

impl Asked {
    /// What was derived then still serves.
    pub(super) fn is_current(&self) -> bool {
        !self.mark.has_ended() && self.mark.version.load(Ordering::Acquire) == self.version
    }
}

/// What a resolution is told, and what is heard of it.
#[derive(Debug, Default)]
struct Heard {
    /// The sessions that the operation is pinned or bound to.
    expected: Vec<SessionId>,
    asked: Vec<Asked>,
}

thread_local! {
    /// Whether a resolution is being listened to on this thread: all that a hit looks at.
    static LISTENING: Cell<bool> = const { Cell::new(false) };
    static HEARD: RefCell<Option<Heard>> = const { RefCell::new(None) };
}

/// Whether the caller is part of a resolution that an identity cache of ours listens to.
#[inline]
pub(super) fn is_overheard() -> bool {
    LISTENING.try_with(Cell::get).unwrap_or(false)
}

/// The session of `provider` that whoever asks it now has to get: the one that the caller is bound to, that the operation is pinned
/// to, or that the same resolution has asked before.
pub(super) fn session_to_serve(provider: usize, bound: Option<u64>) -> Result<Option<u64>, Error> {
    let expected = with_heard(|heard| {
        let asked = heard.asked.iter().map(|asked| asked.mark.id);
        let mut sessions = heard.expected.iter().copied().chain(asked);
        sessions
            .find(|session| session.provider == provider)
            .map(|session| session.epoch)
    })
    .flatten();
    match (bound, expected) {
        (Some(bound), Some(expected)) if bound != expected => Err(Error::ended()),
        (bound, expected) => Ok(bound.or(expected)),
    }
}

/// Says that a session was asked.
pub(super) fn note(asked: Asked) {
    with_heard(|heard| {
        if !heard.asked.iter().any(|known| Arc::ptr_eq(&known.mark, &asked.mark)) {
            heard.asked.push(asked);
        }
    });
}

/// Whether a session was asked already.
pub(super) fn has_asked(mark: &Arc<SessionMark>) -> bool {
    with_heard(|heard| heard.asked.iter().any(|asked| Arc::ptr_eq(&asked.mark, mark))).unwrap_or(false)
}

/// Takes back that a session was asked: while it was, another took its place.
pub(super) fn take_back(mark: &Arc<SessionMark>) {
    with_heard(|heard| heard.asked.retain(|asked| !Arc::ptr_eq(&asked.mark, mark)));
}

fn with_heard<R>(read: impl FnOnce(&mut Heard) -> R) -> Option<R> {
    HEARD
        .try_with(|heard| heard.borrow_mut().as_mut().map(read))
        .unwrap_or_default()
}

/// Awaits `resolution`, of which sessions other than `expected` are not served, and tells which sessions were asked in any of its
/// polls. What it does in tasks of its own is not heard.
pub(super) async fn overhear<T>(expected: Vec<SessionId>, resolution: impl Future<Output = T>) -> (T, Vec<Asked>) {
    let mut resolution = pin!(resolution);
    let mut heard = Heard {
        expected,
        asked: Vec::new(),
    };
    let output = poll_fn(|cx| {
        let _listening = Listening::start(&mut heard);
        resolution.as_mut().poll(cx)
    })
    .await;
    (output, heard.asked)
}

/// Ends the listening, also if a poll panics.
struct Listening<'a> {
    heard: &'a mut Heard,
    outer: Option<Heard>,
}

impl<'a> Listening<'a> {
    fn start(heard: &'a mut Heard) -> Self {
        let mine = std::mem::take(heard);
        let outer = HEARD.try_with(|slot| slot.replace(Some(mine))).unwrap_or_default();
        LISTENING.try_with(|listening| listening.set(true)).unwrap_or_default();
        Self { heard, outer }
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        let outer = self.outer.take();
        LISTENING
            .try_with(|listening| listening.set(outer.is_some()))
            .unwrap_or_default();
        let mine = HEARD.try_with(|slot| slot.replace(outer)).unwrap_or_default();
        *self.heard = mine.unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::task::{Context, Waker};

    use futures_util::FutureExt;

    use super::{SessionId, SessionMark, has_asked, is_overheard, note, overhear, session_to_serve};

    fn mark(epoch: u64, provider: usize) -> Arc<SessionMark> {
        SessionMark::new(SessionId { epoch, provider })
    }

    #[test]
    fn what_is_asked_in_any_poll_is_heard_and_nothing_outside_of_it() {
        let (first, second) = (mark(1, 10), mark(2, 20));
        assert!(!is_overheard());
        note(first.asked());
        let (release, held) = tokio::sync::oneshot::channel::<()>();
        let mut resolution = Box::pin(overhear(Vec::new(), async {
            note(first.asked());
            note(first.asked());
            assert!(has_asked(&first) && !has_asked(&second));
            held.await.unwrap();
            note(second.asked());
        }));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(resolution.poll_unpin(&mut cx).is_pending());
        assert!(!is_overheard());
        release.send(()).unwrap();
        let ((), asked) = resolution.now_or_never().unwrap();
        let asked: Vec<_> = asked.iter().map(|asked| asked.mark.id.epoch).collect();
        assert_eq!(asked, [1, 2]);
    }

    #[test]
    fn a_resolution_in_a_resolution_is_heard_for_itself() {
        let (outer, inner) = (mark(1, 10), mark(2, 20));
        let resolution = overhear(Vec::new(), async {
            note(outer.asked());
            let ((), asked) = overhear(Vec::new(), async { note(inner.asked()) }).await;
            assert!(is_overheard());
            asked.len()
        });
        let (heard_inside, asked) = resolution.now_or_never().unwrap();
        assert_eq!((heard_inside, asked.len(), asked[0].mark.id.epoch), (1, 1, 1));
        assert!(!is_overheard());
    }

    #[test]
    fn one_resolution_is_served_one_session_of_a_provider() {
        assert_eq!(session_to_serve(10, Some(7)).unwrap(), Some(7));
        let pinned = vec![SessionId { epoch: 1, provider: 10 }];
        let resolution = overhear(pinned, async {
            assert_eq!(session_to_serve(10, None).unwrap(), Some(1));
            assert!(session_to_serve(10, Some(2)).is_err());
            assert_eq!(session_to_serve(20, None).unwrap(), None);
            note(mark(5, 20).asked());
            assert_eq!(session_to_serve(20, None).unwrap(), Some(5));
        });
        resolution.now_or_never().unwrap();
    }

    #[test]
    fn a_panic_in_a_poll_ends_the_listening() {
        let resolution = overhear(Vec::new(), async { panic!("a wrapper's own") });
        let resolution = std::panic::AssertUnwindSafe(resolution).catch_unwind();
        assert!(resolution.now_or_never().unwrap().is_err());
        assert!(!is_overheard());
    }

    #[test]
    fn what_was_derived_ends_with_the_session_and_when_its_credentials_do() {
        let session = mark(1, 10);
        let before = session.asked();
        assert!(before.is_current());
        session.renew();
        assert!(!before.is_current() && session.asked().is_current());
        session.end();
        assert!(!session.asked().is_current());
    }
}
