//! What a service's refusal means and what may be done about it. A table, pure: from the error's type, then its message, then
//! what can be seen locally.

mod table;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use aws_smithy_runtime_api::client::interceptors::context::InterceptorContext;
use aws_smithy_runtime_api::client::retries::classifiers::{
    ClassifyRetry, RetryAction, RetryClassifierPriority, RetryReason,
};
use aws_smithy_types::retry::ErrorKind as RetryKind;

use super::explain::{Finding, findings};
use crate::error::{Cause, CauseKind, Error, ErrorKind};
use crate::ids::{IdentityId, IdentityPoolId};
use crate::token::TokenClaims;
use table::{Row, lookup};

/// The operation of STS that the classic flow uses: its refusals have rows of their own.
pub(crate) const ASSUME_ROLE: &str = "AssumeRoleWithWebIdentity";

/// A refusal, and what may mend it within the same exchange.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    pub(crate) error: Error,
    pub(crate) remedy: Remedy,
}

/// What may be tried, once, before a refusal is final.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remedy {
    /// Nothing: it is final, or passes by itself.
    None,
    /// A new token for the same identity.
    NewToken,
    /// The identity is gone, merged or somebody else's: ask anew who the user is.
    NewIdentity,
    /// As `NewIdentity`, but only if the identity id came from a store, which may be corrupt.
    NewIdentityIfStored,
}

impl Refused {
    pub(crate) fn map_error(self, change: impl FnOnce(Error) -> Error) -> Self {
        Self {
            error: change(self.error),
            remedy: self.remedy,
        }
    }
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self {
            error,
            remedy: Remedy::None,
        }
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        refused.error
    }
}

/// What is known locally about a request that was refused.
pub(crate) struct Facts<'a> {
    pub(super) logins: Vec<Shown>,
    pub(super) identity_id: Option<&'a IdentityId>,
    /// The region that is asked, where it is known to be another than the pool's.
    pub(super) region: Option<&'a str>,
    pub(super) now: SystemTime,
}

/// An entry of a logins map, without the token.
pub(super) struct Shown {
    pub(super) provider: String,
    /// `None` if the token is no JWT.
    pub(super) claims: Option<TokenClaims>,
    pub(super) empty: bool,
}

impl<'a> Facts<'a> {
    pub(crate) fn new(logins: Vec<(&str, &str)>, identity_id: Option<&'a IdentityId>, now: SystemTime) -> Self {
        Self::of(logins, identity_id, now)
    }

    pub(super) fn of<P: AsRef<str>, T: AsRef<str>>(
        logins: impl IntoIterator<Item = (P, T)>,
        identity_id: Option<&'a IdentityId>,
        now: SystemTime,
    ) -> Self {
        let shown = |(provider, token): (P, T)| Shown {
            provider: provider.as_ref().to_owned(),
            claims: TokenClaims::peek(token.as_ref()),
            empty: token.as_ref().trim().is_empty(),
        };
        Self {
            logins: logins.into_iter().map(shown).collect(),
            identity_id,
            region: None,
            now,
        }
    }

    pub(crate) fn none(now: SystemTime) -> Self {
        Self::new(Vec::new(), None, now)
    }

    /// The region that the client asks, if it is set apart from the pool's.
    pub(crate) fn in_region(mut self, region: Option<&'a str>) -> Self {
        self.region = region;
        self
    }
}

/// Decides what an error response means. `message` is the service's own; it can echo a token and goes no further.
pub(crate) fn classify(
    operation: &'static str,
    pool: &IdentityPoolId,
    code: Option<&str>,
    message: &str,
    status: u16,
    facts: Facts<'_>,
) -> Refused {
    let mut row = lookup(operation, code, message, status);
    let mut found = findings(pool, &facts);
    found.extend(clock_findings(&row, message, facts.now));
    sharpen(&mut row, code, &facts, &found);

    let causes = causes(&row, &found);
    let hint = match causes.first() {
        // What was seen here says more than what the refusal means in general.
        Some(first) if !row.certain && found.iter().any(|seen| seen.evidence == first.evidence) => &first.evidence,
        Some(first) if row.hint.is_empty() => &first.evidence,
        _ => row.hint,
    };
    let mut text = format!("{operation}: {}", row.meaning);
    let members = refused_members(code, message);
    if !members.is_empty() {
        text = format!("{text}: {}", members.join(", "));
    }
    let shown = code.unwrap_or("an error without a type");
    let mut error = Error::new(row.kind, format!("{text} ({shown})")).retryable(row.passes);
    if !hint.is_empty() {
        error = error.with_hint(hint);
    }
    if let Some(code) = code {
        error = error.with_code(code);
    }
    Refused {
        error: error.with_causes(causes),
        remedy: match row.remedy {
            // Another identity id does not make the logins longer or the duration shorter.
            Remedy::NewIdentityIfStored if !members.is_empty() && !members.contains(&"identityId") => Remedy::None,
            remedy => remedy,
        },
    }
}

/// Lets what can be seen locally decide where the service's words leave it open.
fn sharpen(row: &mut Row, code: Option<&str>, facts: &Facts<'_>, found: &[Finding]) {
    let saw = |kind| found.iter().any(|seen| seen.kind == kind && seen.sure);
    let forbidden = row.causes.iter().any(|(kind, _)| *kind == CauseKind::IdentityForbidden);
    match row.remedy {
        // The type alone, of an operation that is about one identity.
        Remedy::None if code == Some("ResourceNotFoundException") && row.causes.is_empty() => {
            if facts.identity_id.is_some() {
                row.kind = ErrorKind::IdentityNotFound;
                row.remedy = Remedy::NewIdentity;
                row.meaning = "the identity does not exist (any more)";
                row.causes = &[(CauseKind::IdentityDeleted, "the service does not find it")];
            } else {
                row.kind = ErrorKind::Configuration;
                row.meaning = "the identity pool, or what it was asked for, does not exist";
                row.hint = "check the pool id, and that the region is the pool's";
            }
        }
        // A guest has no login that could be the wrong one, and its id is all there is of it.
        Remedy::NewIdentity if row.kind == ErrorKind::NotAuthorized && facts.logins.is_empty() && !forbidden => {
            row.remedy = Remedy::None;
        }
        Remedy::NewIdentity if row.kind == ErrorKind::NotAuthorized && saw(CauseKind::WrongPool) => {
            row.kind = ErrorKind::Configuration;
            row.remedy = Remedy::None;
            row.meaning = "the login token is for another identity pool";
        }
        Remedy::NewIdentity if row.causes.is_empty() && saw(CauseKind::TokenExpired) => {
            row.remedy = Remedy::NewToken;
            row.meaning = "the login was refused, and its token has expired";
        }
        // A new token of the same issuer would be as wrong.
        Remedy::NewToken if !row.certain && !row.causes.is_empty() && saw(CauseKind::WrongTokenKind) => {
            row.kind = ErrorKind::Configuration;
            row.remedy = Remedy::None;
        }
        // Cognito that cannot verify what it issued itself has trouble of its own: what is still valid is served on.
        Remedy::NewToken
            if row
                .causes
                .iter()
                .any(|(kind, _)| *kind == CauseKind::SignatureNotVerified) =>
        {
            let issued_by_cognito = |shown: &Shown| shown.claims.as_ref()?.cognito_issuer_host().map(drop);
            row.passes = facts.logins.iter().any(|shown| issued_by_cognito(shown).is_some());
        }
        _ => {}
    }
}

/// The causes, the most likely first: what the refusal says outright, what it suggests and can be seen here, what else can be
/// seen here, what it suggests.
fn causes(row: &Row, found: &[Finding]) -> Vec<Cause> {
    let seen = |kind: CauseKind| found.iter().filter(move |seen| seen.kind == kind);
    let named = |kind: CauseKind| row.causes.iter().any(|(named, _)| *named == kind);
    let mut causes = Vec::new();
    let mut unseen = Vec::new();
    for (kind, text) in row.causes {
        let evidence: Vec<_> = seen(*kind).map(Finding::cause).collect();
        match (evidence.is_empty(), row.certain) {
            (true, false) => unseen.push(Cause::new(*kind, *text)),
            (true, true) => causes.push(Cause::new(*kind, *text)),
            _ => causes.extend(evidence),
        }
    }
    if matches!(
        row.kind,
        ErrorKind::NotAuthorized | ErrorKind::Configuration | ErrorKind::IdentityNotFound
    ) {
        causes.extend(
            found
                .iter()
                .filter(|seen| seen.sure && !named(seen.kind))
                .map(Finding::cause),
        );
    }
    causes.extend(unseen);
    causes
}

/// The service tells its own clock when it says that a token has expired.
fn clock_findings(row: &Row, message: &str, now: SystemTime) -> Vec<Finding> {
    if row
        .causes
        .first()
        .is_none_or(|(kind, _)| *kind != CauseKind::TokenExpired)
    {
        return Vec::new();
    }
    let numbers = message.split(|c: char| !c.is_ascii_digit());
    let mut times = numbers
        .filter(|digits| matches!(digits.len(), 9..=11))
        .filter_map(|digits| digits.parse().ok());
    let (Some(service), Some(expired)) = (times.next(), times.next()) else {
        return Vec::new();
    };
    let at = |seconds: u64| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
    let mut found = Vec::new();
    if service >= expired {
        found.push(Finding::suspected(
            CauseKind::TokenExpired,
            format!("by the service's clock the token expired {} s ago", service - expired),
        ));
    }
    let apart = at(service).map(|service| match service.duration_since(now) {
        Ok(behind) => (behind, "behind"),
        Err(ahead) => (ahead.duration(), "ahead of"),
    });
    if let Some((apart, how)) = apart.filter(|(apart, _)| *apart > Duration::from_secs(60)) {
        found.push(Finding::sure(
            CauseKind::ClockSkew,
            format!("this clock is {} s {how} the service's", apart.as_secs()),
        ));
    }
    found
}

/// The members that a `ValidationException` names. Its message holds their values, too, and those may be secret.
fn refused_members(code: Option<&str>, message: &str) -> Vec<&'static str> {
    const MEMBERS: [&str; 13] = [
        "identityPoolId",
        "identityId",
        "logins",
        "accountId",
        "customRoleArn",
        "tokenDuration",
        "principalTags",
        "developerProviderName",
        "developerUserIdentifier",
        "sourceUserIdentifier",
        "destinationUserIdentifier",
        "identityIdsToDelete",
        "maxResults",
    ];
    if code != Some("ValidationException") {
        return Vec::new();
    }
    MEMBERS
        .into_iter()
        .filter(|member| message.contains(&format!(" at '{member}' failed to satisfy constraint")))
        .collect()
}

/// Tells the SDK which refusals pass that it does not retry by itself (`ExternalServiceException`,
/// `ConcurrentModificationException`, STS that could not fetch a key), and that `LimitExceededException`, which it takes for
/// throttling, does not.
#[derive(Debug)]
pub(crate) struct WhatPasses;

impl ClassifyRetry for WhatPasses {
    fn classify_retry(&self, context: &InterceptorContext) -> RetryAction {
        let Some((code, message)) = said(context) else {
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
        "Cognito identity refusals"
    }

    fn priority(&self) -> RetryClassifierPriority {
        RetryClassifierPriority::run_after(RetryClassifierPriority::transient_error_classifier())
    }
}

/// Type and message of an error response. They are read from the response itself: the SDK's errors are of another type for each
/// operation, and those that are modelled do not tell their code through their sources.
fn said(context: &InterceptorContext) -> Option<(String, String)> {
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
