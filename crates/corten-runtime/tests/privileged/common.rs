//! A small root file system and a way to run a script in it.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use corten_diag::Stream;
use corten_runtime::{ContainerSpec, HostFacts, Io, Outcome, Plan, Rootfs, RunError, plan, run};
use corten_sys::command::{Child, Command, pipe};
use corten_sys::file;
use corten_testkit::{TempDir, rootfs};

/// The first argument of a test binary that is to be the caller of one container.
pub(crate) const CALLER: &str = "__caller";

pub(crate) const PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// What every test may use inside.
const PROGRAMS: &[&str] = &[
    "cat", "chown", "chmod", "dd", "env", "false", "grep", "head", "id", "ls", "ln", "mkdir",
    "mkfifo", "mknod", "mount", "perl", "readlink", "rm", "sed", "seq", "sleep", "sort", "stat",
    "touch", "tr", "true", "tty", "umount", "wc",
];

/// A root file system and directories for changes.
pub(crate) struct World {
    pub(crate) folder: TempDir,
}

/// What a container did.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) outcome: Outcome,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Done {
    pub(crate) fn code(&self) -> i32 {
        self.outcome.code()
    }
}

impl World {
    pub(crate) fn new() -> Self {
        let folder = TempDir::new();
        file::set_mode(folder.path(), 0o755).expect("a test can set modes");
        rootfs::make(&folder.path().join("lower"), PROGRAMS);
        for name in ["upper", "work"] {
            file::create_dir(&folder.path().join(name), 0o755)
                .expect("a test can make directories");
        }
        Self { folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn lower(&self) -> PathBuf {
        self.path("lower")
    }

    /// A container that runs a shell script.
    pub(crate) fn spec(&self, script: &str) -> ContainerSpec {
        let rootfs = Rootfs::layered(vec![self.lower()], self.path("upper"), self.path("work"));
        let words = ["sh", "-c", script].map(str::to_owned).to_vec();
        let mut spec = ContainerSpec::new(unique_id(), rootfs, words);
        spec.env = vec![format!("PATH={PATH}")];
        spec
    }

    /// Runs a shell script with the default options.
    pub(crate) fn run(&self, script: &str) -> Done {
        done(&self.spec(script))
    }
}

/// An id that no other container on this machine has.
pub(crate) fn unique_id() -> String {
    format!("test-{}", corten_sys::random::name())
}

pub(crate) fn planned(spec: &ContainerSpec) -> Plan {
    let facts = HostFacts::gather().expect("the host can be looked at");
    plan(spec, &facts).expect("the plan is possible here")
}

pub(crate) fn try_run(spec: &ContainerSpec) -> Result<Done, RunError> {
    run_plan(&planned(spec))
}

pub(crate) fn run_plan(plan: &Plan) -> Result<Done, RunError> {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut collect = |stream, bytes: &[u8]| match stream {
        Stream::Stdout => out.extend_from_slice(bytes),
        Stream::Stderr => err.extend_from_slice(bytes),
    };
    let outcome = run(plan, Io::callback(&mut collect))?;
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Done { outcome, out: text(out), err: text(err) })
}

pub(crate) fn done(spec: &ContainerSpec) -> Done {
    match try_run(spec) {
        Ok(done) => done,
        Err(error) => panic!("{}", chain(&error)),
    }
}

/// An error with all its reasons.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Starts this binary as the caller of one container that runs a script; see [`caller`].
pub(crate) fn start_caller(
    world: &World,
    id: &str,
    script: &str,
    options: &str,
) -> (Child, std::fs::File) {
    let own = "/proc/self/exe";
    let (reader, writer) = pipe().expect("a pipe");
    let command =
        Command::new(own).args([CALLER, id]).arg(world.folder.path()).args([script, options]);
    let command = command.descriptor(1, writer.as_fd()).descriptor(2, writer.as_fd());
    let child = command.spawn().expect("the caller can be started");
    drop(writer);
    (child, reader.into())
}

/// Is a caller like `corten run`: output and signals go through.
pub(crate) fn caller() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(2).collect();
    let [id, folder, script, options] = arguments.as_slice() else { return ExitCode::FAILURE };
    let folder = Path::new(folder);
    let (upper, work) = (folder.join("upper"), folder.join("work"));
    let rootfs = Rootfs::layered(vec![folder.join("lower")], upper, work);
    let words = ["sh", "-c", script].map(str::to_owned).to_vec();
    let mut spec = ContainerSpec::new(id, rootfs, words);
    spec.env = vec![format!("PATH={PATH}")];
    spec.init = options.contains("init");
    if options.contains("stdin") {
        spec.stdin = corten_runtime::Stdin::Inherit;
    }
    if options.contains("host-processes") {
        spec.namespaces.pid = corten_runtime::Namespace::Host;
    }
    if options.contains("memory") {
        spec.resources.memory_bytes = Some(corten_runtime::Limit::required(64 << 20));
    }
    match run(&planned(&spec), Io::inherit()) {
        Ok(outcome) => ExitCode::from(u8::try_from(outcome.code()).unwrap_or(255)),
        Err(error) => ExitCode::from(error.exit_code()),
    }
}

/// Waits until a condition holds; fails the test after ten seconds.
pub(crate) fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("{what} did not happen");
}

/// Returns the command lines of all processes that have a word in them, other than ours.
pub(crate) fn processes_with(word: &str) -> Vec<String> {
    let names = file::list_dir(Path::new("/proc")).expect("readable");
    let mut found = Vec::new();
    for name in names {
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|b| b.is_ascii_digit()))
        else {
            continue;
        };
        // A process may end meanwhile.
        let Ok(line) = file::read(&Path::new("/proc").join(pid).join("cmdline")) else { continue };
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        if line.contains(word) && pid != std::process::id().to_string() {
            found.push(format!("{pid} {line}"));
        }
    }
    found
}

/// Returns the numbers of a process's children.
pub(crate) fn children_of(parent: u32) -> Vec<u32> {
    let names = file::list_dir(Path::new("/proc")).expect("readable");
    let numbers = names.iter().filter_map(|name| name.to_str()?.parse::<u32>().ok());
    let is_child = |pid: &u32| {
        // A process may end meanwhile.
        let stat = file::read(Path::new(&format!("/proc/{pid}/stat"))).unwrap_or_default();
        let stat = String::from_utf8_lossy(&stat).into_owned();
        // The name, in parentheses, may have anything in it; the state and the parent follow.
        let rest = stat.rsplit_once(") ").map(|(_, rest)| rest.to_owned()).unwrap_or_default();
        rest.split(' ').nth(1) == Some(parent.to_string().as_str())
    };
    numbers.filter(is_child).collect()
}

/// Runs a perl program inside that makes system calls; what it prints is returned.
pub(crate) fn perl(program: &str) -> String {
    format!("perl -e '{}'", program.replace('\'', "'\\''"))
}
