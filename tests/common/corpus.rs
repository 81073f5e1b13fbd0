//! The files of `tests/data`: data made by systems that we did not write.

use std::io::Read;
use std::path::{Path, PathBuf};

/// The path of a file in `tests/data`.
pub(crate) fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(name)
}

/// The bytes of a file in `tests/data`; an `.xz` is unpacked.
pub(crate) fn bytes(name: &str) -> Vec<u8> {
    let raw = std::fs::read(data(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    if !name.ends_with(".xz") {
        return raw;
    }
    let mut bytes = Vec::new();
    liblzma::read::XzDecoder::new(raw.as_slice())
        .read_to_end(&mut bytes)
        .unwrap();
    bytes
}

/// The bytes that hex digits stand for.
pub(crate) fn unhex(digits: &str) -> Vec<u8> {
    let digits = digits.as_bytes();
    assert!(digits.len().is_multiple_of(2), "half a byte");
    digits
        .chunks_exact(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}

/// The number that hex digits stand for.
pub(crate) fn number(digits: &str) -> u64 {
    u64::from_str_radix(digits, 16).unwrap_or_else(|error| panic!("{digits}: {error}"))
}
