//! Small pieces of `corten run`: the record, the root file system, and a word about root.

use std::collections::BTreeMap;

use corten_monitor::{Definition, Health, ParseRestartError, Restart};
use corten_oci::image::ContainerConfig;
use corten_runtime::options::{LogOption, parse_log_option, parse_signal};
use corten_runtime::{ContainerSpec, Rootfs, UserNamespace};
use corten_store::{ContainerRecord, Image, RunningContainer, Store};

use crate::cli::ContainerArgs;
use crate::commands::{Context, duration, flag};
use crate::error::CliError;

/// The image's layers, top first, and the container's own directory above them.
pub(super) fn rootfs(
    image: &Image,
    container: Option<&RunningContainer>,
    readonly: bool,
) -> Rootfs {
    let lowers = image.layers.iter().rev().map(|layer| layer.path.clone()).collect();
    let mut rootfs = match container {
        Some(container) => Rootfs::layered(lowers, container.upper(), container.work()),
        None => Rootfs::in_memory(lowers),
    };
    rootfs.readonly = readonly;
    // Nobody can ask for what goes away with the container.
    rootfs.volatile = container.is_none_or(|container| container.record().remove_at_end);
    rootfs
}

/// A file of labels beyond this is a mistake.
const LABELS_BYTES_MAX: u64 = 4 << 20;

/// The image's labels, then the files', then the flags'.
pub(super) fn labels(
    arguments: &ContainerArgs,
    image: &Image,
) -> Result<BTreeMap<String, String>, CliError> {
    let mut texts = Vec::new();
    for path in &arguments.label_files {
        let bytes = corten_sys::file::read_limited(path, LABELS_BYTES_MAX)?;
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let lines = text.lines().map(str::trim);
        texts.extend(
            lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(str::to_owned),
        );
    }
    texts.extend(arguments.labels.iter().cloned());
    let mut labels = image.config.config.labels.clone();
    for text in &texts {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        if name.is_empty() {
            return Err(CliError::new(format!("the label `{text}` has no name"))
                .hint("write `--label name=value`".to_owned()));
        }
        labels.insert(name.to_owned(), value.to_owned());
    }
    Ok(labels)
}

pub(super) fn record(
    id: &str,
    arguments: &ContainerArgs,
    image: &Image,
    spec: &ContainerSpec,
    labels: BTreeMap<String, String>,
) -> ContainerRecord {
    ContainerRecord {
        id: id.to_owned(),
        name: arguments.name.clone().unwrap_or_else(|| default_name(id)),
        image: image.id,
        image_name: arguments.image.clone(),
        command: spec.args.clone(),
        created: super::now(),
        remove_at_end: arguments.rm,
        volumes: Vec::new(),
        anonymous_volumes: Vec::new(),
        config: Some(ContainerConfig { labels, ..config(arguments, image, spec) }),
        networks: None,
    }
}

/// What an image of the container says about itself: the image's words, and those of the flags over them.
fn config(arguments: &ContainerArgs, image: &Image, spec: &ContainerSpec) -> ContainerConfig {
    let mut config = image.config.config.clone();
    let is_given = |name: &str| {
        let named = |variable: &String| variable.split('=').next() == Some(name);
        image.config.config.env.iter().any(named) || arguments.env.iter().any(named)
    };
    // What every container gets is none of the image's business.
    let ours = |variable: &&String| {
        let name = variable.split('=').next().unwrap_or_default();
        !["HOME", "TERM"].contains(&name) || is_given(name)
    };
    config.env = spec.env.iter().filter(ours).cloned().collect();
    if let Some(entrypoint) = &arguments.entrypoint {
        let words: Vec<String> =
            Some(entrypoint.clone()).filter(|word| !word.is_empty()).into_iter().collect();
        config.entrypoint = Some(words).filter(|words| !words.is_empty());
        config.cmd = None;
    }
    if !arguments.command.is_empty() {
        config.cmd = Some(arguments.command.clone());
    }
    if arguments.user.is_some() {
        config.user.clone_from(&arguments.user);
    }
    if arguments.workdir.is_some() {
        config.working_dir = Some(spec.cwd.to_string_lossy().into_owned());
    }
    if arguments.stop_signal.is_some() {
        config.stop_signal.clone_from(&arguments.stop_signal);
    }
    config
}

/// How the container is run whenever it is started again.
pub(super) fn definition(
    arguments: &ContainerArgs,
    image: &Image,
    spec: &ContainerSpec,
) -> Result<Definition, CliError> {
    let mut definition = Definition::new(spec.clone());
    let config = &image.config.config;
    if let Some(signal) = arguments.stop_signal.as_ref().or(config.stop_signal.as_ref()) {
        definition.stop_signal = flag("stop-signal", parse_signal(signal))?;
    }
    let of_image = config.stop_timeout.and_then(|seconds| u32::try_from(seconds).ok());
    if let Some(seconds) = arguments.stop_timeout.or(of_image) {
        definition.stop_timeout_seconds = seconds;
    }
    definition.restart = arguments.restart.parse().map_err(|error: ParseRestartError| {
        let hint = error.hint().to_owned();
        CliError::new(format!("failed to read `--restart`: {error}")).hint(hint)
    })?;
    if definition.restart != Restart::No && arguments.rm {
        return Err(CliError::new("a container cannot be both removed and started again")
            .hint("leave out `--rm` or `--restart`".to_owned()));
    }
    definition.health = health(arguments, image)?;
    for text in &arguments.log_options {
        match flag("log-opt", parse_log_option(text))? {
            LogOption::MaxSizeBytes(bytes) => definition.log.max_size_bytes = bytes,
            LogOption::MaxFiles(count) => definition.log.max_files = count,
            LogOption::RetentionSeconds(age) => definition.log.retention_seconds = Some(age),
        }
    }
    if definition.log.retention_seconds.is_some() && definition.log.max_files < 2 {
        return Err(CliError::new("one log file cannot lose its old lines alone")
            .hint("set `--log-opt max-file` to 2 or more".to_owned()));
    }
    Ok(definition)
}

/// How the image and the flags have the program checked.
fn health(arguments: &ContainerArgs, image: &Image) -> Result<Option<Health>, CliError> {
    if arguments.no_healthcheck {
        return Ok(None);
    }
    let mut config = image.config.config.healthcheck.clone().unwrap_or_default();
    if let Some(command) = &arguments.health_cmd {
        config.test = vec!["CMD-SHELL".to_owned(), command.clone()];
    }
    let time = |name: &str, text: &Option<String>, known: &mut i64| -> Result<(), CliError> {
        let Some(text) = text else { return Ok(()) };
        let time = duration(name, text, "for example `30s` or `1m30s`")?;
        // The reader of durations knows none that is longer.
        *known = i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        Ok(())
    };
    time("health-interval", &arguments.health_interval, &mut config.interval)?;
    time("health-timeout", &arguments.health_timeout, &mut config.timeout)?;
    time("health-start-period", &arguments.health_start_period, &mut config.start_period)?;
    time("health-start-interval", &arguments.health_start_interval, &mut config.start_interval)?;
    if let Some(retries) = arguments.health_retries {
        config.retries = i64::from(retries);
    }
    Ok(Health::of(&config, &image.config.config.shell))
}

/// Two words that the ID chooses, so that people can say the name.
fn default_name(id: &str) -> String {
    const QUALITIES: [&str; 32] = [
        "amber", "ample", "bold", "brisk", "calm", "civil", "clear", "crisp", "deft", "eager",
        "early", "exact", "fair", "fine", "firm", "frank", "glad", "grand", "keen", "kind",
        "light", "lucid", "merry", "neat", "noble", "plain", "proud", "quick", "quiet", "sound",
        "steady", "warm",
    ];
    const THINGS: [&str; 32] = [
        "anvil", "arch", "beam", "bolt", "bridge", "buoy", "cable", "capstan", "crane", "derrick",
        "dock", "ferry", "girder", "harbor", "hatch", "hull", "jetty", "keel", "lantern", "mast",
        "mooring", "pallet", "pier", "plate", "quay", "rivet", "rudder", "sheave", "tackle",
        "truss", "wharf", "winch",
    ];
    let digit = |index: usize| {
        id.get(index..index + 2).and_then(|hex| usize::from_str_radix(hex, 16).ok()).unwrap_or(0)
    };
    // The rest of the ID keeps names apart when many containers exist.
    let suffix = id.get(4..8).unwrap_or_default();
    format!("{}-{}-{suffix}", QUALITIES[digit(0) % 32], THINGS[digit(2) % 32])
}

/// Where the store remembers which images people were told of.
const TOLD: &str = "told-of-root";

/// Says once for each image that it runs as root, with the remedy; only where a person looks.
pub(super) fn warn_of_root(
    context: &Context,
    arguments: &ContainerArgs,
    store: &Store,
    image: &Image,
    spec: &ContainerSpec,
) -> Result<(), CliError> {
    let chosen = arguments.user.is_some() || arguments.quiet;
    if spec.uid != 0 || chosen || !context.ui.stderr_is_terminal() {
        return Ok(());
    }
    let id = image.id.to_string();
    if store.aux(TOLD, &id)?.is_some() {
        return Ok(());
    }
    let whose = match spec.user_namespace {
        UserNamespace::Host => "the host's root",
        _ => "root of the container only",
    };
    context.ui.note(&format!(
        "this image runs as root ({whose}): add `USER` to its Dockerfile, or run it with `-u`"
    ));
    Ok(store.put_aux(TOLD, &id, b"")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_default_name_follows_from_the_id() {
        assert_eq!(default_name("0000abcd00"), "amber-anvil-abcd");
        assert_eq!(default_name(""), "amber-anvil-");
    }
}
