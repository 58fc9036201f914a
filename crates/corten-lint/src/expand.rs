//! Variables, and words expanded with a memory of what was asked for.

use std::cell::RefCell;
use std::collections::BTreeSet;

use corten_dockerfile::word::{self, WordError};

/// Variables in the order in which they were set last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Variables(Vec<(String, String)>);

impl Variables {
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.0.retain(|(known, _)| known != name);
        self.0.push((name.to_owned(), value.to_owned()));
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// A word after expansion.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expansion {
    pub(crate) text: String,
    /// Variables that were asked for and set.
    pub(crate) matched: BTreeSet<String>,
    /// Variables that were asked for and not set, whatever the word has in their place.
    pub(crate) unmatched: BTreeSet<String>,
}

/// How a word is read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Reading {
    Word { escape: char },
    Heredoc,
}

/// Expands a word. What was asked for is known even if the word breaks off with an error.
pub(crate) fn expand(
    text: &str,
    variables: &Variables,
    reading: Reading,
) -> (Expansion, Result<(), WordError>) {
    let asked = RefCell::new(Expansion::default());
    let lookup = |name: &str| {
        let value = variables.get(name).map(ToOwned::to_owned);
        let mut asked = asked.borrow_mut();
        let set = if value.is_some() { &mut asked.matched } else { &mut asked.unmatched };
        set.insert(name.to_owned());
        value
    };
    let expanded = match reading {
        Reading::Word { escape } => word::expand(text, &lookup, escape),
        Reading::Heredoc => word::expand_heredoc(text, &lookup),
    };
    let mut expansion = asked.into_inner();
    let result = expanded.map(|text| expansion.text = text);
    (expansion, result)
}

/// The name that was meant: the first of the nearest, less than three edits away.
///
/// A word that is among the candidates itself is not misspelt.
pub(crate) fn meant<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const DISTANCE_MAX: usize = 2;
    let wanted: Vec<char> = word.chars().collect();
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        if candidate == word {
            return None;
        }
        let limit = best.map_or(DISTANCE_MAX + 1, |(least, _)| least);
        let known: Vec<char> = candidate.chars().collect();
        if known.len().abs_diff(wanted.len()) < limit {
            let distance = distance(&wanted, &known);
            if distance < limit {
                best = Some((distance, candidate));
            }
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Levenshtein's distance: a swap of neighbours counts as two edits, as it does there.
fn distance(left: &[char], right: &[char]) -> usize {
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for (row, from) in left.iter().enumerate() {
        let mut diagonal = above[0];
        above[0] = row + 1;
        for (column, to) in right.iter().enumerate() {
            let replaced = diagonal + usize::from(from != to);
            diagonal = above[column + 1];
            above[column + 1] = replaced.min(diagonal + 1).min(above[column] + 1);
        }
    }
    above[right.len()]
}
