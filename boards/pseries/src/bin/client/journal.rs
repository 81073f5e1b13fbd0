//! The journal: how every slot that the client has touched must look in the guest's view.

use heapless::Vec;
use realhpt_pseries::{
    exchange::{HEADER, JOURNAL_WORDS, origin, word},
    hcall,
    mmu::{
        Entry,
        pte::{R_C, R_R},
    },
    runtime::Runtime,
    window::Window,
};

use crate::trouble::{Trouble, expect};

/// The most slots the client touches: the window's, its pages', those it found.
const SLOTS: usize = 1024;

/// One slot.
#[derive(Clone, Copy, Debug)]
struct Slot {
    ptex: u64,
    dw0: u64,
    dw1: u64,
    origin: u64,
}

/// What is expected of the slots, at most once of each.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    slots: Vec<Slot, SLOTS>,
}

impl Journal {
    /// The slot has this entry. What was known of the slot before is forgotten.
    pub(crate) fn set(&mut self, entry: Entry, origin: u64) {
        let Entry { ptex, dw0, dw1 } = entry;
        let new = Slot {
            ptex,
            dw0,
            dw1,
            origin,
        };
        if let Some(slot) = self.slots.iter_mut().find(|slot| slot.ptex == ptex) {
            *slot = new;
        } else {
            assert!(self.slots.push(new).is_ok(), "the journal is full");
        }
    }

    /// The slot is empty.
    pub(crate) fn set_removed(&mut self, ptex: u64, origin: u64) {
        self.set(
            Entry {
                ptex,
                dw0: 0,
                dw1: 0,
            },
            origin,
        );
    }

    /// How many slots there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Adds the entries the runtime runs by, as they are when the journal has been written: the program's
    /// page was executed and stored to, of the window the header and the journal were stored to.
    pub(crate) fn add_runtime(&mut self, runtime: &Runtime) {
        let used = |entry: Entry| Entry {
            dw1: entry.dw1 | R_R | R_C,
            ..entry
        };
        self.set(used(runtime.program), origin::RUNTIME);
        let Some(window) = runtime.window else { return };
        let pages = runtime.window_entries.len() as u64;
        let page = window.size() / pages.max(1);
        let end = HEADER + (self.len() as u64 + pages) * entry_bytes();
        for (entry, start) in runtime
            .window_entries
            .iter()
            .zip((0..).map(|number| number * page))
        {
            let stored = start == 0 || (start + page > HEADER && start < end);
            self.set(if stored { used(*entry) } else { *entry }, origin::RUNTIME);
        }
    }

    /// Writes the journal to the window.
    pub(crate) fn write(&self, window: &Window) {
        let first = (HEADER / 8..).step_by(JOURNAL_WORDS);
        for (slot, at) in self.slots.iter().zip(first) {
            for (number, value) in (at..).zip([slot.ptex, slot.dw0, slot.dw1, slot.origin]) {
                window.set(usize::try_from(number).unwrap_or(usize::MAX), value);
            }
        }
        window.set(word::JOURNAL, self.len() as u64);
    }

    /// Compares every slot with what H_READ says.
    pub(crate) fn verify(&self) -> Result<(), Trouble> {
        for slot in &self.slots {
            let (dw0, dw1) = hcall::read(slot.ptex)?;
            expect("dword 0 of slot", slot.ptex, slot.dw0, dw0)?;
            expect("dword 1 of slot", slot.ptex, slot.dw1, dw1)?;
        }
        Ok(())
    }
}

/// Bytes of one entry of the journal.
const fn entry_bytes() -> u64 {
    JOURNAL_WORDS as u64 * 8
}
