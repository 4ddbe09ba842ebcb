//! What an app calls: GetId, GetCredentialsForIdentity, GetOpenIdToken, UnlinkIdentity.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Value, json};

use super::call::{Call, login_check};
use crate::local::answer::Answer;
use crate::local::directory::Life;
use crate::local::logins::{self, CognitoToken, VerifiedLogin};
use crate::local::policy::Peer;
use crate::local::pool_service::PoolService;
use crate::local::pools::{State, same_provider};
use crate::local::role_mapping;
use crate::local::roles::Claimant;
use crate::local::rules::{Refusal, Rule};
use crate::local::sessions::{Minted, Session};
use crate::local::sts::LOOPBACK;
use crate::local::tokens::Issue;
use crate::local::wire::timestamp;

/// Who asks STS in the enhanced flow.
const COGNITO: &str = "cognito-identity.amazonaws.com";

/// The session name of the enhanced flow.
const SESSION_NAME: &str = "CognitoIdentityCredentials";

/// The life of a token of the classic flow.
const TOKEN_SECONDS: i64 = 600;

type Logins = BTreeMap<String, String>;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetId {
    identity_pool_id: String,
    logins: Option<Logins>,
}

pub(super) fn get_id(call: &mut Call<'_>) -> Result<Answer, Refusal> {
    let input: GetId = call.input()?;
    let now = call.now();
    let mut state = call.service.state();
    let pool = state.pool(&input.identity_pool_id)?;
    let logins = input.logins.unwrap_or_default();
    if logins.is_empty() && !pool.settings.allow_unauthenticated_identities {
        return Err(Rule::GuestsNotAllowed.into());
    }
    let links = logins::links(&call.logins(pool).verify_all(&logins)?);
    let owner = links
        .iter()
        .find_map(|link| state.directory.owner(&input.identity_pool_id, link));
    let id = match owner {
        Some(id) => id.to_owned(),
        None => {
            let id = call.new_id();
            state.directory.create(id.clone(), &input.identity_pool_id, now)?;
            id
        }
    };
    state.directory.join(&id, &BTreeSet::new(), &links, now)?;
    call.record.identity_id = Some(id.clone());
    Ok(Answer::json(json!({ "IdentityId": id })))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetCredentials {
    identity_id: String,
    logins: Option<Logins>,
    custom_role_arn: Option<String>,
}

pub(super) fn get_credentials(call: &mut Call<'_>) -> Result<Answer, Refusal> {
    let input: GetCredentials = call.input()?;
    let mut state = call.service.state();
    let proven = prove(
        call.service,
        call.now(),
        call.seconds(),
        &mut state,
        &input.identity_id,
        &input.logins,
    )?;
    call.record.identity_id = Some(proven.identity_id.clone());
    call.record.identity_pool_id = Some(proven.pool_id.clone());
    let pool = state.pool(&proven.pool_id)?;
    let login = match &proven.proof {
        Proof::Cognito(token) if token.authenticated() => role_mapping::Login::Developer,
        Proof::Cognito(_) => role_mapping::Login::Guest,
        Proof::Public(logins) if logins.is_empty() => role_mapping::Login::Guest,
        Proof::Public(logins) => role_mapping::Login::Public(logins),
    };
    let role_arn = role_mapping::choose(
        pool,
        &login,
        input.custom_role_arn.as_deref(),
        call.service.options.ignore_custom_role,
    )?;
    let (amr, tags) = match proven.proof {
        Proof::Cognito(token) => (token.amr, token.tags),
        Proof::Public(logins) => (logins::amr(&logins), logins::principal_tags(pool, &logins)),
    };
    drop(state);
    let settings = &call.service.settings;
    let claimant = Claimant {
        partition: &settings.partition,
        region: &settings.region,
        account_id: &settings.account_id,
        now: call.now,
        peer: Peer {
            source_ip: LOOPBACK,
            user_agent: COGNITO,
        },
        session_name: SESSION_NAME,
        aud: &proven.pool_id,
        sub: &proven.identity_id,
        amr: &amr,
        tags: &tags,
    };
    call.service.roles.admit(&role_arn, &claimant).map_err(|refusal| {
        let why = refusal.why.as_deref().unwrap_or(refusal.id());
        Refusal::from(Rule::PoolConfiguration).because(format!("STS refuses the role: {why}"))
    })?;
    call.record.principal_tags.clone_from(&tags);
    let session = Session {
        role_arn,
        session_name: SESSION_NAME.to_owned(),
        identity_id: proven.identity_id,
        pool_id: proven.pool_id,
        tags,
        expires: call.seconds().saturating_add(call.service.settings.credentials_seconds),
    };
    Ok(Answer::Credentials(Box::new(session)))
}

/// The answer of GetCredentialsForIdentity.
pub(in super::super) fn credentials(identity_id: &str, minted: &Minted) -> Value {
    json!({
        "IdentityId": identity_id,
        "Credentials": {
            "AccessKeyId": minted.access_key_id,
            "SecretKey": minted.secret_access_key,
            "SessionToken": minted.session_token,
            "Expiration": timestamp(minted.expires as f64),
        },
    })
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct GetOpenIdToken {
    identity_id: String,
    logins: Option<Logins>,
}

pub(super) fn get_open_id_token(call: &mut Call<'_>) -> Result<Answer, Refusal> {
    let input: GetOpenIdToken = call.input()?;
    let mut state = call.service.state();
    let pool_id = state.directory.get(&input.identity_id)?.pool.clone();
    call.record.identity_pool_id = Some(pool_id.clone());
    let pool = state.pool(&pool_id)?;
    if pool.settings.allow_classic_flow == Some(false) {
        return Err(Rule::ClassicFlowOff.into());
    }
    if !pool.role_mappings.is_empty() {
        return Err(Rule::ClassicFlowWithMappings.into());
    }
    if input
        .logins
        .iter()
        .flatten()
        .any(|(provider, _)| logins::is_cognito_host(provider))
    {
        return Err(Rule::CognitoTokenPassed.into());
    }
    let proven = prove(
        call.service,
        call.now(),
        call.seconds(),
        &mut state,
        &input.identity_id,
        &input.logins,
    )?;
    let Proof::Public(logins) = proven.proof else {
        return Err(Rule::CognitoTokenPassed.into());
    };
    let tags = logins::principal_tags(state.pool(&pool_id)?, &logins);
    drop(state);
    let id = proven.identity_id;
    call.record.identity_id = Some(id.clone());
    call.record.principal_tags.clone_from(&tags);
    let issue = Issue {
        identity_id: id.clone(),
        pool_id,
        amr: logins::amr(&logins),
        tags,
        lifetime: TOKEN_SECONDS,
    };
    let token = call.token(issue)?;
    Ok(Answer::json(json!({ "IdentityId": id, "Token": token })))
}

/// What was shown for an identity.
struct Proven {
    identity_id: String,
    pool_id: String,
    proof: Proof,
}

enum Proof {
    Cognito(CognitoToken),
    /// Empty for a guest.
    Public(Vec<VerifiedLogin>),
}

/// Whether the logins are good for the identity. Public logins may link to it or merge it away.
fn prove(
    service: &PoolService,
    now: f64,
    seconds: i64,
    state: &mut State,
    id: &str,
    logins: &Option<Logins>,
) -> Result<Proven, Refusal> {
    let identity = state.directory.get(id)?;
    let pool_id = identity.pool.clone();
    let pool = state.pool(&pool_id)?;
    let guests = pool.settings.allow_unauthenticated_identities;
    let proven = |identity_id: &str, proof| Proven {
        identity_id: identity_id.to_owned(),
        pool_id: pool_id.clone(),
        proof,
    };
    let forbidden = || Rule::IdentityForbidden.refuse(&[&id]);

    let logins = logins.iter().flatten();
    let (cognito, public): (Vec<_>, Vec<_>) = logins.partition(|(provider, _)| logins::is_cognito_host(provider));
    if cognito.is_empty() && public.is_empty() {
        return match identity.life {
            _ if !guests => Err(Rule::GuestsNotAllowed.into()),
            Life::Guest => Ok(proven(id, Proof::Public(Vec::new()))),
            _ => Err(forbidden()),
        };
    }
    let token = cognito
        .into_iter()
        .map(|(provider, token)| {
            logins::verify_cognito(&service.keys, provider, token, seconds, service.options.token_grace)
        })
        .next()
        .transpose()?;
    let verified = login_check(service, pool, seconds).verify_all(public)?;
    let links = logins::links(&verified);
    if let Some(token) = token {
        if token.sub != id || token.aud != pool_id {
            return Err(Rule::LoginsDontMatch.into());
        }
        let life = identity.enabled(id)?.life;
        if !token.authenticated() && !guests {
            return Err(Rule::GuestsNotAllowed.into());
        }
        if !token.authenticated() && life == Life::Authenticated {
            return Err(forbidden());
        }
        state.directory.join(id, &BTreeSet::new(), &links, now)?;
        return Ok(proven(id, Proof::Cognito(token)));
    }

    let identity = identity.enabled(id)?;
    let owner = links
        .iter()
        .find_map(|link| state.directory.owner(&pool_id, link))
        .map(str::to_owned);
    match (identity.life, owner) {
        // Somebody has this login already: the guest becomes part of them.
        (Life::Guest, Some(owner)) => {
            state.directory.join(&owner, &[id.to_owned()].into(), &links, now)?;
            Ok(proven(&owner, Proof::Public(verified)))
        }
        (Life::Authenticated, _) if identity.links.is_disjoint(&links) => Err(Rule::LoginsDontMatch.into()),
        _ => {
            state.directory.join(id, &BTreeSet::new(), &links, now)?;
            Ok(proven(id, Proof::Public(verified)))
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Unlink {
    identity_id: String,
    logins: Logins,
    logins_to_remove: Vec<String>,
}

pub(super) fn unlink(call: &mut Call<'_>) -> Result<Answer, Refusal> {
    let input: Unlink = call.input()?;
    let id = &input.identity_id;
    let mut state = call.service.state();
    let identity = state.directory.get(id)?;
    let pool_id = identity.pool.clone();
    call.record.identity_pool_id = Some(pool_id.clone());
    let pool = state.pool(&pool_id)?;
    let shown = logins::links(&call.logins(pool).verify_all(&input.logins)?);
    let identity = identity.enabled(id)?;
    if identity.links.is_disjoint(&shown) {
        return Err(Rule::LoginsDontMatch.into());
    }
    let mut removed = Vec::new();
    for provider in &input.logins_to_remove {
        if pool.settings.developer_provider_name.as_ref() == Some(provider) {
            return Err(Rule::PublicProviderOnly.into());
        }
        let link = identity
            .links
            .iter()
            .find(|link| same_provider(link.provider(), provider))
            .ok_or(Rule::NotLinked)?;
        removed.push(link.clone());
    }
    removed.sort();
    removed.dedup();
    for link in removed {
        state.directory.unlink(id, &link, call.now())?;
    }
    Ok(Answer::json(Value::Null))
}
