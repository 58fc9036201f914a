//! The gates and tools of the workspace: `cargo xtask ci|tidy|gen|bench`.
//!
//! `ci` is the only gate, the same for people and for machines. Nothing here is part of the
//! product.
#![forbid(unsafe_code)]
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a tool of the workspace: it starts programs, reads the environment and prints"
)]

mod bench;
mod ci;
mod r#gen;
mod process;
mod tidy;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask COMMAND

commands:
  ci                 every gate: format, clippy, tests, privileged tests, tidy, generated files
  tidy [--ratchet]   layers, sizes and habits that clippy cannot see; --ratchet lowers the limits
  gen [--check]      write docs/reference anew; --check only says whether it would change
  bench [NAME…]      measure noop, change, run; beside docker and podman where they run
                     --write puts the table into docs/benchmarks.md
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let root = root();
    let result = match words.as_slice() {
        ["ci"] => ci::ci(&root),
        ["tidy"] => tidy::tidy(&root, false),
        ["tidy", "--ratchet"] => tidy::tidy(&root, true),
        ["gen"] => r#gen::write(&root, false),
        ["gen", "--check"] => r#gen::write(&root, true),
        ["bench", rest @ ..] => bench::bench(&root, rest),
        _ => {
            eprint!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// The workspace: the directory above this crate.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}
