//! What is known locally about a request, and what can be seen to be wrong with it: the ground that both
//! [`refusal`](super::refusal) and [`explain`](super::explain()) stand on.

use std::borrow::Cow;
use std::time::{Duration, SystemTime};

use crate::error::{Cause, CauseKind};
use crate::ids::{IdentityId, IdentityPoolId, is_issuer_host};
use crate::logins::Logins;
use crate::token::{OpenIdToken, TokenClaims};

/// What is known locally about a request.
pub(crate) struct Facts<'a> {
    pub(super) logins: Vec<LoginClaims<'a>>,
    pub(super) identity_id: Option<&'a IdentityId>,
    /// The region that is called, if it is set apart from the pool's.
    pub(super) region: Option<&'a str>,
    pub(super) now: SystemTime,
}

/// An entry of a logins map, without the token.
pub(super) struct LoginClaims<'a> {
    pub(super) provider: &'a str,
    /// `None` if the token is not a JWT.
    pub(super) claims: Option<Cow<'a, TokenClaims>>,
    pub(super) is_empty: bool,
}

impl LoginClaims<'_> {
    pub(super) fn is_issued_by_cognito(&self) -> bool {
        self.claims
            .as_deref()
            .is_some_and(|claims| claims.cognito_issuer_host().is_some())
    }
}

impl<'a> Facts<'a> {
    pub(crate) fn new(
        logins: impl IntoIterator<Item = (&'a str, &'a OpenIdToken)>,
        identity_id: Option<&'a IdentityId>,
        now: SystemTime,
    ) -> Self {
        let logins = logins.into_iter().map(|(provider, token)| LoginClaims {
            provider,
            claims: token.unverified_claims().map(Cow::Borrowed),
            is_empty: false,
        });
        Self {
            logins: logins.collect(),
            identity_id,
            region: None,
            now,
        }
    }

    /// Of texts that may be anything.
    pub(super) fn of_texts<P: AsRef<str>, T: AsRef<str>>(
        logins: &'a [(P, T)],
        identity_id: Option<&'a IdentityId>,
        now: SystemTime,
    ) -> Self {
        let logins = logins.iter().map(|(provider, token)| LoginClaims {
            provider: provider.as_ref(),
            claims: TokenClaims::read(token.as_ref()).map(Cow::Owned),
            is_empty: token.as_ref().trim().is_empty(),
        });
        Self {
            logins: logins.collect(),
            identity_id,
            region: None,
            now,
        }
    }

    pub(crate) fn none(now: SystemTime) -> Self {
        Self::new([], None, now)
    }

    /// The region that the client calls, if it is set apart from the pool's.
    pub(crate) fn in_region(mut self, region: Option<&'a str>) -> Self {
        self.region = region;
        self
    }
}

/// Something that can be seen to be wrong without asking the service.
pub(super) struct Finding {
    pub(super) kind: CauseKind,
    pub(super) evidence: String,
    /// Whether it is wrong whatever the service says, or only if the service complains.
    pub(super) sure: bool,
}

impl Finding {
    pub(super) fn sure(kind: CauseKind, evidence: String) -> Self {
        Self {
            kind,
            evidence,
            sure: true,
        }
    }

    pub(super) fn suspected(kind: CauseKind, evidence: String) -> Self {
        Self {
            kind,
            evidence,
            sure: false,
        }
    }

    pub(super) fn cause(&self) -> Cause {
        Cause::new(self.kind, &*self.evidence)
    }
}

/// Everything that can be seen, what is surely wrong first and then by how often it is the cause.
pub(super) fn findings(pool: &IdentityPoolId, facts: &Facts<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for login in &facts.logins {
        look_at(login, pool, facts, &mut found);
    }
    found.extend(regions(pool, facts));
    if facts.logins.is_empty() {
        found.push(match facts.identity_id {
            None => Finding::suspected(
                CauseKind::GuestsNotAllowed,
                "there are no logins, so Cognito treats the caller as a guest, which the pool may not allow".to_owned(),
            ),
            Some(id) => Finding::suspected(
                CauseKind::IdentityForbidden,
                format!(
                    "there are no logins: access to the identity {} is forbidden unless it is a guest's",
                    id.redacted()
                ),
            ),
        });
    }
    found.sort_by_key(|seen| (!seen.sure, likelihood(seen.kind)));
    found
}

fn likelihood(kind: CauseKind) -> u8 {
    match kind {
        CauseKind::WrongLoginsKey => 0,
        CauseKind::WrongTokenKind => 1,
        CauseKind::WrongPool => 2,
        CauseKind::TokenExpired => 3,
        CauseKind::WrongRegion => 4,
        CauseKind::WrongIdentity => 5,
        _ => 6,
    }
}

fn look_at(login: &LoginClaims<'_>, pool: &IdentityPoolId, facts: &Facts<'_>, found: &mut Vec<Finding>) {
    let key = login.provider;
    if key.starts_with("eyJ") || TokenClaims::read(key).is_some() {
        let evidence = "the key is a token: provider name and token are swapped";
        return found.push(Finding::sure(CauseKind::WrongLoginsKey, evidence.to_owned()));
    }
    let key = name(key);
    if login.is_empty {
        let evidence = format!("the token under `{key}` is empty");
        return found.push(Finding::sure(CauseKind::WrongTokenKind, evidence));
    }
    let Some(claims) = login.claims.as_deref() else {
        found.extend(opaque(&key));
        return;
    };
    match (is_issuer_host(login.provider), claims.cognito_issuer_host()) {
        (true, Some(_)) | (false, None) => found.extend(wrong_issuer(&key, claims)),
        (false, Some(host)) => found.push(Finding::sure(
            CauseKind::WrongLoginsKey,
            format!("the token under `{key}` was issued by Cognito for an identity pool: its key is `{host}`, even if `{key}` is the developer provider name"),
        )),
        (true, None) => found.push(Finding::sure(
            CauseKind::WrongTokenKind,
            format!("the token under `{key}` was not issued by Cognito for an identity pool but by `{}`; its key must be the name of that provider", issuer(claims)),
        )),
    }
    if claims.cognito_issuer_host().is_some() {
        found.extend(wrong_pool(claims, pool));
        found.extend(wrong_identity(claims, facts.identity_id));
    } else if claims.iss.is_some() && claims.aud.is_none() && !takes_access_tokens(login.provider) {
        let evidence =
            format!("the token under `{key}` has no `aud`: it is an access token, but the ID token is needed");
        found.push(Finding::sure(CauseKind::WrongTokenKind, evidence));
    }
    found.extend(wrong_time(&key, claims, facts.now));
}

/// A value that is not a JWT, under the key of a provider whose tokens are JWTs.
fn opaque(key: &str) -> Option<Finding> {
    if is_issuer_host(key) {
        return Some(Finding::suspected(
            CauseKind::WrongTokenKind,
            format!("the token under `{key}` is not a JWT, as Cognito's tokens are"),
        ));
    }
    // A SAML assertion, or an access token.
    if key.starts_with("arn:") || takes_access_tokens(key) {
        return None;
    }
    Some(Finding::sure(
        CauseKind::WrongLoginsKey,
        format!(
            "the value under `{key}` is not a JWT: if `{key}` is the developer provider name, only a backend may show it, together with a user id, to GetOpenIdTokenForDeveloperIdentity"
        ),
    ))
}

fn takes_access_tokens(provider: &str) -> bool {
    [Logins::FACEBOOK, Logins::AMAZON, "api.twitter.com", "www.digits.com"].contains(&provider)
}

/// Keys are the issuer without its scheme.
fn wrong_issuer(key: &str, claims: &TokenClaims) -> Option<Finding> {
    let named = claims.iss.as_deref()?;
    let named = named.strip_prefix("https://").unwrap_or(named).trim_end_matches('/');
    if named == key.trim_end_matches('/') || key.starts_with("arn:") || takes_access_tokens(key) {
        return None;
    }
    let evidence = format!(
        "the token under `{key}` was issued by `{}`, which must be its key",
        name(named)
    );
    Some(Finding::sure(CauseKind::WrongLoginsKey, evidence))
}

fn wrong_pool(claims: &TokenClaims, pool: &IdentityPoolId) -> Option<Finding> {
    let audience = claims.aud.as_deref()?;
    if audience == pool.as_str() {
        return None;
    }
    let evidence = format!(
        "the token's `aud` is the pool {} but the pool that was called is {pool}",
        name(audience)
    );
    Some(Finding::sure(CauseKind::WrongPool, evidence))
}

fn wrong_identity(claims: &TokenClaims, identity: Option<&IdentityId>) -> Option<Finding> {
    let (subject, identity) = (claims.sub.as_deref()?, identity?);
    if subject == identity.as_str() {
        return None;
    }
    let subject = IdentityId::new(subject).map_or_else(|_| "not an identity id".to_owned(), |id| id.redacted());
    let evidence = format!(
        "the token's `sub` ({subject}) is another identity than the requested one ({})",
        identity.redacted()
    );
    Some(Finding::sure(CauseKind::WrongIdentity, evidence))
}

fn wrong_time(key: &str, claims: &TokenClaims, now: SystemTime) -> Option<Finding> {
    if let Some(age) = claims.expires_at().and_then(|expiry| now.duration_since(expiry).ok()) {
        let evidence = format!("the token under `{key}` expired {} s ago", age.as_secs());
        return Some(Finding::sure(CauseKind::TokenExpired, evidence));
    }
    let issued = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(claims.iat?).ok()?))?;
    // The service tolerates as much.
    let early = issued
        .duration_since(now)
        .ok()
        .filter(|early| *early > Duration::from_secs(300))?;
    let evidence = format!(
        "the token under `{key}` was issued {} s in the future: the local clock is behind",
        early.as_secs()
    );
    Some(Finding::sure(CauseKind::ClockSkew, evidence))
}

fn regions(pool: &IdentityPoolId, facts: &Facts<'_>) -> Vec<Finding> {
    let here = pool.region();
    let mut found = Vec::new();
    if let Some(region) = facts.region.filter(|region| *region != here) {
        let evidence = format!("the client calls the region {region} but the pool is in {here}");
        found.push(Finding::sure(CauseKind::WrongRegion, evidence));
    }
    if let Some(region) = facts
        .identity_id
        .map(IdentityId::region)
        .filter(|region| *region != here)
    {
        let evidence = format!("the identity belongs to the region {region} but the pool is in {here}");
        found.push(Finding::sure(CauseKind::WrongRegion, evidence));
    }
    found
}

fn issuer(claims: &TokenClaims) -> String {
    claims
        .iss
        .as_deref()
        .map_or_else(|| "an unknown issuer".to_owned(), name)
}

/// A name as it may be shown: what a token says of itself can be anything.
fn name(text: &str) -> String {
    const LONGEST: usize = 128;
    let mut shown: String = text.chars().filter(|c| !c.is_control()).take(LONGEST).collect();
    if text.chars().count() > LONGEST {
        shown.push('…');
    }
    shown
}
