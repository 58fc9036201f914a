//! `corten build --check` and its siblings, and the checks that a build does in passing.

mod document;
mod surroundings;

use std::process::ExitCode;

use corten_build::{BuildError, BuildOptions};
use corten_diag::{Diagnostic, Event, Reporter, Silent, SourceFile, Span, render};
use corten_dockerfile::ignore::Ignore;
use corten_dockerfile::{Dockerfile, stages};
use corten_lint::{Config, ConfigError, Model, Report, Request};
use corten_oci::platform::Platform;
use corten_store::Store;

use super::Context;
use crate::bases::Resolver;
use crate::cli::{BuildArgs, ProgressMode};
use crate::error::CliError;
use crate::ui::Progress;
use surroundings::Known;

/// The exit code of a check that found something.
const FOUND: u8 = 1;

/// The build argument that takes the place of a file's `check` directive.
const OPTIONS: &str = "BUILDKIT_DOCKERFILE_CHECK";

/// What is asked of a Dockerfile instead of building it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Call {
    method: Method,
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Method {
    Check,
    Outline,
    Targets,
}

impl Call {
    /// Reads `--check` and `--call`; none when the image is to be built.
    pub(super) fn of(arguments: &BuildArgs) -> Result<Option<Self>, CliError> {
        match &arguments.call {
            Some(text) => Self::parse(text),
            None => Ok(arguments.check.then_some(Self { method: Method::Check, json: false })),
        }
    }

    /// Reads `METHOD[,format=FORMAT]`.
    fn parse(text: &str) -> Result<Option<Self>, CliError> {
        let wrong = || {
            CliError::new(format!("`--call {text}` is not known")).hint(
                "write `check`, `outline`, `targets` or `build`, and `,format=json` after it for JSON"
                    .to_owned(),
            )
        };
        let mut parts = text.split(',');
        let method = match parts.next().unwrap_or_default() {
            "check" | "lint" => Some(Method::Check),
            "outline" => Some(Method::Outline),
            "targets" => Some(Method::Targets),
            "build" => None,
            _ => return Err(wrong()),
        };
        let mut json = false;
        for part in parts {
            json = match part {
                "format=json" => true,
                "format=text" | "format=default" => false,
                _ => return Err(wrong()),
            };
        }
        Ok(method.map(|method| Self { method, json }))
    }
}

/// Answers a call. Nothing is built, and no base image is made for it.
pub(super) fn answer(
    context: &Context,
    options: &BuildOptions,
    call: Call,
) -> Result<ExitCode, CliError> {
    let file = corten_dockerfile::parse(&options.dockerfile.text);
    if call.method == Method::Targets {
        refuse_mistakes(context, options, &file)?;
        let targets = corten_lint::targets(&file, &stages::stages(&file));
        context.ui.data(&document::targets(&source(options), &targets, call.json));
        return Ok(ExitCode::SUCCESS);
    }
    // A store that is not there yet knows nothing, and is not made for a question.
    let is_there = corten_sys::file::exists(&context.settings.root)?;
    let store = if is_there { Some(context.store()?) } else { None };
    let resolver = store.as_ref().map(|store| Resolver::new(store, &context.settings, &Silent));
    let known = Known::new(resolver.as_ref());
    let ignore = ignore(options)?;
    if call.method == Method::Outline {
        refuse_mistakes(context, options, &file)?;
        // As in BuildKit, one platform stands for all: what differs is what arguments are worth.
        let platform = platforms(options).remove(0);
        let request = request(options, ignore.as_ref(), Scope::Target, platform);
        let model = Model::new(&options.dockerfile.text, &file, &request, &known);
        // An argument that is not given yet is no reason to keep quiet about it.
        if !model.has_target()
            && let Err(error) = corten_build::plan_dockerfile(&file, options, Some(&known))
        {
            return Err(super::build::failed(context, error));
        }
        let outline = corten_lint::outline(&model);
        context.ui.data(&document::outline(&source(options), &outline, call.json));
        return Ok(ExitCode::SUCCESS);
    }
    let scope = if options.target.is_none() { Scope::Everything } else { Scope::Target };
    let (report, stopped) = checked(options, &file, ignore.as_ref(), scope, &known)?;
    let error = mistake(options, &file, &known, stopped);
    let mistakes = error.as_ref().map(mistakes_of).unwrap_or_default();
    context.ui.data(&document::check(&source(options), &report.warnings, &mistakes, call.json));
    let is_clean = report.warnings.is_empty() && error.is_none();
    Ok(if is_clean { ExitCode::SUCCESS } else { ExitCode::from(FOUND) })
}

/// Refuses a build whose file asks for that, with `error=true`, if a check warns.
pub(super) fn gate(
    context: &Context,
    options: &BuildOptions,
    store: &Store,
) -> Result<(), CliError> {
    let file = corten_dockerfile::parse(&options.dockerfile.text);
    let given = options.build_args.get(OPTIONS).map(String::as_str);
    if !Config::of(&file, given).map_err(|error| unreadable(&error))?.error {
        return Ok(());
    }
    let Some(report) = report(context, options, store)?.filter(Report::refuses) else {
        return Ok(());
    };
    let source = source(options);
    for warning in &report.warnings {
        let text = render::full(warning, Some(&source), context.ui.color());
        context.ui.talk(&format!("{}\n", text.trim_end()));
    }
    Err(CliError::new(format!(
        "the checks of the Dockerfile: {}, and `error=true` refuses to build",
        document::count(report.warnings.len())
    ))
    .hint(format!(
        "correct the file, or build with `--build-arg {OPTIONS}=error=false` or `skip=RULE`"
    ))
    .with_code(FOUND))
}

/// Says in a few lines what the checks have to say about what was built.
pub(super) fn in_passing(
    context: &Context,
    arguments: &BuildArgs,
    options: &BuildOptions,
    store: &Store,
    progress: &Progress,
) -> Result<(), CliError> {
    if arguments.shared.quiet || arguments.shared.progress == ProgressMode::Quiet {
        return Ok(());
    }
    let Some(report) = report(context, options, store)? else { return Ok(()) };
    // The plan has said these already, with their places.
    let said = ["NoEmptyContinuation", "InvalidBaseImagePlatform"];
    let warnings: Vec<Diagnostic> = report
        .warnings
        .into_iter()
        .filter(|warning| warning.code.is_none_or(|code| !said.contains(&code)))
        .collect();
    if arguments.shared.progress == ProgressMode::Json {
        for warning in warnings {
            progress.report(Event::Diagnostic(warning));
        }
        return Ok(());
    }
    if !warnings.is_empty() {
        let count = document::count(warnings.len());
        context.ui.warning(&format!("the checks of the Dockerfile: {count}"));
        context.ui.talk(&document::short(&source(options), &warnings));
        context.ui.hint("`corten build --check` shows them with their places");
    }
    Ok(())
}

/// What the checks say about the target of a build; none if the file cannot be read.
fn report(
    context: &Context,
    options: &BuildOptions,
    store: &Store,
) -> Result<Option<Report>, CliError> {
    let file = corten_dockerfile::parse(&options.dockerfile.text);
    if file.diagnostics.iter().any(Diagnostic::is_error) {
        return Ok(None);
    }
    let resolver = Resolver::new(store, &context.settings, &Silent);
    let known = Known::new(Some(&resolver));
    let ignore = ignore(options)?;
    checked(options, &file, ignore.as_ref(), Scope::Target, &known).map(|(report, _)| Some(report))
}

/// Checks a file for each platform; also says whether something stopped the checks.
fn checked(
    options: &BuildOptions,
    file: &Dockerfile,
    ignore: Option<&Ignore>,
    scope: Scope,
    known: &Known<'_>,
) -> Result<(Report, bool), CliError> {
    let (mut reports, mut stopped) = (Vec::new(), false);
    for platform in platforms(options) {
        let name = platform.to_string();
        let request = request(options, ignore, scope, platform);
        let model = Model::new(&options.dockerfile.text, file, &request, known);
        stopped |= model.stopped;
        reports.push((name, corten_lint::check(&model).map_err(|error| unreadable(&error))?));
    }
    let report = corten_lint::join(reports).expect("there is at least one platform");
    Ok((report, stopped))
}

/// What is built for: this machine's platform where nothing is said.
fn platforms(options: &BuildOptions) -> Vec<Platform> {
    match options.platforms.as_slice() {
        [] => vec![Platform::host()],
        some => some.to_vec(),
    }
}

/// How much of a file is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Scope {
    Target,
    Everything,
}

fn request<'a>(
    options: &BuildOptions,
    ignore: Option<&'a Ignore>,
    scope: Scope,
    platform: Platform,
) -> Request<'a> {
    let host = Platform::host();
    Request {
        build_args: options.build_args.clone(),
        target: options.target.clone(),
        all_stages: scope == Scope::Everything,
        host: surroundings::named(host),
        platform: surroundings::named(platform),
        ignore,
        contexts: options.contexts.keys().cloned().collect(),
        options: options.build_args.get(OPTIONS).cloned(),
    }
}

/// The ignore file that a build of these options heeds.
fn ignore(options: &BuildOptions) -> Result<Option<Ignore>, CliError> {
    if let Some(ignore) = &options.dockerfile.ignore {
        return Ok(Some(Ignore::parse(&ignore.text)));
    }
    let corten_build::Context::Directory(directory) = &options.context else { return Ok(None) };
    let path = directory.join(".dockerignore");
    if !corten_sys::file::exists(&path)? {
        return Ok(None);
    }
    let bytes = corten_sys::file::read_limited(&path, corten_build::DOCKERFILE_BYTES_MAX)?;
    Ok(Some(Ignore::parse(&String::from_utf8_lossy(&bytes))))
}

fn source(options: &BuildOptions) -> SourceFile {
    SourceFile::new(&options.dockerfile.name, &options.dockerfile.text)
}

/// What keeps a build from being planned. With base images that are not here only the text itself
/// can be judged, and what stopped the checks.
fn mistake(
    options: &BuildOptions,
    file: &Dockerfile,
    known: &Known<'_>,
    stopped: bool,
) -> Option<BuildError> {
    let error = corten_build::plan_dockerfile(file, options, Some(known)).err()?;
    if !known.missed() || file.diagnostics.iter().any(Diagnostic::is_error) {
        return Some(error);
    }
    if stopped { corten_build::plan_dockerfile(file, options, None).err() } else { None }
}

/// Shows what is wrong with the text of the file.
fn refuse_mistakes(
    context: &Context,
    options: &BuildOptions,
    file: &Dockerfile,
) -> Result<(), CliError> {
    let ordered = stages::stages(file);
    let mut all = file.diagnostics.iter().chain(&ordered.diagnostics);
    if !all.any(Diagnostic::is_error) {
        return Ok(());
    }
    match corten_build::plan_dockerfile(file, options, None) {
        Err(error) => Err(super::build::failed(context, error)),
        Ok(_) => Ok(()),
    }
}

/// The error as diagnostics of the file.
fn mistakes_of(error: &BuildError) -> Vec<Diagnostic> {
    match error.diagnosed() {
        Some(diagnosed) => diagnosed.diagnostics.clone(),
        None => vec![Diagnostic::error(error.to_string()).at(Span::default())],
    }
}

fn unreadable(error: &ConfigError) -> CliError {
    let hint = error.hint();
    CliError::new(error.clone()).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_has_a_method_and_a_format() {
        let call = |text| Call::parse(text).map_err(|error| error.error.to_string());
        let check = Call { method: Method::Check, json: false };
        assert_eq!(call("check"), Ok(Some(check)));
        assert_eq!(call("lint,format=json"), Ok(Some(Call { json: true, ..check })));
        assert_eq!(call("build"), Ok(None));
        assert_eq!(call("targets,format=text").map(|call| call.is_some()), Ok(true));
        for text in ["", "chekc", "check,json", "outline,format=xml", "check,"] {
            assert!(call(text).is_err(), "{text}");
        }
    }
}
