//! Installs a system call filter.
#![expect(unsafe_code, reason = "installing a filter has no safe wrapper")]

use std::io;

/// One instruction of classic BPF, as the kernel takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Instruction {
    pub code: u16,
    pub jump_true: u8,
    pub jump_false: u8,
    pub value: u32,
}

/// Filters every system call of this thread and its children from now on, for good.
///
/// Needs `no_new_privs` or the capability `SYS_ADMIN` in the own user namespace. `log` makes the
/// kernel log what the filter refuses with anything but an error number.
pub fn install(filter: &[Instruction], log: bool) -> io::Result<()> {
    install_with(filter, if log { libc::SECCOMP_FILTER_FLAG_LOG } else { 0 })
}

/// The same with flags of the kernel's (`SECCOMP_FILTER_FLAG_*`), of which none may ask for a descriptor.
pub fn install_with(filter: &[Instruction], flags: libc::c_ulong) -> io::Result<()> {
    if flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER != 0 {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    let length = libc::c_ushort::try_from(filter.len())
        .map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))?;
    let program = libc::sock_fprog {
        len: length,
        // The kernel's structure has no const pointer; it only reads.
        filter: filter.as_ptr().cast_mut().cast(),
    };
    // SAFETY: `Instruction` has the layout of `sock_filter` (checked in the tests), the length is
    // that of the slice, and the kernel copies it before the call returns.
    let result = unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::mem::{offset_of, size_of};

    #[test]
    fn an_instruction_has_the_layout_of_the_kernel() {
        assert_eq!(size_of::<Instruction>(), size_of::<libc::sock_filter>());
        assert_eq!(offset_of!(Instruction, code), offset_of!(libc::sock_filter, code));
        assert_eq!(offset_of!(Instruction, jump_true), offset_of!(libc::sock_filter, jt));
        assert_eq!(offset_of!(Instruction, jump_false), offset_of!(libc::sock_filter, jf));
        assert_eq!(offset_of!(Instruction, value), offset_of!(libc::sock_filter, k));
    }

    #[test]
    fn a_filter_that_is_too_long_is_refused() {
        let nothing = Instruction { code: 6, jump_true: 0, jump_false: 0, value: 0x7fff_0000 };
        let error = install(&vec![nothing; 70_000], false).expect_err("too long");
        assert_eq!(error.raw_os_error(), Some(libc::E2BIG));
    }
}
