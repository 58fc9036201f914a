//! What holds for every text: nothing panics, no byte is lost, places are places.

use corten_diag::{Diagnostic, SourceFile, Span, render};
use proptest::prelude::*;

use crate::ignore::Ignore;
use crate::stages::stages;
use crate::{CommandLine, Dockerfile, Instruction, Kind, Word, glob, parse, port, word};

/// Pieces that mean something, so that texts get far into the grammar.
fn piece() -> impl Strategy<Value = String> {
    const PIECES: [&str; 62] = [
        "FROM ",
        "RUN ",
        "COPY ",
        "ADD ",
        "ENV ",
        "ARG ",
        "LABEL ",
        "CMD ",
        "ONBUILD ",
        "SHELL ",
        "HEALTHCHECK ",
        "EXPOSE ",
        "VOLUME ",
        "WORKDIR ",
        "USER ",
        "STOPSIGNAL ",
        "MAINTAINER ",
        "ENTRYPOINT ",
        "\n",
        "\r\n",
        "\\\n",
        "`\n",
        "\\ \n",
        "# c\n",
        "#\n",
        "# escape=`\n",
        "# syntax=x\n",
        " ",
        "\t",
        "a",
        "b=c",
        "$x",
        "${x:-y}",
        "${",
        "}",
        "'",
        "\"",
        "\\",
        "`",
        "[",
        "]",
        "[\"a\", \"b\"]",
        "[1]",
        "<<EOF",
        "<<-E",
        "<<\"E\"",
        "EOF\n",
        "E\n",
        "--from=a ",
        "--mount=type=cache,target=/a ",
        "--link ",
        "-- ",
        "AS ",
        "NONE",
        "80/tcp",
        "é",
        "日",
        "\u{a0}",
        "\u{feff}",
        "=",
        "\u{b}",
        "\0",
    ];
    prop_oneof![4 => prop::sample::select(&PIECES[..]).prop_map(str::to_owned), 1 => "\\PC{0,3}"]
}

fn text() -> impl Strategy<Value = String> {
    prop::collection::vec(piece(), 0..24).prop_map(|pieces| pieces.concat())
}

fn is_place(text: &str, span: Span) -> bool {
    text.get(span.range()).is_some()
}

fn words(instruction: &Instruction) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::new();
    words.extend_from_slice(&instruction.flags);
    words.extend_from_slice(&instruction.args);
    words.extend_from_slice(&instruction.comments);
    match &instruction.kind {
        Kind::OnBuild(inner) => words.extend(self::words(inner)),
        Kind::Cmd(CommandLine::Shell(word)) => words.push(word.clone()),
        Kind::Env(pairs) | Kind::Label(pairs) => {
            words.extend(pairs.iter().flat_map(|pair| [pair.key.clone(), pair.value.clone()]));
        }
        Kind::Arg(arguments) => {
            words.extend(arguments.iter().map(|argument| argument.name.clone()));
            words.extend(arguments.iter().filter_map(|argument| argument.default.clone()));
        }
        Kind::Copy(copy) => words.extend(copy.from.iter().chain(&copy.excludes).cloned()),
        Kind::Run(run) => words.extend(run.mounts.iter().map(|mount| mount.word.clone())),
        _ => {}
    }
    words
}

fn check_word(text: &str, word: &Word) -> Result<(), TestCaseError> {
    prop_assert!(is_place(text, word.span), "{word:?}");
    if word.segments.is_empty() {
        prop_assert_eq!(word.span.of(text), &word.text);
    }
    for (at, _) in word.text.char_indices() {
        let place = word.locate(at);
        prop_assert!(is_place(text, Span::empty(place)), "{word:?} at {at}");
        prop_assert!(word.span.start <= place && place <= word.span.end);
    }
    Ok(())
}

fn check_diagnostics(text: &str, diagnostics: &[Diagnostic]) -> Result<(), TestCaseError> {
    let source = SourceFile::new("Dockerfile", text);
    for diagnostic in diagnostics {
        let span = diagnostic.span.unwrap_or_default();
        prop_assert!(diagnostic.span.is_some() && is_place(text, span), "{diagnostic:?}");
        render::full(diagnostic, Some(&source), false);
        render::json(diagnostic, Some(&source));
        prop_assert_eq!(render::concise(diagnostic, Some(&source)).lines().count(), 1);
    }
    Ok(())
}

fn check_file(text: &str, file: &Dockerfile) -> Result<(), TestCaseError> {
    let mut at = 0;
    for token in &file.tokens {
        prop_assert_eq!(token.span.start, at);
        prop_assert!(is_place(text, token.span) && !token.span.is_empty());
        at = token.span.end;
    }
    prop_assert_eq!(at as usize, text.len());
    let mut end = 0;
    for instruction in &file.instructions {
        prop_assert!(instruction.span.start >= end && is_place(text, instruction.span));
        prop_assert!(instruction.line <= instruction.last_line);
        end = instruction.span.end;
        for word in words(instruction) {
            check_word(text, &word)?;
        }
        for heredoc in &instruction.heredocs {
            prop_assert_eq!(heredoc.span.of(text), &heredoc.body);
        }
        if matches!(instruction.kind, Kind::Unknown) {
            prop_assert!(file.diagnostics.iter().any(Diagnostic::is_error));
        }
    }
    check_diagnostics(text, &file.diagnostics)?;
    check_diagnostics(text, &stages(file).diagnostics)
}

fn path() -> impl Strategy<Value = String> {
    prop::collection::vec("[ab.*!]{1,3}", 1..4).prop_map(|parts| parts.join("/"))
}

fn ignore_file() -> impl Strategy<Value = String> {
    const PIECES: [&str; 18] = [
        "a", "b", "*", "**", "/", "?", "!", "[a-b]", "[^a]", "\\", "\n", "\n!", ".", "..", "#",
        " ", "[", "(",
    ];
    prop::collection::vec(prop::sample::select(&PIECES[..]), 0..12).prop_map(|it| it.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn parsing_loses_nothing(text in text()) {
        check_file(&text, &parse(&text))?;
    }

    #[test]
    fn any_text_can_be_parsed(text in "\\PC{0,60}|[\\x00-\\x7f]{0,60}") {
        check_file(&text, &parse(&text))?;
    }

    #[test]
    fn text_without_special_characters_expands_to_itself(word in "[a-z /:.=-]{0,20}") {
        prop_assert_eq!(word::expand(&word, &|_| None, '\\'), Ok(word.clone()));
    }

    #[test]
    fn any_word_can_be_expanded(word in "[$a{}:?#%/*'\"\\\\`< é-]{0,30}", value in "\\PC{0,10}") {
        for escape in ['\\', '`'] {
            let errors = [
                word::expand(&word, &|_| Some(value.clone()), escape).err(),
                word::expand_list(&word, &|_| None, escape).err(),
                word::expand_known(&word, &|_| None, escape).err(),
                word::expand_heredoc(&word, &|_| None).err(),
            ];
            for error in errors.into_iter().flatten() {
                prop_assert!(word.is_char_boundary(error.offset), "{error:?}");
            }
            word::variables(&word, escape);
        }
    }

    #[test]
    fn pruning_never_hides_what_is_included(text in ignore_file(), path in path()) {
        let ignore = Ignore::parse(&text);
        if !ignore.excludes(&path, false) {
            for (at, _) in path.match_indices('/') {
                let parent = &path[..at];
                let walked = !ignore.excludes(parent, true) || ignore.may_contain_included(parent);
                prop_assert!(walked, "{parent:?} of {path:?} under {text:?}");
            }
        }
    }

    #[test]
    fn what_is_ignored_is_ignored_with_all_beneath_unless_there_are_exceptions(
        text in ignore_file(),
        path in path(),
    ) {
        let text = text.replace('!', "");
        let ignore = Ignore::parse(&text);
        if ignore.excludes(&path, true) {
            let child = format!("{path}/c");
            prop_assert!(ignore.excludes(&child, false));
        }
    }

    #[test]
    fn any_pattern_and_any_port_can_be_read(pattern in "[ab*?\\[\\]^\\\\/-]{0,12}", name in "\\PC{0,8}") {
        if let Ok(pattern) = glob::Pattern::new(&pattern) {
            pattern.matches(&name);
        }
        prop_assert!(port::parse(&name).is_ok_and(|exposed| !exposed.ports.is_empty()) || port::parse(&name).is_err());
    }
}
