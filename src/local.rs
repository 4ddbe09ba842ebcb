//! An identity pool, with STS, that runs in this process.
//!
//! Written from the description of the service alone, and sharing nothing with the halves that it tests: a
//! misunderstanding in one is not repeated, and hidden, in the other.
#![allow(dead_code, reason = "the model already describes operations that are not served yet")]

mod builder;
mod client;
mod clock;
mod core;
mod directory;
mod http;
mod logins;
mod model;
mod operations;
mod pool;
mod pools;
mod record;
mod rules;
mod sessions;
mod shapes;
mod sigv4;
mod sts;
mod tokens;
mod wire;

pub use builder::{LocalIdentityPoolBuilder, LocalPoolError};
pub use clock::LocalClock;
pub use pool::LocalIdentityPool;
pub use record::LocalRequest;
pub use rules::{Fidelity, FidelityRule};
