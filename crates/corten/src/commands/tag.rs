use std::process::ExitCode;

use corten_oci::reference::Reference;
use corten_store::{Event, EventKind};

use super::images::lookup;
use super::{Context, tell};
use crate::cli::TagArgs;
use crate::error::CliError;

/// `corten tag SOURCE TARGET`.
pub(super) fn tag(context: &Context, arguments: &TagArgs) -> Result<ExitCode, CliError> {
    let store = context.store()?;
    let found = lookup(&store, &arguments.source)?;
    let target: Reference = arguments.target.parse()?;
    if target.digest().is_some() {
        return Err(CliError::new(format!(
            "failed to tag `{}`: a name with a digest cannot be given to an image",
            arguments.target
        ))
        .hint("leave out the part from `@` on".to_owned()));
    }
    store.tag(&target, found.target())?;
    let (id, name) = (found.target().to_string(), target.familiar());
    tell(context, &store, &Event::new(EventKind::Image, "tag", &id, &[("name", &name)]));
    Ok(ExitCode::SUCCESS)
}
