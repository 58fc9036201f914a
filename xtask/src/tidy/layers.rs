//! Which crate may depend on which.

use serde_json::Value;

/// The layers of ARCHITECTURE.md, the lowest first.
const LAYERS: [&[&str]; 5] = [
    &["corten-oci", "corten-diag", "corten-sys"],
    &["corten-store", "corten-dockerfile"],
    &["corten-registry", "corten-runtime", "corten-lint", "corten-scan"],
    &["corten-build", "corten-base", "corten-slim", "corten-compose", "corten-report"],
    &["corten"],
];

/// Crates that only tests and people use; nothing in the product may depend on them.
const DEVELOPMENT: [&str; 2] = ["corten-testkit", "xtask"];

fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&name))
}

/// Finds edges that do not go down.
pub(super) fn check(metadata: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    let packages = metadata["packages"].as_array().map(Vec::as_slice).unwrap_or_default();
    for package in packages {
        let name = package["name"].as_str().unwrap_or_default();
        if DEVELOPMENT.contains(&name) {
            continue;
        }
        let Some(from) = layer(name) else {
            problems.push(format!("crate `{name}` is in no layer of ARCHITECTURE.md"));
            continue;
        };
        let dependencies = package["dependencies"].as_array().map(Vec::as_slice);
        for dependency in dependencies.unwrap_or_default() {
            let to_name = dependency["name"].as_str().unwrap_or_default();
            let for_tests = dependency["kind"] == "dev";
            if DEVELOPMENT.contains(&to_name) && !for_tests {
                problems.push(format!("`{name}` must not depend on `{to_name}` outside of tests"));
            }
            if let Some(to) = layer(to_name)
                && to >= from
            {
                problems.push(format!(
                    "`{name}` (layer {from}) must not depend on `{to_name}` (layer {to})"
                ));
            }
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn workspace(from: &str, to: &str, kind: Option<&str>) -> Value {
        json!({ "packages": [{ "name": from, "dependencies": [{ "name": to, "kind": kind }] }] })
    }

    #[test]
    fn an_edge_down_is_fine() {
        assert!(check(&workspace("corten-store", "corten-oci", None)).is_empty());
        assert!(check(&workspace("corten-store", "corten-testkit", Some("dev"))).is_empty());
        assert!(check(&workspace("corten-store", "serde", None)).is_empty());
    }

    #[test]
    fn edges_up_and_sideways_are_refused() {
        for (from, to) in [
            ("corten-store", "corten-dockerfile"),
            ("corten-oci", "corten-store"),
            ("corten-lint", "corten-build"),
            ("corten-store", "corten-testkit"),
            ("corten-drawer", "corten-oci"),
        ] {
            assert_eq!(check(&workspace(from, to, None)).len(), 1, "{from} -> {to}");
        }
    }
}
