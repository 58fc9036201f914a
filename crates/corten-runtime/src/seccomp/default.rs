//! The default filter: what programs need, without what changes or reveals the host.
//!
//! It is close to Docker's, so that what runs there runs here, with these differences:
//! - memory policies (`mbind`, `set_mempolicy`) are allowed: numerical libraries set them, and they
//!   affect only the caller;
//! - `socket` takes the families that programs use; others would load kernel modules on demand;
//! - `ioctl` cannot push input into a terminal;
//! - calls of 32-bit programs end the process, and x32 calls do not exist.

use std::collections::{BTreeMap, BTreeSet};

use super::{Action, Architecture, Comparison, Policy, Test};
use crate::capability::Capability;

const EPERM: u16 = 1;
const ENOSYS: u16 = 38;
const EAFNOSUPPORT: u16 = 97;

/// Allowed with any argument.
const ALLOWED: &[&[&str]] = &[
    FILES,
    DIRECTORIES,
    ATTRIBUTES,
    DESCRIPTORS,
    MEMORY,
    PROCESSES,
    IDENTITY,
    SIGNALS,
    TIME,
    SOCKETS,
    MESSAGES,
    SYSTEM,
];

const FILES: &[&str] = &[
    "access",
    "creat",
    "faccessat",
    "faccessat2",
    "open",
    "openat",
    "openat2",
    "close",
    "close_range",
    "read",
    "readv",
    "pread64",
    "preadv",
    "preadv2",
    "write",
    "writev",
    "pwrite64",
    "pwritev",
    "pwritev2",
    "lseek",
    "truncate",
    "ftruncate",
    "fallocate",
    "fadvise64",
    "readahead",
    "copy_file_range",
    "sendfile",
    "splice",
    "tee",
    "vmsplice",
    "sync",
    "syncfs",
    "fsync",
    "fdatasync",
    "sync_file_range",
    "flock",
    "stat",
    "fstat",
    "lstat",
    "newfstatat",
    "statx",
    "statfs",
    "fstatfs",
    "statmount",
    "listmount",
    "cachestat",
    "name_to_handle_at",
];

const DIRECTORIES: &[&str] = &[
    "chdir",
    "fchdir",
    "getcwd",
    "getdents",
    "getdents64",
    "mkdir",
    "mkdirat",
    "rmdir",
    "link",
    "linkat",
    "symlink",
    "symlinkat",
    "readlink",
    "readlinkat",
    "unlink",
    "unlinkat",
    "rename",
    "renameat",
    "renameat2",
    "mknod",
    "mknodat",
    "inotify_init",
    "inotify_init1",
    "inotify_add_watch",
    "inotify_rm_watch",
    "fanotify_mark",
];

const ATTRIBUTES: &[&str] = &[
    "chmod",
    "fchmod",
    "fchmodat",
    "fchmodat2",
    "chown",
    "fchown",
    "lchown",
    "fchownat",
    "umask",
    "utime",
    "utimes",
    "utimensat",
    "futimesat",
    "getxattr",
    "lgetxattr",
    "fgetxattr",
    "getxattrat",
    "setxattr",
    "lsetxattr",
    "fsetxattr",
    "setxattrat",
    "listxattr",
    "llistxattr",
    "flistxattr",
    "listxattrat",
    "removexattr",
    "lremovexattr",
    "fremovexattr",
    "removexattrat",
    "file_getattr",
    "file_setattr",
];

const DESCRIPTORS: &[&str] = &[
    "dup",
    "dup2",
    "dup3",
    "fcntl",
    "pipe",
    "pipe2",
    "poll",
    "ppoll",
    "select",
    "pselect6",
    "epoll_create",
    "epoll_create1",
    "epoll_ctl",
    "epoll_ctl_old",
    "epoll_wait",
    "epoll_wait_old",
    "epoll_pwait",
    "epoll_pwait2",
    "eventfd",
    "eventfd2",
    "signalfd",
    "signalfd4",
    "timerfd_create",
    "timerfd_settime",
    "timerfd_gettime",
    "memfd_create",
    "memfd_secret",
    "io_setup",
    "io_destroy",
    "io_submit",
    "io_cancel",
    "io_getevents",
    "io_pgetevents",
    "pidfd_open",
    "pidfd_send_signal",
];

const MEMORY: &[&str] = &[
    "brk",
    "mmap",
    "munmap",
    "mremap",
    "mprotect",
    "madvise",
    "mincore",
    "msync",
    "mlock",
    "mlock2",
    "mlockall",
    "munlock",
    "munlockall",
    "mseal",
    "map_shadow_stack",
    "remap_file_pages",
    "pkey_alloc",
    "pkey_free",
    "pkey_mprotect",
    "membarrier",
    "get_mempolicy",
    "set_mempolicy",
    "set_mempolicy_home_node",
    "mbind",
    "process_mrelease",
];

const PROCESSES: &[&str] = &[
    "fork",
    "vfork",
    "execve",
    "execveat",
    "exit",
    "exit_group",
    "wait4",
    "waitid",
    "getpid",
    "getppid",
    "gettid",
    "getpgid",
    "getpgrp",
    "setpgid",
    "getsid",
    "setsid",
    "prctl",
    "arch_prctl",
    "modify_ldt",
    "set_tid_address",
    "set_robust_list",
    "get_robust_list",
    "get_thread_area",
    "set_thread_area",
    "rseq",
    "futex",
    "futex_wait",
    "futex_wake",
    "futex_requeue",
    "futex_waitv",
    "getpriority",
    "setpriority",
    "ioprio_get",
    "ioprio_set",
    "getrlimit",
    "setrlimit",
    "prlimit64",
    "getrusage",
    "getcpu",
    "sched_yield",
    "sched_getaffinity",
    "sched_setaffinity",
    "sched_getattr",
    "sched_setattr",
    "sched_getparam",
    "sched_setparam",
    "sched_getscheduler",
    "sched_setscheduler",
    "sched_get_priority_max",
    "sched_get_priority_min",
    "sched_rr_get_interval",
    "ptrace",
    "process_vm_readv",
    "process_vm_writev",
    "seccomp",
    "landlock_create_ruleset",
    "landlock_add_rule",
    "landlock_restrict_self",
    "uretprobe",
];

const IDENTITY: &[&str] = &[
    "getuid",
    "geteuid",
    "getgid",
    "getegid",
    "getresuid",
    "getresgid",
    "getgroups",
    "setuid",
    "setgid",
    "setreuid",
    "setregid",
    "setresuid",
    "setresgid",
    "setfsuid",
    "setfsgid",
    "setgroups",
    "capget",
    "capset",
    "lsm_get_self_attr",
    "lsm_list_modules",
];

const SIGNALS: &[&str] = &[
    "alarm",
    "pause",
    "kill",
    "tkill",
    "tgkill",
    "rt_sigaction",
    "rt_sigpending",
    "rt_sigprocmask",
    "rt_sigqueueinfo",
    "rt_sigreturn",
    "rt_sigsuspend",
    "rt_sigtimedwait",
    "rt_tgsigqueueinfo",
    "sigaltstack",
    "restart_syscall",
];

const TIME: &[&str] = &[
    "time",
    "times",
    "gettimeofday",
    "nanosleep",
    "clock_gettime",
    "clock_getres",
    "clock_nanosleep",
    "clock_adjtime",
    "adjtimex",
    "getitimer",
    "setitimer",
    "timer_create",
    "timer_delete",
    "timer_settime",
    "timer_gettime",
    "timer_getoverrun",
];

const SOCKETS: &[&str] = &[
    "socketpair",
    "bind",
    "listen",
    "accept",
    "accept4",
    "connect",
    "shutdown",
    "getsockname",
    "getpeername",
    "getsockopt",
    "setsockopt",
    "sendto",
    "sendmsg",
    "sendmmsg",
    "recvfrom",
    "recvmsg",
    "recvmmsg",
];

const MESSAGES: &[&str] = &[
    "mq_open",
    "mq_unlink",
    "mq_timedsend",
    "mq_timedreceive",
    "mq_notify",
    "mq_getsetattr",
    "msgget",
    "msgsnd",
    "msgrcv",
    "msgctl",
    "semget",
    "semop",
    "semtimedop",
    "semctl",
    "shmget",
    "shmat",
    "shmdt",
    "shmctl",
];

const SYSTEM: &[&str] = &["uname", "sysinfo", "getrandom"];

/// Allowed to a container that was given one of the capabilities.
const WITH_CAPABILITY: &[(&[Capability], &[&str])] = &[
    (
        &[Capability::SysAdmin],
        &[
            "bpf",
            "perf_event_open",
            "clone3",
            "unshare",
            "setns",
            "mount",
            "umount2",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "open_tree_attr",
            "fsopen",
            "fsconfig",
            "fsmount",
            "fspick",
            "pivot_root",
            "fanotify_init",
            "lookup_dcookie",
            "quotactl",
            "quotactl_fd",
            "sethostname",
            "setdomainname",
            "syslog",
            "swapon",
            "swapoff",
        ],
    ),
    (&[Capability::Bpf], &["bpf"]),
    (&[Capability::Perfmon], &["perf_event_open"]),
    (&[Capability::DacReadSearch], &["open_by_handle_at"]),
    (&[Capability::SysBoot], &["reboot", "kexec_load", "kexec_file_load"]),
    (&[Capability::SysChroot], &["chroot"]),
    (&[Capability::SysModule], &["init_module", "finit_module", "delete_module"]),
    (&[Capability::SysNice], &["migrate_pages", "move_pages"]),
    (&[Capability::SysPacct], &["acct"]),
    (&[Capability::SysPtrace], &["kcmp", "pidfd_getfd", "process_madvise"]),
    (&[Capability::SysRawio], &["iopl", "ioperm"]),
    (&[Capability::SysTime], &["settimeofday", "clock_settime"]),
    (&[Capability::SysTtyConfig], &["vhangup"]),
    (&[Capability::Syslog], &["syslog"]),
];

/// `CLONE_NEW*` but for time, whose bit is part of the exit signal here.
const NEW_NAMESPACES: u64 = 0x7e02_0000;

/// The families of sockets that programs use. Raw packets still need `NET_RAW`.
const SOCKET_FAMILIES: [u64; 5] = [
    1,  // AF_UNIX
    2,  // AF_INET
    10, // AF_INET6
    16, // AF_NETLINK
    17, // AF_PACKET
];

/// The execution domains that only say how addresses are laid out or which version is told.
const PERSONALITIES: [u64; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Requests of `ioctl` that put input into a terminal: `TIOCSTI`, `TIOCLINUX`.
const TERMINAL_INPUT: [u64; 2] = [0x5412, 0x541c];

/// Builds the default policy for a container that has these capabilities.
pub(crate) fn policy(architecture: Architecture, capabilities: &BTreeSet<Capability>) -> Policy {
    let mut policy = Policy {
        architecture,
        calls: BTreeMap::new(),
        otherwise: Action::Errno(EPERM),
        unknown: Action::Errno(ENOSYS),
        log: false,
    };
    for name in ALLOWED.iter().copied().flatten() {
        policy.add(name, Vec::new(), Action::Allow);
    }
    for (needed, names) in WITH_CAPABILITY {
        if needed.iter().any(|capability| capabilities.contains(capability)) {
            for name in *names {
                policy.add(name, Vec::new(), Action::Allow);
            }
        }
    }
    add_tested(&mut policy, capabilities.contains(&Capability::SysAdmin));
    policy
}

fn add_tested(policy: &mut Policy, administrator: bool) {
    if administrator {
        policy.add("clone", Vec::new(), Action::Allow);
    } else {
        let no_namespace = low_bits(0, NEW_NAMESPACES, 0);
        policy.add("clone", vec![no_namespace], Action::Allow);
        // Its arguments are in memory, where a filter cannot look. Libraries take "no such call"
        // as a sign to use `clone`.
        policy.add("clone3", Vec::new(), Action::Errno(ENOSYS));
    }
    for family in SOCKET_FAMILIES {
        let is_family = Test { argument: 0, comparison: Comparison::Equal, value: family };
        policy.add("socket", vec![is_family], Action::Allow);
    }
    policy.add("socket", Vec::new(), Action::Errno(EAFNOSUPPORT));
    for personality in PERSONALITIES {
        let is_it = Test { argument: 0, comparison: Comparison::Equal, value: personality };
        policy.add("personality", vec![is_it], Action::Allow);
    }
    for request in TERMINAL_INPUT {
        // The kernel looks at the lower half only, and so must we.
        let is_request = low_bits(1, 0xffff_ffff, request);
        policy.add("ioctl", vec![is_request], Action::Errno(EPERM));
    }
    policy.add("ioctl", Vec::new(), Action::Allow);
}

fn low_bits(argument: u8, mask: u64, value: u64) -> Test {
    Test { argument, comparison: Comparison::MaskedEqual { mask }, value }
}

#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let gated = WITH_CAPABILITY.iter().flat_map(|(_, names)| names.iter().copied());
    ALLOWED.iter().copied().flatten().copied().chain(gated)
}
