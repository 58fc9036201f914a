//! Decides the mounts, devices and settings below the container's root.

use std::path::{Path, PathBuf};

use corten_sys::namespace;

use super::options::{self, Options};
use super::steps::{Node, Step};
use super::{Builder, mapping};
use crate::config::{DeviceNode, Mount};
use crate::error::{BundleError, invalid};

/// The device nodes that the specification wants in every container.
const DEVICES: &[(&str, u32, u32)] = &[
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

const LINKS: &[(&str, &str)] = &[
    ("/dev/fd", "/proc/self/fd"),
    ("/dev/stdin", "/proc/self/fd/0"),
    ("/dev/stdout", "/proc/self/fd/1"),
    ("/dev/stderr", "/proc/self/fd/2"),
];

impl Builder<'_> {
    pub(super) fn mounts(&mut self) -> Result<(), BundleError> {
        for mount in &self.config.mounts {
            let options = options::parse(&mount.options);
            // Older versions of the specification allowed a relative one; it means the same.
            let target = Path::new("/").join(&mount.destination);
            self.mount(mount, target, options)?;
        }
        Ok(())
    }

    fn mount(
        &mut self,
        mount: &Mount,
        target: PathBuf,
        options: Options,
    ) -> Result<(), BundleError> {
        let kind = mount.kind.as_str();
        if kind == "bind" || options.bind || kind == "none" && !mount.source.is_empty() {
            if mount.source.is_empty() {
                return Err(invalid(format!(
                    "the bind mount on `{}` has no source",
                    target.display()
                )));
            }
            let mapped = mapping(options.mapped, &mount.uid_mappings, &mount.gid_mappings);
            let path = self.bundle.join(&mount.source);
            let source =
                self.source(path, options.recursive || kind == "bind" && !options.bind, mapped);
            self.steps.push(Step::Bind { source, target, options });
            return Ok(());
        }
        match kind {
            "" => Err(invalid(format!("the mount on `{}` has no type", target.display()))),
            "cgroup" => self.cgroup(target, options),
            "cgroup2" => {
                self.cgroup2(target, options);
                Ok(())
            }
            _ => {
                let (kind, source) = (mount.kind.clone(), mount.source.clone());
                self.steps.push(Step::Mount { kind, source, target, options });
                Ok(())
            }
        }
    }

    fn cgroup2(&mut self, target: PathBuf, options: Options) {
        self.wait();
        if self.namespaces.is_new(namespace::CGROUP) {
            let (kind, source) = ("cgroup2".to_owned(), "cgroup".to_owned());
            return self.steps.push(Step::Mount { kind, source, target, options });
        }
        let own = self.groups.unified().map(|group| group.path.clone());
        let source =
            self.source(own.unwrap_or_else(|| PathBuf::from("/sys/fs/cgroup")), true, None);
        self.steps.push(Step::Bind { source, target, options });
    }

    /// Version 1 has a mount for each hierarchy, in a small file system of their own.
    fn cgroup(&mut self, target: PathBuf, options: Options) -> Result<(), BundleError> {
        if !self.is_v1() {
            self.cgroup2(target, options);
            return Ok(());
        }
        self.wait();
        let data = [("mode", "755"), ("size", "64k")];
        let data = data.map(|(key, value)| (key.to_owned(), Some(value.to_owned()))).to_vec();
        let readonly = options.set & libc::MOUNT_ATTR_RDONLY;
        let folder = Options { data, set: options.set & !readonly, ..options.clone() };
        let (kind, source) = ("tmpfs".to_owned(), "tmpfs".to_owned());
        self.steps.push(Step::Mount { kind, source, target: target.clone(), options: folder });
        let hierarchies: Vec<_> = self.facts.hierarchies.v1().cloned().collect();
        for one in hierarchies {
            let name = one.mount.file_name().ok_or_else(|| invalid("cgroups at the root"))?;
            let place = target.join(name);
            if self.namespaces.is_new(namespace::CGROUP) {
                let flag = |name: &String| match name.split_once('=') {
                    Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
                    None => (name.clone(), None),
                };
                let data = one.names.iter().map(flag).collect();
                let (kind, source) = ("cgroup".to_owned(), "cgroup".to_owned());
                let options = Options { data, ..options.clone() };
                self.steps.push(Step::Mount { kind, source, target: place, options });
            } else {
                let group = self.groups.groups.iter().find(|group| group.names == one.names);
                let path = group.map_or_else(|| one.mount.clone(), |group| group.path.clone());
                let source = self.source(path, false, None);
                self.steps.push(Step::Bind { source, target: place, options: options.clone() });
            }
            for alias in
                one.names.iter().filter(|alias| name != alias.as_str() && !alias.contains('='))
            {
                self.steps.push(Step::Link {
                    path: target.join(alias),
                    target: name.to_string_lossy().into_owned(),
                    replace: false,
                });
            }
        }
        if readonly != 0 {
            self.steps.push(Step::SealMount { path: target });
        }
        Ok(())
    }

    /// A `/dev` of the host's has its devices already.
    pub(super) fn devices(&mut self) -> Result<(), BundleError> {
        let is_foreign = self.config.mounts.iter().any(|mount| {
            let options = options::parse(&mount.options);
            mount.destination == Path::new("/dev") && (mount.kind == "bind" || options.bind)
        });
        if is_foreign {
            return Ok(());
        }
        let given: Vec<&Path> = self.linux.devices.iter().map(|one| one.path.as_path()).collect();
        for (path, major, minor) in DEVICES.iter().filter(|one| !given.contains(&Path::new(one.0)))
        {
            let node = Node { kind: libc::S_IFCHR, major: *major, minor: *minor };
            let path = PathBuf::from(path);
            self.device(Step::Device {
                path,
                node,
                mode: 0o666,
                uid: 0,
                gid: 0,
                must_match: false,
            });
        }
        for one in &self.linux.devices {
            let step = device(one)?;
            self.device(step);
        }
        for (path, target) in LINKS {
            let (path, target) = (PathBuf::from(path), (*target).to_owned());
            self.steps.push(Step::Link { path, target, replace: false });
        }
        if self.config.mounts.iter().any(|mount| mount.kind == "proc") {
            let (path, target) = (PathBuf::from("/dev/core"), "/proc/kcore".to_owned());
            self.steps.push(Step::Link { path, target, replace: false });
        }
        let (path, target) = (PathBuf::from("/dev/ptmx"), "pts/ptmx".to_owned());
        self.steps.push(Step::Link { path, target, replace: true });
        Ok(())
    }

    /// In a user namespace nobody can make a node: the host's is mounted.
    fn device(&mut self, step: Step) {
        let can_make =
            self.facts.is_root && self.facts.may_mount && !self.namespaces.has(namespace::USER);
        match &step {
            Step::Device { path, node, .. } if !can_make && node.kind != libc::S_IFIFO => {
                let (target, options) = (path.clone(), Options::default());
                let source = self.source(path.clone(), false, None);
                self.steps.push(Step::Bind { source, target, options });
            }
            _ => self.steps.push(step),
        }
    }

    pub(super) fn sysctls(&mut self) -> Result<(), BundleError> {
        for (name, value) in &self.linux.sysctl {
            let (bit, kind) = super::checks::namespace_of(name).ok_or_else(|| {
                invalid(format!("sysctl `{name}` is not in a separate kernel namespace"))
            })?;
            if !self.namespaces.has(bit) {
                return Err(invalid(format!(
                    "sysctl `{name}` is not allowed in the host's {kind} namespace"
                )));
            }
            if value.contains('\0') {
                return Err(invalid(format!("the value of sysctl `{name}` has a NUL byte")));
            }
            self.steps.push(Step::Sysctl { name: name.clone(), value: value.clone() });
        }
        Ok(())
    }
}

fn device(one: &DeviceNode) -> Result<Step, BundleError> {
    let path = &one.path;
    let wrong = |what: &str| invalid(format!("device `{}` has {what}", path.display()));
    if !path.is_absolute() {
        return Err(wrong("a path that is not absolute"));
    }
    let kind = match one.kind.as_str() {
        "c" | "u" => libc::S_IFCHR,
        "b" => libc::S_IFBLK,
        "p" => libc::S_IFIFO,
        _ => return Err(wrong("a type that is none of `c`, `u`, `b` and `p`")),
    };
    let number = |number: i64| u32::try_from(number).map_err(|_| wrong("an impossible number"));
    let node = if kind == libc::S_IFIFO {
        Node { kind, major: 0, minor: 0 }
    } else {
        Node { kind, major: number(one.major)?, minor: number(one.minor)? }
    };
    Ok(Step::Device {
        path: path.clone(),
        node,
        // Programs hand over the whole mode, with the type in it.
        mode: one.file_mode.unwrap_or(0o666) & 0o7777,
        uid: one.uid.unwrap_or_default(),
        gid: one.gid.unwrap_or_default(),
        must_match: true,
    })
}
