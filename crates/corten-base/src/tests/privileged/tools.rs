//! What the system's own tools say of our work.

use std::path::{Path, PathBuf};
use std::process::Command;

use corten_oci::platform::Platform;
use corten_store::Layer;
use corten_sys::file;

use super::*;
use crate::effects::{self, Context};
use crate::tests::library::library;

#[expect(clippy::disallowed_methods, reason = "an independent judge is the point of the test")]
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("LC_ALL", "C.UTF-8")
        .env_remove("DPKG_ROOT")
        .env_remove("DPKG_ADMINDIR")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    assert!(output.status.success(), "`{program} {}`:\n{text}", arguments.join(" "));
    text
}

/// A copy of a layer that tools may change.
fn copy(layer: &Layer, folder: &TempDir, name: &str) -> PathBuf {
    let to = folder.path().join(name);
    run("cp", &["-a", layer.path.to_str().unwrap(), to.to_str().unwrap()]);
    to
}

fn import(rootfs: &Rootfs<'_>, store: &Store) -> Layer {
    let mut tar = Vec::new();
    rootfs.write_tar(&mut tar).unwrap();
    store.import_layer(&mut tar.as_slice(), None).unwrap()
}

/// Libraries in every situation that ldconfig treats in a way of its own.
fn libraries(rootfs: &mut Rootfs<'_>, triplet: &str, machine: u16) {
    let mut put = |path: String, soname: Option<&str>| {
        rootfs.write(&path, library(soname, machine), 0o644).unwrap();
    };
    let main = format!("usr/lib/{triplet}");
    // Two versions of one name; the link is missing, so that ldconfig makes it.
    put(format!("{main}/libtwo.so.1.9.0"), Some("libtwo.so.1"));
    put(format!("{main}/libtwo.so.1.10.0"), Some("libtwo.so.1"));
    put(format!("{main}/libplain.so.6"), Some("libplain.so.6"));
    put(format!("{main}/libplain.so.10"), Some("libplain.so.10"));
    // No name of its own.
    put(format!("{main}/libnameless.so"), None);
    put(format!("{main}/libdev.so.2.0"), Some("libdev.so.2"));
    put(format!("{main}/libother.so.2.0"), Some("libother.so.2"));
    // Named in two folders, and in one that the configuration names.
    put("usr/lib/libplain.so.6".to_owned(), Some("libplain.so.6"));
    put("usr/local/lib/libours.so.0.1".to_owned(), Some("libours.so.0"));
    put("opt/extra/libextra.so.3".to_owned(), Some("libextra.so.3"));
    // Neither name is that of a library.
    put(format!("{main}/plugin.so"), Some("plugin.so"));
    put(format!("{main}/libfoo.a"), Some("libfoo.a"));
    for (path, target) in [
        (format!("{main}/libdev.so"), "libdev.so.2.0"),
        (format!("{main}/libdev.so.2"), "libdev.so.2.0"),
        (format!("{main}/libother.so"), "libother.so.2.0"),
        (format!("{main}/libalias.so.7"), "libother.so.2.0"),
        (format!("{main}/libdangling.so.1"), "nothing"),
    ] {
        rootfs.symlink(&path, target).unwrap();
    }
    rootfs.write(&format!("{main}/libscript.so"), "GROUP ( libdev.so.2 )\n", 0o644).unwrap();
    rootfs.write("etc/ld.so.conf", "include /etc/ld.so.conf.d/*.conf\n", 0o644).unwrap();
    let folders =
        format!("# a comment\n/usr/local/lib/{triplet}\n/lib/{triplet}\n/usr/lib/{triplet}\n");
    rootfs.write("etc/ld.so.conf.d/arch.conf", folders, 0o644).unwrap();
    rootfs.write("etc/ld.so.conf.d/libc.conf", "/usr/local/lib\n", 0o644).unwrap();
    rootfs.write("etc/ld.so.conf.d/zz.conf", "/opt/extra\n/opt/missing\n", 0o644).unwrap();
    rootfs.write("etc/ld.so.conf.d/ignored", "/usr/share\n", 0o644).unwrap();
}

/// Returns all links below a folder with their targets.
fn links(root: &Path) -> String {
    run("find", &[root.to_str().unwrap(), "-type", "l", "-printf", "%P -> %l\n"])
}

fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn the_cache_of_the_linker_is_what_ldconfig_writes_byte_for_byte() {
    require!(Need::Root, Need::Program("ldconfig"));
    let (architecture, triplet, machine) = match Platform::host().architecture.as_str() {
        "arm64" => ("arm64", "aarch64-linux-gnu", 183),
        _ => ("amd64", "x86_64-linux-gnu", 62),
    };
    // `ldconfig (Debian GLIBC 2.36-9) 2.36`: what stands in the brackets names the package.
    let said = run("ldconfig", &["--version"]);
    let version = said.split_once("Debian GLIBC ").and_then(|(_, rest)| rest.split_once(')'));
    let version = version.map_or("2.36-9", |(version, _)| version);
    let control = format!("Package: libc-bin\nVersion: {version}\nArchitecture: {architecture}\n");
    let folder = TempDir::new();
    let (spool, store) = (Spool::new(folder.path()), open_store(&folder));
    let filter = Filter::default();
    let packages =
        unpacked(&[TestPackage { control: &control, scripts: &[], files: &[] }], &filter, &spool);
    let mut rootfs = Rootfs::new(&spool, MTIME);
    rootfs.merge_usr(architecture).unwrap();
    libraries(&mut rootfs, triplet, machine);
    let tree = copy(&import(&rootfs, &store), &folder, "tree");
    run("ldconfig", &["-r", tree.to_str().unwrap()]);
    let theirs = file::read(&tree.join("etc/ld.so.cache")).unwrap();
    effects::apply(&mut Context {
        rootfs: &mut rootfs,
        packages: &packages,
        recipe: &recipe(),
        filter: &filter,
        architecture,
        mirrors: &Mirrors::default(),
        automatic: &[],
    })
    .unwrap();
    let ours = rootfs.read("etc/ld.so.cache").unwrap().unwrap();
    let after = import(&rootfs, &store);
    assert_eq!(sorted(&links(&after.path)), sorted(&links(&tree)));
    if ours != theirs {
        let cache = folder.path().join("ours");
        file::write_atomic(&cache, &ours, 0o644).unwrap();
        let print = |path: &Path| run("ldconfig", &["-p", "-C", path.to_str().unwrap()]);
        assert_eq!(print(&cache), print(&tree.join("etc/ld.so.cache")));
        // Only the name of the program may differ, and only where it is not Debian's.
        assert!(!said.contains("Debian GLIBC"), "equal content in different bytes");
    }
}

#[test]
fn dpkg_finds_nothing_wrong_and_upgrades_a_package() {
    require!(Need::Root, Need::Program("dpkg"), Need::Program("dpkg-query"));
    let repository = repository();
    let folder = TempDir::new();
    let store = open_store(&folder);
    let (image, _) = built(&options(&repository), &store);
    let tree = copy(&image.layers[0], &folder, "tree");
    let root = format!("--root={}", tree.display());
    assert_eq!(run("dpkg", &[&root, "--audit"]), "");
    let show = || {
        let format = "--showformat=${binary:Package} ${Version} ${db:Status-Abbrev}\n";
        run("dpkg-query", &[&root, "--show", format])
    };
    expect![[r#"
        app 2.0-1 ii 
        dpkg 1 ii 
        lib:amd64 1.0+deb12u1 ii 
        passwd 1 ii 
    "#]]
    .assert_eq(&show());
    // What the recipe leaves out is all that is missing.
    expect![[r#"
        missing     /usr/share/doc/app/README
    "#]]
    .assert_eq(&verify(&root));
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
    .assert_eq(&run("dpkg-query", &[&root, "--listfiles", "app"]));
    expect![[r#"
        app: /usr/bin/app
    "#]]
    .assert_eq(&run("dpkg-query", &[&root, "--search", "/usr/bin/app"]));

    let newer = TestPackage {
        control: "Package: lib\nVersion: 2.0\nArchitecture: amd64\nMulti-Arch: same\nMaintainer: T <t@t.test>\nDescription: x\n",
        scripts: &[],
        files: &[
            ("usr/", 0o755, ""),
            ("usr/lib/", 0o755, ""),
            ("usr/lib/lib.so.2", 0o644, "newer"),
        ],
    };
    let control = [("control", 0o644, newer.control), ("md5sums", 0o644, "")];
    let bytes = crate::deb::tests::deb(&control, newer.files, MTIME);
    let archive = folder.path().join("lib.deb");
    file::write_atomic(&archive, &bytes, 0o644).unwrap();
    run("dpkg", &[&root, "--force-architecture", "--install", archive.to_str().unwrap()]);
    assert_eq!(run("dpkg", &[&root, "--audit"]), "");
    assert!(show().contains(" 2.0 ii "), "{}", show());
    assert!(file::exists(&tree.join("usr/lib/lib.so.2")).unwrap());
    assert!(!file::exists(&tree.join("usr/lib/lib.so.1")).unwrap());
}

/// `dpkg --verify` answers by its exit status as well.
fn verify(root: &str) -> String {
    run("sh", &["-c", "dpkg \"$1\" --verify app || test $? = 1", "sh", root])
}

#[test]
fn update_alternatives_reads_its_records_and_changes_nothing() {
    require!(Need::Root, Need::Program("update-alternatives"));
    let repository = repository();
    let folder = TempDir::new();
    let store = open_store(&folder);
    let (image, _) = built(&options(&repository), &store);
    let tree = copy(&image.layers[0], &folder, "tree");
    let before = links(&tree);
    let ask = |arguments: &[&str]| {
        let root = ["--root", tree.to_str().unwrap(), "--log", "/dev/null"];
        run("update-alternatives", &[&root, arguments].concat())
    };
    expect![[r#"
        Name: tool
        Link: /usr/bin/tool
        Status: auto
        Best: /usr/bin/app
        Value: /usr/bin/app

        Alternative: /usr/bin/app
        Priority: 5
    "#]]
    .assert_eq(&ask(&["--query", "tool"]));
    assert_eq!(ask(&["--auto", "tool"]), "");
    assert_eq!(links(&tree), before);
}

#[test]
fn the_lists_of_users_and_groups_are_consistent() {
    require!(Need::Root, Need::Program("pwck"), Need::Program("grpck"));
    let repository = repository();
    let folder = TempDir::new();
    let store = open_store(&folder);
    let (image, _) = built(&options(&repository), &store);
    let tree = copy(&image.layers[0], &folder, "tree");
    let etc = |name: &str| tree.join("etc").join(name).display().to_string();
    // `-q` reports errors only: whether home and shell exist is asked of the host.
    run("pwck", &["-r", "-q", &etc("passwd"), &etc("shadow")]);
    run("grpck", &["-r", &etc("group"), &etc("gshadow")]);
}
