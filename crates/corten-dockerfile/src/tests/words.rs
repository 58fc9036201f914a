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
    check(
        &["", "a", "a b", " a ", "日本", "a=b", "{a}", "<a", "<<a", "a<b<<c"],
        &expect![[r#"
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
    "#]],
    );
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
    check(
        &["'a", "\"a", "a'", "a\"b'c'", "'a\\'"],
        &expect![[r#"
        "'a" => a single quote is not closed (at 0)
        "\"a" => a double quote is not closed (at 0)
        "a'" => a single quote is not closed (at 1)
        "a\"b'c'" => a double quote is not closed (at 1)
        "'a\\'" => "a\\"
    "#]],
    );
}

#[test]
fn escapes_protect_one_character() {
    check(
        &["\\a", "\\\\", "\\$a", "\\'", "\\\"", "a\\ b", "\\", "a\\", "\\\\$a", "\\\\\\$a"],
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
        &["\"\\a\"", "\"\\\\\"", "\"\\$a\"", "\"\\\"\"", "\"\\'\"", "\"\\ \"", "\"\\`\""],
        &expect![[r#"
            "\"\\a\"" => "\\a"
            "\"\\\\\"" => "\\"
            "\"\\$a\"" => "$a"
            "\"\\\"\"" => "\""
            "\"\\'\"" => "\\'"
            "\"\\ \"" => "\\ "
            "\"\\`\"" => "\\`"
        "#]],
    );
}

#[test]
fn in_single_quotes_nothing_is_special() {
    check(
        &["'\\a'", "'$a'", "'\\'", "'${a'"],
        &expect![[r#"
        "'\\a'" => "\\a"
        "'$a'" => "$a"
        "'\\'" => "\\"
        "'${a'" => "${a"
    "#]],
    );
}

#[test]
fn variables_without_braces() {
    check(
        &["$a", "x$a", "$a.x", "$a$b", "$a/x", "$nope", "x${nope}y", "$", "a$", "$ a", "$.a"],
        &expect![[r#"
            "$a" => "apple"
            "x$a" => "xapple"
            "$a.x" => "apple.x"
            "$a$b" => "applefoo.bar.foo"
            "$a/x" => "apple/x"
            "$nope" => ""
            "x${nope}y" => "xy"
            "$" => "$"
            "a$" => "a$"
            "$ a" => "$ a"
            "$.a" => "$.a"
        "#]],
    );
}

#[test]
fn names_are_letters_digits_and_underscores() {
    check(
        &["$ab", "$a-b", "$a_b", "$1", "$12", "$1a", "$é", "$aé", "$_", "$%"],
        &expect![[r#"
        "$ab" => ""
        "$a-b" => "apple-b"
        "$a_b" => ""
        "$1" => "first"
        "$12" => ""
        "$1a" => "firsta"
        "$é" => "accent"
        "$aé" => ""
        "$_" => ""
        "$%" => "$%"
    "#]],
    );
}

#[test]
fn special_parameters_have_names_of_one_character() {
    check(
        &["$$a", "$@", "$*", "$#", "$?", "$-", "$!", "$0", "${@}", "${#}", "${?}"],
        &expect![[r#"
        "$$a" => "a"
        "$@" => ""
        "$*" => ""
        "$#" => ""
        "$?" => ""
        "$-" => ""
        "$!" => ""
        "$0" => ""
        "${@}" => ""
        "${#}" => ""
        "${?}" => ""
    "#]],
    );
}

#[test]
fn variables_in_braces() {
    check(
        &["${a}", "x${a}y", "${a}${b}", "${nope}", "${empty}", "\"${a} b\""],
        &expect![[r#"
        "${a}" => "apple"
        "x${a}y" => "xappley"
        "${a}${b}" => "applefoo.bar.foo"
        "${nope}" => ""
        "${empty}" => ""
        "\"${a} b\"" => "apple b"
    "#]],
    );
}

#[test]
fn broken_braces_are_errors() {
    check(
        &["${", "${}", "${a", "x${{a}}", "${:a}", "${a:", "${a:-", "${a!b}", "${ a}"],
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
        &expect![[r#"
            "${a-x}" => "apple"
            "${empty-x}" => ""
            "${nope-x}" => "x"
            "${a:-x}" => "apple"
            "${empty:-x}" => "x"
            "${nope:-x}" => "x"
            "${nope-}" => ""
        "#]],
    );
}

#[test]
fn plus_gives_an_alternative() {
    check(
        &["${a+x}", "${empty+x}", "${nope+x}", "${a:+x}", "${empty:+x}", "${nope:+x}", "${a+}"],
        &expect![[r#"
            "${a+x}" => "x"
            "${empty+x}" => "x"
            "${nope+x}" => ""
            "${a:+x}" => "x"
            "${empty:+x}" => ""
            "${nope:+x}" => ""
            "${a+}" => ""
        "#]],
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
        &expect![[r#"
            "${a?x}" => "apple"
            "${empty?x}" => ""
            "${nope?x}" => `nope`: x (at 7)
            "${a:?x}" => "apple"
            "${empty:?x}" => `empty`: x (at 9)
            "${nope:?x}" => `nope`: x (at 8)
            "${nope?}" => `nope` is not allowed to be unset (at 7)
            "${empty:?}" => `empty` is not allowed to be empty (at 9)
            "pre ${nope?say $a}" => `nope`: say apple (at 11)
        "#]],
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
            "${nope:-\\}}",
            "${nope:-a b}",
            "${nope:-a/b:c}",
            "${a:+$b}",
            "\"${nope:-'x'}\"",
            "${nope:-{}",
            "${nope:-}}",
        ],
        &expect![[r#"
            "${nope:-$a}" => "apple"
            "${nope:-${a}}" => "apple"
            "${nope:-${nope:-x}}" => "x"
            "${nope:-'$a'}" => "$a"
            "${nope:-\"$a b\"}" => "apple b"
            "${nope:-\\}}" => "}"
            "${nope:-a b}" => "a b"
            "${nope:-a/b:c}" => "a/b:c"
            "${a:+$b}" => "foo.bar.foo"
            "\"${nope:-'x'}\"" => "x"
            "${nope:-{}" => "{"
            "${nope:-}}" => "}"
        "#]],
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
            "${b#\\*}",
            "${nope#a}",
            "${b#f*o}",
            "${b##f*o}",
            "${p#usr$nope/}",
            "${lines##*x}",
            "${lines#*2}",
        ],
        &expect![[r#"
            "${b#foo}" => ".bar.foo"
            "${b#*.}" => "bar.foo"
            "${b##*.}" => "foo"
            "${b#bar}" => "foo.bar.foo"
            "${b#???}" => ".bar.foo"
            "${b#}" => "foo.bar.foo"
            "${b##}" => "foo.bar.foo"
            "${b#*}" => "foo.bar.foo"
            "${b##*}" => ""
            "${p#*/}" => "local/bin"
            "${p##*/}" => "bin"
            "${b#\\*}" => "foo.bar.foo"
            "${nope#a}" => ""
            "${b#f*o}" => "o.bar.foo"
            "${b##f*o}" => ""
            "${p#usr$nope/}" => "local/bin"
            "${lines##*x}" => "\n2x"
            "${lines#*2}" => "1x\n2x"
        "#]],
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
            "${b%\\*}",
            "${nope%a}",
            "${b%o*o}",
            "${b%%o*o}",
        ],
        &expect![[r#"
            "${b%foo}" => "foo.bar."
            "${b%.*}" => "foo.bar"
            "${b%%.*}" => "foo"
            "${b%bar}" => "foo.bar.foo"
            "${b%???}" => "foo.bar."
            "${b%}" => "foo.bar.foo"
            "${b%*}" => "foo.bar.foo"
            "${b%%*}" => ""
            "${p%/*}" => "usr/local"
            "${p%%/*}" => "usr"
            "${b%\\*}" => "foo.bar.foo"
            "${nope%a}" => ""
            "${b%o*o}" => "foo.bar.f"
            "${b%%o*o}" => "f"
        "#]],
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
            "${p/\\//-}",
            "${nope/a/b}",
            "${b/foo/$a}",
            "${b/$nope/x}",
            "${b/foo/a/b}",
            "${b/foo}",
            "${b/",
            "${b/foo/\\}}",
        ],
        &expect![[r#"
            "${b/foo/x}" => "x.bar.foo"
            "${b/o/0}" => "f0o.bar.foo"
            "${b/./-}" => "foo-bar.foo"
            "${b/f*o/x}" => "x"
            "${b/nope/x}" => "foo.bar.foo"
            "${b/foo/}" => ".bar.foo"
            "${b/?/x}" => "xoo.bar.foo"
            "${p/\\//-}" => "usr-local/bin"
            "${nope/a/b}" => ""
            "${b/foo/$a}" => "apple.bar.foo"
            "${b/$nope/x}" => "xfoo.bar.foo"
            "${b/foo/a/b}" => "a/b.bar.foo"
            "${b/foo}" => syntax error: missing `/` in `${…}` (at 8)
            "${b/" => syntax error: missing `/` in `${…}` (at 4)
            "${b/foo/\\}}" => "\\}.bar.foo"
        "#]],
    );
}

#[test]
fn two_slashes_replace_all_matches() {
    check(
        &[
            "${b//foo/x}",
            "${b//o/0}",
            "${b//./-}",
            "${p//\\//-}",
            "${b//foo/}",
            "${b//?/x}",
            "${b//*/x}",
            "${empty//a/b}",
            "${a//p/[\\$0]}",
            "${a//p/\\$x}",
            "${a///-}",
            "${lines//*/x}",
        ],
        &expect![[r#"
            "${b//foo/x}" => "x.bar.x"
            "${b//o/0}" => "f00.bar.f00"
            "${b//./-}" => "foo-bar-foo"
            "${p//\\//-}" => "usr-local-bin"
            "${b//foo/}" => ".bar."
            "${b//?/x}" => "xxxxxxxxxxx"
            "${b//*/x}" => "x"
            "${empty//a/b}" => ""
            "${a//p/[\\$0]}" => "a[\\p][\\p]le"
            "${a//p/\\$x}" => "a\\\\le"
            "${a///-}" => "-a-p-p-l-e-"
            "${lines//*/x}" => "x\nx"
        "#]],
    );
}

#[test]
fn patterns_have_few_escapes() {
    check(
        &["${b#\\f}", "${b#\\\\}", "${b#\\}", "${b//\\?/x}", "${b#[a-z]}", "${b#^f}"],
        &expect![[r#"
            "${b#\\f}" => invalid escape `\f` in the pattern `\f` (at 3)
            "${b#\\\\}" => "foo.bar.foo"
            "${b#\\}" => syntax error: missing `}` (at 6)
            "${b//\\?/x}" => "foo.bar.foo"
            "${b#[a-z]}" => "foo.bar.foo"
            "${b#^f}" => "foo.bar.foo"
        "#]],
    );
}

#[test]
fn unknown_modifiers_are_errors() {
    check(
        &["${a=x}", "${a:=x}", "${a:#x}", "${a:%x}", "${a^}", "${a,,}", "${a:1}", "${a@Q}"],
        &expect![[r#"
            "${a=x}" => unsupported modifier `=` in a substitution (at 3)
            "${a:=x}" => unsupported modifier `:=` in a substitution (at 3)
            "${a:#x}" => unsupported modifier `:#` in a substitution (at 3)
            "${a:%x}" => unsupported modifier `:%` in a substitution (at 3)
            "${a^}" => unsupported modifier `^` in a substitution (at 3)
            "${a,,}" => unsupported modifier `,` in a substitution (at 3)
            "${a:1}" => unsupported modifier `:1` in a substitution (at 3)
            "${a@Q}" => unsupported modifier `@` in a substitution (at 3)
        "#]],
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
            "" => []
            " " => []
            "a" => ["a"]
            "a b" => ["a", "b"]
            " a  b " => ["a", "b"]
            "a\tb\nc" => ["a", "b", "c"]
            "'a b' c" => ["a b", "c"]
            "a\\ b" => ["a b"]
            "a\"b c\"d" => ["ab cd"]
            "''" => []
            "a '' b" => ["a", "b"]
        "#]],
    );
}

#[test]
fn what_variables_hold_is_split_too() {
    check_list(
        &["$two", "x$two", "$two$two", "\"$two\"", "'$two'", "$empty", "a $nope b", "${nope:-x y}"],
        &expect![[r#"
            "$two" => ["one", "two"]
            "x$two" => ["xone", "two"]
            "$two$two" => ["one", "twoone", "two"]
            "\"$two\"" => ["one  two"]
            "'$two'" => ["$two"]
            "$empty" => []
            "a $nope b" => ["a", "b"]
            "${nope:-x y}" => ["x", "y"]
        "#]],
    );
}

#[test]
fn a_default_does_not_swallow_what_is_before_it() {
    check_list(
        &["80${nope:-80}", "a b${nope:-c}d e"],
        &expect![[r#"
        "80${nope:-80}" => ["8080"]
        "a b${nope:-c}d e" => ["a", "bcd", "e"]
    "#]],
    );
}

#[test]
fn the_backtick_escapes_when_told_so() {
    table(
        &["`$a", r"\$a", "``", "\"`$a\"", "C:\\$a"],
        &expect![[r#"
        "`$a" => "$a"
        "\\$a" => "\\apple"
        "``" => "`"
        "\"`$a\"" => "$a"
        "C:\\$a" => "C:\\apple"
    "#]],
        |word| word::expand(word, &lookup, '`'),
    );
}

#[test]
fn heredoc_bodies_keep_their_quotes() {
    table(
        &["'$a' \"$b\"", "it's $a", r"\$a \\ \x", "a\n$a\n", "${nope:-'x'}"],
        &expect![[r#"
            "'$a' \"$b\"" => "'apple' \"foo.bar.foo\""
            "it's $a" => "it's apple"
            "\\$a \\\\ \\x" => "$a \\ x"
            "a\n$a\n" => "a\napple\n"
            "${nope:-'x'}" => "'x'"
        "#]],
        |word| word::expand_heredoc(word, &lookup),
    );
}

#[test]
fn titles_keep_quotes_and_what_is_not_set() {
    table(
        &["RUN '$a' \"$a\" $nope ${nope} ${nope:-x} ${nope#x} ${nope/x/y}", "RUN $$"],
        &expect![[r#"
            "RUN '$a' \"$a\" $nope ${nope} ${nope:-x} ${nope#x} ${nope/x/y}" => "RUN '$a' \"apple\" $nope ${nope} ${nope:-x} ${nope#x} ${nope/x/y}"
            "RUN $$" => "RUN $$"
        "#]],
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
