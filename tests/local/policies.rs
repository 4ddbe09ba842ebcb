//! Trust policies as they are registered and asked: over the wire, in both flows, in every partition.

use std::time::Duration;

use crate::stage::{ISSUER, PROVIDER, Stage, error};
use cognito_identity_pool::LocalIdentityPool;
use cognito_identity_pool::local::{LocalRequest, LocalRole};
use serde_json::{Value, json};

const ROLE: &str = "arn:aws:iam::123456789012:role/app";

/// A policy that trusts the pool's principal under one condition, and denies under others.
fn policy(condition: &Value, denied: &[Value]) -> String {
    let statement = |effect: &str, condition: &Value| {
        json!({
            "Effect": effect,
            "Principal": { "Federated": ISSUER },
            "Action": ["sts:AssumeRoleWithWebIdentity", "sts:TagSession"],
            "Condition": condition,
        })
    };
    let mut statements = vec![statement("Allow", condition)];
    statements.extend(denied.iter().map(|condition| statement("Deny", condition)));
    json!({ "Version": "2012-10-17", "Statement": statements }).to_string()
}

async fn trusting(policy: &str) -> Stage {
    let role = LocalRole::new(ROLE, policy).unwrap();
    Stage::with(|pool| pool.role(role).authenticated_role(ROLE)).await
}

/// Identity and token of a user with two tags.
async fn tagged(stage: &Stage) -> (String, String) {
    let call = stage
        .signing()
        .get_open_id_token_for_developer_identity()
        .identity_pool_id(stage.id())
        .logins(PROVIDER, "user-42");
    let call = call
        .principal_tags("repository", "org/app")
        .principal_tags("environment", "dev");
    let vended = call.send().await.unwrap();
    (vended.identity_id.unwrap(), vended.token.unwrap())
}

/// The errors of the enhanced and of the classic flow, empty for success.
async fn both_flows(stage: &Stage, session_name: &str) -> (String, String) {
    let (id, token) = tagged(stage).await;
    let call = stage
        .client()
        .get_credentials_for_identity()
        .identity_id(id)
        .logins(ISSUER, &token);
    let enhanced = error(call.send().await).0;
    let sts = stage.sts();
    let call = sts
        .assume_role_with_web_identity()
        .role_arn(ROLE)
        .role_session_name(session_name)
        .web_identity_token(token);
    (enhanced, error(call.send().await).0)
}

const REFUSED: (&str, &str) = ("InvalidIdentityPoolConfigurationException", "AccessDenied");

#[tokio::test]
async fn what_a_request_says_reaches_the_policy_in_both_flows() {
    let amr = "cognito-identity.amazonaws.com:amr";
    let any = json!({ "ForAnyValue:StringLike": { amr: "authenticated" } });
    for (condition, denied, expected) in [
        (
            json!({ "StringEquals": { "aws:requestTag/Repository": "org/app" } }),
            vec![],
            ("", ""),
        ),
        (
            json!({ "StringEquals": { "aws:requestTag/Repository": "org/other" } }),
            vec![],
            REFUSED,
        ),
        (
            any.clone(),
            vec![json!({ "StringEquals": { "aws:requestTag/environment": "dev" } })],
            REFUSED,
        ),
        (
            any.clone(),
            vec![json!({ "StringEquals": { "aws:requestTag/environment": "prod" } })],
            ("", ""),
        ),
        (
            json!({ "ForAllValues:StringEquals": { "aws:TagKeys": ["repository"] } }),
            vec![],
            REFUSED,
        ),
        (
            json!({ "ForAllValues:StringEquals": { "aws:TagKeys": ["repository", "environment"] } }),
            vec![],
            ("", ""),
        ),
        (json!({ "Null": { "aws:TagKeys": "false" } }), vec![], ("", "")),
        (
            json!({ "ForAnyValue:StringNotLike": { amr: "authenticated" } }),
            vec![],
            ("", ""),
        ),
        (
            json!({ "ForAnyValue:StringNotEquals": { "aws:absent": "a" } }),
            vec![],
            REFUSED,
        ),
        // Only the classic flow lets the caller name the session.
        (
            json!({ "StringEquals": { "sts:RoleSessionName": "CognitoIdentityCredentials" } }),
            vec![],
            ("", "AccessDenied"),
        ),
        (
            json!({ "StringEquals": { "sts:RoleSessionName": "org_dev" } }),
            vec![],
            ("InvalidIdentityPoolConfigurationException", ""),
        ),
        (
            json!({ "StringLike": { "sts:RoleSessionName": "*_${aws:RequestTag/environment}" } }),
            vec![],
            ("InvalidIdentityPoolConfigurationException", ""),
        ),
        (
            any.clone(),
            vec![json!({ "Bool": { "aws:SecureTransport": "false" } })],
            ("", ""),
        ),
        (
            any,
            vec![json!({ "IpAddress": { "aws:SourceIp": "127.0.0.0/8" } })],
            REFUSED,
        ),
    ] {
        let stage = trusting(&policy(&condition, &denied)).await;
        let got = both_flows(&stage, "org_dev").await;
        assert_eq!((got.0.as_str(), got.1.as_str()), expected, "{condition} {denied:?}");
    }
}

#[tokio::test]
async fn a_policy_can_end_by_the_pools_clock() {
    let stage = Stage::start().await;
    let end = aws_smithy_types::DateTime::from(aws_smithy_async::time::TimeSource::now(&stage.clock)).secs() + 60;
    let condition = json!({ "DateLessThan": { "aws:CurrentTime": end.to_string() } });
    let role = LocalRole::new(ROLE, &policy(&condition, &[])).unwrap();
    let clock = stage.clock.clone();
    let timed = Stage::with(|pool| pool.role(role).authenticated_role(ROLE).time_source(clock.clone())).await;
    assert_eq!(both_flows(&timed, "a1").await, (String::new(), String::new()));
    clock.advance(Duration::from_secs(60));
    let got = both_flows(&timed, "a1").await;
    assert_eq!((got.0.as_str(), got.1.as_str()), REFUSED);
}

#[tokio::test]
async fn a_refusal_says_which_statement_and_which_condition() {
    let condition = json!({ "StringEquals": { "cognito-identity.amazonaws.com:aud": "us-east-1:other" } });
    let stage = trusting(&policy(&condition, &[])).await;
    both_flows(&stage, "a1").await;
    let refused: Vec<LocalRequest> = stage
        .pool
        .requests()
        .into_iter()
        .filter(|request| request.rule.is_some())
        .collect();
    let why: Vec<&str> = refused.iter().filter_map(|request| request.why.as_deref()).collect();
    let expected = "the trust policy of arn:aws:iam::123456789012:role/app, asked for sts:AssumeRoleWithWebIdentity: no \
        statement allows it (statement 1: StringEquals of cognito-identity.amazonaws.com:aud does not hold)";
    assert_eq!(why, [format!("STS refuses the role: {expected}").as_str(), expected]);
}

#[tokio::test]
async fn a_role_of_another_account_needs_conditions_on_both_claims() {
    let other = "arn:aws:iam::999999999999:role/app";
    let aud = json!({ "StringLike": { "cognito-identity.amazonaws.com:aud": "us-east-1:*" } });
    let mut both = aud.clone();
    both["ForAnyValue:StringLike"] = json!({ "cognito-identity.amazonaws.com:amr": "authenticated" });
    for (condition, expected) in [(aud, "AccessDenied"), (both, "")] {
        let role = LocalRole::new(other, &policy(&condition, &[])).unwrap();
        let stage = Stage::with(|pool| pool.role(role)).await;
        let (_, token) = stage.vend("user-42").await;
        let sts = stage.sts();
        let call = sts
            .assume_role_with_web_identity()
            .role_arn(other)
            .role_session_name("a1");
        assert_eq!(
            error(call.web_identity_token(token).send().await).0,
            expected,
            "{condition}"
        );
    }
}

#[tokio::test]
async fn each_partition_accepts_its_documented_policy_and_no_other() {
    // Principal and condition prefix: the Developer Guide, the GovCloud user guide, and the documents of China.
    let documented = [
        ("us-east-1", "aws", ISSUER, ISSUER),
        (
            "us-gov-west-1",
            "aws-us-gov",
            "cognito-identity-us-gov.amazonaws.com",
            "cognito-identity-us-gov.amazonaws.com",
        ),
        (
            "us-gov-east-1",
            "aws-us-gov",
            "cognito-identity.us-gov-east-1.amazonaws.com",
            "cognito-identity.us-gov-east-1.amazonaws.com",
        ),
        (
            "cn-north-1",
            "aws-cn",
            "cognito-identity.cn-north-1.amazonaws.com.cn",
            "cognito-identity.amazonaws.com.cn",
        ),
    ];
    for (region, partition, _, _) in documented {
        for (of, _, principal, prefix) in documented {
            let arn = format!("arn:{partition}:iam::123456789012:role/app");
            let policy = json!({ "Version": "2012-10-17", "Statement": [{
                "Effect": "Allow",
                "Principal": { "Federated": principal },
                "Action": "sts:AssumeRoleWithWebIdentity",
                "Condition": {
                    "StringLike": { format!("{prefix}:aud"): format!("{region}:*") },
                    "ForAnyValue:StringLike": { format!("{prefix}:amr"): "authenticated" },
                },
            }] });
            let role = LocalRole::new(&arn, &policy.to_string()).unwrap();
            let stage = Stage::with(|pool| pool.region(region).role(role).authenticated_role(&arn)).await;
            let (id, token) = stage.vend("user-42").await;
            let call = stage.client().get_credentials_for_identity().identity_id(id);
            let got = error(call.logins(stage.pool.issuer_host(), token).send().await).0;
            let expected = if region == of {
                ""
            } else {
                "InvalidIdentityPoolConfigurationException"
            };
            assert_eq!(got, expected, "the policy of {of} in {region}");
        }
    }
}

#[tokio::test]
async fn what_the_pool_makes_itself_has_the_arns_of_the_partition() {
    let stage = Stage::with(|pool| pool.region("us-gov-west-1")).await;
    let (id, token) = stage.vend("user-42").await;
    let call = stage.client().get_credentials_for_identity().identity_id(id);
    let credentials = call
        .logins(stage.pool.issuer_host(), token)
        .send()
        .await
        .unwrap()
        .credentials
        .unwrap();
    let config = crate::stage::signed_by(stage.pool.client_config(), &credentials);
    let caller = aws_sdk_sts::Client::new(&config)
        .get_caller_identity()
        .send()
        .await
        .unwrap();
    assert_eq!(
        caller.arn(),
        Some("arn:aws-us-gov:sts::123456789012:assumed-role/local-authenticated/CognitoIdentityCredentials")
    );
}

#[test]
fn a_policy_that_iam_would_not_save_is_refused_when_the_role_is_registered() {
    let refused = |policy: &str| LocalRole::new(ROLE, policy).unwrap_err();
    let wrong = refused(&policy(&json!({ "stringEquals": { "a:b": "c" } }), &[]));
    assert_eq!(
        (wrong.rule(), wrong.to_string().as_str()),
        (
            "TrustPolicyMalformed",
            "MalformedPolicyDocument: Invalid Condition type : stringEquals"
        )
    );
    let unknown = refused(&policy(
        &json!({ "StringEquals": { "iam:ResourceTag/team": "a" } }),
        &[],
    ));
    assert_eq!(
        (unknown.rule(), unknown.to_string().as_str()),
        (
            "TrustPolicyNotJudged",
            "NotJudged: the local pool does not know the value of iam:ResourceTag/team"
        )
    );
    let file = json!({ "Roles": [{ "RoleArn": ROLE, "TrustPolicy": { "Statement": [] } }] });
    let error = LocalIdentityPool::builder().pools_file(&file.to_string()).unwrap_err();
    assert!(error.to_string().contains("MalformedPolicyDocument"), "{error}");
}

#[tokio::test]
async fn a_role_without_conditions_works_if_it_is_old() {
    let policy = policy(&json!({}), &[]);
    assert!(LocalRole::new(ROLE, &policy).is_err());
    let role = LocalRole::saved_before_2024(ROLE, &policy).unwrap();
    let stage = Stage::with(|pool| pool.role(role).authenticated_role(ROLE)).await;
    assert_eq!(both_flows(&stage, "a1").await, (String::new(), String::new()));
}
