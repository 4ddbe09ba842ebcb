//! Pools and roles from a file.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::error::LocalPoolError;
use super::pools::{Pool, PoolSettings, RoleMapping, TagMap};
use super::roles::{LocalRole, TrustPolicyError};
use super::rules::{Refusal, Rule};
use super::{model, shapes};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct File {
    #[serde(default)]
    identity_pools: Vec<Map<String, Value>>,
    #[serde(default)]
    roles: Vec<Role>,
}

/// A role as `aws iam get-role` prints it, or with shorter names. IAM says more of a role than a pool can use.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Role {
    #[serde(alias = "Arn")]
    role_arn: String,
    #[serde(alias = "AssumeRolePolicyDocument")]
    trust_policy: Value,
    max_session_duration: Option<u32>,
}

/// The roles that `aws iam get-role` or `list-roles` printed.
pub(super) fn read_roles(text: &str) -> Result<Vec<LocalRole>, LocalPoolError> {
    let mut object: Map<String, Value> = serde_json::from_str(text).map_err(setting)?;
    let roles = match (object.remove("Role"), object.remove("Roles")) {
        (Some(role), None) => vec![role],
        (None, Some(Value::Array(roles))) => roles,
        _ => return Err(setting("there is no Role, and no list of Roles")),
    };
    roles
        .into_iter()
        .map(|role| serde_json::from_value(role).map_err(setting).and_then(self::role))
        .collect()
}

/// The pools and roles that a file describes.
pub(super) fn read(text: &str) -> Result<(Vec<Pool>, Vec<LocalRole>), LocalPoolError> {
    // By way of an object: serde would also take a list for a structure.
    let object: Map<String, Value> = serde_json::from_str(text).map_err(setting)?;
    let file: File = serde_json::from_value(Value::Object(object)).map_err(setting)?;
    let pools = file.identity_pools.into_iter().map(pool).collect::<Result<_, _>>()?;
    let roles = file.roles.into_iter().map(role).collect::<Result<_, _>>()?;
    Ok((pools, roles))
}

fn setting(error: impl ToString) -> LocalPoolError {
    LocalPoolError::Setting(error.to_string())
}

/// The members of DescribeIdentityPool and SetIdentityPoolRoles in one object, and the answers of
/// GetPrincipalTagAttributeMap in a list beside them.
fn pool(mut input: Map<String, Value>) -> Result<Pool, LocalPoolError> {
    let (roles, mappings) = (input.remove("Roles"), input.remove("RoleMappings"));
    let tag_maps = input.remove("PrincipalTagAttributeMaps");
    shapes::check(model::UPDATE_POOL, &input).map_err(|refusal| LocalPoolError::Setting(refusal.message))?;
    let settings: PoolSettings = serde_json::from_value(Value::Object(input)).map_err(setting)?;
    let mut checked = Map::from_iter([("IdentityPoolId".to_owned(), Value::from(&*settings.identity_pool_id))]);
    checked.insert("Roles".to_owned(), roles.unwrap_or_else(|| Value::Object(Map::new())));
    checked.extend(mappings.map(|mappings| ("RoleMappings".to_owned(), mappings)));
    shapes::check(model::SET_ROLES, &checked).map_err(|refusal| LocalPoolError::Setting(refusal.message))?;
    let roles: BTreeMap<String, String> = member(&mut checked, "Roles")?;
    let role_mappings: BTreeMap<String, RoleMapping> = member(&mut checked, "RoleMappings")?;
    let tag_maps = match tag_maps {
        Some(Value::Array(maps)) => maps
            .into_iter()
            .map(|map| tag_map(&settings, map))
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(setting("PrincipalTagAttributeMaps is not a list")),
        None => BTreeMap::new(),
    };
    Ok(Pool {
        settings,
        roles,
        role_mappings,
        tag_maps,
    })
}

/// The members of SetPrincipalTagAttributeMap, checked as that operation checks them.
fn tag_map(settings: &PoolSettings, map: Value) -> Result<(String, TagMap), LocalPoolError> {
    let Value::Object(mut input) = map else {
        return Err(setting("a principal tag attribute map is not an object"));
    };
    let refused = |refusal: Refusal| LocalPoolError::Setting(refusal.message);
    input.insert("IdentityPoolId".to_owned(), Value::from(&*settings.identity_pool_id));
    shapes::check(model::SET_TAG_MAP, &input).map_err(refused)?;
    let provider: String = member(&mut input, "IdentityProviderName")?;
    if !settings.has_provider(&provider) {
        return Err(refused(Rule::TagMapProvider.refuse(&[&provider])));
    }
    let map = TagMap {
        use_defaults: member(&mut input, "UseDefaults")?,
        principal_tags: member(&mut input, "PrincipalTags")?,
    };
    Ok((provider, map))
}

fn member<T: serde::de::DeserializeOwned + Default>(
    input: &mut Map<String, Value>,
    name: &str,
) -> Result<T, LocalPoolError> {
    input.remove(name).map_or_else(
        || Ok(T::default()),
        |value| serde_json::from_value(value).map_err(setting),
    )
}

fn role(role: Role) -> Result<LocalRole, LocalPoolError> {
    let policy = match role.trust_policy {
        // As the API itself answers, the document is percent-encoded; the CLI decodes it.
        Value::String(text) if text.starts_with('%') => percent_encoding::percent_decode_str(&text)
            .decode_utf8()
            .map_err(setting)?
            .into_owned(),
        Value::String(text) => text,
        object => object.to_string(),
    };
    let about = |error: TrustPolicyError| setting(format!("{}: {error}", role.role_arn));
    let local = LocalRole::new(&role.role_arn, &policy).map_err(about)?;
    Ok(match role.max_session_duration {
        Some(seconds) => local.max_session_seconds(seconds),
        None => local,
    })
}
