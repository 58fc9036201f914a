use std::process::ExitCode;

use corten_oci::digest::ImageId;
use corten_oci::platform::Platform;
use corten_oci::reference::Reference;
use corten_store::{Event, EventKind, Found, ImageIndex, NewMember, Store, TagTarget};

use super::images::{lookup, names_of, platform};
use super::{Context, tell};
use crate::cli::RmiArgs;
use crate::error::CliError;

/// `corten rmi IMAGE…`: takes names away; the last one takes the image with it.
pub(super) fn rmi(context: &Context, arguments: &RmiArgs) -> Result<ExitCode, CliError> {
    let store = context.store()?;
    let platform = platform(arguments.platform.as_deref())?;
    let mut failed = None;
    for name in &arguments.images {
        match remove(context, &store, name, arguments.force, platform.as_ref()) {
            Ok(()) => {}
            Err(error) => {
                // The other images are still removed; the first failure decides the code.
                if let Some(previous) = failed.replace(error) {
                    context.ui.error(previous.error.as_ref(), &previous.hints);
                }
            }
        }
    }
    match failed {
        None => Ok(ExitCode::SUCCESS),
        Some(error) => Err(error),
    }
}

fn remove(
    context: &Context,
    store: &Store,
    name: &str,
    force: bool,
    platform: Option<&Platform>,
) -> Result<(), CliError> {
    let found = match lookup(store, name) {
        Ok(found) => found,
        Err(_) if force => return Ok(()),
        Err(error) => return Err(error),
    };
    let found = match (found, platform) {
        (Found::Index(index), Some(platform)) => {
            match remove_member(context, store, name, &index, platform)? {
                Rest::Removed => return Ok(()),
                Rest::Last => Found::Index(index),
            }
        }
        (found @ Found::Image(_), Some(platform)) => {
            let image = super::images::image_of(store, name, found, Some(platform))?;
            Found::Image(Box::new(image))
        }
        (found, None) => found,
    };
    let names = names_of(store, found.target())?;
    let given: Option<Reference> = name.parse().ok().filter(|reference| names.contains(reference));
    let by_id = given.is_none();
    if by_id && names.len() > 1 && !force {
        let list: Vec<String> = names.iter().map(Reference::familiar).collect();
        return Err(CliError::new(format!(
            "image `{name}` has {} names: {}",
            names.len(),
            list.join(", ")
        ))
        .hint(format!("remove it with all of them: `corten rmi --force {name}`")));
    }
    let images: Vec<ImageId> = match &found {
        Found::Image(image) => vec![image.id],
        Found::Index(index) => index.members.iter().map(|member| member.image).collect(),
    };
    in_use(store, &images, name)?;
    let untagged = given.map_or_else(|| names.clone(), |reference| vec![reference]);
    let is_last = untagged.len() == names.len();
    if let (Found::Image(image), true) = (&found, is_last) {
        // As part of an index it stays, and only its names go.
        if !untagged.is_empty() && store.is_in_index(&image.id)? {
            return untag(context, store, &untagged);
        }
    }
    untag(context, store, &untagged)?;
    if !is_last {
        return Ok(());
    }
    match found {
        Found::Image(image) => {
            store.remove_image(&image.id)?;
            deleted(context, store, &image.id.to_string());
        }
        Found::Index(index) => {
            let removed = store.remove_index(&index.digest)?;
            deleted(context, store, &index.digest.to_string());
            for id in removed {
                deleted(context, store, &id.to_string());
            }
        }
    }
    Ok(())
}

fn deleted(context: &Context, store: &Store, id: &str) {
    tell(context, store, &Event::new(EventKind::Image, "delete", id, &[("name", id)]));
    context.ui.line(&format!("Deleted: {id}"));
}

fn untag(context: &Context, store: &Store, names: &[Reference]) -> Result<(), CliError> {
    for reference in names {
        store.untag(reference)?;
        let name = reference.familiar();
        tell(context, store, &Event::new(EventKind::Image, "untag", &name, &[("name", &name)]));
        context.ui.line(&format!("Untagged: {}", reference.familiar()));
    }
    Ok(())
}

/// What `--platform` left to do.
enum Rest {
    Removed,
    /// It was the only one: the whole goes.
    Last,
}

/// Takes the image of one platform out of an index: its names stand for the rest.
fn remove_member(
    context: &Context,
    store: &Store,
    name: &str,
    index: &ImageIndex,
    platform: &Platform,
) -> Result<Rest, CliError> {
    let Some(member) = index.select(platform) else {
        let has = index.platforms();
        return Err(CliError::new(format!("image `{name}` is for {has}, not for {platform}")));
    };
    let mut rest = Vec::new();
    for other in index.members.iter().filter(|other| *other != member) {
        let annotations = other.descriptor.annotations.clone();
        rest.push(NewMember { image: store.member_image(other)?, annotations });
    }
    if rest.is_empty() {
        return Ok(Rest::Last);
    }
    in_use(store, &[member.image], name)?;
    let target = match rest.as_slice() {
        [only] => TagTarget::Image(only.image.id),
        _ => TagTarget::Index(store.put_index(&rest, &index.annotations)?.digest),
    };
    for reference in names_of(store, TagTarget::Index(index.digest))? {
        store.tag(&reference, target)?;
    }
    for id in store.remove_index(&index.digest)? {
        deleted(context, store, &id.to_string());
    }
    Ok(Rest::Removed)
}

/// Refuses to remove the last name of an image that a kept container was made from.
fn in_use(store: &Store, images: &[ImageId], name: &str) -> Result<(), CliError> {
    let users = store.containers()?;
    match users.iter().find(|container| images.contains(&container.record.image)) {
        None => Ok(()),
        Some(container) => Err(CliError::new(format!(
            "image `{name}` is used by container `{}`",
            container.record.name
        ))
        .hint(format!("remove the container first: `corten rm {}`", container.record.name))),
    }
}
