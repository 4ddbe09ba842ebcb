//! `explain`: what is wrong with a token, a logins map or an id, offline.

use std::fmt::Write as _;
use std::io::Read as _;
use std::process::ExitCode;
use std::time::SystemTime;

use aws_smithy_async::time::{SystemTimeSource, TimeSource as _};
use clap::Args;
use cognito_identity_pool::error::{Cause, CauseKind};
use cognito_identity_pool::token::TokenClaims;
use cognito_identity_pool::{IdentityId, IdentityPoolId, OpenIdToken, explain};
use serde_json::{Value, json};

use crate::output::{self, Failure, Outcome};

/// Explain what is wrong with a token, a logins map, or a pool's or identity's id, without asking anybody
///
/// The text is a token, JSON (a map from provider name to token, or the whole body of a request), or an id. Without one it
/// is read from stdin, so that a token is in no shell history. Tokens are read, not verified, and never printed.
///
/// The exit code is 0 if nothing is seen to be wrong, 1 if something is.
#[derive(Args)]
pub(crate) struct Explain {
    /// A token, a logins map as JSON, or an id [default: what stdin says]
    text: Option<String>,

    /// The identity pool that it is for [default: the one that the token names]
    #[arg(long, env = "COGNITO_IDENTITY_POOL_ID", value_name = "ID")]
    pool: Option<String>,

    /// The identity that it is for
    #[arg(long, value_name = "ID")]
    identity: Option<String>,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What was given.
struct Given {
    pool: Option<String>,
    identity: Option<String>,
    /// Nothing where no login is in question at all.
    logins: Option<Vec<(String, String)>>,
    /// What can be said before `explain` is asked.
    wrong: Vec<String>,
}

pub(crate) fn run(options: Explain) -> Outcome {
    let text = match options.text {
        Some(text) => text,
        None => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            text
        }
    };
    let mut given = understand(text.trim())?;
    // What is said in so many words wins; a variable of the environment does not contradict what the text itself names.
    given.identity = options.identity.or(given.identity);
    given.pool = given.pool.or(options.pool);
    let now = SystemTimeSource::new().now();
    let (claims, causes) = judge(&mut given, now);
    let healthy = given.wrong.is_empty() && causes.is_empty();
    if options.json {
        let causes = causes
            .iter()
            .map(|cause| json!({ "kind": format!("{:?}", cause.kind), "evidence": cause.evidence }));
        let tokens = claims.iter().map(|(key, claims)| said_json(key, claims));
        output::json(&json!({
            "tokens": tokens.collect::<Vec<_>>(),
            "wrong": given.wrong,
            "causes": causes.collect::<Vec<_>>(),
        }))?;
    } else {
        let mut text = String::new();
        for (key, claims) in &claims {
            text += &said(key, claims, now);
        }
        let wrong = given.wrong.iter().cloned().chain(causes.iter().map(Cause::to_string));
        for (number, wrong) in wrong.enumerate() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}. {wrong}", number + 1);
        }
        if healthy {
            text += "nothing is seen to be wrong; signatures, and whether pool and identity exist, were not checked\n";
        }
        output::text(&text)?;
    }
    Ok(if healthy { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the text is.
fn understand(text: &str) -> Result<Given, Failure> {
    let mut given = Given {
        pool: None,
        identity: None,
        logins: None,
        wrong: Vec::new(),
    };
    if text.is_empty() {
        return Err(Failure::new(
            "there is nothing to explain: pass a token, a logins map or an id, or send it to stdin",
        ));
    }
    if text.starts_with('{') || text.starts_with('[') {
        let value: Value = serde_json::from_str(text)?;
        let Value::Object(mut map) = value else {
            return Err(Failure::new(
                "a logins map is a JSON object from provider name to token",
            ));
        };
        let mut id = |name: &str| map.remove(name).and_then(|id| id.as_str().map(str::to_owned));
        (given.pool, given.identity) = (id("IdentityPoolId"), id("IdentityId"));
        let is_request = given.pool.is_some() || given.identity.is_some() || map.contains_key("Logins");
        let logins = match map.remove("Logins") {
            Some(Value::Object(logins)) => logins,
            Some(_) => {
                given
                    .wrong
                    .push("Logins is not a map from provider name to token".to_owned());
                serde_json::Map::new()
            }
            None if is_request => serde_json::Map::new(),
            None => map,
        };
        let mut pairs = Vec::new();
        for (provider, token) in logins {
            match token {
                Value::String(token) => pairs.push((provider, token)),
                _ => given.wrong.push(format!("the value under `{provider}` is not a text")),
            }
        }
        given.logins = Some(pairs);
    } else if text.contains('.') && text.starts_with("eyJ") {
        let claims = OpenIdToken::new(text)
            .ok()
            .and_then(|token| token.unverified_claims().cloned());
        // Under its own issuer, which is right, unless it is none that anybody could read.
        let issuer = claims
            .as_ref()
            .and_then(|claims| claims.iss.clone())
            .unwrap_or_default();
        let key = issuer.strip_prefix("https://").unwrap_or(&issuer).to_owned();
        given.pool = claims
            .and_then(|claims| claims.aud)
            .filter(|aud| IdentityPoolId::new(aud).is_ok());
        given.logins = Some(vec![(key, text.to_owned())]);
    } else if let Err(error) = IdentityPoolId::new(text) {
        given.wrong.push(format!(
            "this is no token, no JSON, and no id of a pool or an identity: {error}"
        ));
    }
    Ok(given)
}

/// The claims of the tokens, and what is wrong.
fn judge(given: &mut Given, now: SystemTime) -> (Vec<(String, TokenClaims)>, Vec<Cause>) {
    let pool = given.pool.as_ref().and_then(|id| {
        IdentityPoolId::new(id)
            .map_err(|error| given.wrong.push(format!("the pool's id is none: {error}")))
            .ok()
    });
    let identity = given.identity.as_ref().and_then(|id| {
        IdentityId::new(id)
            .map_err(|error| given.wrong.push(format!("the identity's id is none: {error}")))
            .ok()
    });
    let Some(logins) = &given.logins else {
        return (Vec::new(), Vec::new());
    };
    let claims = logins
        .iter()
        .filter_map(|(key, token)| {
            let claims = OpenIdToken::new(token).ok()?.unverified_claims()?.clone();
            Some((key.clone(), claims))
        })
        .collect();
    let known = pool.is_some();
    let region = identity.as_ref().map_or("us-east-1", |identity| identity.region());
    // A pool that nobody named has nothing to be compared with but the region.
    let nobodys = || IdentityPoolId::new(format!("{region}:00000000-0000-4000-8000-000000000000"));
    let Some(pool) = pool.or_else(|| nobodys().ok()) else {
        return (claims, Vec::new());
    };
    let pairs = logins.iter().map(|(key, token)| (key.as_str(), token.as_str()));
    let mut causes = explain(&pool, identity.as_ref(), pairs, now);
    if !known {
        causes.retain(|cause| !matches!(cause.kind, CauseKind::WrongPool | CauseKind::WrongRegion));
    }
    (claims, causes)
}

fn said(key: &str, claims: &TokenClaims, now: SystemTime) -> String {
    let mut text = format!("a token under `{}`, not verified\n", plain(key));
    let mut line = |name: &str, value: &Option<String>| {
        if let Some(value) = value {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "  {name}  {}", plain(value));
        }
    };
    line("iss", &claims.iss);
    line("aud", &claims.aud);
    line("sub", &claims.sub);
    line("amr", &(!claims.amr.is_empty()).then(|| claims.amr.join(", ")));
    let expires = claims.expires_at().map(|end| match end.duration_since(now) {
        Ok(left) => format!("{} ({} s left)", claims.exp.unwrap_or_default(), left.as_secs()),
        Err(past) => format!(
            "{} ({} s ago)",
            claims.exp.unwrap_or_default(),
            past.duration().as_secs()
        ),
    });
    line("exp", &expires);
    text
}

/// What somebody else wrote, without what would steer a terminal.
fn plain(text: &str) -> String {
    text.chars()
        .map(|char| if char.is_control() { '\u{fffd}' } else { char })
        .collect()
}

fn said_json(key: &str, claims: &TokenClaims) -> Value {
    json!({
        "provider": key,
        "iss": claims.iss,
        "aud": claims.aud,
        "sub": claims.sub,
        "amr": claims.amr,
        "iat": claims.iat,
        "exp": claims.exp,
    })
}
