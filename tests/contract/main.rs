//! The stream's contract, DESIGN section 6: what holds each row of its table and each of its sentences, on the host and
//! on target. That the tests are there is checked ([`table`]). Most stand with what they are about; those of what may not
//! depend on a table's size are here ([`sizes`]).
//!
//! A case of the suite is `module::case`; those of `stress` are decided by its run, on four CPUs and on two; `roundtrip`
//! and `boot_log_says_what_tables_cost` are tests of `tests/on_target.rs`. Where there is none it is said why.
//!
//! | contract | on the host | on target |
//! |---|---|---|
//! | end of pass and clean are said; more to come is no end | `tests/model/readers.rs::a_pass_that_found_nothing_is_not_clean_while_something_is_due`, `tests/contract/sizes.rs::a_pass_is_not_clean_before_all_changes_are_looked_for`, `tests/model/main.rs::calls_and_readers_do_as_the_model` | `reading::every_buffer_size`, `sizes::a_pass_that_says_nothing_goes_on` |
//! | the number of the pass | `tests/model/main.rs::calls_and_readers_do_as_the_model` | `reading::every_change_once`, `stress::readers` |
//! | a buffer under 24 bytes is H_PARAMETER | `tests/hostile/buffers.rs::every_buffer_size_from_0_to_200` | `reading::every_buffer_size`, `reading::bad_buffers` |
//! | each reader sees every change once | `tests/model/laps.rs::four_readers_have_the_table_after_every_lap`, `tests/traps/stream.rs::a_reader_that_looks_takes_nothing_from_another`, `tests/model/readers.rs::what_a_first_pass_merges_the_others_are_told` | `reading::readers_do_not_share`, `reading::every_change_once`, `stress::readers` |
//! | a first pass of its own, wherever it begins | `tests/model/laps.rs::four_readers_have_the_table_after_every_lap`, `tests/traps/stream.rs::what_was_there_before_a_reader_opened_comes_once` | `reading::start_index`, `reading::readers_do_not_share`, `stress::readers` |
//! | filters of its own | `tests/model/laps.rs::four_readers_have_the_table_after_every_lap`, `tests/traps/stream.rs::a_reader_that_looks_takes_nothing_from_another` | `reading::bolted_only`, `stress::readers` |
//! | what is pending is maintained and said | `tests/model/main.rs::calls_and_readers_do_as_the_model`, `tests/model/readers.rs::what_a_write_changes_is_pending_when_it_returns` | `reading::every_change_once`, `reading::what_a_write_changes_is_pending` |
//! | pending is exact of a paused partition | `tests/model/laps.rs::four_readers_have_the_table_after_every_lap`, `tests/model/readers.rs::what_hardware_set_is_pending_when_a_pause_returns`, `tests/hostile/proxy.rs::the_pending_count_stays_exact` | `rc::a_pause_knows_what_is_pending`, `rc::a_paused_partition_has_given_them`, `stress::readers` |
//! | a start index out of range is H_PARAMETER | `tests/hostile/handles.rs::what_opening_refuses_opens_nothing` | `reading::bad_arguments_of_open` |
//! | nothing is taken before it is delivered | `tests/hostile/buffers.rs::buffers_outside_memory_are_refused_and_nothing_is_lost`, `tests/orderings/locks.rs::a_held_lock_does_not_hold_a_reader`, `tests/model/laps.rs::four_readers_have_the_table_after_every_lap` | `reading::bad_buffers`, `reading::every_buffer_size` |
//! | any number of records in a write | `tests/model/writes.rs::what_is_consumed_is_applied_and_nothing_else` | `writing::every_buffer_size` |
//! | a record may be longer than the buffer | `tests/hostile/buffers.rs::writes_of_every_size_take_whole_headers_and_entries` | `writing::inside_a_record`, `sizes::a_record_counts_no_more_than_65535_of_each` |
//! | sums in 64 bits | `tests/contract/sizes.rs::a_table_beyond_order_36_is_too_big`, `tests/traps/stream.rs::a_record_that_would_wrap_is_refused`, `tests/hostile/buffers.rs::buffers_outside_memory_are_refused_and_nothing_is_lost` | `writing::bad_records`, `writing::bad_buffers` |
//! | pieces of at most 256 entries, each applied whole or not at all | `tests/model/writes.rs::what_is_consumed_is_applied_and_nothing_else` | `writing::a_bad_piece_is_not_applied` |
//! | each entry is read once | `tests/hostile/buffers.rs::what_is_written_is_read_once` | `attack::a_buffer_that_changes_while_it_is_written` |
//! | bytes consumed and the index of the first bad entry come back | `tests/model/writes.rs::what_is_consumed_is_applied_and_nothing_else`, `tests/traps/stream.rs::a_page_size_that_is_none_is_not_restored` | `writing::bad_records` |
//! | a table generation: the old reader gets H_CLOSED | `tests/hostile/handles.rs::handles_of_a_table_that_was_reset_are_closed`, `tests/resize/commit.rs::readers_of_the_old_table_are_closed_and_new_ones_see_each_change_once`, `tests/resize/commit.rs::a_writer_of_the_old_table_is_closed` | `reading::handles_end`, `resize::a_reader_of_the_old_table_is_closed` |
//! | late R and C are in the last pass | `tests/orderings/sequences.rs::a_pause_flushes_before_it_takes_r_and_c_for_good`, `tests/model/laps.rs::four_readers_have_the_table_after_every_lap` | `rc::a_paused_partition_has_given_them`, `stress::table` |
//! | passes of a paused partition are exact | `tests/model/laps.rs::four_readers_have_the_table_after_every_lap` | `crowd::a_pause_takes_every_vcpu_out`, `stress::readers` |
//! | no real address is shown, and no bit of the hypervisor's | `tests/traps/calls.rs::no_host_address_is_left_to_be_read`, `tests/traps/stream.rs::no_bit_of_the_hypervisors_is_shown`, `tests/orderings/locks.rs::a_held_lock_does_not_hold_a_reader` | `enter::bits_that_are_not_the_guests`, `read::a_free_slot_reads_as_zero`, `stress::table` |
//! | headers and entries are big-endian | `tests/traps/stream.rs::headers_and_entries_are_big_endian_bytes` | `reading::every_buffer_size` |
//! | runs of at most 65535 | `tests/contract/sizes.rs::a_record_counts_no_more_than_65535_of_each` | `sizes::a_record_counts_no_more_than_65535_of_each` |
//! | the format before ISA 3.0, with guest addresses | `tests/oracle/tables.rs::tables_written_and_rewritten_come_back_as_from_linux`, `tests/model/writes.rs::a_table_read_and_restored_is_the_same` | `roundtrip`, `tlb::the_real_entry_is_what_it_should_be` |
//! | a table above order 36 is H_TOO_BIG | `tests/contract/sizes.rs::a_table_beyond_order_36_is_too_big` | none: no test machine has the memory |
//! | every call is bounded in work and resumable | `tests/contract/sizes.rs::the_work_of_a_call_is_bounded_at_any_order`, `tests/contract/sizes.rs::the_work_of_a_call_is_bounded_whatever_is_in_the_table`, `tests/model/writes.rs::a_long_invalid_run_is_not_consumed_before_it_is_done` | `sizes::the_work_of_a_call_is_bounded`, `sizes::a_pass_that_says_nothing_goes_on` |
//! | handles are good for who opened them alone | `tests/hostile/handles.rs::wild_and_foreign_handles_are_refused` | `hostile::someone_elses_handles` |
//! | they end when it stops or is reset | `tests/hostile/handles.rs::streams_end_with_who_opened_them`, `tests/hostile/handles.rs::streams_of_a_partition_that_ends_are_closed` | `reading::streams_end_with_who_opened_them`, `crowd::an_end_closes_what_is_open` |
//! | one writer for a table | `tests/hostile/handles.rs::reader_slots_run_out_and_the_last_is_a_control_partitions` | `writing::one_writer` |
//! | a reader beyond the slots is H_RESOURCE | `tests/hostile/handles.rs::reader_slots_run_out_and_the_last_is_a_control_partitions`, `tests/model/main.rs::calls_and_readers_do_as_the_model` | `reading::readers_run_out` |
//! | a second call on a handle in use is H_BUSY | `tests/hostile/handles.rs::a_handle_in_use_is_busy` | `smp::a_handle_in_use_is_busy` |
//! | the last slot is not for a partition that reads itself | `tests/hostile/handles.rs::reader_slots_run_out_and_the_last_is_a_control_partitions`, `tests/resize/commit.rs::a_resize_does_not_take_the_last_reader_slot` | `hostile::ones_own_table`, `reading::streams_end_with_who_opened_them` |
//! | what a table costs is in H_HPT_STAT and in the boot log | `tests/contract/sizes.rs::what_stands_beside_a_table_is_said` | `writing::statistics`, `boot_log_says_what_tables_cost` |
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test fails by panicking"
)]

#[path = "../common/mod.rs"]
mod common;
mod huge;
mod sizes;
mod table;
