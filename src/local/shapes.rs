//! Checking a request's members against the API model: types first, then constraints, in the service's words.

use serde_json::{Map, Value};

use super::rules::{Refusal, Rule};

/// A pattern as the service prints it, and the same by hand.
#[derive(Clone, Copy)]
pub(super) struct Pattern {
    pub(super) text: &'static str,
    pub(super) matches: fn(&str) -> bool,
}

/// A string's constraints; lengths in UTF-16 units.
#[derive(Clone, Copy)]
pub(super) struct Text {
    pub(super) min: usize,
    pub(super) max: usize,
    pub(super) pattern: Option<Pattern>,
}

/// What the model says of a member.
pub(super) enum Shape {
    Text(Text),
    Choice(&'static [&'static str]),
    Long {
        min: i64,
        max: i64,
    },
    Bool,
    List {
        min: usize,
        max: usize,
        of: &'static Self,
    },
    Map {
        max: usize,
        key: Text,
        value: &'static Self,
    },
    Structure(&'static [Member]),
}

/// A member of a structure.
pub(super) struct Member {
    name: &'static str,
    required: bool,
    shape: &'static Shape,
}

pub(super) const fn required(name: &'static str, shape: &'static Shape) -> Member {
    Member {
        name,
        required: true,
        shape,
    }
}

pub(super) const fn optional(name: &'static str, shape: &'static Shape) -> Member {
    Member {
        name,
        required: false,
        shape,
    }
}

impl Text {
    /// Every constraint that `value` breaks.
    pub(super) fn broken_by(&self, value: &str) -> Vec<String> {
        let mut broken = Vec::new();
        if let Some(pattern) = &self.pattern
            && !(pattern.matches)(value)
        {
            broken.push(format!(
                "Member must satisfy regular expression pattern: {}",
                pattern.text
            ));
        }
        self.length_broken_by(value, &mut broken);
        broken
    }

    fn length_broken_by(&self, value: &str, broken: &mut Vec<String>) {
        let length = value.encode_utf16().count();
        if length > self.max {
            broken.push(format!("Member must have length less than or equal to {}", self.max));
        }
        if length < self.min {
            broken.push(format!("Member must have length greater than or equal to {}", self.min));
        }
    }

    /// All constraints, broken or not: what the service prints for a key or value of a map.
    fn constraints(&self) -> String {
        let mut all = vec![
            format!("Member must have length less than or equal to {}", self.max),
            format!("Member must have length greater than or equal to {}", self.min),
        ];
        all.extend(
            self.pattern
                .map(|pattern| format!("Member must satisfy regular expression pattern: {}", pattern.text)),
        );
        format!("[{}]", all.join(", "))
    }
}

/// Checks the members of a request.
pub(super) fn check(members: &[Member], input: &Map<String, Value>) -> Result<(), Refusal> {
    check_types(members, input)?;
    let mut broken = Vec::new();
    check_members(members, input, "", &mut broken);
    refuse(Rule::Constraint, &broken)
}

/// The refusal that lists `broken`, if anything is.
pub(super) fn refuse(rule: Rule, broken: &[String]) -> Result<(), Refusal> {
    match broken.len() {
        0 => Ok(()),
        count => Err(rule.refuse(&[&count, &if count == 1 { "" } else { "s" }, &broken.join("; ")])),
    }
}

/// One broken constraint in the service's form.
pub(super) fn broken(value: &str, path: &str, constraint: &str) -> String {
    format!("Value '{value}' at '{path}' failed to satisfy constraint: {constraint}")
}

fn check_types(members: &[Member], input: &Map<String, Value>) -> Result<(), Refusal> {
    for member in members {
        match input.get(member.name) {
            None | Some(Value::Null) => {}
            Some(value) => check_type(member.shape, value)?,
        }
    }
    Ok(())
}

fn check_type(shape: &Shape, value: &Value) -> Result<(), Refusal> {
    match (shape, value) {
        (Shape::Text(_) | Shape::Choice(_), Value::String(_)) | (Shape::Bool, Value::Bool(_)) => Ok(()),
        (Shape::Long { .. }, Value::Number(number)) if number.is_i64() => Ok(()),
        (Shape::List { of, .. }, Value::Array(values)) => values
            .iter()
            .filter(|value| !value.is_null())
            .try_for_each(|value| check_type(of, value)),
        (Shape::Map { value: of, .. }, Value::Object(map)) => map
            .values()
            .filter(|value| !value.is_null())
            .try_for_each(|value| check_type(of, value)),
        (Shape::Structure(members), Value::Object(map)) => check_types(members, map),
        (_, Value::Array(_)) => Err(start_of_list()),
        (_, Value::Object(_)) => Err(Rule::WrongType.refuse(&[&"structure or map", &"."])),
        (Shape::List { .. }, _) => Err(Rule::ExpectedOther.refuse(&[&"list or null"])),
        (Shape::Map { .. } | Shape::Structure(_), _) => Err(expected_null()),
        (Shape::Text(_) | Shape::Choice(_), scalar) => Err(not_converted(scalar, "a String")),
        (Shape::Bool, scalar) => Err(not_converted(scalar, "a Boolean")),
        (Shape::Long { .. }, scalar) => Err(not_converted(scalar, "a Long")),
    }
}

/// A list stands where there should be none.
pub(super) fn start_of_list() -> Refusal {
    Rule::WrongType.refuse(&[&"list", &""])
}

/// A scalar stands where a structure or map should be.
pub(super) fn expected_null() -> Refusal {
    Rule::ExpectedOther.refuse(&[&"null"])
}

fn not_converted(scalar: &Value, to: &str) -> Refusal {
    let kind = match scalar {
        Value::Number(_) => "NUMBER_VALUE",
        Value::Bool(true) => "TRUE_VALUE",
        Value::Bool(false) => "FALSE_VALUE",
        Value::Null => "NULL_VALUE",
        _ => "STRING_VALUE",
    };
    Rule::WrongScalar.refuse(&[&kind, &to])
}

fn check_members(members: &[Member], input: &Map<String, Value>, path: &str, broken: &mut Vec<String>) {
    for member in members {
        let path = format!("{path}{}", lower_camel(member.name));
        match input.get(member.name) {
            None | Some(Value::Null) if member.required => {
                broken.push(format!(
                    "Value null at '{path}' failed to satisfy constraint: Member must not be null"
                ));
            }
            None | Some(Value::Null) => {}
            Some(value) => check_value(member.shape, value, &path, broken),
        }
    }
}

fn check_value(shape: &Shape, value: &Value, path: &str, found: &mut Vec<String>) {
    let mut report = |constraint: String| found.push(broken(&display(value), path, &constraint));
    match (shape, value) {
        (Shape::Text(text), Value::String(value)) => text.broken_by(value).into_iter().for_each(report),
        (Shape::Choice(choices), Value::String(value)) if !choices.contains(&value.as_str()) => {
            report(format!("Member must satisfy enum value set: [{}]", choices.join(", ")));
        }
        (Shape::Long { min, max }, Value::Number(number)) => match number.as_i64() {
            Some(number) if number > *max => report(format!("Member must have value less than or equal to {max}")),
            Some(number) if number < *min => report(format!("Member must have value greater than or equal to {min}")),
            _ => {}
        },
        (Shape::List { min, max, of }, Value::Array(values)) => {
            check_size(values.len(), *min, *max, &mut report);
            for (index, value) in values.iter().enumerate() {
                check_value(of, value, &format!("{path}.{}.member", index + 1), found);
            }
        }
        (Shape::Map { max, key, value: of }, Value::Object(map)) => {
            check_size(map.len(), 0, *max, &mut report);
            if map.keys().any(|name| !key.broken_by(name).is_empty()) {
                report(format!("Map keys must satisfy constraint: {}", key.constraints()));
            }
            if let Shape::Text(text) = of {
                let fits = |value: &Value| value.as_str().is_some_and(|value| text.broken_by(value).is_empty());
                if !map.values().all(fits) {
                    report(format!("Map value must satisfy constraint: {}", text.constraints()));
                }
            } else {
                for (name, value) in map {
                    check_value(of, value, &format!("{path}.{name}.member"), found);
                }
            }
        }
        (Shape::Structure(members), Value::Object(map)) => check_members(members, map, &format!("{path}."), found),
        (_, Value::Null) => report("Member must not be null".to_owned()),
        _ => {}
    }
}

fn check_size(size: usize, min: usize, max: usize, report: &mut impl FnMut(String)) {
    if size > max {
        report(format!("Member must have length less than or equal to {max}"));
    }
    if size < min {
        report(format!("Member must have length greater than or equal to {min}"));
    }
}

/// A value as Java prints it.
fn display(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) => format!("[{}]", values.iter().map(display).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let pairs: Vec<String> = map
                .iter()
                .map(|(key, value)| format!("{key}={}", display(value)))
                .collect();
            format!("{{{}}}", pairs.join(", "))
        }
        other => other.to_string(),
    }
}

/// `RoleArn` as `roleArn`.
pub(super) fn lower_camel(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map_or_else(String::new, |first| {
        first.to_ascii_lowercase().to_string() + chars.as_str()
    })
}
