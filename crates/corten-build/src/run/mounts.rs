//! What is mounted for a step, as directories and files of the host.

use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::Duration;

use corten_diag::Event;
use corten_oci::digest::Digest;
use corten_oci::tree::TreePath;
use corten_store::{LinkedCache, Staging};
use corten_sys::error::{IoError, at};
use corten_sys::file;
use corten_sys::lock::FileLock;

use super::downloads::{self, Downloads, Tool};
use super::links::{self, Linked};
use super::scratch::Scratch;
use super::{RunStep, SCRIPT_DIRECTORY, StepMount, StepMountKind};
use crate::cache;
use crate::copy::{self, CopyError, Copying};
use crate::define::mount_copy;
use crate::diagnose::StepError;
use crate::execute::Execution;
use crate::files::{Files, Found, NoFiles, as_path};
use crate::graph::{CacheSharing, Input, RunMount, RunMountKind, RunOp};
use crate::options::{SECRET_BYTES_MAX, Secret};
use crate::solve::Tools;
use crate::ssh::{Access, Served};

/// Where certificates are for the time of a step. `/dev` is a file system of the container's own, so
/// nothing of it is left in the image.
const CERTIFICATES: &str = "/dev/corten/ca-certificates.crt";

/// The same for the configuration of apt.
const APT_CONFIG: &str = "/dev/corten/apt.conf";

/// The same for that of wget.
const WGET_CONFIG: &str = "/dev/corten/wgetrc";

/// The largest bundle of certificates: real ones have 200 KiB.
const BUNDLE_BYTES_MAX: u64 = 16 << 20;

/// The permissions of a tmpfs that says none.
const TMPFS_MODE: u32 = 0o1777;

/// The variable by which programs find an agent.
const AGENT_VARIABLE: &str = "SSH_AUTH_SOCK";

/// How many instances of a private cache there may be.
const PRIVATE_CACHES_MAX: u32 = 64;

/// How often to look whether a cache is free.
const WAIT_POLL: Duration = Duration::from_millis(20);

/// What is said while a step waits for it.
const WAITING: &str = "a step waits for its cache mount: another one makes hard links from it";

/// What was prepared; it is undone when it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    pub(crate) mounts: Vec<StepMount>,
    pub(crate) secret_variables: Vec<(String, String)>,
    /// Where the container has the certificates.
    pub(crate) certificates: Option<String>,
    pub(crate) apt_config: Option<String>,
    pub(crate) wget_config: Option<String>,
    /// Lower directories above the layers of the image, the topmost first.
    pub(crate) lowers: Vec<PathBuf>,
    linked: Vec<Linked>,
    /// Directories in the store's temporary part.
    stagings: Vec<Staging>,
    scratches: Vec<Scratch>,
    agents: Vec<Served>,
    locks: Vec<FileLock>,
}

/// Prepares all mounts of a step.
pub(crate) fn prepare(execution: &Execution<'_>, op: &RunOp) -> Result<Prepared, StepError> {
    let mut prepared = Prepared::default();
    prepared.certificates(execution)?;
    let targets = links::targets(execution, op)?;
    for (index, mount) in op.mounts.iter().enumerate() {
        match targets.iter().find(|(of, _)| *of == index) {
            Some((_, target)) => prepared.linkable(execution, mount, index, target)?,
            None => prepared.mount(execution, mount, index)?,
        }
    }
    prepared.linked(execution)?;
    if let Some(script) = &op.script {
        let path =
            prepared.staged_file(execution, &script.name, script.content.as_bytes(), 0o755)?;
        let target = Path::new(SCRIPT_DIRECTORY).join(&script.name);
        prepared.bind(target, path, true);
    }
    Ok(prepared)
}

impl Prepared {
    fn bind(&mut self, target: impl Into<PathBuf>, source: PathBuf, readonly: bool) {
        let kind = StepMountKind::Bind { source, readonly };
        self.mounts.push(StepMount { target: target.into(), kind });
    }

    fn mount(
        &mut self,
        execution: &Execution<'_>,
        mount: &RunMount,
        index: usize,
    ) -> Result<(), StepError> {
        match &mount.kind {
            RunMountKind::Tmpfs { size_bytes } => {
                let kind = StepMountKind::Tmpfs { size_bytes: *size_bytes, mode: TMPFS_MODE };
                self.mounts.push(StepMount { target: PathBuf::from(&mount.target), kind });
                Ok(())
            }
            RunMountKind::Bind { input, source, writable } => {
                let path = self.files(execution, mount, input, source, *writable, index)?;
                self.bind(&mount.target, path, !*writable);
                Ok(())
            }
            RunMountKind::Cache { .. } => self.cache(execution, mount, index),
            RunMountKind::Secret { .. } => self.secret(execution, mount),
            RunMountKind::Ssh { .. } => self.agent(execution, mount),
        }
    }

    /// Finds a directory of the host that shows the files of a bind mount, or makes one.
    fn files(
        &mut self,
        execution: &Execution<'_>,
        mount: &RunMount,
        input: &Input,
        source: &str,
        writable: bool,
        index: usize,
    ) -> Result<PathBuf, StepError> {
        if !writable && let Some(path) = as_it_is(execution, mount, input, source, index)? {
            return Ok(path);
        }
        let staging = execution.tools.store.stage()?;
        copy_files(execution, mount, index, staging.tree(), staging.work())?;
        let path = staging.tree().join("source");
        if !file::exists(&path).map_err(CopyError::from)? {
            // The source is an empty directory.
            file::create_dir(&path, 0o755).map_err(CopyError::from)?;
        }
        self.stagings.push(staging);
        Ok(path)
    }

    fn cache(
        &mut self,
        execution: &Execution<'_>,
        mount: &RunMount,
        index: usize,
    ) -> Result<(), StepError> {
        let RunMountKind::Cache { id, sharing, seed, mode, uid, gid, readonly } = &mount.kind
        else {
            return Ok(());
        };
        if execution.session.is_some() {
            // What is taken from a cache is not fetched, so it would be in no record.
            let staging = execution.tools.store.stage()?;
            let directory = staging.tree().join("cache");
            make_cache(execution, mount, index, staging.tree(), &directory, seed.is_some())?;
            file::set_mode(&directory, *mode).map_err(CopyError::from)?;
            set_owner(&directory, *uid, *gid)?;
            self.bind(&mount.target, directory, *readonly);
            self.stagings.push(staging);
            return Ok(());
        }
        let root = cache_root(execution);
        file::create_dirs(&root, 0o700).map_err(CopyError::from)?;
        let name = Digest::of(id.as_bytes()).hex();
        let (directory, is_new) = match sharing {
            CacheSharing::Shared => self.shared_cache(execution, &root, &name)?,
            CacheSharing::Locked => {
                let path = root.join(format!("{name}.lock"));
                self.locks.push(FileLock::exclusive(&path).map_err(CopyError::from)?);
                settle(execution, &name)?;
                (root.join(&name), restore(execution, &root.join(&name))?)
            }
            CacheSharing::Private => {
                let directory = self.private_cache(&root, &name)?;
                let is_new = restore(execution, &directory)?;
                (directory, is_new)
            }
        };
        let place = CachePlace { execution, mount, index, root: &root };
        place.complete(&directory, is_new)?;
        self.bind(&mount.target, directory, *readonly);
        Ok(())
    }

    /// A cache that others may use at the same time, and whether it was made from one of another
    /// machine.
    fn shared_cache(
        &mut self,
        execution: &Execution<'_>,
        root: &Path,
        name: &str,
    ) -> Result<(PathBuf, bool), StepError> {
        let path = root.join(format!("{name}.lock"));
        let mut is_new = false;
        loop {
            if let Some(_alone) = FileLock::try_exclusive(&path).map_err(CopyError::from)? {
                settle(execution, name)?;
                is_new |= restore(execution, &root.join(name))?;
            }
            let lock = FileLock::shared(&path).map_err(CopyError::from)?;
            if linked_cache(execution, name)?.is_none() {
                self.locks.push(lock);
                return Ok((root.join(name), is_new));
            }
            // Another step has it as a part of its root.
            drop(lock);
            if let Some(directory) = self.wait_for(execution, &path, root, name)? {
                let is_new = restore(execution, &directory)?;
                return Ok((directory, is_new));
            }
        }
    }

    /// Waits until nobody uses a cache, unless others may wait for this step meanwhile: then it gets
    /// another one.
    fn wait_for(
        &mut self,
        execution: &Execution<'_>,
        lock: &Path,
        root: &Path,
        name: &str,
    ) -> Result<Option<PathBuf>, StepError> {
        let mut is_told = false;
        while self.locks.is_empty() && !execution.cancelled.load(Ordering::Relaxed) {
            if FileLock::try_exclusive(lock).map_err(CopyError::from)?.is_some() {
                return Ok(None);
            }
            if !is_told {
                execution.tools.reporter.report(Event::Notice(WAITING.to_owned()));
                is_told = true;
            }
            std::thread::sleep(WAIT_POLL);
        }
        Ok(Some(self.private_cache(root, name)?))
    }

    /// A cache that can be a part of the step's root; where it cannot right now, it is mounted.
    fn linkable(
        &mut self,
        execution: &Execution<'_>,
        mount: &RunMount,
        index: usize,
        target: &TreePath,
    ) -> Result<(), StepError> {
        let RunMountKind::Cache { id, sharing, .. } = &mount.kind else { return Ok(()) };
        let root = cache_root(execution);
        file::create_dirs(&root, 0o700).map_err(CopyError::from)?;
        let name = Digest::of(id.as_bytes()).hex();
        let path = root.join(format!("{name}.lock"));
        let place = CachePlace { execution, mount, index, root: &root };
        if *sharing == CacheSharing::Locked {
            self.locks.push(FileLock::exclusive(&path).map_err(CopyError::from)?);
            place.link(&name, target)?;
            match linked_cache(execution, &name)? {
                Some(cache) => self.linked.push(Linked { cache }),
                None => self.bind(&mount.target, root.join(&name), false),
            }
            return Ok(());
        }
        loop {
            if let Some(_alone) = FileLock::try_exclusive(&path).map_err(CopyError::from)? {
                place.link(&name, target)?;
            }
            let lock = FileLock::shared(&path).map_err(CopyError::from)?;
            match linked_cache(execution, &name)? {
                Some(cache) if cache.target == *target && cache.floor >= execution.stage.epoch => {
                    self.locks.push(lock);
                    self.linked.push(Linked { cache });
                    return Ok(());
                }
                Some(_) => {
                    // It is at another place, or has older files than this step may see.
                    drop(lock);
                    if let Some(directory) = self.wait_for(execution, &path, &root, &name)? {
                        let is_new = restore(execution, &directory)?;
                        place.complete(&directory, is_new)?;
                        self.bind(&mount.target, directory, false);
                        return Ok(());
                    }
                }
                None => {
                    // Another step has it mounted, and may write to it.
                    self.locks.push(lock);
                    place.complete(&root.join(&name), false)?;
                    self.bind(&mount.target, root.join(&name), false);
                    return Ok(());
                }
            }
        }
    }

    /// Puts the caches that are a part of the step's root above the layers of the image.
    fn linked(&mut self, execution: &Execution<'_>) -> Result<(), StepError> {
        if self.linked.is_empty() {
            return Ok(());
        }
        let skeleton = links::skeleton(execution, &self.linked)?;
        self.lowers.push(skeleton.tree().to_owned());
        self.lowers.extend(self.linked.iter().map(|linked| linked.cache.lower.clone()));
        self.stagings.push(skeleton);
        Ok(())
    }

    /// Takes what the step changed in such caches out of what it wrote.
    pub(crate) fn take_caches(
        &self,
        execution: &Execution<'_>,
        staging: &Staging,
    ) -> Result<(), StepError> {
        self.linked.iter().try_for_each(|linked| links::take(execution, linked, staging))
    }

    /// Where such caches are in the step's root.
    pub(crate) fn cache_targets(&self) -> Vec<PathBuf> {
        self.linked.iter().map(links::target_path).collect()
    }

    /// The first instance of a cache that nobody uses.
    fn private_cache(&mut self, root: &Path, name: &str) -> Result<PathBuf, StepError> {
        for number in 0..PRIVATE_CACHES_MAX {
            let directory = root.join(format!("{name}-{number}"));
            let path = root.join(format!("{name}-{number}.lock"));
            if let Some(lock) = FileLock::try_exclusive(&path).map_err(CopyError::from)? {
                self.locks.push(lock);
                return Ok(directory);
            }
        }
        let path = root.join(format!("{name}-0.lock"));
        self.locks.push(FileLock::exclusive(&path).map_err(CopyError::from)?);
        Ok(root.join(format!("{name}-0")))
    }

    fn secret(&mut self, execution: &Execution<'_>, mount: &RunMount) -> Result<(), StepError> {
        let RunMountKind::Secret { id, file: as_file, variable, required, mode, uid, gid } =
            &mount.kind
        else {
            return Ok(());
        };
        let value = match execution.options.secrets.get(id) {
            None if *required => return Err(StepError::NoSecret { id: id.clone() }),
            None => return Ok(()),
            Some(Secret::Value(value)) => value.clone(),
            Some(Secret::File(path)) => file::read_limited(path, SECRET_BYTES_MAX)
                .map_err(|source| StepError::ReadSecret { id: id.clone(), source })?,
        };
        if let Some(variable) = variable {
            let text = String::from_utf8(value.clone())
                .map_err(|_| StepError::SecretText { id: id.clone() })?;
            self.secret_variables.push((variable.clone(), text));
        }
        if *as_file {
            let scratch = Scratch::in_memory(&cache_root(execution)).map_err(CopyError::from)?;
            let path = scratch.path().join("secret");
            write_file(&path, &value, *mode)?;
            set_owner(&path, *uid, *gid)?;
            self.scratches.push(scratch);
            self.bind(&mount.target, path, true);
        }
        Ok(())
    }

    fn agent(&mut self, execution: &Execution<'_>, mount: &RunMount) -> Result<(), StepError> {
        let RunMountKind::Ssh { id, variable, required, mode, uid, gid } = &mount.kind else {
            return Ok(());
        };
        let Some(agent) = execution.options.agents.get(id) else {
            return if *required { Err(StepError::NoAgent { id: id.clone() }) } else { Ok(()) };
        };
        let scratch = Scratch::in_memory(&cache_root(execution)).map_err(CopyError::from)?;
        let access = Access { mode: *mode, uid: *uid, gid: *gid };
        let served = Served::start(agent, scratch, &access).map_err(CopyError::from)?;
        // A socket is not written to, so the mount may well be read-only.
        self.bind(&mount.target, served.path().to_owned(), true);
        if *variable {
            self.secret_variables.push((AGENT_VARIABLE.to_owned(), mount.target.clone()));
        }
        self.agents.push(served);
        Ok(())
    }

    fn certificates(&mut self, execution: &Execution<'_>) -> Result<(), StepError> {
        let bundle = execution.options.run.ca_certificates.as_ref();
        let mut config = format!("Acquire::https::CAInfo \"{CERTIFICATES}\";\n");
        if let Some(session) = execution.session {
            let bundle = bundle.map(|path| file::read_limited(path, BUNDLE_BYTES_MAX)).transpose();
            let mut bundle = bundle.map_err(CopyError::from)?.unwrap_or_default();
            bundle.push(b'\n');
            bundle.extend_from_slice(session.recorder.certificate().as_bytes());
            let path = self.staged_file(execution, "ca-certificates.crt", &bundle, 0o644)?;
            self.bind(CERTIFICATES, path, true);
            let wget = format!("ca_certificate = {CERTIFICATES}\n");
            let wget = self.staged_file(execution, "wgetrc", wget.as_bytes(), 0o644)?;
            self.bind(WGET_CONFIG, wget, true);
            self.wget_config = Some(WGET_CONFIG.to_owned());
            if session.recorder.replays_indices() {
                // They are as old as the lock, which says what they must be.
                config.push_str("Acquire::Check-Valid-Until \"false\";\n");
            }
        } else {
            let Some(bundle) = bundle else { return Ok(()) };
            self.bind(CERTIFICATES, bundle.clone(), true);
        }
        let config = self.staged_file(execution, "apt.conf", config.as_bytes(), 0o644)?;
        self.bind(APT_CONFIG, config, true);
        self.certificates = Some(CERTIFICATES.to_owned());
        self.apt_config = Some(APT_CONFIG.to_owned());
        Ok(())
    }

    /// Prepares what leads tools to the cache of downloads.
    pub(crate) fn downloads(
        &mut self,
        execution: &Execution<'_>,
        tools: &[Tool],
        step: &RunStep,
    ) -> Result<Option<Downloads>, StepError> {
        let bundle = execution.options.run.ca_certificates.as_ref();
        let (Some(cache), Some(bundle), false) = (execution.downloads, bundle, tools.is_empty())
        else {
            return Ok(None);
        };
        let is_secret = |name: &str| {
            self.secret_variables.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
        };
        let no_proxy = step.env.iter().find(|(name, _)| name.eq_ignore_ascii_case("NO_PROXY"));
        let env = downloads::variables(tools, no_proxy.map(|(_, hosts)| hosts.as_str()));
        let is_proxy = |(name, _): &(String, String)| name.to_ascii_lowercase().contains("proxy");
        if env.iter().any(|(name, _)| is_secret(name)) || self.secret_variables.iter().any(is_proxy)
        {
            return Ok(None);
        }
        let Some((recorder, certificate)) = cache.step() else { return Ok(None) };
        let mut trusted = file::read_limited(bundle, BUNDLE_BYTES_MAX).map_err(CopyError::from)?;
        trusted.push(b'\n');
        trusted.extend_from_slice(certificate.as_bytes());
        let mut mounts = Vec::new();
        let mut bind = |target: &str, source: PathBuf| {
            let kind = StepMountKind::Bind { source, readonly: true };
            mounts.push(StepMount { target: PathBuf::from(target), kind });
        };
        let path = self.staged_file(execution, "downloads.crt", &trusted, 0o644)?;
        bind(downloads::CERTIFICATES, super::step::absolute(&path)?);
        if tools.contains(&Tool::Npm) {
            let own = certificate.as_bytes();
            let path = self.staged_file(execution, "downloads-own.crt", own, 0o644)?;
            bind(downloads::OWN_CERTIFICATE, super::step::absolute(&path)?);
        }
        if tools.contains(&Tool::Apt) {
            let config = downloads::apt_config();
            let path = self.staged_file(execution, "apt.conf", config.as_bytes(), 0o644)?;
            bind(APT_CONFIG, super::step::absolute(&path)?);
        }
        Ok(Some(Downloads { recorder, env, mounts }))
    }

    fn staged_file(
        &mut self,
        execution: &Execution<'_>,
        name: &str,
        content: &[u8],
        mode: u32,
    ) -> Result<PathBuf, StepError> {
        let staging = execution.tools.store.stage()?;
        let path = staging.tree().join(name);
        write_file(&path, content, mode)?;
        self.stagings.push(staging);
        Ok(path)
    }
}

/// A directory or file that shows exactly what is to be mounted, without a copy: in a context where
/// the ignore file hides nothing of it, in a stage where one layer alone has it.
fn as_it_is(
    execution: &Execution<'_>,
    mount: &RunMount,
    input: &Input,
    source: &str,
    index: usize,
) -> Result<Option<PathBuf>, StepError> {
    if let Some(context) = execution.contexts.get(input) {
        let found = found_in(execution, mount, context, input, source)?;
        return Ok((!context.hides_below(&found)?).then(|| found.host_path()));
    }
    let Some(output) = execution.inputs.get(index).and_then(Option::as_ref) else {
        return Ok(None);
    };
    let files = output.files()?;
    let found = found_in(execution, mount, files, input, source)?;
    Ok(files.alone(&found)?)
}

fn found_in(
    execution: &Execution<'_>,
    mount: &RunMount,
    files: &dyn Files,
    input: &Input,
    source: &str,
) -> Result<Found, StepError> {
    crate::files::resolve(files, source.as_bytes(), true)?.ok_or_else(|| StepError::MountSource {
        path: source.to_owned(),
        input: execution.graph.input_name(input),
        near: crate::files::near(files, source.as_bytes()),
        span: mount.span,
    })
}

/// Copies what a mount shows to `source` in a directory.
fn copy_files(
    execution: &Execution<'_>,
    mount: &RunMount,
    index: usize,
    tree: &Path,
    spool: &Path,
) -> Result<(), StepError> {
    let Some(op) = mount_copy(mount) else { return Ok(()) };
    let Some(selection) = execution.selections.get(index).and_then(Option::as_deref) else {
        return Ok(());
    };
    let keeps_metadata = matches!(op.input, Input::Stage(_));
    let place = execution.place(tree, spool);
    let below = &NoFiles;
    Ok(copy::copy(&Copying { op: &op, selection, keeps_metadata, below, owner: None }, &place)?)
}

/// Fills a cache from one of another machine, if it is absent or empty; its lock is held alone.
fn restore(execution: &Execution<'_>, directory: &Path) -> Result<bool, StepError> {
    let Tools { imports, store, reporter, .. } = execution.tools;
    let Some(name) = directory.file_name().and_then(|name| name.to_str()) else {
        return Ok(false);
    };
    if imports.is_empty() || !cache::is_vacant(directory).map_err(CopyError::from)? {
        return Ok(false);
    }
    Ok(imports.fill_mount(name, directory, store, *reporter))
}

/// A cache that is about to be used.
#[derive(Clone, Copy)]
struct CachePlace<'a> {
    execution: &'a Execution<'a>,
    mount: &'a RunMount,
    index: usize,
    root: &'a Path,
}

impl CachePlace<'_> {
    /// Makes it if it is not there, and gives a new one its owner and mode.
    fn complete(self, directory: &Path, mut is_new: bool) -> Result<(), StepError> {
        let RunMountKind::Cache { seed, mode, uid, gid, .. } = &self.mount.kind else {
            return Ok(());
        };
        let Self { execution, mount, index, root } = self;
        if !file::exists(directory).map_err(CopyError::from)? {
            make_cache(execution, mount, index, root, directory, seed.is_some())?;
            is_new = true;
        }
        if is_new {
            file::set_mode(directory, *mode).map_err(CopyError::from)?;
            set_owner(directory, *uid, *gid)?;
        }
        Ok(())
    }

    /// Makes it one that can be a part of a root, if the file system can do that. Its lock is held
    /// alone.
    fn link(self, name: &str, target: &TreePath) -> Result<(), StepError> {
        let store = self.execution.tools.store;
        let is_ready = match linked_cache(self.execution, name)? {
            Some(cache) if cache.target == *target => {
                let directory = cache.lower.join(as_path(target));
                self.execution.tools.imports.is_empty()
                    || !cache::is_vacant(&directory).map_err(CopyError::from)?
            }
            _ => false,
        };
        if !is_ready {
            store.settle_cache_mount(name)?;
            let directory = self.root.join(name);
            let is_new = restore(self.execution, &directory)?;
            self.complete(&directory, is_new)?;
        }
        store.link_cache_mount(name, target, self.execution.stage.epoch)?;
        Ok(())
    }
}

/// Makes a cache an ordinary directory, if it is the store's. Its lock is held alone.
fn settle(execution: &Execution<'_>, name: &str) -> Result<(), StepError> {
    if execution.options.run.cache_directory.is_none() {
        execution.tools.store.settle_cache_mount(name)?;
    }
    Ok(())
}

fn linked_cache(execution: &Execution<'_>, name: &str) -> Result<Option<LinkedCache>, StepError> {
    if execution.options.run.cache_directory.is_some() {
        return Ok(None);
    }
    Ok(execution.tools.store.linked_cache_mount(name)?)
}

/// Makes a cache beside its place and moves it there, so that it is there whole or not at all.
fn make_cache(
    execution: &Execution<'_>,
    mount: &RunMount,
    index: usize,
    root: &Path,
    directory: &Path,
    seeded: bool,
) -> Result<(), StepError> {
    let staging = execution.tools.store.stage()?;
    if seeded {
        copy_files(execution, mount, index, staging.tree(), staging.work())?;
    }
    let from = staging.tree().join("source");
    if !file::exists(&from).map_err(CopyError::from)? {
        file::create_dir(&from, 0o755).map_err(CopyError::from)?;
    }
    match file::rename_new(&from, directory) {
        Ok(()) => {}
        // Another step made it at the same time.
        Err(error) if error.is_already_exists() => {}
        Err(error) => return Err(CopyError::from(error).into()),
    }
    file::sync_dir(root).map_err(CopyError::from)?;
    Ok(())
}

fn cache_root(execution: &Execution<'_>) -> PathBuf {
    let configured = execution.options.run.cache_directory.clone();
    configured.unwrap_or_else(|| execution.tools.store.cache_mounts_dir())
}

fn write_file(path: &Path, content: &[u8], mode: u32) -> Result<(), CopyError> {
    let file = file::create_new(path, 0o600)?;
    file::write_all(&file, path, content)?;
    Ok(file::set_mode(path, mode)?)
}

fn set_owner(path: &Path, uid: u32, gid: u32) -> Result<(), CopyError> {
    if (uid, gid) == (0, 0) {
        return Ok(());
    }
    let changed: Result<(), IoError> = std::os::unix::fs::chown(path, Some(uid), Some(gid))
        .map_err(at("change the owner of", path));
    changed.map_err(|source| CopyError::SetOwner {
        path: TreePath::clean(b"").unwrap_or_else(|_| TreePath::root()),
        uid,
        gid,
        source,
    })
}
