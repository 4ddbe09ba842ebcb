//! Which refusals of Cognito and STS the SDK tries again.

use aws_smithy_runtime_api::client::interceptors::context::InterceptorContext;
use aws_smithy_runtime_api::client::retries::classifiers::{
    ClassifyRetry, RetryAction, RetryClassifierPriority, RetryReason,
};
use aws_smithy_types::retry::ErrorKind as RetryKind;

/// Retries what the SDK does not retry by itself although it passes (`ExternalServiceException`,
/// `ConcurrentModificationException`, STS that could not fetch a key), and does not retry `LimitExceededException`, which the SDK
/// takes for throttling.
#[derive(Debug)]
pub(crate) struct CognitoRetryClassifier;

impl ClassifyRetry for CognitoRetryClassifier {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let Some((code, message)) = code_and_message(context) else {
            return RetryAction::NoActionIndicated;
        };
        let passes = match &*code {
            "LimitExceededException" => return RetryAction::RetryForbidden,
            "ExternalServiceException" | "ConcurrentModificationException" => true,
            "InvalidIdentityToken" => message.starts_with("Couldn't retrieve verification key"),
            _ => false,
        };
        if !passes {
            return RetryAction::NoActionIndicated;
        }
        RetryAction::RetryIndicated(RetryReason::RetryableError {
            kind: RetryKind::ServerError,
            retry_after: None,
        })
    }

    fn name(&self) -> &'static str {
        "CognitoRetryClassifier"
    }

    fn priority(&self) -> RetryClassifierPriority {
        RetryClassifierPriority::run_after(RetryClassifierPriority::transient_error_classifier())
    }
}

/// Type and message of an error response. They are read from the response itself: the SDK's errors are of another type for each
/// operation, and those that are modelled do not tell their code through their sources.
fn code_and_message(context: &InterceptorContext) -> Option<(String, String)> {
    context.output_or_error()?.err()?.as_operation_error()?;
    let response = context.response()?;
    let body = response
        .body()
        .bytes()
        .and_then(|body| std::str::from_utf8(body).ok())
        .unwrap_or_default();
    let json: serde_json::Value = serde_json::from_str(body).unwrap_or_default();
    let member = |names: &[&str], tag: &str| {
        let text = names.iter().find_map(|name| json.get(name)?.as_str());
        text.or_else(|| {
            body.split_once(&format!("<{tag}>"))?
                .1
                .split_once(&format!("</{tag}>"))
                .map(|(text, _)| text)
        })
    };
    let code = response
        .headers()
        .get("x-amzn-errortype")
        .or_else(|| member(&["__type"], "Code"))?;
    let code = code.split(':').next().unwrap_or_default();
    let code = code.rsplit('#').next().unwrap_or_default();
    let message = member(&["message", "Message", "errorMessage"], "Message").unwrap_or_default();
    Some((code.to_owned(), message.to_owned()))
}

#[cfg(test)]
mod tests {
    use aws_sdk_cognitoidentity::config::BehaviorVersion;
    use aws_smithy_async::rt::sleep::SharedAsyncSleep;
    use aws_smithy_async::test_util::instant_time_and_sleep;
    use aws_smithy_http_client::test_util::{ReplayEvent, StaticReplayClient};
    use aws_smithy_types::body::SdkBody;
    use aws_types::SdkConfig;

    use crate::ids::{IdentityId, IdentityPoolId};
    use crate::service::settings::ServiceSettings;
    use crate::service::{IdentityService, Proof};

    async fn requests_until_the_answer(code: &str, xml_or_json: &str) -> usize {
        let pool = IdentityPoolId::new("us-east-1:335c1f44-87c9-4bbd-a314-93b47d91fadd").unwrap();
        let identity = IdentityId::new("us-east-1:0b1c2d3e-5e6f-7a8b-9c0d-1e2f3a4b5c6d").unwrap();
        let (time, sleep) = instant_time_and_sleep(std::time::SystemTime::UNIX_EPOCH);
        let response = || {
            let response = http::Response::builder()
                .status(400)
                .header("content-type", "application/x-amz-json-1.1");
            let response = if code.is_empty() {
                response
            } else {
                response.header("x-amzn-errortype", format!("{code}:"))
            };
            ReplayEvent::new(
                http::Request::new(SdkBody::empty()),
                response.body(SdkBody::from(xml_or_json)).unwrap(),
            )
        };
        let http = StaticReplayClient::new((0..5).map(|_| response()).collect());
        let app = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .http_client(http.clone())
            .time_source(time)
            .sleep_impl(SharedAsyncSleep::new(sleep))
            .build();
        let service = IdentityService::new(pool, &ServiceSettings::default(), Some(&app)).unwrap();
        drop(
            service
                .get_credentials(&identity, &Proof::Guest, None)
                .await
                .unwrap_err(),
        );
        http.actual_requests().count()
    }

    #[tokio::test]
    async fn what_passes_is_tried_three_times_and_what_does_not_once() {
        for (code, requests) in [
            ("ExternalServiceException", 3),
            ("TooManyRequestsException", 3),
            ("ConcurrentModificationException", 3),
            ("LimitExceededException", 1),
            ("NotAuthorizedException", 1),
            ("ResourceNotFoundException", 1),
        ] {
            assert_eq!(
                requests_until_the_answer(code, "{}").await,
                requests,
                "{code} in the header"
            );
            let body = format!(r#"{{"__type":"com.amazonaws#{code}","message":"x"}}"#);
            assert_eq!(
                requests_until_the_answer("", &body).await,
                requests,
                "{code} in the body"
            );
        }
    }
}
