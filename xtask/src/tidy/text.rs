//! Habits: where what may stand, and words that may stand nowhere.

use super::Source;

/// What only some places may hold: a pattern, the places, and why.
const CONFINED: [(&str, &[&str], &str); 4] = [
    ("unsafe {", &["crates/corten-sys/"], "`unsafe` is for corten-sys alone"),
    ("async fn", &["crates/corten-registry/"], "`async` is for corten-registry alone"),
    (
        "std::env::vars_os",
        &["crates/corten/src/settings/", "xtask/"],
        "only corten/src/settings reads the environment",
    ),
    (
        "std::io::stdout().lock()",
        &["crates/corten/src/ui/", "crates/corten/src/commands/archive.rs"],
        "only corten/src/ui prints",
    ),
];

/// Checks each file by itself.
pub(super) fn check(sources: &[Source]) -> Vec<String> {
    let mut problems = Vec::new();
    for source in sources {
        let name = source.path.display().to_string();
        // The checker's own patterns are not findings.
        if name.starts_with("xtask/src/tidy/") || name == "Cargo.lock" || name == "LICENSE" {
            continue;
        }
        let has_extension = |extension: &str| {
            source.path.extension().is_some_and(|found| found.eq_ignore_ascii_case(extension))
        };
        let rust = has_extension("rs");
        let data = name.contains("/data/") || name.contains("/fixtures/");
        for (index, line) in source.text.lines().enumerate() {
            let place = format!("{name}:{}", index + 1);
            if data {
                continue;
            }
            if line != line.trim_end() && !has_extension("md") && !line.contains("expect") {
                problems.push(format!("{place}: blanks at the end of the line"));
            }
            if let Some(word) = forbidden(line) {
                problems.push(format!("{place}: `{word}` has no place in the repository"));
            }
            if rust {
                problems.extend(rust_line(&name, line).map(|why| format!("{place}: {why}")));
            }
        }
        if is_crate_root(&name) && !name.starts_with("crates/corten-sys/") {
            let forbids = source.text.contains("#![forbid(unsafe_code)]");
            if !forbids {
                problems.push(format!("{name}: `#![forbid(unsafe_code)]` is missing"));
            }
        }
    }
    problems
}

fn is_crate_root(name: &str) -> bool {
    name.starts_with("crates/") && (name.ends_with("/src/lib.rs") || name.ends_with("/src/main.rs"))
}

fn rust_line(name: &str, line: &str) -> Option<&'static str> {
    let code = line.trim_start();
    if code.starts_with("//") {
        return code
            .contains("TODO")
            .then_some("a TODO is an unkept promise: do it or leave it out");
    }
    let confined = CONFINED
        .iter()
        .find(|(pattern, places, _)| {
            code.contains(pattern)
                && !name.contains("/tests/")
                && !places.iter().any(|place| name.starts_with(place))
        })
        .map(|(_, _, why)| *why);
    let ignored = code.starts_with("let _ = ").then_some("a result is never thrown away");
    confined.or(ignored)
}

/// Paths of one machine and hosts of package registries, in pieces so that this file is clean.
fn forbidden(line: &str) -> Option<String> {
    let words = [
        ["/work", "/main"].concat(),
        ["/work", "/scratch"].concat(),
        ["deb.", "debian.org"].concat(),
        ["snapshot.", "debian.org"].concat(),
        ["security.", "debian.org"].concat(),
        ["pypi", ".org"].concat(),
        ["files.python", "hosted.org"].concat(),
        ["registry.", "npmjs.org"].concat(),
        ["index.", "crates.io"].concat(),
        ["static.", "crates.io"].concat(),
    ];
    words.into_iter().find(|word| line.contains(word.as_str()))
}

/// Each dependency of the workspace has a line in docs/dependencies.md, and is used.
pub(super) fn dependencies(sources: &[Source]) -> Vec<String> {
    let text = |name: &str| {
        sources.iter().find(|source| source.path.as_os_str() == name).map(|source| &source.text)
    };
    let (Some(manifest), Some(page)) = (text("Cargo.toml"), text("docs/dependencies.md")) else {
        return vec!["Cargo.toml or docs/dependencies.md is missing".to_owned()];
    };
    let Ok(manifest) = toml::from_str::<toml::Table>(manifest) else {
        return vec!["Cargo.toml cannot be read".to_owned()];
    };
    let listed = manifest
        .get("workspace")
        .and_then(|workspace| workspace.get("dependencies"))
        .and_then(toml::Value::as_table);
    let mut problems = Vec::new();
    for name in listed.into_iter().flat_map(toml::Table::keys) {
        let used = sources.iter().any(|source| {
            source.path.ends_with("Cargo.toml")
                && source.path.components().count() > 1
                && source.text.contains(&format!("{name}.workspace = true"))
        });
        if !used {
            problems.push(format!("Cargo.toml: nothing uses `{name}`"));
        }
        if !name.starts_with("corten-") && !page.contains(&format!("`{name}`")) {
            problems.push(format!("docs/dependencies.md: no line for `{name}`"));
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(path: &str, text: &str) -> usize {
        check(&[Source { path: path.into(), text: text.to_owned() }]).len()
    }

    #[test]
    fn each_gate_bites() {
        let bad = [
            ("crates/a/src/x.rs", "unsafe { f() }"),
            ("crates/a/src/x.rs", "async fn f() {}"),
            ("crates/a/src/x.rs", "let _ = f();"),
            ("crates/a/src/x.rs", "// TODO: later"),
            ("crates/a/src/x.rs", "f(); "),
            ("crates/a/src/lib.rs", "//! no forbid"),
            ("README.md", &["see /work", "/main/x"].concat()),
        ];
        for (path, text) in bad {
            assert_eq!(problems(path, text), 1, "{path}: {text}");
        }
    }

    #[test]
    fn what_is_in_its_place_is_fine() {
        assert_eq!(problems("crates/corten-sys/src/x.rs", "unsafe { f() }"), 0);
        assert_eq!(problems("crates/a/src/lib.rs", "#![forbid(unsafe_code)]"), 0);
        assert_eq!(problems("crates/a/src/x.rs", "// why this is so\nlet x = f()?;"), 0);
    }

    #[test]
    fn a_dependency_without_a_line_is_found() {
        let source = |path: &str, text: &str| Source { path: path.into(), text: text.to_owned() };
        let sources = [
            source("Cargo.toml", "[workspace.dependencies]\nserde = \"1\"\nrayon = \"1\"\n"),
            source("crates/a/Cargo.toml", "[dependencies]\nserde.workspace = true\n"),
            source("docs/dependencies.md", "| `rayon` | threads |"),
        ];
        let found = dependencies(&sources);
        assert_eq!(
            found,
            ["Cargo.toml: nothing uses `rayon`", "docs/dependencies.md: no line for `serde`"]
        );
    }
}
