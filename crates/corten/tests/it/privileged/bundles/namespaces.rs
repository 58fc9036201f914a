//! Namespaces: new, by path, or the caller's.

use std::path::Path;

use corten_testkit::privilege::Need;
use corten_testkit::require;
use serde_json::{Value, json};

use super::{Bundles, Case};

const KINDS: [(&str, &str); 7] = [
    ("pid", "pid"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("network", "net"),
    ("mount", "mnt"),
    ("cgroup", "cgroup"),
    ("time", "time"),
];

fn own(name: &str) -> String {
    let link = std::fs::read_link(Path::new("/proc/self/ns").join(name)).expect("a link");
    link.to_string_lossy().into_owned()
}

fn with(namespaces: &[Value]) -> Value {
    json!({"linux": {"namespaces": namespaces}})
}

#[test]
fn a_new_one_is_not_ours_and_one_that_is_not_named_is() {
    require!(Need::Root);
    let all = Bundles::new();
    let every: Vec<Value> = KINDS.iter().map(|(kind, _)| json!({"type": kind})).collect();
    let links = |names: &[(&str, &str)]| -> String {
        let names: Vec<String> =
            names.iter().map(|(_, name)| format!("readlink /proc/self/ns/{name};")).collect();
        names.join(" ")
    };
    let output = all.run_line("new", &with(&every), &links(&KINDS)).success();
    for ((kind, name), found) in KINDS.iter().zip(output.stdout().lines()) {
        assert_ne!(found, own(name), "{kind}");
    }
    assert_eq!(output.stdout().lines().count(), KINDS.len());
    for (left_out, name) in KINDS.iter().filter(|(kind, _)| *kind != "mount") {
        let rest: Vec<Value> = KINDS
            .iter()
            .filter(|(kind, _)| kind != left_out)
            .map(|(kind, _)| json!({"type": kind}))
            .collect();
        let mut config = with(&rest);
        if *left_out == "network" {
            // A new one belongs to the network namespace.
            config["mounts"] = json!([{"destination": "/proc", "type": "proc", "source": "proc"}]);
        }
        let line = format!("readlink /proc/self/ns/{name}");
        let output = all.run_line(&format!("not-{left_out}"), &config, &line).success();
        assert_eq!(output.stdout().trim_end(), own(name), "{left_out}");
    }
}

#[test]
fn those_of_another_container_can_be_joined() {
    require!(Need::Root);
    let all = Bundles::new();
    let every: Vec<Value> = KINDS.iter().map(|(kind, _)| json!({"type": kind})).collect();
    let mut config = with(&every);
    config["process"] = json!({"args": ["sleep", "100"]});
    let bundle = all.bundle("first", &config);
    let id = all.id("first");
    all.begun(&["run", "--detach", "--bundle", &bundle.to_string_lossy(), &id]);
    let pid = all.state(&id)["pid"].as_u64().expect("a number");
    for (joined, name) in KINDS.iter().filter(|(kind, _)| *kind != "mount") {
        let namespaces: Vec<Value> = KINDS
            .iter()
            .map(|(kind, name)| {
                if kind == joined {
                    json!({"type": kind, "path": format!("/proc/{pid}/ns/{name}")})
                } else {
                    json!({"type": kind})
                }
            })
            .collect();
        let line = format!("readlink /proc/self/ns/{name}");
        let output = all.run_line(&format!("with-{joined}"), &with(&namespaces), &line).success();
        let expected = std::fs::read_link(format!("/proc/{pid}/ns/{name}")).expect("a link");
        assert_eq!(output.stdout().trim_end(), expected.to_string_lossy(), "{joined}");
    }
    all.run(&["delete", "--force", &id]).success();
}

#[test]
fn ids_and_clocks_are_mapped() {
    require!(Need::Root, Need::UserNamespaces);
    let all = Bundles::new();
    let map = json!([{"containerID": 0, "hostID": 100_000, "size": 1000},
        {"containerID": 5000, "hostID": 200_000, "size": 10}]);
    let users = json!({"linux": {
        "uidMappings": map, "gidMappings": map, "+namespaces": [{"type": "user"}],
    }});
    all.check(&[
        Case {
            name: "maps",
            config: users.clone(),
            check: "cat /proc/self/uid_map /proc/self/gid_map | tr -s ' '; id -u",
            expected: " 0 100000 1000\n 5000 200000 10\n 0 100000 1000\n 5000 200000 10\n0",
        },
        Case {
            name: "devices",
            config: users.clone(),
            check: "head -c 1 /dev/zero | wc -c; echo x > /dev/null; stat -c %t:%T /dev/full",
            expected: "1\n1:7",
        },
        Case {
            name: "groups",
            config: {
                let mut config = users;
                config["process"] =
                    json!({"user": {"uid": 5000, "gid": 5001, "additionalGids": [7]}});
                config
            },
            check: "id -u; id -G",
            expected: "5000\n5001 7",
        },
        Case {
            name: "clocks",
            config: json!({"linux": {
                "+namespaces": [{"type": "time"}],
                "timeOffsets": {"monotonic": {"secs": 1000}, "boottime": {"secs": 1_000_000, "nanosecs": 5}},
            }}),
            check: "cat /proc/self/timens_offsets | tr -s ' '; \
                    test $(sed 's/[.].*//' /proc/uptime) -gt 1000000 && echo later",
            expected: "monotonic 1000 0\nboottime 1000000 5\nlater",
        },
    ]);
    all.check_refused(&[
        ("twice", with(&[json!({"type": "mount"}), json!({"type": "mount"})]), "is there twice"),
        ("unknown", with(&[json!({"type": "dream"})]), "`dream` is no kind of namespace"),
        (
            "path",
            with(&[json!({"type": "mount"}), json!({"type": "network", "path": "/no/such"})]),
            "failed to join the namespace `/no/such`",
        ),
        (
            "unmapped",
            with(&[json!({"type": "mount"}), json!({"type": "user"})]),
            "needs uidMappings and gidMappings",
        ),
        (
            "other-kind",
            with(&[
                json!({"type": "mount"}),
                json!({"type": "network", "path": "/proc/self/ns/uts"}),
            ]),
            "failed to join the namespace `/proc/self/ns/uts`",
        ),
    ]);
}
