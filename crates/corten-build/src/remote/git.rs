//! Git repositories, by the `git` program of this machine.
//!
//! The program gets an environment of our own: no configuration of the system or the user, no
//! prompts, no hooks. Credentials are handed over in the environment, where only the same user can
//! see them. A commit that was checked out once is a layer of the store and not fetched again.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use corten_record::recorded_url;
use corten_store::{CacheKey, Layer, Seal, Staging, StepRecord};
use corten_sys::beneath::{Dir, FileKind, Resolve, Root};
use corten_sys::command::Command;
use corten_sys::error::IoError;
use corten_sys::process::Ended;

use super::address::{is_hex, is_whole_commit, without_credentials};
use super::credentials;
use super::{Address, Fetched, Fetching, GitSource, Held, RemoteError};
use crate::key::KeyHasher;
use crate::recording::SourceMaterial;

/// What a server may list: the largest repositories have some hundred thousand names.
const OUTPUT_BYTES_MAX: u64 = 64 << 20;

/// When a commit was made, in the record of its files.
const COMMIT_TIME: &str = "commit-time";

/// How many of the last lines of a failed command are shown.
const LINES_MAX: usize = 4;

/// What the transfer may do. No files of this machine, and no helpers.
const PROTOCOLS: &str = "https:http:git:ssh";

/// The `git` program and what it may know of the caller.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct GitOptions {
    /// The program; without it there are no repositories.
    pub program: Option<PathBuf>,
    /// Variables for it: `PATH`, proxies, `SSH_AUTH_SOCK`, certificates.
    pub environment: Vec<(String, String)>,
}

impl std::fmt::Debug for GitOptions {
    /// Proxies may have passwords, so no value is shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GitOptions").field("program", &self.program).finish_non_exhaustive()
    }
}

/// Checks a repository out, or finds that it was done before.
pub(crate) fn fetch(fetching: &Fetching<'_>, source: &GitSource) -> Result<Fetched, RemoteError> {
    let git = Git::new(fetching, source)?;
    let pin = git.pinned()?;
    let found = git.settle(pin.as_deref())?;
    if let Some(expected) = source.commit.as_ref().filter(|commit| !found.id.starts_with(*commit))
        && found.is_whole()
    {
        return Err(git.wrong_commit(expected, &found.id));
    }
    let known = if found.is_whole() { git.known(&found.id)? } else { None };
    let (layer, time, commit) = match known {
        Some((layer, time)) => (layer, time, found.id.clone()),
        None if fetching.is_offline => {
            return Err(RemoteError::Offline { address: git.address() });
        }
        None => git.check_out(&found)?,
    };
    if let (Some(expected), Some(lock)) = (pin, fetching.lock)
        && expected != commit
    {
        let (address, lock) = (git.address(), lock.name.clone());
        return Err(RemoteError::Differs { address, lock, expected, found: commit });
    }
    let material = Some(Box::new(SourceMaterial::Git {
        url: recorded_url(source.address.shown()),
        reference: source.reference.clone(),
        commit,
    }));
    let path = source.directory.clone();
    check_directory(&layer, source)?;
    let held = Held::Layer(layer);
    Ok(Fetched { held, path, modified: None, time: Some(time), material })
}

/// The directory must be there, and one.
fn check_directory(layer: &Layer, source: &GitSource) -> Result<(), RemoteError> {
    if source.directory.is_empty() {
        return Ok(());
    }
    let root = Root::open(&layer.path)?;
    match root.open_dir(Path::new(&source.directory), Resolve::InRoot) {
        Ok(_) => Ok(()),
        Err(_) => Err(RemoteError::NoDirectory {
            address: source.address.to_string(),
            path: source.directory.clone(),
        }),
    }
}

/// What a name stands for.
struct Found {
    /// The commit, or its first digits.
    id: String,
    /// The name in the repository; absent when the commit itself was asked for.
    name: Option<String>,
}

impl Found {
    fn is_whole(&self) -> bool {
        is_whole_commit(&self.id)
    }
}

struct Git<'a> {
    fetching: &'a Fetching<'a>,
    source: &'a GitSource,
    program: &'a Path,
}

impl<'a> Git<'a> {
    fn new(fetching: &'a Fetching<'a>, source: &'a GitSource) -> Result<Self, RemoteError> {
        let program = fetching.remotes.git.program.as_deref();
        let program =
            program.ok_or_else(|| RemoteError::NoGit { address: source.address.to_string() })?;
        Ok(Self { fetching, source, program })
    }

    fn address(&self) -> String {
        self.source.address.to_string()
    }

    fn wrong_commit(&self, expected: &str, found: &str) -> RemoteError {
        let (expected, found) = (expected.to_owned(), found.to_owned());
        RemoteError::Commit { address: self.address(), expected, found }
    }

    /// Asks the repository what the name stands for: a branch, else a tag, else any other name.
    fn look_up(&self) -> Result<Found, RemoteError> {
        let reference = self.source.reference.as_deref();
        if let Some(commit) = reference.filter(|text| is_whole_commit(text)) {
            return Ok(Found { id: commit.to_owned(), name: None });
        }
        let wanted = reference.unwrap_or("HEAD");
        let peeled = format!("{wanted}^{{}}");
        let shown = self.source.address.shown();
        let listed = self.run(None, &["ls-remote", "--quiet", "--", shown, wanted, &peeled])?;
        let names: Vec<(&str, &str)> =
            listed.lines().filter_map(|line| line.split_once('\t')).collect();
        let id_of = |name: &str| {
            let id = |name: &str| names.iter().find(|(_, known)| *known == name).map(|pair| pair.0);
            // An annotated tag names its commit in a line of its own.
            id(&format!("{name}^{{}}")).or_else(|| id(name))
        };
        let bare = wanted.strip_prefix("refs/").unwrap_or(wanted);
        let candidates = [
            wanted.to_owned(),
            format!("refs/heads/{wanted}"),
            format!("refs/tags/{wanted}"),
            format!("refs/{bare}"),
        ];
        for name in candidates {
            if let Some(id) = id_of(&name).filter(|id| is_whole_commit(id)) {
                return Ok(Found { id: id.to_owned(), name: Some(name) });
            }
        }
        // It may be the beginning of a commit, which servers cannot look up.
        if (7..40).contains(&wanted.len()) && is_hex(wanted) {
            return Ok(Found { id: wanted.to_owned(), name: None });
        }
        let reference = wanted.to_owned();
        Err(RemoteError::NoReference { address: self.address(), reference })
    }

    /// The key under which a commit is known. It has all that the files depend on.
    fn key(&self, commit: &str) -> CacheKey {
        let mut key = KeyHasher::new("git");
        key.text(self.source.address.shown()).text(commit);
        key.flag(self.source.keep_git_dir).flag(self.source.submodules);
        key.into_key()
    }

    /// The files of a commit and when it was made.
    fn known(&self, commit: &str) -> Result<Option<(Layer, i64)>, RemoteError> {
        let store = self.fetching.store;
        let Some(record) = store.step(&self.key(commit))? else { return Ok(None) };
        let time = record.payload.get(COMMIT_TIME).and_then(serde_json::Value::as_i64);
        match (record.layer, time) {
            (Some(id), Some(time)) => Ok(store.layer(&id)?.map(|layer| (layer, time))),
            _ => Ok(None),
        }
    }

    /// The commit that a lock has for this.
    fn pinned(&self) -> Result<Option<String>, RemoteError> {
        let Some(lock) = self.fetching.lock else { return Ok(None) };
        let url = recorded_url(self.source.address.shown());
        let found = lock.materials.sources.iter().find_map(|known| match known {
            SourceMaterial::Git { url: known, reference, commit }
                if *known == url && *reference == self.source.reference =>
            {
                Some(commit.clone())
            }
            _ => None,
        });
        let (address, lock) = (self.address(), lock.name.clone());
        found.map(Some).ok_or(RemoteError::NotLocked { address, lock })
    }

    /// Takes the commit of a lock if it is here already, else asks what the name stands for.
    fn settle(&self, pin: Option<&str>) -> Result<Found, RemoteError> {
        match pin {
            Some(pin) if self.fetching.is_offline || self.known(pin)?.is_some() => {
                Ok(Found { id: pin.to_owned(), name: None })
            }
            _ => self.look_up(),
        }
    }

    fn check_out(&self, found: &Found) -> Result<(Layer, i64, String), RemoteError> {
        self.fetching.say(format!("fetching `{}`", self.source.address));
        let store = self.fetching.store;
        let staging = store.stage()?;
        let tree = staging.tree();
        self.run(Some(tree), &["init", "--quiet", "--template=", "."])?;
        // Without credentials: the file may be kept, and submodules count from this address.
        self.run(Some(tree), &["config", "remote.origin.url", self.source.address.shown()])?;
        self.fetch_commit(&staging, found)?;
        let commit = self.resolve(tree, found)?;
        if let Some(expected) = self.source.commit.as_ref().filter(|c| !commit.starts_with(*c)) {
            return Err(self.wrong_commit(expected, &commit));
        }
        self.run(Some(tree), &["checkout", "--quiet", "--force", "--detach", &commit])?;
        let time = self.time_of(tree, &commit)?;
        if self.source.submodules && corten_sys::file::exists(&tree.join(".gitmodules"))? {
            self.run(
                Some(tree),
                &["submodule", "--quiet", "update", "--init", "--recursive", "--depth=1"],
            )?;
        }
        tidy(&Dir::open(tree)?, self.source.keep_git_dir)?;
        let layer = store.commit(staging, &Seal { epoch: Some(0), drop: &[] })?;
        let payload = serde_json::json!({ COMMIT_TIME: time });
        let record = StepRecord { layer: Some(layer.id), payload, blobs: Vec::new() };
        store.put_step(&self.key(&commit), &record)?;
        Ok((layer, time, commit))
    }

    /// When a commit was made, in seconds since 1970.
    fn time_of(&self, tree: &Path, commit: &str) -> Result<i64, RemoteError> {
        let format = ["show", "--quiet", "--no-show-signature", "--format=%ct", commit];
        let told = self.run(Some(tree), &format)?;
        told.lines().find_map(|line| line.trim().parse().ok()).ok_or_else(|| {
            let told = format!("`git` tells no time of the commit `{commit}`");
            RemoteError::Git { address: self.address(), told }
        })
    }

    /// Fetches as little as the server allows.
    fn fetch_commit(&self, staging: &Staging, found: &Found) -> Result<(), RemoteError> {
        let tree = Some(staging.tree());
        let wanted = found.name.as_deref().unwrap_or(&found.id);
        let shallow = ["fetch", "--quiet", "--no-tags", "--depth=1", "origin", wanted];
        if found.name.is_some() {
            return self.run(tree, &shallow).map(drop);
        }
        // Not every server gives a commit that no name stands for.
        if found.is_whole() && self.run(tree, &shallow).is_ok() {
            return Ok(());
        }
        let all = "+refs/heads/*:refs/remotes/origin/*";
        self.run(tree, &["fetch", "--quiet", "--tags", "origin", all]).map(drop)
    }

    fn resolve(&self, tree: &Path, found: &Found) -> Result<String, RemoteError> {
        let name = match &found.name {
            Some(_) => "FETCH_HEAD^{commit}".to_owned(),
            None => format!("{}^{{commit}}", found.id),
        };
        let told = self.run(Some(tree), &["rev-parse", "--quiet", "--verify", &name]);
        let missing =
            || RemoteError::NoReference { address: self.address(), reference: found.id.clone() };
        let told = told.map_err(|_| missing())?;
        let commit = told.lines().map(str::trim).find(|line| is_whole_commit(line));
        commit.map(ToOwned::to_owned).ok_or_else(missing)
    }

    /// Runs `git` in a directory, or where there is no repository.
    fn run(&self, directory: Option<&Path>, arguments: &[&str]) -> Result<String, RemoteError> {
        let directory = directory.unwrap_or_else(|| self.fetching.store.root());
        let mut command = Command::new(self.program).name("git");
        command = command.arg("-C").arg(directory).args(arguments.iter().copied());
        for (name, value) in &self.fetching.remotes.git.environment {
            command = command.env(name, value);
        }
        let authorization =
            credentials::for_repository(self.fetching.remotes, &self.source.address)?;
        for (name, value) in variables(&self.source.address, authorization.as_deref()) {
            command = command.env(&name, value);
        }
        let (report, output) = command.output(OUTPUT_BYTES_MAX).map_err(RemoteError::StartGit)?;
        let output = String::from_utf8_lossy(&output).into_owned();
        match report.ended {
            Ended::Code(0) => Ok(output),
            ended => Err(RemoteError::Git { address: self.address(), told: told(&output, ended) }),
        }
    }
}

/// The environment that makes `git` depend on nothing but its arguments.
pub(super) fn variables(address: &Address, authorization: Option<&str>) -> Vec<(String, String)> {
    // Credentials are for everything of that host, so for submodules there too.
    let host = address.of_host();
    let with_credentials = format!("url.{}.insteadOf", host.with_credentials());
    let mut settings = vec![
        ("core.hooksPath", "/dev/null"),
        ("core.autocrlf", "false"),
        ("core.symlinks", "true"),
        ("core.fileMode", "true"),
        ("advice.detachedHead", "false"),
        ("init.defaultBranch", "main"),
        ("protocol.allow", "always"),
        // A server that sends less than this for a minute has stalled.
        ("http.lowSpeedLimit", "100"),
        ("http.lowSpeedTime", "60"),
        ("gc.auto", "0"),
        ("fetch.fsckObjects", "true"),
        ("safe.directory", "*"),
    ];
    if host.has_credentials() {
        settings.push((&with_credentials, host.shown()));
    }
    let header_name = format!("http.{}.extraHeader", host.shown());
    let header = authorization.map(|value| format!("Authorization: {value}"));
    if let Some(header) = &header {
        settings.push((&header_name, header));
    }
    let fixed = [
        ("HOME", "/dev/null"),
        ("LC_ALL", "C"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_ATTR_NOSYSTEM", "1"),
        ("GIT_TERMINAL_PROMPT", "0"),
        ("GIT_ALLOW_PROTOCOL", PROTOCOLS),
        ("GIT_SSH_COMMAND", "ssh -F /dev/null -o BatchMode=yes"),
    ];
    let mut variables: Vec<(String, String)> =
        fixed.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    variables.push(("GIT_CONFIG_COUNT".to_owned(), settings.len().to_string()));
    for (index, (name, value)) in settings.into_iter().enumerate() {
        variables.push((format!("GIT_CONFIG_KEY_{index}"), name.to_owned()));
        variables.push((format!("GIT_CONFIG_VALUE_{index}"), value.to_owned()));
    }
    variables
}

/// What a failed command said last, without credentials.
fn told(output: &str, ended: Ended) -> String {
    let lines: Vec<&str> = output.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let last = lines.get(lines.len().saturating_sub(LINES_MAX)..).unwrap_or_default();
    match (last.is_empty(), ended) {
        (false, _) => without_credentials(&last.join("; ")),
        (true, Ended::Code(code)) => format!("`git` ended with code {code}"),
        (true, Ended::Signal(signal)) => format!("`git` was killed by signal {signal}"),
    }
}

/// Gives files the modes that git knows, whatever the umask is, and removes what git keeps of itself.
fn tidy(directory: &Dir, keep: bool) -> Result<(), IoError> {
    for entry in directory.list()? {
        let name = entry.name.as_os_str();
        if name == OsStr::from_bytes(b".git") {
            if !keep {
                directory.remove_tree(name)?;
            }
            continue;
        }
        let stat = directory.stat(name)?;
        match stat.kind {
            FileKind::Directory => {
                directory.set_mode(name, 0o755)?;
                tidy(&directory.open_dir(name)?, keep)?;
            }
            FileKind::File => {
                let mode = if stat.mode & 0o100 == 0 { 0o644 } else { 0o755 };
                directory.set_mode(name, mode)?;
            }
            _ => {}
        }
    }
    Ok(())
}
