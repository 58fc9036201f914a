//! Goes through the stages as a build would, as far as names and values are concerned.

use std::borrow::Cow;
use std::collections::BTreeMap;

use corten_diag::Span;
use corten_dockerfile::stages::{Source, Stages};
use corten_dockerfile::word::{self, WordError};
use corten_dockerfile::{Argument, InlineFile, Instruction, Kind, Word};

use crate::expand::{Reading, Variables, expand, meant};
use crate::model::{Details, Foreign, Model, Step};
use crate::request::Surroundings;

/// Build arguments that say what is scanned and are never variables.
const NOT_VARIABLES: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// The path that every stage has when its image sets none.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a stage hands on to those that build upon it.
#[derive(Clone, Debug, Default)]
struct State {
    /// Of the image: what `ENV` set.
    env: Variables,
    /// Of the build: with arguments.
    variables: Variables,
    /// Arguments that were declared, with or without a value.
    declared: Vec<String>,
    has_shell: bool,
    has_workdir: bool,
}

/// The build fails here; what follows is not looked at.
struct Stop;

/// Walks through all stages that are asked for.
pub(crate) fn walk(model: &mut Model<'_>, surroundings: &dyn Surroundings) {
    let mut states: BTreeMap<usize, State> = BTreeMap::new();
    for stage in 0..model.froms.len() {
        let is_needed = model.needed.contains(&stage);
        let name = model.stages.stages[stage].name.as_deref();
        let is_replaced = name.is_some_and(|name| model.request.contexts.contains(name));
        if !model.request.all_stages && (!is_needed || is_replaced) {
            continue;
        }
        let mut walker = Walker::begin(model, stage, &states, surroundings);
        let done = walker.run();
        let Walker { state, steps, foreign, unknown, .. } = walker;
        model.foreign.extend(foreign);
        model.unknown_bases.extend(unknown);
        model.steps.extend(steps);
        if let Err(Stop) = done {
            model.stopped = true;
            return;
        }
        states.insert(stage, state);
    }
}

/// The stages that an instruction takes files from; none when it names one that is not there.
pub(crate) fn stages_used(stages: &Stages, instruction: &Instruction) -> Option<Vec<usize>> {
    let mut used = Vec::new();
    match &instruction.kind {
        Kind::Copy(copy) => {
            if let Some(from) = copy.from.as_ref().filter(|from| !from.text.is_empty()) {
                if !word::variables(&from.text, '\\').is_empty() {
                    return None;
                }
                match stages.copy_source(&from.text) {
                    Source::Stage(stage) => used.push(stage),
                    Source::NoSuchStage => return None,
                    Source::Other => {}
                }
            }
        }
        Kind::Run(run) => {
            let sources = run.mounts.iter().filter_map(|mount| mount.from());
            used.extend(sources.filter_map(|from| match stages.mount_source(from) {
                Source::Stage(stage) => Some(stage),
                Source::NoSuchStage | Source::Other => None,
            }));
        }
        _ => {}
    }
    Some(used)
}

struct Walker<'m, 'a> {
    model: &'m Model<'a>,
    stage: usize,
    state: State,
    /// Triggers of the base, to be carried out first.
    triggers: Vec<Cow<'a, Instruction>>,
    steps: Vec<Step<'a>>,
    foreign: Option<Foreign>,
    unknown: Option<String>,
    /// Of the instruction at hand.
    unset: Vec<(String, Option<String>)>,
}

impl<'m, 'a> Walker<'m, 'a> {
    /// Begins a stage with what its base hands on.
    fn begin(
        model: &'m Model<'a>,
        stage: usize,
        states: &BTreeMap<usize, State>,
        surroundings: &dyn Surroundings,
    ) -> Self {
        let mut walker = Self {
            model,
            stage,
            state: State::default(),
            triggers: Vec::new(),
            steps: Vec::new(),
            foreign: None,
            unknown: None,
            unset: Vec::new(),
        };
        // Triggers are put in for what the target needs only.
        let is_needed = model.needed.contains(&stage);
        let from = &model.froms[stage];
        if let Some(base) = from.base {
            walker.state = states.get(&base).cloned().unwrap_or_default();
            if is_needed {
                walker.triggers = model.triggers(base).map(Cow::Borrowed).collect();
            }
        } else if from.image.text != "scratch" {
            walker.begin_from_image(is_needed, surroundings);
        }
        if walker.state.env.get("PATH").is_none() {
            walker.state.env.set("PATH", PATH);
        }
        let State { env, variables, .. } = &mut walker.state;
        for (name, value) in env.iter() {
            variables.set(name, value);
        }
        walker
    }

    fn begin_from_image(&mut self, is_needed: bool, surroundings: &dyn Surroundings) {
        let from = &self.model.froms[self.stage];
        let image = &from.image.text;
        let expected = from.named.as_ref().unwrap_or(&self.model.request.platform);
        if self.model.request.contexts.contains(image) {
            return;
        }
        let Some(base) = surroundings.base(image, expected) else {
            self.unknown = Some(image.clone());
            return;
        };
        for (name, value) in &base.env {
            self.state.env.set(name, value);
        }
        self.state.has_shell = base.has_shell;
        if is_needed {
            for trigger in &base.on_build {
                let parsed = corten_dockerfile::parse(trigger).instructions;
                self.triggers.extend(parsed.into_iter().map(Cow::Owned));
            }
        }
        let is_foreign = |actual: &crate::PlatformName| {
            actual.os != expected.os || actual.architecture != expected.architecture
        };
        if let Some(actual) = base.platform.filter(is_foreign) {
            let (image, expected) = (image.clone(), expected.clone());
            self.foreign = Some(Foreign { stage: self.stage, image, expected, actual });
        }
    }

    fn run(&mut self) -> Result<(), Stop> {
        let place = self.model.from(self.stage).span;
        for trigger in std::mem::take(&mut self.triggers) {
            self.step(trigger, place)?;
        }
        for instruction in self.model.own(self.stage) {
            self.step(Cow::Borrowed(instruction), instruction.span)?;
        }
        Ok(())
    }

    /// Carries out an instruction. What it used without its being set is kept even if it fails.
    fn step(&mut self, instruction: Cow<'a, Instruction>, place: Span) -> Result<(), Stop> {
        let mut details = Details { has_shell: self.state.has_shell, ..Details::default() };
        let done = self.dispatch(&instruction, &mut details);
        let unset = std::mem::take(&mut self.unset);
        self.steps.push(Step { stage: self.stage, instruction, place, unset, details });
        done
    }

    fn dispatch(&mut self, instruction: &Instruction, details: &mut Details) -> Result<(), Stop> {
        match &instruction.kind {
            Kind::Env(pairs) => {
                let mut values = Vec::new();
                for pair in pairs {
                    values.push((self.word(&pair.key)?, self.word(&pair.value)?));
                }
                for (name, value) in values {
                    self.state.env.set(&name, &value);
                    self.state.variables.set(&name, &value);
                }
            }
            Kind::Label(pairs) => {
                for pair in pairs {
                    self.word(&pair.key)?;
                    self.word(&pair.value)?;
                }
            }
            Kind::Arg(arguments) => {
                for argument in arguments {
                    self.argument(argument, details)?;
                }
            }
            Kind::Workdir(directory) => {
                let directory = self.word(directory)?;
                let is_first = !std::mem::replace(&mut self.state.has_workdir, true);
                details.first_workdir = is_first.then_some(directory);
            }
            Kind::User(word) | Kind::StopSignal(word) => drop(self.word(word)?),
            Kind::Volume(words) => {
                for word in words {
                    self.word(word)?;
                }
            }
            Kind::Expose(words) => details.ports = self.ports(words)?,
            Kind::Shell(_) => self.state.has_shell = true,
            Kind::Run(run) => {
                for spec in &run.mounts {
                    let mount = spec.resolve(&mut |value| self.text(value));
                    details.mounts.push(mount.map_err(|_| Stop)?);
                }
            }
            Kind::Copy(_) | Kind::Add(_) => self.copy(&instruction.kind, details)?,
            Kind::Cmd(_)
            | Kind::Entrypoint(_)
            | Kind::Healthcheck(_)
            | Kind::Maintainer(_)
            | Kind::OnBuild(_)
            | Kind::From { .. } => {}
            Kind::Unknown => return Err(Stop),
        }
        Ok(())
    }

    fn copy(&mut self, kind: &Kind, details: &mut Details) -> Result<(), Stop> {
        match kind {
            Kind::Copy(copy) => {
                self.optional(copy.chown.as_ref())?;
                self.optional(copy.chmod.as_ref())?;
                let from = copy.from.as_ref().filter(|from| !from.text.is_empty());
                let sources = self.sources(&copy.sources, &copy.dest, &copy.files)?;
                if from.is_none() {
                    details.context_sources = sources;
                }
            }
            Kind::Add(add) => {
                self.optional(add.chown.as_ref())?;
                self.optional(add.chmod.as_ref())?;
                self.optional(add.checksum.as_ref())?;
                details.context_sources = self.sources(&add.sources, &add.dest, &add.files)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Declares an argument: a given value, else the default, else the global one of its name.
    fn argument(&mut self, argument: &Argument, details: &mut Details) -> Result<(), Stop> {
        let name = argument.name.text.as_str();
        let given = self.model.request.build_args.get(name);
        let value = match (given, &argument.default) {
            (Some(given), _) => Some(given.clone()),
            (None, Some(default)) => Some(self.word(default)?),
            (None, None) => self.model.globals.variables.get(name).map(ToOwned::to_owned),
        };
        if let Some(value) = value {
            if !NOT_VARIABLES.contains(&name) {
                self.state.variables.set(name, &value);
            }
            details.args.insert(name.to_owned(), value);
        }
        self.state.declared.push(name.to_owned());
        Ok(())
    }

    fn sources(
        &mut self,
        sources: &[Word],
        dest: &Word,
        files: &[InlineFile],
    ) -> Result<Vec<String>, Stop> {
        let expanded = sources.iter().map(|source| self.word(source)).collect::<Result<_, _>>()?;
        self.word(dest)?;
        for file in files.iter().filter(|file| file.expand) {
            self.expanded(&file.content, Reading::Heredoc).map_err(|_| Stop)?;
        }
        Ok(expanded)
    }

    /// Ports are split after expansion, and no unset variable in them is reported.
    fn ports(&self, words: &[Word]) -> Result<Vec<String>, Stop> {
        let mut words: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
        words.sort_unstable();
        let lookup = |name: &str| self.state.variables.get(name).map(ToOwned::to_owned);
        let escape = self.model.file.directives.escape_char();
        let mut ports = Vec::new();
        for word in words {
            ports.extend(word::expand_list(word, &lookup, escape).map_err(|_| Stop)?);
        }
        Ok(ports)
    }

    fn optional(&mut self, word: Option<&Word>) -> Result<(), Stop> {
        match word {
            Some(word) => self.word(word).map(drop),
            None => Ok(()),
        }
    }

    fn word(&mut self, word: &Word) -> Result<String, Stop> {
        self.text(&word.text).map_err(|_| Stop)
    }

    fn text(&mut self, text: &str) -> Result<String, WordError> {
        self.expanded(text, self.model.escape())
    }

    /// Expands a text and notes what it used without its being set. What was declared as an argument
    /// may lack a value.
    fn expanded(&mut self, text: &str, reading: Reading) -> Result<String, WordError> {
        let (expansion, result) = expand(text, &self.state.variables, reading);
        for name in expansion.unmatched {
            if self.state.declared.contains(&name) || NOT_VARIABLES.contains(&name.as_str()) {
                continue;
            }
            let near = meant(&name, self.state.variables.names()).map(ToOwned::to_owned);
            self.unset.push((name, near));
        }
        result.map(|()| expansion.text)
    }
}
