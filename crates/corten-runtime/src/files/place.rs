//! Where copied files go, by the rules of `docker cp`. Pure, and about words alone.
//!
//! A path keeps what its end says: `a/` is what a link there leads to, and `a/.` what is in the
//! directory `a`. Everything before it is cleaned without looking: `..` takes a word away.

/// A destination that does not take what is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// The destination is a file.
    #[error("a directory cannot be copied onto a file")]
    DirectoryOntoFile,
    /// The destination says that it is a directory, and is not there.
    #[error("the destination is no directory that is there")]
    NoDirectory,
    /// An archive can only be unpacked in a directory.
    #[error("the destination of an archive is no directory")]
    ArchiveOntoFile,
}

impl PlaceError {
    /// Says what to do about it.
    pub fn hint(self) -> &'static str {
        match self {
            Self::DirectoryOntoFile => "name a directory, or a name that is free",
            Self::NoDirectory => "make it first, or leave out the slash at its end",
            Self::ArchiveOntoFile => "name a directory that is there",
        }
    }
}

/// What is at a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Directory,
    Other,
    Nothing,
}

/// Where things go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placing {
    /// Into the destination, under the name that the source has.
    Into,
    /// In the place of the destination, under its name.
    As,
}

/// Decides where a source goes.
pub(super) fn place(
    is_directory: bool,
    destination: &CopyPath,
    found: Found,
) -> Result<Placing, PlaceError> {
    match found {
        Found::Directory => Ok(Placing::Into),
        Found::Other if destination.end != End::Plain => Err(PlaceError::NoDirectory),
        Found::Other if is_directory => Err(PlaceError::DirectoryOntoFile),
        Found::Nothing if !is_directory && destination.end != End::Plain => {
            Err(PlaceError::NoDirectory)
        }
        Found::Other | Found::Nothing => Ok(Placing::As),
    }
}

/// How a path ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Plain,
    /// `a/`
    Slash,
    /// `a/.`
    Contents,
}

/// An absolute path, cleaned, and how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CopyPath {
    /// Plain words; none for the root.
    words: Vec<Vec<u8>>,
    pub(super) end: End,
}

impl CopyPath {
    /// Takes a path apart; a relative one begins at `from`, which is absolute.
    pub(super) fn new(path: &[u8], from: &[u8]) -> Self {
        let end = match path {
            [b'.'] | [.., b'/', b'.'] => End::Contents,
            [.., b'/'] => End::Slash,
            _ => End::Plain,
        };
        let start: &[u8] = if path.starts_with(b"/") { b"" } else { from };
        let mut words: Vec<Vec<u8>> = Vec::new();
        for word in start.split(|byte| *byte == b'/').chain(path.split(|byte| *byte == b'/')) {
            match word {
                b"" | b"." => {}
                b".." => {
                    words.pop();
                }
                word => words.push(word.to_vec()),
            }
        }
        Self { words, end }
    }

    /// The whole path, relative to the root; empty for it.
    pub(super) fn whole(&self) -> Vec<u8> {
        self.words.join(&b'/')
    }

    /// The directory that holds the last word, and that word; `None` for the root.
    pub(super) fn split(&self) -> Option<(Vec<u8>, &[u8])> {
        let (last, before) = self.words.split_last()?;
        Some((before.join(&b'/'), last))
    }

    /// The name that a source has where it is copied into a directory; `.` is what is in it.
    pub(super) fn name(&self) -> &[u8] {
        match (self.end, self.words.last()) {
            (End::Contents, _) | (_, None) => b".",
            (_, Some(word)) => word,
        }
    }

    /// Where a link at this path leads, by its words; it is looked at again there.
    pub(super) fn linked(&self, target: &[u8]) -> Self {
        let above = self.split().map_or_else(Vec::new, |(above, _)| above);
        // What is before the last word is resolved by the kernel, so that nothing of it is taken away
        // here for a `..`: it stays a word.
        let mut words: Vec<Vec<u8>> = Vec::new();
        if !target.starts_with(b"/") {
            words.extend(above.split(|byte| *byte == b'/').map(<[u8]>::to_vec));
        }
        words.extend(target.split(|byte| *byte == b'/').map(<[u8]>::to_vec));
        words.retain(|word| !word.is_empty() && word != b".");
        Self { words, end: self.end }
    }

    /// Returns true if the last word is `..`, which is no name.
    pub(super) fn ends_above(&self) -> bool {
        self.words.last().is_some_and(|word| word == b"..")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> CopyPath {
        CopyPath::new(text.as_bytes(), b"/from/here")
    }

    #[test]
    fn paths_are_cleaned_and_keep_their_end() {
        let shown = |text: &str| {
            let path = path(text);
            let (whole, name) = (path.whole(), path.name().to_vec());
            (String::from_utf8(whole).unwrap(), String::from_utf8(name).unwrap(), path.end)
        };
        let is = |whole: &str, name: &str, end| (whole.to_owned(), name.to_owned(), end);
        assert_eq!(shown("/a/b"), is("a/b", "b", End::Plain));
        assert_eq!(shown("/a//./b/"), is("a/b", "b", End::Slash));
        assert_eq!(shown("/a/b/."), is("a/b", ".", End::Contents));
        assert_eq!(shown("x"), is("from/here/x", "x", End::Plain));
        assert_eq!(shown("."), is("from/here", ".", End::Contents));
        assert_eq!(shown("../../../x"), is("x", "x", End::Plain));
        assert_eq!(shown("/"), is("", ".", End::Slash));
        assert_eq!(shown(""), is("from/here", "here", End::Plain));
    }

    #[test]
    fn a_link_is_followed_word_by_word() {
        let linked = |from: &str, target: &str| {
            String::from_utf8(path(from).linked(target.as_bytes()).whole()).unwrap()
        };
        assert_eq!(linked("/a/b", "c/d"), "a/c/d");
        assert_eq!(linked("/a/b", "../c"), "a/../c", "the kernel knows what `..` is");
        assert_eq!(linked("/a/b", "/c"), "c");
    }

    #[test]
    fn dockers_rules_of_places() {
        use Found::{Directory, Nothing, Other};
        let table = [
            // is a directory, destination, what is there, where it goes
            (false, "/d", Directory, Ok(Placing::Into)),
            (true, "/d/", Directory, Ok(Placing::Into)),
            (true, "/d/.", Directory, Ok(Placing::Into)),
            (false, "/f", Other, Ok(Placing::As)),
            (true, "/f", Other, Err(PlaceError::DirectoryOntoFile)),
            (false, "/f/", Other, Err(PlaceError::NoDirectory)),
            (false, "/n", Nothing, Ok(Placing::As)),
            (false, "/n/", Nothing, Err(PlaceError::NoDirectory)),
            (false, "/n/.", Nothing, Err(PlaceError::NoDirectory)),
            (true, "/n", Nothing, Ok(Placing::As)),
            (true, "/n/", Nothing, Ok(Placing::As)),
            (true, "/n/.", Nothing, Ok(Placing::As)),
        ];
        for (is_directory, destination, found, expected) in table {
            let placed = place(is_directory, &path(destination), found);
            assert_eq!(placed, expected, "{is_directory} {destination} {found:?}");
        }
    }
}
