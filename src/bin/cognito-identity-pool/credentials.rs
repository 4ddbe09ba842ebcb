//! `credentials`: for every other program on the machine that should act as the signed-in user.

mod bearer;
mod cache;
mod endpoint;
mod process;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use aws_config::BehaviorVersion;
use aws_types::SdkConfig;
use clap::{Args, Subcommand};
use cognito_identity_pool::{CognitoCredentialsProvider, HttpBackend, Login};
use secrecy::SecretString;

use crate::environment::{Environment, ended};
use crate::output::{self, Failure, Outcome};
use bearer::BearerCommand;

/// Give AWS credentials of the signed-in user to the other programs of this machine
///
/// They ask your backend for the user's token (a POST with the bearer, see `HttpBackend` of the library) and exchange it at
/// Cognito. The bearer command says who is signed in: it prints the session or access token that the backend knows the user
/// by, and nothing when nobody is signed in. It is run again and again, so that a change of user and a sign-out are followed.
#[derive(Args)]
pub(crate) struct Command {
    #[command(subcommand)]
    way: Way,
}

#[derive(Subcommand)]
enum Way {
    /// Print credentials as `credential_process` of ~/.aws/config wants them
    ///
    /// `credential_process = cognito-identity-pool credentials process --pool … --backend … --bearer-command …`
    ///
    /// Credentials are kept in a file that only you can read, so that many processes make one exchange.
    Process {
        #[command(flatten)]
        source: Source,

        /// Where credentials are kept [default: cognito-identity-pool in the user's cache folder]
        #[arg(long, env = "COGNITO_CREDENTIALS_CACHE", value_name = "FOLDER")]
        cache: Option<PathBuf>,
    },
    /// Serve credentials on loopback, where the SDKs of all languages look for them
    ///
    /// It prints AWS_CONTAINER_CREDENTIALS_FULL_URI and the token that goes with it. They are asked for after static
    /// credentials: take AWS_ACCESS_KEY_ID and AWS_PROFILE out of the environment of whoever uses them.
    Serve {
        #[command(flatten)]
        source: Source,

        /// Listen on this port of 127.0.0.1 [default: any free one]
        #[arg(long, default_value_t, hide_default_value = true, value_name = "N")]
        port: u16,

        /// Write the environment to this file, to be sourced by a shell
        #[arg(long, value_name = "FILE")]
        env_file: Option<PathBuf>,
    },
    /// Run a command that acts as the signed-in user, and end with its exit code
    Exec {
        #[command(flatten)]
        source: Source,

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

/// Whose credentials.
#[derive(Args, Clone)]
pub(crate) struct Source {
    /// The identity pool's id
    #[arg(long, env = "COGNITO_IDENTITY_POOL_ID", value_name = "ID")]
    pool: String,

    /// Where the backend vends the user's token
    #[arg(long, env = "COGNITO_BACKEND_URL", value_name = "URL")]
    backend: String,

    /// A shell command that prints the bearer of who is signed in, and nothing if nobody is
    #[arg(long, env = "COGNITO_BEARER_COMMAND", value_name = "COMMAND")]
    bearer_command: String,

    /// The longest time for which a program goes on with credentials that it was given, in seconds: with more, boto3 would
    /// sign as the user before
    #[arg(long, env = "COGNITO_CREDENTIALS_LEASE", value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u16).range(15..=300))]
    lease: u16,
}

impl Source {
    fn lease(&self) -> Duration {
        Duration::from_secs(self.lease.into())
    }

    fn bearer(&self) -> BearerCommand {
        BearerCommand::new(self.bearer_command.clone())
    }

    fn provider(&self, config: &SdkConfig) -> Result<CognitoCredentialsProvider, Failure> {
        // The lease is this program's: it knows whom it gives them to.
        Ok(CognitoCredentialsProvider::builder(self.pool.as_str())
            .configure(config)
            .lease(None)
            .build()?)
    }

    /// Whom the backend knows by this bearer.
    fn login(&self, config: &SdkConfig, bearer: SecretString) -> Result<Login, Failure> {
        let backend = HttpBackend::builder(self.backend.as_str())
            .configure(config)
            .bearer(bearer);
        Ok(Login::developer(backend.build()?))
    }
}

/// What a command must not have beside the endpoint, because an SDK would take it first.
const FIRST: &[&str] = &[
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
];

pub(crate) async fn run(command: Command) -> Outcome {
    let config = aws_config::load_defaults(BehaviorVersion::latest()).await;
    match command.way {
        Way::Process { source, cache } => process::run(&source, &config, cache).await,
        Way::Serve { source, port, env_file } => {
            let ended = ended()?;
            let environment = serve(&source, &config, port).await?;
            if let Some(path) = env_file {
                environment
                    .write(&path)
                    .map_err(|error| Failure::new(format!("{}: {error}", path.display())))?;
            }
            output::text(&environment.ready(false))?;
            ended.await;
            Ok(ExitCode::SUCCESS)
        }
        Way::Exec { source, command } => {
            let ended = ended()?;
            serve(&source, &config, 0).await?.run(&command, ended).await
        }
    }
}

async fn serve(source: &Source, config: &SdkConfig, port: u16) -> Result<Environment, Failure> {
    let (url, token) = endpoint::start(source, config, port).await?;
    let variables = vec![
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", url.clone()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", token),
    ];
    Ok(Environment::new(url, variables).without(FIRST))
}
