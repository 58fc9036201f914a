//! The root file system and what is mounted into it.

use corten_sys::file;
use corten_testkit::privilege::Need;
use corten_testkit::require;
use serde_json::{Value, json};

use super::{Bundles, Case};

/// A tmpfs with options on `/m`.
fn memory(options: &[&str]) -> Value {
    json!({"+mounts": [{"destination": "/m", "type": "tmpfs", "source": "tmpfs", "options": options}]})
}

/// The options of the mount on `/m`, those of the mount before those of the file system.
const OPTIONS: &str =
    "sed -n 's|^.* / /m \\([^ ]*\\) .*- [^ ]* [^ ]* |\\1 |p' /proc/self/mountinfo";

#[test]
fn every_option_of_a_mount() {
    require!(Need::Root);
    let all = Bundles::new();
    let cases = [
        (vec![], "rw,relatime"),
        (vec!["ro"], "ro,relatime"),
        (vec!["rw"], "rw,relatime"),
        (vec!["ro", "rw"], "rw,relatime"),
        (vec!["nosuid"], "rw,nosuid,relatime"),
        (vec!["nodev"], "rw,nodev,relatime"),
        (vec!["noexec"], "rw,noexec,relatime"),
        (vec!["nosuid", "suid", "nodev", "dev", "noexec", "exec"], "rw,relatime"),
        (vec!["noatime"], "rw,noatime"),
        (vec!["strictatime"], "rw"),
        (vec!["relatime"], "rw,relatime"),
        (vec!["nodiratime"], "rw,nodiratime,relatime"),
        (vec!["nosymfollow"], "rw,relatime,nosymfollow"),
        (vec!["defaults", "async", "loud"], "rw,relatime"),
        (vec!["rro"], "ro,relatime"),
        (vec!["rnosuid", "rnodev", "rnoexec"], "rw,nosuid,nodev,noexec,relatime"),
        (vec!["rnoatime"], "rw,noatime"),
        (vec!["rstrictatime"], "rw"),
        (vec!["rnodiratime"], "rw,nodiratime,relatime"),
        (vec!["rnosymfollow"], "rw,relatime,nosymfollow"),
        (vec!["ro", "rrw"], "rw,relatime"),
    ];
    for (number, (options, expected)) in cases.iter().enumerate() {
        let output = all.run_line(&format!("o{number}"), &memory(options), OPTIONS);
        let output = output.success();
        let found = output.stdout().split(' ').next().unwrap_or_default();
        assert_eq!(found.trim_end(), *expected, "{options:?}");
    }
    let of_file_system = [
        (vec!["size=1m"], "size=1024k"),
        (vec!["mode=1700"], "mode=1700"),
        (vec!["nr_inodes=100"], "nr_inodes=100"),
        (vec!["sync"], "sync"),
        (vec!["dirsync"], "dirsync"),
    ];
    for (number, (options, expected)) in of_file_system.iter().enumerate() {
        let output = all.run_line(&format!("f{number}"), &memory(options), OPTIONS).success();
        let found = output.stdout().trim_end().rsplit(' ').next().unwrap_or_default().to_owned();
        assert!(found.split(',').any(|option| option == *expected), "{options:?}: {found}");
    }
}

#[test]
fn propagation_of_mounts() {
    require!(Need::Root);
    let all = Bundles::new();
    let tags =
        "sed -n 's|^.* / /m [^ ]* \\(.*\\)- .*|\\1|p' /proc/self/mountinfo | sed 's/:[0-9]* *//'";
    for (option, expected) in [
        ("private", ""),
        ("rprivate", ""),
        ("shared", "shared"),
        ("rshared", "shared"),
        ("unbindable", "unbindable "),
        ("runbindable", "unbindable "),
        ("slave", ""),
    ] {
        let output = all.run_line(&format!("p-{option}"), &memory(&[option]), tags).success();
        assert_eq!(output.stdout().trim_end_matches('\n'), expected, "{option}");
    }
    let root = "sed -n 's|^[0-9]* [0-9]* [^ ]* [^ ]* / [^ ]* \\(.*\\)- .*|\\1|p' /proc/self/mountinfo \
                | head -1 | sed 's/:[0-9]* *//'";
    for (option, expected) in [("shared", "shared"), ("private", ""), ("unbindable", "unbindable ")]
    {
        let config = json!({"linux": {"rootfsPropagation": option}});
        let output = all.run_line(&format!("r-{option}"), &config, root).success();
        assert_eq!(output.stdout().trim_end_matches('\n'), expected, "{option}");
    }
}

#[test]
fn what_is_mounted() {
    require!(Need::Root);
    let all = Bundles::new();
    let host = all.context.work_dir().join("host");
    file::create_dirs(&host.join("below"), 0o755).expect("made");
    all.context.write("host/file", "of the host\n");
    let bind = |options: &[&str]| json!({"+mounts": [{"destination": "/m", "type": "bind", "source": host, "options": options}]});
    let one = |mount: &Value| json!({"+mounts": [mount]});
    all.check(&[
        Case {
            name: "bind",
            config: bind(&["bind"]),
            check: "cat /m/file; touch /m/made; rm /m/made",
            expected: "of the host",
        },
        Case {
            name: "bind-readonly",
            config: bind(&["rbind", "ro"]),
            check: "touch /m/x 2>/dev/null || echo refused; cat /m/file",
            expected: "refused\nof the host",
        },
        Case {
            name: "bind-without-type",
            config: one(&json!({"destination": "/m", "source": host, "options": ["bind"]})),
            check: "cat /m/file",
            expected: "of the host",
        },
        Case {
            name: "bind-a-file",
            config: one(&json!({"destination": "/deep/er/file", "type": "bind",
                "source": host.join("file"), "options": ["bind"]})),
            check: "cat /deep/er/file",
            expected: "of the host",
        },
        Case {
            name: "relative-source",
            config: one(&json!({"destination": "/m", "type": "bind", "source": "../host",
                "options": ["bind"]})),
            check: "cat /m/file",
            expected: "of the host",
        },
        Case { name: "proc", config: json!({}), check: "stat -f -c %T /proc", expected: "proc" },
        Case {
            name: "sysfs",
            config: json!({}),
            check: "stat -f -c %T /sys; touch /sys/x 2>/dev/null || echo refused",
            expected: "sysfs\nrefused",
        },
        Case {
            name: "mqueue",
            config: one(
                &json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
                "options": ["nosuid", "noexec", "nodev"]}),
            ),
            check: "stat -f -c %T /dev/mqueue",
            expected: "mqueue",
        },
        Case {
            name: "devpts",
            config: json!({}),
            check: "stat -f -c %T /dev/pts; stat -c %a /dev/pts/ptmx",
            expected: "devpts\n666",
        },
        Case {
            name: "order",
            config: json!({"+mounts": [
                {"destination": "/m", "type": "tmpfs", "source": "one"},
                {"destination": "/m/n", "type": "tmpfs", "source": "two"},
                {"destination": "/m", "type": "tmpfs", "source": "three"},
            ]}),
            check: "ls /m; grep -c ' /m' /proc/self/mountinfo",
            expected: "3",
        },
        Case {
            name: "copy-up",
            config: json!({"+mounts": [{"destination": "/etc", "type": "tmpfs", "source": "tmpfs",
                "options": ["tmpcopyup"]}]}),
            check: "head -1 /etc/passwd; touch /etc/here; stat -f -c %T /etc",
            expected: "root:x:0:0:root:/root:/bin/sh\ntmpfs",
        },
        Case {
            name: "readonly-root",
            config: json!({"root": {"readonly": true}}),
            check: "touch /x 2>/dev/null || echo refused; touch /dev/x && echo dev",
            expected: "refused\ndev",
        },
        Case {
            name: "writable-root",
            config: json!({"root": {"readonly": false}}),
            check: "touch /x && rm /x && echo written",
            expected: "written",
        },
    ]);
    assert!(!all.rootfs().join("etc/here").exists(), "a copy was changed");
}

#[test]
fn owners_can_be_mapped() {
    require!(Need::Root);
    let all = Bundles::new();
    all.context.write("host/file", "x");
    let map = |host: u32| json!([{"containerID": 0, "hostID": host, "size": 1000}]);
    let config = json!({"+mounts": [{"destination": "/m", "type": "bind",
        "source": all.context.work_dir().join("host"), "options": ["bind", "idmap"],
        "uidMappings": map(5000), "gidMappings": map(6000)}]});
    let output = all.run_line("idmap", &config, "stat -c '%u %g' /m/file").success();
    assert_eq!(output.stdout(), "5000 6000\n");
}

#[test]
fn masked_and_readonly_paths() {
    require!(Need::Root);
    let all = Bundles::new();
    all.context.write("rootfs/masked-file", "secret");
    all.context.write("rootfs/masked-dir/file", "secret");
    all.context.write("rootfs/fixed/file", "fixed");
    let config = json!({"linux": {
        "maskedPaths": ["/masked-file", "/masked-dir", "/not/there", "/proc/keys"],
        "readonlyPaths": ["/fixed", "/proc/sys", "/not/there/either"],
    }});
    all.check(&[
        Case {
            name: "masked",
            config: config.clone(),
            check: "cat /masked-file | wc -c; ls /masked-dir | wc -l; cat /proc/keys | wc -c; \
                    touch /masked-dir/x 2>/dev/null || echo refused",
            expected: "0\n0\n0\nrefused",
        },
        Case {
            name: "readonly",
            config,
            check: "cat /fixed/file; echo; touch /fixed/x 2>/dev/null || echo refused; \
                    (echo x > /proc/sys/kernel/domainname) 2>/dev/null || echo refused",
            expected: "fixed\nrefused\nrefused",
        },
    ]);
}

#[test]
fn links_of_the_image_lead_nowhere_but_into_it() {
    require!(Need::Root);
    let all = Bundles::new();
    let outside = all.context.work_dir().join("outside");
    file::create_dirs(&outside, 0o755).expect("made");
    for (name, target) in [("absolute", outside.as_path()), ("up", "../../../../outside".as_ref())]
    {
        file::symlink(target, &all.rootfs().join(name)).expect("linked");
    }
    for name in ["absolute", "up"] {
        let config = json!({"+mounts": [{"destination": format!("/{name}/m"), "type": "tmpfs",
            "source": "tmpfs"}]});
        let line = format!("stat -f -c %T /{name}/m");
        assert_eq!(all.run_line(name, &config, &line).success().stdout(), "tmpfs\n");
    }
    assert_eq!(file::list_dir(&outside).expect("listed").len(), 0, "something was made out there");
    // What the kernel shows of itself is not mounted where a link leads.
    file::remove_tree(&all.rootfs().join("proc")).expect("removed");
    file::symlink("/tmp".as_ref(), &all.rootfs().join("proc")).expect("linked");
    let output = all.run_line("proc-link", &json!({}), "true");
    assert_eq!(output.status.code(), Some(1), "{}", output.snapshot());
    assert!(output.stderr().contains("failed to mount proc on `/proc`"), "{}", output.stderr());
}
