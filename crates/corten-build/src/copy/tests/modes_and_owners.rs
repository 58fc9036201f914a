//! `--chmod` and `--chown`.

use super::*;

#[test]
fn an_octal_mode_is_for_everything_that_is_made() {
    check(
        &["d/a=1 600", "d/e/b=2 755"],
        &["x/ 711"],
        "COPY --chmod=640 d /x/y/",
        &expect![[r#"
        0711 x/ t=1000
        0640 x/y/
        0640 x/y/a = 1
        0640 x/y/e/
        0640 x/y/e/b = 2
    "#]],
    );
}

#[test]
fn a_symbolic_mode_changes_what_there_is() {
    check(
        &["d/a=1 600", "d/e/b=2 700"],
        &[],
        "COPY --chmod=u=rwX,go=rX d /x/y/",
        &expect![[r#"
            0755 x/
            0755 x/y/
            0644 x/y/a = 1
            0755 x/y/e/
            0755 x/y/e/b = 2
        "#]],
    );
}

#[test]
fn an_owner_is_for_everything_that_is_made() {
    let world = World::new(&["d/a=1", "d/l->a"], &["x/"]);
    let text = world.copy("COPY --chown=5:6 d /x/y/", None, Some((5, 6))).unwrap();
    expect![[r#"
        0755 x/ t=1000
        0755 x/y/ 5:6
        0644 x/y/a = 1 5:6
        0777 x/y/l -> a 5:6
    "#]]
    .assert_eq(&text);
}

#[test]
fn set_id_bits_and_times_of_a_stage_are_kept() {
    check(
        &["d/a=1 4755", "d/e/ 2775"],
        &[],
        "COPY --from=stage d /x/",
        &expect![[r#"
        0755 x/
        4755 x/a = 1 t=1000
        2775 x/e/ t=1000
    "#]],
    );
}

#[test]
fn hard_links_of_a_stage_are_kept_and_those_of_a_context_are_not() {
    let files = ["d/a=1", "d/b==d/a", "d/c==d/a", "e==d/a"];
    check(
        &files,
        &[],
        "COPY --from=stage d /x/",
        &expect![[r#"
        0755 x/
        0644 x/a = 1 t=1000
        0644 x/b == x/a t=1000
        0644 x/c == x/a t=1000
    "#]],
    );
    check(
        &files,
        &[],
        "COPY d /x/",
        &expect![[r#"
        0755 x/
        0644 x/a = 1
        0644 x/b = 1
        0644 x/c = 1
    "#]],
    );
}

#[test]
fn a_second_source_that_replaces_a_linked_file_leaves_the_other_names() {
    check(
        &["d/a=1", "d/b==d/a", "d/c==d/a", "e/a=2"],
        &[],
        "COPY --from=stage d e /x/",
        &expect![[r#"
            0755 x/
            0644 x/a = 2 t=1000
            0644 x/b = 1 t=1000
            0644 x/c == x/b t=1000
        "#]],
    );
}
