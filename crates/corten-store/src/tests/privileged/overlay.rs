//! The kernel's overlayfs as the judge: what it shows for a stack of layers is what the snapshot,
//! the tree and an import of the same layers must show.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use corten_oci::tree::{Content, Kind, Tree};
use corten_sys::beneath::FileKind;
use corten_sys::file;
use proptest::prelude::*;

use super::super::{SEAL, Scratch, layer_tar};
use super::is_root;
use crate::{Layer, Snapshot, Staging, Store};

/// What a file system shows: for each path its kind, mode and content or target.
type View = BTreeMap<String, String>;

#[expect(clippy::disallowed_methods, reason = "the system's own `mount` is not under test")]
fn run(program: &str, arguments: &[&str]) -> bool {
    let output = std::process::Command::new(program).args(arguments).output();
    output.is_ok_and(|output| output.status.success())
}

/// An overlay that is taken down with the test.
struct Overlay {
    merged: PathBuf,
}

impl Overlay {
    /// Mounts; `None` where this is not allowed.
    fn mount(scratch: &Scratch, layers: &[Layer], upper: &Staging) -> Option<Self> {
        let merged = scratch.path.join("merged");
        if !file::exists(&merged).unwrap() {
            file::create_dir(&merged, 0o755).unwrap();
        }
        let lowers = crate::overlay_lowers(layers);
        let lowers: Vec<&str> = lowers.iter().map(|lower| lower.to_str().unwrap()).collect();
        let options = format!(
            "lowerdir={},upperdir={},workdir={},redirect_dir=off,metacopy=off,index=off",
            lowers.join(":"),
            upper.tree().display(),
            upper.work().display(),
        );
        let target = merged.to_str().unwrap();
        if !run("mount", &["-t", "overlay", "overlay", "-o", &options, target]) {
            writeln!(std::io::stderr(), "skipped: no overlay can be mounted here").unwrap();
            return None;
        }
        Some(Self { merged })
    }

    fn view(&self) -> View {
        let mut view = View::new();
        host_view(&self.merged, "", &mut view);
        view
    }
}

impl Drop for Overlay {
    fn drop(&mut self) {
        assert!(run("umount", &[self.merged.to_str().unwrap()]));
    }
}

fn host_view(root: &Path, below: &str, view: &mut View) {
    for name in file::list_dir(&root.join(below)).unwrap() {
        let path = Path::new(below).join(&name).to_str().unwrap().to_owned();
        let host = root.join(&path);
        let metadata = file::symlink_metadata(&host).unwrap();
        let shown = if metadata.is_symlink() {
            format!("-> {}", std::fs::read_link(&host).unwrap().display())
        } else if metadata.is_dir() {
            format!("dir {:o}", metadata.mode() & 0o7777)
        } else {
            let content = file::read(&host).unwrap();
            format!("file {:o} {}", metadata.mode() & 0o7777, String::from_utf8_lossy(&content))
        };
        view.insert(path.clone(), shown);
        if metadata.is_dir() {
            host_view(root, &path, view);
        }
    }
}

fn snapshot_view(layers: &[Layer]) -> View {
    let entries = Snapshot::new(layers).unwrap().walk(b"/").unwrap();
    let shown = entries.iter().map(|entry| {
        let shown = match entry.stat.kind {
            FileKind::Directory => format!("dir {:o}", entry.stat.mode),
            FileKind::Symlink => {
                format!("-> {}", String::from_utf8(entry.read_link().unwrap()).unwrap())
            }
            _ => {
                let content = file::read(&entry.host_path).unwrap();
                format!("file {:o} {}", entry.stat.mode, String::from_utf8_lossy(&content))
            }
        };
        (entry.path.to_string(), shown)
    });
    shown.collect()
}

fn tree_view(store: &Store, layers: &[Layer]) -> View {
    let mut merged = Tree::new();
    for layer in layers {
        merged.merge_layer(&Tree::from_tar(layer_tar(store, layer).as_slice()).unwrap());
    }
    let shown = merged.iter().map(|(path, node)| {
        let file = merged.file(path).unwrap();
        let shown = match (&node.kind, &file.kind) {
            (Kind::Directory { .. }, _) => format!("dir {:o}", node.meta.mode),
            (Kind::Symlink(target), _) => format!("-> {}", String::from_utf8_lossy(target)),
            (_, Kind::File(Content::Inline(content))) => {
                format!("file {:o} {}", file.meta.mode, String::from_utf8_lossy(content))
            }
            (other, _) => panic!("{path} is {other:?}"),
        };
        (path.to_string(), shown)
    });
    shown.collect()
}

#[derive(Debug, Clone)]
enum Act {
    Write(String, String),
    MakeDir(String),
    Remove(String),
    Rename(String, String),
    Link(String, String),
    Symlink(String, String),
    Mode(String, u32),
}

fn act() -> impl Strategy<Value = Act> {
    let path = "[ab](/[ab]){0,2}";
    prop_oneof![
        4 => (path, "[xyz]{0,3}").prop_map(|(path, content)| Act::Write(path, content)),
        3 => path.prop_map(Act::MakeDir),
        3 => path.prop_map(Act::Remove),
        2 => (path, path).prop_map(|(from, to)| Act::Rename(from, to)),
        1 => (path, path).prop_map(|(from, to)| Act::Link(from, to)),
        1 => (path, "[ab]").prop_map(|(path, target)| Act::Symlink(path, target)),
        1 => (path, prop_oneof![Just(0o700_u32), Just(0o755), Just(0o4755)])
            .prop_map(|(path, mode)| Act::Mode(path, mode)),
    ]
}

/// Does something in a directory; what is not possible there is left out.
fn perform(root: &Path, act: &Act) {
    let at = |path: &str| root.join(path);
    // Through a link one could leave the directory or write at another place than meant.
    let through_link = |path: &str| {
        let mut above = Path::new(path).parent();
        while let Some(directory) = above.filter(|above| !above.as_os_str().is_empty()) {
            if file::symlink_metadata(&root.join(directory)).is_ok_and(|m| m.is_symlink()) {
                return true;
            }
            above = directory.parent();
        }
        false
    };
    let is_link = |path: &str| file::symlink_metadata(&at(path)).is_ok_and(|m| m.is_symlink());
    let outcome = match act {
        Act::Write(path, _) | Act::Mode(path, _) if through_link(path) || is_link(path) => return,
        Act::MakeDir(path) | Act::Remove(path) | Act::Symlink(path, _) if through_link(path) => {
            return;
        }
        Act::Rename(from, to) | Act::Link(from, to) if through_link(from) || through_link(to) => {
            return;
        }
        Act::Write(path, content) => file::write(&at(path), content.as_bytes()),
        Act::MakeDir(path) => file::create_dir(&at(path), 0o755),
        Act::Remove(path) => file::remove_tree(&at(path)),
        Act::Rename(from, to) => file::rename(&at(from), &at(to)),
        Act::Link(from, to) => file::hard_link(&at(from), &at(to)),
        Act::Symlink(path, target) => file::symlink(Path::new(target), &at(path)),
        Act::Mode(path, mode) => file::set_mode(&at(path), *mode),
    };
    // Whether it worked does not matter, only what is there afterwards.
    drop(outcome);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn layers_mean_what_overlayfs_shows(
        first in proptest::collection::vec(act(), 0..25),
        second in proptest::collection::vec(act(), 0..25),
        third in proptest::collection::vec(act(), 0..25),
    ) {
        if is_root() {
            let scratch = Scratch::new();
            let store = scratch.store();
            let staging = store.stage().unwrap();
            for act in &first {
                perform(staging.tree(), act);
            }
            let mut layers = vec![store.commit(staging, &SEAL).unwrap()];
            for acts in [&second, &third] {
                let staging = store.stage().unwrap();
                let Some(overlay) = Overlay::mount(&scratch, &layers, &staging) else { return Ok(()) };
                for act in acts {
                    perform(&overlay.merged, act);
                }
                let shown = overlay.view();
                drop(overlay);
                layers.push(store.commit(staging, &SEAL).unwrap());
                prop_assert_eq!(&snapshot_view(&layers), &shown);
                prop_assert_eq!(&tree_view(&store, &layers), &shown);
                // The same layers, carried over as tars, and mounted again.
                let other = Scratch::new();
                let imported: Vec<Layer> = layers
                    .iter()
                    .map(|layer| super::import(&other.store(), &layer_tar(&store, layer)))
                    .collect();
                prop_assert_eq!(&snapshot_view(&imported), &shown);
                let upper = store.stage().unwrap();
                let overlay = Overlay::mount(&other, &imported, &upper).unwrap();
                prop_assert_eq!(&overlay.view(), &shown);
            }
        }
    }
}
