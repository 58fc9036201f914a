//! `--ssh`: what a step can ask an agent, and what is left of it.

use std::path::Path;

use corten_testkit::privilege::Need;
use corten_testkit::{TestContext, require, rootfs};

use crate::world::with_root_files;

/// A store with the image `base`, in which there is `ssh-add`, and a key.
fn with_key(context: TestContext) -> TestContext {
    let root = context.work_dir().join("base/root");
    rootfs::add_program(&root, Path::new("/usr/bin/ssh-add"), "bin/ssh-add");
    context.run(&["build", "-q", "--network=none", "-t", "base", "base"]).success();
    let key = context.work_dir().join("key");
    let made = corten_sys::command::Command::new("/usr/bin/ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-C", "from-a-file", "-f"])
        .arg(&key)
        .output(1 << 16)
        .expect("ssh-keygen starts");
    assert_eq!(made.0.ended, corten_sys::process::Ended::Code(0));
    context
}

const DOCKERFILE: &str = "FROM base\n\
    RUN --mount=type=ssh,required ssh-add -l; echo \"at $SSH_AUTH_SOCK\"\n\
    USER app\n\
    RUN --mount=type=ssh,uid=1000,target=/agent ssh-add -l && ls -ln /agent >&2\n\
    RUN ls /run 2>&1; echo \"none: $SSH_AUTH_SOCK\"\n";

#[test]
fn a_step_uses_a_key_and_nothing_of_it_is_kept() {
    require!(Need::Root, Need::Overlay, Need::Program("ssh-keygen"), Need::Program("ssh-add"));
    let context = with_key(with_root_files());
    context.write("Dockerfile", DOCKERFILE);
    let build = ["build", "--network=none", "-t", "app", "--ssh", "default=key", "."];
    let output = context.run(&build).success();
    let told = output.stderr();
    assert_eq!(told.matches("from-a-file").count(), 2, "{told}");
    assert!(told.contains("at /run/buildkit/ssh_agent.0"), "{told}");
    assert!(told.contains("srw------- 1 1000 "), "{told}");
    assert!(told.contains("none: \n"), "{told}");
    let history = context.run(&["history", "--no-trunc", "app"]).success();
    let image = context.run(&["inspect", "app"]).success();
    for text in [history.stdout(), image.stdout()] {
        assert!(!text.contains("SSH_AUTH_SOCK=") && !text.contains("from-a-file"), "{text}");
    }
    // Another agent, and none at all, change nothing of what is known.
    let again = context.run(&["build", "--network=none", "."]).success();
    assert_eq!(again.stderr().matches("CACHED").count(), 3, "{}", again.stderr());
}

#[test]
fn a_step_without_the_agent_that_it_requires_does_not_run() {
    require!(Need::Root, Need::Overlay);
    let context = crate::world::with_base();
    context.write("Dockerfile", "FROM base\nRUN --mount=type=ssh,id=deploy,required true\n");
    let output = context.run(&["build", "--network=none", "."]).code(2);
    let told = output.stderr();
    assert!(told.contains("error: the ssh agent `deploy` was not given"), "{told}");
    assert!(told.contains("hint: give it with `--ssh deploy=SOCKET|KEYFILE`"), "{told}");
    context.write("Dockerfile", "FROM base\nRUN --mount=type=ssh echo \"[$SSH_AUTH_SOCK]\"\n");
    let output = context.run(&["build", "--network=none", "."]).success();
    assert!(output.stderr().contains("[]"), "{}", output.stderr());
}
