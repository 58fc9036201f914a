//! The life of a container: its states, what is refused in which of them, and what is left.

use corten_sys::file;
use corten_testkit::privilege::Need;
use corten_testkit::require;
use serde_json::{Value, json};

use super::{Bundles, text};

/// Makes a container that sleeps.
fn sleeper(all: &Bundles, name: &str, more: &Value) -> String {
    let mut config = json!({"process": {"args": ["sleep", "1000"]}});
    super::merge(&mut config, more);
    let bundle = all.bundle(name, &config);
    let id = all.id(name);
    all.begun(&["create", "--bundle", &bundle.to_string_lossy(), &id]);
    id
}

fn refused(all: &Bundles, arguments: &[&str], why: &str) {
    let output = all.run(arguments);
    let code = if arguments[0] == "exec" { 255 } else { 1 };
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", output.snapshot());
    assert!(output.stderr().contains(why), "{arguments:?}: {}", output.stderr());
}

#[test]
fn the_states_follow_each_other_and_what_is_wrong_is_refused() {
    require!(Need::Root);
    let all = Bundles::new();
    let id = sleeper(&all, "one", &json!({"annotations": {"a": "b"}}));
    let state = all.state(&id);
    assert_eq!(state["status"], "created");
    assert_eq!(state["ociVersion"], "1.2.0");
    assert_eq!(state["annotations"], json!({"a": "b"}));
    assert_eq!(state["rootfs"], json!(all.rootfs()));
    let pid = state["pid"].as_u64().expect("a number");
    let command = |pid: u64| text(format!("/proc/{pid}/cmdline").as_ref());
    assert!(!command(pid).contains("sleep"), "the program waits for its start");
    let bundle = all.context.work_dir().join("one");
    let bundle = bundle.to_string_lossy().into_owned();
    refused(&all, &["create", "--bundle", &bundle, &id], "exists already");
    refused(&all, &["delete", &id], "it is created");
    all.run(&["start", &id]).success();
    assert_eq!(all.state(&id)["status"], "running");
    assert_eq!(all.state(&id)["pid"], pid);
    assert!(command(pid).contains("sleep"));
    refused(&all, &["start", &id], "it is running");
    refused(&all, &["delete", &id], "it is running");
    refused(&all, &["kill", &id, "NOSUCH"], "`NOSUCH` is no signal");
    all.run(&["kill", &id, "0"]).success();
    all.run(&["kill", &id, "SIGKILL"]).success();
    all.until(&id, "stopped");
    assert_eq!(all.state(&id)["pid"], 0);
    refused(&all, &["kill", &id], "container not running");
    refused(&all, &["start", &id], "container not running");
    refused(&all, &["exec", &id, "true"], "container not running");
    all.run(&["delete", &id]).success();
    for command in ["state", "start", "kill", "delete", "pause", "resume", "ps"] {
        refused(&all, &[command, &id], "does not exist");
    }
    all.run(&["delete", "--force", &id]).success();
}

#[test]
fn signals_by_name_and_number() {
    require!(Need::Root);
    let all = Bundles::new();
    for signal in ["TERM", "SIGTERM", "sigterm", "15"] {
        let bundle = all.bundle(
            "signals",
            &json!({"process": {"args": ["sh", "-c", "trap 'exit 9' TERM; while :; do sleep 0.01; done"]}}),
        );
        let id = all.id("signals");
        all.begun(&["run", "-d", "--bundle", &bundle.to_string_lossy(), &id]);
        // Process 1 gets no signal before it has said what it does with it.
        std::thread::sleep(std::time::Duration::from_millis(200));
        all.run(&["kill", &id, signal]).success();
        all.until(&id, "stopped");
        all.run(&["delete", &id]).success();
    }
    let id = sleeper(&all, "created", &json!({}));
    all.run(&["kill", &id, "KILL"]).success();
    all.until(&id, "stopped");
    all.run(&["delete", &id]).success();
}

#[test]
fn force_ends_what_runs_and_takes_all_processes() {
    require!(Need::Root);
    let all = Bundles::new();
    let namespaces = json!([{"type": "mount"}]);
    let config = json!({
        "process": {"args": ["sh", "-c", "sleep 1000 & sleep 1000"]},
        "linux": {"namespaces": namespaces},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
    });
    let id = sleeper(&all, "many", &config);
    all.run(&["start", &id]).success();
    let processes = || -> Vec<u64> {
        let output = all.run(&["ps", "--format", "json", &id]).success();
        serde_json::from_str(output.stdout()).expect("JSON")
    };
    for _ in 0..100 {
        if processes().len() == 3 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let all_of_them = processes();
    assert_eq!(all_of_them.len(), 3);
    all.run(&["delete", "--force", &id]).success();
    for pid in all_of_them {
        let gone = !std::path::Path::new(&format!("/proc/{pid}")).exists();
        let state = file::read(format!("/proc/{pid}/stat").as_ref()).unwrap_or_default();
        assert!(gone || String::from_utf8_lossy(&state).contains(") Z"), "{pid}");
    }
}

#[test]
fn a_container_can_be_halted() {
    require!(Need::Root, Need::Cgroup);
    let all = Bundles::new();
    let id = sleeper(&all, "halted", &json!({}));
    all.run(&["start", &id]).success();
    refused(&all, &["resume", &id], "it is running");
    all.run(&["pause", &id]).success();
    assert_eq!(all.state(&id)["status"], "paused");
    refused(&all, &["pause", &id], "it is paused");
    refused(&all, &["exec", &id, "true"], "it is paused");
    refused(&all, &["delete", &id], "it is paused");
    all.run(&["resume", &id]).success();
    assert_eq!(all.state(&id)["status"], "running");
    all.run(&["pause", &id]).success();
    all.run(&["kill", &id, "KILL"]).success();
    all.until(&id, "stopped");
    all.run(&["delete", &id]).success();
}

#[test]
fn an_invalid_configuration_leaves_nothing() {
    require!(Need::Root);
    let all = Bundles::new();
    let path = all.context.write("broken/config.json", "{\"ociVersion\": ");
    let broken = path.parent().expect("a directory").to_string_lossy().into_owned();
    refused(&all, &["create", "--bundle", &broken, "x"], "failed to parse");
    let empty = all.context.work_dir().join("empty");
    file::create_dirs(&empty, 0o755).expect("made");
    refused(&all, &["create", "--bundle", &empty.to_string_lossy(), "x"], "config.json");
    all.check_refused(&[
        ("version", json!({"ociVersion": "3.0.0"}), "ociVersion is not supported"),
        ("root", json!({"root": {"path": "/no/such"}}), "`/no/such` is no directory"),
        ("hostname", json!({"hostname": "x", "linux": {"namespaces": [{"type": "mount"}]}}), "UTS"),
        (
            "source",
            json!({"+mounts": [{"destination": "/m", "type": "bind", "source": "/no/such",
            "options": ["bind"]}]}),
            "/no/such",
        ),
        (
            "type",
            json!({"+mounts": [{"destination": "/m", "type": "nosuchfs", "source": "x"}]}),
            "nosuchfs",
        ),
        (
            "option",
            json!({"+mounts": [{"destination": "/m", "type": "tmpfs", "source": "x",
            "options": ["nosuchoption"]}]}),
            "failed to mount tmpfs on `/m`",
        ),
        ("late", json!({"process": {"args": ["nosuch"]}, "hostname": "x"}), "nosuch"),
    ]);
    for id in ["../x", "a/b", ".", "", "a b"] {
        let output = all.run(&["create", "--bundle", &broken, id]);
        assert_eq!(output.status.code(), Some(1), "{id:?}");
    }
}

#[test]
fn exit_codes_pid_files_and_the_log() {
    require!(Need::Root);
    let all = Bundles::new();
    assert_eq!(all.run_line("code", &json!({}), "exit 37").status.code(), Some(37));
    assert_eq!(
        all.run_line("signal", &json!({}), "kill -9 1; sh -c 'kill -9 $$'; exit $?").status.code(),
        Some(137)
    );
    let kept = all.bundle("kept", &json!({}));
    let (kept, pid_file) =
        (kept.to_string_lossy().into_owned(), all.context.work_dir().join("pid"));
    let pid_path = pid_file.to_string_lossy().into_owned();
    let id = all.id("kept");
    all.run(&["run", "--keep", "--pid-file", &pid_path, "--bundle", &kept, &id]).success();
    assert!(text(&pid_file).parse::<u32>().is_ok());
    assert_eq!(all.state(&id)["status"], "stopped");
    all.run(&["delete", &id]).success();
    let log = all.context.work_dir().join("log.json");
    let path = log.to_string_lossy().into_owned();
    let output = all.run(&["--log", &path, "--log-format", "json", "state", "nobody"]);
    assert_eq!(output.status.code(), Some(1));
    let line: Value = serde_json::from_str(&text(&log)).expect("JSON");
    assert_eq!(line["level"], "error");
    assert_eq!(line["msg"], "container `nobody` does not exist");
    assert!(line["time"].as_str().is_some_and(|time| time.ends_with('Z')), "{line}");
}

#[test]
fn what_it_can_do_is_told() {
    require!(Need::Root);
    let all = Bundles::new();
    let output = all.run(&["features"]).success();
    let features: Value = serde_json::from_str(output.stdout()).expect("JSON");
    assert_eq!(features["ociVersionMax"], "1.2.0");
    assert_eq!(features["hooks"].as_array().map(Vec::len), Some(6));
    for refusal in ["checkpoint", "restore"] {
        refused(&all, &[refusal, "x"], "checkpoint and restore is not supported");
    }
    let output = all.run(&["--version"]).success();
    assert!(output.stdout().contains("\nspec: 1.2.0\n"), "{}", output.stdout());
    all.run(&["spec", "--bundle", &all.context.work_dir().to_string_lossy()]).success();
    let config: Value = serde_json::from_str(&all.context.read("config.json")).expect("JSON");
    assert_eq!(config["ociVersion"], "1.2.0");
}

#[test]
fn a_killed_maker_leaves_no_process() {
    require!(Need::Root);
    let all = Bundles::new();
    // The hook is where the maker can be caught.
    let mark = all.context.work_dir().join("mark");
    let line = format!("echo $PPID > {}; exec sleep 100", mark.display());
    let hook =
        json!([{"path": "/bin/sh", "args": ["sh", "-c", line], "env": ["PATH=/usr/bin:/bin"]}]);
    let bundle = all.bundle("killed", &json!({"hooks": {"createRuntime": hook}}));
    let id = all.id("killed");
    let making = all.command(&["create", "--bundle", &bundle.to_string_lossy(), &id]).start();
    while !mark.exists() || text(&mark).is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert_eq!(all.state(&id)["status"], "creating");
    making.signal("KILL");
    assert_eq!(making.wait().status.code(), None);
    assert_eq!(all.state(&id)["status"], "stopped");
    let output = all.run(&["ps", "--format", "json", &id]).success();
    assert_eq!(output.stdout().trim(), "[]", "the first process ends with its maker");
    all.run(&["delete", &id]).success();
    refused(&all, &["state", &id], "does not exist");
    let group = std::path::Path::new("/sys/fs/cgroup/pids").join(&id);
    assert!(!group.exists(), "its control groups are gone, too");
}

#[test]
fn many_at_once_do_not_disturb_each_other() {
    require!(Need::Root);
    let all = Bundles::new();
    // Each has its groups by its id.
    let config = json!({"process": {"args": ["true"]}, "linux": {"cgroupsPath": ""}});
    let bundle = all.bundle("many", &config);
    let bundle = bundle.to_string_lossy().into_owned();
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let (all, bundle) = (&all, &bundle);
            scope.spawn(move || {
                for turn in 0..5 {
                    let id = all.id(&format!("{worker}-{turn}"));
                    all.run(&["run", "--bundle", bundle, &id]).success();
                }
            });
        }
    });
    assert_eq!(all.run(&["list", "-q"]).success().stdout(), "");
}
