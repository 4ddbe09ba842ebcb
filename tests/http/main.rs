//! `HttpBackend` before backends of every kind, and `RefreshTokenLogins` before token endpoints.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test's failure is a panic"
)]

#[path = "../stage/mod.rs"]
mod stage;

mod http_backend;
mod printed_reasons;
mod refresh_token;
