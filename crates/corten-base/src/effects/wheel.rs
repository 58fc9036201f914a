//! Installing a Python wheel: its files, its scripts and the record that pip removes it by.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use corten_oci::digest::Digest;
use corten_oci::tree::TreePath;

use super::zip;
use crate::rootfs::{Rootfs, RootfsError};

/// Where a wheel goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'t> {
    /// The directory of packages, for example `usr/local/lib/python3.11/site-packages`.
    pub(super) packages: &'t str,
    /// The directory of scripts, for example `usr/local/bin`.
    pub(super) scripts: &'t str,
    /// The path from the former to the latter, as the record spells it.
    pub(super) scripts_from_packages: &'t str,
    /// The interpreter of scripts.
    pub(super) interpreter: &'t str,
    /// The version in names of scripts such as `pip3.11`.
    pub(super) version: &'t str,
}

/// A wheel that cannot be installed: what is wrong with it, or what the root file system refused.
#[derive(Debug)]
pub(super) enum WheelError {
    Wheel(String),
    Rootfs(RootfsError),
}

impl From<RootfsError> for WheelError {
    fn from(error: RootfsError) -> Self {
        Self::Rootfs(error)
    }
}

impl From<&str> for WheelError {
    fn from(problem: &str) -> Self {
        Self::Wheel(problem.to_owned())
    }
}

/// Installs a wheel as pip would.
pub(super) fn install(
    rootfs: &mut Rootfs<'_>,
    archive: &[u8],
    target: &Target<'_>,
) -> Result<(), WheelError> {
    let members = zip::read(archive)?;
    let info = members.iter().find_map(|member| member.name.strip_suffix("/METADATA"));
    let info = info.filter(|info| info.strip_suffix(".dist-info").is_some() && !info.contains('/'));
    let info = info.ok_or("has no dist-info directory")?.to_owned();
    let record_name = format!("{info}/RECORD");
    let mut files: BTreeMap<String, (Vec<u8>, u32)> = BTreeMap::new();
    let mut entry_points = String::new();
    for member in members {
        TreePath::new(member.name.as_bytes()).map_err(|_| "has a member with an unsafe name")?;
        if member.name.split('/').next().is_some_and(|first| first.strip_suffix(".data").is_some())
        {
            return Err("has a data directory, which is not supported".into());
        }
        if member.name == format!("{info}/entry_points.txt") {
            entry_points = String::from_utf8_lossy(&member.bytes).into_owned();
        }
        let is_program = member.mode & 0o111 != 0;
        if member.name != record_name {
            files.insert(member.name, (member.bytes, if is_program { 0o755 } else { 0o644 }));
        }
    }
    files.insert(format!("{info}/INSTALLER"), (b"pip\n".to_vec(), 0o644));
    let mut record: BTreeMap<String, String> = BTreeMap::new();
    for (name, (bytes, mode)) in &files {
        rootfs.write(&format!("{}/{name}", target.packages), bytes, *mode)?;
        record.insert(name.clone(), record_entry(bytes));
    }
    for (name, reference) in console_scripts(&entry_points, target.version) {
        let text = script(target.interpreter, &reference)
            .ok_or("has an entry point that is not a function")?;
        rootfs.write(&format!("{}/{name}", target.scripts), &text, 0o755)?;
        record.insert(
            format!("{}/{name}", target.scripts_from_packages),
            record_entry(text.as_bytes()),
        );
    }
    let mut text = String::new();
    for (name, entry) in &record {
        writeln!(text, "{},{entry}", quote(name)).expect("writing to a string cannot fail");
    }
    writeln!(text, "{record_name},,").expect("writing to a string cannot fail");
    Ok(rootfs.write(&format!("{}/{record_name}", target.packages), text, 0o644)?)
}

fn record_entry(bytes: &[u8]) -> String {
    format!(
        "sha256={},{}",
        BASE64_URL_SAFE_NO_PAD.encode(Digest::of(bytes).as_bytes()),
        bytes.len()
    )
}

/// The record is a CSV file.
fn quote(name: &str) -> String {
    if name.contains([',', '"', '\n']) {
        format!("\"{}\"", name.replace('"', "\"\""))
    } else {
        name.to_owned()
    }
}

/// Returns names and functions of scripts. Pip's own names with a version follow the interpreter and
/// not the machine that built the wheel.
fn console_scripts(entry_points: &str, version: &str) -> BTreeMap<String, String> {
    let mut scripts = BTreeMap::new();
    let mut section = "";
    for line in entry_points.lines().map(str::trim_ascii) {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
        } else if section == "console_scripts"
            && let Some((name, reference)) = line.split_once('=')
        {
            let (name, reference) = (name.trim_ascii(), reference.trim_ascii());
            let name = match name.strip_prefix("pip3.") {
                Some(_) => format!("pip{version}"),
                None => name.to_owned(),
            };
            let safe = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
            if !name.is_empty() && name.chars().all(safe) && !name.starts_with('.') {
                scripts.insert(name, reference.to_owned());
            }
        }
    }
    if let Some(reference) = scripts.get("pip").cloned() {
        scripts.insert(format!("pip{version}"), reference);
    }
    scripts
}

/// The script that pip writes for a function.
fn script(interpreter: &str, reference: &str) -> Option<String> {
    let reference = reference.split('[').next().unwrap_or_default().trim_ascii();
    let (module, function) = reference.split_once(':')?;
    let good = |text: &str| {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.')
    };
    let import = function.split('.').next().unwrap_or_default();
    (good(module) && good(function)).then(|| {
        format!(
            "#!{interpreter}\n# -*- coding: utf-8 -*-\nimport re\nimport sys\nfrom {module} import {import}\n\
             if __name__ == '__main__':\n    sys.argv[0] = re.sub(r'(-script\\.pyw|\\.exe)?$', '', sys.argv[0])\n    sys.exit({function}())\n"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::Spool;
    use expect_test::expect;

    const TARGET: Target<'static> = Target {
        packages: "usr/local/lib/python3.11/site-packages",
        scripts: "usr/local/bin",
        scripts_from_packages: "../../../bin",
        interpreter: "/usr/local/bin/python3.11",
        version: "3.11",
    };

    #[test]
    fn a_wheel_brings_files_scripts_and_a_record_of_all_of_them() {
        let spool = Spool::new(std::path::Path::new("/nonexistent"));
        let mut rootfs = Rootfs::new(&spool, 9);
        let wheel = zip::write(&[
            ("pip/__init__.py", b""),
            ("pip-1.dist-info/METADATA", b"Name: pip\n"),
            ("pip-1.dist-info/RECORD", b"old"),
            (
                "pip-1.dist-info/entry_points.txt",
                b"[console_scripts]\npip = pip.cli:main\npip3.9 = pip.cli:main\n[other]\nx = y:z\n",
            ),
        ]);
        install(&mut rootfs, &wheel, &TARGET).unwrap();
        let paths: Vec<String> = rootfs
            .tree()
            .iter()
            .filter(|(_, node)| !node.is_directory())
            .map(|(path, _)| path.to_string())
            .collect();
        expect![[r#"
            usr/local/bin/pip
            usr/local/bin/pip3.11
            usr/local/lib/python3.11/site-packages/pip-1.dist-info/INSTALLER
            usr/local/lib/python3.11/site-packages/pip-1.dist-info/METADATA
            usr/local/lib/python3.11/site-packages/pip-1.dist-info/RECORD
            usr/local/lib/python3.11/site-packages/pip-1.dist-info/entry_points.txt
            usr/local/lib/python3.11/site-packages/pip/__init__.py"#]]
        .assert_eq(&paths.join("\n"));
        let record = rootfs
            .need("usr/local/lib/python3.11/site-packages/pip-1.dist-info/RECORD", "test")
            .unwrap();
        expect![[r#"
            ../../../bin/pip,sha256=wxEBLIWcRz0O7YzLP1qCtE65iU4tcM4W3FLxgpEmRC4,215
            ../../../bin/pip3.11,sha256=wxEBLIWcRz0O7YzLP1qCtE65iU4tcM4W3FLxgpEmRC4,215
            pip-1.dist-info/INSTALLER,sha256=zuuue4knoyJ-UwPPXg8fezS7VCrXJQrAP7zeNuwvFQg,4
            pip-1.dist-info/METADATA,sha256=nftLunxnCgwjfgq1b1KbvFxNc3fGvqmrn90tffxTT8o,10
            pip-1.dist-info/entry_points.txt,sha256=iMUndbwhVAtLvUdPgctvqALq3xJHB020E0zOliBy72I,75
            pip/__init__.py,sha256=47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU,0
            pip-1.dist-info/RECORD,,
        "#]]
        .assert_eq(&record);
        let script = rootfs.need("usr/local/bin/pip", "test").unwrap();
        assert!(
            script.contains("from pip.cli import main\n")
                && script.ends_with("    sys.exit(main())\n")
        );
    }

    #[test]
    fn wheels_that_would_escape_or_need_more_are_refused() {
        let spool = Spool::new(std::path::Path::new("/nonexistent"));
        for (name, problem) in [("../evil", "unsafe name"), ("a.data/scripts/x", "data directory")]
        {
            let wheel = zip::write(&[("a.dist-info/METADATA", b""), (name, b"")]);
            let error = install(&mut Rootfs::new(&spool, 0), &wheel, &TARGET).unwrap_err();
            assert!(format!("{error:?}").contains(problem), "{error:?}");
        }
        let error = install(&mut Rootfs::new(&spool, 0), &zip::write(&[]), &TARGET).unwrap_err();
        assert!(format!("{error:?}").contains("dist-info"));
    }
}
