//! A stream in pieces whose borders depend on the content.
//!
//! Where a piece ends is decided by the last 64 bytes alone, so a change moves the borders near it
//! and no others: all other pieces stay what they are and need not be written again.

use std::io::{self, Write};

use super::record::PIECE_BYTES_MAX;

/// No border comes before this: many small pieces cost more than they save.
const BYTES_MIN: usize = 512 << 10;

/// The bits that are zero at a border: 20 of them, so one byte in a mebibyte is one. They are the
/// upper ones, which depend on the most bytes.
const BORDER_MASK: u64 = !0 << 44;

/// A random number for each byte; part of the format only in so far as another table makes other
/// borders, and so exports everything once more.
const GEAR: [u64; 256] = gear();

/// The numbers of `SplitMix64` from zero.
const fn gear() -> [u64; 256] {
    let mut table = [0; 256];
    let mut state: u64 = 0;
    let mut index = 0;
    while index < table.len() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = state;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        table[index] = value ^ (value >> 31);
        index += 1;
    }
    table
}

/// Cuts what is written to it and hands the pieces on.
pub(crate) struct Splitter<F> {
    piece: Vec<u8>,
    hash: u64,
    hand_on: F,
}

impl<F: FnMut(Vec<u8>) -> io::Result<()>> Splitter<F> {
    pub(crate) fn new(hand_on: F) -> Self {
        Self { piece: Vec::new(), hash: 0, hand_on }
    }

    /// Hands the last piece on.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        if self.piece.is_empty() { Ok(()) } else { (self.hand_on)(self.piece) }
    }

    /// Returns how many of these bytes belong to the current piece, and whether it ends there.
    fn border(&mut self, bytes: &[u8]) -> (usize, bool) {
        let largest = usize::try_from(PIECE_BYTES_MAX).unwrap_or(usize::MAX);
        let mut length = self.piece.len();
        for (index, byte) in bytes.iter().enumerate() {
            self.hash = (self.hash << 1).wrapping_add(GEAR[usize::from(*byte)]);
            length += 1;
            let is_border = length >= BYTES_MIN && self.hash & BORDER_MASK == 0;
            if is_border || length >= largest {
                return (index + 1, true);
            }
        }
        (bytes.len(), false)
    }
}

impl<F: FnMut(Vec<u8>) -> io::Result<()>> Write for Splitter<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (count, ends) = self.border(bytes);
        self.piece.extend_from_slice(bytes.get(..count).unwrap_or_default());
        if ends {
            self.hash = 0;
            (self.hand_on)(std::mem::take(&mut self.piece))?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(bytes: &[u8], step: usize) -> Vec<Vec<u8>> {
        let mut pieces = Vec::new();
        let mut splitter = Splitter::new(|piece| {
            pieces.push(piece);
            Ok(())
        });
        for part in bytes.chunks(step) {
            splitter.write_all(part).unwrap();
        }
        splitter.finish().unwrap();
        pieces
    }

    /// Bytes without any pattern, the same each time.
    fn noise(count: usize) -> Vec<u8> {
        let mut state: u64 = 1;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        };
        (0..count / 8).flat_map(|_| next()).collect()
    }

    #[test]
    fn the_pieces_make_the_stream_again_however_it_was_written() {
        let bytes = noise(24 << 20);
        let pieces = split(&bytes, 70_001);
        assert_eq!(pieces.concat(), bytes);
        assert_eq!(pieces, split(&bytes, 4096));
        let largest = usize::try_from(PIECE_BYTES_MAX).unwrap();
        assert!(pieces.iter().all(|piece| piece.len() <= largest));
        assert!((6..=24).contains(&pieces.len()), "{} pieces", pieces.len());
    }

    #[test]
    fn a_change_leaves_all_pieces_but_those_near_it() {
        let bytes = noise(24 << 20);
        let mut changed = bytes.clone();
        changed.splice(9_000_000..9_000_010, *b"something else and longer");
        let (before, after) = (split(&bytes, 65_536), split(&changed, 65_536));
        let new = after.iter().filter(|piece| !before.contains(piece)).count();
        assert!(new <= 3, "{new} of {} pieces are new", after.len());
    }

    #[test]
    fn a_stream_without_borders_is_cut_at_the_largest_size() {
        let pieces = split(&vec![0; 20 << 20], 1 << 20);
        let sizes: Vec<usize> = pieces.iter().map(Vec::len).collect();
        assert_eq!(sizes.iter().sum::<usize>(), 20 << 20);
        assert!(sizes.iter().all(|size| *size <= 8 << 20), "{sizes:?}");
    }
}
