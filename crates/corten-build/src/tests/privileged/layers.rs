//! What lands in layers.

use std::sync::Arc;

use corten_testkit::{Need, require};
use expect_test::{Expect, expect};

use crate::tests::world::{World, listing, put};
use crate::{NamedContext, RunStep};

fn check_last(world: &World, text: &str, expected: &Expect) {
    let image = world.build(text);
    expected.assert_eq(&listing(image.layers.last().unwrap()));
}

#[test]
fn copied_files_belong_to_root_and_have_the_epoch() {
    require!(Need::Root);
    let world = World::new();
    world.write("a", "1");
    world.write("d/b", "2");
    check_last(
        &world,
        "FROM base\nCOPY . /app/",
        &expect![[r#"
        0755 app/
        0644 app/a = 1
        0755 app/d/
        0644 app/d/b = 2
    "#]],
    );
}

#[test]
fn owners_are_found_in_the_image() {
    require!(Need::Root);
    let world = World::new();
    world.write("a", "1");
    for owner in ["app", "app:media", "1000", "1000:44", "app:44", "0:app"] {
        let image = world.build(&format!("FROM base\nCOPY --chown={owner} a /x"));
        let text = listing(image.layers.last().unwrap());
        let (_, ids) = text.trim_end().rsplit_once(' ').unwrap();
        let expected = match owner {
            "app" => "1000:1001",
            "1000" => "1000:1000",
            "0:app" => "0:1001",
            _ => "1000:44",
        };
        assert_eq!(ids, expected, "{owner}");
    }
}

#[test]
fn a_work_directory_is_made_for_its_user() {
    require!(Need::Root);
    let world = World::new();
    check_last(
        &world,
        "FROM base\nUSER app\nWORKDIR /srv/a",
        &expect![[r#"
        0755 srv/ 1000:1001
        0755 srv/a/ 1000:1001
    "#]],
    );
    check_last(&world, "FROM base\nWORKDIR /usr/lib", &expect![[r#""#]]);
    check_last(
        &world,
        "FROM base\nWORKDIR /usr/new",
        &expect![[r#"
        0755 usr/
        0755 usr/new/
    "#]],
    );
}

#[test]
fn files_of_a_stage_keep_what_they_are() {
    require!(Need::Root);
    let world = World::new();
    check_last(
        &world,
        "FROM base AS a\nRUN write /o/x 1\nFROM base\nCOPY --from=a /o /etc /copy/",
        &expect![[r#"
            0755 copy/
            0644 copy/group = root:x:0:\napp:x:1001:\nmedia:x:44:app\n t=1000
            0644 copy/hostname = base\n t=1000
            0644 copy/passwd = root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:App:/home/app:/bin/sh\n t=1000
            0644 copy/x = 1 t=1000
        "#]],
    );
}

#[test]
fn a_copy_from_an_image_and_a_further_context() {
    require!(Need::Root);
    let world = World::new();
    let other = world.temp.path().join("other");
    put(&other, "data/x", "1");
    put(&other, ".dockerignore", "data/y\n");
    put(&other, "data/y", "2");
    let mut options =
        world.options("FROM scratch\nCOPY --from=base /etc/hostname /\nCOPY --from=more data /d/");
    options.contexts.insert("more".to_owned(), NamedContext::Directory(other));
    let image = world.build_with(&options).unwrap();
    let text: String = image.layers.iter().map(listing).collect();
    expect![[r#"
        0644 hostname = base\n t=0
        0755 d/ t=0
        0644 d/x = 1 t=0
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_replaced_directory_stays_replaced_in_the_layer() {
    require!(Need::Root);
    let world = World::new();
    world.write("x/usr/lib/y", "new");
    let image = world.build("FROM base\nCOPY x /\n");
    expect![[r#"
        0755 usr/
        0755 usr/lib/
        0644 usr/lib/y = new
    "#]]
    .assert_eq(&listing(image.layers.last().unwrap()));
}

#[test]
fn a_run_layer_is_the_directory_that_was_written_to() {
    require!(Need::Root);
    let world = World::new();
    check_last(
        &world,
        "FROM base\nRUN write /x/y 1; mkdir /z",
        &expect![[r#"
        0755 x/
        0644 x/y = 1 t=1000
        0755 z/
    "#]],
    );
}

#[test]
fn mount_points_and_logs_are_not_left_in_a_layer() {
    require!(Need::Root);
    let world = World::new();
    world.write("src/a", "1");
    *world.executor.hook.lock().unwrap() =
        Some(Arc::new(|step: &RunStep, _: &mut dyn FnMut(_, &[u8])| {
            // What a runtime leaves behind when it makes mount points, and what apt writes.
            for directory in ["proc", "dev", "sys", "mnt/a", "opt/deep/cache"] {
                corten_sys::file::create_dirs(&step.upper.join(directory), 0o755).unwrap();
            }
            for file in ["etc/resolv.conf", "etc/hosts"] {
                put(&step.upper, file, "");
            }
            put(&step.upper, "var/log/dpkg.log", "noise");
            put(&step.upper, "var/log/apt/history.log", "noise");
            put(&step.upper, "var/log/mine.log", "kept");
            put(&step.upper, "opt/kept", "1");
            crate::RunOutcome::exited(0)
        }));
    check_last(
        &world,
        "FROM base\nRUN --mount=type=bind,source=src,target=/mnt/a --mount=type=cache,target=/opt/deep/cache \
         --mount=type=tmpfs,target=/usr/lib x",
        &expect![[r#"
            0755 dev/
            0755 opt/
            0644 opt/kept = 1 t=1000
            0755 proc/
            0755 sys/
            0755 var/
            0755 var/log/
            0755 var/log/apt/
            0644 var/log/mine.log = kept t=1000
        "#]],
    );
}

#[test]
fn an_empty_image_has_no_layers() {
    require!(Need::Root);
    let world = World::new();
    let image = world.build("FROM scratch\nLABEL a=b");
    assert!(image.layers.is_empty());
}

#[test]
fn the_history_has_an_entry_for_each_layer() {
    require!(Need::Root);
    let world = World::new();
    world.write("a", "1");
    let image = world.build("FROM base\nENV A=1\nWORKDIR /w\nCOPY a .\nRUN x\nCMD [\"c\"]");
    let layers = image.config.history.iter().filter(|entry| !entry.empty_layer).count();
    assert_eq!(layers, image.layers.len());
    assert_eq!(image.config.rootfs.diff_ids.len(), image.layers.len());
    let comments = image.config.history.iter().map(|entry| entry.comment.as_deref());
    let comments: Vec<Option<&str>> = comments.collect();
    let (base, own) = comments.split_first().unwrap();
    assert_eq!(*base, None, "an entry of the base image is left as it is");
    assert_eq!(own, [Some("corten.dockerfile.v0"); 5]);
}
