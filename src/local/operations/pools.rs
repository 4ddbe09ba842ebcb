//! Identity pools, their roles, tags and principal-tag maps.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::call::Call;
use crate::local::answer::Answer;
use crate::local::pool_service::PoolService;
use crate::local::pools::{Pool, PoolSettings, RoleMapping, State, TagMap};
use crate::local::rules::{Refusal, Rule};

/// The most tags of a pool.
const MAX_TAGS: usize = 50;

pub(super) fn create(call: &mut Call<'_>) -> Result<Answer, Refusal> {
    let mut settings: PoolSettings = call.input()?;
    settings.check_providers()?;
    settings.identity_pool_id = call.new_id();
    call.record.identity_pool_id = Some(settings.identity_pool_id.clone());
    let output = output(&settings)?;
    call.service.state().add_pool(Pool {
        settings,
        ..Pool::default()
    })?;
    Ok(Answer::json(output))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PoolId {
    identity_pool_id: String,
}

pub(super) fn describe(call: &mut Call<'_>) -> Result<Answer, Refusal> {
    let input: PoolId = call.input()?;
    Ok(Answer::json(output(
        &call.service.state().pool(&input.identity_pool_id)?.settings,
    )?))
}

pub(super) fn delete(call: &mut Call<'_>) -> Result<Answer, Refusal> {
    let input: PoolId = call.input()?;
    call.service.state().remove_pool(&input.identity_pool_id)?;
    Ok(Answer::json(Value::Null))
}

/// A full replacement: what is left out is reset, but for the developer provider's name, which cannot change.
pub(super) fn update(call: &mut Call<'_>) -> Result<Answer, Refusal> {
    let mut settings: PoolSettings = call.input()?;
    let mut state = call.service.state();
    let pool = state.pool_mut(&settings.identity_pool_id)?;
    settings.check_providers()?;
    if let Some(fixed) = &pool.settings.developer_provider_name {
        if settings
            .developer_provider_name
            .as_ref()
            .is_some_and(|name| name != fixed)
        {
            return Err(Rule::DeveloperProviderFixed.into());
        }
        settings.developer_provider_name = Some(fixed.clone());
    }
    pool.settings = settings;
    Ok(Answer::json(output(&pool.settings)?))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListPools {
    max_results: usize,
    next_token: Option<String>,
}

pub(super) fn list(call: &mut Call<'_>) -> Result<Answer, Refusal> {
    let input: ListPools = call.input()?;
    let state = call.service.state();
    let start = match &input.next_token {
        None => 0,
        Some(token) => token.parse().map_err(|_| Rule::InvalidNextToken)?,
    };
    let mut rest = state.pools().skip(start).map(|pool| {
        json!({ "IdentityPoolId": pool.settings.identity_pool_id, "IdentityPoolName": pool.settings.identity_pool_name })
    });
    let page: Vec<Value> = rest.by_ref().take(input.max_results).collect();
    let end = start.saturating_add(page.len());
    let mut output = json!({ "IdentityPools": page });
    if rest.next().is_some() {
        output["NextToken"] = Value::from(end.to_string());
    }
    Ok(Answer::json(output))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SetRoles {
    identity_pool_id: String,
    roles: BTreeMap<String, String>,
    role_mappings: Option<BTreeMap<String, RoleMapping>>,
}

pub(super) fn set_roles(call: &mut Call<'_>) -> Result<Answer, Refusal> {
    let input: SetRoles = call.input()?;
    let mut state = call.service.state();
    let pool = state.pool_mut(&input.identity_pool_id)?;
    let changed = Pool {
        roles: input.roles,
        role_mappings: input.role_mappings.unwrap_or_default(),
        ..pool.clone()
    };
    changed.check_roles(&call.service.settings.account_id)?;
    *pool = changed;
    Ok(Answer::json(Value::Null))
}

pub(super) fn get_roles(call: &mut Call<'_>) -> Result<Answer, Refusal> {
    let input: PoolId = call.input()?;
    let state = call.service.state();
    let pool = state.pool(&input.identity_pool_id)?;
    let mut answer = json!({ "IdentityPoolId": input.identity_pool_id, "Roles": pool.roles });
    if !pool.role_mappings.is_empty() {
        answer["RoleMappings"] = output(&pool.role_mappings)?;
    }
    Ok(Answer::json(answer))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TagMapInput {
    identity_pool_id: String,
    identity_provider_name: String,
    use_defaults: Option<bool>,
    principal_tags: Option<BTreeMap<String, String>>,
}

pub(super) fn set_tag_map(call: &mut Call<'_>) -> Result<Answer, Refusal> {
    let input: TagMapInput = call.input()?;
    let mut state = call.service.state();
    let map = TagMap {
        use_defaults: input.use_defaults.unwrap_or(false),
        principal_tags: input.principal_tags.unwrap_or_default(),
    };
    let pool = state.pool_mut(&input.identity_pool_id)?;
    if !pool.settings.has_provider(&input.identity_provider_name) {
        return Err(Rule::TagMapProvider.refuse(&[&input.identity_provider_name]));
    }
    let answer = tag_map(&input.identity_pool_id, &input.identity_provider_name, &map);
    pool.tag_maps.insert(input.identity_provider_name, map);
    Ok(Answer::json(answer))
}

pub(super) fn get_tag_map(call: &mut Call<'_>) -> Result<Answer, Refusal> {
    let input: TagMapInput = call.input()?;
    let state = call.service.state();
    let pool = state.pool(&input.identity_pool_id)?;
    let provider = &input.identity_provider_name;
    let map = pool.tag_maps.get(provider);
    let map = map.ok_or_else(|| Rule::PrincipalTagsNotFound.refuse(&[provider]))?;
    Ok(Answer::json(tag_map(&input.identity_pool_id, provider, map)))
}

fn tag_map(pool: &str, provider: &str, map: &TagMap) -> Value {
    json!({
        "IdentityPoolId": pool,
        "IdentityProviderName": provider,
        "UseDefaults": map.use_defaults,
        "PrincipalTags": map.principal_tags,
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tagging {
    resource_arn: String,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    tag_keys: Vec<String>,
}

pub(super) fn tag(call: &mut Call<'_>) -> Result<Answer, Refusal> {
    let input: Tagging = call.input()?;
    let mut state = call.service.state();
    let pool = tagged(call.service, &mut state, &input.resource_arn)?;
    let mut tags = pool.settings.identity_pool_tags.clone();
    tags.extend(input.tags);
    if tags.len() > MAX_TAGS {
        return Err(Rule::TagLimit.into());
    }
    pool.settings.identity_pool_tags = tags;
    Ok(Answer::json(json!({})))
}

pub(super) fn untag(call: &mut Call<'_>) -> Result<Answer, Refusal> {
    let input: Tagging = call.input()?;
    let mut state = call.service.state();
    let pool = tagged(call.service, &mut state, &input.resource_arn)?;
    pool.settings
        .identity_pool_tags
        .retain(|key, _| !input.tag_keys.contains(key));
    Ok(Answer::json(json!({})))
}

pub(super) fn list_tags(call: &mut Call<'_>) -> Result<Answer, Refusal> {
    let input: Tagging = call.input()?;
    let mut state = call.service.state();
    let pool = tagged(call.service, &mut state, &input.resource_arn)?;
    Ok(Answer::json(json!({ "Tags": pool.settings.identity_pool_tags })))
}

/// The pool with this ARN.
fn tagged<'a>(service: &PoolService, state: &'a mut State, arn: &str) -> Result<&'a mut Pool, Refusal> {
    let not_found = || Rule::ArnNotFound.refuse(&[&arn]);
    let (_, id) = arn.rsplit_once('/').ok_or_else(not_found)?;
    if service.settings.pool_arn(id) != arn {
        return Err(not_found());
    }
    state.pool_mut(id).map_err(|_| not_found())
}

fn output(value: &impl Serialize) -> Result<Value, Refusal> {
    serde_json::to_value(value).map_err(|_| Rule::Internal.refuse(&[&"the answer could not be written"]))
}
