//! Measures what people wait for, beside the programs that they use today.

mod engine;
mod measure;
mod report;
mod sample;

use std::path::{Path, PathBuf};
use std::process::Command;

use engine::Engine;
use measure::Sample;

use crate::{Failure, shell, ui};

const PAGE: &str = "docs/benchmarks.md";

/// Fewer pairs say little on a machine that does other things too.
const PAIRS_DEFAULT: usize = 20;

/// The golden base of the sample, by its recipe and by its name.
const RECIPE: &str = "python-3.11";
const BASE: &str = "golden.internal/python:3.11-slim";

const PEERS: [&str; 2] = ["docker", "podman"];

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Noop,
    Change,
    Run,
    Base,
}

const WORKS: [(&str, Work); 4] =
    [("noop", Work::Noop), ("change", Work::Change), ("run", Work::Run), ("base", Work::Base)];

impl Work {
    fn title(self) -> &'static str {
        match self {
            Self::Noop => "Build again with nothing changed",
            Self::Change => "Build again after a change of one line",
            Self::Run => "Run a command in a new container",
            Self::Base => "Make a golden base again",
        }
    }
}

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    works: Vec<Work>,
    /// None: whichever peers run here.
    against: Option<Vec<&'static str>>,
    pairs: usize,
    write: bool,
}

/// All measurements of one work.
#[derive(Debug)]
struct Result {
    title: String,
    command: String,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    engine: &'static str,
    samples: Vec<Sample>,
    measures_cpu: bool,
}

/// Runs the benchmarks and prints or writes their tables.
pub(crate) fn run(root: &Path, words: &[&str]) -> std::result::Result<(), Failure> {
    let options = parse(words)?;
    let bench = Bench::prepare(root, &options)?;
    let mut results = Vec::new();
    for work in &options.works {
        ui::step(work.title());
        results.push(bench.measure(*work, options.pairs)?);
    }
    bench.clean_up();
    ui::line(report::tables(&results).trim_end());
    if options.write {
        let versions: Vec<String> =
            bench.engines.iter().map(|engine| engine.version.clone()).collect();
        shell::write_file(&root.join(PAGE), report::page(root, &versions, &results)?)?;
        ui::line(&format!("wrote {PAGE}"));
    }
    Ok(())
}

fn parse(words: &[&str]) -> std::result::Result<Options, Failure> {
    let mut options =
        Options { works: Vec::new(), against: None, pairs: PAIRS_DEFAULT, write: false };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or_else(|| Failure(format!("`{word}` needs a value")));
        match *word {
            "--write" => options.write = true,
            "--pairs" => {
                let value = value()?;
                let pairs = value.parse().ok().filter(|pairs| *pairs > 0);
                options.pairs =
                    pairs.ok_or_else(|| Failure(format!("`{value}` is no number of pairs")))?;
            }
            "--against" => {
                let names = value()?.split(',').filter(|name| !name.is_empty());
                options.against = Some(names.map(peer).collect::<std::result::Result<_, _>>()?);
            }
            name => {
                let work = WORKS.iter().find(|(known, _)| *known == name);
                let unknown = || {
                    let names = WORKS.map(|(name, _)| name).join(", ");
                    Failure(format!("unknown benchmark `{name}`; there are {names}"))
                };
                options.works.push(work.ok_or_else(unknown)?.1);
            }
        }
    }
    if options.works.is_empty() {
        options.works = vec![Work::Noop, Work::Change, Work::Run];
    }
    Ok(options)
}

fn peer(name: &str) -> std::result::Result<&'static str, Failure> {
    let known = PEERS.iter().find(|known| **known == name);
    known
        .copied()
        .ok_or_else(|| Failure(format!("unknown peer `{name}`; there are {}", PEERS.join(", "))))
}

/// Engines with the base loaded, and a project to build.
struct Bench {
    /// Corten first.
    engines: Vec<Engine>,
    project: PathBuf,
    /// Where the commands' output goes.
    output: PathBuf,
}

impl Bench {
    fn prepare(root: &Path, options: &Options) -> std::result::Result<Self, Failure> {
        let place = shell::target_dir(root).join("bench");
        ui::step("build corten");
        shell::run(shell::cargo(root).args([
            "build",
            "--release",
            "--locked",
            "--package",
            "corten",
        ]))?;
        let program = shell::target_dir(root).join("release/corten");
        let corten = Engine::corten(program, &place.join("store"))?;
        let project = place.join("project");
        sample::write(&project, BASE)?;
        let mut bench = Self { engines: vec![corten], project, output: place.join("output.txt") };
        ui::step(&format!("make {BASE}"));
        // A base that is there already needs no network, which peers may not have beside us.
        if bench.succeed(bench.engines[0].command(&["inspect", BASE])).is_err() {
            bench.succeed(bench.engines[0].command(&["base", "build", "--quiet", RECIPE]))?;
        }
        if options.works.iter().any(|work| *work != Work::Base) {
            bench.add_peers(options, &place.join("base.tar"))?;
            for engine in &bench.engines {
                ui::step(&format!("build the sample with {}", engine.name));
                bench.succeed(engine.build(&bench.project))?;
            }
        }
        Ok(bench)
    }

    /// Adds the peers that were asked for, or those that run, with the same base.
    fn add_peers(&mut self, options: &Options, archive: &Path) -> std::result::Result<(), Failure> {
        let mut peers = Vec::new();
        for name in options.against.as_deref().unwrap_or(&PEERS) {
            match Engine::peer(name) {
                Ok(peer) => peers.push(peer),
                Err(failure) if options.against.is_some() => return Err(failure),
                Err(_) => ui::warn(&format!("{name} does not run here; it is left out")),
            }
        }
        if peers.is_empty() {
            return Ok(());
        }
        let archive_text = archive.display().to_string();
        let words = ["save", "--format", "docker-archive", "--output", &archive_text, BASE];
        self.succeed(self.engines[0].command(&words))?;
        for peer in peers {
            self.succeed(peer.load(archive))?;
            self.engines.push(peer);
        }
        Ok(())
    }

    fn succeed(&self, mut command: Command) -> std::result::Result<(), Failure> {
        measure::run(&mut command, &self.output).map(drop)
    }

    /// Measures one work with every engine in turn.
    fn measure(&self, work: Work, pairs: usize) -> std::result::Result<Result, Failure> {
        let engines = if work == Work::Base { &self.engines[..1] } else { &self.engines[..] };
        let mut rows: Vec<Row> = engines
            .iter()
            .map(|engine| Row {
                engine: engine.name,
                samples: Vec::with_capacity(pairs),
                measures_cpu: engine.measures_cpu,
            })
            .collect();
        // The first round fills caches of the machine and is not counted.
        for round in 0..=pairs {
            for turn in 0..engines.len() {
                // Nobody is always first.
                let index = (round + turn) % engines.len();
                let mut command = self.command(work, &engines[index]);
                if work == Work::Change {
                    // Other numbers than those of earlier benchmarks, whose results are cached.
                    let first = u64::from(std::process::id()) * 100_000;
                    let number = first + (round * engines.len() + turn) as u64;
                    sample::change(&self.project, number)?;
                }
                let sample = measure::run(&mut command, &self.output)?;
                if round > 0 {
                    rows[index].samples.push(sample);
                }
            }
        }
        let mut command = self.command(work, &self.engines[0]);
        let command = shell::describe(command.env_clear());
        Ok(Result { title: work.title().to_owned(), command: self.shorten(&command), rows })
    }

    fn command(&self, work: Work, engine: &Engine) -> Command {
        match work {
            Work::Noop | Work::Change => engine.build(&self.project),
            Work::Run => engine.run(),
            Work::Base => engine.command(&["base", "build", "--quiet", RECIPE]),
        }
    }

    /// Leaves out what is only true for this machine.
    fn shorten(&self, command: &str) -> String {
        let place = self.project.parent().unwrap_or(&self.project).display().to_string();
        command.replace(&format!(" --root {place}/store"), "").replace(&format!("{place}/"), "")
    }

    /// Removes what the peers keep; corten's store is in the target directory.
    fn clean_up(&self) {
        for engine in self.engines.iter().skip(1) {
            if let Err(Failure(message)) = self.succeed(engine.remove()) {
                ui::warn(&message);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_words_the_usual_works_are_measured() {
        let options = parse(&[]).unwrap();
        assert_eq!(options.works, [Work::Noop, Work::Change, Work::Run]);
        assert_eq!((options.against, options.pairs, options.write), (None, PAIRS_DEFAULT, false));
    }

    #[test]
    fn works_peers_and_pairs_can_be_chosen() {
        let words = ["run", "--against", "podman,docker", "--pairs", "5", "--write", "base"];
        let options = parse(&words).unwrap();
        assert_eq!(options.works, [Work::Run, Work::Base]);
        assert_eq!(options.against, Some(vec!["podman", "docker"]));
        assert_eq!((options.pairs, options.write), (5, true));
        assert_eq!(parse(&["--against", ""]).unwrap().against, Some(vec![]));
    }

    #[test]
    fn a_wrong_word_is_an_error_that_says_what_there_is() {
        for (words, expected) in [
            (&["nop"][..], "unknown benchmark `nop`; there are noop, change, run, base"),
            (&["--against", "lxc"], "unknown peer `lxc`; there are docker, podman"),
            (&["--pairs", "0"], "`0` is no number of pairs"),
            (&["--pairs"], "`--pairs` needs a value"),
        ] {
            assert_eq!(parse(words).unwrap_err().0, expected);
        }
    }
}
