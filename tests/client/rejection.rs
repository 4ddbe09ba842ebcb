//! A service says that credentials have expired: exactly the ones that signed are made anew, and the same operation goes on.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use crate::stage::{Backend, Order, Stage, ours};
use aws_sdk_sts::types::error::ExpiredTokenException;
use aws_smithy_http_client::test_util::infallible_client_fn;
use aws_smithy_runtime_api::client::interceptors::context::{self, Input, InterceptorContext};
use aws_smithy_runtime_api::client::orchestrator::OrchestratorError;
use aws_smithy_runtime_api::client::retries::classifiers::{ClassifyRetry, RetryAction};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::error::ErrorMetadata;
use cognito_identity_pool::{BackendError, CognitoCredentialsProvider, ErrorKind, Login};

/// How a service says it, protocol by protocol.
#[derive(Clone, Copy)]
enum Says {
    QueryExpiredToken,
    QueryAccessDenied,
    JsonExpiredTokenException,
    JsonInvalidToken,
}

impl Says {
    fn body(self) -> String {
        let xml = |code| {
            format!(
                "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>m</Message></Error></ErrorResponse>"
            )
        };
        match self {
            Self::QueryExpiredToken => xml("ExpiredToken"),
            Self::QueryAccessDenied => xml("AccessDenied"),
            Self::JsonExpiredTokenException => r#"{"__type":"ExpiredTokenException","message":"m"}"#.to_owned(),
            Self::JsonInvalidToken => r#"{"__type":"com.amazon.coral.service#InvalidToken","message":"m"}"#.to_owned(),
        }
    }
}

/// A service that refuses every access key that it sees for the first `refusals` keys.
struct Scene {
    stage: Stage,
    provider: CognitoCredentialsProvider,
    backend: Arc<Backend>,
    signers: Arc<Mutex<Vec<String>>>,
    refused: Arc<Mutex<HashSet<String>>>,
}

impl Scene {
    async fn new() -> Self {
        let stage = Stage::start().await;
        let (provider, backend) = (stage.provider(), stage.backend("alice"));
        provider
            .switch_to(Login::developer(backend.clone()))
            .ready()
            .await
            .unwrap();
        Self {
            stage,
            provider,
            backend,
            signers: Arc::default(),
            refused: Arc::default(),
        }
    }

    async fn key(&self) -> String {
        use aws_credential_types::provider::ProvideCredentials;
        self.provider
            .provide_credentials()
            .await
            .unwrap()
            .access_key_id()
            .to_owned()
    }

    async fn refuse_current(&self) {
        let key = self.key().await;
        self.refused.lock().unwrap().insert(key);
    }

    fn config(&self, says: Says) -> aws_config::SdkConfig {
        let (signers, refused) = (Arc::clone(&self.signers), Arc::clone(&self.refused));
        let client = infallible_client_fn(move |request: http::Request<SdkBody>| {
            let header = request.headers().get("authorization").unwrap().to_str().unwrap();
            let signer = header
                .split_once("Credential=")
                .unwrap()
                .1
                .split('/')
                .next()
                .unwrap()
                .to_owned();
            let no = refused.lock().unwrap().contains(&signer);
            signers.lock().unwrap().push(signer);
            let json = matches!(says, Says::JsonExpiredTokenException | Says::JsonInvalidToken);
            let body = match (no, json) {
                (true, _) => says.body(),
                (false, true) => r#"{"IdentityPools":[]}"#.to_owned(),
                (false, false) => "<GetCallerIdentityResponse><GetCallerIdentityResult></GetCallerIdentityResult></GetCallerIdentityResponse>".to_owned(),
            };
            http::Response::builder()
                .status(if no { 403 } else { 200 })
                .body(SdkBody::from(body))
                .unwrap()
        });
        let base = self
            .stage
            .pool
            .client_config()
            .into_builder()
            .http_client(client)
            .build();
        self.provider.sdk_config(&base)
    }

    fn sts(&self, says: Says) -> aws_sdk_sts::Client {
        let config = aws_sdk_sts::config::Builder::from(&self.config(says))
            .interceptor(self.provider.rejection_interceptor())
            .retry_classifier(self.provider.rejection_retry());
        aws_sdk_sts::Client::from_conf(config.build())
    }

    fn json(&self, says: Says) -> aws_sdk_cognitoidentity::Client {
        let config = aws_sdk_cognitoidentity::config::Builder::from(&self.config(says))
            .interceptor(self.provider.rejection_interceptor())
            .retry_classifier(self.provider.rejection_retry());
        aws_sdk_cognitoidentity::Client::from_conf(config.build())
    }

    fn signers(&self) -> Vec<String> {
        self.signers.lock().unwrap().clone()
    }
}

#[tokio::test]
async fn the_same_operation_succeeds_with_fresh_credentials_in_the_query_protocol() {
    let scene = Scene::new().await;
    scene.refuse_current().await;
    scene
        .sts(Says::QueryExpiredToken)
        .get_caller_identity()
        .send()
        .await
        .unwrap();
    let signers = scene.signers();
    assert_eq!(signers.len(), 2);
    assert_ne!(signers[0], signers[1]);
    // The token was still good: the backend was not asked.
    assert_eq!((scene.backend.calls(), scene.stage.cognito_calls()), (1, (0, 2)));
}

#[tokio::test]
async fn the_same_operation_succeeds_with_fresh_credentials_in_the_json_protocol() {
    for says in [Says::JsonExpiredTokenException, Says::JsonInvalidToken] {
        let scene = Scene::new().await;
        scene.refuse_current().await;
        scene
            .json(says)
            .list_identity_pools()
            .max_results(1)
            .send()
            .await
            .unwrap();
        assert_eq!(scene.signers().len(), 2);
    }
}

#[tokio::test]
async fn access_denied_says_nothing_about_the_credentials() {
    let scene = Scene::new().await;
    scene.refuse_current().await;
    let before = scene.key().await;
    scene
        .sts(Says::QueryAccessDenied)
        .get_caller_identity()
        .send()
        .await
        .unwrap_err();
    assert_eq!(scene.key().await, before);
    assert_eq!(scene.signers().len(), 1);
}

#[tokio::test]
async fn a_late_refusal_of_old_credentials_does_not_touch_the_new_ones() {
    let scene = Scene::new().await;
    let old = aws_credential_types::Credentials::new(scene.key().await, "s", None, None, "old");
    scene.provider.refresh_now().await.unwrap();
    let new = scene.key().await;
    assert!(!scene.provider.invalidate(&old));
    assert_eq!(scene.key().await, new);
}

#[tokio::test]
async fn it_is_tried_once_per_signer_and_not_for_ever() {
    let scene = Scene::new().await;
    scene.refuse_current().await;
    // The refresh fails, and the old credentials serve on: sending them again would be refused again.
    let client = scene.sts(Says::QueryExpiredToken);
    for _ in 0..4 {
        scene.backend.order(Order::Fail(BackendError::transient("down")));
    }
    scene.stage.clock.advance(std::time::Duration::from_secs(1_800));
    let error = ours(&client.get_caller_identity().send().await.unwrap_err());
    assert_eq!(error.kind(), ErrorKind::NotAuthorized);
    assert_eq!(scene.signers().len(), 1);
}

#[tokio::test]
async fn an_operations_own_error_of_the_same_name_says_nothing_of_who_signed() {
    use aws_sdk_sts::operation::assume_role_with_web_identity::AssumeRoleWithWebIdentityError as Refused;
    let stage = Stage::start().await;
    let classifier = stage.provider().rejection_retry();
    let action = |error: Refused| {
        let mut context = InterceptorContext::new(Input::erase(()));
        context.set_output_or_error(Err(OrchestratorError::operation(context::Error::erase(error))));
        classifier.classify_retry(&context)
    };
    let code = ErrorMetadata::builder().code("ExpiredTokenException").build();
    let web_identity = ExpiredTokenException::builder().meta(code.clone()).build();
    assert_eq!(
        action(Refused::ExpiredTokenException(web_identity)),
        RetryAction::NoActionIndicated
    );
    assert_eq!(action(Refused::generic(code)), RetryAction::transient_error());
}
