//! Addresses, and what servers may answer.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Mutex;

use corten_diag::Silent;
use corten_store::{Store, StoreOptions};
use corten_sys::file;
use corten_testkit::TempDir;
use expect_test::{Expect, expect};

use super::http::{disposition_name, parse_date};
use super::*;

fn shown(text: &str) -> String {
    match Source::parse(text) {
        Ok(None) => "a path".to_owned(),
        Ok(Some(Source::Http(http))) => {
            format!("http {} name={:?}", http.address, http.address.file_name())
        }
        Ok(Some(Source::Git(git))) => {
            let mut text = format!("git {}", git.address);
            if let Some(reference) = &git.reference {
                write!(text, " ref={reference}").unwrap();
            }
            if !git.directory.is_empty() {
                write!(text, " dir={}", git.directory).unwrap();
            }
            if let Some(commit) = &git.commit {
                write!(text, " commit={commit}").unwrap();
            }
            if git.keep_git_dir {
                text.push_str(" keep");
            }
            if !git.submodules {
                text.push_str(" no-submodules");
            }
            text
        }
        Err(error) => format!("error: {error}"),
    }
}

fn check(texts: &[&str], expected: &Expect) {
    let lines: Vec<String> =
        texts.iter().map(|text| format!("{text}\n  {}\n", shown(text))).collect();
    expected.assert_eq(&lines.concat());
}

#[test]
fn addresses_of_files() {
    check(
        &[
            "https://example.com/a/b.tar.gz?x=1#part",
            "HTTP://user:pass@example.com:8080/a%20b",
            "https://example.com/",
            "https://example.com/..%2f",
            "https://example.com/%2e%2e",
            "https:///x",
            "https://-oProxyCommand=x/y",
            "https://example.com/a b",
            "dir/file",
            "./x@y:z",
            "ftp://example.com/x",
        ],
        &expect![[r#"
            https://example.com/a/b.tar.gz?x=1#part
              http https://example.com/a/b.tar.gz?x=1 name=Some("b.tar.gz")
            HTTP://user:pass@example.com:8080/a%20b
              http http://example.com:8080/a%20b name=Some("a b")
            https://example.com/
              http https://example.com/ name=None
            https://example.com/..%2f
              http https://example.com/..%2f name=None
            https://example.com/%2e%2e
              http https://example.com/%2e%2e name=None
            https:///x
              error: the address has no host
            https://-oProxyCommand=x/y
              error: the address has no host
            https://example.com/a b
              error: the address has a character that cannot be in one
            dir/file
              a path
            ./x@y:z
              a path
            ftp://example.com/x
              a path
        "#]],
    );
}

#[test]
fn addresses_of_repositories() {
    check(
        &[
            "https://example.com/a/b.git",
            "https://example.com/a/b.git#v1",
            "https://example.com/a/b.git#v1:sub/./dir",
            "https://example.com/a/b.git#:sub",
            "https://u:p@example.com/a/b.git#refs/pull/1/head",
            "git@example.com:a/b.git#main",
            "git@example.com:a/b",
            "ssh://git@example.com:2222/a/b#main",
            "git://example.com/a",
            "https://example.com/a.git?branch=x&subdir=y&keep-git-dir=1&submodules=false",
            "https://example.com/a.git?tag=v1",
            "https://example.com/a.git?commit=0123456789012345678901234567890123456789",
            "https://example.com/a.git?commit=0123456&tag=v1",
            "https://example.com/a.git?ref=x#y",
            "https://example.com/a.git?color=red",
            "https://example.com/a.git?commit=main",
            "https://example.com/a.git#-x",
            "https://example.com/a.git#a..b",
            "https://example.com/a.git#main:../x",
            "ssh://-x@example.com/a",
            "-x@example.com:a",
            "a@-oProxyCommand=x:y",
        ],
        &expect![[r#"
            https://example.com/a/b.git
              git https://example.com/a/b.git
            https://example.com/a/b.git#v1
              git https://example.com/a/b.git ref=v1
            https://example.com/a/b.git#v1:sub/./dir
              git https://example.com/a/b.git ref=v1 dir=sub/dir
            https://example.com/a/b.git#:sub
              git https://example.com/a/b.git dir=sub
            https://u:p@example.com/a/b.git#refs/pull/1/head
              git https://example.com/a/b.git ref=refs/pull/1/head
            git@example.com:a/b.git#main
              git git@example.com:a/b.git ref=main
            git@example.com:a/b
              git git@example.com:a/b
            ssh://git@example.com:2222/a/b#main
              git ssh://git@example.com:2222/a/b ref=main
            git://example.com/a
              git git://example.com/a
            https://example.com/a.git?branch=x&subdir=y&keep-git-dir=1&submodules=false
              git https://example.com/a.git ref=refs/heads/x dir=y keep no-submodules
            https://example.com/a.git?tag=v1
              git https://example.com/a.git ref=refs/tags/v1
            https://example.com/a.git?commit=0123456789012345678901234567890123456789
              git https://example.com/a.git ref=0123456789012345678901234567890123456789 commit=0123456789012345678901234567890123456789
            https://example.com/a.git?commit=0123456&tag=v1
              git https://example.com/a.git ref=refs/tags/v1 commit=0123456
            https://example.com/a.git?ref=x#y
              error: `ref` is given twice, in different ways
            https://example.com/a.git?color=red
              error: `color` is no parameter of a git address
            https://example.com/a.git?commit=main
              error: `main` is no commit: 7 to 64 hexadecimal digits are needed
            https://example.com/a.git#-x
              error: `-x` is no name of a branch, tag or commit
            https://example.com/a.git#a..b
              error: `a..b` is no name of a branch, tag or commit
            https://example.com/a.git#main:../x
              error: the directory `../x` leads out of the repository
            ssh://-x@example.com/a
              error: the address has a character that cannot be in one
            -x@example.com:a
              a path
            a@-oProxyCommand=x:y
              a path
        "#]],
    );
}

#[test]
fn credentials_are_not_shown() {
    let address = Address::parse("https://user:pass@example.com/x").unwrap();
    assert_eq!(format!("{address} {address:?}").matches("pass").count(), 0);
    assert_eq!(address.with_credentials(), "https://user:pass@example.com/x");
    let text = "ADD https://u:p@a.test/x ssh://git@b.test/y 'http://t@c.test' z@d";
    assert_eq!(
        without_credentials(text),
        "ADD https://a.test/x ssh://b.test/y 'http://c.test' z@d"
    );
}

#[test]
fn redirections_are_joined() {
    let from = Address::parse("https://u:p@a.test/dir/file?x=1").unwrap();
    let joined = |to: &str| from.join(to).map(|address| address.with_credentials());
    assert_eq!(joined("/y").unwrap(), "https://u:p@a.test/y");
    assert_eq!(joined("y").unwrap(), "https://u:p@a.test/dir/y");
    assert_eq!(joined("//b.test/y").unwrap(), "https://b.test/y");
    assert_eq!(joined("https://b.test/y").unwrap(), "https://b.test/y");
    assert_eq!(joined("http://a.test/y").unwrap(), "http://a.test/y");
    assert!(matches!(joined("file:///etc/passwd"), Err(AddressError::NoHost)));
    assert!(matches!(joined("gopher://a.test/"), Err(AddressError::Scheme(_))));
}

#[test]
fn headers_are_read() {
    assert_eq!(parse_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
    assert_eq!(parse_date("Sunday, 06-Nov-94 08:49:37 GMT"), None);
    assert_eq!(parse_date(""), None);
    let name = |text: &str| disposition_name(text);
    assert_eq!(name("attachment; filename=\"a b.bin\"").as_deref(), Some("a b.bin"));
    assert_eq!(name("attachment; FileName=x").as_deref(), Some("x"));
    assert_eq!(name("attachment; filename=\"../x\""), None);
    assert_eq!(name("inline"), None);
}

/// Answers from a table; counts what it is asked.
#[derive(Default)]
struct Table {
    answers: BTreeMap<String, Answer>,
    asked: Mutex<Vec<String>>,
}

#[derive(Clone, Default)]
struct Answer {
    status: u16,
    location: Option<String>,
    etag: Option<String>,
    body: Vec<u8>,
    length: Option<u64>,
}

impl Fetcher for Table {
    fn fetch(&self, request: &FetchRequest<'_>) -> Result<FetchResponse, FetchError> {
        let etag = request.etag.map(|etag| format!(" etag={etag}")).unwrap_or_default();
        self.asked.lock().unwrap().push(format!("{}{etag}", request.url));
        let missing = Answer { status: 404, ..Answer::default() };
        let mut answer = self.answers.get(request.url).cloned().unwrap_or(missing);
        if answer.etag.is_some() && answer.etag.as_deref() == request.etag {
            answer = Answer { status: 304, ..Answer::default() };
        }
        Ok(FetchResponse {
            status: answer.status,
            location: answer.location,
            etag: answer.etag,
            last_modified: None,
            content_disposition: None,
            content_length: answer.length,
            body: Box::new(std::io::Cursor::new(answer.body)),
        })
    }
}

struct World {
    store: Store,
    table: Arc<Table>,
    remotes: Remotes,
    _temp: TempDir,
}

impl World {
    fn new(answers: &[(&str, Answer)]) -> Self {
        let temp = TempDir::new();
        let store = Store::open(&StoreOptions::new(temp.path().join("store"))).unwrap();
        let answers =
            answers.iter().map(|(url, answer)| ((*url).to_owned(), answer.clone())).collect();
        let table = Arc::new(Table { answers, asked: Mutex::default() });
        let fetcher: Arc<dyn Fetcher> = table.clone();
        let remotes = Remotes { fetcher: Some(fetcher), ..Remotes::default() };
        Self { store, table, remotes, _temp: temp }
    }

    fn fetch(&self, url: &str, checksum: Option<Digest>) -> Result<Fetched, RemoteError> {
        let fetching = Fetching {
            remotes: &self.remotes,
            store: &self.store,
            reporter: &Silent,
            lock: None,
            is_offline: false,
        };
        let address = Address::parse(url).unwrap();
        http::fetch(&fetching, &HttpSource { address, checksum })
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.table.asked.lock().unwrap())
    }

    fn error(&self, url: &str) -> String {
        self.fetch(url, None).unwrap_err().to_string()
    }
}

fn body(text: &str) -> Answer {
    Answer { status: 200, body: text.as_bytes().to_vec(), ..Answer::default() }
}

fn to(location: &str) -> Answer {
    Answer { status: 302, location: Some(location.to_owned()), ..Answer::default() }
}

#[test]
fn a_file_is_asked_for_again_only_as_far_as_needed() {
    let tagged = Answer { etag: Some("\"1\"".to_owned()), ..body("content") };
    let world = World::new(&[("https://a.test/x", tagged)]);
    let first = world.fetch("https://a.test/x", None).unwrap();
    assert_eq!(file::read(&first.directory().join("x")).unwrap(), b"content");
    world.fetch("https://a.test/x", None).unwrap();
    assert_eq!(world.asked(), ["https://a.test/x", "https://a.test/x etag=\"1\""]);
    let digest = Digest::of(b"content");
    world.fetch("https://a.test/x", Some(digest)).unwrap();
    assert!(world.asked().is_empty(), "the content is known");
    let error = world.fetch("https://a.test/x", Some(Digest::of(b"other"))).unwrap_err();
    assert!(matches!(error, RemoteError::Checksum { .. }), "{error}");
}

#[test]
fn credentials_stay_with_their_host() {
    let world = World::new(&[
        ("https://u:p@a.test/x", to("/y")),
        ("https://u:p@a.test/y", to("https://b.test/z")),
        ("https://b.test/z", body("content")),
    ]);
    let fetched = world.fetch("https://u:p@a.test/x", None).unwrap();
    assert_eq!(fetched.path, "x");
    assert_eq!(world.asked(), ["https://u:p@a.test/x", "https://u:p@a.test/y", "https://b.test/z"]);
}

#[test]
fn servers_that_misbehave_are_told() {
    let short = Answer { length: Some(10), ..body("short") };
    let large = Answer { length: Some(u64::MAX), ..body("") };
    let world = World::new(&[
        ("https://a.test/loop", to("/loop")),
        ("https://a.test/down", to("http://a.test/x")),
        ("https://a.test/file", to("gopher://a.test/x")),
        ("https://a.test/nowhere", Answer { status: 301, ..Answer::default() }),
        ("https://a.test/short", short),
        ("https://a.test/large", large),
    ]);
    let paths = ["missing", "loop", "down", "file", "nowhere", "short", "large"];
    let lines: Vec<String> =
        paths.iter().map(|path| world.error(&format!("https://u:secret@a.test/{path}"))).collect();
    // The table knows no credentials, so everything is missing.
    assert!(lines.iter().all(|line| line.contains("404") && !line.contains("secret")));
    let lines: Vec<String> =
        paths.iter().map(|path| world.error(&format!("https://a.test/{path}")) + "\n").collect();
    expect![[r#"
        `https://a.test/missing` was answered with status 404
        `https://a.test/loop` redirects more than 10 times
        `https://a.test/down` redirects to `http://a.test/x`, which is not protected
        `https://a.test/file` redirects to an address that cannot be used
        `https://a.test/nowhere` was answered with status 301
        `https://a.test/short` broke off after 5 of 10 bytes
        `https://a.test/large` has more than 274877906944 bytes
    "#]]
    .assert_eq(&lines.concat());
}
