//! Containers after a boot: which ones come back, and that asking twice changes nothing.

use corten_testkit::privilege::Need;
use corten_testkit::require;

use super::life::Containers;

const NEEDS: [Need; 2] = [Need::Root, Need::Overlay];

/// Ends everything of a container at once, as a loss of power does.
fn lose_power(all: &Containers, id: &str) {
    let state = all.0.root_dir().join("containers").join(id).join("state.json");
    let state = corten_sys::file::read(&state).expect("it is there");
    let state: serde_json::Value = serde_json::from_slice(&state).expect("it is JSON");
    let monitor =
        u32::try_from(state["pid"].as_u64().expect("it has one")).expect("it is a number");
    corten_sys::process::PidFd::open(monitor).expect("it runs").kill().expect("it is ours");
}

#[test]
fn policies_bring_containers_back_after_a_boot() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    let run = |name: &str, policy: &str| all.run(name, &["--restart", policy], "exec sleep 1000");
    let ids = [run("always", "always"), run("unless", "unless-stopped"), run("never", "no")];
    run("by-hand", "unless-stopped");
    all.ok(&["stop", "-t", "0", "by-hand"]);
    run("by-hand-always", "always");
    all.ok(&["stop", "-t", "0", "by-hand-always"]);
    all.ok(&["create", "--name=new", "--restart=always", "--network=none", "base", "sleep", "9"]);
    for id in &ids {
        lose_power(&all, id);
    }
    all.until("their end", |all| all.ok(&["ps", "-q"]).is_empty());
    let started = all.0.run(&["system", "start-containers"]).success();
    let mut names: Vec<&str> = started.stdout().lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["always", "by-hand-always", "unless"]);
    assert!(
        started.stderr().contains("3 containers started, 0 run already"),
        "{}",
        started.stderr()
    );
    let again = all.0.run(&["system", "start-containers"]).success();
    assert_eq!(again.stdout(), "");
    assert!(again.stderr().contains("0 containers started, 3 run already"), "{}", again.stderr());
    let ended = all.0.run(&["system", "stop-containers", "-t", "0"]).success();
    assert!(ended.stderr().contains("3 containers ended"), "{}", ended.stderr());
    assert_eq!(all.ok(&["ps", "-q"]), "");
    let back = all.ok(&["system", "start-containers"]);
    assert_eq!(back.lines().count(), 3, "a shutdown is no stop by hand: {back}");
}

#[test]
fn what_cannot_be_started_is_told_and_keeps_nobody_from_it() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    let gone = all.0.work_dir().join("gone");
    corten_sys::file::create_dir(&gone, 0o755).expect("the work directory is writable");
    let volume = format!("{}:/v", gone.display());
    let bad = all.run("bad", &["--restart=always", "-v", &volume], "exec sleep 1000");
    let good = all.run("good", &["--restart=always"], "exec sleep 1000");
    for id in [bad, good] {
        lose_power(&all, &id);
    }
    all.until("their end", |all| all.ok(&["ps", "-q"]).is_empty());
    corten_sys::file::remove_dir(&gone).expect("nobody has it");
    let started = all.0.run(&["system", "start-containers"]).code(1);
    assert_eq!(started.stdout(), "good\n");
    assert!(
        started.stderr().contains("container `bad` could not be started"),
        "{}",
        started.stderr()
    );
    assert!(started.stderr().contains("1 could not be started"), "{}", started.stderr());
    assert_eq!(all.field("good", "State"), "running");
}

#[test]
fn a_unit_is_written_where_it_is_asked_for() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    let unit = all.ok(&["system", "service"]);
    let written = all.0.run(&["system", "service", "--write=units/my.service"]).success();
    assert!(written.stderr().contains("enable --now my.service"), "{}", written.stderr());
    assert_eq!(all.0.read("units/my.service"), unit);
    if TestProgram::found("systemd-analyze") {
        let path = all.0.work_dir().join("units/my.service");
        let line =
            format!("systemd-analyze verify {} 2>&1 | grep my.service; true", path.display());
        let verified = corten_testkit::TestContext::new("/bin/sh").run(&["-c", &line]).success();
        assert_eq!(verified.stdout(), "");
    }
}

/// A program of the host that a test makes use of where it is.
struct TestProgram;

impl TestProgram {
    fn found(name: &str) -> bool {
        corten_sys::command::find_program(name, "/usr/bin:/bin".as_ref()).is_some()
    }
}
