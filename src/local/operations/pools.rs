//! Identity pools.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Call;
use crate::local::pools::{Pool, PoolSettings};
use crate::local::rules::{Refusal, Rule};

pub(super) fn create(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let mut settings: PoolSettings = call.input()?;
    settings.identity_pool_id = call.new_id();
    call.record.identity_pool_id = Some(settings.identity_pool_id.clone());
    let output = output(&settings)?;
    call.core.state().add_pool(Pool {
        settings,
        ..Pool::default()
    })?;
    Ok(output)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct PoolId {
    identity_pool_id: String,
}

pub(super) fn describe(call: &mut Call<'_>) -> Result<Value, Refusal> {
    let input: PoolId = call.input()?;
    output(&call.core.state().pool(&input.identity_pool_id)?.settings)
}

fn output(value: &impl Serialize) -> Result<Value, Refusal> {
    serde_json::to_value(value).map_err(|_| Rule::Internal.refuse(&[&"the answer could not be written"]))
}
