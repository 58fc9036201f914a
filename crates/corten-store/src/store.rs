//! Opening a store, and what all its parts share.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use corten_sys::clock::{Clock, SystemClock};
use corten_sys::error::IoError;
use corten_sys::file;
use corten_sys::fs::{Fs, RealFs};
use corten_sys::lock::FileLock;
use corten_sys::userns;
use serde::{Deserialize, Serialize};

use crate::error::StoreError;
use crate::layout::{DIRECTORIES, Layout};
use crate::lease::LeaseFile;

/// The version of the layout that this code reads and writes.
const FORMAT_VERSION: u32 = 1;

/// The `FORMAT` file is small.
const FORMAT_BYTES_MAX: u64 = 64 * 1024;

/// Which store to open, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// The directory of the store; it is made if it is absent.
    pub root: PathBuf,
    /// True if this process is root only within a user namespace. Overlay marks are then `user.`
    /// attributes, and owners that the namespace does not have become root.
    pub in_user_namespace: bool,
}

impl StoreOptions {
    /// Names a store for a process outside of any user namespace of ours.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), in_user_namespace: false }
    }

    /// Names a store for this process as it is.
    pub fn here(root: impl Into<PathBuf>) -> Result<Self, IoError> {
        let in_user_namespace = !userns::is_whole_system(&userns::own_map("uid_map")?);
        Ok(Self { root: root.into(), in_user_namespace })
    }
}

/// What the store needs of its host; tests replace parts.
#[derive(Clone)]
pub struct Host {
    /// How files are changed.
    pub fs: Arc<dyn Fs>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Changes when the host starts.
    pub boot_id: String,
}

impl std::fmt::Debug for Host {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Host").field("boot_id", &self.boot_id).finish_non_exhaustive()
    }
}

impl Host {
    /// Returns the real host.
    pub fn real() -> Result<Self, IoError> {
        let boot_id = file::read_limited(Path::new("/proc/sys/kernel/random/boot_id"), 256)?;
        let boot_id = String::from_utf8_lossy(&boot_id).trim().to_owned();
        Ok(Self { fs: Arc::new(RealFs), clock: Arc::new(SystemClock), boot_id })
    }
}

/// The local content store; see the crate. A handle is cheap to clone and can be used by threads.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

/// What the parts of the store share.
#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) layout: Layout,
    pub(crate) host: Host,
    pub(crate) in_user_namespace: bool,
    /// Why nothing may be changed, if so.
    read_only: Option<String>,
    /// The lease of this handle, made at the first write.
    pub(crate) lease: Mutex<Option<LeaseFile>>,
    counter: AtomicU64,
}

#[derive(Debug, Serialize, Deserialize)]
struct Format {
    version: u32,
    features: Features,
}

/// Three classes, so that an older program knows what it may do with a newer store.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Features {
    /// May be ignored.
    #[serde(default)]
    compatible: Vec<String>,
    /// May be ignored by those who only read.
    #[serde(default)]
    read_only_compatible: Vec<String>,
    /// May not be ignored.
    #[serde(default)]
    incompatible: Vec<String>,
}

impl Store {
    /// Opens a store and makes it if it is absent.
    ///
    /// This reads three small files and changes nothing in an existing store.
    pub fn open(options: &StoreOptions) -> Result<Self, StoreError> {
        Self::open_on(options, Host::real()?)
    }

    /// Opens a store with another file system, clock or boot than the real ones, for tests.
    pub fn open_on(options: &StoreOptions, host: Host) -> Result<Self, StoreError> {
        let root = &options.root;
        let opened = open(root, &host).map_err(|error| error.classify(root))?;
        let inner = Inner {
            layout: Layout::new(root),
            host,
            in_user_namespace: options.in_user_namespace,
            read_only: opened,
            lease: Mutex::new(None),
            counter: AtomicU64::new(0),
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Returns the directory of the store.
    pub fn root(&self) -> &Path {
        &self.inner.layout.root
    }

    /// Returns true if overlay marks are `user.` attributes here.
    pub fn in_user_namespace(&self) -> bool {
        self.inner.in_user_namespace
    }

    /// Runs an operation and gives a full disk or missing rights an error of their own.
    pub(crate) fn run<T>(
        &self,
        operation: impl FnOnce(&Arc<Inner>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        operation(&self.inner).map_err(|error| error.classify(self.root()))
    }
}

/// Checks the format and makes a new store; returns why it can only be read, if so.
fn open(root: &Path, host: &Host) -> Result<Option<String>, StoreError> {
    use std::os::unix::fs::MetadataExt as _;
    match file::absent_is_none(file::metadata(root))? {
        None => {
            file::create_dirs(root, 0o700)?;
            create(root, host)?;
        }
        Some(metadata) => {
            let (owner, user) = (metadata.uid(), file::effective_user_id());
            if owner != user {
                return Err(StoreError::Owner { root: root.to_owned(), owner, user });
            }
        }
    }
    let path = Layout::new(root).format();
    let bytes = if let Some(bytes) = file::read_optional(&path, FORMAT_BYTES_MAX)? {
        bytes
    } else {
        create(root, host)?;
        file::read_limited(&path, FORMAT_BYTES_MAX)?
    };
    let format: Format =
        serde_json::from_slice(&bytes).map_err(|source| StoreError::Record { path, source })?;
    if format.version != FORMAT_VERSION {
        let what = format!("format version {}", format.version);
        return Err(StoreError::Format { root: root.to_owned(), what });
    }
    if let Some(feature) = format.features.incompatible.first() {
        let what = format!("the feature `{feature}`");
        return Err(StoreError::Format { root: root.to_owned(), what });
    }
    let feature = format.features.read_only_compatible.first();
    Ok(feature.map(|feature| format!("the feature `{feature}`")))
}

/// Makes a store in an empty directory, or completes one whose making was interrupted.
fn create(root: &Path, host: &Host) -> Result<(), StoreError> {
    for name in file::list_dir(root)? {
        let known = name.to_str().is_some_and(|name| {
            DIRECTORIES.contains(&name) || name == "FORMAT" || name.starts_with(".corten-")
        });
        if !known {
            let found = name.to_string_lossy().into_owned();
            return Err(StoreError::NotAStore { root: root.to_owned(), found });
        }
    }
    for name in DIRECTORIES {
        match host.fs.create_dir(&root.join(name), 0o700) {
            Err(error) if error.is_already_exists() => {}
            created => created?,
        }
    }
    let format = Format { version: FORMAT_VERSION, features: Features::default() };
    let temporary = root.join(format!(".corten-{}", corten_sys::random::name()));
    let bytes = corten_oci::json::canonical(&format);
    let opened = host.fs.create_new(&temporary, 0o600)?;
    host.fs.write(&opened, &temporary, &bytes)?;
    host.fs.sync(&opened, &temporary)?;
    host.fs.rename(&temporary, &Layout::new(root).format())?;
    host.fs.sync_dir(root)?;
    Ok(())
}

impl Inner {
    pub(crate) fn fs(&self) -> &dyn Fs {
        self.host.fs.as_ref()
    }

    /// Returns the time in seconds, for records.
    pub(crate) fn now(&self) -> i64 {
        self.host.clock.now().seconds
    }

    /// Opens the window in which things appear or are pinned; collection waits for its end.
    pub(crate) fn window(&self) -> Result<FileLock, StoreError> {
        self.check_writable()?;
        Ok(FileLock::shared(&self.layout.gc_lock())?)
    }

    pub(crate) fn check_writable(&self) -> Result<(), StoreError> {
        match &self.read_only {
            Some(what) => {
                let root = self.layout.root.clone();
                Err(StoreError::ReadOnly { root, what: what.clone() })
            }
            None => Ok(()),
        }
    }

    pub(crate) fn is_read_only(&self) -> bool {
        self.read_only.is_some()
    }

    /// Returns a fresh path in this handle's part of `tmp/`.
    pub(crate) fn temporary(self: &Arc<Self>) -> Result<PathBuf, StoreError> {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let folder = self.with_lease(|lease| Ok(self.layout.temporary(lease.id())))?;
        Ok(folder.join(number.to_string()))
    }

    /// Runs an operation on the lease of this handle, which is made when it is first needed.
    pub(crate) fn with_lease<T>(
        self: &Arc<Self>,
        operation: impl FnOnce(&mut LeaseFile) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.check_writable()?;
        let mut slot = self.lease.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lease) = slot.as_mut() {
            return operation(lease);
        }
        let lease = slot.insert(LeaseFile::create(self)?);
        // What dead processes left is removed by the first writer that comes along.
        crate::gc::reap(self, lease.id())?;
        operation(lease)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let lease = self.lease.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(lease) = lease.take() {
            lease.close(&self.layout, self.host.fs.as_ref());
        }
    }
}
