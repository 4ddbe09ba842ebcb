//! The CloudFormation template beside the examples: its policies are what the code needs, and its roles let in whom they
//! should. `tests/interop/cfn_lint` checks that CloudFormation would take it.

use aws_sdk_cognitoidentity::Client;
use cognito_identity_pool::{
    DeveloperUserId, IdentityAdmin, IdentityPoolId, LocalIdentityPool, TokenVendor,
    local::LocalRole,
    server::{GuestClaims, PrincipalTags, VendRequest, VendedToken},
};
use serde_json::{Map, Value, json};

const ACCOUNT: &str = "123456789012";
const POOL: &str = "us-east-1:1a2b3c4d-5e6f-7a8b-9c0d-1e2f3a4b5c6d";
const AUTHENTICATED: &str = "arn:aws:iam::123456789012:role/AuthenticatedRole";
const GUEST: &str = "arn:aws:iam::123456789012:role/GuestRole";

fn template() -> Value {
    serde_saphyr::from_str(include_str!("../../examples/cloudformation/identity-pool.yaml")).unwrap()
}

/// Where a stack is made.
#[derive(Clone, Copy)]
struct Stack {
    partition: &'static str,
    region: &'static str,
    url_suffix: &'static str,
    guests: bool,
}

const COMMERCIAL: Stack = Stack {
    partition: "aws",
    region: "us-east-1",
    url_suffix: "amazonaws.com",
    guests: true,
};

impl Stack {
    /// A part of the template as CloudFormation would make it. What is left out is nothing.
    fn made(&self, value: &Value) -> Option<Value> {
        let intrinsic = value
            .as_object()
            .filter(|object| object.len() == 1)
            .and_then(|object| object.iter().next());
        Some(match (intrinsic, value) {
            (Some((name, argument)), _) if name == "Ref" => match argument.as_str().unwrap() {
                "AWS::NoValue" => return None,
                name => self.reference(name).into(),
            },
            (Some((name, argument)), _) if name == "Fn::Sub" => match argument {
                Value::String(text) => self.substituted(text, &Map::new()).into(),
                list => {
                    let names = self.made(&list[1]).unwrap();
                    self.substituted(list[0].as_str().unwrap(), names.as_object().unwrap())
                        .into()
                }
            },
            (Some((name, argument)), _) if name == "Fn::If" => {
                let holds = self.condition(argument[0].as_str().unwrap());
                return self.made(&argument[if holds { 1 } else { 2 }]);
            }
            (Some((name, argument)), _) if name == "Fn::Join" => {
                let parts = self.made(&argument[1]).unwrap();
                let parts: Vec<_> = parts
                    .as_array()
                    .unwrap()
                    .iter()
                    .map(|part| part.as_str().unwrap())
                    .collect();
                parts.join(argument[0].as_str().unwrap()).into()
            }
            (Some((name, argument)), _) if name == "Fn::GetAtt" => {
                let parts = argument.as_array().unwrap().iter().map(|part| part.as_str().unwrap());
                self.reference(&parts.collect::<Vec<_>>().join(".")).into()
            }
            (_, Value::Object(members)) => {
                let members = members
                    .iter()
                    .filter_map(|(name, value)| Some((name.clone(), self.made(value)?)));
                Value::Object(members.collect::<Map<_, _>>())
            }
            (_, Value::Array(items)) => items.iter().filter_map(|item| self.made(item)).collect(),
            (_, other) => other.clone(),
        })
    }

    fn condition(&self, name: &str) -> bool {
        let condition = &template()["Conditions"][name]["Fn::Equals"];
        let sides = self.made(condition).unwrap();
        sides[0] == sides[1]
    }

    fn reference(&self, name: &str) -> String {
        match name {
            "AWS::Partition" => self.partition.to_owned(),
            "AWS::Region" => self.region.to_owned(),
            "AWS::URLSuffix" => self.url_suffix.to_owned(),
            "AWS::AccountId" => ACCOUNT.to_owned(),
            "IdentityPool" => POOL.replace("us-east-1", self.region),
            "DeveloperProviderName" => "login.mycompany.myapp".to_owned(),
            "AllowGuests" => self.guests.to_string(),
            "AuthenticatedRole.Arn" => AUTHENTICATED.replace("arn:aws:", &format!("arn:{}:", self.partition)),
            "GuestRole.Arn" => GUEST.replace("arn:aws:", &format!("arn:{}:", self.partition)),
            "Data.Arn" => format!("arn:{}:s3:::data", self.partition),
            other => panic!("the template refers to {other}"),
        }
    }

    /// `${Name}` is the template's, `${!name}` is IAM's.
    fn substituted(&self, text: &str, names: &Map<String, Value>) -> String {
        let mut parts = text.split("${");
        let first = parts.next().unwrap().to_owned();
        parts.fold(first, |made, part| {
            let (name, rest) = part.split_once('}').unwrap();
            match (name.strip_prefix('!'), names.get(name)) {
                (Some(variable), _) => format!("{made}${{{variable}}}{rest}"),
                (None, Some(value)) => format!("{made}{}{rest}", value.as_str().unwrap()),
                (None, None) => format!("{made}{}{rest}", self.reference(name)),
            }
        })
    }

    fn resource(&self, name: &str) -> Value {
        let resource = &template()["Resources"][name]["Properties"];
        assert!(resource.is_object(), "{name}");
        self.made(resource).unwrap()
    }

    /// The trust policy of a role, which the template has as text.
    fn trust(&self, role: &str) -> Value {
        serde_json::from_str(self.resource(role)["AssumeRolePolicyDocument"].as_str().unwrap()).unwrap()
    }
}

fn resource(name: &str) -> Value {
    COMMERCIAL.resource(name)
}

async fn pool(authenticated_trust: &Value) -> LocalIdentityPool {
    let properties = resource("IdentityPool");
    let roles = resource("Roles");
    assert_eq!(roles["IdentityPoolId"], POOL);
    let guest_trust = COMMERCIAL.trust("GuestRole");
    let arn = |name: &str| roles["Roles"][name].as_str().unwrap().to_owned();
    LocalIdentityPool::builder()
        .identity_pool_id(POOL)
        .account_id(ACCOUNT)
        .developer_provider(properties["DeveloperProviderName"].as_str().unwrap())
        .allow_guests(properties["AllowUnauthenticatedIdentities"] == "true")
        .allow_classic_flow(properties["AllowClassicFlow"].as_bool().unwrap())
        .role(LocalRole::new(AUTHENTICATED, &authenticated_trust.to_string()).unwrap())
        .role(LocalRole::new(GUEST, &guest_trust.to_string()).unwrap())
        .authenticated_role(arn("authenticated"))
        .unauthenticated_role(arn("unauthenticated"))
        .start()
        .await
        .unwrap()
}

fn vendor(pool: &LocalIdentityPool) -> TokenVendor {
    TokenVendor::builder(pool.identity_pool_id(), "login.mycompany.myapp")
        .configure(&pool.backend_config())
        .guest_claims(GuestClaims::hmac_sha256("0123456789abcdef0123456789abcdef").unwrap())
        .account_id(ACCOUNT)
        .build()
        .unwrap()
}

/// A token with principal tags, and whether the pool's role takes it.
async fn exchanges_with_tags(pool: &LocalIdentityPool) -> bool {
    let tags = PrincipalTags::new().with("tenant", "acme").unwrap();
    let user = DeveloperUserId::new("user-42").unwrap();
    let request = VendRequest::new(user).principal_tags(tags);
    let vended: VendedToken = vendor(pool).vend_with(request).await.unwrap();
    let exchange = Client::new(&pool.client_config())
        .get_credentials_for_identity()
        .identity_id(vended.identity_id().as_str())
        .logins(pool.issuer_host(), vended.identity().token().expose_secret());
    exchange.send().await.is_ok()
}

async fn guest_gets_credentials(pool: &LocalIdentityPool) -> bool {
    let client = Client::new(&pool.client_config());
    let guest = client
        .get_id()
        .identity_pool_id(POOL)
        .send()
        .await
        .unwrap()
        .identity_id
        .unwrap();
    client
        .get_credentials_for_identity()
        .identity_id(guest)
        .send()
        .await
        .is_ok()
}

fn trust() -> Value {
    COMMERCIAL.trust("AuthenticatedRole")
}

#[tokio::test]
async fn the_policies_are_what_the_code_needs() {
    let pool = pool(&trust()).await;
    let admin = IdentityAdmin::builder(POOL, "login.mycompany.myapp")
        .configure(&pool.backend_config())
        .account_id(ACCOUNT)
        .build()
        .unwrap();
    for (name, required) in [
        ("VendPolicy", vendor(&pool).required_iam_policy()),
        ("AdministrationPolicy", admin.required_iam_policy()),
    ] {
        let required: Value = serde_json::from_str(&required).unwrap();
        assert_eq!(resource(name)["PolicyDocument"], required, "{name}");
    }
}

#[tokio::test]
async fn the_roles_let_in_signed_in_users_with_tags_and_guests() {
    let pool = pool(&trust()).await;
    assert!(exchanges_with_tags(&pool).await);
    assert!(guest_gets_credentials(&pool).await);
}

#[tokio::test]
async fn each_line_of_the_trust_policy_matters() {
    let condition = "/Statement/0/Condition/StringEquals/cognito-identity.amazonaws.com:aud";
    let amr = "/Statement/0/Condition/ForAnyValue:StringLike/cognito-identity.amazonaws.com:amr";
    for (pointer, value) in [
        ("/Statement/0/Action", json!(["sts:AssumeRoleWithWebIdentity"])),
        ("/Statement/0/Action", json!(["sts:TagSession"])),
        ("/Statement/0/Principal/Federated", json!("accounts.google.com")),
        ("/Statement/0/Effect", json!("Deny")),
        (condition, json!("us-east-1:00000000-0000-4000-8000-000000000000")),
        (amr, json!("unauthenticated")),
    ] {
        let mut trust = trust();
        *trust.pointer_mut(pointer).expect(pointer) = value;
        assert!(!exchanges_with_tags(&pool(&trust).await).await, "{trust}");
    }
}

#[test]
fn users_keep_to_their_own_data_and_their_tenants() {
    let statements = &resource("AuthenticatedRole")["Policies"][0]["PolicyDocument"]["Statement"];
    let resources: Vec<_> = statements
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["Resource"].as_str().unwrap())
        .collect();
    assert_eq!(
        resources,
        [
            "arn:aws:s3:::data/users/${cognito-identity.amazonaws.com:sub}/*",
            "arn:aws:s3:::data/tenants/${aws:PrincipalTag/tenant}/*",
        ]
    );
    assert!(resource("GuestRole").get("Policies").is_none());
}

#[tokio::test]
async fn in_every_partition_the_roles_trust_its_issuer_and_policies_name_its_arns() {
    for (partition, region, url_suffix, issuer) in [
        ("aws", "eu-central-1", "amazonaws.com", "cognito-identity.amazonaws.com"),
        (
            "aws-cn",
            "cn-north-1",
            "amazonaws.com.cn",
            "cognito-identity.cn-north-1.amazonaws.com.cn",
        ),
        (
            "aws-us-gov",
            "us-gov-west-1",
            "amazonaws.com",
            "cognito-identity-us-gov.amazonaws.com",
        ),
        (
            "aws-us-gov",
            "us-gov-east-1",
            "amazonaws.com",
            "cognito-identity.us-gov-east-1.amazonaws.com",
        ),
        (
            "aws-eusc",
            "eusc-de-east-1",
            "amazonaws.eu",
            "cognito-identity.eusc-de-east-1.amazonaws.eu",
        ),
    ] {
        let stack = Stack {
            partition,
            region,
            url_suffix,
            guests: true,
        };
        let pool_id = IdentityPoolId::new(stack.reference("IdentityPool")).unwrap();
        assert_eq!(
            pool_id.trust_principal(),
            issuer,
            "{region}: and the crate says the same"
        );
        for (role, amr) in [("AuthenticatedRole", "authenticated"), ("GuestRole", "unauthenticated")] {
            let statement = &stack.trust(role)["Statement"][0];
            assert_eq!(statement["Principal"]["Federated"], issuer, "{region}");
            let condition = &statement["Condition"];
            assert_eq!(condition["StringEquals"][format!("{issuer}:aud")], pool_id.as_str());
            assert_eq!(condition["ForAnyValue:StringLike"][format!("{issuer}:amr")], amr);
        }
        let own = stack.resource("AuthenticatedRole");
        assert_eq!(
            own["Policies"][0]["PolicyDocument"]["Statement"][0]["Resource"],
            format!("arn:{partition}:s3:::data/users/${{{issuer}:sub}}/*")
        );
        let vendor = TokenVendor::builder(&pool_id, "login.mycompany.myapp")
            .configure(&LocalIdentityPool::builder().start().await.unwrap().backend_config())
            .guest_claims(GuestClaims::hmac_sha256("0123456789abcdef0123456789abcdef").unwrap())
            .account_id(ACCOUNT)
            .build()
            .unwrap();
        let required: Value = serde_json::from_str(&vendor.required_iam_policy()).unwrap();
        assert_eq!(stack.resource("VendPolicy")["PolicyDocument"], required, "{region}");
    }
}

#[test]
fn without_guests_the_backend_may_not_look_into_identities() {
    let stack = Stack {
        guests: false,
        ..COMMERCIAL
    };
    let policy = stack.resource("VendPolicy")["PolicyDocument"].to_string();
    assert!(
        !policy.contains("DescribeIdentity\"") && !policy.contains("Lookup"),
        "{policy}"
    );
    assert!(stack.resource("Roles")["Roles"].get("unauthenticated").is_none());
}
