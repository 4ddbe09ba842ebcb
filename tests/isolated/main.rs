//! Tests that need a process to themselves: log subscribers, child processes; and the sources, held against their rules.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test's failure is a panic"
)]

#[path = "../stage/mod.rs"]
mod stage;

mod floors;
mod hostile_app;
mod killed;
#[cfg(feature = "metrics")]
mod metrics;
mod secrets;
mod store;
