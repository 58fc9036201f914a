//! What a container is and sees.

use std::collections::BTreeMap;
use std::path::PathBuf;

use corten_runtime::{Capability, HostFiles, Network, UserNamespace};
use corten_sys::{file, namespace};
use corten_testkit::{Need, require};

use crate::common::{World, done};

pub(crate) const IN_FIRST_THREAD: bool = false;

pub(crate) fn every_namespace_is_the_containers_own() {
    require!(Need::Root);
    let world = World::new();
    let done =
        world.run("for n in user pid mnt uts ipc net cgroup; do readlink /proc/self/ns/$n; done");
    let inside: Vec<&str> = done.out.lines().collect();
    assert_eq!(inside.len(), 7, "{done:?}");
    for (name, inside) in ["user", "pid", "mnt", "uts", "ipc", "net", "cgroup"].iter().zip(inside) {
        let ours = namespace::identity(std::process::id(), name).expect("readable");
        assert_ne!(ours, inside, "{name}");
    }
}

pub(crate) fn the_first_process_is_process_1_and_sees_no_other() {
    require!(Need::Root);
    let done = World::new()
        .run("echo $$; ls /proc | grep -c '^[0-9]'; cat /proc/1/cmdline | tr '\\0' ' '");
    let lines: Vec<&str> = done.out.lines().collect();
    assert_eq!(lines[0], "1");
    assert!(lines[1].parse::<u32>().is_ok_and(|count| count <= 3), "{}", lines[1]);
    assert!(lines[2].starts_with("sh -c"), "{}", lines[2]);
}

pub(crate) fn root_of_the_container_is_nobody_on_the_host() {
    require!(Need::Root);
    let done = World::new().run("cat /proc/self/uid_map; id -u; id -g");
    let words: Vec<&str> = done.out.split_whitespace().collect();
    assert_eq!(words[0], "0");
    assert!(words[1].parse::<u32>().is_ok_and(|outside| outside >= 100_000), "{}", words[1]);
    assert_eq!(&words[3..], ["0", "0"]);
}

pub(crate) fn capabilities_are_few_and_a_filter_is_on() {
    require!(Need::Root);
    let done =
        World::new().run("grep -E 'Cap|NoNewPrivs|Seccomp:|SigIgn|SigBlk' /proc/self/status");
    let fields: BTreeMap<&str, &str> =
        done.out.lines().filter_map(|line| line.split_once(":\t")).collect();
    assert_eq!(fields["CapBnd"], "00000000a00405fb", "{done:?}");
    assert_eq!(fields["CapPrm"], fields["CapBnd"]);
    assert_eq!(fields["CapEff"], fields["CapBnd"]);
    assert_eq!(fields["CapInh"], "0000000000000000");
    assert_eq!(fields["CapAmb"], "0000000000000000");
    assert_eq!(fields["NoNewPrivs"], "1");
    assert_eq!(fields["Seccomp"], "2");
    assert_eq!(fields["SigIgn"], "0000000000000000");
    assert_eq!(fields["SigBlk"], "0000000000000000");
}

pub(crate) fn another_user_has_no_capability_and_its_groups() {
    require!(Need::Root);
    let world = World::new();
    let mut spec = world.spec("id; grep -E 'Cap(Prm|Eff|Inh|Amb)' /proc/self/status; > /x");
    (spec.uid, spec.gid, spec.additional_gids) = (1000, 1000, vec![2000]);
    let done = done(&spec);
    assert!(done.out.starts_with("uid=1000(app) gid=1000(app) groups=1000(app),2000(extra)"));
    assert_eq!(done.out.matches("0000000000000000").count(), 4, "{done:?}");
    assert!(done.err.contains("Permission denied"), "{done:?}");
}

pub(crate) fn ids_of_directory_services_fit() {
    require!(Need::Root);
    let world = World::new();
    let mut spec = world.spec("id -u; touch /tmp/mine; stat -c %u /tmp/mine");
    (spec.uid, spec.gid) = (12_345_678, 12_345_678);
    assert_eq!(done(&spec).out, "12345678\n12345678\n");
}

pub(crate) fn system_paths_are_masked_or_read_only() {
    require!(Need::Root);
    let done = World::new().run(
        "for f in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts; do \
           [ -e $f ] && [ $(wc -c < $f) != 0 ] && echo not masked $f; done; \
         ls /sys/firmware 2>/dev/null | wc -l; \
         for f in /proc/sys/kernel/hostname /proc/sysrq-trigger /proc/irq/x /sys/x /proc/sys/x; do \
           (echo x > $f) 2>/dev/null && echo written $f; done; echo end",
    );
    assert_eq!(done.out, "0\nend\n", "{done:?}");
}

pub(crate) fn devices_are_the_usual_ones_and_work() {
    require!(Need::Root);
    let done = World::new().run(
        "ls /dev | tr '\\n' ' '; echo; echo x > /dev/null && head -c 3 /dev/zero | wc -c; \
         head -c 5 /dev/urandom | wc -c; (echo x > /dev/full) 2>/dev/null || echo full; \
         stat -c %a /dev/shm /dev/pts/ptmx; echo out > /dev/stdout; echo err > /dev/stderr",
    );
    assert_eq!(
        done.out,
        "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero \n\
         3\n5\nfull\n1777\n666\nout\n",
        "{done:?}"
    );
    assert_eq!(done.err, "err\n");
}

pub(crate) fn nothing_of_the_host_leaks_in() {
    require!(Need::Root);
    let world = World::new();
    let _open = std::fs::File::open("/").expect("readable");
    let done =
        world.run("ls /proc/self/fd | tr '\\n' ' '; echo; cat /proc/self/mountinfo; umask; pwd");
    let mut lines = done.out.lines();
    // `ls` itself opens 3 for the directory.
    assert_eq!(lines.next(), Some("0 1 2 3 "));
    let host = world.folder.path().display().to_string();
    for line in lines.clone().filter(|line| line.contains(" - ")) {
        let target = line.split(' ').nth(4).expect("a mount point");
        let known = ["/proc", "/sys", "/dev"].iter().any(|known| target.starts_with(known));
        assert!(target == "/" || known, "{line}");
        assert!(!line.contains(&host), "{line}");
    }
    let rest: Vec<&str> = lines.filter(|line| !line.contains(" - ")).collect();
    assert_eq!(rest, ["0022", "/"]);
}

pub(crate) fn the_environment_is_what_was_given() {
    require!(Need::Root);
    let world = World::new();
    let mut spec = world.spec("");
    spec.args = vec!["env".to_owned()];
    spec.env = vec!["PATH=/bin".to_owned(), "A=b c".to_owned(), "E=".to_owned()];
    assert_eq!(done(&spec).out, "PATH=/bin\nA=b c\nE=\n");
}

pub(crate) fn small_files_are_the_containers_own() {
    require!(Need::Root);
    let world = World::new();
    let mut spec = world.spec(
        "cat /etc/hostname /etc/hosts /proc/sys/kernel/hostname; echo more >> /etc/hosts; cat /etc/hosts",
    );
    spec.hostname = Some("box".to_owned());
    spec.host_files = HostFiles {
        resolv_conf: Some("nameserver 192.0.2.1\n".to_owned()),
        hosts: Some("127.0.0.1 localhost\n".to_owned()),
        hostname: Some("box\n".to_owned()),
    };
    let done = done(&spec);
    assert_eq!(done.out, "box\n127.0.0.1 localhost\nbox\n127.0.0.1 localhost\nmore\n");
    let made: Vec<String> =
        done.outcome.created_mount_points.iter().map(|path| path.display().to_string()).collect();
    assert_eq!(made, ["/etc/resolv.conf", "/etc/hosts"]);
    let left = file::read(&world.path("upper/etc/hosts")).expect("the mount point");
    assert!(left.is_empty(), "the image's file stays as it is");
}

pub(crate) fn the_network_of_none_is_a_loopback_interface() {
    require!(Need::Root);
    // Up and loopback; no route but those of its own addresses.
    let done = World::new()
        .run("ls /sys/class/net; cat /sys/class/net/lo/flags; sed 1d /proc/net/route | wc -l");
    assert_eq!(done.out, "lo\n0x9\n0\n");
}

pub(crate) fn the_network_of_the_host_is_shared_when_asked_for() {
    require!(Need::Root);
    let world = World::new();
    let mut spec = world.spec(
        "readlink /proc/self/ns/net; (echo x > /sys/kernel/x) 2>&1; ls /sys/fs/cgroup | wc -l",
    );
    spec.network = Network::Host;
    let done = done(&spec);
    let ours = namespace::identity(std::process::id(), "net").expect("readable");
    let lines: Vec<&str> = done.out.lines().collect();
    assert_eq!(lines[0], ours);
    assert!(lines[1].contains("Read-only file system") || lines[1].contains("Permission denied"));
    assert_eq!(lines[2], "0");
}

pub(crate) fn the_users_of_the_host_are_shared_when_asked_for() {
    require!(Need::Root);
    let world = World::new();
    let mut spec = world.spec("cat /proc/self/uid_map; touch /made; mknod /dev/x c 1 3");
    spec.user_namespace = UserNamespace::Host;
    let done = done(&spec);
    let map: Vec<&str> = done.out.split_whitespace().collect();
    assert_eq!(map, ["0", "0", "4294967295"]);
    assert!(done.err.contains("Operation not permitted"), "{done:?}");
}

pub(crate) fn a_terminal_is_the_programs_own() {
    require!(Need::Root);
    let world = World::new();
    let mut spec = world.spec("tty; test -t 0 && test -t 2 && echo terminal; stat -c %u $(tty)");
    spec.terminal = true;
    spec.uid = 1000;
    let done = done(&spec);
    assert_eq!(done.out, "/dev/pts/0\r\nterminal\r\n1000\r\n", "{done:?}");
}

pub(crate) fn an_init_reaps_and_passes_the_exit_code_on() {
    require!(Need::Root);
    let world = World::new();
    let mut spec = world.spec(
        "echo $$; for i in 1 2 3; do (sleep 0.01 & ) ; done; sleep 0.2; \
         grep -l '^State:.Z' /proc/[0-9]*/status 2>/dev/null; exit 7",
    );
    spec.init = true;
    let reaped = done(&spec);
    assert_eq!((reaped.out.as_str(), reaped.code()), ("2\n", 7));
    let mut spec = world.spec("kill -9 $$");
    spec.init = true;
    assert_eq!(done(&spec).code(), 137);
}

pub(crate) fn settings_of_the_kernel_are_set_in_the_container() {
    require!(Need::Root);
    let world = World::new();
    let mut spec = world.spec("cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shm_rmid_forced");
    spec.sysctls = BTreeMap::from([
        ("net.ipv4.ip_forward".to_owned(), "1".to_owned()),
        ("kernel.shm_rmid_forced".to_owned(), "1".to_owned()),
    ]);
    assert_eq!(done(&spec).out, "1\n1\n");
}

pub(crate) fn low_ports_are_open_to_every_user() {
    require!(Need::Root);
    let world = World::new();
    let mut spec = world.spec(
        "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range",
    );
    spec.uid = 1000;
    let done = done(&spec);
    let words: Vec<&str> = done.out.split_whitespace().collect();
    assert_eq!(words[..2], ["0", "0"]);
}

pub(crate) fn new_privileges_are_allowed_when_asked_for() {
    require!(Need::Root);
    let world = World::new();
    let mut spec = world.spec("grep -E 'NoNewPrivs|Seccomp:' /proc/self/status");
    spec.no_new_privileges = false;
    spec.uid = 1000;
    spec.capabilities.insert(Capability::NetRaw);
    spec.masked_paths.push(PathBuf::from("/nonexistent/path"));
    assert_eq!(done(&spec).out, "NoNewPrivs:\t0\nSeccomp:\t2\n");
}
