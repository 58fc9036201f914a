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
    match cli::parse(&arguments, &ui) {
        Ok(cli) => commands::dispatch(cli, environment, ui),
        Err(code) => code,
    }
}
