//! Capabilities of the calling thread, as bit sets by the kernel's numbers.

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets};

/// Gives up every capability of the bounding set that is not in `keep`, for good.
///
/// `last` is the highest number that the kernel knows.
pub fn limit_bounding(keep: u64, last: u8) -> io::Result<()> {
    for number in 0..=last {
        if keep & (1 << number) == 0 {
            let capability = CapabilitySet::from_bits_retain(1 << number);
            rustix::thread::remove_capability_from_bounding_set(capability)?;
        }
    }
    Ok(())
}

/// Has exactly these capabilities from now on; children inherit none through the inheritable set.
pub fn set(capabilities: u64) -> io::Result<()> {
    let set = CapabilitySet::from_bits_retain(capabilities);
    let sets =
        CapabilitySets { effective: set, permitted: set, inheritable: CapabilitySet::empty() };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// Returns the effective capabilities.
pub fn effective() -> io::Result<u64> {
    Ok(rustix::thread::capabilities(None)?.effective.bits())
}

/// Keeps the permitted capabilities over a change from root to another user.
pub fn keep_over_user_change(keep: bool) -> io::Result<()> {
    Ok(rustix::thread::set_keep_capabilities(keep)?)
}

/// Lets no program inherit a capability by the ambient set.
pub fn clear_ambient() -> io::Result<()> {
    Ok(rustix::thread::clear_ambient_capability_set()?)
}
