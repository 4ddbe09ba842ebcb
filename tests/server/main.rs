//! The server half over the local pool: vending, linking, administering, verifying.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test's failure is a panic"
)]

#[path = "../stage/mod.rs"]
mod stage;

mod admin;
mod attacks;
mod audit;
mod cloudformation;
mod denied;
mod fleet;
mod fleet_simulation;
mod forgetting;
mod model;
mod vending;
mod verifier;
