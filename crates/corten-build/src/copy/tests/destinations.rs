//! Where sources come to lie.

use super::*;

#[test]
fn a_file_to_a_name() {
    check(
        &["a=1"],
        &[],
        "COPY a /x/y",
        &expect![[r#"
        0755 x/
        0644 x/y = 1
    "#]],
    );
}

#[test]
fn a_file_to_a_directory_by_slash() {
    check(
        &["a=1"],
        &[],
        "COPY a /x/y/",
        &expect![[r#"
        0755 x/
        0755 x/y/
        0644 x/y/a = 1
    "#]],
    );
}

#[test]
fn a_file_to_a_directory_that_is_there() {
    check(
        &["a=1"],
        &["x/y/"],
        "COPY a /x/y",
        &expect![[r#"
        0755 x/ t=below
        0755 x/y/ t=1000
        0644 x/y/a = 1
    "#]],
    );
}

#[test]
fn a_file_to_the_work_directory() {
    check(
        &["a=1"],
        &[],
        "COPY a .",
        &expect![[r#"
        0755 w/
        0644 w/a = 1
    "#]],
    );
    check(
        &["a=1"],
        &[],
        "COPY a b",
        &expect![[r#"
        0755 w/
        0644 w/b = 1
    "#]],
    );
    check(
        &["a=1"],
        &["w/b/"],
        "COPY a ./b",
        &expect![[r#"
        0755 w/ t=below
        0755 w/b/ t=1000
        0644 w/b/a = 1
    "#]],
    );
}

#[test]
fn a_file_over_a_file() {
    check(
        &["a=1 755"],
        &["x=old"],
        "COPY a /x",
        &expect![[r#"
        0755 x = 1
    "#]],
    );
}

#[test]
fn a_file_cannot_replace_a_directory() {
    check(
        &["a=1"],
        &["d/a/"],
        "COPY a /d/",
        &expect![[r#"
        error: cannot replace the directory `/d/a` with a file
    "#]],
    );
    check(
        &["s/a=1"],
        &["d/a/b=2"],
        "COPY s /d",
        &expect![[r#"
        error: cannot replace the directory `/d/a` with a file
    "#]],
    );
}

#[test]
fn the_root_as_destination() {
    check(
        &["a=1", "d/b=2"],
        &["etc/"],
        "COPY a d /",
        &expect![[r#"
        0644 a = 1
        0644 b = 2
    "#]],
    );
}

#[test]
fn a_link_in_the_destination_is_followed() {
    check(
        &["a=1"],
        &["usr/bin/", "bin->usr/bin"],
        "COPY a /bin/",
        &expect![[r#"
        0755 usr/ t=below
        0755 usr/bin/ t=1000
        0644 usr/bin/a = 1
    "#]],
    );
    check(
        &["a=1"],
        &["usr/bin/", "bin->/usr/bin"],
        "COPY a /bin/b",
        &expect![[r#"
        0755 usr/ t=below
        0755 usr/bin/ t=1000
        0644 usr/bin/b = 1
    "#]],
    );
    check(
        &["a=1"],
        &["data/", "x->data"],
        "COPY a /x",
        &expect![[r#"
        0755 data/ t=1000
        0644 data/a = 1
    "#]],
    );
}

#[test]
fn a_link_that_leads_nowhere_is_followed_to_where_it_leads() {
    check(
        &["a=1"],
        &["x->/not/there"],
        "COPY a /x/",
        &expect![[r#"
        0755 not/
        0755 not/there/
        0644 not/there/a = 1
    "#]],
    );
    check(
        &["a=1"],
        &["x->y"],
        "COPY a /x",
        &expect![[r#"
        0644 y = 1
    "#]],
    );
}

#[test]
fn a_link_never_leads_out_of_the_image() {
    check(
        &["a=1"],
        &["x->../../../../etc"],
        "COPY a /x/",
        &expect![[r#"
        0755 etc/
        0644 etc/a = 1
    "#]],
    );
    check(
        &["a=1"],
        &["d/x->/../../../tmp"],
        "COPY a /d/x/b/../c",
        &expect![[r#"
        0755 tmp/
        0644 tmp/c = 1
    "#]],
    );
}

#[test]
fn a_loop_of_links_is_an_error() {
    check(
        &["a=1"],
        &["x->y", "y->x"],
        "COPY a /x/b",
        &expect![[r#"
        error: `x` goes through too many symbolic links
    "#]],
    );
}

#[test]
fn a_file_on_the_way_is_an_error() {
    check(
        &["a=1"],
        &["x=file"],
        "COPY a /x/y",
        &expect![[r#"
        error: `/x` is no directory, so nothing can be copied into it
    "#]],
    );
}

#[test]
fn a_link_at_the_place_of_a_file_in_a_directory_is_replaced() {
    check(
        &["s/a=1"],
        &["d/a->/etc/passwd", "etc/passwd=root"],
        "COPY s /d",
        &expect![[r#"
        0755 d/ t=below
        0644 d/a = 1
    "#]],
    );
    check(
        &["a=1"],
        &["d/a->/etc/passwd", "etc/passwd=root"],
        "COPY a /d/",
        &expect![[r#"
        0755 d/ t=below
        0644 d/a = 1
    "#]],
    );
}

#[test]
fn a_link_at_the_place_of_a_directory_is_an_error() {
    check(
        &["s/bin/x=1"],
        &["usr/bin/", "bin->usr/bin"],
        "COPY s /",
        &expect![[r#"
        error: `/bin` is no directory, so nothing can be copied into it
    "#]],
    );
}

#[test]
fn modes_of_directories_below_are_kept() {
    check(
        &["a=1"],
        &["x/ 700", "x/y/ 1777"],
        "COPY a /x/y/z/",
        &expect![[r#"
        0700 x/ t=below
        1777 x/y/ t=1000
        0755 x/y/z/
        0644 x/y/z/a = 1
    "#]],
    );
}
