//! What a PAPR guest finds when it starts: a device tree of its own, and RTAS.
//!
//! [`place`] says where both stand in its memory; [`tree`] makes the tree, from the partition's description and from what
//! [`processor`] knows of the CPU; [`rtas`] has the instructions and the tokens of RTAS. `heap` is the memory that making
//! trees takes. The guest is entered with the tree's address in r3 and zero in r4 and r5: a client program without
//! Open Firmware, as Linux's boot wrapper, kexec and skiboot enter theirs.
//!
//! All but `heap` is pure: the tree is made and read again by the tests on the host.

#[cfg(target_os = "none")]
pub(crate) mod heap;
pub mod place;
pub mod processor;
pub mod rtas;
pub mod tree;
