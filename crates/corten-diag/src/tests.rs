use std::time::Duration;

use expect_test::{Expect, expect};

use crate::render::{concise, full, json};
use crate::{
    Collect, Diagnostic, Event, Outcome, Position, Reporter, Silent, SourceFile, Span, StepId,
    Stream, Unit, suggest,
};

const TEXT: &str = "FROM debian\nCOPY --chwon=a b c\r\nRUN é日 done\n";

fn source() -> SourceFile {
    SourceFile::new("Dockerfile", TEXT)
}

fn span_of(part: &str) -> Span {
    let start = TEXT.find(part).expect("the part is in the text");
    Span::from_offsets(start, start + part.len())
}

fn check_full(diagnostic: &Diagnostic, expected: &Expect) {
    expected.assert_eq(&full(diagnostic, Some(&source()), false));
}

fn flag() -> Diagnostic {
    Diagnostic::error("`COPY` has no flag `--chwon`")
        .with_code("CTN042")
        .at(span_of("--chwon=a"))
        .with_hint("did you mean `--chown`?")
}

#[test]
fn a_place_is_marked_and_the_hint_comes_last() {
    check_full(
        &flag(),
        &expect![[r#"
        error[CTN042]: `COPY` has no flag `--chwon`
         --> Dockerfile:2:6
          |
        2 | COPY --chwon=a b c
          |      ^^^^^^^^^
        hint: did you mean `--chown`?
    "#]],
    );
}

#[test]
fn labels_and_notes_stand_between() {
    let diagnostic = Diagnostic::warning("the stage is never used")
        .at(span_of("debian"))
        .with_label(span_of("COPY"), "this\tcopies into it")
        .with_note("stages that nothing needs are not built")
        .with_note("a second note")
        .with_hint("remove it");
    check_full(
        &diagnostic,
        &expect![[r#"
        warning: the stage is never used
         --> Dockerfile:1:6
          |
        1 | FROM debian
          |      ^^^^^^
        2 | COPY --chwon=a b c
          | ---- this\tcopies into it
          |
          = note: stages that nothing needs are not built
          = note: a second note
        hint: remove it
    "#]],
    );
}

#[test]
fn a_place_over_several_lines_is_marked() {
    let diagnostic = Diagnostic::note("all of this").at(Span::from_offsets(5, TEXT.len() - 6));
    check_full(
        &diagnostic,
        &expect![[r#"
        note: all of this
         --> Dockerfile:1:6
          |
        1 |   FROM debian
          |  ______^
        2 | | COPY --chwon=a b c
        3 | | RUN é日 done
          | |_______^
    "#]],
    );
}

#[test]
fn an_empty_place_is_marked() {
    check_full(
        &Diagnostic::error("here").at(Span::empty(12)),
        &expect![[r#"
        error: here
         --> Dockerfile:2:1
          |
        2 | COPY --chwon=a b c
          | ^
    "#]],
    );
    check_full(
        &Diagnostic::error("end").at(Span::from_offsets(TEXT.len(), 999)),
        &expect![[r#"
        error: end
         --> Dockerfile:3:13
          |
        3 | RUN é日 done
          |             ^
    "#]],
    );
}

#[test]
fn without_a_place_the_file_is_named() {
    check_full(
        &Diagnostic::error("the file holds no instructions"),
        &expect![[r#"
        error: the file holds no instructions
        --> Dockerfile
    "#]],
    );
}

#[test]
fn without_a_source_the_file_is_named() {
    let diagnostic = flag().in_file("other/Dockerfile");
    expect![[r#"
        error[CTN042]: `COPY` has no flag `--chwon`
        --> other/Dockerfile
        hint: did you mean `--chown`?
    "#]]
    .assert_eq(&full(&diagnostic, None, false));
    expect![[r#"
        error: nothing known
    "#]]
    .assert_eq(&full(&Diagnostic::error("nothing known"), None, false));
}

#[test]
fn no_escape_sequence_is_written_without_colour() {
    let nasty = "\u{1b}[31mred\u{7}\u{202e}";
    let text = format!("RUN {nasty}\n");
    let source = SourceFile::new(nasty, text.as_str());
    let diagnostic = Diagnostic::error(nasty)
        .at(Span::from_offsets(4, text.len() - 1))
        .with_label(Span::from_offsets(0, 3), nasty)
        .with_note(nasty)
        .with_hint(nasty);
    for rendered in [
        full(&diagnostic, Some(&source), false),
        full(&diagnostic.clone().in_file(nasty), None, false),
        concise(&diagnostic, Some(&source)),
        json(&diagnostic, Some(&source)),
    ] {
        assert!(!rendered.contains(['\u{1b}', '\u{7}']), "{rendered:?}");
    }
    for rendered in [full(&diagnostic, Some(&source), false), concise(&diagnostic, Some(&source))] {
        assert!(!rendered.contains('\u{202e}'), "{rendered:?}");
    }
}

#[test]
fn colour_changes_no_word() {
    let colored = full(&flag(), Some(&source()), true);
    assert!(colored.contains("\u{1b}["), "{colored:?}");
    let mut plain = String::new();
    let mut rest = colored.as_str();
    while let Some(at) = rest.find("\u{1b}[") {
        plain.push_str(&rest[..at]);
        rest = &rest[at..];
        rest = &rest[rest.find('m').expect("a sequence ends") + 1..];
    }
    plain.push_str(rest);
    assert_eq!(plain, full(&flag(), Some(&source()), false));
}

#[test]
fn concise_is_one_line() {
    let check = |diagnostic: &Diagnostic, source: Option<&SourceFile>, expected: &Expect| {
        expected.assert_eq(&concise(diagnostic, source));
    };
    check(
        &flag(),
        Some(&source()),
        &expect![
            "Dockerfile:2:6: error[CTN042]: `COPY` has no flag `--chwon` (hint: did you mean `--chown`?)"
        ],
    );
    check(
        &flag().in_file("a"),
        None,
        &expect!["a: error[CTN042]: `COPY` has no flag `--chwon` (hint: did you mean `--chown`?)"],
    );
    check(&Diagnostic::note("a\nb\tc"), None, &expect![[r#"note: a\nb\tc"#]]);
    check(
        &Diagnostic::warning("wide").at(span_of("done")),
        Some(&source()),
        &expect!["Dockerfile:3:8: warning: wide"],
    );
}

#[test]
fn json_is_versioned_and_complete() {
    let diagnostic = flag().with_label(span_of("debian"), "base").with_note("a \"note\"");
    expect![[r#"{"version":1,"severity":"error","code":"CTN042","message":"`COPY` has no flag `--chwon`","file":"Dockerfile","range":{"start":{"offset":17,"line":2,"column":6},"end":{"offset":26,"line":2,"column":15}},"labels":[{"text":"base","range":{"start":{"offset":5,"line":1,"column":6},"end":{"offset":11,"line":1,"column":12}}}],"notes":["a \"note\""],"hint":"did you mean `--chown`?"}"#]].assert_eq(&json(&diagnostic, Some(&source())));
}

#[test]
fn json_leaves_out_what_is_absent() {
    expect![[r#"{"version":1,"severity":"note","message":"a"}"#]]
        .assert_eq(&json(&Diagnostic::note("a"), None));
    expect![[r#"{"version":1,"severity":"error","code":"CTN042","message":"`COPY` has no flag `--chwon`","file":"b","range":{"start":{"offset":17},"end":{"offset":26}},"hint":"did you mean `--chown`?"}"#]].assert_eq(&json(&flag().in_file("b"), None));
}

#[test]
fn positions_count_lines_and_characters_from_one() {
    let source = source();
    let position = |part: &str| {
        let at = source.position(span_of(part).start);
        (at.line, at.column)
    };
    assert_eq!(position("FROM"), (1, 1));
    assert_eq!(position("debian"), (1, 6));
    assert_eq!(position("COPY"), (2, 1));
    assert_eq!(position("done"), (3, 8));
    assert_eq!(source.position(0), Position { line: 1, column: 1 });
    assert_eq!(source.position(u32::MAX), Position { line: 4, column: 1 });
    // In the middle of a letter it is the letter's beginning.
    assert_eq!(source.position(span_of("é").start + 1), source.position(span_of("é").start));
}

#[test]
fn lines_come_without_their_endings() {
    let source = source();
    assert_eq!(source.line_count(), 4);
    assert_eq!(source.line(1), Some("FROM debian"));
    assert_eq!(source.line(2), Some("COPY --chwon=a b c"));
    assert_eq!(source.line(3), Some("RUN é日 done"));
    assert_eq!(source.line(4), Some(""));
    assert_eq!((source.line(0), source.line(5)), (None, None));
    assert_eq!(SourceFile::new("a", "").line(1), Some(""));
}

#[test]
fn spans_are_half_open() {
    let span = Span::new(3, 5);
    assert_eq!((span.len(), span.is_empty()), (2, false));
    assert!(span.contains(3) && span.contains(4) && !span.contains(5));
    assert_eq!(span.cover(Span::new(1, 4)), Span::new(1, 5));
    assert_eq!(span.of("abcdef"), "de");
    assert_eq!(span.of("abc"), "");
    assert_eq!(Span::new(5, 3), Span::empty(5));
    assert_eq!(Span::from_offsets(0, usize::MAX), Span::new(0, u32::MAX));
}

#[test]
fn the_nearest_word_is_suggested() {
    let known = ["RUN", "FROM", "COPY", "ADD", "ENTRYPOINT", "HEALTHCHECK", "CMD"];
    let nearest = |word: &str| suggest::nearest(word, &known);
    assert_eq!(nearest("RNU"), Some("RUN"));
    assert_eq!(nearest("form"), Some("FROM"));
    assert_eq!(nearest("CPY"), Some("COPY"));
    assert_eq!(nearest("ENTRYPONT"), Some("ENTRYPOINT"));
    assert_eq!(nearest("HEALTHCEHCK"), Some("HEALTHCHECK"));
    assert_eq!(nearest("ENTYPIONT"), Some("ENTRYPOINT"));
    assert_eq!(nearest("COPPY"), Some("COPY"));
}

#[test]
fn far_words_are_not_suggested() {
    let nearest = |word: &str| suggest::nearest(word, &["RUN", "FROM", "ADD", "id", "x"]);
    for word in ["", "FOO", "BAR", "a", "is not", "PROMPT", &"R".repeat(1_000)] {
        assert_eq!(nearest(word), None, "{word}");
    }
    assert_eq!(suggest::nearest("a", &[]), None);
}

#[test]
fn of_equally_near_words_the_first_is_suggested() {
    assert_eq!(suggest::nearest("cat", &["car", "bat"]), Some("car"));
    assert_eq!(suggest::nearest("cat", &["cat", "bat"]), Some("bat"));
    assert_eq!(suggest::nearest("CAT", &["cat"]), Some("cat"));
}

#[test]
fn events_are_collected_in_order_and_taken_out() {
    let collect = Collect::default();
    let events = [
        Event::StepStarted { step: StepId(1), total: 2, title: "RUN a".to_owned() },
        Event::StepOutput { step: StepId(1), stream: Stream::Stdout, bytes: b"x".to_vec() },
        Event::StepFinished {
            step: StepId(1),
            outcome: Outcome::Done,
            elapsed: Duration::from_millis(5),
        },
        Event::Progress { task: "pull".to_owned(), done: 1, total: None, unit: Unit::Bytes },
        Event::Notice("n".to_owned()),
        Event::Warning("w".to_owned()),
        Event::Diagnostic(flag()),
    ];
    let reporter: &dyn Reporter = &&collect;
    for event in events.clone() {
        Silent.report(event.clone());
        reporter.report(event);
    }
    assert_eq!(collect.take(), events);
    assert!(collect.take().is_empty());
}

#[test]
fn several_threads_may_report() {
    let collect = Collect::default();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let collect = &collect;
            scope.spawn(move || {
                for _ in 0..25 {
                    collect.report(Event::Notice(thread.to_string()));
                }
            });
        }
    });
    assert_eq!(collect.take().len(), 100);
}
