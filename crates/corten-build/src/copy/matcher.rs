//! Patterns of `--exclude` and `--parents`, with the semantics of `.dockerignore`.

use corten_dockerfile::ignore::Ignore;

use super::CopyError;

/// A list of patterns; the last one that matches a path, or a directory that it is in, decides.
pub(crate) struct Matcher {
    patterns: Ignore,
    /// The components of each pattern that is no exception.
    components: Vec<Vec<String>>,
    exceptions: bool,
}

impl Matcher {
    /// Reads patterns.
    pub(crate) fn new(patterns: &[String]) -> Result<Self, CopyError> {
        let ignore = Ignore::from_patterns(patterns.iter().map(String::as_str))
            .map_err(|error| CopyError::Pattern { text: error.pattern })?;
        let exceptions = patterns.iter().any(|pattern| pattern.trim_start().starts_with('!'));
        let plain = patterns.iter().filter(|pattern| !pattern.trim_start().starts_with('!'));
        let components = plain
            .map(|pattern| {
                let parts = pattern.split('/').filter(|part| !part.is_empty() && *part != ".");
                parts.map(ToOwned::to_owned).collect()
            })
            .collect();
        Ok(Self { patterns: ignore, components, exceptions })
    }

    /// Whether a path or a directory that it is in matches.
    pub(crate) fn matches(&self, path: &[u8]) -> bool {
        !self.components.is_empty() && self.patterns.excludes(&String::from_utf8_lossy(path), false)
    }

    /// Whether some pattern makes an exception of what others match.
    pub(crate) fn has_exceptions(&self) -> bool {
        self.exceptions
    }

    /// Whether something in a directory may match that does not match itself.
    pub(crate) fn may_match_below(&self, directory: &[u8]) -> bool {
        let directory = String::from_utf8_lossy(directory);
        self.components.iter().any(|pattern| {
            let parts = directory.split('/');
            let count = parts.clone().count();
            if pattern.iter().take(count).any(|part| part == "**" || part.contains("**")) {
                return true;
            }
            pattern.len() > count
                && parts.zip(pattern).all(|(part, pattern)| {
                    corten_dockerfile::glob::Pattern::new(pattern)
                        .map_or(true, |pattern| pattern.matches(part))
                })
        })
    }
}
