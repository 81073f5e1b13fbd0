//! Bytes written as a stream: `realhpt_fuzz::writer`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| realhpt_fuzz::writer(data));
