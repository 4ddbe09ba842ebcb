//! What the tests of the server half use: vendors, admins, and what a client does with a vended token.

use std::collections::BTreeSet;

use aws_config::SdkConfig;
use aws_config::retry::RetryConfig;
use aws_sdk_cognitoidentity::error::ProvideErrorMetadata;
use cognito_identity_pool::{
    DeveloperUserId, IdentityAdmin, IdentityId, TokenVendor,
    server::{GuestClaims, IdentityAdminBuilder, TokenVendorBuilder, VendedToken},
};

use super::{PROVIDER, Stage, over_socket};

pub const CLAIMS_KEY: &str = "0123456789abcdef0123456789abcdef";

impl Stage {
    /// The backend's config, with the SDK's own HTTP client: what is sent goes over a socket.
    pub fn config(&self) -> SdkConfig {
        over_socket(self.pool.backend_config(), &self.pool)
    }

    pub fn vendor_builder(&self) -> TokenVendorBuilder {
        TokenVendor::builder(self.pool.identity_pool_id(), PROVIDER)
            .configure(&self.config())
            .endpoint_url(self.pool.endpoint_url())
            .retry_config(RetryConfig::disabled())
            .guest_claims(GuestClaims::hmac_sha256(CLAIMS_KEY).unwrap())
    }

    pub fn vendor(&self) -> TokenVendor {
        self.vendor_builder().build().unwrap()
    }

    pub fn admin_builder(&self) -> IdentityAdminBuilder {
        IdentityAdmin::builder(self.pool.identity_pool_id(), PROVIDER)
            .configure(&self.config())
            .endpoint_url(self.pool.endpoint_url())
            .retry_config(RetryConfig::disabled())
    }

    pub fn admin(&self) -> IdentityAdmin {
        self.admin_builder().build().unwrap()
    }

    /// Whether whoever knows the id alone can be this identity.
    pub async fn is_guest(&self, identity: &IdentityId) -> bool {
        self.client()
            .get_credentials_for_identity()
            .identity_id(identity.as_str())
            .send()
            .await
            .is_ok()
    }

    /// Exchanges a token for credentials, as a client does: the access key, or the service's code.
    pub async fn exchange(&self, vended: &VendedToken) -> Result<String, String> {
        let request = self
            .client()
            .get_credentials_for_identity()
            .identity_id(vended.identity_id().as_str());
        let token = vended.identity().token().expose_secret();
        match request.logins(self.pool.issuer_host(), token).send().await {
            Ok(answer) => Ok(answer.credentials.unwrap().access_key_id.unwrap()),
            Err(error) => Err(error.code().unwrap_or_default().to_owned()),
        }
    }

    /// The operations that were called with a signature.
    pub fn signed_operations(&self) -> BTreeSet<String> {
        let signed = self.pool.requests().into_iter().filter(|request| request.authorization);
        signed
            .map(|request| format!("cognito-identity:{}", request.operation))
            .collect()
    }
}

pub fn user(id: &str) -> DeveloperUserId {
    DeveloperUserId::new(id).unwrap()
}

/// The actions that a policy document allows.
pub fn actions(policy: &str) -> BTreeSet<String> {
    let policy: serde_json::Value = serde_json::from_str(policy).unwrap();
    let statements = policy["Statement"].as_array().unwrap().iter();
    let actions = statements.flat_map(|statement| statement["Action"].as_array().unwrap());
    actions.map(|action| action.as_str().unwrap().to_owned()).collect()
}
