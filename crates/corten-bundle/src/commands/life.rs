//! A container from `create` to `delete`.

use std::os::fd::AsFd;

use corten_sys::file;
use corten_sys::socket;

use super::{Engine, ListEntry, MakeOptions};
use crate::cgroup::{Hierarchies, settings};
use crate::config::{CONFIG_BYTES_MAX, Resources};
use crate::error::{BundleError, failed, invalid};
use crate::hooks::{self, State};
use crate::make;
use crate::signal;
use crate::state::{Home, Record, Status};
use crate::told::{START, Told};

/// What is sent to whom.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KillOptions {
    /// Empty is TERM.
    pub signal: String,
    /// To all processes of the container's control group.
    pub all: bool,
}

impl Engine {
    /// Makes a container that waits for `start`. Returns what is otherwise than asked for.
    pub fn create(&self, id: &str, options: &MakeOptions) -> Result<Vec<String>, BundleError> {
        make::create(self, id, options, None).map(|made| made.warnings)
    }

    /// Lets the program of a container begin.
    pub fn start(&self, id: &str) -> Result<(), BundleError> {
        let home = self.states.find(id)?;
        let _lock = home.lock()?;
        let record = home.record()?;
        match home.status(&record)? {
            Status::Created => start(&home, &record),
            Status::Stopped => Err(BundleError::NotRunning {
                action: "start",
                id: id.to_owned(),
                status: Status::Stopped,
            }),
            status => Err(BundleError::WrongStatus { action: "start", id: id.to_owned(), status }),
        }
    }

    /// The state of a container.
    pub fn state(&self, id: &str) -> Result<ListEntry, BundleError> {
        let home = self.states.find(id)?;
        let record = home.record()?;
        entry(&home, record)
    }

    /// The states of all containers; what cannot be read is told with them.
    pub fn list(&self) -> Result<(Vec<ListEntry>, Vec<BundleError>), BundleError> {
        let (mut entries, mut errors) = (Vec::new(), Vec::new());
        for home in self.states.all()? {
            match home.record().and_then(|record| entry(&home, record)) {
                Ok(entry) => entries.push(entry),
                // It was removed meanwhile.
                Err(BundleError::Absent { .. }) => {}
                Err(error) => errors.push(error),
            }
        }
        Ok((entries, errors))
    }

    /// Sends a signal.
    pub fn kill(&self, id: &str, options: &KillOptions) -> Result<(), BundleError> {
        let name = if options.signal.is_empty() { "TERM" } else { &options.signal };
        let signal = signal::parse(name)?;
        let home = self.states.find(id)?;
        let record = home.record()?;
        let not_running =
            |status| BundleError::NotRunning { action: "signal", id: id.to_owned(), status };
        if options.all {
            // Where they share the processes of others, some may outlive the first one.
            record.groups.signal(signal)?;
            return thaw_if_killed(&record, signal);
        }
        let process = match home.status(&record)? {
            status @ (Status::Stopped | Status::Creating) => return Err(not_running(status)),
            _ => record.process().ok_or_else(|| not_running(Status::Stopped))?,
        };
        match process.signal(signal) {
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {
                return Err(not_running(Status::Stopped));
            }
            other => other.map_err(failed(format!("signal container `{id}`")))?,
        }
        thaw_if_killed(&record, signal)
    }

    /// Removes a container that has ended; with `force` ends it first, and none is fine, too. Returns
    /// what was wrong with hooks.
    pub fn delete(&self, id: &str, force: bool) -> Result<Vec<BundleError>, BundleError> {
        let home = match self.states.find(id) {
            Err(BundleError::Absent { .. }) if force => return Ok(Vec::new()),
            other => other?,
        };
        let _lock = home.lock()?;
        let record = match home.record() {
            // Its maker was killed before it had made anything.
            Err(BundleError::Absent { .. }) => {
                home.remove()?;
                return Ok(Vec::new());
            }
            other => other?,
        };
        // The lock is ours: a maker that still makes it would hold it.
        let status = if record.pid == 0 { Status::Stopped } else { home.status(&record)? };
        if status != Status::Stopped {
            if !force {
                return Err(BundleError::WrongStatus {
                    action: "delete",
                    id: id.to_owned(),
                    status,
                });
            }
            end(&record)?;
        }
        remove(&home, &record)
    }

    /// Halts all processes of a container.
    pub fn pause(&self, id: &str) -> Result<(), BundleError> {
        let home = self.states.find(id)?;
        let _lock = home.lock()?;
        let record = home.record()?;
        match home.status(&record)? {
            Status::Running | Status::Created => record.groups.freeze(true),
            status => Err(BundleError::WrongStatus { action: "pause", id: id.to_owned(), status }),
        }
    }

    /// Lets the processes of a halted container go on.
    pub fn resume(&self, id: &str) -> Result<(), BundleError> {
        let home = self.states.find(id)?;
        let _lock = home.lock()?;
        let record = home.record()?;
        match home.status(&record)? {
            Status::Paused => record.groups.freeze(false),
            status => Err(BundleError::WrongStatus { action: "resume", id: id.to_owned(), status }),
        }
    }

    /// Changes the limits of a container.
    pub fn update(&self, id: &str, update: &Update) -> Result<(), BundleError> {
        let resources = update.resources()?;
        let home = self.states.find(id)?;
        let _lock = home.lock()?;
        let record = home.record()?;
        let status = home.status(&record)?;
        if matches!(status, Status::Stopped | Status::Creating) {
            let (action, id) = ("update", id.to_owned());
            return Err(BundleError::NotRunning { action, id, status });
        }
        let unified = Hierarchies::gather()?.is_unified();
        let settings = settings::plan(&resources, unified)?;
        record.groups.update(&settings)
    }

    /// The processes of a container.
    pub fn processes(&self, id: &str) -> Result<Vec<u32>, BundleError> {
        let record = self.states.find(id)?.record()?;
        record.groups.processes()
    }
}

/// What is asked of `update`: a part of a configuration, or single values.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Update {
    /// JSON with the resources of the specification; it goes before the single values.
    pub json: Option<Vec<u8>>,
    pub blkio_weight: Option<u16>,
    pub cpu_period: Option<u64>,
    pub cpu_quota: Option<i64>,
    pub cpu_burst: Option<u64>,
    pub cpu_shares: Option<u64>,
    pub cpu_rt_period: Option<u64>,
    pub cpu_rt_runtime: Option<i64>,
    pub cpu_idle: Option<i64>,
    pub cpuset_cpus: Option<String>,
    pub cpuset_mems: Option<String>,
    pub memory: Option<i64>,
    pub memory_reservation: Option<i64>,
    pub memory_swap: Option<i64>,
    pub pids_limit: Option<i64>,
}

impl Update {
    fn resources(&self) -> Result<Resources, BundleError> {
        if let Some(json) = &self.json {
            if u64::try_from(json.len()).unwrap_or(u64::MAX) > CONFIG_BYTES_MAX {
                return Err(invalid("the resources are too long"));
            }
            return serde_json::from_slice(json)
                .map_err(|source| BundleError::Json { path: "resources".into(), source });
        }
        let mut resources = Resources::default();
        let cpu = resources.cpu.get_or_insert_default();
        cpu.period = self.cpu_period;
        cpu.quota = self.cpu_quota;
        cpu.burst = self.cpu_burst;
        cpu.shares = self.cpu_shares;
        cpu.realtime_period = self.cpu_rt_period;
        cpu.realtime_runtime = self.cpu_rt_runtime;
        cpu.idle = self.cpu_idle;
        cpu.cpus = self.cpuset_cpus.clone().unwrap_or_default();
        cpu.mems = self.cpuset_mems.clone().unwrap_or_default();
        let memory = resources.memory.get_or_insert_default();
        memory.limit = self.memory;
        memory.reservation = self.memory_reservation;
        memory.swap = self.memory_swap;
        resources.pids.get_or_insert_default().limit = self.pids_limit;
        resources.block_io.get_or_insert_default().weight = self.blkio_weight;
        Ok(resources)
    }
}

fn entry(home: &Home, record: Record) -> Result<ListEntry, BundleError> {
    let status = home.status(&record)?;
    Ok(ListEntry {
        oci_version: record.oci_version,
        id: record.id,
        pid: if status == Status::Stopped { 0 } else { record.pid },
        status,
        bundle: record.bundle,
        rootfs: record.rootfs,
        created: record.created,
        annotations: record.annotations,
        owner: record.owner,
    })
}

/// A halted process takes no signal, not even the last one, before version 2 of control groups.
fn thaw_if_killed(record: &Record, signal: i32) -> Result<(), BundleError> {
    if signal == libc::SIGKILL && record.groups.is_frozen() {
        return record.groups.freeze(false);
    }
    Ok(())
}

/// Says the word, and runs the hooks that are due then.
pub(super) fn start(home: &Home, record: &Record) -> Result<(), BundleError> {
    let connection = home.connect()?.ok_or_else(|| BundleError::NotRunning {
        action: "start",
        id: home.id.clone(),
        status: Status::Stopped,
    })?;
    socket::send(connection.as_fd(), START, &[])
        .map_err(failed("speak to the container's first process"))?;
    // The end comes when the program is executed: everything in there is closed then.
    if let Some(Told::Failed { failure }) = Told::receive(connection.as_fd())? {
        return Err(BundleError::Init(failure));
    }
    file::absent_is_none(file::remove_file(&home.socket_path()))?;
    let config = home.config()?;
    let Some(hooks) = config.hooks.filter(|hooks| !hooks.poststart.is_empty()) else {
        return Ok(());
    };
    let state = State::of(record, Status::Running, record.pid).text();
    let ran = hooks::run("poststart", &hooks.poststart, &state);
    if ran.is_err() {
        // The first error is the one to tell; what is left is removed by `delete`.
        end(record).unwrap_or_default();
    }
    ran
}

/// Ends all processes of a container.
pub(super) fn end(record: &Record) -> Result<(), BundleError> {
    if let Some(process) = record.process() {
        process.kill().map_err(failed("end the container's first process"))?;
        thaw_if_killed(record, libc::SIGKILL)?;
        process.wait_end(None).map_err(failed("wait for the container's first process"))?;
    }
    record.groups.end()
}

/// Removes what there is of a container that has ended.
pub(super) fn remove(home: &Home, record: &Record) -> Result<Vec<BundleError>, BundleError> {
    // In namespaces of others, some may outlive the first one.
    record.groups.end()?;
    record.groups.remove()?;
    if record.shares_mounts {
        make::unmount(&record.rootfs)
            .map_err(failed(format!("unmount `{}`", record.rootfs.display())))?;
    }
    let hooks = home.config().ok().and_then(|config| config.hooks).unwrap_or_default();
    home.remove()?;
    let state = State::of(record, Status::Stopped, 0).text();
    Ok(hooks::run_all("poststop", &hooks.poststop, &state))
}
