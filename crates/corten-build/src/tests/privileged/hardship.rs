//! Disks without space, files without rights, and builds that are killed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use corten_store::{Repair, Store, StoreOptions};
use corten_sys::file;
use corten_testkit::{Need, require};
use expect_test::expect;

use crate::run::RunOutcome;
use crate::tests::world::{Pretender, Stored, World, told};
use crate::{BuildOptions, Context, DockerfileText};

/// Begins the argument that tells this test program, started once more, what to build. It matches
/// no test.
const PREFIX: &str = "corten-child:";

/// How often a build is killed.
const KILLS: u64 = 16;

/// Many files, so that a kill comes in the middle of a `COPY` or of what a `RUN` writes.
const FILES: u32 = 400;

const DOCKERFILE: &str = "FROM base\nCOPY many /many\nRUN fill\nCOPY one /\nCMD [\"x\"]\n";

#[expect(clippy::disallowed_methods, reason = "the test program runs others, with its own output")]
fn program(name: impl AsRef<std::ffi::OsStr>) -> Command {
    Command::new(name)
}

fn mount(arguments: &[&str], target: &Path) {
    let status = program("mount").args(arguments).arg(target).status().unwrap();
    assert!(status.success(), "mount {arguments:?}");
}

fn assert_whole(store: &Store) {
    let report = store.fsck(Repair::No).unwrap();
    assert_eq!((report.problems, report.lost), (vec![], 0));
}

#[test]
fn a_full_disk_is_told_and_the_next_build_works() {
    require!(Need::Root, Need::Program("mount"));
    let world = World::on(|root| mount(&["-t", "tmpfs", "-o", "size=1m", "corten-test"], root));
    world.write("large", &"x".repeat(4 << 20));
    let told = |world: &World, text: &str| {
        let text = told(&world.try_build(text).unwrap_err());
        let text = text.replace(&*world.store.root().to_string_lossy(), "STORE");
        // The place in `tmp/` has a random name.
        let at = text.find("STORE/tmp/");
        let end = at.and_then(|at| Some(at + text[at..].find('`')?));
        match (at, end) {
            (Some(at), Some(end)) => format!("{}STORE/tmp/…{}", &text[..at], &text[end..]),
            _ => text,
        }
    };
    expect![[r#"
        error: no space is left for the store at `STORE`
         --> Dockerfile:2:1
          |
        2 | COPY large /
          | ^^^^^^^^^^^^
          |
          = note: caused by: failed to write `STORE/tmp/…`
          = note: caused by: No space left on device (os error 28)
        hint: free space on the disk of `STORE`, or run `corten system prune`
    "#]]
    .assert_eq(&told(&world, "FROM base\nCOPY large /\n"));
    assert_whole(&world.store);
    mount(&["-o", "remount,size=16m"], world.store.root());
    world.build("FROM base\nCOPY large /\n");
    assert_whole(&world.store);
}

#[test]
fn a_file_that_may_not_be_read_is_told() {
    require!(Need::Root, Need::Program("setpriv"));
    let world = World::new();
    world.write("config/key.pem", "");
    file::set_mode(&world.context().join("config/key.pem"), 0).unwrap();
    // Root without the capability that lets it read everything.
    let capabilities = "-dac_override,-dac_read_search";
    let mut child = program("setpriv");
    child.args(["--bounding-set", capabilities, "--inh-caps", capabilities]);
    child.arg(std::env::current_exe().unwrap());
    let output = arguments(&mut child, "once", &world).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let begin = text.find("error: ").unwrap_or_default();
    let end = text.find("\nbuilt nothing").unwrap_or(text.len());
    let text = text[begin..end].replace(&*world.context().to_string_lossy(), "CONTEXT");
    expect![[r#"
        error: failed to open `CONTEXT/config/key.pem`
         --> Dockerfile:3:1
          |
        3 | COPY config /etc/app/
          | ^^^^^^^^^^^^^^^^^^^^^
          |
          = note: caused by: Permission denied (os error 13)
        hint: make the file readable, or leave it out of the context with `.dockerignore`
    "#]]
    .assert_eq(&text);
}

#[test]
fn a_build_that_is_killed_leaves_the_store_whole_and_the_next_one_works() {
    require!(Need::Root);
    let world = World::new();
    for number in 0..FILES {
        world.write(&format!("many/{number}"), &number.to_string());
    }
    world.write("one", "1");
    let options = StoreOptions::new(world.store.root());
    for kill in 0..KILLS {
        let mut child = spawn("forever", &world);
        // Different moments: while the process starts, hashes, copies, runs, stores.
        std::thread::sleep(Duration::from_millis(5 + kill * kill * 13 % 180));
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::open(&options).unwrap();
        assert_whole(&store);
        let built = build(&store, &world.options(DOCKERFILE));
        assert_eq!(built.layers.len(), 4, "after the kill {kill}");
        assert_whole(&store);
    }
    // What the dead left is gone with the next writer: neither files nor locks stay.
    let store = Store::open(&options).unwrap();
    build(&store, &BuildOptions { no_cache: true, ..world.options(DOCKERFILE) });
    drop(store);
    for folder in ["tmp", "leases"] {
        let left = file::list_dir(&world.store.root().join(folder)).unwrap();
        assert!(left.len() <= 1, "only what this process holds is left in {folder}: {left:?}");
    }
}

fn spawn(task: &str, world: &World) -> Child {
    let mut child = program(std::env::current_exe().unwrap());
    arguments(&mut child, task, world).stdout(Stdio::null()).spawn().unwrap()
}

fn arguments<'a>(child: &'a mut Command, task: &str, world: &World) -> &'a mut Command {
    let task = format!("{PREFIX}{task}:{}", world.temp.path().display());
    let test = "tests::privileged::hardship::child_process";
    child.args([test, "--exact", "--nocapture", &task]).stdin(Stdio::null())
}

/// The entry point of the processes; as a test of its own it does nothing.
#[test]
fn child_process() {
    let Some(task) = std::env::args().find_map(|arg| arg.strip_prefix(PREFIX).map(str::to_owned))
    else {
        return;
    };
    let (task, world) = task.split_once(':').unwrap();
    let world = PathBuf::from(world);
    let options = |text| {
        let context = Context::Directory(world.join("context"));
        BuildOptions::new(context, DockerfileText::inline("Dockerfile", text))
    };
    let open = || Store::open(&StoreOptions::new(world.join("store"))).unwrap();
    match task {
        "once" => {
            let store = open();
            let options = options("FROM base\nRUN long\nCOPY config /etc/app/\n");
            let executor = Pretender::default();
            let reporter = corten_diag::Silent;
            let built = crate::build(&options, &store, &Stored(&store), &executor, &reporter);
            print(&format!("{}\nbuilt nothing\n", told(&built.unwrap_err())));
        }
        "forever" => loop {
            build(&open(), &BuildOptions { no_cache: true, ..options(DOCKERFILE) });
        },
        other => panic!("unknown task {other}"),
    }
}

#[expect(clippy::print_stdout, reason = "the test that started this process reads it")]
fn print(text: &str) {
    println!("{text}");
}

/// Builds with a command that writes many files, one after the other.
fn build(store: &Store, options: &BuildOptions) -> corten_store::Image {
    let executor = Pretender::default();
    *executor.hook.lock().unwrap() = Some(Arc::new(|step, _| {
        for number in 0..FILES {
            file::write(&step.upper.join(format!("made-{number}")), b"content").unwrap();
        }
        RunOutcome::exited(0)
    }));
    crate::build(options, store, &Stored(store), &executor, &corten_diag::Silent).unwrap()
}
