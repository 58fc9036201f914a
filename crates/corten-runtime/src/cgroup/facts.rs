//! Which control groups the host has and whether we may use them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use corten_sys::error::IoError;
use corten_sys::file;
use corten_sys::userns::own_map;
use rustix::fs::{Access, access, statfs};
use serde::Serialize;

use super::scope;

/// Where every distribution mounts them.
const MOUNT: &str = "/sys/fs/cgroup";
/// `CGROUP2_SUPER_MAGIC`.
const CGROUP2_MAGIC: u64 = 0x6367_7270;
/// The controllers that a container's limits need, and the one that pauses it.
const CONTROLLERS: [&str; 7] = ["memory", "cpu", "cpuset", "pids", "devices", "blkio", "freezer"];
/// The file has a line for each of at most some 14 hierarchies.
const MEMBERSHIP_BYTES_MAX: u64 = 64 * 1024;

/// The host's control groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "version")]
pub enum CgroupFacts {
    /// None is mounted.
    None,
    /// A hierarchy for each controller.
    V1 { controllers: BTreeMap<String, V1Controller> },
    /// One hierarchy.
    V2 {
        /// The group below which ours go.
        parent: PathBuf,
        writable: bool,
        controllers: BTreeSet<String>,
        /// Who is asked for a group below `parent` first, if that is not made at once.
        manager: Option<Manager>,
    },
}

/// The service manager of an ordinary user, systemd's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Manager {
    /// Where it listens.
    pub socket: PathBuf,
    /// Whose it is, by the number that the user has outside of all namespaces.
    pub user: u32,
}

/// A hierarchy of cgroup v1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct V1Controller {
    /// Our own group, below which the container's go.
    pub parent: PathBuf,
    /// All controllers of the hierarchy, `cpu,cpuacct`.
    pub hierarchy: String,
    pub writable: bool,
}

impl CgroupFacts {
    /// Looks at the mounted hierarchies.
    pub(crate) fn gather() -> Result<Self, IoError> {
        let root = Path::new(MOUNT);
        let Ok(statistics) = statfs(root) else { return Ok(Self::None) };
        let text = file::read_limited(Path::new("/proc/self/cgroup"), MEMBERSHIP_BYTES_MAX)?;
        let membership = parse_membership(&String::from_utf8_lossy(&text));
        if u64::try_from(statistics.f_type).unwrap_or_default() == CGROUP2_MAGIC {
            return v2(root, &membership);
        }
        let controllers: BTreeMap<_, _> =
            CONTROLLERS.iter().filter_map(|name| v1(root, name, &membership)).collect();
        if controllers.is_empty() { Ok(Self::None) } else { Ok(Self::V1 { controllers }) }
    }
}

fn v1(
    root: &Path,
    name: &str,
    membership: &BTreeMap<String, Membership>,
) -> Option<(String, V1Controller)> {
    let own = membership.get(name)?;
    let mount = root.join(name);
    // In a container, the own group may lie outside of what is mounted.
    let parent = [below(&mount, &own.path), mount].into_iter().find(|group| group.is_dir())?;
    let writable = access(&parent, Access::WRITE_OK).is_ok();
    let hierarchy = own.hierarchy.clone();
    Some((name.to_owned(), V1Controller { parent, hierarchy, writable }))
}

fn v2(root: &Path, membership: &BTreeMap<String, Membership>) -> Result<CgroupFacts, IoError> {
    // A group with processes of its own cannot pass controllers on, except the root. Whoever may
    // write the root uses it; an ordinary user asks the service manager, or has at best the own group.
    if access(root, Access::WRITE_OK).is_ok() {
        return Ok(of_parent(root.to_owned(), None));
    }
    let users = own_map("uid_map")?;
    let user = users.iter().find(|range| range.first == 0).map_or(0, |range| range.outside);
    let socket = scope::manager(user);
    let group = scope::group_of_manager(root, user);
    if user != 0 && socket.exists() && access(&group, Access::WRITE_OK).is_ok() {
        return Ok(of_parent(group, Some(Manager { socket, user })));
    }
    let own = membership.get("").map_or("/", |own| own.path.as_str());
    Ok(of_parent(below(root, own), None))
}

fn of_parent(parent: PathBuf, manager: Option<Manager>) -> CgroupFacts {
    let names = file::read_limited(&parent.join("cgroup.controllers"), MEMBERSHIP_BYTES_MAX);
    let names = names.unwrap_or_default();
    let names = String::from_utf8_lossy(&names);
    CgroupFacts::V2 {
        writable: access(&parent, Access::WRITE_OK).is_ok(),
        controllers: names.split_whitespace().map(str::to_owned).collect(),
        parent,
        manager,
    }
}

/// Returns the group of cgroup v2 in which this process is.
pub(super) fn own_group() -> Result<PathBuf, IoError> {
    let text = file::read_limited(Path::new("/proc/self/cgroup"), MEMBERSHIP_BYTES_MAX)?;
    let membership = parse_membership(&String::from_utf8_lossy(&text));
    let own = membership.get("").map_or("/", |own| own.path.as_str());
    Ok(below(Path::new(MOUNT), own))
}

fn below(mount: &Path, group: &str) -> PathBuf {
    let group = group.trim_start_matches('/');
    if group.is_empty() { mount.to_owned() } else { mount.join(group) }
}

/// A line of `/proc/self/cgroup`.
#[derive(Debug, Clone)]
struct Membership {
    hierarchy: String,
    path: String,
}

/// Reads `/proc/self/cgroup` into controller → own group; cgroup v2 is the empty name.
fn parse_membership(text: &str) -> BTreeMap<String, Membership> {
    let mut groups = BTreeMap::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        for controller in controllers.split(',') {
            let (hierarchy, path) = (controllers.to_owned(), path.to_owned());
            groups.insert(controller.to_owned(), Membership { hierarchy, path });
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn membership_is_read_for_both_versions() {
        let text = "5:cpu,cpuacct:/a:b\n4:memory:/m\n1:name=systemd:/\n0::/user.slice\nbroken\n";
        let groups = parse_membership(text);
        assert_eq!(groups["cpu"].path, "/a:b");
        assert_eq!(groups["cpuacct"].hierarchy, "cpu,cpuacct");
        assert_eq!(groups["memory"].path, "/m");
        assert_eq!(groups[""].path, "/user.slice");
    }

    #[test]
    fn the_own_group_is_joined_below_the_mount() {
        assert_eq!(below(Path::new("/m"), "/"), Path::new("/m"));
        assert_eq!(below(Path::new("/m"), "/a/b"), Path::new("/m/a/b"));
    }
}
