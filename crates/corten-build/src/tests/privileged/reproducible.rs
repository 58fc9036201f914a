//! The same image everywhere.

use std::os::unix::fs::MetadataExt as _;

use corten_sys::clock::Timestamp;
use corten_sys::file;
use corten_testkit::{Need, require};
use expect_test::expect;

use crate::tests::world::World;

const TEXT: &str = "FROM base AS a\nRUN write /out/x 1; write /var/log/dpkg.log noise\nFROM base\nENV A=1\nWORKDIR /app\n\
                    COPY --chown=app . .\nCOPY --from=a /out /out\nRUN write /y 2\nCMD [\"x\"]\n";

fn filled() -> World {
    let world = World::new();
    world.write("b/c", "1");
    world.write("a", "2");
    file::symlink(std::path::Path::new("a"), &world.context().join("l")).unwrap();
    world
}

#[test]
fn two_stores_give_one_digest() {
    require!(Need::Root);
    let (one, two) = (filled(), filled());
    file::set_times(&two.context().join("a"), Timestamp::from_seconds(77)).unwrap();
    file::set_times(&two.context().join("b"), Timestamp::from_seconds(78)).unwrap();
    let (first, second) = (one.build(TEXT), two.build(TEXT));
    assert_eq!((first.id, first.manifest), (second.id, second.manifest));
    // The digest of this image never changes unnoticed.
    if corten_oci::platform::Platform::host().architecture == "amd64" {
        expect!["sha256:331819b02271504face345b788026501f12de3e60e749986ac869211e646ee38"]
            .assert_eq(&first.id.to_string());
    }
}

#[test]
fn a_build_without_a_cache_gives_the_same_digest() {
    require!(Need::Root);
    let world = filled();
    let first = world.build(TEXT);
    let mut options = world.options(TEXT);
    options.no_cache = true;
    assert_eq!(world.build_with(&options).unwrap().id, first.id);
}

#[test]
fn the_epoch_is_in_files_configuration_and_environment() {
    require!(Need::Root);
    let world = filled();
    let mut options = world.options(TEXT);
    options.epoch = Some(86_400);
    let image = world.build_with(&options).unwrap();
    assert_eq!(image.config.created.as_deref(), Some("1970-01-02T00:00:00Z"));
    let copied = image.layers[2].path.join("app/a");
    assert_eq!(file::symlink_metadata(&copied).unwrap().mtime(), 86_400);
    let steps = world.executor.steps.lock().unwrap();
    let epoch = steps[0].env.iter().find(|(name, _)| name == "SOURCE_DATE_EPOCH").unwrap();
    assert_eq!(epoch.1, "315532800");
}
