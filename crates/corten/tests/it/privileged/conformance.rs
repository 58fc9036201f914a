//! Dockerfiles of many kinds, built here and compared with what BuildKit made of them.
//!
//! `tests/conformance/TOPIC.txt` has the cases, `TOPIC.recorded` what BuildKit gave: the configuration
//! and every file that the base does not have. Recording needs a daemon and is done by hand:
//! `CORTEN_RECORD_WITH=DOCKER cargo test -p corten --test it -- --test-threads=1 conformance`, where
//! DOCKER is the client or a script that calls it. Times are not compared: ours are clamped.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use corten_oci::digest::Digest;
use corten_oci::image::{ImageConfig, Manifest};
use corten_oci::tar::Reader;
use corten_oci::tree::{Content, Kind, Node, Tree};
use corten_sys::file;
use corten_testkit::privilege::Need;
use corten_testkit::{TestContext, require};

use crate::world::with_base;

#[test]
fn copying_files() {
    check("copy");
}

#[test]
fn names_and_patterns_of_sources() {
    check("sources");
}

#[test]
fn the_configuration() {
    check("config");
}

#[test]
fn arguments_and_variables() {
    check("variables");
}

#[test]
fn running_commands() {
    check("run");
}

#[test]
fn stages() {
    check("stages");
}

#[test]
fn files_that_are_ignored() {
    check("ignore");
}

#[test]
fn mistakes() {
    check("mistakes");
}

/// A Dockerfile with its context.
#[derive(Debug, Default)]
struct Case {
    name: String,
    flags: Vec<String>,
    /// Why we differ on purpose.
    deviation: Option<String>,
    /// Names with content.
    files: Vec<(String, String)>,
}

/// Reads cases: `=== NAME`, then parts `--- FILE [MODE]`, `--- FILE -> TARGET`, `--- flags` and
/// `--- deviation`, each followed by its lines.
fn parse(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut part: Option<(String, String)> = None;
    let finish = |cases: &mut Vec<Case>, part: Option<(String, String)>| {
        let (Some(case), Some((name, body))) = (cases.last_mut(), part) else { return };
        match name.as_str() {
            "flags" => case.flags = body.split_whitespace().map(str::to_owned).collect(),
            "deviation" => case.deviation = Some(body.trim().to_owned()),
            _ => case.files.push((name, body)),
        }
    };
    for line in text.lines() {
        if let Some(name) = line.strip_prefix("=== ") {
            finish(&mut cases, part.take());
            cases.push(Case { name: name.to_owned(), ..Case::default() });
        } else if let Some(name) = line.strip_prefix("--- ") {
            finish(&mut cases, part.replace((name.to_owned(), String::new())));
        } else if let Some((_, body)) = &mut part {
            body.push_str(line);
            body.push('\n');
        }
    }
    finish(&mut cases, part);
    cases
}

/// Writes the context of a case and returns its directory.
fn lay_out(context: &TestContext, case: &Case) -> PathBuf {
    let directory = context.work_dir().join(case.name.replace(' ', "-"));
    file::create_dirs(&directory, 0o755).expect("the work directory is writable");
    for (name, body) in &case.files {
        if let Some((link, target)) = name.split_once(" -> ") {
            let link = directory.join(link);
            make_parent(&link);
            file::symlink(Path::new(target), &link).expect("the context is writable");
            continue;
        }
        let (name, mode) = split_mode(name);
        let path = directory.join(name.trim_end_matches('/'));
        make_parent(&path);
        let default = if name.ends_with('/') {
            file::create_dirs(&path, 0o755).expect("the context is writable");
            0o755
        } else {
            file::write(&path, body.as_bytes()).expect("the context is writable");
            0o644
        };
        file::set_mode(&path, mode.unwrap_or(default)).expect("the context is writable");
    }
    directory
}

/// Splits a name from a mode of three or four octal digits, if it has one.
fn split_mode(name: &str) -> (&str, Option<u32>) {
    let split = name.rsplit_once(' ').filter(|(_, mode)| mode.len() >= 3);
    match split.map(|(name, mode)| (name, u32::from_str_radix(mode, 8))) {
        Some((name, Ok(mode))) => (name, Some(mode)),
        _ => (name, None),
    }
}

fn make_parent(path: &Path) {
    let parent = path.parent().expect("a file of a context has a parent");
    file::create_dirs(parent, 0o755).expect("the context is writable");
}

#[expect(clippy::disallowed_methods, reason = "recording is asked for by the environment")]
fn recorder() -> Option<TestContext> {
    std::env::var_os("CORTEN_RECORD_WITH").map(|docker| TestContext::new(PathBuf::from(docker)))
}

/// Builds all cases of a topic and compares them, or records what they should be.
fn check(topic: &str) {
    require!(Need::Root, Need::Overlay);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance");
    let text = file::read(&folder.join(format!("{topic}.txt"))).expect("the cases are there");
    let cases = parse(std::str::from_utf8(&text).expect("cases are text"));
    let recorded = folder.join(format!("{topic}.recorded"));
    let context = with_base();
    let base = Described::read(&context, "base");
    if let Some(docker) = recorder() {
        return record(&docker, &context, &base, &cases, &recorded);
    }
    let text = file::read(&recorded).expect("the results are there");
    let expected = results(std::str::from_utf8(&text).expect("results are text"));
    let mut wrong = String::new();
    for case in &cases {
        let found = build_here(&context, &base, case);
        let expected = expected.get(&case.name).map_or("it was not recorded\n", String::as_str);
        match &case.deviation {
            None if found != expected => {
                write!(wrong, "=== {}\nexpected:\n{expected}found:\n{found}\n", case.name)
                    .expect("a string takes everything");
            }
            Some(reason) if found == expected => {
                write!(wrong, "=== {}\nno longer deviates: {reason}\n", case.name)
                    .expect("a string takes everything");
            }
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

fn build_here(context: &TestContext, base: &Described, case: &Case) -> String {
    let directory = lay_out(context, case).to_string_lossy().into_owned();
    let mut words = vec!["build", "--quiet", "--network", "none", "--tag", "case"];
    words.extend(case.flags.iter().map(String::as_str));
    words.push(&directory);
    let output = context.run(&words);
    if output.status.code() != Some(0) {
        return "the build fails\n".to_owned();
    }
    Described::read(context, "case").beyond(base)
}

fn record(
    docker: &TestContext,
    context: &TestContext,
    base: &Described,
    cases: &[Case],
    recorded: &Path,
) {
    let version = docker.run(&["version", "--format", "{{.Server.Version}}"]).success();
    let mut text = format!("What docker {} made of each case.\n", version.stdout().trim());
    context.run(&["save", "--format", "docker-archive", "-o", "base.tar", "base"]).success();
    let archive = context.work_dir().join("base.tar").to_string_lossy().into_owned();
    docker.run(&["load", "--input", &archive]).success();
    for case in cases {
        let directory = lay_out(context, case).to_string_lossy().into_owned();
        let mut words = vec!["build", "--quiet", "--network", "none", "--tag", "case"];
        words.extend(case.flags.iter().map(String::as_str));
        words.push(&directory);
        let output = docker.run(&words);
        let result = if output.status.code() == Some(0) {
            let archive = context.work_dir().join("case.tar").to_string_lossy().into_owned();
            docker.run(&["save", "--output", &archive, "case"]).success();
            context.run(&["load", "-i", &archive]).success();
            Described::read(context, "case").beyond(base)
        } else {
            "the build fails\n".to_owned()
        };
        write!(text, "=== {}\n{result}", case.name).expect("a string takes everything");
    }
    file::write(recorded, text.as_bytes()).expect("the results can be written");
}

/// Splits recorded results by their cases.
fn results(text: &str) -> BTreeMap<String, String> {
    let mut results: BTreeMap<String, String> = BTreeMap::new();
    for part in text.split("=== ").skip(1) {
        let (name, body) = part.split_once('\n').expect("a case has a name and a result");
        results.insert(name.to_owned(), body.to_owned());
    }
    results
}

/// An image as far as it is compared.
struct Described {
    config: ImageConfig,
    tree: Tree,
}

impl Described {
    fn read(context: &TestContext, name: &str) -> Self {
        let archive = context.run(&["save", name]).success().stdout;
        let mut files: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let mut reader = Reader::new(archive.as_slice());
        while let Some(header) = reader.next_entry().expect("our own archive can be read") {
            let mut content = Vec::new();
            std::io::copy(&mut reader, &mut content).expect("our own archive can be read");
            files.insert(header.path, content);
        }
        let blob = |digest: &Digest| &files[format!("blobs/sha256/{}", digest.hex()).as_bytes()];
        let index: serde_json::Value =
            serde_json::from_slice(&files[b"index.json".as_slice()]).expect("an index is JSON");
        let manifest = index["manifests"][0]["digest"].as_str().expect("an index has a digest");
        let manifest = Manifest::parse(blob(&manifest.parse().expect("a digest")));
        let manifest = manifest.expect("our own manifest can be read");
        let config = ImageConfig::parse(blob(&manifest.config.digest));
        let mut tree = Tree::new();
        for layer in &manifest.layers {
            let layer = Tree::from_tar(blob(&layer.digest).as_slice());
            tree.merge_layer(&layer.expect("our own layer can be read"));
        }
        Self { config: config.expect("our own configuration can be read"), tree }
    }

    /// The configuration, and each file that another image does not have like this.
    fn beyond(&self, base: &Self) -> String {
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
                writeln!(text, "{field} {value}").expect("a string takes everything");
            }
        }
        for (path, node) in self.tree.iter() {
            if base.tree.get(path).is_none_or(|other| line(other) != line(node)) {
                writeln!(text, "/{path} {}", line(node)).expect("a string takes everything");
            }
        }
        for (path, _) in base.tree.iter() {
            if self.tree.get(path).is_none() {
                writeln!(text, "/{path} is gone").expect("a string takes everything");
            }
        }
        text
    }
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
    text
}
