//! Containers in the background: start, stop, what they wrote, and how they are told to be.

use std::time::Duration;

use corten_sys::clock::{Clock as _, SystemClock};
use corten_testkit::privilege::Need;
use corten_testkit::{TestContext, require};

use crate::world::with_base;

const NEEDS: [Need; 2] = [Need::Root, Need::Overlay];

/// Ends what a test leaves running, also when it fails.
pub(super) struct Containers(pub(super) TestContext);

impl Containers {
    pub(super) fn new() -> Self {
        Self(with_base())
    }

    /// Runs a shell line in the background.
    pub(super) fn run(&self, name: &str, flags: &[&str], line: &str) -> String {
        let mut words = vec!["run", "-d", "--network=none", "--name", name];
        words.extend(flags);
        words.extend(["base", "sh", "-c", line]);
        self.0.run(&words).success().stdout().trim().to_owned()
    }

    pub(super) fn ok(&self, words: &[&str]) -> String {
        self.0.run(words).success().stdout().to_owned()
    }

    /// A field of a container in `ps`, or nothing if it is not there.
    pub(super) fn field(&self, name: &str, field: &str) -> String {
        let format = format!("{{{{.Names}}}}={{{{.{field}}}}}");
        let listed = self.ok(&["ps", "--all", "--format", &format]);
        let line = listed.lines().find_map(|line| line.strip_prefix(&format!("{name}=")));
        line.unwrap_or_default().to_owned()
    }

    /// Waits until something holds; a test that waits for long fails.
    pub(super) fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let began = SystemClock.monotonic();
        while !holds(self) {
            assert!(
                SystemClock.monotonic().saturating_sub(began) < Duration::from_secs(20),
                "{what} has not come about"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        for id in self.0.run(&["ps", "--all", "--quiet", "--no-trunc"]).stdout().lines() {
            // A test that has failed already is not to fail anew.
            drop(self.0.run(&["rm", "--force", id]));
        }
    }
}

#[test]
fn a_container_in_the_background_runs_and_is_stopped() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    let id =
        all.run("one", &[], "trap 'echo bye; exit 7' TERM; echo hi; while :; do sleep 0.05; done");
    assert_eq!(id.len(), 64, "the whole ID is printed: {id}");
    assert_eq!(all.field("one", "State"), "running");
    all.until("its first line", |all| all.ok(&["logs", "one"]) == "hi\n");
    assert_eq!(all.ok(&["stop", "one"]), "one\n");
    assert_eq!(all.field("one", "ExitCode"), "7");
    assert_eq!(all.ok(&["logs", "one"]), "hi\nbye\n");
    assert_eq!(all.ok(&["wait", "one"]), "7\n");
    assert_eq!(all.ok(&["stop", "one"]), "one\n", "stopping it again is no error");
    all.ok(&["rm", "one"]);
    assert_eq!(all.field("one", "State"), "");
}

#[test]
fn one_that_does_not_listen_is_killed_when_its_time_is_over() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    all.run("deaf", &["--stop-timeout", "1"], "while :; do sleep 1; done");
    let began = SystemClock.monotonic();
    all.ok(&["stop", "deaf"]);
    assert!(
        SystemClock.monotonic().saturating_sub(began) >= Duration::from_secs(1),
        "it had its second"
    );
    assert_eq!(all.field("deaf", "ExitCode"), "137");
}

#[test]
fn the_signal_that_stops_it_can_be_chosen() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    let line = "trap 'echo usr1' USR1; trap 'exit 3' INT; echo up; while :; do sleep 0.05; done";
    all.run("one", &["--stop-signal", "SIGINT"], line);
    all.until("its first line", |all| all.ok(&["logs", "one"]) == "up\n");
    all.ok(&["kill", "--signal", "USR1", "one"]);
    all.until("its answer", |all| all.ok(&["logs", "one"]) == "up\nusr1\n");
    all.ok(&["stop", "one"]);
    assert_eq!(all.ok(&["wait", "one"]), "3\n");
}

#[test]
fn a_stopped_container_starts_again_with_its_files() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    let made = all.ok(&[
        "create",
        "--network=none",
        "--name",
        "one",
        "base",
        "sh",
        "-c",
        "echo x >>/count; cat /count; echo end; exit 0",
    ]);
    assert_eq!(all.field("one", "State"), "created");
    for _ in 0..2 {
        assert_eq!(all.ok(&["start", made.trim()]), made);
        all.until("its end", |all| all.field("one", "State") == "exited");
    }
    assert_eq!(all.ok(&["logs", "one"]), "x\nend\nx\nx\nend\n");
}

#[test]
fn a_container_of_the_foreground_can_be_started_again_in_the_background() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    let run = ["run", "--network=none", "--name", "one", "base", "sh", "-c", "echo out; exit 4"];
    let ended = all.0.run(&run);
    assert_eq!((ended.status.code(), ended.stdout()), (Some(4), "out\n"));
    all.ok(&["start", "one"]);
    all.until("its end", |all| all.field("one", "State") == "exited");
    assert_eq!(all.ok(&["logs", "one"]), "out\nout\n");
    assert_eq!(all.field("one", "ExitCode"), "4");
}

#[test]
fn a_failing_container_is_started_again_as_often_as_was_asked() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    all.run("bad", &["--restart", "on-failure:2"], "echo try; exit 3");
    all.until("its last end", |all| all.field("bad", "State") == "exited");
    assert_eq!(all.ok(&["logs", "bad"]), "try\ntry\ntry\n");
    all.run("good", &["--restart", "on-failure:2"], "exit 0");
    all.until("its end", |all| all.field("good", "State") == "exited");
}

#[test]
fn one_that_is_always_started_again_ends_when_it_is_stopped() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    all.run("one", &["--restart", "always"], "echo up");
    all.until("a second start", |all| all.ok(&["logs", "one"]).lines().count() > 1);
    all.ok(&["stop", "one"]);
    assert_eq!(all.field("one", "State"), "exited");
    let lines = all.ok(&["logs", "one"]);
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(all.ok(&["logs", "one"]), lines, "it stays stopped");
}

#[test]
fn one_that_cannot_be_started_says_why_at_once() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    let run =
        ["run", "-d", "--restart=always", "--network=none", "--name", "bad", "base", "nonsense"];
    let failed = all.0.run(&run);
    assert_eq!(failed.status.code(), Some(127));
    assert!(failed.stderr().contains("failed to find `nonsense`"), "{}", failed.stderr());
    assert_eq!(
        all.field("bad", "Status").split(' ').take(2).collect::<Vec<_>>(),
        ["Exited", "(127)"]
    );
    let gone =
        all.0.run(&["run", "-d", "--rm", "--network=none", "--name", "gone", "base", "nonsense"]);
    assert_eq!(gone.status.code(), Some(127));
    assert_eq!(all.field("gone", "State"), "");
}

#[test]
fn a_killed_monitor_takes_its_container_with_it_and_loses_no_line() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    let id = all.run("one", &[], "i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done");
    all.until("some lines", |all| all.ok(&["logs", "one"]).lines().count() > 3);
    let record = all.0.root_dir().join("containers").join(&id).join("state.json");
    let record = corten_sys::file::read(&record).expect("the container is written down");
    let record: serde_json::Value = serde_json::from_slice(&record).expect("a record is JSON");
    let pid = record["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("it runs");
    let seen = all.ok(&["logs", "one"]);
    corten_sys::process::PidFd::open(pid).and_then(|monitor| monitor.kill()).expect("it is killed");
    all.until("its end", |all| all.field("one", "State") == "exited");
    assert_eq!(all.field("one", "Status"), "Exited (unknown)");
    assert!(all.ok(&["logs", "one"]).starts_with(&seen));
    let waited = all.0.run(&["wait", "one"]);
    assert!(waited.stderr().contains("nobody knows how"), "{}", waited.stderr());
    all.ok(&["start", "one"]);
    assert_eq!(all.field("one", "State"), "running");
}

#[test]
fn a_container_that_goes_away_leaves_nothing() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    all.run("one", &["--rm"], "sleep 0.2");
    assert_eq!(all.field("one", "State"), "running");
    all.until("its end", |all| all.field("one", "State").is_empty());
    let left = |name: &str| corten_sys::file::list_dir(&all.0.root_dir().join(name)).unwrap();
    all.until("its monitor's end", |_| left("tmp").is_empty() && left("leases").is_empty());
    assert_eq!((left("containers"), left("holds")), (vec!["lock".into()], Vec::new()));
}

#[test]
fn one_that_goes_away_may_wait_for_its_start() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    all.ok(&["create", "--rm", "--network=none", "--name=one", "base", "sleep", "0.2"]);
    assert_eq!(all.field("one", "State"), "created");
    all.ok(&["start", "one"]);
    all.until("its end", |all| all.field("one", "State").is_empty());
}

/// Kills the command that starts a container at many moments.
#[test]
fn a_killed_start_leaves_a_container_that_runs_or_none() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    for point in 0..16_u32 {
        let name = format!("c{point}");
        let run = ["run", "-d", "--rm", "--network=none", "--name", &name, "base", "sleep", "60"];
        let starting = all.0.command(run).start();
        std::thread::sleep(Duration::from_millis(3) * point);
        starting.signal("KILL");
        drop(starting.wait());
        all.until("a settled state", |all| {
            matches!(all.field(&name, "State").as_str(), "" | "running")
        });
        all.ok(&["rm", "--force", &name]);
    }
    let left = |name: &str| corten_sys::file::list_dir(&all.0.root_dir().join(name)).unwrap();
    assert_eq!(left("containers"), ["lock"]);
    let fsck = all.0.run(&["system", "fsck"]);
    assert_eq!(fsck.status.code(), Some(0), "{}", fsck.snapshot());
}

#[test]
fn waiting_tells_the_code_of_the_next_end() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    all.run("one", &[], "sleep 0.3; exit 9");
    assert_eq!(all.ok(&["wait", "one"]), "9\n");
    let missing = all.0.run(&["wait", "one", "two"]);
    assert_eq!((missing.status.code(), missing.stdout()), (Some(2), "9\n"));
}

#[test]
fn logs_choose_by_number_and_time_and_follow() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    all.run("one", &[], "for i in 1 2 3; do echo $i; done; echo err >&2; sleep 0.4; echo last");
    let followed = all.0.command(["logs", "--follow", "one"]).start();
    let followed = followed.wait();
    assert_eq!((followed.stdout(), followed.stderr()), ("1\n2\n3\nlast\n", "err\n"));
    assert_eq!(all.ok(&["logs", "--tail", "1", "one"]), "last\n");
    assert_eq!(all.ok(&["logs", "--since", "1h", "--tail=2", "one"]), "last\n");
    assert_eq!(all.ok(&["logs", "--until", "2000-01-01T00:00:00Z", "one"]), "");
    let timed = all.ok(&["logs", "-t", "-n", "1", "one"]);
    assert!(timed.ends_with("Z last\n") && timed.starts_with("20"), "{timed}");
    let wrong = all.0.run(&["logs", "--since", "soon", "one"]);
    assert!(wrong.stderr().contains("`soon` is no time"), "{}", wrong.stderr());
}

#[test]
fn a_full_log_is_put_aside_and_bounded() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    let flags = ["--log-opt", "max-size=2k", "--log-opt", "max-file=2"];
    let id = all.run("one", &flags, "i=0; while [ $i -lt 200 ]; do echo line $i; i=$((i+1)); done");
    all.until("its end", |all| all.field("one", "State") == "exited");
    let folder = all.0.root_dir().join("containers").join(&id).join("log");
    assert_eq!(corten_sys::file::list_dir(&folder).unwrap().len(), 2);
    let logs = all.ok(&["logs", "one"]);
    assert!(logs.ends_with("line 198\nline 199\n") && !logs.contains("line 100\n"), "{logs}");
}

#[test]
fn a_name_can_be_changed_while_it_runs() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    all.run("one", &[], "sleep 30");
    all.ok(&["rename", "one", "two"]);
    assert_eq!(all.field("two", "State"), "running");
    all.ok(&["kill", "two"]);
    assert_eq!(
        (all.field("two", "ExitCode"), all.field("one", "State")),
        ("137".into(), String::new())
    );
}

#[test]
fn two_starts_at_once_are_one() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    all.ok(&["create", "--network=none", "--name", "one", "base", "sleep", "30"]);
    let started: Vec<_> = (0..4).map(|_| all.0.command(["start", "one"]).start()).collect();
    let codes: Vec<_> = started.into_iter().map(|start| start.wait().status.code()).collect();
    assert!(codes.contains(&Some(0)), "{codes:?}");
    assert_eq!(all.field("one", "State"), "running");
}

#[test]
fn memory_that_runs_out_is_told() {
    require!(NEEDS[0], NEEDS[1], Need::Cgroup);
    let all = Containers::new();
    all.run("one", &["-m", "16m"], "head -c 100000000 /dev/zero | tail");
    all.until("its end", |all| all.field("one", "State") == "exited");
    assert!(all.field("one", "Status").contains("out of memory"), "{}", all.field("one", "Status"));
}

#[test]
fn a_container_is_healthy_as_long_as_its_checks_succeed() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    all.0.write("app/Dockerfile", "FROM base\nHEALTHCHECK CMD [\"cat\", \"/ok\"]\n");
    all.ok(&["build", "-q", "-t", "app", "app"]);
    let flags = ["--health-interval=50ms", "--health-retries=2", "--health-timeout=5s"];
    let line = "echo fine >/ok; while :; do sleep 0.1; done";
    let mut words = vec!["run", "-d", "--network=none", "--name=one"];
    words.extend(flags);
    words.extend(["app", "sh", "-c", line]);
    all.ok(&words);
    all.until("health", |all| all.field("one", "Status").ends_with("(healthy)"));
    all.ok(&["exec", "one", "rm", "/ok"]);
    all.until("illness", |all| all.field("one", "Status").ends_with("(unhealthy)"));
    let described: serde_json::Value =
        serde_json::from_str(&all.ok(&["inspect", "one"])).expect("it is JSON");
    let health = &described[0]["State"]["Health"];
    assert_eq!(health["Status"], "unhealthy");
    let last = health["Log"].as_array().and_then(|log| log.last()).expect("there are checks");
    assert_eq!(last["ExitCode"], 1);
    assert!(last["Output"].as_str().is_some_and(|text| text.contains("/ok")), "{last}");
    all.ok(&["exec", "one", "touch", "/ok"]);
    all.until("health again", |all| all.field("one", "Status").ends_with("(healthy)"));
}

#[test]
fn a_check_that_takes_too_long_has_failed() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    let flags = [
        "--health-cmd=sleep 60",
        "--health-interval=20ms",
        "--health-timeout=100ms",
        "--health-retries=1",
    ];
    all.run("one", &flags, "sleep 60");
    assert!(all.field("one", "Status").ends_with("(health: starting)"));
    all.until("illness", |all| all.field("one", "Status").ends_with("(unhealthy)"));
    // What a check has started is killed with it: of five and more, the last one is there at most.
    std::thread::sleep(Duration::from_millis(600));
    let processes = all.ok(&["exec", "one", "sh", "-c", "cat /proc/[0-9]*/cmdline"]);
    assert!(processes.matches("sleep").count() <= 4, "{processes}");
}

#[test]
fn what_a_kept_container_syncs_is_on_the_disk() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    let options = |flags: &[&str]| {
        let mut words = vec!["run", "--network=none"];
        words.extend(flags);
        words.extend(["base", "grep", " / / ", "/proc/self/mountinfo"]);
        all.ok(&words)
    };
    assert!(!options(&["--name=kept"]).contains("volatile"));
    assert!(options(&["--rm"]).contains("volatile"), "nobody can ask for its files");
    let log = all.run("one", &[], "grep ' / / ' /proc/self/mountinfo; echo x >/f; exec sleep 1000");
    all.until("its first line", |all| !all.ok(&["logs", "one"]).is_empty());
    assert!(!all.ok(&["logs", "one"]).contains("volatile"), "{log}");
    // Neither an end of power nor a kill takes its files away.
    let state = all.0.root_dir().join("containers").join(&log).join("state.json");
    let state = corten_sys::file::read(&state).expect("it is there");
    let state: serde_json::Value = serde_json::from_slice(&state).expect("it is JSON");
    let monitor =
        u32::try_from(state["pid"].as_u64().expect("it has one")).expect("it is a number");
    corten_sys::process::PidFd::open(monitor).expect("it runs").kill().expect("it is ours");
    all.until("its end", |all| all.field("one", "State") == "exited");
    all.ok(&["start", "one"]);
    assert_eq!(all.ok(&["exec", "one", "cat", "/f"]), "x\n");
}
