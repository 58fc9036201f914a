//! What each instruction makes of its arguments.

use expect_test::expect;

use super::check;

#[test]
fn from_takes_an_image() {
    check(
        "FROM debian\nFROM debian:12 AS base\nfrom Base as Next.1\n",
        &expect![[r#"
        1 FROM "debian"
        2 FROM "debian:12" as="base"
        3 FROM "Base" as="Next.1"
    "#]],
    );
}

#[test]
fn from_takes_a_platform() {
    check(
        "FROM --platform=$BUILDPLATFORM a AS b\nFROM --platform= a\n",
        &expect![[r#"
        1 FROM "a" platform="$BUILDPLATFORM" as="b"
        2 FROM "a"
    "#]],
    );
}

#[test]
fn from_takes_variables() {
    check(
        "ARG V=1\nFROM a:${V:-2}\n",
        &expect![[r#"
        1 ARG V="1"
        2 FROM "a:${V:-2}"
    "#]],
    );
}

#[test]
fn run_in_both_forms() {
    check(
        "RUN echo \"a b\"  c\nRUN [\"echo\", \"a b\"]\nRUN\nRUN []\n",
        &expect![[r#"
        1 RUN shell "echo \"a b\"  c"
        2 RUN exec ["echo", "a b"]
        3 RUN shell ""
        4 RUN exec []
    "#]],
    );
}

#[test]
fn cmd_in_both_forms() {
    check(
        "CMD a b\nCMD [\"a\", \"b\"]\nCMD\nCMD []\n",
        &expect![[r#"
        1 CMD shell "a b"
        2 CMD exec ["a", "b"]
        3 CMD shell ""
        4 CMD exec []
    "#]],
    );
}

#[test]
fn entrypoint_in_both_forms() {
    check(
        "ENTRYPOINT a b\nENTRYPOINT [ \"a\" ]\nENTRYPOINT\n",
        &expect![[r#"
            1 ENTRYPOINT shell "a b"
            2 ENTRYPOINT exec ["a"]
            3 ENTRYPOINT shell ""
        "#]],
    );
}

#[test]
fn json_may_be_spread_over_lines() {
    check(
        "CMD [\"a\", \\\n  \"b\"]\n",
        &expect![[r#"
        1-2 CMD exec ["a", "b"]
    "#]],
    );
}

#[test]
fn json_escapes_are_decoded() {
    check(
        "CMD [\"\\\"\", \"\\\\\", \"\\/\", \"\\n\\t\", \"\\u00e9\", \"\\ud83d\\ude00\", \"\\ud83d\", \"\\ud83dx\", \"\\udc00\"]\n",
        &expect![[r#"
            1 CMD exec ["\"", "\\", "/", "\n\t", "é", "😀", "�", "�x", "�"]
        "#]],
    );
}

#[test]
fn json_that_breaks_off_is_the_shell_form() {
    check(
        "CMD [\"a\", \"b\"\nCMD [\"a\" \"b\"]\nCMD [\"a\",]\nCMD [\"a\"] b\nCMD [\"\\x\"]\nCMD ['a']\nCMD [\"\\u12\"]\nCMD [\"a\"]é\n",
        &expect![[r#"
            1 CMD shell "[\"a\", \"b\""
            2 CMD shell "[\"a\" \"b\"]"
            3 CMD shell "[\"a\",]"
            4 CMD shell "[\"a\"] b"
            5 CMD shell "[\"\\x\"]"
            6 CMD shell "['a']"
            7 CMD shell "[\"\\u12\"]"
            8 CMD shell "[\"a\"]é"
            Dockerfile:1:14: warning: this looks like a JSON array and is none, so a shell will run it (hint: write `["executable", "argument"]` with double quotes)
            Dockerfile:2:10: warning: this looks like a JSON array and is none, so a shell will run it (hint: write `["executable", "argument"]` with double quotes)
            Dockerfile:3:10: warning: this looks like a JSON array and is none, so a shell will run it (hint: write `["executable", "argument"]` with double quotes)
            Dockerfile:4:11: warning: this looks like a JSON array and is none, so a shell will run it (hint: write `["executable", "argument"]` with double quotes)
            Dockerfile:5:8: warning: this looks like a JSON array and is none, so a shell will run it (hint: write `["executable", "argument"]` with double quotes)
            Dockerfile:6:6: warning: this looks like a JSON array and is none, so a shell will run it (hint: write `["executable", "argument"]` with double quotes)
            Dockerfile:7:9: warning: this looks like a JSON array and is none, so a shell will run it (hint: write `["executable", "argument"]` with double quotes)
            Dockerfile:8:10: warning: this looks like a JSON array and is none, so a shell will run it (hint: write `["executable", "argument"]` with double quotes)
        "#]],
    );
}

#[test]
fn json_with_other_things_than_strings_is_an_error() {
    check(
        "CMD [\"a\", 1]\nCMD [null]\nCMD [[\"a\"]]\nCMD [{\"a\": [1, {}]}]\nCMD [true, false, -1.5e3]\n",
        &expect![[r#"
            1 CMD unknown
            2 CMD unknown
            3 CMD unknown
            4 CMD unknown
            5 CMD unknown
            Dockerfile:1:5: error: a JSON array of arguments may hold strings only
            Dockerfile:2:5: error: a JSON array of arguments may hold strings only
            Dockerfile:3:5: error: a JSON array of arguments may hold strings only
            Dockerfile:4:5: error: a JSON array of arguments may hold strings only
            Dockerfile:5:5: error: a JSON array of arguments may hold strings only
        "#]],
    );
}

#[test]
fn a_number_too_large_makes_it_no_json() {
    check(
        "CMD [1e999]\n",
        &expect![[r#"
        1 CMD shell "[1e999]"
    "#]],
    );
}

#[test]
fn a_test_in_a_shell_is_no_array() {
    check(
        "RUN [ -f a ] && b\nRUN [ \"$a\" = \"b\" ]\n",
        &expect![[r#"
        1 RUN shell "[ -f a ] && b"
        2 RUN shell "[ \"$a\" = \"b\" ]"
    "#]],
    );
}

#[test]
fn shell_needs_json() {
    check(
        "SHELL [\"a\", \"-c\"]\nSHELL a -c\nSHELL []\nSHELL\n",
        &expect![[r#"
        1 SHELL ["a", "-c"]
        2 SHELL unknown
        3 SHELL unknown
        4 SHELL unknown
        Dockerfile:2:7: error: `SHELL` needs its arguments as a JSON array (hint: write `SHELL ["executable", "argument"]`)
        Dockerfile:3:1: error: `SHELL` needs at least one argument
        Dockerfile:4:1: error: `SHELL` needs at least one argument
    "#]],
    );
}

#[test]
fn env_with_an_equals_sign() {
    check(
        "ENV a=b c=\"d e\" f='g h' i=j\\ k l=\n",
        &expect![[r#"
        1 ENV a="b" c="\"d e\"" f="'g h'" i="j\\ k" l=""
    "#]],
    );
}

#[test]
fn env_without_an_equals_sign() {
    check(
        "ENV a b c\nENV a   b \"c  d\" \n",
        &expect![[r#"
        1 ENV a~"b c"
        2 ENV a~"b \"c  d\""
    "#]],
    );
}

#[test]
fn env_may_quote_the_equals_sign() {
    check(
        "ENV \"a=b\" c=d\n",
        &expect![[r#"
        1 ENV "a="b\"" c="d"
    "#]],
    );
}

#[test]
fn env_keeps_quotes_inside_words() {
    check(
        "ENV a=b\"c d\"'e f'g\n",
        &expect![[r#"
        1 ENV a="b\"c d\"'e f'g"
    "#]],
    );
}

#[test]
fn env_drops_an_escape_at_the_end() {
    check(
        "# escape=`\nENV a=b`` c=`\n\n",
        &expect![[r#"
        2-3 ENV a="b``" c=""
        Dockerfile:3:1: warning: an empty line inside an instruction (hint: remove the line, or make it a comment)
    "#]],
    );
}

#[test]
fn label_works_like_env() {
    check(
        "LABEL a=b \"c d\"=\"e f\"\nLABEL a b\n",
        &expect![[r#"
        1 LABEL a="b" "c d"="\"e f\""
        2 LABEL a~"b"
    "#]],
    );
}

#[test]
fn env_and_label_that_are_wrong() {
    check(
        "ENV\nENV a\nENV a=b c\nENV =b\nLABEL\nLABEL a\n",
        &expect![[r#"
        1 ENV unknown
        2 ENV unknown
        3 ENV unknown
        4 ENV unknown
        5 LABEL unknown
        6 LABEL unknown
        Dockerfile:1:1: error: `ENV` needs at least one argument
        Dockerfile:2:5: error: `ENV` needs a name and a value (hint: write `ENV a=value`)
        Dockerfile:3:9: error: expected `name=value`, found `c` (hint: quote a value that has blanks in it)
        Dockerfile:4:5: error: a name given to `ENV` is empty
        Dockerfile:5:1: error: `LABEL` needs at least one argument
        Dockerfile:6:7: error: `LABEL` needs a name and a value (hint: write `LABEL a=value`)
    "#]],
    );
}

#[test]
fn arg_takes_several() {
    check(
        "ARG a\nARG a=b c d=\"e f\" g=\n",
        &expect![[r#"
        1 ARG a
        2 ARG a="b" c d="\"e f\"" g=""
    "#]],
    );
}

#[test]
fn arg_that_is_wrong() {
    check(
        "ARG\nARG =a\n",
        &expect![[r#"
        1 ARG unknown
        2 ARG unknown
        Dockerfile:1:1: error: `ARG` needs at least one argument
        Dockerfile:2:5: error: a name given to `ARG` is empty
    "#]],
    );
}

#[test]
fn arg_ignores_flags() {
    check(
        "ARG --a b=c\n",
        &expect![[r#"
        1 ARG b="c"
        Dockerfile:1:5: warning: `ARG` ignores the flag `--a`
    "#]],
    );
}

#[test]
fn workdir_user_and_stopsignal_take_the_rest_of_the_line() {
    check(
        "WORKDIR /a b  c\nUSER a:b\nSTOPSIGNAL SIGTERM\n",
        &expect![[r#"
        1 WORKDIR "/a b  c"
        2 USER "a:b"
        3 STOPSIGNAL "SIGTERM"
    "#]],
    );
}

#[test]
fn workdir_user_and_stopsignal_need_something() {
    check(
        "WORKDIR\nUSER\nSTOPSIGNAL\nMAINTAINER\n",
        &expect![[r#"
        1 WORKDIR unknown
        2 USER unknown
        3 STOPSIGNAL unknown
        4 MAINTAINER unknown
        Dockerfile:1:1: error: `WORKDIR` needs exactly one argument
        Dockerfile:2:1: error: `USER` needs exactly one argument
        Dockerfile:3:1: error: `STOPSIGNAL` needs exactly one argument
        Dockerfile:4:1: error: `MAINTAINER` needs exactly one argument
    "#]],
    );
}

#[test]
fn maintainer_is_still_taken() {
    check(
        "MAINTAINER A B <a@b>\n",
        &expect![[r#"
        1 MAINTAINER "A B <a@b>"
    "#]],
    );
}

#[test]
fn expose_takes_several() {
    check(
        "EXPOSE 80 443/tcp 8000-8010 $P\nEXPOSE\n",
        &expect![[r#"
        1 EXPOSE ["80", "443/tcp", "8000-8010", "$P"]
        2 EXPOSE unknown
        Dockerfile:2:1: error: `EXPOSE` needs at least one argument
    "#]],
    );
}

#[test]
fn volume_in_both_forms() {
    check(
        "VOLUME /a /b\nVOLUME [\"/a b\", \" /c \"]\nVOLUME\nVOLUME [\" \"]\n",
        &expect![[r#"
        1 VOLUME ["/a", "/b"]
        2 VOLUME ["/a b", "/c"]
        3 VOLUME unknown
        4 VOLUME unknown
        Dockerfile:3:1: error: `VOLUME` needs at least one argument
        Dockerfile:4:9: error: the path of a volume is empty
    "#]],
    );
}

#[test]
fn copy_takes_sources_and_a_destination() {
    check(
        "COPY a b\nCOPY a b c/\nCOPY [\"a b\", \"c\"]\nCOPY a\nCOPY\n",
        &expect![[r#"
        1 COPY ["a"] -> "b"
        2 COPY ["a", "b"] -> "c/"
        3 COPY ["a b"] -> "c"
        4 COPY unknown
        5 COPY unknown
        Dockerfile:4:1: error: `COPY` needs a source and a destination
        Dockerfile:5:1: error: `COPY` needs a source and a destination
    "#]],
    );
}

#[test]
fn copy_does_not_know_quotes_outside_of_json() {
    check(
        "COPY \"a b\" c\n",
        &expect![[r#"
        1 COPY ["\"a", "b\""] -> "c"
    "#]],
    );
}

#[test]
fn add_takes_sources_and_a_destination() {
    check(
        "ADD a b\nADD https://a/b.tar [\"c\"]\nADD [\"a\", \"b\"]\nADD a\n",
        &expect![[r#"
        1 ADD ["a"] -> "b"
        2 ADD ["https://a/b.tar"] -> "[\"c\"]"
        3 ADD ["a"] -> "b"
        4 ADD unknown
        Dockerfile:4:1: error: `ADD` needs a source and a destination
    "#]],
    );
}

#[test]
fn healthcheck_takes_a_command() {
    check(
        "HEALTHCHECK CMD a b\nHEALTHCHECK cmd [\"a\", \"b\"]\nHEALTHCHECK NONE\nHEALTHCHECK none\n",
        &expect![[r#"
            1 HEALTHCHECK every 0ns timeout 0ns start 0ns/0ns retries 0 shell "a b"
            2 HEALTHCHECK every 0ns timeout 0ns start 0ns/0ns retries 0 exec ["a", "b"]
            3 HEALTHCHECK NONE
            4 HEALTHCHECK NONE
        "#]],
    );
}

#[test]
fn healthcheck_takes_options() {
    check(
        "HEALTHCHECK --interval=1m30s --timeout=1.5s --start-period=500ms --start-interval=1h --retries=3 CMD a\n",
        &expect![[r#"
            1 HEALTHCHECK every 90s timeout 1.5s start 500ms/3600s retries 3 shell "a"
        "#]],
    );
}

#[test]
fn healthcheck_with_zeroes() {
    check(
        "HEALTHCHECK --interval=0 --retries=0 CMD a\nHEALTHCHECK --interval= --retries= CMD a\n",
        &expect![[r#"
            1 HEALTHCHECK every 0ns timeout 0ns start 0ns/0ns retries 0 shell "a"
            2 HEALTHCHECK every 0ns timeout 0ns start 0ns/0ns retries 0 shell "a"
        "#]],
    );
}

#[test]
fn healthcheck_that_is_wrong() {
    check(
        "HEALTHCHECK\nHEALTHCHECK CMD\nHEALTHCHECK a\nHEALTHCHECK NONE a\nHEALTHCHECK CMD []\nHEALTHCHECK --interval=1 CMD a\nHEALTHCHECK --interval=1us CMD a\nHEALTHCHECK --timeout=-1s CMD a\nHEALTHCHECK --timeout=1x CMD a\nHEALTHCHECK --retries=-1 CMD a\nHEALTHCHECK --retries=x CMD a\n",
        &expect![[r#"
            1 HEALTHCHECK unknown
            2 HEALTHCHECK unknown
            3 HEALTHCHECK unknown
            4 HEALTHCHECK unknown
            5 HEALTHCHECK unknown
            6 HEALTHCHECK unknown
            7 HEALTHCHECK unknown
            8 HEALTHCHECK unknown
            9 HEALTHCHECK unknown
            10 HEALTHCHECK unknown
            11 HEALTHCHECK unknown
            Dockerfile:1:1: error: `HEALTHCHECK` needs at least one argument
            Dockerfile:2:13: error: `HEALTHCHECK CMD` needs a command
            Dockerfile:3:13: error: `HEALTHCHECK` knows no `a` (hint: write `HEALTHCHECK CMD command` or `HEALTHCHECK NONE`)
            Dockerfile:4:18: error: `HEALTHCHECK NONE` takes no arguments
            Dockerfile:5:13: error: `HEALTHCHECK CMD` needs a command
            Dockerfile:6:24: error: invalid duration `1` for `--interval`: a unit is missing (hint: write a duration like `30s`, `1m30s` or `500ms`)
            Dockerfile:7:24: error: `--interval` cannot be less than 1ms, `1us` is (hint: write a duration like `30s`, `1m30s` or `500ms`)
            Dockerfile:8:23: error: `--timeout` cannot be less than 1ms, `-1s` is (hint: write a duration like `30s`, `1m30s` or `500ms`)
            Dockerfile:9:23: error: invalid duration `1x` for `--timeout`: the units are `h`, `m`, `s`, `ms`, `us` and `ns` (hint: write a duration like `30s`, `1m30s` or `500ms`)
            Dockerfile:10:23: error: invalid number `-1` for `--retries`
            Dockerfile:11:23: error: invalid number `x` for `--retries`
        "#]],
    );
}

#[test]
fn onbuild_triggers_an_instruction() {
    check(
        "ONBUILD RUN a\nONBUILD COPY --from=a b c\nonbuild cmd [\"a\"]\n",
        &expect![[r#"
        1 ONBUILD {RUN shell "a"} "RUN a"
        2 ONBUILD {COPY ["b"] -> "c" from="a"} "COPY --from=a b c"
        3 ONBUILD {CMD exec ["a"]} "cmd [\"a\"]"
    "#]],
    );
}

#[test]
fn onbuild_keeps_the_text_as_it_is() {
    check(
        "ONBUILD   RUN  a \\\n   b \n",
        &expect![[r#"
        1-2 ONBUILD {RUN shell "a    b"} "RUN  a    b "
    "#]],
    );
}

#[test]
fn onbuild_does_not_nest() {
    check(
        "ONBUILD ONBUILD RUN a\nONBUILD FROM a\nONBUILD maintainer a\nONBUILD\n",
        &expect![[r#"
            1 ONBUILD unknown
            2 ONBUILD unknown
            3 ONBUILD unknown
            4 ONBUILD unknown
            Dockerfile:1:9: error: `ONBUILD` cannot trigger another `ONBUILD`
            Dockerfile:2:9: error: `ONBUILD` cannot trigger `FROM`
            Dockerfile:3:9: error: `ONBUILD` cannot trigger `MAINTAINER`
            Dockerfile:4:1: error: `ONBUILD` needs at least one argument
        "#]],
    );
}

#[test]
fn what_onbuild_triggers_is_only_warned_of() {
    check(
        "ONBUILD FOO a\nONBUILD COPY a\nONBUILD RUN --foo a\n",
        &expect![[r#"
        1 ONBUILD {? unknown} "FOO a"
        2 ONBUILD {COPY unknown} "COPY a"
        3 ONBUILD {RUN unknown} "RUN --foo a"
        Dockerfile:1:9: warning: unknown instruction `FOO`
        Dockerfile:2:9: warning: `COPY` needs a source and a destination
        Dockerfile:3:13: warning: `RUN` has no flag `--foo` (hint: `RUN` knows `--mount`, `--network`, `--security`, `--device`)
    "#]],
    );
}

#[test]
fn what_onbuild_triggers_must_keep_to_the_grammar() {
    check(
        "ONBUILD ENV a\nONBUILD CMD [1]\nONBUILD --a RUN b\n",
        &expect![[r#"
        1 ONBUILD unknown
        2 ONBUILD unknown
        3 ONBUILD unknown
        Dockerfile:1:13: error: `ENV` needs a name and a value (hint: write `ENV a=value`)
        Dockerfile:2:13: error: a JSON array of arguments may hold strings only
        Dockerfile:3:9: error: `ONBUILD` has no flag `--a` (hint: `ONBUILD` takes no flags)
    "#]],
    );
}
