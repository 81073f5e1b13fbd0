//! What the host tests share: a machine with partitions, an agent that streams, and a stream codec.
//!
//! * [`world`]: a [`Recording`](realhpt::arch::host::Recording) machine under a `System` with an agent (control
//!   privilege, memory for buffers), a client whose table the tests are about, and others as wanted; all
//!   calls go through `hcall::dispatch`, as a guest's do.
//! * [`stream`]: records, their decoder and encoder, and [`Image`](stream::Image), a table as a map. Written
//!   from the format's description alone: nothing of `realhpt::stream` is used.
//! * [`probe`]: a machine with a hook at all that the engine does to it.
//! * [`corpus`]: the files of `tests/data`.
//! * [`runner`]: property tests that are the same on every run.
//! * [`named`]: the tests that a table in a test's docs names are there.
#![allow(
    dead_code,
    unused_imports,
    reason = "each test crate uses its own part"
)]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::missing_panics_doc,
    reason = "a test fails by panicking"
)]

pub(crate) mod corpus;
pub(crate) mod named;
pub(crate) mod probe;
pub(crate) mod runner;
pub(crate) mod stream;
pub(crate) mod world;
