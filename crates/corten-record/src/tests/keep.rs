//! The proxy as a cache of downloads.

use super::*;

const LASTING: &str = "Cache-Control: max-age=600, public\r\nContent-Type: x/wheel\r\n";

impl World {
    /// Asks in a build of its own.
    fn once(&self, request: &str) -> String {
        let recorder = self.recorder(Policy::Cache);
        let step = Step::new(&recorder);
        let answer = step.exchange(request);
        let told = step.finish();
        assert!(told.fetched.is_empty() && told.refusals.is_empty(), "{told:?}");
        answer
    }

    fn kept(&self) -> u64 {
        self.store.usage().unwrap().downloads.count
    }
}

#[test]
fn a_package_is_fetched_once_for_all_builds() {
    let world = World::new();
    world.site.put(WHEEL, 200, LASTING, "wheel");
    let first = world.once(&world.get(WHEEL));
    world.site.put(WHEEL, 200, LASTING, "other");
    let second = world.once(&world.get(WHEEL));
    assert_eq!((status(&second), body(&second)), ("200", "wheel"));
    assert!(first.contains("content-type: x/wheel") && second.contains("content-type: x/wheel"));
    assert_eq!((world.site.asked(), world.kept()), (1, 1));
}

#[test]
fn what_is_good_for_no_time_is_asked_about_again() {
    let world = World::new();
    world.site.put(WHEEL, 200, "ETag: \"1\"\r\n", "wheel");
    assert_eq!(body(&world.once(&world.get(WHEEL))), "wheel");
    world.site.put(WHEEL, 304, "ETag: \"1\"\r\n", "");
    let same = world.once(&world.get(WHEEL));
    assert_eq!((status(&same), body(&same)), ("200", "wheel"));
    assert!(world.site.heads.lock().unwrap()[1].contains("if-none-match: \"1\""));
    world.site.put(WHEEL, 200, "ETag: \"2\"\r\n", "newer");
    assert_eq!(body(&world.once(&world.get(WHEEL))), "newer");
    world.site.put(WHEEL, 304, "ETag: \"2\"\r\n", "");
    assert_eq!(body(&world.once(&world.get(WHEEL))), "newer");
    assert_eq!((world.site.asked(), world.kept()), (4, 1));
}

#[test]
fn only_whole_public_packages_are_kept() {
    for (path, headers, request, why) in [
        ("/simple/idna/", LASTING, "", "an index"),
        ("/model.bin", LASTING, "", "a file"),
        ("/idna-3.7-py3-none-any.whl?x=1", LASTING, "", "a query"),
        (WHEEL, LASTING, "Authorization: Basic eA==\r\n", "credentials"),
        (WHEEL, LASTING, "Cookie: a=b\r\n", "cookies"),
        (WHEEL, LASTING, "Range: bytes=0-1\r\n", "a part"),
        (WHEEL, LASTING, "If-None-Match: \"1\"\r\n", "a condition"),
        (WHEEL, "Cache-Control: no-store\r\nETag: \"1\"\r\n", "", "not to be kept"),
        (WHEEL, "Cache-Control: private, max-age=9\r\n", "", "for one client"),
        (WHEEL, "Cache-Control: max-age=9\r\nSet-Cookie: a=b\r\n", "", "sets a cookie"),
        (WHEEL, "Cache-Control: max-age=9\r\nVary: User-Agent\r\n", "", "varies"),
        (WHEEL, "Cache-Control: max-age=9\r\nContent-Encoding: br\r\n", "", "encoded"),
        (WHEEL, "", "", "of unknown age"),
    ] {
        let world = World::new();
        world.site.put(path, 200, headers, "body");
        let request = format!("{}{request}", world.get(path));
        for _ in 0..2 {
            assert_eq!(body(&world.once(&request)), "body", "{why}");
        }
        assert_eq!((world.site.asked(), world.kept()), (2, 0), "{why}");
        let head = world.site.heads.lock().unwrap()[0].to_ascii_lowercase();
        let name = request.lines().nth(3).unwrap_or("").split(':').next().unwrap_or("");
        assert!(head.contains(&name.to_ascii_lowercase()), "{why}: {head}");
    }
}

#[test]
fn what_another_program_calls_a_package_is_not_kept() {
    let world = World::new();
    world.site.put("/tool_1_all.deb", 200, LASTING, "deb");
    let request = world.get("/tool_1_all.deb").replace("pip/24", "curl/8");
    world.once(&request);
    assert_eq!(world.kept(), 0);
    world.once(&request.replace("curl/8", "Debian APT-HTTP/1.3 (2.6.1)"));
    assert_eq!(world.kept(), 1);
}

#[test]
fn a_failure_is_passed_on_and_not_kept() {
    let world = World::new();
    world.site.put(WHEEL, 404, LASTING, "gone");
    let answer = world.once(&world.get(WHEEL));
    assert_eq!((status(&answer), body(&answer)), ("404", "gone"));
    world.site.put(WHEEL, 200, &format!("{LASTING}x: too-long\r\n"), "half");
    let recorder = world.recorder(Policy::Cache);
    let step = Step::new(&recorder);
    assert!(!body(&step.exchange(&world.get(WHEEL))).contains("half"));
    assert_eq!(step.finish().failures.len(), 1);
    assert_eq!(world.kept(), 0);
    world.site.put(WHEEL, 200, LASTING, "wheel");
    assert_eq!(body(&world.once(&world.get(WHEEL))), "wheel");
}

#[test]
fn a_damaged_download_is_fetched_again() {
    let world = World::new();
    world.site.put(WHEEL, 200, LASTING, "wheel");
    world.once(&world.get(WHEEL));
    let hex = Digest::of(b"wheel").hex();
    let (head, tail) = hex.split_at(2);
    let blob = world.store.root().join("blobs/sha256").join(head).join(tail);
    corten_sys::file::write(&blob, b"whole").unwrap();
    assert_eq!(body(&world.once(&world.get(WHEEL))), "wheel");
    assert_eq!(world.site.asked(), 2);
    assert_eq!(corten_sys::file::read(&blob).unwrap(), b"wheel");
}

#[test]
fn the_own_machine_is_not_asked() {
    let world = World::new();
    world.site.put(WHEEL, 200, LASTING, "wheel");
    let upstream = Arc::new(HttpUpstream::new(&HttpOptions::default(), Reach::Outward).unwrap());
    let recorder = Recorder::new(&world.store, Some(upstream), Policy::Cache).unwrap();
    let step = Step::new(&recorder);
    let port = world.http.port();
    for host in ["127.0.0.1", "localhost", "x.localhost", "0.0.0.0", "[::1]", "127.1", "2130706433"]
    {
        let request = format!("GET http://{host}:{port}{WHEEL} HTTP/1.1\r\nHost: x\r\n");
        assert_eq!(status(&step.exchange(&request)), "502", "{host}");
    }
    assert_eq!(world.site.asked(), 0);
    assert!(!step.finish().failures.is_empty());
}

#[test]
fn a_silent_server_is_believed_where_the_address_names_the_content() {
    let digest = "e5".repeat(30);
    for (agent, path, expected) in [
        ("pip/24", format!("/packages/e5/3e/{digest}/idna-3.7-py3-none-any.whl"), 1),
        ("pip/24", "/packages/idna-3.7-py3-none-any.whl".to_owned(), 0),
        ("Debian APT-HTTP/1.3 (2.6.1)", "/debian/pool/main/z/zlib1g_1.2_amd64.deb".to_owned(), 1),
        ("Debian APT-HTTP/1.3 (2.6.1)", "/debian/zlib1g_1.2_amd64.deb".to_owned(), 0),
        ("npm/10", "/left-pad/-/left-pad-1.3.0.tgz".to_owned(), 1),
        ("npm/10", "/left-pad-1.3.0.tgz".to_owned(), 0),
    ] {
        let world = World::new();
        world.site.put(&path, 200, "", "package");
        let request = world.get(&path).replace("pip/24", agent);
        for _ in 0..2 {
            assert_eq!(body(&world.once(&request)), "package", "{path}");
        }
        assert_eq!((world.kept(), world.site.asked() == 1), (expected, expected == 1), "{path}");
    }
}
