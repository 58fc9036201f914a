//! The table of a benchmark, for people and for docs/benchmarks.md.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use super::measure::{Summary, wins};
use super::{Result as WorkResult, Row};
use crate::{Failure, shell};

/// Returns one table per work.
pub(super) fn tables(results: &[WorkResult]) -> String {
    let mut text = String::new();
    for result in results {
        table(&mut text, result);
    }
    text
}

fn table(text: &mut String, result: &WorkResult) {
    let Some(first) = result.rows.first() else {
        put(text, format_args!("## {}\n\nMeasured once: `{}`.", result.title, result.command));
        result.notes.iter().for_each(|note| put(text, format_args!("\n{note}")));
        text.push('\n');
        return;
    };
    let count = first.samples.len();
    let times =
        if count == 1 { "once".to_owned() } else { format!("{count} times each, interleaved") };
    put(text, format_args!("## {}\n\nMeasured {times}: `{}`.\n", result.title, result.command));
    put(
        text,
        format_args!(
            "| engine | wall median | wall min | 9 of 10 within | CPU median | against corten |"
        ),
    );
    put(text, format_args!("|---|---:|---:|---:|---:|---|"));
    let ours = Summary::of(&first.samples);
    for row in &result.rows {
        let summary = Summary::of(&row.samples);
        let cpu =
            if row.measures_cpu { millis(summary.cpu_median) } else { "in the daemon".to_owned() };
        let against = if row.engine == first.engine {
            "–".to_owned()
        } else {
            let ratio = summary.wall_median.as_secs_f64() / ours.wall_median.as_secs_f64();
            let wins = wins(&first.samples, &row.samples);
            format!("{ratio:.1} times the wall time; corten faster in {wins} of {count}")
        };
        put(
            text,
            format_args!(
                "| {} | {} | {} | {} | {cpu} | {against} |",
                row.engine,
                millis(summary.wall_median),
                millis(summary.wall_min),
                millis(summary.wall_tenth),
            ),
        );
    }
    for note in &result.notes {
        put(text, format_args!("\n{note}"));
    }
    text.push('\n');
}

/// What a build took beyond the program that it runs, and its memory, in sentences.
pub(super) fn cold_notes(rows: &[Row]) -> Option<String> {
    let (ours, floor) = (rows.first()?, rows.last()?);
    let (ours, floor) = (Summary::of(&ours.samples), Summary::of(&floor.samples));
    let beyond = ours.wall_median.as_secs_f64() - floor.wall_median.as_secs_f64();
    Some(format!(
        "`{}` is the same installation in a container of corten, without a build. corten's build took \
         {beyond:.2} s more; its process had {} MB of memory at most.",
        super::FLOOR,
        ours.peak_bytes / 1_000_000
    ))
}

/// Returns the page with everything that is needed to judge and to repeat the numbers.
pub(super) fn page(
    root: &Path,
    versions: &[String],
    results: &[WorkResult],
) -> Result<String, Failure> {
    let mut text = "\
# Benchmarks

`cargo xtask bench --write` measured this and wrote this page. The sample is a project of 130 files
and 21 MB on a golden Python base, whose last step copies all of it; the service has its packages as
wheels in the context, then a hundred files of code, then the one that changes. The same base is loaded
into each engine. The engines take turns,
so that a slow moment of the machine meets all of them. Wall time is what a person waits. CPU time is
user and system time of the command and of the children that it waited for; a daemon's or a detached
monitor's is not in it, which favours the peers. Compare ratios, not milliseconds, with other machines.
ext4 looks past inodes that were deleted in the last minutes: where many files were just removed, making
new ones near them costs several times as much. Corten's layers start elsewhere; peers may pay for it.

"
    .to_owned();
    put(&mut text, format_args!("- machine: {}", machine()?));
    put(&mut text, format_args!("- commit: {}", commit(root)));
    for version in versions {
        put(&mut text, format_args!("- {version}"));
    }
    text.push('\n');
    text.push_str(&tables(results));
    Ok(text.trim_end().to_owned() + "\n")
}

fn machine() -> Result<String, Failure> {
    let cpus = shell::read_file(Path::new("/proc/cpuinfo"))?;
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name"));
    let model = model.unwrap_or("unknown processor").trim_start_matches([' ', '\t', ':']);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let kernel = shell::read(Command::new("uname").arg("-sr"))?;
    Ok(format!("{model}, {cores} cores, {}", kernel.trim()))
}

/// Returns the commit that was measured, or says that it is not known.
fn commit(root: &Path) -> String {
    let mut git = Command::new("git");
    git.current_dir(root).args(["describe", "--always", "--dirty"]);
    shell::read(&mut git).map_or_else(|_| "unknown".to_owned(), |text| text.trim().to_owned())
}

/// Writes one line.
fn put(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to a string cannot fail");
}

fn millis(time: Duration) -> String {
    let millis = time.as_secs_f64() * 1000.0;
    if millis < 100.0 { format!("{millis:.1} ms") } else { format!("{millis:.0} ms") }
}

#[cfg(test)]
mod tests {
    use super::super::measure::Sample;
    use super::*;

    #[test]
    fn a_table_compares_each_peer_with_corten() {
        let samples = |wall| {
            let sample = Sample {
                wall: Duration::from_millis(wall),
                cpu: Duration::from_micros(4200),
                peak_bytes: 1,
            };
            vec![sample; 3]
        };
        let row = |engine, wall, measures_cpu| Row { engine, samples: samples(wall), measures_cpu };
        let result = WorkResult {
            title: "Run".to_owned(),
            command: "corten run".to_owned(),
            rows: vec![row("corten", 10, true), row("docker", 250, false)],
            notes: vec!["A sentence.".to_owned()],
        };
        let expected = "\
## Run

Measured 3 times each, interleaved: `corten run`.

| engine | wall median | wall min | 9 of 10 within | CPU median | against corten |
|---|---:|---:|---:|---:|---|
| corten | 10.0 ms | 10.0 ms | 10.0 ms | 4.2 ms | – |
| docker | 250 ms | 250 ms | 250 ms | in the daemon | 25.0 times the wall time; corten faster in 3 of 3 |

A sentence.

";
        assert_eq!(tables(&[result]), expected);
    }
}
