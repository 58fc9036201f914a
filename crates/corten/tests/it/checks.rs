//! Questions about a Dockerfile: its checks, its targets, its parameters. Nothing is built.

use corten_testkit::context;
use expect_test::expect;

const FILE: &str = "\
# VERSION the version to take
ARG VERSION=1
# build where things are made
FROM scratch AS build
ARG NAME
COPY src$NAMES /out
# final the image
FROM scratch as final
COPY --from=build /out /
RUN --mount=type=secret,id=token,required=true true
CMD run
";

#[test]
fn a_check_shows_every_warning_at_its_place() {
    let context = context!();
    context.write("Dockerfile", FILE);
    let expected = expect![[r#"
        exit: 1
        --- stdout
        warning[UndefinedVar]: the variable `$NAMES` is used and not defined
         --> Dockerfile:6:1
          |
        6 | COPY src$NAMES /out
          | ^^^^^^^^^^^^^^^^^^^

        warning[FromAsCasing]: `as` and `FROM` are not in the same case
         --> Dockerfile:8:1
          |
        8 | FROM scratch as final
          | ^^^^^^^^^^^^^^^^^^^^^
        hint: write `AS`

        warning[JSONArgsRecommended]: `CMD` is not a JSON array: a shell is started, which does not pass signals on
          --> Dockerfile:11:1
           |
        11 | CMD run
           | ^^^^^^^
        hint: write `CMD ["program", "argument"]`

        3 warnings found
        --- stderr
    "#]];
    let whole = ["build", "--check", "."];
    let one = ["build", "--call=check", "--target", "final", "."];
    context.check(&whole, &expected);
    context.check(&one, &expected);
}

#[test]
fn a_question_makes_no_store() {
    let context = context!();
    context.write("Dockerfile", "FROM scratch\nCMD [\"run\"]\n");
    let root = context.work_dir().join("none");
    let name = root.to_str().expect("names of tests are text");
    context.run(&["--root", name, "build", "--check", "."]).success();
    assert!(!root.exists());
}

#[test]
fn a_clean_file_is_a_success() {
    let context = context!();
    context.write("Dockerfile", "# check=skip=JSONArgsRecommended\nFROM scratch\nCMD run\n");
    context.check(
        &["build", "--check", "."],
        &expect![[r#"
        exit: 0
        --- stdout
        no warnings found
        --- stderr
    "#]],
    );
    context.check(
        &["build", "--call", "check,format=json", "."],
        &expect![[r#"
        exit: 0
        --- stdout
        {
          "warnings": [],
          "sources": [
            {
              "filename": "Dockerfile",
              "language": "Dockerfile",
              "data": "IyBjaGVjaz1za2lwPUpTT05BcmdzUmVjb21tZW5kZWQKRlJPTSBzY3JhdGNoCkNNRCBydW4K"
            }
          ]
        }
        --- stderr
    "#]],
    );
}

#[test]
fn a_check_in_json_has_the_field_names_of_buildkit() {
    let context = context!();
    context.write("Dockerfile", "FROM scratch\nWORKDIR a \\\n\n\n");
    context.check(&["build", "--call=check,format=json", "."], &expect![[r#"
        exit: 1
        --- stdout
        {
          "warnings": [
            {
              "ruleName": "WorkdirRelativePath",
              "description": "the first WORKDIR is absolute, so that it does not depend on the base image",
              "detail": "the relative directory `a` depends on what the base image has set (begin with an absolute path)",
              "location": {
                "ranges": [
                  {
                    "start": {
                      "line": 2
                    },
                    "end": {
                      "line": 2
                    }
                  }
                ]
              }
            },
            {
              "ruleName": "NoEmptyContinuation",
              "description": "no empty lines stand inside an instruction",
              "detail": "an empty line stands inside an instruction (remove the empty line, or make it a comment)",
              "location": {
                "ranges": [
                  {
                    "start": {
                      "line": 4
                    },
                    "end": {
                      "line": 4
                    }
                  }
                ]
              }
            }
          ],
          "sources": [
            {
              "filename": "Dockerfile",
              "language": "Dockerfile",
              "data": "RlJPTSBzY3JhdGNoCldPUktESVIgYSBcCgoK"
            }
          ]
        }
        --- stderr
    "#]]);
}

#[test]
fn a_check_shows_what_keeps_the_file_from_being_built() {
    let context = context!();
    context.write("Dockerfile", "FROM scratch AS Big\nCOPPY a b\nMAINTAINER me\n");
    context.check(
        &["build", "--check", "."],
        &expect![[r#"
        exit: 1
        --- stdout
        warning[StageNameCasing]: the name of the stage `Big` is not in lower case
         --> Dockerfile:1:1
          |
        1 | FROM scratch AS Big
          | ^^^^^^^^^^^^^^^^^^^
        hint: write `big`

        error: unknown instruction `COPPY`
         --> Dockerfile:2:1
          |
        2 | COPPY a b
          | ^^^^^
        hint: did you mean `COPY`?

        1 warning found
        --- stderr
    "#]],
    );
    context.check(
        &["build", "--call=check,format=json", "."],
        &expect![[r#"
        exit: 1
        --- stdout
        {
          "warnings": [
            {
              "ruleName": "StageNameCasing",
              "description": "names of stages are in lower case",
              "detail": "the name of the stage `Big` is not in lower case (write `big`)",
              "location": {
                "ranges": [
                  {
                    "start": {
                      "line": 1
                    },
                    "end": {
                      "line": 1
                    }
                  }
                ]
              }
            }
          ],
          "sources": [
            {
              "filename": "Dockerfile",
              "language": "Dockerfile",
              "data": "RlJPTSBzY3JhdGNoIEFTIEJpZwpDT1BQWSBhIGIKTUFJTlRBSU5FUiBtZQo="
            }
          ],
          "buildError": {
            "message": "unknown instruction `COPPY`",
            "location": {
              "ranges": [
                {
                  "start": {
                    "line": 2
                  },
                  "end": {
                    "line": 2
                  }
                }
              ]
            }
          }
        }
        --- stderr
    "#]],
    );
    context.check(
        &["build", "--call=targets", "."],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: unknown instruction `COPPY`
         --> Dockerfile:2:1
          |
        2 | COPPY a b
          | ^^^^^
        hint: did you mean `COPY`?
    "#]],
    );
    context.write("Dockerfile", "FROM scratch\nCOPY --from=9 a b\n");
    context.check(
        &["build", "--check", "."],
        &expect![[r#"
        exit: 1
        --- stdout
        error: there is no stage 9: the file has 1
         --> Dockerfile:2:13
          |
        2 | COPY --from=9 a b
          |             ^

        --- stderr
    "#]],
    );
}

#[test]
fn an_image_that_is_not_here_is_no_mistake() {
    let context = context!();
    context.write("Dockerfile", "FROM not-here:1\nCOPY $SET_BY_IT /\nCMD [\"run\"]\n");
    context.check(
        &["build", "--check", "."],
        &expect![[r#"
        exit: 1
        --- stdout
        warning[UndefinedVar]: the variable `$SET_BY_IT` is used and not defined
         --> Dockerfile:2:1
          |
        2 | COPY $SET_BY_IT /
          | ^^^^^^^^^^^^^^^^^
          |
          = note: `not-here:1` is not here, so what it sets is not known

        1 warning found
        --- stderr
    "#]],
    );
}

#[test]
fn what_stops_the_checks_is_shown_whatever_the_base() {
    let context = context!();
    context.write("Dockerfile", "FROM not-here:1\nCOPY ${a:~b} /\nCMD run\n");
    context.check(
        &["build", "--check", "."],
        &expect![[r#"
        exit: 1
        --- stdout
        warning[UndefinedVar]: the variable `$a` is used and not defined
         --> Dockerfile:2:1
          |
        2 | COPY ${a:~b} /
          | ^^^^^^^^^^^^^^
          |
          = note: `not-here:1` is not here, so what it sets is not known

        error: unsupported modifier `:~` in a substitution
         --> Dockerfile:2:9
          |
        2 | COPY ${a:~b} /
          |         ^^^^

        1 warning found
        --- stderr
    "#]],
    );
}

#[test]
fn what_is_ignored_and_copied_is_noticed() {
    let context = context!();
    context.write("Dockerfile", "FROM scratch\nCOPY notes.md other.md /\n");
    context.write(".dockerignore", "notes.md\n");
    context.check(
        &["build", "--check", "."],
        &expect![[r#"
        exit: 1
        --- stdout
        warning[CopyIgnoredFile]: `COPY` of `notes.md`, which is excluded by .dockerignore
         --> Dockerfile:2:1
          |
        2 | COPY notes.md other.md /
          | ^^^^^^^^^^^^^^^^^^^^^^^^
        hint: take it out of the ignore file, or do not copy it

        1 warning found
        --- stderr
    "#]],
    );
    context.write("Dockerfile.dockerignore", "other.md\n");
    context.check(
        &["build", "--check", "."],
        &expect![[r#"
        exit: 1
        --- stdout
        warning[CopyIgnoredFile]: `COPY` of `other.md`, which is excluded by .dockerignore
         --> Dockerfile:2:1
          |
        2 | COPY notes.md other.md /
          | ^^^^^^^^^^^^^^^^^^^^^^^^
        hint: take it out of the ignore file, or do not copy it

        1 warning found
        --- stderr
    "#]],
    );
}

#[test]
fn options_come_from_a_build_argument_too() {
    let context = context!();
    context.write("Dockerfile", "# check=error=true\nFROM scratch\nCMD run\n");
    let skip = "BUILDKIT_DOCKERFILE_CHECK=skip=JSONArgsRecommended";
    context.check(
        &["build", "--check", "--build-arg", skip, "."],
        &expect![[r#"
        exit: 0
        --- stdout
        no warnings found
        --- stderr
    "#]],
    );
    let wrong = "BUILDKIT_DOCKERFILE_CHECK=colour=red";
    context.check(&["build", "--check", "--build-arg", wrong, "."], &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: `colour=red` is no check option
        hint: the options are `skip=RULE,…`, `experimental=RULE,…` and `error=true`, with `;` between them
    "#]]);
}

#[test]
fn error_makes_the_build_fail_before_it_begins() {
    let context = context!();
    context.write("Dockerfile", "# check=error=true\nFROM scratch\nCMD run\n");
    context.check(&["build", "."], &expect![[r#"
        exit: 1
        --- stdout
        --- stderr
        warning[JSONArgsRecommended]: `CMD` is not a JSON array: a shell is started, which does not pass signals on
         --> Dockerfile:3:1
          |
        3 | CMD run
          | ^^^^^^^
        hint: write `CMD ["program", "argument"]`
        error: the checks of the Dockerfile: 1 warning found, and `error=true` refuses to build
        hint: correct the file, or build with `--build-arg BUILDKIT_DOCKERFILE_CHECK=error=false` or `skip=RULE`
    "#]]);
}

#[test]
fn a_build_mentions_its_warnings_at_the_end() {
    let context = context!();
    context.write("Dockerfile", "FROM scratch\nCMD run\n");
    let output = context.run(&["build", "."]);
    let stderr = output.stderr();
    let end = stderr.split_once("warning: ").map_or(stderr, |(_, end)| end);
    expect![[r#"
        the checks of the Dockerfile: 1 warning found
         - JSONArgsRecommended: `CMD` is not a JSON array: a shell is started, which does not pass signals on (line 2)
        hint: `corten build --check` shows them with their places
    "#]].assert_eq(end);
    let output = context.run(&["build", "--quiet", "."]).success();
    assert_eq!(output.stderr(), "");
    let output = context.run(&["build", "--progress=json", "."]).success();
    assert!(output.stderr().contains("\"code\":\"JSONArgsRecommended\""), "{}", output.stderr());
}

#[test]
fn targets_are_listed() {
    let context = context!();
    context.write("Dockerfile", FILE);
    context.check(
        &["build", "--call=targets", "."],
        &expect![[r#"
        exit: 0
        --- stdout
        TARGET            DESCRIPTION
        build             where things are made
        final (default)   the image
        --- stderr
    "#]],
    );
    context.check(&["build", "--call=targets,format=json", "."], &expect![[r#"
        exit: 0
        --- stdout
        {
          "targets": [
            {
              "name": "build",
              "description": "where things are made",
              "base": "scratch",
              "location": {
                "ranges": [
                  {
                    "start": {
                      "line": 4
                    },
                    "end": {
                      "line": 4
                    }
                  }
                ]
              }
            },
            {
              "name": "final",
              "default": true,
              "description": "the image",
              "base": "scratch",
              "location": {
                "ranges": [
                  {
                    "start": {
                      "line": 8
                    },
                    "end": {
                      "line": 8
                    }
                  }
                ]
              }
            }
          ],
          "sources": [
            "IyBWRVJTSU9OIHRoZSB2ZXJzaW9uIHRvIHRha2UKQVJHIFZFUlNJT049MQojIGJ1aWxkIHdoZXJlIHRoaW5ncyBhcmUgbWFkZQpGUk9NIHNjcmF0Y2ggQVMgYnVpbGQKQVJHIE5BTUUKQ09QWSBzcmMkTkFNRVMgL291dAojIGZpbmFsIHRoZSBpbWFnZQpGUk9NIHNjcmF0Y2ggYXMgZmluYWwKQ09QWSAtLWZyb209YnVpbGQgL291dCAvClJVTiAtLW1vdW50PXR5cGU9c2VjcmV0LGlkPXRva2VuLHJlcXVpcmVkPXRydWUgdHJ1ZQpDTUQgcnVuCg=="
          ]
        }
        --- stderr
    "#]]);
}

#[test]
fn an_outline_lists_what_a_target_takes() {
    let context = context!();
    context.write("Dockerfile", FILE);
    let given = "NAME=me";
    context.check(
        &["build", "--call=outline", "--build-arg", given, "."],
        &expect![[r#"
        exit: 0
        --- stdout
        TARGET: final
        DESCRIPTION: the image

        BUILD ARG   VALUE   DESCRIPTION
        NAME        me

        SECRET   REQUIRED
        token    true

        --- stderr
    "#]],
    );
    context
        .write("Agents", "FROM scratch\nRUN --mount=type=ssh --mount=type=secret,id=token true\n");
    context.check(
        &["build", "--call=outline", "-f", "Agents", "."],
        &expect![[r#"
        exit: 0
        --- stdout
        SECRET   REQUIRED
        token

        SSH       REQUIRED
        default

        --- stderr
    "#]],
    );
    context.check(&["build", "--call=outline,format=json", "."], &expect![[r#"
        exit: 0
        --- stdout
        {
          "name": "final",
          "description": "the image",
          "args": [
            {
              "name": "NAME",
              "location": {
                "ranges": [
                  {
                    "start": {
                      "line": 5
                    },
                    "end": {
                      "line": 5
                    }
                  }
                ]
              }
            }
          ],
          "secrets": [
            {
              "name": "token",
              "required": true,
              "location": {
                "ranges": [
                  {
                    "start": {
                      "line": 10
                    },
                    "end": {
                      "line": 10
                    }
                  }
                ]
              }
            }
          ],
          "sources": [
            "IyBWRVJTSU9OIHRoZSB2ZXJzaW9uIHRvIHRha2UKQVJHIFZFUlNJT049MQojIGJ1aWxkIHdoZXJlIHRoaW5ncyBhcmUgbWFkZQpGUk9NIHNjcmF0Y2ggQVMgYnVpbGQKQVJHIE5BTUUKQ09QWSBzcmMkTkFNRVMgL291dAojIGZpbmFsIHRoZSBpbWFnZQpGUk9NIHNjcmF0Y2ggYXMgZmluYWwKQ09QWSAtLWZyb209YnVpbGQgL291dCAvClJVTiAtLW1vdW50PXR5cGU9c2VjcmV0LGlkPXRva2VuLHJlcXVpcmVkPXRydWUgdHJ1ZQpDTUQgcnVuCg=="
          ]
        }
        --- stderr
    "#]]);
    context.check(
        &["build", "--call=outline", "--target=biuld", "."],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: there is no stage `biuld` to build
         --> Dockerfile:8:1
          |
        8 | FROM scratch as final
          | ^^^^^^^^^^^^^^^^^^^^^
        hint: did you mean `build`?
    "#]],
    );
}

#[test]
fn a_call_that_is_not_known_is_refused() {
    let context = context!();
    context.write("Dockerfile", FILE);
    context.check(
        &["build", "--call=chekc", "."],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: `--call chekc` is not known
        hint: write `check`, `outline`, `targets` or `build`, and `,format=json` after it for JSON
    "#]],
    );
}

#[test]
fn every_platform_is_checked_and_what_holds_for_one_alone_says_so() {
    let context = context!();
    // The stage of one platform has a variable that the other has not.
    let file = "FROM scratch AS amd64\nENV WHERE=/usr\nFROM scratch AS arm64\n\
                FROM $TARGETARCH\nCOPY x $WHERE/x\nMAINTAINER me\n";
    context.write("Dockerfile", file);
    context.write("x", "");
    let check = |platforms| ["build", "--check", "--platform", platforms, "."];
    context.check(
        &check("linux/amd64,linux/arm64"),
        &expect![[r#"
        exit: 1
        --- stdout
        warning[UndefinedVar]: the variable `$WHERE` is used and not defined
         --> Dockerfile:5:1
          |
        5 | COPY x $WHERE/x
          | ^^^^^^^^^^^^^^^
          |
          = note: for linux/arm64

        warning[MaintainerDeprecated]: `MAINTAINER` is deprecated in favour of a label
         --> Dockerfile:6:1
          |
        6 | MAINTAINER me
          | ^^^^^^^^^^^^^
        hint: write `LABEL org.opencontainers.image.authors="name"`

        2 warnings found
        --- stderr
    "#]],
    );
    let output = context.run(&check("linux/arm64,linux/amd64")).code(1);
    assert_eq!(output.stdout().matches("for linux/arm64").count(), 1, "{}", output.stdout());
    let output = context.run(&check("linux/amd64")).code(1);
    assert!(!output.stdout().contains("$WHERE"), "{}", output.stdout());
}
