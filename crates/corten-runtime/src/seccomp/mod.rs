//! System call filters: the default one, profiles in Docker's format, and their compiler. Pure.
//!
//! ```text
//! default::policy ─┐
//!                  ├─► Policy (call number → clauses) ─► compile ─► BPF
//! profile::parse ──┘
//! ```
//!
//! The compiler lays the calls out as ranges with the same answer and searches them by bisection:
//! the kernel walks a filter for each of some 470 calls when it is installed, so that depth counts
//! more than length.

mod compile;
mod default;
mod profile;
mod syscalls;

use std::collections::BTreeMap;

use corten_sys::seccomp::Instruction;

pub use profile::ProfileError;

pub(crate) use compile::compile;
pub(crate) use default::policy as default_policy;
pub(crate) use profile::{ProfileContext, parse as parse_profile};

/// A processor architecture that filters are made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Architecture {
    X86_64,
    Aarch64,
}

impl Architecture {
    /// The one that we were built for.
    pub(crate) const HOST: Self =
        if cfg!(target_arch = "aarch64") { Self::Aarch64 } else { Self::X86_64 };

    /// The kernel's `AUDIT_ARCH_*`.
    const fn audit(self) -> u32 {
        match self {
            Self::X86_64 => 0xc000_003e,
            Self::Aarch64 => 0xc000_00b7,
        }
    }

    /// Returns the number of a call; `None` if the architecture does not have it.
    pub(crate) fn number(self, name: &str) -> Option<u32> {
        let index = syscalls::TABLE.binary_search_by(|(known, _, _)| (*known).cmp(name)).ok()?;
        let (_, x86_64, aarch64) = syscalls::TABLE[index];
        let number = match self {
            Self::X86_64 => x86_64,
            Self::Aarch64 => aarch64,
        };
        (number != syscalls::NONE).then_some(u32::from(number))
    }

    /// Returns every number that the table has.
    fn numbers(self) -> impl Iterator<Item = u32> {
        syscalls::TABLE.iter().filter_map(move |(name, _, _)| self.number(name))
    }
}

/// What the kernel does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Action {
    Allow,
    /// The call returns this error number.
    Errno(u16),
    KillProcess,
    KillThread,
    Trap,
    Trace(u16),
    Log,
}

impl Action {
    const fn value(self) -> u32 {
        match self {
            Self::Allow => 0x7fff_0000,
            Self::Errno(errno) => 0x0005_0000 | errno as u32,
            Self::KillProcess => 0x8000_0000,
            Self::KillThread => 0,
            Self::Trap => 0x0003_0000,
            Self::Trace(message) => 0x7ff0_0000 | message as u32,
            Self::Log => 0x7ffc_0000,
        }
    }
}

/// A comparison of one argument, all 64 bits of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Test {
    /// From 0 to 5.
    pub argument: u8,
    pub comparison: Comparison,
    pub value: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// The bits of the mask, and no others, are compared.
    MaskedEqual {
        mask: u64,
    },
}

/// If all tests hold, this happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Clause {
    pub tests: Vec<Test>,
    pub action: Action,
}

/// Answers for every call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Policy {
    pub architecture: Architecture,
    /// The first clause that holds is the answer; without one it is `otherwise`.
    pub calls: BTreeMap<u32, Vec<Clause>>,
    pub otherwise: Action,
    /// The answer for calls that are newer than our table.
    pub unknown: Action,
    /// Whether the kernel logs what is refused.
    pub log: bool,
}

impl Policy {
    /// Adds a clause for a call, if the architecture has it.
    pub(crate) fn add(&mut self, name: &str, tests: Vec<Test>, action: Action) {
        if let Some(number) = self.architecture.number(name) {
            self.calls.entry(number).or_default().push(Clause { tests, action });
        }
    }
}

/// The actions that a profile may name.
pub const ACTIONS: &[&str] = &[
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

/// Compiles a profile in Docker's or the OCI runtime specification's JSON for this machine.
pub fn compile_profile(
    text: &str,
    capabilities: &std::collections::BTreeSet<crate::capability::Capability>,
    kernel: (u32, u32),
) -> Result<Vec<Instruction>, ProfileError> {
    let context = ProfileContext { architecture: Architecture::HOST, capabilities, kernel };
    let filter = compile(&parse_profile(text, &context)?);
    // The kernel's limit (`BPF_MAXINSNS`).
    if filter.len() > 4096 { Err(ProfileError::TooLong) } else { Ok(filter) }
}

/// Returns the filter in the form that travels to the container's first process.
pub(crate) fn to_wire(filter: &[Instruction]) -> Vec<(u16, u8, u8, u32)> {
    filter.iter().map(|i| (i.code, i.jump_true, i.jump_false, i.value)).collect()
}

/// The way back from [`to_wire`].
pub(crate) fn from_wire(filter: &[(u16, u8, u8, u32)]) -> Vec<Instruction> {
    let instruction = |&(code, jump_true, jump_false, value): &(u16, u8, u8, u32)| Instruction {
        code,
        jump_true,
        jump_false,
        value,
    };
    filter.iter().map(instruction).collect()
}

#[cfg(test)]
mod tests;
