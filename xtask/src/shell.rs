//! Starting programs and reading files, with messages that name them.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Failure, ui};

/// Returns the directory of the workspace, wherever we were started in it.
pub(crate) fn workspace_root() -> Result<PathBuf, Failure> {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR")
        .ok_or_else(|| Failure("run this as `cargo xtask`".to_owned()))?;
    let root = Path::new(&manifest).parent().map(Path::to_owned);
    root.ok_or_else(|| Failure("the package `xtask` has no directory above it".to_owned()))
}

/// Returns a command of the cargo that runs us.
pub(crate) fn cargo(root: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root);
    command
}

/// Returns where cargo puts what it builds.
pub(crate) fn target_dir(root: &Path) -> PathBuf {
    let chosen = std::env::var_os("CARGO_TARGET_DIR");
    chosen.map_or_else(|| root.join("target"), |target| root.join(target))
}

/// Runs a command that talks to the terminal itself.
pub(crate) fn run(command: &mut Command) -> Result<(), Failure> {
    let name = describe(command);
    let status = command.status().map_err(Failure::of(format!("run `{name}`")))?;
    if status.success() { Ok(()) } else { Err(Failure(format!("`{name}` ended with {status}"))) }
}

/// Runs a command and returns what it wrote to standard output.
pub(crate) fn read(command: &mut Command) -> Result<String, Failure> {
    let name = describe(command);
    let output =
        command.stdin(Stdio::null()).output().map_err(Failure::of(format!("run `{name}`")))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        return Err(Failure(format!(
            "`{name}` ended with {}\n{}",
            output.status,
            stderr.trim_end()
        )));
    }
    String::from_utf8(output.stdout).map_err(Failure::of(format!("read the text of `{name}`")))
}

/// What [`watch`] heard.
#[derive(Debug)]
pub(crate) struct Watched {
    pub success: bool,
    pub kept: Vec<String>,
}

/// Runs a command, passes on what it says and keeps the lines that were asked for.
pub(crate) fn watch(
    command: &mut Command,
    keep: impl Fn(&str) -> bool + Sync,
) -> Result<Watched, Failure> {
    let name = describe(command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Failure::of(format!("run `{name}`")))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut kept = Vec::new();
    std::thread::scope(|scope| {
        let outputs = scope.spawn(|| stdout.map(|pipe| pass_on(pipe, &keep)).unwrap_or_default());
        kept.extend(stderr.map(|pipe| pass_on(pipe, &keep)).unwrap_or_default());
        kept.extend(outputs.join().unwrap_or_default());
    });
    let status = child.wait().map_err(Failure::of(format!("wait for `{name}`")))?;
    Ok(Watched { success: status.success(), kept })
}

fn pass_on(pipe: impl Read, keep: &impl Fn(&str) -> bool) -> Vec<String> {
    let mut kept = Vec::new();
    for line in BufReader::new(pipe).split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line).into_owned();
        ui::pass_on(&line);
        if keep(&line) {
            kept.push(line);
        }
    }
    kept
}

/// Returns true if a program can be run at all.
pub(crate) fn exists(command: &mut Command) -> bool {
    let command = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Returns the command as a person would type it.
pub(crate) fn describe(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str());
    let words = std::iter::once(program).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// Reads a file of the workspace.
pub(crate) fn read_file(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(Failure::of(format!("read `{}`", path.display())))
}

/// Writes a file of the workspace, with the directories above it.
pub(crate) fn write_file(path: &Path, content: impl AsRef<[u8]>) -> Result<(), Failure> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)
            .map_err(Failure::of(format!("create `{}`", parent.display())))?;
    }
    std::fs::write(path, content).map_err(Failure::of(format!("write `{}`", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_is_named_with_its_words() {
        let error = read(Command::new("/bin/sh").args(["-c", "echo why >&2; exit 3"])).unwrap_err();
        assert_eq!(error.0, "`sh -c echo why >&2; exit 3` ended with exit status: 3\nwhy");
    }

    #[test]
    fn watching_keeps_the_lines_that_were_asked_for() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo one; echo Summary two >&2; exit 1"]);
        let watched = watch(&mut command, |line| line.contains("Summary")).unwrap();
        assert!(!watched.success);
        assert_eq!(watched.kept, ["Summary two"]);
    }
}
