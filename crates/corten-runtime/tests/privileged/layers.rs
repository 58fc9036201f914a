//! The root file system and what is mounted into it.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use corten_runtime::{
    BindMount, BindOptions, HostFacts, HostFiles, Mount, Notice, Rootfs, TmpfsMount, UserNamespace,
    plan,
};
use corten_sys::command::Command;
use corten_sys::mount::{self, Attributes, FileSystem};
use corten_sys::{file, namespace};
use corten_testkit::{Need, require, rootfs};
use rustix::fs::{FileType, Gid, Mode, Uid, XattrFlags};

use crate::common::{World, done, perl, planned, run_plan, try_run};

pub(crate) const IN_FIRST_THREAD: bool = false;

/// A file's capabilities as `setcap cap_chown=ep` writes them, and their name.
const CHOWN_ON_FILE: [u8; 20] = [1, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
const FILE_CAPABILITIES: &str = "security.capability";

fn bind(source: PathBuf, target: &str, readonly: bool) -> Mount {
    Mount::Bind(BindMount {
        source,
        target: PathBuf::from(target),
        readonly,
        recursive: false,
        options: BindOptions::default(),
    })
}

fn owner(path: &Path) -> (u32, u32) {
    let metadata = file::symlink_metadata(path).expect("it is there");
    (metadata.uid(), metadata.gid())
}

fn give(path: &Path, id: u32) {
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    rustix::fs::chown(path, Some(uid), Some(gid)).expect("root can give files away");
}

pub(crate) fn changes_keep_their_owners_on_disk() {
    require!(Need::Root);
    let world = World::new();
    give(&world.lower().join("home"), 1000);
    let done = world.run(
        "stat -c %u /home /etc; touch /made; mkdir /home/app && chown 1000:1000 /home/app; \
         touch /home/new; chown 2000 /etc/hostname; rm /etc/group; stat -c %u /made /home/app",
    );
    assert_eq!(done.out, "1000\n0\n0\n1000\n", "{done:?}");
    let upper = world.path("upper");
    for (name, id) in [("made", 0), ("home", 1000), ("home/app", 1000), ("home/new", 0)] {
        assert_eq!(owner(&upper.join(name)).0, id, "{name}");
    }
    assert_eq!(owner(&upper.join("etc/hostname")), (2000, 0));
    let whiteout = file::symlink_metadata(&upper.join("etc/group")).expect("a whiteout");
    assert!(whiteout.file_type().is_char_device() && whiteout.rdev() == 0);
}

pub(crate) fn a_read_only_root_takes_no_write_but_has_its_mount_points() {
    require!(Need::Root);
    let world = World::new();
    let source = world.path("volume");
    file::create_dir(&source, 0o755).expect("a test can make directories");
    let mut spec = world.spec(
        "for p in / /etc /tmp; do (> $p/x) 2>&1 | grep -c Read-only; done; \
         > /mnt/deep/x && echo volume; mount -o remount,rw / 2>/dev/null && echo remounted; echo end",
    );
    spec.rootfs.readonly = true;
    spec.mounts.push(bind(source.clone(), "/mnt/deep", false));
    let done = done(&spec);
    assert_eq!(done.out, "1\n1\n1\nvolume\nend\n", "{done:?}");
    assert_eq!(done.outcome.created_mount_points, [Path::new("/mnt"), Path::new("/mnt/deep")]);
    assert!(source.join("x").is_file());
    assert!(world.path("upper/mnt/deep").is_dir());
}

pub(crate) fn changes_in_memory_vanish() {
    require!(Need::Root);
    let world = World::new();
    let mut spec =
        world.spec("ls /made 2>/dev/null; touch /made && chown 1000 /made && stat -c %u /made");
    spec.rootfs = Rootfs::in_memory(vec![world.lower()]);
    for _ in 0..2 {
        assert_eq!(done(&spec).out, "1000\n");
    }
    assert!(!world.lower().join("made").exists());
}

/// Layers of one file of their own each and one that all have, top first.
fn tower(world: &World, count: usize) -> Vec<PathBuf> {
    let mut lowers = vec![world.lower()];
    for number in 0..count {
        // The names are escaped where layers are given as text.
        let layer = world.path(&format!("layer:{number},\\x"));
        rootfs::write(&layer, "shared", &format!("{number}\n"));
        rootfs::write(&layer, &format!("own/{number}"), "x");
        lowers.insert(0, layer);
    }
    lowers
}

pub(crate) fn many_layers_are_one_file_system() {
    require!(Need::Root);
    let world = World::new();
    let mut spec = world.spec("cat /shared; ls /own | wc -l; rm -r /own; ls -d /own 2>/dev/null");
    spec.rootfs.lowers = tower(&world, 100);
    assert_eq!(done(&spec).out, "99\n100\n");
}

pub(crate) fn a_root_without_layers_is_its_upper_directory() {
    require!(Need::Root);
    let world = World::new();
    let mut spec = world.spec("touch /made; stat -c %u /made");
    spec.rootfs = Rootfs { lowers: Vec::new(), upper: Some(world.lower()), ..spec.rootfs };
    assert_eq!(done(&spec).out, "0\n");
    assert_eq!(owner(&world.lower().join("made")), (0, 0));
}

pub(crate) fn old_kernels_get_their_layers_by_path() {
    require!(Need::Root);
    let world = World::new();
    let mut facts = HostFacts::gather().expect("the host can be looked at");
    facts.kernel = (6, 1);
    let mut spec =
        world.spec("cat /shared; touch /made; stat -c %u /made; cat /proc/self/mountinfo");
    let layers = tower(&world, 3);
    let in_memory = Rootfs::in_memory(layers.clone());
    spec.rootfs.lowers = layers;
    for rootfs in [spec.rootfs.clone(), in_memory] {
        spec.rootfs = rootfs;
        let done = run_plan(&plan(&spec, &facts).expect("the plan is possible")).expect("it runs");
        assert!(done.out.starts_with("2\n0\n"), "{done:?}");
        let folder = world.folder.path().display().to_string();
        let targets = done.out.lines().filter_map(|line| line.split(' ').nth(4));
        assert!(!targets.into_iter().any(|target| target.contains(&folder)), "{done:?}");
    }
    assert_eq!(owner(&world.path("upper/made")), (0, 0));
}

pub(crate) fn volumes_keep_the_owners_of_the_host() {
    require!(Need::Root);
    let world = World::new();
    let source = world.path("volume");
    rootfs::write(&source, "given", "x");
    give(&source, 1000);
    give(&source.join("given"), 1000);
    let mut spec =
        world.spec("stat -c %u /volume/given; touch /volume/made; stat -c %u /volume/made");
    (spec.uid, spec.gid) = (1000, 1000);
    spec.mounts.push(bind(source.clone(), "/volume", false));
    assert_eq!(done(&spec).out, "1000\n1000\n");
    assert_eq!(owner(&source.join("made")), (1000, 1000));
    (spec.uid, spec.gid) = (0, 0);
    spec.args[2] = String::from("touch /volume/roots && chmod 4755 /volume/roots");
    assert_eq!(done(&spec).code(), 0);
    assert_eq!(owner(&source.join("roots")), (0, 0));
}

pub(crate) fn a_read_only_volume_takes_no_write() {
    require!(Need::Root);
    let world = World::new();
    let source = world.path("volume");
    rootfs::write(&source, "given", "content\n");
    let mut spec = world.spec(
        "cat /volume/given; (> /volume/x) 2>&1 | grep -c Read-only; \
         (echo x > /volume/given) 2>&1 | grep -c Read-only; \
         mount -o remount,bind,rw /volume 2>/dev/null && echo remounted; umount /volume 2>/dev/null; \
         ls /volume",
    );
    spec.mounts.push(bind(source, "/volume", true));
    assert_eq!(done(&spec).out, "content\n1\n1\ngiven\n");
}

pub(crate) fn a_volume_of_one_file_is_that_file() {
    require!(Need::Root);
    let world = World::new();
    rootfs::write(world.folder.path(), "config", "one\n");
    let mut spec = world.spec("cat /etc/app/config; echo two > /etc/app/config");
    spec.mounts.push(bind(world.path("config"), "/etc/app/config", false));
    assert_eq!(done(&spec).out, "one\n");
    assert_eq!(file::read(&world.path("config")).expect("readable"), b"two\n");
}

pub(crate) fn mounts_below_a_volume_come_along_when_asked_for() {
    require!(Need::Root);
    let world = World::new();
    let inner = world.path("volume/inner");
    file::create_dirs(&inner, 0o755).expect("a test can make directories");
    // Of this thread alone; what it starts is there too.
    namespace::unshare(namespace::MOUNT).expect("root can have mounts of its own");
    mount::make_all_private().expect("they are our own");
    let system = FileSystem::new("tmpfs").expect("every kernel has it");
    let mounted = system.mount(Attributes::default()).expect("mounted");
    mount::attach_at(std::os::fd::AsFd::as_fd(&mounted), &inner).expect("attached");
    // What is open cannot be unmounted.
    drop(mounted);
    rootfs::write(&inner, "below", "x");
    let mut spec = world.spec("ls /volume/inner; (> /volume/inner/x) 2>&1 | grep -c Read-only");
    for (recursive, expected) in [(false, "1\n"), (true, "below\n1\n")] {
        spec.mounts = vec![Mount::Bind(BindMount {
            source: world.path("volume"),
            target: PathBuf::from("/volume"),
            readonly: true,
            recursive,
            options: BindOptions::default(),
        })];
        assert_eq!(done(&spec).out, expected);
    }
    let unmount = Command::new("/bin/umount").arg(inner).env("PATH", "/usr/bin:/bin");
    unmount.output(1000).expect("every system has it");
}

pub(crate) fn memory_file_systems_have_their_options() {
    require!(Need::Root);
    let world = World::new();
    let mut spec = world.spec(
        "stat -c %a /scratch; dd if=/dev/zero of=/scratch/x bs=64k count=100 2>&1 | grep -c 'No space'; \
         cat /scratch/x | wc -c; rm /scratch/x; ln -s /bin/true /scratch/l; \
         printf '#!/bin/sh\\necho ran\\n' > /scratch/p; chmod 755 /scratch/p; /scratch/p 2>/dev/null; \
         (> /closed/x) 2>&1 | grep -c Read-only; grep -E ' /(scratch|closed|dev/shm) ' /proc/mounts | \
         sed 's/.* tmpfs \\([a-z,]*\\).*/\\1/'; dd if=/dev/zero of=/dev/shm/x bs=64k count=100 2>&1 | \
         grep -c 'No space'",
    );
    let tmpfs = |target: &str, readonly, mode| {
        Mount::Tmpfs(TmpfsMount {
            size_bytes: Some(1 << 20),
            mode,
            readonly,
            noexec: true,
            ..TmpfsMount::new(target)
        })
    };
    spec.mounts = vec![tmpfs("/scratch", false, 0o1770), tmpfs("/closed", true, 0o755)];
    spec.shm_size_bytes = 2 << 20;
    let done = done(&spec);
    let lines: Vec<&str> = done.out.lines().collect();
    assert_eq!(lines[..4], ["1770", "1", "1048576", "1"], "{done:?}");
    assert!(lines[4..].contains(&"rw,nosuid,nodev,noexec,relatime,size"), "{done:?}");
    assert!(lines[4..].contains(&"ro,nosuid,nodev,noexec,relatime,size"), "{done:?}");
    assert_eq!(lines.last(), Some(&"1"), "{done:?}");
}

pub(crate) fn device_nodes_of_an_image_do_nothing() {
    require!(Need::Root);
    let world = World::new();
    let lower = world.lower();
    let root = file::open(&lower).expect("readable");
    for (name, kind, major, minor) in [
        ("null", FileType::CharacterDevice, 1, 3),
        ("memory", FileType::CharacterDevice, 1, 1),
        ("disk", FileType::BlockDevice, 254, 0),
    ] {
        let device = rustix::fs::makedev(major, minor);
        rustix::fs::mknodat(&root, name, kind, Mode::from_raw_mode(0o666), device)
            .expect("root can make devices");
        file::set_mode(&lower.join(name), 0o666).expect("a test can set modes");
    }
    let script = "for d in null memory disk; do [ -e /$d ] || echo missing; \
        (: < /$d) 2>/dev/null && echo opened $d; done; (: > /null) 2>/dev/null && echo written; echo end";
    let mut spec = world.spec(script);
    for user_namespace in [UserNamespace::Auto, UserNamespace::Host] {
        spec.user_namespace = user_namespace;
        assert_eq!(done(&spec).out, "end\n");
    }
}

pub(crate) fn a_link_in_the_image_does_not_lead_a_mount_outside() {
    require!(Need::Root);
    let world = World::new();
    let (outside, lower) = (world.path("outside"), world.lower());
    rootfs::write(&outside, "hosts", "of the host\n");
    file::set_mode(&outside, 0o777).expect("a test can set modes");
    let inside = outside.strip_prefix("/").expect("absolute").to_owned();
    let up = Path::new("../../../../../../../..").join(&inside).join("up");
    for (name, target) in [
        ("absolute", outside.join("absolute")),
        ("up", up),
        ("etc/hosts", outside.join("hosts")),
        ("etc/resolv.conf", outside.join("resolv.conf")),
        ("dev/shm", outside.join("shm")),
    ] {
        file::symlink(&target, &lower.join(name)).expect("a test can make links");
    }
    file::remove_dir(&lower.join("sys")).expect("it is empty");
    file::symlink(&outside.join("sys"), &lower.join("sys")).expect("a test can make links");
    let mut spec = world.spec("cat /etc/hosts /absolute/deep/given; ls -d /sys/class /up/given");
    let source = world.path("volume");
    rootfs::write(&source, "given", "volume\n");
    spec.mounts =
        vec![bind(source.clone(), "/absolute/deep", false), bind(source.clone(), "/up", false)];
    spec.host_files = HostFiles {
        hosts: Some("own\n".to_owned()),
        resolv_conf: Some("nameserver 192.0.2.1\n".to_owned()),
        hostname: None,
    };
    let done = done(&spec);
    assert_eq!(done.out, "own\nvolume\n/sys/class\n/up/given\n", "{done:?}");
    assert_eq!(file::list_dir(&outside).expect("readable"), ["hosts"], "nothing was made");
    assert_eq!(file::read(&outside.join("hosts")).expect("readable"), b"of the host\n");
    let same = world.path("upper").join(inside);
    assert!(same.join("up").is_dir() && same.join("absolute/deep").is_dir());
    // The links of `/proc` lead to any file whatever; none is followed.
    file::symlink(Path::new("/proc/self/root"), &lower.join("magic")).expect("linked");
    spec.mounts = vec![bind(source, "/magic/x", false)];
    let error = try_run(&spec).expect_err("it would lead anywhere");
    assert_eq!(error.to_string(), "failed to mount `/magic/x`");
}

pub(crate) fn a_file_system_without_mapped_owners_means_no_user_namespace_and_says_so() {
    require!(Need::Root);
    let world = World::new();
    let mut spec =
        world.spec("cat /proc/self/uid_map; wc -l < /volume; grep CapEff /proc/self/status");
    spec.mounts.push(bind(PathBuf::from("/proc/version"), "/volume", true));
    let plan = planned(&spec);
    assert!(plan.notices.is_empty(), "only trying shows it: {:?}", plan.notices);
    let done = run_plan(&plan).expect("it runs");
    let words: Vec<&str> = done.out.split_whitespace().collect();
    assert_eq!(words, ["0", "0", "4294967295", "1", "CapEff:", "00000000a00405fb"]);
    let told = |notice: &Notice| matches!(notice, Notice::NoUserNamespace { .. });
    assert!(done.outcome.notices.iter().any(told), "{:?}", done.outcome.notices);
}

pub(crate) fn file_capabilities_are_those_of_the_image_on_disk() {
    require!(Need::Root);
    let world = World::new();
    let program = world.lower().join("look");
    let bytes = file::read(&world.lower().join("usr/bin/grep")).expect("readable");
    file::write(&program, &bytes).expect("written");
    file::set_mode(&program, 0o755).expect("a test can set modes");
    rustix::fs::setxattr(&program, FILE_CAPABILITIES, &CHOWN_ON_FILE, XattrFlags::empty())
        .expect("root can set capabilities");
    let mut spec = world.spec("/look CapEff /proc/self/status");
    (spec.uid, spec.gid, spec.no_new_privileges) = (1000, 1000, false);
    assert_eq!(done(&spec).out, "CapEff:\t0000000000000001\n");
    spec.no_new_privileges = true;
    assert_eq!(done(&spec).out, "CapEff:\t0000000000000000\n");
    // What the container sets is on disk as an image has it.
    let set = format!(
        "my @a = (\"/usr/bin/head\", \"{FILE_CAPABILITIES}\", pack(\"C20\", {})); \
         syscall({}, @a, 20, 0) == 0 or die $!",
        CHOWN_ON_FILE.map(|byte| byte.to_string()).join(","),
        libc::SYS_setxattr
    );
    let outcome = world.run(&perl(&set));
    assert_eq!(outcome.code(), 0, "{outcome:?}");
    let mut found = Vec::with_capacity(64);
    let path = world.path("upper/usr/bin/head");
    rustix::fs::getxattr(&path, FILE_CAPABILITIES, rustix::buffer::spare_capacity(&mut found))
        .expect("it is set");
    assert_eq!(found, CHOWN_ON_FILE);
}
