//! Tables of texts that are descriptions, and of those that are not.

use std::path::{Path, PathBuf};

use expect_test::{Expect, expect};

use super::{Form, Registry, parse};
use crate::spec::{ContainerSpec, Mount, Rootfs};

const GPU: &str = r#"---
cdiVersion: "0.5.0"
kind: nvidia.com/gpu
containerEdits:
  env: [NVIDIA_VISIBLE_DEVICES=void]
  deviceNodes:
  - path: /dev/nvidiactl
  mounts:
  - hostPath: /usr/lib/libcuda.so.570
    containerPath: /usr/lib/libcuda.so.570
    options: [ro, nosuid, nodev, rbind, rprivate]
  hooks:
  - hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
    args: [nvidia-cdi-hook, create-symlinks, --link, "libcuda.so.1::/usr/lib/libcuda.so"]
  - hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
    args: [nvidia-cdi-hook, update-ldcache, --folder, /usr/lib]
devices:
- name: "0"
  containerEdits:
    deviceNodes:
    - {path: /dev/nvidia0, type: c, major: 195, minor: 0, permissions: rw, fileMode: 0666}
    - {path: /dev/dri/card, hostPath: /dev/dri/card1}
    additionalGids: [44, 0]
- name: all
  containerEdits:
    deviceNodes:
    - path: /dev/nvidia0
"#;

fn registry(files: &[(&str, usize, &str)]) -> Registry {
    let mut registry = Registry::new(vec![PathBuf::from("/etc/cdi"), PathBuf::from("/run/cdi")]);
    for (path, priority, text) in files {
        registry.add(Path::new(path), *priority, text);
    }
    registry
}

fn small(kind: &str, device: &str, variable: &str) -> String {
    format!(
        "cdiVersion: 0.6.0\nkind: {kind}\ndevices:\n- name: {device}\n  annotations:\n    \
         org.mobyproject.buildkit.device.class: class-{device}\n  \
         containerEdits:\n    env: ['{variable}']\n"
    )
}

/// What a container gets, a line each.
fn shown(registry: &Registry, wanted: &[&str]) -> String {
    let wanted: Vec<String> = wanted.iter().map(|name| (*name).to_owned()).collect();
    let injection = match registry.inject(&wanted) {
        Ok(injection) => injection,
        Err(error) => return format!("{error}\nhint: {}\n", error.hint().unwrap_or_default()),
    };
    let mut spec = ContainerSpec::new("id", Rootfs::in_memory(Vec::new()), Vec::new());
    injection.apply(&mut spec);
    let mut lines = spec.env.clone();
    lines.extend(spec.devices.iter().map(|device| {
        format!("device {} from {}", device.target.display(), device.source.display())
    }));
    for mount in &spec.mounts {
        lines.push(match mount {
            Mount::Bind(bind) => format!(
                "bind {} readonly={} recursive={} {:?}",
                bind.target.display(),
                bind.readonly,
                bind.recursive,
                bind.options
            ),
            Mount::Tmpfs(tmpfs) => {
                format!("tmpfs {} {:?}", tmpfs.target.display(), tmpfs.size_bytes)
            }
        });
    }
    lines.extend(spec.additional_gids.iter().map(|gid| format!("group {gid}")));
    lines.extend(injection.warnings.iter().map(|warning| format!("warning: {warning}")));
    lines.join("\n") + "\n"
}

#[test]
fn a_gpu_comes_with_what_its_vendor_says() {
    let registry = registry(&[("/etc/cdi/nvidia.yaml", 0, GPU)]);
    assert_eq!(registry.problems, Vec::<String>::new());
    expect![[r#"
        NVIDIA_VISIBLE_DEVICES=void
        device /dev/nvidiactl from /dev/nvidiactl
        device /dev/nvidia0 from /dev/nvidia0
        device /dev/dri/card from /dev/dri/card1
        bind /usr/lib/libcuda.so.570 readonly=true recursive=true BindOptions { no_setuid: true, no_exec: false, keep_owners: true, propagation: Private }
        group 44
    "#]].assert_eq(&shown(&registry, &["nvidia.com/gpu=0", "nvidia.com/gpu=all"]));
}

#[test]
fn json_is_read_like_yaml() {
    let json = r#"{"cdiVersion":"1.0.0","kind":"a.b/c","devices":[{"name":"d","containerEdits":
        {"env":["X=1"],"mounts":[{"hostPath":"tmpfs","containerPath":"/scratch","type":"tmpfs",
        "options":["size=1m","nosuid"]}],"intelRdt":{"closID":"x"}}}]}"#;
    let registry = registry(&[("/etc/cdi/a.json", 0, json)]);
    assert_eq!(registry.problems, Vec::<String>::new());
    expect![[r#"
        X=1
        tmpfs /scratch Some(1048576)
        warning: the CDI device `a.b/c=d` asks for cache of its own (`intelRdt`), which is not set up
    "#]].assert_eq(&shown(&registry, &["a.b/c=d"]));
}

#[test]
fn a_name_stands_for_one_device_the_first_all_or_a_class() {
    let (x, y) = (small("v.com/d", "x", "X=1"), small("v.com/d", "y", "Y=1"));
    let registry = registry(&[("/etc/cdi/y.yaml", 0, &y), ("/etc/cdi/x.yaml", 0, &x)]);
    let found = |name: &str| match registry.find(name) {
        Ok(found) => found.join(" "),
        Err(error) => format!("{error} ({})", error.hint().unwrap_or_default()),
    };
    let names = ["v.com/d=y", "v.com/d", "v.com/d=*", "class-y", "v.com/d=z", "nvidia.com/gpu=all"];
    let table: Vec<String> =
        names.iter().map(|name| format!("{name}: {}\n", found(name))).collect();
    expect![[r#"
        v.com/d=y: v.com/d=y
        v.com/d: v.com/d=x
        v.com/d=*: v.com/d=x v.com/d=y
        class-y: v.com/d=y
        v.com/d=z: no CDI device `v.com/d=z` is described on this machine (did you mean `v.com/d=x`?)
        nvidia.com/gpu=all: no CDI device `nvidia.com/gpu=all` is described on this machine (there are `v.com/d=x`, `v.com/d=y`)
    "#]].assert_eq(&table.concat());
}

#[test]
fn a_later_directory_goes_first_and_equals_are_a_conflict() {
    let [low, high, other] =
        [small("a/b", "c", "X=low"), small("a/b", "c", "X=high"), small("a/b", "c", "X=other")];
    let files = [("/etc/cdi/1.yaml", 0, low.as_str()), ("/run/cdi/2.yaml", 1, &high)];
    assert_eq!(shown(&registry(&files), &["a/b=c"]), "X=high\n");
    let [first, second] = files;
    assert_eq!(shown(&registry(&[second, first]), &["a/b=c"]), "X=high\n");
    expect![[r#"
        the CDI device `a/b=c` is described by `/etc/cdi/1.yaml` and `/etc/cdi/3.yaml`
        hint: remove one of the files
    "#]]
    .assert_eq(&shown(&registry(&[first, ("/etc/cdi/3.yaml", 0, &other)]), &["a/b=c"]));
}

#[test]
fn a_file_that_cannot_be_read_hides_no_other() {
    let good = small("a/b", "c", "X=1");
    let registry =
        registry(&[("/etc/cdi/bad.yaml", 0, "kind: ["), ("/etc/cdi/good.yml", 0, &good)]);
    assert_eq!(shown(&registry, &["a/b=c"]), "X=1\n");
    expect!["/etc/cdi/bad.yaml:2: while parsing a node, did not find expected node content"]
        .assert_eq(&registry.problems.join("\n"));
}

#[test]
fn without_descriptions_it_is_said_what_makes_them() {
    expect![[r#"
        no CDI device `nvidia.com/gpu=all` is described on this machine
        hint: there are no CDI descriptions in `/etc/cdi` and `/run/cdi`; for NVIDIA devices, `nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml` writes them
    "#]].assert_eq(&shown(&registry(&[]), &["nvidia.com/gpu=all"]));
}

#[test]
fn what_cannot_be_mounted_is_refused_by_name() {
    let of = |mount: &str| {
        let text = format!(
            "cdiVersion: 0.6.0\nkind: a/b\ndevices:\n- name: c\n  containerEdits:\n    mounts:\n    - {mount}\n"
        );
        shown(&registry(&[("/etc/cdi/a.yaml", 0, &text)]), &["a/b=c"])
    };
    let table = [
        of("{hostPath: /a, containerPath: /a, type: nfs}"),
        of("{hostPath: /a, containerPath: /a, options: [shared]}"),
    ];
    expect![[r#"
        the CDI device `a/b=c` needs a mount of type `nfs` on `/a`
        hint: Corten mounts `bind` and `tmpfs`, with their usual options
        the CDI device `a/b=c` has the mount option `shared`, which is not understood
        hint: Corten mounts `bind` and `tmpfs`, with their usual options
    "#]]
    .assert_eq(&table.concat());
}

fn check_faults(texts: &[&str], form: Form, expected: &Expect) {
    let mut table = String::new();
    for text in texts {
        let line = match parse(text, form) {
            Ok(_) => "accepted".to_owned(),
            Err(fault) => format!("{:?} {fault}", fault.line),
        };
        table.push_str(&format!("{line}\n"));
    }
    expected.assert_eq(&table);
}

#[test]
fn what_is_no_description_is_refused_with_its_place() {
    let edits = |text: &str| {
        format!(
            "cdiVersion: 0.6.0\nkind: a/b\ndevices:\n- name: c\n  containerEdits:\n    {text}\n"
        )
    };
    let head =
        |text: &str| format!("{text}\ndevices:\n- name: c\n  containerEdits:\n    env: [X=1]\n");
    let device = |text: &str| format!("cdiVersion: 0.6.0\nkind: a/b\ndevices:\n{text}\n");
    let node = |text: &str| edits(&format!("deviceNodes: [{{{text}}}]"));
    let texts = [
        String::new(),
        "a: [".to_owned(),
        "- a".to_owned(),
        "a: 1\na: 2".to_owned(),
        "a: &x 1\nb: *x".to_owned(),
        "a: !!str 1".to_owned(),
        "? [a]\n: b".to_owned(),
        format!("{}---\n{}", edits("env: [X=1]"), edits("env: [X=1]")),
        "[".repeat(40),
        head("kind: a/b"),
        head("cdiVersion: 0.6.0"),
        head("cdiVersion: 2.0.0\nkind: a/b"),
        head("cdiVersion: 0.6.0\nkind: ab"),
        head("cdiVersion: 0.6.0\nkind: a/b/c"),
        head("cdiVersion: 0.6.0\nkind: 1/b"),
        head("cdiVersion: 0.6.0\nkind: a/b\nother: 1"),
        "cdiVersion: 0.6.0\nkind: a/b\ndevices: []".to_owned(),
        device("- name: c"),
        device("- name: c\n  containerEdits: {}"),
        device("- name: -c\n  containerEdits: {env: [X=1]}"),
        device(
            "- name: c\n  containerEdits: {env: [X=1]}\n- name: c\n  containerEdits: {env: [X=1]}",
        ),
        edits("env: X=1"),
        edits("env: [X]"),
        edits("env: [\"X=\\0\"]"),
        node("hostPath: /dev/a"),
        node("path: dev/a"),
        node("path: /dev/../a"),
        node("path: /dev/a, type: x"),
        node("path: /dev/a, major: -1"),
        node("path: /dev/a, major: '1'"),
        node("path: /dev/a, permissions: rx"),
        edits("mounts: [{hostPath: /a}]"),
        edits("mounts: [{hostPath: a, containerPath: /a}]"),
        edits("hooks: [{hookName: later, path: /a}]"),
        edits("hooks: [{hookName: poststop}]"),
        edits("additionalGids: [x]"),
        edits("netDevices: []"),
    ];
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    check_faults(
        &texts,
        Form::Yaml,
        &expect![[r#"
        Some(1) the file is empty
        Some(2) while parsing a node, did not find expected node content
        Some(1) it is a list, not a mapping
        Some(2) `a` is there twice
        Some(2) aliases (`*name`) are not accepted
        Some(1) tags (`!name`) are not accepted
        Some(1) the key of a mapping is not a text
        Some(7) there is a second document; one file describes one kind of device
        Some(1) it is nested deeper than 32
        Some(1) `cdiVersion` is missing
        Some(1) `kind` is missing
        Some(1) `cdiVersion`: version `2.0.0` is not known; 0.1.0 to 1.0.0 are
        Some(2) `kind`: `ab` is not `vendor/class`, each of letters, digits, `_`, `-` and `.`
        Some(2) `kind`: `a/b/c` is not `vendor/class`, each of letters, digits, `_`, `-` and `.`
        Some(2) `kind`: `1/b` is not `vendor/class`, each of letters, digits, `_`, `-` and `.`
        Some(3) `other`: no such field is known
        Some(3) `devices`: there are no devices
        Some(4) `devices[0]`: `containerEdits` is missing
        Some(5) `devices[0].containerEdits`: the device changes nothing
        Some(4) `devices[0].name`: `-c` is no name of a device: letters, digits, `_`, `-`, `.` and `:`
        Some(6) `devices[1]`: the device `c` is there twice
        Some(6) `devices[0].containerEdits.env`: it is a plain value, not a list
        Some(6) `devices[0].containerEdits.env[0]`: `X` is not `NAME=value`
        Some(6) `devices[0].containerEdits.env[0]`: it has a NUL byte
        Some(6) `devices[0].containerEdits.deviceNodes[0]`: `path` is missing
        Some(6) `devices[0].containerEdits.deviceNodes[0].path`: `dev/a` is not an absolute path
        Some(6) `devices[0].containerEdits.deviceNodes[0].path`: `/dev/../a` has a `..` in it
        Some(6) `devices[0].containerEdits.deviceNodes[0].type`: `x` is none of `c`, `u`, `b`, `p`
        Some(6) `devices[0].containerEdits.deviceNodes[0].major`: it is not a number from 0 to 4294967295
        Some(6) `devices[0].containerEdits.deviceNodes[0].major`: it is not a number from 0 to 4294967295
        Some(6) `devices[0].containerEdits.deviceNodes[0].permissions`: `rx` has letters other than `rwm`
        Some(6) `devices[0].containerEdits.mounts[0]`: `containerPath` is missing
        Some(6) `devices[0].containerEdits.mounts[0].hostPath`: `a` is not an absolute path
        Some(6) `devices[0].containerEdits.hooks[0].hookName`: `later` is no hook of a container
        Some(6) `devices[0].containerEdits.hooks[0]`: `path` is missing
        Some(6) `devices[0].containerEdits.additionalGids[0]`: it is not a number from 0 to 4294967295
        Some(6) `devices[0].containerEdits.netDevices`: no such field is known
    "#]],
    );
}

#[test]
fn json_that_is_none_is_refused_with_its_place() {
    let texts = [
        "",
        "{",
        "{\"kind\": 1}",
        "[]",
        "{\"cdiVersion\":\"0.6.0\",\"kind\":\"a\",\"devices\":[]}",
    ];
    check_faults(
        &texts,
        Form::Json,
        &expect![[r#"
        Some(1) EOF while parsing a value
        Some(1) EOF while parsing an object
        None `cdiVersion` is missing
        None it is a list, not a mapping
        None `devices`: there are no devices
    "#]],
    );
}

#[test]
fn numbers_are_octal_and_hexadecimal_as_yaml_has_them() {
    for (text, expected) in [("438", 438), ("0666", 438), ("0o666", 438), ("0x1b6", 438), ("0", 0)]
    {
        let text = format!(
            "cdiVersion: 0.6.0\nkind: a/b\ndevices:\n- name: c\n  containerEdits:\n    deviceNodes:\n    \
             - {{path: /dev/a, fileMode: {text}}}\n"
        );
        let spec = parse(&text, Form::Yaml).unwrap();
        assert_eq!(spec.devices[0].edits.nodes[0].mode, Some(expected));
    }
}

#[test]
fn a_description_that_is_cut_off_is_refused_or_read() {
    for end in 0..GPU.len() {
        let registry = registry(&[("/etc/cdi/a.yaml", 0, &GPU[..end])]);
        let is_known = registry.names().next().is_some();
        assert_eq!(is_known, registry.problems.is_empty(), "{end}: {:?}", registry.problems);
    }
}

#[test]
fn a_node_must_be_what_its_description_says() {
    let check = |node: &str| {
        let text = format!(
            "cdiVersion: 0.6.0\nkind: a/b\ndevices:\n- name: c\n  containerEdits:\n    deviceNodes:\n    \
             - {{{node}}}\n"
        );
        let registry = registry(&[("/etc/cdi/a.yaml", 0, &text)]);
        let mut injection = registry.inject(&["a/b=c".to_owned()]).unwrap();
        match injection.check() {
            Ok(()) if injection.warnings.is_empty() => "as described".to_owned(),
            Ok(()) => injection.warnings.join("\n"),
            Err(error) => error.to_string(),
        }
    };
    let nodes = [
        "path: /dev/null",
        "path: /dev/x, hostPath: /dev/null, type: c, major: 1, minor: 3",
        "path: /dev/null, major: 0, minor: 0",
        "path: /dev/null, major: 1, minor: 5",
        "path: /dev/null, type: b",
        "path: /dev/null, fileMode: 0600",
        "path: /dev/null, permissions: r",
        "path: /dev/not-there-at-all",
        "path: /etc/passwd",
    ];
    let table: Vec<String> =
        nodes.iter().map(|node| format!("{node} => {}\n", check(node))).collect();
    expect![[r#"
        path: /dev/null => as described
        path: /dev/x, hostPath: /dev/null, type: c, major: 1, minor: 3 => as described
        path: /dev/null, major: 0, minor: 0 => as described
        path: /dev/null, major: 1, minor: 5 => the CDI device `a/b=c` needs `/dev/null`: it is 1:3, and 1:5 is described
        path: /dev/null, type: b => the CDI device `a/b=c` needs `/dev/null`: it is a character device, which is not what is described
        path: /dev/null, fileMode: 0600 => `/dev/null` of the CDI device `a/b=c` keeps the owner and the permissions that it has on the host
        path: /dev/null, permissions: r => as described
        path: /dev/not-there-at-all => the CDI device `a/b=c` needs `/dev/not-there-at-all`: it is not there
        path: /etc/passwd => the CDI device `a/b=c` needs `/etc/passwd`: it is no device
    "#]].assert_eq(&table.concat());
}
