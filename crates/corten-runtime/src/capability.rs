//! Linux capabilities by name.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// One of the parts that root's power is divided into; the value is the kernel's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
#[repr(u8)]
pub enum Capability {
    Chown = 0,
    DacOverride = 1,
    DacReadSearch = 2,
    Fowner = 3,
    Fsetid = 4,
    Kill = 5,
    Setgid = 6,
    Setuid = 7,
    Setpcap = 8,
    LinuxImmutable = 9,
    NetBindService = 10,
    NetBroadcast = 11,
    NetAdmin = 12,
    NetRaw = 13,
    IpcLock = 14,
    IpcOwner = 15,
    SysModule = 16,
    SysRawio = 17,
    SysChroot = 18,
    SysPtrace = 19,
    SysPacct = 20,
    SysAdmin = 21,
    SysBoot = 22,
    SysNice = 23,
    SysResource = 24,
    SysTime = 25,
    SysTtyConfig = 26,
    Mknod = 27,
    Lease = 28,
    AuditWrite = 29,
    AuditControl = 30,
    Setfcap = 31,
    MacOverride = 32,
    MacAdmin = 33,
    Syslog = 34,
    WakeAlarm = 35,
    BlockSuspend = 36,
    AuditRead = 37,
    Perfmon = 38,
    Bpf = 39,
    CheckpointRestore = 40,
}

impl Capability {
    /// Every capability that Linux has, in the kernel's order.
    pub const ALL: &[Self] = &[
        Self::Chown,
        Self::DacOverride,
        Self::DacReadSearch,
        Self::Fowner,
        Self::Fsetid,
        Self::Kill,
        Self::Setgid,
        Self::Setuid,
        Self::Setpcap,
        Self::LinuxImmutable,
        Self::NetBindService,
        Self::NetBroadcast,
        Self::NetAdmin,
        Self::NetRaw,
        Self::IpcLock,
        Self::IpcOwner,
        Self::SysModule,
        Self::SysRawio,
        Self::SysChroot,
        Self::SysPtrace,
        Self::SysPacct,
        Self::SysAdmin,
        Self::SysBoot,
        Self::SysNice,
        Self::SysResource,
        Self::SysTime,
        Self::SysTtyConfig,
        Self::Mknod,
        Self::Lease,
        Self::AuditWrite,
        Self::AuditControl,
        Self::Setfcap,
        Self::MacOverride,
        Self::MacAdmin,
        Self::Syslog,
        Self::WakeAlarm,
        Self::BlockSuspend,
        Self::AuditRead,
        Self::Perfmon,
        Self::Bpf,
        Self::CheckpointRestore,
    ];

    /// Returns the kernel's number.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// Returns the name without `CAP_`, as Docker writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chown => "CHOWN",
            Self::DacOverride => "DAC_OVERRIDE",
            Self::DacReadSearch => "DAC_READ_SEARCH",
            Self::Fowner => "FOWNER",
            Self::Fsetid => "FSETID",
            Self::Kill => "KILL",
            Self::Setgid => "SETGID",
            Self::Setuid => "SETUID",
            Self::Setpcap => "SETPCAP",
            Self::LinuxImmutable => "LINUX_IMMUTABLE",
            Self::NetBindService => "NET_BIND_SERVICE",
            Self::NetBroadcast => "NET_BROADCAST",
            Self::NetAdmin => "NET_ADMIN",
            Self::NetRaw => "NET_RAW",
            Self::IpcLock => "IPC_LOCK",
            Self::IpcOwner => "IPC_OWNER",
            Self::SysModule => "SYS_MODULE",
            Self::SysRawio => "SYS_RAWIO",
            Self::SysChroot => "SYS_CHROOT",
            Self::SysPtrace => "SYS_PTRACE",
            Self::SysPacct => "SYS_PACCT",
            Self::SysAdmin => "SYS_ADMIN",
            Self::SysBoot => "SYS_BOOT",
            Self::SysNice => "SYS_NICE",
            Self::SysResource => "SYS_RESOURCE",
            Self::SysTime => "SYS_TIME",
            Self::SysTtyConfig => "SYS_TTY_CONFIG",
            Self::Mknod => "MKNOD",
            Self::Lease => "LEASE",
            Self::AuditWrite => "AUDIT_WRITE",
            Self::AuditControl => "AUDIT_CONTROL",
            Self::Setfcap => "SETFCAP",
            Self::MacOverride => "MAC_OVERRIDE",
            Self::MacAdmin => "MAC_ADMIN",
            Self::Syslog => "SYSLOG",
            Self::WakeAlarm => "WAKE_ALARM",
            Self::BlockSuspend => "BLOCK_SUSPEND",
            Self::AuditRead => "AUDIT_READ",
            Self::Perfmon => "PERFMON",
            Self::Bpf => "BPF",
            Self::CheckpointRestore => "CHECKPOINT_RESTORE",
        }
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl From<Capability> for String {
    fn from(capability: Capability) -> Self {
        capability.name().to_owned()
    }
}

/// A name that no capability has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{name}` is no capability")]
pub struct UnknownCapability {
    pub name: String,
}

impl FromStr for Capability {
    type Err = UnknownCapability;

    /// Takes `NET_ADMIN`, `CAP_NET_ADMIN` and both in lower case.
    fn from_str(text: &str) -> Result<Self, UnknownCapability> {
        let upper = text.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        let found = Self::ALL.iter().find(|capability| capability.name() == name);
        found.copied().ok_or_else(|| UnknownCapability { name: text.to_owned() })
    }
}

impl TryFrom<String> for Capability {
    type Error = UnknownCapability;

    fn try_from(text: String) -> Result<Self, UnknownCapability> {
        text.parse()
    }
}

/// Returns Docker's default set without `NET_RAW` (forged packets on the container's network) and
/// `MKNOD` (refused in a user namespace in any case).
///
/// What is left is what apt, pip, `useradd`, web servers and `su` need.
pub fn default_capabilities() -> BTreeSet<Capability> {
    BTreeSet::from([
        Capability::Chown,
        Capability::DacOverride,
        Capability::Fsetid,
        Capability::Fowner,
        Capability::Setgid,
        Capability::Setuid,
        Capability::Setfcap,
        Capability::Setpcap,
        Capability::NetBindService,
        Capability::SysChroot,
        Capability::Kill,
        Capability::AuditWrite,
    ])
}

/// Returns the capabilities as the kernel's bit set.
pub(crate) fn bits(capabilities: &BTreeSet<Capability>) -> u64 {
    capabilities.iter().fold(0, |bits, capability| bits | 1 << capability.number())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_capability_is_found_under_its_name_and_number() {
        for (number, capability) in Capability::ALL.iter().enumerate() {
            assert_eq!(usize::from(capability.number()), number);
            assert_eq!(capability.name().parse(), Ok(*capability));
            assert_eq!(
                format!("cap_{}", capability.name().to_lowercase()).parse(),
                Ok(*capability)
            );
        }
    }

    #[test]
    fn an_unknown_capability_is_named_in_the_error() {
        let error = "NET_EVERYTHING".parse::<Capability>().expect_err("it does not exist");
        assert_eq!(error.to_string(), "`NET_EVERYTHING` is no capability");
    }

    #[test]
    fn the_default_set_has_neither_raw_sockets_nor_administration() {
        let set = default_capabilities();
        for refused in [Capability::NetRaw, Capability::SysAdmin, Capability::Mknod] {
            assert!(!set.contains(&refused));
        }
        assert_eq!(bits(&set), 0xa004_05fb);
    }
}
