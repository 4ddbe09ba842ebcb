//! The logins map: whose key means what, and whether a token is good for it.

use std::collections::BTreeMap;

use super::core::Core;
use super::directory::Link;
use super::pools::Pool;
use super::rules::{Refusal, Rule};
use super::tokens::{Algorithm, Jwt};

/// Providers whose names are no host of their own pool's making.
const SOCIAL: &[&str] = &[
    "graph.facebook.com",
    "accounts.google.com",
    "www.amazon.com",
    "api.twitter.com",
    "www.digits.com",
    "appleid.apple.com",
];

/// Whether a key of the logins map stands for Cognito's own tokens.
pub(super) fn is_cognito_host(provider: &str) -> bool {
    provider == "cognito-identity.amazonaws.com"
        || provider.starts_with("cognito-identity.")
            && (provider.ends_with(".amazonaws.com") || provider.ends_with(".amazonaws.com.cn"))
}

/// Whether a key of the logins map names a public provider.
pub(super) fn is_public(_pool: &Pool, provider: &str) -> bool {
    SOCIAL.contains(&provider) || provider.starts_with("cognito-idp.")
}

/// A login that was proven by a token.
pub(super) struct VerifiedLogin {
    pub(super) link: Link,
}

/// Checks the token of a public provider.
pub(super) fn verify(
    _core: &Core,
    pool: &Pool,
    provider: &str,
    token: &str,
    _now: i64,
) -> Result<VerifiedLogin, Refusal> {
    if Jwt::parse(token).is_some_and(|jwt| jwt.is_from_cognito()) {
        return Err(Rule::CognitoTokenPassed.into());
    }
    if !is_public(pool, provider) {
        return Err(Rule::PublicProviderOnly.into());
    }
    Err(Rule::UnsupportedProvider.into())
}

/// What a token that the pool issued says.
pub(super) struct CognitoToken {
    pub(super) sub: String,
    pub(super) aud: String,
    pub(super) authenticated: bool,
    pub(super) tags: BTreeMap<String, String>,
}

/// Checks a token that Cognito itself issued.
pub(super) fn verify_cognito(core: &Core, provider: &str, token: &str, now: i64) -> Result<CognitoToken, Refusal> {
    let jwt = Jwt::parse(token)
        .filter(Jwt::is_from_cognito)
        .ok_or(Rule::NotACognitoToken)?;
    if jwt.text("iss").strip_prefix("https://") != Some(provider) {
        return Err(Rule::IssuerMismatch.into());
    }
    if !core.keys.verify(&jwt, Algorithm::Rs512) {
        return Err(Rule::BadTokenSignature.into());
    }
    if now >= jwt.exp() {
        return Err(Rule::TokenExpired.refuse(&[&now, &jwt.exp()]));
    }
    Ok(CognitoToken {
        sub: jwt.text("sub").to_owned(),
        aud: jwt.text("aud").to_owned(),
        authenticated: jwt.amr().iter().any(|method| method == "authenticated"),
        tags: jwt.principal_tags(),
    })
}
