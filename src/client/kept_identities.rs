//! What an identity cache keeps of other resolvers than ours. It is kept with the session in force: a switch, a sign-out, a clear
//! leaves nothing of it.
//!
//! Within a session it is as good as the SDK's own cache: one load for any number of callers, ahead of the expiry by its buffer,
//! and no error is kept.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use aws_credential_types::Credentials;
use aws_smithy_runtime_api::client::identity::{Identity, IdentityCachePartition};
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;

use super::pin::{OperationPin, with_pin};
use super::resolution::Asked;

// As the SDK's cache has them: `aws-smithy-runtime`, `client/identity/cache/lazy.rs`.
const BUFFER: Duration = Duration::from_secs(10);
const DEFAULT_LIFE: Duration = Duration::from_secs(15 * 60);
const MAX_RESOLVERS: usize = 64;
const MIN_CONNECT_TIMEOUT: Duration = Duration::from_millis(3_100);

/// What a resolver has answered.
pub(super) struct Answer {
    pub(super) identity: Identity,
    /// The sessions that it was derived from. None: it is somebody else's.
    asked: Vec<Asked>,
    /// What an operation that is signed with it is pinned to.
    pub(super) pin: OperationPin,
    /// The identity carries the pin.
    pub(super) is_pinned: bool,
    life: Life,
}

enum Life {
    /// The credentials are the session's own, in a wrapper. They are answered from there, for as long as it serves them.
    OfSession {
        access_key_id: String,
    },
    Until(SystemTime),
}

impl Answer {
    /// `of_session`: the credentials are the session's own, as it serves them.
    pub(super) fn new(
        identity: Identity,
        asked: Vec<Asked>,
        pin: OperationPin,
        of_session: bool,
        now: SystemTime,
    ) -> Self {
        let access_key_id = access_key_id(&identity).filter(|_| of_session).map(str::to_owned);
        let life = match access_key_id {
            Some(access_key_id) => Life::OfSession { access_key_id },
            None => Life::Until(until(identity.expiration(), now)),
        };
        let (identity, is_pinned) = match with_pin(identity, &pin) {
            Ok(identity) => (identity, true),
            Err(identity) => (identity, false),
        };
        Self {
            identity,
            asked,
            pin,
            is_pinned,
            life,
        }
    }

    pub(super) fn asked(&self) -> &[Asked] {
        &self.asked
    }

    /// Set if the credentials are the session's own.
    pub(super) fn key_of_session(&self) -> Option<&str> {
        match &self.life {
            Life::OfSession { access_key_id } => Some(access_key_id),
            Life::Until(_) => None,
        }
    }

    /// Whether it serves without another look at its resolver, if the session that it is of serves it.
    pub(super) fn is_fresh(&self, now: impl FnOnce() -> Option<SystemTime>) -> bool {
        self.asked.iter().all(Asked::is_current)
            && match self.life {
                Life::OfSession { .. } => true,
                Life::Until(until) => now().is_some_and(|now| now < until),
            }
    }
}

pub(super) fn access_key_id(identity: &Identity) -> Option<&str> {
    identity.data::<Credentials>().map(Credentials::access_key_id)
}

fn until(expiration: Option<SystemTime>, now: SystemTime) -> SystemTime {
    let end = expiration.or_else(|| now.checked_add(DEFAULT_LIFE)).unwrap_or(now);
    let early = BUFFER - BUFFER.mul_f64(fastrand::f64() * 0.5);
    end.checked_sub(early).unwrap_or(now)
}

/// How long the SDK's cache waits for a resolver: as long as its retries may take at worst, by the client's configuration.
pub(super) fn load_timeout(config: &ConfigBag) -> Duration {
    let retries = config
        .load::<RetryConfig>()
        .cloned()
        .unwrap_or_else(RetryConfig::standard);
    let timeouts = config.load::<TimeoutConfig>();
    let connect = timeouts
        .and_then(TimeoutConfig::connect_timeout)
        .unwrap_or(MIN_CONNECT_TIMEOUT);
    let attempt = timeouts
        .and_then(TimeoutConfig::operation_attempt_timeout)
        .unwrap_or_default();
    let attempt = connect.max(MIN_CONNECT_TIMEOUT).saturating_mul(2).max(attempt);
    let attempts = retries.max_attempts().max(1);
    let mut pause = retries.initial_backoff();
    let mut limit = attempt.saturating_mul(attempts);
    for _ in 1..attempts {
        let this = pause.min(retries.max_backoff());
        limit = limit.saturating_add(this);
        if this == retries.max_backoff() {
            // It grows no more.
            return limit.saturating_add(this.saturating_mul(attempts));
        }
        pause = pause.saturating_mul(2);
    }
    limit
}

type Answers = Vec<(IdentityCachePartition, Arc<Answer>)>;

/// The answers of a session.
#[derive(Default)]
pub(super) struct KeptIdentities {
    answers: ArcSwapOption<Answers>,
    /// Those that are being loaded, each by one caller at a time.
    loads: Mutex<HashMap<IdentityCachePartition, Arc<tokio::sync::Mutex<()>>>>,
}

impl KeptIdentities {
    #[inline]
    pub(super) fn read<R>(&self, partition: IdentityCachePartition, read: impl FnOnce(Option<&Answer>) -> R) -> R {
        let answers = self.answers.load();
        let mut answers = answers.as_deref().into_iter().flatten();
        read(answers.find(|(of, _)| *of == partition).map(|(_, answer)| &**answer))
    }

    pub(super) fn get(&self, partition: IdentityCachePartition) -> Option<Arc<Answer>> {
        let answers = self.answers.load();
        let mut answers = answers.as_deref().into_iter().flatten();
        answers
            .find(|(of, _)| *of == partition)
            .map(|(_, answer)| Arc::clone(answer))
    }

    /// The lock under which a resolver's answer is loaded.
    pub(super) fn turn(&self, partition: IdentityCachePartition) -> Arc<tokio::sync::Mutex<()>> {
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        if loads.len() >= MAX_RESOLVERS && !loads.contains_key(&partition) {
            loads.retain(|_, turn| Arc::strong_count(turn) > 1);
        }
        Arc::clone(loads.entry(partition).or_default())
    }

    pub(super) fn keep(&self, partition: IdentityCachePartition, answer: &Arc<Answer>) {
        self.answers.rcu(|answers| {
            let others = answers
                .as_deref()
                .into_iter()
                .flatten()
                .filter(|(of, _)| *of != partition);
            let mut answers: Answers = others.cloned().collect();
            if answers.len() >= MAX_RESOLVERS {
                answers.remove(0);
            }
            answers.push((partition, Arc::clone(answer)));
            Some(Arc::new(answers))
        });
    }

    /// Forgets the credentials with this access key. `false`: there are none.
    pub(super) fn forget(&self, key: &str) -> bool {
        let is_it = |answer: &Answer| access_key_id(&answer.identity) == Some(key);
        let answers = self.answers.load_full();
        if !answers
            .as_deref()
            .into_iter()
            .flatten()
            .any(|(_, answer)| is_it(answer))
        {
            return false;
        }
        self.answers.rcu(|answers| {
            let answers = answers.as_deref().into_iter().flatten();
            let rest: Answers = answers.filter(|(_, answer)| !is_it(answer)).cloned().collect();
            Some(Arc::new(rest))
        });
        true
    }

    pub(super) fn clear(&self) {
        self.answers.store(None);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use aws_smithy_types::config_bag::{ConfigBag, Layer};
    use aws_smithy_types::retry::RetryConfig;
    use aws_smithy_types::timeout::TimeoutConfig;

    use super::{load_timeout, until};

    fn bag(retries: RetryConfig, timeouts: TimeoutConfig) -> ConfigBag {
        let mut layer = Layer::new("test");
        layer.store_put(retries);
        layer.store_put(timeouts);
        ConfigBag::of_layers(vec![layer])
    }

    #[test]
    fn a_load_may_take_as_long_as_the_sdks_cache_allows() {
        let seconds = Duration::from_secs_f64;
        // Two pauses of 1 and 2 s, three attempts of twice 3.1 s.
        assert_eq!(load_timeout(&ConfigBag::base()), seconds(21.6));
        let short = TimeoutConfig::builder().connect_timeout(seconds(0.1)).build();
        let long = TimeoutConfig::builder()
            .operation_attempt_timeout(seconds(30.0))
            .build();
        let once = RetryConfig::disabled();
        assert_eq!(load_timeout(&bag(once.clone(), short)), seconds(6.2));
        assert_eq!(load_timeout(&bag(once, long)), seconds(30.0));
        let for_ever = RetryConfig::standard().with_max_attempts(u32::MAX);
        assert!(load_timeout(&bag(for_ever, TimeoutConfig::disabled())) > Duration::from_secs(u32::MAX.into()));
    }

    #[test]
    fn an_answer_ends_five_to_ten_seconds_before_it_expires() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        for life in [None, Some(Duration::from_secs(60))] {
            let end = now + life.unwrap_or(Duration::from_secs(900));
            let early = end.duration_since(until(life.map(|life| now + life), now)).unwrap();
            assert!((Duration::from_secs(5)..=Duration::from_secs(10)).contains(&early));
        }
    }
}
