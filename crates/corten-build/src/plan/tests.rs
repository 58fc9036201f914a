use std::collections::BTreeMap;
use std::sync::Mutex;

use corten_diag::{SourceFile, render};
use corten_oci::digest::{Digest, ImageId};
use corten_oci::image::ImageConfig;
use corten_oci::platform::Platform;
use corten_oci::reference::Reference;
use corten_store::Image;
use expect_test::{Expect, expect};

use crate::error::BuildError;
use crate::graph::{Graph, Op};
use crate::options::{BuildOptions, Context, DockerfileText, NamedContext};
use crate::traits::{BaseError, Bases};

/// Images by name, without layers, and which of them were asked for.
#[derive(Default)]
struct Fake {
    images: BTreeMap<String, ImageConfig>,
    asked: Mutex<Vec<String>>,
}

impl Bases for Fake {
    fn base(&self, image: &Reference, _platform: &Platform) -> Result<Image, BaseError> {
        self.asked.lock().unwrap().push(image.familiar());
        let Some(config) = self.images.get(&image.familiar()) else {
            let message = format!("no image `{}` in the store", image.familiar());
            return Err(BaseError::new(message, None));
        };
        Ok(Image {
            id: ImageId(Digest::of(b"config")),
            manifest: Digest::of(b"manifest"),
            config: config.clone(),
            layers: Vec::new(),
            annotations: BTreeMap::new(),
            stored_at: 0,
        })
    }
}

fn config(json: &str) -> ImageConfig {
    ImageConfig::parse(json.as_bytes()).unwrap()
}

/// `base:latest` is an ordinary image, `bare:latest` says nothing, `onbuild:latest` has triggers.
fn fake() -> Fake {
    let platform = Platform::host();
    let with = |rest: &str| {
        config(&format!(
            r#"{{"architecture":"{}","os":"linux","created":"2024-01-02T03:04:05Z",{rest}}}"#,
            platform.architecture
        ))
    };
    let mut images = BTreeMap::new();
    images.insert(
        "base:latest".to_owned(),
        with(
            r#""author":"a","config":{"Env":["PATH=/bin","LANG=C"],"WorkingDir":"/srv","User":"app",
            "Cmd":["old"],"Labels":{"l":"1"}},"history":[{"created_by":"base","empty_layer":true}]"#,
        ),
    );
    images.insert("bare:latest".to_owned(), with(r#""config":{}"#));
    images.insert(
        "onbuild:latest".to_owned(),
        with(r#""config":{"OnBuild":["COPY . /app","ENV X=${Y:-z}","RUN make $X"]}"#),
    );
    Fake { images, ..Fake::default() }
}

fn options(text: &str) -> BuildOptions {
    BuildOptions::new(Context::Empty, DockerfileText::inline("Dockerfile", text))
}

fn plan_with(options: &BuildOptions, bases: &Fake) -> Result<Graph, BuildError> {
    let dockerfile = corten_dockerfile::parse(&options.dockerfile.text);
    super::plan(&dockerfile, options, Some(bases))
}

fn plan(text: &str) -> Result<Graph, BuildError> {
    plan_with(&options(text), &fake())
}

fn shown(graph: &Graph) -> String {
    let text = graph.to_string();
    text.split_once('\n').map_or(text.clone(), |(_, rest)| rest.trim_start().to_owned())
}

/// The graph without the platform of the machine.
fn check(text: &str, expected: &Expect) {
    expected.assert_eq(&shown(&plan(text).unwrap()));
}

fn check_with(options: &BuildOptions, expected: &Expect) {
    expected.assert_eq(&shown(&plan_with(options, &fake()).unwrap()));
}

fn message(error: &BuildError) -> String {
    let Some(diagnosed) = error.diagnosed() else { return error.to_string() };
    let source: &SourceFile = &diagnosed.source;
    diagnosed.diagnostics.iter().map(|d| render::full(d, Some(source), false)).collect()
}

fn check_error(text: &str, expected: &Expect) {
    expected.assert_eq(&message(&plan(text).unwrap_err()));
}

/// The configuration of the target: all fields, then the history.
fn check_config(text: &str, expected: &Expect) {
    expected.assert_eq(&config_text(&plan(text).unwrap()));
}

fn config_text(graph: &Graph) -> String {
    let config = &graph.stage(graph.target()).config;
    let json = corten_oci::json::canonical(&config.config);
    let mut text = format!("{}\n", String::from_utf8(json).unwrap());
    for entry in &config.history {
        let mark = if entry.empty_layer { " " } else { "*" };
        let by = entry.created_by.as_deref().unwrap_or_default();
        text.push_str(&format!("{mark} {by}\n"));
    }
    text
}

mod arguments {
    use super::*;

    #[test]
    fn a_global_argument_reaches_from_and_stages_that_declare_it() {
        check(
            "ARG NAME=base\nARG OTHER=$NAME-x\nFROM ${NAME}\nARG NAME\nARG OTHER\nRUN echo $NAME $OTHER",
            &expect![[r#"
                stage 0 (target)
                  from base:latest
                   1 RUN echo base base-x
                       exec ["/bin/sh", "-c", "echo $NAME $OTHER"] in /srv

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
    fn a_stage_does_not_see_a_global_argument_that_it_does_not_declare() {
        check_config(
            "ARG A=1\nFROM scratch\nENV B=x$A",
            &expect![[r#"
            {"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","B=x"],"WorkingDir":"/"}
              ENV B=x
        "#]],
        );
    }

    #[test]
    fn a_build_argument_beats_defaults_and_is_not_expanded() {
        let mut options = options("ARG A=1\nFROM scratch\nARG A=2\nARG B=$A\nENV C=$A$B");
        options.build_args.insert("A".to_owned(), "${x}".to_owned());
        let graph = plan_with(&options, &fake()).unwrap();
        expect![[r#"
            {"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","C=${x}${x}"],"WorkingDir":"/"}
              ARG A=${x}
              ARG B=${x}
              ENV C=${x}${x}
        "#]]
        .assert_eq(&config_text(&graph));
    }

    #[test]
    fn the_last_of_arg_and_env_wins() {
        check_config(
            "FROM scratch\nARG A=1\nENV A=2\nLABEL l=$A",
            &expect![[r#"
            {"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","A=2"],"WorkingDir":"/","Labels":{"l":"2"}}
              ARG A=1
              ENV A=2
              LABEL l=2
        "#]],
        );
        check_config(
            "FROM scratch\nENV A=2\nARG A=1\nLABEL l=$A",
            &expect![[r#"
            {"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","A=2"],"WorkingDir":"/","Labels":{"l":"1"}}
              ENV A=2
              ARG A=1
              LABEL l=1
        "#]],
        );
    }

    #[test]
    fn pairs_of_one_env_do_not_see_each_other() {
        check_config(
            "FROM scratch\nENV A=1\nENV A=2 B=$A\nLABEL l=$A$B",
            &expect![[r#"
            {"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","A=2","B=1"],"WorkingDir":"/","Labels":{"l":"21"}}
              ENV A=1
              ENV A=2 B=1
              LABEL l=21
        "#]],
        );
    }

    #[test]
    fn definitions_of_one_arg_see_each_other() {
        check_config(
            "FROM scratch\nARG A=1 B=${A}2\nLABEL l=$B",
            &expect![[r#"
            {"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"WorkingDir":"/","Labels":{"l":"12"}}
              ARG A=1 B=12
              LABEL l=12
        "#]],
        );
    }

    #[test]
    fn platform_arguments_are_there_when_they_are_declared() {
        let mut options = options(
            "FROM scratch\nARG TARGETOS TARGETARCH TARGETVARIANT TARGETSTAGE TARGETPLATFORM\n\
             LABEL l=$TARGETOS,$TARGETARCH,$TARGETVARIANT,$TARGETSTAGE,$TARGETPLATFORM u=$BUILDARCH",
        );
        options.platforms = vec!["linux/arm/v6".parse().unwrap()];
        let graph = plan_with(&options, &fake()).unwrap();
        let labels = &graph.stage(graph.target()).config.config.labels;
        assert_eq!(labels["l"], "linux,arm,v6,default,linux/arm/v6");
        assert_eq!(labels["u"], "");
    }

    #[test]
    fn a_stage_that_continues_another_keeps_its_arguments() {
        check_config(
            "FROM scratch AS a\nARG X=1\nENV E=e\nFROM a\nRUN echo $X\nLABEL l=$X$E",
            &expect![[r#"
                {"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","E=e"],"WorkingDir":"/","Labels":{"l":"1e"}}
                  ARG X=1
                  ENV E=e
                * RUN |1 X=1 /bin/sh -c echo $X # buildkit
                  LABEL l=1e
            "#]],
        );
    }

    #[test]
    fn arguments_that_nobody_takes_are_told() {
        let mut options =
            options("ARG ONE=1\nFROM scratch AS x\nARG VERSION\nFROM scratch\nARG USED");
        for name in ["VERSIN", "VERSION", "USED", "HTTP_PROXY", "SOURCE_DATE_EPOCH"] {
            options.build_args.insert(name.to_owned(), "1".to_owned());
        }
        options.build_args.insert("ELSE".to_owned(), String::new());
        let graph = plan_with(&options, &fake()).unwrap();
        let warnings: Vec<String> = graph
            .warnings
            .iter()
            .map(|w| format!("{} ({})", w.message, w.hint.clone().unwrap_or_default()))
            .collect();
        expect![[r#"
            the build argument `ELSE` is declared nowhere (declare it with `ARG ELSE`)
            the build argument `VERSIN` is declared nowhere (did you mean `VERSION`?)
            the build argument `VERSION` is not used by what is built ()"#]]
        .assert_eq(&warnings.join("\n"));
    }

    #[test]
    fn a_proxy_argument_is_neither_in_the_history_nor_in_the_environment() {
        let mut options = options("FROM scratch\nRUN x");
        options.build_args.insert("HTTP_PROXY".to_owned(), "http://p".to_owned());
        let graph = plan_with(&options, &fake()).unwrap();
        assert!(!config_text(&graph).contains("http://p"));
        let Op::Run(run) = &graph.stages[0].steps[0].op else { panic!("a RUN") };
        assert!(run.env.iter().all(|(name, _)| name == "PATH"), "{:?}", run.env);
    }

    #[test]
    fn what_cannot_be_expanded_is_told_where_it_stands() {
        check_error(
            "FROM scratch\nENV A=${B:?need B}",
            &expect![[r#"
            error: expected `name=value`, found `B}`
             --> Dockerfile:2:17
              |
            2 | ENV A=${B:?need B}
              |                 ^^
            hint: quote a value that has blanks in it
        "#]],
        );
        check_error(
            "ARG X\nFROM ${X}",
            &expect![[r#"
            error: the base image `${X}` expands to nothing
             --> Dockerfile:2:6
              |
            2 | FROM ${X}
              |      ^^^^
            hint: declare the argument before the first `FROM` and give it a value
        "#]],
        );
        check_error(
            "FROM scratch\nLABEL a=b c=${",
            &expect![[r#"
            error: syntax error: missing `}`
             --> Dockerfile:2:13
              |
            2 | LABEL a=b c=${
              |             ^^
        "#]],
        );
    }
}

mod stages {
    use super::*;

    #[test]
    fn only_what_the_target_needs_is_planned() {
        let text =
            "FROM base AS a\nRUN a\nFROM missing AS b\nRUN b\nFROM scratch\nCOPY --from=a /x /y";
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
}

mod triggers {
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
        let broken = config(
            r#"{"architecture":"amd64","os":"linux","config":{"OnBuild":["COPY --nope a b"]}}"#,
        );
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
}

mod configuration {
    use super::*;

    #[test]
    fn an_image_from_scratch_says_what_buildkit_says() {
        check_config(
            "FROM scratch",
            &expect![[r#"
            {"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"WorkingDir":"/"}
        "#]],
        );
    }

    #[test]
    fn a_base_is_inherited_and_changed() {
        check_config(
            "FROM base\nENV LANG=de A=\"b c\"\nLABEL l=2 m=\"x y\"\nUSER 1:2\nWORKDIR a\nWORKDIR ../b\n",
            &expect![[r#"
                {"User":"1:2","Env":["PATH=/bin","LANG=de","A=b c"],"Cmd":["old"],"WorkingDir":"/srv/b","Labels":{"l":"2","m":"x y"}}
                  base
                  ENV LANG=de A=b c
                  LABEL l=2 m=x y
                  USER 1:2
                * WORKDIR /srv/a
                * WORKDIR /srv/b
            "#]],
        );
    }

    #[test]
    fn a_new_entry_point_resets_an_inherited_command_only() {
        check_config(
            "FROM base\nENTRYPOINT [\"/e\"]",
            &expect![[r#"
            {"User":"app","Env":["PATH=/bin","LANG=C"],"Entrypoint":["/e"],"WorkingDir":"/srv","Labels":{"l":"1"}}
              base
              ENTRYPOINT ["/e"]
        "#]],
        );
        check_config(
            "FROM base\nCMD [\"c\"]\nENTRYPOINT [\"/e\", \"x y\"]",
            &expect![[r#"
            {"User":"app","Env":["PATH=/bin","LANG=C"],"Entrypoint":["/e","x y"],"Cmd":["c"],"ArgsEscaped":true,"WorkingDir":"/srv","Labels":{"l":"1"}}
              base
              CMD ["c"]
              ENTRYPOINT ["/e" "x y"]
        "#]],
        );
        check_config(
            "FROM base AS a\nCMD [\"c\"]\nFROM a\nENTRYPOINT [\"/e\"]",
            &expect![[r#"
            {"User":"app","Env":["PATH=/bin","LANG=C"],"Entrypoint":["/e"],"ArgsEscaped":true,"WorkingDir":"/srv","Labels":{"l":"1"}}
              base
              CMD ["c"]
              ENTRYPOINT ["/e"]
        "#]],
        );
    }

    #[test]
    fn the_shell_form_uses_the_shell() {
        check_config(
            "FROM bare\nSHELL [\"/bin/bash\", \"-lc\"]\nCMD echo \"$HOME\"\nENTRYPOINT exec x\nHEALTHCHECK CMD curl x\nRUN echo hi",
            &expect![[r#"
                {"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"Entrypoint":["/bin/bash","-lc","exec x"],"Cmd":["/bin/bash","-lc","echo \"$HOME\""],"Healthcheck":{"Test":["CMD-SHELL","curl x"]},"ArgsEscaped":true,"Shell":["/bin/bash","-lc"]}
                  SHELL [/bin/bash -lc]
                  CMD ["/bin/bash" "-lc" "echo \"$HOME\""]
                  ENTRYPOINT ["/bin/bash" "-lc" "exec x"]
                  HEALTHCHECK {Test:[CMD-SHELL curl x] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}
                * RUN /bin/bash -lc echo hi # buildkit
            "#]],
        );
    }

    #[test]
    fn health_checks_read_as_in_buildkit() {
        check_config(
            "FROM bare\nHEALTHCHECK --interval=1m30s --timeout=2s --start-period=500ms --start-interval=1s --retries=3 CMD [\"/check\", \"a\"]",
            &expect![[r#"
                {"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"Healthcheck":{"Test":["CMD","/check","a"],"Interval":90000000000,"Timeout":2000000000,"StartPeriod":500000000,"StartInterval":1000000000,"Retries":3}}
                  HEALTHCHECK {Test:[CMD /check a] Interval:1m30s Timeout:2s StartPeriod:500ms StartInterval:1s Retries:3}
            "#]],
        );
        check_config(
            "FROM bare\nHEALTHCHECK NONE",
            &expect![[r#"
            {"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"Healthcheck":{"Test":["NONE"]}}
              HEALTHCHECK {Test:[NONE] Interval:0s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}
        "#]],
        );
    }

    #[test]
    fn ports_are_brought_into_form() {
        check_config(
            "FROM bare\nARG P=9000-9002\nEXPOSE 80 53/UDP 8080:80/tcp $P",
            &expect![[r#"
            {"ExposedPorts":{"53/udp":{},"80/tcp":{},"9000/tcp":{},"9001/tcp":{},"9002/tcp":{}},"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]}
              ARG P=9000-9002
              EXPOSE [80/tcp 53/udp 80/tcp 9000/tcp 9001/tcp 9002/tcp]
        "#]],
        );
    }

    #[test]
    fn volumes_labels_signals_and_maintainers() {
        check_config(
            "FROM bare\nVOLUME /a /b\nVOLUME [\"/c d\"]\nSTOPSIGNAL SIGUSR1\nMAINTAINER me <a@b>\nLABEL \"a.b\"=\"c d\"",
            &expect![[r#"
                {"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"Volumes":{"/a":{},"/b":{},"/c d":{}},"Labels":{"a.b":"c d"},"StopSignal":"SIGUSR1"}
                  VOLUME [/a /b]
                  VOLUME [/c d]
                  STOPSIGNAL SIGUSR1
                  MAINTAINER me <a@b>
                  LABEL a.b=c d
            "#]],
        );
    }

    #[test]
    fn labels_of_the_options_win() {
        let mut options = options("FROM scratch\nLABEL a=1 b=2");
        options.labels.insert("a".to_owned(), "x".to_owned());
        let graph = plan_with(&options, &fake()).unwrap();
        let labels = &graph.stage(graph.target()).config.config.labels;
        assert_eq!((labels["a"].as_str(), labels["b"].as_str()), ("x", "2"));
    }

    #[test]
    fn a_work_directory_is_a_layer_except_the_root() {
        check_config(
            "FROM scratch\nWORKDIR /\nWORKDIR x/\nWORKDIR /\n",
            &expect![[r#"
            {"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],"WorkingDir":"/"}
              WORKDIR /
            * WORKDIR /x
              WORKDIR /
        "#]],
        );
    }

    #[test]
    fn unknown_signals_and_empty_volumes_are_refused() {
        check_error(
            "FROM scratch\nSTOPSIGNAL SIGNOPE",
            &expect![[r#"
            error: `SIGNOPE` is no signal
             --> Dockerfile:2:12
              |
            2 | STOPSIGNAL SIGNOPE
              |            ^^^^^^^
            hint: write a name such as `SIGTERM` or a number
        "#]],
        );
        check_error(
            "FROM scratch\nVOLUME [\"\"]",
            &expect![[r#"
            error: the path of a volume is empty
             --> Dockerfile:2:9
              |
            2 | VOLUME [""]
              |         ^^
        "#]],
        );
        for good in ["9", "65", "TERM", "sigterm", "SIGRTMIN+3", "RTMAX-1", "SIGRTMAX"] {
            assert!(plan(&format!("FROM scratch\nSTOPSIGNAL {good}")).is_ok(), "{good}");
        }
        for bad in ["0", "RTMIN+16", "RTMAX-15", "RTMIN-1"] {
            assert!(plan(&format!("FROM scratch\nSTOPSIGNAL {bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_time_is_that_of_the_base_or_as_asked() {
        let created = |options: &BuildOptions| {
            let graph = plan_with(options, &fake()).unwrap();
            let target = graph.stage(graph.target());
            (target.epoch, target.config.created.clone().unwrap())
        };
        assert_eq!(
            created(&options("FROM bare")),
            (1_704_164_645, "2024-01-02T03:04:05Z".to_owned())
        );
        assert_eq!(created(&options("FROM scratch")).0, 0);
        assert_eq!(created(&options("ARG SOURCE_DATE_EPOCH=7\nFROM bare")).0, 7);
        let mut given = options("ARG SOURCE_DATE_EPOCH=7\nFROM bare");
        given.build_args.insert("SOURCE_DATE_EPOCH".to_owned(), "8".to_owned());
        assert_eq!(created(&given).0, 8);
        given.epoch = Some(9);
        assert_eq!(created(&given).0, 9);
        check_error(
            "ARG SOURCE_DATE_EPOCH=today\nFROM scratch",
            &expect![[r#"
            error: `SOURCE_DATE_EPOCH` is `today`, which is no number of seconds
             --> Dockerfile:1:1
              |
            1 | ARG SOURCE_DATE_EPOCH=today
              | ^^^^^^^^^^^^^^^^^^^^^^^^^^^
            hint: give seconds since 1970, such as `$(git log -1 --format=%ct)`, or `context`, or the name of a stage or context whose time it shall be
        "#]],
        );
    }

    #[test]
    fn layers_that_a_base_has_no_history_for_get_an_entry() {
        let mut config = config(
            r#"{"architecture":"amd64","os":"linux","history":[{"created_by":"a"},{"empty_layer":true}]}"#,
        );
        crate::export::complete_history(&mut config, 3);
        let layers = config.history.iter().filter(|entry| !entry.empty_layer).count();
        assert_eq!((layers, config.history.len()), (3, 4));
        crate::export::complete_history(&mut config, 2);
        assert_eq!(config.history.len(), 4);
    }
}

mod copies {
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
}

mod runs {
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
}

/// A machine with the devices `a/b=c` and `a/b=d` of the class `fast`.
fn with_devices(text: &str, granted: &[&str]) -> BuildOptions {
    let mut registry = corten_runtime::cdi::Registry::default();
    let description = "cdiVersion: 0.6.0\nkind: a/b\nannotations:\n  \
        org.mobyproject.buildkit.device.class: fast\ndevices:\n\
        - {name: c, containerEdits: {env: [X=1]}}\n- {name: d, containerEdits: {env: [X=1]}}\n";
    registry.add(std::path::Path::new("/etc/cdi/a.yaml"), 0, description);
    assert!(registry.problems.is_empty());
    let mut options = options(text);
    options.run.devices = std::sync::Arc::new(registry);
    options.run.allow.devices.names = granted.iter().map(|name| (*name).to_owned()).collect();
    options
}

#[test]
fn devices_are_granted_by_their_names_or_by_what_these_stand_for() {
    let allowed = |wanted: &str, granted: &[&str]| {
        let options = with_devices(&format!("FROM bare\nRUN --device={wanted} x"), granted);
        plan_with(&options, &fake()).is_ok()
    };
    for (wanted, granted, expected) in [
        ("a/b=c", &["a/b=c"][..], true),
        ("a/b=c", &["a/b=*"], true),
        ("a/b=c", &["fast"], true),
        ("a/b", &["a/b=c"], true),
        ("a/b=*", &["a/b=c", "a/b=d"], true),
        ("a/b=*", &["a/b=c"], false),
        ("a/b=d", &["a/b"], false),
        ("a/b=c", &[], false),
        // One that may be missing and is missing gives nothing away.
        ("nvidia.com/gpu=all", &[], true),
        ("nvidia.com/gpu=all,required", &[], false),
        ("nvidia.com/gpu=all,required", &["nvidia.com/gpu=all"], true),
    ] {
        assert_eq!(allowed(wanted, granted), expected, "{wanted} {granted:?}");
    }
}

#[test]
fn a_plan_shows_devices() {
    let text = "FROM bare\nRUN --device=fast --device=name=a/b=c,required x";
    let options = with_devices(text, &["fast"]);
    let graph = plan_with(&options, &fake()).unwrap().to_string();
    let lines: Vec<&str> = graph.lines().filter(|line| line.contains("  device ")).collect();
    assert_eq!(lines, ["       device fast (if it is there)", "       device a/b=c"]);
}

#[test]
fn a_plan_without_bases_can_be_shown() {
    let options = options("FROM unknown:1 AS a\nRUN x\nFROM scratch\nCOPY --from=a /x /y");
    let dockerfile = corten_dockerfile::parse(&options.dockerfile.text);
    let graph = super::plan(&dockerfile, &options, None).unwrap();
    expect![[r#"
        stage a
          from unknown:1
           1 RUN x
               exec ["/bin/sh", "-c", "x"] in /

        stage 1 (target)
          from scratch
           2 COPY --from=a /x /y
               from `a`: /x -> /y

        image
          env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
          workdir /
    "#]]
    .assert_eq(&shown(&graph));
}

#[test]
fn the_plan_of_a_python_service() {
    let mut options = options(
        r#"# syntax=docker/dockerfile:1
ARG PYTHON=base
FROM ${PYTHON} AS build
WORKDIR /app
COPY requirements.txt .
RUN --mount=type=cache,target=/root/.cache/pip \
    pip install -r requirements.txt   # all of them
COPY . .

FROM ${PYTHON}
COPY --from=build /app /app
USER 1000
EXPOSE 8000
CMD ["python", "app.py"]
"#,
    );
    options.labels.insert("team".to_owned(), "ml".to_owned());
    check_with(
        &options,
        &expect![[r#"
        stage build
          from base:latest
           1 WORKDIR /app
               directory /app
           2 COPY requirements.txt .
               from the build context: requirements.txt -> /app/
           3 RUN --mount=type=cache,target=/root/.cache/pip pip install -r requirements.txt # all of them
               exec ["/bin/sh", "-c", "pip install -r requirements.txt   # all of them"] in /app
               mount /root/.cache/pip (cache /root/.cache/pip)
           4 COPY . .
               from the build context: . -> /app/

        stage 1 (target)
          from base:latest
           5 COPY --from=build /app /app
               from `build`: /app -> /app

        image
          env PATH=/bin
          env LANG=C
          user 1000
          workdir /srv
          cmd ["python", "app.py"]
          expose 8000/tcp
          label l=1
          label team=ml
    "#]],
    );
}

mod platforms {
    use super::*;

    /// A base for every platform; all programs can be executed.
    struct Everywhere;

    impl Bases for Everywhere {
        fn base(&self, image: &Reference, platform: &Platform) -> Result<Image, BaseError> {
            let text = format!("{image} {platform}");
            let config = ImageConfig {
                architecture: platform.architecture.clone(),
                os: platform.os.clone(),
                ..ImageConfig::default()
            };
            Ok(Image {
                id: ImageId(Digest::of(text.as_bytes())),
                manifest: Digest::of(text.as_bytes()),
                config,
                layers: Vec::new(),
                annotations: BTreeMap::new(),
                stored_at: 0,
            })
        }

        fn can_execute(&self, _platform: &Platform) -> Result<(), BaseError> {
            Ok(())
        }
    }

    fn plan_for(text: &str, platforms: &[&str]) -> Graph {
        let mut options = options(text);
        options.platforms = platforms.iter().map(|text| text.parse().unwrap()).collect();
        let dockerfile = corten_dockerfile::parse(text);
        super::super::plan(&dockerfile, &options, Some(&Everywhere)).unwrap()
    }

    /// The platform and name of each stage, its base if that is a stage, and its steps.
    fn shown(graph: &Graph) -> String {
        let mut text = String::new();
        for (index, stage) in graph.stages.iter().enumerate() {
            let platform = graph.platform_name(stage).unwrap_or_default();
            let target = graph.targets.iter().any(|target| target.stage.0 == index);
            let mark = if target { " (target)" } else { "" };
            text.push_str(&format!("{platform} {}{mark}\n", stage.name));
            for step in &stage.steps {
                text.push_str(&format!("  {} {}\n", step.number, step.title));
            }
        }
        text
    }

    const CROSS: &str = "FROM --platform=linux/amd64 tools AS fetch\nRUN fetch\n\
        FROM fetch AS cross\nARG TARGETARCH\nRUN compile $TARGETARCH\n\
        FROM base\nCOPY --from=fetch /data /\nCOPY --from=cross /out /\nRUN setup\n";

    #[test]
    fn what_does_not_depend_on_the_platform_is_done_once() {
        expect![[r#"
            linux/amd64 fetch
              1 RUN fetch
            linux/amd64 cross
              2 RUN compile amd64
            linux/amd64 2 (target)
              3 COPY --from=fetch /data /
              4 COPY --from=cross /out /
              5 RUN setup
            linux/amd64->arm64 cross
              6 RUN compile arm64
            linux/arm64 2 (target)
              7 COPY --from=fetch /data /
              8 COPY --from=cross /out /
              9 RUN setup
        "#]]
        .assert_eq(&shown(&plan_for(CROSS, &["linux/amd64", "linux/arm64"])));
    }

    #[test]
    fn one_plan_has_a_target_for_each_platform_in_their_order() {
        let graph = plan_for("FROM base\nRUN x\n", &["linux/s390x", "linux/arm/v7"]);
        let targets: Vec<(String, String)> = graph
            .targets
            .iter()
            .map(|target| {
                let config = &graph.stage(target.stage).config;
                (target.platform.to_string(), config.architecture.clone())
            })
            .collect();
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(targets, [pair("linux/s390x", "s390x"), pair("linux/arm/v7", "arm")]);
        assert_eq!(graph.step_count(), 2);
    }

    #[test]
    fn the_same_platform_in_every_stage_is_one_target_for_all() {
        let graph =
            plan_for("FROM --platform=linux/amd64 base\nRUN x\n", &["linux/amd64", "linux/arm64"]);
        assert_eq!(graph.stages.len(), 1);
        assert_eq!(graph.targets.len(), 2);
        assert_eq!(graph.targets[0].stage, graph.targets[1].stage);
    }

    #[test]
    fn the_plan_of_this_machine_alone_does_not_speak_of_platforms() {
        let host = Platform::host().to_string();
        let graph = plan_for("FROM base AS a\nRUN x\nFROM a\nRUN y\n", &[&host]);
        assert!(graph.stages.iter().all(|stage| graph.platform_name(stage).is_none()));
    }

    #[test]
    fn a_program_that_cannot_be_executed_is_told_before_a_base_is_made() {
        let other = if Platform::host().architecture == "s390x" { "amd64" } else { "s390x" };
        let bases = fake();
        let mut options = options("FROM base AS a\nCOPY <<f /\nx\nf\nFROM a\nRUN x\nRUN y\n");
        options.platforms = vec![Platform::new("linux", other, None)];
        let text = message(&plan_with(&options, &bases).unwrap_err());
        assert!(text.contains("Dockerfile:6:1"), "{text}");
        assert!(bases.asked.lock().unwrap().is_empty());
    }
}
