//! The program: found at `create`, executed after `start`.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::path::Path;

use corten_sys::file;
use corten_sys::process::{self, CStrings};

use super::Walker;
use crate::error::{Failed, Problem};
use crate::plan::steps::Program;

/// `/etc/passwd` of a system with a hundred thousand users.
const PASSWD_BYTES_MAX: u64 = 16 << 20;

/// The files to try, in order: the program itself, or its name in each directory of `PATH`.
fn candidates(program: &Program) -> Vec<String> {
    let Some(name) = program.arguments.first() else { return Vec::new() };
    if name.contains('/') {
        return vec![name.clone()];
    }
    let path = program.environment.iter().rev().find_map(|variable| variable.strip_prefix("PATH="));
    // An empty part is the working directory, by tradition.
    let full = |directory: &str| match directory {
        "" => format!("./{name}"),
        directory => format!("{}/{name}", directory.trim_end_matches('/')),
    };
    path.unwrap_or_default().split(':').filter(|_| path.is_some()).map(full).collect()
}

impl Walker<'_> {
    /// Looks whether there is a program, so that `create` says so and not `start`.
    pub(super) fn find_program(&mut self) -> Result<(), Failed> {
        let program = self.program.arguments.first().cloned().unwrap_or_default();
        let mut problem = if program.contains('/') {
            Problem::Errno { errno: libc::ENOENT }
        } else {
            Problem::NotInPath
        };
        for candidate in candidates(self.program) {
            if !candidate.starts_with('/') {
                // It depends on the directory, which is not entered yet.
                return Ok(());
            }
            match std::fs::metadata(&candidate) {
                Ok(found) if found.is_dir() => problem = Problem::Errno { errno: libc::EACCES },
                Ok(_) => match rustix::fs::access(&candidate, rustix::fs::Access::EXEC_OK) {
                    Ok(()) => return Ok(()),
                    Err(errno) => problem = Problem::Errno { errno: errno.raw_os_error() },
                },
                Err(error)
                    if error.raw_os_error() == Some(libc::ENOTDIR) && program.contains('/') =>
                {
                    problem = Problem::Errno { errno: libc::ENOTDIR };
                }
                // The container's user may be able to see what we cannot.
                Err(error) if error.raw_os_error() == Some(libc::EACCES) => return Ok(()),
                Err(_) => {}
            }
        }
        Err(Failed::Program { program, problem })
    }
}

/// Executes the first candidate that is there; returns the error number of why none could be.
pub(super) fn execute(program: &Program, uid: u32) -> Result<Infallible, i32> {
    let invalid = |_| libc::EINVAL;
    let arguments = CStrings::new(&program.arguments).map_err(invalid)?;
    let mut environment = program.environment.clone();
    if !environment.iter().any(|variable| variable.starts_with("HOME=")) {
        environment.push(format!("HOME={}", home(uid)));
    }
    let environment = CStrings::new(&environment).map_err(invalid)?;
    let mut errno = libc::ENOENT;
    for candidate in candidates(program) {
        let error = process::exec(OsStr::new(&candidate), &arguments, &environment);
        match error.raw_os_error().unwrap_or(libc::EIO) {
            libc::ENOENT | libc::ENOTDIR => {}
            libc::EACCES => errno = libc::EACCES,
            other => return Err(other),
        }
    }
    Err(errno)
}

/// The home directory of a user of the container.
fn home(uid: u32) -> String {
    let path = Path::new("/etc/passwd");
    // Opening what is no file could wait forever.
    let text = if path.is_file() {
        file::read_limited(path, PASSWD_BYTES_MAX).unwrap_or_default()
    } else {
        Vec::new()
    };
    find_home(&String::from_utf8_lossy(&text), uid).unwrap_or("/").to_owned()
}

fn find_home(passwd: &str, uid: u32) -> Option<&str> {
    let line =
        |line: &'_ str| line.split(':').nth(2).and_then(|text| text.parse().ok()) == Some(uid);
    let found = passwd.lines().find(|&text| line(text))?;
    found.split(':').nth(5).filter(|home| !home.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn program(name: &str, path: &[&str]) -> Program {
        Program {
            arguments: vec![name.to_owned()],
            environment: path.iter().map(|&path| path.to_owned()).collect(),
            preserve_fds: 0,
        }
    }

    #[test]
    fn programs_are_looked_for_in_the_last_path() {
        let found = candidates(&program("ls", &["PATH=/x", "PATH=/bin:/usr/bin/:"]));
        assert_eq!(found, ["/bin/ls", "/usr/bin/ls", "./ls"]);
        assert_eq!(candidates(&program("./ls", &["PATH=/bin"])), ["./ls"]);
        assert!(candidates(&program("ls", &[])).is_empty());
    }

    #[test]
    fn homes_are_those_of_the_container() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nu:x:7:7::/home/u:\n";
        assert_eq!(find_home(passwd, 7), Some("/home/u"));
        assert_eq!(find_home(passwd, 0), Some("/root"));
        assert_eq!(find_home(passwd, 8), None);
    }
}
