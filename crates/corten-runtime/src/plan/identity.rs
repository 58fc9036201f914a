//! Whose ids the container's ids are.

use corten_sys::userns::{IdRange, format_map};

use crate::error::PlanError;
use crate::facts::{HostFacts, Ids};
use crate::namespaces::{IdMapping, UserNamespace};
use crate::spec::{ContainerSpec, Mount};
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
    /// Those that somebody chose, or that a namespace of others has.
    Mapped {
        users: &'a [IdMapping],
        groups: &'a [IdMapping],
        setgroups: bool,
        /// The ids that the caller has, users' and groups', where those are not all.
        given: Option<(&'a [IdRange], &'a [IdRange])>,
        /// Files are shown under the container's ids by mapped mounts.
        shows: bool,
        /// The namespace is there already. Without maps, it is not known what it has.
        joined: bool,
    },
}

impl<'a> Identity<'a> {
    pub(super) fn of(spec: &'a ContainerSpec, facts: &'a HostFacts) -> Self {
        match (&facts.ids, &spec.user_namespace) {
            (ids, UserNamespace::Maps { users, groups }) => Self::mapped(ids, users, groups, false),
            (ids, UserNamespace::Join { users, groups, .. }) => {
                Self::mapped(ids, users, groups, true)
            }
            (ids, UserNamespace::Container(_)) => Self::mapped(ids, &[], &[], true),
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

    fn mapped(ids: &'a Ids, users: &'a [IdMapping], groups: &'a [IdMapping], joined: bool) -> Self {
        let (setgroups, given) = match ids {
            Ids::Shift { .. } => (true, None),
            Ids::Given { users, groups, setgroups } => {
                (*setgroups, Some((users.as_slice(), groups.as_slice())))
            }
        };
        Self::Mapped { users, groups, setgroups, given, shows: given.is_none(), joined }
    }

    /// Returns true if the container has another user namespace than the caller.
    pub(super) fn has_namespace(self) -> bool {
        !matches!(self, Self::Callers | Self::CallersGiven { .. })
    }

    /// Returns true if its user namespace is somebody else's.
    pub(super) fn is_joined(self) -> bool {
        matches!(self, Self::Mapped { joined: true, .. })
    }

    /// Returns true if files must be shown under other owners than they have.
    pub(super) fn maps_owners(self) -> bool {
        matches!(self, Self::Shifted { .. } | Self::Mapped { shows: true, .. })
    }

    /// Returns true if mounts that show files under other owners may be done without, at the price
    /// of the namespace.
    pub(super) fn may_fall_back(self) -> bool {
        matches!(self, Self::Shifted { .. })
    }

    /// Returns true if supplementary groups can be set.
    pub(super) fn may_set_groups(self) -> bool {
        !matches!(
            self,
            Self::Nested { setgroups: false, .. }
                | Self::CallersGiven { setgroups: false, .. }
                | Self::Mapped { setgroups: false, .. }
        )
    }

    pub(super) fn maps(self) -> Option<IdMaps> {
        match self {
            Self::Callers | Self::CallersGiven { .. } | Self::Mapped { joined: true, .. } => None,
            Self::Mapped { users, groups, given, .. } => {
                let ranges = |maps: &[IdMapping], own: Option<&[IdRange]>| {
                    let split = |mapping: &IdMapping| match own {
                        Some(own) => split(*mapping, own).unwrap_or_default(),
                        None => vec![IdRange::from(*mapping)],
                    };
                    format_map(&maps.iter().flat_map(split).collect::<Vec<_>>())
                };
                let (own_users, own_groups) = given.unzip();
                Some(IdMaps { users: ranges(users, own_users), groups: ranges(groups, own_groups) })
            }
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
            Self::Mapped { users, groups, .. } => {
                (outside_of(users, uid).unwrap_or(uid), outside_of(groups, gid).unwrap_or(gid))
            }
        }
    }

    pub(super) fn has_group(self, gid: u32) -> bool {
        match self {
            Self::Callers => gid <= ID_MAX,
            Self::Shifted { count, .. } => gid < count,
            Self::Nested { groups, .. } | Self::CallersGiven { groups, .. } => {
                contains(groups, gid)
            }
            Self::Mapped { groups, joined, .. } => has(groups, gid, joined),
        }
    }

    /// Returns the largest group id below which all are mapped.
    pub(super) fn last_group(self) -> u32 {
        match self {
            Self::Callers => ID_MAX,
            Self::Shifted { count, .. } => count.saturating_sub(1),
            Self::Nested { groups, .. } | Self::CallersGiven { groups, .. } => {
                last(groups.iter().map(|range| (range.first, range.count)))
            }
            Self::Mapped { groups, .. } => {
                last(groups.iter().map(|range| (range.inside, range.count)))
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
            Self::Mapped { users, joined, .. } => has(users, spec.uid, joined),
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

    /// Refuses maps that the caller cannot give, or whose files it cannot show.
    pub(super) fn check_maps(self, spec: &ContainerSpec) -> Result<(), PlanError> {
        let Self::Mapped { users, groups, given, joined, .. } = self else { return Ok(()) };
        if joined {
            return Ok(());
        }
        let root = |what, maps: &[IdMapping]| match outside_of(maps, 0) {
            Some(_) => Ok(()),
            None => Err(PlanError::NoRootId { what }),
        };
        root("user", users)?;
        root("group", groups)?;
        let Some((own_users, own_groups)) = given else { return Ok(()) };
        for (what, maps, own) in [("user", users, own_users), ("group", groups, own_groups)] {
            if let Some(missing) = maps.iter().find(|mapping| split(**mapping, own).is_none()) {
                let available = own.iter().map(|range| u64::from(range.count)).sum();
                let id = missing.outside.saturating_add(missing.count.saturating_sub(1));
                return Err(PlanError::UnmappedId { what, id, available });
            }
        }
        let shown = !spec.rootfs.keep_owners
            || spec
                .mounts
                .iter()
                .any(|mount| matches!(mount, Mount::Bind(bind) if !bind.options.keep_owners));
        let same = users.iter().chain(groups).all(|mapping| mapping.inside == mapping.outside);
        if shown && !same { Err(PlanError::OwnersOfMaps) } else { Ok(()) }
    }

    fn available(self) -> u64 {
        match self {
            Self::Callers => u64::from(ID_MAX) + 1,
            Self::Shifted { count, .. } => u64::from(count),
            Self::Nested { users, .. } | Self::CallersGiven { users, .. } => {
                users.iter().map(|range| u64::from(range.count)).sum()
            }
            Self::Mapped { users, .. } => users.iter().map(|range| u64::from(range.count)).sum(),
        }
    }
}

/// Cuts a mapping where one of the caller's ranges ends and another begins, which the kernel wants; `None`
/// if the caller does not have all of it.
fn split(mapping: IdMapping, own: &[IdRange]) -> Option<Vec<IdRange>> {
    let mut parts = Vec::new();
    let IdMapping { mut inside, mut outside, mut count } = mapping;
    while count > 0 {
        let holds = |range: &&IdRange| {
            outside.checked_sub(range.first).is_some_and(|offset| offset < range.count)
        };
        let range = own.iter().find(holds)?;
        let part = count.min(range.count - (outside - range.first));
        parts.push(IdRange { first: inside, outside, count: part });
        inside = inside.checked_add(part)?;
        outside = outside.checked_add(part)?;
        count -= part;
    }
    Some(parts)
}

/// Returns an id as the caller sees it.
fn outside_of(maps: &[IdMapping], id: u32) -> Option<u32> {
    let of = |mapping: &IdMapping| {
        let offset = id.checked_sub(mapping.inside).filter(|offset| *offset < mapping.count)?;
        mapping.outside.checked_add(offset)
    };
    maps.iter().find_map(of)
}

fn has(maps: &[IdMapping], id: u32, joined: bool) -> bool {
    (joined && maps.is_empty()) || outside_of(maps, id).is_some()
}

/// The last of the ids from 0 on, of ranges of a first one and their number.
fn last(ranges: impl Iterator<Item = (u32, u32)>) -> u32 {
    let mut end = 0_u32;
    for (first, count) in ranges {
        if first == end {
            end = end.saturating_add(count);
        }
    }
    end.saturating_sub(1)
}

fn contains(ranges: &[IdRange], id: u32) -> bool {
    ranges.iter().any(|range| id >= range.first && id - range.first < range.count)
}
