//! Directories and small files that belong to the system as a whole.

use super::{Context, EffectError, of};
use crate::rootfs::RootfsError;

/// Debian's number of the group `utmp`.
const UTMP: u32 = 43;

/// Debian's number of the group `mail`.
const MAIL: u32 = 8;

/// Does what the scripts of base-files, libc-bin, login, libpam-modules, netbase and readline-common do.
pub(super) fn apply(context: &mut Context<'_, '_>) -> Result<(), EffectError> {
    base_files(context).and_then(|()| small_files(context)).or_else(of("system"))
}

fn base_files(context: &mut Context<'_, '_>) -> Result<(), RootfsError> {
    let rootfs = &mut *context.rootfs;
    if rootfs.node("usr/share/base-files").is_none() {
        return Ok(());
    }
    for (from, to) in [
        ("usr/share/base-files/dot.profile", "root/.profile"),
        ("usr/share/base-files/dot.bashrc", "root/.bashrc"),
        ("usr/share/base-files/profile", "etc/profile"),
        ("usr/share/base-files/motd", "etc/motd"),
    ] {
        if !rootfs.has_name(to) {
            rootfs.copy(from, to)?;
        }
    }
    if rootfs.node("usr/share/info").is_some() && !rootfs.has_name("usr/share/info/dir") {
        rootfs.copy("usr/share/base-files/info.dir", "usr/share/info/dir")?;
    }
    for folder in ["mnt", "srv", "opt", "etc/opt", "var/opt", "media"] {
        rootfs.mkdir(folder, 0o755)?;
    }
    rootfs.mkdir_for("var/mail", 0o2775, MAIL)?;
    if !rootfs.has_name("var/spool/mail") {
        rootfs.symlink("var/spool/mail", "../mail")?;
    }
    rootfs.mkdir("run/lock", 0o1777)?;
    for (path, target) in [("var/run", "/run"), ("var/lock", "/run/lock")] {
        rootfs.remove(path)?;
        rootfs.symlink(path, target)?;
    }
    for folder in
        ["", "/share", "/share/man", "/bin", "/games", "/lib", "/include", "/sbin", "/src", "/etc"]
    {
        rootfs.mkdir(&format!("usr/local{folder}"), 0o755)?;
    }
    rootfs.symlink("usr/local/man", "share/man")?;
    for (path, mode) in
        [("var/log/wtmp", 0o664), ("var/log/btmp", 0o660), ("var/log/lastlog", 0o664)]
    {
        rootfs.write_for(path, "", mode, UTMP)?;
    }
    if rootfs.has_name("etc/dpkg/origins/debian") && !rootfs.has_name("etc/dpkg/origins/default") {
        rootfs.symlink("etc/dpkg/origins/default", "debian")?;
    }
    Ok(())
}

fn small_files(context: &mut Context<'_, '_>) -> Result<(), RootfsError> {
    let has = |name: &str| context.package(name).is_some();
    let (login, pam, netbase) = (has("login"), has("libpam-modules"), has("netbase"));
    let rootfs = &mut *context.rootfs;
    for (from, to) in [
        ("usr/share/libc-bin/nsswitch.conf", "etc/nsswitch.conf"),
        ("usr/share/readline/inputrc", "etc/inputrc"),
    ] {
        if rootfs.node(from).is_some() && !rootfs.has_name(to) {
            rootfs.copy(from, to)?;
        }
    }
    if login {
        for path in ["var/log/faillog", "etc/subuid", "etc/subgid"] {
            rootfs.write(path, "", 0o644)?;
        }
    }
    if pam {
        rootfs.write("etc/security/opasswd", "", 0o600)?;
        rootfs.write("etc/environment", "", 0o644)?;
    }
    if netbase && !rootfs.has_name("etc/networks") {
        rootfs.write(
            "etc/networks",
            "default\t\t0.0.0.0\nloopback\t127.0.0.0\nlink-local\t169.254.0.0\n\n",
            0o644,
        )?;
    }
    Ok(())
}

/// Does what `update-shells` of debianutils does.
pub(super) fn shells(context: &mut Context<'_, '_>) -> Result<(), EffectError> {
    update_shells(context).or_else(of("shells"))
}

fn update_shells(context: &mut Context<'_, '_>) -> Result<(), RootfsError> {
    const TEMPLATE: &str = "usr/share/debianutils/shells";
    const FOLDER: &str = "usr/share/debianutils/shells.d";
    let rootfs = &mut *context.rootfs;
    let Some(template) = rootfs.read_text(TEMPLATE)? else { return Ok(()) };
    let mut texts = vec![template.clone()];
    for name in rootfs.list(FOLDER) {
        let name = String::from_utf8_lossy(&name).into_owned();
        texts.extend(rootfs.read_text(&format!("{FOLDER}/{name}"))?);
    }
    let mut known: Vec<String> = Vec::new();
    for line in texts.iter().flat_map(|text| text.lines()) {
        let shell = line.split('#').next().unwrap_or_default();
        if !shell.is_empty() {
            // A shell is listed under the name that it has and under the one behind a merged /usr.
            let real = rootfs.locate(shell.trim_start_matches('/'))?;
            known.push(shell.to_owned());
            known.push(format!("/{real}"));
        }
    }
    known.dedup();
    let mut listed: Vec<&str> = template.lines().collect();
    for shell in &known {
        if !listed.contains(&shell.as_str()) {
            listed.push(shell);
        }
    }
    let lines = |lines: Vec<&str>| lines.iter().flat_map(|line| [line, "\n"]).collect::<String>();
    let shells = lines(listed);
    rootfs.write("etc/shells", shells, 0o644)?;
    rootfs.write("var/lib/shells.state", lines(known.iter().map(String::as_str).collect()), 0o644)
}

/// Does what the script of tzdata does for a machine in UTC.
pub(super) fn time_zone(context: &mut Context<'_, '_>) -> Result<(), EffectError> {
    let rootfs = &mut *context.rootfs;
    if rootfs.node("usr/share/zoneinfo/Etc/UTC").is_none() || rootfs.has_name("etc/localtime") {
        return Ok(());
    }
    rootfs
        .symlink("etc/localtime", "/usr/share/zoneinfo/Etc/UTC")
        .and_then(|()| rootfs.write("etc/timezone", "Etc/UTC\n", 0o644))
        .or_else(of("time-zone"))
}
