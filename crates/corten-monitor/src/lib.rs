//! Containers in the background: their life, their logs, and who watches over them.
//!
//! There is no daemon. Each container that runs in the background has a monitor, a small process of
//! its own (`corten __monitor`), which holds the container's lock in the store, keeps what it writes,
//! starts it again by its policy, and writes down how it ended. Everything that must outlive a process
//! is on disk:
//!
//! ```text
//! containers/<id>/definition.json   a Definition
//! containers/<id>/log/log.json      what it wrote, in Docker's json-file format; log.json.1 is older
//! containers/<id>/control.sock      listens while the monitor lives
//! containers/<id>/health.json       a HealthReport, where the container is checked
//! containers/<id>/paused            is there while a container that runs is paused
//! ```
//!
//! Invariants:
//! - Whether a container runs is told by its lock alone. A monitor that was killed takes its container
//!   with it, and the next command finds it ended.
//! - A line of a log is in its file before the next one is read from the container.
//! - Only the monitor acts on the container's processes; others ask it by the socket. For an ordinary
//!   user nobody else could: each command is in a user namespace of its own.
#![forbid(unsafe_code)]

pub mod attach;
mod control;
mod definition;
mod error;
mod execute;
mod foreground;
mod health;
pub mod log;
mod monitor;
mod networks;
mod pause;
mod peers;
mod restart;
mod serve;
mod shared;
mod start;

pub use control::{Control, Ended, Execute, Executed, connect};
pub use definition::{Definition, LogOptions};
pub use error::MonitorError;
pub use foreground::Foreground;
pub use health::{Check, Health, HealthReport, HealthStatus};
pub use monitor::main;
pub use networks::{
    endpoint_of, forget as forget_network, network_of, own_network, reserved, settle,
};
pub use pause::is_paused;
pub use peers::{Peers, find_peers};
pub use restart::{ParseRestartError, Restart};
pub use shared::Planned;
pub use start::{Attach, Begun, MONITOR_ARGUMENT, start};
