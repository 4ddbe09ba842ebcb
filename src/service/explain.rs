//! [`explain`]: what is wrong with a login, without asking the service.

use std::time::SystemTime;

use super::facts::{Facts, Finding, findings};
use crate::error::Cause;
use crate::ids::{IdentityId, IdentityPoolId};

/// Explains, without the network, why Cognito would refuse `logins` for `identity` in `pool`: the causes, the most likely
/// first, each with its evidence. The list is empty if nothing looks wrong.
///
/// `logins` are raw pairs of provider name and token, so that a map can be explained that [`Logins`](crate::Logins) would not
/// accept; a guest has none. Times are compared with `now`. The tokens are read but not verified, and no cause holds one.
///
/// For [`Logins`](crate::Logins): `logins.iter().map(|(provider, token)| (provider, token.expose_secret()))`.
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
    let logins: Vec<_> = logins.into_iter().collect();
    findings(pool, &Facts::of_texts(&logins, identity, now))
        .iter()
        .map(Finding::cause)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::CauseKind;

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
                "`cognito-identity.cn-north-1.amazonaws.com.cn`, which must be its key",
                (COGNITO, &china),
            ),
            (
                CauseKind::WrongLoginsKey,
                "which must be its key",
                ("accounts.google.com", &user_pool),
            ),
            (
                CauseKind::WrongLoginsKey,
                "are swapped",
                (&*developer(&[]), &COGNITO.to_owned()),
            ),
            (
                CauseKind::WrongTokenKind,
                "not issued by Cognito",
                (COGNITO, &user_pool),
            ),
            (CauseKind::WrongTokenKind, "not a JWT", (COGNITO, &"opaque".to_owned())),
            (CauseKind::WrongTokenKind, "is empty", (COGNITO, &" ".to_owned())),
            (
                CauseKind::WrongTokenKind,
                "access token",
                ("cognito-idp.us-east-1.amazonaws.com/us-east-1_AbCdEfGhI", &access),
            ),
            (CauseKind::TokenExpired, "expired 42 s ago", (COGNITO, &expired)),
            (
                CauseKind::WrongPool,
                "is the pool eu-west-1:335c1f44-87c9-4bbd-a314-93b47d91fadd but the pool that was called is us-east-1:",
                (COGNITO, &other_pool),
            ),
            (
                CauseKind::WrongIdentity,
                "(…b0b0) is another identity than the requested one (…5c6d)",
                (COGNITO, &bob),
            ),
            (CauseKind::ClockSkew, "issued 3600 s in the future", (COGNITO, &early)),
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
        assert!(found[0].evidence.contains("calls the region eu-west-1"));
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
