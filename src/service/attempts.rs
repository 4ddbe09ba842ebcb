//! How often the SDK sends a request for a token, repetitions included: what a limit of requests and an operator count.

use std::fmt;
use std::sync::Arc;

use aws_sdk_cognitoidentity::error::ProvideErrorMetadata;
use aws_sdk_cognitoidentity::operation::get_open_id_token_for_developer_identity::GetOpenIdTokenForDeveloperIdentityError;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeTransmitInterceptorContextRef, Error as OperationError, FinalizerInterceptorContextRef,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_runtime_api::client::retries::RequestAttempts;
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::ConfigBag;

use crate::metrics;

/// The operation whose attempts are counted: its quota is the one that is short.
pub(super) const TOKEN_OPERATION: &str = "GetOpenIdTokenForDeveloperIdentity";

/// The codes by which AWS throttles.
const THROTTLED: [&str; 4] = [
    "TooManyRequestsException",
    "ThrottlingException",
    "Throttling",
    "LimitExceededException",
];

/// Is told what the SDK does with a request on its own: a limit of requests has to count it.
pub(crate) trait AttemptWatch: fmt::Debug + Send + Sync {
    /// The request is sent once more.
    fn repeated(&self);

    /// An attempt was throttled.
    fn throttled(&self);
}

/// Of all operations of the client it looks at those for tokens.
pub(super) struct CountAttempts(pub(super) Option<Arc<dyn AttemptWatch>>);

fn asks_for_token(config: &ConfigBag) -> bool {
    config
        .load::<Metadata>()
        .is_some_and(|operation| operation.name() == TOKEN_OPERATION)
}

#[dyn_dispatch_hint]
impl Intercept for CountAttempts {
    fn name(&self) -> &'static str {
        "CognitoVendorAttempts"
    }

    fn read_before_attempt(
        &self,
        _: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(watch) = &self.0 else { return Ok(()) };
        let attempts = config.load::<RequestAttempts>().map_or(1, RequestAttempts::attempts);
        if attempts > 1 && asks_for_token(config) {
            watch.repeated();
        }
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let outcome = match context.output_or_error() {
            Some(Ok(_)) => "ok",
            Some(Err(error)) => match error.as_operation_error() {
                Some(error) if is_throttled(error) => "throttled",
                Some(_) => "refused",
                None => "failed",
            },
            None => "failed",
        };
        // Only an error of the operation for tokens counts as throttled.
        if let (Some(watch), "throttled") = (&self.0, outcome) {
            watch.throttled();
        }
        if cfg!(feature = "metrics") && asks_for_token(config) {
            metrics::attempt(outcome);
        }
        Ok(())
    }
}

impl fmt::Debug for CountAttempts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CountAttempts")
    }
}

fn is_throttled(error: &OperationError) -> bool {
    error
        .downcast_ref::<GetOpenIdTokenForDeveloperIdentityError>()
        .and_then(ProvideErrorMetadata::code)
        .is_some_and(|code| THROTTLED.contains(&code))
}
