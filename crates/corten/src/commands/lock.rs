//! `corten lock`, and the lock file of `corten build`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use corten_build::recording::{
    LOCK_BYTES_MAX, Lock, Materials, Recording, SourceMaterial, Summary,
};
use corten_build::{BuildOptions, Context as BuildContext, RuntimeExecutor};
use corten_diag::SourceFile;
use corten_sys::clock::{Clock, SystemClock};
use corten_sys::error::IoError;
use corten_sys::file;

use super::{Context, build, sources};
use crate::bases::Resolver;
use crate::cli::{BuildArgs, LockArgs, SharedArgs};
use crate::error::CliError;
use crate::ui::{self, Progress};

/// The name of a lock file.
const LOCK_FILE: &str = "corten.lock";

/// Exit code when the lock would change.
const CHANGED: u8 = 1;

/// The lock was made and could not be put down.
#[derive(Debug, thiserror::Error)]
#[error("failed to write the lock file `{}`", path.display())]
struct WriteError {
    path: PathBuf,
    #[source]
    source: IoError,
}

pub(super) fn lock(context: &Context, arguments: &LockArgs) -> Result<ExitCode, CliError> {
    let started = SystemClock.monotonic();
    let shared = &arguments.shared;
    context.ui.tell_of_interruption("the lock", shared.progress);
    let opened = sources::open(context, shared, &|| Ok(Recording::Off))?;
    let mut options = build::settle(context, shared, &opened)?;
    options.recording = Recording::Record;
    let path = place(shared, &options)?;
    if shared.context.as_os_str() == "-" && !shared.quiet {
        context.ui.note("the context on standard input has no address, and is not in the lock");
    }
    let source = SourceFile::new(&options.dockerfile.name, &options.dockerfile.text);
    let progress = Progress::new(
        &context.ui,
        shared.progress,
        shared.quiet,
        context.no_progress,
        Some(source),
    );
    let store = context.store()?;
    corten_build::settle_epoch(&mut options, &store, &progress)
        .map_err(|error| build::failed(context, error))?;
    let resolver = Resolver::new(&store, &context.settings, &progress);
    let executor = RuntimeExecutor::new(&progress);
    let imports = corten_build::cache::Imports::none();
    let tools = corten_build::Tools::new(&store, &executor, &progress, &imports, false);
    let built = corten_build::build_targets(&options, &resolver, &tools);
    progress.finish();
    let targets = built.map_err(|error| build::failed(context, error))?;
    // One of them has what all of them took.
    let Some(materials) = targets.into_iter().find_map(|target| target.materials) else {
        return Ok(ExitCode::SUCCESS);
    };
    let text = materials.to_toml();
    let before = file::read_optional(&path, LOCK_BYTES_MAX)?;
    let is_same = before.as_deref() == Some(text.as_bytes());
    let shown = path.display();
    if arguments.check {
        if is_same {
            context.ui.note(&format!("`{shown}` is up to date"));
            return Ok(ExitCode::SUCCESS);
        }
        context.ui.warning(&format!("`{shown}` would change"));
        differences(context, &before.unwrap_or_default(), &materials);
        context.ui.hint("`corten lock` writes it");
        return Ok(ExitCode::from(CHANGED));
    }
    if !is_same {
        let written = file::write_atomic(&path, text.as_bytes(), 0o644);
        written.map_err(|source| {
            let hint = "what was fetched is kept; `--lock-file FILE` names another place";
            CliError::new(WriteError { path: path.clone(), source }).hint(hint.to_owned())
        })?;
    }
    if !shared.quiet {
        let elapsed = SystemClock.monotonic().saturating_sub(started);
        let told = told(&materials.summary());
        context.ui.done("locked", &format!("{shown}  {told}  {}", ui::duration(elapsed)));
        context.ui.hint("commit it, and build with `corten build --locked`");
    }
    Ok(ExitCode::SUCCESS)
}

/// What a lock has, in words.
fn told(summary: &Summary) -> String {
    let counted = |count: usize, one: &str, many: &str| {
        format!("{count} {}", if count == 1 { one } else { many })
    };
    let parts = [
        counted(summary.bases, "base", "bases"),
        counted(summary.packages, "package", "packages"),
        counted(summary.files, "file", "files"),
        counted(summary.indices, "index", "indices"),
        ui::bytes(summary.artifact_bytes),
    ];
    parts.join(", ")
}

/// Says what would come and what would go, by name.
fn differences(context: &Context, before: &[u8], after: &Materials) {
    let before = String::from_utf8_lossy(before);
    // A file that cannot be read is replaced as a whole.
    let Ok(before) = Materials::from_toml(LOCK_FILE, &before) else { return };
    let lines = |materials: &Materials| -> Vec<String> {
        let named = materials.fetched.iter().filter_map(|fetched| {
            let artifact = fetched.artifact()?;
            let version = artifact.version.as_deref().unwrap_or_default();
            let short = fetched.sha256.short();
            Some(format!("{} {} {version} {short}", artifact.kind, artifact.name))
        });
        let bases = materials.bases.iter();
        let bases = bases.map(|base| format!("base {} {}", base.reference, base.digest.short()));
        let sources = materials.sources.iter().map(|source| match source {
            SourceMaterial::Http { url, sha256 } => format!("source {url} {}", sha256.short()),
            SourceMaterial::Git { url, reference, commit } => {
                let reference = reference.as_ref().map(|name| format!(" {name}"));
                format!("source {url}{} {commit}", reference.unwrap_or_default())
            }
        });
        bases.chain(sources).chain(named).collect()
    };
    let (old, new) = (lines(&before), lines(after));
    for line in old.iter().filter(|line| !new.contains(line)) {
        context.ui.note(&format!("- {line}"));
    }
    for line in new.iter().filter(|line| !old.contains(line)) {
        context.ui.note(&format!("+ {line}"));
    }
}

/// What `--locked` and `--offline` ask for.
pub(super) fn recording(
    arguments: &BuildArgs,
    options: &BuildOptions,
) -> Result<Recording, CliError> {
    if !arguments.locked && !arguments.offline {
        return Ok(Recording::Off);
    }
    read(arguments, &place(&arguments.shared, options)?)
}

/// The same before the Dockerfile is known, which comes with a context that is fetched.
pub(super) fn of_fetched_context(arguments: &BuildArgs) -> Result<Recording, CliError> {
    if !arguments.locked && !arguments.offline {
        return Ok(Recording::Off);
    }
    read(arguments, arguments.shared.lock_file.as_deref().ok_or_else(unknown_place)?)
}

fn read(arguments: &BuildArgs, path: &Path) -> Result<Recording, CliError> {
    let name = path.display().to_string();
    let bytes = match file::read_limited(path, LOCK_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => {
            let message = format!("there is no lock file `{name}`");
            return Err(CliError::new(message).hint("`corten lock` makes it".to_owned()));
        }
        Err(error) => return Err(error.into()),
    };
    let materials = Materials::from_toml(&name, &String::from_utf8_lossy(&bytes))?;
    let lock = Arc::new(Lock { name, materials });
    Ok(if arguments.offline { Recording::Offline(lock) } else { Recording::Locked(lock) })
}

/// Where the lock file is: where it was said to be, else beside the Dockerfile. One beside
/// `web.Dockerfile` or `Dockerfile.web` has that in its name, since each has a lock of its own.
fn place(arguments: &SharedArgs, options: &BuildOptions) -> Result<PathBuf, CliError> {
    if let Some(path) = &arguments.lock_file {
        return Ok(path.clone());
    }
    let is_stream = arguments.file.as_deref().is_some_and(|path| path.as_os_str() == "-");
    let BuildContext::Directory(directory) = &options.context else { return Err(unknown_place()) };
    match &arguments.file {
        Some(_) if is_stream => Err(unknown_place()),
        Some(path) => Ok(beside(path)),
        None if directory == Path::new(".") => Ok(PathBuf::from(LOCK_FILE)),
        None => Ok(directory.join(LOCK_FILE)),
    }
}

fn beside(dockerfile: &Path) -> PathBuf {
    let name = dockerfile.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if matches!(name, "Dockerfile" | "Containerfile") {
        return dockerfile.with_file_name(LOCK_FILE);
    }
    dockerfile.with_file_name(format!("{name}.{LOCK_FILE}"))
}

fn unknown_place() -> CliError {
    CliError::new("the Dockerfile is in no directory that a lock file could be in")
        .hint("name it: `--lock-file corten.lock`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_dockerfile_has_a_lock_of_its_own() {
        for (dockerfile, lock) in [
            ("Dockerfile", "corten.lock"),
            ("a/Dockerfile", "a/corten.lock"),
            ("a/Containerfile", "a/corten.lock"),
            ("a/web.Dockerfile", "a/web.Dockerfile.corten.lock"),
            ("Dockerfile.gpu", "Dockerfile.gpu.corten.lock"),
        ] {
            assert_eq!(beside(Path::new(dockerfile)), Path::new(lock));
        }
    }

    #[test]
    fn a_summary_counts_in_words() {
        let summary = Summary { bases: 1, packages: 2, files: 0, indices: 1, artifact_bytes: 10 };
        assert_eq!(told(&summary), "1 base, 2 packages, 0 files, 1 index, 10B");
    }
}
