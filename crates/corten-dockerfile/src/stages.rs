//! Build stages, and the arguments before the first of them.
//!
//! A file begins with `ARG` instructions, which are global, and goes on with stages, each of which
//! begins with `FROM`. Global arguments are seen by `FROM` only; a stage that wants one declares it
//! again, without a default.

use std::collections::BTreeMap;
use std::ops::Range;

use corten_diag::{Diagnostic, Span};

use crate::ast::{Dockerfile, Keyword, Kind, Word};
use crate::word;

/// The shape of a file.
#[derive(Clone, Debug, Default)]
pub struct Stages {
    /// The `ARG` instructions before the first stage, as indexes of instructions.
    pub global_args: Vec<usize>,
    pub stages: Vec<Stage>,
    /// What is wrong with the order of instructions.
    pub diagnostics: Vec<Diagnostic>,
}

/// One build stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// From 0.
    pub index: usize,
    /// In lower case.
    pub name: Option<String>,
    /// The index of the `FROM` instruction.
    pub from: usize,
    /// The indexes of the instructions that follow it.
    pub instructions: Range<usize>,
    /// From `FROM` to the end of the last instruction.
    pub span: Span,
}

/// What `--from` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A stage of this file, by its index.
    Stage(usize),
    /// A number that no stage has.
    NoSuchStage,
    /// Something outside: a named context or an image.
    Other,
}

/// Finds the stages of a file.
pub fn stages(file: &Dockerfile) -> Stages {
    let mut out = Stages::default();
    for (index, instruction) in file.instructions.iter().enumerate() {
        if instruction.keyword.value == Keyword::From {
            let name = match &instruction.kind {
                Kind::From { alias: Some(alias), .. } => Some(alias.text.to_ascii_lowercase()),
                _ => None,
            };
            out.stages.push(Stage {
                index: out.stages.len(),
                name,
                from: index,
                instructions: index + 1..index + 1,
                span: instruction.span,
            });
        } else if let Some(stage) = out.stages.last_mut() {
            stage.instructions.end = index + 1;
            stage.span = stage.span.cover(instruction.span);
        } else if instruction.keyword.value == Keyword::Arg {
            out.global_args.push(index);
        } else if instruction.keyword.value != Keyword::Unknown {
            let name = instruction.keyword.value.as_str();
            let message = format!("`{name}` stands before the first `FROM`");
            let diagnostic = Diagnostic::error(message).at(instruction.keyword.span);
            out.diagnostics.push(diagnostic.with_hint("only `ARG` may stand there"));
        }
    }
    if out.stages.is_empty() && !file.instructions.is_empty() {
        let diagnostic = Diagnostic::error("the file has no build stage").at(Span::default());
        out.diagnostics.push(diagnostic.with_hint("begin with `FROM` and an image"));
    }
    out
}

impl Stages {
    /// The stage of that name, in whatever case; of several the last.
    pub fn by_name(&self, name: &str) -> Option<&Stage> {
        let name = name.to_lowercase();
        self.stages.iter().rev().find(|stage| stage.name.as_deref() == Some(name.as_str()))
    }

    /// The names of all stages, in order.
    pub fn names(&self) -> Vec<&str> {
        self.stages.iter().filter_map(|stage| stage.name.as_deref()).collect()
    }

    /// The stage that a stage is built upon, given its expanded image; none for an image.
    ///
    /// Only stages before it count, and names in `FROM` are taken in lower case only.
    pub fn base(&self, stage: usize, image: &str) -> Option<&Stage> {
        let before = self.stages.iter().take(stage);
        before.rev().find(|stage| stage.name.as_deref() == Some(image))
    }

    /// What `COPY --from` names: a stage by number or name, anywhere in the file, or something else.
    pub fn copy_source(&self, from: &str) -> Source {
        // A number is never a name, not even one with a sign.
        match from.parse::<i64>() {
            Ok(number) => match usize::try_from(number) {
                Ok(index) if index < self.stages.len() => Source::Stage(index),
                _ => Source::NoSuchStage,
            },
            Err(_) => self.mount_source(from),
        }
    }

    /// What `from` of a `RUN --mount` names: a stage by name only, or something else.
    pub fn mount_source(&self, from: &str) -> Source {
        self.by_name(from).map_or(Source::Other, |stage| Source::Stage(stage.index))
    }
}

/// Evaluates the global arguments in order.
///
/// `predefined` are those that need no declaration, such as `TARGETPLATFORM`, and `given` those that
/// were given for this build, which win over defaults and over predefined values. An argument without
/// a value anywhere is not set.
pub fn global_args(
    file: &Dockerfile,
    stages: &Stages,
    predefined: &BTreeMap<String, String>,
    given: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, String>, Box<Diagnostic>> {
    let mut values = predefined.clone();
    for (name, value) in &mut values {
        if let Some(given) = given.get(name) {
            value.clone_from(given);
        }
    }
    for index in &stages.global_args {
        let Some(Kind::Arg(arguments)) = file.instructions.get(*index).map(|it| &it.kind) else {
            continue;
        };
        for argument in arguments {
            let name = &argument.name.text;
            let value = match (given.get(name), &argument.default) {
                (Some(given), _) => given.clone(),
                (None, Some(default)) => expand(file, default, &values)?,
                (None, None) => continue,
            };
            values.insert(name.clone(), value);
        }
    }
    Ok(values)
}

/// Expands a word of a file with a set of variables; an error points at its place.
pub fn expand(
    file: &Dockerfile,
    word: &Word,
    values: &BTreeMap<String, String>,
) -> Result<String, Box<Diagnostic>> {
    let lookup = |name: &str| values.get(name).cloned();
    word::expand(&word.text, &lookup, file.directives.escape_char())
        .map_err(|error| Box::new(error.diagnostic(word)))
}
