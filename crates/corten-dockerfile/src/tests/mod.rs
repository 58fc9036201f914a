//! Tests of the whole language. Each begins with a text and ends with what became of it.

mod diagnostics;
mod flags;
mod forms;
mod heredocs;
mod ignoring;
mod lines;
mod mounts;
mod properties;
mod small;
mod structure;
mod words;

use std::fmt::Write as _;

use corten_diag::{SourceFile, render};
use expect_test::Expect;

use crate::{
    CommandLine, Dockerfile, Healthcheck, InlineFile, Instruction, Keyword, Kind, Pair, RunForm,
    Word, parse,
};

/// Compares instructions and diagnostics, one a line.
pub(crate) fn check(text: &str, expected: &Expect) {
    expected.assert_eq(&dump(text, &parse(text)));
}

pub(crate) fn dump(text: &str, file: &Dockerfile) -> String {
    let mut out = String::new();
    for instruction in &file.instructions {
        let lines = match (instruction.line, instruction.last_line) {
            (first, last) if first == last => first.to_string(),
            (first, last) => format!("{first}-{last}"),
        };
        line(&mut out, &format!("{lines} {}", shown(instruction)));
    }
    let source = SourceFile::new("Dockerfile", text);
    for diagnostic in &file.diagnostics {
        line(&mut out, &render::concise(diagnostic, Some(&source)));
    }
    out
}

fn line(out: &mut String, text: &str) {
    writeln!(out, "{text}").expect("a string takes all that is written");
}

fn shown(instruction: &Instruction) -> String {
    let name = match instruction.keyword.value {
        Keyword::Unknown => "?",
        keyword => keyword.as_str(),
    };
    let mut out = format!("{name} {}", kind(instruction));
    for heredoc in &instruction.heredocs {
        let (body, name) = (&heredoc.body, &heredoc.name);
        let how = format!(
            "{}{}{}",
            if heredoc.expand { "" } else { " quoted" },
            if heredoc.chomp { " chomp" } else { "" },
            if heredoc.file_descriptor == 0 { "" } else { " fd" },
        );
        write!(out, " <<{name}{how} {body:?}").expect("a string takes all that is written");
    }
    out
}

fn kind(instruction: &Instruction) -> String {
    match &instruction.kind {
        Kind::From { platform, image, alias } => {
            let mut out = format!("{:?}", image.text);
            option(&mut out, "platform", platform.as_ref());
            option(&mut out, "as", alias.as_ref());
            out
        }
        Kind::Run(run) => {
            let mut out = String::new();
            for mount in &run.mounts {
                write!(out, "mount={:?} ", mount.word.text).expect("strings grow");
            }
            if let Some(network) = &run.network {
                write!(out, "network={:?} ", network.value).expect("strings grow");
            }
            if let Some(security) = &run.security {
                write!(out, "security={:?} ", security.value).expect("strings grow");
            }
            for device in &run.devices {
                write!(out, "device={:?} ", device.value).expect("strings grow");
            }
            out + &form(instruction)
        }
        Kind::Copy(copy) => {
            let mut out = paths(&copy.sources, &copy.files, &copy.dest);
            option(&mut out, "from", copy.from.as_ref());
            option(&mut out, "chown", copy.chown.as_ref());
            option(&mut out, "chmod", copy.chmod.as_ref());
            out.push_str(if copy.link { " link" } else { "" });
            out.push_str(if copy.parents { " parents" } else { "" });
            copy.excludes.iter().for_each(|exclude| option(&mut out, "exclude", Some(exclude)));
            out
        }
        Kind::Add(add) => {
            let mut out = paths(&add.sources, &add.files, &add.dest);
            option(&mut out, "chown", add.chown.as_ref());
            option(&mut out, "chmod", add.chmod.as_ref());
            option(&mut out, "checksum", add.checksum.as_ref());
            out.push_str(if add.link { " link" } else { "" });
            let switches = [("keep-git-dir", add.keep_git_dir), ("unpack", add.unpack)];
            for (name, switch) in switches {
                if let Some(on) = switch {
                    write!(out, " {name}={on}").expect("strings grow");
                }
            }
            add.excludes.iter().for_each(|exclude| option(&mut out, "exclude", Some(exclude)));
            out
        }
        Kind::Env(pairs) | Kind::Label(pairs) => {
            pairs.iter().map(pair).collect::<Vec<_>>().join(" ")
        }
        Kind::Arg(arguments) => {
            let one = |argument: &crate::Argument| match &argument.default {
                Some(default) => format!("{}={:?}", argument.name.text, default.text),
                None => argument.name.text.clone(),
            };
            arguments.iter().map(one).collect::<Vec<_>>().join(" ")
        }
        Kind::Workdir(word)
        | Kind::User(word)
        | Kind::StopSignal(word)
        | Kind::Maintainer(word) => format!("{:?}", word.text),
        Kind::Expose(words) | Kind::Volume(words) | Kind::Shell(words) => texts(words),
        Kind::Cmd(line) | Kind::Entrypoint(line) => command(line),
        Kind::Healthcheck(Healthcheck::None) => "NONE".to_owned(),
        Kind::Healthcheck(Healthcheck::Cmd {
            interval,
            timeout,
            start_period,
            start_interval,
            retries,
            command: line,
        }) => format!(
            "every {interval:?} timeout {timeout:?} start {start_period:?}/{start_interval:?} \
             retries {retries} {}",
            command(line)
        ),
        Kind::OnBuild(inner) => {
            let trigger = instruction.trigger().unwrap_or_default();
            format!(
                "{{{}}} {trigger:?}",
                shown(&Instruction { heredocs: Vec::new(), ..*inner.clone() })
            )
        }
        Kind::Unknown => "unknown".to_owned(),
    }
}

fn form(instruction: &Instruction) -> String {
    match instruction.run_form() {
        Some(RunForm::Exec(words)) => format!("exec {words:?}"),
        Some(RunForm::Shell(text)) => format!("shell {text:?}"),
        Some(RunForm::Script { name, content }) => format!("script {name} {content:?}"),
        None => String::new(),
    }
}

fn command(line: &CommandLine) -> String {
    match line {
        CommandLine::Exec(words) => format!("exec {}", texts(words)),
        CommandLine::Shell(word) => format!("shell {:?}", word.text),
    }
}

fn paths(sources: &[Word], files: &[InlineFile], dest: &Word) -> String {
    let mut out = texts(sources);
    for file in files {
        let how = if file.expand { "" } else { " raw" };
        write!(out, " {}{how} {:?}", file.name, file.content).expect("strings grow");
    }
    write!(out, " -> {:?}", dest.text).expect("strings grow");
    out
}

fn pair(pair: &Pair) -> String {
    let sign = if pair.legacy { "~" } else { "=" };
    format!("{}{sign}{:?}", pair.key.text, pair.value.text)
}

fn option(out: &mut String, name: &str, word: Option<&Word>) {
    if let Some(word) = word {
        write!(out, " {name}={:?}", word.text).expect("strings grow");
    }
}

fn texts(words: &[Word]) -> String {
    format!("{:?}", words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>())
}
