//! The `corten` program: arguments, settings, commands, terminal, exit codes.
//!
//! Nothing here knows how an image is built or a container is isolated; the
//! libraries do. This crate reads the environment (`settings`), prints (`ui`),
//! and calls one function per command (`commands`).
#![forbid(unsafe_code)]

mod bases;
mod cli;
mod commands;
mod error;
mod fetch;
mod registry;
mod settings;
mod ui;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    // The container's init must run before anything that could start a thread or read a
    // setting: after `fork` or `unshare` only a single-threaded process is safe.
    if arguments.get(1).is_some_and(|argument| argument == corten_runtime::INIT_ARGUMENT) {
        return corten_runtime::init_main();
    }
    if arguments.get(1).is_some_and(|argument| argument == corten_monitor::MONITOR_ARGUMENT) {
        return corten_monitor::main();
    }
    let environment = settings::Environment::capture();
    let ui = ui::Ui::new(&environment);
    if let Some(arguments) = oci_arguments(&arguments) {
        return commands::oci::main(arguments, &environment, &ui);
    }
    match cli::parse(&arguments, &ui) {
        Ok(cli) => commands::dispatch(cli, environment, ui),
        Err(code) => code,
    }
}

/// The names under which the program is an OCI runtime: engines want one path without arguments.
const OCI_NAMES: [&str; 3] = ["corten-oci", "runc", "crun"];

/// The arguments of the OCI runtime, if that is what we are called as.
fn oci_arguments(arguments: &[OsString]) -> Option<&[OsString]> {
    let (name, rest) = arguments.split_first()?;
    let name = Path::new(name).file_name()?;
    if OCI_NAMES.iter().any(|known| name == *known) {
        return Some(rest);
    }
    match rest.split_first() {
        Some((word, rest)) if word == "oci" => Some(rest),
        _ => None,
    }
}
