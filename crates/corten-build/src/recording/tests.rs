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
    expect![[r##""##]].assert_eq(&materials().to_toml());
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
    check("", &expect![[r#""#]]);
    check("version = 2\nnew = 1\n", &expect![[r#""#]]);
    check("version = 1\nplatform = \"x\"\nother = 1\n", &expect![[r#""#]]);
    let head = "version = 1\nplatform = \"linux/amd64\"\n\n";
    check(
        &format!("{head}[[base]]\nreference = \"a\"\nplatform = \"b\"\ndigest = \"sha256:0\"\n"),
        &expect![[r#""#]],
    );
    check(&format!("{head}[[source]]\nurl = \"a\"\n"), &expect![[r#""#]]);
    let entry = "tool = \"pip\"\nurl = \"a\"\nsize = 1\nsha256 = ";
    check(&format!("{head}[[index]]\n{entry}\"xy\"\n"), &expect![[r#""#]]);
    let entry = format!("{entry}\"{}\"\n", "0".repeat(64));
    check(&format!("{head}[[index]]\n{entry}\n[[index]]\n{entry}"), &expect![[r#""#]]);
    let kind = "name = \"a\"\nkind = \"rpm\"\n";
    check(&format!("{head}[[artifact]]\n{kind}{entry}"), &expect![[r#""#]]);
}
