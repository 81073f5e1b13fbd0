//! Property tests that are the same on every run.

use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// A runner whose cases come from a fixed seed. A failure is not kept: it comes again.
pub(crate) fn runner(config: Config) -> TestRunner {
    let config = Config {
        failure_persistence: None,
        ..config
    };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}
