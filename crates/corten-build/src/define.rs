//! What each step is defined by, before anything is carried out.
//!
//! Everything that steps take from contexts is found and hashed here, so a missing file is told
//! before the first command runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use corten_diag::{Diagnostic, Event, Reporter};
use corten_oci::digest::Digest;
use corten_runtime::Network;

use crate::copy::CopyError;
use crate::copy::mode::ModeChange;
use crate::copy::select::{Selection, select};
use crate::diagnose::{StepError, diagnose, mount_error};
use crate::files::{ContextFiles, Files, NoFiles};
use crate::graph::{
    Base, CacheSharing, CopyOp, Graph, Input, Op, RunMount, RunMountKind, RunOp, SourceWord, Step,
};
use crate::key::{KeyHasher, chain_id};

/// The contexts of a build, by their input.
pub(crate) struct Contexts {
    pub(crate) by_input: BTreeMap<Input, ContextFiles>,
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
            Some(copy) => define_input(&copy, contexts, stages, &mut key)
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
    let none = NoFiles;
    let files: &dyn Files = match contexts.get(&op.input) {
        Some(context) => context,
        None => &none,
    };
    let selection = select(files, op)?;
    selection.hash_into(files.keeps_metadata(), key)?;
    Ok(Some(Arc::new(selection)))
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
        sources: vec![SourceWord { text: source.clone(), span: mount.span, literal: true }],
        inline: Vec::new(),
        dest: "/source".to_owned(),
        owner: None,
        mode: None,
        link: true,
        parents: false,
        excludes: Vec::new(),
        unpack: false,
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
    key.list(op.sources.iter().map(|source| source.text.as_str()));
    key.number(op.inline.len() as u64);
    for file in &op.inline {
        key.text(&file.name).text(&file.content);
    }
}

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
    });
    key.number(op.mounts.len() as u64);
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
    };
}
