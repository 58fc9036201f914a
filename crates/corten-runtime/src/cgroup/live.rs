//! The groups of a running container.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use corten_sys::error::{IoError, at};
use corten_sys::process::PidFd;
use corten_sys::{bpf, file};
use rustix::fs::{Mode, OFlags};

use super::plan::{CgroupPlan, GroupPlan, Setting};
use super::scope;

/// The directory that all groups of ours are below.
const FOLDER: &str = "corten";
/// Files of the kernel of which we read a few numbers.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// So many groups of the dead are removed at each start; the next start goes on.
const STALE_REMOVED: usize = 64;
/// Where the freezer of cgroup v1 is.
const FREEZER: &str = "/sys/fs/cgroup/freezer";
/// A concurrent `corten` may remove an empty group just before it is used.
const ATTEMPTS: usize = 3;
/// A second: killed processes are gone in a few rounds, unless the kernel waits for a device.
const KILL_ROUNDS: usize = 500;
const KILL_PAUSE: Duration = Duration::from_millis(2);

/// The groups that exist for a container.
#[derive(Debug)]
pub(crate) struct Groups {
    groups: Vec<Group>,
    v2: bool,
}

#[derive(Debug, Clone)]
pub(super) struct Group {
    pub plan: GroupPlan,
    pub directory: PathBuf,
}

/// What a memory group tells after its processes ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct MemoryReport {
    pub limit_bytes: Option<u64>,
    pub peak_bytes: Option<u64>,
    pub kills: u64,
}

impl Groups {
    /// Makes the groups and sets their limits; also removes groups whose maker is gone.
    pub(crate) fn create(plan: &CgroupPlan, id: &str) -> Result<Self, IoError> {
        let plan = plan.placed(id)?;
        let mut this = Self { groups: Vec::new(), v2: plan.v2 };
        for parent in &plan.parents {
            remove_stale(&parent.join(FOLDER));
        }
        for group in &plan.groups {
            let group = Group { plan: group.clone(), directory: directory(group, id) };
            let made = make(&group, plan.v2);
            this.groups.push(group);
            if let Err(error) = made {
                // The first failure is the one to report; what is left is stale from now on.
                drop(this.remove());
                return Err(error);
            }
        }
        Ok(this)
    }

    /// The groups that this process has made for a container that runs.
    pub(crate) fn existing(plan: &CgroupPlan, id: &str) -> Result<Self, IoError> {
        let plan = plan.placed(id)?;
        let group =
            |group: &GroupPlan| Group { plan: group.clone(), directory: directory(group, id) };
        Ok(Self { groups: plan.groups.iter().map(group).collect(), v2: plan.v2 })
    }

    /// Adds the groups that were made for the container while it ran.
    pub(crate) fn add_later(&mut self, id: &str) {
        self.groups.extend(super::later::made_later(id));
    }

    pub(crate) fn is_v2(&self) -> bool {
        self.v2
    }

    /// Reads a file of the group with a controller; any group has those of no controller in version 2.
    pub(crate) fn read(&self, controller: &str, name: &str) -> Option<String> {
        let has = |group: &&Group| group.plan.controllers.iter().any(|known| known == controller);
        let any = controller.is_empty() || self.v2;
        let group = self.groups.iter().find(has).or(self.groups.first().filter(|_| any))?;
        read(&group.directory, name)
    }

    /// Returns the processes in the groups; `None` without a group.
    pub(crate) fn processes(&self) -> Option<Vec<u32>> {
        let text = read(&self.groups.first()?.directory, "cgroup.procs")?;
        let mut found: Vec<u32> = text.lines().filter_map(|line| line.parse().ok()).collect();
        found.dedup();
        (!found.is_empty()).then_some(found)
    }

    /// Opens the directory that a process can be started in; cgroup v2 only.
    pub(crate) fn open_v2(&self) -> Result<Option<OwnedFd>, IoError> {
        let Some(group) = self.groups.first().filter(|_| self.v2) else { return Ok(None) };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&group.directory, flags, Mode::empty());
        fd.map(Some).map_err(at("open", &group.directory))
    }

    /// Puts a process into the groups, unless it was started there.
    pub(crate) fn attach(&self, pid: u32, started_there: bool) -> Result<(), IoError> {
        if self.v2 && started_there {
            return Ok(());
        }
        for group in &self.groups {
            let mut attempts = ATTEMPTS;
            loop {
                match write(&group.directory.join("cgroup.procs"), &pid.to_string()) {
                    Err(error) if error.is_not_found() && attempts > 1 => {
                        attempts -= 1;
                        make(group, self.v2)?;
                    }
                    other => break other?,
                }
            }
        }
        Ok(())
    }

    /// The group that tells the container's processes from those of others.
    pub(crate) fn gathered(&self) -> Option<&Path> {
        self.groups.first().map(|group| group.directory.as_path())
    }

    /// Ends every process that is in the groups, for a container whose first process does not take all
    /// others with it.
    pub(crate) fn kill(&self) -> Result<(), IoError> {
        self.gathered().map_or(Ok(()), end_all)
    }

    /// Reads what became of the memory limit; `None` without one.
    pub(crate) fn memory(&self) -> Option<MemoryReport> {
        let is_memory = |group: &&Group| group.plan.controllers.iter().any(|name| name == "memory");
        let directory = &self.groups.iter().find(is_memory)?.directory;
        let number = |name: &str| read(directory, name)?.trim().parse::<u64>().ok();
        let (limit, peak, events) = if self.v2 {
            ("memory.max", "memory.peak", "memory.events")
        } else {
            ("memory.limit_in_bytes", "memory.max_usage_in_bytes", "memory.oom_control")
        };
        let events = read(directory, events).unwrap_or_default();
        Some(MemoryReport {
            limit_bytes: number(limit),
            peak_bytes: number(peak),
            kills: keyed(&events, "oom_kill").unwrap_or(0),
        })
    }

    /// Removes the groups; returns every failure.
    pub(crate) fn remove(self) -> Vec<IoError> {
        let remove = |group: &Group| absent_is_fine(file::remove_dir(&group.directory)).err();
        self.groups.iter().rev().filter_map(remove).collect()
    }
}

/// Ends every process of a group, and waits until they are gone.
pub(crate) fn end_all(directory: &Path) -> Result<(), IoError> {
    // Of version 2, and not before Linux 5.14.
    absent_is_fine(write(&directory.join("cgroup.kill"), "1"))?;
    // Each round meets those that were started by the ones of the round before.
    for _ in 0..KILL_ROUNDS {
        let listed = read(directory, "cgroup.procs").unwrap_or_default();
        let pids: Vec<u32> = listed.lines().filter_map(|line| line.parse().ok()).collect();
        if pids.is_empty() {
            return Ok(());
        }
        for pid in pids {
            end(directory, pid)?;
        }
        std::thread::sleep(KILL_PAUSE);
    }
    let source = std::io::Error::from_raw_os_error(libc::EBUSY);
    Err(IoError::new("end the processes of", directory, source))
}

/// Ends a process if it is in the group: by now, its number may be another one's.
fn end(directory: &Path, pid: u32) -> Result<(), IoError> {
    // One that has ended is what is wanted.
    let Ok(process) = PidFd::open(pid) else { return Ok(()) };
    let listed = read(directory, "cgroup.procs").unwrap_or_default();
    if listed.lines().any(|line| line.parse() == Ok(pid)) {
        process.kill().map_err(at("end the processes of", directory))?;
    }
    Ok(())
}

impl CgroupPlan {
    /// The groups where they are, or will be: with a manager, in a scope that this process enters.
    pub(super) fn placed(&self, id: &str) -> Result<Cow<'_, Self>, IoError> {
        let Some(manager) = &self.manager else { return Ok(Cow::Borrowed(self)) };
        let scope = scope::enter(manager, id)?;
        let mut plan = self.clone();
        plan.groups.iter_mut().for_each(|group| group.parent.clone_from(&scope));
        Ok(Cow::Owned(plan))
    }
}

/// Where the group of a container is whose processes this process starts.
pub(super) fn directory(group: &GroupPlan, id: &str) -> PathBuf {
    group.parent.join(FOLDER).join(format!("{id}.{}", std::process::id()))
}

pub(super) fn make(group: &Group, v2: bool) -> Result<(), IoError> {
    let folder = group.plan.parent.join(FOLDER);
    // A parent that somebody named need not be there.
    let mut directories: Vec<&Path> =
        folder.ancestors().take_while(|path| !path.exists()).collect();
    directories.reverse();
    if directories.last() != Some(&folder.as_path()) {
        directories.push(&folder);
    }
    directories.push(&group.directory);
    for directory in directories {
        match file::create_dir(directory, 0o755) {
            Err(error) if error.is_already_exists() => {}
            other => other?,
        }
        if !v2 && group.plan.controllers.iter().any(|name| name == "cpuset") {
            inherit_cpuset(directory)?;
        }
        if v2 && directory == folder {
            pass_on(&group.plan.parent, &group.plan.controllers)?;
            pass_on(&folder, &group.plan.controllers)?;
        }
    }
    if let Some(program) = &group.plan.device_program {
        judge_devices(&group.directory, program)?;
    }
    for setting in &group.plan.settings {
        let written = match write(&group.directory.join(setting.file), &setting.value) {
            Err(error) if error.is_not_found() => match of_scheduler(setting) {
                Some((file, value)) => write(&group.directory.join(file), &value),
                None => Err(error),
            },
            other => other,
        };
        match written {
            // Kernels without swap accounting lack the file.
            Err(error) if error.is_not_found() && !setting.required => {}
            other => other?,
        }
    }
    Ok(())
}

/// Weights of disks have other names where the scheduler BFQ is what heeds them, and there they are 1 to
/// 1000 in both versions.
fn of_scheduler(setting: &Setting) -> Option<(&'static str, String)> {
    match setting.file {
        "blkio.weight" => Some(("blkio.bfq.weight", setting.value.clone())),
        "blkio.weight_device" => Some(("blkio.bfq.weight_device", setting.value.clone())),
        "io.weight" => {
            // The way back from 1 to 10000.
            let (device, weight) = setting.value.rsplit_once(' ').unwrap_or(("", &setting.value));
            let weight = 10 + (weight.parse::<u64>().ok()?.saturating_sub(1) * 990) / 9999;
            Some(("io.bfq.weight", format!("{device} {weight}").trim_start().to_owned()))
        }
        _ => None,
    }
}

fn judge_devices(directory: &Path, program: &[bpf::Instruction]) -> Result<(), IoError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let group = rustix::fs::open(directory, flags, Mode::empty()).map_err(at("open", directory))?;
    let program = bpf::load_device_program(program)
        .map_err(at("load the program for devices of", directory))?;
    bpf::attach_device_program(program.as_fd(), group.as_fd())
        .map_err(at("attach the program for devices to", directory))
}

/// A new cpuset of cgroup v1 has no processor and no memory and takes no process.
fn inherit_cpuset(directory: &Path) -> Result<(), IoError> {
    let Some(parent) = directory.parent() else { return Ok(()) };
    for name in ["cpuset.cpus", "cpuset.mems"] {
        if read(directory, name).unwrap_or_default().trim().is_empty() {
            let value = read(parent, name).unwrap_or_default();
            write(&directory.join(name), value.trim())?;
        }
    }
    Ok(())
}

/// Lets the groups below have controllers.
fn pass_on(directory: &Path, controllers: &[String]) -> Result<(), IoError> {
    let path = directory.join("cgroup.subtree_control");
    let present = read(directory, "cgroup.subtree_control").unwrap_or_default();
    let present: Vec<&str> = present.split_whitespace().collect();
    for name in controllers.iter().filter(|name| !present.contains(&name.as_str())) {
        write(&path, &format!("+{name}"))?;
    }
    Ok(())
}

/// Removes groups whose maker is gone. Best effort: a group that is in use refuses.
fn remove_stale(folder: &Path) {
    let Ok(names) = file::list_dir(folder) else { return };
    for name in names.iter().filter(|name| maker_is_gone(name)).take(STALE_REMOVED) {
        let directory = folder.join(name);
        let frozen = directory.join("freezer.state");
        // In a frozen group of version 1 even those that were killed are still there.
        if folder.starts_with(FREEZER) && write(&frozen, "THAWED").is_err() {
            continue;
        }
        drop(file::remove_dir(&directory));
    }
}

/// Returns true for the name of a group, `<id>.<pid>`, whose process does not exist.
fn maker_is_gone(name: &OsStr) -> bool {
    let maker = name.to_str().and_then(|name| name.rsplit_once('.')?.1.parse::<i32>().ok());
    maker
        .and_then(rustix::process::Pid::from_raw)
        .is_some_and(|pid| rustix::process::test_kill_process(pid) == Err(rustix::io::Errno::SRCH))
}

fn absent_is_fine(result: Result<(), IoError>) -> Result<(), IoError> {
    match result {
        Err(error) if error.is_not_found() => Ok(()),
        other => other,
    }
}

/// Writes a file of the kernel's, in one call, which it takes or refuses as a whole.
pub(super) fn write(path: &Path, value: &str) -> Result<(), IoError> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let fd = rustix::fs::open(path, flags, Mode::empty()).map_err(at("open", path))?;
    rustix::io::write(&fd, value.as_bytes()).map_err(at("write", path))?;
    Ok(())
}

pub(super) fn read(directory: &Path, name: &str) -> Option<String> {
    let bytes = file::read_limited(&directory.join(name), FILE_BYTES_MAX).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Finds `key number` among lines.
fn keyed(text: &str, key: &str) -> Option<u64> {
    let line = |line: &str| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok();
    text.lines().find_map(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_weight_is_the_same_to_another_scheduler() {
        let of = |file: &'static str, value: &str| {
            let setting = Setting { file, value: value.to_owned(), required: true };
            of_scheduler(&setting).map(|(file, value)| format!("{file} = {value}"))
        };
        assert_eq!(of("io.weight", "1").as_deref(), Some("io.bfq.weight = 10"));
        assert_eq!(of("io.weight", "10000").as_deref(), Some("io.bfq.weight = 1000"));
        assert_eq!(of("io.weight", "8:0 10000").as_deref(), Some("io.bfq.weight = 8:0 1000"));
        assert_eq!(of("blkio.weight", "500").as_deref(), Some("blkio.bfq.weight = 500"));
        assert_eq!(of("memory.max", "1"), None);
    }

    #[test]
    fn a_number_is_found_by_its_whole_key() {
        let text = "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n";
        assert_eq!(keyed(text, "oom_kill"), Some(3));
        assert_eq!(keyed("oom 1\noom_kill 2\noom_group_kill 0\n", "oom"), Some(1));
        assert_eq!(keyed("", "oom"), None);
    }
}
