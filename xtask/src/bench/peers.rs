//! Corten and the programs that it is measured against.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::app::{App, BASE};
use crate::process::output;

const IMAGE: &str = "corten-bench:1";

/// A program that builds and runs.
pub(super) struct Contender {
    pub(super) name: String,
    pub(super) version: String,
    program: PathBuf,
    /// Options before the verb.
    global: Vec<String>,
}

impl Contender {
    pub(super) fn build_command(&self, app: &App) -> Command {
        let mut command = self.command();
        command.args(["build", "-q", "-t", IMAGE]).arg(&app.directory);
        command
    }

    pub(super) fn run_command(&self) -> Command {
        let mut command = self.command();
        command.args(["run", "--rm", "--network", "none", IMAGE, "true"]);
        command
    }

    /// The first build, which is not measured.
    pub(super) fn build(&self, app: &App) -> Result<(), String> {
        succeed(&mut self.build_command(app))
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.global);
        command
    }
}

/// Corten first, then the peers that answer, with the base image loaded into each.
pub(super) fn contenders(
    root: &Path,
    corten: &Path,
    work: &Path,
) -> Result<Vec<Contender>, String> {
    let store = work.join("store").display().to_string();
    let ours = Contender {
        name: "corten".to_owned(),
        version: output(root, &corten.display().to_string(), &["version"])?.trim().to_owned(),
        program: corten.to_owned(),
        global: vec!["--root".to_owned(), store],
    };
    succeed(ours.command().args(["base", "build", "-q", "python-3.11"]))?;
    let archive = work.join("base.tar");
    succeed(
        ours.command().args(["save", "--format", "docker-archive", "-o"]).arg(&archive).arg(BASE),
    )?;
    let mut contenders = vec![ours];
    for name in ["docker", "podman"] {
        let peer = Contender {
            name: name.to_owned(),
            version: output(root, name, &["--version"]).unwrap_or_default().trim().to_owned(),
            program: PathBuf::from(name),
            global: Vec::new(),
        };
        match succeed(peer.command().arg("load").arg("-i").arg(&archive)) {
            Ok(()) => contenders.push(peer),
            Err(reason) => println!("without {name}: {reason}"),
        }
    }
    Ok(contenders)
}

fn succeed(command: &mut Command) -> Result<(), String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("failed to start {command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    Err(format!("{command:?} failed: {last}"))
}
