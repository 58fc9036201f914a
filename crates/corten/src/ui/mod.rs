//! The only place that prints: stdout is data, stderr is talk.

mod format;
mod human;
mod printable;
mod progress;
mod rawjson;
mod table;
mod template;

use std::io::{IsTerminal, Write};

pub(crate) use format::{Format, FormatError, plain, print_rows};
pub(crate) use human::{age, bytes, bytes_binary, duration};
pub(crate) use printable::{printable, printable_line};
pub(crate) use progress::Progress;
pub(crate) use table::layout;

use crate::cli::{ColorChoice, ProgressMode};
use crate::settings::Environment;

/// The terminal, as far as messages are concerned.
#[derive(Debug, Clone)]
pub(crate) struct Ui {
    color_stderr: bool,
    stderr_terminal: bool,
    no_color: bool,
    force_color: bool,
}

#[derive(Debug, Clone, Copy)]
enum Color {
    Red,
    Yellow,
    Green,
    Cyan,
}

impl Color {
    const fn code(self) -> &'static str {
        match self {
            Self::Red => "\u{1b}[1;31m",
            Self::Yellow => "\u{1b}[1;33m",
            Self::Green => "\u{1b}[1;32m",
            Self::Cyan => "\u{1b}[1;36m",
        }
    }
}

impl Ui {
    pub(crate) fn new(environment: &Environment) -> Self {
        let no_color =
            environment.get("NO_COLOR").is_some() || environment.get("TERM") == Some("dumb");
        let force_color = environment.get("CLICOLOR_FORCE").is_some_and(|value| value != "0");
        let stderr_terminal = std::io::stderr().is_terminal();
        Self {
            color_stderr: force_color || (stderr_terminal && !no_color),
            stderr_terminal,
            no_color,
            force_color,
        }
    }

    /// Applies `--color`, which goes before every variable.
    pub(crate) fn set_color(&mut self, choice: ColorChoice) {
        self.color_stderr = match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto => self.force_color || (self.stderr_terminal && !self.no_color),
        };
    }

    pub(crate) const fn color(&self) -> bool {
        self.color_stderr
    }

    pub(crate) const fn stderr_is_terminal(&self) -> bool {
        self.stderr_terminal
    }

    /// Whether data goes to a terminal.
    #[expect(clippy::unused_self, reason = "whoever prints holds the terminal's settings")]
    pub(crate) fn data_is_terminal(&self) -> bool {
        rustix::termios::isatty(std::io::stdout())
    }

    /// Writes data to stdout. A reader that went away is not an error.
    #[expect(clippy::unused_self, reason = "whoever prints holds the terminal's settings")]
    pub(crate) fn data(&self, text: &str) {
        write_all(&mut std::io::stdout().lock(), text.as_bytes());
    }

    /// Where data goes that is no text, in pieces.
    #[expect(clippy::unused_self, reason = "whoever prints holds the terminal's settings")]
    pub(crate) fn data_stream(&self) -> std::io::StdoutLock<'static> {
        std::io::stdout().lock()
    }

    /// Writes a line of data to stdout.
    pub(crate) fn line(&self, text: &str) {
        self.data(&format!("{text}\n"));
    }

    /// Writes text to stderr as it is.
    #[expect(clippy::unused_self, reason = "whoever prints holds the terminal's settings")]
    pub(crate) fn talk(&self, text: &str) {
        write_all(&mut std::io::stderr().lock(), text.as_bytes());
    }

    pub(crate) fn status(&self, text: &str) {
        self.talk(&format!("{text}\n"));
    }

    /// One line that says that something changed, in green where there is colour.
    pub(crate) fn done(&self, verb: &str, text: &str) {
        self.talk(&format!("{} {}\n", self.paint(Color::Green, verb), printable(text)));
    }

    pub(crate) fn warning(&self, text: &str) {
        self.talk(&format!("{}: {}\n", self.paint(Color::Yellow, "warning"), printable(text)));
    }

    pub(crate) fn note(&self, text: &str) {
        self.talk(&format!("{}: {}\n", self.paint(Color::Cyan, "note"), printable(text)));
    }

    pub(crate) fn hint(&self, text: &str) {
        let text = printable(text);
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        self.talk(&format!("{}: {first}\n", self.paint(Color::Cyan, "hint")));
        for line in lines {
            self.talk(&format!("      {line}\n"));
        }
    }

    /// Prints an error with everything that caused it, and the hints last.
    pub(crate) fn error(&self, error: &dyn std::error::Error, hints: &[String]) {
        let message = printable(&error.to_string());
        self.talk(&format!("{}: {message}\n", self.paint(Color::Red, "error")));
        let mut printed = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if text != printed {
                self.talk(&format!("  caused by: {}\n", printable(&text)));
                printed = text;
            }
            source = cause.source();
        }
        for hint in hints {
            self.hint(hint);
        }
    }

    /// Has an interruption told when it comes; the process ends by its signal all the same. `what` is
    /// what is done: `the build`. Who reads JSON gets nothing else.
    pub(crate) fn tell_of_interruption(&self, what: &str, progress: ProgressMode) {
        if matches!(progress, ProgressMode::Json | ProgressMode::RawJson) {
            return;
        }
        // A terminal shows `^C` where the cursor is.
        let begin = if self.stderr_terminal { "\n" } else { "" };
        let (error, hint) = (self.paint(Color::Red, "error"), self.paint(Color::Cyan, "hint"));
        for (signal, how) in [
            (rustix::process::Signal::INT, "was interrupted"),
            (rustix::process::Signal::TERM, "was ended by `SIGTERM`"),
            (rustix::process::Signal::HUP, "was ended by `SIGHUP`"),
        ] {
            let text = format!(
                "{begin}{error}: {what} {how}\n{hint}: what was done is kept: the same command goes on \
                 from there\n"
            );
            // Without it the process ends as well, only silently.
            drop(corten_sys::signals::say_at_end(signal.as_raw(), text.as_bytes()));
        }
    }

    /// Prints a message that another part has laid out already.
    pub(crate) fn raw_error(&self, text: &str) {
        self.talk(text);
    }

    fn paint(&self, color: Color, text: &str) -> String {
        if self.color_stderr { format!("{}{text}\u{1b}[0m", color.code()) } else { text.to_owned() }
    }
}

/// Writes what can be written. A closed pipe means that the reader has seen enough, and
/// there is nobody left to tell about any other failure of the terminal.
fn write_all(stream: &mut dyn Write, bytes: &[u8]) {
    if stream.write_all(bytes).is_ok() {
        drop(stream.flush());
    }
}
