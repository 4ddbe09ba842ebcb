//! Text of a policy: wildcards (`*`, `?`) and policy variables (`${key}`, `${key, 'default'}`, `${*}`). IAM documents the
//! form of a default as "a comma and a space", and single quotes.

use super::context::{Context, Values};

/// Text with policy variables, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    /// As it stands, wildcards included.
    Text(String),
    /// A character that is no wildcard: `${*}`, `${?}`, `${$}`.
    Literal(char),
    /// The key in lower case.
    Variable { key: String, default: Option<String> },
}

/// An element of a pattern that has no variables any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Element {
    Char(char),
    /// Of a variable's value: it separates nothing.
    Inserted(char),
    /// `?`
    One,
    /// `*`
    Any,
}

impl Template {
    /// Takes `text` apart. Policies of versions before 2012-10-17 have no variables.
    pub(super) fn new(text: &str, variables: bool) -> Result<Self, String> {
        if !variables {
            return Ok(Self(vec![Part::Text(text.to_owned())]));
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (variable, after) = after
                .split_once('}')
                .ok_or_else(|| format!("the policy variable in {text:?} has no end"))?;
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::variable(variable, text)?);
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self(parts))
    }

    /// Whether it can be split into the six parts of an ARN.
    pub(super) fn is_arn(&self) -> bool {
        let text = |part: &Part| match part {
            Part::Text(text) => text.clone(),
            _ => String::new(),
        };
        let text: String = self.0.iter().map(text).collect();
        text.starts_with("arn:") && text.matches(':').count() >= 5
    }

    /// The pattern with the values of the request in the place of its variables; nothing if one has no value. What a
    /// variable stands for is text without wildcards.
    pub(super) fn resolve(&self, context: &Context) -> Option<Vec<Element>> {
        let mut pattern = Vec::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => pattern.extend(text.chars().map(|char| match char {
                    '*' => Element::Any,
                    '?' => Element::One,
                    char => Element::Char(char),
                })),
                Part::Literal(char) => pattern.push(Element::Char(*char)),
                Part::Variable { key, default } => {
                    let value = match context.get(key) {
                        Some(Values::One(value)) => value,
                        Some(Values::Several(_)) | None => default.as_ref()?,
                    };
                    pattern.extend(value.chars().map(Element::Inserted));
                }
            }
        }
        Some(pattern)
    }
}

impl Part {
    fn variable(inside: &str, text: &str) -> Result<Self, String> {
        if let "*" | "?" | "$" = inside {
            return Ok(Self::Literal(inside.chars().next().unwrap_or_default()));
        }
        let Some((key, default)) = inside.split_once(", ") else {
            if inside.contains(',') {
                return Err(format!(
                    "the default value of a policy variable in {text:?} does not follow a comma and a space"
                ));
            }
            return Ok(Self::Variable {
                key: inside.trim().to_lowercase(),
                default: None,
            });
        };
        let default = default
            .trim()
            .strip_prefix('\'')
            .and_then(|default| default.strip_suffix('\''));
        Ok(Self::Variable {
            key: key.trim().to_lowercase(),
            default: Some(
                default
                    .ok_or_else(|| {
                        format!("the default value of a policy variable in {text:?} is not in single quotes")
                    })?
                    .to_owned(),
            ),
        })
    }
}

/// The text of a pattern whose wildcards are characters like others.
pub(super) fn literal(pattern: &[Element]) -> String {
    let char = |element: &Element| match element {
        Element::Char(char) | Element::Inserted(char) => *char,
        Element::One => '?',
        Element::Any => '*',
    };
    pattern.iter().map(char).collect()
}

/// The six parts of an ARN's pattern: colons of the sixth are its own.
pub(super) fn arn_parts(pattern: &[Element]) -> Option<Vec<&[Element]>> {
    let parts: Vec<_> = pattern.splitn(6, |element| *element == Element::Char(':')).collect();
    (parts.len() == 6).then_some(parts)
}

/// Whether `pattern`, where `*` and `?` are wildcards, matches all of `text`.
pub(super) fn matches_wildcards(pattern: &str, text: &str) -> bool {
    let template = Template(vec![Part::Text(pattern.to_owned())]);
    template
        .resolve(&Context::default())
        .is_some_and(|pattern| matches(&pattern, text))
}

/// Whether `pattern` matches all of `text`. Linear in most cases and never worse than the product of the lengths: after
/// a mismatch only the last `*` is tried anew.
pub(super) fn matches(pattern: &[Element], text: &str) -> bool {
    let text: Vec<char> = text.chars().collect();
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(Element::Any) => {
                star = Some((p, t));
                p += 1;
            }
            Some(Element::One) => {
                p += 1;
                t += 1;
            }
            Some(Element::Char(char) | Element::Inserted(char)) if *char == text[t] => {
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
    pattern[p..].iter().all(|element| *element == Element::Any)
}
