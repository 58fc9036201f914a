//! The workspace as a value, so that each check can be tried on a small made-up one.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use super::rust_source::RustSource;
use crate::{Failure, shell};

/// Everything that the checks look at.
#[derive(Debug, Clone, Default)]
pub(crate) struct Workspace {
    pub members: Vec<Member>,
    /// The text files that are or would be committed, by their path.
    pub files: BTreeMap<String, TextFile>,
    /// Every package that is compiled in, with its licence as an SPDX expression.
    pub licences: BTreeMap<String, String>,
}

/// A crate of the workspace.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub name: String,
    /// Its directory, relative to the workspace.
    pub directory: String,
    pub dependencies: Vec<Dependency>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Dependency {
    pub name: String,
    /// The name that code knows it by.
    pub code_name: String,
    /// True for dependencies of the tests only.
    pub is_dev: bool,
}

#[derive(Debug, Clone)]
pub(crate) struct TextFile {
    pub text: String,
    /// Present for Rust files.
    pub rust: Option<RustSource>,
}

impl TextFile {
    pub(crate) fn new(path: &str, text: String) -> Self {
        let is_rust = Path::new(path).extension().is_some_and(|extension| extension == "rs");
        let rust = is_rust.then(|| RustSource::parse(&text));
        Self { text, rust }
    }
}

impl Workspace {
    /// Reads the workspace at this directory.
    pub(crate) fn load(root: &Path) -> Result<Self, Failure> {
        let mut metadata = shell::cargo(root);
        // One platform is enough for the licences, and spares fetching the crates of others.
        metadata.args(["metadata", "--format-version=1", "--locked"]);
        metadata.args(["--filter-platform", "x86_64-unknown-linux-gnu"]);
        let text = shell::read(&mut metadata)?;
        let metadata: Value =
            serde_json::from_str(&text).map_err(Failure::of("read `cargo metadata`"))?;
        Ok(Self {
            members: members(&metadata, root)?,
            files: files(root)?,
            licences: licences(&metadata),
        })
    }

    /// Returns the Rust files with their paths.
    pub(crate) fn rust_files(&self) -> impl Iterator<Item = (&str, &RustSource)> {
        let files = self.files.iter();
        files.filter_map(|(path, file)| Some((path.as_str(), file.rust.as_ref()?)))
    }

    /// Returns the text of a file, if there is one of this path.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(|file| file.text.as_str())
    }

    /// Returns the entries of `[workspace.dependencies]` with their lines; crates of our own have
    /// a path instead of a version.
    pub(crate) fn shared_dependencies(&self) -> Vec<Shared<'_>> {
        let manifest = self.text("Cargo.toml").unwrap_or_default();
        section(manifest, "workspace.dependencies")
            .filter_map(|(line, text)| {
                let (name, value) = text.split_once('=')?;
                let is_own = value.contains("path =");
                Some(Shared { name: name.trim(), line, is_own })
            })
            .collect()
    }
}

/// Returns true for files that hold nothing of the program: tests, benches, examples.
pub(crate) fn is_beside_program(path: &str) -> bool {
    path.ends_with("/tests.rs")
        || path.split('/').any(|folder| matches!(folder, "tests" | "benches" | "examples"))
}

/// An entry of `[workspace.dependencies]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shared<'w> {
    pub name: &'w str,
    pub line: usize,
    pub is_own: bool,
}

/// Returns the lines of one table of a TOML file that is written one entry per line.
pub(crate) fn section<'t>(
    toml: &'t str,
    name: &'t str,
) -> impl Iterator<Item = (usize, &'t str)> + 't {
    let lines = (1..).zip(toml.lines()).skip_while(move |(_, line)| !is_header(line, name)).skip(1);
    lines
        .take_while(|(_, line)| !line.starts_with('['))
        .filter(|(_, line)| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
}

fn is_header(line: &str, name: &str) -> bool {
    line.strip_prefix('[').and_then(|line| line.trim_end().strip_suffix(']')) == Some(name)
}

fn members(metadata: &Value, root: &Path) -> Result<Vec<Member>, Failure> {
    let identifiers = metadata["workspace_members"].as_array().map(Vec::as_slice);
    let identifiers = identifiers.unwrap_or_default();
    let packages = packages(metadata).filter(|package| identifiers.contains(&package["id"]));
    let mut members = Vec::new();
    for package in packages {
        let manifest = Path::new(text(package, "manifest_path"));
        let directory = manifest.parent().and_then(|path| path.strip_prefix(root).ok());
        let directory = directory.and_then(Path::to_str).ok_or_else(|| {
            Failure(format!("`{}` is not below the workspace", manifest.display()))
        })?;
        let code_names = code_names(metadata, package);
        let dependencies = package["dependencies"].as_array().into_iter().flatten();
        members.push(Member {
            name: text(package, "name").to_owned(),
            directory: directory.to_owned(),
            dependencies: dependencies.map(|one| dependency(one, &code_names)).collect(),
        });
    }
    Ok(members)
}

fn packages(metadata: &Value) -> impl Iterator<Item = &Value> {
    metadata["packages"].as_array().into_iter().flatten()
}

fn text<'v>(value: &'v Value, key: &str) -> &'v str {
    value[key].as_str().unwrap_or_default()
}

fn dependency(value: &Value, code_names: &BTreeMap<&str, &str>) -> Dependency {
    let name = text(value, "name");
    let code_name =
        code_names.get(name).map_or_else(|| name.replace('-', "_"), ToString::to_string);
    Dependency { name: name.to_owned(), code_name, is_dev: value["kind"] == "dev" }
}

/// Returns what the code of a package calls its dependencies, by their packages' names.
fn code_names<'m>(metadata: &'m Value, package: &Value) -> BTreeMap<&'m str, &'m str> {
    let name_of =
        |id: &Value| packages(metadata).find(|one| one["id"] == *id).map(|one| text(one, "name"));
    let nodes = metadata["resolve"]["nodes"].as_array().into_iter().flatten();
    let nodes = nodes.filter(|node| node["id"] == package["id"]);
    let dependencies = nodes.flat_map(|node| node["deps"].as_array().into_iter().flatten());
    dependencies.filter_map(|one| Some((name_of(&one["pkg"])?, text(one, "name")))).collect()
}

/// Returns the licences of the packages that the dependency graph reaches on this platform.
fn licences(metadata: &Value) -> BTreeMap<String, String> {
    let nodes = metadata["resolve"]["nodes"].as_array().into_iter().flatten();
    let reached: Vec<&Value> = nodes.map(|node| &node["id"]).collect();
    packages(metadata)
        .filter(|package| reached.contains(&&package["id"]))
        .map(|package| {
            let name = format!("{} {}", text(package, "name"), text(package, "version"));
            (name, text(package, "license").to_owned())
        })
        .collect()
}

/// Reads what git has or would take.
fn files(root: &Path) -> Result<BTreeMap<String, TextFile>, Failure> {
    let mut git = Command::new("git");
    git.current_dir(root);
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    let names = shell::read(&mut git)?;
    let mut files = BTreeMap::new();
    for name in names.split('\0').filter(|name| !name.is_empty()) {
        let path = root.join(name);
        // What was deleted and not committed yet is still listed; links are git's own matter.
        if !path.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
            continue;
        }
        let bytes = std::fs::read(&path).map_err(Failure::of(format!("read `{name}`")))?;
        // Everything else is data.
        if let Ok(text) = String::from_utf8(bytes)
            && !text.contains('\0')
        {
            files.insert(name.to_owned(), TextFile::new(name, text));
        }
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_ends_where_the_next_one_begins() {
        let toml = "[a]\nx = 1\n\n[b]\n# why\ny = 2\nz = 3\n[b.c]\nv = 4\n";
        let lines: Vec<_> = section(toml, "b").collect();
        assert_eq!(lines, [(6, "y = 2"), (7, "z = 3")]);
    }

    #[test]
    fn shared_dependencies_are_ours_or_foreign() {
        let manifest = "[workspace.dependencies]\nours = { path = \"x\" }\nserde = \"1\"\n";
        let mut workspace = Workspace::default();
        let file = TextFile::new("Cargo.toml", manifest.to_owned());
        workspace.files.insert("Cargo.toml".to_owned(), file);
        let expected = [
            Shared { name: "ours", line: 2, is_own: true },
            Shared { name: "serde", line: 3, is_own: false },
        ];
        assert_eq!(workspace.shared_dependencies(), expected);
    }
}
