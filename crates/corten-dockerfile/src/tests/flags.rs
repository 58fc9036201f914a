//! Flags of instructions.

use expect_test::expect;

use super::check;

#[test]
fn copy_knows_all_its_flags() {
    check(
        "COPY --from=a --chown=b:c --chmod=0644 --link --parents --exclude=*.o --exclude=**/x d e\n",
        &expect![[r#"
            1 COPY ["d"] -> "e" from="a" chown="b:c" chmod="0644" link parents exclude="*.o" exclude="**/x"
        "#]],
    );
}

#[test]
fn add_knows_all_its_flags() {
    check(
        "ADD --checksum=sha256:a --chown=b --chmod=c --link=false --keep-git-dir=true --unpack=FALSE --exclude=d e f\n",
        &expect![[r#"
            1 ADD ["e"] -> "f" chown="b" chmod="c" checksum="sha256:a" keep-git-dir=true unpack=false exclude="d"
        "#]],
    );
}

#[test]
fn run_knows_all_its_flags() {
    check(
        "RUN --mount=type=cache,target=/a --mount=type=bind --network=none --security=insecure --device=a/b=c,required d\n",
        &expect![[r#"
            1 RUN mount="type=cache,target=/a" mount="type=bind" network=None security=Insecure device=Device { name: "a/b=c", required: true } shell "d"
        "#]],
    );
}

#[test]
fn flags_end_at_the_first_other_word() {
    check(
        "RUN --network=host a --network=none\n",
        &expect![[r#"
        1 RUN network=Host shell "a --network=none"
    "#]],
    );
}

#[test]
fn two_hyphens_end_the_flags() {
    check(
        "RUN --network=host -- --a\nCOPY -- --a b\n",
        &expect![[r#"
        1 RUN network=Host shell "--a"
        2 COPY ["--a"] -> "b"
    "#]],
    );
}

#[test]
fn quotes_in_flags_are_removed() {
    check(
        "COPY --chown=\"a b\":'c' d e\n",
        &expect![[r#"
        1 COPY ["d"] -> "e" chown="a b:c"
    "#]],
    );
}

#[test]
fn an_escape_in_a_flag_protects_the_next_character() {
    check(
        "COPY --from=a\\ b\\\"c d e\n",
        &expect![[r#"
        1 COPY ["d"] -> "e" from="a b\"c"
    "#]],
    );
}

#[test]
fn flags_may_be_spread_over_lines() {
    check(
        "COPY --from=a \\\n  --chown=b \\\n  c d\n",
        &expect![[r#"
        1-3 COPY ["c"] -> "d" from="a" chown="b"
    "#]],
    );
}

#[test]
fn a_flag_can_be_split_over_lines() {
    check(
        "COPY --fr\\\nom=a b c\n",
        &expect![[r#"
        1-2 COPY ["b"] -> "c" from="a"
    "#]],
    );
}

#[test]
fn an_unknown_flag_gets_a_suggestion() {
    check(
        "COPY --form=a b c\nRUN --mounts=a b\nADD --from=a b c\nENV --x a=b\nFROM --platfrom=a b\nWORKDIR --a /b\n",
        &expect![[r#"
            1 COPY unknown
            2 RUN unknown
            3 ADD unknown
            4 ENV unknown
            5 FROM unknown
            6 WORKDIR unknown
            Dockerfile:1:6: error: `COPY` has no flag `--form` (hint: did you mean `--from`?)
            Dockerfile:2:5: error: `RUN` has no flag `--mounts` (hint: did you mean `--mount`?)
            Dockerfile:3:5: error: `ADD` has no flag `--from` (hint: `ADD` knows `--chown`, `--chmod`, `--link`, `--keep-git-dir`, `--checksum`, `--unpack`, `--exclude`)
            Dockerfile:4:5: error: `ENV` has no flag `--x` (hint: `ENV` takes no flags)
            Dockerfile:5:6: error: `FROM` has no flag `--platfrom` (hint: did you mean `--platform`?)
            Dockerfile:6:9: error: `WORKDIR` has no flag `--a` (hint: `WORKDIR` takes no flags)
        "#]],
    );
}

#[test]
fn a_flag_given_twice_is_an_error() {
    check(
        "COPY --from=a --from=b c d\n",
        &expect![[r#"
        1 COPY unknown
        Dockerfile:1:15: error: the flag `--from` is given twice
    "#]],
    );
}

#[test]
fn a_flag_without_its_value_is_an_error() {
    check(
        "COPY --from a b\nCOPY --link= a b\nRUN --mount a\n",
        &expect![[r#"
        1 COPY unknown
        2 COPY unknown
        3 RUN unknown
        Dockerfile:1:6: error: the flag `--from` needs a value
        Dockerfile:2:6: error: the flag `--link` needs a value after `=`
        Dockerfile:3:5: error: the flag `--mount` needs a value
    "#]],
    );
}

#[test]
fn a_switch_takes_true_and_false() {
    check(
        "COPY --link=TRUE --parents=false a b\nCOPY --link=yes a b\n",
        &expect![[r#"
        1 COPY ["a"] -> "b" link
        2 COPY unknown
        Dockerfile:2:6: error: the flag `--link` takes `true` or `false`, not `yes`
    "#]],
    );
}

#[test]
fn an_empty_value_counts_as_none() {
    check(
        "COPY --from= --chown= a b\n",
        &expect![[r#"
        1 COPY ["a"] -> "b"
    "#]],
    );
}

#[test]
fn invalid_values_of_run_get_a_suggestion() {
    check(
        "RUN --network=hots a\nRUN --network= a\nRUN --security=x a\n",
        &expect![[r#"
        1 RUN unknown
        2 RUN unknown
        3 RUN unknown
        Dockerfile:1:15: error: invalid value `hots` for `--network` (hint: did you mean `host`?)
        Dockerfile:2:15: error: invalid value `` for `--network` (hint: use one of `default`, `none`, `host`)
        Dockerfile:3:16: error: invalid value `x` for `--security` (hint: use one of `sandbox`, `insecure`)
    "#]],
    );
}

#[test]
fn flags_that_are_ignored_are_warned_of() {
    check(
        "STOPSIGNAL --a 9\nHEALTHCHECK --interval=x NONE\n",
        &expect![[r#"
        1 STOPSIGNAL "9"
        2 HEALTHCHECK NONE
        Dockerfile:1:12: warning: `STOPSIGNAL` ignores the flag `--a`
        Dockerfile:2:13: warning: `HEALTHCHECK` ignores the flag `--interval=x`
    "#]],
    );
}

#[test]
fn flags_may_hold_other_letters() {
    check(
        "COPY --from=é a b\n",
        &expect![[r#"
        1 COPY ["a"] -> "b" from="é"
    "#]],
    );
}
