//! Contexts and files from elsewhere: streams, HTTP, git.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use corten_oci::digest::Digest;
use corten_oci::tar::{EntryKind, Writer};
use corten_oci::tree::{Meta, TreePath};
use corten_sys::command::{Command, find_program};
use corten_testkit::privilege::Need;
use corten_testkit::{TestContext, require};
use expect_test::expect;

/// Where the tools of others are.
const SEARCH_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

/// A tar of files, or of what a name ending in another way says.
fn tar(entries: &[(&str, EntryKind, &str)]) -> Vec<u8> {
    let mut writer = Writer::new(Vec::new());
    for (path, kind, content) in entries {
        let path = TreePath::new(path.as_bytes()).expect("the tar can be written");
        let meta = Meta { mode: 0o644, ..Meta::default() };
        writer.entry(&path, &meta, kind).expect("the tar can be written");
        writer.content(content.as_bytes()).expect("the tar can be written");
    }
    writer.finish().expect("the tar can be written").0
}

fn file(content: &str) -> EntryKind {
    EntryKind::File { size: content.len() as u64 }
}

fn files(entries: &[(&str, &str)]) -> Vec<u8> {
    let entries: Vec<_> =
        entries.iter().map(|(path, content)| (*path, file(content), *content)).collect();
    tar(&entries)
}

/// A tar whose one name is what the writer would not write.
fn tar_named(name: &str) -> Vec<u8> {
    let mut bytes = files(&[("0123456789", "x")]);
    let header = &mut bytes[..512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[name.len()..100].fill(0);
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    bytes
}

fn build(context: &TestContext, stdin: Vec<u8>, arguments: &[&str]) -> corten_testkit::Output {
    let all: Vec<&str> = ["build", "--quiet", "-t", "x"].iter().chain(arguments).copied().collect();
    context.command(&all).stdin(stdin).run()
}

/// Leaves out the identifiers that are printed.
fn id(output: &corten_testkit::Output) -> String {
    output.stdout().trim().to_owned()
}

/// Nothing of a context stays in the store.
fn assert_tidy(context: &TestContext) {
    let left = corten_sys::file::list_dir(&context.root_dir().join("tmp")).unwrap_or_default();
    assert!(left.is_empty(), "left behind: {left:?}");
}

#[test]
fn a_tar_on_standard_input_is_a_context_however_it_is_compressed() {
    let context = corten_testkit::context!();
    let plain = files(&[("Dockerfile", "FROM scratch\nCOPY a /\n"), ("a", "content")]);
    context.write("in.tar", &plain);
    let first = build(&context, plain, &["-"]).success();
    for (program, arguments) in
        [("gzip", ["-c"]), ("bzip2", ["-c"]), ("xz", ["-c"]), ("zstd", ["-c"])]
    {
        let Some(path) = find_program(program, SEARCH_PATH.as_ref()) else { continue };
        let packed = TestContext::new(path)
            .command([arguments[0], "in.tar"])
            .dir(context.work_dir())
            .run()
            .success();
        let next = build(&context, packed.stdout.clone(), &["-"]).success();
        assert_eq!(id(&first), id(&next), "{program}");
    }
    assert_tidy(&context);
}

#[test]
fn a_dockerfile_on_standard_input_has_no_context() {
    let context = corten_testkit::context!();
    build(&context, b"FROM scratch\nLABEL a=b\n".to_vec(), &["-"]).success();
    build(&context, b"FROM scratch\nCOPY a /\n".to_vec(), &["-"]).check(&expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: failed to find `a` in the build context
         --> Dockerfile:2:6
          |
        2 | COPY a /
          |      ^
        hint: paths count from the top of the context: name the file as it is called there, or build with another directory
    "#]]);
    build(&context, Vec::new(), &["-"]).check(&expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: the context on standard input is empty
    "#]]);
    let text = b"FROM scratch\n".to_vec();
    build(&context, text.clone(), &["-f", "Other", "-"]).check(&expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: the context on standard input is a Dockerfile, so `--file` cannot name another one
        hint: give a tar, or leave out `--file`
    "#]]);
    build(&context, text, &["-f", "-", "-"]).check(&expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: standard input cannot be both the context and the Dockerfile
        hint: give the context as a directory, or `--file` as a path in it
    "#]]);
}

#[test]
fn the_dockerfile_and_ignore_file_are_those_of_the_tar() {
    let context = corten_testkit::context!();
    let bytes = files(&[
        (".dockerignore", "hidden\n"),
        ("docker/Other", "FROM scratch\nCOPY . /\n"),
        ("hidden", "no"),
        ("shown", "yes"),
    ]);
    build(&context, bytes.clone(), &["-f", "docker/Other", "-o", "out", "-"]).success();
    assert_eq!(context.read("out/shown"), "yes");
    assert!(!context.work_dir().join("out/hidden").exists());
    build(&context, bytes, &["-"]).check(&expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: there is no `Dockerfile` in the context on standard input
        hint: name it with `--file`, as a path in the context
    "#]]);
    context.write("ctx.tar", b"x");
    context.check(
        &["build", "ctx.tar"],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: the build context `ctx.tar` is no directory
          caused by: failed to open `ctx.tar`
          caused by: Not a directory (os error 20)
        hint: a tar is read from standard input: `corten build - < ctx.tar`
    "#]],
    );
}

#[test]
fn hostile_tars_are_refused_and_leave_nothing() {
    let context = corten_testkit::context!();
    let outside = context.work_dir().join("outside");
    let link = EntryKind::Symlink(outside.to_string_lossy().into_owned().into_bytes());
    let device = EntryKind::CharDevice { major: 1, minor: 3 };
    let cut = {
        let mut bytes = files(&[("Dockerfile", "FROM scratch\n"), ("a", &"x".repeat(5000))]);
        bytes.truncate(3000);
        bytes
    };
    let mut text = String::new();
    for (what, bytes) in [
        ("leads out", tar_named("../up")),
        ("a device", tar(&[("null", device, "")])),
        ("a mark", tar_named(".wh.x")),
        ("cut off", cut),
        ("no tar", vec![0x1f, 0x8b, 8, 0, 1, 2, 3]),
        ("no file", files(&[("Dockerfile/x", "")])),
    ] {
        let output = build(&context, bytes, &["-"]).code(2);
        text.push_str(&format!("{what}\n{}", output.stderr()));
        assert_tidy(&context);
    }
    expect![[r#"
        leads out
        error: failed to unpack the context on standard input
          caused by: failed to unpack the archive
          caused by: the archive has the entry `../up`, which leads out of it
        a device
        error: failed to unpack the context on standard input
          caused by: failed to unpack the archive
          caused by: the archive has the entry `null`, which is a device or a pipe
        a mark
        error: failed to unpack the context on standard input
          caused by: failed to unpack the archive
          caused by: the archive has the entry `.wh.x`, which would be a deletion mark in an image
        cut off
        error: failed to unpack the context on standard input
          caused by: failed to unpack the archive
          caused by: failed to read the archive
          caused by: the tar ends too early, at byte 3000
        no tar
        error: failed to unpack the context on standard input
          caused by: failed to unpack the archive
          caused by: the archive is damaged
          caused by: failed to read the tar at byte 0
          caused by: unexpected end of file
        no file
        error: failed to read `Dockerfile`
          caused by: Is a directory (os error 21)
    "#]]
    .assert_eq(&text);
    // An absolute name and a link are taken from the top of the context, wherever they point.
    let bytes = tar(&[
        ("Dockerfile", file("FROM scratch\nCOPY in/x /\n"), "FROM scratch\nCOPY in/x /\n"),
        ("in", link, ""),
        ("in/x", file("inside"), "inside"),
    ]);
    build(&context, bytes, &["-o", "out", "-"]).success();
    assert!(!outside.exists(), "nothing was written outside");
    let leak = tar(&[("Dockerfile", EntryKind::Symlink(b"/etc/passwd".to_vec()), "")]);
    let output = build(&context, leak, &["-"]).code(2);
    assert!(output.stderr().contains("there is no `Dockerfile`"), "{}", output.stderr());
}

/// Answers requests of HTTP, one a connection.
pub(crate) struct Server {
    port: u16,
    asked: Arc<Mutex<Vec<String>>>,
    answers: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
}

impl Server {
    /// Each answer is everything from the status on.
    pub(crate) fn new(answers: &[(&str, Vec<u8>)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback works");
        let port = listener.local_addr().expect("loopback works").port();
        let answers: BTreeMap<String, Vec<u8>> =
            answers.iter().map(|(path, answer)| ((*path).to_owned(), answer.clone())).collect();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let answers = Arc::new(Mutex::new(answers));
        let (heard, current) = (Arc::clone(&asked), Arc::clone(&answers));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let answers = current.lock().expect("loopback works").clone();
                serve(&stream.expect("loopback works"), &answers, &heard);
            }
        });
        Self { port, asked, answers }
    }

    /// Has another answer from now on.
    pub(crate) fn put(&self, path: &str, answer: Vec<u8>) {
        self.answers.lock().expect("loopback works").insert(path.to_owned(), answer);
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().expect("loopback works"))
    }
}

fn serve(stream: &TcpStream, answers: &BTreeMap<String, Vec<u8>>, heard: &Mutex<Vec<String>>) {
    let mut lines = Vec::new();
    for line in BufReader::new(stream).lines() {
        let line = line.expect("loopback works");
        if line.is_empty() {
            break;
        }
        lines.push(line);
    }
    let Some(first) = lines.first() else { return };
    let path = first.split(' ').nth(1).expect("loopback works").to_owned();
    let conditional = lines.iter().any(|line| line.eq_ignore_ascii_case("if-none-match: \"1\""));
    let missing = b"404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec();
    let answer = match answers.get(&path) {
        Some(answer) if conditional && has_tag(answer) => b"304 Not Modified\r\n\r\n".to_vec(),
        Some(answer) => answer.clone(),
        None => missing,
    };
    heard.lock().expect("loopback works").push(if conditional {
        format!("{path} if changed")
    } else {
        path
    });
    let mut to = stream;
    to.write_all(b"HTTP/1.1 ").expect("loopback works");
    to.write_all(&answer).expect("loopback works");
    stream.shutdown(std::net::Shutdown::Write).expect("loopback works");
    // The other side may have more to say than is needed.
    drop(to.take(1).read(&mut [0]));
}

/// Whether an answer is the version that clients ask for.
fn has_tag(answer: &[u8]) -> bool {
    String::from_utf8_lossy(answer).contains("ETag: \"1\"")
}

pub(crate) fn ok(body: &[u8]) -> Vec<u8> {
    let mut answer = format!(
        "200 OK\r\nContent-Length: {}\r\nETag: \"1\"\r\n\
         Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT\r\nConnection: close\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(body);
    answer
}

#[test]
fn add_fetches_a_file_once_and_asks_whether_it_changed() {
    let server = Server::new(&[("/dir/model.bin", ok(b"weights"))]);
    let url = server.url("/dir/model.bin");
    let context = corten_testkit::context!().with_env("SOURCE_DATE_EPOCH", "1000000000");
    context.write("Dockerfile", format!("FROM scratch\nADD {url} /m/\n"));
    let first = build(&context, Vec::new(), &["."]).success();
    let second = build(&context, Vec::new(), &["."]).success();
    assert_eq!(id(&first), id(&second));
    assert_eq!(server.asked(), ["/dir/model.bin", "/dir/model.bin if changed"]);
    build(&context, Vec::new(), &["-o", "out", "."]).success();
    assert_eq!(context.read("out/m/model.bin"), "weights");
    let metadata =
        std::fs::metadata(context.work_dir().join("out/m/model.bin")).expect("loopback works");
    assert_eq!((metadata.mode() & 0o7777, metadata.mtime()), (0o600, 784_111_777));
    server.asked();
    let digest = Digest::of(b"weights");
    context.write("Dockerfile", format!("FROM scratch\nADD --checksum={digest} {url} /m/\n"));
    build(&context, Vec::new(), &["."]).success();
    assert!(server.asked().is_empty(), "what is known is not asked for");
    assert_tidy(&context);
}

#[test]
fn add_unpacks_only_when_told_to() {
    let server = Server::new(&[("/x.tar", ok(&files(&[("a", "content")])))]);
    let url = server.url("/x.tar");
    let context = corten_testkit::context!();
    context.write("local", "local");
    context.write("Dockerfile", format!("FROM scratch\nADD --chmod=644 {url} local /d/\n"));
    build(&context, Vec::new(), &["-o", "out", "."]).success();
    assert!(context.work_dir().join("out/d/x.tar").exists());
    assert_eq!(context.read("out/d/local"), "local");
    context.write("Dockerfile", format!("FROM scratch\nADD --unpack=true {url} /d/\n"));
    build(&context, Vec::new(), &["-o", "out2", "."]).success();
    assert_eq!(context.read("out2/d/a"), "content");
}

#[test]
fn what_a_server_does_wrong_is_told_at_the_line() {
    let cut = b"200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\nshort".to_vec();
    let again = b"302 Found\r\nLocation: /loop\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    let server = Server::new(&[("/x", ok(b"x")), ("/cut", cut), ("/loop", again.to_vec())]);
    let port = server.port.to_string();
    let context = corten_testkit::context!().with_mask(port.clone(), "PORT");
    let other = Digest::of(b"other");
    let mut text = String::new();
    for source in [
        server.url("/missing"),
        server.url("/cut"),
        server.url("/loop"),
        format!("--checksum={other} {}", server.url("/x")),
        format!("http://user:secret@127.0.0.1:{port}/missing"),
    ] {
        context.write("Dockerfile", format!("FROM scratch\nADD {source} /m/\n"));
        let output = context.run(&["build", "."]).code(2);
        assert!(!output.stderr().contains("secret"), "{}", output.stderr());
        text.push_str(&output.snapshot());
    }
    expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: `http://127.0.0.1:[PORT]/missing` was answered with status 404
         --> Dockerfile:2:5
          |
        2 | ADD http://127.0.0.1:[PORT]/missing /m/
          |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
        hint: look for a misspelling
        exit: 2
        --- stdout
        --- stderr
        note: fetching `http://127.0.0.1:[PORT]/cut`
        error: failed to read `http://127.0.0.1:[PORT]/cut`
         --> Dockerfile:2:5
          |
        2 | ADD http://127.0.0.1:[PORT]/cut /m/
          |     ^^^^^^^^^^^^^^^^^^^^^^^^^^
          |
          = note: caused by: Peer disconnected
        exit: 2
        --- stdout
        --- stderr
        error: `http://127.0.0.1:[PORT]/loop` redirects more than 10 times
         --> Dockerfile:2:5
          |
        2 | ADD http://127.0.0.1:[PORT]/loop /m/
          |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^
        exit: 2
        --- stdout
        --- stderr
        note: fetching `http://127.0.0.1:[PORT]/x`
        error: `http://127.0.0.1:[PORT]/x` has the digest `sha256:[DIGEST]`, expected `sha256:[DIGEST]`
         --> Dockerfile:2:88
          |
        2 | ADD --checksum=sha256:[DIGEST] http://127.0.0.1:[PORT]/x /m/
          |                                                                                        ^^^^^^^^^^^^^^^^^^^^^^^^
        hint: if the new content is right, write `--checksum=sha256:[DIGEST]`; else do not use it
        exit: 2
        --- stdout
        --- stderr
        error: `http://127.0.0.1:[PORT]/missing` was answered with status 404
        --> Dockerfile
        hint: look for a misspelling
    "#]].assert_eq(&text);
    assert_tidy(&context);
}

#[test]
fn a_context_may_be_fetched() {
    let tar = files(&[("Dockerfile", "FROM scratch\nCOPY a /\n"), ("a", "content")]);
    let server =
        Server::new(&[("/c.tar", ok(&tar)), ("/Dockerfile", ok(b"FROM scratch\nLABEL a=b\n"))]);
    let context = corten_testkit::context!();
    build(&context, Vec::new(), &["-o", "out", &server.url("/c.tar")]).success();
    assert_eq!(context.read("out/a"), "content");
    build(&context, Vec::new(), &[&server.url("/Dockerfile")]).success();
    // As a further context, and as the base of a stage.
    context.write(
        "Dockerfile",
        "FROM scratch\nCOPY --from=more a /b\nFROM more\nCOPY --from=0 b /c\n",
    );
    let more = format!("more={}", server.url("/c.tar"));
    build(&context, Vec::new(), &["--build-context", &more, "-o", "out2", "."]).success();
    assert_eq!(context.read("out2/a") + &context.read("out2/c"), "contentcontent");
    assert_tidy(&context);
}

#[test]
fn a_directory_or_a_stage_may_be_the_base_of_a_stage() {
    let context = corten_testkit::context!();
    context.write("more/a", "content");
    context.write("Dockerfile", "FROM scratch AS one\nCOPY Dockerfile /\nFROM more\n");
    build(&context, Vec::new(), &["--build-context", "more=more", "-o", "out", "."]).success();
    assert_eq!(context.read("out/a"), "content");
    build(&context, Vec::new(), &["--build-context", "more=target:one", "-o", "out2", "."])
        .success();
    assert!(context.work_dir().join("out2/Dockerfile").exists());
    context.check(
        &["build", "--build-context", "more=target:no", "."],
        &expect![[r#"
            exit: 2
            --- stdout
            --- stderr
            error: there is no stage `no` for `target:no`
             --> Dockerfile:3:6
              |
            3 | FROM more
              |      ^^^^
        "#]],
    );
}

#[test]
fn an_image_of_a_layout_may_be_the_base_of_a_stage() {
    let context = super::world::with_data();
    context.run(&["build", "-o", "type=oci,dest=layout,tar=false", "data"]).success();
    let there = corten_testkit::context!();
    let layout = format!("base=oci-layout://{}", context.work_dir().join("layout").display());
    there.write("Dockerfile", "FROM base\nCOPY --from=base notes.txt /more\n");
    build(&there, Vec::new(), &["--build-context", &layout, "-o", "out", "."]).success();
    assert_eq!(there.read("out/more"), "notes\n");
    let listed = there.run(&["images", "-q"]).success();
    assert!(listed.stdout().lines().count() <= 1, "{}", listed.stdout());
    let missing = format!("{layout}:nosuch");
    let output = build(&there, Vec::new(), &["--build-context", &missing, "."]).code(2);
    assert!(output.stderr().contains("it has no image `nosuch`"), "{}", output.stderr());
}

/// Repositories below a directory, served by `git daemon` on loopback.
pub(crate) struct Repositories {
    directory: PathBuf,
    port: u16,
}

impl Repositories {
    pub(crate) fn new(context: &TestContext) -> Self {
        let directory = context.work_dir().join("repositories");
        corten_sys::file::create_dir(&directory, 0o755).expect("loopback works");
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback works");
        let port = listener.local_addr().expect("loopback works").port();
        let base = format!("--base-path={}", directory.display());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.expect("loopback works");
                let command = program()
                    .args(["daemon", "--inetd", "--export-all", &base])
                    .env("PATH", SEARCH_PATH)
                    .env("GIT_CONFIG_COUNT", "1")
                    .env("GIT_CONFIG_KEY_0", "safe.directory")
                    .env("GIT_CONFIG_VALUE_0", "*")
                    .descriptor(0, stream.as_fd())
                    .descriptor(1, stream.as_fd());
                command.spawn().expect("loopback works").handle.wait().expect("loopback works");
            }
        });
        Self { directory, port }
    }

    pub(crate) fn url(&self, name: &str) -> String {
        format!("git://127.0.0.1:{}/{name}", self.port)
    }

    /// Commits files to a repository, and returns the commit.
    pub(crate) fn commit(&self, name: &str, files: &[(&str, &str)]) -> String {
        let directory = self.directory.join(name);
        if !directory.exists() {
            corten_sys::file::create_dir(&directory, 0o755).expect("git works here");
            git(&directory, &["init", "--quiet"]);
        }
        for (path, content) in files {
            let path = directory.join(path);
            corten_sys::file::create_dirs(path.parent().expect("git works here"), 0o755)
                .expect("git works here");
            corten_sys::file::write(&path, content.as_bytes()).expect("git works here");
        }
        git(&directory, &["add", "--all"]);
        git(&directory, &["commit", "--quiet", "-m", "x"]);
        git(&directory, &["rev-parse", "HEAD"]).trim().to_owned()
    }
}

fn program() -> Command<'static> {
    Command::new(find_program("git", SEARCH_PATH.as_ref()).expect("the gate found it"))
}

fn git(directory: &Path, arguments: &[&str]) -> String {
    let mut command = program().arg("-C").arg(directory).args(arguments.iter().copied());
    for (name, value) in [
        ("PATH", SEARCH_PATH),
        ("HOME", "/dev/null"),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_AUTHOR_NAME", "t"),
        ("GIT_AUTHOR_EMAIL", "t@t.test"),
        ("GIT_COMMITTER_NAME", "t"),
        ("GIT_COMMITTER_EMAIL", "t@t.test"),
        ("GIT_CONFIG_COUNT", "2"),
        ("GIT_CONFIG_KEY_0", "protocol.file.allow"),
        ("GIT_CONFIG_VALUE_0", "always"),
        ("GIT_CONFIG_KEY_1", "init.defaultBranch"),
        ("GIT_CONFIG_VALUE_1", "main"),
    ] {
        command = command.env(name, value);
    }
    let (report, output) = command.output(1 << 20).expect("git works here");
    let output = String::from_utf8(output).expect("git works here");
    assert_eq!(report.ended, corten_sys::process::Ended::Code(0), "{arguments:?}: {output}");
    output
}

#[test]
fn a_repository_is_a_context_at_any_of_its_names() {
    require!(Need::Program("git"));
    let context = corten_testkit::context!();
    let repositories = Repositories::new(&context);
    let dockerfile = "FROM scratch\nCOPY . /\n";
    let first = repositories.commit("app", &[("Dockerfile", dockerfile), ("v", "1")]);
    git(&repositories.directory.join("app"), &["tag", "-a", "v1", "-m", "x"]);
    repositories.commit("app", &[("v", "2"), ("sub/Dockerfile", dockerfile), ("sub/s", "sub")]);
    git(&repositories.directory.join("app"), &["branch", "side"]);
    let url = repositories.url("app");
    for (fragment, expected) in [
        (String::new(), "2"),
        ("#v1".to_owned(), "1"),
        ("#side".to_owned(), "2"),
        ("#refs/heads/main".to_owned(), "2"),
        (format!("#{first}"), "1"),
        (format!("#{}", &first[..9]), "1"),
        ("?tag=v1".to_owned(), "1"),
    ] {
        let output = format!("out{}", fragment.len());
        build(&context, Vec::new(), &["-o", &output, &format!("{url}{fragment}")]).success();
        assert_eq!(context.read(format!("{output}/v")), expected, "{fragment}");
        assert!(!context.work_dir().join(output).join(".git").exists());
    }
    build(&context, Vec::new(), &["-o", "sub", &format!("{url}#main:sub")]).success();
    assert_eq!(context.read("sub/s"), "sub");
    let context = context.with_mask(repositories.port.to_string(), "PORT");
    let mut text = String::new();
    for fragment in ["#nosuch", "#main:nosuch", "?commit=1234567&tag=v1"] {
        let output = context.run(&["build", &format!("{url}{fragment}")]).code(2);
        text.push_str(&output.snapshot().replace(&first, "[COMMIT]"));
    }
    expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: `git://127.0.0.1:[PORT]/app` has no branch, tag or commit `nosuch`
        exit: 2
        --- stdout
        --- stderr
        error: there is no directory `nosuch` in `git://127.0.0.1:[PORT]/app`
        exit: 2
        --- stdout
        --- stderr
        error: `git://127.0.0.1:[PORT]/app` is at the commit `[COMMIT]`, expected `1234567`
    "#]]
    .assert_eq(&text);
    assert_tidy(&context);
}

#[test]
fn add_takes_a_repository_with_its_submodules_and_runs_nothing_of_it() {
    require!(Need::Program("git"));
    let context = corten_testkit::context!();
    let repositories = Repositories::new(&context);
    repositories.commit("lib", &[("l", "library")]);
    let app = repositories.directory.join("app");
    repositories.commit("app", &[("a", "app")]);
    git(
        &app,
        &[
            "-c",
            "protocol.git.allow=always",
            "submodule",
            "--quiet",
            "add",
            &repositories.url("lib"),
            "lib",
        ],
    );
    let commit = repositories.commit("app", &[]);
    let url = repositories.url("app");
    context.write(
        "Dockerfile",
        format!(
            "FROM scratch\nADD --checksum={} {url} /s/\nADD --keep-git-dir=true {url} /k\n",
            &commit[..12]
        ),
    );
    build(&context, Vec::new(), &["-o", "out", "."]).success();
    assert_eq!(context.read("out/s/a") + &context.read("out/s/lib/l"), "applibrary");
    assert!(!context.work_dir().join("out/s/.git").exists());
    assert!(!context.work_dir().join("out/s/lib/.git").exists());
    assert!(context.read("out/k/.git/config").contains(&url));
    assert_tidy(&context);
}

/// When the image `x` says that it was created.
fn created(context: &TestContext) -> String {
    context.run(&["inspect", "--format", "{{.Created}}", "x"]).success().stdout().trim().to_owned()
}

#[test]
fn the_epoch_may_be_the_time_of_what_is_fetched() {
    let tar = files(&[("Dockerfile", "FROM scratch\nCOPY a /\n"), ("a", "content")]);
    let server = Server::new(&[("/c.tar", ok(&tar)), ("/file", ok(b"content"))]);
    let context = corten_testkit::context!();
    let told = "1994-11-06T08:49:37Z";
    let by_context = ["--build-arg", "SOURCE_DATE_EPOCH=context", &server.url("/c.tar")];
    build(&context, Vec::new(), &by_context).success();
    assert_eq!(created(&context), told);

    let stage = format!(
        "ARG SOURCE_DATE_EPOCH=src\nFROM scratch AS src\nADD {} /\nFROM scratch\nLABEL a=b\n",
        server.url("/file")
    );
    context.write("Dockerfile", &stage);
    build(&context, Vec::new(), &["."]).success();
    assert_eq!(created(&context), told);
    build(&context, Vec::new(), &["--build-arg", "SOURCE_DATE_EPOCH=60", "."]).success();
    assert_eq!(created(&context), "1970-01-01T00:01:00Z");

    // A directory of this machine has no time.
    let by_context = ["--build-arg", "SOURCE_DATE_EPOCH=context", "."];
    build(&context, Vec::new(), &by_context).success();
    assert_eq!(created(&context), "1970-01-01T00:00:00Z");
}

#[test]
fn the_epoch_of_a_repository_is_the_time_of_its_commit() {
    require!(Need::Program("git"));
    let context = corten_testkit::context!();
    let repositories = Repositories::new(&context);
    repositories.commit("app", &[("Dockerfile", "FROM scratch\nLABEL a=b\n")]);
    let time = git(&repositories.directory.join("app"), &["show", "-s", "--format=%ct"]);
    let seconds = time.trim().parse().expect("git tells a number");
    for _ in ["fetched", "known"] {
        let by_context = ["--build-arg", "SOURCE_DATE_EPOCH=context", &repositories.url("app")];
        build(&context, Vec::new(), &by_context).success();
        assert_eq!(created(&context), corten_oci::time::rfc3339(seconds));
    }
}

#[test]
fn without_git_the_package_is_named() {
    let context = corten_testkit::context!().with_env("PATH", "/nonexistent");
    context.check(
        &["build", "https://example.test/a.git"],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: `git` was not found, which is needed for `https://example.test/a.git`
        hint: install the package `git`, or clone the repository and give the directory
    "#]],
    );
}

#[test]
fn what_add_fetches_is_locked_compared_and_found_again_offline() {
    let server = Server::new(&[("/model.bin", ok(b"weights"))]);
    let context = corten_testkit::context!();
    context.write("Dockerfile", format!("FROM scratch\nADD {} /\n", server.url("/model.bin")));
    context.run(&["lock", "--platform", "linux/amd64,linux/arm64", "."]).success();
    let lock = context.read("corten.lock");
    assert_eq!(lock.matches(&Digest::of(b"weights").hex()).count(), 1, "{lock}");
    context.run(&["lock", "."]).success();
    let locked = context.run(&["build", "-q", "--locked", "."]).success();
    server.asked();
    let changed = b"200 OK\r\nETag: \"2\"\r\nConnection: close\r\n\r\nother".to_vec();
    server.put("/model.bin", changed);
    // Elsewhere, nothing is known yet.
    let root = context.work_dir().join("fresh");
    let fresh = ["--root", root.to_str().expect("a test"), "build", "-q"];
    let refused = context.run(&[&fresh[..], &["--locked", "."]].concat()).code(2);
    assert!(refused.stderr().contains("is not what `corten.lock` has"), "{}", refused.stderr());
    let refused = context.run(&[&fresh[..], &["--offline", "."]].concat()).code(2);
    assert!(refused.stderr().contains("offline"), "{}", refused.stderr());
    server.asked();
    let offline = context.run(&["build", "-q", "--offline", "--no-cache", "."]).success();
    assert_eq!(id(&offline), id(&locked));
    // Another build takes what there is now; what was locked is still in the store.
    context.run(&["build", "-q", "."]).success();
    server.asked();
    let offline = context.run(&["build", "-q", "--offline", "--no-cache", "."]).success();
    assert_eq!(id(&offline), id(&locked));
    assert!(server.asked().is_empty());
    assert_tidy(&context);
}

#[test]
fn what_add_takes_from_a_repository_is_locked_by_its_commit() {
    require!(Need::Program("git"));
    let context = corten_testkit::context!();
    let repositories = Repositories::new(&context);
    let first = repositories.commit("r", &[("a", "one")]);
    context
        .write("app/Dockerfile", format!("FROM scratch\nADD {}#HEAD /\n", repositories.url("r")));
    context.run(&["lock", "app"]).success();
    let lock = context.read("app/corten.lock");
    assert!(lock.contains(&first), "{lock}");
    let locked = context.run(&["build", "-q", "--locked", "app"]).success();
    repositories.commit("r", &[("a", "two")]);
    // The commit is known here, so nobody has to ask; elsewhere the name is another commit.
    let again = context.run(&["build", "-q", "--locked", "--no-cache", "app"]).success();
    assert_eq!(id(&again), id(&locked));
    let root = context.work_dir().join("fresh");
    let fresh = ["--root", root.to_str().expect("a test"), "build", "-q"];
    let refused = context.run(&[&fresh[..], &["--locked", "app"]].concat()).code(2);
    assert!(refused.stderr().contains("is not what `app/corten.lock` has"), "{}", refused.stderr());
    context.run(&["build", "-q", "--no-cache", "app"]).success();
    corten_sys::file::remove_tree(&repositories.directory).expect("it is there");
    let offline = context.run(&["build", "-q", "--offline", "--no-cache", "app"]).success();
    assert_eq!(id(&offline), id(&locked));
}
