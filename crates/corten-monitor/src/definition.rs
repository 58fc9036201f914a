//! How a container is run, as it is kept beside it.

use corten_runtime::ContainerSpec;
use serde::{Deserialize, Serialize};

use crate::error::MonitorError;
use crate::health::Health;
use crate::restart::Restart;

/// The only version that there is.
const VERSION: u32 = 1;

/// Everything that is needed to run a container again, but for its files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    version: u32,
    /// What the container is. Its root file system is found anew with each start.
    pub spec: ContainerSpec,
    pub restart: Restart,
    /// What asks the program to end.
    pub stop_signal: i32,
    /// How long it may take for that, before it is killed.
    pub stop_timeout_seconds: u32,
    pub log: LogOptions,
    /// How it is seen whether the program works; `None` does not look.
    #[serde(default)]
    pub health: Option<Health>,
    /// What the program reads ends when the first who was attached to it goes, as with `run -i`.
    #[serde(default)]
    pub input_once: bool,
}

/// How much of what a container writes is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogOptions {
    /// A file that has grown to this is put aside.
    pub max_size_bytes: u64,
    /// How many files there are, the newest included; at least 1.
    pub max_files: u32,
    /// After how long a line goes; `None` keeps lines for as long as there is room. The files that are
    /// put aside divide this time among themselves, so that there are to be at least two files.
    #[serde(default)]
    pub retention_seconds: Option<u64>,
}

impl Default for LogOptions {
    /// 100 MB in all: enough to look back, too little to fill a disk.
    fn default() -> Self {
        Self { max_size_bytes: 20_000_000, max_files: 5, retention_seconds: None }
    }
}

impl LogOptions {
    /// Returns the time, in seconds since 1970, before which lines are too old.
    pub fn oldest(&self, now_seconds: i64) -> Option<i64> {
        let retention = i64::try_from(self.retention_seconds?).unwrap_or(i64::MAX);
        Some(now_seconds.saturating_sub(retention))
    }
}

impl Definition {
    /// Defines a container with Docker's defaults: it is asked to end by SIGTERM and has 10 seconds.
    pub fn new(spec: ContainerSpec) -> Self {
        Self {
            version: VERSION,
            spec,
            restart: Restart::No,
            stop_signal: libc::SIGTERM,
            stop_timeout_seconds: 10,
            log: LogOptions::default(),
            health: None,
            input_once: false,
        }
    }

    /// Encodes it for the store.
    pub fn encode(&self) -> Result<Vec<u8>, MonitorError> {
        serde_json::to_vec(self).map_err(MonitorError::Encode)
    }

    /// Reads what [`Definition::encode`] made.
    pub fn decode(bytes: &[u8]) -> Result<Self, MonitorError> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let head: Head = serde_json::from_slice(bytes).map_err(MonitorError::Definition)?;
        if head.version != VERSION {
            return Err(MonitorError::Version { found: head.version });
        }
        serde_json::from_slice(bytes).map_err(MonitorError::Definition)
    }
}

#[cfg(test)]
mod tests {
    use corten_runtime::Rootfs;

    use super::*;

    #[test]
    fn a_definition_comes_back_as_it_was() {
        let mut spec =
            ContainerSpec::new("ab", Rootfs::in_memory(Vec::new()), vec!["true".to_owned()]);
        spec.env.push("A=ü\n".to_owned());
        let mut definition = Definition::new(spec);
        definition.restart = Restart::OnFailure { max: Some(3) };
        assert_eq!(Definition::decode(&definition.encode().unwrap()).unwrap(), definition);
    }

    #[test]
    fn one_of_a_newer_version_is_refused() {
        let found = Definition::decode(br#"{"version":2,"spec":"unknown"}"#);
        assert!(matches!(found, Err(MonitorError::Version { found: 2 })), "{found:?}");
        assert!(matches!(Definition::decode(b"{}"), Err(MonitorError::Definition(_))));
    }
}
