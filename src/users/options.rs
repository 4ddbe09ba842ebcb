//! [`UserOptions`].

use crate::server::PrincipalTags;
use crate::token::TokenDuration;

/// What sessions of the same user can differ in: see
/// [`UserCredentials::for_user_with`](crate::UserCredentials::for_user_with).
///
/// ```
/// # use cognito_identity_pool::{server::PrincipalTags, users::UserOptions};
/// let options = UserOptions::new().principal_tags(PrincipalTags::new().with("tenant", "acme")?);
/// # Ok::<(), cognito_identity_pool::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[must_use]
pub struct UserOptions {
    pub(super) tags: PrincipalTags,
    pub(super) duration: Option<TokenDuration>,
    pub(super) role_arn: Option<String>,
}

impl UserOptions {
    /// No tags, the vendor's token duration, the flow's role.
    pub fn new() -> Self {
        Self::default()
    }

    /// The session tags of the credentials, e.g. the tenant that the user works for.
    pub fn principal_tags(mut self, tags: PrincipalTags) -> Self {
        self.tags = tags;
        self
    }

    /// How long the token lives, in place of the vendor's default. It is exchanged at once, so a short one will do.
    pub fn token_duration(mut self, duration: TokenDuration) -> Self {
        self.duration = Some(duration);
        self
    }

    /// The role to assume, as an ARN. With the classic flow only.
    pub fn role_arn(mut self, arn: impl Into<String>) -> Self {
        self.role_arn = Some(arn.into());
        self
    }

    pub(super) fn is_default(&self) -> bool {
        self.tags.is_empty() && self.duration.is_none() && self.role_arn.is_none()
    }
}
