//! An identity pool on this machine, for the AWS CLI and every SDK.
//!
//! ```text
//! cargo run --example local_pool -- --port 4599 --env-file pool.env
//! source pool.env          # in another terminal
//! aws cognito-identity get-open-id-token-for-developer-identity \
//!     --identity-pool-id $COGNITO_IDENTITY_POOL_ID --logins $COGNITO_DEVELOPER_PROVIDER=user-42
//! ```
//!
//! boto3 and the SDKs for Rust, Go, Java, JavaScript v3 and others read the same variables. An SDK that does not takes
//! the endpoint as a setting: `new AWS.CognitoIdentity({ endpoint: "http://127.0.0.1:4599" })` in JavaScript v2.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "the example talks to its user")]

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::process::ExitCode;

use aws_credential_types::Credentials;
use aws_sdk_sts::error::DisplayErrorContext;
use cognito_identity_pool::{
    LocalIdentityPool,
    local::{LocalIdentityPoolBuilder, LocalRequest},
};

const USAGE: &str = "\
usage: local_pool [options]
  --port N          listen on 127.0.0.1:N (default: any free port)
  --provider NAME   the developer provider's name (default: login.mycompany.myapp)
  --guests          allow guests
  --region REGION   the region (default: us-east-1)
  --env-file PATH   write the export lines there, too
  --pools-file PATH further pools and roles, as JSON with AWS's member names
  --throttle        refuse what exceeds the documented quotas
  --sts-endpoint URL
                    give out the credentials of sts:AssumeRole at this server, signed with the credentials of
                    the environment; they live --sts-seconds N (default: 3600)
  --allow-remote-sts
                    let that server be on another machine; web pages may not call then
  --rules           print what the pool refuses and how well that is known, and end
  --help            print this, and end";

#[derive(Default)]
struct Options {
    port: u16,
    provider: Option<String>,
    guests: bool,
    region: Option<String>,
    env_file: Option<String>,
    pools_file: Option<String>,
    throttle: bool,
    sts_endpoint: Option<String>,
    sts_seconds: Option<u32>,
    allow_remote_sts: bool,
    rules: bool,
    help: bool,
}

impl Options {
    fn parse(arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self::default();
        let mut arguments = arguments;
        while let Some(argument) = arguments.next() {
            // Both `--port 4599` and `--port=4599`.
            let (name, mut inline) = match argument.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (argument.as_str(), None),
            };
            let mut value = || {
                inline
                    .take()
                    .or_else(|| arguments.next())
                    .ok_or(format!("{name} needs a value"))
            };
            match name {
                "--port" => {
                    options.port = value()?
                        .parse()
                        .map_err(|_| "--port needs a number up to 65535".to_owned())?;
                }
                "--provider" => options.provider = Some(value()?),
                "--region" => options.region = Some(value()?),
                "--env-file" => options.env_file = Some(value()?),
                "--pools-file" => options.pools_file = Some(value()?),
                "--throttle" => options.throttle = true,
                "--sts-endpoint" => options.sts_endpoint = Some(value()?),
                "--sts-seconds" => {
                    let seconds = value()?
                        .parse()
                        .map_err(|_| "--sts-seconds needs a number".to_owned())?;
                    options.sts_seconds = Some(seconds);
                }
                "--allow-remote-sts" => options.allow_remote_sts = true,
                "--guests" => options.guests = true,
                "--rules" => options.rules = true,
                "--help" => options.help = true,
                _ => return Err(format!("{argument} is not an option")),
            }
            if inline.is_some() {
                return Err(format!("{name} takes no value"));
            }
        }
        Ok(options)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: Options) -> anyhow::Result<()> {
    if options.help {
        println!("{USAGE}");
        return Ok(());
    }
    if options.rules {
        // Whoever reads may stop reading (`--rules | head`).
        return Ok(
            print_rules(&mut io::stdout().lock()).or_else(|error| match error.kind() {
                io::ErrorKind::BrokenPipe => Ok(()),
                _ => Err(error),
            })?,
        );
    }
    let provider = options.provider.unwrap_or_else(|| "login.mycompany.myapp".to_owned());
    let mut builder = LocalIdentityPool::builder()
        .port(options.port)
        .developer_provider(&provider)
        .allow_guests(options.guests)
        .throttling(options.throttle)
        .on_request(log);
    let region = options.region.unwrap_or_else(|| "us-east-1".to_owned());
    builder = builder.region(&region);
    if let Some(path) = options.pools_file {
        builder = builder.pools_file(&fs::read_to_string(path)?)?;
    }
    if let Some(seconds) = options.sts_seconds {
        builder = builder.credentials_seconds(seconds);
    }
    if let Some(endpoint) = options.sts_endpoint {
        let remote = !is_loopback(&endpoint);
        anyhow::ensure!(
            !remote || options.allow_remote_sts,
            "{endpoint} is not on this machine: --allow-remote-sts"
        );
        builder = front(builder, &endpoint, region).await.cors(!remote);
    }
    let pool = builder.start().await?;

    let exports = exports(&pool, &provider, &pool.developer_credentials());
    print!("{exports}");
    io::stdout().flush()?;
    if let Some(path) = options.env_file {
        write_private(&path, &exports)?;
        eprintln!("run `source {path}` in another terminal");
    }
    eprintln!(
        "faults: POST {}/_local/faults with the header x-local-admin: {}",
        pool.endpoint_url(),
        pool.admin_token()
    );
    eprintln!("listening on {}; Ctrl-C ends it", pool.endpoint_url());
    tokio::signal::ctrl_c().await?;
    Ok(())
}

/// A pool whose credentials open what the server behind it has.
async fn front(builder: LocalIdentityPoolBuilder, endpoint: &str, region: String) -> LocalIdentityPoolBuilder {
    let config = aws_config::defaults(aws_config::BehaviorVersion::latest())
        .region(aws_config::Region::new(region))
        .endpoint_url(endpoint)
        .load()
        .await;
    let sts = aws_sdk_sts::Client::new(&config);
    builder.credentials_from(move |request| {
        let call = sts
            .assume_role()
            .role_arn(request.role_arn)
            .role_session_name(request.role_session_name)
            .duration_seconds(request.duration_seconds);
        async move {
            let output = call
                .send()
                .await
                .inspect_err(|error| eprintln!("AssumeRole at the STS behind: {}", DisplayErrorContext(error)))?;
            let credentials = output.credentials.ok_or("AssumeRole answered without credentials")?;
            Ok(Credentials::new(
                credentials.access_key_id,
                credentials.secret_access_key,
                Some(credentials.session_token),
                credentials.expiration.try_into().ok(),
                "AssumeRole",
            ))
        }
    })
}

fn is_loopback(url: &str) -> bool {
    let authority = url
        .split_once("://")
        .map_or(url, |(_, rest)| rest)
        .split('/')
        .next()
        .unwrap_or_default();
    // What stands before an @ is no host.
    let host = authority.rsplit('@').next().unwrap_or_default();
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// What the AWS CLI, boto3 and the other SDKs read. boto3 and version 1 of the CLI know `AWS_DEFAULT_REGION` alone.
fn exports(pool: &LocalIdentityPool, provider: &str, credentials: &Credentials) -> String {
    let endpoint = pool.endpoint_url();
    let lines = [
        ("AWS_ACCESS_KEY_ID", credentials.access_key_id()),
        ("AWS_SECRET_ACCESS_KEY", credentials.secret_access_key()),
        ("AWS_REGION", pool.region()),
        ("AWS_DEFAULT_REGION", pool.region()),
        ("AWS_ENDPOINT_URL_COGNITO_IDENTITY", &endpoint),
        ("AWS_ENDPOINT_URL_STS", &endpoint),
        ("COGNITO_IDENTITY_POOL_ID", pool.identity_pool_id()),
        ("COGNITO_DEVELOPER_PROVIDER", provider),
    ];
    lines
        .iter()
        .map(|(name, value)| format!("export {name}={value}\n"))
        .collect()
}

/// The file holds a secret key, if only of this pool.
fn write_private(path: &str, text: &str) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)?.write_all(text.as_bytes())
}

fn log(request: &LocalRequest) {
    let outcome = request.error.unwrap_or("ok");
    let identity = request.identity_id.as_deref().unwrap_or("-");
    let key = request
        .issued_access_key_id
        .as_deref()
        .or(request.access_key_id.as_deref())
        .unwrap_or("-");
    eprintln!("{} {} {outcome} {identity} {key}", request.status, request.operation);
}

fn print_rules(out: &mut impl io::Write) -> io::Result<()> {
    for rule in LocalIdentityPool::rules() {
        writeln!(out, "{:10} {} {}", rule.fidelity, rule.id, rule.error)?;
        if !rule.message.is_empty() {
            writeln!(out, "           {}", rule.message)?;
        }
        writeln!(out, "           {}", rule.about)?;
        if !rule.source.is_empty() {
            writeln!(out, "  source:  {}", rule.source)?;
        }
    }
    Ok(())
}
