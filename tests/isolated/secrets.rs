//! No token, secret key or session token in any `Debug` or `Display`, in an error and its sources, or in a log line of ours at any
//! level. Real secrets of a whole run are the canaries.

use std::fmt::Debug;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::stage::{PROVIDER, Stage, ours};
use aws_credential_types::provider::ProvideCredentials;
use aws_smithy_http_client::test_util::infallible_client_fn;
use aws_smithy_types::body::SdkBody;
use cognito_identity_pool::{
    BackendError, CognitoCredentialsProvider, DeveloperIdentity, DeveloperUserId, Error, Login, Logins, OpenIdToken,
    TokenVendor, server::VendRequest,
};
use secrecy::ExposeSecret;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;

/// What must never be seen, as it was really used.
#[derive(Default)]
struct Canaries(Vec<String>);

impl Canaries {
    fn add(&mut self, secret: &str) {
        assert!(secret.len() >= 12, "too short to be searched for");
        self.0.push(secret.to_owned());
        // A token's parts are as telling as the whole.
        self.0
            .extend(secret.split('.').filter(|part| part.len() >= 40).map(str::to_owned));
    }

    fn credentials(&mut self, credentials: &aws_credential_types::Credentials) {
        self.add(credentials.secret_access_key());
        self.add(credentials.session_token().unwrap());
    }

    #[track_caller]
    fn check(&self, what: &str, text: &str) {
        for canary in &self.0 {
            assert!(!text.contains(canary.as_str()), "{what} shows a secret: {text}");
        }
    }

    #[track_caller]
    fn debug(&self, value: &dyn Debug) {
        self.check("Debug", &format!("{value:?}"));
        self.check("pretty Debug", &format!("{value:#?}"));
    }

    #[track_caller]
    fn error(&self, error: &(dyn std::error::Error + 'static)) {
        let mut next = Some(error);
        while let Some(error) = next {
            self.debug(&error);
            self.check("Display", &error.to_string());
            next = error.source();
        }
        if let Some(ours) = Error::find(error) {
            self.debug(ours);
            self.check("hint", ours.hint().unwrap_or_default());
            ours.causes()
                .iter()
                .for_each(|cause| self.check("cause", &cause.to_string()));
        }
        self.check(
            "DisplayErrorContext",
            &aws_sdk_sts::error::DisplayErrorContext(error).to_string(),
        );
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Log {
    /// Our own targets at TRACE, everybody else's at DEBUG: what the SDK writes at TRACE is its own.
    fn capture(&self) -> tracing::subscriber::DefaultGuard {
        let filter = tracing_subscriber::EnvFilter::new("debug,cognito_identity_pool=trace,hyper=info");
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(self.clone())
            .with_ansi(false);
        tracing::subscriber::set_default(tracing_subscriber::registry().with(filter).with(layer))
    }

    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

#[tokio::test]
async fn a_whole_run_logs_no_secret_and_no_type_shows_one() {
    let log = Log::default();
    let _capture = log.capture();
    let mut canaries = Canaries::default();
    let stage = Stage::start().await;

    let vendor = TokenVendor::builder(stage.pool.identity_pool_id(), PROVIDER).configure(&stage.pool.backend_config());
    let vendor = vendor.build().unwrap();
    let user = DeveloperUserId::new("user-42").unwrap();
    let vended = vendor.vend(&user).await.unwrap();
    canaries.add(vended.identity().token().expose_secret());
    let fresh = vendor
        .vend_with(VendRequest::new(user.clone()).fresh(true))
        .await
        .unwrap();
    canaries.add(fresh.identity().token().expose_secret());
    let handed_out = vendor.vend_credentials(&user).await.unwrap();
    canaries.credentials(handed_out.credentials());

    let provider = stage.provider();
    provider.switch_to(Login::guest()).ready().await.unwrap();
    canaries.credentials(&provider.provide_credentials().await.unwrap());
    let alice = provider.switch_to(Login::developer(stage.backend("alice")).subject("alice"));
    alice.ready().await.unwrap();
    canaries.credentials(&alice.provide_credentials().await.unwrap());
    stage.clock.advance(Duration::from_secs(3_600));
    canaries.credentials(&alice.provide_credentials().await.unwrap());
    let sts = crate::stage::sts(&alice.sdk_config(&stage.pool.client_config()));
    sts.get_caller_identity().send().await.unwrap();

    let logins = Logins::new()
        .google("canary-google-token")
        .unwrap()
        .facebook("canary-facebook-token")
        .unwrap();
    canaries.add("canary-google-token");
    canaries.add("canary-facebook-token");
    provider.switch_to(Login::external(logins.clone()));
    canaries.error(&provider.provide_credentials().await.unwrap_err());

    for value in [
        &vendor as &dyn Debug,
        &vended,
        &handed_out,
        vended.identity(),
        vended.identity().token(),
        &provider,
        &alice,
        &logins,
        &Login::external(logins.clone()),
        &stage.pool,
        &stage.pool.requests(),
        &stage.pool.developer_credentials(),
    ] {
        canaries.debug(value);
    }
    canaries.add(stage.pool.developer_credentials().secret_access_key());
    canaries.debug(&stage.pool);
    let text = log.text();
    assert!(text.contains("cognito_identity_pool"), "our own lines were captured");
    canaries.check("the log", &text);
}

#[tokio::test]
async fn a_message_of_the_service_that_echoes_the_token_goes_no_further() {
    const ECHOED: &str = "canary-echoed-token.which-is.longer-than-40-characters-in-all";
    let mut canaries = Canaries::default();
    canaries.add(ECHOED);
    let log = Log::default();
    let _capture = log.capture();
    for (kind, message) in [
        (
            "ValidationException",
            format!("1 validation error detected: Value '{{k={ECHOED}}}' at 'logins' failed to satisfy constraint"),
        ),
        ("NotAuthorizedException", format!("Invalid login token. {ECHOED}")),
        ("SomethingNewException", ECHOED.to_owned()),
        ("InternalErrorException", ECHOED.to_owned()),
    ] {
        let stage = Stage::start().await;
        let body = format!(r#"{{"__type":"{kind}","message":"{message}"}}"#);
        let client = infallible_client_fn(move |_: http::Request<SdkBody>| {
            http::Response::builder()
                .status(400)
                .body(SdkBody::from(body.clone()))
                .unwrap()
        });
        let config = stage.pool.backend_config().into_builder().http_client(client).build();
        let builder = CognitoCredentialsProvider::builder(stage.pool.identity_pool_id());
        let provider = builder.configure(&config).build().unwrap();
        let id = stage.backend("alice").vend(None).await.unwrap().identity_id().clone();
        provider.switch_to(Login::developer(DeveloperIdentity::new(
            id,
            OpenIdToken::new(ECHOED).unwrap(),
        )));
        let error = provider.provide_credentials().await.unwrap_err();
        assert!(!ours(&error).to_string().is_empty());
        canaries.error(&error);

        let vendor = TokenVendor::builder(stage.pool.identity_pool_id(), PROVIDER)
            .configure(&config)
            .build()
            .unwrap();
        canaries.error(
            &vendor
                .vend(&DeveloperUserId::new("user-42").unwrap())
                .await
                .unwrap_err(),
        );
    }
    canaries.check("the log", &log.text());
}

#[test]
fn what_an_app_hands_in_is_shown_by_nothing() {
    let mut canaries = Canaries::default();
    canaries.add("canary-open-id-token");
    let token = OpenIdToken::new("canary-open-id-token").unwrap();
    canaries.debug(&token);
    let id = "us-east-1:0b1c2d3e-5e6f-7a8b-9c0d-1e2f3a4b5c6d".parse().unwrap();
    let identity = DeveloperIdentity::new(id, token);
    canaries.debug(&identity);
    canaries.debug(&Login::developer(identity));
    // What cannot be a token is not quoted either.
    for bad in ["canary-open-id-token with a space", "canary-open-id-token\n"] {
        canaries.error(&OpenIdToken::new(bad).unwrap_err());
        canaries.error(&Logins::new().google(bad).unwrap_err());
        let json = serde_json::json!({"identityId": "us-east-1:0b1c2d3e-5e6f-7a8b-9c0d-1e2f3a4b5c6d", "token": bad});
        canaries.error(&serde_json::from_value::<DeveloperIdentity>(json).unwrap_err());
    }
    let error = BackendError::transient("texts are kept");
    assert!(format!("{error:?}").contains("texts are kept"));
    let secret = secrecy::SecretString::from("canary-open-id-token");
    assert_eq!(secret.expose_secret().len(), 20);
    canaries.debug(&secret);
}
