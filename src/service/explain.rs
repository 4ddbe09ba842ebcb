//! What can be seen to be wrong with a login without asking the service.

use std::time::{Duration, SystemTime};

use super::refusal::{Facts, Shown};
use crate::error::{Cause, CauseKind};
use crate::ids::{IdentityId, IdentityPoolId, is_issuer_host};
use crate::logins::Logins;
use crate::token::TokenClaims;

/// Explains, without the network, why Cognito would refuse `logins` for `identity` in `pool`: the causes, the most likely
/// first, each with what was seen. None if nothing is seen to be wrong.
///
/// `logins` are raw pairs of provider name and token, as they are sent or were logged by something else, so that also a map can
/// be explained that [`Logins`] would not take; for a guest there are none. Times are compared with `now`. The tokens are read
/// but not verified, and no cause holds one.
///
/// For [`Logins`]: `logins.providers().map(|provider| (provider, logins.expose_secret(provider).unwrap_or_default()))`.
///
/// An error of this crate has its causes already: [`Error::causes`](crate::Error::causes).
///
/// ```
/// # use std::time::SystemTime;
/// # use cognito_identity_pool::{error::CauseKind, IdentityPoolId, explain};
/// # let token = "e30.eyJpc3MiOiJodHRwczovL2NvZ25pdG8taWRlbnRpdHkuYW1hem9uYXdzLmNvbSIsImF1ZCI6InVzLWVhc3QtMTozMzVjMWY0NC04N2M5LTRiYmQtYTMxNC05M2I0N2Q5MWZhZGQifQ.c2ln";
/// let pool = IdentityPoolId::new("us-east-1:335c1f44-87c9-4bbd-a314-93b47d91fadd")?;
/// let causes = explain(&pool, None, [("login.mycompany.myapp", token)], SystemTime::now());
/// assert_eq!(causes[0].kind, CauseKind::WrongLoginsKey);
/// assert!(causes[0].evidence.contains("its key is `cognito-identity.amazonaws.com`"));
/// # Ok::<(), cognito_identity_pool::ids::InvalidId>(())
/// ```
pub fn explain<P: AsRef<str>, T: AsRef<str>>(
    pool: &IdentityPoolId,
    identity: Option<&IdentityId>,
    logins: impl IntoIterator<Item = (P, T)>,
    now: SystemTime,
) -> Vec<Cause> {
    findings(pool, &Facts::of(logins, identity, now))
        .iter()
        .map(Finding::cause)
        .collect()
}

/// Something that was seen here.
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
    for shown in &facts.logins {
        look_at(shown, pool, facts, &mut found);
    }
    found.extend(regions(pool, facts));
    if facts.logins.is_empty() {
        found.push(match facts.identity_id {
            None => Finding::suspected(
                CauseKind::GuestsNotAllowed,
                "no login is shown, so Cognito takes the caller for a guest, which the pool may not allow".to_owned(),
            ),
            Some(id) => Finding::suspected(
                CauseKind::IdentityForbidden,
                format!(
                    "no login is shown: the identity {} is forbidden unless it is a guest's",
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

fn look_at(shown: &Shown, pool: &IdentityPoolId, facts: &Facts<'_>, found: &mut Vec<Finding>) {
    let key = &shown.provider;
    if key.starts_with("eyJ") || TokenClaims::peek(key).is_some() {
        let evidence = "a token stands where the provider name belongs: key and value have changed places";
        return found.push(Finding::sure(CauseKind::WrongLoginsKey, evidence.to_owned()));
    }
    let key = name(key);
    if shown.empty {
        let evidence = format!("the token under `{key}` is empty");
        return found.push(Finding::sure(CauseKind::WrongTokenKind, evidence));
    }
    let Some(claims) = &shown.claims else {
        found.extend(opaque(&key));
        return;
    };
    match (is_issuer_host(&shown.provider), claims.cognito_issuer_host()) {
        (true, Some(_)) | (false, None) => found.extend(wrong_issuer(&key, claims)),
        (false, Some(host)) => found.push(Finding::sure(
            CauseKind::WrongLoginsKey,
            format!("the token under `{key}` was issued by Cognito for an identity pool: its key is `{host}`, also if `{key}` is the developer provider name"),
        )),
        (true, None) => found.push(Finding::sure(
            CauseKind::WrongTokenKind,
            format!("the token under `{key}` was not issued by Cognito for an identity pool but by `{}`; a login of that provider goes under the provider's own name", issuer(claims)),
        )),
    }
    if claims.cognito_issuer_host().is_some() {
        found.extend(wrong_pool(claims, pool));
        found.extend(wrong_identity(claims, facts.identity_id));
    } else if claims.iss.is_some() && claims.aud.is_none() && !takes_access_tokens(&shown.provider) {
        let evidence = format!("the token under `{key}` has no `aud`: an access token, where the ID token is wanted");
        found.push(Finding::sure(CauseKind::WrongTokenKind, evidence));
    }
    found.extend(wrong_time(&key, claims, facts.now));
}

/// What is under a key of a provider whose tokens are JWTs, and is none.
fn opaque(key: &str) -> Option<Finding> {
    if is_issuer_host(key) {
        return Some(Finding::suspected(
            CauseKind::WrongTokenKind,
            format!("the token under `{key}` is no JWT, as those of Cognito are"),
        ));
    }
    // A SAML assertion, or an access token.
    if key.starts_with("arn:") || takes_access_tokens(key) {
        return None;
    }
    Some(Finding::sure(
        CauseKind::WrongLoginsKey,
        format!(
            "the value under `{key}` is no JWT: if `{key}` is the developer provider name, only a backend may show it, together with a user id, to GetOpenIdTokenForDeveloperIdentity"
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
    if named == key || key.starts_with("arn:") || takes_access_tokens(key) {
        return None;
    }
    let evidence = format!(
        "the token under `{key}` was issued by `{}`, which has to be its key",
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
        "the token's `aud` is the pool {} but you call the pool {pool}",
        name(audience)
    );
    Some(Finding::sure(CauseKind::WrongPool, evidence))
}

fn wrong_identity(claims: &TokenClaims, identity: Option<&IdentityId>) -> Option<Finding> {
    let (subject, identity) = (claims.sub.as_deref()?, identity?);
    if subject == identity.as_str() {
        return None;
    }
    let subject = IdentityId::new(subject).map_or_else(|_| "no identity id".to_owned(), |id| id.redacted());
    let evidence = format!(
        "the token's `sub` is another identity ({subject}) than the one that is asked for ({})",
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
    // What the service grants, too, for the clocks of issuers.
    let early = issued
        .duration_since(now)
        .ok()
        .filter(|early| *early > Duration::from_secs(300))?;
    let evidence = format!(
        "the token under `{key}` was issued {} s from now: this clock is behind",
        early.as_secs()
    );
    Some(Finding::sure(CauseKind::ClockSkew, evidence))
}

fn regions(pool: &IdentityPoolId, facts: &Facts<'_>) -> Vec<Finding> {
    let here = pool.region();
    let mut found = Vec::new();
    if let Some(region) = facts.region.filter(|region| *region != here) {
        let evidence = format!("the client asks the region {region} but the pool is in {here}");
        found.push(Finding::sure(CauseKind::WrongRegion, evidence));
    }
    if let Some(region) = facts
        .identity_id
        .map(IdentityId::region)
        .filter(|region| *region != here)
    {
        let evidence = format!("the identity is of the region {region} but the pool is in {here}");
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

#[cfg(test)]
mod tests {
    use super::*;

    const POOL: &str = "us-east-1:335c1f44-87c9-4bbd-a314-93b47d91fadd";
    const ALICE: &str = "us-east-1:0b1c2d3e-5e6f-7a8b-9c0d-1e2f3a4b5c6d";
    const COGNITO: &str = "cognito-identity.amazonaws.com";
    const NOW: u64 = 1_700_000_000;

    fn jwt(payload: &str) -> String {
        format!("e30.{}.c2ln", base64_simd::URL_SAFE_NO_PAD.encode_to_string(payload))
    }

    /// A developer's token that is as it should be, but for `changes`.
    fn developer(changes: &[(&str, serde_json::Value)]) -> String {
        let mut claims = serde_json::json!({
            "sub": ALICE, "aud": POOL, "iss": "https://cognito-identity.amazonaws.com", "iat": NOW - 10, "exp": NOW + 890,
        });
        for (name, value) in changes {
            claims[*name] = value.clone();
        }
        jwt(&claims.to_string())
    }

    fn explained(identity: Option<&str>, logins: &[(&str, &str)]) -> Vec<Cause> {
        let identity = identity.map(|id| IdentityId::new(id).unwrap());
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW);
        explain(
            &IdentityPoolId::new(POOL).unwrap(),
            identity.as_ref(),
            logins.iter().copied(),
            now,
        )
    }

    fn first(identity: Option<&str>, logins: &[(&str, &str)]) -> (CauseKind, String) {
        let cause = explained(identity, logins)
            .into_iter()
            .next()
            .expect("something is wrong");
        (cause.kind, cause.evidence)
    }

    #[test]
    fn nothing_is_found_where_nothing_is_wrong() {
        let google = jwt(r#"{"iss":"https://accounts.google.com","aud":"app","sub":"1","exp":1700000890}"#);
        let user_pool = jwt(r#"{"iss":"https://cognito-idp.us-east-1.amazonaws.com/us-east-1_AbCdEfGhI","aud":"app"}"#);
        for logins in [
            &[(COGNITO, &*developer(&[]))][..],
            &[("accounts.google.com", &google), ("graph.facebook.com", "EAAB")],
            &[("cognito-idp.us-east-1.amazonaws.com/us-east-1_AbCdEfGhI", &user_pool)],
            &[("arn:aws:iam::123456789012:saml-provider/x", "PHNhbWw+")],
        ] {
            assert_eq!(explained(Some(ALICE), logins), []);
        }
    }

    #[test]
    fn a_developer_token_under_the_developer_provider_name_has_the_wrong_key() {
        let (kind, evidence) = first(Some(ALICE), &[("login.mycompany.myapp", &developer(&[]))]);
        assert_eq!(kind, CauseKind::WrongLoginsKey);
        assert!(
            evidence.contains("its key is `cognito-identity.amazonaws.com`"),
            "{evidence}"
        );
        let (kind, evidence) = first(Some(ALICE), &[("login.mycompany.myapp", "user-42")]);
        assert_eq!(kind, CauseKind::WrongLoginsKey);
        assert!(evidence.contains("developer provider name"), "{evidence}");
    }

    #[test]
    fn every_mistake_is_told_with_its_evidence() {
        let china = developer(&[("iss", "https://cognito-identity.cn-north-1.amazonaws.com.cn".into())]);
        let expired = developer(&[("exp", (NOW - 42).into())]);
        let other_pool = developer(&[("aud", "eu-west-1:335c1f44-87c9-4bbd-a314-93b47d91fadd".into())]);
        let bob = developer(&[("sub", "us-east-1:0b1c2d3e-5e6f-7a8b-9c0d-1e2f3a4bb0b0".into())]);
        let early = developer(&[("iat", (NOW + 3_600).into()), ("exp", (NOW + 4_500).into())]);
        let user_pool = jwt(r#"{"iss":"https://cognito-idp.us-east-1.amazonaws.com/us-east-1_AbCdEfGhI","aud":"app"}"#);
        let access = jwt(r#"{"iss":"https://cognito-idp.us-east-1.amazonaws.com/us-east-1_AbCdEfGhI"}"#);
        for (kind, evidence, logins) in [
            (
                CauseKind::WrongLoginsKey,
                "`cognito-identity.cn-north-1.amazonaws.com.cn`, which has to be its key",
                (COGNITO, &china),
            ),
            (
                CauseKind::WrongLoginsKey,
                "which has to be its key",
                ("accounts.google.com", &user_pool),
            ),
            (
                CauseKind::WrongLoginsKey,
                "changed places",
                (&*developer(&[]), &COGNITO.to_owned()),
            ),
            (
                CauseKind::WrongTokenKind,
                "not issued by Cognito",
                (COGNITO, &user_pool),
            ),
            (CauseKind::WrongTokenKind, "no JWT", (COGNITO, &"opaque".to_owned())),
            (CauseKind::WrongTokenKind, "is empty", (COGNITO, &" ".to_owned())),
            (
                CauseKind::WrongTokenKind,
                "access token",
                ("cognito-idp.us-east-1.amazonaws.com/us-east-1_AbCdEfGhI", &access),
            ),
            (CauseKind::TokenExpired, "expired 42 s ago", (COGNITO, &expired)),
            (
                CauseKind::WrongPool,
                "is the pool eu-west-1:335c1f44-87c9-4bbd-a314-93b47d91fadd but you call the pool us-east-1:",
                (COGNITO, &other_pool),
            ),
            (
                CauseKind::WrongIdentity,
                "another identity (…b0b0) than the one that is asked for (…5c6d)",
                (COGNITO, &bob),
            ),
            (CauseKind::ClockSkew, "issued 3600 s from now", (COGNITO, &early)),
        ] {
            let found = first(Some(ALICE), &[(logins.0, logins.1)]);
            assert_eq!(found.0, kind, "{found:?}");
            assert!(found.1.contains(evidence), "{found:?}");
        }
    }

    #[test]
    fn regions_that_differ_are_told() {
        let elsewhere = "eu-west-1:0b1c2d3e-5e6f-7a8b-9c0d-1e2f3a4b5c6d";
        let (kind, evidence) = first(Some(elsewhere), &[]);
        assert_eq!(kind, CauseKind::WrongRegion);
        assert!(
            evidence.contains("eu-west-1 but the pool is in us-east-1"),
            "{evidence}"
        );
        let facts = Facts::none(SystemTime::UNIX_EPOCH).in_region(Some("eu-west-1"));
        let found = findings(&IdentityPoolId::new(POOL).unwrap(), &facts);
        assert!(found[0].evidence.contains("asks the region eu-west-1"));
    }

    #[test]
    fn a_call_without_logins_is_a_guests() {
        assert_eq!(first(None, &[]).0, CauseKind::GuestsNotAllowed);
        assert_eq!(first(Some(ALICE), &[]).0, CauseKind::IdentityForbidden);
    }

    #[test]
    fn what_would_be_refused_first_is_told_first_and_all_of_it_is_told() {
        let token = developer(&[("aud", "us-east-1:0".into()), ("exp", 1.into()), ("sub", "x".into())]);
        let kinds: Vec<_> = explained(Some(ALICE), &[("login.mycompany.myapp", &token)])
            .iter()
            .map(|c| c.kind)
            .collect();
        use CauseKind::{TokenExpired, WrongIdentity, WrongLoginsKey, WrongPool};
        assert_eq!(kinds, [WrongLoginsKey, WrongPool, TokenExpired, WrongIdentity]);
    }

    #[test]
    fn no_cause_holds_a_token_or_an_identity_id() {
        let token = developer(&[("sub", "canary-sub".into()), ("aud", "x".into()), ("exp", 1.into())]);
        let swapped = [
            (&*token, COGNITO),
            (COGNITO, &*token),
            ("accounts.google.com", "canary-value"),
        ];
        for cause in explained(Some(ALICE), &swapped) {
            let shown = format!("{cause:?}");
            assert!(
                !shown.contains("canary") && !shown.contains(&token[4..40]) && !shown.contains(ALICE),
                "{shown}"
            );
        }
        let hostile = jwt(&serde_json::json!({"iss": format!("https://\n{}", "x".repeat(1000))}).to_string());
        let evidence = first(None, &[(COGNITO, &hostile)]).1;
        assert!(evidence.len() < 400 && !evidence.contains('\n'), "{evidence}");
    }
}
