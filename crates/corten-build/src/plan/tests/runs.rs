//! `RUN`: shells, here-documents, mounts, networks.

use super::*;

fn run(text: &str) -> String {
    let graph = plan(text).unwrap();
    let Op::Run(run) = &graph.stages[0].steps.last().unwrap().op else { panic!("a RUN") };
    format!("{:?} script={:?}", run.args, run.script.as_ref().map(|script| &script.content))
}

#[test]
fn here_documents_are_commands_scripts_or_left_to_the_shell() {
    expect![[r#"["/bin/sh", "-c", "echo a\necho b\n"] script=None"#]]
        .assert_eq(&run("FROM bare\nRUN <<EOF\necho a\necho b\nEOF\n"));
    expect![[r#"["/bin/sh", "-c", "echo a\n"] script=None"#]]
        .assert_eq(&run("FROM bare\nRUN <<-EOF\n\techo a\n\tEOF\n"));
    expect![[
        r##"["/bin/sh", "-c", "/dev/pipes/E"] script=Some("#!/usr/bin/python\nprint(1)\n")"##
    ]]
    .assert_eq(&run("FROM bare\nRUN <<'E'\n#!/usr/bin/python\nprint(1)\nE\n"));
    expect![[r#"["/bin/sh", "-c", "<<EOF python3 -\nprint(1)\nEOF"] script=None"#]]
        .assert_eq(&run("FROM bare\nRUN <<EOF python3 -\nprint(1)\nEOF\n"));
    expect![[r#"["/bin/sh", "-c", "cat <<A >x <<B >y\n1\nA\n2\nB"] script=None"#]]
        .assert_eq(&run("FROM bare\nRUN cat <<A >x <<B >y\n1\nA\n2\nB\n"));
}

#[test]
fn the_exec_form_is_taken_as_it_is() {
    expect![[r#"["/bin/x", "$A"] script=None"#]]
        .assert_eq(&run("FROM bare\nRUN [\"/bin/x\", \"$A\"]"));
}

#[test]
fn the_history_has_the_arguments_that_a_command_saw() {
    check_config(
        "FROM bare\nRUN one\nARG A=1\nARG B\nENV A=2\nRUN two\nARG A=3\nRUN three",
        &expect![[r#"
            {"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","A=2"]}
            * RUN /bin/sh -c one # buildkit
              ARG A=1
              ARG B
              ENV A=2
            * RUN |2 A=2 B= /bin/sh -c two # buildkit
              ARG A=3
            * RUN |2 A=3 B= /bin/sh -c three # buildkit
        "#]],
    );
}

#[test]
fn all_kinds_of_mounts_are_understood() {
    check(
        "FROM bare AS a\nRUN x\nFROM base\nARG ID=i\nRUN --mount=target=. \
         --mount=type=bind,from=a,source=/s,target=/t,rw --mount=type=cache,target=/c,id=$ID,sharing=locked \
         --mount=type=tmpfs,target=/m,size=1m --mount=type=secret,id=tok \
         --mount=type=secret,id=tok,env=TOKEN --network=none make",
        &expect![[r#"
            stage a
              from bare:latest
               1 RUN x
                   exec ["/bin/sh", "-c", "x"] in /

            stage 1 (target)
              from base:latest
               2 RUN --mount=target=. --mount=type=bind,from=a,source=/s,target=/t,rw --mount=type=cache,target=/c,id=i,sharing=locked --mount=type=tmpfs,target=/m,size=1m --mount=type=secret,id=tok --mount=type=secret,id=tok,env=TOKEN --network=none make
                   exec ["/bin/sh", "-c", "make"] in /srv
                   mount /srv (bind of the build context)
                   mount /t (bind of `a`)
                   mount /c (cache i)
                   mount /m (tmpfs)
                   mount /run/secrets/tok (secret tok)
                   variable TOKEN (secret tok)

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
fn what_this_version_does_not_do_is_said() {
    check_error(
        "FROM bare\nRUN --security=insecure x",
        &expect![[r#"
        error: `RUN --security=insecure` is not allowed
         --> Dockerfile:2:16
          |
        2 | RUN --security=insecure x
          |                ^^^^^^^^
        hint: if you trust this Dockerfile, add `--allow security.insecure`
    "#]],
    );
    check_error(
        "FROM bare\nRUN --network=host x",
        &expect![[r#"
        error: `RUN --network=host` is not allowed
         --> Dockerfile:2:15
          |
        2 | RUN --network=host x
          |               ^^^^
        hint: if you trust this Dockerfile, add `--allow network.host`
    "#]],
    );
    check_error(
        "FROM bare\nRUN --device=nvidia.com/gpu,required x",
        &expect![[r#"
        error: the device `nvidia.com/gpu` is not allowed
         --> Dockerfile:2:14
          |
        2 | RUN --device=nvidia.com/gpu,required x
          |              ^^^^^^^^^^^^^^^^^^^^^^^
        hint: if you trust this Dockerfile, add `--allow device=nvidia.com/gpu`
    "#]],
    );
    check_error(
        "FROM bare\nRUN --mount=type=cache,target=/ x",
        &expect![[r#"
        error: a mount cannot hide the whole file system: its target is `/`
         --> Dockerfile:2:13
          |
        2 | RUN --mount=type=cache,target=/ x
          |             ^^^^^^^^^^^^^^^^^^^
    "#]],
    );
    check_error(
        "FROM bare\nRUN --mount=type=cache x",
        &expect![[r#"
        error: the mount has no target
         --> Dockerfile:2:13
          |
        2 | RUN --mount=type=cache x
          |             ^^^^^^^^^^
        hint: add `target=/path`
    "#]],
    );
}
