use std::process::ExitCode;

use corten_oci::reference::Reference;
use corten_oci::time::parse_rfc3339;
use corten_store::{Image, Store};
use corten_sys::clock::{Clock, SystemClock};
use serde_json::{Value, json};

use super::Context;
use crate::cli::ImagesArgs;
use crate::error::CliError;
use crate::ui::{self, Format, print_rows};

/// Finds an image by name or by a prefix of its ID.
pub(super) fn find(store: &Store, name: &str) -> Result<Image, CliError> {
    if let Some(image) = store.resolve(name)? {
        return Ok(image);
    }
    Err(CliError::new(format!("no image `{name}` in the store")).hint(suggestion(store, name)))
}

/// The nearest name in the store, or where to look.
fn suggestion(store: &Store, name: &str) -> Option<String> {
    let names: Vec<String> =
        store.references().ok()?.iter().map(|tagged| tagged.reference.familiar()).collect();
    let candidates: Vec<&str> = names.iter().map(String::as_str).collect();
    Some(match corten_diag::suggest::nearest(name, &candidates) {
        Some(near) => format!("did you mean `{near}`? `corten images` lists what is there"),
        None => "`corten images` lists what is there; `corten build` makes one".to_owned(),
    })
}

/// The names that an image has, sorted.
pub(super) fn names_of(store: &Store, image: &Image) -> Result<Vec<Reference>, CliError> {
    let mut names: Vec<Reference> = store
        .references()?
        .into_iter()
        .filter(|tagged| tagged.image == image.id)
        .map(|tagged| tagged.reference)
        .collect();
    names.sort();
    Ok(names)
}

/// Bytes of all layers, uncompressed.
pub(super) fn size_of(image: &Image) -> u64 {
    image.layers.iter().map(|layer| layer.tar_bytes).sum()
}

/// `corten images`.
pub(super) fn images(context: &Context, arguments: &ImagesArgs) -> Result<ExitCode, CliError> {
    let format = Format::parse(arguments.format.as_deref(), arguments.json)?;
    let store = context.store()?;
    let filter = arguments.name.as_deref().map(Filter::parse).transpose()?;
    let rows = rows(&store, filter.as_ref(), arguments)?;
    if arguments.quiet {
        for row in &rows {
            context.ui.line(&ui::plain(&row["ID"]));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let columns: &[(&str, &str)] = if arguments.digests {
        &[
            ("REPOSITORY", "Repository"),
            ("TAG", "Tag"),
            ("DIGEST", "Digest"),
            ("IMAGE ID", "ID"),
            ("CREATED", "CreatedSince"),
            ("SIZE", "Size"),
        ]
    } else {
        &[
            ("REPOSITORY", "Repository"),
            ("TAG", "Tag"),
            ("IMAGE ID", "ID"),
            ("CREATED", "CreatedSince"),
            ("SIZE", "Size"),
        ]
    };
    print_rows(&context.ui, &format, "corten.images/1", columns, &rows)?;
    Ok(ExitCode::SUCCESS)
}

/// `name` matches every tag of it, `name:tag` that one.
struct Filter {
    name: String,
    tag: Option<String>,
}

impl Filter {
    fn parse(text: &str) -> Result<Self, CliError> {
        let reference: Reference = text.parse()?;
        let explicit = text.rsplit('/').next().is_some_and(|last| last.contains(':'));
        let tag = reference.tag().filter(|_| explicit).map(str::to_owned);
        Ok(Self { name: reference.name(), tag })
    }

    fn matches(&self, reference: &Reference) -> bool {
        self.name == reference.name()
            && self.tag.as_deref().is_none_or(|tag| reference.tag() == Some(tag))
    }
}

/// One row a name, newest first; images without a name last.
fn rows(
    store: &Store,
    filter: Option<&Filter>,
    arguments: &ImagesArgs,
) -> Result<Vec<Value>, CliError> {
    let references = store.references()?;
    let mut found: Vec<(Option<Reference>, Image)> = Vec::new();
    for tagged in &references {
        if filter.is_some_and(|filter| !filter.matches(&tagged.reference)) {
            continue;
        }
        if let Some(image) = store.image(&tagged.image)? {
            found.push((Some(tagged.reference.clone()), image));
        }
    }
    if filter.is_none() {
        for image in store.images()? {
            if !references.iter().any(|tagged| tagged.image == image.id) {
                found.push((None, image));
            }
        }
    }
    let created =
        |image: &Image| image.config.created.as_deref().and_then(parse_rfc3339).unwrap_or_default();
    found.sort_by(|a, b| {
        (a.0.is_none(), created(&b.1), &a.0).cmp(&(b.0.is_none(), created(&a.1), &b.0))
    });
    let now = SystemClock.now().seconds;
    Ok(found.iter().map(|(name, image)| row(name.as_ref(), image, arguments, now)).collect())
}

fn row(name: Option<&Reference>, image: &Image, arguments: &ImagesArgs, now: i64) -> Value {
    let none = || "<none>".to_owned();
    let id = if arguments.no_trunc { image.id.to_string() } else { image.id.0.short() };
    let created = image.config.created.clone().unwrap_or_default();
    let repository = name.map_or_else(none, |name| {
        let familiar = name.familiar();
        let end = familiar.len() - name.tag().map_or(0, |tag| tag.len() + 1);
        familiar[..end].to_owned()
    });
    let since = parse_rfc3339(&created).map(|then| ui::age(then, now)).unwrap_or_default();
    json!({
        "Repository": repository,
        "Tag": name.and_then(Reference::tag).map_or_else(none, str::to_owned),
        "ID": id,
        "Digest": image.manifest.to_string(),
        "CreatedAt": created,
        "CreatedSince": since,
        "Size": ui::bytes(size_of(image)),
        "SizeBytes": size_of(image),
    })
}
