//! What a target can be given.

use std::collections::{BTreeMap, BTreeSet};

use corten_diag::Span;
use corten_dockerfile::mount::{Mount, MountType};
use corten_dockerfile::{Argument, Kind};

use crate::model::{Model, Step};
use crate::targets::description;

/// The parameters of a target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    pub name: Option<String>,
    pub description: Option<String>,
    pub args: Vec<Parameter>,
    pub secrets: Vec<Wanted>,
    pub ssh: Vec<Wanted>,
}

/// A build argument.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    pub name: String,
    /// The value that it has in this build; empty when it has none.
    pub value: String,
    pub description: Option<String>,
    pub place: Span,
}

/// A secret or an agent that a step asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub name: String,
    pub required: bool,
    pub place: Span,
}

/// Collects the parameters of the target and of what it needs; of one name those of the target
/// itself go first. They are in the order of the file.
pub fn outline(model: &Model<'_>) -> Outline {
    let mut collector =
        Collector { model, args: BTreeMap::new(), secrets: BTreeMap::new(), ssh: BTreeMap::new() };
    for stage in &model.needed {
        collector.stage(*stage);
    }
    let target = model.needed.first().copied();
    let stage = target.and_then(|target| model.stages.stages.get(target));
    let name = stage.and_then(|stage| stage.name.clone());
    let comments = target.map(|target| model.from(target).comments.as_slice());
    Outline {
        description: name.as_deref().and_then(|name| description(comments?, name)),
        name,
        args: sorted(collector.args, |it| it.place),
        secrets: sorted(collector.secrets, |it| it.place),
        ssh: sorted(collector.ssh, |it| it.place),
    }
}

fn sorted<T>(found: BTreeMap<String, T>, place: impl Fn(&T) -> Span) -> Vec<T> {
    let mut all: Vec<T> = found.into_values().collect();
    all.sort_by_key(|each| place(each).start);
    all
}

struct Collector<'m, 'a> {
    model: &'m Model<'a>,
    args: BTreeMap<String, Parameter>,
    secrets: BTreeMap<String, Wanted>,
    ssh: BTreeMap<String, Wanted>,
}

impl Collector<'_, '_> {
    fn stage(&mut self, stage: usize) {
        let model = self.model;
        let Some(from) = model.froms.get(stage) else { return };
        // What a stage declares itself goes before the global argument of the same name.
        for step in model.steps.iter().filter(|step| step.stage == stage) {
            match &step.instruction.kind {
                Kind::Arg(arguments) => {
                    for argument in arguments {
                        self.declared(step, argument);
                    }
                }
                Kind::Run(_) => {
                    for mount in &step.details.mounts {
                        self.mount(step, mount);
                    }
                }
                _ => {}
            }
        }
        let platform = from.platform.iter().flat_map(|platform| &platform.matched);
        let used = from.image.matched.iter().chain(platform).cloned().collect();
        self.globals(used);
    }

    fn declared(&mut self, step: &Step<'_>, argument: &Argument) {
        let name = &argument.name.text;
        let given = self.model.request.build_args.contains_key(name);
        if argument.default.is_none() && !given && self.model.globals.variables.get(name).is_some()
        {
            return self.globals(BTreeSet::from([name.clone()]));
        }
        let value = step.details.args.get(name).cloned().unwrap_or_default();
        let parameter = Parameter {
            name: name.clone(),
            value,
            description: description(&step.instruction.comments, name),
            place: step.place,
        };
        self.args.entry(name.clone()).or_insert(parameter);
    }

    /// Adds global arguments and those that they are made of.
    fn globals(&mut self, names: BTreeSet<String>) {
        let mut open: Vec<String> = names.into_iter().collect();
        let mut seen = BTreeSet::new();
        while let Some(name) = open.pop() {
            let Some(argument) = self.model.globals.declared.get(&name) else { continue };
            if !seen.insert(name.clone()) {
                continue;
            }
            open.extend(argument.made_of.iter().cloned());
            let Some(instruction) = self.model.file.instructions.get(argument.instruction) else {
                continue;
            };
            let parameter = Parameter {
                name: name.clone(),
                value: argument.value.clone(),
                description: description(&instruction.comments, &name),
                place: instruction.span,
            };
            self.args.entry(name).or_insert(parameter);
        }
    }

    fn mount(&mut self, step: &Step<'_>, mount: &Mount) {
        let (found, name) = match mount.kind {
            MountType::Secret => {
                let target = mount.target.as_deref().and_then(|it| it.rsplit('/').next());
                let name = mount.source.as_deref().or(mount.id.as_deref()).or(target);
                (&mut self.secrets, name.unwrap_or_default())
            }
            MountType::Ssh => (&mut self.ssh, mount.id.as_deref().unwrap_or("default")),
            MountType::Bind | MountType::Cache | MountType::Tmpfs => return,
        };
        let wanted = Wanted { name: name.to_owned(), required: mount.required, place: step.place };
        found.entry(name.to_owned()).or_insert(wanted);
    }
}
