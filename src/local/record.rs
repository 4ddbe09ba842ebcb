//! What was asked of the pool, by whom, and how it was answered.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use serde::{Serialize, Serializer};

/// How many requests are remembered.
const CAPACITY: usize = 65_536;

/// How many bytes they take together at most.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// What is kept of a text that a client sent before anything about it was checked.
const MAX_TEXT: usize = 256;

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
            operation: cut(operation).to_owned(),
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

fn date<S: Serializer>(at: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    match DateTime::from(*at).fmt(Format::DateTime) {
        Ok(date) => serializer.serialize_str(&date),
        Err(_) => serializer.serialize_none(),
    }
}

impl LocalRequest {
    /// What it takes in memory, nearly.
    fn bytes(&self) -> usize {
        let optional = [
            &self.why,
            &self.identity_pool_id,
            &self.identity_id,
            &self.access_key_id,
            &self.issued_access_key_id,
        ];
        let texts = [&self.operation, &self.request_id].into_iter();
        let texts = texts.chain(optional.into_iter().flatten()).chain(&self.logins);
        let tags = self.principal_tags.iter().flat_map(|(key, value)| [key, value]);
        size_of::<Self>()
            + texts
                .chain(tags)
                .map(|text| text.len() + size_of::<String>())
                .sum::<usize>()
    }
}

/// The beginning of a text.
pub(super) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT)]
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
    bytes: usize,
}

impl Kept {
    fn push(&mut self, request: LocalRequest) {
        self.bytes += request.bytes();
        self.requests.push_back(request);
        while (self.requests.len() > CAPACITY || self.bytes > MAX_BYTES)
            && let Some(oldest) = self.requests.pop_front()
        {
            self.first += 1;
            self.bytes -= oldest.bytes();
        }
    }
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
        self.kept().push(request);
    }

    pub(super) fn all(&self) -> Vec<LocalRequest> {
        self.kept().requests.iter().cloned().collect()
    }

    /// Those that `which` says, oldest first.
    pub(super) fn filtered(&self, which: impl Fn(&LocalRequest) -> bool) -> Vec<LocalRequest> {
        self.kept()
            .requests
            .iter()
            .filter(|request| which(request))
            .cloned()
            .collect()
    }

    /// The newest that `which` says.
    pub(super) fn newest(&self, which: impl Fn(&LocalRequest) -> bool) -> Option<LocalRequest> {
        self.kept()
            .requests
            .iter()
            .rev()
            .find(|request| which(request))
            .cloned()
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
        kept.bytes = 0;
        kept.requests.clear();
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(operation: &str) -> LocalRequest {
        LocalRequest::new("cognito-identity", operation, false, SystemTime::UNIX_EPOCH)
    }

    #[test]
    fn of_a_long_target_the_beginning_is_kept() {
        assert_eq!(request(&"x".repeat(300_000)).operation.len(), MAX_TEXT);
        assert_eq!(request(&"é".repeat(300)).operation.chars().count(), MAX_TEXT / 2);
        assert_eq!(request("GetId").operation, "GetId");
    }

    #[test]
    fn the_requests_are_bounded_in_number_and_in_bytes() {
        let mut kept = Kept::default();
        for _ in 0..CAPACITY + 10 {
            kept.push(request("GetId"));
        }
        assert_eq!(kept.requests.len(), CAPACITY);
        let tags: BTreeMap<String, String> = (0..50).map(|n| (n.to_string(), "v".repeat(1 << 20))).collect();
        let large = || LocalRequest {
            principal_tags: tags.clone(),
            ..request("large")
        };
        for _ in 0..3 {
            kept.push(large());
            assert!(kept.bytes <= MAX_BYTES, "{}", kept.bytes);
        }
        assert_eq!(
            kept.requests.back().map(|request| request.operation.as_str()),
            Some("large")
        );
        let counted: usize = kept.requests.iter().map(LocalRequest::bytes).sum();
        assert_eq!(kept.bytes, counted);
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
