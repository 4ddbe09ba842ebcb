//! Identities seen by an operator.

use serde::Deserialize;
use serde_json::{Value, json};

use super::call::Call;
use crate::local::answer::Answer;
use crate::local::directory::{Identity, Life};
use crate::local::rules::{Refusal, Rule};
use crate::local::wire::timestamp;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Describe {
    identity_id: String,
}

pub(super) fn describe(call: &mut Call<'_>) -> Result<Answer, Refusal> {
    let input: Describe = call.input()?;
    let state = call.service.state();
    let identity = state.directory.get(&input.identity_id)?;
    call.record.identity_pool_id = Some(identity.pool.clone());
    Ok(Answer::json(description(&input.identity_id, identity)))
}

/// An IdentityDescription; a guest has no logins in it.
fn description(id: &str, identity: &Identity) -> Value {
    let mut description = json!({
        "IdentityId": id,
        "CreationDate": timestamp(identity.created),
        "LastModifiedDate": timestamp(identity.modified),
    });
    let mut providers = identity.providers();
    if identity.life == Life::Disabled {
        providers.insert("DISABLED");
    }
    if !providers.is_empty() {
        description["Logins"] = json!(providers);
    }
    description
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Delete {
    identity_ids_to_delete: Vec<String>,
}

pub(super) fn delete(call: &mut Call<'_>) -> Result<Answer, Refusal> {
    let input: Delete = call.input()?;
    let mut state = call.service.state();
    for id in &input.identity_ids_to_delete {
        state.directory.delete(id);
    }
    Ok(Answer::json(json!({ "UnprocessedIdentityIds": [] })))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct List {
    identity_pool_id: String,
    max_results: usize,
    next_token: Option<String>,
    hide_disabled: Option<bool>,
}

pub(super) fn list(call: &mut Call<'_>) -> Result<Answer, Refusal> {
    let input: List = call.input()?;
    let state = call.service.state();
    state.pool(&input.identity_pool_id)?;
    let after = match &input.next_token {
        None => 0,
        Some(token) => token.parse().map_err(|_| Rule::InvalidNextToken)?,
    };
    let hide = input.hide_disabled.unwrap_or(false);
    let mut shown = state
        .directory
        .list(&input.identity_pool_id, after)
        .filter(|(_, _, identity)| !hide || matches!(identity.life, Life::Guest | Life::Authenticated))
        .peekable();
    let mut last = after;
    let mut identities = Vec::new();
    while identities.len() < input.max_results
        && let Some((serial, id, identity)) = shown.next()
    {
        last = serial;
        identities.push(description(id, identity));
    }
    let mut output = json!({ "IdentityPoolId": input.identity_pool_id, "Identities": identities });
    if shown.peek().is_some() {
        output["NextToken"] = Value::from(last.to_string());
    }
    Ok(Answer::json(output))
}
