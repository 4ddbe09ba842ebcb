//! What the refresh engine has to know of our [`Error`], and the errors that it raises itself.

use std::time::Duration;

use crate::error::{Error, ErrorKind};
use crate::refresh::Failure;

impl Failure for Error {
    fn is_terminal(&self) -> bool {
        !self.is_retryable()
    }

    fn needs_sign_in(&self) -> bool {
        Self::needs_sign_in(self)
    }

    fn retry_after(&self) -> Option<Duration> {
        Self::retry_after(self)
    }

    fn panicked(_: String) -> Self {
        // The hooks' panics are caught where they are called. Not the message: it may quote a response.
        Self::new(
            ErrorKind::Panicked,
            "the HTTP client, the identity store or the time source panicked",
        )
        .with_hint(
            "the panic's own message went to the panic hook of the process, stderr by default; a tokio runtime needs `enable_all`",
        )
    }

    fn timed_out(after: Duration) -> Self {
        Self::new(
            ErrorKind::Timeout,
            format!("no credentials after {} s", after.as_secs_f32()),
        )
        .with_hint("the app's backend or Cognito did not answer; the limit is RefreshPolicy's load_timeout")
    }

    fn reentered() -> Self {
        Self::new(ErrorKind::Reentered, "a hook asked its own provider for credentials")
            .with_hint("give the hook an HTTP client or SDK configuration of its own: it would wait for itself")
    }

    fn ended() -> Self {
        Self::new(
            ErrorKind::SessionEnded,
            "the session has ended: another login took its place",
        )
        .with_hint("begin the operation anew, with the configuration of the session that is in force now")
    }

    fn expired_on_arrival() -> Self {
        Self::new(
            ErrorKind::InvalidResponse,
            "the credentials had expired when they arrived",
        )
        .with_hint("compare the service's `Date` with the expiration that it sent")
    }

    fn too_short(wanted: Duration, given: Duration) -> Self {
        Self::new(
            ErrorKind::Configuration,
            format!(
                "credentials for {} s were asked for, and the service gives them for {} s",
                wanted.as_secs(),
                given.as_secs()
            ),
        )
        .with_hint("ask for less; in the classic flow, raise its duration and the role's maximum session duration")
    }
}
