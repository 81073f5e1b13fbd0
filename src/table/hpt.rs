//! The table itself, and the accesses that everything else is made of.
//!
//! [`Table`] is an area of memory (`area`) with an LPID, a format and an [`Order`]. The order of a
//! table that is in use never changes.

use super::bitmap::{Bitmap, Mark, Marks, WORD, index, ones};
use super::block::vrma_offset;
use super::hash::is_vrma;
use super::hpte::{
    ABSENT, BOLTED, Format, GuestR, GuestV, HVLOCK, Layout, RC, RealR, RealV, VALID, View,
};
use super::slot::{Entry, Slot};
use crate::addr::{Lpid, Ptex};
use crate::arch::arrays::{Arrays, Run, WordSlots};
use crate::sync::{AtomicU64, BeDword, Ordering, Steady, fence};

/// Reader slots that every table has.
pub const READERS: usize = 4;

/// How often a reader looks again at an entry that is being changed before it gives way.
const COPY_TRIES: usize = 8;

/// Log2 of a table's size in bytes: 18 to 46 (LoPAR 14.5.4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Order(u32);

impl Order {
    /// The smallest order.
    pub const MIN: u32 = 18;
    /// The largest order.
    pub const MAX: u32 = 46;

    /// The order `order`, if a table can have it.
    ///
    /// ```
    /// use realhpt::table::Order;
    /// let order = Order::new(24).unwrap();
    /// assert_eq!((order.bytes(), order.slots(), order.groups()), (16 << 20, 1 << 20, 1 << 17));
    /// assert_eq!(order.ptex(1 << 20), None);
    /// assert!(Order::new(17).is_none() && Order::new(47).is_none());
    /// ```
    #[must_use]
    pub const fn new(order: u32) -> Option<Self> {
        if Self::MIN <= order && order <= Self::MAX {
            Some(Self(order))
        } else {
            None
        }
    }

    /// The number.
    #[must_use]
    pub const fn raw(self) -> u32 {
        self.0
    }

    /// Bytes of the HPT; it is aligned to as many.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        1 << self.0
    }

    /// Entries of the HPT.
    #[must_use]
    pub const fn slots(self) -> u64 {
        self.bytes() / 16
    }

    /// PTEGs of the HPT.
    #[must_use]
    pub const fn groups(self) -> u64 {
        self.slots() / 8
    }

    /// The slot of that number, if the table has it.
    #[inline]
    #[must_use]
    pub const fn ptex(self, raw: u64) -> Option<Ptex> {
        if raw < self.slots() {
            Some(Ptex::new(raw))
        } else {
            None
        }
    }
}

/// A consistent copy of one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copy {
    /// An entry as the guest knows it, and whether hardware has set an R or C that the guest view lacks.
    /// `r` has them either way.
    Entry {
        /// Dword 0.
        v: GuestV,
        /// Dword 1.
        r: GuestR,
        /// Whether the guest view lacks an R or C that `r` has.
        news: bool,
    },
    /// No entry.
    Free,
    /// The entry was being changed at every try.
    Busy,
}

/// A table of one partition.
#[derive(Debug)]
pub struct Table<'m> {
    lpid: Lpid,
    format: Format,
    layout: Layout,
    order: Steady,
    arrays: Arrays<'m>,
    /// How many readers are open; changes are marked only while there are any.
    interest: AtomicU64,
    /// Not zero: some block may have marks in `changed`.
    touched: AtomicU64,
    /// How many blocks have marks in `unsettled`. Counted after the mark is set and after it is cleared, by whoever did: it
    /// may be one too many, or wrap below zero for a moment, and is zero only if there are none but those that are being
    /// set, before their entries are published.
    unsettled_blocks: AtomicU64,
    /// Log2 of the base page size of the VRMA's entries; 0 while there are none.
    vrma: AtomicU64,
}

impl<'m> Table<'m> {
    /// An empty table of this order at the beginning of a zeroed area.
    pub(super) fn new(lpid: Lpid, format: Format, order: Order, arrays: Arrays<'m>) -> Self {
        arrays.use_slots(order.slots());
        Self {
            lpid,
            format,
            layout: format.layout(),
            order: Steady::new(u64::from(order.0)),
            arrays,
            interest: AtomicU64::new(0),
            touched: AtomicU64::new(0),
            unsettled_blocks: AtomicU64::new(0),
            vrma: AtomicU64::new(0),
        }
    }

    /// The partition that the table translates for.
    #[inline]
    #[must_use]
    pub const fn lpid(&self) -> Lpid {
        self.lpid
    }

    /// The format of the real entries.
    #[inline]
    #[must_use]
    pub const fn format(&self) -> Format {
        self.format
    }

    /// The same as masks.
    #[inline]
    pub(super) const fn layout(&self) -> Layout {
        self.layout
    }

    /// The size of the table.
    #[inline]
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "set from an order, which is at most 46"
    )]
    pub fn order(&self) -> Order {
        Order(self.order.get() as u32)
    }

    /// The largest order that its area has room for. (Under loom an area is a window of one that is larger.)
    pub(crate) const fn capacity(&self) -> Order {
        if cfg!(loom) {
            Order(Order::MIN + 1)
        } else {
            Order(self.arrays.view().len().ilog2() + 4)
        }
    }

    /// Gives a table that is empty and not in use another size, at the beginning of the same area.
    pub(crate) fn set_order(&self, order: Order) {
        self.order.set(u64::from(order.raw()));
        self.arrays.use_slots(order.slots());
    }

    /// Slots in use or claimed.
    #[inline]
    #[must_use]
    pub const fn occupied(&self) -> Bitmap<'m> {
        Bitmap::new(self.arrays.occupied())
    }

    /// Slots where hardware could still set an R or C that the guest view lacks.
    #[inline]
    #[must_use]
    pub const fn unsettled(&self) -> Marks<'m> {
        Marks::new(self.arrays.unsettled())
    }

    /// Slots modified since any reader looked.
    #[inline]
    #[must_use]
    pub const fn changed(&self) -> Marks<'m> {
        Marks::new(self.arrays.changed())
    }

    /// The doublewords of the HPT, as hardware sees them.
    #[must_use]
    pub fn hpt(&self) -> &'m [BeDword] {
        let slots = index(self.order().slots());
        let entries = self.entries();
        entries.get(..slots).unwrap_or(entries).as_flattened()
    }

    /// The entries of the area, which may have room for more than the table has.
    pub(super) const fn entries(&self) -> &'m [[BeDword; 2]] {
        self.arrays.hpt()
    }

    /// The slot `ptex`; none if it is not one of this table's.
    #[inline]
    #[must_use]
    pub fn slot(&self, ptex: Ptex) -> Option<Slot<'_>> {
        self.slot_at(ptex.raw())
    }

    /// The slot of that number; none if the table has none. Its area may have room for more.
    #[inline(always)]
    #[must_use]
    pub fn slot_at(&self, raw: u64) -> Option<Slot<'_>> {
        let place = self.arrays.place(raw)?;
        Some(Slot { table: self, place })
    }

    /// Log2 of the base page size of the entries that translate guest real mode, if there are any.
    #[must_use]
    pub fn vrma_shift(&self) -> Option<u32> {
        u32::try_from(self.vrma.load(Ordering::Relaxed))
            .ok()
            .filter(|&shift| shift != 0)
    }

    /// Notes that the VRMA's entries have this base page size; none: there are no such entries.
    pub fn set_vrma_shift(&self, shift: Option<u32>) {
        self.vrma
            .store(shift.map_or(0, u64::from), Ordering::Relaxed);
    }

    /// Log2 of the base page size that guest real mode is translated with, if this entry, which is restored, is one of the
    /// VRMA's: the first one says so. 16G pages cannot be a VRMA's.
    ///
    /// With KVM any entry with the VRMA's VSID does. A guest may enter such ones, too: here only one counts that
    /// translates real mode: it stands where hardware finds it, and has the page that its address names, with
    /// memory behind it.
    #[must_use]
    pub(super) fn restored_vrma_shift(&self, ptex: Ptex, entry: &Entry) -> Option<u32> {
        let shift = entry.size.base_shift();
        let translates = is_vrma(entry.v)
            && self.vrma_shift().is_none()
            && entry.page.is_some()
            && shift <= 24
            && entry.r.page(entry.size).raw() == vrma_offset(entry.v, entry.size, ptex);
        translates.then_some(shift)
    }

    /// Has slots of a word be in `unsettled`, which are not.
    #[inline(always)]
    pub(super) fn unsettle(&self, word: u64, slots: u64) {
        let mark = (slots != 0).then(|| self.unsettled().some(word, slots));
        if mark.flatten().is_some_and(Mark::set) {
            self.count_unsettled(1);
        }
    }

    /// Has slots of a word, which are in `unsettled`, be there no more.
    #[inline(always)]
    pub(super) fn settle(&self, word: u64, slots: u64) {
        if slots == 0 {
            return;
        }
        let blocks = self.unsettled().some(word, slots).map_or(0, Mark::clear);
        if blocks != 0 {
            self.count_unsettled(blocks);
        }
    }

    /// Announces a reader: every change that begins after this returns is marked, and every one that began
    /// before is visible by now or its dword 0 is locked.
    ///
    /// The full barrier is one half of a store-buffering pair; the other is between the store that locks (or
    /// publishes) an entry and the load of `interest` before a [`Changed`](super::slot::Changed) is noted.
    pub fn announce_reader(&self) {
        self.interest.fetch_add(1, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Takes back one announcement.
    pub fn retire_reader(&self) {
        self.interest.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes the place of `old`, whose readers go over to this one: they are to be told that they are closed. This
    /// table's marks, which said what was carried over, become marks of changes, of which there are none.
    pub(super) fn succeed(&self, old: &Table<'_>) {
        for block in self.changed().blocks() {
            let _ = self.changed().take(block, |_, _| {});
        }
        self.touched.store(0, Ordering::Relaxed);
        self.vrma
            .store(old.vrma.load(Ordering::Relaxed), Ordering::Relaxed);
        let readers = old.interest.swap(0, Ordering::Relaxed);
        self.interest.store(readers, Ordering::Relaxed);
    }

    /// Whether anyone reads, so that changes are to be marked.
    #[inline(always)]
    pub(crate) fn is_read(&self) -> bool {
        self.interest.load(Ordering::Relaxed) != 0
    }

    /// Notes that the block of word `word` has marks of changes and had none. An exchange, as the taker's is one: of two
    /// exchanges one reads the other, so neither's value is lost (a plain store beside one is for C11, but loom does not know
    /// it).
    #[inline(always)]
    pub(super) fn touch(&self, word: u64) {
        self.changed().note_block(word / WORD);
        self.touched.fetch_or(1, Ordering::Release);
    }

    /// Whether there is an entry in which hardware could still set R or C. May miss one that comes at this moment.
    #[must_use]
    pub fn has_unsettled(&self) -> bool {
        self.unsettled_blocks.load(Ordering::Relaxed) != 0
    }

    /// Whether there is nothing that a pass could come by: no mark of a change that is not taken, and no entry in which
    /// hardware could still set R or C. May miss what comes at this moment.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.touched.load(Ordering::Relaxed) | self.unsettled_blocks.load(Ordering::Relaxed) == 0
    }

    /// Counts blocks that have marks in `unsettled` now and had none, or the other way round.
    #[inline(always)]
    pub(super) fn count_unsettled(&self, more: i64) {
        self.unsettled_blocks
            .fetch_add(more.cast_unsigned(), Ordering::Relaxed);
    }

    /// Whether any slot may have been marked since this was last asked: if not, no block need be looked at.
    ///
    /// The third level above the leaf words and their summary, with the same protocol: set by whoever marks
    /// the first word of a block, and taken before the summary is looked at.
    #[must_use]
    pub fn take_touched(&self) -> bool {
        if self.touched.load(Ordering::Relaxed) == 0 {
            return false;
        }
        // An exchange: it reads the newest value, so what that marker did before is seen.
        let touched = self.touched.swap(0, Ordering::AcqRel) != 0;
        fence(Ordering::SeqCst);
        touched
    }

    /// A consistent copy of a slot.
    ///
    /// Dword 0, then the rest, then dword 0 again, with barriers between. Unlocked and equal both times: what
    /// was read in between belonged together, or the entry went and a like one came meanwhile, and then a
    /// mark of that change is still to come.
    ///
    /// Always inlined, as what it is made of: readers make one for each slot.
    #[inline(always)]
    #[must_use]
    pub fn copy(&self, slot: Slot<'_>) -> Copy {
        for _ in 0..COPY_TRIES {
            let copy = self.try_copy(slot);
            if copy != Copy::Busy {
                return copy;
            }
            crate::arch::relax();
        }
        Copy::Busy
    }

    /// How the plain entries of the table are copied: those that hardware may use and nobody is changing, with no R or C
    /// that their guest view lacks, and that are bolted if only those are wanted.
    #[must_use]
    pub const fn plain(&self, bolted_only: bool) -> Plain {
        let bolted = if bolted_only { BOLTED } else { 0 };
        Plain {
            layout: self.layout,
            mask: VALID | ABSENT | HVLOCK | bolted,
            wanted: VALID | bolted,
        }
    }

    /// The slots of a word; none if the table's area has no such word.
    #[inline(always)]
    #[must_use]
    pub fn word(&self, word: u64) -> Option<WordSlots<'m>> {
        self.arrays.word(word)
    }

    /// The slots of words from number `from` to number `to`, as many of them as the table's area has.
    #[inline(always)]
    pub fn words(&self, from: u64, to: u64) -> impl Iterator<Item = WordSlots<'m>> {
        self.arrays.words(from, to)
    }

    /// Those slots of a word, of the ones in `slots`, where hardware has set an R or C that the guest view lacks, as
    /// far as can be seen without the lock.
    #[inline(always)]
    #[must_use]
    pub fn news(&self, word: u64, slots: u64) -> u64 {
        let Some(entries) = self.word(word) else {
            return 0;
        };
        let dwords = |bit| {
            let ([_, dword1], view) = entries.slot(bit);
            (
                RealR::read(dword1.load(Ordering::Relaxed)),
                View::read(view.load(Ordering::Relaxed)),
            )
        };
        // There is seldom any: which slot has it is only asked if there is.
        let all = ones(slots).fold(0, |all, bit| {
            let (real, view) = dwords(bit);
            all | real.beyond(view)
        });
        if all & RC == 0 {
            return 0;
        }
        ones(slots)
            .filter(|&bit| {
                let (real, view) = dwords(bit);
                real.beyond(view) & RC != 0
            })
            .fold(0, |news, bit| news | 1 << bit)
    }

    /// The same with one look.
    #[inline(always)]
    #[must_use]
    pub fn try_copy(&self, slot: Slot<'_>) -> Copy {
        self.look([slot.dword0(), slot.dword1()], slot.place.view())
    }

    #[inline(always)]
    fn look(&self, [dword0, dword1]: [&BeDword; 2], view: &AtomicU64) -> Copy {
        let before = RealV::read(dword0.load(Ordering::Relaxed));
        if before.is_locked() {
            return Copy::Busy;
        }
        if !before.is_entry() {
            return Copy::Free;
        }
        fence(Ordering::Acquire);
        let real = RealR::read(dword1.load(Ordering::Relaxed));
        let view = GuestR::entered(view.load(Ordering::Relaxed));
        fence(Ordering::Acquire);
        if dword0.load(Ordering::Relaxed) != before.raw() {
            return Copy::Busy;
        }
        let rc = real.rc();
        Copy::Entry {
            v: self.layout.guest_v(before, real),
            r: view.with(rc),
            news: rc.is_news_to(view),
        }
    }

    /// Whether hardware has set an R or C in a slot that its guest view lacks, as far as can be seen without the
    /// lock.
    #[inline]
    #[must_use]
    pub fn has_news(&self, slot: Slot<'_>) -> bool {
        let real = RealR::read(slot.dword1().load(Ordering::Relaxed));
        let view = slot.view().guest();
        real.rc().is_news_to(view)
    }

    /// Merges the R and C that hardware has set in a slot into its guest view; whether there were any. The
    /// caller tells the readers. None: the slot was locked, its holder will do it or a later pass will.
    #[must_use]
    pub fn harvest(&self, slot: Slot<'_>) -> Option<bool> {
        if !self.has_news(slot) {
            return Some(false);
        }
        slot.try_lock()?
            .map_or(Some(false), |locked| Some(locked.harvest()))
    }
}

/// How plain entries are copied ([`Table::plain`]). What is the same for all of a table's entries is here as values:
/// nothing is looked up again for each of them.
#[derive(Clone, Copy, Debug)]
pub struct Plain {
    layout: Layout,
    mask: u64,
    wanted: u64,
}

impl Plain {
    /// The entries of a run of slots; none for each that is no plain one. Consistent as [`Table::copy`]'s, with one look
    /// each.
    #[inline(always)]
    pub fn run(
        self,
        slots: WordSlots<'_>,
        run: Run,
    ) -> impl Iterator<Item = Option<(GuestV, GuestR)>> {
        slots.run(run).map(move |([dword0, dword1], view)| {
            let before = RealV::read(dword0.load(Ordering::Relaxed));
            if before.raw() & self.mask != self.wanted {
                return None;
            }
            fence(Ordering::Acquire);
            let real = RealR::read(dword1.load(Ordering::Relaxed));
            let view = self
                .layout
                .guest_r(View::read(view.load(Ordering::Relaxed)));
            fence(Ordering::Acquire);
            if dword0.load(Ordering::Relaxed) != before.raw() || real.rc().is_news_to(view) {
                return None;
            }
            Some((self.layout.valid_v(before, real), view))
        })
    }
}
