//! Roles: which one an exchange gets, and whether it trusts the token.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::logins::{VerifiedLogin, packed_percent};
use super::pools::{MappingRule, Pool, RoleMapping};
use super::rules::{Refusal, Rule};

/// The longest session of a role that nobody registered.
const LONGEST_SESSION: i64 = 43_200;

/// A role that the local STS knows: whom it trusts, and for how long at most.
///
/// A role that is not registered trusts every token of the pool, with sessions of up to 12 hours.
///
/// ```
/// use cognito_identity_pool::{local::LocalRole, LocalIdentityPool};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let role = LocalRole::new(
///     "arn:aws:iam::123456789012:role/app",
///     r#"{ "Version": "2012-10-17", "Statement": [{
///         "Effect": "Allow",
///         "Principal": { "Federated": "cognito-identity.amazonaws.com" },
///         "Action": ["sts:AssumeRoleWithWebIdentity", "sts:TagSession"],
///         "Condition": { "ForAnyValue:StringLike": { "cognito-identity.amazonaws.com:amr": "authenticated" } }
///     }] }"#,
/// )?;
/// let builder = LocalIdentityPool::builder().role(role).authenticated_role("arn:aws:iam::123456789012:role/app");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct LocalRole {
    pub(super) arn: String,
    trust: Vec<Map<String, Value>>,
    max_session: i64,
}

/// A trust policy that is none.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[error("the trust policy is no JSON object with statements")]
pub struct TrustPolicyError;

impl LocalRole {
    /// A role with a trust policy, as IAM has it, and sessions of up to an hour.
    ///
    /// # Errors
    ///
    /// [`TrustPolicyError`] if the policy is no JSON object with a `Statement`.
    pub fn new(arn: impl Into<String>, trust_policy: &str) -> Result<Self, TrustPolicyError> {
        let mut policy: Map<String, Value> = serde_json::from_str(trust_policy).map_err(|_| TrustPolicyError)?;
        let statements = match policy.remove("Statement") {
            Some(Value::Array(statements)) => statements,
            Some(statement) => vec![statement],
            None => return Err(TrustPolicyError),
        };
        let object = |statement| match statement {
            Value::Object(statement) => Ok(statement),
            _ => Err(TrustPolicyError),
        };
        let trust = statements.into_iter().map(object).collect::<Result<_, _>>()?;
        Ok(Self {
            arn: arn.into(),
            trust,
            max_session: 3600,
        })
    }

    /// The longest session of the classic flow, 3600 s by default. The enhanced flow has an hour, whatever stands here.
    #[must_use]
    pub fn max_session_seconds(mut self, seconds: u32) -> Self {
        self.max_session = i64::from(seconds);
        self
    }
}

/// What a role is asked to trust.
pub(super) struct Claimant<'a> {
    pub(super) issuer_host: &'a str,
    pub(super) aud: &'a str,
    pub(super) sub: &'a str,
    pub(super) amr: &'a [String],
    pub(super) tags: &'a BTreeMap<String, String>,
}

/// Why a role refuses.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Denial {
    Trust,
    Packed(usize),
}

/// The roles that were registered.
#[derive(Default)]
pub(super) struct Roles(pub(super) BTreeMap<String, LocalRole>);

impl Roles {
    /// Whether `arn` may be assumed by the claimant.
    pub(super) fn admit(&self, arn: &str, claimant: &Claimant<'_>) -> Result<(), Denial> {
        let packed = packed_percent(claimant.tags);
        if packed > 100 {
            return Err(Denial::Packed(packed));
        }
        let Some(role) = self.0.get(arn) else { return Ok(()) };
        let mut actions = vec!["sts:AssumeRoleWithWebIdentity"];
        if !claimant.tags.is_empty() {
            actions.push("sts:TagSession");
        }
        let allowed = actions.iter().all(|action| {
            let applies = |effect: &str| {
                role.trust
                    .iter()
                    .any(|statement| applies(statement, effect, action, claimant))
            };
            applies("Allow") && !applies("Deny")
        });
        if allowed { Ok(()) } else { Err(Denial::Trust) }
    }

    pub(super) fn max_session(&self, arn: &str) -> i64 {
        self.0.get(arn).map_or(LONGEST_SESSION, |role| role.max_session)
    }
}

fn applies(statement: &Map<String, Value>, effect: &str, action: &str, claimant: &Claimant<'_>) -> bool {
    let principal = match statement.get("Principal") {
        Some(Value::String(all)) => all == "*",
        Some(Value::Object(principals)) => principals
            .get("Federated")
            .is_some_and(|federated| texts(federated).any(|host| host == claimant.issuer_host)),
        _ => false,
    };
    // Actions are case-insensitive in IAM.
    let names = |pattern: &str| like(&pattern.to_ascii_lowercase(), &action.to_ascii_lowercase());
    statement.get("Effect").and_then(Value::as_str) == Some(effect)
        && principal
        && statement.get("Action").is_some_and(|actions| texts(actions).any(names))
        && match statement.get("Condition") {
            None => true,
            Some(Value::Object(conditions)) => conditions.iter().all(|(operator, keys)| match keys {
                Value::Object(keys) => keys
                    .iter()
                    .all(|(key, values)| condition(operator, key, values, claimant)),
                _ => false,
            }),
            Some(_) => false,
        }
}

/// One condition. An operator that is not known never holds, so that a typing error shows.
fn condition(operator: &str, key: &str, values: &Value, claimant: &Claimant<'_>) -> bool {
    let (for_all, operator) = match operator.split_once(':') {
        Some(("ForAllValues", rest)) => (true, rest),
        Some(("ForAnyValue", rest)) => (false, rest),
        Some(_) => return false,
        None => (false, operator),
    };
    let (if_exists, operator) = match operator.strip_suffix("IfExists") {
        Some(rest) => (true, rest),
        None => (false, operator),
    };
    let actual = context(key, claimant);
    if operator == "Null" {
        return texts(values).any(|value| (value == "true") == actual.is_empty());
    }
    let (negated, matches): (bool, fn(&str, &str) -> bool) = match operator {
        "StringEquals" => (false, |pattern, value| pattern == value),
        "StringNotEquals" => (true, |pattern, value| pattern == value),
        "StringEqualsIgnoreCase" => (false, |pattern, value| pattern.eq_ignore_ascii_case(value)),
        "StringNotEqualsIgnoreCase" => (true, |pattern, value| pattern.eq_ignore_ascii_case(value)),
        "StringLike" => (false, like),
        "StringNotLike" => (true, like),
        _ => return false,
    };
    if actual.is_empty() {
        return if_exists || negated || for_all;
    }
    let holds = |value: &String| texts(values).any(|pattern| matches(pattern, value)) != negated;
    if for_all || negated {
        actual.iter().all(holds)
    } else {
        actual.iter().any(holds)
    }
}

/// The values of a condition key; none if the request does not have it.
fn context(key: &str, claimant: &Claimant<'_>) -> Vec<String> {
    if let Some(claim) = key
        .strip_prefix(claimant.issuer_host)
        .and_then(|rest| rest.strip_prefix(':'))
    {
        return match claim {
            "aud" => vec![claimant.aud.to_owned()],
            "sub" => vec![claimant.sub.to_owned()],
            "amr" => claimant.amr.to_vec(),
            _ => Vec::new(),
        };
    }
    let tag = key
        .strip_prefix("aws:RequestTag/")
        .and_then(|tag| claimant.tags.get(tag));
    tag.into_iter().cloned().collect()
}

/// A string, or the strings of a list.
fn texts(value: &Value) -> impl Iterator<Item = &str> {
    let list = value.as_array().into_iter().flatten().filter_map(Value::as_str);
    value.as_str().into_iter().chain(list)
}

/// IAM's wildcards: `*` for any text, `?` for one character. Linear: after a mismatch only the last `*` is tried anew.
fn like(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(char) if *char == '?' || *char == text[t] => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|char| *char == '*')
}

/// The role of an exchange of the enhanced flow.
pub(super) enum Login<'a> {
    Guest,
    Developer,
    Public(&'a [VerifiedLogin]),
}

/// Chooses the role, by the pool's mappings where they apply.
pub(super) fn choose(
    pool: &Pool,
    login: &Login<'_>,
    custom: Option<&str>,
    ignore_custom: bool,
) -> Result<String, Refusal> {
    let default = |kind: &str| {
        pool.roles
            .get(kind)
            .cloned()
            .ok_or_else(|| Refusal::from(Rule::PoolConfiguration))
    };
    let mapped = match login {
        Login::Guest => return default("unauthenticated"),
        Login::Developer => None,
        Login::Public(logins) => logins.iter().find_map(|login| mapping(pool, login)),
    };
    match mapped {
        None => {
            let role = default("authenticated")?;
            match custom {
                Some(custom) if custom != role && !ignore_custom => Err(Rule::CustomRoleDenied.refuse(&[&custom])),
                _ => Ok(role),
            }
        }
        Some((key, mapping, login)) => {
            let ambiguous = || match mapping.ambiguous_role_resolution.as_deref() {
                Some("AuthenticatedRole") => default("authenticated"),
                _ => Err(Rule::AmbiguousRole.refuse(&[&key])),
            };
            match by_mapping(mapping, login, custom)? {
                Some(role) => Ok(role),
                None => ambiguous(),
            }
        }
    }
}

/// The mapping for a login: a user pool's has the client id in its key.
fn mapping<'a>(pool: &'a Pool, login: &'a VerifiedLogin) -> Option<(&'a str, &'a RoleMapping, &'a VerifiedLogin)> {
    let provider = login.link.provider();
    let audience = login.claims.get("aud").and_then(Value::as_str).unwrap_or_default();
    let names = [format!("{provider}:{audience}"), provider.to_owned()];
    let (key, mapping) = names.iter().find_map(|name| pool.role_mappings.get_key_value(name))?;
    Some((key, mapping, login))
}

fn by_mapping(mapping: &RoleMapping, login: &VerifiedLogin, custom: Option<&str>) -> Result<Option<String>, Refusal> {
    let claim = |name: &str| login.claims.get(name);
    let allowed: Vec<&str> = match &mapping.rules_configuration {
        Some(rules) if mapping.r#type == "Rules" => rules
            .rules
            .iter()
            .filter(|rule| rule_matches(rule, claim(&rule.claim)))
            .map(|rule| rule.role_arn.as_str())
            .collect(),
        _ => claim("cognito:roles").into_iter().flat_map(texts).collect(),
    };
    if let Some(custom) = custom {
        return match allowed.contains(&custom) {
            true => Ok(Some(custom.to_owned())),
            false => Err(Rule::CustomRoleDenied.refuse(&[&custom])),
        };
    }
    let chosen = match (
        &*mapping.r#type,
        claim("cognito:preferred_role").and_then(Value::as_str),
        &allowed[..],
    ) {
        ("Rules", _, roles) => roles.first().copied(),
        (_, Some(preferred), _) => Some(preferred),
        (_, None, [only]) => Some(*only),
        _ => None,
    };
    Ok(chosen.map(str::to_owned))
}

fn rule_matches(rule: &MappingRule, claim: Option<&Value>) -> bool {
    let Some(claim) = claim else { return false };
    let scalar = (!claim.is_array() && !claim.is_string()).then(|| claim.to_string());
    let mut values = texts(claim).chain(scalar.as_deref());
    match &*rule.match_type {
        "Equals" => values.any(|value| value == rule.value),
        "Contains" => values.any(|value| value.contains(&rule.value)),
        "StartsWith" => values.any(|value| value.starts_with(&rule.value)),
        _ => values.all(|value| value != rule.value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:iam::123456789012:role/app";
    const HOST: &str = "cognito-identity.amazonaws.com";

    fn policy(action: &str, condition: &str) -> Roles {
        let policy = format!(
            r#"{{"Statement":[{{"Effect":"Allow","Principal":{{"Federated":"{HOST}"}},"Action":{action},"Condition":{condition}}}]}}"#
        );
        Roles([(ARN.to_owned(), LocalRole::new(ARN, &policy).unwrap())].into())
    }

    fn admit(roles: &Roles, tags: &BTreeMap<String, String>) -> Result<(), Denial> {
        let amr = ["authenticated".to_owned(), "login.app".to_owned()];
        roles.admit(
            ARN,
            &Claimant {
                issuer_host: HOST,
                aud: "us-east-1:p",
                sub: "us-east-1:i",
                amr: &amr,
                tags,
            },
        )
    }

    #[test]
    fn the_documented_trust_policy_is_checked() {
        let none = BTreeMap::new();
        let documented = r#"{"StringEquals":{"cognito-identity.amazonaws.com:aud":"us-east-1:p"},
            "ForAnyValue:StringLike":{"cognito-identity.amazonaws.com:amr":"authenticated"}}"#;
        let action = r#""sts:AssumeRoleWithWebIdentity""#;
        assert_eq!(admit(&policy(action, documented), &none), Ok(()));
        assert_eq!(
            admit(
                &policy(action, &documented.replace("us-east-1:p", "us-east-1:q")),
                &none
            ),
            Err(Denial::Trust)
        );
        assert_eq!(
            admit(&policy(action, &documented.replace("\"authenticated", "\"un*")), &none),
            Err(Denial::Trust)
        );
        assert_eq!(
            admit(&policy(action, &documented.replace(":amr", ":arm")), &none),
            Err(Denial::Trust)
        );
        assert_eq!(
            admit(&policy(action, &documented.replace("StringLike", "StrongLike")), &none),
            Err(Denial::Trust)
        );
        assert_eq!(
            admit(&policy(r#""sts:AssumeRole""#, documented), &none),
            Err(Denial::Trust)
        );
    }

    #[test]
    fn tags_need_their_own_action_and_must_fit() {
        let tags: BTreeMap<_, _> = [("tenant".to_owned(), "t1".to_owned())].into();
        assert_eq!(
            admit(&policy(r#""sts:AssumeRoleWithWebIdentity""#, "{}"), &tags),
            Err(Denial::Trust)
        );
        assert_eq!(
            admit(
                &policy(r#"["sts:AssumeRoleWithWebIdentity","sts:TagSession"]"#, "{}"),
                &tags
            ),
            Ok(())
        );
        let large: BTreeMap<_, _> = [("k".to_owned(), "v".repeat(470))].into();
        assert_eq!(admit(&policy(r#""sts:*""#, "{}"), &large), Err(Denial::Packed(102)));
    }

    #[test]
    fn a_deny_wins_and_an_unregistered_role_trusts() {
        let policy = format!(
            r#"{{"Statement":[
                {{"Effect":"Allow","Principal":"*","Action":"sts:*"}},
                {{"Effect":"Deny","Principal":{{"Federated":["{HOST}"]}},"Action":"*",
                  "Condition":{{"StringEquals":{{"{HOST}:sub":"us-east-1:i"}}}}}}]}}"#
        );
        let roles = Roles([(ARN.to_owned(), LocalRole::new(ARN, &policy).unwrap())].into());
        assert_eq!(admit(&roles, &BTreeMap::new()), Err(Denial::Trust));
        assert_eq!(admit(&Roles::default(), &BTreeMap::new()), Ok(()));
    }

    #[test]
    fn wildcards_match_as_in_iam() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abbd", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*b*b*", "abab", true),
            ("", "a", false),
        ] {
            assert_eq!(like(pattern, text), expected, "{pattern} {text}");
        }
    }
}
