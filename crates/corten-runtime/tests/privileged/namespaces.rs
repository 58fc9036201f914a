//! Namespaces that a container shares with the host or with another container, and mounts that go back
//! and forth.

use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use corten_runtime::{
    BindMount, BindOptions, ContainerSpec, HostFacts, IdMapping, Io, Mount, Namespace, Network,
    Propagation, SharedMemory, UserNamespace, run,
};
use corten_sys::command::Command;
use corten_sys::process::Ended;
use corten_sys::userns::parse_map;
use corten_sys::{file, mount, namespace};
use corten_testkit::{Need, require};

use crate::common::{
    Done, World, chain, done, eventually, planned, processes_with, start_caller, try_run, unique_id,
};

pub(crate) const IN_FIRST_THREAD: bool = false;

struct EndAtDrop<'a>(&'a AtomicBool);

impl Drop for EndAtDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs something while a container runs, whose first process it is told.
fn beside(spec: &ContainerSpec, work: impl FnOnce(u32)) {
    let (sender, receiver) = mpsc::channel();
    let cancelled = AtomicBool::new(false);
    let plan = planned(spec);
    std::thread::scope(|scope| {
        let container = scope.spawn(|| {
            let mut ignore = |_, _: &[u8]| {};
            let started = |running: corten_runtime::Running| {
                sender.send(running.pid).map_err(std::io::Error::other)
            };
            let io = Io {
                started: Some(&started),
                cancelled: Some(&cancelled),
                ..Io::callback(&mut ignore)
            };
            run(&plan, io)
        });
        // Also when the work fails.
        let end = EndAtDrop(&cancelled);
        let pid = receiver.recv_timeout(Duration::from_mins(1)).expect("the container starts");
        work(pid);
        drop(end);
        container.join().expect("no panic").expect("it ran");
    });
}

/// Shares what a container has, as `container:NAME` does.
fn share_all(spec: &mut ContainerSpec, pid: u32) {
    let of = |kind: &str| PathBuf::from(format!("/proc/{pid}/ns/{kind}"));
    let join = |kind: &str| Namespace::Join(of(kind));
    spec.namespaces.pid = join("pid");
    spec.namespaces.ipc = join("ipc");
    spec.namespaces.uts = join("uts");
    spec.namespaces.network = join("net");
    spec.shared_memory = SharedMemory::Of(of("mnt"));
    let maps = |name: &str| -> Vec<IdMapping> {
        let text = file::read(&PathBuf::from(format!("/proc/{pid}/{name}"))).expect("it runs");
        parse_map(&String::from_utf8_lossy(&text)).into_iter().map(IdMapping::from).collect()
    };
    let (users, groups) = (maps("uid_map"), maps("gid_map"));
    spec.user_namespace = UserNamespace::Join { path: of("user"), users, groups };
}

fn seen(done: &Done) -> Vec<&str> {
    assert_eq!(done.code(), 0, "{done:?}");
    done.out.lines().collect()
}

pub(crate) fn a_container_is_in_the_namespaces_of_another_one() {
    require!(Need::Root);
    let (one, other) = (World::new(), World::new());
    let mut first = one.spec("echo hello > /dev/shm/note; sleep 1000");
    first.hostname = Some("first".to_owned());
    beside(&first, |pid| {
        let mut spec = other.spec(
            "for n in pid ipc uts net user mnt; do readlink /proc/self/ns/$n; done; \
             cat /proc/sys/kernel/hostname; tr '\\0' ' ' < /proc/1/cmdline | cut -c1-5; \
             ls /sys/class/net; id -u; stat -c %u /etc/hostname; touch /tmp/mine; \
             until [ -s /dev/shm/note ]; do sleep 0.01; done; cat /dev/shm/note; kill -0 1 && echo signals",
        );
        spec.args[2] = spec.args[2].replace("| cut -c1-5", "| head -c 5; echo");
        share_all(&mut spec, pid);
        let done = done(&spec);
        let lines = seen(&done);
        for (line, kind) in lines.iter().zip(["pid", "ipc", "uts", "net", "user"]) {
            assert_eq!(*line, namespace::identity(pid, kind).expect("it runs"), "{kind}");
        }
        assert_ne!(lines[5], namespace::identity(pid, "mnt").expect("it runs"));
        assert_eq!(lines[6..], ["first", "sh -c", "lo", "0", "0", "hello", "signals"], "{done:?}");
    });
}

pub(crate) fn a_container_with_users_of_its_own_is_in_the_namespaces_of_another_one() {
    require!(Need::Root);
    let (one, other) = (World::new(), World::new());
    beside(&one.spec("sleep 1000"), |pid| {
        let mut spec = other.spec(
            "readlink /proc/self/ns/net; ls /sys/class/net; sed 1d /proc/net/route | wc -l; \
             for f in /proc/sys/net/ipv4/ip_forward /proc/sys/net/core/somaxconn; do \
               v=$(cat $f); (echo $v > $f) 2>/dev/null && echo written $f; done; echo end",
        );
        share_all(&mut spec, pid);
        spec.user_namespace = UserNamespace::Auto;
        spec.shared_memory = SharedMemory::Shareable;
        spec.readonly_paths.clear();
        let error = corten_runtime::plan(&spec, &HostFacts::gather().expect("readable"));
        let error = error.expect_err("processes belong to the other's users").to_string();
        assert!(error.contains("the processes of others"), "{error}");
        spec.namespaces.pid = Namespace::New;
        let done = done(&spec);
        let net = namespace::identity(pid, "net").expect("it runs");
        assert_eq!(seen(&done), [net.as_str(), "lo", "0", "end"], "{done:?}");
    });
}

pub(crate) fn processes_among_those_of_the_host_end_with_the_first() {
    require!(Need::Root, Need::Cgroup);
    let world = World::new();
    let word = unique_id();
    for user_namespace in [UserNamespace::Auto, UserNamespace::Host] {
        let mut spec = world.spec(&format!(
            "readlink /proc/self/ns/pid; [ -e /proc/{} ] && echo sees; \
             perl -e 'exit if fork; setpgrp; exit if fork; $0 = \"{word}\"; sleep 1000' {word} & sleep 0.3; \
             (: > /proc/sysrq-trigger) 2>/dev/null && echo opened; \
             (echo 1 > /proc/{}/oom_score_adj) 2>/dev/null && echo adjusted; echo end",
            std::process::id(),
            std::process::id(),
        ));
        spec.namespaces.pid = Namespace::Host;
        spec.user_namespace = user_namespace.clone();
        let done = done(&spec);
        let ours = namespace::identity(std::process::id(), "pid").expect("readable");
        let mut expected = vec![ours.as_str(), "sees"];
        if user_namespace == UserNamespace::Host {
            // Without users of its own, root of the container is root among the processes.
            expected.push("adjusted");
        }
        expected.push("end");
        assert_eq!(seen(&done), expected, "{done:?}");
        eventually("the end of what was left behind", || processes_with(&word).is_empty());
    }
}

pub(crate) fn messages_names_and_groups_of_the_host_are_shared_when_asked_for() {
    require!(Need::Root);
    let world = World::new();
    let name = format!("/dev/shm/{}", unique_id());
    file::write(Path::new(&name), b"of the host\n").expect("a test may write there");
    file::set_mode(Path::new(&name), 0o644).expect("its own file");
    let mut spec = world.spec(&format!(
        "for n in ipc uts cgroup; do readlink /proc/self/ns/$n; done; cat {name}; \
         cat /proc/sys/kernel/hostname; stat -c %u {name}; (echo x > /proc/sys/kernel/hostname) 2>/dev/null && echo set; echo end"
    ));
    spec.namespaces.ipc = Namespace::Host;
    spec.namespaces.uts = Namespace::Host;
    spec.namespaces.cgroup = Namespace::Host;
    spec.shared_memory = SharedMemory::Host;
    let done = done(&spec);
    file::remove_file(Path::new(&name)).expect("its own file");
    let of = |kind: &str| namespace::identity(std::process::id(), kind).expect("readable");
    let host = file::read(Path::new("/proc/sys/kernel/hostname")).expect("readable");
    let host = String::from_utf8_lossy(&host).trim().to_owned();
    let expected = [&of("ipc"), &of("uts"), &of("cgroup"), "of the host", &host, "0", "end"];
    assert_eq!(seen(&done), expected, "{done:?}");
}

pub(crate) fn ids_are_those_that_were_chosen() {
    require!(Need::Root);
    let world = World::new();
    let volume = world.path("volume");
    file::create_dir(&volume, 0o777).expect("a test can make directories");
    file::set_mode(&volume, 0o777).expect("a test can set modes");
    let mut spec = world.spec(
        "sed 's/  */ /g' /proc/self/uid_map; id -u; touch /volume/made; stat -c %u /etc/hostname /volume",
    );
    let map = |inside, outside, count| IdMapping { inside, outside, count };
    let users = vec![map(0, 0x7100_0000, 10), map(1000, 0x7200_0000, 5)];
    spec.user_namespace = UserNamespace::Maps { users: users.clone(), groups: users };
    spec.mounts.push(bind(&volume, Propagation::Private));
    (spec.uid, spec.gid) = (1003, 1003);
    let done = done(&spec);
    assert_eq!(
        seen(&done),
        [" 0 1895825408 10", " 1000 1912602624 5", "1003", "0", "0"],
        "{done:?}"
    );
    let made = file::metadata(&volume.join("made")).expect("it was made");
    assert_eq!(made.uid(), 1003, "on disk, ids are those inside");
}

fn bind(source: &Path, propagation: Propagation) -> Mount {
    Mount::Bind(BindMount {
        source: source.to_owned(),
        target: PathBuf::from("/volume"),
        readonly: false,
        recursive: true,
        options: BindOptions { propagation, ..BindOptions::default() },
    })
}

/// A directory whose mount is shared, in a mount namespace of this thread alone.
fn shared_directory(world: &World) -> PathBuf {
    namespace::unshare(namespace::MOUNT).expect("root may");
    mount::make_all_private().expect("root may");
    let path = world.path("shared");
    file::create_dirs(&path.join("below"), 0o755).expect("a test can make directories");
    let copy = mount::copy_path(&path, false).expect("root may");
    mount::attach_at(copy.as_fd(), &path).expect("root may");
    mount::propagate(copy.as_fd(), mount::Propagation::Shared).expect("root may");
    path
}

/// Takes it away, with all that is mounted there.
fn take_away(shared: &Path) {
    let status = Command::new("/bin/umount").arg("-R").arg(shared).output(1000);
    assert_eq!(status.expect("it is there").0.ended, Ended::Code(0));
}

pub(crate) fn mounts_of_the_host_reach_a_container_only_when_asked_for() {
    require!(Need::Root);
    let world = World::new();
    let shared = shared_directory(&world);
    for (propagation, arrives) in [
        (Propagation::Private, false),
        (Propagation::Slave, true),
        (Propagation::Unbindable, false),
    ] {
        let go = world.path("go");
        file::create_dir(&go, 0o777).expect("a test can make directories");
        let mut spec = world.spec(
            "until [ -e /go/now ]; do sleep 0.01; done; grep -c ' /volume/below ' /proc/self/mountinfo; \
             grep -c ' /volume .*shared:' /proc/self/mountinfo; true",
        );
        spec.mounts = vec![bind(&shared, propagation), bind(&go, Propagation::Private)];
        if let Some(Mount::Bind(go)) = spec.mounts.get_mut(1) {
            go.target = PathBuf::from("/go");
        }
        let plan = planned(&spec);
        let mut out = Vec::new();
        let mut take = |_, bytes: &[u8]| out.extend_from_slice(bytes);
        let below = shared.join("below");
        let started = |_| {
            let status = Command::new("/bin/mount")
                .args(["-t", "tmpfs", "none"])
                .arg(&below)
                .output(1000)
                .map_err(std::io::Error::other)?;
            assert_eq!(status.0.ended, Ended::Code(0));
            file::write(&go.join("now"), b"").map_err(std::io::Error::other)
        };
        let outcome = run(&plan, Io { started: Some(&started), ..Io::callback(&mut take) });
        outcome.unwrap_or_else(|error| panic!("{}", chain(&error)));
        let expected = format!("{}\n0\n", u8::from(arrives));
        assert_eq!(String::from_utf8_lossy(&out), expected, "{propagation}");
        let status = Command::new("/bin/umount").arg(&below).output(1000).expect("it is there");
        assert_eq!(status.0.ended, Ended::Code(0));
        file::remove_tree(&go).expect("its own files");
    }
    take_away(&shared);
}

pub(crate) fn mounts_of_a_container_reach_the_host_only_when_asked_for() {
    require!(Need::Root);
    let world = World::new();
    let shared = shared_directory(&world);
    let mut spec = world.spec("mount -t tmpfs none /volume/below && echo mounted");
    spec.user_namespace = UserNamespace::Host;
    spec.capabilities.insert(corten_runtime::Capability::SysAdmin);
    spec.seccomp = corten_runtime::Seccomp::Unconfined;
    let is_mounted = || {
        let text = file::read(Path::new("/proc/thread-self/mountinfo")).expect("readable");
        String::from_utf8_lossy(&text).contains(&format!(" {}/below ", shared.display()))
    };
    for (propagation, reaches) in [(Propagation::Private, false), (Propagation::Shared, true)] {
        spec.mounts = vec![bind(&shared, propagation)];
        let done = done(&spec);
        assert_eq!(done.out, "mounted\n", "{done:?}");
        assert_eq!(is_mounted(), reaches, "{propagation}");
    }
    take_away(&shared);
    // What is not shared on the host cannot be shared with it.
    let volume = world.path("volume");
    file::create_dir(&volume, 0o755).expect("a test can make directories");
    spec.mounts = vec![bind(&volume, Propagation::Shared)];
    let error = try_run(&spec).expect_err("there is nothing to share");
    assert!(chain(&error).contains("no shared mount of the host"), "{}", chain(&error));
}

pub(crate) fn a_namespace_that_is_not_there_stops_the_container() {
    require!(Need::Root);
    let world = World::new();
    let mut spec = world.spec("echo runs");
    spec.network = Network::None;
    spec.namespaces.network = Namespace::Join(PathBuf::from("/no/such/namespace"));
    let error = try_run(&spec).expect_err("it is not there");
    assert!(chain(&error).contains("/no/such/namespace"), "{}", chain(&error));
    // A file that is no namespace.
    let plain = world.path("plain");
    file::write(&plain, b"").expect("a test can write files");
    spec.namespaces.network = Namespace::Join(plain);
    let error = try_run(&spec).expect_err("it is none");
    assert!(chain(&error).contains("failed to join the namespace"), "{}", chain(&error));
}

pub(crate) fn processes_among_those_of_the_host_end_with_a_killed_caller() {
    require!(Need::Root, Need::Cgroup);
    let world = World::new();
    let (id, word) = (unique_id(), unique_id());
    let script = format!(
        "perl -e 'exit if fork; setpgrp; exit if fork; $0 = \"{word}\"; sleep 1000' {word}; echo runs; sleep 1000"
    );
    let (caller, mut output) = start_caller(&world, &id, &script, "host-processes");
    let mut line = [0; 5];
    std::io::Read::read_exact(&mut output, &mut line).expect("it runs");
    eventually("the one that is left behind", || !processes_with(&word).is_empty());
    caller.kill_and_wait().expect("our child");
    eventually("the end of all", || processes_with(&word).is_empty());
}
