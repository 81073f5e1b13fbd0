//! Hypercalls, readers and hardware against the model: `realhpt_fuzz::hcalls`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| realhpt_fuzz::hcalls(data));
