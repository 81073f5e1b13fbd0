//! What is done to a table: calls, and hardware in between.

use crate::common::stream::Record;

#[derive(Clone, Debug)]
pub(crate) enum Op {
    Enter {
        flags: u64,
        slot: u64,
        v: u64,
        r: u64,
    },
    Remove {
        flags: u64,
        slot: u64,
        with: With,
        late: u64,
    },
    Protect {
        flags: u64,
        slot: u64,
        with: With,
        late: u64,
    },
    Read {
        flags: u64,
        slot: u64,
    },
    /// Requests, and what is compared for each.
    Bulk([(u64, With); 4]),
    Block {
        /// Whose AVPN is given.
        of: u64,
        with: With,
        requests: [u64; 8],
    },
    /// H_CLEAR_REF or H_CLEAR_MOD.
    Clear {
        bit: u64,
        flags: u64,
        slot: u64,
        late: u64,
    },
    Touch {
        slot: u64,
        bits: u64,
    },
    Open {
        flags: u64,
        start: u64,
    },
    Stream {
        reader: usize,
        length: u64,
    },
    Close {
        reader: usize,
    },
    Pause,
    Resume,
    /// A stream of these records, at most so many bytes a call.
    Write {
        records: Vec<Record>,
        cut: usize,
    },
    PageInit {
        flags: u64,
        page: u64,
        source: u64,
    },
    /// H_RESIZE_HPT_PREPARE, or COMMIT, of a table that has no memory for it (`tests/resize` has some).
    Resize {
        commits: bool,
        flags: u64,
        shift: u64,
    },
    /// H_CLEAR_HPT to its end.
    ClearAll,
    /// H_LPAR_RESET to its end, and a new start.
    Reset,
    Stat,
    /// From here on the guest's calls are made for it, where it is paused, or not.
    Proxy(bool),
}

/// What is given where a call compares.
#[derive(Clone, Copy, Debug)]
pub(crate) enum With {
    /// The entry's own AVPN, with some bits turned over.
    Own(u64),
    Bits(u64),
}
