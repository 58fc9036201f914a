//! What a container uses of the machine.

use std::path::{Path, PathBuf};

use corten_sys::error::IoError;
use corten_sys::file;
use serde::{Deserialize, Serialize};

use super::processes::fields;
use crate::cgroup::Groups;
use crate::spec::Network;

/// Files of the kernel of which we read a few numbers.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// `getconf CLK_TCK`, which is this on every Linux.
const TICKS_PER_SECOND: u64 = 100;

/// What a container uses of the machine. What has no number is not counted by anybody.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Processor time since the start, in microseconds.
    pub cpu_us: u64,
    pub memory_bytes: u64,
    /// The limit, or what the machine has.
    pub memory_limit_bytes: u64,
    /// The memory is that of a control group; otherwise the sum over the processes, in which what they
    /// share is counted several times.
    pub memory_is_counted: bool,
    pub received_bytes: Option<u64>,
    pub sent_bytes: Option<u64>,
    pub read_bytes: Option<u64>,
    pub written_bytes: Option<u64>,
    /// Processes and threads.
    pub pids: u64,
}

pub(super) fn of(
    groups: &Groups,
    processes: &[u32],
    first: u32,
    network: Network,
) -> Result<Usage, IoError> {
    let summed = Summed::over(processes);
    let memory = memory_of(groups);
    let (received_bytes, sent_bytes) = match network {
        Network::Host => (None, None),
        _ => interfaces(first).unzip(),
    };
    let (read, written) = blocks(groups).or(summed.blocks).unzip();
    let pids = groups.read("pids", "pids.current").and_then(|text| text.trim().parse().ok());
    Ok(Usage {
        cpu_us: processor(groups).unwrap_or(summed.cpu_us),
        memory_bytes: memory.unwrap_or(summed.resident_bytes),
        memory_limit_bytes: limit(groups).unwrap_or(memory_of_machine()?),
        memory_is_counted: memory.is_some(),
        received_bytes,
        sent_bytes,
        read_bytes: read,
        written_bytes: written,
        pids: pids.unwrap_or(summed.threads),
    })
}

fn processor(groups: &Groups) -> Option<u64> {
    keyed(&groups.read("", "cpu.stat")?, "usage_usec")
}

/// Docker's number: without the part of the page cache that can go at once.
fn memory_of(groups: &Groups) -> Option<u64> {
    let (current, cache) = if groups.is_v2() {
        ("memory.current", "inactive_file")
    } else {
        ("memory.usage_in_bytes", "total_inactive_file")
    };
    let used: u64 = groups.read("memory", current)?.trim().parse().ok()?;
    let cache = keyed(&groups.read("memory", "memory.stat")?, cache).unwrap_or(0);
    Some(used.saturating_sub(cache))
}

fn limit(groups: &Groups) -> Option<u64> {
    let name = if groups.is_v2() { "memory.max" } else { "memory.limit_in_bytes" };
    // No limit is a word in version 2, and a number beyond all machines in version 1.
    groups.read("memory", name)?.trim().parse().ok().filter(|limit| *limit < 1 << 60)
}

fn memory_of_machine() -> Result<u64, IoError> {
    let text = file::read_limited(Path::new("/proc/meminfo"), FILE_BYTES_MAX)?;
    Ok(keyed(&String::from_utf8_lossy(&text), "MemTotal:").unwrap_or(0).saturating_mul(1024))
}

/// Bytes that all devices have read and written for the container.
fn blocks(groups: &Groups) -> Option<(u64, u64)> {
    let text = groups.read("io", "io.stat")?;
    let sum = |key: &str| {
        let words = text.split_whitespace().filter_map(|word| word.strip_prefix(key));
        words.filter_map(|number| number.parse::<u64>().ok()).sum()
    };
    Some((sum("rbytes="), sum("wbytes=")))
}

/// Bytes that went through all interfaces but loopback.
fn interfaces(first: u32) -> Option<(u64, u64)> {
    let path = PathBuf::from(format!("/proc/{first}/net/dev"));
    let text = file::read_limited(&path, FILE_BYTES_MAX).ok()?;
    let mut sum = (0_u64, 0_u64);
    for line in String::from_utf8_lossy(&text).lines() {
        let Some((name, numbers)) = line.split_once(':') else { continue };
        let numbers: Vec<u64> =
            numbers.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        if let (Some(received), Some(sent)) = (numbers.first(), numbers.get(8))
            && name.trim() != "lo"
        {
            sum = (sum.0.saturating_add(*received), sum.1.saturating_add(*sent));
        }
    }
    Some(sum)
}

/// What the processes say themselves.
#[derive(Default)]
struct Summed {
    cpu_us: u64,
    resident_bytes: u64,
    threads: u64,
    blocks: Option<(u64, u64)>,
}

impl Summed {
    fn over(processes: &[u32]) -> Self {
        let mut sum = Self::default();
        for pid in processes {
            let read = |name: &str| {
                let path = PathBuf::from(format!("/proc/{pid}/{name}"));
                let bytes = file::read_limited(&path, FILE_BYTES_MAX).ok()?;
                Some(String::from_utf8_lossy(&bytes).into_owned())
            };
            // One that has ended meanwhile uses nothing.
            let Some(stat) = read("stat") else { continue };
            let stat = fields(&stat);
            let number = |field: usize| -> u64 {
                stat.get(field - 3).and_then(|text| text.parse().ok()).unwrap_or(0)
            };
            // Fields by their numbers in `proc_pid_stat(5)`: own time, and that of ended children.
            let ticks: u64 = (14..=17).map(number).sum();
            sum.cpu_us += ticks.saturating_mul(1_000_000 / TICKS_PER_SECOND);
            sum.threads += number(20);
            sum.resident_bytes += number(24).saturating_mul(PAGE_BYTES);
            if let Some(io) = read("io")
                && let (Some(read), Some(written)) =
                    (keyed(&io, "read_bytes:"), keyed(&io, "write_bytes:"))
            {
                let known = sum.blocks.unwrap_or_default();
                sum.blocks = Some((known.0 + read, known.1 + written));
            }
        }
        sum
    }
}

/// The kernel counts resident memory in pages of this size on the processors that we run on.
const PAGE_BYTES: u64 = 4096;

/// Finds `key number` among lines.
fn keyed(text: &str, key: &str) -> Option<u64> {
    let line = |line: &str| {
        let rest = line.strip_prefix(key)?;
        rest.starts_with(char::is_whitespace)
            .then(|| rest.split_whitespace().next()?.parse().ok())?
    };
    text.lines().find_map(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_whole_words() {
        assert_eq!(keyed("MemTotalX: 1 kB\nMemTotal:    7 kB\n", "MemTotal:"), Some(7));
        assert_eq!(keyed("user_usec 1\nusage_usec 9\n", "usage_usec"), Some(9));
        assert_eq!(keyed("", "a"), None);
    }

    #[test]
    fn a_process_of_its_own_uses_something() {
        let summed = Summed::over(&[std::process::id()]);
        assert!(summed.resident_bytes > 0 && summed.threads > 0);
    }
}
