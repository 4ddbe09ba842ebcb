//! Faults from outside the process: a path of the server that wants a token, and that no web page can reach.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use serde::Deserialize;

use super::faults::LocalFault;
use super::pool_service::PoolService;
use super::wire;

const PATH: &str = "/_local/faults";

/// The header that carries the token; a page of another origin may not send it, since no preflight allows it.
const TOKEN: &str = "x-local-admin";

/// `{"operation":"GetId","fault":"Latency","milliseconds":200,"count":3}`
#[derive(Deserialize)]
struct Order {
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

/// The most faults of one order.
const MAX_COUNT: usize = 10_000;

/// Answers a request to the admin path, and only such.
pub(super) fn answer(service: &PoolService, request: &Request<Bytes>) -> Option<Response<Bytes>> {
    if request.uri().path() != PATH {
        return None;
    }
    let token = request
        .headers()
        .get(TOKEN)
        .map(|token| token.as_bytes())
        .unwrap_or_default();
    let known = aws_lc_rs::constant_time::verify_slices_are_equal(token, service.settings.admin_token.as_bytes());
    if known.is_err() {
        return Some(text(
            403,
            "the header x-local-admin has to carry the token printed at start",
        ));
    }
    Some(match *request.method() {
        Method::DELETE => {
            service.faults.clear();
            text(200, "")
        }
        Method::POST => match serde_json::from_slice::<Order>(request.body())
            .ok()
            .and_then(|order| plan(service, order))
        {
            Some(()) => text(200, ""),
            None => text(400, "no such fault"),
        },
        _ => text(405, "POST a fault, DELETE all"),
    })
}

fn text(status: u16, text: &'static str) -> Response<Bytes> {
    wire::response(status, "text/plain", text)
}

fn plan(service: &PoolService, order: Order) -> Option<()> {
    if let Some(offset) = order.clock_offset {
        service.faults.set_clock_offset(offset);
    }
    let Some(fault) = &order.fault else {
        return order.clock_offset.map(drop);
    };
    let fault = match fault.as_str() {
        "Latency" => LocalFault::Latency(Duration::from_millis(order.milliseconds?)),
        "Hang" => LocalFault::Hang,
        "ConnectionReset" => LocalFault::ConnectionReset,
        "HalfResponse" => LocalFault::HalfResponse,
        "Status" => LocalFault::Status(order.status.filter(|status| (200..600).contains(status))?),
        "Refuse" => LocalFault::refuse(&order.error?)?,
        "MalformedBody" => LocalFault::MalformedBody,
        "WrongContentType" => LocalFault::WrongContentType,
        "ExpiredCredentials" => LocalFault::ExpiredCredentials,
        "OtherIdentity" => LocalFault::OtherIdentity,
        "WithoutMember" => LocalFault::WithoutMember(order.member?),
        "RotateKeys" => LocalFault::RotateKeys {
            keep_old: order.keep_old,
        },
        _ => return None,
    };
    service
        .faults
        .next_n_of(&order.operation?, order.count.min(MAX_COUNT), fault);
    Some(())
}
