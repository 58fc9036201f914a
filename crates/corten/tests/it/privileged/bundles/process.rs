//! The process of a container: who it is, what it may do, where it begins.

use corten_testkit::privilege::Need;
use corten_testkit::require;
use serde_json::json;

use super::{Bundles, Case};

fn capabilities(set: &serde_json::Value) -> serde_json::Value {
    json!({"process": {"capabilities": set}})
}

const SETS: &str = "grep -E '^Cap' /proc/self/status | tr -s '\\t' ' '";

#[test]
fn who_it_is_and_where_it_begins() {
    require!(Need::Root);
    Bundles::new().check(&[
        Case {
            name: "user",
            config: json!({"process": {"user": {"uid": 1000, "gid": 1001, "additionalGids": [5, 2000]}}}),
            check: "id -u; id -g; id -G",
            expected: "1000\n1001\n1001 5 2000",
        },
        Case { name: "root", config: json!({}), check: "id -u; id -g; id -G", expected: "0\n0\n0" },
        Case {
            name: "umask",
            config: json!({"process": {"user": {"umask": 0o077}}}),
            check: "umask; touch /tmp/u; stat -c %a /tmp/u; rm /tmp/u",
            expected: "0077\n600",
        },
        Case { name: "umask-default", config: json!({}), check: "umask", expected: "0022" },
        Case {
            name: "cwd",
            config: json!({"process": {"cwd": "/var/tmp"}}),
            check: "pwd",
            expected: "/var/tmp",
        },
        Case {
            name: "cwd-made",
            config: json!({"process": {"cwd": "/made/for/it"}}),
            check: "pwd; cd /; rm -r made",
            expected: "/made/for/it",
        },
        Case {
            name: "cwd-of-another",
            config: json!({"process": {"cwd": "/root", "user": {"uid": 1000, "gid": 1000}}}),
            check: "pwd",
            expected: "/root",
        },
        Case {
            name: "env",
            config: json!({"process": {"env": ["PATH=/usr/bin", "A=1 2", "B=x=y", "EMPTY="]}}),
            check: "env | grep -E '^(A|B|EMPTY|HOME)=' | sort",
            expected: "A=1 2\nB=x=y\nEMPTY=\nHOME=/root",
        },
        Case {
            name: "home-of-user",
            config: json!({"process": {"user": {"uid": 1000, "gid": 1000}}}),
            check: "echo $HOME",
            expected: "/home/app",
        },
        Case {
            name: "home-given",
            config: json!({"process": {"env": ["PATH=/usr/bin", "HOME=/x"]}}),
            check: "echo $HOME",
            expected: "/x",
        },
        Case { name: "pid-1", config: json!({}), check: "echo $$", expected: "1" },
        Case {
            name: "hostname",
            config: json!({"hostname": "a-name"}),
            check: "hostname; cat /proc/sys/kernel/hostname",
            expected: "a-name\na-name",
        },
        Case {
            name: "domainname",
            config: json!({"domainname": "a.domain"}),
            check: "cat /proc/sys/kernel/domainname",
            expected: "a.domain",
        },
        Case {
            name: "oom-score",
            config: json!({"process": {"oomScoreAdj": 321}}),
            check: "cat /proc/self/oom_score_adj",
            expected: "321",
        },
        Case {
            name: "no-new-privileges",
            config: json!({"process": {"noNewPrivileges": true}}),
            check: "grep NoNewPrivs /proc/self/status | tr '\\t' ' '",
            expected: "NoNewPrivs: 1",
        },
        Case {
            name: "new-privileges",
            config: json!({"process": {"noNewPrivileges": false}}),
            check: "grep NoNewPrivs /proc/self/status | tr '\\t' ' '",
            expected: "NoNewPrivs: 0",
        },
        Case {
            name: "nothing-open",
            config: json!({}),
            // The directory itself is the fourth.
            check: "ls /proc/self/fd | wc -l",
            expected: "4",
        },
    ]);
}

#[test]
fn the_five_sets_of_capabilities() {
    require!(Need::Root);
    let net_raw = "CAP_NET_RAW";
    Bundles::new().check(&[
        Case {
            name: "none",
            config: capabilities(&json!({"bounding": [], "effective": [], "permitted": []})),
            check: SETS,
            expected: "CapInh: 0000000000000000\nCapPrm: 0000000000000000\nCapEff: 0000000000000000\n\
                       CapBnd: 0000000000000000\nCapAmb: 0000000000000000",
        },
        Case {
            name: "different",
            config: capabilities(&json!({
                "bounding": ["CAP_CHOWN", "CAP_KILL", net_raw],
                "permitted": ["CAP_CHOWN", "CAP_KILL"],
                "effective": ["CAP_CHOWN"],
                "inheritable": ["CAP_KILL"],
            })),
            // A program of root's gets the bounding set.
            check: SETS,
            expected: "CapInh: 0000000000000020\nCapPrm: 0000000000002021\nCapEff: 0000000000002021\n\
                       CapBnd: 0000000000002021\nCapAmb: 0000000000000000",
        },
        Case {
            name: "ambient-of-a-user",
            config: json!({"process": {
                "user": {"uid": 1000, "gid": 1000},
                "capabilities": {
                    "bounding": ["CAP_CHOWN", net_raw], "permitted": [net_raw], "effective": [net_raw],
                    "inheritable": [net_raw], "ambient": [net_raw],
                },
            }}),
            check: SETS,
            expected: "CapInh: 0000000000002000\nCapPrm: 0000000000002000\nCapEff: 0000000000002000\n\
                       CapBnd: 0000000000002001\nCapAmb: 0000000000002000",
        },
        Case {
            name: "of-a-user",
            config: json!({"process": {
                "user": {"uid": 1000, "gid": 1000},
                "capabilities": {"bounding": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"]},
            }}),
            check: SETS,
            expected: "CapInh: 0000000000000000\nCapPrm: 0000000000000000\nCapEff: 0000000000000000\n\
                       CapBnd: 0000000000000001\nCapAmb: 0000000000000000",
        },
    ]);
}

#[test]
fn unknown_capabilities_are_warned_of_and_left_out() {
    require!(Need::Root);
    let all = Bundles::new();
    let config = capabilities(&json!({"bounding": ["CAP_CHOWN", "CAP_OF_TOMORROW"]}));
    let output = all.run_line("unknown", &config, "grep CapBnd /proc/self/status").success();
    assert_eq!(output.stdout(), "CapBnd:\t0000000000000001\n");
    assert!(output.stderr().contains("CAP_OF_TOMORROW"), "{}", output.stderr());
}

#[test]
fn every_limit_of_processes() {
    require!(Need::Root);
    let all = Bundles::new();
    let cases = [
        ("RLIMIT_AS", "Max address space", 1_000_000_000_u64),
        ("RLIMIT_CORE", "Max core file size", 4096),
        ("RLIMIT_CPU", "Max cpu time", 500),
        ("RLIMIT_DATA", "Max data size", 500_000_000),
        ("RLIMIT_FSIZE", "Max file size", 1_000_000),
        ("RLIMIT_LOCKS", "Max file locks", 10),
        ("RLIMIT_MEMLOCK", "Max locked memory", 4096),
        ("RLIMIT_MSGQUEUE", "Max msgqueue size", 5000),
        ("RLIMIT_NICE", "Max nice priority", 0),
        ("RLIMIT_NOFILE", "Max open files", 64),
        ("RLIMIT_NPROC", "Max processes", 500),
        ("RLIMIT_RSS", "Max resident set", 5000),
        ("RLIMIT_RTPRIO", "Max realtime priority", 0),
        ("RLIMIT_RTTIME", "Max realtime timeout", 5000),
        ("RLIMIT_SIGPENDING", "Max pending signals", 100),
        ("RLIMIT_STACK", "Max stack size", 4_000_000),
    ];
    let limits: Vec<_> = cases
        .iter()
        .map(|(name, _, value)| json!({"type": name, "soft": value, "hard": value}))
        .collect();
    let config = json!({"process": {"rlimits": limits}});
    let output = all.run_line("limits", &config, "cat /proc/self/limits").success();
    for (name, title, value) in cases {
        let line = output.stdout().lines().find(|line| line.starts_with(title));
        let numbers: Vec<&str> =
            line.and_then(|line| line.get(26..)).unwrap_or_default().split_whitespace().collect();
        let expected = value.to_string();
        assert_eq!(numbers.get(..2), Some(&[expected.as_str(), &expected][..]), "{name}");
    }
    let config =
        json!({"process": {"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 20, "hard": 30}]}});
    let output = all.run_line("soft", &config, "ulimit -Sn; ulimit -Hn").success();
    assert_eq!(output.stdout(), "20\n30\n");
}

#[test]
fn scheduler_disk_priority_and_personality() {
    require!(Need::Root);
    Bundles::new().check(&[
        Case {
            name: "batch",
            config: json!({"process": {"scheduler": {"policy": "SCHED_BATCH", "nice": 5}}}),
            check: "chrt -p $$ | head -1 | sed 's/.*: //'; cat /proc/self/stat | sed 's/.*) //' | tr ' ' '\\n' \
                    | sed -n 17p",
            expected: "SCHED_BATCH\n5",
        },
        Case {
            name: "idle",
            config: json!({"process": {"scheduler": {"policy": "SCHED_IDLE"}}}),
            check: "chrt -p $$ | head -1 | sed 's/.*: //'",
            expected: "SCHED_IDLE",
        },
        Case {
            name: "disk",
            config: json!({"process": {"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 6}}}),
            check: "ionice -p $$",
            expected: "best-effort: prio 6",
        },
        Case {
            name: "disk-idle",
            config: json!({"process": {"ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 0}}}),
            check: "ionice -p $$",
            expected: "idle",
        },
        Case {
            name: "personality",
            config: json!({"linux": {"personality": {"domain": "LINUX32"}}}),
            check: "cat /proc/self/personality",
            expected: "00000008",
        },
    ]);
}

#[test]
fn what_is_wrong_with_a_process_is_said() {
    require!(Need::Root);
    Bundles::new().check_refused(&[
        ("no-args", json!({"process": {"args": []}}), "process.args is empty"),
        ("relative", json!({"process": {"cwd": "x"}}), "not an absolute path"),
        (
            "absent",
            json!({"process": {"args": ["no-such-program"]}}),
            "exec: \"no-such-program\": executable file not found in $PATH",
        ),
        (
            "absent-path",
            json!({"process": {"args": ["/no/such"]}}),
            "exec: \"/no/such\": stat /no/such: no such file or directory",
        ),
        (
            "not-executable",
            json!({"process": {"args": ["/etc/passwd"]}}),
            "exec: \"/etc/passwd\": permission denied",
        ),
        ("directory", json!({"process": {"args": ["/etc"]}}), "exec: \"/etc\": permission denied"),
        (
            "apparmor",
            json!({"process": {"apparmorProfile": "none-such"}}),
            "AppArmor is not enabled",
        ),
        (
            "terminal",
            json!({"process": {"terminal": true, "args": ["no-such"]}}),
            "not found in $PATH",
        ),
    ]);
}
