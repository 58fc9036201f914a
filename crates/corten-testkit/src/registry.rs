//! A registry in the test's own process, which misbehaves as it is told.
//!
//! It knows the part of the distribution protocol that a client uses, keeps all in memory, believes
//! every digest, and remembers what it was asked.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

/// The token that its token server gives to whom it knows.
pub const TOKEN: &str = "test-token-of-the-fake-registry";

/// What it accepts as `Authorization: Basic`: `user:password`.
pub const BASIC: &str = "Basic dXNlcjpwYXNzd29yZA==";

/// What it shall do besides.
#[derive(Debug, Clone, Default)]
pub struct Behaviour {
    /// Requests need the token, which needs the password.
    pub token: bool,
    /// Requests need the password.
    pub basic: bool,
    /// So many requests are answered with 503 first.
    pub unavailable: u32,
    /// Blobs are given out by this other registry.
    pub redirect_to: Option<String>,
    /// Uploads of more bytes than this in one request are refused.
    pub request_bytes_max: Option<usize>,
    /// Blobs are given out with another last byte.
    pub corrupt: bool,
    /// From this request on, counted from 0, something goes wrong.
    pub fault: Option<(usize, Fault)>,
}

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// All requests are refused.
    Refuse,
    /// The connection is cut once, before an answer.
    CutOnce,
}

#[derive(Debug, Default)]
struct State {
    behaviour: Behaviour,
    blobs: BTreeMap<String, Vec<u8>>,
    manifests: BTreeMap<String, (String, Vec<u8>)>,
    uploads: BTreeMap<String, Vec<u8>>,
    log: Vec<String>,
    /// How many requests there were since it was told how to behave.
    requests: usize,
}

/// A registry that listens on this machine until the test ends.
#[derive(Debug, Clone)]
pub struct FakeRegistry {
    /// `127.0.0.1:PORT`.
    pub host: String,
    state: Arc<Mutex<State>>,
}

/// A request.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub query: String,
    /// By their names in lower case.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Answer {
    fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new() }
    }

    fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    fn body(mut self, body: &[u8]) -> Self {
        self.body = body.to_vec();
        self
    }
}

impl FakeRegistry {
    /// Starts one.
    pub fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("this machine has a loopback");
        let address = listener.local_addr().expect("a listener has an address");
        let state = Arc::new(Mutex::new(State { behaviour, ..State::default() }));
        let registry = Self { host: address.to_string(), state };
        let serving = registry.clone();
        // It ends with the process of the test.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let serving = serving.clone();
                std::thread::spawn(move || serving.serve(stream));
            }
        });
        registry
    }

    /// What it was asked since the last question: method, path, and who asked if it was told.
    pub fn take_log(&self) -> Vec<String> {
        std::mem::take(&mut self.state().log)
    }

    /// How many blobs there are.
    pub fn blobs(&self) -> usize {
        self.state().blobs.len()
    }

    /// Puts a blob there.
    pub fn put_blob(&self, digest: &str, bytes: &[u8]) {
        self.state().blobs.insert(digest.to_owned(), bytes.to_vec());
    }

    /// Changes how it behaves.
    pub fn behave(&self, behaviour: Behaviour) {
        let mut state = self.state();
        state.behaviour = behaviour;
        state.requests = 0;
    }

    /// How many requests there were since it was told how to behave.
    pub fn requests(&self) -> usize {
        self.state().requests
    }

    /// What goes wrong with the next request.
    fn fault(&self) -> Option<Fault> {
        let mut state = self.state();
        let number = state.requests;
        state.requests += 1;
        let (at, fault) = state.behaviour.fault?;
        (number == at || number > at && fault == Fault::Refuse).then_some(fault)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, stream: TcpStream) {
        let Ok(mut out) = stream.try_clone() else { return };
        let mut reader = BufReader::new(stream);
        while let Some(asked) = read(&mut reader) {
            let answer = match self.fault() {
                Some(Fault::CutOnce) => return,
                Some(Fault::Refuse) => Answer::new(400),
                None => self.answer(&asked),
            };
            let mut text = format!("HTTP/1.1 {} x\r\n", answer.status);
            for (name, value) in &answer.headers {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
            text.push_str(&format!("Content-Length: {}\r\n\r\n", answer.body.len()));
            let body = if asked.method == "HEAD" { &[] } else { answer.body.as_slice() };
            if out.write_all(text.as_bytes()).and_then(|()| out.write_all(body)).is_err() {
                return;
            }
        }
    }

    fn answer(&self, asked: &Asked) -> Answer {
        let mut state = self.state();
        let who = match asked.headers.get("authorization").map(String::as_str) {
            None => "",
            Some(BASIC) => " basic",
            Some(value) if value == format!("Bearer {TOKEN}") => " token",
            Some(_) => " unknown",
        };
        state.log.push(format!("{} {}{who}", asked.method, asked.path));
        if state.behaviour.unavailable > 0 {
            state.behaviour.unavailable -= 1;
            return Answer::new(503).header("Retry-After", "0");
        }
        if asked.path == "/token" {
            return match who {
                " basic" => Answer::new(200).body(format!("{{\"token\":\"{TOKEN}\"}}").as_bytes()),
                _ => Answer::new(401),
            };
        }
        if state.behaviour.token && who != " token" {
            let realm = format!("Bearer realm=\"http://{}/token\",service=\"fake\"", self.host);
            return Answer::new(401).header("WWW-Authenticate", realm);
        }
        if state.behaviour.basic && who != " basic" {
            return Answer::new(401).header("WWW-Authenticate", "Basic realm=\"fake\"");
        }
        state.registry(asked)
    }
}

impl State {
    fn registry(&mut self, asked: &Asked) -> Answer {
        let Some(path) = asked.path.strip_prefix("/v2/") else { return Answer::new(404) };
        if path.is_empty() {
            return Answer::new(200);
        }
        if let Some((_, id)) = path.split_once("/blobs/uploads/") {
            return self.upload(asked, id);
        }
        if let Some((_, digest)) = path.split_once("/blobs/") {
            let Some(blob) = self.blobs.get(digest) else { return Answer::new(404) };
            if asked.method == "GET"
                && let Some(other) = &self.behaviour.redirect_to
            {
                let location = format!("http://{other}{}", asked.path);
                return Answer::new(307).header("Location", location);
            }
            let mut blob = blob.clone();
            if self.behaviour.corrupt
                && let Some(last) = blob.last_mut()
            {
                *last ^= 1;
            }
            return Answer::new(200).body(&blob);
        }
        let Some((_, name)) = path.split_once("/manifests/") else { return Answer::new(404) };
        if asked.method == "PUT" {
            let kind = asked.headers.get("content-type").cloned().unwrap_or_default();
            self.manifests.insert(name.to_owned(), (kind, asked.body.clone()));
            return Answer::new(201);
        }
        match self.manifests.get(name) {
            Some((kind, bytes)) => {
                Answer::new(200).header("Content-Type", kind.clone()).body(bytes)
            }
            None => Answer::new(404),
        }
    }

    fn upload(&mut self, asked: &Asked, id: &str) -> Answer {
        if self.behaviour.request_bytes_max.is_some_and(|most| asked.body.len() > most) {
            return Answer::new(413);
        }
        if asked.method == "POST" {
            let mounted = parameter(&asked.query, "mount");
            if mounted.is_some_and(|digest| self.blobs.contains_key(&digest)) {
                return Answer::new(201);
            }
            let id = format!("u{}", self.uploads.len());
            self.uploads.insert(id.clone(), Vec::new());
            // A place relative to the request, and with a query of its own.
            return Answer::new(202).header("Location", format!("{}{id}?state=s", asked.path));
        }
        let Some(upload) = self.uploads.get_mut(id) else { return Answer::new(404) };
        upload.extend_from_slice(&asked.body);
        if asked.method == "PATCH" {
            return Answer::new(202).header("Location", format!("{}?state=s", asked.path));
        }
        let (Some(digest), Some(bytes)) =
            (parameter(&asked.query, "digest"), self.uploads.remove(id))
        else {
            return Answer::new(400);
        };
        self.blobs.insert(digest, bytes);
        Answer::new(201)
    }
}

fn parameter(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    let mut values = pairs.filter(|(key, _)| *key == name).map(|(_, value)| value);
    values.next().map(|value| value.replace("%3A", ":"))
}

pub(crate) fn read(reader: &mut BufReader<TcpStream>) -> Option<Asked> {
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?);
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let (path, query) = (path.to_owned(), query.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").and_then(|value| value.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Asked { method, path, query, headers, body })
}
