//! [`BackendError`]: how an app's hook says that it failed.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::{Cause, CauseKind, Error, ErrorKind, Texts};

/// What an app's hook answers when it has no token to give.
///
/// `?` turns any [`std::error::Error`] into a *transient* failure: valid credentials stay in use until the next try. What is not a
/// `std::error::Error` itself (`anyhow::Error`, boxed errors) goes through [`BackendError::transient`].
///
/// | the hook wants to say | |
/// |---|---|
/// | it may work later | `?`, [`transient`](Self::transient), [`try_again_after`](Self::try_again_after) |
/// | it will not work until something is changed | [`terminal`](Self::terminal) |
/// | the user has to sign in again | [`signed_out`](Self::signed_out) |
/// | whatever an HTTP status means | [`http_status`](Self::http_status) |
///
/// ```
/// # use cognito_identity_pool::{BackendError, error::BackendErrorKind};
/// fn parse(text: &str) -> Result<u32, BackendError> {
///     Ok(text.parse::<u32>()?)
/// }
/// fn ask(status: u16) -> Result<(), BackendError> {
///     match status {
///         200 => Ok(()),
///         402 => Err(BackendError::terminal("the account is closed")),
///         other => Err(BackendError::http_status(other)),
///     }
/// }
/// assert_eq!(parse("x").unwrap_err().reason(), "invalid digit found in string");
/// assert_eq!(ask(401).unwrap_err().kind(), BackendErrorKind::SignedOut);
/// assert_eq!(ask(402).unwrap_err().reason(), "the account is closed");
/// assert_eq!(ask(503).unwrap_err().kind(), BackendErrorKind::Transient);
/// ```
///
/// Of a source it keeps the texts and nothing else, so that no response body rides along. Like `anyhow::Error` it does not
/// implement `std::error::Error`, because `?` could not make it from every error then.
#[derive(Clone)]
pub struct BackendError {
    inner: Box<Failure>,
}

#[derive(Clone)]
struct Failure {
    kind: BackendErrorKind,
    reason: String,
    hint: Option<String>,
    causes: Vec<Cause>,
    retry_after: Option<Duration>,
    texts: Option<Arc<Texts>>,
    /// A failure of this very crate, which is no backend to the app: it reaches the caller unchanged.
    own: Option<Error>,
}

/// What a hook's failure means for the session: see [`BackendError::kind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BackendErrorKind {
    /// It may work later. Valid credentials stay in use.
    Transient,
    /// It will not work until something is changed. Requests fail at once; the user stays signed in.
    Terminal,
    /// The user has to sign in again.
    SignedOut,
}

const SIGNED_OUT: &str = "the backend says that the user is signed out";

impl BackendError {
    /// With a reason of this crate's own, which holds no secret.
    pub(crate) fn with_reason(kind: BackendErrorKind, reason: impl Into<String>) -> Self {
        Self {
            inner: Box::new(Failure {
                kind,
                reason: reason.into(),
                hint: None,
                causes: Vec::new(),
                retry_after: None,
                texts: None,
                own: None,
            }),
        }
    }

    fn of(kind: BackendErrorKind, source: &(dyn std::error::Error + 'static)) -> Self {
        Self::with_reason(kind, public_text(source)).caused_by(source)
    }

    fn with(mut self, change: impl FnOnce(&mut Failure)) -> Self {
        change(&mut self.inner);
        self
    }

    /// It may work later: valid credentials stay in use until the next try.
    pub fn transient(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::of(BackendErrorKind::Transient, &*source.into())
    }

    /// The backend asks to be left alone for a while: as [`transient`](Self::transient), not tried again before `after`.
    pub fn try_again_after(after: Duration) -> Self {
        let reason = format!("the backend asks to be left alone for {} s", after.as_secs());
        Self::with_reason(BackendErrorKind::Transient, reason).with_retry_after(after)
    }

    /// It will not work until something is changed: requests fail at once, the user stays signed in.
    pub fn terminal(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self::of(BackendErrorKind::Terminal, &*source.into())
    }

    /// The backend does not accept the user any more (HTTP 401): requests fail with
    /// [`ErrorKind::SignedOut`] until the user has signed in again.
    pub fn signed_out() -> Self {
        Self::with_reason(BackendErrorKind::SignedOut, SIGNED_OUT)
    }

    /// What `status` of a backend's HTTP answer means, as [`HttpBackend`](crate::http_backend) reads it: 401 signed out; 302, 303,
    /// 307, 407, 408, 425, 429 and 5xx transient; all others terminal.
    ///
    /// ```
    /// # use cognito_identity_pool::{BackendError, DeveloperIdentity};
    /// # async fn refresh(response: reqwest::Response) -> Result<DeveloperIdentity, BackendError> {
    /// if !response.status().is_success() {
    ///     return Err(BackendError::http_status(response.status().as_u16()));
    /// }
    /// Ok(response.json().await?)
    /// # }
    /// ```
    pub fn http_status(status: u16) -> Self {
        let kind = match status {
            401 => BackendErrorKind::SignedOut,
            302 | 303 | 307 | 407 | 408 | 425 | 429 | 500.. => BackendErrorKind::Transient,
            _ => BackendErrorKind::Terminal,
        };
        let phrase = http::StatusCode::from_u16(status).ok();
        let phrase = phrase.and_then(|status| status.canonical_reason());
        let reason = match phrase {
            Some(phrase) => format!("the backend answered HTTP status {status} {phrase}"),
            None => format!("the backend answered HTTP status {status}"),
        };
        let hint = match status {
            300..=399 => "redirects are not followed: call the URL that it leads to, or sign in to the network first",
            403 => "the backend refuses the request: may the user do this, is an API key or a cookie missing?",
            404 | 410 => "nothing answers under this path: check the backend's URL",
            405 => "the backend does not accept this HTTP method here",
            407 => "a proxy in between wants a login of its own",
            413 | 414 | 431 => "the backend, or a proxy in front of it, finds the request too large",
            415 => "the backend does not accept JSON here",
            429 => "the backend limits how often it is asked",
            500.. => "the backend, or a proxy in front of it, failed: its log says more",
            _ => "",
        };
        let error = Self::with_reason(kind, reason).because(CauseKind::BackendStatus);
        if hint.is_empty() { error } else { error.with_hint(hint) }
    }

    /// How long the backend asks to be left alone (`Retry-After`).
    #[must_use]
    pub fn with_retry_after(self, after: Duration) -> Self {
        self.with(|failure| failure.retry_after = Some(after))
    }

    /// What to do about it: [`Error::hint`] of the error that reaches the app.
    #[must_use]
    pub fn with_hint(self, hint: impl Into<String>) -> Self {
        self.with(|failure| failure.hint = Some(hint.into()))
    }

    /// Adds a cause whose evidence is the reason.
    pub(crate) fn because(self, kind: CauseKind) -> Self {
        self.with(|failure| failure.causes.push(Cause::new(kind, &*failure.reason)))
    }

    /// Keeps the texts of `source`, and a cause if its type tells one.
    pub(crate) fn caused_by(self, source: &(dyn std::error::Error + 'static)) -> Self {
        self.with(|failure| {
            failure.texts = Some(Arc::new(Texts::of(source)));
            failure.causes.extend(cause_of(source));
        })
    }

    /// An error of this crate that is to reach the caller unchanged.
    pub(crate) fn own(error: Error) -> Self {
        Self::from(error.clone()).with(|failure| failure.own = Some(error))
    }

    /// What it means for the session.
    pub fn kind(&self) -> BackendErrorKind {
        self.inner.kind
    }

    /// What went wrong, in a sentence that may be shown and logged: of URLs only scheme and host are left, and what looks like a
    /// token or an id is cut out. It becomes part of the message of the [`Error`] that reaches the app.
    pub fn reason(&self) -> &str {
        &self.inner.reason
    }

    /// What to do about it, where that is known.
    pub fn hint(&self) -> Option<&str> {
        self.inner.hint.as_deref()
    }

    /// The possible causes, where they are known: [`Error::causes`] of the error that reaches the app.
    pub fn causes(&self) -> &[Cause] {
        &self.inner.causes
    }

    /// How long to wait before the next try, where the backend has said so.
    pub fn retry_after(&self) -> Option<Duration> {
        self.inner.retry_after
    }
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for BackendError {
    fn from(error: E) -> Self {
        // A typed error of ours (a vendor in the same process) keeps its meaning.
        let Some(ours) = Error::find(&error) else {
            return Self::of(BackendErrorKind::Transient, &error);
        };
        let kind = if ours.needs_sign_in() {
            BackendErrorKind::SignedOut
        } else if ours.is_retryable() {
            BackendErrorKind::Transient
        } else {
            BackendErrorKind::Terminal
        };
        Self::with_reason(kind, ours.to_string()).with(|failure| {
            failure.hint = ours.hint().map(str::to_owned);
            failure.causes = ours.causes().to_vec();
            failure.retry_after = ours.retry_after();
            failure.texts = Some(Arc::new(Texts::of(&error)));
        })
    }
}

impl From<BackendError> for Error {
    fn from(error: BackendError) -> Self {
        let failure = *error.inner;
        if let Some(own) = failure.own {
            return own;
        }
        let (kind, message) = match failure.kind {
            BackendErrorKind::SignedOut if failure.reason == SIGNED_OUT => (
                ErrorKind::SignedOut,
                "the user is signed out at the app's backend".to_owned(),
            ),
            BackendErrorKind::SignedOut => (
                ErrorKind::SignedOut,
                format!("the user is signed out at the app's backend: {}", failure.reason),
            ),
            BackendErrorKind::Transient | BackendErrorKind::Terminal => (
                ErrorKind::Backend,
                format!("the app's backend gave no token: {}", failure.reason),
            ),
        };
        let error = Self::new(kind, message)
            .retryable(failure.kind == BackendErrorKind::Transient)
            .with_retry_after(failure.retry_after)
            .with_causes(failure.causes)
            .with_texts(failure.texts);
        match failure.hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

impl fmt::Display for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.reason)
    }
}

impl fmt::Debug for BackendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let failure = &*self.inner;
        f.debug_struct("BackendError")
            .field("kind", &failure.kind)
            .field("reason", &failure.reason)
            .field("hint", &failure.hint)
            .field("retry_after", &failure.retry_after)
            .field("texts", &failure.texts)
            .finish_non_exhaustive()
    }
}

/// What the type of an error, or of one of its sources, says about the backend.
fn cause_of(error: &(dyn std::error::Error + 'static)) -> Option<Cause> {
    use io::ErrorKind as Io;
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            let unreachable = match error.kind() {
                Io::ConnectionRefused => "the connection was refused: nothing listens there",
                Io::ConnectionReset | Io::ConnectionAborted | Io::BrokenPipe | Io::UnexpectedEof => {
                    "the connection broke off"
                }
                Io::TimedOut => "the connection timed out",
                Io::HostUnreachable | Io::NetworkUnreachable | Io::NetworkDown | Io::AddrNotAvailable => {
                    "there is no way to the host: is the device offline?"
                }
                _ => "",
            };
            if !unreachable.is_empty() {
                return Some(Cause::new(CauseKind::BackendUnreachable, unreachable));
            }
        }
        if error.is::<serde_json::Error>() {
            let evidence = "the answer is not the JSON that was expected";
            return Some(Cause::new(CauseKind::BackendAnswer, evidence));
        }
        next = error.source();
    }
    None
}

/// The text of an error and of its innermost source, as far as it may be shown.
pub(crate) fn public_text(error: &(dyn std::error::Error + 'static)) -> String {
    const LONGEST: usize = 300;
    let mut text = without_secrets(&error.to_string());
    let innermost = std::iter::successors(error.source(), |error| error.source()).last();
    if let Some(innermost) = innermost.map(|error| without_secrets(&error.to_string()))
        && !text.contains(&innermost)
    {
        text = format!("{text}: {innermost}");
    }
    if text.chars().count() > LONGEST {
        text = text.chars().take(LONGEST).chain(['…']).collect();
    }
    text
}

fn without_secrets(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control());
    let words = words.filter(|word| !word.is_empty()).map(public_word);
    words.collect::<Vec<_>>().join(" ")
}

/// Of a URL scheme and host, and nothing of what looks like a token or an id.
fn public_word(word: &str) -> String {
    if let Some((scheme, rest)) = word.split_once("://") {
        let authority = rest
            .split(['/', '?', '#', ')', '"', '\'', '>', ','])
            .next()
            .unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        let more = if rest.len() > authority.len() { "/…" } else { "" };
        let open = scheme.chars().filter(|c| *c == '(').count();
        let close = if open > 0 { ")" } else { "" };
        return format!("{scheme}://{host}{more}{close}");
    }
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '~' | '+' | '/' | '=' | '-' | ':');
    let looks_secret = |part: &str| {
        (part.len() >= 20 && part.contains(|c: char| c.is_ascii_digit())) || part.len() >= 40 || part.starts_with("eyJ")
    };
    if word.split(|c: char| !is_part(c)).any(looks_secret) {
        return "…".to_owned();
    }
    word.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_mark_makes_a_transient_error_of_any_error() {
        fn hook() -> Result<(), BackendError> {
            Err(io::Error::other("backend is down"))?;
            Ok(())
        }
        let error = Error::from(hook().unwrap_err());
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Backend, true));
        assert_eq!(error.to_string(), "the app's backend gave no token: backend is down");
        assert_eq!(
            std::error::Error::source(&error).unwrap().to_string(),
            "backend is down"
        );
    }

    #[test]
    fn signed_out_and_terminal_are_not_tried_again() {
        let error = Error::from(BackendError::signed_out());
        assert!(error.needs_sign_in() && !error.is_retryable());
        let error = Error::from(BackendError::terminal("account closed").with_hint("write to support"));
        assert!(!error.needs_sign_in() && !error.is_retryable());
        assert_eq!(
            (error.to_string(), error.hint()),
            (
                "the app's backend gave no token: account closed".to_owned(),
                Some("write to support")
            )
        );
        let error = Error::from(BackendError::try_again_after(Duration::from_secs(7)));
        assert_eq!(
            (error.is_retryable(), error.retry_after()),
            (true, Some(Duration::from_secs(7)))
        );
    }

    #[test]
    fn an_error_of_this_crate_keeps_its_meaning_through_a_hook() {
        let vendor_error = Error::new(ErrorKind::Denied, "denied").with_hint("ask");
        let error = BackendError::from(vendor_error);
        assert_eq!((error.kind(), error.hint()), (BackendErrorKind::Terminal, Some("ask")));
        let throttled = Error::new(ErrorKind::Throttled, "slow").with_retry_after(Some(Duration::from_secs(3)));
        let error = Error::from(BackendError::from(throttled));
        assert_eq!(
            (error.is_retryable(), error.retry_after()),
            (true, Some(Duration::from_secs(3)))
        );
    }

    #[test]
    fn every_http_status_has_its_kind_and_stands_in_the_message() {
        use BackendErrorKind::{SignedOut, Terminal, Transient};
        for (status, kind, says) in [
            (100, Terminal, "100"),
            (301, Terminal, "301 Moved Permanently"),
            (302, Transient, "302 Found"),
            (308, Terminal, "308"),
            (400, Terminal, "400 Bad Request"),
            (401, SignedOut, "401 Unauthorized"),
            (403, Terminal, "403 Forbidden"),
            (405, Terminal, "405 Method Not Allowed"),
            (407, Transient, "407"),
            (408, Transient, "408"),
            (425, Transient, "425"),
            (429, Transient, "429"),
            (499, Terminal, "499"),
            (500, Transient, "500"),
            (599, Transient, "599"),
        ] {
            let error = BackendError::http_status(status);
            assert_eq!(error.kind(), kind, "{status}");
            let error = Error::from(error);
            assert!(error.to_string().contains(says), "{error}");
            assert_eq!(error.causes()[0].kind, CauseKind::BackendStatus);
        }
    }

    #[test]
    fn the_reason_says_what_happened_and_shows_no_secret() {
        #[derive(Debug, thiserror::Error)]
        #[error("{0}")]
        struct Outer(String, #[source] io::Error);
        let refused = || io::Error::new(io::ErrorKind::ConnectionRefused, "Connection refused (os error 111)");
        for (text, reason) in [
            (
                "error sending request for url (https://user:canary@api.example.com:8443/aws?key=canary)",
                "error sending request for url (https://api.example.com:8443/…): Connection refused (os error 111)",
            ),
            (
                "bad token eyJhbGciOi.canary.sig",
                "bad token …: Connection refused (os error 111)",
            ),
            (
                "id us-east-1:0b1c2d3e-5e6f-7a8b-9c0d-1e2f3canary is \n unknown",
                "id … is unknown: Connection refused (os error 111)",
            ),
            ("no canary0123456789canary", "no …: Connection refused (os error 111)"),
        ] {
            let error = BackendError::from(Outer(text.to_owned(), refused()));
            assert_eq!(error.reason(), reason);
            assert_eq!(error.causes()[0].kind, CauseKind::BackendUnreachable);
        }
        assert!(BackendError::transient("long ".repeat(100)).reason().chars().count() <= 301);
        let not_json = serde_json::from_str::<u32>("{}").unwrap_err();
        assert_eq!(BackendError::from(not_json).causes()[0].kind, CauseKind::BackendAnswer);
    }
}
