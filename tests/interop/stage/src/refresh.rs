//! This crate's `RefreshTokenLogins` before token endpoints that others wrote.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context;
use cognito_identity_pool::logins::LoginsProvider;
use cognito_identity_pool::refresh_token::{RefreshToken, RefreshTokenLogins, RefreshTokenStore};
use cognito_identity_pool::store::StoreError;
use cognito_identity_pool::token::RefreshReason;
use cognito_identity_pool::{Error, async_trait};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{orders, say};

#[derive(Deserialize)]
struct Setup {
    /// The id of a user pool; without one it is an OAuth 2.0 token endpoint.
    user_pool: Option<String>,
    endpoint: String,
    client_id: String,
    refresh_token: String,
    provider: Option<String>,
    #[serde(default)]
    initiate_auth: bool,
}

#[derive(Clone)]
struct Kept(Arc<Mutex<RefreshToken>>);

impl Kept {
    fn token(&self) -> RefreshToken {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[async_trait]
impl RefreshTokenStore for Kept {
    async fn load(&self) -> Result<Option<RefreshToken>, StoreError> {
        Ok(Some(self.token()))
    }

    async fn replace(&self, _: &RefreshToken, new: RefreshToken) -> Result<(), StoreError> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(())
    }
}

/// Each line is an order to renew; the answer tells whom the new ID token is about, and the refresh token that is kept.
pub async fn run(setup: &str) -> anyhow::Result<()> {
    let setup: Setup = serde_json::from_str(setup).context("no setup")?;
    let kept = Kept(Arc::new(Mutex::new(RefreshToken::new(setup.refresh_token))));
    let mut builder = match setup.user_pool {
        Some(id) => RefreshTokenLogins::user_pool(id, setup.client_id).endpoint_url(setup.endpoint),
        None => RefreshTokenLogins::oauth2(setup.endpoint, setup.client_id),
    };
    if setup.initiate_auth {
        builder = builder.initiate_auth();
    }
    if let Some(provider) = setup.provider {
        builder = builder.provider(provider);
    }
    let logins = builder.store(kept.clone()).build()?;
    let mut lines = orders();
    while lines.next_line().await?.is_some() {
        say(&match logins.logins(RefreshReason::Forced).await {
            Ok(logins) => {
                let shown = |(provider, token): (&str, &cognito_identity_pool::OpenIdToken)| {
                    let claims = token.unverified_claims();
                    json!({
                        "provider": provider,
                        "sub": claims.and_then(|claims| claims.sub.clone()),
                        "iss": claims.and_then(|claims| claims.iss.clone()),
                    })
                };
                let logins: Vec<Value> = logins.iter().map(shown).collect();
                json!({ "answer": logins, "kept": kept.token().expose() })
            }
            Err(error) => {
                let error = Error::from(error);
                json!({ "error": format!("{:?}", error.kind()), "code": error.code(), "text": error.to_string() })
            }
        })?;
    }
    Ok(())
}
