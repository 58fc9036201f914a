//! The plan of a build: stages, and in each the steps that change files.
//!
//! A graph holds every decision that can be made without reading a file of the context: what is
//! expanded, where each step begins, what the image will say about itself. Instructions that only
//! change the configuration are no steps; they are in the stage's [`StageImage`].

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use corten_diag::{Diagnostic, SourceFile, Span};
use corten_oci::image::ImageConfig;
use corten_oci::platform::Platform;
use corten_oci::reference::Reference;
use corten_runtime::Network;
use corten_store::Image;

use crate::copy::mode::ModeChange;
use crate::remote::Source;

/// A planned build.
#[derive(Debug, Clone)]
pub struct Graph {
    /// What is built, one for each platform.
    pub targets: Vec<GraphTarget>,
    /// What the targets need, in an order in which each stage follows those that it needs.
    pub stages: Vec<Stage>,
    /// The Dockerfile, for messages about places.
    pub source: Arc<SourceFile>,
    /// What is worth saying although nothing is wrong.
    pub warnings: Vec<Diagnostic>,
}

/// A stage that becomes an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphTarget {
    /// What was asked for.
    pub platform: Platform,
    pub stage: StageId,
}

/// The place of a stage in [`Graph::stages`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StageId(pub usize);

/// A stage, or an image that files are taken from.
#[derive(Debug, Clone)]
pub struct Stage {
    /// As it is shown: its name, else its number in the file, else the image.
    pub name: String,
    /// What its programs are for.
    pub platform: Platform,
    /// The platforms whose images need it.
    pub built_for: Vec<Platform>,
    pub base: Base,
    pub steps: Vec<Step>,
    /// Seconds since 1970: no file that the steps make is later.
    pub epoch: i64,
    /// What an image of this stage says, but for its layers.
    pub config: ImageConfig,
    /// The place of its `FROM`, or of what names the image.
    pub place: Place,
}

/// What a stage begins with.
#[derive(Debug, Clone)]
pub enum Base {
    Scratch,
    Image {
        reference: Reference,
        /// Absent in a plan that is only shown.
        image: Option<Box<Image>>,
    },
    Stage(StageId),
}

/// One instruction that makes a layer.
#[derive(Debug, Clone)]
pub struct Step {
    /// From 1, over the whole graph.
    pub number: u32,
    /// The instruction with known variables replaced.
    pub title: String,
    pub place: Place,
    pub op: Op,
}

/// Where in the Dockerfile something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    pub span: Span,
    /// The text of a trigger of the base image; then the place is that of `FROM`.
    pub trigger: Option<String>,
}

/// What a step does.
#[derive(Debug, Clone)]
pub enum Op {
    Copy(CopyOp),
    Run(RunOp),
    Workdir(WorkdirOp),
}

/// Where files come from.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Input {
    /// The main context.
    Context,
    /// A further context that is a directory.
    Named(String),
    Stage(StageId),
    /// Something that is fetched.
    Remote(Source),
    /// Nothing at all: `from=scratch`.
    Empty,
}

/// `COPY` and `ADD` of local files.
#[derive(Debug, Clone)]
pub struct CopyOp {
    pub input: Input,
    pub sources: Vec<SourceWord>,
    /// Files that stand in the Dockerfile.
    pub inline: Vec<InlineFile>,
    /// Absolute and clean; ends in `/` when it names a directory.
    pub dest: String,
    /// `user[:group]`, names or numbers.
    pub owner: Option<String>,
    pub mode: Option<ModeChange>,
    /// Whether the layer does not depend on what is below it.
    pub link: bool,
    pub parents: bool,
    pub excludes: Vec<String>,
    /// Whether archives are unpacked.
    pub unpack: bool,
    /// The same for those that are fetched.
    pub unpack_remote: bool,
}

/// A source as written after expansion, with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceWord {
    pub text: String,
    pub span: Span,
    /// Whether it is a path in which nothing is a wildcard.
    pub literal: bool,
    /// What is fetched in place of a path in the input: [`Input::Remote`].
    pub remote: Option<Input>,
}

/// A file that stands in the Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InlineFile {
    pub name: String,
    pub content: String,
}

/// `RUN`.
#[derive(Debug, Clone)]
pub struct RunOp {
    /// Program and arguments, the shell included.
    pub args: Vec<String>,
    /// The program of the image's `SHELL`.
    pub shell: String,
    /// A here-document that is executed as a file of its own.
    pub script: Option<InlineFile>,
    /// Build arguments and the image's environment.
    pub env: Vec<(String, String)>,
    pub cwd: String,
    /// As in `USER`; empty for root.
    pub user: String,
    pub network: Network,
    /// Further names in `/etc/hosts`.
    pub hosts: Vec<(String, IpAddr)>,
    /// Whether it has all rights that its caller can give.
    pub insecure: bool,
    /// The name of the machine that it believes to be on.
    pub hostname: String,
    pub mounts: Vec<RunMount>,
    pub devices: Vec<RunDevice>,
    /// Whether what differs from run to run is made the same, see [`RunOptions::normalise`].
    ///
    /// [`RunOptions::normalise`]: crate::RunOptions::normalise
    pub normalise: bool,
}

/// One `--device` of a `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDevice {
    /// As it was asked for: of it, this alone is part of the key.
    pub name: String,
    /// Whether the step is of no use without it.
    pub required: bool,
    pub span: Span,
}

/// One `--mount` of a `RUN`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunMount {
    /// Absolute and clean.
    pub target: String,
    pub span: Span,
    pub kind: RunMountKind,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunMountKind {
    Bind {
        input: Input,
        /// Absolute within the input.
        source: String,
        /// Writes are lost after the step.
        writable: bool,
    },
    Cache {
        id: String,
        sharing: CacheSharing,
        /// What an empty cache begins with.
        seed: Option<(Input, String)>,
        mode: u32,
        uid: u32,
        gid: u32,
        readonly: bool,
    },
    Tmpfs {
        size_bytes: Option<u64>,
    },
    Secret {
        id: String,
        /// Absent when it is only wanted as a variable.
        file: bool,
        variable: Option<String>,
        required: bool,
        mode: u32,
        uid: u32,
        gid: u32,
    },
    /// The socket of an agent.
    Ssh {
        id: String,
        /// Whether `SSH_AUTH_SOCK` names this one.
        variable: bool,
        required: bool,
        mode: u32,
        uid: u32,
        gid: u32,
    },
}

/// Who may use a cache at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CacheSharing {
    /// Everyone at once.
    Shared,
    /// A user that finds it busy gets another one.
    Private,
    /// One after the other.
    Locked,
}

/// `WORKDIR`: makes the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorkdirOp {
    /// Absolute and clean.
    pub path: String,
    /// Whose the directories become; empty for root.
    pub user: String,
}

impl Graph {
    /// The stage that becomes the image, of the first platform if there are several.
    pub fn target(&self) -> StageId {
        let last = StageId(self.stages.len().saturating_sub(1));
        self.targets.first().map_or(last, |target| target.stage)
    }

    /// The platform of a stage's programs, and for which other one they work; as people are told
    /// when there is more than the one of this machine.
    pub fn platform_name(&self, stage: &Stage) -> Option<String> {
        let host = Platform::host();
        let is_foreign = |platform: &Platform| platform.normalised() != host;
        let others = self.targets.iter().any(|target| is_foreign(&target.platform));
        if self.targets.len() < 2 && !others && !is_foreign(&stage.platform) {
            return None;
        }
        Some(match stage.built_for.as_slice() {
            [only] if only.normalised() != stage.platform.normalised() => {
                format!("{}->{}", stage.platform, only.architecture)
            }
            _ => stage.platform.to_string(),
        })
    }

    /// A stage by its id.
    ///
    /// # Panics
    ///
    /// When the id is of another graph.
    pub fn stage(&self, id: StageId) -> &Stage {
        &self.stages[id.0]
    }

    /// The platforms that are built for, such as `linux/amd64, linux/arm64`.
    pub fn platforms(&self) -> String {
        let names: Vec<String> =
            self.targets.iter().map(|target| target.platform.to_string()).collect();
        names.join(", ")
    }

    /// The stage that has a step.
    pub fn stage_of(&self, step: &Step) -> Option<&Stage> {
        let has = |stage: &&Stage| stage.steps.iter().any(|own| own.number == step.number);
        self.stages.iter().find(has)
    }

    /// The number of steps.
    pub fn step_count(&self) -> u32 {
        self.stages.iter().map(|stage| u32::try_from(stage.steps.len()).unwrap_or(u32::MAX)).sum()
    }

    /// The name of an input as people know it.
    pub fn input_name(&self, input: &Input) -> String {
        match input {
            Input::Context => "the build context".to_owned(),
            Input::Named(name) => format!("the context `{name}`"),
            Input::Stage(id) => format!("`{}`", self.stage(*id).name),
            Input::Remote(source) => format!("`{}`", source.address()),
            Input::Empty => "an empty directory".to_owned(),
        }
    }
}

impl Op {
    /// The stages and contexts that files are taken from.
    pub fn inputs(&self) -> Vec<&Input> {
        match self {
            Self::Copy(copy) => copy.inputs(),
            Self::Run(run) => run.mounts.iter().filter_map(RunMount::input).collect(),
            Self::Workdir(_) => Vec::new(),
        }
    }
}

impl CopyOp {
    /// Where its sources come from, each place once for each source.
    pub fn inputs(&self) -> Vec<&Input> {
        let own = self.sources.iter().any(|source| source.remote.is_none());
        let remote = self.sources.iter().filter_map(|source| source.remote.as_ref());
        own.then_some(&self.input).into_iter().chain(remote).collect()
    }
}

impl RunMount {
    /// Where its files come from, if they come from anywhere.
    pub fn input(&self) -> Option<&Input> {
        match &self.kind {
            RunMountKind::Bind { input, .. }
            | RunMountKind::Cache { seed: Some((input, _)), .. } => Some(input),
            _ => None,
        }
    }
}

impl fmt::Display for Graph {
    /// The plan as text, for `--plan`; it is the same on every machine.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "platform {}", self.platforms())?;
        for (index, stage) in self.stages.iter().enumerate() {
            let is_target = self.targets.iter().any(|target| target.stage == StageId(index));
            let target = if is_target { " (target)" } else { "" };
            let platform = self.platform_name(stage);
            let platform = platform.map_or_else(String::new, |platform| format!(" [{platform}]"));
            writeln!(f, "\nstage {}{platform}{target}", stage.name)?;
            match &stage.base {
                Base::Scratch => writeln!(f, "  from scratch")?,
                Base::Image { reference, .. } => writeln!(f, "  from {}", reference.familiar())?,
                Base::Stage(id) => writeln!(f, "  from stage {}", self.stage(*id).name)?,
            }
            for step in &stage.steps {
                writeln!(f, "  {:>2} {}", step.number, step.title)?;
                self.fmt_op(f, &step.op)?;
            }
        }
        for target in &self.targets {
            self.fmt_image(f, target)?;
        }
        Ok(())
    }
}

impl Graph {
    fn fmt_image(&self, f: &mut fmt::Formatter<'_>, target: &GraphTarget) -> fmt::Result {
        let config = &self.stage(target.stage).config.config;
        match self.targets.len() {
            1 => writeln!(f, "\nimage")?,
            _ => writeln!(f, "\nimage for {}", target.platform)?,
        }
        for variable in &config.env {
            writeln!(f, "  env {variable}")?;
        }
        let mut line = |name: &str, value: &Option<String>| match value {
            Some(value) => writeln!(f, "  {name} {value}"),
            None => Ok(()),
        };
        line("user", &config.user)?;
        line("workdir", &config.working_dir)?;
        line("entrypoint", &config.entrypoint.as_ref().map(|args| format!("{args:?}")))?;
        line("cmd", &config.cmd.as_ref().map(|args| format!("{args:?}")))?;
        for port in &config.exposed_ports {
            writeln!(f, "  expose {port}")?;
        }
        for (key, value) in &config.labels {
            writeln!(f, "  label {key}={value}")?;
        }
        Ok(())
    }

    fn fmt_op(&self, f: &mut fmt::Formatter<'_>, op: &Op) -> fmt::Result {
        match op {
            Op::Copy(copy) => {
                for source in &copy.sources {
                    if source.remote.is_some() {
                        writeln!(f, "       fetched {} -> {}", source.text, copy.dest)?;
                        continue;
                    }
                    let from = self.input_name(&copy.input);
                    writeln!(f, "       from {from}: {} -> {}", source.text, copy.dest)?;
                }
                for file in &copy.inline {
                    writeln!(f, "       here-document {} -> {}", file.name, copy.dest)?;
                }
            }
            Op::Run(run) => {
                writeln!(f, "       exec {:?} in {}", run.args, run.cwd)?;
                if run.insecure {
                    writeln!(f, "       with all rights")?;
                }
                for device in &run.devices {
                    let optional = if device.required { "" } else { " (if it is there)" };
                    writeln!(f, "       device {}{optional}", device.name)?;
                }
                for mount in &run.mounts {
                    let kind = match &mount.kind {
                        RunMountKind::Bind { input, .. } => {
                            format!("bind of {}", self.input_name(input))
                        }
                        RunMountKind::Cache { id, .. } => format!("cache {id}"),
                        RunMountKind::Tmpfs { .. } => "tmpfs".to_owned(),
                        RunMountKind::Secret { id, .. } => format!("secret {id}"),
                        RunMountKind::Ssh { id, .. } => format!("agent {id}"),
                    };
                    match &mount.kind {
                        RunMountKind::Secret { file: false, variable: Some(name), .. } => {
                            writeln!(f, "       variable {name} ({kind})")?;
                        }
                        _ => writeln!(f, "       mount {} ({kind})", mount.target)?,
                    }
                }
            }
            Op::Workdir(workdir) => writeln!(f, "       directory {}", workdir.path)?,
        }
        Ok(())
    }
}
