//! The proxy as programs see it, with servers of our own behind it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use corten_http::HttpOptions;
use corten_oci::digest::Digest;
use corten_store::{Store, StoreOptions};
use corten_testkit::TempDir;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection, StreamOwned};

use crate::authority::Authority;
use crate::http::Connection;
use crate::{Fetched, HttpUpstream, Policy, Reach, Recorder, Refusal, StepRecorder, Told};

const WHEEL: &str = "/packages/idna-3.7-py3-none-any.whl";

/// An answer: status, header lines, body.
type Page = (u16, String, Vec<u8>);

/// What a server has, by path, and what it was asked.
#[derive(Default)]
struct Site {
    pages: Mutex<BTreeMap<String, Page>>,
    heads: Mutex<Vec<String>>,
}

impl Site {
    fn put(&self, path: &str, status: u16, headers: &str, body: impl Into<Vec<u8>>) {
        self.pages
            .lock()
            .unwrap()
            .insert(path.to_owned(), (status, headers.to_owned(), body.into()));
    }

    fn asked(&self) -> usize {
        self.heads.lock().unwrap().len()
    }

    fn serve<S: Read + Write>(&self, stream: S) {
        let mut connection = Connection::new(stream);
        while let Ok(Some(request)) = connection.request() {
            let headers = request.headers.iter().map(|(name, value)| format!("{name}: {value}\n"));
            let head =
                format!("{} {}\n{}", request.method, request.target, headers.collect::<String>());
            self.heads.lock().unwrap().push(head);
            let page = self.pages.lock().unwrap().get(&request.target).cloned();
            let (status, headers, body) =
                page.unwrap_or((404, String::new(), b"nothing here".to_vec()));
            let body = if request.method == "POST" { request.body } else { body };
            let mut answer = format!("HTTP/1.1 {status} X\r\n{headers}").into_bytes();
            if headers.contains("chunked") {
                answer.extend_from_slice(b"\r\n");
                for piece in body.chunks(1000) {
                    answer.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                    answer.extend_from_slice(piece);
                    answer.extend_from_slice(b"\r\n");
                }
                answer.extend_from_slice(b"0\r\n\r\n");
            } else {
                let length = if headers.contains("too-long") { body.len() + 9 } else { body.len() };
                answer.extend_from_slice(format!("content-length: {length}\r\n\r\n").as_bytes());
                if request.method != "HEAD" {
                    answer.extend_from_slice(&body);
                }
            }
            if connection.stream().write_all(&answer).is_err() || headers.contains("too-long") {
                return;
            }
            connection.stream().flush().unwrap();
        }
    }
}

/// A store, servers without and with TLS, and what a build asks them with.
struct World {
    store: Store,
    site: Arc<Site>,
    http: SocketAddr,
    https: SocketAddr,
    upstream: Arc<HttpUpstream>,
    _directory: TempDir,
}

impl World {
    fn new() -> Self {
        let directory = TempDir::new();
        let root = directory.path().join("store");
        let store = Store::open(&StoreOptions { root, in_user_namespace: false }).unwrap();
        let site = Arc::new(Site::default());
        let authority = Authority::new().unwrap();
        let bundle = directory.path().join("ca.pem");
        corten_sys::file::write(&bundle, authority.pem().as_bytes()).unwrap();
        let config = authority.server("127.0.0.1").unwrap();
        let http = listen(Arc::clone(&site), Site::serve);
        let https = listen(Arc::clone(&site), move |site, stream| {
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            site.serve(StreamOwned::new(session, stream));
        });
        let options = HttpOptions { ca_bundle: Some(bundle), ..HttpOptions::default() };
        let upstream = Arc::new(HttpUpstream::new(&options, Reach::Anywhere).unwrap());
        Self { store, site, http, https, upstream, _directory: directory }
    }

    fn recorder(&self, policy: Policy) -> Recorder {
        Recorder::new(&self.store, Some(self.upstream.clone()), policy).unwrap()
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    /// What a step gets for each of some requests.
    fn record(&self, policy: Policy, requests: &[String]) -> (Vec<String>, Told) {
        let recorder = self.recorder(policy);
        let step = Step::new(&recorder);
        let answers = requests.iter().map(|request| step.exchange(request)).collect();
        (answers, step.finish())
    }

    fn get(&self, path: &str) -> String {
        format!("GET {} HTTP/1.1\r\nHost: x\r\nUser-Agent: pip/24\r\n", self.url(path))
    }
}

fn listen(site: Arc<Site>, serve: impl Fn(&Site, TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (site, serve) = (Arc::clone(&site), Arc::clone(&serve));
            std::thread::spawn(move || serve(&site, stream));
        }
    });
    address
}

/// A step, as its programs see it.
struct Step {
    recorder: StepRecorder,
    proxy: SocketAddr,
    certificate: String,
}

impl Step {
    fn new(recorder: &Recorder) -> Self {
        let certificate = recorder.certificate().to_owned();
        let recorder = recorder.step();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let proxy = listener.local_addr().unwrap();
        recorder.serve(listener).unwrap();
        Self { recorder, proxy, certificate }
    }

    /// Sends one request and reads everything until the connection ends.
    fn exchange(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.proxy).unwrap();
        write!(stream, "{request}Connection: close\r\n\r\n").unwrap();
        text(&mut stream)
    }

    /// The same through a tunnel.
    fn exchange_tls(&self, server: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(self.proxy).unwrap();
        write!(stream, "CONNECT {server} HTTP/1.1\r\nHost: {server}\r\n\r\n").unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            head.extend(byte);
        }
        assert!(head.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&head));
        let mut roots = RootCertStore::empty();
        roots.add(der(&self.certificate)).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::from(server.ip());
        let session = ClientConnection::new(Arc::new(config), name).unwrap();
        let mut stream = StreamOwned::new(session, stream);
        write!(stream, "{request}Connection: close\r\n\r\n").unwrap();
        text(&mut stream)
    }

    fn finish(&self) -> Told {
        self.recorder.finish(&AtomicBool::new(false))
    }
}

fn text(stream: &mut dyn Read) -> String {
    let mut bytes = Vec::new();
    // An end that was not announced is one as well.
    stream.read_to_end(&mut bytes).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn der(pem: &str) -> CertificateDer<'static> {
    let mut items = ureq::tls::parse_pem(pem.as_bytes());
    let Some(Ok(ureq::tls::PemItem::Certificate(certificate))) = items.next() else {
        panic!("no certificate: {pem}")
    };
    CertificateDer::from(certificate.der().to_vec())
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer}")).1
}

fn status(answer: &str) -> &str {
    answer.get(9..12).unwrap_or_else(|| panic!("no answer: {answer}"))
}

fn lines(fetched: &[Fetched]) -> Vec<String> {
    let line = |one: &Fetched| format!("{} {} {}", one.key.method, one.status, one.size_bytes);
    fetched.iter().map(line).collect()
}

mod keep;

#[test]
fn what_is_fetched_is_recorded_and_is_the_same_for_who_asks_again() {
    let world = World::new();
    world.site.put(WHEEL, 200, "ETag: \"1\"\r\nContent-Type: x/wheel\r\nDate: now\r\n", "wheel");
    let recorder = world.recorder(Policy::Record);
    let step = Step::new(&recorder);
    assert_eq!(body(&step.exchange(&world.get(WHEEL))), "wheel");
    world.site.put(WHEEL, 200, "", "other");
    let again = step.exchange(&world.get(WHEEL));
    assert_eq!((status(&again), body(&again)), ("200", "wheel"));
    let same = step.exchange(&format!("{}If-None-Match: \"1\"\r\n", world.get(WHEEL)));
    assert_eq!((status(&same), body(&same)), ("304", ""));
    let head = step.exchange(&world.get(WHEEL).replace("GET", "HEAD"));
    assert!(head.contains("content-length: 5") && body(&head).is_empty(), "{head}");
    assert_eq!(world.site.asked(), 1);
    let told = step.finish();
    let [fetched] = told.fetched.as_slice() else { panic!("{told:?}") };
    assert_eq!((fetched.sha256, fetched.size_bytes), (Digest::of(b"wheel"), 5));
    let headers: Vec<&String> = fetched.headers.keys().collect();
    assert_eq!(headers, ["content-type", "etag"]);
    assert!(told.refusals.is_empty() && told.failures.is_empty(), "{told:?}");
    // Another step of the build, too.
    let other = Step::new(&recorder);
    assert_eq!(body(&other.exchange(&world.get(WHEEL))), "wheel");
    assert_eq!(other.finish().fetched, told.fetched);
}

#[test]
fn tls_is_spoken_on_both_sides() {
    let world = World::new();
    world.site.put(WHEEL, 200, "", "over tls");
    let recorder = world.recorder(Policy::Record);
    let step = Step::new(&recorder);
    let request = format!("GET {WHEEL} HTTP/1.1\r\nHost: x\r\n");
    assert_eq!(body(&step.exchange_tls(world.https, &request)), "over tls");
    let told = step.finish();
    assert_eq!(told.fetched[0].key.url, format!("https://{}{WHEEL}", world.https));
}

#[test]
fn a_server_that_cannot_be_trusted_is_not_asked() {
    let world = World::new();
    let upstream = Arc::new(HttpUpstream::new(&HttpOptions::default(), Reach::Anywhere).unwrap());
    let recorder = Recorder::new(&world.store, Some(upstream), Policy::Record).unwrap();
    let step = Step::new(&recorder);
    let answer = step.exchange_tls(world.https, "GET / HTTP/1.1\r\nHost: x\r\n");
    assert_eq!(status(&answer), "502");
    let told = step.finish();
    assert!(told.fetched.is_empty() && told.failures.len() == 1, "{told:?}");
    assert_eq!(world.site.asked(), 0);
}

#[test]
fn nothing_secret_is_recorded_though_the_server_gets_it() {
    let world = World::new();
    let path = "/private/a-1.tar.gz?token=s3cret";
    world.site.put(path, 200, "Set-Cookie: s3cret\r\n", "x");
    let signed = "Location: https://a.test/x?X-Amz-Signature=s3cret&v=1\r\n";
    world.site.put("/moved", 302, signed, "");
    let authority = world.http.to_string();
    let with_user = world.get(path).replace(&authority, &format!("user:s3cret@{authority}"));
    let requests = [
        format!("{with_user}Authorization: Bearer s3cret\r\nProxy-Authorization: s3cret\r\n"),
        world.get("/moved"),
    ];
    let (answers, told) = world.record(Policy::Record, &requests);
    assert_eq!((status(&answers[0]), body(&answers[0])), ("200", "x"));
    assert!(answers[1].contains("X-Amz-Signature=s3cret"), "{}", answers[1]);
    let heads = world.site.heads.lock().unwrap().concat();
    assert!(heads.contains("authorization: Bearer s3cret"), "{heads}");
    assert!(!heads.contains("proxy-authorization"), "{heads}");
    assert_eq!(told.fetched.len(), 2);
    assert!(!format!("{told:?}").contains("s3cret"), "{told:?}");
}

#[test]
fn parts_encodings_and_conditions_are_not_asked_for_and_parts_are_given() {
    let world = World::new();
    world.site.put(WHEEL, 200, "Transfer-Encoding: chunked\r\n", "0123456789".repeat(500));
    let request = format!(
        "{}Range: bytes=4990-\r\nAccept-Encoding: gzip\r\nIf-None-Match: \"9\"\r\n",
        world.get(WHEEL)
    );
    let asked = [world.get(WHEEL), request];
    let (answers, told) = world.record(Policy::Record, &asked);
    assert!(answers[0].contains("transfer-encoding: chunked"), "{}", answers[0]);
    assert_eq!((status(&answers[1]), body(&answers[1])), ("206", "0123456789"));
    assert!(answers[1].contains("content-range: bytes 4990-4999/5000"));
    assert_eq!(lines(&told.fetched), ["GET 200 5000"]);
    let heads = world.site.heads.lock().unwrap().concat();
    assert!(heads.contains("accept-encoding: identity"), "{heads}");
    assert!(!heads.contains("range:") && !heads.contains("if-none-match"), "{heads}");
}

#[test]
fn questions_with_a_body_are_known_by_it() {
    let world = World::new();
    world.site.put("/audit", 200, "", "");
    let post = |text: &str| {
        let head = format!("POST {} HTTP/1.1\r\nHost: x\r\n", world.url("/audit"));
        // The body is before the last line of the head: the helper adds that line.
        (head, text.to_owned())
    };
    let recorder = world.recorder(Policy::Record);
    let step = Step::new(&recorder);
    for text in ["one", "two", "one"] {
        let (head, text) = post(text);
        let mut stream = TcpStream::connect(step.proxy).unwrap();
        let length = text.len();
        write!(stream, "{head}Content-Length: {length}\r\nConnection: close\r\n\r\n{text}")
            .unwrap();
        assert_eq!(body(&self::text(&mut stream)), text);
    }
    assert_eq!(lines(&step.finish().fetched), ["POST 200 3", "POST 200 3"]);
    assert_eq!(world.site.asked(), 2);
}

#[test]
fn forms_of_one_address_are_kept_apart_where_the_server_says_so() {
    let world = World::new();
    world.site.put("/simple/a/", 200, "Vary: Accept\r\n", "html");
    let html = format!("{}Accept: text/html\r\n", world.get("/simple/a/"));
    let recorder = world.recorder(Policy::Record);
    let step = Step::new(&recorder);
    assert_eq!(body(&step.exchange(&html)), "html");
    world.site.put("/simple/a/", 200, "Vary: Accept\r\n", "json");
    assert_eq!(body(&step.exchange(&html.replace("text/html", "text/json"))), "json");
    assert_eq!(step.finish().fetched.len(), 2);
}

#[test]
fn failures_and_questions_for_credentials_are_not_recorded() {
    let world = World::new();
    world.site.put("/busy", 503, "", "x");
    world.site.put("/login", 401, "WWW-Authenticate: Basic\r\n", "x");
    world.site.put("/short", 200, "X: too-long\r\n", "x");
    let requests = ["/busy", "/login", "/short", "/absent"].map(|path| world.get(path));
    let (answers, told) = world.record(Policy::Record, &requests);
    let statuses: Vec<&str> = answers.iter().map(|answer| status(answer)).collect();
    assert_eq!(statuses, ["503", "401", "502", "404"]);
    assert!(answers[1].contains("www-authenticate: Basic"));
    assert_eq!(lines(&told.fetched), ["GET 404 12"]);
    assert_eq!(told.failures.len(), 1, "{told:?}");
}

#[test]
fn what_the_lock_does_not_have_is_refused_before_a_server_is_asked() {
    let world = World::new();
    world.site.put(WHEEL, 200, "", "wheel");
    let (_, told) = world.record(Policy::Record, &[world.get(WHEEL)]);
    let newer = WHEEL.replace("3.7", "3.8");
    let requests = [world.get(&newer), world.get(WHEEL), world.get("/simple/idna/")];
    let (answers, after) = world.record(Policy::Locked(told.fetched), &requests);
    let statuses: Vec<&str> = answers.iter().map(|answer| status(answer)).collect();
    assert_eq!(statuses, ["403", "200", "404"]);
    let expected = Refusal::NotLocked {
        url: world.url(&newer),
        name: "idna".to_owned(),
        version: Some("3.8".to_owned()),
        locked_versions: vec!["3.7".to_owned()],
    };
    assert_eq!(after.refusals.into_iter().collect::<Vec<_>>(), [expected]);
    let heads = world.site.heads.lock().unwrap().concat();
    assert!(!heads.contains("3.8"), "{heads}");
}

#[test]
fn other_content_is_never_received_whole() {
    for size in [5, 1_000_000] {
        let world = World::new();
        world.site.put(WHEEL, 200, "", "w".repeat(size));
        let (_, told) = world.record(Policy::Record, &[world.get(WHEEL)]);
        // Another store has nothing to replay.
        let other = World { site: Arc::clone(&world.site), http: world.http, ..World::new() };
        world.site.put(WHEEL, 200, "", "x".repeat(size));
        let (answers, after) = other.record(Policy::Locked(told.fetched), &[world.get(WHEEL)]);
        assert!(answers[0].matches('x').count() < size, "{size}");
        let refusals: Vec<Refusal> = after.refusals.into_iter().collect();
        assert!(matches!(refusals.as_slice(), [Refusal::Differs { .. }]), "{refusals:?}");
        assert!(after.fetched.is_empty());
    }
}

#[test]
fn a_lock_is_replayed_from_the_store_without_any_server() {
    let world = World::new();
    world.site.put("/simple/idna/", 200, "Content-Type: text/html\r\n", "index");
    world.site.put("/old", 301, &format!("Location: {WHEEL}\r\n"), "");
    world.site.put(WHEEL, 200, "Last-Modified: then\r\n", "wheel");
    let requests = ["/simple/idna/", "/old", WHEEL, "/absent"].map(|path| world.get(path));
    let (before, told) = world.record(Policy::Record, &requests);
    let asked = world.site.asked();
    let (after, again) = world.record(Policy::Offline(told.fetched.clone()), &requests);
    for (one, other) in before.iter().zip(&after) {
        assert_eq!((status(one), body(one)), (status(other), body(other)));
    }
    assert!(after[2].contains("last-modified: then") && after[1].contains(WHEEL));
    assert_eq!(again.fetched, told.fetched);
    assert_eq!(world.site.asked(), asked);
    let (answers, told) = world.record(Policy::Offline(told.fetched), &[world.get("/simple/new/")]);
    assert_eq!(status(&answers[0]), "504");
    let refusal = told.refusals.into_iter().next().unwrap();
    assert!(!refusal.is_fatal(), "{refusal:?}");
}

#[test]
fn a_lock_without_its_content_says_what_is_missing() {
    let world = World::new();
    world.site.put(WHEEL, 200, "", "wheel");
    let (_, told) = world.record(Policy::Record, &[world.get(WHEEL)]);
    let empty = World { http: world.http, ..World::new() };
    let recorder = empty.recorder(Policy::Offline(told.fetched.clone()));
    assert_eq!(recorder.missing().unwrap(), [world.url(WHEEL)]);
    let (answers, after) = empty.record(Policy::Offline(told.fetched), &[world.get(WHEEL)]);
    assert_eq!(status(&answers[0]), "504");
    assert!(matches!(after.refusals.first(), Some(Refusal::NotStored { .. })), "{after:?}");
}

#[test]
fn a_cached_step_counts_if_it_agrees_with_the_lock_and_with_the_rest_of_the_build() {
    let world = World::new();
    world.site.put(WHEEL, 200, "", "wheel");
    world.site.put("/simple/idna/", 200, "", "index");
    let requests = [WHEEL, "/simple/idna/"].map(|path| world.get(path));
    let (_, told) = world.record(Policy::Record, &requests);
    let mut other = told.fetched.clone();
    for fetched in &mut other {
        fetched.sha256 = Digest::of(b"other");
    }
    let (wheel, index) = (&other[..1], &other[1..]);
    let locked = world.recorder(Policy::Locked(told.fetched.clone()));
    assert!(locked.accepts(&told.fetched) && locked.accepts(index) && !locked.accepts(wheel));
    let recorder = world.recorder(Policy::Record);
    assert!(
        recorder.accepts(&told.fetched) && !recorder.accepts(wheel) && !recorder.accepts(index)
    );
    // What the cached step got is what the others get.
    world.site.put(WHEEL, 200, "", "newer");
    assert_eq!(body(&Step::new(&recorder).exchange(&world.get(WHEEL))), "wheel");
}

#[test]
fn what_is_no_request_for_a_proxy_is_told_so() {
    let world = World::new();
    let recorder = world.recorder(Policy::Record);
    let step = Step::new(&recorder);
    for request in ["GET / HTTP/1.1\r\n", "CONNECT nothing:x HTTP/1.1\r\n", "nonsense\r\n"] {
        assert_eq!(status(&step.exchange(request)), "400", "{request}");
    }
    let mut stream = TcpStream::connect(step.proxy).unwrap();
    write!(stream, "CONNECT a.test:22 HTTP/1.1\r\n\r\nSSH-2.0-x\r\n").unwrap();
    text(&mut stream);
    let mut stream = TcpStream::connect(step.proxy).unwrap();
    write!(stream, "CONNECT a.test:22 HTTP/1.1\r\n\r\n").unwrap();
    stream.read_exact(&mut [0; 4]).unwrap();
    write!(stream, "SSH-2.0-x\r\n").unwrap();
    text(&mut stream);
    let told = step.finish();
    assert!(told.failures.iter().any(|text| text.contains("a.test:22")), "{told:?}");
}

#[test]
fn a_transfer_that_its_client_left_is_recorded_whole() {
    let world = World::new();
    world.site.put(WHEEL, 200, "", "w".repeat(3_000_000));
    let recorder = world.recorder(Policy::Record);
    let step = Step::new(&recorder);
    let mut stream = TcpStream::connect(step.proxy).unwrap();
    write!(stream, "{}\r\n", world.get(WHEEL)).unwrap();
    stream.read_exact(&mut [0; 64]).unwrap();
    drop(stream);
    assert_eq!(lines(&step.finish().fetched), ["GET 200 3000000"]);
}

#[test]
fn a_cancelled_step_waits_for_nothing() {
    let world = World::new();
    let recorder = world.recorder(Policy::Record);
    let step = Step::new(&recorder);
    let cancelled = AtomicBool::new(false);
    cancelled.store(true, Ordering::Relaxed);
    assert!(step.recorder.finish(&cancelled).fetched.is_empty());
}
