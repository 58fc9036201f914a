//! `corten oci`: arguments to the engine, and what engines read of us: exit codes, the log, JSON.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use corten_bundle::{
    BundleError, Engine, ExecOptions, KillOptions, ListEntry, MakeOptions, Update,
};
use corten_sys::command::{Command, find_program};
use corten_sys::file;
use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::oci::{
    LogFormat, OciCli, OciCommand, OciExecArgs, OciFormat, OciGlobal, OciMakeArgs, OciPsArgs,
    OciSpecArgs, OciUpdateArgs,
};
use crate::settings::{Environment, SEARCH_PATH};
use crate::ui::Ui;

/// What `runc` exits with when a command fails.
const EXIT_FAILED: u8 = 1;
/// The same for `exec`, whose other codes are those of programs.
const EXIT_EXEC_FAILED: u8 = 255;
/// A list of the processes of a large machine.
const PS_BYTES_MAX: u64 = 64 << 20;
const CONFIG_FILE: &str = "config.json";

/// Runs the command line behind `corten oci`, or of a program of another name.
pub(crate) fn main(arguments: &[OsString], environment: &Environment, ui: &Ui) -> ExitCode {
    let name = OsString::from("corten oci");
    let cli = match OciCli::try_parse_from(std::iter::once(&name).chain(arguments)) {
        Ok(cli) => cli,
        Err(error) => return show(&error, arguments, ui),
    };
    let OciCli { global, command } = cli;
    let is_exec = matches!(command, OciCommand::Exec(_));
    let log = Log { global: &global, ui };
    match run(&global, command, arguments, environment, &log) {
        Ok(code) => code,
        Err(error) => {
            log.error(&error);
            ExitCode::from(if is_exec { EXIT_EXEC_FAILED } else { EXIT_FAILED })
        }
    }
}

/// Help goes to standard output; `--version` is in the form that engines take apart.
fn show(error: &clap::Error, arguments: &[OsString], ui: &Ui) -> ExitCode {
    use clap::error::ErrorKind;
    match error.kind() {
        ErrorKind::DisplayVersion => {
            ui.line(&format!("corten-oci version {}", env!("CARGO_PKG_VERSION")));
            ui.line("spec: 1.2.0");
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelp => {
            ui.data(&error.render().to_string());
            ExitCode::SUCCESS
        }
        _ => {
            ui.raw_error(&error.render().to_string());
            let is_exec = arguments.iter().any(|argument| argument == "exec");
            ExitCode::from(if is_exec { EXIT_EXEC_FAILED } else { EXIT_FAILED })
        }
    }
}

/// Where failures and warnings are told.
struct Log<'a> {
    global: &'a OciGlobal,
    ui: &'a Ui,
}

impl Log<'_> {
    fn error(&self, error: &BundleError) {
        let line = error.line();
        self.write("error", &line);
        self.ui.raw_error(&format!("error: {line}\n"));
        if let Some(hint) = error.hint() {
            self.ui.hint(&hint);
        }
    }

    fn warning(&self, text: &str) {
        self.write("warning", text);
        if self.global.log.is_none() {
            self.ui.warning(text);
        }
    }

    fn warnings(&self, texts: &[String]) {
        for text in texts {
            self.warning(text);
        }
    }

    /// Appends a line; what cannot be logged is said.
    fn write(&self, level: &str, text: &str) {
        let Some(path) = &self.global.log else { return };
        let time = corten_bundle::now();
        let line = match self.global.log_format {
            LogFormat::Json => json!({ "level": level, "msg": text, "time": time }).to_string(),
            LogFormat::Text => format!("time=\"{time}\" level={level} msg={text:?}"),
        };
        let appended = file::open_to_append(path, 0o644)
            .and_then(|log| file::write_all(&log, path, format!("{line}\n").as_bytes()));
        if let Err(error) = appended {
            self.ui.error(&error, &[]);
        }
    }
}

fn run(
    global: &OciGlobal,
    command: OciCommand,
    arguments: &[OsString],
    environment: &Environment,
    log: &Log<'_>,
) -> Result<ExitCode, BundleError> {
    if matches!(command, OciCommand::Create(_) | OciCommand::Run(_) | OciCommand::Exec(_)) {
        corten_bundle::protect(arguments, &environment.pairs())?;
    }
    let root = global.root.clone().unwrap_or_else(|| default_root(environment));
    let engine = Engine::new(&root, global.systemd_cgroup)?;
    if global.systemd_cgroup && matches!(command, OciCommand::Create(_) | OciCommand::Run(_)) {
        log.write("info", "control groups are made at systemd's paths directly, without systemd");
    }
    let done = Ok(ExitCode::SUCCESS);
    match command {
        OciCommand::Create(create) => {
            let options = make_options(&create.make, environment);
            let warnings = engine.create(&create.id, &options)?;
            log.warnings(&warnings);
            done
        }
        OciCommand::Run(run) => {
            let options = make_options(&run.make, environment);
            let outcome = engine.run(&run.id, &options, run.detach, run.keep)?;
            log.warnings(&outcome.warnings);
            Ok(code(outcome.code))
        }
        OciCommand::Exec(exec) => {
            let (exit, warnings) = engine.exec(&exec.id, &exec_options(&exec))?;
            log.warnings(&warnings);
            Ok(code(exit))
        }
        OciCommand::Start(start) => engine.start(&start.id).and(done),
        OciCommand::Kill(kill) => {
            let options = KillOptions { signal: kill.signal, all: kill.all };
            engine.kill(&kill.id, &options).and(done)
        }
        OciCommand::Delete(delete) => {
            let errors = engine.delete(&delete.id, delete.force)?;
            log.warnings(&errors.iter().map(BundleError::line).collect::<Vec<_>>());
            done
        }
        OciCommand::Pause(pause) => engine.pause(&pause.id).and(done),
        OciCommand::Resume(resume) => engine.resume(&resume.id).and(done),
        other => look(&engine, other, log),
    }
}

/// The commands that print.
fn look(engine: &Engine, command: OciCommand, log: &Log<'_>) -> Result<ExitCode, BundleError> {
    let done = Ok(ExitCode::SUCCESS);
    match command {
        OciCommand::State(state) => {
            log.ui.line(&pretty(&engine.state(&state.id)?));
            done
        }
        OciCommand::List(list) => {
            let (entries, errors) = engine.list()?;
            log.warnings(&errors.iter().map(BundleError::line).collect::<Vec<_>>());
            match list.format {
                _ if list.quiet => entries.iter().for_each(|entry| log.ui.line(&entry.id)),
                OciFormat::Json => log.ui.line(&plain(&entries)),
                OciFormat::Table => log.ui.data(&table(&entries)),
            }
            done
        }
        OciCommand::Ps(ps) => processes(engine, &ps, log.ui),
        OciCommand::Update(update) => {
            engine.update(&update.id, &update_of(&update)?)?;
            done
        }
        OciCommand::Events(events) => {
            if events.stats {
                log.ui.line(&engine.stats(&events.id)?.to_string());
                return done;
            }
            let interval = corten_dockerfile::duration::parse(&events.interval)
                .ok()
                .filter(|time| !time.is_zero())
                .ok_or_else(|| BundleError::Config {
                    problem: format!("`--interval`: `{}` is no time such as `5s`", events.interval),
                })?;
            engine.events(&events.id, interval, |event| {
                log.ui.line(&event.to_string());
                true
            })?;
            done
        }
        OciCommand::Spec(spec) => write_spec(&spec).and(done),
        OciCommand::Features => {
            log.ui.line(&pretty(&corten_bundle::features(env!("CARGO_PKG_VERSION"))));
            done
        }
        _ => Err(BundleError::Unsupported {
            what: "checkpoint and restore",
            why: "Corten does not save running containers".to_owned(),
        }),
    }
}

fn code(code: i32) -> ExitCode {
    ExitCode::from(u8::try_from(code & 0xff).unwrap_or(EXIT_EXEC_FAILED))
}

/// `/run/corten/oci` for root, `$XDG_RUNTIME_DIR/corten/oci` for everybody else.
fn default_root(environment: &Environment) -> PathBuf {
    let runtime = environment.path("XDG_RUNTIME_DIR");
    match runtime {
        Some(runtime) if file::effective_user_id() != 0 => runtime.join("corten/oci"),
        _ if file::effective_user_id() == 0 => PathBuf::from("/run/corten/oci"),
        _ => PathBuf::from(format!("/tmp/corten-oci-{}", file::effective_user_id())),
    }
}

fn make_options(make: &OciMakeArgs, environment: &Environment) -> MakeOptions {
    // As systemd passes sockets on.
    let listen: u32 = environment.get("LISTEN_FDS").and_then(|text| text.parse().ok()).unwrap_or(0);
    MakeOptions {
        bundle: make.bundle.clone(),
        console_socket: make.console_socket.clone(),
        pid_file: make.pid_file.as_deref().map(absolute),
        no_pivot: make.no_pivot,
        no_new_keyring: make.no_new_keyring,
        preserve_fds: make.preserve_fds.saturating_add(listen),
        listen_fds: listen,
    }
}

/// Before the directory changes.
fn absolute(path: &Path) -> PathBuf {
    file::absolute(path).unwrap_or_else(|_| path.to_owned())
}

fn exec_options(exec: &OciExecArgs) -> ExecOptions {
    ExecOptions {
        process: exec.process.clone(),
        console_socket: exec.console_socket.clone(),
        pid_file: exec.pid_file.clone(),
        detach: exec.detach,
        preserve_fds: exec.preserve_fds,
        cwd: exec.cwd.clone(),
        env: exec.env.clone(),
        tty: exec.tty,
        user: exec.user.clone(),
        additional_gids: exec.additional_gids.clone(),
        capabilities: exec.cap.clone(),
        apparmor: exec.apparmor.clone(),
        process_label: exec.process_label.clone(),
        no_new_privileges: exec.no_new_privs,
        cgroup: exec.cgroup.clone(),
        ignore_paused: exec.ignore_paused,
        args: exec.command.clone(),
    }
}

fn update_of(update: &OciUpdateArgs) -> Result<Update, BundleError> {
    const STANDARD_INPUT: &str = "/proc/self/fd/0";
    const JSON_BYTES_MAX: u64 = 16 << 20;
    let json = match update.resources.as_deref() {
        None => None,
        Some(path) if path == Path::new("-") => {
            Some(file::read_limited(Path::new(STANDARD_INPUT), JSON_BYTES_MAX)?)
        }
        Some(path) => Some(file::read_limited(path, JSON_BYTES_MAX)?),
    };
    Ok(Update {
        json,
        blkio_weight: update.blkio_weight,
        cpu_period: update.cpu_period,
        cpu_quota: update.cpu_quota,
        cpu_burst: update.cpu_burst,
        cpu_shares: update.cpu_share,
        cpu_rt_period: update.cpu_rt_period,
        cpu_rt_runtime: update.cpu_rt_runtime,
        cpu_idle: update.cpu_idle,
        cpuset_cpus: update.cpuset_cpus.clone(),
        cpuset_mems: update.cpuset_mems.clone(),
        memory: update.memory,
        memory_reservation: update.memory_reservation,
        memory_swap: update.memory_swap,
        pids_limit: update.pids_limit,
    })
}

fn write_spec(spec: &OciSpecArgs) -> Result<(), BundleError> {
    let ids = || (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let text = pretty(&corten_bundle::example(spec.rootless.then(ids)));
    let path = spec.bundle.join(CONFIG_FILE);
    let file = file::create_new(&path, 0o644)?;
    Ok(file::write_all(&file, &path, format!("{text}\n").as_bytes())?)
}

/// The lines of `ps` that are about the container's processes.
fn processes(engine: &Engine, ps: &OciPsArgs, ui: &Ui) -> Result<ExitCode, BundleError> {
    let pids = engine.processes(&ps.id)?;
    if ps.format == OciFormat::Json {
        ui.line(&plain(&pids));
        return Ok(ExitCode::SUCCESS);
    }
    let refused = |source| BundleError::Attempt { attempt: "run `ps`".to_owned(), source };
    let missing = || refused(std::io::Error::from(std::io::ErrorKind::NotFound));
    let program = find_program("ps", SEARCH_PATH.as_ref()).ok_or_else(missing)?;
    let options = if ps.options.is_empty() { vec!["-ef".to_owned()] } else { ps.options.clone() };
    let (_, said) = Command::new(program).args(options).output(PS_BYTES_MAX).map_err(refused)?;
    let said = String::from_utf8_lossy(&said);
    let mut lines = said.lines();
    let head = lines.next().unwrap_or_default();
    let column = head.split_whitespace().position(|title| title == "PID");
    let column = column.ok_or_else(|| BundleError::Config {
        problem: "the output of `ps` with these options has no column PID".to_owned(),
    })?;
    ui.line(head);
    for line in lines {
        let pid = line.split_whitespace().nth(column).and_then(|text| text.parse::<u32>().ok());
        if pid.is_some_and(|pid| pids.contains(&pid)) {
            ui.line(line);
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn pretty(value: &impl Serialize) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn plain(value: &impl Serialize) -> String {
    serde_json::to_value(value).unwrap_or(Value::Null).to_string()
}

fn table(entries: &[ListEntry]) -> String {
    let titles = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let row = |entry: &ListEntry| {
        [
            entry.id.clone(),
            entry.pid.to_string(),
            entry.status.to_string(),
            entry.bundle.display().to_string(),
            entry.created.clone(),
            entry.owner.clone(),
        ]
    };
    let rows: Vec<[String; 6]> = std::iter::once(titles).chain(entries.iter().map(row)).collect();
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let line = |row: &[String; 6]| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join("   ").trim_end())
    };
    rows.iter().map(line).collect()
}
