//! Interleavings of processors in the engine's own code, explored by loom.
//!
//! The engine is compiled with its `sync` module standing on loom's atomics, so what is explored is the code
//! that runs on target, orderings included: loom shows executions that only a weakly ordered machine has,
//! which neither a stress test on x86 nor QEMU's TCG does. Each case (`tests/cases`) is a few hypercalls on two
//! processors; loom runs the interleavings up to a bound on preemptions, three where a case is short, two or one
//! where it is long: each says which. All of them take less than a minute.
//!
//! A package of its own, so that the build with `--cfg loom` has few dependencies. The test
//! `packages` of the root package runs it.
//!
//! # Which test fails when an ordering is broken
//! Each line was broken in the code once, as it says, and the test failed. `o::` is `tests/orderings`, `h::` is
//! `tests/hostile`, `m` is `tests/model`'s `calls_and_readers_do_as_the_model`, the others are modules here. Numbers are those of DESIGN section 5.
//!
//! | ordering | broken | fails |
//! |---|---|---|
//! | 1 claim | a bit that is set is claimed | `slots::two_enter_into_the_last_slot_of_a_group` |
//! | 1 HVLOCK | taken on a dword 0 without an entry | `slots::remove_of_a_slot_that_is_being_entered` |
//! | 1 publish | dword 0 before the rest; no release | `readers::stream_against_remove_and_enter` |
//! | 1 publish | `unsettled` after dword 0 | `o::moments::an_entry_shows_itself_last` |
//! | 1 publish | `unsettled` not marked | `hardware::a_pass_after_a_pause_is_exact` |
//! | 1 publish | no `ptesync` at the end | `readers::reader_opens_against_enter` |
//! | 2 invalidate | VALID stays, no `tlbie`, or R and C are read before it | `hardware::r_and_c_set_between_invalidate_and_flush_are_given_back` |
//! | 2 invalidate | no `ptesync` before `tlbie`, no `tlbsync` | `o::moments::an_entry_is_invalid_and_locked_until_it_is_flushed` |
//! | 2 free | dword 1 stays | `o::sequences::a_removal_is_flushed_before_its_r_and_c_are_read` |
//! | 2 free | `occupied` released first or relaxed, claimed without acquire | `slots::enter_into_a_slot_that_is_being_removed` |
//! | 3 mark | before the change; set only where it is clear; summary before leaf; taker's leaf before its summary | `readers::a_change_while_marks_are_taken` |
//! | 3 open | no full sync at the open | `readers::reader_opens_against_enter` and the others |
//! | 3 open | no full sync in an absent entry's removal or change | `readers::reader_opens_against_remove_of_an_absent_entry`, `.._protect_of_an_absent_entry` |
//! | 3 open | a reader does not wait for a lock | `readers::reader_opens_against_remove_of_an_absent_entry` |
//! | 1, 3 restore | no release before the dwords 0 of a run; no `ptesync` after them | `readers::a_run_is_restored_beside_a_reader`, `readers::reader_opens_against_a_restore` |
//! | 3 restore | no full sync when an absent entry goes | `readers::reader_opens_against_a_restore_over_an_absent_entry` |
//! | 3 share out | one reader is not told; a word is taken without the readers' lock | `readers::two_readers_both_see_a_change` |
//! | 3 put back | what did not fit is dropped; two calls on one handle | `readers::a_full_buffer_in_the_middle_of_a_word`, `readers::a_handle_is_used_by_one_call_at_a_time` |
//! | 3 first pass | changes behind the cursor are dropped | `readers::a_first_pass_in_pieces_beside_changes` |
//! | 3 first pass | `kept` is not moved before entries are read | `readers::first_pass_beside_another_reader` |
//! | 3 idle | a pass looks at nothing although a block is touched | `o::block::eight_pages_are_removed_with_one_sequence` and others |
//! | 3 idle | a block that becomes unsettled, or stops being so, is not counted; the guest view does not say that its slot is | `m` |
//! | 4 copy | no second look; either barrier left out | `slots::read_against_remove_and_enter` |
//! | 4 copy | tried for ever | `o::locks` does not end |
//! | 5 several locks | waits while it holds others | `slots::bulk_removals_with_crossed_slots` |
//! | 6 R, C | a permission is changed in place; R and C from before the flush | `hardware::r_and_c_set_beside_a_change_stay` |
//! | 6 R, C | R cleared by a store of the doubleword | `hardware::c_set_while_r_is_cleared_is_not_lost` |
//! | 6 R, C | `unsettled` not marked when R or C goes | `hardware::a_bit_that_was_cleared_and_comes_back_is_seen` |
//! | 6 R, C | `unsettled` after VALID | `o::moments::unsettled_comes_before_r_or_c_goes` |
//! | 6 R, C | `unsettled` cleared without the lock | `hardware::unsettled_is_not_lost_when_a_slot_is_used_again` |
//! | 8 retry | an entry that is VALID by now is reflected, or one without VALID is called absent | `slots::a_fault_beside_a_change_is_tried_again` |
//! | 9 tlbiel | in a call by proxy | `h::proxy::it_flushes_the_target_on_every_thread` |
//! | 10 exclusion | resume beside a write, a write beside a run | `control::a_write_against_resume`, `control::a_write_against_start` |
//! | 10 hold | does not wait; a vCPU is given out meanwhile | `control::hold_against_dispatch` |
//! | 11 pause | does not wait; who is inside is not sent out | `control::pause_against_dispatch` |
//! | 11 pause | no flush | `hardware::a_pass_after_a_pause_is_exact` |
//! | 11 pause | R and C merged before the flush | `o::sequences::a_pause_flushes_before_it_takes_r_and_c_for_good` |
//! | `control`: forget | paid before it is done; not asked for | `control::forget_against_dispatch_and_pay` |
//! | `vcpus`: prod | not kept for who is still inside | `control::prod_against_cede` |
//! | `xics`: cede | the vCPU is not prodded when its bit rises | `interrupts::ipi_against_cede` |
//! | `resize`: commit | no flush, or R and C are not looked at after it; the same generation | `resize::commit_against_a_store` |
//! | `resize`: commit | does not wait for other vCPUs | `resize::commit_against_another_vcpu` |
//!
//! # What no test here can tell, and why
//! * The store barrier after HVLOCK (4), the release before a mark and the acquire after marks are taken (3): a full
//!   barrier, or the lock, or another look stands on every way as the code is now, so without them nothing is torn.
//!   They stay, for the next way.
//! * The fence between the taker's summary and leaf: whoever marks goes by the leaf's old value, which is enough.
//! * Dword 1 alone from before the flush: the guest view has the R and C that it lacks.
//! * The wait of a commit for readers in use: it was left out, and no case here failed. A reader that is overtaken
//!   goes on in the old area, which is as it was until the next resize empties it.
//! * That marks are shared out before the verdict "clean": it was left out, and no case here failed, for a reader
//!   shares out what it comes by. What it has passed is for the model tests.
//! * SMT priority (7) costs time and nothing else.
//! * 12, a guest's error is not the hypervisor's, is about interrupts: the suite's on target.
#![no_std]
