//! User namespaces: how an ordinary user becomes root of one, and which ids it holds.

use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use crate::command::{Command, find_program, pipe};
use crate::error::{IoError, at};
use crate::file;
use crate::namespace;
use crate::process::{self, Cloned, Ended};

/// A file of accounts or id ranges beyond this is not ours to read.
const ACCOUNTS_BYTES_MAX: u64 = 16 << 20;
/// The kernel takes 340 lines of at most 32 bytes.
const MAP_BYTES_MAX: u64 = 16 << 10;
/// What the two set-user-id programs may say before it is cut off.
const COMPLAINT_BYTES_MAX: u64 = 4 << 10;
/// Where the two programs are on every distribution.
const PROGRAM_DIRECTORIES: &str = "/usr/bin:/bin:/usr/local/bin:/usr/sbin:/sbin";
const CAP_SYS_ADMIN: u64 = 1 << 21;

/// Consecutive ids: `count` of them from `first`, seen outside from `outside`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdRange {
    pub first: u32,
    pub outside: u32,
    pub count: u32,
}

impl fmt::Display for IdRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.first, self.outside, self.count)
    }
}

/// Reads a map of ids, one range a line, as `/proc/PID/uid_map` has it.
pub fn parse_map(text: &str) -> Vec<IdRange> {
    let line = |line: &str| {
        let mut numbers = line.split_whitespace().map(str::parse::<u32>);
        let (first, outside, count) = (numbers.next()?, numbers.next()?, numbers.next()?);
        Some(IdRange { first: first.ok()?, outside: outside.ok()?, count: count.ok()? })
    };
    text.lines().filter_map(line).collect()
}

/// Writes a map of ids in the kernel's form.
pub fn format_map(ranges: &[IdRange]) -> String {
    ranges.iter().fold(String::new(), |text, range| text + &range.to_string() + "\n")
}

/// Reads the map of our own user ids (`uid_map`) or group ids (`gid_map`).
pub fn own_map(name: &str) -> Result<Vec<IdRange>, IoError> {
    let path = Path::new("/proc/self").join(name);
    let text = file::read_limited(&path, MAP_BYTES_MAX)?;
    Ok(parse_map(&String::from_utf8_lossy(&text)))
}

/// Returns true if the map is that of the whole system: every id, unshifted.
pub fn is_whole_system(map: &[IdRange]) -> bool {
    map == [IdRange { first: 0, outside: 0, count: u32::MAX }]
}

/// Finds the ranges that `/etc/subuid` or `/etc/subgid` gives to a name or number, in order.
pub fn subordinate(text: &str, name: Option<&str>, id: Option<u32>) -> Vec<(u32, u32)> {
    let id = id.map(|id| id.to_string());
    let line = |line: &str| {
        let mut fields = line.trim().split(':');
        let owner = fields.next()?;
        if owner.is_empty() || (Some(owner) != name && Some(owner) != id.as_deref()) {
            return None;
        }
        let (first, count) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        (count > 0 && u32::checked_add(first, count).is_some()).then_some((first, count))
    };
    text.lines().filter_map(line).collect()
}

/// Reads the ranges of a name or number from a file that may be absent.
pub fn subordinate_in(
    path: &Path,
    name: Option<&str>,
    id: Option<u32>,
) -> Result<Vec<(u32, u32)>, IoError> {
    let text = file::read_optional(path, ACCOUNTS_BYTES_MAX)?.unwrap_or_default();
    Ok(subordinate(&String::from_utf8_lossy(&text), name, id))
}

/// What we are in after [`enter_rootless`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rootless {
    /// The ids outside that are root inside.
    pub uid: u32,
    pub gid: u32,
    pub ids: RootlessIds,
}

/// How many ids there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootlessIds {
    /// Root and these many more, from the user's ranges.
    Ranges { users: u64, groups: u64 },
    /// Root only, for this reason.
    Single(SingleId),
}

/// Why there is only one id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SingleId {
    /// The file gives the user no range.
    NoRange { file: &'static str },
    /// The program that may write ranges is not installed.
    NoProgram { program: &'static str },
    /// It refused.
    Refused { complaint: String },
}

impl fmt::Display for SingleId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRange { file } => write!(f, "`{file}` gives your user no range of ids"),
            Self::NoProgram { program } => write!(f, "the program `{program}` is not installed"),
            Self::Refused { complaint } => {
                write!(f, "your range of ids was refused: {}", complaint.trim())
            }
        }
    }
}

impl SingleId {
    /// Says what to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NoRange { .. } | Self::Refused { .. } => {
                "`sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 \"$USER\"`"
            }
            Self::NoProgram { .. } => "`sudo apt-get install uidmap`, or your system's counterpart",
        }
    }
}

/// Why an ordinary user could not become root of a user namespace.
#[derive(Debug, thiserror::Error)]
pub enum UsernsError {
    /// A program that is a thread already cannot change its user namespace.
    #[error("failed to make a user namespace: the program has started threads already")]
    Threads,
    /// The kernel or its configuration does not let ordinary users have one.
    #[error("failed to make a user namespace")]
    Refused(#[source] io::Error),
    /// A file of the system could not be used.
    #[error(transparent)]
    File(#[from] IoError),
    /// A step after it was made failed.
    #[error("failed to {attempt}")]
    Step {
        attempt: &'static str,
        #[source]
        source: io::Error,
    },
}

impl UsernsError {
    /// Says what to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Refused(_) => Some(
                "let ordinary users have user namespaces: `sysctl kernel.unprivileged_userns_clone` \
                 and `kernel.apparmor_restrict_unprivileged_userns`, `user.max_user_namespaces`; \
                 or run `corten` as root"
                    .to_owned(),
            ),
            Self::Step { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => Some(
                "an AppArmor rule may forbid it: \
                 `sudo sysctl kernel.apparmor_restrict_unprivileged_userns=0`"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

/// Makes an ordinary user root of a user namespace with a mount namespace of its own.
///
/// Must be called before any thread is started. Root with its capabilities stays as it is, and the
/// answer is `None`.
pub fn enter_rootless() -> Result<Option<Rootless>, UsernsError> {
    let effective = crate::caps::effective().map_err(step("read the own capabilities"))?;
    if rustix::process::geteuid().is_root() && effective & CAP_SYS_ADMIN != 0 {
        return Ok(None);
    }
    process::require_single_thread().map_err(|_| UsernsError::Threads)?;
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let ids = match ranges(uid, gid)? {
        Ok(ranges) => with_ranges(uid, gid, &ranges)?,
        Err(single) => {
            unshare()?;
            write_single_map(uid, gid)?;
            RootlessIds::Single(single)
        }
    };
    become_root()?;
    Ok(Some(Rootless { uid, gid, ids }))
}

/// Makes an ordinary user root of the user namespace that a process of the same user is root of, with a
/// mount namespace of its own: only there is a container of that process within reach.
///
/// Must be called before any thread is started. Root with its capabilities stays as it is, and the
/// answer is false.
pub fn enter_that_of(process: u32) -> Result<bool, UsernsError> {
    let effective = crate::caps::effective().map_err(step("read the own capabilities"))?;
    if rustix::process::geteuid().is_root() && effective & CAP_SYS_ADMIN != 0 {
        return Ok(false);
    }
    process::require_single_thread().map_err(|_| UsernsError::Threads)?;
    let path = PathBuf::from(format!("/proc/{process}/ns/user"));
    let namespace = file::open(&path)?;
    namespace::enter(namespace.as_fd()).map_err(step("enter the container's user namespace"))?;
    namespace::unshare(namespace::MOUNT).map_err(step("make a mount namespace"))?;
    become_root()?;
    Ok(true)
}

/// The user's ranges and the programs that write them.
struct Ranges {
    users: Vec<(u32, u32)>,
    groups: Vec<(u32, u32)>,
    uid_program: PathBuf,
    gid_program: PathBuf,
}

fn ranges(uid: u32, gid: u32) -> Result<Result<Ranges, SingleId>, UsernsError> {
    let name = name_of(uid)?;
    let read = |file| subordinate_in(Path::new(file), name.as_deref(), Some(uid));
    let users = without(&read("/etc/subuid")?, uid);
    if users.is_empty() {
        return Ok(Err(SingleId::NoRange { file: "/etc/subuid" }));
    }
    let groups = without(&read("/etc/subgid")?, gid);
    if groups.is_empty() {
        return Ok(Err(SingleId::NoRange { file: "/etc/subgid" }));
    }
    let find = |program: &'static str| {
        find_program(program, PROGRAM_DIRECTORIES.as_ref()).ok_or(SingleId::NoProgram { program })
    };
    let found = find("newuidmap").and_then(|uid_program| {
        let gid_program = find("newgidmap")?;
        Ok(Ranges { users, groups, uid_program, gid_program })
    });
    Ok(found)
}

/// Leaves out ranges that hold the user's own id, which is mapped to root already.
fn without(ranges: &[(u32, u32)], id: u32) -> Vec<(u32, u32)> {
    let holds = |(first, count): &(u32, u32)| (*first..first + count).contains(&id);
    ranges.iter().filter(|range| !holds(range)).copied().collect()
}

fn name_of(uid: u32) -> Result<Option<String>, IoError> {
    let text = file::read_optional(Path::new("/etc/passwd"), ACCOUNTS_BYTES_MAX)?;
    let text = String::from_utf8_lossy(&text.unwrap_or_default()).into_owned();
    let found = text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse::<u32>().ok()? == uid).then(|| name.to_owned())
    });
    Ok(found)
}

/// Lets a copy of this process, which stays outside, run the two programs on us.
fn with_ranges(uid: u32, gid: u32, ranges: &Ranges) -> Result<RootlessIds, UsernsError> {
    let (reader, writer) = pipe().map_err(step("make a pipe"))?;
    let (complaint_reader, complaint_writer) = pipe().map_err(step("make a pipe"))?;
    let ours = std::process::id();
    let cloned = process::clone(process::CloneOptions::default());
    let Cloned::Parent { pid } = cloned.map_err(step("copy the process"))? else {
        drop(writer);
        let code = map_from_outside(ours, uid, gid, ranges, &reader, &complaint_writer);
        process::exit_now(code);
    };
    drop((reader, complaint_writer));
    let unshared = unshare();
    let told = match unshared {
        // Closing the pipe without a byte tells the copy to give up.
        Err(_) => Ok(()),
        Ok(()) => rustix::io::write(&writer, b"1").map(drop),
    };
    drop(writer);
    let complaint = read_to_end(&complaint_reader);
    let report = process::wait_pid(pid).map_err(step("wait for the id maps"))?;
    unshared?;
    told.map_err(|errno| UsernsError::Step {
        attempt: "ask for the id maps",
        source: errno.into(),
    })?;
    if report.ended == Ended::Code(0) {
        let sum = |ranges: &[(u32, u32)]| ranges.iter().map(|(_, count)| u64::from(*count)).sum();
        return Ok(RootlessIds::Ranges { users: sum(&ranges.users), groups: sum(&ranges.groups) });
    }
    write_single_map(uid, gid)?;
    Ok(RootlessIds::Single(SingleId::Refused { complaint }))
}

fn read_to_end(fd: &impl AsFd) -> String {
    let mut text = Vec::new();
    let mut buffer = [0; 512];
    while let Ok(length @ 1..) = rustix::io::read(fd, &mut buffer) {
        text.extend_from_slice(&buffer[..length]);
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// Runs in the copy that stays in the user's own namespace.
fn map_from_outside(
    target: u32,
    uid: u32,
    gid: u32,
    ranges: &Ranges,
    go: &impl AsFd,
    complaint: &impl AsFd,
) -> i32 {
    let mut byte = [0];
    if !matches!(rustix::io::read(go, &mut byte), Ok(1)) {
        return 1;
    }
    let programs =
        [(&ranges.uid_program, uid, &ranges.users), (&ranges.gid_program, gid, &ranges.groups)];
    for (program, own, ranges) in programs {
        let command = Command::new(program).arg(target.to_string());
        let command = command.args(map_arguments(own, ranges));
        let text = match command.output(COMPLAINT_BYTES_MAX) {
            Ok((report, _)) if report.ended == Ended::Code(0) => continue,
            Ok((_, text)) => text,
            Err(error) => error.to_string().into_bytes(),
        };
        // If this cannot be told, the exit code still says that it failed.
        rustix::io::write(complaint, &text).unwrap_or_default();
        return 1;
    }
    0
}

fn map_arguments(own: u32, ranges: &[(u32, u32)]) -> Vec<String> {
    let mut arguments = vec!["0".to_owned(), own.to_string(), "1".to_owned()];
    let mut inside = 1_u32;
    for (first, count) in ranges {
        let count = (*count).min(u32::MAX - 1 - inside);
        arguments.extend([inside.to_string(), first.to_string(), count.to_string()]);
        inside += count;
    }
    arguments
}

fn unshare() -> Result<(), UsernsError> {
    namespace::unshare(namespace::USER | namespace::MOUNT).map_err(UsernsError::Refused)
}

fn write_single_map(uid: u32, gid: u32) -> Result<(), UsernsError> {
    write_proc("/proc/self/setgroups", "deny")?;
    write_proc("/proc/self/gid_map", &format!("0 {gid} 1\n"))?;
    write_proc("/proc/self/uid_map", &format!("0 {uid} 1\n"))
}

/// Writes a file of `/proc`, in one call as the kernel wants it.
fn write_proc(path: &str, text: &str) -> Result<(), UsernsError> {
    let path = Path::new(path);
    let open = std::fs::OpenOptions::new().write(true).open(path).map_err(at("open", path))?;
    rustix::io::write(&open, text.as_bytes()).map_err(at("write", path))?;
    Ok(())
}

fn become_root() -> Result<(), UsernsError> {
    use rustix::process::DumpableBehavior;
    use rustix::thread::{set_thread_res_gid, set_thread_res_uid};
    let (root, group) = (rustix::process::Uid::ROOT, rustix::process::Gid::ROOT);
    let failed = |attempt| {
        move |errno: rustix::io::Errno| UsernsError::Step { attempt, source: errno.into() }
    };
    set_thread_res_gid(group, group, group).map_err(failed("become the root group"))?;
    set_thread_res_uid(root, root, root).map_err(failed("become root of the user namespace"))?;
    // The change of ids hides our files in /proc from ourselves, those of our namespaces among
    // them.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)
        .map_err(failed("make the own process visible"))?;
    crate::mount::make_all_downstream().map_err(step("separate the mounts from the host's"))
}

fn step(attempt: &'static str) -> impl FnOnce(io::Error) -> UsernsError {
    move |source| UsernsError::Step { attempt, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_found_by_name_and_by_number() {
        let text = "alice:100000:65536\n1000:300000:10\n\nbob:1:2:3\nalice:200000:5\nalice:x:1\n\
            alice:4294967295:9\nalice:7:0\n";
        let found = subordinate(text, Some("alice"), Some(1000));
        assert_eq!(found, [(100_000, 65536), (300_000, 10), (200_000, 5)]);
        assert!(subordinate(text, None, Some(5)).is_empty());
        assert!(subordinate(":1:2", Some(""), None).is_empty());
    }

    #[test]
    fn a_map_is_read_as_it_was_written() {
        let ranges = parse_map("         0       1000          1\n 1 100000 65536\n");
        assert_eq!(format_map(&ranges), "0 1000 1\n1 100000 65536\n");
        assert!(!is_whole_system(&ranges));
        assert!(is_whole_system(&parse_map("0 0 4294967295")));
        assert!(parse_map("0 0\nx y z\n").is_empty());
    }

    #[test]
    fn several_ranges_follow_each_other_behind_root() {
        let arguments = map_arguments(1000, &[(100_000, 65536), (300_000, 10)]);
        assert_eq!(arguments.join(" "), "0 1000 1 1 100000 65536 65537 300000 10");
    }

    #[test]
    fn a_range_that_holds_the_own_id_is_left_out() {
        assert_eq!(without(&[(1000, 10), (2000, 10)], 1005), [(2000, 10)]);
    }
}
