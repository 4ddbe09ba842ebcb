//! What goes wrong between a client and the service, on demand.

use std::collections::VecDeque;
use std::fmt;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use bytes::Bytes;
use http::{HeaderValue, Response, header};
use serde_json::Value;

use super::rules::Rule;
use super::wire::timestamp;

/// Something that goes wrong; see [`LocalIdentityPool::faults`](super::LocalIdentityPool::faults).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LocalFault {
    /// The answer comes late.
    Latency(Duration),
    /// No answer ever comes.
    Hang,
    /// The connection is reset before the request has any effect.
    ConnectionReset,
    /// The request takes effect, and half of the answer arrives.
    HalfResponse,
    /// Another status with an empty body, such as 500 or 503. The request has no effect.
    Status(u16),
    /// A refusal in the service's form, made by [`LocalFault::refuse`].
    Refuse(RefusedError),
    /// The answer is no JSON (no XML).
    MalformedBody,
    /// The answer has the content type `text/html`.
    WrongContentType,
    /// The credentials have expired when they arrive.
    ExpiredCredentials,
    /// The answer names another identity than it is about.
    OtherIdentity,
    /// The answer lacks a member, such as `SecretKey` or `Expiration`.
    WithoutMember(String),
    /// The service signs with a new key before it looks at the request.
    RotateKeys {
        /// Whether tokens of the older key stay good.
        keep_old: bool,
    },
}

/// An error type that the pool knows; see [`LocalFault::refuse`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedError(&'static str);

impl std::ops::Deref for RefusedError {
    type Target = str;

    fn deref(&self) -> &str {
        self.0
    }
}

impl LocalFault {
    /// A refusal with an error type of the [table](super::FidelityRule), such as `TooManyRequestsException` or
    /// `InternalErrorException`. Nothing if the pool has no such type.
    pub fn refuse(error: &str) -> Option<Self> {
        Rule::of_error(error).map(|rule| Self::Refuse(RefusedError(rule.refuse(&[]).error())))
    }

    /// Changes what the service says.
    pub(super) fn alter(&self, answer: &mut Value, now: f64, new_id: impl FnOnce() -> String) {
        match self {
            Self::ExpiredCredentials => {
                if let Some(credentials) = answer.get_mut("Credentials") {
                    credentials["Expiration"] = timestamp(now - 1.0);
                }
            }
            Self::OtherIdentity => {
                if let Some(id) = answer.get_mut("IdentityId") {
                    *id = Value::from(new_id());
                }
            }
            Self::WithoutMember(member) => {
                if let Some(credentials) = answer.get_mut("Credentials").and_then(Value::as_object_mut) {
                    credentials.remove(member);
                }
                if let Some(answer) = answer.as_object_mut() {
                    answer.remove(member);
                }
            }
            _ => {}
        }
    }

    /// The same for the results of STS.
    pub(super) fn alter_xml(&self, result: &mut String, now: i64, new_id: impl FnOnce() -> String) {
        match self {
            Self::ExpiredCredentials => {
                let expired = DateTime::from_secs(now - 1).fmt(Format::DateTime).unwrap_or_default();
                replace(result, "Expiration", &expired);
            }
            Self::OtherIdentity => replace(result, "SubjectFromWebIdentityToken", &new_id()),
            Self::WithoutMember(member) => {
                replace(result, member, "");
                *result = result.replace(&format!("<{member}></{member}>"), "");
            }
            _ => {}
        }
    }

    /// Changes how it arrives.
    pub(super) fn distort(&self, response: &mut Response<Bytes>) {
        match self {
            Self::MalformedBody => {
                let half = response.body().len() / 2;
                *response.body_mut() = response.body().slice(..half);
            }
            Self::WrongContentType => {
                response
                    .headers_mut()
                    .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html"));
            }
            _ => {}
        }
    }
}

/// Replaces what the first element of this name holds.
fn replace(xml: &mut String, element: &str, text: &str) {
    let (open, close) = (format!("<{element}>"), format!("</{element}>"));
    if let Some(start) = xml.find(&open).map(|at| at + open.len())
        && let Some(length) = xml[start..].find(&close)
    {
        xml.replace_range(start..start + length, text);
    }
}

/// A connection that ends without a whole answer.
#[derive(Debug)]
pub(super) enum Cut {
    Reset,
    /// What still arrives.
    Half(Bytes),
}

impl Cut {
    /// The head with the length of the whole body, and half of it.
    pub(super) fn half(response: &Response<Bytes>) -> Self {
        let body = response.body();
        let mut head = format!("HTTP/1.1 {}\r\ncontent-length: {}\r\n", response.status(), body.len());
        for (name, value) in response.headers() {
            // Writing to a String cannot fail.
            let _ = write!(head, "{name}: {}\r\n", String::from_utf8_lossy(value.as_bytes()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&body[..body.len() / 2]);
        Self::Half(bytes.into())
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reset => "the connection was reset",
            Self::Half(_) => "the connection ended within the answer",
        })
    }
}

impl std::error::Error for Cut {}

/// The faults of a pool; see [`LocalIdentityPool::faults`](super::LocalIdentityPool::faults). Clones are handles of the
/// same faults.
#[derive(Clone, Debug, Default)]
pub struct LocalFaults {
    shared: Arc<PlannedFaults>,
}

#[derive(Debug, Default)]
struct PlannedFaults {
    plan: Mutex<Plan>,
    /// Seconds.
    offset: AtomicI64,
}

#[derive(Debug, Default)]
struct Plan {
    planned: Vec<(String, VecDeque<LocalFault>)>,
    random: Option<Random>,
}

#[derive(Debug)]
struct Random {
    numbers: fastrand::Rng,
    one_in: u32,
    faults: Vec<LocalFault>,
}

impl LocalFaults {
    /// The next request of `operation` (such as `GetId`, or `AssumeRoleWithWebIdentity`) meets this fault. Several are
    /// met in the order in which they were planned, one a request.
    pub fn next_of(&self, operation: &str, fault: LocalFault) {
        self.next_n_of(operation, 1, fault);
    }

    /// The next `count` requests of `operation` meet this fault.
    pub fn next_n_of(&self, operation: &str, count: usize, fault: LocalFault) {
        let mut plan = self.plan();
        let faults = std::iter::repeat_n(fault, count);
        match plan.planned.iter_mut().find(|(name, _)| name == operation) {
            Some((_, queue)) => queue.extend(faults),
            None => plan.planned.push((operation.to_owned(), faults.collect())),
        }
    }

    /// One in `one_in` requests of any operation meets one of these faults. Which is decided by the seed and the
    /// number of the request alone. What is planned for an operation goes first.
    pub fn seeded(&self, seed: u64, one_in: u32, faults: impl IntoIterator<Item = LocalFault>) {
        let faults: Vec<_> = faults.into_iter().collect();
        let random = (!faults.is_empty() && one_in > 0).then(|| Random {
            numbers: fastrand::Rng::with_seed(seed),
            one_in,
            faults,
        });
        self.plan().random = random;
    }

    /// Moves the service's clock away from the client's, in seconds; negative for a service that is behind.
    pub fn set_clock_offset(&self, seconds: i64) {
        self.shared.offset.store(seconds, Ordering::Relaxed);
    }

    /// Nothing goes wrong any more, and the clocks agree.
    pub fn clear(&self) {
        *self.plan() = Plan::default();
        self.set_clock_offset(0);
    }

    /// How many planned faults nobody has met yet.
    pub fn pending(&self) -> usize {
        self.plan().planned.iter().map(|(_, queue)| queue.len()).sum()
    }

    pub(super) fn clock_offset(&self) -> i64 {
        self.shared.offset.load(Ordering::Relaxed)
    }

    /// The fault that this request meets.
    pub(super) fn next(&self, operation: &str) -> Option<LocalFault> {
        let mut plan = self.plan();
        let planned = plan.planned.iter_mut().find(|(name, _)| name == operation);
        if let Some(fault) = planned.and_then(|(_, queue)| queue.pop_front()) {
            return Some(fault);
        }
        let Random {
            numbers,
            one_in,
            faults,
        } = plan.random.as_mut()?;
        // Both are drawn for every request, so that one request's fate does not move the others'.
        let (hit, which) = (numbers.u32(..*one_in) == 0, numbers.usize(..faults.len()));
        hit.then(|| faults[which].clone())
    }

    fn plan(&self) -> std::sync::MutexGuard<'_, Plan> {
        self.shared.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn planned_faults_come_in_order_and_once() {
        let faults = LocalFaults::default();
        faults.next_of("GetId", LocalFault::Hang);
        faults.next_n_of("GetId", 2, LocalFault::Status(503));
        assert_eq!(faults.next("GetOpenIdToken"), None);
        let met: Vec<_> = std::iter::from_fn(|| faults.next("GetId")).collect();
        assert_eq!(
            met,
            [LocalFault::Hang, LocalFault::Status(503), LocalFault::Status(503)]
        );
    }

    #[test]
    fn a_seed_decides_alone() {
        let draw = |seed| {
            let faults = LocalFaults::default();
            faults.seeded(seed, 3, [LocalFault::Hang, LocalFault::ConnectionReset]);
            (0..100).map(|_| faults.next("GetId")).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let hits = draw(7).iter().flatten().count();
        assert!((15..55).contains(&hits), "{hits} of 100 at one in three");
    }

    #[test]
    fn an_unknown_error_type_is_no_fault() {
        assert!(LocalFault::refuse("TooManyRequestsException").is_some());
        assert!(LocalFault::refuse("TooManyRequests").is_none());
    }
}
