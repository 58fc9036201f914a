//! One layer as a compressed stream.

use std::io::{self, BufWriter, Read, Write};

use corten_oci::digest::{DiffId, Digest, HashingReader, HashingWriter};
use corten_oci::limits;
use flate2::write::GzEncoder;

use super::bundle::Compression;
use super::files::{Limited, decompress};
use crate::error::StoreError;
use crate::layer::Layer;
use crate::store::Store;

/// What is written at once.
const BUFFER_BYTES: usize = 256 * 1024;

/// What small streams may grow to whatever the ratio says: gzip's header alone has 18 bytes.
const EXPANSION_FLOOR_BYTES: u64 = 64 << 20;

/// Writes the tar of a layer, compressed; returns the digest and the size of what was written.
///
/// The same layer and compression give the same bytes.
pub fn write_layer(
    store: &Store,
    layer: &Layer,
    compression: Compression,
    out: &mut dyn Write,
) -> Result<(Digest, u64), StoreError> {
    let out = HashingWriter::new(BufWriter::with_capacity(BUFFER_BYTES, out));
    let fill = |encoder: &mut dyn Write| {
        let mut encoder = BufWriter::with_capacity(BUFFER_BYTES, encoder);
        store.write_layer_tar(layer, &mut encoder)?;
        encoder.flush().map_err(StoreError::Sink)
    };
    let out = match compression {
        Compression::Uncompressed => {
            let mut out = out;
            fill(&mut out)?;
            out
        }
        Compression::Gzip { level } => {
            // Neither a time nor a name is in its header.
            let mut encoder = GzEncoder::new(out, flate2::Compression::new(level.min(9)));
            fill(&mut encoder)?;
            encoder.finish().map_err(StoreError::Sink)?
        }
        Compression::Zstd { level } => {
            let mut encoder = zstd::Encoder::new(out, level).map_err(StoreError::Sink)?;
            fill(&mut encoder)?;
            encoder.finish().map_err(StoreError::Sink)?
        }
    };
    let (digest, size, mut out) = out.finish();
    out.flush().map_err(StoreError::Sink)?;
    Ok((digest, size))
}

/// A layer as it lies somewhere, compressed by gzip or zstd or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedLayer {
    /// The digest of its uncompressed tar.
    pub diff_id: DiffId,
    /// The digest of the stream, if it is known.
    pub digest: Option<Digest>,
    /// The size of the stream.
    pub size: u64,
}

/// Unpacks a tar that nobody has described, compressed or not, and protects the layer for the life of this
/// handle. `size` is that of the stream, if it is known, and limits how much can come out of it.
pub fn import_layer(
    store: &Store,
    stream: &mut dyn Read,
    size: Option<u64>,
) -> Result<Layer, StoreError> {
    let limit_bytes = size.map_or(limits::LAYER_BYTES_MAX, expanded_max);
    let plain = decompress(stream).map_err(StoreError::Source)?;
    let mut limited = Limited::new(plain, limit_bytes);
    let imported = store.import_layer(&mut limited, None);
    if limited.exceeded {
        return Err(StoreError::TooLarge { limit_bytes });
    }
    imported
}

/// How much a stream of a size may become.
fn expanded_max(size: u64) -> u64 {
    size.saturating_mul(limits::EXPANSION_RATIO_MAX)
        .clamp(EXPANSION_FLOOR_BYTES, limits::LAYER_BYTES_MAX)
}

/// Unpacks a layer that came from anywhere, unless the store has it already, and protects it for the
/// life of this handle. It does not appear unless both digests are right.
pub fn read_layer(
    store: &Store,
    stream: &mut dyn Read,
    expect: &PackedLayer,
) -> Result<Layer, StoreError> {
    if let Some(layer) = store.layer_pinned(&expect.diff_id)? {
        return Ok(layer);
    }
    let limit_bytes = expanded_max(expect.size);
    let mut stored = HashingReader::new(stream);
    let layer = {
        let plain = decompress(&mut stored).map_err(StoreError::Source)?;
        let mut limited = Limited::new(plain, limit_bytes);
        let imported = store.import_layer(&mut limited, Some(expect.diff_id));
        if limited.exceeded {
            return Err(StoreError::TooLarge { limit_bytes });
        }
        imported?
    };
    // A decompressor may stop before the end of the stream.
    io::copy(&mut stored, &mut io::sink()).map_err(StoreError::Source)?;
    match (expect.digest, stored.finish().0) {
        (Some(expected), found) if expected != found => {
            Err(StoreError::DigestMismatch { expected, found })
        }
        _ => Ok(layer),
    }
}
