//! Where settings come from: flags, then `CORTEN_*`, the project's `corten.toml`, the
//! user's, the system's.
//!
//! This is the only module of the workspace that reads the environment. It reads it once
//! and hands on values.

mod config;
mod environment;

use std::path::{Path, PathBuf};

pub(crate) use config::{Config, ConfigError};
pub(crate) use environment::Environment;

use corten_runtime::cdi::{self, Registry};

use crate::cli::Global;

/// Where programs are looked for when the environment has no `PATH`.
pub(crate) const SEARCH_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// Everything that a command may need to know, already decided.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The store's directory.
    pub root: PathBuf,
    pub config: Config,
    pub environment: Environment,
}

impl Settings {
    /// Settles flags, environment and configuration files, in that order of precedence.
    ///
    /// `project` is the directory whose `corten.toml` applies, usually the build context.
    pub(crate) fn load(
        global: &Global,
        environment: Environment,
        project: &Path,
    ) -> Result<Self, ConfigError> {
        let rootless = !rustix::process::geteuid().is_root();
        let config = Config::load(global.config.as_deref(), &environment, project)?;
        let root = global
            .root
            .clone()
            .or_else(|| environment.path("CORTEN_ROOT"))
            .or_else(|| config.root.clone())
            .unwrap_or_else(|| default_root(&environment, rootless));
        let root = corten_sys::file::absolute(&root).unwrap_or(root);
        Ok(Self { root, config, environment })
    }
}

impl Settings {
    /// Reads what describes devices.
    pub(crate) fn devices(&self) -> Registry {
        match &self.config.cdi.spec_dirs {
            Some(directories) => cdi::read(directories),
            None => cdi::read(&cdi::DIRECTORIES.map(PathBuf::from)),
        }
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
