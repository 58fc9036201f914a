//! Measures what people wait for, beside the programs that they use today.

mod application;
mod containers;
mod engine;
mod measure;
mod report;
mod sample;
mod setup;

use std::path::{Path, PathBuf};
use std::process::Command;

use application::Application;
use engine::{Engine, Peer};
use measure::Sample;

use crate::{Failure, shell, ui};

const PAGE: &str = "docs/benchmarks.md";

/// Fewer pairs say little on a machine that does other things too.
const PAIRS_DEFAULT: usize = 20;

/// What takes a minute is not done more often.
const PAIRS_OF_LARGE: usize = 3;

/// What takes seconds is not done more often.
const PAIRS_OF_COLD: usize = 7;

/// The golden base of the projects, by its recipe and by its name.
const RECIPE: &str = "python-3.11";
const BASE: &str = "golden.internal/python:3.11-slim";

/// The row of what no builder can be faster than.
const FLOOR: &str = "pip alone";

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Work {
    Noop,
    Change,
    Run,
    RunNetwork,
    Exec,
    Thousand,
    Bundle,
    Base,
    AppNoop,
    AppChange,
    AppCold,
    Large,
}

const WORKS: [(&str, Work); 12] = [
    ("noop", Work::Noop),
    ("change", Work::Change),
    ("start", Work::Run),
    ("start-network", Work::RunNetwork),
    ("exec", Work::Exec),
    ("thousand", Work::Thousand),
    ("bundle", Work::Bundle),
    ("base", Work::Base),
    ("app-noop", Work::AppNoop),
    ("app-change", Work::AppChange),
    ("app-cold", Work::AppCold),
    ("large", Work::Large),
];

/// Names for several at once.
const GROUPS: [(&str, &[Work]); 2] = [
    ("build", &[Work::AppNoop, Work::AppChange, Work::AppCold, Work::Large]),
    ("run", &[Work::Run, Work::RunNetwork, Work::Exec, Work::Thousand, Work::Bundle]),
];

impl Work {
    fn title(self) -> &'static str {
        match self {
            Self::Noop => "Build again with nothing changed",
            Self::Change => "Build again after a change of one line",
            Self::Run => "Run a command in a new container",
            Self::RunNetwork => "Run a command in a new container with a network",
            Self::Exec => "Run a further command in a container",
            Self::Thousand => "Containers in the background, and short ones",
            Self::Bundle => "Run a bundle, as the runtime of other engines",
            Self::Base => "Make a golden base again",
            Self::AppNoop => "A service with 19 wheels: build again with nothing changed",
            Self::AppChange => "A service with 19 wheels: build again after a change of one line",
            Self::AppCold => "A service with 19 wheels: build without a cache",
            Self::Large => "Wheels of 2 GB: build without a cache",
        }
    }

    /// Whether every step is done, so that the packages are installed.
    fn is_cold(self) -> bool {
        matches!(self, Self::AppCold | Self::Large)
    }

    fn pairs(self, wanted: usize) -> usize {
        match self {
            Self::Large => wanted.min(PAIRS_OF_LARGE),
            Self::AppCold => wanted.min(PAIRS_OF_COLD),
            _ => wanted,
        }
    }
}

/// What was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Options {
    works: Vec<Work>,
    /// None: whichever peers run here.
    against: Option<Vec<Peer>>,
    pairs: usize,
    write: bool,
}

/// All measurements of one work.
#[derive(Debug)]
struct Result {
    title: String,
    command: String,
    rows: Vec<Row>,
    /// Sentences for below the table.
    notes: Vec<String>,
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
        results.push(match work {
            Work::Thousand => bench.thousand()?,
            work => bench.measure(*work, work.pairs(options.pairs))?,
        });
    }
    bench.clean_up(&options.works);
    ui::line(report::tables(&results).trim_end());
    if options.write {
        let named = |engine: &Engine| format!("{}: {}", engine.name, engine.version);
        let versions: Vec<String> = bench.engines.iter().map(named).collect();
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
                options.against =
                    Some(names.map(Peer::parse).collect::<std::result::Result<_, _>>()?);
            }
            name => options.works.extend(works(name)?),
        }
    }
    if options.works.is_empty() {
        options.works = vec![Work::Noop, Work::Change, Work::Run];
    }
    Ok(options)
}

/// One work by its name, or those of a group.
fn works(name: &str) -> std::result::Result<Vec<Work>, Failure> {
    if let Some((_, works)) = GROUPS.iter().find(|(known, _)| *known == name) {
        return Ok(works.to_vec());
    }
    if let Some((_, work)) = WORKS.iter().find(|(known, _)| *known == name) {
        return Ok(vec![*work]);
    }
    let names = WORKS.iter().map(|(name, _)| *name).chain(GROUPS.map(|(name, _)| name));
    let names = names.collect::<Vec<_>>().join(", ");
    Err(Failure(format!("unknown benchmark `{name}`; there are {names}")))
}

/// Engines with the base loaded, and projects to build.
struct Bench {
    /// Corten first.
    engines: Vec<Engine>,
    /// The files of everything.
    place: PathBuf,
    sample: PathBuf,
    /// Present when it is measured.
    service: Option<Application>,
    large: Option<Application>,
    /// Where the commands' output goes.
    output: PathBuf,
}

impl Bench {
    /// Measures one work with every engine in turn.
    fn measure(&self, work: Work, pairs: usize) -> std::result::Result<Result, Failure> {
        let mut commands: Vec<(Row, Box<dyn Fn() -> Command + '_>)> = Vec::new();
        for engine in self.engines.iter().filter(|engine| is_measured(engine, work)) {
            let row = Row {
                engine: engine.name,
                samples: Vec::with_capacity(pairs),
                measures_cpu: engine.measures_cpu,
            };
            commands.push((row, Box::new(move || self.command(work, engine))));
        }
        if work.is_cold() {
            let row = Row { engine: FLOOR, samples: Vec::new(), measures_cpu: true };
            commands.push((row, Box::new(move || self.floor(work))));
        }
        let before = if work == Work::Large { Some(self.emptied()?) } else { None };
        // The first round fills caches of the machine and is not counted.
        for round in 0..=pairs {
            for turn in 0..commands.len() {
                // Nobody is always first.
                let index = (round + turn) % commands.len();
                // Other numbers than those of earlier benchmarks, whose results are cached.
                let first = u64::from(std::process::id()) * 100_000;
                self.change(work, first + (round * commands.len() + turn) as u64)?;
                let (row, command) = &mut commands[index];
                let sample = measure::run(&mut command(), &self.output)?;
                if round > 0 {
                    row.samples.push(sample);
                }
            }
        }
        let mut command = self.command(work, &self.engines[0]);
        let command = shell::describe(command.env_clear());
        let rows: Vec<Row> = commands.into_iter().map(|(row, _)| row).collect();
        let mut notes = Vec::new();
        if work.is_cold() {
            notes.extend(report::cold_notes(&rows));
        }
        if let Some(before) = before {
            notes.push(self.disk_note(before)?);
        }
        let title = work.title().to_owned();
        Ok(Result { title, command: self.shorten(&command), rows, notes })
    }

    fn change(&self, work: Work, number: u64) -> std::result::Result<(), Failure> {
        match (work, &self.service) {
            (Work::Change, _) => sample::change(&self.sample, number),
            (Work::AppChange, Some(service)) => application::change(&service.directory, number),
            _ => Ok(()),
        }
    }

    fn command(&self, work: Work, engine: &Engine) -> Command {
        let directory = self.project(work);
        match work {
            Work::Noop | Work::Change | Work::AppNoop | Work::AppChange => engine.build(directory),
            Work::AppCold | Work::Large => engine.build_again(directory),
            Work::Run => engine.run(),
            Work::RunNetwork => engine.run_with_network(),
            Work::Exec => engine.execute(),
            Work::Thousand => engine.background("NAME"),
            Work::Bundle => engine.run_bundle(&self.bundle()),
            Work::Base => engine.command(&["base", "build", "--quiet", RECIPE]),
        }
    }

    fn bundle(&self) -> PathBuf {
        self.place.join("bundle")
    }

    fn application(&self, work: Work) -> Option<&Application> {
        if work == Work::Large { self.large.as_ref() } else { self.service.as_ref() }
    }

    fn project(&self, work: Work) -> &Path {
        match work {
            Work::AppNoop | Work::AppChange | Work::AppCold | Work::Large => {
                self.application(work).map_or(&self.sample, |application| &application.directory)
            }
            _ => &self.sample,
        }
    }

    /// Installs the same wheels in a container, and nothing else.
    fn floor(&self, work: Work) -> Command {
        let wheels = format!("{}:/wheels:ro", self.project(work).join("wheels").display());
        let words = ["run", "--rm", "--network", "none", "--volume", &wheels, BASE];
        let mut command = self.engines[0].command(&words);
        command.args(self.application(work).into_iter().flat_map(|app| app.install.split(' ')));
        command
    }

    /// Leaves out what is only true for this machine.
    fn shorten(&self, command: &str) -> String {
        let place = self.place.display().to_string();
        command.replace(&format!(" --root {place}/store"), "").replace(&format!("{place}/"), "")
    }
}

fn is_measured(engine: &Engine, work: Work) -> bool {
    match work {
        Work::Base => engine.name == "corten",
        Work::Run | Work::RunNetwork | Work::Exec | Work::Thousand => engine.runs(),
        Work::Large => engine.mounts(),
        Work::Bundle => engine.takes_bundles(),
        _ => engine.builds(),
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
        let words = ["start", "--against", "podman,docker", "--pairs", "5", "--write", "base"];
        let options = parse(&words).unwrap();
        assert_eq!(options.works, [Work::Run, Work::Base]);
        let names: Vec<_> = options.against.iter().flatten().map(Peer::name).collect();
        assert_eq!(names, ["podman", "docker"]);
        assert_eq!((options.pairs, options.write), (5, true));
        assert_eq!(parse(&["--against", ""]).unwrap().against, Some(vec![]));
    }

    #[test]
    fn a_group_is_several_works() {
        let works = parse(&["build"]).unwrap().works;
        assert_eq!(works, [Work::AppNoop, Work::AppChange, Work::AppCold, Work::Large]);
        assert_eq!(Work::Large.pairs(20), PAIRS_OF_LARGE);
    }

    #[test]
    fn a_wrong_word_is_an_error_that_says_what_there_is() {
        for (words, expected) in [
            (
                &["nop"][..],
                "unknown benchmark `nop`; there are noop, change, start, start-network, exec, \
                 thousand, bundle, base, app-noop, app-change, app-cold, large, build, run",
            ),
            (&["--pairs", "0"], "`0` is no number of pairs"),
            (&["--pairs"], "`--pairs` needs a value"),
        ] {
            assert_eq!(parse(words).unwrap_err().0, expected);
        }
    }
}
