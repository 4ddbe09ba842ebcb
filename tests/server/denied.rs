//! A user who is denied in the middle of a request gets nothing, by whichever door the request came.

use std::future::Future;

use aws_credential_types::provider::ProvideCredentials;
use cognito_identity_pool::{
    Error, ErrorKind, Logins, TokenVendor, UserCredentials,
    server::{GuestClaim, VendRequest},
};

use crate::stage::script::{Script, no_pause};
use crate::stage::{Stage, ours, user};

const TOKEN: &str = "GetOpenIdTokenForDeveloperIdentity";
const EXCHANGE: &str = "GetCredentialsForIdentity";

struct Scene {
    stage: Stage,
    script: Script,
    vendor: TokenVendor,
}

impl Scene {
    async fn new() -> Self {
        let stage = Stage::start().await;
        let script = Script::new(&stage);
        let config = stage.pool.backend_config().into_builder();
        let config = config.http_client(script.clone()).build();
        let vendor = stage
            .vendor_builder()
            .configure(&config)
            .retry_config(no_pause())
            .build()
            .unwrap();
        Self { stage, script, vendor }
    }

    /// Begins a request, denies the user while the answer of `operation` is under way, and lets it come: how the request ends.
    /// With `taken_back` the denial is over by then, which changes nothing for what was begun before it.
    async fn denied_during<T, E>(
        &self,
        operation: &'static str,
        taken_back: bool,
        request: impl Future<Output = Result<T, E>>,
        error: impl FnOnce(E) -> Error,
    ) -> Error {
        let release = self.script.hold_answer(operation);
        let before = self.script.count(operation);
        let deny = async {
            self.script.reached(operation, before + 1).await;
            self.vendor.deny(&user("mallory")).await.unwrap();
            if taken_back {
                self.vendor.allow(&user("mallory")).await.unwrap();
            }
            // Whoever waited for it may be gone.
            release.send(()).unwrap_or_default();
        };
        let (result, ()) = tokio::join!(request, deny);
        self.vendor.allow(&user("mallory")).await.unwrap();
        match result {
            Ok(_) => panic!("served, in spite of the denial during {operation}"),
            Err(failure) => error(failure),
        }
    }
}

fn is_denied(error: &Error, taken_back: bool) {
    assert_eq!(
        (error.kind(), error.is_retryable()),
        (ErrorKind::Denied, taken_back),
        "{error:?}"
    );
}

#[tokio::test]
async fn in_the_middle_of_vending() {
    for taken_back in [false, true] {
        let (scene, request) = (Scene::new().await, || VendRequest::new(user("mallory")));
        for request in [request(), request().fresh(true)] {
            let vend = scene.vendor.vend_with(request);
            is_denied(
                &scene.denied_during(TOKEN, taken_back, vend, |error| error).await,
                taken_back,
            );
        }
        // What came back meanwhile was not kept either.
        let asked = scene.script.count(TOKEN);
        scene.vendor.vend(&user("mallory")).await.unwrap();
        assert_eq!(scene.script.count(TOKEN), asked + 1);
    }
}

#[tokio::test]
async fn in_the_middle_of_vend_credentials() {
    for taken_back in [false, true] {
        for operation in [TOKEN, EXCHANGE] {
            let scene = Scene::new().await;
            let mallory = user("mallory");
            let vend = scene.vendor.vend_credentials(&mallory);
            is_denied(
                &scene.denied_during(operation, taken_back, vend, |error| error).await,
                taken_back,
            );
        }
    }
}

#[tokio::test]
async fn in_the_middle_of_link_guest() {
    for taken_back in [false, true] {
        for operation in ["DescribeIdentity", TOKEN] {
            let scene = Scene::new().await;
            let (mallory, guest) = (user("mallory"), scene.stage.guest().await);
            let ticket = scene.vendor.issue_guest_claim(&guest, "s").await.unwrap();
            let link = scene
                .vendor
                .link_guest(&mallory, GuestClaim::new(ticket, guest.clone(), "s"));
            is_denied(
                &scene.denied_during(operation, taken_back, link, |error| error).await,
                taken_back,
            );
            // Before the request that links, nothing was linked.
            assert_eq!(scene.script.count(TOKEN), usize::from(operation == TOKEN));
            assert_eq!(scene.stage.is_guest(&guest).await, operation != TOKEN);
        }
    }
}

#[tokio::test]
async fn in_the_middle_of_link_external() {
    for taken_back in [false, true] {
        let scene = Scene::new().await;
        let mallory = user("mallory");
        let logins = Logins::new().google(scene.stage.google().token("g")).unwrap();
        let link = scene.vendor.link_external(&mallory, &logins);
        is_denied(
            &scene.denied_during(TOKEN, taken_back, link, |error| error).await,
            taken_back,
        );
    }
}

#[tokio::test]
async fn in_the_middle_of_an_exchange_in_this_process() {
    for taken_back in [false, true] {
        for operation in [TOKEN, EXCHANGE] {
            let scene = Scene::new().await;
            let users = UserCredentials::builder(scene.vendor.clone()).build().unwrap();
            let session = users.for_user(&user("mallory"));
            let exchange = session.provide_credentials();
            let error = scene
                .denied_during(operation, taken_back, exchange, |error| ours(&error))
                .await;
            // The session has ended, for good.
            is_denied(&error, false);
            is_denied(&ours(&session.provide_credentials().await.unwrap_err()), false);
        }
    }
}
