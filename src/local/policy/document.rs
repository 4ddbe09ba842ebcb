//! From JSON to a policy, or to what IAM answers to a document that it does not save.

use std::collections::BTreeSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::condition::Condition;
use super::{Actions, Policy, Principals, Statement};

/// Why a document is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Malformed {
    pub(in super::super) message: String,
    /// Whether IAM would take it, and only this pool cannot judge it.
    pub(in super::super) only_here: bool,
}

impl Malformed {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            only_here: false,
        }
    }

    pub(super) fn not_judged(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            only_here: true,
        }
    }
}

/// Reads the trust policy of a role. `conditions_required` says whether a role that trusts Cognito needs a condition, as
/// IAM has it since March 2024.
pub(in super::super) fn trust(text: &str, conditions_required: bool) -> Result<Policy, Malformed> {
    let document = Document::read(text)?;
    let statements = document
        .statements
        .iter()
        .map(|statement| trust_statement(statement, document.variables, conditions_required))
        .collect::<Result<_, _>>()?;
    Ok(Policy { statements })
}

/// Checks the policy of a session. It is not judged: nothing is asked here that it could allow.
pub(in super::super) fn session(text: &str) -> Result<(), Malformed> {
    Document::read(text)?.statements.iter().try_for_each(session_statement)
}

/// A document whose members are known, with statements whose members are.
struct Document {
    /// Whether the version has policy variables.
    variables: bool,
    statements: Vec<Map<String, Value>>,
}

const ELEMENTS: &[&str] = &[
    "Sid",
    "Effect",
    "Principal",
    "NotPrincipal",
    "Action",
    "NotAction",
    "Resource",
    "NotResource",
    "Condition",
];

impl Document {
    fn read(text: &str) -> Result<Self, Malformed> {
        let Ok(WithoutTwins(Value::Object(mut document))) = serde_json::from_str(text) else {
            return Err(Malformed::new("This policy contains invalid Json"));
        };
        if let Some(name) = document
            .keys()
            .find(|name| !["Version", "Id", "Statement"].contains(&name.as_str()))
        {
            return Err(Malformed::new(format!("Unknown field {name}")));
        }
        let variables = match document.get("Version") {
            None => false,
            Some(Value::String(version)) if version == "2008-10-17" => false,
            Some(Value::String(version)) if version == "2012-10-17" => true,
            Some(_) => return Err(Malformed::new("The policy must contain a valid version string.")),
        };
        if document.get("Id").is_some_and(|id| !id.is_string()) {
            return Err(syntax());
        }
        let statements = match document.remove("Statement") {
            Some(Value::Array(statements)) if !statements.is_empty() => statements,
            Some(statement @ Value::Object(_)) => vec![statement],
            _ => return Err(syntax()),
        };
        let statements: Vec<Map<String, Value>> = statements
            .into_iter()
            .map(|statement| match statement {
                Value::Object(statement) => Ok(statement),
                _ => Err(syntax()),
            })
            .collect::<Result<_, _>>()?;
        let mut sids = BTreeSet::new();
        for statement in &statements {
            if let Some(name) = statement.keys().find(|name| !ELEMENTS.contains(&name.as_str())) {
                return Err(Malformed::new(format!("Unknown field {name}")));
            }
            match statement.get("Effect") {
                Some(Value::String(effect)) if effect == "Allow" || effect == "Deny" => {}
                Some(Value::String(effect)) => return Err(Malformed::new(format!("Invalid effect: {effect}"))),
                Some(_) => return Err(syntax()),
                None => return Err(Malformed::new("Missing required field Effect")),
            }
            match statement.get("Sid") {
                None => {}
                Some(Value::String(sid)) => {
                    if !sid.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                        return Err(Malformed::new(
                            "Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression [0-9A-Za-z]*",
                        ));
                    }
                    // The console writes empty ones.
                    if !sid.is_empty() && !sids.insert(sid) {
                        return Err(Malformed::new("Statement IDs (SID) in a single policy must be unique."));
                    }
                }
                Some(_) => return Err(syntax()),
            }
            for (name, negated) in [
                ("Principal", "NotPrincipal"),
                ("Action", "NotAction"),
                ("Resource", "NotResource"),
            ] {
                if statement.contains_key(name) && statement.contains_key(negated) {
                    return Err(syntax());
                }
            }
        }
        Ok(Self { variables, statements })
    }
}

fn syntax() -> Malformed {
    Malformed::new("Syntax errors in policy.")
}

fn trust_statement(
    statement: &Map<String, Value>,
    variables: bool,
    conditions_required: bool,
) -> Result<Statement, Malformed> {
    for name in ["Resource", "NotResource"] {
        if statement.contains_key(name) {
            return Err(Malformed::new(format!("Has prohibited field {name}")));
        }
    }
    let principal = match (statement.get("Principal"), statement.get("NotPrincipal")) {
        (Some(principal), _) => principals(principal, false)?,
        (None, Some(principal)) => principals(principal, true)?,
        (None, None) => return Err(Malformed::new("Missing required field Principal")),
    };
    let action = actions(statement)?;
    let foreign = |pattern: &&String| !pattern.starts_with("sts:") && *pattern != "*";
    if action.patterns.iter().any(|pattern| foreign(&pattern)) {
        return Err(Malformed::new(
            "AssumeRole policy may only specify STS AssumeRole actions.",
        ));
    }
    let mut conditions = Vec::new();
    for_conditions(statement, |operator, key, values| {
        conditions.push(Condition::new(operator, key, values, variables)?);
        Ok(())
    })?;
    let allows = statement.get("Effect").and_then(Value::as_str) == Some("Allow");
    let cognito = |federated: &String| federated.starts_with("cognito-identity");
    if conditions_required && allows && conditions.is_empty() && principal.federated.iter().any(cognito) {
        return Err(Malformed::new(
            "A trust policy for Amazon Cognito identity pools must have at least one condition",
        ));
    }
    let sid = statement
        .get("Sid")
        .and_then(Value::as_str)
        .filter(|sid| !sid.is_empty());
    Ok(Statement {
        sid: sid.map(str::to_owned),
        allows,
        principal,
        action,
        conditions,
    })
}

fn session_statement(statement: &Map<String, Value>) -> Result<(), Malformed> {
    if statement.contains_key("Principal") || statement.contains_key("NotPrincipal") {
        return Err(Malformed::new("Policy document should not specify a principal."));
    }
    let named = |pattern: &String| {
        pattern == "*"
            || pattern
                .split_once(':')
                .is_some_and(|(service, action)| !service.is_empty() && !action.is_empty())
    };
    if !actions(statement)?.patterns.iter().all(named) {
        return Err(Malformed::new(
            "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.",
        ));
    }
    let resources = statement.get("Resource").or_else(|| statement.get("NotResource"));
    let resources = resources.ok_or_else(|| Malformed::new("Policy statement must contain resources."))?;
    for resource in strings(resources)? {
        if resource != "*" && !(resource.starts_with("arn:") && resource.matches(':').count() >= 5) {
            return Err(Malformed::new(format!(
                "Resource {resource} must be in ARN format or \"*\"."
            )));
        }
    }
    for_conditions(statement, Condition::check)
}

/// Calls `each` with operator, key and values of every condition.
fn for_conditions(
    statement: &Map<String, Value>,
    mut each: impl FnMut(&str, &str, &Value) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    let operators = match statement.get("Condition") {
        None => return Ok(()),
        Some(Value::Object(operators)) => operators,
        Some(_) => return Err(syntax()),
    };
    for (operator, keys) in operators {
        let Value::Object(keys) = keys else {
            return Err(syntax());
        };
        for (key, values) in keys {
            each(operator, key, values)?;
        }
    }
    Ok(())
}

fn actions(statement: &Map<String, Value>) -> Result<Actions, Malformed> {
    let (negated, value) = match (statement.get("Action"), statement.get("NotAction")) {
        (Some(value), _) => (false, value),
        (None, Some(value)) => (true, value),
        (None, None) => return Err(Malformed::new("Missing required field Action")),
    };
    let patterns: Vec<String> = strings(value)?.into_iter().map(str::to_ascii_lowercase).collect();
    match patterns.is_empty() || patterns.iter().any(String::is_empty) {
        true => Err(Malformed::new("Missing required field Action cannot be empty!")),
        false => Ok(Actions { negated, patterns }),
    }
}

/// The principals of a trust policy. Only federated ones and everybody can be Cognito's token.
fn principals(value: &Value, negated: bool) -> Result<Principals, Malformed> {
    let invalid =
        |kind: &str, name: &str| Malformed::new(format!("Invalid principal in policy: \"{kind}\":\"{name}\""));
    let kinds = match value {
        Value::Object(kinds) if !kinds.is_empty() => kinds,
        // IAM takes everybody in a trust policy as {"AWS": "*"} only: github.com/aws/aws-cdk/issues/5732
        Value::String(name) => return Err(Malformed::new(format!("Invalid principal in policy: {name}"))),
        _ => return Err(syntax()),
    };
    let mut principals = Principals {
        negated,
        everyone: false,
        federated: Vec::new(),
    };
    for (kind, names) in kinds {
        let names = strings(names)?;
        if names.is_empty() {
            return Err(syntax());
        }
        for name in names {
            match kind.as_str() {
                "AWS" if name == "*" => principals.everyone = true,
                "AWS" if is_account(name) || is_identity(name) => {}
                "Federated" if !name.is_empty() && !name.contains(['*', '?']) => {
                    principals.federated.push(name.to_owned());
                }
                "Service" | "CanonicalUser" if !name.is_empty() && !name.contains(['*', '?']) => {}
                "AWS" | "Federated" | "Service" | "CanonicalUser" => return Err(invalid(kind, name)),
                _ => return Err(Malformed::new(format!("Unknown field {kind}"))),
            }
        }
    }
    Ok(principals)
}

fn is_account(name: &str) -> bool {
    name.len() == 12 && name.bytes().all(|byte| byte.is_ascii_digit())
}

/// An ARN of IAM or STS, or the unique id that IAM shows for one that was deleted.
fn is_identity(name: &str) -> bool {
    let unique = name.len() >= 16
        && name
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    let parts: Vec<&str> = name.splitn(6, ':').collect();
    let arn = parts.len() == 6 && parts[0] == "arn" && ["iam", "sts"].contains(&parts[2]) && is_account(parts[4]);
    unique || arn && !name.contains(['*', '?'])
}

/// A string, or the strings of a list.
fn strings(value: &Value) -> Result<Vec<&str>, Malformed> {
    match value {
        Value::String(text) => Ok(vec![text]),
        Value::Array(values) => values.iter().map(|value| value.as_str().ok_or_else(syntax)).collect(),
        _ => Err(syntax()),
    }
}

/// JSON in which no object has a member twice: serde_json keeps the last, and what it drops could be a Deny.
struct WithoutTwins(Value);

impl<'de> Deserialize<'de> for WithoutTwins {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue).map(Self)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut values: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(WithoutTwins(value)) = values.next_element()? {
            list.push(value);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((name, WithoutTwins(value))) = members.next_entry::<String, _>()? {
            if map.insert(name, value).is_some() {
                return Err(serde::de::Error::custom("a member is given twice"));
            }
        }
        Ok(map.into())
    }
}
