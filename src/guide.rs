//! Guides: how to do it, and what to expect.
//!
//! | I want to … | guide |
//! |---|---|
//! | sign users in with my own backend and call AWS | [`quick_start_app`] |
//! | give my users a Cognito token | [`quick_start_backend`] |
//! | change who is signed in | [`switching_users`] |
//! | let people start as guests | [`guests_and_linking`] |
//! | know what happens while something is down | [`refresh_and_outages`] |
//! | sign without an SDK client, or for a long time | [`signing`] |
//! | watch a backend, its quota and its audit trail | [`operating`] |
//! | run many instances of a backend | [`fleet`] |
//! | test without an AWS account | [`testing`] |
//! | run a pool on my machine, for any language | [`local_pool`] |
//! | come from another SDK | [`migration`] |
//! | find out why a sign-in is refused | [`troubleshooting`] |
//! | judge what is protected | [`security`] |
//! | know what it costs | [`performance`] |
//!
//! The guides are part of the documentation alone: nothing of them is in a build.

#[doc = include_str!("../docs/quick_start_app.md")]
pub mod quick_start_app {}

#[doc = include_str!("../docs/quick_start_backend.md")]
pub mod quick_start_backend {}

#[doc = include_str!("../docs/switching_users.md")]
pub mod switching_users {}

#[doc = include_str!("../docs/guests_and_linking.md")]
pub mod guests_and_linking {}

#[doc = include_str!("../docs/refresh_and_outages.md")]
pub mod refresh_and_outages {}

#[doc = include_str!("../docs/signing.md")]
pub mod signing {}

#[doc = include_str!("../docs/operating.md")]
pub mod operating {}

#[doc = include_str!("../docs/fleet.md")]
pub mod fleet {}

#[doc = include_str!("../docs/testing.md")]
pub mod testing {}

#[doc = include_str!("../docs/local_pool.md")]
pub mod local_pool {}

#[doc = include_str!("../docs/migration.md")]
pub mod migration {}

#[doc = include_str!("../docs/troubleshooting.md")]
pub mod troubleshooting {}

#[doc = include_str!("../docs/security.md")]
pub mod security {}

#[doc = include_str!("../docs/performance.md")]
#[doc = include_str!("../docs/refreshes.svg")]
pub mod performance {}
