//! How containers end, and what is said about it.

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use corten_runtime::{
    BindMount, BindOptions, ContainerSpec, Exit, HostFacts, Io, Mount, PlanError, RunError,
    Seccomp, plan, run,
};
use corten_sys::clock::{Clock as _, SystemClock};
use corten_sys::command::Command;
use corten_sys::file;
use corten_sys::process::Ended;
use corten_testkit::{Need, require, rootfs};

use crate::common::{
    CALLER, World, chain, children_of, done, eventually, perl, planned, processes_with,
    start_caller, try_run, unique_id,
};

pub(crate) const IN_FIRST_THREAD: bool = false;

pub(crate) fn exit_codes_are_the_programs() {
    require!(Need::Root);
    let world = World::new();
    for code in [0, 3, 125, 126, 127, 255] {
        assert_eq!(world.run(&format!("exit {code}")).outcome.exit, Exit::Code(code));
    }
}

pub(crate) fn a_signal_is_told_from_a_code() {
    require!(Need::Root);
    let world = World::new();
    // A signal without a handler does not reach process 1 from inside, as everywhere.
    let mut spec = world.spec(&format!("{} & wait $!; exit $?", perl("kill 9, $$")));
    assert_eq!(done(&spec).code(), 137);
    spec.args = vec!["sh".into(), "-c".into(), perl("syscall(231, 9)")];
    assert_eq!(done(&spec).outcome.exit, Exit::Code(9));
}

pub(crate) fn a_missing_program_is_127() {
    require!(Need::Root);
    let world = World::new();
    for (program, text) in [
        ("pyton", "failed to find `pyton` in the container's `PATH`"),
        ("/usr/bin/pyton", "failed to find `/usr/bin/pyton` in the container"),
    ] {
        let mut spec = world.spec("");
        spec.args = vec![program.to_owned()];
        let error = try_run(&spec).expect_err("it is not there");
        assert_eq!((error.exit_code(), error.to_string().as_str()), (127, text));
    }
}

pub(crate) fn what_cannot_be_executed_is_126_with_the_reason() {
    require!(Need::Root);
    let world = World::new();
    let lower = world.lower();
    rootfs::write(&lower, "plain", "text\n");
    rootfs::write(&lower, "script", "#!/no/such/shell\n");
    rootfs::write(&lower, "words", "echo hello\n");
    for name in ["script", "words"] {
        file::set_mode(&lower.join(name), 0o755).expect("a test can set modes");
    }
    // A program whose loader is not there.
    let mut program = file::read(&lower.join("usr/bin/true")).expect("a program");
    let loader = b"ld-linux";
    let at = program.windows(loader.len()).position(|part| part == loader).expect("a loader");
    program[at..at + loader.len()].copy_from_slice(b"ld-musl_");
    file::write(&lower.join("musl"), &program).expect("written");
    file::set_mode(&lower.join("musl"), 0o755).expect("a test can set modes");
    // A program of another machine: Itanium, for which nobody has an emulator registered.
    program[18] = 50;
    file::write(&lower.join("foreign"), &program).expect("written");
    file::set_mode(&lower.join("foreign"), 0o755).expect("a test can set modes");
    for (program, code, text) in [
        ("/plain", 126, "not marked as executable"),
        ("/etc", 126, "it is a directory"),
        ("/script", 127, "its interpreter `/no/such/shell` is not in the container"),
        ("/words", 126, "neither a program nor a script"),
        ("/musl", 127, "its loader `/lib64/ld-musl_"),
        ("/foreign", 126, "it is built for"),
    ] {
        let mut spec = world.spec("");
        spec.args = vec![program.to_owned()];
        let error = try_run(&spec).expect_err("it cannot be executed");
        assert!(error.to_string().contains(text), "{error}");
        assert_eq!(error.exit_code(), code, "{program}");
    }
}

pub(crate) fn a_missing_working_directory_is_named() {
    require!(Need::Root);
    let world = World::new();
    let mut spec = world.spec("true");
    spec.cwd = PathBuf::from("/no/where");
    let error = try_run(&spec).expect_err("it is not there");
    assert_eq!(error.to_string(), "failed to change to the working directory `/no/where`");
    assert_eq!(error.exit_code(), 125);
    assert!(error.hint().is_some_and(|hint| hint.contains("--workdir")));
    // A magic link that leads out of the container, of which there is none, must not be followed.
    spec.cwd = PathBuf::from("/proc/self/fd/7");
    assert!(try_run(&spec).is_err());
}

pub(crate) fn output_arrives_whole_and_apart() {
    require!(Need::Root);
    let world = World::new();
    let done = world.run("seq 1 200000; echo problem >&2; printf 'no newline'");
    let lines: Vec<&str> = done.out.lines().collect();
    assert_eq!((lines.len(), lines[199_999], lines[200_000]), (200_001, "200000", "no newline"));
    assert_eq!(done.err, "problem\n");
}

pub(crate) fn input_is_nothing_or_the_callers() {
    require!(Need::Root);
    let world = World::new();
    assert_eq!(world.run("wc -c").out, "0\n");
    let own = std::env::current_exe().expect("a running program has a file");
    let folder = world.folder.path().display();
    let script = format!(
        "seq 1 100000 | {own} {CALLER} {id} {folder} 'wc -l' stdin; \
         echo one | {own} {CALLER} {id} {folder} true stdin; echo code $?",
        own = own.display(),
        id = unique_id(),
    );
    let command = Command::new("/bin/sh").args(["-c", &script]).env("PATH", "/usr/bin:/bin");
    let (_, text) = command.output(1000).expect("it runs");
    assert_eq!(String::from_utf8_lossy(&text), "100000\ncode 0\n");
}

pub(crate) fn a_caller_that_ignores_signals_is_as_good_as_any() {
    require!(Need::Root);
    let world = World::new();
    let own = std::env::current_exe().expect("a running program has a file");
    let script = format!(
        "trap '' CHLD PIPE TERM; exec {} {CALLER} {} {} 'grep SigIgn /proc/self/status; exit 5' ''",
        own.display(),
        unique_id(),
        world.folder.path().display()
    );
    let (report, text) =
        Command::new("/bin/sh").args(["-c", &script]).output(1000).expect("it runs");
    assert_eq!(report.ended, Ended::Code(5), "{}", String::from_utf8_lossy(&text));
    assert_eq!(String::from_utf8_lossy(&text), "SigIgn:\t0000000000000000\n");
}

pub(crate) fn signals_are_passed_on() {
    require!(Need::Root);
    let world = World::new();
    for options in ["", "init"] {
        let script = "trap 'exit 42' TERM; echo ready; while :; do sleep 0.05; done";
        let (child, mut output) = start_caller(&world, &unique_id(), script, options);
        let mut ready = [0; 6];
        output.read_exact(&mut ready).expect("the script says that it is ready");
        child.handle.signal(15).expect("the caller is there");
        assert_eq!(child.handle.wait().expect("our child").ended, Ended::Code(42), "{options}");
    }
    // A program that does not listen is killed in the end.
    let script = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
    let (child, mut output) = start_caller(&world, &unique_id(), script, "");
    let mut ready = [0; 6];
    output.read_exact(&mut ready).expect("the script says that it is ready");
    for _ in 0..3 {
        child.handle.signal(15).expect("the caller is there");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(child.handle.wait().expect("our child").ended, Ended::Code(137));
}

pub(crate) fn a_cancelled_container_ends() {
    require!(Need::Root);
    let world = World::new();
    let cancelled = AtomicBool::new(false);
    let plan = planned(&world.spec("echo ready; sleep 1000"));
    let begun = SystemClock.monotonic();
    let mut on_output = |_, _: &[u8]| cancelled.store(true, Ordering::Relaxed);
    let mut io = Io::callback(&mut on_output);
    io.cancelled = Some(&cancelled);
    let outcome = run(&plan, io).expect("it was started");
    assert_eq!(outcome.exit, Exit::Signal(9));
    assert!(SystemClock.monotonic().saturating_sub(begun) < Duration::from_secs(20));
}

pub(crate) fn a_killed_caller_takes_its_container_along() {
    require!(Need::Root);
    killed_caller("sleep 98765; true", "");
    killed_caller("sleep 98765; true", "init memory");
}

pub(crate) fn a_program_cannot_outlive_its_caller() {
    require!(Need::Root);
    // PR_SET_PDEATHSIG is 1; the call is allowed, since programs use it for their own children.
    let number = if cfg!(target_arch = "x86_64") { 157 } else { 167 };
    let script =
        format!("exec {}", perl(&format!("syscall({number}, 1, 0); exec(\"sleep\", \"98765\")")));
    killed_caller(&script, "");
}

/// Kills a caller whose container runs a script that sleeps for 98765 seconds.
pub(crate) fn killed_caller(script: &str, options: &str) {
    let world = World::new();
    let id = unique_id();
    // A word that tells these processes from those of tests that run at the same time.
    let seconds = format!("98765.{}", std::process::id());
    let script = script.replace("98765", &seconds);
    let (child, _output) = start_caller(&world, &id, &script, options);
    let asleep = format!("sleep {seconds}");
    let sleeping = || {
        let found = processes_with(&asleep);
        found.into_iter().filter(|line| !line.contains(&id)).count()
    };
    eventually("the container's start", || sleeping() > 0);
    let helpers = children_of(child.pid);
    assert!(!helpers.is_empty(), "the caller has a helper process");
    child.kill_and_wait().expect("our child");
    eventually("the container's end", || sleeping() == 0);
    let is_there = |pid: &u32| std::path::Path::new(&format!("/proc/{pid}")).exists();
    eventually("the helper's end", || !helpers.iter().any(is_there));
    // The mounts were in namespaces that are gone.
    let mounts = file::read(std::path::Path::new("/proc/self/mountinfo")).expect("readable");
    let folder = world.folder.path().display().to_string();
    assert!(!String::from_utf8_lossy(&mounts).contains(&folder));
}

pub(crate) fn a_broken_seccomp_profile_starts_nothing() {
    require!(Need::Root);
    let world = World::new();
    let mut spec = world.spec("true");
    spec.seccomp = Seccomp::Profile("{\"defaultAction\": \"SCMP_ACT_MAYBE\"}".to_owned());
    let facts = HostFacts::gather().expect("the host can be looked at");
    let error = plan(&spec, &facts).expect_err("the profile is broken");
    assert!(matches!(error, PlanError::Seccomp(_)));
    assert!(chain(&error).contains("SCMP_ACT_MAYBE"));
    // One that forbids what the program needs is the program's problem.
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["execve", "execveat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}"#;
    spec.seccomp = Seccomp::Profile(profile.to_owned());
    let error = try_run(&spec).expect_err("nothing can be executed");
    assert!(matches!(error, RunError::Exec(_)), "{error}");
    assert_eq!(error.exit_code(), 126);
}

/// Changes a container so that one step fails.
type Change = fn(&mut ContainerSpec);

const FAILING: [(Change, &str); 5] = [
    (
        |spec| add_setting(spec, "net.ipv4.no_such_setting", "1"),
        "failed to set the kernel setting `net.ipv4.no_such_setting`",
    ),
    (
        |spec| add_setting(spec, "net.ipv4.ip_local_port_range", "rubbish"),
        "failed to set the kernel setting `net.ipv4.ip_local_port_range`",
    ),
    // A link of `/proc` leads anywhere: what is behind it is not what was meant.
    (
        |spec| spec.masked_paths.push(PathBuf::from("/proc/self/cwd/x")),
        "failed to mask `/proc/self/cwd/x`",
    ),
    (
        |spec| spec.readonly_paths.push(PathBuf::from("/proc/self/root")),
        "failed to make read-only `/proc/self/root`",
    ),
    (
        |spec| {
            spec.mounts.push(Mount::Bind(BindMount {
                source: PathBuf::from("/no/such/file"),
                target: PathBuf::from("/x"),
                readonly: true,
                recursive: false,
                options: BindOptions::default(),
            }));
        },
        "failed to mount `/no/such/file`",
    ),
];

fn add_setting(spec: &mut ContainerSpec, name: &str, value: &str) {
    spec.sysctls.insert(name.to_owned(), value.to_owned());
}

pub(crate) fn a_step_that_fails_stops_the_container() {
    require!(Need::Root);
    let world = World::new();
    let spec = world.spec("> /ran");
    for (change, expected) in FAILING {
        let mut spec = spec.clone();
        change(&mut spec);
        let error = try_run(&spec).expect_err("a step has failed");
        assert_eq!((error.to_string().as_str(), error.exit_code()), (expected, 125));
        assert!(!world.path("upper/ran").exists(), "{expected}");
    }
    // A filter that forbids what is needed to go on ends the process that installs it.
    let mut spec = spec;
    spec.seccomp = Seccomp::Profile(r#"{"defaultAction": "SCMP_ACT_KILL_PROCESS"}"#.to_owned());
    let ended = try_run(&spec).map(|done| done.outcome.exit);
    assert!(matches!(ended, Ok(Exit::Signal(31))), "killed by its filter: {ended:?}");
    assert!(!world.path("upper/ran").exists());
}

pub(crate) fn a_reader_that_goes_away_ends_the_writer() {
    require!(Need::Root);
    let world = World::new();
    let own = std::env::current_exe().expect("a running program has a file");
    // The kernel spares process 1 the signal of a broken pipe: `seq` is a child of the shell, and
    // the endless loop one of our process 1.
    for (script, options) in [("seq 1 1000000000", ""), ("while :; do echo 1; done", "init")] {
        let script = format!(
            "{{ {} {CALLER} {} {} '{script}' '{options}'; echo $? >&2; }} | head -n 1",
            own.display(),
            unique_id(),
            world.folder.path().display()
        );
        let command = Command::new("/bin/sh").args(["-c", &script]).env("PATH", "/usr/bin:/bin");
        let (_, text) = command.output(1000).expect("it runs");
        assert_eq!(String::from_utf8_lossy(&text), "1\n141\n", "{options}");
    }
}
