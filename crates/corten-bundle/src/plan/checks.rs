//! What a configuration must be like, whatever the host.

use corten_sys::namespace;

use super::{Facts, Namespaces};
use crate::config::{Config, Hook, Linux, Process};
use crate::error::{BundleError, invalid};

/// The kernel's `__NEW_UTS_LEN`.
const NAME_MAX: usize = 64;

pub(super) fn check(
    config: &Config,
    facts: &Facts,
    warnings: &mut Vec<String>,
) -> Result<(), BundleError> {
    version(&config.oci_version)?;
    let root = config.root.as_ref().ok_or_else(|| invalid("there is no root"))?;
    if root.path.as_os_str().is_empty() {
        return Err(invalid("root.path is empty"));
    }
    let process = config.process.as_ref().ok_or_else(|| invalid("there is no process"))?;
    check_process(process, facts, warnings)?;
    let none = Linux::default();
    let linux = config.linux.as_ref().unwrap_or(&none);
    let namespaces = Namespaces::of(linux)?;
    for (what, name) in [("hostname", &config.hostname), ("domainname", &config.domainname)] {
        if !name.is_empty() && !namespaces.has(namespace::UTS) {
            return Err(invalid(format!("unable to set {what} without a private UTS namespace")));
        }
        if name.len() > NAME_MAX || name.contains('\0') {
            return Err(invalid(format!(
                "{what} is longer than {NAME_MAX} bytes or has a NUL byte"
            )));
        }
    }
    ids(linux, &namespaces, facts)?;
    times(linux, &namespaces)?;
    for mount in &config.mounts {
        if mount.destination.as_os_str().is_empty() {
            return Err(invalid("a mount has no destination"));
        }
        if mount.uid_mappings.is_empty() != mount.gid_mappings.is_empty() {
            return Err(invalid(format!(
                "the mount on `{}` maps users or groups only",
                mount.destination.display()
            )));
        }
    }
    for path in linux.masked_paths.iter().chain(&linux.readonly_paths) {
        if !path.is_absolute() {
            return Err(invalid(format!("`{}` is not absolute", path.display())));
        }
    }
    if !linux.mount_label.is_empty() && !facts.selinux {
        return Err(invalid("mountLabel is set, but SELinux is not enabled on this host"));
    }
    if linux.intel_rdt.is_some() {
        let why = "Corten does not manage resctrl groups".to_owned();
        return Err(BundleError::Unsupported { what: "linux.intelRdt", why });
    }
    if let Some(hooks) = &config.hooks {
        let all = [
            &hooks.prestart,
            &hooks.create_runtime,
            &hooks.create_container,
            &hooks.start_container,
            &hooks.poststart,
            &hooks.poststop,
        ];
        all.into_iter().flatten().try_for_each(hook)?;
    }
    Ok(())
}

/// Semantic versioning: any 1.x is one that we understand.
fn version(text: &str) -> Result<(), BundleError> {
    let core = text.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<Option<u32>> = core.split('.').map(|part| part.parse().ok()).collect();
    match numbers[..] {
        [Some(1), Some(_), Some(_)] => Ok(()),
        [Some(_), Some(_), Some(_)] => {
            let why = "Corten knows version 1 of the runtime specification".to_owned();
            Err(BundleError::Unsupported {
                what: "ociVersion",
                why: format!("it is `{text}`, and {why}"),
            })
        }
        _ => Err(invalid(format!("ociVersion `{text}` is no semantic version"))),
    }
}

pub(super) fn check_process(
    process: &Process,
    facts: &Facts,
    warnings: &mut Vec<String>,
) -> Result<(), BundleError> {
    if process.args.first().is_none_or(String::is_empty) {
        return Err(invalid("process.args is empty"));
    }
    if !process.cwd.is_absolute() {
        return Err(invalid("process.cwd is not an absolute path"));
    }
    for (what, texts) in [("process.args", &process.args), ("process.env", &process.env)] {
        if texts.iter().any(|text| text.contains('\0')) {
            return Err(invalid(format!("{what} has a NUL byte")));
        }
    }
    for variable in &process.env {
        // Engines pass on what they are given.
        if variable.find('=').is_none_or(|at| at == 0) {
            return Err(invalid(format!(
                "process.env: `{variable}` is not of the form `name=value`"
            )));
        }
    }
    if process.oom_score_adj.is_some_and(|score| !(-1000..=1000).contains(&score)) {
        return Err(invalid("process.oomScoreAdj is outside -1000 to 1000"));
    }
    if !process.apparmor_profile.is_empty() && !facts.apparmor {
        return Err(invalid(format!(
            "apparmor profile `{}` is asked for, but AppArmor is not enabled on this host",
            process.apparmor_profile
        )));
    }
    if !process.selinux_label.is_empty() && !facts.selinux {
        return Err(invalid("selinuxLabel is set, but SELinux is not enabled on this host"));
    }
    if process.console_size.is_some() && !process.terminal {
        warnings.push("process.consoleSize without process.terminal is ignored".to_owned());
    }
    Ok(())
}

fn ids(linux: &Linux, namespaces: &Namespaces, facts: &Facts) -> Result<(), BundleError> {
    let given = !linux.uid_mappings.is_empty() || !linux.gid_mappings.is_empty();
    if namespaces.is_new(namespace::USER) {
        if linux.uid_mappings.is_empty() || linux.gid_mappings.is_empty() {
            return Err(invalid("a new user namespace needs uidMappings and gidMappings"));
        }
    } else if given && !namespaces.is_joined(namespace::USER) {
        return Err(invalid("uidMappings or gidMappings without a user namespace"));
    }
    if !facts.may_mount && !namespaces.has(namespace::USER) {
        return Err(invalid("rootless container requires user namespaces"));
    }
    for one in linux.uid_mappings.iter().chain(&linux.gid_mappings) {
        let end = |first: u32| first.checked_add(one.size.saturating_sub(1));
        if one.size == 0 || end(one.container_id).is_none() || end(one.host_id).is_none() {
            return Err(invalid("a range of ids is empty or ends beyond 4294967295"));
        }
    }
    Ok(())
}

fn times(linux: &Linux, namespaces: &Namespaces) -> Result<(), BundleError> {
    if !linux.time_offsets.is_empty() && !namespaces.is_new(namespace::TIME) {
        return Err(invalid("timeOffsets without a new time namespace"));
    }
    for (clock, offset) in &linux.time_offsets {
        if !["monotonic", "boottime"].contains(&clock.as_str()) {
            return Err(invalid(format!("`{clock}` is no clock with an offset")));
        }
        if offset.nanosecs > 999_999_999 {
            return Err(invalid(format!("the offset of `{clock}` has too many nanoseconds")));
        }
    }
    Ok(())
}

fn hook(hook: &Hook) -> Result<(), BundleError> {
    if !hook.path.is_absolute() {
        return Err(invalid(format!("hook path `{}` is not absolute", hook.path.display())));
    }
    if hook.timeout.is_some_and(|timeout| timeout <= 0) {
        return Err(invalid(format!(
            "the timeout of hook `{}` is not positive",
            hook.path.display()
        )));
    }
    Ok(())
}

/// The namespace that a kernel setting belongs to, and its name.
pub(super) fn namespace_of(name: &str) -> Option<(u64, &'static str)> {
    const OF_IPC: [&str; 8] = [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ];
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/@*".contains(&byte);
    if !name.bytes().all(plain)
        || name.split(['.', '/']).any(|part| part.is_empty() || part == "..")
    {
        return None;
    }
    let dotted = name.replace('/', ".");
    let dotted = dotted.as_str();
    if OF_IPC.contains(&dotted) || dotted.starts_with("fs.mqueue.") {
        return Some((namespace::IPC, "ipc"));
    }
    if dotted == "kernel.domainname" {
        return Some((namespace::UTS, "uts"));
    }
    dotted.starts_with("net.").then_some((namespace::NETWORK, "network"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_the_specification_are_understood() {
        for text in ["1.0.0", "1.2.0", "1.0.2-dev", "1.3.0+x"] {
            assert!(version(text).is_ok(), "{text}");
        }
        for text in ["", "1", "1.0", "x.y.z", "2.0.0", "0.9.0"] {
            assert!(version(text).is_err(), "{text}");
        }
    }

    #[test]
    fn settings_belong_to_namespaces() {
        assert_eq!(namespace_of("net.ipv4.ip_forward").map(|found| found.1), Some("network"));
        assert_eq!(namespace_of("net/ipv4/conf/eth0.1/x").map(|found| found.1), Some("network"));
        assert_eq!(namespace_of("kernel.sem").map(|found| found.1), Some("ipc"));
        for name in ["kernel.hostname", "vm.swappiness", "net..x", "net./../../x", "kernel.sem\n"] {
            assert_eq!(namespace_of(name), None, "{name}");
        }
    }
}
