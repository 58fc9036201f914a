//! Whether a container's program works, by a program that is run in the container now and then.
//!
//! The rules are Docker's: a container is `starting` until a check has succeeded or so many have failed in
//! a row; failures within the start period do not count.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use corten_oci::image::HealthConfig;
use corten_oci::time::rfc3339_nanos;
use corten_runtime::{Io, run_another};
use corten_sys::clock::{Clock as _, SystemClock};
use corten_sys::error::IoError;
use corten_sys::file;
use serde::{Deserialize, Serialize};

use crate::control::Execute;
use crate::error::{Failed, MonitorError};
use crate::execute::plan;
use crate::shared::{STACK_BYTES, Shared, spawn};

/// The file in a container's directory.
const FILE: &str = "health.json";

/// A report has five checks with so much of their output each.
const REPORT_BYTES_MAX: u64 = 1 << 20;

/// The last checks are remembered.
const CHECKS_MAX: usize = 5;

/// As much of a check's output is remembered.
const OUTPUT_BYTES_MAX: usize = 4096;

/// The code of a check that could not be made, or took too long.
const NO_CODE: i32 = -1;

/// How a container is checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// Program and arguments.
    pub test: Vec<String>,
    /// Milliseconds, as all times here: between two checks.
    pub interval: u64,
    /// How long one may take.
    pub timeout: u64,
    /// How long after its begin failures do not count.
    pub start_period: u64,
    /// Between two checks in that time.
    pub start_interval: u64,
    /// How many failures in a row make a container unhealthy.
    pub retries: u32,
}

impl Health {
    /// Reads an image's description; `None` if there is nothing to check. `shell` is the image's.
    pub fn of(config: &HealthConfig, shell: &[String]) -> Option<Self> {
        let (kind, words) = config.test.split_first()?;
        let test = match kind.as_str() {
            "CMD" => words.to_vec(),
            "CMD-SHELL" => {
                let default = ["/bin/sh".to_owned(), "-c".to_owned()];
                let shell = if shell.is_empty() { &default } else { shell };
                shell.iter().chain(words).cloned().collect()
            }
            _ => return None,
        };
        let millis = |nanoseconds: i64, default: u64| match u64::try_from(nanoseconds) {
            Ok(0) | Err(_) => default,
            Ok(nanoseconds) => (nanoseconds / 1_000_000).max(1),
        };
        (!test.is_empty()).then(|| Self {
            test,
            interval: millis(config.interval, 30_000),
            timeout: millis(config.timeout, 30_000),
            start_period: millis(config.start_period, 0),
            start_interval: millis(config.start_interval, 5_000),
            retries: u32::try_from(config.retries).ok().filter(|count| *count > 0).unwrap_or(3),
        })
    }
}

/// Docker's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum HealthStatus {
    #[default]
    Starting,
    Healthy,
    Unhealthy,
}

impl HealthStatus {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

/// What the checks have shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HealthReport {
    pub status: HealthStatus,
    pub failing_streak: u32,
    /// The last ones, the oldest first.
    pub log: Vec<Check>,
}

/// One check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Check {
    /// RFC 3339.
    pub start: String,
    pub end: String,
    /// -1 if it could not be made or took too long.
    pub exit_code: i32,
    pub output: String,
}

impl HealthReport {
    /// Reads the report of the container in a directory; `None` if it is not checked.
    pub fn read(container: &Path) -> Option<Self> {
        let bytes = file::read_limited(&container.join(FILE), REPORT_BYTES_MAX).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Takes the result of a check; `counts` is false for failures of the start period.
    fn note(&mut self, check: Check, counts: bool, retries: u32) {
        if check.exit_code == 0 {
            (self.status, self.failing_streak) = (HealthStatus::Healthy, 0);
        } else if counts || self.status != HealthStatus::Starting {
            self.failing_streak = self.failing_streak.saturating_add(1);
            if self.failing_streak >= retries {
                self.status = HealthStatus::Unhealthy;
            }
        }
        self.log.push(check);
        if self.log.len() > CHECKS_MAX {
            self.log.remove(0);
        }
    }

    /// Whoever reads it sees this one or the one before.
    fn write(&self, container: &Path) -> Result<(), IoError> {
        // Texts and numbers are always JSON.
        let bytes = serde_json::to_vec(self).unwrap_or_default();
        let (path, new) = (container.join(FILE), container.join("health.new"));
        file::write(&new, &bytes)?;
        file::rename(&new, &path)
    }
}

/// Checks the container in a directory for as long as the monitor lives.
pub(crate) fn watch(
    shared: &Arc<Shared>,
    health: &Health,
    container: PathBuf,
) -> Result<(), MonitorError> {
    let (shared, health) = (shared.clone(), health.clone());
    let watch = move || {
        let mut seen = 0;
        loop {
            seen = shared.await_program(seen);
            // A report that cannot be written is one that nobody sees; the next may be.
            watch_program(&shared, &health, &container, seen).unwrap_or_default();
        }
    };
    spawn(watch).map_err(MonitorError::Start)
}

fn watch_program(
    shared: &Shared,
    health: &Health,
    container: &Path,
    program: u64,
) -> Result<(), IoError> {
    let began = SystemClock.monotonic();
    let mut report = HealthReport::default();
    report.write(container)?;
    loop {
        let is_early = || {
            let age = SystemClock.monotonic().saturating_sub(began);
            age < Duration::from_millis(health.start_period)
        };
        let starts = is_early() && report.status == HealthStatus::Starting;
        let pause = if starts { health.start_interval } else { health.interval };
        if !shared.rest(program, Duration::from_millis(pause)) {
            return Ok(());
        }
        if shared.is_paused() {
            continue;
        }
        let check = check(shared, health);
        if shared.rest(program, Duration::ZERO) {
            let before = report.status;
            report.note(check, !is_early(), health.retries);
            if report.status != before {
                shared.tell(&format!("health_status: {}", report.status.as_str()), &[]);
            }
            report.write(container)?;
        }
    }
}

fn check(shared: &Shared, health: &Health) -> Check {
    let now = || {
        let now = SystemClock.now();
        rfc3339_nanos(now.seconds, now.nanoseconds)
    };
    let start = now();
    let mut output = Vec::new();
    let done = execute(shared, health, &mut output);
    let mut output = String::from_utf8_lossy(&output).into_owned();
    let exit_code = done.unwrap_or_else(|message| {
        output = message;
        NO_CODE
    });
    Check { start, end: now(), exit_code, output }
}

/// Runs the check; returns its code, or why it has none.
fn execute(shared: &Shared, health: &Health, output: &mut Vec<u8>) -> Result<i32, String> {
    let target = shared.running().map_err(|error| error.to_string())?;
    let target = target.ok_or("the container has ended")?;
    let request = Execute { args: health.test.clone(), ..Execute::default() };
    let plan = plan(&target, &request).map_err(|Failed { message, .. }| message)?;
    let is_late = AtomicBool::new(false);
    let is_over = (Mutex::new(false), Condvar::new());
    let mut take = |_, bytes: &[u8]| {
        let room = OUTPUT_BYTES_MAX.saturating_sub(output.len());
        output.extend_from_slice(bytes.get(..room).unwrap_or(bytes));
    };
    let io = Io { cancelled: Some(&is_late), ..Io::callback(&mut take) };
    let timeout = Duration::from_millis(health.timeout);
    let ended = thread::scope(|scope| {
        let wait = || {
            let over = is_over.0.lock().unwrap_or_else(PoisonError::into_inner);
            let waited = is_over.1.wait_timeout_while(over, timeout, |over| !*over);
            let (over, _) = waited.unwrap_or_else(PoisonError::into_inner);
            is_late.store(!*over, Ordering::Relaxed);
        };
        let timer = thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, wait);
        let ended = match timer {
            Ok(_) => run_another(&plan, &target.process, io).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        *is_over.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        is_over.1.notify_all();
        ended
    });
    if is_late.load(Ordering::Relaxed) {
        return Err(format!("the check took longer than {} ms", health.timeout));
    }
    ended.map(|outcome| outcome.code())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(exit_code: i32) -> Check {
        Check { start: String::new(), end: String::new(), exit_code, output: String::new() }
    }

    #[test]
    fn an_image_says_how_it_is_checked() {
        let config = |words: &[&str]| HealthConfig {
            test: words.iter().map(|word| (*word).to_owned()).collect(),
            interval: 2_000_000_000,
            retries: 7,
            ..HealthConfig::default()
        };
        let health = Health::of(&config(&["CMD", "curl", "-f"]), &[]).unwrap();
        assert_eq!(health.test, ["curl", "-f"]);
        assert_eq!((health.interval, health.timeout, health.retries), (2000, 30_000, 7));
        let health = Health::of(&config(&["CMD-SHELL", "x && y"]), &[]).unwrap();
        assert_eq!(health.test, ["/bin/sh", "-c", "x && y"]);
        let shell = ["bash".to_owned(), "-lc".to_owned()];
        let health = Health::of(&config(&["CMD-SHELL", "x"]), &shell).unwrap();
        assert_eq!(health.test, ["bash", "-lc", "x"]);
        for words in [&[][..], &["NONE"], &["CMD"]] {
            assert_eq!(Health::of(&config(words), &[]), None, "{words:?}");
        }
    }

    #[test]
    fn so_many_failures_in_a_row_are_unhealthy() {
        let mut report = HealthReport::default();
        let mut seen = Vec::new();
        for code in [1, 1, 0, 1, 1, 1, 0] {
            report.note(check(code), true, 3);
            seen.push((report.status.as_str(), report.failing_streak));
        }
        let expected = [
            ("starting", 1),
            ("starting", 2),
            ("healthy", 0),
            ("healthy", 1),
            ("healthy", 2),
            ("unhealthy", 3),
            ("healthy", 0),
        ];
        assert_eq!(seen, expected);
        assert_eq!(report.log.len(), CHECKS_MAX);
    }

    #[test]
    fn failures_do_not_count_while_it_starts() {
        let mut report = HealthReport::default();
        report.note(check(1), false, 1);
        assert_eq!((report.status, report.failing_streak), (HealthStatus::Starting, 0));
        report.note(check(0), false, 1);
        report.note(check(1), false, 1);
        assert_eq!(report.status, HealthStatus::Unhealthy, "it had started");
    }
}
