//! Containers of an ordinary user. Each test becomes one, for good: it has a process of its own.

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use corten_runtime::{
    Capability, HostFacts, Limit, Network, Notice, PlanError, Seccomp, default_capabilities, plan,
};
use corten_sys::mount::{self, Attributes, FileSystem};
use corten_sys::userns::{Rootless, RootlessIds, SingleId, enter_rootless};
use corten_sys::{file, namespace};
use corten_testkit::{Need, TempDir, require};
use rustix::fs::{FileType, Mode};
use rustix::process::{DumpableBehavior, Gid, Uid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::common::{World, done, planned, run_plan};
use crate::ends::killed_caller;

pub(crate) const IN_FIRST_THREAD: bool = true;

/// An id that no account of the machine has.
const USER: u32 = 543_210;

/// Becomes the user, with these ids besides its own, and then root of a user namespace, as `corten`
/// does. What `prepare` changes about the machine is seen by this process only.
fn become_user(range: Option<(u32, u32)>, prepare: impl FnOnce()) -> Rootless {
    namespace::unshare(namespace::MOUNT).expect("root can have mounts of its own");
    mount::make_all_private().expect("they are our own");
    let given = range.map(|(first, count)| format!("{USER}:{first}:{count}\n"));
    for file in ["/etc/subuid", "/etc/subgid"] {
        cover(Path::new(file), given.as_deref().unwrap_or_default());
    }
    let passwd = file::read(Path::new("/etc/passwd")).expect("every system has it");
    let passwd = String::from_utf8_lossy(&passwd).into_owned();
    cover(Path::new("/etc/passwd"), &format!("{passwd}someone:x:{USER}:{USER}::/:/bin/sh\n"));
    prepare();
    let (uid, gid) = (Uid::from_raw(USER), Gid::from_raw(USER));
    set_thread_groups(&[]).expect("root can leave its groups");
    set_thread_res_gid(gid, gid, gid).expect("root can become anybody");
    set_thread_res_uid(uid, uid, uid).expect("root can become anybody");
    // As for a program that the user has started.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable).expect("it is our own");
    enter_rootless().expect("user namespaces are allowed").expect("we are no longer root")
}

/// Puts a file with this text over one of the machine's.
fn cover(path: &Path, text: &str) {
    let folder = TempDir::new();
    let source = folder.path().join("file");
    file::write(&source, text.as_bytes()).expect("a test can write files");
    file::set_mode(&source, 0o644).expect("a test can set modes");
    // The mount keeps the file when its name is gone.
    let copy = mount::copy_path(&source, false).expect("root can mount");
    mount::attach_at(copy.as_fd(), path).expect("the file is there to be covered");
}

/// Makes `/dev/net/tun` one that an ordinary user can open, or one that it cannot.
fn make_tun(mode: u32) {
    let folder = Path::new("/dev/net");
    file::create_dirs(folder, 0o755).expect("root can make directories");
    let system = FileSystem::new("tmpfs").expect("every kernel has it");
    system.text("mode", "755").expect("an option of it");
    let mounted = system.mount(Attributes::default()).expect("root can mount");
    mount::attach_at(mounted.as_fd(), folder).expect("root can mount");
    let device = rustix::fs::makedev(10, 200);
    let kind = FileType::CharacterDevice;
    rustix::fs::mknodat(&mounted, "tun", kind, Mode::from_raw_mode(0o600), device)
        .expect("root can make devices");
    file::set_mode(&folder.join("tun"), mode).expect("a test can set modes");
}

pub(crate) fn an_ordinary_user_runs_a_container() {
    require!(Need::Root, Need::UserNamespaces, Need::RootlessOverlay);
    let rootless = become_user(None, || ());
    let expected = RootlessIds::Single(SingleId::NoRange { file: "/etc/subuid" });
    assert_eq!(rootless, Rootless { uid: USER, gid: USER, ids: expected });
    let world = World::new();
    let spec = world.spec(
        "id -u; cat /proc/self/uid_map /proc/self/setgroups; > /made; > /etc/new; \
         grep -E 'CapBnd|NoNewPrivs|Seccomp:' /proc/self/status; ls /sys/class/net; \
         readlink /proc/self/ns/user",
    );
    let done = done(&spec);
    let words: Vec<&str> = done.out.split_whitespace().collect();
    let status = ["CapBnd:", "00000000a00405fb", "NoNewPrivs:", "1", "Seccomp:", "2", "lo"];
    assert_eq!(words[..5], ["0", "0", "0", "1", "deny"], "{done:?}");
    assert_eq!(words[5..12], status, "{done:?}");
    let ours = namespace::identity(std::process::id(), "user").expect("readable");
    assert_ne!(words[12], ours, "a namespace below the caller's");
    assert!(world.path("upper/made").is_file());
    assert_eq!(done.outcome.notices, []);
}

pub(crate) fn an_ordinary_user_without_a_range_has_no_other_users_inside() {
    require!(Need::Root, Need::UserNamespaces, Need::RootlessOverlay);
    become_user(None, || ());
    let world = World::new();
    let facts = HostFacts::gather().expect("the host can be looked at");
    let mut spec = world.spec("id -G; chown 1000 /etc/passwd 2>&1 | grep -c 'Invalid argument'");
    spec.uid = 1000;
    let error = plan(&spec, &facts).expect_err("there is one id");
    assert_eq!(error.to_string(), "user 1000 is outside the 1 ids that are available here");
    assert!(error.hint().is_some_and(|hint| hint.contains("--add-subuids")));
    (spec.uid, spec.additional_gids) = (0, vec![2000]);
    let plan = planned(&spec);
    assert_eq!(plan.notices, [Notice::GroupsDropped { count: 1 }]);
    let done = run_plan(&plan).expect("it runs");
    // The kernel shows groups that are not mapped as the overflow one; there were none to show.
    assert_eq!(done.out, "0\n1\n", "{done:?}");
}

pub(crate) fn an_ordinary_user_with_a_range_has_other_users_inside() {
    require!(
        Need::Root,
        Need::UserNamespaces,
        Need::RootlessOverlay,
        Need::Program("newuidmap"),
        Need::Program("newgidmap"),
    );
    let rootless = become_user(Some((700_000, 65_536)), || ());
    assert_eq!(rootless.ids, RootlessIds::Ranges { users: 65_536, groups: 65_536 });
    let world = World::new();
    let mut spec =
        world.spec("cat /proc/self/uid_map; id -G; touch /tmp/x; stat -c %u:%g /tmp/x; kill -9 $$");
    (spec.uid, spec.gid, spec.additional_gids) = (1000, 1000, vec![2000]);
    spec.init = true;
    let outcome = done(&spec);
    let words: Vec<&str> = outcome.out.split_whitespace().collect();
    let expected = ["0", "0", "1", "1", "1", "65536", "1000", "2000", "1000:1000"];
    assert_eq!(words, expected, "{outcome:?}");
    assert_eq!(outcome.code(), 137);
    let spec = world
        .spec("chown 33:33 /etc/passwd && stat -c %u:%g /etc/passwd; rm /etc/group; ls /etc/group");
    let outcome = done(&spec);
    assert_eq!(outcome.out, "33:33\n", "{outcome:?}");
}

pub(crate) fn the_containers_root_has_no_power_over_the_callers_namespace() {
    require!(Need::Root, Need::UserNamespaces, Need::RootlessOverlay);
    become_user(None, || ());
    let world = World::new();
    let caller = std::process::id();
    // The worst that one can ask for: its capabilities are those of its own namespace only.
    let mut spec = world.spec(&format!(
        "umount /proc/sys; for f in kernel/core_pattern kernel/modprobe kernel/panic vm/panic_on_oom \
           net/ipv4/ip_forward; do v=$(cat /proc/sys/$f); \
           (printf '%s' \"$v\" > /proc/sys/$f) 2>/dev/null && echo written $f; done; \
         kill -9 {caller} 2>/dev/null && echo killed; [ -e /proc/{caller}/exe ] && echo seen; \
         mknod /tmp/null c 1 3 2>/dev/null && echo made; \
         mount -t proc proc /tmp 2>/dev/null && [ -e /tmp/{caller} ] && echo seen too; \
         readlink /proc/1/exe | grep -c corten; echo end"
    ));
    spec.capabilities = default_capabilities();
    spec.capabilities.extend([
        Capability::SysAdmin,
        Capability::NetAdmin,
        Capability::SysPtrace,
        Capability::Mknod,
        Capability::DacReadSearch,
    ]);
    spec.seccomp = Seccomp::Unconfined;
    spec.network = Network::Host;
    let done = done(&spec);
    assert_eq!(done.out, "0\nend\n", "{done:?}");
}

pub(crate) fn a_limit_that_cannot_be_set_is_refused() {
    require!(Need::Root, Need::UserNamespaces, Need::RootlessOverlay);
    become_user(None, || ());
    let world = World::new();
    let facts = HostFacts::gather().expect("the host can be looked at");
    let mut spec = world.spec("echo ran");
    spec.resources.memory_bytes = Some(Limit::required(64 << 20));
    // The groups of root are not the user's to change.
    let error = plan(&spec, &facts).expect_err("nobody gave the user a group");
    assert!(matches!(error, PlanError::LimitNotEnforceable { .. }), "{error}");
    assert!(error.hint().is_some());
    spec.resources.memory_bytes = Some(Limit::preferred(64 << 20));
    let plan = planned(&spec);
    assert!(plan.notices.iter().any(|notice| matches!(notice, Notice::LimitNotSet { .. })));
    assert_eq!(run_plan(&plan).expect("it runs").out, "ran\n");
}

pub(crate) fn a_killed_rootless_caller_takes_its_container_along() {
    require!(Need::Root, Need::UserNamespaces, Need::RootlessOverlay);
    become_user(None, || ());
    killed_caller("sleep 98765; true", "");
}

pub(crate) fn an_ordinary_user_has_a_network_where_it_may_make_one() {
    require!(
        Need::Root,
        Need::UserNamespaces,
        Need::RootlessOverlay,
        Need::NetworkNamespaces,
        Need::Program("pasta"),
    );
    become_user(None, || make_tun(0o666));
    let facts = HostFacts::gather().expect("the host can be looked at");
    assert_eq!(facts.default_network(), Ok(()));
    let world = World::new();
    let mut spec = world.spec("ls /sys/class/net | wc -l; sed 1d /proc/net/route | wc -l");
    spec.network = Network::Default;
    let done = done(&spec);
    let counts: Vec<u32> = done.out.lines().filter_map(|line| line.parse().ok()).collect();
    assert!(counts.len() == 2 && counts[0] == 2 && counts[1] >= 1, "{done:?}");
}

pub(crate) fn a_network_that_cannot_be_made_is_refused_with_the_real_cause() {
    require!(Need::Root, Need::UserNamespaces, Need::RootlessOverlay);
    become_user(None, || make_tun(0o600));
    let facts = HostFacts::gather().expect("the host can be looked at");
    let reason = facts.default_network().expect_err("the device is root's");
    assert!(reason.contains("`/dev/net/tun`") && reason.contains("chmod 666"), "{reason}");
    let world = World::new();
    let mut spec = world.spec("true");
    spec.network = Network::Default;
    let error = run_plan(&planned(&spec)).expect_err("there is no network");
    assert_eq!(error.to_string(), "failed to connect the container to the network");
    let hint = error.hint().expect("there is something to do");
    assert!(hint.contains("`sudo chmod 666 /dev/net/tun`"), "{hint}");
    let source = std::error::Error::source(&error).expect("a reason").to_string();
    assert!(
        source.contains("your user may not open `/dev/net/tun`: Permission denied"),
        "{source}"
    );
    assert!(!PathBuf::from("/run/corten/network/leases").join(&spec.id).exists());
}
