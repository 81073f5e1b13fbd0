//! RTAS in a guest: a few instructions that make a hypercall of it, and the tokens of its calls.
//!
//! A guest calls RTAS by a branch to its entry in 32-bit big-endian real mode, with the address of the argument buffer in
//! r3 and the base of RTAS in r4 (LoPAR chapter 7). The buffer says which call it is: token, number of arguments, number of
//! results, and both lists, in words.

use realhpt::hcall::abi::H_RTAS;

/// The number of the call, as an `ori` holds it: in 16 bits.
const NUMBER: u32 = (H_RTAS & 0xffff) as u32;
const _: () = assert!(H_RTAS == NUMBER as u64);

/// RTAS as it stands in a guest's memory, big-endian.
///
/// It moves the buffer's address to where the hypercall takes it, loads the call's number in two steps (in one it would
/// be sign-extended), and returns to the caller when it is done. It uses no register but these two and no memory, so it
/// may stand anywhere, and needs nothing of r4. That it is called in 32-bit mode is for the hypercall to see.
pub const BLOB: &[u8] = {
    const WORDS: [[u8; 4]; 5] = [
        0x7c64_1b78_u32.to_be_bytes(),            // mr 4, 3
        0x3c60_0000_u32.to_be_bytes(),            // lis 3, 0
        (0x6063_0000_u32 | NUMBER).to_be_bytes(), // ori 3, 3, H_RTAS
        0x4400_0022_u32.to_be_bytes(),            // sc 1
        0x4e80_0020_u32.to_be_bytes(),            // blr
    ];
    WORDS.as_flattened()
};

/// The calls by their names in the tree, with their tokens (LoPAR 7.3 has the names; tokens are the platform's to choose).
pub const TOKENS: [(&str, u32); 12] = [
    ("display-character", token::DISPLAY_CHARACTER),
    ("power-off", token::POWER_OFF),
    ("system-reboot", token::SYSTEM_REBOOT),
    ("query-cpu-stopped-state", token::QUERY_CPU_STOPPED_STATE),
    ("start-cpu", token::START_CPU),
    ("stop-self", token::STOP_SELF),
    ("get-time-of-day", token::GET_TIME_OF_DAY),
    ("set-time-of-day", token::SET_TIME_OF_DAY),
    ("ibm,set-xive", token::SET_XIVE),
    ("ibm,get-xive", token::GET_XIVE),
    ("ibm,int-off", token::INT_OFF),
    ("ibm,int-on", token::INT_ON),
];

/// Tokens of the calls, and the end that one of them brings.
pub use realhpt::hcall::abi::rtas as token;
