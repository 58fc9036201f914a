//! "Did you mean": the nearest of a set of known words.

/// Finds the candidate nearest to the word, if one is near enough to be meant.
///
/// Distance is Damerau's (insert, delete, replace, swap of neighbours), without regard to case. A
/// third of the longer word's characters may differ, at least one and at most three. Of equally
/// near candidates the first wins. The word itself is no suggestion.
pub fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    /// Longer words are no misspellings of ours, and the distance costs their product.
    const LENGTH_MAX: usize = 64;
    let wanted: Vec<char> =
        word.chars().flat_map(char::to_lowercase).take(LENGTH_MAX + 1).collect();
    if wanted.is_empty() || wanted.len() > LENGTH_MAX {
        return None;
    }
    let mut best: Option<(usize, &'a str)> = None;
    for candidate in candidates {
        if *candidate == word {
            continue;
        }
        let known: Vec<char> = candidate.chars().flat_map(char::to_lowercase).collect();
        let allowed = (wanted.len().max(known.len()) / 3).clamp(1, 3);
        if known.len().abs_diff(wanted.len()) > allowed {
            continue;
        }
        let distance = distance(&wanted, &known);
        // A word of two letters of which one differs shares nothing.
        let shares = distance < wanted.len().min(known.len());
        if distance <= allowed && shares && best.is_none_or(|(least, _)| distance < least) {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// The optimal string alignment distance, over three rows.
fn distance(left: &[char], right: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    for (row, from) in left.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, to) in right.iter().enumerate() {
            let replaced = above[column] + usize::from(from != to);
            let mut least = replaced.min(above[column + 1] + 1).min(current[column] + 1);
            let swapped =
                row > 0 && column > 0 && *from == right[column - 1] && left[row - 1] == *to;
            if swapped {
                least = least.min(before[column - 1] + 1);
            }
            current.push(least);
        }
        before = std::mem::replace(&mut above, current);
    }
    above[right.len()]
}
