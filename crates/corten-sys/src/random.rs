//! Names that nobody else has.

use rustix::rand::{GetRandomFlags, getrandom};

/// Returns 16 lower-case hexadecimal digits from the kernel's random numbers.
pub fn name() -> String {
    let mut bytes = [0_u8; 8];
    let filled = getrandom(bytes.as_mut_slice(), GetRandomFlags::empty());
    if filled != Ok(bytes.len()) {
        // Only a kernel that is still booting or older than 3.17 gets here. Uniqueness is what is
        // needed, not secrecy: callers create files with O_EXCL.
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let mixed = time.tv_nsec.rotate_left(32) ^ i64::from(std::process::id()) ^ time.tv_sec;
        bytes = mixed.to_ne_bytes();
    }
    format!("{:016x}", u64::from_ne_bytes(bytes))
}
