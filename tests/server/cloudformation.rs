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

fn template() -> Value {
    serde_saphyr::from_str(include_str!("../../examples/cloudformation/identity-pool.yaml")).unwrap()
}

/// Where the template is deployed.
#[derive(Clone, Copy)]
struct Place {
    region: &'static str,
    partition: &'static str,
    suffix: &'static str,
    pool: &'static str,
}

const VIRGINIA: Place = Place {
    region: "us-east-1",
    partition: "aws",
    suffix: "amazonaws.com",
    pool: POOL,
};

const PLACES: [Place; 4] = [
    VIRGINIA,
    Place {
        region: "us-gov-west-1",
        partition: "aws-us-gov",
        suffix: "amazonaws.com",
        pool: "us-gov-west-1:1a2b3c4d-5e6f-7a8b-9c0d-1e2f3a4b5c6d",
    },
    Place {
        region: "us-gov-east-1",
        partition: "aws-us-gov",
        suffix: "amazonaws.com",
        pool: "us-gov-east-1:1a2b3c4d-5e6f-7a8b-9c0d-1e2f3a4b5c6d",
    },
    Place {
        region: "cn-north-1",
        partition: "aws-cn",
        suffix: "amazonaws.com.cn",
        pool: "cn-north-1:1a2b3c4d-5e6f-7a8b-9c0d-1e2f3a4b5c6d",
    },
];

impl Place {
    /// A part of the template as CloudFormation would make it here, guests allowed.
    fn made(&self, value: &Value) -> Value {
        let intrinsic = value
            .as_object()
            .filter(|object| object.len() == 1)
            .and_then(|object| object.iter().next());
        if let Some((name, argument)) = intrinsic {
            match (name.as_str(), argument) {
                ("Ref", Value::String(name)) => return self.reference(name).into(),
                ("Fn::Sub", Value::String(text)) => return self.substituted(text, &Map::new()).into(),
                ("Fn::Sub", Value::Array(both)) => {
                    let more = self.made(&both[1]);
                    return self
                        .substituted(both[0].as_str().unwrap(), more.as_object().unwrap())
                        .into();
                }
                ("Fn::If", Value::Array(branches)) => {
                    let holds = self.holds(branches[0].as_str().unwrap());
                    return self.made(&branches[if holds { 1 } else { 2 }]);
                }
                ("Fn::Join", Value::Array(both)) => {
                    let parts = self.made(&both[1]);
                    let parts: Vec<_> = parts
                        .as_array()
                        .unwrap()
                        .iter()
                        .map(|part| part.as_str().unwrap())
                        .collect();
                    return parts.join(both[0].as_str().unwrap()).into();
                }
                ("Fn::GetAtt", Value::Array(parts)) => {
                    let parts: Vec<_> = parts.iter().map(|part| part.as_str().unwrap()).collect();
                    return self.reference(&parts.join(".")).into();
                }
                _ => {}
            }
        }
        match value {
            Value::Object(members) => {
                let members = members.iter().map(|(name, value)| (name.clone(), self.made(value)));
                Value::Object(members.collect::<Map<_, _>>())
            }
            Value::Array(items) => items.iter().map(|item| self.made(item)).collect(),
            other => other.clone(),
        }
    }

    fn holds(&self, condition: &str) -> bool {
        match condition {
            "GuestsAllowed" => true,
            "SharedIssuer" => self.partition == "aws",
            "GovCloudWest" => self.region == "us-gov-west-1",
            other => panic!("the template has a condition {other}"),
        }
    }

    fn reference(&self, name: &str) -> String {
        match name {
            "AWS::Partition" => self.partition.to_owned(),
            "AWS::Region" => self.region.to_owned(),
            "AWS::URLSuffix" => self.suffix.to_owned(),
            "AWS::AccountId" => ACCOUNT.to_owned(),
            "IdentityPool" => self.pool.to_owned(),
            "DeveloperProviderName" => "login.mycompany.myapp".to_owned(),
            "AllowGuests" => "true".to_owned(),
            "AuthenticatedRole.Arn" => self.role("AuthenticatedRole"),
            "GuestRole.Arn" => self.role("GuestRole"),
            "Data.Arn" => format!("arn:{}:s3:::data", self.partition),
            other => panic!("the template refers to {other}"),
        }
    }

    fn role(&self, name: &str) -> String {
        format!("arn:{}:iam::{ACCOUNT}:role/{name}", self.partition)
    }

    /// `${Name}` is the template's, `${!name}` is IAM's.
    fn substituted(&self, text: &str, more: &Map<String, Value>) -> String {
        let mut parts = text.split("${");
        let first = parts.next().unwrap().to_owned();
        parts.fold(first, |made, part| {
            let (name, rest) = part.split_once('}').unwrap();
            match name.strip_prefix('!') {
                Some(variable) => format!("{made}${{{variable}}}{rest}"),
                None => {
                    let given = more.get(name).map(|value| value.as_str().unwrap().to_owned());
                    format!("{made}{}{rest}", given.unwrap_or_else(|| self.reference(name)))
                }
            }
        })
    }

    fn resource(&self, name: &str) -> Value {
        let resource = &template()["Resources"][name]["Properties"];
        assert!(resource.is_object(), "{name}");
        self.made(resource)
    }

    /// The trust policy of a role, which the template has as text.
    fn trust(&self, role: &str) -> Value {
        let document = self.resource(role)["AssumeRolePolicyDocument"].clone();
        serde_json::from_str(document.as_str().unwrap()).unwrap()
    }

    async fn pool(&self, authenticated_trust: &Value) -> LocalIdentityPool {
        let properties = self.resource("IdentityPool");
        let roles = self.resource("Roles");
        assert_eq!(roles["IdentityPoolId"], self.pool);
        let arn = |name: &str| roles["Roles"][name].as_str().unwrap().to_owned();
        let role = |name: &str, trust: &Value| LocalRole::new(self.role(name), &trust.to_string()).unwrap();
        LocalIdentityPool::builder()
            .region(self.region)
            .identity_pool_id(self.pool)
            .account_id(ACCOUNT)
            .developer_provider(properties["DeveloperProviderName"].as_str().unwrap())
            .allow_guests(properties["AllowUnauthenticatedIdentities"] == "true")
            .allow_classic_flow(properties["AllowClassicFlow"].as_bool().unwrap())
            .role(role("AuthenticatedRole", authenticated_trust))
            .role(role("GuestRole", &self.trust("GuestRole")))
            .authenticated_role(arn("authenticated"))
            .unauthenticated_role(arn("unauthenticated"))
            .start()
            .await
            .unwrap()
    }
}

fn resource(name: &str) -> Value {
    VIRGINIA.resource(name)
}

async fn pool(authenticated_trust: &Value) -> LocalIdentityPool {
    VIRGINIA.pool(authenticated_trust).await
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
        .identity_pool_id(pool.identity_pool_id())
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
    VIRGINIA.trust("AuthenticatedRole")
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
async fn the_roles_let_in_signed_in_users_with_tags_and_guests_in_every_partition() {
    for place in PLACES {
        let pool = place.pool(&place.trust("AuthenticatedRole")).await;
        assert!(exchanges_with_tags(&pool).await, "{}", place.region);
        assert!(guest_gets_credentials(&pool).await, "{}", place.region);
    }
}

#[tokio::test]
async fn the_template_trusts_whom_the_crate_names() {
    for place in PLACES {
        let id = IdentityPoolId::new(place.pool).unwrap();
        let trust = place.trust("AuthenticatedRole");
        assert_eq!(trust["Statement"][0]["Principal"]["Federated"], id.trust_principal());
    }
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
    let west = &PLACES[1].resource("AuthenticatedRole")["Policies"][0]["PolicyDocument"]["Statement"][0]["Resource"];
    assert_eq!(
        west,
        "arn:aws-us-gov:s3:::data/users/${cognito-identity-us-gov.amazonaws.com:sub}/*"
    );
}
