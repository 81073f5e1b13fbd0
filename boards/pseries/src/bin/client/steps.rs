//! What the client does, step by step.

use core::fmt;

use heapless::Vec;
use realhpt_pseries::{
    abi::Flags,
    cpu,
    exchange::{origin, phase, word},
    hcall,
    mmu::{
        Entry,
        pte::{PP_READ_ONLY, PP_READ_WRITE, R_C, R_KEY_HI, R_KEY_LO, R_N, R_R, V_VALID},
        slb,
    },
    println,
    runtime::{FIRST_FREE_SLB, Runtime},
};

use crate::{
    journal::Journal,
    pages::{self, PAGES, SEGMENTS, TestPage, store_real},
    trouble::{Trouble, expect},
};

/// How long the client cedes between steps, so that others see it at work.
const BREATH: u64 = cpu::TICKS_PER_MS;
/// Pages the client insists on.
const ENOUGH: usize = 100;
/// How many of the entries it finds it changes.
const FOUND: u64 = 24;
/// How many half groups it looks at to find them.
const LOOKS: u64 = 4096;
/// Upper part of dword 0 of the entries of real mode, which the partition cannot do without: B = 1, VSID 0x1ffffff
/// (LoPAR 14.5.1).
const REAL_MODE: u64 = 0x40_01ff_ffff;

/// H_BULK_REMOVE: a request, by AVPN.
const BULK_REQUEST_AVPN: u64 = 0x42 << 56;
/// H_BULK_REMOVE: the end.
const BULK_END: u64 = 0xc0 << 56;
/// H_BULK_REMOVE: removed; with the request's flags.
const BULK_REMOVED_AVPN: u64 = 0x82;
/// H_BULK_REMOVE: the entry had R.
const BULK_R: u64 = 0x08;
/// H_BULK_REMOVE: the entry had C.
const BULK_C: u64 = 0x04;

/// The program.
pub(crate) fn main(runtime: &Runtime) -> u64 {
    if let Some(window) = runtime.window {
        window.begin_phase(phase::CLIENT, steps().len() as u64);
    }
    let result = run(runtime);
    match &result {
        Ok(summary) => println!("client: {summary}"),
        Err(trouble) => println!("client failed: {trouble}"),
    }
    if let Some(window) = runtime.window {
        window.set(word::RESULT, if result.is_ok() { 1 } else { 2 });
        window.set(word::PHASE, phase::END);
    }
    result.map_or_else(|trouble| trouble.code(), |_| 0)
}

/// The client at work.
struct Client<'r> {
    runtime: &'r Runtime,
    pages: Vec<TestPage, PAGES>,
    left_out: u64,
    found: u64,
    journal: Journal,
}

/// What it has done.
struct Summary {
    pages: usize,
    left_out: u64,
    found: u64,
    slots: usize,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            pages,
            left_out,
            found,
            slots,
        } = self;
        write!(
            f,
            "{pages} pages entered, {left_out} left out, {found} entries found and changed, "
        )?;
        write!(f, "{slots} slots in the journal")
    }
}

type Step<'r> = fn(&mut Client<'r>) -> Result<(), Trouble>;

/// The steps after the pages are entered.
const fn steps<'r>() -> [(&'static str, Step<'r>); 7] {
    [
        ("make writable", Client::make_writable),
        ("access", Client::access),
        ("access by two addresses", Client::access_aliases),
        ("change protection", Client::change_protection),
        ("remove", Client::remove),
        ("enter again", Client::enter_again),
        ("change what was found", Client::change_found),
    ]
}

fn run(runtime: &Runtime) -> Result<Summary, Trouble> {
    for (slot, segment) in (FIRST_FREE_SLB..).zip(&SEGMENTS) {
        // SAFETY: the program has no references to these addresses.
        unsafe { slb::insert(slot, segment) };
    }
    let (pages, left_out) = pages::enter(runtime)?;
    if pages.len() < ENOUGH {
        let (expected, found) = (ENOUGH as u64, pages.len() as u64);
        return Err(Trouble::Wrong {
            what: "number of pages",
            at: 0,
            expected,
            found,
        });
    }
    for page in &pages {
        store_real(page.ra, page.pattern());
    }
    let mut client = Client {
        runtime,
        pages,
        left_out,
        found: 0,
        journal: Journal::default(),
    };
    for (number, (name, step)) in (1..).zip(steps()) {
        cpu::cede(BREATH);
        if let Err(trouble) = step(&mut client) {
            println!("client: step {name}");
            return Err(trouble);
        }
        if let Some(window) = runtime.window {
            window.set(word::DONE, number);
        }
    }
    client.finish()
}

impl Client<'_> {
    /// The live pages whose number leaves one of these rests when divided.
    fn every(
        &mut self,
        divisor: usize,
        rests: &'static [usize],
    ) -> impl Iterator<Item = &mut TestPage> {
        let chosen = self.pages.iter_mut().enumerate();
        let chosen =
            chosen.filter(move |(number, page)| page.live && rests.contains(&(number % divisor)));
        chosen.map(|(_, page)| page)
    }

    /// H_PROTECT of entries that nobody has used.
    fn make_writable(&mut self) -> Result<(), Trouble> {
        self.every(7, &[6])
            .try_for_each(|page| page.protect(PP_READ_WRITE))
    }

    /// A third is loaded from, a third is stored to, a third stays as it is. Of those stored to, half are
    /// loaded from first: C is then set in an entry that has R.
    fn access(&mut self) -> Result<(), Trouble> {
        self.every(3, &[0]).try_for_each(TestPage::load)?;
        self.every(6, &[1]).try_for_each(TestPage::load)?;
        self.every(3, &[1])
            .try_for_each(|page| page.store(!page.pattern()))
    }

    /// What is stored through one page is loaded through every other that maps the same memory.
    fn access_aliases(&mut self) -> Result<(), Trouble> {
        for number in (0..self.pages.len()).rev().step_by(3) {
            let (others, [page, ..]) = self.pages.split_at_mut(number) else {
                continue;
            };
            page.store(page.pattern().rotate_left(8))?;
            let frame = page.ra;
            for other in others.iter_mut().filter(|other| other.ra == frame) {
                other.load()?;
            }
        }
        Ok(())
    }

    /// H_PROTECT of entries that hardware has used: read-only, with a store that must fault; some writable
    /// again; no-execute and a key, with a fetch that must fault.
    fn change_protection(&mut self) -> Result<(), Trouble> {
        for page in self.every(5, &[0]) {
            page.load()?;
            page.protect(PP_READ_ONLY)?;
            page.expect_read_only()?;
            page.load()?;
        }
        for page in self.every(10, &[5]) {
            page.protect(PP_READ_WRITE)?;
            page.store(page.pattern().rotate_left(16))?;
        }
        for page in self.every(9, &[4]) {
            page.load()?;
            page.protect(PP_READ_WRITE | R_N | KEY)?;
            page.expect_no_execute()?;
            page.load()?;
        }
        Ok(())
    }

    /// H_REMOVE of a quarter; R and C must come back. Then others in bulk.
    fn remove(&mut self) -> Result<(), Trouble> {
        for page in self.every(4, &[1]) {
            let (dw0, dw1) = page.entry.remove()?;
            expect("dword 0 removed", page.entry.ptex, page.entry.dw0, dw0)?;
            expect("dword 1 removed", page.entry.ptex, page.entry.dw1, dw1)?;
            page.live = false;
            page.expect_unmapped()?;
        }
        self.bulk_remove()?;
        for page in self.pages.iter().filter(|page| !page.live) {
            self.journal.set_removed(page.entry.ptex, origin::ENTERED);
        }
        Ok(())
    }

    /// H_BULK_REMOVE of an eighth of the pages, four at a time.
    fn bulk_remove(&mut self) -> Result<(), Trouble> {
        let mut left = self.every(8, &[3]).collect::<Vec<_, PAGES>>();
        for pages in left.chunks_mut(4) {
            let mut specifiers = [(BULK_END, 0); 4];
            for (specifier, page) in specifiers.iter_mut().zip(&*pages) {
                *specifier = (BULK_REQUEST_AVPN | page.entry.ptex, page.entry.tag());
            }
            hcall::bulk_remove(&mut specifiers)?;
            for ((answer, _), page) in specifiers.into_iter().zip(pages) {
                let Entry { ptex, dw1, .. } = page.entry;
                let r = if dw1 & R_R != 0 { BULK_R } else { 0 };
                let c = if dw1 & R_C != 0 { BULK_C } else { 0 };
                expect(
                    "answer of H_BULK_REMOVE",
                    ptex,
                    (BULK_REMOVED_AVPN | r | c) << 56 | ptex,
                    answer,
                )?;
                page.live = false;
                page.expect_unmapped()?;
            }
        }
        Ok(())
    }

    /// H_ENTER with H_EXACT of some that were removed: as new, without R and C; half of them are used again.
    fn enter_again(&mut self) -> Result<(), Trouble> {
        for (number, page) in self
            .pages
            .iter_mut()
            .enumerate()
            .filter(|(number, _)| number % 16 == 1)
        {
            let Entry { ptex, dw0, dw1 } = page.entry;
            let dw1 = dw1 & !(R_R | R_C);
            // SAFETY: the program has no references to the client's segments.
            let got = unsafe { hcall::enter(Flags::EXACT, ptex, (dw0, dw1)) }?;
            expect("index of H_EXACT", ptex, ptex, got)?;
            page.entry.dw1 = dw1;
            page.live = true;
            if number % 32 == 1 {
                page.load()?;
            }
        }
        Ok(())
    }

    /// Changes some of the entries that were in the table: protection and removal, in turn.
    fn change_found(&mut self) -> Result<(), Trouble> {
        let slots = self.runtime.table.slots();
        let distance = (slots / LOOKS).max(4);
        for first in (0..slots).step_by(usize::try_from(distance).unwrap_or(usize::MAX)) {
            let Some(entry) = self.find(first)? else {
                continue;
            };
            if self.found.is_multiple_of(2) {
                let bits = if entry.dw1 & 1 == 0 {
                    PP_READ_ONLY
                } else {
                    PP_READ_WRITE
                };
                let entry = pages::protect(entry, bits | R_N)?;
                self.journal.set(entry, origin::FOUND);
            } else {
                let (dw0, dw1) = entry.remove()?;
                expect("dword 0 found", entry.ptex, entry.dw0, dw0)?;
                expect("dword 1 found", entry.ptex, entry.dw1, dw1)?;
                self.journal.set_removed(entry.ptex, origin::FOUND);
            }
            self.found += 1;
            if self.found == FOUND {
                break;
            }
        }
        Ok(())
    }

    /// An entry of the half group that neither the client nor its runtime nor real mode needs.
    fn find(&self, first: u64) -> Result<Option<Entry>, Trouble> {
        let entries = (first..).zip(hcall::read_4(first)?);
        let entries = entries.map(|(ptex, (dw0, dw1))| Entry { ptex, dw0, dw1 });
        let mut strange = entries.filter(|entry| {
            let mut own = self.pages.iter().map(|page| &page.entry);
            let mut runtime = self
                .runtime
                .window_entries
                .iter()
                .chain([&self.runtime.program]);
            entry.dw0 & V_VALID != 0
                && entry.dw0 >> 24 != REAL_MODE
                && !own.any(|page| page.ptex == entry.ptex)
                && !runtime.any(|used| used.ptex == entry.ptex)
        });
        Ok(strange.next())
    }

    /// Writes the journal; the table must be as it says.
    fn finish(mut self) -> Result<Summary, Trouble> {
        for page in self.pages.iter().filter(|page| page.live) {
            self.journal.set(page.entry, origin::ENTERED);
        }
        self.journal.add_runtime(self.runtime);
        if let Some(window) = self.runtime.window {
            self.journal.write(&window);
        }
        self.journal.verify()?;
        let (left_out, found) = (self.left_out, self.found);
        Ok(Summary {
            pages: self.pages.len(),
            left_out,
            found,
            slots: self.journal.len(),
        })
    }
}

/// A storage key for pages that have one. All keys allow everything as long as nobody writes the AMR.
const KEY: u64 = R_KEY_HI & (2 << 60) | R_KEY_LO & (5 << 9);
