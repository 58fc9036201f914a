//! The cases: Dockerfiles with their contexts, as text.

use std::path::{Path, PathBuf};

use corten_sys::file;
use corten_testkit::TestContext;

/// Signs for what editors and checks take away at the end of a line.
const INVISIBLE: [(char, &str); 3] = [('␣', " "), ('␉', "\t"), ('␍', "\r")];

/// In flags, the directory of the case's context.
const CONTEXT_WORD: &str = "CONTEXT";

/// A Dockerfile with its context.
#[derive(Debug, Default)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) flags: Vec<String>,
    /// Why we differ on purpose.
    pub(super) deviation: Option<String>,
    /// The version of BuildKit's Dockerfile frontend that understands it first, if it is young.
    pub(super) since: Option<String>,
    /// Names with content, in their order.
    files: Vec<(String, String)>,
}

/// Reads cases: `=== NAME`, then parts, each followed by its lines:
/// - `--- FILE [MODE]` is a file, `--- DIRECTORY/ [MODE]` a directory, `--- FILE -> TARGET` a link and
///   `--- FILE = FILE` a hard link;
/// - `--- FILE of DIRECTORY [OPTIONS]` is a tar of a directory, which is gone then, made with these
///   options of `tar` and compressed as the name says;
/// - `--- flags` are words for the command line, in which `CONTEXT` is the context's directory;
/// - `--- deviation` says why Corten differs on purpose;
/// - blanks, tabs and carriage returns at the end of a line are written as signs, see [`INVISIBLE`];
/// - `--- since` has the version of the frontend that understands the case first.
pub(super) fn parse(text: &str) -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    let mut part: Option<(String, String)> = None;
    let finish = |cases: &mut Vec<Case>, part: Option<(String, String)>| {
        let (Some(case), Some((name, body))) = (cases.last_mut(), part) else { return };
        match name.as_str() {
            "flags" => case.flags = body.split_whitespace().map(str::to_owned).collect(),
            "deviation" => case.deviation = Some(body.trim().to_owned()),
            "since" => case.since = Some(body.trim().to_owned()),
            _ => {
                let text = INVISIBLE.iter().fold(body, |text, (sign, is)| text.replace(*sign, is));
                case.files.push((name, text));
            }
        }
    };
    for line in text.split_inclusive('\n') {
        if let Some(name) = line.strip_prefix("=== ") {
            finish(&mut cases, part.take());
            cases.push(Case { name: name.trim_end().to_owned(), ..Case::default() });
        } else if let Some(name) = line.strip_prefix("--- ") {
            let name = name.trim_end_matches('\n').to_owned();
            finish(&mut cases, part.replace((name, String::new())));
        } else if let Some((_, body)) = &mut part {
            body.push_str(line);
        }
    }
    finish(&mut cases, part);
    cases
}

impl Case {
    /// Writes the context and returns the words that build it.
    pub(super) fn lay_out(&self, context: &TestContext, folder: &str) -> Vec<String> {
        let directory = context.work_dir().join(folder).join(self.name.replace([' ', '/'], "-"));
        file::create_dirs(&directory, 0o755).expect("the work directory is writable");
        for (name, body) in &self.files {
            lay_out_file(&directory, name, body);
        }
        let directory = directory.to_string_lossy().into_owned();
        let flags = self.flags.iter().map(|flag| flag.replace(CONTEXT_WORD, &directory));
        flags.chain([directory.clone()]).collect()
    }
}

fn lay_out_file(directory: &Path, name: &str, body: &str) {
    if let Some((archive, rest)) = name.split_once(" of ") {
        let mut words = rest.split_whitespace();
        let source = words.next().expect("a tar is of a directory");
        make_tar(&directory.join(archive), &directory.join(source), words);
        return;
    }
    if let Some((link, target)) = name.split_once(" -> ") {
        let link = directory.join(link);
        make_parent(&link);
        file::symlink(Path::new(target), &link).expect("the context is writable");
        return;
    }
    if let Some((link, first)) = name.split_once(" = ") {
        let link = directory.join(link);
        make_parent(&link);
        std::fs::hard_link(directory.join(first), &link).expect("the context is writable");
        return;
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

/// Makes a tar of a directory and removes the directory.
fn make_tar<'a>(archive: &Path, source: &Path, options: impl Iterator<Item = &'a str>) {
    make_parent(archive);
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let file = format!("--file={}", text(archive));
    let directory = format!("--directory={}", text(source));
    let mut words: Vec<&str> = vec!["--create", "--auto-compress", &file, &directory];
    words.extend(["--numeric-owner", "--sort=name"]);
    let options: Vec<&str> = options.collect();
    words.extend(&options);
    if !options.contains(&"--no-recursion") {
        words.push(".");
    }
    TestContext::new("/bin/tar").run(&words).success();
    file::remove_tree(source).expect("the context is writable");
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

/// Where the cases are.
pub(super) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conformance")
}

/// Reads a file of the cases.
pub(super) fn read(name: &str) -> String {
    let bytes = file::read(&folder().join(name)).expect("the cases are there");
    String::from_utf8(bytes).expect("the cases are text")
}
