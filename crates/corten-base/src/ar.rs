//! The container of a Debian package: the `ar` format, as far as packages use it.

use std::io::{self, Read};

/// What the file begins with.
const MAGIC: &[u8; 8] = b"!<arch>\n";

/// Debian packages have three members; signed ones a few more.
const MEMBERS_MAX: u32 = 32;

/// Bytes that are no package container.
#[derive(Debug, thiserror::Error)]
pub enum ArError {
    /// The stream could not be read.
    #[error("failed to read the package container")]
    Read(#[source] io::Error),
    /// The file does not begin as one.
    #[error("the file is not an ar archive")]
    Magic,
    /// A header of a member cannot be understood.
    #[error("the header of member {0} is damaged")]
    Header(u32),
    /// There are more members than any package has.
    #[error("there are more than {MEMBERS_MAX} members")]
    TooMany,
}

/// Reads members one after the other; [`Read`] gives the content of the current one.
#[derive(Debug)]
pub(crate) struct Reader<R> {
    inner: R,
    members: u32,
    /// What is left of the current member.
    remaining: u64,
    /// Whether a byte of padding follows.
    odd: bool,
}

impl<R: Read> Reader<R> {
    pub(crate) fn new(mut inner: R) -> Result<Self, ArError> {
        let mut magic = [0; 8];
        inner.read_exact(&mut magic).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => ArError::Magic,
            _ => ArError::Read(error),
        })?;
        if &magic != MAGIC {
            return Err(ArError::Magic);
        }
        Ok(Self { inner, members: 0, remaining: 0, odd: false })
    }

    /// Goes to the next member and returns its name and size; `None` at the end.
    pub(crate) fn next_member(&mut self) -> Result<Option<(String, u64)>, ArError> {
        let skip = self.remaining + u64::from(self.odd);
        io::copy(&mut (&mut self.inner).take(skip), &mut io::sink()).map_err(ArError::Read)?;
        (self.remaining, self.odd) = (0, false);
        let mut header = Vec::with_capacity(60);
        (&mut self.inner).take(60).read_to_end(&mut header).map_err(ArError::Read)?;
        if header.is_empty() {
            return Ok(None);
        }
        self.members += 1;
        if self.members > MEMBERS_MAX {
            return Err(ArError::TooMany);
        }
        let damaged = || ArError::Header(self.members);
        let field = |from: usize, to: usize| {
            let bytes = header.get(from..to)?;
            Some(std::str::from_utf8(bytes).ok()?.trim_ascii_end())
        };
        if header.get(58..60) != Some(b"`\n") {
            return Err(damaged());
        }
        let name = field(0, 16).ok_or_else(damaged)?;
        let name = name.strip_suffix('/').unwrap_or(name).to_owned();
        let size: u64 = field(48, 58).and_then(|text| text.parse().ok()).ok_or_else(damaged)?;
        (self.remaining, self.odd) = (size, size % 2 == 1);
        Ok(Some((name, size)))
    }
}

impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = (&mut self.inner).take(self.remaining).read(buffer)?;
        self.remaining -= count as u64;
        if count == 0 && self.remaining > 0 && !buffer.is_empty() {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
        }
        Ok(count)
    }
}

/// Writes a container, for tests that need packages.
#[cfg(test)]
pub(crate) fn write(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = MAGIC.to_vec();
    for (name, content) in members {
        let header =
            format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n", 0, 0, 0, "100644", content.len());
        out.extend_from_slice(header.as_bytes());
        out.extend_from_slice(content);
        if content.len() % 2 == 1 {
            out.push(b'\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(bytes: &[u8]) -> Result<Vec<(String, Vec<u8>)>, ArError> {
        let mut reader = Reader::new(bytes)?;
        let mut all = Vec::new();
        while let Some((name, _)) = reader.next_member()? {
            let mut content = Vec::new();
            reader.read_to_end(&mut content).map_err(ArError::Read)?;
            all.push((name, content));
        }
        Ok(all)
    }

    #[test]
    fn members_come_in_order_with_padding_skipped() {
        let file = write(&[("debian-binary/", b"2.0"), ("a", b""), ("b", b"xy")]);
        let found = members(&file).unwrap();
        assert_eq!(
            found,
            [
                ("debian-binary".into(), b"2.0".to_vec()),
                ("a".into(), vec![]),
                ("b".into(), b"xy".to_vec())
            ]
        );
        let mut reader = Reader::new(file.as_slice()).unwrap();
        reader.next_member().unwrap();
        assert_eq!(reader.next_member().unwrap().unwrap().0, "a");
    }

    #[test]
    fn damaged_files_are_refused() {
        assert!(matches!(members(b""), Err(ArError::Magic)));
        assert!(matches!(members(b"!<arch>x"), Err(ArError::Magic)));
        let good = write(&[("a", b"0123456789")]);
        assert!(matches!(members(&good[..20]), Err(ArError::Header(1))));
        assert!(matches!(members(&good[..72]), Err(ArError::Read(_))));
        let bad = String::from_utf8(good).unwrap().replace("10        `", "-1        `");
        assert!(matches!(members(bad.as_bytes()), Err(ArError::Header(1))));
    }

    proptest::proptest! {
        #[test]
        fn mutated_files_never_panic(at in 0_usize..90, byte: u8) {
            let mut file = write(&[("a", b"0123456789"), ("b", b"x")]);
            if let Some(place) = file.get_mut(at) {
                *place = byte;
            }
            drop(members(&file));
        }
    }
}
