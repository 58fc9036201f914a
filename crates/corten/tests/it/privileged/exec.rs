//! Further programs in a container that runs.

use corten_testkit::privilege::Need;
use corten_testkit::require;

use super::life::Containers;

const NEEDS: [Need; 2] = [Need::Root, Need::Overlay];

/// A container that does nothing, and what a shell line in it prints.
fn idle(flags: &[&str]) -> Containers {
    let all = Containers::new();
    all.run("one", flags, "while :; do sleep 1; done");
    all
}

fn line(all: &Containers, flags: &[&str], line: &str) -> String {
    let mut words = vec!["exec"];
    words.extend(flags);
    words.extend(["one", "sh", "-c", line]);
    all.ok(&words)
}

#[test]
fn a_program_sees_the_container_and_gives_its_code() {
    require!(NEEDS[0], NEEDS[1]);
    let all = idle(&["-e", "FROM=run", "-w", "/tmp"]);
    assert_eq!(line(&all, &[], "echo $FROM; pwd; echo x >/made"), "run\n/tmp\n");
    assert_eq!(
        line(&all, &["-e", "FROM=exec", "-w", "/"], "echo $FROM; pwd; cat /made"),
        "exec\n/\nx\n"
    );
    let failed = all.0.run(&["exec", "one", "sh", "-c", "echo out; echo err >&2; exit 5"]);
    assert_eq!(
        (failed.status.code(), failed.stdout(), failed.stderr()),
        (Some(5), "out\n", "err\n")
    );
    let killed = all.0.run(&["exec", "one", "sh", "-c", "kill -9 $$"]);
    assert_eq!(killed.status.code(), Some(137));
}

#[test]
fn it_has_the_rights_of_the_container_and_no_more() {
    require!(NEEDS[0], NEEDS[1]);
    let all = idle(&["--cap-drop=ALL", "--cap-add=CHOWN", "--ulimit=nofile=100:200"]);
    let status = "grep -E '^(Cap(Prm|Eff|Bnd)|NoNewPrivs|Seccomp):' /proc/self/status; ulimit -n";
    assert_eq!(
        line(&all, &[], status).replace('\t', " "),
        "CapPrm: 0000000000000001\nCapEff: 0000000000000001\nCapBnd: 0000000000000001\n\
         NoNewPrivs: 1\nSeccomp: 2\n100\n"
    );
    let of_user = line(&all, &["-u", "1234:5678"], &format!("id; {status}")).replace('\t', " ");
    assert!(
        of_user.starts_with("uid=1234 gid=5678 groups=5678\nCapPrm: 0000000000000000\n"),
        "{of_user}"
    );
    // Its namespaces are those of the container's own program.
    for kind in ["user", "mnt", "pid", "net", "ipc", "uts", "cgroup"] {
        let link = format!("ls -l /proc/1/ns/{kind} /proc/self/ns/{kind}");
        let links = line(&all, &[], &link);
        let targets: Vec<_> = links.lines().filter_map(|line| line.split(" -> ").nth(1)).collect();
        assert!(targets.len() == 2 && targets[0] == targets[1], "{links}");
    }
    // Nothing of the host is open in it.
    assert_eq!(
        line(&all, &[], "for f in /proc/self/fd/*; do echo ${f##*/}; done | sort -n | head -4"),
        "0\n1\n2\n3\n"
    );
    let refused = all.0.run(&["exec", "-w", "/proc/self/fd/4", "one", "ls"]);
    assert_ne!(refused.status.code(), Some(0), "{}", refused.snapshot());
}

#[test]
fn users_are_those_of_the_container() {
    require!(NEEDS[0], NEEDS[1]);
    let all = idle(&[]);
    assert_eq!(line(&all, &["-u", "app"], "id; echo $HOME").lines().count(), 2);
    assert!(line(&all, &["-u", "app"], "id").starts_with("uid=1000(app) gid=1000(app)"));
    let unknown = all.0.run(&["exec", "-u", "nobody-here", "one", "id"]);
    assert_eq!(unknown.status.code(), Some(125));
    assert!(unknown.stderr().contains("nobody-here"), "{}", unknown.stderr());
}

#[test]
fn what_is_written_to_it_arrives_and_ends() {
    require!(NEEDS[0], NEEDS[1]);
    let all = idle(&[]);
    let bytes = "0123456789abcdef".repeat(20_000);
    let copied = all.0.command(["exec", "-i", "one", "cat"]).stdin(bytes.clone()).run();
    assert_eq!(copied.success().stdout(), bytes);
    let unread = all.0.command(["exec", "one", "cat"]).stdin(bytes).run();
    assert_eq!(unread.success().stdout(), "", "without -i it reads nothing");
    assert_eq!(line(&all, &[], "echo again >/dev/stdout"), "again\n");
}

#[test]
fn one_in_the_background_goes_on() {
    require!(NEEDS[0], NEEDS[1]);
    let all = idle(&[]);
    assert_eq!(line(&all, &["-d"], "sleep 0.2; echo done >/done"), "");
    all.until("its file", |all| all.0.run(&["exec", "one", "cat", "/done"]).stdout() == "done\n");
}

#[test]
fn one_that_cannot_be_is_said() {
    require!(NEEDS[0], NEEDS[1]);
    let all = idle(&[]);
    let missing = all.0.run(&["exec", "one", "nonsense"]);
    assert_eq!(missing.status.code(), Some(127));
    assert!(missing.stderr().contains("failed to find `nonsense`"), "{}", missing.stderr());
    let nowhere = all.0.run(&["exec", "-w", "/nowhere", "one", "true"]);
    assert_eq!(nowhere.status.code(), Some(125), "{}", nowhere.snapshot());
    all.ok(&["stop", "-t", "0", "one"]);
    let ended = all.0.run(&["exec", "one", "true"]);
    assert_eq!(ended.status.code(), Some(125));
    assert!(ended.stderr().contains("`corten start one` starts it"), "{}", ended.stderr());
}

#[test]
fn it_ends_with_its_container() {
    require!(NEEDS[0], NEEDS[1]);
    let all = idle(&[]);
    let running = all.0.command(["exec", "one", "sh", "-c", "echo up >/up; sleep 60"]).start();
    all.until("its begin", |all| all.0.run(&["exec", "one", "cat", "/up"]).stdout() == "up\n");
    all.ok(&["kill", "one"]);
    assert_eq!(running.wait().status.code(), Some(137));
}

#[test]
fn its_memory_is_that_of_the_container() {
    require!(NEEDS[0], NEEDS[1], Need::Cgroup);
    let all = idle(&["-m", "16m"]);
    let killed = all.0.run(&[
        "exec",
        "one",
        "sh",
        "-c",
        "head -c 100000000 /dev/zero | tail -c 90000000 >/dev/null",
    ]);
    assert_ne!(killed.status.code(), Some(0), "{}", killed.snapshot());
}
