//! Streams read, written and reset in a replay.

use crate::common::corpus::{number, unhex};
use crate::common::stream::{Image, Record, Said, apply, differences, encode, said};
use crate::common::world::{AGENT, BUFFER_SIZE, CLIENT};
use crate::step::Step;
use crate::{EIO, SLOTS};
use realhpt::hcall::abi::{self, OpenFlags, State, Status};

use super::{Persistent, Replay};

impl Replay<'_, '_> {
    /// Reads with the persistent reader to the end of its pass.
    fn catch_up(&mut self) {
        let Some(handle) = self.persistent.handle else {
            return;
        };
        let pass = self.world.pass(handle, BUFFER_SIZE);
        for (slot, entry) in said(&pass.records) {
            self.persistent.copy[slot as usize] = entry;
            self.persistent.told[slot as usize] = true;
        }
    }

    pub(crate) fn read(&mut self, step: Step<'_>) {
        let data = step.data();
        match step.text("fd") {
            "P" => self.read_persistent(step, &data),
            kind => {
                self.catch_up();
                let (flags, start) = (step.number("flags"), step.number("start"));
                let handle = self.world.open(CLIENT, flags, start);
                let length = step.number("count");
                let ours: Vec<Said> = said(&self.world.pass(handle, length).records).collect();
                assert_eq!(self.world.close(handle), Status::Success);
                let image = |said: &[Said]| {
                    let mut image = Image::new();
                    apply(&mut image, said.iter().copied());
                    image
                };
                let linux: Vec<Said> = data.into_iter().flat_map(|(_, said)| said).collect();
                if ours != linux {
                    assert_eq!(
                        differences(&image(&ours), &image(&linux)),
                        [""; 0],
                        "reader {kind}"
                    );
                    panic!("reader {kind}: each slot once, in order");
                }
                // Linux's persistent reader will not hear of what this one was told.
                self.persistent.told[start as usize..].fill(false);
            }
        }
        self.compared += 1;
    }

    fn read_persistent(&mut self, step: Step<'_>, data: &[(u64, Vec<Said>)]) {
        let count = step.number("count");
        if step.number("open") == 1 {
            if let Some(handle) = self.persistent.handle.take() {
                assert_eq!(self.world.close(handle), Status::Success);
            }
            let handle = Some(self.world.open(CLIENT, 0, 0));
            self.persistent = Persistent::new(handle);
        }
        if count < 24 {
            let handle = self.persistent.handle.unwrap();
            assert_eq!(self.world.read(handle, count), Err(Status::Parameter));
            assert!(data.iter().all(|(bytes, _)| *bytes == 0));
            self.because("small_buffer");
        } else {
            self.catch_up();
            for (bytes, said) in data {
                // What ends a pass, for Linux does not say: the next entry would have had room.
                self.linux_reads(said, bytes + 24 < count);
            }
            assert!(step.number("nreads") != 0 || self.persistent.cursor == 0);
        }
        if step.number("close") == 1 {
            let handle = self.persistent.handle.take().unwrap();
            assert_eq!(self.world.close(handle), Status::Success);
            self.persistent = Persistent::new(None);
        }
    }

    /// One read of Linux's persistent reader.
    fn linux_reads(&mut self, read: &[Said], room_left: bool) {
        let persistent = &mut self.persistent;
        let from = persistent.cursor;
        for &(slot, entry) in read {
            if !core::mem::take(&mut persistent.told[slot as usize]) {
                assert!(
                    persistent.reset && entry.is_none(),
                    "slot {slot:#x}: ours was not told"
                );
            }
            assert_eq!(persistent.copy[slot as usize], entry, "slot {slot:#x}");
            assert!(slot >= from);
            persistent.cursor = slot + 1;
        }
        if room_left || persistent.cursor == SLOTS {
            let left = (from..SLOTS).find(|slot| {
                let told = core::mem::take(&mut persistent.told[*slot as usize]);
                told && !persistent.ours_alone.remove(slot)
            });
            assert_eq!(left, None, "Linux was not told of that slot");
            persistent.cursor = 0;
        }
    }

    pub(crate) fn vrma(&mut self, step: Step<'_>) {
        let entries = step.value["enter"].as_array().unwrap();
        let records: Vec<Record> = entries
            .iter()
            .map(|entry| {
                let [slot, v, r] = std::array::from_fn(|at| number(entry[at].as_str().unwrap()));
                Record {
                    index: slot as u32,
                    valid: vec![(v | 1, r)],
                    invalid: 0,
                }
            })
            .collect();
        self.world.restore(CLIENT, &encode(&records));
        let before = self.world.image(CLIENT).len();
        assert_eq!(
            self.world.control(abi::H_LPAR_START, CLIENT),
            Status::Success
        );
        assert_eq!(
            self.world.image(CLIENT).len(),
            before,
            "the VRMA that was restored is taken"
        );
        assert_eq!(self.world.client().vrma_shift(), 16);
    }

    pub(crate) fn write(&mut self, step: Step<'_>) {
        let running = self.world.client().state() == State::Running;
        if running {
            assert_eq!(
                self.world.control(abi::H_LPAR_PAUSE, CLIENT),
                Status::Success
            );
        }
        let mut buffer = unhex(step.text("buf"));
        let count = step.number("count");
        // Where it failed it may have looked at those 8 bytes, too.
        let given = u64::try_from(step.ret()).unwrap_or(count + 8);
        buffer.resize(buffer.len().max(given as usize), 0xee);
        buffer.truncate(given as usize);
        turn_headers(&mut buffer);
        if step.ret() > count.cast_signed() {
            self.because("write_ret_larger_than_count");
        } else if given < count {
            self.because("write_truncated_stop");
        }
        // What KVM refuses for its memory slot, it refuses with the old entry gone already.
        let refused = if step.ret() < 0 {
            self.slots.first_refused(&buffer)
        } else {
            None
        };
        buffer.truncate(refused.map_or(buffer.len(), |(at, _)| at));
        let handle = self.world.open(CLIENT, OpenFlags::WRITE.bits(), 0);
        if buffer.is_empty() {
            assert_eq!(step.ret(), 0);
        } else {
            let (status, consumed, bad) = self.world.write(handle, &buffer);
            match refused {
                _ if step.ret() >= 0 => {
                    assert_eq!((status, consumed, bad), (Status::Success, given, u64::MAX));
                }
                Some((at, slot)) if status == Status::Success => {
                    assert_eq!((consumed, step.number("errno")), (at as u64, EIO));
                    self.because("why_");
                    if self.entry(slot).is_some() {
                        self.set(slot, None);
                    }
                }
                _ => {
                    assert_eq!(status, Status::Parameter);
                    self.follow_a_bad_write(step, &buffer, consumed, bad);
                }
            }
        }
        assert!(matches!(
            self.world.close(handle),
            Status::Success | Status::Partial
        ));
        if running {
            let resumed = self
                .world
                .call(AGENT, abi::H_LPAR_RESUME, &[u64::from(CLIENT)]);
            assert_eq!(resumed.status(), Status::Success);
        }
        self.compared += 1;
    }

    /// Does what Linux has done of a piece that is refused: the entries before the bad one are entered and,
    /// where H_ENTER was what failed (EIO), the bad one's slot is empty.
    fn follow_a_bad_write(&mut self, step: Step<'_>, buffer: &[u8], consumed: u64, bad: u64) {
        let mut at = 0;
        loop {
            let header: [u8; 8] = buffer[at..at + 8].try_into().unwrap();
            let [i0, i1, i2, i3, n0, n1, ..] = header;
            let index = u64::from(u32::from_be_bytes([i0, i1, i2, i3]));
            let entries = at + 8;
            let end = entries + 16 * usize::from(u16::from_be_bytes([n0, n1]));
            if consumed as usize == at {
                assert_eq!(bad, index, "the record leaves the table");
                assert_eq!(step.number("errno"), 22);
                return;
            }
            if (consumed as usize) < end {
                let applied = (consumed as usize - entries) / 16;
                let good = (bad - index) as usize;
                assert!(applied <= good && entries + 16 * good < end);
                let valid = (applied..good)
                    .map(|number| {
                        let dword =
                            |at: usize| u64::from_be_bytes(buffer[at..at + 8].try_into().unwrap());
                        let at = entries + 16 * number;
                        (dword(at), dword(at + 8))
                    })
                    .collect();
                let lost = u16::from(step.number("errno") == EIO);
                let record = Record {
                    index: (index as usize + applied) as u32,
                    valid,
                    invalid: lost,
                };
                self.because("write_error_after_partial_effect");
                for (slot, entry) in record.slots() {
                    if entry.is_some() || self.entry(slot).is_some() {
                        self.set(slot, entry);
                    }
                }
                return;
            }
            at = end;
        }
    }

    pub(crate) fn reset(&mut self) {
        if self.world.client().state() == State::Running {
            assert_eq!(
                self.world.control(abi::H_LPAR_PAUSE, CLIENT),
                Status::Success
            );
        }
        assert_eq!(
            self.world.control(abi::H_LPAR_RESET, CLIENT),
            Status::Success
        );
        if let Some(handle) = self.persistent.handle.take() {
            assert_eq!(self.world.read(handle, 4096), Err(Status::Closed));
            assert_eq!(self.world.close(handle), Status::Success);
            self.because("reset");
            let handle = Some(self.world.open(CLIENT, 0, 0));
            self.persistent = Persistent {
                reset: true,
                ..Persistent::new(handle)
            };
            self.catch_up();
            self.persistent.told.fill(false);
        }
    }
}

/// Turns the headers of a stream from Linux's byte order into ours.
fn turn_headers(stream: &mut [u8]) {
    let mut at = 0;
    while let Some(header) = stream.get_mut(at..at + 8) {
        header[..4].reverse();
        header[4..6].reverse();
        header[6..].reverse();
        at += 8 + 16 * usize::from(u16::from_be_bytes([header[4], header[5]]));
    }
}
