//! The least that a backend's role has to be allowed.

use serde::Serialize;

use crate::ids::{IdentityPoolId, Partition};

/// One statement: its id, the operations, and whether IAM can restrict them to the pool. The two that it cannot,
/// `DescribeIdentity` and `DeleteIdentities`, name identities, and the service authorization reference lists no resource type
/// for them.
pub(super) struct Statement {
    pub(super) sid: &'static str,
    pub(super) actions: &'static [&'static str],
    pub(super) on_pool: bool,
}

/// The policy document, as JSON.
pub(super) fn document(pool: &IdentityPoolId, account_id: Option<&str>, statements: &[Statement]) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Document<'a> {
        version: &'a str,
        statement: Vec<Allow<'a>>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "PascalCase")]
    struct Allow<'a> {
        sid: &'a str,
        effect: &'a str,
        action: Vec<String>,
        resource: &'a str,
    }
    let region = pool.region();
    let account = account_id.unwrap_or("*");
    let arn = format!(
        "arn:{}:cognito-identity:{region}:{account}:identitypool/{pool}",
        Partition::of(region).name
    );
    let statement = statements.iter().map(|statement| Allow {
        sid: statement.sid,
        effect: "Allow",
        action: statement
            .actions
            .iter()
            .map(|action| format!("cognito-identity:{action}"))
            .collect(),
        resource: if statement.on_pool { &arn } else { "*" },
    });
    let document = Document {
        version: "2012-10-17",
        statement: statement.collect(),
    };
    // Strings alone: there is nothing in it that could not be written.
    serde_json::to_string_pretty(&document).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_is_what_iam_reads() {
        let pool = IdentityPoolId::new("cn-north-1:335c1f44-87c9-4bbd-a314-93b47d91fadd").unwrap();
        let statements = [
            Statement {
                sid: "A",
                actions: &["GetOpenIdTokenForDeveloperIdentity"],
                on_pool: true,
            },
            Statement {
                sid: "B",
                actions: &["DescribeIdentity", "DeleteIdentities"],
                on_pool: false,
            },
        ];
        let read: serde_json::Value =
            serde_json::from_str(&document(&pool, Some("123456789012"), &statements)).unwrap();
        assert_eq!(
            read,
            serde_json::json!({
                "Version": "2012-10-17",
                "Statement": [
                    {
                        "Sid": "A", "Effect": "Allow",
                        "Action": ["cognito-identity:GetOpenIdTokenForDeveloperIdentity"],
                        "Resource": "arn:aws-cn:cognito-identity:cn-north-1:123456789012:identitypool/cn-north-1:335c1f44-87c9-4bbd-a314-93b47d91fadd",
                    },
                    {
                        "Sid": "B", "Effect": "Allow",
                        "Action": ["cognito-identity:DescribeIdentity", "cognito-identity:DeleteIdentities"],
                        "Resource": "*",
                    },
                ],
            })
        );
        assert!(document(&pool, None, &statements).contains("cn-north-1:*:identitypool/"));
    }
}
