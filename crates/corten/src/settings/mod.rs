//! Where settings come from: flags, then `CORTEN_*`, the project's `corten.toml`, the
//! user's, the system's.
//!
//! This is the only module of the workspace that reads the environment. It reads it once
//! and hands on values.

mod config;
mod environment;

use std::path::{Path, PathBuf};

pub(crate) use config::{BaseTable, Config, ConfigError};
pub(crate) use environment::Environment;

use crate::cli::Global;

/// Everything that a command may need to know, already decided.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The store's directory.
    pub root: PathBuf,
    /// Directory for state that must not survive a reboot (`/run/corten` or XDG).
    pub runtime_dir: PathBuf,
    pub config: Config,
    pub environment: Environment,
    /// True when this process was started by a user other than root.
    pub rootless: bool,
}

impl Settings {
    /// Settles flags, environment and configuration files, in that order of precedence.
    ///
    /// `project` is the directory whose `corten.toml` applies, usually the build context.
    pub(crate) fn load(
        global: &Global,
        environment: Environment,
        project: Option<&Path>,
    ) -> Result<Self, ConfigError> {
        let rootless = !rustix::process::geteuid().is_root();
        let config = Config::load(global.config.as_deref(), &environment, project)?;
        let root = global
            .root
            .clone()
            .or_else(|| environment.path("CORTEN_ROOT"))
            .or_else(|| config.root.clone())
            .unwrap_or_else(|| default_root(&environment, rootless));
        let runtime_dir = if rootless {
            environment
                .path("XDG_RUNTIME_DIR")
                .map_or_else(|| root.join("run"), |directory| directory.join("corten"))
        } else {
            PathBuf::from("/run/corten")
        };
        let root = std::path::absolute(&root).unwrap_or(root);
        Ok(Self { root, runtime_dir, config, environment, rootless })
    }
}

/// `/var/lib/corten` for root, `$XDG_DATA_HOME/corten` for everybody else.
fn default_root(environment: &Environment, rootless: bool) -> PathBuf {
    if !rootless {
        return PathBuf::from("/var/lib/corten");
    }
    if let Some(data) = environment.path("XDG_DATA_HOME") {
        return data.join("corten");
    }
    environment.home().join(".local/share/corten")
}
