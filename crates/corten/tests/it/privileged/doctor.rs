//! `corten doctor` on this host.

use corten_testkit::privilege::Need;
use corten_testkit::{TestContext, require};

/// The verdicts by the names of the checks.
fn verdicts(context: &TestContext) -> serde_json::Map<String, serde_json::Value> {
    let output = context.run(&["doctor", "--json"]).success();
    let found: serde_json::Value = serde_json::from_str(output.stdout()).expect("it is JSON");
    assert_eq!(found["schema"], "corten.doctor/1");
    let checks = found["checks"].as_array().expect("it is a list").iter();
    let pair = |check: &serde_json::Value| {
        (check["name"].as_str().expect("it has one").to_owned(), check["verdict"].clone())
    };
    checks.map(pair).collect()
}

#[test]
fn where_containers_run_nothing_is_an_error() {
    require!(Need::Root, Need::Overlay);
    let context = corten_testkit::context!();
    let verdicts = verdicts(&context);
    for name in ["kernel", "user-namespaces", "namespaces", "overlay", "mapped-mounts", "seccomp"] {
        assert_eq!(verdicts[name], "ok", "{name}");
    }
    assert!(verdicts.values().all(|verdict| verdict != "error"), "{verdicts:?}");
    let lines = context.run(&["doctor"]).success();
    assert!(
        lines.stdout().lines().all(|line| line.starts_with("ok ") || line.starts_with("warning "))
    );
    let left = corten_sys::file::absent_is_none(corten_sys::file::list_dir(&context.root_dir()));
    assert_eq!(left.expect("it can be read").unwrap_or_default().len(), 0, "it makes no store");
}

#[test]
fn an_ordinary_user_is_told_of_missing_ids() {
    require!(Need::Root, Need::UserNamespaces, Need::RootlessOverlay);
    let context = corten_testkit::context!().as_user(54_321, 54_321);
    let verdicts = verdicts(&context);
    assert_eq!(verdicts["ids"], "warning");
    assert_eq!(verdicts["overlay"], "ok");
    assert!(!verdicts.contains_key("mapped-mounts"), "that is for root alone");
    let quiet = context.run(&["doctor", "--quiet"]).success();
    assert!(quiet.stdout().contains("/etc/subuid") && !quiet.stdout().contains("ok "));
}
