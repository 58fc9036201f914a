//! Corten and its peers, as far as they take the same words.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Failure, shell};

/// The name of the image that is built.
const IMAGE: &str = "corten-bench:latest";

/// A program that builds and runs.
#[derive(Debug, Clone)]
pub(super) struct Engine {
    pub name: &'static str,
    pub version: String,
    program: PathBuf,
    /// Words before the verb.
    global: Vec<String>,
    /// False if a daemon does the work, whose time is not in the client's.
    pub measures_cpu: bool,
}

impl Engine {
    /// The program that was built here, with a store of its own.
    pub(super) fn corten(program: PathBuf, store: &Path) -> Result<Self, Failure> {
        let mut version = Command::new(&program);
        let version = shell::read(version.arg("version"))?;
        let global = vec!["--root".to_owned(), store.display().to_string()];
        let version = version.trim().to_owned();
        Ok(Self { name: "corten", version, program, global, measures_cpu: true })
    }

    /// A peer, if it is installed and works; else why not.
    pub(super) fn peer(name: &'static str) -> Result<Self, Failure> {
        let version = shell::read(Command::new(name).arg("--version"))?.trim().to_owned();
        // `info` asks the daemon where there is one.
        shell::read(Command::new(name).arg("info"))?;
        let measures_cpu = name != "docker";
        Ok(Self { name, version, program: name.into(), global: Vec::new(), measures_cpu })
    }

    pub(super) fn build(&self, context: &Path) -> Command {
        let mut command = self.command(&["build", "--quiet", "--tag", IMAGE]);
        command.arg(context);
        command
    }

    /// Starts a container that does nothing, with all isolation on.
    pub(super) fn run(&self) -> Command {
        self.command(&["run", "--rm", "--network", "none", IMAGE, "true"])
    }

    pub(super) fn load(&self, archive: &Path) -> Command {
        let mut command = self.command(&["load", "--input"]);
        command.arg(archive);
        command
    }

    pub(super) fn remove(&self) -> Command {
        self.command(&["rmi", "--force", IMAGE])
    }

    /// Returns a command of this engine.
    pub(super) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.global).args(words);
        command
    }
}
