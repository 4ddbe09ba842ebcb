//! What goes wrong on demand, as a client sees it: over a socket and in process.

use std::time::Duration;

use crate::stage::{ISSUER, PROVIDER, Stage, error, over_socket};
use aws_credential_types::Credentials;
use aws_sdk_cognitoidentity::Client;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::retry::RetryConfig;
use aws_smithy_types::timeout::TimeoutConfig;
use aws_types::SdkConfig;
use cognito_identity_pool::{
    LocalIdentityPool,
    local::{LocalClock, LocalFault},
};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Clients without retries, over a socket and in process.
fn clients(s: &Stage) -> [Client; 2] {
    let once = |config: SdkConfig| config.into_builder().retry_config(RetryConfig::disabled()).build();
    [
        Client::new(&once(over_socket(s.pool.client_config(), &s.pool))),
        Client::new(&once(s.pool.client_config())),
    ]
}

#[tokio::test]
async fn a_connection_that_ends_early_is_an_error_and_the_next_call_works() {
    let s = Stage::start().await;
    for client in clients(&s) {
        let get_id = || client.get_id().identity_pool_id(s.id()).send();
        s.pool.faults().next_of("GetId", LocalFault::ConnectionReset);
        assert!(matches!(get_id().await, Err(SdkError::DispatchFailure(_))));
        get_id().await.unwrap();
        let before = s.pool.requests_of("GetId").len();
        s.pool.faults().next_of("GetId", LocalFault::HalfResponse);
        assert!(get_id().await.is_err());
        assert_eq!(s.pool.requests_of("GetId").len(), before + 1, "the request took effect");
        get_id().await.unwrap();
        assert_eq!(s.pool.faults().pending(), 0);
    }
}

#[tokio::test]
async fn a_reset_is_a_reset_and_half_an_answer_is_half_an_answer() {
    let s = Stage::start().await;
    let body = json!({ "IdentityPoolId": s.id() }).to_string();
    let request = format!(
        "POST / HTTP/1.1\r\nHost: localhost\r\nX-Amz-Target: AWSCognitoIdentityService.GetId\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    s.pool.faults().next_of("GetId", LocalFault::ConnectionReset);
    let mut stream = tokio::net::TcpStream::connect(s.pool.endpoint_url().replace("http://", ""))
        .await
        .unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(
        stream.read(&mut [0]).await.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset
    );
    s.pool.faults().next_of("GetId", LocalFault::HalfResponse);
    let answer = s.raw(request.as_bytes(), |_| false).await;
    let (head, half) = answer.split_once("\r\n\r\n").unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "))
        .unwrap()
        .parse::<usize>()
        .unwrap();
    assert!(
        head.starts_with("HTTP/1.1 200 OK") && half.len() == length / 2,
        "{answer}"
    );
}

#[tokio::test]
async fn statuses_and_refusals_come_as_the_service_sends_them() {
    let s = Stage::start().await;
    for client in clients(&s) {
        let get_id = || client.get_id().identity_pool_id(s.id()).send();
        for status in [500, 503] {
            s.pool.faults().next_of("GetId", LocalFault::Status(status));
            let refused = get_id().await.unwrap_err();
            assert_eq!(refused.raw_response().unwrap().status().as_u16(), status);
        }
        s.pool
            .faults()
            .next_of("GetId", LocalFault::refuse("TooManyRequestsException").unwrap());
        assert_eq!(
            error(get_id().await),
            ("TooManyRequestsException".to_owned(), "Rate exceeded".to_owned())
        );
        s.pool.faults().next_of("GetId", LocalFault::MalformedBody);
        assert!(matches!(get_id().await, Err(SdkError::ResponseError(_))));
        s.pool.faults().next_of("GetId", LocalFault::WrongContentType);
        get_id().await.unwrap();
    }
}

#[tokio::test]
async fn a_throttled_call_is_retried_by_the_sdk() {
    let s = Stage::start().await;
    s.pool
        .faults()
        .next_n_of("GetId", 2, LocalFault::refuse("TooManyRequestsException").unwrap());
    s.guest_id().await;
    assert_eq!(
        s.pool
            .requests_of("GetId")
            .iter()
            .map(|request| request.status)
            .collect::<Vec<_>>(),
        [400, 400, 200]
    );
}

#[tokio::test]
async fn credentials_can_be_expired_incomplete_or_of_another_identity() {
    let s = Stage::start().await;
    let id = s.guest_id().await;
    for client in clients(&s) {
        let get = || client.get_credentials_for_identity().identity_id(&id).send();
        let plan = |fault| s.pool.faults().next_of("GetCredentialsForIdentity", fault);
        plan(LocalFault::ExpiredCredentials);
        let expiration = get().await.unwrap().credentials.unwrap().expiration.unwrap();
        assert!(expiration < aws_smithy_async::time::TimeSource::now(&s.clock).into());
        plan(LocalFault::OtherIdentity);
        assert_ne!(get().await.unwrap().identity_id(), Some(id.as_str()));
        for member in ["SecretKey", "Expiration", "AccessKeyId", "SessionToken"] {
            plan(LocalFault::WithoutMember(member.to_owned()));
            let credentials = get().await.unwrap().credentials.unwrap();
            let present = [
                credentials.secret_key.is_some(),
                credentials.expiration.is_some(),
                credentials.access_key_id.is_some(),
                credentials.session_token.is_some(),
            ];
            assert_eq!(present.iter().filter(|present| **present).count(), 3, "{member}");
        }
        plan(LocalFault::WithoutMember("Credentials".to_owned()));
        assert!(get().await.unwrap().credentials.is_none());
    }
}

#[tokio::test]
async fn sts_credentials_can_be_expired_incomplete_or_of_another_identity() {
    let s = Stage::start().await;
    let (id, token) = s.vend("user-42").await;
    let sts = s.sts();
    let assume = async |fault| {
        s.pool.faults().next_of("AssumeRoleWithWebIdentity", fault);
        let call = sts
            .assume_role_with_web_identity()
            .role_arn("arn:aws:iam::123456789012:role/app");
        call.role_session_name("session")
            .web_identity_token(&token)
            .send()
            .await
    };
    let expired = assume(LocalFault::ExpiredCredentials)
        .await
        .unwrap()
        .credentials
        .unwrap();
    assert!(*expired.expiration() < aws_smithy_async::time::TimeSource::now(&s.clock).into());
    let other = assume(LocalFault::OtherIdentity).await.unwrap();
    assert_ne!(other.subject_from_web_identity_token(), Some(id.as_str()));
    let without = assume(LocalFault::WithoutMember("Credentials".to_owned()))
        .await
        .unwrap();
    assert!(without.credentials().is_none());
}

#[tokio::test]
async fn requests_that_never_got_an_answer_are_counted() {
    let s = Stage::start().await;
    s.pool.faults().next_of("GetId", LocalFault::ConnectionReset);
    s.guest_id().await;
    assert_eq!(
        s.pool
            .requests_of("GetId")
            .iter()
            .map(|request| request.status)
            .collect::<Vec<_>>(),
        [0, 200]
    );
}

#[tokio::test]
async fn rotated_keys_keep_or_drop_older_tokens() {
    let s = Stage::start().await;
    let (id, token) = s.vend("user-42").await;
    let get = |token: &str| {
        s.client()
            .get_credentials_for_identity()
            .identity_id(&id)
            .logins(ISSUER, token)
            .send()
    };
    s.pool
        .faults()
        .next_of("GetCredentialsForIdentity", LocalFault::RotateKeys { keep_old: true });
    get(&token).await.unwrap();
    s.pool
        .faults()
        .next_of("GetCredentialsForIdentity", LocalFault::RotateKeys { keep_old: false });
    assert_eq!(
        error(get(&token).await).1,
        "Invalid login token. Couldn't verify signed token."
    );
    let (_, fresh) = s.vend("user-42").await;
    get(&fresh).await.unwrap();
}

/// Virtual time: no test waits for real.
#[tokio::test(start_paused = true)]
async fn latency_and_hangs_end_by_the_clients_own_timeout() {
    let pool = LocalIdentityPool::builder().allow_guests(true).start().await.unwrap();
    let timeout = TimeoutConfig::builder()
        .operation_timeout(Duration::from_secs(5))
        .build();
    let config = pool
        .client_config()
        .into_builder()
        .timeout_config(timeout)
        .retry_config(RetryConfig::disabled())
        .build();
    let client = Client::new(&config);
    let get_id = || client.get_id().identity_pool_id(pool.identity_pool_id()).send();
    pool.faults()
        .next_of("GetId", LocalFault::Latency(Duration::from_secs(4)));
    let before = tokio::time::Instant::now();
    get_id().await.unwrap();
    assert_eq!(before.elapsed().as_secs(), 4);
    for fault in [LocalFault::Latency(Duration::from_secs(6)), LocalFault::Hang] {
        pool.faults().next_of("GetId", fault);
        assert!(matches!(get_id().await, Err(SdkError::TimeoutError(_))));
    }
}

#[tokio::test]
async fn the_services_clock_may_be_another() {
    let s = Stage::start().await;
    let (id, token) = s.vend("user-42").await;
    s.pool.faults().set_clock_offset(900);
    let call = s
        .client()
        .get_credentials_for_identity()
        .identity_id(&id)
        .logins(ISSUER, token);
    assert!(
        error(call.send().await)
            .1
            .starts_with("Invalid login token. Token expired: ")
    );
}

#[tokio::test]
async fn a_seed_brings_the_same_faults_again() {
    let outcomes = async |seed| {
        let s = Stage::start().await;
        s.pool.faults().seeded(
            seed,
            3,
            [
                LocalFault::Status(500),
                LocalFault::refuse("InternalErrorException").unwrap(),
            ],
        );
        let [client, _] = clients(&s);
        let mut outcomes = Vec::new();
        for _ in 0..30 {
            outcomes.push(error(client.get_id().identity_pool_id(s.id()).send().await).0);
        }
        outcomes
    };
    assert_eq!(outcomes(1).await, outcomes(1).await);
    assert_ne!(outcomes(1).await, outcomes(2).await);
}

#[tokio::test]
async fn faults_can_be_planned_from_another_process_that_has_the_token() {
    let s = Stage::start().await;
    let url = format!("{}/_local/faults", s.pool.endpoint_url());
    let post = async |token: &str, order: serde_json::Value| {
        let request = reqwest::Client::new()
            .post(&url)
            .header("x-local-admin", token)
            .body(order.to_string());
        request.send().await.unwrap().status().as_u16()
    };
    let order = json!({ "operation": "GetId", "fault": "Status", "status": 503, "count": 3 });
    assert_eq!(post("guessed", order.clone()).await, 403);
    assert_eq!(s.pool.faults().pending(), 0);
    let token = s.pool.admin_token().to_owned();
    assert_eq!(post(&token, order).await, 200);
    assert_eq!(s.pool.faults().pending(), 3);
    for order in [
        json!({ "operation": "GetId", "fault": "Latency", "milliseconds": 1 }),
        json!({ "operation": "GetId", "fault": "Refuse", "error": "InternalErrorException" }),
        json!({ "operation": "GetId", "fault": "WithoutMember", "member": "IdentityId" }),
        json!({ "clock_offset": 60 }),
    ] {
        assert_eq!(post(&token, order).await, 200);
    }
    for order in [
        json!({ "fault": "Hang" }),
        json!({ "operation": "GetId", "fault": "Nothing" }),
        json!([]),
        json!({}),
    ] {
        assert_eq!(post(&token, order).await, 400);
    }
    let delete = reqwest::Client::new()
        .delete(&url)
        .header("x-local-admin", &token)
        .send()
        .await
        .unwrap();
    assert_eq!(delete.status(), 200);
    assert_eq!(s.pool.faults().pending(), 0);
}

#[tokio::test]
async fn credentials_come_from_the_server_behind_the_pool() {
    let behind = Stage::start().await;
    let clock = LocalClock::at_present();
    let asked = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = std::sync::Arc::clone(&asked);
    let front = LocalIdentityPool::builder()
        .developer_provider(PROVIDER)
        .time_source(clock)
        .credentials_seconds(15)
        .credentials_from(move |request| {
            let role = request.role_arn.clone();
            seen.lock().unwrap().push(request);
            async move {
                if role.ends_with("forbidden") {
                    return Err("no such role".into());
                }
                Ok(Credentials::new(
                    "ASIABEHIND",
                    "secret",
                    Some("token".into()),
                    Some(std::time::UNIX_EPOCH),
                    "test",
                ))
            }
        })
        .start()
        .await
        .unwrap();
    let front = Stage::of(front, behind.clock.clone()).in_process();
    let (id, token) = front.vend("user-42").await;
    assert_eq!(front.credentials(&id, &token).await.access_key_id(), Some("ASIABEHIND"));
    assert_eq!(front.pool.identity_of("ASIABEHIND"), Some(id.clone()));
    {
        let asked = asked.lock().unwrap();
        assert_eq!(asked[0].role_session_name, "CognitoIdentityCredentials");
        assert_eq!((asked[0].duration_seconds, &asked[0].identity_id), (15, &id));
    }
    let roles = json!({ "IdentityPoolId": front.id(), "Roles": { "authenticated": "arn:aws:iam::123456789012:role/forbidden" } });
    assert_eq!(
        front.json("SetIdentityPoolRoles", roles, true).await,
        Default::default()
    );
    let call = front
        .client()
        .get_credentials_for_identity()
        .identity_id(&id)
        .logins(ISSUER, token);
    assert_eq!(error(call.send().await).0, "InvalidIdentityPoolConfigurationException");
}

/// Nothing here may panic for want of a runtime.
#[test]
fn a_late_answer_without_a_runtime_comes_at_once() {
    use futures_util::FutureExt;
    let pool = LocalIdentityPool::builder().start().now_or_never().unwrap().unwrap();
    pool.faults()
        .next_of("/nothing", LocalFault::Latency(Duration::from_secs(60)));
    let request = http::Request::get("/nothing").body(bytes::Bytes::new()).unwrap();
    assert_eq!(pool.respond(request).now_or_never().unwrap().unwrap().status(), 404);
}
