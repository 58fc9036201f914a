//! Runs `true` in containers with everything on, and tells what it costs.
//!
//! `cargo run --release -p corten-runtime --example bench_true [RUNS] [ROOTFS]`, as root.
//! Without a root file system it makes one of the machine's own `true`.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use corten_runtime::{ContainerSpec, HostFacts, INIT_ARGUMENT, Io, Rootfs, init_main, plan, run};
use corten_sys::clock::{Clock as _, SystemClock};
use corten_sys::{file, process};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().collect();
    if arguments.get(1).is_some_and(|argument| argument == INIT_ARGUMENT) {
        return init_main();
    }
    let runs = arguments.get(1).and_then(|count| count.parse().ok()).unwrap_or(200);
    let folder = std::env::temp_dir().join(format!("corten-bench-{}", std::process::id()));
    let result = bench(runs, arguments.get(2).map(PathBuf::from), &folder);
    let removed = file::remove_tree(&folder);
    match result.and_then(|text| removed.map(|()| text).map_err(|error| error.to_string())) {
        Ok(text) => say(&mut std::io::stdout(), &text),
        Err(text) => say(&mut std::io::stderr(), &format!("failed: {text}")),
    }
}

fn say(to: &mut dyn std::io::Write, text: &str) -> ExitCode {
    let failed = text.starts_with("failed");
    match writeln!(to, "{text}") {
        Ok(()) if !failed => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

fn bench(runs: u32, rootfs: Option<PathBuf>, folder: &Path) -> Result<String, String> {
    let text = |error: &dyn std::error::Error| {
        let mut text = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            text = format!("{text}: {error}");
            source = error.source();
        }
        text
    };
    file::create_dirs(folder, 0o755).map_err(|error| text(&error))?;
    let lower = rootfs.unwrap_or_else(|| {
        let root = folder.join("root");
        corten_testkit::rootfs::make(&root, &["true"]);
        root
    });
    let mut wall = Vec::new();
    let cpu_before = process::cpu_time();
    for number in 0..runs {
        let id = format!("bench-{}-{number}", std::process::id());
        let (upper, work) = (folder.join("upper"), folder.join("work"));
        for directory in [&upper, &work] {
            file::remove_tree(directory).map_err(|error| text(&error))?;
            file::create_dirs(directory, 0o755).map_err(|error| text(&error))?;
        }
        let begun = SystemClock.monotonic();
        let rootfs = Rootfs::layered(vec![lower.clone()], upper, work);
        let mut spec = ContainerSpec::new(id, rootfs, vec!["true".to_owned()]);
        spec.env = vec!["PATH=/usr/bin:/bin".to_owned()];
        let facts = HostFacts::gather().map_err(|error| text(&error))?;
        let plan = plan(&spec, &facts).map_err(|error| text(&error))?;
        let outcome = run(&plan, Io::inherit()).map_err(|error| text(&error))?;
        if outcome.code() != 0 {
            return Err(format!("`true` said {}", outcome.code()));
        }
        wall.push(SystemClock.monotonic() - begun);
    }
    let cpu = process::cpu_time();
    wall.sort();
    let each = |duration: Duration| duration.as_secs_f64() * 1000.0 / f64::from(runs);
    let own = each(cpu.0 - cpu_before.0);
    let children = each(cpu.1 - cpu_before.1);
    let at = |part: usize| {
        let index = (wall.len() * part / 100).min(wall.len().saturating_sub(1));
        wall.get(index).map_or(0.0, |time| time.as_secs_f64() * 1000.0)
    };
    Ok(format!(
        "{runs} runs of `true`: CPU {:.2} ms each (corten {own:.2}, helper and container \
         {children:.2}); wall median {:.2} ms, 90 % {:.2} ms",
        own + children,
        at(50),
        at(90)
    ))
}
