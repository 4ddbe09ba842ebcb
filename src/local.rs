//! An identity pool, with STS, that runs in this process.
//!
//! Written from the description of the service alone, and sharing nothing with the halves that it tests: a
//! misunderstanding in one is not repeated, and hidden, in the other.

mod admin;
mod advice;
mod answer;
mod builder;
mod client;
mod clock;
mod diagnosis;
mod directory;
mod error;
mod faults;
mod hosts;
mod http;
mod issuers;
mod logins;
mod model;
mod operations;
mod page;
mod partitions;
mod policy;
mod pool;
mod pool_service;
mod pools;
mod pools_file;
mod record;
mod respond;
mod role_mapping;
mod roles;
mod rules;
mod session_tags;
mod sessions;
mod shapes;
mod sigv4;
mod snapshot;
mod state_file;
mod sts;
mod throttle;
mod tokens;
mod wire;

pub use builder::LocalIdentityPoolBuilder;
pub use clock::LocalClock;
pub use error::LocalPoolError;
pub use faults::{LocalFault, LocalFaults, RefusedError};
pub use issuers::{LocalIssuer, LocalToken, TrustedIssuer};
pub use pool::LocalIdentityPool;
pub use record::LocalRequest;
pub use roles::{LocalRole, TrustPolicyError};
pub use rules::{Fidelity, FidelityRule};
pub use sessions::LocalAssumeRole;
