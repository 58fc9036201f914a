//! What tests share: hermetic runs of the program, directories that are gone afterwards, a gate for
//! tests that need rights, and a file system that fails on request.
//!
//! Nothing here is part of the program. The crate may use what the workspace's lints forbid
//! elsewhere (raw processes, the environment), each place with its reason, so that tests need not.
//!
//! ```text
//! context     TestContext: runs the built `corten` in a world of its own and compares what it says
//! mask        what differs from run to run, replaced in one place
//! privilege   require!: skips aloud, or fails where the need is demanded
//! temp        TempDir: removed on drop, with odd modes and left mounts
//! registry    FakeRegistry: a registry on this machine that misbehaves as it is told
//! mutations   inputs that are nearly right
//! wire        Wire: a server that answers with any bytes at all
//! fault       FaultFs: fails the n-th change, for sweeps over every write
//! ```
#![forbid(unsafe_code)]

pub mod context;
pub mod fault;
pub mod foreign;
pub mod harness;
pub mod mask;
pub mod mutations;
pub mod privilege;
pub mod registry;
pub mod rootfs;
pub mod temp;
pub mod wire;

pub use context::{Invocation, Output, TestContext};
pub use mutations::mutations;
pub use privilege::Need;
pub use registry::FakeRegistry;
pub use temp::TempDir;
pub use wire::Wire;

/// Answers the program that runs the tests.
pub(crate) fn answer(text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    std::io::stdout().write_all(text.as_bytes())
}

/// Says something to the person who runs the tests.
#[expect(clippy::print_stderr, reason = "the runner shows it beside the test")]
pub(crate) fn say(text: &str) {
    eprintln!("corten-testkit: {text}");
}
