//! What the sources of a `COPY` are: which files are taken, and under which name each arrives.
//!
//! The selection depends on the source files only, not on what they are copied to. It is what the
//! content key is made of.

use std::collections::BTreeMap;

use corten_dockerfile::glob::Pattern;
use corten_oci::limits::DIRECTORY_DEPTH_MAX;
use corten_oci::tree::TreePath;
use corten_sys::beneath::FileKind;

use super::CopyError;
use super::matcher::Matcher;
use crate::files::{Content, Files, FilesError, Found, join, near, resolve};
use crate::graph::{CopyOp, SourceWord};
use crate::key::KeyHasher;

/// Everything that a `COPY` takes from its input.
#[derive(Debug, Default)]
pub(crate) struct Selection {
    pub(crate) items: Vec<Item>,
    /// Words with wildcards that nothing matches, by their place in the sources.
    pub(crate) unmatched: Vec<usize>,
}

/// One source: a file, or a directory with what is taken of it.
#[derive(Debug)]
pub(crate) struct Item {
    /// Which word of the instruction it comes from.
    pub(crate) word: usize,
    /// The last component of the path as it was written or matched; empty for the root.
    pub(crate) name: Vec<u8>,
    /// When it was last changed, where that counts although nothing else of the metadata does.
    pub(crate) time: Option<i64>,
    /// The source itself and what is below it; directories come before what is in them.
    pub(crate) entries: Vec<Entry>,
}

/// One file or directory that is taken.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Below the source; empty for the source itself.
    pub(crate) below: TreePath,
    pub(crate) found: Found,
    pub(crate) part: Part,
    /// For regular files.
    pub(crate) content: Option<Content>,
    /// For links: where it points.
    pub(crate) target: Vec<u8>,
    /// The entry of the same item that is the same file, when hard links count.
    pub(crate) same_as: Option<usize>,
}

/// In what way a directory is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// It was chosen.
    Whole,
    /// Something below it was chosen.
    Passage,
}

/// Finds what an instruction takes.
pub(crate) fn select(files: &dyn Files, op: &CopyOp) -> Result<Selection, CopyError> {
    let excludes = Matcher::new(&op.excludes)?;
    let mut selection = Selection::default();
    for (word, source) in op.sources.iter().enumerate() {
        if op.parents {
            let items = select_parents(files, word, source, &excludes)?;
            if items.iter().all(|item| item.entries.len() == 1) && wild(source) {
                selection.unmatched.push(word);
            }
            selection.items.extend(items);
        } else {
            let before = selection.items.len();
            for (name, root) in match_source(files, word, source)? {
                // The source itself is chosen by its name; only what is below is excluded, except
                // that a pattern may take files out of what a wildcard matches.
                if wild(source) && !root.is_directory() && excludes.matches(&name) {
                    continue;
                }
                let entries = walk(files, &root, None, &excludes)?;
                selection.items.push(Item { word, name, time: None, entries });
            }
            if selection.items.len() == before && wild(source) {
                selection.unmatched.push(word);
            }
        }
    }
    complete(files, &mut selection)?;
    Ok(selection)
}

/// Whether Go's `filepath.Match` sees more than plain text.
pub(crate) fn is_wild(text: &str) -> bool {
    let mut escaped = false;
    text.chars().any(|c| {
        let wild = !escaped && matches!(c, '*' | '?' | '[');
        escaped = c == '\\' && !escaped;
        wild
    })
}

fn wild(source: &SourceWord) -> bool {
    !source.literal && is_wild(&source.text)
}

/// Brings a source into form: no empty components, no `.`, and `..` stops at the root.
pub(crate) fn clean(text: &str) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in text.as_bytes().split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

/// The files that one source word names, each under its own name.
fn match_source(
    files: &dyn Files,
    word: usize,
    source: &SourceWord,
) -> Result<Vec<(Vec<u8>, Found)>, CopyError> {
    let path = clean(&source.text);
    let missing = |text: &str| not_found(files, word, text);
    if !wild(source) {
        let found = resolve(files, &path, true)?.ok_or_else(|| missing(&source.text))?;
        return Ok(vec![(last_name(&path), found)]);
    }
    let parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').collect();
    let is_pattern = |part: &&[u8]| is_wild(&String::from_utf8_lossy(part));
    let first = parts.iter().position(is_pattern).unwrap_or(parts.len());
    let (plain, patterns) = parts.split_at(first);
    let base = plain.join(&b'/');
    let lossy = String::from_utf8_lossy(&base);
    let base = resolve(files, &base, true)?.ok_or_else(|| missing(&lossy))?;
    let patterns = patterns.iter().map(|part| pattern(part)).collect::<Result<Vec<_>, _>>()?;
    let mut matched = Vec::new();
    match_below(files, &base, &patterns, &mut matched)?;
    let mut found = Vec::with_capacity(matched.len());
    for path in matched {
        let text = path.to_string();
        let target = resolve(files, path.as_bytes(), true)?.ok_or_else(|| missing(&text))?;
        found.push((path.name().to_vec(), target));
    }
    Ok(found)
}

fn not_found(files: &dyn Files, word: usize, path: &str) -> CopyError {
    CopyError::NotFound { word, path: path.to_owned(), near: near(files, &clean(path)) }
}

fn pattern(text: &[u8]) -> Result<Pattern, CopyError> {
    let text = String::from_utf8_lossy(text).into_owned();
    Pattern::new(&text).map_err(|_| CopyError::Pattern { text })
}

/// Collects what matches component by component; links are matched, not followed.
fn match_below(
    files: &dyn Files,
    at: &Found,
    patterns: &[Pattern],
    matched: &mut Vec<TreePath>,
) -> Result<(), CopyError> {
    let Some((first, rest)) = patterns.split_first() else { return Ok(()) };
    if !at.is_directory() {
        return Ok(());
    }
    for entry in files.list(at)? {
        if !first.matches(&String::from_utf8_lossy(entry.path.name())) {
            continue;
        }
        if rest.is_empty() {
            matched.push(entry.path.clone());
        } else {
            match_below(files, &entry, rest, matched)?;
        }
    }
    Ok(())
}

/// `--parents`: what matches below the root, or below the pivot `/./`, with its directories. A
/// pivot with wildcards may be several directories.
fn select_parents(
    files: &dyn Files,
    word: usize,
    source: &SourceWord,
    excludes: &Matcher,
) -> Result<Vec<Item>, CopyError> {
    let (pivot, pattern) = source.text.split_once("/./").unwrap_or(("", &source.text));
    let pattern = String::from_utf8_lossy(&clean(pattern)).into_owned();
    let missing = || not_found(files, word, &source.text);
    let pivot = SourceWord { text: pivot.to_owned(), ..source.clone() };
    let mut roots: Vec<Found> =
        match_source(files, word, &pivot)?.into_iter().map(|(_, root)| root).collect();
    if wild(&pivot) {
        roots.retain(Found::is_directory);
    } else if !roots.iter().all(Found::is_directory) {
        return Err(missing());
    }
    if !wild(&pivot) && !is_wild(&pattern) {
        for root in &roots {
            let required = [root.path.as_bytes(), pattern.as_bytes()].join(&b'/');
            resolve(files, &required, true)?.ok_or_else(missing)?;
        }
    }
    let includes = if pattern.is_empty() { None } else { Some(Matcher::new(&[pattern])?) };
    let item = |root: &Found| {
        let entries = walk(files, root, includes.as_ref(), excludes)?;
        Ok(Item { word, name: Vec::new(), time: None, entries })
    };
    roots.iter().map(item).collect()
}

fn last_name(path: &[u8]) -> Vec<u8> {
    path.rsplit(|byte| *byte == b'/').next().unwrap_or_default().to_vec()
}

/// Lists a source and what is below it.
fn walk(
    files: &dyn Files,
    root: &Found,
    includes: Option<&Matcher>,
    excludes: &Matcher,
) -> Result<Vec<Entry>, CopyError> {
    let mut walk = Walk { files, includes, excludes, entries: Vec::new() };
    walk.push(TreePath::root(), root.clone(), Part::Whole);
    if root.is_directory() {
        walk.directory(root, &TreePath::root(), 0)?;
    }
    Ok(walk.entries)
}

struct Walk<'a> {
    files: &'a dyn Files,
    includes: Option<&'a Matcher>,
    excludes: &'a Matcher,
    entries: Vec<Entry>,
}

impl Walk<'_> {
    fn push(&mut self, below: TreePath, found: Found, part: Part) {
        let entry = Entry { below, found, part, content: None, target: Vec::new(), same_as: None };
        self.entries.push(entry);
    }

    fn directory(&mut self, at: &Found, below: &TreePath, depth: usize) -> Result<(), CopyError> {
        if depth > DIRECTORY_DEPTH_MAX {
            return Err(FilesError::Depth { path: at.path.clone() }.into());
        }
        for found in self.files.list(at)? {
            let below = join(below, found.path.name())?;
            let excluded = self.excludes.matches(below.as_bytes());
            let included = self.includes.is_none_or(|m| m.matches(below.as_bytes()));
            if !found.is_directory() {
                if included && !excluded {
                    self.push(below, found, Part::Whole);
                }
                continue;
            }
            if included && !excluded {
                self.push(below.clone(), found.clone(), Part::Whole);
                self.directory(&found, &below, depth + 1)?;
                continue;
            }
            let hopeless = (excluded && !self.excludes.has_exceptions())
                || (!included
                    && self.includes.is_some_and(|m| !m.may_match_below(below.as_bytes())));
            if hopeless {
                continue;
            }
            let before = self.entries.len();
            self.push(below.clone(), found.clone(), Part::Passage);
            self.directory(&found, &below, depth + 1)?;
            if self.entries.len() == before + 1 {
                self.entries.truncate(before);
            }
        }
        Ok(())
    }
}

/// Reads what the key needs: digests of files, targets of links, and which names are one file.
fn complete(files: &dyn Files, selection: &mut Selection) -> Result<(), CopyError> {
    let mut regular = Vec::new();
    for item in &selection.items {
        let is_file = |entry: &&Entry| entry.found.stat.kind == FileKind::File;
        regular.extend(item.entries.iter().filter(is_file).map(|entry| &entry.found));
    }
    let mut contents = files.digests(&regular)?.into_iter();
    for item in &mut selection.items {
        let mut first: BTreeMap<(u64, u64), usize> = BTreeMap::new();
        for (index, entry) in item.entries.iter_mut().enumerate() {
            match entry.found.stat.kind {
                FileKind::File => {
                    entry.content = contents.next();
                    let stat = &entry.found.stat;
                    if files.keeps_metadata() && stat.links > 1 {
                        let known = *first.entry((stat.device, stat.inode)).or_insert(index);
                        entry.same_as = (known != index).then_some(known);
                    }
                }
                FileKind::Symlink => entry.target = entry.found.read_link()?,
                _ => {}
            }
        }
    }
    Ok(())
}

impl Selection {
    /// Adds everything that reaches the layer to a key: names, kinds, modes, content, and where they
    /// count also owners and attributes. Never times, and no path of the host.
    pub(crate) fn hash_into(
        &self,
        keeps_metadata: bool,
        key: &mut KeyHasher,
    ) -> Result<(), FilesError> {
        key.number(self.items.len() as u64);
        for item in &self.items {
            key.number(item.word as u64).bytes(&item.name).number(item.entries.len() as u64);
            if let Some(time) = item.time {
                key.text("time").signed(time);
            }
            for entry in &item.entries {
                hash_entry(entry, keeps_metadata, key)?;
            }
        }
        Ok(())
    }
}

fn hash_entry(entry: &Entry, keeps_metadata: bool, key: &mut KeyHasher) -> Result<(), FilesError> {
    let stat = &entry.found.stat;
    let kind = match stat.kind {
        FileKind::File => "file",
        FileKind::Directory if entry.part == Part::Passage => "passage",
        FileKind::Directory => "directory",
        FileKind::Symlink => "link",
        FileKind::CharDevice => "char",
        FileKind::BlockDevice => "block",
        FileKind::Fifo => "pipe",
        FileKind::Socket => "socket",
    };
    key.bytes(entry.below.as_bytes()).text(kind);
    // The mode of a link means nothing and differs between file systems.
    if stat.kind != FileKind::Symlink {
        key.number(u64::from(stat.mode));
    }
    if let Some(content) = &entry.content {
        key.digest(&content.digest);
    }
    key.bytes(&entry.target);
    if matches!(stat.kind, FileKind::CharDevice | FileKind::BlockDevice) {
        key.number(u64::from(stat.represents.0)).number(u64::from(stat.represents.1));
    }
    key.number(entry.same_as.map_or(0, |index| index as u64 + 1));
    if keeps_metadata {
        key.number(u64::from(stat.uid)).number(u64::from(stat.gid));
        if matches!(stat.kind, FileKind::File | FileKind::Directory) {
            let xattrs = entry.found.xattrs()?;
            key.number(xattrs.len() as u64);
            for (name, value) in &xattrs {
                key.bytes(name).bytes(value);
            }
        }
    }
    Ok(())
}
