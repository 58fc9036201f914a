//! The program of a container's first process is ours until it becomes the container's, and somebody in
//! the container could then open it through `/proc` and change it (CVE-2019-5736). So it must run from
//! something that cannot be written to.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsRawFd as _;

use corten_sys::binary;
use corten_sys::process::{CStrings, exec};

use crate::error::{BundleError, failed};

/// What the program finds as its name when it was executed again.
const NAME: &str = "corten-oci";

/// Executes the program again from a read-only view of it, or from a sealed copy; returns when it runs
/// from one already. `arguments` are those behind the name.
pub fn protect(
    arguments: &[OsString],
    environment: &[(OsString, OsString)],
) -> Result<(), BundleError> {
    let attempt = "protect the own program";
    if binary::is_protected().map_err(failed(attempt))? {
        return Ok(());
    }
    let program = binary::read_only_view().or_else(|_| binary::sealed_copy());
    let program = program.map_err(failed(attempt))?;
    let own = [OsString::from(NAME)];
    let arguments = CStrings::new(own.iter().chain(arguments)).map_err(failed(attempt))?;
    let variable = |(name, value): &(OsString, OsString)| {
        let mut text = name.clone();
        text.push("=");
        text.push(value);
        text
    };
    let environment = CStrings::new(environment.iter().map(variable)).map_err(failed(attempt))?;
    let path = format!("/proc/self/fd/{}", program.as_raw_fd());
    let error: io::Error = exec(path.as_ref(), &arguments, &environment);
    Err(failed(attempt)(error))
}
