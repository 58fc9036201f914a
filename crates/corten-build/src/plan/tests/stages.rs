//! Stages: which are needed, how they are named, what they begin with.

use super::*;

#[test]
fn only_what_the_target_needs_is_planned() {
    let text = "FROM base AS a\nRUN a\nFROM missing AS b\nRUN b\nFROM scratch\nCOPY --from=a /x /y";
    check(
        text,
        &expect![[r#"
        stage a
          from base:latest
           1 RUN a
               exec ["/bin/sh", "-c", "a"] in /srv

        stage 2 (target)
          from scratch
           2 COPY --from=a /x /y
               from `a`: /x -> /y

        image
          env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
          workdir /
    "#]],
    );
}

#[test]
fn a_target_is_named_or_numbered_in_any_case() {
    for target in ["Middle", "middle", "1"] {
        let mut options = options("FROM scratch\nFROM bare AS Middle\nRUN x\nFROM missing");
        options.target = Some(target.to_owned());
        let graph = plan_with(&options, &fake()).unwrap();
        assert_eq!(graph.stage(graph.target()).name, "Middle");
    }
}

#[test]
fn a_missing_target_suggests_one() {
    let mut options = options("FROM scratch AS build\nFROM build");
    options.target = Some("biuld".to_owned());
    expect![[r#"
        error: there is no stage `biuld` to build
         --> Dockerfile:2:1
          |
        2 | FROM build
          | ^^^^^^^^^^
        hint: did you mean `build`?
    "#]]
    .assert_eq(&message(&plan_with(&options, &fake()).unwrap_err()));
}

#[test]
fn of_two_stages_of_a_name_the_last_before_counts() {
    check(
        "FROM bare AS a\nRUN one\nFROM a AS a\nRUN two\nFROM a\nRUN three",
        &expect![[r#"
            stage a
              from bare:latest
               1 RUN one
                   exec ["/bin/sh", "-c", "one"] in /

            stage a
              from stage a
               2 RUN two
                   exec ["/bin/sh", "-c", "two"] in /

            stage 2 (target)
              from stage a
               3 RUN three
                   exec ["/bin/sh", "-c", "three"] in /

            image
              env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
        "#]],
    );
}

#[test]
fn files_come_from_stages_by_name_and_number_and_from_images() {
    check(
        "FROM bare AS one\nRUN 1\nFROM scratch\nCOPY --from=ONE a /\nCOPY --from=0 b /\n\
         COPY --from=base c /\nCOPY --from=scratch d* /\n",
        &expect![[r#"
            stage one
              from bare:latest
               1 RUN 1
                   exec ["/bin/sh", "-c", "1"] in /

            stage base:latest
              from base:latest

            stage 1 (target)
              from scratch
               2 COPY --from=ONE a /
                   from `one`: a -> /
               3 COPY --from=0 b /
                   from `one`: b -> /
               4 COPY --from=base c /
                   from `base:latest`: c -> /
               5 COPY --from=scratch d* /
                   from an empty directory: d* -> /

            image
              env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
              workdir /
        "#]],
    );
}

#[test]
fn a_stage_cannot_take_files_of_itself_or_of_a_later_one() {
    check_error(
        "FROM scratch AS a\nCOPY --from=b x /\nFROM scratch AS b\nFROM a",
        &expect![[r#"
        error: files of the stage `b` are not there yet
         --> Dockerfile:2:13
          |
        2 | COPY --from=b x /
          |             ^
        hint: move the stage before this one
    "#]],
    );
    check_error(
        "FROM scratch AS a\nCOPY --from=0 x /",
        &expect![[r#"
        error: files of the stage `0` are not there yet
         --> Dockerfile:2:13
          |
        2 | COPY --from=0 x /
          |             ^
        hint: move the stage before this one
    "#]],
    );
    check_error(
        "FROM scratch\nCOPY --from=7 x /",
        &expect![[r#"
        error: there is no stage 7: the file has 1
         --> Dockerfile:2:13
          |
        2 | COPY --from=7 x /
          |             ^
    "#]],
    );
}

#[test]
fn from_of_copy_has_no_variables() {
    check_error(
        "FROM scratch\nARG X=a\nCOPY --from=$X a b",
        &expect![[r#"
        error: variables do not work in `--from`
         --> Dockerfile:3:13
          |
        3 | COPY --from=$X a b
          |             ^^
        hint: give the image a name with `FROM image AS name` and copy from that
    "#]],
    );
}

#[test]
fn a_misspelled_stage_is_suggested() {
    check_error(
        "FROM scratch AS builder\nFROM scratch\nCOPY --from=bulider a b",
        &expect![[r#"
        error: no image `bulider:latest` in the store
         --> Dockerfile:3:13
          |
        3 | COPY --from=bulider a b
          |             ^^^^^^^
        hint: did you mean the stage `builder`?
    "#]],
    );
}

#[test]
fn a_further_context_replaces_an_image_and_a_stage() {
    let mut options = options(
        "FROM golang:1 AS build\nRUN b\nFROM alpine\nCOPY --from=build a /\nCOPY --from=data b /",
    );
    for (name, context) in [
        ("alpine", NamedContext::Image("bare".parse().unwrap())),
        ("build", NamedContext::Image("base".parse().unwrap())),
        ("data", NamedContext::Directory("/somewhere".into())),
    ] {
        options.contexts.insert(name.to_owned(), context);
    }
    check_with(
        &options,
        &expect![[r#"
        stage build
          from base:latest

        stage 1 (target)
          from bare:latest
           1 COPY --from=build a /
               from `build`: a -> /
           2 COPY --from=data b /
               from the context `data`: b -> /

        image
          env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
    "#]],
    );
}

#[test]
fn an_unknown_instruction_stops_the_build_with_the_near_one() {
    check_error(
        "FROM scratch\nRNU make\n",
        &expect![[r#"
        error: unknown instruction `RNU`
         --> Dockerfile:2:1
          |
        2 | RNU make
          | ^^^
        hint: did you mean `RUN`?
    "#]],
    );
}

#[test]
fn a_dockerfile_without_a_stage_is_an_error() {
    check_error(
        "ARG X=1\n",
        &expect![[r#"
            error: the Dockerfile has no `FROM`, so there is nothing to build
             --> Dockerfile:1:1
              |
            1 | ARG X=1
              | ^
            hint: add `FROM` and an image
        "#]],
    );
    check_error(
        "",
        &expect![[r#"
        error: the file holds no instructions
         --> Dockerfile:1:1
          |
        1 |
          | ^
        hint: begin with `FROM` and an image
    "#]],
    );
}

#[test]
fn running_for_another_processor_is_refused_and_copying_is_not() {
    let other = if Platform::host().architecture == "s390x" { "amd64" } else { "s390x" };
    let mut options = options("FROM scratch\nCOPY <<a /\nx\na\n");
    options.platforms = vec![Platform::new("linux", other, None)];
    assert!(plan_with(&options, &fake()).is_ok());
    options.dockerfile.text.push_str("RUN x\n");
    let text = message(&plan_with(&options, &fake()).unwrap_err());
    assert!(text.contains("has no way to execute programs of"), "{text}");
}

#[test]
fn a_base_for_another_platform_is_refused_if_one_was_asked_for_and_else_told() {
    let mut bases = fake();
    let other = config(r#"{"architecture":"s390x","os":"linux"}"#);
    bases.images.insert("other:latest".to_owned(), other);
    let mut options = options("FROM other\nCOPY <<a /\nx\na\n");
    let graph = plan_with(&options, &bases).unwrap();
    let [warning] = graph.warnings.as_slice() else { panic!("{:?}", graph.warnings) };
    assert!(warning.message.starts_with("the image `other:latest` is for `linux/s390x`"));
    assert_eq!(graph.stage(graph.target()).config.architecture, "s390x");
    options.platforms = vec!["linux/riscv64".parse().unwrap()];
    expect![[r#"
        error: the image `other:latest` is for `linux/s390x` and not for `linux/riscv64`
         --> Dockerfile:1:6
          |
        1 | FROM other
          |      ^^^^^
        hint: load or build `other:latest` for `linux/riscv64`, or leave the platform out
    "#]]
    .assert_eq(&message(&plan_with(&options, &bases).unwrap_err()));
    options.platforms = vec!["linux/s390x".parse().unwrap()];
    assert!(plan_with(&options, &bases).unwrap().warnings.is_empty());
}

#[test]
fn a_base_is_asked_for_once_and_only_when_needed() {
    let bases = fake();
    let options = options(
        "FROM base AS a\nFROM base AS b\nFROM bare\nCOPY --from=a x /\nCOPY --from=base y /",
    );
    plan_with(&options, &bases).unwrap();
    assert_eq!(*bases.asked.lock().unwrap(), ["bare:latest", "base:latest"]);
}
