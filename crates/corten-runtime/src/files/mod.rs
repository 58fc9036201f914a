//! A container's files, copied in and out.
//!
//! ```text
//! caller: the host's files ◄── tar in a pipe ──► a copy of this process: the container's files
//! ```
//!
//! The part that touches the container's files is a process in the container's user namespace, which
//! knows of the host's nothing but its end of the pipe. It has the rights of the container's root and no
//! others, so that owners are those of the container by themselves, and so that nothing which the
//! container's programs do to its links and directories meanwhile can lead to a file of the host.
//! Besides, every path is resolved by the kernel beneath the container's root (`openat2`).
//!
//! A container that does not run is first given its namespaces and mounts, and no program
//! ([`Plan::holding`]).

mod archive;
mod error;
mod extract;
mod place;

use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use corten_sys::beneath::{Resolve, Root};
use corten_sys::command::pipe;
use corten_sys::process::{self, CloneOptions, Cloned};
use corten_sys::{file, namespace};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::error::RunError;
use crate::plan::Plan;
use crate::run::{Io, Running, run};

use archive::Source;
use error::Wire;
use extract::{Destination, Extraction, First, Owners};
use place::{CopyPath, Found, PlaceError, Placing};

pub use error::FilesError;
pub use extract::Copied;

/// What the source is called on the way where only what is in it is meant.
const UNNAMED: &[u8] = b"contents";

/// Errors and answers are short.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// How files are copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CopyOptions {
    /// A link that is named as the source stands for what it leads to.
    pub follow: bool,
    /// Owners, and the rights that programs have by them, are kept.
    pub archive: bool,
}

/// Something of the host.
#[derive(Debug, Clone, Copy)]
pub struct HostPath<'a> {
    pub path: &'a Path,
    /// Where a relative path begins.
    pub from: &'a Path,
}

impl HostPath<'_> {
    fn parse(self) -> CopyPath {
        CopyPath::new(self.path.as_os_str().as_bytes(), self.from.as_os_str().as_bytes())
    }
}

/// Runs a function while a container that does not run has its namespaces and its mounts; the function
/// gets the process that stands for it.
pub fn hold<T>(plan: &Plan, work: impl FnOnce(u32) -> T) -> Result<T, RunError> {
    let plan = plan.clone().holding();
    let work = std::cell::Cell::new(Some(work));
    let done = std::cell::Cell::new(None);
    let started = |running: Running| {
        if let Some(work) = work.take() {
            done.set(Some(work(running.pid)));
        }
        running.process.kill()
    };
    let mut nobody = |_, _: &[u8]| {};
    let io = Io { started: Some(&started), ..Io::callback(&mut nobody) };
    run(&plan, io)?;
    // It was told that it has begun, or there is an error.
    done.into_inner().ok_or(RunError::HelperLost)
}

/// What is told of a source before its tar.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Described {
    is_directory: bool,
    name: Vec<u8>,
}

impl Described {
    fn of(source: &Source) -> Self {
        Self { is_directory: source.is_directory(), name: source.name.clone() }
    }

    /// The name on the way.
    fn top(&self) -> &[u8] {
        if self.is_contents() { UNNAMED } else { &self.name }
    }

    fn is_contents(&self) -> bool {
        self.name == b"."
    }

    /// How the first word of the entries changes, and the directory that takes them.
    fn place(&self, path: &CopyPath, to: Destination) -> Result<(Root, First), FilesError> {
        let placing = place::place(self.is_directory, path, to.found)?;
        let first = match placing {
            Placing::Into if self.is_contents() => First::Dropped,
            Placing::Into => First::Kept,
            Placing::As => First::Renamed(to.name),
        };
        Ok((Root::of(to.dir), first))
    }
}

/// Copies from a container, whose first process this is, to the host.
pub fn copy_out(
    pid: u32,
    path: &[u8],
    to: HostPath<'_>,
    options: CopyOptions,
) -> Result<Copied, FilesError> {
    let destination = to.parse();
    read_from(pid, path, options, true, &mut |described, tar| {
        let root = Root::open(Path::new("/"))?;
        let found = Destination::find(&root, &destination)?;
        let (root, first) = described.place(&destination, found)?;
        let owners = if options.archive { Owners::Kept } else { Owners::Callers };
        let extraction = Extraction {
            root: &root,
            below: PathBuf::new(),
            resolve: Resolve::NoLinks,
            first,
            owners,
        };
        extraction.run(tar)
    })
}

/// Writes what a container, whose first process this is, has at a path as a tar.
pub fn archive(
    pid: u32,
    path: &[u8],
    options: CopyOptions,
    out: &mut dyn Write,
) -> Result<(), FilesError> {
    read_from(pid, path, options, false, &mut |_, tar| {
        io::copy(tar, out).map(drop).map_err(FilesError::step("write the tar"))
    })
}

/// What takes a tar together with what is told of it.
type Take<'a, T> = &'a mut dyn FnMut(Described, &mut dyn Read) -> Result<T, FilesError>;

fn read_from<T>(
    pid: u32,
    path: &[u8],
    options: CopyOptions,
    is_named: bool,
    take: Take<'_, T>,
) -> Result<T, FilesError> {
    let path = CopyPath::new(path, b"/");
    let (reader, writer) = pipe().map_err(FilesError::step("make a pipe"))?;
    let (worker, reader) = Worker::start(pid, (reader, writer), |root, writer| {
        let source = Source::find(root, &path, options.follow, "in the container")?;
        let described = Described::of(&source);
        let mut out = std::fs::File::from(writer);
        let mut line = serde_json::to_vec(&described).map_err(|error| told(&error))?;
        line.push(b'\n');
        out.write_all(&line).map_err(FilesError::step("write into the pipe"))?;
        let contents: &[u8] = if described.is_contents() { b"" } else { &described.name };
        source.write(if is_named { described.top() } else { contents }, &mut out)
    })?;
    let mut stream = BufReader::new(std::fs::File::from(reader));
    let mut line = Vec::new();
    let read = (&mut stream).take(ANSWER_BYTES_MAX).read_until(b'\n', &mut line);
    let taken = read.map_err(FilesError::step("read from the pipe")).and_then(|_| {
        let described = serde_json::from_slice(&line).map_err(|_| FilesError::Lost)?;
        take(described, &mut stream)
    });
    // The worker may still be writing what nobody wants.
    drop(stream);
    both(taken, worker.finish::<()>()).map(|(taken, ())| taken)
}

/// Copies from the host into a container, whose first process this is.
pub fn copy_in(
    pid: u32,
    from: HostPath<'_>,
    path: &[u8],
    options: CopyOptions,
) -> Result<Copied, FilesError> {
    let root = Root::open(Path::new("/"))?;
    let source = Source::find(&root, &from.parse(), options.follow, "here")?;
    let described = Described::of(&source);
    let top = described.top().to_vec();
    let path = CopyPath::new(path, b"/");
    // As in Docker: numbers are kept either way.
    let owners = Owners::Kept;
    let (reader, writer) = pipe().map_err(FilesError::step("make a pipe"))?;
    let (worker, writer) = Worker::start(pid, (writer, reader), |root, reader| {
        let found = Destination::find(root, &path)?;
        let (root, first) = described.place(&path, found)?;
        let extraction = Extraction {
            root: &root,
            below: PathBuf::new(),
            resolve: Resolve::NoLinks,
            first,
            owners,
        };
        extraction.run(&mut std::fs::File::from(reader))
    })?;
    let written = source.write(&top, &mut std::fs::File::from(writer));
    both(written, worker.finish()).map(|((), copied)| copied)
}

/// Unpacks a tar in a directory of a container, whose first process this is.
pub fn unpack(pid: u32, tar: &mut dyn Read, path: &[u8]) -> Result<Copied, FilesError> {
    let path = CopyPath::new(path, b"/");
    let (reader, writer) = pipe().map_err(FilesError::step("make a pipe"))?;
    let (worker, writer) = Worker::start(pid, (writer, reader), |root, reader| {
        if Destination::find(root, &path)?.found != Found::Directory {
            return Err(PlaceError::ArchiveOntoFile.into());
        }
        let below = PathBuf::from(std::ffi::OsStr::from_bytes(&path.whole()));
        // Links that the container has are its own business, as long as they stay in its root.
        let (resolve, first, owners) = (Resolve::InRoot, First::Kept, Owners::Kept);
        let extraction = Extraction { root, below, resolve, first, owners };
        extraction.run(&mut std::fs::File::from(reader))
    })?;
    let mut writer = std::fs::File::from(writer);
    let written = io::copy(tar, &mut writer).map(drop);
    drop(writer);
    both(written.map_err(FilesError::step("pass on the tar")), worker.finish())
        .map(|((), copied)| copied)
}

/// Of two failures, the worker's is the cause when the other only found the pipe closed.
fn both<A, B>(
    ours: Result<A, FilesError>,
    theirs: Result<B, FilesError>,
) -> Result<(A, B), FilesError> {
    match (ours, theirs) {
        (Ok(ours), Ok(theirs)) => Ok((ours, theirs)),
        (Err(error), Ok(_)) | (Ok(_), Err(error)) => Err(error),
        (Err(ours), Err(theirs)) => Err(if was_cut_off(&ours) { theirs } else { ours }),
    }
}

fn was_cut_off(error: &FilesError) -> bool {
    use corten_oci::tar::TarError;
    match error {
        FilesError::Lost | FilesError::Tar(TarError::Truncated { .. }) => true,
        FilesError::Tar(TarError::Write(source)) | FilesError::Step { source, .. } => {
            source.kind() == io::ErrorKind::BrokenPipe
        }
        _ => false,
    }
}

fn told(error: &serde_json::Error) -> FilesError {
    FilesError::Told { message: error.to_string(), hint: None }
}

/// The process that works in a container.
struct Worker {
    pid: u32,
    answer: OwnedFd,
}

impl Worker {
    /// Copies this process into the container's user namespace, to do something with its root. Of the
    /// two ends of a pipe, the first stays ours and the second is the worker's.
    fn start<T: Serialize>(
        pid: u32,
        (ours, stream): (OwnedFd, OwnedFd),
        work: impl FnOnce(&Root, OwnedFd) -> Result<T, FilesError>,
    ) -> Result<(Self, OwnedFd), FilesError> {
        let (answer, theirs) = pipe().map_err(FilesError::step("make a pipe"))?;
        let cloned = process::clone(CloneOptions::default());
        match cloned.map_err(FilesError::step("copy the process"))? {
            Cloned::Parent { pid } => Ok((Self { pid, answer }, ours)),
            Cloned::Child => {
                drop((ours, answer));
                let done = enter(pid).and_then(|root| work(&root, stream));
                let done = done.map_err(|error| Wire::from(&error));
                // If this cannot be told, the missing answer says that it failed.
                let bytes = serde_json::to_vec(&done).unwrap_or_default();
                std::fs::File::from(theirs).write_all(&bytes).unwrap_or_default();
                process::exit_now(i32::from(done.is_err()))
            }
        }
    }

    /// Waits for the worker's end and takes its answer.
    fn finish<T: DeserializeOwned>(self) -> Result<T, FilesError> {
        let answer = std::fs::File::from(self.answer);
        let bytes = file::read_file_limited(&answer, Path::new("answer"), ANSWER_BYTES_MAX);
        process::wait_pid(self.pid).map_err(FilesError::step("wait for a process"))?;
        let answer: Result<T, Wire> =
            serde_json::from_slice(&bytes?).map_err(|_| FilesError::Lost)?;
        Ok(answer?)
    }
}

/// Becomes root of the container, as far as files are concerned, and opens the container's root.
fn enter(pid: u32) -> Result<Root, FilesError> {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    let root = corten_sys::beneath::Dir::open(&folder.join("root"))?.shown_as("/");
    let is_same =
        namespace::identity(pid, "user")? == namespace::identity(std::process::id(), "user")?;
    if !is_same {
        let user = file::open(&folder.join("ns/user"))?;
        let attempt = "enter the container's user namespace";
        namespace::enter(user.as_fd()).map_err(FilesError::step(attempt))?;
        process::become_root_here().map_err(FilesError::step("become the container's root"))?;
    }
    process::die_with_parent().map_err(FilesError::step("bind the process to its caller"))?;
    rustix::process::umask(rustix::fs::Mode::empty());
    Ok(Root::of(root))
}
