use std::process::ExitCode;

use corten_store::{Container, Event, Store};

use super::life::{each_at_once, kill_and_wait, missing};
use super::{Context, tell};
use crate::cli::RmArgs;
use crate::error::CliError;

/// `corten rm CONTAINER…`, all at once.
pub(super) fn rm(context: &Context, arguments: &RmArgs) -> Result<ExitCode, CliError> {
    let store = context.store()?;
    let absent = |name: &str| if arguments.force { Ok(()) } else { Err(missing(name)) };
    each_at_once(context, &store, &arguments.containers, absent, |container, name| {
        if container.running {
            if !arguments.force {
                return Err(CliError::new(format!("container `{name}` is running")).hint(format!(
                    "`corten stop {name}` first, or kill and remove it: `corten rm --force {name}`"
                )));
            }
            kill_and_wait(&store, container)?;
        }
        remove(context, &store, container, arguments.volumes)
    })
}

/// Removes a container that does not run.
pub(super) fn remove(
    context: &Context,
    store: &Store,
    container: &Container,
    with_volumes: bool,
) -> Result<(), CliError> {
    // One that goes away at its end has gone by now.
    if store.container(&container.record.id)?.is_some() {
        store.remove_container(&container.record.id, with_volumes)?;
        tell(context, store, &Event::of(&container.record, "destroy", &[]));
    }
    Ok(())
}
