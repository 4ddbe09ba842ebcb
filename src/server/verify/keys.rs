//! The keys that Cognito publishes, kept.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::signature::{ParsedPublicKey, RSA_PKCS1_2048_8192_SHA512, RsaPublicKeyComponents};
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use serde::Deserialize;

use crate::clock::{Clock, Now};
use crate::error::{Error, ErrorKind};
use crate::metrics;
use crate::service::http::Fetch;

/// Cognito publishes some sixty keys, for all regions, of half a kilobyte each.
const LONGEST: usize = 256 * 1024;
/// Whoever sends key ids that do not exist makes us ask no more often.
const UNKNOWN_EVERY: Duration = Duration::from_secs(60);
/// Keys of this age are asked for again: one that is not published any more must not serve for ever.
const FRESH: Duration = Duration::from_secs(24 * 3_600);
/// If that fails, they serve on for so long.
const STALE: Duration = Duration::from_secs(7 * 24 * 3_600);
/// A failure is told again for so long, and the endpoint left alone.
const FAILED_FOR: Duration = Duration::from_secs(5);

type Keys = HashMap<String, Arc<ParsedPublicKey>>;
type Fetching = BoxFuture<'static, Result<(), Error>>;

#[derive(Debug)]
pub(super) struct KeySet {
    shared: Arc<Fetched>,
}

#[derive(Debug)]
struct Fetched {
    fetch: Fetch,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    keys: Keys,
    fetched: Option<Now>,
    /// When the last attempt began, whatever came of it.
    asked: Option<Now>,
    failure: Option<Error>,
    /// Kept here, not by those who wait: whoever hangs up, the next to ask drives it on. Else a client that asks for an unknown
    /// key and hangs up, once a minute, would keep a new key from being found.
    flight: Option<Shared<Fetching>>,
}

/// What a look at the kept keys comes to.
enum Look {
    Found(Arc<ParsedPublicKey>),
    /// Not among the keys. When it may be looked for, if that was done a moment ago.
    Unknown(Duration),
    Failed(Error),
    /// Not among the keys: wait for the flight.
    Wait(Shared<Fetching>),
}

impl KeySet {
    pub(super) fn new(fetch: Fetch, clock: Clock) -> Self {
        Self {
            shared: Arc::new(Fetched {
                fetch,
                clock,
                state: Mutex::default(),
            }),
        }
    }

    /// The key of this id; `None` if Cognito publishes none. What is kept is answered at once, however old and whatever the key
    /// endpoint does.
    pub(super) async fn get(&self, id: &str) -> Result<Option<Arc<ParsedPublicKey>>, Error> {
        match self.shared.look(id) {
            Look::Found(key) => Ok(Some(key)),
            Look::Unknown(pause) => Err(Error::new(
                ErrorKind::Service,
                "the token is signed with a key that is not among the kept ones, and those were fetched a moment ago",
            )
            .with_retry_after(Some(pause))
            .with_hint("a new key is found with the next fetch; a forged key id never is")),
            Look::Failed(error) => Err(error),
            Look::Wait(flight) => {
                flight.await?;
                Ok(self.shared.lock().keys.get(id).cloned())
            }
        }
    }

    /// Fetches the keys unless there are some.
    pub(super) async fn ready(&self) -> Result<(), Error> {
        let flight = {
            let now = self.shared.clock.now();
            let mut state = self.shared.lock();
            if state.age(now) < STALE && !state.keys.is_empty() {
                return Ok(());
            }
            self.shared.flight(&mut state, now)
        };
        flight.await
    }
}

impl State {
    fn age(&self, now: Now) -> Duration {
        self.fetched.map_or(Duration::MAX, |at| now.since(at))
    }

    fn asked(&self, now: Now) -> Duration {
        self.asked.map_or(Duration::MAX, |at| now.since(at))
    }
}

impl Fetched {
    fn look(self: &Arc<Self>, id: &str) -> Look {
        let now = self.clock.now();
        let mut state = self.lock();
        let kept = state.keys.get(id).filter(|_| state.age(now) < STALE).cloned();
        let rest = if state.keys.is_empty() {
            FAILED_FOR
        } else {
            UNKNOWN_EVERY
        };
        let may_ask = state.asked(now) >= rest;
        if let Some(key) = kept {
            if state.age(now) >= FRESH && may_ask {
                self.fetch_aside(&mut state, now);
            }
            return Look::Found(key);
        }
        if may_ask {
            return Look::Wait(self.flight(&mut state, now));
        }
        match (&state.flight, &state.failure) {
            (Some(flight), _) => Look::Wait(flight.clone()),
            (None, Some(error)) => Look::Failed(error.clone()),
            (None, None) => Look::Unknown(rest.saturating_sub(state.asked(now))),
        }
    }

    /// Old keys serve on while new ones are fetched by a task: where there is a runtime for one. Elsewhere it is the next verification
    /// of an unknown key that drives it.
    fn fetch_aside(self: &Arc<Self>, state: &mut State, now: Now) {
        let flight = self.flight(state, now);
        #[cfg(feature = "rt-tokio")]
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            drop(runtime.spawn(flight));
        }
        #[cfg(not(feature = "rt-tokio"))]
        drop(flight);
    }

    /// The flight that is out, or a new one.
    fn flight(self: &Arc<Self>, state: &mut State, now: Now) -> Shared<Fetching> {
        if let Some(flight) = state.flight.as_ref().filter(|flight| flight.peek().is_none()) {
            return flight.clone();
        }
        state.asked = Some(now);
        let (fetch, this) = (self.fetch.clone(), Arc::downgrade(self));
        let flight = async move {
            let fetched = AssertUnwindSafe(fetch.get(LONGEST)).catch_unwind().await;
            let fetched = fetched.unwrap_or_else(|_| Err(Error::new(ErrorKind::Panicked, "the HTTP client panicked")));
            let keys = fetched.and_then(|body| parse(&body));
            match this.upgrade() {
                Some(this) => this.land(keys),
                None => keys.map(drop),
            }
        };
        let flight = flight.boxed().shared();
        state.flight = Some(flight.clone());
        flight
    }

    fn land(&self, keys: Result<Keys, Error>) -> Result<(), Error> {
        let now = self.clock.now();
        let mut state = self.lock();
        let landed = state.flight.take();
        let result = match keys {
            Ok(keys) => {
                (state.keys, state.fetched, state.failure) = (keys, Some(now), None);
                Ok(())
            }
            Err(error) => {
                state.failure = Some(error.clone());
                Err(error)
            }
        };
        drop(state);
        drop(landed);
        if let Err(error) = &result {
            tracing::warn!(%error, "the keys that verify Cognito's tokens could not be fetched");
        }
        metrics::keys_fetched(&result, now);
        result
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("keys", &self.keys.len())
            .finish_non_exhaustive()
    }
}

/// Reads a key set: the RSA keys that can verify RS512. Others are left out, so that none can be taken for one.
fn parse(body: &[u8]) -> Result<Keys, Error> {
    #[derive(Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    #[derive(Deserialize)]
    struct Jwk {
        kty: String,
        kid: String,
        alg: Option<String>,
        #[serde(rename = "use")]
        used_for: Option<String>,
        n: String,
        e: String,
    }
    let invalid = |what: &str| {
        Error::new(
            ErrorKind::InvalidResponse,
            format!("what Cognito's key endpoint answered {what}"),
        )
    };
    let set: Set = serde_json::from_slice(body).map_err(|_| invalid("is no key set"))?;
    let usable = set.keys.into_iter().filter_map(|key| {
        let key: Jwk = serde_json::from_value(key).ok()?;
        let fits = key.kty == "RSA"
            && key.alg.as_deref().is_none_or(|alg| alg == "RS512")
            && key.used_for.as_deref().is_none_or(|used_for| used_for == "sig");
        let number = |text: &str| base64_simd::URL_SAFE_NO_PAD.decode_to_vec(text).ok();
        let (n, e) = (number(&key.n)?, number(&key.e)?);
        // Shorter ones are refused at each verification; they need not be kept to be.
        let components = RsaPublicKeyComponents {
            n: without_zeros(&n),
            e: without_zeros(&e),
        };
        let long_enough = components.n.len() >= 256;
        let parsed = components.to_parsed_public_key(&RSA_PKCS1_2048_8192_SHA512).ok()?;
        (fits && long_enough).then(|| (key.kid, Arc::new(parsed)))
    });
    let keys: Keys = usable.collect();
    if keys.is_empty() {
        Err(invalid("has no RS512 key in it"))
    } else {
        Ok(keys)
    }
}

fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    &number[zeros..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(changes: &[(&str, serde_json::Value)]) -> serde_json::Value {
        let modulus = base64_simd::URL_SAFE_NO_PAD.encode_to_string([0xc5; 256]);
        let mut key = serde_json::json!({"kty":"RSA","alg":"RS512","use":"sig","kid":"k","n":modulus,"e":"AQAB"});
        for (name, value) in changes {
            key[*name] = value.clone();
        }
        key
    }

    fn read(keys: &[serde_json::Value]) -> Result<usize, Error> {
        parse(serde_json::json!({ "keys": keys }).to_string().as_bytes()).map(|keys| keys.len())
    }

    #[test]
    fn only_keys_that_can_verify_rs512_are_kept() {
        assert_eq!(read(&[key(&[])]).unwrap(), 1);
        assert_eq!(
            read(&[key(&[
                ("alg", serde_json::Value::Null),
                ("use", serde_json::Value::Null)
            ])])
            .unwrap(),
            1
        );
        let short = base64_simd::URL_SAFE_NO_PAD.encode_to_string([0xc5; 255]);
        for (name, value) in [
            ("kty", "oct".into()),
            ("kty", "EC".into()),
            ("alg", "HS256".into()),
            ("alg", "none".into()),
            ("alg", "RS256".into()),
            ("use", "enc".into()),
            ("n", short.into()),
            ("n", "!!!".into()),
            ("n", "".into()),
            ("e", "".into()),
            ("kid", serde_json::Value::Null),
        ] {
            let bad = key(&[(name, value)]);
            assert_eq!(
                read(std::slice::from_ref(&bad)).unwrap_err().kind(),
                ErrorKind::InvalidResponse,
                "{bad}"
            );
            assert_eq!(
                read(&[bad, key(&[])]).unwrap(),
                1,
                "one bad key does not spoil the others"
            );
        }
    }

    #[test]
    fn what_is_no_key_set_is_refused() {
        for body in [
            "",
            "{}",
            "[]",
            "<html>",
            r#"{"keys":{}}"#,
            r#"{"keys":[]}"#,
            r#"{"keys":[1,null,"x"]}"#,
        ] {
            assert_eq!(
                parse(body.as_bytes()).unwrap_err().kind(),
                ErrorKind::InvalidResponse,
                "{body}"
            );
        }
    }
}
