//! What the tests share: a local pool with a clock that is turned by hand, and those who use it.
//!
//! - [`Stage`]: the pool and its clock; `client.rs` adds what the client half needs, `server.rs` the server half,
//!   `wire.rs` plain SDK clients and raw bytes over a socket.
//! - [`Backend`]: vends in this process, counts, and obeys. [`Wallet`]: the same for external logins.
//! - [`script::Script`]: an HTTP client that answers by a script. [`until`] and [`idle`] wait for what can be observed.
#![allow(dead_code, unreachable_pub, unused_imports, reason = "each test uses its own part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test's failure is a panic")]

mod backend;
mod client;
pub mod script;
mod sequences;
mod server;
mod wait;
mod wire;

pub use backend::{Backend, Order};
pub use client::{Wallet, failure, google, google_login, key};
pub use sequences::sequences;
pub use server::{CLAIMS_KEY, actions, user};
pub use wait::{DEADLINE, idle, until, within};
pub use wire::{ISSUER, error, over_socket, signed_by};

use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use aws_sdk_cognitoidentity::Client;
use cognito_identity_pool::{
    Error, LocalIdentityPool,
    local::{LocalClock, LocalIdentityPoolBuilder},
};

pub const PROVIDER: &str = "login.mycompany.myapp";

/// A pool, its clock, and what both halves need to reach it.
pub struct Stage {
    pub pool: LocalIdentityPool,
    pub clock: LocalClock,
    signing: OnceLock<Client>,
    unsigned: OnceLock<Client>,
}

impl Stage {
    /// A pool with the developer provider [`PROVIDER`], and guests.
    pub async fn start() -> Self {
        Self::with(|pool| pool).await
    }

    /// As [`start`](Self::start), changed.
    pub async fn with(change: impl FnOnce(LocalIdentityPoolBuilder) -> LocalIdentityPoolBuilder) -> Self {
        // A whole second: the service's times have no fractions.
        let clock = LocalClock::at(SystemTime::UNIX_EPOCH + Duration::from_secs(1_790_000_000));
        let builder = LocalIdentityPool::builder()
            .developer_provider(PROVIDER)
            .allow_guests(true)
            .time_source(clock.clone());
        Self::of(change(builder).start().await.unwrap(), clock)
    }

    /// A pool that was started elsewhere.
    pub fn of(pool: LocalIdentityPool, clock: LocalClock) -> Self {
        Self {
            pool,
            clock,
            signing: OnceLock::new(),
            unsigned: OnceLock::new(),
        }
    }

    /// How often an operation was called.
    pub fn calls(&self, operation: &str) -> usize {
        self.pool.requests_of(operation).len()
    }
}

/// Our error in an SDK error.
pub fn ours<E: std::error::Error + 'static>(error: &E) -> Error {
    Error::find(error)
        .unwrap_or_else(|| panic!("no error of ours in {error:?}"))
        .clone()
}

pub fn sts(config: &aws_config::SdkConfig) -> aws_sdk_sts::Client {
    aws_sdk_sts::Client::new(config)
}
