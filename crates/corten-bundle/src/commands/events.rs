//! `events`: what a container uses of the machine, in the form that engines read.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use corten_sys::file;
use serde_json::{Map, Value, json};

use super::Engine;
use crate::cgroup::{Group, Groups, Version};
use crate::error::{BundleError, failed};
use crate::state::Status;

const FILE_BYTES_MAX: u64 = 1 << 20;
/// What version 1 writes for no limit of memory.
const UNLIMITED: u64 = i64::MAX as u64 & !0xfff;

/// Numbers of a moment.
pub type Stats = Value;

impl Engine {
    /// What the container uses now.
    pub fn stats(&self, id: &str) -> Result<Stats, BundleError> {
        let home = self.states.find(id)?;
        let record = home.record()?;
        let status = home.status(&record)?;
        if matches!(status, Status::Stopped | Status::Creating) {
            let (action, id) = ("look at", id.to_owned());
            return Err(BundleError::NotRunning { action, id, status });
        }
        Ok(json!({ "type": "stats", "id": id, "data": data(&record.groups) }))
    }

    /// Tells of the container every `interval`, and of each time the kernel ended something in it for
    /// lack of memory, until the container ends or `tell` returns false.
    pub fn events(
        &self,
        id: &str,
        interval: Duration,
        mut tell: impl FnMut(&Value) -> bool,
    ) -> Result<(), BundleError> {
        let record = self.states.find(id)?.record()?;
        let mut kills = out_of_memory(&record.groups);
        loop {
            let Some(process) = record.process() else { return Ok(()) };
            let ended =
                process.wait_end(Some(interval)).map_err(failed("wait for the container"))?;
            let now = out_of_memory(&record.groups);
            for _ in kills..now {
                if !tell(&json!({ "type": "oom", "id": id })) {
                    return Ok(());
                }
            }
            kills = now;
            if ended || !tell(&self.stats(id)?) {
                return Ok(());
            }
        }
    }
}

fn read(group: &Group, name: &str) -> String {
    // A file that a kernel does not have says nothing.
    let bytes = file::read_limited(&group.path.join(Path::new(name)), FILE_BYTES_MAX);
    String::from_utf8_lossy(&bytes.unwrap_or_default()).trim().to_owned()
}

fn number(group: &Group, name: &str) -> u64 {
    read(group, name).parse().unwrap_or_default()
}

/// `max` is none.
fn limit(group: &Group, name: &str) -> u64 {
    let text = read(group, name);
    if text == "max" { u64::MAX } else { text.parse().unwrap_or_default() }
}

fn pairs(text: &str) -> BTreeMap<String, u64> {
    let pair = |line: &str| {
        let (key, value) = line.split_once(' ')?;
        Some((key.to_owned(), value.trim().parse().ok()?))
    };
    text.lines().filter_map(pair).collect()
}

fn data(groups: &Groups) -> Value {
    json!({
        "cpu": cpu(groups),
        "memory": memory(groups),
        "pids": groups.of("pids").map(|group| json!({
            "current": number(group, "pids.current"),
            "limit": match limit(group, "pids.max") { u64::MAX => 0, limit => limit },
        })),
        "blkio": block_io(groups),
        "hugetlb": {},
        "intel_rdt": {},
        "network_interfaces": Value::Null,
    })
}

fn cpu(groups: &Groups) -> Value {
    const NANOSECONDS: u64 = 1000;
    // The kernel's ticks for programs are hundredths of a second.
    const TICK_NS: u64 = 10_000_000;
    let Some(group) = groups.of("cpuacct") else { return json!({}) };
    if group.version == Version::V2 {
        let stat = pairs(&read(group, "cpu.stat"));
        let get = |key: &str| stat.get(key).copied().unwrap_or_default();
        return json!({
            "usage": {
                "total": get("usage_usec") * NANOSECONDS,
                "kernel": get("system_usec") * NANOSECONDS,
                "user": get("user_usec") * NANOSECONDS,
            },
            "throttling": {
                "periods": get("nr_periods"),
                "throttledPeriods": get("nr_throttled"),
                "throttledTime": get("throttled_usec") * NANOSECONDS,
            },
        });
    }
    let stat = pairs(&read(group, "cpuacct.stat"));
    let ticks = |key: &str| stat.get(key).copied().unwrap_or_default().saturating_mul(TICK_NS);
    let each = read(group, "cpuacct.usage_percpu");
    let each: Vec<u64> = each.split_whitespace().filter_map(|text| text.parse().ok()).collect();
    let throttled =
        groups.of("cpu").map(|group| pairs(&read(group, "cpu.stat"))).unwrap_or_default();
    let get = |key: &str| throttled.get(key).copied().unwrap_or_default();
    json!({
        "usage": {
            "total": number(group, "cpuacct.usage"),
            "percpu": each,
            "kernel": ticks("system"),
            "user": ticks("user"),
        },
        "throttling": {
            "periods": get("nr_periods"),
            "throttledPeriods": get("nr_throttled"),
            "throttledTime": get("throttled_time"),
        },
    })
}

fn memory(groups: &Groups) -> Value {
    let Some(group) = groups.of("memory") else { return json!({}) };
    let raw = pairs(&read(group, "memory.stat"));
    let get = |key: &str| raw.get(key).copied().unwrap_or_default();
    let entry = |usage: u64, most: u64, limit: u64, failures: u64| {
        let limit = if limit >= UNLIMITED { u64::MAX } else { limit };
        json!({ "usage": usage, "max": most, "limit": limit, "failcnt": failures })
    };
    if group.version == Version::V2 {
        let usage = number(group, "memory.current");
        let swap = number(group, "memory.swap.current");
        let failures = pairs(&read(group, "memory.events")).get("max").copied().unwrap_or_default();
        let (most, limit) = (number(group, "memory.peak"), limit(group, "memory.max"));
        return json!({
            "cache": get("file"),
            "usage": entry(usage, most, limit, failures),
            "swap": entry(usage + swap, 0, self::limit(group, "memory.swap.max"), 0),
            "raw": raw,
        });
    }
    let one = |prefix: &str| {
        let file = |name: &str| number(group, &format!("{prefix}.{name}"));
        let (usage, most) = (file("usage_in_bytes"), file("max_usage_in_bytes"));
        entry(usage, most, file("limit_in_bytes"), file("failcnt"))
    };
    json!({
        "cache": get("cache"),
        "usage": one("memory"),
        "swap": one("memory.memsw"),
        "kernel": one("memory.kmem"),
        "kernelTCP": one("memory.kmem.tcp"),
        "raw": raw,
    })
}

fn block_io(groups: &Groups) -> Value {
    let Some(group) = groups.of("blkio") else { return json!({}) };
    let mut found = Map::new();
    if group.version == Version::V1 {
        let files = [
            ("ioServiceBytesRecursive", "blkio.throttle.io_service_bytes_recursive"),
            ("ioServicedRecursive", "blkio.throttle.io_serviced_recursive"),
        ];
        for (key, name) in files {
            found.insert(key.to_owned(), entries(&read(group, name)));
        }
    }
    Value::Object(found)
}

/// Lines of the form `8:0 Read 4096`.
fn entries(text: &str) -> Value {
    let entry = |line: &str| {
        let mut fields = line.split(' ');
        let (major, minor) = fields.next()?.split_once(':')?;
        let (op, value) = (fields.next()?, fields.next()?);
        Some(json!({
            "major": major.parse::<u64>().ok()?,
            "minor": minor.parse::<u64>().ok()?,
            "op": op,
            "value": value.parse::<u64>().ok()?,
        }))
    };
    Value::Array(text.lines().filter_map(entry).collect())
}

/// How often the kernel has ended something for lack of memory.
fn out_of_memory(groups: &Groups) -> u64 {
    let Some(group) = groups.of("memory") else { return 0 };
    let name = match group.version {
        Version::V1 => "memory.oom_control",
        Version::V2 => "memory.events",
    };
    pairs(&read(group, name)).get("oom_kill").copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_disks_become_entries() {
        let found = entries("8:0 Read 4096\n8:0 Total 4096\nTotal 4096\n");
        let expected = json!([
            { "major": 8, "minor": 0, "op": "Read", "value": 4096 },
            { "major": 8, "minor": 0, "op": "Total", "value": 4096 },
        ]);
        assert_eq!(found, expected);
    }
}
