//! Measures commands beside their peers: interleaved, the median and the processor time.
//!
//! Every contender builds and runs the same small Python application from the same base image.
//! A peer takes part when its program answers; the base reaches it as an archive.

mod app;
mod measure;
mod peers;

use std::path::{Path, PathBuf};

use crate::process::{output, run};
use app::App;
use measure::{Sample, Summary, measure, summarise};
use peers::{Contender, contenders};

/// Rounds of each measurement; every round runs each contender once.
const ROUNDS: usize = 21;
const NAMES: [&str; 3] = ["noop", "change", "run"];

pub(crate) fn bench(root: &Path, arguments: &[&str]) -> Result<(), String> {
    let write = arguments.contains(&"--write");
    let chosen: Vec<&str> =
        arguments.iter().copied().filter(|argument| *argument != "--write").collect();
    if let Some(unknown) = chosen.iter().find(|name| !NAMES.contains(name)) {
        return Err(format!("there is no benchmark `{unknown}`: {}", NAMES.join(", ")));
    }
    run(root, "cargo", &["build", "--release", "--locked", "--package", "corten"])?;
    let corten = root.join("target/release/corten");
    let work = root.join("target/bench");
    std::fs::create_dir_all(&work).map_err(|error| error.to_string())?;
    let app = App::create(&work)?;
    let contenders = contenders(root, &corten, &work)?;
    for contender in &contenders {
        contender.build(&app)?;
    }
    let mut table = String::from(
        "| work | program | median | smallest | CPU | ratio |\n|---|---|---|---|---|---|\n",
    );
    for name in NAMES.into_iter().filter(|name| chosen.is_empty() || chosen.contains(name)) {
        let results = rounds(name, &contenders, &app)?;
        rows(name, &results, &mut table);
    }
    println!("{table}");
    if write {
        page(root, &contenders, &table)?;
    }
    Ok(())
}

/// One round after the other, so that a slow moment of the machine meets everyone.
fn rounds(
    name: &str,
    contenders: &[Contender],
    app: &App,
) -> Result<Vec<(String, Summary)>, String> {
    let mut samples: Vec<Vec<Sample>> = contenders.iter().map(|_| Vec::new()).collect();
    for round in 0..=ROUNDS {
        for (contender, samples) in contenders.iter().zip(&mut samples) {
            if name == "change" {
                app.change(round)?;
            }
            let mut command = match name {
                "run" => contender.run_command(),
                _ => contender.build_command(app),
            };
            let sample = measure(&mut command)?;
            // The first round warms caches up.
            if round > 0 {
                samples.push(sample);
            }
        }
    }
    Ok(contenders
        .iter()
        .zip(&samples)
        .map(|(contender, samples)| (contender.name.clone(), summarise(samples)))
        .collect())
}

fn rows(name: &str, results: &[(String, Summary)], table: &mut String) {
    let ours = results.first().map_or(1.0, |result| result.1.median_ms);
    let work = match name {
        "noop" => "build again, nothing changed",
        "change" => "build again, one line changed",
        _ => "run `true`, no network",
    };
    for (contender, summary) in results {
        table.push_str(&format!(
            "| {work} | {contender} | {:.1} ms | {:.1} ms | {:.1} ms | {:.1} |\n",
            summary.median_ms,
            summary.min_ms,
            summary.cpu_ms,
            summary.median_ms / ours
        ));
    }
}

fn page(root: &Path, contenders: &[Contender], table: &str) -> Result<(), String> {
    let kernel = output(root, "uname", &["-r"])?;
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let versions: Vec<String> =
        contenders.iter().map(|contender| format!("- {}", contender.version)).collect();
    let text = format!(
        "# Benchmarks\n\nWritten by `cargo xtask bench --write`. {ROUNDS} rounds, each contender \
         once a round; the CPU column is user and system time of the command itself, without \
         that of a daemon. The last column is the median against Corten's.\n\n{table}\n\
         Kernel {}, {processors} processors.\n\n{}\n",
        kernel.trim(),
        versions.join("\n")
    );
    let path: PathBuf = root.join("docs/benchmarks.md");
    std::fs::write(&path, text)
        .map_err(|error| format!("failed to write {}: {error}", path.display()))
}
