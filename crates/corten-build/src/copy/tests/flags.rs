//! `--exclude` and `--parents`, and here-documents as files.

use super::*;

#[test]
fn excluded_files_stay_out() {
    let context = ["d/a.txt=1", "d/b.md=2", "d/e/c.txt=3", "d/e/d.md=4", "d/f/x=5"];
    check(
        &context,
        &[],
        "COPY --exclude=*.txt d /x/",
        &expect![[r#"
        0755 x/
        0644 x/b.md = 2
        0755 x/e/
        0644 x/e/c.txt = 3
        0644 x/e/d.md = 4
        0755 x/f/
        0644 x/f/x = 5
    "#]],
    );
    check(
        &context,
        &[],
        "COPY --exclude=**/*.txt --exclude=f d /x/",
        &expect![[r#"
        0755 x/
        0644 x/b.md = 2
        0755 x/e/
        0644 x/e/d.md = 4
    "#]],
    );
    check(
        &context,
        &[],
        "COPY --exclude=* --exclude=!e/d.md d /x/",
        &expect![[r#"
        0755 x/
        0755 x/e/
        0644 x/e/d.md = 4
    "#]],
    );
}

#[test]
fn excluded_files_stay_out_of_a_wildcard() {
    check(
        &["home.txt=1", "hom.md=2", "homy=3"],
        &[],
        "COPY --exclude=*.txt --exclude=*.md hom* /x/",
        &expect![[r#"
        0755 x/
        0644 x/homy = 3
    "#]],
    );
    check(
        &["a.txt=1"],
        &[],
        "COPY --exclude=*.txt a.txt /x/",
        &expect![[r#"
        0755 x/
        0644 x/a.txt = 1
    "#]],
    );
}

#[test]
fn parents_are_kept() {
    let context = ["a/ 700", "a/b/c.txt=1", "a/b/d.md=2", "a/e/f.txt=3", "g.txt=4"];
    check(
        &context,
        &[],
        "COPY --parents a/b/c.txt g.txt /x/",
        &expect![[r#"
        0755 x/
        0700 x/a/
        0755 x/a/b/
        0644 x/a/b/c.txt = 1
        0644 x/g.txt = 4
    "#]],
    );
    check(
        &context,
        &[],
        "COPY --parents a/*/*.txt /x/",
        &expect![[r#"
        0755 x/
        0700 x/a/
        0755 x/a/b/
        0644 x/a/b/c.txt = 1
        0755 x/a/e/
        0644 x/a/e/f.txt = 3
    "#]],
    );
    check(
        &context,
        &[],
        "COPY --parents **/*.txt /x/",
        &expect![[r#"
        0755 x/
        0700 x/a/
        0755 x/a/b/
        0644 x/a/b/c.txt = 1
        0755 x/a/e/
        0644 x/a/e/f.txt = 3
        0644 x/g.txt = 4
    "#]],
    );
    check(
        &context,
        &[],
        "COPY --parents a/b /x/",
        &expect![[r#"
        0755 x/
        0700 x/a/
        0755 x/a/b/
        0644 x/a/b/c.txt = 1
        0644 x/a/b/d.md = 2
    "#]],
    );
    check(
        &context,
        &[],
        "COPY --parents ./a/./b/*.md /x/",
        &expect![[r#"
        0755 x/
        0755 x/b/
        0644 x/b/d.md = 2
    "#]],
    );
    check(
        &context,
        &[],
        "COPY --parents a/none.txt /x/",
        &expect![[r#"
        error: failed to find `a/none.txt`
    "#]],
    );
    check(
        &context,
        &[],
        "COPY --parents a/none* /x/",
        &expect![[r#"
        nothing matches a/none*
        0755 x/
    "#]],
    );
}

#[test]
fn here_documents_are_files() {
    check(
        &[],
        &["x/"],
        "COPY <<one <<two /x/\n1\none\n2\ntwo",
        &expect![[r#"
        0755 x/ t=1000
        0644 x/one = 1\n
        0644 x/two = 2\n
    "#]],
    );
    check(
        &[],
        &[],
        "COPY --chmod=755 <<one /x/run\n1\none",
        &expect![[r#"
        0755 x/
        0755 x/run = 1\n
    "#]],
    );
}
