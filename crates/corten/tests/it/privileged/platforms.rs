//! Programs of another processor in RUN steps and containers.

use corten_testkit::foreign::{ARM64_MAKES, ARM64_SAYS, arm64};
use corten_testkit::privilege::Need;
use corten_testkit::{TestContext, require};

/// A build whose only program is for 64-bit ARM.
fn with_program() -> TestContext {
    let context = corten_testkit::context!();
    context.write("app/program", arm64());
    context.write(
        "app/Dockerfile",
        "FROM scratch\nCOPY --chmod=755 program /program\nRUN [\"/program\"]\nCMD [\"/program\"]\n",
    );
    context
}

#[test]
fn a_step_for_another_processor_is_run_and_its_files_are_in_the_image() {
    require!(Need::Root, Need::Overlay, Need::Arm64);
    let context = with_program();
    let build = ["build", "--platform", "linux/arm64", "-t", "app", "app"];
    let built = context.run(&build).success();
    assert!(built.stderr().contains(ARM64_SAYS.trim()), "{}", built.stderr());
    context.run(&["build", "-q", "--platform", "linux/arm64", "-o", "out", "app"]).success();
    let made = context.work_dir().join("out").join(ARM64_MAKES.trim_start_matches('/'));
    assert!(made.is_dir());
    let ran = context.run(&["run", "--rm", "app"]).success();
    assert_eq!(ran.stdout(), ARM64_SAYS);
    let note = "programs of linux/arm64 are emulated by";
    let is_native = corten_oci::platform::Platform::host().architecture == "arm64";
    assert_eq!(ran.stderr().contains(note), !is_native, "{}", ran.stderr());
    let quiet = context.run(&["run", "--rm", "--quiet", "app"]).success();
    assert_eq!(quiet.stderr(), "");
}
