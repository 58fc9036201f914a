//! The configuration of apt and dpkg in the image.

use std::fmt::Write as _;

use super::{Context, EffectError, of};
use crate::rootfs::RootfsError;
use crate::sources;

/// Files that keep layers small. They have the names that images of Docker use, since existing
/// Dockerfiles remove `docker-clean` by name to keep packages in a cache mount.
const CONFIGURATION: [(&str, &str); 4] = [
    (
        "docker-clean",
        "// Packages are removed once they are installed: in a layer they would be dead weight.\n\
         DPkg::Post-Invoke { \"rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true\"; };\n\
         APT::Update::Post-Invoke { \"rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true\"; };\n\
         Dir::Cache::pkgcache \"\";\nDir::Cache::srcpkgcache \"\";\n",
    ),
    (
        "docker-no-languages",
        "// Translations of package descriptions are not fetched.\nAcquire::Languages \"none\";\n",
    ),
    (
        "docker-gzip-indexes",
        "// Indexes stay compressed on disk.\nAcquire::GzipIndexes \"true\";\n",
    ),
    (
        "docker-autoremove-suggests",
        "// A suggested package does not keep another one from being removed.\nApt::AutoRemove::SuggestsImportant \"false\";\n",
    ),
];

/// Writes sources, configuration and state of apt, and the filter of files for dpkg.
pub(super) fn apply(context: &mut Context<'_, '_>) -> Result<(), EffectError> {
    if context.package("apt").is_none() {
        return Ok(());
    }
    write(context).or_else(of("apt"))
}

fn write(context: &mut Context<'_, '_>) -> Result<(), RootfsError> {
    let filter = context.filter.dpkg_configuration();
    let states = context
        .automatic
        .iter()
        .filter_map(|name| context.package(name))
        .map(|package| {
            let architecture = if package.architecture == "all" {
                context.architecture
            } else {
                &package.architecture
            };
            format!(
                "Package: {}\nArchitecture: {architecture}\nAuto-Installed: 1\n\n",
                package.name
            )
        })
        .collect::<Vec<_>>()
        .concat();
    let deb822 = sources_file(context);
    let rootfs = &mut *context.rootfs;
    for (name, text) in CONFIGURATION {
        rootfs.write(&format!("etc/apt/apt.conf.d/{name}"), text, 0o644)?;
    }
    rootfs.write("etc/apt/sources.list.d/debian.sources", deb822, 0o644)?;
    rootfs.write("var/lib/apt/extended_states", states, 0o644)?;
    if !filter.is_empty() {
        let text = format!(
            "# Files that this image leaves out; packages installed later follow.\n{filter}"
        );
        rootfs.write("etc/dpkg/dpkg.cfg.d/docker", text, 0o644)?;
    }
    // Services have nobody to start them: a package that tries is told that this is not allowed.
    rootfs.write("usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n", 0o755)
}

fn sources_file(context: &Context<'_, '_>) -> String {
    let base = &context.recipe.base;
    let mirrors = context.mirrors.without_credentials();
    let archive: Vec<&str> =
        [base.suite.as_str()].into_iter().chain(base.updates.iter().map(String::as_str)).collect();
    let security: Vec<&str> = base.security.iter().map(String::as_str).collect();
    let keyring = "/usr/share/keyrings/debian-archive-keyring.gpg";
    let mut text = String::new();
    for (uri, suites) in [(mirrors.archive.first(), archive), (mirrors.security.first(), security)]
    {
        let Some(uri) = uri.filter(|_| !suites.is_empty()) else { continue };
        let uri = sources::without_credentials(uri);
        if !text.is_empty() {
            text.push('\n');
        }
        write!(
            text,
            "Types: deb\nURIs: {uri}\nSuites: {}\nComponents: {}\nSigned-By: {keyring}\n",
            suites.join(" "),
            base.component
        )
        .expect("writing to a string cannot fail");
    }
    text
}
