//! The table of rules, and what a rule is.

mod casing;
mod commands;
mod continuation;
mod copy;
mod deprecated;
mod description;
mod expose;
mod from;
mod platform;
mod secrets;
mod stage_names;
mod variables;
mod workdir;

use corten_diag::{Diagnostic, Span};
use corten_dockerfile::{Instruction, Word};

use crate::model::{Model, Step};

/// A rule.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// By this name it is skipped.
    pub name: &'static str,
    /// One line that says what it wants.
    pub description: &'static str,
    /// It counts only when it is asked for.
    pub experimental: bool,
    pub(crate) find: fn(&Model<'_>) -> Vec<Finding>,
}

/// Something that a rule found, before anyone asked whether the rule counts there.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) diagnostic: Diagnostic,
    /// The comments that may say that it does not count. Empty where they are not heeded.
    pub(crate) comments: Vec<Word>,
}

impl Finding {
    /// A finding about the whole file, shown at a place; comments before that are not heeded.
    fn of_file(place: Span, message: impl Into<String>) -> Self {
        Self { diagnostic: Diagnostic::warning(message).at(place), comments: Vec::new() }
    }

    /// A finding about an instruction.
    fn of(instruction: &Instruction, message: impl Into<String>) -> Self {
        Self::at(instruction.span, instruction, message)
    }

    /// A finding about a step of a stage.
    fn step(step: &Step<'_>, message: impl Into<String>) -> Self {
        Self::at(step.place, &step.instruction, message)
    }

    fn at(place: Span, instruction: &Instruction, message: impl Into<String>) -> Self {
        let comments = instruction.comments.clone();
        Self { comments, ..Self::of_file(place, message) }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.diagnostic = self.diagnostic.with_hint(hint);
        self
    }

    fn note(mut self, note: impl Into<String>) -> Self {
        self.diagnostic = self.diagnostic.with_note(note);
        self
    }
}

const fn rule(
    name: &'static str,
    description: &'static str,
    find: fn(&Model<'_>) -> Vec<Finding>,
) -> Rule {
    Rule { name, description, experimental: false, find }
}

/// All rules, by name.
pub const RULES: &[Rule] = &[
    rule(
        "ConsistentInstructionCasing",
        "all instructions of a file are written in the same case",
        casing::consistent_instructions,
    ),
    rule("CopyIgnoredFile", "what is copied is not ignored by .dockerignore", copy::ignored_file),
    rule("DuplicateStageName", "names of stages are unique", stage_names::duplicate),
    rule(
        "ExposeInvalidFormat",
        "EXPOSE names ports of the container, without an address or a port of the host",
        expose::invalid_format,
    ),
    rule("ExposeProtoCasing", "protocols in EXPOSE are in lower case", expose::protocol_casing),
    rule("FromAsCasing", "`AS` is written in the case of its `FROM`", casing::from_as),
    rule("FromPlatformFlagConstDisallowed", "`FROM --platform` is no constant", platform::constant),
    rule(
        "InvalidBaseImagePlatform",
        "base images are for the platform that is built for",
        platform::foreign_base,
    ),
    rule(
        "InvalidDefaultArgInFrom",
        "global arguments have defaults with which `FROM` names an image",
        from::invalid_default,
    ),
    Rule {
        name: "InvalidDefinitionDescription",
        description: "the comment before an ARG or a FROM describes what it defines",
        experimental: true,
        find: description::invalid,
    },
    rule(
        "JSONArgsRecommended",
        "CMD and ENTRYPOINT are JSON arrays, so that signals reach the program",
        commands::json_recommended,
    ),
    rule(
        "LegacyKeyValueFormat",
        "ENV and LABEL are written with `=` between key and value",
        deprecated::legacy_key_value,
    ),
    rule("MaintainerDeprecated", "the author is a label", deprecated::maintainer),
    rule(
        "MultipleInstructionsDisallowed",
        "a stage has one CMD, one ENTRYPOINT and one HEALTHCHECK",
        commands::multiple,
    ),
    rule(
        "NoEmptyContinuation",
        "no empty lines stand inside an instruction",
        continuation::empty_line,
    ),
    rule(
        "RedundantTargetPlatform",
        "`FROM --platform` does not say what holds without it",
        platform::redundant,
    ),
    rule(
        "ReservedStageName",
        "stages are not named like something built in",
        stage_names::reserved,
    ),
    rule(
        "SecretsUsedInArgOrEnv",
        "secrets are not given by ARG or ENV, which stay in the image",
        secrets::in_arg_or_env,
    ),
    rule("StageNameCasing", "names of stages are in lower case", casing::stage_names),
    rule("UndefinedArgInFrom", "FROM uses declared arguments only", from::undefined_arg),
    rule("UndefinedVar", "variables are defined before they are used", variables::undefined),
    rule(
        "WorkdirRelativePath",
        "the first WORKDIR is absolute, so that it does not depend on the base image",
        workdir::relative,
    ),
];

/// The rule of that name.
pub fn named(name: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.name == name)
}
