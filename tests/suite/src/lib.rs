//! The on-target suite: what its parts have to agree on.
//!
//! The suite runs on a machine of its own. The image (`suite-image`) is the bootable image with three
//! hypercalls more ([`raw`]), which reach into a partition's real HPT as no hypervisor should. The guest
//! (`suite-guest`) runs in several partitions: with the privilege to report it runs the cases ([`CASES`]) one
//! after the other; without it, it is a client that does the [`job`] it is started for, at most others'
//! mischief, and ends with the result as its exit code. `tests/on_target.rs` boots the suite on every
//! machine and shows each case by name.
//!
//! The names stand here once: the host makes its list of them, and the guest its table of functions.
//!
//! The same two programs make another run, the [`stress`].
#![no_std]

/// Calls a macro with the path of every case, `module::case`, in the order they run in.
#[macro_export]
macro_rules! cases {
    ($with:ident) => {
        $with! {
            enter::every_page_size_translates,
            enter::one_terabyte_segments_translate,
            enter::the_secondary_group_translates,
            enter::a_group_fills_up,
            enter::an_exact_slot,
            enter::slots_outside_the_table,
            enter::reserved_segment_sizes,
            enter::every_page_size_encoding,
            enter::a_page_that_leaves_its_region,
            enter::a_page_without_memory_is_kept,
            enter::bits_that_are_not_the_guests,
            enter::attributes_are_shown_as_given,
            enter::hints_change_nothing,
            enter::zeroes_the_page,
            enter::makes_code_visible,
            read::a_free_slot_reads_as_zero,
            read::four_entries_at_once,
            read::slots_outside_the_table,
            remove::gives_the_entry_back,
            remove::by_avpn,
            remove::by_andcond,
            remove::what_is_not_there,
            remove::slots_outside_the_table,
            remove::an_entry_without_memory,
            protect::every_bit,
            protect::takes_effect,
            protect::by_avpn,
            protect::what_is_not_there,
            protect::slots_outside_the_table,
            protect::an_entry_without_memory,
            bulk::four_at_once,
            bulk::r_and_c_come_back,
            bulk::what_is_not_there_does_not_end_it,
            bulk::the_end_ends_it,
            bulk::bad_specifiers_end_it,
            block::eight_pages_at_once,
            block::each_refusal_has_its_code,
            block::by_avpn,
            block::the_end_ends_it,
            block::bad_types_are_refused,
            block::entries_without_memory,
            clear::r_goes_and_comes_back,
            clear::c_goes_and_comes_back,
            clear::c_of_a_page_that_was_writable,
            clear::an_entry_without_memory,
            clear::what_is_not_there,
            clear::a_reader_is_told,
            page_init::zeroes_and_copies,
            page_init::sets_no_c,
            page_init::copies_code,
            page_init::bad_arguments,
            calls::unknown_tokens,
            calls::terminal,
            calls::problem_state_may_not,
            calls::sprg0_is_set,
            calls::an_interrupt_for_oneself,
            calls::thirty_two_bit_mode,
            calls::rtas_in_32_bit_mode,
            calls::little_endian_mode,
            calls::registers_survive,
            calls::vectors_and_floats_survive,
            calls::no_trace_of_the_hypervisor,
            rc::a_load_sets_r,
            rc::a_store_sets_r_and_c,
            rc::a_store_after_a_load_sets_c,
            rc::a_fetch_sets_r,
            rc::protect_keeps_them,
            rc::a_new_entry_starts_without,
            rc::a_later_pass_harvests_them,
            rc::a_paused_partition_has_given_them,
            rc::a_pause_knows_what_is_pending,
            tlb::an_entry_removed_without_the_sequence_stays,
            tlb::a_permission_taken_without_the_sequence_stays,
            tlb::r_and_c_taken_without_the_sequence_stay_away,
            tlb::the_real_entry_is_what_it_should_be,
            tlb::a_machine_check_is_the_guests_own,
            faults::no_entry,
            faults::no_segment,
            faults::read_only,
            faults::no_access,
            faults::no_execute,
            faults::storage_key,
            faults::no_memory,
            faults::problem_state,
            faults::outside_real_mode,
            faults::unaligned,
            faults::a_removed_entry,
            faults::a_storm,
            instructions::privileged,
            instructions::illegal,
            instructions::hypervisor_registers,
            instructions::hypervisor_instructions,
            instructions::hypervisor_state_is_out_of_reach,
            instructions::facilities,
            instructions::traps_and_system_calls,
            instructions::every_level_of_a_system_call,
            interrupts::decrementer,
            interrupts::cede_lets_the_decrementer_in,
            interrupts::cede_comes_back,
            reading::every_buffer_size,
            reading::bad_buffers,
            reading::bad_arguments_of_open,
            reading::every_change_once,
            reading::what_a_write_changes_is_pending,
            reading::readers_do_not_share,
            reading::bolted_only,
            reading::start_index,
            reading::readers_run_out,
            reading::handles_end,
            reading::streams_end_with_who_opened_them,
            reading::ones_own_table,
            writing::every_buffer_size,
            writing::bad_buffers,
            writing::one_writer,
            writing::bad_records,
            writing::a_bad_piece_is_not_applied,
            writing::inside_a_record,
            writing::overwrites_and_invalidates,
            writing::statistics,
            sizes::a_record_counts_no_more_than_65535_of_each,
            sizes::the_work_of_a_call_is_bounded,
            sizes::a_pass_that_says_nothing_goes_on,
            partitions::query,
            partitions::states,
            partitions::exit_codes,
            partitions::a_crash_is_an_end,
            partitions::a_runaway_is_paused,
            partitions::a_restored_vrma,
            smp::a_vcpu_starts_and_stops,
            smp::a_vcpu_that_runs_is_not_started,
            smp::two_vcpus_run_at_once,
            smp::a_prod_ends_a_cede,
            smp::a_handle_in_use_is_busy,
            proxy::every_call_on_a_table,
            proxy::takes_effect,
            proxy::not_while_it_runs,
            proxy::no_other_calls,
            proxy::bad_partitions_and_buffers,
            resize::a_guest_resizes_its_own_table,
            resize::a_reader_of_the_old_table_is_closed,
            resize::a_cleared_table_has_real_mode_left,
            crowd::a_pause_takes_every_vcpu_out,
            crowd::what_runs_is_busy,
            crowd::an_end_ends_every_vcpu,
            crowd::an_end_closes_what_is_open,
            crowd::a_reset_takes_every_vcpu_offline,
            crowd::vcpus_start_each_other,
            crowd::registers_move_along,
            crowd::no_stale_translation_where_a_vcpu_comes_to,
            switches::registers_are_kept_apart,
            switches::segments_are_kept_apart,
            switches::settings_are_kept_apart,
            hostile::a_client_that_faults_at_every_access,
            hostile::others_are_out_of_reach,
            hostile::wild_handles,
            hostile::someone_elses_handles,
            hostile::wild_buffers,
            hostile::wild_slots,
            hostile::ones_own_table,
            hostile::every_token,
            hostile::real_mode_pulled_away,
            hostile::a_faulting_fault_handler,
            hostile::random_instructions,
            attack::every_page_size_everywhere,
            attack::everything_is_ones_own,
            attack::what_an_interrupt_shows,
            attack::a_frame_that_changes,
            attack::a_buffer_that_changes_while_it_is_written,
            attack::a_buffer_that_changes_while_it_is_read,
            attack::a_storm_of_calls,
            attack::a_storm_in_real_mode,
            attack::a_first_vcpu_that_is_started_again,
            attack::a_terminal_that_never_stops,
            attack::a_storm_of_instructions,
        }
    };
}

macro_rules! names {
    ($($module:ident::$case:ident,)*) => {
        /// The names of the cases, in the order they run in.
        pub const CASES: &[&str] = &[$(concat!(stringify!($module), "::", stringify!($case))),*];
    };
}
cases!(names);

/// The hypercalls that only the suite's image has. They act on the table of the caller, and do to it what is
/// asked for and nothing else: no sequence, no bookkeeping.
pub mod raw {
    /// r4 = slot: r4, r5 = the real entry's dwords.
    pub const PEEK: u64 = 0xf200;
    /// r4 = slot, r5, r6: stores them as the real entry's dwords.
    pub const POKE: u64 = 0xf204;
    /// r4 = RB: `ptesync; tlbie; eieio; tlbsync; ptesync`.
    pub const FLUSH: u64 = 0xf208;
    /// r4 = LPID, r5 = slot: what is kept of the slot, of any partition. r4, r5 = the real entry's dwords, r6 = the
    /// guest view of dword 1 as it stands (0 without an entry), r7 = [`bitmap`]. The engine's own word for it.
    pub const LOOK: u64 = 0xf20c;

    /// The slot's bits in the bitmaps.
    pub mod bitmap {
        /// In use or claimed.
        pub const OCCUPIED: u64 = 1;
        /// Hardware could still set an R or C that the guest view lacks.
        pub const UNSETTLED: u64 = 2;
        /// The summary has the word of that bit.
        pub const UNSETTLED_SUMMARY: u64 = 4;
        /// Changed since any reader looked.
        pub const CHANGED: u64 = 8;
    }
}

/// LPIDs of the suite's partitions.
pub mod partition {
    /// Runs the cases.
    pub const SUITE: u64 = 1;
    /// Runs the same program, without privileges.
    pub const CLIENT: u64 = 2;
    /// The same; its program may be left in ruins.
    pub const VICTIM: u64 = 3;
    /// The same, for ruins of another kind.
    pub const RUIN: u64 = 4;
    /// Has no program: its memory is zero.
    pub const EMPTY: u64 = 5;
    /// Runs the same program on four vCPUs: more than the machine has CPUs.
    pub const CROWD: u64 = 6;
    /// The last of them.
    pub const LAST: u64 = CROWD;
}

/// The crowd's memory: in several regions.
pub mod region {
    /// Guest real address, bytes, and the largest page that the region's place in the machine allows.
    pub type Region = (u64, u64, u64);
    /// From 0 on, as everybody's.
    pub const FIRST: Region = (0, 64 << 20, 16 << 20);
    /// 16M and 17 pages of 4K; behind it is a gap of one page.
    pub const ODD: Region = (0x4000_0000, 0x101_1000, 0x1_0000);
    /// Three pages of 4K, which may be no part of larger ones.
    pub const LAST: Region = (0x4101_2000, 0x3000, 0x1000);
    /// All of them.
    pub const ALL: [Region; 3] = [FIRST, ODD, LAST];
}

/// The orders that the victim's table may have: the one it starts with, and the largest.
pub mod order {
    /// It starts with this one.
    pub const FIRST: u32 = 18;
    /// It may resize to this one.
    pub const LARGEST: u32 = 21;
}

/// What a table costs beside its HPT, from DESIGN section 3 alone: what H_HPT_STAT and the boot log say.
pub mod table {
    /// Reader slots of a table.
    pub const READERS: u64 = 4;

    /// The bytes for so many slots and reader slots: eight a slot for the guest view, a bit for what is occupied; a bit, its
    /// summary, a bit for 64, for what is unsettled, for what has changed, and for each reader's marks; of the latter two a
    /// root, too, a bit for 4096 in whole doublewords, and beside each of a reader's the reader's serial.
    #[must_use]
    pub const fn bytes_for(slots: u64, readers: u64) -> u64 {
        8 * slots
            + slots / 8
            + (2 + readers) * (slots / 8 + slots / 512)
            + (1 + 2 * readers) * slots.div_ceil(64 * 4096) * 8
    }

    /// The bytes beside a table of this order.
    #[must_use]
    pub const fn bytes_beside(order: u32) -> u64 {
        bytes_for(1 << (order - 4), READERS)
    }

    /// The same for one that may be resized: all is reserved for the largest order, and a second table with what belongs to
    /// it but for the readers' marks.
    #[must_use]
    pub const fn bytes_beside_resizable(order: u32, largest: u32) -> u64 {
        let hpts = 2 * (1 << largest) - (1 << order);
        hpts + bytes_beside(largest) + bytes_for(1 << (largest - 4), 0)
    }
}

/// What a client is started for: r3 at its start.
pub mod job {
    /// Ends with code 0.
    pub const END: u64 = 1;
    /// Ends with code 0x1234.
    pub const END_WITH_CODE: u64 = 2;
    /// Loads from nowhere.
    pub const CRASH: u64 = 3;
    /// Panics.
    pub const PANIC: u64 = 4;
    /// Uses pages so that R and C are set, and goes on using the processor for ever.
    pub const USE_PAGES: u64 = 5;
    /// Keeps patterns in all registers for a while.
    pub const KEEP_REGISTERS: u64 = 6;
    /// Keeps patterns behind effective addresses for a while.
    pub const KEEP_SEGMENTS: u64 = 7;
    /// Sets every register that a guest can set, and goes on using the processor for ever.
    pub const SET_EVERYTHING: u64 = 8;
    /// Faults at every kind of access: the suite's own cases about that.
    pub const FAULTS: u64 = 18;
    /// Tries to control and read other partitions.
    pub const OTHERS: u64 = 9;
    /// Uses handles nobody gave it.
    pub const WILD_HANDLES: u64 = 10;
    /// Gives buffers it does not have.
    pub const WILD_BUFFERS: u64 = 11;
    /// Gives slots its table does not have.
    pub const WILD_SLOTS: u64 = 12;
    /// Opens, reads and tries to write its own table.
    pub const OWN_TABLE: u64 = 13;
    /// Calls every token with every kind of argument.
    pub const EVERY_TOKEN: u64 = 14;
    /// Removes the entries that real mode is translated by, and interrupts itself.
    pub const NO_REAL_MODE: u64 = 15;
    /// Has its own interrupt vectors fault.
    pub const NO_VECTORS: u64 = 16;
    /// Executes random words.
    pub const RANDOM: u64 = 17;
    /// Loads from a page until it has none, and ends.
    pub const WATCH_PAGE: u64 = 19;
    /// Resizes its own table, larger and smaller, and goes on in each.
    pub const RESIZE: u64 = 20;
    /// Clears its own table in real mode, and enters what it needs again.
    pub const CLEAR: u64 = 21;
    /// Opens as many readers of its own table as it may, and goes on using the processor for ever.
    pub const HOLD_READERS: u64 = 22;

    /// Every vCPU enters, uses and removes an entry of its own, for ever.
    pub const CROWD_WORK: u64 = 0x30;
    /// The same, but one of them ends the partition with code 0x4321.
    pub const CROWD_EXIT: u64 = 0x31;
    /// The same, but one of them loads from nowhere.
    pub const CROWD_CRASH: u64 = 0x32;
    /// The same, but one of them panics.
    pub const CROWD_PANIC: u64 = 0x33;
    /// Every vCPU but one opens and closes readers of its own table; that one ends the partition.
    pub const CROWD_OPEN: u64 = 0x34;
    /// vCPUs start each other and stop themselves.
    pub const CROWD_RELAY: u64 = 0x35;
    /// Every vCPU keeps registers, a segment and its decrementer.
    pub const CROWD_KEEP: u64 = 0x36;
    /// Maps, uses and removes a page again and again, and gives its turn up in between.
    pub const MOVE: u64 = 0x37;
    /// Maps pages of every size at addresses of every kind, and accesses what is mapped.
    pub const REACH: u64 = 0x38;

    /// The number of a job that has parameters above it: [`with`].
    pub const NUMBER: u64 = 0xff;
    /// Every vCPU makes calls at random for as long as it is told.
    pub const CROWD_STORM: u64 = 0x40;
    /// The same in real mode, and all entries may go.
    pub const CROWD_WILD_STORM: u64 = 0x41;
    /// Every vCPU executes random words.
    pub const CROWD_RANDOM: u64 = 0x42;
    /// Every vCPU sets every register that it can set, and keeps it.
    pub const CROWD_KEEP_EVERYTHING: u64 = 0x43;
    /// The first two vCPUs start each other all the time.
    pub const CROWD_RESTART: u64 = 0x44;
    /// Every vCPU writes lines to the terminal until it is refused again and again.
    pub const CROWD_FLOOD: u64 = 0x45;
    /// Those jobs.
    pub const PARAMETRIC: core::ops::RangeInclusive<u64> = CROWD_STORM..=CROWD_FLOOD;

    /// A job with its parameters: where the random numbers begin, and how long it takes.
    #[must_use]
    pub const fn with(number: u64, seed: u16, milliseconds: u64) -> u64 {
        milliseconds << 24 | (seed as u64) << 8 | number
    }
}

/// The stress: many vCPUs at work on one table, with readers beside them.
///
/// A run of its own, on a machine with four CPUs. The host asks for it by a job in the window of the partition that
/// reports; that of the workers is the same memory.
pub mod stress {
    /// The job, in the window's header. It is none of `realhpt_pseries::exchange::job`.
    pub const JOB: u64 = 0x100;
    /// Doublewords of the job's one section: how many operations, and where the random numbers begin.
    pub mod parameter {
        /// How many operations all workers make together.
        pub const OPERATIONS: u64 = 0;
        /// The seed, not 0.
        pub const SEED: u64 = 1;
    }
    /// vCPUs of the partition that works.
    pub const WORKERS: usize = 4;

    /// LPIDs of its partitions, which are some of the suite's.
    pub mod partition {
        use crate::partition::{CLIENT, EMPTY, SUITE};

        /// Reads and controls the others, and reports. Its second vCPU restores.
        pub const CONTROLLER: u64 = SUITE;
        /// Its vCPUs work on its table.
        pub const WORKERS: u64 = CLIENT;
        /// Never runs: its table is written again and again.
        pub const RESTORED: u64 = EMPTY;
    }

    /// What it reports, as cases.
    pub mod case {
        /// Every operation and access of the workers went as it must, and H_READ agrees with what they know.
        pub const WORKERS: &str = "stress::workers";
        /// After each pause every reader's copy is exact and agrees with what the workers know.
        pub const READERS: &str = "stress::readers";
        /// The real table, the guest view and the bitmaps agree with that.
        pub const TABLE: &str = "stress::table";
        /// The other partition's table came back as it was written.
        pub const RESTORER: &str = "stress::restorer";
        /// All of them.
        pub const ALL: [&str; 4] = [WORKERS, READERS, TABLE, RESTORER];
    }
}
