//! Hashed page tables on the host: files in and out, a model to apply streams to, and the round trip's verdict.
//!
//! [`formats`] reads and writes the files, [`model`] is a table that records are applied to, [`verify`] decides
//! whether what came back from the machine is what it must be, [`mod@hash`] whether an entry stands where its address leads to,
//! [`linux`] whether a table has Linux's linear map. They stand on [`record`], a decoder written
//! from the format's description alone: it shares no code with the engine's reader and writer, so that a mistake
//! there can't hide behind the same mistake here.
//!
//! Invariants:
//! * Records in memory always have big-endian headers, whatever the file had; entries are big-endian everywhere.
//! * No byte of a file or of a pass is trusted. What is wrong with it is said in one line, with the place.

pub mod formats;
pub mod hash;
pub mod linux;
pub mod model;
pub mod record;
pub mod verify;

#[cfg(test)]
mod tests;
