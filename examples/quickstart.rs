//! A company's own sign-in opens AWS: the whole path, in one process, over real sockets.
//!
//! ```text
//! cargo run --example quickstart
//! ```
//!
//! It brings an identity pool along, so that it needs no AWS account and no network. With `COGNITO_IDENTITY_POOL_ID` and
//! `COGNITO_DEVELOPER_PROVIDER` set, the same runs against AWS (without the hour that passes), the backend signing with the
//! credentials that the AWS SDK finds in the environment.
#![allow(clippy::print_stdout, reason = "an example tells a story")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use cognito_identity_pool::{
    BackendError, CognitoCredentialsProvider, DeveloperIdentity, DeveloperIdentityProvider, DeveloperUserId, Error,
    IdentityPoolId, LocalIdentityPool, Login, RefreshRequest, TokenVendor, async_trait, local::LocalClock,
};
use serde::{Deserialize, Serialize};

// ---- The backend: the company's own users, its own password check, and a token vendor. ----

struct Backend {
    vendor: TokenVendor,
    /// E-mail -> password and opaque user id. Yours are hashed, in a database.
    users: HashMap<&'static str, (&'static str, &'static str)>,
    /// Session -> user id.
    sessions: Mutex<HashMap<String, &'static str>>,
}

#[derive(Serialize, Deserialize)]
struct SignIn {
    email: String,
    password: String,
}

async fn sign_in(State(backend): State<Arc<Backend>>, Json(form): Json<SignIn>) -> Response {
    let user = backend
        .users
        .get(form.email.as_str())
        .filter(|(password, _)| *password == form.password);
    let Some((_, id)) = user else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    let session = uuid::Uuid::new_v4().to_string();
    backend
        .sessions
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(session.clone(), id);
    Json(session).into_response()
}

/// Who asks is known from the company's own session, never from what the request says.
async fn aws_identity(State(backend): State<Arc<Backend>>, headers: HeaderMap) -> Response {
    let bearer = headers
        .get("authorization")
        .and_then(|header| header.to_str().ok()?.strip_prefix("Bearer "));
    let user = bearer.and_then(|bearer| {
        backend
            .sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(bearer)
            .copied()
    });
    let Some(user) = user else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    let Ok(user) = DeveloperUserId::new(user) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    match backend.vendor.vend(&user).await {
        Ok(vended) => ([(CACHE_CONTROL, "no-store")], Json(vended.expose())).into_response(),
        Err(error) => {
            println!("   backend: no token for the user: {error}");
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
    }
}

async fn serve(vendor: TokenVendor) -> anyhow::Result<String> {
    let users = [
        ("alice@example.com", ("wonderland", "user-7f3a")),
        ("bob@example.com", ("builder", "user-c41d")),
    ]
    .into();
    let backend = Arc::new(Backend {
        vendor,
        users,
        sessions: Mutex::default(),
    });
    let routes = Router::new()
        .route("/sign-in", post(sign_in))
        .route("/aws/identity", post(aws_identity));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, routes.with_state(backend)).await });
    Ok(url)
}

// ---- The app: signs in over HTTP, and knows how to ask the backend for a token. ----

struct AppBackend {
    http: reqwest::Client,
    url: String,
    session: String,
}

impl AppBackend {
    async fn sign_in(url: &str, email: &str, password: &str) -> anyhow::Result<Self> {
        let http = reqwest::Client::new();
        let form = SignIn {
            email: email.to_owned(),
            password: password.to_owned(),
        };
        let response = http
            .post(format!("{url}/sign-in"))
            .json(&form)
            .send()
            .await?
            .error_for_status()?;
        Ok(Self {
            http,
            url: url.to_owned(),
            session: response.json().await?,
        })
    }
}

#[async_trait]
impl DeveloperIdentityProvider for AppBackend {
    async fn refresh(&self, _: &RefreshRequest) -> Result<DeveloperIdentity, BackendError> {
        let response = self
            .http
            .post(format!("{}/aws/identity", self.url))
            .bearer_auth(&self.session)
            .send()
            .await?;
        if response.status() == 401 {
            return Err(BackendError::signed_out());
        }
        Ok(response.error_for_status()?.json().await?)
    }
}

// ---- Where it plays: on the local pool, or on AWS. ----

struct Stage {
    pool_id: IdentityPoolId,
    provider_name: String,
    /// What the app's SDK clients are made from. It holds no credentials.
    base: SdkConfig,
    vendor: TokenVendor,
    local: Option<(LocalIdentityPool, LocalClock)>,
}

impl Stage {
    async fn set() -> anyhow::Result<Self> {
        match (
            std::env::var("COGNITO_IDENTITY_POOL_ID"),
            std::env::var("COGNITO_DEVELOPER_PROVIDER"),
        ) {
            (Ok(pool_id), Ok(provider_name)) => Self::on_aws(pool_id.parse()?, provider_name).await,
            _ => Self::local("login.mycompany.myapp").await,
        }
    }

    async fn on_aws(pool_id: IdentityPoolId, provider_name: String) -> anyhow::Result<Self> {
        let region = Region::new(pool_id.region().to_owned());
        let config = || aws_config::defaults(BehaviorVersion::latest()).region(region.clone());
        let backend = config().load().await;
        let base = config().no_credentials().load().await;
        let vendor = TokenVendor::builder(&pool_id, &*provider_name)
            .configure(&backend)
            .build()?;
        Ok(Self {
            pool_id,
            provider_name,
            base,
            vendor,
            local: None,
        })
    }

    async fn local(provider_name: &str) -> anyhow::Result<Self> {
        let clock = LocalClock::at_present();
        let pool = LocalIdentityPool::builder()
            .developer_provider(provider_name)
            .time_source(clock.clone())
            .start()
            .await?;
        let config = || {
            aws_config::defaults(BehaviorVersion::latest())
                .region(Region::new(pool.region().to_owned()))
                .endpoint_url(pool.endpoint_url())
                .time_source(clock.clone())
        };
        let backend = config().credentials_provider(pool.developer_credentials()).load().await;
        let base = config().no_credentials().load().await;
        let vendor = TokenVendor::builder(pool.identity_pool_id(), provider_name)
            .configure(&backend)
            .endpoint_url(pool.endpoint_url())
            .build()?;
        let pool_id = pool.identity_pool_id().parse()?;
        Ok(Self {
            pool_id,
            provider_name: provider_name.to_owned(),
            base,
            vendor,
            local: Some((pool, clock)),
        })
    }

    fn provider(&self) -> Result<CognitoCredentialsProvider, Error> {
        let builder = CognitoCredentialsProvider::builder(&self.pool_id).configure(&self.base);
        match &self.local {
            Some((pool, _)) => builder.endpoint_url(pool.endpoint_url()).build(),
            None => builder.build(),
        }
    }
}

/// Calls STS: the far side checks the signature and says whose it is.
async fn who_am_i(sts: &aws_sdk_sts::Client) -> Result<String, String> {
    match sts.get_caller_identity().send().await {
        Ok(answer) => Ok(answer.arn().unwrap_or("nobody").to_owned()),
        // "dispatch failure" says nothing; our error is further down.
        Err(error) => Err(match Error::find(&error) {
            Some(ours) => format!("{:?}: {ours}", ours.kind()),
            None => aws_sdk_sts::error::DisplayErrorContext(error).to_string(),
        }),
    }
}

/// Whose credentials the last call was signed with, by the pool's record: the ARN is the same for all users, on AWS, too.
fn signer(stage: &Stage) -> Option<String> {
    let (pool, _) = stage.local.as_ref()?;
    let calls = pool.requests_of("GetCallerIdentity");
    pool.identity_of(calls.last()?.access_key_id.as_deref()?)
}

fn minutes(expiry: Option<std::time::SystemTime>, now: std::time::SystemTime) -> u64 {
    expiry
        .and_then(|expiry| expiry.duration_since(now).ok())
        .unwrap_or_default()
        .as_secs()
        / 60
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let stage = Stage::set().await?;
    let place = if stage.local.is_some() {
        "on a local pool"
    } else {
        "on AWS"
    };
    println!(
        " 1 pool      {} {place}, developer provider {}",
        stage.pool_id, stage.provider_name
    );

    let backend = serve(stage.vendor.clone()).await?;
    println!(" 2 backend   {backend}: its own users, its own passwords, a token vendor");

    let provider = stage.provider()?;
    let now = || stage.base.time_source().unwrap_or_default().now();
    let switching = aws_sdk_sts::Client::new(&provider.sdk_config(&stage.base));
    let refusal = who_am_i(&switching).await.err().unwrap_or("nothing".to_owned());
    println!(" 3 app       nobody is signed in, a call is refused: {refusal}");

    let app = AppBackend::sign_in(&backend, "alice@example.com", "wonderland").await?;
    let alice = provider.switch_to(Login::developer(app).subject("alice@example.com"));
    println!(
        " 4 alice     signs in with her password; to AWS she is {}",
        alice.ready().await?.identity_id
    );
    let bound = aws_sdk_sts::Client::new(&alice.sdk_config(&stage.base));
    println!(
        " 5 alice     calls STS, the signature holds: {}",
        who_am_i(&bound).await.map_err(anyhow::Error::msg)?
    );
    let expiry = alice.status().and_then(|status| status.expires_at);
    println!(" 6 alice     has credentials for {} minutes", minutes(expiry, now()));

    let app = AppBackend::sign_in(&backend, "bob@example.com", "builder").await?;
    let bob = provider.switch_to(Login::developer(app).subject("bob@example.com"));
    println!(
        " 7 bob       takes over the device; to AWS he is {}",
        bob.ready().await?.identity_id
    );
    let refusal = who_am_i(&bound).await.err().unwrap_or("nothing".to_owned());
    println!(" 8 alice     her client is refused: {refusal}");
    let arn = who_am_i(&switching).await.map_err(anyhow::Error::msg)?;
    println!(" 9 bob       the client that follows the login signs as him: {arn}");
    if let Some(signer) = signer(&stage) {
        println!(
            "10 pool      the signer was {signer}, bob: {}",
            signer == bob.identity_id().await?.as_str()
        );
    }

    if let Some((_, clock)) = &stage.local {
        clock.advance(Duration::from_secs(3_600));
        who_am_i(&switching).await.map_err(anyhow::Error::msg)?;
        let expiry = bob.status().and_then(|status| status.expires_at);
        println!(
            "11 bob       an hour passes; his next call just works, and holds for {} minutes",
            minutes(expiry, now())
        );
    }

    provider.sign_out();
    let refusal = who_am_i(&switching).await.err().unwrap_or("nothing".to_owned());
    println!("12 app       signed out, a call is refused: {refusal}");
    Ok(())
}
