//! [`BackendError`]: how an app's hook says that it failed.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Error, ErrorKind, Texts};

/// What an app's hook answers when it has no token to give.
///
/// `?` turns any [`std::error::Error`] into a *transient* one: what is still valid is served on, and the hook is asked again
/// later. Of the error its texts are kept and nothing else, so that no response body rides along. What is no
/// `std::error::Error` itself (`anyhow::Error`, boxed errors) goes through [`BackendError::transient`]:
///
/// ```
/// # use cognito_identity_pool::BackendError;
/// fn parse(text: &str) -> Result<u32, BackendError> {
///     Ok(text.parse::<u32>()?)
/// }
/// fn ask() -> Result<(), BackendError> {
///     let answer: anyhow::Result<()> = Err(anyhow::anyhow!("backend is down"));
///     answer.map_err(BackendError::transient)
/// }
/// assert_eq!(parse("x").unwrap_err().to_string(), "invalid digit found in string");
/// assert_eq!(ask().unwrap_err().to_string(), "backend is down");
/// ```
///
/// Like `anyhow::Error` it does not implement `std::error::Error`, because it could not be made from every error then.
#[derive(Clone)]
pub struct BackendError {
    verdict: Verdict,
    texts: Arc<Texts>,
    retry_after: Option<Duration>,
    /// Of a source in this very crate, which is no backend to the app: it reaches the caller unchanged.
    own: Option<Error>,
}

/// What a hook's failure means for the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Transient,
    Terminal,
    SignedOut,
}

impl BackendError {
    fn new(verdict: Verdict, source: Box<dyn std::error::Error + Send + Sync>) -> Self {
        Self {
            verdict,
            texts: Arc::new(Texts::of(&*source)),
            retry_after: None,
            own: None,
        }
    }

    /// It may work later: what is still valid is served on.
    pub fn transient(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(Verdict::Transient, source.into())
    }

    /// It will not work until something is changed: requests fail at once, the user stays signed in.
    pub fn terminal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::new(Verdict::Terminal, source.into())
    }

    /// The backend does not accept the user any more (HTTP 401): requests fail with
    /// [`ErrorKind::SignedOut`] until the user has signed in again.
    pub fn signed_out() -> Self {
        Self::new(
            Verdict::SignedOut,
            "the backend says that the user is signed out".into(),
        )
    }

    /// How long the backend asks to be left alone (`Retry-After`).
    #[must_use]
    pub fn with_retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// An error of this crate that is to reach the caller unchanged.
    pub(crate) fn own(error: Error) -> Self {
        Self {
            own: Some(error.clone()),
            ..Self::from(error)
        }
    }

    #[cfg(test)]
    fn verdict(&self) -> Verdict {
        self.verdict
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for BackendError {
    fn from(error: E) -> Self {
        // A typed error of ours (a vendor in the same process) keeps its meaning.
        let found = Error::find(&error);
        let verdict = match found {
            Some(ours) if ours.needs_sign_in() => Verdict::SignedOut,
            Some(ours) if !ours.is_retryable() => Verdict::Terminal,
            _ => Verdict::Transient,
        };
        let retry_after = found.and_then(Error::retry_after);
        Self {
            verdict,
            texts: Arc::new(Texts::of(&error)),
            retry_after,
            own: None,
        }
    }
}

impl From<BackendError> for Error {
    fn from(error: BackendError) -> Self {
        if let Some(own) = error.own {
            return own;
        }
        let (kind, message) = match error.verdict {
            Verdict::SignedOut => (ErrorKind::SignedOut, "the user is signed out at the app's backend"),
            Verdict::Transient | Verdict::Terminal => (ErrorKind::Backend, "the app's backend gave no token"),
        };
        Self::new(kind, message)
            .retryable(error.verdict == Verdict::Transient)
            .with_retry_after(error.retry_after)
            .with_texts(Some(error.texts))
    }
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.texts.fmt(f)
    }
}

impl fmt::Debug for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackendError")
            .field("verdict", &self.verdict)
            .field("texts", &self.texts)
            .field("retry_after", &self.retry_after)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_mark_makes_a_transient_error_of_any_error() {
        fn hook() -> Result<(), BackendError> {
            Err(std::io::Error::other("backend is down"))?;
            Ok(())
        }
        let error = Error::from(hook().unwrap_err());
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Backend, true));
        assert_eq!(
            std::error::Error::source(&error).unwrap().to_string(),
            "backend is down"
        );
    }

    #[test]
    fn signed_out_and_terminal_are_not_tried_again() {
        let error = Error::from(BackendError::signed_out());
        assert!(error.needs_sign_in() && !error.is_retryable());
        let error = Error::from(BackendError::terminal("account closed"));
        assert!(!error.needs_sign_in() && !error.is_retryable());
    }

    #[test]
    fn an_error_of_this_crate_keeps_its_meaning_through_a_hook() {
        let vendor_error = Error::new(ErrorKind::Denied, "denied");
        assert_eq!(BackendError::from(vendor_error).verdict(), Verdict::Terminal);
        let throttled = Error::new(ErrorKind::Throttled, "slow").with_retry_after(Some(Duration::from_secs(3)));
        let error = Error::from(BackendError::from(throttled));
        assert_eq!(
            (error.is_retryable(), error.retry_after()),
            (true, Some(Duration::from_secs(3)))
        );
    }
}
