//! The client with servers that mean it harm, or are broken in ways that a registry is not.

use std::io::Read as _;
use std::time::Duration;

use corten_oci::digest::Digest;
use corten_oci::image::media_type;
use corten_sys::clock::{Clock, SystemClock};
use corten_sys::file;
use corten_testkit::registry::Behaviour;
use corten_testkit::wire::{Reply, reply};
use corten_testkit::{FakeRegistry, TempDir, Wire};

use super::put;
use crate::{Client, ClientOptions, CredentialFiles, RegistryError, Repository};

/// A repository of a registry for which there is a login: `user:password`.
fn with_login(temp: &TempDir, host: &str) -> Repository {
    let path = temp.path().join("auth.json");
    let text = format!("{{\"auths\":{{\"{host}\":{{\"auth\":\"dXNlcjpwYXNzd29yZA==\"}}}}}}");
    file::write(&path, text.as_bytes()).unwrap();
    let credentials = CredentialFiles { files: vec![path], ..CredentialFiles::default() };
    let client = Client::new(ClientOptions { credentials, ..ClientOptions::default() });
    client.repository(&format!("{host}/team/app:1").parse().unwrap(), false)
}

fn without_login(host: &str) -> Repository {
    Client::new(ClientOptions::default())
        .repository(&format!("{host}/team/app:1").parse().unwrap(), false)
}

fn problem(error: &RegistryError) -> String {
    match error {
        RegistryError::Protocol { problem, .. } => problem.clone(),
        other => format!("{other:?}"),
    }
}

/// Bytes without any pattern.
fn noise(count: usize) -> Vec<u8> {
    let mut state: u64 = 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    (0..count / 8).flat_map(|_| next()).collect()
}

#[test]
fn who_stores_blobs_for_a_registry_cannot_ask_for_its_login() {
    let temp = TempDir::new();
    for scheme in ["Basic realm=\"x\"", "Bearer realm=\"http://HOST/token\""] {
        let store = Wire::start(move |asked, _| {
            let host = asked.headers.get("host").cloned().unwrap_or_default();
            if asked.path == "/token" {
                return reply(200, "", b"{\"token\":\"t\"}");
            }
            let challenge = scheme.replace("HOST", &host);
            reply(401, &format!("WWW-Authenticate: {challenge}\n"), b"")
        });
        let redirect_to = Some(store.host.clone());
        let registry = FakeRegistry::start(Behaviour { redirect_to, ..Behaviour::default() });
        registry.put_blob(&Digest::of(b"content").to_string(), b"content");
        let repository = with_login(&temp, &registry.host);
        let opened = repository.open_blob(&Digest::of(b"content"), 7);
        let error = opened.map(drop).unwrap_err();
        assert!(matches!(error, RegistryError::Status { status: 401, .. }), "{error}");
        let log = store.log();
        assert!(log.iter().all(|asked| !asked.headers.contains_key("authorization")), "{log:?}");
        assert!(log.iter().all(|asked| asked.path != "/token"), "{log:?}");
        assert!(registry.take_log().iter().all(|line| !line.ends_with(" basic")));
    }
}

#[test]
fn a_password_does_not_go_to_another_host_without_tls() {
    let temp = TempDir::new();
    let registry = Wire::start(|_, _| {
        let realm = "WWW-Authenticate: Bearer realm=\"http://tokens.invalid:5001/token\"\n";
        reply(401, realm, b"")
    });
    let error = with_login(&temp, &registry.host).manifest("1").unwrap_err();
    assert!(matches!(error, RegistryError::Unprotected { .. }), "{error}");
    let hint = error.hint().unwrap();
    assert!(hint.contains("[registries.\"tokens.invalid:5001\"]"), "{hint}");
}

#[test]
fn a_registry_that_is_never_content_with_a_login_is_asked_twice() {
    let temp = TempDir::new();
    let registry = Wire::start(|asked, _| {
        let host = asked.headers.get("host").cloned().unwrap_or_default();
        if asked.path == "/token" {
            return reply(200, "", b"{\"token\":\"t\"}");
        }
        reply(401, &format!("WWW-Authenticate: Bearer realm=\"http://{host}/token\"\n"), b"")
    });
    let error = with_login(&temp, &registry.host).manifest("1").unwrap_err();
    assert!(matches!(error, RegistryError::Login { had_credentials: true, .. }), "{error}");
    assert_eq!(registry.log().len(), 3, "{:?}", registry.log());
}

#[test]
fn redirections_end_and_do_not_leave_http() {
    let around = Wire::start(|asked, _| reply(302, &format!("Location: {}\n", asked.path), b""));
    let error = without_login(&around.host).manifest("1").unwrap_err();
    assert_eq!(problem(&error), "it leads on more than 5 times");
    assert_eq!(around.log().len(), 6);
    for (location, expected) in [
        ("file:///etc/passwd", "it leads to an address of another protocol than HTTP"),
        ("gopher://127.0.0.1/x", "it leads to an address of another protocol than HTTP"),
    ] {
        let away = Wire::start(move |_, _| reply(302, &format!("Location: {location}\n"), b""));
        let error = without_login(&away.host).manifest("1").unwrap_err();
        assert_eq!(problem(&error), expected, "{location}");
    }
}

#[test]
fn an_upload_that_leads_elsewhere_carries_no_login() {
    let temp = TempDir::new();
    let elsewhere = Wire::start(|_, _| {
        reply(401, "WWW-Authenticate: Basic realm=\"give me your password\"\n", b"")
    });
    let location = format!("http://{}/upload?a=b", elsewhere.host);
    let registry = Wire::start(move |asked, _| match asked.method.as_str() {
        "HEAD" => reply(404, "", b""),
        _ if !asked.headers.contains_key("authorization") => {
            reply(401, "WWW-Authenticate: Basic realm=\"x\"\n", b"")
        }
        _ => reply(202, &format!("Location: {location}\n"), b""),
    });
    let error = put(&with_login(&temp, &registry.host), b"content").unwrap_err();
    assert!(matches!(error, RegistryError::Status { status: 401, .. }), "{error}");
    assert!(registry.log().iter().any(|asked| asked.headers.contains_key("authorization")));
    let log = elsewhere.log();
    assert!(!log.is_empty());
    assert!(log.iter().all(|asked| !asked.headers.contains_key("authorization")), "{log:?}");
}

#[test]
fn what_has_no_end_is_read_up_to_its_limit() {
    let head = "HTTP/1.1 200 x\r\nContent-Length: 99999999999999\r\n\r\n";
    let endless = move |head: &str, again: &[u8]| {
        let (head, again) = (head.as_bytes().to_vec(), again.to_vec());
        Wire::start(move |_, _| Reply::Endless(head.clone(), again.clone()))
    };
    let body = endless(head, &[b'x'; 4096]);
    let error = without_login(&body.host).manifest("1").unwrap_err();
    assert_eq!(problem(&error), "it is larger than 4096 KiB");
    let headers = endless("HTTP/1.1 200 x\r\n", b"X-A: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n");
    let error = without_login(&headers.host).manifest("1").unwrap_err();
    assert!(matches!(error, RegistryError::Transport { .. }), "{error}");
    let failure = "HTTP/1.1 403 x\r\nContent-Length: 99999999999999\r\n\r\n";
    let failure = endless(failure, b"{\"errors\":[");
    let error = without_login(&failure.host).manifest("1").unwrap_err();
    assert!(matches!(error, RegistryError::Denied { .. }), "{error}");
    let chunks = "HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n";
    let blob = endless(chunks, b"5\r\naaaaa\r\n");
    let mut opened = without_login(&blob.host).open_blob(&Digest::of(b"a"), 7).unwrap();
    let error = opened.read_to_end(&mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("more than the blob has"), "{error}");
}

#[test]
fn a_token_server_that_has_no_end_gives_no_token() {
    let registry = Wire::start(|asked, _| {
        let host = asked.headers.get("host").cloned().unwrap_or_default();
        if asked.path == "/token" {
            let head = b"HTTP/1.1 200 x\r\nContent-Length: 99999999999999\r\n\r\n{\"token\":\"";
            return Reply::Endless(head.to_vec(), vec![b't'; 4096]);
        }
        reply(401, &format!("WWW-Authenticate: Bearer realm=\"http://{host}/token\"\n"), b"")
    });
    let error = without_login(&registry.host).manifest("1").unwrap_err();
    assert_eq!(problem(&error), "it is larger than 1024 KiB");
}

#[test]
fn a_document_that_breaks_off_is_read_again() {
    let head = b"HTTP/1.1 200 x\r\nContent-Length: 9\r\n\r\n{\"a\"";
    let once = Wire::start(|_, number| match number {
        0 => Reply::Bytes(head.to_vec()),
        _ => reply(200, "", b"{\"a\": 1}"),
    });
    let document = without_login(&once.host).manifest("1").unwrap().unwrap();
    assert_eq!(document.bytes, b"{\"a\": 1}");
    let always = Wire::start(|_, _| Reply::Bytes(head.to_vec()));
    let error = without_login(&always.host).manifest("1").unwrap_err();
    assert!(problem(&error).starts_with("it broke off"), "{error}");
    assert_eq!(always.log().len(), 3);
}

#[test]
fn a_blob_that_breaks_off_is_read_on_from_there() {
    let bytes = noise(3 << 20);
    for knows_ranges in [true, false] {
        let content = bytes.clone();
        let registry = Wire::start(move |asked, number| {
            let range = asked.headers.get("range").filter(|_| knows_ranges);
            let start = range.map_or(0, |range| {
                range.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap()
            });
            let rest = &content[start..];
            // Each answer but the last breaks off after a mebibyte of what is new.
            let new = if knows_ranges { 1 } else { number + 1 };
            let end = if number < 2 { new << 20 } else { rest.len() };
            let status = if start > 0 { 206 } else { 200 };
            let range = format!("Content-Range: bytes {start}-{0}/{0}\r\n", content.len());
            let length = rest.len();
            let head = format!("HTTP/1.1 {status} x\r\n{range}Content-Length: {length}\r\n\r\n");
            Reply::Bytes([head.as_bytes(), &rest[..end]].concat())
        });
        let digest = Digest::of(&bytes);
        let repository = without_login(&registry.host);
        let mut found = Vec::new();
        let mut opened = repository.open_blob(&digest, bytes.len() as u64).unwrap();
        opened.read_to_end(&mut found).unwrap();
        assert!(found == bytes);
        assert_eq!(registry.log().len(), 3);
    }
}

#[test]
fn a_part_that_was_not_asked_for_is_not_taken() {
    let registry = Wire::start(|_, _| reply(206, "Content-Range: bytes 0-6/7\n", b"content"));
    let error = without_login(&registry.host).open_blob(&Digest::of(b"content"), 7);
    let error = error.map(drop).unwrap_err();
    assert_eq!(problem(&error), "it is another part than the one that was asked for");
}

#[test]
fn a_registry_that_asks_for_a_long_wait_is_not_waited_for() {
    let busy = Wire::start(|_, _| reply(429, "Retry-After: 3600\n", b"{\"errors\":[]}"));
    let started = SystemClock.monotonic();
    let error = without_login(&busy.host).manifest("1").unwrap_err();
    assert!(matches!(error, RegistryError::Status { status: 429, .. }), "{error}");
    assert!(error.hint().unwrap().contains("log in"));
    assert!(SystemClock.monotonic().saturating_sub(started) < Duration::from_secs(20));
    assert_eq!(busy.log().len(), 1);
    // A date, and nonsense, are no number of seconds: the usual wait, then.
    let moment = Wire::start(|_, number| match number {
        0 => reply(429, "Retry-After: Fri, 31 Dec 1999 23:59:59 GMT\n", b""),
        1 => reply(503, "Retry-After: -5\n", b""),
        _ => reply(200, "", b"{}"),
    });
    assert!(without_login(&moment.host).manifest("1").unwrap().is_some());
}

#[test]
fn a_manifest_that_the_registry_keeps_as_another_is_told() {
    let registry = Wire::start(|_, _| {
        reply(201, &format!("Docker-Content-Digest: {}\n", Digest::of(b"other")), b"")
    });
    let repository = without_login(&registry.host);
    let error = repository.put_manifest("1", media_type::MANIFEST, b"{}").unwrap_err();
    assert!(matches!(error, RegistryError::Digest { .. }), "{error}");
}

#[test]
fn bytes_that_are_no_http_are_an_error() {
    for bytes in [&b"\0\0\0\0\r\n\r\n"[..], b"HTTP/1.1 999999 x\r\n\r\n", b"SSH-2.0-x\r\n\r\n"] {
        let nonsense = Wire::start(move |_, _| Reply::Bytes(bytes.to_vec()));
        let error = without_login(&nonsense.host).manifest("1").unwrap_err();
        assert!(matches!(error, RegistryError::Transport { .. }), "{error}");
    }
}
