//! The mark that pins an operation to the session in which it was begun, and the credentials that carry it.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};

use aws_credential_types::Credentials;
use aws_smithy_runtime_api::client::identity::Identity;
use aws_smithy_types::config_bag::{Layer, Storable, StoreReplace};

/// The session in which an operation was begun. It rides on the identity of the first attempt, and later attempts find it in their
/// config bag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pin {
    /// Of which provider the session is.
    pub(super) provider: usize,
    pub(super) epoch: u64,
}

/// The epoch of a session that no other replaces, so that nothing has to be pinned to it.
pub(super) const UNPINNED: u64 = 0;

impl Storable for Pin {
    type Storer = StoreReplace<Self>;
}

thread_local! {
    /// The credentials that were handed out last on this thread.
    static HANDED_OUT: Cell<Option<HandedOut>> = const { Cell::new(None) };
    /// Which of the [`COPIES`] this thread is answered with.
    static COPY: usize = {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        THREADS.fetch_add(1, Ordering::Relaxed) % COPIES
    };
}

/// Which credentials, and of which session.
#[derive(Debug, Clone, Copy)]
pub(super) struct HandedOut {
    pub(super) pin: Pin,
    /// The hash of the access key id.
    pub(super) key: u64,
}

/// Threads that clone the same identity contend for its reference counts, which costs more than all else about an answer.
const COPIES: usize = 4;

/// What is answered from a session that another may replace.
pub(super) struct PinnedIdentity {
    /// The credentials as an identity cache answers them: with the mark that pins an operation to the session.
    identities: [Identity; COPIES],
    handed_out: HandedOut,
}

impl PinnedIdentity {
    pub(super) fn new(credentials: &Credentials, pin: Pin) -> Self {
        Self {
            identities: std::array::from_fn(|_| pinned(credentials, pin)),
            handed_out: HandedOut {
                pin,
                key: hash(credentials),
            },
        }
    }

    pub(super) fn epoch(&self) -> u64 {
        self.handed_out.pin.epoch
    }

    /// Leaves word for an identity cache further up the stack: a mark on the credentials themselves would cost an allocation for
    /// each clone.
    #[inline]
    pub(super) fn announce(&self) {
        let announced = Some(self.handed_out);
        HANDED_OUT.try_with(|last| last.set(announced)).unwrap_or_default();
    }

    pub(super) fn identity(&self) -> Identity {
        self.identities[COPY.try_with(|copy| *copy).unwrap_or_default()].clone()
    }
}

pub(super) fn hash(credentials: &Credentials) -> u64 {
    let mut hasher = DefaultHasher::new();
    credentials.access_key_id().hash(&mut hasher);
    hasher.finish()
}

/// Awaits `resolution`, and tells which credentials were handed out in the poll that ended it.
pub(super) async fn overheard<T>(resolution: impl Future<Output = T>) -> (T, Option<HandedOut>) {
    let mut resolution = pin!(resolution);
    let take = || HANDED_OUT.try_with(Cell::take).ok().flatten();
    poll_fn(|cx| {
        take();
        resolution.as_mut().poll(cx).map(|output| (output, take()))
    })
    .await
}

/// `credentials`, which are of `pin`'s session, as an identity that pins the operation that is signed with it.
pub(super) fn pinned(credentials: &Credentials, pin: Pin) -> Identity {
    let mut layer = Layer::new("CognitoIdentityPoolSession");
    layer.store_put(pin);
    let identity = Identity::builder().data(credentials.clone()).property(layer.freeze());
    let identity = match credentials.expiry() {
        Some(expiry) => identity.expiration(expiry),
        None => identity,
    };
    // The builder fails only without data.
    identity.build().unwrap_or_else(|_| Identity::new((), None))
}
