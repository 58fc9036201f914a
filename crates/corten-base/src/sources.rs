//! Where Debian packages are fetched from: the host's own apt sources, or mirrors named by hand.
//!
//! Only where is taken from the host. Which suites are read is the recipe's business, and whether
//! what comes from there is Debian's is decided by the signature.

use std::path::{Path, PathBuf};

use corten_sys::error::IoError;
use corten_sys::file;
use serde::{Deserialize, Serialize};

use crate::deb822;

/// The largest sources file that is read: real ones have a few kilobytes.
const SOURCES_BYTES_MAX: u64 = 1 << 20;

/// The names that suites of Debian begin with. A suite of another name is some other archive.
const DEBIAN_SUITES: [&str; 13] = [
    "stable",
    "testing",
    "unstable",
    "sid",
    "experimental",
    "oldstable",
    "oldoldstable",
    "buster",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
];

/// One place that apt reads packages from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The root of the archive, without a final slash.
    pub uri: String,
    /// The suite, for example `bookworm-updates`.
    pub suite: String,
    /// The components, for example `main`.
    pub components: Vec<String>,
    /// The keyring that must sign, if one is named.
    pub signed_by: Option<String>,
}

/// The mirrors to fetch from, the best first. URIs have no final slash.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mirrors {
    /// Roots of the archive with the suites and their updates.
    pub archive: Vec<String>,
    /// Roots of the archive with the security updates.
    pub security: Vec<String>,
}

/// Apt sources that cannot be read, or mirrors that make no sense.
#[derive(Debug, thiserror::Error)]
pub enum SourcesError {
    /// A file cannot be read.
    #[error("failed to read the apt sources of this host")]
    Read(#[from] IoError),
    /// A file is not text.
    #[error("the apt sources file `{}` is not UTF-8 text", .0.display())]
    NotText(PathBuf),
    /// A mirror that was named by hand is no URL that we can fetch from.
    #[error("`{0}` is not a mirror: expected an `http://`, `https://` or `file://` URL")]
    NotAMirror(String),
}

/// Reads the apt sources below a directory such as `/etc/apt`: `sources.list`, and the files of both
/// formats in `sources.list.d`. Files that do not exist are no error.
pub fn from_apt(etc_apt: &Path) -> Result<Vec<Source>, SourcesError> {
    let mut files = vec![etc_apt.join("sources.list")];
    let folder = etc_apt.join("sources.list.d");
    let names = file::absent_is_none(file::list_dir(&folder))?.unwrap_or_default();
    files.extend(names.into_iter().map(|name| folder.join(name)));
    let mut sources = Vec::new();
    for path in files {
        let parse = match path.extension().and_then(|extension| extension.to_str()) {
            Some("list") => parse_list,
            Some("sources") => parse_deb822,
            _ => continue,
        };
        let Some(bytes) = file::read_optional(&path, SOURCES_BYTES_MAX)? else { continue };
        let text = String::from_utf8(bytes).map_err(|_| SourcesError::NotText(path))?;
        sources.extend(parse(&text));
    }
    Ok(sources)
}

/// Parses the one-line format; lines that make no sense are ignored, as what apt does with them is
/// apt's business.
pub fn parse_list(text: &str) -> Vec<Source> {
    text.lines().flat_map(|line| parse_line(line).unwrap_or_default()).collect()
}

fn parse_line(line: &str) -> Option<Vec<Source>> {
    let line = line.split('#').next().unwrap_or_default();
    let rest = line.trim_ascii().strip_prefix("deb")?;
    let rest = rest.starts_with([' ', '\t', '[']).then(|| rest.trim_ascii())?;
    let (options, rest) = match rest.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?,
        None => ("", rest),
    };
    let signed_by =
        options.split_ascii_whitespace().find_map(|option| option.strip_prefix("signed-by="));
    let mut words = rest.split_ascii_whitespace().map(ToOwned::to_owned);
    let (uri, suite) = (words.next()?, words.next()?);
    Some(sources(&[uri], &[suite], &words.collect::<Vec<_>>(), signed_by))
}

/// Parses the deb822 format.
pub fn parse_deb822(text: &str) -> Vec<Source> {
    let mut all = Vec::new();
    for paragraph in deb822::paragraphs(text) {
        let words = |name| paragraph.words(name).map(ToOwned::to_owned).collect::<Vec<String>>();
        let enabled = !matches!(paragraph.text("Enabled"), "no" | "false" | "0");
        if enabled && paragraph.words("Types").any(|kind| kind == "deb") {
            let signed_by = paragraph.get("Signed-By");
            all.extend(sources(&words("URIs"), &words("Suites"), &words("Components"), signed_by));
        }
    }
    all
}

fn sources(
    uris: &[String],
    suites: &[String],
    components: &[String],
    signed_by: Option<&str>,
) -> Vec<Source> {
    let mut all = Vec::new();
    for uri in uris {
        for suite in suites {
            all.push(Source {
                uri: uri.trim_end_matches('/').to_owned(),
                suite: suite.clone(),
                components: components.to_vec(),
                signed_by: signed_by.map(ToOwned::to_owned),
            });
        }
    }
    all
}

impl Source {
    /// Returns true if this may be Debian's own archive; the signature has the last word.
    fn may_be_debian(&self) -> bool {
        let base = self.suite.split(['-', '/']).next().unwrap_or_default();
        let suffix = self.suite.get(base.len()..).unwrap_or_default();
        let known = matches!(
            suffix,
            "" | "-updates" | "-security" | "/updates" | "-backports" | "-proposed-updates"
        );
        // A keyring of its own is how other archives are told apart; an inline key says nothing.
        let keyring = self.signed_by.as_deref().is_none_or(|keyring| {
            keyring.contains("debian-archive") || keyring.contains("-----BEGIN")
        });
        known
            && DEBIAN_SUITES.contains(&base)
            && self.components.iter().any(|component| component == "main")
            && keyring
            && is_fetchable(&self.uri)
    }

    fn is_security(&self) -> bool {
        self.suite.ends_with("-security") || self.suite.ends_with("/updates")
    }
}

impl Mirrors {
    /// Takes the mirrors of Debian out of apt sources; empty if there are none.
    pub fn from_sources(sources: &[Source]) -> Self {
        let mut mirrors = Self::default();
        for source in sources.iter().filter(|source| source.may_be_debian()) {
            let list =
                if source.is_security() { &mut mirrors.security } else { &mut mirrors.archive };
            if !list.contains(&source.uri) {
                list.push(source.uri.clone());
            }
        }
        // Archives of others that carry Debian's suite names come after those that look like Debian's.
        let foreign =
            |uri: &String| !uri.rsplit('/').next().is_some_and(|last| last.starts_with("debian"));
        mirrors.archive.sort_by_key(foreign);
        mirrors.security.sort_by_key(foreign);
        if mirrors.security.is_empty() {
            mirrors.security = mirrors.archive.iter().filter_map(|uri| security_of(uri)).collect();
        }
        mirrors
    }

    /// Reads mirrors that were named by hand: `URL` for the archive, or `security=URL`.
    pub fn parse<'m>(mirrors: impl IntoIterator<Item = &'m str>) -> Result<Self, SourcesError> {
        let mut parsed = Self::default();
        for text in mirrors {
            let (list, uri) = match text.strip_prefix("security=") {
                Some(uri) => (&mut parsed.security, uri),
                None => (&mut parsed.archive, text.strip_prefix("archive=").unwrap_or(text)),
            };
            if !is_fetchable(uri) {
                return Err(SourcesError::NotAMirror(without_credentials(uri)));
            }
            list.push(uri.trim_end_matches('/').to_owned());
        }
        if parsed.security.is_empty() {
            parsed.security = parsed.archive.iter().filter_map(|uri| security_of(uri)).collect();
        }
        Ok(parsed)
    }

    /// Returns true if there is nothing to fetch from.
    pub fn is_empty(&self) -> bool {
        self.archive.is_empty()
    }

    /// Returns the mirrors as others may see them.
    #[must_use]
    pub fn without_credentials(&self) -> Self {
        let clean = |uris: &[String]| uris.iter().map(|uri| without_credentials(uri)).collect();
        Self { archive: clean(&self.archive), security: clean(&self.security) }
    }
}

/// Debian's mirrors keep the security archive beside the other one.
fn security_of(archive: &str) -> Option<String> {
    archive.ends_with("/debian").then(|| format!("{archive}-security"))
}

fn is_fetchable(uri: &str) -> bool {
    let host = ["http://", "https://"].iter().find_map(|scheme| uri.strip_prefix(scheme));
    let plain = !uri.contains(|c: char| c.is_ascii_whitespace() || c.is_control());
    plain && (host.is_some_and(|rest| !rest.is_empty()) || uri.starts_with("file:///"))
}

/// Removes user name and password from a URL.
pub(crate) fn without_credentials(uri: &str) -> String {
    let Some((scheme, rest)) = uri.split_once("://") else { return uri.to_owned() };
    let (authority, path) = rest.split_once('/').map_or((rest, None), |(a, p)| (a, Some(p)));
    let host = authority.rsplit('@').next().unwrap_or_default();
    match path {
        Some(path) => format!("{scheme}://{host}/{path}"),
        None => format!("{scheme}://{host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(sources: &[Source], expected: &Expect) {
        let lines = sources
            .iter()
            .map(|s| {
                format!("{} {} {} {:?}\n", s.uri, s.suite, s.components.join(","), s.signed_by)
            })
            .collect::<Vec<_>>()
            .concat();
        expected.assert_eq(&lines);
    }

    const DEB822: &str = "Types: deb deb-src\n# a comment\nURIs: http://mirror.test/debian/\nSuites: bookworm bookworm-updates\n\
        Components: main\nSigned-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n\
        Types: deb\nURIs: http://mirror.test/debian-security\nSuites: bookworm-security\nComponents: main\n\n\
        Types: deb\nEnabled: no\nURIs: http://off.test/debian\nSuites: bookworm\nComponents: main\n\n\
        Types: deb-src\nURIs: http://src.test/debian\nSuites: bookworm\nComponents: main\n";

    #[test]
    fn both_formats_are_read() {
        check(
            &parse_deb822(DEB822),
            &expect![[r#"
                http://mirror.test/debian bookworm main Some("/usr/share/keyrings/debian-archive-keyring.gpg")
                http://mirror.test/debian bookworm-updates main Some("/usr/share/keyrings/debian-archive-keyring.gpg")
                http://mirror.test/debian-security bookworm-security main None
            "#]],
        );
        check(
            &parse_list(
                "# deb http://no.test/ bookworm main\n\
                 deb [arch=amd64 signed-by=/k.gpg] https://a.test/debian/ bookworm main contrib # end\n\
                 deb-src http://src.test/debian bookworm main\ndebris x y\ndeb http://short.test\ndeb\thttp://tab.test bookworm main\n",
            ),
            &expect![[r#"
                https://a.test/debian bookworm main,contrib Some("/k.gpg")
                http://tab.test bookworm main None
            "#]],
        );
    }

    #[test]
    fn only_what_may_be_debian_becomes_a_mirror() {
        let others = "deb https://a.test/linux/debian bookworm stable\n\
            deb [signed-by=/k/vendor.gpg] https://b.test/debian bookworm main\n\
            deb https://c.test/node nodistro main\ndeb https://d.test/pg bookworm-pgdg main\n\
            deb cdrom:[x] bookworm main\ndeb mirror+file:///x bookworm main\ndeb https://e.test/pkg bookworm main\n";
        let mut sources = parse_list(others);
        assert_eq!(Mirrors::from_sources(&sources).archive, ["https://e.test/pkg"]);
        sources.extend(parse_deb822(DEB822));
        let mirrors = Mirrors::from_sources(&sources);
        assert_eq!(mirrors.archive, ["http://mirror.test/debian", "https://e.test/pkg"]);
        assert_eq!(mirrors.security, ["http://mirror.test/debian-security"]);
        let ubuntu = parse_list("deb http://u.test/ubuntu noble main\n");
        assert!(Mirrors::from_sources(&ubuntu).is_empty());
    }

    #[test]
    fn mirrors_by_hand_imply_the_security_archive_beside_them() {
        let mirrors = Mirrors::parse(["https://m.test/debian/"]).unwrap();
        assert_eq!(mirrors.security, ["https://m.test/debian-security"]);
        let mirrors = Mirrors::parse(["https://m.test/d", "security=file:///srv/sec"]).unwrap();
        assert_eq!(mirrors.security, ["file:///srv/sec"]);
        assert!(Mirrors::parse(["https://m.test/d"]).unwrap().security.is_empty());
        let refused = Mirrors::parse(["ftp://user:secret@m.test/debian"]).unwrap_err().to_string();
        assert_eq!(
            refused,
            "`ftp://m.test/debian` is not a mirror: expected an `http://`, `https://` or `file://` URL"
        );
    }

    #[test]
    fn credentials_are_not_shown() {
        for (uri, clean) in [
            ("https://u:p@m.test/debian", "https://m.test/debian"),
            ("https://u:p@m.test", "https://m.test"),
            ("https://m.test/a@b", "https://m.test/a@b"),
            ("file:///a@b", "file:///a@b"),
        ] {
            assert_eq!(without_credentials(uri), clean);
        }
    }

    #[test]
    fn the_files_of_a_host_are_found() {
        let host = tempdir();
        let folder = host.join("sources.list.d");
        file::create_dirs(&folder, 0o755).unwrap();
        assert!(from_apt(&host).unwrap().is_empty());
        file::write(&host.join("sources.list"), b"deb http://a.test/debian bookworm main\n")
            .unwrap();
        file::write(&folder.join("debian.sources"), DEB822.as_bytes()).unwrap();
        file::write(&folder.join("old.list.disabled"), b"deb http://b.test/debian bookworm main\n")
            .unwrap();
        assert_eq!(from_apt(&host).unwrap().len(), 4);
        file::remove_tree(&host).unwrap();
        assert!(from_apt(&host).unwrap().is_empty());
    }

    fn tempdir() -> PathBuf {
        let path = std::env::temp_dir().join(format!("corten-base-{}", corten_sys::random::name()));
        file::create_dirs(&path, 0o755).unwrap();
        path
    }
}
