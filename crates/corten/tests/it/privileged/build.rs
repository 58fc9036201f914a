use corten_testkit::privilege::Need;
use corten_testkit::require;
use expect_test::expect;

use crate::world::with_base;

#[test]
fn a_failing_step_shows_its_line_its_output_and_its_code() {
    require!(Need::Root, Need::Overlay);
    let context = with_base();
    context
        .write("Dockerfile", "FROM base\n\nRUN echo working; echo it broke >&2; \\\n    exit 7\n");
    context.check(
        &["build", "--network", "none", "."],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        #1 [1/1] RUN echo working; echo it broke >&2; exit 7
        #1 [ELAPSED] working
        #1 [ELAPSED] it broke
        #1 FAILED [DURATION]
        error: the command ended with code 7
         --> Dockerfile:3:1
          |
        3 | / RUN echo working; echo it broke >&2; \
        4 | |  exit 7
          | |__________^
          |
          = note: its last output:
                  working
                  it broke
    "#]],
    );
    // The next build begins where this one failed.
    context.write("Dockerfile", "FROM base\n\nRUN echo working\n");
    context.run(&["build", "-q", "--network", "none", "."]).success();
    context.run(&["system", "fsck"]).success();
}

#[test]
fn a_step_is_done_once() {
    require!(Need::Root, Need::Overlay);
    let context = with_base();
    context.write("app/main", "one\n");
    context.write(
        "app/Dockerfile",
        "FROM base\nRUN echo slow >/made\nWORKDIR /srv\nCOPY main .\nUSER app\nCMD [\"cat\", \"main\"]\n",
    );
    let build = ["build", "--network", "none", "-t", "app", "app"];
    context.check(
        &build,
        &expect![[r#"
            exit: 0
            --- stdout
            --- stderr
            #1 [1/3] RUN echo slow >/made
            #1 DONE [DURATION]
            #2 [2/3] WORKDIR /srv
            #2 DONE [DURATION]
            #3 [3/3] COPY main .
            #3 DONE [DURATION]
            built app:latest  [ID]  [SIZE]  [DURATION]
            hint: `corten run --rm app:latest` runs it
        "#]],
    );
    context.check(
        &build,
        &expect![[r#"
            exit: 0
            --- stdout
            --- stderr
            #1 [1/3] RUN echo slow >/made
            #1 CACHED
            #2 [2/3] WORKDIR /srv
            #2 CACHED
            #3 [3/3] COPY main .
            #3 CACHED
            built app:latest  [ID]  [SIZE]  [DURATION]
            hint: `corten run --rm app:latest` runs it
        "#]],
    );
    context.write("app/main", "two\n");
    context.check(
        &build,
        &expect![[r#"
            exit: 0
            --- stdout
            --- stderr
            #1 [1/3] RUN echo slow >/made
            #1 CACHED
            #2 [2/3] WORKDIR /srv
            #2 CACHED
            #3 [3/3] COPY main .
            #3 DONE [DURATION]
            built app:latest  [ID]  [SIZE]  [DURATION]
            hint: `corten run --rm app:latest` runs it
        "#]],
    );
    context.check(
        &["run", "--rm", "--network=none", "app"],
        &expect![[r#"
        exit: 0
        --- stdout
        two
        --- stderr
    "#]],
    );
    context.check(
        &["build", "--no-cache", "--network", "none", "-q", "app"],
        &expect![[r#"
        exit: 0
        --- stdout
        sha256:[DIGEST]
        --- stderr
    "#]],
    );
}

#[test]
fn a_build_can_be_verified() {
    require!(Need::Root, Need::Overlay);
    let context = with_base();
    context.write("Dockerfile", "FROM base\nRUN echo same >/file\n");
    let build = ["build", "--progress=quiet", "--network=none", "--verify", "."];
    context.check(
        &build,
        &expect![[r#"
            exit: 0
            --- stdout
            --- stderr
            built [ID]  [ID]  [SIZE]  [DURATION]
            hint: `corten run --rm [ID]` runs it
            verified two builds gave the same image sha256:[DIGEST]
        "#]],
    );
    context.write(
        "Dockerfile",
        "FROM base\nRUN echo same >/same; cat /proc/sys/kernel/random/uuid >/id; head -c 99 /dev/urandom >/x.pyc\n",
    );
    context.check(&build, &expect![[r#"
        exit: 1
        --- stdout
        first   sha256:[DIGEST]
        second  sha256:[DIGEST]

        layer 1: RUN /bin/sh -c echo same >/same; cat /proc/sys/kernel/random/uuid >/id; head -c 99 /dev/urandom >/x.pyc # buildkit
          /id: other content of the same size (37 bytes)
          /x.pyc: other content of the same size (99 bytes)
              byte code without its source: set PYTHONDONTWRITEBYTECODE=1
        --- stderr
        built [ID]  [ID]  [SIZE]  [DURATION]
        hint: `corten run --rm [ID]` runs it
        error: two builds gave different images: 1 layer differs
        hint: pin versions, and remove in the same step what holds a time
    "#]]);
}

#[test]
fn a_secret_is_there_and_stays_out() {
    require!(Need::Root, Need::Overlay);
    let context = with_base();
    context.write("token", "hush-hush");
    context.write(
        "Dockerfile",
        "FROM base\nRUN --mount=type=secret,id=token cat /run/secrets/token >/dev/null && echo seen\n",
    );
    let build = ["build", "--network=none", "--secret", "id=token,src=token", "-t", "sealed", "."];
    let output = context.run(&build).success();
    assert!(output.stderr().contains("seen"), "{}", output.stderr());
    let archive = context.run(&["save", "sealed"]).success();
    let leaked = archive.stdout.windows(9).any(|bytes| bytes == b"hush-hush");
    assert!(!leaked, "the secret is in the image");
    context.check(
        &["build", "--network=none", "--no-cache", "."],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        #1 [1/1] RUN --mount=type=secret,id=token cat /run/secrets/token >/dev/null && echo seen
        #1 [ELAPSED] cat: /run/secrets/token: No such file or directory
        #1 FAILED [DURATION]
        error: the command ended with code 1
         --> Dockerfile:2:1
          |
        2 | RUN --mount=type=secret,id=token cat /run/secrets/token >/dev/null && echo seen
          | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
          |
          = note: its last output:
                  cat: /run/secrets/token: No such file or directory
    "#]],
    );
}

#[test]
fn two_builds_at_once_do_each_step_once() {
    require!(Need::Root, Need::Overlay);
    let context = with_base();
    context
        .write("Dockerfile", "FROM base\nRUN sleep 0.3; cat /proc/sys/kernel/random/uuid >/id\n");
    let build = ["build", "-q", "--network=none", "."];
    let (one, other) = (context.command(build).start(), context.command(build).start());
    let (one, other) = (one.wait().success(), other.wait().success());
    assert_eq!(one.stdout(), other.stdout());
    context.run(&["system", "fsck"]).success();
}

#[test]
fn stores_and_contexts_may_be_named_from_a_directory_below() {
    require!(Need::Root, Need::Overlay);
    let context = with_base();
    context.write("app/Dockerfile", "FROM base\nRUN --mount=type=bind,target=/m cat /m/file\n");
    context.write("app/file", "content\n");
    let below = context.work_dir().join("below/er");
    corten_sys::file::create_dirs(&below, 0o755).expect("the work directory is ours");
    let link = context.work_dir().join("link");
    corten_sys::file::symlink(&below, &link).expect("the work directory is ours");
    for root in ["../../other", "../../link/../other"] {
        let run = |arguments: &[&str]| {
            let arguments = [&["--root", root], arguments].concat();
            context.command(&arguments).dir(&below).run().success()
        };
        run(&["build", "--network=none", "-q", "-t", "base", "../../base"]);
        run(&["build", "--network=none", "-q", "../../app"]);
        run(&["system", "fsck"]);
    }
    assert!(context.work_dir().join("below/other/FORMAT").exists());
}
