//! Exports of caches that fail at each point there is: what is there stays whole, and the next export
//! works.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use corten_store::{Host, Repair, Store, StoreOptions};
use corten_sys::clock::SystemClock;
use corten_sys::file;
use corten_testkit::fault::{Fault as StoreFault, FaultFs};
use corten_testkit::registry::{Behaviour, Fault};
use corten_testkit::{FakeRegistry, Need, TempDir, require};

use crate::run::{RunOutcome, StepMountKind};
use crate::tests::world::{World, told};

const BEFORE: &str = "FROM base\nCOPY a.txt /\nRUN write /one 1\n";
const AFTER: &str = "FROM base\nCOPY b.txt /\nRUN write /two 2\n";

/// More points than an export of two layers has; each is tried.
const POINTS: usize = 200;

fn world() -> World {
    let world = World::new();
    world.write("a.txt", &"a".repeat(20_000));
    world.write("b.txt", &noise(20_000));
    world
}

/// Text that does not become smaller by a compression.
fn noise(count: usize) -> String {
    let mut state: u64 = 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(u8::try_from(33 + state % 90).unwrap())
    };
    (0..count).map(|_| next()).collect()
}

/// Which of the two builds a cache has all of.
fn has(from: &str, text: &str) -> bool {
    let world = world();
    world.build_cached(&world.options(text), &[from], &[]);
    assert_eq!(world.warnings(), Vec::<String>::new());
    world.ran().is_empty()
}

/// Exports the second build over the first one while something fails; returns whether it was done.
fn sweep(from: &str, to: &str, fail: &dyn Fn(), heal: &dyn Fn()) -> bool {
    let first = world();
    first.build_cached(&first.options(BEFORE), &[], &[to]);
    let second = world();
    fail();
    let built = second.try_build_cached(&second.options(AFTER), &[], &[to]);
    let (_, exported) = built.unwrap_or_else(|error| panic!("{}", told(&error)));
    heal();
    // The one or the other, and never half of each.
    assert_eq!(has(from, AFTER), exported.is_ok(), "{exported:?}");
    assert_eq!(has(from, BEFORE), exported.is_err(), "{exported:?}");
    let third = world();
    third.build_cached(&third.options(AFTER), &[], &[to]);
    assert!(has(from, AFTER));
    exported.is_ok()
}

#[expect(clippy::disallowed_methods, reason = "the test gives the disk another size")]
fn mount(options: &str, target: &Path) {
    let mut command = Command::new("mount");
    command.args(["-t", "tmpfs", "-o", options, "corten-test"]).arg(target);
    assert!(command.status().unwrap().success(), "mount {options}");
}

/// How many bytes or files of a mount are in use.
#[expect(clippy::disallowed_methods, reason = "the test asks for the size of the disk")]
fn used(field: &str, target: &Path) -> u64 {
    let mut command = Command::new("df");
    let output = command.args([&format!("--output={field}"), "-k"]).arg(target).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().nth(1).unwrap().trim().parse().unwrap()
}

#[test]
fn a_directory_on_a_disk_that_becomes_full_keeps_the_cache_that_it_had() {
    require!(Need::Root, Need::Program("mount"));
    for is_bytes in [true, false] {
        let temp = TempDir::new();
        mount("size=8m,nr_inodes=1000", temp.path());
        let path = temp.path().join("cache");
        let (from, to) = (
            format!("type=local,src={}", path.display()),
            format!("type=local,dest={}", path.display()),
        );
        let mut tried = 0;
        for point in 0..POINTS {
            let fail = || {
                let size = if is_bytes {
                    format!("remount,size={}k", used("used", temp.path()) + 4 * point as u64)
                } else {
                    format!("remount,nr_inodes={}", used("iused", temp.path()) + point as u64)
                };
                mount(&size, temp.path());
            };
            let heal = || mount("remount,size=8m,nr_inodes=1000", temp.path());
            tried = point;
            if sweep(&from, &to, &fail, &heal) {
                break;
            }
        }
        assert!((3..POINTS).contains(&tried), "{tried} points");
    }
}

#[test]
fn a_registry_that_fails_at_any_request_keeps_the_cache_that_it_had() {
    require!(Need::Root);
    for fault in [Fault::Refuse, Fault::CutOnce] {
        let mut tried = 0;
        for point in 0..POINTS {
            // A new one each time: what was sent once is not sent again.
            let registry = FakeRegistry::start(Behaviour::default());
            let place = format!("type=registry,ref={}/team/app:cache", registry.host);
            let reached = std::cell::Cell::new(false);
            let fail = || {
                registry.behave(Behaviour { fault: Some((point, fault)), ..Behaviour::default() });
            };
            let heal = || {
                reached.set(registry.requests() > point);
                registry.behave(Behaviour::default());
            };
            let is_done = sweep(&place, &place, &fail, &heal);
            // A connection that is cut is made again.
            assert!(is_done || fault != Fault::CutOnce, "cut at {point}");
            tried = point;
            if !reached.get() {
                assert!(is_done);
                break;
            }
        }
        assert!((10..POINTS).contains(&tried), "{tried} points");
    }
}

/// Lets each step write a file into its cache mounts, unless it is there.
fn fills_mounts(world: &World) {
    *world.executor.hook.lock().unwrap() = Some(Arc::new(|step, _| {
        for mount in &step.mounts {
            let StepMountKind::Bind { source, readonly: false } = &mount.kind else { continue };
            let path = source.join("wheel");
            if !file::exists(&path).unwrap() {
                file::write(&path, b"wheel").unwrap();
            }
        }
        RunOutcome::exited(0)
    }));
}

#[test]
fn an_import_into_a_store_that_fails_at_any_change_leaves_it_whole() {
    require!(Need::Root);
    let temp = TempDir::new();
    let path = temp.path().join("cache");
    let from = format!("type=local,src={}", path.display());
    let text = "FROM base\nCOPY a.txt /\nRUN write /one 1\n\
                RUN --mount=type=cache,target=/c write /two 2\n";
    // Another command with the same mount, so that what the cache has of it is needed.
    let other = text.replace("/two", "/three");
    let first = world();
    fills_mounts(&first);
    let to = format!("type=local,dest={},mode=max", path.display());
    first.build_cached(&first.options(text), &[], &[&to]);
    let expected = first.build_cached(&first.options(&other), &[], &[]).0.id();
    for fault in [StoreFault::Once, StoreFault::Sticky] {
        let mut call = 0;
        loop {
            let mut world = world();
            fills_mounts(&world);
            let options = StoreOptions::new(world.store.root());
            let fs = Arc::new(FaultFs::new(u64::MAX, fault));
            let clock = Arc::new(SystemClock);
            let host = Host { fs: Arc::clone(&fs) as _, clock, boot_id: "boot".to_owned() };
            world.store = Store::open_on(&options, host).unwrap();
            fs.arm(call);
            let built = world.try_build_cached(&world.options(&other), &[&from], &[]);
            let reached = fs.has_failed();
            match built {
                Ok((target, _)) => assert_eq!(target.id(), expected, "{fault:?} at {call}"),
                Err(error) => assert!(reached, "{}", told(&error)),
            }
            world.store = Store::open(&options).unwrap();
            let report = world.store.fsck(Repair::No).unwrap();
            assert!(report.problems.is_empty(), "{fault:?} at {call}: {:?}", report.problems);
            drop(world.warnings());
            let again = world.build_cached(&world.options(&other), &[&from], &[]).0.id();
            assert_eq!((again, world.warnings()), (expected, Vec::new()), "{fault:?} at {call}");
            if !reached {
                break;
            }
            call += 1;
        }
        assert!((20..1000).contains(&call), "{call} calls");
    }
}
