//! The compiler is checked against a small BPF machine and against the policy's own words.

use super::*;
use crate::capability::{Capability, default_capabilities};
use std::collections::BTreeSet;

/// Runs a filter as the kernel does.
fn answer(filter: &[Instruction], architecture: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = Vec::new();
    data.extend(number.to_le_bytes());
    data.extend(architecture.to_le_bytes());
    data.extend([0; 8]);
    data.extend(arguments.iter().flat_map(|argument| argument.to_le_bytes()));
    let (mut at, mut register) = (0_usize, 0_u32);
    for _ in 0..filter.len() {
        let Instruction { code, jump_true, jump_false, value } = filter[at];
        at += 1;
        let jump = |holds: bool| usize::from(if holds { jump_true } else { jump_false });
        match code {
            0x20 => {
                let from = value as usize;
                let bytes = data[from..from + 4].try_into().expect("four bytes");
                register = u32::from_le_bytes(bytes);
            }
            0x54 => register &= value,
            0x05 => at += value as usize,
            0x15 => at += jump(register == value),
            0x25 => at += jump(register > value),
            0x35 => at += jump(register >= value),
            0x06 => return value,
            other => panic!("instruction {other:#x}"),
        }
    }
    panic!("the filter does not return");
}

const X86: u32 = Architecture::X86_64.audit();
const EPERM: u32 = Action::Errno(1).value();
const ENOSYS: u32 = Action::Errno(38).value();
const ALLOW: u32 = Action::Allow.value();

fn default_filter() -> Vec<Instruction> {
    compile(&default_policy(Architecture::X86_64, &default_capabilities()))
}

fn call(filter: &[Instruction], name: &str, arguments: [u64; 6]) -> u32 {
    let number = Architecture::X86_64.number(name).expect("a call of x86-64");
    answer(filter, X86, number, arguments)
}

#[test]
fn the_table_is_sorted_so_that_names_are_found() {
    assert!(syscalls::TABLE.is_sorted_by(|(one, _, _), (two, _, _)| one < two));
    assert_eq!(Architecture::X86_64.number("clone3"), Some(435));
    assert_eq!(Architecture::Aarch64.number("clone3"), Some(435));
    assert_eq!(Architecture::Aarch64.number("open"), None);
    assert_eq!(Architecture::Aarch64.number("openat"), Some(56));
}

#[test]
fn each_name_of_the_default_list_is_a_call() {
    for name in default::names() {
        let known = syscalls::TABLE.iter().any(|(known, _, _)| *known == name);
        assert!(known, "{name} is misspelled");
    }
}

#[test]
fn ordinary_calls_are_allowed_and_those_on_the_host_are_not() {
    let filter = default_filter();
    for name in ["read", "openat", "execve", "futex", "statx", "mbind", "ptrace", "chroot"] {
        assert_eq!(call(&filter, name, [0; 6]), ALLOW, "{name}");
    }
    for name in [
        "mount",
        "umount2",
        "unshare",
        "setns",
        "bpf",
        "keyctl",
        "add_key",
        "request_key",
        "userfaultfd",
        "perf_event_open",
        "open_by_handle_at",
        "init_module",
        "kexec_load",
        "reboot",
        "swapon",
        "iopl",
        "io_uring_setup",
        "pivot_root",
        "fsopen",
        "move_mount",
        "syslog",
        "acct",
        "settimeofday",
        "kcmp",
        "process_madvise",
        "move_pages",
    ] {
        assert_eq!(call(&filter, name, [0; 6]), EPERM, "{name}");
    }
}

#[test]
fn new_namespaces_are_refused_through_every_door() {
    let filter = default_filter();
    assert_eq!(call(&filter, "clone", [0x11, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(call(&filter, "clone", [0x3d_0f00, 0, 0, 0, 0, 0]), ALLOW);
    for flag in [0x0002_0000_u64, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x4000_0000] {
        assert_eq!(call(&filter, "clone", [flag | 0x11, 0, 0, 0, 0, 0]), EPERM, "{flag:#x}");
    }
    assert_eq!(call(&filter, "clone3", [0; 6]), ENOSYS);
}

#[test]
fn an_administrator_gets_namespaces_and_mounts() {
    let capabilities = BTreeSet::from([Capability::SysAdmin]);
    let filter = compile(&default_policy(Architecture::X86_64, &capabilities));
    assert_eq!(call(&filter, "clone", [0x1000_0000, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(call(&filter, "mount", [0; 6]), ALLOW);
    assert_eq!(call(&filter, "clone3", [0; 6]), ALLOW);
    assert_eq!(call(&filter, "chroot", [0; 6]), EPERM);
}

#[test]
fn sockets_are_of_the_usual_families() {
    let filter = default_filter();
    for family in [1, 2, 10, 16, 17] {
        assert_eq!(call(&filter, "socket", [family, 0, 0, 0, 0, 0]), ALLOW);
    }
    for family in [0, 3, 38, 40, 0x1_0000_0028] {
        let refused = Action::Errno(97).value();
        assert_eq!(call(&filter, "socket", [family, 0, 0, 0, 0, 0]), refused);
    }
}

#[test]
fn a_terminal_gets_no_input_whatever_the_upper_half_says() {
    let filter = default_filter();
    for request in [0x5412_u64, 0x541c, 0xdead_0000_5412] {
        assert_eq!(call(&filter, "ioctl", [0, request, 0, 0, 0, 0]), EPERM);
    }
    assert_eq!(call(&filter, "ioctl", [0, 0x5413, 0, 0, 0, 0]), ALLOW);
}

#[test]
fn personalities_are_few() {
    let filter = default_filter();
    assert_eq!(call(&filter, "personality", [0xffff_ffff, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(call(&filter, "personality", [0x0004_0000, 0, 0, 0, 0, 0]), EPERM);
}

#[test]
fn other_architectures_die_and_new_calls_do_not_exist() {
    let filter = default_filter();
    let i386 = 0x4000_0003;
    assert_eq!(answer(&filter, i386, 11, [0; 6]), Action::KillProcess.value());
    assert_eq!(answer(&filter, X86, 5000, [0; 6]), ENOSYS);
    assert_eq!(answer(&filter, X86, 400, [0; 6]), ENOSYS, "a gap in the table");
    assert_eq!(answer(&filter, X86, 0x4000_0000 | 1, [0; 6]), ENOSYS, "x32");
}

#[test]
fn the_default_filter_is_short_and_shallow() {
    for architecture in [Architecture::X86_64, Architecture::Aarch64] {
        let filter = compile(&default_policy(architecture, &default_capabilities()));
        assert!(filter.len() < 400, "{}", filter.len());
    }
}

#[test]
fn every_call_has_the_answer_of_the_policy() {
    let policy = default_policy(Architecture::X86_64, &default_capabilities());
    let filter = compile(&policy);
    for number in 0..1000 {
        let expected = match policy.calls.get(&number) {
            Some(clauses) if clauses[0].tests.is_empty() => clauses[0].action,
            Some(_) => continue,
            None if Architecture::X86_64.numbers().any(|known| known == number) => policy.otherwise,
            None => policy.unknown,
        };
        assert_eq!(answer(&filter, X86, number, [0; 6]), expected.value(), "{number}");
    }
}

#[test]
fn comparisons_look_at_all_64_bits() {
    const BIG: u64 = 0x1_0000_0005;
    let values = [0, 4, 5, 6, BIG - 1, BIG, BIG + 1, 0x2_0000_0000, u64::MAX, 0x0_ffff_ffff];
    let holds = |comparison, value: u64, limit: u64| match comparison {
        Comparison::Equal => value == limit,
        Comparison::NotEqual => value != limit,
        Comparison::Less => value < limit,
        Comparison::LessOrEqual => value <= limit,
        Comparison::Greater => value > limit,
        Comparison::GreaterOrEqual => value >= limit,
        Comparison::MaskedEqual { mask } => value & mask == limit,
    };
    for comparison in [
        Comparison::Equal,
        Comparison::NotEqual,
        Comparison::Less,
        Comparison::LessOrEqual,
        Comparison::Greater,
        Comparison::GreaterOrEqual,
        Comparison::MaskedEqual { mask: u64::MAX },
        Comparison::MaskedEqual { mask: 0xff },
        Comparison::MaskedEqual { mask: 0xffff_ffff_0000_0000 },
    ] {
        for limit in [5, BIG, 0x1_0000_0000, u64::MAX] {
            let test = |argument| Test { argument, comparison, value: limit };
            let mut policy = default_policy(Architecture::X86_64, &BTreeSet::new());
            policy.calls.remove(&1);
            policy.add("write", vec![test(1), test(5)], Action::Trap);
            let filter = compile(&policy);
            for one in values {
                for two in values {
                    let got = call(&filter, "write", [9, one, 9, 9, 9, two]);
                    let both = holds(comparison, one, limit) && holds(comparison, two, limit);
                    let expected = if both { Action::Trap } else { policy.otherwise };
                    assert_eq!(
                        got,
                        expected.value(),
                        "{comparison:?} {one:#x} {two:#x} {limit:#x}"
                    );
                }
            }
        }
    }
}

fn profile(text: &str) -> Result<Policy, ProfileError> {
    let capabilities = BTreeSet::from([Capability::SysAdmin]);
    let context = ProfileContext {
        architecture: Architecture::X86_64,
        capabilities: &capabilities,
        kernel: (6, 1),
    };
    parse_profile(text, &context)
}

#[test]
fn a_profile_of_docker_is_obeyed() {
    let text = r#"{
        "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 13,
        "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
        "syscalls": [
            {"names": ["read", "write", "no_such_call"], "action": "SCMP_ACT_ALLOW", "args": null},
            {"name": "kill", "action": "SCMP_ACT_ALLOW", "args": []},
            {"names": ["dup"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["dup2"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_BPF"]}},
            {"names": ["pipe"], "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_SYS_ADMIN"]}},
            {"names": ["poll"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
            {"names": ["select"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
            {"names": ["pause"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "7.0"}},
            {"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22,
             "args": [{"index": 0, "value": 40, "op": "SCMP_CMP_EQ"}]},
            {"names": ["socket"], "action": "SCMP_ACT_ALLOW"},
            {"names": ["clone"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "value": 2114060288, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]},
            {"names": ["personality"], "action": "SCMP_ACT_ALLOW",
             "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"},
                      {"index": 0, "value": 2, "op": "SCMP_CMP_EQ"}]}
        ]}"#;
    let filter = compile(&profile(text).expect("a good profile"));
    let refused = Action::Errno(13).value();
    let answers = [
        ("read", 0, ALLOW),
        ("kill", 0, ALLOW),
        ("open", 0, refused),
        ("dup", 0, ALLOW),
        ("dup2", 0, refused),
        ("pipe", 0, refused),
        ("poll", 0, refused),
        ("select", 0, ALLOW),
        ("pause", 0, refused),
        ("socket", 40, Action::Errno(22).value()),
        ("socket", 2, ALLOW),
        ("clone", 0x11, ALLOW),
        ("clone", 0x1000_0000, refused),
        ("personality", 1, ALLOW),
        ("personality", 2, ALLOW),
        ("personality", 3, refused),
    ];
    for (name, argument, expected) in answers {
        assert_eq!(call(&filter, name, [argument, 0, 0, 0, 0, 0]), expected, "{name}");
    }
    assert_eq!(answer(&filter, X86, 9999, [0; 6]), ENOSYS);
}

#[test]
fn a_profile_that_allows_by_default_allows_new_calls_too() {
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_KILL_PROCESS"}]}"#;
    let filter = compile(&profile(text).expect("a good profile"));
    assert_eq!(call(&filter, "mkdir", [0; 6]), Action::KillProcess.value());
    assert_eq!(answer(&filter, X86, 9999, [0; 6]), ALLOW);
}

#[test]
fn a_bad_profile_is_refused_with_what_is_wrong() {
    let error = |text: &str| profile(text).expect_err("it is bad").to_string();
    assert_eq!(error("{"), "failed to parse the profile as JSON");
    assert_eq!(error("{}"), "the profile has no `defaultAction`");
    assert_eq!(
        error(r#"{"defaultAction": "SCMP_ACT_NOTIFY"}"#),
        "`SCMP_ACT_NOTIFY` is no action that Corten knows"
    );
    let rule = |args: &str| {
        format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls":
            [{{"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [{args}]}}]}}"#
        )
    };
    assert_eq!(
        error(&rule(r#"{"index": 6, "value": 0, "op": "SCMP_CMP_EQ"}"#)),
        "`read` has a test of argument 6, and calls have arguments 0 to 5"
    );
    assert_eq!(error(&rule(r#"{"index": 1, "value": 0, "op": "=="}"#)), "`==` is no comparison");
}

#[test]
fn a_filter_survives_the_way_to_the_container() {
    let filter = default_filter();
    assert_eq!(from_wire(&to_wire(&filter)), filter);
}

const ARM64: u32 = Architecture::Aarch64.audit();

#[test]
fn the_table_has_every_number_of_arm64() {
    let numbers: Vec<u32> = Architecture::Aarch64.numbers().collect();
    let known: BTreeSet<u32> = numbers.iter().copied().collect();
    assert_eq!(known.len(), numbers.len(), "no number has two names");
    // Of what lies between, the first is kept for architectures and the second is for 32 bits.
    let newest = *known.last().expect("there are some");
    let kept = |number: u32| (244..=259).contains(&number) || (295..=423).contains(&number);
    let missing: Vec<u32> =
        (0..=newest).filter(|number| !kept(*number) && !known.contains(number)).collect();
    assert_eq!(missing, Vec::<u32>::new());
    // From here on, every architecture has the same numbers.
    for (name, x86_64, aarch64) in syscalls::TABLE {
        let both = [*x86_64, *aarch64];
        if both.iter().all(|number| *number != syscalls::NONE && *number >= 424) {
            assert_eq!(x86_64, aarch64, "{name}");
        }
    }
}

#[test]
fn the_default_policy_is_the_same_for_arm64() {
    let capabilities = default_capabilities();
    let filter = compile(&default_policy(Architecture::Aarch64, &capabilities));
    let call = |name: &str, arguments| {
        let number = Architecture::Aarch64.number(name).expect("a call of arm64");
        answer(&filter, ARM64, number, arguments)
    };
    for name in ["openat", "read", "execve", "futex", "mmap", "ppoll", "renameat", "fchmodat2"] {
        assert_eq!(call(name, [0; 6]), ALLOW, "{name}");
    }
    for name in ["mount", "bpf", "keyctl", "unshare", "setns", "init_module", "io_uring_setup"] {
        assert_eq!(call(name, [0; 6]), EPERM, "{name}");
    }
    assert_eq!(call("clone3", [0; 6]), ENOSYS);
    assert_eq!(call("clone", [0x11, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(call("clone", [0x1000_0011, 0, 0, 0, 0, 0]), EPERM);
    assert_eq!(call("ioctl", [0, 0x5412, 0, 0, 0, 0]), EPERM);
    assert_eq!(answer(&filter, ARM64, 5000, [0; 6]), ENOSYS, "newer than the table");
    let kill = Action::KillProcess.value();
    assert_eq!(answer(&filter, X86, 0, [0; 6]), kill, "programs of another architecture");
    // What is decided for one is decided for the other, wherever both have the call.
    let other = default_filter();
    for (name, x86_64, aarch64) in syscalls::TABLE {
        if [*x86_64, *aarch64].contains(&syscalls::NONE) {
            continue;
        }
        let one = answer(&other, X86, u32::from(*x86_64), [0; 6]);
        assert_eq!(answer(&filter, ARM64, u32::from(*aarch64), [0; 6]), one, "{name}");
    }
}
