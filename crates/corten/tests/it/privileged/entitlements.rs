//! Steps that ask for more than others have.

use corten_testkit::privilege::Need;
use corten_testkit::require;

use crate::world::with_base;

const REPORT: &str = "cat /proc/self/status | while read name value rest; do \
    case $name in CapEff:|Seccomp:|NoNewPrivs:) echo \"$name $value\";; esac; done; \
    cat /proc/self/uid_map >&2; head -c 1 /proc/keys >/dev/null && echo keys";

#[test]
fn an_insecure_step_has_the_rights_of_its_caller_and_others_have_not() {
    require!(Need::Root, Need::Overlay);
    let context = with_base();
    context.write(
        "Dockerfile",
        format!("FROM base\nRUN --security=insecure {REPORT}\nRUN echo then; {REPORT}\n"),
    );
    let build = ["build", "--network=none", "--progress=plain", "."];
    let refused = context.run(&build).code(2);
    assert!(refused.stderr().contains("add `--allow security.insecure`"), "{}", refused.stderr());
    let output = context.run(&[&build[..], &["--allow", "security.insecure"]].concat()).success();
    let told = output.stderr();
    let (insecure, sandbox) = told.split_once("RUN echo then").expect("two steps");
    for line in ["Seccomp: 0", "NoNewPrivs: 0", "0 0 4294967295"] {
        let words = insecure.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(line), "{line}: {told}");
    }
    assert!(sandbox.contains("Seccomp: 2"), "{told}");
    assert!(!sandbox.contains("CapEff: 000001ff"), "{told}");
    // What it made is an ordinary layer, and it is known by what it was allowed.
    context.write("Dockerfile", format!("FROM base\nRUN {REPORT}\n"));
    let output = context.run(&build).success();
    assert!(!output.stderr().contains("CACHED"), "{}", output.stderr());
}

#[test]
fn an_insecure_step_may_mount_and_write_below_sys() {
    require!(Need::Root, Need::Overlay, Need::Program("mount"));
    let context = crate::world::with_root_files();
    let root = context.work_dir().join("base/root");
    corten_testkit::rootfs::add_program(&root, std::path::Path::new("/usr/bin/mount"), "bin/mount");
    context.run(&["build", "-q", "--network=none", "-t", "base", "base"]).success();
    context.write(
        "Dockerfile",
        "FROM base\nRUN --security=insecure mkdir /m && mount -t tmpfs none /m && touch /m/x\n\
         RUN ! mount -t tmpfs none /m\nRUN ls /m; ! ls /m/x\n",
    );
    let allow = ["build", "--network=none", "--allow=security.insecure", "."];
    context.run(&allow).success();
}

#[test]
fn the_hosts_network_is_for_whom_it_is_allowed() {
    require!(Need::Root, Need::Overlay);
    let context = with_base();
    context.write("Dockerfile", "FROM base\nRUN --network=host true\n");
    let refused = context.run(&["build", "."]).code(2);
    assert!(refused.stderr().contains("add `--allow network.host`"), "{}", refused.stderr());
    context.run(&["build", "--allow", "network.host", "."]).success();
    // Who gives it to all steps has said so.
    context.run(&["build", "--no-cache", "--network=host", "."]).success();
}
