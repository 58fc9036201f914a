//! `ARG` and `ENV`, and where their values reach.

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
    let mut options = options("ARG ONE=1\nFROM scratch AS x\nARG VERSION\nFROM scratch\nARG USED");
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
