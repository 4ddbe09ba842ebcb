//! What a backend calls for developer identities.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Value, json};

use super::call::Call;
use crate::local::answer::Answer;
use crate::local::directory::{Life, Link};
use crate::local::pool_service::PoolService;
use crate::local::pools::Pool;
use crate::local::rules::{Refusal, Rule};
use crate::local::tokens::Issue;
use crate::local::{logins, model, shapes};

/// The life of a developer token unless the call says otherwise.
const TOKEN_SECONDS: i64 = 900;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetToken {
    identity_pool_id: String,
    identity_id: Option<String>,
    logins: BTreeMap<String, String>,
    principal_tags: Option<BTreeMap<String, String>>,
    token_duration: Option<i64>,
}

pub(super) fn get_token(call: &mut Call<'_>) -> Result<Answer, Refusal> {
    let input: GetToken = call.input()?;
    let (pool_id, now) = (input.identity_pool_id, call.now());
    let mut state = call.service.state();
    let pool = state.pool(&pool_id)?;
    let (link, user) = developer_login(call.service, pool, &input.logins)?;
    let public = input.logins.iter().filter(|(provider, _)| *provider != link.provider());
    let mut links = logins::links(&call.logins(pool).verify_all(public)?);
    links.insert(link.clone());
    let owner = state.directory.owner(&pool_id, &link).map(str::to_owned);
    // The identity that stays, and one that is merged into it.
    let (id, source) = match (input.identity_id, owner) {
        (Some(id), owner) => {
            let identity = state.directory.get(&id)?;
            if identity.pool != pool_id {
                return Err(Rule::IdentityNotFound.refuse(&[&id]));
            }
            let life = identity.enabled(&id)?.life;
            match owner {
                Some(owner) if owner != id => {
                    if life != Life::Guest || !call.service.options.merge_guests {
                        return Err(Rule::DeveloperUserRegistered.into());
                    }
                    (owner, Some(id))
                }
                None if life == Life::Authenticated && identity.links.is_disjoint(&links) => {
                    return Err(Rule::LoginsDontMatch.into());
                }
                _ => (id, None),
            }
        }
        (None, Some(owner)) => (owner, None),
        // An unknown user with a public login that somebody has is that somebody.
        (None, None) => match links.iter().find_map(|link| state.directory.owner(&pool_id, link)) {
            Some(owner) => (owner.to_owned(), None),
            None => {
                let id = call.new_id();
                state.directory.create(id.clone(), &pool_id, now)?;
                (id, None)
            }
        },
    };
    state.directory.join(&id, &source.into_iter().collect(), &links, now)?;
    drop(state);

    let tags = input.principal_tags.unwrap_or_default();
    call.record.identity_id = Some(id.clone());
    call.record.principal_tags.clone_from(&tags);
    let amr = vec![
        "authenticated".to_owned(),
        link.provider().to_owned(),
        format!("{}:{pool_id}:{user}", link.provider()),
    ];
    let lifetime = input.token_duration.unwrap_or(TOKEN_SECONDS);
    let token = call.token(Issue {
        identity_id: id.clone(),
        pool_id,
        amr,
        tags,
        lifetime,
    })?;
    Ok(Answer::json(json!({ "IdentityId": id, "Token": token })))
}

/// The developer login among the logins: the key that is the pool's developer provider.
fn developer_login<'a>(
    service: &PoolService,
    pool: &Pool,
    logins: &'a BTreeMap<String, String>,
) -> Result<(Link, &'a str), Refusal> {
    let provider = pool.settings.developer_provider_name.as_deref();
    if let Some((provider, user)) = provider.and_then(|provider| logins.get_key_value(provider)) {
        // The model allows more for a value, since it may be a token, than for a user's identifier.
        let broken = model::USER.broken_by(user);
        let report = |constraint: &String| shapes::broken(user, "logins", constraint);
        shapes::refuse(Rule::Constraint, &broken.iter().map(report).collect::<Vec<_>>())?;
        return Ok((
            Link::Developer {
                provider: provider.clone(),
                user: user.clone(),
            },
            user,
        ));
    }
    let public = |key: &String| logins::is_cognito_host(key) || logins::is_public(&service.issuers, pool, key);
    if provider.is_some() && logins.keys().all(public) {
        return Err(Rule::MissingDeveloperProvider.into());
    }
    Err(unsupported_provider(service))
}

fn unsupported_provider(service: &PoolService) -> Refusal {
    if service.options.wrong_provider_is_parameter {
        Rule::UnsupportedDeveloperProviderParameter.into()
    } else {
        Rule::UnsupportedDeveloperProvider.into()
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Merge {
    source_user_identifier: String,
    destination_user_identifier: String,
    developer_provider_name: String,
    identity_pool_id: String,
}

pub(super) fn merge(call: &mut Call<'_>) -> Result<Answer, Refusal> {
    let input: Merge = call.input()?;
    let mut state = call.service.state();
    let pool = state.pool(&input.identity_pool_id)?;
    if pool.settings.developer_provider_name.as_ref() != Some(&input.developer_provider_name) {
        return Err(unsupported_provider(call.service));
    }
    let owner = |user: &str| {
        let link = Link::Developer {
            provider: input.developer_provider_name.clone(),
            user: user.to_owned(),
        };
        let owner = state.directory.owner(&input.identity_pool_id, &link);
        owner
            .map(str::to_owned)
            .ok_or_else(|| Refusal::from(Rule::DeveloperUserNotFound))
    };
    let (source, destination) = (
        owner(&input.source_user_identifier)?,
        owner(&input.destination_user_identifier)?,
    );
    state
        .directory
        .join(&destination, &[source].into(), &BTreeSet::new(), call.now())?;
    call.record.identity_id = Some(destination.clone());
    Ok(Answer::json(json!({ "IdentityId": destination })))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Unlink {
    identity_id: String,
    identity_pool_id: String,
    developer_provider_name: String,
    developer_user_identifier: String,
}

pub(super) fn unlink(call: &mut Call<'_>) -> Result<Answer, Refusal> {
    let input: Unlink = call.input()?;
    let mut state = call.service.state();
    let pool = state.pool(&input.identity_pool_id)?;
    if pool.settings.developer_provider_name.as_ref() != Some(&input.developer_provider_name) {
        return Err(unsupported_provider(call.service));
    }
    if state.directory.get(&input.identity_id)?.pool != input.identity_pool_id {
        return Err(Rule::IdentityNotFound.refuse(&[&input.identity_id]));
    }
    let link = Link::Developer {
        provider: input.developer_provider_name,
        user: input.developer_user_identifier,
    };
    state.directory.unlink(&input.identity_id, &link, call.now())?;
    Ok(Answer::json(Value::Null))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Lookup {
    identity_pool_id: String,
    identity_id: Option<String>,
    developer_user_identifier: Option<String>,
    max_results: Option<usize>,
    next_token: Option<String>,
}

/// The most user ids of a page.
const PAGE: usize = 60;

pub(super) fn lookup(call: &mut Call<'_>) -> Result<Answer, Refusal> {
    let input: Lookup = call.input()?;
    let state = call.service.state();
    let pool = state.pool(&input.identity_pool_id)?;
    if input.identity_id.is_none() && input.developer_user_identifier.is_none() {
        return Err(Rule::LookupNeedsOne.into());
    }
    let provider = pool.settings.developer_provider_name.clone().unwrap_or_default();
    let owner = match &input.developer_user_identifier {
        None => None,
        Some(user) => {
            let link = Link::Developer {
                provider,
                user: user.clone(),
            };
            Some(
                state
                    .directory
                    .owner(&input.identity_pool_id, &link)
                    .ok_or(Rule::DeveloperUserNotFound)?,
            )
        }
    };
    let id = input.identity_id.as_deref().or(owner).unwrap_or_default();
    let identity = state.directory.get(id)?;
    if identity.pool != input.identity_pool_id {
        return Err(Rule::IdentityNotFound.refuse(&[&id]));
    }
    if owner.is_some_and(|owner| owner != id) {
        return Err(Rule::LookupMismatch.into());
    }
    call.record.identity_id = Some(id.to_owned());
    if let (Some(user), Some(_)) = (&input.developer_user_identifier, &input.identity_id) {
        return Ok(Answer::json(
            json!({ "IdentityId": id, "DeveloperUserIdentifierList": [user] }),
        ));
    }
    let users: Vec<&str> = identity
        .links
        .iter()
        .filter_map(|link| match link {
            Link::Developer { user, .. } => Some(user.as_str()),
            Link::Public { .. } => None,
        })
        .collect();
    let start = match &input.next_token {
        None => 0,
        Some(token) => token
            .parse::<usize>()
            .ok()
            .filter(|at| *at < users.len())
            .ok_or(Rule::InvalidNextToken)?,
    };
    let end = users.len().min(start.saturating_add(input.max_results.unwrap_or(PAGE)));
    let mut output = json!({ "IdentityId": id, "DeveloperUserIdentifierList": &users[start..end] });
    if end < users.len() {
        output["NextToken"] = Value::from(end.to_string());
    }
    Ok(Answer::json(output))
}
