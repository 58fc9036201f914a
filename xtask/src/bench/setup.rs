//! What must be there before anything is measured, and what is left afterwards.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Command;

use super::application::{self, Application};
use super::engine::{Engine, Peer};
use super::{BASE, Bench, Options, RECIPE, Work, measure, sample};
use crate::{Failure, program, shell, ui};

/// The works that need the image of the sample.
const OF_SAMPLE: [Work; 6] =
    [Work::Noop, Work::Change, Work::Run, Work::RunNetwork, Work::Exec, Work::Thousand];

impl Bench {
    pub(super) fn prepare(root: &Path, options: &Options) -> Result<Self, Failure> {
        let place = shell::target_dir(root).join("bench");
        ui::step("build corten");
        let program = program::build(root)?;
        let corten = Engine::corten(program, &place.join("store"))?;
        let sample = place.join("project");
        sample::write(&sample, BASE)?;
        let output = place.join("output.txt");
        let engines = vec![corten];
        let mut bench = Self { engines, place, sample, service: None, large: None, output };
        ui::step(&format!("make {BASE}"));
        // A base that is there already needs no network, which peers may not have beside us.
        if bench.succeed(bench.engines[0].command(&["inspect", BASE])).is_err() {
            bench.succeed(bench.engines[0].command(&["base", "build", "--quiet", RECIPE]))?;
        }
        let wants = |works: &[Work]| options.works.iter().any(|work| works.contains(work));
        if wants(&[Work::AppNoop, Work::AppChange, Work::AppCold]) {
            let service = application::service(&bench.place.join("service"), BASE)?;
            bench.fetch_wheels(&service, false)?;
            bench.service = Some(service);
        }
        if wants(&[Work::Large]) {
            let large = application::large(&bench.place.join("large"), BASE)?;
            bench.fetch_wheels(&large, true)?;
            bench.large = Some(large);
        }
        if options.works.iter().any(|work| *work != Work::Base) {
            bench.add_peers(options)?;
            let mut projects = Vec::new();
            if wants(&OF_SAMPLE) {
                projects.push(bench.sample.clone());
            }
            projects.extend(bench.service.iter().map(|service| service.directory.clone()));
            let builders = bench.engines.iter().filter(|engine| engine.builds());
            for (engine, project) in
                builders.flat_map(|engine| projects.iter().map(move |p| (engine, p)))
            {
                ui::step(&format!("build {} with {}", bench.name(project), engine.name));
                bench.succeed(engine.build(project))?;
            }
            if wants(&[Work::Bundle]) {
                bench.make_bundle()?;
            }
            if wants(&[Work::Exec]) {
                for engine in bench.engines.iter().filter(|engine| engine.runs()) {
                    ui::step(&format!("start a container with {}", engine.name));
                    // One may be left of a measurement that was interrupted; usually there is none.
                    bench.succeed(engine.remove_host()).unwrap_or_default();
                    bench.succeed(engine.host())?;
                }
            }
        }
        Ok(bench)
    }

    fn name(&self, project: &Path) -> String {
        project.strip_prefix(&self.place).unwrap_or(project).display().to_string()
    }

    /// Puts the wheels into the context of a project, once.
    fn fetch_wheels(&self, application: &Application, is_large: bool) -> Result<(), Failure> {
        let wheels = application.directory.join("wheels");
        if wheels.is_dir() {
            return Ok(());
        }
        ui::step(&format!("fetch the wheels of {}", self.name(&application.directory)));
        let file = application.directory.join("Dockerfile.fetch");
        shell::write_file(&file, application::fetching(BASE, is_large))?;
        let mut command = self.engines[0].command(&["build", "--file"]);
        command.arg(file).arg("--output").arg(&wheels).arg(&self.sample);
        self.succeed(command)
    }

    /// Makes a bundle of the base whose program does nothing, with the configuration that `oci spec` writes.
    fn make_bundle(&self) -> Result<(), Failure> {
        let bundle = self.bundle();
        if bundle.is_dir() {
            return Ok(());
        }
        ui::step("make a bundle");
        let context = self.place.join("bundle-context");
        shell::write_file(&context.join("Dockerfile"), format!("FROM {BASE}\n"))?;
        let mut command = self.engines[0].command(&["build", "--output"]);
        self.succeed({
            command.arg(bundle.join("rootfs")).arg(&context);
            command
        })?;
        self.succeed(self.engines[0].spec(&bundle))?;
        let file = bundle.join("config.json");
        let text = shell::read_file(&file)?;
        // Older peers refuse versions that they do not know, and nothing here needs one of those.
        let changed = text
            .replacen("\"terminal\": true", "\"terminal\": false", 1)
            .replacen("\"sh\"", "\"true\"", 1)
            .replacen("\"ociVersion\": \"1.2", "\"ociVersion\": \"1.0", 1);
        shell::write_file(&file, changed)
    }

    /// Adds the peers that were asked for, or those that run, with the same base.
    fn add_peers(&mut self, options: &Options) -> Result<(), Failure> {
        let mut peers = Vec::new();
        let all = Peer::all();
        for peer in options.against.as_ref().unwrap_or(&all) {
            match Engine::peer(peer) {
                Ok(peer) => peers.push(peer),
                Err(failure) if options.against.is_some() => return Err(failure),
                Err(_) => ui::warn(&format!("{} does not run here; it is left out", peer.name())),
            }
        }
        if peers.is_empty() {
            return Ok(());
        }
        let archive = self.place.join("base.tar");
        let archive_text = archive.display().to_string();
        let words = ["save", "--format", "docker-archive", "--output", &archive_text, BASE];
        self.succeed(self.engines[0].command(&words))?;
        for peer in peers {
            if peer.builds() {
                self.succeed(peer.load(&archive))?;
            }
            self.engines.push(peer);
        }
        Ok(())
    }

    pub(super) fn succeed(&self, mut command: Command) -> Result<(), Failure> {
        measure::run(&mut command, &self.output).map(drop)
    }

    /// Removes every layer of earlier builds from our store, and returns what is left in bytes.
    pub(super) fn emptied(&self) -> Result<u64, Failure> {
        let corten = &self.engines[0];
        self.succeed(corten.remove())?;
        self.succeed(corten.command(&["system", "prune", "--all", "--force"]))?;
        disk_bytes(&self.place.join("store"))
    }

    /// What the build of the large project takes on the disk, in a sentence.
    pub(super) fn disk_note(&self, before: u64) -> Result<String, Failure> {
        let after = disk_bytes(&self.place.join("store"))?;
        let grown = after.saturating_sub(before);
        let size = |image: &str| -> Result<u64, Failure> {
            let words = ["inspect", "--format", "{{.Size}}", image];
            let text = shell::read(&mut self.engines[0].command(&words))?;
            text.trim().parse().map_err(Failure::of(format!("read the size of `{image}`")))
        };
        let content = size("corten-bench:latest")?.saturating_sub(size(BASE)?);
        let percent = grown * 100 / content.max(1);
        Ok(format!(
            "corten's store grew by {} MB for {} MB of layers: {}.{:02} times.",
            grown / 1_000_000,
            content / 1_000_000,
            percent / 100,
            percent % 100
        ))
    }

    /// Removes what the peers keep; corten's store is in the target directory.
    pub(super) fn clean_up(&self, works: &[Work]) {
        if works.contains(&Work::Exec) {
            for engine in self.engines.iter().filter(|engine| engine.runs()) {
                if let Err(Failure(message)) = self.succeed(engine.remove_host()) {
                    ui::warn(&message);
                }
            }
        }
        for engine in self.engines.iter().skip(1).filter(|engine| engine.builds()) {
            if let Err(Failure(message)) = self.succeed(engine.remove()) {
                ui::warn(&message);
            }
        }
    }
}

/// What a directory occupies; a file with several names counts once.
fn disk_bytes(directory: &Path) -> Result<u64, Failure> {
    let mut seen = std::collections::BTreeSet::new();
    let mut total = 0;
    let mut waiting = vec![directory.to_owned()];
    while let Some(path) = waiting.pop() {
        let attempt = || format!("look at `{}`", path.display());
        let metadata = std::fs::symlink_metadata(&path).map_err(Failure::of(attempt()))?;
        if metadata.nlink() > 1 && !metadata.is_dir() && !seen.insert(metadata.ino()) {
            continue;
        }
        total += metadata.blocks() * 512;
        if metadata.is_dir() {
            for entry in std::fs::read_dir(&path).map_err(Failure::of(attempt()))? {
                waiting.push(entry.map_err(Failure::of(attempt()))?.path());
            }
        }
    }
    Ok(total)
}
