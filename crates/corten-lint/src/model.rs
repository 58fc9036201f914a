//! The file with its stages resolved.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use corten_diag::Span;
use corten_dockerfile::mount::Mount;
use corten_dockerfile::stages::{self, Stages};
use corten_dockerfile::{Dockerfile, Instruction, Keyword, Kind};

use crate::expand::{Expansion, Reading, Variables, expand};
use crate::request::{PlatformName, Request, Surroundings};
use crate::walk;

/// All that rules look at.
#[derive(Debug)]
pub struct Model<'a> {
    pub text: &'a str,
    pub file: &'a Dockerfile,
    pub request: &'a Request<'a>,
    /// How many instructions come before the end of the first one that is wrong; all when none is.
    pub readable: usize,
    /// The stages, empty when the file could not be read to its end.
    pub stages: Stages,
    /// What each `FROM` says, up to the first that leads nowhere.
    pub(crate) froms: Vec<From>,
    /// The steps of stages in the order in which a build meets them, up to the first that fails.
    pub steps: Vec<Step<'a>>,
    /// Stages that began with an image of another platform than asked for.
    pub(crate) foreign: Vec<Foreign>,
    /// Images that a stage begins with and that nothing is known of.
    pub unknown_bases: BTreeSet<String>,
    /// A step could not be carried out, so that nothing after it was looked at.
    pub stopped: bool,
    pub(crate) globals: Globals,
    /// Which stages the target needs, the target first; by index.
    pub(crate) needed: Vec<usize>,
    /// Stages whose image has no valid name as long as no build argument is given.
    pub(crate) invalid_by_default: Vec<usize>,
}

/// A `FROM` with its words expanded.
#[derive(Clone, Debug)]
pub(crate) struct From {
    pub(crate) image: Expansion,
    pub(crate) platform: Option<Expansion>,
    /// What the expanded platform means.
    pub(crate) named: Option<PlatformName>,
    /// Another stage, by index.
    pub(crate) base: Option<usize>,
}

/// A stage whose image is for another platform.
#[derive(Clone, Debug)]
pub(crate) struct Foreign {
    pub(crate) stage: usize,
    pub(crate) image: String,
    pub(crate) expected: PlatformName,
    pub(crate) actual: PlatformName,
}

/// One instruction of a stage, as a build would carry it out.
#[derive(Clone, Debug)]
pub struct Step<'a> {
    /// The index of the stage.
    pub stage: usize,
    pub instruction: Cow<'a, Instruction>,
    /// Its place; of a trigger the place of the `FROM` that sets it off.
    pub place: Span,
    /// Variables that were used without being set, each with the name that may have been meant.
    pub unset: Vec<(String, Option<String>)>,
    pub details: Details,
}

/// What expansion and inheritance say about a step.
#[derive(Clone, Debug, Default)]
pub struct Details {
    /// The expanded directory of a `WORKDIR` that is the first in the file for its stage.
    pub first_workdir: Option<String>,
    /// The expanded words of an `EXPOSE`, sorted before they were expanded.
    pub ports: Vec<String>,
    /// The expanded sources that a `COPY` or an `ADD` takes from the context.
    pub context_sources: Vec<String>,
    /// A `SHELL` is in force.
    pub has_shell: bool,
    pub mounts: Vec<Mount>,
    /// The values of the arguments that an `ARG` declares, of those that have one.
    pub args: BTreeMap<String, String>,
}

/// The arguments before the first `FROM`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Globals {
    /// With the predefined ones.
    pub(crate) variables: Variables,
    pub(crate) declared: BTreeMap<String, GlobalArg>,
}

/// A global argument.
#[derive(Clone, Debug)]
pub(crate) struct GlobalArg {
    pub(crate) value: String,
    /// The index of its instruction.
    pub(crate) instruction: usize,
    /// Arguments that its default is made of.
    pub(crate) made_of: BTreeSet<String>,
}

impl<'a> Model<'a> {
    /// Resolves the stages of a file. It never fails: what cannot be resolved is left out.
    pub fn new(
        text: &'a str,
        file: &'a Dockerfile,
        request: &'a Request<'a>,
        surroundings: &dyn Surroundings,
    ) -> Self {
        let mut stages = stages::stages(file);
        let (readable, is_whole) = readable(file, &stages);
        if !is_whole {
            stages = Stages::default();
        }
        let mut model = Self {
            text,
            file,
            request,
            readable,
            stages,
            froms: Vec::new(),
            steps: Vec::new(),
            foreign: Vec::new(),
            unknown_bases: BTreeSet::new(),
            stopped: false,
            globals: Globals::default(),
            needed: Vec::new(),
            invalid_by_default: Vec::new(),
        };
        if is_whole {
            model.resolve(surroundings);
        }
        model
    }

    /// The instructions that a rule about single instructions may look at.
    pub fn instructions(&self) -> &'a [Instruction] {
        &self.file.instructions[..self.readable]
    }

    /// Whether the target was found, and all that it takes files from.
    pub fn has_target(&self) -> bool {
        !self.needed.is_empty()
    }

    /// The `FROM` of a stage.
    pub(crate) fn from(&self, stage: usize) -> &'a Instruction {
        &self.file.instructions[self.stages.stages[stage].from]
    }

    pub(crate) fn escape(&self) -> Reading {
        Reading::Word { escape: self.file.directives.escape_char() }
    }

    fn resolve(&mut self, surroundings: &dyn Surroundings) {
        self.find_invalid_defaults(surroundings);
        let Some(globals) = self.globals_with(&self.request.build_args) else { return };
        self.globals = globals;
        if self.resolve_froms(surroundings).is_none() {
            return;
        }
        let Some(target) = self.target() else { return };
        let Some(needed) = self.needed_by(target) else { return };
        self.needed = needed;
        walk::walk(self, surroundings);
    }

    /// Evaluates the global arguments, given some of them; none when a word cannot be expanded.
    fn globals_with(&self, given: &BTreeMap<String, String>) -> Option<Globals> {
        let mut globals = Globals { variables: self.predefined(), ..Globals::default() };
        for index in &self.stages.global_args {
            let Kind::Arg(arguments) = &self.file.instructions[*index].kind else { continue };
            for argument in arguments {
                let name = argument.name.text.as_str();
                let mut made_of = BTreeSet::new();
                let value = match (given.get(name), &argument.default) {
                    (Some(given), _) => Some(given.clone()),
                    (None, Some(default)) => {
                        let variables = &globals.variables;
                        let (expansion, result) = expand(&default.text, variables, self.escape());
                        result.ok()?;
                        made_of = expansion.matched;
                        // What is defined by itself goes on to be made of what it was made of.
                        if made_of.remove(name)
                            && let Some(before) = globals.declared.get(name)
                        {
                            made_of.extend(before.made_of.iter().cloned());
                        }
                        Some(expansion.text)
                    }
                    (None, None) => None,
                };
                if let Some(value) = &value {
                    globals.variables.set(name, value);
                }
                let value = value.unwrap_or_default();
                let argument = GlobalArg { value, instruction: *index, made_of };
                globals.declared.insert(name.to_owned(), argument);
            }
        }
        Some(globals)
    }

    /// The arguments that need no declaration; given values go before them.
    fn predefined(&self) -> Variables {
        let Request { host, platform, target, build_args, .. } = self.request;
        let last = self.stages.stages.last().and_then(|stage| stage.name.as_deref());
        let variant = |name: &PlatformName| name.variant.clone().unwrap_or_default();
        let values = [
            ("BUILDPLATFORM", host.to_string()),
            ("BUILDOS", host.os.clone()),
            ("BUILDOSVERSION", String::new()),
            ("BUILDARCH", host.architecture.clone()),
            ("BUILDVARIANT", variant(host)),
            ("TARGETPLATFORM", platform.to_string()),
            ("TARGETOS", platform.os.clone()),
            ("TARGETOSVERSION", String::new()),
            ("TARGETARCH", platform.architecture.clone()),
            ("TARGETVARIANT", variant(platform)),
            ("TARGETSTAGE", target.as_deref().or(last).unwrap_or("default").to_owned()),
        ];
        let mut variables = Variables::default();
        for (name, value) in values {
            variables.set(name, build_args.get(name).unwrap_or(&value));
        }
        variables
    }

    /// Finds the stages whose image has no valid name as long as no argument is given.
    fn find_invalid_defaults(&mut self, surroundings: &dyn Surroundings) {
        let Some(globals) = self.globals_with(&BTreeMap::new()) else { return };
        for stage in 0..self.stages.stages.len() {
            let Kind::From { image, .. } = &self.from(stage).kind else { return };
            let (expansion, result) = expand(&image.text, &globals.variables, self.escape());
            if result.is_err() {
                return;
            }
            if !surroundings.is_image_name(&expansion.text) {
                self.invalid_by_default.push(stage);
            }
        }
    }

    /// Expands what stands in each `FROM`; none at the first that leads nowhere, which is kept.
    fn resolve_froms(&mut self, surroundings: &dyn Surroundings) -> Option<()> {
        for stage in 0..self.stages.stages.len() {
            let Kind::From { image, platform, .. } = &self.from(stage).kind else { return None };
            let variables = &self.globals.variables;
            let (image, result) = expand(&image.text, variables, self.escape());
            let base = self.stages.base(stage, &image.text).map(|base| base.index);
            let mut leads = result.is_ok() && !image.text.is_empty();
            let mut from = From { image, platform: None, named: None, base };
            if leads && let Some(platform) = platform.as_ref().filter(|it| !it.text.is_empty()) {
                let (expansion, result) = expand(&platform.text, variables, self.escape());
                from.named = surroundings.platform(&expansion.text);
                leads = result.is_ok() && from.named.is_some();
                from.platform = Some(expansion);
            }
            self.froms.push(from);
            leads.then_some(())?;
        }
        Some(())
    }

    fn target(&self) -> Option<usize> {
        let Some(wanted) = &self.request.target else {
            return self.stages.stages.len().checked_sub(1);
        };
        if let Some(stage) = self.stages.by_name(wanted) {
            return Some(stage.index);
        }
        wanted.parse().ok().filter(|index| *index < self.stages.stages.len())
    }

    /// The stages that a stage needs, itself first; none when a copy names no stage.
    fn needed_by(&self, target: usize) -> Option<Vec<usize>> {
        let mut needed = vec![target];
        let mut next = 0;
        while let Some(stage) = needed.get(next).copied() {
            next += 1;
            let base = self.froms[stage].base;
            let triggers = base.into_iter().flat_map(|base| self.triggers(base));
            let mut used: Vec<usize> = base.into_iter().collect();
            for instruction in self.own(stage).iter().chain(triggers) {
                used.extend(walk::stages_used(&self.stages, instruction)?);
            }
            for stage in used {
                if !needed.contains(&stage) {
                    needed.push(stage);
                }
            }
        }
        Some(needed)
    }

    /// The instructions of a stage.
    pub(crate) fn own(&self, stage: usize) -> &'a [Instruction] {
        &self.file.instructions[self.stages.stages[stage].instructions.clone()]
    }

    /// The instructions that a stage triggers in those that build upon it.
    pub(crate) fn triggers(&self, stage: usize) -> impl Iterator<Item = &'a Instruction> {
        self.own(stage).iter().filter_map(|instruction| match &instruction.kind {
            Kind::OnBuild(triggered) => Some(triggered.as_ref()),
            _ => None,
        })
    }
}

/// How many instructions can be looked at, the first wrong one included, and whether none is wrong.
fn readable(file: &Dockerfile, stages: &Stages) -> (usize, bool) {
    if stages.stages.is_empty() && file.diagnostics.iter().all(|it| !it.is_error()) {
        return (file.instructions.len(), false);
    }
    let all = file.diagnostics.iter().chain(&stages.diagnostics);
    let mut first: Option<usize> = None;
    for error in all.filter(|diagnostic| diagnostic.is_error()) {
        let at = error.span.unwrap_or_default().start;
        // What stands before all instructions, such as a directive, spoils them all.
        let before = file.instructions.partition_point(|it| it.span.start <= at);
        first = Some(first.map_or(before, |first| first.min(before)));
    }
    let unknown = file.instructions.iter().position(|instruction| {
        matches!(instruction.kind, Kind::Unknown) || instruction.keyword.value == Keyword::Unknown
    });
    let first = match (first, unknown.map(|index| index + 1)) {
        (Some(error), Some(unknown)) => Some(error.min(unknown)),
        (error, unknown) => error.or(unknown),
    };
    (first.unwrap_or(file.instructions.len()), first.is_none())
}
