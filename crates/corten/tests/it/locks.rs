//! `corten lock` and locked builds, as far as nothing is run in a container.

use expect_test::expect;

use corten_testkit::{Need, require};

use crate::sources::{Repositories, Server, ok};
use crate::world::with_data;

#[test]
fn a_build_without_a_lock_file_says_how_to_make_one() {
    let context = with_data();
    context.write("Dockerfile", "FROM data:v1\n");
    context.check(
        &["build", "--locked", "."],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: there is no lock file `corten.lock`
        hint: `corten lock` makes it
    "#]],
    );
    context.check(
        &["build", "--offline", "-f", "-", "."],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: the Dockerfile is in no directory that a lock file could be in
        hint: name it: `--lock-file corten.lock`
    "#]],
    );
}

#[test]
fn a_base_is_locked_by_its_digest() {
    let context = with_data();
    context.write("app/Dockerfile", "FROM data:v1\nCOPY --from=data:v1 /notes.txt /again\n");
    context.check(
        &["lock", "--check", "app"],
        &expect![[r#"
        exit: 1
        --- stdout
        --- stderr
        #1 [1/1] COPY --from=data:v1 /notes.txt /again
        #1 DONE [DURATION]
        warning: `app/corten.lock` would change
        hint: `corten lock` writes it
    "#]],
    );
    context.check(
        &["lock", "--progress", "quiet", "app"],
        &expect![[r#"
        exit: 0
        --- stdout
        --- stderr
        locked app/corten.lock  1 base, 0 packages, 0 files, 0 indices, 0B  [DURATION]
        hint: commit it, and build with `corten build --locked`
    "#]],
    );
    context.check(
        &["lock", "--check", "app"],
        &expect![[r#"
        exit: 0
        --- stdout
        --- stderr
        #1 [1/1] COPY --from=data:v1 /notes.txt /again
        #1 CACHED
        note: `app/corten.lock` is up to date
    "#]],
    );
    context.run(&["build", "--locked", "-q", "app"]).success();
    context.run(&["build", "--offline", "-q", "app"]).success();
    // The base becomes another one under the same name.
    context.write("data/notes.txt", "other notes\n");
    context.run(&["build", "-q", "-t", "data:v1", "data"]).success();
    context.check(
        &["build", "--locked", "app"],
        &expect![[r#"
            exit: 2
            --- stdout
            --- stderr
            error: the base image `data:v1` is not the one that `app/corten.lock` has
             --> app/Dockerfile:2:13
              |
            2 | COPY --from=data:v1 /notes.txt /again
              |             ^^^^^^^
              |
              = note: locked: sha256:[DIGEST]
              = note: in the store: sha256:[DIGEST]
            hint: load or make the image that was locked, or accept the new one with `corten lock`
        "#]],
    );
    context.check(
        &["lock", "--check", "app"],
        &expect![[r#"
        exit: 1
        --- stdout
        --- stderr
        #1 [1/1] COPY --from=data:v1 /notes.txt /again
        #1 DONE [DURATION]
        warning: `app/corten.lock` would change
        note: - base docker.io/library/data:v1 [ID]
        note: + base docker.io/library/data:v1 [ID]
        hint: `corten lock` writes it
    "#]],
    );
    context.write("other/Dockerfile", "FROM data:v1\n");
    context.write("other/corten.lock", "version = 1\nplatform = \"linux/arm64\"\n");
    context.check(
        &["build", "--locked", "other"],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: the base image `data:v1` is not in `other/corten.lock`
         --> other/Dockerfile:1:6
          |
        1 | FROM data:v1
          |      ^^^^^^^
        hint: `corten lock` records it
        error: the build is for `linux/amd64`, and `other/corten.lock` is for `linux/arm64`
        --> other/Dockerfile
        hint: lock each platform with a file of its own: `corten lock --lock-file FILE`
    "#]],
    );
}

#[test]
fn a_damaged_lock_file_is_shown_with_its_place() {
    let context = with_data();
    context.write("Dockerfile", "FROM data:v1\n");
    context.write("corten.lock", "version = 1\nplatform = 7\n");
    context.check(
        &["build", "--locked", "."],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: `corten.lock` is no lock file: TOML parse error at line 2, column 12
          |
        2 | platform = 7
          |            ^
        invalid type: integer `7`, expected a string
        hint: make it anew with `corten lock`, or take the last good one from version control
    "#]],
    );
    context.write("corten.lock", "version = 9\n");
    context.check(
        &["build", "--locked", "."],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: `corten.lock` has version 9, and this program knows version 1
        hint: use a newer corten, or make the file anew with `corten lock`
    "#]],
    );
}

#[test]
fn a_context_that_is_fetched_is_in_the_lock() {
    require!(Need::Program("git"));
    let context = corten_testkit::context!();
    let repositories = Repositories::new(&context);
    let dockerfile = "FROM scratch\nCOPY . /\n";
    let first = repositories.commit("app.git", &[("Dockerfile", dockerfile), ("v", "1")]);
    let server = Server::new(&[("/Dockerfile", ok(b"FROM scratch\nLABEL a=1\n"))]);
    for (address, recorded) in [
        (repositories.url("app.git"), format!("commit = \"{first}\"")),
        (server.url("/Dockerfile"), format!("url = \"{}\"", server.url("/Dockerfile"))),
    ] {
        let lock = ["--lock-file", "x.lock", &address];
        let run = |arguments: &[&str]| context.run(&[arguments, &lock[..]].concat());
        run(&["lock", "-q"]).success();
        assert!(context.read("x.lock").contains(&recorded), "{}", context.read("x.lock"));
        run(&["lock", "-q", "--check"]).success();
        for build in [&["build", "-q", "--locked"][..], &["build", "-q", "--offline"]] {
            run(build).success();
        }
    }
    // Whatever the name stands for now, the lock has the commit, and it is in the store.
    let address = repositories.url("app.git");
    context.run(&["lock", "-q", "--lock-file", "git.lock", &address]).success();
    let second = repositories.commit("app.git", &[("v", "2")]);
    let build = ["build", "--locked", "--lock-file", "git.lock", "-o", "out", &address];
    context.run(&build).success();
    assert_eq!(context.read("out/v"), "1");
    let refused = context.run(&[&["--root", "elsewhere"], &build[..]].concat()).code(2);
    assert!(refused.stderr().contains("is not what `git.lock` has"), "{}", refused.stderr());
    let check = ["lock", "--check", "--lock-file", "git.lock", &address];
    let output = context.run(&check).code(1);
    assert!(
        output.stderr().contains(&format!("- source {address} {first}")),
        "{}",
        output.stderr()
    );
    assert!(
        output.stderr().contains(&format!("+ source {address} {second}")),
        "{}",
        output.stderr()
    );
    let changed = String::from_utf8(ok(b"FROM scratch\nLABEL a=2\n")).unwrap();
    server.put("/Dockerfile", changed.replace("ETag: \"1\"", "ETag: \"2\"").into_bytes());
    let address = server.url("/Dockerfile");
    let build = ["build", "--locked", "--lock-file", "x.lock", &address];
    context.run(&build).success();
    let refused = context.run(&[&["--root", "elsewhere"], &build[..]].concat()).code(2);
    assert!(refused.stderr().contains("is not what `x.lock` has"), "{}", refused.stderr());
    let refused = context.run(&["build", "--locked", "--lock-file", "git.lock", &address]).code(2);
    assert!(refused.stderr().contains("is not in `git.lock`"), "{}", refused.stderr());
    let refused = context.run(&["build", "--locked", &address]).code(2);
    assert!(refused.stderr().contains("--lock-file"), "{}", refused.stderr());
}

#[test]
fn a_context_on_standard_input_is_in_no_lock_and_that_is_said() {
    let context = corten_testkit::context!();
    let arguments = ["lock", "--lock-file", "x.lock", "-"];
    let output = context.command(arguments).stdin("FROM scratch\nLABEL a=1\n").run().success();
    let note = "the context on standard input has no address, and is not in the lock";
    assert!(output.stderr().contains(note), "{}", output.stderr());
}

#[test]
fn a_lock_file_that_cannot_be_written_is_told_by_its_name() {
    let context = with_data();
    context.write("Dockerfile", "FROM data:v1\n");
    let output = context.run(&["lock", "--lock-file", "nosuch/x.lock", "."]).code(2);
    let error = "error: failed to write the lock file `nosuch/x.lock`\n";
    assert!(output.stderr().contains(error), "{}", output.stderr());
    assert!(output.stderr().contains("hint: what was fetched is kept"), "{}", output.stderr());
}
