//! How lines are joined, and what lies between them.

use expect_test::expect;

use super::check;

#[test]
fn one_instruction_a_line() {
    check(
        "FROM a\nRUN b\n",
        &expect![[r#"
        1 FROM "a"
        2 RUN shell "b"
    "#]],
    );
}

#[test]
fn the_last_line_needs_no_ending() {
    check(
        "FROM a\nRUN b",
        &expect![[r#"
        1 FROM "a"
        2 RUN shell "b"
    "#]],
    );
}

#[test]
fn blanks_before_and_after_are_trimmed() {
    check(
        "  FROM a  \n\tRUN   b c  \n",
        &expect![[r#"
        1 FROM "a"
        2 RUN shell "b c"
    "#]],
    );
}

#[test]
fn an_escape_at_the_end_joins_lines() {
    check(
        "RUN a \\\n  b \\\n  c\n",
        &expect![[r#"
        1-3 RUN shell "a   b   c"
    "#]],
    );
}

#[test]
fn blanks_after_the_escape_do_not_matter() {
    check(
        "RUN a \\  \t\n  b\n",
        &expect![[r#"
        1-2 RUN shell "a   b"
    "#]],
    );
}

#[test]
fn two_escapes_do_not_join() {
    check(
        "RUN a \\\\\nRUN b\n",
        &expect![[r#"
        1 RUN shell "a \\\\"
        2 RUN shell "b"
    "#]],
    );
}

#[test]
fn three_escapes_do_not_join_either() {
    check(
        "RUN a \\\\\\\nRUN b\n",
        &expect![[r#"
        1 RUN shell "a \\\\\\"
        2 RUN shell "b"
    "#]],
    );
}

#[test]
fn an_escape_alone_on_its_line_joins() {
    check(
        "RUN a \\\n\\\nb\n",
        &expect![[r#"
        1-3 RUN shell "a b"
    "#]],
    );
}

#[test]
fn an_escape_may_come_before_the_keyword() {
    check(
        "\\\nRUN a\n",
        &expect![[r#"
        1-2 RUN shell "a"
    "#]],
    );
}

#[test]
fn a_word_can_be_split_over_lines() {
    check(
        "RUN ec\\\nho hi\n",
        &expect![[r#"
        1-2 RUN shell "echo hi"
    "#]],
    );
}

#[test]
fn the_keyword_can_be_split_over_lines() {
    check(
        "RU\\\nN a\n",
        &expect![[r#"
        1-2 RUN shell "a"
    "#]],
    );
}

#[test]
fn a_comment_between_joined_lines_is_dropped() {
    check(
        "RUN a \\\n# no \\\n  # neither\n  b\n",
        &expect![[r#"
        1-4 RUN shell "a   b"
    "#]],
    );
}

#[test]
fn an_empty_line_between_joined_lines_is_dropped_with_a_warning() {
    check(
        "RUN a \\\n\n   \n  b\n",
        &expect![[r#"
        1-4 RUN shell "a   b"
        Dockerfile:2:1: warning: an empty line inside an instruction (hint: remove the line, or make it a comment)
    "#]],
    );
}

#[test]
fn a_file_may_end_in_a_continuation() {
    check(
        "RUN a \\\n",
        &expect![[r#"
        1 RUN shell "a"
    "#]],
    );
}

#[test]
fn a_file_may_end_in_a_continuation_and_a_comment() {
    check(
        "RUN a \\\n# c",
        &expect![[r#"
        1-2 RUN shell "a"
    "#]],
    );
}

#[test]
fn a_hash_inside_a_line_is_no_comment() {
    check(
        "RUN a # b\n",
        &expect![[r#"
        1 RUN shell "a # b"
    "#]],
    );
}

#[test]
fn crlf_line_endings() {
    check(
        "FROM a\r\nRUN b \\\r\n  c\r\n",
        &expect![[r#"
        1 FROM "a"
        2-3 RUN shell "b   c"
    "#]],
    );
}

#[test]
fn carriage_returns_pile_up() {
    check(
        "FROM a\r\r\nRUN b\r\n",
        &expect![[r#"
        1 FROM "a"
        2 RUN shell "b"
    "#]],
    );
}

#[test]
fn a_carriage_return_inside_a_line_stays() {
    check(
        "RUN a\rb\n",
        &expect![[r#"
        1 RUN shell "a\rb"
    "#]],
    );
}

#[test]
fn a_byte_order_mark_is_skipped() {
    check(
        "\u{feff}FROM a\n",
        &expect![[r#"
        1 FROM "a"
    "#]],
    );
}

#[test]
fn backtick_escapes_when_told_so() {
    check(
        "# escape=`\nRUN a `\n  b \\\n",
        &expect![[r#"
        2-3 RUN shell "a   b \\"
    "#]],
    );
}

#[test]
fn a_backslash_may_be_set_as_well() {
    check(
        "# escape=\\\nRUN a \\\n  b\n",
        &expect![[r#"
        2-3 RUN shell "a   b"
    "#]],
    );
}

#[test]
fn the_escape_directive_may_be_spaced() {
    check(
        "#   ESCAPE  =  `   \nRUN a `\n b\n",
        &expect![[r#"
        2-3 RUN shell "a  b"
    "#]],
    );
}

#[test]
fn the_escape_directive_after_a_comment_is_a_comment() {
    check(
        "# hello\n# escape=`\nRUN a `\nRUN b\n",
        &expect![[r#"
        3 RUN shell "a `"
        4 RUN shell "b"
    "#]],
    );
}

#[test]
fn the_escape_directive_after_an_empty_line_is_a_comment() {
    check(
        "\n# escape=`\nRUN a `\nRUN b\n",
        &expect![[r#"
        3 RUN shell "a `"
        4 RUN shell "b"
    "#]],
    );
}

#[test]
fn an_unknown_directive_ends_the_directives() {
    check(
        "# foo=bar\n# escape=`\nRUN a `\nRUN b\n",
        &expect![[r#"
        3 RUN shell "a `"
        4 RUN shell "b"
    "#]],
    );
}

#[test]
fn all_three_directives() {
    check(
        "# syntax=docker/dockerfile:1\n# check=skip=all\n# escape=`\nRUN a `\n b\n",
        &expect![[r#"
            4-5 RUN shell "a  b"
        "#]],
    );
}

#[test]
fn comments_alone_are_no_instructions() {
    check(
        "# a\n\n# b\n",
        &expect![[r#"
        Dockerfile:1:1: error: the file holds no instructions (hint: begin with `FROM` and an image)
    "#]],
    );
}

#[test]
fn an_empty_file_has_no_instructions() {
    check(
        "",
        &expect![[r#"
        Dockerfile:1:1: error: the file holds no instructions (hint: begin with `FROM` and an image)
    "#]],
    );
}

#[test]
fn keywords_are_taken_in_any_case() {
    check(
        "from a\nRun b\ncOpY a b\n",
        &expect![[r#"
        1 FROM "a"
        2 RUN shell "b"
        3 COPY ["a"] -> "b"
    "#]],
    );
}

#[test]
fn tabs_and_form_feeds_separate_too() {
    check(
        "RUN\ta\nCOPY\u{c}a\u{b}b\n",
        &expect![[r#"
        1 RUN shell "a"
        2 COPY ["a"] -> "b"
    "#]],
    );
}

#[test]
fn a_no_break_space_does_not_end_the_keyword() {
    check(
        "RUN\u{a0}a\n",
        &expect![[r#"
        1 ? unknown
        Dockerfile:1:1: error: unknown instruction `RUN a`
    "#]],
    );
}
