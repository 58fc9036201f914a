//! Devices of the host in containers and steps.

use corten_testkit::privilege::Need;
use corten_testkit::{TestContext, require};

use crate::world::with_root_files;

/// Describes `test.dev/thing=one`: two nodes, a variable and a file of the host.
fn describe(context: &TestContext) {
    let work = context.work_dir().display().to_string();
    context.write("library.txt", "of the host\n");
    context.write("corten.toml", format!("[cdi]\nspec-dirs = [\"{work}/cdi\"]\n"));
    context.write(
        "cdi/test.yaml",
        format!(
            "cdiVersion: 0.6.0\nkind: test.dev/thing\ncontainerEdits:\n  env: [ALL=of-the-kind]\n\
             devices:\n- name: one\n  containerEdits:\n    env: [ONE=of-the-device]\n    \
             deviceNodes:\n    - {{path: /dev/my-zero, hostPath: /dev/zero, type: c, major: 1, minor: 5}}\n    \
             - {{path: /dev/deep/null, hostPath: /dev/null}}\n    mounts:\n    \
             - {{hostPath: {work}/library.txt, containerPath: /opt/library.txt, options: [ro, nosuid, bind]}}\n    \
             hooks:\n    - {{hookName: createContainer, path: /usr/bin/none, args: [none, update-ldcache]}}\n"
        ),
    );
}

/// Shows the variables, reads and writes the nodes, and fails to write to the file.
const USE: &str = "echo $ALL $ONE && head -c 1234 /dev/my-zero | { read -r x; echo read; } ; \
    test -c /dev/my-zero && echo x >/dev/deep/null && cat /opt/library.txt && \
    ! echo y >/opt/library.txt 2>/dev/null && echo done";

fn check(context: &TestContext) {
    context.run(&["build", "-q", "--network=none", "-t", "base", "base"]).success();
    describe(context);
    let run = ["run", "--rm", "--network=none", "--device", "test.dev/thing=one"];
    let output = context.run(&[&run[..], &["base", "sh", "-c", USE]].concat()).success();
    let expected = "of-the-kind of-the-device\nread\nof the host\ndone\n";
    assert_eq!(output.stdout(), expected);
    assert!(output.stderr().contains("hook of the CDI device"), "{}", output.stderr());
    assert!(output.stderr().contains("`ldconfig`"), "{}", output.stderr());

    context.write(
        "Dockerfile",
        format!("FROM base\nRUN --device=test.dev/thing=one,required --device=none.dev/x {USE}\nRUN ! ls /opt\n"),
    );
    let build = ["build", "--network=none", "--progress=plain", "."];
    let refused = context.run(&build).code(2);
    let hint = "add `--allow device=test.dev/thing=one`";
    assert!(refused.stderr().contains(hint), "{}", refused.stderr());
    let allow = [&build[..], &["--allow", "device=test.dev/thing=one"]].concat();
    let output = context.run(&allow).success();
    for line in expected.lines() {
        assert!(output.stderr().contains(line), "{line}: {}", output.stderr());
    }
    let missing =
        "no CDI device `none.dev/x` is described on this machine: the step runs without it";
    assert!(output.stderr().contains(missing), "{}", output.stderr());
    let aliased = format!(
        "FROM base\nRUN --device=thing,required {USE} && echo aliased\nRUN --device=thing,required echo again\n"
    );
    context.write("alias.Dockerfile", aliased);
    context.write("cdi/broken.yaml", "kind: [\n");
    let by_alias = ["-f", "alias.Dockerfile", "--allow", "device=test.dev/thing=one,alias=thing"];
    let output = context.run(&[&build[..], &by_alias].concat()).success();
    assert!(output.stderr().contains("aliased"), "{}", output.stderr());
    // What is wrong with the descriptions is the same for every step.
    assert_eq!(output.stderr().matches("cdi/broken.yaml").count(), 1, "{}", output.stderr());
    // What the device is made of is no part of the key, and not needed for what is cached.
    context.write("cdi/test.yaml", "kind: [\n");
    let output = context.run(&allow).success();
    assert!(output.stderr().contains("CACHED"), "{}", output.stderr());
    let output = context.run(&[&allow[..], &["--no-cache"]].concat()).code(2);
    let refused = "no CDI device `test.dev/thing=one` is described on this machine";
    assert!(output.stderr().contains(refused), "{}", output.stderr());
    assert!(output.stderr().contains("cdi/test.yaml:2: "), "{}", output.stderr());
}

#[test]
fn a_described_device_comes_with_its_nodes_variables_and_files() {
    require!(Need::Root, Need::Overlay);
    check(&with_root_files());
}

#[test]
fn a_user_has_devices_too() {
    require!(Need::Root, Need::UserNamespaces, Need::RootlessOverlay, Need::Program("newuidmap"));
    check(&with_root_files().as_user(54_322, 54_322));
}

#[test]
fn a_node_is_given_by_its_path() {
    require!(Need::Root, Need::Overlay);
    let context = with_root_files();
    context.run(&["build", "-q", "--network=none", "-t", "base", "base"]).success();
    let run = |device: &str| {
        let line = "test -c /dev/mine && ! echo x 2>/dev/null >/dev/mine && echo full";
        context.run(&[
            "run",
            "--rm",
            "--network=none",
            "--device",
            device,
            "base",
            "sh",
            "-c",
            line,
        ])
    };
    assert_eq!(run("/dev/full:/dev/mine:rwm").success().stdout(), "full\n");
    for (device, reason) in [
        ("/dev/nothing-here", "it is not there"),
        ("/etc/passwd:/dev/mine", "it is no device"),
        ("mine", "CDI device `vendor/class=name`"),
        ("test.dev/thing=two", "no CDI device `test.dev/thing=two`"),
    ] {
        let output = run(device).code(125);
        assert!(output.stderr().contains(reason), "{device}: {}", output.stderr());
    }
    let output = context.run(&["run", "--rm", "--gpus", "several", "base", "true"]).code(125);
    assert!(output.stderr().contains("--gpus all"), "{}", output.stderr());
}
