//! Lock files: what they say, what they refuse.

use std::collections::BTreeMap;

use corten_oci::digest::Digest;
use corten_record::{Artifact, Class, Fetched, Kind, RequestKey};
use expect_test::{Expect, expect};

use super::*;

fn fetched(url: &str, class: Class) -> Fetched {
    Fetched {
        key: RequestKey {
            url: url.to_owned(),
            method: "GET".to_owned(),
            request: None,
            accept: None,
        },
        status: 200,
        headers: BTreeMap::new(),
        sha256: Digest::of(url.as_bytes()),
        size_bytes: 7,
        class,
    }
}

fn artifact(kind: Kind, name: &str, version: Option<&str>) -> Class {
    let (tool, name, version) = ("pip".to_owned(), name.to_owned(), version.map(str::to_owned));
    Class::Artifact(Artifact { tool, kind, name, version })
}

fn index() -> Class {
    Class::Index { tool: "pip".to_owned() }
}

fn materials() -> Materials {
    let mut page = fetched("https://m.test/simple/a/", index());
    page.key.accept = Some("text/html".to_owned());
    page.headers.insert("content-type".to_owned(), "text/html; x=\"é\"\n".to_owned());
    page.headers.insert("etag".to_owned(), "changes".to_owned());
    let mut asked = fetched("https://m.test/audit", index());
    asked.key.method = "POST".to_owned();
    asked.key.request = Some(Digest::of(b"question"));
    asked.status = 404;
    Materials {
        platform: "linux/amd64".to_owned(),
        bases: vec![BaseMaterial {
            reference: "docker.io/library/python:3.11-slim".to_owned(),
            platform: "linux/amd64".to_owned(),
            digest: Digest::of(b"base"),
        }],
        sources: vec![
            SourceMaterial::Git {
                url: "https://m.test/a.git".to_owned(),
                reference: Some("v1".to_owned()),
                commit: "1".repeat(40),
            },
            SourceMaterial::Http { url: "https://m.test/f".to_owned(), sha256: Digest::of(b"f") },
        ],
        fetched: vec![
            page,
            fetched("https://m.test/b-2.whl", artifact(Kind::Wheel, "b", Some("2"))),
            asked,
            fetched("https://m.test/a-1.whl", artifact(Kind::Wheel, "a", Some("1"))),
            fetched("https://m.test/x", artifact(Kind::File, "x", None)),
        ],
    }
    .sorted()
}

#[test]
fn a_lock_is_sorted_and_says_what_differs_from_the_usual() {
    expect![[r##"
        # Made by `corten lock`; read it, commit it, do not edit it.
        # `corten build --locked` refuses what is not in it, `corten build --offline` needs nothing else.
        version = 1
        platform = "linux/amd64"

        [[base]]
        reference = "docker.io/library/python:3.11-slim"
        platform = "linux/amd64"
        digest = "sha256:cae662172fd450bb0cd710a769079c05bfc5d8e35efa6576edc7d0377afdd4a2"

        [[source]]
        url = "https://m.test/f"
        sha256 = "252f10c83610ebca1a059c0bae8255eba2f95be4d1d7bcfa89d7248a82d9f111"

        [[source]]
        git = "https://m.test/a.git"
        reference = "v1"
        commit = "1111111111111111111111111111111111111111"

        [[artifact]]
        name = "a"
        version = "1"
        kind = "wheel"
        tool = "pip"
        url = "https://m.test/a-1.whl"
        sha256 = "41e354d88a186e98cb43a5cc53a0a4e6275c4db1489d0ddc428979e8e3c90807"
        size = 7

        [[artifact]]
        name = "b"
        version = "2"
        kind = "wheel"
        tool = "pip"
        url = "https://m.test/b-2.whl"
        sha256 = "6b8c79f1e3d449f9292f36f6d08a0ce715696c6bccada87ba8d9cde8c955123d"
        size = 7

        [[artifact]]
        name = "x"
        kind = "file"
        tool = "pip"
        url = "https://m.test/x"
        sha256 = "2534c0603ae3a10acf873ff79966a9d8133d7885d0c1c530d50fad496778e791"
        size = 7

        [[index]]
        tool = "pip"
        url = "https://m.test/audit"
        method = "POST"
        request = "1f5087db919ced5c123c7f507d3fcce818cb0cf6e77c2f95a8a35e951e03fdb9"
        status = 404
        sha256 = "851709fa7ed4ce259f770dc584388dc22e2a87a9a56d40831379f576b4b9873b"
        size = 7

        [[index]]
        tool = "pip"
        url = "https://m.test/simple/a/"
        accept = "text/html"
        sha256 = "1c95fdbc60ec66f886f688ca6356efa5b00e96730adeb35bee2df0971fb2d39a"
        size = 7
        headers = { content-type = """
        text/html; x="é"
        """ }
    "##]].assert_eq(&materials().to_toml());
}

#[test]
fn a_lock_that_is_read_and_written_is_the_same() {
    let text = materials().to_toml();
    let read = Materials::from_toml("corten.lock", &text).unwrap();
    assert_eq!(read.to_toml(), text);
    let mut expected = materials();
    for fetched in &mut expected.fetched {
        fetched.headers.remove("etag");
    }
    assert_eq!(read, expected);
    let empty = Materials { platform: "linux/amd64".to_owned(), ..Materials::default() };
    assert_eq!(Materials::from_toml("corten.lock", &empty.to_toml()).unwrap(), empty);
}

#[test]
fn materials_are_counted() {
    let summary = materials().summary();
    let expected = Summary { bases: 1, packages: 2, files: 3, indices: 2, artifact_bytes: 21 };
    assert_eq!(summary, expected);
}

fn check(text: &str, expected: &Expect) {
    let error = Materials::from_toml("corten.lock", text).unwrap_err();
    assert!(error.hint().is_some());
    expected.assert_eq(&format!("{error}\n"));
}

#[test]
fn what_is_no_lock_is_refused_with_its_place() {
    check(
        "",
        &expect![[r#"
        `corten.lock` is no lock file: TOML parse error at line 1, column 1
          |
        1 | 
          | ^
        missing field `version`
    "#]],
    );
    check(
        "version = 2\nnew = 1\n",
        &expect![[r#"
        `corten.lock` has version 2, and this program knows version 1
    "#]],
    );
    check(
        "version = 1\nplatform = \"x\"\nother = 1\n",
        &expect![[r#"
        `corten.lock` is no lock file: TOML parse error at line 3, column 1
          |
        3 | other = 1
          | ^^^^^
        unknown field `other`, expected one of `version`, `platform`, `base`, `source`, `artifact`, `index`
    "#]],
    );
    let head = "version = 1\nplatform = \"linux/amd64\"\n\n";
    check(
        &format!("{head}[[base]]\nreference = \"a\"\nplatform = \"b\"\ndigest = \"sha256:0\"\n"),
        &expect![[r#"
            `corten.lock` is no lock file: TOML parse error at line 7, column 10
              |
            7 | digest = "sha256:0"
              |          ^^^^^^^^^^
            `0` is not a sha256 digest: expected 64 lower-case hexadecimal digits
        "#]],
    );
    check(
        &format!("{head}[[source]]\nurl = \"a\"\n"),
        &expect![[r#"
        `corten.lock` is no lock file: TOML parse error at line 4, column 1
          |
        4 | [[source]]
          | ^^^^^^^^^^
        a source has `url` and `sha256`, or `git` and `commit`
    "#]],
    );
    let entry = "tool = \"pip\"\nurl = \"a\"\nsize = 1\nsha256 = ";
    check(
        &format!("{head}[[index]]\n{entry}\"xy\"\n"),
        &expect![[r#"
        `corten.lock` is no lock file: TOML parse error at line 8, column 10
          |
        8 | sha256 = "xy"
          |          ^^^^
        `xy` is not a sha256 digest: expected 64 lower-case hexadecimal digits
    "#]],
    );
    let entry = format!("{entry}\"{}\"\n", "0".repeat(64));
    check(
        &format!("{head}[[index]]\n{entry}\n[[index]]\n{entry}"),
        &expect![[r#"
        `corten.lock` has `a` twice
    "#]],
    );
    let kind = "name = \"a\"\nkind = \"rpm\"\n";
    check(
        &format!("{head}[[artifact]]\n{kind}{entry}"),
        &expect![[r#"
        `corten.lock` is no lock file: TOML parse error at line 6, column 8
          |
        6 | kind = "rpm"
          |        ^^^^^
        unknown variant `rpm`, expected one of `deb`, `wheel`, `sdist`, `npm`, `conda`, `crate`, `go`, `git`, `file`
    "#]],
    );
}
