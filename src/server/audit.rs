//! The audit trail: a line before each change, a line when it is done, refused or given up, at a target of its own, never with a
//! token.

use crate::error::Error;
use crate::ids::{DeveloperUserId, IdentityId};
use crate::metrics;

use super::request::VendedToken;
use super::token_cache::TokenOptions;

/// The [`tracing`] target of the audit trail: events at level `INFO` for everything that a [`TokenVendor`](crate::TokenVendor) hands
/// out, links or refuses, for each change that an [`IdentityAdmin`](crate::IdentityAdmin) makes, and for each token that a
/// `TokenVerifier` refuses.
///
/// What changes something has a line with `phase="begin"` before the first request, and one with `phase="end"` when it is over,
/// also when its caller hangs up: `outcome="cancelled"` then, and the change may have been made. What changes nothing has the second
/// line alone. The names of the fields are stable:
///
/// | field | of | what |
/// |---|---|---|
/// | `operation` | all | `vend` `vend_credentials` `exchange` `vend_in_process` `refresh_ahead` `link_guest` `link_external` `issue_guest_claim` `renew_guest_claim` `new_guest` `deny` `allow` `evict` `merge` `unlink_user` `unlink_external` `delete_identity` `forget_user` `rekey` `verify` |
/// | `phase` | all | `begin`, `end` |
/// | `user` | all but `delete_identity`, `verify` | the developer user id; of `merge` the one that moves |
/// | `into` | `merge`, `rekey` | the user whose identity both have afterwards; the new pseudonym of `user` |
/// | `identity` | what names one | the identity id |
/// | `guest` | claims, links, refused unlinks | the last four characters of an identity id that may be a guest's |
/// | `providers` | `link_external`, `unlink_external` | names of login providers |
/// | `tags`, `duration` | vends, links | the principal tags, and the token's life in seconds |
/// | `source` | vends | `cached`, `joined` (another caller's request), `asked`, `stale` (still good, kept because AWS said no) |
/// | `outcome` | `phase="end"` | `ok`, `incomplete`, `cancelled`, else the [kind](crate::ErrorKind) of the error |
/// | `cause` | `verify` | the [kind of cause](crate::error::CauseKind) |
/// | `reason`, `request_id` | failures; what AWS answered | the error's text; the id for AWS Support |
///
/// Never a token or a key. User and identity ids are personal data: send this target where such data may go.
///
/// ```
/// # use cognito_identity_pool::server::AUDIT_TARGET;
/// use tracing_subscriber::{filter::Targets, prelude::*};
/// // One JSON object a line.
/// let audit = tracing_subscriber::fmt::layer()
///     .json()
///     .flatten_event(true)
///     .with_filter(Targets::new().with_target(AUDIT_TARGET, tracing::Level::INFO));
/// # let _: Box<dyn tracing_subscriber::Layer<tracing_subscriber::Registry>> = Box::new(audit);
/// ```
pub const AUDIT_TARGET: &str = "cognito_identity_pool::audit";

/// Where a token came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenSource {
    Cached,
    Joined,
    Asked,
    Stale,
}

impl TokenSource {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Cached => "cached",
            Self::Joined => "joined",
            Self::Asked => "asked",
            Self::Stale => "stale",
        }
    }
}

/// What is known of an operation, and a promise: whatever becomes of it, there is a line at its end.
#[derive(Debug)]
pub(super) struct Audit<'a> {
    operation: &'static str,
    user: Option<&'a DeveloperUserId>,
    into: Option<&'a DeveloperUserId>,
    identity: Option<&'a IdentityId>,
    guest: Option<&'a IdentityId>,
    providers: Option<String>,
    options: Option<&'a TokenOptions>,
    ended: bool,
}

impl<'a> Audit<'a> {
    pub(super) fn of(operation: &'static str) -> Self {
        Self {
            operation,
            user: None,
            into: None,
            identity: None,
            guest: None,
            providers: None,
            options: None,
            ended: false,
        }
    }

    pub(super) fn user(mut self, user: &'a DeveloperUserId) -> Self {
        self.user = Some(user);
        self
    }

    pub(super) fn into_user(mut self, into: &'a DeveloperUserId) -> Self {
        self.into = Some(into);
        self
    }

    pub(super) fn identity(mut self, identity: &'a IdentityId) -> Self {
        self.identity = Some(identity);
        self
    }

    /// An identity that may be a guest's, so that its id is a secret.
    pub(super) fn guest(mut self, guest: &'a IdentityId) -> Self {
        self.guest = Some(guest);
        self
    }

    pub(super) fn providers<'p>(mut self, providers: impl IntoIterator<Item = &'p str>) -> Self {
        self.providers = Some(providers.into_iter().collect::<Vec<_>>().join(" "));
        self
    }

    pub(super) fn options(mut self, options: &'a TokenOptions) -> Self {
        self.options = Some(options);
        self
    }

    /// The line before the first change.
    pub(super) fn begin(self) -> Self {
        self.line("begin", None, None, None, None, None);
        self
    }

    /// The operation is over.
    pub(super) fn end<T>(self, result: &Result<T, Error>) {
        match result {
            Ok(_) => self.ended("ok"),
            Err(error) => self.failed(error),
        }
    }

    pub(super) fn ended(mut self, outcome: &'static str) {
        self.ended = true;
        self.count(None, outcome);
        self.line("end", Some(outcome), None, None, None, None);
    }

    /// AWS has not done it, and says why by a code.
    pub(super) fn undone(mut self, code: &str) {
        self.ended = true;
        self.count(None, "incomplete");
        self.line("end", Some(code), None, None, None, None);
    }

    pub(super) fn failed(self, error: &Error) {
        self.failed_by(None, error);
    }

    fn failed_by(mut self, source: Option<TokenSource>, error: &Error) {
        self.ended = true;
        self.count(source, metrics::of_kind(error.kind()));
        let outcome = format!("{:?}", error.kind());
        let reason = error.to_string();
        self.line("end", Some(&outcome), Some(&reason), error.request_id(), None, None);
    }

    /// A token was handed out, or was not.
    pub(super) fn vended(mut self, source: TokenSource, result: &Result<VendedToken, Error>) {
        let vended = match result {
            Ok(vended) => vended,
            Err(error) => return self.failed_by(Some(source), error),
        };
        self.ended = true;
        self.count(Some(source), "ok");
        let identity = vended.identity_id();
        self.line(
            "end",
            Some("ok"),
            None,
            vended.request_id(),
            Some(source),
            Some(identity),
        );
        if let Some(replaced) = vended.replaces() {
            tracing::warn!(
                target: AUDIT_TARGET,
                operation = self.operation,
                user = self.user.map(DeveloperUserId::as_str),
                identity = identity.as_str(),
                expected = replaced.redacted(),
                "the user has another identity than expected",
            );
        }
    }

    /// Hits are counted by the vendor, which is faster.
    fn count(&self, source: Option<TokenSource>, outcome: &'static str) {
        const VENDS: [&str; 4] = ["vend", "vend_credentials", "vend_in_process", "refresh_ahead"];
        if source == Some(TokenSource::Cached) {
            return;
        }
        if VENDS.contains(&self.operation) {
            metrics::vend(self.operation, source.map_or("none", TokenSource::name), outcome);
        } else {
            metrics::operation(self.operation, outcome);
        }
    }

    fn line(
        &self,
        phase: &str,
        outcome: Option<&str>,
        reason: Option<&str>,
        request_id: Option<&str>,
        source: Option<TokenSource>,
        identity: Option<&IdentityId>,
    ) {
        tracing::info!(
            target: AUDIT_TARGET,
            operation = self.operation,
            phase,
            user = self.user.map(DeveloperUserId::as_str),
            into = self.into.map(DeveloperUserId::as_str),
            identity = identity.or(self.identity).map(IdentityId::as_str),
            guest = self.guest.map(IdentityId::redacted),
            providers = self.providers.as_deref(),
            tags = self.options.map(|options| tracing::field::debug(&options.tags)),
            duration = self.options.map(|options| options.duration.as_secs()),
            source = source.map(TokenSource::name),
            request_id,
            outcome,
            reason,
        );
    }
}

impl Drop for Audit<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.count(None, "cancelled");
            self.line("end", Some("cancelled"), None, None, None, None);
        }
    }
}

/// A bearer token was refused.
#[cfg(feature = "verify")]
pub(super) fn refused_token(error: &Error) {
    let cause = error.causes().first().map(|cause| tracing::field::debug(cause.kind));
    tracing::info!(
        target: AUDIT_TARGET,
        operation = "verify",
        phase = "end",
        outcome = ?error.kind(),
        cause,
        reason = %error,
    );
}
