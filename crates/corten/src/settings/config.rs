//! `corten.toml`: project, user and system files, merged field by field.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use thiserror::Error;

use super::Environment;

/// Larger than any file that a person writes; a bigger one is a mistake.
const CONFIG_BYTES_MAX: u64 = 1 << 20;

/// The merged configuration.
#[derive(Debug, Default, Clone)]
pub(crate) struct Config {
    pub root: Option<PathBuf>,
    /// `"docker.io/library/python:3.11-slim" = "golden.internal/python:3.11-slim"`.
    pub images: BTreeMap<String, String>,
    pub base: BaseTable,
    pub build: BuildTable,
    pub run: RunTable,
    pub cdi: CdiTable,
    /// By the name that references have for them: `host[:port]`.
    pub registries: BTreeMap<String, RegistryTable>,
    /// The files that were read, most specific first.
    pub files: Vec<PathBuf>,
}

/// `[base]`: how golden base images are made.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct BaseTable {
    /// A Debian mirror, used instead of the host's apt sources.
    pub mirror: Option<String>,
    /// The mirror of the security suite where it is another one.
    pub security_mirror: Option<String>,
    /// Accept indices whose `Valid-Until` has passed; recorded in the lock.
    pub allow_expired_index: Option<bool>,
}

/// `[build]`: defaults for builds.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct BuildTable {
    /// Whether files of `RUN` steps that differ from run to run are made the same.
    pub normalize: Option<bool>,
    /// Whether what package managers download is kept for other builds.
    pub auto_cache: Option<bool>,
}

/// `[run]`: defaults for containers.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RunTable {
    /// Names of variables without which `corten run` refuses to start.
    #[serde(default)]
    pub required_env: Vec<String>,
    /// Keys that leave a container alone again, such as `ctrl-a,d`.
    pub detach_keys: Option<String>,
}

/// `[cdi]`: where devices are described.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct CdiTable {
    /// Directories of CDI specifications, in order of rising priority.
    pub spec_dirs: Option<Vec<PathBuf>>,
}

/// `[registries."host:port"]`: how a registry is reached.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct RegistryTable {
    /// Accept any certificate, or none: for a registry for tests.
    #[serde(default)]
    pub insecure: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    root: Option<PathBuf>,
    #[serde(default)]
    images: BTreeMap<String, String>,
    #[serde(default)]
    base: BaseTable,
    #[serde(default)]
    build: BuildTable,
    #[serde(default)]
    run: RunTable,
    #[serde(default)]
    cdi: CdiTable,
    #[serde(default)]
    registries: BTreeMap<String, RegistryTable>,
}

#[derive(Debug, Error)]
pub(crate) enum ConfigError {
    #[error("failed to read the configuration file `{}`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        source: corten_sys::error::IoError,
    },
    #[error("`{}` is not a valid corten.toml: {message}", path.display())]
    Parse { path: PathBuf, message: String },
}

impl ConfigError {
    pub(crate) const fn hint(&self) -> &'static str {
        match self {
            Self::Read { .. } => "check the path given with `--config`",
            Self::Parse { .. } => {
                "the tables are [images], [base], [build], [run], [cdi] and [registries]; see \
                 docs/reference/config.md"
            }
        }
    }
}

impl Config {
    /// Reads `explicit` alone, or the project's, the user's and the system's file.
    pub(crate) fn load(
        explicit: Option<&Path>,
        environment: &Environment,
        project: &Path,
    ) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        if let Some(path) = explicit {
            config.merge(read(path, true)?, path);
            return Ok(config);
        }
        for path in candidates(environment, project) {
            config.merge(read(&path, false)?, &path);
        }
        Ok(config)
    }

    /// Adds what a less specific file says to what is known already.
    fn merge(&mut self, file: Option<File>, path: &Path) {
        let Some(file) = file else { return };
        self.root = self.root.take().or(file.root);
        for (from, to) in file.images {
            self.images.entry(from).or_insert(to);
        }
        for (name, table) in file.registries {
            self.registries.entry(name).or_insert(table);
        }
        self.base.mirror = self.base.mirror.take().or(file.base.mirror);
        self.base.security_mirror = self.base.security_mirror.take().or(file.base.security_mirror);
        self.base.allow_expired_index =
            self.base.allow_expired_index.or(file.base.allow_expired_index);
        self.build.normalize = self.build.normalize.or(file.build.normalize);
        self.cdi.spec_dirs = self.cdi.spec_dirs.take().or(file.cdi.spec_dirs);
        self.build.auto_cache = self.build.auto_cache.or(file.build.auto_cache);
        self.run.required_env.extend(file.run.required_env);
        self.run.detach_keys = self.run.detach_keys.take().or(file.run.detach_keys);
        self.files.push(path.to_owned());
    }
}

/// The files that apply, most specific first.
fn candidates(environment: &Environment, project: &Path) -> [PathBuf; 3] {
    let user =
        environment.path("XDG_CONFIG_HOME").unwrap_or_else(|| environment.home().join(".config"));
    [
        project.join("corten.toml"),
        user.join("corten/corten.toml"),
        PathBuf::from("/etc/corten/corten.toml"),
    ]
}

fn read(path: &Path, required: bool) -> Result<Option<File>, ConfigError> {
    let bytes = match corten_sys::file::read_limited(path, CONFIG_BYTES_MAX) {
        Ok(bytes) => bytes,
        Err(error)
            if !required
                && matches!(
                    error.source.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) =>
        {
            return Ok(None);
        }
        Err(source) => return Err(ConfigError::Read { path: path.to_owned(), source }),
    };
    let parse_error = |message: String| ConfigError::Parse { path: path.to_owned(), message };
    let text = String::from_utf8(bytes).map_err(|error| parse_error(error.to_string()))?;
    toml::from_str(&text)
        .map(Some)
        .map_err(|error| parse_error(error.to_string().trim_end().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<File, toml::de::Error> {
        toml::from_str(text)
    }

    #[test]
    fn the_more_specific_file_wins_and_tables_are_merged() {
        let mut config = Config::default();
        let project = parse("[images]\na = 'project'\n[base]\nmirror = 'm1'").unwrap();
        let user = parse("[images]\na = 'user'\nb = 'user'\n[base]\nmirror = 'm2'").unwrap();
        config.merge(Some(project), Path::new("p"));
        config.merge(Some(user), Path::new("u"));
        assert_eq!(config.images["a"], "project");
        assert_eq!(config.images["b"], "user");
        assert_eq!(config.base.mirror.as_deref(), Some("m1"));
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_place() {
        let error = parse("[image]\na = 'b'").unwrap_err().to_string();
        assert!(error.contains("unknown field `image`"), "{error}");
        assert!(error.contains("line 1"), "{error}");
    }
}
