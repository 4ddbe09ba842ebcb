//! Which role an exchange of the enhanced flow gets.

use serde_json::Value;

use super::logins::VerifiedLogin;
use super::pools::{MappingRule, Pool, RoleMapping};
use super::rules::{Refusal, Rule};

/// The role of an exchange of the enhanced flow.
pub(super) enum Login<'a> {
    Guest,
    Developer,
    Public(&'a [VerifiedLogin]),
}

/// Chooses the role, by the pool's mappings where they apply.
pub(super) fn choose(
    pool: &Pool,
    login: &Login<'_>,
    custom: Option<&str>,
    ignore_custom: bool,
) -> Result<String, Refusal> {
    let default = |kind: &str| {
        pool.roles
            .get(kind)
            .cloned()
            .ok_or_else(|| Refusal::from(Rule::PoolConfiguration))
    };
    let mapped = match login {
        Login::Guest => return default("unauthenticated"),
        Login::Developer => None,
        Login::Public(logins) => logins.iter().find_map(|login| mapping(pool, login)),
    };
    match mapped {
        None => {
            let role = default("authenticated")?;
            match custom {
                Some(custom) if custom != role && !ignore_custom => Err(Rule::CustomRoleDenied.refuse(&[&custom])),
                _ => Ok(role),
            }
        }
        Some((key, mapping, login)) => {
            let ambiguous = || match mapping.ambiguous_role_resolution.as_deref() {
                Some("AuthenticatedRole") => default("authenticated"),
                _ => Err(Rule::AmbiguousRole.refuse(&[&key])),
            };
            match by_mapping(mapping, login, custom)? {
                Some(role) => Ok(role),
                None => ambiguous(),
            }
        }
    }
}

/// The mapping for a login, under the most exact of its provider's names.
fn mapping<'a>(pool: &'a Pool, login: &'a VerifiedLogin) -> Option<(&'a str, &'a RoleMapping, &'a VerifiedLogin)> {
    let names = pool.settings.names_of(login.link.provider(), login.audience());
    let (key, mapping) = names.iter().find_map(|name| pool.role_mappings.get_key_value(name))?;
    Some((key, mapping, login))
}

fn by_mapping(mapping: &RoleMapping, login: &VerifiedLogin, custom: Option<&str>) -> Result<Option<String>, Refusal> {
    let claim = |name: &str| login.claims.get(name);
    let allowed: Vec<&str> = match &mapping.rules_configuration {
        Some(rules) if mapping.r#type == "Rules" => rules
            .rules
            .iter()
            .filter(|rule| rule_matches(rule, claim(&rule.claim)))
            .map(|rule| rule.role_arn.as_str())
            .collect(),
        _ => claim("cognito:roles").into_iter().flat_map(texts).collect(),
    };
    if let Some(custom) = custom {
        return match allowed.contains(&custom) {
            true => Ok(Some(custom.to_owned())),
            false => Err(Rule::CustomRoleDenied.refuse(&[&custom])),
        };
    }
    let chosen = match (
        &*mapping.r#type,
        claim("cognito:preferred_role").and_then(Value::as_str),
        &allowed[..],
    ) {
        ("Rules", _, roles) => roles.first().copied(),
        (_, Some(preferred), _) => Some(preferred),
        (_, None, [only]) => Some(*only),
        _ => None,
    };
    Ok(chosen.map(str::to_owned))
}

/// A string, or the strings of a list.
fn texts(value: &Value) -> impl Iterator<Item = &str> {
    let list = value.as_array().into_iter().flatten().filter_map(Value::as_str);
    value.as_str().into_iter().chain(list)
}

fn rule_matches(rule: &MappingRule, claim: Option<&Value>) -> bool {
    let Some(claim) = claim else { return false };
    let scalar = (!claim.is_array() && !claim.is_string()).then(|| claim.to_string());
    let mut values = texts(claim).chain(scalar.as_deref());
    match &*rule.match_type {
        "Equals" => values.any(|value| value == rule.value),
        "Contains" => values.any(|value| value.contains(&rule.value)),
        "StartsWith" => values.any(|value| value.starts_with(&rule.value)),
        _ => values.all(|value| value != rule.value),
    }
}
