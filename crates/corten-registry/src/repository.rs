//! One repository: manifests by tag or digest, blobs by digest.

use std::io::{self, Read};
use std::sync::Arc;

use corten_oci::digest::{Digest, Hasher};
use corten_oci::image::media_type;
use corten_oci::reference::Reference;

use crate::MANIFEST_BYTES_MAX;
use crate::client::{Client, Host, Scope, escape, required};
use crate::error::RegistryError;
use crate::http::{Call, Payload, header, resolve};

/// The size of the parts of a blob where the registry, or what is before it, takes no more at once.
const PART_BYTES: u64 = 16 << 20;

/// How often a blob is sent from its beginning.
const UPLOADS: u32 = 3;

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
        let mut bytes = Vec::new();
        let read =
            response.into_body().into_reader().take(MANIFEST_BYTES_MAX + 1).read_to_end(&mut bytes);
        read.map_err(|error| call.protocol(format!("it broke off: {error}")))?;
        if bytes.len() as u64 > MANIFEST_BYTES_MAX {
            return Err(call.protocol("it is larger than a manifest may be"));
        }
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
        match response.status().as_u16() {
            200..=299 => Ok(Digest::of(bytes)),
            _ => Err(call.refused(&self.host.endpoint.registry, response)),
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

    /// Opens a blob for reading. It ends with an error unless it has the size and the digest.
    pub fn open_blob(
        &self,
        digest: &Digest,
        size: u64,
    ) -> Result<Box<dyn Read + Send>, RegistryError> {
        let what = format!("read a blob of `{}`", self.reference.name());
        let mut call = self.call(&what, "GET", &format!("blobs/{digest}"))?;
        let response = self.client.authorized(&self.host, &self.scope(false), &mut call)?;
        if response.status().as_u16() != 200 {
            return Err(call.refused(&self.host.endpoint.registry, response));
        }
        let inner = Box::new(response.into_body().into_reader());
        Ok(Box::new(Verified { inner, hasher: Hasher::new(), left: size, expected: *digest }))
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
        let mut parts = false;
        for number in 1.. {
            let sent = self.upload(&what, digest, size, from, open, parts);
            match &sent {
                // A limit of what is between us and the registry.
                Err(RegistryError::Status { status: 413, .. }) if !parts => parts = true,
                Err(error) if number < UPLOADS && may_be_sent_again(error) => {}
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

/// Hashes what it reads, and fails at the end if that is not what it should be.
struct Verified {
    inner: Box<dyn Read + Send>,
    hasher: Hasher,
    left: u64,
    expected: Digest,
}

impl Read for Verified {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let wrong = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
        let Some(left) = self.left.checked_sub(count as u64) else {
            return Err(wrong("the registry sent more than the blob has"));
        };
        self.left = left;
        if count == 0 && !buffer.is_empty() {
            if self.left > 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            if self.hasher.finish() != self.expected {
                return Err(wrong("the registry sent content with another digest"));
            }
        }
        self.hasher.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}
