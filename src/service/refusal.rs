//! What a service's refusal means and what may be done about it. A table, pure: from the error's type, then its message, then
//! what can be seen locally.

mod table;
#[cfg(test)]
mod tests;

use std::time::{Duration, SystemTime};

use super::facts::{Facts, Finding, LoginClaims, findings};
use crate::error::{Cause, CauseKind, Error, ErrorKind};
use crate::ids::IdentityPoolId;
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
                row.meaning = "the identity does not exist, or no longer exists";
                row.causes = &[(CauseKind::IdentityDeleted, "the service does not find it")];
            } else {
                row.kind = ErrorKind::Configuration;
                row.meaning = "the identity pool does not exist, or what was asked of it does not";
                row.hint = "check the pool id, and that the region is that of the pool";
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
        // If Cognito cannot verify what it issued itself, the fault is its own: valid credentials stay in use.
        Remedy::NewToken
            if row
                .causes
                .iter()
                .any(|(kind, _)| *kind == CauseKind::SignatureNotVerified) =>
        {
            row.passes = facts.logins.iter().any(LoginClaims::is_issued_by_cognito);
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
            format!("the local clock is {} s {how} the service's", apart.as_secs()),
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
