//! The settings of `local`: flags, environment variables, and a file, under the same names.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::Args;
use cognito_identity_pool::local::LocalIdentityPoolBuilder;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::output::Failure;

/// Each is an option, so that one that was not given is told from one that was.
#[derive(Args, Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub(super) struct Settings {
    /// Listen on this port [default: any free one]
    #[arg(long, env = "COGNITO_LOCAL_PORT", value_name = "N")]
    port: Option<u16>,

    /// Listen on this address [default: 127.0.0.1]; on another one everybody who reaches this machine reaches the pool
    #[arg(long, env = "COGNITO_LOCAL_HOST", value_name = "ADDRESS")]
    host: Option<IpAddr>,

    /// Answer to this name, too, such as 10.0.2.2 (Android emulator), a container's name, or *.test
    #[arg(long, env = "COGNITO_LOCAL_ALLOW_HOST", value_name = "NAME", value_delimiter = ';')]
    allow_host: Vec<String>,

    /// Keep pools, identities and keys in this file, across restarts
    #[arg(long, env = "COGNITO_LOCAL_STATE", value_name = "FILE")]
    state: Option<PathBuf>,

    /// Write the environment to this file, to be sourced by a shell
    #[arg(long, env = "COGNITO_LOCAL_ENV_FILE", value_name = "FILE")]
    env_file: Option<PathBuf>,

    /// Say nothing of requests
    #[arg(long, short, env = "COGNITO_LOCAL_QUIET", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    quiet: Option<bool>,

    /// Write the ready line and the log as JSON, one object a line
    #[arg(long, env = "COGNITO_LOCAL_JSON", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    json: Option<bool>,

    /// What the header x-local-admin has to carry on the admin path [default: a random one]
    #[arg(
        long,
        env = "COGNITO_LOCAL_ADMIN_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true,
        help_heading = "Keys"
    )]
    admin_token: Option<String>,

    /// The backend's access key id [default: a random one]; needs --secret-access-key
    #[arg(long, env = "COGNITO_LOCAL_ACCESS_KEY_ID", value_name = "ID", help_heading = "Keys")]
    access_key_id: Option<String>,

    /// The backend's secret access key
    #[arg(
        long,
        env = "COGNITO_LOCAL_SECRET_ACCESS_KEY",
        value_name = "KEY",
        hide_env_values = true,
        help_heading = "Keys"
    )]
    secret_access_key: Option<String>,

    /// The region [default: us-east-1]
    #[arg(long, env = "COGNITO_LOCAL_REGION", help_heading = "Pool")]
    region: Option<String>,

    /// The AWS account of the pool and its roles [default: 123456789012]
    #[arg(long, env = "COGNITO_LOCAL_ACCOUNT", value_name = "ID", help_heading = "Pool")]
    account: Option<String>,

    /// The pool's id, region:uuid [default: a random one]
    #[arg(long, env = "COGNITO_LOCAL_POOL_ID", value_name = "ID", help_heading = "Pool")]
    pool_id: Option<String>,

    /// The developer provider's name [default: login.mycompany.myapp]
    #[arg(long, env = "COGNITO_LOCAL_PROVIDER", value_name = "NAME", help_heading = "Pool")]
    provider: Option<String>,

    /// Allow guests
    #[arg(long, env = "COGNITO_LOCAL_GUESTS", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = "Pool")]
    guests: Option<bool>,

    /// Allow the classic flow [default: as on AWS, where it is allowed unless it is forbidden]
    #[arg(long, env = "COGNITO_LOCAL_CLASSIC_FLOW", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = "Pool")]
    classic_flow: Option<bool>,

    /// Trust a social or OIDC provider: `accounts.example.com` is simulated (POST /_local/tokens issues its tokens),
    /// `localhost:8080/realms/app,jwks=http://localhost:8080/realms/app/certs,audience=app` is your own
    #[arg(
        long,
        env = "COGNITO_LOCAL_IDENTITY_PROVIDER",
        value_name = "NAME[,jwks=URL][,audience=APP]",
        value_delimiter = ';',
        help_heading = "Pool"
    )]
    identity_provider: Vec<String>,

    /// Trust a user pool with an app client: simulated, or with the keys of the real one
    #[arg(
        long,
        env = "COGNITO_LOCAL_USER_POOL",
        value_name = "ID,client=CLIENT[,jwks=URL]",
        value_delimiter = ';',
        help_heading = "Pool"
    )]
    user_pool: Vec<String>,

    /// The role of authenticated identities
    #[arg(
        long,
        env = "COGNITO_LOCAL_AUTHENTICATED_ROLE",
        value_name = "ARN",
        help_heading = "Roles"
    )]
    authenticated_role: Option<String>,

    /// The role of guests
    #[arg(
        long,
        env = "COGNITO_LOCAL_UNAUTHENTICATED_ROLE",
        value_name = "ARN",
        help_heading = "Roles"
    )]
    unauthenticated_role: Option<String>,

    /// Check the trust policy of this role: what `aws iam get-role` prints
    #[arg(
        long,
        env = "COGNITO_LOCAL_ROLE",
        value_name = "FILE",
        value_delimiter = ';',
        help_heading = "Roles"
    )]
    role: Vec<PathBuf>,

    /// Further pools and roles, as JSON with AWS's member names
    #[arg(
        long,
        env = "COGNITO_LOCAL_POOLS_FILE",
        value_name = "FILE",
        value_delimiter = ';',
        help_heading = "Roles"
    )]
    pools_file: Vec<PathBuf>,

    /// Refuse what exceeds the documented quotas
    #[arg(long, env = "COGNITO_LOCAL_THROTTLE", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = "Behaviour")]
    throttle: Option<bool>,

    /// The life of the credentials of the enhanced flow, in seconds [default: 3600, as it is fixed on AWS]
    #[arg(
        long,
        visible_alias = "sts-seconds",
        env = "COGNITO_LOCAL_CREDENTIALS_SECONDS",
        value_name = "N",
        help_heading = "Behaviour"
    )]
    credentials_seconds: Option<u32>,

    /// Let web pages of any origin call, as on AWS [default: true]
    #[arg(long, env = "COGNITO_LOCAL_CORS", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = "Behaviour")]
    cors: Option<bool>,

    /// Give out the credentials of sts:AssumeRole at this server, signed with the credentials of the environment
    #[arg(
        long,
        env = "COGNITO_LOCAL_STS_ENDPOINT",
        value_name = "URL",
        help_heading = "Behaviour"
    )]
    sts_endpoint: Option<String>,

    /// Let that server be on another machine; web pages may not call then
    #[arg(long, env = "COGNITO_LOCAL_ALLOW_REMOTE_STS", num_args = 0..=1, require_equals = true, default_missing_value = "true", help_heading = "Behaviour")]
    allow_remote_sts: Option<bool>,
}

impl Settings {
    /// These settings, and those of the file where these say nothing.
    pub(super) fn over(self, path: &Path) -> Result<Self, Failure> {
        let about = |error: &dyn std::fmt::Display| Failure::new(format!("{}: {error}", path.display()));
        let text = std::fs::read_to_string(path).map_err(|error| about(&error))?;
        let file: Self = toml::from_str(&text).map_err(|error| about(&error))?;
        let mut merged = given(&file)?;
        merged.extend(given(&self)?);
        Ok(serde_json::from_value(Value::Object(merged))?)
    }

    pub(super) fn port(&self) -> u16 {
        self.port.unwrap_or_default()
    }

    pub(super) fn host(&self) -> Option<IpAddr> {
        self.host
    }

    pub(super) fn allowed_hosts(&self) -> &[String] {
        &self.allow_host
    }

    pub(super) fn region(&self) -> &str {
        let of_pool = self.pool_id.as_deref().and_then(|id| Some(id.split_once(':')?.0));
        self.region.as_deref().or(of_pool).unwrap_or("us-east-1")
    }

    pub(super) fn provider(&self) -> &str {
        self.provider.as_deref().unwrap_or("login.mycompany.myapp")
    }

    pub(super) fn env_file(&self) -> Option<&Path> {
        self.env_file.as_deref()
    }

    pub(super) fn pools_files(&self) -> &[PathBuf] {
        &self.pools_file
    }

    pub(super) fn roles(&self) -> &[PathBuf] {
        &self.role
    }

    pub(super) fn identity_providers(&self) -> &[String] {
        &self.identity_provider
    }

    pub(super) fn user_pools(&self) -> &[String] {
        &self.user_pool
    }

    pub(super) fn sts_endpoint(&self) -> Option<&str> {
        self.sts_endpoint.as_deref()
    }

    pub(super) fn allow_remote_sts(&self) -> bool {
        self.allow_remote_sts.unwrap_or_default()
    }

    pub(super) fn quiet(&self) -> bool {
        self.quiet.unwrap_or_default()
    }

    pub(super) fn json(&self) -> bool {
        self.json.unwrap_or_default()
    }

    /// What of these needs no file and no check.
    pub(super) fn describe(&self, mut builder: LocalIdentityPoolBuilder) -> LocalIdentityPoolBuilder {
        if let Some(account) = &self.account {
            builder = builder.account_id(account);
        }
        if let Some(id) = &self.pool_id {
            builder = builder.identity_pool_id(id);
        }
        if let Some(allow) = self.guests {
            builder = builder.allow_guests(allow);
        }
        if let Some(allow) = self.classic_flow {
            builder = builder.allow_classic_flow(allow);
        }
        if let Some(arn) = &self.authenticated_role {
            builder = builder.authenticated_role(arn);
        }
        if let Some(arn) = &self.unauthenticated_role {
            builder = builder.unauthenticated_role(arn);
        }
        if let Some(on) = self.throttle {
            builder = builder.throttling(on);
        }
        if let Some(seconds) = self.credentials_seconds {
            builder = builder.credentials_seconds(seconds);
        }
        if let Some(cors) = self.cors {
            builder = builder.cors(cors);
        }
        if let Some(token) = &self.admin_token {
            builder = builder.admin_token(token);
        }
        if let (Some(id), Some(secret)) = (&self.access_key_id, &self.secret_access_key) {
            builder = builder.developer_credentials(id, secret.clone());
        }
        if let Some(path) = &self.state {
            builder = builder.state_file(path);
        }
        builder
    }
}

/// The settings that were given.
fn given(settings: &Settings) -> Result<Map<String, Value>, Failure> {
    let Value::Object(mut all) = serde_json::to_value(settings)? else {
        return Ok(Map::new());
    };
    all.retain(|_, value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()));
    Ok(all)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Flags {
        #[command(flatten)]
        settings: Settings,
    }

    fn merged(flags: &[&str], file: &str) -> Result<Settings, Failure> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("local.toml");
        std::fs::write(&path, file).unwrap();
        let flags = Flags::parse_from([&["local"], flags].concat());
        flags.settings.over(&path)
    }

    #[test]
    fn a_flag_wins_over_the_file_and_what_it_does_not_say_is_the_files() {
        let file = "port = 1\nprovider = 'login.file'\nguests = true\nallow-host = ['a', 'b']\nhost = '127.0.0.2'";
        let settings = merged(&["--port", "2", "--guests=false"], file).ok().unwrap();
        assert_eq!((settings.port(), settings.provider()), (2, "login.file"));
        assert_eq!(settings.guests, Some(false));
        assert_eq!(settings.allowed_hosts(), ["a", "b"]);
        assert_eq!(settings.host(), Some([127, 0, 0, 2].into()));
    }

    #[test]
    fn a_file_with_an_unknown_name_is_refused_by_name() {
        let Err(Failure(text)) = merged(&[], "prot = 1") else {
            panic!("it was taken")
        };
        assert!(text.contains("prot"), "{text}");
    }

    #[test]
    fn the_region_is_the_pools_unless_it_is_said() {
        let region = |flags: &[&str]| merged(flags, "").ok().unwrap().region().to_owned();
        assert_eq!(region(&[]), "us-east-1");
        assert_eq!(region(&["--pool-id", "eu-west-1:x"]), "eu-west-1");
        assert_eq!(
            region(&["--pool-id", "eu-west-1:x", "--region", "cn-north-1"]),
            "cn-north-1"
        );
    }
}
