use std::process::ExitCode;

use corten_store::Event;

use super::life::{kill_and_wait, missing};
use super::ps::find_container;
use super::{Context, tell};
use crate::cli::RmArgs;
use crate::error::CliError;

/// `corten rm CONTAINER…`.
pub(super) fn rm(context: &Context, arguments: &RmArgs) -> Result<ExitCode, CliError> {
    let store = context.store()?;
    for name in &arguments.containers {
        let Some(container) = find_container(&store, name)? else {
            if arguments.force {
                continue;
            }
            return Err(missing(name));
        };
        if container.running {
            if !arguments.force {
                return Err(CliError::new(format!("container `{name}` is running")).hint(format!(
                    "`corten stop {name}` first, or kill and remove it: `corten rm --force {name}`"
                )));
            }
            kill_and_wait(&store, &container)?;
        }
        // One that goes away at its end has gone by now.
        if store.container(&container.record.id)?.is_some() {
            store.remove_container(&container.record.id, arguments.volumes)?;
            tell(context, &store, &Event::of(&container.record, "destroy", &[]));
        }
        context.ui.line(name);
    }
    Ok(ExitCode::SUCCESS)
}
