//! The requests of a refresh, and what their answers mean. Pure.

use std::time::{Duration, SystemTime};

use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::http::Headers;
use aws_smithy_types::DateTime;
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::date_time::Format;
use hmac::{Hmac, KeyInit, Mac};
use http::Uri;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::json;
use sha2::Sha256;
use zeroize::Zeroizing;

use super::token_store::RefreshToken;
use crate::error::{Error, ErrorKind};

const SERVICE: &str = "AWSCognitoIdentityProviderService";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    OAuth2,
    GetTokens,
    InitiateAuth,
}

pub(super) enum Secret {
    None,
    Header(SecretString),
    Body(SecretString),
}

impl Secret {
    fn text(&self) -> Option<&str> {
        match self {
            Self::None => None,
            Self::Header(secret) | Self::Body(secret) => Some(secret.expose_secret()),
        }
    }
}

pub(super) struct Endpoint {
    pub(super) url: Uri,
    pub(super) protocol: Protocol,
    pub(super) client_id: String,
    pub(super) secret: Secret,
    pub(super) scope: Option<String>,
    pub(super) provider: Option<String>,
    pub(super) username: Option<String>,
    pub(super) device_key: Option<String>,
}

pub(super) struct Granted {
    pub(super) id_token: SecretString,
    /// `None`: the one that was used stays good.
    pub(super) refresh_token: Option<RefreshToken>,
    pub(super) server_date: Option<SystemTime>,
}

/// Why there is no new ID token.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The refresh token is refused: revoked, expired, used before.
    Token(Error),
    Other(Error),
}

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Token(error) | Refusal::Other(error) => error,
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// An answer's members, of both protocols.
#[derive(Deserialize)]
struct Answer {
    id_token: Option<SecretString>,
    refresh_token: Option<SecretString>,
    error: Option<String>,
    #[serde(rename = "AuthenticationResult")]
    result: Option<AuthenticationResult>,
    #[serde(rename = "ChallengeName")]
    challenge: Option<String>,
    #[serde(rename = "__type")]
    code: Option<String>,
    #[serde(alias = "Message")]
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AuthenticationResult {
    id_token: Option<SecretString>,
    refresh_token: Option<SecretString>,
}

impl Endpoint {
    /// Host and port, which are no secret.
    pub(super) fn host(&self) -> &str {
        self.url.authority().map_or("", |authority| authority.as_str())
    }

    pub(super) fn request(&self, token: &RefreshToken) -> Result<HttpRequest, Error> {
        let (content_type, target, body) = match self.protocol {
            Protocol::OAuth2 => ("application/x-www-form-urlencoded", None, self.form(token)),
            Protocol::GetTokens => (
                "application/x-amz-json-1.1",
                Some("GetTokensFromRefreshToken"),
                self.get_tokens(token),
            ),
            Protocol::InitiateAuth => (
                "application/x-amz-json-1.1",
                Some("InitiateAuth"),
                self.initiate_auth(token)?,
            ),
        };
        let invalid = |_| {
            Error::new(
                ErrorKind::Configuration,
                "the request to the token endpoint cannot be built",
            )
        };
        let mut request = http::Request::post(self.url.clone())
            .header(CONTENT_TYPE, content_type)
            .header(ACCEPT, "application/json")
            .header(
                USER_AGENT,
                concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")),
            );
        if let Some(target) = target {
            request = request.header("x-amz-target", format!("{SERVICE}.{target}"));
        }
        if let (Protocol::OAuth2, Secret::Header(secret)) = (self.protocol, &self.secret) {
            let pair = Zeroizing::new(format!(
                "{}:{}",
                encoded(&self.client_id),
                encoded(secret.expose_secret())
            ));
            let basic = Zeroizing::new(format!(
                "Basic {}",
                base64_simd::STANDARD.encode_to_string(pair.as_bytes())
            ));
            let mut basic = HeaderValue::from_str(&basic).map_err(|error| invalid(error.into()))?;
            basic.set_sensitive(true);
            request = request.header(AUTHORIZATION, basic);
        }
        let request = request.body(SdkBody::from(body.as_slice())).map_err(invalid)?;
        HttpRequest::try_from(request).map_err(|_| {
            Error::new(
                ErrorKind::Configuration,
                "the request to the token endpoint cannot be built",
            )
        })
    }

    fn form(&self, token: &RefreshToken) -> Zeroizing<Vec<u8>> {
        let mut form = Zeroizing::new(String::from("grant_type=refresh_token"));
        let mut add = |name: &str, value: &str| {
            form.push('&');
            form.push_str(name);
            form.push('=');
            form.extend(utf8_percent_encode(value, NON_ALPHANUMERIC));
        };
        add("refresh_token", token.expose());
        // With HTTP Basic authentication the client is named there.
        if !matches!(self.secret, Secret::Header(_)) {
            add("client_id", &self.client_id);
        }
        if let Secret::Body(secret) = &self.secret {
            add("client_secret", secret.expose_secret());
        }
        if let Some(scope) = &self.scope {
            add("scope", scope);
        }
        Zeroizing::new(form.as_bytes().to_vec())
    }

    fn get_tokens(&self, token: &RefreshToken) -> Zeroizing<Vec<u8>> {
        let mut request = json!({ "RefreshToken": token.expose(), "ClientId": self.client_id });
        if let Some(secret) = self.secret.text() {
            request["ClientSecret"] = secret.into();
        }
        if let Some(key) = &self.device_key {
            request["DeviceKey"] = key.as_str().into();
        }
        Zeroizing::new(request.to_string().into_bytes())
    }

    fn initiate_auth(&self, token: &RefreshToken) -> Result<Zeroizing<Vec<u8>>, Error> {
        let mut parameters = json!({ "REFRESH_TOKEN": token.expose() });
        if let Some(secret) = self.secret.text() {
            let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())
                .map_err(|_| Error::new(ErrorKind::Configuration, "the client secret cannot be a key"))?;
            mac.update(self.username.as_deref().unwrap_or_default().as_bytes());
            mac.update(self.client_id.as_bytes());
            let hash = base64_simd::STANDARD.encode_to_string(mac.finalize().into_bytes());
            parameters["SECRET_HASH"] = hash.into();
        }
        if let Some(key) = &self.device_key {
            parameters["DEVICE_KEY"] = key.as_str().into();
        }
        let request = json!({
            "AuthFlow": "REFRESH_TOKEN_AUTH", "ClientId": self.client_id, "AuthParameters": parameters,
        });
        Ok(Zeroizing::new(request.to_string().into_bytes()))
    }

    /// What an answer that came at `now` means.
    pub(super) fn read(
        &self,
        status: u16,
        headers: &Headers,
        body: &[u8],
        now: SystemTime,
    ) -> Result<Granted, Refusal> {
        let server_date = date(headers, "date");
        let retry_after = || retry_after(headers, server_date.unwrap_or(now));
        let failed = |kind, what: &str| {
            let message = format!("the token endpoint at {} {what} (HTTP status {status})", self.host());
            Refusal::Other(Error::new(kind, message).with_retry_after(retry_after()))
        };
        let answer: Option<Answer> = serde_json::from_slice(body).ok();
        if status == 429 {
            return Err(failed(ErrorKind::Throttled, "limits how often it is asked"));
        }
        if status == 408 || status >= 500 {
            return Err(failed(ErrorKind::Service, "failed"));
        }
        let Some(answer) = answer else {
            return Err(failed(
                ErrorKind::InvalidResponse,
                "answered with something that is not its JSON",
            ));
        };
        let header = headers.get("x-amzn-errortype").map(str::to_owned);
        let code = header.or(answer.code);
        if let Some(code) = code.filter(|_| self.protocol != Protocol::OAuth2) {
            let code = code.split(':').next().unwrap_or_default();
            let code = code.rsplit('#').next().unwrap_or_default();
            return Err(self.refused_by_user_pool(code, answer.message.as_deref().unwrap_or_default()));
        }
        if let Some(error) = answer.error {
            return Err(self.refused_by_server(&error));
        }
        if !(200..300).contains(&status) {
            return Err(failed(ErrorKind::InvalidResponse, "answered without saying why"));
        }
        if answer.challenge.is_some() {
            return Err(signed_out(
                "the user pool wants the user to do something first (a challenge)",
            ));
        }
        let (id_token, refresh_token) = match answer.result {
            Some(result) => (result.id_token, result.refresh_token),
            None => (answer.id_token, answer.refresh_token),
        };
        let present = |secret: &SecretString| !secret.expose_secret().is_empty();
        let Some(id_token) = id_token.filter(present) else {
            let message = format!("the answer of the token endpoint at {} has no ID token", self.host());
            let error = Error::new(ErrorKind::Configuration, message);
            return Err(Refusal::Other(error.with_hint(
                "the refresh token has to be one of a sign-in with the scope `openid`",
            )));
        };
        Ok(Granted {
            id_token,
            refresh_token: refresh_token.filter(present).map(RefreshToken),
            server_date,
        })
    }

    /// RFC 6749, section 5.2, and OpenID Connect Core, section 3.1.2.6.
    fn refused_by_server(&self, error: &str) -> Refusal {
        let configuration = |what: &str, hint: &str| {
            let message = format!("the token endpoint at {} {what}", self.host());
            Refusal::Other(
                Error::new(ErrorKind::Configuration, message)
                    .with_hint(hint)
                    .with_code(known(error)),
            )
        };
        match error {
            "invalid_grant" | "bad_refresh_token" => refused_token(known(error)),
            "login_required" | "interaction_required" | "consent_required" | "account_selection_required" => {
                signed_out("the token endpoint wants the user to sign in again")
            }
            "temporarily_unavailable" | "server_error" => Refusal::Other(Error::new(
                ErrorKind::Service,
                format!("the token endpoint at {} is not available for the moment", self.host()),
            )),
            "slow_down" => Refusal::Other(Error::new(
                ErrorKind::Throttled,
                format!("the token endpoint at {} limits how often it is asked", self.host()),
            )),
            "invalid_client" => configuration("does not accept the client", "check client id and client secret"),
            "unauthorized_client" | "unsupported_grant_type" => configuration(
                "does not allow the client to refresh",
                "allow the grant type refresh_token to the client",
            ),
            "invalid_scope" => configuration("refuses the scope", "ask for no more than the sign-in was granted"),
            _ => configuration("refuses the request", "see the log of the provider"),
        }
    }

    fn refused_by_user_pool(&self, code: &str, message: &str) -> Refusal {
        let failed = |kind, what: &str, hint: &str| {
            let error = Error::new(kind, format!("the user pool {what}")).with_code(code);
            Refusal::Other(if hint.is_empty() { error } else { error.with_hint(hint) })
        };
        match code {
            // "SecretHash does not match for the client: …", "Client … is configured with secret but …"
            "NotAuthorizedException" if message.to_ascii_lowercase().contains("secret") => failed(
                ErrorKind::Configuration,
                "does not accept the client",
                "check the client secret",
            ),
            "NotAuthorizedException" | "RefreshTokenReuseException" => refused_token(code),
            "UserNotFoundException" | "UserNotConfirmedException" | "PasswordResetRequiredException" => {
                signed_out("the user pool wants the user to sign in again")
            }
            "TooManyRequestsException" | "LimitExceededException" | "ThrottlingException" => {
                failed(ErrorKind::Throttled, "limits how often it is asked", "")
            }
            "InternalErrorException" | "InternalServerError" | "ServiceUnavailable" => {
                failed(ErrorKind::Service, "failed", "")
            }
            "ResourceNotFoundException" => failed(
                ErrorKind::Configuration,
                "or its app client does not exist",
                "check the id of the user pool, its region, and the client id",
            ),
            "UnknownOperationException" | "UnknownOperation" => failed(
                ErrorKind::Configuration,
                "does not know GetTokensFromRefreshToken",
                "an emulator may know RefreshTokenLoginsBuilder::initiate_auth alone",
            ),
            "InvalidParameterException" | "UnsupportedTokenTypeException" | "UnsupportedOperationException" => failed(
                ErrorKind::Configuration,
                "refuses the request",
                "initiate_auth needs ALLOW_REFRESH_TOKEN_AUTH, and does not go with rotation; a client with a secret needs it here",
            ),
            _ => failed(ErrorKind::Configuration, "refuses the request", ""),
        }
    }
}

fn refused_token(code: &str) -> Refusal {
    let error = Error::new(
        ErrorKind::SignedOut,
        "the refresh token was refused: it was revoked, has expired, or was used before",
    );
    Refusal::Token(error.with_code(code))
}

fn signed_out(message: &str) -> Refusal {
    Refusal::Other(Error::new(ErrorKind::SignedOut, message))
}

/// An error code as it may be shown: the registered ones alone.
fn known(error: &str) -> &'static str {
    const KNOWN: [&str; 8] = [
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "bad_refresh_token",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
        "invalid_target",
    ];
    KNOWN
        .into_iter()
        .find(|known| *known == error)
        .unwrap_or("another error")
}

fn encoded(text: &str) -> impl std::fmt::Display + '_ {
    utf8_percent_encode(text, NON_ALPHANUMERIC)
}

fn date(headers: &Headers, name: &str) -> Option<SystemTime> {
    let date = DateTime::from_str(headers.get(name)?, Format::HttpDate).ok()?;
    SystemTime::try_from(date).ok()
}

fn retry_after(headers: &Headers, now: SystemTime) -> Option<Duration> {
    match headers.get("retry-after")?.trim().parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => Some(date(headers, "retry-after")?.duration_since(now).unwrap_or_default()),
    }
}
