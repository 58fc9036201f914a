//! What a container tries in order to get out, and that the kernel or we refuse it.
//!
//! Should a test fail, the host must not suffer: what is written is what is there already.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use corten_runtime::{
    BindMount, BindOptions, Capability, ContainerSpec, Limit, Mount, Seccomp, UserNamespace,
};
use corten_sys::command::Command;
use corten_sys::file;
use corten_testkit::{Need, require};

use crate::common::{PATH, World, done, perl};

pub(crate) const IN_FIRST_THREAD: bool = false;

/// A name, the number of a system call, and its arguments in perl's words.
type Call = (&'static str, i64, &'static str);

const MOUNT_CALLS: [Call; 8] = [
    ("mount", libc::SYS_mount, r#""none", "/tmp", "tmpfs", 0, 0"#),
    ("bind", libc::SYS_mount, r#""/proc", "/tmp", 0, 4096, 0"#),
    ("remount", libc::SYS_mount, r#""none", "/proc/sys", 0, 32 | 4096, 0"#),
    ("umount2", libc::SYS_umount2, r#""/proc/sys", 2"#),
    ("fsopen", libc::SYS_fsopen, r#""tmpfs", 0"#),
    ("open_tree", libc::SYS_open_tree, r#"-100, "/", 1"#),
    ("mount_setattr", libc::SYS_mount_setattr, r#"-100, "/proc/sys", 0, "\0" x 32, 32"#),
    ("pivot_root", libc::SYS_pivot_root, r#""/tmp", "/tmp""#),
];

const KERNEL_CALLS: [Call; 20] = [
    ("bpf", libc::SYS_bpf, r#"5, "\0" x 72, 72"#),
    ("perf_event_open", libc::SYS_perf_event_open, r#""\0" x 128, 0, -1, -1, 0"#),
    ("kexec_load", libc::SYS_kexec_load, "0, 0, 0, 0"),
    ("kexec_file_load", libc::SYS_kexec_file_load, "-1, -1, 0, 0, 0"),
    ("init_module", libc::SYS_init_module, r#""x", 1, """#),
    ("finit_module", libc::SYS_finit_module, r#"-1, "", 0"#),
    ("delete_module", libc::SYS_delete_module, r#""no-such-module", 0"#),
    ("keyctl", libc::SYS_keyctl, "0, -3, 0, 0, 0"),
    ("add_key", libc::SYS_add_key, r#""user", "a", "b", 1, -3"#),
    ("request_key", libc::SYS_request_key, r#""user", "a", 0, -3"#),
    ("userfaultfd", libc::SYS_userfaultfd, "1"),
    ("io_uring_setup", libc::SYS_io_uring_setup, r#"1, "\0" x 120"#),
    // A wrong first word: the machine goes on even if the call is let through.
    ("reboot", libc::SYS_reboot, "0, 0, 0, 0"),
    ("swapoff", libc::SYS_swapoff, r#""/no/such/file""#),
    ("syslog", libc::SYS_syslog, "10, 0, 0"),
    ("acct", libc::SYS_acct, r#""/no/such/file""#),
    ("quotactl", libc::SYS_quotactl, "0, 0, 0, 0"),
    ("settimeofday", libc::SYS_settimeofday, "0, 0"),
    ("vhangup", libc::SYS_vhangup, ""),
    ("fanotify_init", libc::SYS_fanotify_init, "0, 0"),
];

/// A program that makes the calls and prints the error number of each, or `done`.
fn program(calls: &[Call]) -> String {
    let mut text = String::from(
        "$| = 1; sub c { my ($name, $number, @a) = @_; my $r = syscall($number, @a); \
         print \"$name \", $r == -1 ? $! + 0 : \"done\", \"\\n\" } ",
    );
    for (name, number, arguments) in calls {
        write!(text, "c(\"{name}\", {number}, {arguments}); ").expect("memory takes it");
    }
    text
}

/// Makes the calls in a container and returns the names that were not refused with the number.
fn not_refused(spec: &ContainerSpec, calls: &[Call], errno: i32) -> Vec<String> {
    let mut spec = spec.clone();
    spec.args = vec!["perl".to_owned(), "-e".to_owned(), program(calls)];
    let done = done(&spec);
    assert_eq!(done.out.lines().count(), calls.len(), "{done:?}");
    let refusal = format!(" {errno}");
    done.out.lines().filter(|line| !line.ends_with(&refusal)).map(str::to_owned).collect()
}

const NONE: [&str; 0] = [];

pub(crate) fn file_systems_cannot_be_mounted() {
    require!(Need::Root);
    let world = World::new();
    let mut spec = world.spec("");
    assert_eq!(not_refused(&spec, &MOUNT_CALLS, libc::EPERM), NONE);
    // Without the filter, the missing capability refuses them too.
    spec.seccomp = Seccomp::Unconfined;
    assert_eq!(not_refused(&spec, &MOUNT_CALLS, libc::EPERM), NONE);
}

pub(crate) fn namespaces_cannot_be_made_or_entered() {
    require!(Need::Root);
    let world = World::new();
    let mut spec = world.spec("");
    let calls: [Call; 9] = [
        ("unshare user", libc::SYS_unshare, "0x10000000"),
        ("unshare mount", libc::SYS_unshare, "0x00020000"),
        ("unshare network", libc::SYS_unshare, "0x40000000"),
        ("unshare time", libc::SYS_unshare, "0x00000080"),
        ("clone user", libc::SYS_clone, "0x10000011, 0, 0, 0, 0"),
        ("clone pid", libc::SYS_clone, "0x20000011, 0, 0, 0, 0"),
        ("clone cgroup", libc::SYS_clone, "0x02000011, 0, 0, 0, 0"),
        ("setns", libc::SYS_setns, "0, 0"),
        ("setns of process", libc::SYS_setns, "0, 0x7e020000"),
    ];
    assert_eq!(not_refused(&spec, &calls, libc::EPERM), NONE);
    let clone3: [Call; 1] = [("clone3", libc::SYS_clone3, r#""\0" x 88, 88"#)];
    assert_eq!(not_refused(&spec, &clone3, libc::ENOSYS), NONE);
    // A namespace that is there for all to see, without the filter.
    spec.seccomp = Seccomp::Unconfined;
    spec.args = vec!["perl".to_owned(), "-e".to_owned()];
    spec.args.push(format!(
        "for (qw(mnt net pid user)) {{ open(F, \"<\", \"/proc/1/ns/$_\") or die $!; \
         my $r = syscall({}, fileno(F), 0); print $r == -1 ? \"refused\" : \"entered $_\", \"\\n\" }}",
        libc::SYS_setns
    ));
    assert_eq!(done(&spec).out, "refused\n".repeat(4));
}

pub(crate) fn kernel_interfaces_are_refused() {
    require!(Need::Root);
    let world = World::new();
    let spec = world.spec("");
    assert_eq!(not_refused(&spec, &KERNEL_CALLS, libc::EPERM), NONE);
    // Input into a terminal (`TIOCSTI`), also with rubbish in the half that the kernel ignores.
    let calls: [Call; 3] = [
        ("TIOCSTI", libc::SYS_ioctl, r#"0, 0x5412, "x""#),
        ("TIOCSTI with more bits", libc::SYS_ioctl, r#"0, 0x100005412, "x""#),
        ("TIOCLINUX", libc::SYS_ioctl, r#"0, 0x541c, "x""#),
    ];
    assert_eq!(not_refused(&spec, &calls, libc::EPERM), NONE);
}

/// Writes to each file what is in it, and says which took it.
const WRITE_BACK: &str = "for f in /proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe \
    /proc/sys/kernel/hostname /proc/sys/kernel/panic /proc/sys/vm/panic_on_oom \
    /proc/sys/fs/binfmt_misc/register /proc/sys/kernel/sysrq /sys/kernel/uevent_helper \
    /sys/kernel/mm/transparent_hugepage/enabled /proc/self/root/proc/sys/kernel/core_pattern \
    /proc/1/root/proc/sys/kernel/core_pattern; do \
      v=$(cat $f 2>/dev/null); (printf '%s' \"$v\" > $f) 2>/dev/null && echo written $f; done; ";

pub(crate) fn the_kernels_settings_cannot_be_written() {
    require!(Need::Root);
    let world = World::new();
    // `h` makes the kernel print a help text.
    let script = format!(
        "{WRITE_BACK} (printf h > /proc/sysrq-trigger) 2>/dev/null && echo sysrq; \
         mount -o remount,bind,rw /proc/sys 2>/dev/null && echo remounted; \
         chmod 777 /proc/sys/kernel/core_pattern 2>/dev/null && echo changed; \
         (echo -1000 > /proc/self/oom_score_adj) 2>/dev/null && echo unkillable; echo end"
    );
    assert_eq!(world.run(&script).out, "end\n");
}

pub(crate) fn devices_cannot_be_made() {
    require!(Need::Root);
    let world = World::new();
    let script = "for d in 'disk b 8 0' 'virtual b 254 0' 'memory c 1 1' 'kmsg c 1 11' 'tun c 10 200'; do \
        for place in /tmp /dev /dev/shm; do \
          set -- $d; mknod $place/$1 $2 $3 $4 2>/dev/null && echo made $place/$1; done; done; \
        mkfifo /tmp/fifo && echo fifo; ls /dev/mem /dev/kmsg /dev/net/tun /dev/fuse 2>/dev/null; echo end";
    let mut spec = world.spec(script);
    assert_eq!(done(&spec).out, "fifo\nend\n");
    // The capability is one of the container's user namespace, to which no device belongs.
    spec.args[2] = script.replace("/tmp/fifo", "/tmp/second");
    spec.capabilities.insert(Capability::Mknod);
    assert_eq!(done(&spec).out, "fifo\nend\n");
}

pub(crate) fn raw_sockets_and_odd_families_are_refused() {
    require!(Need::Root);
    let world = World::new();
    let spec = world.spec("");
    let raw: [Call; 3] = [
        ("raw", libc::SYS_socket, "2, 3, 1"),
        ("raw of version 6", libc::SYS_socket, "10, 3, 58"),
        ("packet", libc::SYS_socket, "17, 3, 768"),
    ];
    assert_eq!(not_refused(&spec, &raw, libc::EPERM), NONE);
    let odd: [Call; 6] = [
        ("key", libc::SYS_socket, "15, 3, 2"),
        ("can", libc::SYS_socket, "29, 3, 1"),
        ("bluetooth", libc::SYS_socket, "31, 3, 0"),
        ("crypto", libc::SYS_socket, "38, 5, 0"),
        ("virtual machine", libc::SYS_socket, "40, 1, 0"),
        ("xdp", libc::SYS_socket, "44, 3, 0"),
    ];
    assert_eq!(not_refused(&spec, &odd, libc::EAFNOSUPPORT), NONE);
    let usual: [Call; 3] = [
        ("unix", libc::SYS_socket, "1, 1, 0"),
        ("tcp", libc::SYS_socket, "2, 1, 0"),
        ("netlink", libc::SYS_socket, "16, 3, 0"),
    ];
    assert_eq!(not_refused(&spec, &usual, 0).len(), 3, "they are allowed");
}

pub(crate) fn files_cannot_be_opened_by_handle() {
    require!(Need::Root);
    let world = World::new();
    let source = world.path("volume");
    file::create_dir(&source, 0o755).expect("a test can make directories");
    let mut spec = world.spec("");
    spec.mounts.push(Mount::Bind(BindMount {
        source,
        target: PathBuf::from("/volume"),
        readonly: false,
        recursive: false,
        options: BindOptions::default(),
    }));
    // The handle of a volume is real; with guesses of it one would reach the rest of its disk.
    let program = format!(
        "my ($h, $m) = (pack(\"Ii\", 128, 0) . \"\\0\" x 128, \"\\0\" x 4); \
         syscall({}, -100, my $p = \"/volume\", $h, $m, 0) == 0 or die \"no handle: $!\"; \
         open(D, \"<\", \"/volume\") or die; \
         my $r = syscall({}, fileno(D), $h, 0); print $r == -1 ? $! + 0 : \"opened\"",
        libc::SYS_name_to_handle_at,
        libc::SYS_open_by_handle_at,
    );
    spec.args = vec!["perl".to_owned(), "-e".to_owned(), program];
    assert_eq!(done(&spec).out, libc::EPERM.to_string());
    spec.capabilities.insert(Capability::DacReadSearch);
    assert_eq!(done(&spec).out, libc::EPERM.to_string());
}

pub(crate) fn outside_processes_cannot_be_traced_or_signalled() {
    require!(Need::Root);
    let world = World::new();
    let outside = Command::new("/bin/sleep").arg("1000").spawn().expect("every system has it");
    let (victim, own) = (outside.pid, std::process::id());
    let mut spec = world.spec("");
    spec.capabilities.insert(Capability::SysPtrace);
    spec.args = vec!["perl".to_owned(), "-e".to_owned()];
    spec.args.push(format!(
        "for my $pid ({victim}, {own}) {{ \
           print kill(9, $pid) ? \"killed \" : \"\", -e \"/proc/$pid\" ? \"seen \" : \"\"; \
           my $r = syscall({}, 16, $pid, 0, 0); print $r == -1 ? $! + 0 : \"traced\", \"\\n\" }} \
         kill 9, -1; print \"end\\n\"",
        libc::SYS_ptrace
    ));
    let done = done(&spec);
    let expected = format!("{0}\n{0}\nend\n", libc::ESRCH);
    assert_eq!(done.out, expected, "{done:?}");
    assert!(!outside.handle.wait_end(Some(std::time::Duration::ZERO)).expect("our child"));
    outside.kill_and_wait().expect("our child");
}

pub(crate) fn the_own_program_cannot_be_overwritten() {
    require!(Need::Root);
    let world = World::new();
    let own = std::env::current_exe().expect("a running program has a file");
    let before = file::metadata(&own).expect("it is there");
    // Appending nothing opens it for writing all the same. The process 1 of `--init` is our
    // program; with the host's root and the right to look into processes, its file is in reach.
    let script = "readlink /proc/1/exe; [ -w /proc/1/exe ] && echo writable; \
         (: >> /proc/1/exe) 2>/dev/null && echo opened; \
         chmod 777 /proc/1/exe 2>/dev/null && echo changed; echo end";
    let mut spec = world.spec(script);
    spec.init = true;
    assert_eq!(done(&spec).out, "end\n");
    spec.capabilities.insert(Capability::SysPtrace);
    spec.user_namespace = UserNamespace::Host;
    let seen = done(&spec);
    let lines: Vec<&str> = seen.out.lines().collect();
    assert!(lines.len() == 2 && lines[1] == "end", "{seen:?}");
    let after = file::metadata(&own).expect("it is there");
    let same = before.len() == after.len()
        && before.permissions() == after.permissions()
        && before.modified().ok() == after.modified().ok();
    assert!(same, "the program's file has changed");
}

pub(crate) fn the_root_cannot_be_left() {
    require!(Need::Root);
    let world = World::new();
    let secret = world.path("secret");
    file::write(&secret, b"of the host").expect("a test can write files");
    let secret = secret.display();
    // The old way out of a `chroot`: a directory above it is still open.
    let script = format!(
        "mkdir \"/cell\"; opendir(D, \"/\"); chroot \"/cell\" or die $!; \
         chdir \"..\" for 1..100; chroot \".\" or die $!; \
         print -e \"{secret}\" ? \"out\\n\" : \"in\\n\"; \
         open(F, \"<\", \"/etc/hostname\"); print <F>; \
         for my $fd (3..1023) {{ my $l = readlink(\"/proc/self/fd/$fd\"); \
           print \"$fd $l\\n\" if defined $l && $l !~ m,^(/|/etc/hostname)$, }}"
    );
    let outcome = world.run(&perl(&script));
    assert_eq!(outcome.out, "in\nimage\n", "{outcome:?}");
    let script =
        format!("cd /proc/1/root/../../..; ls -d ./{secret} 2>/dev/null; cat etc/hostname");
    assert_eq!(world.run(&script).out, "image\n");
}

pub(crate) fn control_groups_cannot_be_changed() {
    require!(Need::Root, Need::Cgroup);
    let world = World::new();
    let script = "cd /sys/fs/cgroup; for f in $(ls */*limit_in_bytes */tasks */cgroup.procs */release_agent \
          */notify_on_release memory.max cgroup.procs cgroup.subtree_control 2>/dev/null); do \
          [ -w $f ] && echo writable $f; (cat $f > $f) 2>/dev/null && echo written $f; done; \
        for d in . memory; do mkdir $d/sub 2>/dev/null && echo made $d/sub; done; \
        mount -t cgroup -o memory none /tmp 2>/dev/null && echo mounted; \
        ls */release_agent 2>/dev/null; cat /proc/self/cgroup | sed -n 's/.*:\\(.*corten.*\\)/\\1/p'; echo end";
    let mut spec = world.spec(script);
    spec.resources.memory_bytes = Some(Limit::required(64 << 20));
    assert_eq!(done(&spec).out, "end\n");
    spec.resources.memory_bytes = None;
    assert_eq!(done(&spec).out, "end\n");
}

pub(crate) fn masks_cannot_be_taken_off() {
    require!(Need::Root);
    let world = World::new();
    let script = "for p in /proc/sys /proc/kcore /proc/keys /proc/sysrq-trigger /sys/firmware /sys /proc; do \
          umount $p 2>/dev/null && echo taken off $p; umount -l $p 2>/dev/null && echo gone $p; done; \
        mount -t proc proc /tmp 2>/dev/null && echo second; \
        mount -t sysfs sysfs /tmp 2>/dev/null && echo second; \
        mount --bind /proc /tmp 2>/dev/null && echo bound; \
        for p in /proc/keys /proc/timer_list /proc/1/root/proc/keys /proc/self/root/proc/timer_list; do \
          [ -e $p ] && [ -s $p ] && echo not masked $p; cat $p 2>/dev/null; done; \
        rm -f /proc/keys 2>/dev/null && echo removed; ln -sf /tmp /sys/firmware/x 2>/dev/null && echo linked; \
        echo end";
    assert_eq!(world.run(script).out, "end\n");
}

pub(crate) fn a_volume_over_dev_does_not_choose_what_masks_are_made_of() {
    require!(Need::Root);
    let world = World::new();
    let volume = world.path("volume");
    file::create_dir(&volume, 0o755).expect("a test can make directories");
    file::symlink(Path::new("/proc/timer_list"), &volume.join("null")).expect("linked");
    let mut spec = world.spec("cat /proc/timer_list /proc/keys | head -c 100; echo end");
    // To root of the host, the kernel shows them.
    spec.user_namespace = UserNamespace::Host;
    for target in ["/dev", "/srv/dev"] {
        if target == "/srv/dev" {
            // The image leads there.
            file::create_dirs(&world.lower().join("srv"), 0o755).expect("made");
            file::symlink(Path::new("/dev"), &world.lower().join("srv/dev")).expect("linked");
        }
        spec.mounts = vec![Mount::Bind(BindMount {
            source: volume.clone(),
            target: PathBuf::from(target),
            readonly: false,
            recursive: false,
            options: BindOptions::default(),
        })];
        let done = done(&spec);
        assert_eq!(done.out, "end\n", "{target}: {done:?}");
    }
}

pub(crate) fn a_root_of_the_host_with_few_capabilities_is_held_too() {
    require!(Need::Root);
    let world = World::new();
    let mut spec = world.spec("");
    spec.user_namespace = UserNamespace::Host;
    assert_eq!(not_refused(&spec, &MOUNT_CALLS, libc::EPERM), NONE);
    assert_eq!(not_refused(&spec, &KERNEL_CALLS, libc::EPERM), NONE);
    let script = format!(
        "{WRITE_BACK} (printf h > /proc/sysrq-trigger) 2>/dev/null && echo sysrq; \
         mknod /tmp/disk b 8 0 2>/dev/null && echo made; \
         (echo -1000 > /proc/self/oom_score_adj) 2>/dev/null && echo unkillable; \
         cat /proc/keys /proc/timer_list 2>/dev/null; ls /sys/fs/cgroup; echo end"
    );
    spec.args = vec!["sh".to_owned(), "-c".to_owned(), script];
    spec.env = vec![format!("PATH={PATH}")];
    assert_eq!(done(&spec).out, "end\n");
    assert!(!Path::new("/cell").exists(), "nothing was made on the host");
}
