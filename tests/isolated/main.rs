//! Tests that need a process to themselves: log subscribers, child processes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test's failure is a panic"
)]

#[path = "../common/mod.rs"]
mod common;

mod secrets;
mod store;
