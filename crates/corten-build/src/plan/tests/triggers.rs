//! `ONBUILD` of bases and of stages.

use super::*;

#[test]
fn triggers_of_the_base_come_first() {
    check(
        "FROM onbuild\nARG Y=1\nRUN after",
        &expect![[r#"
        stage 0 (target)
          from onbuild:latest
           1 COPY . /app
               from the build context: . -> /app
           2 RUN make z
               exec ["/bin/sh", "-c", "make $X"] in /
           3 RUN after
               exec ["/bin/sh", "-c", "after"] in /

        image
          env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
          env X=z
    "#]],
    );
}

#[test]
fn triggers_of_a_stage_run_in_its_children_only() {
    check(
        "FROM bare AS a\nONBUILD RUN triggered\nRUN own\nFROM a AS b\nFROM b\nRUN last",
        &expect![[r#"
            stage a
              from bare:latest
               1 RUN own
                   exec ["/bin/sh", "-c", "own"] in /

            stage b
              from stage a
               2 RUN triggered
                   exec ["/bin/sh", "-c", "triggered"] in /

            stage 2 (target)
              from stage b
               3 RUN last
                   exec ["/bin/sh", "-c", "last"] in /

            image
              env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
        "#]],
    );
}

#[test]
fn triggers_are_kept_in_the_image_that_sets_them() {
    check_config(
        "FROM onbuild\nONBUILD   COPY  a b",
        &expect![[r#"
        {"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","X=z"],"OnBuild":["COPY  a b"]}
        * COPY . /app # buildkit
          ENV X=z
        * RUN /bin/sh -c make $X # buildkit
    "#]],
    );
}

#[test]
fn a_broken_trigger_is_told_at_from() {
    let mut bases = fake();
    let broken =
        config(r#"{"architecture":"amd64","os":"linux","config":{"OnBuild":["COPY --nope a b"]}}"#);
    bases.images.insert("broken:latest".to_owned(), broken);
    let error = plan_with(&options("FROM broken\nRUN x"), &bases).unwrap_err();
    expect![[r#"
        error: `COPY` has no flag `--nope`
         --> Dockerfile:1:1
          |
        1 | FROM broken
          | ^^^^^^^^^^^
          |
          = note: in the trigger `COPY --nope a b` of the base image
    "#]]
    .assert_eq(&message(&error));
}
