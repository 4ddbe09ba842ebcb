//! STS in the query protocol: GetCallerIdentity.

use std::collections::BTreeMap;
use std::time::SystemTime;

use bytes::Bytes;
use http::{Request, Response};
use percent_encoding::percent_decode_str;

use super::core::{Core, Distrust, Signer};
use super::record::LocalRequest;
use super::rules::{Refusal, Rule};
use super::sigv4::Scope;
use super::wire::response;

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// Answers a request to STS.
pub(super) fn answer(
    core: &Core,
    request: &Request<Bytes>,
    now: SystemTime,
    record: &mut LocalRequest,
) -> Result<Response<Bytes>, Refusal> {
    let parameters = parameters(request.body());
    let action = parameters.get("Action").map(String::as_str).unwrap_or_default();
    record.operation = action.to_owned();
    let request_id = record.request_id.clone();
    let result = match action {
        "GetCallerIdentity" => caller_identity(core, request, now, record)?,
        _ => {
            let version = parameters.get("Version").map(String::as_str).unwrap_or_default();
            return Err(Rule::StsUnknownAction.refuse(&[&action, &version]));
        }
    };
    let body = format!(
        "<{action}Response xmlns=\"{NAMESPACE}\"><{action}Result>{result}</{action}Result>\
         <ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{action}Response>"
    );
    Ok(response(200, "text/xml", body))
}

/// A refusal in STS's form.
pub(super) fn refused(refusal: &Refusal, request_id: &str) -> Response<Bytes> {
    let body = format!(
        "<ErrorResponse xmlns=\"{NAMESPACE}\"><Error><Type>Sender</Type><Code>{}</Code><Message>{}</Message></Error>\
         <RequestId>{request_id}</RequestId></ErrorResponse>",
        refusal.error(),
        escape(&refusal.message)
    );
    response(refusal.status(), "text/xml", body)
}

fn caller_identity(
    core: &Core,
    request: &Request<Bytes>,
    now: SystemTime,
    record: &mut LocalRequest,
) -> Result<String, Refusal> {
    let scope = Scope {
        service: "sts",
        region: None,
    };
    let account = &core.settings.account_id;
    let (arn, user_id, account) = match core.signer(request, &scope, now, record).map_err(distrust)? {
        Signer::Developer => (
            format!("arn:aws:iam::{account}:user/developer"),
            "AIDALOCALIDENTITYPOOL".to_owned(),
            account.clone(),
        ),
        Signer::Session(session) => {
            let arn = session.arn();
            let account = arn.split(':').nth(4).unwrap_or_default().to_owned();
            (arn, session.user_id(), account)
        }
    };
    Ok(format!(
        "<Arn>{}</Arn><UserId>{}</UserId><Account>{account}</Account>",
        escape(&arn),
        escape(&user_id)
    ))
}

fn distrust(distrust: Distrust) -> Refusal {
    match distrust {
        Distrust::Missing => Rule::StsMissingAuthentication.into(),
        Distrust::Incomplete(what) => Rule::StsIncompleteSignature.refuse(&[&what]),
        Distrust::UnknownKey => Rule::StsUnknownAccessKey.into(),
        Distrust::Signature => Rule::StsInvalidSignature.into(),
        Distrust::Time(how) => Rule::StsSignatureTime.refuse(&[&how]),
        Distrust::Expired => Rule::StsSignerExpired.into(),
    }
}

/// The parameters of a form; the first of a name counts.
fn parameters(body: &[u8]) -> BTreeMap<String, String> {
    let body = String::from_utf8_lossy(body);
    let mut parameters = BTreeMap::new();
    for pair in body.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decode = |text: &str| {
            percent_decode_str(&text.replace('+', " "))
                .decode_utf8_lossy()
                .into_owned()
        };
        parameters.entry(decode(name)).or_insert_with(|| decode(value));
    }
    parameters
}

/// Text for XML, without the characters that XML 1.0 cannot hold.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\t' | '\n' | '\r' => escaped.push(char),
            char if char.is_control() || matches!(char, '\u{fffe}' | '\u{ffff}') => escaped.push('\u{fffd}'),
            char => escaped.push(char),
        }
    }
    escaped
}
