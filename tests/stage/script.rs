//! An HTTP client that answers by a script, and passes everything else on to the pool.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_config::SdkConfig;
use aws_sdk_cognitoidentity::config::retry::RetryConfig;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::body::SdkBody;
use cognito_identity_pool::client::CognitoCredentialsProviderBuilder;

use super::Stage;

pub enum Act {
    /// Refuses, in the service's form.
    Refuse(&'static str, String),
    /// Answers this.
    Raw(u16, String),
    /// The connection breaks.
    Break,
    /// Waits, then passes the request on.
    Hold(tokio::sync::oneshot::Receiver<()>),
    /// Passes the request on, and waits with the answer.
    HoldAnswer(tokio::sync::oneshot::Receiver<()>),
}

#[derive(Clone, Debug)]
pub struct Script {
    inner: SharedHttpClient,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    acts: Mutex<Vec<(&'static str, VecDeque<Act>)>>,
    seen: Mutex<Vec<(String, serde_json::Value)>>,
    answered: Mutex<Vec<Answered>>,
}

/// A request that the pool has answered.
#[derive(Clone, Debug)]
pub struct Answered {
    pub operation: String,
    pub request: serde_json::Value,
    pub answer: serde_json::Value,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shared")
    }
}

impl Script {
    pub fn new(stage: &Stage) -> Self {
        Self {
            inner: stage.pool.http_client(),
            shared: Arc::default(),
        }
    }

    pub fn config(&self, stage: &Stage) -> SdkConfig {
        let base = stage.pool.client_config().into_builder();
        base.http_client(SharedHttpClient::new(self.clone())).build()
    }

    /// A provider's builder that goes through the script, and does not sleep between retries.
    pub fn builder(&self, stage: &Stage) -> CognitoCredentialsProviderBuilder {
        stage.builder().configure(&self.config(stage)).retry_config(no_pause())
    }

    pub fn next(&self, operation: &'static str, act: Act) {
        let mut acts = self.shared.acts.lock().unwrap();
        match acts.iter_mut().find(|(name, _)| *name == operation) {
            Some((_, queue)) => queue.push_back(act),
            None => acts.push((operation, VecDeque::from([act]))),
        }
    }

    pub fn refuse(&self, operation: &'static str, code: &'static str, message: &str) {
        self.next(operation, Act::Refuse(code, message.to_owned()));
    }

    pub fn hold(&self, operation: &'static str) -> tokio::sync::oneshot::Sender<()> {
        let (release, held) = tokio::sync::oneshot::channel();
        self.next(operation, Act::Hold(held));
        release
    }

    pub fn hold_answer(&self, operation: &'static str) -> tokio::sync::oneshot::Sender<()> {
        let (release, held) = tokio::sync::oneshot::channel();
        self.next(operation, Act::HoldAnswer(held));
        release
    }

    pub fn count(&self, operation: &str) -> usize {
        self.seen().iter().filter(|(name, _)| name == operation).count()
    }

    /// GetId, GetCredentialsForIdentity.
    pub fn counts(&self) -> (usize, usize) {
        (self.count("GetId"), self.count("GetCredentialsForIdentity"))
    }

    pub fn seen(&self) -> Vec<(String, serde_json::Value)> {
        self.shared.seen.lock().unwrap().clone()
    }

    pub fn clear(&self) {
        self.shared.seen.lock().unwrap().clear();
        self.shared.answered.lock().unwrap().clear();
    }

    /// Reads what the pool, or the script in its place, has answered.
    pub fn answered<R>(&self, read: impl FnOnce(&[Answered]) -> R) -> R {
        read(&self.shared.answered.lock().unwrap())
    }

    /// The exchange that gave out these credentials.
    pub fn exchange_of<R>(&self, access_key_id: &str, read: impl FnOnce(&Answered) -> R) -> R {
        self.answered(|answered| {
            let gave = |answered: &&Answered| answered.answer["Credentials"]["AccessKeyId"] == access_key_id;
            read(
                answered
                    .iter()
                    .rev()
                    .find(gave)
                    .expect("credentials that the pool gave out"),
            )
        })
    }

    /// Nothing of the script is left to come.
    pub fn forget_acts(&self) {
        self.shared.acts.lock().unwrap().clear();
    }

    /// Waits until an operation was asked for the n-th time.
    pub async fn reached(&self, operation: &str, count: usize) {
        super::until("the operation is asked", || self.count(operation) >= count).await;
    }
}

pub fn no_pause() -> RetryConfig {
    RetryConfig::standard()
        .with_max_attempts(3)
        .with_initial_backoff(Duration::from_nanos(1))
        .with_max_backoff(Duration::from_nanos(1))
}

impl HttpClient for Script {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        SharedHttpConnector::new(Connector {
            inner: self.inner.http_connector(settings, components),
            shared: Arc::clone(&self.shared),
        })
    }
}

#[derive(Clone, Debug)]
struct Connector {
    inner: SharedHttpConnector,
    shared: Arc<Shared>,
}

fn answer(status: u16, kind: Option<&str>, body: String) -> HttpResponse {
    let mut response = http::Response::builder()
        .status(status)
        .header("content-type", "application/x-amz-json-1.1");
    if let Some(kind) = kind {
        response = response.header("x-amzn-errortype", kind);
    }
    HttpResponse::try_from(response.body(SdkBody::from(body)).unwrap()).unwrap()
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let target = request.headers().get("x-amz-target").unwrap_or_default().to_owned();
        let operation = target.rsplit('.').next().unwrap_or_default().to_owned();
        let body = request
            .body()
            .bytes()
            .and_then(|body| serde_json::from_slice(body).ok())
            .unwrap_or_default();
        let json: serde_json::Value = body;
        self.shared.seen.lock().unwrap().push((operation.clone(), json.clone()));
        let act = {
            let mut acts = self.shared.acts.lock().unwrap();
            let queue = acts.iter_mut().find(|(name, _)| *name == operation);
            queue.and_then(|(_, queue)| queue.pop_front())
        };
        let answered = match act {
            None => self.inner.call(request),
            Some(Act::Refuse(code, message)) => {
                let body = serde_json::json!({"__type": code, "message": message}).to_string();
                let status = if code.starts_with("Internal") { 500 } else { 400 };
                HttpConnectorFuture::ready(Ok(answer(status, Some(code), body)))
            }
            Some(Act::Raw(status, body)) => HttpConnectorFuture::ready(Ok(answer(status, None, body))),
            Some(Act::Break) => HttpConnectorFuture::ready(Err(ConnectorError::io("connection reset".into()))),
            Some(Act::Hold(held)) => {
                let inner = self.inner.clone();
                HttpConnectorFuture::new(async move {
                    held.await.unwrap_or_default();
                    inner.call(request).await
                })
            }
            Some(Act::HoldAnswer(held)) => {
                let inner = self.inner.clone();
                HttpConnectorFuture::new(async move {
                    let answer = inner.call(request).await;
                    held.await.unwrap_or_default();
                    answer
                })
            }
        };
        let shared = Arc::clone(&self.shared);
        HttpConnectorFuture::new(async move {
            let response = answered.await?;
            let bytes = response.body().bytes();
            let answer = bytes
                .and_then(|body| serde_json::from_slice(body).ok())
                .unwrap_or_default();
            shared.answered.lock().unwrap().push(Answered {
                operation,
                request: json,
                answer,
            });
            Ok(response)
        })
    }
}
