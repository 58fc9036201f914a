//! How the kernel shares out the processor and the disk to this process, and as what machine it shows itself.
#![expect(unsafe_code, reason = "these calls have no safe wrapper")]

use std::io;

/// How a process is scheduled.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Scheduling {
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// For ordinary policies, from -20 to 19.
    pub nice: i32,
    /// For realtime policies, from 1 to 99.
    pub priority: u32,
    /// The three of `SCHED_DEADLINE`, in nanoseconds.
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// The kernel's `struct sched_attr`, its first version (`SCHED_ATTR_SIZE_VER0`).
#[repr(C)]
struct Attributes {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Sets how this process is scheduled.
pub fn set_scheduling(scheduling: Scheduling) -> io::Result<()> {
    let Scheduling { policy, flags, nice, priority, runtime, deadline, period } = scheduling;
    let size = u32::try_from(size_of::<Attributes>()).unwrap_or_default();
    let attributes = Attributes { size, policy, flags, nice, priority, runtime, deadline, period };
    // SAFETY: the kernel reads as many bytes as the structure says that it has, which is its size;
    // it outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets this process's priority at disks: a class (1 realtime, 2 best effort, 3 idle) and a level in it.
pub fn set_io_priority(class: u8, level: u8) -> io::Result<()> {
    const WHO_PROCESS: libc::c_int = 1;
    const CLASS_SHIFT: u32 = 13;
    let value = libc::c_int::from(class) << CLASS_SHIFT | libc::c_int::from(level);
    // SAFETY: all arguments are passed by value.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, value) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Sets the execution domain (`PER_*`) of this process and of what it executes.
pub fn set_personality(domain: u64) -> io::Result<()> {
    // SAFETY: the argument is passed by value.
    let result = unsafe { libc::personality(domain) };
    if result >= 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_structure_is_as_long_as_the_kernels_first() {
        assert_eq!(size_of::<Attributes>(), 48);
    }

    #[test]
    fn an_impossible_policy_is_refused() {
        let scheduling = Scheduling { policy: 77, ..Scheduling::default() };
        let error = set_scheduling(scheduling).expect_err("no such policy");
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }
}
