//! What people are told.

use corten_diag::Event;
use corten_oci::image::ContainerConfig;
use corten_sys::file;
use corten_testkit::{Need, require};
use expect_test::{Expect, expect};

use crate::tests::world::{World, told};

fn check(world: &World, text: &str, expected: &Expect) {
    expected.assert_eq(&told(&world.try_build(text).unwrap_err()));
}

#[test]
fn a_missing_file_is_told_with_the_near_one() {
    require!(Need::Root);
    let world = World::new();
    world.write("requirements.txt", "");
    check(
        &world,
        "FROM base\nRUN long\nCOPY requirement.txt /app/\n",
        &expect![[r#"
        error: failed to find `requirement.txt` in the build context
         --> Dockerfile:3:6
          |
        3 | COPY requirement.txt /app/
          |      ^^^^^^^^^^^^^^^
        hint: did you mean `requirements.txt`?
    "#]],
    );
    assert!(world.ran().is_empty(), "nothing is run before all files are known to be there");
}

#[test]
fn all_missing_files_are_told_at_once() {
    require!(Need::Root);
    let world = World::new();
    check(
        &world,
        "FROM base\nCOPY a /\nCOPY b /\n",
        &expect![[r#"
            error: failed to find `a` in the build context
             --> Dockerfile:2:6
              |
            2 | COPY a /
              |      ^
            hint: paths count from the top of the context: name the file as it is called there, or build with another directory
            error: failed to find `b` in the build context
             --> Dockerfile:3:6
              |
            3 | COPY b /
              |      ^
            hint: paths count from the top of the context: name the file as it is called there, or build with another directory
        "#]],
    );
}

#[test]
fn a_hidden_file_is_told_as_hidden() {
    require!(Need::Root);
    let world = World::new();
    world.write("secret/key", "");
    world.write(".dockerignore", "secret\n");
    check(
        &world,
        "FROM base\nCOPY secret/key /\n",
        &expect![[r#"
            error: failed to find `secret/key` in the build context
             --> Dockerfile:2:6
              |
            2 | COPY secret/key /
              |      ^^^^^^^^^^
            hint: `secret/key` is there, but `secret` in line 1 of `.dockerignore` hides it: add `!secret/key` below
        "#]],
    );
}

#[test]
fn a_malformed_ignore_file_is_told_and_nothing_is_copied() {
    require!(Need::Root);
    let world = World::new();
    world.write("secret-1", "");
    world.write(".dockerignore", "*.md\nsecret-[0-9\n");
    check(
        &world,
        "FROM base\nCOPY . /\n",
        &expect![[r#"
        error: malformed pattern `secret-[0-9`
         --> .dockerignore:2:1
          |
        2 | secret-[0-9
          | ^^^^^^^^^^^
        hint: write `\` before a `[`, `]` or `\` that stands for itself
    "#]],
    );
    let mut options = world.options("FROM base\nCOPY . /\n");
    let (name, text) = ("app.dockerignore".to_owned(), "[".to_owned());
    options.dockerfile.ignore = Some(crate::IgnoreText { name, text });
    expect![[r#"
        error: malformed pattern `[`
         --> app.dockerignore:1:1
          |
        1 | [
          | ^
        hint: write `\` before a `[`, `]` or `\` that stands for itself
    "#]]
    .assert_eq(&told(&world.build_with(&options).unwrap_err()));
}

#[test]
fn a_file_outside_of_the_context_is_told() {
    require!(Need::Root);
    let world = World::new();
    check(
        &world,
        "FROM base\nCOPY ../lib /\n",
        &expect![[r#"
        error: failed to find `../lib` in the build context
         --> Dockerfile:2:6
          |
        2 | COPY ../lib /
          |      ^^^^^^
        hint: files outside of the build context cannot be copied: build with a directory above as context
    "#]],
    );
}

#[test]
fn a_failed_command_is_told_with_its_output() {
    require!(Need::Root);
    let world = World::new();
    check(
        &world,
        "FROM base\nRUN echo one two; echo three; fail 3\n",
        &expect![[r#"
        error: the command ended with code 3
         --> Dockerfile:2:1
          |
        2 | RUN echo one two; echo three; fail 3
          | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
          |
          = note: its last output:
                  one two
                  three
    "#]],
    );
    expect![[r#"
        failed RUN echo one two; echo three; fail 3
    "#]]
    .assert_eq(&world.outcomes());
    check(
        &world,
        "FROM base\nRUN fail 127\n",
        &expect![[r#"
        error: the command ended with code 127
         --> Dockerfile:2:1
          |
        2 | RUN fail 127
          | ^^^^^^^^^^^^
        hint: 127 means that a program was not found: install it in a step before
    "#]],
    );
    check(
        &world,
        "FROM base\nRUN oom\n",
        &expect![[r#"
        error: the command was killed: out of memory
         --> Dockerfile:2:1
          |
        2 | RUN oom
          | ^^^^^^^
          |
          = note: it used 64 MiB, the limit is 64 MiB
        hint: allow more with `--memory`, or let the step do less at once
    "#]],
    );
}

#[test]
fn a_failed_step_is_tried_again() {
    require!(Need::Root);
    let world = World::new();
    for _ in 0..2 {
        world.try_build("FROM base\nRUN fail 1").unwrap_err();
    }
    assert_eq!(world.ran().len(), 2);
}

#[test]
fn a_failure_in_a_stage_is_told_once_and_in_place() {
    require!(Need::Root);
    let world = World::new();
    check(
        &world,
        "FROM base AS a\nRUN fail 1\nFROM base\nRUN one\nCOPY --from=a /x /\nRUN never\n",
        &expect![[r#"
            error: the command ended with code 1
             --> Dockerfile:2:1
              |
            2 | RUN fail 1
              | ^^^^^^^^^^
        "#]],
    );
    assert!(!world.ran().contains(&"never".to_owned()));
}

#[test]
fn a_missing_file_of_a_stage_is_told() {
    require!(Need::Root);
    let world = World::new();
    check(
        &world,
        "FROM base AS a\nFROM base\nCOPY --from=a /nope /\n",
        &expect![[r#"
            error: failed to find `/nope` in `a`
             --> Dockerfile:3:15
              |
            3 | COPY --from=a /nope /
              |               ^^^^^
            hint: nothing in `a` has this path: look at what makes it there
        "#]],
    );
    check(
        &world,
        "FROM base AS a\nFROM base\nCOPY --from=a /etc/pass /\n",
        &expect![[r#"
        error: failed to find `/etc/pass` in `a`
         --> Dockerfile:3:15
          |
        3 | COPY --from=a /etc/pass /
          |               ^^^^^^^^^
        hint: did you mean `etc/passwd`?
    "#]],
    );
    check(
        &world,
        "FROM base\nRUN --mount=type=bind,from=base,source=/etc/pass,target=/x y\n",
        &expect![[r#"
            error: failed to find `/etc/pass` in `base:latest`
             --> Dockerfile:2:13
              |
            2 | RUN --mount=type=bind,from=base,source=/etc/pass,target=/x y
              |             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
            hint: did you mean `etc/passwd`?
        "#]],
    );
    check(
        &world,
        "FROM base\nRUN --mount=type=bind,from=base,source=/nope,target=/x y\n",
        &expect![[r#"
        error: failed to find `/nope` in `base:latest`
         --> Dockerfile:2:13
          |
        2 | RUN --mount=type=bind,from=base,source=/nope,target=/x y
          |             ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
    "#]],
    );
}

#[test]
fn unknown_users_are_told() {
    require!(Need::Root);
    let world = World::new();
    world.write("a", "");
    // As in BuildKit, the files belong to root then; we say so.
    world.build("FROM base\nCOPY --chown=nobody a /\n");
    let told = world.reporter.take();
    let warned = told.iter().any(|event| match event {
        Event::Diagnostic(diagnostic) => diagnostic.message.contains("`nobody`"),
        Event::Warning(text) => text.contains("`nobody`"),
        _ => false,
    });
    assert!(warned, "{told:?}");
    check(
        &world,
        "FROM base\nUSER ghost\nRUN x\n",
        &expect![[r#"
        error: failed to find user `ghost` in the image's `/etc/passwd`
         --> Dockerfile:3:1
          |
        3 | RUN x
          | ^^^^^
        hint: create it in the image (`RUN useradd --create-home ghost`) or give a number
    "#]],
    );
}

#[test]
fn a_trigger_that_fails_is_told_with_its_text() {
    require!(Need::Root);
    let world = World::new();
    let on_build = vec!["RUN fail 2".to_owned()];
    let config = ContainerConfig { on_build, ..ContainerConfig::default() };
    world.make_image("trigger", &[("x", "")], &config);
    check(
        &world,
        "FROM trigger\n",
        &expect![[r#"
        error: the command ended with code 2
         --> Dockerfile:1:1
          |
        1 | FROM trigger
          | ^^^^^^^^^^^^
          |
          = note: in the trigger `RUN fail 2` of the base image
    "#]],
    );
}

#[test]
fn a_missing_secret_is_told() {
    require!(Need::Root);
    let world = World::new();
    check(
        &world,
        "FROM base\nRUN --mount=type=secret,id=tok,required=true x\n",
        &expect![[r#"
        error: the secret `tok` was not given
         --> Dockerfile:2:1
          |
        2 | RUN --mount=type=secret,id=tok,required=true x
          | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
        hint: give it with `--secret id=tok,src=FILE`
    "#]],
    );
    world.build("FROM base\nRUN --mount=type=secret,id=tok x\n");
}

#[test]
fn hostile_archives_are_told() {
    require!(Need::Root);
    let world = World::new();
    let mut tar = corten_oci::tar::Writer::new(Vec::new());
    let meta = corten_oci::tree::Meta { mode: 0o644, ..corten_oci::tree::Meta::default() };
    let path = corten_oci::tree::TreePath::new(b"xx/etc/cron").unwrap();
    tar.file(&path, &meta, 1, &mut b"x".as_slice()).unwrap();
    let (mut bytes, _) = tar.finish().unwrap();
    bytes[..2].copy_from_slice(b"..");
    bytes[148..156].fill(b' ');
    let sum: u32 = bytes[..512].iter().map(|byte| u32::from(*byte)).sum();
    bytes[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    file::write(&world.context().join("evil.tar"), &bytes).unwrap();
    check(
        &world,
        "FROM base\nADD evil.tar /srv/\n",
        &expect![[r#"
        error: failed to unpack the archive
         --> Dockerfile:2:1
          |
        2 | ADD evil.tar /srv/
          | ^^^^^^^^^^^^^^^^^^
          |
          = note: caused by: the archive has the entry `../etc/cron`, which leads out of it
    "#]],
    );
    assert!(!world.temp.path().join("etc").exists());
}

#[test]
fn a_link_that_leads_nowhere_is_told() {
    require!(Need::Root);
    let world = World::new();
    world.write("a", "1");
    file::symlink(std::path::Path::new("/nowhere"), &world.context().join("b")).unwrap();
    check(
        &world,
        "FROM base\nCOPY a b /x/\n",
        &expect![[r#"
            error: failed to find `b` in the build context
             --> Dockerfile:2:8
              |
            2 | COPY a b /x/
              |        ^
            hint: `b` is a link to `/nowhere`, and the context has no such file
        "#]],
    );
}

#[test]
fn a_context_that_is_no_directory_is_told() {
    require!(Need::Root);
    let world = World::new();
    let mut options = world.options("FROM base\nCOPY a /\n");
    options.context = crate::Context::Directory(world.temp.path().join("missing"));
    let error = world.build_with(&options).unwrap_err();
    assert!(error.to_string().ends_with("missing` is no directory"), "{error}");
    assert!(error.hint().is_some());
}

#[test]
fn a_wildcard_without_a_match_is_a_warning() {
    require!(Need::Root);
    let world = World::new();
    world.write("a", "1");
    world.build("FROM base\nCOPY a lock* /\n");
    let warnings: Vec<String> = world
        .reporter
        .take()
        .into_iter()
        .filter_map(|event| match event {
            corten_diag::Event::Diagnostic(diagnostic) => Some(diagnostic.message),
            _ => None,
        })
        .collect();
    assert_eq!(warnings, ["no file matches `lock*`"]);
}
