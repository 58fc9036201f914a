//! `exec`: a further program in a container.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use corten_sys::process::PidFd;
use corten_sys::{namespace, socket};
use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_setaffinity};

use super::Engine;
use super::run::attend;
use crate::cgroup::{self, Groups, Version};
use crate::config::{Capabilities, Config, Process};
use crate::error::{BundleError, failed, invalid};
use crate::init::Given;
use crate::make;
use crate::plan::{self, Choices};
use crate::state::{Record, Status, put};
use crate::told::{GO, Told};

/// What is asked of `exec`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecOptions {
    /// A description of the whole process; the single values are for the one without.
    pub process: Option<PathBuf>,
    pub console_socket: Option<PathBuf>,
    pub pid_file: Option<PathBuf>,
    pub detach: bool,
    pub preserve_fds: u32,
    pub cwd: Option<PathBuf>,
    pub env: Vec<String>,
    pub tty: bool,
    /// `UID[:GID]`
    pub user: Option<String>,
    pub additional_gids: Vec<u32>,
    pub capabilities: Vec<String>,
    pub apparmor: Option<String>,
    pub process_label: Option<String>,
    pub no_new_privileges: bool,
    /// `PATH` or `CONTROLLER[,CONTROLLER]:PATH`, below the container's own groups.
    pub cgroup: Vec<String>,
    pub ignore_paused: bool,
    pub args: Vec<String>,
}

impl ExecOptions {
    /// The description of the process, from the file or from the container's own.
    fn process(&self, config: &Config) -> Result<Process, BundleError> {
        if let Some(path) = &self.process {
            return make::read_process(path);
        }
        let mut process = config.process.clone().unwrap_or_default();
        process.args.clone_from(&self.args);
        process.terminal = self.tty;
        process.env.extend(self.env.iter().cloned());
        if let Some(cwd) = &self.cwd {
            process.cwd.clone_from(cwd);
        }
        if let Some(user) = &self.user {
            let (uid, gid) = user.split_once(':').unwrap_or((user, ""));
            let number = |text: &str| {
                text.parse()
                    .map_err(|_| invalid(format!("`{user}` is not of the form `UID[:GID]`")))
            };
            process.user.uid = number(uid)?;
            if !gid.is_empty() {
                process.user.gid = number(gid)?;
            }
        }
        process.user.additional_gids.extend(&self.additional_gids);
        if !self.capabilities.is_empty() {
            let sets = process.capabilities.get_or_insert_with(Capabilities::default);
            for set in [&mut sets.bounding, &mut sets.effective, &mut sets.permitted] {
                set.extend(self.capabilities.iter().cloned());
            }
        }
        process.no_new_privileges |= self.no_new_privileges;
        if let Some(profile) = &self.apparmor {
            process.apparmor_profile.clone_from(profile);
        }
        if let Some(label) = &self.process_label {
            process.selinux_label.clone_from(label);
        }
        Ok(process)
    }
}

impl Engine {
    /// Runs a further program; returns its exit code, or 0 at once with `detach`, and what is otherwise
    /// than asked for.
    pub fn exec(&self, id: &str, options: &ExecOptions) -> Result<(i32, Vec<String>), BundleError> {
        let home = self.states.find(id)?;
        let record = home.record()?;
        let status = home.status(&record)?;
        match status {
            Status::Running | Status::Created => {}
            Status::Paused if options.ignore_paused => {}
            Status::Paused => {
                let (action, id) = ("exec in", id.to_owned());
                return Err(BundleError::WrongStatus { action, id, status });
            }
            _ => {
                let (action, id) = ("exec in", id.to_owned());
                return Err(BundleError::NotRunning { action, id, status });
            }
        }
        let container = record.process().ok_or_else(|| BundleError::NotRunning {
            action: "exec in",
            id: id.to_owned(),
            status: Status::Stopped,
        })?;
        let config = home.config()?;
        let process = options.process(&config)?;
        let facts = make::gather()?;
        let choices = Choices { preserve_fds: options.preserve_fds, ..Choices::default() };
        let in_users = record.namespaces & namespace::USER != 0;
        let (steps, program, warnings) =
            plan::plan_exec(&config, &process, &choices, &facts, in_users)?;
        let own = if process.terminal && options.console_socket.is_none() && !options.detach {
            Some(socket::pair().map_err(failed("make a socket"))?)
        } else {
            None
        };
        let (ours, theirs) = own.unzip();
        let console = make::console(process.terminal, theirs, options.console_socket.as_deref())?;
        let groups = below(&record.groups, &options.cgroup)?;
        let affinity = plan::affinity(&process)?;
        let started = Started { record: &record, container: &container, groups: &groups, affinity };
        let further = started.make(console, &steps, &program)?;
        if let Some(path) = &options.pid_file {
            put(path, further.pid.to_string().as_bytes(), 0o644)?;
        }
        if options.detach {
            return Ok((0, warnings));
        }
        Ok((attend(&further.process, ours.as_ref())?, warnings))
    }
}

struct Started<'a> {
    record: &'a Record,
    container: &'a PidFd,
    groups: &'a [(PathBuf, bool)],
    affinity: plan::Affinity,
}

struct Further {
    pid: u32,
    process: PidFd,
}

impl Started<'_> {
    /// Makes the process and waits until its program runs.
    fn make(
        &self,
        console: Option<OwnedFd>,
        steps: &[plan::steps::Step],
        program: &plan::steps::Program,
    ) -> Result<Further, BundleError> {
        let (control, theirs) = socket::pair().map_err(failed("make a socket"))?;
        let given = Given {
            control: theirs,
            listener: None,
            console,
            sources: Vec::new(),
            lock: None,
            state: String::new(),
        };
        let record = self.record;
        let root = record.no_pivot.then(|| make::root_of(record.pid)).transpose()?;
        let namespaces = different(record.pid, record.namespaces)?;
        let how = (steps, program);
        let (pid, control) =
            make::further(self.container, namespaces, root.as_ref(), given, control, how)?;
        let process = PidFd::open(pid).map_err(failed("watch the process"))?;
        let told = self.let_go(pid, &control);
        if told.is_err() {
            // The first error is the one to tell.
            process.kill().unwrap_or_default();
            process.wait().map(drop).unwrap_or_default();
        }
        told.map(|()| Further { pid, process })
    }

    fn let_go(&self, pid: u32, control: &OwnedFd) -> Result<(), BundleError> {
        if let Some(initial) = &self.affinity.initial {
            set_affinity(pid, initial)?;
        }
        for (group, _) in self.groups {
            cgroup::write(&group.join("cgroup.procs"), &pid.to_string())?;
        }
        if let Some(last) = &self.affinity.last {
            set_affinity(pid, last)?;
        }
        let attempt = "speak to the process";
        match socket::send(control.as_fd(), format!("{GO} {pid}").as_bytes(), &[]) {
            // It has failed meanwhile, and its report of that comes next.
            Err(error) if make::is_gone(&error) => {}
            other => other.map_err(failed(attempt))?,
        }
        match Told::receive(control.as_fd())? {
            // The program was executed, and everything of ours was closed with that.
            None => Ok(()),
            Some(Told::Failed { failure }) => Err(BundleError::Init(failure)),
            Some(_) => Err(BundleError::InitLost),
        }
    }
}

fn set_affinity(pid: u32, processors: &[usize]) -> Result<(), BundleError> {
    let mut set = CpuSet::new();
    for processor in processors {
        set.set(*processor);
    }
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    sched_setaffinity(pid, &set).map_err(failed("set the processors of the process"))
}

/// Those of the container's namespaces that are not ours: a user namespace that is ours already cannot be
/// joined.
fn different(pid: u32, namespaces: u64) -> Result<u64, BundleError> {
    let own = std::process::id();
    let mut found = 0;
    for (_, kind, bit) in plan::NAMESPACES.iter().filter(|one| namespaces & one.2 != 0) {
        if namespace::identity(pid, kind)? != namespace::identity(own, kind)? {
            found |= bit;
        }
    }
    Ok(found)
}

/// The directories of the groups for a further process.
fn below(groups: &Groups, given: &[String]) -> Result<Vec<(PathBuf, bool)>, BundleError> {
    let mut found: Vec<(PathBuf, bool)> = groups
        .groups
        .iter()
        .map(|group| (group.path.clone(), group.version == Version::V2))
        .collect();
    for text in given {
        let (controllers, path) = text.split_once(':').unwrap_or(("", text));
        let path = Path::new(path.trim_start_matches('/'));
        if path.components().any(|part| part == std::path::Component::ParentDir) {
            return Err(invalid(format!("`{text}` has a `..`")));
        }
        let mut any = false;
        for (place, group) in found.iter_mut().zip(&groups.groups) {
            let chosen = controllers.is_empty()
                || controllers.split(',').any(|name| group.names.iter().any(|own| own == name));
            if chosen {
                place.0 = group.path.join(path);
                any = true;
            }
        }
        if !any {
            return Err(invalid(format!("the container has no control group for `{controllers}`")));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::Group;

    #[test]
    fn single_values_change_the_containers_own_process() {
        let config: Config = serde_json::from_str(
            r#"{"process":{"args":["a"],"cwd":"/x","env":["A=1"],"user":{"uid":1,"gid":2},
                "capabilities":{"bounding":["CAP_KILL"]}}}"#,
        )
        .expect("read");
        let options = ExecOptions {
            args: vec!["b".to_owned()],
            env: vec!["B=2".to_owned()],
            user: Some("7:8".to_owned()),
            capabilities: vec!["CAP_CHOWN".to_owned()],
            no_new_privileges: true,
            ..ExecOptions::default()
        };
        let process = options.process(&config).expect("a process");
        assert_eq!(
            (process.args, process.env),
            (vec!["b".to_owned()], vec!["A=1".to_owned(), "B=2".to_owned()])
        );
        assert_eq!((process.user.uid, process.user.gid), (7, 8));
        assert_eq!(process.capabilities.expect("some").bounding, ["CAP_KILL", "CAP_CHOWN"]);
        assert!(process.no_new_privileges && process.cwd == Path::new("/x"));
        let odd = ExecOptions { user: Some("me".to_owned()), ..ExecOptions::default() };
        assert!(odd.process(&config).is_err());
    }

    #[test]
    fn groups_for_a_further_process_are_below_the_containers() {
        let group = |name: &str| Group {
            path: Path::new("/g").join(name),
            mount: "/g".into(),
            version: Version::V1,
            names: vec![name.to_owned()],
            is_own: true,
        };
        let groups = Groups { groups: vec![group("cpu"), group("pids")] };
        let paths = |given: &[&str]| {
            let given: Vec<String> = given.iter().map(|&text| text.to_owned()).collect();
            below(&groups, &given)
                .map(|found| found.into_iter().map(|one| one.0).collect::<Vec<_>>())
        };
        assert_eq!(paths(&["/a"]).expect("found"), [Path::new("/g/cpu/a"), Path::new("/g/pids/a")]);
        assert_eq!(
            paths(&["cpu:a"]).expect("found"),
            [Path::new("/g/cpu/a"), Path::new("/g/pids")]
        );
        assert!(paths(&["cpu:../b"]).is_err() && paths(&["io:a"]).is_err());
    }
}
