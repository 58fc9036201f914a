//! Relations between packages: `Depends`, `Conflicts`, `Provides` and their kin.

use std::cmp::Ordering;
use std::fmt;

use crate::version;

/// One package with a constraint on its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Relation<'t> {
    /// The name, real or virtual.
    pub(crate) name: &'t str,
    /// `any`, `native` or an architecture.
    pub(crate) qualifier: Option<&'t str>,
    /// The constraint.
    pub(crate) version: Option<Constraint<'t>>,
}

/// A constraint on a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Constraint<'t> {
    /// How to compare.
    pub(crate) operator: Operator,
    /// With what.
    pub(crate) version: &'t str,
}

/// How a version must compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operator {
    /// `<<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `=`
    Equal,
    /// `>=`
    GreaterOrEqual,
    /// `>>`
    Greater,
}

impl Operator {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "<<" => Self::Less,
            // Policy keeps the old single characters alive; they mean "or equal".
            "<=" | "<" => Self::LessOrEqual,
            "=" => Self::Equal,
            ">=" | ">" => Self::GreaterOrEqual,
            ">>" => Self::Greater,
            _ => return None,
        })
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Less => "<<",
            Self::LessOrEqual => "<=",
            Self::Equal => "=",
            Self::GreaterOrEqual => ">=",
            Self::Greater => ">>",
        }
    }
}

impl Constraint<'_> {
    /// Returns true if a version is allowed.
    pub(crate) fn allows(&self, candidate: &str) -> bool {
        let order = version::compare(candidate, self.version);
        match self.operator {
            Operator::Less => order == Ordering::Less,
            Operator::LessOrEqual => order != Ordering::Greater,
            Operator::Equal => order == Ordering::Equal,
            Operator::GreaterOrEqual => order != Ordering::Less,
            Operator::Greater => order == Ordering::Greater,
        }
    }
}

impl fmt::Display for Relation<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name)?;
        if let Some(qualifier) = self.qualifier {
            write!(formatter, ":{qualifier}")?;
        }
        match &self.version {
            Some(Constraint { operator, version }) => {
                write!(formatter, " ({} {version})", operator.as_str())
            }
            None => Ok(()),
        }
    }
}

/// Parses a field into groups; of each group, one alternative is needed.
///
/// What cannot be understood becomes a relation on a name that no package has, so that it is reported
/// as unsatisfied instead of being ignored.
pub(crate) fn parse<'t>(field: &'t str, architecture: &str) -> Vec<Vec<Relation<'t>>> {
    field
        .split(',')
        .map(|group| group.split('|').filter_map(|text| parse_one(text, architecture)).collect())
        .filter(|group: &Vec<_>| !group.is_empty())
        .collect()
}

/// Returns nothing for a blank, or for a relation that holds for other architectures only.
fn parse_one<'t>(text: &'t str, architecture: &str) -> Option<Relation<'t>> {
    let text = text.trim_ascii();
    let end =
        text.find(|c: char| c.is_ascii_whitespace() || "([<".contains(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at_checked(end)?;
    if name.is_empty() {
        return None;
    }
    if let Some(list) = between(rest, '[', ']') {
        let negated = list.trim_ascii().starts_with('!');
        let named =
            list.split_ascii_whitespace().any(|word| word.trim_start_matches('!') == architecture);
        if named == negated {
            return None;
        }
    }
    let (name, qualifier) = match name.split_once(':') {
        Some((name, qualifier)) => (name, Some(qualifier)),
        None => (name, None),
    };
    let version = match between(rest, '(', ')').map(str::trim_ascii) {
        None => None,
        Some(inner) => {
            let start = inner.find(|c: char| !"<>=".contains(c)).unwrap_or(inner.len());
            let (operator, version) = inner.split_at_checked(start)?;
            match Operator::parse(operator) {
                Some(operator) => Some(Constraint { operator, version: version.trim_ascii() }),
                None => return Some(Relation { name: text, qualifier: None, version: None }),
            }
        }
    };
    Some(Relation { name, qualifier, version })
}

fn between(text: &str, open: char, close: char) -> Option<&str> {
    let (_, rest) = text.split_once(open)?;
    Some(rest.split_once(close).map_or(rest, |(inner, _)| inner))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    #[test]
    fn groups_alternatives_versions_and_architectures_are_read() {
        let field = "libc6 (>= 2.34), perl:any, a | b (<<2) , c [arm64], d [!arm64], ,\n e(=1:2-3) <!nocheck>, f (~ 1)";
        let groups: Vec<String> = parse(field, "amd64")
            .iter()
            .map(|group| group.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | "))
            .collect();
        expect![[r#"
            libc6 (>= 2.34)
            perl:any
            a | b (<< 2)
            d
            e (= 1:2-3)
            f (~ 1)"#]]
        .assert_eq(&groups.join("\n"));
    }

    #[test]
    fn constraints_compare_as_debian_versions() {
        let allows = |field: &str, version: &str| {
            parse(field, "amd64")[0][0].version.unwrap().allows(version)
        };
        assert!(allows("a (>= 2.36-9)", "2.36-9+deb12u1"));
        assert!(!allows("a (<< 2)", "2"));
        assert!(allows("a (<= 2)", "2~rc"));
        assert!(allows("a (= 1.0)", "1.00"));
        assert!(!allows("a (>> 1)", "1"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read(text in "[a-b|,() \\[\\]<>=:!1é]{0,30}") {
            parse(&text, "amd64");
        }
    }
}
