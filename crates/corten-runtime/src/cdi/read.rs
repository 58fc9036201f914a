//! The directories in which descriptions lie.

use std::path::{Path, PathBuf};

use corten_sys::file;

use super::Registry;
use super::error::Fault;

/// Where vendors put descriptions: those that stay, then those made at each start, which go before
/// them.
pub const DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// One of a machine with many devices has some hundred kilobytes.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// Files of a directory beyond this are a mistake.
const FILES_MAX: usize = 256;

/// Reads all descriptions in these directories; a later directory goes before an earlier one. What
/// cannot be read is a problem of the registry.
pub fn read(directories: &[PathBuf]) -> Registry {
    let mut registry = Registry::new(directories.to_vec());
    for (priority, directory) in directories.iter().enumerate() {
        let names = match file::absent_is_none(file::list_dir(directory)) {
            Ok(names) => names.unwrap_or_default(),
            Err(error) => {
                registry.problem(directory, &fault(error.source.to_string()));
                continue;
            }
        };
        let mut paths: Vec<PathBuf> =
            names.iter().map(|name| directory.join(name)).filter(|path| is_spec(path)).collect();
        paths.sort();
        if paths.len() > FILES_MAX {
            registry.problem(
                directory,
                &fault(format!("files after the first {FILES_MAX} are left out")),
            );
            paths.truncate(FILES_MAX);
        }
        for path in paths {
            read_file(&mut registry, &path, priority);
        }
    }
    registry
}

fn is_spec(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("json" | "yaml" | "yml"))
}

fn read_file(registry: &mut Registry, path: &Path, priority: usize) {
    let text = match file::read_limited(path, FILE_BYTES_MAX) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned()),
        Err(error) => Err(error.source.to_string()),
    };
    match text {
        Ok(text) => registry.add(path, priority, &text),
        Err(reason) => registry.problem(path, &fault(reason)),
    }
}

fn fault(reason: String) -> Fault {
    Fault::new(None, "", reason)
}
