//! A main context that is no directory of the host.

use std::io::Read;
use std::path::{Path, PathBuf};

use corten_diag::Reporter;
use corten_store::Store;
use corten_sys::beneath::{Resolve, Root};
use corten_sys::file;

use super::fetch::{archive_time, as_context};
use super::unpack::{Content, REMOTE_BYTES_MAX, archive, take};
use super::{Fetched, Fetching, Held, RemoteError, Remotes, Source, http, quoted};

use crate::options::{Context, DOCKERFILE_BYTES_MAX, DockerfileText, IgnoreText};
use crate::recording::{Recording, SourceMaterial};

/// Where a main context comes from.
#[expect(missing_debug_implementations, reason = "a reader has no text")]
pub enum MainContext<'a> {
    /// A stream that is a tar or a Dockerfile.
    Stream {
        /// As it is shown.
        name: String,
        reader: &'a mut dyn Read,
    },
    /// A repository, or an address of a tar or a Dockerfile.
    Remote(Source),
}

/// A main context that was read. Its files are there as long as this value.
#[derive(Debug)]
pub struct OpenedContext {
    name: String,
    content: Opened,
    /// What it is, for the record; absent for a stream.
    material: Option<SourceMaterial>,
}

#[derive(Debug)]
enum Opened {
    Files(Fetched),
    Dockerfile(String),
}

impl OpenedContext {
    /// Reads or fetches a context; what is a tar is unpacked. With a lock, what is fetched must be
    /// what that has.
    pub fn open(
        from: MainContext<'_>,
        remotes: &Remotes,
        store: &Store,
        reporter: &dyn Reporter,
        recording: &Recording,
    ) -> Result<Self, RemoteError> {
        let is_offline = matches!(recording, Recording::Offline(_));
        let fetching = Fetching { remotes, store, reporter, lock: recording.lock(), is_offline };
        match from {
            MainContext::Stream { name, reader } => {
                let staging = store.stage()?;
                let content = match take(reader, &name, &staging, REMOTE_BYTES_MAX)? {
                    Content::Nothing => return Err(RemoteError::Empty { name }),
                    Content::Archive => Opened::Files(Fetched {
                        held: Held::Staging(staging),
                        path: String::new(),
                        modified: None,
                        time: None,
                        material: None,
                    }),
                    Content::Other(file) => Opened::Dockerfile(text(&file, &name)?),
                };
                Ok(Self { name, content, material: None })
            }
            MainContext::Remote(source) => {
                let name = quoted(source.address());
                let (content, material) = match &source {
                    Source::Git(_) => {
                        let mut fetched = as_context(&fetching, &source)?;
                        let material = fetched.material.take();
                        (Opened::Files(fetched), material)
                    }
                    Source::Http(source) => {
                        let fetched = http::fetch(&fetching, source)?;
                        (opened(&fetching, &fetched, &name)?, fetched.material)
                    }
                };
                Ok(Self { name, content, material: material.map(|material| *material) })
            }
        }
    }

    /// What was fetched, as a lock names it; `None` for a stream, which nothing can name.
    pub fn material(&self) -> Option<&SourceMaterial> {
        self.material.as_ref()
    }

    /// The files.
    pub fn context(&self) -> Context {
        match &self.content {
            Opened::Dockerfile(_) => Context::Empty,
            Opened::Files(fetched) => {
                let directory = fetched.directory().to_owned();
                let path = PathBuf::from(&fetched.path);
                Context::Fetched { directory, path, kept: fetched.is_kept(), time: fetched.time }
            }
        }
    }

    /// The Dockerfile: the one that came alone, or a file of the context.
    pub fn dockerfile(&self, file: Option<&Path>) -> Result<DockerfileText, RemoteError> {
        let fetched = match (&self.content, file) {
            (Opened::Dockerfile(_), Some(_)) => {
                return Err(RemoteError::TwoDockerfiles { name: self.name.clone() });
            }
            (Opened::Dockerfile(text), None) => {
                return Ok(DockerfileText::inline("Dockerfile", text.clone()));
            }
            (Opened::Files(fetched), _) => fetched,
        };
        let path = file.unwrap_or(Path::new("Dockerfile"));
        let shown = path.display().to_string();
        let missing = || RemoteError::NoDockerfile { name: self.name.clone(), path: shown.clone() };
        let top = Path::new(&fetched.path);
        let text = read_within(fetched.directory(), top, path)?.ok_or_else(missing)?;
        let ignore_path = format!("{shown}.dockerignore");
        let ignore = read_within(fetched.directory(), top, Path::new(&ignore_path))?;
        let ignore = ignore.map(|text| IgnoreText { name: ignore_path, text });
        Ok(DockerfileText { name: shown, text, ignore })
    }
}

/// A file over HTTP that is a tar or a Dockerfile.
fn opened(fetching: &Fetching<'_>, fetched: &Fetched, name: &str) -> Result<Opened, RemoteError> {
    let staging = fetching.store.stage()?;
    let from = fetched.directory().join(&fetched.path);
    if archive(&from, name, &staging)? {
        let time = archive_time(fetched, &staging)?;
        let held = Held::Staging(staging);
        let (path, modified, material) = (String::new(), None, None);
        return Ok(Opened::Files(Fetched { held, path, modified, time, material }));
    }
    let file = file::open(&from)?;
    Ok(Opened::Dockerfile(text(&file, name)?))
}

/// Reads what can only be a Dockerfile.
fn text(file: &std::fs::File, name: &str) -> Result<String, RemoteError> {
    let failed = |source| RemoteError::Read { name: name.to_owned(), source };
    let mut bytes = Vec::new();
    file.take(DOCKERFILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    match bytes.len() as u64 {
        0 => Err(RemoteError::Empty { name: name.to_owned() }),
        length if length > DOCKERFILE_BYTES_MAX => {
            Err(RemoteError::NoContext { name: name.to_owned() })
        }
        _ => Ok(String::from_utf8_lossy(&bytes).into_owned()),
    }
}

/// Reads a file below `top` of a directory; links are followed as if `directory` were `/`, so that
/// nothing of the host can be meant.
pub(crate) fn read_within(
    directory: &Path,
    top: &Path,
    path: &Path,
) -> Result<Option<String>, RemoteError> {
    let root = Root::open(directory)?;
    let relative = path.strip_prefix("/").unwrap_or(path);
    let opened = match root.open_file(&top.join(relative), Resolve::InRoot) {
        Ok(opened) => opened,
        Err(error) if error.is_not_found() || error.kind() == std::io::ErrorKind::NotADirectory => {
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    let bytes = file::read_file_limited(&opened, path, DOCKERFILE_BYTES_MAX)?;
    Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
}
