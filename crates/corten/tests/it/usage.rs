//! Wrong command lines, settings and names.

use corten_testkit::context;
use expect_test::expect;

#[test]
fn the_version_is_one_line() {
    context!().check(
        &["--version"],
        &expect![[r#"
        exit: 0
        --- stdout
        corten 0.1.0
        --- stderr
    "#]],
    );
}

#[test]
fn a_misspelt_command_gets_a_suggestion() {
    context!().check(
        &["imagse"],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: unrecognized subcommand 'imagse'

          tip: some similar subcommands exist: 'pause', 'base', 'image', 'images'

        Usage: corten [OPTIONS] <COMMAND>

        For more information, try '--help'.
    "#]],
    );
}

#[test]
fn run_keeps_dockers_code_for_a_wrong_line() {
    context!().check(
        &["run"],
        &expect![[r#"
        exit: 125
        --- stdout
        --- stderr
        error: the following required arguments were not provided:
          <IMAGE>

        Usage: corten run <IMAGE> [COMMAND]...

        For more information, try '--help'.
    "#]],
    );
    context!().check(
        &["run", "--no-such-flag", "x"],
        &expect![[r#"
        exit: 125
        --- stdout
        --- stderr
        error: unexpected argument '--no-such-flag' found

          tip: to pass '--no-such-flag' as a value, use '-- --no-such-flag'

        Usage: corten run [OPTIONS] <IMAGE> [COMMAND]...

        For more information, try '--help'.
    "#]],
    );
}

#[test]
fn no_command_at_all_shows_what_there_is() {
    let output = context!().run(&[]);
    assert_eq!(output.status.code(), Some(2));
    for command in ["build", "run", "images", "save", "load", "base", "system"] {
        assert!(output.stderr().contains(&format!("  {command}")), "{}", output.stderr());
    }
}

#[test]
fn a_configuration_with_a_mistake_is_refused_with_its_place() {
    let context = context!();
    context.write("corten.toml", "[images]\na = 'b'\n[imagse]\n");
    context.check(
        &["images"],
        &expect![[r#"
            exit: 2
            --- stdout
            --- stderr
            error: `./corten.toml` is not a valid corten.toml: TOML parse error at line 3, column 2
              |
            3 | [imagse]
              |  ^^^^^^
            unknown field `imagse`, expected one of `root`, `images`, `base`, `build`, `run`, `cdi`, `registries`
            hint: the tables are [images], [base], [build], [run], [cdi] and [registries]; see docs/reference/config.md
        "#]],
    );
    context.check(
        &["--config", "none.toml", "images"],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: failed to read the configuration file `none.toml`
          caused by: failed to open `none.toml`
          caused by: No such file or directory (os error 2)
        hint: check the path given with `--config`
    "#]],
    );
}

#[test]
fn a_mapping_to_something_that_is_no_name_is_refused() {
    let context = context!();
    context.write("corten.toml", "[images]\n\"python:3.11\" = \"Not A Name\"\n");
    context.write("Dockerfile", "FROM python:3.11\n");
    context.check(&["build", "."], &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: `Not A Name` in the [images] table of corten.toml is no image name
         --> Dockerfile:1:6
          |
        1 | FROM python:3.11
          |      ^^^^^^^^^^^
          |
          = note: caused by: image reference `Not A Name` has upper-case letters: a repository name must be lower case
    "#]]);
}

#[test]
fn a_store_that_cannot_be_made_is_said() {
    context!().check(
        &["--root", "/proc/store", "images"],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: failed to use the store at `/proc/store`
          caused by: failed to create `/proc/store`
          caused by: No such file or directory (os error 2)
        hint: look at the disk, or choose another directory with `--root DIR`
    "#]],
    );
    let context = context!();
    context.write("file", "");
    context.check(
        &["--root", "file", "images"],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: failed to use the store at `[WORK]/file`
          caused by: failed to open `[WORK]/file/FORMAT`
          caused by: Not a directory (os error 20)
        hint: look at the disk, or choose another directory with `--root DIR`
    "#]],
    );
    context.write("full/other", "");
    context.check(
        &["--root", "full", "images"],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: `[WORK]/full` is no store: it holds `other` and no `FORMAT`
        hint: choose an empty directory or an existing store with `--root DIR`
    "#]],
    );
}

#[test]
fn images_that_are_not_there() {
    let context = context!();
    context.check(
        &["run", "--rm", "nosuch"],
        &expect![[r#"
        exit: 125
        --- stdout
        --- stderr
        error: no image `nosuch:latest` in the store
        hint: `corten images` lists what is there; build one with `corten build -t`, load one with
              `corten load -i FILE`, or map the name to a base that is made here in the [images]
              table of corten.toml (`corten base list`)
    "#]],
    );
    context.check(
        &["run", "--rm", "python:3.11-slim"],
        &expect![[r#"
        exit: 125
        --- stdout
        --- stderr
        error: no image `python:3.11-slim` in the store, and no entry for it in the [images] table
        hint: write this to corten.toml to use a base made here from Debian packages:
              [images]
              "docker.io/library/python:3.11-slim" = "golden.internal/python:3.11-slim"
              or load the image: `corten load -i FILE`
    "#]],
    );
    context.check(
        &["run", "--rm", "--pull", "never", "python:3.11-slim"],
        &expect![[r#"
        exit: 125
        --- stdout
        --- stderr
        error: no image `python:3.11-slim` in the store
        hint: `corten images` lists what is there; `corten build` makes one
    "#]],
    );
    context.check(
        &["run", "golden.internal/nosuch:1"],
        &expect![[r#"
            exit: 125
            --- stdout
            --- stderr
            error: there is no golden base `golden.internal/nosuch:1`
            hint: there are: debian-12, python-3.11, toolbox
        "#]],
    );
    context.check(
        &["tag", "nosuch", "x"],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: no image `nosuch` in the store
        hint: `corten images` lists what is there; `corten build` makes one
    "#]],
    );
    context.check(
        &["rmi", "nosuch", "other"],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: no image `nosuch` in the store
        hint: `corten images` lists what is there; `corten build` makes one
        error: no image `other` in the store
        hint: `corten images` lists what is there; `corten build` makes one
    "#]],
    );
    context.check(
        &["rmi", "--force", "nosuch"],
        &expect![[r#"
        exit: 0
        --- stdout
        --- stderr
    "#]],
    );
    context.check(
        &["inspect", "nosuch"],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: no image `nosuch` in the store
        hint: `corten images` lists what is there; `corten build` makes one
    "#]],
    );
    context.check(
        &["rm", "nosuch"],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: no container `nosuch`
        hint: `corten ps --all` lists them
    "#]],
    );
}

#[test]
fn bases_that_cannot_be_made() {
    let context = context!();
    context.check(
        &["base", "build", "python-9"],
        &expect![[r#"
            exit: 2
            --- stdout
            --- stderr
            error: there is no golden base `python-9`
            hint: there are: debian-12, python-3.11, toolbox
        "#]],
    );
    context.write("a.lock", "{}");
    context.check(
        &["base", "build", "python-3.11", "--offline", "--lock", "a.lock"],
        &expect![[r#"
            exit: 2
            --- stdout
            --- stderr
            error: failed to parse the lock
              caused by: missing field `schema` at line 1 column 2
            hint: `a.lock` shall be one that `corten base build RECIPE --lock-out FILE` wrote
        "#]],
    );
    let mirror = ["--mirror", "http://127.0.0.1:9/debian"];
    let build = ["base", "build", "debian-12"].iter().chain(&mirror);
    context.command(build).run().check(&expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: failed to fetch the signed index of `bookworm`
          caused by: failed to fetch `http://127.0.0.1:9/debian/dists/bookworm/InRelease`
          caused by: io: Connection refused (os error 111)
        hint: check the mirror's address and the proxy; a proxy that re-signs TLS needs its CA in the host's certificates or in SSL_CERT_FILE
    "#]]);
    context.check(
        &["base", "build", "debian-12", "--security-mirror", "x"],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: the following required arguments were not provided:
          --mirror <URL>

        Usage: corten base build --mirror <URL> --security-mirror <URL> <RECIPE>

        For more information, try '--help'.
    "#]],
    );
}

#[test]
fn names_that_are_none() {
    let context = context!();
    context.check(
        &["run", "UPPER"],
        &expect![[r#"
        exit: 125
        --- stdout
        --- stderr
        error: image reference `UPPER` has upper-case letters: a repository name must be lower case
        hint: a name is `[registry/]repository[:tag]`, in lower case
    "#]],
    );
    context.check(
        &["build", "-t", "a b", "."],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: there is no Dockerfile at `Dockerfile`
        hint: name the Dockerfile with `--file PATH`
    "#]],
    );
}

#[test]
fn an_empty_store_is_no_error() {
    let context = context!();
    context.check(
        &["images"],
        &expect![[r#"
        exit: 0
        --- stdout
        REPOSITORY   TAG   IMAGE ID   CREATED   SIZE
        --- stderr
    "#]],
    );
    context.check(
        &["images", "--quiet"],
        &expect![[r#"
        exit: 0
        --- stdout
        --- stderr
    "#]],
    );
    context.check(
        &["images", "--json"],
        &expect![[r#"
        exit: 0
        --- stdout
        {
          "items": [],
          "schema": "corten.images/1"
        }
        --- stderr
    "#]],
    );
    context.check(
        &["ps", "--all"],
        &expect![[r#"
            exit: 0
            --- stdout
            CONTAINER ID   IMAGE   COMMAND   CREATED   STATUS   PORTS   NAMES
            --- stderr
        "#]],
    );
    context.check(
        &["system", "fsck"],
        &expect![[r#"
        exit: 0
        --- stdout
        0 objects checked: the store is whole
        --- stderr
    "#]],
    );
    context.check(
        &["system", "prune"],
        &expect![[r#"
        exit: 0
        --- stdout
        removed 0 layers, 0 images and 0 blobs: 0B
        --- stderr
    "#]],
    );
    context.check(
        &["system", "df", "--json"],
        &expect![[r#"
            exit: 0
            --- stdout
            {
              "blobs": {
                "bytes": 0,
                "count": 0
              },
              "cache": {
                "bytes": 0,
                "count": 0
              },
              "cache_mounts": {
                "bytes": 0,
                "count": 0
              },
              "downloads": {
                "bytes": 0,
                "count": 0
              },
              "images": 0,
              "indexes": 0,
              "layers": {
                "bytes": 0,
                "count": 0
              },
              "names": 0,
              "schema": "corten.system-df/1"
            }
            --- stderr
        "#]],
    );
}

#[test]
fn builds_without_a_context_or_a_dockerfile() {
    let context = context!();
    context.check(
        &["build", "nowhere"],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: the build context `nowhere` is no directory
          caused by: failed to open `nowhere`
          caused by: No such file or directory (os error 2)
        hint: give the directory that holds the files to copy
    "#]],
    );
    context.check(
        &["build", "."],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: there is no Dockerfile at `Dockerfile`
        hint: name the Dockerfile with `--file PATH`
    "#]],
    );
    context.check(
        &["build", "-f", "none", "."],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: there is no Dockerfile at `none`
        hint: name the Dockerfile with `--file PATH`
    "#]],
    );
    context.write("Dockerfile", "");
    context.check(
        &["build", "."],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
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
fn dockerfiles_with_mistakes_show_the_place() {
    let context = context!();
    context.write("Dockerfile", "FROM scratch\nCOPPY a b\n");
    context.check(
        &["build", "."],
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
    context.write("Dockerfile", "FROM scratch\nCOPY modle.bin /\n");
    context.write("model.bin", "x");
    context.check(
        &["build", "."],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: failed to find `modle.bin` in the build context
         --> Dockerfile:2:6
          |
        2 | COPY modle.bin /
          |      ^^^^^^^^^
        hint: did you mean `model.bin`?
    "#]],
    );
    context.write(".dockerignore", "*.bin\n");
    context.write("Dockerfile", "FROM scratch\nCOPY model.bin /\n");
    context.check(&["build", "."], &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: failed to find `model.bin` in the build context
         --> Dockerfile:2:6
          |
        2 | COPY model.bin /
          |      ^^^^^^^^^
        hint: `model.bin` is there, but `*.bin` in line 1 of `.dockerignore` hides it: add `!model.bin` below
    "#]]);
    context.write("Dockerfile", "FROM python:3.99\nRUN true\n");
    context.check(
        &["build", "."],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: no image `python:3.99` in the store, and no entry for it in the [images] table
         --> Dockerfile:1:6
          |
        1 | FROM python:3.99
          |      ^^^^^^^^^^^
        hint: write this to corten.toml to use a base made here from Debian packages:
        [images]
        "docker.io/library/python:3.99" = "golden.internal/python:3.11-slim"
        or load the image: `corten load -i FILE`
    "#]],
    );
    context.write("Dockerfile", "FROM scratch\nFROM scratch AS x\n");
    context.check(
        &["build", "--target", "y", "."],
        &expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: there is no stage `y` to build
         --> Dockerfile:2:1
          |
        2 | FROM scratch AS x
          | ^^^^^^^^^^^^^^^^^
        hint: the stages are `x`
    "#]],
    );
}

#[test]
fn a_dockerfile_may_come_from_standard_input() {
    let context = context!();
    context.write("a", "x");
    let build = |text: &str| context.command(["build", "-q", "-f", "-", "."]).stdin(text).run();
    build("FROM scratch\nCOPY a /\n").check(&expect![[r#"
        exit: 0
        --- stdout
        sha256:[DIGEST]
        --- stderr
    "#]]);
    build("FROM scratch\nCOPY b /\n").check(&expect![[r#"
        exit: 2
        --- stdout
        --- stderr
        error: failed to find `b` in the build context
         --> Dockerfile:2:6
          |
        2 | COPY b /
          |      ^
        hint: paths count from the top of the context: name the file as it is called there, or build with another directory
    "#]]);
}

#[test]
fn wrong_values_of_flags_are_explained() {
    let context = super::world::with_data();
    let run = |flags: &[&str]| {
        let mut line = vec!["run", "--rm"];
        line.extend(flags);
        line.push("data:v1");
        context.run(&line).snapshot()
    };
    let mut all = String::new();
    for flags in [
        &["--memory", "5x"][..],
        &["--cpus", "-1"],
        &["--cpus=many"],
        &["--pids-limit", "-7"],
        &["-v", "models/x:/m"],
        &["-v", "/nowhere:/m"],
        &["-v", "relative"],
        &["--mount", "type=volume,source=,target=/x"],
        &["--mount", "type=bind,source=/tmp"],
        &["--cap-add", "FLYING"],
        &["--security-opt", "apparmor=none"],
        &["--security-opt", "seccomp=/nowhere.json"],
        &["--network", "mesh"],
        &["--userns", "mine"],
        &["-p", "99999:1"],
        &["-p", "80:http"],
        &["--ulimit", "files=1"],
        &["-u", "nobody-here"],
        &["-e", "=x"],
        &["--env-file", "none.env"],
        &["--platform", "linux/s390x"],
        &["--name", "-x"],
        &["-t"],
    ] {
        all.push_str(&format!("$ run {}\n{}", flags.join(" "), run(flags)));
    }
    expect![[r#"
        $ run --memory 5x
        exit: 125
        --- stdout
        --- stderr
        error: failed to read `--memory`: `5x` is not a size in bytes
        hint: for example `512m`
        $ run --cpus -1
        exit: 125
        --- stdout
        --- stderr
        error: unexpected argument '-1' found

          tip: to pass '-1' as a value, use '-- -1'

        Usage: corten run [OPTIONS] <IMAGE> [COMMAND]...

        For more information, try '--help'.
        $ run --cpus=many
        exit: 125
        --- stdout
        --- stderr
        error: failed to read `--cpus`: `many` is not a number of processors greater than 0.01
        hint: for example `1.5`
        $ run --pids-limit -7
        exit: 125
        --- stdout
        --- stderr
        error: `--pids-limit -7` is no number of processes
        hint: write a number, or -1 for no limit
        $ run -v models/x:/m
        exit: 125
        --- stdout
        --- stderr
        error: `models/x` cannot be the name of a volume
        hint: use letters, digits, `_`, `.` and `-`; a path begins with `/` or `./`
        $ run -v /nowhere:/m
        exit: 125
        --- stdout
        --- stderr
        error: failed to mount `/nowhere`
          caused by: No such file or directory (os error 2)
        hint: make it first: `mkdir -p /nowhere`
        $ run -v relative
        exit: 125
        --- stdout
        --- stderr
        error: failed to read `--volume`: `relative` is not a volume `HOST-PATH:CONTAINER-PATH[:ro]`
        hint: for example `-v ./data:/data:ro`
        $ run --mount type=volume,source=,target=/x
        exit: 125
        --- stdout
        --- stderr
        error: failed to read `--mount`: `type=volume,source=,target=/x` is not a mount of `key=value` pairs with `type`, `source` and `target`
        hint: for example `--mount type=bind,source=./data,target=/data,readonly`
        $ run --mount type=bind,source=/tmp
        exit: 125
        --- stdout
        --- stderr
        error: failed to read `--mount`: `type=bind,source=/tmp` is not a mount of `key=value` pairs with `type`, `source` and `target`
        hint: for example `--mount type=bind,source=./data,target=/data,readonly`
        $ run --cap-add FLYING
        exit: 125
        --- stdout
        --- stderr
        error: failed to read `--cap-add`: `FLYING` is not a capability of Linux
        hint: for example `--cap-add NET_BIND_SERVICE`
        $ run --security-opt apparmor=none
        exit: 125
        --- stdout
        --- stderr
        error: failed to read `--security-opt`: `apparmor=none` is not what Corten can see to: it isolates by namespaces, capabilities and filters, and loads no profiles of AppArmor and no labels of SELinux
        hint: for example `--security-opt no-new-privileges`
        $ run --security-opt seccomp=/nowhere.json
        exit: 125
        --- stdout
        --- stderr
        error: failed to open `/nowhere.json`
          caused by: No such file or directory (os error 2)
        $ run --network mesh
        exit: 125
        --- stdout
        --- stderr
        error: no network `mesh`
        hint: `corten network ls` lists them; make it: `corten network create mesh`
        $ run --userns mine
        exit: 125
        --- stdout
        --- stderr
        error: failed to read `--userns`: `mine` is not a user namespace: `auto`, `host`, `keep-id`, `container:NAME` or `ns:PATH`
        hint: for example `--userns host`
        $ run -p 99999:1
        exit: 125
        --- stdout
        --- stderr
        error: `99999` in `99999:1` is not a port number from 1 to 65535
        $ run -p 80:http
        exit: 125
        --- stdout
        --- stderr
        error: `http` in `80:http` is not a port number from 1 to 65535
        $ run --ulimit files=1
        exit: 125
        --- stdout
        --- stderr
        error: failed to read `--ulimit`: `files=1` is not a limit `NAME=SOFT[:HARD]`
        hint: for example `nofile=1024:2048`
        $ run -u nobody-here
        exit: 125
        --- stdout
        --- stderr
        error: failed to find user `nobody-here` in the image's `/etc/passwd`
        hint: create it in the image (`RUN useradd --create-home nobody-here`) or give a number
        $ run -e =x
        exit: 125
        --- stdout
        --- stderr
        error: failed to read `--env`: `=x` is not a variable `NAME=value`
        hint: for example `-e MODEL_API_KEY=secret`
        $ run --env-file none.env
        exit: 125
        --- stdout
        --- stderr
        error: failed to open `none.env`
          caused by: No such file or directory (os error 2)
        $ run --platform linux/s390x
        exit: 125
        --- stdout
        --- stderr
        error: image `data:v1` is for linux/amd64, not for linux/s390x
        $ run --name -x
        exit: 125
        --- stdout
        --- stderr
        error: unexpected argument '-x' found

          tip: to pass '-x' as a value, use '-- -x'

        Usage: corten run [OPTIONS] <IMAGE> [COMMAND]...

        For more information, try '--help'.
        $ run -t
        exit: 125
        --- stdout
        --- stderr
        error: standard input is no terminal, so `--tty` has nothing to show on
        hint: leave out `-t`, or run it in a terminal
    "#]].assert_eq(&all);
}
