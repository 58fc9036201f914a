//! Control groups: what the host has, which groups a container gets, and their life.
//!
//! ```text
//! v1   <controller>/<own group>/corten/<id>.<pid>      one group per controller that has a limit
//! v2   /corten/<id>.<pid>                              as root
//!      <own group>/corten/<id>.<pid>                   as an ordinary user, where delegated
//! ```
//!
//! `pid` is the `corten` that made the group: a group whose maker is gone is removed by the next
//! one. Without a limit there is no group, until a container is frozen or gets one.

mod dbus;
mod devices;
mod facts;
mod later;
mod limits;
mod live;
mod plan;
mod scope;

pub use devices::{DeviceAccess, DeviceKind, DeviceRule, assemble as device_program};
pub use facts::{CgroupFacts, Manager, V1Controller};
pub(crate) use later::{forget, freeze, limit, thaw};
pub(crate) use live::{Groups, MemoryReport, end_all};
pub(crate) use plan::{CgroupPlan, plan};
