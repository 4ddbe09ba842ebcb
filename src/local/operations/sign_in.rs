//! What an app calls: GetId, GetCredentialsForIdentity.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Value, json};

use super::Call;
use crate::local::directory::Life;
use crate::local::logins::{self, CognitoToken};
use crate::local::pools::State;
use crate::local::rules::{Refusal, Rule};
use crate::local::sessions::Session;
use crate::local::wire::timestamp;

/// The life of credentials of the enhanced flow.
const CREDENTIALS_SECONDS: i64 = 3600;

/// The session name of the enhanced flow.
const SESSION_NAME: &str = "CognitoIdentityCredentials";

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetId {
    identity_pool_id: String,
    logins: Option<BTreeMap<String, String>>,
}

pub(super) fn get_id(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let input: GetId = call.input()?;
    let now = call.now();
    let mut state = call.core.state();
    let pool = state.pool(&input.identity_pool_id)?;
    let logins = input.logins.unwrap_or_default();
    let mut links = BTreeSet::new();
    if logins.is_empty() && !pool.settings.allow_unauthenticated_identities {
        return Err(Rule::GuestsNotAllowed.into());
    }
    for (provider, token) in &logins {
        if logins::is_cognito_host(provider) {
            return Err(Rule::CognitoTokenPassed.into());
        }
        links.insert(logins::verify(call.core, pool, provider, token, call.seconds())?.link);
    }
    let owner = links
        .iter()
        .find_map(|link| state.directory.owner(&input.identity_pool_id, link));
    let id = match owner {
        Some(id) => id.to_owned(),
        None => {
            let id = call.new_id();
            state.directory.create(id.clone(), &input.identity_pool_id, now);
            id
        }
    };
    state.directory.join(&id, &BTreeSet::new(), &links, now)?;
    call.record.identity_id = Some(id.clone());
    Ok(json!({ "IdentityId": id }))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetCredentials {
    identity_id: String,
    logins: Option<BTreeMap<String, String>>,
}

/// What was shown for an identity.
struct Proven {
    identity_id: String,
    pool_id: String,
    authenticated: bool,
    tags: BTreeMap<String, String>,
}

pub(super) fn get_credentials(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let input: GetCredentials = call.input()?;
    let logins = input.logins.unwrap_or_default();
    let mut state = call.core.state();
    let proven = prove(call, &mut state, &input.identity_id, &logins)?;
    call.record.identity_id = Some(proven.identity_id.clone());
    call.record.identity_pool_id = Some(proven.pool_id.clone());
    let pool = state.pool(&proven.pool_id)?;
    let kind = if proven.authenticated {
        "authenticated"
    } else {
        "unauthenticated"
    };
    let role_arn = pool.roles.get(kind).cloned().ok_or(Rule::PoolConfiguration)?;
    drop(state);
    call.record.principal_tags.clone_from(&proven.tags);
    let session = Session {
        role_arn,
        session_name: SESSION_NAME.to_owned(),
        identity_id: proven.identity_id,
        pool_id: proven.pool_id,
        tags: proven.tags,
        expires: call.seconds().saturating_add(CREDENTIALS_SECONDS),
    };
    let minted = call
        .core
        .mint
        .mint(&session)
        .ok_or_else(|| Rule::Internal.refuse(&[&"no credentials could be made"]))?;
    call.record.issued_access_key_id = Some(minted.access_key_id.clone());
    Ok(json!({
        "IdentityId": session.identity_id,
        "Credentials": {
            "AccessKeyId": minted.access_key_id,
            "SecretKey": minted.secret_access_key,
            "SessionToken": minted.session_token,
            "Expiration": timestamp(minted.expires as f64),
        },
    }))
}

/// Whether the logins are good for the identity. Public logins may link to it or merge it away.
fn prove(call: &Call<'_>, state: &mut State, id: &str, logins: &BTreeMap<String, String>) -> Result<Proven, Refusal> {
    let identity = state.directory.get(id)?;
    let pool_id = identity.pool.clone();
    let pool = state.pool(&pool_id)?;
    let guests = pool.settings.allow_unauthenticated_identities;
    let proven = |identity_id: &str, authenticated, tags| Proven {
        identity_id: identity_id.to_owned(),
        pool_id: pool_id.clone(),
        authenticated,
        tags,
    };
    if logins.is_empty() {
        return match identity.life {
            _ if !guests => Err(Rule::GuestsNotAllowed.into()),
            Life::Guest => Ok(proven(id, false, BTreeMap::new())),
            _ => Err(Rule::IdentityForbidden.refuse(&[&id])),
        };
    }

    let mut cognito: Option<CognitoToken> = None;
    let mut links = BTreeSet::new();
    for (provider, token) in logins {
        if logins::is_cognito_host(provider) {
            cognito = Some(logins::verify_cognito(call.core, provider, token, call.seconds())?);
        } else {
            links.insert(logins::verify(call.core, pool, provider, token, call.seconds())?.link);
        }
    }
    if let Some(token) = cognito {
        if token.sub != id || token.aud != pool_id {
            return Err(Rule::LoginsDontMatch.into());
        }
        let life = identity.enabled(id)?.life;
        if !token.authenticated && (!guests || life == Life::Authenticated) {
            return Err(if guests {
                Rule::IdentityForbidden.refuse(&[&id])
            } else {
                Rule::GuestsNotAllowed.into()
            });
        }
        state.directory.join(id, &BTreeSet::new(), &links, call.now())?;
        return Ok(proven(id, token.authenticated, token.tags));
    }

    let identity = identity.enabled(id)?;
    let owner = links
        .iter()
        .find_map(|link| state.directory.owner(&pool_id, link))
        .map(str::to_owned);
    match (identity.life, owner) {
        // Somebody has this login already: the guest becomes part of them.
        (Life::Guest, Some(owner)) => {
            state
                .directory
                .join(&owner, &[id.to_owned()].into(), &links, call.now())?;
            Ok(proven(&owner, true, BTreeMap::new()))
        }
        (Life::Authenticated, _) if identity.links.is_disjoint(&links) => Err(Rule::LoginsDontMatch.into()),
        _ => {
            state.directory.join(id, &BTreeSet::new(), &links, call.now())?;
            Ok(proven(id, true, BTreeMap::new()))
        }
    }
}
