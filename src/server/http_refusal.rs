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
/// | [`Denied`](ErrorKind::Denied) | 403 | `denied` |
/// | [`ClaimRefused`](ErrorKind::ClaimRefused), and Cognito's refusal of a login of the client's | 403 | `refused` |
/// | [`UserAlreadyRegistered`](ErrorKind::UserAlreadyRegistered), [`Conflict`](ErrorKind::Conflict) | 409 | `conflict` |
/// | [`IdentityNotFound`](ErrorKind::IdentityNotFound): the guest that was to be linked | 410 | `gone` |
/// | [`Throttled`](ErrorKind::Throttled) | 429, with `Retry-After` | `throttled` |
/// | what passes by itself | 503, with `Retry-After` | `unavailable` |
/// | all else: settings, permissions, the backend's own credentials | 500 | `internal` |
///
/// ```
/// # use cognito_identity_pool::{server::HttpRefusal, Error};
/// # fn into_response(error: &Error) -> (u16, Option<u64>, String) {
/// tracing::warn!(?error, "no token vended");          // the whole of it: for the log
/// let refusal = HttpRefusal::from(error);             // for the client
/// (refusal.status(), refusal.retry_after_secs(), serde_json::to_string(&refusal).unwrap_or_default())
/// # }
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
}
