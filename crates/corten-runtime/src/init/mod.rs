//! The other side of [`run`](crate::run()): the helper process and the container's first process.
//!
//! Both walk what the plan says and decide nothing. They are single-threaded: nothing here starts
//! a thread, and the program must not have started one before [`init_main`].

mod container;
mod helper;
mod layers;
mod reaper;
mod small_files;
pub mod target;

use std::process::ExitCode;

pub(crate) use helper::{GATHERED, WITH_CGROUP, WITH_JOINED};

/// The first argument that makes the program call [`init_main`].
pub const INIT_ARGUMENT: &str = "__init";

/// Is the helper process of a container: the program calls it first thing when its first argument
/// is [`INIT_ARGUMENT`].
pub fn init_main() -> ExitCode {
    match helper::main() {
        Ok(()) => ExitCode::SUCCESS,
        // The caller was told over the socket; if that was impossible, it sees the socket's end.
        Err(_) => ExitCode::FAILURE,
    }
}
