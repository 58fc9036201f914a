//! Outputs that end in the middle, on full disks, and as an ordinary user.

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use corten_sys::file;
use corten_testkit::privilege::Need;
use corten_testkit::{TestContext, require};

use crate::outputs::with_app;

#[test]
fn a_full_destination_is_said_and_nothing_half_stays() {
    require!(Need::Root, Need::Program("mount"));
    let context = with_app();
    context.write("app/late", vec![5; 3 << 20]);
    let small = context.work_dir().join("small");
    file::create_dir(&small, 0o755).expect("the work directory is writable");
    let shell = |line: String| TestContext::new("/bin/sh").run(&["-c", &line]);
    shell(format!("mount -t tmpfs -o size=1m tmpfs {}", small.display())).success();
    let mut failures = Vec::new();
    for spec in [
        "type=oci,dest=small/x.tar",
        "type=docker,dest=small/x.tar",
        "type=tar,dest=small/x.tar",
        "type=oci,tar=false,dest=small",
        "small",
    ] {
        let failed = context.run(&["build", "-q", "-o", spec, "app"]);
        let files = shell(format!("find {} -type f", small.display()));
        failures.push((spec, failed, files.stdout().to_owned()));
    }
    shell(format!("umount {}", small.display())).success();
    for (spec, failed, files) in failures {
        let failed = failed.code(2);
        assert!(failed.stderr().contains("No space left"), "{spec}: {}", failed.stderr());
        assert!(failed.stderr().contains("hint: free space"), "{spec}: {}", failed.stderr());
        assert!(!files.contains("partial") && !files.contains("x.tar"), "{spec}: {files}");
        assert!(!files.contains("index.json"), "{spec}: {files}");
    }
    context.run(&["system", "fsck"]).success();
}

#[test]
fn an_output_may_be_killed_at_any_time() {
    const POINTS: u32 = 12;
    let context = with_app();
    context.write("app/late", vec![5; 20 << 20]);
    context.run(&["build", "-q", "-o", "type=cacheonly", "app"]).success();
    let build = [
        "build",
        "-q",
        "-o",
        "type=tar,dest=files/x.tar",
        "-o",
        "type=oci,dest=files/y.tar",
        "app",
    ];
    let files = context.work_dir().join("files");
    file::create_dir(&files, 0o755).expect("the work directory is writable");
    context.run(&build).success();
    let whole = |name: &str| file::read(&files.join(name)).expect("it was written");
    let (x, y) = (whole("x.tar"), whole("y.tar"));
    for point in 0..POINTS {
        for name in ["x.tar", "y.tar"] {
            let path = files.join(name);
            if file::exists(&path).expect("it can be looked at") {
                file::remove_file(&path).expect("it can be removed");
            }
        }
        let running = context.command(build).start();
        std::thread::sleep(Duration::from_millis(u64::from(point) * 12));
        running.signal("KILL");
        drop(running.wait());
        for name in file::list_dir(&files).expect("it is there") {
            let name = name.to_string_lossy().into_owned();
            assert!(whole(&name) == if name == "x.tar" { x.as_slice() } else { &y }, "{name}");
        }
    }
    context.run(&build).success();
    context.run(&["system", "fsck"]).success();
}

#[test]
fn an_ordinary_user_gets_files_of_their_own() {
    require!(Need::Root, Need::UserNamespaces, Need::Program("newuidmap"));
    let context = with_app().as_user(54_321, 54_321);
    // Owners other than one's own need a range of ids; these files have none.
    context
        .write("app/Dockerfile", "FROM scratch\nCOPY --chmod=0555 bin /bin\nCOPY late /bin/late\n");
    for _ in 0..2 {
        context.run(&["build", "-q", "-o", "out", "-o", "type=oci,dest=x.tar", "app"]).success();
        for name in ["out", "out/bin", "out/bin/late", "x.tar"] {
            let found = file::metadata(&context.work_dir().join(name)).expect("it was written");
            assert_eq!((found.uid(), found.gid()), (54_321, 54_321), "{name}");
        }
    }
}
