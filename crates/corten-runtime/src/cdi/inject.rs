//! From the edits of devices to a container.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use corten_sys::file;

use super::CdiError;
use super::hooks::{self, Known, LIBRARIES};
use super::soname;
use super::spec::{DeviceNode, Edits, Hook, HostMount, NodeKind};
use crate::cgroup::DeviceAccess;
use crate::options;
use crate::spec::{BindMount, BindOptions, ContainerSpec, Device, Mount, TmpfsMount};

/// What a container needs for its devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Injection {
    /// `NAME=value` each; they take the place of others of the same name.
    pub env: Vec<String>,
    pub mounts: Vec<Mount>,
    pub additional_gids: Vec<u32>,
    /// What the vendor asks for and the container does not get, one line each.
    pub warnings: Vec<String>,
    /// The libraries of the image for older drivers may be used, where they are newer.
    pub is_compatible: bool,
    /// With the device that needs each.
    nodes: Vec<(String, DeviceNode)>,
    /// Links that hooks would make: what each leads to, and where it is.
    links: Vec<(PathBuf, PathBuf)>,
    /// Where hooks would have the linker look.
    folders: Vec<PathBuf>,
    /// In [`LIBRARIES`]: name and what it leads to.
    libraries: BTreeMap<String, PathBuf>,
}

impl Injection {
    /// Adds what a device needs, or all devices of a specification.
    pub(super) fn add(&mut self, name: &str, edits: &Edits) -> Result<(), CdiError> {
        options::merge(&mut self.env, edits.env.iter().cloned());
        for node in &edits.nodes {
            let known = self.nodes.iter().position(|(_, known)| known.path == node.path);
            let entry = (name.to_owned(), node.clone());
            match known {
                Some(index) => self.nodes[index] = entry,
                None => self.nodes.push(entry),
            }
        }
        for mount in &edits.mounts {
            let mount = host_mount(name, mount)?;
            if !self.mounts.contains(&mount) {
                self.mounts.push(mount);
            }
        }
        for gid in &edits.additional_gids {
            // As in the specification, 0 is no group to add.
            if *gid != 0 && !self.additional_gids.contains(gid) {
                self.additional_gids.push(*gid);
            }
        }
        for hook in &edits.hooks {
            match hooks::understand(hook) {
                Some(Known::Links(links)) => self.links.extend(links),
                Some(Known::Libraries(folders)) => self.folders.extend(folders),
                Some(Known::Compatibility) => self.is_compatible = true,
                Some(Known::Nothing) => {}
                None => self.warnings.push(hook_warning(name, hook)),
            }
        }
        if edits.rdt {
            self.warnings.push(format!(
                "the CDI device `{name}` asks for cache of its own (`intelRdt`), which is not set up"
            ));
        }
        Ok(())
    }

    /// Returns true if nothing is needed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Where things are mounted in the container.
    pub fn targets(&self) -> impl Iterator<Item = &Path> {
        let mounts = self.mounts.iter().map(|mount| match mount {
            Mount::Bind(bind) => bind.target.as_path(),
            Mount::Tmpfs(tmpfs) => tmpfs.target.as_path(),
        });
        mounts.chain(self.nodes.iter().map(|(_, node)| node.path.as_path()))
    }

    /// Looks at the nodes and libraries of the host: each node must be there and be what its description
    /// says. Adds warnings about what a mount of a node cannot change, and what hooks would do.
    pub fn check(&mut self) -> Result<(), CdiError> {
        self.check_nodes()?;
        self.link();
        Ok(())
    }

    /// Does what hooks would do about libraries.
    fn link(&mut self) {
        let mut names = BTreeMap::new();
        for mount in &self.mounts {
            let Mount::Bind(bind) = mount else { continue };
            let is_library = |name: &str| name.contains(".so");
            if !bind.target.file_name().and_then(|name| name.to_str()).is_some_and(is_library) {
                continue;
            }
            // One that is not there is told of when it is mounted.
            let name = file::open(&bind.source).ok().and_then(|file| soname::soname(&file));
            names.extend(name.map(|name| (bind.target.clone(), name)));
        }
        let linked = hooks::plan_links(&self.mounts, &names, &self.links, &self.folders);
        self.mounts.extend(linked.mounts);
        self.libraries = linked.libraries;
        if !linked.lost.is_empty() {
            let lost: Vec<String> =
                linked.lost.iter().map(|path| path.display().to_string()).collect();
            self.warnings.push(format!(
                "there are no links {}: nothing of what the devices mount is behind them",
                lost.join(", ")
            ));
        }
        self.links.clear();
    }

    fn check_nodes(&mut self) -> Result<(), CdiError> {
        let mut warnings = Vec::new();
        for (name, node) in &self.nodes {
            let refuse = |reason: String| CdiError::Node {
                name: name.clone(),
                path: node.host_path.clone(),
                reason,
            };
            let (metadata, found) = look(&node.host_path).map_err(refuse)?;
            if node.kind.is_some_and(|kind| kind != found) {
                return Err(refuse(format!(
                    "it is {}, which is not what is described",
                    found.shown()
                )));
            }
            let number = metadata.rdev();
            let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
            // Zero is how a description says that it does not know.
            let wanted = (node.major.unwrap_or(0), node.minor.unwrap_or(0));
            if found != NodeKind::Pipe && wanted != (0, 0) && wanted != (major, minor) {
                let (a, b) = wanted;
                return Err(refuse(format!("it is {major}:{minor}, and {a}:{b} is described")));
            }
            let owner = node.uid.is_some_and(|uid| uid != metadata.uid())
                || node.gid.is_some_and(|gid| gid != metadata.gid());
            let mode = node.mode.is_some_and(|mode| mode & 0o777 != metadata.mode() & 0o777);
            if owner || mode {
                warnings.push(format!(
                    "`{}` of the CDI device `{name}` keeps the owner and the permissions that it \
                     has on the host",
                    node.path.display()
                ));
            }
        }
        self.warnings.extend(warnings);
        Ok(())
    }

    /// Gives a container what it needs. Mounts of the container's own come later, and win.
    pub fn apply(&self, spec: &mut ContainerSpec) {
        options::merge(&mut spec.env, self.env.iter().cloned());
        for (_, node) in &self.nodes {
            let path = absolute_dev(&node.path);
            spec.devices.retain(|known| known.target != path);
            let source = node.host_path.clone();
            let access = node.permissions.as_deref().and_then(DeviceAccess::parse);
            let access = access.unwrap_or_default();
            spec.devices.push(Device { source, target: path, access, number: None });
        }
        spec.mounts.splice(0..0, self.mounts.iter().cloned());
        for (name, path) in &self.libraries {
            spec.device_links.push((Path::new(LIBRARIES).join(name), path.clone()));
        }
        if !self.libraries.is_empty() {
            search_last(&mut spec.env, LIBRARIES);
        }
        for gid in &self.additional_gids {
            if !spec.additional_gids.contains(gid) {
                spec.additional_gids.push(*gid);
            }
        }
    }
}

/// Refuses a path of the host that is no device.
pub fn check_device(path: &Path) -> Result<(), CdiError> {
    let refuse = |reason| CdiError::Plain { path: path.to_owned(), reason };
    look(path).map(|_| ()).map_err(refuse)
}

/// What is at a path, or why it is no node.
fn look(path: &Path) -> Result<(Metadata, NodeKind), String> {
    let metadata = match file::absent_is_none(file::metadata(path)) {
        Ok(Some(metadata)) => metadata,
        Ok(None) => return Err("it is not there".to_owned()),
        Err(error) => return Err(error.source.to_string()),
    };
    let kind = metadata.file_type();
    let found = if kind.is_char_device() {
        NodeKind::Character
    } else if kind.is_block_device() {
        NodeKind::Block
    } else if kind.is_fifo() {
        NodeKind::Pipe
    } else {
        return Err("it is no device".to_owned());
    };
    Ok((metadata, found))
}

/// The path without doubled slashes and dots, so that equal ones are seen to be equal.
fn absolute_dev(path: &Path) -> PathBuf {
    path.components().collect()
}

fn host_mount(name: &str, mount: &HostMount) -> Result<Mount, CdiError> {
    let target = absolute_dev(&mount.container_path);
    match mount.kind.as_str() {
        "" | "bind" | "none" => {}
        "tmpfs" => return tmpfs(name, mount, &target),
        kind => {
            let (name, kind, path) = (name.to_owned(), kind.to_owned(), target);
            return Err(CdiError::MountType { name, kind, path });
        }
    }
    // The files are the host's, and are looked at rather than owned.
    let mut restrict = BindOptions { keep_owners: true, ..BindOptions::default() };
    let (mut readonly, mut recursive) = (false, false);
    for option in &mount.options {
        match option.as_str() {
            "ro" => readonly = true,
            "rw" => readonly = false,
            "rbind" => recursive = true,
            "nosuid" => restrict.no_setuid = true,
            "noexec" => restrict.no_exec = true,
            // What Corten does in any case, and what changes nothing.
            "bind" | "nodev" | "private" | "rprivate" | "slave" | "rslave" | "suid" | "exec"
            | "atime" | "noatime" | "relatime" | "norelatime" | "nodiratime" | "diratime" | "" => {}
            option => {
                let (name, option) = (name.to_owned(), option.to_owned());
                return Err(CdiError::MountOption { name, option });
            }
        }
    }
    let source = mount.host_path.clone();
    Ok(Mount::Bind(BindMount { source, target, readonly, recursive, options: restrict }))
}

fn tmpfs(name: &str, mount: &HostMount, target: &Path) -> Result<Mount, CdiError> {
    let plain: Vec<&str> = mount
        .options
        .iter()
        .map(String::as_str)
        .filter(|option| !matches!(*option, "private" | "rprivate" | ""))
        .collect();
    let text = format!("{}:{}", target.display(), plain.join(","));
    let wrong = |_| CdiError::MountOption { name: name.to_owned(), option: plain.join(",") };
    let parsed: TmpfsMount = options::parse_tmpfs(&text).map_err(wrong)?;
    let noexec = plain.contains(&"noexec");
    Ok(Mount::Tmpfs(TmpfsMount { noexec, ..parsed }))
}

/// Has the linker look in one more directory, after all others.
fn search_last(env: &mut Vec<String>, directory: &str) {
    let known = env.iter().rev().find_map(|variable| variable.strip_prefix("LD_LIBRARY_PATH="));
    let value = match known {
        Some(known) if known.split(':').any(|part| part == directory) => return,
        Some(known) if !known.is_empty() => format!("LD_LIBRARY_PATH={known}:{directory}"),
        _ => format!("LD_LIBRARY_PATH={directory}"),
    };
    options::merge(env, [value]);
}

/// Says what is not done: Corten runs no program of the host for a container.
fn hook_warning(name: &str, hook: &Hook) -> String {
    let program = hook.path.display();
    let (when, words) = (&hook.name, hook.args.get(1..).unwrap_or_default().join(" "));
    let words = if words.is_empty() { words } else { format!(" {words}") };
    // Some have hundreds of words.
    let words: String = words.chars().take(80).collect();
    format!("the {when} hook of the CDI device `{name}` is not run: `{program}{words}`")
}
