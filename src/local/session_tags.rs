//! Session tags as STS takes them, whether a backend sent them or a claim was mapped to them.

use std::collections::{BTreeMap, BTreeSet};

use super::rules::{Refusal, Rule};

/// The most tags of a session.
const MAX_TAGS: usize = 50;

/// What keys and values are made of, as STS prints it.
const PATTERN: &str = r"[\p{L}\p{Z}\p{N}_.:/=+\-@]*";

/// The most that the tags of one session may take, in bytes.
const MAX_BYTES: usize = 460;

/// Whether STS takes these tags for a session.
pub(super) fn check(tags: &BTreeMap<String, String>) -> Result<(), Refusal> {
    if tags.len() > MAX_TAGS {
        let constraint = format!("Member must have length less than or equal to {MAX_TAGS}");
        return Err(broken("[...]", "tags", &constraint));
    }
    let mut keys = BTreeSet::new();
    for (index, (key, value)) in tags.iter().enumerate() {
        let at = |member: &str| format!("tags.{}.member.{member}", index + 1);
        check_text(key, 1, 128, &at("key"))?;
        check_text(value, 0, 256, &at("value"))?;
        if key.get(..4).is_some_and(|prefix| prefix.eq_ignore_ascii_case("aws:")) {
            return Err(Rule::StsReservedTag
                .refuse(&[])
                .because(format!("the tag key is {key}")));
        }
        if !keys.insert(key.to_lowercase()) {
            return Err(Rule::StsDuplicateTag
                .refuse(&[])
                .because(format!("the tag key is {key}")));
        }
    }
    let percent = packed_percent(tags);
    match percent > 100 {
        true => Err(Rule::StsPacked
            .refuse(&[&percent])
            .because(format!("the session tags take {percent}% of the space that they may"))),
        false => Ok(()),
    }
}

fn check_text(text: &str, min: usize, max: usize, path: &str) -> Result<(), Refusal> {
    let length = text.encode_utf16().count();
    if length < min {
        return Err(broken(
            text,
            path,
            &format!("Member must have length greater than or equal to {min}"),
        ));
    }
    if length > max {
        return Err(broken(
            text,
            path,
            &format!("Member must have length less than or equal to {max}"),
        ));
    }
    if !text.chars().all(is_allowed) {
        return Err(broken(
            text,
            path,
            &format!("Member must satisfy regular expression pattern: {PATTERN}"),
        ));
    }
    Ok(())
}

fn broken(value: &str, path: &str, constraint: &str) -> Refusal {
    // The value is the user's: the message repeats it as STS does, the reason, which is logged, does not.
    Rule::StsTagConstraint
        .refuse(&[&value, &path, &constraint])
        .because(format!(
            "the session tag at {path} is not one that STS takes: {constraint}"
        ))
}

fn is_allowed(char: char) -> bool {
    // `\p{Z}`: separators, which line breaks and tabs are not.
    let separator = matches!(
        char,
        ' ' | '\u{a0}' | '\u{1680}' | '\u{2000}'
            ..='\u{200a}' | '\u{2028}' | '\u{2029}' | '\u{202f}' | '\u{205f}' | '\u{3000}'
    );
    separator || char.is_alphanumeric() || "_.:/=+-@".contains(char)
}

/// How full these tags make a session, in percent.
fn packed_percent(tags: &BTreeMap<String, String>) -> usize {
    let bytes: usize = tags.iter().map(|(key, value)| key.len() + value.len()).sum();
    bytes * 100 / MAX_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(pairs: &[(&str, &str)]) -> Option<Refusal> {
        let tags = pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect();
        check(&tags).err()
    }

    fn rule(pairs: &[(&str, &str)]) -> Option<Rule> {
        refused(pairs).map(|refusal| refusal.rule)
    }

    #[test]
    fn a_value_outside_of_the_alphabet_is_refused_with_its_place() {
        let refusal = refused(&[("actor", "dependabot[bot]")]).unwrap();
        assert!(!refusal.why.unwrap().contains("dependabot"), "the reason is logged");
        assert_eq!(
            refusal.message,
            r"1 validation error detected: Value 'dependabot[bot]' at 'tags.1.member.value' failed to satisfy constraint: Member must satisfy regular expression pattern: [\p{L}\p{Z}\p{N}_.:/=+\-@]*"
        );
        for good in ["", "a b", "Zoë", "日本", "a+b=c@d_e.f:g/h-i", "٣", "non\u{a0}breaking"] {
            assert_eq!(rule(&[("k", good)]), None, "{good:?}");
        }
        for bad in [
            "a*", "a?", "a,b", "a;b", "tab\t", "line\n", "(x)", "{x}", "#", "'", "\"", "€", "😀",
        ] {
            assert_eq!(rule(&[("k", bad)]), Some(Rule::StsTagConstraint), "{bad:?}");
        }
        assert_eq!(rule(&[("k[", "v")]), Some(Rule::StsTagConstraint));
        assert_eq!(rule(&[("", "v")]), Some(Rule::StsTagConstraint));
    }

    #[test]
    fn lengths_prefix_twins_number_and_size_are_checked() {
        assert_eq!(rule(&[("k", &"v".repeat(257))]), Some(Rule::StsTagConstraint));
        assert_eq!(rule(&[(&"k".repeat(129), "v")]), Some(Rule::StsTagConstraint));
        assert_eq!(rule(&[("aws:x", "v")]), Some(Rule::StsReservedTag));
        assert_eq!(rule(&[("AWS:x", "v")]), Some(Rule::StsReservedTag));
        assert_eq!(rule(&[("awsx", "v")]), None);
        assert_eq!(rule(&[("Tenant", "a"), ("tenant", "a")]), Some(Rule::StsDuplicateTag));
        let many = |count: usize| (0..count).map(|n| (format!("k{n}"), "v".to_owned())).collect();
        assert!(check(&many(50)).is_ok());
        assert_eq!(check(&many(51)).unwrap_err().rule, Rule::StsTagConstraint);
        assert_eq!(
            rule(&[("k", &"v".repeat(230)), ("l", &"v".repeat(228))]),
            None,
            "460 bytes"
        );
        let large = refused(&[("k", &"v".repeat(240)), ("l", &"v".repeat(230))]).unwrap();
        assert_eq!(
            large.message,
            "Packed size of session tags consumes 102% of allotted space."
        );
    }
}
