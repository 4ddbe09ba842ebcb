//! For operators: what is wrong with a pool, what a backend has to be allowed, and who has which identity.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_config::BehaviorVersion;
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use clap::{Args, ValueEnum};
use cognito_identity_pool::server::{DeleteReport, IdentityDetails};
use cognito_identity_pool::{DeveloperUserId, IdentityAdmin, IdentityId, TokenVendor};
use serde_json::{Value, json};

use crate::output::{self, Failure, Outcome};

/// The pool, and the name by which it knows the backend.
#[derive(Args)]
struct Pool {
    /// The identity pool's id
    #[arg(long, env = "COGNITO_IDENTITY_POOL_ID", value_name = "ID")]
    pool: String,

    /// The developer provider's name
    #[arg(long, env = "COGNITO_DEVELOPER_PROVIDER", value_name = "NAME")]
    provider: String,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Pool {
    async fn admin(&self) -> Result<IdentityAdmin, Failure> {
        let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
        let admin = IdentityAdmin::builder(self.pool.as_str(), self.provider.as_str()).configure(&config);
        Ok(admin.build()?)
    }

    /// As text, or as JSON.
    fn say(&self, value: &Value, text: &str) -> Outcome {
        if self.json {
            output::json(value)
        } else {
            output::text(text)
        }
    }
}

/// Examine a pool: whether it can vend and exchange tokens, and what should not stay so
///
/// The exit code is 1 if something keeps it from working.
#[derive(Args)]
pub(crate) struct Doctor {
    #[command(flatten)]
    pool: Pool,
}

pub(crate) async fn doctor(Doctor { pool }: Doctor) -> Outcome {
    let diagnosis = pool.admin().await?.doctor().await;
    let findings = diagnosis.findings().iter().map(|finding| {
        json!({ "severity": format!("{:?}", finding.severity), "text": finding.text, "advice": finding.advice })
    });
    let healthy = diagnosis.is_healthy();
    let value = json!({ "healthy": healthy, "findings": findings.collect::<Vec<_>>() });
    pool.say(&value, &diagnosis.to_string())?;
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Print the minimal IAM policy for a backend's role
#[derive(Args)]
pub(crate) struct Policy {
    /// Whose role
    #[arg(value_enum, default_value_t = Whose::Vendor)]
    whose: Whose,

    /// The identity pool's id
    #[arg(long, env = "COGNITO_IDENTITY_POOL_ID", value_name = "ID")]
    pool: String,

    /// The developer provider's name
    #[arg(
        long,
        env = "COGNITO_DEVELOPER_PROVIDER",
        value_name = "NAME",
        default_value = "login.mycompany.myapp"
    )]
    provider: String,

    /// The pool's AWS account [default: any, `*`]
    #[arg(long, value_name = "ID")]
    account: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Whose {
    /// The backend that vends tokens
    Vendor,
    /// The backend that looks up, merges, unlinks and deletes
    Admin,
}

pub(crate) fn policy(options: &Policy) -> Outcome {
    // Nobody is asked: these credentials are never used, and nothing of the environment is needed.
    let nobody = Credentials::new("none", "none", None, None, "policy");
    let config = aws_types::SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .credentials_provider(SharedCredentialsProvider::new(nobody))
        .build();
    let (pool, provider) = (options.pool.as_str(), options.provider.as_str());
    let policy = match options.whose {
        Whose::Vendor => {
            let mut vendor = TokenVendor::builder(pool, provider).configure(&config);
            if let Some(account) = &options.account {
                vendor = vendor.account_id(account);
            }
            vendor.build()?.required_iam_policy()
        }
        Whose::Admin => {
            let mut admin = IdentityAdmin::builder(pool, provider).configure(&config);
            if let Some(account) = &options.account {
                admin = admin.account_id(account);
            }
            admin.build()?.required_iam_policy()
        }
    };
    output::text(&format!("{policy}\n"))
}

/// Look up a user's identity, or the users of an identity
#[derive(Args)]
#[group(id = "whom", required = true)]
pub(crate) struct Lookup {
    #[command(flatten)]
    pool: Pool,

    /// The backend's own id of the user
    #[arg(long, value_name = "ID", group = "whom")]
    user: Option<String>,

    /// The identity
    #[arg(long, value_name = "ID", group = "whom")]
    identity: Option<String>,
}

pub(crate) async fn lookup(Lookup { pool, user, identity }: Lookup) -> Outcome {
    let admin = pool.admin().await?;
    let (details, users) = match (user, identity) {
        (Some(user), _) => {
            let user = DeveloperUserId::new(user)?;
            let Some(found) = admin.describe_user(&user).await? else {
                pool.say(&Value::Null, "the user has no identity\n")?;
                return Ok(ExitCode::FAILURE);
            };
            (found.identity, found.users)
        }
        (_, identity) => {
            let identity = IdentityId::new(identity.unwrap_or_default())?;
            (
                admin.describe(&identity).await?,
                admin.users_of_identity(&identity).await?,
            )
        }
    };
    let users: Vec<_> = users.iter().map(DeveloperUserId::as_str).collect();
    let mut value = described(&details);
    value["users"] = json!(users);
    let text = format!(
        "identity   {}\nproviders  {}\nusers      {}\n",
        details.identity_id.as_str(),
        or_none(&details.providers.join(", ")),
        or_none(&users.join(", ")),
    );
    pool.say(&value, &text)
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}

fn described(details: &IdentityDetails) -> Value {
    let seconds = |at: Option<SystemTime>| {
        at.and_then(|at| at.duration_since(UNIX_EPOCH).ok())
            .map(|at| at.as_secs())
    };
    json!({
        "identity_id": details.identity_id.as_str(),
        "providers": details.providers,
        "created": seconds(details.created),
        "modified": seconds(details.modified),
    })
}

/// Delete what Cognito knows of a user: the identity, and the links of all users that were merged into it
#[derive(Args)]
pub(crate) struct Forget {
    #[command(flatten)]
    pool: Pool,

    /// The backend's own id of the user
    #[arg(long, value_name = "ID")]
    user: String,

    #[command(flatten)]
    confirm: Confirm,
}

pub(crate) async fn forget(Forget { pool, user, confirm }: Forget) -> Outcome {
    let admin = pool.admin().await?;
    let user = DeveloperUserId::new(user)?;
    let Some(found) = admin.describe_user(&user).await? else {
        return pool.say(&json!({ "identity_id": null }), "the user has no identity\n");
    };
    let users: Vec<_> = found.users.iter().map(DeveloperUserId::as_str).collect();
    let identity = found.identity.identity_id.as_str();
    confirm.ask(&format!(
        "forget {} with the identity {identity}, for good",
        users.join(", ")
    ))?;
    let report = admin.forget_user(&user, &[]).await?;
    let complete = report.is_complete();
    let mut value = deleted(&report.identities);
    value["identity_id"] = json!(report.identity_id.as_ref().map(IdentityId::as_str));
    value["unlinked"] = report.unlinked.iter().map(DeveloperUserId::as_str).collect();
    let text = if complete {
        format!("forgotten: {identity}\n")
    } else {
        format!("NOT deleted: {identity}. The user is unlinked and does not lead to it any more: delete it by its id\n")
    };
    pool.say(&value, &text)?;
    Ok(if complete { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn deleted(report: &DeleteReport) -> Value {
    let unprocessed = report
        .unprocessed
        .iter()
        .map(|(id, why)| json!({ "identity_id": id.as_str(), "why": why }));
    json!({
        "deleted": report.deleted.iter().map(IdentityId::as_str).collect::<Vec<_>>(),
        "unprocessed": unprocessed.collect::<Vec<_>>(),
    })
}

/// Merge one user into another: the first one's identity is disabled for good, its logins become the second one's
#[derive(Args)]
pub(crate) struct Merge {
    #[command(flatten)]
    pool: Pool,

    /// The user whose identity is disabled
    #[arg(long, value_name = "USER")]
    from: String,

    /// The user whose identity stays
    #[arg(long, value_name = "USER")]
    into: String,

    #[command(flatten)]
    confirm: Confirm,
}

pub(crate) async fn merge(
    Merge {
        pool,
        from,
        into,
        confirm,
    }: Merge,
) -> Outcome {
    let admin = pool.admin().await?;
    confirm.ask(&format!(
        "merge {from} into {into}: the identity of {from} is disabled, for good"
    ))?;
    let identity = admin
        .merge(&DeveloperUserId::new(from)?, &DeveloperUserId::new(into)?)
        .await?;
    let text = format!("merged into {}\n", identity.as_str());
    pool.say(&json!({ "identity_id": identity.as_str() }), &text)
}

/// Unlink a user from an identity; one without any login left is inaccessible for good
#[derive(Args)]
pub(crate) struct Unlink {
    #[command(flatten)]
    pool: Pool,

    /// The backend's own id of the user
    #[arg(long, value_name = "ID")]
    user: String,

    /// The identity [default: the one that the user has]
    #[arg(long, value_name = "ID")]
    identity: Option<String>,

    #[command(flatten)]
    confirm: Confirm,
}

pub(crate) async fn unlink(options: Unlink) -> Outcome {
    let Unlink {
        pool,
        user,
        identity,
        confirm,
    } = options;
    let admin = pool.admin().await?;
    let user = DeveloperUserId::new(user)?;
    let identity = match identity {
        Some(id) => IdentityId::new(id)?,
        None => match admin.identity_of_user(&user).await? {
            Some(identity) => identity,
            None => return Err(Failure::new("the user has no identity")),
        },
    };
    let users = admin.users_of_identity(&identity).await?;
    let providers = admin.describe(&identity).await?.providers;
    let last = users.len() <= 1 && providers.len() <= 1;
    let warning = if last {
        "; it is the last login, and the identity is lost for good"
    } else {
        ""
    };
    confirm.ask(&format!("unlink {} from {}{warning}", user.as_str(), identity.as_str()))?;
    admin.unlink_user(&user, &identity).await?;
    let value = json!({ "identity_id": identity.as_str(), "unlinked": user.as_str() });
    pool.say(
        &value,
        &format!("unlinked {} from {}\n", user.as_str(), identity.as_str()),
    )
}

/// What cannot be undone wants a yes.
#[derive(Args)]
struct Confirm {
    /// Do it without asking
    #[arg(long, short)]
    yes: bool,
}

impl Confirm {
    fn ask(&self, what: &str) -> Result<(), Failure> {
        if self.yes {
            return Ok(());
        }
        if !io::stdin().is_terminal() {
            return Err(Failure::new(format!("this would {what}: say --yes")));
        }
        let mut out = io::stderr();
        write!(out, "{what}? [y/N] ")?;
        out.flush()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(Failure::new("nothing was done")),
        }
    }
}
