//! The proxy as a cache of downloads: packages are kept from build to build, everything else is
//! passed on.
//!
//! What is kept is decided narrowly, since a program must never get something else than it would
//! have got from the server:
//! - a package that its own package manager asks for, whole and without conditions, credentials,
//!   cookies or a query;
//! - an answer that says how long it is good for, or can be asked about again. Only within the time
//!   that the server gave it is it handed out without asking (RFC 9111, as a shared cache). Of a
//!   server that says nothing, what lies at an address that names its content.
//!
//! A kept blob is hashed before it is handed out; a damaged one is as good as none.

use std::io::{self, Read, Write};
use std::sync::Arc;

use corten_oci::digest::{Digest, Hasher};
use corten_store::{Download, Expect, Store, StoreError};
use corten_sys::clock::{Clock as _, SystemClock};
use serde::{Deserialize, Serialize};

use crate::address::{is_redacted, recorded_url};
use crate::classify::classify;
use crate::entry::{Artifact, Class, Kind};
use crate::exchange::{
    After, Asked, Client, OWN, Tee, header, is_of_the_answer, length, send, told,
};
use crate::http::{Framing, Request, has_token, write_head};
use crate::recorder::StepState;
use crate::upstream::UpstreamResponse;

/// The largest thing that is kept: the largest wheels have 3 GB.
const KEPT_BYTES_MAX: u64 = 4 << 30;

/// All downloads together; those that were used the longest ago go first.
pub(crate) const TOTAL_BYTES_MAX: u64 = 20 << 30;

/// The most bytes of the headers of an answer that are kept with it.
const HEADERS_BYTES_MAX: usize = 16 * 1024;

/// How long something is handed out whose server says nothing at all, if its address names its
/// content.
const SILENT_SECONDS: i64 = 30 * 24 * 60 * 60;

/// Headers of a request for a part of something, or for something on a condition.
const CONDITIONAL: [&str; 6] =
    ["if-match", "if-modified-since", "if-none-match", "if-range", "if-unmodified-since", "range"];

/// Whether a header of a request makes its answer one for this client alone, or not a whole one.
fn is_own_answer(name: &str) -> bool {
    matches!(name, "authorization" | "cookie") || CONDITIONAL.contains(&name)
}

/// Headers that are about the moment of an answer.
const PASSING: [&str; 3] = ["age", "date", "set-cookie"];

/// What is kept with a content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    headers: Vec<(String, String)>,
    /// Until when the server need not be asked, in seconds since 1970.
    fresh_until: i64,
}

/// What the store has for a request, its content checked.
struct Found {
    download: Download,
    kept: Kept,
    file: std::fs::File,
}

/// Answers a request from what was kept, or by asking the server.
pub(crate) fn answer(
    asked: &Asked<'_>,
    out: &mut dyn Write,
    state: &Arc<StepState>,
) -> io::Result<After> {
    let request = asked.request;
    let address = is_keepable(request, &asked.url).then_some(asked.url.as_str());
    let found = address.and_then(|address| find(&state.shared.store, address));
    let found = match found {
        Some(found) if now() < found.kept.fresh_until => {
            state.served();
            return serve(found, request, out);
        }
        found => found,
    };
    let mut headers = passed(request);
    if let Some(found) = &found {
        headers.extend(conditions(&found.kept.headers));
    }
    let Some(upstream) = state.shared.upstream.as_deref() else {
        state.failed("there is nothing to ask servers with".to_owned());
        return told(request, out, 502, "there is nothing to ask servers with");
    };
    let response = match asked.send(upstream, &headers, state) {
        Ok(response) => response,
        Err(message) => return told(request, out, 502, &message),
    };
    match (address, found) {
        (Some(address), Some(found)) if response.status == 304 => {
            renew(&state.shared.store, address, &found, &response, state);
            serve(found, request, out)
        }
        (address, _) => Passing { asked, address, state }.relay(response, out),
    }
}

/// Whether the answer to a request is the same for everybody, if there is one.
fn is_keepable(request: &Request, url: &str) -> bool {
    let is_plain = request.method == "GET"
        && request.body.is_empty()
        && !url.contains('?')
        && !is_redacted(&recorded_url(url))
        && !request.headers.iter().any(|(name, _)| is_own_answer(name));
    let agent = request.header("user-agent").unwrap_or_default();
    is_plain && matches!(classify("GET", url, agent, b""), Class::Artifact(a) if is_package(&a))
}

/// Whether something is a package, and asked for by a program that knows it as one: what another
/// program fetches by such a name may be a file that changes.
fn is_package(artifact: &Artifact) -> bool {
    let tools: &[&str] = match artifact.kind {
        Kind::Deb => &["apt"],
        Kind::Wheel | Kind::Sdist => &["pip", "uv", "poetry", "pdm"],
        Kind::Npm => &["npm", "pnpm", "yarn", "bun"],
        Kind::Conda => &["conda"],
        Kind::Crate => &["cargo"],
        Kind::Go | Kind::Git | Kind::File => &[],
    };
    tools.contains(&artifact.tool.as_str())
}

/// Finds what is kept of an address; nothing if it is damaged.
fn find(store: &Store, address: &str) -> Option<Found> {
    // A store that fails here costs a download; where it matters it fails again.
    let download = store.download(address).ok().flatten()?;
    let kept: Kept = serde_json::from_value(download.payload.clone()).ok()?;
    let mut file = store.open_blob(&download.digest).ok().flatten()?;
    let found = hash(&mut file).ok()?;
    (found == (download.digest, download.size_bytes)).then_some(Found { download, kept, file })
}

fn hash(file: &mut std::fs::File) -> io::Result<(Digest, u64)> {
    let mut hasher = Hasher::new();
    let mut buffer = vec![0; 256 * 1024];
    let mut size: u64 = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok((hasher.finish(), size)),
            Ok(count) => {
                size += count as u64;
                hasher.update(buffer.get(..count).unwrap_or_default());
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Hands out what was kept.
fn serve(found: Found, request: &Request, out: &mut dyn Write) -> io::Result<After> {
    let framing = Framing::Length(found.download.size_bytes);
    write_head(out, 200, &found.kept.headers, framing, request.keep_alive)?;
    send(found.file, 0, found.download.size_bytes, out)?;
    out.flush()?;
    Ok(if request.keep_alive { After::KeepAlive } else { After::Close })
}

/// What the server gets to see of the headers of a client: all but those of the connection.
fn passed(request: &Request) -> Vec<(String, String)> {
    let is_end_to_end = |name: &str| name == "accept-encoding" || CONDITIONAL.contains(&name);
    let named = request.header("connection").unwrap_or_default();
    let is_hop =
        |name: &str| (OWN.contains(&name) && !is_end_to_end(name)) || has_token(named, name);
    request.headers.iter().filter(|(name, _)| !is_hop(name)).cloned().collect()
}

/// Asks whether something is still as it was kept.
fn conditions(kept: &[(String, String)]) -> Vec<(String, String)> {
    let condition = |name: &str, validator: &str| {
        header(kept, validator).map(|value| (name.to_owned(), value.to_owned()))
    };
    let of_time = condition("if-modified-since", "last-modified");
    condition("if-none-match", "etag").or(of_time).into_iter().collect()
}

/// Notes that something is still as it was kept.
fn renew(
    store: &Store,
    address: &str,
    found: &Found,
    response: &UpstreamResponse,
    state: &StepState,
) {
    let control = header(&response.headers, "cache-control");
    let control = control.or_else(|| header(&found.kept.headers, "cache-control"));
    let lifetime = lifetime(control.unwrap_or_default(), header(&response.headers, "age"));
    let kept = Kept {
        headers: found.kept.headers.clone(),
        fresh_until: now().saturating_add(lifetime.unwrap_or_default()),
    };
    put(store, address, found.download.digest, found.download.size_bytes, &kept, state);
}

fn put(
    store: &Store,
    address: &str,
    digest: Digest,
    size_bytes: u64,
    kept: &Kept,
    state: &StepState,
) {
    // Texts and numbers are always JSON.
    let payload = serde_json::to_value(kept).unwrap_or_default();
    // Who asked has what it asked for; a store that is full only costs the next build a download.
    if store.put_download(address, &Download { digest, size_bytes, payload }).is_ok() {
        state.kept();
    }
}

/// An answer on its way through.
struct Passing<'a> {
    asked: &'a Asked<'a>,
    /// Where it may be kept.
    address: Option<&'a str>,
    state: &'a Arc<StepState>,
}

impl Passing<'_> {
    fn relay(&self, response: UpstreamResponse, out: &mut dyn Write) -> io::Result<After> {
        let request = self.asked.request;
        let has_body = request.method != "HEAD" && !matches!(response.status, 204 | 304);
        let keeping = self.address.and_then(|address| Some((address, kept(&response, address)?)));
        let length = length(&response);
        let mut client = Client::new(request, &response, has_body, out);
        if !has_body {
            return client.finish();
        }
        let mut tee = Tee { body: response.body, client: &mut client, state: self.state };
        let passed = match keeping {
            Some((address, kept)) => self.keep(&mut tee, address, &kept, length),
            None => drain(&mut tee).map(|()| length.unwrap_or_default()),
        };
        match passed {
            Ok(_) => client.finish(),
            Err(error) => {
                if !client.is_gone() {
                    let url = recorded_url(&self.asked.url);
                    self.state.failed(format!("`{url}` could not be fetched: {error}"));
                }
                client.abandon(request, 502, &format!("the transfer failed: {error}"))
            }
        }
    }

    /// Takes the body into the store while the client gets it. A store that fails does not keep the
    /// client from it.
    fn keep(
        &self,
        tee: &mut Tee<'_, '_>,
        address: &str,
        kept: &Kept,
        length: Option<u64>,
    ) -> io::Result<u64> {
        let store = &self.state.shared.store;
        let expect = Expect { digest: None, limit_bytes: KEPT_BYTES_MAX };
        match store.write_blob(tee, &expect) {
            Ok((digest, size)) if length.is_none_or(|length| length == size) => {
                put(store, address, digest, size, kept, self.state);
                Ok(size)
            }
            Ok((_, size)) => {
                let text = format!("it broke off after {size} of {} bytes", length.unwrap_or(0));
                Err(io::Error::other(text))
            }
            Err(StoreError::Source(error)) => Err(error),
            Err(_) => drain(tee).map(|()| 0),
        }
    }
}

/// Passes on to the end, as long as somebody listens.
fn drain(tee: &mut Tee<'_, '_>) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match tee.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(_) if tee.client.is_gone() => {
                return Err(io::Error::from(io::ErrorKind::BrokenPipe));
            }
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// What is to be kept of an answer beside its content; nothing if it must not be.
fn kept(response: &UpstreamResponse, address: &str) -> Option<Kept> {
    let get = |name: &str| header(&response.headers, name);
    let is_whole = response.status == 200
        && (length(response).is_some() || get("transfer-encoding").is_some())
        && length(response).is_none_or(|length| length <= KEPT_BYTES_MAX)
        && get("content-encoding").is_none_or(|coding| coding == "identity");
    let same_for_all = |vary: &str| {
        let mut names = vary.split(',').map(str::trim_ascii);
        names.all(|name| {
            ["accept-encoding", "origin"].iter().any(|one| name.eq_ignore_ascii_case(one))
        })
    };
    if !is_whole || get("set-cookie").is_some() || !get("vary").is_none_or(same_for_all) {
        return None;
    }
    let is_silent =
        ["cache-control", "etag", "last-modified"].iter().all(|name| get(name).is_none());
    let lifetime = if is_silent && names_content(address) {
        SILENT_SECONDS
    } else {
        lifetime(get("cache-control").unwrap_or_default(), get("age"))?
    };
    let headers = response
        .headers
        .iter()
        .filter(|(name, _)| is_of_the_answer(name) && !PASSING.contains(&name.as_str()));
    let headers: Vec<(String, String)> = headers.cloned().collect();
    let bytes: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > HEADERS_BYTES_MAX || (lifetime == 0 && conditions(&headers).is_empty()) {
        return None;
    }
    Some(Kept { headers, fresh_until: now().saturating_add(lifetime) })
}

/// Whether an address is one of a form that means one content for ever: the pool of Debian,
/// directories of wheels named by a digest, tarballs of npm. The tools that ask for these check a digest.
fn names_content(address: &str) -> bool {
    let is_digest = |part: &str| part.len() >= 32 && part.bytes().all(|b| b.is_ascii_hexdigit());
    let ends = |endings: &[&str]| endings.iter().any(|ending| address.ends_with(ending));
    (ends(&[".deb"]) && address.contains("/pool/"))
        || (ends(&[".tgz"]) && address.contains("/-/"))
        || (ends(&[".whl", ".tar.gz", ".zip"]) && address.split('/').any(is_digest))
}

/// How many seconds a shared cache may hand something out without asking, by `Cache-Control` and
/// `Age`; `None` if it must not keep it.
fn lifetime(control: &str, age: Option<&str>) -> Option<i64> {
    let mut own = None;
    let mut shared = None;
    let mut must_ask = false;
    for directive in control.split(',') {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        let seconds = || value.trim().trim_matches('"').parse::<i64>().unwrap_or(0).max(0);
        match name.trim().to_ascii_lowercase().as_str() {
            "no-store" | "private" => return None,
            "no-cache" => must_ask = true,
            "max-age" => own = Some(seconds()),
            "s-maxage" => shared = Some(seconds()),
            _ => {}
        }
    }
    if must_ask {
        return Some(0);
    }
    let age = age.and_then(|age| age.trim().parse::<i64>().ok()).unwrap_or(0).max(0);
    Some(shared.or(own).unwrap_or(0).saturating_sub(age).max(0))
}

fn now() -> i64 {
    SystemClock.now().seconds
}
