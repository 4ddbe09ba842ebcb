//! What the client of a backend may be told of a failure.

use serde::Serialize;

use crate::error::{Error, ErrorKind};

/// What an HTTP handler answers when a vend has failed: a status and one word, nothing of the backend's own.
///
/// An [`Error`] is made for the backend's log: it may name roles and settings. This is what of it is the client's affair:
///
/// | error | status | word |
/// |---|---|---|
/// | [`SignedOut`](ErrorKind::SignedOut) | 401 | `signed_out` |
/// | [`InvalidToken`](ErrorKind::InvalidToken) | 401 | `invalid_token` |
/// | [`Denied`](ErrorKind::Denied); while the user is being forgotten 503 | 403 | `denied` |
/// | [`ClaimRefused`](ErrorKind::ClaimRefused), and Cognito's refusal of a login of the client's | 403 | `refused` |
/// | [`UserAlreadyRegistered`](ErrorKind::UserAlreadyRegistered), [`Conflict`](ErrorKind::Conflict) | 409 | `conflict` |
/// | [`IdentityNotFound`](ErrorKind::IdentityNotFound): the guest that was to be linked | 410 | `gone` |
/// | [`Throttled`](ErrorKind::Throttled) | 429, with `Retry-After` | `throttled` |
/// | what passes by itself | 503, with `Retry-After` | `unavailable` |
/// | all else: settings, permissions, the backend's own credentials | 500 | `internal` |
///
/// An [`InvalidId`](crate::ids::InvalidId) is in no row, as only the handler knows who chose the id: 400 if the client did. If the backend
/// did, `Error::from` makes it an [`Error`], which is a 500.
///
/// It becomes an [`http::Response`] by itself, with any body that can be made of a `String`: axum's, hyper's, Lambda's.
///
/// ```
/// # use cognito_identity_pool::{server::HttpRefusal, Error};
/// # use axum::response::Response;
/// fn into_response(error: &Error) -> Response {
///     tracing::warn!(?error, "no token vended");      // the whole of it: for the log
///     HttpRefusal::from(error).into()                 // for the client
/// }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct HttpRefusal {
    error: &'static str,
    #[serde(skip)]
    status: u16,
    #[serde(skip)]
    retry_after: Option<u64>,
}

impl HttpRefusal {
    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The value of the header `Retry-After`, in seconds, at least 1.
    pub fn retry_after_secs(&self) -> Option<u64> {
        self.retry_after
    }
}

impl<B: From<String>> From<HttpRefusal> for http::Response<B> {
    /// Status, `Retry-After`, `Cache-Control: no-store`, and the word as JSON.
    fn from(refusal: HttpRefusal) -> Self {
        let body = format!(r#"{{"error":"{}"}}"#, refusal.error);
        let mut response = Self::new(B::from(body));
        *response.status_mut() =
            http::StatusCode::from_u16(refusal.status).unwrap_or(http::StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(
            http::header::CONTENT_TYPE,
            http::HeaderValue::from_static("application/json"),
        );
        headers.insert(http::header::CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
        if let Some(seconds) = refusal.retry_after {
            headers.insert(http::header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

impl From<&Error> for HttpRefusal {
    fn from(error: &Error) -> Self {
        let (status, word) = match error.kind() {
            ErrorKind::SignedOut => (401, "signed_out"),
            ErrorKind::InvalidToken => (401, "invalid_token"),
            // A user who is being forgotten may come again in a moment.
            ErrorKind::Denied if !error.is_retryable() => (403, "denied"),
            ErrorKind::ClaimRefused => (403, "refused"),
            // Other codes of that kind are about the backend's own credentials and permissions.
            ErrorKind::NotAuthorized if error.code() == Some("NotAuthorizedException") => (403, "refused"),
            ErrorKind::UserAlreadyRegistered | ErrorKind::Conflict => (409, "conflict"),
            ErrorKind::IdentityNotFound => (410, "gone"),
            ErrorKind::Throttled => (429, "throttled"),
            _ if error.is_retryable() => (503, "unavailable"),
            _ => (500, "internal"),
        };
        let seconds = || {
            error
                .retry_after()
                .map_or(1, |after| after.as_millis().div_ceil(1_000).max(1))
        };
        let retry_after = matches!(status, 429 | 503).then(|| u64::try_from(seconds()).unwrap_or(u64::MAX));
        Self {
            error: word,
            status,
            retry_after,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_client_is_told_a_word_and_nothing_of_the_backends() {
        let error = Error::new(
            ErrorKind::NotAuthorized,
            "arn:aws:iam::123456789012:role/backend may not",
        )
        .with_code("AccessDeniedException")
        .with_hint("arn:aws:iam::123456789012:role/backend");
        let refusal = HttpRefusal::from(&error);
        assert_eq!((refusal.status(), refusal.retry_after_secs()), (500, None));
        assert_eq!(serde_json::to_string(&refusal).unwrap(), r#"{"error":"internal"}"#);
    }

    #[test]
    fn a_backends_own_refusal_is_never_the_clients_fault() {
        for code in [
            "AccessDeniedException",
            "ExpiredTokenException",
            "UnrecognizedClientException",
        ] {
            let error = Error::new(ErrorKind::NotAuthorized, "x").with_code(code);
            assert_eq!(HttpRefusal::from(&error).status(), 500, "{code}");
        }
        let error = Error::new(ErrorKind::NotAuthorized, "x").with_code("NotAuthorizedException");
        assert_eq!(HttpRefusal::from(&error).status(), 403);
    }

    #[test]
    fn retry_after_is_rounded_up_and_never_zero() {
        for (after, seconds) in [
            (None, 1),
            (Some(0), 1),
            (Some(20), 1),
            (Some(1_000), 1),
            (Some(1_001), 2),
        ] {
            let error = Error::new(ErrorKind::Throttled, "x").with_retry_after(after.map(Duration::from_millis));
            assert_eq!(HttpRefusal::from(&error).retry_after_secs(), Some(seconds), "{after:?}");
        }
        let error = Error::new(ErrorKind::Transport, "x");
        assert_eq!(
            (
                HttpRefusal::from(&error).status(),
                HttpRefusal::from(&error).retry_after_secs()
            ),
            (503, Some(1))
        );
    }

    #[test]
    fn a_refusal_is_a_whole_response() {
        let error = Error::new(ErrorKind::Throttled, "x").with_retry_after(Some(Duration::from_secs(7)));
        let response: http::Response<String> = HttpRefusal::from(&error).into();
        let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap());
        assert_eq!((response.status().as_u16(), header("retry-after")), (429, Some("7")));
        assert_eq!(
            (header("content-type"), header("cache-control")),
            (Some("application/json"), Some("no-store"))
        );
        assert_eq!(response.body(), r#"{"error":"throttled"}"#);
        let response: http::Response<String> = HttpRefusal::from(&Error::new(ErrorKind::Configuration, "x")).into();
        assert_eq!(
            (response.status().as_u16(), response.headers().get("retry-after")),
            (500, None)
        );
    }
}
