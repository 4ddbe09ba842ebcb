//! The admin path `/_local`: what other processes see of the pool, and steer. It wants a token, and no web page of another
//! origin can reach it.

mod orders;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

use super::error::LocalPoolError;
use super::pool_service::PoolService;
use super::snapshot::{KeptIdentity, Snapshot};
use super::wire;

const PATH: &str = "/_local";

/// The header that carries the token; a page of another origin may not send it, since no preflight allows it.
const TOKEN: &str = "x-local-admin";

/// How many requests are listed unless more are asked for.
const REQUESTS: usize = 1000;

/// How many identities are listed unless more are asked for.
const IDENTITIES: usize = 1000;

/// What an order is answered: JSON, or why not.
type Told = Result<Value, Refused>;

/// A status and a text.
pub(super) struct Refused(u16, String);

impl Refused {
    fn bad(text: impl ToString) -> Self {
        Self(400, text.to_string())
    }
}

impl From<LocalPoolError> for Refused {
    fn from(error: LocalPoolError) -> Self {
        Self::bad(error)
    }
}

/// Answers a request to the admin path, and only such.
pub(super) fn answer(service: &PoolService, request: &Request<Bytes>) -> Option<Response<Bytes>> {
    let path = request.uri().path().strip_prefix(PATH)?;
    if !path.is_empty() && !path.starts_with('/') {
        return None;
    }
    let told = admit(service, request.headers()).and_then(|()| order(service, path.trim_matches('/'), request));
    let (status, value) = match told {
        Ok(value) => (200, value),
        Err(Refused(status, text)) => (status, json!({ "error": text })),
    };
    let mut response = wire::response(status, "application/json", value.to_string());
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, no_store);
    Some(response)
}

/// Whether the caller has the token, and is no page of another origin that got hold of it.
fn admit(service: &PoolService, headers: &HeaderMap) -> Result<(), Refused> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if headers.contains_key(header::ORIGIN) {
        let host = text(header::HOST).unwrap_or_default();
        if text(header::ORIGIN) != Some(&format!("http://{host}")) {
            return Err(Refused(403, "this is not for pages of other origins".to_owned()));
        }
    }
    let token = headers.get(TOKEN).map(HeaderValue::as_bytes).unwrap_or_default();
    let known = service.settings.admin_token.as_bytes();
    aws_lc_rs::constant_time::verify_slices_are_equal(token, known).map_err(|_| {
        Refused(
            403,
            format!("the header {TOKEN} has to carry the token printed at start"),
        )
    })
}

fn order(service: &PoolService, path: &str, request: &Request<Bytes>) -> Told {
    let body = request.body();
    match (path, request.method()) {
        ("", &Method::GET) => Ok(overview(service)),
        ("pools", &Method::GET) => Ok(pools(service)),
        ("identities", &Method::GET) => identities(service, request),
        ("requests", &Method::GET) => requests(service, request),
        ("requests", &Method::DELETE) => {
            service.records.clear();
            Ok(json!({}))
        }
        ("providers", &Method::POST) => orders::trust(service, read(body)?),
        ("tokens", &Method::POST) => orders::issue(service, read(body)?),
        ("faults", &Method::GET) => Ok(faults(service)),
        ("faults", &Method::POST) => {
            orders::plan(service, read(body)?)?;
            Ok(faults(service))
        }
        ("faults", &Method::DELETE) => {
            service.faults.clear();
            Ok(faults(service))
        }
        ("clock", &Method::GET) => Ok(clock(service)),
        ("clock", &Method::POST) => {
            orders::turn(service, &read(body)?)?;
            Ok(clock(service))
        }
        ("clock", &Method::DELETE) => {
            service.clock.reset();
            service.faults.set_clock_offset(0);
            Ok(clock(service))
        }
        ("throttling", &Method::POST) => {
            service.throttle.switch(read::<orders::Throttling>(body)?.on);
            Ok(json!({ "on": service.throttle.is_on() }))
        }
        ("reset", &Method::POST) => {
            service.reset();
            Ok(json!({}))
        }
        ("state", &Method::GET) => serde_json::from_str(&service.export()).map_err(Refused::bad),
        ("state", &Method::PUT) => {
            let text = std::str::from_utf8(body).map_err(Refused::bad)?;
            service.import(&Snapshot::parse(text)?)?;
            Ok(json!({}))
        }
        (
            "" | "pools" | "identities" | "requests" | "providers" | "tokens" | "faults" | "clock" | "throttling"
            | "reset" | "state",
            method,
        ) => Err(Refused(405, format!("{PATH}/{path} has no {method}"))),
        _ => Err(Refused(404, format!("{PATH} has no /{path}"))),
    }
}

/// The order in the body. By way of an object: serde would also take a list for a structure.
fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Refused> {
    let object: Map<String, Value> = serde_json::from_slice(body).map_err(Refused::bad)?;
    serde_json::from_value(Value::Object(object)).map_err(Refused::bad)
}

/// A parameter of the query, which this path has no special characters for.
fn parameter<'a>(request: &'a Request<Bytes>, name: &str) -> Option<&'a str> {
    let pairs = request.uri().query()?.split('&');
    pairs
        .filter_map(|pair| pair.split_once('='))
        .find_map(|(key, value)| (key == name).then_some(value))
}

fn number<T: std::str::FromStr>(request: &Request<Bytes>, name: &str, default: T) -> Result<T, Refused> {
    match parameter(request, name) {
        Some(text) => text.parse().map_err(|_| Refused::bad(format!("{name} is a number"))),
        None => Ok(default),
    }
}

fn overview(service: &PoolService) -> Value {
    let settings = &service.settings;
    let providers: Vec<_> = service
        .issuers
        .all()
        .iter()
        .map(|issuer| json!({ "provider": issuer.provider_name(), "simulated": issuer.is_simulated() }))
        .collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "identity_pool_id": settings.identity_pool_id,
        "region": settings.region,
        "account_id": settings.account_id,
        "issuer_host": settings.issuer_host,
        "access_key_id": settings.developer_access_key,
        "providers": providers,
        "clock": clock(service),
        "faults": faults(service),
        "throttling": service.throttle.is_on(),
    })
}

fn pools(service: &PoolService) -> Value {
    let state = service.state();
    let pools: Vec<_> = state
        .pools()
        .map(|pool| {
            let id = &pool.settings.identity_pool_id;
            json!({
                "settings": pool.settings,
                "roles": pool.roles,
                "role_mappings": pool.role_mappings,
                "tag_maps": pool.tag_maps,
                "identities": state.directory.list(id, 0).count(),
            })
        })
        .collect();
    json!({ "pools": pools })
}

fn identities(service: &PoolService, request: &Request<Bytes>) -> Told {
    let limit = number(request, "limit", IDENTITIES)?;
    let pool = parameter(request, "pool");
    let state = service.state();
    let all = state.directory.all();
    let matching: Vec<_> = all
        .filter(|(_, identity)| pool.is_none_or(|pool| identity.pool == pool))
        .collect();
    // The newest, in the order of their creation.
    let newest = &matching[matching.len().saturating_sub(limit)..];
    let listed: Vec<_> = newest
        .iter()
        .map(|(id, identity)| KeptIdentity::new(id, identity))
        .collect();
    let total = matching.len();
    Ok(json!({ "identities": listed, "total": total }))
}

fn requests(service: &PoolService, request: &Request<Bytes>) -> Told {
    let (from, limit) = (number(request, "from", 0)?, number(request, "limit", REQUESTS)?);
    let (requests, next) = service.records.since(from, limit);
    Ok(json!({ "requests": requests, "next": next }))
}

fn faults(service: &PoolService) -> Value {
    json!({ "pending": service.faults.pending() })
}

fn clock(service: &PoolService) -> Value {
    json!({
        "now": super::clock::seconds(service.now()),
        "ahead_seconds": service.clock.ahead(),
        "offset_seconds": service.faults.clock_offset(),
    })
}
