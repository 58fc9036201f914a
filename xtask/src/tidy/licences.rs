//! The licence of everything that is compiled in is on the list in `deny.toml`.
//!
//! cargo-deny checks the same and more; this part of it must hold where it is not installed.

use super::Finding;
use super::workspace::Workspace;

const POLICY: &str = "deny.toml";

pub(super) fn find(workspace: &Workspace) -> Vec<Finding> {
    let policy = workspace.text(POLICY).unwrap_or_default();
    let allowed = allowed(policy);
    workspace
        .licences
        .iter()
        .filter(|(_, licence)| !is_allowed(licence, &allowed))
        .map(|(package, licence)| {
            let licence = if licence.is_empty() { "none" } else { licence };
            Finding::new(POLICY, 0, format!("the licence of {package} is not allowed: {licence}"))
        })
        .collect()
}

/// Reads the list `allow` of the table `[licenses]`.
fn allowed(policy: &str) -> Vec<&str> {
    let table = policy.split("\n[licenses]").nth(1).unwrap_or_default();
    let list = table.split("\nallow = [").nth(1).unwrap_or_default();
    let list = list.split(']').next().unwrap_or_default();
    // Between the quotes are the names; outside are commas, spaces and line breaks.
    list.split('"').skip(1).step_by(2).collect()
}

/// Decides an SPDX expression: `OR` binds weaker than `AND`; a slash is an old way to write `OR`.
fn is_allowed(expression: &str, allowed: &[&str]) -> bool {
    let expression = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let mut words = expression.split_whitespace().peekable();
    let decided = any(&mut words, allowed);
    decided && words.next().is_none()
}

type Words<'e> = std::iter::Peekable<std::str::SplitWhitespace<'e>>;

fn any(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    let mut decided = all(words, allowed);
    while words.next_if_eq(&"OR").is_some() {
        decided |= all(words, allowed);
    }
    decided
}

fn all(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    let mut decided = one(words, allowed);
    while words.next_if_eq(&"AND").is_some() {
        decided &= one(words, allowed);
    }
    decided
}

fn one(words: &mut Words<'_>, allowed: &[&str]) -> bool {
    match words.next() {
        Some("(") => {
            let decided = any(words, allowed);
            let is_closed = words.next() == Some(")");
            decided && is_closed
        }
        Some(name) => {
            let exception = words.next_if_eq(&"WITH").and_then(|_| words.next());
            let name =
                exception.map_or_else(|| name.to_owned(), |with| format!("{name} WITH {with}"));
            allowed.contains(&name.as_str())
        }
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_read_from_its_own_table() {
        let policy = "[bans]\nallow = [\"x\"]\n\n[licenses]\n# why\nallow = [\n  \"MIT\", # a\n  \"ISC\",\n]\n";
        assert_eq!(allowed(policy), ["MIT", "ISC"]);
    }

    #[test]
    fn expressions_are_decided() {
        let allowed = ["MIT", "ISC"];
        let cases = [
            ("MIT", true),
            ("GPL-3.0", false),
            ("GPL-3.0 OR MIT", true),
            ("GPL-3.0/MIT", true),
            ("MIT AND ISC", true),
            ("MIT AND GPL-3.0", false),
            ("GPL-3.0 AND ISC OR MIT", true),
            ("(MIT OR GPL-3.0) AND ISC", true),
            ("(MIT OR ISC) AND GPL-3.0", false),
            ("(GPL-3.0) OR MIT", true),
            ("MIT WITH some-exception", false),
            ("GPL-3.0 WITH x OR MIT", true),
            ("", false),
            ("MIT MIT", false),
            ("(MIT", false),
        ];
        for (expression, expected) in cases {
            assert_eq!(is_allowed(expression, &allowed), expected, "{expression}");
        }
    }
}
