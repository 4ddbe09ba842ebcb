//! What the admin path is told to do.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Refused, Told};
use crate::local::faults::LocalFault;
use crate::local::issuers::{AmrForm, LocalIssuer};
use crate::local::pool_service::{LOCAL_APP, PoolService};

/// The most faults of one order.
const MAX_COUNT: usize = 10_000;

/// The longest life of a simulated token: a year.
const MAX_LIFETIME: u64 = 366 * 86_400;

/// `{"on":true}`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Throttling {
    pub(super) on: bool,
}

/// `{"operation":"GetId","fault":"Latency","milliseconds":200,"count":3}`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fault {
    operation: Option<String>,
    fault: Option<String>,
    #[serde(default = "once")]
    count: usize,
    milliseconds: Option<u64>,
    status: Option<u16>,
    error: Option<String>,
    member: Option<String>,
    #[serde(default)]
    keep_old: bool,
    clock_offset: Option<i64>,
}

fn once() -> usize {
    1
}

pub(super) fn plan(service: &PoolService, order: Fault) -> Result<(), Refused> {
    let planned = match order.fault.as_deref() {
        Some(name) => {
            let missing = "a fault needs the operation that meets it, and what it is made of: see the documentation";
            Some(
                fault(name, &order)
                    .and_then(|fault| Some((order.operation.as_deref()?, fault)))
                    .ok_or_else(|| {
                        Refused::bad(format!(
                            "there is no such fault as {name}, or something is missing: {missing}"
                        ))
                    })?,
            )
        }
        None if order.clock_offset.is_none() => return Err(Refused::bad("name a fault")),
        None => None,
    };
    if let Some(offset) = order.clock_offset {
        service.faults.set_clock_offset(offset);
    }
    if let Some((operation, fault)) = planned {
        service.faults.next_n_of(operation, order.count.min(MAX_COUNT), fault);
    }
    Ok(())
}

fn fault(name: &str, order: &Fault) -> Option<LocalFault> {
    Some(match name {
        "Latency" => LocalFault::Latency(Duration::from_millis(order.milliseconds?)),
        "Hang" => LocalFault::Hang,
        "ConnectionReset" => LocalFault::ConnectionReset,
        "HalfResponse" => LocalFault::HalfResponse,
        "Status" => LocalFault::Status(order.status.filter(|status| (200..600).contains(status))?),
        "Refuse" => LocalFault::refuse(order.error.as_deref()?)?,
        "MalformedBody" => LocalFault::MalformedBody,
        "WrongContentType" => LocalFault::WrongContentType,
        "ExpiredCredentials" => LocalFault::ExpiredCredentials,
        "OtherIdentity" => LocalFault::OtherIdentity,
        "WithoutMember" => LocalFault::WithoutMember(order.member.clone()?),
        "RotateKeys" => LocalFault::RotateKeys {
            keep_old: order.keep_old,
        },
        _ => return None,
    })
}

/// `{"advance_seconds":3600}` or `{"offset_seconds":-300}`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Clock {
    advance_seconds: Option<u32>,
    offset_seconds: Option<i64>,
}

pub(super) fn turn(service: &PoolService, order: &Clock) -> Result<(), Refused> {
    if order.advance_seconds.is_none() && order.offset_seconds.is_none() {
        return Err(Refused::bad("say advance_seconds or offset_seconds"));
    }
    if let Some(seconds) = order.advance_seconds {
        service.clock.advance(seconds.into());
    }
    if let Some(offset) = order.offset_seconds {
        service.faults.set_clock_offset(offset);
    }
    Ok(())
}

/// `{"provider":"accounts.example.com"}` or `{"user_pool":"us-east-1_Example","client_id":"app"}`
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Provider {
    provider: Option<String>,
    user_pool: Option<String>,
    client_id: Option<String>,
    #[serde(default)]
    unavailable: bool,
}

/// Makes the pool trust a simulated provider, or says of a known one whether it answers.
pub(super) fn trust(service: &PoolService, order: Provider) -> Told {
    let region = &service.settings.region;
    let (name, (form, opaque)) = match (order.provider, order.user_pool) {
        (Some(name), None) => {
            let form = service.form_of(&name);
            (name, form)
        }
        (None, Some(id)) => (
            format!("cognito-idp.{region}.amazonaws.com/{id}"),
            (AmrForm::UserPool, false),
        ),
        _ => return Err(Refused::bad("say provider, or user_pool with client_id")),
    };
    let audience = order.client_id.unwrap_or_else(|| LOCAL_APP.to_owned());
    let issuer = match service.issuers.get(&name) {
        Some(known) => known,
        None => {
            let issuer = LocalIssuer::new(name.clone(), audience, form, opaque, service.time.clone());
            let issuer = issuer.ok_or_else(|| Refused(500, "there is no key to sign with".to_owned()))?;
            service.trust(issuer.clone())?;
            issuer
        }
    };
    issuer.set_unavailable(order.unavailable);
    Ok(json!({ "provider": name }))
}

/// `{"provider":"graph.facebook.com","sub":"alice"}`, claims and flaws free.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Token {
    provider: String,
    sub: String,
    #[serde(default)]
    claims: Map<String, Value>,
    lifetime_seconds: Option<u64>,
    audience: Option<String>,
    issuer: Option<String>,
    #[serde(default)]
    without_audience: bool,
    #[serde(default)]
    forged: bool,
}

pub(super) fn issue(service: &PoolService, order: Token) -> Told {
    let issuer = service.issuers.get(&order.provider).filter(LocalIssuer::is_simulated);
    let issuer = issuer.ok_or_else(|| {
        let simulated = service.issuers.all().into_iter().filter(LocalIssuer::is_simulated);
        let known: Vec<_> = simulated.map(|issuer| issuer.provider_name().to_owned()).collect();
        Refused(
            404,
            format!(
                "{} is no simulated provider of this pool, which has {}; POST /_local/providers adds one",
                order.provider,
                if known.is_empty() {
                    "none".to_owned()
                } else {
                    known.join(", ")
                }
            ),
        )
    })?;
    let mut token = issuer.token_for(&order.sub);
    for (name, value) in order.claims {
        token = token.claim(&name, value);
    }
    if let Some(seconds) = order.lifetime_seconds {
        token = token.lifetime(Duration::from_secs(seconds.min(MAX_LIFETIME)));
    }
    if let Some(audience) = &order.audience {
        token = token.audience(audience);
    }
    if let Some(name) = &order.issuer {
        token = token.issuer(name);
    }
    if order.without_audience {
        token = token.without_audience();
    }
    if order.forged {
        token = token.forged();
    }
    Ok(json!({ "provider": order.provider, "token": token.issue() }))
}
