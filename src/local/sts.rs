//! STS in the query protocol: GetCallerIdentity and AssumeRoleWithWebIdentity.

use std::collections::BTreeMap;
use std::time::SystemTime;

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, header};
use percent_encoding::percent_decode_str;

use super::answer::Answer;
use super::clock::seconds;
use super::logins::CognitoToken;
use super::policy::{self, Peer};
use super::pool_service::{Distrust, PoolService, Signer};
use super::record::LocalRequest;
use super::roles::Claimant;
use super::rules::{Refusal, Rule};
use super::sessions::{Minted, Session};
use super::shapes::{Text, lower_camel};
use super::sigv4::Scope;
use super::tokens::{Algorithm, Jwt};
use super::wire::{content_type, response};
use super::{model, shapes};

/// Where requests come from: this machine.
pub(super) const LOOPBACK: &str = "127.0.0.1";

/// The duration of a session unless the call says otherwise.
const DEFAULT_SECONDS: i64 = 3600;

const NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// The parameters of a request; the first of a name counts.
pub(super) struct Form(BTreeMap<String, String>);

impl Form {
    pub(super) fn parse(body: &[u8]) -> Self {
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
        Self(parameters)
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    pub(super) fn action(&self) -> &str {
        self.get("Action").unwrap_or_default()
    }
}

/// Whether a request speaks the query protocol.
pub(super) fn is_form(headers: &HeaderMap) -> bool {
    content_type(headers).starts_with("application/x-www-form-urlencoded")
}

/// The parameters of a request that has them in its query: STS takes both methods.
pub(super) fn in_query(request: &Request<Bytes>) -> Option<Form> {
    let query = request.uri().query().unwrap_or_default();
    let form = Form::parse(query.as_bytes());
    (request.method() == Method::GET && request.uri().path() == "/" && !form.action().is_empty()).then_some(form)
}

/// Answers a request to STS.
pub(super) fn answer(
    service: &PoolService,
    request: &Request<Bytes>,
    form: &Form,
    now: SystemTime,
    record: &mut LocalRequest,
) -> Result<Answer, Refusal> {
    match form.action() {
        "GetCallerIdentity" => caller_identity(service, request, now, record).map(Answer::xml),
        "AssumeRoleWithWebIdentity" => assume_role(service, request, form, now, record),
        action => Err(Rule::StsUnknownAction.refuse(&[&action, &form.get("Version").unwrap_or_default()])),
    }
}

/// An answer in STS's form.
pub(super) fn success(action: &str, result: &str, request_id: &str) -> Response<Bytes> {
    let body = format!(
        "<{action}Response xmlns=\"{NAMESPACE}\"><{action}Result>{result}</{action}Result>\
         <ResponseMetadata><RequestId>{request_id}</RequestId></ResponseMetadata></{action}Response>"
    );
    response(200, "text/xml", body)
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
    service: &PoolService,
    request: &Request<Bytes>,
    now: SystemTime,
    record: &mut LocalRequest,
) -> Result<String, Refusal> {
    let scope = Scope {
        service: "sts",
        region: None,
    };
    let account = &service.settings.account_id;
    let (arn, user_id, account) = match service.signer(request, &scope, now, record).map_err(distrust)? {
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

/// Exchanges a token of the pool for credentials of a role that the caller chose.
fn assume_role(
    service: &PoolService,
    request: &Request<Bytes>,
    form: &Form,
    now: SystemTime,
    record: &mut LocalRequest,
) -> Result<Answer, Refusal> {
    let mut broken = Vec::new();
    let mut text = |name: &str, limits: &Text| {
        let value = form.get(name).unwrap_or_default();
        let path = lower_camel(name);
        let report = |constraint: String| shapes::broken(value, &path, &constraint);
        match form.get(name).is_some() {
            true => broken.extend(limits.broken_by(value).into_iter().map(report)),
            false => broken.push(format!(
                "Value null at '{path}' failed to satisfy constraint: Member must not be null"
            )),
        }
        value
    };
    let role_arn = text("RoleArn", &model::sts::ROLE_ARN);
    let session_name = text("RoleSessionName", &model::sts::SESSION_NAME);
    let token = text("WebIdentityToken", &model::sts::TOKEN);
    if form.get("Policy").is_some() {
        text("Policy", &model::sts::POLICY);
    }
    let (shortest, longest) = model::sts::DURATION;
    let duration = match form.get("DurationSeconds") {
        None => DEFAULT_SECONDS,
        Some(given) => match given.parse::<i64>() {
            Ok(seconds) if (shortest..=longest).contains(&seconds) => seconds,
            parsed => {
                let (word, bound) = if parsed.is_ok_and(|seconds| seconds > longest) {
                    ("less", longest)
                } else {
                    ("greater", shortest)
                };
                let constraint = format!("Member must have value {word} than or equal to {bound}");
                broken.push(shapes::broken(given, "durationSeconds", &constraint));
                shortest
            }
        },
    };
    shapes::refuse(Rule::StsConstraint, &broken)?;
    let policy = form.get("Policy");
    if let Some(Err(malformed)) = policy.map(policy::session) {
        return Err(Rule::StsPolicy.refuse(&[&malformed.message]));
    }

    let (at, now) = (now, seconds(now));
    let jwt = Jwt::parse(token).ok_or(Rule::StsNoJwt)?;
    let issuer = jwt.text("iss").to_owned();
    if issuer.strip_prefix("https://") != Some(&service.settings.issuer_host) {
        return Err(Rule::StsNoProvider.refuse(&[&issuer]));
    }
    if !service.keys.verify(&jwt, Algorithm::Rs512) {
        return Err(Rule::StsNoKey.into());
    }
    if now >= jwt.exp().saturating_add(service.options.token_grace) {
        return Err(Rule::StsTokenExpired.refuse(&[&now, &jwt.exp()]));
    }
    let CognitoToken { sub, aud, amr, tags } = CognitoToken::new(&jwt);
    record.identity_id = Some(sub.clone());
    record.identity_pool_id = Some(aud.clone());
    let user_agent = request.headers().get(header::USER_AGENT);
    let user_agent = user_agent.and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let enhanced_only = service
        .state()
        .pool(&aud)
        .is_ok_and(|pool| pool.settings.allow_classic_flow == Some(false));
    if service.options.refuse_classic_exchange && enhanced_only {
        return Err(Refusal::from(Rule::StsAccessDenied).because("the pool does not allow the classic flow"));
    }
    let claimant = Claimant {
        partition: &service.settings.partition,
        region: &service.settings.region,
        account_id: &service.settings.account_id,
        now: at,
        peer: Peer {
            source_ip: LOOPBACK,
            user_agent,
        },
        session_name,
        aud: &aud,
        sub: &sub,
        amr: &amr,
        tags: &tags,
    };
    service.roles.admit(role_arn, &claimant)?;
    if duration > service.roles.max_session(role_arn) {
        return Err(Rule::StsDuration.into());
    }

    record.principal_tags.clone_from(&tags);
    let session = Session {
        role_arn: role_arn.to_owned(),
        session_name: session_name.to_owned(),
        identity_id: sub,
        pool_id: aud,
        tags,
        expires: now.saturating_add(duration),
    };
    Ok(Answer::Credentials(Box::new(session)))
}

/// The result of AssumeRoleWithWebIdentity.
pub(super) fn credentials(service: &PoolService, session: &Session, minted: &Minted) -> String {
    let expiration = DateTime::from_secs(minted.expires)
        .fmt(Format::DateTime)
        .unwrap_or_default();
    format!(
        "<SubjectFromWebIdentityToken>{}</SubjectFromWebIdentityToken><Audience>{}</Audience>\
         <AssumedRoleUser><Arn>{}</Arn><AssumedRoleId>{}</AssumedRoleId></AssumedRoleUser>\
         <Credentials><SessionToken>{}</SessionToken><SecretAccessKey>{}</SecretAccessKey>\
         <Expiration>{expiration}</Expiration><AccessKeyId>{}</AccessKeyId></Credentials><Provider>{}</Provider>",
        escape(&session.identity_id),
        escape(&session.pool_id),
        escape(&session.arn()),
        escape(&session.user_id()),
        escape(&minted.session_token),
        escape(&minted.secret_access_key),
        escape(&minted.access_key_id),
        escape(&service.settings.issuer_host),
    )
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
