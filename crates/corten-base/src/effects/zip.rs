//! As much of the zip format as Python's wheels use: stored and deflated members.

use std::io::Read as _;

/// Members of one archive: the largest wheels have 30,000.
const MEMBERS_MAX: usize = 200_000;

/// One unpacked member: larger ones exist only in wheels with whole models.
const MEMBER_BYTES_MAX: u64 = 256 << 20;

/// One file of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) mode: u32,
    pub(super) bytes: Vec<u8>,
}

/// Reads all files of an archive; directories are left out. The error says what is wrong.
pub(super) fn read(archive: &[u8]) -> Result<Vec<Member>, &'static str> {
    let (count, mut directory) = central_directory(archive).ok_or("is not a zip archive")?;
    if count > MEMBERS_MAX {
        return Err("has too many members");
    }
    let mut members = Vec::with_capacity(count);
    for _ in 0..count {
        let (header, rest) = central_header(directory).ok_or("has a damaged directory")?;
        directory = rest;
        if !header.name.ends_with('/') {
            let mode = header.mode;
            let bytes = content(archive, &header)?;
            members.push(Member { name: header.name, mode, bytes });
        }
    }
    Ok(members)
}

struct Header {
    name: String,
    mode: u32,
    method: u16,
    flags: u16,
    crc: u32,
    stored: usize,
    size: u64,
    offset: usize,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn usize_at(bytes: &[u8], at: usize) -> Option<usize> {
    usize::try_from(u32_at(bytes, at)?).ok()
}

/// Finds the end record and returns the number of members and the directory.
fn central_directory(archive: &[u8]) -> Option<(usize, &[u8])> {
    const END_BYTES: usize = 22;
    // A comment of at most 64 KiB may follow the end record.
    let last = archive.len().checked_sub(END_BYTES)?;
    let first = last.saturating_sub(0xffff);
    let end = (first..=last).rev().find(|at| archive.get(*at..*at + 4) == Some(b"PK\x05\x06"))?;
    let count = u16_at(archive, end + 10)?;
    let (size, offset) = (usize_at(archive, end + 12)?, usize_at(archive, end + 16)?);
    Some((usize::from(count), archive.get(offset..offset.checked_add(size)?)?))
}

fn central_header(bytes: &[u8]) -> Option<(Header, &[u8])> {
    if bytes.get(..4)? != b"PK\x01\x02" {
        return None;
    }
    let length = |at| u16_at(bytes, at).map(usize::from);
    let (name, extra, comment) = (length(28)?, length(30)?, length(32)?);
    let header = Header {
        name: String::from_utf8(bytes.get(46..46 + name)?.to_vec()).ok()?,
        mode: u32_at(bytes, 38)? >> 16 & 0o777,
        method: u16_at(bytes, 10)?,
        flags: u16_at(bytes, 8)?,
        crc: u32_at(bytes, 16)?,
        stored: usize_at(bytes, 20)?,
        size: u64::from(u32_at(bytes, 24)?),
        offset: usize_at(bytes, 42)?,
    };
    Some((header, bytes.get(46 + name + extra + comment..)?))
}

fn content(archive: &[u8], header: &Header) -> Result<Vec<u8>, &'static str> {
    const ENCRYPTED: u16 = 1;
    if header.flags & ENCRYPTED != 0 {
        return Err("has an encrypted member");
    }
    if header.size > MEMBER_BYTES_MAX {
        return Err("has a member that is too large");
    }
    let stored = || {
        let local = archive.get(header.offset..)?;
        if local.get(..4)? != b"PK\x03\x04" {
            return None;
        }
        let start = 30 + usize::from(u16_at(local, 26)?) + usize::from(u16_at(local, 28)?);
        local.get(start..start.checked_add(header.stored)?)
    };
    let stored = stored().ok_or("has a damaged member")?;
    let bytes = match header.method {
        0 => stored.to_vec(),
        8 => {
            let mut bytes = Vec::new();
            let mut inflater = flate2::read::DeflateDecoder::new(stored).take(header.size + 1);
            inflater.read_to_end(&mut bytes).map_err(|_| "has a damaged member")?;
            bytes
        }
        _ => return Err("has a member that is compressed in an unknown way"),
    };
    let mut crc = flate2::Crc::new();
    crc.update(&bytes);
    if bytes.len() as u64 != header.size || crc.sum() != header.crc {
        return Err("has a damaged member");
    }
    Ok(bytes)
}

/// Writes an archive of deflated members, for tests.
#[cfg(test)]
pub(super) fn write(members: &[(&str, &[u8])]) -> Vec<u8> {
    use std::io::Write as _;
    let (mut out, mut directory) = (Vec::new(), Vec::new());
    for (name, bytes) in members {
        let mut deflater =
            flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
        deflater.write_all(bytes).unwrap();
        let stored = deflater.finish().unwrap();
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        let number = |value: usize| u32::try_from(value).unwrap().to_le_bytes();
        let short = |value: usize| u16::try_from(value).unwrap().to_le_bytes();
        let mut common = vec![20, 0, 0, 0, 8, 0, 0, 0, 0x21, 0x28];
        for value in [crc.sum() as usize, stored.len(), bytes.len()] {
            common.extend_from_slice(&number(value));
        }
        common.extend_from_slice(&short(name.len()));
        common.extend_from_slice(&[0, 0]);
        directory.extend_from_slice(b"PK\x01\x02\x14\x03");
        directory.extend_from_slice(&common);
        directory.extend_from_slice(&[0; 6]);
        directory.extend_from_slice(&number(0o100_644 << 16));
        directory.extend_from_slice(&number(out.len()));
        directory.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"PK\x03\x04");
        out.extend_from_slice(&common);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(&stored);
    }
    let offset = out.len();
    let count = u16::try_from(members.len()).unwrap().to_le_bytes();
    out.extend_from_slice(&directory);
    out.extend_from_slice(b"PK\x05\x06\0\0\0\0");
    out.extend_from_slice(&count);
    out.extend_from_slice(&count);
    out.extend_from_slice(&u32::try_from(directory.len()).unwrap().to_le_bytes());
    out.extend_from_slice(&u32::try_from(offset).unwrap().to_le_bytes());
    out.extend_from_slice(&[0, 0]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_read_back_and_directories_are_not() {
        let archive = write(&[("a/", b""), ("a/b.py", b"print(1)\n"), ("empty", b"")]);
        let members = read(&archive).unwrap();
        let found: Vec<_> =
            members.iter().map(|m| (m.name.as_str(), m.bytes.as_slice(), m.mode)).collect();
        assert_eq!(found, [("a/b.py", &b"print(1)\n"[..], 0o644), ("empty", &b""[..], 0o644)]);
        assert_eq!(read(b"PK"), Err("is not a zip archive"));
    }

    proptest::proptest! {
        #[test]
        fn mutated_archives_never_panic(at in 0_usize..200, byte: u8, cut in 0_usize..200) {
            let mut archive = write(&[("a/b.py", b"print(1)\n"), ("c", b"xxxxxxxxxxxxxxxxxx")]);
            if let Some(place) = archive.get_mut(at) {
                *place = byte;
            }
            drop(read(&archive));
            archive.truncate(cut);
            drop(read(&archive));
        }
    }
}
