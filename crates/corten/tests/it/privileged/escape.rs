//! What a program in a container tries in order to get out: the same for `run` and `exec`, for root and
//! for an ordinary user, with default settings.
//!
//! Should a test fail, the host must not suffer: what is written is what is there already.

use std::fmt::Write as _;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::path::Path;

use corten_sys::file;
use corten_testkit::privilege::Need;
use corten_testkit::{require, rootfs};

use super::life::Containers;

const NEEDS: [Need; 2] = [Need::Root, Need::Overlay];

/// What the attempts are made with.
const PROGRAMS: [&str; 11] =
    ["cat", "chmod", "grep", "id", "ln", "ls", "mkdir", "perl", "rm", "sleep", "true"];

/// A name, the number of a system call, and its arguments in perl's words.
type Call = (&'static str, i64, &'static str);

/// Each is refused as not permitted.
const CALLS: [Call; 42] = [
    ("mount", libc::SYS_mount, r#""none", "/tmp", "tmpfs", 0, 0"#),
    ("bind", libc::SYS_mount, r#""/proc", "/tmp", 0, 4096, 0"#),
    ("remount", libc::SYS_mount, r#""none", "/proc/sys", 0, 32 | 4096, 0"#),
    ("umount2", libc::SYS_umount2, r#""/proc/sys", 2"#),
    ("fsopen", libc::SYS_fsopen, r#""tmpfs", 0"#),
    ("open_tree", libc::SYS_open_tree, r#"-100, "/", 1"#),
    ("move_mount", libc::SYS_move_mount, r#"-100, "/proc", -100, "/tmp", 0"#),
    ("mount_setattr", libc::SYS_mount_setattr, r#"-100, "/proc/sys", 0, "\0" x 32, 32"#),
    ("pivot_root", libc::SYS_pivot_root, r#""/tmp", "/tmp""#),
    ("unshare user", libc::SYS_unshare, "0x10000000"),
    ("unshare mount", libc::SYS_unshare, "0x00020000"),
    ("unshare network", libc::SYS_unshare, "0x40000000"),
    ("clone user", libc::SYS_clone, "0x10000011, 0, 0, 0, 0"),
    ("clone pid", libc::SYS_clone, "0x20000011, 0, 0, 0, 0"),
    ("setns", libc::SYS_setns, "0, 0"),
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
    ("sethostname", libc::SYS_sethostname, r#""x", 1"#),
    ("open_by_handle_at", libc::SYS_open_by_handle_at, r#"0, "\0" x 16, 0"#),
    ("kcmp", libc::SYS_kcmp, "1, 1, 0, 0, 0"),
    ("raw socket", libc::SYS_socket, "2, 3, 1"),
    ("packet socket", libc::SYS_socket, "17, 3, 768"),
    ("TIOCSTI", libc::SYS_ioctl, r#"0, 0x5412, "x""#),
    ("TIOCLINUX", libc::SYS_ioctl, r#"0, 0x541c, "x""#),
];

/// Writes to each file what is in it, makes nodes, looks for what is not the container's, and says what
/// was let through.
const FILES: &str = r##"
sub let_through { print "let through: @_\n" }
for my $file (qw(/proc/sys/kernel/core_pattern /proc/sys/kernel/modprobe /proc/sys/kernel/hostname
    /proc/sys/kernel/panic /proc/sys/vm/panic_on_oom /proc/sys/kernel/sysrq /proc/sys/fs/binfmt_misc/register
    /sys/kernel/uevent_helper /sys/kernel/mm/transparent_hugepage/enabled /proc/sysrq-trigger
    /proc/self/root/proc/sys/kernel/core_pattern /proc/1/root/proc/sys/kernel/core_pattern)) {
  let_through("writing $file") if open(my $f, ">>", $file);
  let_through("changing $file") if chmod 0777, $file;
}
if (open(my $f, ">", "/proc/self/oom_score_adj")) {
  let_through("never being killed") if syswrite($f, "-1000");
  close $f;
}
for my $file (qw(/proc/kcore /proc/keys /proc/timer_list /proc/sched_debug /sys/firmware/dmi/tables/DMI
    /proc/acpi/wakeup /proc/interrupts)) {
  let_through("reading $file") if open(my $f, "<", $file) and sysread($f, my $x, 1);
}
my $n = 0;
for (["b", 8, 0], ["b", 254, 0], ["c", 1, 1], ["c", 1, 11], ["c", 10, 200], ["c", 10, 229]) {
  my ($kind, $major, $minor) = @$_;
  for my $place ("/tmp", "/dev", "/dev/shm") {
    my $mode = ($kind eq "b" ? 0x6000 : 0x2000) | 0666;
    my $path = "$place/node" . $n++;
    let_through("making $path") if syscall(MKNOD, -100, $path, $mode, $major << 8 | $minor) == 0;
  }
}
sub below { my $at = shift; opendir(my $d, $at) or return (); map { "$at/$_" } grep { !/^\.\.?$/ } readdir $d }
for my $file (map { ($_, below($_)) } below("/sys/fs/cgroup")) {
  next unless $file =~ /(release_agent|notify_on_release|cgroup.procs|tasks|limit_in_bytes|subtree_control|\.max)$/;
  let_through("writing $file") if open(my $f, ">>", $file);
}
let_through("a group") if mkdir("/sys/fs/cgroup/sub") or mkdir("/sys/fs/cgroup/memory/sub");
for my $fd (3 .. 1023) {
  my $link = readlink("/proc/self/fd/$fd");
  # The program's own: it reads this.
  let_through("descriptor $fd $link") if defined $link and $link !~ m,^(/try.pl|/proc/self/fd.*|pipe:.*)$,;
}
let_through("tracing process 1's parent") if syscall(PTRACE, 16, HOSTPID, 0, 0) == 0;
let_through("seeing the host's processes") if -e "/proc/HOSTPID/status" and HOSTPID > 100000;
let_through("signals") if HOSTPID > 100000 and kill(0, HOSTPID);
# The old way out of a `chroot`, while a directory above it is open.
mkdir "/cell"; opendir(my $root, "/");
if (chroot "/cell") {
  chdir ".." for 1 .. 100; chroot ".";
  let_through("the host's files") if -e "SECRET";
}
print "end\n";
"##;

/// The whole program, as a file.
fn program(secret: &Path, clone3: bool) -> String {
    let mut text = String::from(
        "$| = 1; sub c { my ($name, $number, @a) = @_; my $r = syscall($number, @a); \
         my $e = $! + 0; print \"let through: $name ($e)\\n\" if $r != -1 or $e != 1; }\n",
    );
    for (name, number, arguments) in CALLS {
        writeln!(text, "c(\"{name}\", {number}, {arguments});").expect("memory takes it");
    }
    if clone3 {
        writeln!(
            text,
            "my $z = \"\\0\" x 88; print \"let through: clone3\\n\" if syscall({}, $z, 88) != -1 or $! + 0 != {};",
            libc::SYS_clone3,
            libc::ENOSYS
        )
        .expect("memory takes it");
    }
    text + &files(secret)
}

/// The part about files, nodes and processes.
fn files(secret: &Path) -> String {
    FILES
        .replace("MKNOD", &libc::SYS_mknodat.to_string())
        .replace("PTRACE", &libc::SYS_ptrace.to_string())
        .replace("HOSTPID", &std::process::id().to_string())
        .replace("SECRET", secret.to_str().expect("a test's path is text"))
}

/// A context whose store has the image `base` with perl and the program.
fn world(user: Option<(u32, u32)>) -> Containers {
    let context = corten_testkit::context!();
    let context = match user {
        Some((uid, gid)) => context.as_user(uid, gid),
        None => context,
    };
    context.write("base/Dockerfile", "FROM scratch\nCOPY root /\nCMD [\"sh\"]\n");
    rootfs::make(&context.work_dir().join("base/root"), &PROGRAMS);
    let secret = context.write("secret", "of the host\n");
    context.write("base/root/try.pl", program(&secret, true));
    context.run(&["build", "--quiet", "-t", "base", "base"]).success();
    Containers(context)
}

/// Tries everything with each of the flags, in a container and in one that runs already.
fn nothing_is_let_through(all: &Containers, users: &[&[&str]]) {
    for flags in [&[][..], &["--init"]].iter().chain(users).copied() {
        let run = [&["run", "--rm", "-q", "--network=none"], flags, &["base", "perl", "/try.pl"]];
        let output = all.0.run(&run.concat());
        assert_eq!(output.stdout(), "end\n", "run {flags:?}: {}", output.stderr());
    }
    all.run("one", &[], "while :; do sleep 1; done");
    for flags in [&[][..]].iter().chain(users).copied() {
        let exec = [&["exec"], flags, &["one", "perl", "/try.pl"]].concat();
        let output = all.0.run(&exec);
        assert_eq!(output.stdout(), "end\n", "exec {flags:?}: {}", output.stderr());
    }
}

#[test]
fn nothing_is_let_through_of_what_programs_try() {
    require!(NEEDS[0], NEEDS[1]);
    nothing_is_let_through(&world(None), &[&["-u", "1000"]]);
}

#[test]
fn nothing_is_let_through_for_an_ordinary_user_either() {
    require!(Need::Root, Need::UserNamespaces, Need::RootlessOverlay, Need::Program("newuidmap"));
    nothing_is_let_through(&world(Some((54_323, 54_323))), &[]);
}

#[test]
fn a_privileged_container_has_no_power_over_the_machine() {
    require!(NEEDS[0], NEEDS[1]);
    let all = world(None);
    // What is left of its calls is about its own namespaces.
    let of_machine = [
        "bpf",
        "kexec_load",
        "kexec_file_load",
        "init_module",
        "finit_module",
        "delete_module",
        "swapoff",
        "syslog",
        "acct",
        "settimeofday",
        "vhangup",
        "open_by_handle_at",
    ];
    let calls: Vec<String> = CALLS
        .iter()
        .filter(|(name, ..)| of_machine.contains(name))
        .map(|(name, number, arguments)| {
            format!(
                "print \"let through: {name}\\n\" if do {{ my @a = ({arguments}); syscall({number}, @a) }} != -1;\n"
            )
        })
        .collect();
    let secret = all.0.work_dir().join("secret");
    let script = all.0.write("try.pl", calls.concat() + &files(&secret));
    let volume = format!("{}:/try.pl:ro", script.display());
    let run = [
        "run",
        "--rm",
        "-q",
        "--network=none",
        "--privileged",
        "-v",
        &volume,
        "base",
        "perl",
        "/try.pl",
    ];
    let output = all.0.run(&run);
    // Without masks it reads what everybody on the machine may read.
    let left: Vec<&str> = output
        .stdout()
        .lines()
        .filter(|line| !["/proc/interrupts", "/proc/keys"].iter().any(|file| line.ends_with(file)))
        .collect();
    assert_eq!(left, ["end"], "{}", output.stderr());
}

#[test]
fn the_program_that_starts_others_cannot_be_overwritten() {
    require!(NEEDS[0], NEEDS[1]);
    let all = world(None);
    let own = std::env::current_exe().expect("a running program has a file");
    let corten = own.ancestors().nth(2).expect("its folder").join("corten");
    let before = file::metadata(&corten).expect("it was built for this test");
    // Looks for programs that are not the image's, which those that are about to become the command
    // are, and opens them for writing.
    let hunt = "$| = 1; while (1) { opendir(my $d, \"/proc\"); \
        for my $exe (map { \"/proc/$_/exe\" } grep { /^[0-9]+$/ } readdir $d) { my $to = readlink($exe); \
        next if !defined $to or $to =~ m,/(perl|sh|bash|dash|sleep|true|busybox)$,; \
        open(my $f, \">>\", $exe) and print \"opened $to\\n\" } }";
    all.0.write("hunt.pl", hunt);
    let volume = format!("{}:/hunt.pl:ro", all.0.work_dir().join("hunt.pl").display());
    all.run(
        "one",
        &["-v", &volume],
        "printf '#!/proc/self/exe\\n' >/evil; chmod 755 /evil; exec perl /hunt.pl",
    );
    for _ in 0..10 {
        all.0.run(&["exec", "one", "true"]).success();
        // What it is by then is the program of this project, which knows no such command.
        let evil = all.0.run(&["exec", "one", "/evil"]);
        assert_ne!(evil.status.code(), Some(0), "{}", evil.stdout());
    }
    assert_eq!(all.ok(&["logs", "one"]), "");
    let after = file::metadata(&corten).expect("it is there");
    assert_eq!(before.modified().ok(), after.modified().ok());
    assert_eq!(before.len(), after.len());
}

#[test]
fn no_descriptor_is_a_way_out() {
    require!(NEEDS[0], NEEDS[1]);
    let all = world(None);
    all.run("one", &[], "while :; do sleep 1; done");
    // A directory of the host that was left open would be a working directory.
    for number in 3..16 {
        let directory = format!("/proc/self/fd/{number}");
        let run = ["run", "--rm", "-q", "--network=none", "-w", &directory, "base", "ls"];
        let output = all.0.run(&run);
        assert_eq!(output.status.code(), Some(125), "{number}: {}", output.stdout());
        let output = all.0.run(&["exec", "-w", &directory, "one", "ls"]);
        assert_ne!(output.status.code(), Some(0), "{number}: {}", output.stdout());
    }
    let above = ["run", "--rm", "-q", "--network=none", "-w", "/../../..", "base", "ls"];
    assert!(all.0.run(&above).code(125).stderr().contains("has a `..` in it"));
}

#[test]
fn links_that_change_while_a_volume_is_mounted_lead_nowhere() {
    require!(NEEDS[0], NEEDS[1]);
    let all = world(None);
    let victim = all.0.work_dir().join("victim");
    file::create_dirs(&victim, 0o755).expect("a test can make directories");
    all.0.write("shared/readme", "shared\n");
    all.0.write("given/mark", "mark\n");
    let swap = format!(
        "mkdir \"/shared/a\"; symlink(\"{0}\", \"/shared/b\"); symlink(\"../../../../../..{0}\", \"/shared/d\"); \
         while (1) {{ rename(\"/shared/a\", \"/shared/c\"); rename(\"/shared/b\", \"/shared/a\"); \
           rename(\"/shared/a\", \"/shared/b\"); rename(\"/shared/d\", \"/shared/a\"); \
           rename(\"/shared/a\", \"/shared/d\"); rename(\"/shared/c\", \"/shared/a\") }}",
        victim.display()
    );
    let path = all.0.work_dir();
    let shared = format!("{}:/shared", path.join("shared").display());
    let given = format!("{}:/shared/a", path.join("given").display());
    all.0.write("swap.pl", swap);
    let script = format!("{}:/swap.pl:ro", path.join("swap.pl").display());
    all.run("one", &["-v", &shared, "-v", &script], "exec perl /swap.pl");
    for _ in 0..15 {
        let run = [
            "run",
            "--rm",
            "-q",
            "--network=none",
            "-v",
            &shared,
            "-v",
            &given,
            "base",
            "ls",
            "/shared",
        ];
        // It is mounted somewhere in the container, or the start fails; nothing of the host is touched.
        assert!(all.0.run(&run).status.code().is_some());
        let names = file::list_dir(&victim).expect("it is there");
        assert!(names.is_empty(), "{names:?}");
    }
    let mounts = file::read(Path::new("/proc/self/mountinfo")).expect("readable");
    let mounts = String::from_utf8_lossy(&mounts);
    assert!(!mounts.contains(&victim.display().to_string()), "{mounts}");
}

#[test]
fn what_a_volume_has_in_the_place_of_devices_and_settings_is_not_used() {
    require!(NEEDS[0], NEEDS[1]);
    let all = world(None);
    let dev = all.0.work_dir().join("dev");
    file::create_dirs(&dev, 0o755).expect("a test can make directories");
    for (name, target) in [
        ("null", "/proc/timer_list"),
        ("console", "/proc/sysrq-trigger"),
        ("ptmx", "/etc/hostname"),
    ] {
        file::symlink(Path::new(target), &dev.join(name)).expect("linked");
    }
    let over_dev = format!("{}:/dev", dev.display());
    let look = "cat /proc/timer_list /proc/keys 2>/dev/null | grep -c .; echo end";
    let run = [
        "run",
        "--rm",
        "-q",
        "--network=none",
        "--userns=host",
        "-v",
        &over_dev,
        "base",
        "sh",
        "-c",
        look,
    ];
    let output = all.0.run(&run);
    assert_eq!(output.stdout(), "0\nend\n", "{}", output.stderr());
    // A setting is written where the kernel has it, or nowhere.
    let sys = all.0.work_dir().join("sys");
    file::create_dirs(&sys.join("ipv4"), 0o755).expect("a test can make directories");
    let forward = sys.join("ipv4/ip_forward");
    file::symlink(Path::new("/etc/written"), &forward).expect("linked");
    all.0.write("base/root/net", "");
    let over_sys = format!("{}:/proc/sys/net", sys.display());
    let run = [
        "run",
        "--rm",
        "-q",
        "--network=none",
        "--sysctl=net.ipv4.ip_forward=1",
        "-v",
        &over_sys,
        "base",
        "cat",
        "/etc/written",
    ];
    let output = all.0.run(&run);
    assert_eq!(output.status.code(), Some(125), "{}{}", output.stdout(), output.stderr());
}

#[test]
fn a_program_of_a_volume_gains_nothing_by_its_bits() {
    require!(NEEDS[0], NEEDS[1]);
    let all = world(None);
    let program = all.0.work_dir().join("base/root/bin/id");
    let program =
        if program.exists() { program } else { all.0.work_dir().join("base/root/usr/bin/id") };
    let bytes = file::read(&program).expect("the root file system has it");
    let copy = all.0.write("volume/id", bytes);
    file::set_mode(&copy, 0o6755).expect("a test can set modes");
    let volume = format!("{}:/volume", all.0.work_dir().join("volume").display());
    let run = [
        "run",
        "--rm",
        "-q",
        "--network=none",
        "-u",
        "1000:1000",
        "-v",
        &volume,
        "base",
        "/volume/id",
    ];
    let output = all.0.run(&run).success();
    assert!(
        !output.stdout().contains("euid") && output.stdout().starts_with("uid=1000"),
        "{}",
        output.stdout()
    );
}

#[test]
fn sockets_without_a_file_are_those_of_the_containers_network() {
    require!(NEEDS[0], NEEDS[1]);
    let all = world(None);
    let name = format!("corten-test-{}", corten_sys::random::name());
    let address = SocketAddr::from_abstract_name(&name).expect("a short name");
    let _listener = UnixListener::bind_addr(&address).expect("nobody else has it");
    let connect = format!(
        "socket(my $s, 1, 1, 0) or die; print connect($s, pack(\"Sa*\", 1, \"\\0{name}\")) ? \"connected\" : $! + 0, \"\\n\""
    );
    let try_with = |network: &str| {
        let run = ["run", "--rm", "-q", network, "base", "perl", "-e", &connect];
        all.0.run(&run).success().stdout().to_owned()
    };
    assert_eq!(try_with("--network=none"), format!("{}\n", libc::ECONNREFUSED));
    assert_eq!(try_with("--network=host"), "connected\n", "else the test proves nothing");
}
