//! Agents: what keeps connections, and asks.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use corten_sys::file;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig};
use ureq::unversioned::transport::DefaultConnector;

use crate::error::{HttpError, without_user};
use crate::names::{Names, Outward, Remembering};
use crate::options::HttpOptions;
use crate::resolver::Stub;

/// A connection that is not there after this time will not be there later.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// A body that gives nothing for so long has stalled.
const READ_TIMEOUT: Duration = Duration::from_mins(1);

/// The largest bundle of certificates that is read: real ones have 200 KiB.
const CA_BUNDLE_BYTES_MAX: u64 = 16 << 20;

/// What Corten calls itself.
const USER_AGENT: &str = concat!("corten/", env!("CARGO_PKG_VERSION"));

/// Whose requests an agent makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requests {
    /// Our own, which say so in `User-Agent`.
    Own,
    /// Our own, for bytes that are stored as they come: servers are asked to encode nothing.
    OwnVerbatim,
    /// Those of another program, passed on as they are: nothing is added, and any method will do.
    PassedOn,
}

/// Which servers are believed to be who they say they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Those with a certificate that the host trusts.
    Certified,
    /// All.
    Anybody,
}

/// What differs between those who ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentOptions {
    pub requests: Requests,
    pub trust: Trust,
    pub names: Names,
    /// How many redirections the agent follows by itself; with 0 they are answers.
    pub redirects_max: u32,
    /// How long a server may think before its answer begins.
    pub response_timeout: Duration,
    /// How many connections to one host are kept for later; twice as many in all.
    pub idle_connections_per_host: usize,
}

/// Makes agents, with certificates that were read once.
#[derive(Debug)]
pub struct Connections<'a> {
    options: &'a HttpOptions,
    roots: RootCerts,
}

/// What speaks HTTP: each scheme may have a proxy of its own. No status is an error.
#[derive(Debug, Clone)]
pub struct Agents {
    pub http: ureq::Agent,
    pub https: ureq::Agent,
}

impl Agents {
    /// The agent for an address; `None` if it is none of HTTP.
    pub fn of(&self, url: &str) -> Option<&ureq::Agent> {
        if url.starts_with("https://") {
            Some(&self.https)
        } else {
            url.starts_with("http://").then_some(&self.http)
        }
    }
}

impl<'a> Connections<'a> {
    /// Reads the certificates; nothing is connected.
    pub fn new(options: &'a HttpOptions) -> Result<Self, HttpError> {
        let roots = match &options.ca_bundle {
            Some(path) => RootCerts::Specific(Arc::new(certificates(path)?)),
            None => RootCerts::PlatformVerifier,
        };
        Ok(Self { options, roots })
    }

    /// Makes an agent for each scheme. Agents of two calls share no connections.
    pub fn agents(&self, options: &AgentOptions) -> Result<Agents, HttpError> {
        Ok(Agents {
            http: self.agent("http", self.options.http_proxy.as_deref(), options)?,
            https: self.agent("https", self.options.https_proxy.as_deref(), options)?,
        })
    }

    fn agent(
        &self,
        scheme: &'static str,
        proxy: Option<&str>,
        options: &AgentOptions,
    ) -> Result<ureq::Agent, HttpError> {
        let proxy = proxy.filter(|proxy| !proxy.is_empty());
        let proxy = proxy.map(|text| self.proxy(scheme, text)).transpose()?;
        let proxy_host = proxy.as_ref().map(|proxy| proxy.host().to_owned());
        let tls = TlsConfig::builder()
            .root_certs(self.roots.clone())
            .disable_verification(options.trust == Trust::Anybody)
            .build();
        let mut config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(options.redirects_max)
            .proxy(proxy)
            .tls_config(tls)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(options.response_timeout))
            .timeout_per_read(Some(READ_TIMEOUT))
            .max_idle_connections_per_host(options.idle_connections_per_host)
            .max_idle_connections(2 * options.idle_connections_per_host);
        config = match options.requests {
            Requests::Own => config.user_agent(USER_AGENT),
            Requests::OwnVerbatim => config.user_agent(USER_AGENT).accept_encoding("identity"),
            Requests::PassedOn => config
                .allow_non_standard_methods(true)
                .user_agent("")
                .accept("")
                .accept_encoding(""),
        };
        let config = config.build();
        let connector = DefaultConnector::default();
        Ok(match options.names {
            Names::All => {
                let resolver = Remembering::<Stub>::default();
                ureq::Agent::with_parts(config, connector, resolver)
            }
            Names::Outward => ureq::Agent::with_parts(config, connector, Outward::new(proxy_host)),
        })
    }

    fn proxy(&self, scheme: &'static str, text: &str) -> Result<ureq::Proxy, HttpError> {
        let wrong = |source| HttpError::Proxy {
            scheme,
            proxy: without_user(text),
            source: Box::new(source),
        };
        let proxy = ureq::Proxy::new(text).map_err(wrong)?;
        let Some(no_proxy) = self.options.no_proxy.as_deref().filter(|hosts| !hosts.is_empty())
        else {
            return Ok(proxy);
        };
        let mut builder =
            ureq::Proxy::builder(proxy.protocol()).host(proxy.host()).port(proxy.port());
        if let Some(user) = proxy.username() {
            builder = builder.username(user);
        }
        if let Some(password) = proxy.password() {
            builder = builder.password(password);
        }
        for host in no_proxy.split(',').map(str::trim_ascii).filter(|host| !host.is_empty()) {
            builder = builder.no_proxy(host);
        }
        builder.build().map_err(wrong)
    }
}

fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, HttpError> {
    let bytes = file::read_limited(path, CA_BUNDLE_BYTES_MAX).map_err(HttpError::Read)?;
    let certificates: Vec<_> = ureq::tls::parse_pem(&bytes)
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        return Err(HttpError::NoCertificate(path.to_owned()));
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use corten_testkit::TempDir;

    use super::*;

    const OPTIONS: AgentOptions = AgentOptions {
        requests: Requests::Own,
        trust: Trust::Certified,
        names: Names::All,
        redirects_max: 0,
        response_timeout: Duration::from_secs(1),
        idle_connections_per_host: 1,
    };

    fn agents(options: &HttpOptions) -> Result<Agents, HttpError> {
        Connections::new(options)?.agents(&OPTIONS)
    }

    #[test]
    fn options_that_cannot_work_are_refused_without_showing_a_password() {
        for proxy in ["socks9://u:secret@p.test:1", "u:secret@p.test:1 ", "http://u:se cret@p.test"]
        {
            let options = HttpOptions { http_proxy: Some(proxy.into()), ..HttpOptions::default() };
            let error = agents(&options).unwrap_err();
            let shown = format!("{} {error:?} {:?}", error.line(), error.hint());
            assert!(shown.contains("p.test") && shown.contains("HTTP_PROXY"), "{shown}");
            assert!(!shown.contains("secret") && !shown.contains("cret@"), "{shown}");
        }
        let options = |path: &Path| HttpOptions {
            ca_bundle: Some(path.to_owned()),
            ..HttpOptions::default()
        };
        let temp = TempDir::new();
        let absent = agents(&options(&temp.path().join("absent.pem"))).unwrap_err();
        assert!(matches!(absent, HttpError::Read(_)));
        assert!(absent.line().contains("absent.pem"), "{}", absent.line());
        let empty = agents(&options(Path::new("/proc/self/status")));
        assert!(matches!(empty, Err(HttpError::NoCertificate(_))));
    }

    #[test]
    fn a_proxy_is_not_used_for_hosts_that_need_none_and_keeps_its_password() {
        let options = HttpOptions {
            https_proxy: Some("http://user:hidden@p.test:3128".to_owned()),
            no_proxy: Some("a.test, ,.b.test".to_owned()),
            ..HttpOptions::default()
        };
        let agents = agents(&options).unwrap();
        assert!(agents.http.config().proxy().is_none());
        let proxy = agents.https.config().proxy().unwrap();
        assert_eq!((proxy.host(), proxy.port()), ("p.test", 3128));
        assert_eq!((proxy.username(), proxy.password()), (Some("user"), Some("hidden")));
        for (url, is_direct) in
            [("https://a.test/", true), ("https://x.b.test/", true), ("https://c.test/", false)]
        {
            assert_eq!(proxy.is_no_proxy(&url.parse().unwrap()), is_direct, "{url}");
        }
        assert!(!format!("{agents:?}").contains("hidden"));
    }

    #[test]
    fn each_scheme_has_its_agent() {
        let options = HttpOptions {
            http_proxy: Some("one.test:1".to_owned()),
            https_proxy: Some("http://two.test:2".to_owned()),
            ..HttpOptions::default()
        };
        let agents = agents(&options).unwrap();
        let proxy = |url| Some(agents.of(url)?.config().proxy()?.host().to_owned());
        assert_eq!(proxy("http://a.test").as_deref(), Some("one.test"));
        assert_eq!(proxy("https://a.test").as_deref(), Some("two.test"));
        assert!(agents.of("ftp://a.test").is_none());
    }
}
