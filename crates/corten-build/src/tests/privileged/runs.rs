//! What a `RUN` is given.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use corten_sys::file;
use corten_testkit::{Need, require};
use expect_test::expect;

use crate::tests::world::{World, put};
use crate::{Network, RunStep, Secret, StepMountKind};

fn last(world: &World) -> RunStep {
    world.executor.steps.lock().unwrap().last().unwrap().clone()
}

fn env(step: &RunStep) -> BTreeMap<&str, &str> {
    step.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
}

/// The mounts of the step, with what was there while it ran.
fn mounts(world: &World, text: &str) -> String {
    mounts_with(world, &world.options(text))
}

fn mounts_with(world: &World, options: &crate::BuildOptions) -> String {
    let seen = Arc::new(std::sync::Mutex::new(String::new()));
    let into = Arc::clone(&seen);
    *world.executor.hook.lock().unwrap() =
        Some(Arc::new(move |step: &RunStep, _: &mut dyn FnMut(_, &[u8])| {
            let mut text = into.lock().unwrap();
            for mount in &step.mounts {
                write!(text, "{}", mount.target.display()).unwrap();
                match &mount.kind {
                    StepMountKind::Bind { source, readonly } => {
                        let readonly = if *readonly { "ro" } else { "rw" };
                        writeln!(text, " {readonly}{}", tree(source)).unwrap();
                    }
                    StepMountKind::Tmpfs { size_bytes, mode } => {
                        writeln!(text, " tmpfs {size_bytes:?} {mode:o}").unwrap();
                    }
                }
            }
            crate::RunOutcome::exited(0)
        }));
    world.build_with(options).unwrap();
    seen.lock().unwrap().clone()
}

fn tree(path: &Path) -> String {
    let metadata = file::metadata(path).unwrap();
    let mode = format!("{:o} {}:{}", metadata.mode() & 0o7777, metadata.uid(), metadata.gid());
    if metadata.is_file() {
        let content = file::read(path).unwrap();
        return format!(" {mode} {:?}", String::from_utf8_lossy(&content));
    }
    let names: Vec<String> = file::list_dir(path)
        .unwrap()
        .iter()
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    format!(" {mode} {names:?}")
}

#[test]
fn the_environment_is_complete_and_the_image_is_not_told() {
    require!(Need::Root);
    let world = World::new();
    let mut options =
        world.options("FROM base\nARG V=1\nENV A=2 PYTHONHASHSEED=7\nUSER app\nWORKDIR /w\nRUN x");
    options.run.proxy.insert("HTTP_PROXY".to_owned(), "http://p".to_owned());
    let image = world.build_with(&options).unwrap();
    let step = last(&world);
    let expected = [
        ("A", "2"),
        ("HOME", "/home/app"),
        ("HTTP_PROXY", "http://p"),
        ("PATH", "/bin"),
        ("PYTHONHASHSEED", "7"),
        ("SOURCE_DATE_EPOCH", "1700000000"),
        ("V", "1"),
        ("http_proxy", "http://p"),
    ];
    assert_eq!(env(&step).into_iter().collect::<Vec<_>>(), expected);
    assert_eq!(
        (step.uid, step.gid, step.additional_gids.as_slice()),
        (1000, 1001, [44].as_slice())
    );
    assert_eq!(step.cwd, Path::new("/w"));
    assert_eq!(image.config.config.env, ["PATH=/bin", "A=2", "PYTHONHASHSEED=7"]);
}

#[test]
fn certificates_reach_programs_without_reaching_the_image() {
    require!(Need::Root);
    let world = World::new();
    let bundle = world.temp.path().join("ca.pem");
    file::write(&bundle, b"certificates").unwrap();
    let mut options = world.options("FROM base\nENV PIP_CERT=/own\nRUN x");
    options.run.ca_certificates = Some(bundle);
    let text = mounts_with(&world, &options);
    expect![[r#"
        /dev/corten/ca-certificates.crt ro 644 0:0 "certificates"
        /dev/corten/apt.conf ro 644 0:0 "Acquire::https::CAInfo \"/dev/corten/ca-certificates.crt\";\n"
    "#]].assert_eq(&text);
    let step = last(&world);
    let variables = env(&step);
    for name in [
        "SSL_CERT_FILE",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
        "NODE_EXTRA_CA_CERTS",
        "GIT_SSL_CAINFO",
        "CARGO_HTTP_CAINFO",
    ] {
        assert_eq!(variables[name], "/dev/corten/ca-certificates.crt");
    }
    assert_eq!(variables["PIP_CERT"], "/own");
    assert_eq!(variables["APT_CONFIG"], "/dev/corten/apt.conf");
}

#[test]
fn a_relative_context_is_mounted_by_its_absolute_path() {
    require!(Need::Root);
    let world = World::new();
    world.write("a", "1");
    let here = std::path::absolute(".").unwrap();
    let up: std::path::PathBuf = here.components().skip(1).map(|_| "..").collect();
    let context = up.join(world.context().strip_prefix("/").unwrap());
    let mut options = world.options("FROM base\nRUN --mount=target=/s 1");
    options.context = crate::Context::Directory(context);
    world.build_with(&options).unwrap();
    let expected = world.context();
    assert!(
        matches!(&last(&world).mounts[0].kind, StepMountKind::Bind { source, .. } if *source == expected)
    );
}

#[test]
fn equal_layers_are_mounted_once() {
    require!(Need::Root);
    let world = World::new();
    // Steps that leave nothing behind have the same, empty layer; overlayfs refuses it twice.
    let image = world.build("FROM base\nRUN one\nRUN two\nRUN three");
    assert_eq!(image.layers[1], image.layers[2]);
    assert_eq!(last(&world).lowers, corten_store::overlay_lowers(&image.layers[..2]));
}

#[test]
fn layers_come_top_first_and_the_network_is_as_asked() {
    require!(Need::Root);
    let world = World::new();
    let image = world.build("FROM base\nRUN write /a 1\nRUN --network=none x");
    let step = last(&world);
    assert_eq!(step.network, Network::None);
    let below: Vec<_> = image.layers[..2].iter().rev().map(|layer| layer.path.clone()).collect();
    assert_eq!(step.lowers, below);
    assert!(step.upper.parent() == step.work.parent());
}

#[test]
fn a_context_is_mounted_as_it_is_or_without_what_is_ignored() {
    require!(Need::Root);
    let world = World::new();
    world.write("src/a", "1");
    world.write("src/deep/b", "2");
    expect![[r#"
        /s ro 755 0:0 ["a", "deep"]
    "#]]
    .assert_eq(&mounts(&world, "FROM base\nRUN --mount=target=/s,source=src 1"));
    assert!(
        matches!(&last(&world).mounts[0].kind, StepMountKind::Bind { source, .. } if *source == world.context().join("src"))
    );
    world.write(".dockerignore", "src/deep\n");
    expect![[r#"
        /s ro 755 0:0 ["a"]
    "#]]
    .assert_eq(&mounts(&world, "FROM base\nRUN --mount=target=/s,source=src 2"));
    expect![[r#"
        /s rw 644 0:0 "1"
    "#]]
    .assert_eq(&mounts(&world, "FROM base\nRUN --mount=target=/s,source=src/a,rw 3"));
}

#[test]
fn a_stage_is_mounted_as_it_is_or_merged() {
    require!(Need::Root);
    let world = World::new();
    let text = "FROM base AS a\nRUN write /o/x 1\nRUN write /o/y 2\nFROM base\nRUN --mount=from=a,source=/o,target=/o 1";
    expect![[r#"
        /o ro 755 0:0 ["x", "y"]
    "#]]
    .assert_eq(&mounts(&world, text));
    let text =
        "FROM base AS a\nRUN write /o/x 1\nFROM base\nRUN --mount=from=a,source=/o,target=/o 2";
    expect![[r#"
        /o ro 755 0:0 ["x"]
    "#]]
    .assert_eq(&mounts(&world, text));
    let layer = &world.build("FROM base AS a\nRUN write /o/x 1").layers[1];
    let step = world
        .executor
        .steps
        .lock()
        .unwrap()
        .iter()
        .rev()
        .find(|step| !step.mounts.is_empty())
        .unwrap()
        .clone();
    assert!(
        matches!(&step.mounts[0].kind, StepMountKind::Bind { source, .. } if *source == layer.path.join("o"))
    );
}

#[test]
fn a_cache_is_kept_and_shared_by_name() {
    require!(Need::Root);
    let world = World::new();
    let text = "FROM base\nRUN --mount=type=cache,target=/c,mode=1777,uid=5,gid=6 1";
    expect![[r#"
        /c rw 1777 5:6 []
    "#]]
    .assert_eq(&mounts(&world, text));
    let StepMountKind::Bind { source, .. } = last(&world).mounts[0].kind.clone() else {
        panic!("a bind")
    };
    put(&source, "kept", "1");
    expect![[r#"
        /other rw 1777 5:6 ["kept"]
    "#]]
    .assert_eq(&mounts(&world, "FROM base\nRUN --mount=type=cache,target=/other,id=/c 2"));
    expect![[r#"
        /c rw 755 0:0 []
    "#]]
    .assert_eq(&mounts(&world, "FROM base\nRUN --mount=type=cache,target=/c,sharing=private 3"));
    expect![[r#"
        /seeded rw 755 0:0 ["group", "hostname", "passwd"]
    "#]]
    .assert_eq(&mounts(
        &world,
        "FROM base\nRUN --mount=type=cache,target=/seeded,from=base,source=/etc 4",
    ));
}

#[test]
fn secrets_are_files_or_variables_and_gone_afterwards() {
    require!(Need::Root);
    let world = World::new();
    let mut options = world.options(
        "FROM base\nRUN --mount=type=secret,id=tok --mount=type=secret,id=tok,target=/k,mode=0440,uid=5 \
         --mount=type=secret,id=tok,env=TOKEN x",
    );
    options.secrets.insert("tok".to_owned(), Secret::Value(b"s3cret".to_vec()));
    expect![[r#"
        /run/secrets/tok ro 400 0:0 "s3cret"
        /k ro 440 5:0 "s3cret"
    "#]]
    .assert_eq(&mounts_with(&world, &options));
    let step = last(&world);
    assert_eq!(env(&step)["TOKEN"], "s3cret");
    for mount in &step.mounts {
        let StepMountKind::Bind { source, .. } = &mount.kind else { panic!("a bind") };
        assert!(!file::exists(source).unwrap(), "{}", source.display());
    }
    let image = world.build_with(&options).unwrap();
    let config = corten_oci::json::canonical(&image.config);
    assert!(!String::from_utf8(config).unwrap().contains("s3cret"));
}

#[test]
fn a_script_is_a_file_for_the_time_of_the_step() {
    require!(Need::Root);
    let world = World::new();
    expect![[r##"
        /dev/pipes/EOF ro 755 0:0 "#!/usr/bin/python\nprint(1)\n"
    "##]]
    .assert_eq(&mounts(&world, "FROM base\nRUN <<EOF\n#!/usr/bin/python\nprint(1)\nEOF\n"));
    assert_eq!(last(&world).args, ["/bin/sh", "-c", "/dev/pipes/EOF"]);
}

#[test]
fn a_missing_directory_to_start_in_is_made() {
    require!(Need::Root);
    let world = World::new();
    let config = corten_oci::image::ContainerConfig {
        working_dir: Some("/srv/app".to_owned()),
        ..corten_oci::image::ContainerConfig::default()
    };
    world.make_image("dir", &[("x", "")], &config);
    let image = world.build("FROM dir\nRUN x");
    assert!(image.layers[1].path.join("srv/app").is_dir());
}
