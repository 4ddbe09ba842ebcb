//! AWS JSON 1.1: requests taken apart, answers and refusals put together.

use std::time::SystemTime;

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use serde_json::{Map, Value, json};

use super::record::LocalRequest;
use super::rules::{Refusal, Rule};
use super::shapes;

/// The content type of AWS JSON 1.1.
pub(super) const AMZ_JSON: &str = "application/x-amz-json-1.1";

const TARGET: HeaderName = HeaderName::from_static("x-amz-target");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");
const ERROR_TYPE: HeaderName = HeaderName::from_static("x-amzn-errortype");
const ERROR_MESSAGE: HeaderName = HeaderName::from_static("x-amzn-errormessage");

const RULE: HeaderName = HeaderName::from_static("x-local-rule");
const WHY: HeaderName = HeaderName::from_static("x-local-why");
const ADVICE: HeaderName = HeaderName::from_static("x-local-advice");

/// A message longer than this is in the body alone: a header of 50 kB closes connections.
const MAX_HEADER_MESSAGE: usize = 2048;

/// The operation that the target header names, in its short and its long form.
pub(super) fn operation(headers: &HeaderMap) -> Option<&str> {
    let target = headers.get(TARGET)?.to_str().ok()?;
    let (service, operation) = target.rsplit_once('.')?;
    (service == "AWSCognitoIdentityService" || service.ends_with(".AWSCognitoIdentityService")).then_some(operation)
}

/// Whether a request speaks AWS JSON at all.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    headers.contains_key(TARGET) || content_type(headers).starts_with("application/x-amz-json")
}

/// The content type in lower case.
pub(super) fn content_type(headers: &HeaderMap) -> String {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
        .to_ascii_lowercase()
}

/// The JSON object in the body.
pub(super) fn input(request: &Request<Bytes>) -> Result<Map<String, Value>, Refusal> {
    match serde_json::from_slice(request.body()) {
        Ok(Value::Object(input)) => Ok(input),
        Ok(Value::Array(_)) => Err(shapes::start_of_list()),
        Ok(_) => Err(shapes::expected_null()),
        Err(_) => Err(Rule::NotJson.into()),
    }
}

/// A time as the service writes it: a number of seconds in exponent form, such as `1.569527701E9`.
pub(super) fn timestamp(seconds: f64) -> Value {
    // serde_json has no form of its own for this; a number that is given as text is kept as it is only by a feature
    // that would change every user's serde_json, so the text is put in place by `encode`.
    json!({ TIMESTAMP: format!("{seconds:E}") })
}

const TIMESTAMP: &str = "\u{0}timestamp";

/// The text of an answer.
fn encode(value: &Value, text: &mut String) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(number)) = map.get(TIMESTAMP) {
                text.push_str(number);
                return;
            }
            text.push('{');
            for (index, (key, value)) in map.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                text.push_str(&Value::from(key.as_str()).to_string());
                text.push(':');
                encode(value, text);
            }
            text.push('}');
        }
        Value::Array(values) => {
            text.push('[');
            for (index, value) in values.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                encode(value, text);
            }
            text.push(']');
        }
        other => text.push_str(&other.to_string()),
    }
}

/// The answer to an operation; `Null` is an empty body.
pub(super) fn success(value: &Value) -> Response<Bytes> {
    let mut text = String::new();
    if !value.is_null() {
        encode(value, &mut text);
    }
    response(200, AMZ_JSON, text)
}

/// The answer to an operation that was refused.
pub(super) fn refused(refusal: &Refusal) -> Response<Bytes> {
    let error = refusal.error();
    // Denials by a policy have a capital letter there, everything else has not.
    let message = if error == "AccessDeniedException" {
        "Message"
    } else {
        "message"
    };
    let mut body = json!({ "__type": error });
    if !refusal.message.is_empty() {
        body[message] = Value::from(refusal.message.as_str());
    }
    let mut response = response(refusal.status(), AMZ_JSON, body.to_string());
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::try_from(format!("{error}:")) {
        headers.insert(ERROR_TYPE, value);
    }
    if refusal.message.len() <= MAX_HEADER_MESSAGE
        && let Ok(value) = HeaderValue::try_from(refusal.message.as_str())
    {
        headers.insert(ERROR_MESSAGE, value);
    }
    response
}

/// A response with a status, a content type and a body.
pub(super) fn response(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Response<Bytes> {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// The headers of every answer.
pub(super) fn stamp(response: &mut Response<Bytes>, request_id: &str, now: SystemTime) {
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::try_from(request_id) {
        headers.insert(REQUEST_ID, value);
    }
    if let Some(value) = DateTime::from(now)
        .fmt(Format::HttpDate)
        .ok()
        .and_then(|date| HeaderValue::try_from(date).ok())
    {
        headers.insert(header::DATE, value);
    }
}

/// Says which rule refused, why, and what to do, in headers that the real service does not have.
pub(super) fn explain(response: &mut Response<Bytes>, record: &LocalRequest) {
    let says = [
        (RULE, record.rule),
        (WHY, record.why.as_deref()),
        (ADVICE, record.advice),
    ];
    for (name, text) in says {
        let text = text.filter(|text| text.len() <= MAX_HEADER_MESSAGE);
        if let Some(value) = text.and_then(|text| HeaderValue::try_from(text).ok()) {
            response.headers_mut().insert(name, value);
        }
    }
}

/// The answer to a browser that asks whether it may call.
pub(super) fn preflight() -> Response<Bytes> {
    let mut response = response(200, "text/plain", "");
    let headers = response.headers_mut();
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("POST, GET"),
    );
    headers.insert(
        header::ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static(
            "authorization,cache-control,content-type,x-amz-content-sha256,x-amz-date,x-amz-security-token,x-amz-target,x-amz-user-agent,amz-sdk-invocation-id,amz-sdk-request",
        ),
    );
    headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("172800"));
    response
}

/// Lets pages of any origin read the answer, as the service does.
pub(super) fn share(response: &mut Response<Bytes>, request: &HeaderMap) {
    let headers = response.headers_mut();
    headers.insert(
        header::ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static(
            "x-amzn-RequestId,x-amzn-ErrorType,x-amzn-ErrorMessage,Date,x-local-rule,x-local-why,x-local-advice",
        ),
    );
    if request.contains_key(header::ORIGIN) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_have_the_exponent_form_of_the_service() {
        let response = success(&json!({ "Credentials": { "Expiration": timestamp(1_569_527_701.0) }, "a": [1, "x"] }));
        assert_eq!(
            &response.body()[..],
            br#"{"Credentials":{"Expiration":1.569527701E9},"a":[1,"x"]}"#
        );
        assert_eq!(
            serde_json::from_slice::<Value>(response.body()).unwrap()["Credentials"]["Expiration"],
            1_569_527_701.0
        );
    }

    #[test]
    fn a_message_with_a_line_break_is_in_the_body_alone() {
        let refusal = Rule::Internal.refuse(&[&"two\nlines"]);
        let response = refused(&refusal);
        assert!(!response.headers().contains_key(ERROR_MESSAGE));
        assert_eq!(response.headers()[ERROR_TYPE], "InternalErrorException:");
    }
}
