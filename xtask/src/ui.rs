//! The only place of this tool that prints.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "this is the tool's terminal")]

use std::io::IsTerminal as _;

/// Prints a line of the answer.
pub(crate) fn line(text: &str) {
    println!("{text}");
}

/// Prints what happens next.
pub(crate) fn step(text: &str) {
    eprintln!("{} {text}", paint("1;36", "=="));
}

/// Prints something that must not be overlooked.
pub(crate) fn warn(text: &str) {
    eprintln!("{}: {text}", paint("1;33", "warning"));
}

/// Prints why the command failed.
pub(crate) fn error(text: &str) {
    eprintln!("{}: {text}", paint("1;31", "error"));
}

/// Passes on a line of a program that we started.
pub(crate) fn pass_on(text: &str) {
    eprintln!("{text}");
}

/// Returns true if a person sees this, and wants colour.
pub(crate) fn has_color() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty())
}

fn paint(code: &str, text: &str) -> String {
    if has_color() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}
