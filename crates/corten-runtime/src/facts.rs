//! What the host can do, as far as a plan depends on it.

use std::collections::BTreeMap;
use std::path::Path;

use corten_sys::error::IoError;
use corten_sys::userns::{IdRange, is_whole_system, own_map, subordinate_in};
use corten_sys::{caps, file};
use serde::Serialize;

use crate::capability::Capability;
use crate::cgroup::CgroupFacts;
use crate::network::{RootlessObstacle, rootless_obstacles};
use crate::spec::RlimitKind;

/// Where the helper programs of the network are on every distribution.
pub(crate) const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The first outer id of containers where the administrator has not set aside a range.
///
/// Linux distributions give ordinary users subordinate ids up to 600,100,000 (`SUB_UID_MAX`) and
/// systemd reserves 524,288 to 1,879,048,191 for its containers. From here to the sign bit, on
/// which some programs stumble, nobody claims ids.
const SHIFT_FIRST: u32 = 0x7000_0000;
/// Up to the sign bit: enough for the seven-digit ids of directory services.
const SHIFT_COUNT: u32 = 0x1000_0000;

/// The kernel's files of one number.
const NUMBER_BYTES_MAX: u64 = 64;

/// What the host can do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HostFacts {
    /// Major and minor version.
    pub kernel: (u32, u32),
    pub ids: Ids,
    /// The highest capability that the kernel knows.
    pub last_capability: u8,
    /// Whether hard limits of processes may be raised.
    pub may_raise_limits: bool,
    /// So many open files a process may have at most, whoever asks.
    pub open_files_max: u64,
    /// Soft and hard limits of this process; `u64::MAX` is none.
    pub rlimits: BTreeMap<RlimitKind, (u64, u64)>,
    pub cgroups: CgroupFacts,
    /// What is in the way of a network of containers without root; root needs no other program.
    pub network_obstacles: Vec<RootlessObstacle>,
}

/// Whose ids containers can have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "ids")]
pub enum Ids {
    /// We are root of the machine: containers get ids of their own, from `first`.
    Shift { first: u32, count: u32 },
    /// We are root of a user namespace: containers get the ids that it has.
    Given {
        #[serde(serialize_with = "serialize_ranges")]
        users: Vec<IdRange>,
        #[serde(serialize_with = "serialize_ranges")]
        groups: Vec<IdRange>,
        /// Whether supplementary groups can be set.
        setgroups: bool,
    },
}

impl HostFacts {
    /// Looks at the host; takes well under a millisecond and starts nothing.
    pub fn gather() -> Result<Self, IoError> {
        let effective = caps::effective()
            .map_err(corten_sys::error::at("read the capabilities of", "/proc/self"))?;
        let has = |capability: Capability| effective & (1 << capability.number()) != 0;
        let users = own_map("uid_map")?;
        let whole_system = is_whole_system(&users);
        Ok(Self {
            kernel: kernel_version(),
            ids: if whole_system { shift()? } else { given(users)? },
            last_capability: last_capability()?,
            may_raise_limits: whole_system && has(Capability::SysResource),
            open_files_max: open_files_max()?,
            rlimits: own_rlimits(),
            cgroups: CgroupFacts::gather()?,
            network_obstacles: if whole_system {
                Vec::new()
            } else {
                rootless_obstacles(SEARCH_PATH.as_ref())
            },
        })
    }

    /// Returns true if we are not root of the machine.
    pub fn is_rootless(&self) -> bool {
        matches!(self.ids, Ids::Given { .. })
    }

    /// Returns true from this version of Linux on.
    pub(crate) fn kernel_at_least(&self, major: u32, minor: u32) -> bool {
        self.kernel >= (major, minor)
    }

    /// Says why a container cannot have the default network here, if it cannot, and what to do
    /// about it.
    pub fn default_network(&self) -> Result<(), String> {
        if self.network_obstacles.is_empty() {
            return Ok(());
        }
        let told = |obstacle: &RootlessObstacle| format!("{obstacle}; {}", obstacle.remedy());
        Err(self.network_obstacles.iter().map(told).collect::<Vec<_>>().join("; "))
    }
}

fn kernel_version() -> (u32, u32) {
    let name = rustix::system::uname();
    parse_version(&name.release().to_string_lossy())
}

/// Reads `6.18.44-generic`; what is no number counts as 0, the oldest.
fn parse_version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    let mut next = || numbers.next().and_then(|digits| digits.parse().ok()).unwrap_or(0);
    (next(), next())
}

/// The range that the administrator set aside for containers, else one that nobody claims.
fn shift() -> Result<Ids, IoError> {
    for owner in ["containers", "root"] {
        let users = subordinate_in(Path::new("/etc/subuid"), Some(owner), None)?;
        let groups = subordinate_in(Path::new("/etc/subgid"), Some(owner), None)?;
        if let (Some(&(first, users)), Some(&(group, groups))) = (users.first(), groups.first())
            && first == group
        {
            return Ok(Ids::Shift { first, count: users.min(groups) });
        }
    }
    Ok(Ids::Shift { first: SHIFT_FIRST, count: SHIFT_COUNT })
}

fn given(users: Vec<IdRange>) -> Result<Ids, IoError> {
    let path = Path::new("/proc/self/setgroups");
    let setgroups = file::read_limited(path, NUMBER_BYTES_MAX)?.starts_with(b"allow");
    Ok(Ids::Given { users, groups: own_map("gid_map")?, setgroups })
}

fn last_capability() -> Result<u8, IoError> {
    let newest = Capability::CheckpointRestore.number();
    let path = Path::new("/proc/sys/kernel/cap_last_cap");
    let text = file::read_limited(path, NUMBER_BYTES_MAX)?;
    let number = String::from_utf8_lossy(&text).trim().parse().ok();
    Ok(number.filter(|number| *number < 64).unwrap_or(newest))
}

fn open_files_max() -> Result<u64, IoError> {
    let text = file::read_limited(Path::new("/proc/sys/fs/nr_open"), NUMBER_BYTES_MAX)?;
    Ok(String::from_utf8_lossy(&text).trim().parse().unwrap_or(u64::MAX))
}

fn own_rlimits() -> BTreeMap<RlimitKind, (u64, u64)> {
    let read = |(_, kind): &(&str, RlimitKind)| {
        let limit = rustix::process::getrlimit(kind.resource());
        (*kind, (limit.current.unwrap_or(u64::MAX), limit.maximum.unwrap_or(u64::MAX)))
    };
    RlimitKind::NAMES.iter().map(read).collect()
}

fn serialize_ranges<S: serde::Serializer>(
    ranges: &[IdRange],
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(ranges.iter().map(ToString::to_string))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_versions_of_every_shape_are_read() {
        assert_eq!(parse_version("6.18.44-fc-v669"), (6, 18));
        assert_eq!(parse_version("5.10"), (5, 10));
        assert_eq!(parse_version("6.6-rc1"), (6, 6));
        assert_eq!(parse_version("odd"), (0, 0));
    }

    #[test]
    fn this_host_can_be_looked_at() {
        let facts = HostFacts::gather().expect("every Linux has these files");
        assert!(facts.kernel_at_least(4, 0));
        assert!(facts.rlimits.contains_key(&RlimitKind::OpenFiles));
    }
}
