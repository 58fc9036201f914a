//! A crate depends only on crates of lower layers.

use super::Finding;
use super::workspace::{Member, Workspace};

/// ARCHITECTURE.md draws them. A crate that is in none of them is refused.
const LAYERS: [&[&str]; 5] = [
    &["corten-oci", "corten-diag", "corten-sys"],
    &["corten-store", "corten-dockerfile", "corten-http"],
    &["corten-registry", "corten-runtime", "corten-lint", "corten-scan", "corten-record"],
    &[
        "corten-build",
        "corten-base",
        "corten-monitor",
        "corten-bundle",
        "corten-slim",
        "corten-compose",
        "corten-report",
    ],
    &["corten"],
];

/// Crates for developers. They may use the lowest layer; others may use them for tests only.
const DEVELOPMENT: [&str; 2] = ["corten-testkit", "xtask"];

pub(super) fn find(workspace: &Workspace) -> Vec<Finding> {
    workspace.members.iter().flat_map(|member| of(member, workspace)).collect()
}

fn of(member: &Member, workspace: &Workspace) -> Vec<Finding> {
    let path = format!("{}/Cargo.toml", member.directory);
    let is_development = DEVELOPMENT.contains(&member.name.as_str());
    let layer = layer(&member.name);
    if layer.is_none() && !is_development {
        let message = format!("`{}` is in no layer: add it to `LAYERS`", member.name);
        return vec![Finding::new(path, 0, message)];
    }
    let mut findings = Vec::new();
    for dependency in &member.dependencies {
        let to = dependency.name.as_str();
        if !workspace.members.iter().any(|member| member.name == to) {
            continue;
        }
        let message = if DEVELOPMENT.contains(&to) {
            if dependency.is_dev {
                continue;
            }
            format!("`{to}` is for tests: use it under [dev-dependencies]")
        } else {
            let below = match layer {
                Some(layer) => self::layer(to).is_some_and(|to| to < layer),
                None => self::layer(to) == Some(0),
            };
            if below {
                continue;
            }
            format!(
                "`{}` ({}) must not depend on `{to}` ({})",
                member.name,
                describe(&member.name),
                describe(to)
            )
        };
        findings.push(Finding::new(path.clone(), 0, message));
    }
    findings
}

fn layer(name: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&name))
}

fn describe(name: &str) -> String {
    match layer(name) {
        Some(layer) => format!("layer {layer}"),
        None if DEVELOPMENT.contains(&name) => "development".to_owned(),
        None => "no layer".to_owned(),
    }
}
