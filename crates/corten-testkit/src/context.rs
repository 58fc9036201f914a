//! Runs the built program in a world of its own and compares what it says.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use corten_sys::file;
use expect_test::Expect;

use crate::mask::Mask;
use crate::temp::TempDir;

/// The host's own programs and nothing from the person's shell.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Makes a [`TestContext`] for the program that the test's crate builds.
///
/// It is a macro because only an integration test of that crate knows where the program is.
#[macro_export]
macro_rules! context {
    () => {
        $crate::TestContext::new(env!("CARGO_BIN_EXE_corten"))
    };
}

/// A home, a store and a place to work, all new; nothing of the person's environment is seen.
///
/// ```no_run
/// # use corten_testkit::TestContext;
/// # use expect_test::expect;
/// # let program = "corten";
/// let context = TestContext::new(program); // in tests of the program: context!()
/// context.check(&["bulid"], &expect![[r#"
///     exit: 2
///     --- stdout
///     --- stderr
///     error: unknown command `bulid`
/// "#]]);
/// ```
#[derive(Debug)]
pub struct TestContext {
    program: PathBuf,
    variables: BTreeMap<OsString, OsString>,
    mask: Mask,
    user: Option<(u32, u32)>,
    // The last field, so that it is dropped after everything that may use it.
    directory: TempDir,
}

impl TestContext {
    /// Makes the directories. `program` is the path of the built program.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        let mut context = Self {
            program: program.into(),
            variables: BTreeMap::new(),
            mask: Mask::default(),
            user: None,
            directory: TempDir::new(),
        };
        let folders = [
            ("HOME", "home", 0o755),
            ("CORTEN_ROOT", "store", 0o755),
            ("XDG_CONFIG_HOME", "home/.config", 0o755),
            ("XDG_DATA_HOME", "home/.local/share", 0o755),
            ("XDG_CACHE_HOME", "home/.cache", 0o755),
            ("XDG_STATE_HOME", "home/.local/state", 0o755),
            ("XDG_RUNTIME_DIR", "run", 0o700),
            ("TMPDIR", "tmp", 0o700),
        ];
        for (variable, folder, mode) in folders {
            let path = context.directory.path().join(folder);
            file::create_dirs(&path, mode).expect("the test's directory is writable");
            context.variables.insert(variable.into(), path.into_os_string());
        }
        let work = context.work_dir();
        file::create_dir(&work, 0o755).expect("the test's directory is writable");
        for (variable, value) in [("PATH", PATH), ("LANG", "C.UTF-8"), ("TZ", "UTC")] {
            context.variables.insert(variable.into(), value.into());
        }
        for (folder, name) in [("", "TEMP"), ("home", "HOME"), ("store", "ROOT"), ("work", "WORK")]
        {
            let path = context.directory.path().join(folder);
            context.mask.literal(path.to_string_lossy().trim_end_matches('/'), name);
        }
        context
    }

    /// Runs everything from now on as this user and group; the test itself must be root.
    ///
    /// # Panics
    ///
    /// If the directories cannot be given to that user.
    #[must_use]
    pub fn as_user(mut self, uid: u32, gid: u32) -> Self {
        give_to(self.directory.path(), uid, gid);
        self.user = Some((uid, gid));
        self
    }

    /// Sets a variable for every run.
    #[must_use]
    pub fn with_env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// Leaves digests and ids in snapshots: for tests that pin them.
    #[must_use]
    pub fn with_digests(mut self) -> Self {
        self.mask.keep_digests();
        self
    }

    /// Replaces a text in snapshots by `[NAME]`.
    #[must_use]
    pub fn with_mask(mut self, text: impl Into<String>, name: &str) -> Self {
        self.mask.literal(text, name);
        self
    }

    /// Returns the directory in which commands run.
    pub fn work_dir(&self) -> PathBuf {
        self.directory.path().join("work")
    }

    /// Returns the directory of the store.
    pub fn root_dir(&self) -> PathBuf {
        self.directory.path().join("store")
    }

    /// Returns the home directory.
    pub fn home_dir(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    /// Writes a file below the work directory, with its parents, and returns its path.
    pub fn write(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.work_dir().join(name);
        let parent = path.parent().expect("a file below the work directory has a parent");
        file::create_dirs(parent, 0o755).expect("the work directory is writable");
        file::write(&path, content.as_ref()).expect("the work directory is writable");
        if let Some((uid, gid)) = self.user {
            give_to(&self.work_dir(), uid, gid);
        }
        path
    }

    /// Reads a text file below the work directory.
    pub fn read(&self, name: impl AsRef<Path>) -> String {
        let path = self.work_dir().join(name);
        let bytes = file::read(&path).unwrap_or_else(|error| panic!("{error}: {}", error.source));
        String::from_utf8(bytes).expect("the file is text")
    }

    /// Prepares a run with these arguments.
    pub fn command<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
    ) -> Invocation<'_> {
        Invocation {
            context: self,
            arguments: arguments.into_iter().map(|one| one.as_ref().to_owned()).collect(),
            variables: BTreeMap::new(),
            directory: None,
            stdin: Vec::new(),
        }
    }

    /// Runs the program with these arguments.
    #[must_use = "compare it with `check`, or say what must hold with `success` or `code`"]
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).run()
    }

    /// Runs the program and compares code, stdout and stderr with a snapshot in the source.
    ///
    /// `UPDATE_EXPECT=1` writes what was said into the source instead.
    pub fn check(&self, arguments: &[&str], expected: &Expect) {
        self.run(arguments).check(expected);
    }
}

/// One run of the program, not started yet.
#[derive(Debug)]
#[must_use = "nothing runs before `run` or `start`"]
pub struct Invocation<'c> {
    context: &'c TestContext,
    arguments: Vec<OsString>,
    variables: BTreeMap<OsString, OsString>,
    directory: Option<PathBuf>,
    stdin: Vec<u8>,
}

impl Invocation<'_> {
    /// Sets a variable for this run.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// Runs in another directory; a relative one is below the work directory.
    pub fn dir(mut self, directory: impl AsRef<Path>) -> Self {
        self.directory = Some(self.context.work_dir().join(directory));
        self
    }

    /// Gives these bytes on standard input; without them it is empty.
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Runs and compares; see [`TestContext::check`].
    pub fn check(self, expected: &Expect) {
        self.run().check(expected);
    }

    /// Runs and waits for the end.
    #[must_use = "compare it with `check`, or say what must hold with `success` or `code`"]
    pub fn run(self) -> Output {
        self.start().wait()
    }

    /// Starts the program and returns at once: for tests that signal it or look at it meanwhile.
    #[expect(clippy::disallowed_methods, reason = "tests start the program as a shell would")]
    pub fn start(self) -> Running {
        let context = self.context;
        let mut command = Command::new(&context.program);
        command
            .args(&self.arguments)
            .env_clear()
            .envs(&context.variables)
            .envs(&self.variables)
            .current_dir(self.directory.unwrap_or_else(|| context.work_dir()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some((uid, gid)) = context.user {
            // The standard library drops the supplementary groups with the user.
            command.uid(uid).gid(gid);
        }
        let child = command.spawn().unwrap_or_else(|error| {
            panic!("failed to start `{}`: {error}", context.program.display())
        });
        Running { child: Some(child), stdin: self.stdin, mask: context.mask.clone() }
    }
}

/// A program that runs; it is killed when the test forgets it.
#[derive(Debug)]
#[must_use = "the program is killed as soon as this value is dropped"]
pub struct Running {
    /// Absent once the program was waited for.
    child: Option<Child>,
    stdin: Vec<u8>,
    mask: Mask,
}

impl Running {
    /// Returns the number of the process.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("a running program was not waited for").id()
    }

    /// Sends a signal by its name, such as `TERM`.
    #[expect(clippy::disallowed_methods, reason = "tests signal as a shell would")]
    pub fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        let status = Command::new("kill").args(["-s", name, &pid]).status();
        let sent = status.expect("every Linux has `kill`").success();
        assert!(sent, "failed to send {name} to process {pid}");
    }

    /// Gives the program its standard input, waits for its end and returns what it said.
    #[must_use = "compare it with `check`, or say what must hold with `success` or `code`"]
    pub fn wait(mut self) -> Output {
        let mut child = self.child.take().expect("a running program was not waited for");
        let mut pipe = child.stdin.take().expect("standard input is a pipe");
        let input = std::mem::take(&mut self.stdin);
        let output = std::thread::scope(|scope| {
            scope.spawn(move || {
                // A program that ends without reading all of its input is fine.
                if let Err(error) = pipe.write_all(&input) {
                    assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe, "{error}");
                }
            });
            child.wait_with_output()
        });
        let output = output.expect("a child can be waited for once");
        Output {
            status: output.status,
            stdout: output.stdout,
            stderr: output.stderr,
            mask: self.mask.clone(),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        if let Err(error) = child.kill().and_then(|()| child.wait()) {
            crate::say(&format!("failed to end process {}: {error}", child.id()));
        }
    }
}

/// How a run ended and what it said.
#[derive(Debug, Clone)]
pub struct Output {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    mask: Mask,
}

impl Output {
    /// Compares everything with a snapshot.
    pub fn check(&self, expected: &Expect) {
        expected.assert_eq(&self.snapshot());
    }

    /// Fails the test unless the program ended with 0.
    #[expect(clippy::return_self_not_must_use, reason = "the assertion may be all that is wanted")]
    pub fn success(self) -> Self {
        self.code(0)
    }

    /// Fails the test unless the program ended with this code.
    #[expect(clippy::return_self_not_must_use, reason = "the assertion may be all that is wanted")]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(self.status.code(), Some(code), "\n{}", self.snapshot());
        self
    }

    /// Returns standard output as it was; it must be text.
    pub fn stdout(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("standard output is text")
    }

    /// Returns standard error as it was; it must be text.
    pub fn stderr(&self) -> &str {
        std::str::from_utf8(&self.stderr).expect("standard error is text")
    }

    /// Returns code and both streams as one text, with what differs from run to run replaced.
    #[must_use]
    pub fn snapshot(&self) -> String {
        let exit = match (self.status.code(), self.status.signal()) {
            (Some(code), _) => code.to_string(),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "unknown".to_owned(),
        };
        let stdout = self.stream(&self.stdout);
        let stderr = self.stream(&self.stderr);
        format!("exit: {exit}\n--- stdout\n{stdout}--- stderr\n{stderr}")
    }

    fn stream(&self, bytes: &[u8]) -> String {
        let mut text = self.mask.apply(&String::from_utf8_lossy(bytes));
        if !text.is_empty() && !text.ends_with('\n') {
            text.push_str("\n(no newline at the end)\n");
        }
        text
    }
}

/// Changes the owner of a tree, links not followed.
fn give_to(path: &Path, uid: u32, gid: u32) {
    let give = |path: &Path| {
        std::os::unix::fs::lchown(path, Some(uid), Some(gid)).unwrap_or_else(|error| {
            panic!("failed to give `{}` to {uid}: {error}", path.display())
        });
    };
    give(path);
    let is_dir = file::symlink_metadata(path).is_ok_and(|metadata| metadata.is_dir());
    if !is_dir {
        return;
    }
    for name in file::list_dir(path).expect("the test's own directory can be listed") {
        give_to(&path.join(name), uid, gid);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::privilege::Need;

    fn shell(script: &str) -> Output {
        TestContext::new("/bin/sh").run(&["-c", script])
    }

    #[test]
    fn a_snapshot_shows_code_and_streams_with_masks() {
        shell("echo \"in $PWD with $CORTEN_ROOT\"; echo 'took 12 ms' >&2; exit 3").check(&expect![
            [r#"
            exit: 3
            --- stdout
            in [WORK] with [ROOT]
            --- stderr
            took [DURATION]
        "#]
        ]);
    }

    #[test]
    fn a_missing_newline_and_a_signal_are_visible() {
        shell("printf text; kill -9 $$").check(&expect![[r#"
            exit: signal 9
            --- stdout
            text
            (no newline at the end)
            --- stderr
        "#]]);
    }

    #[test]
    fn nothing_of_the_outer_environment_is_seen() {
        let output = shell("env | cut -d= -f1 | sort | tr '\\n' ' '").success();
        expect![
            "CORTEN_ROOT HOME LANG PATH PWD TMPDIR TZ XDG_CACHE_HOME XDG_CONFIG_HOME \
             XDG_DATA_HOME XDG_RUNTIME_DIR XDG_STATE_HOME "
        ]
        .assert_eq(output.stdout());
    }

    #[test]
    fn large_input_and_output_do_not_block_each_other() {
        let input = vec![b'x'; 1 << 20];
        let context = TestContext::new("/bin/cat");
        let output = context.command::<&str>([]).stdin(input.clone()).run().success();
        assert_eq!(output.stdout, input);
    }

    #[test]
    fn a_program_that_ignores_its_input_is_fine() {
        let context = TestContext::new("/bin/true");
        let output = context.command::<&str>([]).stdin(vec![b'x'; 1 << 20]).run();
        assert!(output.status.success());
    }

    #[test]
    fn files_are_written_below_the_work_directory() {
        let context = TestContext::new("/bin/cat").with_mask("secret", "WORD");
        context.write("a/b", "a secret");
        assert_eq!(context.read("a/b"), "a secret");
        let output = context.command(["b"]).dir("a").env("X", "1").run().success();
        assert!(output.snapshot().contains("a [WORD]"));
    }

    #[test]
    fn a_running_program_can_be_signalled() {
        let context = TestContext::new("/bin/sleep");
        let running = context.command(["60"]).start();
        running.signal("TERM");
        assert_eq!(running.wait().status.signal(), Some(15));
    }

    mod privileged {
        use super::*;

        #[test]
        fn the_program_runs_as_another_user_without_our_groups() {
            crate::require!(Need::Root);
            let context = TestContext::new("/bin/sh").as_user(65_534, 65_534);
            context.write("file", "x");
            context.check(
                &["-c", "id -u; id -G; echo y >file && cat file"],
                &expect![[r#"
                    exit: 0
                    --- stdout
                    65534
                    65534
                    y
                    --- stderr
                "#]],
            );
        }
    }
}
