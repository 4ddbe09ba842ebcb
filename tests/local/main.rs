//! The local pool as the SDK and raw HTTP see it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test's failure is a panic"
)]

#[path = "../stage/mod.rs"]
mod stage;

mod admin;
mod errors;
mod faults;
mod operations;
mod policies;
mod property;
mod providers;
mod sts;
mod walkthrough;
