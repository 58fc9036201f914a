//! A file that gets its name when it is complete.
//!
//! Until then it has none where the file system knows such files, so that not even a kill leaves
//! anything; elsewhere it has a name that says what it is and that a failure removes.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::PathBuf;

use crate::beneath::Dir;
use crate::error::{IoError, at};

/// A file on its way to its name.
#[derive(Debug)]
pub struct PendingFile<'d> {
    dir: &'d Dir,
    name: OsString,
    file: File,
    /// The name that it has meanwhile.
    temporary: Option<OsString>,
}

impl<'d> PendingFile<'d> {
    /// Creates a file that shall be `name` in `dir`.
    pub fn create(dir: &'d Dir, name: &OsStr, mode: u32) -> Result<Self, IoError> {
        let name = name.to_owned();
        if let Some(file) = dir.create_unnamed(mode)? {
            return Ok(Self { dir, name, file, temporary: None });
        }
        let temporary = temporary();
        let file = dir.create_file(&temporary, mode)?;
        Ok(Self { dir, name, file, temporary: Some(temporary) })
    }

    /// Returns the file to write to.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Returns the path that it will have, for messages.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join(&self.name)
    }

    /// Makes the content durable.
    pub fn sync(&self) -> Result<(), IoError> {
        self.file.sync_all().map_err(at("sync", self.path()))
    }

    /// Gives the file its name; what had it, other than a directory, is replaced in one step.
    pub fn publish(mut self) -> Result<(), IoError> {
        if self.temporary.is_none() {
            match self.dir.name_unnamed(&self.file, &self.name) {
                Err(error) if error.is_already_exists() => {}
                named => return named,
            }
            let temporary = temporary();
            self.dir.name_unnamed(&self.file, &temporary)?;
            self.temporary = Some(temporary);
        }
        if let Some(temporary) = &self.temporary {
            self.dir.rename(self.dir, temporary, &self.name)?;
        }
        self.temporary = None;
        Ok(())
    }
}

impl Drop for PendingFile<'_> {
    fn drop(&mut self) {
        if let Some(temporary) = &self.temporary {
            // The failure that brought us here is what is reported; the name says what it is.
            drop(self.dir.remove_file(temporary));
        }
    }
}

fn temporary() -> OsString {
    OsString::from(format!(".corten-partial-{}", crate::random::name()))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::file;

    #[test]
    fn a_file_has_its_name_when_it_is_complete_and_leaves_nothing_before() {
        let folder = std::env::temp_dir().join(format!("corten-pending-{}", crate::random::name()));
        file::create_dir(&folder, 0o700).unwrap();
        let dir = Dir::open(&folder).unwrap();
        for content in ["one", "two"] {
            let pending = PendingFile::create(&dir, OsStr::new("x"), 0o644).unwrap();
            pending.file().write_all(content.as_bytes()).unwrap();
            pending.publish().unwrap();
            assert_eq!(file::read(&folder.join("x")).unwrap(), content.as_bytes());
        }
        let dropped = PendingFile::create(&dir, OsStr::new("y"), 0o644).unwrap();
        dropped.file().write_all(b"half").unwrap();
        drop(dropped);
        file::create_dir(&folder.join("taken"), 0o755).unwrap();
        let refused = PendingFile::create(&dir, OsStr::new("taken"), 0o644).unwrap();
        refused.publish().unwrap_err();
        assert_eq!(file::list_dir(&folder).unwrap(), ["taken", "x"]);
        file::remove_tree(&folder).unwrap();
    }
}
