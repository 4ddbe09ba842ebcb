//! The logins map: whose key means what, and whether a token is good for it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::directory::Link;
use super::issuers::{Flaw, Issuers};
use super::pools::{Pool, SOCIAL, UserPool, bare_issuer, same_provider};
use super::rules::{Refusal, Rule};
use super::tokens::{Algorithm, Jwt, KeyRing};

/// Whether a key of the logins map stands for Cognito's own tokens.
pub(super) fn is_cognito_host(provider: &str) -> bool {
    (provider.starts_with("cognito-identity.") || provider.starts_with("cognito-identity-"))
        && [".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu"]
            .iter()
            .any(|suffix| provider.ends_with(suffix))
}

/// Whether a key of the logins map names a public provider, configured or not.
pub(super) fn is_public(issuers: &Issuers, pool: &Pool, provider: &str) -> bool {
    SOCIAL.iter().any(|(name, _)| *name == provider)
        || provider.starts_with("cognito-idp.")
        || provider.starts_with("arn:")
        || issuers.get(provider).is_some()
        || audiences(pool, provider).is_some()
}

/// The app ids that a pool accepts of a provider, none for any; nothing if the pool does not have the provider.
fn audiences<'a>(pool: &'a Pool, provider: &str) -> Option<Vec<&'a str>> {
    let settings = &pool.settings;
    if let Some(app) = settings
        .supported_login_providers
        .as_ref()
        .and_then(|providers| providers.get(bare_issuer(provider)))
    {
        // An app may have several ids, one for each platform.
        return Some(app.split(';').collect());
    }
    let is_named = |user_pool: &&UserPool| {
        let name = user_pool.provider_name.as_deref();
        name.is_some_and(|name| same_provider(name, provider))
    };
    let user_pools: Vec<&str> = settings
        .cognito_identity_providers
        .iter()
        .flatten()
        .filter(is_named)
        .filter_map(|user_pool| user_pool.client_id.as_deref())
        .collect();
    if !user_pools.is_empty() {
        return Some(user_pools);
    }
    // The client ids of an OIDC provider are in IAM, which is not simulated.
    settings.oidc_arns_of(provider).next().map(|_| Vec::new())
}

/// A login that was proven by a token.
pub(super) struct VerifiedLogin {
    pub(super) link: Link,
    /// Its element of `amr`.
    pub(super) amr: String,
    pub(super) claims: Map<String, Value>,
}

impl VerifiedLogin {
    /// The app that the token is for.
    pub(super) fn audience(&self) -> &str {
        self.claims.get("aud").and_then(Value::as_str).unwrap_or_default()
    }
}

/// What decides whether the logins of a request are good for a pool.
#[derive(Clone, Copy)]
pub(super) struct LoginCheck<'a> {
    pub(super) issuers: &'a Issuers,
    pub(super) pool: &'a Pool,
    /// Seconds since the epoch.
    pub(super) now: i64,
    /// For how many seconds a token is accepted after its end.
    pub(super) grace: i64,
}

impl LoginCheck<'_> {
    /// Checks the token of a public provider.
    pub(super) fn verify(&self, provider: &str, token: &str) -> Result<VerifiedLogin, Refusal> {
        if is_cognito_host(provider) || Jwt::parse(token).is_some_and(|jwt| jwt.is_from_cognito()) {
            return Err(Rule::CognitoTokenPassed.into());
        }
        if !is_public(self.issuers, self.pool, provider) {
            return Err(Rule::PublicProviderOnly.into());
        }
        let unsupported =
            || Refusal::from(Rule::UnsupportedProvider).because(format!("the pool has no provider {provider}"));
        let audiences = audiences(self.pool, provider).ok_or_else(unsupported)?;
        let issuer = self.issuers.get(provider).ok_or_else(|| {
            Refusal::from(Rule::BadTokenSignature).because(format!("no issuer {provider} is simulated"))
        })?;
        let now = self.now;
        let claims = issuer
            .verify(token, &audiences, now, self.grace)
            .map_err(|flaw| match flaw {
                Flaw::Unavailable => Rule::ExternalService.refuse(&[&provider]),
                Flaw::NotAJwt => Rule::NotAnIdToken.into(),
                Flaw::NotIssued => Rule::InvalidToken.into(),
                Flaw::Issuer => Rule::IssuerMismatch.into(),
                Flaw::MissingAudience => Rule::MissingClaim.refuse(&[&"aud"]),
                Flaw::Audience => Refusal::from(Rule::UnsupportedProvider)
                    .because(format!("the token of {provider} is for another app")),
                Flaw::Signature => Rule::BadTokenSignature.into(),
                Flaw::Expired { exp } => Rule::TokenExpired.refuse(&[&now, &exp]),
                Flaw::OpaqueExpired => Rule::OpaqueTokenExpired.into(),
            })?;
        let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default().to_owned();
        let amr = issuer.amr(&subject);
        Ok(VerifiedLogin {
            link: Link::Public {
                provider: issuer.provider_name().to_owned(),
                subject,
            },
            amr,
            claims,
        })
    }

    /// Checks all public logins of a map; one that is not good spoils it.
    pub(super) fn verify_all<'l>(
        &self,
        logins: impl IntoIterator<Item = (&'l String, &'l String)>,
    ) -> Result<Vec<VerifiedLogin>, Refusal> {
        logins
            .into_iter()
            .map(|(provider, token)| self.verify(provider, token))
            .collect()
    }
}

/// What is linked by verified logins.
pub(super) fn links(logins: &[VerifiedLogin]) -> BTreeSet<Link> {
    logins.iter().map(|login| login.link.clone()).collect()
}

/// `amr` of a token for these logins; a guest's if there are none.
pub(super) fn amr(logins: &[VerifiedLogin]) -> Vec<String> {
    if logins.is_empty() {
        return vec!["unauthenticated".to_owned()];
    }
    let mut amr = vec!["authenticated".to_owned()];
    amr.extend(
        logins
            .iter()
            .flat_map(|login| [login.link.provider().to_owned(), login.amr.clone()]),
    );
    amr
}

/// The principal tags that the pool makes of the logins' claims.
pub(super) fn principal_tags(pool: &Pool, logins: &[VerifiedLogin]) -> BTreeMap<String, String> {
    let mut tags = BTreeMap::new();
    for login in logins {
        let names = pool.settings.names_of(login.link.provider(), login.audience());
        let Some(map) = names.iter().find_map(|name| pool.tag_maps.get(name)) else {
            continue;
        };
        let defaults = [
            ("username".to_owned(), "sub".to_owned()),
            ("client".to_owned(), "aud".to_owned()),
        ]
        .into();
        let mapping = if map.use_defaults {
            &defaults
        } else {
            &map.principal_tags
        };
        for (tag, claim) in mapping {
            if let Some(value) = login.claims.get(claim).and_then(Value::as_str) {
                tags.insert(tag.clone(), value.to_owned());
            }
        }
    }
    tags
}

/// What a token that the pool issued says.
pub(super) struct CognitoToken {
    pub(super) sub: String,
    pub(super) aud: String,
    pub(super) amr: Vec<String>,
    pub(super) tags: BTreeMap<String, String>,
}

impl CognitoToken {
    pub(super) fn new(jwt: &Jwt<'_>) -> Self {
        Self {
            sub: jwt.text("sub").to_owned(),
            aud: jwt.text("aud").to_owned(),
            amr: jwt.amr(),
            tags: jwt.principal_tags(),
        }
    }

    pub(super) fn authenticated(&self) -> bool {
        self.amr.iter().any(|method| method == "authenticated")
    }
}

/// Checks a token that Cognito itself issued.
pub(super) fn verify_cognito(
    keys: &KeyRing,
    provider: &str,
    token: &str,
    now: i64,
    grace: i64,
) -> Result<CognitoToken, Refusal> {
    let jwt = Jwt::parse(token)
        .filter(Jwt::is_from_cognito)
        .ok_or(Rule::NotACognitoToken)?;
    if jwt.text("iss").strip_prefix("https://") != Some(provider) {
        return Err(Rule::IssuerMismatch.into());
    }
    if !keys.verify(&jwt, Algorithm::Rs512) {
        return Err(Rule::BadTokenSignature.into());
    }
    if now >= jwt.exp().saturating_add(grace) {
        return Err(Rule::TokenExpired.refuse(&[&now, &jwt.exp()]));
    }
    Ok(CognitoToken::new(&jwt))
}
