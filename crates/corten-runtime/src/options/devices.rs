//! `--device` and `--gpus`.

use std::path::{Path, PathBuf};

use super::OptionError;
use crate::cdi;
use crate::cgroup::DeviceAccess;
use crate::spec::Device;

const DEVICE: &str = "a device `/dev/NAME[:/dev/NAME][:rwm]` or a CDI device `vendor/class=name`";
const DEVICE_EXAMPLE: &str = "--device /dev/kvm";
const GPUS: &str = "a choice of GPUs: `all`, a number, or `device=` and their names";
const GPUS_EXAMPLE: &str = "--gpus all";

/// The kind of the devices that `--gpus` means.
const GPU_KIND: &str = "nvidia.com/gpu";
/// No machine has more.
const GPUS_MAX: u32 = 1024;

/// What `--device` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeviceOption {
    /// A node of the host.
    Node(Device),
    /// A CDI device by its whole name.
    Cdi(String),
}

/// Parses `--device`.
///
/// The letters are those of Docker: `r` for reading, `w` for writing, `m` for making a node.
pub fn parse_device(text: &str) -> Result<DeviceOption, OptionError> {
    let error = || OptionError::new(text, DEVICE, DEVICE_EXAMPLE);
    if cdi::is_qualified(text) {
        return Ok(DeviceOption::Cdi(text.to_owned()));
    }
    let mut parts: Vec<&str> = text.split(':').collect();
    let letters = parts.pop_if(|last| cdi::is_access(last));
    let access = letters.and_then(DeviceAccess::parse).unwrap_or_default();
    let (source, target) = match parts.as_slice() {
        [source] => (*source, *source),
        [source, target] => (*source, *target),
        _ => return Err(error()),
    };
    let source = node_path(source).ok_or_else(error)?;
    let target = node_path(target).ok_or_else(error)?;
    Ok(DeviceOption::Node(Device { source, target, access, number: None }))
}

/// An absolute path that is not the root, without `..`.
fn node_path(text: &str) -> Option<PathBuf> {
    let path = Path::new(text);
    let is_plain = !text.split('/').any(|part| part == "..") && !text.contains('\0');
    let clean: PathBuf = path.components().collect();
    (path.is_absolute() && is_plain && clean != Path::new("/")).then_some(clean)
}

/// Parses `--gpus` into CDI devices: `all`, a number of them, or `device=0,1` in quotes or without.
pub fn parse_gpus(text: &str) -> Result<Vec<String>, OptionError> {
    let error = || OptionError::new(text, GPUS, GPUS_EXAMPLE);
    let plain: String = text.chars().filter(|c| *c != '"').collect();
    let names: Vec<String> = if let Some(names) = plain.strip_prefix("device=") {
        names.split(',').map(str::to_owned).collect()
    } else {
        match plain.strip_prefix("count=").unwrap_or(&plain) {
            "all" | "-1" => vec!["all".to_owned()],
            number => {
                let count: u32 = number.parse().map_err(|_| error())?;
                if count > GPUS_MAX {
                    return Err(error());
                }
                (0..count).map(|number| number.to_string()).collect()
            }
        }
    };
    let names: Vec<String> = names.iter().map(|name| format!("{GPU_KIND}={name}")).collect();
    if names.iter().all(|name| cdi::is_qualified(name)) { Ok(names) } else { Err(error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match parse_device(text) {
            Ok(DeviceOption::Cdi(name)) => format!("cdi {name}"),
            Ok(DeviceOption::Node(device)) => {
                let (source, target) = (device.source.display(), device.target.display());
                format!("{source} as {target} {}", device.access)
            }
            Err(error) => format!("refused: {}", error.expected.split(' ').next().unwrap_or("")),
        }
    }

    #[test]
    fn a_device_is_a_node_or_a_cdi_name() {
        for (text, expected) in [
            ("/dev/kvm", "/dev/kvm as /dev/kvm rwm"),
            ("/dev/kvm:rwm", "/dev/kvm as /dev/kvm rwm"),
            ("/dev//a:/dev/b/", "/dev/a as /dev/b rwm"),
            ("/dev/a:/dev/b:rw", "/dev/a as /dev/b rw"),
            ("nvidia.com/gpu=all", "cdi nvidia.com/gpu=all"),
            ("a/b=c:d", "cdi a/b=c:d"),
            ("nvidia.com/gpu", "refused: a"),
            ("/dev/a:r", "/dev/a as /dev/a r"),
            ("/dev/a:/dev/b:m", "/dev/a as /dev/b m"),
            ("/dev/a:/dev/../b", "refused: a"),
            ("/dev/a:/dev/b:rx", "refused: a"),
            ("/dev/a:b", "refused: a"),
            ("kvm", "refused: a"),
            ("/", "refused: a"),
            ("", "refused: a"),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn gpus_are_cdi_devices_of_nvidia() {
        let of = |text: &str| parse_gpus(text).map(|names| names.join(" ")).ok();
        for (text, expected) in [
            ("all", Some("nvidia.com/gpu=all")),
            ("count=-1", Some("nvidia.com/gpu=all")),
            ("2", Some("nvidia.com/gpu=0 nvidia.com/gpu=1")),
            ("0", Some("")),
            ("device=0", Some("nvidia.com/gpu=0")),
            ("\"device=0,GPU-3a-4\"", Some("nvidia.com/gpu=0 nvidia.com/gpu=GPU-3a-4")),
            ("device=", None),
            ("device=0,", None),
            ("some", None),
            ("9999", None),
            ("", None),
        ] {
            assert_eq!(of(text).as_deref(), expected, "{text}");
        }
    }
}
