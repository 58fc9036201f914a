//! Inputs that are nearly right, for parsers of what comes from outside.

/// What is put into the place of a byte: what separates things, ends them, or is no text.
const BYTES: &[u8] = b"\0\n\r \"%,-:;=@[\\]{}09aA\x7f\x80\xff";

/// Calls a function with an input, and then with everything that is one byte away from it: cut off,
/// without the byte, with the byte twice, with another one in its place.
pub fn mutations(input: &[u8], mut check: impl FnMut(&[u8])) {
    check(input);
    for (at, byte) in input.iter().enumerate() {
        let (before, after) = (&input[..at], &input[at + 1..]);
        check(before);
        check(&[before, after].concat());
        check(&[before, &[*byte, *byte], after].concat());
        for other in BYTES {
            check(&[before, &[*other], after].concat());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_cut_removed_doubled_and_replaced() {
        let mut seen = Vec::new();
        mutations(b"ab", |bytes| seen.push(bytes.to_vec()));
        for expected in ["ab", "a", "b", "aab", "abb", "a:", ":b", ""] {
            assert!(seen.contains(&expected.as_bytes().to_vec()), "{expected:?}");
        }
        assert_eq!(seen.len(), 1 + 2 * (3 + BYTES.len()));
    }
}
