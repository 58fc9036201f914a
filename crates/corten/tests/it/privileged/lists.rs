//! Many containers: chosen, stopped and removed together, and pruned.

use corten_testkit::privilege::Need;
use corten_testkit::require;

use super::life::Containers;

const NEEDS: [Need; 2] = [Need::Root, Need::Overlay];

fn names(all: &Containers, words: &[&str]) -> String {
    let mut line = vec!["ps", "--format={{.Names}}"];
    line.extend(words);
    all.ok(&line).lines().collect::<Vec<_>>().join(" ")
}

#[test]
fn containers_are_listed_by_what_they_are() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    all.run("one", &["--label", "tier=web", "-l", "own"], "sleep 1000");
    all.0.write("labels", "# of a file\ntier=db\n");
    all.run("two", &["--label-file", "labels"], "sleep 1000");
    all.0.run(&["run", "--network=none", "--name=three", "base", "sh", "-c", "exit 3"]).code(3);
    assert_eq!(names(&all, &["--filter", "label=tier=web"]), "one");
    assert_eq!(names(&all, &["--filter", "label=tier", "--filter", "label=own"]), "one");
    assert_eq!(names(&all, &["-f", "name=one", "-f", "name=two"]).split(' ').count(), 2);
    assert_eq!(names(&all, &["-f", "exited=3"]), "three");
    assert_eq!(names(&all, &["-f", "status=running", "-f", "name=t"]), "two");
    assert_eq!(names(&all, &["-a", "-f", "ancestor=base"]).split(' ').count(), 3);
    assert_eq!(names(&all, &["-n", "3"]).split(' ').count(), 3);
    assert_eq!(all.ok(&["container", "ls", "-q", "--filter=name=one"]).trim().len(), 12);
    let unknown = all.0.run(&["ps", "--filter=color=red"]).code(2);
    assert!(unknown.stderr().contains("there is no filter `color`"), "{}", unknown.stderr());
    let described: serde_json::Value =
        serde_json::from_str(&all.ok(&["container", "inspect", "one"])).expect("it is JSON");
    assert_eq!(described[0]["Name"], "one");
}

#[test]
fn many_are_stopped_and_removed_at_once_and_named_in_order() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    for name in ["a", "b", "c", "d"] {
        all.run(name, &["--stop-timeout=1"], "while :; do sleep 1; done");
    }
    let stopped = all.0.run(&["stop", "d", "missing", "a", "c", "b"]).code(2);
    assert_eq!(stopped.stdout(), "d\na\nc\nb\n");
    assert!(stopped.stderr().contains("no container `missing`"), "{}", stopped.stderr());
    all.ok(&["start", "b"]);
    let removed = all.0.run(&["rm", "a", "b", "c"]).code(2);
    assert_eq!(removed.stdout(), "a\nc\n");
    assert!(removed.stderr().contains("container `b` is running"), "{}", removed.stderr());
    assert_eq!(all.ok(&["rm", "-f", "b", "missing", "d"]), "b\nd\n");
    assert_eq!(names(&all, &["-a"]), "");
}

#[test]
fn what_has_ended_is_pruned() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    all.run("running", &[], "sleep 1000");
    for (name, label) in [("old", "keep=no"), ("kept", "keep=yes")] {
        let words = ["run", "--network=none", "--name", name, "--label", label, "base", "true"];
        all.ok(&words);
    }
    assert_eq!(all.ok(&["container", "prune", "--force", "--filter=until=24h"]), "");
    assert_eq!(all.ok(&["container", "prune", "--filter=label=keep=no"]).trim().len(), 64);
    assert_eq!(names(&all, &["-a"]).split(' ').count(), 2);
    let kept = all.ok(&["system", "prune", "--keep-younger=1h"]);
    assert!(!kept.contains("containers"), "{kept}");
    let pruned = all.ok(&["system", "prune", "--volumes"]);
    assert!(pruned.starts_with("removed 1 containers\n"), "{pruned}");
    assert_eq!(names(&all, &["-a"]), "running");
}

#[test]
fn what_is_waited_for_can_be_chosen() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    all.0
        .run(&["run", "--network=none", "--name=one", "base", "sh", "-c", "sleep 0.3; exit 3"])
        .code(3);
    let next = all.0.command(["wait", "--condition=next-exit", "one"]).start();
    let removed = all.0.command(["wait", "--condition", "removed", "one"]).start();
    std::thread::sleep(std::time::Duration::from_millis(200));
    all.ok(&["start", "one"]);
    assert_eq!(next.wait().stdout(), "3\n");
    all.until("its end", |all| all.field("one", "State") == "exited");
    all.ok(&["rm", "one"]);
    assert_eq!(removed.wait().stdout(), "3\n");
}
