use std::collections::{BTreeMap, BTreeSet};
use std::process::ExitCode;

use corten_oci::digest::Digest;
use corten_oci::platform::Platform;
use corten_oci::reference::Reference;
use corten_oci::time::parse_rfc3339;
use corten_store::{Found, Image, Store, TagTarget};
use corten_sys::clock::{Clock, SystemClock};
use serde_json::{Value, json};

use super::Context;
use crate::cli::ImagesArgs;
use crate::error::CliError;
use crate::ui::{self, Format, print_rows};

/// Finds an image or an index by name or by a prefix of its ID.
pub(super) fn lookup(store: &Store, name: &str) -> Result<Found, CliError> {
    if let Some(found) = store.find(name)? {
        return Ok(found);
    }
    Err(CliError::new(format!("no image `{name}` in the store")).hint(suggestion(store, name)))
}

/// Finds the image of a platform; without one, of this machine's where an index has several.
pub(super) fn find(
    store: &Store,
    name: &str,
    platform: Option<&Platform>,
) -> Result<Image, CliError> {
    let found = lookup(store, name)?;
    image_of(store, name, found, platform)
}

/// The image of a platform of what was found.
pub(super) fn image_of(
    store: &Store,
    name: &str,
    found: Found,
    platform: Option<&Platform>,
) -> Result<Image, CliError> {
    match (found, platform) {
        (Found::Image(image), Some(wanted)) if !wanted.accepts(&image.config.platform()) => {
            let has = image.config.platform();
            Err(CliError::new(format!("image `{name}` is for {has}, not for {wanted}")))
        }
        (Found::Image(image), _) => Ok(*image),
        (Found::Index(index), wanted) => {
            let host = Platform::host();
            let wanted = wanted.unwrap_or(&host);
            if index.select(wanted).is_none() {
                let has = index.platforms();
                return Err(CliError::new(format!(
                    "image `{name}` is for {has}, not for {wanted}"
                ))
                .hint("choose one of them: `--platform OS/ARCH`".to_owned()));
            }
            Ok(store.index_image(&index, wanted)?)
        }
    }
}

/// Reads a `--platform` that may be absent.
pub(super) fn platform(text: Option<&str>) -> Result<Option<Platform>, CliError> {
    Ok(text.map(str::parse).transpose()?)
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

/// The names that an image or an index has, sorted.
pub(super) fn names_of(store: &Store, target: TagTarget) -> Result<Vec<Reference>, CliError> {
    let mut names: Vec<Reference> = store
        .references()?
        .into_iter()
        .filter(|tagged| tagged.target == target)
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
    let host = Platform::host().to_string();
    let mut columns = vec![("REPOSITORY", "Repository"), ("TAG", "Tag")];
    // Where every image is for this machine, nobody needs to read that.
    if rows.iter().any(|row| row["Platform"] != host.as_str()) {
        columns.push(("PLATFORM", "Platform"));
    }
    if arguments.digests {
        columns.push(("DIGEST", "Digest"));
    }
    columns.extend([("IMAGE ID", "ID"), ("CREATED", "CreatedSince"), ("SIZE", "Size")]);
    print_rows(&context.ui, &format, "corten.images/1", &columns, &rows)?;
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

/// What a row is about: an image, or the images of an index.
struct Row {
    name: Option<Reference>,
    target: TagTarget,
    /// The digest of the manifest or of the index.
    digest: Digest,
    /// The images with their platforms.
    images: Vec<(Platform, Image)>,
}

impl Row {
    fn new(store: &Store, name: Option<Reference>, found: Found) -> Result<Self, CliError> {
        let target = found.target();
        let (digest, images) = match found {
            Found::Image(image) => (image.manifest, vec![(image.config.platform(), *image)]),
            Found::Index(index) => {
                let mut images = Vec::new();
                for member in &index.members {
                    images.push((member.platform(), store.member_image(member)?));
                }
                (index.digest, images)
            }
        };
        Ok(Self { name, target, digest, images })
    }

    /// When the newest of the images was made, as written and in seconds since 1970.
    fn created(&self) -> (i64, String) {
        let times = self.images.iter().map(|(_, image)| {
            let text = image.config.created.clone().unwrap_or_default();
            (parse_rfc3339(&text).unwrap_or_default(), text)
        });
        times.max().unwrap_or_default()
    }

    /// Bytes of all layers; one that platforms share counts once.
    fn size(&self) -> u64 {
        let layers = self.images.iter().flat_map(|(_, image)| &image.layers);
        let sizes: BTreeMap<_, u64> =
            layers.map(|layer| (layer.diff_id, layer.tar_bytes)).collect();
        match self.images.as_slice() {
            [(_, only)] => size_of(only),
            _ => sizes.values().sum(),
        }
    }
}

/// One row a name, newest first; what has no name last. The images of an index are in its row.
fn rows(
    store: &Store,
    filter: Option<&Filter>,
    arguments: &ImagesArgs,
) -> Result<Vec<Value>, CliError> {
    let references = store.references()?;
    let mut found = Vec::new();
    for tagged in &references {
        if filter.is_some_and(|filter| !filter.matches(&tagged.reference)) {
            continue;
        }
        let content = match tagged.target {
            TagTarget::Image(id) => store.image(&id)?.map(|image| Found::Image(Box::new(image))),
            TagTarget::Index(digest) => store.index(&digest)?.map(Found::Index),
        };
        if let Some(content) = content {
            found.push(Row::new(store, Some(tagged.reference.clone()), content)?);
        }
    }
    if filter.is_none() {
        let mut known: BTreeSet<TagTarget> = references.iter().map(|t| t.target).collect();
        for index in store.indexes()? {
            known.extend(index.members.iter().map(|member| TagTarget::Image(member.image)));
            if !known.contains(&TagTarget::Index(index.digest)) {
                found.push(Row::new(store, None, Found::Index(index))?);
            }
        }
        for image in store.images()? {
            if !known.contains(&TagTarget::Image(image.id)) {
                found.push(Row::new(store, None, Found::Image(Box::new(image)))?);
            }
        }
    }
    found.sort_by(|a, b| {
        (a.name.is_none(), b.created().0, &a.name).cmp(&(b.name.is_none(), a.created().0, &b.name))
    });
    let now = SystemClock.now().seconds;
    Ok(found.iter().map(|found| row(found, arguments, now)).collect())
}

fn row(found: &Row, arguments: &ImagesArgs, now: i64) -> Value {
    let none = || "<none>".to_owned();
    let name = found.name.as_ref();
    let shown = |digest: Digest| {
        if arguments.no_trunc { digest.to_string() } else { digest.short() }
    };
    let (created, text) = found.created();
    let repository = name.map_or_else(none, |name| {
        let familiar = name.familiar();
        let end = familiar.len() - name.tag().map_or(0, |tag| tag.len() + 1);
        familiar[..end].to_owned()
    });
    let since = if text.is_empty() { String::new() } else { ui::age(created, now) };
    let platforms: Vec<String> = found.images.iter().map(|(of, _)| of.to_string()).collect();
    let mut value = json!({
        "Repository": repository,
        "Tag": name.and_then(Reference::tag).map_or_else(none, str::to_owned),
        "ID": shown(found.target.digest()),
        "Digest": found.digest.to_string(),
        "Platform": platforms.join(","),
        "CreatedAt": text,
        "CreatedSince": since,
        "Size": ui::bytes(found.size()),
        "SizeBytes": found.size(),
    });
    if let TagTarget::Index(_) = found.target {
        let images = found.images.iter().map(|(platform, image)| {
            json!({
                "ID": shown(image.id.0),
                "Digest": image.manifest.to_string(),
                "Platform": platform.to_string(),
                "SizeBytes": size_of(image),
            })
        });
        value["Images"] = images.collect();
    }
    value
}
