//! The whole way from a signed archive to an image, without network.

mod damage;
mod effects;
pub(crate) mod library;
mod privileged;
mod refusals;
pub(crate) mod repository;

use std::fmt::Write as _;

use corten_diag::Collect;
use corten_store::{Repair, Store, StoreOptions};
use corten_testkit::TempDir;
use expect_test::Expect;

use crate::build::{BaseOptions, build};
use crate::error::BaseError;
use crate::filter::Filter;
use crate::recipe::Recipe;
use crate::rootfs::Rootfs;
use crate::sources::Mirrors;
use crate::spool::Spool;
use crate::unpack::{Identity, Unpacked, unpack};
use repository::{CLOCK, MIRROR, MTIME, Nothing, Repository, TestPackage};

const DATE: &str = "Date: Sat, 11 Jul 2026 10:16:37 UTC\n";

const RECIPE: &str = r#"
schema = 1
name = "small"
title = "Small"
description = "A small base"
reference = "golden.internal/small:1"
architectures = ["amd64"]
[base]
suite = "bookworm"
security = ["bookworm-security"]
component = "main"
[packages]
required = true
add = ["app"]
[files]
exclude = ["/usr/share/doc/*"]
include = ["/usr/share/doc/*/copyright"]
[config]
env = ["PATH=/usr/bin"]
cmd = ["app"]
"#;

const PASSWD: TestPackage<'static> = TestPackage {
    control: "Package: passwd\nVersion: 1\nArchitecture: amd64\nPriority: required\nMaintainer: T <t@t.test>\nDescription: x\n",
    scripts: &[("md5sums", 0o644, "")],
    files: &[
        ("usr/", 0o755, ""),
        ("usr/share/", 0o755, ""),
        ("usr/share/base-passwd/", 0o755, ""),
        ("usr/share/base-passwd/passwd.master", 0o644, "root:*:0:0:root:/root:/bin/bash\n"),
        ("usr/share/base-passwd/group.master", 0o644, "root:*:0:\nshadow:*:42:\n"),
    ],
};

const DPKG: TestPackage<'static> = TestPackage {
    control: "Package: dpkg\nEssential: yes\nVersion: 1\nArchitecture: amd64\nMulti-Arch: foreign\nMaintainer: T <t@t.test>\nDescription: x\n",
    scripts: &[("md5sums", 0o644, "")],
    files: &[
        ("bin/", 0o755, ""),
        ("bin/dpkg", 0o755, "elf"),
        ("usr/", 0o755, ""),
        ("usr/bin/", 0o755, ""),
    ],
};

const APP: TestPackage<'static> = TestPackage {
    control: "Package: app\nVersion: 2.0-1\nArchitecture: all\nDepends: lib (>= 1)\nSection: misc\nMaintainer: T <t@t.test>\nDescription: an app\n long\n",
    scripts: &[
        ("conffiles", 0o644, "/etc/app.conf\n"),
        (
            "md5sums",
            0o644,
            "3e2b31c72181b87149ff995e7202c0e3  usr/bin/app\n\
             ef7b5181c1f63f8ca8eebaab0829ee38  usr/share/doc/app/README\n\
             aa2d6e4f578eb0cfaba23beef76c2194  usr/share/doc/app/copyright\n",
        ),
        (
            "postinst",
            0o755,
            "#!/bin/sh\nset -e\nupdate-alternatives --install /usr/bin/tool tool /usr/bin/app 5\nadduser app\n",
        ),
        ("triggers", 0o644, "interest-noawait /usr/lib/app\ninterest app-ready\n"),
        ("templates", 0o644, "Template: app/question\nType: string\nDescription: What?\n"),
    ],
    files: &[
        ("etc/", 0o755, ""),
        ("etc/app.conf", 0o644, "a=1\n"),
        ("usr/", 0o755, ""),
        ("usr/bin/", 0o755, ""),
        ("usr/bin/app", 0o755, "#!/bin/sh\n"),
        ("usr/share/", 0o755, ""),
        ("usr/share/doc/", 0o755, ""),
        ("usr/share/doc/app/", 0o755, ""),
        ("usr/share/doc/app/README", 0o644, "read me"),
        ("usr/share/doc/app/copyright", 0o644, "free"),
    ],
};

const LIB: TestPackage<'static> = TestPackage {
    control: "Package: lib\nVersion: 1.0\nArchitecture: amd64\nMulti-Arch: same\nMaintainer: T <t@t.test>\nDescription: x\n",
    scripts: &[("md5sums", 0o644, "")],
    files: &[
        ("lib/", 0o755, ""),
        ("lib/lib.so.1", 0o644, "old"),
        ("lib/lib.so", 0o777, "->lib.so.1"),
    ],
};

const LIB_FIXED: TestPackage<'static> = TestPackage {
    control: "Package: lib\nVersion: 1.0+deb12u1\nArchitecture: amd64\nMulti-Arch: same\nMaintainer: T <t@t.test>\nDescription: x\n",
    scripts: &[("md5sums", 0o644, "")],
    files: &[
        ("lib/", 0o755, ""),
        ("lib/lib.so.1", 0o644, "new"),
        ("lib/lib.so", 0o777, "->lib.so.1"),
    ],
};

fn repository() -> Repository {
    let mut repository = Repository::new();
    repository.publish(MIRROR, "bookworm", DATE, &[APP, DPKG, LIB, PASSWD]);
    let security = format!("{MIRROR}-security");
    repository.publish(&security, "bookworm-security", DATE, &[LIB_FIXED]);
    repository
}

fn recipe() -> Recipe {
    Recipe::parse(RECIPE).unwrap()
}

fn options(repository: &Repository) -> BaseOptions<'_> {
    let mut options = BaseOptions::new(Repository::mirrors(), "amd64", repository, &CLOCK);
    options.keyring = repository.signer.keyring();
    options
}

fn open_store(folder: &TempDir) -> Store {
    Store::open(&StoreOptions::new(folder.path().join("store"))).unwrap()
}

/// A failed build leaves nothing that is wrong and no image.
fn assert_whole(store: &Store) {
    let report = store.fsck(Repair::No).unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}

/// Builds into a store of its own and returns the error with all its causes and its hint.
fn refused_by(recipe: &Recipe, options: &BaseOptions<'_>) -> String {
    let folder = TempDir::new();
    let store = open_store(&folder);
    let error = build(recipe, options, &store, &Collect::default()).unwrap_err();
    assert_whole(&store);
    assert!(store.images().unwrap().is_empty());
    explain(&error)
}

fn explain(error: &BaseError) -> String {
    let mut text = format!("{error}\n");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        writeln!(text, "  because {error}").unwrap();
        cause = error.source();
    }
    text + &error.hint().map(|hint| format!("hint: {hint}\n")).unwrap_or_default()
}

fn check(options: &BaseOptions<'_>, expected: &Expect) {
    expected.assert_eq(&refused_by(&recipe(), options));
}

fn unpacked(packages: &[TestPackage<'_>], filter: &Filter, spool: &Spool) -> Vec<Unpacked> {
    packages
        .iter()
        .map(|package| {
            let control: Vec<_> = [("control", 0o644, package.control)]
                .into_iter()
                .chain(package.scripts.iter().copied())
                .collect();
            let bytes = crate::deb::tests::deb(&control, package.files, MTIME);
            let fields = crate::deb822::paragraphs(package.control).next().unwrap();
            let identity = Identity {
                name: fields.text("Package"),
                version: fields.text("Version"),
                architecture: fields.text("Architecture"),
            };
            unpack(bytes.as_slice(), &identity, filter, spool).unwrap()
        })
        .collect()
}

fn list(rootfs: &Rootfs<'_>) -> String {
    use corten_oci::tree::Kind;
    let mut text = String::new();
    for (path, node) in rootfs.tree().iter() {
        let meta = &node.meta;
        let what = match &node.kind {
            Kind::Directory { .. } => "/".to_owned(),
            Kind::File(content) => format!(" {}", content.size()),
            Kind::Symlink(target) => format!(" -> {}", String::from_utf8_lossy(target)),
            other => format!(" {other:?}"),
        };
        writeln!(
            text,
            "{:04o} {}:{} {} {path}{what}",
            meta.mode,
            meta.uid,
            meta.gid,
            meta.mtime - MTIME
        )
        .unwrap();
    }
    text
}
