//! Tests of the store on a real file system.

mod blobs;
mod cache_mounts;
mod crash;
mod downloads;
mod durability;
mod format;
mod gc;
mod images;
mod indexes;
mod layers;
mod privileged;
mod snapshot;
mod steps;
mod sweep;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corten_oci::digest::DiffId;
use corten_oci::image::{ImageConfig, RootFs};
use corten_oci::tar::{EntryKind, Reader};
use corten_sys::clock::{FixedClock, Timestamp};
use corten_sys::file;
use corten_sys::fs::Fs;
use corten_testkit::fault::FaultFs;

use crate::{Host, Image, Layer, Seal, Staging, Store, StoreOptions};

/// The time of the tests.
const NOW: i64 = 1_700_000_000;

const SEAL: Seal<'static> = Seal { epoch: Some(NOW), drop: &[] };

/// A directory that goes away with the test.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new() -> Self {
        let path =
            std::env::temp_dir().join(format!("corten-store-{}", corten_sys::random::name()));
        file::create_dir(&path, 0o700).unwrap();
        Self { path }
    }

    fn root(&self) -> PathBuf {
        self.path.join("store")
    }

    fn options(&self) -> StoreOptions {
        // Without root, overlay marks can only be user attributes.
        let in_user_namespace = file::effective_user_id() != 0;
        StoreOptions { root: self.root(), in_user_namespace }
    }

    fn store(&self) -> Store {
        self.store_on(Arc::new(FaultFs::counting()))
    }

    fn store_on(&self, fs: Arc<dyn Fs>) -> Store {
        Store::open_on(&self.options(), host(fs)).unwrap()
    }

    fn store_after_boot(&self, boot_id: &str) -> Store {
        let fs = Arc::new(FaultFs::counting());
        let host = Host { boot_id: boot_id.to_owned(), ..host(fs) };
        Store::open_on(&self.options(), host).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        file::remove_tree(&self.path).unwrap();
    }
}

fn host(fs: Arc<dyn Fs>) -> Host {
    let clock = FixedClock(Timestamp::from_seconds(NOW));
    Host { fs, clock: Arc::new(clock), boot_id: "this boot".to_owned() }
}

/// Puts files into a directory; the names may have directories in them.
fn fill(tree: &Path, files: &[(&str, &str)]) {
    for (name, content) in files {
        let path = tree.join(name);
        file::create_dirs(path.parent().unwrap(), 0o755).unwrap();
        file::write(&path, content.as_bytes()).unwrap();
    }
}

fn stage(store: &Store, files: &[(&str, &str)]) -> Staging {
    let staging = store.stage().unwrap();
    fill(staging.tree(), files);
    staging
}

fn commit(store: &Store, files: &[(&str, &str)]) -> Layer {
    store.commit(stage(store, files), &SEAL).unwrap()
}

fn config(layers: &[Layer]) -> ImageConfig {
    let diff_ids: Vec<DiffId> = layers.iter().map(|layer| layer.diff_id).collect();
    ImageConfig {
        architecture: "amd64".to_owned(),
        os: "linux".to_owned(),
        rootfs: RootFs { diff_ids, ..RootFs::default() },
        ..ImageConfig::default()
    }
}

fn image(store: &Store, layers: &[Layer]) -> Image {
    store.put_image(&config(layers), layers, &BTreeMap::new()).unwrap()
}

fn layer_tar(store: &Store, layer: &Layer) -> Vec<u8> {
    let mut tar = Vec::new();
    store.write_layer_tar(layer, &mut tar).unwrap();
    tar
}

/// Lists a tar: a line per entry, with what matters.
fn list(tar: &[u8]) -> String {
    let mut list = String::new();
    let mut reader = Reader::new(tar);
    while let Some(header) = reader.next_entry().unwrap() {
        let kind = match header.kind {
            EntryKind::Directory { .. } => "dir".to_owned(),
            EntryKind::File { size } => format!("file {size}"),
            EntryKind::Symlink(target) => format!("-> {}", String::from_utf8_lossy(&target)),
            EntryKind::Hardlink(target) => format!("= {}", String::from_utf8_lossy(&target)),
            EntryKind::CharDevice { major, minor } => format!("char {major}:{minor}"),
            EntryKind::BlockDevice { major, minor } => format!("block {major}:{minor}"),
            EntryKind::Fifo => "fifo".to_owned(),
            EntryKind::Whiteout => "whiteout".to_owned(),
        };
        let time = header.meta.mtime - NOW;
        list.push_str(&String::from_utf8_lossy(&header.path));
        write!(list, " {kind} {:o} {time:+}", header.meta.mode).unwrap();
        for (key, value) in header.meta.xattrs {
            let (key, value) = (String::from_utf8_lossy(&key), String::from_utf8_lossy(&value));
            write!(list, " {key}={value}").unwrap();
        }
        list.push('\n');
    }
    list
}

/// Returns the names below a directory, for seeing that nothing was left behind.
fn names(folder: &Path) -> Vec<String> {
    let names = file::list_dir(folder).unwrap();
    names.iter().map(|name| String::from_utf8_lossy(name.as_bytes()).into_owned()).collect()
}
