//! `corten build --verify`: everything once more, and in what the two images differ.

use std::process::ExitCode;

use corten_build::Target;
use corten_build::verify::{FileDifference, LayerDifference, compare};
use corten_store::{Found, Image, Store};

use super::Context;
use crate::error::CliError;

/// Names of a layer that are listed; the rest is counted.
const FILES_SHOWN: usize = 50;

/// Exit code of a build that is not the same twice.
const EXIT_DIFFERENT: u8 = 1;

/// Compares what was stored with what a second build made, platform by platform.
pub(super) fn verify(
    context: &Context,
    store: &Store,
    first: &Found,
    second: &[Target],
) -> Result<ExitCode, CliError> {
    let firsts = match first {
        Found::Image(image) => vec![image.as_ref().clone()],
        Found::Index(index) => {
            let members = index.members.iter().map(|member| store.member_image(member));
            members.collect::<Result<Vec<_>, _>>()?
        }
    };
    for (first, second) in firsts.iter().zip(second) {
        // The same image again keeps the annotations of the last time.
        let second = store.put_image(&second.config, &second.layers, &first.annotations)?;
        report(context, store, first, &second)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Tells in what two images of the same build differ.
fn report(context: &Context, store: &Store, first: &Image, second: &Image) -> Result<(), CliError> {
    if first.id == second.id {
        context.ui.done("verified", &format!("two builds gave the same image {}", first.id));
        return Ok(());
    }
    let layers = compare(store, first, second)?;
    context.ui.line(&format!("first   {}\nsecond  {}", first.id, second.id));
    for layer in &layers {
        context.ui.data(&describe(layer));
    }
    let differences = match layers.len() {
        0 => "only their configurations differ".to_owned(),
        1 => "1 layer differs".to_owned(),
        count => format!("{count} layers differ"),
    };
    Err(CliError::new(format!("two builds gave different images: {differences}"))
        .hint("pin versions, and remove in the same step what holds a time".to_owned())
        .with_code(EXIT_DIFFERENT))
}

fn describe(layer: &LayerDifference) -> String {
    let mut text = format!("\nlayer {}: {}\n", layer.index, layer.step);
    if layer.files.is_empty() {
        text.push_str("  only one of the images has it\n");
    }
    for file in layer.files.iter().take(FILES_SHOWN) {
        text.push_str(&line(file));
    }
    if let Some(more) = layer.files.len().checked_sub(FILES_SHOWN).filter(|more| *more > 0) {
        text.push_str(&format!("  and {more} more\n"));
    }
    text
}

fn line(file: &FileDifference) -> String {
    let kinds: Vec<String> = file.kinds.iter().map(ToString::to_string).collect();
    let cause = file.cause.map(|cause| format!("\n      {cause}")).unwrap_or_default();
    format!("  /{}: {}{cause}\n", file.path, kinds.join("; "))
}
