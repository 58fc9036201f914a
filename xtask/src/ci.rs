//! Every gate, in the order in which a mistake is found soonest.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::process::{exists, run};

pub(crate) fn ci(root: &Path) -> Result<(), String> {
    crate::tidy::tidy(root, false)?;
    run(root, "cargo", &["fmt", "--all", "--check"])?;
    run(
        root,
        "cargo",
        &["clippy", "--workspace", "--all-targets", "--locked", "--quiet", "--", "-D", "warnings"],
    )?;
    run(root, "cargo", &["build", "--workspace", "--locked", "--quiet"])?;
    crate::r#gen::write(root, true)?;
    if exists("cargo-deny") {
        run(root, "cargo", &["deny", "check"])?;
    } else {
        println!(
            "skipped: cargo-deny is not installed, so licences and advisories are not checked"
        );
    }
    run(root, "cargo", &["test", "--workspace", "--doc", "--locked", "--quiet"])?;
    // The runners' own closing lines are the last thing that is printed.
    if is_root() {
        run(root, "cargo", &["nextest", "run", "--workspace", "--locked", "-P", "privileged"])?;
    } else {
        println!("skipped: the privileged tests need root");
    }
    run(root, "cargo", &["nextest", "run", "--workspace", "--locked"])
}

fn is_root() -> bool {
    std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}
