//! `HttpBackend` before backends of every kind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test's failure is a panic"
)]

#[path = "../common/mod.rs"]
mod common;

mod http_backend;
