use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read as _;
use std::sync::Arc;

use expect_test::{Expect, expect};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;
use crate::digest::Digest;
use crate::tree::{Content, Kind, Meta, Node, Tree};

fn path(text: &str) -> TreePath {
    TreePath::new(text.as_bytes()).unwrap()
}

fn file(text: &str) -> Kind {
    Kind::File(Content::Inline(Arc::from(text.as_bytes())))
}

fn tree(nodes: &[(&str, Kind)]) -> Tree {
    let mut tree = Tree::new();
    for (at, kind) in nodes {
        let mode = if matches!(kind, Kind::Directory { .. }) { 0o755 } else { 0o644 };
        let meta = Meta { mode, mtime: 1_700_000_000, ..Meta::default() };
        tree.insert(path(at), Node { meta, kind: kind.clone() });
    }
    tree
}

fn bytes(tree: &Tree) -> Vec<u8> {
    let mut bytes = Vec::new();
    tree.write_tar(&mut bytes).unwrap();
    bytes
}

const DIRECTORY: Kind = Kind::Directory { opaque: false };

/// One of everything that the canonical form has a rule for.
fn sample() -> Tree {
    let long = format!("{}/{}", "d".repeat(120), "f".repeat(90));
    let longer = format!("{}/{}", "d".repeat(120), "g".repeat(120));
    let mut tree = tree(&[
        ("a", DIRECTORY),
        ("a-b", file("sorts between a and a/x")),
        ("a/x", file("content")),
        ("a/y", Kind::Hardlink(path("a/x"))),
        ("bin", Kind::Symlink(b"usr/bin".to_vec())),
        ("gone", Kind::Whiteout),
        ("new", Kind::Directory { opaque: true }),
        ("pipe", Kind::Fifo),
        ("null", Kind::CharDevice { major: 1, minor: 3 }),
        ("disk", Kind::BlockDevice { major: 8, minor: 0 }),
        ("\u{fc}n\u{ef}", file("name that is not ASCII")),
        (&"d".repeat(120), DIRECTORY),
        (&long, file("name that is split")),
        (&longer, file("name that is not split")),
    ]);
    let meta = Meta {
        mode: 0o4755,
        uid: 3_000_000,
        gid: 1000,
        mtime: -5,
        xattrs: BTreeMap::from([
            (b"user.z".to_vec(), b"\0binary\xff".to_vec()),
            (b"security.capability".to_vec(), vec![1, 0, 0, 2]),
            (b"user.a=b".to_vec(), Vec::from(*b"%")),
        ]),
    };
    tree.insert(path("odd"), Node { meta, kind: file("") });
    tree
}

#[test]
fn the_digest_of_the_canonical_tar_never_changes() {
    // If this fails, every image gets another digest than before: the writer has to be mended, not
    // the number.
    expect!["sha256:623b782d35daedd0eb6d4ab35225e7d7f14ea31862d2cae8543c18a51e56d269"]
        .assert_eq(&Digest::of(&bytes(&sample())).to_string());
    expect!["sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"]
        .assert_eq(&Digest::of(&bytes(&Tree::new())).to_string());
}

#[test]
fn what_was_written_is_read_back() {
    let tree = sample();
    assert_eq!(Tree::from_tar(bytes(&tree).as_slice()).unwrap(), tree.canonical());
}

#[test]
fn entries_are_sorted_by_bytes_and_markers_follow_their_directory() {
    check(
        &bytes(&sample()),
        &expect![[r#"
            a/ Directory { opaque: false } 755 0:0 1700000000
            a-b File { size: 23 } 644 0:0 1700000000 Ok("25429dc98786")
            a/x File { size: 7 } 644 0:0 1700000000 Ok("ed7002b439e9")
            a/y Hardlink(a/x) 644 0:0 1700000000
            bin Symlink(7 bytes) 644 0:0 1700000000
            dddddddd…ddddddd/ (121) Directory { opaque: false } 755 0:0 1700000000
            dddddddd…ffffffff (211) File { size: 18 } 644 0:0 1700000000 Ok("7d35e74f0a12")
            dddddddd…gggggggg (241) File { size: 22 } 644 0:0 1700000000 Ok("668097fadc57")
            disk BlockDevice { major: 8, minor: 0 } 644 0:0 1700000000
            .wh.gone File { size: 0 } 0 0:0 0
            new/ Directory { opaque: false } 755 0:0 1700000000
            new/.wh..wh..opq File { size: 0 } 0 0:0 0
            null CharDevice { major: 1, minor: 3 } 644 0:0 1700000000
            odd File { size: 0 } 4755 3000000:1000 -5 security.capability=[1, 0, 0, 2] user.a=b=[37] user.z=[0, 98, 105, 110, 97, 114, 121, 255]
            pipe Fifo 644 0:0 1700000000
            ünï File { size: 22 } 644 0:0 1700000000 Ok("d013db421169")
        "#]],
    );
}

/// Lists a tar, one entry a line, with the digest of the content.
fn check(tar: &[u8], expected: &Expect) {
    let mut list = String::new();
    let mut reader = Reader::new(tar);
    loop {
        match reader.next_entry() {
            Ok(Some(header)) => {
                let mut content = Vec::new();
                let read = reader.read_to_end(&mut content).map(|_| Digest::of(&content).short());
                let name = String::from_utf8_lossy(&header.path).into_owned();
                let name = if name.len() > 40 {
                    let tail: String = name.chars().skip(name.chars().count() - 8).collect();
                    format!("{}…{tail} ({})", name.chars().take(8).collect::<String>(), name.len())
                } else {
                    name
                };
                let kind = match header.kind {
                    EntryKind::Symlink(target) => format!("Symlink({} bytes)", target.len()),
                    EntryKind::Hardlink(target) => {
                        format!("Hardlink({})", String::from_utf8_lossy(&target))
                    }
                    kind => format!("{kind:?}"),
                };
                let Meta { mode, uid, gid, mtime, xattrs } = header.meta;
                write!(list, "{name} {kind} {mode:o} {uid}:{gid} {mtime}").unwrap();
                for (key, value) in xattrs {
                    write!(list, " {}={value:?}", String::from_utf8_lossy(&key)).unwrap();
                }
                if let Some(regions) = header.sparse {
                    write!(list, " sparse({})", regions.len()).unwrap();
                }
                if !content.is_empty() {
                    write!(list, " {read:?}").unwrap();
                }
                list.push('\n');
            }
            Ok(None) => break,
            Err(error) => {
                writeln!(list, "error: {error}").unwrap();
                break;
            }
        }
    }
    expected.assert_eq(&list);
}

#[test]
fn tars_of_gnu_tar_are_read() {
    check(
        include_bytes!("../../fixtures/gnu.tar"),
        &expect![[r#"
        a File { size: 2 } 644 1000:1000 1700000000 Ok("87428fc52280")
        b Hardlink(a) 644 1000:1000 1700000000
        dddddddd…ddddddd/ (121) Directory { opaque: false } 755 1000:1000 1700000000
        dddddddd…ddddddd/ (242) Directory { opaque: false } 755 1000:1000 1700000000
        dddddddd…dddddddd (367) File { size: 5 } 644 1000:1000 1700000000 Ok("bbdbb75b415e")
        longlink Symlink(367 bytes) 777 1000:1000 1700000000
        ünïcode File { size: 5 } 644 1000:1000 1700000000 Ok("e975a52994d8")
    "#]],
    );
    check(
        include_bytes!("../../fixtures/posix.tar"),
        &expect![[r#"
        a File { size: 2 } 644 1000:1000 1700000000 Ok("87428fc52280")
        b Hardlink(a) 644 1000:1000 1700000000
        dddddddd…ddddddd/ (121) Directory { opaque: false } 755 1000:1000 1700000000
        dddddddd…ddddddd/ (242) Directory { opaque: false } 755 1000:1000 1700000000
        dddddddd…dddddddd (367) File { size: 5 } 644 1000:1000 1700000000 Ok("bbdbb75b415e")
        longlink Symlink(367 bytes) 777 1000:1000 1700000000
        ünïcode File { size: 5 } 644 1000:1000 1700000000 Ok("e975a52994d8")
    "#]],
    );
    check(
        include_bytes!("../../fixtures/v7.tar"),
        &expect![[r#"
        a File { size: 2 } 644 1000:1000 1700000000 Ok("87428fc52280")
        b Hardlink(a) 644 1000:1000 1700000000
    "#]],
    );
}

#[test]
fn sparse_files_of_all_formats_are_expanded() {
    check(
        include_bytes!("../../fixtures/sparse-old.tar"),
        &expect![[r#"
        sparse File { size: 1048576 } 644 1000:1000 1700000000 sparse(2) Ok("e17135df57b4")
        manyholes File { size: 1835008 } 644 1000:1000 1700000000 sparse(28) Ok("decd3f5353e9")
    "#]],
    );
    check(
        include_bytes!("../../fixtures/sparse-0.0.tar"),
        &expect![[r#"
        sparse File { size: 1048576 } 644 1000:1000 1700000000 sparse(2) Ok("e17135df57b4")
        fewholes File { size: 393216 } 644 1000:1000 1700000000 sparse(6) Ok("417d37740584")
    "#]],
    );
    check(
        include_bytes!("../../fixtures/sparse-0.1.tar"),
        &expect![[r#"
        sparse File { size: 1048576 } 644 1000:1000 1700000000 sparse(2) Ok("e17135df57b4")
        fewholes File { size: 393216 } 644 1000:1000 1700000000 sparse(6) Ok("417d37740584")
    "#]],
    );
    check(
        include_bytes!("../../fixtures/sparse-1.0.tar"),
        &expect![[r#"
        sparse File { size: 1048576 } 644 1000:1000 1700000000 sparse(2) Ok("e17135df57b4")
        fewholes File { size: 393216 } 644 1000:1000 1700000000 sparse(6) Ok("417d37740584")
    "#]],
    );
}

#[test]
fn raw_bytes_and_stored_content_make_up_the_tar() {
    let fixtures: [&[u8]; 6] = [
        include_bytes!("../../fixtures/gnu.tar"),
        include_bytes!("../../fixtures/posix.tar"),
        include_bytes!("../../fixtures/v7.tar"),
        include_bytes!("../../fixtures/sparse-old.tar"),
        include_bytes!("../../fixtures/sparse-0.1.tar"),
        include_bytes!("../../fixtures/sparse-1.0.tar"),
    ];
    for tar in fixtures {
        let mut again = Vec::new();
        let mut reader = Reader::new(tar);
        while reader.next_entry().unwrap().is_some() {
            again.extend_from_slice(reader.raw());
            let mut buffer = [0; 100];
            loop {
                let count = reader.read_stored(&mut buffer).unwrap();
                if count == 0 {
                    break;
                }
                again.extend_from_slice(&buffer[..count]);
            }
        }
        again.extend_from_slice(reader.raw());
        again.extend_from_slice(reader.into_inner());
        assert!(again == tar, "the tar is rebuilt");
    }
}

/// Builds a header block by hand, with a right checksum.
fn raw_header(name: &[u8], flag: u8, size: &[u8], link: &[u8]) -> Vec<u8> {
    let mut block = [0; BLOCK_BYTES];
    header::NAME.put(&mut block, name);
    header::MODE.put(&mut block, b"0000644\0");
    header::UID.put(&mut block, b"0000000\0");
    header::GID.put(&mut block, b"0000000\0");
    header::SIZE.put(&mut block, size);
    header::MTIME.put(&mut block, b"00000000000\0");
    block[header::TYPE] = flag;
    header::LINK.put(&mut block, link);
    header::MAGIC.put(&mut block, b"ustar\0");
    header::put_checksum(&mut block);
    block.to_vec()
}

/// Builds a PAX header of one record that is right.
fn record(key: &str, value: &[u8]) -> Vec<u8> {
    pax(&pax::encode(&BTreeMap::from([(key.as_bytes().to_vec(), value.to_vec())])))
}

fn pax(records: &[u8]) -> Vec<u8> {
    let mut bytes = raw_header(b"pax", b'x', format!("{:011o}\0", records.len()).as_bytes(), b"");
    bytes.extend_from_slice(records);
    bytes.resize(bytes.len().next_multiple_of(BLOCK_BYTES), 0);
    bytes
}

#[test]
fn hostile_headers_are_refused_with_their_place() {
    let file = |size: &[u8]| raw_header(b"f", b'0', size, b"");
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("no tar", b"not a tar at all".repeat(40)),
        ("cut", file(b"00000000000\0")[..300].to_vec()),
        ("cut content", file(b"00000000010\0")),
        ("negative size", file(&[0xff; 12])),
        (
            "huge size",
            file(&[0x80, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ),
        ("letters", file(b"zzz\0")),
        ("unknown type", raw_header(b"f", b'!', b"0\0", b"")),
        ("volume part", raw_header(b"f", b'M', b"0\0", b"")),
        ("empty link", raw_header(b"f", b'2', b"0\0", b"")),
        ("long pax", raw_header(b"f", b'x', b"77777777777\0", b"")),
        ("bad pax", pax(b"99 path=x\n")),
        ("pax without file", record("path", b"x")),
        ("NUL in pax", [record("path", b"x\0"), file(b"0\0")].concat()),
        ("pax id", [record("uid", b"4294967295"), file(b"0\0")].concat()),
        ("pax size", [record("size", b"18446744073709551615"), file(b"0\0")].concat()),
        ("many headers", record("path", b"xy").repeat(20)),
        ("one zero block", [vec![0; 512], file(b"0\0")].concat()),
        ("old sparse", raw_header(b"f", b'S', b"00000001000\0", b"")),
        (
            "sparse overlap",
            [
                record("GNU.sparse.size", b"10"),
                record("GNU.sparse.map", b"0,4,2,4"),
                file(b"00000000010\0"),
            ]
            .concat(),
        ),
    ];
    let mut table = String::new();
    for (name, bytes) in cases {
        let mut reader = Reader::new(bytes.as_slice());
        let outcome = loop {
            match reader.next_entry() {
                Ok(Some(_)) => match std::io::copy(&mut reader, &mut std::io::sink()) {
                    Ok(_) => {}
                    Err(error) => break error.to_string(),
                },
                Ok(None) => break "accepted".to_owned(),
                Err(error) => break error.to_string(),
            }
        };
        writeln!(table, "{name}: {outcome}").unwrap();
    }
    expect![[r#"
        no tar: the tar has a damaged header at byte 0
        cut: the tar ends too early, at byte 300
        cut content: the tar ends too early, at byte 512
        negative size: the tar has an invalid size in the header at byte 0
        huge size: the tar has an invalid size in the header at byte 0
        letters: the tar has an invalid size in the header at byte 0
        unknown type: the tar has an entry of unsupported type `!` at byte 0: `f`
        volume part: the tar has an entry of unsupported type `M` at byte 0: `f`
        empty link: the tar has an invalid link target in the header at byte 0
        long pax: the tar is beyond a limit at byte 0: the size of an extended header
        bad pax: the tar has an invalid extended header in the header at byte 0
        pax without file: the tar ends too early, at byte 1024
        NUL in pax: the tar has an invalid name in the header at byte 0
        pax id: the tar has an invalid user id in the header at byte 0
        pax size: the tar has an invalid size in the header at byte 0
        many headers: the tar is beyond a limit at byte 16384: extension headers before one entry
        one zero block: the tar has a damaged header at byte 0
        old sparse: the tar has an invalid sparse map in the header at byte 0
        sparse overlap: the tar has an invalid sparse map in the header at byte 0
    "#]]
    .assert_eq(&table);
}

#[test]
fn a_number_of_entries_beyond_the_limit_is_refused() {
    let limits = Limits { entries: 2, ..Limits::default() };
    let tar = bytes(&sample());
    let mut reader = Reader::with_limits(tar.as_slice(), limits);
    assert!(reader.next_entry().unwrap().is_some());
    assert!(reader.next_entry().unwrap().is_some());
    assert!(matches!(reader.next_entry(), Err(TarError::Limit { .. })));
}

#[test]
fn the_writer_refuses_what_would_not_be_canonical() {
    let meta = Meta::default();
    let mut writer = Writer::new(Vec::new());
    writer.entry(&path("b"), &meta, &EntryKind::File { size: 3 }).unwrap();
    writer.content(b"ab").unwrap();
    let short = writer.entry(&path("c"), &meta, &EntryKind::Fifo);
    assert!(matches!(short, Err(TarError::ContentSize { .. })));
    writer.content(b"c").unwrap();
    assert!(matches!(writer.content(b"d"), Err(TarError::ContentSize { .. })));
    let before = writer.entry(&path("a"), &meta, &EntryKind::Fifo);
    assert!(matches!(before, Err(TarError::Order { .. })));
}

#[test]
fn names_of_whiteouts_are_told_from_ordinary_ones() {
    assert_eq!(marker(b"file"), None);
    assert_eq!(marker(b".wh.file"), Some(Marker::Whiteout(b"file")));
    assert_eq!(marker(b".wh..wh..opq"), Some(Marker::Opaque));
    for name in [&b".wh."[..], b".wh..", b".wh...", b".wh..wh.plnk", b".wh..wh.aufs"] {
        assert_eq!(marker(name), Some(Marker::Reserved), "{name:?}");
    }
}

#[test]
fn a_whiteout_beside_its_replacement_makes_the_directory_opaque() {
    let mut tar = Vec::new();
    tar.extend(raw_header(b"d/.wh.sub", b'0', b"0\0", b""));
    tar.extend(raw_header(b"d/sub/", b'5', b"0\0", b""));
    tar.extend(raw_header(b"e/", b'5', b"0\0", b""));
    tar.extend(raw_header(b".wh.e", b'0', b"0\0", b""));
    tar.extend(raw_header(b"f", b'0', b"0\0", b""));
    tar.extend(raw_header(b".wh.f", b'0', b"0\0", b""));
    let tree = Tree::from_tar(tar.as_slice()).unwrap();
    let kind = |at: &str| tree.get(&path(at)).map(|node| node.kind.clone());
    assert_eq!(kind("d/sub"), Some(Kind::Directory { opaque: true }));
    assert_eq!(kind("e"), Some(Kind::Directory { opaque: true }));
    assert_eq!(kind("f"), Some(file("")));
}

#[test]
fn a_link_survives_the_file_that_it_was_made_from() {
    let mut tar = raw_header(b"a", b'0', b"00000000003\0", b"");
    tar.extend([b"old".as_slice(), &[0; 509]].concat());
    tar.extend(raw_header(b"b", b'1', b"0\0", b"a"));
    tar.extend(raw_header(b"c", b'1', b"0\0", b"./b"));
    tar.extend(raw_header(b"c", b'1', b"0\0", b"c"));
    tar.extend(raw_header(b"a", b'0', b"0\0", b""));
    let tree = Tree::from_tar(tar.as_slice()).unwrap();
    let kind = |at: &str| tree.get(&path(at)).map(|node| node.kind.clone());
    assert_eq!(kind("a"), Some(file("")));
    assert_eq!(kind("b"), Some(file("old")));
    assert_eq!(kind("c"), Some(Kind::Hardlink(path("b"))));
}

fn arbitrary_name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[a-c]{1,2}",
        2 => "[a-c][-.!]{1,3}",
        1 => "[a-z]{90,120}",
        1 => "[aéü]{1,60}",
    ]
}

fn arbitrary_meta() -> impl Strategy<Value = Meta> {
    let id = prop_oneof![0..3_u32, 2_097_150..2_097_155_u32, 0..u32::MAX];
    let time = prop_oneof![Just(0), any::<i64>(), -10..10_i64];
    let xattrs = btree_map(vec(1..255_u8, 1..9), vec(any::<u8>(), 0..40), 0..3);
    (0..0o10000_u32, id.clone(), id, time, xattrs)
        .prop_map(|(mode, uid, gid, mtime, xattrs)| Meta { mode, uid, gid, mtime, xattrs })
}

fn arbitrary_kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        4 => any::<bool>().prop_map(|opaque| Kind::Directory { opaque }),
        4 => vec(any::<u8>(), 0..1100).prop_map(|b| Kind::File(Content::Inline(Arc::from(b)))),
        1 => vec(1..255_u8, 1..200).prop_map(Kind::Symlink),
        1 => (1..4096_u32, 0..1_048_576_u32).prop_map(|(major, minor)| Kind::CharDevice { major, minor }),
        1 => (0..4096_u32, 0..1_048_576_u32).prop_map(|(major, minor)| Kind::BlockDevice { major, minor }),
        1 => Just(Kind::Fifo),
        1 => Just(Kind::Whiteout),
    ]
}

/// A valid layer: nothing below what is no directory, links only to files.
fn arbitrary_tree() -> impl Strategy<Value = Tree> {
    let node = (vec(arbitrary_name(), 1..4), arbitrary_meta(), arbitrary_kind());
    let links = vec((0..100_usize, arbitrary_name()), 0..4);
    (vec(node, 0..20), links).prop_map(|(nodes, links)| {
        let mut tree = Tree::new();
        for (names, meta, kind) in nodes {
            let at = path(&names.join("/"));
            let mut above = at.parent();
            let mut fits = true;
            while let Some(directory) = above.filter(|directory| !directory.is_root()) {
                fits &= tree.get(&directory).is_none_or(Node::is_directory);
                above = directory.parent();
            }
            if fits {
                let meta = if kind == Kind::Whiteout { Meta::default() } else { meta };
                tree.insert(at, Node { meta, kind });
            }
        }
        let files: Vec<TreePath> = tree
            .iter()
            .filter(|(_, node)| matches!(node.kind, Kind::File(_)))
            .map(|(at, _)| at.clone())
            .collect();
        for (pick, name) in links {
            let at = path(&name);
            let Some(target) = files.get(pick % files.len().max(1)) else { continue };
            if tree.get(&at).is_none() && tree.below(&at).next().is_none() {
                let meta = tree.get(target).unwrap().meta.clone();
                tree.insert(at, Node { meta, kind: Kind::Hardlink(target.clone()) });
            }
        }
        tree
    })
}

proptest! {
    #[test]
    fn any_tree_is_read_back_as_it_was_written(tree in arbitrary_tree()) {
        let tar = bytes(&tree);
        prop_assert_eq!(tar.len() % BLOCK_BYTES, 0);
        let read = Tree::from_tar(tar.as_slice()).unwrap();
        prop_assert_eq!(&read, &tree.canonical());
        prop_assert_eq!(bytes(&read), tar);
    }

    #[test]
    fn mutated_bytes_never_panic(
        tree in arbitrary_tree(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        mend in any::<bool>(),
    ) {
        let mut tar = bytes(&tree);
        for (at, byte) in changes {
            let at = at.index(tar.len());
            tar[at] = byte;
            if mend {
                // With a right checksum the change gets past the first check.
                let start = at / BLOCK_BYTES * BLOCK_BYTES;
                let block: &mut header::Block = (&mut tar[start..start + BLOCK_BYTES]).try_into().unwrap();
                header::put_checksum(block);
            }
        }
        crate::fuzz::tar(&tar);
    }

    #[test]
    fn any_bytes_never_panic(bytes in vec(any::<u8>(), 0..2000)) {
        crate::fuzz::tar(&bytes);
    }

    #[test]
    fn a_merged_layer_hides_and_replaces(lower in arbitrary_tree(), upper in arbitrary_tree()) {
        let mut merged = Tree::new();
        merged.merge_layer(&lower);
        merged.merge_layer(&upper);
        for (at, node) in merged.iter() {
            prop_assert!(node.kind != Kind::Whiteout);
            let opaque = node.kind == (Kind::Directory { opaque: true });
            prop_assert!(!opaque);
            if let Kind::Hardlink(target) = &node.kind {
                prop_assert!(matches!(merged.get(target).map(|n| &n.kind), Some(Kind::File(_))), "{at}");
            }
            let above = at.parent().filter(|above| !above.is_root());
            if let Some(above) = above {
                prop_assert!(merged.get(&above).is_none_or(Node::is_directory), "{at}");
            }
        }
        for (at, node) in upper.iter() {
            match &node.kind {
                Kind::Whiteout => prop_assert!(merged.get(at).is_none()),
                Kind::Directory { opaque: true } => {
                    for (below, _) in merged.below(at) {
                        prop_assert!(upper.get(below).is_some());
                    }
                }
                _ => prop_assert!(merged.get(at).is_some()),
            }
        }
    }
}
