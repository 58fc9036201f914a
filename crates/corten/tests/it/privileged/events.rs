//! What happens is written down, and can be followed.

use corten_sys::clock::{Clock as _, SystemClock};
use corten_testkit::privilege::Need;
use corten_testkit::require;

use super::life::Containers;

const NEEDS: [Need; 2] = [Need::Root, Need::Overlay];

/// What has happened to a container so far, as words.
fn actions(all: &Containers, name: &str) -> Vec<String> {
    let filter = format!("container={name}");
    let words = ["events", "--since=1h", "--until=0s", "--format={{.Action}}", "--filter", &filter];
    all.ok(&words).lines().map(str::to_owned).collect()
}

#[test]
fn the_life_of_a_container_is_written_down() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    all.run("one", &[], "trap 'exit 3' TERM; echo up; while :; do sleep 0.05; done");
    all.until("its first line", |all| all.ok(&["logs", "one"]) == "up\n");
    all.ok(&["exec", "one", "true"]);
    all.ok(&["kill", "-s", "WINCH", "one"]);
    all.ok(&["stop", "one"]);
    all.ok(&["rename", "one", "two"]);
    assert_eq!(
        actions(&all, "one"),
        [
            "create",
            "start",
            "exec_create: true",
            "exec_start: true",
            "exec_die",
            "kill",
            "kill",
            "die",
            "stop"
        ]
    );
    all.ok(&["rm", "two"]);
    assert_eq!(actions(&all, "two"), ["rename", "destroy"]);
    let codes = ["--since=1h", "--until=0s", "--filter=event=die"];
    let codes = all.ok(&[
        "events",
        codes[0],
        codes[1],
        codes[2],
        "--format",
        "{{.Actor.Attributes.exitCode}}",
    ]);
    assert_eq!(codes, "3\n");
    let line = all.ok(&["events", "--since=1h", "--until=0s", "--filter=event=create"]);
    assert!(
        line.contains("Z container create ") && line.contains("(image=base, name=one)"),
        "{line}"
    );
}

#[test]
fn one_of_the_foreground_is_written_down_as_well() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    all.ok(&["run", "--rm", "--network=none", "--name=one", "base", "true"]);
    assert_eq!(actions(&all, "one"), ["create", "start", "die", "destroy"]);
    let failed = all.0.run(&["run", "--rm", "--network=none", "--name=two", "base", "nonsense"]);
    assert_eq!(failed.status.code(), Some(127));
    assert_eq!(actions(&all, "two"), ["create", "destroy"]);
}

#[test]
fn events_are_followed_as_they_come() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    let until = format!("--until={}", SystemClock.now().seconds + 4);
    let words = ["events", &until, "--filter=type=container", "--filter=type=image", "--json"];
    let following = all.0.command(words).start();
    std::thread::sleep(std::time::Duration::from_millis(300));
    all.ok(&["run", "-d", "--rm", "--network=none", "--name=one", "base", "true"]);
    all.ok(&["tag", "base", "other"]);
    all.ok(&["rmi", "other"]);
    let followed = following.wait();
    let found: Vec<serde_json::Value> = followed
        .stdout()
        .lines()
        .map(|line| serde_json::from_str(line).expect("it is JSON"))
        .collect();
    let words: Vec<&str> = found.iter().filter_map(|event| event["Action"].as_str()).collect();
    for word in ["create", "start", "die", "destroy", "tag", "untag"] {
        assert!(words.contains(&word), "{words:?}");
    }
    assert!(found.iter().all(|event| event["time"].is_i64() && event["timeNano"].is_i64()));
    let nonsense = all.0.run(&["events", "--filter=nonsense=1"]).code(2);
    assert!(nonsense.stderr().contains("there is no filter `nonsense`"), "{}", nonsense.stderr());
}

#[test]
fn a_container_runs_where_nothing_can_be_written_down() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    let journal = all.0.root_dir().join("events/events.json");
    corten_sys::file::remove_tree(&journal).expect("it can be removed");
    corten_sys::file::create_dirs(&journal, 0o700).expect("it can be made");
    let run =
        all.0.run(&["run", "--rm", "--network=none", "base", "sh", "-c", "echo fine"]).success();
    assert_eq!(run.stdout(), "fine\n");
    assert!(run.stderr().contains("warning: an event is not written down"), "{}", run.stderr());
    all.run("one", &[], "exit 4");
    assert_eq!(all.ok(&["wait", "one"]), "4\n");
    corten_sys::file::remove_tree(&journal).expect("it can be removed");
}
