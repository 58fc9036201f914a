//! `SOURCE_DATE_EPOCH`: a number of seconds, or whose time it is.

use corten_diag::{Diagnostic, Span};
use corten_dockerfile::{Dockerfile, Kind};
use corten_oci::platform::Platform;

use super::{PlanResult, Planner};
use crate::graph::{Input, Op};
use crate::options::{BuildOptions, NamedContext};
use crate::remote::Source;

/// The build argument, <https://reproducible-builds.org/docs/source-date-epoch/>.
pub(crate) const NAME: &str = "SOURCE_DATE_EPOCH";

/// The value that means the main context.
const CONTEXT: &str = "context";

/// Whose time is the epoch, when it is not a number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Whose {
    /// The main context's.
    Context,
    /// That of something that is fetched.
    Source(Box<Source>, Span),
    /// Something without a time, such as a directory of this machine.
    Nobody,
}

/// Returns whose time a Dockerfile and its arguments ask for; `None` for a number or nothing.
pub(crate) fn whose(
    dockerfile: &Dockerfile,
    options: &BuildOptions,
) -> Result<Option<Whose>, Box<Diagnostic>> {
    let platform = options.platforms.first().cloned().unwrap_or_else(Platform::host);
    let mut planner = Planner::new(dockerfile, options, None, platform);
    planner.plan_globals()?;
    match planner.epoch_text() {
        Some(value) if value.trim().parse::<i64>().is_err() => planner.whose(&value).map(Some),
        _ => Ok(None),
    }
}

impl Planner<'_> {
    /// The argument's value, as given or as the default of a global `ARG`.
    fn epoch_text(&self) -> Option<String> {
        let given = self.options.build_args.get(NAME).cloned();
        given.or_else(|| self.globals.get(NAME)).filter(|value| !value.is_empty())
    }

    /// Takes the epoch from the argument, if the options have none.
    pub(super) fn plan_epoch(&mut self) -> PlanResult<()> {
        let Some(value) = self.epoch_text() else { return Ok(()) };
        if self.epoch.is_some() {
            return Ok(());
        }
        match value.trim().parse::<i64>() {
            Ok(seconds) => self.epoch = Some(seconds),
            // Whoever only looks at the plan has fetched nothing, so nothing has a time.
            Err(_) => drop(self.whose(&value)?),
        }
        Ok(())
    }

    fn whose(&mut self, value: &str) -> PlanResult<Whose> {
        if value == CONTEXT {
            return Ok(Whose::Context);
        }
        let span = self.epoch_span();
        if let Some((_, context)) = self.named_context(value) {
            return Ok(match context {
                NamedContext::Remote(source) => Whose::Source(Box::new(source.clone()), span),
                _ => Whose::Nobody,
            });
        }
        if let Some(index) = self.stage_by_name(value, self.file_stages.len()) {
            return self.whose_stage(index);
        }
        let message = format!("`{NAME}` is `{value}`, which is no number of seconds");
        let hint = "give seconds since 1970, such as `$(git log -1 --format=%ct)`, or `context`, or \
                    the name of a stage or context whose time it shall be";
        Err(Box::new(Diagnostic::error(message).at(span).with_hint(hint)))
    }

    /// A stage has the time of the one thing that it fetches.
    fn whose_stage(&mut self, index: usize) -> PlanResult<Whose> {
        let stage = &self.file_stages[index];
        let span = stage.from.span;
        let refused = |why: &str, span: Span| {
            let message = format!("the stage cannot say what `{NAME}` is: {why}");
            let hint =
                "its whole content must be `FROM scratch` and one `ADD` of a URL or a repository";
            Err(Box::new(Diagnostic::error(message).at(span).with_hint(hint)))
        };
        if self.expand_global(stage.image)? != "scratch" {
            return refused("it is not `FROM scratch`", stage.image.span);
        }
        let mut adds = 0;
        for instruction in stage.instructions {
            match instruction.kind {
                Kind::Arg(_) => {}
                Kind::Add(_) => adds += 1,
                _ => return refused("it does more than to fetch something", instruction.span),
            }
        }
        if adds != 1 {
            return refused("it does not fetch exactly one thing", span);
        }
        // The argument itself is not known yet, as the stage is what tells it.
        self.globals.set(NAME, "");
        let id = self.plan_file_stage(index)?;
        let step = self.stages[id.0].stage.steps.first();
        let sources = step.map(|step| match &step.op {
            Op::Copy(copy) => copy.sources.as_slice(),
            _ => &[],
        });
        match sources {
            Some([one]) => match &one.remote {
                Some(Input::Remote(source)) => {
                    Ok(Whose::Source(Box::new(source.clone()), one.span))
                }
                _ => refused("what it adds is not fetched", one.span),
            },
            _ => refused("it does not fetch exactly one thing", span),
        }
    }

    /// Where the argument is declared, if it is.
    fn epoch_span(&self) -> Span {
        let declares = |kind: &Kind| match kind {
            Kind::Arg(arguments) => arguments.iter().any(|argument| argument.name.text == NAME),
            _ => false,
        };
        let declared = self.global_args.iter().find(|instruction| declares(&instruction.kind));
        declared.map_or(Span::empty(0), |instruction| instruction.span)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Context, DockerfileText};

    fn told(text: &str, value: Option<&str>) -> String {
        let mut options =
            BuildOptions::new(Context::Empty, DockerfileText::inline("Dockerfile", text));
        if let Some(value) = value {
            options.build_args.insert(NAME.to_owned(), value.to_owned());
        }
        let source = Source::parse("https://example.test/named").unwrap().unwrap();
        options.contexts.insert("far".to_owned(), NamedContext::Remote(source));
        options.contexts.insert("near".to_owned(), NamedContext::Directory("/".into()));
        match whose(&corten_dockerfile::parse(text), &options) {
            Ok(None) => "a number or nothing".to_owned(),
            Ok(Some(Whose::Source(source, _))) => source.address().to_string(),
            Ok(Some(other)) => format!("{other:?}"),
            Err(diagnostic) => diagnostic.message,
        }
    }

    #[test]
    fn a_number_is_nobodys_time() {
        assert_eq!(told("FROM scratch\n", None), "a number or nothing");
        assert_eq!(told("FROM scratch\n", Some("12")), "a number or nothing");
        assert_eq!(told("FROM scratch\n", Some("")), "a number or nothing");
        assert_eq!(told("ARG SOURCE_DATE_EPOCH=7\nFROM scratch\n", None), "a number or nothing");
    }

    #[test]
    fn a_name_is_a_context_or_a_stage() {
        let stage = "ARG SOURCE_DATE_EPOCH=src\nARG V=1\nFROM scratch AS src\nARG V\n\
                     ADD https://example.test/$V.tar /\nFROM scratch\n";
        assert_eq!(told(stage, None), "https://example.test/1.tar");
        assert_eq!(told(stage, Some("context")), "Context");
        assert_eq!(told(stage, Some("far")), "https://example.test/named");
        assert_eq!(told(stage, Some("near")), "Nobody");
        assert_eq!(
            told(stage, Some("yesterday")),
            "`SOURCE_DATE_EPOCH` is `yesterday`, which is no number of seconds"
        );
    }

    #[test]
    fn only_a_stage_that_fetches_one_thing_has_a_time() {
        let of = |stage: &str| told(&format!("FROM {stage}\nFROM scratch\n"), Some("src"));
        let why = |why: &str| format!("the stage cannot say what `SOURCE_DATE_EPOCH` is: {why}");
        assert_eq!(of("busybox AS src"), why("it is not `FROM scratch`"));
        assert_eq!(of("scratch AS src"), why("it does not fetch exactly one thing"));
        assert_eq!(of("scratch AS src\nADD a /"), why("what it adds is not fetched"));
        assert_eq!(
            of("scratch AS src\nADD https://example.test/a /\nLABEL a=b"),
            why("it does more than to fetch something")
        );
        let two = "scratch AS src\nADD https://example.test/a https://example.test/b /";
        assert_eq!(of(two), why("it does not fetch exactly one thing"));
    }
}
