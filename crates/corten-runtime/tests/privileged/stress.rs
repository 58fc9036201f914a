//! Many containers, one after the other and at once. Each test has a process of its own, and a
//! network and a `/run` of its own, so that whatever is left there was left by its containers.

use std::collections::BTreeSet;
use std::os::fd::AsFd as _;
use std::path::Path;
use std::thread;

use corten_runtime::{ContainerSpec, HostFacts, Limit, Network, Rootfs, plan};
use corten_sys::mount::{self, Attributes, FileSystem};
use corten_sys::{file, namespace};
use corten_testkit::privilege::is_granted;
use corten_testkit::{Need, require};
use rustix::io::Errno;
use rustix::process::WaitOptions;

use crate::common::{World, chain, done, eventually, processes_with, run_plan, try_run};
use crate::limits::groups_of;

pub(crate) const IN_FIRST_THREAD: bool = true;

/// How many containers follow each other.
const MANY: usize = 100;
const THREADS: usize = 4;
const EACH: usize = 8;

fn separate() {
    namespace::unshare(namespace::MOUNT | namespace::NETWORK).expect("root can have its own");
    mount::make_all_private().expect("they are our own");
    let system = FileSystem::new("tmpfs").expect("every kernel has it");
    let mounted = system.mount(Attributes::default()).expect("root can mount");
    mount::attach_at(mounted.as_fd(), Path::new("/run")).expect("root can mount");
}

/// What could be left behind.
#[derive(Debug, PartialEq, Eq)]
struct Traces {
    mounts: String,
    descriptors: BTreeSet<String>,
    interfaces: Vec<String>,
    leases: Vec<String>,
    has_children: bool,
}

impl Traces {
    /// Looks when the kernel has taken the namespaces of ended containers down, which it does in
    /// its own time.
    fn settled() -> Self {
        let is_left = |name: &String| name.starts_with("veth");
        eventually("the end of the interfaces", || !Self::look().interfaces.iter().any(is_left));
        Self::look()
    }

    fn look() -> Self {
        let text = |path: &str| {
            let bytes = file::read(Path::new(path)).expect("a file of the kernel");
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let name = |line: &str| line.split_once(':').map(|(name, _)| name.trim().to_owned());
        let names = |path: &str| {
            let names = file::list_dir(Path::new(path)).unwrap_or_default();
            names.iter().map(|name| name.to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        let descriptors = names("/proc/self/fd");
        let children = rustix::process::wait(WaitOptions::NOHANG);
        Self {
            mounts: text("/proc/self/mountinfo"),
            descriptors: descriptors.into_iter().collect(),
            interfaces: text("/proc/self/net/dev").lines().filter_map(name).collect(),
            leases: names("/run/corten/network/leases"),
            has_children: children.err() != Some(Errno::CHILD),
        }
    }
}

/// Containers of every make, by turns; the word is in their arguments.
fn varied(world: &World, number: usize, word: &str, groups: bool) -> ContainerSpec {
    let mut spec = world.spec("");
    spec.args = vec!["true".to_owned(), word.to_owned()];
    spec.rootfs = Rootfs::in_memory(vec![world.lower()]);
    spec.init = number % 3 == 1;
    if number.is_multiple_of(10) {
        spec.network = Network::Default;
    }
    if groups && number % 10 == 5 {
        spec.resources.memory_bytes = Some(Limit::required(64 << 20));
    }
    spec
}

pub(crate) fn a_hundred_containers_leave_nothing() {
    require!(Need::Root, Need::NetworkNamespaces);
    let groups = is_granted(&[Need::Cgroup]);
    let world = World::new();
    separate();
    let facts = HostFacts::gather().expect("the host can be looked at");
    let word = corten_sys::random::name();
    // The first makes what stays: the bridge, and the view of our own program.
    done(&varied(&world, 0, &word, groups));
    let before = Traces::settled();
    for number in 0..MANY {
        let mut spec = varied(&world, number, &word, groups);
        if number % 10 == 7 {
            // One that fails on its way leaves nothing either.
            spec.cwd = "/no/where".into();
            try_run(&spec).expect_err("it cannot start");
        } else {
            let plan = plan(&spec, &facts).expect("the plan is possible");
            let done = run_plan(&plan).unwrap_or_else(|error| panic!("{}", chain(&error)));
            assert_eq!((done.code(), done.outcome.notices.len()), (0, 0), "{number}: {done:?}");
        }
        assert_eq!(groups_of(&spec.id), Vec::<std::path::PathBuf>::new(), "{number}");
    }
    assert_eq!(Traces::settled(), before);
    assert_eq!(processes_with(&word), Vec::<String>::new());
}

pub(crate) fn containers_of_several_threads_do_not_disturb_each_other() {
    require!(Need::Root, Need::NetworkNamespaces);
    let groups = is_granted(&[Need::Cgroup]);
    let world = World::new();
    separate();
    let word = corten_sys::random::name();
    done(&varied(&world, 0, &word, groups));
    let before = Traces::settled();
    let work = |thread: usize| {
        for number in 0..EACH {
            let text = format!("{thread} {number}");
            let mut spec = varied(&world, thread + number * 5, &word, groups);
            let script = format!("seq 1 2000; echo {text} > /own; cat /own; exit {}", thread + 1);
            spec.args = ["sh", "-c", &script, &word].map(str::to_owned).to_vec();
            let done = done(&spec);
            assert_eq!(done.code(), i32::try_from(thread).unwrap_or_default() + 1, "{done:?}");
            assert!(done.out.ends_with(&format!("2000\n{text}\n")), "{done:?}");
        }
    };
    thread::scope(|scope| {
        for number in 0..THREADS {
            scope.spawn(move || work(number));
        }
    });
    assert_eq!(Traces::settled(), before);
    assert_eq!(processes_with(&word), Vec::<String>::new());
}
