//! Variables: build arguments, platform arguments and the environment of a stage.

use std::collections::BTreeMap;

use corten_oci::platform::Platform;

/// The proxy arguments that count without being declared. They reach `RUN` but neither the image
/// nor a key.
pub(crate) const PROXY_ARGS: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// Arguments that are declared for the frontend and not for programs.
const NO_VARIABLES: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

/// Arguments that mean something without being declared.
const PREDEFINED_PREFIXES: [&str; 2] = ["BUILDKIT_", "SOURCE_DATE_EPOCH"];

/// Variables in the order in which they were first set.
#[derive(Debug, Clone, Default)]
pub(crate) struct Variables {
    pairs: Vec<(String, String)>,
}

impl Variables {
    pub(crate) fn get(&self, name: &str) -> Option<String> {
        self.pairs.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        match self.pairs.iter_mut().find(|(key, _)| key == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.pairs.push((name.to_owned(), value.to_owned())),
        }
    }

    pub(crate) fn pairs(&self) -> &[(String, String)] {
        &self.pairs
    }
}

/// The arguments that every Dockerfile has, before its own.
pub(crate) fn global(
    build: &Platform,
    target: &Platform,
    stage: &str,
    given: &BTreeMap<String, String>,
) -> Variables {
    let variant = |platform: &Platform| platform.variant.clone().unwrap_or_default();
    let known = [
        ("BUILDPLATFORM", build.to_string()),
        ("BUILDOS", build.os.clone()),
        ("BUILDOSVERSION", String::new()),
        ("BUILDARCH", build.architecture.clone()),
        ("BUILDVARIANT", variant(build)),
        ("TARGETPLATFORM", target.to_string()),
        ("TARGETOS", target.os.clone()),
        ("TARGETOSVERSION", String::new()),
        ("TARGETARCH", target.architecture.clone()),
        ("TARGETVARIANT", variant(target)),
        ("TARGETSTAGE", stage.to_owned()),
    ];
    let mut variables = Variables::default();
    for (name, value) in known {
        variables.set(name, given.get(name).unwrap_or(&value));
    }
    variables
}

/// Whether an argument becomes a variable in the stage.
pub(crate) fn is_variable(name: &str) -> bool {
    !NO_VARIABLES.contains(&name)
}

/// Whether an argument may be given although no `ARG` names it.
pub(crate) fn is_predefined(name: &str) -> bool {
    PROXY_ARGS.contains(&name)
        || PREDEFINED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || name.starts_with("TARGET")
        || name.starts_with("BUILD")
}
