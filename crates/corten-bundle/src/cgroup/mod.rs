//! Control groups: which hierarchies the host has, where a container's groups are, and what is done
//! with them.

mod live;
pub(crate) mod settings;

pub(crate) use live::write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use corten_sys::file;
use serde::{Deserialize, Serialize};

use crate::error::{BundleError, invalid};

const TABLE_BYTES_MAX: u64 = 8 << 20;

/// The host's hierarchies, and where we are in them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hierarchies {
    pub all: Vec<Hierarchy>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hierarchy {
    pub mount: PathBuf,
    pub version: Version,
    /// `cpu,cpuacct`, `name=systemd`; empty for version 2.
    pub names: Vec<String>,
    /// Our own group, beginning with `/`.
    pub own: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Version {
    V1,
    V2,
}

impl Hierarchies {
    pub(crate) fn gather() -> Result<Self, BundleError> {
        let read = |path: &str| -> Result<String, BundleError> {
            let bytes = file::read_limited(Path::new(path), TABLE_BYTES_MAX)?;
            Ok(String::from_utf8_lossy(&bytes).into_owned())
        };
        Ok(parse(&read("/proc/self/mountinfo")?, &read("/proc/self/cgroup")?))
    }

    /// True where there is nothing but version 2.
    pub(crate) fn is_unified(&self) -> bool {
        !self.all.is_empty() && self.all.iter().all(|one| one.version == Version::V2)
    }

    pub(crate) fn v1(&self) -> impl Iterator<Item = &Hierarchy> {
        self.all.iter().filter(|one| one.version == Version::V1)
    }
}

/// Reads the hierarchies from `mountinfo` and `/proc/self/cgroup`. Of several mounts of one hierarchy
/// the first counts.
fn parse(mounts: &str, membership: &str) -> Hierarchies {
    let mut own = BTreeMap::new();
    for line in membership.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        if let (Some(names), Some(path)) = (fields.next(), fields.next()) {
            own.insert(names, path);
        }
    }
    let mut all: Vec<Hierarchy> = Vec::new();
    for line in mounts.lines() {
        let Some((before, after)) = line.split_once(" - ") else { continue };
        let Some(mount) = before.split(' ').nth(4) else { continue };
        let mut after = after.split(' ');
        let (kind, options) = (after.next(), after.nth(1).unwrap_or_default());
        let (version, names) = match kind {
            Some("cgroup2") => (Version::V2, Vec::new()),
            Some("cgroup") => {
                // The options hold more than names of controllers.
                let found = own.keys().find(|names| {
                    !names.is_empty()
                        && names.split(',').all(|name| options.split(',').any(|o| o == name))
                });
                let Some(found) = found else { continue };
                (Version::V1, found.split(',').map(str::to_owned).collect())
            }
            _ => continue,
        };
        if all.iter().any(|one| one.version == version && one.names == names) {
            continue;
        }
        let key = names.join(",");
        let own = (*own.get(key.as_str()).unwrap_or(&"/")).to_owned();
        all.push(Hierarchy { mount: PathBuf::from(unescape(mount)), version, names, own });
    }
    if all.iter().any(|one| one.version == Version::V1) {
        // Beside version 1 it has no controllers that a container's limits need, and older engines do
        // not look there.
        all.retain(|one| one.version == Version::V1 || !one.mount.ends_with("unified"));
    }
    Hierarchies { all }
}

/// `mountinfo` writes a blank as `\040`.
fn unescape(text: &str) -> String {
    text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}

/// The groups of a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Groups {
    pub groups: Vec<Group>,
}

/// A group of a container in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    pub path: PathBuf,
    /// The hierarchy's root, above which nothing is made.
    pub mount: PathBuf,
    pub version: Version,
    pub names: Vec<String>,
    /// It was made for the container: what was there before is not ours to empty or to remove.
    pub is_own: bool,
}

impl Groups {
    /// Decides where the groups of a container are.
    ///
    /// An absolute path begins at the root of each hierarchy, a relative one at our own group; without
    /// one it is the id. In version 2 a group with processes has no controllers for those below: there it
    /// begins beside our own group.
    pub(crate) fn plan(
        hierarchies: &Hierarchies,
        path: &str,
        id: &str,
        systemd: bool,
    ) -> Result<Self, BundleError> {
        let path = match (path, systemd) {
            ("", false) => id.to_owned(),
            ("", true) => format!("/system.slice/corten-{id}.scope"),
            (path, false) => path.to_owned(),
            (path, true) => systemd_path(path)?,
        };
        if Path::new(&path).components().any(|part| part == std::path::Component::ParentDir) {
            return Err(invalid(format!("cgroupsPath `{path}` has a `..`")));
        }
        let group = |one: &Hierarchy| {
            let base = match one.version {
                _ if path.starts_with('/') => "/",
                Version::V1 => &one.own,
                Version::V2 => one.own.rsplit_once('/').map_or("/", |(parent, _)| parent),
            };
            let below = |base: &Path, more: &str| {
                let more = more.trim_matches('/');
                if more.is_empty() { base.to_owned() } else { base.join(more) }
            };
            let mut base = below(&one.mount, base);
            if !base.is_dir() {
                // Seen from within a container, the own group can lie outside of what is mounted.
                base.clone_from(&one.mount);
            }
            Group {
                path: below(&base, &path),
                mount: one.mount.clone(),
                version: one.version,
                names: one.names.clone(),
                is_own: false,
            }
        };
        Ok(Self { groups: hierarchies.all.iter().map(group).collect() })
    }

    /// The group of a controller.
    pub(crate) fn of(&self, controller: &str) -> Option<&Group> {
        let v1 = self.groups.iter().find(|group| group.names.iter().any(|name| name == controller));
        v1.or_else(|| self.unified())
    }

    pub(crate) fn unified(&self) -> Option<&Group> {
        self.groups.iter().find(|group| group.version == Version::V2)
    }
}

/// `SLICE:PREFIX:NAME` as the directory that systemd would make for it.
fn systemd_path(path: &str) -> Result<String, BundleError> {
    let parts: Vec<&str> = path.split(':').collect();
    let [slice, prefix, name] = parts[..] else {
        return Err(invalid(format!(
            "cgroupsPath `{path}` is not of the form `slice:prefix:name`, which goes with `--systemd-cgroup`"
        )));
    };
    let slice = if slice.is_empty() { "system.slice" } else { slice };
    let stem = slice.strip_suffix(".slice").filter(|stem| !stem.contains('/') && !stem.is_empty());
    let stem = stem.ok_or_else(|| invalid(format!("`{slice}` is no name of a slice")))?;
    let mut full = String::new();
    if stem != "-" {
        let mut so_far = String::new();
        for part in stem.split('-') {
            if part.is_empty() {
                return Err(invalid(format!("`{slice}` is no name of a slice")));
            }
            so_far.push_str(part);
            full.push_str(&format!("/{so_far}.slice"));
            so_far.push('-');
        }
    }
    let unit = if name.strip_suffix(".slice").is_some() {
        name.to_owned()
    } else if prefix.is_empty() {
        format!("{name}.scope")
    } else {
        format!("{prefix}-{name}.scope")
    };
    Ok(format!("{full}/{unit}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:3 - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
50 31 0:29 / /again rw,relatime - cgroup cgroup rw,cpu,cpuacct
";
    const OWN: &str = "9:name=systemd:/\n1:cpu,cpuacct:/a/b\n0::/\n";

    #[test]
    fn hierarchies_are_found_once_each() {
        let found = parse(MOUNTS, OWN);
        let seen: Vec<_> = found
            .all
            .iter()
            .map(|one| (one.mount.display().to_string(), one.names.join(","), one.own.as_str()))
            .collect();
        let expected = [
            ("/sys/fs/cgroup/cpu,cpuacct".to_owned(), "cpu,cpuacct".to_owned(), "/a/b"),
            ("/sys/fs/cgroup/systemd".to_owned(), "name=systemd".to_owned(), "/"),
        ];
        assert_eq!(seen, expected);
        assert!(!found.is_unified());
        let unified = parse("1 2 0:3 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n", "0::/x/y\n");
        assert!(unified.is_unified());
        assert_eq!(unified.all[0].own, "/x/y");
    }

    #[test]
    fn paths_begin_at_the_root_or_at_our_own_group() {
        let v1 = parse(MOUNTS, OWN);
        let first = |path: &str| {
            let groups = Groups::plan(&v1, path, "id", false).expect("planned");
            groups.groups[0].path.display().to_string()
        };
        assert_eq!(first("/k/c"), "/sys/fs/cgroup/cpu,cpuacct/k/c");
        // The own group is not there on the machine that tests.
        assert_eq!(first("k"), "/sys/fs/cgroup/cpu,cpuacct/k");
        assert_eq!(first(""), "/sys/fs/cgroup/cpu,cpuacct/id");
        assert!(Groups::plan(&v1, "/a/../../b", "id", false).is_err());
    }

    #[test]
    fn systemd_slices_become_the_directories_that_systemd_makes() {
        let path = |text| systemd_path(text).map_err(|error| error.to_string());
        assert_eq!(path("a-b.slice:cri:1").as_deref(), Ok("/a.slice/a-b.slice/cri-1.scope"));
        assert_eq!(path(":runc:x").as_deref(), Ok("/system.slice/runc-x.scope"));
        assert_eq!(path("-.slice::x").as_deref(), Ok("/x.scope"));
        for text in ["a", "a:b", "a/b.slice:c:d", "a:b:c", "a--b.slice:c:d"] {
            assert!(path(text).is_err(), "{text}");
        }
    }
}
