//! Which devices a container may open: rules, the words of cgroup v1 for them, and a program for v2.

use std::fmt;

use corten_sys::bpf::Instruction;
use serde::{Deserialize, Serialize};

/// What may be done with a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DeviceAccess {
    pub read: bool,
    pub write: bool,
    /// Make a node for it.
    pub mknod: bool,
}

impl DeviceAccess {
    pub const ALL: Self = Self { read: true, write: true, mknod: true };

    /// Reads letters of `rwm`, each at most once.
    pub fn parse(letters: &str) -> Option<Self> {
        let mut access = Self { read: false, write: false, mknod: false };
        for letter in letters.chars() {
            let bit = match letter {
                'r' => &mut access.read,
                'w' => &mut access.write,
                'm' => &mut access.mknod,
                _ => return None,
            };
            if std::mem::replace(bit, true) {
                return None;
            }
        }
        (!letters.is_empty()).then_some(access)
    }

    /// Returns true if a node may be opened for both.
    pub fn is_whole(self) -> bool {
        self.read && self.write
    }

    /// The kernel's `BPF_DEVCG_ACC_*`.
    const fn bits(self) -> i32 {
        (self.mknod as i32) | (self.read as i32) << 1 | (self.write as i32) << 2
    }
}

impl Default for DeviceAccess {
    fn default() -> Self {
        Self::ALL
    }
}

impl fmt::Display for DeviceAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (given, letter) in [(self.read, 'r'), (self.write, 'w'), (self.mknod, 'm')] {
            if given {
                write!(f, "{letter}")?;
            }
        }
        Ok(())
    }
}

/// What kind of devices a rule is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceKind {
    Any,
    Block,
    Character,
}

/// A rule; of those that fit, the last one counts. Where none does, access is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    pub allow: bool,
    pub kind: DeviceKind,
    /// `None` is any.
    pub major: Option<u32>,
    pub minor: Option<u32>,
    pub access: DeviceAccess,
}

impl DeviceRule {
    /// Refuses everything.
    pub const NOTHING: Self = Self {
        allow: false,
        kind: DeviceKind::Any,
        major: None,
        minor: None,
        access: DeviceAccess::ALL,
    };

    /// Reads Docker's `--device-cgroup-rule`: `c 1:3 rwm`, `a *:* r`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split_whitespace();
        let kind = match words.next()? {
            "a" => DeviceKind::Any,
            "b" => DeviceKind::Block,
            "c" => DeviceKind::Character,
            _ => return None,
        };
        let (major, minor) = words.next()?.split_once(':')?;
        // The kernel keeps 12 and 20 bits.
        let number = |text: &str, bits: u32| match text {
            "*" => Some(None),
            text => text.parse::<u32>().ok().filter(|number| number >> bits == 0).map(Some),
        };
        let (major, minor) = (number(major, 12)?, number(minor, 20)?);
        let access = DeviceAccess::parse(words.next()?)?;
        let rule = Self { allow: true, kind, major, minor, access };
        words.next().is_none().then_some(rule)
    }

    /// Refuses what an allowing rule leaves of reading and writing.
    pub(super) fn rest(self) -> Option<Self> {
        let DeviceAccess { read, write, .. } = self.access;
        let access = DeviceAccess { read: !read, write: !write, mknod: false };
        (access.read || access.write).then_some(Self { allow: false, access, ..self })
    }

    /// The file and the line of cgroup v1.
    pub(super) fn to_v1(self) -> (&'static str, String) {
        (if self.allow { "devices.allow" } else { "devices.deny" }, self.to_string())
    }
}

impl fmt::Display for DeviceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = match self.kind {
            DeviceKind::Any => 'a',
            DeviceKind::Block => 'b',
            DeviceKind::Character => 'c',
        };
        let number = |number: Option<u32>| number.map_or("*".to_owned(), |n| n.to_string());
        write!(f, "{letter} {}:{} {}", number(self.major), number(self.minor), self.access)
    }
}

/// What every container has: its own nodes, terminals, and making any node, which is of no use as long as
/// it may not be opened.
pub(crate) fn usual() -> Vec<DeviceRule> {
    let node = |major, minor| DeviceRule {
        allow: true,
        kind: DeviceKind::Character,
        major: Some(major),
        minor,
        access: DeviceAccess::ALL,
    };
    let make = |kind| DeviceRule {
        allow: true,
        kind,
        major: None,
        minor: None,
        access: DeviceAccess { read: false, write: false, mknod: true },
    };
    // null, zero, full, random, urandom; tty, console, ptmx; the terminals of pts.
    let nodes = [(1, 3), (1, 5), (1, 7), (1, 8), (1, 9), (5, 0), (5, 1), (5, 2)];
    let mut rules = vec![DeviceRule::NOTHING, make(DeviceKind::Block), make(DeviceKind::Character)];
    rules.extend(nodes.map(|(major, minor)| node(major, Some(minor))));
    rules.push(node(136, None));
    rules
}

// Registers: the context comes in 1, the answer goes out in 0.
const ANSWER: u8 = 0;
const SCRATCH: u8 = 1;
const ACCESS: u8 = 2;
const KIND: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;

const LOAD: u8 = 0x61; // BPF_LDX | BPF_MEM | BPF_W
const MOVE: u8 = 0xbc; // BPF_ALU | BPF_MOV | BPF_X
const SET: u8 = 0xb7; // BPF_ALU64 | BPF_MOV | BPF_K
const AND: u8 = 0x54; // BPF_ALU | BPF_AND | BPF_K
const SHIFT_RIGHT: u8 = 0x74; // BPF_ALU | BPF_RSH | BPF_K
const JUMP_IF_EQUAL: u8 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const JUMP_IF_OTHER: u8 = 0x55; // BPF_JMP | BPF_JNE | BPF_K
const EXIT: u8 = 0x95; // BPF_JMP | BPF_EXIT

/// `BPF_DEVCG_DEV_*`.
const BLOCK: i32 = 1;
const CHARACTER: i32 = 2;

const fn instruction(code: u8, target: u8, source: u8, offset: i16, value: i32) -> Instruction {
    Instruction { code, registers: source << 4 | target, offset, value }
}

/// Assembles a `BPF_PROG_TYPE_CGROUP_DEVICE` program: it looks at the rules from the last to the first.
///
/// Its context is access in the upper half and kind in the lower half of a word, then major and minor.
pub fn assemble(rules: &[DeviceRule]) -> Vec<Instruction> {
    let mut program = vec![
        instruction(LOAD, ACCESS, SCRATCH, 0, 0),
        instruction(LOAD, MAJOR, SCRATCH, 4, 0),
        instruction(LOAD, MINOR, SCRATCH, 8, 0),
        instruction(MOVE, KIND, ACCESS, 0, 0),
        instruction(AND, KIND, 0, 0, 0xffff),
        instruction(SHIFT_RIGHT, ACCESS, 0, 0, 16),
    ];
    for rule in rules.iter().rev() {
        program.extend(block(*rule));
        let DeviceRule { kind, major, minor, access, .. } = *rule;
        if (kind, major, minor, access) == (DeviceKind::Any, None, None, DeviceAccess::ALL) {
            // It fits everything: the kernel takes no program with a part that is never reached.
            return program;
        }
    }
    program.extend([instruction(SET, ANSWER, 0, 0, 0), instruction(EXIT, 0, 0, 0, 0)]);
    program
}

/// The tests of a rule, each of which leads past it, and its answer.
fn block(rule: DeviceRule) -> Vec<Instruction> {
    let mut tests = Vec::new();
    let kind = match rule.kind {
        DeviceKind::Any => None,
        DeviceKind::Block => Some(BLOCK),
        DeviceKind::Character => Some(CHARACTER),
    };
    let signed = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let fields = [(KIND, kind), (MAJOR, rule.major.map(signed)), (MINOR, rule.minor.map(signed))];
    for (register, wanted) in fields {
        tests.extend(wanted.map(|value| instruction(JUMP_IF_OTHER, register, 0, 0, value)));
    }
    let (bits, all) = (rule.access.bits(), DeviceAccess::ALL.bits());
    if bits != all {
        tests.push(instruction(MOVE, SCRATCH, ACCESS, 0, 0));
        // Allowed is what asks for nothing else; refused is what asks for any of it.
        let (mask, jump) =
            if rule.allow { (all & !bits, JUMP_IF_OTHER) } else { (bits, JUMP_IF_EQUAL) };
        tests.push(instruction(AND, SCRATCH, 0, 0, mask));
        tests.push(instruction(jump, SCRATCH, 0, 0, 0));
    }
    tests.push(instruction(SET, ANSWER, 0, 0, i32::from(rule.allow)));
    tests.push(instruction(EXIT, 0, 0, 0, 0));
    let length = tests.len();
    for (index, test) in tests.iter_mut().enumerate() {
        if [JUMP_IF_EQUAL, JUMP_IF_OTHER].contains(&test.code) {
            // A rule has at most eight instructions.
            test.offset = i16::try_from(length - index - 1).unwrap_or(i16::MAX);
        }
    }
    tests
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a program as the kernel would.
    fn answer(program: &[Instruction], kind: i32, major: u32, minor: u32, access: i32) -> bool {
        let context =
            [(access << 16) | kind, i32::try_from(major).unwrap(), i32::try_from(minor).unwrap()];
        let mut registers = [0_i32; 6];
        let mut at = 0_usize;
        loop {
            let Instruction { code, registers: pair, offset, value } = program[at];
            let (target, source) = (usize::from(pair & 15), usize::from(pair >> 4));
            at += 1;
            let jump = usize::try_from(offset).unwrap();
            match code {
                LOAD => registers[target] = context[jump / 4],
                MOVE => registers[target] = registers[source],
                SET => registers[target] = value,
                AND => registers[target] &= value,
                SHIFT_RIGHT => registers[target] >>= value,
                JUMP_IF_EQUAL if registers[target] == value => at += jump,
                JUMP_IF_OTHER if registers[target] != value => at += jump,
                JUMP_IF_EQUAL | JUMP_IF_OTHER => {}
                EXIT => return registers[0] == 1,
                other => panic!("{other:#x}"),
            }
        }
    }

    /// What the rules mean, said in another way.
    fn meant(rules: &[DeviceRule], kind: i32, major: u32, minor: u32, access: i32) -> bool {
        let fits = |rule: &&DeviceRule| {
            (match rule.kind {
                DeviceKind::Any => true,
                DeviceKind::Block => kind == BLOCK,
                DeviceKind::Character => kind == CHARACTER,
            }) && rule.major.is_none_or(|wanted| wanted == major)
                && rule.minor.is_none_or(|wanted| wanted == minor)
                && if rule.allow {
                    access & !rule.access.bits() == 0
                } else {
                    access & rule.access.bits() != 0
                }
        };
        rules.iter().rev().find(fits).is_some_and(|rule| rule.allow)
    }

    #[test]
    fn a_program_answers_what_its_rules_mean() {
        let rule = |text: &str| match text.strip_prefix('!') {
            Some(text) => DeviceRule { allow: false, ..DeviceRule::parse(text).unwrap() },
            None => DeviceRule::parse(text).unwrap(),
        };
        let sets: [&[&str]; 7] = [
            &[],
            &["a *:* rwm"],
            &["!a *:* rwm", "c 1:3 rw", "b 8:* r"],
            &["a *:* rwm", "!c 1:* w", "c 1:3 m"],
            &["c *:3 rwm", "!b *:* m", "b 8:0 w"],
            &["!a *:* rwm", "a *:* m", "c 1:3 r", "c 1:3 w"],
            &["c 1:3 r", "!c 1:3 rw"],
        ];
        let mut lists: Vec<Vec<DeviceRule>> =
            sets.iter().map(|set| set.iter().map(|text| rule(text)).collect()).collect();
        lists.push(usual());
        for rules in &lists {
            let program = assemble(rules);
            for kind in [BLOCK, CHARACTER] {
                for (major, minor) in [(1, 3), (1, 5), (8, 0), (8, 3), (136, 7), (4095, 0xf_ffff)] {
                    for access in 1..8 {
                        assert_eq!(
                            answer(&program, kind, major, minor, access),
                            meant(rules, kind, major, minor, access),
                            "{kind} {major}:{minor} {access} with {rules:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn every_container_has_its_nodes_and_no_disk() {
        let program = assemble(&usual());
        assert!(answer(&program, CHARACTER, 1, 3, 6));
        assert!(answer(&program, CHARACTER, 136, 9, 6));
        assert!(answer(&program, BLOCK, 8, 0, 1), "making a node opens nothing");
        assert!(!answer(&program, BLOCK, 8, 0, 2));
        assert!(!answer(&program, CHARACTER, 1, 1, 2), "memory");
    }

    #[test]
    fn rules_are_those_of_docker_and_of_the_kernel() {
        for text in ["c 1:3 rwm", "b 8:* r", "a *:* m", "c 4095:1048575 rw"] {
            assert_eq!(DeviceRule::parse(text).unwrap().to_string(), text);
        }
        for text in [
            "",
            "c",
            "c 1:3",
            "d 1:3 r",
            "c 1 r",
            "c 1:3 x",
            "c 1:3 rr",
            "c 4096:0 r",
            "c 1:1048576 r",
            "c -1:3 r",
            "c 1:3 r w",
            "c +1:3 r x",
        ] {
            assert_eq!(DeviceRule::parse(text), None, "{text}");
        }
        let (file, line) = DeviceRule::NOTHING.to_v1();
        assert_eq!((file, line.as_str()), ("devices.deny", "a *:* rwm"));
    }
}

#[cfg(test)]
mod privileged;
