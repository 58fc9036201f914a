//! What proves that the store is whole, and repairs it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corten_oci::digest::{DiffId, Digest, HashingWriter, ImageId};
use corten_oci::reference::Reference;
use corten_sys::file;
use rayon::prelude::*;

use crate::error::StoreError;
use crate::gc::{Bin, blob_paths, step_paths};
use crate::indexes::Record;
use crate::steps::read_step;
use crate::store::{Inner, Store};

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The content of a blob does not have the digest that is its name.
    Blob(Digest),
    /// A layer does not make the tar whose digest is its name.
    Layer(DiffId),
    /// Something of an image is missing or damaged.
    Image {
        /// The image.
        image: ImageId,
        /// What is missing or damaged.
        what: String,
    },
    /// Something of an index is missing or damaged.
    Index {
        /// The index.
        index: Digest,
        /// What is missing or damaged.
        what: String,
    },
    /// A record of an image or of a name cannot be read.
    Record(PathBuf),
    /// A name stands for an image that is not there.
    Reference(Reference),
    /// A cached step needs a layer that is not there.
    Step(PathBuf),
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blob(digest) => write!(formatter, "the blob `{digest}` is damaged"),
            Self::Layer(diff_id) => write!(formatter, "the layer `{diff_id}` is damaged"),
            Self::Image { image, what } => write!(formatter, "the image `{image}` lacks {what}"),
            Self::Index { index, what } => write!(formatter, "the index `{index}` lacks {what}"),
            Self::Record(path) => write!(formatter, "the record `{}` is damaged", path.display()),
            Self::Reference(reference) => {
                write!(formatter, "the name `{reference}` stands for an image that is not there")
            }
            Self::Step(path) => {
                write!(formatter, "the cached step `{}` has lost its layer", path.display())
            }
        }
    }
}

/// What a check found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FsckReport {
    /// How many layers were hashed.
    pub layers: u64,
    /// How many blobs were hashed.
    pub blobs: u64,
    /// How many images were checked.
    pub images: u64,
    /// How many indexes were checked.
    pub indexes: u64,
    /// How many layers and cached steps a power failure took before the disk had them. They count as
    /// absent and are made again when they are needed; what still needs them is among the problems.
    pub lost: u64,
    /// What is not as it should be; empty if the store is whole.
    pub problems: Vec<Problem>,
    /// Whether what is damaged was removed, so that it can be pulled or built again.
    pub repaired: bool,
}

/// What to do with what is damaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// Leave it.
    No,
    /// Remove it.
    Yes,
}

impl Store {
    /// Reads everything and compares it with its name. No other process can add anything meanwhile.
    pub fn fsck(&self, repair: Repair) -> Result<FsckReport, StoreError> {
        self.run(|inner| {
            let mut bin = Bin::new(inner)?;
            let report = {
                let _lock = inner.lock_exclusive()?;
                check(inner, repair, &mut bin)?
            };
            bin.empty(inner)?;
            Ok(report)
        })
    }
}

fn check(inner: &Arc<Inner>, repair: Repair, bin: &mut Bin) -> Result<FsckReport, StoreError> {
    let mut report = FsckReport { repaired: repair == Repair::Yes, ..FsckReport::default() };
    // The order matters: what refers to something is checked after it, and so is removed with it.
    check_blobs(inner, repair, bin, &mut report)?;
    check_layers(inner, repair, bin, &mut report)?;
    check_images(inner, repair, &mut report)?;
    check_indexes(inner, repair, &mut report)?;
    check_references(inner, repair, &mut report)?;
    check_steps(inner, repair, &mut report)?;
    Ok(report)
}

fn check_blobs(
    inner: &Inner,
    repair: Repair,
    bin: &mut Bin,
    report: &mut FsckReport,
) -> Result<(), StoreError> {
    let blobs = blob_paths(inner)?;
    report.blobs = blobs.len() as u64;
    let hashed: Result<Vec<bool>, StoreError> = blobs
        .par_iter()
        .map(|(digest, path)| {
            let mut content = file::open(path)?;
            let mut hasher = HashingWriter::new(std::io::sink());
            std::io::copy(&mut content, &mut hasher)
                .map_err(corten_sys::error::at("read", path))?;
            Ok(hasher.finish().0 == *digest)
        })
        .collect();
    for ((digest, path), whole) in blobs.iter().zip(hashed?) {
        if !whole {
            report.problems.push(Problem::Blob(*digest));
            if repair == Repair::Yes {
                bin.take(inner, path)?;
            }
        }
    }
    Ok(())
}

fn check_layers(
    inner: &Arc<Inner>,
    repair: Repair,
    bin: &mut Bin,
    report: &mut FsckReport,
) -> Result<(), StoreError> {
    let layers = inner.layer_names()?;
    report.layers = layers.len() as u64;
    let states: Result<Vec<State>, StoreError> =
        layers.par_iter().map(|diff_id| state(inner, diff_id)).collect();
    for (diff_id, state) in layers.iter().zip(states?) {
        match state {
            State::Whole => continue,
            State::Lost => report.lost += 1,
            State::Damaged => report.problems.push(Problem::Layer(*diff_id)),
        }
        if repair == Repair::Yes {
            bin.take(inner, &inner.layout.layer(diff_id))?;
        }
    }
    Ok(())
}

/// What is left of a layer.
#[derive(Clone, Copy)]
enum State {
    Whole,
    /// It was never promised to outlive a power failure, and it did not.
    Lost,
    Damaged,
}

fn state(inner: &Arc<Inner>, diff_id: &DiffId) -> Result<State, StoreError> {
    let Some(meta) = inner.meta(diff_id)? else { return Ok(State::Lost) };
    let is_promised = inner.is_trusted(&meta);
    Ok(match inner.is_whole(&inner.layout.layer(diff_id), &meta)? {
        true => State::Whole,
        false if is_promised => State::Damaged,
        false => State::Lost,
    })
}

fn check_images(
    inner: &Arc<Inner>,
    repair: Repair,
    report: &mut FsckReport,
) -> Result<(), StoreError> {
    for image in inner.image_names()? {
        report.images += 1;
        let path = inner.layout.image(&image);
        let problem = match inner.image_record(&image) {
            Ok(Some(record)) => {
                let manifest = inner.layout.blob(&record.manifest);
                match inner.image(&image) {
                    Ok(_) if !file::exists(&manifest)? => {
                        Some(Problem::Image { image, what: "its manifest".to_owned() })
                    }
                    Ok(_) => None,
                    Err(StoreError::ImageIncomplete { missing, .. }) => {
                        Some(Problem::Image { image, what: missing })
                    }
                    Err(StoreError::Document { .. } | StoreError::BlobDamaged { .. }) => {
                        let what = "a configuration that can be read".to_owned();
                        Some(Problem::Image { image, what })
                    }
                    Err(error) => return Err(error),
                }
            }
            Ok(None) | Err(StoreError::Record { .. }) => Some(Problem::Record(path.clone())),
            Err(error) => return Err(error),
        };
        note(inner, repair, report, problem, &path)?;
    }
    Ok(())
}

/// An index without one of its images is removed; the other images stay, though without a name.
fn check_indexes(
    inner: &Arc<Inner>,
    repair: Repair,
    report: &mut FsckReport,
) -> Result<(), StoreError> {
    for index in inner.index_names()? {
        report.indexes += 1;
        let path = inner.layout.index(&index);
        let problem = match inner.index_record(&index) {
            Ok(Some(record)) => {
                index_problem(inner, &index, &record)?.map(|what| Problem::Index { index, what })
            }
            Ok(None) | Err(StoreError::Record { .. }) => Some(Problem::Record(path.clone())),
            Err(error) => return Err(error),
        };
        note(inner, repair, report, problem, &path)?;
    }
    Ok(())
}

/// What an index lacks.
fn index_problem(
    inner: &Arc<Inner>,
    digest: &Digest,
    record: &Record,
) -> Result<Option<String>, StoreError> {
    match inner.index(digest) {
        Ok(_) => {}
        Err(StoreError::IndexIncomplete { missing, .. }) => return Ok(Some(missing)),
        Err(StoreError::Document { .. } | StoreError::BlobDamaged { .. }) => {
            return Ok(Some("a document that can be read".to_owned()));
        }
        Err(error) => return Err(error),
    }
    for member in &record.members {
        if !file::exists(&inner.layout.image(&member.image))? {
            return Ok(Some(format!("the image `{}`", member.image)));
        }
        if !file::exists(&inner.layout.blob(&member.manifest))? {
            return Ok(Some(format!("the manifest `{}`", member.manifest)));
        }
    }
    Ok(None)
}

fn check_references(
    inner: &Inner,
    repair: Repair,
    report: &mut FsckReport,
) -> Result<(), StoreError> {
    let folder = inner.layout.folder("refs");
    for name in file::list_dir(&folder)? {
        let path = folder.join(name);
        let problem = match crate::refs::read(&path) {
            Ok(Some(tagged)) if file::exists(&inner.target_path(&tagged.target))? => None,
            Ok(Some(tagged)) => Some(Problem::Reference(tagged.reference)),
            Ok(None) | Err(StoreError::Record { .. }) => Some(Problem::Record(path.clone())),
            Err(error) => return Err(error),
        };
        note(inner, repair, report, problem, &path)?;
    }
    Ok(())
}

fn check_steps(inner: &Inner, repair: Repair, report: &mut FsckReport) -> Result<(), StoreError> {
    for path in step_paths(inner)? {
        let Some(stored) = read_step(&path)? else {
            report.lost += 1;
            if repair == Repair::Yes {
                inner.remove_record(&path)?;
            }
            continue;
        };
        let problem = match stored.record.layer {
            Some(layer) if !file::exists(&inner.layout.layer(&layer.diff_id()))? => {
                Some(Problem::Step(path.clone()))
            }
            _ => None,
        };
        note(inner, repair, report, problem, &path)?;
    }
    Ok(())
}

/// Adds a problem to the report and removes the record that has it.
fn note(
    inner: &Inner,
    repair: Repair,
    report: &mut FsckReport,
    problem: Option<Problem>,
    path: &Path,
) -> Result<(), StoreError> {
    if let Some(problem) = problem {
        report.problems.push(problem);
        if repair == Repair::Yes {
            inner.remove_record(path)?;
        }
    }
    Ok(())
}
