//! Containers that exist: their record, what they wrote, and whether they run.
//!
//! ```text
//! containers/lock               held alone while a name is given away
//! containers/<id>/record.json   what the container is; replaced as a whole
//! containers/<id>/alive         held locked by the process that runs the container
//! containers/<id>/upper, work   what the container wrote, for overlayfs
//! ```
//!
//! Whether a container runs is never written down: it runs while `alive` is locked, and the kernel
//! lets go of the lock when the process that holds it dies, however it dies. A container that was to
//! be removed at its end and whose process was killed is removed by the next one who looks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use corten_oci::digest::ImageId;
use corten_sys::file;
use corten_sys::lock::FileLock;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::images::Image;
use crate::layer::LayerId;
use crate::store::{Inner, Store};
use crate::write::{Durability, read_json};

/// What is written down about a container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// 64 hexadecimal digits.
    pub id: String,
    pub name: String,
    pub image: ImageId,
    /// The image as it was asked for.
    pub image_name: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Seconds since 1970.
    pub created: i64,
    /// The process that runs the container; meaningful only while it runs.
    pub pid: Option<u32>,
    pub exit_code: Option<i32>,
    pub oom_killed: bool,
    /// The container goes away at its end.
    pub remove_at_end: bool,
}

/// A container as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    pub record: ContainerRecord,
    pub running: bool,
}

/// A container that this process runs.
#[derive(Debug)]
pub struct RunningContainer {
    inner: Arc<Inner>,
    record: ContainerRecord,
    /// Locked for as long as this value lives.
    _alive: FileLock,
}

impl Store {
    /// Records a container and takes it as running; its name must be free.
    pub fn create_container(
        &self,
        record: ContainerRecord,
        image: &Image,
    ) -> Result<RunningContainer, StoreError> {
        self.run(|inner| {
            check_name(&record.name)?;
            check_name(&record.id)?;
            let _names = FileLock::exclusive(&inner.layout.folder("containers").join("lock"))?;
            let known = containers(inner)?;
            if let Some(holder) = known.iter().find(|known| known.record.name == record.name) {
                let (name, id) = (record.name.clone(), holder.record.id.clone());
                return Err(StoreError::ContainerName { name, id });
            }
            let layers: Vec<LayerId> = image.layers.iter().map(|layer| layer.id).collect();
            if !record.remove_at_end && !self.hold(&hold_name(&record.id), &layers)? {
                return Err(StoreError::ImageMissing(image.id));
            }
            create(inner, record)
        })
    }

    /// Finds all containers, in the order of their ids.
    pub fn containers(&self) -> Result<Vec<Container>, StoreError> {
        self.run(containers)
    }

    /// Returns true while a process runs the container.
    pub fn container_runs(&self, id: &str) -> Result<bool, StoreError> {
        self.run(|inner| runs(&folder(inner, id)?))
    }

    /// Removes a container that does not run, with everything that it wrote.
    pub fn remove_container(&self, id: &str) -> Result<(), StoreError> {
        self.run(|inner| {
            let folder = folder(inner, id)?;
            if runs(&folder)? {
                return Err(StoreError::ContainerRuns { id: id.to_owned() });
            }
            remove(inner, &folder)?;
            self.release(&hold_name(id)).map(drop)
        })
    }
}

impl RunningContainer {
    /// Where the container's writes go.
    pub fn upper(&self) -> PathBuf {
        self.folder().join("upper")
    }

    /// Overlayfs' own directory, on the same file system.
    pub fn work(&self) -> PathBuf {
        self.folder().join("work")
    }

    pub fn record(&self) -> &ContainerRecord {
        &self.record
    }

    /// Writes down how the container ended; removes it where that was asked for.
    pub fn finish(mut self, exit_code: i32, oom_killed: bool) -> Result<(), StoreError> {
        let folder = self.folder();
        let inner = self.inner.clone();
        if self.record.remove_at_end {
            return remove(&inner, &folder).map_err(|error| error.classify(&inner.layout.root));
        }
        self.record.exit_code = Some(exit_code);
        self.record.oom_killed = oom_killed;
        self.record.pid = None;
        inner
            .put_json(&folder.join("record.json"), &self.record, Durability::Durable)
            .map_err(|error| error.classify(&inner.layout.root))
    }

    fn folder(&self) -> PathBuf {
        self.inner.layout.folder("containers").join(&self.record.id)
    }
}

/// Makes the container's directory beside its final place, and moves it there when it is whole.
fn create(inner: &Arc<Inner>, record: ContainerRecord) -> Result<RunningContainer, StoreError> {
    let staging = inner.temporary()?;
    let fs = inner.fs();
    fs.create_dir(&staging, 0o700)?;
    fs.create_dir(&staging.join("upper"), 0o755)?;
    fs.create_dir(&staging.join("work"), 0o700)?;
    let alive = FileLock::exclusive(&staging.join("alive"))?;
    let path = staging.join("record.json");
    let file = fs.create_new(&path, 0o600)?;
    fs.write(&file, &path, &corten_oci::json::canonical(&record))?;
    let place = inner.layout.folder("containers").join(&record.id);
    if !record.remove_at_end {
        // A kept container must be there after a power failure; one that goes away need not.
        fs.sync(&file, &path)?;
        fs.sync_dir(&staging)?;
    }
    fs.rename(&staging, &place)?;
    if !record.remove_at_end {
        fs.sync_dir(&inner.layout.folder("containers"))?;
    }
    Ok(RunningContainer { inner: inner.clone(), record, _alive: alive })
}

fn containers(inner: &Arc<Inner>) -> Result<Vec<Container>, StoreError> {
    let folder = inner.layout.folder("containers");
    let mut found = Vec::new();
    for name in file::list_dir(&folder)? {
        let folder = folder.join(&name);
        let Some(record) = read_record(&folder)? else { continue };
        let running = runs(&folder)?;
        if !running && record.remove_at_end && !inner.is_read_only() {
            remove(inner, &folder)?;
            continue;
        }
        found.push(Container { record, running });
    }
    Ok(found)
}

/// Reads a record; `None` for what is no container or has just been removed.
fn read_record(folder: &Path) -> Result<Option<ContainerRecord>, StoreError> {
    match read_json(&folder.join("record.json")) {
        Err(StoreError::Io(error)) if error.errno() == Some(NOT_A_DIRECTORY) => Ok(None),
        read => read,
    }
}

/// `ENOTDIR`: the lock file lies beside the containers.
const NOT_A_DIRECTORY: i32 = 20;

/// True while the process of the container holds its lock.
fn runs(folder: &Path) -> Result<bool, StoreError> {
    let alive = folder.join("alive");
    match FileLock::try_exclusive_existing(&alive) {
        Ok(lock) => Ok(lock.is_none()),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Takes the container's name away first, so that a half-removed one is never seen.
fn remove(inner: &Arc<Inner>, folder: &Path) -> Result<(), StoreError> {
    let aside = inner.temporary()?;
    match inner.fs().rename(folder, &aside) {
        Err(error) if error.is_not_found() => return Ok(()),
        renamed => renamed?,
    }
    // Overlayfs leaves `work/work` without any permission; its owner may still remove it.
    Ok(inner.fs().remove_tree(&aside)?)
}

fn folder(inner: &Inner, id: &str) -> Result<PathBuf, StoreError> {
    check_name(id)?;
    Ok(inner.layout.folder("containers").join(id))
}

fn hold_name(id: &str) -> String {
    format!("container-{id}")
}

/// Docker's rule: a letter or digit, then letters, digits, `_`, `.` and `-`.
fn check_name(name: &str) -> Result<(), StoreError> {
    let mut bytes = name.bytes();
    let good = bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
        && name.len() <= 128;
    if good { Ok(()) } else { Err(StoreError::ContainerNameForm { name: name.to_owned() }) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use corten_oci::image::ImageConfig;

    use super::*;
    use crate::store::StoreOptions;

    /// A directory that goes away with the test.
    struct Scratch(PathBuf);

    impl Drop for Scratch {
        fn drop(&mut self) {
            file::remove_tree(&self.0).unwrap();
        }
    }

    fn store() -> (Scratch, Store) {
        let root = std::env::temp_dir().join(format!("corten-{}", corten_sys::random::name()));
        let store = Store::open(&StoreOptions::new(&root)).unwrap();
        (Scratch(root), store)
    }

    fn record(id: &str, name: &str, image: ImageId, remove: bool) -> ContainerRecord {
        ContainerRecord {
            id: id.to_owned(),
            name: name.to_owned(),
            image,
            image_name: "app:1".to_owned(),
            command: vec!["true".to_owned()],
            created: 1,
            pid: Some(1),
            exit_code: None,
            oom_killed: false,
            remove_at_end: remove,
        }
    }

    fn image(store: &Store) -> Image {
        store.put_image(&ImageConfig::default(), &[], &BTreeMap::new()).unwrap()
    }

    #[test]
    fn a_kept_container_stays_with_its_exit_code() {
        let (_dir, store) = store();
        let image = image(&store);
        let running = store.create_container(record("ab", "one", image.id, false), &image).unwrap();
        assert!(running.upper().is_dir() && running.work().is_dir());
        assert!(store.containers().unwrap()[0].running);
        running.finish(3, false).unwrap();
        let found = store.containers().unwrap();
        assert_eq!((found[0].running, found[0].record.exit_code), (false, Some(3)));
        store.remove_container("ab").unwrap();
        assert_eq!(store.containers().unwrap(), []);
    }

    #[test]
    fn a_name_is_given_once() {
        let (_dir, store) = store();
        let image = image(&store);
        let _one = store.create_container(record("ab", "one", image.id, false), &image).unwrap();
        let again = store.create_container(record("cd", "one", image.id, false), &image);
        assert!(matches!(again, Err(StoreError::ContainerName { .. })), "{again:?}");
        let bad = store.create_container(record("cd", "../x", image.id, false), &image);
        assert!(matches!(bad, Err(StoreError::ContainerNameForm { .. })), "{bad:?}");
    }

    #[test]
    fn a_container_that_was_to_go_away_goes_when_its_process_is_gone() {
        let (_dir, store) = store();
        let image = image(&store);
        let running = store.create_container(record("ab", "one", image.id, true), &image).unwrap();
        assert!(matches!(store.remove_container("ab"), Err(StoreError::ContainerRuns { .. })));
        drop(running);
        assert_eq!(store.containers().unwrap(), []);
    }
}
