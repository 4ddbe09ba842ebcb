//! Identity pools: their settings, roles, mappings and tags.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::directory::Directory;
use super::rules::{Refusal, Rule};
use super::sessions::split_role;

/// Providers that every pool may name, and whether their tokens are opaque.
pub(super) const SOCIAL: &[(&str, bool)] = &[
    ("graph.facebook.com", true),
    ("www.amazon.com", true),
    ("api.twitter.com", true),
    ("www.digits.com", true),
    ("accounts.google.com", false),
    ("appleid.apple.com", false),
];

/// The most rules of one role mapping.
const MAX_RULES: usize = 25;

/// The most pools of an account.
const MAX_POOLS: usize = 1000;

/// What CreateIdentityPool takes and DescribeIdentityPool answers: members that were left out stay out.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PoolSettings {
    #[serde(default)]
    pub(super) identity_pool_id: String,
    pub(super) identity_pool_name: String,
    pub(super) allow_unauthenticated_identities: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) allow_classic_flow: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) supported_login_providers: Option<BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) developer_provider_name: Option<String>,
    #[serde(rename = "OpenIdConnectProviderARNs", skip_serializing_if = "Option::is_none")]
    pub(super) open_id_connect_provider_arns: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cognito_identity_providers: Option<Vec<UserPool>>,
    #[serde(rename = "SamlProviderARNs", skip_serializing_if = "Option::is_none")]
    pub(super) saml_provider_arns: Option<Vec<String>>,
    #[serde(default, deserialize_with = "null_is_empty")]
    pub(super) identity_pool_tags: BTreeMap<String, String>,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl PoolSettings {
    /// The names under which role mappings and tag maps can speak of a provider, for a token of this audience: the most
    /// exact one first.
    pub(super) fn names_of(&self, provider: &str, audience: &str) -> Vec<String> {
        let mut names = vec![format!("{provider}:{audience}")];
        names.extend(self.oidc_arns_of(provider).map(str::to_owned));
        names.push(provider.to_owned());
        names
    }

    /// The ARNs under which the pool has an IAM OIDC provider.
    pub(super) fn oidc_arns_of<'a>(&'a self, provider: &'a str) -> impl Iterator<Item = &'a str> {
        let arns = self.open_id_connect_provider_arns.iter().flatten().map(String::as_str);
        arns.filter(move |arn| oidc_host(arn).is_some_and(|host| same_provider(host, provider)))
    }

    /// Whether the pool has the provider that a tag map names: a user pool with or without its client, a social provider,
    /// an IAM OIDC provider by host or ARN, a SAML provider by ARN.
    pub(super) fn has_provider(&self, name: &str) -> bool {
        let user_pool = |pool: &UserPool| pool.provider_name.as_deref() == Some(name);
        self.is_mapped_provider(name) || self.cognito_identity_providers.iter().flatten().any(user_pool)
    }

    /// Whether the pool has the provider that a role mapping names: as [`has_provider`](Self::has_provider), but a user
    /// pool only with its client.
    pub(super) fn is_mapped_provider(&self, name: &str) -> bool {
        let user_pool = |pool: &UserPool| {
            let (provider, client) = (pool.provider_name.as_deref(), pool.client_id.as_deref());
            name.rsplit_once(':') == provider.zip(client)
        };
        let saml = self.saml_provider_arns.iter().flatten().any(|arn| arn == name);
        let social = self
            .supported_login_providers
            .iter()
            .flatten()
            .any(|(key, _)| key == name);
        let oidc = self.open_id_connect_provider_arns.iter().flatten();
        let oidc = oidc.into_iter().any(|arn| arn == name || oidc_host(arn) == Some(name));
        social || oidc || saml || self.cognito_identity_providers.iter().flatten().any(user_pool)
    }

    /// Whether the providers are such as Cognito takes.
    pub(super) fn check_providers(&self) -> Result<(), Refusal> {
        for pool in self.cognito_identity_providers.iter().flatten() {
            let name = pool.provider_name.as_deref().unwrap_or_default();
            if !is_user_pool(name) || pool.client_id.is_none() {
                return Err(Refusal::from(Rule::InvalidUserPool).because(format!("{name:?} cannot be a user pool")));
            }
        }
        for name in self.supported_login_providers.iter().flat_map(BTreeMap::keys) {
            if !SOCIAL.iter().any(|(social, _)| social == name) {
                return Err(Rule::InvalidLoginProvider.refuse(&[name]));
            }
        }
        for arn in self.open_id_connect_provider_arns.iter().flatten() {
            if oidc_host(arn).is_none() {
                return Err(Rule::InvalidProviderArn.refuse(&[arn]));
            }
        }
        for arn in self.saml_provider_arns.iter().flatten() {
            if iam_resource(arn, "saml-provider/").is_none() {
                return Err(Rule::InvalidProviderArn.refuse(&[arn]));
            }
        }
        Ok(())
    }
}

/// Whether two names are of one provider: scheme and a trailing slash make no difference.
pub(super) fn same_provider(one: &str, other: &str) -> bool {
    bare_issuer(one) == bare_issuer(other)
}

/// An issuer without scheme and trailing slash, both of which real tokens have and have not.
pub(super) fn bare_issuer(issuer: &str) -> &str {
    let issuer = issuer.strip_prefix("https://").unwrap_or(issuer);
    issuer.strip_suffix('/').unwrap_or(issuer)
}

/// `accounts.example.com` of `arn:aws:iam::123456789012:oidc-provider/accounts.example.com`.
fn oidc_host(arn: &str) -> Option<&str> {
    iam_resource(arn, "oidc-provider/")
}

fn iam_resource<'a>(arn: &'a str, kind: &str) -> Option<&'a str> {
    let parts: Vec<&str> = arn.splitn(6, ':').collect();
    let [scheme, partition, "iam", "", account, resource] = parts[..] else {
        return None;
    };
    let account = account.len() == 12 && account.bytes().all(|byte| byte.is_ascii_digit());
    let name = resource.strip_prefix(kind).filter(|name| !name.is_empty());
    name.filter(|_| scheme == "arn" && partition.starts_with("aws") && account)
}

/// `cognito-idp.us-east-1.amazonaws.com/us-east-1_Example`: the region of the host is that of the id.
fn is_user_pool(name: &str) -> bool {
    let Some((host, id)) = name.split_once('/') else {
        return false;
    };
    let host = host.strip_prefix("cognito-idp.");
    let region = host.and_then(|host| {
        host.strip_suffix(".amazonaws.com")
            .or_else(|| host.strip_suffix(".amazonaws.com.cn"))
    });
    let unique = |id: &str| !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    region.is_some_and(|region| {
        id.strip_prefix(region)
            .and_then(|id| id.strip_prefix('_'))
            .is_some_and(unique)
    })
}

/// A user pool and the app client whose tokens are accepted.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct UserPool {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) provider_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) client_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) server_side_token_check: Option<bool>,
}

/// How a provider's users get their role.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RoleMapping {
    pub(super) r#type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) ambiguous_role_resolution: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rules_configuration: Option<RulesConfiguration>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RulesConfiguration {
    pub(super) rules: Vec<MappingRule>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct MappingRule {
    pub(super) claim: String,
    pub(super) match_type: String,
    pub(super) value: String,
    #[serde(rename = "RoleARN")]
    pub(super) role_arn: String,
}

/// Which claims of a provider become principal tags.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct TagMap {
    pub(super) use_defaults: bool,
    /// Tag key to claim name.
    pub(super) principal_tags: BTreeMap<String, String>,
}

/// One identity pool.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool {
    pub(super) settings: PoolSettings,
    /// `authenticated` and `unauthenticated`.
    pub(super) roles: BTreeMap<String, String>,
    pub(super) role_mappings: BTreeMap<String, RoleMapping>,
    pub(super) tag_maps: BTreeMap<String, TagMap>,
}

impl Pool {
    /// Whether SetIdentityPoolRoles of an account takes these roles and mappings.
    pub(super) fn check_roles(&self, account: &str) -> Result<(), Refusal> {
        for (key, mapping) in &self.role_mappings {
            if !self.settings.is_mapped_provider(key) {
                return Err(Rule::RoleMappingProvider.refuse(&[key]));
            }
            let rules = mapping.rules_configuration.as_ref().map(|rules| rules.rules.len());
            if mapping.r#type == "Rules" && rules.is_none() {
                return Err(Rule::RoleMappingIncomplete.refuse(&[&"RulesConfiguration is required for the Rules type"]));
            }
            if mapping.ambiguous_role_resolution.is_none() {
                return Err(Rule::RoleMappingIncomplete.refuse(&[&"AmbiguousRoleResolution is required"]));
            }
            if rules.is_some_and(|rules| rules > MAX_RULES) {
                return Err(Rule::RoleMappingRules.refuse(&[&MAX_RULES]));
            }
        }
        let rules = self
            .role_mappings
            .values()
            .filter_map(|mapping| mapping.rules_configuration.as_ref());
        let mapped = rules.flat_map(|configuration| configuration.rules.iter().map(|rule| &rule.role_arn));
        for arn in self.roles.values().chain(mapped) {
            if split_role(arn).is_none_or(|(owner, _)| owner != account) {
                return Err(Rule::RoleForbidden
                    .refuse(&[arn])
                    .because(format!("{arn} is not a role of account {account}")));
            }
        }
        Ok(())
    }
}

/// Everything that requests change.
#[derive(Clone, Default)]
pub(super) struct State {
    pools: BTreeMap<String, Pool>,
    /// Ids in the order of creation.
    order: Vec<String>,
    pub(super) directory: Directory,
}

impl State {
    pub(super) fn pool(&self, id: &str) -> Result<&Pool, Refusal> {
        self.pools.get(id).ok_or_else(|| Rule::PoolNotFound.refuse(&[&id]))
    }

    pub(super) fn pool_mut(&mut self, id: &str) -> Result<&mut Pool, Refusal> {
        self.pools.get_mut(id).ok_or_else(|| Rule::PoolNotFound.refuse(&[&id]))
    }

    /// The same pools, with nobody in them.
    pub(super) fn without_identities(&self) -> Self {
        Self {
            pools: self.pools.clone(),
            order: self.order.clone(),
            directory: Directory::default(),
        }
    }

    /// The pools in the order of creation.
    pub(super) fn pools(&self) -> impl Iterator<Item = &Pool> {
        self.order.iter().filter_map(|id| self.pools.get(id))
    }

    pub(super) fn add_pool(&mut self, pool: Pool) -> Result<(), Refusal> {
        if self.pools.len() >= MAX_POOLS {
            return Err(Rule::PoolLimit.refuse(&[&MAX_POOLS]));
        }
        let id = pool.settings.identity_pool_id.clone();
        self.order.push(id.clone());
        self.pools.insert(id, pool);
        Ok(())
    }

    pub(super) fn remove_pool(&mut self, id: &str) -> Result<(), Refusal> {
        self.pools.remove(id).ok_or_else(|| Rule::PoolNotFound.refuse(&[&id]))?;
        self.order.retain(|other| other != id);
        self.directory.delete_pool(id);
        Ok(())
    }
}
