//! What a plan or a run did otherwise than one might expect.

use std::fmt;

use serde::Serialize;

use crate::network;
use crate::spec::RlimitKind;
use crate::steps::Limit;

/// Something to tell people although nothing failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "notice")]
pub enum Notice {
    /// The container shares the caller's user namespace although one of its own was wanted.
    NoUserNamespace { reason: String },
    /// A limit that Corten would have liked is not there.
    LimitNotSet { limit: &'static str, reason: String },
    /// A process limit is counted per user of the container instead of in all.
    ProcessesCountedPerUser { limit: u64 },
    /// A limit of processes could not be raised as far as asked.
    RlimitClamped { kind: RlimitKind, asked: u64, given: u64 },
    /// Supplementary groups cannot be set where only one id is mapped.
    GroupsDropped { count: usize },
    /// The network has something to say.
    Network { warning: bool, text: String },
    /// What the container's first process leaves behind among those of others goes on.
    ProcessesNotGathered { reason: String },
    /// Devices may be opened as far as their nodes' permissions go, not only as was asked for.
    DevicesNotLimited { reason: String },
    /// Tidying up after the container failed.
    Cleanup { text: String },
}

impl Notice {
    /// Returns true if it may be the reason when something does not work or is less safe.
    pub fn is_warning(&self) -> bool {
        match self {
            Self::NoUserNamespace { .. }
            | Self::RlimitClamped { .. }
            | Self::ProcessesNotGathered { .. }
            | Self::DevicesNotLimited { .. }
            | Self::Cleanup { .. } => true,
            Self::Network { warning, .. } => *warning,
            Self::LimitNotSet { .. }
            | Self::ProcessesCountedPerUser { .. }
            | Self::GroupsDropped { .. } => false,
        }
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoUserNamespace { reason } => write!(
                f,
                "the container's root is the host's root, with fewer capabilities, since {reason}"
            ),
            Self::LimitNotSet { limit, reason } => write!(f, "no {limit} limit: {reason}"),
            Self::ProcessesCountedPerUser { limit } => {
                write!(f, "the limit of {limit} processes holds for each user of the container")
            }
            Self::RlimitClamped { kind, asked, given } => {
                let (given, asked) = (Limit(*given), Limit(*asked));
                write!(
                    f,
                    "limit `{kind}` is {given} instead of {asked}, which this host does not give"
                )
            }
            Self::GroupsDropped { count } => write!(
                f,
                "{count} supplementary groups were left out, since your user has no range of ids"
            ),
            Self::ProcessesNotGathered { reason } => write!(
                f,
                "programs that the container's first one leaves behind go on after its end, since \
                 {reason}"
            ),
            Self::DevicesNotLimited { reason } => write!(
                f,
                "devices may be opened as far as the permissions of their nodes go, since {reason}"
            ),
            Self::Network { text, .. } | Self::Cleanup { text } => f.write_str(text),
        }
    }
}

impl From<&network::Notice> for Notice {
    fn from(notice: &network::Notice) -> Self {
        let warning = notice.severity == network::Severity::Warning;
        Self::Network { warning, text: notice.text.clone() }
    }
}
