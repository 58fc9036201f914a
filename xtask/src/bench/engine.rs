//! Corten and its peers, as far as they take the same words.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Failure, shell};

/// The name of the image that is built.
const IMAGE: &str = "corten-bench:latest";

/// The name of the container in which further programs are started.
const HOST: &str = "corten-bench-host";

/// The peers that can be named, and what is told apart by their words.
const PEERS: [(&str, Kind); 6] = [
    ("docker", Kind::BuildKit),
    ("docker-classic", Kind::Classic),
    ("podman", Kind::Podman),
    ("buildah", Kind::Buildah),
    ("crun", Kind::Runtime),
    ("runc", Kind::Runtime),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Corten,
    /// Docker with BuildKit.
    BuildKit,
    /// Docker with the builder that it had before.
    Classic,
    Podman,
    Buildah,
    /// What engines start containers with, from a bundle.
    Runtime,
}

/// A peer as it was asked for: `NAME`, or `NAME=PROGRAM`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Peer {
    name: &'static str,
    kind: Kind,
    program: PathBuf,
}

impl Peer {
    /// Reads one; a program may be a script that calls the peer where it lives.
    pub(super) fn parse(text: &str) -> Result<Self, Failure> {
        let (name, program) = match text.split_once('=') {
            Some((name, program)) => (name, Some(program)),
            None => (text, None),
        };
        let Some((name, kind)) = PEERS.into_iter().find(|(known, _)| *known == name) else {
            let names = PEERS.map(|(name, _)| name).join(", ");
            return Err(Failure(format!("unknown peer `{name}`; there are {names}")));
        };
        let usual = if kind == Kind::Classic { "docker" } else { name };
        Ok(Self { name, kind, program: program.unwrap_or(usual).into() })
    }

    /// All that there are, under their usual names.
    pub(super) fn all() -> Vec<Self> {
        PEERS.iter().filter_map(|(name, _)| Self::parse(name).ok()).collect()
    }

    pub(super) fn name(&self) -> &'static str {
        self.name
    }
}

/// A program that builds and runs.
#[derive(Debug, Clone)]
pub(super) struct Engine {
    pub name: &'static str,
    pub version: String,
    kind: Kind,
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
        let version = shell::read(version.arg("version"))?.trim().to_owned();
        let global = vec!["--root".to_owned(), store.display().to_string()];
        let kind = Kind::Corten;
        Ok(Self { name: "corten", version, kind, program, global, measures_cpu: true })
    }

    /// A peer, if it is installed and works; else why not.
    pub(super) fn peer(peer: &Peer) -> Result<Self, Failure> {
        let version = shell::read(Command::new(&peer.program).arg("--version"))?;
        // `info` asks the daemon where there is one.
        if peer.kind != Kind::Runtime {
            shell::read(Command::new(&peer.program).arg("info"))?;
        }
        Ok(Self {
            name: peer.name,
            // Some add what they were built with.
            version: version.lines().next().unwrap_or_default().trim().to_owned(),
            kind: peer.kind,
            program: peer.program.clone(),
            global: Vec::new(),
            measures_cpu: !matches!(peer.kind, Kind::BuildKit | Kind::Classic),
        })
    }

    /// Whether it starts containers from images.
    pub(super) fn runs(&self) -> bool {
        !matches!(self.kind, Kind::Buildah | Kind::Runtime)
    }

    /// Whether it has images.
    pub(super) fn builds(&self) -> bool {
        self.kind != Kind::Runtime
    }

    /// Whether it starts containers from bundles.
    pub(super) fn takes_bundles(&self) -> bool {
        matches!(self.kind, Kind::Corten | Kind::Runtime)
    }

    /// Writes the configuration of a bundle.
    pub(super) fn spec(&self, bundle: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["oci", "spec", "--bundle"]).arg(bundle);
        command
    }

    /// Starts the container of a bundle.
    pub(super) fn run_bundle(&self, bundle: &Path) -> Command {
        let mut command = Command::new(&self.program);
        if self.kind == Kind::Corten {
            command.arg("oci");
        }
        let state = bundle.with_file_name("state").join(self.name);
        command.arg("--root").arg(state).arg("run").arg("--bundle").arg(bundle);
        command.arg("corten-bench");
        command
    }

    /// Whether a step can mount the context.
    pub(super) fn mounts(&self) -> bool {
        self.kind != Kind::Classic
    }

    pub(super) fn build(&self, context: &Path) -> Command {
        self.build_with(&[], context)
    }

    /// Does every step again.
    pub(super) fn build_again(&self, context: &Path) -> Command {
        self.build_with(&["--no-cache"], context)
    }

    /// Builds with further flags, which not every engine takes after the context.
    fn build_with(&self, flags: &[&str], context: &Path) -> Command {
        let mut command = self.command(&["build", "--quiet", "--tag", IMAGE]);
        match self.kind {
            Kind::BuildKit => drop(command.env("DOCKER_BUILDKIT", "1")),
            Kind::Classic => drop(command.env("DOCKER_BUILDKIT", "0")),
            // Without it, nothing is kept for the next build.
            Kind::Buildah => drop(command.arg("--layers")),
            Kind::Corten | Kind::Podman | Kind::Runtime => {}
        }
        command.args(flags).arg(context);
        command
    }

    /// Starts a container that does nothing, with all isolation on.
    pub(super) fn run(&self) -> Command {
        self.command(&["run", "--rm", "--network", "none", IMAGE, "true"])
    }

    /// The same with the network that containers have by default.
    pub(super) fn run_with_network(&self) -> Command {
        self.command(&["run", "--rm", IMAGE, "true"])
    }

    /// Starts a container that goes on.
    pub(super) fn background(&self, name: &str) -> Command {
        let words =
            ["run", "--detach", "--network", "none", "--name", name, IMAGE, "sleep", "86400"];
        self.command(&words)
    }

    /// Starts a further program in the container of [`Engine::host`].
    pub(super) fn execute(&self) -> Command {
        self.command(&["exec", HOST, "true"])
    }

    /// Starts the container in which further programs are started.
    pub(super) fn host(&self) -> Command {
        self.background(HOST)
    }

    pub(super) fn remove_host(&self) -> Command {
        self.command(&["rm", "--force", HOST])
    }

    pub(super) fn load(&self, archive: &Path) -> Command {
        if self.kind == Kind::Buildah {
            return self.command(&["pull", &format!("docker-archive:{}", archive.display())]);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_a_name_and_perhaps_a_program() {
        let classic = Peer::parse("docker-classic").unwrap();
        assert_eq!((classic.name(), classic.program), ("docker-classic", "docker".into()));
        let script = Peer::parse("buildah=./in-chroot").unwrap();
        assert_eq!((script.name(), script.program), ("buildah", "./in-chroot".into()));
        let message =
            "unknown peer `lxc`; there are docker, docker-classic, podman, buildah, crun, runc";
        assert_eq!(Peer::parse("lxc").unwrap_err().0, message);
    }
}
