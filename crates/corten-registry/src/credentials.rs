//! Credentials that other programs keep: read, and never written.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use corten_sys::command::{self, Command};
use corten_sys::error::IoError;
use corten_sys::file;
use corten_sys::process::Ended;
use serde::Deserialize;

use crate::endpoint::Endpoint;

/// The largest file of credentials: a login has some kilobytes at most.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The longest answer of a helper.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// What helpers say when they have nothing for a registry, and when there is no registry to have it for.
const NOTHING: [&str; 2] = ["credentials not found", "no credentials"];

/// What a helper calls a token that stands for a user and a password.
const TOKEN_USER: &str = "<token>";

/// Programs write padding and leave it away, and not all fill the last digit with zeros.
const ANY_BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

/// Where credentials are looked for; the caller knows the environment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CredentialFiles {
    /// The files, in the order in which they are asked. What is absent has nothing.
    pub files: Vec<PathBuf>,
    /// The directories in which helpers are looked for.
    pub search_path: OsString,
    /// What helpers have as their environment.
    pub environment: Vec<(String, OsString)>,
}

/// Who asks.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credentials {
    Password {
        user: String,
        password: String,
    },
    /// A token that is changed for others.
    Identity(String),
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Credentials")
    }
}

/// Credentials that could not be had.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    #[error("failed to read the credentials")]
    Read(#[source] IoError),
    #[error("the credentials in `{}` cannot be read: line {line}, column {column}", path.display())]
    Parse { path: PathBuf, line: usize, column: usize },
    #[error("the credentials for `{registry}` in `{}` are damaged", path.display())]
    Damaged { path: PathBuf, registry: String },
    #[error("`{}` asks for the helper `{program}`, which is not in `PATH`", path.display())]
    NoHelper { path: PathBuf, program: String },
    #[error("the credential helper `{program}` failed")]
    Helper {
        program: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the credential helper `{program}` gave an answer that cannot be read")]
    Answer { program: String },
}

impl CredentialError {
    /// What to do.
    pub(crate) fn hint(&self) -> Option<String> {
        match self {
            Self::NoHelper { program, .. } => Some(format!(
                "install `{program}`, or take `credsStore` and `credHelpers` out of the file and log \
                 in again"
            )),
            Self::Parse { path, .. } | Self::Damaged { path, .. } => {
                Some(format!("log in again, or repair `{}`", path.display()))
            }
            Self::Read(_) | Self::Helper { .. } | Self::Answer { .. } => None,
        }
    }
}

/// `config.json` of Docker and `auth.json` of Podman.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    #[serde(default)]
    auths: BTreeMap<String, Auth>,
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    #[serde(default)]
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
struct Auth {
    #[serde(default)]
    auth: Option<String>,
    #[serde(default)]
    username: Option<String>,
    #[serde(default)]
    password: Option<String>,
    #[serde(default)]
    identitytoken: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    username: String,
    secret: String,
}

impl CredentialFiles {
    /// Finds the credentials for a repository of a registry; the first file that has some counts.
    pub(crate) fn find(
        &self,
        endpoint: &Endpoint,
        repository: &str,
    ) -> Result<Option<Credentials>, CredentialError> {
        for path in &self.files {
            let bytes = match file::read_optional(path, FILE_BYTES_MAX) {
                Ok(Some(bytes)) => bytes,
                Ok(None) => continue,
                Err(error) if error.is_not_a_directory() => continue,
                Err(error) => return Err(CredentialError::Read(error)),
            };
            // The place alone: what is around it may be a password.
            let parsed: File = serde_json::from_slice(&bytes).map_err(|error| {
                let (line, column) = (error.line(), error.column());
                CredentialError::Parse { path: path.clone(), line, column }
            })?;
            if let Some(found) = self.find_in(&parsed, path, endpoint, repository)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn find_in(
        &self,
        file: &File,
        path: &Path,
        endpoint: &Endpoint,
        repository: &str,
    ) -> Result<Option<Credentials>, CredentialError> {
        let name = endpoint.credentials_name();
        let helper = file.cred_helpers.get(name).or(file.cred_helpers.get(&endpoint.registry));
        if let Some(helper) = helper {
            return self.ask(helper, path, name);
        }
        let damaged =
            || CredentialError::Damaged { path: path.to_owned(), registry: name.to_owned() };
        if let Some(auth) = auth_of(file, endpoint, repository)
            && let Some(found) = auth.credentials().ok_or_else(damaged)?
        {
            return Ok(Some(found));
        }
        match &file.creds_store {
            Some(helper) if !helper.is_empty() => self.ask(helper, path, name),
            _ => Ok(None),
        }
    }

    /// Asks `docker-credential-NAME`, which reads the registry from its standard input.
    fn ask(
        &self,
        helper: &str,
        path: &Path,
        registry: &str,
    ) -> Result<Option<Credentials>, CredentialError> {
        let program = format!("docker-credential-{helper}");
        let is_name = helper.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
        let found = command::find_program(&program, &self.search_path).filter(|_| is_name);
        let Some(found) = found else {
            return Err(CredentialError::NoHelper { path: path.to_owned(), program });
        };
        let failed = |source| CredentialError::Helper { program: program.clone(), source };
        let (has_any, answer) = self.run(&found, registry).map_err(failed)?;
        if !has_any {
            // That is how helpers say that they have nothing; anything else is trouble of theirs.
            let text = String::from_utf8_lossy(&answer);
            if text.trim().is_empty() || NOTHING.iter().any(|nothing| text.contains(nothing)) {
                return Ok(None);
            }
            let line: String = text.lines().next().unwrap_or_default().to_owned();
            let line = line.chars().filter(|c| !c.is_control()).take(300).collect();
            return Err(failed(std::io::Error::other::<String>(line)));
        }
        let answer: Answer = serde_json::from_slice(&answer)
            .map_err(|_| CredentialError::Answer { program: program.clone() })?;
        if answer.username.is_empty() && answer.secret.is_empty() {
            return Ok(None);
        }
        Ok(Some(if answer.username == TOKEN_USER {
            Credentials::Identity(answer.secret)
        } else {
            Credentials::Password { user: answer.username, password: answer.secret }
        }))
    }

    fn run(&self, program: &Path, registry: &str) -> std::io::Result<(bool, Vec<u8>)> {
        let (stdin, question) = command::pipe()?;
        let (answer, stdout) = command::pipe()?;
        let mut command = Command::new(program)
            .arg("get")
            .descriptor(0, stdin.as_fd())
            .descriptor(1, stdout.as_fd());
        for (name, value) in &self.environment {
            command = command.env(name, value);
        }
        let child = command.spawn()?;
        drop(command);
        drop((stdin, stdout));
        let mut question = std::fs::File::from(question);
        // Who does not read it says so by its answer.
        drop(question.write_all(registry.as_bytes()));
        drop(question);
        let mut bytes = Vec::new();
        std::fs::File::from(answer).take(ANSWER_BYTES_MAX).read_to_end(&mut bytes)?;
        let ended = child.handle.wait()?.ended;
        Ok((ended == Ended::Code(0), bytes))
    }
}

/// The entry for the longest part of the name; Docker writes addresses, Podman also repositories.
fn auth_of<'f>(file: &'f File, endpoint: &Endpoint, repository: &str) -> Option<&'f Auth> {
    let mut name = format!("{}/{repository}", endpoint.registry);
    loop {
        if let Some(auth) = file.auths.get(&name) {
            return Some(auth);
        }
        match name.rfind('/') {
            Some(slash) => name.truncate(slash),
            None => break,
        }
    }
    let own = endpoint.credentials_name();
    let is_same = |key: &str| {
        let host = key.strip_prefix("https://").or(key.strip_prefix("http://")).unwrap_or(key);
        key == own || host.split('/').next() == Some(endpoint.registry.as_str())
    };
    file.auths.iter().find(|(key, _)| is_same(key)).map(|(_, auth)| auth)
}

impl Auth {
    /// `None` if it is damaged, and nothing within if it is empty, as with a helper.
    #[expect(clippy::option_option, reason = "damaged and empty are two things")]
    fn credentials(&self) -> Option<Option<Credentials>> {
        let text = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
        if let Some(token) = text(&self.identitytoken) {
            return Some(Some(Credentials::Identity(token)));
        }
        if let Some(auth) = text(&self.auth) {
            let decoded = String::from_utf8(decode(&auth)?).ok()?;
            let (user, password) = decoded.split_once(':')?;
            let password = password.trim_end_matches('\0').to_owned();
            return Some(Some(Credentials::Password { user: user.to_owned(), password }));
        }
        Some(match (text(&self.username), text(&self.password)) {
            (Some(user), Some(password)) => Some(Credentials::Password { user, password }),
            _ => None,
        })
    }
}

fn decode(text: &str) -> Option<Vec<u8>> {
    ANY_BASE64.decode(text.trim().trim_end_matches('=')).ok()
}

#[cfg(test)]
mod tests {
    use corten_testkit::TempDir;

    use super::*;

    fn found(text: &str, registry: &str, repository: &str) -> String {
        let temp = TempDir::new();
        let path = temp.path().join("config.json");
        file::write(&path, text.as_bytes()).unwrap();
        let files = CredentialFiles { files: vec![path], ..CredentialFiles::default() };
        match files.find(&Endpoint::new(registry, false), repository) {
            Ok(Some(Credentials::Password { user, password })) => format!("{user}:{password}"),
            Ok(Some(Credentials::Identity(token))) => format!("token {token}"),
            Ok(None) => "none".to_owned(),
            Err(error) => error.to_string().split('`').next().unwrap().to_owned(),
        }
    }

    #[test]
    fn credentials_are_found_as_docker_and_podman_keep_them() {
        let file = r#"{"auths":{
            "https://index.docker.io/v1/":{"auth":"aHViOnNlY3JldA=="},
            "registry.example":{"auth":"YTpiOmM="},
            "registry.example/team":{"username":"t","password":"p"},
            "https://other.example/v2/":{"identitytoken":"i"},
            "empty.example":{},
            "bad.example":{"auth":"*"}}}"#;
        assert_eq!(found(file, "docker.io", "library/x"), "hub:secret");
        assert_eq!(found(file, "registry.example", "a"), "a:b:c");
        assert_eq!(found(file, "registry.example", "team/a"), "t:p");
        assert_eq!(found(file, "other.example", "a"), "token i");
        assert_eq!(found(file, "empty.example", "a"), "none");
        assert_eq!(found(file, "absent.example", "a"), "none");
        assert_eq!(found(file, "bad.example", "a"), "the credentials for ");
        assert_eq!(found("{", "a.example", "a"), "the credentials in ");
        assert_eq!(found(r#"{"credsStore":"absent"}"#, "a.example", "a"), "");
    }

    #[test]
    fn a_helper_that_has_nothing_is_told_from_one_that_fails() {
        let temp = TempDir::new();
        let helper = temp.path().join("docker-credential-test");
        let config = temp.path().join("config.json");
        file::write(&config, br#"{"credsStore":"test"}"#).unwrap();
        let answered = |script: &str| {
            file::write(&helper, format!("#!/bin/sh\n{script}\n").as_bytes()).unwrap();
            file::set_mode(&helper, 0o755).unwrap();
            let files = vec![config.clone()];
            let search_path = temp.path().as_os_str().to_owned();
            let files = CredentialFiles { files, search_path, environment: Vec::new() };
            match files.find(&Endpoint::new("a.example", false), "x") {
                Ok(Some(Credentials::Password { user, password })) => format!("{user}:{password}"),
                Ok(Some(Credentials::Identity(token))) => format!("token {token}"),
                Ok(None) => "none".to_owned(),
                Err(CredentialError::Helper { source, .. }) => format!("failed: {source}"),
                Err(error) => error.to_string(),
            }
        };
        for (script, expected) in [
            (
                "read -r r; echo \"{\\\"Username\\\":\\\"$r\\\",\\\"Secret\\\":\\\"p\\\"}\"",
                "a.example:p",
            ),
            ("echo '{\"Username\":\"<token>\",\"Secret\":\"t\"}'", "token t"),
            ("echo credentials not found in native keychain; exit 1", "none"),
            ("exit 1", "none"),
            ("echo 'the keychain is locked'; exit 1", "failed: the keychain is locked"),
            (
                "echo nonsense",
                "the credential helper `docker-credential-test` gave an answer that cannot be read",
            ),
            ("kill -9 $$", "none"),
        ] {
            assert_eq!(answered(script), expected, "{script}");
        }
    }

    #[test]
    fn an_error_and_a_debug_text_have_no_secret() {
        let temp = TempDir::new();
        let path = temp.path().join("auth.json");
        file::write(&path, br#"{"auths":{"a.example":{"auth":"c2VjcmV0"}}"#).unwrap();
        let files = CredentialFiles { files: vec![path], ..CredentialFiles::default() };
        let error = files.find(&Endpoint::new("a.example", false), "x").unwrap_err();
        assert!(!format!("{error} {error:?}").contains("c2VjcmV0"));
        let secret = Credentials::Password { user: "u".to_owned(), password: "hidden".to_owned() };
        assert!(!format!("{secret:?}").contains("hidden"));
    }

    #[test]
    fn base64_is_read_with_and_without_padding() {
        for (encoded, text) in
            [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm9v", "foo"), ("dXNlcjpwYQ==", "user:pa")]
        {
            assert_eq!(decode(encoded).unwrap(), text.as_bytes());
            assert_eq!(decode(encoded.trim_end_matches('=')).unwrap(), text.as_bytes());
            assert_eq!(decode(&format!(" {encoded}\n")).unwrap(), text.as_bytes());
        }
        assert_eq!(decode("Zh==").unwrap(), b"f", "bits behind the last byte count for nothing");
        assert_eq!(decode("a"), None);
        assert_eq!(decode("a*=="), None);
        assert_eq!(decode("Zg==Zg"), None);
    }
}
