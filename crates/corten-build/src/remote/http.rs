//! Files over HTTP.
//!
//! A file is kept in the store by its digest, with what the server said of it. The next build asks
//! whether that still holds; one with `--checksum` does not even ask.

use std::io::Read;

use corten_oci::digest::Digest;
use corten_oci::time;
use corten_record::recorded_url;
use corten_store::{Expect, Lease, StoreError};
use corten_sys::file;
use serde_json::{Value, json};

use super::address::file_name;
use super::credentials;
use super::unpack::REMOTE_BYTES_MAX;
use crate::recording::SourceMaterial;

use super::{Address, Fetched, Fetching, Held, HttpSource, RemoteError, below, quoted};

/// Ten are what browsers and Go's client follow at least; more is a loop.
const REDIRECTS_MAX: u32 = 10;

/// The store's name for what servers said.
const RECORD_KIND: &str = "http-response";

/// The name of a file whose address gives none; BuildKit's.
const UNNAMED: &str = "__unnamed__";

/// The longest validator that is kept and sent.
const VALIDATOR_BYTES_MAX: usize = 1024;

/// Asks for something over HTTP, once: redirections are answers.
pub trait Fetcher: Send + Sync {
    fn fetch(&self, request: &FetchRequest<'_>) -> Result<FetchResponse, FetchError>;
}

/// What is asked for.
#[derive(Clone, Copy)]
#[expect(missing_debug_implementations, reason = "the address may have credentials")]
pub struct FetchRequest<'a> {
    /// With credentials, if there are any.
    pub url: &'a str,
    /// For `Authorization`.
    pub authorization: Option<&'a str>,
    /// For `If-None-Match`.
    pub etag: Option<&'a str>,
    /// For `If-Modified-Since`.
    pub last_modified: Option<&'a str>,
}

/// What a server answered.
#[expect(missing_debug_implementations, reason = "a reader has no text")]
pub struct FetchResponse {
    pub status: u16,
    pub location: Option<String>,
    pub etag: Option<String>,
    pub last_modified: Option<String>,
    pub content_disposition: Option<String>,
    pub content_length: Option<u64>,
    pub body: Box<dyn Read + Send>,
}

/// There was no answer.
#[derive(Debug, thiserror::Error)]
#[error("failed to fetch `{url}`")]
pub struct FetchError {
    /// Without credentials.
    pub url: String,
    pub hint: Option<String>,
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// What is known of an address.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Record {
    digest: Digest,
    etag: Option<String>,
    last_modified: Option<String>,
    /// From `Content-Disposition`.
    name: Option<String>,
}

/// Fetches a file; it lies alone in the directory.
pub(crate) fn fetch(fetching: &Fetching<'_>, source: &HttpSource) -> Result<Fetched, RemoteError> {
    // Held until the content was copied, so that nobody removes it before.
    let lease = fetching.store.lease()?;
    let pin = pinned(fetching, source)?;
    let record = settle(fetching, source, pin, &lease)?;
    let material =
        SourceMaterial::Http { url: recorded_url(source.address.shown()), sha256: record.digest };
    let own = source.address.file_name();
    let name = own.or_else(|| record.name.clone()).unwrap_or_else(|| UNNAMED.to_owned());
    let staging = fetching.store.stage()?;
    let path = below(staging.tree(), &name);
    let missing = || StoreError::BlobDamaged { expected: record.digest, found: record.digest };
    let from = fetching.store.open_blob(&record.digest)?.ok_or_else(missing)?;
    let to = file::create_new(&path, 0o600)?;
    file::copy(&from, &to, &path)?;
    file::set_mode(&path, 0o600)?;
    drop(lease);
    let modified = record.last_modified.as_deref().and_then(parse_date);
    let material = Some(Box::new(material));
    Ok(Fetched { held: Held::Staging(staging), path: name, modified, time: modified, material })
}

/// What a lock says that the content must be.
fn pinned(fetching: &Fetching<'_>, source: &HttpSource) -> Result<Option<Digest>, RemoteError> {
    let Some(lock) = fetching.lock else { return Ok(None) };
    let url = recorded_url(source.address.shown());
    let found = lock.materials.sources.iter().find_map(|known| match known {
        SourceMaterial::Http { url: known, sha256 } if *known == url => Some(*sha256),
        _ => None,
    });
    let (address, lock) = (source.address.to_string(), lock.name.clone());
    found.map(Some).ok_or(RemoteError::NotLocked { address, lock })
}

/// Sees to it that the content is in the store.
fn settle(
    fetching: &Fetching<'_>,
    source: &HttpSource,
    pin: Option<Digest>,
    lease: &Lease,
) -> Result<Record, RemoteError> {
    let store = fetching.store;
    let key = source.address.shown();
    let here = |key: &str| -> Result<Option<Record>, RemoteError> {
        let known = store.aux(RECORD_KIND, key)?.as_deref().and_then(Record::from_bytes);
        match known {
            Some(known) if lease.pin_blob(&known.digest)? => Ok(Some(known)),
            _ => Ok(None),
        }
    };
    let known = here(key)?;
    if let Some(wanted) = source.checksum.or(pin) {
        // Another build may have taken what the address has had since.
        let older = here(&version_key(key, &wanted))?;
        if let Some(known) = [&known, &older].into_iter().flatten().find(|r| r.digest == wanted) {
            return Ok(known.clone());
        }
    }
    let address = &source.address;
    if fetching.is_offline {
        return Err(RemoteError::Offline { address: address.to_string() });
    }
    let (response, at) = ask(fetching, address, known.as_ref())?;
    let record = match (response.status, known) {
        (304, Some(known)) => known,
        (200, _) => receive(fetching, &at, response)?,
        (status, _) => return Err(RemoteError::Status { address: at.to_string(), status }),
    };
    if let Some(expected) = source.checksum
        && expected != record.digest
    {
        let address = address.to_string();
        return Err(RemoteError::Checksum { address, expected, found: record.digest });
    }
    if let (Some(expected), Some(lock)) = (pin, fetching.lock)
        && expected != record.digest
    {
        let address = address.to_string();
        let (expected, found) = (expected.to_string(), record.digest.to_string());
        return Err(RemoteError::Differs { address, lock: lock.name.clone(), expected, found });
    }
    // What was refused is not what the next build has, which may be offline.
    let bytes = record.to_bytes();
    store.put_aux(RECORD_KIND, key, &bytes)?;
    store.put_aux(RECORD_KIND, &version_key(key, &record.digest), &bytes)?;
    Ok(record)
}

/// The name of what a server said of one content; no address has a space.
fn version_key(address: &str, digest: &Digest) -> String {
    format!("{address} {digest}")
}

/// Asks, and follows redirections.
fn ask(
    fetching: &Fetching<'_>,
    address: &Address,
    known: Option<&Record>,
) -> Result<(FetchResponse, Address), RemoteError> {
    let fetcher = fetching.remotes.fetcher.as_ref();
    let fetcher = fetcher.ok_or_else(|| RemoteError::NoFetcher { address: address.to_string() })?;
    let mut at = address.clone();
    for _ in 0..=REDIRECTS_MAX {
        let url = at.with_credentials();
        // A redirection leads to a host that has a secret of its own, or none.
        let authorization = credentials::for_file(fetching.remotes, &at)?;
        let response = fetcher.fetch(&FetchRequest {
            url: &url,
            authorization: authorization.as_deref(),
            etag: known.and_then(|known| known.etag.as_deref()),
            last_modified: known.and_then(|known| known.last_modified.as_deref()),
        })?;
        if !matches!(response.status, 301 | 302 | 303 | 307 | 308) {
            return Ok((response, at));
        }
        let Some(location) = response.location else {
            let address = at.to_string();
            return Err(RemoteError::Status { address, status: response.status });
        };
        let next = at
            .join(&location)
            .map_err(|source| RemoteError::Redirect { address: at.to_string(), source })?;
        if at.is_https() && !next.is_https() {
            return Err(RemoteError::Downgrade { from: at.to_string(), to: next.to_string() });
        }
        at = next;
    }
    Err(RemoteError::Redirects { address: address.to_string(), limit: REDIRECTS_MAX })
}

/// Takes the body into the store.
fn receive(
    fetching: &Fetching<'_>,
    address: &Address,
    mut response: FetchResponse,
) -> Result<Record, RemoteError> {
    let too_large =
        || RemoteError::TooLarge { name: quoted(address), limit_bytes: REMOTE_BYTES_MAX };
    if response.content_length.is_some_and(|length| length > REMOTE_BYTES_MAX) {
        return Err(too_large());
    }
    fetching.say(format!("fetching `{address}`"));
    let expect = Expect { digest: None, limit_bytes: REMOTE_BYTES_MAX };
    let stored = fetching.store.write_blob(&mut response.body, &expect);
    let (digest, size) = stored.map_err(|error| match error {
        StoreError::TooLarge { .. } => too_large(),
        StoreError::Source(source) => RemoteError::Read { name: quoted(address), source },
        other => RemoteError::Store(other),
    })?;
    if let Some(wanted_bytes) = response.content_length.filter(|length| *length != size) {
        let address = address.to_string();
        return Err(RemoteError::Truncated { address, got_bytes: size, wanted_bytes });
    }
    let short = |text: &String| text.len() <= VALIDATOR_BYTES_MAX;
    Ok(Record {
        digest,
        etag: response.etag.filter(short),
        last_modified: response.last_modified.filter(short),
        name: response.content_disposition.as_deref().and_then(disposition_name),
    })
}

impl Record {
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(bytes).ok()?;
        let text = |name: &str| value.get(name).and_then(Value::as_str).map(ToOwned::to_owned);
        let digest = text("digest")?.parse().ok()?;
        let name = text("name").as_deref().and_then(file_name);
        Some(Self { digest, etag: text("etag"), last_modified: text("last_modified"), name })
    }

    fn to_bytes(&self) -> Vec<u8> {
        let value = json!({
            "digest": self.digest.to_string(),
            "etag": self.etag,
            "last_modified": self.last_modified,
            "name": self.name,
        });
        value.to_string().into_bytes()
    }
}

/// The file name of `Content-Disposition: attachment; filename="x"`.
pub(super) fn disposition_name(header: &str) -> Option<String> {
    let parameters = header.split(';').skip(1);
    let value = parameters.filter_map(|pair| pair.split_once('=')).find_map(|(name, value)| {
        name.trim().eq_ignore_ascii_case("filename").then(|| value.trim())
    })?;
    file_name(value.trim_matches('"'))
}

/// Seconds since 1970 of a date as HTTP has it: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub(super) fn parse_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, rest) = text.trim().split_once(", ")?;
    let mut words = rest.split(' ');
    let (day, month, year, clock) = (words.next()?, words.next()?, words.next()?, words.next()?);
    if words.next() != Some("GMT") || words.next().is_some() {
        return None;
    }
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    time::parse_rfc3339(&format!("{year}-{month:02}-{day}T{clock}Z"))
}
