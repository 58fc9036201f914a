//! Docker's flag grammars, from text to the values of a [`ContainerSpec`](crate::ContainerSpec).
//!
//! Every front end that takes Docker's spelling reads it here: the command line, and later
//! compose files and the API. All of it is pure: a path is checked for its form, not for its
//! existence.

mod devices;
mod environment;
mod isolation;
mod life;
mod mounts;
mod network;
mod quantity;
mod security;

pub use devices::{DeviceOption, parse_device, parse_gpus};
pub use environment::{merge, missing, parse_file, parse_variable};
pub use isolation::{
    UID_OF_USER, UsersOption, parse_ipc, parse_maps, parse_namespace, parse_secret, parse_sysctl,
    parse_users,
};
pub use life::{LogOption, parse_log_option, parse_signal};
pub use mounts::{MountSource, VolumeMount, VolumeSource, parse_mount, parse_tmpfs, parse_volume};
pub use network::{
    NetworkOption, NetworkPlace, parse_alias, parse_dns, parse_dns_word, parse_expose, parse_host,
    parse_mac, parse_network,
};
pub use quantity::{parse_block_limit, parse_bytes, parse_cpus, parse_swap, parse_ulimit};
pub use security::{SecurityOption, adjust_capabilities, is_unmasked, parse_security_option};

use thiserror::Error;

/// A flag's value that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{value}` is not {expected}")]
pub struct OptionError {
    /// The value as it was given.
    pub value: String,
    /// What it should have been, beginning with an article.
    pub expected: &'static str,
    /// An example that works.
    pub example: &'static str,
}

impl OptionError {
    fn new(value: &str, expected: &'static str, example: &'static str) -> Self {
        Self { value: value.to_owned(), expected, example }
    }

    /// What to write instead.
    pub fn hint(&self) -> Option<String> {
        Some(format!("for example `{}`", self.example))
    }
}
