//! Builds, loads and containers that end in the middle: the store stays whole, the next one works.

use std::time::Duration;

use corten_testkit::privilege::Need;
use corten_testkit::{TestContext, require};

use crate::world::{with_base, with_data};

/// Kills the program at points spread over its run, and uses the store after each.
fn kill_sweep(context: &TestContext, arguments: &[&str], spread: Duration, after: impl Fn(u32)) {
    const POINTS: u32 = 12;
    for point in 0..POINTS {
        let running = context.command(arguments).start();
        std::thread::sleep(spread * point / POINTS);
        running.signal("KILL");
        drop(running.wait());
        let fsck = context.run(&["system", "fsck"]);
        assert_eq!(fsck.status.code(), Some(0), "at point {point}: {}", fsck.snapshot());
        after(point);
    }
    context.run(arguments).success();
}

#[test]
fn a_build_may_be_killed_at_any_time() {
    require!(Need::Root, Need::Overlay);
    let context = with_base();
    context.write("data", vec![1; 3 << 20]);
    context.write(
        "Dockerfile",
        "FROM base\nCOPY data /data\nRUN cat /data /data >/twice\nRUN touch /end\n",
    );
    let build = ["build", "-q", "--no-cache", "--network=none", "-t", "app", "."];
    kill_sweep(&context, &build, Duration::from_millis(300), |_| {});
    let run = ["run", "--rm", "--network=none", "app", "ls", "/end", "/twice"];
    context.run(&run).success();
    // Nothing of the killed builds is mounted or running.
    let mounts = std::fs::read_to_string("/proc/self/mounts").expect("proc is readable");
    let root = context.root_dir();
    assert!(!mounts.contains(&*root.to_string_lossy()), "{mounts}");
}

#[test]
fn a_load_may_be_killed_at_any_time() {
    let context = with_data();
    context.write("data/model.bin", vec![9; 6 << 20]);
    context.run(&["build", "-q", "-t", "big", "data"]).success();
    context.run(&["save", "-o", "big.tar", "big"]).success();
    context.run(&["rmi", "big"]).success();
    context.run(&["system", "prune", "--all"]).success();
    kill_sweep(&context, &["load", "-i", "big.tar"], Duration::from_millis(100), |_| {});
    context.run(&["history", "big"]).success();
}

#[test]
fn a_container_may_be_killed_at_any_time() {
    require!(Need::Root, Need::Overlay);
    let context = with_base();
    let run = ["run", "--rm", "--network=none", "base", "sh", "-c", "touch /x; sleep 0.02"];
    kill_sweep(&context, &run, Duration::from_millis(100), |_| {
        let listed = context.run(&["ps", "--quiet"]).success();
        assert_eq!(listed.stdout(), "", "a killed container runs on");
    });
}

#[test]
fn a_full_disk_is_said_and_survived() {
    require!(Need::Root, Need::Overlay, Need::Program("mount"));
    let context = with_data();
    let small = context.work_dir().join("small");
    corten_sys::file::create_dir(&small, 0o755).expect("the work directory is writable");
    let shell = |line: String| TestContext::new("/bin/sh").run(&["-c", &line]);
    shell(format!("mount -t tmpfs -o size=2m tmpfs {}", small.display())).success();
    let root = small.join("store").to_string_lossy().into_owned();
    context.write("data/model.bin", vec![3; 3 << 20]);
    let full = context.run(&["--root", &root, "build", "-q", "data"]);
    context.write("data/model.bin", vec![3; 1 << 16]);
    let fits = context.run(&["--root", &root, "build", "-q", "data"]);
    let fsck = context.run(&["--root", &root, "system", "fsck"]);
    shell(format!("umount {}", small.display())).success();
    assert_eq!(full.status.code(), Some(2));
    assert!(full.stderr().contains("no space"), "{}", full.stderr());
    assert!(full.stderr().contains("corten system prune"), "{}", full.stderr());
    fits.success();
    fsck.success();
}

#[test]
fn an_interruption_is_told_and_is_what_ends_the_process() {
    require!(Need::Root, Need::Overlay);
    let context = with_base();
    context.write("Dockerfile", "FROM base\nRUN echo begun; sleep 20\n");
    for (command, what) in [("build", "the build"), ("lock", "the lock")] {
        for (name, number, how) in [
            ("INT", 2, "was interrupted"),
            ("TERM", 15, "was ended by `SIGTERM`"),
            ("HUP", 1, "was ended by `SIGHUP`"),
        ] {
            let arguments = [command, "--no-cache", "--network=none", "."];
            let running = context.command(arguments).start();
            std::thread::sleep(Duration::from_millis(700));
            running.signal(name);
            let output = running.wait();
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&output.status), Some(number));
            let text = format!(
                "error: {what} {how}\nhint: what was done is kept: the same command goes on from there\n"
            );
            assert!(output.stderr().ends_with(&text), "{}", output.stderr());
            assert!(!context.work_dir().join("corten.lock").exists());
        }
    }
    // A reader of JSON gets nothing else.
    let running = context.command(["build", "--no-cache", "--progress=json", "."]).start();
    std::thread::sleep(Duration::from_millis(700));
    running.signal("INT");
    let output = running.wait();
    assert!(!output.stderr().contains("interrupted"), "{}", output.stderr());
}
