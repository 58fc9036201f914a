//! From a graph to the layers of its targets.
//!
//! A target is asked for; it asks for what it needs. As long as every step is known, one thread
//! looks them up one after the other. At the first step that is not, the stages that the rest of
//! the chain takes files from, and those of other platforms, are begun by threads of their own,
//! since they will be needed. Each stage is evaluated once, and each step is carried out once among
//! all processes that use the store: who comes second waits for the lock of the step's key and then
//! finds the record.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, OnceLock, PoisonError};
use std::thread::Scope;
use std::time::Duration;

use corten_diag::{Diagnostic, Event, Outcome, Reporter, StepId};
use corten_oci::attestation::Attestation;
use corten_oci::digest::{DiffId, Digest, ImageId};
use corten_oci::image::ImageConfig;
use corten_oci::tree::TreePath;
use corten_store::{CacheKey, Image, Layer, StepRecord, Store};
use corten_sys::clock::{Clock, SystemClock};

use crate::cache::{Imports, KnownStep, MountUse, mounts_of};
use crate::copy::owner::{self, Databases};
use crate::copy::select::{Selection, select};
use crate::copy::{self, CopyError};
use crate::define::{Contexts, Defined, Definitions, copies, define};
use crate::diagnose::{StepError, diagnose, mount_error};
use crate::error::{BuildError, Diagnosed};
use crate::execute::{Execution, Made};
use crate::export::export;
use crate::files::{FilesError, Found, LayerFiles};
use crate::graph::{Base, CopyOp, Graph, Input, Op, Stage, StageId, Step};
use crate::key::{KeyHasher, chain_id};
use crate::lock::StepLock;
use crate::options::BuildOptions;
use crate::recording::{
    self, Materials, Recording, Session, SourceMaterial, bases, check_bases, check_steps,
};
use crate::remote::{Fetching, fetch_all};
use crate::run::downloads::DownloadCache;
use crate::traits::Executor;

mod beyond;

/// What a solver works with.
#[expect(missing_debug_implementations, reason = "neither an executor nor a reporter has a text")]
#[derive(Clone, Copy)]
pub struct Tools<'a> {
    pub store: &'a Store,
    pub executor: &'a dyn Executor,
    pub reporter: &'a dyn Reporter,
    /// Caches of other machines.
    pub imports: &'a Imports,
    /// Whether [`Target::steps`] shall also have the steps that need not be looked at.
    pub all_steps: bool,
}

impl<'a> Tools<'a> {
    /// Puts them together.
    pub fn new(
        store: &'a Store,
        executor: &'a dyn Executor,
        reporter: &'a dyn Reporter,
        imports: &'a Imports,
        all_steps: bool,
    ) -> Self {
        Self { store, executor, reporter, imports, all_steps }
    }
}

/// What a build made: an image that need not be stored as one.
#[derive(Debug, Clone)]
pub struct Target {
    /// Its configuration, with its layers.
    pub config: ImageConfig,
    /// The layers, the bottom first; they are in the store and stay while the store is open.
    pub layers: Vec<Layer>,
    /// What it was made of, if that was recorded.
    pub materials: Option<Materials>,
    /// What is stated of it, if that was asked for.
    pub attestations: Vec<Attestation>,
    /// The steps that the build did or knew.
    pub steps: Vec<KnownStep>,
    /// The cache mounts that its steps have.
    pub mounts: Vec<MountUse>,
}

impl Target {
    /// Returns the bytes of the configuration.
    pub fn config_bytes(&self) -> Vec<u8> {
        corten_oci::json::canonical(&self.config)
    }

    /// Returns the ID that its image has.
    pub fn id(&self) -> ImageId {
        ImageId(Digest::of(&self.config_bytes()))
    }
}

/// Carries a graph out and stores the image of its target.
pub fn solve(
    graph: &Graph,
    options: &BuildOptions,
    tools: &Tools<'_>,
) -> Result<Image, BuildError> {
    let targets = solve_targets(graph, options, tools)?;
    let nothing = || {
        let diagnostic = Diagnostic::error("there is no platform to build for");
        BuildError::from(Diagnosed::new(vec![diagnostic], Arc::clone(&graph.source)))
    };
    let target = targets.first().ok_or_else(nothing)?;
    Ok(export(tools.store, target, &options.annotations, &options.tags)?)
}

/// Carries a graph out, for all platforms at the same time.
pub fn solve_targets(
    graph: &Graph,
    options: &BuildOptions,
    tools: &Tools<'_>,
) -> Result<Vec<Target>, BuildError> {
    let lock = options.recording.lock();
    if options.recording.is_on() {
        check_steps(graph)?;
    }
    if let Some(lock) = lock {
        check_bases(graph, lock)?;
    }
    let fetching = Fetching {
        remotes: &options.remotes,
        store: tools.store,
        reporter: tools.reporter,
        lock,
        is_offline: matches!(options.recording, Recording::Offline(_)),
    };
    let fetched = fetch_all(graph, options, &fetching)?;
    let fetched_sources = fetched.values().filter_map(|fetched| fetched.material.as_deref());
    let sources: Vec<SourceMaterial> =
        options.context_material.iter().chain(fetched_sources).cloned().collect();
    let session = Session::begin(options, tools.store)?;
    let downloads = DownloadCache::new(options, tools.store, tools.reporter);
    let contexts = crate::contexts::open(graph, options, tools.store, fetched)?;
    let defined = define(graph, &contexts, tools.reporter);
    // What was hashed is worth keeping even if something is missing.
    crate::contexts::save(&contexts, tools.store)?;
    let definitions = defined.map_err(|diagnostics| {
        BuildError::from(Diagnosed::new(diagnostics, Arc::clone(&graph.source)))
    })?;
    let mut solver = Solver::new(graph, options, tools, &contexts, &definitions, session.as_ref());
    solver.downloads = downloads.as_ref();
    let outputs: Result<Vec<Arc<StageOutput>>, Stopped> = std::thread::scope(|scope| {
        let outputs = solver.targets(scope);
        if outputs.is_err() {
            solver.cancelled.store(true, Ordering::Relaxed);
        }
        outputs
    });
    let Ok(outputs) = outputs else { return Err(solver.take_failure()) };
    solver.report_unneeded();
    let mut known = Vec::new();
    for target in &graph.targets {
        known.push(solver.known_steps(target.stage)?);
    }
    drop(solver);
    let (platform, fetched) = (graph.platforms(), Vec::new());
    let own = Materials { platform, bases: bases(graph), sources, fetched };
    let recorded = session.map(|session| session.finish(own.clone()));
    let all = recorded.clone().unwrap_or_else(|| own.sorted());
    let mut recorded = recorded;
    let mounts = mounts_of(graph);
    let made = graph.targets.iter().zip(outputs).zip(known).map(|((target, output), steps)| {
        let mut config = graph.stage(target.stage).config.clone();
        config.rootfs.diff_ids = output.layers.iter().map(|layer| layer.diff_id).collect();
        let (layers, mounts) = (output.layers.clone(), mounts.clone());
        let stated = options.provenance.map(|mode| {
            crate::provenance::provenance(graph, options, &all, &target.platform, mode)
        });
        let attestations = stated.into_iter().collect();
        Target { config, layers, materials: recorded.take(), attestations, steps, mounts }
    });
    Ok(made.collect())
}

/// A stage's layers, the bottom first.
#[derive(Debug)]
pub(crate) struct StageOutput {
    pub(crate) layers: Vec<Layer>,
    files: OnceLock<LayerFiles>,
}

impl StageOutput {
    fn new(layers: Vec<Layer>) -> Self {
        Self { layers, files: OnceLock::new() }
    }

    /// The layers as files; opened when they are first asked for.
    pub(crate) fn files(&self) -> Result<&LayerFiles, FilesError> {
        if let Some(files) = self.files.get() {
            return Ok(files);
        }
        let files = LayerFiles::open(&self.layers)?;
        // Another thread may have been faster; its files are as good.
        Ok(self.files.get_or_init(|| files))
    }
}

/// Something failed; what it was is kept by the solver.
#[derive(Debug, Clone, Copy)]
struct Stopped;

enum Slot {
    Idle,
    Running,
    Done(Result<Arc<StageOutput>, Stopped>),
}

struct Solver<'a> {
    graph: &'a Graph,
    options: &'a BuildOptions,
    tools: &'a Tools<'a>,
    contexts: &'a Contexts,
    definitions: &'a Definitions,
    session: Option<&'a Session<'a>>,
    downloads: Option<&'a DownloadCache<'a>>,
    slots: Vec<(Mutex<Slot>, Condvar)>,
    cancelled: Arc<AtomicBool>,
    failure: Mutex<Option<BuildError>>,
    reported: Mutex<BTreeSet<u32>>,
    /// What was warned of and counts for all steps.
    told: Mutex<BTreeSet<String>>,
    /// What a cache could record.
    known: Mutex<Vec<(StageId, CacheKey, DiffId)>>,
    total: u32,
}

type Threads<'scope, 'env> = &'scope Scope<'scope, 'env>;

impl<'a> Solver<'a> {
    fn new(
        graph: &'a Graph,
        options: &'a BuildOptions,
        tools: &'a Tools<'a>,
        contexts: &'a Contexts,
        definitions: &'a Definitions,
        session: Option<&'a Session<'a>>,
    ) -> Self {
        let slots = graph.stages.iter().map(|_| (Mutex::new(Slot::Idle), Condvar::new())).collect();
        Self {
            graph,
            options,
            tools,
            contexts,
            definitions,
            session,
            downloads: None,
            slots,
            cancelled: Arc::new(AtomicBool::new(false)),
            failure: Mutex::new(None),
            reported: Mutex::new(BTreeSet::new()),
            told: Mutex::new(BTreeSet::new()),
            known: Mutex::new(Vec::new()),
            total: graph.step_count(),
        }
    }

    /// Evaluates the targets; in a recorded build every stage, since what it fetched is asked for.
    fn targets<'env>(
        &'env self,
        threads: Threads<'_, 'env>,
    ) -> Result<Vec<Arc<StageOutput>>, Stopped> {
        let targets = self.graph.targets.iter();
        let outputs: Result<Vec<_>, Stopped> =
            targets.map(|target| self.stage(threads, target.stage)).collect();
        if self.session.is_some() && outputs.is_ok() {
            for index in 0..self.graph.stages.len() {
                self.stage(threads, StageId(index))?;
            }
        }
        outputs
    }

    /// Evaluates a stage, or waits for the thread that does.
    fn stage<'env>(
        &'env self,
        threads: Threads<'_, 'env>,
        id: StageId,
    ) -> Result<Arc<StageOutput>, Stopped> {
        let (slot, ready) = &self.slots[id.0];
        let mut state = slot.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            match &*state {
                Slot::Done(result) => return result.clone(),
                Slot::Running => {
                    state = ready.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                Slot::Idle => break,
            }
        }
        *state = Slot::Running;
        drop(state);
        let result = self.evaluate(threads, id);
        let mut state = slot.lock().unwrap_or_else(PoisonError::into_inner);
        *state = Slot::Done(result.clone());
        ready.notify_all();
        result
    }

    fn evaluate<'env>(
        &'env self,
        threads: Threads<'_, 'env>,
        id: StageId,
    ) -> Result<Arc<StageOutput>, Stopped> {
        let stage = self.graph.stage(id);
        let mut layers = match &stage.base {
            Base::Image { image: Some(image), .. } => image.layers.clone(),
            Base::Scratch | Base::Image { image: None, .. } => Vec::new(),
            Base::Stage(parent) => self.stage(threads, *parent)?.layers.clone(),
        };
        let mut asked_ahead = false;
        for (index, step) in stage.steps.iter().enumerate() {
            if self.cancelled.load(Ordering::Relaxed) {
                return Err(Stopped);
            }
            let mut on_miss = || {
                if !asked_ahead {
                    asked_ahead = true;
                    self.ask_ahead(threads, stage.steps.get(index..).unwrap_or_default());
                }
            };
            let defined = &self.definitions.steps[id.0][index];
            let at = StepAt { id, stage, step, defined };
            let below = Arc::new(StageOutput::new(layers.clone()));
            layers.push(self.step(threads, at, &below, &mut on_miss)?);
        }
        Ok(Arc::new(StageOutput::new(layers)))
    }

    /// Begins the stages that these steps take files from, and those of other platforms.
    fn ask_ahead<'env>(&'env self, threads: Threads<'_, 'env>, steps: &[Step]) {
        let mut wanted: BTreeSet<StageId> =
            self.graph.targets.iter().map(|target| target.stage).collect();
        for input in steps.iter().flat_map(|step| step.op.inputs()) {
            if let Input::Stage(id) = input {
                wanted.insert(*id);
            }
        }
        for id in wanted {
            let idle = {
                let state = self.slots[id.0].0.lock().unwrap_or_else(PoisonError::into_inner);
                matches!(*state, Slot::Idle)
            };
            if idle {
                // What becomes of it is in its slot.
                threads.spawn(move || drop(self.stage(threads, id)));
            }
        }
    }

    /// Finds or makes the layer of one step.
    fn step<'env>(
        &'env self,
        threads: Threads<'_, 'env>,
        at: StepAt<'env>,
        below: &Arc<StageOutput>,
        on_miss: &mut dyn FnMut(),
    ) -> Result<Layer, Stopped> {
        let started = SystemClock.monotonic();
        let result = self.find_or_make(threads, at, below, on_miss);
        let elapsed = SystemClock.monotonic().saturating_sub(started);
        match result {
            Ok((layer, outcome)) => {
                self.finish(at.step, outcome, elapsed);
                Ok(layer)
            }
            Err(Failed::Elsewhere) => Err(Stopped),
            Err(Failed::Here(error)) => {
                self.finish(at.step, Outcome::Failed, elapsed);
                let first = self.fail(at.step, &error);
                if let (true, StepError::Command { kept: Some(kept), .. }) = (first, &error)
                    && let Err(error) = kept.open(self.tools.executor)
                {
                    let text = format!("no shell could be opened in the failed step: {error}");
                    self.tools.reporter.report(Event::Warning(text));
                }
                Err(Stopped)
            }
        }
    }

    fn find_or_make<'env>(
        &'env self,
        threads: Threads<'_, 'env>,
        at: StepAt<'env>,
        below: &Arc<StageOutput>,
        on_miss: &mut dyn FnMut(),
    ) -> Result<(Layer, Outcome), Failed> {
        let first = Self::definition_key(&at, below)?;
        let takes_from_stages =
            at.step.op.inputs().iter().any(|input| matches!(input, Input::Stage(_)));
        // A stage that is done again may come to another result than its definition had before.
        let skips_first = self.session.is_some() && takes_from_stages;
        if !skips_first && let Some(made) = self.known(&at, &first)? {
            return Ok((made.layer, Outcome::Cached));
        }
        self.start(at.step);
        on_miss();
        let inputs = self.inputs(threads, &at)?;
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(Failed::Elsewhere);
        }
        let selections = self.select(&at, &inputs)?;
        let has_stages = inputs.iter().any(Option::is_some);
        let key = if has_stages { Self::content_key(&at, below, &selections)? } else { first };
        if key != first
            && let Some(made) = self.known(&at, &key)?
        {
            self.record(&at, &first, &made)?;
            return Ok((made.layer, Outcome::Cached));
        }
        let lock = StepLock::take(self.tools.store, &key, self.tools.reporter, at.step)
            .map_err(|error| Failed::Here(StepError::Files(error.into())))?;
        let found = if lock.waited() { self.known(&at, &key)? } else { None };
        let outcome = if found.is_some() { Outcome::Cached } else { Outcome::Done };
        let made = match found {
            Some(made) => made,
            None => self.make(&at, below, &inputs, &selections)?,
        };
        self.record(&at, &key, &made)?;
        if key != first {
            self.record(&at, &first, &made)?;
        }
        lock.release();
        Ok((made.layer, outcome))
    }

    fn make(
        &self,
        at: &StepAt<'_>,
        below: &StageOutput,
        inputs: &[Option<Arc<StageOutput>>],
        selections: &[Option<Arc<Selection>>],
    ) -> Result<Made, StepError> {
        let execution = Execution {
            graph: self.graph,
            options: self.options,
            tools: self.tools,
            contexts: self.contexts,
            stage: at.stage,
            step: at.step,
            below,
            inputs,
            selections,
            cancelled: &self.cancelled,
            told: &self.told,
            session: self.session,
            downloads: self.downloads,
        };
        let made = execution.run().map_err(|error| error.classify(self.tools.store))?;
        if let (Some(session), Some(fetched)) = (self.session, &made.fetched) {
            session.add(fetched);
        }
        Ok(made)
    }

    /// Evaluates the stages that a step takes files from, in the order of its inputs.
    fn inputs<'env>(
        &'env self,
        threads: Threads<'_, 'env>,
        at: &StepAt<'_>,
    ) -> Result<Vec<Option<Arc<StageOutput>>>, Failed> {
        let mut outputs = Vec::new();
        for copy in copies(&at.step.op) {
            outputs.push(match copy.as_ref().map(|copy| &copy.input) {
                Some(Input::Stage(id)) => {
                    Some(self.stage(threads, *id).map_err(|Stopped| Failed::Elsewhere)?)
                }
                _ => None,
            });
        }
        Ok(outputs)
    }

    /// What is taken from each input: contexts were looked at before, stages are now.
    fn select(
        &self,
        at: &StepAt<'_>,
        inputs: &[Option<Arc<StageOutput>>],
    ) -> Result<Vec<Option<Arc<Selection>>>, StepError> {
        let mut selections = Vec::new();
        for (index, copy) in copies(&at.step.op).into_iter().enumerate() {
            let input = inputs.get(index).and_then(Option::as_ref);
            selections.push(match (input, copy) {
                (Some(output), Some(copy)) => {
                    let selection = select(output.files()?, &copy)
                        .map_err(|error| mount_error(self.graph, &at.step.op, index, error))?;
                    Some(Arc::new(selection))
                }
                _ => at.defined.selections.get(index).cloned().flatten(),
            });
        }
        Ok(selections)
    }

    /// The key that is known without looking at any other stage.
    fn definition_key(at: &StepAt<'_>, below: &StageOutput) -> Result<CacheKey, StepError> {
        Ok(definition_key(at.defined, &Self::base_of(at, below, &at.defined.selections)?))
    }

    /// The key by the content that is taken from other stages.
    fn content_key(
        at: &StepAt<'_>,
        below: &StageOutput,
        selections: &[Option<Arc<Selection>>],
    ) -> Result<CacheKey, StepError> {
        let mut key = KeyHasher::new("content");
        key.digest(&crate::define::operation(at.step, at.stage.epoch));
        key.digest(&Self::base_of(at, below, selections)?);
        for (selection, copy) in selections.iter().zip(copies(&at.step.op)) {
            let is_stage = copy.is_some_and(|copy| matches!(copy.input, Input::Stage(_)));
            key.flag(selection.is_some());
            if let Some(selection) = selection {
                selection.hash_into(is_stage, &mut key)?;
            }
        }
        Ok(key.into_key())
    }

    /// What of the layers below matters: all of them, or for a linked copy whom it names and the
    /// directories that it goes to, which keep what they are.
    fn base_of(
        at: &StepAt<'_>,
        below: &StageOutput,
        selections: &[Option<Arc<Selection>>],
    ) -> Result<Digest, StepError> {
        let mut key = KeyHasher::new("below");
        if let Op::Copy(copy) = &at.step.op
            && copy.link
            && let Some(directories) = linked_directories(copy, below, selections)?
        {
            key.text("linked");
            if let Some(named) = copy.owner.as_deref().filter(|owner| !owner::is_numeric(owner)) {
                let databases = Databases::read(below.files()?.snapshot())?;
                let owner::Owner { uid, gid, .. } = owner::resolve(&databases, named)?;
                key.number(u64::from(uid)).number(u64::from(gid));
            }
            for (path, found) in &directories {
                let stat = &found.stat;
                key.bytes(path.as_bytes()).number(u64::from(stat.mode));
                key.number(u64::from(stat.uid)).number(u64::from(stat.gid));
                for (name, value) in found.xattrs().map_err(CopyError::from)? {
                    key.text("attribute").bytes(&name).bytes(&value);
                }
            }
            return Ok(key.finish());
        }
        Ok(all_below(below.layers.iter().map(|layer| &layer.diff_id)))
    }

    /// Whether a stage may take what was made before.
    fn may_know(&self, stage: &Stage) -> bool {
        let mut filter = self.options.no_cache_filter.iter();
        !self.options.no_cache && !filter.any(|name| stage.name.eq_ignore_ascii_case(name))
    }

    /// What was made under a key before, here or on another machine; in a recorded build only if it
    /// is known what was fetched for it, which caches of other machines do not tell.
    fn known(&self, at: &StepAt<'_>, key: &CacheKey) -> Result<Option<Made>, StepError> {
        if !self.may_know(at.stage) {
            return Ok(None);
        }
        let store = self.tools.store;
        if let Some(record) = store.step(key)?
            && let Some(id) = record.layer
            && let Some(layer) = store.layer(&id)?
        {
            let made = self.accepted(at, layer, &record.payload);
            if let Some(made) = &made {
                self.note(at.id, key, &made.layer.diff_id);
            }
            return Ok(made);
        }
        let nothing = serde_json::Value::Null;
        if self.session.is_some_and(|session| session.accept(&at.step.op, &nothing).is_none()) {
            return Ok(None);
        }
        let Some(layer) = self.tools.imports.layer(key, store, self.tools.reporter) else {
            return Ok(None);
        };
        let made = self.accepted(at, layer, &nothing);
        if let Some(made) = &made {
            self.record(at, key, made)?;
        }
        Ok(made)
    }

    fn accepted(&self, at: &StepAt<'_>, layer: Layer, payload: &serde_json::Value) -> Option<Made> {
        let Some(session) = self.session else { return Some(Made { layer, fetched: None }) };
        let fetched = session.accept(&at.step.op, payload)?;
        session.add(&fetched);
        Some(Made { layer, fetched: Some(fetched) })
    }

    fn record(&self, at: &StepAt<'_>, key: &CacheKey, made: &Made) -> Result<(), StepError> {
        let fetched = made.fetched.as_deref();
        let with_content = fetched.unwrap_or_default().iter().filter(|entry| entry.size_bytes > 0);
        let record = StepRecord {
            layer: Some(made.layer.id),
            payload: recording::payload(fetched),
            blobs: with_content.map(|entry| entry.sha256).collect(),
        };
        self.tools.store.put_step(key, &record)?;
        self.note(at.id, key, &made.layer.diff_id);
        Ok(())
    }

    fn note(&self, stage: StageId, key: &CacheKey, layer: &DiffId) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.push((stage, *key, *layer));
    }

    fn start(&self, step: &Step) {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.insert(step.number) {
            self.tools.reporter.report(Event::StepStarted {
                step: StepId(step.number),
                total: self.total,
                title: self.title(step),
            });
        }
    }

    /// The instruction; with its stage if there are several, and its platform if it is not only this
    /// machine's.
    fn title(&self, step: &Step) -> String {
        let Some(of) = self.graph.stage_of(step) else { return step.title.clone() };
        let mut names = self.graph.stages.iter().filter(|stage| !stage.steps.is_empty());
        let first = names.next().map(|stage| &stage.name);
        let has_names = names.any(|stage| Some(&stage.name) != first);
        let platform = self.graph.platform_name(of);
        let name = has_names.then(|| of.name.clone());
        let place: Vec<String> = platform.into_iter().chain(name).collect();
        match place.as_slice() {
            [] => step.title.clone(),
            place => format!("[{}] {}", place.join(" "), step.title),
        }
    }

    fn finish(&self, step: &Step, outcome: Outcome, elapsed: Duration) {
        self.start(step);
        let step = StepId(step.number);
        self.tools.reporter.report(Event::StepFinished { step, outcome, elapsed });
    }

    /// Steps of stages that need not be looked at are as good as done.
    fn report_unneeded(&self) {
        for step in self.graph.stages.iter().flat_map(|stage| &stage.steps) {
            let reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
            let known = reported.contains(&step.number);
            drop(reported);
            if !known {
                self.finish(step, Outcome::Cached, Duration::ZERO);
            }
        }
    }

    /// Keeps the first failure and stops the others. Returns whether this was the first.
    fn fail(&self, step: &Step, error: &StepError) -> bool {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        self.cancelled.store(true, Ordering::Relaxed);
        let first = failure.is_none();
        if first {
            let context = step.op.inputs().into_iter().find_map(|input| self.contexts.get(input));
            let mut diagnostic = diagnose(self.graph, step, error, context);
            let platform = self.graph.stage_of(step).and_then(|of| self.graph.platform_name(of));
            diagnostic.notes.extend(platform.map(|platform| format!("while building {platform}")));
            let source = Arc::clone(&self.graph.source);
            *failure = Some(Diagnosed::new(vec![diagnostic], source).into());
        }
        first
    }

    fn take_failure(&self) -> BuildError {
        let failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        failure.unwrap_or_else(|| {
            let diagnostic = Diagnostic::error("the build was stopped");
            Diagnosed::new(vec![diagnostic], Arc::clone(&self.graph.source)).into()
        })
    }
}

/// The key of a step above a base.
fn definition_key(defined: &Defined, base: &Digest) -> CacheKey {
    let mut key = KeyHasher::new("definition");
    key.digest(&defined.digest).digest(base);
    key.into_key()
}

/// The base of a step that depends on all layers below it.
fn all_below<'l>(layers: impl Iterator<Item = &'l DiffId>) -> Digest {
    let mut key = KeyHasher::new("below");
    key.text("layers").digest(&chain_id(layers));
    key.finish()
}

/// A step where it stands.
#[derive(Clone, Copy)]
struct StepAt<'a> {
    id: StageId,
    stage: &'a Stage,
    step: &'a Step,
    defined: &'a Defined,
}

/// Why a step has no layer.
enum Failed {
    Here(StepError),
    /// Another stage failed and has told.
    Elsewhere,
}

impl<E: Into<StepError>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Here(error.into())
    }
}

/// The directories that a linked copy goes to; `None` if they are not known yet or at all.
fn linked_directories(
    copy: &CopyOp,
    below: &StageOutput,
    selections: &[Option<Arc<Selection>>],
) -> Result<Option<BTreeMap<TreePath, Found>>, StepError> {
    let empty = Selection::default();
    let selection = match selections.first().and_then(Option::as_deref) {
        Some(selection) => selection,
        None if copy.sources.is_empty() => &empty,
        None => return Ok(None),
    };
    Ok(copy::directories_below(copy, selection, below.files()?)?)
}
