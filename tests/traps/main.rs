//! What others fell into who did the same before: the traps T1 to T41 that were found in the sources and the
//! histories of Linux KVM, QEMU and Xen, and the test that fails on an engine with that bug. Most of the tests stand
//! with what they are about; those that had no place are here. Where there is no test it is said why the trap cannot
//! occur. That each trap has its row, and each test that is named exists, is checked ([`table`]).
//!
//! | trap | what went wrong | test, or why it cannot occur |
//! |---|---|---|
//! | T1 | no bytes read was taken for a table without changes, when only the rest of the lap had none | `tests/model/readers.rs::a_pass_that_found_nothing_is_not_clean_while_something_is_due` |
//! | T2 | one reader took the marks that another needed | `tests/traps/stream.rs::a_reader_that_looks_takes_nothing_from_another`, `tests/model/readers.rs::what_a_first_pass_merges_the_others_are_told`, `tests/interleavings/tests/cases/readers.rs::two_readers_both_see_a_change` |
//! | T3 | a buffer that was too small read as no changes, and its last 24 bytes were never used | `tests/hostile/buffers.rs::every_buffer_size_from_0_to_200` |
//! | T4 | a start index beyond the table ended the first pass in silence | `tests/hostile/handles.rs::what_opening_refuses_opens_nothing` |
//! | T5 | a record's index was that of the clean entries before it | `tests/traps/stream.rs::a_change_is_told_with_its_own_index` |
//! | T6 | R and C that hardware set were no changes | `tests/traps/stream.rs::r_and_c_that_hardware_sets_are_changes` |
//! | T7 | headers in the byte order of the host | `tests/traps/stream.rs::headers_and_entries_are_big_endian_bytes` |
//! | T8 | the lock bit, and others of the hypervisor's, were shown | `tests/traps/stream.rs::no_bit_of_the_hypervisors_is_shown`, `tests/orderings/locks.rs::a_held_lock_does_not_hold_a_reader` |
//! | T9 | a write was read eight bytes beyond its end | `tests/hostile/buffers.rs::writes_of_every_size_take_whole_headers_and_entries`, `tests/hostile/buffers.rs::buffers_outside_memory_are_refused_and_nothing_is_lost` |
//! | T10 | an error hid how much of a write was applied, and left half a record | `tests/model/writes.rs::what_is_consumed_is_applied_and_nothing_else` |
//! | T11 | page sizes were not checked on a restore, and the processor not set up for what was restored | `tests/traps/stream.rs::a_page_size_that_is_none_is_not_restored`; the set-up is made from the table as it is, whenever a vCPU comes to a CPU |
//! | T12 | the first entry with the VRMA's VSID said how real mode is translated | `tests/traps/partitions.rs::the_vrma_is_what_translates_real_mode` |
//! | T13 | a reader went on over a table that was reset or replaced | `tests/hostile/handles.rs::handles_of_a_table_that_was_reset_are_closed`, `tests/resize/commit.rs::readers_of_the_old_table_are_closed_and_new_ones_see_each_change_once`, `tests/resize/commit.rs::a_writer_of_the_old_table_is_closed` |
//! | T14 | a free slot still showed a host real address, and H_CLEAR_REF an internal bit | `tests/traps/calls.rs::no_host_address_is_left_to_be_read` |
//! | T15 | what an open had taken was lost when it failed | `tests/traps/stream.rs::an_open_that_fails_leaves_nothing_taken`, `tests/hostile/handles.rs::what_opening_refuses_opens_nothing` |
//! | T16 | memory without bound for a chunk, half a chunk taken for one, sums in 32 bits | `tests/traps/stream.rs::a_record_that_would_wrap_is_refused`, `tests/hostile/buffers.rs::writes_of_every_size_take_whole_headers_and_entries`; nothing is allocated |
//! | T17 | the last pass missed R and C that a processor still held | `tests/orderings/sequences.rs::a_pause_flushes_before_it_takes_r_and_c_for_good` |
//! | T18 | changes were noted with nobody reading, or noted from too late on | `tests/traps/stream.rs::what_was_there_before_a_reader_opened_comes_once`, `tests/interleavings/tests/cases/readers.rs::reader_opens_against_enter`, `tests/interleavings/tests/cases/readers.rs::reader_opens_against_remove_of_an_absent_entry` |
//! | T19 | H_REMOVE read R and C before the `tlbie` | `tests/orderings/sequences.rs::a_removal_is_flushed_before_its_r_and_c_are_read` |
//! | T20 | H_PROTECT wrote over R and C that came meanwhile | `tests/orderings/sequences.rs::a_protection_is_changed_in_an_invalid_entry_and_loses_no_r_or_c` |
//! | T21 | C was looked at without a flush | `tests/orderings/clear.rs::c_goes_from_an_invalid_entry_after_the_flush`, `tests/orderings/sequences.rs::a_pause_flushes_before_it_takes_r_and_c_for_good` |
//! | T22 | of a large page that was written only the first small one was noted | cannot occur: R and C are told with their entry, which says its page size; there is no log of pages |
//! | T23 | the bits of a large page ran past the end of the log of dirty pages | cannot occur: there is no log of dirty pages |
//! | T24 | pages that the hypervisor itself wrote were noted nowhere | cannot occur: nobody follows what is written to memory, and C is what hardware says of an entry (`tests/traps/partitions.rs::stores_of_the_hypervisors_change_no_entry`); who will copy memory while its partition runs must note H_PAGE_INIT and the zeroing H_ENTER there (`hcall::page_init`) |
//! | T25 | R was cleared by a store of the whole doubleword beside hardware's | `tests/orderings/clear.rs::r_goes_by_a_store_of_its_byte_and_a_tlbie`, `tests/interleavings/tests/cases/hardware.rs::c_set_while_r_is_cleared_is_not_lost` |
//! | T26 | an entry was unlocked before its invalidation was over | `tests/orderings/moments.rs::an_entry_is_invalid_and_locked_until_it_is_flushed` |
//! | T27 | a bulk remove waited for a lock while it held others | `tests/orderings/sequences.rs::a_bulk_removal_flushes_what_it_holds_before_it_waits` |
//! | T28 | who held an entry's lock was preempted, and others spun | cannot occur: hypercalls run in hypervisor real mode with interrupts off from vector to return; who finds a lock in guest state faults and tries again (`src/lpar/fault.rs::an_entry_that_is_there_or_being_changed_is_tried_again`) |
//! | T29 | locks taken in two orders; a store-conditional that failed for nothing was a full group | `tests/interleavings/tests/cases/slots.rs::two_enter_into_a_group_with_room`; there is one kind of lock on an entry, and none beside it while it is held |
//! | T30 | H_PROTECT made a page writable that the host had read-only | cannot occur: a partition's memory is its own and writable, all of it, for ever |
//! | T31 | a table was reset and what stood beside it was not | `tests/traps/partitions.rs::nothing_of_a_table_outlives_it`, `tests/traps/partitions.rs::a_table_is_not_what_was_in_its_area_before`, `tests/resize/commit.rs::a_carried_entry_goes_on_as_any_other` |
//! | T32 | a table was reset or replaced without a flush of the LPID | `tests/orderings/sequences.rs::a_reset_flushes_each_entry_and_then_the_partition`, `tests/resize/commit.rs::r_and_c_that_come_last_are_in_the_new_table` |
//! | T33 | a local flush was made for a guest with several processors, or for a processor that was not the one | `tests/traps/partitions.rs::only_a_single_vcpu_flushes_for_itself`, `src/lpar/control.rs::every_cpu_that_ran_it_forgets`, `src/lpar/control.rs::who_holds_a_partition_has_it_alone` |
//! | T34 | wrong operands of `tlbie` | `src/table/tlb.rs::operands_equal_the_golden_vectors`, `tests/traps/calls.rs::a_reserved_segment_size_is_refused` |
//! | T35 | an HPTE's index was cut to 32 bits | `tests/traps/calls.rs::an_index_is_not_cut_to_32_bits` |
//! | T36 | an H_ENTER of the hypervisor's own put its index into the guest's r4 | `tests/traps/partitions.rs::what_is_done_inside_touches_no_register` |
//! | T37 | a lock of the whole partition was taken by a vCPU in a call, against its order | cannot occur: no lock is wider than one slot on the calls that vCPUs make all the time; the control's lock is taken last but for slots, and the VRMA is made under it before any vCPU runs |
//! | T38 | prepares over and over used memory that was freed; a resize excluded nobody; a failed one left the wrong format | `tests/resize/answers.rs::a_pending_resize_is_discarded_by_any_other_prepare`, `tests/resize/answers.rs::two_bolted_entries_cannot_have_one_slot`, `tests/resize/answers.rs::a_held_partition_is_not_committed` |
//! | T39 | after a resize, or a reset behind one, not everybody knew the size | `tests/resize/answers.rs::everybody_is_told_the_order_and_a_reset_begins_with_the_first_one` |
//! | T40 | xenppc: an index one too large, four entries for one, acts on what is no entry | `tests/traps/calls.rs::the_first_slot_beyond_the_table_is_none`, `tests/traps/calls.rs::four_entries_are_read_where_four_are_asked_for`, `tests/traps/calls.rs::what_is_no_entry_is_not_acted_on` |
//! | T41 | QEMU: R and C of H_BULK_REMOVE in the wrong bits; KVM-PR: H_ENTER over an entry, and unchecked | `tests/orderings/sequences.rs::a_bulk_removal_is_one_sequence`, `tests/traps/calls.rs::an_entry_is_not_entered_over_another` |
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

mod calls;
#[path = "../common/mod.rs"]
mod common;
mod partitions;
mod stream;
mod table;

use common::world::{AGENT, CLIENT, World};
use realhpt::hcall::abi;
use realhpt::table::Format;

const FORMATS: [Format; 2] = [Format::V2_07, Format::V3_0];

/// Slots of a table of order 18.
const SLOTS: u64 = 1 << 14;

const EXACT: u64 = 1 << 39;

const ABSENT: u64 = 0x20;

const BOLTED: u64 = 0x10;

const R: u64 = 0x100;

const C: u64 = 0x80;

/// A guest address without memory.
const NOWHERE: u64 = 0x70_0000_0000;

/// A 4K entry in a 1T segment, in which R and C are still to come.
const ENTRY: (u64, u64) = (0x4000_0005_6789_0081, 0x1012);

/// Enters into this slot of the client's.
fn enter(world: &World<'_>, slot: u64, (v, r): (u64, u64)) {
    let arguments = [EXACT, slot, v, r];
    assert_eq!(world.call(CLIENT, abi::H_ENTER, &arguments).ok()[0], slot);
}

/// What H_HPT_STAT says of the client's table.
fn stat(world: &World<'_>) -> [u64; 9] {
    world
        .call(AGENT, abi::H_HPT_STAT, &[u64::from(CLIENT)])
        .ok()
}
