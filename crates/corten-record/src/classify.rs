//! What an answer is, by its address and by who asked. Pure; no host is known by its name, since
//! packages come from mirrors as well.

use std::io::Read as _;

use crate::address::{decode, split};
use crate::entry::{Artifact, Class, Kind};

/// What a program calls itself in `User-Agent`, and what it is called here.
const AGENTS: [(&str, &str); 20] = [
    ("debian apt", "apt"),
    ("ubuntu apt", "apt"),
    ("apt", "apt"),
    ("pip/", "pip"),
    ("uv/", "uv"),
    ("poetry/", "poetry"),
    ("pdm/", "pdm"),
    ("npm/", "npm"),
    ("pnpm/", "pnpm"),
    ("yarn/", "yarn"),
    ("bun/", "bun"),
    ("conda/", "conda"),
    ("mamba/", "conda"),
    ("micromamba/", "conda"),
    ("cargo", "cargo"),
    ("go-http-client/", "go"),
    ("curl/", "curl"),
    ("wget/", "wget"),
    ("git/", "git"),
    ("python-", "python"),
];

/// How many bytes of a request to a git server are looked at.
const GIT_REQUEST_BYTES_MAX: u64 = 1 << 20;

/// Says what the answer to a request is. `body` is that of the request, as it was sent.
pub fn classify(method: &str, url: &str, agent: &str, body: &[u8]) -> Class {
    let tool = tool(agent);
    let path = split(url).map_or_else(|| url.to_owned(), |(_, path)| path);
    let (path, query) = path.split_once('?').unwrap_or((&path, ""));
    let path = decode(path);
    let index = || Class::Index { tool: tool.to_owned() };
    if let Some(repository) = path.strip_suffix("/git-upload-pack").filter(|_| method == "POST") {
        let index = || Class::Index { tool: "git".to_owned() };
        return git(repository, body).map_or_else(index, Class::Artifact);
    }
    if method != "GET" || is_index(&path, query, tool) {
        return index();
    }
    let name = path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    let (kind, name, version) = package(&path, name, tool);
    Class::Artifact(Artifact { tool: tool.to_owned(), kind, name, version })
}

fn tool(agent: &str) -> &'static str {
    let agent = agent.to_ascii_lowercase();
    let known = AGENTS.iter().find(|(prefix, _)| agent.starts_with(prefix));
    known.map_or("unknown", |(_, tool)| tool)
}

/// Whether something tells what there is and is not itself what is installed.
fn is_index(path: &str, query: &str, tool: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or_default();
    let ends = |ending: &str| name.ends_with(ending);
    if path.ends_with("/info/refs") && query.contains("service=git-") {
        return true;
    }
    if ends(".metadata") && is_python_package(name.trim_end_matches(".metadata")) {
        return true;
    }
    if path.contains("/@v/") && (ends(".info") || ends(".mod") || name == "list") {
        return true;
    }
    match tool {
        "apt" => !ends(".deb") && !ends(".udeb"),
        "pip" | "uv" | "poetry" | "pdm" => {
            let in_index = path.split('/').any(|part| part == "simple") && path.ends_with('/');
            in_index || ends(".json") || name == "json" || !is_archive(name)
        }
        "npm" | "pnpm" | "yarn" | "bun" => !ends(".tgz") && !ends(".tar.gz"),
        "conda" => !ends(".conda") && !ends(".tar.bz2"),
        "cargo" => !ends(".crate") && name != "download",
        "go" => path.ends_with("/@latest") || path.contains("/sumdb/"),
        _ => is_known_index(path, name),
    }
}

/// Indices that are told by their path alone, whoever asks.
fn is_known_index(path: &str, name: &str) -> bool {
    let is_apt = path.contains("/dists/")
        && (matches!(name, "InRelease" | "Release" | "Release.gpg")
            || name.starts_with("Packages")
            || name.starts_with("Sources")
            || path.contains("/by-hash/"));
    let is_conda = name.starts_with("repodata.json") || name.starts_with("current_repodata.json");
    let is_simple = path.ends_with('/') && path.split('/').any(|part| part == "simple");
    is_apt || is_conda || is_simple
}

fn is_archive(name: &str) -> bool {
    let endings = [".whl", ".tar.gz", ".tgz", ".zip", ".tar.bz2", ".tar.xz", ".egg"];
    endings.iter().any(|ending| name.ends_with(ending))
}

fn is_python_package(name: &str) -> bool {
    [".whl", ".tar.gz", ".zip"].iter().any(|ending| name.ends_with(ending))
}

/// The kind, name and version that a file name tells.
fn package(path: &str, file: &str, tool: &str) -> (Kind, String, Option<String>) {
    let found = deb(file)
        .or_else(|| wheel(file))
        .or_else(|| npm(path, file))
        .or_else(|| conda(path, file, tool))
        .or_else(|| cargo(path, file))
        .or_else(|| go(path, file))
        .or_else(|| sdist(file, tool));
    if let Some((kind, name, version)) = found {
        return (kind, name, Some(version));
    }
    let name = if file.is_empty() { "index" } else { file };
    (Kind::File, name.to_owned(), None)
}

type Found = (Kind, String, String);

/// `NAME_VERSION_ARCHITECTURE.deb`, the version perhaps with an epoch.
fn deb(file: &str) -> Option<Found> {
    let stem = file.strip_suffix(".deb").or_else(|| file.strip_suffix(".udeb"))?;
    let mut parts = stem.split('_');
    let (name, version) = (parts.next()?, parts.next()?);
    // Sources that encode the name twice have `%3a` in it still.
    Some((Kind::Deb, name.to_owned(), decode(version)))
}

/// `NAME-VERSION(-BUILD)?-PYTHON-ABI-PLATFORM.whl`.
fn wheel(file: &str) -> Option<Found> {
    let parts: Vec<&str> = file.strip_suffix(".whl")?.split('-').collect();
    let [name, version, .., _, _, _] = parts.as_slice() else { return None };
    Some((Kind::Wheel, normalised(name), (*version).to_owned()))
}

/// `…/NAME/-/BASE-VERSION.tgz`, where the name may have a scope.
fn npm(path: &str, file: &str) -> Option<Found> {
    let stem = file.strip_suffix(".tgz")?;
    let (package, _) = path.split_once("/-/")?;
    let mut parts = package.rsplit('/');
    let base = parts.next()?;
    let name = match parts.next() {
        Some(scope) if scope.starts_with('@') => format!("{scope}/{base}"),
        _ => base.to_owned(),
    };
    let version = stem.strip_prefix(base)?.strip_prefix('-')?;
    Some((Kind::Npm, name, version.to_owned()))
}

/// `…/SUBDIR/NAME-VERSION-BUILD.conda`, or `.tar.bz2` in a directory of a platform.
fn conda(path: &str, file: &str, tool: &str) -> Option<Found> {
    let is_place = |part: &str| part == "noarch" || part.starts_with("linux-");
    let is_old = || tool == "conda" || path.rsplit('/').nth(1).is_some_and(is_place);
    let old = || file.strip_suffix(".tar.bz2").filter(|_| is_old());
    let stem = file.strip_suffix(".conda").or_else(old)?;
    let mut parts = stem.rsplitn(3, '-');
    let (build, version, name) = (parts.next()?, parts.next()?, parts.next()?);
    Some((Kind::Conda, name.to_owned(), format!("{version}-{build}")))
}

/// `NAME-VERSION.crate`, or `…/NAME/VERSION/download`.
fn cargo(path: &str, file: &str) -> Option<Found> {
    if let Some(stem) = file.strip_suffix(".crate") {
        let (name, version) = split_version(stem)?;
        return Some((Kind::Crate, name.to_owned(), version.to_owned()));
    }
    let rest = path.strip_suffix("/download")?;
    let mut parts = rest.rsplit('/');
    let (version, name) = (parts.next()?, parts.next()?);
    path.contains("/crates/").then(|| (Kind::Crate, name.to_owned(), version.to_owned()))
}

/// `/MODULE/@v/VERSION.zip`.
fn go(path: &str, file: &str) -> Option<Found> {
    let version = file.strip_suffix(".zip")?;
    let (module, _) = path.split_once("/@v/")?;
    Some((Kind::Go, module.trim_start_matches('/').to_owned(), version.to_owned()))
}

/// `NAME-VERSION.tar.gz`, if a program that installs Python packages asked.
fn sdist(file: &str, tool: &str) -> Option<Found> {
    if !matches!(tool, "pip" | "uv" | "poetry" | "pdm") {
        return None;
    }
    let endings = [".tar.gz", ".zip", ".tar.bz2", ".tgz", ".tar.xz"];
    let stem = endings.iter().find_map(|ending| file.strip_suffix(ending))?;
    let (name, version) = split_version(stem)?;
    Some((Kind::Sdist, normalised(name), version.to_owned()))
}

/// Splits before the first dash that a digit follows.
fn split_version(stem: &str) -> Option<(&str, &str)> {
    let dashes = stem.match_indices('-').map(|(at, _)| at);
    let mut splits = dashes.filter_map(|at| Some((stem.get(..at)?, stem.get(at + 1..)?)));
    splits.find(|(name, version)| {
        !name.is_empty() && version.starts_with(|first: char| first.is_ascii_digit())
    })
}

/// The one spelling of a Python package's name.
fn normalised(name: &str) -> String {
    name.to_ascii_lowercase().replace(['_', '.'], "-")
}

/// A request for objects names the commits that are wanted; one that lists references is an index.
fn git(repository: &str, body: &[u8]) -> Option<Artifact> {
    let mut text = Vec::new();
    if body.starts_with(&[0x1f, 0x8b]) {
        let unpacked = flate2::read::GzDecoder::new(body).take(GIT_REQUEST_BYTES_MAX);
        // What is cut off or damaged still names what it names.
        { unpacked }.read_to_end(&mut text).unwrap_or_default();
    } else {
        text.extend_from_slice(body);
    }
    let mut commits = wanted(&text);
    commits.sort();
    commits.dedup();
    if commits.is_empty() {
        return None;
    }
    let name = repository.trim_matches('/').rsplit('/').next().unwrap_or_default();
    Some(Artifact {
        tool: "git".to_owned(),
        kind: Kind::Git,
        name: name.strip_suffix(".git").unwrap_or(name).to_owned(),
        version: Some(commits.join(" ")),
    })
}

/// The objects after `want`, in lines that begin with their length as four digits.
fn wanted(mut text: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    while let Some((digits, rest)) = text.split_at_checked(4) {
        let length = std::str::from_utf8(digits).ok();
        let Some(length) = length.and_then(|hex| usize::from_str_radix(hex, 16).ok()) else {
            break;
        };
        // Lengths below 4 are marks without content.
        let Some((line, rest)) = rest.split_at_checked(length.saturating_sub(4)) else { break };
        if let Some(object) = line.strip_prefix(b"want ") {
            let object = object.split(u8::is_ascii_whitespace).next();
            found.extend(object.map(|object| String::from_utf8_lossy(object).into_owned()));
        }
        text = rest;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(agent: &str, url: &str) -> String {
        match classify("GET", url, agent, b"") {
            Class::Index { tool } => format!("index {tool}"),
            Class::Artifact(artifact) => format!(
                "{} {} {} {}",
                artifact.kind,
                artifact.tool,
                artifact.name,
                artifact.version.unwrap_or_default()
            ),
        }
    }

    const APT: &str = "Debian APT-HTTP/1.3 (2.6.1)";
    const PIP: &str = "pip/24.0 {\"ci\":null}";
    const UV: &str = "uv/0.4.0";
    const NPM: &str = "npm/10.8 node/v20 linux x64";

    #[test]
    fn packages_and_indices_of_debian_are_told_apart() {
        for (path, expected) in [
            (
                "pool/main/c/curl/curl_7.88.1-10%2bdeb12u8_amd64.deb",
                "deb apt curl 7.88.1-10+deb12u8",
            ),
            ("pool/main/g/git/git_1%3a2.39.5-0_amd64.deb", "deb apt git 1:2.39.5-0"),
            ("dists/bookworm/InRelease", "index apt"),
            ("dists/bookworm/main/binary-amd64/by-hash/SHA256/00ff", "index apt"),
            ("dists/bookworm/main/i18n/Translation-en.xz", "index apt"),
        ] {
            assert_eq!(told(APT, &format!("http://m.test/debian/{path}")), expected);
        }
        assert_eq!(told("curl/8", "http://m.test/dists/x/InRelease"), "index curl");
        assert_eq!(told("curl/8", "http://m.test/a_1_all.deb"), "deb curl a 1");
    }

    #[test]
    fn packages_and_indices_of_python_are_told_apart() {
        for (agent, path, expected) in [
            (PIP, "simple/idna/", "index pip"),
            (UV, "simple/idna/", "index uv"),
            (PIP, "pypi/idna/json", "index pip"),
            (UV, "packages/a/idna-3.7-py3-none-any.whl.metadata", "index uv"),
            (UV, "packages/a/idna-3.7-py3-none-any.whl", "wheel uv idna 3.7"),
            (PIP, "p/Typing_Extensions-4.1-1-py3-none-any.whl", "wheel pip typing-extensions 4.1"),
            (PIP, "p/ruamel.yaml-0.18.6.tar.gz", "sdist pip ruamel-yaml 0.18.6"),
            (PIP, "p/python-dateutil-2.9.0.post0.zip", "sdist pip python-dateutil 2.9.0.post0"),
            ("curl/8", "p/tool-1.0.tar.gz", "file curl tool-1.0.tar.gz "),
        ] {
            assert_eq!(told(agent, &format!("https://m.test/{path}")), expected);
        }
    }

    #[test]
    fn packages_and_indices_of_other_tools_are_told_apart() {
        for (agent, path, expected) in [
            (NPM, "left-pad", "index npm"),
            (NPM, "left-pad/-/left-pad-1.3.0.tgz", "npm npm left-pad 1.3.0"),
            (NPM, "@types%2fnode", "index npm"),
            (NPM, "@types/node/-/node-20.1.0-rc.1.tgz", "npm npm @types/node 20.1.0-rc.1"),
            ("conda/24", "main/linux-64/repodata.json.zst", "index conda"),
            (
                "conda/24",
                "main/linux-64/zlib-1.2.13-h5eee18b_0.conda",
                "conda conda zlib 1.2.13-h5eee18b_0",
            ),
            ("curl/8", "c/noarch/a-b-1-0.tar.bz2", "conda curl a-b 1-0"),
            ("cargo 1.80", "se/rd/serde", "index cargo"),
            ("cargo 1.80", "crates/serde/1.0.1/download", "crate cargo serde 1.0.1"),
            ("cargo 1.80", "serde-json-1.0.1.crate", "crate cargo serde-json 1.0.1"),
            ("Go-http-client/1.1", "a.test/m/@v/v1.2.3.info", "index go"),
            ("Go-http-client/1.1", "a.test/m/@v/v1.2.3.zip", "go go a.test/m v1.2.3"),
            ("Wget/1.21", "model.safetensors?download=true", "file wget model.safetensors "),
            ("", "", "file unknown index "),
            ("git/2.39", "a/b.git/info/refs?service=git-upload-pack", "index git"),
        ] {
            assert_eq!(told(agent, &format!("https://m.test/{path}")), expected);
        }
        assert_eq!(
            classify("HEAD", "https://m.test/x.whl", PIP, b""),
            Class::Index { tool: "pip".to_owned() }
        );
    }

    #[test]
    fn a_request_for_objects_is_known_by_its_commits() {
        let url = "https://m.test/group/tool.git/git-upload-pack";
        let one = "1".repeat(40);
        let body =
            format!("0011command=fetch0001000dofs-delta0032want {one}\n0032want {one}\n0000");
        let expected = Class::Artifact(Artifact {
            tool: "git".to_owned(),
            kind: Kind::Git,
            name: "tool".to_owned(),
            version: Some(one),
        });
        assert_eq!(classify("POST", url, "git/2", body.as_bytes()), expected);
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, body.as_bytes()).unwrap();
        assert_eq!(classify("POST", url, "git/2", &packed.finish().unwrap()), expected);
        let listed = classify("POST", url, "git/2", b"0014command=ls-refs\n0000");
        assert_eq!(listed, Class::Index { tool: "git".to_owned() });
        for garbage in [&b"zzzz"[..], b"00", b"ffffwant x", b"\x1f\x8bgarbage"] {
            assert!(matches!(classify("POST", url, "", garbage), Class::Index { .. }));
        }
    }
}
