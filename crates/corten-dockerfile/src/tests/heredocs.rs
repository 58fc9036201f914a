//! Here-documents.

use expect_test::expect;

use super::check;

#[test]
fn run_with_nothing_but_a_heredoc() {
    check("RUN <<EOF\na\nb\nEOF\nRUN c\n", &expect![[r#"
        1-4 RUN shell "a\nb\n" <<EOF "a\nb\n"
        5 RUN shell "c"
    "#]]);
}

#[test]
fn run_with_an_interpreter_in_the_first_line() {
    check("RUN <<EOF\n#!/bin/python\na\nEOF\n", &expect![[r##"
        1-4 RUN script EOF "#!/bin/python\na\n" <<EOF "#!/bin/python\na\n"
    "##]]);
}

#[test]
fn run_with_a_command_before_the_heredoc() {
    check("RUN python3 <<EOF\na\nEOF\n", &expect![[r#"
        1-3 RUN shell "python3 <<EOF\na\nEOF" <<EOF "a\n"
    "#]]);
}

#[test]
fn run_with_a_command_after_the_heredoc() {
    check("RUN <<EOF python3\na\nEOF\n", &expect![[r#"
        1-3 RUN shell "<<EOF python3\na\nEOF" <<EOF "a\n"
    "#]]);
}

#[test]
fn run_with_several_heredocs() {
    check("RUN cat <<A <<B\na\nA\nb\nB\n", &expect![""]);
}

#[test]
fn run_with_a_heredoc_and_tabs() {
    check("RUN <<-EOF\n\ta\n\t\tb\n\tEOF\n", &expect![""]);
}

#[test]
fn tabs_stay_when_a_shell_reads_the_heredoc() {
    check("RUN cat <<-EOF\n\ta\n\tEOF\n", &expect![""]);
}

#[test]
fn run_with_a_quoted_name() {
    check("RUN <<\"EOF\"\n$a\nEOF\nRUN <<'EOF'\n$a\nEOF\nRUN <<E\"O\"F\n$a\nEOF\n", &expect![""]);
}

#[test]
fn a_name_may_be_escaped() {
    check("RUN <<E\\OF\na\nEOF\n", &expect![[r#"
        1-3 RUN shell "a\n" <<EOF "a\n"
    "#]]);
}

#[test]
fn a_name_may_follow_blanks() {
    check("RUN <<  EOF\na\nEOF\n", &expect![""]);
}

#[test]
fn a_file_descriptor_may_come_before() {
    check("RUN cat 3<<EOF\na\nEOF\n", &expect![[r#"
        1-3 RUN shell "cat 3<<EOF\na\nEOF" <<EOF fd "a\n"
    "#]]);
}

#[test]
fn flags_may_come_before() {
    check("RUN --network=none <<EOF\na\nEOF\n", &expect![""]);
}

#[test]
fn copy_of_files_that_stand_here() {
    check("COPY <<a <<\"b\" c /d/\n1 $x\na\n2 $x\nb\n", &expect![""]);
}

#[test]
fn copy_drops_tabs() {
    check("COPY <<-a /b\n\t1\n\ta\n", &expect![""]);
}

#[test]
fn add_of_a_file_that_stands_here() {
    check("ADD <<a /b\n1\na\n", &expect![""]);
}

#[test]
fn copy_to_a_heredoc_is_an_error() {
    check("COPY a <<b\n1\nb\n", &expect![""]);
}

#[test]
fn of_two_with_one_name_the_last_counts_for_copy() {
    check("COPY <<a <<a /b\n1\na\n2\na\n", &expect![""]);
}

#[test]
fn onbuild_carries_heredocs() {
    check("ONBUILD RUN <<EOF\na\nEOF\nONBUILD COPY <<a /b\n1\na\n", &expect![""]);
}

#[test]
fn json_has_no_heredocs() {
    check("RUN [\"a\", \"<<EOF\"]\nCOPY [\"<<a\", \"/b\"]\n", &expect![""]);
}

#[test]
fn other_instructions_have_no_heredocs() {
    check("CMD a <<EOF\nENV a=<<EOF\n", &expect![""]);
}

#[test]
fn three_angles_are_no_heredoc() {
    check("RUN a <<<b\n", &expect![""]);
}

#[test]
fn a_shift_is_no_heredoc() {
    check("RUN echo $((1<<2))\nRUN echo $((1 << ${n:-3}))\n", &expect![""]);
}

#[test]
fn a_quoted_heredoc_is_none() {
    check("RUN echo \"<<EOF\" '<<EOF'\n", &expect![""]);
}

#[test]
fn an_escaped_heredoc_is_none() {
    check("RUN echo \\<<EOF\n", &expect![""]);
}

#[test]
fn an_open_quote_hides_heredocs() {
    check("RUN echo \" <<EOF\n", &expect![""]);
}

#[test]
fn a_heredoc_that_does_not_end_is_an_error() {
    check("RUN <<EOF\na\n EOF\n", &expect![""]);
}

#[test]
fn a_heredoc_without_lines_is_an_error() {
    check("RUN <<EOF", &expect![""]);
}

#[test]
fn an_empty_heredoc() {
    check("RUN <<EOF\nEOF\n", &expect![""]);
}

#[test]
fn a_heredoc_after_joined_lines() {
    check("RUN a \\\n  <<EOF\nb \\\nEOF\n", &expect![""]);
}

#[test]
fn comments_and_empty_lines_stay_in_a_heredoc() {
    check("RUN <<EOF\n# a\n\nb\nEOF\n", &expect![""]);
}

#[test]
fn crlf_in_heredocs() {
    check("RUN <<EOF\r\na\r\nEOF\r\nRUN b\r\n", &expect![""]);
}

#[test]
fn the_end_must_stand_alone() {
    check("RUN <<EOF\na\nEOF \nEOF\n", &expect![""]);
}

#[test]
fn the_backslash_escapes_in_heredoc_words_even_with_backticks() {
    check("# escape=`\nRUN <<E\\OF\na\nEOF\n", &expect![""]);
}
