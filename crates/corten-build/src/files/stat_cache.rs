//! What the content of files was when they were last hashed.
//!
//! An entry is found by device and inode and counts while size, modification time and change time
//! are the same. The change time is set by the kernel at every change and cannot be set back, so
//! `touch -d` does not fool it.
//!
//! One case is left: a file that is changed, hashed and changed again within one tick of the file
//! system's clock has the same times twice. So an entry is only kept if the file had been left
//! alone for longer than a tick when it was hashed (git calls these entries racy).

use std::collections::BTreeMap;

use corten_oci::digest::Digest;
use corten_sys::beneath::Stat;
use corten_sys::clock::Timestamp;

use super::Content;

/// The form of the bytes; another one is an empty cache.
const MAGIC: &[u8; 8] = b"ctnstat1";

const ENTRY_BYTES: usize = 80;

/// Times with nanoseconds come from a clock that ticks at least a hundred times a second; the rest
/// is for machines that stall between two looks at it.
const TICK_NANOSECONDS: i128 = 100_000_000;

/// Times without nanoseconds come from file systems that store whole or even seconds only.
const COARSE_TICK_NANOSECONDS: i128 = 2_000_000_000;

/// Entries of files that were not asked for are kept up to this many, so that Dockerfiles that share
/// a directory do not throw out each other's.
const UNUSED_ENTRIES_MAX: usize = 20_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    size_bytes: u64,
    modified: Timestamp,
    changed: Timestamp,
    digest: Digest,
}

/// The digests of files by their time stamps.
#[derive(Debug, Default)]
pub(crate) struct StatCache {
    /// As loaded: sorted entries, searched without being decoded.
    loaded: Vec<u8>,
    fresh: BTreeMap<(u64, u64), Entry>,
    used: std::collections::BTreeSet<(u64, u64)>,
}

impl StatCache {
    /// Takes the bytes of an earlier cache; anything else is an empty one.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Self {
        let body = bytes.strip_prefix(MAGIC).filter(|body| body.len() % ENTRY_BYTES == 0);
        let loaded = body.map(<[u8]>::to_vec).unwrap_or_default();
        Self { loaded, ..Self::default() }
    }

    /// Whether there is something new to save.
    pub(crate) fn changed(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// The cache as bytes.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut merged = BTreeMap::new();
        let mut unused = 0;
        for bytes in self.loaded.chunks_exact(ENTRY_BYTES) {
            let Some((id, entry)) = decode(bytes) else { continue };
            if !self.used.contains(&id) {
                unused += 1;
                if unused > UNUSED_ENTRIES_MAX {
                    continue;
                }
            }
            merged.insert(id, entry);
        }
        merged.extend(&self.fresh);
        let mut bytes = Vec::with_capacity(MAGIC.len() + merged.len() * ENTRY_BYTES);
        bytes.extend_from_slice(MAGIC);
        for (id, entry) in &merged {
            encode(*id, entry, &mut bytes);
        }
        bytes
    }

    /// The content of a file that looks like this.
    pub(crate) fn get(&mut self, stat: &Stat) -> Option<Content> {
        let id = (stat.device, stat.inode);
        let entry = self.fresh.get(&id).copied().or_else(|| self.find(id))?;
        let same = entry.size_bytes == stat.size_bytes
            && entry.modified == stat.modified
            && entry.changed == stat.changed;
        if !same {
            return None;
        }
        self.used.insert(id);
        Some(Content { digest: entry.digest, stat: *stat, settled: true })
    }

    /// Remembers a content, if it can be trusted later.
    pub(crate) fn put(&mut self, content: &Content) {
        if !content.settled {
            return;
        }
        let stat = &content.stat;
        let entry = Entry {
            size_bytes: stat.size_bytes,
            modified: stat.modified,
            changed: stat.changed,
            digest: content.digest,
        };
        self.fresh.insert((stat.device, stat.inode), entry);
    }

    fn find(&self, id: (u64, u64)) -> Option<Entry> {
        let count = self.loaded.len() / ENTRY_BYTES;
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = usize::midpoint(low, high);
            let bytes = self.loaded.get(middle * ENTRY_BYTES..(middle + 1) * ENTRY_BYTES)?;
            let (found, entry) = decode(bytes)?;
            match found.cmp(&id) {
                std::cmp::Ordering::Equal => return Some(entry),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }
}

/// Whether a file that is hashed at `now` had been left alone for long enough.
pub(crate) fn is_settled(stat: &Stat, now: Timestamp) -> bool {
    let settled = |time: Timestamp| {
        let tick = if time.nanoseconds == 0 { COARSE_TICK_NANOSECONDS } else { TICK_NANOSECONDS };
        nanoseconds(now) - nanoseconds(time) > tick
    };
    // A modification time in the future was set by hand; only the kernel's own time says more.
    settled(stat.changed)
        && (settled(stat.modified) || nanoseconds(stat.modified) > nanoseconds(now))
}

fn nanoseconds(time: Timestamp) -> i128 {
    i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanoseconds)
}

fn encode(id: (u64, u64), entry: &Entry, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&id.0.to_le_bytes());
    bytes.extend_from_slice(&id.1.to_le_bytes());
    bytes.extend_from_slice(&entry.size_bytes.to_le_bytes());
    for time in [entry.modified, entry.changed] {
        bytes.extend_from_slice(&time.seconds.to_le_bytes());
        bytes.extend_from_slice(&time.nanoseconds.to_le_bytes());
    }
    bytes.extend_from_slice(entry.digest.as_bytes());
}

fn decode(bytes: &[u8]) -> Option<((u64, u64), Entry)> {
    let mut rest = bytes;
    let id = (take_u64(&mut rest)?, take_u64(&mut rest)?);
    let size_bytes = take_u64(&mut rest)?;
    let modified = take_time(&mut rest)?;
    let changed = take_time(&mut rest)?;
    let digest = Digest::from_bytes(rest.try_into().ok()?);
    Some((id, Entry { size_bytes, modified, changed, digest }))
}

fn take_u64(rest: &mut &[u8]) -> Option<u64> {
    let (head, tail) = rest.split_first_chunk()?;
    *rest = tail;
    Some(u64::from_le_bytes(*head))
}

fn take_time(rest: &mut &[u8]) -> Option<Timestamp> {
    let (head, tail) = rest.split_first_chunk()?;
    let seconds = i64::from_le_bytes(*head);
    let (head, tail) = tail.split_first_chunk()?;
    *rest = tail;
    Some(Timestamp { seconds, nanoseconds: u32::from_le_bytes(*head) })
}
