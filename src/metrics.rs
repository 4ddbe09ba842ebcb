//! What an operator can count and measure, under the names of one table: feature `metrics`, the `metrics` facade.
//!
//! Nothing else in the crate names a metric. Without the feature all of this is empty functions, and no clock is read. With it, the
//! app's recorder is foreign code: every call here is made under no lock of ours, and a panic in it ends here.

use std::borrow::Borrow;
use std::time::Duration;
#[cfg(feature = "metrics")]
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::OnceLock,
};

use crate::clock::{Clock, Now};
use crate::error::{CauseKind, Error, ErrorKind};

/// Whether anything is counted: for what has to be found out first.
pub(crate) const ENABLED: bool = cfg!(feature = "metrics");

/// A metric as the table in docs/operating.md has it.
#[cfg(feature = "metrics")]
struct Name {
    name: &'static str,
    kind: Kind,
    #[cfg(test)]
    labels: &'static [&'static str],
    what: &'static str,
}

#[cfg(feature = "metrics")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

macro_rules! names {
    ($($id:ident $kind:ident $name:literal [$($label:literal)*] $what:literal)*) => {
        $(
            #[cfg(feature = "metrics")]
            const $id: &str = concat!("cognito_identity_pool_", $name);
        )*
        #[cfg(feature = "metrics")]
        const TABLE: &[Name] = &[$(Name {
            name: $id,
            kind: Kind::$kind,
            #[cfg(test)]
            labels: &[$($label),*],
            what: $what,
        }),*];
    };
}

// The order of the table. Durations are in seconds, moments in seconds since 1970.
names! {
    VENDS Counter "vends_total" ["operation" "source" "outcome"] "vends, by what was asked, where the token came from, and what came of it"
    VEND_DURATION Histogram "vend_duration_seconds" ["source"] "how long a vend took that was not answered from the cache"
    ATTEMPTS Counter "attempts_total" ["outcome"] "requests sent for a token, each repetition counted"
    EXCHANGES Counter "exchanges_total" ["by" "kind" "outcome"] "exchanges for credentials, first ones and refreshes"
    EXCHANGE_DURATION Histogram "exchange_duration_seconds" ["by"] "how long an exchange took, with the vend that it waited for"
    TURN_DURATION Histogram "turn_duration_seconds" ["lane"] "how long a request waited for its turn under the limit"
    TURNS_WAITING Gauge "turns_waiting" ["lane"] "requests that wait for their turn"
    TURNS_REFUSED Counter "turns_refused_total" ["lane"] "requests that were refused because their turn was too far away"
    RATE_LIMIT Gauge "rate_limit" [] "requests per second that this process allows itself, over all limits"
    CACHE_ENTRIES Gauge "token_cache_entries" [] "tokens that are kept, over all vendors"
    CACHE_EVICTIONS Counter "token_cache_evictions_total" [] "tokens that were dropped for others"
    DENIED_USERS Gauge "denied_users" [] "users who are denied in this process alone"
    DENY_LIST_ENTRIES Gauge "deny_list_entries" [] "users in the shared deny list, denied or being forgotten, when it was read last"
    DENY_LIST_READ Gauge "deny_list_read_timestamp_seconds" [] "when the shared deny list was read last"
    OPERATIONS Counter "operations_total" ["operation" "outcome"] "operations of the audit trail other than vends and verifications"
    CLAIMS_REFUSED Counter "guest_claims_refused_total" ["cause"] "guest claims that were refused"
    VERIFICATIONS Counter "verifications_total" ["outcome" "cause"] "bearer tokens that were verified or refused"
    KEY_FETCHES Counter "key_fetches_total" ["outcome"] "fetches of the keys that verify tokens"
    KEYS_FETCHED Gauge "keys_fetched_timestamp_seconds" [] "when the keys that verify tokens were fetched last"
    USERS_KEPT Gauge "users_kept" [] "sessions that are kept of users"
    CREDENTIALS_AGE Histogram "credentials_age_seconds" ["by"] "age of credentials at use, looked at no more than once a second and session"
    FIRST_CREDENTIALS Histogram "first_credentials_seconds" ["login"] "from the first use of a login to its first credentials, retries included"
    LOGIN_CHANGES Counter "login_changes_total" ["login"] "changes of the login, by what it became"
}

/// Hands something to the app's recorder. What it panics with is the app's: it was reported when it was raised.
#[cfg(feature = "metrics")]
fn tell(to_recorder: impl FnOnce()) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(to_recorder))
        && let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic)))
    {
        std::mem::forget(again);
    }
}

macro_rules! count {
    ($name:ident, $n:expr $(, $label:literal => $value:expr)*) => {{
        #[cfg(feature = "metrics")]
        tell(|| metrics::counter!($name $(, $label => $value)*).increment($n));
        #[cfg(not(feature = "metrics"))]
        let _ = ($n, $($value),*);
    }};
}

macro_rules! observe {
    ($name:ident, $seconds:expr $(, $label:literal => $value:expr)*) => {{
        #[cfg(feature = "metrics")]
        tell(|| metrics::histogram!($name $(, $label => $value)*).record($seconds));
        #[cfg(not(feature = "metrics"))]
        let _ = ($seconds, $($value),*);
    }};
}

/// Gauges of amounts are changed by differences: what several vendors keep adds up.
macro_rules! add {
    ($name:ident, $by:expr $(, $label:literal => $value:expr)*) => {{
        #[cfg(feature = "metrics")]
        if $by != 0.0 {
            tell(|| metrics::gauge!($name $(, $label => $value)*).increment($by));
        }
        #[cfg(not(feature = "metrics"))]
        let _ = ($by, $($value),*);
    }};
}

macro_rules! set {
    ($name:ident, $value:expr) => {{
        #[cfg(feature = "metrics")]
        tell(|| metrics::gauge!($name).set($value));
        #[cfg(not(feature = "metrics"))]
        let _ = $value;
    }};
}

/// Tells the recorder what the names mean. Called when a vendor, a verifier or a provider is built.
pub(crate) fn describe() {
    #[cfg(feature = "metrics")]
    for Name { name, kind, what, .. } in TABLE {
        let name = *name;
        tell(|| match kind {
            Kind::Counter => metrics::describe_counter!(name, *what),
            Kind::Gauge => metrics::describe_gauge!(name, *what),
            Kind::Histogram => metrics::describe_histogram!(name, *what),
        });
    }
}

/// A moment from which on is measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Since {
    #[cfg(feature = "metrics")]
    at: Now,
}

impl Since {
    #[cfg_attr(not(feature = "metrics"), allow(unused_variables, reason = "no clock is read"))]
    pub(crate) fn now(clock: &Clock) -> Self {
        Self {
            #[cfg(feature = "metrics")]
            at: clock.now(),
        }
    }

    #[cfg_attr(not(feature = "metrics"), allow(unused_variables, reason = "no clock is read"))]
    fn passed(self, clock: &Clock) -> Duration {
        #[cfg(feature = "metrics")]
        return clock.now().since(self.at);
        #[cfg(not(feature = "metrics"))]
        Duration::ZERO
    }
}

/// The outcome of an operation, as a label. `ok`, or the kind of the error.
pub(crate) fn outcome<T>(result: &Result<T, impl Borrow<Error>>) -> &'static str {
    match result {
        Ok(_) => "ok",
        Err(error) => of_kind(error.borrow().kind()),
    }
}

/// The kind of an error, as a label.
pub(crate) fn of_kind(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::Configuration => "configuration",
        ErrorKind::SignedOut => "signed_out",
        ErrorKind::SessionEnded => "session_ended",
        ErrorKind::IdentityChanged => "identity_changed",
        ErrorKind::NotAuthorized => "not_authorized",
        ErrorKind::IdentityNotFound => "identity_not_found",
        ErrorKind::UserAlreadyRegistered => "user_already_registered",
        ErrorKind::Conflict => "conflict",
        ErrorKind::Denied => "denied",
        ErrorKind::ClaimRefused => "claim_refused",
        ErrorKind::InvalidToken => "invalid_token",
        ErrorKind::Throttled => "throttled",
        ErrorKind::Service => "service",
        ErrorKind::Transport => "transport",
        ErrorKind::Timeout => "timeout",
        ErrorKind::InvalidResponse => "invalid_response",
        ErrorKind::Backend => "backend",
        ErrorKind::Store => "store",
        ErrorKind::Panicked => "panicked",
        ErrorKind::Reentered => "reentered",
        ErrorKind::Runtime => "runtime",
    }
}

// --- vending ---------------------------------------------------------------------------------------------------------

/// Vends from the cache: a hit costs one atomic addition of the recorder's.
#[derive(Default)]
pub(crate) struct Hits(#[cfg(feature = "metrics")] OnceLock<metrics::Counter>);

impl Hits {
    #[cfg(feature = "metrics")]
    const OPERATION: &str = "vend";

    /// A vend was answered from the cache.
    #[inline]
    #[cfg_attr(not(feature = "metrics"), allow(unused_variables, reason = "nothing is counted"))]
    pub(crate) fn add(&self, operation: &'static str) {
        #[cfg(feature = "metrics")]
        if operation == Self::OPERATION {
            // At the first hit: by then the app has its recorder.
            let new =
                || metrics::counter!(VENDS, "operation" => Self::OPERATION, "source" => "cached", "outcome" => "ok");
            tell(|| self.0.get_or_init(new).increment(1));
        } else {
            vend(operation, "cached", "ok");
        }
    }
}

pub(crate) fn vend(operation: &'static str, source: &'static str, outcome: &'static str) {
    count!(VENDS, 1, "operation" => operation, "source" => source, "outcome" => outcome);
}

pub(crate) fn vend_took(source: &'static str, since: Since, clock: &Clock) {
    observe!(VEND_DURATION, since.passed(clock), "source" => source);
}

/// An operation of the audit trail has ended.
pub(crate) fn operation(operation: &'static str, outcome: &'static str) {
    count!(OPERATIONS, 1, "operation" => operation, "outcome" => outcome);
}

/// How an attempt ended: `ok`, `throttled`, `refused`, `failed` without an answer that could be read.
pub(crate) fn attempt(outcome: &'static str) {
    count!(ATTEMPTS, 1, "outcome" => outcome);
}

/// By how many there are more, and how many were dropped for others.
pub(crate) fn cached_tokens(more: f64, evicted: u64) {
    add!(CACHE_ENTRIES, more);
    if evicted > 0 {
        count!(CACHE_EVICTIONS, evicted);
    }
}

// --- the limit of requests -------------------------------------------------------------------------------------------

/// Somebody waits in a lane, for as long as this lives.
pub(crate) struct WaitingTurn {
    #[cfg(feature = "metrics")]
    lane: &'static str,
}

impl WaitingTurn {
    #[cfg_attr(not(feature = "metrics"), allow(unused_variables, reason = "nothing is counted"))]
    pub(crate) fn new(lane: &'static str) -> Self {
        add!(TURNS_WAITING, 1.0, "lane" => lane);
        Self {
            #[cfg(feature = "metrics")]
            lane,
        }
    }
}

#[cfg(feature = "metrics")]
impl Drop for WaitingTurn {
    fn drop(&mut self) {
        add!(TURNS_WAITING, -1.0, "lane" => self.lane);
    }
}

pub(crate) fn turn(lane: &'static str, waited: Duration) {
    observe!(TURN_DURATION, waited, "lane" => lane);
}

pub(crate) fn turn_refused(lane: &'static str) {
    count!(TURNS_REFUSED, 1, "lane" => lane);
}

pub(crate) fn rate_limit(more: f64) {
    add!(RATE_LIMIT, more);
}

// --- the deny list, guests, verification -----------------------------------------------------------------------------

pub(crate) fn denied_users(more: f64) {
    add!(DENIED_USERS, more);
}

pub(crate) fn deny_list_read(now: Now, entries: usize) {
    set!(DENY_LIST_READ, seconds(now));
    set!(DENY_LIST_ENTRIES, entries as f64);
}

pub(crate) fn claim_refused(cause: &'static str) {
    count!(CLAIMS_REFUSED, 1, "cause" => cause);
}

#[cfg_attr(not(feature = "verify"), allow(dead_code, reason = "for the verifier"))]
pub(crate) fn verification<T>(result: &Result<T, Error>) {
    if ENABLED {
        let causes = result.as_ref().err().map(Error::causes).unwrap_or_default();
        let cause = causes.first().map_or("none", |cause| of_cause(cause.kind));
        count!(VERIFICATIONS, 1, "outcome" => outcome(result), "cause" => cause);
    }
}

#[cfg_attr(not(feature = "verify"), allow(dead_code, reason = "for the verifier"))]
pub(crate) fn keys_fetched<T>(result: &Result<T, Error>, now: Now) {
    count!(KEY_FETCHES, 1, "outcome" => outcome(result));
    if result.is_ok() {
        set!(KEYS_FETCHED, seconds(now));
    }
}

fn of_cause(cause: CauseKind) -> &'static str {
    match cause {
        CauseKind::TokenExpired => "token_expired",
        CauseKind::WrongPool => "wrong_pool",
        CauseKind::WrongIdentity => "wrong_identity",
        CauseKind::SignatureNotVerified => "signature_not_verified",
        CauseKind::WrongTokenKind => "wrong_token_kind",
        // A verifier gives no other.
        _ => "other",
    }
}

fn seconds(now: Now) -> f64 {
    now.wall_millis() as f64 / 1_000.0
}

// --- credentials -----------------------------------------------------------------------------------------------------

/// Who exchanges.
#[derive(Debug, Clone, Copy)]
pub(crate) enum By {
    /// `TokenVendor::vend_credentials`.
    Vendor,
    /// `UserCredentials`.
    Users,
    /// `CognitoCredentialsProvider`.
    Client,
}

impl By {
    #[cfg_attr(not(feature = "metrics"), allow(dead_code, reason = "nothing is counted"))]
    fn label(self) -> &'static str {
        match self {
            Self::Vendor => "vendor",
            Self::Users => "users",
            Self::Client => "client",
        }
    }
}

/// `first`: there were no credentials before.
pub(crate) fn exchange(by: By, first: bool, outcome: &'static str) {
    let kind = if first { "first" } else { "refresh" };
    count!(EXCHANGES, 1, "by" => by.label(), "kind" => kind, "outcome" => outcome);
}

pub(crate) fn exchange_took(by: By, since: Since, clock: &Clock) {
    observe!(EXCHANGE_DURATION, since.passed(clock), "by" => by.label());
}

pub(crate) fn credentials_used(by: By, age: Duration) {
    observe!(CREDENTIALS_AGE, age, "by" => by.label());
}

pub(crate) fn users_kept(more: f64) {
    add!(USERS_KEPT, more);
}

pub(crate) fn first_credentials(login: &'static str, since: Since, clock: &Clock) {
    observe!(FIRST_CREDENTIALS, since.passed(clock), "login" => login);
}

pub(crate) fn login_changed(login: &'static str) {
    count!(LOGIN_CHANGES, 1, "login" => login);
}

#[cfg(all(test, feature = "metrics"))]
mod tests {
    use super::{Kind, TABLE};

    #[test]
    fn the_guide_has_the_same_table() {
        let guide = include_str!("../docs/operating.md");
        let rows: Vec<_> = guide
            .lines()
            .filter(|line| line.starts_with("| `cognito_identity_pool_"))
            .collect();
        let expected: Vec<_> = TABLE
            .iter()
            .map(|name| {
                let kind = match name.kind {
                    Kind::Counter => "counter",
                    Kind::Gauge => "gauge",
                    Kind::Histogram => "histogram",
                };
                let labels: Vec<_> = name.labels.iter().map(|label| format!("`{label}`")).collect();
                format!("| `{}` | {kind} | {} | {} |", name.name, labels.join(" "), name.what)
            })
            .collect();
        assert_eq!(
            rows,
            expected,
            "docs/operating.md should have:\n{}",
            expected.join("\n")
        );
    }
}
