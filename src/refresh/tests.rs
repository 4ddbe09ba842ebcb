pub(super) mod kit;

#[cfg(not(cognito_loom))]
mod callers;
#[cfg(not(cognito_loom))]
mod hostile;
#[cfg(cognito_loom)]
mod model;
#[cfg(not(cognito_loom))]
mod outages;
#[cfg(all(feature = "rt-tokio", not(cognito_loom)))]
mod property;
#[cfg(all(feature = "rt-tokio", not(cognito_loom)))]
mod runtimes;
