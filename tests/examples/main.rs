//! The examples do what their pages say.
#![allow(dead_code, reason = "an example's main runs elsewhere")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test's failure is a panic"
)]

#[path = "../common/mod.rs"]
mod common;

mod backends;
mod programs;
