//! Credentials for servers, given as secrets whose names say for which host.
//!
//! The names are BuildKit's: `HTTP_AUTH_HEADER_HOST` has the whole value of the header
//! `Authorization`, `HTTP_AUTH_TOKEN_HOST` a bearer token; for repositories over HTTP
//! `GIT_AUTH_HEADER` and `GIT_AUTH_TOKEN`, for one host alone with `.HOST` after them. What names a
//! host goes before what does not.
//!
//! A value goes into a header of a request to its host, or into the environment of `git`, and
//! nowhere else. One that names no host is for every repository that a Dockerfile may name, so it
//! is only sent where what is sent is protected.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use corten_sys::file;

use super::{Address, RemoteError, Remotes};
use crate::options::{SECRET_BYTES_MAX, Secret};

/// The user that stands beside a token; servers look at the token alone.
const TOKEN_USER: &str = "x-access-token";

/// How a secret becomes the value of the header.
#[derive(Clone, Copy)]
enum Form {
    Header,
    Bearer,
    Basic,
}

/// The header `Authorization` for a file, if a secret is there for its host.
pub(super) fn for_file(
    remotes: &Remotes,
    address: &Address,
) -> Result<Option<String>, RemoteError> {
    let names = address.hosts().into_iter().flat_map(|host| {
        [
            (format!("HTTP_AUTH_HEADER_{host}"), Form::Header),
            (format!("HTTP_AUTH_TOKEN_{host}"), Form::Bearer),
        ]
    });
    find(remotes, address, names)
}

/// The same for a repository.
pub(super) fn for_repository(
    remotes: &Remotes,
    address: &Address,
) -> Result<Option<String>, RemoteError> {
    if !address.is_http() {
        return Ok(None);
    }
    let mut names = Vec::new();
    for host in address.hosts() {
        names.push((format!("GIT_AUTH_HEADER.{host}"), Form::Header));
        names.push((format!("GIT_AUTH_TOKEN.{host}"), Form::Basic));
    }
    if address.is_https() {
        names.push(("GIT_AUTH_HEADER".to_owned(), Form::Header));
        names.push(("GIT_AUTH_TOKEN".to_owned(), Form::Basic));
    }
    find(remotes, address, names)
}

fn find(
    remotes: &Remotes,
    address: &Address,
    names: impl IntoIterator<Item = (String, Form)>,
) -> Result<Option<String>, RemoteError> {
    // What the address itself says is meant.
    if address.has_credentials() || remotes.secrets.is_empty() {
        return Ok(None);
    }
    for (id, form) in names {
        let bytes = match remotes.secrets.get(&id) {
            None => continue,
            Some(Secret::Value(bytes)) => bytes.clone(),
            Some(Secret::File(path)) => file::read_limited(path, SECRET_BYTES_MAX)?,
        };
        return header(&bytes, form).ok_or(RemoteError::Credential { id }).map(Some);
    }
    Ok(None)
}

fn header(bytes: &[u8], form: Form) -> Option<String> {
    // A file ends with a line feed, which is not meant.
    let text = std::str::from_utf8(bytes).ok()?.trim();
    if text.is_empty() || !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
        return None;
    }
    Some(match form {
        Form::Header => text.to_owned(),
        Form::Bearer => format!("Bearer {text}"),
        Form::Basic => format!("Basic {}", STANDARD.encode(format!("{TOKEN_USER}:{text}"))),
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn remotes(pairs: &[(&str, &str)]) -> Remotes {
        let secret =
            |(id, value): &(&str, &str)| ((*id).to_owned(), Secret::Value(value.as_bytes().into()));
        let secrets: BTreeMap<_, _> = pairs.iter().map(secret).collect();
        Remotes { secrets, ..Remotes::default() }
    }

    #[test]
    fn the_secret_of_a_host_goes_to_that_host() {
        let remotes = remotes(&[
            ("HTTP_AUTH_TOKEN_a.test", "t1\n"),
            ("HTTP_AUTH_HEADER_b.test:8443", "Custom t2"),
            ("GIT_AUTH_TOKEN", "t3"),
            ("GIT_AUTH_HEADER.c.test", "Basic t4"),
        ]);
        let file = |text: &str| for_file(&remotes, &Address::parse(text).unwrap()).unwrap();
        let git = |text: &str| for_repository(&remotes, &Address::parse(text).unwrap()).unwrap();
        assert_eq!(file("https://a.test/x").as_deref(), Some("Bearer t1"));
        assert_eq!(file("https://a.test:444/x").as_deref(), Some("Bearer t1"));
        assert_eq!(file("https://b.test:8443/x").as_deref(), Some("Custom t2"));
        for other in ["https://b.test/x", "https://xa.test/", "https://u:p@a.test/x"] {
            assert_eq!(file(other), None, "{other}");
        }
        let token = STANDARD.encode("x-access-token:t3");
        assert_eq!(git("https://a.test/x.git"), Some(format!("Basic {token}")));
        assert_eq!(git("https://c.test/x.git").as_deref(), Some("Basic t4"));
        assert_eq!(git("http://c.test/x.git").as_deref(), Some("Basic t4"));
        for other in ["http://a.test/x.git", "ssh://git@a.test/x.git"] {
            assert_eq!(git(other), None, "{other}");
        }
    }

    #[test]
    fn a_value_that_would_be_another_header_is_refused() {
        for value in ["", "a\r\nHost: b", "a\0b", "\u{fc}"] {
            let remotes = remotes(&[("HTTP_AUTH_HEADER_a.test", value)]);
            let error = for_file(&remotes, &Address::parse("https://a.test/").unwrap());
            let told = error.unwrap_err().to_string();
            assert!(told.contains("HTTP_AUTH_HEADER_a.test"), "{told}");
            assert!(!told.contains("Host: b"), "{told}");
        }
    }
}
