use corten_testkit::privilege::Need;
use corten_testkit::{TestContext, require};
use expect_test::expect;

use crate::world::with_base;

const NEEDS: [Need; 2] = [Need::Root, Need::Overlay];

/// Runs a shell line in a container without a network.
fn shell(context: &TestContext, flags: &[&str], line: &str) -> String {
    let mut arguments = vec!["run", "--rm", "--network", "none"];
    arguments.extend(flags);
    arguments.extend(["base", "sh", "-c", line]);
    context.run(&arguments).snapshot()
}

#[test]
fn exit_codes_are_dockers() {
    require!(NEEDS[0], NEEDS[1]);
    let context = with_base();
    let code = |words: &[&str]| {
        let mut arguments = vec!["run", "--rm", "--network", "none", "base"];
        arguments.extend(words);
        context.run(&arguments).status.code()
    };
    assert_eq!(code(&["true"]), Some(0));
    assert_eq!(code(&["sh", "-c", "exit 3"]), Some(3));
    assert_eq!(code(&["sh", "-c", "sh -c 'kill -9 $$'"]), Some(137));
    assert_eq!(code(&["no-such-program"]), Some(127));
    assert_eq!(code(&["/etc/passwd"]), Some(126));
    // Process 1 of a container cannot kill itself; under an init it is not process 1.
    let under_init = |line: &str| {
        let arguments = ["run", "--rm", "--init", "--network=none", "base", "sh", "-c", line];
        context.run(&arguments).status.code()
    };
    assert_eq!(under_init("kill -9 $$"), Some(137));
    assert_eq!(under_init("kill -TERM $$; sleep 5"), Some(143));
}

#[test]
fn a_program_that_is_not_there_is_said() {
    require!(NEEDS[0], NEEDS[1]);
    let context = with_base();
    context.check(
        &["run", "--rm", "--network=none", "base", "pyhton"],
        &expect![[r#"
        exit: 127
        --- stdout
        --- stderr
        error: failed to find `pyhton` in the container's `PATH`
        hint: install `pyhton` in the image, or give its path
    "#]],
    );
    context.check(
        &["run", "--rm", "--network=none", "base", "/etc/passwd"],
        &expect![[r#"
        exit: 126
        --- stdout
        --- stderr
        error: failed to execute `/etc/passwd`: it is not marked as executable for this user
        hint: `RUN chmod 755 /etc/passwd`, or start it by its interpreter
    "#]],
    );
}

#[test]
fn flags_reach_the_container() {
    require!(NEEDS[0], NEEDS[1]);
    let context = with_base();
    context.write("shared/in.txt", "from the host\n");
    context.write("vars.env", "# comment\nFROM_FILE=1\n\nFROM_HOST\n");
    let host = context.work_dir();
    let volume = format!("{}/shared:/shared:ro", host.display());
    let mount = format!("type=bind,source={}/shared,target=/writable", host.display());
    let mut all = String::new();
    for (flags, line) in [
        (&["-e", "A=1", "-e", "B=x y"][..], "echo $A-$B"),
        (&["--env-file", "vars.env"], "echo $FROM_FILE-$FROM_HOST"),
        (&["-w", "/tmp"], "pwd"),
        (&["-u", "app"], "id"),
        (&["-u", "1234:5678"], "id"),
        (&["--hostname", "box"], "cat /etc/hostname; cat /proc/sys/kernel/hostname"),
        (&["--read-only"], "touch /x || echo read-only"),
        (&["--read-only", "--tmpfs", "/scratch"], "touch /scratch/x && echo writable"),
        (&["-v", &volume], "cat /shared/in.txt; touch /shared/x || echo read-only"),
        (&["--mount", &mount], "echo out >/writable/out.txt"),
        (
            &["--cap-drop", "ALL"],
            "while read a b; do case $a in CapEff:) echo $b;; esac; done </proc/self/status",
        ),
        (
            &["--cap-drop", "ALL", "--cap-add", "CHOWN"],
            "while read a b; do case $a in CapEff:) echo $b;; esac; done </proc/self/status",
        ),
        (&["--ulimit", "nofile=100:200"], "ulimit -n; ulimit -Hn"),
        (&["--shm-size", "1m"], "head -c 2000000 /dev/zero >/dev/shm/x || echo full"),
    ] {
        all.push_str(&format!("$ {} -- {line}\n{}", flags[0], shell(&context, flags, line)));
    }
    expect![[r#"
        $ -e -- echo $A-$B
        exit: 0
        --- stdout
        1-x y
        --- stderr
        $ --env-file -- echo $FROM_FILE-$FROM_HOST
        exit: 0
        --- stdout
        1-
        --- stderr
        $ -w -- pwd
        exit: 0
        --- stdout
        /tmp
        --- stderr
        $ -u -- id
        exit: 0
        --- stdout
        uid=1000(app) gid=1000(app) groups=1000(app),2000(extra)
        --- stderr
        $ -u -- id
        exit: 0
        --- stdout
        uid=1234 gid=5678 groups=5678
        --- stderr
        $ --hostname -- cat /etc/hostname; cat /proc/sys/kernel/hostname
        exit: 0
        --- stdout
        box
        box
        --- stderr
        $ --read-only -- touch /x || echo read-only
        exit: 0
        --- stdout
        read-only
        --- stderr
        touch: cannot touch '/x': Read-only file system
        $ --read-only -- touch /scratch/x && echo writable
        exit: 0
        --- stdout
        writable
        --- stderr
        $ -v -- cat /shared/in.txt; touch /shared/x || echo read-only
        exit: 0
        --- stdout
        from the host
        read-only
        --- stderr
        touch: cannot touch '/shared/x': Read-only file system
        $ --mount -- echo out >/writable/out.txt
        exit: 0
        --- stdout
        --- stderr
        $ --cap-drop -- while read a b; do case $a in CapEff:) echo $b;; esac; done </proc/self/status
        exit: 0
        --- stdout
        0000000000000000
        --- stderr
        $ --cap-drop -- while read a b; do case $a in CapEff:) echo $b;; esac; done </proc/self/status
        exit: 0
        --- stdout
        0000000000000001
        --- stderr
        $ --ulimit -- ulimit -n; ulimit -Hn
        exit: 0
        --- stdout
        100
        200
        --- stderr
        $ --shm-size -- head -c 2000000 /dev/zero >/dev/shm/x || echo full
        exit: 0
        --- stdout
        full
        --- stderr
        head: error writing 'standard output': No space left on device
    "#]].assert_eq(&all);
    assert_eq!(context.read("shared/out.txt"), "out\n");
}

#[test]
fn an_entrypoint_and_standard_input_are_given() {
    require!(NEEDS[0], NEEDS[1]);
    let context = with_base();
    let run = ["run", "--rm", "-i", "--network=none", "--entrypoint", "cat", "base"];
    context.command(run).stdin("through\n").run().check(&expect![[r#"
        exit: 0
        --- stdout
        through
        --- stderr
    "#]]);
    // Without `-i` there is nothing to read, as in Docker.
    let run = ["run", "--rm", "--network=none", "base", "cat"];
    context.command(run).stdin("lost\n").run().check(&expect![[r#"
        exit: 0
        --- stdout
        --- stderr
    "#]]);
}

#[test]
fn a_kept_container_is_listed_and_removed() {
    require!(NEEDS[0], NEEDS[1]);
    let context = with_base();
    let flags = ["run", "--network=none", "--name", "one", "--cidfile", "id", "base"];
    context.command(flags.iter().chain(&["sh", "-c", "exit 4"])).run().check(&expect![[r#"
        exit: 4
        --- stdout
        --- stderr
    "#]]);
    assert_eq!(context.read("id").len(), 64);
    context.check(
        &["ps", "--all"],
        &expect![[r#"
            exit: 0
            --- stdout
            CONTAINER ID  IMAGE  COMMAND  CREATED  STATUS  PORTS  NAMES
            [ID]  base  sh -c exit 4  [AGE]  Exited (4) [AGE]  one
            --- stderr
        "#]],
    );
    context.check(
        &["ps", "--quiet"],
        &expect![[r#"
        exit: 0
        --- stdout
        --- stderr
    "#]],
    );
    context.check(
        &["ps", "-a", "--format", "{{.Names}} {{.Status}}"],
        &expect![[r#"
            exit: 0
            --- stdout
            one Exited (4) [AGE]
            --- stderr
        "#]],
    );
    context.command(flags.iter().chain(&["true"])).run().check(&expect![[r#"
        exit: 125
        --- stdout
        --- stderr
        error: the name `one` belongs to the container [ID]
        hint: remove that one with `corten rm one`, or choose another name
    "#]]);
    context.check(
        &["rmi", "base"],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: image `base` is used by container `one`
        hint: remove the container first: `corten rm one`
    "#]],
    );
    context.check(
        &["inspect", "--format", "{{.State.ExitCode}}", "one"],
        &expect![[r#"
        exit: 0
        --- stdout
        4
        --- stderr
    "#]],
    );
    context.check(
        &["rm", "one"],
        &expect![[r#"
        exit: 0
        --- stdout
        one
        --- stderr
    "#]],
    );
    context.check(
        &["ps", "--all", "--quiet"],
        &expect![[r#"
        exit: 0
        --- stdout
        --- stderr
    "#]],
    );
}

#[test]
fn a_running_container_is_removed_by_force_only() {
    require!(NEEDS[0], NEEDS[1]);
    let context = with_base();
    let running = context
        .command([
            "run",
            "--network=none",
            "--name",
            "long",
            "base",
            "sh",
            "-c",
            "echo up; sleep 60",
        ])
        .start();
    let listed = || context.run(&["ps", "--quiet"]).success().stdout().lines().count();
    while listed() == 0 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    context.check(
        &["rm", "long"],
        &expect![[r#"
            exit: 2
            --- stdout
            --- stderr
            error: container `long` is running
            hint: `corten stop long` first, or kill and remove it: `corten rm --force long`
        "#]],
    );
    context.check(
        &["rm", "-f", "long"],
        &expect![[r#"
        exit: 0
        --- stdout
        long
        --- stderr
    "#]],
    );
    drop(running.wait());
    context.check(
        &["ps", "--all", "--quiet"],
        &expect![[r#"
        exit: 0
        --- stdout
        --- stderr
    "#]],
    );
}

#[test]
fn signals_reach_the_program() {
    require!(NEEDS[0], NEEDS[1]);
    let context = with_base();
    let script =
        "trap 'echo asked to end; exit 9' TERM; touch /flags/up; while :; do sleep 0.01; done";
    context.write("flags/.keep", "");
    let volume = format!("{}/flags:/flags", context.work_dir().display());
    let running = context
        .command(["run", "--rm", "--network=none", "-v", &volume, "base", "sh", "-c", script])
        .start();
    while !context.work_dir().join("flags/up").exists() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    running.signal("TERM");
    running.wait().check(&expect![[r#"
        exit: 9
        --- stdout
        asked to end
        --- stderr
    "#]]);
}

#[test]
fn a_program_that_takes_too_much_memory_is_reported() {
    require!(NEEDS[0], NEEDS[1], Need::Cgroup);
    let context = with_base();
    let hog = ["run", "--rm", "--network=none", "--memory", "32m", "base", "tail", "/dev/zero"];
    let output = context.run(&hog).code(137);
    assert!(output.stderr().starts_with("killed: out of memory at "), "{}", output.stderr());
    assert!(output.stderr().contains("(limit 32 MiB)"), "{}", output.stderr());
}

#[test]
fn a_declared_variable_must_be_given() {
    require!(NEEDS[0], NEEDS[1]);
    let context = with_base();
    context.write("corten.toml", "[run]\nrequired-env = [\"KEY\"]\n");
    let run = ["run", "--rm", "--network=none", "base", "true"];
    context.check(
        &run,
        &expect![[r#"
        exit: 125
        --- stdout
        --- stderr
        error: the container needs KEY and does not have it
        hint: give it: `corten run -e KEY=… …`
    "#]],
    );
    let run = ["run", "--rm", "--network=none", "-e", "KEY=x", "base", "true"];
    context.check(
        &run,
        &expect![[r#"
        exit: 0
        --- stdout
        --- stderr
    "#]],
    );
}

#[test]
fn a_plan_starts_nothing() {
    require!(NEEDS[0], NEEDS[1]);
    let context = with_base();
    let run =
        ["run", "--network=none", "--plan", "--memory", "1g", "-u", "app", "base", "touch", "/x"];
    let output = context.run(&run).success();
    for part in ["become user 1000", "give up new privileges", "install a system call filter"] {
        assert!(output.stdout().contains(part), "no {part} in:\n{}", output.stdout());
    }
    context.check(
        &["ps", "--all", "--quiet"],
        &expect![[r#"
        exit: 0
        --- stdout
        --- stderr
    "#]],
    );
}

#[test]
fn what_a_container_changes_is_gone_with_it() {
    require!(NEEDS[0], NEEDS[1]);
    let context = with_base();
    expect![[r#"
        exit: 0
        --- stdout
        /new
        --- stderr
    "#]]
    .assert_eq(&shell(&context, &[], "touch /new; ls /new"));
    expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        ls: cannot access '/new': No such file or directory
    "#]]
    .assert_eq(&shell(&context, &[], "ls /new"));
    context.run(&["system", "fsck"]).success();
}
