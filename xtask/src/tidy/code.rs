//! Words of the language that only one place may use.

use super::Finding;
use super::rust_source::RustSource;
use super::workspace::{Workspace, is_beside_program};

/// The only crate that may be unsafe.
const UNSAFE_HOME: &str = "crates/corten-sys/";

/// The only crate that may be asynchronous.
const ASYNC_HOME: &str = "crates/corten-registry/";

/// Where the program and the tools talk to people; an archive goes to standard output as bytes, and
/// what a container writes goes to the descriptors that it would have had without us.
const PRINTING_HOMES: [&str; 8] = [
    "crates/corten/src/ui/",
    "crates/corten/src/commands/archive.rs",
    "crates/corten/src/commands/outputs.rs",
    "crates/corten-runtime/src/run/relay.rs",
    "crates/corten-bundle/src/commands/run.rs",
    "crates/corten-bundle/src/init/identity.rs",
    "crates/corten-testkit/src/lib.rs",
    "xtask/src/ui.rs",
];

/// Where the environment is read. Tools for developers are configured by it too.
const ENVIRONMENT_HOMES: [&str; 3] =
    ["crates/corten/src/settings/", "crates/corten-testkit/", "xtask/"];

const FORBID: &str = "#![forbid(unsafe_code)]";

pub(super) fn find_unsafe(workspace: &Workspace) -> Vec<Finding> {
    let message = "only corten-sys may be unsafe";
    let unsafe_words = Words { homes: &[UNSAFE_HOME], in_tests: true, message };
    unsafe_words.find(workspace, |word, _, _| word == "unsafe")
}

pub(super) fn find_async(workspace: &Workspace) -> Vec<Finding> {
    let message = "only corten-registry may be asynchronous";
    let async_words = Words { homes: &[ASYNC_HOME], in_tests: true, message };
    async_words.find(workspace, |word, _, _| matches!(word, "async" | "await"))
}

pub(super) fn find_printing(workspace: &Workspace) -> Vec<Finding> {
    let message = "only corten/src/ui prints: return the text, or report an event";
    let printing = Words { homes: &PRINTING_HOMES, in_tests: false, message };
    printing.find(workspace, |word, before, after| match word {
        "print" | "println" | "eprint" | "eprintln" | "dbg" => after.starts_with('!'),
        "stdout" | "stderr" => before.ends_with("io::") && after.starts_with('('),
        _ => false,
    })
}

pub(super) fn find_environment(workspace: &Workspace) -> Vec<Finding> {
    let message = "only corten/src/settings reads the environment: take the value as an argument";
    let environment = Words { homes: &ENVIRONMENT_HOMES, in_tests: false, message };
    environment.find(workspace, |word, before, _| {
        let reads = matches!(
            word,
            "var"
                | "var_os"
                | "vars"
                | "vars_os"
                | "set_var"
                | "remove_var"
                | "home_dir"
                | "temp_dir"
        );
        reads && before.ends_with("env::")
    })
}

/// Every crate but the unsafe one forbids unsafe code for good.
pub(super) fn find_missing_forbid(workspace: &Workspace) -> Vec<Finding> {
    let members = workspace.members.iter();
    let roots = members.flat_map(|member| {
        ["lib", "main"].map(|root| format!("{}/src/{root}.rs", member.directory))
    });
    roots
        .filter(|path| !path.starts_with(UNSAFE_HOME))
        .filter(|path| {
            let source = workspace.files.get(path).and_then(|file| file.rust.as_ref());
            source.is_some_and(|source| !source.code.contains(FORBID))
        })
        .map(|path| Finding::new(path, 0, format!("`{FORBID}` is missing")))
        .collect()
}

/// Words of code that only some places may use.
struct Words<'a> {
    homes: &'a [&'a str],
    /// Tests and examples are held to it too.
    in_tests: bool,
    message: &'a str,
}

impl Words<'_> {
    /// Finds the words outside of their homes. The test gets the word and what is around it.
    fn find(
        &self,
        workspace: &Workspace,
        is_wrong: impl Fn(&str, &str, &str) -> bool,
    ) -> Vec<Finding> {
        let is_held = |path: &str| {
            let is_home = self.homes.iter().any(|home| path.starts_with(home));
            !is_home && (self.in_tests || !is_beside_program(path))
        };
        let files = workspace.rust_files().filter(|(path, _)| is_held(path));
        files.flat_map(|(path, source)| self.find_in(path, source, &is_wrong)).collect()
    }

    fn find_in(
        &self,
        path: &str,
        source: &RustSource,
        is_wrong: &impl Fn(&str, &str, &str) -> bool,
    ) -> Vec<Finding> {
        let lines: Vec<&str> = source.code.lines().collect();
        source
            .words()
            .filter(|(line, ..)| self.in_tests || !source.is_test(*line))
            .filter(|(line, word, after)| {
                let text = lines.get(line - 1).copied().unwrap_or_default();
                let before = text.len().saturating_sub(after.len() + word.len());
                is_wrong(word, &text[..before], after)
            })
            .map(|(line, word, _)| Finding::new(path, line, format!("`{word}`: {}", self.message)))
            .collect()
    }
}
