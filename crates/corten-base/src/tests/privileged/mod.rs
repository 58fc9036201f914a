//! Writing a layer needs to give files to their owners.

mod tools;

use corten_diag::Event;
use corten_testkit::{Need, require};
use expect_test::expect;

use super::*;
use crate::lock::Lock;

fn built(options: &BaseOptions<'_>, store: &Store) -> (corten_store::Image, Lock) {
    build(&recipe(), options, store, &Collect::default()).unwrap()
}

#[test]
fn a_build_is_the_same_everywhere_and_again_from_its_lock_without_network() {
    require!(Need::Root);
    let repository = repository();
    let (one, two, three) = (TempDir::new(), TempDir::new(), TempDir::new());
    let reporter = Collect::default();
    let (image, lock) =
        build(&recipe(), &options(&repository), &open_store(&one), &reporter).unwrap();
    let lib = lock.pins.packages.iter().find(|package| package.name == "lib").unwrap();
    assert_eq!((lib.version.as_str(), lib.automatic), ("1.0+deb12u1", true));
    assert_eq!(lock.pins.epoch, MTIME);
    let events = reporter.take();
    let warnings: Vec<&Event> =
        events.iter().filter(|event| matches!(event, Event::Warning(_))).collect();
    let expected = "the postinst script of app was not run, and no effect is known to replace it";
    assert_eq!(warnings, [&Event::Warning(expected.into())]);

    // Another store, and a mirror whose indexes are newer but list the same packages.
    let mut later = self::repository();
    later.signer = repository::Signer::new();
    let newer = "Date: Sat, 11 Jul 2026 20:16:37 UTC\n";
    later.publish(MIRROR, "bookworm", newer, &[APP, DPKG, LIB, PASSWD]);
    later.publish(&format!("{MIRROR}-security"), "bookworm-security", newer, &[LIB_FIXED]);
    let (again, other) = built(&options(&later), &open_store(&two));
    assert_eq!((again.id, again.manifest), (image.id, image.manifest));
    assert_eq!(other.pins, lock.pins);
    assert_ne!(other.evidence, lock.evidence);

    // From the lock: first in a fresh store, then without network.
    let store = open_store(&three);
    let mut locked = options(&repository);
    locked.lock = Some(Lock::parse(lock.to_text().as_bytes()).unwrap());
    let (rebuilt, _) = built(&locked, &store);
    assert_eq!(rebuilt.manifest, image.manifest);
    locked.transport = &Nothing;
    locked.offline = true;
    locked.mirrors = Mirrors::default();
    let (offline, _) = built(&locked, &store);
    assert_eq!(offline.manifest, image.manifest);

    let bytes = store.read_blob(&lock.pins.digest(), 1 << 20).unwrap().unwrap();
    assert_eq!(bytes, lock.pins.to_bytes());
    assert_eq!(image.annotations["io.corten.base.lock"], lock.pins.digest().to_string());
    assert_whole(&store);
}

#[test]
fn a_second_build_works_offline_from_what_the_first_one_left() {
    require!(Need::Root);
    let repository = repository();
    let folder = TempDir::new();
    let store = open_store(&folder);
    let mut options = options(&repository);
    let (image, lock) = built(&options, &store);
    options.transport = &Nothing;
    options.offline = true;
    let (again, same) = built(&options, &store);
    assert_eq!((again.id, same), (image.id, lock));
}

#[test]
fn an_epoch_clamps_every_time_and_changes_the_image() {
    require!(Need::Root);
    let repository = repository();
    let folder = TempDir::new();
    let store = open_store(&folder);
    let mut options = options(&repository);
    let (image, _) = built(&options, &store);
    options.epoch = Some(MTIME - 5);
    let (early, lock) = built(&options, &store);
    assert_ne!(early.id, image.id);
    assert_eq!(lock.pins.epoch, MTIME - 5);
    assert_eq!(early.config.created.as_deref(), Some("2025-12-31T23:59:55Z"));
}

#[test]
fn an_older_index_than_the_one_seen_before_is_not_used() {
    require!(Need::Root);
    let mut repository = repository();
    let folder = TempDir::new();
    let store = open_store(&folder);
    let (image, _) = built(&options(&repository), &store);
    let older = "Date: Fri, 10 Jul 2026 10:16:37 UTC\n";
    repository.publish(&format!("{MIRROR}-security"), "bookworm-security", older, &[]);
    let reporter = Collect::default();
    let (again, _) = build(&recipe(), &options(&repository), &store, &reporter).unwrap();
    assert_eq!(again.id, image.id);
    let told = reporter.take().iter().any(|event| {
        matches!(event, Event::Warning(text) if text.contains("is older (2026-07-10T10:16:37Z) than what was seen before"))
    });
    assert!(told);
}

#[test]
fn an_expired_index_is_used_only_on_demand_and_the_lock_says_so() {
    require!(Need::Root);
    let mut repository = repository();
    let dates = "Date: Sat, 04 Jul 2026 10:16:37 UTC\nValid-Until: Sat, 11 Jul 2026 10:16:37 UTC\n";
    repository.publish(&format!("{MIRROR}-security"), "bookworm-security", dates, &[LIB_FIXED]);
    let folder = TempDir::new();
    let mut options = options(&repository);
    options.allow_expired = true;
    let (_, lock) = built(&options, &open_store(&folder));
    let expired: Vec<bool> =
        lock.evidence.suites.iter().map(|suite| suite.expired_was_allowed).collect();
    assert_eq!(expired, [false, true]);
}

#[test]
fn strict_builds_refuse_scripts_that_nothing_covers() {
    require!(Need::Root);
    let repository = repository();
    let folder = TempDir::new();
    let store = open_store(&folder);
    let mut options = options(&repository);
    options.strict = true;
    let error = build(&recipe(), &options, &store, &Collect::default()).unwrap_err();
    expect![[r#"
        1 maintainer script is not covered by the effects: `postinst` of app
        hint: leave these packages out of the recipe, or do not ask for a strict build: the scripts are then named in warnings
    "#]].assert_eq(&explain(&error));
    assert_whole(&store);
}

#[test]
fn a_lock_for_another_recipe_is_refused() {
    require!(Need::Root);
    let repository = repository();
    let folder = TempDir::new();
    let store = open_store(&folder);
    let mut options = options(&repository);
    let (_, lock) = built(&options, &store);
    options.lock = Some(lock);
    let other = Recipe::parse(&RECIPE.replace("cmd = [\"app\"]", "cmd = [\"sh\"]")).unwrap();
    let error = build(&other, &options, &store, &Collect::default()).unwrap_err();
    assert!(error.to_string().starts_with("the lock is for the recipe `small ("), "{error}");
}

#[test]
fn a_lock_that_promises_another_layer_is_refused() {
    require!(Need::Root);
    let repository = repository();
    let folder = TempDir::new();
    let store = open_store(&folder);
    let mut options = options(&repository);
    let (_, mut lock) = built(&options, &store);
    lock.pins.layer = corten_oci::digest::DiffId(corten_oci::digest::Digest::of(b"other"));
    options.lock = Some(lock);
    let error = build(&recipe(), &options, &store, &Collect::default()).unwrap_err();
    assert!(matches!(error, BaseError::NotReproduced { .. }), "{error}");
    assert_whole(&store);
}

#[test]
fn a_locked_package_that_mirrors_have_dropped_is_named() {
    require!(Need::Root);
    let repository = repository();
    let (one, two) = (TempDir::new(), TempDir::new());
    let (_, lock) = built(&options(&repository), &open_store(&one));
    let mut later = self::repository();
    later.files.retain(|url, _| !url.contains("-security/pool/"));
    let mut options = options(&later);
    options.lock = Some(lock);
    let store = open_store(&two);
    let error = build(&recipe(), &options, &store, &Collect::default()).unwrap_err();
    let text = explain(&error);
    assert!(text.starts_with("failed to fetch the package `lib 1.0+deb12u1`\n"), "{text}");
    assert!(text.contains("hint: mirrors keep only the newest versions"), "{text}");
    assert_whole(&store);
}

#[test]
fn what_an_interrupted_build_fetched_is_used_by_the_next() {
    require!(Need::Root);
    let mut repository = repository();
    let folder = TempDir::new();
    let store = open_store(&folder);
    let security: Vec<(String, Vec<u8>)> = repository
        .files
        .iter()
        .filter(|(url, _)| url.contains("-security/pool/"))
        .map(|(url, bytes)| (url.clone(), bytes.clone()))
        .collect();
    repository.files.retain(|url, _| !url.contains("-security/pool/"));
    build(&recipe(), &options(&repository), &store, &Collect::default()).unwrap_err();
    assert_whole(&store);
    repository.files.extend(security);
    built(&options(&repository), &store);
    assert_whole(&store);
}
