//! The CloudFormation template beside the examples: its policies are what the code needs, and its roles let in whom they
//! should. `tests/interop/cfn_lint` checks that CloudFormation would take it.

use aws_sdk_cognitoidentity::Client;
use cognito_identity_pool::{
    DeveloperUserId, IdentityAdmin, LocalIdentityPool, TokenVendor,
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

/// A part of the template as CloudFormation would make it, guests allowed.
fn made(value: &Value) -> Value {
    let intrinsic = value
        .as_object()
        .filter(|object| object.len() == 1)
        .and_then(|object| object.iter().next());
    match (intrinsic, value) {
        (Some((name, argument)), _) if name == "Ref" => reference(argument.as_str().unwrap()).into(),
        (Some((name, argument)), _) if name == "Fn::Sub" => substituted(argument.as_str().unwrap()).into(),
        (Some((name, argument)), _) if name == "Fn::If" => made(&argument[1]),
        (Some((name, argument)), _) if name == "Fn::GetAtt" => {
            let parts: Vec<_> = argument
                .as_array()
                .unwrap()
                .iter()
                .map(|part| part.as_str().unwrap())
                .collect();
            reference(&parts.join(".")).into()
        }
        (_, Value::Object(members)) => {
            let members = members.iter().map(|(name, value)| (name.clone(), made(value)));
            Value::Object(members.collect::<Map<_, _>>())
        }
        (_, Value::Array(items)) => items.iter().map(made).collect(),
        (_, other) => other.clone(),
    }
}

fn reference(name: &str) -> &'static str {
    match name {
        "AWS::Partition" => "aws",
        "AWS::Region" => "us-east-1",
        "AWS::AccountId" => ACCOUNT,
        "IdentityPool" => POOL,
        "DeveloperProviderName" => "login.mycompany.myapp",
        "AllowGuests" => "true",
        "AuthenticatedRole.Arn" => AUTHENTICATED,
        "GuestRole.Arn" => GUEST,
        "Data.Arn" => "arn:aws:s3:::data",
        other => panic!("the template refers to {other}"),
    }
}

/// `${Name}` is the template's, `${!name}` is IAM's.
fn substituted(text: &str) -> String {
    let mut parts = text.split("${");
    let first = parts.next().unwrap().to_owned();
    parts.fold(first, |made, part| {
        let (name, rest) = part.split_once('}').unwrap();
        match name.strip_prefix('!') {
            Some(variable) => format!("{made}${{{variable}}}{rest}"),
            None => format!("{made}{}{rest}", reference(name)),
        }
    })
}

fn resource(name: &str) -> Value {
    let resource = &template()["Resources"][name]["Properties"];
    assert!(resource.is_object(), "{name}");
    made(resource)
}

async fn pool(authenticated_trust: &Value) -> LocalIdentityPool {
    let properties = resource("IdentityPool");
    let roles = resource("Roles");
    assert_eq!(roles["IdentityPoolId"], POOL);
    let guest_trust = &resource("GuestRole")["AssumeRolePolicyDocument"];
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
    resource("AuthenticatedRole")["AssumeRolePolicyDocument"].clone()
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
