//! A test binary with a `main` of its own.
//!
//! A container's helper process is the same program started again, so that a test which starts
//! containers must own its `main`: the first argument tells what it is to be. Such a binary has
//! `harness = false` in its `Cargo.toml` and speaks as much of the usual language as
//! `cargo test` and nextest need.

use std::ffi::OsString;
use std::panic::catch_unwind;
use std::process::{Command, ExitCode};

/// A test of such a binary.
#[derive(Debug, Clone, Copy)]
pub struct Test {
    /// With the module: `privileged::limits::memory`.
    pub name: &'static str,
    pub run: fn(),
    /// Whether it must run in the first thread, as what changes the own user namespace must.
    pub in_first_thread: bool,
}

/// What the arguments ask for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Request {
    list: bool,
    ignored_only: bool,
    exact: bool,
    filters: Vec<String>,
    skips: Vec<String>,
}

/// Runs what the arguments ask for.
pub fn main(tests: &[Test]) -> ExitCode {
    let request = Request::parse(std::env::args().skip(1));
    let selected: Vec<&Test> = tests.iter().filter(|test| request.selects(test.name)).collect();
    if request.list {
        let line = |text: String, test: &&Test| text + test.name + ": test\n";
        return match crate::answer(&selected.iter().fold(String::new(), line)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    match selected.as_slice() {
        [] => ExitCode::SUCCESS,
        // A test may change its process for good: each has one of its own.
        [only] if request.exact => run_here(only),
        several => run_all(several),
    }
}

impl Request {
    fn parse(arguments: impl Iterator<Item = String>) -> Self {
        let mut request = Self::default();
        let mut arguments = arguments.peekable();
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--list" => request.list = true,
                "--exact" => request.exact = true,
                "--ignored" => request.ignored_only = true,
                "--skip" => request.skips.extend(arguments.next()),
                "--format" | "--test-threads" | "--color" | "-Z" => drop(arguments.next()),
                flag if flag.starts_with('-') => {}
                filter => request.filters.push(filter.to_owned()),
            }
        }
        request
    }

    fn selects(&self, name: &str) -> bool {
        let matches = |filter: &String| {
            if self.exact { name == filter } else { name.contains(filter.as_str()) }
        };
        // No test of such a binary is ignored.
        !self.ignored_only
            && (self.filters.is_empty() || self.filters.iter().any(matches))
            && !self.skips.iter().any(matches)
    }
}

fn run_here(test: &Test) -> ExitCode {
    let run = test.run;
    let result = if test.in_first_thread {
        catch_unwind(run).is_ok()
    } else {
        // The name of the thread is that of the test for whoever asks.
        let thread = std::thread::Builder::new().name(test.name.to_owned()).spawn(run);
        thread.is_ok_and(|thread| thread.join().is_ok())
    };
    if result { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[expect(clippy::disallowed_methods, reason = "the test binary starts itself, as it is")]
fn run_all(tests: &[&Test]) -> ExitCode {
    let own = std::env::current_exe().expect("a running program has a file");
    let mut failed = Vec::new();
    for test in tests {
        let arguments: [OsString; 2] = ["--exact".into(), test.name.into()];
        let status = Command::new(&own).args(arguments).status().expect("the test can be started");
        if !status.success() {
            failed.push(test.name);
        }
    }
    crate::say(&format!("{} tests, {} failed", tests.len(), failed.len()));
    for name in &failed {
        crate::say(&format!("failed: {name}"));
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(line: &str) -> Request {
        Request::parse(line.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn the_words_of_nextest_are_understood() {
        let listed = request("--list --format terse");
        assert!(listed.list && listed.selects("any"));
        assert!(!request("--list --format terse --ignored").selects("any"));
        let exact = request("a::b --nocapture --exact");
        assert!(exact.selects("a::b") && !exact.selects("a::bc"));
    }

    #[test]
    fn a_filter_is_a_part_of_the_name() {
        assert!(request("limits").selects("privileged::limits::memory"));
        assert!(!request("limits --skip memory").selects("privileged::limits::memory"));
    }
}
