//! `corten base …`.

use std::process::ExitCode;
use std::time::Duration;

use corten_base::{Keyring, Lock, Recipe, recipe};
use corten_oci::platform::Platform;
use corten_oci::reference::Reference;
use corten_store::{Image, Store};
use corten_sys::clock::{Clock, SystemClock};
use serde_json::{Value, json};

use super::Context;
use crate::bases::{BaseSetup, named_mirrors};
use crate::cli::{BaseBuildArgs, BaseCommand};
use crate::error::CliError;
use crate::ui::{self, Format, Progress, print_rows};

/// A recipe is a page of text; a larger file is something else.
const RECIPE_BYTES_MAX: u64 = 1 << 20;
/// A lock has some hundred bytes for each package.
const LOCK_BYTES_MAX: u64 = 16 << 20;
/// Debian's own keyring has 60 kB.
const KEYRING_BYTES_MAX: u64 = 16 << 20;

pub(super) fn base(context: &Context, command: &BaseCommand) -> Result<ExitCode, CliError> {
    match command {
        BaseCommand::Build(arguments) => build(context, arguments),
        BaseCommand::List { json } => list(context, *json),
    }
}

fn build(context: &Context, arguments: &BaseBuildArgs) -> Result<ExitCode, CliError> {
    let recipe = find_recipe(&arguments.recipe)?;
    let mut tags = Vec::new();
    for tag in &arguments.tags {
        tags.push(tag.parse::<Reference>()?);
    }
    let mut platforms = super::sources::platforms(&arguments.platforms)?;
    if platforms.is_empty() {
        platforms.push(Platform::host());
    }
    if platforms.len() > 1 && (arguments.lock.is_some() || arguments.lock_out.is_some()) {
        return Err(CliError::new("a lock is for one platform")
            .hint("make the base for one platform at a time".to_owned()));
    }
    let store = context.store()?;
    let names = Names { recipe: recipe.references().collect(), tags };
    for (index, platform) in platforms.iter().enumerate() {
        build_for(context, arguments, &store, (&recipe, platform), (&names, index == 0))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The names that a base gets.
struct Names {
    recipe: Vec<Reference>,
    tags: Vec<Reference>,
}

fn build_for(
    context: &Context,
    arguments: &BaseBuildArgs,
    store: &Store,
    (recipe, platform): (&Recipe, &Platform),
    (names, is_first): (&Names, bool),
) -> Result<(), CliError> {
    let started = SystemClock.monotonic();
    let mirrors = arguments
        .mirror
        .as_deref()
        .map(|archive| named_mirrors(archive, arguments.security_mirror.as_deref()))
        .transpose()?;
    let setup = BaseSetup::new(&context.settings, mirrors)?;
    let mut options = setup.options(platform);
    options.offline = arguments.offline;
    options.allow_expired |= arguments.allow_expired_index;
    if let Some(path) = &arguments.keyring {
        let bytes = corten_sys::file::read_limited(path, KEYRING_BYTES_MAX)?;
        options.keyring = Keyring::parse(&bytes).map_err(CliError::new)?;
    }
    if let Some(path) = &arguments.lock {
        let bytes = corten_sys::file::read_limited(path, LOCK_BYTES_MAX)?;
        let lock = Lock::parse(&bytes).map_err(|error| {
            CliError::new(error).hint(format!(
                "`{}` shall be one that `corten base build RECIPE --lock-out FILE` wrote",
                path.display()
            ))
        })?;
        options.lock = Some(lock);
    }
    let progress =
        Progress::new(&context.ui, arguments.progress, arguments.quiet, context.no_progress, None);
    let built = corten_base::build(recipe, &options, store, &progress);
    progress.finish();
    let (image, lock) = built?;
    // The base of another platform keeps the name, too.
    for name in &names.recipe {
        store.tag_platform(name, &image)?;
    }
    for name in &names.tags {
        if is_first {
            store.tag(name, image.id)?;
        } else {
            store.tag_platform(name, &image)?;
        }
    }
    if let Some(path) = &arguments.lock_out {
        corten_sys::file::write_atomic(path, lock.to_text().as_bytes(), 0o644)?;
    }
    store.settle()?;
    if arguments.quiet {
        context.ui.line(&image.id.to_string());
        return Ok(());
    }
    let elapsed = SystemClock.monotonic().saturating_sub(started);
    report(context, names, (&image, &lock), elapsed);
    Ok(())
}

fn report(context: &Context, names: &Names, (image, lock): (&Image, &Lock), elapsed: Duration) {
    let name = names.recipe.first().map(Reference::familiar).unwrap_or_default();
    let platform = image.config.platform();
    let of = if platform == Platform::host() { String::new() } else { format!("  {platform}") };
    context.ui.done(
        "made",
        &format!(
            "{name}{of}  {}  {} packages  {}  {}",
            image.id.0.short(),
            lock.pins.packages.len(),
            ui::bytes(super::images::size_of(image)),
            ui::duration(elapsed)
        ),
    );
    context
        .ui
        .hint(&format!("write `FROM {name}` in a Dockerfile, or map a name to it in corten.toml"));
}

/// A name of the catalogue, or a file.
fn find_recipe(name: &str) -> Result<Recipe, CliError> {
    let path = std::path::Path::new(name);
    match recipe::find(name) {
        Ok(recipe) => Ok(recipe),
        Err(_) if path.is_file() => {
            let bytes = corten_sys::file::read_limited(path, RECIPE_BYTES_MAX)?;
            Recipe::parse(&String::from_utf8_lossy(&bytes)).map_err(|error| {
                let hint = error.hint();
                CliError::new(error).hint(hint)
            })
        }
        Err(error) => {
            let hint = error.hint();
            Err(CliError::new(error).hint(hint))
        }
    }
}

fn list(context: &Context, json: bool) -> Result<ExitCode, CliError> {
    let rows: Vec<Value> = recipe::catalogue()
        .iter()
        .map(|recipe| {
            let names: Vec<String> = recipe.references().map(|name| name.familiar()).collect();
            json!({
                "Recipe": recipe.name,
                "Names": names.join(" "),
                "Description": recipe.description,
            })
        })
        .collect();
    let format = Format::parse(None, json)?;
    let columns = [("RECIPE", "Recipe"), ("DESCRIPTION", "Description"), ("NAMES", "Names")];
    print_rows(&context.ui, &format, "corten.base-list/1", &columns, &rows)?;
    Ok(ExitCode::SUCCESS)
}
