//! How the real servers are reached: with the proxies and certificates of this machine.

use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use corten_sys::error::IoError;
use corten_sys::file;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{DefaultConnector, NextTimeout};

use crate::address::{Origin, split};

/// A connection that is not there after this time will not be there later.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// Mirrors behind caches may fetch a file first before they answer.
const RESPONSE_TIMEOUT: Duration = Duration::from_mins(2);

/// A body that gives nothing for so long has stalled.
const READ_TIMEOUT: Duration = Duration::from_mins(1);

/// Package managers fetch some dozen files at once.
const IDLE_CONNECTIONS: usize = 32;

/// The largest bundle of certificates that is read: real ones have 200 KiB.
const CA_BUNDLE_BYTES_MAX: u64 = 16 << 20;

/// What is asked of a server. Headers may have credentials, so it has no text.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "addresses and headers may have credentials")]
pub struct UpstreamRequest<'a> {
    pub method: &'a str,
    pub url: &'a str,
    /// Without those of the connection.
    pub headers: &'a [(String, String)],
    pub body: &'a [u8],
}

/// What a server answered. Redirections and failures are answers too.
#[expect(missing_debug_implementations, reason = "a reader has no text")]
pub struct UpstreamResponse {
    pub status: u16,
    /// Names in lower case, and values that are text.
    pub headers: Vec<(String, String)>,
    pub body: Box<dyn Read + Send>,
}

/// There was no answer.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct UpstreamError {
    /// Why, without an address.
    pub message: String,
}

/// Asks servers, once for each request.
pub trait Upstream: Send + Sync {
    fn send(&self, request: &UpstreamRequest<'_>) -> Result<UpstreamResponse, UpstreamError>;
}

/// How servers are reached.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct UpstreamOptions {
    /// Certificates to trust instead of those of the host, as a PEM file.
    pub ca_bundle: Option<PathBuf>,
    /// The proxy for `http` URLs.
    pub http_proxy: Option<String>,
    /// The proxy for `https` URLs.
    pub https_proxy: Option<String>,
    /// Hosts that are reached without a proxy, separated by commas.
    pub no_proxy: Option<String>,
    /// Refuses servers on this machine's own loopback addresses, which the programs that are asked
    /// for could not reach themselves.
    pub refuses_loopback: bool,
}

impl std::fmt::Debug for UpstreamOptions {
    /// Proxies may have passwords, so they are not shown.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UpstreamOptions")
            .field("ca_bundle", &self.ca_bundle)
            .finish_non_exhaustive()
    }
}

/// Options that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamOptionsError {
    #[error("failed to read the CA certificates")]
    Read(#[from] IoError),
    #[error("the CA bundle `{}` has no usable certificate", .0.display())]
    NoCertificate(PathBuf),
    /// Without the proxy, which may have a password.
    #[error("the proxy for `{scheme}` addresses is not usable: {message}")]
    Proxy { scheme: &'static str, message: String },
}

/// Speaks HTTP.
#[derive(Debug)]
pub struct HttpUpstream {
    http: ureq::Agent,
    https: ureq::Agent,
    refuses_loopback: bool,
}

impl HttpUpstream {
    /// Prepares; nothing is connected yet.
    pub fn new(options: &UpstreamOptions) -> Result<Self, UpstreamOptionsError> {
        let roots = match &options.ca_bundle {
            Some(path) => RootCerts::Specific(Arc::new(certificates(path)?)),
            None => RootCerts::PlatformVerifier,
        };
        let agent = |proxy: Option<&String>, scheme| {
            let proxy = proxy.filter(|proxy| !proxy.is_empty());
            let failed = |error: ureq::Error| {
                let message = error.to_string();
                UpstreamOptionsError::Proxy { scheme, message }
            };
            let proxy = proxy.map(|proxy| parse_proxy(proxy, options.no_proxy.as_deref()));
            let proxy = proxy.transpose().map_err(failed)?;
            let allowed = proxy.as_ref().map(|proxy| proxy.host().to_owned());
            let config = ureq::Agent::config_builder()
                .http_status_as_error(false)
                .max_redirects(0)
                .allow_non_standard_methods(true)
                .proxy(proxy)
                .tls_config(TlsConfig::builder().root_certs(roots.clone()).build())
                .timeout_connect(Some(CONNECT_TIMEOUT))
                .timeout_recv_response(Some(RESPONSE_TIMEOUT))
                .timeout_per_read(Some(READ_TIMEOUT))
                .max_idle_connections_per_host(IDLE_CONNECTIONS)
                .max_idle_connections(2 * IDLE_CONNECTIONS)
                .user_agent("")
                .accept("")
                .accept_encoding("")
                .build();
            if !options.refuses_loopback {
                return Ok::<_, UpstreamOptionsError>(ureq::Agent::new_with_config(config));
            }
            let resolver = Outward { allowed, inner: DefaultResolver::default() };
            Ok(ureq::Agent::with_parts(config, DefaultConnector::default(), resolver))
        };
        Ok(Self {
            http: agent(options.http_proxy.as_ref(), "http")?,
            https: agent(options.https_proxy.as_ref(), "https")?,
            refuses_loopback: options.refuses_loopback,
        })
    }
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, UpstreamOptionsError> {
    let bytes = file::read_limited(path, CA_BUNDLE_BYTES_MAX)?;
    let found: Vec<_> = ureq::tls::parse_pem(&bytes)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if found.is_empty() {
        return Err(UpstreamOptionsError::NoCertificate(path.to_owned()));
    }
    Ok(found)
}

fn parse_proxy(text: &str, no_proxy: Option<&str>) -> Result<ureq::Proxy, ureq::Error> {
    let proxy = ureq::Proxy::new(text)?;
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
    builder.build()
}

/// Why a server of this machine is not asked.
const OWN_MACHINE: &str = "servers on the loopback addresses of the host are not asked";

/// Whether a server is named as one of this machine.
fn is_local(origin: &Origin) -> bool {
    let name = origin.name().trim_end_matches('.');
    name == "localhost"
        || name.ends_with(".localhost")
        // Numbers in the forms of `inet_aton` are left to who resolves them.
        || name.parse::<IpAddr>().is_ok_and(is_loopback)
}

fn is_loopback(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || address.is_unspecified()
}

/// Looks names up, and gives no address of this machine's loopback but for the proxy's.
#[derive(Debug)]
struct Outward {
    allowed: Option<String>,
    inner: DefaultResolver,
}

impl Resolver for Outward {
    fn resolve(
        &self,
        uri: &ureq::http::Uri,
        config: &ureq::config::Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.inner.resolve(uri, config, timeout)?;
        if self.allowed.is_some() && uri.host() == self.allowed.as_deref() {
            return Ok(found);
        }
        if found.iter().any(|address| is_loopback(address.ip())) {
            return Err(ureq::Error::HostNotFound);
        }
        Ok(found)
    }
}

impl Upstream for HttpUpstream {
    fn send(&self, request: &UpstreamRequest<'_>) -> Result<UpstreamResponse, UpstreamError> {
        let agent = if request.url.starts_with("https://") { &self.https } else { &self.http };
        let failed = |message: String| UpstreamError { message };
        // A proxy would look the name up itself, so the name is looked at as well.
        if self.refuses_loopback && split(request.url).is_none_or(|(origin, _)| is_local(&origin)) {
            return Err(failed(OWN_MACHINE.to_owned()));
        }
        let mut asked = ureq::http::Request::builder().method(request.method).uri(request.url);
        for (name, value) in request.headers {
            asked = asked.header(name, value);
        }
        let answer = if request.body.is_empty() {
            let asked = asked.body(()).map_err(|error| failed(error.to_string()))?;
            agent.run(asked)
        } else {
            let asked = asked.body(request.body).map_err(|error| failed(error.to_string()))?;
            agent.run(asked)
        };
        let answer = answer.map_err(|error| failed(error.to_string()))?;
        let text = |value: &ureq::http::HeaderValue| value.to_str().ok().map(str::to_owned);
        let headers = answer.headers().iter();
        Ok(UpstreamResponse {
            status: answer.status().as_u16(),
            headers: headers
                .filter_map(|(name, value)| Some((name.as_str().to_owned(), text(value)?)))
                .collect(),
            body: Box::new(answer.into_body().into_reader()),
        })
    }
}
