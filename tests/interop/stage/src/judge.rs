//! `interop_stage judge FILE`: what the local pool says to trust policies × requests. FILE holds both as JSON; the answer is
//! a line of JSON with the identity of each request and, for each policy, a verdict on each request or the refusal to
//! register it.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use cognito_identity_pool::LocalIdentityPool;
use cognito_identity_pool::local::{LocalClock, LocalRole};
use serde::Deserialize;
use serde_json::{Value, json};

#[derive(Deserialize)]
struct Task {
    pool: String,
    provider: String,
    /// Seconds since the epoch.
    now: u64,
    user_agent: String,
    policies: Vec<Value>,
    requests: Vec<Asked>,
}

#[derive(Deserialize)]
struct Asked {
    /// None for a guest.
    user: Option<String>,
    session_name: String,
    tags: BTreeMap<String, String>,
}

fn role_arn(index: usize) -> String {
    format!("arn:aws:iam::123456789012:role/r{index}")
}

pub async fn run(file: &str) -> anyhow::Result<()> {
    let task: Task = serde_json::from_str(&fs::read_to_string(file)?)?;
    let mut builder = LocalIdentityPool::builder()
        .identity_pool_id(&task.pool)
        .developer_provider(&task.provider)
        .allow_guests(true)
        .time_source(LocalClock::at(SystemTime::UNIX_EPOCH + Duration::from_secs(task.now)));
    let mut verdicts: Vec<Value> = Vec::new();
    for (index, policy) in task.policies.iter().enumerate() {
        // As text where the text itself is the case, such as a member that is given twice.
        let text = policy.as_str().map_or_else(|| policy.to_string(), str::to_owned);
        match LocalRole::saved_before_2024(role_arn(index), &text) {
            Ok(role) => {
                builder = builder.role(role);
                verdicts.push(json!([]));
            }
            Err(refused) => verdicts.push(json!({ "rule": refused.rule(), "message": refused.to_string() })),
        }
    }
    let pool = builder.start().await?;
    let mut identities = Vec::new();
    for asked in &task.requests {
        let (identity, token) = token(&pool, &task, asked).await?;
        for (index, verdicts) in verdicts.iter_mut().enumerate() {
            if let Value::Array(verdicts) = verdicts {
                verdicts.push(
                    exchange(&pool, &task, &role_arn(index), &asked.session_name, &token)
                        .await?
                        .into(),
                );
            }
        }
        identities.push(identity);
    }
    super::say(&json!({ "identities": identities, "verdicts": verdicts }))
}

/// The identity of a request, and its token.
async fn token(pool: &LocalIdentityPool, task: &Task, asked: &Asked) -> anyhow::Result<(String, String)> {
    let client = aws_sdk_cognitoidentity::Client::new(&pool.backend_config());
    let (identity, token) = match &asked.user {
        Some(user) => {
            let call = client
                .get_open_id_token_for_developer_identity()
                .identity_pool_id(&task.pool)
                .logins(&task.provider, user)
                .token_duration(86_400)
                .set_principal_tags(Some(asked.tags.clone().into_iter().collect()));
            let vended = call.send().await?;
            (vended.identity_id, vended.token)
        }
        None => {
            let guest = client.get_id().identity_pool_id(&task.pool).send().await?.identity_id;
            let issued = client.get_open_id_token().set_identity_id(guest).send().await?;
            (issued.identity_id, issued.token)
        }
    };
    identity.zip(token).context("a token without identity")
}

/// The error's code, or `Allowed`.
async fn exchange(
    pool: &LocalIdentityPool,
    task: &Task,
    role: &str,
    session_name: &str,
    token: &str,
) -> anyhow::Result<String> {
    let role = role.replace(':', "%3A").replace('/', "%2F");
    let form = format!(
        "Action=AssumeRoleWithWebIdentity&Version=2011-06-15&RoleArn={role}&RoleSessionName={session_name}\
         &WebIdentityToken={token}"
    );
    let request = http::Request::post("/")
        .header("content-type", "application/x-www-form-urlencoded")
        .header("user-agent", &task.user_agent)
        .body(form.into())?;
    let response = pool.respond(request).await?;
    if response.status() == 200 {
        return Ok("Allowed".to_owned());
    }
    let body = String::from_utf8_lossy(response.body()).into_owned();
    let code = body
        .split_once("<Code>")
        .and_then(|(_, rest)| rest.split_once("</Code>"));
    Ok(code.map_or(body.clone(), |(code, _)| code.to_owned()))
}
