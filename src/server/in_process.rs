//! Vending to sessions in the same process, which keep what they make of a token themselves.

use std::pin::pin;
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_types::SdkConfig;
use futures_util::future::{Either, select};

use super::audit::{Audit, TokenSource};
use super::deny_entry;
use super::dependents::Dependent;
use super::rate_limit::{Lane, RequestLimit};
use super::request::PrincipalTags;
use super::token_cache::TokenOptions;
use super::vending::{Ask, TokenVendor};
use crate::developer::DeveloperIdentity;
use crate::error::Error;
use crate::ids::DeveloperUserId;
use crate::service::settings::ServiceSettings;
use crate::token::TokenDuration;

/// What a session asks of the vendor of its process.
pub(crate) struct InProcessVend<'a> {
    pub(crate) user: &'a DeveloperUserId,
    pub(crate) tags: &'a PrincipalTags,
    pub(crate) duration: Option<TokenDuration>,
    /// How long it waits for its turn.
    pub(crate) patience: Duration,
    /// The session has been told to end: it belongs to a user who was denied or forgotten since it was made.
    pub(crate) ended: &'a AtomicBool,
}

impl TokenVendor {
    /// A new token, past the cache: it is exchanged once and not needed again.
    ///
    /// It is given up if `closed` comes while it waits for its turn; what has been sent is waited for.
    pub(crate) async fn vend_in_process(
        &self,
        vend: InProcessVend<'_>,
        closed: impl Future<Output = Error> + Send,
    ) -> Result<DeveloperIdentity, Error> {
        let inner = &self.inner;
        let options = TokenOptions {
            duration: vend.duration.unwrap_or(inner.defaults.duration),
            tags: vend.tags.clone(),
        };
        let audit = Audit::of("vend_in_process").user(vend.user).options(&options).begin();
        let asked = async {
            let admission = inner.begin(vend.user).await?;
            // After the admission: whoever ends the session has held or denied the user before, so that one of the two is seen.
            if vend.ended.load(Ordering::SeqCst) {
                return Err(deny_entry::held());
            }
            let ask = Ask {
                lane: Lane::Background,
                patience: vend.patience,
                ..inner.interactive(vend.user, &options)
            };
            let turn = inner.turn(ask.lane, ask.patience);
            let turn = match select(pin!(closed), pin!(turn)).await {
                Either::Left((error, _)) => return Err(error),
                Either::Right((turn, _)) => turn?,
            };
            inner.ask_in_turn(&admission, turn, ask).await
        };
        let result = asked.await;
        audit.vended(TokenSource::Asked, &result);
        Ok(result?.identity().clone())
    }

    /// Denying, forgetting and evicting users reach `dependent` from now on.
    pub(crate) fn register(&self, dependent: Weak<dyn Dependent>) {
        self.inner.dependents.add(dependent);
    }

    /// Whether a user is known to be refused at this moment.
    pub(crate) fn check(&self, user: &DeveloperUserId) -> Result<(), Error> {
        self.inner.deny_list.check_known(user)
    }

    /// This process's share of the account's quota at the moment.
    pub(crate) fn requests_per_second(&self) -> Option<f64> {
        self.inner.limit.as_ref().map(RequestLimit::rate)
    }

    /// How the vendor reaches AWS.
    pub(crate) fn reach(&self) -> (&ServiceSettings, &SdkConfig) {
        (&self.inner.settings, &self.inner.app)
    }
}
