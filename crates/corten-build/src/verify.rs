//! Two images of the same build, and in what they differ.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{BufReader, PipeReader, PipeWriter};

use corten_oci::digest::{Digest, Hasher};
use corten_oci::image::ImageConfig;
use corten_oci::tree::{Content, Kind, Node, Tree, TreePath};
use corten_store::{Image, Layer, Store, StoreError};
use corten_sys::error::IoError;

use crate::error::BuildError;

/// Content is hashed in pieces of this size.
const BUFFER_BYTES: usize = 256 * 1024;

/// A layer that is not the same in both images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerDifference {
    /// Its place among the layers, the bottom being 0.
    pub index: usize,
    /// The step that made it, as the history tells it.
    pub step: String,
    /// In the order of paths; empty if only one image has the layer.
    pub files: Vec<FileDifference>,
}

/// A name in a layer that is not the same in both images.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileDifference {
    pub path: TreePath,
    pub kinds: Vec<Difference>,
    /// What usually makes such a file differ.
    pub cause: Option<&'static str>,
}

/// In what a name differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    OnlyInFirst,
    OnlyInSecond,
    /// A file here, a link or a directory there.
    Kind,
    /// Other bytes, with both sizes.
    Content {
        first_bytes: u64,
        second_bytes: u64,
    },
    /// Another target of a link, or other numbers of a device.
    Target,
    Mode {
        first: u32,
        second: u32,
    },
    Owner {
        first: (u32, u32),
        second: (u32, u32),
    },
    Time {
        first: i64,
        second: i64,
    },
    Attributes,
}

impl fmt::Display for Difference {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnlyInFirst => formatter.write_str("only in the first"),
            Self::OnlyInSecond => formatter.write_str("only in the second"),
            Self::Kind => formatter.write_str("another kind of file"),
            Self::Content { first_bytes, second_bytes } if first_bytes == second_bytes => {
                write!(formatter, "other content of the same size ({first_bytes} bytes)")
            }
            Self::Content { first_bytes, second_bytes } => {
                write!(formatter, "other content ({first_bytes} bytes, then {second_bytes})")
            }
            Self::Target => formatter.write_str("another target"),
            Self::Mode { first, second } => {
                write!(formatter, "mode {first:04o}, then {second:04o}")
            }
            Self::Owner { first, second } => {
                write!(formatter, "owner {}:{}, then {}:{}", first.0, first.1, second.0, second.1)
            }
            Self::Time { first, second } => write!(formatter, "time {first}, then {second}"),
            Self::Attributes => formatter.write_str("other extended attributes"),
        }
    }
}

/// Compares the layers of two images, the bottom first.
pub fn compare(
    store: &Store,
    first: &Image,
    second: &Image,
) -> Result<Vec<LayerDifference>, BuildError> {
    let mut differences = Vec::new();
    let steps = steps(&first.config);
    for index in 0..first.layers.len().max(second.layers.len()) {
        let step = steps.get(index).cloned().unwrap_or_default();
        let files = match (first.layers.get(index), second.layers.get(index)) {
            (Some(one), Some(other)) if one.diff_id == other.diff_id => continue,
            (Some(one), Some(other)) => {
                let (one, other) = (Contents::of(store, one)?, Contents::of(store, other)?);
                diff(&one, &other)
            }
            _ => Vec::new(),
        };
        differences.push(LayerDifference { index, step, files });
    }
    Ok(differences)
}

/// What made each layer, the bottom first.
fn steps(config: &ImageConfig) -> Vec<String> {
    let layers = config.history.iter().filter(|entry| !entry.empty_layer);
    layers.map(|entry| entry.created_by.clone().unwrap_or_default()).collect()
}

/// A layer's tree; the handle of a content is its place among the digests.
struct Contents {
    tree: Tree,
    digests: Vec<Digest>,
}

impl Contents {
    fn of(store: &Store, layer: &Layer) -> Result<Self, BuildError> {
        let failed = |source| BuildError::Read(IoError::new("make", "a pipe", source));
        let (reader, writer) = std::io::pipe().map_err(failed)?;
        std::thread::scope(|scope| {
            let writing = scope.spawn(move || write(store, layer, writer));
            let read = Self::read(reader);
            let written = writing.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            // A tar that could not be written is the cause of one that could not be read.
            written?;
            Ok(read.map_err(StoreError::from)?)
        })
    }

    fn read(tar: PipeReader) -> Result<Self, corten_oci::tar::TarError> {
        let mut digests = Vec::new();
        let mut buffer = vec![0; BUFFER_BYTES];
        let tar = BufReader::with_capacity(BUFFER_BYTES, tar);
        let tree = Tree::read_tar(tar, &mut |_, content, size| {
            let mut hasher = Hasher::new();
            loop {
                let count = content.read(&mut buffer)?;
                if count == 0 {
                    break;
                }
                hasher.update(buffer.get(..count).unwrap_or_default());
            }
            let handle = digests.len() as u64;
            digests.push(hasher.finish());
            Ok(Content::External { handle, size })
        })?;
        Ok(Self { tree, digests })
    }

    fn digest(&self, content: &Content) -> Option<&Digest> {
        match content {
            Content::External { handle, .. } => self.digests.get(usize::try_from(*handle).ok()?),
            Content::Inline(_) => None,
        }
    }
}

fn write(store: &Store, layer: &Layer, mut pipe: PipeWriter) -> Result<(), StoreError> {
    store.write_layer_tar(layer, &mut pipe)
}

fn diff(first: &Contents, second: &Contents) -> Vec<FileDifference> {
    let mut paths: BTreeMap<&TreePath, (Option<&Node>, Option<&Node>)> = BTreeMap::new();
    for (path, node) in first.tree.iter() {
        paths.entry(path).or_default().0 = Some(node);
    }
    for (path, node) in second.tree.iter() {
        paths.entry(path).or_default().1 = Some(node);
    }
    let kinds = |nodes| match nodes {
        (Some(one), Some(other)) => between((first, one), (second, other)),
        (Some(_), None) => vec![Difference::OnlyInFirst],
        (None, Some(_)) => vec![Difference::OnlyInSecond],
        (None, None) => Vec::new(),
    };
    paths
        .into_iter()
        .map(|(path, nodes)| FileDifference {
            path: path.clone(),
            kinds: kinds(nodes),
            cause: usual_cause(path.as_bytes()),
        })
        .filter(|difference| !difference.kinds.is_empty())
        .collect()
}

fn between(
    (first, one): (&Contents, &Node),
    (second, other): (&Contents, &Node),
) -> Vec<Difference> {
    let mut found = Vec::new();
    match (&one.kind, &other.kind) {
        (Kind::File(left), Kind::File(right)) if first.digest(left) != second.digest(right) => {
            let (first_bytes, second_bytes) = (left.size(), right.size());
            found.push(Difference::Content { first_bytes, second_bytes });
        }
        // Their handles say nothing.
        (Kind::File(_), Kind::File(_)) => {}
        (left, right) if std::mem::discriminant(left) != std::mem::discriminant(right) => {
            found.push(Difference::Kind);
        }
        (left, right) if left != right => found.push(Difference::Target),
        _ => {}
    }
    let (left, right) = (&one.meta, &other.meta);
    if left.mode != right.mode {
        found.push(Difference::Mode { first: left.mode, second: right.mode });
    }
    if (left.uid, left.gid) != (right.uid, right.gid) {
        let (first, second) = ((left.uid, left.gid), (right.uid, right.gid));
        found.push(Difference::Owner { first, second });
    }
    if left.mtime != right.mtime {
        found.push(Difference::Time { first: left.mtime, second: right.mtime });
    }
    if left.xattrs != right.xattrs {
        found.push(Difference::Attributes);
    }
    found
}

/// What makes files of this name differ from run to run, as far as it is known.
fn usual_cause(path: &[u8]) -> Option<&'static str> {
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    let ends = |ending: &[u8]| name.ends_with(ending);
    let within = |part: &[u8]| path.windows(part.len()).any(|window| window == part);
    if ends(b".pyc") {
        return Some("byte code without its source: set PYTHONDONTWRITEBYTECODE=1");
    }
    if ends(b".log") || path.starts_with(b"var/log/") {
        return Some("a log holds times");
    }
    if ends(b".gz") || ends(b".whl") || ends(b".zip") || ends(b".tar") || ends(b".jar") {
        return Some("an archive holds the times of its files");
    }
    if within(b"/.cache/") || path.starts_with(b"var/cache/") || within(b"/.npm/") {
        return Some("a cache: put it into `RUN --mount=type=cache`");
    }
    if path.starts_with(b".pnpm-store/") {
        return Some(
            "pnpm's store: remove it in the same step, or mount a cache and name it as store",
        );
    }
    if path.ends_with(b".cargo/.global-cache") {
        return Some("cargo notes when it used what: remove it in the same step");
    }
    if matches!(name, b".modules.yaml" | b".pnpm-workspace-state.json") {
        return Some("pnpm notes when it did what: remove it in the same step");
    }
    if within(b".git/") {
        return Some("a repository holds times and packs its objects as it likes");
    }
    if ends(b".so") || ends(b".o") || ends(b".a") {
        return Some("a compiler may write times, paths or random names of sections");
    }
    if matches!(name, b"machine-id" | b"random-seed") || name.starts_with(b"ssh_host_") {
        return Some("it is random by design: make it when the container starts");
    }
    if path.starts_with(b"tmp/") || path.starts_with(b"var/tmp/") {
        return Some("a left-over temporary file: remove it in the same step");
    }
    None
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use corten_oci::tree::Meta;

    use super::*;

    fn contents(files: &[(&str, &str, u32, i64)]) -> Contents {
        let mut contents = Contents { tree: Tree::new(), digests: Vec::new() };
        for (path, text, mode, mtime) in files {
            let content = Content::External {
                handle: contents.digests.len() as u64,
                size: text.len() as u64,
            };
            contents.digests.push(Digest::of(text.as_bytes()));
            let meta = Meta { mode: *mode, mtime: *mtime, ..Meta::default() };
            let path = TreePath::new(path.as_bytes()).unwrap();
            contents.tree.insert(path, Node { meta, kind: Kind::File(content) });
        }
        contents
    }

    fn told(first: &Contents, second: &Contents) -> String {
        let line = |file: FileDifference| {
            let kinds: Vec<String> = file.kinds.iter().map(ToString::to_string).collect();
            let cause = file.cause.map(|cause| format!(" ({cause})")).unwrap_or_default();
            format!("{}: {}{cause}", file.path, kinds.join("; "))
        };
        diff(first, second).into_iter().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn what_package_managers_note_has_a_usual_cause() {
        for (path, expected) in [
            ("root/.cargo/.global-cache", "cargo notes"),
            ("app/node_modules/.modules.yaml", "pnpm notes"),
            (".pnpm-store/v3/files/01/35-index.json", "pnpm's store"),
            ("root/.npm/_cacache/index-v5/13/72/03", "a cache"),
        ] {
            let cause = usual_cause(path.as_bytes()).unwrap_or_default();
            assert!(cause.starts_with(expected), "{path}: {cause}");
        }
        assert_eq!(usual_cause(b"app/main.rs"), None);
    }

    #[test]
    fn equal_layers_have_no_difference() {
        let files = [("a", "x", 0o644, 1), ("b", "y", 0o755, 2)];
        assert_eq!(told(&contents(&files), &contents(&files)), "");
    }

    #[test]
    fn each_kind_of_difference_is_told() {
        let first = contents(&[
            ("content", "abc", 0o644, 1),
            ("gone", "", 0o644, 1),
            ("mode", "", 0o644, 1),
            ("size.pyc", "abc", 0o644, 1),
            ("time", "", 0o644, 1),
        ]);
        let second = contents(&[
            ("content", "abd", 0o644, 1),
            ("mode", "", 0o755, 1),
            ("new", "", 0o644, 1),
            ("size.pyc", "abcd", 0o644, 1),
            ("time", "", 0o644, 2),
        ]);
        expect_test::expect![[r#"
            content: other content of the same size (3 bytes)
            gone: only in the first
            mode: mode 0644, then 0755
            new: only in the second
            size.pyc: other content (3 bytes, then 4) (byte code without its source: set PYTHONDONTWRITEBYTECODE=1)
            time: time 1, then 2"#]]
        .assert_eq(&told(&first, &second));
    }

    #[test]
    fn links_and_kinds_are_compared() {
        let mut first = contents(&[]);
        let mut second = contents(&[]);
        let path = |text: &str| TreePath::new(text.as_bytes()).unwrap();
        let node = |kind| Node { meta: Meta::default(), kind };
        first.tree.insert(path("link"), node(Kind::Symlink(b"a".to_vec())));
        second.tree.insert(path("link"), node(Kind::Symlink(b"b".to_vec())));
        first.tree.insert(path("thing"), node(Kind::File(Content::Inline(Arc::from([])))));
        second.tree.insert(path("thing"), node(Kind::Directory { opaque: false }));
        assert_eq!(told(&first, &second), "link: another target\nthing: another kind of file");
    }

    #[test]
    fn usual_causes_are_known_by_name() {
        assert!(usual_cause(b"usr/lib/python3/x.cpython-311.pyc").is_some());
        assert!(usual_cause(b"etc/machine-id").is_some());
        assert!(usual_cause(b"root/.cache/pip/x").is_some());
        assert_eq!(usual_cause(b"usr/bin/app"), None);
    }
}
