//! Here-documents.

use expect_test::expect;

use super::check;

#[test]
fn run_with_nothing_but_a_heredoc() {
    check(
        "RUN <<EOF\na\nb\nEOF\nRUN c\n",
        &expect![[r#"
        1-4 RUN shell "a\nb\n" <<EOF "a\nb\n"
        5 RUN shell "c"
    "#]],
    );
}

#[test]
fn run_with_an_interpreter_in_the_first_line() {
    check(
        "RUN <<EOF\n#!/bin/python\na\nEOF\n",
        &expect![[r##"
        1-4 RUN script EOF "#!/bin/python\na\n" <<EOF "#!/bin/python\na\n"
    "##]],
    );
}

#[test]
fn run_with_a_command_before_the_heredoc() {
    check(
        "RUN python3 <<EOF\na\nEOF\n",
        &expect![[r#"
        1-3 RUN shell "python3 <<EOF\na\nEOF" <<EOF "a\n"
    "#]],
    );
}

#[test]
fn run_with_a_command_after_the_heredoc() {
    check(
        "RUN <<EOF python3\na\nEOF\n",
        &expect![[r#"
        1-3 RUN shell "<<EOF python3\na\nEOF" <<EOF "a\n"
    "#]],
    );
}

#[test]
fn run_with_several_heredocs() {
    check(
        "RUN cat <<A <<B\na\nA\nb\nB\n",
        &expect![[r#"
        1-5 RUN shell "cat <<A <<B\na\nA\nb\nB" <<A "a\n" <<B "b\n"
    "#]],
    );
}

#[test]
fn run_with_a_heredoc_and_tabs() {
    check(
        "RUN <<-EOF\n\ta\n\t\tb\n\tEOF\n",
        &expect![[r#"
        1-4 RUN shell "a\nb\n" <<EOF chomp "\ta\n\t\tb\n"
    "#]],
    );
}

#[test]
fn tabs_stay_when_a_shell_reads_the_heredoc() {
    check(
        "RUN cat <<-EOF\n\ta\n\tEOF\n",
        &expect![[r#"
        1-3 RUN shell "cat <<-EOF\n\ta\nEOF" <<EOF chomp "\ta\n"
    "#]],
    );
}

#[test]
fn run_with_a_quoted_name() {
    check(
        "RUN <<\"EOF\"\n$a\nEOF\nRUN <<'EOF'\n$a\nEOF\nRUN <<E\"O\"F\n$a\nEOF\n",
        &expect![[r#"
        1-3 RUN shell "$a\n" <<EOF quoted "$a\n"
        4-6 RUN shell "$a\n" <<EOF quoted "$a\n"
        7-9 RUN shell "$a\n" <<EOF quoted "$a\n"
    "#]],
    );
}

#[test]
fn a_name_may_be_escaped() {
    check(
        "RUN <<E\\OF\na\nEOF\n",
        &expect![[r#"
        1-3 RUN shell "a\n" <<EOF "a\n"
    "#]],
    );
}

#[test]
fn a_name_may_follow_blanks() {
    check(
        "RUN <<  EOF\na\nEOF\n",
        &expect![[r#"
        1-3 RUN shell "a\n" <<EOF "a\n"
    "#]],
    );
}

#[test]
fn a_file_descriptor_may_come_before() {
    check(
        "RUN cat 3<<EOF\na\nEOF\n",
        &expect![[r#"
        1-3 RUN shell "cat 3<<EOF\na\nEOF" <<EOF fd "a\n"
    "#]],
    );
}

#[test]
fn flags_may_come_before() {
    check(
        "RUN --network=none <<EOF\na\nEOF\n",
        &expect![[r#"
        1-3 RUN network=None shell "a\n" <<EOF "a\n"
    "#]],
    );
}

#[test]
fn copy_of_files_that_stand_here() {
    check(
        "COPY <<a <<\"b\" c /d/\n1 $x\na\n2 $x\nb\n",
        &expect![[r#"
        1-5 COPY ["c"] a "1 $x\n" b raw "2 $x\n" -> "/d/" <<a "1 $x\n" <<b quoted "2 $x\n"
    "#]],
    );
}

#[test]
fn copy_drops_tabs() {
    check(
        "COPY <<-a /b\n\t1\n\ta\n",
        &expect![[r#"
        1-3 COPY [] a "1\n" -> "/b" <<a chomp "\t1\n"
    "#]],
    );
}

#[test]
fn add_of_a_file_that_stands_here() {
    check(
        "ADD <<a /b\n1\na\n",
        &expect![[r#"
        1-3 ADD [] a "1\n" -> "/b" <<a "1\n"
    "#]],
    );
}

#[test]
fn copy_to_a_heredoc_is_an_error() {
    check(
        "COPY a <<b\n1\nb\n",
        &expect![[r#"
        1-3 COPY unknown <<b "1\n"
        Dockerfile:1:8: error: `COPY` cannot take a here-document as its destination
    "#]],
    );
}

#[test]
fn of_two_with_one_name_the_last_counts_for_copy() {
    check(
        "COPY <<a <<a /b\n1\na\n2\na\n",
        &expect![[r#"
        1-5 COPY [] a "2\n" a "2\n" -> "/b" <<a "1\n" <<a "2\n"
    "#]],
    );
}

#[test]
fn onbuild_carries_heredocs() {
    check(
        "ONBUILD RUN <<EOF\na\nEOF\nONBUILD COPY <<a /b\n1\na\n",
        &expect![[r#"
        1-3 ONBUILD {RUN shell "<<EOF"} "RUN <<EOF\na\nEOF" <<EOF "a\n"
        4-6 ONBUILD {COPY [] a "1\n" -> "/b"} "COPY <<a /b\n1\na" <<a "1\n"
    "#]],
    );
}

#[test]
fn json_has_no_heredocs() {
    check(
        "RUN [\"a\", \"<<EOF\"]\nCOPY [\"<<a\", \"/b\"]\n",
        &expect![[r#"
        1 RUN exec ["a", "<<EOF"]
        2 COPY [] a "" -> "/b"
    "#]],
    );
}

#[test]
fn other_instructions_have_no_heredocs() {
    check(
        "CMD a <<EOF\nENV a=<<EOF\n",
        &expect![[r#"
        1 CMD shell "a <<EOF"
        2 ENV a="<<EOF"
    "#]],
    );
}

#[test]
fn three_angles_are_no_heredoc() {
    check(
        "RUN a <<<b\n",
        &expect![[r#"
        1 RUN shell "a <<<b"
    "#]],
    );
}

#[test]
fn a_shift_is_no_heredoc() {
    check(
        "RUN echo $((1<<2))\nRUN echo $((1 << ${n:-3}))\n",
        &expect![[r#"
        1 RUN shell "echo $((1<<2))"
        2 RUN shell "echo $((1 << ${n:-3}))"
    "#]],
    );
}

#[test]
fn a_quoted_heredoc_is_none() {
    check(
        "RUN echo \"<<EOF\" '<<EOF'\n",
        &expect![[r#"
        1 RUN shell "echo \"<<EOF\" '<<EOF'"
    "#]],
    );
}

#[test]
fn an_escaped_heredoc_is_none() {
    check(
        "RUN echo \\<<EOF\n",
        &expect![[r#"
        1 RUN shell "echo \\<<EOF"
    "#]],
    );
}

#[test]
fn an_open_quote_hides_heredocs() {
    check(
        "RUN echo \" <<EOF\n",
        &expect![[r#"
        1 RUN shell "echo \" <<EOF"
    "#]],
    );
}

#[test]
fn a_heredoc_that_does_not_end_is_an_error() {
    check(
        "RUN <<EOF\na\n EOF\n",
        &expect![[r#"
        1-3 RUN shell "a\n EOF\n" <<EOF "a\n EOF\n"
        Dockerfile:1:5: error: no line ends the here-document `EOF` (hint: add a line that holds `EOF` and nothing else)
    "#]],
    );
}

#[test]
fn a_heredoc_without_lines_is_an_error() {
    check(
        "RUN <<EOF",
        &expect![[r#"
        1 RUN shell "" <<EOF ""
        Dockerfile:1:5: error: no line ends the here-document `EOF` (hint: add a line that holds `EOF` and nothing else)
    "#]],
    );
}

#[test]
fn an_empty_heredoc() {
    check(
        "RUN <<EOF\nEOF\n",
        &expect![[r#"
        1-2 RUN shell "" <<EOF ""
    "#]],
    );
}

#[test]
fn a_heredoc_after_joined_lines() {
    check(
        "RUN a \\\n  <<EOF\nb \\\nEOF\n",
        &expect![[r#"
        1-4 RUN shell "a   <<EOF\nb \\\nEOF" <<EOF "b \\\n"
    "#]],
    );
}

#[test]
fn comments_and_empty_lines_stay_in_a_heredoc() {
    check(
        "RUN <<EOF\n# a\n\nb\nEOF\n",
        &expect![[r##"
        1-5 RUN shell "# a\n\nb\n" <<EOF "# a\n\nb\n"
    "##]],
    );
}

#[test]
fn crlf_in_heredocs() {
    check(
        "RUN <<EOF\r\na\r\nEOF\r\nRUN b\r\n",
        &expect![[r#"
        1-3 RUN shell "a\r\n" <<EOF "a\r\n"
        4 RUN shell "b"
    "#]],
    );
}

#[test]
fn the_end_must_stand_alone() {
    check(
        "RUN <<EOF\na\nEOF \nEOF\n",
        &expect![[r#"
        1-4 RUN shell "a\nEOF \n" <<EOF "a\nEOF \n"
    "#]],
    );
}

#[test]
fn the_backslash_escapes_in_heredoc_words_even_with_backticks() {
    check(
        "# escape=`\nRUN <<E\\OF\na\nEOF\n",
        &expect![[r#"
        2-4 RUN shell "a\n" <<EOF "a\n"
    "#]],
    );
}
