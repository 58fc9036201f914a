//! How the real servers are reached: with the proxies and certificates of this machine.

use std::io::Read;
use std::time::Duration;

use corten_http::{
    AgentOptions, Agents, Connections, HttpError, HttpOptions, Names, Requests, Trust,
    is_own_machine,
};

use crate::address::{Origin, split};

/// Mirrors behind caches may fetch a file first before they answer.
const RESPONSE_TIMEOUT: Duration = Duration::from_mins(2);

/// Package managers fetch some dozen files at once.
const IDLE_CONNECTIONS: usize = 32;

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

/// Which servers may be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// All that this machine reaches.
    Anywhere,
    /// None on this machine's own loopback addresses, which the programs that are asked for could not
    /// reach themselves.
    Outward,
}

/// Speaks HTTP.
#[derive(Debug)]
pub struct HttpUpstream {
    agents: Agents,
    reach: Reach,
}

impl HttpUpstream {
    /// Prepares; nothing is connected yet.
    pub fn new(options: &HttpOptions, reach: Reach) -> Result<Self, HttpError> {
        let agents = Connections::new(options)?.agents(&AgentOptions {
            requests: Requests::PassedOn,
            trust: Trust::Certified,
            names: match reach {
                Reach::Anywhere => Names::All,
                Reach::Outward => Names::Outward,
            },
            redirects_max: 0,
            response_timeout: RESPONSE_TIMEOUT,
            idle_connections_per_host: IDLE_CONNECTIONS,
        })?;
        Ok(Self { agents, reach })
    }
}

/// Why a server of this machine is not asked.
const OWN_MACHINE: &str = "servers on the loopback addresses of the host are not asked";

impl Upstream for HttpUpstream {
    fn send(&self, request: &UpstreamRequest<'_>) -> Result<UpstreamResponse, UpstreamError> {
        let agent = self.agents.of(request.url).unwrap_or(&self.agents.http);
        let failed = |message: String| UpstreamError { message };
        // A proxy would look the name up itself, so the name is looked at as well.
        let is_own = |(origin, _): (Origin, _)| is_own_machine(origin.name());
        if self.reach == Reach::Outward && split(request.url).is_none_or(is_own) {
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
