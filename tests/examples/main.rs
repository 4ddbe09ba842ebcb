//! The examples do what their pages say.
#![allow(dead_code, reason = "an example's main runs elsewhere")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test's failure is a panic"
)]

#[path = "../stage/mod.rs"]
mod stage;

mod backends;
mod programs;
mod signers;
