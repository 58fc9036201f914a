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
            path = line.split(' ').nth(1).unwrap_or_default().to_owned();
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
    context.check(&["lock", "--progress", "quiet", "app"], &expect![[r#""#]]);
    expect![[r#""#]].assert_eq(&context.read("app/corten.lock").replace(&port.to_string(), "PORT"));
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
    context.check(&["build", "--offline", "app"], &expect![[r#""#]]);
    context.check(&["build", "--locked", "app"], &expect![[r#""#]]);
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
    context.check(&["build", "--locked", "."], &expect![[r#""#]]);
    assert_eq!(site.asked(), 0);
    context.write("Dockerfile", "FROM base\nRUN --network=host curl -s http://127.0.0.1/\n");
    context.check(&["build", "--locked", "."], &expect![[r#""#]]);
    context.check(&["lock", "--check", "."], &expect![[r#""#]]);
}

#[test]
fn a_program_that_ignores_the_proxy_gets_nothing_and_a_hint() {
    require!(Need::Root, Need::Overlay, Need::NetworkNamespaces, Need::Program("curl"));
    let (context, site) = world();
    let port = site.port;
    let text = format!("FROM base\nRUN curl -sS --noproxy '*' http://127.0.0.1:{port}/list\n");
    context.write("Dockerfile", text);
    context.check(&["lock", "."], &expect![[r#""#]]);
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
        assert!(!out.stderr().contains("left"), "{}", out.stderr());
    }
    context.run(&["build", "--locked", "-q", "-t", "made", "."]).success();
    let inspected = context.run(&["inspect", "made"]).success();
    let history = context.run(&["history", "made"]).success();
    for text in [inspected.stdout(), history.stdout(), &context.read("corten.lock")] {
        assert!(!text.contains("28653") && !text.contains("CERTIFICATE"), "{text}");
    }
}
