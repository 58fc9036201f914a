//! The same as an ordinary user.

use corten_testkit::privilege::Need;
use corten_testkit::{TestContext, require};
use expect_test::expect;

use crate::world::with_root_files;

/// A user without ranges of subordinate ids: everything is one id.
const STRANGER: (u32, u32) = (54_321, 54_321);

fn stranger() -> TestContext {
    with_root_files().as_user(STRANGER.0, STRANGER.1)
}

#[test]
fn a_user_with_one_id_builds_and_runs() {
    require!(Need::Root, Need::UserNamespaces, Need::RootlessOverlay, Need::Program("newuidmap"));
    let context = stranger();
    context.check(
        &["build", "-q", "--network=none", "-t", "base", "base"],
        &expect![[r#"
        exit: 0
        --- stdout
        sha256:[DIGEST]
        --- stderr
        warning: only one user id is available: `/etc/subuid` gives your user no range of ids
        hint: `sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 "$USER"`
    "#]],
    );
    context.write("Dockerfile", "FROM base\nRUN id && touch /made\n");
    context.check(
        &["build", "--network=none", "-t", "app", "."],
        &expect![[r#"
            exit: 0
            --- stdout
            --- stderr
            warning: only one user id is available: `/etc/subuid` gives your user no range of ids
            hint: `sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 "$USER"`
            #1 [1/1] RUN id && touch /made
            #1 [ELAPSED] uid=0(root) gid=0(root) groups=0(root)
            #1 DONE [DURATION]
            built app:latest  [ID]  [SIZE]  [DURATION]
            hint: `corten run --rm app:latest` runs it
        "#]],
    );
    context.check(
        &[
            "run",
            "--rm",
            "--network=none",
            "app",
            "sh",
            "-c",
            "id; ls /made; touch /etc/x && echo ok",
        ],
        &expect![[r#"
            exit: 0
            --- stdout
            uid=0(root) gid=0(root) groups=0(root)
            /made
            ok
            --- stderr
            warning: only one user id is available: `/etc/subuid` gives your user no range of ids
            hint: `sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 "$USER"`
        "#]],
    );
    context.check(&["run", "--rm", "--network=none", "-u", "app", "app", "id"], &expect![[r#"
        exit: 125
        --- stdout
        --- stderr
        warning: only one user id is available: `/etc/subuid` gives your user no range of ids
        hint: `sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 "$USER"`
        error: user 1000 is outside the 1 ids that are available here
        hint: give your user a range of ids: `usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER`
    "#]]);
    context.check(
        &["system", "fsck"],
        &expect![[r#"
        exit: 0
        --- stdout
        8 objects checked: the store is whole
        --- stderr
    "#]],
    );
    context.check(
        &["rmi", "app", "base"],
        &expect![[r#"
        exit: 0
        --- stdout
        Untagged: app:latest
        Deleted: sha256:[DIGEST]
        Untagged: base:latest
        Deleted: sha256:[DIGEST]
        --- stderr
    "#]],
    );
}

#[test]
fn a_step_that_needs_more_than_one_id_says_how_to_have_them() {
    require!(Need::Root, Need::UserNamespaces, Need::RootlessOverlay);
    let context = with_root_files().as_user(54_321, 54_321);
    context.run(&["build", "-q", "--network=none", "-t", "base", "base"]).success();
    context.write("Dockerfile", "FROM base\nRUN touch /x && chown 33 /x\n");
    let output = context.run(&["build", "--network=none", "."]).code(2);
    let hint = "hint: only one user id is there, and the step needs others";
    assert!(output.stderr().contains(hint), "{}", output.stderr());
}

#[test]
fn the_same_image_has_the_same_id_for_every_user() {
    require!(Need::Root, Need::UserNamespaces, Need::RootlessOverlay, Need::Program("newuidmap"));
    let ours = with_root_files().run(&["build", "-q", "base"]).success().stdout().to_owned();
    let theirs = stranger().run(&["build", "-q", "base"]).success().stdout().to_owned();
    assert_eq!(ours, theirs);
}

#[test]
fn somebody_elses_store_is_refused() {
    require!(Need::Root, Need::UserNamespaces);
    let ours = with_root_files();
    ours.run(&["images"]).success();
    let context = stranger().with_mask(ours.root_dir().to_string_lossy(), "OURS");
    context.check(
        &["--root", &ours.root_dir().to_string_lossy(), "images"],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: the store at `[OURS]` may not be changed by this user
          caused by: failed to inspect `[OURS]`
          caused by: Permission denied (os error 13)
        hint: check who owns `[OURS]`, or choose another store with `--root DIR`
    "#]],
    );
}

#[test]
fn a_user_with_one_id_has_containers_in_the_background() {
    require!(Need::Root, Need::UserNamespaces, Need::RootlessOverlay, Need::Program("newuidmap"));
    let context = stranger();
    context.run(&["build", "-q", "--network=none", "-t", "base", "base"]).success();
    let line = "trap 'echo bye; exit 7' TERM; echo hi; while :; do sleep 0.05; done";
    let run = ["run", "-d", "--name=one", "--network=none", "base", "sh", "-c", line];
    context.run(&run).success();
    // Each of these is in a user namespace of its own.
    let looks = (0..1000).map(|_| context.run(&["logs", "one"]));
    assert!(looks.into_iter().any(|logs| logs.stdout() == "hi\n"), "nothing was written");
    let within = context.run(&["exec", "one", "sh", "-c", "id; echo $0; exit 4"]);
    let expected = "uid=0(root) gid=0(root) groups=0(root)\nsh\n";
    assert_eq!((within.status.code(), within.stdout()), (Some(4), expected));
    context.run(&["stop", "one"]).success();
    assert_eq!(context.run(&["logs", "one"]).stdout(), "hi\nbye\n");
    assert_eq!(context.run(&["wait", "one"]).stdout(), "7\n");
    context.run(&["start", "one"]).success();
    context.run(&["rm", "--force", "one"]).success();
    assert_eq!(context.run(&["ps", "--all", "--quiet"]).stdout(), "");
}
