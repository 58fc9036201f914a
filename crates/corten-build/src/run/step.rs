//! A `RUN` is prepared, handed to the executor, and what it wrote becomes the layer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corten_diag::{Event, StepId};
use corten_oci::tree::TreePath;
use corten_record::{LISTEN_PORT, Refusal};
use corten_runtime::Network;
use corten_runtime::cdi::Injection;
use corten_runtime::user::{self, User};
use corten_store::Staging;
use corten_sys::file;

use super::downloads;
use super::mounts::{self, Prepared};
use super::normalise::{Normal, normalise};
use super::{ExecError, RunOutcome, RunStep, StepLimits, StepMountKind};
use crate::copy::owner::Databases;
use crate::copy::{self, CopyError};
use crate::diagnose::{StepError, Tail};
use crate::execute::{Execution, Made};
use crate::graph::{RunOp, WorkdirOp};
use crate::plan::scope::PROXY_ARGS;
use crate::recording::Session;
use crate::traits::Executor;

/// Before this time no zip file can be: programs that make one fail. It is 1980-01-01.
const ZIP_EPOCH: i64 = 315_532_800;

/// Variables that name a file with certificates, by who reads them: OpenSSL and Go, requests, pip,
/// curl, Node.js, git, cargo.
pub(super) const CERTIFICATE_VARIABLES: [&str; 7] = [
    "SSL_CERT_FILE",
    "REQUESTS_CA_BUNDLE",
    "PIP_CERT",
    "CURL_CA_BUNDLE",
    "NODE_EXTRA_CA_CERTS",
    "GIT_SSL_CAINFO",
    "CARGO_HTTP_CAINFO",
];

const BASH: &str = "/bin/bash";

/// The variable that names a further configuration file of apt.
const APT_VARIABLE: &str = "APT_CONFIG";

/// The variable that names the configuration file of wget, which reads no other variable.
const WGET_VARIABLE: &str = "WGETRC";

/// Variables by which programs find a proxy.
const RECORDER_VARIABLES: [&str; 4] = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"];

/// Runs a step and makes its layer.
pub(crate) fn run(execution: &Execution<'_>, op: &RunOp) -> Result<Made, StepError> {
    let mut trouble = None;
    let made = attempt(execution, op, &mut trouble);
    let is_cancelled = execution.cancelled.load(std::sync::atomic::Ordering::Relaxed);
    let (true, Some(reason)) = (made.is_err() && !is_cancelled, trouble) else { return made };
    // The cache must never be why a build fails, so the step has its say without it.
    execution.tools.reporter.report(Event::Notice(format!(
        "the step is done again without the cache of downloads: {reason}"
    )));
    let without = Execution { downloads: None, ..*execution };
    attempt(&without, op, &mut None)
}

/// The same, once; what went wrong with the cache of downloads is told in `trouble`.
fn attempt(
    execution: &Execution<'_>,
    op: &RunOp,
    trouble: &mut Option<String>,
) -> Result<Made, StepError> {
    let session = recorded(execution, op)?;
    let recorder = session.map(|session| session.recorder.step());
    let staging = execution.tools.store.stage()?;
    let databases = Databases::read(execution.below.files()?.snapshot())?;
    let user = user::resolve(&databases.passwd, &databases.group, &op.user)?;
    make_cwd(execution, op, &staging)?;
    let mut prepared = mounts::prepare(execution, op)?;
    let mut step = make_step(execution, op, &staging, &user, &prepared)?;
    let tools = downloads::tools(execution, op, &step.env, &user.home);
    step.downloads = prepared.downloads(execution, &tools, &step)?;
    if let Some(recorder) = &recorder {
        speak_to_recorder(&mut step.env);
        step.recorder = Some(recorder.clone());
    }
    let mut tail = Tail::default();
    let number = StepId(execution.step.number);
    let outcome = execution.tools.executor.run(&step, &mut |stream, bytes| {
        tail.push(bytes);
        let bytes = bytes.to_vec();
        execution.tools.reporter.report(Event::StepOutput { step: number, stream, bytes });
    });
    let told = recorder.as_ref().map(|recorder| recorder.finish(execution.cancelled));
    *trouble = trouble_of(&step, &outcome, &tail, execution);
    let outcome = outcome?;
    if outcome.code != 0 && !execution.options.run.shell_on_error {
        save_caches(execution, &prepared, &staging);
    }
    if let Some(told) = &told
        && told.refusals.iter().any(Refusal::is_fatal)
    {
        let lock = session.and_then(|session| session.lock);
        let lock = lock.map_or_else(String::new, |lock| lock.name.clone());
        return Err(StepError::Refused { told: Box::new(told.clone()), lock });
    }
    if outcome.code != 0 {
        let memory_limit = step.limits.memory_bytes;
        let kept = if execution.options.run.shell_on_error {
            let shell = shell(execution, op)?;
            Some(Box::new(Kept { step: RunStep { args: vec![shell], ..step }, staging, prepared }))
        } else {
            None
        };
        return Err(StepError::Command {
            outcome,
            output: tail,
            memory_limit,
            told: told.map(Box::new),
            kept,
        });
    }
    tidy(execution, &step, &prepared, &staging)?;
    drop(prepared);
    if op.normalise {
        let operation = crate::define::operation(execution.step, execution.stage.epoch);
        let below = execution.below.files()?;
        normalise(staging.tree(), &Normal { epoch: execution.stage.epoch, operation, below })?;
    }
    let layer = execution.tools.store.commit(staging, &execution.seal())?;
    let fetched = match told {
        Some(told) => Some(told.fetched),
        // Nothing can come over a network that is not there.
        None => execution.session.map(|_| Vec::new()),
    };
    Ok(Made { layer, fetched })
}

/// Keeps what a failed step has written to its caches: it is of use to the next attempt.
fn save_caches(execution: &Execution<'_>, prepared: &Prepared, staging: &Staging) {
    if let Err(error) = prepared.take_caches(execution, staging) {
        execution.tools.reporter.report(Event::Warning(format!(
            "what the step wrote to its cache mounts is lost: {error}"
        )));
    }
}

/// Leaves in what a step wrote nothing of what it had mounted.
fn tidy(
    execution: &Execution<'_>,
    step: &RunStep,
    prepared: &Prepared,
    staging: &Staging,
) -> Result<(), StepError> {
    prepared.take_caches(execution, staging)?;
    let caches = prepared.cache_targets();
    let targets = step.mounts.iter().map(|mount| mount.target.as_path());
    let targets = targets.chain(step.devices.targets());
    let targets: Vec<&Path> = targets.chain(caches.iter().map(PathBuf::as_path)).collect();
    super::tidy::tidy(staging.tree(), execution.below.files()?, &targets)
}

/// Ends the cache of downloads of a step; returns what may have made the step fail.
fn trouble_of(
    step: &RunStep,
    outcome: &Result<RunOutcome, ExecError>,
    tail: &Tail,
    execution: &Execution<'_>,
) -> Option<String> {
    let downloads = step.downloads.as_ref()?;
    let told = downloads.recorder.finish(execution.cancelled);
    match outcome {
        Err(error) => Some(error.to_string()),
        Ok(_)
            if downloads.recorder.has_served()
                && downloads::tells_of_digests(&tail.lines().join("\n")) =>
        {
            Some("a digest was not what the tool expected".to_owned())
        }
        Ok(_) => told.failures.into_iter().next(),
    }
}

/// The session that answers what the step asks for; `None` if nobody does, or if it cannot ask.
fn recorded<'e>(
    execution: &Execution<'e>,
    op: &RunOp,
) -> Result<Option<&'e Session<'e>>, StepError> {
    let Some(session) = execution.session else { return Ok(None) };
    match op.network {
        Network::None => Ok(None),
        // The host's network is refused before anything is done.
        Network::Default | Network::Host | Network::User => {
            let is_offline = session.recorder.is_offline();
            let missing = if is_offline { session.recorder.missing()? } else { Vec::new() };
            if missing.is_empty() { Ok(Some(session)) } else { Err(StepError::Missing { missing }) }
        }
    }
}

/// Leads programs to the recorder, whatever the image or the caller says about proxies. As with
/// those, nothing of it is in the image or in a key.
fn speak_to_recorder(env: &mut Vec<(String, String)>) {
    let address = format!("http://127.0.0.1:{LISTEN_PORT}");
    env.retain(|(name, _)| !PROXY_ARGS.contains(&name.as_str()));
    for name in RECORDER_VARIABLES {
        env.push((name.to_owned(), address.clone()));
    }
    for name in ["NO_PROXY", "no_proxy"] {
        env.push((name.to_owned(), String::new()));
    }
}

/// A failed step, as long as somebody may want to look at it.
#[derive(Debug)]
pub(crate) struct Kept {
    /// With a shell for its program.
    step: RunStep,
    /// What it has written.
    staging: Staging,
    #[expect(dead_code, reason = "its mounts are held, not read")]
    prepared: Prepared,
}

impl Kept {
    /// Opens the shell and waits until it is left.
    pub(crate) fn open(&self, executor: &dyn Executor) -> Result<(), ExecError> {
        // Overlayfs marks the work directory of a mount that was not synced, and refuses it then.
        // Nothing was lost here: no power failed since.
        let work = self.staging.work();
        for name in file::list_dir(work)? {
            file::remove_tree(&work.join(name))?;
        }
        // The build has been stopped; the shell has not.
        let mut step = RunStep { cancelled: Arc::default(), ..self.step.clone() };
        step.downloads = None;
        if step.recorder.take().is_some() {
            // Who answered the step has ended with it, and nothing else may.
            step.network = Network::None;
        }
        executor.shell(&step)
    }
}

/// The image's shell; where that is `sh`, and there is `bash`, what people prefer.
fn shell(execution: &Execution<'_>, op: &RunOp) -> Result<String, StepError> {
    let is_plain = matches!(op.shell.as_str(), "sh" | "/bin/sh");
    let below = execution.below.files()?;
    if is_plain && crate::files::resolve(below, BASH.as_bytes(), true)?.is_some() {
        return Ok(BASH.to_owned());
    }
    Ok(op.shell.clone())
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
    let layers = corten_store::overlay_lowers(&execution.below.layers);
    let lowers = prepared.lowers.iter().chain(&layers);
    Ok(RunStep {
        id: format!("build-{}", corten_sys::random::name()),
        args: op.args.clone(),
        env: environment(execution, op, user, prepared),
        cwd: PathBuf::from(&op.cwd),
        uid: user.uid,
        gid: user.gid,
        additional_gids: user.additional_gids.clone(),
        network: op.network,
        insecure: op.insecure,
        hostname: op.hostname.clone(),
        mounts,
        devices: devices(execution, op)?,
        lowers: lowers.map(|path| absolute(path)).collect::<Result<_, _>>()?,
        upper: absolute(staging.tree())?,
        work: absolute(staging.work())?,
        limits: StepLimits {
            memory_bytes: options.memory_bytes,
            cpu_millis: options.cpu_millis,
            pids: options.pids,
        },
        hosts: op.hosts.clone(),
        tuning: options.tuning.clone(),
        cancelled: Arc::clone(execution.cancelled),
        recorder: None,
        downloads: None,
    })
}

/// What the step needs for its devices. One that may be missing and is missing is said.
fn devices(execution: &Execution<'_>, op: &RunOp) -> Result<Injection, StepError> {
    let registry = &execution.options.run.devices;
    let warn = |text: &str| execution.warn_once(text);
    if op.devices.is_empty() {
        return Ok(Injection::default());
    }
    registry.problems.iter().for_each(|problem| warn(problem));
    let mut names = Vec::new();
    for device in &op.devices {
        match registry.find(execution.options.run.allow.devices.meant(&device.name)) {
            Ok(found) => names.extend(found),
            Err(error) if !device.required => warn(&format!("{error}: the step runs without it")),
            Err(problem) => return Err(StepError::Device { problem, span: device.span }),
        }
    }
    let first = op.devices.first().map_or(execution.step.place.span, |device| device.span);
    let refused = |problem| StepError::Device { problem, span: first };
    let mut injection = registry.inject(&names).map_err(refused)?;
    injection.check().map_err(refused)?;
    injection.warnings.iter().for_each(|warning| warn(warning));
    Ok(injection)
}

/// A path of the host that means the same in every directory: contexts and stores may be given by a
/// relative one.
pub(super) fn absolute(path: &Path) -> Result<PathBuf, StepError> {
    Ok(file::absolute(path).map_err(CopyError::from)?)
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
    if let Some(path) = &prepared.wget_config {
        add(WGET_VARIABLE, path.clone());
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

/// A path of the container as a path in a tree.
pub(crate) fn tree_path(path: &Path) -> TreePath {
    use std::os::unix::ffi::OsStrExt as _;
    TreePath::clean(path.as_os_str().as_bytes()).unwrap_or_else(|_| TreePath::root())
}
