//! Each check is given a workspace that is tidy and must be silent, and one with a violation and
//! must speak.

use super::workspace::{Dependency, Member, TextFile, Workspace};
use super::{CHECKS, sizes};

/// Two crates, their manifests and the documents that must be there.
fn tidy() -> Workspace {
    let mut workspace = Workspace::default();
    add_member(&mut workspace, "corten-oci", &[("serde", false), ("expect-test", true)]);
    add_member(&mut workspace, "corten-store", &[("corten-oci", false), ("corten-testkit", true)]);
    add_member(&mut workspace, "corten-testkit", &[("corten-oci", false)]);
    let manifest = "[workspace.dependencies]\ncorten-oci = { path = \"crates/corten-oci\" }\n\
                    expect-test = \"1\"\nserde = \"1\"\n";
    let reasons =
        "| crate | for | why |\n|---|---|---|\n| `serde` | a | b |\n| `expect-test` | a | b |\n";
    let files = [
        ("Cargo.toml", manifest),
        ("docs/dependencies.md", reasons),
        ("docs/adr/0000-template.md", "# 0. Title\n"),
        (
            "docs/adr/0001-layers.md",
            "# 1. Layers\n\nSee [this](0000-template.md#x) and [a](https://a.b).\n",
        ),
        ("CHANGELOG.md", "# Changelog\n\n## Unreleased\n"),
        ("deny.toml", "\n[licenses]\nallow = [\"MIT\"]\n"),
    ];
    for (path, text) in files {
        put(&mut workspace, path, text);
    }
    workspace.licences.insert("serde 1.0.0".to_owned(), "MIT OR Apache-2.0".to_owned());
    workspace
}

fn add_member(workspace: &mut Workspace, name: &str, dependencies: &[(&str, bool)]) {
    let directory = format!("crates/{name}");
    let names = dependencies.iter().map(|(name, _)| name.replace('-', "_"));
    let uses = names.map(|name| format!("use {name}::x;\n")).collect::<Vec<_>>().concat();
    let root = format!("//! A crate.\n#![forbid(unsafe_code)]\n{uses}");
    put(workspace, &format!("{directory}/src/lib.rs"), &root);
    put(workspace, &format!("{directory}/Cargo.toml"), "[package]\n\n[lints]\nworkspace = true\n");
    let dependencies =
        dependencies.iter().map(|(name, is_dev)| dependency(name, *is_dev)).collect();
    workspace.members.push(Member { name: name.to_owned(), directory, dependencies });
}

fn dependency(name: &str, is_dev: bool) -> Dependency {
    Dependency { name: name.to_owned(), code_name: name.replace('-', "_"), is_dev }
}

fn put(workspace: &mut Workspace, path: &str, text: &str) {
    workspace.files.insert(path.to_owned(), TextFile::new(path, text.to_owned()));
}

/// Puts code into a crate that may do nothing special.
fn with_code(code: &str) -> Workspace {
    let mut workspace = tidy();
    put(&mut workspace, "crates/corten-oci/src/module.rs", code);
    workspace
}

fn with_file(path: &str, text: &str) -> Workspace {
    let mut workspace = tidy();
    put(&mut workspace, path, text);
    workspace
}

fn with_dependency(from: &str, to: &str, is_dev: bool) -> Workspace {
    let mut workspace = tidy();
    let member = workspace.members.iter_mut().find(|member| member.name == from).unwrap();
    member.dependencies.push(dependency(to, is_dev));
    workspace
}

/// Returns a function with this many lines, its braces included.
fn function(lines: usize) -> String {
    format!("fn long() {{\n{}}}\n", "    call();\n".repeat(lines - 2))
}

fn messages(check: &str, workspace: &Workspace) -> Vec<String> {
    let check = CHECKS.iter().find(|one| one.name == check).unwrap();
    let findings = (check.find)(workspace).into_iter();
    findings
        .map(|finding| format!("{}:{}: {}", finding.path, finding.line, finding.message))
        .collect()
}

/// The check speaks once, and its message holds this text.
fn bites(check: &str, workspace: &Workspace, expected: &str) {
    let messages = messages(check, workspace);
    assert_eq!(messages.len(), 1, "{check}: {messages:#?}");
    assert!(messages[0].contains(expected), "{check}: {messages:#?}");
}

fn is_silent(check: &str, workspace: &Workspace) {
    assert_eq!(messages(check, workspace), Vec::<String>::new(), "{check}");
}

/// A violation for each check, with a part of what it says.
fn violations() -> Vec<(&'static str, Workspace, &'static str)> {
    let mut no_lints = tidy();
    put(&mut no_lints, "crates/corten-oci/Cargo.toml", "[package]\n[lints.rust]\n");
    let mut no_forbid = tidy();
    put(&mut no_forbid, "crates/corten-store/src/main.rs", "// #![forbid(unsafe_code)]\n");
    let mut licence = tidy();
    licence.licences.insert("x 1.0.0".to_owned(), "MIT AND GPL-3.0".to_owned());
    let mut reasons = tidy();
    put(&mut reasons, "docs/dependencies.md", "| `serde` | a | b |\n");
    vec![
        ("layers", with_dependency("corten-oci", "corten-store", false), "must not depend on"),
        ("sizes", with_code(&function(71)), "71 lines; the ceiling is 70"),
        ("unsafe", with_code("fn f() { unsafe { g() } }\n"), "only corten-sys"),
        ("forbid-unsafe", no_forbid, "corten-store/src/main.rs:0: `#![forbid(unsafe_code)]`"),
        ("async", with_code("async fn f() {}\n"), "only corten-registry"),
        ("printing", with_code("fn f() { eprintln!(\"\") }\n"), "only corten/src/ui"),
        ("environment", with_code("fn f() { std::env::var_os(x); }\n"), "only corten/src/settings"),
        ("lints", no_lints, "crates/corten-oci/Cargo.toml:0: `[lints] workspace = true`"),
        (
            "unused-dependencies",
            with_dependency("corten-oci", "zstd", false),
            "`zstd` is never used",
        ),
        ("dependency-reasons", reasons, "`expect-test` has no row"),
        ("licences", licence, "the licence of x 1.0.0 is not allowed: MIT AND GPL-3.0"),
        ("unfinished", with_code(concat!("// TO", "DO: later\n")), "needs an issue"),
        ("places", with_code(concat!("// see /wo", "rk/main\n")), "a place of one machine"),
        ("whitespace", with_code("fn f() {} \n"), "white space at the end"),
        ("decisions", with_file("docs/adr/0003-gap.md", "# 3. Gap\n"), "there is no decision 0002"),
        ("changelog", with_file("CHANGELOG.md", "# Changelog\n"), "`## Unreleased` is missing"),
        ("links", with_file("docs/a.md", "[a](../README.md)\n"), "`../README.md` leads nowhere"),
    ]
}

#[test]
fn every_check_is_silent_on_a_tidy_workspace() {
    for check in CHECKS {
        is_silent(check.name, &tidy());
    }
}

#[test]
fn every_check_has_a_violation_that_it_refuses() {
    let violations = violations();
    for check in CHECKS {
        assert!(violations.iter().any(|(name, ..)| *name == check.name), "{}", check.name);
    }
    for (check, workspace, expected) in violations {
        bites(check, &workspace, expected);
    }
}

#[test]
fn layers_have_no_inner_edges_and_no_unknown_crates() {
    let mut workspace = tidy();
    add_member(&mut workspace, "corten-dockerfile", &[("corten-store", false)]);
    let expected = "`corten-dockerfile` (layer 1) must not depend on `corten-store` (layer 1)";
    bites("layers", &workspace, expected);

    let mut workspace = tidy();
    add_member(&mut workspace, "corten-new", &[]);
    bites("layers", &workspace, "`corten-new` is in no layer");
}

#[test]
fn the_test_kit_is_for_tests_and_stays_low() {
    let workspace = with_dependency("corten-store", "corten-testkit", false);
    bites("layers", &workspace, "use it under [dev-dependencies]");
    let workspace = with_dependency("corten-testkit", "corten-store", false);
    bites("layers", &workspace, "`corten-testkit` (development) must not depend on");
}

#[test]
fn tests_do_not_count_for_the_sizes() {
    let lines = "const X: u8 = 1;\n".repeat(800);
    let tests = format!("#[cfg(test)]\nmod tests {{\n{lines}{}}}\n", function(71));
    is_silent("sizes", &with_code(&format!("{lines}{tests}")));
    is_silent("sizes", &with_file("crates/corten-oci/src/tests.rs", &format!("{lines}{lines}")));
    is_silent("sizes", &with_file("crates/corten-oci/tests/a.rs", &function(71)));
    is_silent("sizes", &with_code(&function(70)));
    bites(
        "sizes",
        &with_code(&format!("{lines}const Y: u8 = 1;\n{tests}")),
        "801 lines; the ceiling is 800",
    );
}

#[test]
fn what_is_in_the_ratchet_may_only_shrink() {
    let ratchet = "[files]\n\n[functions]\n\"crates/corten-oci/src/module.rs:long\" = 80\n";
    let with = |lines| {
        let mut workspace = with_code(&function(lines));
        put(&mut workspace, sizes::RATCHET, ratchet);
        workspace
    };
    is_silent("sizes", &with(80));
    bites("sizes", &with(81), "81 lines; it had 80 and may only shrink");
    bites("sizes", &with(75), "is shorter by now: run `cargo xtask tidy --shrink`");
    bites("sizes", &with(60), "is shorter by now: run `cargo xtask tidy --shrink`");

    for (lines, entry) in [(81, Some("= 80\n")), (75, Some("= 75\n")), (60, None)] {
        let shrunk = sizes::shrink(&with(lines));
        assert_eq!(shrunk.contains("long"), entry.is_some());
        assert!(shrunk.contains(entry.unwrap_or("[functions]")));
    }
}

#[test]
fn words_count_only_as_code_and_only_outside_their_home() {
    let harmless = "// unsafe async println!\nconst X: &str = \"unsafe await env::var\";\n\
                    fn f() { print(); child.stdout(); environment::var(); }\n";
    for check in ["unsafe", "async", "printing", "environment"] {
        is_silent(check, &with_code(harmless));
    }
    let homes = [
        ("unsafe", "crates/corten-sys/src/a.rs", "unsafe fn f() {}\n"),
        ("async", "crates/corten-registry/src/a.rs", "async fn f() {}\n"),
        ("printing", "crates/corten/src/ui/a.rs", "fn f() { println!() }\n"),
        ("environment", "crates/corten/src/settings/a.rs", "fn f() { env::vars_os() }\n"),
    ];
    for (check, path, text) in homes {
        is_silent(check, &with_file(path, text));
        bites(check, &with_code(text), "module.rs:1:");
    }
    bites("printing", &with_code("fn f() { std::io::stdout().lock(); }\n"), "`stdout`");
    let test = "#[cfg(test)]\nmod tests { fn f() { println!(); env::var(x); unsafe {} } }\n";
    is_silent("printing", &with_code(test));
    is_silent("environment", &with_code(test));
    bites("unsafe", &with_code(test), "module.rs:2:");
}

#[test]
fn a_row_without_a_reason_or_without_a_dependency_is_refused() {
    let rows = "| `serde` | a | b |\n| `expect-test` | a | |\n";
    bites("dependency-reasons", &with_file("docs/dependencies.md", rows), "has an empty cell");
    let rows = "| `serde` | a | b |\n| `expect-test` | a | b |\n| `gone` | a | b |\n";
    bites(
        "dependency-reasons",
        &with_file("docs/dependencies.md", rows),
        "md:3: `gone` is no dependency",
    );
}

#[test]
fn a_dependency_that_no_crate_takes_is_refused() {
    let mut workspace = tidy();
    let manifest = workspace.text("Cargo.toml").unwrap().to_owned() + "zstd = \"1\"\n";
    put(&mut workspace, "Cargo.toml", &manifest);
    bites("unused-dependencies", &workspace, "Cargo.toml:5: no crate depends on `zstd`");
}

#[test]
fn unfinished_work_has_a_number_or_is_refused() {
    is_silent("unfinished", &with_code(concat!("// TO", "DO(#12): why\n")));
    bites("unfinished", &with_code(concat!("// TO", "DO(#x): why\n")), "needs an issue");
    bites("unfinished", &with_file("docs/a.md", concat!("FIX", "ME\n")), "open an issue");
    is_silent("unfinished", &with_file("tests/corpus/a", concat!("FIX", "ME\n")));
}

#[test]
fn places_are_refused_where_a_path_begins() {
    is_silent("places", &with_code(concat!("// overlay/wo", "rk/x {dir}/wo", "rk/x /work\n")));
    is_silent("places", &with_code(concat!("// target=/ro", "ot/.cache/pip\n")));
    bites("places", &with_code(concat!("// (/ro", "ot/x)\n")), "a place of one machine");
    bites("places", &with_file("a.sh", concat!("curl py", "pi.org\n")), "the host's settings");
}

#[test]
fn white_space_inside_a_string_is_a_value() {
    is_silent("whitespace", &with_code("const X: &str = \"a \n b\";\n"));
    bites("whitespace", &with_code("fn f() {}"), "the last line has no line break");
    bites("whitespace", &with_file("a.md", "a\r\n"), "white space at the end");
}

#[test]
fn decisions_have_names_numbers_and_titles() {
    bites("decisions", &with_file("docs/adr/Notes.md", "# Notes\n"), "NNNN-some-words.md");
    bites("decisions", &with_file("docs/adr/0001-again.md", "# 1. Again\n"), "also the number of");
    bites("decisions", &with_file("docs/adr/0002-title.md", "# Title\n"), "`# 2. …`");
}

#[test]
fn links_lead_to_files_folders_anchors_and_the_outside() {
    let page = "[a](adr) [b](adr/) [c](./adr/0001-layers.md) [d](../CHANGELOG.md#x) [e](#here) \
                [f](https://a.b/c)\n```\n[g](nowhere)\n```\n";
    is_silent("links", &with_file("docs/a.md", page));
    bites("links", &with_file("docs/a.md", "[a](../../x.md)\n"), "leads nowhere");
}
