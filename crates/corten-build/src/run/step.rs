//! A `RUN` is prepared, handed to the executor, and what it wrote becomes the layer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corten_diag::{Event, StepId};
use corten_oci::tree::TreePath;
use corten_runtime::user::{self, User};
use corten_store::{Layer, Staging};
use corten_sys::error::at;
use corten_sys::file;

use super::mounts::{self, Prepared};
use super::{RunStep, StepLimits, StepMountKind, tidy};
use crate::copy::owner::Databases;
use crate::copy::{self, CopyError};
use crate::diagnose::{StepError, Tail};
use crate::execute::Execution;
use crate::graph::{RunOp, WorkdirOp};
use crate::plan::scope::PROXY_ARGS;

/// Before this time no zip file can be: programs that make one fail. It is 1980-01-01.
const ZIP_EPOCH: i64 = 315_532_800;

/// Variables that name a file with certificates, by who reads them: OpenSSL and Go, requests, pip,
/// curl, Node.js, git.
const CERTIFICATE_VARIABLES: [&str; 6] = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
];

/// The variable that names a further configuration file of apt.
const APT_VARIABLE: &str = "APT_CONFIG";

/// Runs a step and makes its layer.
pub(crate) fn run(execution: &Execution<'_>, op: &RunOp) -> Result<Layer, StepError> {
    let staging = execution.tools.store.stage()?;
    let databases = Databases::read(execution.below.files()?.snapshot())?;
    let user = user::resolve(&databases.passwd, &databases.group, &op.user)?;
    make_cwd(execution, op, &staging)?;
    let prepared = mounts::prepare(execution, op)?;
    let step = make_step(execution, op, &staging, &user, &prepared)?;
    let mut tail = Tail::default();
    let number = StepId(execution.step.number);
    let outcome = execution.tools.executor.run(&step, &mut |stream, bytes| {
        tail.push(bytes);
        let bytes = bytes.to_vec();
        execution.tools.reporter.report(Event::StepOutput { step: number, stream, bytes });
    })?;
    if outcome.code != 0 {
        let memory_limit = step.limits.memory_bytes;
        return Err(StepError::Command { outcome, output: tail, memory_limit });
    }
    let targets: Vec<&Path> = step.mounts.iter().map(|mount| mount.target.as_path()).collect();
    tidy::tidy(staging.tree(), execution.below.files()?, &targets)?;
    drop(prepared);
    Ok(execution.tools.store.commit(staging, &execution.seal())?)
}

/// Makes the working directory where the image lacks it, as Docker does.
fn make_cwd(execution: &Execution<'_>, op: &RunOp, staging: &Staging) -> Result<(), StepError> {
    let below = execution.below.files()?;
    if op.cwd == "/" || crate::files::resolve(below, op.cwd.as_bytes(), true)?.is_some() {
        return Ok(());
    }
    let workdir = WorkdirOp { path: op.cwd.clone(), user: String::new() };
    let place = execution.place(staging.tree(), staging.work());
    Ok(copy::workdir(&workdir, below, None, &place)?)
}

fn make_step(
    execution: &Execution<'_>,
    op: &RunOp,
    staging: &Staging,
    user: &User,
    prepared: &Prepared,
) -> Result<RunStep, StepError> {
    let options = &execution.options.run;
    let mut mounts = prepared.mounts.clone();
    for mount in &mut mounts {
        if let StepMountKind::Bind { source, .. } = &mut mount.kind {
            *source = absolute(source)?;
        }
    }
    let lowers = corten_store::overlay_lowers(&execution.below.layers);
    Ok(RunStep {
        id: format!("build-{}", corten_sys::random::name()),
        args: op.args.clone(),
        env: environment(execution, op, user, prepared),
        cwd: PathBuf::from(&op.cwd),
        uid: user.uid,
        gid: user.gid,
        additional_gids: user.additional_gids.clone(),
        network: op.network,
        hostname: op.hostname.clone(),
        mounts,
        lowers: lowers.iter().map(|path| absolute(path)).collect::<Result<_, _>>()?,
        upper: absolute(staging.tree())?,
        work: absolute(staging.work())?,
        limits: StepLimits {
            memory_bytes: options.memory_bytes,
            cpu_millis: options.cpu_millis,
            pids: options.pids,
        },
        cancelled: Arc::clone(execution.cancelled),
    })
}

/// A path of the host that means the same in every directory: contexts and stores may be given by a
/// relative one.
fn absolute(path: &Path) -> Result<PathBuf, StepError> {
    Ok(std::path::absolute(path).map_err(at("resolve", path)).map_err(CopyError::from)?)
}

/// The environment: what the Dockerfile says, and what programs need without the image having it.
fn environment(
    execution: &Execution<'_>,
    op: &RunOp,
    user: &User,
    prepared: &Prepared,
) -> Vec<(String, String)> {
    let mut env = op.env.clone();
    let mut add = |name: &str, value: String| {
        if !env.iter().any(|(known, _)| known == name) {
            env.push((name.to_owned(), value));
        }
    };
    add("HOME", user.home.clone());
    add("SOURCE_DATE_EPOCH", execution.stage.epoch.max(ZIP_EPOCH).to_string());
    add("PYTHONHASHSEED", "0".to_owned());
    for (name, value) in proxies(execution) {
        add(&name, value);
    }
    if let Some(path) = &prepared.certificates {
        for name in CERTIFICATE_VARIABLES {
            add(name, path.clone());
        }
    }
    if let Some(path) = &prepared.apt_config {
        add(APT_VARIABLE, path.clone());
    }
    for (name, value) in &prepared.secret_variables {
        env.retain(|(known, _)| known != name);
        env.push((name.clone(), value.clone()));
    }
    env
}

/// Proxy variables by the caller and by undeclared build arguments, in both spellings.
fn proxies(execution: &Execution<'_>) -> BTreeMap<String, String> {
    let arguments = &execution.options.build_args;
    let mut proxies = BTreeMap::new();
    for name in PROXY_ARGS {
        let other = if name.chars().all(|c| c.is_ascii_lowercase() || c == '_') {
            name.to_ascii_uppercase()
        } else {
            name.to_ascii_lowercase()
        };
        let given = arguments.get(name).or_else(|| arguments.get(&other));
        let configured = &execution.options.run.proxy;
        let value = given.or_else(|| configured.get(name)).or_else(|| configured.get(&other));
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            proxies.insert(name.to_owned(), value.clone());
        }
    }
    proxies
}

/// Removes a directory that was made for a step, at the end of its life.
#[derive(Debug)]
pub(crate) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    /// Makes a directory that only its owner may enter.
    pub(crate) fn create(path: PathBuf) -> Result<Self, CopyError> {
        file::create_dir(&path, 0o700)?;
        Ok(Self { path })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed has a random name in a directory for temporary files.
        drop(file::remove_tree(&self.path));
    }
}

/// A path of the container as a path in a tree.
pub(crate) fn tree_path(path: &Path) -> TreePath {
    use std::os::unix::ffi::OsStrExt as _;
    TreePath::clean(path.as_os_str().as_bytes()).unwrap_or_else(|_| TreePath::root())
}
