use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::*;

const HOST: &str = "cognito-identity.amazonaws.com";
const ASSUME: &str = "sts:AssumeRoleWithWebIdentity";

/// The request of a developer user with four tags, at 2026-01-02T03:04:05Z.
fn context() -> Context {
    let tags: BTreeMap<String, String> = [
        ("Repository", "org/app"),
        ("environment", "dev"),
        ("network", "10.1.2.3"),
        ("size", "12"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    let mut context = Context::default();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045);
    let peer = Peer {
        source_ip: "127.0.0.1",
        user_agent: "agent/1",
    };
    context.set_global(now, "us-east-1", "123456789012", peer);
    context.set("sts:RoleSessionName", "CognitoIdentityCredentials");
    context.set(&format!("{HOST}:aud"), "us-east-1:pool");
    context.set(&format!("{HOST}:sub"), "us-east-1:dev/42");
    let amr = ["authenticated", "login.app", "login.app:us-east-1:pool:u"];
    context.set_all(&format!("{HOST}:amr"), amr.map(str::to_owned));
    context.set_tags(&tags);
    context
}

fn statement(effect: &str, condition: &Value) -> Value {
    json!({ "Effect": effect, "Principal": { "Federated": HOST }, "Action": "sts:*", "Condition": condition })
}

fn document(statements: Value) -> String {
    json!({ "Version": "2012-10-17", "Statement": statements }).to_string()
}

fn judge(policy: &str) -> Verdict {
    trust(policy, false).unwrap().judge(HOST, ASSUME, &context())
}

fn allows(policy: &str) -> bool {
    judge(policy) == Verdict::Allowed
}

/// Whether a condition holds.
fn holds(condition: &Value) -> bool {
    let policy = document(json!([statement("Allow", condition)]));
    match trust(&policy, false) {
        Ok(policy) => policy.judge(HOST, ASSUME, &context()) == Verdict::Allowed,
        Err(malformed) => panic!("{condition}: {}", malformed.message),
    }
}

#[test]
fn operators_and_qualifiers_hold_as_iam_documents_them() {
    let amr = format!("{HOST}:amr");
    let aud = format!("{HOST}:aud");
    let table = [
        // Names of keys, and tag keys within them, regardless of case.
        (
            json!({ "StringEquals": { "aws:requestTag/repository": "org/app" } }),
            true,
        ),
        (json!({ "StringEquals": { "AWS:REQUESTTAG/ENVIRONMENT": "dev" } }), true),
        (
            json!({ "StringEquals": { "aws:requestTag/environment": "Dev" } }),
            false,
        ),
        (
            json!({ "StringEquals": { aud.to_uppercase(): "us-east-1:pool" } }),
            true,
        ),
        // Values in an or, keys and operators in an and.
        (json!({ "StringEquals": { &aud: ["other", "us-east-1:pool"] } }), true),
        (
            json!({ "StringEquals": { &aud: "us-east-1:pool", "aws:requesttag/size": "13" } }),
            false,
        ),
        (
            json!({ "StringEquals": { &aud: "us-east-1:pool" }, "StringLike": { &aud: "x*" } }),
            false,
        ),
        (
            json!({ "StringNotEquals": { &aud: ["other", "us-east-1:pool"] } }),
            false,
        ),
        (json!({ "StringNotEquals": { &aud: ["other", "another"] } }), true),
        (
            json!({ "StringEqualsIgnoreCase": { "aws:requesttag/environment": "DEV" } }),
            true,
        ),
        (
            json!({ "StringNotEqualsIgnoreCase": { "aws:requesttag/environment": "DEV" } }),
            false,
        ),
        (
            json!({ "StringLike": { "aws:requesttag/repository": "org/?pp" } }),
            true,
        ),
        (
            json!({ "StringEquals": { "aws:requesttag/repository": "org/*" } }),
            false,
        ),
        (
            json!({ "StringNotLike": { "aws:requesttag/repository": "org/*" } }),
            false,
        ),
        // Absent keys.
        (json!({ "StringEquals": { "aws:absent": "x" } }), false),
        (json!({ "StringNotEquals": { "aws:absent": "x" } }), true),
        (json!({ "StringNotLike": { "aws:absent": "*" } }), true),
        (json!({ "StringEqualsIfExists": { "aws:absent": "x" } }), true),
        (json!({ "StringEqualsIfExists": { &aud: "x" } }), false),
        (json!({ "NumericLessThan": { "aws:absent": "1" } }), false),
        (json!({ "NotIpAddress": { "aws:absent": "10.0.0.0/8" } }), true),
        (json!({ "ForAllValues:StringEquals": { "aws:absent": "x" } }), true),
        (json!({ "ForAnyValue:StringEquals": { "aws:absent": "x" } }), false),
        (json!({ "ForAnyValue:StringNotEquals": { "aws:absent": "x" } }), false),
        (
            json!({ "ForAnyValue:StringEqualsIfExists": { "aws:absent": "x" } }),
            true,
        ),
        (json!({ "ForAllValues:StringNotEquals": { "aws:absent": "x" } }), true),
        (json!({ "Null": { "aws:absent": "true" } }), true),
        (json!({ "Null": { "aws:absent": "false" } }), false),
        (json!({ "Null": { "aws:TagKeys": false } }), true),
        (json!({ "Null": { "aws:TagKeys": ["true", "false"] } }), true),
        // Several values.
        (
            json!({ "ForAllValues:StringEquals": { "aws:TagKeys": ["Repository"] } }),
            false,
        ),
        (
            json!({ "ForAllValues:StringEquals": { "aws:TagKeys": ["Repository", "environment", "network", "size"] } }),
            true,
        ),
        (
            json!({ "ForAllValues:StringLike": { "aws:TagKeys": ["Rep*", "environment", "network", "s*"] } }),
            true,
        ),
        (
            json!({ "ForAnyValue:StringEquals": { "aws:TagKeys": ["x", "size"] } }),
            true,
        ),
        (json!({ "ForAnyValue:StringEquals": { "aws:TagKeys": ["x"] } }), false),
        (json!({ "ForAnyValue:StringLike": { &amr: "authenticated" } }), true),
        (json!({ "ForAnyValue:StringNotLike": { &amr: "authenticated" } }), true),
        (
            json!({ "ForAnyValue:StringNotLike": { &amr: ["authenticated", "login.*"] } }),
            false,
        ),
        (
            json!({ "ForAllValues:StringNotEquals": { &amr: "unauthenticated" } }),
            true,
        ),
        (
            json!({ "ForAllValues:StringNotEquals": { &amr: "authenticated" } }),
            false,
        ),
        (json!({ "ForAnyValue:StringEquals": { &aud: "us-east-1:pool" } }), true),
        (json!({ "ForAllValues:StringEquals": { &aud: "us-east-1:pool" } }), true),
        // Without a qualifier a key of several values is not compared.
        (json!({ "StringEquals": { &amr: "authenticated" } }), false),
        (json!({ "StringNotEquals": { &amr: "unauthenticated" } }), false),
        // Numbers, dates, truth.
        (json!({ "NumericEquals": { "aws:requesttag/size": 12 } }), true),
        (json!({ "NumericEquals": { "aws:requesttag/size": "12.0" } }), true),
        (
            json!({ "NumericNotEquals": { "aws:requesttag/size": ["1", "12"] } }),
            false,
        ),
        (json!({ "NumericLessThan": { "aws:requesttag/size": "12" } }), false),
        (
            json!({ "NumericLessThanEquals": { "aws:requesttag/size": "12" } }),
            true,
        ),
        (json!({ "NumericGreaterThan": { "aws:requesttag/size": "11.5" } }), true),
        (
            json!({ "NumericGreaterThanEquals": { "aws:requesttag/size": "13" } }),
            false,
        ),
        (
            json!({ "NumericEquals": { "aws:requesttag/environment": "12" } }),
            false,
        ),
        (
            json!({ "NumericNotEquals": { "aws:requesttag/environment": "12" } }),
            false,
        ),
        (
            json!({ "DateLessThan": { "aws:CurrentTime": "2026-01-02T03:04:06Z" } }),
            true,
        ),
        (
            json!({ "DateLessThan": { "aws:CurrentTime": "2026-01-02T04:04:05+01:00" } }),
            false,
        ),
        (
            json!({ "DateLessThanEquals": { "aws:CurrentTime": "2026-01-02T04:04:05+01:00" } }),
            true,
        ),
        (json!({ "DateEquals": { "aws:CurrentTime": "1767323045" } }), true),
        (
            json!({ "DateEquals": { "aws:EpochTime": "2026-01-02T03:04:05Z" } }),
            true,
        ),
        (
            json!({ "DateNotEquals": { "aws:EpochTime": "2026-01-02T03:04:05Z" } }),
            false,
        ),
        (json!({ "DateGreaterThan": { "aws:CurrentTime": "2026-01-02" } }), true),
        (json!({ "DateGreaterThan": { "aws:CurrentTime": "2026-01-03" } }), false),
        (
            json!({ "DateGreaterThanEquals": { "aws:CurrentTime": "2026-01" } }),
            true,
        ),
        (
            json!({ "DateLessThan": { "aws:CurrentTime": "2026-01-02T03:05Z" } }),
            true,
        ),
        (
            json!({ "NumericGreaterThan": { "aws:EpochTime": 1_767_323_044_i64 } }),
            true,
        ),
        (json!({ "Bool": { "aws:SecureTransport": "true" } }), true),
        (json!({ "Bool": { "aws:SecureTransport": false } }), false),
        (
            json!({ "BoolIfExists": { "aws:MultiFactorAuthPresent": "true" } }),
            true,
        ),
        (json!({ "Bool": { "aws:MultiFactorAuthPresent": "false" } }), false),
        // Addresses.
        (json!({ "IpAddress": { "aws:SourceIp": "127.0.0.0/8" } }), true),
        (json!({ "IpAddress": { "aws:SourceIp": "0.0.0.0/0" } }), true),
        (
            json!({ "NotIpAddress": { "aws:SourceIp": ["10.0.0.0/8", "127.0.0.1"] } }),
            false,
        ),
        (json!({ "NotIpAddress": { "aws:SourceIp": "2001:db8::/32" } }), true),
        (json!({ "NotIpAddress": { "aws:SourceIp": "2001:db8::1" } }), true),
        (
            json!({ "IpAddress": { "aws:requesttag/network": "10.1.2.0/23" } }),
            true,
        ),
        (
            json!({ "IpAddress": { "aws:requesttag/network": "10.1.0.0/23" } }),
            false,
        ),
        (
            json!({ "IpAddress": { "aws:requesttag/environment": "0.0.0.0/0" } }),
            false,
        ),
        // Policy variables.
        (
            json!({ "StringLike": { &format!("{HOST}:sub"): "us-east-1:${aws:RequestTag/environment}/*" } }),
            true,
        ),
        (
            json!({ "StringEquals": { "aws:requesttag/environment": "${aws:requesttag/ENVIRONMENT}" } }),
            true,
        ),
        (
            json!({ "StringEquals": { "aws:requesttag/environment": "${aws:absent, 'dev'}" } }),
            true,
        ),
        (
            json!({ "StringEquals": { "aws:requesttag/environment": "${aws:absent}" } }),
            false,
        ),
        (
            json!({ "StringLike": { "aws:requesttag/environment": "${aws:absent}*" } }),
            false,
        ),
        (
            json!({ "StringNotEquals": { "aws:requesttag/environment": "${aws:absent}" } }),
            true,
        ),
        (
            json!({ "StringLike": { "aws:requesttag/environment": "d${*}v" } }),
            false,
        ),
        (
            json!({ "StringLike": { "aws:requesttag/environment": "${aws:TagKeys}" } }),
            false,
        ),
        (
            json!({ "StringEquals": { "sts:RoleSessionName": "CognitoIdentityCredentials" } }),
            true,
        ),
        (
            json!({ "StringEquals": { "aws:RequestedRegion": "us-east-1", "aws:ResourceAccount": 123_456_789_012_i64 } }),
            true,
        ),
        (json!({}), true),
    ];
    for (condition, expected) in table {
        assert_eq!(holds(&condition), expected, "{condition}");
    }
}

#[test]
fn a_deny_applies_whatever_its_conditions_are_written_with() {
    let allow = json!({ "Effect": "Allow", "Principal": { "Federated": HOST }, "Action": "sts:*" });
    for (deny, allowed) in [
        (
            statement(
                "Deny",
                &json!({ "StringEquals": { "aws:requestTag/environment": "dev" } }),
            ),
            false,
        ),
        (
            statement(
                "Deny",
                &json!({ "StringEquals": { "aws:requestTag/environment": "prod" } }),
            ),
            true,
        ),
        (
            statement("Deny", &json!({ "Bool": { "aws:SecureTransport": "false" } })),
            true,
        ),
        (
            statement(
                "Deny",
                &json!({ "DateGreaterThan": { "aws:CurrentTime": "2025-01-01T00:00:00Z" } }),
            ),
            false,
        ),
        (
            json!({ "Effect": "Deny", "Principal": { "AWS": "*" }, "Action": "sts:*" }),
            false,
        ),
        (
            json!({ "Effect": "Deny", "Principal": { "AWS": "123456789012" }, "Action": "sts:*" }),
            true,
        ),
        (
            json!({ "Effect": "Deny", "Principal": { "AWS": "*" }, "Action": "sts:TagSession" }),
            true,
        ),
        (
            json!({ "Effect": "Deny", "Principal": { "AWS": "*" }, "NotAction": "sts:TagSession" }),
            false,
        ),
        (
            json!({ "Effect": "Deny", "NotPrincipal": { "Federated": HOST }, "Action": "*" }),
            true,
        ),
        (
            json!({ "Effect": "Deny", "NotPrincipal": { "Federated": "accounts.google.com" }, "Action": "*" }),
            false,
        ),
        (
            json!({ "Effect": "Deny", "NotPrincipal": { "AWS": "*" }, "Action": "*" }),
            true,
        ),
    ] {
        let policy = document(json!([allow, deny]));
        assert_eq!(allows(&policy), allowed, "{deny}");
    }
}

#[test]
fn a_verdict_names_the_statement_and_what_decided() {
    let aud = json!({ "StringEquals": { format!("{HOST}:aud"): "other" } });
    let mut named = statement("Allow", &aud);
    named["Sid"] = json!("Members");
    let other =
        json!({ "Effect": "Allow", "Principal": { "Service": "ec2.amazonaws.com" }, "Action": "sts:AssumeRole" });
    assert_eq!(
        judge(&document(json!([named, other]))).to_string(),
        "no statement allows it (statement Members: StringEquals of cognito-identity.amazonaws.com:aud does not hold; \
         statement 2: its principal is not cognito-identity.amazonaws.com)"
    );
    let deny = json!({ "Effect": "Deny", "Principal": { "AWS": "*" }, "Action": "sts:*" });
    assert_eq!(
        judge(&document(json!([deny]))).to_string(),
        "denied by statement 1: Deny of sts:AssumeRoleWithWebIdentity applies"
    );
}

#[test]
fn actions_match_with_wildcards_regardless_of_case() {
    for (action, expected) in [
        (json!("sts:AssumeRoleWithWebIdentity"), true),
        (json!("STS:assumerolewithwebidentity"), true),
        (json!(["sts:TagSession", "sts:AssumeRole*"]), true),
        (json!("sts:AssumeRole"), false),
        (json!("sts:*WebIdentit?"), true),
    ] {
        let policy = json!({ "Effect": "Allow", "Principal": { "AWS": "*" }, "Action": action });
        assert_eq!(allows(&document(policy)), expected, "{action}");
    }
}

#[test]
fn variables_are_text_before_the_version_of_2012() {
    for version in [json!({}), json!({ "Version": "2008-10-17" })] {
        let condition = json!({ "StringEquals": { "aws:requesttag/environment": "${aws:requesttag/environment}" } });
        let mut policy = version;
        policy["Statement"] = json!([statement("Allow", &condition)]);
        assert!(!allows(&policy.to_string()), "{policy}");
    }
}

#[test]
fn a_variable_cannot_widen_the_pattern_that_it_stands_in() {
    let mut context = context();
    context.set("aws:RequestTag/environment", "*");
    context.set("aws:RequestTag/account", "1:role/admin");
    context.set("aws:RequestTag/arn", "arn:aws:iam::1:role/admin:user/x");
    let judged = |condition: Value| {
        let policy = trust(&document(json!([statement("Allow", &condition)])), false).unwrap();
        policy.judge(HOST, ASSUME, &context) == Verdict::Allowed
    };
    let sub = format!("{HOST}:sub");
    assert!(!judged(
        json!({ "StringLike": { &sub: "${aws:RequestTag/environment}" } })
    ));
    assert!(judged(json!({ "StringLike": { &sub: "*" } })));
    let arn = "aws:RequestTag/arn";
    assert!(judged(
        json!({ "ArnLike": { arn: "arn:aws:iam::1:role/admin:user/*" } })
    ));
    assert!(!judged(
        json!({ "ArnLike": { arn: "arn:aws:iam::${aws:RequestTag/account}:user/x" } })
    ));
    assert!(
        !judged(json!({ "ArnLike": { arn: "arn:aws:*:1:role/admin:user/x" } })),
        "a part for a part"
    );
    assert!(!judged(json!({ "ArnNotEquals": { arn: "arn:aws:iam::1:role/*" } })));
    assert!(
        !judged(json!({ "ArnNotEquals": { &sub: "arn:aws:iam::1:role/*" } })),
        "not an ARN"
    );
}

#[test]
fn binary_values_are_compared_as_bytes() {
    let mut context = context();
    context.set("aws:RequestTag/key", "QmluYXJ5VmFsdWU=");
    let policy = |value: &str| {
        let condition = json!({ "BinaryEquals": { "aws:RequestTag/key": value } });
        trust(&document(json!([statement("Allow", &condition)])), false)
    };
    let judged = |value: &str| policy(value).unwrap().judge(HOST, ASSUME, &context) == Verdict::Allowed;
    assert!(judged("QmluYXJ5VmFsdWU="));
    assert!(!judged("QmluYXJ5VmFsdWUx"));
    assert!(policy("no base64!").is_err());
}

/// What IAM answers to a trust policy, with its condition required.
fn refused(policy: &str) -> Malformed {
    match trust(policy, true) {
        Ok(_) => panic!("taken: {policy}"),
        Err(malformed) => malformed,
    }
}

#[test]
fn what_iam_does_not_save_is_refused() {
    let good = statement("Allow", &json!({ "StringEquals": { format!("{HOST}:aud"): "p" } }));
    assert!(trust(&document(json!([good])), true).is_ok());
    let with = |name: &str, value: Value| {
        let mut statement = good.clone();
        statement[name] = value;
        document(json!([statement]))
    };
    let without = |name: &str| {
        let mut statement = good.clone();
        statement.as_object_mut().unwrap().remove(name);
        document(json!([statement]))
    };
    let condition = |condition: Value| document(json!([statement("Allow", &condition)]));
    let top = |name: &str, value: Value| {
        let mut document = json!({ "Version": "2012-10-17", "Statement": [good] });
        document[name] = value;
        document.to_string()
    };
    for (policy, message) in [
        (with("Conditions", json!({})), "Unknown field Conditions"),
        (
            condition(json!({ "stringEquals": { "a:b": "c" } })),
            "Invalid Condition type : stringEquals",
        ),
        (
            condition(json!({ "StringEqualsIfExist": { "a:b": "c" } })),
            "Invalid Condition type : StringEqualsIfExist",
        ),
        (
            condition(json!({ "ForSomeValues:StringEquals": { "a:b": "c" } })),
            "Invalid Condition type : ForSomeValues:StringEquals",
        ),
        (
            condition(json!({ "NullIfExists": { "a:b": "true" } })),
            "Invalid Condition type : NullIfExists",
        ),
        (
            condition(json!({ "BinaryNotEquals": { "a:b": "true" } })),
            "Invalid Condition type : BinaryNotEquals",
        ),
        (
            condition(json!({ "StringEquals": { "a:b": { "c": "d" } } })),
            "Condition values must be strings, numbers or Booleans.",
        ),
        (
            condition(json!({ "StringEquals": { "a:b": null } })),
            "Condition values must be strings, numbers or Booleans.",
        ),
        (condition(json!({ "StringEquals": "c" })), "Syntax errors in policy."),
        (with("Condition", json!([])), "Syntax errors in policy."),
        (with("Effect", json!("allow")), "Invalid effect: allow"),
        (without("Effect"), "Missing required field Effect"),
        (without("Principal"), "Missing required field Principal"),
        (without("Action"), "Missing required field Action"),
        (
            with("Action", json!([])),
            "Missing required field Action cannot be empty!",
        ),
        (with("NotAction", json!("sts:AssumeRole")), "Syntax errors in policy."),
        (with("NotPrincipal", json!({ "AWS": "*" })), "Syntax errors in policy."),
        (
            with("Action", json!("s3:GetObject")),
            "AssumeRole policy may only specify STS AssumeRole actions.",
        ),
        (
            with("Action", json!(["sts:AssumeRole", "iam:PassRole"])),
            "AssumeRole policy may only specify STS AssumeRole actions.",
        ),
        (with("Resource", json!("*")), "Has prohibited field Resource"),
        (with("Principal", json!("*")), "Invalid principal in policy: *"),
        (
            with("Principal", json!({ "Federated": "*" })),
            "Invalid principal in policy: \"Federated\":\"*\"",
        ),
        (
            with("Principal", json!({ "AWS": "someone" })),
            "Invalid principal in policy: \"AWS\":\"someone\"",
        ),
        (
            with("Principal", json!({ "AWS": "arn:aws:iam::123456789012:role/*" })),
            "Invalid principal in policy: \"AWS\":\"arn:aws:iam::123456789012:role/*\"",
        ),
        (with("Principal", json!({ "Fedrated": HOST })), "Unknown field Fedrated"),
        (with("Principal", json!({})), "Syntax errors in policy."),
        (
            with("Sid", json!("two words")),
            "Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression [0-9A-Za-z]*",
        ),
        (
            top("Version", json!("2012-10-18")),
            "The policy must contain a valid version string.",
        ),
        (
            top("Version", json!(2012)),
            "The policy must contain a valid version string.",
        ),
        (top("Statements", json!([])), "Unknown field Statements"),
        (top("Statement", json!([])), "Syntax errors in policy."),
        (top("Statement", json!("x")), "Syntax errors in policy."),
        (top("Statement", json!(["x"])), "Syntax errors in policy."),
        (
            without("Condition"),
            "A trust policy for Amazon Cognito identity pools must have at least one condition",
        ),
        (
            condition(json!({})),
            "A trust policy for Amazon Cognito identity pools must have at least one condition",
        ),
        (String::new(), "This policy contains invalid Json"),
        ("[]".to_owned(), "This policy contains invalid Json"),
        ("{} {}".to_owned(), "This policy contains invalid Json"),
    ] {
        let malformed = refused(&policy);
        assert_eq!(
            (malformed.message.as_str(), malformed.only_here),
            (message, false),
            "{policy}"
        );
    }
    let mut twice = good.clone();
    twice["Sid"] = json!("A");
    let twins = refused(&document(json!([twice, twice])));
    assert_eq!(twins.message, "Statement IDs (SID) in a single policy must be unique.");
    let empty = json!({ "Sid": "", "Effect": "Deny", "Principal": { "AWS": "*" }, "Action": "sts:AssumeRole" });
    assert!(
        trust(&document(json!([empty, empty])), true).is_ok(),
        "the console writes empty Sids"
    );
    // serde_json would keep the last of two members, and lose a Deny's condition.
    let member_twice = r#"{"Version":"2012-10-17","Version":"2012-10-17","Statement":[]}"#;
    assert_eq!(refused(member_twice).message, "This policy contains invalid Json");
}

#[test]
fn what_cannot_be_judged_here_is_said_so() {
    for (condition, message) in [
        (
            json!({ "StringEquals": { "aws:ResourceTag/team": "a" } }),
            "the local pool does not know the value of aws:ResourceTag/team",
        ),
        (
            json!({ "StringEquals": { "aws:PrincipalType": "Anonymous" } }),
            "the local pool does not know the value of aws:PrincipalType",
        ),
        (
            json!({ "NumericEquals": { "aws:requesttag/size": "twelve" } }),
            "NumericEquals of aws:requesttag/size: \"twelve\" is not a number",
        ),
        (
            json!({ "NumericEquals": { "aws:requesttag/size": "${aws:EpochTime}" } }),
            "NumericEquals of aws:requesttag/size: \"${aws:EpochTime}\" is not a number",
        ),
        (
            json!({ "DateLessThan": { "aws:CurrentTime": "tomorrow" } }),
            "DateLessThan of aws:CurrentTime: \"tomorrow\" is not a date",
        ),
        (
            json!({ "Bool": { "aws:SecureTransport": "yes" } }),
            "Bool of aws:SecureTransport: \"yes\" is not a Boolean",
        ),
        (
            json!({ "Null": { "aws:TagKeys": "no" } }),
            "Null of aws:TagKeys: \"no\" is not a Boolean",
        ),
        (
            json!({ "IpAddress": { "aws:SourceIp": "10.0.0.0/33" } }),
            "IpAddress of aws:SourceIp: \"10.0.0.0/33\" is not an address or network",
        ),
        (
            json!({ "ArnLike": { "aws:SourceArn": "*" } }),
            "ArnLike of aws:SourceArn: \"*\" is not an ARN of six parts",
        ),
        (
            json!({ "StringLike": { "aws:requesttag/size": "${aws:x,'a'}" } }),
            "StringLike of aws:requesttag/size: the default value of a policy variable in \"${aws:x,'a'}\" does not follow a comma and a space",
        ),
        (
            json!({ "StringLike": { "aws:requesttag/size": "${aws:x" } }),
            "StringLike of aws:requesttag/size: the policy variable in \"${aws:x\" has no end",
        ),
    ] {
        let malformed = refused(&document(json!([statement("Allow", &condition)])));
        assert_eq!(
            (malformed.message.as_str(), malformed.only_here),
            (message, true),
            "{condition}"
        );
    }
}

#[test]
fn a_session_policy_has_actions_and_resources_and_no_principal() {
    let good =
        json!({ "Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::bucket/${aws:userid}/*" });
    assert_eq!(session(&document(json!(good))), Ok(()));
    let any = json!([{ "Sid": "All", "Effect": "Deny", "NotAction": "*", "NotResource": ["*"],
        "Condition": { "StringEquals": { "aws:PrincipalType": "x" } } }]);
    assert_eq!(session(&document(any)), Ok(()));
    for (statement, message) in [
        (
            json!({ "Effect": "Allow", "Action": "s3:*" }),
            "Policy statement must contain resources.",
        ),
        (
            json!({ "Effect": "Allow", "Action": "GetObject", "Resource": "*" }),
            "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.",
        ),
        (
            json!({ "Effect": "Allow", "Action": "s3:*", "Resource": "bucket" }),
            "Resource bucket must be in ARN format or \"*\".",
        ),
        (
            json!({ "Effect": "Allow", "Action": "s3:*", "Resource": "*", "Principal": { "AWS": "*" } }),
            "Policy document should not specify a principal.",
        ),
        (
            json!({ "Effect": "Allow", "Action": "s3:*", "Resource": "*", "Condition": { "Equals": { "a:b": "c" } } }),
            "Invalid Condition type : Equals",
        ),
        (
            json!({ "Effect": "Permit", "Action": "s3:*", "Resource": "*" }),
            "Invalid effect: Permit",
        ),
    ] {
        let refused = session(&document(json!([statement]))).unwrap_err();
        assert_eq!(refused.message, message, "{statement}");
    }
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
        ("?", "é", true),
    ] {
        assert_eq!(template::matches_wildcards(pattern, text), expected, "{pattern} {text}");
    }
    let hostile = format!("{}c", "a*".repeat(50));
    assert!(!template::matches_wildcards(
        &hostile,
        &format!("{}b", "a".repeat(2000))
    ));
}
