//! Hooks: when, where and with what they run, and what their failure means.

use corten_testkit::privilege::Need;
use corten_testkit::require;
use serde_json::{Value, json};

use super::{Bundles, text};

const KINDS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// A hook that is a line of the shell.
fn hook(line: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["hook", "-c", line], "env": ["PATH=/usr/bin:/bin", "A=b c"]})
}

#[test]
fn all_kinds_run_in_their_order_with_the_state() {
    require!(Need::Root);
    let all = Bundles::new();
    let log = all.context.write("log", "");
    let log = log.display();
    let mut hooks = json!({});
    for kind in KINDS {
        // The hook in the container writes to a file that is mounted there.
        let line = format!("read -r state; echo \"{kind} $A $state\" >> {log}");
        hooks[kind] = json!([hook(&line), hook(&format!("echo second-{kind} >> {log}"))]);
    }
    let config = json!({
        "annotations": {"org.example.key": "value"},
        "hooks": hooks,
        "+mounts": [{"destination": log.to_string(), "type": "bind", "source": log.to_string(),
            "options": ["bind"]}],
    });
    all.run_line("hooks", &config, &format!("echo program >> {log}")).success();
    let lines = text(log.to_string().as_ref());
    let lines: Vec<&str> = lines.lines().collect();
    let position = |wanted: &str| {
        lines.iter().position(|line| line.starts_with(wanted)).unwrap_or_else(|| {
            panic!("no {wanted}: {lines:?}");
        })
    };
    let order = [
        "prestart",
        "second-prestart",
        "createRuntime",
        "second-createRuntime",
        "createContainer",
        "second-createContainer",
        "startContainer",
        "second-startContainer",
    ];
    for pair in order.windows(2) {
        assert!(position(pair[0]) < position(pair[1]), "{pair:?}: {lines:?}");
    }
    assert!(position("second-startContainer") < position("program"), "{lines:?}");
    assert!(position("second-poststart") < position("poststop"), "{lines:?}");
    assert_eq!(lines.last(), Some(&"second-poststop"));
    let statuses = [
        ("prestart", "creating"),
        ("createRuntime", "creating"),
        ("createContainer", "creating"),
        ("startContainer", "created"),
        ("poststart", "running"),
        ("poststop", "stopped"),
    ];
    let mut pids = Vec::new();
    for (kind, status) in statuses {
        let line = lines[position(kind)];
        let state = line.strip_prefix(&format!("{kind} b c ")).expect("the environment");
        let state: Value = serde_json::from_str(state).expect("JSON");
        assert_eq!(state["status"], status, "{kind}");
        assert_eq!(state["id"], all.id("hooks"), "{kind}");
        assert_eq!(state["ociVersion"], "1.2.0");
        assert_eq!(state["annotations"]["org.example.key"], "value");
        assert!(state["bundle"].as_str().is_some_and(|path| path.ends_with("/hooks")), "{state}");
        if kind != "poststop" {
            pids.push(state["pid"].as_u64().expect("a number"));
        }
    }
    assert!(pids.iter().all(|pid| *pid == pids[0] && *pid > 1), "{pids:?}");
}

#[test]
fn each_runs_in_its_namespaces() {
    require!(Need::Root);
    let all = Bundles::new();
    let shared = all.context.write("shared/log", "");
    let folder = shared.parent().expect("a directory");
    let mut hooks = json!({});
    for kind in KINDS {
        let line = format!(
            "echo {kind} $(readlink /proc/self/ns/mnt) $(readlink /proc/self/ns/net) \
             $(test -e /only-in-the-container && echo inside) >> {}",
            shared.display()
        );
        hooks[kind] = json!([hook(&line)]);
    }
    let config = json!({
        "hooks": hooks,
        "+mounts": [{"destination": folder, "type": "bind", "source": folder, "options": ["bind"]}],
    });
    all.context.write("rootfs/only-in-the-container", "");
    all.run_line("places", &config, "true").success();
    let namespace = |kind: &str| {
        let path = format!("/proc/self/ns/{kind}");
        std::fs::read_link(path).expect("a link").to_string_lossy().into_owned()
    };
    let lines = text(&shared);
    let of = |kind: &str| -> Vec<String> {
        let line = lines.lines().find(|line| line.starts_with(kind)).expect(kind);
        line.split(' ').skip(1).map(str::to_owned).collect()
    };
    for kind in ["prestart", "createRuntime", "poststart", "poststop"] {
        assert_eq!(of(kind)[..2], [namespace("mnt"), namespace("net")], "{kind}");
        assert_eq!(of(kind).get(2), None, "{kind}: {lines}");
    }
    let (create, start) = (of("createContainer"), of("startContainer"));
    assert_eq!(create[..2], start[..2], "both are in the container's namespaces");
    assert_ne!(create[0], namespace("mnt"));
    assert_ne!(create[1], namespace("net"));
    // The one before the change of the root sees the host's files, the other one the container's.
    assert_eq!(
        (create.get(2), start.get(2).map(String::as_str)),
        (None, Some("inside")),
        "{lines}"
    );
}

#[test]
fn a_hook_that_fails_stops_what_it_belongs_to() {
    require!(Need::Root);
    let all = Bundles::new();
    let log = all.context.write("log", "");
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let config = json!({"hooks": {
            kind: [hook("echo too bad >&2; exit 7")],
            "poststop": [hook(&format!("echo end-of-{kind} >> {}", log.display()))],
        }});
        let bundle = all.bundle(kind, &config);
        let output = all.run(&["create", "--bundle", &bundle.to_string_lossy(), &all.id(kind)]);
        assert_eq!(output.status.code(), Some(1), "{kind}");
        let expected = format!("{kind} hook `/bin/sh`: exit status 7, stdout and stderr: too bad");
        assert!(output.stderr().contains(&expected), "{}", output.stderr());
        assert_eq!(all.run(&["state", &all.id(kind)]).status.code(), Some(1), "{kind}");
    }
    assert_eq!(text(&log).lines().collect::<Vec<_>>(), ["end-of-prestart", "end-of-createRuntime"]);
    for kind in ["startContainer", "poststart"] {
        let config =
            json!({"hooks": {kind: [hook("exit 7")]}, "process": {"args": ["sleep", "100"]}});
        let bundle = all.bundle(kind, &config);
        let id = all.id(kind);
        all.begun(&["create", "--bundle", &bundle.to_string_lossy(), &id]);
        let output = all.run(&["start", &id]);
        assert_eq!(output.status.code(), Some(1), "{kind}: {}", output.snapshot());
        assert!(output.stderr().contains(&format!("{kind} hook `/bin/sh`: exit status 7")));
        all.until(&id, "stopped");
        all.run(&["delete", &id]).success();
    }
    // What fails at the end is said, and does not keep anything.
    let config = json!({"hooks": {"poststop": [hook("exit 7"), hook(&format!("echo after >> {}", log.display()))]}});
    let output = all.run_line("poststop", &config, "true").success();
    assert!(
        output.stderr().contains("poststop hook `/bin/sh`: exit status 7"),
        "{}",
        output.stderr()
    );
    assert_eq!(text(&log).lines().next_back(), Some("after"));
}

#[test]
fn a_hook_has_its_time() {
    require!(Need::Root);
    let all = Bundles::new();
    let mut slow = hook("exec sleep 100");
    slow["timeout"] = json!(1);
    all.check_refused(&[
        ("slow", json!({"hooks": {"createRuntime": [slow]}}), "timed out after 1 s"),
        ("relative", json!({"hooks": {"prestart": [{"path": "x"}]}}), "is not absolute"),
        ("never", json!({"hooks": {"prestart": [{"path": "/x", "timeout": 0}]}}), "not positive"),
        (
            "absent",
            json!({"hooks": {"prestart": [{"path": "/no/such"}]}}),
            "prestart hook `/no/such`",
        ),
    ]);
}
