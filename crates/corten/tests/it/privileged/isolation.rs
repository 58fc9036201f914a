//! What flags give a container of the machine and of other containers, and what they keep from it.

use std::path::Path;

use corten_sys::file;
use corten_testkit::privilege::Need;
use corten_testkit::{TestContext, require};

use super::life::Containers;
use crate::world::with_base;

const NEEDS: [Need; 2] = [Need::Root, Need::Overlay];

/// What a shell line prints in a container with these flags.
fn line(context: &TestContext, flags: &[&str], line: &str) -> String {
    let words = [&["run", "--rm", "--network=none", "-q"], flags, &["base", "sh", "-c", line]];
    context.run(&words.concat()).success().stdout().to_owned()
}

/// What is said of flags that cannot be had.
fn refused(context: &TestContext, flags: &[&str]) -> String {
    let words = [&["run", "--rm", "--network=none"], flags, &["base", "true"]];
    context.run(&words.concat()).code(125).stderr().to_owned()
}

#[test]
fn a_privileged_container_has_everything_within_its_own_users() {
    require!(NEEDS[0], NEEDS[1]);
    let context = with_base();
    let status = "grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status; head -n 1 /proc/self/uid_map | grep -c ' 0 *4294967295'; \
        [ -e /proc/kcore ] && ls /proc/kcore /proc/keys; ls /dev | grep -c .";
    let own = line(&context, &["--privileged"], status).replace('\t', " ");
    assert!(own.starts_with("NoNewPrivs: 0\nSeccomp: 0\n0\n"), "{own}");
    let capabilities = "grep CapEff /proc/self/status";
    let all = line(&context, &["--privileged"], capabilities);
    let fewer = line(&context, &["--privileged", "--cap-drop=SYS_ADMIN"], capabilities);
    assert_ne!(all, fewer);
    let hosts = line(&context, &["--privileged", "--userns=host"], status);
    assert!(hosts.contains("\n1\n"), "{hosts}");
    let said =
        context.run(&["run", "--rm", "--network=none", "--privileged", "base", "true"]).success();
    assert!(said.stderr().contains("nothing but its user namespace"), "{}", said.stderr());
    let plan = context.run(&["run", "--plan", "--privileged", "--network=none", "base", "true"]);
    let plan = plan.success();
    assert!(!plan.stdout().contains("mask /proc"), "{}", plan.stdout());
}

#[test]
fn kernel_settings_are_those_of_the_containers_namespaces() {
    require!(NEEDS[0], NEEDS[1]);
    let context = with_base();
    let flags =
        ["--sysctl", "net.core.somaxconn=77", "--sysctl=kernel.sem=1 2 3 4", "--domainname=corp"];
    let files = "cat /proc/sys/net/core/somaxconn /proc/sys/kernel/sem /proc/sys/kernel/domainname";
    assert_eq!(line(&context, &flags, files).replace('\t', " "), "77\n1 2 3 4\ncorp\n");
    let of_machine = refused(&context, &["--sysctl=vm.swappiness=1"]);
    assert!(of_machine.contains("it holds for the whole machine"), "{of_machine}");
    let shared = refused(&context, &["--ipc=host", "--sysctl=kernel.sem=1 2 3 4"]);
    assert!(shared.contains("leave out `--ipc host`"), "{shared}");
}

#[test]
fn a_container_is_among_the_processes_of_another_one() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    all.run("one", &["--hostname=first"], "echo shared >/dev/shm/x; while :; do sleep 1; done");
    let flags = ["--pid=container:one", "--ipc=container:one", "--uts=container:one"];
    let seen = "cat /proc/sys/kernel/hostname; until cat /dev/shm/x 2>/dev/null; do sleep 0.1; done; head -c 2 /proc/1/cmdline; \
        for n in pid ipc uts user net; do ls -l /proc/self/ns/$n /proc/1/ns/$n | sort | grep -o '\\[.*'; done";
    let printed = line(&all.0, &flags, seen);
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines[..2], ["first", "shared"], "{printed}");
    let pairs: Vec<bool> = lines[2..].chunks(2).map(|pair| pair[0].ends_with(pair[1])).collect();
    assert_eq!(pairs, [true, true, true, true, false], "{printed}");
    // Who runs in the background finds it again at each start.
    let mut words = vec!["run", "-d", "--network=none", "--name=two"];
    words.extend(flags);
    words.extend(["base", "sleep", "1000"]);
    all.ok(&words);
    assert_eq!(all.ok(&["exec", "two", "head", "-c", "2", "/proc/1/cmdline"]), "sh");
    all.ok(&["stop", "-t", "0", "two"]);
    all.ok(&["start", "two"]);
    // Its processes end with the one that they are among.
    all.ok(&["rm", "-f", "one"]);
    all.until("the end of its processes", |all| all.field("two", "Status").starts_with("Exited"));
    let gone = all.0.run(&["start", "two"]);
    assert!(gone.stderr().contains("does not run"), "{}", gone.stderr());
    assert!(refused(&all.0, &["--pid=container:one"]).contains("no container `one`"));
    all.run("three", &["--ipc=private"], "while :; do sleep 1; done");
    let private = refused(&all.0, &["--ipc=container:three"]);
    assert!(private.contains("shares its memory with nobody"), "{private}");
}

#[test]
fn the_hosts_namespaces_are_shared_when_asked_for() {
    require!(NEEDS[0], NEEDS[1]);
    let context = with_base();
    let flags = ["--pid=host", "--ipc=host", "--uts=host", "--cgroupns=host"];
    let seen =
        "for n in pid ipc uts cgroup; do ls -l /proc/self/ns/$n | grep -o '[a-z]*:\\[.*'; done";
    let own = |kind: &str| {
        let link = std::fs::read_link(format!("/proc/self/ns/{kind}")).expect("readable");
        format!("{}\n", link.display())
    };
    let expected = ["pid", "ipc", "uts", "cgroup"].map(own).concat();
    assert_eq!(line(&context, &flags, seen), expected);
    assert_eq!(line(&context, &["--ipc=none"], "ls /dev/shm 2>&1 | grep -c 'No such'"), "1\n");
    let conflict = refused(&context, &["--uts=host", "--hostname=a"]);
    assert!(conflict.contains("cannot be had together"), "{conflict}");
}

#[test]
fn ids_can_be_chosen_and_files_keep_those_of_inside() {
    require!(NEEDS[0], NEEDS[1]);
    let context = with_base();
    let map = "set -- $(head -n 1 /proc/self/uid_map); echo $*; id -u";
    let flags = ["--uidmap=0:1900000000:100", "-u", "7"];
    assert_eq!(line(&context, &flags, map), "0 1900000000 100\n7\n");
    assert!(refused(&context, &["--uidmap=1:1900000000:100"]).contains("have no 0"));
    assert!(refused(&context, &["--userns=keep-id:uid=5"]).contains("root keeps its id already"));
    let groups = line(&context, &["--group-add=44", "--group-add=4711"], "id -G");
    assert_eq!(groups, "0 44 4711\n");
}

#[test]
fn a_device_may_be_given_for_reading_alone() {
    require!(NEEDS[0], NEEDS[1], Need::Cgroup);
    let context = with_base();
    let uses = "head -c 1 /dev/mine >/dev/null && echo read; (echo x >/dev/mine) 2>/dev/null && echo written; echo end";
    let given = |access: &str| {
        line(&context, &["--device", &format!("/dev/zero:/dev/mine:{access}")], uses)
    };
    assert_eq!(given("rw"), "read\nwritten\nend\n");
    assert_eq!(given("r"), "read\nend\n");
    assert_eq!(given("w").lines().last(), Some("end"));
    assert!(!given("w").contains("read"));
    // Root of the machine could make nodes; it may not open what it was not given.
    let made = "mknod /dev/disk b 8 0 && (cat /dev/disk) 2>&1 | grep -c 'not permitted'; mknod /dev/x c 1 3; echo end";
    let flags = ["--userns=host", "--cap-add=MKNOD"];
    assert!(line(&context, &flags, made).ends_with("end\n"));
    assert!(refused(&context, &["--device-cgroup-rule=c 1 r"]).contains("is no rule"));
}

#[test]
fn a_read_only_container_may_write_where_programs_expect_it() {
    require!(NEEDS[0], NEEDS[1]);
    let context = with_base();
    let touch =
        "for f in /x /tmp/x /run/x /var/tmp/x; do touch $f 2>/dev/null && echo $f; done; true";
    assert_eq!(line(&context, &["--read-only"], touch), "/tmp/x\n/run/x\n/var/tmp/x\n");
    assert_eq!(line(&context, &["--read-only", "--read-only-tmpfs=false"], touch), "");
    let mine = ["--read-only", "--tmpfs", "/tmp:ro"];
    assert_eq!(line(&context, &mine, touch), "/run/x\n/var/tmp/x\n");
}

#[test]
fn limits_have_the_words_of_docker() {
    require!(NEEDS[0], NEEDS[1], Need::Cgroup);
    let context = with_base();
    let flags = [
        "--memory=64m",
        "--memory-reservation=32m",
        "--cpu-quota=50000",
        "--cpu-period=200000",
        "--cpuset-cpus=0",
        "--oom-score-adj=500",
        "--ulimit=nofile=100000000",
    ];
    let shown = line(
        &context,
        &flags,
        "cd /sys/fs/cgroup; for f in memory/memory.soft_limit_in_bytes cpu/cpu.cfs_quota_us \
           cpu/cpu.cfs_period_us memory.low cpu.max; do [ -e $f ] && cat $f; done; \
         cat /proc/self/oom_score_adj; [ $(ulimit -Hn) -lt 100000000 ] && echo clamped",
    );
    let expected =
        ["33554432\n50000\n200000\n500\nclamped\n", "33554432\n50000 200000\n500\nclamped\n"];
    assert!(expected.contains(&shown.as_str()), "{shown}");
    assert!(refused(&context, &["--cpus=1", "--cpu-quota=50000"]).contains("given in two ways"));
    assert!(refused(&context, &["--device-read-bps=/dev/null:1m"]).contains("is no disk"));
}

/// Finds a text in any file below a directory.
fn is_in_a_file(directory: &Path, text: &[u8]) -> bool {
    let names = file::list_dir(directory).unwrap_or_default();
    names.iter().any(|name| {
        let path = directory.join(name);
        let kind = std::fs::symlink_metadata(&path).map(|metadata| metadata.file_type());
        match kind {
            Ok(kind) if kind.is_dir() => is_in_a_file(&path, text),
            Ok(kind) if kind.is_file() => {
                let bytes = file::read(&path).unwrap_or_default();
                bytes.windows(text.len()).any(|window| window == text)
            }
            _ => false,
        }
    })
}

#[test]
fn a_secret_is_in_the_container_and_nowhere_else() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    let value = "correct-horse-battery";
    all.0.write("key", format!("{value}\n"));
    let flags = [
        "--secret=id=key,src=key,uid=5,mode=0440",
        "--secret=id=again,src=key,target=/etc/again",
        "--secret=id=word,src=key,type=env,target=WORD",
    ];
    let look = "cat /run/secrets/key /etc/again; echo $WORD; ls -ln /run/secrets/key | head -c 10; \
        (echo x >>/run/secrets/key) 2>/dev/null; touch /run/secrets/new 2>/dev/null; grep -c secrets /proc/self/cmdline";
    let seen = line(&all.0, &flags, look);
    assert_eq!(seen, format!("{value}\n{value}\n{value}\n-r--r-----1\n"));
    all.run("one", &flags, "sleep 1000");
    all.0.write("hold", "");
    let of_exec = all.ok(&["exec", "one", "sh", "-c", "cat /run/secrets/key; echo $WORD"]);
    assert_eq!(of_exec, format!("{value}\n{value}\n"));
    let told = all.ok(&["inspect", "one"]) + &all.ok(&["ps", "-a", "--json"]);
    assert!(!told.contains(value), "{told}");
    assert!(!is_in_a_file(&all.0.root_dir(), value.as_bytes()));
    for pid in file::list_dir(Path::new("/proc")).expect("readable") {
        let line = Path::new("/proc").join(pid).join("cmdline");
        let line = file::read(&line).unwrap_or_default();
        assert!(!line.windows(value.len()).any(|window| window == value.as_bytes()));
    }
    // It is read again at each start.
    all.0.write("key", "another\n");
    all.ok(&["stop", "-t", "0", "one"]);
    all.ok(&["start", "one"]);
    assert_eq!(all.ok(&["exec", "one", "cat", "/run/secrets/key"]), "another\n");
    all.ok(&["stop", "-t", "0", "one"]);
    file::remove_file(&all.0.work_dir().join("key")).expect("its own file");
    let gone = all.0.run(&["start", "one"]);
    assert!(gone.stderr().contains("failed to read secret `key`"), "{}", gone.stderr());
}

#[test]
fn a_secret_of_a_variable_is_for_the_foreground() {
    require!(NEEDS[0], NEEDS[1]);
    let context = with_base().with_env("TOKEN", "correct-horse");
    let flags = ["--secret=id=token,env=TOKEN"];
    assert_eq!(line(&context, &flags, "cat /run/secrets/token"), "correct-horse");
    let words = ["run", "-d", "--network=none", flags[0], "base", "true"];
    let refused = context.run(&words).code(125);
    assert!(refused.stderr().contains("src=FILE"), "{}", refused.stderr());
    let plan =
        context.run(&["run", "--plan", "--network=none", flags[0], "base", "true"]).success();
    assert!(
        !plan.stdout().contains("correct-horse") && plan.stdout().contains("/run/secrets/token")
    );
}
