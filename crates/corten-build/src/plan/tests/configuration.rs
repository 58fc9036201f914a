//! What instructions leave in the configuration and the history.

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
    assert_eq!(created(&options("FROM bare")), (1_704_164_645, "2024-01-02T03:04:05Z".to_owned()));
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
