//! Keys that leave a container alone again.

use std::str::FromStr;

/// A sequence of keys, as the bytes that a terminal sends for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetachKeys {
    sequence: Vec<u8>,
    /// How many of them were typed just now; they are held back until it is clear what they are.
    typed: usize,
}

/// No keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no key")]
pub struct ParseKeysError(String);

impl ParseKeysError {
    /// What to write instead.
    pub fn hint(&self) -> &'static str {
        "write keys with commas between them, each one character or `ctrl-` with `a` to `z`, `@`, `[`, \
         `\\`, `]`, `^` or `_`: for example `ctrl-p,ctrl-q`; nothing at all for no such keys"
    }
}

impl Default for DetachKeys {
    /// Docker's: ctrl-p, ctrl-q.
    fn default() -> Self {
        Self { sequence: vec![0x10, 0x11], typed: 0 }
    }
}

impl FromStr for DetachKeys {
    type Err = ParseKeysError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let keys = text.split(',').filter(|_| !text.is_empty());
        Ok(Self { sequence: keys.map(key).collect::<Result<_, _>>()?, typed: 0 })
    }
}

fn key(text: &str) -> Result<u8, ParseKeysError> {
    let unknown = || ParseKeysError(text.to_owned());
    let control = text.strip_prefix("ctrl-").map(str::as_bytes);
    match (text.as_bytes(), control) {
        (_, Some([letter @ b'a'..=b'z'])) => Ok(letter - b'a' + 1),
        (_, Some([sign @ (b'@' | b'[' | b'\\' | b']' | b'^' | b'_')])) => Ok(sign - b'@'),
        (b"DEL", _) => Ok(0x7f),
        ([one], None) if one.is_ascii_graphic() => Ok(*one),
        _ => Err(unknown()),
    }
}

impl DetachKeys {
    /// Takes what was typed and adds to `passed` what goes to the container. Returns true when the whole
    /// sequence was typed; what comes after it is dropped.
    pub(crate) fn filter(&mut self, bytes: &[u8], passed: &mut Vec<u8>) -> bool {
        if self.sequence.is_empty() {
            passed.extend_from_slice(bytes);
            return false;
        }
        for byte in bytes {
            while self.sequence.get(self.typed) != Some(byte) && self.typed > 0 {
                // The longest end of what was held back with which the sequence may begin anew.
                let held = &self.sequence[..self.typed];
                let keep = (0..self.typed).rev().find(|keep| held.ends_with(&held[..*keep]));
                let keep = keep.unwrap_or(0);
                passed.extend_from_slice(&self.sequence[..self.typed - keep]);
                self.typed = keep;
            }
            if self.sequence.get(self.typed) == Some(byte) {
                self.typed += 1;
            } else {
                passed.push(*byte);
            }
            if self.typed == self.sequence.len() {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Types in pieces; returns what was passed, and whether the sequence was complete.
    fn typed(keys: &str, pieces: &[&[u8]]) -> (Vec<u8>, bool) {
        let mut keys: DetachKeys = keys.parse().unwrap();
        let mut passed = Vec::new();
        let ended = pieces.iter().any(|piece| keys.filter(piece, &mut passed));
        (passed, ended)
    }

    #[test]
    fn keys_are_read() {
        let bytes = |text: &str| text.parse::<DetachKeys>().map(|keys| keys.sequence);
        assert_eq!(bytes("ctrl-p,ctrl-q"), Ok(DetachKeys::default().sequence));
        assert_eq!(bytes("a,ctrl-@,ctrl-[,DEL"), Ok(vec![b'a', 0, 27, 127]));
        assert_eq!(bytes(""), Ok(Vec::new()));
        for text in ["ctrl-", "ctrl-P", "ab", "ctrl-a,,b", "ü", "CTRL-a"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_sequence_is_found_across_reads_and_does_not_reach_the_container() {
        assert_eq!(typed("ctrl-p,ctrl-q", &[b"ls\r\x10", b"\x11rest"]), (b"ls\r".to_vec(), true));
        assert_eq!(typed("ctrl-p,ctrl-q", &[b"\x10\x10\x11"]), (b"\x10".to_vec(), true));
    }

    #[test]
    fn what_only_begins_like_it_is_passed_on() {
        assert_eq!(typed("ctrl-p,ctrl-q", &[b"\x10", b"x"]), (b"\x10x".to_vec(), false));
        assert_eq!(typed("a,b,a,b,c", &[b"abababc"]), (b"ab".to_vec(), true));
        assert_eq!(typed("a,a,b", &[b"aaaac"]), (b"aaaac".to_vec(), false));
        assert_eq!(typed("", &[b"\x10\x11"]), (b"\x10\x11".to_vec(), false));
    }
}
