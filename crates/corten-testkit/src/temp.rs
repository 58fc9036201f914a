//! A directory of a test's own that is gone afterwards, whatever the test did in it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, io};

use corten_sys::file;

/// Set to keep the directories of tests, to look at them after a failure.
const KEEP_VARIABLE: &str = "CORTEN_TEST_KEEP";

/// A new, empty directory, removed on drop together with mounts that were left in it.
#[derive(Debug)]
#[must_use = "the directory is removed as soon as this value is dropped"]
pub struct TempDir {
    path: PathBuf,
}

impl TempDir {
    /// Creates a directory with mode 0700 below the host's place for temporary files.
    pub fn new() -> Self {
        let path = std::env::temp_dir().join(format!("corten-test-{}", corten_sys::random::name()));
        file::create_dir(&path, 0o700).expect("the place for temporary files is writable");
        // Resolved, so that output with real paths can be masked.
        let path = fs::canonicalize(path).expect("the directory was created a moment ago");
        Self { path }
    }

    /// Returns where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Default for TempDir {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        if keep() {
            crate::say(&format!("kept {}", self.path.display()));
            return;
        }
        if let Err(error) = remove(&self.path) {
            // A second panic while unwinding would hide the test's own failure.
            assert!(
                std::thread::panicking(),
                "failed to remove the test's directory `{}`: {error}",
                self.path.display()
            );
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the test kit is configured by the environment")]
fn keep() -> bool {
    std::env::var_os(KEEP_VARIABLE).is_some_and(|value| !value.is_empty())
}

/// Removes a tree in which modes are odd, files belong to others, or something is mounted.
fn remove(path: &Path) -> io::Result<()> {
    unmount_beneath(path)?;
    let first = match file::remove_tree(path) {
        Ok(()) => return Ok(()),
        Err(error) => error,
    };
    make_writable(path)?;
    if file::remove_tree(path).is_ok() {
        return Ok(());
    }
    // Files of an ordinary user's id range can only be removed from inside such a range.
    let status = command("unshare")
        .args(["--user", "--map-root-user", "--map-auto", "rm", "-rf", "--"])
        .arg(path)
        .output()?;
    if status.status.success() { Ok(()) } else { Err(first.source) }
}

/// Gives the owner every right on each directory, top down, links not followed.
fn make_writable(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = fs::symlink_metadata(directory)?;
    if metadata.permissions().mode() & 0o700 != 0o700 {
        fs::set_permissions(directory, fs::Permissions::from_mode(0o700))?;
    }
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_writable(&entry.path())?;
        }
    }
    Ok(())
}

/// Detaches what a failed test left mounted, innermost first: removal must not reach into it.
fn unmount_beneath(path: &Path) -> io::Result<()> {
    let table = fs::read("/proc/self/mountinfo")?;
    for target in mounts_beneath(&String::from_utf8_lossy(&table), path).iter().rev() {
        let output = command("umount").arg("--lazy").arg(target).output()?;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
    }
    Ok(())
}

/// Returns the mount points at or beneath a path, in the order in which they were mounted.
fn mounts_beneath(mountinfo: &str, path: &Path) -> Vec<PathBuf> {
    mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(|target| PathBuf::from(target.replace("\\040", " ")))
        .filter(|target| target.starts_with(path))
        .collect()
}

#[expect(clippy::disallowed_methods, reason = "tests clean up with the host's own tools")]
fn command(program: &str) -> Command {
    Command::new(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_gone_after_the_test_even_with_odd_modes() {
        let directory = TempDir::new();
        let path = directory.path().to_owned();
        let closed = path.join("closed/inner");
        file::create_dirs(&closed, 0o700).unwrap();
        file::write(&closed.join("file"), b"x").unwrap();
        file::symlink(Path::new("/nowhere"), &path.join("link")).unwrap();
        file::set_mode(&closed, 0o500).unwrap();
        file::set_mode(&path.join("closed"), 0o000).unwrap();
        drop(directory);
        assert!(!file::exists(&path).unwrap());
    }

    #[test]
    fn mounts_are_found_beneath_the_path_only() {
        let table = "1 0 8:1 / / rw - ext4 /dev/a rw\n\
                     2 1 0:5 / /tmp/a/m rw - tmpfs t rw\n\
                     3 1 0:6 / /tmp/ab rw - tmpfs t rw\n\
                     4 2 0:7 / /tmp/a/m/with\\040space rw - tmpfs t rw\n";
        let found = mounts_beneath(table, Path::new("/tmp/a"));
        assert_eq!(found, [Path::new("/tmp/a/m"), Path::new("/tmp/a/m/with space")]);
    }

    mod privileged {
        use super::*;
        use crate::privilege::Need;

        #[test]
        fn a_mount_that_was_left_behind_does_not_keep_the_directory() {
            crate::require!(Need::Root);
            let directory = TempDir::new();
            let path = directory.path().to_owned();
            let mounted = path.join("mounted");
            file::create_dir(&mounted, 0o700).unwrap();
            let output =
                command("mount").args(["-t", "tmpfs", "corten-test"]).arg(&mounted).output();
            assert!(output.unwrap().status.success());
            drop(directory);
            assert!(!file::exists(&path).unwrap());
        }
    }
}
