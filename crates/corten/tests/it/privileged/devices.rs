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
             hooks:\n    - {{hookName: createContainer, path: /usr/bin/none, args: [none, do-something]}}\n"
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
    assert!(output.stderr().contains("`/usr/bin/none do-something`"), "{}", output.stderr());

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

/// A library with nothing but the name that it calls itself by: an ELF header, two program headers, three
/// dynamic entries and a string.
fn library(name: &str) -> Vec<u8> {
    let mut file = vec![0; 224];
    file[..6].copy_from_slice(b"\x7fELF\x02\x01");
    let mut put = |at: usize, value: u64, size: usize| {
        file[at..at + size].copy_from_slice(&value.to_le_bytes()[..size]);
    };
    for (at, value, size) in [
        (32, 64, 8),
        (54, 56, 2),
        (56, 2, 2),
        (64, 1, 4),
        (96, 4096, 8),
        (120, 2, 4),
        (128, 176, 8),
        (152, 48, 8),
        (176, 5, 8),
        (184, 224, 8),
        (192, 14, 8),
        (200, 1, 8),
    ] {
        put(at, value, size);
    }
    file.push(0);
    file.extend(name.as_bytes());
    file.push(0);
    file
}

/// Describes a GPU as the tools of its vendor do, with made-up files.
fn describe_gpu(context: &TestContext) {
    let work = context.work_dir().display().to_string();
    context.write("lib/libcuda.so.535.54.03", library("libcuda.so.1"));
    context.write("lib/libnvidia-allocator.so.535.54.03", library("libnvidia-allocator.so.1"));
    context.write("corten.toml", format!("[cdi]\nspec-dirs = [\"{work}/cdi\"]\n"));
    let mount = |name: &str| {
        format!(
            "    - {{hostPath: {work}/lib/{name}, containerPath: /usr/lib/gpu/{name}, options: [ro, nosuid, nodev, bind]}}\n"
        )
    };
    let hook = |words: &str| {
        let words: Vec<String> = words.split(' ').map(|word| format!("\"{word}\"")).collect();
        format!(
            "    - {{hookName: createContainer, path: /usr/bin/nvidia-cdi-hook, args: [nvidia-cdi-hook, {}]}}\n",
            words.join(", ")
        )
    };
    let text = [
        "cdiVersion: 0.6.0\nkind: nvidia.com/gpu\ndevices:\n- name: all\n  containerEdits:\n    deviceNodes:\n".to_owned(),
        "    - {path: /dev/nvidia0, hostPath: /dev/zero}\n    mounts:\n".to_owned(),
        mount("libcuda.so.535.54.03"),
        mount("libnvidia-allocator.so.535.54.03"),
        "    hooks:\n".to_owned(),
        hook("create-symlinks --link libcuda.so.1::/usr/lib/gpu/libcuda.so --link ../libnvidia-allocator.so.1::/usr/lib/gpu/gbm/nvidia-drm_gbm.so"),
        hook("update-ldcache --folder /usr/lib/gpu"),
        hook("chmod --mode 755 --path /dev/dri"),
        hook("enable-cuda-compat --host-driver-version=535.54.03"),
    ];
    context.write("cdi/nvidia.yaml", text.concat());
}

#[test]
fn libraries_of_a_gpu_are_found_without_running_the_vendors_programs() {
    require!(Need::Root, Need::Overlay);
    let context = with_root_files();
    context.run(&["build", "-q", "--network=none", "-t", "base", "base"]).success();
    describe_gpu(&context);
    let look = "echo $LD_LIBRARY_PATH; for l in /dev/corten/lib/*; do echo $l; [ -s $l ] || echo lost; done; \
        [ -s /usr/lib/gpu/gbm/nvidia-drm_gbm.so ] && echo mounted; test -c /dev/nvidia0 && echo node";
    let run = [
        "run",
        "--name=one",
        "--network=none",
        "--gpus=all",
        "-e",
        "LD_LIBRARY_PATH=/mine",
        "base",
        "sh",
        "-c",
        look,
    ];
    let output = context.run(&run).success();
    assert_eq!(
        output.stdout(),
        "/mine:/dev/corten/lib\n/dev/corten/lib/libcuda.so\n/dev/corten/lib/libcuda.so.1\n\
         /dev/corten/lib/libnvidia-allocator.so.1\nmounted\nnode\n",
        "{}",
        output.stderr()
    );
    assert_eq!(output.stderr(), "");
}

#[test]
fn what_does_not_fit_the_driver_is_said_before_the_start() {
    require!(Need::Root, Need::Overlay);
    let context = with_root_files();
    context.run(&["build", "-q", "--network=none", "-t", "base", "base"]).success();
    describe_gpu(&context);
    let image = |name: &str, lines: &str| {
        context.write(format!("{name}/Dockerfile"), format!("FROM base\n{lines}\n"));
        context.run(&["build", "-q", "--network=none", "-t", name, name]).success();
    };
    image("strict", "ENV NVIDIA_REQUIRE_CUDA=\"cuda>=12.4 brand=tesla,driver>=470,driver<471\"");
    let refused =
        context.run(&["run", "--rm", "--network=none", "--gpus=all", "strict", "true"]).code(125);
    for part in ["the image wants `cuda>=12.4`", "535.54", "CUDA 12.2", "NVIDIA_DISABLE_REQUIRE=1"]
    {
        assert!(refused.stderr().contains(part), "{part}: {}", refused.stderr());
    }
    let words = [
        "run",
        "--rm",
        "--network=none",
        "--gpus=all",
        "-e",
        "NVIDIA_DISABLE_REQUIRE=1",
        "strict",
        "true",
    ];
    context.run(&words).success();
    context.run(&["run", "--rm", "--network=none", "strict", "true"]).success();
    image(
        "wheels",
        "RUN mkdir -p /opt/venv/lib/python3.11/site-packages/nvidia_cuda_runtime-13.2.86.dist-info",
    );
    let warned =
        context.run(&["run", "--rm", "--network=none", "--gpus=all", "wheels", "true"]).success();
    assert!(warned.stderr().contains("needs an NVIDIA driver from 580 on"), "{}", warned.stderr());
    // An image may bring libraries for older drivers along.
    image(
        "along",
        "ENV NVIDIA_REQUIRE_CUDA=cuda>=12.4\nRUN mkdir -p /usr/local/cuda/compat && touch /usr/local/cuda/compat/libcuda.so.550.54.15",
    );
    let words = [
        "run",
        "--rm",
        "--network=none",
        "--gpus=all",
        "along",
        "sh",
        "-c",
        "echo $LD_LIBRARY_PATH",
    ];
    let output = context.run(&words).success();
    assert_eq!(output.stdout(), "/usr/local/cuda/compat:/dev/corten/lib\n");
}
