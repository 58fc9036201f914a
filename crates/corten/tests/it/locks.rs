//! `corten lock` and locked builds, as far as nothing is run in a container.

use expect_test::expect;

use crate::world::with_data;

#[test]
fn a_build_without_a_lock_file_says_how_to_make_one() {
    let context = with_data();
    context.write("Dockerfile", "FROM data:v1\n");
    context.check(&["build", "--locked", "."], &expect![[r#""#]]);
    context.check(&["build", "--offline", "-f", "-", "."], &expect![[r#""#]]);
}

#[test]
fn a_base_is_locked_by_its_digest() {
    let context = with_data();
    context.write("app/Dockerfile", "FROM data:v1\nCOPY --from=data:v1 /notes.txt /again\n");
    context.check(&["lock", "--check", "app"], &expect![[r#""#]]);
    context.check(&["lock", "--progress", "quiet", "app"], &expect![[r#""#]]);
    context.check(&["lock", "--check", "app"], &expect![[r#""#]]);
    context.run(&["build", "--locked", "-q", "app"]).success();
    context.run(&["build", "--offline", "-q", "app"]).success();
    // The base becomes another one under the same name.
    context.write("data/notes.txt", "other notes\n");
    context.run(&["build", "-q", "-t", "data:v1", "data"]).success();
    context.check(&["build", "--locked", "app"], &expect![[r#""#]]);
    context.check(&["lock", "--check", "app"], &expect![[r#""#]]);
    context.write("other/Dockerfile", "FROM data:v1\n");
    context.write("other/corten.lock", "version = 1\nplatform = \"linux/arm64\"\n");
    context.check(&["build", "--locked", "other"], &expect![[r#""#]]);
}

#[test]
fn a_damaged_lock_file_is_shown_with_its_place() {
    let context = with_data();
    context.write("Dockerfile", "FROM data:v1\n");
    context.write("corten.lock", "version = 1\nplatform = 7\n");
    context.check(&["build", "--locked", "."], &expect![[r#""#]]);
    context.write("corten.lock", "version = 9\n");
    context.check(&["build", "--locked", "."], &expect![[r#""#]]);
}
