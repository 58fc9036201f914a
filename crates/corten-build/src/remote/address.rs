//! Addresses: what is fetched over HTTP, and what is a git repository.
//!
//! A user name or password in an address is kept apart from the rest, so that nothing that is shown,
//! recorded or hashed can contain it.

use std::fmt;

/// The schemes that git repositories may have.
const GIT_SCHEMES: [&str; 4] = ["https", "http", "ssh", "git"];

/// The longest address: what common servers accept.
const ADDRESS_BYTES_MAX: usize = 8192;

/// Why an address cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    #[error("the address has no host")]
    NoHost,
    #[error("the address has a character that cannot be in one")]
    Character,
    #[error("the address is longer than {ADDRESS_BYTES_MAX} bytes")]
    TooLong,
    #[error("`{0}` is no scheme that can be fetched")]
    Scheme(String),
    #[error("`{0}` is no name of a branch, tag or commit")]
    Reference(String),
    #[error("the directory `{0}` leads out of the repository")]
    Directory(String),
    #[error("`{0}` is given twice, in different ways")]
    Conflict(&'static str),
    #[error("`{0}` is no parameter of a git address")]
    Parameter(String),
    #[error("`{0}` is neither `true` nor `false`")]
    Flag(String),
    #[error("`{0}` is no commit: 7 to 64 hexadecimal digits are needed")]
    Commit(String),
}

/// An address without its credentials, which are beside it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// Fit to be shown.
    shown: String,
    /// `user[:password]` of an HTTP address.
    credentials: Option<String>,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({})", self.shown)
    }
}

impl Address {
    /// Reads an address; a part after `#` is left out.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let text = text.split_once('#').map_or(text, |(address, _)| address);
        if text.len() > ADDRESS_BYTES_MAX {
            return Err(AddressError::TooLong);
        }
        if text.bytes().any(|byte| byte <= b' ' || byte == 0x7f || byte == b'\\') {
            return Err(AddressError::Character);
        }
        let (scheme, rest) = text.split_once("://").ok_or(AddressError::NoHost)?;
        let scheme = scheme.to_ascii_lowercase();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (user, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, authority),
        };
        if host.is_empty() || host.starts_with([':', '-']) {
            return Err(AddressError::NoHost);
        }
        let is_http = matches!(scheme.as_str(), "http" | "https");
        let user = user.filter(|user| !user.is_empty());
        let (named, credentials) = match user {
            Some(user) if is_http => (String::new(), Some(user.to_owned())),
            // The user of `ssh://` is no secret; a password would be one, and ssh takes none.
            Some(user) => {
                let name = user.split_once(':').map_or(user, |(name, _)| name);
                if name.starts_with('-') {
                    return Err(AddressError::Character);
                }
                (format!("{name}@"), None)
            }
            None => (String::new(), None),
        };
        Ok(Self { shown: format!("{scheme}://{named}{host}{path}"), credentials })
    }

    /// An address of the form that only git knows: `user@host:path`.
    fn of_ssh(text: &str) -> Result<Self, AddressError> {
        if text.len() > ADDRESS_BYTES_MAX {
            return Err(AddressError::TooLong);
        }
        if text.starts_with('-') || text.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err(AddressError::Character);
        }
        Ok(Self { shown: text.to_owned(), credentials: None })
    }

    /// The address as it can be shown, recorded and hashed.
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// The address with its credentials: only for whoever connects.
    pub fn with_credentials(&self) -> String {
        match (&self.credentials, self.shown.split_once("://")) {
            (Some(credentials), Some((scheme, rest))) => format!("{scheme}://{credentials}@{rest}"),
            _ => self.shown.clone(),
        }
    }

    /// Whether there is something that must not be shown.
    pub fn has_credentials(&self) -> bool {
        self.credentials.is_some()
    }

    /// Whether what comes is protected on its way.
    pub fn is_https(&self) -> bool {
        self.shown.starts_with("https://")
    }

    /// Whether it is fetched over HTTP.
    pub(super) fn is_http(&self) -> bool {
        matches!(self.scheme(), "http" | "https")
    }

    /// The names of the host: with its port, if it has one, and without.
    pub(super) fn hosts(&self) -> Vec<String> {
        let all = self.authority().to_ascii_lowercase();
        let name = match all.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name.to_owned(),
            _ => return vec![all],
        };
        vec![all, name]
    }

    /// The top of the host.
    pub(super) fn of_host(&self) -> Self {
        let shown = format!("{}://{}/", self.scheme(), self.authority());
        Self { shown, credentials: self.credentials.clone() }
    }

    fn scheme(&self) -> &str {
        self.shown.split_once("://").map_or("", |(scheme, _)| scheme)
    }

    fn authority(&self) -> &str {
        let rest = self.shown.split_once("://").map_or("", |(_, rest)| rest);
        rest.split(['/', '?']).next().unwrap_or_default()
    }

    /// The path, without what is after `?`.
    fn path(&self) -> &str {
        let rest = self.shown.split_once("://").map_or("", |(_, rest)| rest);
        let path = rest.find('/').map_or("", |at| rest.get(at..).unwrap_or_default());
        path.split('?').next().unwrap_or_default()
    }

    /// The name that the last part of the path gives a file.
    pub fn file_name(&self) -> Option<String> {
        let last = self.path().rsplit('/').find(|part| !part.is_empty())?;
        file_name(&percent_decoded(last))
    }

    /// Where a redirection leads. Credentials stay with the host that they were given for.
    pub fn join(&self, location: &str) -> Result<Self, AddressError> {
        let location = location.trim();
        let joined = if location.contains("://") {
            location.to_owned()
        } else if let Some(rest) = location.strip_prefix("//") {
            format!("{}://{rest}", self.scheme())
        } else if location.starts_with('/') {
            format!("{}://{}{location}", self.scheme(), self.authority())
        } else {
            let path = self.path();
            let folder = path.rfind('/').map_or("/", |at| path.get(..=at).unwrap_or("/"));
            format!("{}://{}{folder}{location}", self.scheme(), self.authority())
        };
        let mut next = Self::parse(&joined)?;
        if !matches!(next.scheme(), "http" | "https") {
            return Err(AddressError::Scheme(next.scheme().to_owned()));
        }
        let same = (next.scheme(), next.authority()) == (self.scheme(), self.authority());
        if same && next.credentials.is_none() {
            next.credentials.clone_from(&self.credentials);
        }
        Ok(next)
    }
}

/// Accepts what can be the name of a file.
pub(super) fn file_name(text: &str) -> Option<String> {
    let bad = text.is_empty()
        || text == "."
        || text == ".."
        || text.len() > corten_oci::limits::NAME_BYTES_MAX
        || text.starts_with(".wh.")
        || text.contains(['/', '\0']);
    (!bad).then(|| text.to_owned())
}

/// Replaces `%41` and the like; what is malformed stays.
fn percent_decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        let value = hex.filter(|_| *byte == b'%').and_then(|hex| u8::from_str_radix(hex, 16).ok());
        decoded.push(value.unwrap_or(*byte));
        at += if value.is_some() { 3 } else { 1 };
    }
    String::from_utf8(decoded).unwrap_or_else(|_| text.to_owned())
}

/// Text without the credentials of the addresses in it.
pub fn without_credentials(text: &str) -> String {
    let mut clean = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        clean.push_str(before);
        let end = after.find(|c: char| c.is_whitespace() || "/?#\"'`".contains(c));
        let (authority, tail) = after.split_at(end.unwrap_or(after.len()));
        clean.push_str(authority.rsplit_once('@').map_or(authority, |(_, host)| host));
        rest = tail;
    }
    clean.push_str(rest);
    clean
}

/// A git repository and what of it is wanted.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GitSource {
    pub address: Address,
    /// A branch, a tag, another name of the repository, or a commit; its `HEAD` when absent.
    pub reference: Option<String>,
    /// Below the top of the repository; clean, without `..`.
    pub directory: String,
    /// The first digits of the commit that it must be.
    pub commit: Option<String>,
    pub keep_git_dir: bool,
    pub submodules: bool,
}

impl GitSource {
    /// Reads the address of a repository; `None` when the text is none.
    pub fn parse(text: &str) -> Result<Option<Self>, AddressError> {
        let (whole, fragment) = match text.split_once('#') {
            Some((whole, fragment)) => (whole, Some(fragment)),
            None => (text, None),
        };
        let Some((scheme, _)) = whole.split_once("://") else {
            return Self::parse_ssh(whole, fragment);
        };
        let scheme = scheme.to_ascii_lowercase();
        if !GIT_SCHEMES.contains(&scheme.as_str()) {
            return Ok(None);
        }
        let (base, query) = match whole.split_once('?') {
            Some((base, query)) => (base, Some(query)),
            None => (whole, None),
        };
        // Over HTTP only the name tells a repository from a file.
        if scheme.starts_with("http") && base.trim_end_matches('/').strip_suffix(".git").is_none() {
            return Ok(None);
        }
        let mut source = Self::new(Address::parse(base)?, fragment)?;
        if let Some(query) = query {
            source.apply_query(query)?;
        }
        Ok(Some(source))
    }

    /// `user@host:path`.
    fn parse_ssh(whole: &str, fragment: Option<&str>) -> Result<Option<Self>, AddressError> {
        let Some((user, rest)) = whole.split_once('@') else { return Ok(None) };
        let Some((host, path)) = rest.split_once(':') else { return Ok(None) };
        let word = |text: &str| {
            let good = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
            !text.is_empty() && !text.starts_with('-') && text.bytes().all(good)
        };
        if !word(user) || !word(host) || path.is_empty() {
            return Ok(None);
        }
        Self::new(Address::of_ssh(whole)?, fragment).map(Some)
    }

    fn new(address: Address, fragment: Option<&str>) -> Result<Self, AddressError> {
        let (reference, directory) = match fragment.unwrap_or_default().split_once(':') {
            Some((reference, directory)) => (reference, directory),
            None => (fragment.unwrap_or_default(), ""),
        };
        let reference = (!reference.is_empty()).then(|| check_reference(reference)).transpose()?;
        Ok(Self {
            address,
            reference,
            directory: check_directory(directory)?,
            commit: None,
            keep_git_dir: false,
            submodules: true,
        })
    }

    /// `?ref=…&branch=…&tag=…&commit=…&subdir=…&keep-git-dir=…&submodules=…`.
    fn apply_query(&mut self, query: &str) -> Result<(), AddressError> {
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = percent_decoded(value);
            match name {
                "ref" => self.set_reference(&value)?,
                "branch" => self.set_reference(&format!("refs/heads/{value}"))?,
                "tag" => self.set_reference(&format!("refs/tags/{value}"))?,
                "subdir" => {
                    let directory = check_directory(&value)?;
                    if !self.directory.is_empty() && self.directory != directory {
                        return Err(AddressError::Conflict("subdir"));
                    }
                    self.directory = directory;
                }
                "commit" | "checksum" => self.set_commit(&value)?,
                "keep-git-dir" => self.keep_git_dir = flag(&value)?,
                "submodules" => self.submodules = flag(&value)?,
                other => return Err(AddressError::Parameter(other.to_owned())),
            }
        }
        Ok(())
    }

    fn set_reference(&mut self, text: &str) -> Result<(), AddressError> {
        let reference = check_reference(text)?;
        if self.reference.as_ref().is_some_and(|known| *known != reference) {
            return Err(AddressError::Conflict("ref"));
        }
        self.reference = Some(reference);
        Ok(())
    }

    /// Says which commit it must be; without a name, that commit is what is fetched.
    pub fn set_commit(&mut self, text: &str) -> Result<(), AddressError> {
        let commit = text.to_ascii_lowercase();
        if !(7..=64).contains(&commit.len()) || !is_hex(&commit) {
            return Err(AddressError::Commit(text.to_owned()));
        }
        if self.commit.as_ref().is_some_and(|known| *known != commit) {
            return Err(AddressError::Conflict("commit"));
        }
        if self.reference.is_none() && is_whole_commit(&commit) {
            self.reference = Some(commit.clone());
        }
        self.commit = Some(commit);
        Ok(())
    }
}

/// Whether text is a whole commit id, SHA-1 or SHA-256.
pub(super) fn is_whole_commit(text: &str) -> bool {
    matches!(text.len(), 40 | 64) && is_hex(text)
}

pub(super) fn is_hex(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

fn flag(text: &str) -> Result<bool, AddressError> {
    match text {
        "" | "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        other => Err(AddressError::Flag(other.to_owned())),
    }
}

/// The rules of git for names, as far as safety needs them.
fn check_reference(text: &str) -> Result<String, AddressError> {
    let bad = text.is_empty()
        || text.len() > 1024
        || text.starts_with(['-', '/', '+', '.'])
        || text.ends_with(['/', '.'])
        || text.contains("..")
        || text.contains("@{")
        || text.contains("//")
        || text.bytes().any(|byte| byte <= b' ' || b"\x7f~^:?*[\\".contains(&byte));
    if bad { Err(AddressError::Reference(text.to_owned())) } else { Ok(text.to_owned()) }
}

fn check_directory(text: &str) -> Result<String, AddressError> {
    if text.contains('\0') || text.split('/').any(|part| part == "..") {
        return Err(AddressError::Directory(text.to_owned()));
    }
    let parts: Vec<&str> =
        text.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    Ok(parts.join("/"))
}

/// Whether text is an address of HTTP.
pub fn is_http(text: &str) -> bool {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    matches!(scheme.as_deref(), Some("http" | "https"))
}
