//! The client with a registry that misbehaves as it is told.

mod hostile;

use std::io::{self, Read};
use std::path::Path;

use corten_oci::digest::Digest;
use corten_oci::image::media_type;
use corten_sys::file;
use corten_testkit::registry::{Behaviour, TOKEN};
use corten_testkit::{FakeRegistry, TempDir};

use crate::{Client, ClientOptions, CredentialFiles, RegistryError, Repository};

fn repository(registry: &FakeRegistry, logins: Option<&Path>) -> Repository {
    let files = logins.map(Path::to_owned).into_iter().collect();
    let credentials = CredentialFiles { files, ..CredentialFiles::default() };
    let client = Client::new(ClientOptions { credentials, ..ClientOptions::default() });
    client.repository(&format!("{}/team/app:1", registry.host).parse().unwrap(), false)
}

fn logins(temp: &TempDir, registry: &FakeRegistry, auth: &str) -> std::path::PathBuf {
    let path = temp.path().join("auth.json");
    let text = format!("{{\"auths\":{{\"{}\":{{\"auth\":\"{auth}\"}}}}}}", registry.host);
    file::write(&path, text.as_bytes()).unwrap();
    path
}

fn put(repository: &Repository, bytes: &[u8]) -> Result<bool, RegistryError> {
    let open = || -> io::Result<Box<dyn Read + '_>> { Ok(Box::new(bytes)) };
    repository.put_blob(&Digest::of(bytes), bytes.len() as u64, None, &open)
}

fn get(repository: &Repository, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let opened = repository.open_blob(&Digest::of(bytes), bytes.len() as u64);
    let mut found = Vec::new();
    opened.map_err(io::Error::other)?.read_to_end(&mut found)?;
    Ok(found)
}

#[test]
fn blobs_and_manifests_come_back_and_are_sent_once() {
    let registry = FakeRegistry::start(Behaviour::default());
    let repository = repository(&registry, None);
    assert!(put(&repository, b"content").unwrap());
    assert!(!put(&repository, b"content").unwrap());
    assert_eq!(get(&repository, b"content").unwrap(), b"content");
    assert!(put(&repository, b"").unwrap());
    assert_eq!(repository.manifest("1").unwrap(), None);
    repository.put_manifest("1", media_type::MANIFEST, b"{}").unwrap();
    let found = repository.manifest("1").unwrap().unwrap();
    assert_eq!(
        (found.bytes.as_slice(), found.media_type.as_str()),
        (&b"{}"[..], media_type::MANIFEST)
    );
    assert!(!repository.has_blob(&Digest::of(b"absent")).unwrap());
}

#[test]
fn content_with_another_digest_or_size_is_refused() {
    let registry = FakeRegistry::start(Behaviour { corrupt: true, ..Behaviour::default() });
    let repository = repository(&registry, None);
    let digest = Digest::of(b"content").to_string();
    registry.put_blob(&digest, b"content");
    let error = get(&repository, b"content").unwrap_err();
    assert!(error.to_string().contains("another digest"), "{error}");
    registry.behave(Behaviour::default());
    for (bytes, expected) in [(&b"content and more"[..], "more than"), (b"cont", "end of file")] {
        registry.put_blob(&digest, bytes);
        let error = get(&repository, b"content").unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
    let name = Digest::of(b"asked").to_string();
    repository.put_manifest(&name, media_type::MANIFEST, b"other").unwrap();
    let error = repository.manifest(&name).unwrap_err();
    assert!(matches!(error, RegistryError::Digest { .. }), "{error}");
}

#[test]
fn a_registry_that_is_busy_is_asked_again() {
    let registry = FakeRegistry::start(Behaviour { unavailable: 3, ..Behaviour::default() });
    let repository = repository(&registry, None);
    assert!(put(&repository, b"content").unwrap());
    registry.behave(Behaviour { unavailable: 100, ..Behaviour::default() });
    let error = repository.manifest("1").unwrap_err();
    assert!(matches!(error, RegistryError::Status { status: 503, .. }), "{error}");
}

#[test]
fn tokens_and_passwords_are_used_and_kept_from_messages() {
    let temp = TempDir::new();
    let registry = FakeRegistry::start(Behaviour { token: true, ..Behaviour::default() });
    let error = put(&repository(&registry, None), b"x").unwrap_err();
    assert!(matches!(error, RegistryError::Login { had_credentials: false, .. }), "{error}");
    assert!(error.hint().unwrap().contains("log in with"));
    let wrong = logins(&temp, &registry, "dXNlcjp3cm9uZw==");
    let error = put(&repository(&registry, Some(&wrong)), b"x").unwrap_err();
    assert!(matches!(error, RegistryError::Login { had_credentials: true, .. }), "{error}");
    assert!(!format!("{error} {error:?} {:?}", error.hint()).contains("wrong"));
    let right = logins(&temp, &registry, "dXNlcjpwYXNzd29yZA==");
    registry.take_log();
    let repository = repository(&registry, Some(&right));
    assert!(put(&repository, b"x").unwrap());
    repository.put_manifest("1", media_type::MANIFEST, b"{}").unwrap();
    let log = registry.take_log();
    // One token is enough, and the password goes to the token server alone.
    assert_eq!(log.iter().filter(|line| line.starts_with("GET /token")).count(), 1, "{log:?}");
    assert!(log.iter().all(|line| !line.ends_with(" basic") || line.starts_with("GET /token")));
    assert!(!format!("{repository:?}").contains(TOKEN));
    registry.behave(Behaviour { basic: true, ..Behaviour::default() });
    assert!(put(&self::repository(&registry, Some(&right)), b"y").unwrap());
}

#[test]
fn a_redirection_to_another_host_does_not_carry_the_login() {
    let temp = TempDir::new();
    let other = FakeRegistry::start(Behaviour::default());
    let redirect_to = Some(other.host.clone());
    let registry =
        FakeRegistry::start(Behaviour { basic: true, redirect_to, ..Behaviour::default() });
    for registry in [&registry, &other] {
        registry.put_blob(&Digest::of(b"content").to_string(), b"content");
    }
    let right = logins(&temp, &registry, "dXNlcjpwYXNzd29yZA==");
    let repository = repository(&registry, Some(&right));
    assert_eq!(get(&repository, b"content").unwrap(), b"content");
    let digest = Digest::of(b"content");
    assert_eq!(other.take_log(), [format!("GET /v2/team/app/blobs/{digest}")]);
    assert!(registry.take_log().iter().any(|line| line.ends_with(" basic")));
}

#[test]
fn a_registry_that_takes_no_large_requests_gets_parts() {
    let most = Some(17 << 20);
    let registry =
        FakeRegistry::start(Behaviour { request_bytes_max: most, ..Behaviour::default() });
    let repository = repository(&registry, None);
    let bytes = vec![7; 40 << 20];
    assert!(put(&repository, &bytes).unwrap());
    assert_eq!(get(&repository, &bytes).unwrap(), bytes);
    let log = registry.take_log();
    assert_eq!(log.iter().filter(|line| line.starts_with("PATCH")).count(), 3, "{log:?}");
}

#[test]
fn a_blob_is_taken_from_another_repository_of_the_registry() {
    let registry = FakeRegistry::start(Behaviour::default());
    let repository = repository(&registry, None);
    let bytes = b"content";
    // It is there under no name that this repository may see: the fake tells them apart by nothing,
    // so the question whether it is there is answered before.
    registry.put_blob(&Digest::of(bytes).to_string(), bytes);
    let open = || -> io::Result<Box<dyn Read>> { Err(io::Error::other("it was read")) };
    let sent = repository.put_blob(&Digest::of(bytes), 7, Some("team/other"), &open);
    assert!(!sent.unwrap());
}
