//! Containers by the thousand: how long they take to come and go, and what they occupy meanwhile.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use super::engine::Engine;
use super::{Bench, Result as WorkResult, Work};
use crate::{Failure, shell};

/// What is promised of Corten is promised for so many.
const OURS: u32 = 1000;

/// Peers need minutes for a thousand.
const THEIRS: u32 = 100;

/// How long the kernel takes at most to give back what ended processes had.
const SETTLING: Duration = Duration::from_secs(2);

/// What one engine took for its containers.
struct Crowd {
    engine: &'static str,
    count: u32,
    start: Duration,
    verify: Duration,
    stop: Duration,
    remove: Duration,
    /// How much less memory was available while all ran.
    memory_bytes: u64,
    /// For as many containers that end at once.
    short: Duration,
}

impl Bench {
    /// Starts, counts, stops and removes containers with each engine.
    pub(super) fn thousand(&self) -> Result<WorkResult, Failure> {
        let mut crowds = Vec::new();
        for engine in self.engines.iter().filter(|engine| engine.runs()) {
            let count = if engine.name == "corten" { OURS } else { THEIRS };
            crowds.push(self.crowd(engine, count)?);
        }
        Ok(WorkResult {
            title: Work::Thousand.title().to_owned(),
            command: self.shorten(&shell::describe(self.engines[0].background("NAME").env_clear())),
            rows: Vec::new(),
            notes: vec![table(&crowds)],
        })
    }

    fn crowd(&self, engine: &Engine, count: u32) -> Result<Crowd, Failure> {
        let name = |number: u32| format!("corten-bench-{number}");
        let names: Vec<String> = (0..count).map(name).collect();
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        let before = available_bytes()?;
        let start = together(count, |number| engine.background(&name(number)))?;
        let began = Instant::now();
        let running = shell::read(&mut engine.command(&["ps", "--quiet"]))?.lines().count();
        let verify = began.elapsed();
        if running < names.len() {
            return Err(Failure(format!("{} runs {running} of {count}", engine.name)));
        }
        std::thread::sleep(SETTLING);
        let memory_bytes = before.saturating_sub(available_bytes()?);
        let stop = self.at_once(engine, "kill", &all)?;
        let remove = self.at_once(engine, "rm", &all)?;
        let short = together(count, |_| engine.run())?;
        let engine = engine.name;
        Ok(Crowd { engine, count, start, verify, stop, remove, memory_bytes, short })
    }

    /// Gives one command all names.
    fn at_once(&self, engine: &Engine, verb: &str, names: &[&str]) -> Result<Duration, Failure> {
        let began = Instant::now();
        let mut command = engine.command(&[verb]);
        self.succeed_quietly(command.args(names))?;
        Ok(began.elapsed())
    }

    fn succeed_quietly(&self, command: &mut Command) -> Result<(), Failure> {
        super::measure::run(command, &self.output).map(drop)
    }
}

/// Runs commands, as many at a time as there are processors.
fn together(count: u32, command: impl Fn(u32) -> Command + Sync) -> Result<Duration, Failure> {
    let next = AtomicU32::new(0);
    let began = Instant::now();
    let worker = || -> Result<(), Failure> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok(());
            }
            shell::read(&mut command(number))?;
        }
    };
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().try_for_each(|worker| {
            worker.join().unwrap_or_else(|_| Err(Failure("a worker panicked".to_owned())))
        })
    })?;
    Ok(began.elapsed())
}

/// What the kernel could give to new programs.
fn available_bytes() -> Result<u64, Failure> {
    let text = shell::read_file(Path::new("/proc/meminfo"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kilobytes.map(|kilobytes| kilobytes * 1024).ok_or_else(|| {
        Failure("`/proc/meminfo` does not say how much memory is available".to_owned())
    })
}

fn table(crowds: &[Crowd]) -> String {
    let mut text = String::from(
        "| engine | containers | start | count | kill | remove | all four, each | memory each | come and go, each |\n\
         |---|---:|---:|---:|---:|---:|---:|---:|---:|\n",
    );
    for crowd in crowds {
        let each = |time: Duration| time.as_secs_f64() * 1000.0 / f64::from(crowd.count);
        let all = crowd.start + crowd.verify + crowd.stop + crowd.remove;
        writeln!(
            text,
            "| {} | {} | {:.2} s | {:.2} s | {:.2} s | {:.2} s | {:.1} ms | {} kB | {:.1} ms |",
            crowd.engine,
            crowd.count,
            crowd.start.as_secs_f64(),
            crowd.verify.as_secs_f64(),
            crowd.stop.as_secs_f64(),
            crowd.remove.as_secs_f64(),
            each(all),
            crowd.memory_bytes / 1000 / u64::from(crowd.count),
            each(crowd.short),
        )
        .expect("writing to a string cannot fail");
    }
    text.push_str(
        "\nAs many are started at a time as there are processors; one command kills all, another removes \
         all. The last column is for containers whose program is `true`, with `--rm`.",
    );
    text
}
