//! The client half over the local pool: sign-in, switching, refreshing, refusals, traces and random lives.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test's failure is a panic"
)]

#[path = "../stage/mod.rs"]
mod stage;

mod abandoned;
mod any_service;
mod bad_input;
mod bad_logins_and_stores;
mod classic_flow;
mod composition;
mod deciding;
mod events;
mod faults;
mod identity_and_token;
mod identity_cache;
mod interleavings;
mod knowing;
mod lease;
mod many_users;
mod mobile_traces;
mod outage;
mod phone;
mod refusals;
mod rejection;
mod round_trips;
mod session_property;
mod switch_seen_by_clients;
mod switching;
mod wrong_user;
