//! Images of several platforms: built, listed, written, read back and removed. Nothing is executed,
//! so that every machine can do it.

use corten_sys::file;
use corten_testkit::TestContext;
use expect_test::expect;

/// A context with a build that tells platforms apart and runs no program.
fn with_app() -> TestContext {
    let context = corten_testkit::context!();
    for architecture in ["amd64", "arm64"] {
        context.write(format!("app/app-{architecture}"), format!("for {architecture}\n"));
    }
    context.write("app/common", "for all\n");
    context.write(
        "app/Dockerfile",
        "FROM scratch AS common\n\
         COPY common /common\n\
         FROM scratch\n\
         ARG TARGETARCH\n\
         COPY --from=common /common /\n\
         COPY app-$TARGETARCH /app\n\
         LABEL of=$TARGETARCH\n\
         CMD [\"/app\"]\n",
    );
    context
}

const BOTH: &str = "linux/amd64,linux/arm64";

fn text_of(context: &TestContext, path: &str) -> String {
    let bytes = file::read(&context.work_dir().join(path)).expect("it was written");
    String::from_utf8(bytes).expect("it is text")
}

fn stdout(context: &TestContext, arguments: &[&str]) -> String {
    context.run(arguments).success().stdout().to_owned()
}

#[test]
fn several_platforms_give_an_index_and_lines_that_name_them() {
    let context = with_app();
    context.run(&["build", "-q", "--platform", BOTH, "app"]).success();
    let arguments = ["--iidfile", "id", "--metadata-file", "metadata", "app"];
    let build = ["build", "--platform", BOTH, "-t", "app:1"];
    context.check(
        &[&build[..], &arguments[..]].concat(),
        &expect![[r#"
        exit: 0
        --- stdout
        --- stderr
        #2 [2/6] [linux/amd64 1] COPY --from=common /common /
        #2 CACHED
        #3 [3/6] [linux/amd64 1] COPY app-amd64 /app
        #3 CACHED
        #5 [5/6] [linux/arm64 1] COPY --from=common /common /
        #5 CACHED
        #6 [6/6] [linux/arm64 1] COPY app-arm64 /app
        #6 CACHED
        #1 [1/6] [linux/amd64 common] COPY common /common
        #1 CACHED
        #4 [4/6] [linux/arm64 common] COPY common /common
        #4 CACHED
        built app:1  [ID]  linux/amd64, linux/arm64  6.14kB  [DURATION]
        hint: `corten run --rm app:1` runs it
    "#]],
    );
    let id = text_of(&context, "id");
    let metadata = text_of(&context, "metadata");
    assert!(metadata.contains(&format!("\"containerimage.digest\": \"{id}\"")), "{metadata}");
    assert!(metadata.contains("application/vnd.oci.image.index.v1+json"), "{metadata}");
    assert!(!metadata.contains("containerimage.config.digest"), "{metadata}");
    let quiet = stdout(&context, &["build", "-q", "--platform", BOTH, "app"]);
    assert_eq!(quiet.trim(), id);
    // The flag may be repeated, and the same platform counts once.
    let repeated = ["--platform", "linux/amd64", "--platform", "linux/arm64,linux/arm64/v8"];
    let quiet = stdout(&context, &[&["build", "-q"], &repeated[..], &["app"]].concat());
    assert_eq!(quiet.trim(), id);
    context.check(
        &["images"],
        &expect![[r#"
        exit: 0
        --- stdout
        REPOSITORY  TAG  PLATFORM  IMAGE ID  CREATED  SIZE
        app  1  linux/amd64,linux/arm64  [ID]  [AGE]  6.14kB
        --- stderr
    "#]],
    );
    let format = "{{.Id}} {{range .Manifests}}{{.Platform}} {{end}}";
    let inspected = stdout(&context, &["inspect", "--format", format, "app:1"]);
    assert_eq!(inspected.trim(), format!("{id} linux/amd64 linux/arm64"));
    for architecture in ["amd64", "arm64"] {
        let platform = format!("linux/{architecture}");
        let format = "{{.Architecture}} {{.Config.Labels.of}}";
        let inspect = ["inspect", "--platform", &platform, "--format", format, "app:1"];
        assert_eq!(stdout(&context, &inspect).trim(), format!("{architecture} {architecture}"));
        let history = stdout(&context, &["history", "--platform", &platform, "app:1"]);
        assert!(history.contains(&format!("app-{architecture}")), "{history}");
    }
    context.run(&["system", "fsck"]).success();
}

#[test]
fn one_foreign_platform_gives_a_plain_image() {
    let context = with_app();
    context.run(&["build", "-q", "--platform", "linux/arm64", "-t", "app", "app"]).success();
    let inspected = stdout(&context, &["inspect", "app"]);
    assert!(inspected.contains("\"Architecture\": \"arm64\""), "{inspected}");
    assert!(!inspected.contains("\"Manifests\""), "{inspected}");
}

#[test]
fn the_plan_shows_every_platform() {
    let context = with_app();
    context.check(
        &["build", "--plan", "--platform", BOTH, "app"],
        &expect![[r#"
        exit: 0
        --- stdout
        platform linux/amd64, linux/arm64

        stage common [linux/amd64]
          from scratch
           1 COPY common /common
               from the build context: common -> /common

        stage 1 [linux/amd64] (target)
          from scratch
           2 COPY --from=common /common /
               from `common`: /common -> /
           3 COPY app-amd64 /app
               from the build context: app-amd64 -> /app

        stage common [linux/arm64]
          from scratch
           4 COPY common /common
               from the build context: common -> /common

        stage 1 [linux/arm64] (target)
          from scratch
           5 COPY --from=common /common /
               from `common`: /common -> /
           6 COPY app-arm64 /app
               from the build context: app-arm64 -> /app

        image for linux/amd64
          env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
          workdir /
          cmd ["/app"]
          label of=amd64

        image for linux/arm64
          env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
          workdir /
          cmd ["/app"]
          label of=arm64
        --- stderr
    "#]],
    );
}

#[test]
fn an_index_is_saved_and_loaded_as_a_whole_or_in_part() {
    let here = with_app();
    here.run(&["build", "-q", "--platform", BOTH, "-t", "app:1", "app"]).success();
    here.run(&["save", "-o", "all.tar", "app:1"]).success();
    let arm64 = ["save", "-o", "arm64.tar", "--format", "docker-archive", "--platform"];
    here.run(&[&arm64[..], &["linux/arm64", "app:1"]].concat()).success();
    let load = |archive: &str, more: &[&str]| {
        let there = corten_testkit::context!();
        let path = here.work_dir().join(archive);
        let path = path.to_string_lossy();
        there.run(&[&["load", "-i", &path], more].concat()).success();
        there.run(&["system", "fsck"]).success();
        stdout(&there, &["images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}} {{.Platform}}"])
    };
    let format = "{{.Repository}}:{{.Tag}} {{.ID}} {{.Platform}}";
    assert_eq!(load("all.tar", &[]), stdout(&here, &["images", "--format", format]));
    let one = load("all.tar", &["--platform", "linux/arm64"]);
    assert_eq!(one, load("arm64.tar", &[]));
    assert!(one.trim().ends_with(" linux/arm64"), "{one}");
}

#[test]
fn a_platform_that_is_not_there_is_told_with_those_that_are() {
    let context = with_app();
    context.run(&["build", "-q", "--platform", BOTH, "-t", "app:1", "app"]).success();
    for command in ["inspect", "history", "rmi", "run"] {
        let failed = context.run(&[command, "--platform", "linux/s390x", "app:1"]);
        let text = failed.stderr().to_owned();
        let expected = "image `app:1` is for linux/amd64, linux/arm64, not for linux/s390x";
        assert!(text.contains(expected), "{command}: {text}");
    }
}

#[test]
fn an_index_is_removed_with_its_images_or_platform_by_platform() {
    let context = with_app();
    context.run(&["build", "-q", "--platform", BOTH, "-t", "app:1", "app"]).success();
    context.run(&["tag", "app:1", "app:2"]).success();
    context.check(
        &["rmi", "app:2"],
        &expect![[r#"
        exit: 0
        --- stdout
        Untagged: app:2
        --- stderr
    "#]],
    );
    context.check(
        &["rmi", "--platform", "linux/arm64", "app:1"],
        &expect![[r#"
        exit: 0
        --- stdout
        Deleted: sha256:[DIGEST]
        --- stderr
    "#]],
    );
    let left = stdout(&context, &["images", "--format", "{{.Repository}} {{.Platform}}"]);
    assert_eq!(left, "app linux/amd64\n");
    context.run(&["build", "-q", "--platform", BOTH, "-t", "app:1", "app"]).success();
    context.check(
        &["rmi", "app:1"],
        &expect![[r#"
        exit: 0
        --- stdout
        Untagged: app:1
        Deleted: sha256:[DIGEST]
        Deleted: sha256:[DIGEST]
        Deleted: sha256:[DIGEST]
        --- stderr
    "#]],
    );
    context.run(&["system", "prune", "--all"]).success();
    let usage = stdout(&context, &["system", "df", "--json"]);
    assert!(usage.contains("\"blobs\": {\n    \"bytes\": 0"), "{usage}");
}

#[test]
fn files_of_platforms_go_into_directories_of_their_own() {
    let context = with_app();
    let build = |more: &[&str]| {
        context.run(&[&["build", "-q", "--platform", BOTH], more, &["app"]].concat())
    };
    build(&["-o", "out", "-o", "type=tar,dest=out.tar"]).success();
    assert_eq!(text_of(&context, "out/linux_amd64/app"), "for amd64\n");
    assert_eq!(text_of(&context, "out/linux_arm64/app"), "for arm64\n");
    let tar = String::from_utf8_lossy(
        &file::read(&context.work_dir().join("out.tar")).expect("it was written"),
    )
    .into_owned();
    for name in ["linux_amd64/app\0", "linux_arm64/app\0", "linux_arm64/common\0"] {
        assert!(tar.contains(name), "{name}");
    }
    let failed = build(&["-o", "type=local,dest=one,platform-split=false"]).code(2);
    let text = failed.stderr();
    assert!(text.contains("is in the images for linux/amd64 and for linux/arm64"), "{text}");
    // Names that differ can be in one directory.
    context.write(
        "app/Dockerfile",
        "FROM scratch\nARG TARGETARCH\nCOPY app-$TARGETARCH /bin/app-$TARGETARCH\n",
    );
    let both = ["-o", "type=local,dest=two,platform-split=false"];
    build(&[&both[..], &["-o", "type=tar,dest=two.tar,platform-split=false"]].concat()).success();
    assert_eq!(text_of(&context, "two/bin/app-amd64"), "for amd64\n");
    assert_eq!(text_of(&context, "two/bin/app-arm64"), "for arm64\n");
}

#[test]
fn an_archive_of_an_index_is_reproducible_and_has_its_annotations() {
    let context = with_app();
    let build = |specs: &[&str]| {
        let notes = ["--annotation", "index:a=1", "--annotation", "index-descriptor:b=2"];
        let more = ["--annotation", "manifest[linux/arm64],manifest-descriptor:c=3"];
        let all = [&["build", "-q", "--platform", BOTH], &notes[..], &more[..], specs, &["app"]];
        context.run(&all.concat())
    };
    build(&["-o", "type=oci,dest=1.tar,compression=gzip"]).success();
    build(&["-o", "type=oci,dest=2.tar,compression=gzip"]).success();
    let read = |name: &str| file::read(&context.work_dir().join(name)).expect("it was written");
    assert!(read("1.tar") == read("2.tar"));
    build(&["-o", "type=oci,dest=layout,tar=false"]).success();
    let top = text_of(&context, "layout/index.json");
    assert!(top.contains("image.index.v1+json") && top.contains("\"b\":\"2\""), "{top}");
    let failed = build(&["-o", "type=docker,dest=x.tar"]).code(2);
    assert!(failed.stderr().contains("an output of type `docker` has one platform"));
    // Into the store, as many as there are.
    build(&["-o", "type=docker", "--iidfile", "id"]).success();
    let format = "{{.Id}} {{.IndexAnnotations.a}}";
    let inspected = stdout(&context, &["inspect", "--format", format, &text_of(&context, "id")]);
    assert_eq!(inspected.trim(), format!("{} 1", text_of(&context, "id")));
}

#[test]
fn annotations_of_an_index_need_several_platforms() {
    let context = with_app();
    context.check(
        &["build", "--annotation", "index:a=1", "--platform", "linux/arm64", "app"],
        &expect![[r#"
            exit: 2
            --- stdout
            --- stderr
            error: the annotation `a` is for an index, and a build for one platform has none
            hint: put it on the `manifest` or the `manifest-descriptor`
        "#]],
    );
}

#[test]
fn a_second_build_of_several_platforms_is_compared_with_the_first() {
    let context = with_app();
    let verified = context.run(&["build", "--verify", "--platform", BOTH, "app"]).success();
    assert_eq!(verified.stderr().matches("two builds gave the same image").count(), 2);
}

#[test]
fn programs_that_nothing_here_executes_are_refused_before_anything_is_done() {
    let context = with_app();
    context.write("app/Dockerfile", "FROM scratch\nCOPY common /\nRUN [\"/x\"]\n");
    context.check(&["build", "--platform", "linux/sparc64", "app"], &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: this machine (linux/amd64) cannot execute programs of `linux/sparc64`: no emulator is registered for them
         --> app/Dockerfile:3:1
          |
        3 | RUN ["/x"]
          | ^^^^^^^^^^
        hint: as root: `apt-get install qemu-user-static`, then `corten system emulation --register`
    "#]]);
    context.write("app/Dockerfile", "FROM scratch\nCOPY common /\nCMD [\"/x\"]\n");
    context.run(&["build", "-q", "--platform", "linux/sparc64", "-t", "app", "app"]).success();
    let refused = context.run(&["run", "--rm", "app"]).code(125);
    let text = refused.stderr();
    assert!(text.contains("cannot execute programs of `linux/sparc64`"), "{text}");
    assert!(text.contains("hint: as root: `apt-get install qemu-user-static`"), "{text}");
}

#[test]
fn who_may_execute_what_is_listed() {
    let context = corten_testkit::context!();
    let host = corten_oci::platform::Platform::host().architecture;
    let listed = stdout(&context, &["system", "emulation", &host]);
    assert!(listed.contains(&host) && listed.contains("native"), "{listed}");
    context.check(
        &["system", "emulation", "am64"],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: no processor `am64` is known
        hint: did you mean `amd64`?
    "#]],
    );
}
