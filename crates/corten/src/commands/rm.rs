use std::process::ExitCode;
use std::time::Duration;

use corten_store::{Container, Store};
use corten_sys::clock::{Clock, SystemClock};

use super::Context;
use super::ps::find_container;
use crate::cli::RmArgs;
use crate::error::CliError;

/// A killed process that is still there after this waits for a disk or a device.
const KILL_WAIT_MAX: Duration = Duration::from_secs(10);

/// `corten rm CONTAINER…`.
pub(super) fn rm(context: &Context, arguments: &RmArgs) -> Result<ExitCode, CliError> {
    let store = context.store()?;
    for name in &arguments.containers {
        let Some(container) = find_container(&store, name)? else {
            if arguments.force {
                continue;
            }
            return Err(CliError::new(format!("no container `{name}`"))
                .hint("`corten ps --all` lists them".to_owned()));
        };
        if container.running {
            if !arguments.force {
                return Err(CliError::new(format!("container `{name}` is running")).hint(format!(
                    "end its program, or kill and remove it: `corten rm --force {name}`"
                )));
            }
            kill(&store, &container)?;
        }
        store.remove_container(&container.record.id)?;
        context.ui.line(name);
    }
    Ok(ExitCode::SUCCESS)
}

/// Kills the process that runs the container; the container's processes die with it.
fn kill(store: &Store, container: &Container) -> Result<(), CliError> {
    let Some(pid) = container.record.pid else { return Ok(()) };
    let process = match corten_sys::process::PidFd::open(pid) {
        Ok(process) => process,
        // It has ended meanwhile.
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(()),
        Err(error) => return Err(CliError::new(error)),
    };
    // The number may have gone to another process: it was ours if the container still ran after
    // the descriptor was opened.
    if store.container_runs(&container.record.id)? {
        process.kill().map_err(CliError::new)?;
    }
    let waited = SystemClock.monotonic();
    while store.container_runs(&container.record.id)? {
        if SystemClock.monotonic().saturating_sub(waited) > KILL_WAIT_MAX {
            return Err(CliError::new(format!(
                "container `{}` did not end within {} seconds",
                container.record.name,
                KILL_WAIT_MAX.as_secs()
            )));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}
