//! The backend's half: vending tokens to users whom the app has authenticated, looking after their identities, and verifying
//! tokens that come back as bearers.
//!
//! Start with [`TokenVendor`]: one per process, cloned into every handler. It signs its calls with the backend's own AWS
//! credentials, keeps the tokens that it has vended, and stays below the account's quota. Around it stand
//!
//! - [`VendRequest`], [`PrincipalTags`]: what a vend can ask beyond the user; [`VendedToken`], [`VendedCredentials`]: what comes
//!   back; [`HttpRefusal`]: what the client of an HTTP handler may be told of a failure;
//! - [`GuestClaims`], [`GuestTicket`], [`GuestClaim`]: how a guest becomes a user without anybody being able to take somebody
//!   else's guest;
//! - [`UserIds`]: pseudonyms in place of user ids that are personal data;
//! - [`AUDIT_TARGET`]: the audit trail of all of it.
//!
//! [`IdentityAdmin`] is a type of its own, so that the role which vends tokens need not be able to merge and delete
//! identities. `TokenVerifier` (feature `verify`) needs no credentials at all. Many users in one process, without HTTP between
//! backend and client, are [`UserCredentials`](crate::UserCredentials).
//!
//! Within this module:
//!
//! ```text
//! TokenVendor ── VendorInner ─┬─ SignedService     the signed calls to Cognito
//!  (vending.rs, linking.rs)   ├─ TokenCache        what was vended and is still good, what is being asked for
//!                             ├─ DenyList          who gets nothing, and what was begun before that (Admission, UserHold)
//!                             │   └─ SharedDenyList  what the shared store says of that (shared_deny_list.rs; deny_entry.rs)
//!                             ├─ Dependents        what stands on the vendor: UserCredentials
//!                             ├─ RequestLimit      the account's quota; UserLimit: what one user can cause (rate_limit.rs)
//!                             ├─ SharedState       what instances agree on (shared_store.rs)
//!                             └─ GuestClaims       tickets for guests (guest_link.rs), signed with ClaimKeys (claim_keys.rs)
//! IdentityAdmin ─ SignedService, SharedState       (admin.rs; forget.rs; rekey.rs; doctor.rs examines a pool's settings)
//! TokenVerifier ─ VerifierInner ─ KeySet           the keys that Cognito publishes (verify/keys.rs)
//! ```
//!
//! Builders share `ServiceSetup` (setup.rs); `audit.rs` writes every line of the audit trail; `policy.rs` writes IAM
//! policies.

mod admin;
mod audit;
mod builder;
mod claim_keys;
mod claim_refusal;
mod deny_entry;
mod deny_list;
mod deny_list_updates;
mod denying;
pub(crate) mod dependents;
mod doctor;
#[cfg(feature = "dynamodb")]
mod dynamodb;
mod forget;
mod guest_link;
mod hmac_key;
mod http_refusal;
mod identity_request;
pub(crate) mod in_process;
mod linking;
mod policy;
mod rate_limit;
mod rekey;
mod request;
mod setup;
mod shared_deny_list;
mod shared_store;
mod store_conformance;
mod token_cache;
mod user_ids;
mod vending;
#[cfg(feature = "verify")]
mod verify;

pub use admin::{DeleteReport, IdentityAdmin, IdentityAdminBuilder, IdentityDetails, IdentityPages, UserIdentity};
pub use audit::AUDIT_TARGET;
pub use builder::TokenVendorBuilder;
pub use deny_list_updates::DenyListUpdates;
pub use doctor::{Diagnosis, Finding, Severity};
#[cfg(feature = "dynamodb")]
#[cfg_attr(docsrs, doc(cfg(feature = "dynamodb")))]
pub use dynamodb::DynamoDbStore;
pub use forget::ForgetReport;
pub use guest_link::{GuestClaim, GuestClaims, GuestTicket};
pub use http_refusal::HttpRefusal;
pub use linking::{LinkedVend, NewGuest};
pub use rate_limit::RequestLimit;
pub use rekey::RekeyReport;
pub use request::{PrincipalTags, VendRequest, VendedCredentials, VendedToken};
pub use shared_store::{MemorySharedStore, SharedStore};
pub use store_conformance::{ConformanceError, check_shared_store};
pub use user_ids::UserIds;
pub use vending::{TokenVendor, VendorHealth};
#[cfg(feature = "verify")]
pub use verify::{TokenVerifier, TokenVerifierBuilder, VerifiedToken};
