//! The program for devices on the real kernel.

use std::os::fd::AsFd as _;

use corten_sys::command::Command;
use corten_sys::mount::{self, Attributes, FileSystem};
use corten_sys::process::Ended;
use corten_sys::{bpf, file, namespace};
use corten_testkit::{Need, TempDir, require};

use super::{DeviceRule, assemble};

#[test]
fn a_group_opens_what_its_program_allows() {
    require!(Need::Root);
    // Wherever this machine has it mounted, or not.
    namespace::unshare(namespace::MOUNT).expect("root may");
    mount::make_all_private().expect("root may");
    let folder = TempDir::new();
    let system = FileSystem::new("cgroup2").expect("every kernel has it");
    let mounted = system.mount(Attributes::default()).expect("root may");
    mount::attach_at(mounted.as_fd(), folder.path()).expect("root may");
    let group = folder.path().join(format!("corten-test-{}", corten_sys::random::name()));
    file::create_dir(&group, 0o755).expect("root may");
    let rules = ["c 1:3 rw", "c 1:5 r"].map(|text| DeviceRule::parse(text).expect("a rule"));
    let program = bpf::load_device_program(&assemble(&rules)).expect("the kernel takes it");
    let directory = std::fs::File::open(&group).expect("it was made");
    bpf::attach_device_program(program.as_fd(), directory.as_fd()).expect("root may");
    let script = "echo $$ >\"$1/cgroup.procs\" || exit 9; \
        echo x >/dev/null || exit 1; head -c 1 /dev/zero >/dev/null || exit 2; \
        (echo x >/dev/zero) 2>/dev/null && exit 3; \
        (head -c 1 /dev/urandom) >/dev/null 2>&1 && exit 4; exit 0";
    let command = Command::new("/bin/sh").args(["-c", script, "sh"]).arg(&group);
    let (report, output) = command.output(4096).expect("every system has it");
    file::remove_dir(&group).expect("nobody is in it");
    drop((directory, mounted));
    let status = Command::new("/bin/umount").arg(folder.path()).output(4096).expect("it is there");
    assert_eq!(status.0.ended, Ended::Code(0));
    assert_eq!(report.ended, Ended::Code(0), "{}", String::from_utf8_lossy(&output));
}
