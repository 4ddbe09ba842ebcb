pub(super) mod kit;

#[cfg(not(cognito_loom))]
mod callers;
#[cfg(cognito_loom)]
mod model;
#[cfg(all(feature = "rt-tokio", not(cognito_loom)))]
mod property;
#[cfg(all(feature = "rt-tokio", not(cognito_loom)))]
mod runtimes;
