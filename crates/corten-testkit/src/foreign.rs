//! A program for another processor, written by hand so that no test needs a compiler for it.

/// Where the program is loaded.
const BASE: u64 = 0x40_0000;

/// The headers of the file: one of ELF, one of the only segment.
const HEADERS_BYTES: u64 = 64 + 56;

/// What [`arm64`] prints.
pub const ARM64_SAYS: &str = "this is arm64\n";

/// The directory that [`arm64`] makes.
pub const ARM64_MAKES: &str = "/made-on-arm64";

/// A static ELF program for 64-bit ARM that prints [`ARM64_SAYS`], makes [`ARM64_MAKES`] and ends with
/// code 0.
pub fn arm64() -> Vec<u8> {
    let (text, path) = (ARM64_SAYS.as_bytes(), [ARM64_MAKES.as_bytes(), b"\0"].concat());
    let mut code = Vec::new();
    let texts_at = u32::try_from(4 * 13).unwrap_or_default();
    let length = u32::try_from(text.len()).unwrap_or_default();
    // write(1, text, length)
    code.extend([movz(0, 1), adr(1, texts_at - 4), movz(2, length), movz(8, 64), SVC]);
    // mkdirat(AT_FDCWD, path, 0755)
    code.extend([movn(0, 99), adr(1, texts_at + length - 24), movz(2, 0o755), movz(8, 34), SVC]);
    // exit(0)
    code.extend([movz(0, 0), movz(8, 93), SVC]);
    let code = code.into_iter().flat_map(u32::to_le_bytes);
    let body: Vec<u8> = code.chain(text.iter().copied()).chain(path).collect();

    let size = HEADERS_BYTES + body.len() as u64;
    let mut file = Vec::new();
    file.extend(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    // An executable file for AArch64, version 1.
    file.extend([2, 0, 183, 0, 1, 0, 0, 0]);
    for number in [BASE + HEADERS_BYTES, 64, 0] {
        file.extend(u64::to_le_bytes(number));
    }
    // No flags; sizes of the headers; one segment and no section.
    file.extend([0, 0, 0, 0, 64, 0, 56, 0, 1, 0, 64, 0, 0, 0, 0, 0]);
    // A segment that is loaded, to be read and executed: the whole file.
    file.extend([1, 0, 0, 0, 5, 0, 0, 0]);
    for number in [0, BASE, BASE, size, size, 0x1000] {
        file.extend(u64::to_le_bytes(number));
    }
    file.extend(body);
    file
}

/// Calls the kernel.
const SVC: u32 = 0xd400_0001;

/// Puts a small number into a register.
fn movz(register: u32, number: u32) -> u32 {
    0xd280_0000 | (number << 5) | register
}

/// Puts the complement of a small number into a register.
fn movn(register: u32, number: u32) -> u32 {
    0x9280_0000 | (number << 5) | register
}

/// Puts an address, so many bytes after this instruction, into a register.
fn adr(register: u32, distance: u32) -> u32 {
    0x1000_0000 | ((distance & 3) << 29) | ((distance >> 2) << 5) | register
}
