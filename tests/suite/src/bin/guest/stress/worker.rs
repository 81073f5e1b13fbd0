//! One vCPU at work: operations at random, each with the one outcome that it can have.
//!
//! A worker knows all about its own pages: nobody else makes entries with their tags. So it knows what each call
//! about them answers, R and C included, and which accesses fault and how. Of others' entries it knows that its own
//! calls, made under conditions that do not hold, leave them alone.
//!
//! The entries of common pages are entered with R and C, which then cannot change whoever uses them.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

use realhpt_pseries::{
    abi::{Flags, Status},
    hcall::{self, Hpte},
    mmu::{
        Entry,
        pte::{
            PP_READ_ONLY, PP_READ_WRITE, R_KEY_HI, R_KEY_LO, R_N, R_PP, R_PP0, R_R, V_BOLTED,
            V_SECONDARY, V_TAG, V_VALID,
        },
    },
};
use realhpt_suite::stress::WORKERS;

use super::{
    pages::{self, Place, RC},
    shadow::{self, Shadow},
};
use crate::{
    bench::{load_real, try_load, try_store},
    random::Random,
    trouble::{Must as _, Outcome, faulted, holds, refused, same},
};

/// DSISR: no entry translates the address; the protection forbids the access; it was a store.
const NO_ENTRY: u64 = 0x4000_0000;
const PROTECTION: u64 = 0x0800_0000;
const STORE: u64 = 0x0200_0000;

/// H_BULK_REMOVE: a request under H_AVPN, what it becomes, and the end.
const BULK_REQUEST: u64 = 0x42 << 56;
const BULK_REMOVED: u64 = 0x82 << 56;
const BULK_NOT_FOUND: u64 = 0x92 << 56;
const BULK_END: u64 = 0xc0 << 56;
/// Where R and C of dword 1 stand in its answer.
const BULK_RC_SHIFT: u32 = 51;

/// What is counted.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Deed {
    Entered,
    FoundFull,
    Protected,
    Removed,
    Read,
    Accessed,
    Faulted,
    /// Accesses by another's page of which is known what it was.
    ByOthers,
    /// Calls about others' entries that changed nothing.
    NotMatching,
}

/// How many kinds there are.
pub(crate) const DEEDS: usize = 9;

static COUNTS: [AtomicU64; DEEDS] = [const { AtomicU64::new(0) }; DEEDS];

/// How often each was done.
pub(crate) fn deeds() -> impl Iterator<Item = u64> {
    COUNTS.iter().map(|count| count.load(Relaxed))
}

/// A worker.
#[derive(Debug)]
pub(crate) struct Worker {
    number: u64,
    random: Random,
    /// Operations that it has done.
    done: u64,
    /// What it stored last in its own place of each frame.
    values: [u64; FRAMES],
}

#[expect(clippy::cast_possible_truncation, reason = "a small number")]
const FRAMES: usize = pages::FRAMES as usize;

/// The bits that H_PROTECT replaces.
const PROTECTED: u64 = R_PP0 | R_KEY_HI | R_KEY_LO | R_N | R_PP;

impl Worker {
    /// Worker `number`. Nothing is mapped yet.
    pub(crate) const fn new(number: u64, seed: u64) -> Self {
        // Seeds next to each other give numbers that are not.
        let mixed = (seed + number).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Self {
            number,
            random: Random(mixed),
            done: 0,
            values: [0; FRAMES],
        }
    }

    /// Does operations until there are `target` in all.
    pub(crate) fn work(&mut self, target: u64) -> Outcome {
        while self.done < target {
            self.step()?;
        }
        Ok(())
    }

    fn did(&mut self, deed: Deed) {
        self.done += 1;
        if let Some(count) = COUNTS.get(deed as usize) {
            count.fetch_add(1, Relaxed);
        }
    }

    fn step(&mut self) -> Outcome {
        let number = self.random.below(pages::PAGES);
        let place = pages::place(self.number, number);
        let shadow = shadow::page(self.number, number);
        match (shadow.entry(), self.random.below(16)) {
            (_, 0) => self.miss(),
            (_, 1 | 2) => self.access_anothers(),
            (None, 3..=9) => self.enter(&place, shadow),
            (None, _) => self.access_unmapped(&place),
            (Some(entry), 3..=5) => self.remove(&place, shadow, entry),
            (Some(_), 6) => self.remove_many(),
            (Some(entry), 7 | 8) => self.protect(shadow, entry),
            (Some(entry), 9 | 10) => self.read(entry),
            (Some(entry), _) => self.access(&place, shadow, entry),
        }
    }

    /// The entry of this worker in a slot.
    fn own(&self, ptex: u64) -> Option<Entry> {
        let all = shadow::of(self.number).iter();
        all.filter_map(Shadow::entry)
            .find(|entry| entry.ptex == ptex)
    }

    /// Read-only once in four times, executable or not.
    fn protection(&mut self) -> u64 {
        let pp = if self.random.once_in(4) {
            PP_READ_ONLY
        } else {
            PP_READ_WRITE
        };
        pp | if self.random.once_in(2) { R_N } else { 0 }
    }

    /// H_ENTER: any slot of the primary or secondary group, or one of them.
    fn enter(&mut self, place: &Place, shadow: &Shadow) -> Outcome {
        let secondary = self.random.once_in(3);
        let group = place.group(secondary);
        let software = if self.random.once_in(4) { V_BOLTED } else { 0 };
        let h = if secondary { V_SECONDARY } else { 0 };
        let dw0 = place.segment.dword_0(place.ea, place.page) | software | h;
        let rc = match self.random.below(4) {
            _ if place.common => RC,
            0 => R_R,
            1 => RC,
            _ => 0,
        };
        let frames = place.page.size() / pages::FRAME;
        let ra = pages::frame(self.random.below(pages::FRAMES / frames) * frames);
        let dw1 = place.page.dword_1(ra, self.protection() | rc);
        let (flags, ptex) = if self.random.once_in(4) {
            (Flags::EXACT, group + self.random.below(8))
        } else {
            (Flags::empty(), group + self.random.below(8))
        };
        let exact = flags.contains(Flags::EXACT);
        let taken = exact && self.own(ptex).is_some();
        shadow.begin();
        // SAFETY: the program has no references to the worker's segments.
        let entered = unsafe { hcall::enter(flags, ptex, (dw0, dw1)) };
        match entered {
            Ok(got) => {
                let found = self.own(got);
                shadow.end(Some(Entry {
                    ptex: got,
                    dw0,
                    dw1,
                }));
                holds("slot of a new entry", got, !taken && found.is_none())?;
                let right = if exact {
                    got == ptex
                } else {
                    got & !7 == group
                };
                holds("slot that was asked for", got, right)?;
                self.did(Deed::Entered);
            }
            Err(failure) => {
                shadow.end(None);
                refused::<()>("H_ENTER", Status::PtegFull, Err(failure))?;
                self.did(Deed::FoundFull);
            }
        }
        Ok(())
    }

    /// H_REMOVE, with one of its conditions or none: the entry as it must be comes back. The next access faults.
    fn remove(&mut self, place: &Place, shadow: &Shadow, entry: Entry) -> Outcome {
        let (flags, avpn) = match self.random.below(3) {
            0 => (Flags::empty(), self.random.next()),
            1 => (Flags::AVPN, entry.tag()),
            _ => (Flags::ANDCOND, !entry.dw0),
        };
        shadow.begin();
        let removed = hcall::remove(flags, entry.ptex, avpn);
        shadow.end(None);
        let (dw0, dw1) = removed.must("H_REMOVE")?;
        same("dword 0 removed", entry.dw0, dw0)?;
        same("dword 1 removed", entry.dw1, dw1)?;
        self.did(Deed::Removed);
        if self.random.once_in(2) {
            return self.access_unmapped(place);
        }
        Ok(())
    }

    /// H_BULK_REMOVE of up to three pages, with a specifier that does not match among them.
    fn remove_many(&mut self) -> Outcome {
        let mut chosen: heapless::Vec<(&Shadow, Entry), 3> = heapless::Vec::new();
        let first = self.random.below(pages::PAGES);
        for number in 0..pages::PAGES {
            let page = shadow::page(self.number, (first + number) % pages::PAGES);
            if let Some(entry) = page.entry()
                && chosen.push((page, entry)).is_err()
            {
                break;
            }
        }
        let miss = self.missing();
        let mut specifiers = [(BULK_END, 0); 4];
        let place_of_miss = self.random.below(chosen.len() as u64 + 1);
        let mut entries = chosen.iter();
        let count = chosen.len() as u64 + 1;
        for (number, specifier) in (0..count).zip(&mut specifiers) {
            *specifier = if number == place_of_miss {
                (BULK_REQUEST | miss.0, miss.1)
            } else {
                let (_, entry) = entries.next().must("a page to remove")?;
                (BULK_REQUEST | entry.ptex, entry.tag())
            };
        }
        for (page, _) in &chosen {
            page.begin();
        }
        let removed = hcall::bulk_remove(&mut specifiers);
        for (page, _) in &chosen {
            page.end(None);
        }
        removed.must("H_BULK_REMOVE")?;
        let mut entries = chosen.iter();
        for (number, (answer, _)) in (0..count).zip(specifiers) {
            let expected = if number == place_of_miss {
                BULK_NOT_FOUND | miss.0
            } else {
                let (_, entry) = entries.next().must("a page that was removed")?;
                BULK_REMOVED | (entry.dw1 & RC) << BULK_RC_SHIFT | entry.ptex
            };
            same("answer of H_BULK_REMOVE", expected, answer)?;
            self.did(Deed::Removed);
        }
        Ok(())
    }

    /// H_PROTECT; R and C stay.
    fn protect(&mut self, shadow: &Shadow, entry: Entry) -> Outcome {
        let bits = self.protection();
        let flags = if self.random.once_in(2) {
            Flags::AVPN
        } else {
            Flags::empty()
        };
        shadow.begin_protect();
        let all = flags | Flags::from_bits_retain(bits);
        let protected = hcall::protect(all, entry.ptex, entry.tag());
        let dw1 = entry.dw1 & !PROTECTED | bits;
        shadow.end_protect(Some(Entry { dw1, ..entry }));
        self.did(Deed::Protected);
        protected.must("H_PROTECT")
    }

    /// H_READ of an entry, alone or with its neighbours.
    fn read(&mut self, entry: Entry) -> Outcome {
        let (dw0, dw1) = if self.random.once_in(2) {
            hcall::read(entry.ptex).must("H_READ")?
        } else {
            let four = hcall::read_4(entry.ptex).must("H_READ of four")?;
            let mut found = (0, 0);
            for (ptex, neighbour) in (entry.ptex & !3..).zip(four) {
                self.plausible(ptex, neighbour)?;
                if ptex == entry.ptex {
                    found = neighbour;
                }
            }
            found
        };
        same("dword 0 read", entry.dw0, dw0)?;
        same("dword 1 read", entry.dw1, dw1)?;
        self.did(Deed::Read);
        Ok(())
    }

    /// What any slot of the groups may be: free, or an entry of a worker for the memory; of this worker only as it
    /// knows it.
    fn plausible(&self, ptex: u64, (dw0, dw1): Hpte) -> Outcome {
        if let Some(entry) = self.own(ptex) {
            same("dword 0 of an entry of one's own", entry.dw0, dw0)?;
            return same("dword 1 of an entry of one's own", entry.dw1, dw1);
        }
        if dw0 == 0 {
            return same("dword 1 of a free slot", 0, dw1);
        }
        same("VALID, and no bit of the hypervisor's", V_VALID, dw0 & 0x61)?;
        let owner = (0..WORKERS as u64).find(|&worker| pages::is_tag_of(worker, dw0 & V_TAG));
        let other = owner.is_some_and(|owner| owner != self.number);
        holds("owner of an entry", dw0, other)?;
        let ra = dw1 & 0x0fff_ffff_ffff_0000;
        let memory = pages::frame(0)..pages::frame(0) + pages::FRAMES * pages::FRAME;
        holds("memory of an entry", dw1, memory.contains(&ra))
    }

    /// Loads and stores by a mapped page.
    fn access(&mut self, place: &Place, shadow: &Shadow, entry: Entry) -> Outcome {
        let pieces = place.page.size() / pages::FRAME;
        let offset = self.random.below(pieces) * pages::FRAME;
        let ea = place.ea + offset;
        let frame = pages::frame_of(pages::page_of(place.page, entry.dw1) + offset);
        let at = ea + pages::own(self.number);
        let index = usize::try_from(frame).unwrap_or_default();
        let stores = self.random.once_in(2);
        let writable = entry.dw1 & R_PP == PP_READ_WRITE;
        let used = |rc| {
            let dw1 = entry.dw1 | rc;
            shadow.set(Some(Entry { dw1, ..entry }));
        };
        if stores && writable {
            let value = self.random.next();
            try_store(at, value).must("store by a page that is mapped")?;
            used(RC);
            if let Some(kept) = self.values.get_mut(index) {
                *kept = value;
            }
            self.did(Deed::Accessed);
            return Ok(());
        }
        let found = try_load(ea).must("load by a page that is mapped")?;
        used(R_R);
        same("page that was seen", pages::identity(frame), found)?;
        let value = self.values.get(index).copied().unwrap_or_default();
        let found = try_load(at).must("load by a page that is mapped")?;
        same("value that was stored before", value, found)?;
        self.did(Deed::Accessed);
        if stores {
            // The page has R by now: whether a store that is refused sets it is not said.
            let fault = faulted("store by a read-only page", 0x300, try_store(at, !value))?;
            same("DSISR", PROTECTION | STORE, fault.dsisr)?;
            same("DAR", at, fault.dar)?;
            self.did(Deed::Faulted);
        }
        Ok(())
    }

    /// An access by a page that is not mapped.
    fn access_unmapped(&mut self, place: &Place) -> Outcome {
        let at = place.ea + pages::own(self.number);
        let (status, ended) = if self.random.once_in(2) {
            (NO_ENTRY | STORE, try_store(at, 0))
        } else {
            (NO_ENTRY, try_load(at).map(drop))
        };
        let fault = faulted("access by a page that is not mapped", 0x300, ended)?;
        same("DSISR", status, fault.dsisr)?;
        same("DAR", at, fault.dar)?;
        self.did(Deed::Faulted);
        Ok(())
    }

    /// An access by a common page of another worker, which may change it at the same time. As far as it did not, the
    /// access went as that page had it.
    fn access_anothers(&mut self) -> Outcome {
        let workers = WORKERS as u64;
        let other = (self.number + 1 + self.random.below(workers - 1)) % workers;
        let common = pages::PAGES - pages::FIRST_COMMON;
        let number = pages::FIRST_COMMON + self.random.below(common);
        let place = pages::place(other, number);
        let shadow = shadow::page(other, number);
        let Some(look) = shadow.look() else {
            return Ok(());
        };
        let at = place.ea + pages::own_by_others_pages(self.number);
        let value = self.random.next();
        let stores = self.random.once_in(2);
        let ended = if stores {
            try_store(at, value).map(|()| None)
        } else {
            try_load(place.ea).map(Some)
        };
        let (mapped, still) = (shadow.is_mapped_as(&look), shadow.is_still(&look));
        if let Ok(Some(found)) = ended {
            let memory = pages::identity(0)..pages::identity(pages::FRAMES);
            holds("memory that was seen", found, memory.contains(&found))?;
        }
        if !mapped {
            self.done += 1;
            return Ok(());
        }
        let kind = if stores { STORE } else { 0 };
        self.did(Deed::ByOthers);
        let Some(entry) = look.entry else {
            let fault = faulted("access by a page that another has removed", 0x300, ended)?;
            return same("DSISR", NO_ENTRY | kind, fault.dsisr);
        };
        let ra = pages::page_of(place.page, entry.dw1);
        if !stores {
            // Whatever is being done to its protection: it can be read, and an entry is there at every moment.
            let found = ended.must("load by another's page")?;
            let identity = pages::identity(pages::frame_of(ra));
            let found = found.unwrap_or_default();
            return same("page of another that was seen", identity, found);
        }
        let writable = entry.dw1 & R_PP == PP_READ_WRITE;
        if still && !writable || !still && ended.is_err() {
            let fault = faulted("store by another's read-only page", 0x300, ended)?;
            return same("DSISR", PROTECTION | STORE, fault.dsisr);
        }
        ended.must("store by another's page")?;
        let at = ra + at % pages::FRAME;
        same("what was stored by another's page", value, load_real(at))
    }

    /// A slot of the groups and a tag of this worker's that is not there.
    fn missing(&mut self) -> (u64, u64) {
        loop {
            let ptex = pages::slot(self.random.below(pages::SLOTS));
            let page = self.random.below(pages::PAGES);
            let tag = pages::place(self.number, page).tag();
            if self.own(ptex).is_none_or(|entry| entry.tag() != tag) {
                return (ptex, tag);
            }
        }
    }

    /// A call about whatever is in a slot, under a condition that does not hold.
    fn miss(&mut self) -> Outcome {
        let (ptex, tag) = self.missing();
        let not_found = Status::NotFound;
        match self.random.below(5) {
            0 => {
                let entry = hcall::read(ptex).must("H_READ")?;
                self.plausible(ptex, entry)?;
            }
            1 => {
                let removed = hcall::remove(Flags::AVPN, ptex, tag);
                refused("H_REMOVE by another's AVPN", not_found, removed)?;
            }
            2 => {
                let removed = hcall::remove(Flags::ANDCOND, ptex, V_VALID);
                refused("H_REMOVE of what is not valid", not_found, removed)?;
            }
            3 => {
                let flags = Flags::AVPN | Flags::from_bits_retain(PP_READ_ONLY);
                let protected = hcall::protect(flags, ptex, tag);
                refused("H_PROTECT by another's AVPN", not_found, protected)?;
            }
            _ => {
                let mut requests = [(0, 0); 4];
                for request in &mut requests {
                    let (ptex, tag) = self.missing();
                    *request = (BULK_REQUEST | ptex, tag);
                }
                let mut answers = requests;
                hcall::bulk_remove(&mut answers).must("H_BULK_REMOVE")?;
                for ((request, _), (answer, _)) in requests.into_iter().zip(answers) {
                    let expected = BULK_NOT_FOUND | request & !BULK_REQUEST;
                    same("answer to what does not match", expected, answer)?;
                }
            }
        }
        self.did(Deed::NotMatching);
        Ok(())
    }
}
