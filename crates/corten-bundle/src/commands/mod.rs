//! The commands, one function each: what `runc` has under the same names.

mod events;
mod exec;
mod facts;
mod life;
mod run;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use corten_sys::clock::{Clock as _, SystemClock};
use corten_sys::file;
use serde::Serialize;

use crate::error::BundleError;
use crate::state::{States, Status};

pub use events::Stats;
pub use exec::ExecOptions;
pub use facts::{example, features};
pub use life::{KillOptions, Update};
pub use run::Outcome;

/// What every command needs.
#[derive(Debug)]
pub struct Engine {
    pub states: States,
    /// `cgroupsPath` is of systemd's form.
    pub systemd_cgroup: bool,
    /// The time of the command, RFC 3339.
    pub(crate) now: String,
    /// The name or the number of the user.
    pub(crate) owner: String,
}

impl Engine {
    /// Builds the engine for containers below `root`.
    pub fn new(root: &Path, systemd_cgroup: bool) -> Result<Self, BundleError> {
        let uid = file::effective_user_id();
        let owner = if uid == 0 { "root".to_owned() } else { uid.to_string() };
        let states = States::new(file::absolute(root)?);
        Ok(Self { states, systemd_cgroup, now: now(), owner })
    }
}

/// The present time, RFC 3339.
pub fn now() -> String {
    let now = SystemClock.now();
    jiff::Timestamp::new(now.seconds, i32::try_from(now.nanoseconds).unwrap_or_default())
        .map(|time| time.to_string())
        .unwrap_or_default()
}

/// What `create` and `run` are given beside the bundle's configuration.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MakeOptions {
    pub bundle: PathBuf,
    pub console_socket: Option<PathBuf>,
    pub pid_file: Option<PathBuf>,
    pub no_pivot: bool,
    pub no_new_keyring: bool,
    /// Descriptors behind the standard ones that the program gets, those of `LISTEN_FDS` included.
    pub preserve_fds: u32,
    /// How many of them are sockets that a program finds by `LISTEN_FDS`.
    pub listen_fds: u32,
}

/// A container as `state` and `list` show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListEntry {
    pub oci_version: String,
    pub id: String,
    /// 0 for one that has ended.
    pub pid: u32,
    pub status: Status,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    pub created: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    pub owner: String,
}
