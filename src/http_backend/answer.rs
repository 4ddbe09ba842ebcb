//! What a backend's answer means.

use std::fmt;
use std::time::{Duration, SystemTime};

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::http::Headers;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use http::Method;
use serde_json::error::Category;
use zeroize::Zeroizing;

use crate::developer::DeveloperIdentity;
use crate::developer::answer::{NoIdentity, read};
use crate::error::{BackendError, BackendErrorKind, CauseKind};
use crate::service::http::{Cut, body};

/// An answer is no longer than this. A token has 50,000 characters at most.
const LONGEST: usize = 64 * 1024;

/// A closure of the app's that reads an answer.
pub(super) type Read = dyn Fn(&BackendAnswer<'_>) -> Result<DeveloperIdentity, BackendError> + Send + Sync;

/// A backend's answer, as the closure of [`read_answer`](super::HttpBackendBuilder::read_answer) sees it.
///
/// `Debug` shows the status and the length of the body.
pub struct BackendAnswer<'a> {
    received: &'a Received,
    method: &'a Method,
}

impl BackendAnswer<'_> {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.received.status
    }

    /// The value of the header `name`, in any case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.received.headers.get(name)
    }

    /// The body as JSON, if it is that, whatever the content type says.
    pub fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(self.received.json()).ok()
    }

    /// The body as text, if it is UTF-8.
    pub fn text(&self) -> Option<&str> {
        std::str::from_utf8(&self.received.body).ok()
    }

    /// What [`HttpBackend`](crate::HttpBackend) makes of it by itself.
    ///
    /// # Errors
    ///
    /// As the table of [`HttpBackend`](crate::HttpBackend) has it.
    pub fn identity(&self) -> Result<DeveloperIdentity, BackendError> {
        self.received.identity(self.method)
    }
}

impl fmt::Debug for BackendAnswer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendAnswer")
            .field("status", &self.received.status)
            .field("length", &self.received.body.len())
            .finish_non_exhaustive()
    }
}

/// A whole answer.
pub(super) struct Received {
    status: u16,
    headers: Headers,
    body: Zeroizing<Vec<u8>>,
    retry_after: Option<Duration>,
}

impl Received {
    /// The whole of an answer that came at `now`.
    pub(super) async fn of(mut response: HttpResponse, now: SystemTime) -> Result<Self, BackendError> {
        let status = response.status().as_u16();
        let headers = std::mem::take(response.headers_mut());
        let retry_after = retry_after(&headers, now);
        let what = match body(response, LONGEST).await {
            Ok(body) => {
                return Ok(Self {
                    status,
                    headers,
                    body,
                    retry_after,
                });
            }
            // What stands in the body of a refusal is of no interest.
            Err(_) if !(200..300).contains(&status) => {
                return Ok(Self {
                    status,
                    headers,
                    body: Zeroizing::default(),
                    retry_after,
                });
            }
            Err(Cut::TooLong) => "is larger than 64 KiB".to_owned(),
            Err(Cut::BrokenOff { after }) => format!("broke off after {after} bytes"),
        };
        Err(unusable(format!("the backend's answer (HTTP status {status}) {what}")))
    }

    pub(super) fn status(&self) -> u16 {
        self.status
    }

    /// The identity in it: by the app's closure, if there is one.
    pub(super) fn read(&self, by: Option<&Read>, method: &Method) -> Result<DeveloperIdentity, BackendError> {
        let read = match by {
            Some(read) => read(&BackendAnswer { received: self, method }),
            None => self.identity(method),
        };
        read.map_err(|error| match (error.kind(), error.retry_after(), self.retry_after) {
            (BackendErrorKind::Transient, None, Some(after)) => error.with_retry_after(after),
            _ => error,
        })
    }

    fn identity(&self, method: &Method) -> Result<DeveloperIdentity, BackendError> {
        match self.status {
            200..=299 => self.parse(),
            405 => Err(self.wrong_method(method)),
            status => Err(BackendError::http_status(status)),
        }
    }

    fn wrong_method(&self, method: &Method) -> BackendError {
        let refused = BackendError::http_status(405);
        let is_method = |allowed: &&str| allowed.len() <= 10 && allowed.bytes().all(|b| b.is_ascii_uppercase());
        let allowed: Vec<_> = self
            .headers
            .get("allow")
            .unwrap_or_default()
            .split(',')
            .map(str::trim)
            .collect();
        let allowed: Vec<_> = allowed
            .into_iter()
            .filter(|one| !one.is_empty())
            .filter(is_method)
            .collect();
        let reason = match &allowed[..] {
            [] => format!("{}: {method} is not what it expects here", refused.reason()),
            allowed => format!(
                "{}: it was asked by {method} and takes {}",
                refused.reason(),
                allowed.join(", ")
            ),
        };
        let hint = if *method == Method::POST {
            "HttpBackend asks by POST; a backend that wants GET needs HttpBackendBuilder::get"
        } else {
            "a backend that wants POST needs no HttpBackendBuilder::get"
        };
        BackendError::with_reason(BackendErrorKind::Terminal, reason)
            .because(CauseKind::BackendStatus)
            .with_hint(hint)
    }

    /// The body without the byte order mark that some editors leave in scripts.
    fn json(&self) -> &[u8] {
        let body = &self.body[..];
        body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body)
    }

    fn parse(&self) -> Result<DeveloperIdentity, BackendError> {
        if let Some(encoding) = self
            .headers
            .get("content-encoding")
            .filter(|encoding| *encoding != "identity")
        {
            return Err(unusable(format!(
                "{} is compressed ({}), which was not asked for",
                self.told(),
                word(encoding)
            )));
        }
        let json = self.json();
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        // serde's own texts quote what they stumble over.
        let found = read(&mut deserializer).and_then(|found| deserializer.end().map(|()| found));
        match found {
            Ok(Ok(identity)) => Ok(identity),
            Ok(Err(NoIdentity::SignedOut(member))) => {
                let reason = format!("{} says so: {}", self.told(), NoIdentity::SignedOut(member));
                Err(BackendError::with_reason(BackendErrorKind::SignedOut, reason))
            }
            Ok(Err(why)) => Err(unusable(format!("{} is JSON, but has no identity: {why}", self.told()))),
            Err(_) if json.trim_ascii().is_empty() => Err(unusable(format!("{} is empty", self.told()))),
            Err(_) if json.trim_ascii_start().starts_with(b"<") => {
                let error = unusable(format!("{} is HTML or XML and not JSON", self.told()));
                Err(error
                    .with_hint("a login page of the network, a proxy or another route of the backend has answered"))
            }
            Err(error) if error.classify() == Category::Eof => Err(unusable(format!(
                "{} broke off after {} bytes",
                self.told(),
                json.len()
            ))),
            Err(_) => Err(unusable(format!("{} is not JSON", self.told()))),
        }
    }

    fn told(&self) -> String {
        let content_type = self.headers.get("content-type").map(|value| {
            let essence = value.split(';').next().unwrap_or_default();
            word(essence)
        });
        let content_type = content_type.unwrap_or_else(|| "no content type".to_owned());
        format!("the backend's answer (HTTP status {}, {content_type})", self.status)
    }
}

/// Something else came than an identity. It passes: a gateway's or a maintenance page answered instead of the backend.
fn unusable(reason: String) -> BackendError {
    BackendError::with_reason(BackendErrorKind::Transient, reason)
        .because(CauseKind::BackendAnswer)
        .with_hint(
            "an answer looks like {\"identityId\": …, \"token\": …}; HttpBackendBuilder::read_answer reads other forms",
        )
}

/// A header's value as far as it is a name, e.g. of a content type.
fn word(value: &str) -> String {
    let is_part = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '/' | '+' | '-' | '.' | '_');
    value
        .trim()
        .to_ascii_lowercase()
        .chars()
        .take_while(is_part)
        .take(40)
        .collect()
}

/// `Retry-After`, in seconds or as a date; a date by the server's own clock, where it shows that.
fn retry_after(headers: &Headers, now: SystemTime) -> Option<Duration> {
    let date = |name| {
        let date = DateTime::from_str(headers.get(name)?, Format::HttpDate).ok()?;
        SystemTime::try_from(date).ok()
    };
    let value = headers.get("retry-after")?.trim();
    match value.parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(
            date("retry-after")?
                .duration_since(date("date").unwrap_or(now))
                .unwrap_or_default(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> Headers {
        let mut headers = Headers::new();
        for (name, value) in pairs {
            headers.insert(*name, *value);
        }
        headers
    }

    #[test]
    fn retry_after_is_read_in_both_forms() {
        let now = UNIX_EPOCH + Duration::from_secs(784_111_777); // Sun, 06 Nov 1994 08:49:37 GMT
        let at = |value, date: Option<&'static str>| {
            let mut pairs = vec![("retry-after", value)];
            pairs.extend(date.map(|date| ("date", date)));
            retry_after(&headers(&pairs), now).map(|after| after.as_secs())
        };
        assert_eq!(at("7", None), Some(7));
        assert_eq!(at(" 120 ", None), Some(120));
        assert_eq!(at("Sun, 06 Nov 1994 08:50:07 GMT", None), Some(30));
        // By a server whose clock is ten seconds ahead of ours.
        let server = Some("Sun, 06 Nov 1994 08:49:47 GMT");
        assert_eq!(at("Sun, 06 Nov 1994 08:50:07 GMT", server), Some(20));
        assert_eq!(at("Sun, 06 Nov 1994 08:00:00 GMT", None), Some(0));
        for nonsense in ["-1", "soon", "", "1.5", "99999999999999999999999"] {
            assert_eq!(at(nonsense, None), None, "{nonsense}");
        }
    }
}
