//! Starting programs with nothing inherited by accident.
//!
//! Every signal is back at its default and none is blocked, whatever we were started with: some
//! programs fail otherwise (pasta of 2023 when SIGPIPE is ignored). No descriptor but those that
//! were named is open in the program: everything in Corten is opened close-on-exec, and what whoever
//! started us has left open is marked so.
#![expect(unsafe_code, reason = "posix_spawn has no safe wrapper")]

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use crate::process::{CStrings, Ended, PidFd, Report};

/// A program to start.
#[derive(Debug)]
pub struct Command<'a> {
    program: PathBuf,
    arguments: Vec<OsString>,
    environment: Vec<OsString>,
    /// What the program finds as 0, 1, 2, 3, …; a missing standard one is `/dev/null`.
    descriptors: Vec<(BorrowedFd<'a>, i32)>,
}

impl<'a> Command<'a> {
    /// Builds the command for a program file; `PATH` is not searched (see [`find_program`]).
    pub fn new(program: impl Into<PathBuf>) -> Self {
        let program = program.into();
        let arguments = vec![program.clone().into_os_string()];
        Self { program, arguments, environment: Vec::new(), descriptors: Vec::new() }
    }

    /// Replaces the name that the program sees as its own.
    #[must_use]
    pub fn name(mut self, name: impl Into<OsString>) -> Self {
        self.arguments[0] = name.into();
        self
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<S: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets a variable. The environment starts empty.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        let mut variable = OsString::from(name);
        variable.push("=");
        variable.push(value);
        self.environment.push(variable);
        self
    }

    /// Gives the program a descriptor under a number: 0, 1 and 2 are the standard ones.
    #[must_use]
    pub fn descriptor(mut self, number: i32, fd: BorrowedFd<'a>) -> Self {
        self.descriptors.push((fd, number));
        self
    }

    /// Starts the program.
    pub fn spawn(&self) -> io::Result<Child> {
        crate::process::keep_child_reports()?;
        crate::process::close_on_exec_from(3)?;
        let highest = self.descriptors.iter().map(|(_, number)| *number).max().unwrap_or(2).max(2);
        let mut moved: Vec<OwnedFd> = Vec::new();
        let mut actions = FileActions::new()?;
        let mut sources = Vec::new();
        for (fd, number) in &self.descriptors {
            // A source below the highest target could be overwritten before it is copied.
            let source = if fd.as_raw_fd() <= highest {
                let copy = rustix::io::fcntl_dupfd_cloexec(fd, highest + 1)?;
                let raw = copy.as_raw_fd();
                moved.push(copy);
                raw
            } else {
                fd.as_raw_fd()
            };
            sources.push((source, *number));
        }
        for standard in 0..3 {
            if !sources.iter().any(|(_, number)| *number == standard) {
                actions.open_null(standard)?;
            }
        }
        for (source, number) in sources {
            actions.duplicate(source, number)?;
        }
        self.spawn_with(&actions)
    }

    fn spawn_with(&self, actions: &FileActions) -> io::Result<Child> {
        let program = CString::new(self.program.as_os_str().as_bytes())
            .map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
        let arguments = CStrings::new(&self.arguments)?;
        let environment = CStrings::new(&self.environment)?;
        let attributes = Attributes::with_default_signals()?;
        let mut pid = 0;
        // SAFETY: the path is NUL-terminated, both lists end with NULL, actions and attributes are
        // initialised, and all of them live until the call returns; the number of the new process
        // is written to a local.
        let code = unsafe {
            libc::posix_spawn(
                &raw mut pid,
                program.as_ptr(),
                actions.0.as_ptr(),
                attributes.0.as_ptr(),
                arguments.as_ptr().cast(),
                environment.as_ptr().cast(),
            )
        };
        if code != 0 {
            return Err(io::Error::from_raw_os_error(code));
        }
        let pid = pid.cast_unsigned();
        // The number cannot have gone to another process: we have not waited for this one.
        Ok(Child { pid, handle: PidFd::open(pid)? })
    }

    /// Runs the program to its end and returns its report with what it wrote to both outputs,
    /// of which at most `limit_bytes` are kept.
    pub fn output(self, limit_bytes: u64) -> io::Result<(Report, Vec<u8>)> {
        let (reader, writer) = pipe()?;
        let child = {
            let mut command = Command { descriptors: Vec::new(), ..self };
            let standard = writer.as_fd();
            command.descriptors = vec![(standard, 1), (standard, 2)];
            command.spawn()?
        };
        drop(writer);
        let mut text = Vec::new();
        let mut reader = File::from(reader);
        let read = reader.by_ref().take(limit_bytes).read_to_end(&mut text);
        let rest = io::copy(&mut reader, &mut io::sink());
        let report = child.handle.wait()?;
        read.and(rest)?;
        Ok((report, text))
    }
}

/// A program that was started. Dropping it leaves the program running and unwaited for.
#[derive(Debug)]
pub struct Child {
    pub pid: u32,
    pub handle: PidFd,
}

impl Child {
    /// Ends the program at once and waits for it.
    pub fn kill_and_wait(&self) -> io::Result<Ended> {
        self.handle.kill()?;
        Ok(self.handle.wait()?.ended)
    }
}

/// Makes a pipe, reading end first, that no program inherits by accident.
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?)
}

/// Finds an executable file in the directories of a `PATH`; relative ones are passed over.
pub fn find_program(name: &str, search_path: &OsStr) -> Option<PathBuf> {
    let directories = search_path.as_bytes().split(|byte| *byte == b':');
    let absolute = directories.map(|bytes| Path::new(OsStr::from_bytes(bytes)));
    absolute.filter(|path| path.is_absolute()).map(|path| path.join(name)).find(|path| {
        path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
    })
}

/// What the program does to its descriptors before it begins.
struct FileActions(Box<MaybeUninit<libc::posix_spawn_file_actions_t>>);

impl FileActions {
    fn new() -> io::Result<Self> {
        let mut actions = Box::new(MaybeUninit::uninit());
        // SAFETY: `init` writes the whole structure, which stays at its address in the box.
        check(unsafe { libc::posix_spawn_file_actions_init(actions.as_mut_ptr()) })?;
        Ok(Self(actions))
    }

    fn duplicate(&mut self, from: i32, to: i32) -> io::Result<()> {
        // SAFETY: the structure was initialised; the numbers are used in the new process only,
        // where they change its own copy of the table.
        check(unsafe { libc::posix_spawn_file_actions_adddup2(self.0.as_mut_ptr(), from, to) })
    }

    fn open_null(&mut self, number: i32) -> io::Result<()> {
        // SAFETY: the structure was initialised; the path is a constant that ends with NUL and is
        // copied by the call.
        check(unsafe {
            libc::posix_spawn_file_actions_addopen(
                self.0.as_mut_ptr(),
                number,
                c"/dev/null".as_ptr(),
                libc::O_RDWR,
                0,
            )
        })
    }
}

impl Drop for FileActions {
    fn drop(&mut self) {
        // SAFETY: the structure was initialised by `new` and is not used afterwards.
        unsafe { libc::posix_spawn_file_actions_destroy(self.0.as_mut_ptr()) };
    }
}

struct Attributes(Box<MaybeUninit<libc::posix_spawnattr_t>>);

impl Attributes {
    fn with_default_signals() -> io::Result<Self> {
        let mut attributes = Box::new(MaybeUninit::uninit());
        // SAFETY: `init` writes the whole structure, which stays at its address in the box.
        check(unsafe { libc::posix_spawnattr_init(attributes.as_mut_ptr()) })?;
        let mut this = Self(attributes);
        let (mut all, mut none) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: it writes a whole signal set to a local.
        unsafe { libc::sigfillset(all.as_mut_ptr()) };
        // SAFETY: as above.
        unsafe { libc::sigemptyset(none.as_mut_ptr()) };
        let pointer = this.0.as_mut_ptr();
        // SAFETY: the attributes and the set were initialised above; the set is copied.
        check(unsafe { libc::posix_spawnattr_setsigdefault(pointer, all.as_ptr()) })?;
        // SAFETY: as above.
        check(unsafe { libc::posix_spawnattr_setsigmask(pointer, none.as_ptr()) })?;
        let flags = libc::POSIX_SPAWN_SETSIGDEF | libc::POSIX_SPAWN_SETSIGMASK;
        let flags = libc::c_short::try_from(flags).unwrap_or_default();
        // SAFETY: the attributes were initialised; the flags are passed by value.
        check(unsafe { libc::posix_spawnattr_setflags(pointer, flags) })?;
        Ok(this)
    }
}

impl Drop for Attributes {
    fn drop(&mut self) {
        // SAFETY: the structure was initialised by `posix_spawnattr_init` and is not used
        // afterwards.
        unsafe { libc::posix_spawnattr_destroy(self.0.as_mut_ptr()) };
    }
}

fn check(code: i32) -> io::Result<()> {
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_gets_its_arguments_and_only_the_environment_that_was_set() {
        let command = Command::new("/bin/sh").args(["-c", "echo $0 $X; env | grep -c HOME"]);
        let (report, text) = command.arg("zero").env("X", "y").output(1000).expect("it runs");
        assert_eq!(report.ended, Ended::Code(1));
        assert_eq!(String::from_utf8_lossy(&text), "zero y\n0\n");
    }

    #[test]
    fn a_program_sees_no_descriptor_but_its_own() {
        let (_reader, writer) = pipe().expect("a pipe");
        let script = "ls /proc/self/fd | tr '\\n' ' '; echo hello >&5";
        let (reader, output) = pipe().expect("a pipe");
        let command = Command::new("/bin/sh").args(["-c", script]);
        let command = command.descriptor(1, output.as_fd()).descriptor(5, output.as_fd());
        let child = command.env("PATH", "/usr/bin:/bin").spawn().expect("it starts");
        drop((output, writer));
        let mut text = String::new();
        File::from(reader).read_to_string(&mut text).expect("it is text");
        assert_eq!(child.handle.wait().expect("our child").ended, Ended::Code(0));
        // `ls` itself opens 3 for the directory.
        assert_eq!(text, "0 1 2 3 5 hello\n");
    }

    #[test]
    fn a_missing_program_is_an_error_at_once() {
        let error = Command::new("/nonexistent").spawn().expect_err("there is none");
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_signal_ends_a_program_and_is_reported() {
        let child = Command::new("/bin/sh").args(["-c", "kill -9 $$"]).spawn().expect("it starts");
        assert_eq!(child.handle.wait().expect("our child").ended, Ended::Signal(9));
    }

    #[test]
    fn programs_are_found_in_absolute_directories_only() {
        assert!(find_program("sh", OsStr::new("relative:/nowhere:/bin")).is_some());
        assert_eq!(find_program("sh", OsStr::new("bin::")), None);
        assert_eq!(find_program("surely-not-there", OsStr::new("/bin:/usr/bin")), None);
    }
}
