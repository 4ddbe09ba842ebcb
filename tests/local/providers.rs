//! Providers as real stacks and real tokens write them: mappings and tag maps by host, by host and client id, by ARN.

use crate::stage::{Stage, error};
use cognito_identity_pool::local::LocalIssuer;
use serde_json::{Value, json};

const ACCOUNT: &str = "123456789012";

fn role(name: &str) -> String {
    format!("arn:aws:iam::{ACCOUNT}:role/{name}")
}

/// How a stack configures one provider: the names under which its mapping and its tag map are written.
struct Configured {
    issuer: LocalIssuer,
    mapping: String,
    tags: String,
}

/// The configurations of CDK (RoleMappings by user pool and client; by ARN for IAM providers) and Terraform
/// (`identity_provider_name` of a principal tag is a user pool's endpoint, or the ARN of a provider).
fn configured(stage: &Stage) -> Vec<Configured> {
    let arn = |host: &str| format!("arn:aws:iam::{ACCOUNT}:oidc-provider/{host}");
    let users = stage.pool.user_pool("us-east-1_Example", "client1").unwrap();
    let name = users.provider_name().to_owned();
    let users = |tags: &str| Configured {
        issuer: users.clone(),
        mapping: format!("{name}:client1"),
        tags: tags.to_owned(),
    };
    let github = "token.actions.githubusercontent.com";
    let oidc = |host: &str, mapping: String, tags: String| Configured {
        issuer: stage.pool.oidc_issuer(host).unwrap(),
        mapping,
        tags,
    };
    let google = "accounts.google.com";
    vec![
        users(&name),
        users(&format!("{name}:client1")),
        oidc(github, arn(github), arn(github)),
        oidc(
            "login.example.org",
            "login.example.org".to_owned(),
            "login.example.org".to_owned(),
        ),
        oidc("tenant.auth0.com/", arn("tenant.auth0.com/"), arn("tenant.auth0.com/")),
        oidc(google, google.to_owned(), google.to_owned()),
    ]
}

#[tokio::test]
async fn mappings_and_tags_apply_under_every_name_that_stacks_give_a_provider() {
    let stage = Stage::start().await;
    for Configured { issuer, mapping, tags } in configured(&stage) {
        // As the tools send it: members that are not set are left out.
        let roles = json!({
            "IdentityPoolId": stage.id(),
            "Roles": { "authenticated": role("default"), "unauthenticated": role("guest") },
            "RoleMappings": { &mapping: {
                "Type": "Rules",
                "AmbiguousRoleResolution": "Deny",
                "RulesConfiguration": { "Rules": [
                    { "Claim": "team", "MatchType": "Equals", "Value": "ops", "RoleARN": role("ops") },
                    { "Claim": "team", "MatchType": "StartsWith", "Value": "dev", "RoleARN": role("dev") },
                ] },
            } },
        });
        let set = json!({
            "IdentityPoolId": stage.id(),
            "IdentityProviderName": &tags,
            "UseDefaults": false,
            "PrincipalTags": { "team": "team", "subject": "sub" },
        });
        assert_eq!(
            stage.json("SetIdentityPoolRoles", roles.clone(), true).await.0,
            "",
            "{mapping}"
        );
        assert_eq!(
            stage.json("SetPrincipalTagAttributeMap", set.clone(), true).await.0,
            "",
            "{tags}"
        );

        let read = stage.signing().get_identity_pool_roles().identity_pool_id(stage.id());
        let read = read.send().await.unwrap();
        assert_eq!(read.role_mappings().unwrap().keys().collect::<Vec<_>>(), [&mapping]);
        let read = stage
            .signing()
            .get_principal_tag_attribute_map()
            .identity_pool_id(stage.id());
        let read = read.identity_provider_name(&tags).send().await.unwrap();
        assert_eq!(read.principal_tags().unwrap()["team"], "team");

        let token = issuer.token_for("s1").claim("team", "developers").issue();
        let got = exchange(&stage, issuer.provider_name(), &token).await.unwrap();
        assert_eq!(
            (got.0.as_str(), got.1),
            ("dev", json!({ "team": "developers", "subject": "s1" })),
            "{mapping}"
        );
        let token = issuer.token_for("s1").claim("team", "sales").issue();
        let refused = exchange(&stage, issuer.provider_name(), &token).await.unwrap_err();
        assert_eq!(
            refused,
            format!("The ambiguous role mapping rules for: {mapping} denied this request.")
        );
    }
}

/// The role's name and the session's tags that a login gets, or the message of the refusal.
async fn exchange(stage: &Stage, provider: &str, token: &str) -> Result<(String, Value), String> {
    let got = stage
        .client()
        .get_id()
        .identity_pool_id(stage.id())
        .logins(provider, token)
        .send()
        .await;
    let id = got.unwrap().identity_id.unwrap();
    let call = stage
        .client()
        .get_credentials_for_identity()
        .identity_id(id)
        .logins(provider, token);
    let credentials = match call.send().await {
        Ok(output) => output.credentials.unwrap(),
        refused => return Err(error(refused).1),
    };
    let tags = stage.pool.requests().last().unwrap().principal_tags.clone();
    let config = crate::stage::signed_by(stage.pool.client_config(), &credentials);
    let caller = aws_sdk_sts::Client::new(&config)
        .get_caller_identity()
        .send()
        .await
        .unwrap();
    let arn = caller.arn().unwrap();
    Ok((arn.split('/').nth(1).unwrap().to_owned(), json!(tags)))
}

#[tokio::test]
async fn issuers_match_with_and_without_scheme_and_trailing_slash() {
    let stage = Stage::start().await;
    let google = stage.pool.oidc_issuer("accounts.google.com").unwrap();
    let auth0 = stage.pool.oidc_issuer("tenant.auth0.com/").unwrap();
    let okta = stage.pool.oidc_issuer("org.okta.com/oauth2/default").unwrap();
    for (issuer, key, iss) in [
        (&google, "accounts.google.com", "accounts.google.com"),
        (&google, "accounts.google.com", "https://accounts.google.com"),
        (&auth0, "tenant.auth0.com/", "https://tenant.auth0.com/"),
        (&auth0, "tenant.auth0.com", "https://tenant.auth0.com/"),
        (&auth0, "tenant.auth0.com/", "https://tenant.auth0.com"),
        (
            &okta,
            "org.okta.com/oauth2/default",
            "https://org.okta.com/oauth2/default",
        ),
        (
            &okta,
            "org.okta.com/oauth2/default/",
            "https://org.okta.com/oauth2/default",
        ),
    ] {
        let token = issuer.token_for("s").issuer(iss).issue();
        let got = stage
            .client()
            .get_id()
            .identity_pool_id(stage.id())
            .logins(key, token)
            .send()
            .await;
        assert!(got.is_ok(), "{key} {iss}: {:?}", error(got));
    }
    // One person, whichever way the issuer is written.
    let ids: std::collections::BTreeSet<_> = stage
        .pool
        .requests_of("GetId")
        .into_iter()
        .filter_map(|request| request.identity_id)
        .collect();
    assert_eq!(ids.len(), 3);
    for iss in [
        "http://tenant.auth0.com/",
        "https://tenant.auth0.com//",
        "https://auth0.com/",
    ] {
        let token = auth0.token_for("s").issuer(iss).issue();
        let call = stage
            .client()
            .get_id()
            .identity_pool_id(stage.id())
            .logins("tenant.auth0.com/", token);
        assert_eq!(
            error(call.send().await).1,
            "Invalid login token. Issuer doesn't match providerName",
            "{iss}"
        );
    }
}

#[tokio::test]
async fn a_mapped_claim_becomes_a_tag_only_if_sts_takes_it() {
    let stage = Stage::start().await;
    let host = "token.actions.githubusercontent.com";
    let issuer = stage.pool.oidc_issuer(host).unwrap();
    let map =
        json!({ "IdentityPoolId": stage.id(), "IdentityProviderName": host, "PrincipalTags": { "actor": "actor" } });
    assert_eq!(stage.json("SetPrincipalTagAttributeMap", map, true).await.0, "");
    for (actor, refused) in [("octocat", false), ("dependabot[bot]", true)] {
        let token = issuer.token_for("s").claim("actor", actor).issue();
        let id = stage
            .client()
            .get_id()
            .identity_pool_id(stage.id())
            .logins(host, &token);
        let id = id.send().await.unwrap().identity_id.unwrap();
        let enhanced = stage
            .client()
            .get_credentials_for_identity()
            .identity_id(&id)
            .logins(host, &token);
        let got = error(enhanced.send().await).0;
        assert_eq!(
            got == "InvalidIdentityPoolConfigurationException",
            refused,
            "{actor}: {got}"
        );
        let open_id = stage.client().get_open_id_token().identity_id(&id).logins(host, &token);
        let open_id = open_id.send().await.unwrap().token.unwrap();
        let sts = stage.sts();
        let classic = sts
            .assume_role_with_web_identity()
            .role_arn(role("app"))
            .role_session_name("a1");
        let (code, message) = error(classic.web_identity_token(open_id).send().await);
        assert_eq!(code == "ValidationError", refused, "{actor}: {code}");
        assert_eq!(message.contains(r"[\p{L}\p{Z}\p{N}_.:/=+\-@]*"), refused, "{message}");
    }
}

#[tokio::test]
async fn a_merged_identity_shows_that_it_is_disabled() {
    let stage = Stage::start().await;
    let guest = stage.guest_id().await;
    let google = stage.pool.oidc_issuer("accounts.google.com").unwrap();
    let token = google.token("s");
    stage
        .client()
        .get_id()
        .identity_pool_id(stage.id())
        .logins("accounts.google.com", &token)
        .send()
        .await
        .unwrap();
    let merge = stage.client().get_credentials_for_identity().identity_id(&guest);
    merge.logins("accounts.google.com", &token).send().await.unwrap();
    let described = stage
        .signing()
        .describe_identity()
        .identity_id(&guest)
        .send()
        .await
        .unwrap();
    assert_eq!(described.logins(), ["DISABLED"]);
}
