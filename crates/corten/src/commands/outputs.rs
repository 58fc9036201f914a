//! Where the result of `corten build` goes, and what is told about it.

use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use corten_build::output::{
    self, Annotation, Destination, ImageOutput, Output, Push, Request, SpecError, Written,
};
use corten_build::{BuildOptions, Target};
use corten_diag::Reporter;
use corten_oci::digest::Digest;
use corten_oci::reference::Reference;
use corten_registry::Client;
use corten_store::Store;

use super::Context;
use crate::cli::BuildArgs;
use crate::error::CliError;
use crate::ui;

/// Reads what is asked for and looks at the destinations, before anything is built.
pub(super) fn request(
    arguments: &BuildArgs,
    options: &BuildOptions,
    client: &Client,
) -> Result<Request, CliError> {
    let wrong = |flag: &'static str| {
        move |error: SpecError| {
            let hint = error.hint();
            CliError::new(Flag { flag, error }).hint(hint)
        }
    };
    let mut outputs = output::parse_all(&arguments.outputs).map_err(wrong("output"))?;
    if arguments.push {
        push(&mut outputs);
    }
    let is_stored = |output: &Output| matches!(output, Output::Image(image) if image.store);
    if outputs.is_empty() || (arguments.load && !outputs.iter().any(is_stored)) {
        outputs.push(Output::Image(ImageOutput::default()));
    }
    for output in &mut outputs {
        let Output::Image(image) = output else { continue };
        let Some(push) = &mut image.push else { continue };
        push.insecure |= !arguments.tls_verify;
        if options.tags.is_empty() && image.names.is_empty() {
            let hint = SpecError::PushWithoutName.hint();
            return Err(CliError::new(SpecError::PushWithoutName).hint(hint));
        }
    }
    let mut annotations = Vec::new();
    for text in &arguments.annotations {
        annotations.extend(Annotation::parse(text).map_err(wrong("annotation"))?);
    }
    output::check_platforms(&outputs, &annotations, options.platforms.len().max(1)).map_err(
        |error| {
            let hint = error.hint();
            CliError::new(error).hint(hint)
        },
    )?;
    output::check(&outputs)?;
    if outputs.iter().any(Output::is_stdout) && std::io::stdout().is_terminal() {
        return Err(CliError::new("an archive is not for a terminal")
            .hint("write it to a file with `dest=FILE`, or into a pipe".to_owned()));
    }
    let client = client.clone();
    Ok(Request { outputs, names: options.tags.clone(), annotations, client })
}

/// As in Docker, `--push` pushes the image that is asked for, or else is an output of its own.
fn push(outputs: &mut Vec<Output>) {
    let mut images = outputs.iter_mut().filter_map(|output| match output {
        Output::Image(image) => Some(image),
        _ => None,
    });
    if let Some(image) = images.next() {
        image.push.get_or_insert_default();
        return;
    }
    let push = Some(Push::default());
    outputs.push(Output::Image(ImageOutput { store: false, push, ..ImageOutput::default() }));
}

/// A value of a flag that cannot be read; the specification says why.
#[derive(Debug, thiserror::Error)]
#[error("failed to read `--{flag}`: {error}")]
struct Flag {
    flag: &'static str,
    error: SpecError,
}

/// Carries out the outputs; `None` if who read standard output has gone, which is no failure.
pub(super) fn write(
    store: &Store,
    targets: &[Target],
    request: &Request,
    reporter: &dyn Reporter,
) -> Result<Option<Vec<Written>>, CliError> {
    let mut stdout = std::io::stdout().lock();
    match output::write(store, targets, request, &mut stdout, reporter) {
        Err(error) if error.is_broken_pipe() => Ok(None),
        written => Ok(Some(written?)),
    }
}

/// What is known as the ID of the result: that of the image, or the digest of the index. Several
/// images without an index have none.
fn id(targets: &[Target], written: &[Written]) -> Option<Digest> {
    match targets {
        [target] => Some(target.id().0),
        _ => written.iter().rev().find_map(|w| w.descriptor.as_ref()).map(|found| found.digest),
    }
}

/// Writes `--iidfile` and `--metadata-file`.
pub(super) fn record(
    context: &Context,
    arguments: &BuildArgs,
    targets: &[Target],
    written: &[Written],
) -> Result<(), CliError> {
    if let Some(path) = &arguments.iidfile {
        match id(targets, written) {
            Some(id) => corten_sys::file::write_atomic(path, id.to_string().as_bytes(), 0o644)?,
            None => context.ui.warning("`--iidfile` is not written: no output has an index"),
        }
    }
    if let Some(path) = &arguments.metadata_file {
        let metadata = output::metadata(targets, written);
        let text = serde_json::to_string_pretty(&metadata).map_err(CliError::new)?;
        corten_sys::file::write_atomic(path, format!("{text}\n").as_bytes(), 0o644)?;
    }
    Ok(())
}

/// Prints the ID, unless standard output has the result itself.
pub(super) fn print_id(context: &Context, request: &Request, id: &Digest) {
    if !request.outputs.iter().any(Output::is_stdout) {
        context.ui.line(&id.to_string());
    }
}

/// The names that images in the store get.
pub(super) fn stored_names(request: &Request) -> impl Iterator<Item = &Reference> {
    let own = request.outputs.iter().filter_map(|output| match output {
        Output::Image(image) if image.store => Some(image.names.iter()),
        _ => None,
    });
    request.names.iter().chain(own.flatten().filter(|name| !request.names.contains(name)))
}

/// Says what was built when no image is in the store.
pub(super) fn report(
    context: &Context,
    arguments: &BuildArgs,
    request: &Request,
    targets: &[Target],
    elapsed: Duration,
) {
    if arguments.shared.quiet {
        for target in targets {
            print_id(context, request, &target.id().0);
        }
        return;
    }
    let ids: Vec<String> = targets.iter().map(|target| target.id().0.short()).collect();
    context.ui.done(
        "built",
        &format!("{}  {}  {}", ids.join(", "), ui::bytes(size(targets)), ui::duration(elapsed)),
    );
}

/// Bytes of all layers; one that platforms share counts once.
pub(super) fn size(targets: &[Target]) -> u64 {
    if let [target] = targets {
        return target.layers.iter().map(|layer| layer.tar_bytes).sum();
    }
    let layers = targets.iter().flat_map(|target| &target.layers);
    let sizes: BTreeMap<_, u64> = layers.map(|layer| (layer.diff_id, layer.tar_bytes)).collect();
    sizes.values().sum()
}

/// Says which files were written.
pub(super) fn report_files(context: &Context, arguments: &BuildArgs, written: &[Written]) {
    if arguments.shared.quiet {
        return;
    }
    for written in written {
        if written.pushed {
            let digest = written.descriptor.as_ref().map(|d| d.digest.to_string());
            for name in &written.names {
                let digest = digest.clone().unwrap_or_default();
                context.ui.status(&format!("pushed {}  {digest}", name.familiar()));
            }
        }
        if let Some(Destination::Path(path)) = &written.destination {
            context.ui.status(&format!("wrote {}", path.display()));
        }
    }
}
