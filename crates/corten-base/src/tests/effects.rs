//! Each effect on the smallest packages that call for it.

use expect_test::{Expect, expect};

use super::*;
use crate::effects::{self, Context, EffectError};

/// `openssl x509 -subject_hash` of it is 805f6619.
const CERTIFICATE: &str = "-----BEGIN CERTIFICATE-----
MIIBzDCCAXOgAwIBAgIUUYKsIuDmCZ3u/Cl25GmsS8jipIwwCgYIKoZIzj0EAwIw
OzELMAkGA1UEBhMCWFgxFDASBgNVBAoMC0NvcnRlbiBUZXN0MRYwFAYDVQQDDA1S
b290IChvbmUpLCBBMCAXDTI2MTEyMTEwMDUyNFoYDzIwODEwODI0MTAwNTI0WjA7
MQswCQYDVQQGEwJYWDEUMBIGA1UECgwLQ29ydGVuIFRlc3QxFjAUBgNVBAMMDVJv
b3QgKG9uZSksIEEwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQi9klqCh55p1gI
8FtQ8zixR4sm1RnKWXL1jELaN/ByIzBWVa5Rne5xVCqpBdEbmQYGCL9B7wUx7p/5
hJzjJ+Y/o1MwUTAdBgNVHQ4EFgQUE//7rwD1q5oVChvjJR8A6YXvVCMwHwYDVR0j
BBgwFoAUE//7rwD1q5oVChvjJR8A6YXvVCMwDwYDVR0TAQH/BAUwAwEB/zAKBggq
hkjOPQQDAgNHADBEAiACCa6BZaz6UiE2nbWPYNu5zCk/x4ZOSF/TSa3UT7twbwIg
eoZgTiraNZpWYG1lhOZlkaqbqUqZgH92LaEAJqf9hqU=
-----END CERTIFICATE-----
";

/// Merges packages, applies all effects, and lets `look` see the result.
fn after<T>(
    packages: &[TestPackage<'_>],
    recipe: &Recipe,
    look: impl FnOnce(&Rootfs<'_>) -> T,
) -> Result<T, EffectError> {
    after_on("arm64", packages, recipe, look)
}

fn after_on<T>(
    architecture: &str,
    packages: &[TestPackage<'_>],
    recipe: &Recipe,
    look: impl FnOnce(&Rootfs<'_>) -> T,
) -> Result<T, EffectError> {
    let folder = TempDir::new();
    let spool = Spool::new(folder.path());
    let filter = Filter::new(&recipe.files.exclude, &recipe.files.include);
    let packages = unpacked(packages, &filter, &spool);
    let mut rootfs = Rootfs::new(&spool, MTIME);
    rootfs.merge_usr(architecture).unwrap();
    rootfs.merge(&packages).unwrap();
    effects::apply(&mut Context {
        rootfs: &mut rootfs,
        packages: &packages,
        recipe,
        filter: &filter,
        architecture,
        mirrors: &Repository::mirrors(),
        automatic: &["lib"],
    })?;
    Ok(look(&rootfs))
}

/// Compares the tree, without the links and directories of a merged `/usr` that are always there.
fn check_tree(packages: &[TestPackage<'_>], expected: &Expect) {
    let always = |line: &&str| {
        [" bin -> ", " lib -> ", " sbin -> ", " usr/", " usr/bin/", " usr/lib/", " usr/sbin/"]
            .iter()
            .all(|end| !line.contains(end) || !(line.ends_with(end) || end.contains("->")))
    };
    let text = after(packages, &recipe(), list).unwrap();
    let lines: String = text.lines().filter(always).flat_map(|line| [line, "\n"]).collect();
    expected.assert_eq(&lines);
}

fn read(packages: &[TestPackage<'_>], path: &str) -> String {
    after(packages, &recipe(), |rootfs| rootfs.need(path, "test").unwrap()).unwrap()
}

const fn package<'p>(control: &'p str, files: &'p [(&'p str, u32, &'p str)]) -> TestPackage<'p> {
    TestPackage { control, scripts: &[], files }
}

#[test]
fn packages_and_effects_make_this_tree() {
    let packages = [APP, DPKG, LIB_FIXED, PASSWD];
    let (tree, status, shadow) = after(&packages, &recipe(), |rootfs| {
        let text = |path| rootfs.need(path, "test").unwrap();
        (list(rootfs), text("var/lib/dpkg/status"), text("etc/shadow"))
    })
    .unwrap();
    expect![[r#"
        0777 0:0 0 bin -> usr/bin
        0755 0:0 0 etc/
        0755 0:0 0 etc/alternatives/
        0777 0:0 0 etc/alternatives/tool -> /usr/bin/app
        0644 0:0 0 etc/app.conf 4
        0644 0:0 0 etc/group 23
        0640 0:42 0 etc/gshadow 20
        0644 0:0 0 etc/passwd 32
        0640 0:42 0 etc/shadow 26
        0777 0:0 0 lib -> usr/lib
        0777 0:0 0 sbin -> usr/sbin
        0755 0:0 0 usr/
        0755 0:0 0 usr/bin/
        0755 0:0 0 usr/bin/app 10
        0755 0:0 0 usr/bin/dpkg 3
        0777 0:0 0 usr/bin/tool -> /etc/alternatives/tool
        0755 0:0 0 usr/lib/
        0777 0:0 0 usr/lib/lib.so -> lib.so.1
        0644 0:0 0 usr/lib/lib.so.1 3
        0755 0:0 0 usr/sbin/
        0755 0:0 0 usr/share/
        0755 0:0 0 usr/share/base-passwd/
        0644 0:0 0 usr/share/base-passwd/group.master 23
        0644 0:0 0 usr/share/base-passwd/passwd.master 32
        0755 0:0 0 usr/share/doc/
        0755 0:0 0 usr/share/doc/app/
        0644 0:0 0 usr/share/doc/app/copyright 4
        0755 0:0 0 var/
        0755 0:0 0 var/lib/
        0755 0:0 0 var/lib/dpkg/
        0755 0:0 0 var/lib/dpkg/alternatives/
        0644 0:0 0 var/lib/dpkg/alternatives/tool 36
        0644 0:0 0 var/lib/dpkg/diversions 0
        0755 0:0 0 var/lib/dpkg/info/
        0644 0:0 0 var/lib/dpkg/info/app.conffiles 14
        0644 0:0 0 var/lib/dpkg/info/app.list 146
        0644 0:0 0 var/lib/dpkg/info/app.md5sums 167
        0755 0:0 0 var/lib/dpkg/info/app.postinst 93
        0644 0:0 0 var/lib/dpkg/info/app.templates 55
        0644 0:0 0 var/lib/dpkg/info/app.triggers 49
        0644 0:0 0 var/lib/dpkg/info/dpkg.list 29
        0644 0:0 0 var/lib/dpkg/info/dpkg.md5sums 0
        0644 0:0 0 var/lib/dpkg/info/format 2
        0644 0:0 0 var/lib/dpkg/info/lib:amd64.list 31
        0644 0:0 0 var/lib/dpkg/info/lib:amd64.md5sums 0
        0644 0:0 0 var/lib/dpkg/info/passwd.list 112
        0644 0:0 0 var/lib/dpkg/info/passwd.md5sums 0
        0755 0:0 0 var/lib/dpkg/parts/
        0644 0:0 0 var/lib/dpkg/status 647
        0755 0:0 0 var/lib/dpkg/triggers/
        0644 0:0 0 var/lib/dpkg/triggers/File 25
        0644 0:0 0 var/lib/dpkg/triggers/Unincorp 0
        0644 0:0 0 var/lib/dpkg/triggers/app-ready 4
        0755 0:0 0 var/lib/dpkg/updates/
    "#]]
    .assert_eq(&tree);
    expect![[r#"
        Package: app
        Status: install ok installed
        Section: misc
        Maintainer: T <t@t.test>
        Architecture: all
        Version: 2.0-1
        Depends: lib (>= 1)
        Conffiles:
         /etc/app.conf d5e29449b9e66d5b4bb0d6ce48fbbcb1
        Description: an app
         long

        Package: dpkg
        Essential: yes
        Status: install ok installed
        Maintainer: T <t@t.test>
        Architecture: amd64
        Multi-Arch: foreign
        Version: 1
        Description: x

        Package: lib
        Status: install ok installed
        Maintainer: T <t@t.test>
        Architecture: amd64
        Multi-Arch: same
        Version: 1.0+deb12u1
        Description: x

        Package: passwd
        Status: install ok installed
        Priority: required
        Maintainer: T <t@t.test>
        Architecture: amd64
        Version: 1
        Description: x

    "#]]
    .assert_eq(&status);
    expect![[r#"
        root:*:20454:0:99999:7:::
    "#]]
    .assert_eq(&shadow);
}

#[test]
fn packages_that_call_for_nothing_get_nothing() {
    check_tree(
        &[package("Package: x\nVersion: 1\nArchitecture: all\n", &[("opt/x", 0o640, "x")])],
        &expect![[r#"
            0755 0:0 0 opt/
            0640 0:0 0 opt/x 1
        "#]],
    );
}

#[test]
fn the_effect_usrmerge_removes_links_that_no_package_came_for() {
    let merged = package("Package: usr-is-merged\nVersion: 37\nArchitecture: all\n", &[]);
    let libc = package(
        "Package: libc6\nVersion: 2.36\nArchitecture: amd64\n",
        &[("lib64/", 0o755, ""), ("lib64/ld.so", 0o755, "elf")],
    );
    let names = |packages: &[TestPackage<'_>]| {
        let text = after_on("amd64", packages, &recipe(), list).unwrap();
        let of_words = text.lines().filter(|line| line.contains("32") || line.contains("64"));
        of_words.flat_map(|line| [line, "\n"]).collect::<String>()
    };
    expect![[r#"
        0777 0:0 0 lib32 -> usr/lib32
        0777 0:0 0 lib64 -> usr/lib64
        0777 0:0 0 libx32 -> usr/libx32
        0755 0:0 0 usr/lib32/
        0755 0:0 0 usr/lib64/
        0755 0:0 0 usr/lib64/ld.so 3
        0755 0:0 0 usr/libx32/
    "#]]
    .assert_eq(&names(&[libc]));
    expect![[r#"
        0777 0:0 0 lib64 -> usr/lib64
        0755 0:0 0 usr/lib64/
        0755 0:0 0 usr/lib64/ld.so 3
    "#]]
    .assert_eq(&names(&[libc, merged]));
}

#[test]
fn the_effect_system_makes_the_directories_of_base_files() {
    check_tree(
        &[package(
            "Package: base-files\nVersion: 1\nArchitecture: arm64\n",
            &[
                ("etc/dpkg/origins/debian", 0o644, "Vendor: Debian\n"),
                ("root/", 0o700, ""),
                ("usr/share/base-files/dot.profile", 0o644, "p"),
                ("usr/share/base-files/dot.bashrc", 0o644, "b"),
                ("usr/share/base-files/profile", 0o644, "profile"),
                ("usr/share/base-files/motd", 0o644, "motd\n"),
                ("var/run/", 0o755, ""),
            ],
        )],
        &expect![[r#"
            0755 0:0 0 etc/
            0755 0:0 0 etc/dpkg/
            0755 0:0 0 etc/dpkg/origins/
            0644 0:0 0 etc/dpkg/origins/debian 15
            0777 0:0 0 etc/dpkg/origins/default -> debian
            0644 0:0 0 etc/motd 5
            0755 0:0 0 etc/opt/
            0644 0:0 0 etc/profile 7
            0755 0:0 0 media/
            0755 0:0 0 mnt/
            0755 0:0 0 opt/
            0700 0:0 0 root/
            0644 0:0 0 root/.bashrc 1
            0644 0:0 0 root/.profile 1
            0755 0:0 0 run/
            1777 0:0 0 run/lock/
            0755 0:0 0 srv/
            0755 0:0 0 usr/local/
            0755 0:0 0 usr/local/bin/
            0755 0:0 0 usr/local/etc/
            0755 0:0 0 usr/local/games/
            0755 0:0 0 usr/local/include/
            0755 0:0 0 usr/local/lib/
            0777 0:0 0 usr/local/man -> share/man
            0755 0:0 0 usr/local/sbin/
            0755 0:0 0 usr/local/share/
            0755 0:0 0 usr/local/share/man/
            0755 0:0 0 usr/local/src/
            0755 0:0 0 usr/share/
            0755 0:0 0 usr/share/base-files/
            0644 0:0 0 usr/share/base-files/dot.bashrc 1
            0644 0:0 0 usr/share/base-files/dot.profile 1
            0644 0:0 0 usr/share/base-files/motd 5
            0644 0:0 0 usr/share/base-files/profile 7
            0755 0:0 0 var/
            0777 0:0 0 var/lock -> /run/lock
            0755 0:0 0 var/log/
            0660 0:43 0 var/log/btmp 0
            0664 0:43 0 var/log/lastlog 0
            0664 0:43 0 var/log/wtmp 0
            2775 0:8 0 var/mail/
            0755 0:0 0 var/opt/
            0777 0:0 0 var/run -> /run
            0755 0:0 0 var/spool/
            0777 0:0 0 var/spool/mail -> ../mail
        "#]],
    );
}

#[test]
fn the_effect_system_makes_the_small_files_of_their_packages() {
    check_tree(
        &[
            package(
                "Package: libc-bin\nVersion: 2.36-9\nArchitecture: arm64\n",
                &[("usr/share/libc-bin/nsswitch.conf", 0o644, "passwd: files\n")],
            ),
            package("Package: libpam-modules\nVersion: 1\nArchitecture: arm64\n", &[]),
            package("Package: login\nVersion: 1\nArchitecture: arm64\n", &[]),
            package("Package: netbase\nVersion: 1\nArchitecture: all\n", &[]),
            package(
                "Package: readline-common\nVersion: 1\nArchitecture: all\n",
                &[("usr/share/readline/inputrc", 0o644, "set x\n")],
            ),
        ],
        &expect![[r#"
            0755 0:0 0 etc/
            0644 0:0 0 etc/environment 0
            0644 0:0 0 etc/inputrc 6
            0644 0:0 0 etc/ld.so.cache 130
            0644 0:0 0 etc/networks 60
            0644 0:0 0 etc/nsswitch.conf 14
            0755 0:0 0 etc/security/
            0600 0:0 0 etc/security/opasswd 0
            0644 0:0 0 etc/subgid 0
            0644 0:0 0 etc/subuid 0
            0755 0:0 0 usr/share/
            0755 0:0 0 usr/share/libc-bin/
            0644 0:0 0 usr/share/libc-bin/nsswitch.conf 14
            0755 0:0 0 usr/share/readline/
            0644 0:0 0 usr/share/readline/inputrc 6
            0755 0:0 0 var/
            0755 0:0 0 var/log/
            0644 0:0 0 var/log/faillog 0
        "#]],
    );
}

#[test]
fn the_effect_users_leaves_passwords_where_they_are_without_shadow() {
    let control = "Package: base-passwd\nVersion: 1\nArchitecture: arm64\n";
    let packages = [package(control, PASSWD.files)];
    assert_eq!(read(&packages, "etc/passwd"), "root:*:0:0:root:/root:/bin/bash\n");
    assert_eq!(read(&packages, "etc/group"), "root:*:0:\nshadow:*:42:\n");
    let has = |path: &str| after(&packages, &recipe(), |rootfs| rootfs.has_name(path)).unwrap();
    assert!(!has("etc/shadow") && !has("etc/gshadow"));
}

#[test]
fn the_effect_shells_lists_each_shell_under_both_of_its_names() {
    let packages = [
        package(
            "Package: debianutils\nVersion: 1\nArchitecture: arm64\n",
            &[("usr/share/debianutils/shells", 0o644, "# valid login shells\n")],
        ),
        package(
            "Package: dash\nVersion: 1\nArchitecture: arm64\n",
            &[
                ("bin/dash", 0o755, "elf"),
                ("usr/share/debianutils/shells.d/dash", 0o644, "# a link:\n/bin/sh\n/bin/dash\n"),
            ],
        ),
    ];
    expect![[r#"
        # valid login shells
        /bin/sh
        /usr/bin/sh
        /bin/dash
        /usr/bin/dash
    "#]]
    .assert_eq(&read(&packages, "etc/shells"));
    expect![[r#"
        /bin/sh
        /usr/bin/sh
        /bin/dash
        /usr/bin/dash
    "#]]
    .assert_eq(&read(&packages, "var/lib/shells.state"));
}

#[test]
fn the_effect_alternatives_takes_the_highest_priority_and_skips_what_is_missing() {
    let script = |text| [("postinst", 0o755, text)];
    let (low, high, gone) = (
        script(
            "update-alternatives --install /usr/bin/awk awk /usr/bin/mawk 5 \\\n --slave /usr/share/man/man1/awk.1.gz awk.1.gz /usr/share/man/man1/mawk.1.gz\n",
        ),
        script("update-alternatives --install /usr/bin/awk awk /usr/bin/gawk 10\n"),
        script("update-alternatives --install /usr/bin/awk awk /usr/bin/none 99\n"),
    );
    let with = |control, scripts, files| TestPackage { control, scripts, files };
    check_tree(
        &[
            with(
                "Package: gawk\nVersion: 1\nArchitecture: all\n",
                &high,
                &[("usr/bin/gawk", 0o755, "g")],
            ),
            with("Package: gone\nVersion: 1\nArchitecture: all\n", &gone, &[]),
            with(
                "Package: mawk\nVersion: 1\nArchitecture: all\n",
                &low,
                &[("usr/bin/mawk", 0o755, "m")],
            ),
        ],
        &expect![[r#"
            0755 0:0 0 etc/
            0755 0:0 0 etc/alternatives/
            0777 0:0 0 etc/alternatives/awk -> /usr/bin/gawk
            0777 0:0 0 usr/bin/awk -> /etc/alternatives/awk
            0755 0:0 0 usr/bin/gawk 1
            0755 0:0 0 usr/bin/mawk 1
            0755 0:0 0 var/
            0755 0:0 0 var/lib/
            0755 0:0 0 var/lib/dpkg/
            0755 0:0 0 var/lib/dpkg/alternatives/
            0644 0:0 0 var/lib/dpkg/alternatives/awk 122
        "#]],
    );
}

#[test]
fn the_effect_time_zone_chooses_utc() {
    check_tree(
        &[package(
            "Package: tzdata\nVersion: 1\nArchitecture: all\n",
            &[("usr/share/zoneinfo/Etc/UTC", 0o644, "TZif2")],
        )],
        &expect![[r#"
            0755 0:0 0 etc/
            0777 0:0 0 etc/localtime -> /usr/share/zoneinfo/Etc/UTC
            0644 0:0 0 etc/timezone 8
            0755 0:0 0 usr/share/
            0755 0:0 0 usr/share/zoneinfo/
            0755 0:0 0 usr/share/zoneinfo/Etc/
            0644 0:0 0 usr/share/zoneinfo/Etc/UTC 5
        "#]],
    );
}

const AUTHORITIES: TestPackage<'static> = package(
    "Package: ca-certificates\nVersion: 1\nArchitecture: all\n",
    &[
        ("usr/share/ca-certificates/mozilla/Root_(one),_A.crt", 0o644, CERTIFICATE),
        ("usr/share/ca-certificates/mozilla/Twin.crt", 0o644, CERTIFICATE),
    ],
);

#[test]
fn the_effect_ca_certificates_makes_bundle_names_and_numbered_hashes() {
    check_tree(
        &[AUTHORITIES],
        &expect![[r#"
        0755 0:0 0 etc/
        0644 0:0 0 etc/ca-certificates.conf 521
        0755 0:0 0 etc/ssl/
        0755 0:0 0 etc/ssl/certs/
        0777 0:0 0 etc/ssl/certs/805f6619.0 -> Root_=one=__A.pem
        0777 0:0 0 etc/ssl/certs/805f6619.1 -> Twin.pem
        0777 0:0 0 etc/ssl/certs/Root_=one=__A.pem -> /usr/share/ca-certificates/mozilla/Root_(one),_A.crt
        0777 0:0 0 etc/ssl/certs/Twin.pem -> /usr/share/ca-certificates/mozilla/Twin.crt
        0644 0:0 0 etc/ssl/certs/ca-certificates.crt 1368
        0755 0:0 0 usr/lib/ssl/
        0777 0:0 0 usr/lib/ssl/cert.pem -> /etc/ssl/certs/ca-certificates.crt
        0777 0:0 0 usr/lib/ssl/certs -> /etc/ssl/certs
        0755 0:0 0 usr/local/
        0755 0:0 0 usr/local/share/
        0755 0:0 0 usr/local/share/ca-certificates/
        0755 0:0 0 usr/share/
        0755 0:0 0 usr/share/ca-certificates/
        0755 0:0 0 usr/share/ca-certificates/mozilla/
        0644 0:0 0 usr/share/ca-certificates/mozilla/Root_(one),_A.crt 684
        0644 0:0 0 usr/share/ca-certificates/mozilla/Twin.crt 684
    "#]],
    );
    let bundle = read(&[AUTHORITIES], "etc/ssl/certs/ca-certificates.crt");
    assert_eq!(bundle, CERTIFICATE.repeat(2));
    let configuration = read(&[AUTHORITIES], "etc/ca-certificates.conf");
    assert!(configuration.ends_with("#\nmozilla/Root_(one),_A.crt\nmozilla/Twin.crt\n"));
}

#[test]
fn a_certificate_that_is_none_is_named() {
    let broken = package(
        AUTHORITIES.control,
        &[("usr/share/ca-certificates/mozilla/Bad.crt", 0o644, "not a certificate\n")],
    );
    let error = after(&[broken], &recipe(), |_| ()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "failed to apply the effect `ca-certificates`: `/usr/share/ca-certificates/mozilla/Bad.crt` is not a certificate"
    );
}

const PYTHON: TestPackage<'static> = package(
    "Package: python3.11-minimal\nVersion: 3.11.2-6\nArchitecture: arm64\n",
    &[("usr/bin/python3.11", 0o755, "elf"), ("usr/bin/pydoc3.11", 0o755, "#!")],
);

fn python_recipe(wheels: &str) -> Recipe {
    Recipe::parse(&format!("{RECIPE}[python]\nversion = \"3.11\"\nwheels = [{wheels}]\n")).unwrap()
}

#[test]
fn the_effect_python_puts_programs_and_packages_where_dockerfiles_expect_them() {
    let text = after(&[PYTHON], &python_recipe(""), list).unwrap();
    let lines: String = text
        .lines()
        .filter(|line| line.contains("local") || line.contains("var/lib/python"))
        .flat_map(|line| [line, "\n"])
        .collect();
    expect![[r#"
        0755 0:0 0 usr/local/
        0755 0:0 0 usr/local/bin/
        0777 0:0 0 usr/local/bin/pydoc -> /usr/bin/pydoc3.11
        0777 0:0 0 usr/local/bin/pydoc3 -> /usr/bin/pydoc3.11
        0777 0:0 0 usr/local/bin/pydoc3.11 -> /usr/bin/pydoc3.11
        0777 0:0 0 usr/local/bin/python -> /usr/bin/python3.11
        0777 0:0 0 usr/local/bin/python3 -> /usr/bin/python3.11
        0777 0:0 0 usr/local/bin/python3.11 -> /usr/bin/python3.11
        0755 0:0 0 usr/local/lib/
        0755 0:0 0 usr/local/lib/python3.11/
        0777 0:0 0 usr/local/lib/python3.11/dist-packages -> site-packages
        0755 0:0 0 usr/local/lib/python3.11/site-packages/
        0755 0:0 0 var/lib/python/
        0644 0:0 0 var/lib/python/python3.11_installed 0
    "#]]
    .assert_eq(&lines);
}

#[test]
fn a_recipe_for_python_without_python_or_its_wheels_is_an_error() {
    let error = after(&[LIB], &python_recipe(""), |_| ()).unwrap_err();
    let source = |error: &EffectError| std::error::Error::source(error).unwrap().to_string();
    expect!["`/usr/bin/python3.11` is missing, which the effect `python` needs"]
        .assert_eq(&source(&error));
    let error = after(&[PYTHON], &python_recipe("\"pip\""), |_| ()).unwrap_err();
    expect!["`/usr/share/python-wheels/pip-*.whl` is missing, which the effect `python` needs"]
        .assert_eq(&source(&error));
}

#[test]
fn the_effect_apt_writes_sources_without_credentials_and_the_automatic_packages() {
    let packages = [package("Package: apt\nVersion: 1\nArchitecture: arm64\n", &[]), LIB_FIXED];
    expect![[r#"
        Types: deb
        URIs: http://m.test/debian
        Suites: bookworm
        Components: main
        Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

        Types: deb
        URIs: http://m.test/debian-security
        Suites: bookworm-security
        Components: main
        Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
    "#]]
    .assert_eq(&read(&packages, "etc/apt/sources.list.d/debian.sources"));
    expect![[r#"
        Package: lib
        Architecture: amd64
        Auto-Installed: 1

    "#]]
    .assert_eq(&read(&packages, "var/lib/apt/extended_states"));
    expect![[r#"
        # Files that this image leaves out; packages installed later follow.
        path-exclude /usr/share/doc/*
        path-include /usr/share/doc/*/copyright
    "#]]
    .assert_eq(&read(&packages, "etc/dpkg/dpkg.cfg.d/docker"));
}

#[test]
fn the_effect_debconf_knows_the_questions_of_all_packages() {
    let packages = [APP, package("Package: debconf\nVersion: 1\nArchitecture: all\n", &[])];
    expect![[r#"
        Name: app/question
        Template: app/question
        Owners: app

    "#]]
    .assert_eq(&read(&packages, "var/cache/debconf/config.dat"));
    expect![[r#"
        Name: app/question
        Description: What?
        Type: string
        Owners: app/question

    "#]]
    .assert_eq(&read(&packages, "var/cache/debconf/templates.dat"));
}

#[test]
fn the_effect_dpkg_lists_files_configuration_triggers_and_the_diversion_of_dash() {
    let dash =
        package("Package: dash\nVersion: 1\nArchitecture: arm64\n", &[("bin/dash", 0o755, "elf")]);
    let packages = [APP, dash, DPKG];
    expect![[r#"
        /etc
        /etc/app.conf
        /usr
        /usr/bin
        /usr/bin/app
        /usr/share
        /usr/share/doc
        /usr/share/doc/app
        /usr/share/doc/app/README
        /usr/share/doc/app/copyright
    "#]]
    .assert_eq(&read(&packages, "var/lib/dpkg/info/app.list"));
    expect![[r#"
        /usr/lib/app app/noawait
    "#]]
    .assert_eq(&read(&packages, "var/lib/dpkg/triggers/File"));
    expect![[r#"
        app
    "#]]
    .assert_eq(&read(&packages, "var/lib/dpkg/triggers/app-ready"));
    expect![[r#"
        /bin/sh
        /bin/sh.distrib
        dash
    "#]]
    .assert_eq(&read(&packages, "var/lib/dpkg/diversions"));
}

#[test]
fn the_same_path_in_two_packages_is_refused_unless_one_replaces_the_other() {
    let folder = TempDir::new();
    let spool = Spool::new(folder.path());
    let filter = Filter::default();
    let merge = |packages: &[TestPackage<'_>]| {
        let mut rootfs = Rootfs::new(&spool, MTIME);
        rootfs.merge_usr("amd64").unwrap();
        rootfs
            .merge(&unpacked(packages, &filter, &spool))
            .map(|()| rootfs.need("usr/bin/x", "test").unwrap())
    };
    let (one, two) = (
        [("bin/", 0o755, ""), ("bin/x", 0o755, "1")],
        [("bin/", 0o755, ""), ("bin/x", 0o755, "2")],
    );
    let a = package("Package: a\nVersion: 1\nArchitecture: all\n", &one);
    let same = package("Package: b\nVersion: 1\nArchitecture: all\n", &one);
    let other = package("Package: b\nVersion: 1\nArchitecture: all\n", &two);
    let replacing =
        package("Package: b\nVersion: 1\nArchitecture: all\nReplaces: a (<< 2)\n", &two);
    assert_eq!(merge(&[a, same]).unwrap(), "1");
    assert_eq!(merge(&[a, replacing]).unwrap(), "2");
    assert_eq!(merge(&[replacing, a]).unwrap(), "2");
    let error = merge(&[a, other]).unwrap_err().to_string();
    assert_eq!(error, "`b` and `a` both have `/usr/bin/x`, and neither replaces the other");
}
