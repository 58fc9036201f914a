//! The outputs of a build are carried out.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use corten_diag::{Event, Reporter};
use corten_oci::image::Descriptor;
use corten_oci::reference::Reference;
use corten_oci::tar::TarError;
use corten_registry::{Client, RegistryError};
use corten_store::archive::{self, Bundle, BundleImage, BundleIndex, Compression, Form};
use corten_store::{Found, Merged, NewMember, Store, StoreError, TagTarget};
use corten_sys::beneath::{Dir, FileKind};
use corten_sys::error::IoError;
use corten_sys::file;
use corten_sys::pending::PendingFile;

use super::annotation::{Annotation, Subject};
use super::local::copy_out;
use super::push;
use super::spec::{
    ArchiveOutput, Destination, LocalOutput, Output, TarOutput, annotations, index_annotations,
};
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
    #[error("`{}` is in the images for {first} and for {second}", path.display())]
    SameFile { path: PathBuf, first: String, second: String },
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
            Self::SameFile { .. } => {
                Some("leave `platform-split` out: each platform gets a directory".to_owned())
            }
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
    /// The image or the index, if it is in the store.
    pub stored: Option<Found>,
    /// Where it is, if not in the store.
    pub destination: Option<Destination>,
    /// Whether it went to the registries of its names.
    pub pushed: bool,
}

/// Looks at the destinations, so that what cannot be written is told before the build.
pub fn check(outputs: &[Output]) -> Result<(), OutputError> {
    for output in outputs {
        match output {
            Output::Local(LocalOutput { path, .. })
            | Output::Archive(ArchiveOutput {
                tar: false,
                destination: Destination::Path(path),
                ..
            }) => check_directory(path)?,
            Output::Archive(ArchiveOutput { destination: Destination::Path(path), .. })
            | Output::Tar(TarOutput { destination: Destination::Path(path), .. }) => {
                check_file(path)?;
            }
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
    targets: &[Target],
    request: &Request,
    stdout: &mut dyn Write,
    reporter: &dyn Reporter,
) -> Result<Vec<Written>, OutputError> {
    let mut trees = None;
    let mut results = Vec::new();
    for output in &request.outputs {
        let destination = match output {
            Output::Image(image) => {
                let with = [request.annotations.as_slice(), &image.annotations];
                let names = names(&request.names, &image.names);
                if image.store {
                    results.push(into_store(store, targets, names.clone(), with)?);
                }
                if let Some(how) = &image.push {
                    let pushed = push::push(store, &request.client, targets, how, &names, with)?;
                    let descriptor = Some(pushed);
                    let (stored, destination) = (None, None);
                    results.push(Written { descriptor, names, stored, destination, pushed: true });
                }
                continue;
            }
            Output::Archive(archive) => {
                results.push(write_archive(store, targets, request, archive, stdout)?);
                continue;
            }
            Output::CacheOnly => continue,
            Output::Local(LocalOutput { path, split }) => {
                local(&placed(&mut trees, targets, *split)?, path, reporter)?;
                Destination::Path(path.clone())
            }
            Output::Tar(TarOutput { destination, split }) => {
                let trees = placed(&mut trees, targets, *split)?;
                write_to(destination, stdout, |out| Merged::write_trees(&trees, out).map(|_| ()))?;
                destination.clone()
            }
        };
        let destination = Some(destination);
        results.push(Written {
            descriptor: None,
            names: Vec::new(),
            stored: None,
            destination,
            pushed: false,
        });
    }
    Ok(results)
}

/// A tree and the directory that it has in an output.
type Placed<'t> = (Option<String>, &'t Merged);

/// The trees of all platforms with their directories, listed when the first output needs them.
fn placed<'t>(
    trees: &'t mut Option<Vec<Merged>>,
    targets: &[Target],
    split: Option<bool>,
) -> Result<Vec<Placed<'t>>, OutputError> {
    let listed = if let Some(listed) = trees.take() {
        listed
    } else {
        let listed = targets.iter().map(|target| Merged::new(&target.layers));
        listed.collect::<Result<Vec<_>, _>>()?
    };
    let listed = trees.insert(listed);
    let is_split = split.unwrap_or(targets.len() > 1);
    if !is_split {
        refuse_conflicts(listed, targets)?;
    }
    let below = |target: &Target| {
        // As BuildKit spells it: `linux_arm_v7`.
        is_split.then(|| target.config.platform().to_string().replace('/', "_"))
    };
    Ok(targets.iter().map(below).zip(listed.iter()).collect())
}

/// Several platforms can be in one directory only if none has a file of another.
fn refuse_conflicts(trees: &[Merged], targets: &[Target]) -> Result<(), OutputError> {
    let mut owners: BTreeMap<&[u8], (bool, usize)> = BTreeMap::new();
    for (index, tree) in trees.iter().enumerate() {
        for entry in tree.entries() {
            let is_directory = entry.stat.kind == FileKind::Directory;
            let found = owners.insert(entry.path, (is_directory, index));
            let Some((was_directory, owner)) = found else { continue };
            if owner != index && !(is_directory && was_directory) {
                let platform = |index: usize| {
                    targets
                        .get(index)
                        .map_or_else(String::new, |target| target.config.platform().to_string())
                };
                return Err(OutputError::SameFile {
                    path: PathBuf::from(OsStr::from_bytes(entry.path)),
                    first: platform(owner),
                    second: platform(index),
                });
            }
        }
    }
    Ok(())
}

fn local(trees: &[Placed<'_>], path: &Path, reporter: &dyn Reporter) -> Result<(), OutputError> {
    let mut left_out = 0;
    for (below, tree) in trees {
        let path = below.as_ref().map_or_else(|| path.to_owned(), |below| path.join(below));
        left_out += copy_out(tree, &path)?;
    }
    if left_out > 0 {
        reporter.report(Event::Warning(format!(
            "{left_out} devices are not in `{}`; `type=tar` has them",
            path.display()
        )));
    }
    Ok(())
}

fn names(all: &[Reference], own: &[Reference]) -> Vec<Reference> {
    let mut names = all.to_vec();
    names.extend(own.iter().filter(|name| !all.contains(name)).cloned());
    names
}

fn into_store(
    store: &Store,
    targets: &[Target],
    names: Vec<Reference>,
    lists: [&[Annotation]; 2],
) -> Result<Written, OutputError> {
    if let [target] = targets {
        return image_into_store(store, target, names, lists);
    }
    let mut members = Vec::new();
    for target in targets {
        let platform = target.config.platform();
        let of_manifest = annotations(Subject::Manifest, &platform, lists);
        let image = crate::export::export(store, target, &of_manifest, &[])?;
        let annotations = annotations(Subject::ManifestDescriptor, &platform, lists);
        members.push(NewMember { image, annotations });
    }
    let index = store.put_index(&members, &index_annotations(Subject::Index, lists))?;
    crate::export::name(store, TagTarget::Index(index.digest), &names)?;
    let descriptor = Descriptor {
        annotations: index_annotations(Subject::IndexDescriptor, lists),
        ..index.descriptor()
    };
    let (descriptor, stored) = (Some(descriptor), Some(Found::Index(index)));
    Ok(Written { descriptor, names, stored, destination: None, pushed: false })
}

fn image_into_store(
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
    let stored = Some(Found::Image(Box::new(image)));
    let descriptor = Some(descriptor);
    Ok(Written { descriptor, names, stored, destination: None, pushed: false })
}

fn write_archive(
    store: &Store,
    targets: &[Target],
    request: &Request,
    archive: &ArchiveOutput,
    stdout: &mut dyn Write,
) -> Result<Written, OutputError> {
    let lists = [request.annotations.as_slice(), &archive.annotations];
    let names = names(&request.names, &archive.names);
    let images = targets.iter().map(|target| {
        let platform = target.config.platform();
        BundleImage {
            config: target.config_bytes(),
            layers: target.layers.clone(),
            annotations: annotations(Subject::Manifest, &platform, lists),
            descriptor_annotations: annotations(Subject::ManifestDescriptor, &platform, lists),
            platform,
            attestations: target.attestations.clone(),
        }
    });
    let is_attested = targets.iter().any(|target| !target.attestations.is_empty());
    let has_index = targets.len() > 1 || (is_attested && archive.form != Form::Docker);
    let index = has_index.then(|| BundleIndex {
        annotations: index_annotations(Subject::Index, lists),
        descriptor_annotations: index_annotations(Subject::IndexDescriptor, lists),
    });
    let bundle = Bundle {
        form: archive.form,
        images: images.collect(),
        index,
        references: names.clone(),
        compression: archive.compression,
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
    Ok(Written { descriptor, names, stored: None, destination, pushed: false })
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
