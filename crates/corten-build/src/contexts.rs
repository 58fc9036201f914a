//! The contexts of a build: opened when a step needs them, with their ignore files.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use corten_store::Store;
use corten_sys::beneath::{Resolve, Root};
use corten_sys::clock::SystemClock;
use corten_sys::file;

use crate::define::Contexts;
use crate::error::BuildError;
use crate::files::{ContextFiles, IgnoreFile, StatCache};
use crate::graph::{Graph, Input};
use crate::options::{BuildOptions, Context, DOCKERFILE_BYTES_MAX, NamedContext};
use crate::remote::{Fetched, read_within};

/// The store's name for the stat caches.
const CACHE_KIND: &str = "context-stat";

/// The ignore file of a context.
const IGNORE_FILE: &str = ".dockerignore";

/// Opens what the graph takes files from.
pub(crate) fn open(
    graph: &Graph,
    options: &BuildOptions,
    store: &Store,
    fetched: BTreeMap<Input, Fetched>,
) -> Result<Contexts, BuildError> {
    let mut by_input = BTreeMap::new();
    let mut passing = BTreeSet::new();
    let inputs =
        graph.stages.iter().flat_map(|stage| &stage.steps).flat_map(|step| step.op.inputs());
    for input in inputs {
        if by_input.contains_key(input) {
            continue;
        }
        let opened = match (input, &options.context) {
            (Input::Context, Context::Directory(directory)) => {
                let ignore = match &options.dockerfile.ignore {
                    Some(ignore) => Some(IgnoreFile::parse(&ignore.name, &ignore.text)?),
                    None => ignore_of(directory)?,
                };
                open_directory(directory, ignore, store)?
            }
            (Input::Context, Context::Fetched { directory, path, kept, .. }) => {
                if !kept {
                    passing.insert(input.clone());
                }
                let ignore = match &options.dockerfile.ignore {
                    Some(ignore) => Some(IgnoreFile::parse(&ignore.name, &ignore.text)?),
                    None => foreign_ignore(directory, path)?,
                };
                open_foreign(directory, path, ignore, *kept, store)?
            }
            (Input::Remote(_), _) => {
                let Some(found) = fetched.get(input) else { continue };
                if !found.is_kept() {
                    passing.insert(input.clone());
                }
                open_foreign(found.directory(), Path::new(""), None, found.is_kept(), store)?
            }
            (Input::Named(name), _) => match options.contexts.get(name) {
                Some(NamedContext::Directory(directory)) => {
                    open_directory(directory, ignore_of(directory)?, store)?
                }
                Some(NamedContext::Remote(_)) => {
                    let Some(found) = fetched.get(input) else { continue };
                    if !found.is_kept() {
                        passing.insert(input.clone());
                    }
                    let path = Path::new(&found.path);
                    let ignore = foreign_ignore(found.directory(), path)?;
                    open_foreign(found.directory(), path, ignore, found.is_kept(), store)?
                }
                _ => continue,
            },
            _ => continue,
        };
        by_input.insert(input.clone(), opened);
    }
    Ok(Contexts { by_input, fetched, passing })
}

fn ignore_of(directory: &Path) -> Result<Option<IgnoreFile>, BuildError> {
    let path = directory.join(IGNORE_FILE);
    let bytes = match file::read_optional(&path, DOCKERFILE_BYTES_MAX) {
        Ok(bytes) => bytes,
        // The directory itself is told to be none where it is opened.
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => None,
        Err(error) => return Err(BuildError::Read(error)),
    };
    let Some(bytes) = bytes else { return Ok(None) };
    Ok(Some(IgnoreFile::parse(IGNORE_FILE, &String::from_utf8_lossy(&bytes))?))
}

/// The ignore file of a directory that others made.
fn foreign_ignore(directory: &Path, path: &Path) -> Result<Option<IgnoreFile>, BuildError> {
    let text = read_within(directory, path, Path::new(IGNORE_FILE)).map_err(BuildError::Remote)?;
    Ok(text.map(|text| IgnoreFile::parse(IGNORE_FILE, &text)).transpose()?)
}

/// Opens a part of a directory that others made, without following a link out of it.
fn open_foreign(
    directory: &Path,
    path: &Path,
    ignore: Option<IgnoreFile>,
    kept: bool,
    store: &Store,
) -> Result<ContextFiles, BuildError> {
    let failed = |source| BuildError::NoContext { path: path.to_owned(), source };
    let real = if path.as_os_str().is_empty() {
        directory.to_owned()
    } else {
        let root = Root::open(directory).map_err(failed)?;
        let inner = root.open_dir(path, Resolve::InRoot).map_err(failed)?;
        inner.real_path().map_err(failed)?
    };
    if kept {
        return open_directory(&real, ignore, store);
    }
    ContextFiles::open(&real, ignore, Arc::new(SystemClock), |_| StatCache::default())
        .map_err(failed)
}

fn open_directory(
    directory: &Path,
    ignore: Option<IgnoreFile>,
    store: &Store,
) -> Result<ContextFiles, BuildError> {
    let load = |identity: &str| {
        // A cache that cannot be read is an empty one: it only saves time.
        let bytes = store.aux(CACHE_KIND, identity).ok().flatten();
        bytes.map(|bytes| StatCache::from_bytes(&bytes)).unwrap_or_default()
    };
    ContextFiles::open(directory, ignore, Arc::new(SystemClock), load)
        .map_err(|source| BuildError::NoContext { path: directory.to_owned(), source })
}

/// Keeps what was learnt about the files.
pub(crate) fn save(contexts: &Contexts, store: &Store) -> Result<(), BuildError> {
    for (input, context) in &contexts.by_input {
        // What is known of a directory that vanishes is of no use.
        if contexts.passing.contains(input) {
            continue;
        }
        if let Some((identity, bytes)) = context.cache_to_save() {
            store.put_aux(CACHE_KIND, &identity, &bytes)?;
        }
    }
    Ok(())
}
