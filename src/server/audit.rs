//! The audit trail: one event per decision, at a target of its own, never with a token.

use crate::error::Error;
use crate::ids::{DeveloperUserId, IdentityId};

use super::request::VendedToken;
use super::token_cache::TokenOptions;

/// The [`tracing`] target of the audit trail: one event at level `INFO` for each token, link and credentials vended or refused
/// by a [`TokenVendor`](crate::TokenVendor), and for each change made by an [`IdentityAdmin`](crate::IdentityAdmin).
///
/// Fields, where they apply: `operation`, `user` (the developer user id), `identity` (the identity id; of a guest its end
/// only), `tags`, `duration` (s), `cached`, `request_id`, `outcome` (`ok`, else the kind of error). Never a token or a key.
/// User and identity ids are personal data: send this target where such data may go.
///
/// ```
/// # use cognito_identity_pool::server::AUDIT_TARGET;
/// use tracing_subscriber::{filter::Targets, prelude::*};
/// let audit = tracing_subscriber::fmt::layer().with_filter(Targets::new().with_target(AUDIT_TARGET, tracing::Level::INFO));
/// # let _: Box<dyn tracing_subscriber::Layer<tracing_subscriber::Registry>> = Box::new(audit);
/// ```
pub const AUDIT_TARGET: &str = "cognito_identity_pool::audit";

/// A token that was handed out, or was not.
pub(super) fn vend(
    operation: &'static str,
    user: &DeveloperUserId,
    options: &TokenOptions,
    cached: bool,
    result: &Result<VendedToken, Error>,
) {
    match result {
        Ok(vended) => tracing::info!(
            target: AUDIT_TARGET,
            operation,
            user = user.as_str(),
            identity = vended.identity_id().as_str(),
            tags = ?options.tags,
            duration = options.duration.as_secs(),
            cached,
            request_id = vended.request_id(),
            outcome = "ok",
        ),
        Err(error) => tracing::info!(
            target: AUDIT_TARGET,
            operation,
            user = user.as_str(),
            tags = ?options.tags,
            duration = options.duration.as_secs(),
            cached,
            request_id = error.request_id(),
            outcome = ?error.kind(),
            reason = %error,
        ),
    }
    if let Ok(vended) = result
        && let Some(replaced) = vended.replaces()
    {
        tracing::warn!(
            target: AUDIT_TARGET,
            operation,
            user = user.as_str(),
            identity = vended.identity_id().as_str(),
            expected = replaced.redacted(),
            "the user has another identity than expected",
        );
    }
}

/// A change that was made, or was not.
pub(super) fn change<T>(
    operation: &'static str,
    user: Option<&DeveloperUserId>,
    identity: Option<&IdentityId>,
    result: &Result<T, Error>,
) {
    let user = user.map(DeveloperUserId::as_str);
    let identity = identity.map(IdentityId::as_str);
    match result {
        Ok(_) => tracing::info!(target: AUDIT_TARGET, operation, user, identity, outcome = "ok"),
        Err(error) => tracing::info!(
            target: AUDIT_TARGET,
            operation,
            user,
            identity,
            request_id = error.request_id(),
            outcome = ?error.kind(),
            reason = %error,
        ),
    }
}
