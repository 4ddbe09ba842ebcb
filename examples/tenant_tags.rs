//! A pool of many tenants: the tenant travels in the token as a session tag, and one policy keeps all tenants apart.
//!
//! ```text
//! cargo run --example tenant_tags
//! ```
//!
//! The policy is in `examples/cloudformation/identity-pool.yaml`: what belongs to a tenant lies under
//! `tenants/${aws:PrincipalTag/tenant}/`, and the role's trust policy allows `sts:TagSession`.
#![allow(clippy::print_stdout, reason = "an example tells a story")]

use std::collections::BTreeMap;

use cognito_identity_pool::{
    BackendError, CognitoCredentialsProvider, DeveloperIdentity, DeveloperIdentityProvider, DeveloperUserId,
    LocalIdentityPool, Login, RefreshRequest, TokenVendor, async_trait,
    server::{PrincipalTags, VendRequest},
};

const PROVIDER: &str = "login.mycompany.myapp";

/// A row of the backend's own table of users. The tenant is the server's fact; a client that could send it could be anyone's.
#[derive(Clone)]
struct User {
    id: &'static str,
    tenant: &'static str,
    plan: &'static str,
}

/// The backend of one signed-in user, in this process in place of HTTP.
struct Backend {
    vendor: TokenVendor,
    user: User,
}

#[async_trait]
impl DeveloperIdentityProvider for Backend {
    async fn refresh(&self, _: &RefreshRequest) -> Result<DeveloperIdentity, BackendError> {
        let tags = PrincipalTags::new()
            .with("tenant", self.user.tenant)?
            .with("plan", self.user.plan)?;
        let request = VendRequest::new(DeveloperUserId::new(self.user.id)?).principal_tags(tags);
        Ok(self.vendor.vend_with(request).await?.identity().clone())
    }
}

/// Who called AWS with which tags, by the pool's record.
pub(crate) async fn story() -> anyhow::Result<BTreeMap<&'static str, BTreeMap<String, String>>> {
    let pool = LocalIdentityPool::builder()
        .developer_provider(PROVIDER)
        .start()
        .await?;
    let vendor = TokenVendor::builder(pool.identity_pool_id(), PROVIDER)
        .configure(&pool.backend_config())
        .build()?;
    let provider = CognitoCredentialsProvider::builder(pool.identity_pool_id())
        .configure(&pool.client_config())
        .build()?;
    let users = [
        User {
            id: "user-7f3a",
            tenant: "acme",
            plan: "basic",
        },
        User {
            id: "user-c41d",
            tenant: "globex",
            plan: "team",
        },
    ];
    let mut seen = BTreeMap::new();
    for user in users {
        let backend = Backend {
            vendor: vendor.clone(),
            user: user.clone(),
        };
        let session = provider.switch_to(Login::developer(backend).subject(user.id));
        let sts = aws_sdk_sts::Client::new(&session.sdk_config(&pool.client_config()));
        sts.get_caller_identity().send().await?;
        let calls = pool.requests_of("GetCallerIdentity");
        seen.insert(
            user.id,
            calls.last().map(|call| call.principal_tags.clone()).unwrap_or_default(),
        );
    }
    Ok(seen)
}

#[allow(dead_code, reason = "the test calls `story`")]
#[tokio::main]
async fn main() -> anyhow::Result<()> {
    for (user, tags) in story().await? {
        let tenant = tags.get("tenant").map_or("none", String::as_str);
        println!("{user} signs with {tags:?}: may touch tenants/{tenant}/ and nothing else");
    }
    Ok(())
}
