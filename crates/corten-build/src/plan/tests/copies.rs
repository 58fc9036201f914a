//! `COPY` and `ADD`: sources, destinations, flags.

use super::*;

#[test]
fn destinations_are_absolute_and_keep_their_slash() {
    check(
        "FROM base\nCOPY a .\nCOPY a ./\nCOPY a b\nCOPY a b/\nCOPY a /c/../d\nCOPY a /e/.\nCOPY a ..\nCOPY a /",
        &expect![[r#"
            stage 0 (target)
              from base:latest
               1 COPY a .
                   from the build context: a -> /srv/
               2 COPY a ./
                   from the build context: a -> /srv/
               3 COPY a b
                   from the build context: a -> /srv/b
               4 COPY a b/
                   from the build context: a -> /srv/b/
               5 COPY a /c/../d
                   from the build context: a -> /d
               6 COPY a /e/.
                   from the build context: a -> /e/
               7 COPY a ..
                   from the build context: a -> /
               8 COPY a /
                   from the build context: a -> /

            image
              env PATH=/bin
              env LANG=C
              user app
              workdir /srv
              cmd ["old"]
              label l=1
        "#]],
    );
}

#[test]
fn the_history_is_that_of_buildkit() {
    check_config(
        "FROM scratch\nARG D=/d\nCOPY --chown=1:2 --chmod=u+x a b* $D/\nADD --link x /y\nCOPY --parents ./a/*.txt /z/\nCOPY <<one <<two /h/\n1\none\n2\ntwo\n",
        &expect![[r#"
            {"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"WorkingDir":"/"}
              ARG D=/d
            * COPY --chown=1:2 --chmod=u+x a b* /d/ # buildkit
            * ADD x /y # buildkit
            * COPY --parents ./a/*.txt /z/ # buildkit
            * COPY <<one <<two /h/ # buildkit
        "#]],
    );
}

#[test]
fn here_documents_are_expanded_unless_quoted() {
    let graph = plan(
        "FROM scratch\nARG A=v\nCOPY <<one <<'two' <<-three /h/\n$A \"q\"\none\n$A\ntwo\n\ttab $A\nthree\n",
    )
    .unwrap();
    let Op::Copy(copy) = &graph.stages[0].steps[0].op else { panic!("a COPY") };
    let files: Vec<String> =
        copy.inline.iter().map(|file| format!("{}={:?}", file.name, file.content)).collect();
    expect![[r#"
        one="v \"q\"\n"
        two="$A\n"
        three="tab v\n""#]]
    .assert_eq(&files.join("\n"));
}

#[test]
fn what_is_fetched_is_planned_without_its_credentials() {
    check(
        "FROM scratch\n\
         ADD https://user:secret@example.com/x.tgz git@example.com:a/b.git#v1:sub c /d/",
        &expect![[r#"
            stage 0 (target)
              from scratch
               1 ADD https://example.com/x.tgz git@example.com:a/b.git#v1:sub c /d/
                   fetched https://example.com/x.tgz -> /d/
                   fetched git@example.com:a/b.git#v1:sub -> /d/
                   from the build context: c -> /d/

            image
              env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
              workdir /
        "#]],
    );
}

#[test]
fn addresses_and_checksums_are_checked() {
    check_error(
        "FROM scratch\nADD https://example.com/a.git#:../x /",
        &expect![[r#"
            error: failed to use `https://example.com/a.git#:../x`: the directory `../x` leads out of the repository
             --> Dockerfile:2:5
              |
            2 | ADD https://example.com/a.git#:../x /
              |     ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
        "#]],
    );
    check_error(
        "FROM scratch\nADD --checksum=sha256:1 https://example.com/a /",
        &expect![[r#"
            error: failed to use `https://example.com/a`: `1` is not a sha256 digest: expected 64 lower-case hexadecimal digits
             --> Dockerfile:2:16
              |
            2 | ADD --checksum=sha256:1 https://example.com/a /
              |                ^^^^^^^^
        "#]],
    );
    check_error(
        "FROM scratch\nADD --checksum=main https://example.com/a.git /",
        &expect![[r#"
            error: failed to use `https://example.com/a.git`: `main` is no commit: 7 to 64 hexadecimal digits are needed
             --> Dockerfile:2:16
              |
            2 | ADD --checksum=main https://example.com/a.git /
              |                ^^^^
        "#]],
    );
    check_error(
        "FROM scratch\nADD --checksum=abcdef0 https://example.com/a.git b /",
        &expect![[r#"
            error: `--checksum` needs exactly one source
             --> Dockerfile:2:16
              |
            2 | ADD --checksum=abcdef0 https://example.com/a.git b /
              |                ^^^^^^^
        "#]],
    );
    check_error(
        "FROM scratch\nCOPY http://example.com/x /",
        &expect![[r#"
        error: `COPY` cannot take a URL
         --> Dockerfile:2:6
          |
        2 | COPY http://example.com/x /
          |      ^^^^^^^^^^^^^^^^^^^^
        hint: `ADD` is the instruction for it
    "#]],
    );
    check_error(
        "FROM scratch\nADD --checksum=sha256:1 a /",
        &expect![[r#"
        error: `--checksum` is only for sources that are fetched
         --> Dockerfile:2:16
          |
        2 | ADD --checksum=sha256:1 a /
          |                ^^^^^^^^
    "#]],
    );
}

#[test]
fn modes_are_checked() {
    check_error(
        "FROM scratch\nCOPY --chmod=999 a /",
        &expect![[r#"
        error: invalid `--chmod` value `999`: an octal mode is between 0 and 07777
         --> Dockerfile:2:14
          |
        2 | COPY --chmod=999 a /
          |              ^^^
    "#]],
    );
    check_error(
        "FROM scratch\nCOPY --chmod=u+q a /",
        &expect![[r#"
        error: invalid `--chmod` value `u+q`
         --> Dockerfile:2:14
          |
        2 | COPY --chmod=u+q a /
          |              ^^^
    "#]],
    );
}
