//! Containers that exist: their record, what they wrote, and whether they run.
//!
//! ```text
//! containers/lock                   held alone while a name is given away or a record replaced
//! containers/<id>/record.json       what the container is; replaced as a whole
//! containers/<id>/state.json        what became of it so far; may be torn by a loss of power
//! containers/<id>/definition.json   how it is run, whenever it is; nothing for us to read
//! containers/<id>/alive             held locked by the process that runs the container
//! containers/<id>/files             held locked by who works with the files of one that does not run
//! containers/<id>/stopped           is there if a person has stopped it since its last start
//! containers/<id>/log/              what it has written, where somebody keeps that
//! containers/<id>/upper, work       its changes of the image's files, for overlayfs
//! ```
//!
//! Whether a container runs is never written down: it runs while `alive` is locked, and the kernel
//! lets go of the lock when the process that holds it dies, however it dies. A container that was to
//! be removed at its end and whose process was killed is removed by the next one who looks.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corten_oci::digest::ImageId;
use corten_oci::image::ContainerConfig;
use corten_sys::file;
use corten_sys::lock::FileLock;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::events::Journal;
use crate::images::Image;
use crate::layer::LayerId;
use crate::lease::Pin;
use crate::networks::ContainerNetwork;
use crate::store::{Inner, Store};
use crate::write::{Durability, read_json};

/// What is written down about a container.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// 64 hexadecimal digits.
    pub id: String,
    pub name: String,
    pub image: ImageId,
    /// The image as it was asked for.
    pub image_name: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Seconds since 1970, as all times here.
    pub created: i64,
    /// The container goes away at its end.
    pub remove_at_end: bool,
    /// The names of its volumes.
    #[serde(default)]
    pub volumes: Vec<String>,
    /// Volumes that were made for it alone.
    #[serde(default)]
    pub anonymous_volumes: Vec<String>,
    /// What an image of it would say about itself: its own image's configuration with what it was asked
    /// for over it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<ContainerConfig>,
    /// Its places on networks; `None` for one that has what its definition says.
    #[serde(default)]
    pub networks: Option<Vec<ContainerNetwork>>,
}

impl ContainerRecord {
    /// Returns true if the container mounts this volume.
    pub fn has_volume(&self, name: &str) -> bool {
        self.volumes.iter().chain(&self.anonymous_volumes).any(|known| known == name)
    }

    /// Returns true if the container is made for the network of this id.
    pub fn is_on(&self, network: &str) -> bool {
        self.networks.iter().flatten().any(|known| known.network == network)
    }
}

/// What has become of a container so far. All of it is unknown after a loss of power that tore it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerState {
    /// The process that runs the container; meaningful only while it runs.
    pub pid: Option<u32>,
    /// When its program began the last time.
    pub started: Option<i64>,
    /// When it ended the last time.
    pub finished: Option<i64>,
    /// How often its monitor has started it again since it was last started by hand.
    pub restarts: u32,
    /// How its program ended the last time; `None` while it runs.
    pub exit_code: Option<i32>,
    pub oom_killed: bool,
    /// Why its program could not be started, if that was how it ended.
    pub error: Option<String>,
}

/// A container as it was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Container {
    pub record: ContainerRecord,
    pub state: ContainerState,
    pub running: bool,
}

/// The files of a container that does not run. Who starts or removes it meanwhile waits.
#[derive(Debug)]
pub struct HeldFiles {
    inner: Arc<Inner>,
    record: ContainerRecord,
    /// Locked for as long as this value lives.
    _lock: FileLock,
}

/// A container that this process runs.
#[derive(Debug)]
pub struct RunningContainer {
    inner: Arc<Inner>,
    record: ContainerRecord,
    state: ContainerState,
    /// Locked for as long as this value lives.
    alive: FileLock,
}

impl Store {
    /// Records a container and takes it as running; its name must be free.
    pub fn create_container(
        &self,
        record: ContainerRecord,
        state: ContainerState,
        definition: &[u8],
        image: &Image,
    ) -> Result<RunningContainer, StoreError> {
        self.run(|inner| {
            check_name(&record.name)?;
            check_name(&record.id)?;
            let _names = lock_records(inner)?;
            check_free(inner, &record.name)?;
            let layers: Vec<LayerId> = image.layers.iter().map(|layer| layer.id).collect();
            if !record.remove_at_end && !self.hold(&hold_name(&record.id), &layers)? {
                return Err(StoreError::ImageMissing(image.id));
            }
            pin(inner, image)?;
            create(inner, record, state, definition)
        })
    }

    /// Takes a container that exists and does not run, to run it.
    pub fn take_container(&self, id: &str) -> Result<RunningContainer, StoreError> {
        self.run(|inner| {
            inner.check_writable()?;
            let folder = folder(inner, id)?;
            let missing = || StoreError::ContainerMissing { id: id.to_owned() };
            let alive = match FileLock::try_exclusive_existing(&folder.join("alive")) {
                Ok(lock) => lock.ok_or_else(|| StoreError::ContainerRuns { id: id.to_owned() })?,
                Err(error) if error.is_not_found() => return Err(missing()),
                Err(error) => return Err(error.into()),
            };
            let record = read_record(&folder)?.ok_or_else(missing)?;
            // Its files are in nobody's hands from here on: others look at `alive` after they have this.
            drop(FileLock::exclusive(&folder.join(FILES))?);
            inner.fs().remove_tree(&folder.join(STOPPED))?;
            let state = read_state(&folder);
            let running = RunningContainer { inner: inner.clone(), record, state, alive };
            running.renew()?;
            Ok(running)
        })
    }

    /// Goes on with a container that another process has taken, whose lock was handed over (see
    /// [`RunningContainer::lock`]), and protects its image's layers for the life of this handle.
    pub fn adopt_container(
        &self,
        id: &str,
        lock: OwnedFd,
    ) -> Result<(RunningContainer, Image), StoreError> {
        self.run(|inner| {
            let folder = folder(inner, id)?;
            let missing = || StoreError::ContainerMissing { id: id.to_owned() };
            let alive = FileLock::adopt(lock, &folder.join("alive"))?.ok_or_else(missing)?;
            let record = read_record(&folder)?.ok_or_else(missing)?;
            let image = inner.image(&record.image)?;
            let image = image.ok_or(StoreError::ImageMissing(record.image))?;
            pin(inner, &image)?;
            let state = read_state(&folder);
            Ok((RunningContainer { inner: inner.clone(), record, state, alive }, image))
        })
    }

    /// Takes the files of a container that does not run; `None` if it runs, or is about to. Its image's
    /// layers are protected for the life of this handle.
    pub fn hold_files(&self, id: &str) -> Result<Option<(HeldFiles, Image)>, StoreError> {
        self.run(|inner| {
            inner.check_writable()?;
            let folder = folder(inner, id)?;
            let missing = || StoreError::ContainerMissing { id: id.to_owned() };
            let record = read_record(&folder)?.ok_or_else(missing)?;
            let lock = FileLock::exclusive(&folder.join(FILES))?;
            if runs(&folder)? {
                return Ok(None);
            }
            let image = inner.image(&record.image)?;
            let image = image.ok_or(StoreError::ImageMissing(record.image))?;
            pin(inner, &image)?;
            Ok(Some((HeldFiles { inner: inner.clone(), record, _lock: lock }, image)))
        })
    }

    /// Notes that a person wants a container to end, which decides whether it comes back after a boot.
    /// Its next start forgets that.
    pub fn note_stopped(&self, id: &str) -> Result<(), StoreError> {
        self.run(|inner| {
            let path = folder(inner, id)?.join(STOPPED);
            match inner.fs().create_new(&path, 0o600) {
                Err(error) if error.is_already_exists() || error.is_not_found() => Ok(()),
                created => Ok(created.map(drop)?),
            }
        })
    }

    /// Returns true if a person has stopped the container since its last start.
    pub fn was_stopped(&self, id: &str) -> Result<bool, StoreError> {
        self.run(|inner| Ok(file::exists(&folder(inner, id)?.join(STOPPED))?))
    }

    /// Returns how a container is run, as it was given when it was created.
    pub fn container_definition(&self, id: &str) -> Result<Vec<u8>, StoreError> {
        self.run(|inner| {
            let path = folder(inner, id)?.join(DEFINITION);
            Ok(file::read_limited(&path, DEFINITION_BYTES_MAX)?)
        })
    }

    /// Returns the container of an id; `None` if there is none.
    pub fn container(&self, id: &str) -> Result<Option<Container>, StoreError> {
        self.run(|inner| {
            let folder = folder(inner, id)?;
            let Some(record) = read_record(&folder)? else { return Ok(None) };
            let running = runs(&folder)?;
            Ok(Some(Container { record, state: read_state(&folder), running }))
        })
    }

    /// Returns the directory of a container, in which its log and its socket are.
    pub fn container_folder(&self, id: &str) -> Result<PathBuf, StoreError> {
        self.run(|inner| folder(inner, id))
    }

    /// Gives a container another name, which must be free.
    pub fn rename_container(&self, id: &str, name: &str) -> Result<(), StoreError> {
        self.run(|inner| {
            inner.check_writable()?;
            check_name(name)?;
            let _names = lock_records(inner)?;
            check_free(inner, name)?;
            let folder = folder(inner, id)?;
            let missing = || StoreError::ContainerMissing { id: id.to_owned() };
            let mut record = read_record(&folder)?.ok_or_else(missing)?;
            name.clone_into(&mut record.name);
            inner.put_json(&folder.join("record.json"), &record, Durability::Durable)
        })
    }

    /// Replaces how a container is run. Whoever changes it reads it within the same call, so that nothing
    /// comes between.
    pub fn change_definition<E: From<StoreError>>(
        &self,
        id: &str,
        change: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
    ) -> Result<(), E> {
        let lock = self.run(|inner| {
            inner.check_writable()?;
            lock_records(inner)
        })?;
        let definition = change(&self.container_definition(id)?)?;
        self.run(|inner| {
            let path = folder(inner, id)?.join(DEFINITION);
            inner.put_record(&path, &definition, Durability::Durable)
        })?;
        drop(lock);
        Ok(())
    }

    /// Changes what networks a container is made for, whether it runs or not.
    pub fn change_networks(
        &self,
        id: &str,
        change: impl FnOnce(&mut Option<Vec<ContainerNetwork>>),
    ) -> Result<(), StoreError> {
        self.run(|inner| {
            inner.check_writable()?;
            let _names = lock_records(inner)?;
            let folder = folder(inner, id)?;
            let missing = || StoreError::ContainerMissing { id: id.to_owned() };
            let mut record = read_record(&folder)?.ok_or_else(missing)?;
            change(&mut record.networks);
            inner.put_json(&folder.join("record.json"), &record, Durability::Durable)
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

    /// Removes a container that does not run, with everything that it wrote; its volumes stay, but for
    /// those without a name where that is asked for.
    pub fn remove_container(&self, id: &str, with_volumes: bool) -> Result<(), StoreError> {
        self.run(|inner| {
            let folder = folder(inner, id)?;
            if runs(&folder)? {
                return Err(StoreError::ContainerRuns { id: id.to_owned() });
            }
            let record = read_record(&folder)?;
            // Who works with its files is waited for.
            let files = file::absent_is_none(FileLock::exclusive(&folder.join(FILES)))?;
            remove(inner, &folder)?;
            drop(files);
            self.release(&hold_name(id))?;
            match record {
                Some(record) if with_volumes => remove_anonymous(inner, &record),
                _ => Ok(()),
            }
        })
    }
}

impl HeldFiles {
    /// Where the container's writes are.
    pub fn upper(&self) -> PathBuf {
        self.folder().join("upper")
    }

    /// Overlayfs' own directory, on the same file system.
    pub fn work(&self) -> PathBuf {
        self.folder().join("work")
    }

    /// Makes the container's files ready to be mounted.
    pub fn renew(&self) -> Result<(), StoreError> {
        renew(&self.inner, &self.work())
    }

    fn folder(&self) -> PathBuf {
        self.inner.layout.folder("containers").join(&self.record.id)
    }
}

/// Overlayfs marks the directory of a mount that did not end well, and refuses it then.
fn renew(inner: &Inner, work: &Path) -> Result<(), StoreError> {
    let fs = inner.fs();
    let renewed = fs.remove_tree(work).and_then(|()| fs.create_dir(work, 0o700));
    renewed.map_err(|error| StoreError::from(error).classify(&inner.layout.root))
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

    /// Makes the container's files ready to be mounted again.
    pub fn renew(&self) -> Result<(), StoreError> {
        renew(&self.inner, &self.work())
    }

    /// The lock that makes the container one that runs. It is held as long as any copy of the
    /// descriptor is open, so that another process can be given it.
    pub fn lock(&self) -> BorrowedFd<'_> {
        self.alive.file().as_fd()
    }

    pub fn record(&self) -> &ContainerRecord {
        &self.record
    }

    /// Returns how the container is run, as it was given when it was created.
    pub fn definition(&self) -> Result<Vec<u8>, StoreError> {
        let path = self.folder().join(DEFINITION);
        Ok(file::read_limited(&path, DEFINITION_BYTES_MAX)?)
    }

    /// Where events of it are written down.
    pub fn journal(&self) -> Journal {
        Journal::of(&self.inner.layout.root)
    }

    /// The directory of the container.
    pub fn folder(&self) -> PathBuf {
        self.inner.layout.folder("containers").join(&self.record.id)
    }

    pub fn state(&self) -> &ContainerState {
        &self.state
    }

    /// Changes what has become of the container, also on disk.
    pub fn update(&mut self, change: impl FnOnce(&mut ContainerState)) -> Result<(), StoreError> {
        change(&mut self.state);
        self.write(Durability::Volatile)
    }

    fn write(&self, durability: Durability) -> Result<(), StoreError> {
        let path = self.folder().join(STATE);
        let written = self.inner.put_json(&path, &self.state, durability);
        written.map_err(|error| error.classify(&self.inner.layout.root))
    }

    /// Writes down how the container ended; removes it where that was asked for.
    pub fn finish(mut self, exit_code: i32, oom_killed: bool) -> Result<(), StoreError> {
        if self.record.remove_at_end {
            return self.remove();
        }
        self.state.exit_code = Some(exit_code);
        self.state.oom_killed = oom_killed;
        self.state.finished = Some(self.inner.now());
        self.state.pid = None;
        self.write(Durability::Durable)
    }

    /// Removes the container with everything that it wrote.
    pub fn remove(self) -> Result<(), StoreError> {
        let inner = &self.inner;
        let removed =
            remove(inner, &self.folder()).and_then(|()| remove_anonymous(inner, &self.record));
        removed.map_err(|error| error.classify(&inner.layout.root))
    }
}

/// Removes the volumes that were made for one container.
fn remove_anonymous(inner: &Arc<Inner>, record: &ContainerRecord) -> Result<(), StoreError> {
    for name in &record.anonymous_volumes {
        crate::volumes::remove(inner, name)?;
    }
    Ok(())
}

/// The file in a container's directory that says what has become of it.
const STATE: &str = "state.json";

/// The file that is locked while somebody works with the files of a container that does not run.
const FILES: &str = "files";

/// The file that says that a person has stopped it.
const STOPPED: &str = "stopped";

/// The file that says how it is run.
const DEFINITION: &str = "definition.json";

/// A definition has the environment in it, and a seccomp profile.
const DEFINITION_BYTES_MAX: u64 = 16 << 20;

/// Keeps the layers of an image for the life of this handle.
fn pin(inner: &Arc<Inner>, image: &Image) -> Result<(), StoreError> {
    let _window = inner.window()?;
    for layer in &image.layers {
        inner.pin_own(Pin::Layer(layer.id.diff_id()))?;
    }
    Ok(())
}

/// Keeps others from giving names away and from replacing records.
fn lock_records(inner: &Inner) -> Result<FileLock, StoreError> {
    Ok(FileLock::exclusive(&inner.layout.folder("containers").join("lock"))?)
}

/// Makes the container's directory beside its final place, and moves it there when it is whole.
fn create(
    inner: &Arc<Inner>,
    record: ContainerRecord,
    state: ContainerState,
    definition: &[u8],
) -> Result<RunningContainer, StoreError> {
    let staging = inner.temporary()?;
    let fs = inner.fs();
    fs.create_dir(&staging, 0o700)?;
    fs.create_dir(&staging.join("upper"), 0o755)?;
    fs.create_dir(&staging.join("work"), 0o700)?;
    let alive = FileLock::exclusive(&staging.join("alive"))?;
    let mut files = Vec::new();
    let record_bytes = corten_oci::json::canonical(&record);
    let state_bytes = corten_oci::json::canonical(&state);
    let contents = [
        (DEFINITION, definition),
        (STATE, state_bytes.as_slice()),
        ("record.json", record_bytes.as_slice()),
    ];
    for (name, bytes) in contents {
        let path = staging.join(name);
        let file = fs.create_new(&path, 0o600)?;
        fs.write(&file, &path, bytes)?;
        files.push((file, path));
    }
    let place = inner.layout.folder("containers").join(&record.id);
    if !record.remove_at_end {
        // A kept container must be there after a power failure; one that goes away need not.
        for (file, path) in &files {
            fs.sync(file, path)?;
        }
        fs.sync_dir(&staging)?;
    }
    fs.rename(&staging, &place)?;
    if !record.remove_at_end {
        fs.sync_dir(&inner.layout.folder("containers"))?;
    }
    Ok(RunningContainer { inner: inner.clone(), record, state, alive })
}

fn containers(inner: &Arc<Inner>) -> Result<Vec<Container>, StoreError> {
    let mut found = Vec::new();
    for folder in folders(inner)? {
        found.extend(find(inner, &folder)?);
    }
    Ok(found)
}

fn folders(inner: &Inner) -> Result<Vec<PathBuf>, StoreError> {
    let folder = inner.layout.folder("containers");
    let names = file::list_dir(&folder)?;
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

/// Finds the container in a directory; one that was to go away at its end and has ended goes.
fn find(inner: &Arc<Inner>, folder: &Path) -> Result<Option<Container>, StoreError> {
    let Some(record) = read_record(folder)? else { return Ok(None) };
    let running = runs(folder)?;
    let state = read_state(folder);
    // One that was only created waits for its start.
    let was_run = state.pid.is_some() || state.started.is_some();
    if !running && record.remove_at_end && was_run && !inner.is_read_only() {
        remove(inner, folder)?;
        remove_anonymous(inner, &record)?;
        return Ok(None);
    }
    Ok(Some(Container { record, state, running }))
}

/// Fails if a container has this name; the caller holds the lock of records. What else is looked at is
/// only what may be about to go away, since this is done at each start.
fn check_free(inner: &Arc<Inner>, name: &str) -> Result<(), StoreError> {
    for folder in folders(inner)? {
        let Some(record) = read_record(&folder)? else { continue };
        if (record.remove_at_end || record.name == name)
            && let Some(found) = find(inner, &folder)?
            && found.record.name == name
        {
            let (name, id) = (name.to_owned(), found.record.id);
            return Err(StoreError::ContainerName { name, id });
        }
    }
    Ok(())
}

/// Reads what is written down about the container in a directory just now: it may have been renamed.
pub fn current_record(folder: &Path) -> Option<ContainerRecord> {
    read_record(folder).ok().flatten()
}

/// Reads a record; `None` for what is no container or has just been removed.
fn read_record(folder: &Path) -> Result<Option<ContainerRecord>, StoreError> {
    match read_json(&folder.join("record.json")) {
        Err(StoreError::Io(error)) if error.errno() == Some(NOT_A_DIRECTORY) => Ok(None),
        read => read,
    }
}

/// Reads what has become of a container; nothing is known if that was torn or is not there.
fn read_state(folder: &Path) -> ContainerState {
    read_json(&folder.join(STATE)).ok().flatten().unwrap_or_default()
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
pub(crate) fn check_name(name: &str) -> Result<(), StoreError> {
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
            remove_at_end: remove,
            volumes: Vec::new(),
            anonymous_volumes: Vec::new(),
            config: None,
            networks: None,
        }
    }

    /// Makes a container that was never run, or fails.
    fn made(
        store: &Store,
        (id, name): (&str, &str),
        image: &Image,
        remove: bool,
    ) -> Result<RunningContainer, StoreError> {
        let record = record(id, name, image.id, remove);
        store.create_container(record, ContainerState::default(), b"how", image)
    }

    fn image(store: &Store) -> Image {
        store.put_image(&ImageConfig::default(), &[], &BTreeMap::new()).unwrap()
    }

    #[test]
    fn a_kept_container_stays_with_its_exit_code() {
        let (_dir, store) = store();
        let image = image(&store);
        let running = made(&store, ("ab", "one"), &image, false).unwrap();
        assert!(running.upper().is_dir() && running.work().is_dir());
        assert!(store.containers().unwrap()[0].running);
        running.finish(3, false).unwrap();
        let found = store.containers().unwrap();
        assert_eq!((found[0].running, found[0].state.exit_code), (false, Some(3)));
        store.remove_container("ab", false).unwrap();
        assert_eq!(store.containers().unwrap(), []);
    }

    #[test]
    fn a_container_can_be_taken_again_and_keeps_what_it_wrote() {
        let (_dir, store) = store();
        let image = image(&store);
        let running = made(&store, ("ab", "one"), &image, false).unwrap();
        assert!(matches!(store.take_container("ab"), Err(StoreError::ContainerRuns { .. })));
        file::write(&running.upper().join("kept"), b"x").unwrap();
        file::create_dirs(&running.work().join("work/incompat/volatile"), 0o700).unwrap();
        running.finish(3, false).unwrap();
        store.note_stopped("ab").unwrap();
        store.note_stopped("ab").unwrap();
        assert!(store.was_stopped("ab").unwrap());
        let again = store.take_container("ab").unwrap();
        assert!(!store.was_stopped("ab").unwrap(), "it was started again");
        assert_eq!(again.definition().unwrap(), b"how");
        assert!(again.upper().join("kept").exists());
        assert_eq!(file::list_dir(&again.work()).unwrap(), Vec::<std::ffi::OsString>::new());
        drop(again);
        assert!(matches!(store.take_container("cd"), Err(StoreError::ContainerMissing { .. })));
    }

    #[test]
    fn a_new_name_survives_what_its_process_writes_down() {
        let (_dir, store) = store();
        let image = image(&store);
        let mut running = made(&store, ("ab", "one"), &image, false).unwrap();
        let _other = made(&store, ("cd", "two"), &image, false);
        let taken = store.rename_container("ab", "two");
        assert!(matches!(taken, Err(StoreError::ContainerName { .. })), "{taken:?}");
        store.rename_container("ab", "three").unwrap();
        running.update(|state| state.restarts = 2).unwrap();
        let found = store.container("ab").unwrap().unwrap();
        assert_eq!((found.record.name.as_str(), found.state.restarts), ("three", 2));
    }

    #[test]
    fn a_name_is_given_once() {
        let (_dir, store) = store();
        let image = image(&store);
        let _one = made(&store, ("ab", "one"), &image, false).unwrap();
        let again = made(&store, ("cd", "one"), &image, false);
        assert!(matches!(again, Err(StoreError::ContainerName { .. })), "{again:?}");
        let bad = made(&store, ("cd", "../x"), &image, false);
        assert!(matches!(bad, Err(StoreError::ContainerNameForm { .. })), "{bad:?}");
    }

    #[test]
    fn a_container_that_was_to_go_away_goes_when_its_process_is_gone() {
        let (_dir, store) = store();
        let image = image(&store);
        drop(made(&store, ("cd", "two"), &image, true).unwrap());
        let state = ContainerState { pid: Some(1), ..ContainerState::default() };
        let record = record("ab", "one", image.id, true);
        let running = store.create_container(record, state, b"{}", &image).unwrap();
        assert!(matches!(
            store.remove_container("ab", false),
            Err(StoreError::ContainerRuns { .. })
        ));
        drop(running);
        let left = store.containers().unwrap();
        let names: Vec<&str> = left.iter().map(|found| found.record.name.as_str()).collect();
        assert_eq!(names, ["two"], "one that was never run stays");
    }
}
