#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(not(test), deny(clippy::disallowed_methods, clippy::clone_on_ref_ptr))]
#![doc(test(attr(deny(warnings), allow(dead_code, unused_variables))))]

pub mod client;
mod clock;
pub mod developer;
pub mod error;
#[cfg(any(doc, doctest))]
#[cfg(all(
    feature = "classic-flow",
    feature = "http-backend",
    feature = "local",
    feature = "verify"
))]
pub mod guide;
pub mod ids;
pub mod logins;
mod metrics;
pub mod refresh;
pub mod server;
mod service;
pub mod store;
pub mod token;
pub mod users;

#[cfg(feature = "http-backend")]
#[cfg_attr(docsrs, doc(cfg(feature = "http-backend")))]
pub mod http_backend;
#[cfg(feature = "local")]
#[cfg_attr(docsrs, doc(cfg(feature = "local")))]
pub mod local;
#[cfg(feature = "local")]
mod local_login;
#[cfg(feature = "refresh-token")]
#[cfg_attr(docsrs, doc(cfg(feature = "refresh-token")))]
pub mod refresh_token;

pub use async_trait::async_trait;
#[doc(inline)]
pub use client::{CognitoCredentialsProvider, Login, Session, SignIn};
#[doc(inline)]
pub use developer::{DeveloperIdentity, DeveloperIdentityProvider, RefreshRequest};
#[doc(inline)]
pub use error::{BackendError, Error, ErrorKind};
#[cfg(feature = "http-backend")]
#[cfg_attr(docsrs, doc(cfg(feature = "http-backend")))]
#[doc(inline)]
pub use http_backend::HttpBackend;
#[doc(inline)]
pub use ids::{DeveloperProviderName, DeveloperUserId, IdentityId, IdentityPoolId};
#[cfg(feature = "local")]
#[cfg_attr(docsrs, doc(cfg(feature = "local")))]
#[doc(inline)]
pub use local::LocalIdentityPool;
#[doc(inline)]
pub use logins::Logins;
#[cfg(feature = "verify")]
#[cfg_attr(docsrs, doc(cfg(feature = "verify")))]
#[doc(inline)]
pub use server::TokenVerifier;
#[doc(inline)]
pub use server::{IdentityAdmin, TokenVendor};
pub use service::explain;
#[doc(inline)]
pub use token::OpenIdToken;
#[doc(inline)]
pub use users::UserCredentials;
