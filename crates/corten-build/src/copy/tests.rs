//! `COPY` and `ADD` as values: what a context and an image below make of an instruction.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use corten_oci::tar::{EntryKind, Writer};
use corten_oci::tree::{Meta, TreePath};
use corten_sys::clock::{SystemClock, Timestamp};
use corten_sys::file;
use corten_testkit::TempDir;
use expect_test::{Expect, expect};

use super::archive::Spool;
use super::draft::{Data, Node, NodeKind};
use super::select::select;
use super::{CopyError, Copying, draft};
use crate::files::{Content, ContextFiles, Files, FilesError, Found, IgnoreFile, StatCache};
use crate::graph::{CopyOp, Input, Op};
use crate::options::{BuildOptions, Context, DockerfileText};

const EPOCH: i64 = 1_700_000_000;

/// Files whose owners, times and hard links count, as those of a stage do.
struct Kept(ContextFiles);

impl Files for Kept {
    fn find(&self, path: &TreePath) -> Result<Option<Found>, FilesError> {
        self.0.find(path)
    }
    fn list(&self, directory: &Found) -> Result<Vec<Found>, FilesError> {
        self.0.list(directory)
    }
    fn digests(&self, files: &[&Found]) -> Result<Vec<Content>, FilesError> {
        self.0.digests(files)
    }
    fn keeps_metadata(&self) -> bool {
        true
    }
}

/// A context, an image below, and a place for what archives hold.
struct World {
    temp: TempDir,
}

impl World {
    fn new(context: &[&str], below: &[&str]) -> Self {
        let world = Self { temp: TempDir::new() };
        file::create_dir(&world.path("spool"), 0o755).unwrap();
        for (name, specs) in [("context", context), ("below", below)] {
            file::create_dir(&world.path(name), 0o755).unwrap();
            for spec in specs {
                Self::make(&world.path(name), spec);
            }
        }
        world
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    /// `dir/`, `file=content`, `link->target`, `second==first` for a hard link; a mode after a blank.
    fn make(root: &Path, spec: &str) {
        let (spec, mode) = match spec.rsplit_once(' ') {
            Some((spec, mode)) => (spec, u32::from_str_radix(mode, 8).ok()),
            None => (spec, None),
        };
        let parent = |path: &Path| file::create_dirs(path.parent().unwrap(), 0o755).unwrap();
        if let Some((name, first)) = spec.split_once("==") {
            parent(&root.join(name));
            file::hard_link(&root.join(first), &root.join(name)).unwrap();
        } else if let Some((name, target)) = spec.split_once("->") {
            parent(&root.join(name));
            file::symlink(Path::new(target), &root.join(name)).unwrap();
        } else if let Some((name, content)) = spec.split_once('=') {
            let path = root.join(name);
            parent(&path);
            file::write(&path, content.as_bytes()).unwrap();
            file::set_mode(&path, mode.unwrap_or(0o644)).unwrap();
            file::set_times(&path, Timestamp::from_seconds(1000)).unwrap();
        } else {
            let path = root.join(spec.trim_end_matches('/'));
            file::create_dirs(&path, 0o755).unwrap();
            file::set_mode(&path, mode.unwrap_or(0o755)).unwrap();
            file::set_times(&path, Timestamp::from_seconds(1000)).unwrap();
        }
    }

    fn open(&self, name: &str, ignore: Option<&str>) -> ContextFiles {
        let ignore = ignore.map(|text| IgnoreFile::parse(".dockerignore", text).unwrap());
        let cache = |_: &str| StatCache::default();
        ContextFiles::open(&self.path(name), ignore, Arc::new(SystemClock), cache).unwrap()
    }

    fn copy(
        &self,
        instruction: &str,
        ignore: Option<&str>,
        owner: Option<(u32, u32)>,
    ) -> Result<String, CopyError> {
        let op = op(instruction);
        let context = self.open("context", ignore);
        let kept;
        let files: &dyn Files = match op.input {
            Input::Stage(_) => {
                kept = Kept(context);
                &kept
            }
            _ => &context,
        };
        let selection = select(files, &op)?;
        let below = self.open("below", None);
        let copying = Copying {
            op: &op,
            selection: &selection,
            keeps_metadata: files.keeps_metadata(),
            below: &below,
            owner,
        };
        let nodes = draft(&copying, EPOCH, &mut Spool::new(&self.path("spool")))?;
        let mut text = String::new();
        for word in &selection.unmatched {
            text.push_str(&format!("nothing matches {}\n", op.sources[*word].text));
        }
        for (path, node) in &nodes {
            text.push_str(&show(path, node));
        }
        Ok(text)
    }
}

fn op(instruction: &str) -> CopyOp {
    let text = format!("FROM scratch AS stage\nFROM scratch\nWORKDIR /w\n{instruction}\n");
    let options = BuildOptions::new(Context::Empty, DockerfileText::inline("Dockerfile", text));
    let dockerfile = corten_dockerfile::parse(&options.dockerfile.text);
    let graph = crate::plan::plan(&dockerfile, &options, None).unwrap();
    match &graph.stage(graph.target()).steps.last().unwrap().op {
        Op::Copy(copy) => copy.clone(),
        other => panic!("no copy: {other:?}"),
    }
}

fn show(path: &TreePath, node: &Node) -> String {
    let meta = &node.meta;
    let own = std::fs::symlink_metadata(std::env::temp_dir()).map(|_| file::effective_user_id());
    let is_own = own.is_ok_and(|uid| uid == meta.uid);
    let owner =
        if meta.uid == 0 || is_own { String::new() } else { format!(" {}:{}", meta.uid, meta.gid) };
    let time = match meta.mtime {
        EPOCH => String::new(),
        time if time < 100_000 => format!(" t={time}"),
        _ => " t=below".to_owned(),
    };
    let kind = match &node.kind {
        NodeKind::Directory { opaque: true } => "/ opaque".to_owned(),
        NodeKind::Directory { opaque: false } => "/".to_owned(),
        NodeKind::Symlink(target) => format!(" -> {}", String::from_utf8_lossy(target)),
        NodeKind::Hardlink(first) => format!(" == {first}"),
        NodeKind::Fifo => " pipe".to_owned(),
        NodeKind::CharDevice(major, minor) => format!(" char {major}:{minor}"),
        NodeKind::BlockDevice(major, minor) => format!(" block {major}:{minor}"),
        NodeKind::File(data) => {
            let bytes = match data {
                Data::Bytes(bytes) => bytes.clone(),
                Data::Spooled(path) => file::read(path).unwrap(),
                Data::Found(found, _) => file::read(&found.host_path()).unwrap(),
            };
            format!(" = {}", String::from_utf8_lossy(&bytes).escape_default())
        }
    };
    format!("{:04o} {path}{kind}{owner}{time}\n", meta.mode)
}

fn check(context: &[&str], below: &[&str], instruction: &str, expected: &Expect) {
    let world = World::new(context, below);
    let text = match world.copy(instruction, None, None) {
        Ok(text) => text,
        Err(error) => told(&error),
    };
    expected.assert_eq(&text);
}

fn told(error: &CopyError) -> String {
    let mut text = format!("error: {error}\n");
    for cause in crate::diagnose::causes(error) {
        text.push_str(&format!("{cause}\n"));
    }
    text
}

mod destinations {
    use super::*;

    #[test]
    fn a_file_to_a_name() {
        check(
            &["a=1"],
            &[],
            "COPY a /x/y",
            &expect![[r#"
            0755 x/
            0644 x/y = 1
        "#]],
        );
    }

    #[test]
    fn a_file_to_a_directory_by_slash() {
        check(
            &["a=1"],
            &[],
            "COPY a /x/y/",
            &expect![[r#"
            0755 x/
            0755 x/y/
            0644 x/y/a = 1
        "#]],
        );
    }

    #[test]
    fn a_file_to_a_directory_that_is_there() {
        check(
            &["a=1"],
            &["x/y/"],
            "COPY a /x/y",
            &expect![[r#"
            0755 x/ t=below
            0755 x/y/ t=1000
            0644 x/y/a = 1
        "#]],
        );
    }

    #[test]
    fn a_file_to_the_work_directory() {
        check(
            &["a=1"],
            &[],
            "COPY a .",
            &expect![[r#"
            0755 w/
            0644 w/a = 1
        "#]],
        );
        check(
            &["a=1"],
            &[],
            "COPY a b",
            &expect![[r#"
            0755 w/
            0644 w/b = 1
        "#]],
        );
        check(
            &["a=1"],
            &["w/b/"],
            "COPY a ./b",
            &expect![[r#"
            0755 w/ t=below
            0755 w/b/ t=1000
            0644 w/b/a = 1
        "#]],
        );
    }

    #[test]
    fn a_file_over_a_file() {
        check(
            &["a=1 755"],
            &["x=old"],
            "COPY a /x",
            &expect![[r#"
            0755 x = 1
        "#]],
        );
    }

    #[test]
    fn a_file_cannot_replace_a_directory() {
        check(
            &["a=1"],
            &["d/a/"],
            "COPY a /d/",
            &expect![[r#"
            error: cannot replace the directory `/d/a` with a file
        "#]],
        );
        check(
            &["s/a=1"],
            &["d/a/b=2"],
            "COPY s /d",
            &expect![[r#"
            error: cannot replace the directory `/d/a` with a file
        "#]],
        );
    }

    #[test]
    fn the_root_as_destination() {
        check(
            &["a=1", "d/b=2"],
            &["etc/"],
            "COPY a d /",
            &expect![[r#"
            0644 a = 1
            0644 b = 2
        "#]],
        );
    }

    #[test]
    fn a_link_in_the_destination_is_followed() {
        check(
            &["a=1"],
            &["usr/bin/", "bin->usr/bin"],
            "COPY a /bin/",
            &expect![[r#"
            0755 usr/ t=below
            0755 usr/bin/ t=1000
            0644 usr/bin/a = 1
        "#]],
        );
        check(
            &["a=1"],
            &["usr/bin/", "bin->/usr/bin"],
            "COPY a /bin/b",
            &expect![[r#"
            0755 usr/ t=below
            0755 usr/bin/ t=1000
            0644 usr/bin/b = 1
        "#]],
        );
        check(
            &["a=1"],
            &["data/", "x->data"],
            "COPY a /x",
            &expect![[r#"
            0755 data/ t=1000
            0644 data/a = 1
        "#]],
        );
    }

    #[test]
    fn a_link_that_leads_nowhere_is_followed_to_where_it_leads() {
        check(
            &["a=1"],
            &["x->/not/there"],
            "COPY a /x/",
            &expect![[r#"
            0755 not/
            0755 not/there/
            0644 not/there/a = 1
        "#]],
        );
        check(
            &["a=1"],
            &["x->y"],
            "COPY a /x",
            &expect![[r#"
            0644 y = 1
        "#]],
        );
    }

    #[test]
    fn a_link_never_leads_out_of_the_image() {
        check(
            &["a=1"],
            &["x->../../../../etc"],
            "COPY a /x/",
            &expect![[r#"
            0755 etc/
            0644 etc/a = 1
        "#]],
        );
        check(
            &["a=1"],
            &["d/x->/../../../tmp"],
            "COPY a /d/x/b/../c",
            &expect![[r#"
            0755 tmp/
            0644 tmp/c = 1
        "#]],
        );
    }

    #[test]
    fn a_loop_of_links_is_an_error() {
        check(
            &["a=1"],
            &["x->y", "y->x"],
            "COPY a /x/b",
            &expect![[r#"
            error: `x` goes through too many symbolic links
        "#]],
        );
    }

    #[test]
    fn a_file_on_the_way_is_an_error() {
        check(
            &["a=1"],
            &["x=file"],
            "COPY a /x/y",
            &expect![[r#"
            error: `/x` is no directory, so nothing can be copied into it
        "#]],
        );
    }

    #[test]
    fn a_link_at_the_place_of_a_file_in_a_directory_is_replaced() {
        check(
            &["s/a=1"],
            &["d/a->/etc/passwd", "etc/passwd=root"],
            "COPY s /d",
            &expect![[r#"
            0755 d/ t=below
            0644 d/a = 1
        "#]],
        );
        check(
            &["a=1"],
            &["d/a->/etc/passwd", "etc/passwd=root"],
            "COPY a /d/",
            &expect![[r#"
            0755 d/ t=below
            0644 d/a = 1
        "#]],
        );
    }

    #[test]
    fn a_link_at_the_place_of_a_directory_is_an_error() {
        check(
            &["s/bin/x=1"],
            &["usr/bin/", "bin->usr/bin"],
            "COPY s /",
            &expect![[r#"
            error: `/bin` is no directory, so nothing can be copied into it
        "#]],
        );
    }

    #[test]
    fn modes_of_directories_below_are_kept() {
        check(
            &["a=1"],
            &["x/ 700", "x/y/ 1777"],
            "COPY a /x/y/z/",
            &expect![[r#"
            0700 x/ t=below
            1777 x/y/ t=1000
            0755 x/y/z/
            0644 x/y/z/a = 1
        "#]],
        );
    }
}

mod directories {
    use super::*;

    #[test]
    fn their_content_is_copied_and_they_are_not() {
        check(
            &["d/ 700", "d/a=1", "d/e/ 750", "d/e/b=2 600"],
            &[],
            "COPY d /x",
            &expect![[r#"
            0755 x/
            0644 x/a = 1
            0750 x/e/
            0600 x/e/b = 2
        "#]],
        );
    }

    #[test]
    fn they_join_what_is_there() {
        check(
            &["d/e/ 750", "d/e/b=2"],
            &["x/ 700", "x/e/ 777", "x/e/old=0"],
            "COPY d /x",
            &expect![[r#"
                0700 x/ t=below
                0750 x/e/
                0644 x/e/b = 2
            "#]],
        );
    }

    #[test]
    fn several_join_each_other() {
        check(
            &["d/a=1", "e/a=2", "e/b=3"],
            &[],
            "COPY d e /x/",
            &expect![[r#"
            0755 x/
            0644 x/a = 2
            0644 x/b = 3
        "#]],
        );
    }

    #[test]
    fn the_whole_context() {
        check(
            &["a=1", "d/b=2", "l->a"],
            &[],
            "COPY . .",
            &expect![[r#"
            0755 w/
            0644 w/a = 1
            0755 w/d/
            0644 w/d/b = 2
            0777 w/l -> a
        "#]],
        );
        check(
            &["a=1"],
            &[],
            "COPY / /x/",
            &expect![[r#"
            0755 x/
            0644 x/a = 1
        "#]],
        );
        check(
            &["a=1"],
            &[],
            "COPY ./ /x",
            &expect![[r#"
            0755 x/
            0644 x/a = 1
        "#]],
        );
    }

    #[test]
    fn links_in_them_stay_links() {
        check(
            &["d/l->a", "d/a=1", "d/out->/etc", "d/loop->loop"],
            &[],
            "COPY d /x",
            &expect![[r#"
            0755 x/
            0644 x/a = 1
            0777 x/l -> a
            0777 x/loop -> loop
            0777 x/out -> /etc
        "#]],
        );
    }

    #[test]
    fn an_empty_directory_is_made() {
        check(
            &["d/"],
            &[],
            "COPY d /x/y",
            &expect![[r#"
            0755 x/
            0755 x/y/
        "#]],
        );
        check(&["d/"], &["x/y/"], "COPY d /x/y", &expect![[r#""#]]);
    }

    #[test]
    fn special_files_come_along_and_sockets_do_not() {
        let world = World::new(&["d/"], &[]);
        let dir = corten_sys::beneath::Dir::open(&world.path("context/d")).unwrap();
        dir.create_device("pipe".as_ref(), corten_sys::beneath::Device::Fifo, 0o640).unwrap();
        let socket =
            std::os::unix::net::UnixListener::bind(world.path("context/d/socket")).unwrap();
        let text = world.copy("COPY d /x/", None, None).unwrap();
        drop(socket);
        expect![[r#"
            0755 x/
            0640 x/pipe pipe
        "#]]
        .assert_eq(&text);
    }
}

mod sources {
    use super::*;

    #[test]
    fn a_missing_one_is_an_error() {
        check(
            &["a=1"],
            &[],
            "COPY b /x",
            &expect![[r#"
            error: failed to find `b`
        "#]],
        );
        check(
            &["a=1"],
            &[],
            "COPY a/b /x",
            &expect![[r#"
            error: failed to find `a/b`
        "#]],
        );
        check(
            &["l->nowhere"],
            &[],
            "COPY l /x",
            &expect![[r#"
            error: failed to find `l`
        "#]],
        );
    }

    #[test]
    fn dots_do_not_leave_the_context() {
        check(
            &["a=1"],
            &[],
            "COPY ../../a /x",
            &expect![[r#"
            0644 x = 1
        "#]],
        );
        check(
            &["a=1"],
            &[],
            "COPY ../etc/passwd /x",
            &expect![[r#"
            error: failed to find `../etc/passwd`
        "#]],
        );
        check(
            &["d/a=1"],
            &[],
            "COPY d/../d/./a /x",
            &expect![[r#"
            0644 x = 1
        "#]],
        );
    }

    #[test]
    fn links_are_followed_within_the_context() {
        check(
            &["d/a=1", "l->d/a"],
            &[],
            "COPY l /x/",
            &expect![[r#"
            0755 x/
            0644 x/l = 1
        "#]],
        );
        check(
            &["d/a=1", "l->/d"],
            &[],
            "COPY l /x",
            &expect![[r#"
            0755 x/
            0644 x/a = 1
        "#]],
        );
        check(
            &["d/a=1", "l->d"],
            &[],
            "COPY l/a /x/",
            &expect![[r#"
            0755 x/
            0644 x/a = 1
        "#]],
        );
        check(
            &["etc/passwd=mine", "l->/../../../etc/passwd"],
            &[],
            "COPY l /x",
            &expect![[r#"
            0644 x = mine
        "#]],
        );
    }

    #[test]
    fn wildcards_match_as_in_go() {
        let context = ["a.txt=1", "b.txt=2", "c.md=3", "d/e.txt=4", ".h.txt=5", "x[1]=6"];
        check(
            &context,
            &[],
            "COPY *.txt /x/",
            &expect![[r#"
            0755 x/
            0644 x/.h.txt = 5
            0644 x/a.txt = 1
            0644 x/b.txt = 2
        "#]],
        );
        check(
            &context,
            &[],
            "COPY ?.* /x/",
            &expect![[r#"
            0755 x/
            0644 x/a.txt = 1
            0644 x/b.txt = 2
            0644 x/c.md = 3
        "#]],
        );
        check(
            &context,
            &[],
            "COPY */*.txt /x/",
            &expect![[r#"
            0755 x/
            0644 x/e.txt = 4
        "#]],
        );
        check(
            &context,
            &[],
            "COPY [a-b].txt /x/",
            &expect![[r#"
            0755 x/
            0644 x/a.txt = 1
            0644 x/b.txt = 2
        "#]],
        );
        check(
            &context,
            &[],
            r"COPY x[[]1] /x/",
            &expect![[r#"
            0755 x/
            0644 x/x[1] = 6
        "#]],
        );
    }

    #[test]
    fn a_wildcard_takes_directories_by_content() {
        check(
            &["d1/a=1", "d2/b=2", "d3=3"],
            &[],
            "COPY d* /x/",
            &expect![[r#"
            0755 x/
            0644 x/a = 1
            0644 x/b = 2
            0644 x/d3 = 3
        "#]],
        );
    }

    #[test]
    fn a_wildcard_follows_a_link_that_it_matches() {
        check(
            &["d/a=1", "l1->d/a"],
            &[],
            "COPY l* /x/",
            &expect![[r#"
            0755 x/
            0644 x/l1 = 1
        "#]],
        );
    }

    #[test]
    fn a_wildcard_that_matches_nothing_copies_nothing() {
        check(
            &["a=1"],
            &[],
            "COPY a no* /x/",
            &expect![[r#"
            nothing matches no*
            0755 x/
            0644 x/a = 1
        "#]],
        );
        check(
            &["a=1"],
            &[],
            "COPY no*/x /x/",
            &expect![[r#"
            nothing matches no*/x
        "#]],
        );
    }

    #[test]
    fn a_malformed_pattern_is_an_error() {
        check(
            &["a=1"],
            &[],
            "COPY [ /x/",
            &expect![[r#"
            error: `[` is no valid pattern
        "#]],
        );
    }

    #[test]
    fn what_the_ignore_file_hides_is_not_there() {
        let world = World::new(&["a=1", "b=2", "d/c=3", "d/e=4", "d/f/g=5"], &[]);
        let text =
            |instruction: &str, ignore: &str| match world.copy(instruction, Some(ignore), None) {
                Ok(text) => text,
                Err(error) => told(&error),
            };
        expect![[r#"
            0755 x/
            0644 x/a = 1
            0755 x/d/
            0644 x/d/c = 3
            0755 x/d/f/
            0644 x/d/f/g = 5
        "#]]
        .assert_eq(&text("COPY . /x/", "b\nd/e\n"));
        expect![[r#"
            0755 x/
            0755 x/d/
            0755 x/d/f/
            0644 x/d/f/g = 5
        "#]]
        .assert_eq(&text("COPY . /x/", "*\n!d/f\n"));
        expect![[r#"
            error: failed to find `b`
        "#]]
        .assert_eq(&text("COPY b /x/", "b"));
        expect![[r#"
            error: failed to find `d`
        "#]]
        .assert_eq(&text("COPY d /x/", "d"));
        expect![[r#"
            0755 x/
            0644 x/e = 4
        "#]]
        .assert_eq(&text("COPY d/e /x/", "d\n!d/e"));
        expect![[r#"
            0755 x/
            0644 x/e = 4
            0755 x/f/
            0644 x/f/g = 5
        "#]]
        .assert_eq(&text("COPY d* /x/", "**/c"));
    }

    #[test]
    fn a_name_that_would_delete_is_refused() {
        check(
            &["d/.wh.x=1"],
            &[],
            "COPY d /x/",
            &expect![[r#"
            error: cannot make a file named `/x/.wh.x`: the name is a deletion mark in images
        "#]],
        );
        check(
            &["a=1"],
            &[],
            "COPY a /x/.wh..wh..opq",
            &expect![[r#"
            error: cannot make a file named `/x/.wh..wh..opq`: the name is a deletion mark in images
        "#]],
        );
    }
}

mod modes_and_owners {
    use super::*;

    #[test]
    fn an_octal_mode_is_for_everything_that_is_made() {
        check(
            &["d/a=1 600", "d/e/b=2 755"],
            &["x/ 711"],
            "COPY --chmod=640 d /x/y/",
            &expect![[r#"
            0711 x/ t=1000
            0640 x/y/
            0640 x/y/a = 1
            0640 x/y/e/
            0640 x/y/e/b = 2
        "#]],
        );
    }

    #[test]
    fn a_symbolic_mode_changes_what_there_is() {
        check(
            &["d/a=1 600", "d/e/b=2 700"],
            &[],
            "COPY --chmod=u=rwX,go=rX d /x/y/",
            &expect![[r#"
                0755 x/
                0755 x/y/
                0644 x/y/a = 1
                0755 x/y/e/
                0755 x/y/e/b = 2
            "#]],
        );
    }

    #[test]
    fn an_owner_is_for_everything_that_is_made() {
        let world = World::new(&["d/a=1", "d/l->a"], &["x/"]);
        let text = world.copy("COPY --chown=5:6 d /x/y/", None, Some((5, 6))).unwrap();
        expect![[r#"
            0755 x/ t=1000
            0755 x/y/ 5:6
            0644 x/y/a = 1 5:6
            0777 x/y/l -> a 5:6
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn set_id_bits_and_times_of_a_stage_are_kept() {
        check(
            &["d/a=1 4755", "d/e/ 2775"],
            &[],
            "COPY --from=stage d /x/",
            &expect![[r#"
            0755 x/
            4755 x/a = 1 t=1000
            2775 x/e/ t=1000
        "#]],
        );
    }

    #[test]
    fn hard_links_of_a_stage_are_kept_and_those_of_a_context_are_not() {
        let files = ["d/a=1", "d/b==d/a", "d/c==d/a", "e==d/a"];
        check(
            &files,
            &[],
            "COPY --from=stage d /x/",
            &expect![[r#"
            0755 x/
            0644 x/a = 1 t=1000
            0644 x/b == x/a t=1000
            0644 x/c == x/a t=1000
        "#]],
        );
        check(
            &files,
            &[],
            "COPY d /x/",
            &expect![[r#"
            0755 x/
            0644 x/a = 1
            0644 x/b = 1
            0644 x/c = 1
        "#]],
        );
    }

    #[test]
    fn a_second_source_that_replaces_a_linked_file_leaves_the_other_names() {
        check(
            &["d/a=1", "d/b==d/a", "d/c==d/a", "e/a=2"],
            &[],
            "COPY --from=stage d e /x/",
            &expect![[r#"
                0755 x/
                0644 x/a = 2 t=1000
                0644 x/b = 1 t=1000
                0644 x/c == x/b t=1000
            "#]],
        );
    }
}

mod flags {
    use super::*;

    #[test]
    fn excluded_files_stay_out() {
        let context = ["d/a.txt=1", "d/b.md=2", "d/e/c.txt=3", "d/e/d.md=4", "d/f/x=5"];
        check(
            &context,
            &[],
            "COPY --exclude=*.txt d /x/",
            &expect![[r#"
            0755 x/
            0644 x/b.md = 2
            0755 x/e/
            0644 x/e/c.txt = 3
            0644 x/e/d.md = 4
            0755 x/f/
            0644 x/f/x = 5
        "#]],
        );
        check(
            &context,
            &[],
            "COPY --exclude=**/*.txt --exclude=f d /x/",
            &expect![[r#"
            0755 x/
            0644 x/b.md = 2
            0755 x/e/
            0644 x/e/d.md = 4
        "#]],
        );
        check(
            &context,
            &[],
            "COPY --exclude=* --exclude=!e/d.md d /x/",
            &expect![[r#"
            0755 x/
            0755 x/e/
            0644 x/e/d.md = 4
        "#]],
        );
    }

    #[test]
    fn excluded_files_stay_out_of_a_wildcard() {
        check(
            &["home.txt=1", "hom.md=2", "homy=3"],
            &[],
            "COPY --exclude=*.txt --exclude=*.md hom* /x/",
            &expect![[r#"
            0755 x/
            0644 x/homy = 3
        "#]],
        );
        check(
            &["a.txt=1"],
            &[],
            "COPY --exclude=*.txt a.txt /x/",
            &expect![[r#"
            0755 x/
            0644 x/a.txt = 1
        "#]],
        );
    }

    #[test]
    fn parents_are_kept() {
        let context = ["a/ 700", "a/b/c.txt=1", "a/b/d.md=2", "a/e/f.txt=3", "g.txt=4"];
        check(
            &context,
            &[],
            "COPY --parents a/b/c.txt g.txt /x/",
            &expect![[r#"
            0755 x/
            0700 x/a/
            0755 x/a/b/
            0644 x/a/b/c.txt = 1
            0644 x/g.txt = 4
        "#]],
        );
        check(
            &context,
            &[],
            "COPY --parents a/*/*.txt /x/",
            &expect![[r#"
            0755 x/
            0700 x/a/
            0755 x/a/b/
            0644 x/a/b/c.txt = 1
            0755 x/a/e/
            0644 x/a/e/f.txt = 3
        "#]],
        );
        check(
            &context,
            &[],
            "COPY --parents **/*.txt /x/",
            &expect![[r#"
            0755 x/
            0700 x/a/
            0755 x/a/b/
            0644 x/a/b/c.txt = 1
            0755 x/a/e/
            0644 x/a/e/f.txt = 3
            0644 x/g.txt = 4
        "#]],
        );
        check(
            &context,
            &[],
            "COPY --parents a/b /x/",
            &expect![[r#"
            0755 x/
            0700 x/a/
            0755 x/a/b/
            0644 x/a/b/c.txt = 1
            0644 x/a/b/d.md = 2
        "#]],
        );
        check(
            &context,
            &[],
            "COPY --parents ./a/./b/*.md /x/",
            &expect![[r#"
            0755 x/
            0755 x/b/
            0644 x/b/d.md = 2
        "#]],
        );
        check(
            &context,
            &[],
            "COPY --parents a/none.txt /x/",
            &expect![[r#"
            error: failed to find `a/none.txt`
        "#]],
        );
        check(
            &context,
            &[],
            "COPY --parents a/none* /x/",
            &expect![[r#"
            nothing matches a/none*
            0755 x/
        "#]],
        );
    }

    #[test]
    fn here_documents_are_files() {
        check(
            &[],
            &["x/"],
            "COPY <<one <<two /x/\n1\none\n2\ntwo",
            &expect![[r#"
            0755 x/ t=1000
            0644 x/one = 1\n
            0644 x/two = 2\n
        "#]],
        );
        check(
            &[],
            &[],
            "COPY --chmod=755 <<one /x/run\n1\none",
            &expect![[r#"
            0755 x/
            0755 x/run = 1\n
        "#]],
        );
    }
}

mod archives {
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
        for packed in [gzip.finish().unwrap(), bzip2.finish().unwrap(), xz.finish().unwrap(), zstd]
        {
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
}

#[test]
fn every_entry_of_a_draft_has_its_directories_before_it() {
    let world = World::new(&["a/b/c/d=1", "a/e=2"], &["x/ 700"]);
    let text = world.copy("COPY a /x/y/z", None, None).unwrap();
    let mut seen = vec![String::new()];
    for line in text.lines() {
        let path = line.split_whitespace().nth(1).unwrap().trim_end_matches('/');
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        assert!(seen.iter().any(|known| known == parent), "{path} before {parent}");
        seen.push(path.to_owned());
    }
    assert!(
        std::fs::symlink_metadata(world.path("context")).unwrap().uid()
            == file::effective_user_id()
    );
}
