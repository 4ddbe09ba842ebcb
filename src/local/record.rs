//! What was asked of the pool, by whom, and how it was answered.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use serde::{Serialize, Serializer};

/// How many requests are remembered.
const CAPACITY: usize = 65_536;

/// How many bytes of text they may have together; the oldest go first.
const CAPACITY_BYTES: usize = 64 * 1024 * 1024;

/// What is kept of an operation's name or a path, which a client chooses.
const MAX_OPERATION: usize = 256;

/// One request that the pool answered; see [`LocalIdentityPool::requests`](super::LocalIdentityPool::requests).
///
/// It holds no secret: no token, no secret key. As JSON (it is `Serialize`) it is what the admin path and the log of the
/// program say of a request; `at` is a date there.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct LocalRequest {
    /// `cognito-identity`, `sts`, or empty for a plain HTTP request such as the key set.
    pub service: &'static str,
    /// The operation, such as `GetCredentialsForIdentity`; the path for a plain HTTP request.
    pub operation: String,
    /// The HTTP status of the answer; 0 if a fault let none come.
    pub status: u16,
    /// The error type of the answer, if it was one.
    pub error: Option<&'static str>,
    /// The rule that refused it, as in [`FidelityRule::id`](super::FidelityRule::id).
    pub rule: Option<&'static str>,
    /// Why the rule applied, where the service's own message does not say: which statement of a trust policy, which
    /// condition, which setting.
    pub why: Option<String>,
    /// What to do about it.
    pub advice: Option<&'static str>,
    /// The identity pool that it was about.
    pub identity_pool_id: Option<String>,
    /// The identity that it was about: the one answered, else the one asked for. For a request signed with vended
    /// credentials, the identity that they were given to.
    pub identity_id: Option<String>,
    /// The access key that signed it.
    pub access_key_id: Option<String>,
    /// The access key that the answer gave out.
    pub issued_access_key_id: Option<String>,
    /// Whether an `Authorization` header came, which clients must not send on the unsigned operations.
    pub authorization: bool,
    /// The keys of the logins map.
    pub logins: Vec<String>,
    /// The principal tags that came with a developer token, or that the credentials given out or used carry.
    pub principal_tags: BTreeMap<String, String>,
    /// The `x-amzn-RequestId` of the answer.
    pub request_id: String,
    /// When it was answered, by the pool's time source.
    #[serde(serialize_with = "date")]
    pub at: SystemTime,
}

impl LocalRequest {
    pub(super) fn new(service: &'static str, operation: &str, authorization: bool, at: SystemTime) -> Self {
        Self {
            service,
            operation: clip(operation).to_owned(),
            status: 200,
            error: None,
            rule: None,
            why: None,
            advice: None,
            identity_pool_id: None,
            identity_id: None,
            access_key_id: None,
            issued_access_key_id: None,
            authorization,
            logins: Vec::new(),
            principal_tags: BTreeMap::new(),
            request_id: uuid::Uuid::new_v4().to_string(),
            at,
        }
    }
}

/// No more than the pool wants to keep of a text that a client chose.
fn clip(text: &str) -> &str {
    text.get(..text.floor_char_boundary(MAX_OPERATION)).unwrap_or_default()
}

fn date<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    match DateTime::from(*at).fmt(Format::DateTime) {
        Ok(date) => serializer.serialize_str(&date),
        Err(_) => serializer.serialize_none(),
    }
}

impl LocalRequest {
    /// The bytes of its texts, and something for the rest.
    fn weight(&self) -> usize {
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let tags: usize = self
            .principal_tags
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        512 + self.operation.len()
            + tags
            + self.logins.iter().map(String::len).sum::<usize>()
            + length(&self.why)
            + length(&self.identity_pool_id)
            + length(&self.identity_id)
            + length(&self.access_key_id)
    }
}

/// Told of every request, for a log.
pub(super) type Observer = Box<dyn Fn(&LocalRequest) + Send + Sync>;

/// The last requests, oldest first.
#[derive(Default)]
pub(super) struct Records {
    kept: Mutex<Kept>,
    pub(super) observer: Option<Observer>,
}

#[derive(Default)]
struct Kept {
    requests: VecDeque<LocalRequest>,
    /// The number of the first of them, counted from the pool's start.
    first: u64,
    weight: usize,
}

impl Records {
    pub(super) fn add(&self, request: LocalRequest) {
        tracing::debug!(
            service = request.service,
            operation = request.operation,
            status = request.status,
            error = request.error,
            rule = request.rule,
            why = request.why,
            request_id = request.request_id,
            "answered"
        );
        if let Some(observer) = &self.observer {
            observer(&request);
        }
        let mut kept = self.kept();
        kept.weight += request.weight();
        kept.requests.push_back(request);
        while kept.requests.len() > CAPACITY || kept.weight > CAPACITY_BYTES {
            let Some(oldest) = kept.requests.pop_front() else { break };
            kept.first += 1;
            kept.weight = kept.weight.saturating_sub(oldest.weight());
        }
    }

    pub(super) fn all(&self) -> Vec<LocalRequest> {
        self.kept().requests.iter().cloned().collect()
    }

    /// The requests from number `from` on, no more than `limit` and of those the newest, and the number that the next
    /// request will have.
    pub(super) fn since(&self, from: u64, limit: usize) -> (Vec<LocalRequest>, u64) {
        let kept = self.kept();
        let count = kept.requests.len();
        let next = kept.first.saturating_add(count as u64);
        let known = usize::try_from(from.saturating_sub(kept.first)).unwrap_or(usize::MAX);
        let skip = known.max(count.saturating_sub(limit)).min(count);
        (kept.requests.iter().skip(skip).cloned().collect(), next)
    }

    pub(super) fn clear(&self) {
        let mut kept = self.kept();
        kept.first = kept.first.saturating_add(kept.requests.len() as u64);
        kept.weight = 0;
        kept.requests.clear();
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn request(operation: &str) -> LocalRequest {
        LocalRequest::new("", operation, false, UNIX_EPOCH)
    }

    #[test]
    fn what_a_client_sends_cannot_fill_the_memory() {
        let records = Records::default();
        records.add(request(&"é".repeat(200_000)));
        assert_eq!(records.all()[0].operation.len(), 256);
        let mut large = request("GetId");
        large.logins = vec!["x".repeat(1024 * 1024)];
        for _ in 0..100 {
            records.add(large.clone());
        }
        assert!(records.all().len() < 64);
    }

    #[test]
    fn requests_are_numbered_from_the_start_whatever_was_forgotten() {
        let records = Records::default();
        for operation in ["a", "b", "c"] {
            records.add(request(operation));
        }
        let names = |from, limit| {
            let (requests, next) = records.since(from, limit);
            (
                requests
                    .iter()
                    .map(|request| request.operation.clone())
                    .collect::<String>(),
                next,
            )
        };
        assert_eq!(names(0, 10), ("abc".into(), 3));
        assert_eq!(names(0, 2), ("bc".into(), 3));
        assert_eq!(names(2, 10), ("c".into(), 3));
        assert_eq!(names(9, 10), ("".into(), 3));
        records.clear();
        records.add(request("d"));
        assert_eq!(names(0, 10), ("d".into(), 4));
        assert_eq!(names(3, 10), ("d".into(), 4));
    }
}
