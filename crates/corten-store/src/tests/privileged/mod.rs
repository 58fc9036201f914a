//! What needs to be root: owners, device nodes, and with them whole imports.

mod archive;
mod hostile;
mod import;
mod linked;
mod overlay;
mod user_namespace;

use std::io::Write as _;

use corten_oci::digest::{DiffId, Digest};
use corten_oci::tar::{BLOCK_BYTES, EntryKind, Writer};
use corten_oci::tree::{Meta, TreePath};

use super::{NOW, Scratch};
use crate::{Layer, Store, StoreError};

/// Returns true for root; says so if the test cannot run.
fn is_root() -> bool {
    let is_root = corten_sys::file::effective_user_id() == 0;
    if !is_root {
        writeln!(std::io::stderr(), "skipped: this test needs root").unwrap();
    }
    is_root
}

/// A tar that is made entry by entry, in any order and with any names.
#[derive(Default)]
struct TarBuilder {
    bytes: Vec<u8>,
}

fn meta() -> Meta {
    Meta { mode: 0o644, mtime: NOW, ..Meta::default() }
}

impl TarBuilder {
    /// Adds an entry with a name that is a path.
    fn entry(self, path: &str, meta: &Meta, kind: &EntryKind, content: &[u8]) -> Self {
        let path = TreePath::new(path.as_bytes()).unwrap();
        self.entry_at(&path, meta, kind, content)
    }

    fn entry_at(mut self, path: &TreePath, meta: &Meta, kind: &EntryKind, content: &[u8]) -> Self {
        let mut writer = Writer::new(Vec::new());
        writer.entry(path, meta, kind).unwrap();
        writer.content(content).unwrap();
        let (bytes, _) = writer.finish().unwrap();
        // Each tar ends in two blocks of zeros, which only the last one keeps.
        self.bytes.extend_from_slice(&bytes[..bytes.len() - 2 * BLOCK_BYTES]);
        self
    }

    fn file(self, path: &str, content: &str) -> Self {
        let kind = EntryKind::File { size: content.len() as u64 };
        self.entry(path, &meta(), &kind, content.as_bytes())
    }

    fn dir(self, path: &str) -> Self {
        let meta = Meta { mode: 0o755, ..meta() };
        self.entry(path, &meta, &EntryKind::Directory { opaque: false }, b"")
    }

    fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(path, &meta(), &EntryKind::Symlink(target.as_bytes().to_vec()), b"")
    }

    fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(path, &meta(), &EntryKind::Hardlink(target.as_bytes().to_vec()), b"")
    }

    /// Adds an entry with a name that is none, by writing over a name of the same length.
    fn raw(mut self, name: &str, kind: &EntryKind, content: &[u8]) -> Self {
        let stand_in = "x".repeat(name.len());
        let at = self.bytes.len();
        self = self.entry(&stand_in, &meta(), kind, content);
        let header = &mut self.bytes[at..at + BLOCK_BYTES];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self
    }

    fn finish(mut self) -> Vec<u8> {
        self.bytes.extend([0; 2 * BLOCK_BYTES]);
        self.bytes
    }
}

/// Imports a tar and sees that exactly its bytes come out again, also for another handle.
fn import(store: &Store, tar: &[u8]) -> Layer {
    let diff_id = DiffId(Digest::of(tar));
    let layer = store.import_layer(&mut { tar }, Some(diff_id)).unwrap();
    assert_eq!(layer.diff_id, diff_id);
    assert_eq!(layer.tar_bytes, tar.len() as u64);
    assert!(super::layer_tar(store, &layer) == tar, "the tar comes out as it went in");
    layer
}

fn refuse(scratch: &Scratch, tar: &[u8]) -> StoreError {
    let store = scratch.store();
    let error = store.import_layer(&mut { tar }, None).unwrap_err();
    assert!(super::names(&scratch.root().join("layers")).is_empty());
    drop(store);
    assert!(super::names(&scratch.root().join("tmp")).is_empty());
    error
}
