use std::process::ExitCode;

use corten_oci::reference::Reference;
use corten_store::{Image, Store};

use super::Context;
use super::images::{find, names_of};
use crate::cli::RmiArgs;
use crate::error::CliError;

/// `corten rmi IMAGE…`: takes names away; the last one takes the image with it.
pub(super) fn rmi(context: &Context, arguments: &RmiArgs) -> Result<ExitCode, CliError> {
    let store = context.store()?;
    let mut failed = None;
    for name in &arguments.images {
        match remove(context, &store, name, arguments.force) {
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

fn remove(context: &Context, store: &Store, name: &str, force: bool) -> Result<(), CliError> {
    let image = match find(store, name) {
        Ok(image) => image,
        Err(_) if force => return Ok(()),
        Err(error) => return Err(error),
    };
    let names = names_of(store, &image)?;
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
    in_use(store, &image, name)?;
    let untagged = given.map_or_else(|| names.clone(), |reference| vec![reference]);
    for reference in &untagged {
        store.untag(reference)?;
        context.ui.line(&format!("Untagged: {}", reference.familiar()));
    }
    if untagged.len() == names.len() {
        store.remove_image(&image.id)?;
        context.ui.line(&format!("Deleted: {}", image.id));
    }
    Ok(())
}

/// Refuses to remove the last name of an image that a kept container was made from.
fn in_use(store: &Store, image: &Image, name: &str) -> Result<(), CliError> {
    let users = store.containers()?;
    match users.iter().find(|container| container.record.image == image.id) {
        None => Ok(()),
        Some(container) => Err(CliError::new(format!(
            "image `{name}` is used by container `{}`",
            container.record.name
        ))
        .hint(format!("remove the container first: `corten rm {}`", container.record.name))),
    }
}
