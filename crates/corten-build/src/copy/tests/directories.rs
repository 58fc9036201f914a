//! Directories: their content, merged with what is there.

use super::*;

#[test]
fn their_content_is_copied_and_they_are_not() {
    check(
        &["d/ 700", "d/a=1", "d/e/ 750", "d/e/b=2 600"],
        &[],
        "COPY d /x",
        &expect![[r#"
        0755 x/
        0644 x/a = 1
        0750 x/e/
        0600 x/e/b = 2
    "#]],
    );
}

#[test]
fn they_join_what_is_there() {
    check(
        &["d/e/ 750", "d/e/b=2"],
        &["x/ 700", "x/e/ 777", "x/e/old=0"],
        "COPY d /x",
        &expect![[r#"
            0700 x/ t=below
            0750 x/e/
            0644 x/e/b = 2
        "#]],
    );
}

#[test]
fn several_join_each_other() {
    check(
        &["d/a=1", "e/a=2", "e/b=3"],
        &[],
        "COPY d e /x/",
        &expect![[r#"
        0755 x/
        0644 x/a = 2
        0644 x/b = 3
    "#]],
    );
}

#[test]
fn the_whole_context() {
    check(
        &["a=1", "d/b=2", "l->a"],
        &[],
        "COPY . .",
        &expect![[r#"
        0755 w/
        0644 w/a = 1
        0755 w/d/
        0644 w/d/b = 2
        0777 w/l -> a
    "#]],
    );
    check(
        &["a=1"],
        &[],
        "COPY / /x/",
        &expect![[r#"
        0755 x/
        0644 x/a = 1
    "#]],
    );
    check(
        &["a=1"],
        &[],
        "COPY ./ /x",
        &expect![[r#"
        0755 x/
        0644 x/a = 1
    "#]],
    );
}

#[test]
fn links_in_them_stay_links() {
    check(
        &["d/l->a", "d/a=1", "d/out->/etc", "d/loop->loop"],
        &[],
        "COPY d /x",
        &expect![[r#"
        0755 x/
        0644 x/a = 1
        0777 x/l -> a
        0777 x/loop -> loop
        0777 x/out -> /etc
    "#]],
    );
}

#[test]
fn an_empty_directory_is_made() {
    check(
        &["d/"],
        &[],
        "COPY d /x/y",
        &expect![[r#"
        0755 x/
        0755 x/y/
    "#]],
    );
    check(&["d/"], &["x/y/"], "COPY d /x/y", &expect![[r#""#]]);
}

#[test]
fn special_files_come_along_and_sockets_do_not() {
    let world = World::new(&["d/"], &[]);
    let dir = corten_sys::beneath::Dir::open(&world.path("context/d")).unwrap();
    dir.create_device("pipe".as_ref(), corten_sys::beneath::Device::Fifo, 0o640).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(world.path("context/d/socket")).unwrap();
    let text = world.copy("COPY d /x/", None, None).unwrap();
    drop(socket);
    expect![[r#"
        0755 x/
        0640 x/pipe pipe
    "#]]
    .assert_eq(&text);
}
