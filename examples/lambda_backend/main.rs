//! A backend in one Lambda function, driven here by an event as API Gateway sends it.
//!
//! ```text
//! cargo run --example lambda_backend                        # event.json, on an identity pool in this process
//! cargo run --example lambda_backend -- another-event.json
//! ```
//!
//! In Lambda it serves: `cargo lambda build --release --example lambda_backend`, with `COGNITO_IDENTITY_POOL_ID`,
//! `COGNITO_DEVELOPER_PROVIDER` and `USER_ID_KEY` in its environment, and a role that has the vend policy of
//! `examples/cloudformation/identity-pool.yaml`.
#![allow(clippy::print_stdout, reason = "an example tells a story")]

mod handler;

use aws_config::BehaviorVersion;
use cognito_identity_pool::{LocalIdentityPool, TokenVendor, server::UserIds};
use handler::Function;
use lambda_http::service_fn;

#[tokio::main]
async fn main() -> Result<(), lambda_http::Error> {
    audit_to_stderr();
    if std::env::var_os("AWS_LAMBDA_RUNTIME_API").is_some() {
        return serve().await;
    }
    let event = match std::env::args().nth(1) {
        Some(path) => std::fs::read_to_string(path)?,
        None => include_str!("event.json").to_owned(),
    };
    let pool = LocalIdentityPool::builder()
        .developer_provider("login.mycompany.myapp")
        .start()
        .await?;
    let vendor = TokenVendor::builder(pool.identity_pool_id(), "login.mycompany.myapp")
        .configure(&pool.backend_config())
        .build()?;
    let user_ids = UserIds::hmac_sha256("0123456789abcdef0123456789abcdef")?;
    let function = Function { vendor, user_ids };
    let response = function.handle(lambda_http::request::from_str(&event)?).await?;
    // A token is not for a terminal's history: its members alone.
    let body: serde_json::Value = serde_json::from_slice(response.body())?;
    let members: Vec<_> = body.as_object().into_iter().flat_map(|body| body.keys()).collect();
    println!("{} {members:?}", response.status());
    Ok(())
}

async fn serve() -> Result<(), lambda_http::Error> {
    let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
    let vendor = TokenVendor::builder(
        std::env::var("COGNITO_IDENTITY_POOL_ID")?,
        std::env::var("COGNITO_DEVELOPER_PROVIDER")?,
    )
    .configure(&config)
    .build()?;
    let user_ids = UserIds::hmac_sha256(std::env::var("USER_ID_KEY")?)?;
    let function = Function { vendor, user_ids };
    lambda_http::run(service_fn(|request| function.handle(request))).await
}

/// The audit trail as JSON lines, one object an event. Stderr here; in production whatever ships your logs, with an access of its own.
fn audit_to_stderr() {
    use tracing_subscriber::filter::{LevelFilter, Targets};
    use tracing_subscriber::prelude::*;
    let audit = tracing_subscriber::fmt::layer()
        .json()
        .flatten_event(true)
        .with_writer(std::io::stderr)
        .with_filter(Targets::new().with_target(cognito_identity_pool::server::AUDIT_TARGET, LevelFilter::INFO));
    tracing_subscriber::registry().with(audit).init();
}
