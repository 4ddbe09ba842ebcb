//! What a service client does when the service says that its credentials have expired: the credentials that signed the request, and
//! only those, are made anew, and the same operation goes on with fresh ones.

use std::fmt;
use std::sync::Arc;

use aws_credential_types::Credentials;
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeTransmitInterceptorContextRef, FinalizerInterceptorContextRef, InterceptorContext,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::retries::classifiers::{ClassifyRetry, RetryAction, RetryClassifierPriority};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::{ConfigBag, Storable, StoreReplace};

use super::CognitoCredentialsProvider;
use super::current_session::CurrentSession;
use super::pin::session_of;
use super::session::Session;
use crate::error::{Error, ErrorKind};
use crate::refresh::Failure;
use crate::service::code_of;

/// The codes by which services refuse expired or revoked credentials. `AccessDenied` is not among them: it is about what the
/// user may do, and new credentials would not change that.
const REJECTED: [&str; 3] = ["ExpiredToken", "ExpiredTokenException", "InvalidToken"];

/// An interceptor for service clients: credentials that a service refuses as expired are invalidated, and only if they are still the
/// current ones. See [`CognitoCredentialsProvider::rejection_interceptor`].
#[derive(Clone)]
pub struct RejectionInterceptor {
    current: Arc<CurrentSession>,
}

/// A retry classifier for service clients: an operation whose credentials were refused as expired is tried again. See
/// [`CognitoCredentialsProvider::rejection_retry`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RejectionRetry;

impl CognitoCredentialsProvider {
    /// For a service client, one line each: what the service refuses with `ExpiredToken`, `ExpiredTokenException` or `InvalidToken`
    /// invalidates exactly the credentials that signed that request; with [`rejection_retry`](Self::rejection_retry) the same
    /// operation then succeeds with fresh ones of the same session, at most once per signer.
    ///
    /// Under an identity cache that is not ours, it also keeps an operation with its session: a retry that would be signed by
    /// the next user fails with [`ErrorKind::SessionEnded`].
    ///
    /// An `SdkConfig` cannot carry interceptors, so each client takes them by itself. S3's `HEAD` operations answer without a body,
    /// hence without a code: of those a refusal cannot be told from any other.
    ///
    /// ```
    /// # use cognito_identity_pool::CognitoCredentialsProvider;
    /// # fn example(provider: CognitoCredentialsProvider, base: aws_config::SdkConfig) {
    /// let config = aws_sdk_sts::config::Builder::from(&provider.sdk_config(&base))
    ///     .interceptor(provider.rejection_interceptor())
    ///     .retry_classifier(provider.rejection_retry())
    ///     .build();
    /// let client = aws_sdk_sts::Client::from_conf(config);
    /// # }
    /// ```
    pub fn rejection_interceptor(&self) -> RejectionInterceptor {
        RejectionInterceptor {
            current: Arc::clone(&self.current),
        }
    }

    /// The second line beside [`rejection_interceptor`](Self::rejection_interceptor): the SDK does not retry these codes by itself.
    pub fn rejection_retry(&self) -> RejectionRetry {
        RejectionRetry
    }
}

impl Session {
    /// As [`CognitoCredentialsProvider::rejection_interceptor`], for a client of this session: of a user of
    /// [`UserCredentials`](crate::UserCredentials), say.
    ///
    /// ```
    /// # use cognito_identity_pool::Session;
    /// # fn example(session: Session, base: aws_config::SdkConfig) {
    /// let config = aws_sdk_sts::config::Builder::from(&session.sdk_config(&base))
    ///     .interceptor(session.rejection_interceptor())
    ///     .retry_classifier(session.rejection_retry())
    ///     .build();
    /// let client = aws_sdk_sts::Client::from_conf(config);
    /// # }
    /// ```
    pub fn rejection_interceptor(&self) -> RejectionInterceptor {
        RejectionInterceptor {
            current: Arc::clone(&self.current),
        }
    }

    /// The second line beside [`rejection_interceptor`](Self::rejection_interceptor): the SDK does not retry these codes by itself.
    pub fn rejection_retry(&self) -> RejectionRetry {
        RejectionRetry
    }

    /// Says that a service has refused these credentials. If, and only if, they are still the current ones, the next caller waits
    /// for new ones. `false`: they are not current.
    pub fn invalidate(&self, credentials: &Credentials) -> bool {
        self.current.invalidate_signer(credentials.access_key_id())
    }
}

/// The access key that signed the attempt.
#[derive(Debug)]
struct SignedBy(String);

impl Storable for SignedBy {
    type Storer = StoreReplace<Self>;
}

/// The access keys that were refused in this operation.
#[derive(Debug, Clone, Default)]
struct Refused(Vec<String>);

impl Storable for Refused {
    type Storer = StoreReplace<Self>;
}

#[dyn_dispatch_hint]
impl Intercept for RejectionInterceptor {
    fn name(&self) -> &'static str {
        "CognitoCredentialsRejection"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(signer) = context.request().headers().get("authorization").and_then(signer_of) else {
            return Ok(());
        };
        if config
            .load::<Refused>()
            .is_some_and(|refused| refused.0.iter().any(|key| key == signer))
        {
            // Nothing fresh could be had: sending it again would be refused again.
            return Err(Error::new(
                ErrorKind::NotAuthorized,
                "the service refused the credentials, and there are no fresh ones",
            )
            .retryable(true)
            .with_hint("the refresh failed or is backing off; see the provider's own error in the log")
            .into());
        }
        let before = config.load::<SignedBy>().and_then(|before| session_of(&before.0));
        if let (Some(before), Some(now)) = (before, session_of(signer))
            && before.id != now.id
        {
            // Under an identity cache that cannot be told of a switch, this is the last moment to stop.
            return Err(Error::ended().into());
        }
        let signer = SignedBy(signer.to_owned());
        config.interceptor_state().store_put(signer);
        Ok(())
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let Some(Err(error)) = context.output_or_error() else {
            return Ok(());
        };
        let Some(code) = code_of(error).filter(|code| REJECTED.contains(code)) else {
            return Ok(());
        };
        let Some(SignedBy(signer)) = config.load::<SignedBy>() else {
            return Ok(());
        };
        let (signer, mut refused) = (signer.clone(), config.load::<Refused>().cloned().unwrap_or_default());
        let invalidated = self.current.invalidate_signer(&signer);
        tracing::debug!(code, invalidated, "a service refused the credentials");
        refused.0.push(signer);
        config.interceptor_state().store_put(refused);
        Ok(())
    }
}

/// The access key id in an `Authorization` header: `AWS4-HMAC-SHA256 Credential=AKID/date/region/service/aws4_request, …`.
fn signer_of(authorization: &str) -> Option<&str> {
    let (_, credential) = authorization.split_once("Credential=")?;
    credential.split_once('/').map(|(key, _)| key)
}

impl ClassifyRetry for RejectionRetry {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        match context.output_or_error() {
            Some(Err(error)) if code_of(error).is_some_and(|code| REJECTED.contains(&code)) => {
                RetryAction::transient_error()
            }
            _ => RetryAction::NoActionIndicated,
        }
    }

    fn name(&self) -> &'static str {
        "CognitoCredentialsRejection"
    }

    fn priority(&self) -> RetryClassifierPriority {
        RetryClassifierPriority::run_after(RetryClassifierPriority::transient_error_classifier())
    }
}

impl fmt::Debug for RejectionInterceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RejectionInterceptor")
    }
}

#[cfg(test)]
mod tests {
    use super::signer_of;

    #[test]
    fn the_signer_is_read_from_a_sigv4_header_and_from_nothing_else() {
        let header = "AWS4-HMAC-SHA256 Credential=ASIAEXAMPLE/20260101/us-east-1/sts/aws4_request, SignedHeaders=host, Signature=x";
        assert_eq!(signer_of(header), Some("ASIAEXAMPLE"));
        assert_eq!(signer_of("Bearer token"), None);
        assert_eq!(signer_of("AWS4-HMAC-SHA256 Credential="), None);
    }
}
