//! Why a container's program could not be executed, in words that say what to do.

use std::io;

use serde::{Deserialize, Serialize};

/// How much of a program file is looked at: the headers of an ELF file, or the first line.
pub(crate) const HEAD_BYTES: usize = 2048;

/// Why a container's program could not be executed.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    #[error("failed to find `{program}` in the container's `PATH`")]
    NotInPath { program: String },
    #[error("failed to find `{program}` in the container")]
    NotFound { program: String },
    #[error("failed to execute `{program}`: it is a directory")]
    Directory { program: String },
    #[error("failed to execute `{program}`: it is not marked as executable for this user")]
    NotExecutable { program: String },
    #[error(
        "failed to execute `{program}`: it is built for {built_for}, this machine is {machine}"
    )]
    WrongArchitecture { program: String, built_for: &'static str, machine: &'static str },
    #[error("failed to execute `{program}`: its loader `{loader}` is not in the container")]
    NoLoader { program: String, loader: String },
    #[error(
        "failed to execute `{program}`: its interpreter `{interpreter}` is not in the container"
    )]
    NoInterpreter { program: String, interpreter: String },
    #[error("failed to execute `{program}`: it is neither a program nor a script with a `#!` line")]
    NotAProgram { program: String },
    #[error("failed to execute `{program}`")]
    Refused {
        program: String,
        #[source]
        source: io::Error,
    },
}

impl ExecError {
    /// Returns what `corten run` exits with, as Docker does.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NotInPath { .. }
            | Self::NotFound { .. }
            | Self::NoLoader { .. }
            | Self::NoInterpreter { .. } => 127,
            _ => 126,
        }
    }

    /// Says what to do about it.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::NotInPath { program } => {
                format!("install `{program}` in the image, or give its path")
            }
            Self::NotFound { .. } | Self::Refused { .. } => return None,
            Self::Directory { .. } => "name a program; is an argument in its place?".to_owned(),
            Self::NotExecutable { program } => {
                format!("`RUN chmod 755 {program}`, or start it by its interpreter")
            }
            Self::WrongArchitecture { machine, .. } => {
                format!("use an image for {machine}")
            }
            Self::NoLoader { loader, .. } if loader.contains("musl") => {
                "the program was built for Alpine (musl): build it on a glibc image, or statically"
                    .to_owned()
            }
            Self::NoLoader { .. } => "the program was built for glibc: use an image that has it \
                                      (not Alpine, not `scratch`), or build it statically"
                .to_owned(),
            Self::NoInterpreter { interpreter, .. } if interpreter.ends_with('\r') => {
                "the script has Windows line ends: convert it with `dos2unix`".to_owned()
            }
            Self::NoInterpreter { interpreter, .. } => {
                format!("install `{interpreter}` in the image, or change the script's first line")
            }
            Self::NotAProgram { .. } => "start a script with a line such as `#!/bin/sh`".to_owned(),
        })
    }
}

/// What the container's process tells of a failed execution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ExecFailure {
    /// The program as it was asked for.
    pub program: String,
    pub errno: i32,
    /// The file that was found, if one was.
    pub found: Option<FoundFile>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FoundFile {
    pub path: String,
    pub directory: bool,
    /// The first bytes, if they could be read.
    pub head: Vec<u8>,
}

/// Finds out from an error number and the beginning of the file what is wrong.
pub(crate) fn diagnose(failure: ExecFailure) -> ExecError {
    let ExecFailure { program, errno, found } = failure;
    let Some(FoundFile { path, directory, head }) = found else {
        return if program.contains('/') {
            ExecError::NotFound { program }
        } else {
            ExecError::NotInPath { program }
        };
    };
    let program = path;
    if directory {
        return ExecError::Directory { program };
    }
    match errno {
        libc::ENOENT | libc::ENOTDIR => missing_helper(program, &head, errno),
        libc::EACCES => ExecError::NotExecutable { program },
        libc::ENOEXEC => match elf_machine(&head) {
            Some(built_for) if built_for != MACHINE => {
                ExecError::WrongArchitecture { program, built_for, machine: MACHINE }
            }
            _ => ExecError::NotAProgram { program },
        },
        _ => ExecError::Refused { program, source: io::Error::from_raw_os_error(errno) },
    }
}

/// The file is there, so what is missing is what should run it.
fn missing_helper(program: String, head: &[u8], errno: i32) -> ExecError {
    if let Some(interpreter) = script_interpreter(head) {
        return ExecError::NoInterpreter { program, interpreter };
    }
    if let Some(loader) = elf_interpreter(head) {
        return match elf_machine(head) {
            Some(built_for) if built_for != MACHINE => {
                ExecError::WrongArchitecture { program, built_for, machine: MACHINE }
            }
            _ => ExecError::NoLoader { program, loader },
        };
    }
    ExecError::Refused { program, source: io::Error::from_raw_os_error(errno) }
}

fn script_interpreter(head: &[u8]) -> Option<String> {
    let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let text = String::from_utf8_lossy(line);
    let text = text.trim_start_matches([' ', '\t']);
    let name = text.split([' ', '\t']).next()?;
    (!name.is_empty()).then(|| name.to_owned())
}

const MACHINE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };

/// Returns Docker's name of the architecture that an ELF file is for.
fn elf_machine(head: &[u8]) -> Option<&'static str> {
    let little = is_little_endian_elf(head)?;
    let bytes = [*head.get(18)?, *head.get(19)?];
    let machine = if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) };
    Some(match machine {
        3 => "386",
        8 => "mips",
        20 => "ppc",
        21 => "ppc64le",
        22 => "s390x",
        40 => "arm",
        62 => "amd64",
        183 => "arm64",
        243 => "riscv64",
        258 => "loong64",
        _ => "another architecture",
    })
}

fn is_little_endian_elf(head: &[u8]) -> Option<bool> {
    (head.get(..4)? == b"\x7fELF").then_some(*head.get(5)? == 1)
}

/// Returns the `PT_INTERP` of a 64-bit little-endian ELF file, such as `/lib64/ld-linux-x86-64.so.2`.
fn elf_interpreter(head: &[u8]) -> Option<String> {
    const CLASS_64: u8 = 2;
    const PT_INTERP: u32 = 3;
    if !is_little_endian_elf(head)? || *head.get(4)? != CLASS_64 {
        return None;
    }
    let number = |at: usize, bytes: usize| -> Option<usize> {
        let field = head.get(at..at.checked_add(bytes)?)?;
        let value = field.iter().rev().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
        usize::try_from(value).ok()
    };
    let (table, entry_size, entries) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for index in 0..entries {
        let entry = table.checked_add(index.checked_mul(entry_size)?)?;
        if u32::try_from(number(entry, 4)?).ok()? == PT_INTERP {
            let (offset, size) = (number(entry.checked_add(8)?, 8)?, number(entry + 32, 8)?);
            let name = head.get(offset..offset.checked_add(size)?)?;
            let name = name.split(|byte| *byte == 0).next()?;
            return Some(String::from_utf8_lossy(name).into_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(errno: i32, head: &[u8]) -> ExecError {
        let found = FoundFile { path: "/app/x".to_owned(), directory: false, head: head.to_vec() };
        diagnose(ExecFailure { program: "x".to_owned(), errno, found: Some(found) })
    }

    /// An ELF file with one program header of type `PT_INTERP`.
    fn elf(machine: u16, loader: &str) -> Vec<u8> {
        let mut head = vec![0; 64 + 56];
        head[..6].copy_from_slice(b"\x7fELF\x02\x01");
        head[18..20].copy_from_slice(&machine.to_le_bytes());
        head[32] = 64;
        head[54] = 56;
        head[56] = 1;
        head[64] = 3;
        head[72] = 120;
        head[96] = u8::try_from(loader.len() + 1).expect("short");
        head.extend(loader.as_bytes());
        head.push(0);
        head
    }

    #[test]
    fn a_program_that_is_nowhere_is_127() {
        let missing = |program: &str| {
            let program = program.to_owned();
            diagnose(ExecFailure { program, errno: libc::ENOENT, found: None })
        };
        let error = missing("pyton");
        assert_eq!(error.to_string(), "failed to find `pyton` in the container's `PATH`");
        assert_eq!(error.exit_code(), 127);
        assert_eq!(missing("/app").to_string(), "failed to find `/app` in the container");
    }

    #[test]
    fn a_missing_loader_says_which_library_the_program_was_built_for() {
        let host = if cfg!(target_arch = "aarch64") { 183 } else { 62 };
        let error = of(libc::ENOENT, &elf(host, "/lib/ld-musl-x86_64.so.1"));
        assert_eq!(error.exit_code(), 127);
        assert!(error.to_string().contains("`/lib/ld-musl-x86_64.so.1`"), "{error}");
        assert!(error.hint().is_some_and(|hint| hint.contains("Alpine")));
        let error = of(libc::ENOENT, &elf(host, "/lib64/ld-linux-x86-64.so.2"));
        assert!(error.hint().is_some_and(|hint| hint.contains("glibc")));
    }

    #[test]
    fn a_program_of_another_machine_says_which() {
        let foreign = if cfg!(target_arch = "aarch64") { 62 } else { 183 };
        let error = of(libc::ENOEXEC, &elf(foreign, "/lib/ld"));
        assert!(error.to_string().contains("it is built for"), "{error}");
        assert_eq!(error.exit_code(), 126);
    }

    #[test]
    fn scripts_are_told_apart_by_their_first_line() {
        let text = of(libc::ENOENT, b"#!/usr/bin/python9 -u\nprint()").to_string();
        assert!(text.contains("interpreter `/usr/bin/python9`"), "{text}");
        let error = of(libc::ENOENT, b"#!/bin/sh\r\necho");
        assert!(error.hint().is_some_and(|hint| hint.contains("Windows")));
        assert_eq!(of(libc::ENOEXEC, b"echo hello").exit_code(), 126);
    }

    #[test]
    fn no_beginning_of_a_file_makes_the_diagnosis_fail() {
        let whole = elf(62, "/lib/ld");
        for length in 0..whole.len() {
            assert!(!of(libc::ENOENT, &whole[..length]).to_string().is_empty());
        }
        let mut wild = whole;
        wild[32..40].fill(0xff);
        wild[56..58].fill(0xff);
        assert!(!of(libc::ENOENT, &wild).to_string().is_empty());
    }
}
