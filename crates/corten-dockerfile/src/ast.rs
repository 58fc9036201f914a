//! The tree.

use std::time::Duration;

use corten_diag::{Diagnostic, Span, Spanned};

use crate::mount::{Device, MountSpec, Network, Security};
use crate::parse::heredoc;

/// A whole file.
#[derive(Clone, Debug, Default)]
pub struct Dockerfile {
    pub directives: Directives,
    pub instructions: Vec<Instruction>,
    pub diagnostics: Vec<Diagnostic>,
    /// The text cut into pieces: they follow each other without gap and cover every byte.
    pub tokens: Vec<Token>,
}

/// The parser directives at the very top of the file.
#[derive(Clone, Debug, Default)]
pub struct Directives {
    /// The whole value; the frontend's reference is its first word.
    pub syntax: Option<Spanned<String>>,
    /// The escape character, when one was set: a backslash or a backtick.
    pub escape: Option<Spanned<char>>,
    pub check: Option<Spanned<String>>,
}

impl Directives {
    /// The escape character in force.
    pub fn escape_char(&self) -> char {
        self.escape.as_ref().map_or('\\', |escape| escape.value)
    }
}

/// A piece of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Token {
    pub kind: TokenKind,
    pub span: Span,
}

/// What a piece of the text is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TokenKind {
    /// The byte order mark.
    Bom,
    /// `# name=value`, without its line ending.
    Directive,
    /// A comment, without its line ending; also one between continuation lines.
    Comment,
    /// Blanks, tabs and line endings.
    Whitespace,
    /// The name of an instruction.
    Keyword,
    /// `--name=value`, or the `--` that ends the flags.
    Flag,
    /// The arguments of an instruction within one line, blanks inside included.
    Argument,
    /// The escape character that joins two lines, with the blanks and the line ending after it.
    Continuation,
    /// The lines of a here-document.
    HeredocBody,
    /// The word that ends a here-document, with the tabs before it, without its line ending.
    HeredocEnd,
}

/// One instruction.
#[derive(Clone, Debug)]
pub struct Instruction {
    /// From the keyword to the end of the last line that belongs to it, here-documents included,
    /// without the last line ending.
    pub span: Span,
    /// The line of the keyword, from 1.
    pub line: u32,
    /// The last line, here-documents included.
    pub last_line: u32,
    pub keyword: Spanned<Keyword>,
    /// The keyword as it was written.
    pub name: String,
    /// The logical line: joined, comments dropped, blanks at both ends trimmed. As history shows it.
    /// Of a triggered instruction the blanks at its end stay, as they do in the image.
    pub original: String,
    /// The flags as written, quotes removed.
    pub flags: Vec<Word>,
    /// The arguments as the line grammar cuts them, before they are understood. For `ENV` and
    /// `LABEL` keys and values alternate.
    pub args: Vec<Word>,
    /// Whether the arguments were written as a JSON array.
    pub json: bool,
    pub heredocs: Vec<Heredoc>,
    /// The comments directly before, without `#` and blanks; an empty comment line resets them.
    pub comments: Vec<Word>,
    pub kind: Kind,
}

/// The name of an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Keyword {
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Label,
    Maintainer,
    Onbuild,
    Run,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
    /// No instruction has this name.
    Unknown,
}

/// What a `RUN` asks for, here-documents applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunForm {
    /// Words for the kernel.
    Exec(Vec<String>),
    /// A text for the shell of the stage.
    Shell(String),
    /// A file that names its own interpreter in its first line.
    Script { name: String, content: String },
}

impl Instruction {
    /// The form of a `RUN`; none for other instructions.
    ///
    /// A command that is nothing but a here-document is replaced by its body. Any other command keeps
    /// its here-documents, for the shell to read.
    pub fn run_form(&self) -> Option<RunForm> {
        let Kind::Run(run) = &self.kind else { return None };
        let text = match &run.command {
            CommandLine::Exec(words) => {
                let words = words.iter().map(|word| word.text.clone());
                return Some(RunForm::Exec(words.collect()));
            }
            CommandLine::Shell(word) => &word.text,
        };
        let Some(first) = self.heredocs.first() else { return Some(RunForm::Shell(text.clone())) };
        if heredoc::of_word(text).is_none() {
            let mut full = text.clone();
            self.append_heredocs(&mut full);
            return Some(RunForm::Shell(full));
        }
        let content = first.content();
        Some(if first.body.starts_with("#!") {
            RunForm::Script { name: first.name.clone(), content }
        } else {
            RunForm::Shell(content)
        })
    }

    /// The instruction that an `ONBUILD` puts into the image, as text; none for other instructions.
    pub fn trigger(&self) -> Option<String> {
        let Kind::OnBuild(triggered) = &self.kind else { return None };
        let mut text = triggered.original.clone();
        self.append_heredocs(&mut text);
        Some(text)
    }

    fn append_heredocs(&self, text: &mut String) {
        for heredoc in &self.heredocs {
            text.push('\n');
            text.push_str(&heredoc.body);
            text.push_str(&heredoc.name);
        }
    }
}

impl Heredoc {
    /// The body with leading tabs dropped, when that was asked for.
    pub fn content(&self) -> String {
        if self.chomp { heredoc::without_tabs(&self.body) } else { self.body.clone() }
    }
}

impl Keyword {
    /// The names of all instructions.
    pub const NAMES: [&'static str; 18] = [
        "ADD",
        "ARG",
        "CMD",
        "COPY",
        "ENTRYPOINT",
        "ENV",
        "EXPOSE",
        "FROM",
        "HEALTHCHECK",
        "LABEL",
        "MAINTAINER",
        "ONBUILD",
        "RUN",
        "SHELL",
        "STOPSIGNAL",
        "USER",
        "VOLUME",
        "WORKDIR",
    ];

    const ALL: [Self; 18] = [
        Self::Add,
        Self::Arg,
        Self::Cmd,
        Self::Copy,
        Self::Entrypoint,
        Self::Env,
        Self::Expose,
        Self::From,
        Self::Healthcheck,
        Self::Label,
        Self::Maintainer,
        Self::Onbuild,
        Self::Run,
        Self::Shell,
        Self::Stopsignal,
        Self::User,
        Self::Volume,
        Self::Workdir,
    ];

    /// The instruction of that name, in whatever case.
    pub fn from_name(name: &str) -> Self {
        let known = Self::NAMES.iter().position(|known| known.eq_ignore_ascii_case(name));
        known.map_or(Self::Unknown, |index| Self::ALL[index])
    }

    /// The name in upper case; empty for what is no instruction.
    pub fn as_str(self) -> &'static str {
        match Self::ALL.iter().position(|known| *known == self) {
            Some(index) => Self::NAMES[index],
            None => "",
        }
    }
}

/// A part of an instruction: its text after lines were joined, and its place.
///
/// Variables in it are not expanded yet and quotes are still there, but for flags and for strings
/// of a JSON array, which are decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub text: String,
    pub span: Span,
    /// Where parts of `text` come from when it is not simply the text of `span`.
    pub(crate) segments: Box<[Segment]>,
}

impl Word {
    /// A word that stands in the file as it is.
    pub fn plain(text: impl Into<String>, span: Span) -> Self {
        Self { text: text.into(), span, segments: Box::default() }
    }

    /// The place in the file of a byte of the text.
    pub fn locate(&self, offset: usize) -> u32 {
        let wanted = u32::try_from(offset).unwrap_or(u32::MAX);
        let index = self.segments.partition_point(|segment| segment.text <= wanted);
        let place = match index.checked_sub(1).and_then(|index| self.segments.get(index)) {
            Some(segment) => segment.source.saturating_add(wanted - segment.text),
            None => self.span.start.saturating_add(wanted),
        };
        place.clamp(self.span.start, self.span.end)
    }

    /// A part of the word, with its own place; both ends must lie between characters.
    pub(crate) fn slice(&self, start: usize, end: usize) -> Self {
        let text = self.text[start..end].to_owned();
        let last = match end.checked_sub(1).filter(|last| *last >= start) {
            Some(last) => self.locate(last).saturating_add(1),
            None => self.locate(start),
        };
        let last = if end == self.text.len() { self.span.end.max(last) } else { last };
        let span = Span::new(self.locate(start), last);
        let (from, to) = (start as u64, end as u64);
        let inside = self
            .segments
            .iter()
            .filter(|segment| u64::from(segment.text) > from && u64::from(segment.text) < to);
        let base = u32::try_from(start).unwrap_or(u32::MAX);
        let later = inside
            .map(|segment| Segment { text: segment.text - base, source: segment.source })
            .collect::<Vec<_>>();
        if later.is_empty() && span.len() == text.len() {
            return Self::plain(text, span);
        }
        let first = Segment { text: 0, source: span.start };
        Self { text, span, segments: std::iter::once(first).chain(later).collect() }
    }

    /// The word without the blanks at both ends.
    pub(crate) fn trimmed(&self) -> Self {
        let start = self.text.len() - self.text.trim_start().len();
        self.slice(start, start + self.text.trim().len())
    }
}

/// From this offset of a word's text on, the source goes on at that offset of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) text: u32,
    pub(crate) source: u32,
}

/// A here-document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that ends it, quotes removed.
    pub name: String,
    /// The lines between, each with its line ending, tabs still there.
    pub body: String,
    /// Whether variables in the body are expanded: no part of the word was quoted.
    pub expand: bool,
    /// Whether tabs at the beginning of lines are dropped (`<<-`).
    pub chomp: bool,
    /// The number before `<<`; 0 when there was none.
    pub file_descriptor: u64,
    /// The place of the body.
    pub span: Span,
}

/// What an instruction means.
#[derive(Clone, Debug)]
pub enum Kind {
    From {
        platform: Option<Word>,
        image: Word,
        /// As written; names of stages do not distinguish case.
        alias: Option<Word>,
    },
    Run(Run),
    Copy(Copy),
    Add(Add),
    Env(Vec<Pair>),
    Label(Vec<Pair>),
    Arg(Vec<Argument>),
    Workdir(Word),
    User(Word),
    Expose(Vec<Word>),
    Volume(Vec<Word>),
    Cmd(CommandLine),
    Entrypoint(CommandLine),
    Shell(Vec<Word>),
    StopSignal(Word),
    Healthcheck(Healthcheck),
    /// The triggered instruction. Its span is its own place in this file.
    OnBuild(Box<Instruction>),
    Maintainer(Word),
    /// It could not be understood; an error says why.
    Unknown,
}

/// `RUN`.
#[derive(Clone, Debug)]
pub struct Run {
    pub mounts: Vec<MountSpec>,
    pub network: Option<Spanned<Network>>,
    pub security: Option<Spanned<Security>>,
    pub devices: Vec<Spanned<Device>>,
    pub command: CommandLine,
}

/// `COPY`.
#[derive(Clone, Debug)]
pub struct Copy {
    pub sources: Vec<Word>,
    /// Sources that are here-documents.
    pub files: Vec<InlineFile>,
    pub dest: Word,
    pub from: Option<Word>,
    pub chown: Option<Word>,
    pub chmod: Option<Word>,
    pub link: bool,
    pub parents: bool,
    pub excludes: Vec<Word>,
}

/// `ADD`.
#[derive(Clone, Debug)]
pub struct Add {
    pub sources: Vec<Word>,
    /// Sources that are here-documents.
    pub files: Vec<InlineFile>,
    pub dest: Word,
    pub chown: Option<Word>,
    pub chmod: Option<Word>,
    pub link: bool,
    pub checksum: Option<Word>,
    pub keep_git_dir: Option<bool>,
    pub unpack: Option<bool>,
    pub excludes: Vec<Word>,
}

/// A file that stands in the Dockerfile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InlineFile {
    pub name: String,
    /// The content, tabs already dropped when asked for, variables not yet expanded.
    pub content: String,
    /// Whether variables are to be expanded, with quotes kept as they are.
    pub expand: bool,
    /// The place of the `<<NAME` word.
    pub span: Span,
}

/// `key=value` or the old `key value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    pub key: Word,
    pub value: Word,
    /// Whether it was written in the old form, without `=`.
    pub legacy: bool,
}

/// One definition of `ARG`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    pub name: Word,
    pub default: Option<Word>,
}

/// A command, for the kernel or for a shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandLine {
    /// The words of a JSON array; it may be empty.
    Exec(Vec<Word>),
    /// One text for the shell; it may be empty.
    Shell(Word),
}

/// `HEALTHCHECK`. A zero means that the flag is absent, as it does there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Healthcheck {
    /// `NONE`: an inherited check is switched off.
    None,
    Cmd {
        interval: Duration,
        timeout: Duration,
        start_period: Duration,
        start_interval: Duration,
        retries: u32,
        command: CommandLine,
    },
}
