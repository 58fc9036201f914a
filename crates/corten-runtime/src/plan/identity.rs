//! Whose ids the container's ids are.

use corten_sys::userns::{IdRange, format_map};

use crate::error::PlanError;
use crate::facts::{HostFacts, Ids};
use crate::spec::{ContainerSpec, UserNamespace};
use crate::steps::IdMaps;

/// The largest id that tools agree on; to the kernel, the largest number means "as before".
const ID_MAX: u32 = i32::MAX.cast_unsigned();

/// The container's ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Identity<'a> {
    /// Those of the caller, root of the machine; no user namespace.
    Callers,
    /// Those of the caller, root of a user namespace that has these ids; none below it.
    CallersGiven { users: &'a [IdRange], groups: &'a [IdRange], setgroups: bool },
    /// A range of the host's that belongs to nobody. Files keep their owners on disk and are shown
    /// under the container's ids by mapped mounts.
    Shifted { first: u32, count: u32 },
    /// The same numbers as in the caller's user namespace, in one below it.
    Nested { users: &'a [IdRange], groups: &'a [IdRange], setgroups: bool },
}

impl<'a> Identity<'a> {
    pub(super) fn of(spec: &ContainerSpec, facts: &'a HostFacts) -> Self {
        match (&facts.ids, spec.user_namespace) {
            (Ids::Shift { .. }, UserNamespace::Host) => Self::Callers,
            (Ids::Given { users, groups, setgroups }, UserNamespace::Host) => {
                Self::CallersGiven { users, groups, setgroups: *setgroups }
            }
            (Ids::Shift { first, count }, UserNamespace::Auto) => {
                Self::Shifted { first: *first, count: *count }
            }
            (Ids::Given { users, groups, setgroups }, UserNamespace::Auto) => {
                Self::Nested { users, groups, setgroups: *setgroups }
            }
        }
    }

    /// Returns true if the container has a user namespace of its own.
    pub(super) fn has_namespace(self) -> bool {
        matches!(self, Self::Shifted { .. } | Self::Nested { .. })
    }

    /// Returns true if files must be shown under other owners than they have.
    pub(super) fn maps_owners(self) -> bool {
        matches!(self, Self::Shifted { .. })
    }

    /// Returns true if supplementary groups can be set.
    pub(super) fn may_set_groups(self) -> bool {
        !matches!(
            self,
            Self::Nested { setgroups: false, .. } | Self::CallersGiven { setgroups: false, .. }
        )
    }

    pub(super) fn maps(self) -> Option<IdMaps> {
        match self {
            Self::Callers | Self::CallersGiven { .. } => None,
            Self::Shifted { first, count } => {
                let map = format_map(&[IdRange { first: 0, outside: first, count }]);
                Some(IdMaps { users: map.clone(), groups: map })
            }
            Self::Nested { users, groups, .. } => {
                let same = |ranges: &[IdRange]| {
                    let range = |range: &IdRange| IdRange { outside: range.first, ..*range };
                    format_map(&ranges.iter().map(range).collect::<Vec<_>>())
                };
                Some(IdMaps { users: same(users), groups: same(groups) })
            }
        }
    }

    /// Returns a user and group of the container as the caller sees them.
    pub(super) fn outside(self, uid: u32, gid: u32) -> (u32, u32) {
        match self {
            Self::Callers | Self::CallersGiven { .. } | Self::Nested { .. } => (uid, gid),
            Self::Shifted { first, .. } => (first.saturating_add(uid), first.saturating_add(gid)),
        }
    }

    pub(super) fn has_group(self, gid: u32) -> bool {
        match self {
            Self::Callers => gid <= ID_MAX,
            Self::Shifted { count, .. } => gid < count,
            Self::Nested { groups, .. } | Self::CallersGiven { groups, .. } => {
                contains(groups, gid)
            }
        }
    }

    /// Returns the largest group id below which all are mapped.
    pub(super) fn last_group(self) -> u32 {
        match self {
            Self::Callers => ID_MAX,
            Self::Shifted { count, .. } => count.saturating_sub(1),
            Self::Nested { groups, .. } | Self::CallersGiven { groups, .. } => {
                let mut end = 0;
                for range in groups {
                    if range.first == end {
                        end = end.saturating_add(range.count);
                    }
                }
                end.saturating_sub(1)
            }
        }
    }

    /// Refuses ids that the container cannot have.
    pub(super) fn check(self, spec: &ContainerSpec) -> Result<(), PlanError> {
        let has_user = match self {
            Self::Callers => spec.uid <= ID_MAX,
            Self::Shifted { count, .. } => spec.uid < count,
            Self::Nested { users, .. } | Self::CallersGiven { users, .. } => {
                contains(users, spec.uid)
            }
        };
        let refuse = |what, id| PlanError::UnmappedId { what, id, available: self.available() };
        if !has_user {
            return Err(refuse("user", spec.uid));
        }
        let groups = if self.may_set_groups() { spec.additional_gids.as_slice() } else { &[] };
        match [spec.gid].iter().chain(groups).find(|gid| !self.has_group(**gid)) {
            Some(gid) => Err(refuse("group", *gid)),
            None => Ok(()),
        }
    }

    fn available(self) -> u64 {
        match self {
            Self::Callers => u64::from(ID_MAX) + 1,
            Self::Shifted { count, .. } => u64::from(count),
            Self::Nested { users, .. } | Self::CallersGiven { users, .. } => {
                users.iter().map(|range| u64::from(range.count)).sum()
            }
        }
    }
}

fn contains(ranges: &[IdRange], id: u32) -> bool {
    ranges.iter().any(|range| id >= range.first && id - range.first < range.count)
}
