//! The one core behind both forms of the pool: a request in, a response out.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_smithy_async::time::SharedTimeSource;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use super::issuers::Issuers;
use super::operations::{self, Call};
use super::pools::State;
use super::record::{LocalRequest, Records};
use super::roles::Roles;
use super::rules::{Refusal, Rule};
use super::sessions::{Mint, Session};
use super::sigv4::{Authorization, Mismatch, Scope, verify};
use super::throttle::Throttle;
use super::tokens::{Algorithm, KeyRing};
use super::{sts, wire};

/// What the builder decided and nothing changes.
pub(super) struct Settings {
    pub(super) region: String,
    pub(super) account_id: String,
    /// Host of the `iss` claim, and the key of the logins map.
    pub(super) issuer_host: String,
    pub(super) developer_access_key: String,
    pub(super) developer_secret: SecretString,
}

impl Settings {
    /// Who the developer credentials belong to.
    pub(super) fn developer_arn(&self) -> String {
        format!("arn:aws:iam::{}:user/developer", self.account_id)
    }

    pub(super) fn pool_arn(&self, pool_id: &str) -> String {
        let partition = match self.region.split('-').next() {
            Some("cn") => "aws-cn",
            _ if self.region.starts_with("us-gov-") => "aws-us-gov",
            _ => "aws",
        };
        format!(
            "arn:{partition}:cognito-identity:{}:{}:identitypool/{pool_id}",
            self.region, self.account_id
        )
    }
}

/// What the service's documentation leaves open (H.4 of the rules), and what a test may want otherwise.
#[derive(Default)]
pub(super) struct Options {
    pub(super) merge_guests: bool,
    pub(super) wrong_provider_is_parameter: bool,
    pub(super) ignore_custom_role: bool,
    pub(super) refuse_classic_exchange: bool,
    /// Seconds after a token's end.
    pub(super) token_grace: i64,
    pub(super) throttling: bool,
    /// Operations that a policy denies, signed or not.
    pub(super) denied: BTreeSet<String>,
}

/// The pool without any transport.
pub(super) struct Core {
    pub(super) settings: Settings,
    pub(super) options: Options,
    pub(super) roles: Roles,
    pub(super) issuers: Issuers,
    pub(super) throttle: Throttle,
    pub(super) keys: KeyRing,
    pub(super) mint: Mint,
    pub(super) records: Records,
    pub(super) time: SharedTimeSource,
    pub(super) state: Mutex<State>,
}

/// Who signed a request.
pub(super) enum Signer {
    Developer,
    Session(Box<Session>),
}

/// Why a signer is not believed; each protocol has its own words for it.
pub(super) enum Distrust {
    Missing,
    Incomplete(&'static str),
    UnknownKey,
    Signature,
    Time(String),
    Expired,
}

/// Seconds since the epoch, with their fraction.
pub(super) fn epoch(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}

/// Whole seconds since the epoch.
pub(super) fn seconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX))
}

impl Core {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers one request.
    pub(super) fn handle(&self, request: &Request<Bytes>) -> Response<Bytes> {
        let now = self.time.now();
        let authorization = request.headers().contains_key(header::AUTHORIZATION);
        let (mut response, mut record) = match *request.method() {
            Method::POST if wire::is_json(request.headers()) => {
                let operation = wire::operation(request.headers()).unwrap_or_default();
                let mut record = LocalRequest::new("cognito-identity", operation, authorization, now);
                let answer = self.operate(request, operation, now, &mut record);
                let response = match &answer {
                    Ok(value) => wire::success(value),
                    Err(refusal) => refused(refusal, &mut record, wire::refused),
                };
                (response, record)
            }
            Method::POST if wire::content_type(request.headers()).starts_with("application/x-www-form-urlencoded") => {
                let mut record = LocalRequest::new("sts", "", authorization, now);
                let request_id = record.request_id.clone();
                let response = match sts::answer(self, request, now, &mut record) {
                    Ok(body) => body,
                    Err(refusal) => refused(&refusal, &mut record, |refusal| sts::refused(refusal, &request_id)),
                };
                (response, record)
            }
            Method::OPTIONS => (
                wire::preflight(),
                LocalRequest::new("", request.uri().path(), authorization, now),
            ),
            _ => {
                let path = request.uri().path();
                let mut record = LocalRequest::new("", path, authorization, now);
                let response = self.document(request).unwrap_or_else(|| {
                    refused(&Rule::NotFound.into(), &mut record, |_| {
                        wire::response(404, "text/plain", "Not Found")
                    })
                });
                (response, record)
            }
        };
        wire::stamp(&mut response, &record.request_id, now);
        wire::share(&mut response, request.headers());
        record.status = response.status().as_u16();
        self.records.add(record);
        response
    }

    /// A Cognito operation, in the service's order of checks.
    fn operate(
        &self,
        request: &Request<Bytes>,
        operation: &str,
        now: SystemTime,
        record: &mut LocalRequest,
    ) -> Result<serde_json::Value, Refusal> {
        let operation = operations::find(operation).ok_or(Rule::UnknownOperation)?;
        let input = wire::input(request)?;
        if operation.signed {
            let scope = Scope {
                service: "cognito-identity",
                region: Some(&self.settings.region),
            };
            let signer = self.signer(request, &scope, now, record).map_err(distrust)?;
            let caller = match signer {
                Signer::Session(session) => Some(session.arn()),
                Signer::Developer => self
                    .options
                    .denied
                    .contains(operation.name)
                    .then(|| self.settings.developer_arn()),
            };
            if let Some(arn) = caller {
                let pool = input.get("IdentityPoolId").and_then(|id| id.as_str()).unwrap_or("*");
                let resource = self.settings.pool_arn(pool);
                return Err(Rule::AccessDenied.refuse(&[&arn, &operation.name, &resource]));
            }
        } else if self.options.denied.contains(operation.name) {
            return Err(Rule::DeniedByResourcePolicy.refuse(&[&operation.name]));
        }
        super::shapes::check(operation.members, &input)?;
        if self.options.throttling && !self.throttle.admit(operation.name, seconds(now)) {
            return Err(Rule::Throttled.into());
        }
        (operation.run)(&mut Call::new(self, input, now, record))
    }

    /// Who signed `request`, if the signature holds.
    pub(super) fn signer(
        &self,
        request: &Request<Bytes>,
        scope: &Scope<'_>,
        now: SystemTime,
        record: &mut LocalRequest,
    ) -> Result<Signer, Distrust> {
        let headers = request.headers();
        let value = headers.get(header::AUTHORIZATION).ok_or(Distrust::Missing)?;
        let value = value.to_str().map_err(|_| Distrust::Incomplete("it is not ASCII"))?;
        if headers.get_all(header::AUTHORIZATION).iter().nth(1).is_some() {
            return Err(Distrust::Incomplete("it is given twice"));
        }
        let authorization = Authorization::parse(value).map_err(Distrust::Incomplete)?;
        record.access_key_id = Some(authorization.access_key_id.to_owned());
        let token = headers
            .get("x-amz-security-token")
            .map(|token| token.to_str().unwrap_or_default());
        let (signer, secret) = if authorization.access_key_id == self.settings.developer_access_key && token.is_none() {
            (
                Signer::Developer,
                self.settings.developer_secret.expose_secret().to_owned(),
            )
        } else {
            let token = token.ok_or(Distrust::UnknownKey)?;
            let session = self
                .mint
                .open(authorization.access_key_id, token)
                .ok_or(Distrust::UnknownKey)?;
            (
                Signer::Session(Box::new(session)),
                self.mint.secret(authorization.access_key_id),
            )
        };
        verify(request, &authorization, &secret, scope, seconds(now)).map_err(|mismatch| match mismatch {
            Mismatch::Incomplete(what) => Distrust::Incomplete(what),
            Mismatch::Signature => Distrust::Signature,
            Mismatch::Time(how) => Distrust::Time(how),
        })?;
        if let Signer::Session(session) = &signer {
            record.identity_id = Some(session.identity_id.clone());
            record.identity_pool_id = Some(session.pool_id.clone());
            record.principal_tags.clone_from(&session.tags);
            if seconds(now) >= session.expires {
                return Err(Distrust::Expired);
            }
        }
        Ok(signer)
    }

    /// The documents that anyone may read.
    fn document(&self, request: &Request<Bytes>) -> Option<Response<Bytes>> {
        if request.method() != Method::GET {
            return None;
        }
        let document = match request.uri().path() {
            "/.well-known/jwks_uri" => self.keys.jwks(Algorithm::Rs512),
            "/.well-known/openid-configuration" => {
                let base = format!("https://{}", self.settings.issuer_host);
                json!({
                    "issuer": base,
                    "jwks_uri": format!("{}/.well-known/jwks_uri", origin(request).unwrap_or(base)),
                    "response_types_supported": ["token"],
                    "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": ["RS512"],
                })
            }
            path => {
                let host = path.strip_prefix("/issuers/")?.strip_suffix("/.well-known/jwks.json")?;
                self.issuers.get(host)?.jwks()
            }
        };
        let mut response = wire::response(200, "application/json", document.to_string());
        response
            .headers_mut()
            .insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=2592000"));
        Some(response)
    }
}

/// Where this request reached the pool, so that the key set is found there and not at AWS.
fn origin(request: &Request<Bytes>) -> Option<String> {
    let host = request.headers().get(header::HOST)?.to_str().ok()?;
    Some(format!("http://{host}"))
}

fn refused(
    refusal: &Refusal,
    record: &mut LocalRequest,
    form: impl FnOnce(&Refusal) -> Response<Bytes>,
) -> Response<Bytes> {
    record.error = Some(refusal.error());
    record.rule = Some(refusal.id());
    form(refusal)
}

fn distrust(distrust: Distrust) -> Refusal {
    match distrust {
        Distrust::Missing => Rule::MissingAuthentication.into(),
        Distrust::Incomplete(what) => Rule::IncompleteSignature.refuse(&[&what]),
        Distrust::UnknownKey => Rule::UnknownAccessKey.into(),
        Distrust::Signature => Rule::InvalidSignature.into(),
        Distrust::Time(how) => Rule::SignatureTime.refuse(&[&how]),
        Distrust::Expired => Rule::SignerExpired.into(),
    }
}
