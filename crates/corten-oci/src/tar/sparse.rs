//! Sparse files: the four spellings of GNU tar.

use super::header::{self, Block, until_nul};
use super::pax::Records;
use crate::limits::TAR_SPARSE_REGIONS_MAX;

/// A part of a sparse file that has data; the rest is zeros.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Region {
    /// Where the data lies in the file.
    pub offset: u64,
    /// How many bytes it has.
    pub size: u64,
}

/// The layout of a sparse file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Map {
    pub(super) regions: Vec<Region>,
    /// The size of the file when expanded.
    pub(super) size: u64,
}

impl Map {
    /// Checks that the regions are in order, within the file, and as long as the stored data.
    pub(super) fn is_valid(&self, stored: u64) -> bool {
        let mut end: u64 = 0;
        let mut data: u64 = 0;
        for region in &self.regions {
            let Some(next) = region.offset.checked_add(region.size) else { return false };
            if region.offset < end || next > self.size {
                return false;
            }
            end = next;
            data += region.size;
        }
        data == stored
    }
}

/// Reads the regions in the header of GNU's old format; true if more blocks follow.
pub(super) fn old_header(block: &Block) -> Option<(Map, bool)> {
    let mut regions = Vec::new();
    old_regions(header::GNU_SPARSE.of(block), &mut regions)?;
    let size = u64::try_from(header::GNU_REAL_SIZE.number(block)?).ok()?;
    let more = block[header::GNU_SPARSE_MORE] != 0;
    Some((Map { regions, size }, more))
}

/// Reads the regions in an extension block of GNU's old format; true if more blocks follow.
pub(super) fn old_extension(block: &Block, regions: &mut Vec<Region>) -> Option<bool> {
    old_regions(block.get(..504)?, regions)?;
    Some(block[504] != 0)
}

fn old_regions(bytes: &[u8], regions: &mut Vec<Region>) -> Option<()> {
    for pair in bytes.chunks_exact(24) {
        let (offset, size) = pair.split_at(12);
        // An unused place has no digits.
        if until_nul(offset).is_empty() && until_nul(size).is_empty() {
            break;
        }
        let offset = u64::try_from(header::number(offset)?).ok()?;
        let size = u64::try_from(header::number(size)?).ok()?;
        push(regions, Region { offset, size })?;
    }
    Some(())
}

fn push(regions: &mut Vec<Region>, region: Region) -> Option<()> {
    if regions.len() >= TAR_SPARSE_REGIONS_MAX {
        return None;
    }
    // GNU tar marks the end of a file that ends in zeros by an empty region.
    if region.size > 0 {
        regions.push(region);
    }
    Some(())
}

/// Which sparse format PAX records announce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Announced {
    /// None.
    No,
    /// The whole map is in the records (0.0 and 0.1).
    Map(Map),
    /// The map is at the start of the content (1.0); this is the expanded size.
    InContent(u64),
}

/// Looks for sparse records. `regions` are those of format 0.0, which repeats its keys, so that they
/// cannot be in a map. `None` if the records contradict each other.
pub(super) fn announced(records: &Records, regions: &[Region]) -> Option<Announced> {
    let number = |key: &[u8]| records.get(key).map(|value| decimal(value));
    if let Some(major) = number(b"GNU.sparse.major") {
        let minor = number(b"GNU.sparse.minor").unwrap_or(Some(0))?;
        if (major?, minor) != (1, 0) {
            return None;
        }
        return Some(Announced::InContent(number(b"GNU.sparse.realsize")??));
    }
    let Some(size) = number(b"GNU.sparse.size") else { return Some(Announced::No) };
    let size = size?;
    let mut map = Map { regions: Vec::new(), size };
    if let Some(text) = records.get(b"GNU.sparse.map".as_slice()) {
        let numbers: Option<Vec<u64>> = if text.is_empty() {
            Some(Vec::new())
        } else {
            text.split(|&byte| byte == b',').map(decimal).collect()
        };
        let numbers = numbers?;
        if numbers.len() % 2 != 0 {
            return None;
        }
        for pair in numbers.chunks_exact(2) {
            push(&mut map.regions, Region { offset: *pair.first()?, size: *pair.last()? })?;
        }
    } else {
        for region in regions {
            push(&mut map.regions, *region)?;
        }
    }
    Some(Announced::Map(map))
}

/// Parses a plain decimal number.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Returns how many lines the map of format 1.0 has, from its first line.
pub(super) fn map_lines(text: &[u8]) -> Option<usize> {
    let first = text.split(|&byte| byte == b'\n').next()?;
    let count = usize::try_from(decimal(first)?).ok()?;
    if count > TAR_SPARSE_REGIONS_MAX { None } else { Some(1 + 2 * count) }
}

/// Parses the map of format 1.0, of which all lines are there.
pub(super) fn map_in_content(text: &[u8]) -> Option<Vec<Region>> {
    let mut numbers = text.split(|&byte| byte == b'\n').map(decimal);
    let count = numbers.next()??;
    let mut regions = Vec::new();
    for _ in 0..count {
        push(&mut regions, Region { offset: numbers.next()??, size: numbers.next()?? })?;
    }
    Some(regions)
}
