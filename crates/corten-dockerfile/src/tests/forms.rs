//! What each instruction makes of its arguments.

use expect_test::expect;

use super::check;

#[test]
fn from_takes_an_image() {
    check("FROM debian\nFROM debian:12 AS base\nfrom Base as Next.1\n", &expect![[r#"
        1 FROM "debian"
        2 FROM "debian:12" as="base"
        3 FROM "Base" as="Next.1"
    "#]]);
}

#[test]
fn from_takes_a_platform() {
    check("FROM --platform=$BUILDPLATFORM a AS b\nFROM --platform= a\n", &expect![[r#"
        1 FROM "a" platform="$BUILDPLATFORM" as="b"
        2 FROM "a"
    "#]]);
}

#[test]
fn from_takes_variables() {
    check("ARG V=1\nFROM a:${V:-2}\n", &expect![""]);
}

#[test]
fn run_in_both_forms() {
    check("RUN echo \"a b\"  c\nRUN [\"echo\", \"a b\"]\nRUN\nRUN []\n", &expect![""]);
}

#[test]
fn cmd_in_both_forms() {
    check("CMD a b\nCMD [\"a\", \"b\"]\nCMD\nCMD []\n", &expect![[r#"
        1 CMD shell "a b"
        2 CMD exec ["a", "b"]
        3 CMD shell ""
        4 CMD exec []
    "#]]);
}

#[test]
fn entrypoint_in_both_forms() {
    check("ENTRYPOINT a b\nENTRYPOINT [ \"a\" ]\nENTRYPOINT\n", &expect![[r#"
        1 CMD exec ["\"", "\\", "/", "\n\t", "é", "😀", "�", "�x", "�"]
    "#]]);
}

#[test]
fn json_may_be_spread_over_lines() {
    check("CMD [\"a\", \\\n  \"b\"]\n", &expect![""]);
}

#[test]
fn json_escapes_are_decoded() {
    check(
        "CMD [\"\\\"\", \"\\\\\", \"\\/\", \"\\n\\t\", \"\\u00e9\", \"\\ud83d\\ude00\", \"\\ud83d\", \"\\ud83dx\", \"\\udc00\"]\n",
        &expect![""],
    );
}

#[test]
fn json_that_breaks_off_is_the_shell_form() {
    check(
        "CMD [\"a\", \"b\"\nCMD [\"a\" \"b\"]\nCMD [\"a\",]\nCMD [\"a\"] b\nCMD [\"\\x\"]\nCMD ['a']\nCMD [\"\\u12\"]\n",
        &expect![""],
    );
}

#[test]
fn json_with_other_things_than_strings_is_an_error() {
    check(
        "CMD [\"a\", 1]\nCMD [null]\nCMD [[\"a\"]]\nCMD [{\"a\": [1, {}]}]\nCMD [true, false, -1.5e3]\n",
        &expect![""],
    );
}

#[test]
fn a_number_too_large_makes_it_no_json() {
    check("CMD [1e999]\n", &expect![[r#"
        1 CMD shell "[1e999]"
    "#]]);
}

#[test]
fn a_test_in_a_shell_is_no_array() {
    check("RUN [ -f a ] && b\nRUN [ \"$a\" = \"b\" ]\n", &expect![""]);
}

#[test]
fn shell_needs_json() {
    check("SHELL [\"a\", \"-c\"]\nSHELL a -c\nSHELL []\nSHELL\n", &expect![""]);
}

#[test]
fn env_with_an_equals_sign() {
    check("ENV a=b c=\"d e\" f='g h' i=j\\ k l=\n", &expect![""]);
}

#[test]
fn env_without_an_equals_sign() {
    check("ENV a b c\nENV a   b \"c  d\" \n", &expect![""]);
}

#[test]
fn env_may_quote_the_equals_sign() {
    check("ENV \"a=b\" c=d\n", &expect![""]);
}

#[test]
fn env_keeps_quotes_inside_words() {
    check("ENV a=b\"c d\"'e f'g\n", &expect![""]);
}

#[test]
fn env_drops_an_escape_at_the_end() {
    check("# escape=`\nENV a=b`` c=`\n\n", &expect![""]);
}

#[test]
fn label_works_like_env() {
    check("LABEL a=b \"c d\"=\"e f\"\nLABEL a b\n", &expect![""]);
}

#[test]
fn env_and_label_that_are_wrong() {
    check("ENV\nENV a\nENV a=b c\nENV =b\nLABEL\nLABEL a\n", &expect![""]);
}

#[test]
fn arg_takes_several() {
    check("ARG a\nARG a=b c d=\"e f\" g=\n", &expect![""]);
}

#[test]
fn arg_that_is_wrong() {
    check("ARG\nARG =a\n", &expect![""]);
}

#[test]
fn arg_ignores_flags() {
    check("ARG --a b=c\n", &expect![""]);
}

#[test]
fn workdir_user_and_stopsignal_take_the_rest_of_the_line() {
    check("WORKDIR /a b  c\nUSER a:b\nSTOPSIGNAL SIGTERM\n", &expect![""]);
}

#[test]
fn workdir_user_and_stopsignal_need_something() {
    check("WORKDIR\nUSER\nSTOPSIGNAL\nMAINTAINER\n", &expect![""]);
}

#[test]
fn maintainer_is_still_taken() {
    check("MAINTAINER A B <a@b>\n", &expect![""]);
}

#[test]
fn expose_takes_several() {
    check("EXPOSE 80 443/tcp 8000-8010 $P\nEXPOSE\n", &expect![""]);
}

#[test]
fn volume_in_both_forms() {
    check("VOLUME /a /b\nVOLUME [\"/a b\", \" /c \"]\nVOLUME\nVOLUME [\" \"]\n", &expect![""]);
}

#[test]
fn copy_takes_sources_and_a_destination() {
    check("COPY a b\nCOPY a b c/\nCOPY [\"a b\", \"c\"]\nCOPY a\nCOPY\n", &expect![""]);
}

#[test]
fn copy_does_not_know_quotes_outside_of_json() {
    check("COPY \"a b\" c\n", &expect![""]);
}

#[test]
fn add_takes_sources_and_a_destination() {
    check("ADD a b\nADD https://a/b.tar [\"c\"]\nADD [\"a\", \"b\"]\nADD a\n", &expect![""]);
}

#[test]
fn healthcheck_takes_a_command() {
    check(
        "HEALTHCHECK CMD a b\nHEALTHCHECK cmd [\"a\", \"b\"]\nHEALTHCHECK NONE\nHEALTHCHECK none\n",
        &expect![""],
    );
}

#[test]
fn healthcheck_takes_options() {
    check(
        "HEALTHCHECK --interval=1m30s --timeout=1.5s --start-period=500ms --start-interval=1h --retries=3 CMD a\n",
        &expect![""],
    );
}

#[test]
fn healthcheck_with_zeroes() {
    check(
        "HEALTHCHECK --interval=0 --retries=0 CMD a\nHEALTHCHECK --interval= --retries= CMD a\n",
        &expect![""],
    );
}

#[test]
fn healthcheck_that_is_wrong() {
    check(
        "HEALTHCHECK\nHEALTHCHECK CMD\nHEALTHCHECK a\nHEALTHCHECK NONE a\nHEALTHCHECK CMD []\nHEALTHCHECK --interval=1 CMD a\nHEALTHCHECK --interval=1us CMD a\nHEALTHCHECK --timeout=-1s CMD a\nHEALTHCHECK --timeout=1x CMD a\nHEALTHCHECK --retries=-1 CMD a\nHEALTHCHECK --retries=x CMD a\n",
        &expect![""],
    );
}

#[test]
fn onbuild_triggers_an_instruction() {
    check("ONBUILD RUN a\nONBUILD COPY --from=a b c\nonbuild cmd [\"a\"]\n", &expect![""]);
}

#[test]
fn onbuild_keeps_the_text_as_it_is() {
    check("ONBUILD   RUN  a \\\n   b \n", &expect![""]);
}

#[test]
fn onbuild_does_not_nest() {
    check("ONBUILD ONBUILD RUN a\nONBUILD FROM a\nONBUILD maintainer a\nONBUILD\n", &expect![""]);
}

#[test]
fn what_onbuild_triggers_is_only_warned_of() {
    check("ONBUILD FOO a\nONBUILD COPY a\nONBUILD RUN --foo a\n", &expect![""]);
}

#[test]
fn what_onbuild_triggers_must_keep_to_the_grammar() {
    check("ONBUILD ENV a\nONBUILD CMD [1]\nONBUILD --a RUN b\n", &expect![""]);
}
