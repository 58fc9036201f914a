//! The outputs of a build are carried out.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use corten_diag::{Event, Reporter};
use corten_oci::image::Descriptor;
use corten_oci::platform::Platform;
use corten_oci::reference::Reference;
use corten_oci::tar::TarError;
use corten_registry::{Client, RegistryError};
use corten_store::archive::{self, Bundle, Compression, Form};
use corten_store::{Image, Merged, Store, StoreError};
use corten_sys::beneath::Dir;
use corten_sys::error::IoError;
use corten_sys::file;
use corten_sys::pending::PendingFile;

use super::annotation::{Annotation, Subject};
use super::local::copy_out;
use super::push;
use super::spec::{ArchiveOutput, Destination, Output, annotations};
use crate::Target;

/// A result that did not get where it should.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    #[error("the destination `{}` is a directory", path.display())]
    Directory { path: PathBuf },
    #[error("the destination `{}` is no directory", path.display())]
    NoDirectory { path: PathBuf },
    #[error("there is no directory `{}` to write to", path.display())]
    NoParent { path: PathBuf },
    #[error("`{}` is a directory, and the build has something else there", path.display())]
    Occupied { path: PathBuf },
    #[error("failed to write the result to `{}`", path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("an image without a name cannot be pushed")]
    NoName,
    #[error("failed to push `{name}`")]
    Push {
        name: String,
        #[source]
        source: Box<RegistryError>,
    },
    #[error(transparent)]
    Io(#[from] IoError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl OutputError {
    /// What to do.
    pub fn hint(&self) -> Option<String> {
        let full = || "free space there, or choose another destination".to_owned();
        match self {
            Self::Directory { path } => {
                Some(format!("name a file: `dest={}/image.tar`", path.display()))
            }
            Self::NoDirectory { .. } => Some("name a directory, or one to be made".to_owned()),
            Self::NoParent { .. } => Some("make it, or choose another destination".to_owned()),
            Self::Occupied { .. } => Some("remove it, or choose another destination".to_owned()),
            Self::Write { source, .. } if is_no_space(source) => Some(full()),
            Self::Io(error) if error.is_no_space() => Some(full()),
            Self::Store(error) => error.hint(),
            Self::NoName => Some("name it with `--tag REGISTRY/NAME[:TAG]`".to_owned()),
            Self::Push { source, .. } => source.hint(),
            Self::Write { .. } | Self::Io(_) => None,
        }
    }

    /// Returns true if nobody reads what is written to a pipe any more.
    pub fn is_broken_pipe(&self) -> bool {
        matches!(self, Self::Write { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
    }
}

fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// What all outputs of a build share.
#[derive(Debug, Clone)]
pub struct Request {
    pub outputs: Vec<Output>,
    /// Names for every image.
    pub names: Vec<Reference>,
    pub annotations: Vec<Annotation>,
    /// Speaks to registries.
    pub client: Client,
}

/// What became of one output.
#[derive(Debug)]
pub struct Written {
    /// What an image is, if it is one.
    pub descriptor: Option<Descriptor>,
    pub names: Vec<Reference>,
    /// The image, if it is in the store.
    pub image: Option<Image>,
    /// Where it is, if not in the store.
    pub destination: Option<Destination>,
    /// Whether it went to the registries of its names.
    pub pushed: bool,
}

/// Looks at the destinations, so that what cannot be written is told before the build.
pub fn check(outputs: &[Output]) -> Result<(), OutputError> {
    for output in outputs {
        match output {
            Output::Local(path)
            | Output::Archive(ArchiveOutput {
                tar: false,
                destination: Destination::Path(path),
                ..
            }) => check_directory(path)?,
            Output::Archive(ArchiveOutput { destination: Destination::Path(path), .. })
            | Output::Tar(Destination::Path(path)) => check_file(path)?,
            _ => {}
        }
    }
    Ok(())
}

fn check_directory(path: &Path) -> Result<(), OutputError> {
    match file::absent_is_none(file::metadata(path))? {
        Some(metadata) if !metadata.is_dir() => {
            Err(OutputError::NoDirectory { path: path.to_owned() })
        }
        _ => Ok(()),
    }
}

fn check_file(path: &Path) -> Result<(), OutputError> {
    match file::absent_is_none(file::metadata(path))? {
        Some(metadata) if metadata.is_dir() => {
            return Err(OutputError::Directory { path: path.to_owned() });
        }
        Some(_) => return Ok(()),
        None => {}
    }
    let parent = parent(path);
    match file::absent_is_none(file::metadata(parent))? {
        Some(metadata) if metadata.is_dir() => Ok(()),
        Some(_) => Err(OutputError::NoDirectory { path: parent.to_owned() }),
        None => Err(OutputError::NoParent { path: parent.to_owned() }),
    }
}

/// Carries out the outputs, in their order.
pub fn write(
    store: &Store,
    target: &Target,
    request: &Request,
    stdout: &mut dyn Write,
    reporter: &dyn Reporter,
) -> Result<Vec<Written>, OutputError> {
    let mut tree = None;
    let mut results = Vec::new();
    for output in &request.outputs {
        let destination = match output {
            Output::Image(image) => {
                let with = [request.annotations.as_slice(), &image.annotations];
                let names = names(&request.names, &image.names);
                if image.store {
                    results.push(into_store(store, target, names.clone(), with)?);
                }
                if let Some(how) = &image.push {
                    let pushed = push::push(store, &request.client, target, how, &names, with)?;
                    let descriptor = Some(pushed);
                    let (image, destination) = (None, None);
                    results.push(Written { descriptor, names, image, destination, pushed: true });
                }
                continue;
            }
            Output::Archive(archive) => {
                results.push(write_archive(store, target, request, archive, stdout)?);
                continue;
            }
            Output::CacheOnly => continue,
            Output::Local(path) => {
                let left_out = copy_out(merged(&mut tree, target)?, path)?;
                if left_out > 0 {
                    reporter.report(Event::Warning(format!(
                        "{left_out} devices are not in `{}`; `type=tar` has them",
                        path.display()
                    )));
                }
                Destination::Path(path.clone())
            }
            Output::Tar(destination) => {
                let tree = merged(&mut tree, target)?;
                write_to(destination, stdout, |out| tree.write_tar(out).map(|_| ()))?;
                destination.clone()
            }
        };
        let destination = Some(destination);
        results.push(Written {
            descriptor: None,
            names: Vec::new(),
            image: None,
            destination,
            pushed: false,
        });
    }
    Ok(results)
}

/// The tree, listed when the first output needs it.
fn merged<'t>(tree: &'t mut Option<Merged>, target: &Target) -> Result<&'t Merged, StoreError> {
    if let Some(listed) = tree.take() {
        return Ok(tree.insert(listed));
    }
    Ok(tree.insert(Merged::new(&target.layers)?))
}

fn names(all: &[Reference], own: &[Reference]) -> Vec<Reference> {
    let mut names = all.to_vec();
    names.extend(own.iter().filter(|name| !all.contains(name)).cloned());
    names
}

fn into_store(
    store: &Store,
    target: &Target,
    names: Vec<Reference>,
    lists: [&[Annotation]; 2],
) -> Result<Written, OutputError> {
    let platform = target.config.platform();
    let of_manifest = annotations(Subject::Manifest, &platform, lists);
    let image = crate::export::export(store, target, &of_manifest, &names)?;
    let size = store.read_blob(&image.manifest, corten_oci::limits::MANIFEST_BYTES_MAX)?;
    let size = size.map_or(0, |bytes| bytes.len() as u64);
    let descriptor = Descriptor {
        annotations: annotations(Subject::ManifestDescriptor, &platform, lists),
        platform: Some(platform),
        ..Descriptor::new(corten_oci::image::media_type::MANIFEST, image.manifest, size)
    };
    Ok(Written {
        descriptor: Some(descriptor),
        names,
        image: Some(image),
        destination: None,
        pushed: false,
    })
}

fn write_archive(
    store: &Store,
    target: &Target,
    request: &Request,
    archive: &ArchiveOutput,
    stdout: &mut dyn Write,
) -> Result<Written, OutputError> {
    let platform: Platform = target.config.platform();
    let lists = [request.annotations.as_slice(), &archive.annotations];
    let names = names(&request.names, &archive.names);
    let of = |subject| -> BTreeMap<String, String> { annotations(subject, &platform, lists) };
    let bundle = Bundle {
        form: archive.form,
        config: target.config_bytes(),
        layers: target.layers.clone(),
        references: names.clone(),
        annotations: of(Subject::Manifest),
        descriptor_annotations: of(Subject::ManifestDescriptor),
        compression: archive.compression,
        platform,
    };
    debug_assert!(
        archive.form != Form::Docker || archive.compression == Compression::Uncompressed,
        "the specification says so"
    );
    let prepared = archive::prepare(store, &bundle)?;
    let descriptor = Some(prepared.descriptor().clone());
    match &archive.destination {
        Destination::Path(path) if !archive.tar => {
            file::create_dirs(path, 0o755)?;
            prepared.write_directory(path).map_err(|error| match error {
                StoreError::Io(error) => OutputError::Io(error),
                other => located(other, path),
            })?;
        }
        destination => write_to(destination, stdout, |out| prepared.write(out))?,
    }
    let destination = Some(archive.destination.clone());
    Ok(Written { descriptor, names, image: None, destination, pushed: false })
}

/// Writes to a file that gets its name when it is complete, to a pipe or device as it comes, or to
/// standard output.
fn write_to(
    destination: &Destination,
    stdout: &mut dyn Write,
    fill: impl FnOnce(&mut dyn Write) -> Result<(), StoreError>,
) -> Result<(), OutputError> {
    let path = match destination {
        Destination::Stdout => {
            let shown = Path::new("standard output");
            fill(stdout).map_err(|error| located(error, shown))?;
            return stdout.flush().map_err(failed(shown));
        }
        Destination::Path(path) => path,
    };
    let found = file::absent_is_none(file::metadata(path))?;
    if found.as_ref().is_some_and(|found| !found.is_file() && !found.is_dir()) {
        let mut file: File = OpenOptions::new().write(true).open(path).map_err(failed(path))?;
        fill(&mut file).map_err(|error| located(error, path))?;
        return file.flush().map_err(failed(path));
    }
    // A link to a file stays a link.
    let real = match found {
        Some(_) => std::fs::canonicalize(path).map_err(failed(path))?,
        None => path.clone(),
    };
    let Some(name) = real.file_name() else {
        return Err(OutputError::Directory { path: path.clone() });
    };
    let dir = Dir::open(parent(&real))?;
    let pending = PendingFile::create(&dir, name, 0o644)?;
    fill(&mut pending.file()).map_err(|error| located(error, path))?;
    pending.sync()?;
    Ok(pending.publish()?)
}

/// Tells a failure to write the result from one to read the store.
fn located(error: StoreError, path: &Path) -> OutputError {
    match error {
        StoreError::Tar(TarError::Write(source)) | StoreError::Sink(source) => {
            OutputError::Write { path: path.to_owned(), source }
        }
        other => other.into(),
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> OutputError {
    move |source| OutputError::Write { path: path.to_owned(), source }
}

fn parent(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}
