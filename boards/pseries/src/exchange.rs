//! The exchange: a piece of the machine's memory that the host runner and a partition share.
//!
//! The runner keeps the machine's RAM in a file that it maps itself. The manifest gives a partition a second
//! memory region in that file, beside the region the partition runs in; jobs, tables and results go through
//! it at memory speed while a UART would need minutes. Every word is a big-endian doubleword. The runner
//! writes the job before the machine starts, and in a replay the commands; the partition writes the words of
//! progress and result; neither writes the other's words.
//!
//! This module has only the layout, so that both sides are built from one text.

/// "RHPTXCHG", in [`word::MAGIC`].
pub const MAGIC: u64 = 0x5248_5054_5843_4847;
/// Version of this layout, in [`word::VERSION`].
pub const VERSION: u64 = 1;
/// Bytes of the header; the first data may stand here.
pub const HEADER: u64 = 0x1_0000;
/// The most input sections a job has.
pub const MAX_SECTIONS: usize = 512;
/// The most passes a result has.
pub const MAX_PASSES: usize = 64;

/// Numbers of the header's doublewords.
pub mod word {
    /// [`super::MAGIC`].
    pub const MAGIC: usize = 0;
    /// [`super::VERSION`].
    pub const VERSION: usize = 1;
    /// The job: one of [`super::job`].
    pub const JOB: usize = 2;
    /// LPID of the partition the job is about.
    pub const TARGET: usize = 3;
    /// Where output may be written: offset in bytes from the header's start, 8-byte aligned.
    pub const OUTPUT: usize = 4;
    /// Room for output, bytes.
    pub const OUTPUT_SIZE: usize = 5;
    /// Buffer length for each H_HPT_READ and H_HPT_WRITE, bytes; 0 leaves it to the agent.
    pub const CHUNK: usize = 6;
    /// A parameter of the job.
    pub const ARGUMENT: usize = 7;
    /// How many input sections there are.
    pub const SECTIONS: usize = 8;
    /// Number of the command that stands here, from 1 ([`super::replay`]).
    pub const REQUEST: usize = 9;
    /// The command, one of [`super::replay::command`].
    pub const COMMAND: usize = 10;
    /// How many frames it has.
    pub const FRAMES: usize = 11;

    /// Written by the partition: what it is doing, one of [`super::phase`].
    pub const PHASE: usize = 16;
    /// Bytes done in this phase.
    pub const DONE: usize = 17;
    /// Bytes to do in this phase, 0 if not known.
    pub const TOTAL: usize = 18;
    /// Result: 0 while running, 1 done, 2 failed.
    pub const RESULT: usize = 19;
    /// Failed: the token of the hypercall.
    pub const FAILED_CALL: usize = 20;
    /// Failed: its status.
    pub const FAILED_STATUS: usize = 21;
    /// Failed: a detail, such as the index of the first bad entry.
    pub const FAILED_DETAIL: usize = 22;
    /// How many passes of output there are.
    pub const PASSES: usize = 23;
    /// How many entries of the journal there are (client).
    pub const JOURNAL: usize = 24;
    /// 1: the target could not be started, since its table has no room for a VRMA (agent).
    pub const NO_ROOM: usize = 25;
    /// How many measurements a bench made.
    pub const ROWS: usize = 25;
    /// Number of the last command that is done.
    pub const ANSWER: usize = 26;

    /// First pass: [`super::PASS_WORDS`] doublewords for each pass.
    pub const FIRST_PASS: usize = 64;
    /// First section: offset and length in bytes for each.
    pub const FIRST_SECTION: usize = 1024;
    /// First measurement of a bench: [`super::bench::ROW_WORDS`] doublewords for each.
    pub const FIRST_ROW: usize = FIRST_SECTION + 2 * super::MAX_SECTIONS;
}

/// Doublewords that describe one pass of output.
pub const PASS_WORDS: usize = 8;

/// Numbers of a pass's doublewords, counted from its first.
pub mod pass {
    /// Offset of the pass's records from the header's start, bytes.
    pub const OFFSET: usize = 0;
    /// Length of the records, bytes.
    pub const LENGTH: usize = 1;
    /// Pass number as H_HPT_READ gave it.
    pub const NUMBER: usize = 2;
    /// Pending slots after the pass, as H_HPT_READ gave it.
    pub const PENDING: usize = 3;
    /// `ReadFlags` of the last call.
    pub const FLAGS: usize = 4;
    /// H_HPT_READ calls made.
    pub const CALLS: usize = 5;
    /// What the pass is for, one of [`super::kind`].
    pub const KIND: usize = 6;
    /// Timebase ticks that the calls took.
    pub const TICKS: usize = 7;
}

/// What a pass of output is for.
pub mod kind {
    /// The first pass of the job's reader, over the restored table.
    pub const FIRST: u64 = 1;
    /// The pass right after it: nothing has happened.
    pub const CLEAN: u64 = 2;
    /// A pass while the client runs.
    pub const LIVE: u64 = 3;
    /// The pass after the client was paused.
    pub const FINAL: u64 = 4;
    /// A first pass of a new reader over the paused client: the reference for all the others.
    pub const REFERENCE: u64 = 5;
}

/// Jobs.
pub mod job {
    /// Nothing: the agent shows its console.
    pub const CONSOLE: u64 = 0;
    /// Restore the sections into the target, read passes, run the target, read passes.
    pub const ROUNDTRIP: u64 = 1;
    /// Measure.
    pub const BENCH: u64 = 2;
    /// Do commands as they come ([`super::replay`]).
    pub const REPLAY: u64 = 3;
    /// Read the target's table in passes, one after the other without a pause, for as long as the machine runs.
    pub const FOLLOW: u64 = 4;
}

/// Phases.
pub mod phase {
    /// Not started.
    pub const IDLE: u64 = 0;
    /// Restoring the table.
    pub const RESTORE: u64 = 1;
    /// Reading a pass.
    pub const READ: u64 = 2;
    /// The client runs.
    pub const CLIENT: u64 = 3;
    /// Done.
    pub const END: u64 = 4;
}

/// Doublewords of one entry of the client's journal. The journal begins at [`HEADER`].
///
/// An entry says how one slot looks, in the guest's view, when the client has ended: its ptex, dword 0 and
/// dword 1 with the R and C that the client's own accesses must have set; a removed slot has dword 0 = 0. The
/// fourth doubleword says where the entry comes from, one of [`origin`].
pub const JOURNAL_WORDS: usize = 4;

/// Where an entry of the journal comes from.
pub mod origin {
    /// The runtime made it for the program or for the window.
    pub const RUNTIME: u64 = 1;
    /// The client entered it.
    pub const ENTERED: u64 = 2;
    /// The client found it in the table.
    pub const FOUND: u64 = 3;
}

/// Commands that come while the job runs, for what comes next depends on the answers.
///
/// The runner puts a command into the window, its frames from [`word::OUTPUT`] on, and then its number into
/// [`word::REQUEST`]. The agent does it, leaves in each frame what the registers hold afterwards, and then puts
/// the number into [`word::ANSWER`]. The window's bulk is the runner's from an answer to the next request and
/// the agent's from there to its answer: who hands it over makes what it wrote visible first.
pub mod replay {
    /// Doublewords of a frame: r3 to r12 of a hypercall.
    pub const FRAME_WORDS: usize = 10;

    /// The commands.
    pub mod command {
        /// The frames are hypercalls of the agent's, each made again while it answers H_CONTINUE. With H_CEDE the
        /// agent gives the processor to the others for a moment.
        pub const CALL: u64 = 1;
        /// They are hypercalls that the agent makes for the target.
        pub const PROXY: u64 = 2;
        /// There are no more commands.
        pub const END: u64 = 3;
        /// Each frame is a pass to be read to its end ([`super::pass`]).
        pub const PASS: u64 = 4;
    }

    /// Numbers of a frame's doublewords that ask for a pass, or say how it was.
    pub mod pass {
        /// In: the reader's handle.
        pub const HANDLE: usize = 0;
        /// Out: the status of the last call, or H_NO_MEM if the room was too small for all of it.
        pub const STATUS: usize = 0;
        /// In: where the records go, offset in bytes from the header's start.
        pub const OFFSET: usize = 1;
        /// Out: their length.
        pub const LENGTH: usize = 1;
        /// In: room there, bytes.
        pub const ROOM: usize = 2;
        /// Out: r5 of the last call, the number of the pass and its flags.
        pub const SAID: usize = 2;
        /// Out: pending slots after it.
        pub const PENDING: usize = 3;
        /// Out: H_HPT_READ calls.
        pub const CALLS: usize = 4;
        /// Out: timebase ticks that the calls took.
        pub const TICKS: usize = 5;
    }
}

/// What the visitor is asked to do, one access at a time, and how it went.
///
/// Its words stand in its partition's own memory, where the runner has put that at a place of its choice.
pub mod visit {
    /// Guest real address of the words: behind the program, in the part of guest real mode that the smallest VRMA
    /// of the recorded tables has.
    pub const MAILBOX: u64 = 0x40_0000;
    /// Bytes that are the mailbox's.
    pub const SIZE: u64 = 0x1_0000;

    /// Numbers of the doublewords, counted from the first.
    pub mod word {
        /// Number of the access that is asked for, from 1.
        pub const REQUEST: usize = 0;
        /// 1: a store; 0: a load.
        pub const STORE: usize = 1;
        /// Its effective address.
        pub const EA: usize = 2;
        /// RS of the slbmte that makes the one SLB entry there is.
        pub const SLB_RS: usize = 3;
        /// RB of the same.
        pub const SLB_RB: usize = 4;

        /// Written by the visitor: number of the last access that is done.
        pub const ANSWER: usize = 16;
        /// The interrupt that it took; 0: none.
        pub const VECTOR: usize = 17;
        /// DSISR of the interrupt.
        pub const DSISR: usize = 18;
    }
}

/// What a bench is given and what it gives.
///
/// Its sections come in groups of [`bench::SECTIONS`], a group for each table that is restored and
/// read. Everything is counted in ticks of the timebase, around the hypercalls alone. The job's argument is the LPID
/// of a partition that may resize its table: what empties or resizes a table is done to that one, by proxy.
pub mod bench {
    /// Shares of a table's entries that are written again for a pass to find, per mille, the largest last.
    pub const CHANGED_PERMILLE: [u64; 3] = [1, 10, 100];
    /// Sections of one table: all of it, for each of those shares the entries again, and all of its slots as
    /// invalid.
    pub const SECTIONS: usize = 2 + CHANGED_PERMILLE.len();
    /// Readers that a table has at once: as many as it may have.
    pub const READERS: usize = 4;
    /// Buffer length of a read or a write, bytes.
    pub const CHUNK: u64 = 64 << 10;
    /// Doublewords of one measurement.
    pub const ROW_WORDS: usize = 8;
    /// The most measurements.
    pub const MAX_ROWS: usize = 512;
    const _: () =
        assert!((super::word::FIRST_ROW + MAX_ROWS * ROW_WORDS) as u64 * 8 <= super::HEADER);
    /// Instructions of the loop that is measured first.
    pub const CALIBRATION: u64 = 1_000_000;

    /// Numbers of a measurement's doublewords, counted from its first.
    pub mod row {
        /// What was measured, one of [`super::what`].
        pub const WHAT: usize = 0;
        /// The group of sections it is about, from 0; of [`super::what::LONGEST`] the hypercall's token.
        pub const TABLE: usize = 1;
        /// Hypercalls that were made.
        pub const CALLS: usize = 2;
        /// Bytes that they carried.
        pub const BYTES: usize = 3;
        /// Timebase ticks; of [`super::what::BESIDE`] bytes.
        pub const TICKS: usize = 4;
        /// Those of the longest of the hypercalls, where each was measured by itself.
        pub const LONGEST: usize = 5;
        /// How many passes of a reader these were; 0: none was.
        pub const PASSES: usize = 6;
    }

    /// What was measured.
    pub mod what {
        /// [`super::CALIBRATION`] instructions.
        pub const CALIBRATION: u64 = 1;
        /// H_REMOVE of a free slot: nothing but the way in and out.
        pub const NULL: u64 = 2;
        /// H_READ of one entry.
        pub const READ: u64 = 3;
        /// H_PROTECT.
        pub const PROTECT: u64 = 4;
        /// H_ENTER with R and C set.
        pub const ENTER: u64 = 5;
        /// H_REMOVE.
        pub const REMOVE: u64 = 6;
        /// H_BULK_REMOVE of four entries.
        pub const BULK_REMOVE: u64 = 7;
        /// H_CLEAR_REF of an entry with R.
        pub const CLEAR_REF: u64 = 8;
        /// H_CLEAR_REF of an entry without.
        pub const CLEAR_REF_AGAIN: u64 = 9;
        /// H_CLEAR_MOD of an entry with C.
        pub const CLEAR_MOD: u64 = 0xa;
        /// H_CLEAR_MOD of an entry without.
        pub const CLEAR_MOD_AGAIN: u64 = 0xb;
        /// H_BLOCK_REMOVE of eight entries.
        pub const BLOCK_REMOVE: u64 = 0xc;
        /// Added to a hypercall's number: somebody reads the table.
        pub const WITH_READER: u64 = 0x100;

        /// The table into an empty one.
        pub const RESTORE: u64 = 0x10;
        /// The first pass of a reader.
        pub const FIRST_PASS: u64 = 0x11;
        /// A pass of that reader when nothing has changed.
        pub const CLEAN_PASS: u64 = 0x12;
        /// A reader opened at the last slot.
        pub const OPEN_AT_END: u64 = 0x13;
        /// The table over itself.
        pub const OVERWRITE: u64 = 0x14;
        /// Every slot made invalid.
        pub const INVALIDATE: u64 = 0x15;
        /// The longest of all calls with one token.
        pub const LONGEST: u64 = 0x16;
        /// A reader opened at slot 0.
        pub const OPEN: u64 = 0x17;
        /// Bytes that the hypervisor keeps beside the table.
        pub const BESIDE: u64 = 0x18;

        /// The pass after a share of the entries was written again; the share's number is added.
        pub const CHANGED_PASS: u64 = 0x30;
        /// The first pass of each of [`super::READERS`]; the reader's number is added.
        pub const FIRST_PASS_OF_MANY: u64 = 0x40;
        /// The pass of each when nothing has changed; the reader's number is added.
        pub const CLEAN_PASS_OF_MANY: u64 = 0x48;
        /// The pass of each after the largest share was written again; the reader's number is added.
        pub const CHANGED_PASS_OF_MANY: u64 = 0x50;

        /// H_CLEAR_HPT, until the table is empty.
        pub const CLEAR_HPT: u64 = 0x20;
        /// H_RESIZE_HPT_PREPARE for twice the size, until the table is ready.
        pub const PREPARE_LARGER: u64 = 0x21;
        /// H_RESIZE_HPT_COMMIT of that.
        pub const COMMIT_LARGER: u64 = 0x22;
        /// H_RESIZE_HPT_PREPARE for the size that it had.
        pub const PREPARE_SMALLER: u64 = 0x23;
        /// H_RESIZE_HPT_COMMIT of that.
        pub const COMMIT_SMALLER: u64 = 0x24;
        /// H_RESIZE_HPT_COMMIT for twice the size, all entries having been written again since the last prepare.
        pub const COMMIT_CHANGED: u64 = 0x25;
    }
}
