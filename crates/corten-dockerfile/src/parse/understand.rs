//! From cut arguments to what an instruction means.

use corten_diag::{Diagnostic, Spanned, suggest};

use super::args::Args;
use super::flags::{self, Flags, Known, Takes};
use super::healthcheck::healthcheck;
use super::heredoc;
use super::logical::{Logical, Part};
use super::split::Split;
use crate::ast::{
    Add, Argument, CommandLine, Copy, Heredoc, InlineFile, Keyword, Kind, Pair, Run, Word,
};
use crate::mount::{Device, MountSpec, Network, Security};

/// An instruction that was cut but not understood.
pub(super) struct Raw<'a> {
    pub(super) line: &'a Logical,
    pub(super) keyword: Keyword,
    pub(super) split: Split,
    pub(super) args: Args,
}

/// Something is wrong, and a diagnostic says what.
pub(super) struct Refused;

pub(super) type Understood<T> = Result<T, Refused>;

/// Collects what there is to tell about one instruction.
pub(super) struct Judge<'a> {
    pub(super) raw: &'a Raw<'a>,
    pub(super) heredocs: &'a [Heredoc],
    pub(super) diagnostics: &'a mut Vec<Diagnostic>,
}

const COPY_FLAGS: &Known = &[
    ("chown", Takes::Value),
    ("from", Takes::Value),
    ("chmod", Takes::Value),
    ("link", Takes::Switch),
    ("exclude", Takes::Values),
    ("parents", Takes::Switch),
];

const ADD_FLAGS: &Known = &[
    ("chown", Takes::Value),
    ("chmod", Takes::Value),
    ("link", Takes::Switch),
    ("keep-git-dir", Takes::Switch),
    ("checksum", Takes::Value),
    ("unpack", Takes::Switch),
    ("exclude", Takes::Values),
];

const RUN_FLAGS: &Known = &[
    ("mount", Takes::Values),
    ("network", Takes::Value),
    ("security", Takes::Value),
    ("device", Takes::Values),
];

impl Judge<'_> {
    /// What the instruction means; [`Kind::Unknown`] when it cannot be understood.
    pub(super) fn kind(mut self) -> Kind {
        if self.raw.args.broken {
            return Kind::Unknown;
        }
        self.understand().unwrap_or(Kind::Unknown)
    }

    fn understand(&mut self) -> Understood<Kind> {
        match self.raw.keyword {
            Keyword::Add => self.add(),
            Keyword::Arg => self.arg(),
            Keyword::Cmd => Ok(Kind::Cmd(self.command_only()?)),
            Keyword::Copy => self.copy(),
            Keyword::Entrypoint => Ok(Kind::Entrypoint(self.command_only()?)),
            Keyword::Env => Ok(Kind::Env(self.pairs()?)),
            Keyword::Expose => Ok(Kind::Expose(self.at_least_one()?)),
            Keyword::From => self.from(),
            Keyword::Healthcheck => healthcheck(self).map(Kind::Healthcheck),
            Keyword::Label => Ok(Kind::Label(self.pairs()?)),
            Keyword::Maintainer => Ok(Kind::Maintainer(self.exactly_one()?)),
            Keyword::Run => self.run(),
            Keyword::Shell => self.shell(),
            Keyword::Stopsignal => {
                self.flags_are_ignored();
                self.one_argument().map(Kind::StopSignal)
            }
            Keyword::User => Ok(Kind::User(self.exactly_one()?)),
            Keyword::Volume => self.volume(),
            Keyword::Workdir => Ok(Kind::Workdir(self.exactly_one()?)),
            // With an argument it is not judged here.
            Keyword::Onbuild => self.at_least_one().and(Err(Refused)),
            Keyword::Unknown => self.unknown(),
        }
    }

    pub(super) fn name(&self) -> &'static str {
        self.raw.keyword.as_str()
    }

    pub(super) fn refuse<T>(&mut self, diagnostic: Diagnostic) -> Understood<T> {
        self.diagnostics.push(diagnostic);
        Err(Refused)
    }

    /// Refuses the instruction as a whole, pointing at its name.
    pub(super) fn refuse_all<T>(&mut self, message: String) -> Understood<T> {
        let span = self.raw.line.span(self.raw.split.name);
        self.refuse(Diagnostic::error(message).at(span))
    }

    pub(super) fn flags(&mut self, known: &Known) -> Understood<Flags> {
        flags::read(self.raw.keyword, &self.raw.split.flags, known, self.diagnostics).ok_or(Refused)
    }

    /// Warns of flags where the frontend looks away.
    pub(super) fn flags_are_ignored(&mut self) {
        for (flag, _) in &self.raw.split.flags {
            let message = format!("`{}` ignores the flag `{}`", self.name(), flag.text);
            self.diagnostics.push(Diagnostic::warning(message).at(flag.span));
        }
    }

    fn unknown(&mut self) -> Understood<Kind> {
        let name = self.raw.line.get(self.raw.split.name);
        let span = self.raw.line.span(self.raw.split.name);
        let message = match name {
            "" => "a line holds nothing but an escape character".to_owned(),
            _ => format!("unknown instruction `{name}`"),
        };
        let diagnostic = Diagnostic::error(message).at(span);
        self.refuse(match suggest::nearest(name, &Keyword::NAMES) {
            Some(nearest) => diagnostic.with_hint(format!("did you mean `{nearest}`?")),
            None => diagnostic,
        })
    }

    pub(super) fn at_least_one(&mut self) -> Understood<Vec<Word>> {
        if self.raw.args.words.is_empty() {
            return self.refuse_all(format!("`{}` needs at least one argument", self.name()));
        }
        self.flags(&[])?;
        Ok(self.raw.args.words.clone())
    }

    fn exactly_one(&mut self) -> Understood<Word> {
        let word = self.one_argument()?;
        self.flags(&[])?;
        Ok(word)
    }

    fn one_argument(&mut self) -> Understood<Word> {
        match self.raw.args.words.as_slice() {
            [word] => Ok(word.clone()),
            _ => self.refuse_all(format!("`{}` needs exactly one argument", self.name())),
        }
    }

    fn pairs(&mut self) -> Understood<Vec<Pair>> {
        self.flags(&[])?;
        let (words, legacy) = (&self.raw.args.words, self.raw.args.legacy);
        if words.is_empty() {
            return self.refuse_all(format!("`{}` needs at least one argument", self.name()));
        }
        let mut pairs = Vec::with_capacity(words.len() / 2);
        for pair in words.chunks_exact(2) {
            let [key, value] = pair else { continue };
            if key.text.is_empty() {
                let message = format!("a name given to `{}` is empty", self.name());
                return self.refuse(Diagnostic::error(message).at(key.span.cover(value.span)));
            }
            pairs.push(Pair { key: key.clone(), value: value.clone(), legacy });
        }
        Ok(pairs)
    }

    fn arg(&mut self) -> Understood<Kind> {
        let raw = self.raw;
        if raw.args.words.is_empty() {
            return self.refuse_all("`ARG` needs at least one argument".to_owned());
        }
        self.flags_are_ignored();
        let mut arguments = Vec::with_capacity(raw.args.words.len());
        for word in &raw.args.words {
            let length = word.text.len();
            let equals = word.text.find('=');
            if equals == Some(0) {
                let message = "a name given to `ARG` is empty";
                return self.refuse(Diagnostic::error(message).at(word.span));
            }
            arguments.push(Argument {
                name: word.slice(0, equals.unwrap_or(length)),
                default: equals.map(|equals| word.slice(equals + 1, length)),
            });
        }
        Ok(Kind::Arg(arguments))
    }

    fn from(&mut self) -> Understood<Kind> {
        let raw = self.raw;
        let (image, alias) = match raw.args.words.as_slice() {
            [image] => (image, None),
            [image, between, alias] if between.text.eq_ignore_ascii_case("as") => {
                (image, Some(alias))
            }
            words => {
                let span = raw.line.span(raw.split.name);
                let span = words.iter().fold(span, |span, word| span.cover(word.span));
                let message = "`FROM` takes an image, or an image, `AS` and a name";
                return self.refuse(Diagnostic::error(message).at(span));
            }
        };
        if let Some(alias) = alias.filter(|alias| !is_stage_name(&alias.text)) {
            let message = format!("invalid name `{}` for a build stage", alias.text);
            let hint = "begin with a letter and go on with letters, digits, `-`, `_` and `.`";
            return self.refuse(Diagnostic::error(message).at(alias.span).with_hint(hint));
        }
        let mut flags = self.flags(&[("platform", Takes::Value)])?;
        let platform = flags.value("platform");
        Ok(Kind::From { platform, image: image.clone(), alias: alias.cloned() })
    }

    fn volume(&mut self) -> Understood<Kind> {
        let mut volumes = Vec::new();
        for word in self.at_least_one()? {
            let trimmed = word.trimmed();
            if trimmed.text.is_empty() {
                let message = "the path of a volume is empty";
                return self.refuse(Diagnostic::error(message).at(word.span));
            }
            volumes.push(trimmed);
        }
        Ok(Kind::Volume(volumes))
    }

    fn shell(&mut self) -> Understood<Kind> {
        let words = self.at_least_one()?;
        if self.raw.args.json {
            return Ok(Kind::Shell(words));
        }
        let span = self.raw.line.span(self.raw.split.rest);
        let hint = r#"write `SHELL ["executable", "argument"]`"#;
        let message = "`SHELL` needs its arguments as a JSON array";
        self.refuse(Diagnostic::error(message).at(span).with_hint(hint))
    }

    fn command_only(&mut self) -> Understood<CommandLine> {
        self.flags(&[])?;
        Ok(self.command(self.raw.split.rest, 0))
    }

    /// The command that is left after some arguments were taken.
    pub(super) fn command(&mut self, part: Part, skipped: usize) -> CommandLine {
        let args = &self.raw.args;
        let mut words = args.words.iter().skip(skipped);
        if args.json {
            return CommandLine::Exec(words.cloned().collect());
        }
        let text = self.raw.line.get(part);
        if let Some(at) = args.json_broken_at.filter(|_| looks_like_array(self.raw.keyword, text)) {
            let at = at.min(part.end);
            let broken = self.raw.line.get(Part::new(at, part.end));
            let length = broken.chars().next().map_or(0, char::len_utf8);
            let span = self.raw.line.span(Part::new(at, at + length));
            let message = "this looks like a JSON array and is none, so a shell will run it";
            let hint = r#"write `["executable", "argument"]` with double quotes"#;
            self.diagnostics.push(Diagnostic::warning(message).at(span).with_hint(hint));
        }
        CommandLine::Shell(words.next().cloned().unwrap_or_else(|| self.raw.line.word(part)))
    }

    fn run(&mut self) -> Understood<Kind> {
        let mut flags = self.flags(RUN_FLAGS)?;
        let command = self.command(self.raw.split.rest, 0);
        let network = match flags.any_value("network") {
            None => None,
            Some(word) => Some(self.choice(&word, "network", &Network::NAMES)?),
        };
        let security = match flags.any_value("security") {
            None => None,
            Some(word) => Some(self.choice(&word, "security", &Security::NAMES)?),
        };
        let mut mounts = Vec::new();
        for word in flags.values("mount") {
            let span = word.span;
            match MountSpec::parse(word) {
                Ok(mount) => mounts.push(mount),
                Err(error) => return self.refuse(error.diagnostic(span)),
            }
        }
        let mut devices = Vec::new();
        for word in flags.values("device") {
            match Device::parse(&word.text) {
                Ok(device) => devices.push(Spanned::new(device, word.span)),
                Err(error) => return self.refuse(error.diagnostic(word.span)),
            }
        }
        Ok(Kind::Run(Run { mounts, network, security, devices, command }))
    }

    fn choice<T: std::marker::Copy>(
        &mut self,
        word: &Word,
        flag: &str,
        choices: &[(&'static str, T)],
    ) -> Understood<Spanned<T>> {
        if let Some((_, value)) = choices.iter().find(|(name, _)| *name == word.text) {
            return Ok(Spanned::new(*value, word.span));
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let hint = match suggest::nearest(&word.text, &names) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => format!("use one of `{}`", names.join("`, `")),
        };
        let message = format!("invalid value `{}` for `--{flag}`", word.text);
        self.refuse(Diagnostic::error(message).at(word.span).with_hint(hint))
    }

    fn copy(&mut self) -> Understood<Kind> {
        self.sources_are_enough()?;
        let mut flags = self.flags(COPY_FLAGS)?;
        let (sources, files, dest) = self.sources()?;
        Ok(Kind::Copy(Copy {
            sources,
            files,
            dest,
            from: flags.value("from"),
            chown: flags.value("chown"),
            chmod: flags.value("chmod"),
            link: flags.switch("link").unwrap_or(false),
            parents: flags.switch("parents").unwrap_or(false),
            excludes: flags.values("exclude"),
        }))
    }

    fn add(&mut self) -> Understood<Kind> {
        self.sources_are_enough()?;
        let mut flags = self.flags(ADD_FLAGS)?;
        let (sources, files, dest) = self.sources()?;
        Ok(Kind::Add(Add {
            sources,
            files,
            dest,
            chown: flags.value("chown"),
            chmod: flags.value("chmod"),
            link: flags.switch("link").unwrap_or(false),
            checksum: flags.value("checksum"),
            keep_git_dir: flags.switch("keep-git-dir"),
            unpack: flags.switch("unpack"),
            excludes: flags.values("exclude"),
        }))
    }

    fn sources_are_enough(&mut self) -> Understood<()> {
        if self.raw.args.words.len() < 2 {
            let name = self.name();
            return self.refuse_all(format!("`{name}` needs a source and a destination"));
        }
        Ok(())
    }

    /// Parts the arguments into paths, files that stand here, and the destination.
    fn sources(&mut self) -> Understood<(Vec<Word>, Vec<InlineFile>, Word)> {
        let Some((dest, sources)) = self.raw.args.words.split_last() else { return Err(Refused) };
        if heredoc::of_word(&dest.text).is_some() {
            let message =
                format!("`{}` cannot take a here-document as its destination", self.name());
            return self.refuse(Diagnostic::error(message).at(dest.span));
        }
        let mut paths = Vec::new();
        let mut files = Vec::new();
        for source in sources {
            let Some(asked) = heredoc::of_word(&source.text) else {
                paths.push(source.clone());
                continue;
            };
            let found = self.heredocs.iter().rev().find(|found| found.name == asked.name);
            let body = found.map_or("", |found| found.body.as_str());
            files.push(InlineFile {
                name: asked.name,
                content: if asked.chomp { heredoc::without_tabs(body) } else { body.to_owned() },
                expand: asked.expand,
                span: source.span,
            });
        }
        Ok((paths, files, dest.clone()))
    }
}

/// Whether a text was meant as an array, for all that it is none.
///
/// A shell's own `[ "$a" = b ]` has a blank after the bracket, and stands in `RUN` only.
fn looks_like_array(keyword: Keyword, text: &str) -> bool {
    let Some(inner) = text.trim_start().strip_prefix('[') else { return false };
    let inner = if keyword == Keyword::Run { inner } else { inner.trim_start() };
    inner.starts_with(['"', '\'', '\u{201c}', '\u{2018}'])
}

/// Whether a stage may have this name; upper case counts as lower case.
fn is_stage_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}
