//! Every refusal of the local pool, over a socket, in the service's words; and input that nobody should send.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::stage::{ISSUER, PROVIDER, Stage, error, over_socket, signed_by};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_cognitoidentity::Client;
use aws_types::SdkConfig;
use cognito_identity_pool::{
    LocalIdentityPool,
    local::{LocalClock, LocalFault, LocalRole},
};
use serde_json::{Value, json};

const NOBODY: &str = "us-east-1:00000000-0000-0000-0000-000000000000";
const ROLE: &str = "arn:aws:iam::123456789012:role/app";

const NOT_AUTHORIZED: &str = "NotAuthorizedException";
const NOT_FOUND: &str = "ResourceNotFoundException";
const PARAMETER: &str = "InvalidParameterException";
const CONFLICT: &str = "ResourceConflictException";
const VALIDATION: &str = "ValidationException";

/// Checks type, message (where the text is known) and rule of the last refusal, and that it was sent as it should be.
#[track_caller]
fn expect(stage: &Stage, rule: &str, (code, message): (String, String), expected: &str, text: &str) {
    assert_eq!((stage.last_rule(), code.as_str()), (rule, expected), "{message}");
    if !text.is_empty() {
        assert_eq!(message, text);
    }
    let known = LocalIdentityPool::rules().find(|row| row.id == rule).unwrap();
    assert_eq!(known.error, expected);
    SEEN.lock().unwrap().insert(rule.to_owned());
}

static SEEN: std::sync::Mutex<BTreeSet<String>> = std::sync::Mutex::new(BTreeSet::new());

/// All groups below in one test, since the last step is that no rule was forgotten.
#[tokio::test]
async fn every_rule_of_the_table_refuses_what_it_says() {
    callers().await;
    protocol().await;
    pools().await;
    logins().await;
    tokens().await;
    developers().await;
    links().await;
    flows_and_roles().await;
    sts().await;
    injected().await;
    throttled().await;

    let seen = SEEN.lock().unwrap();
    // Refused before there is a request to record, or after a million of them; they have tests of their own.
    let apart = [
        "BodyTooLarge",
        "IdentityLimit",
        "TrustPolicyMalformed",
        "TrustPolicyNotJudged",
    ];
    let missed: Vec<_> = LocalIdentityPool::rules()
        .filter(|rule| !rule.error.is_empty() && !seen.contains(rule.id) && !apart.contains(&rule.id))
        .map(|rule| rule.id)
        .collect();
    assert!(missed.is_empty(), "never provoked: {missed:?}");
}

fn developer(config: SdkConfig, key: &str, secret: &str) -> Client {
    let provider = SharedCredentialsProvider::new(Credentials::new(key, secret, None, None, "test"));
    Client::new(&config.into_builder().credentials_provider(provider).build())
}

async fn callers() {
    let s = Stage::start().await;
    let config = || over_socket(s.pool.backend_config(), &s.pool);
    let real = s.pool.developer_credentials();

    let got = s.json("ListIdentityPools", json!({ "MaxResults": 1 }), false).await;
    expect(
        &s,
        "MissingAuthentication",
        got,
        "MissingAuthenticationTokenException",
        "",
    );
    let client = developer(config(), "AKIAAAAAAAAAAAAAAAAA", "secret");
    let got = error(client.list_identity_pools().max_results(1).send().await);
    expect(&s, "UnknownAccessKey", got, "UnrecognizedClientException", "");
    let client = developer(config(), real.access_key_id(), "another secret");
    let got = error(client.list_identity_pools().max_results(1).send().await);
    expect(&s, "InvalidSignature", got, "InvalidSignatureException", "");
    let client = developer(
        config()
            .into_builder()
            .region(aws_types::region::Region::new("eu-west-1"))
            .build(),
        real.access_key_id(),
        real.secret_access_key(),
    );
    let got = error(client.list_identity_pools().max_results(1).send().await);
    expect(&s, "InvalidSignature", got, "InvalidSignatureException", "");

    for offset in [-301, 301] {
        // A clock of its own for the client; without retries, or the SDK corrects it.
        s.pool.faults().set_clock_offset(offset);
        let config = config()
            .into_builder()
            .retry_config(aws_smithy_types::retry::RetryConfig::disabled())
            .build();
        let got = error(Client::new(&config).list_identity_pools().max_results(1).send().await);
        expect(&s, "SignatureTime", got, "InvalidSignatureException", "");
    }
    s.pool.faults().clear();

    let (id, token) = s.vend("user-42").await;
    let vended = s.credentials(&id, &token).await;
    let user = Client::new(&signed_by(config(), &vended));
    let got = error(user.describe_identity_pool().identity_pool_id(s.id()).send().await);
    let arn = "arn:aws:sts::123456789012:assumed-role/local-authenticated/CognitoIdentityCredentials";
    let pool = format!(
        "arn:aws:cognito-identity:us-east-1:123456789012:identitypool/{}",
        s.id()
    );
    let text =
        format!("User: {arn} is not authorized to perform: cognito-identity:DescribeIdentityPool on resource: {pool}");
    expect(&s, "AccessDenied", got, "AccessDeniedException", &text);
    s.clock.advance(Duration::from_secs(3600));
    let got = error(user.describe_identity_pool().identity_pool_id(s.id()).send().await);
    expect(&s, "SignerExpired", got, "ExpiredTokenException", "");

    let s = Stage::with(|pool| pool.deny("GetId").deny("DescribeIdentityPool")).await;
    let got = error(s.client().get_id().identity_pool_id(s.id()).send().await);
    let text = "User: anonymous is not authorized to perform: cognito-identity:GetId on resource: * with an explicit deny in a resource control policy";
    expect(&s, "DeniedByResourcePolicy", got, "AccessDeniedException", text);
    let got = error(
        s.signing()
            .describe_identity_pool()
            .identity_pool_id(s.id())
            .send()
            .await,
    );
    expect(&s, "AccessDenied", got, "AccessDeniedException", "");
}

/// Status and body of a POST without the SDK.
async fn post(s: &Stage, headers: &[(&str, &str)], body: &str) -> (u16, String) {
    let mut request = reqwest::Client::new().post(s.pool.endpoint_url()).body(body.to_owned());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

async fn protocol() {
    let s = Stage::start().await;
    let got = s.json("NoSuchOperation", json!({}), false).await;
    expect(&s, "UnknownOperation", got, "UnknownOperationException", "");
    for body in ["", "no json", "{", "\u{feff}{}"] {
        let got = s.call("GetId", body, false).await;
        expect(&s, "NotJson", got, "SerializationException", "");
    }
    for body in ["\"text\"", "5", "null"] {
        let got = s.call("GetId", body, false).await;
        expect(&s, "ExpectedOther", got, "SerializationException", "Expected null");
    }
    let list = "Start of list found where not expected";
    let got = s.call("GetId", "[]", false).await;
    expect(&s, "WrongType", got, "SerializationException", list);
    for (member, value, rule, text) in [
        ("IdentityPoolId", json!(["a"]), "WrongType", list),
        (
            "IdentityPoolId",
            json!({}),
            "WrongType",
            "Start of structure or map found where not expected.",
        ),
        ("Logins", json!([]), "WrongType", list),
        ("Logins", json!("a"), "ExpectedOther", "Expected null"),
        ("Logins", json!({ "a": 5 }), "WrongScalar", ""),
    ] {
        let got = s.json("GetId", json!({ member: value }), false).await;
        expect(&s, rule, got, "SerializationException", text);
    }
    for (value, rule, text) in [
        (json!("a"), "ExpectedOther", "Expected list or null"),
        (
            json!({}),
            "WrongType",
            "Start of structure or map found where not expected.",
        ),
        (json!([["a"]]), "WrongType", list),
    ] {
        let got = s
            .json("DeleteIdentities", json!({ "IdentityIdsToDelete": value }), true)
            .await;
        expect(&s, rule, got, "SerializationException", text);
    }
    let tags = json!({ "IdentityPoolId": s.id(), "Logins": { PROVIDER: "u" }, "PrincipalTags": { "a": ["b"] } });
    let got = s.json("GetOpenIdTokenForDeveloperIdentity", tags, true).await;
    expect(
        &s,
        "WrongType",
        got,
        "SerializationException",
        "Start of list found where not expected",
    );
    for value in [json!(5), json!(true), json!(false)] {
        let got = s.json("GetId", json!({ "IdentityPoolId": value }), false).await;
        expect(&s, "WrongScalar", got, "SerializationException", "");
    }
    let got = s.json("ListIdentityPools", json!({ "MaxResults": 1.5 }), true).await;
    expect(&s, "WrongScalar", got, "SerializationException", "");

    let response = reqwest::get(format!("{}/nothing", s.pool.endpoint_url()))
        .await
        .unwrap();
    let got = (
        if response.status() == 404 {
            "UnknownError".to_owned()
        } else {
            String::new()
        },
        response.text().await.unwrap(),
    );
    expect(&s, "NotFound", got, "UnknownError", "Not Found");

    let target = ("x-amz-target", "AWSCognitoIdentityService.ListIdentityPools");
    for header in ["AWS4-HMAC-SHA256 Credential=x", "Bearer x", "", "AWS4-HMAC-SHA256 é"] {
        let (status, body) = post(&s, &[target, ("authorization", header)], "{}").await;
        let body: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(status, 400);
        let got = (body["__type"].as_str().unwrap().to_owned(), String::new());
        expect(&s, "IncompleteSignature", got, "IncompleteSignatureException", "");
    }

    // The constraints: the texts of the service.
    let long = "x".repeat(1025);
    let wide = "us-east-1:".to_owned() + &"a".repeat(50);
    let tags: Value = (0..51)
        .map(|index| (index.to_string(), json!("v")))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let logins: Value = (0..11)
        .map(|index| (index.to_string(), json!("v")))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let dev = "GetOpenIdTokenForDeveloperIdentity";
    let one = |value: &str, at: &str, constraint: &str| {
        format!("1 validation error detected: Value '{value}' at '{at}' failed to satisfy constraint: {constraint}")
    };
    let map = "Map value must satisfy constraint: [Member must have length less than or equal to 50000, Member must have length greater than or equal to 1]";
    let cases = [
        ("GetId", json!({ "IdentityPoolId": "us-east-2:mock" }),
            one("us-east-2:mock", "identityPoolId", r"Member must satisfy regular expression pattern: [\w-]+:[0-9a-f-]+")),
        ("GetId", json!({ "IdentityPoolId": wide }),
            one(&wide, "identityPoolId", "Member must have length less than or equal to 55")),
        ("GetId", json!({}),
            "1 validation error detected: Value null at 'identityPoolId' failed to satisfy constraint: Member must not be null".to_owned()),
        (dev, json!({ "IdentityPoolId": s.id() }),
            "1 validation error detected: Value null at 'logins' failed to satisfy constraint: Member must not be null".to_owned()),
        (dev, json!({ "IdentityPoolId": s.id(), "Logins": { PROVIDER: "" } }), one(&format!("{{{PROVIDER}=}}"), "logins", map)),
        (dev, json!({ "IdentityPoolId": s.id(), "Logins": logins }), String::new()),
        (dev, json!({ "IdentityPoolId": s.id(), "Logins": { PROVIDER: long } }),
            one(&long, "logins", "Member must have length less than or equal to 1024")),
        (dev, json!({ "IdentityPoolId": s.id(), "Logins": { PROVIDER: "u" }, "TokenDuration": 86_401 }),
            one("86401", "tokenDuration", "Member must have value less than or equal to 86400")),
        (dev, json!({ "IdentityPoolId": s.id(), "Logins": { PROVIDER: "u" }, "TokenDuration": 0 }),
            one("0", "tokenDuration", "Member must have value greater than or equal to 1")),
        (dev, json!({ "IdentityPoolId": s.id(), "Logins": { PROVIDER: "u" }, "PrincipalTags": tags }), String::new()),
        ("CreateIdentityPool", json!({ "IdentityPoolName": "a/b", "AllowUnauthenticatedIdentities": true }),
            one("a/b", "identityPoolName", r"Member must satisfy regular expression pattern: [\w\s+=,.@-]+")),
        ("CreateIdentityPool",
            json!({ "IdentityPoolName": "a", "AllowUnauthenticatedIdentities": true, "DeveloperProviderName": "a b" }),
            one("a b", "developerProviderName", r"Member must satisfy regular expression pattern: [\w._-]+")),
        ("ListIdentityPools", json!({ "MaxResults": 61 }),
            one("61", "maxResults", "Member must have value less than or equal to 60")),
        ("ListIdentityPools", json!({ "MaxResults": 1, "NextToken": "a b" }),
            one("a b", "nextToken", r"Member must satisfy regular expression pattern: [\S]+")),
        ("DeleteIdentities", json!({ "IdentityIdsToDelete": [] }), String::new()),
        ("DeleteIdentities", json!({ "IdentityIdsToDelete": ["x"] }), String::new()),
        ("SetIdentityPoolRoles", json!({ "IdentityPoolId": s.id(), "Roles": { "other": ROLE } }), String::new()),
        ("SetIdentityPoolRoles",
            json!({ "IdentityPoolId": s.id(), "Roles": {}, "RoleMappings": { "p": { "Type": "Other" } } }),
            one("Other", "roleMappings.p.member.type", "Member must satisfy enum value set: [Token, Rules]")),
    ];
    for (operation, body, text) in cases {
        let signed = operation != "GetId";
        let got = s.json(operation, body, signed).await;
        expect(&s, "Constraint", got, VALIDATION, &text);
    }
    let (_, message) = s.json("MergeDeveloperIdentities", json!({}), true).await;
    assert!(message.starts_with("4 validation errors detected: "), "{message}");
}

async fn pools() {
    let s = Stage::start().await;
    let got = error(s.client().get_id().identity_pool_id(NOBODY).send().await);
    expect(
        &s,
        "PoolNotFound",
        got,
        NOT_FOUND,
        &format!("IdentityPool '{NOBODY}' not found."),
    );
    for operation in [
        "DescribeIdentityPool",
        "DeleteIdentityPool",
        "GetIdentityPoolRoles",
        "UpdateIdentityPool",
        "SetIdentityPoolRoles",
    ] {
        let body = json!({ "IdentityPoolId": NOBODY, "IdentityPoolName": "a", "AllowUnauthenticatedIdentities": true, "Roles": {} });
        let got = s.json(operation, body, true).await;
        expect(
            &s,
            "PoolNotFound",
            got,
            NOT_FOUND,
            &format!("IdentityPool '{NOBODY}' not found."),
        );
    }
    let text = format!("Identity '{NOBODY}' not found.");
    let got = error(
        s.client()
            .get_credentials_for_identity()
            .identity_id(NOBODY)
            .send()
            .await,
    );
    expect(&s, "IdentityNotFound", got, NOT_FOUND, &text);
    let got = error(s.client().get_open_id_token().identity_id(NOBODY).send().await);
    expect(&s, "IdentityNotFound", got, NOT_FOUND, &text);
    let dev = s
        .signing()
        .get_open_id_token_for_developer_identity()
        .identity_pool_id(s.id())
        .logins(PROVIDER, "u");
    let got = error(dev.identity_id(NOBODY).send().await);
    expect(&s, "IdentityNotFound", got, NOT_FOUND, &text);

    let arn = "arn:aws:cognito-identity:us-east-1:123456789012:identitypool/us-east-1:none";
    let got = error(s.signing().list_tags_for_resource().resource_arn(arn).send().await);
    expect(&s, "ArnNotFound", got, NOT_FOUND, "");
    let arn = format!(
        "arn:aws:cognito-identity:us-east-1:123456789012:identitypool/{}",
        s.id()
    );
    for part in 0..2 {
        let mut call = s.signing().tag_resource().resource_arn(&arn);
        for index in 0..26 {
            call = call.tags(format!("{part}-{index}"), "v");
        }
        let got = error(call.send().await);
        if part == 1 {
            expect(&s, "TagLimit", got, PARAMETER, "");
        }
    }

    let update = s
        .signing()
        .update_identity_pool()
        .identity_pool_id(s.id())
        .identity_pool_name("a");
    let update = update
        .allow_unauthenticated_identities(true)
        .developer_provider_name("login.other");
    let got = error(update.send().await);
    expect(&s, "DeveloperProviderFixed", got, PARAMETER, "");
    let set = |body: Value| {
        let mut all = json!({ "IdentityPoolId": s.id(), "Roles": { "authenticated": ROLE } });
        all.as_object_mut().unwrap().extend(body.as_object().unwrap().clone());
        s.json("SetIdentityPoolRoles", all, true)
    };
    let got = set(json!({ "RoleMappings": { "accounts.example.com": { "Type": "Token" } } })).await;
    let text = "accounts.example.com is not a valid RoleMapping ProviderName or is not a configured provider.";
    expect(&s, "RoleMappingProvider", got, PARAMETER, text);
    s.pool.oidc_issuer("accounts.example.com").unwrap();
    for mapping in [
        json!({ "Type": "Token" }),
        json!({ "Type": "Rules", "AmbiguousRoleResolution": "Deny" }),
    ] {
        let got = set(json!({ "RoleMappings": { "accounts.example.com": mapping } })).await;
        expect(&s, "RoleMappingIncomplete", got, PARAMETER, "");
    }
    for role in ["no ARN, but twenty long", "arn:aws:iam::999999999999:role/app"] {
        let got = set(json!({ "Roles": { "authenticated": role } })).await;
        expect(
            &s,
            "RoleForbidden",
            got,
            NOT_AUTHORIZED,
            &format!("Access to Role '{role}' is forbidden."),
        );
    }

    let user_pool =
        |name: &str| json!({ "CognitoIdentityProviders": [{ "ProviderName": name, "ClientId": "client1" }] });
    let without_client = json!({ "CognitoIdentityProviders": [
        { "ProviderName": "cognito-idp.us-east-1.amazonaws.com/us-east-1_Example" },
    ] });
    let arn = "arn:aws:iam::123456789012:oidc-provider/";
    for (settings, rule, text) in [
        (
            user_pool("us-east-1_Example"),
            "InvalidUserPool",
            "Invalid Cognito Identity Provider",
        ),
        (
            user_pool("cognito-idp.us-east-1.amazonaws.com/eu-west-1_Example"),
            "InvalidUserPool",
            "",
        ),
        (
            user_pool("cognito-idp.us-east-1.amazonaws.com/us-east-1_"),
            "InvalidUserPool",
            "",
        ),
        (
            user_pool("cognito-idp.us-east-1.example.com/us-east-1_Example"),
            "InvalidUserPool",
            "",
        ),
        (without_client, "InvalidUserPool", ""),
        (
            json!({ "SupportedLoginProviders": { "accounts.example.com": "app" } }),
            "InvalidLoginProvider",
            "",
        ),
        (
            json!({ "OpenIdConnectProviderARNs": ["accounts.example.com/and/more"] }),
            "InvalidProviderArn",
            "",
        ),
        (json!({ "OpenIdConnectProviderARNs": [arn] }), "InvalidProviderArn", ""),
        (
            json!({ "SamlProviderARNs": [format!("{arn}accounts.example.com")] }),
            "InvalidProviderArn",
            "",
        ),
    ] {
        for operation in ["CreateIdentityPool", "UpdateIdentityPool"] {
            let mut body =
                json!({ "IdentityPoolId": s.id(), "IdentityPoolName": "a", "AllowUnauthenticatedIdentities": true });
            body.as_object_mut()
                .unwrap()
                .extend(settings.as_object().unwrap().clone());
            let got = s.json(operation, body, true).await;
            expect(&s, rule, got, PARAMETER, text);
        }
    }
    let rule = json!({ "Claim": "a", "MatchType": "Equals", "Value": "b", "RoleARN": ROLE });
    let rules = |count: usize| {
        json!({ "RoleMappings": { "accounts.example.com": {
            "Type": "Rules",
            "AmbiguousRoleResolution": "Deny",
            "RulesConfiguration": { "Rules": vec![rule.clone(); count] },
        } } })
    };
    assert_eq!(set(rules(25)).await.0, "");
    expect(&s, "RoleMappingRules", set(rules(26)).await, PARAMETER, "");
    let tags =
        |provider: &str| json!({ "IdentityPoolId": s.id(), "IdentityProviderName": provider, "PrincipalTags": {} });
    let got = s
        .json("SetPrincipalTagAttributeMap", tags("accounts.other.com"), true)
        .await;
    expect(&s, "TagMapProvider", got, PARAMETER, "");
    let text = "No Principal Tags configured for Provider accounts.example.com";
    let got = s
        .json("GetPrincipalTagAttributeMap", tags("accounts.example.com"), true)
        .await;
    expect(&s, "PrincipalTagsNotFound", got, NOT_FOUND, text);

    let full = LocalIdentityPool::builder().start().await.unwrap();
    let client = Client::new(&full.backend_config());
    let create = || {
        client
            .create_identity_pool()
            .identity_pool_name("a")
            .allow_unauthenticated_identities(false)
            .send()
    };
    for _ in 1..1000 {
        create().await.unwrap();
    }
    assert_eq!(error(create().await).0, "LimitExceededException");
    SEEN.lock()
        .unwrap()
        .insert(full.requests().last().unwrap().rule.unwrap().to_owned());
}

async fn logins() {
    let s = Stage::with(|pool| pool.allow_guests(false)).await;
    let text = "Unauthenticated access is not supported for this identity pool.";
    let got = error(s.client().get_id().identity_pool_id(s.id()).send().await);
    expect(&s, "GuestsNotAllowed", got, NOT_AUTHORIZED, text);
    let (id, _) = s.vend("user-42").await;
    let got = error(s.client().get_credentials_for_identity().identity_id(&id).send().await);
    expect(&s, "GuestsNotAllowed", got, NOT_AUTHORIZED, text);

    let s = Stage::start().await;
    let (id, token) = s.vend("user-42").await;
    let (other, other_token) = s.vend("user-43").await;
    let forbidden = format!("Access to Identity '{id}' is forbidden.");
    let get = |id: &str| s.client().get_credentials_for_identity().identity_id(id);
    let got = error(get(&id).send().await);
    expect(&s, "IdentityForbidden", got, NOT_AUTHORIZED, &forbidden);
    let mismatch = "Logins don't match. Please include at least one valid login for this identity or identity pool.";
    let got = error(get(&id).logins(ISSUER, &other_token).send().await);
    expect(&s, "LoginsDontMatch", got, NOT_AUTHORIZED, mismatch);
    let merge = s
        .signing()
        .merge_developer_identities()
        .identity_pool_id(s.id())
        .developer_provider_name(PROVIDER);
    merge
        .source_user_identifier("user-42")
        .destination_user_identifier("user-43")
        .send()
        .await
        .unwrap();
    let got = error(get(&id).logins(ISSUER, &token).send().await);
    expect(&s, "IdentityForbidden", got, NOT_AUTHORIZED, &forbidden);

    let passed = "Invalid login token. Can't pass in a Cognito token.";
    let (_, token) = s.vend("user-42").await;
    for key in [ISSUER, PROVIDER] {
        let got = error(
            s.client()
                .get_id()
                .identity_pool_id(s.id())
                .logins(key, &token)
                .send()
                .await,
        );
        expect(&s, "CognitoTokenPassed", got, NOT_AUTHORIZED, passed);
    }
    let got = error(
        s.client()
            .get_open_id_token()
            .identity_id(&other)
            .logins(ISSUER, &token)
            .send()
            .await,
    );
    expect(&s, "CognitoTokenPassed", got, NOT_AUTHORIZED, passed);
    let got = error(get(&other).logins(PROVIDER, &token).send().await);
    expect(&s, "CognitoTokenPassed", got, NOT_AUTHORIZED, passed);
    let got = error(get(&other).logins(PROVIDER, "user-42").send().await);
    expect(
        &s,
        "PublicProviderOnly",
        got,
        PARAMETER,
        "Please provide a valid public provider",
    );
    let unsupported = "Token is not from a supported provider of this identity pool.";
    let got = error(
        s.client()
            .get_id()
            .identity_pool_id(s.id())
            .logins("accounts.google.com", "x")
            .send()
            .await,
    );
    expect(&s, "UnsupportedProvider", got, NOT_AUTHORIZED, unsupported);

    let google = s.pool.oidc_issuer("accounts.google.com").unwrap();
    let facebook = s.pool.oidc_issuer("graph.facebook.com").unwrap();
    let get_id = |provider: &str, token: String| {
        s.client()
            .get_id()
            .identity_pool_id(s.id())
            .logins(provider, token)
            .send()
    };
    let got = error(
        get_id(
            "accounts.google.com",
            google.token_for("s").audience("other-app").issue(),
        )
        .await,
    );
    expect(&s, "UnsupportedProvider", got, NOT_AUTHORIZED, unsupported);
    let got = error(get_id("accounts.google.com", google.token_for("s").forged().issue()).await);
    expect(
        &s,
        "BadTokenSignature",
        got,
        NOT_AUTHORIZED,
        "Invalid login token. Couldn't verify signed token.",
    );
    let got = error(
        get_id(
            "accounts.google.com",
            google.token_for("s").issuer("https://evil.example").issue(),
        )
        .await,
    );
    expect(
        &s,
        "IssuerMismatch",
        got,
        NOT_AUTHORIZED,
        "Invalid login token. Issuer doesn't match providerName",
    );
    let got = error(get_id("accounts.google.com", google.token_for("s").without_audience().issue()).await);
    expect(
        &s,
        "MissingClaim",
        got,
        NOT_AUTHORIZED,
        "Invalid login token. Missing a required claim: aud",
    );
    let got = error(get_id("graph.facebook.com", "garbage".to_owned()).await);
    expect(&s, "InvalidToken", got, NOT_AUTHORIZED, "");
    let text = "Invalid login token. Not a valid OpenId Connect identity token.";
    let got = error(get_id("accounts.google.com", "garbage".to_owned()).await);
    expect(&s, "NotAnIdToken", got, NOT_AUTHORIZED, text);
    google.set_unavailable(true);
    let got = error(get_id("accounts.google.com", google.token("s")).await);
    expect(&s, "ExternalService", got, "ExternalServiceException", "");
    google.set_unavailable(false);

    let short = Duration::from_secs(60);
    let (jwt, opaque) = (
        google.token_for("s").lifetime(short).issue(),
        facebook.token_for("s").lifetime(short).issue(),
    );
    // Tokens of OpenID Connect have five minutes of grace, those of Facebook and others none.
    get_id("graph.facebook.com", opaque.clone()).await.unwrap();
    s.clock.advance(short + Duration::from_secs(299));
    get_id("accounts.google.com", jwt.clone()).await.unwrap();
    s.clock.advance(Duration::from_secs(1));
    let got = error(get_id("accounts.google.com", jwt).await);
    let (code, message) = got.clone();
    expect(&s, "TokenExpired", (code, String::new()), NOT_AUTHORIZED, "");
    let numbers = message.strip_prefix("Invalid login token. Token expired: ").unwrap();
    let (now, exp) = numbers.split_once(" >= ").unwrap();
    let (now, exp): (i64, i64) = (now.parse().unwrap(), exp.parse().unwrap());
    assert_eq!(
        now - exp,
        300,
        "at the very second of the end of its grace it is expired"
    );
    let got = error(get_id("graph.facebook.com", opaque).await);
    expect(
        &s,
        "OpaqueTokenExpired",
        got,
        NOT_AUTHORIZED,
        "Invalid login token. Token is expired.",
    );
}

async fn tokens() {
    let s = Stage::start().await;
    let (id, token) = s.vend("user-42").await;
    let get = |token: String| {
        s.client()
            .get_credentials_for_identity()
            .identity_id(&id)
            .logins(ISSUER, token)
            .send()
    };
    let users = s.pool.user_pool("us-east-1_Example", "client1").unwrap();
    for token in [users.token("s"), "garbage".to_owned(), "a.b.c".to_owned()] {
        let got = error(get(token).await);
        expect(
            &s,
            "NotACognitoToken",
            got,
            NOT_AUTHORIZED,
            "Invalid login token. Not a Cognito token.",
        );
    }
    // One byte of the payload, of the signature, no signature, and a signature by another pool's key.
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let (header, payload) = signed.split_once('.').unwrap();
    let mut claims: Value =
        serde_json::from_slice(&base64_simd::URL_SAFE_NO_PAD.decode_to_vec(payload).unwrap()).unwrap();
    claims["exp"] = json!(4_000_000_000u64);
    let longer = base64_simd::URL_SAFE_NO_PAD.encode_to_string(claims.to_string());
    let none = base64_simd::URL_SAFE_NO_PAD.encode_to_string(r#"{"alg":"none","kid":"us-east-11"}"#);
    let hmac = base64_simd::URL_SAFE_NO_PAD.encode_to_string(r#"{"alg":"HS512","kid":"us-east-11"}"#);
    let stranger = Stage::with(|pool| pool.own_key().identity_pool_id(s.id())).await;
    let (_, foreign) = stranger.vend("user-42").await;
    let flipped = format!(
        "{}{}",
        if signature.starts_with('A') { "B" } else { "A" },
        &signature[1..]
    );
    for forged in [
        format!("{header}.{longer}.{signature}"),
        format!("{header}.{payload}.{flipped}"),
        format!("{none}.{payload}."),
        format!("{hmac}.{payload}.{signature}"),
        foreign,
    ] {
        let got = error(get(forged).await);
        expect(
            &s,
            "BadTokenSignature",
            got,
            NOT_AUTHORIZED,
            "Invalid login token. Couldn't verify signed token.",
        );
    }
    s.clock.advance(Duration::from_secs(900));
    let got = error(get(token).await);
    assert!(got.1.starts_with("Invalid login token. Token expired: "), "{}", got.1);
    expect(&s, "TokenExpired", (got.0, String::new()), NOT_AUTHORIZED, "");

    // A token of another pool for an identity with the same region.
    let create = s
        .signing()
        .create_identity_pool()
        .identity_pool_name("b")
        .allow_unauthenticated_identities(true);
    let other = create.developer_provider_name(PROVIDER).send().await.unwrap();
    let dev = s
        .signing()
        .get_open_id_token_for_developer_identity()
        .identity_pool_id(other.identity_pool_id());
    let vended = dev.logins(PROVIDER, "user-42").send().await.unwrap();
    let got = error(get(vended.token.unwrap()).await);
    expect(&s, "LoginsDontMatch", got, NOT_AUTHORIZED, "");
}

async fn developers() {
    let s = Stage::start().await;
    let dev = || {
        s.signing()
            .get_open_id_token_for_developer_identity()
            .identity_pool_id(s.id())
    };
    let google = s.pool.oidc_issuer("accounts.google.com").unwrap();
    let got = error(dev().logins("login.other", "u").send().await);
    let text = "This identity pool does not support the specified developer provider";
    expect(&s, "UnsupportedDeveloperProvider", got, NOT_AUTHORIZED, text);
    let got = error(dev().logins("accounts.google.com", google.token("s")).send().await);
    expect(&s, "MissingDeveloperProvider", got, PARAMETER, "");

    let (id, _) = s.vend("user-42").await;
    let (other, _) = s.vend("user-43").await;
    for existing in [&other, &s.guest_id().await] {
        let got = error(dev().identity_id(existing).logins(PROVIDER, "user-42").send().await);
        expect(
            &s,
            "DeveloperUserRegistered",
            got,
            "DeveloperUserAlreadyRegisteredException",
            "",
        );
    }
    let got = error(dev().identity_id(&id).logins(PROVIDER, "user-44").send().await);
    expect(&s, "LoginsDontMatch", got, NOT_AUTHORIZED, "");

    let lookup = || s.signing().lookup_developer_identity().identity_pool_id(s.id());
    let got = error(lookup().send().await);
    expect(&s, "LookupNeedsOne", got, PARAMETER, "");
    let got = error(lookup().developer_user_identifier("nobody").send().await);
    expect(&s, "DeveloperUserNotFound", got, NOT_FOUND, "");
    let got = error(
        lookup()
            .identity_id(&id)
            .developer_user_identifier("user-43")
            .send()
            .await,
    );
    expect(&s, "LookupMismatch", got, CONFLICT, "");
    let got = error(lookup().identity_id(&id).next_token("x").send().await);
    expect(&s, "InvalidNextToken", got, PARAMETER, "");
    let got = error(
        s.signing()
            .list_identity_pools()
            .max_results(1)
            .next_token("x")
            .send()
            .await,
    );
    expect(&s, "InvalidNextToken", got, PARAMETER, "");
    let merge = s
        .signing()
        .merge_developer_identities()
        .identity_pool_id(s.id())
        .developer_provider_name("login.other");
    let got = error(
        merge
            .source_user_identifier("user-42")
            .destination_user_identifier("user-43")
            .send()
            .await,
    );
    expect(&s, "UnsupportedDeveloperProvider", got, NOT_AUTHORIZED, text);
    let unlink = s
        .signing()
        .unlink_developer_identity()
        .identity_pool_id(s.id())
        .identity_id(&id);
    let got = error(
        unlink
            .developer_provider_name(PROVIDER)
            .developer_user_identifier("user-43")
            .send()
            .await,
    );
    expect(&s, "NotLinked", got, CONFLICT, "");

    let s = Stage::with(|pool| pool.wrong_provider_is_invalid_parameter(true)).await;
    let dev = s
        .signing()
        .get_open_id_token_for_developer_identity()
        .identity_pool_id(s.id());
    let got = error(dev.logins("login.other", "u").send().await);
    expect(&s, "UnsupportedDeveloperProviderParameter", got, PARAMETER, text);
}

async fn links() {
    let s = Stage::start().await;
    let google = s.pool.oidc_issuer("accounts.google.com").unwrap();
    let dev = |user: &str, sub: &str| {
        let call = s
            .signing()
            .get_open_id_token_for_developer_identity()
            .identity_pool_id(s.id())
            .logins(PROVIDER, user);
        call.logins("accounts.google.com", google.token(sub)).send()
    };
    let id = dev("user-42", "a").await.unwrap().identity_id.unwrap();
    let got = error(dev("user-42", "b").await);
    expect(&s, "LoginConflict", got, CONFLICT, "");
    dev("user-43", "b").await.unwrap();
    let merge = |source: String| {
        let call = s
            .signing()
            .merge_developer_identities()
            .identity_pool_id(s.id())
            .developer_provider_name(PROVIDER);
        call.source_user_identifier(source)
            .destination_user_identifier("user-42")
            .send()
    };
    let got = error(merge("user-43".to_owned()).await);
    expect(&s, "LoginConflict", got, CONFLICT, "");
    let unlink = s
        .client()
        .unlink_identity()
        .identity_id(&id)
        .logins("accounts.google.com", google.token("b"));
    let got = error(unlink.logins_to_remove("accounts.google.com").send().await);
    expect(&s, "LoginsDontMatch", got, NOT_AUTHORIZED, "");
    let unlink = || {
        s.client()
            .unlink_identity()
            .identity_id(&id)
            .logins("accounts.google.com", google.token("a"))
    };
    let got = error(unlink().logins_to_remove("graph.facebook.com").send().await);
    expect(&s, "NotLinked", got, CONFLICT, "");
    let got = error(unlink().logins_to_remove(PROVIDER).send().await);
    expect(&s, "PublicProviderOnly", got, PARAMETER, "");

    for index in 0..18 {
        let user = format!("more-{index}");
        s.vend(&user).await;
        merge(user).await.unwrap();
    }
    s.vend("one-too-many").await;
    let got = error(merge("one-too-many".to_owned()).await);
    expect(&s, "TooManyLogins", got, PARAMETER, "");
}

async fn flows_and_roles() {
    let s = Stage::with(|pool| pool.allow_classic_flow(false)).await;
    let guest = s.guest_id().await;
    let got = error(s.client().get_open_id_token().identity_id(guest).send().await);
    let text = "Basic (classic) flow is not enabled, please use enhanced flow.";
    expect(&s, "ClassicFlowOff", got, PARAMETER, text);

    let s = Stage::start().await;
    let issuer = s.pool.oidc_issuer("accounts.example.com").unwrap();
    let set = json!({
        "IdentityPoolId": s.id(),
        "Roles": { "authenticated": ROLE },
        "RoleMappings": { "accounts.example.com": { "Type": "Token", "AmbiguousRoleResolution": "Deny" } },
    });
    assert_eq!(s.json("SetIdentityPoolRoles", set, true).await, Default::default());
    let guest = s.guest_id().await;
    let got = error(s.client().get_open_id_token().identity_id(&guest).send().await);
    let text = "Basic (classic) flow is not supported with RoleMappings, please use enhanced flow.";
    expect(&s, "ClassicFlowWithMappings", got, PARAMETER, text);
    let call = s.client().get_credentials_for_identity().identity_id(&guest);
    let got = error(
        call.clone()
            .logins("accounts.example.com", issuer.token("s"))
            .send()
            .await,
    );
    let text = "The ambiguous role mapping rules for: accounts.example.com denied this request.";
    expect(&s, "AmbiguousRole", got, NOT_AUTHORIZED, text);
    let (id, token) = s.vend("user-42").await;
    let call = s
        .client()
        .get_credentials_for_identity()
        .identity_id(id)
        .logins(ISSUER, token);
    let got = error(
        call.custom_role_arn("arn:aws:iam::123456789012:role/other")
            .send()
            .await,
    );
    expect(&s, "CustomRoleDenied", got, NOT_AUTHORIZED, "");

    let s = Stage::with(LocalIdentityPoolBuilder::without_roles).await;
    let (id, token) = s.vend("user-42").await;
    let got = error(
        s.client()
            .get_credentials_for_identity()
            .identity_id(id)
            .logins(ISSUER, token)
            .send()
            .await,
    );
    let text = "Invalid identity pool configuration. Check assigned IAM roles for this pool.";
    expect(
        &s,
        "PoolConfiguration",
        got,
        "InvalidIdentityPoolConfigurationException",
        text,
    );

    // Tags that do not fit into a session.
    let s = Stage::start().await;
    let dev = s
        .signing()
        .get_open_id_token_for_developer_identity()
        .identity_pool_id(s.id())
        .logins(PROVIDER, "u");
    let vended = dev
        .principal_tags("a", "v".repeat(256))
        .principal_tags("b", "v".repeat(256))
        .send()
        .await
        .unwrap();
    let call = s
        .client()
        .get_credentials_for_identity()
        .identity_id(vended.identity_id.unwrap());
    let got = error(call.logins(ISSUER, vended.token.unwrap()).send().await);
    expect(
        &s,
        "PoolConfiguration",
        got,
        "InvalidIdentityPoolConfigurationException",
        text,
    );
}

use cognito_identity_pool::local::LocalIdentityPoolBuilder;

async fn sts() {
    let policy = r#"{ "Statement": { "Effect": "Allow", "Principal": { "Federated": "cognito-identity.amazonaws.com" },
        "Action": "sts:*", "Condition": { "StringEquals": { "cognito-identity.amazonaws.com:aud": "another" } } } }"#;
    let closed = "arn:aws:iam::123456789012:role/closed";
    let short = "arn:aws:iam::123456789012:role/short";
    let open = r#"{ "Statement": { "Effect": "Allow", "Principal": { "AWS": "*" }, "Action": "sts:*" } }"#;
    let s = Stage::with(|pool| {
        pool.role(LocalRole::new(closed, policy).unwrap())
            .role(LocalRole::new(short, open).unwrap())
    })
    .await;
    let (_, token) = s.vend("user-42").await;
    let sts = s.sts();
    let assume = |role: &str, token: &str| {
        sts.assume_role_with_web_identity()
            .role_arn(role)
            .role_session_name("session")
            .web_identity_token(token)
    };
    let jwt = "The ID Token provided is not a valid JWT. (You may see this error if you sent an Access Token)";
    let got = error(assume(ROLE, "undefined").send().await);
    expect(&s, "StsNoJwt", got, "InvalidIdentityToken", jwt);
    let (signed, _) = token.rsplit_once('.').unwrap();
    let got = error(assume(ROLE, &format!("{signed}.AAAA")).send().await);
    let key = "Couldn't retrieve verification key from your identity provider,  please reference AssumeRoleWithWebIdentity documentation for requirements";
    expect(&s, "StsNoKey", got, "InvalidIdentityToken", key);
    let other = s.pool.oidc_issuer("accounts.example.com").unwrap().token("s");
    let got = error(assume(ROLE, &other).send().await);
    let text = "No OpenIDConnect provider found in your account for https://accounts.example.com";
    expect(&s, "StsNoProvider", got, "InvalidIdentityToken", text);
    let denied = "Not authorized to perform sts:AssumeRoleWithWebIdentity";
    for role in [closed, "arn:aws:iam::123456789012:user/no-role"] {
        let got = error(assume(role, &token).send().await);
        expect(&s, "StsAccessDenied", got, "AccessDenied", denied);
    }
    let got = error(assume(short, &token).duration_seconds(3601).send().await);
    let text = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.";
    expect(&s, "StsDuration", got, "ValidationError", text);
    let got = error(assume(ROLE, &token).policy("no json").send().await);
    expect(&s, "StsPolicy", got, "MalformedPolicyDocument", "");
    for duration in [899, 43_201] {
        let got = error(assume(ROLE, &token).duration_seconds(duration).send().await);
        expect(&s, "StsConstraint", got, "ValidationError", "");
    }
    let got = error(assume(ROLE, &token).role_session_name("us-east-1:x").send().await);
    let text = r"1 validation error detected: Value 'us-east-1:x' at 'roleSessionName' failed to satisfy constraint: Member must satisfy regular expression pattern: [\w+=,.@-]*";
    expect(&s, "StsConstraint", got, "ValidationError", text);

    let dev = s
        .signing()
        .get_open_id_token_for_developer_identity()
        .identity_pool_id(s.id())
        .logins(PROVIDER, "u");
    let tagged = dev
        .principal_tags("a", "v".repeat(256))
        .principal_tags("b", "v".repeat(256))
        .send()
        .await
        .unwrap();
    let got = error(assume(ROLE, tagged.token().unwrap()).send().await);
    let text = "Packed size of session tags consumes 111% of allotted space.";
    expect(&s, "StsPacked", got, "PackedPolicyTooLarge", text);

    for (key, value, rule) in [
        ("actor", "dependabot[bot]", "StsTagConstraint"),
        ("aws:actor", "a", "StsReservedTag"),
        ("A", "a", "StsDuplicateTag"),
    ] {
        let dev = s
            .signing()
            .get_open_id_token_for_developer_identity()
            .identity_pool_id(s.id());
        let dev = dev
            .logins(PROVIDER, "u")
            .principal_tags("a", "a")
            .principal_tags(key, value);
        let tagged = dev.send().await.unwrap();
        let got = error(assume(ROLE, tagged.token().unwrap()).send().await);
        expect(&s, rule, got, "ValidationError", "");
    }

    s.clock.advance(Duration::from_secs(900));
    let got = error(assume(ROLE, &token).send().await);
    assert!(got.1.starts_with("Token expired: current date/time "), "{}", got.1);
    assert!(got.1.contains(" must be before the expiration date/time"), "{}", got.1);
    expect(
        &s,
        "StsTokenExpired",
        (got.0, String::new()),
        "ExpiredTokenException",
        "",
    );

    let form = ("content-type", "application/x-www-form-urlencoded");
    let (status, body) = post(&s, &[form], "Action=Nothing&Version=2011-06-15").await;
    assert!(body.contains("<Code>InvalidAction</Code>"), "{status} {body}");
    expect(
        &s,
        "StsUnknownAction",
        ("InvalidAction".to_owned(), String::new()),
        "InvalidAction",
        "",
    );
    let (status, body) = post(&s, &[form], "Action=GetCallerIdentity&Version=2011-06-15").await;
    assert!(
        status == 403 && body.contains("<Code>MissingAuthenticationToken</Code>"),
        "{status} {body}"
    );
    expect(
        &s,
        "StsMissingAuthentication",
        ("MissingAuthenticationToken".into(), String::new()),
        "MissingAuthenticationToken",
        "",
    );
    let (status, _) = post(
        &s,
        &[form, ("authorization", "x")],
        "Action=GetCallerIdentity&Version=2011-06-15",
    )
    .await;
    assert_eq!(status, 400);
    expect(
        &s,
        "StsIncompleteSignature",
        ("IncompleteSignature".into(), String::new()),
        "IncompleteSignature",
        "",
    );

    let config = || over_socket(s.pool.backend_config(), &s.pool).into_builder();
    let no_retry = || {
        config()
            .retry_config(aws_smithy_types::retry::RetryConfig::disabled())
            .build()
    };
    let caller = async |config: SdkConfig| error(aws_sdk_sts::Client::new(&config).get_caller_identity().send().await);
    let with = |key: &str, secret: &str| {
        let provider = SharedCredentialsProvider::new(Credentials::new(key, secret, None, None, "test"));
        no_retry().into_builder().credentials_provider(provider).build()
    };
    let real = s.pool.developer_credentials();
    expect(
        &s,
        "StsUnknownAccessKey",
        caller(with("AKIAX", "s")).await,
        "InvalidClientTokenId",
        "",
    );
    expect(
        &s,
        "StsInvalidSignature",
        caller(with(real.access_key_id(), "s")).await,
        "SignatureDoesNotMatch",
        "",
    );
    s.pool.faults().set_clock_offset(600);
    expect(
        &s,
        "StsSignatureTime",
        caller(no_retry()).await,
        "SignatureDoesNotMatch",
        "",
    );
    s.pool.faults().clear();
    let (id, token) = s.vend("user-42").await;
    let vended = s.credentials(&id, &token).await;
    s.clock.advance(Duration::from_secs(3600));
    expect(
        &s,
        "StsSignerExpired",
        caller(signed_by(no_retry(), &vended)).await,
        "ExpiredToken",
        "",
    );
}

/// Errors that only a fault of the service makes.
async fn injected() {
    let s = Stage::start().await;
    let config = over_socket(s.pool.client_config(), &s.pool).into_builder();
    let config = config
        .retry_config(aws_smithy_types::retry::RetryConfig::disabled())
        .build();
    let app = Client::new(&config);
    let sts = aws_sdk_sts::Client::new(&config);
    for (rule, code) in [
        ("Internal", "InternalErrorException"),
        ("ConcurrentModification", "ConcurrentModificationException"),
        ("ServiceUnavailable", "ServiceUnavailable"),
    ] {
        s.pool.faults().next_of("GetId", LocalFault::refuse(code).unwrap());
        expect(
            &s,
            rule,
            error(app.get_id().identity_pool_id(s.id()).send().await),
            code,
            "",
        );
    }
    for (rule, code) in [
        ("IdpRejectedClaim", "IDPRejectedClaim"),
        ("IdpCommunication", "IDPCommunicationError"),
        ("RegionDisabled", "RegionDisabledException"),
    ] {
        s.pool
            .faults()
            .next_of("AssumeRoleWithWebIdentity", LocalFault::refuse(code).unwrap());
        let call = sts
            .assume_role_with_web_identity()
            .role_arn(ROLE)
            .role_session_name("session");
        expect(&s, rule, error(call.web_identity_token("token").send().await), code, "");
    }
}

async fn throttled() {
    let s = Stage::with(|pool| pool.throttling(true)).await;
    for _ in 0..25 {
        s.guest_id().await;
    }
    let config = s
        .pool
        .client_config()
        .into_builder()
        .retry_config(aws_smithy_types::retry::RetryConfig::disabled())
        .build();
    let app = Client::new(&over_socket(config, &s.pool));
    let got = error(app.get_id().identity_pool_id(s.id()).send().await);
    expect(&s, "Throttled", got, "TooManyRequestsException", "Rate exceeded");
    s.clock.advance(Duration::from_secs(1));
    s.guest_id().await;
}

#[tokio::test]
async fn errors_have_the_head_and_body_of_the_service() {
    let s = Stage::with(|pool| pool.allow_guests(false)).await;
    let response = reqwest::Client::new()
        .post(s.pool.endpoint_url())
        .header(
            "x-amz-target",
            "com.amazonaws.cognito.identity.model.AWSCognitoIdentityService.GetId",
        )
        .header("content-type", "application/x-amz-json-1.1")
        .header("origin", "http://app.example")
        .body(json!({ "IdentityPoolId": s.id() }).to_string())
        .send()
        .await
        .unwrap();
    let text = "Unauthenticated access is not supported for this identity pool.";
    assert_eq!(response.status(), 400);
    let header = |name: &str| response.headers().get(name).unwrap().to_str().unwrap().to_owned();
    assert_eq!(header("x-amzn-errortype"), "NotAuthorizedException:");
    assert_eq!(header("x-amzn-errormessage"), text);
    assert_eq!(header("content-type"), "application/x-amz-json-1.1");
    assert_eq!(
        header("access-control-expose-headers"),
        "x-amzn-RequestId,x-amzn-ErrorType,x-amzn-ErrorMessage,Date,x-local-rule,x-local-why,x-local-advice"
    );
    assert_eq!(header("access-control-allow-origin"), "*");
    assert_eq!(header("x-amzn-requestid"), s.pool.requests()[0].request_id);
    assert!(header("date").ends_with(" GMT"));
    let body = response.text().await.unwrap();
    assert_eq!(
        body,
        format!(r#"{{"__type":"NotAuthorizedException","message":"{text}"}}"#)
    );
}

#[tokio::test]
async fn denials_by_a_policy_have_a_capital_message() {
    let s = Stage::with(|pool| pool.deny("GetId")).await;
    let target = ("x-amz-target", "AWSCognitoIdentityService.GetId");
    let (_, body) = post(&s, &[target], &json!({ "IdentityPoolId": s.id() }).to_string()).await;
    assert!(body.contains(r#""Message":"User: anonymous"#), "{body}");
}

#[tokio::test]
async fn sts_errors_are_xml_with_a_request_id() {
    let s = Stage::start().await;
    let form = ("content-type", "application/x-www-form-urlencoded; charset=utf-8");
    let (status, body) = post(&s, &[form], "Action=%3Cscript%3E%26&Version=2011-06-15").await;
    assert_eq!(status, 400);
    let id = s.pool.requests()[0].request_id.clone();
    assert_eq!(
        body,
        format!(
            "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\"><Error><Type>Sender</Type>\
             <Code>InvalidAction</Code><Message>Could not find operation &lt;script&gt;&amp; for version 2011-06-15</Message>\
             </Error><RequestId>{id}</RequestId></ErrorResponse>"
        )
    );
}

#[tokio::test]
async fn the_checks_come_in_the_documented_order() {
    let s = Stage::start().await;
    // Not JSON, not signed, out of range, unknown: always the first.
    let operation = "DescribeIdentityPool";
    assert_eq!(s.call("Nothing", "no json", false).await.0, "UnknownOperationException");
    assert_eq!(s.call(operation, "no json", false).await.0, "SerializationException");
    assert_eq!(
        s.json(operation, json!({ "IdentityPoolId": "x" }), false).await.0,
        "MissingAuthenticationTokenException"
    );
    assert_eq!(
        s.json(operation, json!({ "IdentityPoolId": "x" }), true).await.0,
        VALIDATION
    );
    assert_eq!(
        s.json(operation, json!({ "IdentityPoolId": NOBODY }), true).await.0,
        NOT_FOUND
    );
}

#[tokio::test]
async fn an_authorization_header_on_an_unsigned_operation_is_ignored_and_recorded() {
    let s = Stage::start().await;
    let headers = [
        ("x-amz-target", "AWSCognitoIdentityService.GetId"),
        ("authorization", "garbage"),
    ];
    let (status, _) = post(&s, &headers, &json!({ "IdentityPoolId": s.id() }).to_string()).await;
    assert_eq!(status, 200);
    s.guest_id().await;
    assert_eq!(
        s.pool
            .requests()
            .iter()
            .map(|request| request.authorization)
            .collect::<Vec<_>>(),
        [true, false]
    );
}

#[tokio::test]
async fn a_browser_may_call_but_not_reach_the_faults() {
    let s = Stage::start().await;
    let preflight = async |path: &str| {
        let url = format!("{}{path}", s.pool.endpoint_url());
        let request = reqwest::Client::new()
            .request(reqwest::Method::OPTIONS, url)
            .header("origin", "http://app.example");
        request.send().await.unwrap().headers().clone()
    };
    assert!(
        preflight("/").await["access-control-allow-headers"]
            .to_str()
            .unwrap()
            .contains("x-amz-target")
    );
    let closed = preflight("/_local/faults").await;
    assert!(
        !closed.keys().any(|name| name.as_str().starts_with("access-control")),
        "{closed:?}"
    );
}

// Input that nobody should send.

fn get_id(host: &str, body: &str) -> String {
    format!(
        "POST / HTTP/1.1\r\nHost: {host}\r\nX-Amz-Target: AWSCognitoIdentityService.GetId\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn only_loopback_hosts_are_answered() {
    let s = Stage::start().await;
    let body = json!({ "IdentityPoolId": s.id() }).to_string();
    let done = |text: &str| text.contains("\r\n\r\n");
    for host in ["localhost", "127.0.0.1:99", "[::1]:99", "LOCALHOST:1"] {
        assert!(
            s.raw(get_id(host, &body).as_bytes(), done)
                .await
                .starts_with("HTTP/1.1 200"),
            "{host}"
        );
    }
    for host in [
        "evil.example",
        "127.0.0.1.evil.example",
        "",
        "localhost.evil.example:80",
        "[::1",
    ] {
        let answer = s.raw(get_id(host, &body).as_bytes(), done).await;
        assert!(answer.starts_with("HTTP/1.1 421"), "{host}: {answer}");
    }
    let twice = get_id("localhost", &body).replace("Host: localhost", "Host: localhost\r\nHost: localhost");
    assert!(!s.raw(twice.as_bytes(), done).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_body_of_ten_megabytes_is_refused_in_the_form_of_the_service() {
    let s = Stage::start().await;
    let body = format!(r#"{{"IdentityPoolId":"{}"}}"#, "x".repeat(10_000_000));
    let answer = s
        .raw(get_id("localhost", &body).as_bytes(), |text| text.ends_with('}'))
        .await;
    // The server may reset the connection before its answer was read: it did not read the rest.
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 413") && answer.contains("RequestEntityTooLarge"),
        "{answer}"
    );
    let chunked = "POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned()
        + &format!("10000\r\n{}\r\n", "x".repeat(0x10000)).repeat(17);
    let answer = s.raw(chunked.as_bytes(), |text| text.ends_with('}')).await;
    assert!(
        answer.starts_with("HTTP/1.1 413") && answer.contains("RequestEntityTooLarge"),
        "{answer}"
    );
    s.guest_id().await;
}

#[tokio::test]
async fn unknown_members_are_ignored() {
    let s = Stage::start().await;
    let body = json!({ "IdentityPoolId": s.id(), "Unknown": { "deep": [1, { "x": null }] } });
    assert_eq!(s.json("GetId", body, false).await, Default::default());
}

#[tokio::test]
async fn deep_json_is_no_stack_overflow() {
    let s = Stage::start().await;
    let deep = format!(r#"{{"IdentityPoolId":{}}}"#, "[".repeat(500_000));
    assert_eq!(s.call("GetId", deep, false).await.0, "SerializationException");
}

#[tokio::test]
async fn other_protocols_get_an_answer() {
    let s = Stage::start().await;
    let done = |text: &str| text.contains("\r\n\r\n");
    for (request, expected) in [
        ("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 200"),
        ("GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n", "HTTP/1.1 404"),
        (
            "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 404",
        ),
        (
            "POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: DynamoDB_20120810.GetItem\r\nContent-Length: 0\r\n\r\n",
            "HTTP/1.1 400",
        ),
        (
            "DELETE /_local/faults HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "HTTP/1.1 403",
        ),
        ("\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", "HTTP/1.1 400"),
        (
            "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nxxxxx",
            "HTTP/1.1 400",
        ),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP/1.1"),
    ] {
        let answer = s.raw(request.as_bytes(), done).await;
        assert!(
            answer.is_empty() || answer.starts_with(expected),
            "{request:?}: {answer}"
        );
    }
    s.guest_id().await;
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let s = Stage::start().await;
    let good = get_id("localhost", &json!({ "IdentityPoolId": s.id() }).to_string());
    let bad = get_id("localhost", "no json");
    let answer = s
        .raw(format!("{good}{bad}{good}").as_bytes(), |text| {
            text.matches("HTTP/1.1").count() == 3 && text.ends_with('}')
        })
        .await;
    let statuses: Vec<_> = answer.split("HTTP/1.1 ").skip(1).map(|part| &part[..3]).collect();
    assert_eq!(statuses, ["200", "400", "200"]);
}

#[tokio::test]
async fn head_and_body_come_in_one_write() {
    let s = Stage::start().await;
    let request = get_id("localhost", &json!({ "IdentityPoolId": s.id() }).to_string());
    let mut stream = tokio::net::TcpStream::connect(s.pool.endpoint_url().replace("http://", ""))
        .await
        .unwrap();
    for _ in 0..20 {
        tokio::io::AsyncWriteExt::write_all(&mut stream, request.as_bytes())
            .await
            .unwrap();
        let mut buffer = [0; 4096];
        let read = tokio::io::AsyncReadExt::read(&mut stream, &mut buffer).await.unwrap();
        assert!(
            buffer[..read].ends_with(b"}"),
            "{}",
            String::from_utf8_lossy(&buffer[..read])
        );
    }
}

#[tokio::test]
async fn a_client_that_stops_sending_does_not_hold_up_others() {
    let s = Stage::start().await;
    let address = s.pool.endpoint_url().replace("http://", "");
    let mut stuck = Vec::new();
    for part in [
        "",
        "POST / HT",
        "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{",
    ] {
        for _ in 0..50 {
            let mut stream = tokio::net::TcpStream::connect(&address).await.unwrap();
            tokio::io::AsyncWriteExt::write_all(&mut stream, part.as_bytes())
                .await
                .unwrap();
            stuck.push(stream);
        }
    }
    for _ in 0..20 {
        s.guest_id().await;
    }
}

#[tokio::test]
async fn a_signature_over_another_body_does_not_hold() {
    let clock = LocalClock::at_present();
    let pool = LocalIdentityPool::builder().time_source(clock).start().await.unwrap();
    let client = Client::new(&over_socket(pool.backend_config(), &pool));
    #[derive(Debug)]
    struct Swap;
    #[aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint]
    impl aws_smithy_runtime_api::client::interceptors::Intercept for Swap {
        fn name(&self) -> &'static str {
            "Swap"
        }

        fn modify_before_transmit(
            &self,
            context: &mut aws_smithy_runtime_api::client::interceptors::context::BeforeTransmitInterceptorContextMut<
                '_,
            >,
            _components: &aws_smithy_runtime_api::client::runtime_components::RuntimeComponents,
            _config: &mut aws_smithy_types::config_bag::ConfigBag,
        ) -> Result<(), aws_smithy_runtime_api::box_error::BoxError> {
            *context.request_mut().body_mut() = aws_smithy_types::body::SdkBody::from(r#"{"MaxResults":2}"#);
            Ok(())
        }
    }
    let call = client
        .list_identity_pools()
        .max_results(1)
        .customize()
        .interceptor(Swap);
    assert_eq!(error(call.send().await).0, "InvalidSignatureException");
}
