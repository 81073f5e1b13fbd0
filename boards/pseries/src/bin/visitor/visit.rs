//! The visits: an access at a time.

use core::arch::naked_asm;

use realhpt_pseries::{
    cpu::{self, Msr},
    exchange::visit::{MAILBOX, SIZE, word},
    guard,
    mmu::slb,
    window::Window,
};

/// How long it cedes before it looks into the mailbox again.
const BREATH: u64 = cpu::TICKS_PER_MS / 20;

/// Looks for accesses for ever. It ends only if there can be no mailbox.
pub(crate) fn main(_: u64) -> u64 {
    // SAFETY: in real mode memory is where it is; the program ends below the mailbox.
    let Some(mailbox) = (unsafe { Window::new(MAILBOX, SIZE) }) else {
        return 1;
    };
    let mut done = 0;
    loop {
        let request = mailbox.acquire(word::REQUEST);
        if request != done {
            access(&mailbox);
            done = request;
            mailbox.release(word::ANSWER, done);
        }
        cpu::cede(BREATH);
    }
}

/// Makes the access that the mailbox asks for.
fn access(mailbox: &Window) {
    let code = if mailbox.get(word::STORE) == 0 {
        load_word
    } else {
        store_word
    };
    // SAFETY: the program runs in real mode.
    unsafe { slb::clear() };
    // SAFETY: translates nothing that the program refers to but in the access itself.
    unsafe { slb::insert_raw(mailbox.get(word::SLB_RB), mailbox.get(word::SLB_RS)) };
    // SAFETY: the code loads, or stores what it loaded: memory stays as it is, whatever is behind the address.
    // Instructions are fetched in real mode, where the program is.
    let ended = unsafe { guard::run(code, [mailbox.get(word::EA), 0], Msr::DATA) };
    let (vector, dsisr) = ended.map_or_else(|fault| (fault.vector, fault.dsisr), |_| (0, 0));
    mailbox.set(word::VECTOR, vector);
    mailbox.set(word::DSISR, dsisr);
}

#[unsafe(naked)]
unsafe extern "C" fn load_word(ea: u64, _: u64) -> u64 {
    naked_asm!("lwz 3, 0(3)", "blr")
}

#[unsafe(naked)]
unsafe extern "C" fn store_word(ea: u64, _: u64) -> u64 {
    naked_asm!("lwz 4, 0(3)", "stw 4, 0(3)", "blr")
}
