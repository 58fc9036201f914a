//! How bytes come from a mirror: over HTTP, or from a directory.

use std::io::{self, Read};
use std::time::Duration;

use corten_http::{
    AgentOptions, Agents, Connections, HttpError, HttpOptions, Names, Requests, Trust,
    basic_authorization,
};

use crate::sources::without_credentials;

/// Mirrors behind caches may fetch a file first before they answer.
const RESPONSE_TIMEOUT: Duration = Duration::from_mins(1);

/// As many as files are fetched at once, so that no connection is closed and opened again.
const IDLE_CONNECTIONS_PER_HOST: usize = crate::fetch::PARALLEL;

/// Mirrors redirect once or twice; more is a loop.
const REDIRECTS_MAX: u32 = 5;

/// What a server or a disk answered.
pub struct Body {
    /// The bytes.
    pub reader: Box<dyn Read + Send>,
}

impl std::fmt::Debug for Body {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Body")
    }
}

/// Opens what is behind a URL. The bytes are believed by nobody: digests and signatures are checked
/// by the caller.
pub trait Transport: Sync {
    /// Opens a resource for reading.
    fn open(&self, url: &str) -> Result<Body, TransportError>;
}

/// A resource that could not be had.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The mirror does not have it.
    #[error("`{url}` does not exist")]
    NotFound {
        /// The address.
        url: String,
    },
    /// The mirror answered with a failure.
    #[error("`{url}` was answered with status {status}")]
    Status {
        /// The address.
        url: String,
        /// The status of HTTP.
        status: u16,
    },
    /// There was no answer, or it broke off.
    #[error("failed to fetch `{url}`")]
    Failed {
        /// The address.
        url: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The URL is of a kind that this transport does not know.
    #[error("`{url}` is neither an HTTP nor a file URL")]
    Scheme {
        /// The address.
        url: String,
    },
}

impl TransportError {
    /// Returns true if trying again may help.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Status { status, .. } => matches!(status, 408 | 429 | 500..=599),
            Self::Failed { source, .. } => {
                !matches!(source.downcast_ref(), Some(ureq::Error::Tls(_) | ureq::Error::BadUri(_)))
            }
            Self::NotFound { .. } | Self::Scheme { .. } => false,
        }
    }
}

/// Fetches over HTTP and from `file://` URLs.
#[derive(Debug)]
pub struct HttpTransport {
    agents: Agents,
}

impl HttpTransport {
    /// Prepares agents; nothing is connected yet.
    pub fn new(options: &HttpOptions) -> Result<Self, HttpError> {
        let agents = Connections::new(options)?.agents(&AgentOptions {
            requests: Requests::Own,
            trust: Trust::Certified,
            names: Names::All,
            redirects_max: REDIRECTS_MAX,
            response_timeout: RESPONSE_TIMEOUT,
            idle_connections_per_host: IDLE_CONNECTIONS_PER_HOST,
        })?;
        Ok(Self { agents })
    }
}

/// What a server answered, whatever it is.
pub struct Answer {
    /// The status of HTTP.
    pub status: u16,
    /// Names in lower case, and values that are text.
    headers: Vec<(String, String)>,
    /// The body.
    pub reader: Box<dyn Read + Send>,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Answer").field("status", &self.status).finish_non_exhaustive()
    }
}

impl Answer {
    /// The first header of a name, which is given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

impl HttpTransport {
    /// Asks once: redirections and failures of the server are answers too. Credentials in the
    /// address are sent to its host.
    pub fn ask(&self, url: &str, headers: &[(&str, &str)]) -> Result<Answer, TransportError> {
        let shown = without_credentials(url);
        let mut request = self.agent(url)?.get(&shown);
        if let Some(header) = authorization(url) {
            request = request.header("Authorization", header);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let asked = request.config().max_redirects(0).build().call();
        let response = asked
            .map_err(|source| TransportError::Failed { url: shown, source: Box::new(source) })?;
        let text = |value: &ureq::http::HeaderValue| value.to_str().ok().map(str::to_owned);
        let headers = response.headers().iter();
        Ok(Answer {
            status: response.status().as_u16(),
            headers: headers
                .filter_map(|(name, value)| Some((name.as_str().to_owned(), text(value)?)))
                .collect(),
            reader: Box::new(response.into_body().into_reader()),
        })
    }

    fn agent(&self, url: &str) -> Result<&ureq::Agent, TransportError> {
        let unknown = || TransportError::Scheme { url: without_credentials(url) };
        self.agents.of(url).ok_or_else(unknown)
    }
}

fn authorization(url: &str) -> Option<String> {
    credentials(url).map(basic_authorization)
}

impl Transport for HttpTransport {
    fn open(&self, url: &str) -> Result<Body, TransportError> {
        if let Some(path) = url.strip_prefix("file://") {
            return open_file(url, path);
        }
        let shown = without_credentials(url);
        let mut request = self.agent(url)?.get(&shown);
        if let Some(header) = authorization(url) {
            request = request.header("Authorization", header);
        }
        let failed = |source: ureq::Error| TransportError::Failed {
            url: shown.clone(),
            source: Box::new(source),
        };
        let response = request.call().map_err(failed)?;
        match response.status().as_u16() {
            200 => Ok(Body { reader: Box::new(response.into_body().into_reader()) }),
            404 | 410 => Err(TransportError::NotFound { url: shown }),
            status => Err(TransportError::Status { url: shown, status }),
        }
    }
}

fn open_file(url: &str, path: &str) -> Result<Body, TransportError> {
    match std::fs::File::open(path) {
        Ok(file) => Ok(Body { reader: Box::new(file) }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(TransportError::NotFound { url: url.to_owned() })
        }
        Err(error) => Err(TransportError::Failed { url: url.to_owned(), source: Box::new(error) }),
    }
}

fn credentials(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split('/').next()?;
    Some(authority.rsplit_once('@')?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_come_from_the_authority_only() {
        assert_eq!(credentials("https://u:p@m.test/x@y"), Some("u:p"));
        assert_eq!(credentials("https://m.test/x@y"), None);
    }

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let status = |status| TransportError::Status { url: String::new(), status }.is_temporary();
        assert!(status(503) && status(429) && !status(403));
        let failed = |source: ureq::Error| {
            TransportError::Failed { url: String::new(), source: Box::new(source) }.is_temporary()
        };
        assert!(failed(ureq::Error::ConnectionFailed) && failed(ureq::Error::HostNotFound));
        assert!(!failed(ureq::Error::Tls("bad certificate")));
    }

    #[test]
    fn other_schemes_are_refused() {
        let transport = HttpTransport::new(&HttpOptions::default()).unwrap();
        assert!(matches!(transport.open("ftp://a.test/x"), Err(TransportError::Scheme { .. })));
        assert!(matches!(
            transport.open("file:///does/not/exist"),
            Err(TransportError::NotFound { .. })
        ));
    }
}
