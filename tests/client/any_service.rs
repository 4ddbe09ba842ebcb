//! An AWS service on a socket of its own: it writes down by whom each request was signed, gives out roles to whoever asks, and fails
//! when it is told to.
#![allow(dead_code, unreachable_pub, reason = "each test uses its own part")]

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use cognito_identity_pool::LocalIdentityPool;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

/// How a request is answered, after something has been done.
struct Order {
    first: BoxFuture<'static, ()>,
    status: StatusCode,
    body: String,
}

/// A request, as the service saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    pub operation: String,
    /// The `x-number` header, if it was sent.
    pub number: Option<usize>,
    /// The identity whose credentials signed it, `role of` it for what was derived from them, or the access key if it is nobody's here.
    pub by: String,
}

#[derive(Clone)]
pub struct AnyService {
    pub url: String,
    shared: Arc<Shared>,
}

struct Shared {
    pool: LocalIdentityPool,
    seen: Mutex<Vec<Signed>>,
    /// The access keys that it gave out -> for whom.
    derived: Mutex<HashMap<String, String>>,
    orders: Mutex<VecDeque<Order>>,
    /// Every n-th request fails. 0: none does.
    fails_each: AtomicUsize,
}

impl AnyService {
    pub async fn start(pool: &LocalIdentityPool) -> Self {
        let shared = Arc::new(Shared {
            pool: pool.clone(),
            seen: Mutex::default(),
            derived: Mutex::default(),
            orders: Mutex::default(),
            fails_each: AtomicUsize::new(0),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let routes = axum::Router::new().fallback(answer).with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self { url, shared }
    }

    /// For clients of the service: over its socket, with no pause between attempts.
    pub fn config(&self, base: &SdkConfig) -> SdkConfig {
        let mut config = base.to_builder();
        config.set_http_client(None);
        let retries = RetryConfig::standard()
            .with_initial_backoff(Duration::from_nanos(1))
            .with_max_backoff(Duration::from_nanos(1));
        config.endpoint_url(&self.url).retry_config(retries).build()
    }

    /// The next request fails with a 503, after `action`, unless it asks for credentials.
    pub fn fail_once_and(&self, action: impl FnOnce() + Send + 'static) {
        self.order(StatusCode::SERVICE_UNAVAILABLE, String::new(), async { action() });
    }

    /// The next request is refused with `code`, after `first`.
    pub fn refuse_once_after(&self, code: &str, first: impl Future<Output = ()> + Send + 'static) {
        let body = format!("<ErrorResponse><Error><Code>{code}</Code><Message>m</Message></Error></ErrorResponse>");
        self.order(StatusCode::FORBIDDEN, body, first);
    }

    fn order(&self, status: StatusCode, body: String, first: impl Future<Output = ()> + Send + 'static) {
        let first = first.boxed();
        self.shared
            .orders
            .lock()
            .unwrap()
            .push_back(Order { first, status, body });
    }

    pub fn fail_each(&self, nth: usize) {
        self.shared.fails_each.store(nth, Ordering::SeqCst);
    }

    pub fn seen(&self) -> Vec<Signed> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// By whom the requests of an operation were signed, in order.
    pub fn signers(&self, operation: &str) -> Vec<String> {
        let seen = self.seen();
        let of_it = seen.into_iter().filter(|seen| seen.operation == operation);
        of_it.map(|seen| seen.by).collect()
    }

    /// By whom the `GetCallerIdentity`s were signed.
    pub fn calls(&self) -> Vec<String> {
        self.signers("GetCallerIdentity")
    }
}

pub fn role_of(identity: &str) -> String {
    format!("role of {identity}")
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    let header = |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap());
    let signer = header("authorization")
        .split_once("Credential=")
        .map_or("nobody", |(_, rest)| rest.split('/').next().unwrap());
    let derived = shared.derived.lock().unwrap().get(signer).cloned();
    let by = derived
        .or_else(|| shared.pool.identity_of(signer))
        .unwrap_or_else(|| signer.to_owned());
    let form = String::from_utf8_lossy(&body);
    let action = form.split('&').find_map(|pair| pair.strip_prefix("Action="));
    // STS asks by forms, S3 by methods.
    let operation = match (action, &method) {
        (Some(action), _) => action,
        (None, &Method::PUT) => "PutObject",
        (None, _) if uri.query().is_some_and(|query| query.starts_with("session")) => "CreateSession",
        (None, _) => "GetObject",
    };
    let count = {
        let mut seen = shared.seen.lock().unwrap();
        seen.push(Signed {
            operation: operation.to_owned(),
            number: header("x-number").parse().ok(),
            by: by.clone(),
        });
        seen.len()
    };
    let each = shared.fails_each.load(Ordering::SeqCst);
    if each > 0 && count % each == 0 {
        return (StatusCode::SERVICE_UNAVAILABLE, String::new());
    }
    if matches!(operation, "AssumeRole" | "CreateSession") {
        let key = format!("ASIADERIVED{count:09}");
        shared.derived.lock().unwrap().insert(key.clone(), role_of(&by));
        let credentials = format!(
            "<Credentials><AccessKeyId>{key}</AccessKeyId><SecretAccessKey>secret</SecretAccessKey>\
             <SessionToken>token</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>"
        );
        let answer = if operation == "AssumeRole" {
            format!("<AssumeRoleResponse><AssumeRoleResult>{credentials}</AssumeRoleResult></AssumeRoleResponse>")
        } else {
            format!("<CreateSessionResult>{credentials}</CreateSessionResult>")
        };
        return (StatusCode::OK, answer);
    }
    let order = shared.orders.lock().unwrap().pop_front();
    if let Some(Order { first, status, body }) = order {
        first.await;
        return (status, body);
    }
    let answer = "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:sts::123456789012:assumed-role/r/s</Arn>\
                  <UserId>u</UserId><Account>123456789012</Account></GetCallerIdentityResult></GetCallerIdentityResponse>";
    (StatusCode::OK, answer.to_owned())
}
