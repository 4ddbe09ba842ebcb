//! Why there is no local pool, or no answer of it.

use std::io;

/// Why a local pool did not start, or did not answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LocalPoolError {
    /// A setting that Cognito would refuse.
    #[error("the local identity pool cannot have this setting: {0}")]
    Setting(String),
    /// The port is taken, or the system allows no server.
    #[error(
        "the local identity pool cannot listen on its host and port: if another process has the port, choose another, or 0 for any free one"
    )]
    Listen(#[source] io::Error),
    /// The system has no randomness, or refuses the key.
    #[error("the local identity pool has no key to sign with")]
    Key,
    /// A fault that was asked for cut the connection; see [`LocalIdentityPool::respond`](super::LocalIdentityPool::respond).
    #[error("the connection was cut by a fault")]
    Cut,
}
