//! Hooks: programs at certain points of a container's life, which get its state on standard input.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use corten_sys::command::Command;
use corten_sys::file;
use corten_sys::process::Ended;
use rustix::fs::{MemfdFlags, SeekFrom};
use serde::Serialize;

use crate::config::Hook;
use crate::error::BundleError;
use crate::state::{Record, Status};

/// So much of what a hook says is told when it fails.
const OUTPUT_BYTES_MAX: u64 = 4096;

/// The state as the specification has it.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State<'a> {
    pub oci_version: &'a str,
    pub id: &'a str,
    pub status: Status,
    #[serde(skip_serializing_if = "is_zero")]
    pub pid: u32,
    pub bundle: &'a Path,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: &'a BTreeMap<String, String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes by reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl<'a> State<'a> {
    pub(crate) fn of(record: &'a Record, status: Status, pid: u32) -> Self {
        Self {
            oci_version: &record.oci_version,
            id: &record.id,
            status,
            pid,
            bundle: &record.bundle,
            annotations: &record.annotations,
        }
    }

    pub(crate) fn text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Runs hooks one after the other; the first that fails ends it.
pub(crate) fn run(kind: &'static str, hooks: &[Hook], state: &str) -> Result<(), BundleError> {
    hooks.iter().try_for_each(|hook| run_one(kind, hook, state))
}

/// Runs all hooks; returns what was wrong with some.
pub(crate) fn run_all(kind: &'static str, hooks: &[Hook], state: &str) -> Vec<BundleError> {
    hooks.iter().filter_map(|hook| run_one(kind, hook, state).err()).collect()
}

fn run_one(kind: &'static str, hook: &Hook, state: &str) -> Result<(), BundleError> {
    let wrong = |problem: String| BundleError::Hook { kind, path: hook.path.clone(), problem };
    let refused = |error: std::io::Error| wrong(error.to_string());
    let input = in_memory(state.as_bytes()).map_err(refused)?;
    let output = in_memory(&[]).map_err(refused)?;
    let mut command = Command::new(&hook.path)
        .descriptor(0, input.as_fd())
        .descriptor(1, output.as_fd())
        .descriptor(2, output.as_fd());
    if let Some((name, arguments)) = hook.args.split_first() {
        command = command.name(name).args(arguments);
    }
    for variable in &hook.env {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        command = command.env(name, value);
    }
    let child = command.spawn().map_err(refused)?;
    let timeout = hook.timeout.and_then(|seconds| u64::try_from(seconds).ok());
    if !child.handle.wait_end(timeout.map(Duration::from_secs)).map_err(refused)? {
        child.kill_and_wait().map_err(refused)?;
        return Err(wrong(format!("timed out after {} s", timeout.unwrap_or_default())));
    }
    let said = || {
        let read = rustix::fs::seek(&output, SeekFrom::Start(0)).map(|_| ());
        let copy = output.try_clone().map(std::fs::File::from);
        let bytes = match (read, copy) {
            (Ok(()), Ok(file)) => {
                use std::io::Read as _;
                let mut bytes = Vec::new();
                file.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes).map(|_| bytes)
            }
            _ => Ok(Vec::new()),
        };
        let text = String::from_utf8_lossy(&bytes.unwrap_or_default()).trim().to_owned();
        if text.is_empty() { text } else { format!(", stdout and stderr: {text}") }
    };
    match child.handle.wait().map_err(refused)?.ended {
        Ended::Code(0) => Ok(()),
        Ended::Code(code) => Err(wrong(format!("exit status {code}{}", said()))),
        Ended::Signal(signal) => Err(wrong(format!("ended by signal {signal}{}", said()))),
    }
}

/// A file that is nowhere, at its beginning.
fn in_memory(bytes: &[u8]) -> std::io::Result<OwnedFd> {
    let fd = rustix::fs::memfd_create("hook", MemfdFlags::CLOEXEC)?;
    let file = std::fs::File::from(fd);
    file::write_all(&file, Path::new("hook"), bytes).map_err(|error| error.source)?;
    let fd = OwnedFd::from(file);
    rustix::fs::seek(&fd, SeekFrom::Start(0))?;
    Ok(fd)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(args: &[&str], env: &[&str], timeout: Option<i64>) -> Hook {
        Hook {
            path: "/bin/sh".into(),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            env: env.iter().map(|&one| one.to_owned()).collect(),
            timeout,
        }
    }

    #[test]
    fn a_hook_gets_the_state_its_arguments_and_no_other_environment() {
        let script = "read -r state; [ \"$state\" = STATE ] && [ \"$A\" = b=c ] && [ -z \"$HOME\" ] && [ \"$0\" = name ]";
        let one = hook(&["sh", "-c", script, "name"], &["A=b=c"], None);
        run("prestart", &[one], "STATE").expect("the hook is content");
    }

    #[test]
    fn a_failing_hook_is_told_with_what_it_said() {
        let one = hook(&["sh", "-c", "echo oh no >&2; exit 3"], &[], None);
        let error = run("prestart", &[one], "").expect_err("it fails").to_string();
        assert_eq!(error, "prestart hook `/bin/sh`: exit status 3, stdout and stderr: oh no");
        let absent = Hook { path: "/no/such".into(), ..Hook::default() };
        assert!(run("prestart", &[absent], "").is_err());
    }

    #[test]
    fn a_hook_that_takes_too_long_is_ended() {
        let one = hook(&["sh", "-c", "exec sleep 60"], &[], Some(1));
        let error = run("poststop", &[one], "").expect_err("too long").to_string();
        assert!(error.ends_with("timed out after 1 s"), "{error}");
    }
}
