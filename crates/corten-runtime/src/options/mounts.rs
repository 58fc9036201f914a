//! `-v`, `--mount` and `--tmpfs`.

use std::path::{Path, PathBuf};

use super::{OptionError, parse_bytes};
use crate::namespaces::Propagation;
use crate::spec::{BindMount, BindOptions, Mount, TmpfsMount};

const VOLUME: &str = "a volume `HOST-PATH:CONTAINER-PATH[:ro]`";
const VOLUME_EXAMPLE: &str = "-v ./data:/data:ro";
const MOUNT: &str = "a mount of `key=value` pairs with `type`, `source` and `target`";
const MOUNT_EXAMPLE: &str = "--mount type=bind,source=./data,target=/data,readonly";
const TMPFS: &str = "a tmpfs `PATH[:size=BYTES,mode=OCTAL]`";
const TMPFS_EXAMPLE: &str = "--tmpfs /tmp:size=64m";

/// What the left side of `-v` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeSource {
    /// A path of the host, absolute.
    Host(BindMount),
    /// A volume.
    Volume(VolumeMount),
}

/// A volume in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeMount {
    /// `None` makes one for this container alone.
    pub name: Option<String>,
    pub target: PathBuf,
    pub readonly: bool,
    /// A new one begins with what the image has at the target.
    pub copies: bool,
}

/// What `--mount` describes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountSource {
    Mount(Mount),
    Volume(VolumeMount),
}

/// Parses `-v HOST:CONTAINER[:OPTIONS]`; a relative host path (`./x`) is taken from `cwd`.
///
/// Options are `ro`, `rw`, `noexec`, `nosuid`, `bind` (without the mounts below), how mounts of the host
/// reach it (`rslave` and so on), and those that change nothing: `z` and `Z` (relabelling, which hosts
/// with `SELinux` do not need for files that are mounted under other owners), `rbind` and others.
pub fn parse_volume(text: &str, cwd: &Path) -> Result<VolumeSource, OptionError> {
    let error = || OptionError::new(text, VOLUME, VOLUME_EXAMPLE);
    let mut parts = text.split(':');
    let (first, second, options) = (parts.next(), parts.next(), parts.next());
    if parts.next().is_some() {
        return Err(error());
    }
    let (Some(source), Some(target)) = (first, second) else {
        let volume = |target| {
            VolumeSource::Volume(VolumeMount { name: None, target, readonly: false, copies: true })
        };
        return target_path(text).map(volume).ok_or_else(error);
    };
    let target = target_path(target).ok_or_else(error)?;
    let (mut readonly, mut copies, mut recursive) = (false, true, true);
    let mut bind = BindOptions::default();
    for option in options.unwrap_or("rw").split(',') {
        match option {
            "ro" => readonly = true,
            "nocopy" => copies = false,
            "rw" => readonly = false,
            "bind" => recursive = false,
            "noexec" => bind.no_exec = true,
            "nosuid" => bind.no_setuid = true,
            "z" | "Z" | "rbind" | "copy" | "exec" | "suid" | "nodev" | "cached" | "delegated"
            | "consistent" => {}
            option => bind.propagation = propagation(option).ok_or_else(error)?,
        }
    }
    if source.is_empty() {
        return Err(error());
    }
    if !source.starts_with(['/', '.']) {
        let name = Some(source.to_owned());
        return Ok(VolumeSource::Volume(VolumeMount { name, target, readonly, copies }));
    }
    Ok(VolumeSource::Host(BindMount {
        source: cwd.join(source),
        target,
        readonly,
        recursive,
        options: bind,
    }))
}

/// How mounts go on; whether those below take part follows from whether they are there.
fn propagation(text: &str) -> Option<Propagation> {
    Propagation::parse(text).map(|(propagation, _)| propagation)
}

/// Parses `--mount type=bind|tmpfs|volume,…` in Docker's grammar of keys.
pub fn parse_mount(text: &str, cwd: &Path) -> Result<MountSource, OptionError> {
    let error = || OptionError::new(text, MOUNT, MOUNT_EXAMPLE);
    let (mut kind, mut source, mut target) = ("volume", None, None);
    let (mut readonly, mut recursive, mut copies) = (false, true, true);
    let (mut size_bytes, mut mode) = (None, 0o1777);
    let mut bind = BindOptions::default();
    for pair in text.split(',') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, "true"));
        match key.trim() {
            "type" => kind = value,
            "source" | "src" => source = Some(value),
            "target" | "dst" | "destination" => target = target_path(value),
            "readonly" | "ro" => readonly = boolean(value).ok_or_else(error)?,
            "volume-nocopy" => copies = !boolean(value).ok_or_else(error)?,
            "bind-recursive" => {
                recursive = match value {
                    // All mounts below a read-only one are read-only in any case.
                    "enabled" | "true" | "writable" | "readonly" => true,
                    "disabled" | "false" => false,
                    _ => return Err(error()),
                }
            }
            "bind-nonrecursive" => recursive = !boolean(value).ok_or_else(error)?,
            "bind-propagation" => bind.propagation = propagation(value).ok_or_else(error)?,
            "noexec" => bind.no_exec = boolean(value).ok_or_else(error)?,
            "nosuid" => bind.no_setuid = boolean(value).ok_or_else(error)?,
            "consistency" | "relabel" if !value.is_empty() => {}
            "tmpfs-size" => size_bytes = Some(parse_bytes(value)?),
            "tmpfs-mode" => mode = octal(value).ok_or_else(error)?,
            _ => return Err(error()),
        }
    }
    let target = target.ok_or_else(error)?;
    match (kind, source) {
        ("bind", Some(source)) if !source.is_empty() => {
            let (source, options) = (cwd.join(source), bind);
            let mount = BindMount { source, target, readonly, recursive, options };
            Ok(MountSource::Mount(Mount::Bind(mount)))
        }
        ("tmpfs", None) => {
            let noexec = bind.no_exec;
            let mount =
                TmpfsMount { size_bytes, mode, readonly, noexec, ..TmpfsMount::new(target) };
            Ok(MountSource::Mount(Mount::Tmpfs(mount)))
        }
        ("volume", source) if source != Some("") => {
            let name = source.map(str::to_owned);
            Ok(MountSource::Volume(VolumeMount { name, target, readonly, copies }))
        }
        _ => Err(error()),
    }
}

/// Parses `--tmpfs PATH[:OPTIONS]`.
pub fn parse_tmpfs(text: &str) -> Result<TmpfsMount, OptionError> {
    let error = || OptionError::new(text, TMPFS, TMPFS_EXAMPLE);
    let (path, options) = text.split_once(':').unwrap_or((text, ""));
    // Docker mounts these without the right to execute, unless asked otherwise.
    let mut mount =
        TmpfsMount { noexec: true, ..TmpfsMount::new(target_path(path).ok_or_else(error)?) };
    for option in options.split(',').filter(|option| !option.is_empty()) {
        match option.split_once('=') {
            Some(("size", value)) => mount.size_bytes = Some(parse_bytes(value)?),
            Some(("mode", value)) => mount.mode = octal(value).ok_or_else(error)?,
            Some(("uid", value)) => mount.uid = Some(value.parse().map_err(|_| error())?),
            Some(("gid", value)) => mount.gid = Some(value.parse().map_err(|_| error())?),
            Some(("nr_inodes", value)) => mount.files_max = Some(parse_bytes(value)?),
            None if option == "ro" => mount.readonly = true,
            None if option == "exec" => mount.noexec = false,
            None if matches!(option, "rw" | "noexec" | "nosuid" | "nodev" | "noatime") => {}
            // A mount that nobody else sees passes nothing on.
            None if propagation(option) == Some(Propagation::Private) => {}
            _ => return Err(error()),
        }
    }
    Ok(mount)
}

/// A container path: absolute, not the root, without `..`.
pub(super) fn target_path(text: &str) -> Option<PathBuf> {
    let path = Path::new(text);
    let plain = path.components().all(|part| {
        matches!(part, std::path::Component::RootDir | std::path::Component::Normal(_))
    });
    (path.is_absolute() && plain && path != Path::new("/")).then(|| path.components().collect())
}

fn boolean(value: &str) -> Option<bool> {
    match value {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

fn octal(value: &str) -> Option<u32> {
    u32::from_str_radix(value, 8).ok().filter(|mode| *mode <= 0o7777)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(text: &str) -> BindMount {
        match parse_volume(text, Path::new("/cwd")) {
            Ok(VolumeSource::Host(mount)) => mount,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn a_relative_host_path_is_taken_from_where_we_are() {
        let mount = host("./data:/data:ro");
        assert_eq!(mount.source, Path::new("/cwd/./data"));
        assert_eq!(mount.target, Path::new("/data"));
        assert!(mount.readonly);
        assert!(!host("/a:/b").readonly);
        assert!(!host("/a:/b:z,rw").readonly);
        let options = host("/a:/b:rslave,noexec").options;
        assert_eq!((options.propagation, options.no_exec), (Propagation::Slave, true));
        assert!(!host("/a:/b:bind").recursive);
    }

    #[test]
    fn a_name_is_a_volume_and_a_path_alone_is_anonymous() {
        let cwd = Path::new("/");
        let volume = |name: Option<&str>, target: &str, readonly, copies| {
            let (name, target) = (name.map(str::to_owned), target.into());
            Ok(VolumeSource::Volume(VolumeMount { name, target, readonly, copies }))
        };
        assert_eq!(parse_volume("models:/m", cwd), volume(Some("models"), "/m", false, true));
        assert_eq!(parse_volume("m:/m:ro,nocopy", cwd), volume(Some("m"), "/m", true, false));
        assert_eq!(parse_volume("/data/", cwd), volume(None, "/data", false, true));
        let mount = parse_mount("source=m,target=/m,volume-nocopy", cwd);
        assert!(matches!(mount, Ok(MountSource::Volume(volume)) if !volume.copies));
    }

    #[test]
    fn targets_are_absolute_and_have_no_parent() {
        for text in ["/a:b", "/a:/", "/a:/../b", ":/b", "/a:/b:x", "/a:/b:ro:z", "x", "/a:"] {
            assert!(parse_volume(text, Path::new("/")).is_err(), "{text}");
        }
    }

    #[test]
    fn mounts_are_read_key_by_key() {
        let cwd = Path::new("/cwd");
        let mount = parse_mount("type=bind,src=/a,dst=/b,readonly", cwd);
        let Ok(MountSource::Mount(Mount::Bind(bind))) = mount else { panic!("{mount:?}") };
        assert!(bind.readonly && bind.recursive);
        let text = "type=bind,src=/a,dst=/b,bind-propagation=rshared,bind-recursive=disabled";
        let Ok(MountSource::Mount(Mount::Bind(bind))) = parse_mount(text, cwd) else { panic!() };
        assert_eq!((bind.options.propagation, bind.recursive), (Propagation::Shared, false));
        assert!(parse_mount("type=bind,src=/a,dst=/b,bind-propagation=some", cwd).is_err());
        let mount = parse_mount("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=700", cwd);
        assert!(
            matches!(mount, Ok(MountSource::Mount(Mount::Tmpfs(t))) if t.size_bytes == Some(1 << 20) && t.mode == 0o700)
        );
        for text in ["", "type=bind,src=/a", "type=bind,dst=/b", "type=tmpfs,src=/a,dst=/b", "x=y"]
        {
            assert!(parse_mount(text, cwd).is_err(), "{text}");
        }
    }

    #[test]
    fn a_tmpfs_may_not_execute_unless_asked() {
        let mount = parse_tmpfs("/tmp:size=64m,mode=755").unwrap();
        assert_eq!((mount.size_bytes, mount.mode, mount.noexec), (Some(64 << 20), 0o755, true));
        assert!(!parse_tmpfs("/tmp:exec").unwrap().noexec);
        let mount = parse_tmpfs("/tmp:uid=5,gid=6,nr_inodes=1k").unwrap();
        assert_eq!((mount.uid, mount.gid, mount.files_max), (Some(5), Some(6), Some(1024)));
        for text in ["tmp", "/tmp:size", "/tmp:mode=9", "/", "/tmp:bogus"] {
            assert!(parse_tmpfs(text).is_err(), "{text}");
        }
    }
}
