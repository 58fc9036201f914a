//! What can go wrong between us and a registry.

use std::path::PathBuf;

use corten_http::HttpError;
use corten_oci::digest::Digest;

use crate::credentials::CredentialError;

/// A request that failed. Addresses in it have neither credentials nor queries.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The registry wants to know who asks, or did not believe it.
    #[error("failed to {what}: the registry `{registry}` wants a login")]
    Login {
        what: String,
        registry: String,
        /// The file that other programs write credentials to and that is read.
        file: Option<PathBuf>,
        /// Whether there were credentials, which were then refused.
        had_credentials: bool,
    },
    /// The registry knows who asks and does not allow it.
    #[error("failed to {what}: the registry `{registry}` does not allow it{detail}")]
    Denied { what: String, registry: String, detail: String },
    /// The registry answered with a failure.
    #[error("failed to {what}: `{url}` was answered with status {status}{detail}")]
    Status { what: String, url: String, status: u16, detail: String },
    /// There was no answer, or it broke off.
    #[error("failed to {what}: no answer from `{url}`")]
    Transport {
        what: String,
        url: String,
        #[source]
        source: Box<ureq::Error>,
    },
    /// The answer makes no sense.
    #[error("failed to {what}: the answer of `{url}` cannot be used: {problem}")]
    Protocol { what: String, url: String, problem: String },
    /// The registry names a token server that anybody could pretend to be.
    #[error("failed to {what}: the password would go to `{url}`, on another host and without TLS")]
    Unprotected {
        what: String,
        url: String,
        /// The host with its port.
        host: String,
    },
    /// The answer is not what was asked for.
    #[error("failed to {what}: the content has the digest `{found}`, expected `{expected}`")]
    Digest { what: String, expected: Digest, found: Digest },
    /// The content to be sent could not be read.
    #[error("failed to {what}")]
    Content {
        what: String,
        #[source]
        source: std::io::Error,
    },
    /// Credentials could not be had.
    #[error("failed to {what}")]
    Credentials {
        what: String,
        #[source]
        source: CredentialError,
    },
    /// Certificates or a proxy cannot be used.
    #[error("failed to set up connections")]
    Setup(#[from] HttpError),
}

impl RegistryError {
    /// What to do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Login { registry, file, had_credentials, .. } => {
                let file = match file {
                    Some(file) => format!("`{}`", file.display()),
                    None => "the file that `REGISTRY_AUTH_FILE` names".to_owned(),
                };
                Some(if *had_credentials {
                    format!(
                        "the credentials in {file} were refused: log in again with \
                         `docker login {registry}` or `podman login {registry}`"
                    )
                } else {
                    format!(
                        "log in with `docker login {registry}` or `podman login {registry}`, or put \
                         credentials into {file}"
                    )
                })
            }
            Self::Denied { registry, .. } => {
                Some(format!("look at the name and at the rights of this account at `{registry}`"))
            }
            Self::Transport { source, url, .. } => Some(match source.as_ref() {
                error if crate::http::is_unproven(error) => {
                    let host = crate::http::host_of(url).1;
                    format!(
                        "if the certificate of `{host}` is a company's own, name its authority with \
                         `SSL_CERT_FILE`; for a test registry, set `insecure = true` below \
                         `[registries.\"{host}\"]` in corten.toml"
                    )
                }
                _ => {
                    "look at the name, the network, and the variables `HTTPS_PROXY` and `NO_PROXY`"
                        .to_owned()
                }
            }),
            Self::Status { status: 404, .. } => Some(
                "look at the name; some registries want a repository to be made first".to_owned(),
            ),
            Self::Status { status: 429, .. } => {
                Some("the registry limits how often it is asked: try later, or log in".to_owned())
            }
            Self::Unprotected { host, .. } => Some(format!(
                "if that is meant, set `insecure = true` below `[registries.\"{host}\"]` in corten.toml"
            )),
            Self::Credentials { source, .. } => source.hint(),
            Self::Setup(source) => source.hint(),
            _ => None,
        }
    }

    /// Whether there is nothing of that name.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Status { status: 404, .. })
    }
}
