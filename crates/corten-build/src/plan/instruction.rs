//! One instruction of a stage.

use corten_diag::{Diagnostic, Span};
use corten_dockerfile::{Argument, CommandLine, Instruction, Kind, Pair, Word, word};

use super::scope::is_variable;
use super::{PlanResult, Planned, Planner, Scope, copy, error, run};
use crate::config::{LayerMade, absolute};
use crate::graph::{Input, Op, Place, StageId, Step, WorkdirOp};
use crate::options::NamedContext;
use crate::remote::without_credentials;

/// Signals that `STOPSIGNAL` may name.
const SIGNALS: [&str; 34] = [
    "ABRT", "ALRM", "BUS", "CHLD", "CLD", "CONT", "FPE", "HUP", "ILL", "INT", "IO", "IOT", "KILL",
    "PIPE", "POLL", "PROF", "PWR", "QUIT", "SEGV", "STKFLT", "STOP", "SYS", "TERM", "TRAP", "TSTP",
    "TTIN", "TTOU", "URG", "USR1", "USR2", "VTALRM", "WINCH", "XCPU", "XFSZ",
];

/// Plans one instruction.
pub(super) struct Dispatcher<'p, 'a> {
    pub(super) planner: &'p mut Planner<'a>,
    /// The stage that it stands in.
    pub(super) index: usize,
    /// The trigger that it comes from, and the place of `FROM`.
    pub(super) trigger: Option<(&'p str, Span)>,
}

impl Dispatcher<'_, '_> {
    pub(super) fn dispatch(mut self, planned: &mut Planned, each: &Instruction) -> PlanResult<()> {
        let result = self.dispatch_kind(planned, each);
        let Some((text, span)) = self.trigger else { return result };
        // What is wrong in a trigger has its place in another text.
        result.map_err(|mut diagnostic| {
            diagnostic.span = Some(span);
            diagnostic.labels.clear();
            diagnostic.notes.push(format!("in the trigger `{text}` of the base image"));
            diagnostic
        })
    }

    fn dispatch_kind(&mut self, planned: &mut Planned, each: &Instruction) -> PlanResult<()> {
        match &each.kind {
            Kind::Arg(arguments) => self.arg(planned, arguments),
            Kind::Env(pairs) => {
                let pairs = self.expand_pairs(planned, pairs)?;
                for (name, value) in &pairs {
                    planned.variables.set(name, value);
                }
                planned.config.env(&pairs);
                Ok(())
            }
            Kind::Label(pairs) => {
                let pairs = self.expand_pairs(planned, pairs)?;
                planned.config.label(&pairs);
                Ok(())
            }
            Kind::Workdir(path) => self.workdir(planned, each, path),
            Kind::User(user) => {
                let user = self.expand(planned, user)?;
                planned.config.set_user(&user);
                Ok(())
            }
            Kind::Expose(ports) => self.expose(planned, ports),
            Kind::Volume(paths) => self.volume(planned, paths),
            Kind::Cmd(command) => {
                let args = command_args(planned, command);
                planned.config.cmd(args);
                Ok(())
            }
            Kind::Entrypoint(command) => {
                let args = command_args(planned, command);
                planned.config.entrypoint(args);
                Ok(())
            }
            Kind::Shell(words) => {
                planned.config.shell(words.iter().map(|word| word.text.clone()).collect());
                Ok(())
            }
            Kind::StopSignal(signal) => self.stop_signal(planned, signal),
            Kind::Healthcheck(check) => {
                planned.config.healthcheck(check);
                Ok(())
            }
            Kind::OnBuild(inner) => {
                let mut trigger = inner.original.clone();
                for heredoc in &inner.heredocs {
                    trigger.push_str(&format!("\n{}{}", heredoc.body, heredoc.name));
                }
                planned.config.on_build(trigger);
                Ok(())
            }
            Kind::Maintainer(name) => {
                planned.config.maintainer(&name.text);
                Ok(())
            }
            Kind::Run(run) => run::plan_run(self, planned, each, run),
            Kind::Copy(copy) => copy::plan_copy(self, planned, each, copy),
            Kind::Add(add) => copy::plan_add(self, planned, each, add),
            Kind::From { .. } | Kind::Unknown => {
                error(format!("`{}` cannot stand here", each.name), each.span)
            }
        }
    }

    /// Expands a word with the variables of the stage.
    pub(super) fn expand(&self, planned: &Planned, word: &Word) -> PlanResult<String> {
        Scope::new(&planned.variables, self.planner.escape).expand(word)
    }

    fn expand_pairs(&self, planned: &Planned, pairs: &[Pair]) -> PlanResult<Vec<(String, String)>> {
        let scope = Scope::new(&planned.variables, self.planner.escape);
        pairs
            .iter()
            .map(|pair| Ok((scope.expand(&pair.key)?, scope.expand(&pair.value)?)))
            .collect()
    }

    fn arg(&mut self, planned: &mut Planned, arguments: &[Argument]) -> PlanResult<()> {
        let mut texts = Vec::new();
        for argument in arguments {
            let name = &argument.name.text;
            let given = self.planner.options.build_args.get(name).cloned();
            let value = match (given, &argument.default) {
                (Some(given), _) => {
                    self.planner.used_args.insert(name.clone());
                    Some(given)
                }
                (None, Some(default)) => Some(self.expand(planned, default)?),
                (None, None) => self.planner.globals.get(name),
            };
            if let Some(value) = value.as_deref().filter(|_| is_variable(name)) {
                planned.variables.set(name, value);
            }
            texts.push(match &value {
                Some(value) => format!("{name}={value}"),
                None => name.clone(),
            });
            planned.args.push((name.clone(), value));
        }
        planned.config.add_history(format!("ARG {}", texts.join(" ")), LayerMade::No);
        Ok(())
    }

    fn workdir(
        &mut self,
        planned: &mut Planned,
        each: &Instruction,
        path: &Word,
    ) -> PlanResult<()> {
        let text = self.expand(planned, path)?;
        let user = planned.config.user().to_owned();
        if planned.config.workdir(&text) {
            let path = absolute("/", planned.config.working_dir());
            self.push(planned, each, Op::Workdir(WorkdirOp { path, user }));
        }
        Ok(())
    }

    fn expose(&mut self, planned: &mut Planned, words: &[Word]) -> PlanResult<()> {
        let scope = Scope::new(&planned.variables, self.planner.escape);
        let mut ports = Vec::new();
        for word in words {
            for text in scope.expand_list(word)? {
                match corten_dockerfile::port::parse(&text) {
                    Ok(parsed) => ports.extend(parsed.ports.iter().map(ToString::to_string)),
                    Err(cause) => return error(cause.to_string(), word.span),
                }
            }
        }
        planned.config.expose(ports);
        Ok(())
    }

    fn volume(&mut self, planned: &mut Planned, words: &[Word]) -> PlanResult<()> {
        let mut paths = Vec::new();
        for word in words {
            let path = self.expand(planned, word)?;
            if path.is_empty() {
                return error("a volume cannot be an empty path", word.span);
            }
            paths.push(path);
        }
        planned.config.volume(paths);
        Ok(())
    }

    fn stop_signal(&mut self, planned: &mut Planned, word: &Word) -> PlanResult<()> {
        let signal = self.expand(planned, word)?;
        if !is_signal(&signal) {
            let diagnostic = Diagnostic::error(format!("`{signal}` is no signal")).at(word.span);
            return Err(Box::new(
                diagnostic.with_hint("write a name such as `SIGTERM` or a number"),
            ));
        }
        planned.config.stop_signal(&signal);
        Ok(())
    }

    /// Adds a step.
    pub(super) fn push(&self, planned: &mut Planned, each: &Instruction, op: Op) {
        let lookup = |name: &str| planned.variables.get(name);
        let title = word::expand_known(&each.original, &lookup, self.planner.escape);
        let title = title.unwrap_or_else(|_| each.original.clone());
        let title = title.split_whitespace().collect::<Vec<_>>().join(" ");
        let title = match &op {
            Op::Copy(_) => without_credentials(&title),
            Op::Run(_) | Op::Workdir(_) => title,
        };
        let place = match self.trigger {
            Some((text, span)) => Place { span, trigger: Some(text.to_owned()) },
            None => Place { span: each.span, trigger: None },
        };
        planned.stage.steps.push(Step { number: 0, title, place, op });
    }

    /// Finds what `--from` or `from=` names.
    pub(super) fn input(&mut self, name: &str, span: Span) -> PlanResult<Input> {
        if let Ok(number) = name.parse::<usize>() {
            return self.stage_input(number, name, span);
        }
        let count = self.planner.file_stages.len();
        if let Some(index) = self.planner.stage_by_name(name, self.index) {
            return self.stage_input(index, name, span);
        }
        if let Some(index) = self.planner.stage_by_name(name, count) {
            return self.stage_input(index, name, span);
        }
        match self.planner.named_context(name) {
            Some((name, NamedContext::Directory(_) | NamedContext::Remote(_))) => {
                return Ok(Input::Named(name.to_owned()));
            }
            Some((name, NamedContext::Found(images))) => {
                return Ok(Input::Stage(self.planner.plan_found(name, images, span)?));
            }
            Some((_, NamedContext::Stage(stage))) => return self.named_stage(stage, span),
            Some((_, NamedContext::Image(reference))) => {
                let id = self.planner.plan_image(&reference.to_string(), span)?;
                return Ok(Input::Stage(id));
            }
            None => {}
        }
        if name.eq_ignore_ascii_case("scratch") {
            return Ok(Input::Empty);
        }
        Ok(Input::Stage(self.planner.plan_image(name, span)?))
    }

    /// Finds the stage that a further context stands for.
    fn named_stage(&mut self, stage: &str, span: Span) -> PlanResult<Input> {
        let index = self.planner.context_stage(stage, span)?;
        self.stage_input(index, stage, span)
    }

    fn stage_input(&mut self, index: usize, name: &str, span: Span) -> PlanResult<Input> {
        if index >= self.planner.file_stages.len() {
            let count = self.planner.file_stages.len();
            return error(format!("there is no stage {index}: the file has {count}"), span);
        }
        if index >= self.index {
            let message = format!("files of the stage `{name}` are not there yet");
            let diagnostic = Diagnostic::error(message).at(span);
            let hint = "move the stage before this one";
            return Err(Box::new(diagnostic.with_hint(hint)));
        }
        let id: StageId = self.planner.plan_file_stage(index)?;
        Ok(Input::Stage(id))
    }
}

fn command_args(planned: &Planned, command: &CommandLine) -> Vec<String> {
    match command {
        CommandLine::Exec(words) => words.iter().map(|word| word.text.clone()).collect(),
        CommandLine::Shell(word) => planned.config.with_shell(&word.text),
    }
}

pub(super) fn is_signal(text: &str) -> bool {
    // Docker takes every number but zero here, and what it means is seen when it is sent.
    if let Ok(number) = text.parse::<i64>() {
        return number != 0;
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    let offset = |prefix: &str, sign: char, max: u32| {
        let rest = name.strip_prefix(prefix)?;
        if rest.is_empty() {
            return Some(true);
        }
        let number = rest.strip_prefix(sign)?.parse::<u32>().ok()?;
        Some(number <= max)
    };
    SIGNALS.contains(&name)
        || offset("RTMIN", '+', 15) == Some(true)
        || offset("RTMAX", '-', 14) == Some(true)
}
