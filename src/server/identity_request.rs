//! What the server half reads from the [`IdentityRequest`] of a client.

use secrecy::ExposeSecret;

use super::guest_link::GuestClaim;
use crate::developer::IdentityRequest;

impl IdentityRequest {
    /// The client's claim to the guest that it was, for [`TokenVendor::link_guest`](crate::TokenVendor::link_guest). `client` is
    /// what the claim was bound to when it was issued; it comes from the backend's own session, never from the request.
    ///
    /// ```
    /// # use cognito_identity_pool::{developer::IdentityRequest, server::VendedToken, DeveloperUserId, Error, TokenVendor};
    /// # async fn handler(vendor: TokenVendor, user: DeveloperUserId, client: &str, request: IdentityRequest)
    /// # -> Result<VendedToken, Error> {
    /// match request.guest_claim(client) {
    ///     Some(claim) => vendor.link_guest(&user, claim).await,
    ///     None => vendor.vend(&user).await,
    /// }
    /// # }
    /// ```
    pub fn guest_claim(&self, client: impl Into<String>) -> Option<GuestClaim> {
        let (guest, claim) = self.guest()?;
        Some(GuestClaim::new(claim.expose_secret(), guest.clone(), client))
    }
}
