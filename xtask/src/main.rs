//! The gates and tools of the workspace.
//!
//! It is run as `cargo xtask COMMAND` and is no part of the program. It reads the environment,
//! starts programs and writes files as any developer's script would: what it makes can be made
//! again, so the rules that protect people's data do not hold here.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods, reason = "a tool of developers, not a part of the program")]

mod bench;
mod ci;
mod generate;
mod program;
mod shell;
mod tidy;
mod ui;

use std::process::ExitCode;

const USAGE: &str = "\
The gates and tools of Corten.

Usage: cargo xtask COMMAND

  build              Build the program as it is shipped, and print its path
  ci                 Everything that must hold before a change lands
  tidy               The rules of the workspace that no compiler checks
  tidy --shrink      Lower the ratchet to what the code needs by now; never raise it
  gen                Write the pages of docs/reference that come from the program
  gen --check        Fail if one of them is out of date
  bench [WORK…]      Measure noop, change, start (the default), start-network, exec, thousand,
                     bundle, base, app-noop, app-change, app-cold, large; `build` is the last four,
                     `run` those from start to bundle
    --against LIST   Peers to measure beside it: docker, docker-classic, podman, buildah, crun, runc, each also
                     as NAME=PROGRAM (default: those that run)
    --pairs N        How often each is measured (default: 20)
    --write          Write docs/benchmarks.md
";

/// Why a command failed, as one message for a developer.
#[derive(Debug)]
pub(crate) struct Failure(pub String);

impl Failure {
    /// Returns a function that puts what was attempted before an error, for `map_err`.
    pub(crate) fn of<E: std::fmt::Display>(attempt: impl Into<String>) -> impl FnOnce(E) -> Self {
        let attempt = attempt.into();
        move |error| Self(format!("failed to {attempt}: {error}"))
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(message)) => {
            ui::error(&message);
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &[&str]) -> Result<(), Failure> {
    let root = shell::workspace_root()?;
    match arguments {
        [] | ["help" | "-h" | "--help"] => {
            ui::line(USAGE.trim_end());
            Ok(())
        }
        ["build"] => {
            ui::line(&program::build(&root)?.display().to_string());
            Ok(())
        }
        ["ci"] => ci::run(&root),
        ["tidy"] => tidy::run(&root),
        ["tidy", "--shrink"] => tidy::shrink(&root),
        ["gen"] => generate::write(&root),
        ["gen", "--check"] => generate::check(&root),
        ["bench", options @ ..] => bench::run(&root, options),
        _ => Err(Failure(format!("unknown command `{}`\n\n{USAGE}", arguments.join(" ")))),
    }
}
