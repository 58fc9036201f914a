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
        &expect![""],
    );
}

#[test]
fn flags_end_at_the_first_other_word() {
    check("RUN --network=host a --network=none\n", &expect![""]);
}

#[test]
fn two_hyphens_end_the_flags() {
    check("RUN --network=host -- --a\nCOPY -- --a b\n", &expect![""]);
}

#[test]
fn quotes_in_flags_are_removed() {
    check("COPY --chown=\"a b\":'c' d e\n", &expect![""]);
}

#[test]
fn an_escape_in_a_flag_protects_the_next_character() {
    check("COPY --from=a\\ b\\\"c d e\n", &expect![""]);
}

#[test]
fn flags_may_be_spread_over_lines() {
    check("COPY --from=a \\\n  --chown=b \\\n  c d\n", &expect![""]);
}

#[test]
fn a_flag_can_be_split_over_lines() {
    check("COPY --fr\\\nom=a b c\n", &expect![[r#"
        1-2 COPY ["b"] -> "c" from="a"
    "#]]);
}

#[test]
fn an_unknown_flag_gets_a_suggestion() {
    check(
        "COPY --form=a b c\nRUN --mounts=a b\nADD --from=a b c\nENV --x a=b\nFROM --platfrom=a b\nWORKDIR --a /b\n",
        &expect![""],
    );
}

#[test]
fn a_flag_given_twice_is_an_error() {
    check("COPY --from=a --from=b c d\n", &expect![""]);
}

#[test]
fn a_flag_without_its_value_is_an_error() {
    check("COPY --from a b\nCOPY --link= a b\nRUN --mount a\n", &expect![""]);
}

#[test]
fn a_switch_takes_true_and_false() {
    check("COPY --link=TRUE --parents=false a b\nCOPY --link=yes a b\n", &expect![""]);
}

#[test]
fn an_empty_value_counts_as_none() {
    check("COPY --from= --chown= a b\n", &expect![""]);
}

#[test]
fn invalid_values_of_run_get_a_suggestion() {
    check("RUN --network=hots a\nRUN --network= a\nRUN --security=x a\n", &expect![""]);
}

#[test]
fn flags_that_are_ignored_are_warned_of() {
    check("STOPSIGNAL --a 9\nHEALTHCHECK --interval=x NONE\n", &expect![""]);
}

#[test]
fn flags_may_hold_other_letters() {
    check("COPY --from=é a b\n", &expect![""]);
}
