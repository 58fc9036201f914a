//! Steps whose requests are recorded, with a server of our own behind them.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use corten_testkit::privilege::Need;
use corten_testkit::{TestContext, require, rootfs};
use expect_test::expect;

type Pages = Arc<Mutex<BTreeMap<String, String>>>;

/// A server whose pages can change; what it does not have is not there.
struct Site {
    port: u16,
    pages: Pages,
    asked: Arc<Mutex<u32>>,
}

impl Site {
    fn new(pages: &[(&str, &str)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback works");
        let port = listener.local_addr().expect("loopback works").port();
        let site = Self { port, pages: Pages::default(), asked: Arc::default() };
        for (path, text) in pages {
            site.put(path, text);
        }
        let (pages, asked) = (Arc::clone(&site.pages), Arc::clone(&site.asked));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                *asked.lock().expect("no panic") += 1;
                answer(stream, &pages);
            }
        });
        site
    }

    fn put(&self, path: &str, text: &str) {
        self.pages.lock().expect("no panic").insert(path.to_owned(), text.to_owned());
    }

    fn asked(&self) -> u32 {
        std::mem::take(&mut *self.asked.lock().expect("no panic"))
    }
}

fn answer(mut stream: TcpStream, pages: &Pages) {
    let mut path = String::new();
    let lines = BufReader::new(stream.try_clone().expect("loopback works")).lines();
    for line in lines.map_while(Result::ok).take_while(|line| !line.is_empty()) {
        if path.is_empty() {
            line.split(' ').nth(1).unwrap_or_default().clone_into(&mut path);
        }
    }
    let page = pages.lock().expect("no panic").get(&path).cloned();
    let (status, text) = page.map_or((404, "nothing".to_owned()), |text| (200, text));
    let length = text.len();
    let head =
        format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    // A client that has gone is one that needs no answer.
    stream.write_all(format!("{head}{text}").as_bytes()).unwrap_or_default();
}

/// A context whose store has an image with `curl`, and a server.
fn world() -> (TestContext, Site) {
    let site = Site::new(&[("/tool-1.0.tar.gz", "tool one\n"), ("/list", "tool-1.0.tar.gz\n")]);
    let context = corten_testkit::context!().with_mask(site.port.to_string(), "PORT");
    context.write("base/Dockerfile", "FROM scratch\nCOPY root /\n");
    rootfs::make(&context.work_dir().join("base/root"), &["cat", "curl", "env", "ls", "touch"]);
    context.run(&["build", "--quiet", "-t", "base", "base"]).success();
    (context, site)
}

/// A lock file without what differs from machine to machine: the port, the base with its programs.
fn shown(lock: &str, port: u16) -> String {
    let line = |line: &str| match line.strip_prefix("digest = ") {
        Some(_) => "digest = \"[DIGEST]\"\n".to_owned(),
        None => format!("{line}\n"),
    };
    lock.lines().map(line).collect::<String>().replace(&port.to_string(), "PORT")
}

#[test]
fn what_a_step_fetches_is_locked_compared_and_replayed() {
    require!(Need::Root, Need::Overlay, Need::NetworkNamespaces, Need::Program("curl"));
    let (context, site) = world();
    let port = site.port;
    let text = format!(
        "FROM base\nRUN curl -fsS http://127.0.0.1:{port}/tool-1.0.tar.gz -o /tool\n\
         FROM base\nCOPY --from=0 /tool /tool\n\
         RUN curl -s http://127.0.0.1:{port}/absent; env | grep -c PROXY >/count || :; cat /tool\n"
    );
    context.write("app/Dockerfile", &text);
    context.check(
        &["lock", "--progress", "quiet", "app"],
        &expect![[r#"
        exit: 0
        --- stdout
        --- stderr
        locked app/corten.lock  1 base, 0 packages, 1 file, 1 index, 9B  [DURATION]
        hint: commit it, and build with `corten build --locked`
    "#]],
    );
    expect![[r##"
        # Made by `corten lock`; read it, commit it, do not edit it.
        # `corten build --locked` refuses what is not in it, `corten build --offline` needs nothing else.
        version = 1
        platform = "linux/amd64"

        [[base]]
        reference = "docker.io/library/base:latest"
        platform = "linux/amd64"
        digest = "[DIGEST]"

        [[artifact]]
        name = "tool-1.0.tar.gz"
        kind = "file"
        tool = "curl"
        url = "http://127.0.0.1:PORT/tool-1.0.tar.gz"
        sha256 = "86b1ee60f569140245eb2ce080ff3b54c9944c31021eaea57bf2981dabf816b6"
        size = 9

        [[index]]
        tool = "curl"
        url = "http://127.0.0.1:PORT/absent"
        status = 404
        sha256 = "1785cfc3bc6ac7738e8b38cdccd1af12563c2b9070e07af336a1bf8c0f772b6a"
        size = 7
    "##]].assert_eq(&shown(&context.read("app/corten.lock"), port));
    let locked = context.run(&["build", "--locked", "-q", "app"]).success();
    assert_eq!(site.asked(), 2, "the cache knows what the steps fetched");
    // A usual build has the host's network; this server is on the host's loopback alone.
    let usual = ["build", "--no-cache", "--network", "host", "-q", "app"];
    let usual = context.run(&usual).success();
    assert_eq!(usual.stdout(), locked.stdout(), "the image is the same to the byte");
    site.asked();
    let offline = ["build", "--offline", "--no-cache", "-q", "app"];
    assert_eq!(context.run(&offline).success().stdout(), locked.stdout());
    assert_eq!(site.asked(), 0);
    // Content that was not locked: an address that the lock has, with the store's copy gone.
    site.put("/tool-1.0.tar.gz", "tool two\n");
    context.run(&["system", "prune", "--all", "--force"]).success();
    context.run(&["build", "--quiet", "-t", "base", "base"]).success();
    context.check(
        &["build", "--offline", "app"],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        #2 [2/3] [1] COPY --from=0 /tool /tool
        #1 [1/3] [0] RUN curl -fsS http://127.0.0.1:[PORT]/tool-1.0.tar.gz -o /tool
        #1 FAILED [DURATION]
        error: the store lacks 2 things that the lock has
         --> app/Dockerfile:2:1
          |
        2 | RUN curl -fsS http://127.0.0.1:[PORT]/tool-1.0.tar.gz -o /tool
          | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
          |
          = note: `http://127.0.0.1:[PORT]/absent` is not in the store
          = note: `http://127.0.0.1:[PORT]/tool-1.0.tar.gz` is not in the store
        hint: `corten build --locked` fetches them once, with the network
    "#]],
    );
    context.check(
        &["build", "--locked", "app"],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        #2 [2/3] [1] COPY --from=0 /tool /tool
        #1 [1/3] [0] RUN curl -fsS http://127.0.0.1:[PORT]/tool-1.0.tar.gz -o /tool
        #1 [ELAPSED] curl: (22) The requested URL returned error: 403
        #1 FAILED [DURATION]
        error: `http://127.0.0.1:[PORT]/tool-1.0.tar.gz` is not what `app/corten.lock` has
         --> app/Dockerfile:2:1
          |
        2 | RUN curl -fsS http://127.0.0.1:[PORT]/tool-1.0.tar.gz -o /tool
          | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
          |
          = note: locked: sha256:[DIGEST]
                  fetched: sha256:[DIGEST]
        hint: find out why it changed; if the new content is right, `corten lock` records it
    "#]],
    );
    context.run(&["lock", "-q", "--check", "app"]).code(1);
    context.run(&["lock", "-q", "app"]).success();
    context.run(&["build", "--locked", "-q", "app"]).success();
    context.run(&["system", "fsck"]).success();
}

#[test]
fn what_the_lock_lacks_is_refused_at_its_line() {
    require!(Need::Root, Need::Overlay, Need::NetworkNamespaces, Need::Program("curl"));
    let (context, site) = world();
    let port = site.port;
    let fetch = |name: &str| {
        format!(
            "FROM base\n\nRUN curl -fsS http://127.0.0.1:{port}/{name} -o /tool || touch /none\n"
        )
    };
    context.write("Dockerfile", fetch("tool-1.0.tar.gz"));
    context.run(&["lock", "-q", "."]).success();
    context.write("Dockerfile", fetch("tool-2.0.tar.gz"));
    site.asked();
    context.check(
        &["build", "--locked", "."],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        #1 [1/1] RUN curl -fsS http://127.0.0.1:[PORT]/tool-2.0.tar.gz -o /tool || touch /none
        #1 [ELAPSED] curl: (22) The requested URL returned error: 403
        #1 FAILED [DURATION]
        error: `http://127.0.0.1:[PORT]/tool-2.0.tar.gz` is not in `corten.lock`
         --> Dockerfile:3:1
          |
        3 | RUN curl -fsS http://127.0.0.1:[PORT]/tool-2.0.tar.gz -o /tool || touch /none
          | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
        hint: accept it with `corten lock`, or do not fetch it
    "#]],
    );
    assert_eq!(site.asked(), 0);
}

#[test]
fn steps_that_can_pass_by_the_recorder_are_refused_before_anything_is_done() {
    require!(Need::Root, Need::Overlay);
    let (context, _site) = world();
    context.write("corten.lock", "version = 1\nplatform = \"linux/amd64\"\n");
    context.write(
        "Dockerfile",
        "FROM base\nRUN true\nRUN --network=host true\nRUN --security=insecure true\n\
         RUN --security=insecure --network=none true\nRUN --mount=type=ssh true\n",
    );
    let allow = "--allow=security.insecure,network.host";
    for command in [&["lock", "--check"][..], &["build", "--locked"], &["build", "--offline"]] {
        let output = context.run(&[command, &[allow, "."]].concat());
        output.check(&expect![[r#"
            exit: 2
            --- stdout
            --- stderr
            error: the host's network cannot be recorded: it passes by the recorder
             --> Dockerfile:3:1
              |
            3 | RUN --network=host true
              | ^^^^^^^^^^^^^^^^^^^^^^^
            hint: leave out `--network=host`, or build without a lock; `--network=none` needs no record
            error: a step with all rights cannot be recorded: it can pass by the recorder
             --> Dockerfile:4:1
              |
            4 | RUN --security=insecure true
              | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
            hint: leave out `--security=insecure`, or build without a lock
            error: a step with all rights cannot be recorded: it can pass by the recorder
             --> Dockerfile:5:1
              |
            5 | RUN --security=insecure --network=none true
              | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
            hint: leave out `--security=insecure`, or build without a lock
            error: a step with an ssh agent cannot be recorded: its answers are in no lock
             --> Dockerfile:6:1
              |
            6 | RUN --mount=type=ssh true
              | ^^^^^^^^^^^^^^^^^^^^^^^^^
            hint: fetch over HTTPS, or with `ADD` from a git repository, or build without a lock
        "#]]);
    }
}

#[test]
fn a_program_that_ignores_the_proxy_gets_nothing_and_a_hint() {
    require!(Need::Root, Need::Overlay, Need::NetworkNamespaces, Need::Program("curl"));
    let (context, site) = world();
    let port = site.port;
    let text = format!("FROM base\nRUN curl -sS --noproxy '*' http://127.0.0.1:{port}/list\n");
    context.write("Dockerfile", text);
    context.check(&["lock", "."], &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        #1 [1/1] RUN curl -sS --noproxy '*' http://127.0.0.1:[PORT]/list
        #1 [ELAPSED] curl: (7) Failed to connect to 127.0.0.1 port [PORT] after [DURATION]: Couldn't connect to server
        #1 FAILED [DURATION]
        error: the command ended with code 7
         --> Dockerfile:2:1
          |
        2 | RUN curl -sS --noproxy '*' http://127.0.0.1:[PORT]/list
          | ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
          |
          = note: its last output:
                  curl: (7) Failed to connect to 127.0.0.1 port [PORT] after [DURATION]: Couldn't connect to server
        hint: a recorded step reaches servers only through the proxy that `HTTP_PROXY` and `HTTPS_PROXY` name: tell the program to use it, or fetch with one that does
    "#]]);
    assert_eq!(site.asked(), 0);
}

#[test]
fn nothing_of_the_recorder_is_in_the_image_and_caches_begin_empty() {
    require!(Need::Root, Need::Overlay, Need::NetworkNamespaces, Need::Program("curl"));
    let (context, site) = world();
    let port = site.port;
    let text = format!(
        "FROM base\nRUN --mount=type=cache,target=/cache ls /cache; touch /cache/left\n\
         RUN --network=none env >/dev/null\nRUN curl -fsS http://127.0.0.1:{port}/list -o /list\n"
    );
    context.write("Dockerfile", text);
    for _ in 0..2 {
        let out = context.run(&["lock", "--no-cache", "."]).success();
        assert!(!out.stderr().contains(" left\n"), "{}", out.stderr());
    }
    context.run(&["build", "--locked", "-q", "-t", "made", "."]).success();
    let inspected = context.run(&["inspect", "made"]).success();
    let history = context.run(&["history", "made"]).success();
    for text in [inspected.stdout(), history.stdout(), &context.read("corten.lock")] {
        assert!(!text.contains("28653") && !text.contains("CERTIFICATE"), "{text}");
    }
}
