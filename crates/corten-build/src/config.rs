//! What an image says about itself: the configuration, instruction by instruction.
//!
//! The texts of the history are those of BuildKit, since tools read them: `# buildkit` at the end
//! tells them which spelling to expect.

use std::time::Duration;

use corten_dockerfile::Healthcheck;
use corten_oci::image::{ContainerConfig, HealthConfig, History, ImageConfig};
use corten_oci::platform::Platform;

/// The search path of images that set none.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The shell of the shell form where `SHELL` set none.
const DEFAULT_SHELL: [&str; 2] = ["/bin/sh", "-c"];

/// Says who made an entry of the history, and by which rules; BuildKit's frontend leaves its own.
const HISTORY_COMMENT: &str = "corten.dockerfile.v0";

/// Fields of a base image that still hold for what is built from it.
const INHERITED_FIELDS: [&str; 2] = ["os.version", "os.features"];

/// The configuration of a stage while its instructions are read.
#[derive(Debug, Clone)]
pub(crate) struct StageConfig {
    pub(crate) image: ImageConfig,
    /// The time in new entries of the history.
    created: String,
    /// Whether this stage itself has set `CMD`.
    cmd_set: bool,
}

/// Whether an entry of the history has a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LayerMade {
    Yes,
    No,
}

impl StageConfig {
    /// A stage from scratch.
    pub(crate) fn scratch(platform: &Platform, epoch: i64) -> Self {
        let config = ContainerConfig {
            working_dir: Some("/".to_owned()),
            env: vec![format!("PATH={DEFAULT_PATH}")],
            ..ContainerConfig::default()
        };
        let image = ImageConfig {
            os: platform.os.clone(),
            architecture: platform.architecture.clone(),
            variant: platform.variant.clone(),
            config,
            ..ImageConfig::default()
        };
        Self::begin(image, epoch)
    }

    /// A stage from an image. Its triggers are for the caller; they are not inherited.
    pub(crate) fn from_image(base: &ImageConfig, epoch: i64) -> Self {
        let mut image = base.clone();
        image.unknown.retain(|key, _| INHERITED_FIELDS.contains(&key.as_str()));
        image.config.unknown.clear();
        image.config.on_build.clear();
        Self::begin(image, epoch)
    }

    /// A stage from another stage.
    pub(crate) fn continued(&self) -> Self {
        let mut stage = self.clone();
        stage.image.config.on_build.clear();
        stage.cmd_set = false;
        stage
    }

    fn begin(mut image: ImageConfig, epoch: i64) -> Self {
        let created = corten_oci::time::rfc3339(epoch);
        image.created = Some(created.clone());
        let has_path = image.config.env.iter().any(|variable| key_of(variable) == "PATH");
        if !has_path && image.os != "windows" {
            image.config.env.push(format!("PATH={DEFAULT_PATH}"));
        }
        Self { image, created, cmd_set: false }
    }

    /// The directory that relative paths begin at: absolute, but written as its author did.
    pub(crate) fn working_dir(&self) -> &str {
        self.image.config.working_dir.as_deref().unwrap_or("/")
    }

    /// The user; empty for root.
    pub(crate) fn user(&self) -> &str {
        self.image.config.user.as_deref().unwrap_or_default()
    }

    /// Puts the shell before a command text.
    pub(crate) fn with_shell(&self, command: &str) -> Vec<String> {
        let shell = &self.image.config.shell;
        let mut args: Vec<String> = if shell.is_empty() {
            DEFAULT_SHELL.iter().map(|part| (*part).to_owned()).collect()
        } else {
            shell.clone()
        };
        args.push(command.to_owned());
        args
    }

    /// Adds an entry to the history.
    pub(crate) fn add_history(&mut self, created_by: String, layer: LayerMade) {
        self.image.history.push(History {
            created: Some(self.created.clone()),
            created_by: Some(created_by),
            comment: Some(HISTORY_COMMENT.to_owned()),
            empty_layer: layer == LayerMade::No,
            ..History::default()
        });
    }

    /// `ENV`.
    pub(crate) fn env(&mut self, pairs: &[(String, String)]) {
        let mut text = String::from("ENV");
        for (key, value) in pairs {
            text.push_str(&format!(" {key}={value}"));
            let new = format!("{key}={value}");
            let env = &mut self.image.config.env;
            match env.iter_mut().find(|variable| key_of(variable) == key) {
                Some(old) => *old = new,
                None => env.push(new),
            }
        }
        self.add_history(text, LayerMade::No);
    }

    /// `LABEL`.
    pub(crate) fn label(&mut self, pairs: &[(String, String)]) {
        let mut text = String::from("LABEL");
        for (key, value) in pairs {
            text.push_str(&format!(" {key}={value}"));
            self.image.config.labels.insert(key.clone(), value.clone());
        }
        self.add_history(text, LayerMade::No);
    }

    /// `WORKDIR`; true if the directory is to be made. As in BuildKit, a path that is absolute is
    /// kept as it was written and one that is relative is joined; an empty one changes nothing.
    pub(crate) fn workdir(&mut self, path: &str) -> bool {
        let path = match path {
            "" => self.working_dir().to_owned(),
            path if path.starts_with('/') => path.to_owned(),
            path => absolute(self.working_dir(), path),
        };
        let makes_layer = path != "/";
        let layer = if makes_layer { LayerMade::Yes } else { LayerMade::No };
        self.add_history(format!("WORKDIR {path}"), layer);
        self.image.config.working_dir = Some(path);
        makes_layer
    }

    /// `USER`.
    pub(crate) fn set_user(&mut self, user: &str) {
        self.image.config.user = Some(user.to_owned()).filter(|user| !user.is_empty());
        self.add_history(format!("USER {user}"), LayerMade::No);
    }

    /// `CMD`.
    pub(crate) fn cmd(&mut self, args: Vec<String>) {
        self.add_history(format!("CMD {}", go_quoted_list(&args)), LayerMade::No);
        self.image.config.cmd = Some(args);
        self.image.config.args_escaped = Some(true);
        self.cmd_set = true;
    }

    /// `ENTRYPOINT`: a command that was inherited was meant for another program.
    pub(crate) fn entrypoint(&mut self, args: Vec<String>) {
        self.add_history(format!("ENTRYPOINT {}", go_quoted_list(&args)), LayerMade::No);
        self.image.config.entrypoint = Some(args);
        if !self.cmd_set {
            self.image.config.cmd = None;
        }
    }

    /// `SHELL`.
    pub(crate) fn shell(&mut self, args: Vec<String>) {
        self.add_history(format!("SHELL {}", go_list(&args)), LayerMade::No);
        self.image.config.shell = args;
    }

    /// `EXPOSE`, with ports as `80/tcp`.
    pub(crate) fn expose(&mut self, ports: Vec<String>) {
        self.add_history(format!("EXPOSE {}", go_list(&ports)), LayerMade::No);
        self.image.config.exposed_ports.extend(ports);
    }

    /// `VOLUME`.
    pub(crate) fn volume(&mut self, paths: Vec<String>) {
        self.add_history(format!("VOLUME {}", go_list(&paths)), LayerMade::No);
        self.image.config.volumes.extend(paths);
    }

    /// `STOPSIGNAL`.
    pub(crate) fn stop_signal(&mut self, signal: &str) {
        self.image.config.stop_signal = Some(signal.to_owned());
        self.add_history(format!("STOPSIGNAL {signal}"), LayerMade::No);
    }

    /// `HEALTHCHECK`.
    pub(crate) fn healthcheck(&mut self, check: &Healthcheck) {
        let health = health(check);
        let test = go_list(&health.test);
        let text = format!(
            "HEALTHCHECK {{Test:{test} Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
            go_duration(health.interval),
            go_duration(health.timeout),
            go_duration(health.start_period),
            go_duration(health.start_interval),
            health.retries,
        );
        self.image.config.healthcheck = Some(health);
        self.add_history(text, LayerMade::No);
    }

    /// `MAINTAINER`.
    pub(crate) fn maintainer(&mut self, name: &str) {
        self.image.author = Some(name.to_owned()).filter(|name| !name.is_empty());
        self.add_history(format!("MAINTAINER {name}"), LayerMade::No);
    }

    /// `ONBUILD`, which leaves no history.
    pub(crate) fn on_build(&mut self, trigger: String) {
        self.image.config.on_build.push(trigger);
    }
}

fn health(check: &Healthcheck) -> HealthConfig {
    use corten_dockerfile::CommandLine;
    let nanoseconds = |duration: &Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    match check {
        Healthcheck::None => {
            HealthConfig { test: vec!["NONE".to_owned()], ..HealthConfig::default() }
        }
        Healthcheck::Cmd { interval, timeout, start_period, start_interval, retries, command } => {
            let test = match command {
                CommandLine::Exec(words) => {
                    let words = words.iter().map(|word| word.text.clone());
                    std::iter::once("CMD".to_owned()).chain(words).collect()
                }
                CommandLine::Shell(word) => vec!["CMD-SHELL".to_owned(), word.text.clone()],
            };
            HealthConfig {
                test,
                interval: nanoseconds(interval),
                timeout: nanoseconds(timeout),
                start_period: nanoseconds(start_period),
                start_interval: nanoseconds(start_interval),
                retries: i64::from(*retries),
            }
        }
    }
}

/// The name of a `NAME=value`.
pub(crate) fn key_of(variable: &str) -> &str {
    variable.split_once('=').map_or(variable, |(key, _)| key)
}

/// Makes a path absolute and clean; one that is absolute stays where it is.
pub(crate) fn absolute(base: &str, path: &str) -> String {
    let joined = if path.starts_with('/') { path.to_owned() } else { format!("{base}/{path}") };
    let clean = crate::copy::select::clean(&joined);
    format!("/{}", String::from_utf8_lossy(&clean))
}

/// `%v` of a list of strings in Go.
fn go_list(texts: &[String]) -> String {
    format!("[{}]", texts.join(" "))
}

/// `%q` of a list of strings in Go.
fn go_quoted_list(texts: &[String]) -> String {
    let quoted: Vec<String> = texts.iter().map(|text| go_quoted(text)).collect();
    format!("[{}]", quoted.join(" "))
}

/// `strconv.Quote` of Go.
fn go_quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x0b' => quoted.push_str("\\v"),
            c if c.is_ascii_control() => quoted.push_str(&format!("\\x{:02x}", c as u32)),
            c if c.is_control() || c == '\u{feff}' || c == '\u{200b}' => {
                quoted.push_str(&format!("\\u{:04x}", c as u32));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// `time.Duration.String` of Go.
fn go_duration(nanoseconds: i64) -> String {
    let total = nanoseconds.unsigned_abs();
    let fraction = |value: u64, unit: u64| {
        let (whole, rest) = (value / unit, value % unit);
        let digits = unit.ilog10() as usize;
        let rest = format!("{rest:0digits$}");
        let rest = rest.trim_end_matches('0');
        if rest.is_empty() { whole.to_string() } else { format!("{whole}.{rest}") }
    };
    let text = match total {
        0 => return "0s".to_owned(),
        1..1_000 => format!("{total}ns"),
        1_000..1_000_000 => format!("{}µs", fraction(total, 1_000)),
        1_000_000..1_000_000_000 => format!("{}ms", fraction(total, 1_000_000)),
        _ => {
            let minutes = total / 60_000_000_000;
            let seconds = fraction(total % 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    };
    if nanoseconds < 0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_print_as_in_go() {
        let table = [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (100_000_000, "100ms"),
            (1_000_000_000, "1s"),
            (1_500_000_000, "1.5s"),
            (60_000_000_000, "1m0s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (-2_000_000_000, "-2s"),
        ];
        for (nanoseconds, expected) in table {
            assert_eq!(go_duration(nanoseconds), expected);
        }
    }

    #[test]
    fn text_is_quoted_as_in_go() {
        assert_eq!(go_quoted("a\"b\\c\n\t\u{1}é\u{7f}"), "\"a\\\"b\\\\c\\n\\t\\x01é\\x7f\"");
    }

    #[test]
    fn paths_are_made_absolute_and_clean() {
        let table = [
            ("/", "app", "/app"),
            ("/a", "b/../c/.", "/a/c"),
            ("/a", "/b//c/", "/b/c"),
            ("/", "../..", "/"),
            ("/a", "", "/a"),
        ];
        for (base, path, expected) in table {
            assert_eq!(absolute(base, path), expected, "{path} in {base}");
        }
    }
}
