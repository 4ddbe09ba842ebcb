//! Every operation of the local pool, over a socket, with the SDK's own client.

use std::collections::HashSet;
use std::time::Duration;

use crate::stage::{ISSUER, PROVIDER, Stage, error, over_socket, signed_by};
use aws_sdk_cognitoidentity::types::{
    AmbiguousRoleResolutionType, CognitoIdentityProvider, MappingRule, MappingRuleMatchType, RoleMapping,
    RoleMappingType, RulesConfigurationType,
};
use cognito_identity_pool::{LocalIdentityPool, local::LocalRole};
use serde_json::{Value, json};

const ROLE: &str = "arn:aws:iam::123456789012:role/app";

/// The claims of a token, unverified.
fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).unwrap();
    serde_json::from_slice(&base64_simd::URL_SAFE_NO_PAD.decode_to_vec(payload).unwrap()).unwrap()
}

#[tokio::test]
async fn every_guest_is_new_and_gets_the_role_of_guests() {
    let stage = Stage::start().await;
    let (first, second) = (stage.guest_id().await, stage.guest_id().await);
    assert_ne!(first, second);
    let output = stage
        .client()
        .get_credentials_for_identity()
        .identity_id(&first)
        .send()
        .await
        .unwrap();
    assert_eq!(output.identity_id(), Some(first.as_str()));
    let credentials = output.credentials.unwrap();
    let left = credentials.expiration().unwrap().secs() - aws_smithy_types::DateTime::from(now(&stage)).secs();
    assert_eq!(left, 3600);
    let sts = aws_sdk_sts::Client::new(&signed_by(
        over_socket(stage.pool.client_config(), &stage.pool),
        &credentials,
    ));
    let caller = sts.get_caller_identity().send().await.unwrap();
    assert_eq!(
        caller.arn(),
        Some("arn:aws:sts::123456789012:assumed-role/local-unauthenticated/CognitoIdentityCredentials")
    );
    assert!(caller.user_id().unwrap().ends_with(":CognitoIdentityCredentials"));
    assert_eq!(caller.account(), Some("123456789012"));
}

fn now(stage: &Stage) -> std::time::SystemTime {
    aws_smithy_async::time::TimeSource::now(&stage.clock)
}

#[tokio::test]
async fn a_developer_token_has_the_duration_and_tags_that_were_asked_for() {
    let stage = Stage::start().await;
    let output = stage
        .signing()
        .get_open_id_token_for_developer_identity()
        .identity_pool_id(stage.id())
        .logins(PROVIDER, "user-42")
        .principal_tags("tenant", "t1")
        .token_duration(86_400)
        .send()
        .await
        .unwrap();
    let token = output.token().unwrap().to_owned();
    let claims = claims(&token);
    assert_eq!(
        claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(),
        86_400
    );
    assert_eq!(
        claims["https://aws.amazon.com/tags"],
        json!({ "principal_tags": { "tenant": ["t1"] } })
    );
    let arn = format!(
        "arn:aws:cognito-identity:us-east-1:123456789012:identitypool/{}",
        stage.id()
    );
    assert_eq!(
        claims["https://cognito-identity.amazonaws.com/identity-pool-arn"],
        arn.as_str()
    );

    stage.credentials(output.identity_id().unwrap(), &token).await;
    let record = stage.pool.requests_of("GetCredentialsForIdentity").pop().unwrap();
    assert_eq!(record.principal_tags["tenant"], "t1");
    assert_eq!(record.logins, [ISSUER]);
}

#[tokio::test]
async fn a_guest_that_is_linked_to_a_new_user_keeps_its_id() {
    let stage = Stage::start().await;
    let guest = stage.guest_id().await;
    let linked = stage
        .signing()
        .get_open_id_token_for_developer_identity()
        .identity_pool_id(stage.id())
        .identity_id(&guest)
        .logins(PROVIDER, "user-42")
        .send()
        .await
        .unwrap();
    assert_eq!(linked.identity_id(), Some(guest.as_str()));
    assert_eq!(stage.vend("user-42").await.0, guest);
    let (code, message) = error(
        stage
            .client()
            .get_credentials_for_identity()
            .identity_id(&guest)
            .send()
            .await,
    );
    assert_eq!(code, "NotAuthorizedException");
    assert_eq!(message, format!("Access to Identity '{guest}' is forbidden."));
}

#[tokio::test]
async fn lookup_finds_users_and_identities_in_pages() {
    let stage = Stage::start().await;
    let (id, _) = stage.vend("user-0").await;
    for index in 1..5 {
        let user = format!("user-{index}");
        stage.vend(&user).await;
        let merged = stage
            .signing()
            .merge_developer_identities()
            .identity_pool_id(stage.id())
            .developer_provider_name(PROVIDER)
            .source_user_identifier(&user)
            .destination_user_identifier("user-0")
            .send()
            .await
            .unwrap();
        assert_eq!(merged.identity_id(), Some(id.as_str()));
        assert_eq!(stage.vend(&user).await.0, id);
    }
    let lookup = || stage.signing().lookup_developer_identity().identity_pool_id(stage.id());
    let mut users = Vec::new();
    let mut token = None;
    for size in [2, 2, 1] {
        let page = lookup()
            .identity_id(&id)
            .max_results(2)
            .set_next_token(token)
            .send()
            .await
            .unwrap();
        assert_eq!(page.developer_user_identifier_list().len(), size);
        users.extend(page.developer_user_identifier_list().to_vec());
        token = page.next_token;
    }
    assert_eq!(token, None);
    assert_eq!(users, ["user-0", "user-1", "user-2", "user-3", "user-4"]);
    assert_eq!(
        lookup()
            .developer_user_identifier("user-3")
            .send()
            .await
            .unwrap()
            .identity_id(),
        Some(id.as_str())
    );
    let both = lookup()
        .identity_id(&id)
        .developer_user_identifier("user-3")
        .send()
        .await
        .unwrap();
    assert_eq!(both.developer_user_identifier_list(), ["user-3"]);
}

#[tokio::test]
async fn an_unlinked_user_gets_a_new_identity_and_the_old_one_is_inaccessible() {
    let stage = Stage::start().await;
    let (id, token) = stage.vend("user-42").await;
    stage
        .signing()
        .unlink_developer_identity()
        .identity_id(&id)
        .identity_pool_id(stage.id())
        .developer_provider_name(PROVIDER)
        .developer_user_identifier("user-42")
        .send()
        .await
        .unwrap();
    let call = stage
        .client()
        .get_credentials_for_identity()
        .identity_id(&id)
        .logins(ISSUER, token);
    assert_eq!(
        error(call.send().await).1,
        format!("Access to Identity '{id}' is forbidden.")
    );
    assert_ne!(stage.vend("user-42").await.0, id);
}

#[tokio::test]
async fn identities_are_described_listed_and_deleted() {
    let stage = Stage::start().await;
    let (user, guest) = (stage.vend("user-42").await.0, stage.guest_id().await);
    let described = stage
        .signing()
        .describe_identity()
        .identity_id(&user)
        .send()
        .await
        .unwrap();
    assert_eq!(described.logins(), [PROVIDER]);
    assert_eq!(described.creation_date(), described.last_modified_date());
    assert!(
        stage
            .signing()
            .describe_identity()
            .identity_id(&guest)
            .send()
            .await
            .unwrap()
            .logins()
            .is_empty()
    );

    for index in 0..5 {
        stage.vend(&format!("more-{index}")).await;
    }
    let mut listed = Vec::new();
    let mut token = None;
    loop {
        let page = stage
            .signing()
            .list_identities()
            .identity_pool_id(stage.id())
            .max_results(3)
            .set_next_token(token);
        let page = page.send().await.unwrap();
        assert!(page.identities().len() <= 3);
        listed.extend(
            page.identities()
                .iter()
                .map(|identity| identity.identity_id().unwrap().to_owned()),
        );
        token = page.next_token;
        if token.is_none() {
            break;
        }
    }
    assert_eq!(listed.len(), 7);
    assert_eq!(listed[..2], [user.clone(), guest.clone()]);

    let unknown = "us-east-1:00000000-0000-0000-0000-000000000000";
    let deletion = stage
        .signing()
        .delete_identities()
        .identity_ids_to_delete(&user)
        .identity_ids_to_delete(unknown);
    assert!(deletion.send().await.unwrap().unprocessed_identity_ids().is_empty());
    let (code, message) = error(stage.signing().describe_identity().identity_id(&user).send().await);
    assert_eq!(
        (code.as_str(), message),
        ("ResourceNotFoundException", format!("Identity '{user}' not found."))
    );
    assert_ne!(
        stage.vend("user-42").await.0,
        user,
        "a user who was deleted is a new identity"
    );
}

#[tokio::test]
async fn hidden_disabled_identities_are_not_listed() {
    let stage = Stage::start().await;
    stage.vend("a").await;
    stage.vend("b").await;
    let merge = stage
        .signing()
        .merge_developer_identities()
        .identity_pool_id(stage.id())
        .developer_provider_name(PROVIDER);
    merge
        .source_user_identifier("a")
        .destination_user_identifier("b")
        .send()
        .await
        .unwrap();
    let list = |hide| {
        stage
            .signing()
            .list_identities()
            .identity_pool_id(stage.id())
            .max_results(60)
            .hide_disabled(hide)
    };
    assert_eq!(list(false).send().await.unwrap().identities().len(), 2);
    assert_eq!(list(true).send().await.unwrap().identities().len(), 1);
}

#[tokio::test]
async fn pools_are_created_described_updated_listed_and_deleted() {
    let stage = Stage::start().await;
    let backend = &stage.signing();
    let created = backend
        .create_identity_pool()
        .identity_pool_name("second")
        .allow_unauthenticated_identities(true)
        .developer_provider_name("login.second")
        .identity_pool_tags("team", "a")
        .send()
        .await
        .unwrap();
    let id = created.identity_pool_id().to_owned();
    assert_eq!(created.allow_classic_flow(), None, "left out stays out");

    let described = backend
        .describe_identity_pool()
        .identity_pool_id(&id)
        .send()
        .await
        .unwrap();
    assert_eq!(described.developer_provider_name(), Some("login.second"));
    assert_eq!(described.identity_pool_tags().unwrap()["team"], "a");

    let updated = backend
        .update_identity_pool()
        .identity_pool_id(&id)
        .identity_pool_name("renamed")
        .allow_unauthenticated_identities(false)
        .send()
        .await
        .unwrap();
    assert_eq!(
        updated.developer_provider_name(),
        Some("login.second"),
        "cannot be changed, hence kept"
    );
    assert!(
        updated.identity_pool_tags().unwrap().is_empty(),
        "what is left out is reset"
    );
    assert_eq!(
        error(stage.client().get_id().identity_pool_id(&id).send().await).0,
        "NotAuthorizedException"
    );

    let pages = backend.list_identity_pools().max_results(1).into_paginator().send();
    let names: Vec<_> = pages
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .flat_map(|page| page.unwrap().identity_pools.unwrap())
        .map(|pool| pool.identity_pool_name.unwrap())
        .collect();
    assert_eq!(names, ["local", "renamed"]);

    backend
        .delete_identity_pool()
        .identity_pool_id(&id)
        .send()
        .await
        .unwrap();
    let (code, message) = error(backend.describe_identity_pool().identity_pool_id(&id).send().await);
    assert_eq!(
        (code.as_str(), message),
        ("ResourceNotFoundException", format!("IdentityPool '{id}' not found."))
    );
}

#[tokio::test]
async fn identities_of_one_pool_are_not_those_of_another() {
    let stage = Stage::start().await;
    let create = stage
        .signing()
        .create_identity_pool()
        .identity_pool_name("second")
        .allow_unauthenticated_identities(true);
    let other = create.developer_provider_name(PROVIDER).send().await.unwrap();
    let vended = stage
        .signing()
        .get_open_id_token_for_developer_identity()
        .identity_pool_id(other.identity_pool_id())
        .logins(PROVIDER, "user-42")
        .send()
        .await
        .unwrap();
    assert_ne!(vended.identity_id(), Some(stage.vend("user-42").await.0.as_str()));
    // A pool from the API has no roles.
    let call = stage
        .client()
        .get_credentials_for_identity()
        .identity_id(vended.identity_id.unwrap());
    let (code, _) = error(call.logins(ISSUER, vended.token.unwrap()).send().await);
    assert_eq!(code, "InvalidIdentityPoolConfigurationException");
}

#[tokio::test]
async fn roles_are_set_and_read_back() {
    let stage = Stage::start().await;
    let issuer = stage.pool.user_pool("us-east-1_Example", "client1").unwrap();
    let key = format!("{}:client1", issuer.provider_name());
    let mapping = RoleMapping::builder()
        .r#type(RoleMappingType::Token)
        .ambiguous_role_resolution(AmbiguousRoleResolutionType::Deny)
        .build()
        .unwrap();
    let set = stage.signing().set_identity_pool_roles().identity_pool_id(stage.id());
    set.roles("authenticated", ROLE)
        .role_mappings(&key, mapping.clone())
        .send()
        .await
        .unwrap();
    let got = stage
        .signing()
        .get_identity_pool_roles()
        .identity_pool_id(stage.id())
        .send()
        .await
        .unwrap();
    assert_eq!(got.roles().unwrap()["authenticated"], ROLE);
    assert_eq!(got.role_mappings().unwrap()[&key], mapping);
}

#[tokio::test]
async fn a_role_mapping_by_token_follows_the_token() {
    let stage = Stage::start().await;
    let issuer = stage.pool.user_pool("us-east-1_Example", "client1").unwrap();
    let mapping = RoleMapping::builder()
        .r#type(RoleMappingType::Token)
        .ambiguous_role_resolution(AmbiguousRoleResolutionType::Deny)
        .build()
        .unwrap();
    let set = stage
        .signing()
        .set_identity_pool_roles()
        .identity_pool_id(stage.id())
        .roles("authenticated", ROLE);
    set.role_mappings(format!("{}:client1", issuer.provider_name()), mapping)
        .send()
        .await
        .unwrap();

    let (a, b) = ("arn:aws:iam::123456789012:role/a", "arn:aws:iam::123456789012:role/b");
    let roles = |roles: &[&str]| issuer.token_for("s").claim("cognito:roles", roles.to_vec());
    assert_eq!(role_of(&stage, &issuer, roles(&[a]).issue(), None).await.unwrap(), "a");
    assert_eq!(
        role_of(
            &stage,
            &issuer,
            roles(&[a, b]).claim("cognito:preferred_role", b).issue(),
            None
        )
        .await
        .unwrap(),
        "b"
    );
    assert_eq!(
        role_of(&stage, &issuer, roles(&[a, b]).issue(), Some(b)).await.unwrap(),
        "b"
    );
    let (code, message) = role_of(&stage, &issuer, roles(&[a, b]).issue(), None)
        .await
        .unwrap_err();
    assert_eq!(code, "NotAuthorizedException");
    assert!(
        message.starts_with("The ambiguous role mapping rules for: cognito-idp."),
        "{message}"
    );
    assert!(role_of(&stage, &issuer, roles(&[a]).issue(), Some(b)).await.is_err());
}

/// The role with which a login of an issuer ends.
async fn role_of(
    stage: &Stage,
    issuer: &cognito_identity_pool::local::LocalIssuer,
    token: String,
    custom: Option<&str>,
) -> Result<String, (String, String)> {
    let get_id = stage
        .client()
        .get_id()
        .identity_pool_id(stage.id())
        .logins(issuer.provider_name(), &token);
    let id = get_id.send().await.unwrap().identity_id.unwrap();
    let call = stage
        .client()
        .get_credentials_for_identity()
        .identity_id(id)
        .logins(issuer.provider_name(), token);
    let output = call.set_custom_role_arn(custom.map(str::to_owned)).send().await;
    let credentials = match output {
        Ok(output) => output.credentials.unwrap(),
        refused => return Err(error(refused)),
    };
    let sts = aws_sdk_sts::Client::new(&signed_by(
        over_socket(stage.pool.client_config(), &stage.pool),
        &credentials,
    ));
    let arn = sts.get_caller_identity().send().await.unwrap().arn.unwrap();
    Ok(arn.split('/').nth(1).unwrap().to_owned())
}

#[tokio::test]
async fn a_role_mapping_by_rules_takes_the_first_that_matches() {
    let stage = Stage::start().await;
    let issuer = stage.pool.oidc_issuer("accounts.example.com").unwrap();
    let rule = |claim: &str, kind, value: &str, role: &str| {
        let role = format!("arn:aws:iam::123456789012:role/{role}");
        MappingRule::builder()
            .claim(claim)
            .match_type(kind)
            .value(value)
            .role_arn(role)
            .build()
            .unwrap()
    };
    let rules = RulesConfigurationType::builder()
        .rules(rule("group", MappingRuleMatchType::Equals, "admin", "admin-role"))
        .rules(rule(
            "email",
            MappingRuleMatchType::Contains,
            "@example.com",
            "staff-role",
        ))
        .rules(rule("plan", MappingRuleMatchType::StartsWith, "pro-", "pro-role"))
        .rules(rule("country", MappingRuleMatchType::NotEqual, "nl", "abroad-role"))
        .build()
        .unwrap();
    let mapping = RoleMapping::builder()
        .r#type(RoleMappingType::Rules)
        .ambiguous_role_resolution(AmbiguousRoleResolutionType::AuthenticatedRole)
        .rules_configuration(rules)
        .build()
        .unwrap();
    let set = stage
        .signing()
        .set_identity_pool_roles()
        .identity_pool_id(stage.id())
        .roles("authenticated", ROLE);
    set.role_mappings("accounts.example.com", mapping).send().await.unwrap();
    let token = |claim: &str, value: &str| {
        issuer
            .token_for("s")
            .claim("email", "a@example.com")
            .claim(claim, value)
            .issue()
    };
    assert_eq!(
        role_of(&stage, &issuer, token("group", "admin"), None).await.unwrap(),
        "admin-role"
    );
    assert_eq!(
        role_of(&stage, &issuer, token("group", "other"), None).await.unwrap(),
        "staff-role"
    );
    let plain = |claim: &str, value: &str| issuer.token_for("s").claim(claim, value).issue();
    assert_eq!(
        role_of(&stage, &issuer, plain("plan", "pro-7"), None).await.unwrap(),
        "pro-role"
    );
    assert_eq!(
        role_of(&stage, &issuer, plain("country", "de"), None).await.unwrap(),
        "abroad-role"
    );
    assert_eq!(
        role_of(&stage, &issuer, plain("country", "nl"), None).await.unwrap(),
        "app",
        "none: the default role"
    );
    let staff = "arn:aws:iam::123456789012:role/staff-role";
    assert_eq!(
        role_of(&stage, &issuer, token("group", "admin"), Some(staff))
            .await
            .unwrap(),
        "staff-role"
    );
}

#[tokio::test]
async fn a_social_login_runs_offline_and_merges_a_guest() {
    let stage = Stage::start().await;
    for host in [
        "graph.facebook.com",
        "accounts.google.com",
        "www.amazon.com",
        "appleid.apple.com",
        "login.example.org",
    ] {
        let issuer = stage.pool.oidc_issuer(host).unwrap();
        let get_id = || {
            stage
                .client()
                .get_id()
                .identity_pool_id(stage.id())
                .logins(host, issuer.token("s"))
        };
        let id = get_id().send().await.unwrap().identity_id.unwrap();
        assert_eq!(get_id().send().await.unwrap().identity_id.as_ref(), Some(&id), "{host}");
        let guest = stage.guest_id().await;
        let call = stage
            .client()
            .get_credentials_for_identity()
            .identity_id(&guest)
            .logins(host, issuer.token("s"));
        assert_eq!(
            call.send().await.unwrap().identity_id.as_ref(),
            Some(&id),
            "the owner's id comes back"
        );
        let reuse = stage
            .client()
            .get_credentials_for_identity()
            .identity_id(&guest)
            .send()
            .await;
        assert_eq!(error(reuse).1, format!("Access to Identity '{guest}' is forbidden."));
    }
}

/// The table of the observed identities of one device: guest, new user, signed out, the user again.
#[tokio::test]
async fn the_identities_of_one_device_are_as_observed() {
    let stage = Stage::start().await;
    let issuer = stage.pool.oidc_issuer("accounts.google.com").unwrap();
    let sign_in = async |guest: &str, sub: &str| {
        let call = stage
            .client()
            .get_credentials_for_identity()
            .identity_id(guest)
            .logins("accounts.google.com", issuer.token(sub));
        call.send().await.unwrap().identity_id.unwrap()
    };
    let first = stage.guest_id().await;
    assert_eq!(sign_in(&first, "U1").await, first, "a new user keeps the guest's id");
    let second = stage.guest_id().await;
    assert_eq!(sign_in(&second, "U1").await, first);
    let third = stage.guest_id().await;
    assert_eq!(sign_in(&third, "U2").await, third);
    let fourth = stage.guest_id().await;
    assert_eq!(sign_in(&fourth, "U1").await, first);
    assert_eq!(
        [&first, &second, &third, &fourth]
            .into_iter()
            .collect::<HashSet<_>>()
            .len(),
        4
    );
}

#[tokio::test]
async fn a_developer_user_is_linked_to_a_social_login_by_the_backend() {
    let stage = Stage::start().await;
    let issuer = stage.pool.oidc_issuer("graph.facebook.com").unwrap();
    let (id, _) = stage.vend("user-42").await;
    let both = stage
        .signing()
        .get_open_id_token_for_developer_identity()
        .identity_pool_id(stage.id())
        .logins(PROVIDER, "user-42")
        .logins("graph.facebook.com", issuer.token("f"))
        .send()
        .await
        .unwrap();
    assert_eq!(both.identity_id(), Some(id.as_str()));
    let described = stage
        .signing()
        .describe_identity()
        .identity_id(&id)
        .send()
        .await
        .unwrap();
    assert_eq!(described.logins(), ["graph.facebook.com", PROVIDER]);
    let social = stage
        .client()
        .get_id()
        .identity_pool_id(stage.id())
        .logins("graph.facebook.com", issuer.token("f"));
    assert_eq!(social.send().await.unwrap().identity_id(), Some(id.as_str()));

    let unlink = stage
        .client()
        .unlink_identity()
        .identity_id(&id)
        .logins("graph.facebook.com", issuer.token("f"));
    unlink.logins_to_remove("graph.facebook.com").send().await.unwrap();
    let described = stage
        .signing()
        .describe_identity()
        .identity_id(&id)
        .send()
        .await
        .unwrap();
    assert_eq!(described.logins(), [PROVIDER]);
}

#[tokio::test]
async fn the_classic_flow_ends_in_a_role_of_ones_own() {
    let stage = Stage::start().await;
    let guest = stage.guest_id().await;
    let token = stage
        .client()
        .get_open_id_token()
        .identity_id(&guest)
        .send()
        .await
        .unwrap()
        .token
        .unwrap();
    let claims = claims(&token);
    assert_eq!(claims["amr"], json!(["unauthenticated"]));
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 600);
    let assumed = stage
        .sts()
        .assume_role_with_web_identity()
        .role_arn(ROLE)
        .role_session_name("my-session")
        .web_identity_token(&token)
        .duration_seconds(900)
        .send()
        .await
        .unwrap();
    assert_eq!(assumed.subject_from_web_identity_token(), Some(guest.as_str()));
    assert_eq!(assumed.audience(), Some(stage.id()));
    assert_eq!(assumed.provider(), Some(ISSUER));
    assert_eq!(
        assumed.assumed_role_user().unwrap().arn(),
        "arn:aws:sts::123456789012:assumed-role/app/my-session"
    );
    let credentials = assumed.credentials.unwrap();
    let left = credentials.expiration().secs() - aws_smithy_types::DateTime::from(now(&stage)).secs();
    assert_eq!(left, 900);
    assert_eq!(stage.pool.identity_of(credentials.access_key_id()), Some(guest));
}

#[tokio::test]
async fn amr_names_the_login_as_aws_spells_it() {
    let stage = Stage::start().await;
    let oidc = stage.pool.oidc_issuer("accounts.example.com").unwrap();
    let users = stage.pool.user_pool("us-east-1_Example", "client1").unwrap();
    let amr = async |provider: &str, token: String| {
        let id = stage
            .client()
            .get_id()
            .identity_pool_id(stage.id())
            .logins(provider, &token)
            .send()
            .await
            .unwrap();
        let call = stage
            .client()
            .get_open_id_token()
            .identity_id(id.identity_id.unwrap())
            .logins(provider, token);
        claims(&call.send().await.unwrap().token.unwrap())["amr"].clone()
    };
    let arn = "arn:aws:iam::123456789012:oidc-provider/accounts.example.com:OIDC:s";
    assert_eq!(
        amr("accounts.example.com", oidc.token("s")).await,
        json!(["authenticated", "accounts.example.com", arn])
    );
    let name = users.provider_name();
    let user = format!("{name}:CognitoSignIn:s");
    assert_eq!(amr(name, users.token("s")).await, json!(["authenticated", name, user]));
}

#[tokio::test]
async fn claims_become_principal_tags_by_the_pools_map() {
    let stage = Stage::start().await;
    let issuer = stage.pool.oidc_issuer("accounts.example.com").unwrap();
    let set = || {
        stage
            .signing()
            .set_principal_tag_attribute_map()
            .identity_pool_id(stage.id())
            .identity_provider_name("accounts.example.com")
    };
    set().principal_tags("department", "dept").send().await.unwrap();
    let get = stage
        .signing()
        .get_principal_tag_attribute_map()
        .identity_pool_id(stage.id());
    let got = get.identity_provider_name("accounts.example.com").send().await.unwrap();
    assert_eq!(got.principal_tags().unwrap()["department"], "dept");
    assert_eq!(got.use_defaults(), Some(false));

    let sign_in = async || {
        let token = issuer.token_for("s").claim("dept", "legal").issue();
        role_of(&stage, &issuer, token, None).await.unwrap();
        stage
            .pool
            .requests_of("GetCallerIdentity")
            .pop()
            .unwrap()
            .principal_tags
    };
    assert_eq!(sign_in().await, [("department".to_owned(), "legal".to_owned())].into());
    set().use_defaults(true).send().await.unwrap();
    assert_eq!(
        sign_in().await,
        [
            ("client".to_owned(), "local-app".to_owned()),
            ("username".to_owned(), "s".to_owned())
        ]
        .into()
    );
}

#[tokio::test]
async fn pools_are_tagged_and_untagged() {
    let stage = Stage::start().await;
    let arn = format!(
        "arn:aws:cognito-identity:us-east-1:123456789012:identitypool/{}",
        stage.id()
    );
    stage
        .signing()
        .tag_resource()
        .resource_arn(&arn)
        .tags("a", "1")
        .tags("b", "2")
        .send()
        .await
        .unwrap();
    stage
        .signing()
        .untag_resource()
        .resource_arn(&arn)
        .tag_keys("a")
        .send()
        .await
        .unwrap();
    let tags = stage
        .signing()
        .list_tags_for_resource()
        .resource_arn(&arn)
        .send()
        .await
        .unwrap()
        .tags
        .unwrap();
    assert_eq!(tags, [("b".to_owned(), "2".to_owned())].into());
}

#[tokio::test]
async fn a_registered_role_is_asked_whether_it_trusts_the_token() {
    let policy = |amr: &str| {
        json!({ "Version": "2012-10-17", "Statement": [{
            "Effect": "Allow",
            "Principal": { "Federated": ISSUER },
            "Action": ["sts:AssumeRoleWithWebIdentity"],
            "Condition": { "ForAnyValue:StringLike": { "cognito-identity.amazonaws.com:amr": amr } },
        }] })
        .to_string()
    };
    let role = |amr| LocalRole::new(ROLE, &policy(amr)).unwrap();
    let trusting = Stage::with(|pool| pool.role(role(PROVIDER)).authenticated_role(ROLE)).await;
    let (id, token) = trusting.vend("user-42").await;
    trusting.credentials(&id, &token).await;

    let other = Stage::with(|pool| pool.role(role("login.other")).authenticated_role(ROLE)).await;
    let (id, token) = other.vend("user-42").await;
    let call = other
        .client()
        .get_credentials_for_identity()
        .identity_id(id)
        .logins(ISSUER, token);
    assert_eq!(error(call.send().await).0, "InvalidIdentityPoolConfigurationException");
}

#[tokio::test]
async fn a_user_pool_can_be_configured_over_the_api() {
    let stage = Stage::start().await;
    let provider = CognitoIdentityProvider::builder()
        .provider_name("cognito-idp.us-east-1.amazonaws.com/us-east-1_Example")
        .client_id("client1")
        .server_side_token_check(false)
        .build();
    let create = stage
        .signing()
        .create_identity_pool()
        .identity_pool_name("users")
        .allow_unauthenticated_identities(false);
    let created = create
        .cognito_identity_providers(provider.clone())
        .send()
        .await
        .unwrap();
    assert_eq!(created.cognito_identity_providers(), [provider]);
    let issuer = stage.pool.user_pool("us-east-1_Example", "client1").unwrap();
    let get_id = stage.client().get_id().identity_pool_id(created.identity_pool_id());
    get_id
        .logins(issuer.provider_name(), issuer.token("s"))
        .send()
        .await
        .unwrap();
}

#[tokio::test]
async fn options_settle_what_the_documentation_leaves_open() {
    // A guest and a user with another identity.
    let merging = Stage::with(|pool| pool.merge_guests(true)).await;
    let (id, _) = merging.vend("user-42").await;
    let guest = merging.guest_id().await;
    let call = merging
        .signing()
        .get_open_id_token_for_developer_identity()
        .identity_pool_id(merging.id());
    let merged = call
        .identity_id(&guest)
        .logins(PROVIDER, "user-42")
        .send()
        .await
        .unwrap();
    assert_eq!(merged.identity_id(), Some(id.as_str()));

    // The type of the wrong provider's error.
    let other = Stage::with(|pool| pool.wrong_provider_is_invalid_parameter(true)).await;
    let call = other
        .signing()
        .get_open_id_token_for_developer_identity()
        .identity_pool_id(other.id());
    assert_eq!(
        error(call.logins("login.other", "u").send().await).0,
        "InvalidParameterException"
    );

    // A custom role with a developer token.
    let ignoring = Stage::with(|pool| pool.ignore_custom_role(true)).await;
    let (id, token) = ignoring.vend("user-42").await;
    let call = ignoring
        .client()
        .get_credentials_for_identity()
        .identity_id(id)
        .logins(ISSUER, token);
    call.custom_role_arn(ROLE).send().await.unwrap();

    // A developer token at STS though the classic flow is off.
    for (refuse, expected) in [(false, ""), (true, "AccessDenied")] {
        let stage = Stage::with(|pool| pool.allow_classic_flow(false).refuse_classic_exchange(refuse)).await;
        let (_, token) = stage.vend("user-42").await;
        let call = stage
            .sts()
            .assume_role_with_web_identity()
            .role_arn(ROLE)
            .role_session_name("session");
        assert_eq!(error(call.web_identity_token(token).send().await).0, expected);
    }

    // Grace after a token's end.
    let gracious = Stage::with(|pool| pool.token_grace(Duration::from_secs(60))).await;
    let (id, token) = gracious.vend("user-42").await;
    gracious.clock.advance(Duration::from_secs(959));
    gracious.credentials(&id, &token).await;
}

#[tokio::test]
async fn the_issuer_of_china_has_its_own_host() {
    let stage = Stage::with(|pool| pool.region("cn-north-1")).await;
    let (id, token) = stage.vend("user-42").await;
    let host = "cognito-identity.cn-north-1.amazonaws.com.cn";
    assert_eq!(
        (stage.pool.issuer_host(), claims(&token)["iss"].as_str()),
        (host, Some(format!("https://{host}").as_str()))
    );
    let call = || stage.client().get_credentials_for_identity().identity_id(&id);
    call().logins(host, &token).send().await.unwrap();
    let (_, message) = error(call().logins(ISSUER, &token).send().await);
    assert_eq!(message, "Invalid login token. Issuer doesn't match providerName");
}

#[tokio::test]
async fn pools_and_roles_come_from_a_file() {
    let second = "us-east-1:11111111-2222-3333-4444-555555555555";
    let file = |amr: &str| {
        json!({
            "IdentityPools": [{
                "IdentityPoolId": second,
                "IdentityPoolName": "second",
                "AllowUnauthenticatedIdentities": true,
                "Roles": { "unauthenticated": ROLE },
            }],
            "Roles": [{
                "RoleArn": ROLE,
                "MaxSessionDuration": 7200,
                "TrustPolicy": { "Statement": [{
                    "Effect": "Allow",
                    "Principal": { "Federated": ISSUER },
                    "Action": "sts:AssumeRoleWithWebIdentity",
                    "Condition": { "ForAnyValue:StringEquals": { "cognito-identity.amazonaws.com:amr": amr } },
                }] },
            }],
        })
        .to_string()
    };
    for (amr, expected) in [
        ("unauthenticated", ""),
        ("authenticated", "InvalidIdentityPoolConfigurationException"),
    ] {
        let stage = Stage::with(|pool| pool.pools_file(&file(amr)).unwrap()).await;
        let guest = stage
            .client()
            .get_id()
            .identity_pool_id(second)
            .send()
            .await
            .unwrap()
            .identity_id
            .unwrap();
        let call = stage.client().get_credentials_for_identity().identity_id(guest);
        assert_eq!(error(call.send().await).0, expected);
    }
    for wrong in [
        "",
        "[]",
        r#"{"Pools":[]}"#,
        r#"{"IdentityPools":[{"IdentityPoolName":"no id"}]}"#,
    ] {
        assert!(LocalIdentityPool::builder().pools_file(wrong).is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn settings_that_cognito_refuses_do_not_start() {
    for builder in [
        LocalIdentityPool::builder().developer_provider("with a space"),
        LocalIdentityPool::builder().identity_pool_id("eu-west-1:00000000-0000-0000-0000-000000000000"),
        LocalIdentityPool::builder().identity_pool_id("us-east-1:NOT-HEX"),
    ] {
        assert!(builder.start().await.is_err());
    }
    let taken = LocalIdentityPool::builder().start().await.unwrap();
    let port = taken.endpoint_url().rsplit(':').next().unwrap().parse().unwrap();
    assert!(LocalIdentityPool::builder().port(port).start().await.is_err());
}

/// `start` needs no runtime: it can be driven by anything.
#[test]
fn a_pool_starts_without_a_runtime() {
    let mut start = std::pin::pin!(LocalIdentityPool::builder().start());
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(matches!(
        start.as_mut().poll(&mut context),
        std::task::Poll::Ready(Ok(_))
    ));
}
