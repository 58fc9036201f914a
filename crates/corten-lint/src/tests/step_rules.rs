//! Rules about the instructions of stages.

use corten_dockerfile::ignore::Ignore;
use expect_test::expect;

use super::{check, check_ignoring, check_with, given, quiet, report, request};
use crate::Request;

#[test]
fn commands_are_json_arrays() {
    check(
        "FROM scratch\nCMD program\n",
        &expect![[r#"
        2 JSONArgsRecommended: `CMD` is not a JSON array: a shell is started, which does not pass signals on
    "#]],
    );
    check(
        "FROM scratch\nENTRYPOINT program --flag\n",
        &expect![[r#"
        2 JSONArgsRecommended: `ENTRYPOINT` is not a JSON array: a shell is started, which does not pass signals on
    "#]],
    );
    check(
        "FROM scratch\nENTRYPOINT ['program']\n",
        &expect![[r#"
        2 JSONArgsRecommended: `ENTRYPOINT` is not a JSON array: a shell is started, which does not pass signals on
    "#]],
    );
    check(
        "FROM shelled\nCMD program\nFROM scratch\nCMD program\n",
        &expect![[r#"
        4 JSONArgsRecommended: `CMD` is not a JSON array: a shell is started, which does not pass signals on
    "#]],
    );
    check(
        "FROM scratch\nONBUILD CMD program\nFROM scratch\nHEALTHCHECK CMD program\n",
        &expect![[r#""#]],
    );
    quiet("FROM scratch\nCMD [\"program\"]\nENTRYPOINT []\n");
    for name in ["CMD", "ENTRYPOINT"] {
        quiet(&format!("FROM scratch\nSHELL [\"/bin/own\"]\n{name} program\n"));
        quiet(&format!("FROM scratch AS base\nSHELL [\"/bin/own\"]\nFROM base\n{name} program\n"));
        quiet(&format!("FROM scratch\n# check=skip=JSONArgsRecommended\n{name} program\n"));
    }
}

#[test]
fn of_several_commands_the_earlier_ones_are_shown() {
    check(
        "FROM scratch\nENTRYPOINT [\"/a\"]\nENTRYPOINT [\"/b\"]\nCMD [\"/a\"]\nCMD [\"/b\"]\n\
         HEALTHCHECK CMD [\"/a\"]\nHEALTHCHECK NONE\n",
        &expect![[r#"
            2 MultipleInstructionsDisallowed: the stage has several `ENTRYPOINT`: only the last one is of effect
            4 MultipleInstructionsDisallowed: the stage has several `CMD`: only the last one is of effect
            6 MultipleInstructionsDisallowed: the stage has several `HEALTHCHECK`: only the last one is of effect
        "#]],
    );
    check(
        "FROM scratch\nCMD [\"/a\"]\nCOPY <<E /a.txt\nhello\nE\nCMD [\"/b\"]\ncmd [\"/c\"]\n",
        &expect![[r#"
            2 MultipleInstructionsDisallowed: the stage has several `CMD`: only the last one is of effect
            6 MultipleInstructionsDisallowed: the stage has several `cmd`: only the last one is of effect
            7 ConsistentInstructionCasing: `cmd` is not in upper case, as most instructions of the file are
        "#]],
    );
    quiet(
        "FROM scratch AS a\nCMD [\"/a\"]\nHEALTHCHECK CMD [\"/a\"]\nFROM a AS b\nCMD [\"/b\"]\nHEALTHCHECK NONE\n",
    );
    quiet(
        "FROM scratch\nCMD [\"/a\"]\n# check=skip=MultipleInstructionsDisallowed\nCMD [\"/b\"]\n",
    );
}

#[test]
fn keys_and_values_are_joined_by_an_equals_sign() {
    check(
        "FROM scratch\nENV name value\nLABEL name value of it\nenv a=1 b=2\nENV both one=two\n",
        &expect![[r#"
            2 LegacyKeyValueFormat: `ENV key value` is the old form of `ENV key=value`
            3 LegacyKeyValueFormat: `LABEL key value` is the old form of `LABEL key=value`
            4 ConsistentInstructionCasing: `env` is not in upper case, as most instructions of the file are
            5 LegacyKeyValueFormat: `ENV key value` is the old form of `ENV key=value`
        "#]],
    );
    quiet("FROM scratch\nENV name=value\nLABEL name=value\n");
    quiet(
        "FROM scratch\n# check=skip=LegacyKeyValueFormat\nENV name value\n# check=skip=LegacyKeyValueFormat\nLABEL name value\n",
    );
}

#[test]
fn stages_that_the_target_does_not_need_are_looked_into_on_request_only() {
    let file = "FROM scratch AS a\n\nFROM a AS b\nENV name value\n\nFROM a AS c\nCOPY $foo /\n";
    check(
        file,
        &expect![[r#"
        4 LegacyKeyValueFormat: `ENV key value` is the old form of `ENV key=value`
        7 UndefinedVar: the variable `$foo` is used and not defined
    "#]],
    );
    check_with(
        file,
        &Request { all_stages: false, ..request() },
        &expect![[r#"
        7 UndefinedVar: the variable `$foo` is used and not defined
    "#]],
    );
    let target = Some("b".to_owned());
    check_with(
        file,
        &Request { all_stages: false, target, ..request() },
        &expect![[r#"
        4 LegacyKeyValueFormat: `ENV key value` is the old form of `ENV key=value`
    "#]],
    );
    let linked = "FROM scratch AS a\nCMD a\nFROM scratch AS b\nCMD b\nFROM scratch AS m\nCMD m\n\
                  FROM scratch\nCOPY --from=a / /\nCOPY --from=0 / /\nRUN --mount=from=m true\n";
    check_with(
        linked,
        &Request { all_stages: false, ..request() },
        &expect![[r#"
        2 JSONArgsRecommended: `CMD` is not a JSON array: a shell is started, which does not pass signals on
        6 JSONArgsRecommended: `CMD` is not a JSON array: a shell is started, which does not pass signals on
    "#]],
    );
}

#[test]
fn names_of_secrets_are_not_given_to_arg_and_env() {
    check(
        "FROM scratch\nARG SECRET_PHRASE\nENV MY_Secret=x\nENV password=x secret=y\n\
         ARG my_secret_token=x auth=y\nENV apikey=x sunflower=y\nENV git_key=\nARG DB_PASSWD\n",
        &expect![[r#"
            2 SecretsUsedInArgOrEnv: `ARG SECRET_PHRASE` looks like a secret, and stays in the image for all
            3 SecretsUsedInArgOrEnv: `ENV MY_Secret` looks like a secret, and stays in the image for all
            4 SecretsUsedInArgOrEnv: `ENV password` looks like a secret, and stays in the image for all
            4 SecretsUsedInArgOrEnv: `ENV secret` looks like a secret, and stays in the image for all
            5 SecretsUsedInArgOrEnv: `ARG my_secret_token` looks like a secret, and stays in the image for all
            5 SecretsUsedInArgOrEnv: `ARG auth` looks like a secret, and stays in the image for all
            6 SecretsUsedInArgOrEnv: `ENV apikey` looks like a secret, and stays in the image for all
            7 SecretsUsedInArgOrEnv: `ENV git_key` looks like a secret, and stays in the image for all
            8 SecretsUsedInArgOrEnv: `ARG DB_PASSWD` looks like a secret, and stays in the image for all
        "#]],
    );
    quiet(
        "FROM scratch\nENV PUBLIC_KEY=\nARG public_token\nARG SECRET_PHRASE_FILE\n\
         ENV password_file=x secret_File=y\nARG AUTH_MODULE_VERSION\nENV KEYBOARD=us TOKENIZERS=4\n\
         # check=skip=SecretsUsedInArgOrEnv // wanted\nENV password=x\n\
         # check=skip=SecretsUsedInArgOrEnv // wanted\nARG password\n\
         # check=skip=all // for this one only\nENV other_password=x\n",
    );
    // A global argument goes nowhere by itself.
    quiet("ARG token\nFROM scratch\n");
    check(
        "FROM scratch\n# check=skip=SecretsUsedInArgOrEnv\nENV token=a\nENV token=b\n",
        &expect![[r#"
            4 SecretsUsedInArgOrEnv: `ENV token` looks like a secret, and stays in the image for all
        "#]],
    );
}

#[test]
fn the_first_workdir_is_absolute() {
    check(
        "FROM scratch\nWORKDIR app/\nWORKDIR deeper\n",
        &expect![[r#"
        2 WorkdirRelativePath: the relative directory `app/` depends on what the base image has set
    "#]],
    );
    check(
        "FROM scratch\nARG dir=app\nWORKDIR $dir\n",
        &expect![[r#"
        3 WorkdirRelativePath: the relative directory `app` depends on what the base image has set
    "#]],
    );
    quiet("FROM scratch AS a\nWORKDIR /app\nFROM a AS b\nWORKDIR sub/\n");
    quiet("FROM scratch\nARG dir=/app\nWORKDIR $dir\n");
    quiet("FROM scratch\n# check=skip=WorkdirRelativePath\nWORKDIR app/\n");
}

#[test]
fn variables_are_defined_before_their_use() {
    check(
        "FROM busybox\nCOPY $foo .\nARG foo=bar\nRUN echo $foo\n",
        &expect![[r#"
        2 UndefinedVar: the variable `$foo` is used and not defined [`busybox` is not here, so what it sets is not known]
    "#]],
    );
    check(
        "FROM scratch\nARG DIR_PROGRAMS=p/\nARG DIR_ASSETS=a/\nARG DIR_CONFIG=c/\nCOPY $DIR_ASSET .\n",
        &expect![[r#"
            5 UndefinedVar: the variable `$DIR_ASSET` is used and not defined (did you mean `$DIR_ASSETS`?)
        "#]],
    );
    check(
        "FROM scratch\nENV PATH=$PAHT:/opt/bin\n",
        &expect![[r#"
        2 UndefinedVar: the variable `$PAHT` is used and not defined (did you mean `$PATH`?)
    "#]],
    );
    check(
        "FROM scratch\nCOPY $one $two $one /dir\nUSER ${three:-me}\n",
        &expect![[r#"
        2 UndefinedVar: the variable `$one` is used and not defined
        2 UndefinedVar: the variable `$two` is used and not defined
        2 UndefinedVar: the variable `$one` is used and not defined
        3 UndefinedVar: the variable `$three` is used and not defined
    "#]],
    );
    check(
        "FROM scratch\nCOPY <<E /x\n$gone and \\$kept\nE\nCOPY <<'F' /y\n$gone\nF\n",
        &expect![[r#"
            2-4 UndefinedVar: the variable `$gone` is used and not defined
        "#]],
    );
    check(
        "FROM scratch\nRUN --mount=type=cache,target=$where true\nEXPOSE $port\nVOLUME $vol\n",
        &expect![[r#"
            2 UndefinedVar: the variable `$where` is used and not defined
            4 UndefinedVar: the variable `$vol` is used and not defined
        "#]],
    );
    check(
        "FROM scratch\nARG a=$b c=$a d=$e\nSTOPSIGNAL $sig\nLABEL $key=$value\n",
        &expect![[r#"
        2 UndefinedVar: the variable `$b` is used and not defined
        2 UndefinedVar: the variable `$e` is used and not defined (did you mean `$a`?)
        3 UndefinedVar: the variable `$sig` is used and not defined
        4 UndefinedVar: the variable `$key` is used and not defined
        4 UndefinedVar: the variable `$value` is used and not defined
    "#]],
    );
    check("FROM scratch\nONBUILD COPY $inner /\n\nFROM scratch\nLABEL a=b\n", &expect![[r#""#]]);
    // A given argument's default is not looked at.
    check_with("FROM scratch\nARG a=$b\nCOPY $a /\n", &given(&[("a", "x")]), &expect![[r#""#]]);
    // An instruction sees what was set before it.
    check(
        "FROM scratch\nENV a=1 b=$a\n",
        &expect![[r#"
        2 UndefinedVar: the variable `$a` is used and not defined
    "#]],
    );
    quiet("FROM scratch\nARG foo\nCOPY file${foo} .\n");
    quiet("FROM busybox AS base\nARG foo=file\nFROM base\nCOPY $foo .\n");
    quiet("FROM busybox\nRUN echo $PATH $HOME\nCMD [\"$x\"]\nENTRYPOINT [\"$x\"]\n");
    quiet("FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH$BUILDKIT_SBOM_SCAN_STAGE /\n");
    quiet("ARG V=1\nFROM scratch\nARG V\nCOPY f$V /\n");
    quiet("FROM scratch\n# check=skip=UndefinedVar\nCOPY $foo .\n");
}

#[test]
fn triggers_are_carried_out_where_they_are_set_off() {
    check(
        "FROM scratch AS base\nONBUILD COPY $foo /\nONBUILD CMD run\n\nFROM base\nUSER me\n",
        &expect![[r#"
            5 JSONArgsRecommended: `CMD` is not a JSON array: a shell is started, which does not pass signals on
            5 UndefinedVar: the variable `$foo` is used and not defined
        "#]],
    );
    check(
        "FROM python\nLABEL v=$PYTHON_VERSION\n",
        &expect![[r#"
        1 UndefinedVar: the variable `$SITE_DIR` is used and not defined
        1 WorkdirRelativePath: the relative directory `site` depends on what the base image has set
    "#]],
    );
    // Those of a stage that is not needed are not put in.
    check(
        "FROM scratch AS base\nONBUILD CMD run\nFROM base AS other\nFROM scratch\n",
        &expect![[r#""#]],
    );
}

#[test]
fn ignored_files_are_not_copied() {
    let file = "FROM scratch\nCOPY notes.md .\nADD ./notes.md /n\n";
    check_ignoring(
        "notes.md\n",
        file,
        &expect![[r#"
        2 CopyIgnoredFile: `COPY` of `notes.md`, which is excluded by .dockerignore
        3 CopyIgnoredFile: `ADD` of `notes.md`, which is excluded by .dockerignore
    "#]],
    );
    check_ignoring(
        "docs\n",
        "FROM scratch\nCOPY docs/a/b.md docs .\nCOPY docs2 .\n",
        &expect![[r#"
        2 CopyIgnoredFile: `COPY` of `docs/a/b.md`, which is excluded by .dockerignore
        2 CopyIgnoredFile: `COPY` of `docs`, which is excluded by .dockerignore
    "#]],
    );
    check_ignoring(
        "notes.md\n",
        &format!("# check=skip=CopyIgnoredFile\n{file}"),
        &expect![[r#""#]],
    );
    check_ignoring("**\n!notes.md\n", file, &expect![[r#""#]]);
    check_ignoring(
        "other\n",
        "FROM scratch AS a\nCOPY notes.md /other\nFROM a\nCOPY --from=a /other /notes.md\n",
        &expect![[r#""#]],
    );
    check_ignoring(
        "**\n",
        "FROM scratch\nADD https://example.org/a.md git@host:repo.git /\nCOPY <<E /x\nE\n",
        &expect![[r#""#]],
    );
    check_ignoring(
        "*.md\n",
        "FROM scratch\nARG f=notes.md\nCOPY $f *.md /\n",
        &expect![[r#"
        3 CopyIgnoredFile: `COPY` of `notes.md`, which is excluded by .dockerignore
        3 CopyIgnoredFile: `COPY` of `*.md`, which is excluded by .dockerignore
    "#]],
    );
}

#[test]
fn the_root_of_the_context_is_ignored_only_as_a_whole() {
    let file = "FROM scratch\nCOPY . .\nCOPY ./ /\nADD / /\n";
    check_ignoring(".*\n", file, &expect![[r#""#]]);
    for all in ["*", "**", "**/*", "/*"] {
        let ignore = Ignore::parse(all);
        let request = Request { ignore: Some(&ignore), ..request() };
        assert_eq!(report("FROM scratch\nCOPY . .\n", &request).warnings.len(), 1, "{all}");
    }
    check_ignoring(
        "*\n",
        file,
        &expect![[r#"
        2 CopyIgnoredFile: `COPY` of `.`, which is excluded by .dockerignore
        3 CopyIgnoredFile: `COPY` of `.`, which is excluded by .dockerignore
        4 CopyIgnoredFile: `ADD` of `/`, which is excluded by .dockerignore
    "#]],
    );
}

#[test]
fn protocols_of_ports_are_in_lower_case() {
    check(
        "FROM scratch\nEXPOSE 80/TcP 8080/TCP 8080/udp\n",
        &expect![[r#"
        2 ExposeProtoCasing: the protocol of `80/TcP` is not in lower case
        2 ExposeProtoCasing: the protocol of `8080/TCP` is not in lower case
    "#]],
    );
    check(
        "FROM scratch\nENV P=9000/UDP\nEXPOSE $P\n",
        &expect![[r#"
        3 ExposeProtoCasing: the protocol of `9000/UDP` is not in lower case
    "#]],
    );
    quiet("FROM scratch\n# check=skip=ExposeProtoCasing\nEXPOSE 80/TCP\n");
}

#[test]
fn ports_have_no_host_part() {
    check(
        "FROM scratch\nEXPOSE 127.0.0.1:80:80 [::1]:8080:8080 5000:5000 8000\n",
        &expect![[r#"
        2 ExposeInvalidFormat: `127.0.0.1:80:80` has an address or a port of the host
        2 ExposeInvalidFormat: `5000:5000` has an address or a port of the host
        2 ExposeInvalidFormat: `[::1]:8080:8080` has an address or a port of the host
    "#]],
    );
    quiet("FROM scratch\nEXPOSE 80 8000-8010 53/udp\n");
}
