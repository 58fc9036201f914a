//! `corten build`.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use corten_build::output::Request;
use corten_build::remote::OpenedContext;
use corten_build::{
    BuildError, BuildOptions, Context as BuildContext, DockerfileText, RunStep, RuntimeExecutor,
    Secret, Target, Terminal, Tools,
};
use corten_diag::{SourceFile, render};
use corten_oci::reference::Reference;
use corten_runtime::{Network, options};
use corten_store::Found;
use corten_sys::clock::{Clock, SystemClock};

use super::cache::{self, Caches};
use super::{Context, attest, checks, lock, outputs, sources, steps};
use crate::bases::Resolver;
use crate::cli::{BuildArgs, SharedArgs};
use crate::error::CliError;
use crate::ui::{self, Progress};

/// The time that files and configuration get, in seconds since 1970.
const EPOCH_VARIABLE: &str = "SOURCE_DATE_EPOCH";

pub(super) fn build(context: &Context, arguments: &BuildArgs) -> Result<ExitCode, CliError> {
    let started = SystemClock.monotonic();
    steps::check_terminal(&context.ui, arguments.shell_on_error)?;
    context.ui.tell_of_interruption("the build", arguments.shared.progress);
    // What was unpacked or fetched is there until the build has ended.
    let locked = || lock::of_fetched_context(arguments);
    let opened = sources::open(context, &arguments.shared, &locked)?;
    let mut options = settle_build(context, arguments, &opened)?;
    options.recording = lock::recording(arguments, &options)?;
    options.provenance = attest::provenance(context, arguments)?;
    if let Some(call) = checks::Call::of(arguments)? {
        return checks::answer(context, &options, call);
    }
    let client = crate::registry::client(&context.settings);
    let mut outputs = outputs::request(arguments, &options, &client)?;
    attest::check(context, arguments, &options, &outputs);
    let caches = Caches::of(arguments, &options)?;
    caches.check(&outputs)?;
    let progress = progress_of(context, arguments, &options);
    let store = context.store()?;
    corten_build::settle_epoch(&mut options, &store, &progress)
        .map_err(|error| failed(context, error))?;
    let resolver = Resolver::new(&store, &context.settings, &progress);
    if arguments.plan {
        return print_plan(context, &options, &resolver.for_plan(), &progress);
    }
    checks::gate(context, &options, &store)?;
    let prepare = |step: &RunStep| {
        progress.finish();
        steps::introduce(&context.ui, step);
    };
    let name = context.settings.environment.get("TERM").unwrap_or("xterm");
    let terminal = arguments.shell_on_error.then_some(Terminal { name, prepare: &prepare });
    let executor = RuntimeExecutor::new(&progress).with_terminal(terminal);
    let (imports, all_steps) = (caches.imports(&client), caches.wants_all_steps());
    let tools = Tools::new(&store, &executor, &progress, &imports, all_steps);
    let built = corten_build::build_targets(&options, &resolver, &tools);
    if built.is_err() {
        progress.finish();
    }
    let targets = built.map_err(|error| failed(context, error))?;
    outputs.annotations.extend(caches.annotations(&targets));
    let written = outputs::write(&store, &targets, &outputs, &progress);
    let exported = match &written {
        Ok(_) => caches.export(&options, &targets, &tools, &client),
        Err(_) => Ok(Vec::new()),
    };
    progress.finish();
    let Some(written) = written? else { return exported.map(|_| ExitCode::SUCCESS) };
    outputs::record(context, arguments, &targets, &written)?;
    let elapsed = SystemClock.monotonic().saturating_sub(started);
    let stored = written.iter().find_map(|written| written.stored.as_ref());
    match stored {
        Some(found) => report(context, arguments, &outputs, (found, &targets), elapsed),
        None => outputs::report(context, arguments, &outputs, &targets, elapsed),
    }
    outputs::report_files(context, arguments, &written);
    cache::report(context, arguments, &exported?);
    checks::in_passing(context, arguments, &options, &store, &progress)?;
    match stored {
        Some(found) if arguments.verify => {
            let again = BuildOptions { no_cache: true, ..options };
            let built = corten_build::build_targets(&again, &resolver, &tools);
            progress.finish();
            let second = built.map_err(|error| failed(context, error))?;
            super::verify::verify(context, &store, found, &second)
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Shows what happens, with places in the Dockerfile.
fn progress_of(context: &Context, arguments: &BuildArgs, options: &BuildOptions) -> Progress {
    let source = SourceFile::new(&options.dockerfile.name, &options.dockerfile.text);
    let (mode, quiet) = (arguments.shared.progress, arguments.shared.quiet);
    Progress::new(&context.ui, mode, quiet, context.no_progress, Some(source))
}

fn print_plan(
    context: &Context,
    options: &BuildOptions,
    resolver: &Resolver<'_>,
    progress: &Progress,
) -> Result<ExitCode, CliError> {
    let graph = corten_build::plan(options, resolver, progress);
    let graph = graph.map_err(|error| failed(context, error))?;
    progress.finish();
    context.ui.data(&graph.to_string());
    Ok(ExitCode::SUCCESS)
}

/// Flags, environment and files to the options of a build; nothing of it has started yet.
pub(super) fn settle_build(
    context: &Context,
    arguments: &BuildArgs,
    opened: &sources::Opened,
) -> Result<BuildOptions, CliError> {
    let mut options = settle(context, &arguments.shared, opened)?;
    options.no_cache_filter.clone_from(&arguments.no_cache_filter);
    options.labels = pairs("label", &arguments.labels)?;
    for tag in &arguments.tags {
        options.tags.push(tag.parse::<Reference>()?);
    }
    options.run.shell_on_error = arguments.shell_on_error;
    if let Some(auto_cache) = arguments.auto_cache {
        options.run.auto_cache = auto_cache && can_cache_downloads(&arguments.shared);
    }
    Ok(options)
}

/// The same of what builds and locks share.
pub(super) fn settle(
    context: &Context,
    arguments: &SharedArgs,
    opened: &sources::Opened,
) -> Result<BuildOptions, CliError> {
    let files = match &opened.context {
        Some(opened) => opened.context(),
        None => BuildContext::Directory(arguments.context.clone()),
    };
    let mut options = BuildOptions::new(files, dockerfile(arguments, opened.context.as_ref())?);
    options.context_material =
        opened.context.as_ref().and_then(|context| context.material()).cloned();
    options.remotes = opened.remotes.clone();
    options.agents = opened.agents.clone();
    let environment = &context.settings.environment;
    options.target.clone_from(&arguments.target);
    options.no_cache = arguments.no_cache;
    for argument in &arguments.build_args {
        // As in Docker, a name alone takes the environment's value, and none when it has none.
        match argument.split_once('=') {
            Some((name, value)) => {
                options.build_args.insert(name.to_owned(), value.to_owned());
            }
            None => {
                if let Some(value) = environment.get(argument) {
                    options.build_args.insert(argument.clone(), value.to_owned());
                }
            }
        }
    }
    // As in buildx, the variable is the default of the build argument.
    if let Some(value) = environment.get(EPOCH_VARIABLE) {
        options.build_args.entry(EPOCH_VARIABLE.to_owned()).or_insert_with(|| value.to_owned());
    }
    options.platforms = sources::platforms(&arguments.platforms)?;
    for text in &arguments.build_contexts {
        let (name, value) = opened.named(text)?;
        options.contexts.insert(name, value);
    }
    options.secrets.clone_from(&opened.remotes.secrets);
    options.run.devices = Arc::new(context.settings.devices());
    options.run.allow = steps::entitlements(&arguments.allow)?;
    run_options(context, arguments, &mut options)?;
    Ok(options)
}

/// Servers are checked with the certificates of the host; other ones are for the tools alone.
fn can_cache_downloads(arguments: &SharedArgs) -> bool {
    arguments.ca_certs == "host"
}

/// What reaches RUN steps without reaching the image.
fn run_options(
    context: &Context,
    arguments: &SharedArgs,
    options: &mut BuildOptions,
) -> Result<(), CliError> {
    let environment = &context.settings.environment;
    options.run.proxy = environment.proxies().into_iter().collect();
    let configured = context.settings.config.build.normalize;
    options.run.normalise = arguments.normalize.or(configured).unwrap_or(true);
    let configured = context.settings.config.build.auto_cache;
    options.run.auto_cache = configured.unwrap_or(true) && can_cache_downloads(arguments);
    options.run.network = match arguments.network.as_str() {
        "default" | "bridge" => Network::Default,
        "none" => Network::None,
        "host" => Network::Host,
        other => {
            return Err(CliError::new(format!("`--network {other}` is not known"))
                .hint("write `default`, `none` or `host`".to_owned()));
        }
    };
    options.run.ca_certificates = match arguments.ca_certs.as_str() {
        "host" => environment.ca_bundle(),
        "none" => None,
        file => {
            let path = PathBuf::from(file);
            corten_sys::file::metadata(&path)?;
            Some(corten_sys::file::absolute(&path)?)
        }
    };
    let hinted = |name: &str, error: options::OptionError| {
        let hint = error.hint();
        CliError::new(format!("failed to read `--{name}`: {error}")).hint(hint)
    };
    if let Some(memory) = &arguments.memory {
        let bytes = options::parse_bytes(memory).map_err(|error| hinted("memory", error))?;
        options.run.memory_bytes = Some(bytes);
    }
    if let Some(cpus) = &arguments.cpus {
        let millis = options::parse_cpus(cpus).map_err(|error| hinted("cpus", error))?;
        options.run.cpu_millis = Some(millis);
    }
    steps::settle(&arguments.steps, &mut options.run)?;
    for note in steps::notes(&arguments.steps) {
        context.ui.warning(note);
    }
    Ok(())
}

/// Reads the Dockerfile: `--file`, standard input for `-`, or the context's own.
fn dockerfile(
    arguments: &SharedArgs,
    opened: Option<&OpenedContext>,
) -> Result<DockerfileText, CliError> {
    let not_read = |error: BuildError| {
        let hint = error.hint();
        CliError::new(error).hint(hint)
    };
    let is_stream = arguments.file.as_deref().is_some_and(|path| path.as_os_str() == "-");
    if let Some(opened) = opened.filter(|_| !is_stream) {
        return sources::told(opened.dockerfile(arguments.file.as_deref()));
    }
    match &arguments.file {
        Some(path) if path.as_os_str() == "-" => {
            let mut bytes = Vec::new();
            let limit = corten_build::DOCKERFILE_BYTES_MAX;
            std::io::stdin().lock().take(limit + 1).read_to_end(&mut bytes).map_err(|source| {
                corten_sys::error::IoError::new("read", "standard input", source)
            })?;
            if bytes.len() as u64 > limit {
                return Err(CliError::new(format!(
                    "the Dockerfile on standard input is larger than {}",
                    ui::bytes(limit)
                )));
            }
            Ok(DockerfileText::inline("Dockerfile", String::from_utf8_lossy(&bytes)))
        }
        Some(path) => DockerfileText::read(path).map_err(not_read),
        None => {
            // A file, such as a tar, is told from a directory without a Dockerfile.
            corten_sys::beneath::Dir::open(&arguments.context).map_err(|source| {
                not_read(BuildError::NoContext { path: arguments.context.clone(), source })
            })?;
            DockerfileText::read(&tidy(&arguments.context).join("Dockerfile")).map_err(not_read)
        }
    }
}

/// `.` is not shown in the Dockerfile's name.
fn tidy(directory: &Path) -> PathBuf {
    if directory == Path::new(".") { PathBuf::new() } else { directory.to_owned() }
}

fn pairs(flag: &str, texts: &[String]) -> Result<BTreeMap<String, String>, CliError> {
    let mut pairs = BTreeMap::new();
    for text in texts {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        if name.is_empty() {
            return Err(CliError::new(format!("`--{flag} {text}` has no name"))
                .hint(format!("write `--{flag} name=value`")));
        }
        pairs.insert(name.to_owned(), value.to_owned());
    }
    Ok(pairs)
}

/// `id=ID[,src=FILE|,env=NAME]`; an ID alone names a variable, then a file.
pub(super) fn secret(context: &Context, text: &str) -> Result<(String, Secret), CliError> {
    let form = || {
        CliError::new("`--secret` needs `id=ID,src=FILE` or `id=ID,env=NAME`")
            .hint("for example `--secret id=token,src=$HOME/.token`".to_owned())
    };
    let (mut id, mut source, mut variable) = (None, None, None);
    for pair in text.split(',') {
        match pair.split_once('=').ok_or_else(form)? {
            ("id", value) => id = Some(value),
            ("src" | "source", value) => source = Some(value),
            ("env", value) => variable = Some(value),
            ("type", "file" | "env") => {}
            _ => return Err(form()),
        }
    }
    let id = id.filter(|id| !id.is_empty()).ok_or_else(form)?;
    let from_environment = |name: &str| {
        context.settings.environment.get(name).map(|value| Secret::Value(value.as_bytes().to_vec()))
    };
    let secret = match (source, variable) {
        (Some(path), None) => {
            corten_sys::file::metadata(Path::new(path))?;
            Secret::File(PathBuf::from(path))
        }
        (None, Some(name)) => from_environment(name).ok_or_else(|| {
            CliError::new(format!("secret `{id}`: the variable `{name}` is not set"))
        })?,
        (None, None) => from_environment(id).ok_or_else(|| {
            CliError::new(format!("secret `{id}` has no source, and no variable has this name"))
                .hint(format!("name the file: `--secret id={id},src=FILE`"))
        })?,
        (Some(_), Some(_)) => return Err(form()),
    };
    Ok((id.to_owned(), secret))
}

/// Shows what is wrong with the Dockerfile at its place; other errors go their usual way.
pub(super) fn failed(context: &Context, error: BuildError) -> CliError {
    let hint = error.hint();
    if let Some(diagnosed) = error.diagnosed() {
        for diagnostic in &diagnosed.diagnostics {
            let text =
                render::full(diagnostic, Some(diagnosed.source.as_ref()), context.ui.color());
            context.ui.talk(&format!("{}\n", text.trim_end()));
        }
        return CliError::new(error).shown();
    }
    CliError::new(error).hint(hint)
}

/// Data is the ID of the image or the digest of the index; the rest is said to the person.
fn report(
    context: &Context,
    arguments: &BuildArgs,
    outputs: &Request,
    (found, targets): (&Found, &[Target]),
    elapsed: Duration,
) {
    let id = found.target().digest();
    if arguments.shared.quiet {
        outputs::print_id(context, outputs, &id);
        return;
    }
    let names: Vec<String> = outputs::stored_names(outputs).map(Reference::familiar).collect();
    let shown = if names.is_empty() { id.short() } else { names.join(", ") };
    let platforms = match found {
        Found::Image(_) => String::new(),
        Found::Index(index) => format!("  {}", index.platforms()),
    };
    context.ui.done(
        "built",
        &format!(
            "{shown}  {}{platforms}  {}  {}",
            id.short(),
            ui::bytes(outputs::size(targets)),
            ui::duration(elapsed)
        ),
    );
    let name = names.first().cloned().unwrap_or_else(|| id.short());
    context.ui.hint(&format!("`corten run --rm {name}` runs it"));
}
