//! Which kernel settings are a container's own.
//!
//! A setting belongs to one kind of namespace, or to the machine. A container may change those of
//! namespaces that it does not share with the host.

use std::fmt;

use crate::namespaces::Namespace;
use crate::spec::ContainerSpec;

/// Why a kernel setting is not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SysctlRefusal {
    /// It is no name of a setting.
    Name,
    /// The value has a character that no setting takes.
    Value,
    /// It holds for the whole machine.
    Machine,
    /// It belongs to a namespace that the container shares with the host.
    Shared { what: &'static str, flag: &'static str },
    /// There is a flag for it.
    Flag { flag: &'static str },
}

impl SysctlRefusal {
    /// Says what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Name => Some("write it as `net.core.somaxconn=1024`".to_owned()),
            Self::Machine => {
                Some("set it on the host, with `sysctl` as root, if all may have it".to_owned())
            }
            Self::Shared { flag, .. } => Some(format!("leave out `{flag}`")),
            Self::Flag { flag } => Some(format!("use `{flag}`")),
            Self::Value => None,
        }
    }
}

impl fmt::Display for SysctlRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name => f.write_str("it is no name of one"),
            Self::Value => f.write_str("its value has a NUL byte or a line break"),
            Self::Machine => f.write_str("it holds for the whole machine"),
            Self::Shared { what, .. } => write!(f, "its {what} are the host's"),
            Self::Flag { .. } => f.write_str("it has a flag of its own"),
        }
    }
}

/// Settings of the inter-process communication, `ipc/ipc_sysctl.c` of the kernel.
const OF_IPC: [&str; 11] = [
    "kernel.auto_msgmni",
    "kernel.msg_next_id",
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.sem_next_id",
    "kernel.shm_next_id",
    "kernel.shm_rmid_forced",
    "kernel.shmall",
    "kernel.shmmax",
];

/// Decides whether a container may change a setting; `Ok` holds its name with dots.
pub(super) fn check(
    spec: &ContainerSpec,
    name: &str,
    value: &str,
) -> Result<String, SysctlRefusal> {
    let name = with_dots(name).ok_or(SysctlRefusal::Name)?;
    if value.contains(['\0', '\n']) {
        return Err(SysctlRefusal::Value);
    }
    let of = |namespace: &Namespace, what, flag| match namespace {
        Namespace::Host => Err(SysctlRefusal::Shared { what, flag }),
        _ => Ok(name.clone()),
    };
    let namespaces = &spec.namespaces;
    if OF_IPC.contains(&name.as_str()) || name == "kernel.shmmni" || name.starts_with("fs.mqueue.")
    {
        return of(&namespaces.ipc, "messages and shared memory", "--ipc host");
    }
    if name.starts_with("net.") {
        return of(spec.network_namespace(), "networks", "--network host");
    }
    match name.as_str() {
        "kernel.domainname" => of(&namespaces.uts, "names", "--uts host"),
        "kernel.hostname" => Err(SysctlRefusal::Flag { flag: "--hostname" }),
        _ => Err(SysctlRefusal::Machine),
    }
}

/// Reads a name in either form: with slashes, dots are part of the names of interfaces; with dots,
/// slashes are. The result has dots between the parts, and slashes in the place of dots within one.
fn with_dots(name: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/@:".contains(&byte);
    let separator = name.find(['.', '/']).and_then(|at| name.get(at..=at))?;
    let name = match separator {
        "/" => name
            .chars()
            .map(|letter| match letter {
                '/' => '.',
                '.' => '/',
                other => other,
            })
            .collect(),
        _ => name.to_owned(),
    };
    let is_name = name.bytes().all(plain)
        && name.split('.').all(|part| !part.is_empty() && part != "/" && part != "//");
    is_name.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Network, Rootfs};

    fn spec() -> ContainerSpec {
        ContainerSpec::new("a", Rootfs::in_memory(Vec::new()), Vec::new())
    }

    #[test]
    fn each_setting_belongs_to_a_namespace_or_to_the_machine() {
        let told = |name: &str| match check(&spec(), name, "1") {
            Ok(name) => format!("set {name}"),
            Err(refusal) => refusal.to_string(),
        };
        for (name, expected) in [
            ("net.core.somaxconn", "set net.core.somaxconn"),
            ("net/ipv4/conf/eth0.1/forwarding", "set net.ipv4.conf.eth0/1.forwarding"),
            ("net.ipv4.conf.eth0/1.forwarding", "set net.ipv4.conf.eth0/1.forwarding"),
            ("kernel.shmmax", "set kernel.shmmax"),
            ("kernel.msgmnb", "set kernel.msgmnb"),
            ("kernel.sem", "set kernel.sem"),
            ("fs.mqueue.msg_max", "set fs.mqueue.msg_max"),
            ("kernel.domainname", "set kernel.domainname"),
            ("kernel.hostname", "it has a flag of its own"),
            ("vm.overcommit_memory", "it holds for the whole machine"),
            ("kernel.core_pattern", "it holds for the whole machine"),
            ("fs.file-max", "it holds for the whole machine"),
            ("netx.a", "it holds for the whole machine"),
            ("net", "it is no name of one"),
            ("net..a", "it is no name of one"),
            ("net.a b", "it is no name of one"),
            ("net./.x", "it is no name of one"),
            ("net.//.kernel", "it is no name of one"),
            ("", "it is no name of one"),
        ] {
            assert_eq!(told(name), expected, "{name}");
        }
        assert_eq!(check(&spec(), "net.a.b", "1\n2"), Err(SysctlRefusal::Value));
    }

    #[test]
    fn the_hosts_namespaces_are_not_changed() {
        let mut spec = spec();
        spec.network = Network::Host;
        spec.namespaces.ipc = Namespace::Host;
        spec.namespaces.uts = Namespace::Host;
        for name in ["net.core.somaxconn", "kernel.sem", "fs.mqueue.msg_max", "kernel.domainname"] {
            let refused = check(&spec, name, "1");
            assert!(matches!(refused, Err(SysctlRefusal::Shared { .. })), "{name}: {refused:?}");
        }
        spec.network = Network::None;
        spec.namespaces.network = Namespace::Join("/run/netns/a".into());
        assert!(check(&spec, "net.core.somaxconn", "1").is_ok());
    }
}
