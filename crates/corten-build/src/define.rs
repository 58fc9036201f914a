//! What each step is defined by, before anything is carried out.
//!
//! Everything that steps take from contexts is found and hashed here, so a missing file is told
//! before the first command runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use corten_diag::{Diagnostic, Event, Reporter};
use corten_oci::digest::Digest;
use corten_runtime::Network;

use crate::copy::CopyError;
use crate::copy::mode::ModeChange;
use crate::copy::select::{Item, Selection, select};
use crate::diagnose::{StepError, diagnose, mount_error};
use crate::files::{ContextFiles, Files, NoFiles};
use crate::graph::{
    Base, CacheSharing, CopyOp, Graph, Input, Op, RunMount, RunMountKind, RunOp, SourceWord, Step,
};
use crate::key::{KeyHasher, chain_id};
use crate::remote::Fetched;

/// The contexts of a build, by their input.
pub(crate) struct Contexts {
    pub(crate) by_input: BTreeMap<Input, ContextFiles>,
    /// What was fetched, and lies where the files of its input are.
    pub(crate) fetched: BTreeMap<Input, Fetched>,
    /// The inputs whose directories vanish after the build.
    pub(crate) passing: BTreeSet<Input>,
}

impl Contexts {
    /// The files of an input, if it is a context.
    pub(crate) fn get(&self, input: &Input) -> Option<&ContextFiles> {
        self.by_input.get(input)
    }
}

/// What is known of a step before it is carried out.
pub(crate) struct Defined {
    /// What it does, with the content of all that it takes from contexts.
    pub(crate) digest: Digest,
    /// What is taken from contexts: for a `COPY` one selection, for a `RUN` one for each mount.
    pub(crate) selections: Vec<Option<Arc<Selection>>>,
}

/// The definitions of all stages.
pub(crate) struct Definitions {
    pub(crate) steps: Vec<Vec<Defined>>,
}

/// Defines all steps, or tells of everything that is missing.
pub(crate) fn define(
    graph: &Graph,
    contexts: &Contexts,
    reporter: &dyn Reporter,
) -> Result<Definitions, Vec<Diagnostic>> {
    let mut stages: Vec<Digest> = Vec::new();
    let mut steps = Vec::new();
    let mut failures = Vec::new();
    for stage in &graph.stages {
        let mut key = KeyHasher::new("stage");
        match &stage.base {
            Base::Image { image: Some(image), .. } => {
                let diff_ids = image.layers.iter().map(|layer| &layer.diff_id);
                key.text("image").digest(&chain_id(diff_ids));
            }
            Base::Scratch | Base::Image { image: None, .. } => {
                key.text("scratch");
            }
            Base::Stage(id) => {
                key.text("stage").digest(&stages[id.0]);
            }
        }
        let mut defined = Vec::new();
        for step in &stage.steps {
            match define_step(graph, step, stage.epoch, contexts, &stages) {
                Ok(step_defined) => {
                    report_unmatched(step, &step_defined, reporter);
                    key.digest(&step_defined.digest);
                    defined.push(step_defined);
                }
                Err(error) => {
                    let context = step.op.inputs().into_iter().find_map(|i| contexts.get(i));
                    failures.push(diagnose(graph, step, &error, context));
                }
            }
        }
        stages.push(key.finish());
        steps.push(defined);
    }
    if failures.is_empty() { Ok(Definitions { steps }) } else { Err(failures) }
}

fn report_unmatched(step: &Step, defined: &Defined, reporter: &dyn Reporter) {
    let Op::Copy(op) = &step.op else { return };
    for selection in defined.selections.iter().flatten() {
        for source in selection.unmatched.iter().filter_map(|word| op.sources.get(*word)) {
            let message = format!("no file matches `{}`", source.text);
            let diagnostic = Diagnostic::warning(message).at(source.span);
            reporter.report(Event::Diagnostic(diagnostic));
        }
    }
}

fn define_step(
    graph: &Graph,
    step: &Step,
    epoch: i64,
    contexts: &Contexts,
    stages: &[Digest],
) -> Result<Defined, StepError> {
    let mut key = KeyHasher::new("step");
    key.digest(&operation(step, epoch));
    let mut selections = Vec::new();
    for (index, copy) in copies(&step.op).into_iter().enumerate() {
        selections.push(match copy {
            Some(copy) => define_input(&copy, epoch, contexts, stages, &mut key)
                .map_err(|error| mount_error(graph, &step.op, index, error))?,
            None => None,
        });
    }
    Ok(Defined { digest: key.finish(), selections })
}

/// What a step does, without what it takes from anywhere.
pub(crate) fn operation(step: &Step, epoch: i64) -> Digest {
    let mut key = KeyHasher::new("operation");
    key.signed(epoch);
    match &step.op {
        Op::Workdir(workdir) => {
            key.text("workdir").text(&workdir.path).text(&workdir.user);
        }
        Op::Copy(op) => hash_copy(op, &mut key),
        Op::Run(op) => {
            hash_run(op, &mut key);
            for mount in &op.mounts {
                hash_mount(mount, &mut key);
            }
        }
    }
    key.finish()
}

/// What a step copies: one for a `COPY`, one for each mount of a `RUN` that may have files.
pub(crate) fn copies(op: &Op) -> Vec<Option<CopyOp>> {
    match op {
        Op::Copy(copy) => vec![Some(copy.clone())],
        Op::Run(run) => run.mounts.iter().map(mount_copy).collect(),
        Op::Workdir(_) => Vec::new(),
    }
}

/// Adds an input to a key: a context by its content, a stage by its definition.
fn define_input(
    op: &CopyOp,
    epoch: i64,
    contexts: &Contexts,
    stages: &[Digest],
    key: &mut KeyHasher,
) -> Result<Option<Arc<Selection>>, CopyError> {
    if op.sources.is_empty() {
        return Ok(None);
    }
    if let Input::Stage(id) = &op.input {
        key.text("stage").digest(&stages[id.0]);
        return Ok(None);
    }
    let selection = select_from(op, epoch, contexts)?;
    selection.hash_into(false, key)?;
    Ok(Some(Arc::new(selection)))
}

/// Finds what an instruction takes of contexts, and of what was fetched for it.
fn select_from(op: &CopyOp, epoch: i64, contexts: &Contexts) -> Result<Selection, CopyError> {
    let none = NoFiles;
    let files = |input: &Input| -> &dyn Files {
        match contexts.get(input) {
            Some(context) => context,
            None => &none,
        }
    };
    if op.sources.iter().all(|source| source.remote.is_none()) {
        return select(files(&op.input), op);
    }
    let mut all = Selection::default();
    for (word, source) in op.sources.iter().enumerate() {
        let input = source.remote.as_ref().unwrap_or(&op.input);
        let mut one = CopyOp { sources: vec![source.clone()], ..op.clone() };
        let fetched = contexts.fetched.get(input);
        if let (Some(fetched), Some(source)) = (fetched, one.sources.first_mut()) {
            source.text.clone_from(&fetched.path);
            source.literal = true;
        }
        let selection = select(files(input), &one)?;
        all.unmatched.extend(selection.unmatched.iter().map(|_| word));
        let time = fetched.and_then(|fetched| fetched.modified).map(|time| time.min(epoch));
        all.items.extend(selection.items.into_iter().map(|item| Item { word, time, ..item }));
    }
    Ok(all)
}

/// A mount as a copy of everything below its source.
pub(crate) fn mount_copy(mount: &RunMount) -> Option<CopyOp> {
    let (RunMountKind::Bind { input, source, .. }
    | RunMountKind::Cache { seed: Some((input, source)), .. }) = &mount.kind
    else {
        return None;
    };
    Some(CopyOp {
        input: input.clone(),
        sources: vec![SourceWord {
            text: source.clone(),
            span: mount.span,
            literal: true,
            remote: None,
        }],
        inline: Vec::new(),
        dest: "/source".to_owned(),
        owner: None,
        mode: None,
        link: true,
        parents: false,
        excludes: Vec::new(),
        unpack: false,
        unpack_remote: false,
    })
}

fn hash_copy(op: &CopyOp, key: &mut KeyHasher) {
    key.text("copy").text(&op.dest).optional(op.owner.as_deref());
    match &op.mode {
        None => key.text("mode of source"),
        Some(ModeChange::Octal(mode)) => key.text("octal").number(u64::from(*mode)),
        Some(symbolic) => key.text("symbolic").text(&symbolic.to_string()),
    };
    key.flag(op.link).flag(op.parents).flag(op.unpack);
    key.list(op.excludes.iter().map(String::as_str));
    // Where something was fetched from does not matter, only what came.
    let texts = op.sources.iter().map(|source| match source.remote {
        Some(_) => "",
        None => source.text.as_str(),
    });
    key.list(texts);
    if op.sources.iter().any(|source| source.remote.is_some()) {
        key.text("remote").flag(op.unpack_remote);
        for source in &op.sources {
            key.flag(source.remote.is_some());
        }
    }
    key.number(op.inline.len() as u64);
    for file in &op.inline {
        key.text(&file.name).text(&file.content);
    }
}

/// Counts the changes of what is made the same in the files of a step, so that a result that an
/// earlier version remembered is not taken for one of this version.
const NORMAL_FORM: &str = "normal form 2";

fn hash_run(op: &RunOp, key: &mut KeyHasher) {
    key.text("run").list(op.args.iter().map(String::as_str));
    key.flag(op.script.is_some());
    if let Some(script) = &op.script {
        key.text(&script.name).text(&script.content);
    }
    // The order in which variables were set changes nothing for a program.
    let env: BTreeMap<&String, &String> =
        op.env.iter().map(|(name, value)| (name, value)).collect();
    key.number(env.len() as u64);
    for (name, value) in env {
        key.text(name).text(value);
    }
    key.text(&op.cwd).text(&op.user).text(match op.network {
        Network::Default => "default",
        Network::None => "none",
        Network::Host => "host",
        Network::User => "user",
    });
    key.text(&op.hostname).number(op.mounts.len() as u64);
    key.text(if op.normalise { NORMAL_FORM } else { "as written" });
    if op.insecure {
        key.text("insecure");
    }
    if !op.devices.is_empty() {
        key.text("devices").list(op.devices.iter().map(|device| device.name.as_str()));
    }
    if !op.hosts.is_empty() {
        key.text("hosts").number(op.hosts.len() as u64);
        for (name, address) in &op.hosts {
            key.text(name).text(&address.to_string());
        }
    }
}

fn hash_mount(mount: &RunMount, key: &mut KeyHasher) {
    key.text(&mount.target);
    match &mount.kind {
        RunMountKind::Bind { source, writable, .. } => {
            key.text("bind").text(source).flag(*writable)
        }
        RunMountKind::Cache { id, sharing, mode, uid, gid, readonly, seed } => {
            let sharing = match sharing {
                CacheSharing::Shared => "shared",
                CacheSharing::Private => "private",
                CacheSharing::Locked => "locked",
            };
            key.text("cache").text(id).text(sharing).flag(*readonly);
            key.number(u64::from(*mode)).number(u64::from(*uid)).number(u64::from(*gid));
            key.optional(seed.as_ref().map(|(_, source)| source.as_str()))
        }
        RunMountKind::Tmpfs { size_bytes } => {
            key.text("tmpfs").flag(size_bytes.is_some()).number(size_bytes.unwrap_or(0))
        }
        RunMountKind::Secret { id, file, variable, required, mode, uid, gid } => {
            key.text("secret").text(id).flag(*file).optional(variable.as_deref()).flag(*required);
            key.number(u64::from(*mode)).number(u64::from(*uid)).number(u64::from(*gid))
        }
        RunMountKind::Ssh { id, variable, required, mode, uid, gid } => {
            key.text("ssh").text(id).flag(*variable).flag(*required);
            key.number(u64::from(*mode)).number(u64::from(*uid)).number(u64::from(*gid))
        }
    };
}
