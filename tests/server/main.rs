//! The server half over the local pool: vending, linking, administering, verifying.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test's failure is a panic"
)]

#[path = "../vendor_stage/mod.rs"]
mod vendor_stage;

mod admin;
mod attacks;
mod audit;
mod cloudformation;
mod vending;
mod verifier;
