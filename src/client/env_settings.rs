//! Settings from the environment and the profile, under the names that AWS's SDK for Swift has defined.

use aws_types::SdkConfig;
use aws_types::service_config::ServiceConfigKey;

use super::builder::CognitoCredentialsProviderBuilder;
use super::login::Login;
use crate::CognitoCredentialsProvider;
use crate::error::{Error, ErrorKind};
use crate::ids::{IdentityId, InvalidId};

impl CognitoCredentialsProvider {
    /// A builder from the environment, or else from the profile that `config` was loaded with:
    ///
    /// | setting | environment | profile |
    /// |---|---|---|
    /// | identity pool id, required | `AWS_COGNITO_IDENTITY_POOL_ID` | `cognito_identity_pool_id` |
    /// | identity id ([`Login::identity_id`]) | `AWS_COGNITO_IDENTITY_ID` | `cognito_identity_id` |
    /// | account id ([`Login::account_id`]) | `AWS_ACCOUNT_ID` | `account_id` |
    /// | custom role ([`Login::custom_role_arn`]) | `AWS_COGNITO_CUSTOM_ROLE_ARN` | `cognito_custom_role_arn` |
    /// | region, if it is not the pool's | `AWS_COGNITO_POOL_REGION` | `cognito_pool_region` |
    ///
    /// `login` is the one that the provider starts with; what is set in it comes first. The builder has the HTTP client and the like
    /// of `config`, and what is set on it afterwards comes first, too.
    ///
    /// ```no_run
    /// # use aws_config::BehaviorVersion;
    /// # use cognito_identity_pool::{CognitoCredentialsProvider, Login};
    /// # async fn example() -> Result<(), cognito_identity_pool::Error> {
    /// let base = aws_config::load_defaults(BehaviorVersion::latest()).await;
    /// let provider = CognitoCredentialsProvider::from_env(&base, Login::guest())?.build()?;
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Configuration`]: there is no identity pool id, or a value is not what its name says.
    pub fn from_env(config: &SdkConfig, login: Login) -> Result<CognitoCredentialsProviderBuilder, Error> {
        let set = |env, profile| setting(config, env, profile);
        let pool = set("AWS_COGNITO_IDENTITY_POOL_ID", "cognito_identity_pool_id").ok_or_else(|| {
            Error::new(
                ErrorKind::Configuration,
                "no identity pool is set in the environment or the profile",
            )
            .with_hint("set AWS_COGNITO_IDENTITY_POOL_ID, or cognito_identity_pool_id in the profile")
        })?;
        let mut login = login;
        if login.identity_id.is_none() {
            let id = set("AWS_COGNITO_IDENTITY_ID", "cognito_identity_id");
            login.identity_id = id.map(IdentityId::new).transpose().map_err(|error: InvalidId| {
                Error::from(error).with_hint("see AWS_COGNITO_IDENTITY_ID, or cognito_identity_id in the profile")
            })?;
        }
        if login.account_id.is_none() {
            login.account_id = set("AWS_ACCOUNT_ID", "account_id").map(Into::into);
        }
        if login.custom_role_arn.is_none() {
            login.custom_role_arn = set("AWS_COGNITO_CUSTOM_ROLE_ARN", "cognito_custom_role_arn").map(Into::into);
        }
        let builder = Self::builder(pool).configure(config).login(login);
        Ok(match set("AWS_COGNITO_POOL_REGION", "cognito_pool_region") {
            Some(region) => builder.region(region),
            None => builder,
        })
    }
}

/// From the environment, else from the profile. A configuration that was not loaded by aws-config has no profile.
fn setting(config: &SdkConfig, env: &'static str, profile: &'static str) -> Option<String> {
    let value = match config.service_config() {
        Some(loaded) => {
            let key = ServiceConfigKey::builder()
                .service_id("Cognito Identity")
                .env(env)
                .profile(profile);
            loaded.load_config(key.build().ok()?)
        }
        None => std::env::var(env).ok(),
    };
    value
        .map(|value| value.trim().to_owned())
        .filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use aws_types::service_config::LoadServiceConfig;

    use super::*;

    #[derive(Debug)]
    struct Loaded {
        env: HashMap<&'static str, &'static str>,
        profile: HashMap<&'static str, &'static str>,
    }

    impl LoadServiceConfig for Loaded {
        fn load_config(&self, key: ServiceConfigKey<'_>) -> Option<String> {
            let value = self.env.get(key.env()).or_else(|| self.profile.get(key.profile()));
            value.map(|value| (*value).to_owned())
        }
    }

    const POOL: &str = "us-east-1:335c1f44-87c9-4bbd-a314-93b47d91fadd";
    const ID: &str = "us-east-1:0b1c2d3e-5e6f-7a8b-9c0d-1e2f3a4b5c6d";

    fn config(env: &[(&'static str, &'static str)], profile: &[(&'static str, &'static str)]) -> SdkConfig {
        let loaded = Loaded {
            env: env.iter().copied().collect(),
            profile: profile.iter().copied().collect(),
        };
        SdkConfig::builder().service_config(loaded).build()
    }

    #[test]
    fn each_setting_is_read_from_the_environment_and_else_from_the_profile() {
        let config = config(
            &[
                ("AWS_COGNITO_IDENTITY_POOL_ID", POOL),
                ("AWS_ACCOUNT_ID", " 123456789012 "),
            ],
            &[
                (
                    "cognito_identity_pool_id",
                    "eu-west-1:335c1f44-87c9-4bbd-a314-93b47d91fadd",
                ),
                ("cognito_identity_id", ID),
                ("cognito_custom_role_arn", "arn:aws:iam::123456789012:role/from-profile"),
                ("cognito_pool_region", "us-west-2"),
            ],
        );
        let own = Login::guest().custom_role_arn("arn:aws:iam::123456789012:role/own");
        let builder = CognitoCredentialsProvider::from_env(&config, own).unwrap();
        let login = &builder.login;
        assert_eq!(login.identity_id.as_ref().map(IdentityId::as_str), Some(ID));
        assert_eq!(login.account_id.as_deref(), Some("123456789012"));
        assert_eq!(
            login.custom_role_arn.as_deref(),
            Some("arn:aws:iam::123456789012:role/own")
        );
        assert_eq!(builder.pool.as_ref().unwrap().as_str(), POOL);
        assert_eq!(builder.settings.region.as_deref(), Some("us-west-2"));
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let error = CognitoCredentialsProvider::from_env(&config(&[], &[]), Login::guest()).unwrap_err();
        assert!(error.hint().unwrap().contains("AWS_COGNITO_IDENTITY_POOL_ID"));
        let blank = config(&[("AWS_COGNITO_IDENTITY_POOL_ID", " ")], &[]);
        assert!(CognitoCredentialsProvider::from_env(&blank, Login::guest()).is_err());
        let wrong = config(
            &[
                ("AWS_COGNITO_IDENTITY_POOL_ID", POOL),
                ("AWS_COGNITO_IDENTITY_ID", "mine"),
            ],
            &[],
        );
        let error = CognitoCredentialsProvider::from_env(&wrong, Login::guest()).unwrap_err();
        assert!(error.to_string().contains("identity id") && error.hint().unwrap().contains("AWS_COGNITO_IDENTITY_ID"));
    }
}
