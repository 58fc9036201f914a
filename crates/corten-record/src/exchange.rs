//! One request and its answer.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use corten_oci::digest::Digest;
use corten_store::{Expect, StoreError};

use crate::BODY_BYTES_MAX;
use crate::address::recorded_url;
use crate::classify::classify;
use crate::entry::{Artifact, Class, Fetched, RequestKey};
use crate::http::{Framing, Request, has_token, range, write_head};
use crate::keep;
use crate::recorder::{Asking, Lookup, Refusal, StepState};
use crate::upstream::{Upstream, UpstreamRequest, UpstreamResponse};

/// So much of an answer is held back until all of it is known.
const HELD_BYTES: usize = 64 * 1024;

/// Headers that are recorded: they say what the content is and when it was made, lead elsewhere, or
/// are asked for by programs that fetch models.
const RECORDED: [&str; 11] = [
    "content-disposition",
    "content-encoding",
    "content-type",
    "etag",
    "last-modified",
    "link",
    "location",
    "x-linked-etag",
    "x-linked-size",
    "x-pypi-last-serial",
    "x-repo-commit",
];

/// The longest header that is recorded.
const HEADER_BYTES_MAX: usize = 4096;

/// Headers that are about a connection and not about what is sent, and those by which a part of an
/// answer, an encoded one or none would come: what is recorded is whole and as it is.
pub(crate) const OWN: [&str; 17] = [
    "accept-encoding",
    "connection",
    "content-length",
    "expect",
    "host",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "te",
    "transfer-encoding",
    "upgrade",
];

/// A request with its whole address.
pub(crate) struct Asked<'a> {
    pub(crate) request: &'a Request,
    pub(crate) url: String,
}

impl Asked<'_> {
    /// Asks the server. When it gives no answer, the step's failures say so, and the client is to be
    /// told what is returned.
    pub(crate) fn send(
        &self,
        upstream: &dyn Upstream,
        headers: &[(String, String)],
        state: &StepState,
    ) -> Result<UpstreamResponse, String> {
        let Request { method, body, .. } = self.request;
        let sent = upstream.send(&UpstreamRequest { method, url: &self.url, headers, body });
        sent.map_err(|error| {
            let url = recorded_url(&self.url);
            state.failed(format!("`{url}` could not be fetched: {error}"));
            format!("the server gave no answer: {error}")
        })
    }
}

/// What becomes of the connection.
pub(crate) enum After {
    KeepAlive,
    Close,
}

/// Answers a request. An error means that the connection is of no more use.
pub(crate) fn answer(
    asked: &Asked<'_>,
    out: &mut dyn Write,
    state: &Arc<StepState>,
) -> io::Result<After> {
    let _active = state.begin();
    if state.shared.is_cache {
        return keep::answer(asked, out, state);
    }
    let request = asked.request;
    let url = recorded_url(&asked.url);
    let key = RequestKey {
        url,
        method: request.method.clone(),
        request: (!request.body.is_empty()).then(|| Digest::of(&request.body)),
        accept: request.header("accept").map(str::to_owned),
    };
    match state.shared.look_up(&key) {
        Lookup::Known(fetched) => known(&fetched, &key, request, out, state),
        Lookup::TooMany => {
            state.failed("the build asks for too many things to record them".to_owned());
            told(request, out, 503, "too many things were asked for")
        }
        Lookup::Ask(asking) => ask(asked, key, out, state, asking),
    }
}

/// Answers with a sentence.
pub(crate) fn told(
    request: &Request,
    out: &mut dyn Write,
    status: u16,
    text: &str,
) -> io::Result<After> {
    plain_text(out, status, text, request.keep_alive)?;
    Ok(if request.keep_alive { After::KeepAlive } else { After::Close })
}

/// Writes an answer that is a sentence.
pub(crate) fn plain_text(
    out: &mut dyn Write,
    status: u16,
    text: &str,
    keep_alive: bool,
) -> io::Result<()> {
    let text = format!("corten: {text}\n");
    let headers = [("content-type".to_owned(), "text/plain; charset=utf-8".to_owned())];
    write_head(out, status, &headers, Framing::Length(text.len() as u64), keep_alive)?;
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Answers from the store.
fn known(
    fetched: &Fetched,
    key: &RequestKey,
    request: &Request,
    out: &mut dyn Write,
    state: &Arc<StepState>,
) -> io::Result<After> {
    let file = if fetched.size_bytes == 0 {
        None
    } else {
        let opened = state.shared.store.open_blob(&fetched.sha256).map_err(io::Error::other)?;
        if opened.is_none() {
            state.refuse(Refusal::NotStored { url: key.url.clone() });
            return told(request, out, 504, "the store does not have this any more");
        }
        opened
    };
    state.took(fetched);
    let mut headers: Vec<(String, String)> =
        fetched.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
    let after = if request.keep_alive { After::KeepAlive } else { After::Close };
    let etag = fetched.headers.get("etag");
    let is_same = |wanted: &str| etag.is_some_and(|etag| has_token(wanted, etag));
    if fetched.status == 200 && request.header("if-none-match").is_some_and(is_same) {
        write_head(out, 304, &headers, Framing::Nothing, request.keep_alive)?;
        out.flush()?;
        return Ok(after);
    }
    let length = fetched.size_bytes;
    if request.method == "HEAD" {
        let length = match fetched.headers.get("content-length") {
            Some(length) => length.parse().unwrap_or_default(),
            None => length,
        };
        headers.retain(|(name, _)| name != "content-length");
        write_head(out, fetched.status, &headers, Framing::Length(length), request.keep_alive)?;
        out.flush()?;
        return Ok(after);
    }
    let wanted = request.header("range").filter(|_| fetched.status == 200);
    let (status, first, count) = match wanted.map(|header| range(header, length)) {
        None | Some(Ok(None)) => (fetched.status, 0, length),
        Some(Ok(Some((first, last)))) => {
            headers.push(("content-range".to_owned(), format!("bytes {first}-{last}/{length}")));
            (206, first, last - first + 1)
        }
        Some(Err(())) => {
            headers.push(("content-range".to_owned(), format!("bytes */{length}")));
            write_head(out, 416, &headers, Framing::Length(0), request.keep_alive)?;
            out.flush()?;
            return Ok(after);
        }
    };
    headers.push(("accept-ranges".to_owned(), "bytes".to_owned()));
    write_head(out, status, &headers, Framing::Length(count), request.keep_alive)?;
    if let Some(file) = file {
        send(file, first, count, out)?;
    }
    out.flush()?;
    Ok(after)
}

pub(crate) fn send(mut file: File, first: u64, count: u64, out: &mut dyn Write) -> io::Result<()> {
    file.seek(SeekFrom::Start(first))?;
    let sent = io::copy(&mut file.take(count), out)?;
    if sent == count { Ok(()) } else { Err(io::Error::from(io::ErrorKind::UnexpectedEof)) }
}

/// Asks the server, if that is allowed.
fn ask(
    asked: &Asked<'_>,
    key: RequestKey,
    out: &mut dyn Write,
    state: &Arc<StepState>,
    asking: Asking,
) -> io::Result<After> {
    let request = asked.request;
    let agent = request.header("user-agent").unwrap_or_default();
    let class = classify(&key.method, &key.url, agent, &request.body);
    let locked = state.shared.locked(&key);
    if let (Err(()), Class::Artifact(artifact)) = (&locked, &class) {
        let text = not_locked(&key, artifact, state);
        return told(request, out, 403, &text);
    }
    let Some(upstream) = state.shared.upstream.as_deref() else {
        let url = key.url.clone();
        let is_locked = matches!(locked, Ok(Some(_)));
        let refusal = if is_locked { Refusal::NotStored { url } } else { Refusal::Unknown { url } };
        state.refuse(refusal);
        return told(request, out, 504, "this build is offline, and the store does not have this");
    };
    let headers = forwarded(request);
    let response = match asked.send(upstream, &headers, state) {
        Ok(response) => response,
        Err(message) => return told(request, out, 502, &message),
    };
    let answer = Answer { request, key, class, locked: locked.ok().flatten(), state, asking };
    answer.relay(response, out)
}

/// Refuses an artifact that the lock does not have; returns what to say.
fn not_locked(key: &RequestKey, artifact: &Artifact, state: &StepState) -> String {
    let locked_versions = state.shared.locked_versions(artifact.kind, &artifact.name);
    state.refuse(Refusal::NotLocked {
        url: key.url.clone(),
        name: artifact.name.clone(),
        version: artifact.version.clone(),
        locked_versions,
    });
    format!("{} is not in the lock", key.url)
}

/// What the server gets to see of the headers of a client.
fn forwarded(request: &Request) -> Vec<(String, String)> {
    let named = request.header("connection").unwrap_or_default();
    let own = |name: &str| OWN.contains(&name) || has_token(named, name);
    let kept = request.headers.iter().filter(|(name, _)| !own(name)).cloned();
    // What is stored must be what was sent, so no encoding is asked for.
    kept.chain([("accept-encoding".to_owned(), "identity".to_owned())]).collect()
}

/// An answer on its way through.
struct Answer<'a> {
    request: &'a Request,
    key: RequestKey,
    class: Class,
    locked: Option<&'a Fetched>,
    state: &'a Arc<StepState>,
    /// Held until what was learnt is known to all.
    asking: Asking,
}

impl Answer<'_> {
    fn relay(mut self, response: UpstreamResponse, out: &mut dyn Write) -> io::Result<After> {
        let status = response.status;
        if status != 200 {
            let tool = match &self.class {
                Class::Index { tool } => tool.clone(),
                Class::Artifact(artifact) => artifact.tool.clone(),
            };
            self.class = Class::Index { tool };
        } else if let (Some(locked), Class::Artifact(artifact)) = (self.locked, &self.class)
            && locked.artifact().is_none()
        {
            // The lock knows this address as one that led elsewhere.
            let text = not_locked(&self.key, artifact, self.state);
            return told(self.request, out, 403, &text);
        }
        let recorded = recorded_headers(&response);
        if !varies_with_form(&response) {
            self.key.accept = None;
        }
        let has_body = self.request.method != "HEAD" && !matches!(status, 204 | 304);
        let length = length(&response);
        let mut client = Client::new(self.request, &response, has_body, out);
        let (sha256, size_bytes) = if has_body {
            match self.store(response.body, length, &mut client) {
                Ok(stored) => stored,
                Err(error) => return self.broken(&error, client),
            }
        } else {
            (Digest::of(b""), 0)
        };
        let mut fetched = Fetched {
            key: self.key.clone(),
            status,
            headers: recorded,
            sha256,
            size_bytes,
            class: self.class.clone(),
        };
        if let (false, Some(length)) = (has_body, length) {
            fetched.headers.insert("content-length".to_owned(), length.to_string());
        }
        if let Some(locked) = self.locked
            && !fetched.is_as_good_as(locked)
        {
            return self.differs(locked, &fetched, client);
        }
        if is_lasting(status) {
            self.state.shared.learn(&fetched).map_err(io::Error::other)?;
            self.state.took(&fetched);
        }
        drop(self.asking);
        client.finish()
    }

    /// Takes the body into the store while the client gets it.
    fn store(
        &self,
        body: Box<dyn Read + Send>,
        length: Option<u64>,
        client: &mut Client<'_>,
    ) -> Result<(Digest, u64), String> {
        if length.is_some_and(|length| length > BODY_BYTES_MAX) {
            return Err("it is too large".to_owned());
        }
        let mut tee = Tee { body, client, state: self.state };
        let expect = Expect { digest: None, limit_bytes: BODY_BYTES_MAX };
        let stored = self.state.shared.store.write_blob(&mut tee, &expect);
        let (digest, size) = stored.map_err(|error| match error {
            StoreError::Source(source) => source.to_string(),
            other => other.to_string(),
        })?;
        match length {
            Some(length) if length != size => {
                Err(format!("it broke off after {size} of {length} bytes"))
            }
            _ => Ok((digest, size)),
        }
    }

    fn broken(&self, error: &str, client: Client<'_>) -> io::Result<After> {
        self.state.failed(format!("`{}` could not be fetched: {error}", self.key.url));
        client.abandon(self.request, 502, &format!("the transfer failed: {error}"))
    }

    fn differs(
        &self,
        locked: &Fetched,
        fetched: &Fetched,
        client: Client<'_>,
    ) -> io::Result<After> {
        let url = self.key.url.clone();
        let text = format!("{url} is not what the lock has");
        let (expected, found) = (locked.sha256, fetched.sha256);
        self.state.refuse(Refusal::Differs { url, expected, found });
        client.abandon(self.request, 403, &text)
    }
}

pub(crate) fn header<'h>(headers: &'h [(String, String)], name: &str) -> Option<&'h str> {
    headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// How long the body is, if the server says so.
pub(crate) fn length(response: &UpstreamResponse) -> Option<u64> {
    header(&response.headers, "content-length").and_then(|text| text.parse().ok())
}

/// Whether an answer is worth keeping: what is there, what is elsewhere, what is not there. A
/// failure, or a question for credentials, is not.
fn is_lasting(status: u16) -> bool {
    matches!(status, 200..=299 | 301..=303 | 307 | 308 | 404 | 410)
}

/// Whether one form of an answer is not another, so that each is known by itself.
fn varies_with_form(response: &UpstreamResponse) -> bool {
    header(&response.headers, "vary").is_some_and(|vary| has_token(vary, "accept"))
}

/// Headers that a client gets; those of the connection are made here.
pub(crate) fn is_of_the_answer(name: &str) -> bool {
    !OWN.contains(&name) && name != "alt-svc" && name != "trailer"
}

/// What is kept of the headers; an address in them is kept without what is secret.
fn recorded_headers(response: &UpstreamResponse) -> BTreeMap<String, String> {
    let kept = response.headers.iter().filter(|(name, value)| {
        RECORDED.contains(&name.as_str()) && value.len() <= HEADER_BYTES_MAX
    });
    kept.map(|(name, value)| match name.as_str() {
        "location" => (name.clone(), recorded_location(value)),
        _ => (name.clone(), value.clone()),
    })
    .collect()
}

/// A location may be a path on the same server.
fn recorded_location(value: &str) -> String {
    if value.contains("://") {
        return recorded_url(value);
    }
    // The rules for queries are the same on any server.
    let separator = if value.starts_with('/') { "" } else { "/" };
    let whole = recorded_url(&format!("http://relative.invalid{separator}{value}"));
    let path = whole.strip_prefix("http://relative.invalid").unwrap_or_default();
    path.strip_prefix(separator).unwrap_or(path).to_owned()
}

/// Who gets an answer, a little behind what is known of it.
pub(crate) struct Client<'a> {
    out: &'a mut dyn Write,
    status: u16,
    headers: Vec<(String, String)>,
    framing: Framing,
    keep_alive: bool,
    held: Vec<u8>,
    begun: bool,
    /// It closed the connection; the rest is recorded all the same.
    gone: bool,
}

impl<'a> Client<'a> {
    /// Prepares to pass an answer on, whose head says how long its body is.
    pub(crate) fn new(
        request: &Request,
        response: &UpstreamResponse,
        has_body: bool,
        out: &'a mut dyn Write,
    ) -> Self {
        let length = length(response);
        let framing = match (has_body, length) {
            (_, Some(length)) => Framing::Length(length),
            (false, None) => Framing::Length(0),
            (true, None) if request.understands_chunks => Framing::Chunks,
            (true, None) => Framing::Close,
        };
        let headers = response.headers.iter().filter(|(name, _)| is_of_the_answer(name));
        Self {
            out,
            status: response.status,
            headers: headers.cloned().collect(),
            framing,
            keep_alive: request.keep_alive,
            held: Vec::new(),
            begun: false,
            gone: false,
        }
    }

    pub(crate) const fn is_gone(&self) -> bool {
        self.gone
    }

    fn push(&mut self, bytes: &[u8]) {
        // The end gives no bytes, and must not let go of the last ones.
        if !bytes.is_empty() && self.held.len() + bytes.len() > HELD_BYTES {
            self.release();
        }
        self.held.extend_from_slice(bytes);
    }

    fn release(&mut self) {
        if !self.gone && self.write().is_err() {
            self.gone = true;
        }
        self.held.clear();
    }

    fn write(&mut self) -> io::Result<()> {
        if !self.begun {
            self.begun = true;
            write_head(self.out, self.status, &self.headers, self.framing, self.keep_alive)?;
        }
        if self.held.is_empty() {
            return Ok(());
        }
        if self.framing == Framing::Chunks {
            write!(self.out, "{:x}\r\n", self.held.len())?;
            self.out.write_all(&self.held)?;
            self.out.write_all(b"\r\n")?;
        } else {
            self.out.write_all(&self.held)?;
        }
        self.out.flush()
    }

    pub(crate) fn finish(mut self) -> io::Result<After> {
        self.release();
        if self.gone {
            return Ok(After::Close);
        }
        if self.framing == Framing::Chunks {
            self.out.write_all(b"0\r\n\r\n")?;
        }
        self.out.flush()?;
        let goes_on = self.keep_alive && self.framing != Framing::Close;
        Ok(if goes_on { After::KeepAlive } else { After::Close })
    }

    /// Ends an answer that must not be had whole: with a refusal, or by breaking off.
    pub(crate) fn abandon(self, request: &Request, status: u16, text: &str) -> io::Result<After> {
        if self.begun || self.gone {
            return Err(io::Error::from(io::ErrorKind::ConnectionAborted));
        }
        told(request, self.out, status, text)
    }
}

/// Reads from a server and shows the client what it read before.
pub(crate) struct Tee<'t, 'c> {
    pub(crate) body: Box<dyn Read + Send>,
    pub(crate) client: &'t mut Client<'c>,
    pub(crate) state: &'t StepState,
}

impl Read for Tee<'_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.state.is_stopped() {
            return Err(io::Error::other("the build was stopped"));
        }
        let count = self.body.read(buffer)?;
        self.client.push(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}
