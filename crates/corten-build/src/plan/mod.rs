//! From a Dockerfile and options to a [`Graph`].
//!
//! Only what the target needs is planned. Base images are asked for as they are met; everything
//! else is decided from the text.

mod changes;
mod copy;
pub(crate) mod epoch;
mod instruction;
mod merge;
mod run;
pub(crate) mod scope;
mod stage;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use corten_diag::{Diagnostic, SourceFile, Span, suggest};
use corten_dockerfile::{Dockerfile, Instruction, Kind, Word, word};
use corten_oci::platform::Platform;
use corten_oci::reference::Reference;
use corten_store::Image;

use crate::config::StageConfig;
use crate::error::{BuildError, Diagnosed};
use crate::graph::{Graph, GraphTarget, Place, Stage, StageId};
use crate::options::{BuildOptions, NamedContext};
use crate::traits::Bases;
use scope::Variables;

pub use changes::{ChangeError, change_config};

/// Plans a build. Without `bases` the plan is only fit to be shown: variables that images set are
/// not known then.
pub fn plan(
    dockerfile: &Dockerfile,
    options: &BuildOptions,
    bases: Option<&dyn Bases>,
) -> Result<Graph, BuildError> {
    let source = SourceFile::new(options.dockerfile.name.clone(), options.dockerfile.text.clone());
    let source = Arc::new(source);
    let failed = |diagnostics: Vec<Diagnostic>| {
        BuildError::from(Diagnosed::new(diagnostics, Arc::clone(&source)))
    };
    let (errors, warnings): (Vec<_>, Vec<_>) =
        dockerfile.diagnostics.iter().cloned().partition(Diagnostic::is_error);
    if !errors.is_empty() {
        return Err(failed(errors));
    }
    let mut platforms = options.platforms.clone();
    if platforms.is_empty() {
        platforms.push(Platform::host());
    }
    let mut plans = Vec::new();
    let mut known_bases = BTreeMap::new();
    for platform in platforms {
        let mut planner = Planner::new(dockerfile, options, bases, platform);
        planner.known_bases = known_bases;
        planner.warnings.clone_from(&warnings);
        planner.run().map_err(|error| failed(vec![*error]))?;
        let Planner { platform, stages, warnings, known_bases: known, .. } = planner;
        known_bases = known;
        plans.push(graph(platform, stages, warnings, options, &source));
    }
    let nothing = || failed(vec![Diagnostic::error("there is no platform to build for")]);
    let mut graph = merge::merge(plans).ok_or_else(nothing)?;
    number_steps(&mut graph);
    Ok(graph)
}

/// The plan for one platform.
fn graph(
    platform: Platform,
    stages: Vec<Planned>,
    warnings: Vec<Diagnostic>,
    options: &BuildOptions,
    source: &Arc<SourceFile>,
) -> Graph {
    let mut stages: Vec<Stage> = stages
        .into_iter()
        .map(|Planned { stage, platform: of, .. }| Stage {
            platform: of,
            built_for: vec![platform.clone()],
            ..stage
        })
        .collect();
    let last = StageId(stages.len().saturating_sub(1));
    if let Some(target) = stages.last_mut() {
        target.config.config.labels.extend(options.labels.clone());
    }
    let targets = vec![GraphTarget { platform, stage: last }];
    Graph { targets, stages, source: Arc::clone(source), warnings }
}

/// An error at a place; boxed since it is large and rare.
type PlanResult<T> = Result<T, Box<Diagnostic>>;

fn error<T>(message: impl Into<String>, span: Span) -> PlanResult<T> {
    Err(Box::new(Diagnostic::error(message).at(span)))
}

/// A stage as the file has it.
struct FileStage<'a> {
    from: &'a Instruction,
    platform: Option<&'a Word>,
    image: &'a Word,
    /// As written.
    name: Option<&'a str>,
    instructions: &'a [Instruction],
}

/// A planned stage with what later stages inherit.
struct Planned {
    stage: Stage,
    config: StageConfig,
    variables: Variables,
    /// The arguments that were declared, for the history of `RUN`.
    args: Vec<(String, Option<String>)>,
    platform: Platform,
    /// `ONBUILD` of this stage.
    triggers: Vec<String>,
}

struct Planner<'a> {
    options: &'a BuildOptions,
    bases: Option<&'a dyn Bases>,
    escape: char,
    file_stages: Vec<FileStage<'a>>,
    global_args: &'a [Instruction],
    globals: Variables,
    /// The architecture of this machine.
    host: Platform,
    platform: Platform,
    /// Given by the options or by a build argument.
    epoch: Option<i64>,
    stages: Vec<Planned>,
    by_file_stage: BTreeMap<usize, StageId>,
    by_image: BTreeMap<String, StageId>,
    /// Build arguments that some `ARG` took.
    used_args: BTreeSet<String>,
    /// Every name that some `ARG` of the file has.
    declared_args: BTreeSet<&'a str>,
    /// Images that were asked for, by name and platform.
    known_bases: BTreeMap<(String, Platform), Image>,
    warnings: Vec<Diagnostic>,
}

impl<'a> Planner<'a> {
    fn new(
        dockerfile: &'a Dockerfile,
        options: &'a BuildOptions,
        bases: Option<&'a dyn Bases>,
        platform: Platform,
    ) -> Self {
        let instructions = &dockerfile.instructions;
        let is_from = |instruction: &Instruction| matches!(instruction.kind, Kind::From { .. });
        let starts: Vec<usize> =
            instructions.iter().enumerate().filter(|(_, i)| is_from(i)).map(|(at, _)| at).collect();
        let mut file_stages = Vec::new();
        for (index, start) in starts.iter().enumerate() {
            let end = starts.get(index + 1).copied().unwrap_or(instructions.len());
            let from = &instructions[*start];
            if let Kind::From { platform, image, alias } = &from.kind {
                file_stages.push(FileStage {
                    from,
                    platform: platform.as_ref(),
                    image,
                    name: alias.as_ref().map(|alias| alias.text.as_str()),
                    instructions: &instructions[*start + 1..end],
                });
            }
        }
        let first = starts.first().copied().unwrap_or(instructions.len());
        Self {
            options,
            bases,
            escape: dockerfile.directives.escape_char(),
            file_stages,
            global_args: &instructions[..first],
            globals: Variables::default(),
            platform,
            host: Platform::host(),
            epoch: options.epoch,
            stages: Vec::new(),
            by_file_stage: BTreeMap::new(),
            by_image: BTreeMap::new(),
            used_args: BTreeSet::new(),
            declared_args: declared_args(instructions),
            known_bases: BTreeMap::new(),
            warnings: Vec::new(),
        }
    }

    fn run(&mut self) -> PlanResult<()> {
        if self.file_stages.is_empty() {
            let message = "the Dockerfile has no `FROM`, so there is nothing to build";
            let diagnostic = Diagnostic::error(message).at(Span::empty(0));
            return Err(Box::new(diagnostic.with_hint("add `FROM` and an image")));
        }
        self.plan_globals()?;
        self.plan_epoch()?;
        let target = self.find_target()?;
        self.plan_file_stage(target)?;
        self.warn_of_unused_args();
        Ok(())
    }

    fn find_target(&self) -> PlanResult<usize> {
        let last = self.file_stages.len() - 1;
        let Some(wanted) = &self.options.target else { return Ok(last) };
        if let Some(index) = self.stage_by_name(wanted, self.file_stages.len()) {
            return Ok(index);
        }
        if let Ok(index) = wanted.parse::<usize>()
            && index <= last
        {
            return Ok(index);
        }
        let names: Vec<&str> = self.file_stages.iter().filter_map(|stage| stage.name).collect();
        let message = format!("there is no stage `{wanted}` to build");
        let span = self.file_stages[last].from.span;
        let diagnostic = Diagnostic::error(message).at(span);
        Err(Box::new(match (suggest::nearest(wanted, &names), names.is_empty()) {
            (Some(near), _) => diagnostic.with_hint(format!("did you mean `{near}`?")),
            (None, true) => diagnostic.with_hint("give a stage a name with `FROM image AS name`"),
            (None, false) => {
                diagnostic.with_hint(format!("the stages are `{}`", names.join("`, `")))
            }
        }))
    }

    /// The last stage of that name before `end`; names do not distinguish case.
    fn stage_by_name(&self, name: &str, end: usize) -> Option<usize> {
        let stages = self.file_stages.iter().enumerate().take(end);
        stages
            .filter(|(_, stage)| stage.name.is_some_and(|known| known.eq_ignore_ascii_case(name)))
            .map(|(index, _)| index)
            .next_back()
    }

    /// Reads the `ARG`s before the first `FROM`.
    fn plan_globals(&mut self) -> PlanResult<()> {
        let target = self
            .options
            .target
            .as_deref()
            .or_else(|| self.file_stages.last().and_then(|stage| stage.name));
        let given = &self.options.build_args;
        self.globals =
            scope::global(&self.host, &self.platform, target.unwrap_or("default"), given);
        for instruction in self.global_args {
            let Kind::Arg(arguments) = &instruction.kind else {
                let message = format!("`{}` stands before the first `FROM`", instruction.name);
                let diagnostic = Diagnostic::error(message).at(instruction.span);
                let hint = "only `ARG` may; move it behind the `FROM` of its stage";
                return Err(Box::new(diagnostic.with_hint(hint)));
            };
            for argument in arguments {
                let name = &argument.name.text;
                let value = match (given.get(name), &argument.default) {
                    (Some(given), _) => {
                        self.used_args.insert(name.clone());
                        Some(given.clone())
                    }
                    (None, Some(default)) => Some(self.expand_global(default)?),
                    (None, None) => None,
                };
                if let Some(value) = value {
                    self.globals.set(name, &value);
                }
            }
        }
        Ok(())
    }

    fn expand_global(&self, word: &Word) -> PlanResult<String> {
        self.expand_with(word, &self.globals)
    }

    /// Expands a word; an error is placed where it is in the word.
    fn expand_with(&self, word: &Word, variables: &Variables) -> PlanResult<String> {
        let lookup = |name: &str| variables.get(name);
        word::expand(&word.text, &lookup, self.escape).map_err(|error| word_error(word, &error))
    }

    /// Plans a stage of the file, once.
    fn plan_file_stage(&mut self, index: usize) -> PlanResult<StageId> {
        if let Some(id) = self.by_file_stage.get(&index) {
            return Ok(*id);
        }
        let planned = stage::plan_stage(self, index)?;
        let id = StageId(self.stages.len());
        self.stages.push(planned);
        self.by_file_stage.insert(index, id);
        Ok(id)
    }

    /// An image that files are taken from, as a stage without steps.
    fn plan_image(&mut self, text: &str, span: Span) -> PlanResult<StageId> {
        if let Some(id) = self.by_image.get(text) {
            return Ok(*id);
        }
        let platform = self.platform.clone();
        let place = Place { span, trigger: None };
        let planned = stage::begin_from_image(self, text, &platform, place)?;
        let id = StageId(self.stages.len());
        self.stages.push(planned);
        self.by_image.insert(text.to_owned(), id);
        Ok(id)
    }

    /// The same for an image that a further context is.
    fn plan_found(&mut self, name: &str, images: &[Image], span: Span) -> PlanResult<StageId> {
        let key = format!("context {name}");
        if let Some(id) = self.by_image.get(&key) {
            return Ok(*id);
        }
        let platform = self.platform.clone();
        let place = Place { span, trigger: None };
        let planned = stage::begin_from_found(self, name, images, &platform, place)?;
        let id = StageId(self.stages.len());
        self.stages.push(planned);
        self.by_image.insert(key, id);
        Ok(id)
    }

    /// The further context of that name. An image may be written short or in full.
    fn named_context(&self, name: &str) -> Option<(&'a str, &'a NamedContext)> {
        let contexts = &self.options.contexts;
        let find = |name: &str| contexts.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        let found = find(name).or_else(|| {
            let reference: Reference = name.parse().ok()?;
            find(&reference.familiar()).or_else(|| find(&reference.to_string())).or_else(|| {
                let latest = reference.tag() == Some("latest") && reference.digest().is_none();
                let familiar = reference.familiar();
                latest.then(|| find(familiar.trim_end_matches(":latest"))).flatten()
            })
        });
        found.map(|(name, context)| (name.as_str(), context))
    }

    /// The stage of the file that a further context stands for.
    fn context_stage(&self, stage: &str, span: Span) -> PlanResult<usize> {
        let count = self.file_stages.len();
        let number = || stage.parse().ok().filter(|number| *number < count);
        match self.stage_by_name(stage, count).or_else(number) {
            Some(index) => Ok(index),
            None => error(format!("there is no stage `{stage}` for `target:{stage}`"), span),
        }
    }

    /// Refuses to run programs that this machine cannot execute.
    fn check_can_run(&self, platform: &Platform, span: Span) -> PlanResult<()> {
        let refused = match self.bases {
            Some(bases) => bases.can_execute(platform),
            None => Ok(()),
        };
        let Err(cause) = refused else { return Ok(()) };
        let mut diagnostic = Diagnostic::error(cause.message.clone()).at(span);
        diagnostic.notes.extend(crate::diagnose::causes(&cause));
        diagnostic.hint = cause.hint;
        Err(Box::new(diagnostic))
    }

    fn warn_of_unused_args(&mut self) {
        let declared: Vec<&str> = self.declared_args.iter().copied().collect();
        let mut warnings = Vec::new();
        for name in self.options.build_args.keys() {
            if self.used_args.contains(name) || scope::is_predefined(name) {
                continue;
            }
            let warning = if declared.contains(&name.as_str()) {
                Diagnostic::warning(format!(
                    "the build argument `{name}` is not used by what is built"
                ))
            } else {
                let warning =
                    Diagnostic::warning(format!("the build argument `{name}` is declared nowhere"));
                match suggest::nearest(name, &declared) {
                    Some(near) => warning.with_hint(format!("did you mean `{near}`?")),
                    None => warning.with_hint(format!("declare it with `ARG {name}`")),
                }
            };
            warnings.push(warning);
        }
        self.warnings.append(&mut warnings);
    }
}

fn declared_args(instructions: &[Instruction]) -> BTreeSet<&str> {
    let arguments = instructions.iter().filter_map(|instruction| match &instruction.kind {
        Kind::Arg(arguments) => Some(arguments),
        _ => None,
    });
    arguments.flatten().map(|argument| argument.name.text.as_str()).collect()
}

fn word_error(word: &Word, error: &word::WordError) -> Box<Diagnostic> {
    let at = word.locate(error.offset);
    // From the mistake to the end of the word; an odd place is the word itself.
    let span = if word.span.contains(at) { Span::new(at, word.span.end) } else { word.span };
    Box::new(Diagnostic::error(error.message.clone()).at(span))
}

/// Gives the steps their numbers, stage by stage.
fn number_steps(graph: &mut Graph) {
    let mut number = 0;
    for step in graph.stages.iter_mut().flat_map(|stage| &mut stage.steps) {
        number += 1;
        step.number = number;
    }
}

/// The variables that words of one instruction see, and which of them are not set.
struct Scope<'v> {
    variables: &'v Variables,
    escape: char,
    unset: RefCell<BTreeSet<String>>,
}

impl<'v> Scope<'v> {
    fn new(variables: &'v Variables, escape: char) -> Self {
        Self { variables, escape, unset: RefCell::default() }
    }

    fn lookup(&self, name: &str) -> Option<String> {
        let value = self.variables.get(name);
        if value.is_none() {
            self.unset.borrow_mut().insert(name.to_owned());
        }
        value
    }

    fn expand(&self, word: &Word) -> PlanResult<String> {
        word::expand(&word.text, &|name| self.lookup(name), self.escape)
            .map_err(|error| word_error(word, &error))
    }

    fn expand_list(&self, word: &Word) -> PlanResult<Vec<String>> {
        word::expand_list(&word.text, &|name| self.lookup(name), self.escape)
            .map_err(|error| word_error(word, &error))
    }
}
