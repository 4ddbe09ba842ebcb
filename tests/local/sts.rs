//! STS in all its forms: the GET form, presigned requests; and what a client can grow.

use std::time::{Duration, SystemTime};

use crate::stage::Stage;
use aws_credential_types::Credentials;
use aws_sdk_cognitoidentity::types::Credentials as Vended;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

const ROLE: &str = "arn:aws:iam::123456789012:role/app";

/// Status and body of a GET.
async fn get(url: &str) -> (u16, String) {
    let response = reqwest::get(url).await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test]
async fn a_token_is_exchanged_by_get_as_by_post() {
    let stage = Stage::start().await;
    let (id, token) = stage.vend("user-42").await;
    let url = format!(
        "{}/?Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn={}&RoleSessionName=a1&WebIdentityToken={token}",
        stage.pool.endpoint_url(),
        utf8_percent_encode(ROLE, NON_ALPHANUMERIC),
    );
    let (status, body) = get(&url).await;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains(&format!("<SubjectFromWebIdentityToken>{id}<")), "{body}");
    let record = stage.pool.requests().pop().unwrap();
    assert_eq!(
        (record.service, record.operation.as_str()),
        ("sts", "AssumeRoleWithWebIdentity")
    );
    let (status, body) = get(&format!("{}/?Action=Nothing", stage.pool.endpoint_url())).await;
    assert_eq!((status, body.contains("<Code>InvalidAction<")), (400, true), "{body}");
    let (status, body) = get(&format!("{}/?unrelated=1", stage.pool.endpoint_url())).await;
    assert_eq!((status, body.as_str()), (404, "Not Found"));
}

/// `url` with a signature for a minute in its query, by AWS's own signer.
fn presign(url: &str, credentials: &Vended, now: SystemTime) -> String {
    let identity = Credentials::new(
        credentials.access_key_id().unwrap(),
        credentials.secret_key().unwrap(),
        credentials.session_token().map(str::to_owned),
        None,
        "test",
    )
    .into();
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(Duration::from_secs(60));
    let params = SigningParams::builder()
        .identity(&identity)
        .region("us-east-1")
        .name("sts")
        .time(now)
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let request = SignableRequest::new("GET", url, std::iter::empty(), SignableBody::Bytes(b"")).unwrap();
    let (instructions, _) = sign(request, &params).unwrap().into_parts();
    let mut request = http::Request::get(url).body(()).unwrap();
    instructions.apply_to_request_http1x(&mut request);
    request.uri().to_string()
}

#[tokio::test]
async fn a_presigned_caller_identity_says_who_signed_it_until_it_expires() {
    let stage = Stage::start().await;
    let (id, token) = stage.vend("user-42").await;
    let credentials = stage.credentials(&id, &token).await;
    let url = format!(
        "{}/?Action=GetCallerIdentity&Version=2011-06-15",
        stage.pool.endpoint_url()
    );
    let presigned = presign(
        &url,
        &credentials,
        aws_smithy_async::time::TimeSource::now(&stage.clock),
    );
    let (status, body) = get(&presigned).await;
    assert_eq!(status, 200, "{body}");
    assert!(
        body.contains(":assumed-role/local-authenticated/CognitoIdentityCredentials<"),
        "{body}"
    );
    assert_eq!(stage.pool.requests().pop().unwrap().identity_id, Some(id));

    let (status, body) = get(&presigned.replace("X-Amz-Expires=60", "X-Amz-Expires=61")).await;
    assert_eq!(
        (status, body.contains("<Code>SignatureDoesNotMatch<")),
        (403, true),
        "{body}"
    );
    let (status, body) = get(&presigned.replace("X-Amz-Expires=60", "X-Amz-Expires=604801")).await;
    assert_eq!(
        (status, body.contains("<Code>IncompleteSignature<")),
        (400, true),
        "{body}"
    );
    stage.clock.advance(Duration::from_secs(61));
    let (status, body) = get(&presigned).await;
    assert_eq!(
        (status, body.contains("<Code>SignatureDoesNotMatch<")),
        (403, true),
        "{body}"
    );
}

#[tokio::test]
async fn of_a_target_of_300_kilobytes_the_record_keeps_the_beginning() {
    let stage = Stage::start().await;
    let target = format!("AWSCognitoIdentityService.{}", "x".repeat(300_000));
    let request = http::Request::post("/").header("x-amz-target", target);
    let request = request.header("content-type", "application/x-amz-json-1.1");
    let response = stage.pool.respond(request.body("{}".into()).unwrap()).await.unwrap();
    assert_eq!(response.status(), 400);
    assert_eq!(stage.pool.requests().pop().unwrap().operation.len(), 256);
}
