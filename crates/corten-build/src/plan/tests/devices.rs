//! `RUN --device`: what is granted, and what a plan shows of it.

use super::*;

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
