//! Emulators are made known to the kernel.
//!
//! Packages of qemu bring a line for each emulator in `binfmt.d`, which systemd hands to the kernel
//! at the start of the machine. Where there is no systemd, or it was started before the package came,
//! nobody does it; it is one write for each.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use corten_oci::platform::Platform;
use corten_sys::error::{IoError, at};
use corten_sys::file;
use corten_sys::mount::{Attributes, FileSystem, attach_at};

use super::{BINFMT_MISC, Emulation, Execution, MACHINES, elf_header, without_emulation};

/// Where such lines are, the strongest first: a file hides those of its name in later ones.
const FOLDERS: [&str; 4] =
    ["/etc/binfmt.d", "/run/binfmt.d", "/usr/local/lib/binfmt.d", "/usr/lib/binfmt.d"];

/// The most bytes of such a file: a line has less than 2 KiB.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Why nothing could be registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    #[error("only root can register emulators")]
    NotRoot,
    #[error("no emulator is installed{}", architecture.as_ref().map(|name| format!(" for `{name}`")).unwrap_or_default())]
    NothingInstalled {
        /// What was asked for, if it was one.
        architecture: Option<String>,
    },
    #[error("this kernel has no `binfmt_misc`")]
    NoSupport(#[source] IoError),
    #[error("failed to register the emulator `{name}`")]
    Refused {
        name: String,
        #[source]
        source: IoError,
    },
    #[error(transparent)]
    Io(#[from] IoError),
}

impl RegisterError {
    /// Says what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotRoot => {
                Some("run it as root: `sudo corten system emulation --register`".to_owned())
            }
            Self::NothingInstalled { .. } => {
                Some("install it: `apt-get install qemu-user-static`".to_owned())
            }
            Self::NoSupport(_) => {
                Some("load it: `modprobe binfmt_misc`, or use a kernel that has it".to_owned())
            }
            Self::Refused { .. } | Self::Io(_) => None,
        }
    }
}

/// An emulator that the kernel now knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    pub architecture: String,
    pub interpreter: PathBuf,
    /// Whether it was so before.
    pub already: bool,
}

/// One line of `binfmt.d`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) interpreter: PathBuf,
    pub(super) flags: String,
    /// With the flag `F`, as the kernel takes it.
    pub(super) text: String,
    magic: Vec<u8>,
    mask: Vec<u8>,
}

/// Registers the installed emulators, of all architectures or of those that are named. What is
/// registered properly already stays.
pub fn register(wanted: &[String]) -> Result<Vec<Registered>, RegisterError> {
    if file::effective_user_id() != 0 {
        return Err(RegisterError::NotRoot);
    }
    let lines = installed()?;
    let host = Platform::host();
    let mut chosen = Vec::new();
    for (architecture, ..) in MACHINES {
        let platform = Platform::new(&host.os, architecture, None);
        let is_wanted = wanted.is_empty() || wanted.iter().any(|name| name == architecture);
        if !is_wanted || without_emulation(&host, &platform).is_some() {
            continue;
        }
        match lines.values().find(|line| line.takes(architecture)) {
            Some(line) => chosen.push((architecture, platform, line)),
            None if wanted.is_empty() => {}
            None => {
                let architecture = Some(architecture.to_owned());
                return Err(RegisterError::NothingInstalled { architecture });
            }
        }
    }
    if chosen.is_empty() {
        return Err(RegisterError::NothingInstalled { architecture: wanted.first().cloned() });
    }
    mount()?;
    let mut registered = Vec::new();
    for (architecture, platform, line) in chosen {
        let known = Emulation::gather()?;
        let architecture = architecture.to_owned();
        if let Ok(Execution::Emulated { interpreter }) = known.execution(&host, &platform) {
            registered.push(Registered { architecture, interpreter, already: true });
            continue;
        }
        let refused = |source| RegisterError::Refused { name: line.name.clone(), source };
        if known.emulators.iter().any(|emulator| emulator.name == line.name) {
            // One without the flag, or that is switched off, makes way.
            write(&Path::new(BINFMT_MISC).join(&line.name), "-1").map_err(refused)?;
        }
        write(&Path::new(BINFMT_MISC).join("register"), &line.text).map_err(refused)?;
        let interpreter = line.interpreter.clone();
        registered.push(Registered { architecture, interpreter, already: false });
    }
    Ok(registered)
}

/// Mounts the kernel's list where it belongs, unless it is there.
fn mount() -> Result<(), RegisterError> {
    let folder = Path::new(BINFMT_MISC);
    if file::exists(&folder.join("register"))? {
        return Ok(());
    }
    let failed = |source| RegisterError::NoSupport(IoError::new("mount", folder, source));
    let file_system = FileSystem::new("binfmt_misc").map_err(failed)?;
    let mounted = file_system.mount(Attributes::default()).map_err(failed)?;
    attach_at(mounted.as_fd(), folder).map_err(failed)
}

/// The kernel takes a registration in one write.
fn write(path: &Path, text: &str) -> Result<(), IoError> {
    let mut file = OpenOptions::new().write(true).open(path).map_err(at("open", path))?;
    file.write_all(text.as_bytes()).map_err(at("write", path))
}

/// The lines of all installed emulators, by their file's name.
fn installed() -> Result<BTreeMap<String, Line>, IoError> {
    let mut lines = BTreeMap::new();
    let mut hidden = BTreeSet::new();
    for folder in FOLDERS.map(Path::new) {
        let Some(names) = file::absent_is_none(file::list_dir(folder))? else { continue };
        for name in names {
            let is_line = Path::new(&name).extension().is_some_and(|end| end == "conf");
            let Some(name) = name.to_str().filter(|_| is_line) else { continue };
            if !hidden.insert(name.to_owned()) {
                continue;
            }
            let bytes = file::read_limited(&folder.join(name), FILE_BYTES_MAX)?;
            let text = String::from_utf8_lossy(&bytes);
            for line in text.lines().filter_map(Line::parse) {
                if file::exists(&line.interpreter)? {
                    lines.insert(format!("{name} {}", line.name), line);
                }
            }
        }
    }
    Ok(lines)
}

impl Line {
    /// Reads `:NAME:M:OFFSET:MAGIC:MASK:INTERPRETER:FLAGS`, whose first character separates.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let separator = text.chars().next().filter(|first| !matches!(first, '#' | ';'))?;
        let fields: Vec<&str> = text.split(separator).collect();
        let [_, name, "M", "" | "0", magic, mask, interpreter, flags] = fields.as_slice() else {
            return None;
        };
        let (magic, mask) = (escaped(magic)?, escaped(mask)?);
        if magic.len() != mask.len() || name.is_empty() || name.contains('/') {
            return None;
        }
        let fixed = if flags.contains('F') { String::new() } else { "F".to_owned() };
        Some(Self {
            name: (*name).to_owned(),
            interpreter: PathBuf::from(interpreter),
            flags: format!("{flags}{fixed}"),
            text: format!("{text}{fixed}"),
            magic,
            mask,
        })
    }

    fn takes(&self, architecture: &str) -> bool {
        let Some(header) = elf_header(architecture) else { return false };
        let mut bytes = header.iter().zip(&self.magic).zip(&self.mask);
        self.magic.len() <= header.len()
            && self.magic.len() >= 20
            && bytes.all(|((byte, magic), mask)| (byte ^ magic) & mask == 0)
    }
}

/// Bytes as themselves or as `\xHH`.
fn escaped(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        if *first != b'\\' {
            bytes.push(*first);
            rest = after;
            continue;
        }
        let digits = after.strip_prefix(b"x")?;
        let pair = std::str::from_utf8(digits.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(pair, 16).ok()?);
        rest = digits.get(2..)?;
    }
    Some(bytes)
}
