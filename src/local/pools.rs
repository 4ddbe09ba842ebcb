//! Identity pools: their settings, roles, mappings and tags.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::directory::Directory;
use super::rules::{Refusal, Rule};

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
