//! An image as far as it is compared: configuration, history, and every file.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use corten_oci::digest::Digest;
use corten_oci::image::{ImageConfig, Manifest};
use corten_oci::tar::Reader;
use corten_oci::tree::{Content, Kind, Node, Tree};
use corten_testkit::TestContext;

/// Times before this one come from the cases: builds have later ones, or those of the base.
const OWN_TIMES_BEFORE: i64 = 1_500_000_000;

/// An image as far as it is compared.
#[derive(Clone)]
pub(super) struct Described {
    config: ImageConfig,
    /// How many layers it has.
    layers: usize,
    tree: Tree,
}

type Files = BTreeMap<Vec<u8>, Vec<u8>>;

impl Described {
    /// Reads an image of the store. The layers that it shares with a base are not read again.
    pub(super) fn read(context: &TestContext, name: &str, base: Option<&Self>) -> Self {
        let files = entries(&context.run(&["save", name]).success().stdout);
        let blob = |digest: &Digest| &files[format!("blobs/sha256/{}", digest.hex()).as_bytes()];
        let index: serde_json::Value =
            serde_json::from_slice(&files[b"index.json".as_slice()]).expect("an index is JSON");
        let manifest = index["manifests"][0]["digest"].as_str().expect("an index has a digest");
        let manifest = Manifest::parse(blob(&manifest.parse().expect("a digest")));
        let manifest = manifest.expect("our own manifest can be read");
        let layers: Vec<&[u8]> =
            manifest.layers.iter().map(|layer| blob(&layer.digest).as_slice()).collect();
        Self::new(blob(&manifest.config.digest), &layers, base)
    }

    /// Reads what `docker save` wrote.
    pub(super) fn from_docker(archive: &[u8], base: Option<&Self>) -> Self {
        let files = entries(archive);
        let manifest: serde_json::Value =
            serde_json::from_slice(&files[b"manifest.json".as_slice()]).expect("a list is JSON");
        let file = |name: &serde_json::Value| {
            files[name.as_str().expect("a name is text").as_bytes()].as_slice()
        };
        let image = &manifest[0];
        let layers = image["Layers"].as_array().expect("layers are a list");
        let layers: Vec<&[u8]> = layers.iter().map(file).collect();
        Self::new(file(&image["Config"]), &layers, base)
    }

    fn new(config: &[u8], layers: &[&[u8]], base: Option<&Self>) -> Self {
        let config = ImageConfig::parse(config).expect("a configuration can be read");
        let base =
            base.filter(|base| config.rootfs.diff_ids.starts_with(&base.config.rootfs.diff_ids));
        let mut tree = base.map_or_else(Tree::new, |base| base.tree.clone());
        let known = base.map_or(0, |base| base.layers);
        for layer in &layers[known..] {
            tree.merge_layer(&Tree::from_tar(*layer).expect("a layer can be read"));
        }
        Self { config, layers: layers.len(), tree }
    }

    /// Configuration and history, and each file that another image does not have like this.
    pub(super) fn beyond(&self, base: &Self) -> String {
        let mut text = String::new();
        let config = serde_json::to_value(&self.config.config).expect("a configuration is JSON");
        for (field, value) in config.as_object().expect("a configuration is an object") {
            let is_empty = value.is_null()
                || value.as_str() == Some("")
                || value.as_array().is_some_and(Vec::is_empty)
                || value.as_object().is_some_and(serde_json::Map::is_empty);
            // Docker keeps these for programs of its past.
            if !is_empty && !matches!(field.as_str(), "ArgsEscaped" | "OnBuild" if value.is_null())
            {
                line_to(&mut text, format_args!("{field} {value}"));
            }
        }
        if let Some(author) = &self.config.author {
            line_to(&mut text, format_args!("author {author}"));
        }
        let inherited = if self.config.history.starts_with(&base.config.history) {
            base.config.history.len()
        } else {
            0
        };
        for entry in &self.config.history[inherited..] {
            let kind = if entry.empty_layer { "history" } else { "history with a layer" };
            let created_by = entry.created_by.as_deref().unwrap_or_default();
            // Frontends of different versions print these differently.
            let vague = ["HEALTHCHECK", "EXPOSE"];
            let vague = vague.into_iter().find(|word| created_by.starts_with(word));
            let created_by = vague.unwrap_or(created_by);
            line_to(&mut text, format_args!("{kind} {created_by:?}"));
        }
        for (path, node) in self.tree.iter() {
            if base.tree.get(path).is_none_or(|other| line(other) != line(node)) {
                line_to(&mut text, format_args!("/{path} {}", line(node)));
            }
        }
        for (path, _) in base.tree.iter() {
            if self.tree.get(path).is_none() {
                line_to(&mut text, format_args!("/{path} is gone"));
            }
        }
        text
    }
}

/// The files of an archive by their names.
fn entries(archive: &[u8]) -> Files {
    let mut files = Files::new();
    let mut reader = Reader::new(archive);
    while let Some(header) = reader.next_entry().expect("an archive can be read") {
        let mut content = Vec::new();
        std::io::copy(&mut reader, &mut content).expect("an archive can be read");
        files.insert(header.path, content);
    }
    files
}

fn line_to(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("a string takes everything");
}

fn line(node: &Node) -> String {
    let meta = &node.meta;
    let kind = match &node.kind {
        Kind::Directory { .. } => "directory".to_owned(),
        Kind::File(Content::Inline(bytes)) if bytes.len() <= 60 => {
            format!("file {:?}", String::from_utf8_lossy(bytes))
        }
        Kind::File(Content::Inline(bytes)) => {
            format!("file of {} bytes {}", bytes.len(), Digest::of(bytes).short())
        }
        Kind::File(content) => format!("file of {} bytes", content.size()),
        Kind::Symlink(target) => return format!("-> {}", String::from_utf8_lossy(target)),
        Kind::Hardlink(first) => return format!("same as /{first}"),
        other => format!("{other:?}"),
    };
    let mut text = format!("{:04o} {}:{} {kind}", meta.mode, meta.uid, meta.gid);
    for (name, value) in &meta.xattrs {
        write!(text, " {}={}", String::from_utf8_lossy(name), Digest::of(value).short())
            .expect("a string takes everything");
    }
    if meta.mtime > 0 && meta.mtime < OWN_TIMES_BEFORE {
        write!(text, " of {}", meta.mtime).expect("a string takes everything");
    }
    text
}
