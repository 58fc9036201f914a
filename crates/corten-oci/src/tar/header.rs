//! The fields of a 512-byte header block.

use super::BLOCK_BYTES;

/// One header block.
pub(super) type Block = [u8; BLOCK_BYTES];

/// A field: where it lies in the block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    at: usize,
    length: usize,
}

const fn field(at: usize, length: usize) -> Field {
    Field { at, length }
}

pub(super) const NAME: Field = field(0, 100);
pub(super) const MODE: Field = field(100, 8);
pub(super) const UID: Field = field(108, 8);
pub(super) const GID: Field = field(116, 8);
pub(super) const SIZE: Field = field(124, 12);
pub(super) const MTIME: Field = field(136, 12);
pub(super) const CHECKSUM: Field = field(148, 8);
pub(super) const TYPE: usize = 156;
pub(super) const LINK: Field = field(157, 100);
pub(super) const MAGIC: Field = field(257, 6);
pub(super) const VERSION: Field = field(263, 2);
pub(super) const MAJOR: Field = field(329, 8);
pub(super) const MINOR: Field = field(337, 8);
pub(super) const PREFIX: Field = field(345, 155);
/// The prefix is shorter in the variant of star, which needs the rest for times.
pub(super) const STAR_PREFIX: Field = field(345, 131);
pub(super) const STAR_MAGIC: Field = field(508, 4);
/// GNU's old sparse format: four regions, a flag, and the size when expanded.
pub(super) const GNU_SPARSE: Field = field(386, 96);
pub(super) const GNU_SPARSE_MORE: usize = 482;
pub(super) const GNU_REAL_SIZE: Field = field(483, 12);

impl Field {
    pub(super) fn of(self, block: &Block) -> &[u8] {
        block.get(self.at..self.at + self.length).unwrap_or_default()
    }

    /// Puts bytes at the start of the field; the rest of a new block is zero.
    pub(super) fn put(self, block: &mut Block, bytes: &[u8]) {
        let length = bytes.len().min(self.length);
        if let (Some(target), Some(source)) =
            (block.get_mut(self.at..self.at + length), bytes.get(..length))
        {
            target.copy_from_slice(source);
        }
    }

    /// Puts an octal number with leading zeros and a final NUL; false if it does not fit.
    pub(super) fn put_octal(self, block: &mut Block, number: u64) -> bool {
        let digits = self.length - 1;
        let fits = u32::try_from(digits * 3).is_ok_and(|bits| bits >= 64 || number >> bits == 0);
        let number = if fits { number } else { 0 };
        self.put(block, format!("{number:0digits$o}\0").as_bytes());
        fits
    }

    /// Returns the text up to the first NUL.
    pub(super) fn text(self, block: &Block) -> &[u8] {
        until_nul(self.of(block))
    }

    /// Returns the number, octal or base-256; `None` if it is neither.
    pub(super) fn number(self, block: &Block) -> Option<i64> {
        number(self.of(block))
    }
}

pub(super) fn until_nul(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// Reads an octal number, or GNU's base-256 when the first bit is set.
pub(super) fn number(bytes: &[u8]) -> Option<i64> {
    match bytes.first() {
        Some(first) if first & 0x80 != 0 => base256(bytes),
        _ => octal(bytes),
    }
}

fn octal(bytes: &[u8]) -> Option<i64> {
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = bytes.iter().position(|byte| !blank(byte)).unwrap_or(bytes.len());
    let digits = bytes.get(start..).unwrap_or_default();
    let end = digits.iter().position(blank).unwrap_or(digits.len());
    let (digits, rest) = digits.split_at(end);
    if !rest.iter().all(blank) {
        return None;
    }
    let mut value: i64 = 0;
    for digit in digits {
        if !(b'0'..=b'7').contains(digit) {
            return None;
        }
        value = value.checked_mul(8)?.checked_add(i64::from(digit - b'0'))?;
    }
    Some(value)
}

fn base256(bytes: &[u8]) -> Option<i64> {
    let (first, rest) = bytes.split_first()?;
    // Bit 7 is the mark and bit 6 the sign.
    let negative = first & 0x40 != 0;
    let mut value: i128 = if negative { -1 } else { 0 };
    value = value << 7 | i128::from(first & 0x7f);
    for byte in rest {
        value = value.checked_mul(256)? | i128::from(*byte);
        if value > i128::from(i64::MAX) || value < i128::from(i64::MIN) {
            return None;
        }
    }
    i64::try_from(value).ok()
}

/// Returns the sums that a header may state: of unsigned bytes, and of signed ones as old tars did.
fn sums(block: &Block) -> (i64, i64) {
    let checksum = CHECKSUM.at..CHECKSUM.at + CHECKSUM.length;
    let (mut unsigned, mut signed) = (0, 0);
    for (at, &byte) in block.iter().enumerate() {
        let byte = if checksum.contains(&at) { b' ' } else { byte };
        unsigned += i64::from(byte);
        signed += i64::from(byte.cast_signed());
    }
    (unsigned, signed)
}

pub(super) fn checksum_is_valid(block: &Block) -> bool {
    let (unsigned, signed) = sums(block);
    CHECKSUM.number(block).is_some_and(|stated| stated == unsigned || stated == signed)
}

/// Completes a header: six octal digits, a NUL and a space, as POSIX has it.
pub(super) fn put_checksum(block: &mut Block) {
    let (sum, _) = sums(block);
    CHECKSUM.put(block, format!("{sum:06o}\0 ").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_octal_with_blanks_or_base_256() {
        let table: [(&[u8], Option<i64>); 12] = [
            (b"0000644\0", Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0", Some(0)),
            (b"", Some(0)),
            (b"0008\0", None),
            (b"12 34\0", None),
            (b"-1\0", None),
            (b"777777777777777777777777", None),
            (&[0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0], Some(1 << 32)),
            (&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xfe], Some(-2)),
            (&[0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], None),
            (&[0xbf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], None),
        ];
        for (bytes, expected) in table {
            assert_eq!(number(bytes), expected, "{bytes:?}");
        }
    }

    #[test]
    fn octal_numbers_fill_the_field_or_do_not_fit() {
        let mut block = [0; BLOCK_BYTES];
        assert!(SIZE.put_octal(&mut block, (1 << 33) - 1));
        assert_eq!(SIZE.of(&block), b"77777777777\0");
        assert!(!SIZE.put_octal(&mut block, 1 << 33));
        assert!(!UID.put_octal(&mut block, 1 << 21));
        assert_eq!(UID.of(&block), b"0000000\0");
    }
}
