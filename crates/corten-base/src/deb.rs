//! One Debian package file: its control files, and its content as a stream.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};

use corten_oci::tar::{self, EntryKind, TarError};

use crate::ar::{self, ArError};

/// The control part: the largest is that of a package with many translations, at 400 KiB.
const CONTROL_BYTES_MAX: u64 = 32 << 20;

/// The content: the largest package of Debian has 2 GiB.
const DATA_BYTES_MAX: u64 = 16 << 30;

/// What xz may use: level 9 with the largest dictionary that dpkg writes needs 65 MiB.
const XZ_MEMORY_BYTES_MAX: u64 = 256 << 20;

/// The window of zstd: dpkg writes at most the 128 MiB of its highest levels.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;

/// The pieces in which compressed bytes are read.
const BUFFER_BYTES: usize = 128 * 1024;

/// The control files of a package.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Control {
    /// The paragraph that describes the package.
    pub(crate) control: String,
    /// All other files by name: `postinst`, `conffiles`, `md5sums`, `triggers`, ….
    pub(crate) files: BTreeMap<String, ControlFile>,
}

/// One control file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ControlFile {
    pub(crate) bytes: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) mtime: i64,
}

impl Control {
    /// Returns a control file as text, or nothing if there is none.
    pub(crate) fn text(&self, name: &str) -> &str {
        let file = self.files.get(name);
        file.and_then(|file| std::str::from_utf8(&file.bytes).ok()).unwrap_or_default()
    }
}

/// A package that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DebError {
    /// The container is damaged.
    #[error("failed to read the package")]
    Ar(#[from] ArError),
    /// A member is missing or in the wrong place.
    #[error("the package has no member `{0}` where it belongs")]
    Member(&'static str),
    /// The format is one of the future.
    #[error("the package has format version `{0}`, only 2 is supported")]
    Version(String),
    /// A member is compressed in a way that we do not know.
    #[error("the member `{0}` is compressed in an unknown way")]
    Compression(String),
    /// A tar in it is damaged.
    #[error("failed to read the member `{member}`")]
    Tar {
        /// `control.tar` or `data.tar`.
        member: &'static str,
        /// Why.
        #[source]
        source: TarError,
    },
    /// A stream in it is damaged.
    #[error("failed to unpack the member `{member}`")]
    Stream {
        /// `control.tar` or `data.tar`.
        member: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A control file is no text.
    #[error("the control file `{0}` is missing or not UTF-8 text")]
    Control(String),
}

/// Reads a package: first its control files, then the entries of its content.
pub(crate) struct Deb<R> {
    ar: ar::Reader<R>,
}

impl<R: Read> Deb<R> {
    /// Opens a package and reads its control files.
    pub(crate) fn open(package: R) -> Result<(Self, Control), DebError> {
        let mut ar = ar::Reader::new(package)?;
        let Some((name, 1..=64)) = ar.next_member()? else {
            return Err(DebError::Member("debian-binary"));
        };
        if name != "debian-binary" {
            return Err(DebError::Member("debian-binary"));
        }
        let mut version = String::new();
        ar.read_to_string(&mut version)
            .map_err(|source| DebError::Stream { member: "debian-binary", source })?;
        if !version.starts_with("2.") {
            return Err(DebError::Version(version.trim().chars().take(20).collect()));
        }
        let name = next_tar(&mut ar, "control.tar")?;
        let control = read_control(decompress(&name, &mut ar, CONTROL_BYTES_MAX)?)?;
        Ok((Self { ar }, control))
    }

    /// Gives the content to a function, as a tar.
    pub(crate) fn data<T, E: From<DebError>>(
        mut self,
        read: impl FnOnce(&mut tar::Reader<Stream<'_>>) -> Result<T, E>,
    ) -> Result<T, E> {
        let name = next_tar(&mut self.ar, "data.tar")?;
        let stream = decompress(&name, &mut self.ar, DATA_BYTES_MAX)?;
        read(&mut tar::Reader::new(stream))
    }
}

/// Members whose name begins with an underscore belong to other tools and are skipped, as dpkg does.
fn next_tar<R: Read>(ar: &mut ar::Reader<R>, member: &'static str) -> Result<String, DebError> {
    loop {
        match ar.next_member()? {
            Some((name, _)) if name.starts_with('_') => {}
            Some((name, _)) if name.starts_with(member) => return Ok(name),
            _ => return Err(DebError::Member(member)),
        }
    }
}

/// An unpacked stream with a limit.
pub(crate) type Stream<'r> = BufReader<Limited<Box<dyn Read + 'r>>>;

fn decompress<'r>(
    name: &str,
    stream: impl Read + 'r,
    limit_bytes: u64,
) -> Result<Stream<'r>, DebError> {
    let stream = BufReader::with_capacity(BUFFER_BYTES, stream);
    let (_, suffix) = name.split_once(".tar").unwrap_or((name, ""));
    let broken = |source: io::Error| DebError::Stream { member: "data.tar", source };
    let reader: Box<dyn Read + 'r> = match suffix {
        "" => Box::new(stream),
        ".gz" => Box::new(flate2::bufread::MultiGzDecoder::new(stream)),
        ".xz" => {
            let decoder = liblzma::stream::Stream::new_stream_decoder(
                XZ_MEMORY_BYTES_MAX,
                liblzma::stream::CONCATENATED,
            );
            let decoder = decoder.map_err(|error| broken(error.into()))?;
            Box::new(liblzma::bufread::XzDecoder::new_stream(stream, decoder))
        }
        ".zst" => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(stream).map_err(broken)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(broken)?;
            Box::new(decoder)
        }
        _ => return Err(DebError::Compression(name.to_owned())),
    };
    Ok(BufReader::with_capacity(BUFFER_BYTES, Limited { inner: reader, left: limit_bytes }))
}

/// Unpacks an index by the suffix of its name.
pub(crate) fn unpack_index(path: &str, bytes: &[u8], limit_bytes: u64) -> io::Result<Vec<u8>> {
    let suffix = path
        .rsplit('/')
        .next()
        .and_then(|name| name.split_once('.'))
        .map_or("", |(_, suffix)| suffix);
    let name =
        if suffix.is_empty() { "index.tar".to_owned() } else { format!("index.tar.{suffix}") };
    let mut stream = decompress(&name, bytes, limit_bytes).map_err(io::Error::other)?;
    let mut out = Vec::new();
    stream.read_to_end(&mut out)?;
    Ok(out)
}

/// Fails when more comes than there may be, instead of ending early.
pub(crate) struct Limited<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(count as u64).ok_or_else(|| {
            io::Error::new(io::ErrorKind::FileTooLarge, "the unpacked size is beyond the limit")
        })?;
        Ok(count)
    }
}

fn read_control(stream: Stream<'_>) -> Result<Control, DebError> {
    let member = "control.tar";
    let tar_error = |source| DebError::Tar { member, source };
    let mut tar = tar::Reader::new(stream);
    let mut control = Control::default();
    while let Some(header) = tar.next_entry().map_err(tar_error)? {
        let EntryKind::File { .. } = header.kind else { continue };
        let path = String::from_utf8_lossy(&header.path);
        let name = path.strip_prefix("./").unwrap_or(&path).to_owned();
        let mut bytes = Vec::new();
        tar.read_to_end(&mut bytes).map_err(|source| DebError::Stream { member, source })?;
        if name == "control" {
            control.control = String::from_utf8(bytes).map_err(|_| DebError::Control(name))?;
        } else if is_control_name(&name) {
            let file =
                ControlFile { bytes, mode: header.meta.mode & 0o777, mtime: header.meta.mtime };
            control.files.insert(name, file);
        } else {
            return Err(DebError::Control(name.chars().take(100).collect()));
        }
    }
    if control.control.is_empty() {
        return Err(DebError::Control("control".to_owned()));
    }
    Ok(control)
}

/// The name becomes a suffix in the package database, so it must be a plain word.
fn is_control_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use corten_oci::tree::{Content, Kind, Meta, Node, Tree, TreePath};
    use std::sync::Arc;

    /// A file for a package: path, mode and content; a path that ends in a slash is a directory, and
    /// a content that begins with `->` makes a link.
    pub(crate) type TestFile<'a> = (&'a str, u32, &'a str);

    pub(crate) fn tar(files: &[TestFile<'_>], mtime: i64) -> Vec<u8> {
        let mut tree = Tree::new();
        for (path, mode, content) in files {
            let kind = if path.ends_with('/') {
                Kind::Directory { opaque: false }
            } else if let Some(target) = content.strip_prefix("->") {
                Kind::Symlink(target.as_bytes().to_vec())
            } else {
                Kind::File(Content::Inline(Arc::from(content.as_bytes())))
            };
            let meta = Meta { mode: *mode, mtime, ..Meta::default() };
            tree.insert(TreePath::clean(path.as_bytes()).unwrap(), Node { meta, kind });
        }
        let mut out = Vec::new();
        tree.write_tar(&mut out).unwrap();
        out
    }

    /// Builds a package with compressed members.
    pub(crate) fn deb(control: &[TestFile<'_>], data: &[TestFile<'_>], mtime: i64) -> Vec<u8> {
        let control = zstd::encode_all(tar(control, mtime).as_slice(), 1).unwrap();
        let mut xz = liblzma::read::XzEncoder::new(io::Cursor::new(tar(data, mtime)), 0);
        let mut data = Vec::new();
        xz.read_to_end(&mut data).unwrap();
        ar::write(&[
            ("debian-binary", b"2.0\n"),
            ("_gpg", b"x"),
            ("control.tar.zst", &control),
            ("data.tar.xz", &data),
        ])
    }

    #[test]
    fn control_files_and_content_are_read() {
        let file = deb(
            &[("control", 0o644, "Package: a\n"), ("postinst", 0o755, "#!/bin/sh\n")],
            &[("usr/", 0o755, ""), ("usr/a", 0o644, "hello")],
            7,
        );
        let (deb, control) = Deb::open(file.as_slice()).unwrap();
        assert_eq!(control.control, "Package: a\n");
        assert_eq!(control.text("postinst"), "#!/bin/sh\n");
        assert_eq!(control.files["postinst"].mode, 0o755);
        let names = deb.data(|tar| {
            let mut names = Vec::new();
            while let Some(header) =
                tar.next_entry().map_err(|source| DebError::Tar { member: "data.tar", source })?
            {
                names.push(String::from_utf8(header.path).unwrap());
            }
            Ok::<_, DebError>(names)
        });
        assert_eq!(names.unwrap(), ["usr/", "usr/a"]);
    }

    fn refused(members: &[(&str, &[u8])]) -> String {
        match Deb::open(ar::write(members).as_slice()) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn what_is_no_package_is_refused() {
        let control = tar(&[("control", 0o644, "Package: a\n")], 0);
        let version: (&str, &[u8]) = ("debian-binary", b"2.0\n");
        assert_eq!(refused(&[version, ("control.tar", &control)]), "");
        assert!(refused(&[("control.tar", &control)]).contains("`debian-binary`"));
        assert!(refused(&[("debian-binary", b"3.0\n")]).contains("version `3.0`"));
        assert!(refused(&[version, ("data.tar", &control)]).contains("`control.tar`"));
        assert!(refused(&[version, ("control.tar.lzo", &control)]).contains("`control.tar.lzo`"));
        assert!(refused(&[version, ("control.tar.xz", &control)]).contains("`control.tar`"));
        assert!(
            refused(&[version, ("control.tar", &tar(&[("x", 0, "")], 0))]).contains("`control`")
        );
        let odd = tar(&[("control", 0o644, "Package: a\n"), ("e vil", 0, "")], 0);
        assert!(refused(&[version, ("control.tar", &odd)]).contains("e vil"));
    }

    #[test]
    fn an_index_is_unpacked_by_its_suffix_and_within_its_limit() {
        let mut xz = Vec::new();
        liblzma::read::XzEncoder::new(b"abc".as_slice(), 0).read_to_end(&mut xz).unwrap();
        assert_eq!(unpack_index("main/Packages.xz", &xz, 3).unwrap(), b"abc");
        assert!(unpack_index("main/Packages.xz", &xz, 2).is_err());
        assert_eq!(unpack_index("main/Packages", b"abc", 3).unwrap(), b"abc");
        assert!(unpack_index("main/Packages.lzma", b"abc", 3).is_err());
    }
}
