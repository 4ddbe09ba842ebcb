pub(super) mod kit;

mod callers;
#[cfg(feature = "rt-tokio")]
mod runtimes;
