//! One condition: an operator, a key, and the values that it is compared with.

use std::fmt;

use serde_json::Value;

use super::context::{Context, Values};
use super::document::Malformed;
use super::template::{self, Template};
use super::value::{self, Network, Order};

/// A condition of a statement.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    /// As the policy spells them.
    operator: String,
    spelled_key: String,
    /// In lower case.
    key: String,
    qualifier: Qualifier,
    if_exists: bool,
    negated: bool,
    test: Test,
}

/// Over which values of the request an operator runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Qualifier {
    None,
    ForAllValues,
    ForAnyValue,
}

/// What a value of the request is compared with: any of these.
#[derive(Clone, Debug)]
enum Test {
    Text {
        how: Matching,
        values: Vec<Template>,
    },
    Arn(Vec<Template>),
    Number(Order, Vec<f64>),
    Date(Order, Vec<f64>),
    Truth(Vec<bool>),
    Binary(Vec<Vec<u8>>),
    Address(Vec<Network>),
    /// Whether the key is absent.
    Null(Vec<bool>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Matching {
    Exact,
    IgnoringCase,
    Wildcards,
}

/// An operator without qualifier, `IfExists` and negation.
#[derive(Clone, Copy)]
enum Kind {
    Text(Matching),
    Arn,
    Number(Order),
    Date(Order),
    Truth,
    Binary,
    Address,
    Null,
}

/// The operators by name, and whether each is the negation of its kind.
const OPERATORS: &[(&str, Kind, bool)] = &[
    ("StringEquals", Kind::Text(Matching::Exact), false),
    ("StringNotEquals", Kind::Text(Matching::Exact), true),
    ("StringEqualsIgnoreCase", Kind::Text(Matching::IgnoringCase), false),
    ("StringNotEqualsIgnoreCase", Kind::Text(Matching::IgnoringCase), true),
    ("StringLike", Kind::Text(Matching::Wildcards), false),
    ("StringNotLike", Kind::Text(Matching::Wildcards), true),
    ("NumericEquals", Kind::Number(Order::Equal), false),
    ("NumericNotEquals", Kind::Number(Order::Equal), true),
    ("NumericLessThan", Kind::Number(Order::Less), false),
    ("NumericLessThanEquals", Kind::Number(Order::LessOrEqual), false),
    ("NumericGreaterThan", Kind::Number(Order::Greater), false),
    ("NumericGreaterThanEquals", Kind::Number(Order::GreaterOrEqual), false),
    ("DateEquals", Kind::Date(Order::Equal), false),
    ("DateNotEquals", Kind::Date(Order::Equal), true),
    ("DateLessThan", Kind::Date(Order::Less), false),
    ("DateLessThanEquals", Kind::Date(Order::LessOrEqual), false),
    ("DateGreaterThan", Kind::Date(Order::Greater), false),
    ("DateGreaterThanEquals", Kind::Date(Order::GreaterOrEqual), false),
    ("Bool", Kind::Truth, false),
    ("BinaryEquals", Kind::Binary, false),
    ("IpAddress", Kind::Address, false),
    ("NotIpAddress", Kind::Address, true),
    ("ArnEquals", Kind::Arn, false),
    ("ArnLike", Kind::Arn, false),
    ("ArnNotEquals", Kind::Arn, true),
    ("ArnNotLike", Kind::Arn, true),
    ("Null", Kind::Null, false),
];

/// Keys that a request to AWS can have and whose value nobody here knows. In lower case; one that ends in a slash stands
/// for all that begin so.
const UNKNOWN_KEYS: &[&str] = &[
    "aws:principaltype",
    "aws:resourceorgid",
    "aws:resourceorgpaths",
    "aws:resourcetag/",
    "iam:resourcetag/",
    "sts:roleauthorizedbyidp",
];

impl Condition {
    /// Reads a condition. `variables` says whether the policy's version has policy variables.
    pub(super) fn new(operator: &str, key: &str, values: &Value, variables: bool) -> Result<Self, Malformed> {
        let (qualifier, if_exists, kind, negated) = parse_operator(operator)?;
        if key.is_empty() {
            return Err(Malformed::new("Condition keys must not be empty."));
        }
        let values = texts(values)?;
        let lower = key.to_lowercase();
        let unknown = |name: &&&str| lower == **name || name.ends_with('/') && lower.starts_with(**name);
        if UNKNOWN_KEYS.iter().any(|name| unknown(&name)) {
            return Err(Malformed::not_judged(format!(
                "the local pool does not know the value of {key}"
            )));
        }
        let test = Test::new(kind, &values, variables)
            .map_err(|why| Malformed::not_judged(format!("{operator} of {key}: {why}")))?;
        Ok(Self {
            operator: operator.to_owned(),
            spelled_key: key.to_owned(),
            key: lower,
            qualifier,
            if_exists,
            negated,
            test,
        })
    }

    /// Checks the operator and the form of the values only, for a policy that is not judged.
    pub(super) fn check(operator: &str, key: &str, values: &Value) -> Result<(), Malformed> {
        parse_operator(operator)?;
        if key.is_empty() {
            return Err(Malformed::new("Condition keys must not be empty."));
        }
        texts(values).map(drop)
    }

    /// The key in lower case.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Whether it holds for a request.
    pub(super) fn holds(&self, context: &Context) -> bool {
        let present = context.get(&self.key);
        if let Test::Null(expected) = &self.test {
            return expected.contains(&present.is_none());
        }
        let Some(present) = present else {
            // "If the key is not present in the request context, … the condition element evaluates as true" (IfExists);
            // of no values all are right and none is; a negated operator is right where there is nothing to match.
            return self.if_exists
                || match self.qualifier {
                    Qualifier::ForAllValues => true,
                    Qualifier::ForAnyValue => false,
                    Qualifier::None => self.negated,
                };
        };
        let mut values = match present {
            Values::One(value) => std::slice::from_ref(value).iter(),
            Values::Several(values) => values.iter(),
        };
        match self.qualifier {
            Qualifier::ForAllValues => values.all(|value| self.satisfied_by(value, context)),
            Qualifier::ForAnyValue => values.any(|value| self.satisfied_by(value, context)),
            // Without a qualifier an operator compares no key that can have several values.
            Qualifier::None => match present {
                Values::One(value) => self.satisfied_by(value, context),
                Values::Several(_) => false,
            },
        }
    }

    /// Whether one value of the request satisfies the operator. A value that is not of the operator's kind satisfies
    /// neither it nor its negation.
    fn satisfied_by(&self, actual: &str, context: &Context) -> bool {
        self.test
            .matches(actual, context)
            .is_some_and(|matches| matches != self.negated)
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.operator, self.spelled_key)
    }
}

fn parse_operator(name: &str) -> Result<(Qualifier, bool, Kind, bool), Malformed> {
    let invalid = || Malformed::new(format!("Invalid Condition type : {name}"));
    let (qualifier, rest) = match name.split_once(':') {
        None => (Qualifier::None, name),
        Some(("ForAllValues", rest)) => (Qualifier::ForAllValues, rest),
        Some(("ForAnyValue", rest)) => (Qualifier::ForAnyValue, rest),
        Some(_) => return Err(invalid()),
    };
    let (if_exists, rest) = match rest.strip_suffix("IfExists") {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    let (_, kind, negated) = OPERATORS
        .iter()
        .find(|(operator, ..)| *operator == rest)
        .ok_or_else(invalid)?;
    // "You can add IfExists to the end of any condition operator name except the Null condition."
    if let (Kind::Null, true, _) | (Kind::Null, _, Qualifier::ForAllValues | Qualifier::ForAnyValue) =
        (kind, if_exists, qualifier)
    {
        return Err(invalid());
    }
    Ok((qualifier, if_exists, *kind, *negated))
}

/// The values of a condition as text; the grammar also has Booleans and numbers without quotes.
fn texts(values: &Value) -> Result<Vec<String>, Malformed> {
    let text = |value: &Value| match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(_) | Value::Number(_) => Ok(value.to_string()),
        _ => Err(Malformed::new("Condition values must be strings, numbers or Booleans.")),
    };
    match values {
        Value::Array(values) => values.iter().map(text).collect(),
        value => Ok(vec![text(value)?]),
    }
}

impl Test {
    fn new(kind: Kind, values: &[String], variables: bool) -> Result<Self, String> {
        fn all<T>(values: &[String], what: &str, read: impl Fn(&str) -> Option<T>) -> Result<Vec<T>, String> {
            let read = |value: &String| read(value).ok_or_else(|| format!("{value:?} is not {what}"));
            values.iter().map(read).collect()
        }
        let templates = || -> Result<Vec<Template>, String> {
            values.iter().map(|value| Template::new(value, variables)).collect()
        };
        Ok(match kind {
            Kind::Text(how) => Self::Text {
                how,
                values: templates()?,
            },
            Kind::Arn => {
                let templates = templates()?;
                match values.iter().zip(&templates).find(|(_, template)| !template.is_arn()) {
                    Some((value, _)) => return Err(format!("{value:?} is not an ARN of six parts")),
                    None => Self::Arn(templates),
                }
            }
            Kind::Number(order) => Self::Number(order, all(values, "a number", value::number)?),
            Kind::Date(order) => Self::Date(order, all(values, "a date", value::date)?),
            Kind::Truth => Self::Truth(all(values, "a Boolean", value::truth)?),
            Kind::Binary => Self::Binary(all(values, "base64", value::binary)?),
            Kind::Address => Self::Address(all(values, "an address or network", Network::parse)?),
            Kind::Null => Self::Null(all(values, "a Boolean", value::truth)?),
        })
    }

    /// Whether `actual` matches any of the values; nothing if it is not of their kind.
    fn matches(&self, actual: &str, context: &Context) -> Option<bool> {
        Some(match self {
            Self::Text { how, values } => values.iter().any(|template| {
                // A variable that has no value is like nothing and equal to nothing.
                template.resolve(context).is_some_and(|pattern| match how {
                    Matching::Exact => template::literal(&pattern) == actual,
                    Matching::IgnoringCase => template::literal(&pattern).to_lowercase() == actual.to_lowercase(),
                    Matching::Wildcards => template::matches(&pattern, actual),
                })
            }),
            Self::Arn(values) => {
                let actual: Vec<&str> = actual.splitn(6, ':').collect();
                if actual.len() != 6 || actual[0] != "arn" {
                    return None;
                }
                values.iter().any(|template| {
                    let pattern = template.resolve(context);
                    pattern.as_deref().and_then(template::arn_parts).is_some_and(|parts| {
                        parts
                            .iter()
                            .zip(&actual)
                            .all(|(part, actual)| template::matches(part, actual))
                    })
                })
            }
            Self::Number(order, values) => any(values, value::number(actual)?, *order),
            Self::Date(order, values) => any(values, value::date(actual)?, *order),
            Self::Truth(values) => values.contains(&value::truth(actual)?),
            Self::Binary(values) => values.contains(&value::binary(actual)?),
            Self::Address(values) => {
                let actual = actual.parse().ok()?;
                values.iter().any(|network| network.contains(actual))
            }
            // Decided by whether the key is there.
            Self::Null(_) => return None,
        })
    }
}

fn any(bounds: &[f64], actual: f64, order: Order) -> bool {
    bounds.iter().any(|bound| order.holds(actual, *bound))
}
