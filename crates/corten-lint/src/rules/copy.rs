//! Sources of `COPY` and `ADD`.

use corten_dockerfile::ignore::Ignore;

use super::Finding;
use crate::model::Model;

/// Nothing is said where patterns take files out again: the directory may be ignored and a file in
/// it not.
pub(super) fn ignored_file(model: &Model<'_>) -> Vec<Finding> {
    let Some(ignore) = model.request.ignore else { return Vec::new() };
    if ignore.is_empty() || ignore.has_exceptions() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for step in &model.steps {
        for source in &step.details.context_sources {
            if is_remote(source) {
                continue;
            }
            let source = clean(source);
            if is_ignored(ignore, &source) {
                let keyword = step.instruction.keyword.value.as_str();
                let message =
                    format!("`{keyword}` of `{source}`, which is excluded by .dockerignore");
                let finding = Finding::step(step, message);
                findings.push(finding.hint("take it out of the ignore file, or do not copy it"));
            }
        }
    }
    findings
}

fn is_ignored(ignore: &Ignore, source: &str) -> bool {
    // The root is no file that could be hidden, unless everything is.
    let is_root = matches!(source, "." | "/");
    (!is_root || ignore.names_everything()) && ignore.excludes(source, false)
}

/// An address of a file or of a repository.
fn is_remote(source: &str) -> bool {
    const SCHEMES: [&str; 4] = ["http://", "https://", "git://", "ssh://"];
    let is_address = SCHEMES.iter().any(|scheme| source.starts_with(scheme));
    is_address || is_scp_like(source)
}

/// `user@host:path`
fn is_scp_like(source: &str) -> bool {
    let good = |text: &str, other: &[u8]| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || other.contains(&byte))
    };
    source.split_once('@').is_some_and(|(user, rest)| {
        good(user, b"-_") && rest.split_once(':').is_some_and(|(host, _)| good(host, b"-."))
    })
}

/// The shortest equal path, by the rules of Go's `filepath.Clean`.
fn clean(path: &str) -> String {
    let is_rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => drop(parts.pop()),
            ".." if is_rooted => {}
            other => parts.push(other),
        }
    }
    match (is_rooted, parts.join("/")) {
        (true, joined) => format!("/{joined}"),
        (false, joined) if joined.is_empty() => ".".to_owned(),
        (false, joined) => joined,
    }
}
