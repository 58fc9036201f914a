//! `corten oci` against the runtime specification: one bundle, a check within the container, and what it
//! must say, for each thing that the specification asks for; then the life of containers.

mod devices;
mod exec;
mod hooks;
mod life;
mod limits;
mod mounts;
mod namespaces;
mod process;

use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};

use corten_sys::command::Command;
use corten_sys::file;
use corten_sys::process::Ended;
use corten_testkit::{Output, TestContext, context, rootfs};
use serde_json::{Value, json};

/// What the checks are made of.
const PROGRAMS: &[&str] = &[
    "cat", "chmod", "echo", "env", "grep", "head", "hostname", "id", "ln", "ls", "mkdir", "mount",
    "mv", "pwd", "readlink", "rm", "sed", "sleep", "sort", "stat", "touch", "tr", "true", "umount",
    "uname", "wc", "chrt", "ionice", "taskset", "unshare", "tty", "stty", "test",
];

/// A place for bundles, their root file system, and the states of their containers.
pub(super) struct Bundles {
    pub context: TestContext,
    /// Part of each id: tests run beside each other, and groups are the host's.
    tag: String,
}

/// A thing that the specification asks for.
pub(super) struct Case {
    pub name: &'static str,
    /// What the configuration has besides; a key with a `+` adds to a list.
    pub config: Value,
    /// A shell's, within the container.
    pub check: &'static str,
    /// What it must say.
    pub expected: &'static str,
}

impl Bundles {
    pub(super) fn new() -> Self {
        let context = context!();
        let root = context.work_dir().join("rootfs");
        rootfs::make(&root, PROGRAMS);
        let name = context.work_dir();
        let hash = name.as_os_str().as_encoded_bytes().iter();
        let hash = hash.fold(5381_u64, |hash, byte| hash.wrapping_mul(33) ^ u64::from(*byte));
        Self { context, tag: format!("t{hash:x}") }
    }

    pub(super) fn rootfs(&self) -> PathBuf {
        self.context.work_dir().join("rootfs")
    }

    pub(super) fn id(&self, name: &str) -> String {
        format!("{}-{name}", self.tag)
    }

    /// Writes a bundle and returns its directory.
    pub(super) fn bundle(&self, name: &str, more: &Value) -> PathBuf {
        let mut config = self.config();
        config["linux"]["cgroupsPath"] = json!(format!("/{}", self.id(name)));
        merge(&mut config, more);
        let path = format!("{name}/config.json");
        let path = self.context.write(path, config.to_string());
        path.parent().map(Path::to_owned).unwrap_or_default()
    }

    fn config(&self) -> Value {
        let all = [
            "CAP_CHOWN",
            "CAP_DAC_OVERRIDE",
            "CAP_FOWNER",
            "CAP_KILL",
            "CAP_MKNOD",
            "CAP_NET_ADMIN",
            "CAP_SETGID",
            "CAP_SETUID",
            "CAP_SYS_ADMIN",
        ];
        json!({
            "ociVersion": "1.2.0",
            "root": {"path": self.rootfs()},
            "process": {
                "args": ["sh", "-c", "true"],
                "env": ["PATH=/usr/bin", "LC_ALL=C"],
                "cwd": "/",
                "user": {"uid": 0, "gid": 0},
                "capabilities": {"bounding": all, "effective": all, "permitted": all},
            },
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
                    "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
                {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
                    "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
                {"destination": "/sys", "type": "sysfs", "source": "sysfs",
                    "options": ["nosuid", "noexec", "nodev", "ro"]},
            ],
            "linux": {
                "namespaces": [
                    {"type": "pid"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"}, {"type": "network"},
                ],
            },
        })
    }

    pub(super) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).run()
    }

    pub(super) fn command(&self, arguments: &[&str]) -> corten_testkit::Invocation<'_> {
        let states = self.context.work_dir().join("states");
        let states = states.to_string_lossy().into_owned();
        let mut words = vec!["oci", "--root", &states];
        words.extend(arguments);
        self.context.command(words)
    }

    /// Runs a command that leaves a process with its standard descriptors behind: they go to a file.
    /// Returns its code and what it said.
    pub(super) fn begin(&self, arguments: &[&str]) -> (Option<i32>, String) {
        let path = self.context.write("said", "");
        let said = file::open_to_append(&path, 0o600).expect("opened");
        let states = self.context.work_dir().join("states");
        let child = Command::new(env!("CARGO_BIN_EXE_corten"))
            .args(["oci", "--root"])
            .arg(states)
            .args(arguments)
            .descriptor(1, said.as_fd())
            .descriptor(2, said.as_fd())
            .spawn()
            .expect("started");
        let code = match child.handle.wait().expect("a report").ended {
            Ended::Code(code) => Some(code),
            Ended::Signal(_) => None,
        };
        (code, text(&path))
    }

    /// The same for a command that must succeed.
    pub(super) fn begun(&self, arguments: &[&str]) {
        let (code, said) = self.begin(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {said}");
    }

    /// Runs a bundle whose program is a line for the shell.
    pub(super) fn run_line(&self, name: &str, more: &Value, line: &str) -> Output {
        let mut more = more.clone();
        if more["process"]["args"].is_null() {
            merge(&mut more, &json!({"process": {"args": ["sh", "-c", line]}}));
        }
        let bundle = self.bundle(name, &more);
        self.run(&["run", "--bundle", &bundle.to_string_lossy(), &self.id(name)])
    }

    /// Checks all cases, and tells of all that are otherwise.
    pub(super) fn check(&self, cases: &[Case]) {
        let mut wrong = Vec::new();
        for case in cases {
            let output = self.run_line(case.name, &case.config, case.check);
            let said = output.stdout().trim_end();
            if output.status.code() != Some(0) || said != case.expected.trim_end() {
                wrong.push(format!(
                    "{}: expected {:?}, found {:?}, code {:?}: {}",
                    case.name,
                    case.expected,
                    said,
                    output.status.code(),
                    output.stderr()
                ));
            }
        }
        assert!(
            wrong.is_empty(),
            "{} of {} wrong:\n{}",
            wrong.len(),
            cases.len(),
            wrong.join("\n")
        );
        let left = self.run(&["list", "--quiet"]);
        assert_eq!(left.success().stdout(), "", "nothing is left");
    }

    /// Checks that bundles are refused, and why, and that nothing is left of them.
    pub(super) fn check_refused(&self, cases: &[(&str, Value, &str)]) {
        for (name, more, why) in cases {
            let output = self.run_line(name, more, "true");
            assert_eq!(output.status.code(), Some(1), "{name}: {}", output.snapshot());
            assert!(output.stderr().contains(why), "{name}: {}", output.stderr());
        }
        assert_eq!(self.run(&["list", "--quiet"]).success().stdout(), "");
    }

    /// The state of a container.
    pub(super) fn state(&self, id: &str) -> Value {
        let output = self.run(&["state", id]).success();
        serde_json::from_str(output.stdout()).expect("JSON")
    }

    /// Waits until a container has this status.
    pub(super) fn until(&self, id: &str, status: &str) {
        for _ in 0..1000 {
            if self.state(id)["status"] == status {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        panic!("it is not {status}: {}", self.state(id));
    }
}

impl Drop for Bundles {
    fn drop(&mut self) {
        // A test that failed may have left containers; those of a good one are gone.
        let output = self.run(&["list", "--quiet"]);
        for id in output.stdout().lines() {
            self.run(&["delete", "--force", id]);
        }
        // A container's own groups go with it; those above them are of whoever named them.
        for controller in file::list_dir(Path::new("/sys/fs/cgroup")).unwrap_or_default() {
            remove_groups(&Path::new("/sys/fs/cgroup").join(controller), &self.tag);
        }
    }
}

/// Removes empty groups whose names begin so, and those below them.
fn remove_groups(parent: &Path, prefix: &str) {
    for name in file::list_dir(parent).unwrap_or_default() {
        let path = parent.join(&name);
        if name.to_string_lossy().starts_with(prefix) && path.is_dir() {
            remove_groups(&path, "");
            file::remove_dir(&path).unwrap_or_default();
        }
    }
}

/// Puts one value over another; lists are replaced, or with a `+` before the key continued.
pub(super) fn merge(into: &mut Value, more: &Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                if let (Some(key), Value::Array(items)) = (key.strip_prefix('+'), value) {
                    let list = into.entry(key).or_insert_with(|| json!([]));
                    list.as_array_mut().expect("a list").extend(items.iter().cloned());
                } else {
                    merge(into.entry(key.as_str()).or_insert(Value::Null), value);
                }
            }
        }
        (into, more) => *into = more.clone(),
    }
}

/// A file's content without the white space at its end.
pub(super) fn text(path: &Path) -> String {
    let bytes = file::read(path).expect("readable");
    String::from_utf8_lossy(&bytes).trim_end().to_owned()
}
