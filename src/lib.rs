//! Amazon Cognito developer authenticated identities for the AWS SDK for Rust.
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]
#![doc(test(attr(deny(warnings), allow(dead_code, unused_variables))))]

mod clock;
mod refresh;

#[cfg(feature = "local")]
#[cfg_attr(docsrs, doc(cfg(feature = "local")))]
mod local;

#[cfg(feature = "local")]
#[cfg_attr(docsrs, doc(cfg(feature = "local")))]
pub use local::{
    Fidelity, FidelityRule, LocalAssumeRole, LocalClock, LocalFault, LocalFaults, LocalIdentityPool,
    LocalIdentityPoolBuilder, LocalIssuer, LocalPoolError, LocalRequest, LocalRole, LocalToken, RefusedError,
    TrustPolicyError,
};
