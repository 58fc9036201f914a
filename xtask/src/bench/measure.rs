//! Measuring one command, and what many measurements say together.

use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use corten_sys::process::{Ended, wait_pid};

use crate::{Failure, shell};

/// What one run took.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sample {
    pub wall: Duration,
    /// Of the process and of all children that it waited for, user and system together.
    pub cpu: Duration,
    /// The most memory that the process itself had at a time, as far as it was looked at.
    pub peak_bytes: u64,
}

/// How often memory is looked at: rarely enough to cost nothing.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Runs a command to its end; its output goes to the file, which is shown if it fails.
pub(super) fn run(command: &mut Command, output: &Path) -> Result<Sample, Failure> {
    let name = shell::describe(command);
    let attempt = || format!("run `{name}`");
    let file = File::create(output).map_err(Failure::of(attempt()))?;
    let copy = file.try_clone().map_err(Failure::of(attempt()))?;
    command.stdin(Stdio::null()).stdout(file).stderr(copy);
    let started = Instant::now();
    let child = command.spawn().map_err(Failure::of(attempt()))?;
    let ended = AtomicBool::new(false);
    let (report, wall, peak_bytes) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| watch_memory(child.id(), &ended));
        let report = wait_pid(child.id());
        let wall = started.elapsed();
        ended.store(true, Ordering::Relaxed);
        watcher.thread().unpark();
        (report, wall, watcher.join().unwrap_or_default())
    });
    let report = report.map_err(Failure::of(attempt()))?;
    if report.ended == Ended::Code(0) {
        return Ok(Sample { wall, cpu: report.cpu, peak_bytes });
    }
    let said = shell::read_file(output)?;
    Err(Failure(format!("`{name}` ended with {:?}\n{}", report.ended, said.trim_end())))
}

/// Looks at a process until it has ended. What the kernel tells at the end is also of its children,
/// which for a build are the programs of its steps.
fn watch_memory(pid: u32, ended: &AtomicBool) -> u64 {
    let mut peak = 0;
    loop {
        std::thread::park_timeout(LOOK_EVERY);
        if ended.load(Ordering::Relaxed) {
            return peak;
        }
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
        peak = peak.max(kilobytes.unwrap_or_default() * 1024);
    }
}

/// What many samples say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Summary {
    pub wall_median: Duration,
    pub wall_min: Duration,
    /// Nine of ten were at most this.
    pub wall_tenth: Duration,
    pub cpu_median: Duration,
    pub peak_bytes: u64,
}

impl Summary {
    /// Summarizes at least one sample.
    pub(super) fn of(samples: &[Sample]) -> Self {
        let sorted = |of: fn(&Sample) -> Duration| {
            let mut values: Vec<Duration> = samples.iter().map(of).collect();
            values.sort();
            values
        };
        let (wall, cpu) = (sorted(|sample| sample.wall), sorted(|sample| sample.cpu));
        Self {
            wall_median: quantile(&wall, 50),
            wall_min: quantile(&wall, 0),
            wall_tenth: quantile(&wall, 90),
            cpu_median: quantile(&cpu, 50),
            peak_bytes: samples.iter().map(|sample| sample.peak_bytes).max().unwrap_or_default(),
        }
    }
}

/// Returns the value below which this share of the sorted values lies.
fn quantile(sorted: &[Duration], percent: usize) -> Duration {
    let last = sorted.len().saturating_sub(1);
    sorted.get((last * percent + 50) / 100).copied().unwrap_or_default()
}

/// Returns in how many pairs the first was faster.
pub(super) fn wins(first: &[Sample], second: &[Sample]) -> usize {
    first.iter().zip(second).filter(|(first, second)| first.wall < second.wall).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(walls: &[u64]) -> Vec<Sample> {
        let millis = Duration::from_millis;
        walls
            .iter()
            .map(|wall| Sample { wall: millis(*wall), cpu: millis(wall / 2), peak_bytes: *wall })
            .collect()
    }

    #[test]
    fn a_summary_does_not_depend_on_the_order() {
        let summary = Summary::of(&samples(&[50, 10, 30, 20, 40]));
        let millis = Duration::from_millis;
        assert_eq!(summary.wall_median, millis(30));
        assert_eq!(summary.wall_min, millis(10));
        assert_eq!(summary.wall_tenth, millis(50));
        assert_eq!(summary.cpu_median, millis(15));
        assert_eq!(summary.peak_bytes, 50);
    }

    #[test]
    fn pairs_are_compared_one_by_one() {
        assert_eq!(wins(&samples(&[1, 5, 3]), &samples(&[2, 4, 3])), 1);
    }

    #[test]
    fn the_children_of_a_command_count() {
        let output = std::env::temp_dir().join(format!("xtask-{}", std::process::id()));
        let loops = "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done";
        let mut command = Command::new("/bin/sh");
        let sample = run(command.args(["-c", &format!("sh -c '{loops}'; echo")]), &output).unwrap();
        assert!(sample.cpu > Duration::from_millis(5), "{sample:?}");
        assert!(sample.wall >= sample.cpu / 2);
        let error =
            run(Command::new("/bin/sh").args(["-c", "echo why; exit 3"]), &output).unwrap_err();
        assert!(error.0.ends_with("ended with Code(3)\nwhy"), "{}", error.0);
        std::fs::remove_file(output).unwrap();
    }
}
