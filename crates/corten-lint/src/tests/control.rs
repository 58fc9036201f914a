//! What counts, and what is looked at.

use expect_test::expect;

use super::{check, check_with, quiet, report, request};
use crate::{Config, RULES, Request, rule};

const FILE: &str = "FROM busybox as base\nworkdir /a\n";

#[test]
fn the_directive_chooses() {
    let with = |directive: &str, expected| check(&format!("{directive}\n{FILE}"), expected);
    with("#check=skip=all", &expect![[r#""#]]);
    with("#check=skip=all;error=true", &expect![[r#""#]]);
    with("#check=skip=ConsistentInstructionCasing,FromAsCasing", &expect![[r#""#]]);
    with("# check = skip = ConsistentInstructionCasing , FromAsCasing", &expect![[r#""#]]);
    with(
        "#check=skip=ConsistentInstructionCasing",
        &expect![[r#"
        2 FromAsCasing: `as` and `FROM` are not in the same case
    "#]],
    );
    let both = expect![[r#"
        2 FromAsCasing: `as` and `FROM` are not in the same case
        3 ConsistentInstructionCasing: `workdir` is not in upper case, as most instructions of the file are
    "#]];
    with("#check=error=true", &both);
    with("# no directive, check=skip=all", &both);
}

#[test]
fn options_that_were_given_take_the_place_of_the_directive() {
    let file = format!("#check=skip=all\n{FILE}");
    let given = |text: &str| Request { options: Some(text.to_owned()), ..request() };
    check_with(
        &file,
        &given("skip=ConsistentInstructionCasing;error=true"),
        &expect![[r#"
        2 FromAsCasing: `as` and `FROM` are not in the same case
    "#]],
    );
    assert!(report(&file, &given("error=true")).refuses());
    assert!(!report(&format!("#check=error=true\n{FILE}"), &given("skip=all")).refuses());
    assert!(!report(&format!("#check=skip=all;error=true\n{FILE}"), &request()).refuses());
    assert!(report(&format!("#check=error=true\n{FILE}"), &request()).refuses());
}

#[test]
fn options_are_read_strictly() {
    let table = [
        "",
        "skip=all",
        " skip = A , B ; error = T ",
        "error=0;skip=;experimental=all",
        "error=maybe",
        "skip",
        "skip=A;colour=red",
        "skip=A;error=true;experimental=B;skip=C",
    ];
    let mut out = String::new();
    for text in table {
        let result = match Config::parse(text) {
            Ok(config) => format!("{config:?}"),
            Err(error) => format!("error: {error}"),
        };
        out.push_str(&format!("{text:?}\n    {result}\n"));
    }
    expect![[r#"
        ""
            Config { skip: Choice { all: false, names: {} }, experimental: Choice { all: false, names: {} }, error: false }
        "skip=all"
            Config { skip: Choice { all: true, names: {} }, experimental: Choice { all: false, names: {} }, error: false }
        " skip = A , B ; error = T "
            Config { skip: Choice { all: false, names: {"A", "B"} }, experimental: Choice { all: false, names: {} }, error: true }
        "error=0;skip=;experimental=all"
            Config { skip: Choice { all: false, names: {""} }, experimental: Choice { all: true, names: {} }, error: false }
        "error=maybe"
            error: the check option `error=maybe` needs `true` or `false`
        "skip"
            error: `skip` is no check option
        "skip=A;colour=red"
            error: `colour=red` is no check option
        "skip=A;error=true;experimental=B;skip=C"
            Config { skip: Choice { all: false, names: {"A"} }, experimental: Choice { all: false, names: {"B;skip=C"} }, error: true }
    "#]].assert_eq(&out);
}

#[test]
fn a_comment_that_cannot_be_read_chooses_nothing() {
    check(
        "FROM scratch\n# check=skip\nCMD a\n",
        &expect![[r#"
        3 JSONArgsRecommended: `CMD` is not a JSON array: a shell is started, which does not pass signals on
    "#]],
    );
    check(
        "FROM scratch\n# check=colour=red\n# check=skip=all\nCMD a\n",
        &expect![[r#"
        4 JSONArgsRecommended: `CMD` is not a JSON array: a shell is started, which does not pass signals on
    "#]],
    );
    quiet("FROM scratch\n# words before\n# CHECK = skip=JSONArgsRecommended because\nCMD a\n");
}

#[test]
fn warnings_before_an_error_are_kept_and_none_after_it() {
    check(
        "FROM busybox AS Big\nMAINTAINER me\nBADCMD\nMAINTAINER you\nCMD run\n",
        &expect![[r#"
        1 StageNameCasing: the name of the stage `Big` is not in lower case
        2 MaintainerDeprecated: `MAINTAINER` is deprecated in favour of a label
    "#]],
    );
    check("# escape=x\nMAINTAINER me\n", &expect![[r#""#]]);
    check("RUN true\nFROM busybox AS Big\n", &expect![[r#""#]]);
    check(
        "FROM busybox\nCMD run\nCOPY ${bad:~x} /\nENTRYPOINT run\n",
        &expect![[r#"
        2 JSONArgsRecommended: `CMD` is not a JSON array: a shell is started, which does not pass signals on
        3 UndefinedVar: the variable `$bad` is used and not defined [`busybox` is not here, so what it sets is not known]
    "#]],
    );
    check("FROM busybox\nCMD run\nCOPY --from=7 / /\n", &expect![[r#""#]]);
    check(
        "ARG a\nMAINTAINER me\n",
        &expect![[r#"
        2 MaintainerDeprecated: `MAINTAINER` is deprecated in favour of a label
    "#]],
    );
    check("", &expect![[r#""#]]);
}

#[test]
fn rules_are_sorted_and_found_by_name() {
    assert!(RULES.windows(2).all(|pair| pair[0].name < pair[1].name));
    assert_eq!(rule("UndefinedVar").map(|rule| rule.experimental), Some(false));
    assert!(rule("NoSuchRule").is_none());
    assert_eq!(RULES.len(), 22);
}
