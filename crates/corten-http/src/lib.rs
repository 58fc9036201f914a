//! How servers are reached over HTTP: certificates to trust, proxies, names of hosts, timeouts.
//!
//! ```text
//! HttpOptions ──► Connections ── agents(&AgentOptions) ──► Agents    one for `http`, one for `https`
//!   the host's     certificates,                           what mirrors, registries and
//!   settings       read once                               recorded steps are asked with
//! ```
//!
//! What this crate is not: it asks for nothing itself. Redirections, what is tried again and what an
//! answer means differ between those who ask, and belong to them.
//!
//! Invariants:
//! - A proxy may have a password: it is in no debug text, and in an error without its user.
//! - Nothing is read from the environment; who calls knows it.
#![forbid(unsafe_code)]

mod agent;
mod error;
mod names;
mod options;
mod resolver;

pub use agent::{AgentOptions, Agents, Connections, Requests, Trust};
pub use error::HttpError;
pub use names::{Names, is_own_machine};
pub use options::{HttpOptions, OnFirstUse};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

/// Returns the value of `Authorization` for `USER:PASSWORD`, as RFC 7617 has it.
pub fn basic_authorization(credentials: &str) -> String {
    format!("Basic {}", BASE64_STANDARD.encode(credentials))
}

#[cfg(test)]
mod tests {
    #[test]
    fn credentials_are_sent_as_padded_base64() {
        assert_eq!(super::basic_authorization("user:pa"), "Basic dXNlcjpwYQ==");
        assert_eq!(super::basic_authorization(""), "Basic ");
    }
}
