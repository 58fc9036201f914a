//! Flags of a build that say what RUN steps get.

use std::net::IpAddr;

use corten_build::{DeviceGrant, Entitlements, RunOptions, RunStep};
use corten_runtime::options;

use crate::cli::StepArgs;
use crate::error::CliError;
use crate::ui::Ui;

/// Docker's period of processor time, in microseconds.
const CPU_PERIOD: u64 = 100_000;

/// More than any machine has, and a number that control groups of all versions take.
const ANY_BYTES: u64 = i64::MAX.cast_unsigned() & !0xfff;

/// What `--allow` can name.
const ENTITLEMENTS: [&str; 3] = ["security.insecure", "network.host", "device"];

/// Reads all `--allow`.
pub(super) fn entitlements(texts: &[String]) -> Result<Entitlements, CliError> {
    let mut allowed = Entitlements::default();
    for text in texts.iter().flat_map(|text| separate(text)) {
        match text.as_str() {
            "security.insecure" => allowed.insecure = true,
            "network.host" => allowed.host_network = true,
            "device" => allowed.devices.all = true,
            other if other.strip_prefix("device=").is_some_and(|name| !name.is_empty()) => {
                let text = other.strip_prefix("device=").unwrap_or_default();
                device(text, &mut allowed.devices)?;
            }
            other => {
                let near = corten_diag::suggest::nearest(other, &ENTITLEMENTS);
                let hint = match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("there are `{}`", ENTITLEMENTS.join("`, `")),
                };
                return Err(CliError::new(format!("`--allow {other}` is not known")).hint(hint));
            }
        }
    }
    Ok(allowed)
}

/// Several entitlements may stand in one text with commas between them, and so do the parts of one.
fn separate(text: &str) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for part in text.split(',') {
        let word = part.split('=').next().unwrap_or_default();
        match found.last_mut() {
            Some(last) if part.contains('=') && !ENTITLEMENTS.contains(&word) => {
                last.push(',');
                last.push_str(part);
            }
            _ => found.push(part.to_owned()),
        }
    }
    found
}

/// Reads what stands behind `device=`: a name, and `alias=NAME` for what a Dockerfile calls it.
fn device(text: &str, grant: &mut DeviceGrant) -> Result<(), CliError> {
    let wrong = |problem: &str| {
        let message = format!("`--allow device={text}`: {problem}");
        CliError::new(message).hint("write `device=NAME` or `device=NAME,alias=OTHER`".to_owned())
    };
    let mut parts = text.split(',');
    let name = parts.next().unwrap_or_default();
    let mut alias = None;
    for part in parts {
        alias = match part.split_once('=') {
            Some(("alias", "")) => return Err(wrong("the alias is empty")),
            Some(("alias", other)) => Some(other),
            _ => return Err(wrong(&format!("`{part}` is not known"))),
        };
    }
    match alias {
        Some(alias) => {
            let before = grant.aliases.insert(alias.to_owned(), name.to_owned());
            if before.is_some_and(|before| before != name) {
                return Err(wrong(&format!("`{alias}` stands for another device already")));
            }
        }
        None => {
            grant.names.insert(name.to_owned());
        }
    }
    Ok(())
}

/// Reads what `docker build` can say of steps.
pub(super) fn settle(arguments: &StepArgs, run: &mut RunOptions) -> Result<(), CliError> {
    for text in &arguments.hosts {
        run.hosts.push(host(text)?);
    }
    let bytes = |name: &str, text: &Option<String>| {
        text.as_deref().map(|text| flag(name, options::parse_bytes(text))).transpose()
    };
    run.tuning.shm_size_bytes = bytes("shm-size", &arguments.shm_size)?;
    run.tuning.memory_swap_bytes = match arguments.memory_swap.as_deref() {
        Some("-1") => Some(ANY_BYTES),
        _ => bytes("memory-swap", &arguments.memory_swap)?,
    };
    run.tuning.cpu_shares = arguments.cpu_shares.filter(|shares| *shares > 0);
    run.tuning.cpuset.clone_from(&arguments.cpuset_cpus);
    for text in &arguments.ulimits {
        run.tuning.rlimits.push(flag("ulimit", options::parse_ulimit(text))?);
    }
    if let Some(quota) = arguments.cpu_quota.filter(|quota| *quota > 0) {
        let period = arguments.cpu_period.unwrap_or(CPU_PERIOD);
        let millis = quota.saturating_mul(1000).checked_div(period);
        run.cpu_millis = Some(millis.ok_or_else(|| {
            CliError::new("`--cpu-period 0` is no time").hint("write 100000".to_owned())
        })?);
    }
    run.pids = arguments.pids_limit.and_then(|count| u64::try_from(count).ok()).filter(|n| *n > 0);
    Ok(())
}

/// Refuses `--shell-on-error` where nobody could type, before anything is built.
pub(super) fn check_terminal(ui: &Ui, wanted: bool) -> Result<(), CliError> {
    let is_input = rustix::termios::isatty(std::io::stdin());
    let missing = match (is_input, ui.data_is_terminal()) {
        _ if !wanted => return Ok(()),
        (true, true) => return Ok(()),
        (false, _) => "standard input",
        (true, false) => "standard output",
    };
    let message = format!("`--shell-on-error` needs a terminal, and {missing} is none");
    Err(CliError::new(message).hint("leave it out, or build in a terminal".to_owned()))
}

/// Says what is seen in the shell of a failed step.
pub(super) fn introduce(ui: &Ui, step: &RunStep) {
    let shell = step.args.join(" ");
    ui.note(&format!(
        "the step failed; this is `{shell}` in its place, with the files as it left them, its mounts, \
         variables, directory, user and network"
    ));
    ui.note("nothing that you change is kept; leave with `exit`, and the build ends");
}

/// What is accepted and does nothing, where somebody may count on it.
pub(super) fn notes(arguments: &StepArgs) -> Vec<&'static str> {
    let isolation = arguments.isolation.as_deref().is_some_and(|kind| kind != "default");
    let given = [
        (
            arguments.cgroup_parent.is_some(),
            "`--cgroup-parent` does nothing: each step has control groups of its own, below those \
             of the caller",
        ),
        (arguments.cpuset_mems.is_some(), "`--cpuset-mems` does nothing: memory is not placed"),
        (isolation, "`--isolation` does nothing: Linux has one kind"),
        (arguments.squash, "`--squash` does nothing: the layers stay as the Dockerfile makes them"),
    ];
    given.into_iter().filter(|(given, _)| *given).map(|(_, note)| note).collect()
}

/// `NAME:ADDRESS` or `NAME=ADDRESS`; the address may stand in brackets.
fn host(text: &str) -> Result<(String, IpAddr), CliError> {
    let wrong = |hint: &str| {
        CliError::new(format!("`--add-host {text}` is not `NAME:ADDRESS`")).hint(hint.to_owned())
    };
    let (name, address) =
        text.split_once('=').or_else(|| text.split_once(':')).unwrap_or((text, ""));
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if name.is_empty() || !name.chars().all(plain) {
        return Err(wrong("for example `--add-host models:10.0.0.7`"));
    }
    if address == "host-gateway" {
        return Err(wrong(
            "`host-gateway` is not known: write an address of the host, or use `--network host`",
        ));
    }
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    let address = bare.parse().map_err(|_| wrong("for example `--add-host models:10.0.0.7`"))?;
    Ok((name.to_owned(), address))
}

fn flag<T>(name: &str, result: Result<T, options::OptionError>) -> Result<T, CliError> {
    result.map_err(|error| {
        let hint = error.hint();
        CliError::new(format!("failed to read `--{name}`: {error}")).hint(hint)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_a_name_and_an_address() {
        let of = |text: &str| host(text).ok().map(|(name, address)| format!("{name} {address}"));
        for (text, expected) in [
            ("a.test:10.0.0.7", "a.test 10.0.0.7"),
            ("a=10.0.0.7", "a 10.0.0.7"),
            ("a:::1", "a ::1"),
            ("a=[::1]", "a ::1"),
        ] {
            assert_eq!(of(text).as_deref(), Some(expected), "{text}");
        }
        for text in ["a", "a:", ":10.0.0.7", "a\nb:10.0.0.7", "a:host-gateway", "a:10.0.0"] {
            assert_eq!(of(text), None, "{text}");
        }
    }

    #[test]
    fn entitlements_have_the_names_of_buildkit() {
        let of = |texts: &[&str]| {
            entitlements(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).ok()
        };
        assert_eq!(of(&[]), Some(Entitlements::default()));
        let both = Entitlements { insecure: true, host_network: true, ..Entitlements::default() };
        assert_eq!(of(&["security.insecure", "network.host"]), Some(both));
        let devices = of(&["device=a/b", "device=c/d=*"]).unwrap().devices;
        assert_eq!(devices.names.iter().map(String::as_str).collect::<Vec<_>>(), ["a/b", "c/d=*"]);
        assert!(!devices.all && of(&["device"]).unwrap().devices.all);
        assert_eq!(of(&["security"]), None);
        assert_eq!(of(&["device="]), None);
        assert_eq!(
            of(&["security.insecure,network.host"]),
            of(&["security.insecure", "network.host"])
        );
    }

    #[test]
    fn a_device_can_be_granted_under_another_name() {
        let of = |text: &str| entitlements(&[text.to_owned()]).map_err(|e| e.error.to_string());
        let pairs = |text: &str| {
            let devices = of(text).map(|allowed| (allowed.devices, allowed.host_network));
            let shown = |(devices, network): (DeviceGrant, bool)| {
                let aliases = devices.aliases.iter().map(|(a, b)| format!("{a}->{b}"));
                let network = network.then(|| "network".to_owned());
                devices
                    .names
                    .into_iter()
                    .chain(aliases)
                    .chain(network)
                    .collect::<Vec<_>>()
                    .join(" ")
            };
            devices.map_or_else(|error| error, shown)
        };
        for (text, expected) in [
            ("device=a/b=c", "a/b=c"),
            ("device=a/b=c,alias=gpu", "gpu->a/b=c"),
            ("device=a/b=c,alias=gpu,network.host", "gpu->a/b=c network"),
            ("network.host,device=a/b,alias=x/y=z,device=q", "q x/y=z->a/b network"),
            ("device=a/b=c,device=d", "a/b=c d"),
            ("device=a,alias=", "`--allow device=a,alias=`: the alias is empty"),
            ("device=a,name=b", "`--allow device=a,name=b`: `name=b` is not known"),
            (
                "device=a,alias=x,device=b,alias=x",
                "`--allow device=b,alias=x`: `x` stands for another device already",
            ),
            ("device=a,b", "`--allow b` is not known"),
        ] {
            assert_eq!(pairs(text), expected, "{text}");
        }
    }
}
