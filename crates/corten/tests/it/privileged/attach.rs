//! Attached to containers: what they write, what they read, terminals, and who is too slow.

use std::io::{Read as _, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use corten_sys::process::PidFd;
use corten_testkit::privilege::Need;
use corten_testkit::require;

use super::life::Containers;

const NEEDS: [Need; 2] = [Need::Root, Need::Overlay];

#[test]
fn who_starts_a_container_sees_all_of_it_and_gets_its_code() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    let line = "cat; echo err >&2; exit 5";
    all.ok(&["create", "-i", "--network=none", "--name=one", "base", "sh", "-c", line]);
    let started = all.0.command(["start", "-i", "one"]).stdin(b"a\nb\n".to_vec()).run();
    assert_eq!(
        (started.status.code(), started.stdout(), started.stderr()),
        (Some(5), "a\nb\n", "err\n")
    );
    assert_eq!(all.field("one", "ExitCode"), "5", "it is written down before it is told");
    let again = all.0.command(["start", "-ai", "one"]).stdin(b"c\n".to_vec()).run();
    assert_eq!((again.status.code(), again.stdout()), (Some(5), "c\n"));
    assert_eq!(all.ok(&["logs", "one"]), "a\nb\nc\n");
}

#[test]
fn what_a_container_in_the_background_reads_stays_open() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    all.ok(&["run", "-d", "-i", "--network=none", "--name=one", "base", "cat"]);
    for line in ["one\n", "two\n"] {
        let mut typed = all.0.command(["attach", "--sig-proxy=false", "one"]);
        typed = typed.stdin(line.as_bytes().to_vec());
        let typing = typed.start();
        // What is typed goes to the program while somebody waits for the output to be seen.
        std::thread::scope(|scope| {
            let (all, pid) = (&all, typing.pid());
            let waiting = scope.spawn(move || typing.wait());
            all.until("its echo", |all| all.ok(&["logs", "one"]).ends_with(line));
            PidFd::open(pid).and_then(|client| client.kill()).expect("the client is there");
            assert_eq!(waiting.join().expect("it was waited for").stdout(), line);
        });
    }
    assert_eq!(all.field("one", "State"), "running");
}

#[test]
fn several_who_are_attached_see_the_same_and_the_code() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    all.run("one", &[], "while [ ! -e /go ]; do sleep 0.02; done; echo out; echo err >&2; exit 6");
    let clients: Vec<_> = (0..3).map(|_| all.0.command(["attach", "one"]).start()).collect();
    std::thread::sleep(std::time::Duration::from_millis(500));
    all.ok(&["exec", "one", "touch", "/go"]);
    for client in clients {
        let ended = client.wait();
        let seen = (ended.status.code(), ended.stdout().to_owned(), ended.stderr().to_owned());
        assert_eq!(seen, (Some(6), "out\n".to_owned(), "err\n".to_owned()));
    }
    let late = all.0.run(&["attach", "one"]).code(2);
    assert!(late.stderr().contains("is not running"), "{}", late.stderr());
}

#[test]
fn one_who_is_too_slow_is_told_and_neither_the_container_nor_its_log_suffers() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    let line = "while [ ! -e /go ]; do sleep 0.02; done; head -c 3000000 /dev/zero | \
                while read -r x; do :; done; i=0; while [ $i -lt 20000 ]; do \
                echo 0123456789012345678901234567890123456789; i=$((i+1)); done; echo end; sleep 60";
    all.run("one", &[], line);
    // Its standard output is a pipe that nobody reads until it is waited for.
    let slow = all.0.command(["attach", "one"]).start();
    std::thread::sleep(std::time::Duration::from_millis(500));
    all.ok(&["exec", "one", "touch", "/go"]);
    all.until("the last line", |all| all.ok(&["logs", "-n", "1", "one"]) == "end\n");
    assert_eq!(all.ok(&["logs", "one"]).lines().count(), 20_001, "no line is lost");
    let told = slow.wait();
    assert_eq!(told.status.code(), Some(2));
    assert!(told.stderr().contains("was not taken quickly enough"), "{}", told.stderr());
    assert_eq!(all.field("one", "State"), "running");
}

#[test]
fn signals_go_to_the_program_unless_that_is_not_wanted() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    let line = "trap 'echo got; exit 3' TERM; echo up; while :; do sleep 0.05; done";
    all.run("one", &[], line);
    all.until("its first line", |all| all.ok(&["logs", "one"]) == "up\n");
    let alone = all.0.command(["attach", "--sig-proxy=false", "one"]).start();
    std::thread::sleep(std::time::Duration::from_millis(500));
    alone.signal("TERM");
    assert_eq!(alone.wait().status.code(), None, "it ended by the signal itself");
    assert_eq!(all.field("one", "State"), "running");
    let passing = all.0.command(["attach", "one"]).start();
    std::thread::sleep(std::time::Duration::from_millis(500));
    passing.signal("TERM");
    let ended = passing.wait();
    assert_eq!((ended.status.code(), ended.stdout()), (Some(3), "got\n"));
}

#[test]
fn who_is_killed_or_whose_monitor_is_killed_leaves_nothing_behind() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    let id = all.run("one", &[], "i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done");
    let killed = all.0.command(["attach", "one"]).start();
    let other = all.0.command(["attach", "one"]).start();
    std::thread::sleep(std::time::Duration::from_millis(500));
    killed.signal("KILL");
    drop(killed.wait());
    let lines = all.ok(&["logs", "one"]).lines().count();
    all.until("more lines", |all| all.ok(&["logs", "one"]).lines().count() > lines + 5);
    let record = all.0.root_dir().join("containers").join(&id).join("state.json");
    let record = corten_sys::file::read(&record).expect("the container is written down");
    let record: serde_json::Value = serde_json::from_slice(&record).expect("a record is JSON");
    let pid = record["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()).expect("it runs");
    PidFd::open(pid).and_then(|monitor| monitor.kill()).expect("it is killed");
    let told = other.wait();
    assert_eq!(told.status.code(), Some(2));
    assert!(
        told.stderr().contains("the monitor of container `one` was killed"),
        "{}",
        told.stderr()
    );
    assert_eq!(all.field("one", "Status"), "Exited (unknown)");
}

#[test]
fn a_container_of_the_foreground_answers_as_one_of_the_background() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    let line = "trap 'echo int; exit 4' INT; echo up; while :; do sleep 0.05; done";
    let run =
        ["run", "--network=none", "--name=one", "--stop-signal=INT", "base", "sh", "-c", line];
    let running = all.0.command(run).start();
    all.until("its first line", |all| all.0.run(&["logs", "one"]).stdout() == "up\n");
    assert_eq!(all.ok(&["exec", "one", "sh", "-c", "echo in; cat /proc/1/comm"]), "in\nsh\n");
    let waiting = all.0.command(["wait", "one"]).start();
    let attached = all.0.command(["attach", "one"]).start();
    std::thread::sleep(std::time::Duration::from_millis(500));
    all.ok(&["rename", "one", "two"]);
    all.ok(&["stop", "two"]);
    assert_eq!(waiting.wait().stdout(), "4\n");
    assert_eq!(attached.wait().stdout(), "int\n");
    let ended = running.wait();
    assert_eq!((ended.status.code(), ended.stdout()), (Some(4), "up\nint\n"));
    assert_eq!(all.ok(&["logs", "two"]), "up\nint\n");
    assert_eq!(all.field("two", "ExitCode"), "4");
}

#[test]
fn one_of_the_foreground_that_is_started_again_has_a_monitor() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    let words =
        ["run", "--restart=on-failure:1", "--network=none", "--name=one", "base", "sh", "-c"];
    let ended = all.0.command(words.into_iter().chain(["echo try; exit 3"])).run();
    assert_eq!((ended.status.code(), ended.stdout()), (Some(3), "try\n"));
    all.until("its second end", |all| all.field("one", "State") == "exited");
    assert_eq!(all.ok(&["logs", "one"]), "try\ntry\n");
}

/// A command on a terminal of its own.
struct Terminal {
    child: Child,
    input: ChildStdin,
    output: ChildStdout,
    seen: String,
}

impl Terminal {
    #[expect(clippy::disallowed_methods, reason = "a program that makes a terminal is talked with")]
    fn of(all: &Containers, words: &str) -> Self {
        let program = env!("CARGO_BIN_EXE_corten");
        let line = format!("{program} --color never --root {} {words}", all.0.root_dir().display());
        let mut child = Command::new("script")
            .args(["-qec", &line, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("there is `script`");
        let input = child.stdin.take().expect("it is a pipe");
        let output = child.stdout.take().expect("it is a pipe");
        Self { child, input, output, seen: String::new() }
    }

    fn types(&mut self, bytes: &[u8]) {
        self.input.write_all(bytes).expect("it reads");
    }

    /// Reads until a text was seen since the last such reading.
    fn until(&mut self, text: &str) {
        let mut buffer = [0; 1024];
        self.seen.clear();
        while !self.seen.contains(text) {
            let length = self.output.read(&mut buffer).expect("it can be read");
            assert!(length > 0, "it ended before `{text}`: {}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
        }
    }

    fn code(mut self) -> Option<i32> {
        drop(self.input);
        self.child.wait().expect("it can be waited for").code()
    }
}

#[test]
fn keys_leave_a_terminal_alone_and_it_can_be_come_back_to() {
    require!(NEEDS[0], NEEDS[1], Need::Program("script"));
    let all = Containers::new();
    let mut first = Terminal::of(&all, "run -it --network=none --name one base sh");
    first.until("# ");
    first.types(b"X=kept; echo [$X]\r");
    first.until("[kept]");
    first.types(b"\x10\x11");
    first.until("`one` goes on");
    assert_eq!(first.code(), Some(0));
    assert_eq!(all.field("one", "State"), "running");
    let mut second = Terminal::of(&all, "attach --detach-keys=ctrl-a,d one");
    let mut third = Terminal::of(&all, "attach one");
    std::thread::sleep(std::time::Duration::from_millis(500));
    second.types(b"echo 1$X\r");
    second.until("1kept");
    third.until("1kept");
    second.types(b"\x01d");
    assert_eq!(second.code(), Some(0));
    third.types(b"exit 7\r");
    assert_eq!(third.code(), Some(7));
    assert_eq!(all.field("one", "ExitCode"), "7");
    assert!(all.ok(&["logs", "one"]).contains("1kept\r\n"), "the log has it, too");
}

#[test]
fn a_terminal_without_anybody_waits_for_one() {
    require!(NEEDS[0], NEEDS[1], Need::Program("script"));
    let all = Containers::new();
    all.ok(&["run", "-d", "-it", "--rm", "--network=none", "--name=one", "base", "sh"]);
    let mut terminal = Terminal::of(&all, "attach one");
    std::thread::sleep(std::time::Duration::from_millis(300));
    terminal.types(b"tty=$(ls -l /proc/self/fd/0); echo [${tty##*/}]\r");
    terminal.until("[0]");
    terminal.types(b"exit 3\r");
    assert_eq!(terminal.code(), Some(3));
    assert_eq!(all.field("one", "State"), "", "it went away at its end");
}

#[test]
fn keys_that_are_none_are_refused() {
    let context = corten_testkit::context!();
    let refused = context.run(&["run", "--detach-keys=ctrl-", "base"]).code(125);
    assert!(refused.stderr().contains("`ctrl-` is no key"), "{}", refused.stderr());
    context.write("corten.toml", "[run]\ndetach-keys = \"x,,y\"\n");
    let refused = context.run(&["attach", "one"]).code(2);
    assert!(refused.stderr().contains("failed to read `detach-keys`"), "{}", refused.stderr());
}
