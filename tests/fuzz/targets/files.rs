//! Bytes read as files: `realhpt_fuzz::files`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| realhpt_fuzz::files(data));
