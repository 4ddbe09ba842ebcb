//! From a request to its response: protocol, operation, credentials, faults, record.

use std::time::SystemTime;

use aws_smithy_async::rt::sleep::{AsyncSleep, SharedAsyncSleep};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header};
use serde_json::{Value, json};

use super::answer::{Answer, Content};
use super::clock::{epoch, seconds};
use super::faults::{Cut, LocalFault};
use super::operations::{self, Call, sign_in};
use super::pool_service::{Distrust, PoolService, Signer};
use super::record::LocalRequest;
use super::rules::{Refusal, Rule};
use super::sessions::{Minted, Session};
use super::sigv4::Scope;
use super::tokens::Algorithm;
use super::{admin, advice, diagnosis, page, shapes, sts, wire};

/// How a request speaks, and what it asks for.
enum Spoken<'a> {
    Json { operation: &'a str },
    Query(sts::Form),
    Plain,
}

impl<'a> Spoken<'a> {
    fn new(request: &'a Request<Bytes>) -> Self {
        let headers = request.headers();
        // Both services have one path.
        let posted = request.method() == Method::POST && matches!(request.uri().path(), "/" | "");
        if posted && wire::is_json(headers) {
            Self::Json {
                operation: wire::operation(headers).unwrap_or_default(),
            }
        } else if posted && sts::is_form(headers) {
            Self::Query(sts::Form::parse(request.body()))
        } else if let Some(form) = sts::in_query(request) {
            Self::Query(form)
        } else {
            Self::Plain
        }
    }
}

impl PoolService {
    /// Answers one request, unless a fault cuts the connection.
    pub(super) async fn respond(
        &self,
        request: &Request<Bytes>,
        sleep: Option<SharedAsyncSleep>,
    ) -> Result<Response<Bytes>, Cut> {
        if let Some(response) = page::answer(request).or_else(|| admin::answer(self, request)) {
            return Ok(response);
        }
        let now = self.now();
        let authorization = request.headers().contains_key(header::AUTHORIZATION);
        let spoken = Spoken::new(request);
        let (service, operation) = match &spoken {
            Spoken::Json { operation } => ("cognito-identity", *operation),
            Spoken::Query(form) => ("sts", form.action()),
            Spoken::Plain => ("", request.uri().path()),
        };
        let mut record = LocalRequest::new(service, operation, authorization, now);
        let fault = self.faults.next(operation);
        match &fault {
            Some(LocalFault::Latency(wait)) => {
                if let Some(sleep) = sleep {
                    sleep.sleep(*wait).await;
                }
            }
            Some(LocalFault::Hang) => {
                self.unanswered(record);
                return std::future::pending().await;
            }
            Some(LocalFault::ConnectionReset) => {
                self.unanswered(record);
                return Err(Cut::Reset);
            }
            Some(LocalFault::RotateKeys { keep_old }) => {
                self.keys.rotate(*keep_old);
                self.changed();
            }
            _ => {}
        }
        let answer = match &fault {
            Some(LocalFault::Refuse(error)) => Err(refusal(error)),
            Some(LocalFault::Status(status)) => Ok(Answer::plain(wire::response(*status, "text/plain", ""))),
            _ => self.decide(request, &spoken, now, &mut record),
        };
        let content = match answer {
            Ok(Answer::Credentials(session)) => self.make(*session, &spoken, &mut record).await,
            Ok(Answer::Ready(content)) => Ok(content),
            Err(refusal) => Err(refusal),
        };
        let mut response = match content {
            Ok(Content::Plain(response)) => response,
            Ok(Content::Json(mut value)) => {
                if let Some(fault) = &fault {
                    fault.alter(&mut value, epoch(now), || operations::new_id(self));
                }
                wire::success(&value)
            }
            Ok(Content::Xml(mut result)) => {
                if let Some(fault) = &fault {
                    fault.alter_xml(&mut result, seconds(now), || operations::new_id(self));
                }
                sts::success(operation, &result, &record.request_id)
            }
            Err(refusal) => {
                record.error = Some(refusal.error());
                record.rule = Some(refusal.id());
                record.why = refusal
                    .why
                    .clone()
                    .or_else(|| diagnosis::why(self, refusal.id(), request.body(), &record, seconds(now)));
                record.advice = advice::of(refusal.id());
                match &spoken {
                    Spoken::Json { .. } => wire::refused(&refusal),
                    Spoken::Query(_) => sts::refused(&refusal, &record.request_id),
                    Spoken::Plain => wire::response(refusal.status(), "text/plain", refusal.message),
                }
            }
        };
        if let Some(fault) = &fault {
            fault.distort(&mut response);
        }
        wire::stamp(&mut response, &record.request_id, now);
        wire::explain(&mut response, &record);
        if self.settings.cors {
            wire::share(&mut response, request.headers());
        }
        record.status = response.status().as_u16();
        if record.error.is_none() && operations::may_change(operation) {
            self.changed();
        }
        self.records.add(record);
        match fault {
            Some(LocalFault::HalfResponse) => Err(Cut::half(&response)),
            _ => Ok(response),
        }
    }

    /// Keeps a request that never got an answer.
    fn unanswered(&self, mut record: LocalRequest) {
        record.status = 0;
        self.records.add(record);
    }

    fn decide(
        &self,
        request: &Request<Bytes>,
        spoken: &Spoken<'_>,
        now: SystemTime,
        record: &mut LocalRequest,
    ) -> Result<Answer, Refusal> {
        match spoken {
            Spoken::Json { operation } => self.operate(request, operation, now, record),
            Spoken::Query(form) => sts::answer(self, request, form, now, record),
            Spoken::Plain if request.method() == Method::OPTIONS && self.settings.cors => {
                Ok(Answer::plain(wire::preflight()))
            }
            Spoken::Plain => self
                .document(request)
                .map(Answer::plain)
                .ok_or_else(|| Rule::NotFound.into()),
        }
    }

    /// A Cognito operation, in the service's order of checks.
    fn operate(
        &self,
        request: &Request<Bytes>,
        operation: &str,
        now: SystemTime,
        record: &mut LocalRequest,
    ) -> Result<Answer, Refusal> {
        let operation = operations::find(operation).ok_or(Rule::UnknownOperation)?;
        let input = wire::input(request)?;
        let denied = self.options.denied.contains(operation.name);
        if operation.signed {
            let scope = Scope {
                service: "cognito-identity",
                region: Some(&self.settings.region),
            };
            let caller = match self.signer(request, &scope, now, record).map_err(distrust)? {
                Signer::Session(session) => Some(session.arn()),
                Signer::Developer => denied.then(|| self.settings.developer_arn()),
            };
            if let Some(arn) = caller {
                let pool = input.get("IdentityPoolId").and_then(Value::as_str).unwrap_or("*");
                let resource = self.settings.pool_arn(pool);
                return Err(Rule::AccessDenied.refuse(&[&arn, &operation.name, &resource]));
            }
        } else if denied {
            return Err(Rule::DeniedByResourcePolicy.refuse(&[&operation.name]));
        }
        shapes::check(operation.members, &input)?;
        if !self.throttle.admit(operation.name, seconds(now)) {
            return Err(Rule::Throttled.into());
        }
        (operation.run)(&mut Call::new(self, input, now, record))
    }

    /// Makes the credentials of a session, here or where the pool was told to get them.
    async fn make(&self, session: Session, spoken: &Spoken<'_>, record: &mut LocalRequest) -> Result<Content, Refusal> {
        let minted = match &self.upstream {
            None => self
                .mint
                .mint(&session)
                .ok_or_else(|| Rule::Internal.refuse(&[&"no credentials were made"]))?,
            Some(upstream) => {
                let request = session.assume_role(epoch(record.at));
                let credentials = upstream(request).await.map_err(|error| {
                    tracing::warn!(error = %error, "the server behind the pool gave no credentials");
                    Refusal::from(Rule::PoolConfiguration)
                })?;
                Minted::from(credentials)
            }
        };
        record.issued_access_key_id = Some(minted.access_key_id.clone());
        Ok(match spoken {
            Spoken::Query(_) => Content::Xml(sts::credentials(self, &session, &minted)),
            _ => Content::Json(sign_in::credentials(&session.identity_id, &minted)),
        })
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
                self.issuers.get(host)?.jwks()?
            }
        };
        let mut response = wire::response(200, "application/json", document.to_string());
        response
            .headers_mut()
            .insert(header::CACHE_CONTROL, HeaderValue::from_static("max-age=2592000"));
        Some(response)
    }
}

/// The refusal with an error type, as a fault. The type was looked up when the fault was made.
fn refusal(error: &str) -> Refusal {
    Rule::of_error(error)
        .unwrap_or(Rule::Internal)
        .refuse(&[&"fault", &"", &"injected"])
}

/// Where this request reached the pool, so that the key set is found there and not at AWS.
fn origin(request: &Request<Bytes>) -> Option<String> {
    let host = request.headers().get(header::HOST)?.to_str().ok()?;
    Some(format!("http://{host}"))
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
