//! The gate before tests that need rights or features of the kernel.
//!
//! A test that cannot run says so and passes, unless `CORTEN_TEST_REQUIRE` demands what it needs:
//! then it fails, so that a gate which believes that it tests isolation does not skip in silence.
//! The variable holds names separated by commas, such as `root,overlay`, or `all`.
//!
//! Runners hide what a passing test prints. The file that `CORTEN_TEST_SKIPS` names therefore gets a
//! line for each skipped test; `cargo xtask ci` prints it at its end.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use corten_sys::file;

use crate::temp::TempDir;

/// The variable that demands needs.
const REQUIRE_VARIABLE: &str = "CORTEN_TEST_REQUIRE";

/// The variable that names the file for skipped tests.
const SKIPS_VARIABLE: &str = "CORTEN_TEST_SKIPS";

/// Something that not every machine gives to a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// User 0 of the host, with every id mapped.
    Root,
    /// User namespaces for whoever runs the test.
    UserNamespaces,
    /// More than one id in a user namespace of an ordinary user: `newuidmap` and `/etc/subuid`.
    SubordinateIds,
    /// Mounting an overlay as root.
    Overlay,
    /// Mounting an overlay inside a user namespace.
    RootlessOverlay,
    /// New network namespaces.
    NetworkNamespaces,
    /// A control group below our own, with memory accounting.
    Cgroup,
    /// A program on the path.
    Program(&'static str),
    /// Programs for 64-bit ARM, by the processor itself or by an emulator that the kernel knows.
    Arm64,
}

/// Every need but programs, which are named `program:NAME`.
const FIXED: [Need; 8] = [
    Need::Root,
    Need::UserNamespaces,
    Need::SubordinateIds,
    Need::Overlay,
    Need::RootlessOverlay,
    Need::NetworkNamespaces,
    Need::Cgroup,
    Need::Arm64,
];

impl fmt::Display for Need {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => formatter.write_str("root"),
            Self::UserNamespaces => formatter.write_str("user-namespaces"),
            Self::SubordinateIds => formatter.write_str("subordinate-ids"),
            Self::Overlay => formatter.write_str("overlay"),
            Self::RootlessOverlay => formatter.write_str("rootless-overlay"),
            Self::NetworkNamespaces => formatter.write_str("network-namespaces"),
            Self::Cgroup => formatter.write_str("cgroup"),
            Self::Arm64 => formatter.write_str("emulation:arm64"),
            Self::Program(name) => write!(formatter, "program:{name}"),
        }
    }
}

/// Ends the test unless the host gives what is needed; fails it if that was demanded.
///
/// ```no_run
/// # use corten_testkit::{require, Need};
/// fn a_layer_is_mounted() {
///     require!(Need::Root, Need::Overlay);
///     // …
/// }
/// ```
#[macro_export]
macro_rules! require {
    ($($need:expr),+ $(,)?) => {
        if !$crate::privilege::is_granted(&[$($need),+]) {
            return;
        }
    };
}

/// Decides for [`require!`]; panics where a demanded need is missing.
#[must_use = "a test whose need is missing must return"]
#[expect(clippy::disallowed_methods, reason = "the test kit is configured by the environment")]
pub fn is_granted(needs: &[Need]) -> bool {
    let demanded = std::env::var(REQUIRE_VARIABLE).unwrap_or_default();
    let missing: Vec<Missing> =
        needs.iter().filter_map(|need| find_missing(*need, probe(*need))).collect();
    match decide(&missing, &demanded) {
        Decision::Run => true,
        Decision::Skip(reason) => {
            let thread = std::thread::current();
            let line = format!("{}: needs {reason}", thread.name().unwrap_or("a test"));
            crate::say(&format!("skipped {line}"));
            if let Some(path) = std::env::var_os(SKIPS_VARIABLE) {
                append(Path::new(&path), &line);
            }
            false
        }
        Decision::Fail(reason) => panic!("{reason}"),
    }
}

/// A need and why the host does not give it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Missing {
    need: Need,
    reason: String,
}

#[derive(Debug, PartialEq, Eq)]
enum Decision {
    Run,
    Skip(String),
    Fail(String),
}

fn find_missing(need: Need, probed: Result<(), String>) -> Option<Missing> {
    probed.err().map(|reason| Missing { need, reason })
}

/// What to do about missing needs, given the text of the variable.
fn decide(missing: &[Missing], demanded: &str) -> Decision {
    let names: Vec<&str> =
        demanded.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    if let Some(unknown) = names.iter().find(|name| !is_known(name)) {
        return Decision::Fail(format!("`{REQUIRE_VARIABLE}` names an unknown need: `{unknown}`"));
    }
    let is_demanded =
        |need: Need| names.iter().any(|name| *name == "all" || *name == need.to_string());
    let describe = |one: &Missing| format!("{} ({})", one.need, one.reason);
    if let Some(one) = missing.iter().find(|one| is_demanded(one.need)) {
        return Decision::Fail(format!("`{REQUIRE_VARIABLE}` demands {}", describe(one)));
    }
    if missing.is_empty() {
        return Decision::Run;
    }
    Decision::Skip(missing.iter().map(describe).collect::<Vec<_>>().join(", "))
}

fn is_known(name: &str) -> bool {
    name == "all"
        || name.strip_prefix("program:").is_some_and(|program| !program.is_empty())
        || FIXED.iter().any(|need| need.to_string() == name)
}

fn append(path: &Path, line: &str) {
    // One write call of one line: lines of tests that run at once do not mix.
    let result = OpenOptions::new()
        .append(true)
        .create(true)
        .open(path)
        .and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
    if let Err(error) = result {
        crate::say(&format!("failed to note a skipped test in `{}`: {error}", path.display()));
    }
}

/// Tries what is needed. The error says what the host answered.
fn probe(need: Need) -> Result<(), String> {
    match need {
        Need::Root => probe_root(),
        Need::UserNamespaces => succeeds("unshare", &["--user", "--map-root-user", "true"]),
        Need::SubordinateIds => {
            succeeds("unshare", &["--user", "--map-root-user", "--map-auto", "true"])
        }
        Need::Overlay => probe_overlay(&["--mount"], ""),
        Need::RootlessOverlay => {
            probe_overlay(&["--user", "--map-root-user", "--mount"], ",userxattr")
        }
        Need::NetworkNamespaces => succeeds("unshare", &["--net", "true"]),
        Need::Cgroup => probe_cgroup(),
        Need::Program(name) => succeeds("sh", &["-c", "command -v -- \"$1\"", "sh", name])
            .map_err(|_| "it is not installed".to_owned()),
        Need::Arm64 => probe_arm64(),
    }
}

/// Executes a program for 64-bit ARM.
fn probe_arm64() -> Result<(), String> {
    let directory = TempDir::new();
    let program = directory.path().join("program");
    file::write_atomic(&program, &crate::foreign::arm64(), 0o755).map_err(|e| chain(&e))?;
    // The directory that it makes is made below a root of its own, or not at all.
    let script = "exec chroot \"$1\" /program >/dev/null";
    let root = directory.path().to_string_lossy().into_owned();
    let namespaces = ["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", &root];
    succeeds("unshare", &namespaces).map_err(|reason| {
        format!(
            "{reason}; as root: `apt-get install qemu-user-static`, then `corten system emulation \
             --register arm64`"
        )
    })
}

fn probe_root() -> Result<(), String> {
    if file::effective_user_id() != 0 {
        return Err("the tests run as an ordinary user".to_owned());
    }
    let map = read("/proc/self/uid_map")?;
    let fields: Vec<&str> = map.split_whitespace().collect();
    if fields == ["0", "0", "4294967295"] {
        Ok(())
    } else {
        Err("the tests run in a user namespace".to_owned())
    }
}

fn probe_overlay(namespaces: &[&str], options: &str) -> Result<(), String> {
    let directory = TempDir::new();
    for name in ["lower", "upper", "work", "merged"] {
        file::create_dir(&directory.path().join(name), 0o700).map_err(|error| error.to_string())?;
    }
    let script = "cd \"$1\" && exec mount -t overlay overlay \
                  -o \"lowerdir=lower,upperdir=upper,workdir=work$2\" merged";
    let path = directory.path().to_string_lossy().into_owned();
    let mut arguments = namespaces.to_vec();
    arguments.extend(["sh", "-c", script, "sh", &path, options]);
    succeeds("unshare", &arguments)
}

/// Makes a control group below the one that holds memory limits, and removes it.
fn probe_cgroup() -> Result<(), String> {
    let membership = read("/proc/self/cgroup")?;
    let mounts = read("/proc/self/mountinfo")?;
    let parent = memory_cgroup(&membership, &mounts)
        .ok_or_else(|| "no control group hierarchy accounts for memory".to_owned())?;
    // Version 2 lists what it accounts for; version 1 has a hierarchy for it, or it has not.
    if let Ok(controllers) = read(&parent.join("cgroup.controllers").to_string_lossy())
        && !controllers.split_whitespace().any(|name| name == "memory")
    {
        return Err("our control group does not account for memory".to_owned());
    }
    let path = parent.join(format!("corten-probe-{}", corten_sys::random::name()));
    file::create_dir(&path, 0o755).map_err(|error| chain(&error))?;
    file::remove_dir(&path).map_err(|error| chain(&error))
}

/// Finds our own control group: version 1 with its memory hierarchy, else version 2.
fn memory_cgroup(membership: &str, mountinfo: &str) -> Option<PathBuf> {
    let mut unified = None;
    for line in membership.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (controllers, path) = (fields.next()?, fields.next()?);
        if controllers.split(',').any(|name| name == "memory") {
            return mount_point(mountinfo, "cgroup", Some("memory"), path);
        }
        if controllers.is_empty() {
            unified = Some(path);
        }
    }
    mount_point(mountinfo, "cgroup2", None, unified?)
}

/// Returns where a control group is in the file system, given the table of mounts.
fn mount_point(
    mountinfo: &str,
    kind: &str,
    controller: Option<&str>,
    cgroup: &str,
) -> Option<PathBuf> {
    mountinfo.lines().find_map(|line| {
        let (left, right) = line.split_once(" - ")?;
        let mut left = left.split(' ').skip(3);
        let (root, target) = (left.next()?, left.next()?);
        let mut right = right.split(' ');
        let is_kind = right.next() == Some(kind);
        let has_controller = controller
            .is_none_or(|name| right.nth(1).is_some_and(|all| all.split(',').any(|c| c == name)));
        let below = cgroup.strip_prefix(root.trim_end_matches('/')).unwrap_or(cgroup);
        (is_kind && has_controller).then(|| Path::new(target).join(below.trim_start_matches('/')))
    })
}

fn read(path: &str) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("failed to read `{path}`: {error}"))
}

fn chain(error: &corten_sys::error::IoError) -> String {
    format!("{error}: {}", error.source)
}

#[expect(clippy::disallowed_methods, reason = "the host is asked with its own tools")]
fn succeeds(program: &str, arguments: &[&str]) -> Result<(), String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("failed to run `{program}`: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    let line = stderr.lines().next().unwrap_or_default().trim();
    Err(if line.is_empty() { format!("`{program}` failed") } else { line.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(need: Need) -> Vec<Missing> {
        vec![Missing { need, reason: "reason".to_owned() }]
    }

    #[test]
    fn a_test_with_all_it_needs_runs() {
        assert_eq!(decide(&[], ""), Decision::Run);
        assert_eq!(decide(&[], "all"), Decision::Run);
    }

    #[test]
    fn a_missing_need_skips_and_says_why() {
        let decision = decide(&missing(Need::Overlay), "root");
        assert_eq!(decision, Decision::Skip("overlay (reason)".to_owned()));
    }

    #[test]
    fn a_missing_need_that_is_demanded_fails() {
        for demanded in ["overlay", "root, overlay", "all"] {
            let decision = decide(&missing(Need::Overlay), demanded);
            let expected = "`CORTEN_TEST_REQUIRE` demands overlay (reason)";
            assert_eq!(decision, Decision::Fail(expected.to_owned()), "{demanded}");
        }
        let decision = decide(&missing(Need::Program("skopeo")), "program:skopeo");
        assert!(matches!(decision, Decision::Fail(_)));
    }

    #[test]
    fn a_misspelled_demand_fails_instead_of_demanding_nothing() {
        let expected = "`CORTEN_TEST_REQUIRE` names an unknown need: `overly`";
        assert_eq!(decide(&[], "overly"), Decision::Fail(expected.to_owned()));
    }

    #[test]
    fn a_program_is_looked_for_on_the_path() {
        assert_eq!(probe(Need::Program("sh")), Ok(()));
        let absent = probe(Need::Program("corten-no-such-program"));
        assert_eq!(absent, Err("it is not installed".to_owned()));
    }

    #[test]
    fn a_need_that_is_not_met_says_why() {
        for need in FIXED {
            if let Err(reason) = probe(need) {
                assert!(!reason.is_empty(), "{need}");
                crate::say(&format!("{need} ({reason})"));
            }
        }
    }

    #[test]
    fn the_memory_cgroup_is_found_in_both_versions() {
        let membership = "4:memory:/a/b\n0::/\n";
        let mounts = "30 1 0:26 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                      31 1 0:27 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        let found = memory_cgroup(membership, mounts);
        assert_eq!(found, Some(PathBuf::from("/sys/fs/cgroup/memory/a/b")));

        let mounts = "30 1 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = memory_cgroup("0::/user.slice/u\n", mounts);
        assert_eq!(found, Some(PathBuf::from("/sys/fs/cgroup/user.slice/u")));

        let bound = "30 1 0:26 /user.slice /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let found = memory_cgroup("0::/user.slice/u\n", bound);
        assert_eq!(found, Some(PathBuf::from("/sys/fs/cgroup/u")));
        assert_eq!(memory_cgroup("", mounts), None);
    }
}
