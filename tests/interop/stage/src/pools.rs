//! Pools with external identity providers, with throttling, and with policies that deny.
//!
//! One line of JSON describes them; then every line on stdin is an order, answered by a line on stdout. They end with
//! stdin.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_sdk_sts::types::Tag;
use cognito_identity_pool::{
    LocalIdentityPool,
    local::{LocalAssumeRole, LocalFault, LocalIssuer, LocalRequest, LocalRole},
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::admin::{Action, act};
use super::{orders, say};

pub const DEVELOPER_PROVIDER: &str = "login.mycompany.myapp";

/// The pool whose roles trust some tokens and not others.
const TRUSTED: &str = "us-east-1:5c1e9a04-6d2f-4f0b-9d0e-0c1b2a394857";

/// For each a pool that answers everything so: no request provokes them.
const FAILURES: &[&str] = &[
    "TooManyRequestsException",
    "LimitExceededException",
    "ConcurrentModificationException",
    "InternalErrorException",
];

#[derive(Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
enum Order {
    /// A token of an external provider.
    Token {
        issuer: String,
        sub: String,
        /// Left out: the provider's own; null: none.
        #[serde(default = "own_audience")]
        aud: Option<String>,
        iss: Option<String>,
        lifetime: Option<u64>,
        #[serde(default)]
        claims: Map<String, Value>,
        #[serde(default)]
        forged: bool,
    },
    /// The requests so far.
    Requests { pool: String },
    /// Signs with a new key.
    Rotate { pool: String, keep: bool },
    /// What `IdentityAdmin` says of the pool.
    Admin {
        pool: String,
        #[serde(flatten)]
        action: Action,
    },
    /// One pool more: its credentials come from the AWS-compatible server `sts`, and live for `seconds` there.
    Front {
        name: String,
        sts: String,
        /// The access key of its root user.
        account: String,
        role: String,
        seconds: u32,
        /// What they say of themselves.
        claimed: u64,
    },
}

fn own_audience() -> Option<String> {
    Some(String::new())
}

pub async fn serve() -> anyhow::Result<()> {
    // Nobody waits five minutes here for a token to be refused.
    let builder = || {
        LocalIdentityPool::builder()
            .developer_provider(DEVELOPER_PROVIDER)
            .external_token_grace(Duration::ZERO)
    };
    let mut pools = BTreeMap::from([
        ("open".to_owned(), builder().allow_guests(true).start().await?),
        ("closed".to_owned(), builder().allow_classic_flow(false).start().await?),
        ("china".to_owned(), builder().region("cn-north-1").start().await?),
        (
            "brief".to_owned(),
            builder().allow_guests(true).credentials_seconds(1).start().await?,
        ),
        (
            "throttled".to_owned(),
            builder().allow_guests(true).throttling(true).start().await?,
        ),
        (
            "denied".to_owned(),
            builder()
                .allow_guests(true)
                .deny("GetId")
                .deny("GetOpenIdTokenForDeveloperIdentity")
                .start()
                .await?,
        ),
    ]);
    let mut trusted = builder().identity_pool_id(TRUSTED).allow_guests(true);
    for (name, aud) in [("members", TRUSTED), ("strangers", "us-east-1:another-pool")] {
        trusted = trusted.role(LocalRole::new(
            format!("arn:aws:iam::123456789012:role/{name}"),
            &trust(aud),
        )?);
    }
    pools.insert("trusted".to_owned(), trusted.start().await?);
    for error in FAILURES {
        let pool = builder().allow_guests(true).start().await?;
        let fault = LocalFault::refuse(error).with_context(|| format!("the pool has no {error}"))?;
        pool.faults().seeded(1, 1, [fault]);
        pools.insert((*error).to_owned(), pool);
    }
    let open = &pools["open"];
    let issuers: Vec<LocalIssuer> = vec![
        open.oidc_issuer("accounts.google.com")?,
        open.oidc_issuer("graph.facebook.com")?,
        open.oidc_issuer("login.example.com")?,
        open.oidc_issuer("www.amazon.com")?,
        open.user_pool("us-east-1_Example", "client1")?,
    ];
    let silent = &issuers[3];
    silent.set_unavailable(true);

    say(&describe(&pools, &issuers))?;
    let mut lines = orders();
    while let Some(line) = lines.next_line().await? {
        let order = serde_json::from_str(&line).with_context(|| format!("no order: {line}"))?;
        say(&obey(order, &mut pools, &issuers).await?)?;
    }
    Ok(())
}

/// The trust policy of a role for the signed-in users of the pool `aud`, as Cognito's documentation has it.
fn trust(aud: &str) -> String {
    json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow",
            "Principal": { "Federated": "cognito-identity.amazonaws.com" },
            "Action": "sts:AssumeRoleWithWebIdentity",
            "Condition": {
                "StringEquals": { "cognito-identity.amazonaws.com:aud": aud },
                "ForAnyValue:StringLike": { "cognito-identity.amazonaws.com:amr": "authenticated" },
            },
        }],
    })
    .to_string()
}

fn describe(pools: &BTreeMap<String, LocalIdentityPool>, issuers: &[LocalIssuer]) -> Value {
    json!({
        "pools": pools.iter().map(|(name, pool)| (name.clone(), describe_pool(pool))).collect::<Map<_, _>>(),
        "issuers": issuers.iter().map(LocalIssuer::provider_name).collect::<Vec<_>>(),
    })
}

fn describe_pool(pool: &LocalIdentityPool) -> Value {
    let developer = pool.developer_credentials();
    json!({
        "endpoint": pool.endpoint_url(),
        "pool_id": pool.identity_pool_id(),
        "region": pool.region(),
        "issuer": pool.issuer_host(),
        "jwks_uri": pool.jwks_uri(),
        "provider": DEVELOPER_PROVIDER,
        "access_key_id": developer.access_key_id(),
        "secret_access_key": developer.secret_access_key(),
    })
}

/// A pool that answers with what a signed `sts:AssumeRole` at another server gives.
async fn front(
    sts: String,
    account: String,
    role: String,
    seconds: u32,
    claimed: Duration,
) -> anyhow::Result<LocalIdentityPool> {
    let config = aws_config::defaults(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .credentials_provider(Credentials::new(account, "test", None, None, "the server's own"))
        .load()
        .await;
    let sts = aws_sdk_sts::Client::from_conf(aws_sdk_sts::config::Builder::from(&config).endpoint_url(sts).build());
    let assume = move |asked: LocalAssumeRole| {
        let tag = |(key, value): (String, String)| Tag::builder().key(key).value(value).build();
        let tags = asked.tags.into_iter().map(tag).collect::<Result<Vec<_>, _>>();
        let call = sts
            .assume_role()
            .role_arn(asked.role_arn)
            .role_session_name(asked.role_session_name)
            .duration_seconds(asked.duration_seconds);
        async move {
            let answer = call.set_tags(Some(tags?)).send().await?;
            let given = answer.credentials.ok_or("no credentials")?;
            Ok(Credentials::new(
                given.access_key_id,
                given.secret_access_key,
                Some(given.session_token),
                Some(SystemTime::now() + claimed),
                "AssumeRole",
            ))
        }
    };
    Ok(LocalIdentityPool::builder()
        .developer_provider(DEVELOPER_PROVIDER)
        .authenticated_role(role)
        .credentials_from(assume)
        .credentials_seconds(seconds)
        .start()
        .await?)
}

async fn obey(
    order: Order,
    pools: &mut BTreeMap<String, LocalIdentityPool>,
    issuers: &[LocalIssuer],
) -> anyhow::Result<Value> {
    let issuer_named = |name: &str| {
        let found = issuers.iter().find(|issuer| issuer.provider_name() == name);
        found.with_context(|| format!("no issuer {name}"))
    };
    let pool_named = |name: &str| pools.get(name).with_context(|| format!("no pool {name}"));
    Ok(match order {
        Order::Token {
            issuer,
            sub,
            aud,
            iss,
            lifetime,
            claims,
            forged,
        } => {
            let mut token = issuer_named(&issuer)?.token_for(&sub);
            token = match aud.as_deref() {
                Some("") => token,
                Some(aud) => token.audience(aud),
                None => token.without_audience(),
            };
            if let Some(iss) = iss {
                token = token.issuer(&iss);
            }
            if let Some(seconds) = lifetime {
                token = token.lifetime(Duration::from_secs(seconds));
            }
            for (name, value) in claims {
                token = token.claim(&name, value);
            }
            if forged {
                token = token.forged();
            }
            json!(token.issue())
        }
        Order::Requests { pool } => pool_named(&pool)?.requests().iter().map(request).collect(),
        Order::Admin { pool, action } => act(pool_named(&pool)?, action).await,
        Order::Front {
            name,
            sts,
            account,
            role,
            seconds,
            claimed,
        } => {
            let pool = front(sts, account, role, seconds, Duration::from_secs(claimed)).await?;
            let about = describe_pool(&pool);
            pools.insert(name, pool);
            about
        }
        Order::Rotate { pool, keep } => {
            pool_named(&pool)?.rotate_keys(keep);
            json!(null)
        }
    })
}

fn request(request: &LocalRequest) -> Value {
    let at = request.at.duration_since(UNIX_EPOCH).unwrap_or_default();
    json!({
        "service": request.service,
        "operation": request.operation,
        "status": request.status,
        "error": request.error,
        "rule": request.rule,
        "pool": request.identity_pool_id,
        "identity": request.identity_id,
        "key": request.access_key_id,
        "issued": request.issued_access_key_id,
        "authorization": request.authorization,
        "logins": request.logins,
        "tags": request.principal_tags,
        "at": at.as_secs_f64(),
    })
}
