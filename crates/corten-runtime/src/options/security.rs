//! `--cap-add`, `--cap-drop` and `--security-opt`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::OptionError;
use crate::spec::Capability;

/// Adds and drops capabilities as Docker does: `ALL` on either side, `CAP_` optional, any case.
pub fn adjust_capabilities(
    defaults: &BTreeSet<Capability>,
    add: &[String],
    drop: &[String],
) -> Result<BTreeSet<Capability>, OptionError> {
    let all = |list: &[String]| list.iter().any(|name| name.eq_ignore_ascii_case("all"));
    let named = |list: &[String]| -> Result<BTreeSet<Capability>, OptionError> {
        list.iter().filter(|name| !name.eq_ignore_ascii_case("all")).map(|n| parse(n)).collect()
    };
    let (added, dropped) = (named(add)?, named(drop)?);
    let mut set = match (all(add), all(drop)) {
        (true, _) => Capability::ALL.iter().copied().collect(),
        (false, true) => BTreeSet::new(),
        (false, false) => defaults.clone(),
    };
    set.retain(|capability| !dropped.contains(capability));
    set.extend(added);
    Ok(set)
}

fn parse(name: &str) -> Result<Capability, OptionError> {
    name.to_ascii_uppercase()
        .parse()
        .map_err(|_| OptionError::new(name, "a capability of Linux", "--cap-add NET_BIND_SERVICE"))
}

/// One `--security-opt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecurityOption {
    NoNewPrivileges(bool),
    SeccompUnconfined,
    /// A profile file of the host, not read yet.
    SeccompFile(PathBuf),
    /// Hides these paths of the container.
    Mask(Vec<PathBuf>),
    /// Shows these of those that are hidden or read-only; `/proc/*` is all below.
    Unmask(Vec<String>),
    /// Shows all of them.
    UnmaskAll,
    /// Asks for what holds in any case: no profile of `AppArmor`, no label of `SELinux`.
    AsItIs,
}

/// Returns true if a path is meant by one of `--security-opt unmask`.
pub fn is_unmasked(pattern: &str, path: &Path) -> bool {
    match pattern.strip_suffix("/*") {
        Some(directory) => path.starts_with(directory) && path != Path::new(directory),
        None => path == Path::new(pattern),
    }
}

/// Parses one option; `:` may stand for `=`.
pub fn parse_security_option(text: &str) -> Result<SecurityOption, OptionError> {
    let error = || {
        OptionError::new(
            text,
            "a security option that Corten knows: `no-new-privileges`, `seccomp`, `mask`, `unmask`, \
             `systempaths=unconfined`",
            "--security-opt seccomp=unconfined",
        )
    };
    let (key, value) =
        text.split_once(['=', ':']).map_or((text, None), |(key, value)| (key, Some(value)));
    let paths = |list: &str| -> Result<Vec<PathBuf>, OptionError> {
        let path = |text: &str| super::mounts::target_path(text).ok_or_else(error);
        list.split(':').map(path).collect()
    };
    match (key, value) {
        ("no-new-privileges", None | Some("true")) => Ok(SecurityOption::NoNewPrivileges(true)),
        ("no-new-privileges", Some("false")) => Ok(SecurityOption::NoNewPrivileges(false)),
        ("seccomp", Some("unconfined")) => Ok(SecurityOption::SeccompUnconfined),
        // Docker's name of the default.
        ("seccomp", Some("builtin"))
        | ("label", Some("disable"))
        | ("apparmor", Some("unconfined")) => Ok(SecurityOption::AsItIs),
        ("seccomp", Some(file)) if !file.is_empty() => {
            Ok(SecurityOption::SeccompFile(PathBuf::from(file)))
        }
        ("mask", Some(list)) => paths(list).map(SecurityOption::Mask),
        ("unmask", Some("ALL" | "all")) | ("systempaths", Some("unconfined")) => {
            Ok(SecurityOption::UnmaskAll)
        }
        ("unmask", Some(list)) => {
            paths(list)?;
            Ok(SecurityOption::Unmask(list.split(':').map(str::to_owned).collect()))
        }
        ("apparmor" | "label", Some(_)) => Err(OptionError::new(
            text,
            "what Corten can see to: it isolates by namespaces, capabilities and filters, and loads no \
             profiles of AppArmor and no labels of SELinux",
            "--security-opt no-new-privileges",
        )),
        _ => Err(error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn drop_all_and_add_one_leaves_one() {
        let defaults = crate::spec::default_capabilities();
        let set = adjust_capabilities(&defaults, &names(&["cap_chown"]), &names(&["ALL"])).unwrap();
        assert_eq!(set, BTreeSet::from([Capability::Chown]));
    }

    #[test]
    fn add_all_without_one() {
        let set = adjust_capabilities(&BTreeSet::new(), &names(&["all"]), &names(&["SYS_ADMIN"]))
            .unwrap();
        assert!(!set.contains(&Capability::SysAdmin) && set.contains(&Capability::NetRaw));
    }

    #[test]
    fn an_unknown_capability_is_refused() {
        assert!(adjust_capabilities(&BTreeSet::new(), &names(&["FLY"]), &[]).is_err());
    }

    #[test]
    fn security_options_are_dockers() {
        use SecurityOption as Option;
        let cases = [
            ("no-new-privileges", Option::NoNewPrivileges(true)),
            ("no-new-privileges:false", Option::NoNewPrivileges(false)),
            ("seccomp=unconfined", Option::SeccompUnconfined),
            ("seccomp=a.json", Option::SeccompFile("a.json".into())),
            ("apparmor=unconfined", Option::AsItIs),
            ("label=disable", Option::AsItIs),
            ("mask=/proc/a:/sys/b", Option::Mask(vec!["/proc/a".into(), "/sys/b".into()])),
            ("unmask=ALL", Option::UnmaskAll),
            ("systempaths=unconfined", Option::UnmaskAll),
            ("unmask=/proc/*", Option::Unmask(vec!["/proc/*".to_owned()])),
        ];
        for (text, option) in cases {
            assert_eq!(parse_security_option(text), Ok(option), "{text}");
        }
        assert!(parse_security_option("apparmor=x").is_err());
        for text in ["seccomp=", "label=type:x", "mask=proc", "unmask=", "mask=/", "proc-opts=x"] {
            assert!(parse_security_option(text).is_err(), "{text}");
        }
        assert!(is_unmasked("/proc/*", Path::new("/proc/kcore")));
        assert!(!is_unmasked("/proc/*", Path::new("/process")));
        assert!(is_unmasked("/proc/keys", Path::new("/proc/keys")));
    }
}
