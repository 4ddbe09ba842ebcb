#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::clone_on_ref_ptr))]
#![doc(test(attr(deny(warnings), allow(dead_code, unused_variables))))]

mod clock;
mod credentials;
mod developer;
mod error;
mod ids;
mod logins;
mod refresh;
mod service;
mod store;
mod token;
mod users;
mod vendor;

#[cfg(feature = "http-backend")]
#[cfg_attr(docsrs, doc(cfg(feature = "http-backend")))]
mod http_backend;
#[cfg(feature = "local")]
#[cfg_attr(docsrs, doc(cfg(feature = "local")))]
mod local;

pub use async_trait::async_trait;
#[cfg(feature = "classic-flow")]
#[cfg_attr(docsrs, doc(cfg(feature = "classic-flow")))]
pub use credentials::{ClassicFlow, ClassicFlowBuilder, ClassicLogin};
pub use credentials::{
    CognitoCredentialsProvider, CognitoCredentialsProviderBuilder, Event, EventKind, Events, Flow, IdentityOutcome,
    IdentityPolicy, Login, RejectionInterceptor, RejectionRetry, Session, SignIn,
};
pub use developer::{DeveloperIdentity, DeveloperIdentityProvider, RefreshRequest, developer_fn};
pub use error::{BackendError, Cause, CauseKind, Error, ErrorKind};
#[cfg(feature = "http-backend")]
#[cfg_attr(docsrs, doc(cfg(feature = "http-backend")))]
pub use http_backend::{BearerReason, HttpBackend, HttpBackendBuilder};
pub use ids::{DeveloperProviderName, DeveloperUserId, IdentityId, IdentityPoolId, InvalidId};
pub use logins::{Logins, LoginsProvider, logins_fn};
pub use refresh::{RefreshPolicy, RefreshPolicyBuilder};
pub use service::explain;
pub use store::{FileStore, IdentityStore, MemoryStore, StoreError, StoreKey, Swapped};
pub use token::{OpenIdToken, RefreshReason, TokenClaims, TokenDuration};
pub use users::{UserCredentials, UserCredentialsBuilder, UserMetrics, UserOptions};
pub use vendor::{
    AUDIT_TARGET, DeleteReport, Diagnosis, Finding, ForgetReport, GuestClaim, GuestClaims, HttpRefusal, IdentityAdmin,
    IdentityAdminBuilder, IdentityDetails, IdentityPages, PrincipalTags, Severity, TokenVendor, TokenVendorBuilder,
    UsedClaims, UserIdentity, UserIds, VendRequest, VendedCredentials, VendedToken,
};
#[cfg(feature = "verify")]
#[cfg_attr(docsrs, doc(cfg(feature = "verify")))]
pub use vendor::{TokenVerifier, TokenVerifierBuilder, VerifiedToken};

#[cfg(feature = "local")]
#[cfg_attr(docsrs, doc(cfg(feature = "local")))]
pub use local::{
    Fidelity, FidelityRule, LocalAssumeRole, LocalClock, LocalFault, LocalFaults, LocalIdentityPool,
    LocalIdentityPoolBuilder, LocalIssuer, LocalPoolError, LocalRequest, LocalRole, LocalToken, RefusedError,
    TrustPolicyError,
};
