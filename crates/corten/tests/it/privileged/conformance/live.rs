//! The cases once more, beside the BuildKit of the docker that is installed.
//!
//! The daemon runs in namespaces of its own, with all of its data below the test's directory; when
//! the test ends, however that happens, the kernel ends everything in them.
//!
//! `tests/conformance/old-docker.txt` says which cases an old docker does not understand or does
//! differently, and why.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use corten_sys::file;
use corten_testkit::context::Running;
use corten_testkit::privilege::Need;
use corten_testkit::{TestContext, require};

use super::cases::{self, Case};
use super::described::Described;
use super::{build_here, build_there, load_base};
use crate::world::with_base;

/// The topics that are compared at every run of the gate, which must not take long; the others are
/// known from what was recorded.
const TOPICS: [&str; 7] =
    ["archives", "config", "copy", "ignore", "sources", "stages", "variables"];

/// The major version of docker that recorded the cases: an older one may differ from them, and its
/// history lacks flags.
const RECORDED_MAJOR: u32 = 28;

/// How many cases are built at once.
const WORKERS: usize = 4;

/// How many cases the oldest docker that is met must have built.
const COMPARED_MIN: usize = 150;

/// How long a daemon may take to answer.
const START_ATTEMPTS: u32 = 150;
const START_INTERVAL: Duration = Duration::from_millis(200);

/// Makes the namespaces of the daemon ready and becomes it. `$1` is its directory. What it says goes
/// to a file: nobody reads a pipe of it, and a full one would stop it.
const START: &str = r#"
    mount --make-rprivate /
    mount -t tmpfs none /run
    # Nothing of it is worth a wait for the disk.
    mkdir "$1/data" && mount -t tmpfs none "$1/data"
    # Where both versions of control groups are mounted, the daemon takes the first.
    umount -l /sys/fs/cgroup/unified 2>/dev/null
    ip link set lo up
    exec dockerd --data-root "$1/data" --exec-root "$1/exec" --pidfile "$1/pid" \
        --host "unix://$1/socket" --storage-driver overlay2 --bridge none --iptables=false >"$1/log" 2>&1
"#;

/// A daemon that ends with this value.
struct Daemon {
    client: TestContext,
    // Dropped before the client's directory, in which the daemon has its data.
    _namespaces: Running,
}

#[test]
fn the_installed_docker_makes_the_same() {
    require!(
        Need::Root,
        Need::Overlay,
        Need::NetworkNamespaces,
        Need::Program("dockerd"),
        Need::Program("docker")
    );
    let owner = TestContext::new("/usr/bin/unshare");
    let daemon = start(&owner);
    let docker = &daemon.client;
    let version = docker.run(&["version", "--format", "{{.Server.Version}}"]).success();
    let major = version.stdout().split('.').next().and_then(|major| major.trim().parse().ok());
    let major: u32 = major.expect("a version begins with a number");
    let excused = if major < RECORDED_MAJOR { excuses() } else { BTreeMap::new() };
    let context = with_base();
    load_base(docker, &context);
    let base_here = Described::read(&context, "base", None);
    let saved = docker.run(&["save", "base"]).success();
    let base_there = Described::from_docker(&saved.stdout, None);
    let cases: Vec<Case> = TOPICS
        .iter()
        .flat_map(|topic| cases::parse(&cases::read(&format!("{topic}.txt"))))
        .filter(|case| case.since.is_none() && case.deviation.is_none())
        .filter(|case| !excused.contains_key(&case.name))
        .collect();
    assert!(cases.len() >= COMPARED_MIN, "only {} cases are compared", cases.len());
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(String::new());
    std::thread::scope(|scope| {
        for worker in 0..WORKERS {
            let (next, wrong, cases, context) = (&next, &wrong, &cases, &context);
            let (base_here, base_there) = (&base_here, &base_there);
            scope.spawn(move || {
                let (here, there) = (format!("here-{worker}"), format!("there-{worker}"));
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let theirs = build_there(docker, context, base_there, case, (&there, &[]));
                    let ours = build_here(context, base_here, case, &here);
                    let is_old = major < RECORDED_MAJOR;
                    if ours == theirs
                        || (is_old && without_history(&ours) == without_history(&theirs))
                    {
                        continue;
                    }
                    let mut wrong = wrong.lock().expect("no other comparison has failed");
                    write!(wrong, "=== {}\ndocker:\n{theirs}here:\n{ours}\n", case.name)
                        .expect("a string takes everything");
                }
            });
        }
    });
    let wrong = wrong.into_inner().expect("no comparison has failed");
    assert!(wrong.is_empty(), "docker {major} makes others than we do\n{wrong}");
}

/// Starts a daemon and waits until it answers.
fn start(owner: &TestContext) -> Daemon {
    let directory = owner.work_dir();
    let text = directory.to_string_lossy().into_owned();
    let namespaces = owner
        .command([
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "sh",
            "-c",
            START,
            "sh",
            &text,
        ])
        .start();
    // The client that comes with the daemon; one that was put before it may be of another version.
    let beside = PathBuf::from("/usr/bin/docker");
    let program = if file::exists(&beside).expect("a directory of programs can be read") {
        beside
    } else {
        PathBuf::from("docker")
    };
    let client = TestContext::new(program)
        .with_env("DOCKER_HOST", format!("unix://{text}/socket"))
        .with_env("DOCKER_BUILDKIT", "1");
    for _ in 0..START_ATTEMPTS {
        if client.run(&["version"]).status.success() {
            return Daemon { client, _namespaces: namespaces };
        }
        std::thread::sleep(START_INTERVAL);
    }
    drop(namespaces);
    panic!("dockerd did not start:\n{}", owner.read("log"));
}

/// A description without what the instructions said.
fn without_history(text: &str) -> Vec<&str> {
    text.lines().filter(|line| !line.starts_with("history")).collect()
}

/// Which cases an old docker cannot be asked about, with the reason.
fn excuses() -> BTreeMap<String, String> {
    let mut excuses = BTreeMap::new();
    let mut reason = String::new();
    for line in cases::read("old-docker.txt").lines().filter(|line| !line.is_empty()) {
        match line.strip_prefix("- ") {
            Some(name) => {
                excuses.insert(name.to_owned(), reason.clone());
            }
            None => line.clone_into(&mut reason),
        }
    }
    excuses
}
