//! `local`: the identity pool on this machine.

mod log;
mod providers;
mod settings;
mod upstream;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use cognito_identity_pool::LocalIdentityPool;
use cognito_identity_pool::local::LocalIdentityPoolBuilder;

use crate::environment::{Environment, ended};
use crate::output::{self, Failure, Outcome};
use log::{Form, Log};
use settings::Settings;

/// Run an identity pool, with STS, on this machine
///
/// It refuses what Cognito refuses, and says why. Every setting can be given as a flag, as an environment variable, or in a
/// TOML file under the flag's name (`port = 4599`); flags win over variables, variables over the file.
///
/// It prints what the AWS CLI and the SDKs read from the environment, then the line `# ready: URL`. `--env-file` writes the
/// same to a file, which appears when the pool is ready. The page at that URL shows what is asked and why it is refused.
#[derive(Args)]
#[command(subcommand_negates_reqs = true)]
pub(crate) struct Local {
    #[command(subcommand)]
    command: Option<LocalCommand>,

    /// Read settings from this TOML file
    #[arg(long, env = "COGNITO_LOCAL_CONFIG", value_name = "FILE")]
    config: Option<std::path::PathBuf>,

    /// Print what the pool refuses and how well that is known, and end
    #[arg(long)]
    rules: bool,

    #[command(flatten)]
    settings: Settings,
}

#[derive(Subcommand)]
enum LocalCommand {
    /// Run a command with the pool in its environment, and end with its exit code
    ///
    /// `cognito-identity-pool local --guests exec -- pytest` starts a pool, runs the tests and stops the pool. Refusals are
    /// written to stderr unless the pool is --quiet.
    Exec {
        /// The command and its arguments
        #[arg(
            required = true,
            trailing_var_arg = true,
            allow_hyphen_values = true,
            value_name = "COMMAND"
        )]
        command: Vec<OsString>,
    },
}

pub(crate) async fn run(local: Local) -> Outcome {
    if local.rules {
        return print_rules();
    }
    let settings = match &local.config {
        Some(path) => local.settings.over(path)?,
        None => local.settings,
    };
    // Before anybody can be told that the pool is ready, and end it at once.
    let ended = ended()?;
    let executes = local.command.is_some();
    let form = match (settings.quiet(), settings.json(), executes) {
        (true, _, _) => Form::Silent,
        (false, true, _) => Form::Json,
        (false, false, true) => Form::Refusals,
        (false, false, false) => Form::Text,
    };
    let log = Arc::new(Log::start(form)?);
    let config = aws_config::defaults(aws_config::BehaviorVersion::latest())
        .region(aws_config::Region::new(settings.region().to_owned()))
        .load()
        .await;
    let observer = Arc::clone(&log);
    let mut builder = builder(&settings)?.on_request(move |request| observer.request(request));
    if let Some(endpoint) = settings.sts_endpoint() {
        builder = upstream::behind(builder, endpoint, &settings, Arc::clone(&log)).await?;
    }
    let pool = builder.start().await?;
    let watch = providers::trust(&pool, &settings, config, &log)?;
    let environment = environment(&pool, &settings);
    if let Some(path) = settings.env_file() {
        environment
            .write(path)
            .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
    }
    announce(&pool, &settings, &log);

    let code = match local.command {
        Some(LocalCommand::Exec { command }) => environment.run(&command, ended).await,
        None => {
            output::text(&environment.ready(settings.json()))?;
            ended.await;
            Ok(ExitCode::SUCCESS)
        }
    };
    // The last state is written here; then what the log still holds, if anybody reads.
    watch.abort();
    drop(pool);
    log.end();
    code
}

fn builder(settings: &Settings) -> Result<LocalIdentityPoolBuilder, Failure> {
    let mut builder = LocalIdentityPool::builder()
        .region(settings.region())
        .developer_provider(settings.provider())
        .port(settings.port());
    if let Some(host) = settings.host() {
        builder = builder.host(host);
    }
    for name in settings.allowed_hosts() {
        builder = builder.allow_host(name);
    }
    builder = settings.describe(builder);
    for path in settings.pools_files() {
        builder = builder.pools_file(&read(path)?).map_err(|error| about(path, error))?;
    }
    for path in settings.roles() {
        builder = builder.roles_json(&read(path)?).map_err(|error| about(path, error))?;
    }
    Ok(builder)
}

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| about(path, error))
}

fn about(path: &Path, error: impl std::fmt::Display) -> Failure {
    Failure::new(format!("{}: {error}", path.display()))
}

/// What whoever looks at the log has to know first.
fn announce(pool: &LocalIdentityPool, settings: &Settings, log: &Log) {
    if let Some(host) = settings.host().filter(|host| !host.is_loopback()) {
        log.note(&format!(
            "WARNING: the pool listens on {host}: everybody who reaches this machine can use it"
        ));
    }
    for name in settings.allowed_hosts() {
        log.note(&format!("WARNING: requests may call the pool {name}"));
    }
    if let Some(path) = settings.env_file() {
        log.note(&format!("run `source {}` in another terminal", path.display()));
    }
    log.note(&format!(
        "page and admin path: {}/#{}",
        pool.endpoint_url(),
        pool.admin_token()
    ));
    log.note(&format!("listening on {}; Ctrl-C ends it", pool.endpoint_url()));
}

/// What the AWS CLI, boto3 and the other SDKs read, and where the pool is.
fn environment(pool: &LocalIdentityPool, settings: &Settings) -> Environment {
    let endpoint = pool.endpoint_url();
    let credentials = pool.developer_credentials();
    let region = pool.region().to_owned();
    // The server behind made the credentials: it is the one that takes them, for every service that it has.
    let behind = settings.sts_endpoint().map(str::to_owned);
    let mut variables = vec![
        ("AWS_ACCESS_KEY_ID", credentials.access_key_id().to_owned()),
        ("AWS_SECRET_ACCESS_KEY", credentials.secret_access_key().to_owned()),
        ("AWS_REGION", region.clone()),
        // boto3 and version 1 of the CLI know this one alone.
        ("AWS_DEFAULT_REGION", region),
        ("AWS_ENDPOINT_URL_COGNITO_IDENTITY", endpoint.clone()),
        (
            "AWS_ENDPOINT_URL_STS",
            behind.clone().unwrap_or_else(|| endpoint.clone()),
        ),
        ("COGNITO_IDENTITY_POOL_ID", pool.identity_pool_id().to_owned()),
        (
            "COGNITO_DEVELOPER_PROVIDER",
            pool.developer_provider().unwrap_or_default(),
        ),
        ("COGNITO_LOCAL_URL", endpoint.clone()),
        ("COGNITO_LOCAL_ADMIN_TOKEN", pool.admin_token().to_owned()),
    ];
    variables.extend(behind.map(|behind| ("AWS_ENDPOINT_URL", behind)));
    Environment::new(endpoint, variables)
}

fn print_rules() -> Outcome {
    let mut text = String::new();
    for rule in LocalIdentityPool::rules() {
        text.push_str(&format!("{:10} {} {}\n", rule.fidelity, rule.id, rule.error));
        if !rule.message.is_empty() {
            text.push_str(&format!("           {}\n", rule.message));
        }
        text.push_str(&format!("           {}\n", rule.about));
        if !rule.source.is_empty() {
            text.push_str(&format!("  source:  {}\n", rule.source));
        }
    }
    output::text(&text)
}
