//! Interrupts that a partition takes itself, in real mode, at 0x100 to 0xFFF.
//!
//! Key type: [`Frame`], the interrupted program's registers. Three ends are possible: the decrementer's
//! interrupt ([`crate::cpu::cede`] waits for it) is put off and returned from; an interrupt under a
//! [`crate::guard`] goes to the guard; anything else prints the frame and ends the partition. 0x100 is the
//! entry point (`entry.rs`): a system reset starts the program anew.
//!
//! The frame stands at the top of a stack of its own, one for each vCPU, so a fault on a wild stack pointer is
//! reported too. SPRG1 has the stack's top from the first instructions on. An interrupt while another is being
//! reported would overwrite the frame; it ends the partition at once.

use core::{
    arch::global_asm,
    fmt,
    sync::atomic::{AtomicBool, Ordering},
};

use crate::{cpu, exit, guard, println};

/// The registers at an interrupt. The assembly below knows the layout.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct Frame {
    pub(crate) gprs: [u64; 32],
    pub(crate) srr0: u64,
    pub(crate) srr1: u64,
    pub(crate) lr: u64,
    pub(crate) ctr: u64,
    pub(crate) cr: u64,
    pub(crate) xer: u64,
    pub(crate) dar: u64,
    pub(crate) dsisr: u64,
    pub(crate) vector: u64,
}

// A vector has room for eight instructions at the narrowest (0xF20), so it only says which one it is: r3 is
// kept in SPRG0 and becomes the top of the vCPU's exception stack, r1 goes to its place in the frame there and
// becomes the vector's address, and all go on at `exception_common`. Nothing but r1 and r3 is changed
// before that saves the rest.
//
// `exception_common`: r1 becomes the exception stack. The frame (Frame above, 328 bytes from 112(r1), which is
// 448 below the top) is filled and its address is the handler's argument; below it stand the 112 bytes that the
// handler may use as its caller's frame. When the handler returns, everything is loaded from the frame,
// which the handler may have changed, and `rfid` goes where SRR0 and SRR1 in it say. `rfid` does not care
// for a reservation; a program that was interrupted between ldarx and stdcx. sees the stdcx. fail because
// the dummy stdcx. here drops it.
global_asm!(
    ".macro vector at",
    ".org \\at",
    "mtsprg 0, %r3",
    "mfsprg %r3, 1",
    "std %r1, 112+8*1-448(%r3)",
    "li %r1, \\at",
    "b exception_common",
    ".endm",
    ".section .vectors, \"ax\", @progbits",
    "vectors:",
    ".org 0x100",
    ".globl _start",
    "_start:",
    "b __pseries_start",
    "vector 0x200",
    "vector 0x300",
    "vector 0x380",
    "vector 0x400",
    "vector 0x480",
    "vector 0x500",
    "vector 0x600",
    "vector 0x700",
    "vector 0x800",
    "vector 0x900",
    "vector 0xa00",
    "vector 0xb00",
    "vector 0xc00",
    "vector 0xd00",
    "vector 0xe00",
    "vector 0xf00",
    "vector 0xf20",
    "vector 0xf40",
    "vector 0xf60",
    "vector 0xf80",
    ".org 0x1000",
    "exception_common:",
    "std %r1, 112+8*40-448(%r3)",
    "addi %r1, %r3, -448",
    "std %r0, 112+8*0(%r1)",
    "std %r2, 112+8*2(%r1)",
    "std %r4, 112+8*4(%r1)",
    "std %r5, 112+8*5(%r1)",
    "std %r6, 112+8*6(%r1)",
    "std %r7, 112+8*7(%r1)",
    "std %r8, 112+8*8(%r1)",
    "std %r9, 112+8*9(%r1)",
    "std %r10, 112+8*10(%r1)",
    "std %r11, 112+8*11(%r1)",
    "std %r12, 112+8*12(%r1)",
    "std %r13, 112+8*13(%r1)",
    "std %r14, 112+8*14(%r1)",
    "std %r15, 112+8*15(%r1)",
    "std %r16, 112+8*16(%r1)",
    "std %r17, 112+8*17(%r1)",
    "std %r18, 112+8*18(%r1)",
    "std %r19, 112+8*19(%r1)",
    "std %r20, 112+8*20(%r1)",
    "std %r21, 112+8*21(%r1)",
    "std %r22, 112+8*22(%r1)",
    "std %r23, 112+8*23(%r1)",
    "std %r24, 112+8*24(%r1)",
    "std %r25, 112+8*25(%r1)",
    "std %r26, 112+8*26(%r1)",
    "std %r27, 112+8*27(%r1)",
    "std %r28, 112+8*28(%r1)",
    "std %r29, 112+8*29(%r1)",
    "std %r30, 112+8*30(%r1)",
    "std %r31, 112+8*31(%r1)",
    "mfsprg %r4, 0",
    "std %r4, 112+8*3(%r1)",
    "mfsrr0 %r4",
    "std %r4, 112+8*32(%r1)",
    "mfsrr1 %r4",
    "std %r4, 112+8*33(%r1)",
    "mflr %r4",
    "std %r4, 112+8*34(%r1)",
    "mfctr %r4",
    "std %r4, 112+8*35(%r1)",
    "mfcr %r4",
    "std %r4, 112+8*36(%r1)",
    "mfxer %r4",
    "std %r4, 112+8*37(%r1)",
    "mfspr %r4, 19",
    "std %r4, 112+8*38(%r1)",
    "mfspr %r4, 18",
    "std %r4, 112+8*39(%r1)",
    "li %r4, 0",
    "std %r4, 0(%r1)",
    "lis %r2, .TOC.@ha",
    "addi %r2, %r2, .TOC.@l",
    "addi %r3, %r1, 112",
    "bl {handler}",
    "nop",
    "ld %r4, 112+8*32(%r1)",
    "mtsrr0 %r4",
    "ld %r4, 112+8*33(%r1)",
    "mtsrr1 %r4",
    "ld %r4, 112+8*34(%r1)",
    "mtlr %r4",
    "ld %r4, 112+8*35(%r1)",
    "mtctr %r4",
    "ld %r4, 112+8*36(%r1)",
    "mtcr %r4",
    "ld %r4, 112+8*37(%r1)",
    "mtxer %r4",
    "ld %r0, 112+8*0(%r1)",
    "ld %r2, 112+8*2(%r1)",
    "ld %r3, 112+8*3(%r1)",
    "ld %r5, 112+8*5(%r1)",
    "ld %r6, 112+8*6(%r1)",
    "ld %r7, 112+8*7(%r1)",
    "ld %r8, 112+8*8(%r1)",
    "ld %r9, 112+8*9(%r1)",
    "ld %r10, 112+8*10(%r1)",
    "ld %r11, 112+8*11(%r1)",
    "ld %r12, 112+8*12(%r1)",
    "ld %r13, 112+8*13(%r1)",
    "ld %r14, 112+8*14(%r1)",
    "ld %r15, 112+8*15(%r1)",
    "ld %r16, 112+8*16(%r1)",
    "ld %r17, 112+8*17(%r1)",
    "ld %r18, 112+8*18(%r1)",
    "ld %r19, 112+8*19(%r1)",
    "ld %r20, 112+8*20(%r1)",
    "ld %r21, 112+8*21(%r1)",
    "ld %r22, 112+8*22(%r1)",
    "ld %r23, 112+8*23(%r1)",
    "ld %r24, 112+8*24(%r1)",
    "ld %r25, 112+8*25(%r1)",
    "ld %r26, 112+8*26(%r1)",
    "ld %r27, 112+8*27(%r1)",
    "ld %r28, 112+8*28(%r1)",
    "ld %r29, 112+8*29(%r1)",
    "ld %r30, 112+8*30(%r1)",
    "ld %r31, 112+8*31(%r1)",
    "stdcx. %r4, 0, %r1",
    "ld %r4, 112+8*36(%r1)",
    "mtcr %r4",
    "ld %r4, 112+8*4(%r1)",
    "ld %r1, 112+8*1(%r1)",
    "rfid",
    ".text",
    handler = sym handle,
);

/// What is done about an interrupt: returns to what the frame then says, or not at all.
extern "C" fn handle(frame: &mut Frame) {
    if guard::take(frame) {
        return;
    }
    if frame.vector == 0x900 {
        cpu::quiet_decrementer();
        return;
    }
    static REPORTING: AtomicBool = AtomicBool::new(false);
    if !REPORTING.swap(true, Ordering::Relaxed) {
        println!("unexpected interrupt {:#x}\n{frame}", frame.vector);
    }
    exit::exit(exit::EXCEPTION | frame.vector)
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, " srr0 {:016x}  srr1  {:016x}", self.srr0, self.srr1)?;
        writeln!(f, " dar  {:016x}  dsisr {:016x}", self.dar, self.dsisr)?;
        writeln!(f, " lr   {:016x}  ctr   {:016x}", self.lr, self.ctr)?;
        write!(f, " cr   {:016x}  xer   {:016x}", self.cr, self.xer)?;
        for (number, four) in (0..).step_by(4).zip(self.gprs.chunks(4)) {
            write!(f, "\n r{number:<3}")?;
            for value in four {
                write!(f, " {value:016x}")?;
            }
        }
        Ok(())
    }
}
