//! From a container spec and host facts to a plan, and from the plan to a running container.
//!
//! ```text
//! ContainerSpec + HostFacts ──► plan()            pure: decides everything, starts nothing
//!                                 │ Plan          printable, serialisable
//!                                 ▼
//!                               run()             starts, relays, waits, tidies
//!                                 │ spawns itself as `__init`, from a read-only view of the binary
//!                                 ▼
//!            helper (`__init`) ── clone3, new namespaces ──► process 1 of the container
//!            layers, overlay, volumes as descriptors          mounts, pivot_root, limits, exec
//!            then guards: dies with corten, kills it
//! ```
//!
//! Invariants:
//! - A plan holds every decision; the helper and process 1 walk its steps and decide nothing.
//! - Nothing of the container's program runs before every step has succeeded. A step that fails
//!   stops the container and is reported as step, error number and path.
//! - Mounts exist only in namespaces that end with the container; there is nothing to unmount.
//! - What was planned weaker than asked for is a [`Notice`], never silence.
#![forbid(unsafe_code)]

mod capability;
pub mod cdi;
mod cgroup;
pub mod doctor;
pub mod emulation;
mod error;
mod exec_error;
mod facts;
pub mod files;
pub mod gpu;
mod init;
mod live;
mod namespaces;
pub mod network;
mod notice;
pub mod options;
mod plan;
mod report;
mod resources;
mod run;
pub mod seccomp;
mod secret;
mod settle;
mod spec;
mod steps;
pub mod user;

pub use capability::{Capability, UnknownCapability, default_capabilities};
pub use cgroup::{
    CgroupFacts, DeviceAccess, DeviceKind, DeviceRule, Manager, V1Controller, device_program,
};
pub use error::{PlanError, RunError};
pub use exec_error::ExecError;
pub use facts::{HostFacts, Ids};
pub use init::{INIT_ARGUMENT, init_main, target};
pub use live::{Live, LiveError, Usage};
pub use namespaces::{IdMapping, Namespace, Namespaces, Propagation, SharedMemory, UserNamespace};
pub use network::ports::PortMapping;
pub use notice::Notice;
pub use plan::{Plan, SysctlRefusal, plan, plan_another};
pub use resources::{BlockLimit, BlockLimitKind, Limit, Resources};
pub use run::{
    Exit, Given, Input, Io, Oom, Outcome, Output, Running, Started, Streams, TakeListener, Visitor,
    attend, run, run_another, standard,
};
pub use secret::{Secret, SecretError, SecretSource, SecretTarget, SecretValue};
pub use settle::{SettleError, block_device};
pub use spec::{
    BindMount, BindOptions, ContainerSpec, Device, DeviceNumber, HostFiles, Mount, Network, Rlimit,
    RlimitKind, Rootfs, Seccomp, Stdin, TmpfsMount, UnknownRlimit,
};
