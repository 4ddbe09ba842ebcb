//! What a backend's answer means.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::http::Headers;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use serde::de::IgnoredAny;
use serde_json::error::Category;

use crate::developer::DeveloperIdentity;
use crate::error::BackendError;
use crate::service::http::{Cut, body};

/// An answer is no longer than this. A token has 50,000 characters at most.
const LONGEST: usize = 64 * 1024;

pub(super) enum Answer {
    Identity(DeveloperIdentity),
    /// 401: the bearer was refused.
    Unauthorized,
}

/// What came in place of an identity. Its texts name it and quote nothing that could be a secret.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("the backend answered HTTP status {0}")]
    Status(u16),
    #[error("the backend answered with a redirect (HTTP status {0}), and none is followed")]
    Redirect(u16),
    #[error("the backend answered with {0}, not with application/json")]
    NotJson(String),
    #[error("the backend's answer is larger than 64 KiB")]
    TooLarge,
    #[error("the backend's answer broke off after {0} bytes")]
    BrokenOff(usize),
    #[error("the backend's answer is not JSON, although it says so")]
    Garbled,
    #[error("the backend's answer is JSON, but not of the form {{\"identityId\", \"token\"}}: {0}")]
    Form(String),
}

impl Unusable {
    /// Whether the same request may be answered later with nobody doing anything about it.
    fn passes(&self) -> bool {
        match self {
            Self::Status(status) => matches!(status, 408 | 425 | 429 | 500..),
            Self::Redirect(status) => matches!(status, 302 | 303 | 307),
            // A gateway's or a maintenance page in the place of the backend.
            _ => true,
        }
    }

    fn into_error(self, retry_after: Option<Duration>) -> BackendError {
        let error = if self.passes() {
            BackendError::transient(self)
        } else {
            BackendError::terminal(self)
        };
        match retry_after {
            Some(after) => error.with_retry_after(after),
            None => error,
        }
    }
}

/// Reads an answer that came at `now`.
pub(super) async fn read(response: HttpResponse, now: SystemTime) -> Result<Answer, BackendError> {
    let retry_after = retry_after(response.headers(), now);
    let refused = match response.status().as_u16() {
        200..=299 => None,
        401 => return Ok(Answer::Unauthorized),
        status @ 300..=399 => Some(Unusable::Redirect(status)),
        status => Some(Unusable::Status(status)),
    };
    let refused = refused.or_else(|| not_json(response.headers()));
    let identity = match refused {
        Some(refused) => Err(refused),
        None => match body(response, LONGEST).await {
            Ok(json) => parse(&json),
            Err(Cut::TooLong) => Err(Unusable::TooLarge),
            Err(Cut::BrokenOff { after }) => Err(Unusable::BrokenOff(after)),
        },
    };
    identity
        .map(Answer::Identity)
        .map_err(|error| error.into_error(retry_after))
}

fn not_json(headers: &Headers) -> Option<Unusable> {
    let Some(content_type) = headers.get("content-type") else {
        return Some(Unusable::NotJson("no content type".to_owned()));
    };
    let essence = content_type
        .split(';')
        .next()
        .unwrap_or_default()
        .trim()
        .to_ascii_lowercase();
    let is_json = essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json"));
    (!is_json).then(|| Unusable::NotJson(essence.chars().take(40).collect()))
}

/// serde's own texts quote what they stumble over.
fn parse(json: &[u8]) -> Result<DeveloperIdentity, Unusable> {
    serde_json::from_slice(json).map_err(|error| match error.classify() {
        Category::Eof => Unusable::BrokenOff(json.len()),
        Category::Data => Unusable::Form(shape(json)),
        Category::Syntax | Category::Io => Unusable::Garbled,
    })
}

/// The names of an object's members, where they are names.
fn shape(json: &[u8]) -> String {
    let Ok(members) = serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(json) else {
        return "it is no object".to_owned();
    };
    let is_name = |name: &&str| name.len() <= 24 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    let names: Vec<_> = members.keys().map(String::as_str).filter(is_name).take(8).collect();
    if names.is_empty() {
        "it has no members".to_owned()
    } else {
        format!(
            "it has {}, and one of the two is missing or cannot be one",
            names.join(", ")
        )
    }
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

    #[test]
    fn what_passes_by_itself_and_what_does_not() {
        for status in [408, 425, 429, 500, 502, 503, 504, 599] {
            assert!(Unusable::Status(status).passes(), "{status}");
        }
        for status in [100, 400, 402, 403, 404, 405, 409, 410, 413, 415, 422] {
            assert!(!Unusable::Status(status).passes(), "{status}");
        }
        assert!(Unusable::Redirect(302).passes() && Unusable::Redirect(307).passes());
        assert!(!Unusable::Redirect(301).passes() && !Unusable::Redirect(308).passes());
    }

    #[test]
    fn json_is_known_by_its_content_type() {
        for json in [
            "application/json",
            "Application/JSON; charset=utf-8",
            "application/problem+json",
        ] {
            assert!(not_json(&headers(&[("content-type", json)])).is_none(), "{json}");
        }
        for other in [
            "text/html",
            "text/json",
            "application/jsonp",
            "json",
            "",
            "application/octet-stream",
        ] {
            assert!(not_json(&headers(&[("content-type", other)])).is_some(), "{other}");
        }
        assert!(
            not_json(&Headers::new())
                .unwrap()
                .to_string()
                .contains("no content type")
        );
    }

    #[test]
    fn an_answer_of_another_form_is_named_and_not_quoted() {
        for (json, says) in [
            (
                r#"{"accessKeyId":"canary","secretKey":"canary"}"#,
                "accessKeyId, secretKey",
            ),
            (r#""canary""#, "no object"),
            (r#"["canary"]"#, "no object"),
            (r#"{"token":{"canary":"canary-canary"}}"#, "token"),
            (r#"{"identityId":"canary","token":"t"}"#, "identityId"),
            (r#"{"canary-canary.canary":1}"#, "no members"),
            ("{}", "no members"),
            ("<html>canary</html>", "not JSON"),
            (r#"{"token":"canary"#, "broke off"),
        ] {
            let text = parse(json.as_bytes()).unwrap_err().to_string();
            assert!(text.contains(says), "{json}: {text}");
            assert!(!text.contains("canary"), "{text}");
        }
    }
}
