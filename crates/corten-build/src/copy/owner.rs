//! `--chown` and the owner of a `WORKDIR`, by the image's own user database.

use corten_runtime::user::{self, UserError};
use corten_store::StoreError;

use super::CopyError;
use crate::files::FilesError;

/// The largest user database that is read: a directory service's export of a million users.
const DATABASE_BYTES_MAX: u64 = 64 << 20;

/// The user databases of an image.
#[derive(Debug, Clone, Default)]
pub(crate) struct Databases {
    pub(crate) passwd: Vec<u8>,
    pub(crate) group: Vec<u8>,
}

impl Databases {
    /// Reads them from the layers of a stage; missing ones are empty.
    pub(crate) fn read(snapshot: &corten_store::Snapshot) -> Result<Self, StoreError> {
        let read = |path: &[u8]| snapshot.read_file(path, DATABASE_BYTES_MAX);
        Ok(Self {
            passwd: read(b"etc/passwd")?.unwrap_or_default(),
            group: read(b"etc/group")?.unwrap_or_default(),
        })
    }
}

/// Whether an owner can be told without a user database.
pub(crate) fn is_numeric(owner: &str) -> bool {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    match owner.split_once(':') {
        Some((user, group)) => digits(user) && digits(group),
        None => digits(owner),
    }
}

/// Who the files shall belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Names that the image does not know.
    pub(crate) unknown: Vec<UserError>,
}

/// Finds the ids of `--chown`. A number without a group is user and group, as in Docker; a name
/// without a group brings its primary group. As in BuildKit, an unknown user is root and an unknown
/// group changes nothing: a build must not fail here that passes there, but it says so.
pub(crate) fn resolve(databases: &Databases, owner: &str) -> Result<Owner, UserError> {
    let (name, group) = match owner.split_once(':') {
        Some((name, group)) => (name, Some(group).filter(|group| !group.is_empty())),
        None => (owner, None),
    };
    let mut unknown = Vec::new();
    let (uid, mut gid) = match user::resolve(&databases.passwd, &databases.group, name) {
        Ok(found) => {
            let is_number = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
            (found.uid, if is_number { found.uid } else { found.gid })
        }
        Err(error @ UserError::UnknownUser { .. }) => {
            unknown.push(error);
            (0, 0)
        }
        Err(error) => return Err(error),
    };
    if let Some(group) = group {
        match user::resolve_group(&databases.group, group) {
            Ok(found) => gid = found,
            Err(error @ UserError::UnknownGroup { .. }) => unknown.push(error),
            Err(error) => return Err(error),
        }
    }
    Ok(Owner { uid, gid, unknown })
}

impl From<StoreError> for CopyError {
    fn from(error: StoreError) -> Self {
        Self::Files(FilesError::Store(error))
    }
}
