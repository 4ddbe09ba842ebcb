//! The admin path, the page, other hosts, providers by their keys, and a state that survives.

use std::time::{Duration, SystemTime};

use cognito_identity_pool::LocalIdentityPool;
use cognito_identity_pool::local::LocalPoolError;
use reqwest::Method;
use serde_json::{Value, json};

use crate::stage::{ISSUER, PROVIDER, Stage, error, over_socket, signed_by};

/// The admin path, as another process has it.
struct Admin(LocalIdentityPool);

impl Admin {
    async fn ask(&self, method: Method, path: &str, body: Value) -> (u16, Value) {
        self.ask_as(method, path, body, &[("x-local-admin", self.0.admin_token())])
            .await
    }

    async fn ask_as(&self, method: Method, path: &str, body: Value, headers: &[(&str, &str)]) -> (u16, Value) {
        let url = format!("{}/_local{path}", self.0.endpoint_url());
        let mut request = reqwest::Client::new().request(method, url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if !body.is_null() {
            request = request.body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        assert!(
            !answer
                .headers()
                .keys()
                .any(|name| name.as_str().starts_with("access-control")),
            "nothing here is for pages of other origins"
        );
        let status = answer.status().as_u16();
        (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap())
    }

    async fn get(&self, path: &str) -> Value {
        let (status, value) = self.ask(Method::GET, path, Value::Null).await;
        assert_eq!(status, 200, "{value}");
        value
    }

    async fn post(&self, path: &str, body: Value) -> Value {
        let (status, value) = self.ask(Method::POST, path, body).await;
        assert_eq!(status, 200, "{value}");
        value
    }

    async fn token(&self, order: Value) -> String {
        self.post("/tokens", order).await["token"].as_str().unwrap().to_owned()
    }
}

async fn stage() -> (Stage, Admin) {
    let stage = Stage::start().await;
    let admin = Admin(stage.pool.clone());
    (stage, admin)
}

#[tokio::test]
async fn social_oidc_and_user_pool_logins_need_no_rust() {
    let (s, admin) = stage().await;
    for (order, known) in [
        (json!({ "provider": "graph.facebook.com" }), "graph.facebook.com"),
        (json!({ "provider": "accounts.example.com" }), "accounts.example.com"),
        (
            json!({ "user_pool": "us-east-1_Example", "client_id": "app" }),
            "cognito-idp.us-east-1.amazonaws.com/us-east-1_Example",
        ),
    ] {
        assert_eq!(admin.post("/providers", order).await["provider"], known);
        let token = admin.token(json!({ "provider": known, "sub": "alice" })).await;
        let id = s
            .client()
            .get_id()
            .identity_pool_id(s.id())
            .logins(known, &token)
            .send()
            .await
            .unwrap();
        let again = admin
            .token(json!({ "provider": known, "sub": "alice", "claims": { "email": "a@example.com" } }))
            .await;
        let same = s
            .client()
            .get_id()
            .identity_pool_id(s.id())
            .logins(known, &again)
            .send()
            .await
            .unwrap();
        assert_eq!(id.identity_id(), same.identity_id());
        let forged = admin
            .token(json!({ "provider": known, "sub": "alice", "forged": true }))
            .await;
        let refused = s
            .client()
            .get_id()
            .identity_pool_id(s.id())
            .logins(known, &forged)
            .send()
            .await;
        assert_eq!(error(refused).0, "NotAuthorizedException");
    }
    let listed = admin.get("/identities").await;
    assert_eq!(listed["total"], 3);
    assert_eq!(
        listed["identities"][0]["logins"],
        json!([{ "provider": "graph.facebook.com", "subject": "alice" }])
    );
    assert_eq!(listed["identities"][0]["state"], "authenticated");
    let (status, said) = admin
        .ask(Method::POST, "/tokens", json!({ "provider": "x", "sub": "a" }))
        .await;
    assert_eq!(status, 404);
    assert!(
        said["error"].as_str().unwrap().contains("accounts.example.com"),
        "{said}"
    );
}

#[tokio::test]
async fn a_refusal_says_why_in_record_and_headers() {
    let (s, admin) = stage().await;
    let url = s.pool.endpoint_url();
    let answer = reqwest::Client::new()
        .post(&url)
        .header("x-amz-target", "AWSCognitoIdentityService.GetId")
        .body(json!({ "IdentityPoolId": "us-east-1:0" }).to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.headers()["x-local-rule"], "PoolNotFound");
    let advice = answer.headers()["x-local-advice"].to_str().unwrap().to_owned();
    assert!(advice.contains("COGNITO_IDENTITY_POOL_ID"), "{advice}");
    let record = admin.get("/requests").await;
    let last = &record["requests"][0];
    assert_eq!(
        (&last["operation"], &last["rule"]),
        (&json!("GetId"), &json!("PoolNotFound"))
    );
    assert_eq!(last["advice"], json!(advice));
    let next = record["next"].as_u64().unwrap();
    assert_eq!(
        admin.get(&format!("/requests?from={next}")).await["requests"],
        json!([])
    );
    s.guest().await;
    let news = admin.get(&format!("/requests?from={next}")).await;
    assert_eq!(news["requests"].as_array().unwrap().len(), 1);
    assert_eq!(admin.ask(Method::DELETE, "/requests", Value::Null).await.0, 200);
    assert!(s.pool.requests().is_empty());
}

#[tokio::test]
async fn time_travels_while_clients_sign_with_the_present() {
    let (s, admin) = stage().await;
    let (identity, token) = s.vend("alice").await;
    let credentials = s.credentials(&identity, &token).await;
    assert_eq!(
        admin.post("/clock", json!({ "advance_seconds": 3700 })).await["ahead_seconds"],
        3700
    );
    let refused = s
        .client()
        .get_credentials_for_identity()
        .identity_id(&identity)
        .logins(ISSUER, &token)
        .send()
        .await;
    assert!(error(refused).1.contains("Token expired"));
    // Whoever keeps the present's clock is believed, and told that the hour is over.
    let present = |config: aws_config::SdkConfig| config.into_builder().time_source(s.clock.clone()).build();
    let backend = aws_sdk_cognitoidentity::Client::new(&present(over_socket(s.pool.backend_config(), &s.pool)));
    let vended = backend
        .get_open_id_token_for_developer_identity()
        .identity_pool_id(s.id())
        .logins(PROVIDER, "alice");
    assert_eq!(vended.send().await.unwrap().identity_id(), Some(identity.as_str()));
    let who = aws_sdk_sts::Client::new(&present(signed_by(s.pool.client_config(), &credentials)));
    assert_eq!(error(who.get_caller_identity().send().await).0, "ExpiredToken");
    let (_, back) = admin.ask(Method::DELETE, "/clock", Value::Null).await;
    assert_eq!(back["ahead_seconds"], 0);
    who.get_caller_identity().send().await.unwrap();
}

#[tokio::test]
async fn reset_forgets_people_and_keeps_the_pool() {
    let (s, admin) = stage().await;
    admin
        .post("/providers", json!({ "provider": "accounts.example.com" }))
        .await;
    admin.post("/throttling", json!({ "on": true })).await;
    admin
        .post(
            "/faults",
            json!({ "operation": "GetOpenIdToken", "fault": "Hang", "count": 5 }),
        )
        .await;
    let (identity, _) = s.vend("alice").await;
    admin.post("/reset", json!({})).await;
    assert_eq!(admin.get("/identities").await["total"], 0);
    assert_eq!(admin.get("").await["faults"]["pending"], 0);
    assert_eq!(admin.get("").await["throttling"], false);
    assert!(s.pool.requests().is_empty());
    let (again, _) = s.vend("alice").await;
    assert_ne!(again, identity);
    let token = admin
        .token(json!({ "provider": "accounts.example.com", "sub": "a" }))
        .await;
    let got = s
        .client()
        .get_id()
        .identity_pool_id(s.id())
        .logins("accounts.example.com", token);
    got.send().await.unwrap();
}

#[tokio::test]
async fn an_exported_state_is_imported_whole() {
    let (s, admin) = stage().await;
    let (identity, token) = s.vend("alice").await;
    s.pool.rotate_keys(true);
    let state = admin.get("/state").await;
    admin.post("/reset", json!({})).await;
    s.pool.rotate_keys(false);
    assert_ne!(s.vend("alice").await.0, identity);
    let (status, _) = admin.ask(Method::PUT, "/state", state).await;
    assert_eq!(status, 200);
    assert_eq!(s.vend("alice").await.0, identity);
    s.credentials(&identity, &token).await;
    for wrong in [json!({}), json!([]), json!({ "version": 2 })] {
        assert_eq!(admin.ask(Method::PUT, "/state", wrong).await.0, 400);
    }
    assert_eq!(s.vend("alice").await.0, identity, "nothing changed");
}

#[tokio::test]
async fn nobody_without_the_token_and_no_foreign_page_gets_anything() {
    let (s, admin) = stage().await;
    let token = s.pool.admin_token().to_owned();
    let own = s.pool.endpoint_url();
    for headers in [
        &[][..],
        &[("x-local-admin", "guessed")],
        &[("x-local-admin", &token[..token.len() - 1])],
        &[("x-local-admin", token.as_str()), ("origin", "http://evil.example")],
        &[("x-local-admin", token.as_str()), ("origin", "null")],
    ] {
        for path in ["", "/state", "/requests", "/nothing"] {
            let (status, said) = admin.ask_as(Method::GET, path, Value::Null, headers).await;
            assert_eq!(status, 403, "{headers:?} {path}");
            assert_eq!(said.as_object().unwrap().len(), 1);
        }
        assert_eq!(admin.ask_as(Method::POST, "/reset", json!({}), headers).await.0, 403);
    }
    let same = [("x-local-admin", token.as_str()), ("origin", own.as_str())];
    assert_eq!(admin.ask_as(Method::GET, "", Value::Null, &same).await.0, 200);
    assert_eq!(admin.ask(Method::GET, "/nothing", Value::Null).await.0, 404);
    assert_eq!(admin.ask(Method::POST, "/pools", json!({})).await.0, 405);
    for order in [
        json!({ "on": 1 }),
        json!({ "on": true, "off": true }),
        json!([true]),
        json!({}),
    ] {
        assert_eq!(admin.ask(Method::POST, "/throttling", order).await.0, 400);
    }
}

#[tokio::test]
async fn the_page_is_served_and_no_other_page_may_frame_or_script_it() {
    let (s, _) = stage().await;
    let answer = reqwest::get(s.pool.endpoint_url()).await.unwrap();
    assert_eq!(answer.headers()["content-type"], "text/html; charset=utf-8");
    let policy = answer.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(
        policy.contains("default-src 'none'") && policy.contains("frame-ancestors 'none'"),
        "{policy}"
    );
    assert!(!policy.contains("unsafe"), "{policy}");
    let page = answer.text().await.unwrap();
    assert!(!page.contains(s.pool.admin_token()));
}

#[tokio::test]
async fn a_host_that_was_allowed_is_answered_on_the_path_of_the_service_and_the_others_are_told_how() {
    let s = Stage::with(|pool| pool.allow_host("10.0.2.2")).await;
    let get = async |host: &str| {
        let request = format!("GET /.well-known/jwks_uri HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        s.raw(request.as_bytes(), |text| text.ends_with('}') || text.ends_with('\n'))
            .await
    };
    for host in [
        "10.0.2.2:4599",
        "cognito-identity.us-east-1.amazonaws.com",
        "pool.localhost:1",
        "127.1.2.3",
    ] {
        assert!(get(host).await.starts_with("HTTP/1.1 200"), "{host}");
    }
    let told = get("pool:4599").await;
    assert!(
        told.starts_with("HTTP/1.1 421") && told.contains("--allow-host pool"),
        "{told}"
    );
}

#[tokio::test]
async fn a_pool_goes_on_after_a_restart_as_if_nothing_had_been() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("state.json");
    let start = || {
        LocalIdentityPool::builder()
            .developer_provider(PROVIDER)
            .allow_guests(true)
            .state_file(&file)
    };
    let clock = cognito_identity_pool::local::LocalClock::at_present();
    let (id, key, identity, token, credentials) = {
        let s = Stage::of(start().start().await.unwrap(), clock.clone());
        s.pool.oidc_issuer("accounts.example.com").unwrap();
        s.pool.rotate_keys(true);
        let (identity, token) = s.vend("alice").await;
        let credentials = s.credentials(&identity, &token).await;
        let in_use = start().start().await.unwrap_err();
        assert!(
            matches!(&in_use, LocalPoolError::Setting(text) if text.contains("in use")),
            "{in_use}"
        );
        let key = s.pool.developer_credentials().access_key_id().to_owned();
        (s.id().to_owned(), key, identity, token, credentials)
    };
    {
        let s = Stage::of(start().start().await.unwrap(), clock.clone());
        assert_eq!(s.id(), id);
        assert_eq!(s.pool.developer_credentials().access_key_id(), key);
        assert_eq!(s.vend("alice").await.0, identity);
        s.credentials(&identity, &token).await;
        let who = aws_sdk_sts::Client::new(&signed_by(s.pool.client_config(), &credentials));
        who.get_caller_identity().send().await.unwrap();
        let token = s.pool.oidc_issuer("accounts.example.com").unwrap().token("a");
        s.client()
            .get_id()
            .identity_pool_id(&id)
            .logins("accounts.example.com", token)
            .send()
            .await
            .unwrap();
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }
    let other = start()
        .identity_pool_id("us-east-1:11111111-2222-4333-8444-555555555555")
        .start()
        .await;
    assert!(matches!(other, Err(LocalPoolError::Setting(text)) if text.contains(&id)));
    let renamed = LocalIdentityPool::builder()
        .developer_provider("login.other")
        .state_file(&file)
        .start()
        .await;
    assert!(matches!(renamed, Err(LocalPoolError::Setting(text)) if text.contains("login.other")));
    std::fs::write(&file, "{\"version\":1").unwrap();
    assert!(start().start().await.is_err());
    assert_eq!(
        std::fs::read_to_string(&file).unwrap(),
        "{\"version\":1",
        "what cannot be read is not overwritten"
    );
}

#[tokio::test]
async fn the_tokens_of_a_real_provider_are_good_once_its_keys_are_known() {
    let s = Stage::start().await;
    // Another pool plays the provider: real keys, real tokens, known by nothing but its JWKS document.
    let elsewhere = LocalIdentityPool::builder()
        .time_source(s.clock.clone())
        .start()
        .await
        .unwrap();
    let provider = elsewhere.oidc_issuer("auth.example.com/realms/app").unwrap();
    let url = format!(
        "{}/issuers/auth.example.com/realms/app/.well-known/jwks.json",
        elsewhere.endpoint_url()
    );
    let jwks = reqwest::get(url).await.unwrap().text().await.unwrap();

    let trusted = s
        .pool
        .trust_issuer("auth.example.com/realms/app", Some("my-app"))
        .unwrap();
    let name = trusted.provider_name();
    let get_id = async |token: &str| {
        s.client()
            .get_id()
            .identity_pool_id(s.id())
            .logins(name, token)
            .send()
            .await
    };
    let token = provider.token_for("alice").audience("my-app");
    let brief = provider
        .token_for("alice")
        .audience("my-app")
        .lifetime(Duration::ZERO)
        .issue();
    let slash = provider
        .token_for("alice")
        .audience("my-app")
        .issuer("http://auth.example.com/realms/app/")
        .issue();
    let token = token.issue();
    assert_eq!(error(get_id(&token).await).0, "ExternalServiceException");
    assert!(trusted.set_keys("{}").is_err());
    trusted.set_keys(&jwks).unwrap();
    let id = get_id(&token).await.unwrap().identity_id;
    assert_eq!(get_id(&slash).await.unwrap().identity_id, id);
    // Tokens of other providers than Cognito are taken for five minutes after their end.
    s.clock.advance(Duration::from_secs(301));
    for wrong in [
        brief,
        provider.token_for("alice").issue(),
        provider.token_for("alice").audience("my-app").forged().issue(),
        provider
            .token_for("alice")
            .audience("my-app")
            .issuer("https://auth.example.com")
            .issue(),
    ] {
        assert_eq!(error(get_id(&wrong).await).0, "NotAuthorizedException");
    }
    let expired = provider.token_for("alice").audience("my-app").lifetime(Duration::ZERO);
    let expired = expired.issue();
    // Five minutes of grace later.
    s.clock.advance(Duration::from_secs(300));
    assert_eq!(error(get_id(&expired).await).0, "NotAuthorizedException");
}

#[tokio::test]
async fn what_iam_prints_of_a_role_is_taken() {
    let policy = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Allow",
        "Principal": { "Federated": "cognito-identity.amazonaws.com" },
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": { "StringEquals": { "cognito-identity.amazonaws.com:aud": "us-east-1:00000000-0000-4000-8000-000000000000" } }
    }] });
    let arn = "arn:aws:iam::123456789012:role/app";
    for document in [policy.clone(), json!(policy.to_string())] {
        let printed = json!({ "Role": {
            "Path": "/", "RoleName": "app", "RoleId": "AROAEXAMPLE", "Arn": arn, "CreateDate": "2026-01-01T00:00:00+00:00",
            "AssumeRolePolicyDocument": document, "MaxSessionDuration": 3600, "RoleLastUsed": {}
        } });
        let s = Stage::with(|pool| pool.roles_json(&printed.to_string()).unwrap().authenticated_role(arn)).await;
        let (identity, token) = s.vend("alice").await;
        let refused = s
            .client()
            .get_credentials_for_identity()
            .identity_id(identity)
            .logins(ISSUER, token)
            .send()
            .await;
        assert_eq!(
            error(refused).0,
            "InvalidIdentityPoolConfigurationException",
            "the policy is for another pool"
        );
    }
    for wrong in [
        "",
        "[]",
        "{}",
        r#"{"Role":{}}"#,
        r#"{"Role":{"Arn":"a","AssumeRolePolicyDocument":"x"}}"#,
    ] {
        assert!(LocalIdentityPool::builder().roles_json(wrong).is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn the_pools_configs_travel_in_time_with_it() {
    let pool = LocalIdentityPool::builder().start().await.unwrap();
    let before = pool.client_config().time_source().unwrap();
    let start: SystemTime = before.now();
    pool.advance_clock(Duration::from_secs(7200));
    assert!(before.now() >= start + Duration::from_secs(7200));
}

#[tokio::test]
async fn the_tag_maps_of_a_pools_file_are_checked_and_applied() {
    let id = "us-east-1:11111111-2222-4333-8444-555555555555";
    let file = |provider: &str| {
        json!({ "IdentityPools": [{
            "IdentityPoolId": id, "IdentityPoolName": "second", "AllowUnauthenticatedIdentities": false,
            "OpenIdConnectProviderARNs": ["arn:aws:iam::123456789012:oidc-provider/accounts.example.com"],
            "Roles": { "authenticated": "arn:aws:iam::123456789012:role/app" },
            "PrincipalTagAttributeMaps": [
                { "IdentityProviderName": provider, "UseDefaults": false, "PrincipalTags": { "tenant": "custom:tenant" } }
            ]
        }] })
        .to_string()
    };
    let s = Stage::with(|pool| pool.pools_file(&file("accounts.example.com")).unwrap()).await;
    let provider = s.pool.oidc_issuer("accounts.example.com").unwrap();
    let token = provider.token_for("alice").claim("custom:tenant", "t1").issue();
    let got = s
        .client()
        .get_id()
        .identity_pool_id(id)
        .logins("accounts.example.com", &token);
    let identity = got.send().await.unwrap().identity_id.unwrap();
    let exchange = s.client().get_credentials_for_identity().identity_id(identity);
    exchange.logins("accounts.example.com", token).send().await.unwrap();
    let last = s.pool.requests().pop().unwrap();
    assert_eq!(last.principal_tags.get("tenant").map(String::as_str), Some("t1"));
    for wrong in [file("accounts.other.com"), file("")] {
        assert!(LocalIdentityPool::builder().pools_file(&wrong).is_err());
    }
}
