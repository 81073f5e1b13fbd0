//! Interleavings of processors in the engine's own code, explored by loom.
//!
//! The engine is compiled with its `sync` module standing on loom's atomics, so what is explored is the code
//! that runs on target, orderings included: loom shows executions that only a weakly ordered machine has,
//! which neither a stress test on x86 nor QEMU's TCG does. Each case (`tests/cases.rs`) is a few hypercalls
//! on two processors; loom runs every interleaving up to a bound on preemptions.
//!
//! A package of its own, so that the build with `--cfg loom` has few dependencies. The test
//! `packages` of the root package runs it.
#![no_std]
