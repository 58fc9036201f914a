//! What a power failure may take, and what waits for the disk.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use corten_oci::digest::Digest;
use corten_sys::error::IoError;
use corten_sys::file;
use corten_sys::fs::{Fs, RealFs};
use expect_test::expect;
use serde_json::json;

use super::{Scratch, commit, config, image};
use crate::{CacheKey, Problem, Repair, StepRecord, Store, StoreError};

/// Notes what is synced.
#[derive(Debug)]
struct Noting {
    root: PathBuf,
    synced: Mutex<Vec<String>>,
}

impl Noting {
    fn note(&self, kind: &str, path: &Path) {
        let path = path.strip_prefix(&self.root).unwrap_or(path);
        // A name that differs from run to run is left out: leases, digests.
        let known = |part: &std::path::Component<'_>| {
            let part = part.as_os_str().to_string_lossy();
            part.len() < 16 && !part.bytes().any(|byte| byte.is_ascii_digit())
        };
        let path: PathBuf = path.components().take_while(known).collect();
        self.synced.lock().unwrap().push(format!("{kind} {}\n", path.display()));
    }

    fn take(&self) -> String {
        std::mem::take(&mut *self.synced.lock().unwrap()).concat()
    }
}

impl Fs for Noting {
    fn create_new(&self, path: &Path, mode: u32) -> Result<File, IoError> {
        RealFs.create_new(path, mode)
    }

    fn write(&self, file: &File, path: &Path, bytes: &[u8]) -> Result<(), IoError> {
        RealFs.write(file, path, bytes)
    }

    fn sync(&self, _file: &File, path: &Path) -> Result<(), IoError> {
        self.note("file", path);
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        RealFs.rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> Result<(), IoError> {
        RealFs.link(from, to)
    }

    fn remove_file(&self, path: &Path) -> Result<(), IoError> {
        RealFs.remove_file(path)
    }

    fn remove_tree(&self, path: &Path) -> Result<(), IoError> {
        RealFs.remove_tree(path)
    }

    fn create_dir(&self, path: &Path, mode: u32) -> Result<(), IoError> {
        RealFs.create_dir(path, mode)
    }

    fn sync_dir(&self, path: &Path) -> Result<(), IoError> {
        self.note("names of", path);
        Ok(())
    }

    fn sync_file_system(&self, path: &Path) -> Result<(), IoError> {
        self.note("everything of", path);
        Ok(())
    }

    fn before(&self, _operation: &'static str, _path: &Path) -> Result<(), IoError> {
        Ok(())
    }
}

fn step_key() -> CacheKey {
    CacheKey(Digest::of(b"step"))
}

/// What a build does of which one line changed.
fn build(store: &Store, content: &str) -> Result<(), StoreError> {
    let layer = commit(store, &[("srv/app/main.py", content)]);
    store.put_step(
        &step_key(),
        &StepRecord { layer: Some(layer.id), payload: json!(null), blobs: Vec::new() },
    )?;
    store.put_aux("context-stat", "context", b"cache")?;
    let layers = [layer];
    let image = store.put_image(&config(&layers), &layers, &BTreeMap::new())?;
    store.tag(&"app".parse().unwrap(), image.id).map(drop)
}

#[test]
fn only_the_image_and_its_name_wait_for_the_disk() {
    let scratch = Scratch::new();
    drop(scratch.store());
    let fs = Arc::new(Noting { root: scratch.root(), synced: Mutex::default() });
    let store = scratch.store_on(fs.clone());
    build(&store, "1").unwrap();
    // The configuration and the manifest with the directories that are new, the image, the name.
    expect![[r#"
        file tmp
        names of blobs
        names of blobs
        file tmp
        names of blobs
        names of blobs
        file tmp
        names of images
        file tmp
        names of refs
    "#]]
    .assert_eq(&fs.take());
    drop(store);
    // The same once more: nothing is new.
    let store = scratch.store_on(fs.clone());
    let image = store.resolve("app").unwrap().unwrap();
    store.put_image(&image.config, &image.layers, &image.annotations).unwrap();
    assert_eq!(fs.take(), "");
}

#[test]
fn a_power_failure_takes_a_layer_as_a_whole_and_what_is_built_again_is_complete() {
    let torn: [fn(&Store, &Path); 4] = [
        // The content of a file, the names in a directory, what is known of the layer, all of it.
        |_, layer| file::write(&layer.join("tree/srv/app/main.py"), b"").unwrap(),
        |_, layer| file::remove_tree(&layer.join("tree/srv")).unwrap(),
        |_, layer| file::write(&layer.join("meta.json"), b"").unwrap(),
        |_, layer| file::remove_tree(layer).unwrap(),
    ];
    for (number, tear) in torn.into_iter().enumerate() {
        let scratch = Scratch::new();
        let store = scratch.store();
        build(&store, "1").unwrap();
        let first = store.resolve("app").unwrap().unwrap();
        tear(&store, first.layers[0].path.parent().unwrap());
        drop(store);

        let store = scratch.store_after_boot("next boot");
        assert_eq!(store.step(&step_key()).unwrap(), None, "{number}: the step is a miss");
        let error = store.resolve("app").unwrap_err();
        assert!(matches!(error, StoreError::ImageIncomplete { .. }), "{number}: {error:?}");
        assert!(error.hint().is_some());
        let name = "app".parse().unwrap();
        assert_eq!(
            store.tagged(&name).unwrap(),
            Some(first.id.into()),
            "{number}: the name is there"
        );
        build(&store, "1").unwrap();
        assert_eq!(store.resolve("app").unwrap().unwrap().layers, first.layers, "{number}");
        let report = store.fsck(Repair::No).unwrap();
        assert_eq!((report.problems, report.lost), (vec![], 0), "{number}");
    }
}

#[test]
fn a_name_moves_away_from_an_image_that_lost_a_layer() {
    let scratch = Scratch::new();
    build(&scratch.store(), "1").unwrap();
    let first = scratch.store().resolve("app").unwrap().unwrap();
    file::remove_tree(first.layers[0].path.parent().unwrap()).unwrap();
    let store = scratch.store_after_boot("next boot");
    build(&store, "2").unwrap();
    assert_ne!(store.resolve("app").unwrap().unwrap().id, first.id);
}

#[test]
fn what_was_lost_is_no_damage_but_what_needs_it_is_told() {
    let scratch = Scratch::new();
    let store = scratch.store();
    let kept = image(&store, &[commit(&store, &[("kept", "1")])]);
    build(&store, "1").unwrap();
    let lost = store.resolve("app").unwrap().unwrap();
    let unused = commit(&store, &[("unused", "1")]);
    file::write(&lost.layers[0].path.join("srv/app/main.py"), b"").unwrap();
    file::write(&unused.path.join("unused"), b"").unwrap();
    file::write(&store.inner.layout.step(&step_key().0), b"").unwrap();
    drop(store);

    let store = scratch.store_after_boot("next boot");
    let report = store.fsck(Repair::Yes).unwrap();
    assert_eq!(report.lost, 3, "two layers and a step");
    let what = format!("the layer `{}`", lost.layers[0].diff_id);
    let reference = "app".parse().unwrap();
    let expected = vec![Problem::Image { image: lost.id, what }, Problem::Reference(reference)];
    assert_eq!(report.problems, expected);
    let report = store.fsck(Repair::No).unwrap();
    assert_eq!((report.lost, report.problems), (0, vec![]));
    assert_eq!(store.images().unwrap().len(), 1);
    assert_eq!(store.image(&kept.id).unwrap().unwrap().layers, kept.layers);
}

#[test]
fn a_layer_that_the_disk_had_is_damaged_and_not_lost() {
    let scratch = Scratch::new();
    let layer = commit(&scratch.store(), &[("a", "1")]);
    assert!(scratch.store_after_boot("next boot").layer(&layer.id).unwrap().is_some());
    file::write(&layer.path.join("a"), b"").unwrap();
    let report = scratch.store_after_boot("third boot").fsck(Repair::No).unwrap();
    assert_eq!((report.lost, report.problems), (0, vec![Problem::Layer(layer.diff_id)]));
}
