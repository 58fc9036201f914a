//! What a build refuses, what it says then, and that the store stays whole.

use std::io;

use expect_test::expect;

use super::*;
use crate::transport::{Body, Transport, TransportError};

const OLD_DATES: &str =
    "Date: Sat, 04 Jul 2026 10:16:37 UTC\nValid-Until: Sat, 11 Jul 2026 10:16:37 UTC\n";

/// A mirror that nobody answers for, in the way of `failure`.
struct Broken(fn(&str) -> TransportError);

impl Transport for Broken {
    fn open(&self, url: &str) -> Result<Body, TransportError> {
        Err((self.0)(url))
    }
}

/// Changes the files whose URL has a part.
fn damage(repository: &mut Repository, part: &str, change: impl Fn(&mut Vec<u8>)) {
    let mut found = false;
    for (url, bytes) in &mut repository.files {
        if url.contains(part) {
            change(bytes);
            found = true;
        }
    }
    assert!(found, "no file has `{part}` in its address");
}

#[test]
fn without_a_mirror_the_error_says_what_to_set() {
    let repository = repository();
    let mut options = options(&repository);
    options.mirrors = Mirrors::default();
    check(
        &options,
        &expect![[r#"
        no Debian mirror is known
        hint: this host has no Debian sources: pass `--mirror URL`, or set `mirror` under `[base]` in corten.toml
    "#]],
    );
    options.mirrors = Mirrors { archive: vec![MIRROR.into()], security: vec![] };
    check(
        &options,
        &expect![[r#"
        no mirror is known for the security updates in `bookworm-security`
        hint: pass `--security-mirror URL` as well, or set `security-mirror` under `[base]` in corten.toml
    "#]],
    );
}

#[test]
fn a_mirror_that_does_not_answer_is_named_with_what_may_be_wrong() {
    let repository = repository();
    let mut options = options(&repository);
    let refused = Broken(|url| TransportError::Failed {
        url: url.to_owned(),
        source: Box::new(io::Error::new(io::ErrorKind::ConnectionRefused, "connection refused")),
    });
    options.transport = &refused;
    check(
        &options,
        &expect![[r#"
        failed to fetch the signed index of `bookworm`
          because failed to fetch `http://m.test/debian/dists/bookworm/InRelease`
          because connection refused
        hint: check the mirror's address and the proxy; a proxy that re-signs TLS needs its CA in the host's certificates or in SSL_CERT_FILE
    "#]],
    );
}

#[test]
fn a_proxy_that_refuses_is_named_with_its_status() {
    let repository = repository();
    let mut options = options(&repository);
    let refused = Broken(|url| TransportError::Status { url: url.to_owned(), status: 407 });
    options.transport = &refused;
    check(
        &options,
        &expect![[r#"
        failed to fetch the signed index of `bookworm`
          because `http://m.test/debian/dists/bookworm/InRelease` was answered with status 407
        hint: check the mirror's address and the proxy; a proxy that re-signs TLS needs its CA in the host's certificates or in SSL_CERT_FILE
    "#]],
    );
}

#[test]
fn an_address_without_an_archive_is_named() {
    let repository = repository();
    let mut options = options(&repository);
    options.mirrors = Mirrors::parse(["http://m.test/elsewhere"]).unwrap();
    let text = refused_by(&recipe(), &options);
    expect![[r#"
        failed to fetch the signed index of `bookworm`
          because `http://m.test/elsewhere/dists/bookworm/InRelease` does not exist
        hint: check the address of the mirror: it must be the root of a Debian archive, the folder that `dists` is in
    "#]].assert_eq(&text);
}

#[test]
fn an_index_that_debian_did_not_sign_is_refused() {
    let repository = repository();
    let mut foreign = options(&repository);
    foreign.keyring = crate::Keyring::debian();
    let text = refused_by(&recipe(), &foreign);
    assert!(
        text.starts_with("`http://m.test/debian/dists/bookworm/InRelease` cannot be trusted\n"),
        "{text}"
    );
    assert!(text.contains("no key of the keyring signed it; it was signed by "), "{text}");
    assert!(text.contains("hint: the mirror is not Debian's"), "{text}");
}

#[test]
fn an_index_that_was_changed_after_signing_is_refused() {
    let mut repository = repository();
    damage(&mut repository, "/debian/dists/bookworm/InRelease", |bytes| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        *bytes = text.replace("Origin: Debian", "Origin: debian").into_bytes();
    });
    let text = refused_by(&recipe(), &options(&repository));
    assert!(text.contains("does not match the text"), "{text}");
}

#[test]
fn a_page_of_a_captive_portal_is_refused_as_unsigned() {
    let mut repository = repository();
    damage(&mut repository, "/debian/dists/bookworm/InRelease", |bytes| {
        *bytes = b"<html>log in first</html>".to_vec();
    });
    let text = refused_by(&recipe(), &options(&repository));
    expect![[r#"
        `http://m.test/debian/dists/bookworm/InRelease` cannot be trusted
          because the signature is not valid
          because the file is not a clear-signed OpenPGP message
          because not enough bytes in buffer: cleartext header
        hint: the mirror is not Debian's, something on the way answered in its place, or its keys are newer than this program: pass `--keyring FILE` with the keys to trust
    "#]].assert_eq(&text);
}

#[test]
fn an_expired_index_is_refused_and_says_how_to_go_on() {
    let mut repository = repository();
    let security = format!("{MIRROR}-security");
    repository.publish(&security, "bookworm-security", OLD_DATES, &[LIB_FIXED]);
    check(
        &options(&repository),
        &expect![[r#"
        `http://m.test/debian-security/dists/bookworm-security/InRelease` cannot be trusted
          because it expired on 2026-07-11T10:16:37Z, 0 days ago
        hint: the mirror is not updated any more: choose another, or pass `--allow-expired-index`, which the lock will record
    "#]],
    );
}

#[test]
fn an_index_from_the_future_is_refused_as_a_wrong_clock() {
    let mut repository = repository();
    let date = "Date: Sat, 11 Jul 2037 10:16:37 UTC\n";
    repository.publish(MIRROR, "bookworm", date, &[APP, DPKG, LIB, PASSWD]);
    check(
        &options(&repository),
        &expect![[r#"
        `http://m.test/debian/dists/bookworm/InRelease` cannot be trusted
          because it is dated 2037-07-11T10:16:37Z, but the clock of this host says 2026-07-12T00:00:00Z
        hint: set the clock of this host
    "#]],
    );
}

#[test]
fn an_index_of_another_suite_is_refused() {
    let mut repository = repository();
    repository.publish(MIRROR, "trixie", DATE, &[APP]);
    let swapped = repository.files[&format!("{MIRROR}/dists/trixie/InRelease")].clone();
    repository.files.insert(format!("{MIRROR}/dists/bookworm/InRelease"), swapped);
    check(
        &options(&repository),
        &expect![[r#"
        `http://m.test/debian/dists/bookworm/InRelease` cannot be trusted
          because it is for `trixie`, not for `bookworm`
        hint: check the address of the mirror
    "#]],
    );
}

#[test]
fn a_list_of_packages_that_differs_from_the_signed_digest_is_refused() {
    let mut repository = repository();
    damage(&mut repository, "/debian/dists/bookworm/main/binary-amd64/", |bytes| {
        *bytes.last_mut().unwrap() ^= 1;
    });
    let text = refused_by(&recipe(), &options(&repository));
    assert!(text.starts_with("`http://m.test/debian/dists/bookworm/main/binary-amd64/"), "{text}");
    assert!(text.contains("is not what the signed index lists\n  because"), "{text}");
    assert!(text.contains("hint: the mirror or a cache on the way is out of step"), "{text}");
}

#[test]
fn a_package_that_differs_from_the_index_is_refused() {
    for change in [
        (|bytes: &mut Vec<u8>| bytes.push(b'\n')) as fn(&mut Vec<u8>),
        |bytes| bytes.truncate(bytes.len() / 2),
        |bytes| *bytes.last_mut().unwrap() ^= 1,
    ] {
        let mut repository = repository();
        damage(&mut repository, ".deb", change);
        let text = refused_by(&recipe(), &options(&repository));
        assert!(text.contains("is not what the signed index lists\n  because"), "{text}");
        assert!(text.contains("hint: the mirror or a cache on the way is out of step"), "{text}");
    }
}

#[test]
fn a_package_that_the_mirror_does_not_have_any_more_is_named() {
    let mut repository = repository();
    repository.files.retain(|url, _| !url.contains("-security/pool/"));
    let text = refused_by(&recipe(), &options(&repository));
    assert!(text.starts_with("failed to fetch the package `lib 1.0+deb12u1`\n"), "{text}");
    assert!(text.contains("hint: mirrors keep only the newest versions"), "{text}");
}

#[test]
fn a_package_that_is_not_in_the_archive_is_named() {
    let repository = repository();
    let recipe = Recipe::parse(&RECIPE.replace("\"app\"]\n[files]", "\"ap\"]\n[files]")).unwrap();
    expect![[r#"
        failed to choose the packages of `small`
          because `ap` cannot be satisfied: it is named by the recipe; the indexes have no `ap` for amd64
        hint: check the names in the recipe; if the mirror is being updated, try again in some minutes
    "#]].assert_eq(&refused_by(&recipe, &options(&repository)));
}

#[test]
fn a_need_that_nothing_satisfies_is_explained_up_to_the_recipe() {
    let mut repository = repository();
    let app = TestPackage {
        control: "Package: app\nVersion: 2.0-1\nArchitecture: all\nDepends: lib (>= 9) | other\nDescription: x\n",
        ..APP
    };
    repository.publish(MIRROR, "bookworm", DATE, &[app, DPKG, LIB, PASSWD]);
    check(
        &options(&repository),
        &expect![[r#"
            failed to choose the packages of `small`
              because `lib (>= 9) | other` cannot be satisfied: it is needed by app, which is named by the recipe; the indexes have lib 1.0+deb12u1, 1.0; the indexes have no `other` for amd64
            hint: check the names in the recipe; if the mirror is being updated, try again in some minutes
        "#]],
    );
}

#[test]
fn a_package_that_is_not_the_one_of_the_index_is_refused() {
    let mut repository = repository();
    // The index says one thing of the archive's file, and the file another of itself.
    let other = TestPackage {
        control: "Package: impostor\nVersion: 2.0-1\nArchitecture: all\nDescription: x\n",
        ..APP
    };
    repository.publish_as(
        MIRROR,
        "bookworm",
        DATE,
        &[(APP.control, other), (DPKG.control, DPKG), (LIB.control, LIB), (PASSWD.control, PASSWD)],
    );
    check(
        &options(&repository),
        &expect![[r#"
        failed to unpack the package `app 2.0-1`
          because the package says that it is `impostor 2.0-1 all`, but the index lists it as `app 2.0-1 all`
    "#]],
    );
}

#[test]
fn offline_without_anything_in_the_store_is_an_error_with_a_hint() {
    let repository = repository();
    let mut options = options(&repository);
    options.transport = &Nothing;
    options.offline = true;
    check(
        &options,
        &expect![[r#"
        the signed index of `bookworm` is not in the store, and the network must not be used
        hint: build once with network; after that the store has it
    "#]],
    );
}

#[test]
fn an_architecture_that_the_recipe_or_the_mirror_lacks_is_refused() {
    let repository = repository();
    let mut options = options(&repository);
    options.architecture = "arm64".into();
    check(
        &options,
        &expect![[r#"
        the golden base `small` cannot be built for `arm64`
        hint: it can be built for amd64
    "#]],
    );
    let recipe = Recipe::parse(&RECIPE.replace("[\"amd64\"]", "[\"amd64\", \"arm64\"]")).unwrap();
    expect![[r#"
        `bookworm` has no index of `main` for `arm64`
        hint: choose another architecture, or a mirror that carries this one
    "#]]
    .assert_eq(&refused_by(&recipe, &options));
}
