//! Caches that go from one store to another.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corten_sys::clock::Timestamp;
use corten_sys::file;
use corten_testkit::{Need, TempDir, require};
use expect_test::expect;

use crate::options::BuildOptions;
use crate::run::{RunOutcome, StepMountKind};
use crate::tests::world::World;

const STAGES: &str = "FROM base AS tools\nRUN write /tool made\nRUN write /tool2 made\n\
                      FROM base\nCOPY a.txt /\nCOPY --from=tools /tool /bin/\nRUN write /done yes\n";

const MOUNTED: &str = "FROM base\nRUN --mount=type=cache,id=pip,target=/c fill 1\nRUN write /x y\n";

fn world() -> World {
    let world = World::new();
    world.write("a.txt", "a");
    world
}

fn from(path: &Path) -> String {
    format!("type=local,src={}", path.display())
}

fn to(path: &Path, more: &str) -> String {
    format!("type=local,dest={}{more}", path.display())
}

/// Exports what a new world builds.
fn export(text: &str, path: &Path, more: &str) -> World {
    let world = world();
    fills_mounts(&world);
    world.build_cached(&world.options(text), &[], &[&to(path, more)]);
    assert_eq!(world.warnings(), Vec::<String>::new());
    world.ran();
    world
}

/// Lets `fill N` write N files into each cache mount.
fn fills_mounts(world: &World) {
    *world.executor.hook.lock().unwrap() = Some(Arc::new(|step, _| {
        let command = step.args.last().cloned().unwrap_or_default();
        let Some(count) = command.strip_prefix("fill ") else { return RunOutcome::exited(0) };
        for mount in &step.mounts {
            let StepMountKind::Bind { source, readonly: false } = &mount.kind else { continue };
            for number in 0..count.parse::<u32>().unwrap() {
                let path = source.join(format!("wheel-{number}"));
                if !file::exists(&path).unwrap() {
                    file::write(&path, vec![b'w'; 1000 + number as usize].as_slice()).unwrap();
                    file::set_times(&path, Timestamp::from_seconds(1_600_000_000)).unwrap();
                }
            }
        }
        RunOutcome::exited(0)
    }));
}

fn blobs(path: &Path) -> Vec<PathBuf> {
    let folder = path.join("blobs/sha256");
    file::list_dir(&folder).unwrap().iter().map(|name| folder.join(name)).collect()
}

#[test]
fn another_store_does_nothing_again_and_makes_the_same_image() {
    require!(Need::Root);
    let temp = TempDir::new();
    let path = temp.path().join("cache");
    let first = world();
    let (made, exported) =
        first.build_cached(&first.options(STAGES), &[], &[&to(&path, ",mode=max")]);
    assert_eq!((exported[0].layers, exported[0].steps), (5, 6));
    let second = world();
    let (found, _) = second.build_cached(&second.options(STAGES), &[&from(&path)], &[]);
    assert_eq!(made.id(), found.id());
    assert!(second.ran().is_empty());
    expect![[r#"
        cached [1] COPY a.txt /
        cached [1] COPY --from=tools /tool /bin/
        cached [1] RUN write /done yes
        cached [tools] RUN write /tool made
        cached [tools] RUN write /tool2 made
    "#]]
    .assert_eq(&second.outcomes());
}

#[test]
fn layers_of_steps_that_are_not_needed_are_not_fetched() {
    require!(Need::Root);
    let temp = TempDir::new();
    let path = temp.path().join("cache");
    let first = export(STAGES, &path, ",mode=max");
    let second = world();
    let (target, _) = second.build_cached(&second.options(STAGES), &[&from(&path)], &[]);
    let layers = file::list_dir(&second.store.root().join("layers")).unwrap().len();
    assert_eq!(layers, target.layers.len());
    assert!(file::list_dir(&first.store.root().join("layers")).unwrap().len() > layers);
}

#[test]
fn only_the_steps_of_the_target_are_exported_unless_all_are_asked_for() {
    require!(Need::Root);
    let temp = TempDir::new();
    let path = temp.path().join("cache");
    export(STAGES, &path, "");
    let second = world();
    second.write("a.txt", "changed");
    second.build_cached(&second.options(STAGES), &[&from(&path)], &[]);
    assert_eq!(second.ran(), ["write /tool made", "write /tool2 made", "write /done yes"]);
    export(STAGES, &path, ",mode=max");
    let third = world();
    third.write("a.txt", "changed");
    third.build_cached(&third.options(STAGES), &[&from(&path)], &[]);
    assert_eq!(third.ran(), ["write /done yes"]);
}

#[test]
fn one_directory_can_be_imported_and_exported_again_and_again() {
    require!(Need::Root);
    let temp = TempDir::new();
    let path = temp.path().join("cache");
    let (source, sink) = (from(&path), to(&path, ",mode=max"));
    let mut before = Vec::new();
    for round in 0..3 {
        // Each round is a machine of its own.
        let world = world();
        let (_, exported) = world.build_cached(&world.options(STAGES), &[&source], &[&sink]);
        assert_eq!(world.ran().is_empty(), round > 0);
        assert_eq!((exported[0].steps, exported[0].layers), (6, 5), "round {round}");
        if round > 0 {
            assert_eq!(exported[0].new_bytes, 0);
            assert_eq!(blobs(&path), before);
        }
        before = blobs(&path);
    }
}

#[test]
fn blobs_that_nothing_names_any_more_are_removed() {
    require!(Need::Root);
    let temp = TempDir::new();
    let path = temp.path().join("cache");
    let world = export("FROM base\nRUN write /a 1\nRUN write /b 1\n", &path, "");
    file::write(&path.join("blobs/sha256/.corten-left"), b"by a killed writer").unwrap();
    assert_eq!(blobs(&path).len(), 2 + 2 + 1);
    let options = world.options("FROM base\nRUN write /a 1\n");
    world.build_cached(&options, &[], &[&to(&path, "")]);
    assert_eq!(blobs(&path).len(), 1 + 2);
    // Another entry keeps what is its own.
    world.build_cached(&world.options(STAGES), &[], &[&to(&path, ",tag=other")]);
    world.build_cached(&options, &[], &[&to(&path, "")]);
    let other = format!("{},tag=other", from(&path));
    let fresh = self::world();
    fresh.build_cached(&fresh.options(STAGES), &[&other], &[]);
    assert!(fresh.ran().iter().all(|command| command != "write /done yes"));
}

#[test]
fn a_cache_mount_comes_back_with_its_times_where_the_step_runs_again() {
    require!(Need::Root);
    let temp = TempDir::new();
    let path = temp.path().join("cache");
    export(MOUNTED, &path, "");
    let second = world();
    // All steps are known: nothing needs the mount.
    second.build_cached(&second.options(MOUNTED), &[&from(&path)], &[]);
    assert!(!file::exists(&second.store.cache_mounts_dir()).unwrap());
    let changed = MOUNTED.replace("fill 1", "fill 0");
    fills_mounts(&second);
    second.build_cached(&second.options(&changed), &[&from(&path)], &[]);
    let name = corten_oci::digest::Digest::of(b"pip").hex();
    let wheel = second.store.cache_mounts_dir().join(name).join("wheel-0");
    let found = file::metadata(&wheel).unwrap();
    assert_eq!(found.len(), 1000);
    assert_eq!(found.mtime(), 1_600_000_000);
    // What is there is not replaced.
    file::write(&wheel, b"mine").unwrap();
    second.build_cached(
        &second.options(&MOUNTED.replace("fill 1", "fill 00")),
        &[&from(&path)],
        &[],
    );
    assert_eq!(file::read(&wheel).unwrap(), b"mine");
}

#[test]
fn cache_mounts_are_exported_as_chosen() {
    require!(Need::Root);
    let temp = TempDir::new();
    for (more, count) in [
        ("", 1),
        (",mounts=true", 1),
        (",mounts=false", 0),
        (",mounts=npm;pip", 1),
        (",mounts=npm", 0),
    ] {
        let path = temp.path().join(format!("cache{more}"));
        let world = world();
        fills_mounts(&world);
        let options = world.options(MOUNTED);
        let spec = format!("type=local,\"dest={}\"{more}", path.display());
        let (_, exported) = world.build_cached(&options, &[], &[&spec]);
        assert_eq!(exported[0].mounts, count, "{more}");
    }
}

#[test]
fn a_mount_that_the_build_did_not_need_stays_in_the_cache() {
    require!(Need::Root);
    let temp = TempDir::new();
    let (path, copy) = (temp.path().join("cache"), temp.path().join("copy"));
    export(MOUNTED, &path, "");
    let second = world();
    let sinks = [to(&path, ""), to(&copy, "")];
    let sinks: Vec<&str> = sinks.iter().map(String::as_str).collect();
    let options = second.options(MOUNTED);
    let (_, exported) = second.build_cached(&options, &[&from(&path)], &sinks);
    assert!(second.ran().is_empty());
    assert_eq!((exported[0].mounts, exported[0].new_bytes), (1, 0));
    assert_eq!((exported[1].mounts, exported[1].bytes), (1, exported[0].bytes));
    assert_eq!(blobs(&copy).len(), blobs(&path).len());
}

/// Builds with a cache that something happened to; the build does all by itself.
fn is_a_miss(path: &Path, expected: &str) {
    let world = world();
    fills_mounts(&world);
    let options: BuildOptions = world.options(MOUNTED);
    world.build_cached(&options, &[&from(path)], &[]);
    assert_eq!(world.ran(), ["fill 1", "write /x y"], "{expected}");
    let warnings = world.warnings();
    assert!(warnings.iter().any(|text| text.contains(expected)), "{expected}: {warnings:?}");
}

#[test]
fn a_cache_that_cannot_be_used_is_told_and_is_a_miss() {
    require!(Need::Root);
    let temp = TempDir::new();
    is_a_miss(&temp.path().join("absent"), "there is no cache at");
    let path = temp.path().join("cache");
    let reset = || {
        if file::exists(&path).unwrap() {
            file::remove_tree(&path).unwrap();
        }
        export(MOUNTED, &path, "");
    };
    let index = path.join("index.json");
    for (bytes, expected) in [
        (b"{".as_slice(), "is damaged"),
        (b"{\"schemaVersion\":2,\"manifests\":[]}", "there is no cache at"),
        (&vec![b' '; 5 << 20], "failed to use the cache"),
    ] {
        reset();
        file::write(&index, bytes).unwrap();
        is_a_miss(&path, expected);
    }
    for (change, expected) in [("torn", "another size"), ("other", "failed to carry the cache")] {
        reset();
        for blob in blobs(&path) {
            let mut bytes = file::read(&blob).unwrap();
            if bytes.starts_with(b"{") {
                continue;
            }
            match change {
                "torn" => bytes.truncate(bytes.len() / 2),
                _ => *bytes.last_mut().unwrap() ^= 1,
            }
            file::write(&blob, &bytes).unwrap();
        }
        is_a_miss(&path, expected);
    }
    // An export replaces what was found to be damaged.
    let world = world();
    fills_mounts(&world);
    let options = world.options(MOUNTED);
    world.build_cached(&options, &[&from(&path)], &[&to(&path, "")]);
    let healed = self::world();
    healed.build_cached(&healed.options(MOUNTED), &[&from(&path)], &[]);
    assert!(healed.ran().is_empty(), "{:?}", healed.warnings());
    reset();
    for blob in blobs(&path) {
        let bytes = file::read(&blob).unwrap();
        if bytes.starts_with(b"{") {
            file::write(&blob, &bytes[..bytes.len() / 2]).unwrap();
        }
    }
    is_a_miss(&path, "has another content");
}

#[test]
fn a_directory_with_other_things_is_left_alone() {
    require!(Need::Root);
    let temp = TempDir::new();
    file::write(&temp.path().join("mine"), b"x").unwrap();
    let spec = crate::cache::CacheTo::parse(&to(temp.path(), "")).unwrap();
    let world = world();
    let (target, _) = world.build_cached(&world.options("FROM base\nRUN write /a 1\n"), &[], &[]);
    let imports = crate::cache::Imports::none();
    let export = crate::cache::Export {
        steps: &target.steps,
        mounts: &[],
        mounts_directory: temp.path(),
        store: &world.store,
        imports: &imports,
        client: &corten_registry::Client::new(corten_registry::ClientOptions::default()),
        reporter: &world.reporter,
    };
    let error = crate::cache::export(&spec, &export).unwrap_err();
    assert!(error.to_string().contains("holds `mine`"), "{error}");
    assert_eq!(file::list_dir(temp.path()).unwrap(), ["mine"]);
}
