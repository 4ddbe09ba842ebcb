//! The well-known walk-through, in process and over a real socket, with the real SDK clients.

use std::time::Duration;

use crate::stage::{DEADLINE, ISSUER, PROVIDER, Stage, error, over_socket, signed_by};
use aws_types::SdkConfig;

async fn walk(s: &Stage, config: SdkConfig) {
    let (id, token) = s.vend("user-42").await;
    let (again, _) = s.vend("user-42").await;
    assert_eq!(id, again, "the same user always gets the same identity");
    assert_ne!(s.vend("user-43").await.0, id);

    let credentials = s.credentials(&id, &token).await;
    let key = credentials.access_key_id().unwrap();
    let sts = aws_sdk_sts::Client::new(&signed_by(config, &credentials));
    let caller = sts.get_caller_identity().send().await.unwrap();
    assert_eq!(
        caller.arn(),
        Some("arn:aws:sts::123456789012:assumed-role/local-authenticated/CognitoIdentityCredentials")
    );
    assert_eq!(s.pool.identity_of(key).as_deref(), Some(id.as_str()));
    let seen = s.pool.requests_of("GetCallerIdentity").pop().unwrap();
    assert_eq!(seen.identity_id.as_deref(), Some(id.as_str()));
    assert_eq!(seen.access_key_id.as_deref(), Some(key));

    s.clock.advance(Duration::from_secs(3600));
    assert_eq!(error(sts.get_caller_identity().send().await).0, "ExpiredToken");
    let call = s
        .client()
        .get_credentials_for_identity()
        .identity_id(&id)
        .logins(ISSUER, token);
    let (_, message) = error(call.send().await);
    assert!(message.starts_with("Invalid login token. Token expired: "), "{message}");

    for request in s.pool.requests_of("GetCredentialsForIdentity") {
        assert!(
            !request.authorization,
            "the unsigned operations carry no Authorization header"
        );
    }
}

#[tokio::test]
async fn the_walk_through_runs_in_process() {
    let s = Stage::start().await.in_process();
    let config = s.pool.client_config();
    walk(&s, config).await;
}

#[tokio::test]
async fn the_walk_through_runs_over_a_socket() {
    let s = Stage::start().await;
    let config = over_socket(s.pool.client_config(), &s.pool);
    walk(&s, config).await;
}

#[tokio::test]
async fn tokens_verify_with_the_published_key_set() {
    let s = Stage::start().await;
    let (id, token) = s.vend("user-42").await;
    let keys: jsonwebtoken::jwk::JwkSet = reqwest::get(s.pool.jwks_uri()).await.unwrap().json().await.unwrap();
    let header = jsonwebtoken::decode_header(&token).unwrap();
    assert_eq!(header.alg, jsonwebtoken::Algorithm::RS512);
    let key = jsonwebtoken::DecodingKey::from_jwk(keys.find(&header.kid.unwrap()).unwrap()).unwrap();
    let mut validation = jsonwebtoken::Validation::new(jsonwebtoken::Algorithm::RS512);
    validation.set_audience(&[s.id()]);
    // The pool's clock is not this machine's.
    validation.validate_exp = false;
    validation.set_issuer(&["https://cognito-identity.amazonaws.com"]);
    let claims = jsonwebtoken::decode::<serde_json::Value>(&token, &key, &validation)
        .unwrap()
        .claims;
    assert_eq!(claims["sub"], id.as_str());
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 900);
    let user = format!("{PROVIDER}:{}:user-42", s.id());
    assert_eq!(claims["amr"], serde_json::json!(["authenticated", PROVIDER, user]));
}

#[tokio::test]
async fn the_server_stops_with_the_last_handle() {
    let s = Stage::start().await;
    let uri = s.pool.jwks_uri();
    let clone = s.pool.clone();
    drop(s);
    assert!(reqwest::get(&uri).await.is_ok());
    drop(clone);
    // The thread of the server ends on its own time; each try is a connection that it may still accept.
    let end = std::time::Instant::now() + DEADLINE;
    while reqwest::get(&uri).await.is_ok() {
        assert!(std::time::Instant::now() < end, "the server still answers");
    }
}
