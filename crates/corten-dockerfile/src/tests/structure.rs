//! Directives, spans, tokens, stages and global arguments.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use corten_diag::SourceFile;
use expect_test::{Expect, expect};

use crate::stages::{self, Source, stages};
use crate::{Kind, parse};

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn directives_have_places() {
    let text = "# syntax = docker/dockerfile:1 # x \n#check=skip=A,B\r\n# escape=`\n# syntax=b\n";
    let directives = parse(text).directives;
    let syntax = directives.syntax.unwrap();
    assert_eq!(syntax.value, "docker/dockerfile:1 # x");
    assert_eq!(syntax.span.of(text), syntax.value);
    let check = directives.check.unwrap();
    assert_eq!((check.value.as_str(), check.span.of(text)), ("skip=A,B", "skip=A,B"));
    let escape = directives.escape.unwrap();
    assert_eq!((escape.value, escape.span.of(text)), ('`', "`"));
}

#[test]
fn syntax_and_check_may_follow_a_shebang() {
    let text = "#!/usr/bin/env x\n# syntax=a\n# check=b\n# escape=`\nRUN c `\nRUN d\n";
    let file = parse(text);
    assert_eq!(file.directives.syntax.unwrap().span.of(text), "a");
    assert_eq!(file.directives.check.unwrap().span.of(text), "b");
    assert!(file.directives.escape.is_none());
    assert_eq!(file.instructions.len(), 2);
}

#[test]
fn an_indented_directive_sets_the_escape_only() {
    let file = parse(" # escape=`\n# syntax=a\nRUN c `\n d\n");
    assert_eq!(file.directives.escape_char(), '`');
    assert!(file.directives.syntax.is_none());
    assert_eq!(file.instructions.len(), 1);
    assert!(parse(" # syntax=a\n# check=b\nRUN c\n").directives.check.is_none());
}

#[test]
fn comments_before_an_instruction_belong_to_it() {
    let text = "# gone\n#\n# one\n\n#two \nARG a\nARG b\n";
    let file = parse(text);
    let comments = |index: usize| {
        let comments = file.instructions[index].comments.iter();
        comments.map(|comment| comment.span.of(text)).collect::<Vec<_>>()
    };
    assert_eq!(comments(0), ["one", "two"]);
    assert!(comments(1).is_empty());
}

fn tokens(text: &str, expected: &Expect) {
    let mut out = String::new();
    for token in parse(text).tokens {
        writeln!(out, "{:?} {:?}", token.kind, token.span.of(text)).unwrap();
    }
    expected.assert_eq(&out);
}

#[test]
fn tokens_cover_the_whole_text() {
    tokens(
        "\u{feff}# escape=\\\n\n  # comment \nONBUILD  COPY --from=a \\ \n  # between\n\n b \\\n c  \nRUN -- <<-E\n\tx\n\tE\n",
        &expect![[r##"
            Bom "\u{feff}"
            Directive "# escape=\\"
            Whitespace "\n\n  "
            Comment "# comment "
            Whitespace "\n"
            Keyword "ONBUILD"
            Whitespace "  "
            Keyword "COPY"
            Whitespace " "
            Flag "--from=a"
            Whitespace " "
            Continuation "\\ \n"
            Whitespace "  "
            Comment "# between"
            Whitespace "\n\n "
            Argument "b "
            Continuation "\\\n"
            Argument " c"
            Whitespace "  \n"
            Keyword "RUN"
            Whitespace " "
            Flag "--"
            Whitespace " "
            Argument "<<-E"
            Whitespace "\n"
            HeredocBody "\tx\n"
            HeredocEnd "\tE"
            Whitespace "\n"
        "##]],
    );
}

#[test]
fn words_know_their_places_across_lines() {
    let text = "FROM a\nENV one=1 tw\\\n  # comment\no=2\n";
    let file = parse(text);
    let Kind::Env(pairs) = &file.instructions[1].kind else { panic!("it is ENV") };
    let source = SourceFile::new("Dockerfile", text);
    let position = source.position(pairs[0].key.span.start);
    assert_eq!((position.line, position.column), (2, 5));
    let two = &pairs[1].key;
    assert_eq!(two.text, "two");
    assert_eq!(two.span.of(text), "tw\\\n  # comment\no");
    assert_eq!(&text[two.locate(2) as usize..][..1], "o");
    assert_eq!(pairs[1].value.span.of(text), "2");
}

#[test]
fn an_instruction_spans_from_its_name_to_its_last_line() {
    let text = "  RUN a \\\n  b  \nRUN <<E\nx\nE\nRUN c";
    let file = parse(text);
    let spans: Vec<&str> = file.instructions.iter().map(|it| it.span.of(text)).collect();
    assert_eq!(spans, ["RUN a \\\n  b", "RUN <<E\nx\nE", "RUN c"]);
}

#[test]
fn strings_of_an_array_know_their_places() {
    let text = r#"CMD ["a\nb", "c"]"#;
    let file = parse(text);
    let words = &file.instructions[0].args;
    assert_eq!(words[0].span.of(text), r#""a\nb""#);
    assert_eq!(&text[words[0].locate(2) as usize..][..1], "b");
}

#[test]
fn an_error_of_a_word_points_into_the_file() {
    let text = "FROM x\nWORKDIR /a/${b:?no}\n";
    let file = parse(text);
    let Kind::Workdir(word) = &file.instructions[1].kind else { panic!("it is WORKDIR") };
    let error = stages::expand(&file, word, &BTreeMap::new()).unwrap_err();
    assert_eq!(error.message, "`b`: no");
    assert_eq!(error.span.unwrap().of(text), "no}");
}

const STAGES: &str = "ARG V=1\nFROM a AS Base\nRUN b\nCOPY c d\nFROM base\nFROM e AS last\nRUN f\n";

#[test]
fn stages_are_cut_at_from() {
    let file = parse(STAGES);
    let stages = stages(&file);
    assert_eq!(stages.global_args, [0]);
    let shown: Vec<_> = stages
        .stages
        .iter()
        .map(|stage| (stage.name.as_deref(), stage.from, stage.instructions.clone()))
        .collect();
    assert_eq!(shown, [(Some("base"), 1, 2..4), (None, 4, 5..5), (Some("last"), 5, 6..7)]);
    assert_eq!(stages.stages[0].span.of(STAGES), "FROM a AS Base\nRUN b\nCOPY c d");
    assert!(stages.diagnostics.is_empty());
    assert_eq!(stages.names(), ["base", "last"]);
}

#[test]
fn stages_are_named_in_any_case_but_by_from() {
    let file = parse(STAGES);
    let stages = stages(&file);
    assert_eq!(stages.by_name("BASE").unwrap().index, 0);
    assert_eq!(stages.base(1, "base").unwrap().index, 0);
    assert!(stages.base(1, "Base").is_none());
    assert!(stages.base(0, "base").is_none());
    assert!(stages.base(1, "last").is_none());
}

#[test]
fn copy_may_name_a_stage_by_number() {
    let file = parse(STAGES);
    let stages = stages(&file);
    assert_eq!(stages.copy_source("1"), Source::Stage(1));
    assert_eq!(stages.copy_source("+1"), Source::Stage(1));
    assert_eq!(stages.copy_source("3"), Source::NoSuchStage);
    assert_eq!(stages.copy_source("-1"), Source::NoSuchStage);
    assert_eq!(stages.copy_source("Last"), Source::Stage(2));
    assert_eq!(stages.copy_source("debian:12"), Source::Other);
    assert_eq!(stages.mount_source("1"), Source::Other);
    assert_eq!(stages.mount_source("last"), Source::Stage(2));
}

#[test]
fn of_two_stages_with_one_name_the_last_counts() {
    let file = parse("FROM a AS x\nFROM x AS x\nFROM x\n");
    let stages = stages(&file);
    assert_eq!(stages.by_name("x").unwrap().index, 1);
    assert_eq!(stages.base(1, "x").unwrap().index, 0);
    assert_eq!(stages.base(2, "x").unwrap().index, 1);
}

#[test]
fn what_stands_before_the_first_stage_is_told() {
    let messages = |text: &str| {
        let diagnostics = stages(&parse(text)).diagnostics;
        diagnostics.into_iter().map(|diagnostic| diagnostic.message).collect::<Vec<_>>()
    };
    assert_eq!(messages("ARG a\nRUN b\nFROM c\n"), ["`RUN` stands before the first `FROM`"]);
    assert_eq!(messages("ARG a\n"), ["the file has no build stage"]);
    assert!(messages("").is_empty());
}

#[test]
fn global_arguments_see_those_before_them() {
    let text =
        "ARG a=1\nARG b=${a}2 c=$b\nARG d\nARG TARGETARCH\nARG a=$a$TARGETARCH\nFROM x\nARG z=1\n";
    let file = parse(text);
    let stages = stages(&file);
    let predefined = map(&[("TARGETARCH", "amd64"), ("TARGETOS", "linux")]);
    let values = |given: &[(&str, &str)]| {
        let values = stages::global_args(&file, &stages, &predefined, &map(given)).unwrap();
        values.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(values(&[]), "TARGETARCH=amd64 TARGETOS=linux a=1amd64 b=12 c=12");
    assert_eq!(
        values(&[("a", "9"), ("d", "x"), ("TARGETARCH", "arm64"), ("q", "1")]),
        "TARGETARCH=arm64 TARGETOS=linux a=9 b=92 c=92 d=x"
    );
}

#[test]
fn a_global_argument_that_cannot_be_expanded_is_told_with_its_place() {
    let text = "ARG a=${b?missing}\nFROM x\n";
    let file = parse(text);
    let shape = stages(&file);
    let none = BTreeMap::new();
    let error = stages::global_args(&file, &shape, &none, &none).unwrap_err();
    assert_eq!(error.message, "`b`: missing");
}
