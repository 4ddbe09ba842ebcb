//! Random sequences that are the same in every run.

use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// A runner of its own share of random sequences, for each of `threads`: `plain` of them in all, or as many as the environment
/// variable `PROPTEST_CASES` says. Their seed is the thread's number: what fails once fails again.
pub fn sequences(thread: u8, threads: u8, plain: u32) -> TestRunner {
    let config = Config::default();
    let cases = match std::env::var_os("PROPTEST_CASES") {
        Some(_) => config.cases,
        None => plain,
    };
    let config = Config {
        cases: cases.div_ceil(threads.into()),
        failure_persistence: None,
        max_shrink_iters: 40,
        ..config
    };
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::XorShift, &[thread + 1; 16]))
}
