//! Which files of packages go into an image: dpkg's `path-exclude` and `path-include`.

/// Patterns in order; the last one that matches decides, and without a match a file is in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    rules: Vec<(bool, String)>,
}

impl Filter {
    /// Excludes come first and includes make exceptions from them.
    pub(crate) fn new(exclude: &[String], include: &[String]) -> Self {
        let rule = |included| move |pattern: &String| (included, pattern.clone());
        Self {
            rules: exclude.iter().map(rule(false)).chain(include.iter().map(rule(true))).collect(),
        }
    }

    /// Only what matches one of the patterns is in.
    pub(crate) fn only(patterns: &[String]) -> Self {
        Self::new(&["*".to_owned()], patterns)
    }

    /// Returns true if an absolute path goes into the image.
    pub(crate) fn includes(&self, path: &[u8]) -> bool {
        let decided =
            self.rules.iter().rev().find(|(_, pattern)| matches(pattern.as_bytes(), path));
        decided.is_none_or(|(included, _)| *included)
    }

    /// Returns the rules as a dpkg configuration file, so that later installations follow them too.
    pub(crate) fn dpkg_configuration(&self) -> String {
        self.rules
            .iter()
            .map(|(included, pattern)| {
                format!("path-{} {pattern}\n", if *included { "include" } else { "exclude" })
            })
            .collect::<Vec<_>>()
            .concat()
    }
}

/// Shell patterns as dpkg uses them: `*` and `?` also match a slash.
pub(crate) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut pattern_at, mut text_at) = (0, 0);
    // Where to go on when what came after the last star does not fit.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        match (pattern.get(pattern_at), text.get(text_at)) {
            (None, None) => return true,
            (Some(b'*'), _) => {
                retry = Some((pattern_at, text_at));
                pattern_at += 1;
            }
            (Some(expected), Some(byte)) if *expected == b'?' || expected == byte => {
                pattern_at += 1;
                text_at += 1;
            }
            _ => match retry {
                Some((star, from)) if from < text.len() => {
                    retry = Some((star, from + 1));
                    pattern_at = star + 1;
                    text_at = from + 1;
                }
                _ => return false,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_match_slashes_too() {
        for (pattern, text, expected) in [
            ("/usr/share/doc/*", "/usr/share/doc/a/b", true),
            ("/usr/share/doc/*", "/usr/share/doc", false),
            ("/usr/share/doc/*/copyright", "/usr/share/doc/a/copyright", true),
            ("*.pyc", "/a/b.pyc", true),
            ("*a*b", "xaxbxb", true),
            ("*a*b", "xaxbx", false),
            ("/?", "/a", true),
            ("", "", true),
            ("*", "", true),
            ("a", "", false),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn includes_make_exceptions_from_excludes() {
        let filter =
            Filter::new(&["/usr/share/doc/*".into()], &["/usr/share/doc/*/copyright".into()]);
        assert!(filter.includes(b"/usr/bin/a"));
        assert!(!filter.includes(b"/usr/share/doc/a/README"));
        assert!(filter.includes(b"/usr/share/doc/a/copyright"));
        assert_eq!(
            filter.dpkg_configuration(),
            "path-exclude /usr/share/doc/*\npath-include /usr/share/doc/*/copyright\n"
        );
    }

    proptest::proptest! {
        #[test]
        fn a_pattern_without_stars_matches_itself_only(text in "[a-c/]{0,12}", other in "[a-c/]{0,12}") {
            assert!(matches(text.as_bytes(), text.as_bytes()));
            assert_eq!(matches(text.as_bytes(), other.as_bytes()), text == other);
        }
    }
}
