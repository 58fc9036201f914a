//! Everything that must hold before a change lands; the same for people and machines.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::{Failure, generate, shell, tidy, ui};

/// How a part of the gate ended.
enum Outcome {
    Passed,
    Failed(String),
    /// With the reason.
    Skipped(&'static str),
}

/// The gate as it goes.
struct Gate {
    root: PathBuf,
    /// Where tests note that they could not run.
    skips: PathBuf,
    parts: Vec<(&'static str, Outcome, Duration)>,
    /// What the test runners said last.
    closing_lines: Vec<String>,
}

/// Runs every part, also after one has failed, and says at the end how each of them went.
pub(crate) fn run(root: &Path) -> Result<(), Failure> {
    let skips = shell::target_dir(root).join("skipped-tests.txt");
    shell::write_file(&skips, "")?;
    let mut gate =
        Gate { root: root.to_owned(), skips, parts: Vec::new(), closing_lines: Vec::new() };
    gate.part("format", |gate| gate.cargo(&["fmt", "--all", "--check"]));
    gate.part("tidy", |gate| tidy::run(&gate.root).into());
    gate.part("scripts", |gate| check_scripts(&gate.root).into());
    gate.part("clippy", |gate| {
        gate.cargo(&["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"])
    });
    gate.part("generated files", |gate| generate::check(&gate.root).into());
    gate.part("dependencies", Gate::deny);
    gate.part("examples in documentation", |gate| {
        gate.tests(&["test", "--locked", "--workspace", "--doc"], "test result: ")
    });
    gate.part("tests", |gate| {
        gate.tests(&["nextest", "run", "--locked", "--workspace"], "Summary [")
    });
    gate.part("privileged tests", Gate::privileged);
    gate.finish()
}

impl From<Result<(), Failure>> for Outcome {
    fn from(result: Result<(), Failure>) -> Self {
        match result {
            Ok(()) => Self::Passed,
            Err(Failure(message)) => Self::Failed(message),
        }
    }
}

impl Gate {
    fn part(&mut self, name: &'static str, work: impl FnOnce(&mut Self) -> Outcome) {
        ui::step(name);
        let started = Instant::now();
        let outcome = work(self);
        match &outcome {
            Outcome::Passed => {}
            Outcome::Failed(message) => ui::error(message),
            Outcome::Skipped(reason) => ui::warn(&format!("skipped: {reason}")),
        }
        self.parts.push((name, outcome, started.elapsed()));
    }

    fn cargo(&self, arguments: &[&str]) -> Outcome {
        shell::run(shell::cargo(&self.root).args(arguments)).into()
    }

    /// cargo-deny takes minutes to build, so it is a tool that one has or has not.
    fn deny(&mut self) -> Outcome {
        if !shell::exists(shell::cargo(&self.root).args(["deny", "--version"])) {
            return Outcome::Skipped("cargo-deny is not installed; tidy has checked the licences");
        }
        // Advisories need the network: `cargo deny check advisories` is for people and schedules.
        self.cargo(&["deny", "--locked", "check", "bans", "licenses", "sources"])
    }

    fn privileged(&mut self) -> Outcome {
        if corten_sys::file::effective_user_id() != 0 {
            return Outcome::Skipped("mounts, namespaces and cgroups are tested as root only");
        }
        let arguments = ["nextest", "run", "--locked", "--workspace", "--profile", "privileged"];
        self.tests(&arguments, "Summary [")
    }

    /// Runs a test runner and keeps its closing lines.
    fn tests(&mut self, arguments: &[&str], closing: &str) -> Outcome {
        let mut command = shell::cargo(&self.root);
        command.args(arguments).env("CORTEN_TEST_SKIPS", &self.skips);
        if ui::has_color() {
            command.env("CARGO_TERM_COLOR", "always");
        }
        let name = shell::describe(&command);
        match shell::watch(&mut command, |line| {
            line.contains(closing) && !line.contains(" 0 passed; 0 failed")
        }) {
            Err(Failure(message)) => Outcome::Failed(message),
            Ok(watched) => {
                self.closing_lines.extend(watched.kept);
                if watched.success {
                    Outcome::Passed
                } else {
                    Outcome::Failed(format!("`{name}` failed"))
                }
            }
        }
    }

    /// Says how each part went and ends with the runners' own lines.
    fn finish(self) -> Result<(), Failure> {
        let skipped = shell::read_file(&self.skips)?;
        ui::step("result");
        for line in skipped.lines() {
            ui::warn(&format!("skipped test {line}"));
        }
        let mut failed = Vec::new();
        for (name, outcome, elapsed) in &self.parts {
            let word = match outcome {
                Outcome::Passed => "passed",
                Outcome::Failed(_) => "FAILED",
                Outcome::Skipped(_) => "skipped",
            };
            ui::pass_on(&format!("{:7.1} s  {word:7}  {name}", elapsed.as_secs_f64()));
            if matches!(outcome, Outcome::Failed(_)) {
                failed.push(*name);
            }
        }
        for line in &self.closing_lines {
            ui::pass_on(line.trim_start());
        }
        if failed.is_empty() {
            Ok(())
        } else {
            Err(Failure(format!("failed: {}", failed.join(", "))))
        }
    }
}

/// Has bash read each script without running it.
fn check_scripts(root: &Path) -> Result<(), Failure> {
    let mut git = Command::new("git");
    git.current_dir(root).args(["ls-files", "-co", "--exclude-standard", "*.sh", "scripts", ".ci"]);
    for script in shell::read(&mut git)?.lines().filter(|script| root.join(script).is_file()) {
        shell::run(Command::new("bash").current_dir(root).args(["-n", script]))?;
    }
    Ok(())
}
