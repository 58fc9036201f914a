//! An OCI runtime: containers from bundles, as `containerd`, `CRI-O`, Podman and Docker ask for them.
//!
//! ```text
//! config.json ──► Config ──► plan()            pure: steps for the container's first process
//!                              │ Plan
//!                              ▼
//!  create:  re-executed from a read-only view of the program ── clone3, new namespaces ──► first process
//!           id maps, control groups, hooks of the host                                    walks the steps
//!           writes the record, ends                                                       waits on a socket
//!  start:   connects to the socket ────────────────────────────────────────────────────► becomes the program
//! ```
//!
//! Invariants:
//! - The first process is a copy of its maker: the plan is not written anywhere in between. Only a maker
//!   that runs from a file which the container cannot write to makes one.
//! - Until the record is written, the first process ends with its maker; afterwards with nobody's.
//! - The status is never written, but found out.
//! - What fails leaves nothing behind: no process, no control group, no mount, no name.
#![forbid(unsafe_code)]

mod cgroup;
mod commands;
mod config;
mod error;
mod hooks;
mod init;
mod make;
mod plan;
mod protect;
mod signal;
mod state;
mod told;

pub use commands::{
    Engine, ExecOptions, KillOptions, ListEntry, MakeOptions, Outcome, Stats, Update, example,
    features, now,
};
pub use error::BundleError;
pub use protect::protect;
pub use state::{States, Status};
