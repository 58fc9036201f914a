//! How commands get at the files of a container, whether it runs or not.

use std::time::Duration;

use corten_monitor::Definition;
use corten_runtime::{HostFacts, HostFiles, Rootfs, files};
use corten_store::{Container, HeldFiles, Image, Store, StoreOptions};
use corten_sys::clock::{Clock as _, SystemClock};
use corten_sys::process::first_of_container;
use corten_sys::userns;

use super::ps::find_container;
use crate::error::CliError;
use crate::settings::Settings;

/// One that is being started has its files after milliseconds; one that waits for its next start, later.
const START_WAIT_MAX: Duration = Duration::from_secs(10);

/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Joins the user namespace of whoever runs a container, since nobody reaches it from another one. False
/// where there is no such container, or nothing to join.
pub(super) fn enter_namespace_of(
    settings: &Settings,
    name: Option<&str>,
) -> Result<bool, CliError> {
    let Some(name) = name else { return Ok(false) };
    if corten_sys::file::effective_user_id() == 0 {
        return Ok(false);
    }
    let store = Store::open(&StoreOptions::here(&settings.root)?)?;
    let Some(container) = find_container(&store, name)?.filter(|container| container.running)
    else {
        return Ok(false);
    };
    let Some(runner) = container.state.pid else { return Ok(false) };
    Ok(userns::enter_that_of(runner)?)
}

/// Does something while a container's files are there to be reached through its first process, whose
/// number the function gets.
pub(super) fn reach<T>(
    store: &Store,
    container: &Container,
    mut work: impl FnMut(u32) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let began = SystemClock.monotonic();
    loop {
        if let Some((held, image)) = store.hold_files(&container.record.id)? {
            return stopped(store, container, &held, &image, &mut work);
        }
        if let Some(pid) = first_process(store, container)? {
            return work(pid);
        }
        if SystemClock.monotonic().saturating_sub(began) > START_WAIT_MAX {
            return Err(CliError::new(format!(
                "container `{}` has no process now, and is to be started again",
                container.record.name
            ))
            .hint(format!("`corten stop {}` ends that", container.record.name)));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// The first process of a container that runs; `None` while there is none.
pub(super) fn first_process(store: &Store, container: &Container) -> Result<Option<u32>, CliError> {
    let id = &container.record.id;
    let Some(runner) = store.container(id)?.and_then(|found| found.state.pid) else {
        return Ok(None);
    };
    let found = first_of_container(runner).map_err(CliError::new)?;
    // The number was the runner's if the container still runs after it was looked at.
    Ok(found.filter(|_| store.container_runs(id).unwrap_or_default()))
}

fn stopped<T>(
    store: &Store,
    container: &Container,
    held: &HeldFiles,
    image: &Image,
    work: &mut impl FnMut(u32) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let definition = Definition::decode(&store.container_definition(&container.record.id)?)?;
    let mut spec = definition.spec;
    let lowers = image.layers.iter().rev().map(|layer| layer.path.clone()).collect();
    let readonly = spec.rootfs.readonly;
    spec.rootfs = Rootfs::layered(lowers, held.upper(), held.work());
    spec.rootfs.readonly = readonly;
    // What is copied is on the disk when the kernel writes it, as after any other copy.
    spec.rootfs.volatile = true;
    spec.host_files = HostFiles::default();
    held.renew()?;
    let plan = corten_runtime::plan(&spec, &HostFacts::gather()?)?;
    files::hold(&plan, work)?
}
