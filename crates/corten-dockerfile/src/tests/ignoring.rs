//! Ignore files and wildcards.

use expect_test::{Expect, expect};

use crate::glob::Pattern;
use crate::ignore::Ignore;

const PATHS: [&str; 20] = [
    "a",
    "b",
    "foo",
    "foo/a",
    "foo/a/b",
    "x/foo",
    "x/y/foo",
    "foo.txt",
    "x/foo.txt",
    ".git",
    ".git/config",
    "a.o",
    "x/a.o",
    "x/y/a.o",
    "a b",
    "README.md",
    "docs/README.md",
    "[",
    "!a",
    "#",
];

fn check(text: &str, expected: &Expect) {
    let ignore = Ignore::parse(text);
    let mut out = String::new();
    for path in PATHS.iter().filter(|path| ignore.excludes(path, false)) {
        super::line(&mut out, path);
    }
    for error in ignore.malformed() {
        super::line(&mut out, &format!("{error} in line {:?}", error.line));
    }
    expected.assert_eq(&out);
}

#[test]
fn a_name_matches_at_the_top_only_and_all_beneath_it() {
    check(
        "foo\n",
        &expect![[r#"
        foo
        foo/a
        foo/a/b
    "#]],
    );
}

#[test]
fn a_slash_before_or_behind_changes_nothing() {
    check(
        "/foo/\n",
        &expect![[r#"
        foo
        foo/a
        foo/a/b
    "#]],
    );
}

#[test]
fn paths_are_cleaned() {
    check(
        "./foo/../a\n x//foo \n",
        &expect![[r#"
        a
        x/foo
    "#]],
    );
}

#[test]
fn a_star_does_not_cross_directories() {
    check(
        "*.o\n",
        &expect![[r#"
        a.o
    "#]],
    );
}

#[test]
fn two_stars_cross_directories() {
    check(
        "**/*.o\n",
        &expect![[r#"
        a.o
        x/a.o
        x/y/a.o
    "#]],
    );
}

#[test]
fn two_stars_may_stand_for_no_directory() {
    check(
        "**/foo\n",
        &expect![[r#"
        foo
        foo/a
        foo/a/b
        x/foo
        x/y/foo
    "#]],
    );
}

#[test]
fn two_stars_at_the_end_match_what_is_beneath() {
    check(
        "foo/**\n",
        &expect![[r#"
        foo/a
        foo/a/b
    "#]],
    );
}

#[test]
fn two_stars_at_the_end_of_a_name_match_names_that_begin_so() {
    check(
        "foo**\n",
        &expect![[r#"
        foo
        foo/a
        foo/a/b
        foo.txt
    "#]],
    );
}

#[test]
fn two_stars_at_the_beginning_of_a_name_match_names_that_end_so() {
    check(
        "**.txt\n",
        &expect![[r#"
        foo.txt
        x/foo.txt
    "#]],
    );
}

#[test]
fn two_stars_alone_match_all() {
    check(
        "**\n!docs\n",
        &expect![[r#"
        a
        b
        foo
        foo/a
        foo/a/b
        x/foo
        x/y/foo
        foo.txt
        x/foo.txt
        .git
        .git/config
        a.o
        x/a.o
        x/y/a.o
        a b
        README.md
        [
        !a
        #
    "#]],
    );
}

#[test]
fn two_stars_in_the_middle() {
    check(
        "x/**/a.o\n",
        &expect![[r#"
        x/a.o
        x/y/a.o
    "#]],
    );
}

#[test]
fn an_exclamation_mark_takes_out_again() {
    check(
        "*\n!foo\n",
        &expect![[r#"
        a
        b
        x/foo
        x/y/foo
        foo.txt
        x/foo.txt
        .git
        .git/config
        a.o
        x/a.o
        x/y/a.o
        a b
        README.md
        docs/README.md
        [
        !a
        #
    "#]],
    );
}

#[test]
fn the_last_pattern_that_matches_decides() {
    check(
        "foo\n!foo/a\nfoo/a/b\n",
        &expect![[r#"
        foo
        foo/a/b
    "#]],
    );
    check(
        "!foo/a\nfoo\n",
        &expect![[r#"
        foo
        foo/a
        foo/a/b
    "#]],
    );
}

#[test]
fn exceptions_may_be_spaced() {
    check("*.md\n ! README.md \n", &expect![""]);
}

#[test]
fn comments_begin_in_the_first_column() {
    check(
        "#\n # \n#a\na\n",
        &expect![[r#"
        a
        #
    "#]],
    );
}

#[test]
fn empty_lines_and_line_endings_do_not_matter() {
    check(
        "\u{feff}a\r\n\r\n   \r\nb\r\n",
        &expect![[r#"
        a
        b
    "#]],
    );
}

#[test]
fn a_question_mark_is_one_character() {
    check(
        "?\n",
        &expect![[r#"
        a
        b
        x/foo
        x/y/foo
        x/foo.txt
        x/a.o
        x/y/a.o
        [
        #
    "#]],
    );
}

#[test]
fn sets_are_characters() {
    check(
        "[a-c]\n[[]\n",
        &expect![[r#"
        a
        b
        [
    "#]],
    );
    check(
        "[^a]\n",
        &expect![[r#"
        b
        x/foo
        x/y/foo
        x/foo.txt
        x/a.o
        x/y/a.o
        [
        #
    "#]],
    );
}

#[test]
fn sets_may_hold_named_classes() {
    check(
        "[[:lower:]]\n",
        &expect![[r#"
        a
        b
        x/foo
        x/y/foo
        x/foo.txt
        x/a.o
        x/y/a.o
    "#]],
    );
}

#[test]
fn an_escape_takes_the_meaning_away() {
    check(
        "\\!a\n\\#\n\\[\n\\*\n",
        &expect![[r#"
        [
        !a
        #
    "#]],
    );
}

#[test]
fn an_escape_before_a_letter_is_that_of_a_regular_expression() {
    check(
        "\\w\n",
        &expect![[r#"
        a
        b
        x/foo
        x/y/foo
        x/foo.txt
        x/a.o
        x/y/a.o
    "#]],
    );
}

#[test]
fn dots_and_pluses_stand_for_themselves() {
    check(
        "foo.*\n*+*\n*|*\n*{a}\n",
        &expect![[r#"
        foo.txt
    "#]],
    );
}

#[test]
fn malformed_patterns_are_left_out_and_told() {
    check(
        "a\n[\n!\n\\\n*[a\nb\n",
        &expect![[r#"
        a
        b
        malformed pattern `[` in line Some(2)
        malformed pattern `!` in line Some(3)
        malformed pattern `\` in line Some(4)
        malformed pattern `*[a` in line Some(5)
    "#]],
    );
}

#[test]
fn nothing_matches_the_top_itself() {
    let ignore = Ignore::parse(".\n/\n..\n");
    assert!(PATHS.iter().all(|path| !ignore.excludes(path, false)));
}

#[test]
fn patterns_from_elsewhere_have_no_comments() {
    let ignore = Ignore::from_patterns(["#", "  *.o ", ""]).unwrap();
    assert!(ignore.excludes("#", false));
    assert!(ignore.excludes("a.o", false));
    assert_eq!(Ignore::from_patterns(["a", "["]).unwrap_err().pattern, "[");
    assert!(Ignore::from_patterns([""]).unwrap().is_empty());
}

#[test]
fn a_directory_is_pruned_when_no_exception_can_lie_in_it() {
    let ignore = Ignore::parse("*\n!src/lib\n!docs/*.md\n");
    assert!(ignore.may_contain_included("src"));
    assert!(ignore.may_contain_included("src/lib/deep"));
    assert!(ignore.may_contain_included("docs"));
    assert!(ignore.may_contain_included("docs/more"));
    assert!(!ignore.may_contain_included("target"));
    assert!(!ignore.may_contain_included("src/bin"));
    assert!(!Ignore::parse("*\n").may_contain_included("src"));
    assert!(Ignore::parse("*\n!**/x\n").may_contain_included("any/where"));
}

fn matched(pattern: &str, names: &[&str]) -> String {
    match Pattern::new(pattern) {
        Ok(pattern) => {
            let names = names.iter().filter(|name| pattern.matches(name));
            names.copied().collect::<Vec<_>>().join(" ")
        }
        Err(error) => error.to_string(),
    }
}

#[test]
fn wildcards_match_as_go_matches() {
    let cases: [(&str, &[&str]); 22] = [
        ("abc", &["abc", "ab", "abcd"]),
        ("*", &["", "abc", "a/b"]),
        ("*c", &["abc", "c", "ab", "a/c"]),
        ("a*", &["a", "abc", "ba", "a/b"]),
        ("a*/b", &["abc/b", "a/b", "a/c/b"]),
        ("a*b*c*d*e*", &["axbxcxdxe", "axbxcxdxexxx", "axbxcxdx"]),
        ("a*b*c*d*e*/f", &["axbxcxdxe/f", "axbxcxdxexxx/f", "axbxcxdxe/xxx/f"]),
        ("a*b?c*x", &["abxbbxdbxebxczzx", "abxbbxdbxebxczzy"]),
        ("ab[c]", &["abc", "abd"]),
        ("ab[b-d]", &["abc", "abe"]),
        ("ab[^b-d]", &["abc", "abe", "ab/"]),
        ("[]a]", &["a"]),
        ("[-]", &["-"]),
        ("[x-]", &["x"]),
        ("[\\-x]", &["-", "x"]),
        ("[a-b-c]", &["a"]),
        ("[", &["a"]),
        ("a[", &["a"]),
        ("a\\", &["a"]),
        ("\\*", &["*", "a"]),
        ("a?b", &["axb", "a/b", "aéb"]),
        ("[a-ζ]*", &["α", "A"]),
    ];
    let mut out = String::new();
    for (pattern, names) in cases {
        super::line(&mut out, &format!("{pattern} => {}", matched(pattern, names)));
    }
    expect![[r#"
        abc => abc
        * =>  abc
        *c => abc c
        a* => a abc
        a*/b => abc/b a/b
        a*b*c*d*e* => axbxcxdxe axbxcxdxexxx
        a*b*c*d*e*/f => axbxcxdxe/f axbxcxdxexxx/f
        a*b?c*x => abxbbxdbxebxczzx
        ab[c] => abc
        ab[b-d] => abc
        ab[^b-d] => abe ab/
        []a] => malformed pattern `[]a]`
        [-] => malformed pattern `[-]`
        [x-] => malformed pattern `[x-]`
        [\-x] => - x
        [a-b-c] => malformed pattern `[a-b-c]`
        [ => malformed pattern `[`
        a[ => malformed pattern `a[`
        a\ => malformed pattern `a\`
        \* => *
        a?b => axb aéb
        [a-ζ]* => α
    "#]]
    .assert_eq(&out);
}

#[test]
fn a_file_may_take_paths_out_again_or_name_everything() {
    let facts = |text: &str| {
        let ignore = Ignore::parse(text);
        (ignore.has_exceptions(), ignore.names_everything())
    };
    assert_eq!(facts("a\n# !b\n"), (false, false));
    assert_eq!(facts("a\n!b\n"), (true, false));
    for everything in ["*", "**", "**/*", "/*", "  ./**  "] {
        assert_eq!(facts(everything), (false, true), "{everything}");
    }
    // What begins with a dot is not everything, although the root's own name does.
    assert_eq!(facts(".*\n?\n*.*\n!*\n"), (true, false));
}
