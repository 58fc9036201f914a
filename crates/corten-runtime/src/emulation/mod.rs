//! Programs of other processors: whether this machine executes them, and through what.
//!
//! Linux hands a program whose first bytes it does not know to an interpreter that was registered for
//! them in `binfmt_misc`: `qemu-aarch64` for an ELF file of `AArch64`. The registration must have the
//! flag `F`, by which the kernel opens the interpreter once and for all: else it would look for it
//! inside the container.

mod register;

use std::fmt;
use std::path::{Path, PathBuf};

use corten_oci::platform::Platform;
use corten_sys::error::IoError;
use corten_sys::file;

pub use register::{RegisterError, Registered, register};

/// Where the kernel shows and takes registrations.
pub(crate) const BINFMT_MISC: &str = "/proc/sys/fs/binfmt_misc";

/// What the kernel shows of one registration: two lists of 256 bytes in digits, and a path.
const ENTRY_BYTES_MAX: u64 = 16 * 1024;

/// The documented way out.
const REMEDY: &str =
    "as root: `apt-get install qemu-user-static`, then `corten system emulation --register`";

/// Every platform whose ELF header is known: architecture, 64 bits, little-endian, `e_machine`.
const MACHINES: [(&str, bool, bool, u16); 13] = [
    ("386", false, true, 3),
    ("amd64", true, true, 62),
    ("arm", false, true, 40),
    ("arm64", true, true, 183),
    ("loong64", true, true, 258),
    ("mips", false, false, 8),
    ("mips64", true, false, 8),
    ("mips64le", true, true, 8),
    ("mipsle", false, true, 8),
    ("ppc64", true, false, 21),
    ("ppc64le", true, true, 21),
    ("riscv64", true, true, 243),
    ("s390x", true, false, 22),
];

/// How programs of a platform are executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Execution {
    /// By the processor.
    Native,
    /// By an interpreter, several times slower.
    Emulated {
        /// The interpreter's path on this machine.
        interpreter: PathBuf,
    },
}

/// Why programs of a platform cannot be executed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this machine ({host}) cannot execute programs of `{platform}`: {reason}")]
pub struct NotExecutable {
    /// The machine's own platform.
    pub host: Box<Platform>,
    /// What was asked for.
    pub platform: Box<Platform>,
    /// Why.
    pub reason: Obstacle,
}

/// What is in the way of an emulator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Obstacle {
    /// Another operating system.
    System,
    /// The processor's 32-bit half, for whose system calls the filter has no rules.
    Half,
    /// No emulator could be known to the kernel.
    NotMounted,
    /// Emulators are switched off as a whole.
    SwitchedOff,
    /// None is registered for this processor.
    NoEmulator,
    /// One is, but it is switched off.
    EmulatorOff { name: String },
    /// One is, but the kernel would look for it inside the container.
    NotFixed { name: String, interpreter: PathBuf },
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::System => f.write_str("they are for another operating system"),
            Self::Half => f.write_str("the system call filter has no rules for 32-bit programs"),
            Self::NotMounted => {
                write!(f, "`{BINFMT_MISC}` is not mounted, so there is no emulator")
            }
            Self::SwitchedOff => write!(f, "`{BINFMT_MISC}/status` says `disabled`"),
            Self::NoEmulator => f.write_str("no emulator is registered for them"),
            Self::EmulatorOff { name } => write!(f, "the emulator `{name}` is switched off"),
            Self::NotFixed { name, interpreter } => write!(
                f,
                "the emulator `{name}` is registered without the flag `F`, so `{}` would have to be \
                 in the image",
                interpreter.display()
            ),
        }
    }
}

impl NotExecutable {
    fn new(host: &Platform, platform: &Platform, reason: Obstacle) -> Self {
        Self { host: Box::new(host.clone()), platform: Box::new(platform.clone()), reason }
    }

    /// Says what to do about it.
    pub fn hint(&self) -> String {
        match &self.reason {
            Obstacle::System => "choose an image for `linux`".to_owned(),
            Obstacle::Half => format!("choose `{}`", self.host),
            Obstacle::SwitchedOff => format!("as root: `echo 1 > {BINFMT_MISC}/status`"),
            Obstacle::EmulatorOff { name } => format!("as root: `echo 1 > {BINFMT_MISC}/{name}`"),
            Obstacle::NotFixed { .. } => "as root: `corten system emulation --register`".to_owned(),
            Obstacle::NotMounted | Obstacle::NoEmulator => REMEDY.to_owned(),
        }
    }
}

/// One registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Emulator {
    /// Its name, such as `qemu-aarch64`.
    pub name: String,
    pub enabled: bool,
    pub interpreter: PathBuf,
    /// Letters: `F` for an interpreter that is open already.
    pub flags: String,
    offset: usize,
    magic: Vec<u8>,
    mask: Vec<u8>,
}

impl Emulator {
    /// Whether the kernel has opened the interpreter already.
    pub fn is_fixed(&self) -> bool {
        self.flags.contains('F')
    }

    /// Reads what the kernel shows; `None` for registrations by file name and for what is no
    /// registration.
    fn parse(name: &str, text: &str) -> Option<Self> {
        let mut lines = text.lines();
        let enabled = match lines.next()? {
            "enabled" => true,
            "disabled" => false,
            _ => return None,
        };
        let (mut interpreter, mut flags) = (None, String::new());
        let (mut offset, mut magic, mut mask) = (0, None, None);
        for line in lines {
            match line.split_once(' ') {
                Some(("interpreter", path)) => interpreter = Some(PathBuf::from(path)),
                Some(("flags:", letters)) => letters.clone_into(&mut flags),
                Some(("offset", number)) => offset = number.parse().ok()?,
                Some(("magic", digits)) => magic = Some(hexadecimal(digits)?),
                Some(("mask", digits)) => mask = Some(hexadecimal(digits)?),
                _ => {}
            }
        }
        let magic = magic?;
        let mask = mask.unwrap_or_else(|| vec![0xff; magic.len()]);
        let (name, interpreter) = (name.to_owned(), interpreter?);
        Some(Self { name, enabled, interpreter, flags, offset, magic, mask })
    }

    /// Whether it takes a program with this header, as the kernel compares.
    fn takes(&self, header: &[u8]) -> bool {
        let Some(header) = header.get(self.offset..) else { return false };
        if header.len() < self.magic.len() || self.mask.len() != self.magic.len() {
            return false;
        }
        let bytes = header.iter().zip(&self.magic).zip(&self.mask);
        bytes.clone().all(|((byte, magic), mask)| (byte ^ magic) & mask == 0)
    }
}

fn hexadecimal(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok())
        .collect::<Option<Vec<u8>>>()
        .filter(|_| digits.len().is_multiple_of(2))
}

/// What the kernel knows of interpreters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Emulation {
    /// Whether its list can be read.
    pub mounted: bool,
    /// Whether it is used at all.
    pub enabled: bool,
    pub emulators: Vec<Emulator>,
}

impl Emulation {
    /// Reads the kernel's list, which ordinary users may read too.
    pub fn gather() -> Result<Self, IoError> {
        Self::gather_from(Path::new(BINFMT_MISC))
    }

    fn gather_from(folder: &Path) -> Result<Self, IoError> {
        let status = file::read_optional(&folder.join("status"), ENTRY_BYTES_MAX)?;
        let Some(status) = status else { return Ok(Self::default()) };
        let mut emulators = Vec::new();
        for name in file::list_dir(folder)? {
            let Some(name) = name.to_str().filter(|name| !matches!(*name, "status" | "register"))
            else {
                continue;
            };
            // Somebody may remove it meanwhile.
            let text = file::read_optional(&folder.join(name), ENTRY_BYTES_MAX)?;
            let text = text.unwrap_or_default();
            emulators.extend(Emulator::parse(name, &String::from_utf8_lossy(&text)));
        }
        Ok(Self { mounted: true, enabled: status.starts_with(b"enabled"), emulators })
    }

    /// Decides how a machine executes programs of a platform.
    pub fn execution(
        &self,
        host: &Platform,
        platform: &Platform,
    ) -> Result<Execution, NotExecutable> {
        if let Some(decided) = without_emulation(host, platform) {
            return decided;
        }
        let refused = |reason| Err(NotExecutable::new(host, platform, reason));
        let Some(header) = elf_header(&platform.architecture) else {
            return refused(Obstacle::NoEmulator);
        };
        if !self.mounted {
            return refused(Obstacle::NotMounted);
        }
        let takes = |emulator: &&Emulator| emulator.takes(&header);
        let fitting: Vec<&Emulator> = self.emulators.iter().filter(takes).collect();
        let is_ready = |emulator: &&&Emulator| emulator.enabled && emulator.is_fixed();
        if let (true, Some(ready)) = (self.enabled, fitting.iter().find(is_ready)) {
            return Ok(Execution::Emulated { interpreter: ready.interpreter.clone() });
        }
        let Some(first) = fitting.first() else { return refused(Obstacle::NoEmulator) };
        let name = first.name.clone();
        refused(match (self.enabled, first.enabled) {
            (false, _) => Obstacle::SwitchedOff,
            (true, false) => Obstacle::EmulatorOff { name },
            (true, true) => Obstacle::NotFixed { name, interpreter: first.interpreter.clone() },
        })
    }
}

/// Finds out how this machine executes programs of a platform; asks the kernel only for foreign ones.
pub fn execution(platform: &Platform) -> Result<Result<Execution, NotExecutable>, IoError> {
    let host = Platform::host();
    if let Some(decided) = without_emulation(&host, platform) {
        return Ok(decided);
    }
    Ok(Emulation::gather()?.execution(&host, platform))
}

/// The architectures that this machine could be asked for, its own first.
pub fn architectures() -> Vec<String> {
    let host = Platform::host().architecture;
    let others = MACHINES.iter().map(|(name, ..)| (*name).to_owned()).filter(|name| *name != host);
    std::iter::once(host.clone()).chain(others).collect()
}

/// What needs no look at the kernel's list.
fn without_emulation(
    host: &Platform,
    platform: &Platform,
) -> Option<Result<Execution, NotExecutable>> {
    let refused = |reason| Some(Err(NotExecutable::new(host, platform, reason)));
    // An image that says nothing is taken for one of this machine.
    if platform.architecture.is_empty() {
        return Some(Ok(Execution::Native));
    }
    if platform.os != host.os {
        return refused(Obstacle::System);
    }
    if platform.architecture == host.architecture {
        return Some(Ok(Execution::Native));
    }
    match (host.architecture.as_str(), platform.architecture.as_str()) {
        ("amd64", "386") | ("arm64", "arm") => refused(Obstacle::Half),
        _ => None,
    }
}

/// The first 64 bytes of a program for an architecture, as far as emulators look at them.
fn elf_header(architecture: &str) -> Option<[u8; 64]> {
    let (_, wide, little, machine) =
        MACHINES.iter().find(|(name, ..)| *name == architecture).copied()?;
    let mut header = [0; 64];
    let number = |value: u16| if little { value.to_le_bytes() } else { value.to_be_bytes() };
    header[..4].copy_from_slice(b"\x7fELF");
    header[4] = if wide { 2 } else { 1 };
    header[5] = if little { 1 } else { 2 };
    header[6] = 1;
    // An executable file; emulators take position-independent ones alike.
    header[16..18].copy_from_slice(&number(2));
    header[18..20].copy_from_slice(&number(machine));
    // The n64 flavour of MIPS has no flag of its own, o32 the one for its calling convention.
    if architecture.starts_with("mips") && !wide {
        let flags = 0x1000_u32;
        let bytes = if little { flags.to_le_bytes() } else { flags.to_be_bytes() };
        header[36..40].copy_from_slice(&bytes);
    }
    Some(header)
}

#[cfg(test)]
mod tests;
