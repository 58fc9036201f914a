//! Containers that are paused, looked at, and limited while they run.

use std::time::Duration;

use corten_sys::process::PidFd;
use corten_testkit::privilege::Need;
use corten_testkit::require;

use super::life::Containers;

const NEEDS: [Need; 3] = [Need::Root, Need::Overlay, Need::Cgroup];

const LINES: &str = "i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done";

/// The process that watches over a container.
pub(super) fn monitor(all: &Containers, id: &str) -> u32 {
    let record = all.0.root_dir().join("containers").join(id).join("state.json");
    let record = corten_sys::file::read(&record).expect("the container is written down");
    let record: serde_json::Value = serde_json::from_slice(&record).expect("a record is JSON");
    record["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("it runs")
}

#[test]
fn a_paused_container_does_nothing_until_it_goes_on() {
    require!(NEEDS[0], NEEDS[1], NEEDS[2]);
    let all = Containers::new();
    all.run("one", &[], LINES);
    let lines = |all: &Containers| all.ok(&["logs", "one"]).lines().count();
    all.until("some lines", |all| lines(all) > 3);
    assert_eq!(all.ok(&["pause", "one"]), "one\n");
    assert_eq!(all.field("one", "State"), "paused");
    assert!(all.field("one", "Status").ends_with(" (Paused)"), "{}", all.field("one", "Status"));
    let before = lines(&all);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(lines(&all), before);
    let twice = all.0.run(&["pause", "one"]).code(2);
    assert!(twice.stderr().contains("is paused already"), "{}", twice.stderr());
    let exec = all.0.run(&["exec", "one", "true"]).code(125);
    assert!(exec.stderr().contains("`corten unpause` lets it go on"), "{}", exec.stderr());
    all.0.run(&["attach", "one"]).code(2);
    all.ok(&["unpause", "one"]);
    assert_eq!(all.field("one", "State"), "running");
    all.until("more lines", |all| lines(all) > before + 3);
    let again = all.0.run(&["unpause", "one"]).code(2);
    assert!(again.stderr().contains("is not paused"), "{}", again.stderr());
    all.ok(&["stop", "-t", "0", "one"]);
    let ended = all.0.run(&["pause", "one"]).code(2);
    assert!(ended.stderr().contains("is not running"), "{}", ended.stderr());
}

#[test]
fn a_paused_container_is_stopped_killed_and_removed_as_another() {
    require!(NEEDS[0], NEEDS[1], NEEDS[2]);
    let all = Containers::new();
    let line = "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done";
    all.run("one", &[], line);
    all.until("its first line", |all| all.ok(&["logs", "one"]) == "up\n");
    all.ok(&["pause", "one"]);
    all.ok(&["stop", "one"]);
    assert_eq!(all.ok(&["logs", "one"]), "up\nbye\n", "it had its time");
    assert_eq!(all.field("one", "ExitCode"), "7");
    all.ok(&["start", "one"]);
    assert_eq!(all.field("one", "State"), "running");
    all.ok(&["pause", "one"]);
    all.ok(&["kill", "one"]);
    assert_eq!(all.field("one", "ExitCode"), "137");
    all.ok(&["start", "one"]);
    all.ok(&["pause", "one"]);
    all.ok(&["rm", "--force", "one"]);
    assert_eq!(all.field("one", "State"), "");
}

/// In a freezer of cgroup v1 even a killed process waits.
#[test]
fn a_killed_monitor_takes_a_paused_container_with_it() {
    require!(NEEDS[0], NEEDS[1], NEEDS[2]);
    let all = Containers::new();
    let id = all.run("one", &[], "sleep 1000");
    let inside = all.ok(&["top", "one", "-o", "pid"]);
    let inside: u32 =
        inside.lines().nth(1).and_then(|pid| pid.trim().parse().ok()).expect("a number");
    let program = PidFd::open(inside).expect("it is there");
    all.ok(&["pause", "one"]);
    PidFd::open(monitor(&all, &id)).and_then(|monitor| monitor.kill()).expect("it is killed");
    assert!(program.wait_end(Some(Duration::from_secs(10))).expect("it can be waited for"));
    assert_eq!(all.field("one", "Status"), "Exited (unknown)");
    all.ok(&["start", "one"]);
    assert_eq!(all.field("one", "State"), "running", "it is not paused any more");
}

/// Kills the command that pauses at many moments: the container is paused or not, and can be either.
#[test]
fn a_killed_pause_leaves_a_container_that_can_go_on() {
    require!(NEEDS[0], NEEDS[1], NEEDS[2]);
    let all = Containers::new();
    all.run("one", &[], "sleep 1000");
    for point in 0..12_u32 {
        let pausing = all.0.command(["pause", "one"]).start();
        std::thread::sleep(Duration::from_millis(1) * point);
        pausing.signal("KILL");
        drop(pausing.wait());
        std::thread::sleep(Duration::from_millis(50));
        if all.field("one", "State") == "paused" {
            all.ok(&["unpause", "one"]);
        }
        assert_eq!(all.ok(&["exec", "one", "sh", "-c", "echo alive"]), "alive\n");
    }
}

#[test]
fn processes_are_shown_as_the_host_sees_them() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    all.run("one", &["-u", "1000"], "sleep 1000 & wait");
    all.until("both", |all| all.ok(&["top", "one"]).lines().count() == 3);
    let table = all.ok(&["top", "one"]);
    assert!(table.starts_with("UID "), "{table}");
    assert!(table.contains("sh -c sleep 1000 & wait") && table.contains("sleep 1000\n"), "{table}");
    let chosen = all.ok(&["top", "one", "-o", "nspid,comm"]);
    assert!(chosen.starts_with("NSPID   COMMAND\n1       sh\n"), "{chosen}");
    let uid = all.ok(&["top", "one", "-o", "uid"]);
    let uid: u32 = uid.lines().nth(1).and_then(|id| id.trim().parse().ok()).expect("a number");
    assert!(uid > 65_536, "nobody of the host: {uid}");
    let unknown = all.0.run(&["top", "one", "-o", "nonsense"]).code(2);
    assert!(unknown.stderr().contains("there are uid"), "{}", unknown.stderr());
}

#[test]
fn what_a_container_uses_is_told() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    all.run("busy", &[], "while :; do :; done");
    all.run("idle", &[], "exec sleep 1000");
    let format = "{{.Name}} {{.CPUPerc}} {{.PIDs}}";
    let shown = all.ok(&["stats", "--no-stream", "--format", format]);
    let line = |name: &str| shown.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    let percent = |name: &str| -> f64 {
        let words: Vec<&str> = line(name).split(' ').collect();
        words[1].trim_end_matches('%').parse().expect("a number")
    };
    assert!(percent("busy") > percent("idle"), "{shown}");
    assert!(line("idle").ends_with(" 1"), "{shown}");
    let document: serde_json::Value =
        serde_json::from_str(&all.ok(&["stats", "--json", "idle"])).expect("it is JSON");
    assert_eq!(document["items"].as_array().map(Vec::len), Some(1));
}

/// The limit of processes in the control group that a container's program is in.
fn pids_limit(all: &Containers, name: &str) -> String {
    let pid = all.ok(&["top", name, "-o", "pid"]);
    let pid = pid.lines().nth(1).expect("a process").trim().to_owned();
    let read = |path: &str| {
        let bytes = corten_sys::file::read(std::path::Path::new(path)).expect("it can be read");
        String::from_utf8(bytes).expect("it is text")
    };
    let groups = read(&format!("/proc/{pid}/cgroup"));
    let group = |key: &str| groups.lines().find_map(|line| Some(line.split_once(key)?.1));
    match group(":pids:") {
        Some(group) => read(&format!("/sys/fs/cgroup/pids{group}/pids.max")),
        None => read(&format!("/sys/fs/cgroup{}/pids.max", group("::").expect("a group"))),
    }
}

#[test]
fn limits_are_changed_at_once_and_for_later() {
    require!(NEEDS[0], NEEDS[1], NEEDS[2]);
    let all = Containers::new();
    all.run("one", &[], "while :; do sleep 0.1; done");
    all.ok(&["update", "--memory=64m", "--pids-limit=3", "one"]);
    let usage =
        |all: &Containers| all.ok(&["stats", "--no-stream", "--format={{.MemUsage}}", "one"]);
    assert!(usage(&all).trim().ends_with(" / 64MiB"), "{}", usage(&all));
    assert_eq!(pids_limit(&all, "one"), "3\n");
    all.ok(&["update", "--memory=128m", "--pids-limit=-1", "one"]);
    assert_eq!(pids_limit(&all, "one"), "max\n");
    all.ok(&["stop", "-t", "0", "one"]);
    all.ok(&["update", "--restart=on-failure:1", "--memory=96m", "one"]);
    all.ok(&["start", "one"]);
    assert!(usage(&all).trim().ends_with(" / 96MiB"), "{}", usage(&all));
    let nothing = all.0.run(&["update", "one"]).code(2);
    assert!(nothing.stderr().contains("nothing is to be changed"), "{}", nothing.stderr());
    let small = all.0.run(&["update", "--memory=1m", "one"]).code(2);
    assert!(small.stderr().contains("below 6 MiB"), "{}", small.stderr());
}
