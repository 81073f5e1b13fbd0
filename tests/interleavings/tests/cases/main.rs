//! The cases. Slots 0 to 63 of the table exist; guest memory is 16 MiB at guest real 0.
#![cfg(loom)]

mod control;
mod hardware;
mod interrupts;
mod readers;
mod resize;
mod slots;
mod world;
