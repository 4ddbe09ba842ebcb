//! Agents that work for a thousand users who are not there, all at once in one process, each with its own user's rights.
//!
//! ```text
//! cargo run --example agent_workers
//! ```
//!
//! It brings an identity pool along, so that it needs no AWS account and no network. The pool's record says whose credentials
//! signed each job.
#![allow(clippy::print_stdout, reason = "an example tells a story")]

use std::collections::{BTreeMap, HashMap};

use aws_types::request_id::RequestId;
use cognito_identity_pool::{DeveloperUserId, ErrorKind, LocalIdentityPool, TokenVendor, UserCredentials};

const USERS: usize = 1_000;
const JOBS_AT_ONCE: usize = 64;
const PROVIDER: &str = "login.mycompany.myapp";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    audit_to_stderr();
    let pool = LocalIdentityPool::builder()
        .developer_provider(PROVIDER)
        .start()
        .await?;
    let base = pool.client_config();
    // On AWS leave the limit as it is: 50 a second, the quota of an account. The first round of 1,000 users takes 20 s then.
    let vendor = TokenVendor::builder(pool.identity_pool_id(), PROVIDER)
        .configure(&pool.backend_config())
        .requests_per_second(None)
        .build()?;
    let users = UserCredentials::builder(vendor).build()?;

    // A queue of two jobs for every user, and workers that take whatever comes next.
    let queue: Vec<_> = (0..2 * USERS).map(|job| format!("user-{:04}", job % USERS)).collect();
    let queue = std::sync::Arc::new(tokio::sync::Mutex::new(queue.into_iter()));
    let workers: Vec<_> = (0..JOBS_AT_ONCE)
        .map(|_| {
            let (users, base, queue) = (users.clone(), base.clone(), std::sync::Arc::clone(&queue));
            tokio::spawn(async move {
                let mut done = Vec::new();
                loop {
                    let Some(name) = queue.lock().await.next() else {
                        return anyhow::Ok(done);
                    };
                    let session = users.for_user(&DeveloperUserId::new(&*name)?);
                    // The job: here it asks STS whom it is taken for.
                    let sts = aws_sdk_sts::Client::new(&session.sdk_config(&base));
                    let answer = sts.get_caller_identity().send().await?;
                    let request = answer.request_id().unwrap_or_default().to_owned();
                    done.push((request, name, session.identity_id().await?));
                }
            })
        })
        .collect();
    let mut jobs = HashMap::new();
    for worker in workers {
        for (request, name, identity) in worker.await?? {
            jobs.insert(request, (name, identity));
        }
    }

    let requests = pool.requests();
    let mut calls = BTreeMap::new();
    for request in &requests {
        *calls.entry(request.operation.as_str()).or_insert(0) += 1;
    }
    println!("{} jobs of {USERS} users, {JOBS_AT_ONCE} at once:\n", jobs.len());
    for (operation, count) in &calls {
        println!("  {operation:<36} {count:>5}");
    }
    let own = |request: &&cognito_identity_pool::local::LocalRequest| {
        let job = jobs.get(&request.request_id);
        job.is_some_and(|(_, identity)| request.identity_id.as_deref() == Some(identity.as_str()))
    };
    let signed = requests.iter().filter(own).count();
    println!(
        "\nsigned as its own user, by the pool's record: {signed} of {}",
        jobs.len()
    );

    let fired = DeveloperUserId::new("user-0007")?;
    let session = users.for_user(&fired);
    users.deny(&fired).await?;
    let refusal = session.identity_id().await.err().map(|error| error.kind());
    println!(
        "user-0007 is denied, and its session is refused at once: {}",
        refusal == Some(ErrorKind::Denied)
    );
    println!("\n{:?}", users.metrics());
    Ok(())
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
