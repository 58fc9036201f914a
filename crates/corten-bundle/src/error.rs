//! What can go wrong with a bundle or a container, in the words that callers look for.

use std::io;
use std::path::PathBuf;

use corten_runtime::seccomp::ProfileError;
use corten_sys::error::IoError;
use serde::{Deserialize, Serialize};

use crate::state::Status;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    #[error("invalid configuration: {problem}")]
    Config { problem: String },
    #[error("failed to parse `{}`", path.display())]
    Json {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error(
        "`{id}` is no container id: letters, digits, `_`, `+`, `-` and `.`, at most 255, and not `.` or `..`"
    )]
    InvalidId { id: String },
    #[error("container with id `{id}` exists already")]
    Exists { id: String },
    #[error("container `{id}` does not exist")]
    Absent { id: String },
    #[error("cannot {action} container `{id}`: container not running (it is {status})")]
    NotRunning { action: &'static str, id: String, status: Status },
    #[error("cannot {action} container `{id}`: it is {status}")]
    WrongStatus { action: &'static str, id: String, status: Status },
    #[error("the state of container `{id}` was written by another version: {problem}")]
    State { id: String, problem: String },
    #[error("`{signal}` is no signal")]
    Signal { signal: String },
    #[error("failed to {attempt}")]
    Attempt {
        attempt: String,
        #[source]
        source: io::Error,
    },
    #[error("{}", .0.text())]
    Init(Failed),
    #[error("the container's first process ended before it was ready")]
    InitLost,
    #[error("{kind} hook `{}`: {problem}", path.display())]
    Hook { kind: &'static str, path: PathBuf, problem: String },
    #[error("invalid seccomp profile")]
    Seccomp(#[source] ProfileError),
    #[error("{what} is not supported: {why}")]
    Unsupported { what: &'static str, why: String },
    #[error(transparent)]
    Io(#[from] IoError),
}

impl BundleError {
    /// Says what to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Exists { id } => {
                format!("choose another id, or remove it: `delete --force {id}`")
            }
            Self::Absent { .. } => "`list` shows all of this `--root`".to_owned(),
            Self::WrongStatus { action: "delete", id, .. } => {
                format!("end it first: `kill {id} KILL`, or `delete --force {id}`")
            }
            Self::Signal { .. } => "give a name such as TERM or SIGTERM, or a number".to_owned(),
            _ => return None,
        })
    }

    /// The error and everything that caused it, in one line: callers read the last line of the log.
    pub fn line(&self) -> String {
        use std::error::Error as _;
        let mut line = self.to_string();
        let mut source = self.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if !line.ends_with(&text) {
                line = format!("{line}: {text}");
            }
            source = cause.source();
        }
        line.replace('\n', " ")
    }
}

/// Builds the error of a configuration that cannot be carried out.
pub(crate) fn invalid(problem: impl Into<String>) -> BundleError {
    BundleError::Config { problem: problem.into() }
}

/// Returns a function that names the attempt of an error, for `map_err`.
pub(crate) fn failed<E: Into<io::Error>>(
    attempt: impl Into<String>,
) -> impl FnOnce(E) -> BundleError {
    let attempt = attempt.into();
    move |source| BundleError::Attempt { attempt, source: source.into() }
}

/// What the container's first process tells of a failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "failed")]
pub enum Failed {
    /// A step, and what the kernel said.
    Step { attempt: String, errno: i32 },
    /// The program cannot be executed.
    Program { program: String, problem: Problem },
    /// A hook within the container.
    Hook { kind: String, path: String, problem: String },
}

/// Why a program cannot be executed. The words are those that engines recognise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "problem")]
pub enum Problem {
    NotInPath,
    Errno { errno: i32 },
}

impl Failed {
    fn text(&self) -> String {
        let say = |errno: &i32| match *errno {
            // Rust's own text has the number behind it, which engines do not expect.
            libc::ENOENT => "no such file or directory".to_owned(),
            libc::EACCES => "permission denied".to_owned(),
            libc::EPERM => "operation not permitted".to_owned(),
            libc::EISDIR => "is a directory".to_owned(),
            libc::ENOTDIR => "not a directory".to_owned(),
            libc::ENOEXEC => "exec format error".to_owned(),
            other => io::Error::from_raw_os_error(other).to_string(),
        };
        match self {
            Self::Step { attempt, errno } => {
                format!("failed to {attempt}: {}", say(errno))
            }
            Self::Program { program, problem: Problem::NotInPath } => {
                format!("exec: {program:?}: executable file not found in $PATH")
            }
            Self::Program { program, problem: Problem::Errno { errno: libc::ENOENT } } => {
                format!("exec: {program:?}: stat {program}: no such file or directory")
            }
            Self::Program { program, problem: Problem::Errno { errno } } => {
                format!("exec: {program:?}: {}", say(errno))
            }
            Self::Hook { kind, path, problem } => format!("{kind} hook `{path}`: {problem}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_find_the_words_that_they_look_for() {
        let program = |problem| Failed::Program { program: "no".to_owned(), problem }.text();
        assert_eq!(program(Problem::NotInPath), "exec: \"no\": executable file not found in $PATH");
        let denied = program(Problem::Errno { errno: libc::EACCES });
        assert_eq!(denied, "exec: \"no\": permission denied");
        let error = BundleError::NotRunning {
            action: "signal",
            id: "a".to_owned(),
            status: Status::Stopped,
        };
        assert!(error.line().contains("container not running"));
        assert!(BundleError::Absent { id: "a".to_owned() }.line().contains("does not exist"));
    }

    #[test]
    fn causes_follow_in_one_line() {
        let error: BundleError = failed("open the door")(io::Error::from_raw_os_error(libc::EPERM));
        assert_eq!(error.line(), "failed to open the door: Operation not permitted (os error 1)");
    }
}
