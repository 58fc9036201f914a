//! Further programs, terminals, and descriptors that are passed on.

use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixListener;

use corten_sys::socket;
use corten_testkit::privilege::Need;
use corten_testkit::require;
use serde_json::{Value, json};

use super::{Bundles, text};

fn idle(all: &Bundles, more: &Value) -> String {
    let mut config = json!({"process": {"args": ["sleep", "1000"]}});
    super::merge(&mut config, more);
    let bundle = all.bundle("idle", &config);
    let id = all.id("idle");
    all.begun(&["run", "--detach", "--bundle", &bundle.to_string_lossy(), &id]);
    id
}

#[test]
fn a_further_program_is_in_the_container() {
    require!(Need::Root);
    let all = Bundles::new();
    let id = idle(&all, &json!({"process": {"cwd": "/tmp", "env": ["PATH=/usr/bin", "A=1"]}}));
    let said = |arguments: &[&str]| {
        let mut words = vec!["exec"];
        words.extend(&arguments[..arguments.len() - 1]);
        words.extend([id.as_str(), "sh", "-c", arguments[arguments.len() - 1]]);
        all.run(&words).success().stdout().to_owned()
    };
    assert_eq!(said(&["echo $A; pwd; id -u"]), "1\n/tmp\n0\n");
    assert_eq!(said(&["--cwd", "/etc", "--env", "B=2", "pwd; echo $A$B"]), "/etc\n12\n");
    assert_eq!(said(&["--user", "1000:1001", "-g", "7", "id -u; id -G"]), "1000\n1001 7\n");
    assert_eq!(said(&["--no-new-privs", "grep NoNew /proc/self/status"]), "NoNewPrivs:\t1\n");
    assert_eq!(
        said(&["--cap", "CAP_SYS_TIME", "grep CapEff /proc/self/status"]).trim_end().len(),
        24
    );
    for kind in ["mnt", "pid", "net", "ipc", "uts"] {
        let line = format!("readlink /proc/1/ns/{kind} /proc/self/ns/{kind}");
        let found = said(&[&line]);
        let found: Vec<&str> = found.lines().collect();
        assert!(found.len() == 2 && found[0] == found[1], "{kind}: {found:?}");
    }
    assert_eq!(said(&["ls /proc/self/fd | wc -l"]), "4\n", "nothing of the host is open");
    let membership = said(&["cat /proc/self/cgroup; echo; cat /proc/1/cgroup"]);
    let (own, first) = membership.split_once("\n\n").expect("two");
    assert_eq!(own, first.trim_end());
    let code = all.run(&["exec", &id, "sh", "-c", "exit 9"]);
    assert_eq!(code.status.code(), Some(9));
    let signal = all.run(&["exec", &id, "sh", "-c", "kill -9 $$"]);
    assert_eq!(signal.status.code(), Some(137));
    let absent = all.run(&["exec", &id, "no-such"]);
    assert_eq!(absent.status.code(), Some(255));
    assert!(absent.stderr().contains("executable file not found in $PATH"), "{}", absent.stderr());
    let nowhere = all.run(&["exec", "--cwd", "/no/such", &id, "true"]);
    assert_eq!(nowhere.status.code(), Some(255), "{}", nowhere.snapshot());
}

#[test]
fn a_whole_process_comes_from_a_file() {
    require!(Need::Root);
    let all = Bundles::new();
    let id = idle(&all, &json!({}));
    let process = json!({
        "args": ["sh", "-c", "id -u; pwd; echo $X; ulimit -n; taskset -p $$ | sed 's/.*: //'"],
        "cwd": "/etc", "env": ["PATH=/usr/bin", "X=y"], "user": {"uid": 1000, "gid": 1000},
        "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 50, "hard": 60}],
        "execCPUAffinity": {"initial": "0", "final": "0"},
    });
    let path = all.context.write("process.json", process.to_string());
    let path = path.to_string_lossy().into_owned();
    let output = all.run(&["exec", "--process", &path, &id]).success();
    assert_eq!(output.stdout(), "1000\n/etc\ny\n50\n1\n");
    let pid_file = all.context.work_dir().join("exec.pid");
    let pid_path = pid_file.to_string_lossy().into_owned();
    all.begun(&["exec", "--detach", "--pid-file", &pid_path, &id, "sleep", "50"]);
    let pid: u64 = text(&pid_file).parse().expect("a number");
    let output = all.run(&["ps", "-f", "json", &id]).success();
    let pids: Vec<u64> = serde_json::from_str(output.stdout()).expect("JSON");
    assert!(pids.contains(&pid), "{pids:?}");
}

/// Takes the other side of a terminal from the socket that a program was told of.
fn take_terminal(listener: &UnixListener) -> std::fs::File {
    let (stream, _) = listener.accept().expect("a connection");
    let received = socket::receive(stream.as_fd(), &mut [0; 256]).expect("a message");
    let fd = received.fds.into_iter().next().expect("a descriptor");
    std::fs::File::from(fd)
}

#[test]
fn terminals_go_to_the_console_socket() {
    require!(Need::Root);
    let all = Bundles::new();
    let path = all.context.work_dir().join("console.sock");
    let listener = UnixListener::bind(&path).expect("bound");
    let path = path.to_string_lossy().into_owned();
    let line = "tty; stty size; stat -c %t:%T /dev/console | sed 's/:.*//'; read x; echo got $x";
    let bundle = all.bundle(
        "terminal",
        &json!({"process": {"terminal": true, "consoleSize": {"height": 33, "width": 99},
            "args": ["sh", "-c", line]}}),
    );
    let bundle = bundle.to_string_lossy().into_owned();
    let id = all.id("terminal");
    let refused = all.run(&["create", "--bundle", &bundle, &id]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(refused.stderr().contains("--console-socket"), "{}", refused.stderr());
    all.begun(&["create", "--console-socket", &path, "--bundle", &bundle, &id]);
    let mut terminal = take_terminal(&listener);
    all.run(&["start", &id]).success();
    terminal.write_all(b"hello\n").expect("written");
    all.until(&id, "stopped");
    let mut said = Vec::new();
    // The end of a terminal is an error.
    terminal.read_to_end(&mut said).map(drop).unwrap_or_default();
    let said = String::from_utf8_lossy(&said).replace('\r', "");
    for expected in ["/dev/pts/0\n", "33 99\n", "88\n", "got hello\n"] {
        assert!(said.contains(expected), "{expected:?} is not in {said:?}");
    }
    all.run(&["delete", &id]).success();
    let without = all.bundle("without", &json!({}));
    let without = without.to_string_lossy().into_owned();
    let refused = all.run(&["create", "--console-socket", &path, "--bundle", &without, &id]);
    assert_eq!(refused.status.code(), Some(1), "{}", refused.snapshot());
}

#[test]
fn a_root_by_chroot_can_be_joined() {
    require!(Need::Root);
    let all = Bundles::new();
    let bundle = all.bundle("chroot", &json!({"process": {"args": ["sleep", "1000"]}}));
    let id = all.id("chroot");
    let bundle = bundle.to_string_lossy().into_owned();
    all.begun(&["run", "-d", "--no-pivot", "--bundle", &bundle, &id]);
    let output = all.run(&["exec", &id, "cat", "/etc/hostname"]).success();
    assert_eq!(output.stdout(), "image\n");
    all.run(&["delete", "--force", &id]).success();
}
