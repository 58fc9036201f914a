//! Programs of BPF that say which devices a control group may open.
#![expect(unsafe_code, reason = "bpf has no safe wrapper")]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

/// One instruction, as the kernel takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    pub code: u8,
    /// The target in the lower half, the source in the upper half.
    pub registers: u8,
    pub offset: i16,
    pub value: i32,
}

/// Commands, kinds and flags of `linux/bpf.h`.
const LOAD: libc::c_int = 5;
const ATTACH: libc::c_int = 8;
const CGROUP_DEVICE_PROGRAM: u32 = 15;
const CGROUP_DEVICE: u32 = 6;
const ALLOW_MULTI: u32 = 2;

/// The fields of `union bpf_attr` that loading a program needs; the rest counts as zero.
#[repr(C)]
struct LoadAttributes {
    kind: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
}

/// The fields that attaching a program needs.
#[repr(C)]
struct AttachAttributes {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Hands a program that judges the opening of devices over to the kernel, which checks it.
pub fn load_device_program(instructions: &[Instruction]) -> io::Result<OwnedFd> {
    let instruction_count =
        u32::try_from(instructions.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?;
    // Such programs call nothing that wants a certain license.
    let license = c"Apache-2.0";
    let attributes = LoadAttributes {
        kind: CGROUP_DEVICE_PROGRAM,
        instruction_count,
        instructions: instructions.as_ptr().expose_provenance() as u64,
        license: license.as_ptr().expose_provenance() as u64,
    };
    // SAFETY: the kernel reads the given size of the structure, as many instructions as it says (their
    // layout is checked in the tests) and a NUL-terminated string, all of which outlive the call.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            LOAD,
            &raw const attributes,
            std::mem::size_of::<LoadAttributes>(),
        )
    };
    let fd = i32::try_from(fd).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just made this descriptor for us, with close-on-exec; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Lets a program judge for a control group of version 2 and those below it, besides those that do so
/// already. It stays until the group is gone.
pub fn attach_device_program(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>) -> io::Result<()> {
    let attributes = AttachAttributes {
        target: cgroup.as_raw_fd().cast_unsigned(),
        program: program.as_raw_fd().cast_unsigned(),
        kind: CGROUP_DEVICE,
        flags: ALLOW_MULTI,
    };
    // SAFETY: the kernel reads the given size of the structure, which outlives the call; both
    // descriptors are open for it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            ATTACH,
            &raw const attributes,
            std::mem::size_of::<AttachAttributes>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::{offset_of, size_of};

    #[test]
    fn structures_have_the_layout_of_the_kernel() {
        assert_eq!(size_of::<Instruction>(), 8);
        assert_eq!(offset_of!(Instruction, offset), 2);
        assert_eq!(offset_of!(Instruction, value), 4);
        assert_eq!(size_of::<LoadAttributes>(), 24);
        assert_eq!(offset_of!(LoadAttributes, instructions), 8);
        assert_eq!(size_of::<AttachAttributes>(), 16);
    }
}
