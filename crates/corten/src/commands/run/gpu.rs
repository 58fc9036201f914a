//! Before a container with an NVIDIA GPU is started: do its libraries fit the driver?

use std::path::Path;

use corten_runtime::cdi::Injection;
use corten_runtime::gpu::{self, Fit, Needs, Version};
use corten_runtime::{ContainerSpec, options};
use corten_store::Snapshot;
use corten_sys::file;

use crate::commands::Context;
use crate::error::CliError;

/// Where the driver tells its version.
const DRIVER: &str = "/proc/driver/nvidia/version";
/// It tells two lines.
const DRIVER_BYTES_MAX: u64 = 64 * 1024;
/// Where images have libraries for drivers that are older than they are.
const COMPATIBLE: &str = "usr/local/cuda/compat";
/// Where Python packages are; below each of `lib/python3.N` too.
const PYTHONS: [&str; 7] =
    ["usr/local", "usr", "opt/venv", "venv", "app/.venv", "opt/conda", ".venv"];

/// Refuses what an image says itself that it cannot do, and warns of what it has.
pub(super) fn check(
    context: &Context,
    is_quiet: bool,
    snapshot: &Snapshot,
    injection: &Injection,
    spec: &mut ContainerSpec,
) -> Result<(), CliError> {
    let told = file::read_optional(Path::new(DRIVER), DRIVER_BYTES_MAX)?;
    let told = told.and_then(|text| gpu::driver_of_text(&String::from_utf8_lossy(&text)));
    let Some(mut driver) = told.or_else(|| gpu::driver_of_mounts(&injection.mounts)) else {
        return Ok(());
    };
    if injection.is_compatible
        && let Some(newer) = compatible(snapshot)?.filter(|found| found.major > driver.major)
    {
        driver = newer;
        search_first(&mut spec.env, &format!("/{COMPATIBLE}"));
    }
    let packages = packages(snapshot)?;
    match gpu::judge(&Needs { environment: &spec.env, packages: &packages }, driver) {
        Fit::Partly(text) if !is_quiet => context.ui.warning(&text),
        Fit::Well | Fit::Partly(_) => {}
        Fit::Not(text) => {
            return Err(CliError::new(text)
                .hint("`-e NVIDIA_DISABLE_REQUIRE=1` starts it all the same".to_owned()));
        }
    }
    Ok(())
}

/// The driver's library that the image brings along.
fn compatible(snapshot: &Snapshot) -> Result<Option<Version>, CliError> {
    let names = snapshot.list_dir(COMPATIBLE.as_bytes())?.unwrap_or_default();
    let version = |name: &[u8]| {
        let version = std::str::from_utf8(name).ok()?.strip_prefix("libcuda.so.")?;
        Version::parse(version).filter(|_| version.contains('.'))
    };
    Ok(names.iter().filter_map(|entry| version(entry.name())).max())
}

/// The names of what Python packages leave behind when they are installed.
fn packages(snapshot: &Snapshot) -> Result<Vec<String>, CliError> {
    let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    let mut found = Vec::new();
    for root in PYTHONS {
        let folder = format!("{root}/lib");
        for entry in snapshot.list_dir(folder.as_bytes())?.unwrap_or_default() {
            let python = text(entry.name());
            if !python.starts_with("python3") {
                continue;
            }
            for packages in ["site-packages", "dist-packages"] {
                let folder = format!("{folder}/{python}/{packages}");
                let entries = snapshot.list_dir(folder.as_bytes())?.unwrap_or_default();
                let names = entries.iter().map(|entry| text(entry.name()));
                found.extend(names.filter(|name| name.ends_with(".dist-info")));
            }
        }
    }
    Ok(found)
}

/// Has the linker look in one more directory, before all others.
fn search_first(env: &mut Vec<String>, directory: &str) {
    let known = env.iter().rev().find_map(|variable| variable.strip_prefix("LD_LIBRARY_PATH="));
    let value = match known {
        Some(known) if !known.is_empty() => format!("LD_LIBRARY_PATH={directory}:{known}"),
        _ => format!("LD_LIBRARY_PATH={directory}"),
    };
    options::merge(env, [value]);
}
