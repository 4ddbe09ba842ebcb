//! What the snippets of README and guides print when the backend does not answer as it should: the reason, in words.

use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{Html, IntoResponse};
use axum::routing::{get, post};
use cognito_identity_pool::{
    BackendError, CognitoCredentialsProvider, DeveloperIdentity, DeveloperIdentityProvider, Error, HttpBackend,
    LocalIdentityPool, Login, RefreshRequest, async_trait,
};

/// The guides' hook.
struct Backend {
    http: reqwest::Client,
    url: String,
}

#[async_trait]
impl DeveloperIdentityProvider for Backend {
    async fn refresh(&self, _: &RefreshRequest) -> Result<DeveloperIdentity, BackendError> {
        let response = self.http.post(&self.url).bearer_auth("session").send().await?;
        if !response.status().is_success() {
            return Err(BackendError::http_status(response.status().as_u16()));
        }
        Ok(response.json().await?)
    }
}

/// The guides' line.
fn printed(error: &(dyn std::error::Error + 'static)) -> String {
    match Error::find(error) {
        Some(ours) => format!("{ours}; {}", ours.hint().unwrap_or_default()),
        None => "not about credentials".to_owned(),
    }
}

#[tokio::test]
async fn a_refusal_a_wrong_method_a_page_and_a_refused_connection_are_told_by_every_snippet() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = format!("http://{}", listener.local_addr().unwrap());
    let routes = Router::new()
        .route("/403", post(async || StatusCode::FORBIDDEN))
        .route("/405", get(async || "by GET alone"))
        .route(
            "/html",
            post(async || Html("<p>Please sign in to the canary network</p>").into_response()),
        );
    tokio::spawn(async move { axum::serve(listener, routes).await });
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    let pool = LocalIdentityPool::builder()
        .developer_provider("login.mycompany.myapp")
        .start()
        .await
        .unwrap();
    let base = pool.client_config();
    for (url, ready_made, by_hand) in [
        (
            format!("{at}/403"),
            "HTTP status 403 Forbidden",
            "HTTP status 403 Forbidden",
        ),
        (
            format!("{at}/405"),
            "it was asked by POST and takes GET",
            "HTTP status 405 Method Not Allowed",
        ),
        (
            format!("{at}/html"),
            "(HTTP status 200, text/html) is HTML or XML and not JSON",
            "error decoding response body",
        ),
        (format!("http://{closed}/"), "Connection refused", "Connection refused"),
    ] {
        let http = aws_smithy_http_client::Builder::new().build_http();
        let backend = HttpBackend::builder(&url)
            .configure(&base)
            .http_client(http)
            .bearer("session")
            .timeout(Duration::from_secs(30))
            .build()
            .unwrap();
        let by_hook = Backend {
            http: reqwest::Client::new(),
            url: url.clone(),
        };
        for (login, says) in [
            (Login::developer(backend), ready_made),
            (Login::developer(by_hook), by_hand),
        ] {
            let provider = CognitoCredentialsProvider::builder(pool.identity_pool_id())
                .configure(&base)
                .build()
                .unwrap();
            let alice = provider.switch_to(login.subject("user-42"));
            let sts = aws_sdk_sts::Client::new(&alice.sdk_config(&base));
            let line = printed(&sts.get_caller_identity().send().await.unwrap_err());
            assert!(
                line.starts_with("the app's backend gave no token: ") && line.contains(says),
                "{url}: {line}"
            );
            assert!(!line.contains("canary"), "{line}");
        }
    }
}
