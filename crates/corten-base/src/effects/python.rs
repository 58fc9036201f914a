//! Python: the directories that scripts of Debian make, and the layout of Docker's `python` images.

use super::wheel::{self, Target, WheelError};
use super::{Context, EffectError, of};
use crate::rootfs::RootfsError;

const EFFECT: &str = "python";
const WHEELS: &str = "usr/share/python-wheels";

/// What the script of `python3` writes into its configuration.
const DEBIAN_CONFIG: &str = "[DEFAULT]\n# how to byte-compile (comma separated: standard, optimize)\nbyte-compile = standard\n";

/// Does what the scripts of Debian's Python do, and what the recipe asks for beyond that.
pub(super) fn apply(context: &mut Context<'_, '_>) -> Result<(), EffectError> {
    debian(context).or_else(of(EFFECT))?;
    let Some(version) = context.recipe.python.as_ref().map(|python| python.version.clone()) else {
        return Ok(());
    };
    links(context, &version).or_else(of(EFFECT))?;
    wheels(context, &version)
}

fn debian(context: &mut Context<'_, '_>) -> Result<(), RootfsError> {
    let rootfs = &mut *context.rootfs;
    for package in context.packages {
        let minimal =
            package.name.strip_prefix("python").and_then(|name| name.strip_suffix("-minimal"));
        if let Some(version) = minimal.filter(|version| version.contains('.')) {
            rootfs.mkdir(&format!("usr/local/lib/python{version}/dist-packages"), 0o755)?;
            rootfs.write(&format!("var/lib/python/python{version}_installed"), "", 0o644)?;
        }
    }
    if context.packages.iter().any(|package| package.name == "python3") {
        rootfs.write("etc/python3/debian_config", DEBIAN_CONFIG, 0o644)?;
    }
    Ok(())
}

/// Programs below `/usr/local/bin`, and one directory of packages under both names: Debian's Python
/// looks into `dist-packages`, and existing Dockerfiles copy `site-packages`.
fn links(context: &mut Context<'_, '_>, version: &str) -> Result<(), RootfsError> {
    let rootfs = &mut *context.rootfs;
    let interpreter = format!("/usr/bin/python{version}");
    if rootfs.node(interpreter.trim_start_matches('/')).is_none() {
        let path = interpreter.trim_start_matches('/').to_owned();
        return Err(RootfsError::Missing { path, effect: EFFECT });
    }
    for name in ["python".to_owned(), "python3".to_owned(), format!("python{version}")] {
        rootfs.symlink(&format!("usr/local/bin/{name}"), &interpreter)?;
    }
    let pydoc = format!("/usr/bin/pydoc{version}");
    if rootfs.node(pydoc.trim_start_matches('/')).is_some() {
        for name in ["pydoc".to_owned(), "pydoc3".to_owned(), format!("pydoc{version}")] {
            rootfs.symlink(&format!("usr/local/bin/{name}"), &pydoc)?;
        }
    }
    let library = format!("usr/local/lib/python{version}");
    rootfs.remove(&format!("{library}/dist-packages"))?;
    rootfs.mkdir(&format!("{library}/site-packages"), 0o755)?;
    rootfs.symlink(&format!("{library}/dist-packages"), "site-packages")
}

fn wheels(context: &mut Context<'_, '_>, version: &str) -> Result<(), EffectError> {
    let wanted =
        context.recipe.python.as_ref().map(|python| python.wheels.clone()).unwrap_or_default();
    let available = context.rootfs.list(WHEELS);
    for name in wanted {
        let prefix = format!("{name}-");
        let found = available.iter().rev().map(|file| String::from_utf8_lossy(file).into_owned());
        let found = found
            .into_iter()
            .find(|file| file.starts_with(&prefix) && file.strip_suffix(".whl").is_some());
        let path = format!("{WHEELS}/{}", found.unwrap_or_else(|| format!("{name}-*.whl")));
        let archive = context.rootfs.read(&path).or_else(of(EFFECT))?;
        let missing = || RootfsError::Missing { path: path.clone(), effect: EFFECT };
        let archive = archive.ok_or_else(missing).or_else(of(EFFECT))?;
        let target = Target {
            packages: &format!("usr/local/lib/python{version}/site-packages"),
            scripts: "usr/local/bin",
            scripts_from_packages: "../../../bin",
            interpreter: &format!("/usr/local/bin/python{version}"),
            version,
        };
        wheel::install(context.rootfs, &archive, &target).map_err(|error| match error {
            WheelError::Rootfs(source) => EffectError::Rootfs { effect: EFFECT, source },
            WheelError::Wheel(problem) => EffectError::Input { effect: EFFECT, path, problem },
        })?;
    }
    Ok(())
}
