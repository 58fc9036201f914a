//! How diagnostics look to a reader: the place is marked in the lines of the file.

use corten_diag::{SourceFile, render};
use expect_test::{Expect, expect};

use crate::parse;

fn check(text: &str, expected: &Expect) {
    let source = SourceFile::new("Dockerfile", text);
    let all = parse(text).diagnostics;
    let all = all.iter().map(|diagnostic| render::full(diagnostic, Some(&source), false));
    expected.assert_eq(&all.collect::<Vec<_>>().join("\n"));
}

#[test]
fn a_misspelled_instruction_is_marked() {
    check(
        "FROM a\nRNU b\n",
        &expect![[r#"
        error: unknown instruction `RNU`
         --> Dockerfile:2:1
          |
        2 | RNU b
          | ^^^
        hint: did you mean `RUN`?
    "#]],
    );
}

#[test]
fn a_misspelled_flag_is_marked() {
    check(
        "FROM a\nCOPY --chwon=1 a \\\n  b\n",
        &expect![[r#"
        error: `COPY` has no flag `--chwon`
         --> Dockerfile:2:6
          |
        2 | COPY --chwon=1 a \
          |      ^^^^^^^^^
        hint: did you mean `--chown`?
    "#]],
    );
}

#[test]
fn a_broken_array_is_marked_where_it_breaks() {
    check(
        "CMD [\"a\", 'b']\n",
        &expect![[r#"
        warning: this looks like a JSON array and is none, so a shell will run it
         --> Dockerfile:1:11
          |
        1 | CMD ["a", 'b']
          |           ^
        hint: write `["executable", "argument"]` with double quotes
    "#]],
    );
}

#[test]
fn a_heredoc_without_end_is_marked_where_it_begins() {
    check(
        "FROM a\nRUN cat <<EOF > b\nc\n",
        &expect![[r#"
        error: no line ends the here-document `EOF`
         --> Dockerfile:2:9
          |
        2 | RUN cat <<EOF > b
          |         ^^^^^
        hint: add a line that holds `EOF` and nothing else
    "#]],
    );
}

#[test]
fn a_mistake_on_a_joined_line_is_marked_on_its_own_line() {
    check(
        "ENV a=b \\\n  # comment\n  c\n",
        &expect![[r#"
        error: expected `name=value`, found `c`
         --> Dockerfile:3:3
          |
        3 |   c
          |   ^
        hint: quote a value that has blanks in it
    "#]],
    );
}

#[test]
fn an_empty_line_is_marked() {
    check(
        "RUN a \\\n\n  b\n",
        &expect![[r#"
        warning: an empty line inside an instruction
         --> Dockerfile:2:1
          |
        2 |
          | ^
        hint: remove the line, or make it a comment
    "#]],
    );
}

#[test]
fn a_bad_name_of_a_stage_is_marked() {
    check(
        "FROM a AS 1b\n",
        &expect![[r#"
        error: invalid name `1b` for a build stage
         --> Dockerfile:1:11
          |
        1 | FROM a AS 1b
          |           ^^
        hint: begin with a letter and go on with letters, digits, `-`, `_` and `.`
    "#]],
    );
}

#[test]
fn a_bad_mount_is_marked() {
    check(
        "RUN --mount=type=bind,from=$x a\n",
        &expect![[r#"
        error: variables do not work in `from` of a mount
         --> Dockerfile:1:13
          |
        1 | RUN --mount=type=bind,from=$x a
          |             ^^^^^^^^^^^^^^^^^
        hint: give the image a name with `FROM image AS name` and mount from that
    "#]],
    );
}

#[test]
fn a_trigger_that_will_fail_is_a_warning() {
    check(
        "ONBUILD COPY a\n",
        &expect![[r#"
        warning: `COPY` needs a source and a destination
         --> Dockerfile:1:9
          |
        1 | ONBUILD COPY a
          |         ^^^^
          |
          = note: a build that is triggered will fail here
    "#]],
    );
}

#[test]
fn a_directive_given_twice_is_marked() {
    check(
        "# escape=`\n# escape=x\nRUN a\n",
        &expect![[r#"
        error: the directive `escape` is given twice
         --> Dockerfile:2:1
          |
        2 | # escape=x
          | ^^^^^^^^^^
    "#]],
    );
}

#[test]
fn an_invalid_escape_is_marked() {
    check(
        "# escape=x\nRUN a\n",
        &expect![[r#"
        error: invalid escape character `x`
         --> Dockerfile:1:10
          |
        1 | # escape=x
          |          ^
        hint: use a backslash or a backtick
    "#]],
    );
}

#[test]
fn wide_letters_do_not_shift_the_mark() {
    check(
        "ENV é=1 日本 b=2\n",
        &expect![[r#"
        error: expected `name=value`, found `日本`
         --> Dockerfile:1:9
          |
        1 | ENV é=1 日本 b=2
          |         ^^^^
        hint: quote a value that has blanks in it
    "#]],
    );
}
