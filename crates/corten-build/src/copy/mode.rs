//! `--chmod`: an octal mode or a list of changes, as `chmod` understands them.

use std::fmt;

/// A mode that files get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModeChange {
    /// All twelve bits.
    Octal(u32),
    /// Changes of what the source has.
    Symbolic(Vec<Clause>),
}

/// One `who op what` of a symbolic mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Clause {
    /// Which of the three classes: bits `u` 4, `g` 2, `o` 1.
    who: u8,
    op: char,
    perms: Perms,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Perms {
    Set {
        /// `r` 4, `w` 2, `x` 1.
        bits: u8,
        /// `X`: execution for directories and for what someone may execute.
        conditional: bool,
        set_id: bool,
        sticky: bool,
    },
    /// What that class has now.
    Copy(char),
}

/// Text that is no mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModeError {
    #[error("invalid `--chmod` value `{0}`: an octal mode is between 0 and 07777")]
    Octal(String),
    #[error("invalid `--chmod` value `{0}`")]
    Symbolic(String),
}

impl ModeChange {
    /// Reads `755` or `u=rwX,go=rX`.
    pub fn parse(text: &str) -> Result<Self, ModeError> {
        if text.bytes().all(|byte| byte.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
            return mode.map(Self::Octal).ok_or_else(|| ModeError::Octal(text.to_owned()));
        }
        let mut clauses = Vec::new();
        for part in text.split(',') {
            parse_clauses(part, &mut clauses)
                .ok_or_else(|| ModeError::Symbolic(text.to_owned()))?;
        }
        Ok(Self::Symbolic(clauses))
    }

    /// The mode that a file with `mode` gets.
    pub fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        match self {
            Self::Octal(octal) => *octal,
            Self::Symbolic(clauses) => {
                clauses.iter().fold(mode, |mode, clause| clause.apply(mode, is_directory))
            }
        }
    }

    /// The mode of directories that have no source; only an octal mode says one, and of that the
    /// permissions alone.
    pub fn for_made_directory(&self) -> Option<u32> {
        match self {
            Self::Octal(octal) => Some(*octal & 0o777),
            Self::Symbolic(_) => None,
        }
    }
}

impl fmt::Display for ModeChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Octal(mode) => write!(f, "{mode:04o}"),
            Self::Symbolic(clauses) => {
                for (index, clause) in clauses.iter().enumerate() {
                    let comma = if index == 0 { "" } else { "," };
                    write!(f, "{comma}{}{}{:?}", clause.who, clause.op, clause.perms)?;
                }
                Ok(())
            }
        }
    }
}

/// Reads `[ugoa]*` and then one or more `op perms`; none if it is something else.
fn parse_clauses(part: &str, clauses: &mut Vec<Clause>) -> Option<()> {
    let end = part.find(['+', '-', '='])?;
    let (classes, mut rest) = part.split_at(end);
    let mut who = 0;
    for class in classes.chars() {
        who |= match class {
            'u' => 4,
            'g' => 2,
            'o' => 1,
            'a' => 7,
            _ => return None,
        };
    }
    // Without a class all three are meant: there is no file mode creation mask in a build.
    let who = if who == 0 { 7 } else { who };
    while let Some(op) = rest.chars().next() {
        let tail = rest.get(1..)?;
        let next = tail.find(['+', '-', '=']).unwrap_or(tail.len());
        let (perms, remaining) = tail.split_at(next);
        clauses.push(Clause { who, op, perms: parse_perms(perms)? });
        rest = remaining;
    }
    Some(())
}

fn parse_perms(text: &str) -> Option<Perms> {
    if let "u" | "g" | "o" = text {
        return text.chars().next().map(Perms::Copy);
    }
    let (mut bits, mut conditional, mut set_id, mut sticky) = (0, false, false, false);
    for letter in text.chars() {
        match letter {
            'r' => bits |= 4,
            'w' => bits |= 2,
            'x' => bits |= 1,
            'X' => conditional = true,
            's' => set_id = true,
            't' => sticky = true,
            _ => return None,
        }
    }
    Some(Perms::Set { bits, conditional, set_id, sticky })
}

impl Clause {
    fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        let mut value = 0;
        let mut covered = 0;
        for (class, shift, set_id_bit) in [(4, 6, 0o4000), (2, 3, 0o2000), (1, 0, 0)] {
            if self.who & class == 0 {
                continue;
            }
            covered |= 0o7 << shift;
            let bits = match self.perms {
                Perms::Copy('u') => (mode >> 6) & 7,
                Perms::Copy('g') => (mode >> 3) & 7,
                Perms::Copy(_) => mode & 7,
                Perms::Set { bits, conditional, set_id, .. } => {
                    if set_id {
                        value |= set_id_bit;
                    }
                    let execute = conditional && (is_directory || mode & 0o111 != 0);
                    u32::from(bits) | u32::from(execute)
                }
            };
            value |= bits << shift;
        }
        if let Perms::Set { sticky: true, .. } = self.perms {
            value |= 0o1000;
        }
        match self.op {
            '+' => mode | value,
            '-' => mode & !value,
            _ => {
                // `=` clears the set-id bit of the classes that it names, and sticky with all.
                let mut cleared = covered;
                cleared |= if self.who & 4 != 0 { 0o4000 } else { 0 };
                cleared |= if self.who & 2 != 0 { 0o2000 } else { 0 };
                cleared |= if self.who == 7 { 0o1000 } else { 0 };
                (mode & !cleared) | value
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(change: &str, mode: u32) -> String {
        let change = ModeChange::parse(change).expect("a mode");
        format!("{:o} {:o}", change.apply(mode, false), change.apply(mode, true))
    }

    #[test]
    fn octal_modes_replace_all_bits() {
        assert_eq!(apply("644", 0o4755), "644 644");
        assert_eq!(apply("0", 0o755), "0 0");
        assert_eq!(apply("7777", 0o755), "7777 7777");
        assert_eq!(apply("00644", 0o755), "644 644");
    }

    #[test]
    fn symbolic_modes_change_as_chmod_does() {
        let table = [
            ("u=rwX,go=rX", 0o600, "644 755"),
            ("u=rwX,go=rX", 0o700, "755 755"),
            ("a+x", 0o644, "755 755"),
            ("+x", 0o644, "755 755"),
            ("go-w", 0o666, "644 644"),
            ("g=u", 0o640, "660 660"),
            ("o=g-w", 0o670, "675 675"),
            ("u+s,g+s", 0o755, "6755 6755"),
            ("+t", 0o777, "1777 1777"),
            ("a=r", 0o7777, "444 444"),
            ("u=", 0o777, "77 77"),
            ("ug+rw", 0o100, "760 760"),
        ];
        for (change, mode, expected) in table {
            assert_eq!(apply(change, mode), expected, "{change} on {mode:o}");
        }
    }

    #[test]
    fn what_is_no_mode_is_refused() {
        for text in
            ["8", "10000", "99999999999", "rwx", "u", "z+x", "u+q", "u=rw,", "", "-1", "u+é"]
        {
            assert!(ModeChange::parse(text).is_err() || text.is_empty(), "{text}");
        }
    }
}
