//! What was asked of the pool, by whom, and how it was answered.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// How many requests are remembered.
const CAPACITY: usize = 65_536;

/// One request that the pool answered; see [`LocalIdentityPool::requests`](super::LocalIdentityPool::requests).
///
/// It holds no secret: no token, no secret key.
#[derive(Clone, Debug)]
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
    pub at: SystemTime,
}

impl LocalRequest {
    pub(super) fn new(service: &'static str, operation: &str, authorization: bool, at: SystemTime) -> Self {
        Self {
            service,
            operation: operation.to_owned(),
            status: 200,
            error: None,
            rule: None,
            why: None,
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

/// Told of every request, for a log.
pub(super) type Observer = Box<dyn Fn(&LocalRequest) + Send + Sync>;

/// The last requests, oldest first.
#[derive(Default)]
pub(super) struct Records {
    requests: Mutex<VecDeque<LocalRequest>>,
    pub(super) observer: Option<Observer>,
}

impl Records {
    pub(super) fn add(&self, request: LocalRequest) {
        tracing::debug!(
            service = request.service,
            operation = request.operation,
            status = request.status,
            error = request.error,
            request_id = request.request_id,
            "answered"
        );
        if let Some(observer) = &self.observer {
            observer(&request);
        }
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        if requests.len() == CAPACITY {
            requests.pop_front();
        }
        requests.push_back(request);
    }

    pub(super) fn all(&self) -> Vec<LocalRequest> {
        self.requests
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .cloned()
            .collect()
    }

    pub(super) fn clear(&self) {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
