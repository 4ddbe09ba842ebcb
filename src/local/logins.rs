//! The logins map: whose key means what, and whether a token is good for it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::directory::Link;
use super::issuers::Flaw;
use super::pool_service::PoolService;
use super::pools::Pool;
use super::rules::{Refusal, Rule};
use super::tokens::{Algorithm, Jwt};

/// Providers that every pool may name, and whether their tokens are opaque.
pub(super) const SOCIAL: &[(&str, bool)] = &[
    ("graph.facebook.com", true),
    ("www.amazon.com", true),
    ("api.twitter.com", true),
    ("www.digits.com", true),
    ("accounts.google.com", false),
    ("appleid.apple.com", false),
];

/// The most that the session tags of one token may take, in bytes.
const MAX_TAG_BYTES: usize = 460;

/// Whether a key of the logins map stands for Cognito's own tokens.
pub(super) fn is_cognito_host(provider: &str) -> bool {
    provider.starts_with("cognito-identity.")
        && (provider.ends_with(".amazonaws.com") || provider.ends_with(".amazonaws.com.cn"))
}

/// Whether a key of the logins map names a public provider, configured or not.
pub(super) fn is_public(service: &PoolService, pool: &Pool, provider: &str) -> bool {
    SOCIAL.iter().any(|(name, _)| *name == provider)
        || provider.starts_with("cognito-idp.")
        || provider.starts_with("arn:")
        || service.issuers.get(provider).is_some()
        || audiences(pool, provider).is_some()
}

/// The app ids that a pool accepts of a provider, none for any; nothing if the pool does not have the provider.
fn audiences<'a>(pool: &'a Pool, provider: &str) -> Option<Vec<&'a str>> {
    let settings = &pool.settings;
    if let Some(app) = settings
        .supported_login_providers
        .as_ref()
        .and_then(|providers| providers.get(provider))
    {
        // An app may have several ids, one for each platform.
        return Some(app.split(';').collect());
    }
    let user_pools: Vec<&str> = settings
        .cognito_identity_providers
        .iter()
        .flatten()
        .filter(|user_pool| user_pool.provider_name.as_deref() == Some(provider))
        .filter_map(|user_pool| user_pool.client_id.as_deref())
        .collect();
    if !user_pools.is_empty() {
        return Some(user_pools);
    }
    // The client ids of an OIDC provider are in IAM, which is not simulated.
    let named = |arn: &&String| {
        arn.split_once(":oidc-provider/")
            .is_some_and(|(_, host)| host == provider)
    };
    settings
        .open_id_connect_provider_arns
        .iter()
        .flatten()
        .find(named)
        .map(|_| Vec::new())
}

/// A login that was proven by a token.
pub(super) struct VerifiedLogin {
    pub(super) link: Link,
    /// Its element of `amr`.
    pub(super) amr: String,
    pub(super) claims: Map<String, Value>,
}

/// Checks the token of a public provider.
pub(super) fn verify(
    service: &PoolService,
    pool: &Pool,
    provider: &str,
    token: &str,
    now: i64,
) -> Result<VerifiedLogin, Refusal> {
    if is_cognito_host(provider) || Jwt::parse(token).is_some_and(|jwt| jwt.is_from_cognito()) {
        return Err(Rule::CognitoTokenPassed.into());
    }
    if !is_public(service, pool, provider) {
        return Err(Rule::PublicProviderOnly.into());
    }
    let audiences = audiences(pool, provider).ok_or(Rule::UnsupportedProvider)?;
    let issuer = service.issuers.get(provider).ok_or(Rule::BadTokenSignature)?;
    let claims = issuer
        .verify(token, &audiences, now, service.options.token_grace)
        .map_err(|flaw| match flaw {
            Flaw::Unavailable => Rule::ExternalService.refuse(&[&provider]),
            Flaw::NoToken => Rule::InvalidToken.into(),
            Flaw::Issuer => Rule::IssuerMismatch.into(),
            Flaw::MissingAudience => Rule::MissingClaim.refuse(&[&"aud"]),
            Flaw::Audience => Rule::UnsupportedProvider.into(),
            Flaw::Signature => Rule::BadTokenSignature.into(),
            Flaw::Expired { exp } => Rule::TokenExpired.refuse(&[&now, &exp]),
            Flaw::OpaqueExpired => Rule::OpaqueTokenExpired.into(),
        })?;
    let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default().to_owned();
    let amr = issuer.amr(&subject);
    Ok(VerifiedLogin {
        link: Link::Public {
            provider: provider.to_owned(),
            subject,
        },
        amr,
        claims,
    })
}

/// Checks all public logins of a map; one that is not good spoils it.
pub(super) fn verify_all<'a>(
    service: &PoolService,
    pool: &Pool,
    logins: impl IntoIterator<Item = (&'a String, &'a String)>,
    now: i64,
) -> Result<Vec<VerifiedLogin>, Refusal> {
    logins
        .into_iter()
        .map(|(provider, token)| verify(service, pool, provider, token, now))
        .collect()
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
        let Some(map) = pool.tag_maps.get(login.link.provider()) else {
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

/// How full these session tags make a session, in percent.
pub(super) fn packed_percent(tags: &BTreeMap<String, String>) -> usize {
    let bytes: usize = tags.iter().map(|(key, value)| key.len() + value.len()).sum();
    bytes * 100 / MAX_TAG_BYTES
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
    service: &PoolService,
    provider: &str,
    token: &str,
    now: i64,
) -> Result<CognitoToken, Refusal> {
    let jwt = Jwt::parse(token)
        .filter(Jwt::is_from_cognito)
        .ok_or(Rule::NotACognitoToken)?;
    if jwt.text("iss").strip_prefix("https://") != Some(provider) {
        return Err(Rule::IssuerMismatch.into());
    }
    if !service.keys.verify(&jwt, Algorithm::Rs512) {
        return Err(Rule::BadTokenSignature.into());
    }
    if now >= jwt.exp().saturating_add(service.options.token_grace) {
        return Err(Rule::TokenExpired.refuse(&[&now, &jwt.exp()]));
    }
    Ok(CognitoToken::new(&jwt))
}
