//! `save` and `load`, read back by others.

use std::path::Path;

use corten_sys::command::find_program;
use corten_testkit::privilege::Need;
use corten_testkit::{TestContext, require};
use expect_test::expect;

use super::world::with_data;

/// Where the tools of others are.
const SEARCH_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

fn id_of(context: &TestContext, name: &str) -> String {
    let output = context.run(&["inspect", "--format", "{{.Id}}", name]).success();
    output.stdout().trim().to_owned()
}

#[test]
fn what_is_saved_can_be_loaded_elsewhere_as_the_same() {
    for format in ["oci-archive", "docker-archive"] {
        let here = with_data();
        here.run(&["save", "--format", format, "-o", "image.tar", "data:v1"]).success();
        let there = corten_testkit::context!();
        let archive = here.work_dir().join("image.tar");
        let loaded = there.run(&["load", "-i", &archive.to_string_lossy()]).success();
        assert_eq!(loaded.stdout(), "Loaded image: data:v1\n");
        assert_eq!(id_of(&here, "data:v1"), id_of(&there, "data:v1"), "{format}");
        there.run(&["system", "fsck"]).success();
    }
}

#[test]
fn archives_go_through_pipes() {
    let here = with_data();
    let saved = here.run(&["save", "data:v1"]).success();
    let there = corten_testkit::context!();
    there.command(["load"]).stdin(saved.stdout.clone()).run().success();
    assert_eq!(id_of(&here, "data:v1"), id_of(&there, "data:v1"));
    // The same bytes every time, so that archives can be compared and cached.
    assert_eq!(there.run(&["save", "data:v1"]).success().stdout, saved.stdout);
}

#[test]
fn damaged_archives_are_refused_and_leave_nothing() {
    let here = with_data();
    here.write("text", "this is no archive\n");
    here.write("empty", "");
    here.check(
        &["load", "-i", "text"],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: the archive cannot be read as a tar
          caused by: the tar ends too early, at byte 19
        hint: load what `corten save`, `docker save` or skopeo wrote
    "#]],
    );
    here.check(
        &["load", "-i", "empty"],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: the archive is invalid: it has neither `oci-layout` nor `manifest.json`
        hint: load what `corten save`, `docker save` or skopeo wrote
    "#]],
    );
    here.check(
        &["load", "-i", "missing"],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: failed to open `missing`
          caused by: No such file or directory (os error 2)
    "#]],
    );
    let mut archive = here.run(&["save", "data:v1"]).success().stdout;
    here.write("short", &archive[..archive.len() / 2]);
    here.check(
        &["load", "-i", "short"],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: the archive cannot be read as a tar
          caused by: the tar ends too early, at byte 8960
        hint: load what `corten save`, `docker save` or skopeo wrote
    "#]],
    );
    // One byte of the model: its digest does not fit any more.
    let at = archive.windows(64).position(|bytes| bytes == [7; 64]).expect("the model is there");
    archive[at] = 8;
    here.write("changed", &archive);
    here.run(&["rmi", "data:v1"]).success();
    here.run(&["system", "prune", "--all"]).success();
    here.check(
        &["load", "-i", "changed"],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: the content has the digest `sha256:[DIGEST]`, expected `sha256:[DIGEST]`
    "#]],
    );
    here.check(
        &["images", "-q"],
        &expect![[r#"
        exit: 0
        --- stdout
        --- stderr
    "#]],
    );
    here.check(
        &["system", "fsck"],
        &expect![[r#"
        exit: 0
        --- stdout
        0 objects checked: the store is whole
        --- stderr
    "#]],
    );
}

#[test]
fn a_save_that_fails_leaves_no_file() {
    let here = with_data();
    here.check(
        &["save", "-o", "no/such/dir/x.tar", "data:v1"],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: failed to create `no/such/dir/x.tar`
          caused by: No such file or directory (os error 2)
        hint: write it to a directory that is there
    "#]],
    );
    here.check(
        &["save", "-o", "x.tar", "data:v1", "nosuch"],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: no image `nosuch` in the store
        hint: `corten images` lists what is there; `corten build` makes one
    "#]],
    );
    assert!(!here.work_dir().join("x.tar").exists());
}

/// Runs a tool and returns what it printed.
fn tool(directory: &Path, program: &str, arguments: &[&str]) -> String {
    let path = find_program(program, SEARCH_PATH.as_ref()).expect("the gate found it");
    let context = TestContext::new(path);
    let output = context.command(arguments).dir(directory).run().success();
    output.stdout().to_owned()
}

#[test]
fn skopeo_reads_both_archives() {
    require!(Need::Program("skopeo"));
    let here = with_data();
    let id = id_of(&here, "data:v1");
    for format in ["oci-archive", "docker-archive"] {
        here.run(&["save", "--format", format, "-o", "image.tar", "data:v1"]).success();
        let name = format!("{format}:image.tar");
        let config = tool(&here.work_dir(), "skopeo", &["inspect", "--config", "--raw", &name]);
        let digest = corten_oci::digest::Digest::of(config.as_bytes());
        assert_eq!(digest.to_string(), id, "{format}");
    }
}

#[test]
fn umoci_unpacks_what_was_saved() {
    require!(Need::Program("umoci"), Need::Program("skopeo"));
    let here = with_data();
    here.run(&["save", "-o", "image.tar", "data:v1"]).success();
    let work = here.work_dir();
    tool(&work, "skopeo", &["copy", "--quiet", "oci-archive:image.tar", "oci:layout:v1"]);
    tool(&work, "umoci", &["unpack", "--rootless", "--image", "layout:v1", "bundle"]);
    assert_eq!(here.read("bundle/rootfs/notes.txt"), "notes\n");
    assert_eq!(here.read("bundle/rootfs/models/model.bin").len(), 5000);
}

#[test]
fn what_skopeo_writes_is_loaded() {
    require!(Need::Program("skopeo"));
    let here = with_data();
    here.run(&["save", "-o", "image.tar", "data:v1"]).success();
    let work = here.work_dir();
    // Compressed layers and a layout in a directory.
    tool(
        &work,
        "skopeo",
        &["copy", "--quiet", "--dest-compress", "oci-archive:image.tar", "oci:layout:skopeo"],
    );
    let there = corten_testkit::context!();
    let layout = work.join("layout");
    there.run(&["load", "-i", &layout.to_string_lossy()]).success();
    let listed = there.run(&["images", "--quiet", "--no-trunc"]).success();
    assert_eq!(listed.stdout().trim(), id_of(&here, "data:v1"));
}
