//! Several processes at once, and processes that are killed.
//!
//! A process is this test program again, told by an extra filter argument (which matches no test)
//! what to do on which store. It writes a line for everything that it has been promised.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Stdio};
use std::time::Duration;

use corten_oci::digest::Digest;
use corten_oci::reference::Reference;
use serde_json::json;

use super::{NOW, Scratch, config, fill};
use crate::{CacheKey, GcPolicy, Repair, Seal, StepRecord, Store, StoreOptions};

const PREFIX: &str = "corten-child:";

/// How often the kill test kills.
const KILLS: u64 = 24;

/// How many things each process makes when nobody kills it.
const ROUNDS: u64 = 40;

const GC: GcPolicy = GcPolicy {
    keep_unused_steps: false,
    keep_untagged_images: false,
    keep_younger_seconds: None,
    keep_bytes: None,
};

/// The entry point of the processes; as a test of its own it does nothing.
#[test]
fn child_process() {
    let Some(task) = std::env::args().find_map(|arg| arg.strip_prefix(PREFIX).map(str::to_owned))
    else {
        return;
    };
    let [kind, seed, root] = task.splitn(3, ':').collect::<Vec<_>>().try_into().unwrap();
    let seed: u64 = seed.parse().unwrap();
    let in_user_namespace = corten_sys::file::effective_user_id() != 0;
    let options = StoreOptions { root: PathBuf::from(root), in_user_namespace };
    match kind {
        "build" => build(&options, seed, ROUNDS),
        "build-forever" => build(&options, seed, u64::MAX),
        "collect" => {
            for _ in 0..ROUNDS {
                Store::open(&options).unwrap().gc(&GC).unwrap();
            }
        }
        other => panic!("unknown task {other}"),
    }
}

/// Does what a build does: looks into the cache, makes layers, an image and a name.
fn build(options: &StoreOptions, seed: u64, rounds: u64) {
    for round in 0..rounds {
        let store = Store::open(options).unwrap();
        let shared = (round * 7 + seed) % 5;
        let mut layers = Vec::new();
        for name in [format!("shared-{shared}"), format!("own-{seed}-{round}")] {
            let key = CacheKey(Digest::of(name.as_bytes()));
            let cached = store.step(&key).unwrap();
            if let Some(layer) = cached.and_then(|record| record.layer) {
                // A hit protects the layer, so no collection can take it away now.
                layers.push(store.layer(&layer).unwrap().expect("a hit has a layer"));
                continue;
            }
            let staging = store.stage().unwrap();
            let files: Vec<String> = (0..10 + shared).map(|n| format!("{name}/{n}")).collect();
            let files: Vec<(&str, &str)> = files.iter().map(|f| (f.as_str(), f.as_str())).collect();
            fill(staging.tree(), &files);
            let layer = store.commit(staging, &Seal { epoch: Some(NOW), drop: &[] }).unwrap();
            let record =
                StepRecord { layer: Some(layer.id), payload: json!(name), blobs: Vec::new() };
            store.put_step(&key, &record).unwrap();
            layers.push(layer);
        }
        let image = store.put_image(&config(&layers), &layers, &BTreeMap::new()).unwrap();
        let reference: Reference = format!("app-{seed}:{}", round % 4).parse().unwrap();
        store.tag(&reference, image.id).unwrap();
        assert_eq!(store.resolve(&reference.to_string()).unwrap().unwrap().id, image.id);
        let mut out = std::io::stdout().lock();
        writeln!(out, "promised {reference} {}", image.id).unwrap();
        out.flush().unwrap();
    }
}

#[expect(clippy::disallowed_methods, reason = "the test program runs itself, with its own output")]
fn spawn(kind: &str, seed: u64, root: &Path) -> (Child, BufReader<ChildStdout>) {
    let task = format!("{PREFIX}{kind}:{seed}:{}", root.display());
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["tests::crash::child_process", "--exact", "--nocapture", &task])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, out)
}

/// Returns the last image that was promised for each name.
fn promises(out: impl BufRead) -> BTreeMap<String, String> {
    let mut promises = BTreeMap::new();
    for line in out.lines() {
        let line = line.unwrap();
        // The test harness may have written a beginning of the first line.
        let Some(at) = line.find("promised ") else { continue };
        let words: Vec<&str> = line[at..].split(' ').collect();
        // The last line may be cut off by the kill.
        if let ["promised", reference, image] = words.as_slice()
            && image.len() == "sha256:".len() + 64
        {
            promises.insert((*reference).to_owned(), (*image).to_owned());
        }
    }
    promises
}

#[test]
fn a_killed_process_leaves_the_store_whole_and_loses_nothing_it_promised() {
    let scratch = Scratch::new();
    scratch.store();
    let mut promised_count = 0;
    for seed in 0..KILLS {
        let (mut child, mut out) = spawn("build-forever", seed, &scratch.root());
        let mut first = String::new();
        if seed % 2 == 1 {
            // Some are killed only after they have promised something.
            while !first.contains("promised ") && out.read_line(&mut first).unwrap() > 0 {}
        }
        // Different moments: while the process starts, opens, builds.
        std::thread::sleep(Duration::from_millis(5 + seed * seed * 7 % 190));
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::open(&scratch.options()).unwrap();
        for (reference, image) in promises(BufReader::new(first.as_bytes().chain(out))) {
            let found = store.resolve(&reference).unwrap().unwrap();
            // The next image may have got the name already, without having been able to tell.
            let newer = found.id.to_string() != image;
            let complete = found.layers.iter().all(|layer| layer.path.is_dir());
            assert!(complete, "{reference} {newer}");
            promised_count += 1;
        }
        let report = store.fsck(Repair::No).unwrap();
        assert_eq!(report.problems, [], "after the kill {seed}");
    }
    assert!(promised_count >= KILLS / 2, "the processes lived long enough to do something");
    let store = Store::open(&scratch.options()).unwrap();
    let before = store.references().unwrap().len();
    store.gc(&GC).unwrap();
    assert_eq!(store.references().unwrap().len(), before);
    assert_eq!(store.images().unwrap().len(), before);
    assert!(store.fsck(Repair::No).unwrap().problems.is_empty());
    drop(store);
    for folder in ["tmp", "leases"] {
        assert_eq!(super::names(&scratch.root().join(folder)), Vec::<String>::new());
    }
}

#[test]
fn builds_and_collections_at_once_are_correct() {
    let scratch = Scratch::new();
    scratch.store();
    let root = scratch.root();
    let tasks = [("build", 1), ("build", 2), ("collect", 3), ("collect", 4)];
    let children: Vec<_> = tasks.iter().map(|(kind, seed)| spawn(kind, *seed, &root)).collect();
    let mut promised = BTreeMap::new();
    for (mut child, out) in children {
        promised.extend(promises(out));
        assert!(child.wait().unwrap().success(), "a process failed");
    }
    let store = Store::open(&scratch.options()).unwrap();
    assert_eq!(promised.len(), 8);
    for (reference, image) in promised {
        assert_eq!(store.resolve(&reference).unwrap().unwrap().id.to_string(), image);
    }
    let report = store.fsck(Repair::No).unwrap();
    assert_eq!(report.problems, []);
    assert_eq!(report.images, 8 + store.gc(&GC).unwrap().images);
}

#[test]
fn threads_share_one_handle() {
    let scratch = Scratch::new();
    let store = scratch.store();
    std::thread::scope(|scope| {
        for thread in 0..4_u32 {
            let store = store.clone();
            scope.spawn(move || {
                for round in 0..10_u32 {
                    let name = format!("{}", (round + thread) % 6);
                    let layer = super::commit(&store, &[(&name, &name)]);
                    store.put_blob(name.as_bytes()).unwrap();
                    assert_eq!(store.layer(&layer.id).unwrap().unwrap(), layer);
                    store.gc(&GC).unwrap();
                }
            });
        }
    });
    assert_eq!(store.usage().unwrap().layers, 6);
}
