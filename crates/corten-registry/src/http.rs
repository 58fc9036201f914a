//! One request after another: redirections, and what may be tried again.

use std::io::Read;
use std::time::Duration;

use corten_http::{
    AgentOptions, Agents, Connections, HttpError, HttpOptions, Names, Requests, Trust,
};
use ureq::http::{Request, Response};
use ureq::{AsSendBody, Body, SendBody};

use crate::error::RegistryError;

/// Registries may check a large blob before they answer.
const RESPONSE_TIMEOUT: Duration = Duration::from_mins(5);

/// As many as blobs are moved at once.
const IDLE_CONNECTIONS: usize = 8;

/// Registries redirect to a store of blobs once or twice; more is a loop.
const REDIRECTS_MAX: u32 = 5;

/// How often a request is made.
const TRIES: u32 = 5;

/// How often a document that breaks off is read.
const READS: u32 = 3;

/// The wait before the second try; it doubles.
const WAIT_FIRST: Duration = Duration::from_millis(500);

/// A registry that asks for a longer wait is not waited for.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// A document has a few kilobytes, and 4 MiB at most: one that takes longer is not meant to end.
const DOCUMENT_TIMEOUT: Duration = Duration::from_mins(2);

/// What of an answer is read when it is a failure.
const FAILURE_BYTES_MAX: u64 = 64 * 1024;

/// Speaks HTTP, with certificates that are checked or not.
#[derive(Debug)]
pub(crate) struct Http {
    verified: Agents,
    unverified: Agents,
}

/// What is sent.
pub(crate) enum Payload<'a> {
    Nothing,
    Bytes(&'a [u8]),
    /// A stream of this many bytes, which cannot be sent twice.
    Stream(&'a mut dyn Read, u64),
}

/// One request.
pub(crate) struct Call<'a> {
    /// What people are told that it is for: `read the manifest of …`.
    pub(crate) what: &'a str,
    pub(crate) method: &'static str,
    pub(crate) url: String,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) payload: Payload<'a>,
    /// Whether any certificate, or none, will do.
    pub(crate) insecure: bool,
    /// Whether the answer is content of any size, and not a document.
    pub(crate) is_content: bool,
    /// Whether the last answer came from another origin than the one that was asked.
    pub(crate) is_elsewhere: bool,
}

impl Http {
    /// Prepares connections; none is made yet.
    pub(crate) fn new(options: &HttpOptions) -> Result<Self, HttpError> {
        let connections = Connections::new(options)?;
        let agents = |trust| {
            connections.agents(&AgentOptions {
                requests: Requests::OwnVerbatim,
                trust,
                names: Names::All,
                redirects_max: 0,
                response_timeout: RESPONSE_TIMEOUT,
                idle_connections_per_host: IDLE_CONNECTIONS,
            })
        };
        Ok(Self { verified: agents(Trust::Certified)?, unverified: agents(Trust::Anybody)? })
    }

    /// Who asks; `None` for an address without TLS that must have it.
    fn agent(&self, url: &str, insecure: bool) -> Option<&ureq::Agent> {
        match (url.starts_with("https://"), insecure) {
            (true, false) => Some(&self.verified.https),
            (true, true) => Some(&self.unverified.https),
            // A proxy may speak TLS even so, and is no insecure registry.
            (false, true) => Some(&self.verified.http),
            (false, false) => None,
        }
    }

    /// Makes a request once and follows nothing.
    pub(crate) fn once(&self, call: &mut Call<'_>) -> Result<Response<Body>, RegistryError> {
        if !call.url.starts_with("https://") && !call.url.starts_with("http://") {
            return Err(call.protocol("it leads to an address of another protocol than HTTP"));
        }
        let Some(agent) = self.agent(&call.url, call.insecure) else {
            return Err(call.protocol("it leads to an address without TLS"));
        };
        let mut request = Request::builder().method(call.method).uri(call.url.as_str());
        for (name, value) in &call.headers {
            request = request.header(*name, value);
        }
        let size = match &call.payload {
            Payload::Nothing if matches!(call.method, "GET" | "HEAD") => None,
            Payload::Nothing => Some(0),
            Payload::Bytes(bytes) => Some(bytes.len() as u64),
            Payload::Stream(_, size) => Some(*size),
        };
        if let Some(size) = size {
            request = request.header("Content-Length", size);
        }
        let (what, url) = (call.what, shown(&call.url));
        let timeout = (!call.is_content).then_some(DOCUMENT_TIMEOUT);
        let answer = match &mut call.payload {
            Payload::Nothing => request.body(()).map(|request| run(agent, request, timeout)),
            Payload::Bytes(bytes) => {
                request.body(*bytes).map(|request| run(agent, request, timeout))
            }
            Payload::Stream(stream, _) => {
                let body = SendBody::from_reader(*stream);
                request.body(body).map(|request| run(agent, request, timeout))
            }
        };
        let answer = answer.map_err(|error| RegistryError::Protocol {
            what: what.to_owned(),
            url: url.clone(),
            problem: error.to_string(),
        })?;
        let source = |source| RegistryError::Transport {
            what: what.to_owned(),
            url,
            source: Box::new(source),
        };
        answer.map_err(source)
    }

    /// Makes a request, follows redirections if it only reads, and tries again what a moment may mend.
    pub(crate) fn send(&self, call: &mut Call<'_>) -> Result<Response<Body>, RegistryError> {
        let can_repeat = !matches!(call.payload, Payload::Stream(..));
        let mut wait = WAIT_FIRST;
        for number in 1.. {
            let is_last = number == TRIES || !can_repeat;
            let asked = self.follow(call);
            let pause = match &asked {
                Ok(response) if is_temporary(response.status().as_u16()) => retry_after(response),
                Err(error) if is_broken(error) => None,
                _ => return asked,
            };
            let pause = pause.unwrap_or(wait);
            if is_last || pause > WAIT_MAX {
                return asked;
            }
            std::thread::sleep(pause);
            wait *= 2;
        }
        unreachable!("the last try returns")
    }

    /// Reads a document as a whole, and asks again if it breaks off.
    pub(crate) fn read_again(
        &self,
        call: &mut Call<'_>,
        response: Response<Body>,
        limit_bytes: u64,
    ) -> Result<Vec<u8>, RegistryError> {
        let mut response = response;
        for number in 1.. {
            let mut bytes = Vec::new();
            let body = response.into_body().into_reader();
            let read = body.take(limit_bytes.saturating_add(1)).read_to_end(&mut bytes);
            match read {
                Ok(_) if bytes.len() as u64 > limit_bytes => {
                    let problem = format!("it is larger than {} KiB", limit_bytes >> 10);
                    return Err(call.protocol(problem));
                }
                Ok(_) => return Ok(bytes),
                Err(error) if number == READS => {
                    return Err(call.protocol(format!("it broke off: {error}")));
                }
                Err(_) => {}
            }
            response = self.send(call)?;
            if response.status().as_u16() != 200 {
                let status = response.status().as_u16();
                return Err(call.protocol(format!("it broke off, and then had status {status}")));
            }
        }
        unreachable!("the last read returns")
    }

    fn follow(&self, call: &mut Call<'_>) -> Result<Response<Body>, RegistryError> {
        let (first, headers) = (call.url.clone(), call.headers.clone());
        let mut answer = self.once(call);
        for number in 0.. {
            let Ok(response) = &answer else { break };
            let leads_on = matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308);
            if !leads_on || !matches!(call.method, "GET" | "HEAD") {
                break;
            }
            let Some(location) = header(response, "location") else { break };
            if number == REDIRECTS_MAX {
                let problem = format!("it leads on more than {REDIRECTS_MAX} times");
                answer = Err(call.protocol(problem));
                break;
            }
            let next = resolve(&call.url, location);
            if !is_same_origin(&next, &call.url) {
                // Who stores blobs for a registry must not see who asks.
                call.headers.retain(|(name, _)| *name != "Authorization");
            }
            call.url = next;
            answer = self.once(call);
        }
        call.is_elsewhere = !is_same_origin(&call.url, &first);
        // Another try begins at the registry, with what belongs to it.
        call.url = first;
        call.headers = headers;
        answer
    }
}

/// Makes a request; its answer ends within a time, if there is one.
fn run(
    agent: &ureq::Agent,
    request: Request<impl AsSendBody>,
    timeout: Option<Duration>,
) -> Result<Response<Body>, ureq::Error> {
    let request = agent.configure_request(request).timeout_recv_body(timeout).build();
    agent.run(request)
}

impl Call<'_> {
    pub(crate) fn protocol(&self, problem: impl Into<String>) -> RegistryError {
        RegistryError::Protocol {
            what: self.what.to_owned(),
            url: shown(&self.url),
            problem: problem.into(),
        }
    }

    /// The answer as a failure, with what the registry says about it.
    pub(crate) fn refused(&self, registry: &str, response: Response<Body>) -> RegistryError {
        let status = response.status().as_u16();
        let detail = detail_of(response);
        let (what, registry) = (self.what.to_owned(), registry.to_owned());
        if status == 403 {
            return RegistryError::Denied { what, registry, detail };
        }
        RegistryError::Status { what, url: shown(&self.url), status, detail }
    }
}

/// The text of the first error in the registry's answer, if it has any.
fn detail_of(response: Response<Body>) -> String {
    let mut bytes = Vec::new();
    let read = response.into_body().into_reader().take(FAILURE_BYTES_MAX).read_to_end(&mut bytes);
    read.map(|_| detail_in(&bytes)).unwrap_or_default()
}

/// The same of its bytes, with a colon before it.
pub(crate) fn detail_in(bytes: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Failure {
        errors: Vec<Detail>,
    }
    #[derive(serde::Deserialize)]
    struct Detail {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let parsed = serde_json::from_slice::<Failure>(bytes).ok();
    let Some(first) = parsed.and_then(|failure| failure.errors.into_iter().next()) else {
        return String::new();
    };
    let text = if first.message.is_empty() { first.code } else { first.message };
    let text: String = text.chars().filter(|c| !c.is_control()).take(300).collect();
    if text.is_empty() { text } else { format!(": {text}") }
}

pub(crate) fn header<'r>(response: &'r Response<Body>, name: &str) -> Option<&'r str> {
    response.headers().get(name)?.to_str().ok()
}

/// An address for people: credentials and queries, which may be signatures, are left out.
pub(crate) fn shown(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}{path}")
        }
        None => url.to_owned(),
    }
}

/// Scheme, host and port.
pub(crate) fn origin(url: &str) -> &str {
    let start = url.find("://").map_or(0, |at| at + 3);
    let end = url[start..].find(['/', '?', '#']).map_or(url.len(), |at| at + start);
    &url[..end]
}

/// Whether two addresses have the same scheme, host and port, however they are written.
pub(crate) fn is_same_origin(one: &str, other: &str) -> bool {
    let plain = |url: &str| {
        let text = origin(url).to_ascii_lowercase();
        let port = if text.starts_with("https://") { ":443" } else { ":80" };
        text.strip_suffix(port).map(ToOwned::to_owned).unwrap_or(text)
    };
    plain(one) == plain(other)
}

/// The host of an address, without its port, and the host with it.
pub(crate) fn host_of(url: &str) -> (&str, &str) {
    let authority = origin(url).split_once("://").map_or("", |(_, authority)| authority);
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let end = match authority.find(']') {
        Some(at) => at + 1,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    (authority.get(..end).unwrap_or(authority), authority)
}

/// Whether a text begins with a scheme, as in `https://`.
fn is_absolute(text: &str) -> bool {
    let Some((scheme, _)) = text.split_once("://") else { return false };
    !scheme.is_empty() && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
}

/// Where a `Location` leads from an address.
pub(crate) fn resolve(base: &str, location: &str) -> String {
    if is_absolute(location) {
        // A scheme may be written in any case.
        let (scheme, rest) = location.split_once("://").unwrap_or(("", location));
        return format!("{}://{rest}", scheme.to_ascii_lowercase());
    }
    let origin = origin(base);
    if let Some(rest) = location.strip_prefix("//") {
        let scheme = base.split_once("://").map_or("https", |(scheme, _)| scheme);
        return format!("{scheme}://{rest}");
    }
    if location.starts_with('/') {
        return format!("{origin}{location}");
    }
    let path = base.split(['?', '#']).next().unwrap_or(base);
    let folder = path.rfind('/').filter(|at| *at >= origin.len()).unwrap_or(path.len());
    format!("{}/{location}", &path[..folder])
}

fn is_temporary(status: u16) -> bool {
    matches!(status, 408 | 429 | 500 | 502 | 503 | 504)
}

/// Whether the other side could not prove who it is. What goes wrong while a connection is made is
/// within an error of input and output.
pub(crate) fn is_unproven(error: &ureq::Error) -> bool {
    match error {
        ureq::Error::Tls(_) | ureq::Error::Rustls(_) => true,
        ureq::Error::Io(error) => error.kind() == std::io::ErrorKind::InvalidData,
        _ => false,
    }
}

fn is_broken(error: &RegistryError) -> bool {
    match error {
        RegistryError::Transport { source, .. } if is_unproven(source) => false,
        RegistryError::Transport { source, .. } => !matches!(
            source.as_ref(),
            ureq::Error::BadUri(_)
                | ureq::Error::Http(_)
                | ureq::Error::Protocol(_)
                | ureq::Error::LargeResponseHeader(..)
                | ureq::Error::HostNotFound
        ),
        _ => false,
    }
}

pub(crate) fn retry_after(response: &Response<Body>) -> Option<Duration> {
    header(response, "retry-after")?.trim().parse().ok().map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_checked_but_for_those_of_insecure_registries() {
        let http = Http::new(&HttpOptions::default()).unwrap();
        let checks = |url, insecure| {
            let agent = http.agent(url, insecure)?;
            Some(!agent.config().tls_config().disable_verification())
        };
        assert_eq!(checks("https://a.example", false), Some(true));
        assert_eq!(checks("https://a.example", true), Some(false));
        assert_eq!(checks("http://a.example", true), Some(true));
        assert_eq!(checks("http://a.example", false), None);
    }

    #[test]
    fn addresses_are_shown_without_what_is_secret() {
        assert_eq!(shown("https://u:p@a.example/v2/x?sig=secret#f"), "https://a.example/v2/x");
        assert_eq!(shown("https://a.example"), "https://a.example");
    }

    #[test]
    fn locations_are_resolved() {
        let base = "https://a.example:5/v2/x/blobs/uploads/?y=1";
        for (location, expected) in [
            ("https://b.example/z?a=b", "https://b.example/z?a=b"),
            ("/v2/z", "https://a.example:5/v2/z"),
            ("//c.example/z", "https://c.example/z"),
            ("id?_state=s", "https://a.example:5/v2/x/blobs/uploads/id?_state=s"),
            ("HTTPS://b.example/z", "https://b.example/z"),
            ("file:///etc/passwd", "file:///etc/passwd"),
            (
                "id?next=https://b.example",
                "https://a.example:5/v2/x/blobs/uploads/id?next=https://b.example",
            ),
        ] {
            assert_eq!(resolve(base, location), expected);
        }
        assert_eq!(origin(base), "https://a.example:5");
    }

    #[test]
    fn a_certificate_that_is_not_trusted_is_told_from_a_connection_that_broke() {
        let transport = |kind, text: &str| RegistryError::Transport {
            what: "read".to_owned(),
            url: "https://a.example/v2/".to_owned(),
            source: Box::new(ureq::Error::Io(std::io::Error::new(kind, text.to_owned()))),
        };
        let untrusted = "invalid peer certificate: UnknownIssuer";
        let untrusted = transport(std::io::ErrorKind::InvalidData, untrusted);
        assert!(!is_broken(&untrusted));
        assert!(untrusted.hint().unwrap().contains("`SSL_CERT_FILE`"));
        let broken = transport(std::io::ErrorKind::UnexpectedEof, "peer disconnected");
        assert!(is_broken(&broken));
        assert!(broken.hint().unwrap().contains("the network"));
    }

    #[test]
    fn an_origin_is_the_same_however_it_is_written() {
        for same in ["https://A.example/x", "https://a.example:443/y?z", "https://a.example"] {
            assert!(is_same_origin(same, "https://a.example/v2/"), "{same}");
        }
        for other in [
            "http://a.example/v2/",
            "https://a.example:80/v2/",
            "https://a.example.b.example/",
            "https://a.example@b.example/",
            "https://a.example:443@b.example/",
        ] {
            assert!(!is_same_origin(other, "https://a.example/v2/"), "{other}");
        }
        assert_eq!(host_of("https://u:p@a.example:5/x"), ("a.example", "a.example:5"));
        assert_eq!(host_of("http://[::1]:5/x"), ("[::1]", "[::1]:5"));
    }
}
