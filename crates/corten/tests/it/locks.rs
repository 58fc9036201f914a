//! `corten lock` and locked builds, as far as nothing is run in a container.

use expect_test::expect;

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
