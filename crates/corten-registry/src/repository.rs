//! One repository: manifests by tag or digest, blobs by digest.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use corten_oci::digest::{Digest, Hasher};
use corten_oci::image::media_type;
use corten_oci::reference::Reference;
use ureq::Body;
use ureq::http::Response;

use crate::MANIFEST_BYTES_MAX;
use crate::client::{Client, Host, Scope, escape, required};
use crate::error::RegistryError;
use crate::http::{Call, Payload, header, resolve};

/// The size of the parts of a blob where the registry, or what is before it, takes no more at once.
const PART_BYTES: u64 = 16 << 20;

/// How often a blob is sent from its beginning.
const UPLOADS: u32 = 3;

/// The wait before a blob is sent again; it doubles.
const UPLOAD_WAIT: Duration = Duration::from_secs(1);

/// How often a blob that breaks off is read on.
const RESUMES: u32 = 3;

/// A repository of a registry.
#[derive(Debug, Clone)]
pub struct Repository {
    client: Client,
    host: Arc<Host>,
    reference: Reference,
}

/// A manifest or an index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    pub media_type: String,
    pub digest: Digest,
    pub bytes: Vec<u8>,
}

/// Opens what is to be sent from its beginning.
pub type Open<'a> = &'a dyn Fn() -> io::Result<Box<dyn Read + 'a>>;

impl Repository {
    pub(crate) fn new(client: Client, host: Arc<Host>, reference: &Reference) -> Self {
        Self { client, host, reference: reference.clone() }
    }

    /// Returns the name that this repository was asked for by.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Reads a manifest by a tag or a digest; `None` if it is not there.
    pub fn manifest(&self, name: &str) -> Result<Option<Document>, RegistryError> {
        let what = format!("read the manifest `{name}` of `{}`", self.reference.name());
        let mut call = self.call(&what, "GET", &format!("manifests/{name}"))?;
        let accepted = [
            media_type::MANIFEST,
            media_type::INDEX,
            media_type::DOCKER_MANIFEST,
            media_type::DOCKER_INDEX,
        ];
        call.headers.push(("Accept", accepted.join(", ")));
        let response = self.client.authorized(&self.host, &self.scope(false), &mut call)?;
        match response.status().as_u16() {
            200 => {}
            404 => return Ok(None),
            _ => return Err(call.refused(&self.host.endpoint.registry, response)),
        }
        let kind = header(&response, "content-type").unwrap_or(media_type::MANIFEST);
        let media_type = kind.split(';').next().unwrap_or_default().trim().to_owned();
        let bytes = self.client.http()?.read_again(&mut call, response, MANIFEST_BYTES_MAX)?;
        let found = Digest::of(&bytes);
        if let Ok(expected) = name.parse::<Digest>()
            && expected != found
        {
            return Err(RegistryError::Digest { what, expected, found });
        }
        Ok(Some(Document { media_type, digest: found, bytes }))
    }

    /// Writes a manifest under a tag or its digest.
    pub fn put_manifest(
        &self,
        name: &str,
        media_type: &str,
        bytes: &[u8],
    ) -> Result<Digest, RegistryError> {
        let what = format!("write the manifest `{name}` of `{}`", self.reference.name());
        let mut call = self.call(&what, "PUT", &format!("manifests/{name}"))?;
        call.headers.push(("Content-Type", media_type.to_owned()));
        call.payload = Payload::Bytes(bytes);
        let response = self.client.authorized(&self.host, &self.scope(true), &mut call)?;
        if !(200..=299).contains(&response.status().as_u16()) {
            return Err(call.refused(&self.host.endpoint.registry, response));
        }
        let expected = Digest::of(bytes);
        let told = header(&response, "docker-content-digest").and_then(|text| text.parse().ok());
        match told {
            Some(found) if found != expected => {
                Err(RegistryError::Digest { what, expected, found })
            }
            _ => Ok(expected),
        }
    }

    /// Whether a blob is there.
    pub fn has_blob(&self, digest: &Digest) -> Result<bool, RegistryError> {
        let what = format!("look for a blob in `{}`", self.reference.name());
        let mut call = self.call(&what, "HEAD", &format!("blobs/{digest}"))?;
        let response = self.client.authorized(&self.host, &self.scope(true), &mut call)?;
        match response.status().as_u16() {
            200 => Ok(true),
            404 => Ok(false),
            _ => Err(call.refused(&self.host.endpoint.registry, response)),
        }
    }

    /// Opens a blob for reading. It ends with an error unless it has the size and the digest; where a
    /// connection breaks off, it is read on from there.
    pub fn open_blob(
        &self,
        digest: &Digest,
        size: u64,
    ) -> Result<Box<dyn Read + Send>, RegistryError> {
        let inner = self.blob_from(digest, 0)?;
        Ok(Box::new(Verified {
            repository: self.clone(),
            inner,
            hasher: Hasher::new(),
            size,
            left: size,
            expected: *digest,
            resumed: 0,
        }))
    }

    /// Opens a blob at a place in it.
    fn blob_from(
        &self,
        digest: &Digest,
        start: u64,
    ) -> Result<Box<dyn Read + Send>, RegistryError> {
        let what = format!("read a blob of `{}`", self.reference.name());
        let mut call = self.call(&what, "GET", &format!("blobs/{digest}"))?;
        call.is_content = true;
        if start > 0 {
            call.headers.push(("Range", format!("bytes={start}-")));
        }
        let response = self.client.authorized(&self.host, &self.scope(false), &mut call)?;
        let status = response.status().as_u16();
        let mut skip = 0;
        match status {
            // Who knows no ranges sends everything again.
            200 => skip = start,
            206 if start > 0 && begins_at(&response, start) => {}
            206 => return Err(call.protocol("it is another part than the one that was asked for")),
            _ => return Err(call.refused(&self.host.endpoint.registry, response)),
        }
        let mut inner = response.into_body().into_reader();
        let skipped = io::copy(&mut inner.by_ref().take(skip), &mut io::sink());
        skipped.map_err(|error| call.protocol(format!("it broke off: {error}")))?;
        Ok(Box::new(inner))
    }

    /// Sends a blob unless it is there, or lets the registry take it from another repository of its
    /// own. Returns whether it was sent.
    pub fn put_blob(
        &self,
        digest: &Digest,
        size: u64,
        from: Option<&str>,
        open: Open<'_>,
    ) -> Result<bool, RegistryError> {
        if self.has_blob(digest)? {
            return Ok(false);
        }
        let what = format!("write a blob to `{}`", self.reference.name());
        let (mut parts, mut wait) = (false, UPLOAD_WAIT);
        for number in 1.. {
            let sent = self.upload(&what, digest, size, from, open, parts);
            match &sent {
                // A limit of what is between us and the registry.
                Err(RegistryError::Status { status: 413, .. }) if !parts => parts = true,
                Err(error) if number < UPLOADS && may_be_sent_again(error) => {
                    // A registry that is busy is so for longer than it takes to ask again. A login that
                    // was made meanwhile has nothing to wait for.
                    if !matches!(error, RegistryError::Login { .. }) {
                        std::thread::sleep(wait);
                        wait *= 2;
                    }
                }
                _ => return sent,
            }
        }
        unreachable!("the last upload returns")
    }

    fn upload(
        &self,
        what: &str,
        digest: &Digest,
        size: u64,
        from: Option<&str>,
        open: Open<'_>,
        parts: bool,
    ) -> Result<bool, RegistryError> {
        let mut path = "blobs/uploads/".to_owned();
        let scope = Scope { from: from.map(ToOwned::to_owned), ..self.scope(true) };
        if let Some(from) = from {
            path.push_str(&format!("?mount={}&from={}", escape(&digest.to_string()), escape(from)));
        }
        let mut call = self.call(what, "POST", &path)?;
        let response = self.client.authorized(&self.host, &scope, &mut call)?;
        match response.status().as_u16() {
            201 => return Ok(false),
            202 => {}
            _ => return Err(call.refused(&self.host.endpoint.registry, response)),
        }
        let mut location = resolve(&call.url, required(&call, &response, "location")?);
        drop(response);
        let mut stream =
            open().map_err(|source| RegistryError::Content { what: what.to_owned(), source })?;
        if parts {
            location = self.send_parts(what, &location, size, stream.as_mut())?;
        }
        let separator = if location.contains('?') { '&' } else { '?' };
        let url = format!("{location}{separator}digest={}", escape(&digest.to_string()));
        let mut call = Call { url, ..self.call(what, "PUT", "")? };
        if !parts {
            call.headers.push(("Content-Type", "application/octet-stream".to_owned()));
            call.payload = Payload::Stream(stream.as_mut(), size);
        }
        let response = self.client.authorized(&self.host, &scope, &mut call)?;
        match response.status().as_u16() {
            200..=299 => Ok(true),
            _ => Err(call.refused(&self.host.endpoint.registry, response)),
        }
    }

    /// Sends a blob in parts; returns where it is completed.
    fn send_parts(
        &self,
        what: &str,
        location: &str,
        size: u64,
        stream: &mut dyn Read,
    ) -> Result<String, RegistryError> {
        let mut location = location.to_owned();
        let mut start = 0;
        while start < size {
            let length = PART_BYTES.min(size - start);
            let mut part = stream.take(length);
            let mut call = Call { url: location.clone(), ..self.call(what, "PATCH", "")? };
            call.headers.push(("Content-Type", "application/octet-stream".to_owned()));
            call.headers.push(("Content-Range", format!("{start}-{}", start + length - 1)));
            call.payload = Payload::Stream(&mut part, length);
            let response = self.client.authorized(&self.host, &self.scope(true), &mut call)?;
            if response.status().as_u16() != 202 {
                return Err(call.refused(&self.host.endpoint.registry, response));
            }
            location = resolve(&call.url, required(&call, &response, "location")?);
            start += length;
        }
        Ok(location)
    }

    fn scope(&self, push: bool) -> Scope {
        Scope { repository: self.reference.repository().to_owned(), push, from: None }
    }

    fn call<'a>(
        &self,
        what: &'a str,
        method: &'static str,
        path: &str,
    ) -> Result<Call<'a>, RegistryError> {
        let base = self.client.base(&self.host, what)?;
        Ok(Call {
            what,
            method,
            url: format!("{base}/v2/{}/{path}", self.reference.repository()),
            headers: Vec::new(),
            payload: Payload::Nothing,
            insecure: self.host.endpoint.insecure,
            is_content: false,
            is_elsewhere: false,
        })
    }
}

/// What ended in the middle: a connection, a moment's failure of the registry, or a token's life.
fn may_be_sent_again(error: &RegistryError) -> bool {
    match error {
        RegistryError::Transport { .. } => true,
        RegistryError::Status { status, .. } => matches!(status, 404 | 408 | 429 | 500..=599),
        RegistryError::Login { had_credentials, .. } => !had_credentials,
        _ => false,
    }
}

/// Whether an answer is the part of a blob from a place on.
fn begins_at(response: &Response<Body>, start: u64) -> bool {
    let range = header(response, "content-range").and_then(|text| text.strip_prefix("bytes "));
    let first = range.and_then(|range| range.split('-').next()).map(str::parse::<u64>);
    matches!(first, Some(Ok(found)) if found == start)
}

/// Hashes what it reads, and fails at the end if that is not what it should be.
struct Verified {
    repository: Repository,
    inner: Box<dyn Read + Send>,
    hasher: Hasher,
    size: u64,
    left: u64,
    expected: Digest,
    /// How often it was opened again.
    resumed: u32,
}

impl Verified {
    /// Reads on where a connection has broken off.
    fn read_on(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let broken = match self.inner.read(buffer) {
                Ok(0) if self.left > 0 && !buffer.is_empty() => {
                    io::Error::from(io::ErrorKind::UnexpectedEof)
                }
                Ok(count) => return Ok(count),
                Err(error) => error,
            };
            if self.resumed == RESUMES {
                return Err(broken);
            }
            self.resumed += 1;
            let start = self.size - self.left;
            // What went wrong first says more than what went wrong then.
            let Ok(inner) = self.repository.blob_from(&self.expected, start) else {
                return Err(broken);
            };
            self.inner = inner;
        }
    }
}

impl Read for Verified {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.read_on(buffer)?;
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let Some(left) = self.left.checked_sub(count as u64) else {
            return Err(wrong("the registry sent more than the blob has"));
        };
        self.left = left;
        if count == 0 && !buffer.is_empty() && self.hasher.finish() != self.expected {
            return Err(wrong("the registry sent content with another digest"));
        }
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}
