//! Shows events as they come: a moving display, plain lines, JSON lines, or nothing.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use corten_diag::{Event, Outcome, Reporter, SourceFile, StepId, Unit, render};
use corten_sys::clock::{Clock, SystemClock};

use super::rawjson::Vertexes;
use super::{Ui, bytes, duration, printable};
use crate::cli::ProgressMode;

/// The moving display is drawn at most this often, so that chatty steps stay quick.
const REDRAW_INTERVAL: Duration = Duration::from_millis(60);
/// Output lines of a running step that the moving display shows.
const TAIL_LINES: usize = 4;
/// A line of a step is cut for the moving display here when the terminal's width is unknown.
const WIDTH_DEFAULT: usize = 80;

/// Takes events from every engine and shows them.
#[derive(Debug)]
pub(crate) struct Progress {
    ui: Ui,
    mode: Mode,
    /// The text that diagnostics point into, when there is one.
    source: Option<SourceFile>,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Plain,
    Tty,
    Json,
    RawJson,
    Quiet,
}

#[derive(Debug, Default)]
struct State {
    steps: BTreeMap<StepId, Step>,
    tasks: BTreeMap<String, (u64, Option<u64>, Unit)>,
    drawn_lines: usize,
    drawn_at: Duration,
    vertexes: Vertexes,
}

#[derive(Debug, Default)]
struct Step {
    title: String,
    started: Duration,
    /// Output that has not ended in a newline yet.
    partial: Vec<u8>,
    tail: Vec<String>,
}

impl Progress {
    pub(crate) fn new(
        ui: &Ui,
        mode: ProgressMode,
        quiet: bool,
        no_progress: bool,
        source: Option<SourceFile>,
    ) -> Self {
        let mode = match mode {
            _ if quiet => Mode::Quiet,
            ProgressMode::Quiet => Mode::Quiet,
            ProgressMode::Json => Mode::Json,
            ProgressMode::RawJson => Mode::RawJson,
            ProgressMode::Tty => Mode::Tty,
            ProgressMode::Auto if ui.stderr_is_terminal() && !no_progress => Mode::Tty,
            ProgressMode::Plain | ProgressMode::Auto => Mode::Plain,
        };
        Self { ui: ui.clone(), mode, source, state: Mutex::default() }
    }

    /// Removes the moving part; what is printed after this stays.
    pub(crate) fn finish(&self) {
        let mut state = self.lock();
        let text = erase(&mut state);
        self.ui.talk(&text);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn plain(&self, event: Event) {
        let mut state = self.lock();
        match event {
            Event::StepStarted { step, total, title } => {
                self.ui.status(&format!("#{step} {}", titled(step, total, &title)));
                state.steps.insert(step, Step { started: now(), ..Step::default() });
            }
            Event::StepOutput { step, bytes, .. } => {
                let started = state.steps.get(&step).map_or_else(now, |step| step.started);
                let elapsed = now().saturating_sub(started).as_secs_f64();
                let entry = state.steps.entry(step).or_default();
                let mut text = String::new();
                for line in complete_lines(&mut entry.partial, &bytes) {
                    text.push_str(&format!("#{step} {elapsed:.3} {line}\n"));
                }
                self.ui.talk(&text);
            }
            Event::StepFinished { step, outcome, elapsed } => {
                if let Some(entry) = state.steps.remove(&step)
                    && !entry.partial.is_empty()
                {
                    let rest = printable(&String::from_utf8_lossy(&entry.partial));
                    self.ui.status(&format!("#{step} {rest}"));
                }
                self.ui.status(&match outcome {
                    Outcome::Done => format!("#{step} DONE {}", duration(elapsed)),
                    Outcome::Cached => format!("#{step} CACHED"),
                    Outcome::Failed => format!("#{step} FAILED {}", duration(elapsed)),
                });
            }
            Event::Progress { task, done, total, unit } => {
                // Plain output says when a task begins and when it is complete.
                let complete = total == Some(done);
                let known = state.tasks.insert(task.clone(), (done, total, unit));
                let was_complete = known.is_some_and(|(done, total, _)| total == Some(done));
                if known.is_none() || (complete && !was_complete) {
                    self.ui.status(&progress_line(&task, done, total, unit));
                }
            }
            Event::Notice(text) => self.ui.note(&text),
            Event::Warning(text) => self.ui.warning(&text),
            Event::Diagnostic(diagnostic) => self.diagnostic(&diagnostic),
        }
    }

    fn moving(&self, event: Event) {
        let mut state = self.lock();
        let mut kept = String::new();
        let mut urgent = true;
        match event {
            Event::StepStarted { step, total, title } => {
                let title = titled(step, total, &title);
                state.steps.insert(step, Step { title, started: now(), ..Step::default() });
            }
            Event::StepOutput { step, bytes, .. } => {
                let entry = state.steps.entry(step).or_default();
                let lines = complete_lines(&mut entry.partial, &bytes);
                entry.tail.extend(lines);
                let surplus = entry.tail.len().saturating_sub(TAIL_LINES);
                entry.tail.drain(..surplus);
                urgent = false;
            }
            Event::StepFinished { step, outcome, elapsed } => {
                let title = state.steps.remove(&step).map(|step| step.title).unwrap_or_default();
                let (mark, text) = match outcome {
                    Outcome::Done => (paint(&self.ui, "32", "✓"), duration(elapsed)),
                    Outcome::Cached => (paint(&self.ui, "36", "="), "cached".to_owned()),
                    Outcome::Failed => (paint(&self.ui, "31", "✗"), duration(elapsed)),
                };
                let title = cut(&title, width().saturating_sub(text.chars().count() + 6));
                kept = format!("{mark} {title}  {}\n", paint(&self.ui, "2", &text));
            }
            Event::Progress { task, done, total, unit } => {
                if total == Some(done) {
                    state.tasks.remove(&task);
                    kept = format!(
                        "{} {}\n",
                        paint(&self.ui, "32", "✓"),
                        progress_line(&task, done, total, unit)
                    );
                } else {
                    state.tasks.insert(task, (done, total, unit));
                    urgent = false;
                }
            }
            Event::Notice(_) | Event::Warning(_) | Event::Diagnostic(_) => {
                let erased = erase(&mut state);
                self.ui.talk(&erased);
                match event {
                    Event::Notice(text) => self.ui.note(&text),
                    Event::Warning(text) => self.ui.warning(&text),
                    Event::Diagnostic(diagnostic) => self.diagnostic(&diagnostic),
                    _ => {}
                }
            }
        }
        let time = now();
        if urgent || time.saturating_sub(state.drawn_at) >= REDRAW_INTERVAL {
            let mut text = erase(&mut state);
            text.push_str(&kept);
            draw(&self.ui, &mut state, &mut text, time);
            self.ui.talk(&text);
        }
    }

    fn json(&self, event: &Event) {
        let value = match event {
            Event::StepStarted { step, total, title } => serde_json::json!({
                "event": "step_started", "step": step.0, "total": total, "title": title }),
            Event::StepOutput { step, stream, bytes } => serde_json::json!({
                "event": "step_output", "step": step.0,
                "stream": format!("{stream:?}").to_lowercase(),
                "text": String::from_utf8_lossy(bytes) }),
            Event::StepFinished { step, outcome, elapsed } => serde_json::json!({
                "event": "step_finished", "step": step.0,
                "outcome": format!("{outcome:?}").to_lowercase(),
                "elapsed_ms": u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX) }),
            Event::Progress { task, done, total, unit } => serde_json::json!({
                "event": "progress", "task": task, "done": done, "total": total,
                "unit": format!("{unit:?}").to_lowercase() }),
            Event::Notice(text) => serde_json::json!({ "event": "notice", "text": text }),
            Event::Warning(text) => serde_json::json!({ "event": "warning", "text": text }),
            Event::Diagnostic(diagnostic) => serde_json::json!({
                "event": "diagnostic", "severity": diagnostic.severity.as_str(),
                "code": diagnostic.code, "message": diagnostic.message,
                "hint": diagnostic.hint }),
        };
        self.ui.status(&value.to_string());
    }

    fn diagnostic(&self, diagnostic: &corten_diag::Diagnostic) {
        let text = render::full(diagnostic, self.source.as_ref(), self.ui.color());
        self.ui.talk(&format!("{}\n", text.trim_end()));
    }
}

impl Reporter for Progress {
    fn report(&self, event: Event) {
        match self.mode {
            Mode::Plain => self.plain(event),
            Mode::Tty => self.moving(event),
            Mode::Json => self.json(&event),
            Mode::RawJson => {
                let line = self.lock().vertexes.line(&event, SystemClock.now());
                self.ui.status(&line.to_string());
            }
            Mode::Quiet => {
                if let Event::Warning(text) = event {
                    self.ui.warning(&text);
                }
            }
        }
    }
}

fn now() -> Duration {
    SystemClock.monotonic()
}

pub(super) fn titled(step: StepId, total: u32, title: &str) -> String {
    if total == 0 { title.to_owned() } else { format!("[{step}/{total}] {title}") }
}

fn progress_line(task: &str, done: u64, total: Option<u64>, unit: Unit) -> String {
    let amount = |count: u64| match unit {
        Unit::Bytes => bytes(count),
        Unit::Items => count.to_string(),
    };
    match total {
        Some(total) if total == done => format!("{task}: {}", amount(total)),
        Some(total) => format!("{task}: {} of {}", amount(done), amount(total)),
        None if done == 0 => task.to_owned(),
        None => format!("{task}: {}", amount(done)),
    }
}

/// Takes the lines that are complete now; a carriage return starts a line over.
fn complete_lines(partial: &mut Vec<u8>, bytes: &[u8]) -> Vec<String> {
    partial.extend_from_slice(bytes);
    let Some(last) = partial.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
    let rest = partial.split_off(last + 1);
    let complete = std::mem::replace(partial, rest);
    complete[..complete.len() - 1]
        .split(|byte| *byte == b'\n')
        .map(|line| {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            let line = line.rsplit(|byte| *byte == b'\r').next().unwrap_or(line);
            printable(&String::from_utf8_lossy(line))
        })
        .collect()
}

/// The text that moves up over what was drawn and clears it.
fn erase(state: &mut State) -> String {
    let lines = std::mem::take(&mut state.drawn_lines);
    if lines == 0 { String::new() } else { format!("\u{1b}[{lines}A\u{1b}[0J") }
}

fn draw(ui: &Ui, state: &mut State, text: &mut String, time: Duration) {
    let columns = width();
    let mut lines = Vec::new();
    for step in state.steps.values() {
        let elapsed = duration(time.saturating_sub(step.started));
        let room = columns.saturating_sub(elapsed.chars().count() + 6);
        lines.push(format!("{} {}  {elapsed}", paint(ui, "33", "…"), cut(&step.title, room)));
        for line in &step.tail {
            let line = cut(&line.replace('\t', "    "), columns.saturating_sub(6));
            lines.push(paint(ui, "2", &format!("    {line}")));
        }
    }
    for (task, (done, total, unit)) in &state.tasks {
        let line = progress_line(task, *done, *total, *unit);
        lines.push(format!("{} {}", paint(ui, "33", "…"), cut(&line, columns.saturating_sub(4))));
    }
    for line in &lines {
        text.push_str(line);
        text.push('\n');
    }
    state.drawn_lines = lines.len();
    state.drawn_at = time;
}

/// The terminal's width in columns.
fn width() -> usize {
    rustix::termios::tcgetwinsize(std::io::stderr())
        .ok()
        .map(|size| usize::from(size.ws_col))
        .filter(|columns| *columns > 20)
        .unwrap_or(WIDTH_DEFAULT)
}

/// Cuts a line to a number of characters, on one line.
fn cut(text: &str, room: usize) -> String {
    let flat: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if flat.chars().count() <= room {
        return flat;
    }
    let mut short: String = flat.chars().take(room.saturating_sub(1)).collect();
    short.push('…');
    short
}

fn paint(ui: &Ui, code: &str, text: &str) -> String {
    if ui.color() { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_when_they_are_complete() {
        let mut partial = Vec::new();
        assert!(complete_lines(&mut partial, b"one").is_empty());
        assert_eq!(complete_lines(&mut partial, b" line\r\n10%\r100%\nrest"), ["one line", "100%"]);
        assert_eq!(partial, b"rest");
    }

    #[test]
    fn long_titles_are_cut_to_one_line() {
        assert_eq!(cut("RUN a \\\n  && b", 40), "RUN a \\ && b");
        assert_eq!(cut("abcdef", 4), "abc…");
    }
}
