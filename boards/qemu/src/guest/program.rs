//! The program of a PAPR guest: a kernel or something like one, from an ELF file or a plain one, made flat.
//!
//! Whatever addresses it is linked at, it is put at [`LOAD_ADDRESS`], where QEMU's pseries machine puts kernels too, and
//! entered in real mode: it moves to where it wants to be (Linux) or runs where it is (position-independent code).

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use object::Endianness;
use object::elf::{ELFCLASS64, ELFMAG, EM_PPC64, ET_DYN, ET_EXEC, FileHeader64, PT_LOAD};
use object::read::elf::{FileHeader as _, ProgramHeader as _};

/// Guest real address that programs are loaded at.
pub const LOAD_ADDRESS: u64 = 0x40_0000;
/// The most that a program may take: far above any kernel's size, far below what a wrong address asks for.
const LARGEST: u64 = 1 << 30;
/// Where an ELF file says its class.
const CLASS: usize = 4;

/// A program, ready to be put into a partition's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its bytes from [`LOAD_ADDRESS`] on.
    pub bytes: Vec<u8>,
    /// What it takes of memory from there on: more than its bytes if it wants zeros behind them.
    pub size: u64,
    /// Guest real address of its first instruction.
    pub entry: u64,
    /// It is entered in little-endian mode.
    pub little_endian: bool,
}

/// What is loaded of an ELF file, in one piece.
struct Segment<'a> {
    /// Its address as linked, by which the entry is known.
    address: u64,
    /// Where it belongs in memory, beside the others.
    place: u64,
    size: u64,
    data: &'a [u8],
}

impl Program {
    /// Reads the file at `path`. What is no ELF file is taken as it is, begins at its first byte, and is big-endian.
    ///
    /// # Errors
    /// If the file cannot be read, or is an ELF file that cannot be loaded.
    pub fn read(path: &Path) -> Result<Self> {
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Self::new(bytes).with_context(|| format!("{} cannot be loaded", path.display()))
    }

    fn new(file: Vec<u8>) -> Result<Self> {
        ensure!(!file.is_empty(), "it is empty");
        if !file.starts_with(&ELFMAG) {
            return Ok(Self {
                size: u64::try_from(file.len())?,
                bytes: file,
                entry: LOAD_ADDRESS,
                little_endian: false,
            });
        }
        ensure!(
            file.get(CLASS) == Some(&ELFCLASS64),
            "it is a 32-bit ELF file"
        );
        Self::flatten(&file)
    }

    fn flatten(elf: &[u8]) -> Result<Self> {
        let header = FileHeader64::<Endianness>::parse(elf)?;
        let endian = header.endian()?;
        ensure!(
            header.e_machine(endian) == EM_PPC64,
            "it is not for 64-bit POWER"
        );
        ensure!(
            [ET_EXEC, ET_DYN].contains(&header.e_type(endian)),
            "it is not linked"
        );
        let segments = segments(header, endian, elf)?;
        let lowest = segments.iter().map(|segment| segment.place).min();
        let lowest = lowest.context("it has nothing to load")?;
        let mut program = Self {
            bytes: Vec::new(),
            size: 0,
            entry: 0,
            little_endian: endian == Endianness::Little,
        };
        let mut entry = None;
        for segment in &segments {
            let start = segment.place - lowest;
            let end = start.checked_add(segment.size);
            let end = end
                .filter(|&end| end <= LARGEST)
                .context("its segments are too far from each other")?;
            program.size = program.size.max(end);
            program.put(usize::try_from(start)?, segment.data);
            let offset = header.e_entry(endian).wrapping_sub(segment.address);
            if offset < segment.size {
                entry = Some(LOAD_ADDRESS + start + offset);
            }
        }
        program.entry = entry.context("its entry is not in what is loaded")?;
        ensure!(
            program.entry.is_multiple_of(4),
            "its entry is no instruction"
        );
        Ok(program)
    }

    fn put(&mut self, start: usize, data: &[u8]) {
        let end = start + data.len();
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        if let Some(place) = self.bytes.get_mut(start..end) {
            place.copy_from_slice(data);
        }
    }

    /// Guest real address behind what it takes.
    #[must_use]
    pub fn end(&self) -> u64 {
        LOAD_ADDRESS + self.size
    }
}

/// The segments that are loaded, none of them over another.
fn segments<'a>(
    header: &FileHeader64<Endianness>,
    endian: Endianness,
    elf: &'a [u8],
) -> Result<Vec<Segment<'a>>> {
    let headers = header.program_headers(endian, elf)?;
    let loaded = || {
        headers
            .iter()
            .filter(|segment| segment.p_type(endian) == PT_LOAD && segment.p_memsz(endian) != 0)
    };
    // Some linkers leave the physical addresses out.
    let physical = loaded().count() == 1 || loaded().any(|segment| segment.p_paddr(endian) != 0);
    let mut segments = Vec::new();
    for segment in loaded() {
        let size = segment.p_memsz(endian);
        let data = segment.data(endian, elf);
        let data = data.ok().context("a segment lies outside the file")?;
        ensure!(
            u64::try_from(data.len())? <= size,
            "a segment is larger in the file than in memory"
        );
        let address = segment.p_vaddr(endian);
        segments.push(Segment {
            address,
            place: if physical {
                segment.p_paddr(endian)
            } else {
                address
            },
            size,
            data,
        });
    }
    segments.sort_by_key(|segment| segment.place);
    for (one, next) in segments.iter().zip(segments.iter().skip(1)) {
        if next.place - one.place < one.size {
            bail!("its segments lie over each other");
        }
    }
    Ok(segments)
}

#[cfg(test)]
mod tests {
    use object::elf::{ELFDATA2LSB, ELFDATA2MSB, EM_X86_64, ET_REL};

    use super::*;

    /// A segment: virtual and physical address, bytes, size in memory.
    type Piece<'a> = (u64, u64, &'a [u8], u64);

    struct Elf {
        little_endian: bool,
        kind: u16,
        machine: u16,
        entry: u64,
    }

    const VMLINUX: Elf = Elf {
        little_endian: true,
        kind: ET_EXEC,
        machine: EM_PPC64,
        entry: 0xc000_0000_0000_0000,
    };

    impl Elf {
        fn file(&self, pieces: &[Piece<'_>]) -> Vec<u8> {
            let order = |bytes: Vec<u8>| -> Vec<u8> {
                if self.little_endian {
                    bytes.into_iter().rev().collect()
                } else {
                    bytes
                }
            };
            let half = |value: u16| order(value.to_be_bytes().to_vec());
            let word = |value: u32| order(value.to_be_bytes().to_vec());
            let dword = |value: u64| order(value.to_be_bytes().to_vec());
            let data = if self.little_endian {
                ELFDATA2LSB
            } else {
                ELFDATA2MSB
            };
            let mut file = vec![0x7f, b'E', b'L', b'F', ELFCLASS64, data, 1, 0];
            file.extend([0; 8]);
            file.extend([half(self.kind), half(self.machine), word(1)].concat());
            file.extend([dword(self.entry), dword(64), dword(0), word(2)].concat());
            let count = u16::try_from(pieces.len()).expect("a few");
            file.extend([64, 56, count, 64, 0, 0].map(half).concat());
            let mut offset = 64 + 56 * u64::from(count);
            for &(address, place, bytes, size) in pieces {
                let length = bytes.len() as u64;
                file.extend([word(PT_LOAD), word(7)].concat());
                let fields = [offset, address, place, length, size, 0x1_0000];
                file.extend(fields.map(dword).concat());
                offset += length;
            }
            for (_, _, bytes, _) in pieces {
                file.extend(*bytes);
            }
            file
        }
    }

    #[test]
    fn linux_is_put_where_kernels_are() {
        let base = VMLINUX.entry;
        let file = VMLINUX.file(&[(base, 0, b"kernel", 0x1000)]);
        let program = Program::new(file).expect("a program");
        let expected = Program {
            bytes: b"kernel".to_vec(),
            size: 0x1000,
            entry: LOAD_ADDRESS,
            little_endian: true,
        };
        assert_eq!(program, expected);
        assert_eq!(program.end(), LOAD_ADDRESS + 0x1000);
    }

    #[test]
    fn position_independent_programs_of_either_endianness_are_too() {
        for little_endian in [false, true] {
            let pie = Elf {
                little_endian,
                kind: ET_DYN,
                machine: EM_PPC64,
                entry: 0x104,
            };
            // Segments in no order, and the second with a hole before it.
            let pieces: [Piece<'_>; 2] = [
                (0x200, 0x200, b"data", 0x100),
                (0x100, 0x100, b"somecode", 8),
            ];
            for pieces in [pieces, pieces.map(|piece| (piece.0, 0, piece.2, piece.3))] {
                let program = Program::new(pie.file(&pieces)).expect("a program");
                assert_eq!(program.entry, LOAD_ADDRESS + 4);
                assert_eq!(program.little_endian, little_endian);
                assert_eq!((program.bytes.len(), program.size), (0x104, 0x200));
                assert_eq!(program.bytes.get(..8), Some(b"somecode".as_slice()));
                assert_eq!(program.bytes.get(0x100..), Some(b"data".as_slice()));
            }
        }
    }

    #[test]
    fn what_is_no_elf_file_is_taken_as_it_is() {
        let program = Program::new(vec![0x48, 0, 0, 8]).expect("a program");
        assert_eq!((program.size, program.entry), (4, LOAD_ADDRESS));
        assert!(!program.little_endian);
    }

    #[test]
    fn what_cannot_be_loaded_is_refused() {
        let refusal = |elf: Elf, pieces: &[Piece<'_>]| {
            let error = Program::new(elf.file(pieces)).expect_err("refused");
            error.to_string()
        };
        let one: &[Piece<'_>] = &[(0, 0, b"code", 4)];
        let pie = || Elf {
            kind: ET_DYN,
            entry: 0,
            ..VMLINUX
        };
        let of = |machine| Elf { machine, ..pie() };
        assert_eq!(refusal(of(EM_X86_64), one), "it is not for 64-bit POWER");
        let of = |kind| Elf { kind, ..pie() };
        assert_eq!(refusal(of(ET_REL), one), "it is not linked");
        assert_eq!(refusal(pie(), &[]), "it has nothing to load");
        let at = |entry| Elf { entry, ..pie() };
        let outside = "its entry is not in what is loaded";
        assert_eq!(refusal(at(4), one), outside);
        assert_eq!(refusal(at(2), one), "its entry is no instruction");
        assert_eq!(
            refusal(pie(), &[(0, 0, b"code", 3)]),
            "a segment is larger in the file than in memory"
        );
        assert_eq!(
            refusal(pie(), &[(0, 1, b"code", 4), (2, 3, b"code", 4)]),
            "its segments lie over each other"
        );
        for far in [1 << 40, u64::MAX - 3] {
            assert_eq!(
                refusal(pie(), &[(0, 0, b"code", 4), (far, far, b"code", 4)]),
                "its segments are too far from each other"
            );
        }
        let mut cut = pie().file(one);
        cut.truncate(cut.len() - 1);
        assert!(Program::new(cut.clone()).is_err());
        for length in 1..64 {
            cut.truncate(64 - length);
            if cut.starts_with(&ELFMAG) {
                assert!(Program::new(cut.clone()).is_err(), "{length}");
            }
        }
        assert!(Program::new(Vec::new()).is_err());
        let mut narrow = pie().file(one);
        if let Some(class) = narrow.get_mut(CLASS) {
            *class = 1;
        }
        let error = Program::new(narrow).expect_err("refused");
        assert_eq!(error.to_string(), "it is a 32-bit ELF file");
    }
}
