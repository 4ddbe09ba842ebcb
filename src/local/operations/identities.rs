//! Identities seen by an operator.

use serde::Deserialize;
use serde_json::{Value, json};

use super::Call;
use crate::local::directory::Identity;
use crate::local::rules::Refusal;
use crate::local::wire::timestamp;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Describe {
    identity_id: String,
}

pub(super) fn describe(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let input: Describe = call.input()?;
    let state = call.core.state();
    let identity = state.directory.get(&input.identity_id)?;
    call.record.identity_pool_id = Some(identity.pool.clone());
    Ok(description(&input.identity_id, identity))
}

/// An IdentityDescription; a guest has no logins in it.
fn description(id: &str, identity: &Identity) -> Value {
    let mut description = json!({
        "IdentityId": id,
        "CreationDate": timestamp(identity.created),
        "LastModifiedDate": timestamp(identity.modified),
    });
    let providers = identity.providers();
    if !providers.is_empty() {
        description["Logins"] = json!(providers);
    }
    description
}
