//! The local pool as the SDK and raw HTTP see it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test's failure is a panic"
)]

#[path = "../pool_support/mod.rs"]
mod pool_support;

mod errors;
mod faults;
mod operations;
mod policies;
mod property;
mod providers;
mod sts;
mod walkthrough;
