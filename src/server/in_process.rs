//! Vending to sessions in the same process, which keep what they make of a token themselves.

use std::num::NonZeroU32;
use std::time::Duration;

use aws_types::SdkConfig;

use super::audit;
use super::request::PrincipalTags;
use super::token_cache::TokenOptions;
use super::vending::TokenVendor;
use crate::developer::DeveloperIdentity;
use crate::error::Error;
use crate::ids::DeveloperUserId;
use crate::service::ServiceSettings;
use crate::token::TokenDuration;

impl TokenVendor {
    /// A new token, past the cache: it is exchanged once and not needed again. Waits for its turn as long as `patience`.
    pub(crate) async fn vend_in_process(
        &self,
        user: &DeveloperUserId,
        tags: &PrincipalTags,
        duration: Option<TokenDuration>,
        patience: Duration,
    ) -> Result<DeveloperIdentity, Error> {
        let inner = &self.inner;
        let options = TokenOptions {
            duration: duration.unwrap_or(inner.defaults.duration),
            tags: tags.clone(),
        };
        let vend = async {
            inner.admit(user)?;
            inner.wait_for_turn(patience).await?;
            let vended = inner.ask_now(user, &options, None, None).await;
            // Whoever was denied meanwhile gets nothing.
            inner.denied.check(user)?;
            vended
        };
        let result = vend.await;
        audit::vend("vend_in_process", user, &options, false, &result);
        Ok(result?.identity().clone())
    }

    pub(crate) fn requests_per_second(&self) -> Option<NonZeroU32> {
        self.inner
            .bucket
            .as_ref()
            .map(super::rate_limit::TokenBucket::per_second)
    }

    /// How the vendor reaches AWS.
    pub(crate) fn reach(&self) -> (&ServiceSettings, &SdkConfig) {
        (&self.inner.settings, &self.inner.app)
    }
}
