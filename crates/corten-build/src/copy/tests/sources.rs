//! What sources name: patterns, links, what is ignored or missing.

use super::*;

#[test]
fn a_missing_one_is_an_error() {
    check(
        &["a=1"],
        &[],
        "COPY b /x",
        &expect![[r#"
        error: failed to find `b`
    "#]],
    );
    check(
        &["a=1"],
        &[],
        "COPY a/b /x",
        &expect![[r#"
        error: failed to find `a/b`
    "#]],
    );
    check(
        &["l->nowhere"],
        &[],
        "COPY l /x",
        &expect![[r#"
        error: failed to find `l`
    "#]],
    );
}

#[test]
fn dots_do_not_leave_the_context() {
    check(
        &["a=1"],
        &[],
        "COPY ../../a /x",
        &expect![[r#"
        0644 x = 1
    "#]],
    );
    check(
        &["a=1"],
        &[],
        "COPY ../etc/passwd /x",
        &expect![[r#"
        error: failed to find `../etc/passwd`
    "#]],
    );
    check(
        &["d/a=1"],
        &[],
        "COPY d/../d/./a /x",
        &expect![[r#"
        0644 x = 1
    "#]],
    );
}

#[test]
fn links_are_followed_within_the_context() {
    check(
        &["d/a=1", "l->d/a"],
        &[],
        "COPY l /x/",
        &expect![[r#"
        0755 x/
        0644 x/l = 1
    "#]],
    );
    check(
        &["d/a=1", "l->/d"],
        &[],
        "COPY l /x",
        &expect![[r#"
        0755 x/
        0644 x/a = 1
    "#]],
    );
    check(
        &["d/a=1", "l->d"],
        &[],
        "COPY l/a /x/",
        &expect![[r#"
        0755 x/
        0644 x/a = 1
    "#]],
    );
    check(
        &["etc/passwd=mine", "l->/../../../etc/passwd"],
        &[],
        "COPY l /x",
        &expect![[r#"
        0644 x = mine
    "#]],
    );
}

#[test]
fn wildcards_match_as_in_go() {
    let context = ["a.txt=1", "b.txt=2", "c.md=3", "d/e.txt=4", ".h.txt=5", "x[1]=6"];
    check(
        &context,
        &[],
        "COPY *.txt /x/",
        &expect![[r#"
        0755 x/
        0644 x/.h.txt = 5
        0644 x/a.txt = 1
        0644 x/b.txt = 2
    "#]],
    );
    check(
        &context,
        &[],
        "COPY ?.* /x/",
        &expect![[r#"
        0755 x/
        0644 x/a.txt = 1
        0644 x/b.txt = 2
        0644 x/c.md = 3
    "#]],
    );
    check(
        &context,
        &[],
        "COPY */*.txt /x/",
        &expect![[r#"
        0755 x/
        0644 x/e.txt = 4
    "#]],
    );
    check(
        &context,
        &[],
        "COPY [a-b].txt /x/",
        &expect![[r#"
        0755 x/
        0644 x/a.txt = 1
        0644 x/b.txt = 2
    "#]],
    );
    check(
        &context,
        &[],
        r"COPY x[[]1] /x/",
        &expect![[r#"
        0755 x/
        0644 x/x[1] = 6
    "#]],
    );
}

#[test]
fn a_wildcard_takes_directories_by_content() {
    check(
        &["d1/a=1", "d2/b=2", "d3=3"],
        &[],
        "COPY d* /x/",
        &expect![[r#"
        0755 x/
        0644 x/a = 1
        0644 x/b = 2
        0644 x/d3 = 3
    "#]],
    );
}

#[test]
fn a_wildcard_follows_a_link_that_it_matches() {
    check(
        &["d/a=1", "l1->d/a"],
        &[],
        "COPY l* /x/",
        &expect![[r#"
        0755 x/
        0644 x/l1 = 1
    "#]],
    );
}

#[test]
fn a_wildcard_that_matches_nothing_copies_nothing() {
    check(
        &["a=1"],
        &[],
        "COPY a no* /x/",
        &expect![[r#"
        nothing matches no*
        0755 x/
        0644 x/a = 1
    "#]],
    );
    check(
        &["a=1"],
        &[],
        "COPY no*/x /x/",
        &expect![[r#"
        nothing matches no*/x
    "#]],
    );
}

#[test]
fn a_malformed_pattern_is_an_error() {
    check(
        &["a=1"],
        &[],
        "COPY [ /x/",
        &expect![[r#"
        error: `[` is no valid pattern
    "#]],
    );
}

#[test]
fn what_the_ignore_file_hides_is_not_there() {
    let world = World::new(&["a=1", "b=2", "d/c=3", "d/e=4", "d/f/g=5"], &[]);
    let text = |instruction: &str, ignore: &str| match world.copy(instruction, Some(ignore), None) {
        Ok(text) => text,
        Err(error) => told(&error),
    };
    expect![[r#"
        0755 x/
        0644 x/a = 1
        0755 x/d/
        0644 x/d/c = 3
        0755 x/d/f/
        0644 x/d/f/g = 5
    "#]]
    .assert_eq(&text("COPY . /x/", "b\nd/e\n"));
    expect![[r#"
        0755 x/
        0755 x/d/
        0755 x/d/f/
        0644 x/d/f/g = 5
    "#]]
    .assert_eq(&text("COPY . /x/", "*\n!d/f\n"));
    expect![[r#"
        error: failed to find `b`
    "#]]
    .assert_eq(&text("COPY b /x/", "b"));
    expect![[r#"
        error: failed to find `d`
    "#]]
    .assert_eq(&text("COPY d /x/", "d"));
    expect![[r#"
        0755 x/
        0644 x/e = 4
    "#]]
    .assert_eq(&text("COPY d/e /x/", "d\n!d/e"));
    expect![[r#"
        0755 x/
        0644 x/e = 4
        0755 x/f/
        0644 x/f/g = 5
    "#]]
    .assert_eq(&text("COPY d* /x/", "**/c"));
}

#[test]
fn a_name_that_would_delete_is_refused() {
    check(
        &["d/.wh.x=1"],
        &[],
        "COPY d /x/",
        &expect![[r#"
        error: cannot make a file named `/x/.wh.x`: the name is a deletion mark in images
    "#]],
    );
    check(
        &["a=1"],
        &[],
        "COPY a /x/.wh..wh..opq",
        &expect![[r#"
        error: cannot make a file named `/x/.wh..wh..opq`: the name is a deletion mark in images
    "#]],
    );
}
