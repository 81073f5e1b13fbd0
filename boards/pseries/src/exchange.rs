//! The exchange: a piece of the machine's memory that the host runner and a partition share.
//!
//! The runner keeps the machine's RAM in a file that it maps itself. The manifest gives a partition a second
//! memory region in that file, beside the region the partition runs in; jobs, tables and results go through
//! it at memory speed while a UART would need minutes. Every word is a big-endian doubleword. The runner
//! writes the job before the machine starts; the partition writes the words of progress and result; neither
//! writes the other's words.
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

    /// First pass: [`super::PASS_WORDS`] doublewords for each pass.
    pub const FIRST_PASS: usize = 64;
    /// First measurement of a bench, which has no passes: [`super::bench::ROW_WORDS`] doublewords for each.
    pub const FIRST_ROW: usize = FIRST_PASS;
    /// First section: offset and length in bytes for each.
    pub const FIRST_SECTION: usize = 1024;
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
    /// Timebase ticks from the first call of the pass to the return of the last.
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

/// What a bench is given and what it gives.
///
/// Its sections come in groups of [`bench::SECTIONS`], a group for each table that is restored and
/// read. Everything is counted in ticks of the timebase, around the hypercalls alone.
pub mod bench {
    /// Sections of one table: all of it, some of its entries again, and all of its slots as invalid.
    pub const SECTIONS: usize = 3;
    /// Buffer length of a read or a write, bytes.
    pub const CHUNK: u64 = 64 << 10;
    /// Doublewords of one measurement.
    pub const ROW_WORDS: usize = 8;
    /// The most measurements.
    pub const MAX_ROWS: usize = 112;
    /// Instructions of the loop that is measured first.
    pub const CALIBRATION: u64 = 1_000_000;

    /// Numbers of a measurement's doublewords, counted from its first.
    pub mod row {
        /// What was measured, one of [`super::what`].
        pub const WHAT: usize = 0;
        /// The group of sections it is about, from 0.
        pub const TABLE: usize = 1;
        /// Hypercalls that were made.
        pub const CALLS: usize = 2;
        /// Bytes that they carried.
        pub const BYTES: usize = 3;
        /// Timebase ticks; of [`super::what::BESIDE`] bytes.
        pub const TICKS: usize = 4;
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
        /// Added to a hypercall's number: somebody reads the table.
        pub const WITH_READER: u64 = 0x100;

        /// The table into an empty one.
        pub const RESTORE: u64 = 0x10;
        /// The first pass of a reader.
        pub const FIRST_PASS: u64 = 0x11;
        /// A pass of that reader when nothing has changed.
        pub const CLEAN_PASS: u64 = 0x12;
        /// The pass after some entries were written again.
        pub const CHANGED_PASS: u64 = 0x13;
        /// The table over itself.
        pub const OVERWRITE: u64 = 0x14;
        /// Every slot made invalid.
        pub const INVALIDATE: u64 = 0x15;
        /// The longest call that read any table.
        pub const LONGEST_READ: u64 = 0x16;
        /// The longest call that wrote any table.
        pub const LONGEST_WRITE: u64 = 0x17;
        /// Bytes that the hypervisor keeps beside the table.
        pub const BESIDE: u64 = 0x18;
    }
}
