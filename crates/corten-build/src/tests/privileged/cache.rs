//! What is done again and what is not.

use corten_sys::clock::Timestamp;
use corten_sys::file;
use corten_testkit::{Need, require};
use expect_test::expect;

use crate::tests::world::World;

const APP: &str = "FROM base\nWORKDIR /app\nCOPY requirements.txt .\nRUN write /lib installed\n\
                   COPY src src\nRUN write /app/compiled yes\nCMD [\"x\"]\n";

fn app() -> World {
    let world = World::new();
    world.write("requirements.txt", "numpy");
    world.write("src/a.py", "a = 1");
    world.write("src/b.py", "b = 1");
    world
}

#[test]
fn a_second_build_does_nothing_and_gives_the_same_image() {
    require!(Need::Root);
    let world = app();
    let first = world.build(APP);
    expect![[r#"
        done   WORKDIR /app
        done   COPY requirements.txt .
        done   RUN write /lib installed
        done   COPY src src
        done   RUN write /app/compiled yes
    "#]]
    .assert_eq(&world.outcomes());
    assert_eq!(world.ran(), ["write /lib installed", "write /app/compiled yes"]);
    let second = world.build(APP);
    assert_eq!(first, second);
    assert!(world.ran().is_empty());
    expect![[r#"
        cached WORKDIR /app
        cached COPY requirements.txt .
        cached RUN write /lib installed
        cached COPY src src
        cached RUN write /app/compiled yes
    "#]]
    .assert_eq(&world.outcomes());
}

#[test]
fn a_changed_file_is_only_for_the_steps_after_it() {
    require!(Need::Root);
    let world = app();
    let first = world.build(APP);
    world.outcomes();
    world.ran();
    world.write("src/a.py", "a = 2");
    let second = world.build(APP);
    assert_ne!(first.id, second.id);
    assert_eq!(first.layers[..4], second.layers[..4]);
    assert_eq!(world.ran(), ["write /app/compiled yes"]);
    expect![[r#"
        cached WORKDIR /app
        cached COPY requirements.txt .
        cached RUN write /lib installed
        done   COPY src src
        done   RUN write /app/compiled yes
    "#]]
    .assert_eq(&world.outcomes());
}

#[test]
fn a_change_of_times_alone_is_none() {
    require!(Need::Root);
    let world = app();
    let first = world.build(APP);
    world.ran();
    file::set_times(&world.context().join("src/a.py"), Timestamp::from_seconds(5)).unwrap();
    assert_eq!(world.build(APP), first);
    assert!(world.ran().is_empty());
}

#[test]
fn a_change_of_the_mode_is_one() {
    require!(Need::Root);
    let world = app();
    let first = world.build(APP);
    file::set_mode(&world.context().join("src/a.py"), 0o755).unwrap();
    assert_ne!(world.build(APP).id, first.id);
}

#[test]
fn a_change_that_sets_the_time_back_is_seen() {
    require!(Need::Root);
    let world = app();
    let first = world.build(APP);
    // Same size, same modification time: only the kernel's change time tells.
    world.write("src/a.py", "a = 9");
    assert_ne!(world.build(APP).id, first.id);
}

#[test]
fn a_file_that_no_step_takes_changes_nothing() {
    require!(Need::Root);
    let world = app();
    let first = world.build(APP);
    world.ran();
    world.write("README", "x");
    assert_eq!(world.build(APP), first);
    assert!(world.ran().is_empty());
}

#[test]
fn an_ignored_file_changes_nothing() {
    require!(Need::Root);
    let world = app();
    world.write(".dockerignore", "src/*.log\n.dockerignore\n");
    let first = world.build(APP);
    world.write("src/x.log", "x");
    assert_eq!(world.build(APP), first);
}

#[test]
fn a_configuration_makes_no_layer_and_no_record() {
    require!(Need::Root);
    let world = app();
    let first = world.build("FROM base\nRUN x\nENV A=1\nCMD [\"a\"]");
    let second = world.build("FROM base\nRUN x\nENV A=1\nCMD [\"b\"]");
    assert_eq!(first.layers, second.layers);
    assert_ne!(first.id, second.id);
    assert_eq!(world.ran().len(), 1);
}

#[test]
fn a_variable_is_part_of_what_a_command_is() {
    require!(Need::Root);
    let world = app();
    world.build("FROM base\nENV A=1\nRUN x");
    world.build("FROM base\nENV A=2\nRUN x");
    assert_eq!(world.ran().len(), 2);
    let mut options = world.options("FROM base\nARG B\nRUN y");
    world.build_with(&options).unwrap();
    options.build_args.insert("B".to_owned(), "1".to_owned());
    world.build_with(&options).unwrap();
    assert_eq!(world.ran().len(), 2);
}

#[test]
fn neither_a_proxy_nor_a_secret_is_part_of_a_key() {
    require!(Need::Root);
    let world = app();
    let mut options = world.options("FROM base\nRUN --mount=type=secret,id=token x");
    let first = world.build_with(&options).unwrap();
    options.build_args.insert("http_proxy".to_owned(), "http://proxy:1".to_owned());
    options.run.proxy.insert("HTTPS_PROXY".to_owned(), "http://proxy:2".to_owned());
    options.run.memory_bytes = Some(1 << 30);
    let secret = crate::Secret::Value(b"s3cret".to_vec());
    options.secrets.insert("token".to_owned(), secret);
    assert_eq!(world.build_with(&options).unwrap(), first);
    assert_eq!(world.ran().len(), 1);
}

#[test]
fn without_a_cache_everything_is_done_and_then_known() {
    require!(Need::Root);
    let world = app();
    let first = world.build(APP);
    world.ran();
    let mut options = world.options(APP);
    options.no_cache = true;
    assert_eq!(world.build_with(&options).unwrap().id, first.id);
    assert_eq!(world.ran().len(), 2);
    world.build(APP);
    assert!(world.ran().is_empty());
}

#[test]
fn a_result_that_did_not_change_keeps_what_follows() {
    require!(Need::Root);
    let world = app();
    let text = "FROM base\nCOPY requirements.txt /tmp/\nRUN write /out same\nFROM base\n\
                COPY --from=0 /out /out\nRUN after\n";
    let first = world.build(text);
    world.ran();
    world.outcomes();
    world.write("requirements.txt", "torch");
    let second = world.build(text);
    // The builder ran again and came to the same file, so the target did not.
    assert_eq!(first, second);
    assert_eq!(world.ran(), ["write /out same"]);
    expect![[r#"
        done   [0] COPY requirements.txt /tmp/
        done   [0] RUN write /out same
        cached [1] COPY --from=0 /out /out
        cached [1] RUN after
    "#]]
    .assert_eq(&world.outcomes());
    // And the new builder is known as well.
    world.build(text);
    assert!(world.ran().is_empty());
}

#[test]
fn a_stage_that_files_come_from_is_not_needed_when_the_copy_is_known() {
    require!(Need::Root);
    let world = app();
    let text = "FROM base AS build\nRUN write /out 1\nFROM base\nCOPY --from=build /out /copied\n";
    let first = world.build(text);
    world.outcomes();
    // The builder's layer is forgotten, as after a collection.
    let builder = world.options("FROM base AS build\nRUN write /out 1");
    let layer = world.build_with(&builder).unwrap().layers.pop().unwrap();
    world.ran();
    file::remove_tree(layer.path.parent().unwrap()).unwrap();
    assert_eq!(world.build(text), first);
    assert!(world.ran().is_empty());
}

#[test]
fn a_layer_that_is_gone_is_made_again() {
    require!(Need::Root);
    let world = app();
    let first = world.build(APP);
    world.ran();
    file::remove_tree(first.layers[3].path.parent().unwrap()).unwrap();
    let second = world.build(APP);
    assert_eq!(first.id, second.id);
    assert_eq!(world.ran(), ["write /lib installed"]);
}

#[test]
fn a_linked_copy_does_not_depend_on_what_is_below() {
    require!(Need::Root);
    let world = app();
    world.build("FROM base\nRUN write /x 1\nCOPY --link src /src");
    world.outcomes();
    world.build("FROM base\nRUN write /x 2\nCOPY --link src /src");
    expect![[r#"
        done   RUN write /x 2
        cached COPY --link src /src
    "#]]
    .assert_eq(&world.outcomes());
}

#[test]
fn a_mounted_file_is_part_of_what_a_command_is() {
    require!(Need::Root);
    let world = app();
    let text = "FROM base\nRUN --mount=type=bind,source=src,target=/src x";
    world.build(text);
    world.write("requirements.txt", "unrelated");
    world.build(text);
    assert_eq!(world.ran().len(), 1);
    world.write("src/b.py", "b = 7");
    world.build(text);
    assert_eq!(world.ran().len(), 1);
}

#[test]
fn names_are_given_and_left_alone_when_they_are_right() {
    require!(Need::Root);
    let world = app();
    let mut options = world.options("FROM base\nRUN x");
    options.tags = vec!["app:1".parse().unwrap(), "app:2".parse().unwrap()];
    let image = world.build_with(&options).unwrap();
    let tagged = world.store.references().unwrap();
    assert_eq!(tagged.iter().filter(|tagged| tagged.target == image.id.into()).count(), 2);
    world.build_with(&options).unwrap();
    assert_eq!(world.store.references().unwrap(), tagged);
}
