//! `corten cp`: the rules of places, owners, links that lead elsewhere, and containers that do not run.

use std::collections::BTreeSet;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use corten_testkit::privilege::Need;
use corten_testkit::{TestContext, require};

use super::life::Containers;
use crate::world::with_root_files;

const NEEDS: [Need; 2] = [Need::Root, Need::Overlay];

/// What Docker 20.10 does, one copy a line: the direction, the words, and what is there afterwards or that
/// it is refused. Where a copy is refused, what is there stays as it was.
const PLACES: &str = include_str!("cp-places.txt");

/// What the container of the table has.
const IN_CONTAINER: &str = "mkdir -p /d/sub /empty; echo f >/d/f; echo g >/d/sub/g; echo file >/file; \
    ln -s /d /ld; ln -s d /rld; ln -s /file /lf; ln -s /nowhere /dangling";

/// What the host has, and the directory of the container that is copied to.
const ON_HOST: &str = "mkdir -p dir/sub edir; echo hf >hfile; echo a >dir/a; echo b >dir/sub/b; \
    ln -s dir ldir; ln -s hfile lfile; ln -s missing ldangling";
const AT_TARGET: &str = "mkdir -p dir real; echo old >file; ln -s real lreal; ln -s file lfile; \
    ln -s missing ldang";

fn shell(line: &str) {
    TestContext::new("/bin/sh").run(&["-ec", line]).success();
}

/// Everything below a directory, as the table spells it.
fn listed(root: &Path, below: &str, found: &mut BTreeSet<String>) {
    let folder = root.join(below);
    for name in corten_sys::file::list_dir(&folder).expect("it is a directory") {
        let path = folder.join(&name);
        let name = Path::new(below).join(&name).to_string_lossy().into_owned();
        let metadata = corten_sys::file::symlink_metadata(&path).expect("it is there");
        if metadata.is_symlink() {
            let target = std::fs::read_link(&path).expect("it is a link");
            found.insert(format!("{name}->{}", target.display()));
        } else if metadata.is_dir() {
            found.insert(format!("{name}/"));
            listed(root, &name, found);
        } else {
            let content = corten_sys::file::read(&path).expect("it is a file");
            found.insert(format!("{name}={}", String::from_utf8_lossy(&content).trim()));
        }
    }
}

fn list(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    listed(root, "", &mut found);
    found
}

#[test]
fn places_are_those_of_docker() {
    require!(NEEDS[0], NEEDS[1], Need::Program("sh"));
    let all = Containers::new();
    // What is copied to is a directory of the host's, so that it can be made anew for each line.
    let target = all.0.work_dir().join("target");
    corten_sys::file::create_dir(&target, 0o755).expect("the work directory is writable");
    let volume = format!("{}:/t", target.display());
    all.run("one", &["-v", &volume], &format!("{IN_CONTAINER}; exec sleep 1000"));
    all.until("the container's files", |all| {
        all.0.run(&["exec", "one", "cat", "/dangling-is-there"]).status.code() == Some(1)
            && all
                .ok(&["exec", "one", "sh", "-c", "ls -d /dangling 2>&1; true"])
                .contains("/dangling")
    });
    let host = all.0.work_dir().join("host");
    let mut wrong = Vec::new();
    for line in PLACES.lines().filter(|line| !line.starts_with('#')) {
        let (words, expected) = line.split_once(" | ").expect("a line has two parts");
        let mut words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        let is_out = words.remove(0) == "out";
        let (folder, before) = if is_out { (&host, ON_HOST) } else { (&target, AT_TARGET) };
        let anew = |folder: &Path, line: &str| {
            let shown = folder.display();
            shell(&format!("mkdir -p {shown}; cd {shown}; rm -rf -- *; {line}"));
        };
        anew(&host, ON_HOST);
        anew(folder, before);
        let unchanged = list(folder);
        let at = if is_out { words.len() - 2 } else { words.len() - 1 };
        words[at] = format!("one:{}", words[at]);
        words.insert(0, "cp".to_owned());
        let output = all.0.command(&words).dir(&host).run();
        let expected = match expected {
            "refused" => None,
            names => Some(names.split(' ').map(str::to_owned).collect::<BTreeSet<String>>()),
        };
        let (succeeded, found) = (output.status.success(), list(folder));
        if succeeded != expected.is_some() || found != *expected.as_ref().unwrap_or(&unchanged) {
            wrong.push(format!("{line}\n  {succeeded} {found:?}\n  {}", output.stderr().trim()));
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_stopped_container_is_copied_to_and_from_as_a_running_one() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    all.0.write("file", "one\n");
    all.ok(&[
        "create",
        "--network=none",
        "--name=one",
        "-v",
        "kept:/v",
        "base",
        "cat",
        "/f",
        "/v/f",
    ]);
    for to in ["one:/f", "one:/v/f"] {
        let copied = all.0.run(&["cp", "file", to]).success();
        assert_eq!(copied.stderr(), format!("copied 1 file to {to}\n"));
    }
    assert_eq!(all.field("one", "State"), "created", "it was not run by that");
    all.ok(&["start", "one"]);
    all.ok(&["wait", "one"]);
    assert_eq!(all.ok(&["logs", "one"]), "one\none\n");
    all.0.run(&["cp", "-q", "one:/v/f", "back"]).success().check(&expect_test::expect![[r#"
        exit: 0
        --- stdout
        --- stderr
    "#]]);
    assert_eq!(all.0.read("back"), "one\n");
    let readonly = ["create", "--network=none", "--name=two", "--read-only", "base", "true"];
    all.ok(&readonly);
    let refused = all.0.run(&["cp", "file", "two:/f"]).code(2);
    assert!(refused.stderr().contains("Read-only file system"), "{}", refused.stderr());
    let mounts =
        corten_sys::file::read(Path::new("/proc/self/mountinfo")).expect("every Linux has it");
    let store = all.0.root_dir().to_string_lossy().into_owned();
    assert!(!String::from_utf8_lossy(&mounts).contains(&store), "something is left mounted");
}

#[test]
fn a_tar_goes_through_standard_input_and_output() {
    require!(NEEDS[0], NEEDS[1], Need::Program("tar"), Need::Program("gzip"));
    let all = Containers::new();
    all.run(
        "one",
        &[],
        "mkdir -p /a/b /to/real; echo x >/a/b/f; ln -s real /to/link; exec sleep 1000",
    );
    all.until("its files", |all| all.0.run(&["exec", "one", "ls", "/to/link"]).status.success());
    let work = all.0.work_dir();
    let corten = env!("CARGO_BIN_EXE_corten");
    let root = all.0.root_dir();
    let line = format!(
        "cd {}; corten() {{ {corten} --root {} \"$@\"; }}; \
         corten cp one:/a - | tar -x; corten cp one:/a/. - | tar -t; \
         mkdir link; echo y >link/g; tar -cz link/g | corten cp -q - one:/to; \
         tar -c a | corten cp -q - one:/a/b/f",
        work.display(),
        root.display()
    );
    let output = TestContext::new("/bin/sh").run(&["-c", &line]);
    assert_eq!(output.stdout(), "b/\nb/f\n", "{}", output.stderr());
    assert_eq!(all.0.read("a/b/f"), "x\n");
    assert!(output.stderr().contains("the destination of an archive is no directory"));
    let seen = all.ok(&["exec", "one", "cat", "/to/real/g"]);
    assert_eq!(seen, "y\n", "a link of the container is followed in the container");
}

#[test]
fn owners_are_numbers_of_the_container() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    let line = "echo x >/f; chown 12:34 /f; chmod 4755 /f; exec sleep 1000";
    all.run("one", &[], line);
    all.until("its file", |all| {
        all.ok(&["exec", "one", "sh", "-c", "ls -ln /f 2>&1; true"])
            .starts_with("-rwsr-xr-x 1 12 34 ")
    });
    all.0.run(&["cp", "one:/f", "mine"]).success();
    all.0.run(&["cp", "-a", "one:/f", "theirs"]).success();
    let look = |name: &str| {
        let metadata =
            corten_sys::file::metadata(&all.0.work_dir().join(name)).expect("it is there");
        (metadata.uid(), metadata.gid(), metadata.permissions().mode() & 0o7777)
    };
    assert_eq!(look("mine"), (0, 0, 0o755), "what becomes ours lends no rights");
    assert_eq!(look("theirs"), (12, 34, 0o4755));
    all.0.run(&["cp", "theirs", "one:/g"]).success();
    assert!(all.ok(&["exec", "one", "ls", "-ln", "/g"]).starts_with("-rwsr-xr-x 1 12 34 "));
}

#[test]
fn no_link_of_a_container_leads_to_a_file_of_the_host() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    let secret = all.0.write("host/secret", "of the host\n");
    let host = secret.parent().expect("it has one").display().to_string();
    all.0.write("file", "from outside\n");
    // The container has a directory of the same name; links and directories take turns, all the time.
    let line = format!(
        "mkdir -p {host} /d; echo of the container >{host}/secret; \
         while :; do ln -sfn {host} /d/x; ln -sfn ../../../../../../../..{host} /d/x; rm -f /d/x; \
         mkdir /d/x; echo of the container >/d/x/secret; rm -r /d/x; done"
    );
    all.run("one", &[], &line);
    let mut read = 0;
    for _ in 0..60 {
        // Whether there is a directory at that moment is chance.
        let tried = |words: &[&str]| {
            let output = all.0.run(words);
            assert!(matches!(output.status.code(), Some(0 | 2)), "{}", output.snapshot());
        };
        tried(&["cp", "-q", "file", "one:/d/x/new"]);
        let copied = all.0.run(&["cp", "-q", "-L", "one:/d/x/secret", "got"]);
        if copied.status.success() {
            read += 1;
            // The shell makes the file first, and then writes into it.
            let got = all.0.read("got");
            assert!(["", "of the container\n"].contains(&got.as_str()), "{got}");
        }
        tried(&["cp", "-q", "one:/d", "tree"]);
    }
    assert!(read > 0, "nothing was ever copied");
    assert_eq!(all.0.read("host/secret"), "of the host\n");
    let names = corten_sys::file::list_dir(&all.0.work_dir().join("host")).expect("it is there");
    assert_eq!(names, ["secret"], "something was written to the host");
}

#[test]
fn an_ordinary_user_copies_too() {
    require!(Need::Root, Need::UserNamespaces, Need::RootlessOverlay, Need::Program("newuidmap"));
    let context = with_root_files().as_user(54_321, 54_321);
    context.run(&["build", "-q", "--network=none", "-t", "base", "base"]).success();
    let line = "echo x >/t; mv /t /f; exec sleep 1000";
    context.run(&["run", "-d", "--name=one", "--network=none", "base", "sh", "-c", line]).success();
    let looks = (0..200).map(|_| context.run(&["cp", "one:/f", "got"]));
    assert!(looks.into_iter().any(|copied| copied.status.success()), "nothing was copied");
    assert_eq!(context.read("got"), "x\n");
    context.run(&["cp", "got", "one:/g"]).success();
    assert_eq!(context.run(&["exec", "one", "cat", "/g"]).success().stdout(), "x\n");
    context.run(&["stop", "-t", "0", "one"]).success();
    context.run(&["cp", "one:/g", "again"]).success();
    context.run(&["cp", "again", "one:/h"]).success();
    context.run(&["cp", "one:/h", "-"]).success();
    context.run(&["rm", "one"]).success();
}

#[test]
fn what_cannot_be_copied_is_said() {
    require!(NEEDS[0], NEEDS[1]);
    let all = Containers::new();
    all.ok(&["create", "--network=none", "--name=one", "base", "true"]);
    all.0.write("file", "x");
    let told = |words: &[&str]| all.0.run(words).code(2).stderr().to_owned();
    let error = told(&["cp", "one:/nothing", "x"]);
    assert_eq!(error, "error: there is no file `/nothing` in the container\n");
    let error = told(&["cp", "nothing", "one:/x"]);
    assert!(error.contains("there is no file `") && error.contains("/nothing` here"), "{error}");
    let error = told(&["cp", "file", "one:/no/x"]);
    assert!(error.contains("failed to open `/no`"), "{error}");
    let error = told(&["cp", "file", "one:/dev/null"]);
    assert!(error.contains("neither a directory nor a regular file"), "{error}");
    let error = told(&["cp", "one:/a", "one:/b"]);
    assert!(error.contains("from one container to another"), "{error}");
    let error = told(&["cp", "a", "b"]);
    assert!(error.contains("neither the source nor the destination is of a container"), "{error}");
    let error = told(&["cp", "none:/a", "b"]);
    assert!(error.contains("no container `none`"), "{error}");
}
