//! Words: variables, quotes and escapes.

use expect_test::{Expect, expect};

use crate::word::{self, NESTING_MAX, WordError};

const ENVIRONMENT: [(&str, &str); 8] = [
    ("a", "apple"),
    ("b", "foo.bar.foo"),
    ("empty", ""),
    ("p", "usr/local/bin"),
    ("two", "one  two"),
    ("lines", "1x\n2x"),
    ("1", "first"),
    ("é", "accent"),
];

fn lookup(name: &str) -> Option<String> {
    ENVIRONMENT.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
}

fn table<T: std::fmt::Debug>(
    words: &[&str],
    expected: &Expect,
    expand: impl Fn(&str) -> Result<T, WordError>,
) {
    let mut out = String::new();
    for word in words {
        let became = match expand(word) {
            Ok(value) => format!("{value:?}"),
            Err(error) => format!("{error} (at {})", error.offset),
        };
        super::line(&mut out, &format!("{word:?} => {became}"));
    }
    expected.assert_eq(&out);
}

fn check(words: &[&str], expected: &Expect) {
    table(words, expected, |word| word::expand(word, &lookup, '\\'));
}

fn check_list(words: &[&str], expected: &Expect) {
    table(words, expected, |word| word::expand_list(word, &lookup, '\\'));
}

#[test]
fn text_without_variables_stays() {
    check(&["", "a", "a b", " a ", "日本", "a=b", "{a}", "<a", "<<a", "a<b<<c"], &expect![[r#"
        "" => ""
        "a" => "a"
        "a b" => "a b"
        " a " => " a "
        "日本" => "日本"
        "a=b" => "a=b"
        "{a}" => "{a}"
        "<a" => "<a"
        "<<a" => "<<a"
        "a<b<<c" => "a<b<<c"
    "#]]);
}

#[test]
fn quotes_go() {
    check(
        &["'a'", "\"a\"", "a'b c'd", "a\"b c\"d", "'a\"b'", "\"a'b\"", "''", "\"\"", "'a'\"b\"c"],
        &expect![[r#"
            "'a'" => "a"
            "\"a\"" => "a"
            "a'b c'd" => "ab cd"
            "a\"b c\"d" => "ab cd"
            "'a\"b'" => "a\"b"
            "\"a'b\"" => "a'b"
            "''" => ""
            "\"\"" => ""
            "'a'\"b\"c" => "abc"
        "#]],
    );
}

#[test]
fn open_quotes_are_errors() {
    check(&["'a", "\"a", "a'", "a\"b'c'", "'a\\'"], &expect![[r#"
        "'a" => a single quote is not closed (at 0)
        "\"a" => a double quote is not closed (at 0)
        "a'" => a single quote is not closed (at 1)
        "a\"b'c'" => a double quote is not closed (at 1)
        "'a\\'" => "a\\"
    "#]]);
}

#[test]
fn escapes_protect_one_character() {
    check(
        &[r"\a", r"\\", r"\$a", r"\'", r#"\""#, r"a\ b", r"\", r"a\", r"\\$a", r"\\\$a"],
        &expect![[r#"
            "\\a" => "a"
            "\\\\" => "\\"
            "\\$a" => "$a"
            "\\'" => "'"
            "\\\"" => "\""
            "a\\ b" => "a b"
            "\\" => ""
            "a\\" => "a"
            "\\\\$a" => "\\apple"
            "\\\\\\$a" => "\\$a"
        "#]],
    );
}

#[test]
fn in_double_quotes_only_some_characters_are_escaped() {
    check(
        &[r#""\a""#, r#""\\""#, r#""\$a""#, r#""\"""#, r#""\'""#, r#""\ ""#, r#""\`""#],
        &expect![""],
    );
}

#[test]
fn in_single_quotes_nothing_is_special() {
    check(&[r"'\a'", "'$a'", r"'\'", "'${a'"], &expect![""]);
}

#[test]
fn the_backtick_escapes_when_told_so() {
    table(&["`$a", r"\$a", "``", "\"`$a\"", "C:\\$a"], &expect![""], |word| {
        word::expand(word, &lookup, '`')
    });
}

#[test]
fn variables_without_braces() {
    check(
        &["$a", "x$a", "$a.x", "$a$b", "$a/x", "$nope", "x${nope}y", "$", "a$", "$ a", "$.a"],
        &expect![""],
    );
}

#[test]
fn names_are_letters_digits_and_underscores() {
    check(&["$ab", "$a-b", "$a_b", "$1", "$12", "$1a", "$é", "$aé", "$_", "$%"], &expect![""]);
}

#[test]
fn special_parameters_have_names_of_one_character() {
    check(&["$$a", "$@", "$*", "$#", "$?", "$-", "$!", "$0", "${@}", "${#}", "${?}"], &expect![""]);
}

#[test]
fn variables_in_braces() {
    check(&["${a}", "x${a}y", "${a}${b}", "${nope}", "${empty}", "\"${a} b\""], &expect![""]);
}

#[test]
fn broken_braces_are_errors() {
    check(
        &["${", "${}", "${a", "x${{a}}", "${:a}", "${a:", "${a:-", "${a!b[r#"
            "${a+x}" => "x"
            "${empty+x}" => "x"
            "${nope+x}" => ""
            "${a:+x}" => "x"
            "${empty:+x}" => ""
            "${nope:+x}" => ""
            "${a+}" => ""
        "#]}", "${ a}"],
        &expect![[r#"
            "${" => syntax error: missing `}` (at 0)
            "${}" => syntax error: bad substitution (at 0)
            "${a" => syntax error: missing `}` (at 0)
            "x${{a}}" => syntax error: bad substitution (at 1)
            "${:a}" => syntax error: bad substitution (at 0)
            "${a:" => syntax error: missing `}` (at 0)
            "${a:-" => syntax error: missing `}` (at 5)
            "${a!b}" => unsupported modifier `!` in a substitution (at 3)
            "${ a}" => unsupported modifier ` ` in a substitution (at 2)
        "#]],
    );
}

#[test]
fn minus_gives_a_default() {
    check(
        &["${a-x}", "${empty-x}", "${nope-x}", "${a:-x}", "${empty:-x}", "${nope:-x}", "${nope-}"],
        &expect![""],
    );
}

#[test]
fn plus_gives_an_alternative() {
    check(
        &["${a+x}", "${empty+x}", "${nope+x}", "${a:+x}", "${empty:+x}", "${nope:+x}", "${a+}"],
        &expect![""],
    );
}

#[test]
fn question_mark_demands_a_value() {
    check(
        &[
            "${a?x}",
            "${empty?x}",
            "${nope?x}",
            "${a:?x}",
            "${empty:?x}",
            "${nope:?x}",
            "${nope?}",
            "${empty:?}",
            "pre ${nope?say $a}",
        ],
        &expect![""],
    );
}

#[test]
fn defaults_are_words_themselves() {
    check(
        &[
            "${nope:-$a}",
            "${nope:-${a}}",
            "${nope:-${nope:-x}}",
            "${nope:-'$a'}",
            "${nope:-\"$a b\"}",
            r"${nope:-\}}",
            "${nope:-a b}",
            "${nope:-a/b:c}",
            "${a:+$b}",
            "\"${nope:-'x'}\"",
            "${nope:-{}",
            "${nope:-}}",
        ],
        &expect![""],
    );
}

#[test]
fn hash_takes_off_the_beginning() {
    check(
        &[
            "${b#foo}",
            "${b#*.}",
            "${b##*.}",
            "${b#bar}",
            "${b#???}",
            "${b#}",
            "${b##}",
            "${b#*}",
            "${b##*}",
            "${p#*/}",
            "${p##*/}",
            r"${b#\*}",
            "${nope#a}",
            "${b#f*o}",
            "${b##f*o}",
            "${p#usr$nope/}",
            "${lines##*x}",
            "${lines#*2}",
        ],
        &expect![""],
    );
}

#[test]
fn percent_takes_off_the_end() {
    check(
        &[
            "${b%foo}",
            "${b%.*}",
            "${b%%.*}",
            "${b%bar}",
            "${b%???}",
            "${b%}",
            "${b%*}",
            "${b%%*}",
            "${p%/*}",
            "${p%%/*}",
            r"${b%\*}",
            "${nope%a}",
            "${b%o*o}",
            "${b%%o*o}",
        ],
        &expect![""],
    );
}

#[test]
fn slash_replaces_the_first_match() {
    check(
        &[
            "${b/foo/x}",
            "${b/o/0}",
            "${b/./-}",
            "${b/f*o/x}",
            "${b/nope/x}",
            "${b/foo/}",
            "${b/?/x}",
            r"${p/\//-}",
            "${nope/a/b}",
            "${b/foo/$a}",
            "${b/$nope/x}",
            "${b/foo/a/b}",
            "${b/foo}",
            "${b/",
            "${b/foo/\\}}",
        ],
        &expect![""],
    );
}

#[test]
fn two_slashes_replace_all_matches() {
    check(
        &[
            "${b//foo/x}",
            "${b//o/0}",
            "${b//./-}",
            r"${p//\//-}",
            "${b//foo/}",
            "${b//?/x}",
            "${b//*/x}",
            "${empty//a/b}",
            "${a//p/[\\$0]}",
            "${a//p/\\$x}",
            "${a///-}",
            "${lines//*/x}",
        ],
        &expect![""],
    );
}

#[test]
fn patterns_have_few_escapes() {
    check(
        &[r"${b#\f}", r"${b#\\}", r"${b#\}", r"${b//\?/x}", r"${b#[a-z]}", "${b#^f}"],
        &expect![""],
    );
}

#[test]
fn unknown_modifiers_are_errors() {
    check(
        &["${a=x}", "${a:=x}", "${a:#x}", "${a:%x}", "${a^}", "${a,,}", "${a:1}", "${a@Q}"],
        &expect![""],
    );
}

#[test]
fn lists_are_split_at_blanks() {
    check_list(
        &[
            "",
            " ",
            "a",
            "a b",
            " a  b ",
            "a\tb\nc",
            "'a b' c",
            "a\\ b",
            "a\"b c\"d",
            "''",
            "a '' b",
        ],
        &expect![[r#"
            "'$a' \"$b\"" => "'apple' \"foo.bar.foo\""
            "it's $a" => "it's apple"
            "\\$a \\\\ \\x" => "$a \\ x"
            "a\n$a\n" => "a\napple\n"
            "${nope:-'x'}" => "'x'"
        "#]],
    );
}

#[test]
fn what_variables_hold_is_split_too() {
    check_list(
        &["$two", "x$two", "$two$two", "\"$two\"", "'$two'", "$empty", "a $nope b", "${nope:-x y}"],
        &expect![""],
    );
}

#[test]
fn a_default_does_not_swallow_what_is_before_it() {
    check_list(&["80${nope:-80}", "a b${nope:-c}d e"], &expect![[r#"
        "80${nope:-80}" => ["8080"]
        "a b${nope:-c}d e" => ["a", "bcd", "e"]
    "#]]);
}

#[test]
fn heredoc_bodies_keep_their_quotes() {
    table(
        &["'$a' \"$b\"", "it's $a", r"\$a \\ \x", "a\n$a\n", "${nope:-'x'}"],
        &expect![""],
        |word| word::expand_heredoc(word, &lookup),
    );
}

#[test]
fn titles_keep_quotes_and_what_is_not_set() {
    table(
        &["RUN '$a' \"$a\" $nope ${nope} ${nope:-x} ${nope#x} ${nope/x/y}", "RUN $$"],
        &expect![""],
        |word| word::expand_known(word, &lookup, '\\'),
    );
}

#[test]
fn the_names_that_a_word_asks_for_are_found() {
    let names = |word: &str| word::variables(word, '\\').join(" ");
    assert_eq!(names("$a ${b} ${c:-$d} '$e' \"$f\" \\$g $a"), "a b c d f");
    assert_eq!(names("${a:?$b} ${c/$d/$e}"), "a b c d e");
    assert_eq!(names("$a ${"), "a");
    assert_eq!(names("none"), "");
}

#[test]
fn nesting_has_a_limit() {
    let nested = |depth: usize| format!("{}x{}", "${n-".repeat(depth), "}".repeat(depth));
    assert_eq!(word::expand(&nested(NESTING_MAX), &|_| None, '\\'), Ok("x".to_owned()));
    let error = word::expand(&nested(NESTING_MAX + 1), &|_| None, '\\').unwrap_err();
    assert_eq!(error.message, "variables are nested more than 128 deep");
    assert!(word::expand(&nested(100_000), &|_| None, '\\').is_err());
}

#[test]
fn patterns_with_many_stars_are_quick() {
    let value = "a".repeat(2_000);
    let word = format!("${{v##{}b}}", "*a".repeat(40));
    assert_eq!(word::expand(&word, &|_| Some(value.clone()), '\\'), Ok(value.clone()));
}
