//! Device nodes, system call filters and kernel settings.

use corten_testkit::privilege::Need;
use corten_testkit::require;
use serde_json::{Value, json};

use super::{Bundles, Case};

const NODE: &str = "stat -c '%F %t:%T %a %u:%g'";

#[test]
fn devices_that_every_container_has() {
    require!(Need::Root);
    Bundles::new().check(&[
        Case {
            name: "nodes",
            config: json!({}),
            check: "cd /dev; stat -c '%n %F %t:%T %a' null zero full random urandom tty",
            expected: "null character special file 1:3 666\nzero character special file 1:5 666\n\
                       full character special file 1:7 666\nrandom character special file 1:8 666\n\
                       urandom character special file 1:9 666\ntty character special file 5:0 666",
        },
        Case {
            name: "links",
            config: json!({}),
            check: "cd /dev; for l in fd stdin stdout stderr ptmx; do readlink $l; done",
            expected: "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx",
        },
        Case {
            name: "they-work",
            config: json!({}),
            check: "head -c 3 /dev/zero | wc -c; echo x > /dev/null; head -c 2 /dev/urandom | wc -c",
            expected: "3\n2",
        },
        Case {
            name: "given",
            config: json!({"linux": {"devices": [
                {"type": "c", "path": "/dev/one", "major": 1, "minor": 3, "fileMode": 432, "uid": 7, "gid": 8},
                {"type": "b", "path": "/dev/two", "major": 7, "minor": 99, "fileMode": 25008},
                {"type": "p", "path": "/sub/three", "fileMode": 384},
                {"type": "u", "path": "/dev/null", "major": 1, "minor": 3, "fileMode": 438},
            ]}}),
            check: "stat -c '%F %t:%T %a %u:%g' /dev/one /dev/two /sub/three /dev/null; rm -r /sub",
            expected: "character special file 1:3 660 7:8\nblock special file 7:63 660 0:0\n\
                       fifo 0:0 600 0:0\ncharacter special file 1:3 666 0:0",
        },
    ]);
    let all = Bundles::new();
    let host = json!({"+mounts": [{"destination": "/dev", "type": "bind", "source": "/dev",
        "options": ["rbind"]}]});
    let output = all.run_line("host-dev", &host, &format!("{NODE} /dev/null")).success();
    assert!(output.stdout().starts_with("character special file 1:3"), "{}", output.stdout());
    all.context.write("rootfs/file", "no device");
    let clash =
        json!({"linux": {"devices": [{"type": "c", "path": "/file", "major": 1, "minor": 3}]}});
    all.check_refused(&[("clash", clash, "failed to make the device `/file`")]);
}

#[test]
fn rules_say_which_devices_can_be_opened() {
    require!(Need::Root, Need::Cgroup);
    if !std::path::Path::new("/dev/net/tun").exists() {
        return;
    }
    let rules = |more: Value| {
        let mut all = vec![json!({"allow": false, "access": "rwm"})];
        all.extend(more.as_array().cloned().unwrap_or_default());
        json!({"linux": {
            "devices": [{"type": "c", "path": "/dev/tun", "major": 10, "minor": 200, "fileMode": 438}],
            "resources": {"devices": all},
        }})
    };
    let check = "(: < /dev/tun) 2>/dev/null && echo read; (: > /dev/tun) 2>/dev/null && echo written; \
                 head -c 1 /dev/zero | wc -c";
    Bundles::new().check(&[
        Case { name: "none", config: rules(json!([])), check, expected: "1" },
        Case {
            name: "read",
            config: rules(
                json!([{"allow": true, "type": "c", "major": 10, "minor": 200, "access": "r"}]),
            ),
            check,
            expected: "read\n1",
        },
        Case {
            name: "all",
            config: rules(json!([{"allow": true, "type": "a", "access": "rwm"}])),
            check,
            expected: "read\nwritten\n1",
        },
    ]);
}

fn seccomp(profile: &Value) -> Value {
    json!({"linux": {"seccomp": profile}})
}

fn rule(action: &str, more: &Value) -> Value {
    let mut one = json!({"names": ["getcwd"], "action": action});
    super::merge(&mut one, more);
    seccomp(&json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
        "syscalls": [one],
    }))
}

#[test]
fn actions_of_filters() {
    require!(Need::Root);
    let all = Bundles::new();
    all.check(&[
        Case {
            name: "errno",
            config: rule("SCMP_ACT_ERRNO", &json!({"names": ["mkdir", "mkdirat"], "errnoRet": 28})),
            check: "mkdir /x 2>&1 | sed 's/.*: //'",
            expected: "No space left on device",
        },
        Case {
            name: "errno-default",
            config: rule("SCMP_ACT_ERRNO", &json!({"names": ["mkdir", "mkdirat"]})),
            check: "mkdir /x 2>&1 | sed 's/.*: //'",
            expected: "Operation not permitted",
        },
        Case {
            name: "log",
            config: rule("SCMP_ACT_LOG", &json!({})),
            check: "pwd -P; grep -E '^Seccomp:' /proc/self/status | tr '\\t' ' '",
            expected: "/\nSeccomp: 2",
        },
        Case {
            name: "allow-list",
            config: seccomp(&json!({"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1})),
            check: "echo fine",
            expected: "fine",
        },
        Case {
            name: "argument",
            // Only the mode 0700 is refused.
            config: rule(
                "SCMP_ACT_ERRNO",
                &json!({
                    "names": ["umask"], "args": [{"index": 0, "value": 0o70, "op": "SCMP_CMP_EQ"}],
                }),
            ),
            check: "umask 070; umask; umask 071; umask",
            expected: "0022\n0071",
        },
        Case {
            name: "flags",
            config: seccomp(&json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "flags": ["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
                    "SECCOMP_FILTER_FLAG_TSYNC"],
            })),
            check: "grep -E '^Seccomp:' /proc/self/status | tr '\\t' ' '",
            expected: "Seccomp: 2",
        },
    ]);
    for (action, code) in
        [("SCMP_ACT_KILL", 159), ("SCMP_ACT_KILL_PROCESS", 159), ("SCMP_ACT_TRAP", 159)]
    {
        let names = json!({"names": ["mkdir", "mkdirat"]});
        let line = "mkdir /x; echo $?";
        let output = all.run_line("kill", &rule(action, &names), line).success();
        assert_eq!(
            output.stdout().lines().next_back(),
            Some(code.to_string().as_str()),
            "{action}"
        );
    }
}

#[test]
fn filters_that_cannot_be_are_refused() {
    require!(Need::Root);
    let wrong = |profile: Value| seccomp(&profile);
    Bundles::new().check_refused(&[
        ("no-default", wrong(json!({})), "no defaultAction"),
        ("action", rule("SCMP_ACT_DANCE", &json!({})), "invalid seccomp profile"),
        ("notify", rule("SCMP_ACT_NOTIFY", &json!({})), "SCMP_ACT_NOTIFY is not supported"),
        (
            "flag",
            wrong(json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["X"]})),
            "`X` is no flag of linux.seccomp",
        ),
        (
            "architecture",
            wrong(json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_Z80"]})),
            "`SCMP_ARCH_Z80` is no architecture",
        ),
        (
            "operator",
            rule(
                "SCMP_ACT_ERRNO",
                &json!({"args": [{"index": 0, "value": 1, "op": "SCMP_CMP_X"}]}),
            ),
            "invalid seccomp profile",
        ),
    ]);
}

#[test]
fn kernel_settings_of_namespaces() {
    require!(Need::Root);
    let set = |name: &str, value: &str| json!({"linux": {"sysctl": {name: value}}});
    let all = Bundles::new();
    all.check(&[
        Case {
            name: "network",
            config: set("net.ipv4.ip_forward", "1"),
            check: "cat /proc/sys/net/ipv4/ip_forward",
            expected: "1",
        },
        Case {
            name: "with-slashes",
            config: set("net/ipv4/conf/lo/log_martians", "1"),
            check: "cat /proc/sys/net/ipv4/conf/lo/log_martians",
            expected: "1",
        },
        Case {
            name: "ipc",
            config: set("kernel.msgmax", "9999"),
            check: "cat /proc/sys/kernel/msgmax",
            expected: "9999",
        },
        Case {
            name: "mqueue",
            config: set("fs.mqueue.msg_max", "11"),
            check: "cat /proc/sys/fs/mqueue/msg_max",
            expected: "11",
        },
    ]);
    let host = json!({"linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}],
        "sysctl": {"net.ipv4.ip_forward": "1"}}});
    all.check_refused(&[
        ("host", host, "is not allowed in the host's network namespace"),
        ("global", set("vm.swappiness", "1"), "not in a separate kernel namespace"),
        ("absent", set("net.no.such", "1"), "failed to set the kernel setting `net.no.such`"),
        ("outside", set("net/../kernel/x", "1"), "not in a separate kernel namespace"),
    ]);
}
