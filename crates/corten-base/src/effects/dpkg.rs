//! The database of dpkg, so that packages can be installed, upgraded and removed later.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use md5::Digest as _;

use super::{Context, EffectError, of};
use crate::deb822::{self, Paragraph};
use crate::relation;
use crate::rootfs::{Rootfs, RootfsError};
use crate::unpack::Unpacked;

const FOLDER: &str = "var/lib/dpkg";

/// The fields of a status paragraph in the order in which dpkg writes them; others follow.
const ORDER: [&str; 25] = [
    "Package",
    "Essential",
    "Protected",
    "Status",
    "Priority",
    "Section",
    "Installed-Size",
    "Origin",
    "Maintainer",
    "Bugs",
    "Architecture",
    "Multi-Arch",
    "Source",
    "Version",
    "Replaces",
    "Provides",
    "Depends",
    "Pre-Depends",
    "Recommends",
    "Suggests",
    "Breaks",
    "Conflicts",
    "Enhances",
    "Conffiles",
    "Description",
];

/// Writes the status of all packages, their control files and the triggers.
pub(super) fn apply(context: &mut Context<'_, '_>) -> Result<(), EffectError> {
    if context.package("dpkg").is_none() {
        return Ok(());
    }
    write(context).or_else(of("dpkg"))
}

fn write(context: &mut Context<'_, '_>) -> Result<(), RootfsError> {
    let rootfs = &mut *context.rootfs;
    let mut status = String::new();
    for package in context.packages.iter().filter(|package| package.is_installed) {
        control_files(rootfs, package)?;
        status.push_str(&status_paragraph(rootfs, package)?);
        status.push('\n');
    }
    rootfs.write(&format!("{FOLDER}/info/format"), "1\n", 0o644)?;
    rootfs.write(&format!("{FOLDER}/status"), status, 0o644)?;
    for folder in ["alternatives", "parts", "updates"] {
        rootfs.mkdir(&format!("{FOLDER}/{folder}"), 0o755)?;
    }
    triggers(rootfs, context.packages)?;
    let has_dash = context.packages.iter().any(|package| package.name == "dash");
    let has_manual = rootfs.node("usr/share/man/man1").is_some();
    rootfs.write(&format!("{FOLDER}/diversions"), diversions(has_dash, has_manual), 0o644)
}

/// The script of dash claims `/bin/sh` by a diversion.
fn diversions(has_dash: bool, has_manual: bool) -> String {
    let mut text = String::new();
    for (path, wanted) in
        [("/usr/share/man/man1/sh", has_dash && has_manual), ("/bin/sh", has_dash)]
    {
        if wanted {
            let suffix = if path == "/bin/sh" { "" } else { ".1.gz" };
            write!(text, "{path}{suffix}\n{path}.distrib{suffix}\ndash\n")
                .expect("writing to a string cannot fail");
        }
    }
    text
}

/// Packages that can be there for several architectures carry theirs in the names of files.
fn file_name(package: &Unpacked) -> String {
    if package.is_multiarch_same {
        format!("{}:{}", package.name, package.architecture)
    } else {
        package.name.clone()
    }
}

fn control_files(rootfs: &mut Rootfs<'_>, package: &Unpacked) -> Result<(), RootfsError> {
    let base = format!("{FOLDER}/info/{}", file_name(package));
    for (name, file) in &package.control.files {
        rootfs.write_dated(&format!("{base}.{name}"), &file.bytes, file.mode, file.mtime)?;
    }
    let mut list = Vec::new();
    for path in &package.listed {
        list.extend_from_slice(path);
        list.push(b'\n');
    }
    rootfs.write(&format!("{base}.list"), list, 0o644)
}

fn status_paragraph(rootfs: &Rootfs<'_>, package: &Unpacked) -> Result<String, RootfsError> {
    let fields = deb822::paragraphs(&package.control.control).next().unwrap_or_default();
    let conffiles = conffiles(rootfs, package)?;
    let mut text = String::new();
    for name in ORDER {
        let value = match name {
            "Status" => "install ok installed".to_owned(),
            "Conffiles" => conffiles.clone(),
            name => normalised(name, &fields, &package.architecture),
        };
        put(&mut text, name, &value);
    }
    for field in fields.fields() {
        if !ORDER.iter().any(|known| known.eq_ignore_ascii_case(field.name)) {
            put(&mut text, field.name, field.value);
        }
    }
    Ok(text)
}

fn put(text: &mut String, name: &str, value: &str) {
    if !value.is_empty() {
        let separator = if value.starts_with('\n') { "" } else { " " };
        writeln!(text, "{name}:{separator}{value}").expect("writing to a string cannot fail");
    }
}

/// Relations are written on one line, whatever the package has.
fn normalised(name: &str, fields: &Paragraph<'_>, architecture: &str) -> String {
    let value = fields.text(name);
    let relations = [
        "Replaces",
        "Provides",
        "Depends",
        "Pre-Depends",
        "Recommends",
        "Suggests",
        "Breaks",
        "Conflicts",
        "Enhances",
    ];
    if !relations.contains(&name) {
        return value.to_owned();
    }
    let groups = relation::parse(value, architecture);
    let group = |group: &Vec<relation::Relation<'_>>| {
        group.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ")
    };
    groups.iter().map(group).collect::<Vec<_>>().join(", ")
}

/// Configuration files with the MD5 that tells dpkg later whether somebody changed them.
fn conffiles(rootfs: &Rootfs<'_>, package: &Unpacked) -> Result<String, RootfsError> {
    let mut text = String::new();
    for line in package.control.text("conffiles").lines().map(str::trim_ascii) {
        let Some(path) = line.strip_prefix('/') else { continue };
        if let Some(bytes) = rootfs.read(path)? {
            let digest = md5::Md5::digest(&bytes);
            write!(text, "\n /{path} ").expect("writing to a string cannot fail");
            for byte in digest {
                write!(text, "{byte:02x}").expect("writing to a string cannot fail");
            }
        }
    }
    Ok(text)
}

fn triggers(rootfs: &mut Rootfs<'_>, packages: &[Unpacked]) -> Result<(), RootfsError> {
    let mut files = String::new();
    let mut named: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for package in packages.iter().filter(|package| package.is_installed) {
        for line in package.control.text("triggers").lines() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_ascii_whitespace();
            let suffix = match words.next() {
                Some("interest" | "interest-await") => "",
                Some("interest-noawait") => "/noawait",
                _ => continue,
            };
            let Some(trigger) = words.next() else { continue };
            let interested = format!("{}{suffix}", file_name(package));
            if trigger.starts_with('/') {
                writeln!(files, "{trigger} {interested}").expect("writing to a string cannot fail");
            } else if !trigger.contains('/') {
                named.entry(trigger).or_default().insert(interested);
            }
        }
    }
    for (name, interested) in named {
        let text: String = interested.iter().flat_map(|package| [package, "\n"]).collect();
        rootfs.write(&format!("{FOLDER}/triggers/{name}"), text, 0o644)?;
    }
    rootfs.write(&format!("{FOLDER}/triggers/File"), files, 0o644)?;
    rootfs.write(&format!("{FOLDER}/triggers/Unincorp"), "", 0o644)
}
