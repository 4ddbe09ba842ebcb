//! What pins an operation to the session in which it was begun, and the identities that carry it.
//!
//! The SDK resolves the identity again for each attempt of an operation. The pin rides on the identity of the first attempt, as a
//! layer of configuration that later attempts find in their config bag.

use std::collections::hash_map::RandomState;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use aws_credential_types::attributes::AccountId;
use aws_credential_types::credential_feature::AwsCredentialFeature;
use aws_credential_types::{Credentials, Token};
use aws_smithy_runtime_api::client::identity::Identity;
use aws_smithy_runtime_api::client::retries::RequestAttempts;
use aws_smithy_types::config_bag::{ConfigBag, FrozenLayer, Layer, Storable, StoreReplace};

use super::resolution::{Asked, SessionId, SessionMark};

/// The epoch of a session that no other replaces, so that nothing has to be pinned to it.
pub(super) const UNPINNED: u64 = 0;

/// What an operation was begun with.
#[derive(Debug, Clone)]
pub(super) struct OperationPin {
    /// The sessions that its credentials are of, or were derived from; in order, each once.
    sessions: Arc<[SessionId]>,
    /// A hash of the access key that signs. `None`: it is not signed with credentials.
    signer: Option<u64>,
    /// Of the provider whose cache answered: tells credentials apart of which no session is known.
    in_force: SessionId,
}

impl Storable for OperationPin {
    type Storer = StoreReplace<Self>;
}

impl OperationPin {
    /// To the session that the credentials are of.
    pub(super) fn to(session: SessionId, credentials: &Credentials) -> Self {
        Self {
            sessions: Arc::new([session]),
            signer: Some(hash(credentials.access_key_id())),
            in_force: session,
        }
    }

    /// To the sessions that were asked.
    pub(super) fn to_asked(asked: &[Asked], identity: &Identity, in_force: SessionId) -> Self {
        let mut sessions: Vec<_> = asked.iter().map(|asked| asked.mark.id).collect();
        sessions.sort_unstable();
        sessions.dedup();
        Self {
            sessions: sessions.into(),
            signer: identity
                .data::<Credentials>()
                .map(|credentials| hash(credentials.access_key_id())),
            in_force,
        }
    }

    pub(super) fn sessions(&self) -> &[SessionId] {
        &self.sessions
    }

    /// The session of `provider` in which the operation was begun.
    pub(super) fn epoch_of(&self, provider: usize) -> Option<u64> {
        let mut sessions = self.sessions.iter();
        sessions
            .find(|session| session.provider == provider)
            .map(|session| session.epoch)
    }

    /// Whether an operation that is pinned so may go on with an identity that is pinned as `answer`: within its sessions with
    /// whatever they serve; with somebody else's credentials if they are the same, or no switch has come between.
    pub(super) fn admits(&self, answer: &Self) -> bool {
        let same_signer = self.signer.is_some() && self.signer == answer.signer;
        let same_sessions = self.sessions == answer.sessions;
        same_signer || (same_sessions && (!self.sessions.is_empty() || self.in_force == answer.in_force))
    }
}

/// The same for each run of a process, and for no two runs.
fn hash(access_key_id: &str) -> u64 {
    static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);
    HASHER.hash_one(access_key_id)
}

/// `identity` with `pin`. As it was, if it is of a kind that cannot be made anew.
pub(super) fn with_pin(identity: Identity, pin: &OperationPin) -> Result<Identity, Identity> {
    let builder = if let Some(credentials) = identity.data::<Credentials>() {
        Identity::builder().data(credentials.clone())
    } else if let Some(token) = identity.data::<Token>() {
        Identity::builder().data(token.clone())
    } else {
        return Err(identity);
    };
    let mut layer = Layer::new("CognitoIdentityPoolSession");
    if let Some(theirs) = identity.property::<FrozenLayer>() {
        let mut features = theirs.load::<AwsCredentialFeature>().peekable();
        if features.peek().is_none() && !theirs.is_empty() {
            return Err(identity);
        }
        for feature in features {
            layer.store_append(feature.clone());
        }
    }
    layer.store_put(pin.clone());
    let mut builder = builder.property(layer.freeze());
    if let Some(account) = identity.property::<AccountId>() {
        builder.set_property(account.clone());
    }
    builder.set_expiration(identity.expiration());
    // The builder fails only without data.
    builder.build().map_err(|_| identity)
}

thread_local! {
    /// Which of the [`COPIES`] this thread is answered with.
    static COPY: usize = {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        THREADS.fetch_add(1, Ordering::Relaxed) % COPIES
    };
}

/// Threads that clone the same identity contend for its reference counts, which costs more than all else about an answer.
const COPIES: usize = 4;

/// Credentials as an identity cache answers them.
pub(super) struct PinnedIdentity([Identity; COPIES]);

impl PinnedIdentity {
    pub(super) fn new(credentials: &Credentials, pin: &OperationPin) -> Self {
        Self(std::array::from_fn(|_| {
            let identity = Identity::from(credentials.clone());
            with_pin(identity, pin).unwrap_or_else(|identity| identity)
        }))
    }

    pub(super) fn get(&self) -> Identity {
        self.0[COPY.try_with(|copy| *copy).unwrap_or_default()].clone()
    }
}

/// How many access keys are remembered. A user has a new one each hour.
const MAX_HANDED_OUT: usize = 4_096;

/// Whose the access keys are that were handed out last in this process: so credentials are recognised that came by a way on which
/// nothing is heard, or were kept there.
#[derive(Default)]
struct HandedOut {
    sessions: HashMap<u64, Arc<SessionMark>>,
    oldest_first: VecDeque<u64>,
}

fn handed_out() -> MutexGuard<'static, HandedOut> {
    static HANDED_OUT: LazyLock<Mutex<HandedOut>> = LazyLock::new(Mutex::default);
    HANDED_OUT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Remembers that `access_key_id` is of a session.
pub(super) fn remember(access_key_id: &str, session: &Arc<SessionMark>) {
    let key = hash(access_key_id);
    let mut handed_out = handed_out();
    if handed_out.sessions.insert(key, Arc::clone(session)).is_none() {
        handed_out.oldest_first.push_back(key);
    }
    if handed_out.oldest_first.len() > MAX_HANDED_OUT
        && let Some(oldest) = handed_out.oldest_first.pop_front()
    {
        handed_out.sessions.remove(&oldest);
    }
}

/// The session that `access_key_id` was handed out in.
pub(super) fn session_of(access_key_id: &str) -> Option<Arc<SessionMark>> {
    handed_out().sessions.get(&hash(access_key_id)).cloned()
}

/// How many operations are remembered beside their config bags.
const MAX_BESIDE: usize = 16_384;

/// The pins of operations on whose identity they cannot ride: S3 signs operations on a directory bucket with an identity that it
/// makes from ours, and an identity of a kind that is not known here cannot be given a pin.
///
/// An operation is known by its config bag, which stays where it is until the operation ends; its first attempt writes over what an
/// earlier one has left there.
#[derive(Debug, Default)]
pub(super) struct PinsBeside {
    in_use: AtomicBool,
    by_bag: Mutex<HashMap<usize, OperationPin>>,
}

impl PinsBeside {
    /// From now on all operations are remembered.
    pub(super) fn begin(&self) {
        self.in_use.store(true, Ordering::Relaxed);
    }

    #[inline]
    pub(super) fn in_use(&self) -> bool {
        self.in_use.load(Ordering::Relaxed)
    }

    /// The pin of an operation that is at its second attempt, or a later one.
    pub(super) fn get(&self, config: &ConfigBag) -> Option<OperationPin> {
        let attempt = config.load::<RequestAttempts>()?.attempts();
        let bag = std::ptr::from_ref(config).addr();
        let mut by_bag = self.by_bag();
        if attempt > 1 {
            return by_bag.get(&bag).cloned();
        }
        by_bag.remove(&bag);
        None
    }

    pub(super) fn put(&self, config: &ConfigBag, pin: &OperationPin) {
        self.begin();
        let bag = std::ptr::from_ref(config).addr();
        let mut by_bag = self.by_bag();
        if by_bag.len() >= MAX_BESIDE {
            // More than there can be operations under way.
            by_bag.clear();
        }
        by_bag.entry(bag).or_insert_with(|| pin.clone());
    }

    fn by_bag(&self) -> MutexGuard<'_, HashMap<usize, OperationPin>> {
        self.by_bag.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use aws_credential_types::Credentials;
    use aws_credential_types::attributes::AccountId;
    use aws_credential_types::credential_feature::AwsCredentialFeature;
    use aws_smithy_runtime_api::client::identity::Identity;
    use aws_smithy_runtime_api::client::retries::RequestAttempts;
    use aws_smithy_types::config_bag::{ConfigBag, FrozenLayer, Layer, Storable, StoreReplace};

    use super::{MAX_HANDED_OUT, OperationPin, PinsBeside, remember, session_of, with_pin};
    use crate::client::resolution::{SessionId, SessionMark};

    fn session(epoch: u64) -> SessionId {
        SessionId { epoch, provider: 1 }
    }

    fn credentials(key: &'static str) -> Credentials {
        Credentials::new(key, "secret", None, None, "test")
    }

    fn pin(sessions: &[u64], key: &'static str, in_force: u64) -> OperationPin {
        let asked: Vec<_> = sessions
            .iter()
            .map(|epoch| SessionMark::new(session(*epoch)).asked())
            .collect();
        OperationPin::to_asked(&asked, &Identity::from(credentials(key)), session(in_force))
    }

    #[test]
    fn an_operation_goes_on_within_its_session_and_with_the_same_signer() {
        let cases = [
            // What it was begun with, what it is to go on with, whether it may.
            (pin(&[1], "A", 1), pin(&[1], "A", 1), true),
            (pin(&[1], "A", 1), pin(&[1], "A2", 1), true), // refreshed within the session
            (pin(&[1], "A", 1), pin(&[2], "B", 2), false),
            (pin(&[1], "A", 1), pin(&[], "M", 1), false),
            (pin(&[], "M", 1), pin(&[1], "A", 1), false),
            (pin(&[1], "A", 1), pin(&[1, 2], "R", 1), false),
            (pin(&[], "M", 1), pin(&[], "M", 2), true), // the machine's own, across a switch
            (pin(&[], "M", 1), pin(&[], "M2", 1), true), // and refreshed within a session
            (pin(&[], "R", 1), pin(&[], "R2", 2), false), // who knows whose they are
        ];
        for (begun, answer, may) in cases {
            assert_eq!(begun.admits(&answer), may, "{begun:?} -> {answer:?}");
        }
    }

    #[test]
    fn an_identity_keeps_what_it_had_beside_the_pin() {
        let mut theirs = Credentials::builder()
            .access_key_id("A")
            .secret_access_key("secret")
            .account_id("123456789012")
            .provider_name("test")
            .build();
        theirs.set_property(vec![AwsCredentialFeature::CredentialsStsAssumeRole]);
        let identity = with_pin(Identity::from(theirs), &pin(&[1], "A", 1)).unwrap();
        assert_eq!(identity.property::<AccountId>().unwrap().as_str(), "123456789012");
        let layer = identity.property::<FrozenLayer>().unwrap();
        let features: Vec<_> = layer.load::<AwsCredentialFeature>().cloned().collect();
        assert!(features.contains(&AwsCredentialFeature::CredentialsStsAssumeRole));
        assert!(features.contains(&AwsCredentialFeature::ResolvedAccountId));
        assert_eq!(layer.load::<OperationPin>().unwrap().epoch_of(1), Some(1));
    }

    #[derive(Debug)]
    struct Unknown;

    impl Storable for Unknown {
        type Storer = StoreReplace<Self>;
    }

    #[test]
    fn an_identity_of_an_unknown_kind_stays_as_it_is() {
        let pin = pin(&[1], "A", 1);
        assert!(with_pin(Identity::new("a certificate", None), &pin).is_err());
        let mut layer = Layer::new("theirs");
        layer.store_put(Unknown);
        let identity = Identity::builder().data(credentials("A")).property(layer.freeze());
        assert!(with_pin(identity.build().unwrap(), &pin).is_err());
    }

    #[test]
    fn the_last_keys_are_remembered_and_no_more() {
        let mark = SessionMark::new(session(1));
        remember("the-first-key-of-all", &mark);
        assert!(session_of("the-first-key-of-all").is_some());
        for n in 0..MAX_HANDED_OUT {
            remember(&format!("key-{n}"), &mark);
        }
        assert!(session_of("the-first-key-of-all").is_none());
        assert!(session_of(&format!("key-{}", MAX_HANDED_OUT - 1)).is_some());
    }

    #[test]
    fn a_pin_beside_is_found_by_later_attempts_of_the_same_operation_alone() {
        let pins = PinsBeside::default();
        let mut bag = ConfigBag::base();
        assert!(pins.get(&bag).is_none());
        bag.interceptor_state().store_put(RequestAttempts::new(1));
        assert!(pins.get(&bag).is_none());
        pins.put(&bag, &pin(&[1], "A", 1));
        bag.interceptor_state().store_put(RequestAttempts::new(2));
        assert_eq!(pins.get(&bag).unwrap().epoch_of(1), Some(1));
        // Another operation in the same place.
        bag.interceptor_state().store_put(RequestAttempts::new(1));
        assert!(pins.get(&bag).is_none());
        bag.interceptor_state().store_put(RequestAttempts::new(2));
        assert!(pins.get(&bag).is_none());
    }
}
