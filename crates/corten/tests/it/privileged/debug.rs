//! `corten debug`: tools beside a container that runs, one that does not, and an image.

use corten_testkit::privilege::Need;
use corten_testkit::require;

use super::life::Containers;
use crate::world::with_root_files;

const NEEDS: [Need; 2] = [Need::Root, Need::Overlay];

/// The tools are those of the image `base`.
fn debug(all: &Containers, target: &str, line: &str) -> String {
    all.ok(&["debug", "--image=base", target, "sh", "-c", line])
}

#[test]
fn tools_see_processes_network_and_files_of_a_container() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    all.run("one", &["--hostname=there"], "echo x >/only-here; exec sleep 1000");
    all.until("its file", |all| all.ok(&["diff", "one"]).contains("/only-here"));
    let line = "cat /target/only-here /proc/sys/kernel/hostname; head -c 5 /proc/1/cmdline; echo; \
                for kind in pid net ipc uts user; do \
                a=$(ls -l /proc/1/ns/$kind); b=$(ls -l /proc/self/ns/$kind); \
                test \"${a##*-> }\" = \"${b##*-> }\" || echo $kind differs; done; \
                a=$(ls -l /proc/1/ns/mnt); b=$(ls -l /proc/self/ns/mnt); \
                test \"${a##*-> }\" = \"${b##*-> }\" || echo own mounts; touch /mine";
    let seen = debug(&all, "one", line);
    assert_eq!(seen, "x\nthere\nsleep\nown mounts\n");
    assert_eq!(all.ok(&["diff", "one"]), "A /only-here\n", "nothing was written into it");
    let listed = all.ok(&["ps", "--all", "--format", "{{.Names}}"]);
    assert_eq!(listed, "one\n", "the tools' container has gone");
    let code = all.0.run(&["debug", "--image=base", "one", "sh", "-c", "exit 7"]);
    assert_eq!(code.status.code(), Some(7));
}

#[test]
fn what_does_not_run_has_files_all_the_same() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    all.0.write("bare/file", "bare\n");
    all.0.write("bare/Dockerfile", "FROM scratch\nCOPY file /\nCMD [\"/nothing\"]\n");
    all.ok(&["build", "-q", "-t", "bare", "bare"]);
    all.ok(&["create", "--name=one", "--network=none", "-v", "kept:/v", "bare"]);
    let line = "cat /target/file; echo y >/target/v/made; cat /target/v/made";
    assert_eq!(debug(&all, "one", line), "bare\ny\n");
    assert_eq!(debug(&all, "one", "cat /target/v/made"), "y\n", "a volume is the volume");
    assert_eq!(all.field("one", "State"), "created");
    assert_eq!(
        debug(&all, "bare", "cat /target/file; echo z >/target/new && echo written"),
        "bare\nwritten\n"
    );
    assert_eq!(
        debug(&all, "bare", "ls /target/new 2>/dev/null; true"),
        "",
        "an image does not change"
    );
    let missing = all.0.run(&["debug", "--image=base", "nobody"]).code(125);
    assert!(missing.stderr().contains("nobody"), "{}", missing.stderr());
}

#[test]
fn an_ordinary_user_looks_into_containers() {
    require!(Need::Root, Need::UserNamespaces, Need::RootlessOverlay, Need::Program("newuidmap"));
    let context = with_root_files().as_user(54_321, 54_321);
    context.run(&["build", "-q", "--network=none", "-t", "base", "base"]).success();
    let line = "echo x >/only-here; exec sleep 1000";
    context.run(&["run", "-d", "--name=one", "--network=none", "base", "sh", "-c", line]).success();
    let look = ["debug", "--image=base", "one", "cat", "/target/only-here"];
    let looks = (0..100).map(|_| context.run(&look));
    assert!(
        looks.into_iter().any(|seen| seen.stdout() == "x\n"),
        "{}",
        context.run(&look).snapshot()
    );
    context.run(&["stop", "-t", "0", "one"]).success();
    assert_eq!(context.run(&look).success().stdout(), "x\n");
    context.run(&["rm", "one"]).success();
}
