//! `COPY` and `ADD` as values: what a context and an image below make of an instruction.

mod archives;
mod destinations;
mod directories;
mod flags;
mod modes_and_owners;
mod sources;

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corten_oci::tar::{EntryKind, Writer};
use corten_oci::tree::{Meta, TreePath};
use corten_sys::clock::{SystemClock, Timestamp};
use corten_sys::file;
use corten_testkit::TempDir;
use expect_test::{Expect, expect};

use super::archive::Spool;
use super::draft::{Data, Node, NodeKind};
use super::select::select;
use super::{CopyError, Copying, draft};
use crate::files::{Content, ContextFiles, Files, FilesError, Found, IgnoreFile, StatCache};
use crate::graph::{CopyOp, Input, Op};
use crate::options::{BuildOptions, Context, DockerfileText};

const EPOCH: i64 = 1_700_000_000;

/// Files whose owners, times and hard links count, as those of a stage do.
struct Kept(ContextFiles);

impl Files for Kept {
    fn find(&self, path: &TreePath) -> Result<Option<Found>, FilesError> {
        self.0.find(path)
    }
    fn list(&self, directory: &Found) -> Result<Vec<Found>, FilesError> {
        self.0.list(directory)
    }
    fn digests(&self, files: &[&Found]) -> Result<Vec<Content>, FilesError> {
        self.0.digests(files)
    }
    fn keeps_metadata(&self) -> bool {
        true
    }
}

/// A context, an image below, and a place for what archives hold.
struct World {
    temp: TempDir,
}

impl World {
    fn new(context: &[&str], below: &[&str]) -> Self {
        let world = Self { temp: TempDir::new() };
        file::create_dir(&world.path("spool"), 0o755).unwrap();
        for (name, specs) in [("context", context), ("below", below)] {
            file::create_dir(&world.path(name), 0o755).unwrap();
            for spec in specs {
                Self::make(&world.path(name), spec);
            }
        }
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    /// `dir/`, `file=content`, `link->target`, `second==first` for a hard link; a mode after a blank.
    fn make(root: &Path, spec: &str) {
        let (spec, mode) = match spec.rsplit_once(' ') {
            Some((spec, mode)) => (spec, u32::from_str_radix(mode, 8).ok()),
            None => (spec, None),
        };
        let parent = |path: &Path| file::create_dirs(path.parent().unwrap(), 0o755).unwrap();
        if let Some((name, first)) = spec.split_once("==") {
            parent(&root.join(name));
            file::hard_link(&root.join(first), &root.join(name)).unwrap();
        } else if let Some((name, target)) = spec.split_once("->") {
            parent(&root.join(name));
            file::symlink(Path::new(target), &root.join(name)).unwrap();
        } else if let Some((name, content)) = spec.split_once('=') {
            let path = root.join(name);
            parent(&path);
            file::write(&path, content.as_bytes()).unwrap();
            file::set_mode(&path, mode.unwrap_or(0o644)).unwrap();
            file::set_times(&path, Timestamp::from_seconds(1000)).unwrap();
        } else {
            let path = root.join(spec.trim_end_matches('/'));
            file::create_dirs(&path, 0o755).unwrap();
            file::set_mode(&path, mode.unwrap_or(0o755)).unwrap();
            file::set_times(&path, Timestamp::from_seconds(1000)).unwrap();
        }
    }

    fn open(&self, name: &str, ignore: Option<&str>) -> ContextFiles {
        let ignore = ignore.map(|text| IgnoreFile::parse(".dockerignore", text).unwrap());
        let cache = |_: &str| StatCache::default();
        ContextFiles::open(&self.path(name), ignore, Arc::new(SystemClock), cache).unwrap()
    }

    fn copy(
        &self,
        instruction: &str,
        ignore: Option<&str>,
        owner: Option<(u32, u32)>,
    ) -> Result<String, CopyError> {
        let op = op(instruction);
        let context = self.open("context", ignore);
        let kept;
        let files: &dyn Files = match op.input {
            Input::Stage(_) => {
                kept = Kept(context);
                &kept
            }
            _ => &context,
        };
        let selection = select(files, &op)?;
        let below = self.open("below", None);
        let copying = Copying {
            op: &op,
            selection: &selection,
            keeps_metadata: files.keeps_metadata(),
            below: &below,
            owner,
        };
        let nodes = draft(&copying, EPOCH, &mut Spool::new(&self.path("spool")))?;
        let mut text = String::new();
        for word in &selection.unmatched {
            text.push_str(&format!("nothing matches {}\n", op.sources[*word].text));
        }
        for (path, node) in &nodes {
            text.push_str(&show(path, node));
        }
        Ok(text)
    }
}

fn op(instruction: &str) -> CopyOp {
    let text = format!("FROM scratch AS stage\nFROM scratch\nWORKDIR /w\n{instruction}\n");
    let options = BuildOptions::new(Context::Empty, DockerfileText::inline("Dockerfile", text));
    let dockerfile = corten_dockerfile::parse(&options.dockerfile.text);
    let graph = crate::plan::plan(&dockerfile, &options, None).unwrap();
    match &graph.stage(graph.target()).steps.last().unwrap().op {
        Op::Copy(copy) => copy.clone(),
        other => panic!("no copy: {other:?}"),
    }
}

fn show(path: &TreePath, node: &Node) -> String {
    let meta = &node.meta;
    let own = std::fs::symlink_metadata(std::env::temp_dir()).map(|_| file::effective_user_id());
    let is_own = own.is_ok_and(|uid| uid == meta.uid);
    let owner =
        if meta.uid == 0 || is_own { String::new() } else { format!(" {}:{}", meta.uid, meta.gid) };
    let time = match meta.mtime {
        EPOCH => String::new(),
        time if time < 100_000 => format!(" t={time}"),
        _ => " t=below".to_owned(),
    };
    let kind = match &node.kind {
        NodeKind::Directory { opaque: true } => "/ opaque".to_owned(),
        NodeKind::Directory { opaque: false } => "/".to_owned(),
        NodeKind::Symlink(target) => format!(" -> {}", String::from_utf8_lossy(target)),
        NodeKind::Hardlink(first) => format!(" == {first}"),
        NodeKind::Fifo => " pipe".to_owned(),
        NodeKind::CharDevice(major, minor) => format!(" char {major}:{minor}"),
        NodeKind::BlockDevice(major, minor) => format!(" block {major}:{minor}"),
        NodeKind::File(data) => {
            let bytes = match data {
                Data::Bytes(bytes) => bytes.clone(),
                Data::Spooled(path) => file::read(path).unwrap(),
                Data::Found(found, _) => file::read(&found.host_path()).unwrap(),
            };
            format!(" = {}", String::from_utf8_lossy(&bytes).escape_default())
        }
    };
    format!("{:04o} {path}{kind}{owner}{time}\n", meta.mode)
}

fn check(context: &[&str], below: &[&str], instruction: &str, expected: &Expect) {
    let world = World::new(context, below);
    let text = match world.copy(instruction, None, None) {
        Ok(text) => text,
        Err(error) => told(&error),
    };
    expected.assert_eq(&text);
}

fn told(error: &CopyError) -> String {
    let mut text = format!("error: {error}\n");
    for cause in crate::diagnose::causes(error) {
        text.push_str(&format!("{cause}\n"));
    }
    text
}

#[test]
fn every_entry_of_a_draft_has_its_directories_before_it() {
    let world = World::new(&["a/b/c/d=1", "a/e=2"], &["x/ 700"]);
    let text = world.copy("COPY a /x/y/z", None, None).unwrap();
    let mut seen = vec![String::new()];
    for line in text.lines() {
        let path = line.split_whitespace().nth(1).unwrap().trim_end_matches('/');
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        assert!(seen.iter().any(|known| known == parent), "{path} before {parent}");
        seen.push(path.to_owned());
    }
    assert!(
        std::fs::symlink_metadata(world.path("context")).unwrap().uid()
            == file::effective_user_id()
    );
}
