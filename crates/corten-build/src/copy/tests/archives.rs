//! `ADD` of archives, and `COPY` of them.

use super::*;

type Entry<'a> = (&'a str, u32, EntryKind, &'a [u8]);

fn dir(path: &str) -> Entry<'_> {
    (path, 0o750, EntryKind::Directory { opaque: false }, b"")
}

fn file_of<'a>(path: &'a str, content: &'a [u8]) -> Entry<'a> {
    (path, 0o640, EntryKind::File { size: content.len() as u64 }, content)
}

fn link<'a>(path: &'a str, target: &str) -> Entry<'a> {
    (path, 0o777, EntryKind::Symlink(target.as_bytes().to_vec()), b"")
}

fn hard<'a>(path: &'a str, target: &str) -> Entry<'a> {
    (path, 0o640, EntryKind::Hardlink(target.as_bytes().to_vec()), b"")
}

/// A tar whose names may be anything: those that our writer refuses are put in afterwards.
fn tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (path, mode, kind, content) in entries {
        let mut writer = Writer::new(Vec::new());
        let meta = Meta { mode: *mode, uid: 7, gid: 8, mtime: 1000, ..Meta::default() };
        let plain = TreePath::new(b"placeholder").unwrap();
        writer.entry(&plain, &meta, kind).unwrap();
        writer.content(content).unwrap();
        let (entry, _) = writer.finish().unwrap();
        let mut entry = entry[..entry.len() - 1024].to_vec();
        entry[..100].fill(0);
        entry[..path.len()].copy_from_slice(path.as_bytes());
        entry[148..156].fill(b' ');
        let sum: u32 = entry[..512].iter().map(|byte| u32::from(*byte)).sum();
        entry[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        bytes.extend(entry);
    }
    bytes.extend([0; 1024]);
    bytes
}

fn unpack(archive: &[u8], below: &[&str], instruction: &str) -> String {
    let world = World::new(&[], below);
    file::write(&world.path("context/x.tar"), archive).unwrap();
    match world.copy(instruction, None, None) {
        Ok(text) => text,
        Err(error) => told(&error),
    }
}

fn check_tar(entries: &[Entry<'_>], below: &[&str], expected: &Expect) {
    expected.assert_eq(&unpack(&tar(entries), below, "ADD x.tar /d/"));
}

#[test]
fn an_archive_is_unpacked_with_its_owners_and_times() {
    check_tar(
        &[
            dir("a"),
            file_of("a/f", b"1"),
            link("l", "a/f"),
            hard("h", "a/f"),
            file_of("deep/er/g", b"2"),
        ],
        &[],
        &expect![[r#"
            0755 d/
            0750 d/a/ 7:8 t=1000
            0640 d/a/f = 1 7:8 t=1000
            0755 d/deep/
            0755 d/deep/er/
            0640 d/deep/er/g = 2 7:8 t=1000
            0640 d/h == d/a/f 7:8 t=1000
            0777 d/l -> a/f 7:8 t=1000
        "#]],
    );
}

#[test]
fn every_compression_is_known_by_content() {
    let plain = tar(&[file_of("f", b"1")]);
    let expected = unpack(&plain, &[], "ADD x.tar /d/");
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(&plain).unwrap();
    let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
    xz.write_all(&plain).unwrap();
    let zstd = zstd::encode_all(plain.as_slice(), 1).unwrap();
    for packed in [gzip.finish().unwrap(), bzip2.finish().unwrap(), xz.finish().unwrap(), zstd] {
        assert_eq!(unpack(&packed, &[], "ADD x.tar /d/"), expected);
    }
}

#[test]
fn what_is_no_archive_is_copied() {
    expect![[r#"
        0755 d/
        0644 d/x.tar = 
    "#]]
    .assert_eq(&unpack(b"", &[], "ADD x.tar /d/"));
    expect![[r#"
        0755 d/
        0644 d/x.tar = \u{1f}\u{fffd}\u{8} no gzip
    "#]]
    .assert_eq(&unpack(b"\x1f\x8b\x08 no gzip", &[], "ADD x.tar /d/"));
    expect![[r#"
        0755 d/
        0644 d/y = some text
    "#]]
    .assert_eq(&unpack(b"some text", &[], "ADD x.tar /d/y"));
}

#[test]
fn unpacking_can_be_asked_for_and_refused() {
    let plain = tar(&[file_of("f", b"1")]);
    assert!(unpack(&plain, &[], "ADD --unpack=false x.tar /d/").contains("d/x.tar"));
    assert!(unpack(&plain, &[], "COPY x.tar /d/").contains("d/x.tar"));
    assert!(unpack(&plain, &[], "ADD --unpack=true x.tar /d/").contains("d/f"));
}

#[test]
fn an_owner_is_for_all_entries() {
    let world = World::new(&[], &[]);
    file::write(&world.path("context/x.tar"), &tar(&[dir("a"), file_of("a/f", b"1")])).unwrap();
    let text = world.copy("ADD --chown=5:6 x.tar /d/", None, Some((5, 6))).unwrap();
    expect![[r#"
        0755 d/ 5:6
        0750 d/a/ 5:6 t=1000
        0640 d/a/f = 1 5:6 t=1000
    "#]]
    .assert_eq(&text);
}

#[test]
fn names_that_lead_out_are_refused() {
    check_tar(
        &[file_of("../evil", b"x")],
        &[],
        &expect![[r#"
        error: failed to unpack the archive
        caused by: the archive has the entry `../evil`, which leads out of it
    "#]],
    );
    check_tar(
        &[file_of("a/../../evil", b"x")],
        &[],
        &expect![[r#"
        error: failed to unpack the archive
        caused by: the archive has the entry `a/../../evil`, which leads out of it
    "#]],
    );
    check_tar(
        &[hard("h", "../../etc/passwd")],
        &["etc/passwd=root"],
        &expect![[r#"
        error: failed to unpack the archive
        caused by: the archive has the entry `../../etc/passwd`, which leads out of it
    "#]],
    );
}

#[test]
fn absolute_names_begin_at_the_destination() {
    check_tar(
        &[file_of("/etc/x", b"1"), file_of("a/../b", b"2")],
        &[],
        &expect![[r#"
        0755 d/
        0640 d/b = 2 7:8 t=1000
        0755 d/etc/
        0640 d/etc/x = 1 7:8 t=1000
    "#]],
    );
}

#[test]
fn links_of_the_archive_lead_within_the_destination() {
    check_tar(
        &[link("l", "/etc"), file_of("l/x", b"1")],
        &["etc/"],
        &expect![[r#"
        0755 d/
        0755 d/etc/
        0640 d/etc/x = 1 7:8 t=1000
        0777 d/l -> /etc 7:8 t=1000
    "#]],
    );
    check_tar(
        &[link("l", "../../../etc"), file_of("l/x", b"1")],
        &["etc/"],
        &expect![[r#"
        0755 d/
        0755 d/etc/
        0640 d/etc/x = 1 7:8 t=1000
        0777 d/l -> ../../../etc 7:8 t=1000
    "#]],
    );
}

#[test]
fn links_of_the_image_below_the_destination_do_too() {
    check_tar(
        &[file_of("l/x", b"1")],
        &["d/l->/etc", "etc/"],
        &expect![[r#"
        0755 d/ t=below
        0755 d/etc/
        0640 d/etc/x = 1 7:8 t=1000
    "#]],
    );
    expect![[r#"
        0755 usr/ t=below
        0755 usr/bin/ t=1000
        0640 usr/bin/x = 1 7:8 t=1000
    "#]]
    .assert_eq(&unpack(
        &tar(&[file_of("bin/x", b"1")]),
        &["usr/bin/", "bin->usr/bin"],
        "ADD x.tar /",
    ));
}

#[test]
fn a_directory_replaces_a_link_and_joins_a_directory() {
    check_tar(
        &[dir("bin"), file_of("bin/x", b"1")],
        &["d/usr/", "d/bin->usr"],
        &expect![[r#"
        0755 d/ t=below
        0750 d/bin/ 7:8 t=1000
        0640 d/bin/x = 1 7:8 t=1000
    "#]],
    );
    check_tar(
        &[dir("e")],
        &["d/e/old=1"],
        &expect![[r#"
        0755 d/ t=below
        0750 d/e/ 7:8 t=1000
    "#]],
    );
}

#[test]
fn a_later_entry_wins() {
    check_tar(
        &[file_of("f", b"1"), file_of("f", b"2")],
        &[],
        &expect![[r#"
        0755 d/
        0640 d/f = 2 7:8 t=1000
    "#]],
    );
    check_tar(
        &[dir("a"), file_of("a/x", b"1"), file_of("a", b"2")],
        &[],
        &expect![[r#"
        0755 d/
        0640 d/a = 2 7:8 t=1000
    "#]],
    );
    check_tar(
        &[file_of("a", b"2"), dir("a"), file_of("a/x", b"1")],
        &["d/a/hidden=1"],
        &expect![[r#"
            0755 d/ t=below
            0750 d/a/ opaque 7:8 t=1000
            0640 d/a/x = 1 7:8 t=1000
        "#]],
    );
}

#[test]
fn hard_links_go_to_the_archive_or_to_the_image() {
    check_tar(
        &[hard("h", "old")],
        &["d/old=1 600"],
        &expect![[r#"
        0755 d/ t=below
        0600 d/h == d/old t=1000
        0600 d/old = 1 t=1000
    "#]],
    );
    check_tar(
        &[hard("h", "nothing")],
        &[],
        &expect![[r#"
        error: failed to unpack the archive
        caused by: the archive has the hard link `d/h` to `nothing`, which is no file
    "#]],
    );
    check_tar(
        &[dir("a"), hard("h", "a")],
        &[],
        &expect![[r#"
        error: failed to unpack the archive
        caused by: the archive has the hard link `d/h` to `a`, which is no file
    "#]],
    );
    check_tar(
        &[file_of("a", b"1"), hard("b", "a"), hard("c", "b"), file_of("a", b"2")],
        &[],
        &expect![[r#"
        0755 d/
        0640 d/a = 2 7:8 t=1000
        0640 d/b = 1 7:8 t=1000
        0640 d/c == d/b 7:8 t=1000
    "#]],
    );
    check_tar(
        &[
            dir("d"),
            file_of("d/z", b"1"),
            hard("d/a", "d/z"),
            hard("out", "d/z"),
            file_of("d", b"2"),
        ],
        &[],
        &expect![[r#"
            0755 d/
            0640 d/d = 2 7:8 t=1000
            0640 d/out = 1 7:8 t=1000
        "#]],
    );
}

#[test]
fn marks_of_deletion_are_refused() {
    check_tar(
        &[file_of(".wh.x", b"")],
        &[],
        &expect![[r#"
        error: failed to unpack the archive
        caused by: the archive has the entry `.wh.x`, which would be a deletion mark in an image
    "#]],
    );
    check_tar(
        &[("dev", 0o600, EntryKind::CharDevice { major: 0, minor: 0 }, b"")],
        &[],
        &expect![[r#"
        error: failed to unpack the archive
        caused by: the archive has the entry `dev`, which would be a deletion mark in an image
    "#]],
    );
}

#[test]
fn devices_and_pipes_are_made() {
    check_tar(
        &[
            ("null", 0o666, EntryKind::CharDevice { major: 1, minor: 3 }, b""),
            ("disk", 0o660, EntryKind::BlockDevice { major: 8, minor: 0 }, b""),
            ("pipe", 0o600, EntryKind::Fifo, b""),
        ],
        &[],
        &expect![[r#"
            0755 d/
            0660 d/disk block 8:0 7:8 t=1000
            0666 d/null char 1:3 7:8 t=1000
            0600 d/pipe pipe 7:8 t=1000
        "#]],
    );
}

#[test]
fn a_damaged_archive_is_an_error() {
    let mut cut = tar(&[file_of("a", b"1"), file_of("f", &[b'x'; 5000])]);
    cut.truncate(3000);
    expect![[r#"
        error: failed to unpack the archive
        caused by: failed to read the archive
        caused by: the tar ends too early, at byte 3000
    "#]]
    .assert_eq(&unpack(&cut, &[], "ADD x.tar /d/"));
}

#[test]
fn large_contents_wait_on_the_disk() {
    let large = vec![b'x'; 100_000];
    let text = unpack(&tar(&[file_of("large", &large)]), &[], "ADD x.tar /d/");
    assert!(text.len() > 100_000 && text.contains("d/large"), "{}", text.len());
}

#[test]
fn a_bomb_is_refused() {
    // A header that announces more than the limit; the content never comes.
    let mut bomb = tar(&[file_of("f", b"")]);
    bomb[124..136].copy_from_slice(b"77777777777\0");
    bomb[148..156].fill(b' ');
    let sum: u32 = bomb[..512].iter().map(|byte| u32::from(*byte)).sum();
    bomb[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    expect![[r#"
        error: failed to unpack the archive
        caused by: the archive expands to more than 1073741824 bytes
    "#]]
    .assert_eq(&unpack(&bomb, &[], "ADD x.tar /d/"));
}
