//! `corten top`: the processes of a container, as the host sees them.

use std::path::PathBuf;
use std::process::ExitCode;

use corten_oci::time::rfc3339;
use corten_sys::clock::{Clock as _, SystemClock};
use corten_sys::file;
use corten_sys::userns::{IdRange, own_map};

use super::Context;
use super::exec::not_running;
use super::life::{existing, reach};
use crate::cli::TopArgs;
use crate::error::CliError;
use crate::ui::{layout, printable_line};

/// Files of a process of which we read a few numbers; a command line may be long.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// `getconf CLK_TCK`, which is this on every Linux.
const TICKS_PER_SECOND: u64 = 100;

/// The kernel counts resident memory in pages of this size on the processors that we run on.
const PAGE_KIB: u64 = 4;

/// What Docker shows when nothing is asked for.
const DEFAULT: &str = "uid,pid,ppid,c,stime,tty,time,cmd";
const AUX: &str = "user,pid,pcpu,vsz,rss,tty,stat,stime,time,cmd";
const LONG: &str = "stat,uid,pid,ppid,c,pri,ni,vsz,tty,time,cmd";

pub(super) fn top(context: &Context, arguments: &TopArgs) -> Result<ExitCode, CliError> {
    let columns = columns(&arguments.options)?;
    let store = context.store()?;
    let name = &arguments.container;
    let container = existing(&store, name)?;
    let control = reach(&store, &container)?.ok_or_else(|| not_running(name))?;
    let now = Now::new()?;
    let processes = control.processes()?;
    // One that has ended meanwhile is not there.
    let found = processes.into_iter().filter_map(|pid| Process::read(pid, &now));
    let rows: Vec<Vec<String>> = found
        .map(|process| columns.iter().map(|column| (column.show)(&process)).collect())
        .collect();
    let header: Vec<String> = columns.iter().map(|column| column.heading.to_owned()).collect();
    context.ui.data(&layout(&header, &rows));
    Ok(ExitCode::SUCCESS)
}

/// A column that `ps` knows.
struct Column {
    heading: &'static str,
    /// Words of `-o` for it.
    names: &'static [&'static str],
    show: fn(&Process) -> String,
}

const COLUMNS: &[Column] = &[
    Column { heading: "UID", names: &["uid", "euid"], show: |found| found.uid.to_string() },
    Column { heading: "USER", names: &["user", "euser"], show: |found| found.uid.to_string() },
    Column {
        heading: "GID",
        names: &["gid", "egid", "group"],
        show: |found| found.gid.to_string(),
    },
    Column { heading: "PID", names: &["pid", "tgid"], show: |found| found.pid.to_string() },
    Column { heading: "PPID", names: &["ppid"], show: |found| found.number(4).to_string() },
    Column { heading: "PGID", names: &["pgid"], show: |found| found.number(5).to_string() },
    Column { heading: "SID", names: &["sid", "sess"], show: |found| found.number(6).to_string() },
    Column { heading: "NSPID", names: &["nspid"], show: |found| found.inner_pid.clone() },
    Column { heading: "C", names: &["c"], show: |found| (found.per_mille() / 10).to_string() },
    Column {
        heading: "%CPU",
        names: &["pcpu", "%cpu"],
        show: |found| format!("{}.{}", found.per_mille() / 10, found.per_mille() % 10),
    },
    Column { heading: "STIME", names: &["stime", "start", "lstart"], show: Process::start },
    Column {
        heading: "ELAPSED",
        names: &["etime"],
        show: |found| clock(found.age_seconds(), true),
    },
    Column { heading: "TTY", names: &["tty", "tt", "tname"], show: Process::terminal },
    Column {
        heading: "TIME",
        names: &["time", "cputime"],
        show: |found| clock(found.ticks() / TICKS_PER_SECOND, false),
    },
    Column { heading: "STAT", names: &["stat", "s", "state"], show: |found| found.state.clone() },
    Column { heading: "PRI", names: &["pri"], show: |found| found.signed(18).to_string() },
    Column { heading: "NI", names: &["ni", "nice"], show: |found| found.signed(19).to_string() },
    Column {
        heading: "NLWP",
        names: &["nlwp", "thcount"],
        show: |found| found.number(20).to_string(),
    },
    Column {
        heading: "VSZ",
        names: &["vsz", "vsize"],
        show: |found| (found.number(23) / 1024).to_string(),
    },
    Column {
        heading: "RSS",
        names: &["rss", "rssize"],
        show: |found| found.number(24).saturating_mul(PAGE_KIB).to_string(),
    },
    Column { heading: "COMMAND", names: &["comm", "ucmd"], show: |found| found.name.clone() },
    Column {
        heading: "CMD",
        names: &["cmd", "args", "command"],
        show: |found| found.command.clone(),
    },
];

/// Reads the options of `ps` that choose columns.
fn columns(options: &[String]) -> Result<Vec<&'static Column>, CliError> {
    let mut list = String::new();
    let mut words = options.iter();
    while let Some(word) = words.next() {
        let letters = word.trim_start_matches('-');
        match letters {
            "ef" | "e" | "f" | "A" => {}
            "aux" | "u" | "au" | "ux" => AUX.clone_into(&mut list),
            "l" | "el" | "ely" => LONG.clone_into(&mut list),
            "o" | "eo" | "Ao" | "axo" | "format" => {
                list.push_str(words.next().map_or("", |names| names.as_str()));
                list.push(',');
            }
            _ => match letters.strip_prefix("o").or_else(|| letters.strip_prefix("format=")) {
                Some(names) => list.push_str(&format!("{names},")),
                None => {
                    return Err(CliError::new(format!("the option `{word}` of `ps` is not known"))
                        .hint("choose columns, for example `-o pid,rss,args`".to_owned()));
                }
            },
        }
    }
    let chosen = if list.is_empty() { DEFAULT } else { &list };
    let names = chosen.split([',', ' ']).filter(|name| !name.is_empty());
    names.map(column).collect()
}

fn column(name: &str) -> Result<&'static Column, CliError> {
    COLUMNS.iter().find(|column| column.names.contains(&name)).ok_or_else(|| {
        let known: Vec<&str> =
            COLUMNS.iter().filter_map(|column| column.names.first().copied()).collect();
        CliError::new(format!("`ps` has a column `{name}` that is not known here"))
            .hint(format!("there are {}", known.join(", ")))
    })
}

/// What a process is compared with.
struct Now {
    seconds: i64,
    /// Since the machine was started, as processes count.
    uptime_seconds: u64,
    /// Ids as we see them to those of the host.
    users: Vec<IdRange>,
    groups: Vec<IdRange>,
}

impl Now {
    fn new() -> Result<Self, CliError> {
        let uptime = file::read_limited(&PathBuf::from("/proc/uptime"), FILE_BYTES_MAX)?;
        let uptime = String::from_utf8_lossy(&uptime);
        let whole = uptime.split('.').next().and_then(|text| text.parse().ok());
        Ok(Self {
            seconds: SystemClock.now().seconds,
            uptime_seconds: whole.unwrap_or(0),
            users: own_map("uid_map")?,
            groups: own_map("gid_map")?,
        })
    }
}

/// An id of our user namespace as the host sees it.
fn outside(map: &[IdRange], id: u32) -> u32 {
    let range = map.iter().find(|range| id >= range.first && id - range.first < range.count);
    range.map_or(id, |range| range.outside + (id - range.first))
}

struct Process {
    pid: u32,
    uid: u32,
    gid: u32,
    /// Its number in the container.
    inner_pid: String,
    name: String,
    command: String,
    state: String,
    /// Of `/proc/PID/stat`, from the third one on.
    fields: Vec<String>,
    now_seconds: i64,
    uptime_seconds: u64,
}

impl Process {
    fn read(pid: u32, now: &Now) -> Option<Self> {
        let read = |name: &str| {
            let path = PathBuf::from(format!("/proc/{pid}/{name}"));
            file::read_limited(&path, FILE_BYTES_MAX).ok()
        };
        let stat = read("stat")?;
        let stat = String::from_utf8_lossy(&stat);
        let (name, fields) = stat.rsplit_once(')')?;
        let name = name.split_once('(')?.1;
        let status = read("status")?;
        let status = String::from_utf8_lossy(&status);
        let line = |key: &str| status.lines().find_map(|line| line.strip_prefix(key));
        let id = |key: &str| line(key)?.split_whitespace().nth(1)?.parse::<u32>().ok();
        let words = read("cmdline").unwrap_or_default();
        let words: Vec<_> = words.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
        let command = words.join(" ");
        let command = match command.trim_end() {
            "" => format!("[{name}]"),
            command => command.to_owned(),
        };
        let fields: Vec<String> = fields.split_whitespace().map(str::to_owned).collect();
        Some(Self {
            pid,
            uid: outside(&now.users, id("Uid:")?),
            gid: outside(&now.groups, id("Gid:")?),
            inner_pid: line("NSpid:")?.split_whitespace().last()?.to_owned(),
            name: printable_line(name),
            command: printable_line(&command),
            state: fields.first()?.clone(),
            fields,
            now_seconds: now.seconds,
            uptime_seconds: now.uptime_seconds,
        })
    }

    /// A field by its number in `proc_pid_stat(5)`.
    fn field(&self, number: usize) -> &str {
        self.fields.get(number - 3).map_or("", String::as_str)
    }

    fn number(&self, number: usize) -> u64 {
        self.field(number).parse().unwrap_or(0)
    }

    fn signed(&self, number: usize) -> i64 {
        self.field(number).parse().unwrap_or(0)
    }

    /// Processor time.
    fn ticks(&self) -> u64 {
        self.number(14) + self.number(15)
    }

    fn age_seconds(&self) -> u64 {
        self.uptime_seconds.saturating_sub(self.number(22) / TICKS_PER_SECOND)
    }

    /// Processor time per time since it began.
    fn per_mille(&self) -> u64 {
        self.ticks() * 1000 / TICKS_PER_SECOND / self.age_seconds().max(1)
    }

    /// `16:30`, or `2026-11-21` of another day.
    fn start(&self) -> String {
        let age = i64::try_from(self.age_seconds()).unwrap_or(i64::MAX);
        let time = rfc3339(self.now_seconds.saturating_sub(age));
        let today = rfc3339(self.now_seconds);
        let (day, clock) = (time.get(..10).unwrap_or_default(), time.get(11..16));
        if today.starts_with(day) { clock.unwrap_or_default() } else { day }.to_owned()
    }

    fn terminal(&self) -> String {
        // Major and minor number as the kernel packs them; 136 and above are pseudo terminals.
        let device = self.number(7);
        let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
        match major {
            0 => "?".to_owned(),
            136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
            4 => format!("tty{minor}"),
            _ => format!("{major}:{minor}"),
        }
    }
}

/// `00:01:02`; short without hours that are none.
fn clock(seconds: u64, is_short: bool) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, is_short) {
        (0, true) => format!("{minutes:02}:{seconds:02}"),
        (24.., true) => format!("{}-{:02}:{minutes:02}:{seconds:02}", hours / 24, hours % 24),
        _ => format!("{hours:02}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_chosen_as_with_ps() {
        let headings = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let chosen = columns(&words)?;
            Ok::<_, CliError>(
                chosen.iter().map(|column| column.heading).collect::<Vec<_>>().join(" "),
            )
        };
        let default = "UID PID PPID C STIME TTY TIME CMD";
        assert_eq!(headings(&[]).unwrap(), default);
        assert_eq!(headings(&["-ef"]).unwrap(), default);
        assert_eq!(headings(&["-o", "pid,comm"]).unwrap(), "PID COMMAND");
        assert_eq!(headings(&["-opid", "-o", "rss"]).unwrap(), "PID RSS");
        assert!(headings(&["aux"]).unwrap().starts_with("USER PID %CPU"));
        assert!(headings(&["-o", "nonsense"]).is_err() && headings(&["--forest"]).is_err());
    }

    #[test]
    fn times_are_those_of_ps() {
        assert_eq!((clock(62, false), clock(62, true)), ("00:01:02".into(), "01:02".into()));
        assert_eq!(clock(90_061, true), "1-01:01:01");
    }

    #[test]
    fn an_own_process_can_be_read() {
        let now = Now::new().unwrap();
        let own = Process::read(std::process::id(), &now).unwrap();
        assert!(own.number(24) > 0 && !own.command.is_empty() && own.start().len() >= 5);
    }
}
