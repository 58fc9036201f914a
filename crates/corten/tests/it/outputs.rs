//! `build --output`: where results go, read back by others.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use corten_sys::command::find_program;
use corten_sys::file;
use corten_testkit::privilege::Need;
use corten_testkit::{TestContext, require};
use expect_test::expect;

/// Where the tools of others are.
const SEARCH_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

/// A context with a build of two stages and no program.
pub(crate) fn with_app() -> TestContext {
    let context = corten_testkit::context!();
    context.write("app/bin/tool", "#!/bin/sh\n");
    context.write("app/model", vec![7; 70_000]);
    context.write("app/late", "late\n");
    context.write(
        "app/Dockerfile",
        "FROM scratch AS files\n\
         COPY --chmod=4755 --chown=7:8 bin/tool /bin/tool\n\
         COPY --chmod=0444 model /data/model\n\
         FROM files\n\
         COPY late /data/model\n\
         COPY late /data/name-é\n\
         LABEL a=b\n",
    );
    file::symlink(Path::new("/etc/passwd"), &context.work_dir().join("app/bin/link"))
        .expect("the work directory is writable");
    context.write("app/Dockerfile.links", "FROM scratch\nCOPY bin /bin\n");
    context
}

/// Runs a tool and returns what it printed.
fn tool(directory: &Path, program: &str, arguments: &[&str]) -> String {
    let path = find_program(program, SEARCH_PATH.as_ref())
        .expect("every Linux has it, or the gate found it");
    let context = TestContext::new(path);
    let output = context.command(arguments).dir(directory).run().success();
    output.stdout().to_owned()
}

fn names(folder: &Path) -> Vec<String> {
    let names = file::list_dir(folder).expect("the folder is there");
    names.iter().map(|name| name.to_string_lossy().into_owned()).collect()
}

#[test]
fn a_directory_gets_the_files_and_nothing_gets_a_name() {
    let context = with_app();
    context.check(
        &["build", "-t", "app", "-o", "out", "app"],
        &expect![[r#"
            exit: 0
            --- stdout
            --- stderr
            #1 [1/4] [files] COPY --chmod=4755 --chown=7:8 bin/tool /bin/tool
            #1 DONE [DURATION]
            #2 [2/4] [files] COPY --chmod=0444 model /data/model
            #2 DONE [DURATION]
            #3 [3/4] [1] COPY late /data/model
            #3 DONE [DURATION]
            #4 [4/4] [1] COPY late /data/name-é
            #4 DONE [DURATION]
            built [ID]  80.9kB  [DURATION]
            wrote out
        "#]],
    );
    let out = context.work_dir().join("out");
    assert_eq!(names(&out), ["bin", "data"]);
    assert_eq!(context.read("out/data/model"), "late\n");
    assert_eq!(context.read("out/data/name-é"), "late\n");
    let tool = file::metadata(&out.join("bin/tool")).expect("it was copied");
    // With another owner, the program would run as somebody else.
    assert_eq!((tool.mode() & 0o7777, tool.uid()), (0o755, file::effective_user_id()));
    assert_eq!(tool.mtime(), 0);
    context.check(
        &["images", "-q"],
        &expect![[r#"
        exit: 0
        --- stdout
        --- stderr
    "#]],
    );
    context.check(
        &["build", "-q", "-t", "app", "-o", "type=cacheonly", "app"],
        &expect![[r#"
            exit: 0
            --- stdout
            sha256:[DIGEST]
            --- stderr
        "#]],
    );
    context.check(
        &["build", "--load", "--progress=quiet", "-t", "app", "-o", "out2", "app"],
        &expect![[r#"
            exit: 0
            --- stdout
            --- stderr
            built app:latest  [ID]  80.9kB  [DURATION]
            hint: `corten run --rm app:latest` runs it
            wrote out2
        "#]],
    );
    context.run(&["inspect", "app"]).success();
}

#[test]
fn a_directory_is_copied_over_and_never_followed_out_of() {
    let context = with_app();
    context.write("out/mine", "mine\n");
    context.write("out/data/model", "old\n");
    context.write("outside/bin/other", "other\n");
    let out = context.work_dir().join("out");
    // Links where the build has a directory and files, the latter dangling.
    file::symlink(Path::new("../outside/bin"), &out.join("bin")).expect("a free name");
    file::symlink(Path::new("../../outside/new"), &out.join("data/name-é")).expect("a free name");
    context.run(&["build", "-q", "-o", "out", "app"]).success();
    assert_eq!(context.read("out/mine"), "mine\n");
    assert_eq!(context.read("out/data/model"), "late\n");
    assert_eq!(names(&context.work_dir().join("outside")), ["bin"]);
    assert_eq!(names(&context.work_dir().join("outside/bin")), ["other"]);
    assert!(!file::symlink_metadata(&out.join("bin")).expect("it is there").is_symlink());
    assert!(!file::symlink_metadata(&out.join("data/name-é")).expect("it is there").is_symlink());
    // Again, over read-only files and over links of the image itself.
    context.run(&["build", "-q", "-o", "out", "app"]).success();
    let links = ["build", "-q", "-f", "app/Dockerfile.links", "-o", "out", "app"];
    context.run(&links).success();
    context.run(&links).success();
    assert_eq!(
        std::fs::read_link(out.join("bin/link")).expect("it is a link"),
        Path::new("/etc/passwd")
    );
    assert_eq!(names(&out), ["bin", "data", "mine"]);
}

#[test]
fn destinations_that_cannot_be_are_told_before_the_build() {
    let context = with_app();
    context.write("file", "mine\n");
    context.check(
        &["build", "-o", "file", "app"],
        &expect![[r#"
            exit: 2
            --- stdout
            --- stderr
            error: the destination `file` is no directory
            hint: name a directory, or one to be made
        "#]],
    );
    context.check(
        &["build", "-o", "type=oci,dest=app", "app"],
        &expect![[r#"
            exit: 2
            --- stdout
            --- stderr
            error: the destination `app` is a directory
            hint: name a file: `dest=app/image.tar`
        "#]],
    );
    context.check(
        &["build", "-o", "type=tar,dest=no/x.tar", "app"],
        &expect![[r#"
            exit: 2
            --- stdout
            --- stderr
            error: there is no directory `no` to write to
            hint: make it, or choose another destination
        "#]],
    );
    context.check(
        &["build", "-o", "type=oci,dst=x.tar", "app"],
        &expect![[r#"
            exit: 2
            --- stdout
            --- stderr
            error: failed to read `--output`: the output type `oci` does not know the key `dst`
            hint: did you mean `dest`? It knows `dest`, `tar`, `name`, `annotation.*`, `compression`, `compression-level`, `force-compression`, `oci-mediatypes`, `rewrite-timestamp`
        "#]],
    );
    context.check(
        &["build", "--push", "app"],
        &expect![[r#"
            exit: 2
            --- stdout
            --- stderr
            error: an image without a name cannot be pushed
            hint: name it with `--tag REGISTRY/NAME[:TAG]`, or `name=…` in the output
        "#]],
    );
    let cache = "--cache-to=type=registry,ref=127.0.0.1:1/a:latest";
    context.check(&["build", "--push", "-t", "127.0.0.1:1/a", cache, "app"], &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: the cache `127.0.0.1:1/a:latest` would replace the image of that name
        hint: give the cache a tag of its own, such as `cache`, or keep it in the image with `--cache-to type=inline`
    "#]]);
    assert_eq!(context.read("file"), "mine\n");
    // A directory of the caller in the place of a file is not removed.
    context.write("out/data/model/precious", "mine\n");
    context.check(
        &["build", "-q", "-o", "out", "app"],
        &expect![[r#"
            exit: 2
            --- stdout
            --- stderr
            error: `out/data/model` is a directory, and the build has something else there
            hint: remove it, or choose another destination
        "#]],
    );
    assert_eq!(context.read("out/data/model/precious"), "mine\n");
}

#[test]
fn archives_can_be_loaded_and_are_the_same_every_time() {
    let here = with_app();
    here.run(&["build", "-q", "-t", "app:v1", "app"]).success();
    let id = here.run(&["inspect", "--format", "{{.Id}}", "app:v1"]).success();
    for spec in [
        "type=oci",
        "type=oci,compression=gzip",
        "type=oci,compression=zstd,compression-level=19",
        "type=oci,compression=gzip,oci-mediatypes=false",
        "type=docker",
    ] {
        let there = with_app();
        let to_file = format!("{spec},dest=x.tar");
        there.run(&["build", "-q", "-t", "app:v1", "-o", &to_file, "app"]).success();
        let bytes = file::read(&there.work_dir().join("x.tar")).expect("it was written");
        let to_stdout = format!("{spec},dest=-");
        let piped = there.run(&["build", "-q", "-t", "app:v1", "-o", &to_stdout, "app"]).success();
        assert!(piped.stdout == bytes, "{spec}");
        assert_eq!(there.run(&["images", "-q"]).success().stdout(), "");
        let elsewhere = corten_testkit::context!();
        let path = there.work_dir().join("x.tar");
        let loaded = elsewhere.run(&["load", "-i", &path.to_string_lossy()]).success();
        assert_eq!(loaded.stdout(), "Loaded image: app:v1\n", "{spec}");
        let loaded = elsewhere.run(&["inspect", "--format", "{{.Id}}", "app:v1"]).success();
        assert_eq!(loaded.stdout(), id.stdout(), "{spec}");
    }
}

#[test]
fn a_tar_has_the_whole_tree_with_its_owners() {
    let context = with_app();
    let tar = context.run(&["build", "-q", "-o", "-", "app"]).success().stdout;
    context.run(&["build", "-q", "-o", "type=tar,dest=x.tar", "app"]).success();
    assert!(tar == file::read(&context.work_dir().join("x.tar")).expect("it was written"));
    let listed = tool(&context.work_dir(), "tar", &["--numeric-owner", "-tvf", "x.tar"]);
    expect![[r#"
        drwxr-xr-x 7/8               0 1970-01-01 00:00 bin/
        -rwsr-xr-x 7/8              10 1970-01-01 00:00 bin/tool
        dr--r--r-- 0/0               0 1970-01-01 00:00 data/
        -rw-r--r-- 0/0               5 1970-01-01 00:00 data/model
        -rw-r--r-- 0/0               5 1970-01-01 00:00 data/name-é
    "#]]
    .assert_eq(&listed);
}

#[test]
fn a_layout_in_a_directory_keeps_its_other_images() {
    let context = with_app();
    let spec = "type=oci,tar=false,dest=layout";
    context.run(&["build", "-q", "-t", "app:1", "-o", spec, "app"]).success();
    context.run(&["build", "-q", "-t", "app:2", "--target", "files", "-o", spec, "app"]).success();
    context.run(&["build", "-q", "-t", "app:1", "-o", spec, "app"]).success();
    let there = corten_testkit::context!();
    let layout = context.work_dir().join("layout");
    let loaded = there.run(&["load", "-i", &layout.to_string_lossy()]).success();
    // Images come in the order of their digests.
    let mut names: Vec<&str> = loaded.stdout().lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["Loaded image: app:1", "Loaded image: app:2"]);
    context.write("layout/index.json", "{");
    context.check(
        &["build", "-q", "-o", spec, "app"],
        &expect![[r#"
            exit: 2
            --- stdout
            --- stderr
            error: the archive has an invalid document `layout/index.json`
              caused by: failed to parse the image index
              caused by: EOF while parsing an object at line 1 column 1
        "#]],
    );
}

#[test]
fn the_metadata_file_has_the_keys_of_buildkit() {
    let context = with_app();
    let build = |arguments: &[&str]| {
        let mut all = vec!["build", "-q", "--metadata-file", "meta.json"];
        all.extend_from_slice(arguments);
        all.push("app");
        context.run(&all).success();
        context.read("meta.json")
    };
    let stored = build(&["-t", "app:1", "-t", "app:2", "--annotation", "a=b"]);
    expect![[r#"
        {
          "containerimage.config.digest": "sha256:f0e20b3ac09d7b98f4e0d1c1f4209ea596eb0d8593e268c3f52d8298637047a0",
          "containerimage.descriptor": {
            "digest": "sha256:40848afa5e6b95ce7a29e27305a9fa4c99cc8da467d152f7f3d65f331679b097",
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "platform": {
              "architecture": "amd64",
              "os": "linux"
            },
            "size": 873
          },
          "containerimage.digest": "sha256:40848afa5e6b95ce7a29e27305a9fa4c99cc8da467d152f7f3d65f331679b097",
          "image.name": "docker.io/library/app:1,docker.io/library/app:2"
        }
    "#]].assert_eq(&stored);
    // The archive has the same manifest, unless its layers are compressed.
    let archived =
        build(&["-t", "app:1", "-t", "app:2", "--annotation=a=b", "-o", "type=oci,dest=x"]);
    assert_eq!(archived, stored);
    let compressed = build(&[
        "-o",
        "type=oci,dest=x,compression=gzip,annotation-manifest-descriptor.c=d",
        "-o",
        "out",
    ]);
    expect![[r#"
        {
          "containerimage.config.digest": "sha256:f0e20b3ac09d7b98f4e0d1c1f4209ea596eb0d8593e268c3f52d8298637047a0",
          "containerimage.descriptor": {
            "annotations": {
              "c": "d"
            },
            "digest": "sha256:1a856c6d2b0aa70926627d01a6158c603a25e233753b32435ecc3090530027ce",
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "platform": {
              "architecture": "amd64",
              "os": "linux"
            },
            "size": 864
          },
          "containerimage.digest": "sha256:1a856c6d2b0aa70926627d01a6158c603a25e233753b32435ecc3090530027ce"
        }
    "#]].assert_eq(&compressed);
    assert_eq!(build(&["-o", "out"]), "{}\n");
}

#[test]
fn names_and_annotations_of_an_output_are_its_own() {
    let context = with_app();
    let spec = "type=image,\"name=a,b:2\",annotation.k=v";
    context.check(
        &["build", "--progress=quiet", "-t", "c", "-o", spec, "--annotation", "q=1", "app"],
        &expect![[r#"
            exit: 0
            --- stdout
            --- stderr
            built c:latest, a:latest, b:2  [ID]  80.9kB  [DURATION]
            hint: `corten run --rm c:latest` runs it
        "#]],
    );
    for name in ["a", "b:2", "c"] {
        context.run(&["inspect", name]).success();
    }
    context.check(
        &["build", "-q", "--annotation", "index:a=b", "app"],
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
fn pipes_and_links_are_written_through() {
    let context = with_app();
    let work = context.work_dir();
    tool(&work, "mkfifo", &["pipe"]);
    let reader = TestContext::new("/bin/cat");
    let pipe = work.join("pipe").to_string_lossy().into_owned();
    let running = reader.command([pipe.as_str()]).start();
    context.run(&["build", "-q", "-o", "type=tar,dest=pipe", "app"]).success();
    let piped = running.wait().success().stdout;
    let tar = context.run(&["build", "-q", "-o", "-", "app"]).success().stdout;
    assert!(piped == tar);
    let kind = file::symlink_metadata(&work.join("pipe")).expect("it is there").file_type();
    assert!(kind.is_fifo());
    context.write("real/x.tar", "old");
    file::symlink(Path::new("real/x.tar"), &work.join("link.tar")).expect("a free name");
    context.run(&["build", "-q", "-o", "type=tar,dest=link.tar", "app"]).success();
    assert!(file::read(&work.join("real/x.tar")).expect("it was written") == tar);
    assert!(file::symlink_metadata(&work.join("link.tar")).expect("it stays").is_symlink());
    context.run(&["build", "-q", "-o", "type=tar,dest=/dev/null", "app"]).success();
    let null = file::metadata(Path::new("/dev/null")).expect("every Linux has it");
    assert!(null.file_type().is_char_device());
}

#[test]
fn one_stage_can_be_done_again() {
    let context = with_app();
    context.run(&["build", "-q", "app"]).success();
    context.check(
        &["build", "-q", "--progress=plain", "--no-cache-filter", "files,nosuch", "app"],
        &expect![[r#"
            exit: 0
            --- stdout
            sha256:[DIGEST]
            --- stderr
            warning: no stage is called `nosuch`: `--no-cache-filter` does nothing
        "#]],
    );
    context.check(
        &["build", "--no-cache-filter", "FILES", "app"],
        &expect![[r#"
            exit: 0
            --- stdout
            --- stderr
            #1 [1/4] [files] COPY --chmod=4755 --chown=7:8 bin/tool /bin/tool
            #1 DONE [DURATION]
            #2 [2/4] [files] COPY --chmod=0444 model /data/model
            #2 DONE [DURATION]
            #3 [3/4] [1] COPY late /data/model
            #3 CACHED
            #4 [4/4] [1] COPY late /data/name-é
            #4 CACHED
            built [ID]  [ID]  80.9kB  [DURATION]
            hint: `corten run --rm [ID]` runs it
        "#]],
    );
}

#[test]
fn skopeo_reads_every_archive() {
    require!(Need::Program("skopeo"));
    let context = with_app();
    for (spec, source) in [
        ("type=oci,dest=x", "oci-archive:x:1"),
        ("type=oci,dest=y,compression=gzip", "oci-archive:y:1"),
        ("type=oci,dest=z,compression=zstd", "oci-archive:z:1"),
        ("type=oci,dest=l,tar=false,compression=gzip", "oci:l:1"),
        ("type=docker,dest=a", "docker-archive:a"),
    ] {
        let id = context.run(&["build", "-q", "-t", "app:1", "-o", spec, "app"]).success();
        let work = context.work_dir();
        let config = tool(&work, "skopeo", &["inspect", "--config", "--raw", source]);
        let digest = corten_oci::digest::Digest::of(config.as_bytes());
        assert_eq!(format!("{digest}\n"), id.stdout(), "{spec}");
        // Copying reads and verifies the layers.
        tool(&work, "skopeo", &["copy", "--quiet", source, "dir:copy"]);
    }
}
