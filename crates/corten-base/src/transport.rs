//! How bytes come from a mirror: over HTTP, or from a directory.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use corten_sys::error::IoError;
use corten_sys::file;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::DefaultConnector;

use crate::names::Remembering;
use crate::sources::without_credentials;

/// A connection that is not there after this time will not be there later.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// Mirrors behind caches may fetch a file first before they answer.
const RESPONSE_TIMEOUT: Duration = Duration::from_mins(1);

/// A body that gives nothing for so long has stalled.
const READ_TIMEOUT: Duration = Duration::from_mins(1);

/// As many as files are fetched at once, so that no connection is closed and opened again.
const IDLE_CONNECTIONS_PER_HOST: usize = crate::fetch::PARALLEL;

/// Mirrors redirect once or twice; more is a loop.
const REDIRECTS_MAX: u32 = 5;

/// The largest bundle of certificates that is read: real ones have 200 KiB.
const CA_BUNDLE_BYTES_MAX: u64 = 16 << 20;

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

/// How HTTP is spoken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HttpOptions {
    /// Certificates to trust instead of those of the host, as a PEM file.
    pub ca_bundle: Option<PathBuf>,
    /// The proxy for `http` URLs.
    pub http_proxy: Option<String>,
    /// The proxy for `https` URLs.
    pub https_proxy: Option<String>,
    /// Hosts that are reached without a proxy, separated by commas.
    pub no_proxy: Option<String>,
}

/// HTTP options that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HttpOptionsError {
    /// The certificates cannot be read.
    #[error("failed to read the CA certificates")]
    Read(#[from] IoError),
    /// There is no certificate in the file.
    #[error("the CA bundle `{}` has no usable certificate", .0.display())]
    NoCertificate(PathBuf),
    /// A proxy is no URL.
    #[error("the proxy `{proxy}` is not usable")]
    Proxy {
        /// The proxy without its password.
        proxy: String,
        /// Why.
        #[source]
        source: Box<ureq::Error>,
    },
}

/// Fetches over HTTP and from `file://` URLs.
#[derive(Debug)]
pub struct HttpTransport {
    http: ureq::Agent,
    https: ureq::Agent,
}

impl HttpTransport {
    /// Prepares agents; nothing is connected yet.
    pub fn new(options: &HttpOptions) -> Result<Self, HttpOptionsError> {
        let roots = match &options.ca_bundle {
            Some(path) => RootCerts::Specific(Arc::new(certificates(path)?)),
            None => RootCerts::PlatformVerifier,
        };
        let agent = |proxy: Option<&String>| {
            let proxy = proxy.filter(|proxy| !proxy.is_empty());
            let proxy =
                proxy.map(|proxy| parse_proxy(proxy, options.no_proxy.as_deref())).transpose()?;
            let tls = TlsConfig::builder().root_certs(roots.clone()).build();
            let config = ureq::Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(REDIRECTS_MAX)
                .proxy(proxy)
                .tls_config(tls)
                .timeout_connect(Some(CONNECT_TIMEOUT))
                .timeout_recv_response(Some(RESPONSE_TIMEOUT))
                .timeout_per_read(Some(READ_TIMEOUT))
                .max_idle_connections_per_host(IDLE_CONNECTIONS_PER_HOST)
                .max_idle_connections(2 * IDLE_CONNECTIONS_PER_HOST)
                .user_agent(concat!("corten/", env!("CARGO_PKG_VERSION")))
                .build();
            let connector = DefaultConnector::default();
            Ok::<_, HttpOptionsError>(ureq::Agent::with_parts(
                config,
                connector,
                Remembering::<DefaultResolver>::default(),
            ))
        };
        Ok(Self {
            http: agent(options.http_proxy.as_ref())?,
            https: agent(options.https_proxy.as_ref())?,
        })
    }
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, HttpOptionsError> {
    let bytes = file::read_limited(path, CA_BUNDLE_BYTES_MAX)?;
    let certificates: Vec<_> = ureq::tls::parse_pem(&bytes)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(HttpOptionsError::NoCertificate(path.to_owned()));
    }
    Ok(certificates)
}

fn parse_proxy(text: &str, no_proxy: Option<&str>) -> Result<ureq::Proxy, HttpOptionsError> {
    let error = |source| HttpOptionsError::Proxy {
        proxy: without_credentials(text),
        source: Box::new(source),
    };
    let proxy = ureq::Proxy::new(text).map_err(error)?;
    let Some(no_proxy) = no_proxy.filter(|hosts| !hosts.is_empty()) else { return Ok(proxy) };
    let mut builder = ureq::Proxy::builder(proxy.protocol()).host(proxy.host()).port(proxy.port());
    if let Some(user) = proxy.username() {
        builder = builder.username(user);
    }
    if let Some(password) = proxy.password() {
        builder = builder.password(password);
    }
    for host in no_proxy.split(',').map(str::trim_ascii).filter(|host| !host.is_empty()) {
        builder = builder.no_proxy(host);
    }
    builder.build().map_err(error)
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
        if url.starts_with("https://") {
            Ok(&self.https)
        } else if url.starts_with("http://") {
            Ok(&self.http)
        } else {
            Err(TransportError::Scheme { url: without_credentials(url) })
        }
    }
}

fn authorization(url: &str) -> Option<String> {
    credentials(url).map(|text| format!("Basic {}", base64(text.as_bytes())))
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

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let byte = |at: usize| u32::from(chunk.get(at).copied().unwrap_or_default());
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for at in 0..4 {
            let digit = ALPHABET[(bits >> (18 - 6 * at) & 63) as usize];
            text.push(if at > chunk.len() { '=' } else { char::from(digit) });
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_padded() {
        for (text, encoded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("user:pa", "dXNlcjpwYQ==")]
        {
            assert_eq!(base64(text.as_bytes()), encoded);
        }
    }

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
    fn options_that_cannot_work_are_refused_without_showing_a_password() {
        let options = HttpOptions {
            http_proxy: Some("socks9://u:secret@p.test:1".into()),
            ..HttpOptions::default()
        };
        let error = HttpTransport::new(&options).unwrap_err().to_string();
        assert!(error.contains("p.test") && !error.contains("secret"), "{error}");
        let options =
            HttpOptions { ca_bundle: Some("/proc/self/status".into()), ..HttpOptions::default() };
        assert!(matches!(HttpTransport::new(&options), Err(HttpOptionsError::NoCertificate(_))));
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
