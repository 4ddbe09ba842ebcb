//! IAM's policy language, as far as a role's trust and the policy of a session speak it: read, refused, or judged.
//! Written from the IAM User Guide (the pages on the policy elements, the condition operators, set operators and policy
//! variables).
//!
//! ```text
//! document.rs   JSON -> Policy, or what IAM answers to a policy that it does not save
//! condition.rs  one condition: operator, key, values
//! template.rs   text with policy variables and wildcards
//! value.rs      dates, numbers, addresses, ARNs, binary values
//! context.rs    what is known of a request: key -> values
//! ```

mod condition;
mod context;
mod document;
mod template;
#[cfg(test)]
mod tests;
mod value;

use std::fmt;

use condition::Condition;
pub(super) use context::{Context, Peer};
pub(super) use document::{Malformed, session, trust};

/// A policy that IAM would save and that this pool can judge.
#[derive(Clone, Debug)]
pub(super) struct Policy {
    statements: Vec<Statement>,
}

#[derive(Clone, Debug)]
struct Statement {
    sid: Option<String>,
    allows: bool,
    principal: Principals,
    action: Actions,
    conditions: Vec<Condition>,
}

/// `Principal` or `NotPrincipal`.
#[derive(Clone, Debug)]
struct Principals {
    negated: bool,
    /// `{"AWS": "*"}`
    everyone: bool,
    federated: Vec<String>,
}

/// `Action` or `NotAction`, in lower case: actions do not distinguish it.
#[derive(Clone, Debug)]
struct Actions {
    negated: bool,
    patterns: Vec<String>,
}

/// What a policy says to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Allowed,
    /// A statement denies it.
    Denied(Reason),
    /// No statement allows it: for each that could, what kept it from applying.
    NotAllowed(Vec<Reason>),
}

/// A statement, and what about it decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reason {
    /// The statement's Sid, or else its number from 1.
    statement: String,
    what: String,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "statement {}: {}", self.statement, self.what)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allowed => f.write_str("allowed"),
            Self::Denied(reason) => write!(f, "denied by {reason}"),
            Self::NotAllowed(reasons) if reasons.is_empty() => f.write_str("the policy has no Allow statement"),
            Self::NotAllowed(reasons) => {
                let reasons: Vec<String> = reasons.iter().map(ToString::to_string).collect();
                write!(f, "no statement allows it ({})", reasons.join("; "))
            }
        }
    }
}

impl Policy {
    /// Whether the federated `principal` may do `action`: yes if a statement allows it and none denies it.
    pub(super) fn judge(&self, principal: &str, action: &str, context: &Context) -> Verdict {
        let mut reasons = Vec::new();
        let mut allowed = false;
        for (index, statement) in self.statements.iter().enumerate() {
            let reason = |what: String| Reason {
                statement: statement.sid.clone().unwrap_or_else(|| (index + 1).to_string()),
                what,
            };
            match (statement.differs(principal, action, context), statement.allows) {
                (None, false) => return Verdict::Denied(reason(format!("Deny of {action} applies"))),
                (None, true) => allowed = true,
                (Some(what), true) => reasons.push(reason(what)),
                (Some(_), false) => {}
            }
        }
        match allowed {
            true => Verdict::Allowed,
            false => Verdict::NotAllowed(reasons),
        }
    }

    /// Whether every statement that allows something to `principal` names all of `keys` in its conditions.
    pub(super) fn requires(&self, principal: &str, keys: &[String]) -> bool {
        let mut allowing = self
            .statements
            .iter()
            .filter(|statement| statement.allows && statement.principal.includes(principal));
        allowing.all(|statement| {
            keys.iter()
                .all(|key| statement.conditions.iter().any(|condition| condition.key() == key))
        })
    }
}

impl Statement {
    /// Why the statement does not apply to a request; nothing if it does.
    fn differs(&self, principal: &str, action: &str, context: &Context) -> Option<String> {
        if !self.principal.includes(principal) {
            return Some(format!("its principal is not {principal}"));
        }
        if !self.action.includes(action) {
            return Some(format!("it is not about {action}"));
        }
        let failed = self.conditions.iter().find(|condition| !condition.holds(context));
        failed.map(|condition| format!("{condition} does not hold"))
    }
}

impl Principals {
    fn includes(&self, principal: &str) -> bool {
        (self.everyone || self.federated.iter().any(|federated| federated == principal)) != self.negated
    }
}

impl Actions {
    fn includes(&self, action: &str) -> bool {
        let action = action.to_ascii_lowercase();
        let matches = |pattern: &String| template::matches_wildcards(pattern, &action);
        self.patterns.iter().any(matches) != self.negated
    }
}
