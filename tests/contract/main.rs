//! The contract
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;
mod huge;
mod sizes;
