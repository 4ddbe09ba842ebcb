//! What `examples/signers.rs` signs, recomputed from the specification of Signature Version 4 by code that knows nothing of the signer.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use aws_credential_types::Credentials;
use aws_credential_types::provider::ProvideCredentials;
use cognito_identity_pool::{CognitoCredentialsProvider, LocalIdentityPool, Login, Session};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

#[path = "../../examples/signers.rs"]
mod example;

use example::Scope;

/// 2026-09-21T14:13:20Z.
const AT: (&str, u64) = ("20260921T141320Z", 1_790_000_000);

fn scope(service: &'static str) -> Scope<'static> {
    Scope {
        service,
        region: "us-east-1",
        at: SystemTime::UNIX_EPOCH + Duration::from_secs(AT.1),
    }
}

async fn guest() -> (LocalIdentityPool, Session) {
    let pool = LocalIdentityPool::builder().allow_guests(true).start().await.unwrap();
    let provider = CognitoCredentialsProvider::builder(pool.identity_pool_id())
        .configure(&pool.client_config())
        .build()
        .unwrap();
    (pool, provider.switch_to(Login::guest()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).unwrap();
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

/// The signature of a canonical request.
fn signature(as_whom: &Credentials, service: &str, canonical: &str) -> String {
    let day = &AT.0[..8];
    let scope = format!("{day}/us-east-1/{service}/aws4_request");
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{}\n{scope}\n{}",
        AT.0,
        hex(&Sha256::digest(canonical))
    );
    let key = mac(format!("AWS4{}", as_whom.secret_access_key()).as_bytes(), day);
    let key = ["us-east-1", service, "aws4_request"]
        .iter()
        .fold(key, |key, part| mac(&key, part));
    hex(&mac(&key, &to_sign))
}

/// The parameters of a URL as they stand in it, and those that were signed.
fn query(url: &str, unsigned: &[&str]) -> (BTreeMap<String, String>, String) {
    let pairs = url.split_once('?').unwrap().1.split('&');
    let all: BTreeMap<_, _> = pairs
        .map(|pair| pair.split_once('=').unwrap())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let signed = all.iter().filter(|(name, _)| !unsigned.contains(&name.as_str()));
    let signed: Vec<_> = signed.map(|(name, value)| format!("{name}={value}")).collect();
    (all.clone(), signed.join("&"))
}

#[tokio::test]
async fn the_story_is_true() {
    let mut told = Vec::new();
    example::story(|line| told.push(line)).await.unwrap();
    assert_eq!(told.len(), 7, "{told:#?}");
    assert_eq!(
        told.iter().filter(|line| line.ends_with("true")).count(),
        6,
        "{told:#?}"
    );
    assert!(
        told[3].ends_with("wss://a1b2c3d4e5-ats.iot.us-east-1.amazonaws.com/mqtt"),
        "{told:#?}"
    );
}

#[tokio::test]
async fn api_gateway_and_appsync_are_signed_in_their_headers() {
    let (_pool, guest) = guest().await;
    let credentials = guest.provide_credentials().await.unwrap();
    for (service, method, url, path, body) in [
        (
            "execute-api",
            "GET",
            "https://a1.execute-api.us-east-1.amazonaws.com/prod/pets?b=2&a=1",
            "/prod/pets",
            "",
        ),
        (
            "appsync",
            "POST",
            "https://a1.appsync-api.us-east-1.amazonaws.com/graphql",
            "/graphql",
            r#"{"query":"{ a }"}"#,
        ),
    ] {
        let request = http::Request::builder()
            .method(method)
            .uri(url)
            .body(body.as_bytes().to_vec())
            .unwrap();
        let signed = example::signed(&guest, scope(service), request).await.unwrap();
        let header = |name: &str| signed.headers()[name].to_str().unwrap();
        assert_eq!(header("x-amz-date"), AT.0);
        assert_eq!(Some(header("x-amz-security-token")), credentials.session_token());
        let query = if url.contains('?') { "a=1&b=2" } else { "" };
        let host = signed.uri().host().unwrap();
        let token = header("x-amz-security-token");
        let canonical = format!(
            "{method}\n{path}\n{query}\nhost:{host}\nx-amz-date:{}\nx-amz-security-token:{token}\n\nhost;x-amz-date;x-amz-security-token\n{}",
            AT.0,
            hex(&Sha256::digest(body))
        );
        let expected = signature(&credentials, service, &canonical);
        assert!(
            header("authorization").ends_with(&format!("Signature={expected}")),
            "{service}: {signed:?}"
        );
    }
}

#[tokio::test]
async fn an_mqtt_url_is_signed_without_the_token_which_comes_last() {
    let (_pool, guest) = guest().await;
    let credentials = guest.provide_credentials().await.unwrap();
    let host = "a1-ats.iot.us-east-1.amazonaws.com";
    let url = example::mqtt_url(&guest, host, scope("iotdevicegateway"))
        .await
        .unwrap();
    assert!(url.starts_with(&format!("wss://{host}/mqtt?")), "{url}");
    let (all, signed) = query(&url, &["X-Amz-Signature", "X-Amz-Security-Token"]);
    assert!(
        url.rsplit('&').next().unwrap().starts_with("X-Amz-Security-Token="),
        "{url}"
    );
    let canonical = format!(
        "GET\n/mqtt\n{signed}\nhost:{host}\n\nhost\n{}",
        hex(&Sha256::digest(""))
    );
    assert_eq!(
        all["X-Amz-Signature"],
        signature(&credentials, "iotdevicegateway", &canonical)
    );
}

#[tokio::test]
async fn an_s3_url_is_good_for_as_long_as_it_says() {
    let (_pool, guest) = guest().await;
    let quarter = Duration::from_secs(900);
    let url = example::s3_url(&guest, "photos", "2026/a%20cat.jpg", quarter, scope("s3"))
        .await
        .unwrap();
    let credentials = guest.credentials_valid_for(quarter).await.unwrap();
    let (all, signed) = query(&url, &["X-Amz-Signature"]);
    assert_eq!(all["X-Amz-Expires"], "900");
    assert!(all.contains_key("X-Amz-Security-Token"));
    let canonical =
        format!("GET\n/2026/a%20cat.jpg\n{signed}\nhost:photos.s3.us-east-1.amazonaws.com\n\nhost\nUNSIGNED-PAYLOAD");
    assert_eq!(all["X-Amz-Signature"], signature(&credentials, "s3", &canonical));
    // Longer than the credentials can last is an error, and no URL that ends early.
    let day = Duration::from_secs(86_400);
    assert!(
        example::s3_url(&guest, "photos", "cat.jpg", day, scope("s3"))
            .await
            .is_err()
    );
}
