//! How a library calls itself: the `DT_SONAME` of an ELF file, by which programs ask for it.

use std::fs::File;
use std::os::unix::fs::FileExt as _;

/// Tables and names beyond these are no library's.
const HEADERS_MAX: u64 = 512;
const DYNAMIC_BYTES_MAX: u64 = 64 * 1024;
const NAME_BYTES_MAX: usize = 256;

const PT_LOAD: u64 = 1;
const PT_DYNAMIC: u64 = 2;
const DT_STRTAB: u64 = 5;
const DT_SONAME: u64 = 14;

/// Reads the name from a 64-bit little-endian file; `None` if it has none or is something else.
pub(super) fn soname(file: &File) -> Option<String> {
    read(|offset, bytes| file.read_exact_at(bytes, offset).ok())
}

/// A part of a file's memory image: where it is there and in the file.
struct Segment {
    address: u64,
    offset: u64,
    size: u64,
}

fn read(at: impl Fn(u64, &mut [u8]) -> Option<()>) -> Option<String> {
    let bytes = |offset: u64, size: u64| -> Option<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(size).ok()?];
        at(offset, &mut bytes)?;
        Some(bytes)
    };
    let header = bytes(0, 64)?;
    // 64 bits, little-endian.
    if header.get(..6)? != b"\x7fELF\x02\x01" {
        return None;
    }
    let (table, size, count) =
        (number(&header, 32, 8)?, number(&header, 54, 2)?, number(&header, 56, 2)?);
    if size < 56 || count > HEADERS_MAX {
        return None;
    }
    let headers = bytes(table, size.checked_mul(count)?)?;
    let (mut loaded, mut dynamic) = (Vec::new(), None);
    for index in 0..usize::try_from(count).ok()? {
        let header = headers.get(index * usize::try_from(size).ok()?..)?;
        let kind = number(header, 0, 4)?;
        let (offset, address) = (number(header, 8, 8)?, number(header, 16, 8)?);
        let size = number(header, 32, 8)?;
        match kind {
            PT_LOAD => loaded.push(Segment { address, offset, size }),
            PT_DYNAMIC => dynamic = Some((offset, size.min(DYNAMIC_BYTES_MAX))),
            _ => {}
        }
    }
    let (offset, size) = dynamic?;
    let entries = bytes(offset, size)?;
    let find = |wanted: u64| {
        entries.chunks_exact(16).find_map(|entry| {
            (number(entry, 0, 8)? == wanted).then(|| number(entry, 8, 8)).flatten()
        })
    };
    let address = find(DT_STRTAB)?.checked_add(find(DT_SONAME)?)?;
    let segment = loaded
        .iter()
        .find(|segment| address >= segment.address && address - segment.address < segment.size)?;
    let start = segment.offset.checked_add(address - segment.address)?;
    let mut name = Vec::new();
    for index in 0..NAME_BYTES_MAX {
        let mut byte = [0];
        at(start.checked_add(u64::try_from(index).ok()?)?, &mut byte)?;
        if byte == [0] {
            break;
        }
        name.push(byte[0]);
    }
    let name = String::from_utf8(name).ok()?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    (name.contains(".so") && name.len() < NAME_BYTES_MAX && name.chars().all(plain)).then_some(name)
}

fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(size)?)?;
    Some(field.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A library with nothing but a name.
    pub(in super::super) fn library(name: &str) -> Vec<u8> {
        let mut file = vec![0; 64 + 2 * 56 + 3 * 16];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        let mut put = |at: usize, value: u64, size: usize| {
            file[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
        };
        put(32, 64, 8);
        put(54, 56, 2);
        put(56, 2, 2);
        let (dynamic, strings, base) = (64 + 2 * 56, 64 + 2 * 56 + 3 * 16, 0x1000);
        // The whole file, a page higher in memory.
        put(64, PT_LOAD, 4);
        put(64 + 16, base, 8);
        put(64 + 32, 4096, 8);
        put(64 + 56, PT_DYNAMIC, 4);
        put(64 + 56 + 8, dynamic, 8);
        put(64 + 56 + 32, 3 * 16, 8);
        for (index, (tag, value)) in
            [(DT_STRTAB, base + strings), (DT_SONAME, 1), (0, 0)].into_iter().enumerate()
        {
            let at = usize::try_from(dynamic).unwrap() + index * 16;
            put(at, tag, 8);
            put(at + 8, value, 8);
        }
        file.push(0);
        file.extend(name.as_bytes());
        file.push(0);
        file
    }

    fn of(bytes: &[u8]) -> Option<String> {
        read(|offset, out| {
            let start = usize::try_from(offset).ok()?;
            out.copy_from_slice(bytes.get(start..start.checked_add(out.len())?)?);
            Some(())
        })
    }

    #[test]
    fn a_library_says_its_name() {
        let whole = library("libcuda.so.1");
        assert_eq!(of(&whole).as_deref(), Some("libcuda.so.1"));
        assert_eq!(of(&library("../evil.so")), None);
        assert_eq!(of(&library("plain")), None);
        assert_eq!(of(b"#!/bin/sh\n"), None);
        for length in 0..whole.len() {
            assert_eq!(of(&whole[..length]), None, "{length}");
        }
    }

    #[test]
    fn no_file_makes_the_reading_fail() {
        let whole = library("libcuda.so.1");
        for index in 0..whole.len() {
            let mut wild = whole.clone();
            wild[index] = 0xff;
            let found = of(&wild);
            assert!(found.is_none_or(|name| name.contains(".so")));
        }
    }

    #[test]
    fn libraries_of_this_machine_have_names() {
        let own = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib/aarch64-linux-gnu/libc.so.6"];
        for path in own.iter().filter(|path| std::path::Path::new(path).exists()) {
            let file = File::open(path).expect("it is there");
            assert_eq!(soname(&file).as_deref(), Some("libc.so.6"));
        }
    }
}
