//! What package managers download is kept for other builds: which of them a step uses, and how each
//! is led to the proxy that keeps it.
//!
//! Only the tools are told, each by a setting of its own, so that all else of a step is as it would
//! be. Whoever has set something about proxies or certificates knows why, and is left alone.

use std::io::Read as _;
use std::sync::OnceLock;

use corten_diag::{Event, Reporter};
use corten_record::{LISTEN_PORT, Policy, Recorder, StepRecorder};
use corten_runtime::Network;

use super::StepMount;
use crate::execute::Execution;
use crate::graph::{RunMountKind, RunOp};
use crate::options::BuildOptions;
use crate::plan::scope::PROXY_ARGS;
use crate::recording::Recording;

/// Where a tool finds the certificates of the host and the proxy's.
pub(super) const CERTIFICATES: &str = "/dev/corten/downloads.crt";

/// Where npm finds the proxy's certificate alone. Node.js reads all authorities anew for each connection,
/// of which npm makes one for each package when there is a proxy: with those of the host that took longer
/// than to fetch the packages. Whatever npm asks for, it asks the proxy.
pub(super) const OWN_CERTIFICATE: &str = "/dev/corten/downloads-own.crt";

/// As much of a configuration file is looked at; real ones have a few lines.
const CONFIG_BYTES_MAX: u64 = 64 * 1024;

/// What a step says when it has its own mind about proxies, certificates or servers of its own.
const OWN_MIND: [&str; 10] = [
    "proxy",
    "localhost",
    "127.0.0.",
    "::1",
    "--cert",
    "cafile",
    "cainfo",
    "pip_cert",
    "ssl_cert",
    "ssl_verify",
];

/// Commands that ask no server, beside those that are led to the proxy.
const QUIET_COMMANDS: [&str; 20] = [
    "[", "cd", "chmod", "chown", "cp", "echo", "exit", "export", "find", "ln", "ls", "mkdir", "mv",
    "printf", "rm", "set", "test", "touch", "true", "umask",
];

/// What leads a step to the proxy.
#[derive(Debug, Clone)]
pub struct Downloads {
    /// Listens in the step's own network.
    pub recorder: StepRecorder,
    /// Variables beside those of the step, or instead of them.
    pub env: Vec<(String, String)>,
    /// Mounts beside those of the step, or instead of them.
    pub mounts: Vec<StepMount>,
}

/// A package manager that can be led to the proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tool {
    Apt,
    Pip,
    Npm,
    Uv,
    /// And mamba, which takes the same words.
    Conda,
}

impl Tool {
    /// Whether it can only be led by variables that everything in the step sees.
    fn needs_the_step(self) -> bool {
        matches!(self, Self::Uv | Self::Conda)
    }
}

/// The cache of a build; made when a step first has a use for it.
pub(crate) struct DownloadCache<'a> {
    options: &'a BuildOptions,
    store: &'a corten_store::Store,
    reporter: &'a dyn Reporter,
    recorder: OnceLock<Option<Recorder>>,
}

impl<'a> DownloadCache<'a> {
    /// Prepares; `None` if the build wants none, or has a policy of its own for what is fetched.
    pub(crate) fn new(
        options: &'a BuildOptions,
        store: &'a corten_store::Store,
        reporter: &'a dyn Reporter,
    ) -> Option<Self> {
        let has_own =
            |name: &&str| options.build_args.get(*name).is_some_and(|value| !value.is_empty());
        let is_wanted = options.run.auto_cache
            && matches!(options.recording, Recording::Off)
            && options.remotes.downloads.is_some()
            && options.run.ca_certificates.is_some()
            && !PROXY_ARGS.iter().any(has_own);
        is_wanted.then(|| Self { options, store, reporter, recorder: OnceLock::new() })
    }

    /// The proxy, if it can be had; that it cannot is said once.
    fn recorder(&self) -> Option<&Recorder> {
        let make = || {
            let upstream = self.options.remotes.downloads.clone();
            match Recorder::new(self.store, upstream, Policy::Cache) {
                Ok(recorder) => Some(recorder),
                Err(error) => {
                    self.reporter.report(Event::Notice(format!(
                        "downloads of RUN steps are not cached: {error}"
                    )));
                    None
                }
            }
        };
        self.recorder.get_or_init(make).as_ref()
    }

    /// What one step speaks to, and the certificate that its tools must trust.
    pub(super) fn step(&self) -> Option<(StepRecorder, &str)> {
        self.recorder().map(|recorder| (recorder.step(), recorder.certificate()))
    }
}

/// The tools of a step that can be led to the proxy; none if it must not be.
pub(super) fn tools(
    execution: &Execution<'_>,
    op: &RunOp,
    env: &[(String, String)],
    home: &str,
) -> Vec<Tool> {
    if execution.downloads.is_none() || op.network != Network::Default || !op.hosts.is_empty() {
        return Vec::new();
    }
    let mut text = op.args.join("\n");
    if let Some(script) = &op.script {
        text.push('\n');
        text.push_str(&script.content);
    }
    let mut tools = mentioned(&text);
    tools.retain(|tool| !is_set(*tool, &op.env) && !is_configured(execution, op, *tool, env, home));
    tools
}

/// The tools that a command mentions as words of the shell.
fn mentioned(text: &str) -> Vec<Tool> {
    let text = text.replace("\\\n", " ");
    let lower = text.to_ascii_lowercase();
    if OWN_MIND.iter().any(|mark| lower.contains(mark)) {
        return Vec::new();
    }
    let is_end = |c: char| c.is_whitespace() || ";&|(){}<>`\"'$,[]".contains(c);
    let mut tools: Vec<Tool> = text.split(is_end).filter_map(tool).collect();
    tools.sort();
    tools.dedup();
    if tools.iter().any(|tool| tool.needs_the_step()) && !asks_nothing_else(&text) {
        tools.retain(|tool| !tool.needs_the_step());
    }
    tools
}

/// The tool that a word is the name of, or the path of in a directory of programs.
fn tool(word: &str) -> Option<Tool> {
    let name = match word.rsplit_once('/') {
        None => word,
        Some((directory, name)) if directory.ends_with("bin") => name,
        Some(_) => return None,
    };
    let is_pip = name
        .strip_prefix("pip")
        .is_some_and(|version| version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'));
    match name {
        "apt" | "apt-get" | "aptitude" => Some(Tool::Apt),
        "npm" | "npx" | "pnpm" | "yarn" => Some(Tool::Npm),
        "uv" => Some(Tool::Uv),
        "conda" | "mamba" | "micromamba" => Some(Tool::Conda),
        _ if is_pip => Some(Tool::Pip),
        _ => None,
    }
}

/// Whether every simple command of a text is a tool, or asks no server.
fn asks_nothing_else(text: &str) -> bool {
    if text.contains("$(") || text.contains('`') {
        return false;
    }
    // The shell itself, with its options, comes first where there is one.
    let is_shell = |line: &&str| {
        let name = line.rsplit('/').next().unwrap_or_default();
        matches!(name, "sh" | "bash" | "dash" | "ash") || line.starts_with('-')
    };
    let lines: Vec<&str> = text.lines().skip_while(is_shell).collect();
    // In the form without a shell every argument is a line; the first says which program it is.
    let text = if lines.len() == text.lines().count() { lines.join(" ") } else { lines.join("\n") };
    text.split(['\n', ';', '&', '|', '(', ')']).all(|command| {
        let mut words = command.split_whitespace().skip_while(|word| word.contains('='));
        let Some(first) = words.next() else { return true };
        match tool(first) {
            Some(Tool::Uv | Tool::Conda) => words.next().is_none_or(|verb| verb != "run"),
            Some(Tool::Npm) => false,
            Some(_) => true,
            None => first.starts_with('#') || QUIET_COMMANDS.contains(&first),
        }
    })
}

/// Whether the image or the Dockerfile has set a variable about the proxies of a tool.
fn is_set(tool: Tool, env: &[(String, String)]) -> bool {
    let (own, prefix): (&[&str], &str) = match tool {
        Tool::Apt => (&["apt_config"], "apt_"),
        Tool::Pip => (
            &["pip_proxy", "pip_cert", "pip_config_file", "requests_ca_bundle", "curl_ca_bundle"],
            "pip_",
        ),
        Tool::Npm => (
            &[
                "npm_config_proxy",
                "npm_config_http_proxy",
                "npm_config_https_proxy",
                "npm_config_cafile",
                "npm_config_ca",
                "npm_config_noproxy",
                "npm_config_userconfig",
                "npm_config_globalconfig",
                "node_extra_ca_certs",
            ],
            "npm_config_",
        ),
        Tool::Uv => (&["ssl_cert_file", "ssl_cert_dir", "ssl_client_cert"], "uv_"),
        Tool::Conda => (
            &[
                "condarc",
                "mambarc",
                "conda_ssl_verify",
                "mamba_ssl_verify",
                "conda_proxy_servers",
                "mamba_proxy_servers",
                "requests_ca_bundle",
                "curl_ca_bundle",
                "ssl_cert_file",
            ],
            "conda_",
        ),
    };
    env.iter().any(|(name, value)| {
        let name = name.to_ascii_lowercase();
        let is_proxy = PROXY_ARGS.contains(&name.as_str());
        let is_own = own.contains(&name.as_str());
        let is_here = name.starts_with(prefix) && says_own_mind(value);
        !value.is_empty() && (is_proxy || is_own || is_here)
    })
}

fn says_own_mind(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    OWN_MIND.iter().any(|mark| lower.contains(mark))
}

/// Whether a configuration file of a tool says something about proxies or certificates, or is
/// mounted, so that nobody knows.
fn is_configured(
    execution: &Execution<'_>,
    op: &RunOp,
    tool: Tool,
    env: &[(String, String)],
    home: &str,
) -> bool {
    let (names, mut paths): (&[&str], Vec<String>) = match tool {
        Tool::Apt => return false,
        Tool::Pip => (
            &["pip.conf"],
            vec![
                "/etc/pip.conf".to_owned(),
                "/etc/xdg/pip/pip.conf".to_owned(),
                format!("{home}/.config/pip/pip.conf"),
                format!("{home}/.pip/pip.conf"),
            ],
        ),
        Tool::Npm => (
            &[".npmrc", "npmrc", ".yarnrc", ".yarnrc.yml"],
            vec![
                "/etc/npmrc".to_owned(),
                "/usr/etc/npmrc".to_owned(),
                "/usr/local/etc/npmrc".to_owned(),
                format!("{home}/.npmrc"),
                format!("{home}/.yarnrc"),
                format!("{}/.npmrc", op.cwd),
                format!("{}/.yarnrc", op.cwd),
                format!("{}/.yarnrc.yml", op.cwd),
            ],
        ),
        Tool::Uv => (
            &["uv.toml", "pyproject.toml"],
            vec![
                "/etc/uv/uv.toml".to_owned(),
                format!("{home}/.config/uv/uv.toml"),
                format!("{}/uv.toml", op.cwd),
            ],
        ),
        Tool::Conda => (&[".condarc", "condarc", ".mambarc"], condarcs(env, home)),
    };
    if let Some((_, directory)) = env.iter().find(|(name, _)| name == "VIRTUAL_ENV") {
        paths.push(format!("{directory}/pip.conf"));
    }
    let is_named = |target: &str| names.iter().any(|name| target.rsplit('/').next() == Some(*name));
    let is_mounted = op.mounts.iter().any(|mount| {
        let is_file = !matches!(mount.kind, RunMountKind::Cache { .. } | RunMountKind::Ssh { .. });
        is_file && is_named(&mount.target)
    });
    is_mounted || paths.iter().any(|path| file_says_own_mind(execution, path))
}

/// Where conda and mamba look for their configuration, in images as they are made: below a prefix
/// that a variable names, or the usual ones.
fn condarcs(env: &[(String, String)], home: &str) -> Vec<String> {
    const PREFIXES: [&str; 4] = ["CONDA_DIR", "CONDA_PREFIX", "CONDA_ROOT", "MAMBA_ROOT_PREFIX"];
    let named = env.iter().filter(|(name, _)| PREFIXES.contains(&name.as_str()));
    let named = named.map(|(_, directory)| directory.trim_end_matches('/').to_owned());
    let usual = ["/opt/conda", "/opt/miniconda3", "/etc/conda", "/var/lib/conda"];
    let of_user = [format!("{home}/.config/conda"), format!("{home}/.conda"), home.to_owned()];
    let directories = named.chain(usual.map(str::to_owned)).chain(of_user);
    let files = |directory: String| {
        [".condarc", "condarc", ".mambarc"].map(|name| format!("{directory}/{name}"))
    };
    directories.flat_map(files).collect()
}

fn file_says_own_mind(execution: &Execution<'_>, path: &str) -> bool {
    let Ok(below) = execution.below.files() else { return false };
    // A file that cannot be read here may say anything.
    let Ok(found) = crate::files::resolve(below, path.as_bytes(), true) else { return true };
    let Some(found) = found else { return false };
    let Ok(file) = found.open_file() else { return true };
    let mut text = Vec::new();
    match file.take(CONFIG_BYTES_MAX).read_to_end(&mut text) {
        Ok(_) => says_own_mind(&String::from_utf8_lossy(&text)),
        Err(_) => true,
    }
}

/// Whether what a step has written says that a download is not what an index promised: a mirror may
/// have replaced a file in its place.
pub(super) fn tells_of_digests(output: &str) -> bool {
    let output = output.to_ascii_lowercase();
    let signs = ["hash sum mismatch", "do not match the hashes", "eintegrity", "hash mismatch"];
    signs.iter().any(|sign| output.contains(sign))
}

/// The variables that lead tools to the proxy.
pub(super) fn variables(tools: &[Tool], no_proxy: Option<&str>) -> Vec<(String, String)> {
    let address = address();
    let mut env = Vec::new();
    let mut set = |name: &str, value: &str| env.push((name.to_owned(), value.to_owned()));
    for tool in tools {
        match tool {
            // By its file of configuration.
            Tool::Apt => {}
            Tool::Pip => {
                set("PIP_PROXY", &address);
                set("PIP_CERT", CERTIFICATES);
                // Within pip, what the environment says to requests counts more.
                set("REQUESTS_CA_BUNDLE", CERTIFICATES);
            }
            Tool::Npm => {
                set("npm_config_proxy", &address);
                set("npm_config_https_proxy", &address);
                set("npm_config_cafile", OWN_CERTIFICATE);
                set("npm_config_noproxy", "localhost,127.0.0.1,::1");
                // Scripts of packages take the proxy from npm, and certificates from here.
                set("NODE_EXTRA_CA_CERTS", CERTIFICATES);
            }
            Tool::Uv | Tool::Conda => {
                for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"] {
                    set(name, &address);
                }
                let local = "localhost,127.0.0.1,::1";
                let direct = no_proxy.map_or(local.to_owned(), |hosts| format!("{hosts},{local}"));
                set("NO_PROXY", &direct);
                set("no_proxy", &direct);
                for name in super::step::CERTIFICATE_VARIABLES {
                    set(name, CERTIFICATES);
                }
                // mamba would prefer the authorities of its own prefix.
                if *tool == Tool::Conda {
                    set("MAMBA_SSL_VERIFY", CERTIFICATES);
                }
            }
        }
    }
    env
}

/// What apt is told.
pub(super) fn apt_config() -> String {
    let address = address();
    let mut text = format!("Acquire::https::CAInfo \"{CERTIFICATES}\";\n");
    for scheme in ["http", "https"] {
        text.push_str(&format!("Acquire::{scheme}::Proxy \"{address}\";\n"));
        text.push_str(&format!("Acquire::{scheme}::Proxy::localhost \"DIRECT\";\n"));
    }
    text
}

fn address() -> String {
    format!("http://127.0.0.1:{LISTEN_PORT}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<Tool> {
        mentioned(text)
    }

    #[test]
    fn a_tool_is_a_word_and_not_a_part_of_one() {
        for (text, expected) in [
            ("/bin/sh\n-c\napt-get update && apt-get install -y curl", &[Tool::Apt][..]),
            ("/bin/sh\n-c\npip install x", &[Tool::Pip]),
            ("/bin/sh\n-c\n/opt/venv/bin/pip3.11 install x", &[Tool::Pip]),
            ("/bin/sh\n-c\n\"$VENV/bin/pip\" install x", &[Tool::Pip]),
            ("/bin/sh\n-c\npython -m pip install x;npm ci", &[Tool::Pip, Tool::Npm]),
            ("bash\n-c\nset -e; bash -c 'pip install x'", &[Tool::Pip]),
            ("/bin/sh\n-c\napt-get \\\n install x", &[Tool::Apt]),
            ("pip\ninstall\nx", &[Tool::Pip]),
            ("/bin/sh\n-c\npipx install x", &[]),
            ("/bin/sh\n-c\nrm -rf /var/lib/apt /etc/apt/apt.conf.d", &[]),
            ("/bin/sh\n-c\npipenv sync; pip-compile; my-npm; uvicorn app", &[]),
            ("/bin/sh\n-c\ncp -r ./apt x", &[]),
            ("/bin/sh\n-c\nmake", &[]),
        ] {
            assert_eq!(of(text), expected, "{text}");
        }
    }

    #[test]
    fn a_step_with_its_own_mind_is_left_alone() {
        for text in [
            "pip --proxy http://p install x",
            "export https_proxy=http://p; pip install x",
            "pip install --cert own.pem x",
            "pip install -i http://localhost:8080 x",
            "pip install -i http://127.0.0.1:8080 x",
            "npm config set cafile x; npm ci",
            "apt-get -o Acquire::https::CAInfo=x update",
        ] {
            assert_eq!(of(&format!("/bin/sh\n-c\n{text}")), [], "{text}");
        }
    }

    #[test]
    fn uv_is_led_only_where_nothing_else_asks_servers() {
        for (text, expected) in [
            ("uv pip install x", true),
            ("cd /app && UV_NO_CACHE=1 uv sync --frozen", true),
            ("pip install uv\nuv pip install --system x && rm -rf /tmp/x", true),
            ("uv run main.py", false),
            ("uv sync && curl http://a.test", false),
            ("uv pip install $(cat list)", false),
            ("./install && uv sync", false),
        ] {
            let found = of(&format!("/bin/sh\n-c\n{text}"));
            assert_eq!(found.contains(&Tool::Uv), expected, "{text}: {found:?}");
        }
        assert_eq!(of("uv\nsync"), [Tool::Uv]);
        assert_eq!(of("uv\nrun\nx"), []);
    }

    #[test]
    fn conda_is_led_only_where_nothing_else_asks_servers() {
        for (text, expected) in [
            ("conda install -y numpy", true),
            ("/opt/conda/bin/conda env create -f environment.yml && conda clean -afy", true),
            ("micromamba install -y -n base -f env.yaml && micromamba clean --all --yes", true),
            ("mamba update -y --all; pip install x", true),
            ("conda run -n x ./fetch", false),
            ("conda install -y wget && wget http://a.test", false),
            ("conda config --set ssl_verify no && conda install x", false),
            ("./miniconda.sh -b -p /opt/conda && conda install -y x", false),
        ] {
            let found = of(&format!("/bin/sh\n-c\n{text}"));
            assert_eq!(found.contains(&Tool::Conda), expected, "{text}: {found:?}");
        }
    }

    #[test]
    fn files_of_conda_are_looked_for_where_its_prefix_is() {
        let env = vec![("CONDA_DIR".to_owned(), "/srv/conda/".to_owned())];
        let found = condarcs(&env, "/home/u");
        for path in ["/srv/conda/.condarc", "/opt/conda/.condarc", "/home/u/.condarc"] {
            assert!(found.iter().any(|known| known == path), "{path}: {found:?}");
        }
    }

    #[test]
    fn settings_of_the_user_win() {
        let env = |name: &str, value: &str| vec![(name.to_owned(), value.to_owned())];
        for (tool, name, value, expected) in [
            (Tool::Pip, "PIP_PROXY", "http://p", true),
            (Tool::Pip, "PIP_CERT", "/own", true),
            (Tool::Pip, "HTTPS_PROXY", "http://p", true),
            (Tool::Pip, "http_proxy", "", false),
            (Tool::Pip, "PIP_INDEX_URL", "http://localhost:1/simple", true),
            (Tool::Pip, "PIP_NO_CACHE_DIR", "1", false),
            (Tool::Pip, "npm_config_proxy", "http://p", false),
            (Tool::Npm, "npm_config_proxy", "http://p", true),
            (Tool::Npm, "NPM_CONFIG_CAFILE", "/own", true),
            (Tool::Uv, "SSL_CERT_FILE", "/own", true),
            (Tool::Apt, "APT_CONFIG", "/own", true),
            (Tool::Conda, "CONDA_SSL_VERIFY", "false", true),
            (Tool::Conda, "CONDA_PROXY_SERVERS", "http: http://p.test", true),
            (Tool::Conda, "CONDA_AUTO_UPDATE_CONDA", "false", false),
        ] {
            assert_eq!(is_set(tool, &env(name, value)), expected, "{tool:?} {name}={value}");
        }
    }
}
