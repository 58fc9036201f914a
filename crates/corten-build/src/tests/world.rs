//! A store, a context, a base image and a pretending executor.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use corten_diag::{Collect, Event, Outcome, Stream, render};
use corten_oci::image::{ContainerConfig, History, ImageConfig, RootFs};
use corten_oci::platform::Platform;
use corten_oci::reference::Reference;
use corten_registry::{Client, ClientOptions};
use corten_store::{Image, Layer, Seal, Store, StoreOptions};
use corten_sys::beneath::{Dir, FileKind};
use corten_sys::clock::Timestamp;
use corten_sys::file;
use corten_testkit::TempDir;

use crate::cache::{self, CacheError, CacheFrom, CacheTo, Export, Exported, Imports, Mode};
use crate::error::BuildError;
use crate::options::{BuildOptions, Context, DockerfileText};
use crate::run::{ExecError, OutOfMemory, RunOutcome, RunStep};
use crate::solve::{Target, Tools};
use crate::traits::{BaseError, Bases, Executor};

/// When the base image was created.
pub(super) const CREATED: i64 = 1_700_000_000;

/// A place for one test.
pub(super) struct World {
    pub(super) temp: TempDir,
    pub(super) store: Store,
    pub(super) executor: Pretender,
    pub(super) reporter: Collect,
}

impl World {
    pub(super) fn new() -> Self {
        Self::on(|_| ())
    }

    /// A world on a disk that is made ready: the directory of the store is empty then.
    pub(super) fn on(prepare: impl FnOnce(&Path)) -> Self {
        let temp = TempDir::new();
        file::create_dir(&temp.path().join("context"), 0o755).unwrap();
        let root = temp.path().join("store");
        file::create_dir(&root, 0o700).unwrap();
        prepare(&root);
        let store = Store::open(&StoreOptions::new(root)).unwrap();
        let world =
            Self { temp, store, executor: Pretender::default(), reporter: Collect::default() };
        world.make_base();
        world
    }

    /// `base`: a small system with users.
    fn make_base(&self) {
        let passwd = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:App:/home/app:/bin/sh\n";
        let group = "root:x:0:\napp:x:1001:\nmedia:x:44:app\n";
        self.make_image(
            "base",
            &[
                ("etc/passwd", passwd),
                ("etc/group", group),
                ("etc/hostname", "base\n"),
                ("bin/sh", "shell"),
                ("usr/lib/x", "x"),
            ],
            &ContainerConfig { env: vec!["PATH=/bin".to_owned()], ..ContainerConfig::default() },
        );
    }

    /// An image of one layer.
    pub(super) fn make_image(
        &self,
        name: &str,
        files: &[(&str, &str)],
        config: &ContainerConfig,
    ) -> Image {
        let staging = self.store.stage().unwrap();
        for (path, content) in files {
            put(staging.tree(), path, content);
        }
        let layer = self.store.commit(staging, &Seal { epoch: Some(CREATED), drop: &[] }).unwrap();
        let platform = Platform::host();
        let config = ImageConfig {
            created: Some(corten_oci::time::rfc3339(CREATED)),
            architecture: platform.architecture,
            os: platform.os,
            config: config.clone(),
            rootfs: RootFs { diff_ids: vec![layer.diff_id], ..RootFs::default() },
            history: vec![History { created_by: Some("base".to_owned()), ..History::default() }],
            ..ImageConfig::default()
        };
        let image = self.store.put_image(&config, &[layer], &BTreeMap::new()).unwrap();
        self.store.tag(&name.parse().unwrap(), image.id).unwrap();
        image
    }

    pub(super) fn context(&self) -> PathBuf {
        self.temp.path().join("context")
    }

    /// Writes a file of the context that was left alone for long.
    pub(super) fn write(&self, path: &str, content: &str) {
        put(&self.context(), path, content);
    }

    pub(super) fn options(&self, text: &str) -> BuildOptions {
        let context = Context::Directory(self.context());
        BuildOptions::new(context, DockerfileText::inline("Dockerfile", text))
    }

    pub(super) fn build(&self, text: &str) -> Image {
        self.try_build(text).unwrap_or_else(|error| panic!("{}", told(&error)))
    }

    pub(super) fn try_build(&self, text: &str) -> Result<Image, BuildError> {
        self.build_with(&self.options(text))
    }

    pub(super) fn build_with(&self, options: &BuildOptions) -> Result<Image, BuildError> {
        let bases = Stored(&self.store);
        crate::build(options, &self.store, &bases, &self.executor, &self.reporter)
    }

    /// Builds with caches of other machines, and exports as asked.
    pub(super) fn build_cached(
        &self,
        options: &BuildOptions,
        from: &[&str],
        to: &[&str],
    ) -> (Target, Vec<Exported>) {
        let (target, exported) = self
            .try_build_cached(options, from, to)
            .unwrap_or_else(|error| panic!("{}", told(&error)));
        (target, exported.unwrap())
    }

    /// The same, with what became of the build and of the exports.
    pub(super) fn try_build_cached(
        &self,
        options: &BuildOptions,
        from: &[&str],
        to: &[&str],
    ) -> Result<(Target, Result<Vec<Exported>, CacheError>), BuildError> {
        let from: Vec<_> = from.iter().map(|spec| CacheFrom::parse(spec).unwrap()).collect();
        let to: Vec<_> = to.iter().map(|spec| CacheTo::parse(spec).unwrap()).collect();
        let client = Client::new(ClientOptions::default());
        let imports = Imports::new(&from, &client);
        let tools = Tools {
            store: &self.store,
            executor: &self.executor,
            reporter: &self.reporter,
            imports: &imports,
            all_steps: to.iter().any(|to| to.mode == Mode::Max),
        };
        let target = crate::build_targets(options, &Stored(&self.store), &tools)?.remove(0);
        let mounts_directory = self.store.cache_mounts_dir();
        let export = Export {
            steps: &target.steps,
            mounts: &target.mounts,
            mounts_directory: &mounts_directory,
            store: &self.store,
            imports: &imports,
            client: &client,
            reporter: &self.reporter,
        };
        let exported = to.iter().filter_map(|to| cache::export(to, &export).transpose()).collect();
        Ok((target, exported))
    }

    /// The warnings since the last question.
    pub(super) fn warnings(&self) -> Vec<String> {
        let events = self.reporter.take().into_iter();
        let warning = |event| match event {
            Event::Warning(text) => Some(text),
            _ => None,
        };
        events.filter_map(warning).collect()
    }

    /// The commands that were run since the last question.
    pub(super) fn ran(&self) -> Vec<String> {
        std::mem::take(&mut *self.executor.ran.lock().unwrap())
    }

    /// What happened to each step since the last question, by title.
    pub(super) fn outcomes(&self) -> String {
        let mut titles = BTreeMap::new();
        let mut text = String::new();
        for event in self.reporter.take() {
            match event {
                Event::StepStarted { step, title, .. } => {
                    titles.insert(step, title);
                }
                Event::StepFinished { step, outcome, .. } => {
                    let outcome = match outcome {
                        Outcome::Done => "done  ",
                        Outcome::Cached => "cached",
                        Outcome::Failed => "failed",
                    };
                    writeln!(text, "{outcome} {}", titles[&step]).unwrap();
                }
                _ => {}
            }
        }
        text
    }
}

/// Writes a file with its directories, an hour old.
pub(super) fn put(root: &Path, path: &str, content: &str) {
    let path = root.join(path);
    file::create_dirs(path.parent().unwrap(), 0o755).unwrap();
    file::write(&path, content.as_bytes()).unwrap();
    file::set_times(&path, Timestamp::from_seconds(1000)).unwrap();
}

/// Images of a store.
pub(super) struct Stored<'a>(pub(super) &'a Store);

impl Bases for Stored<'_> {
    fn base(&self, image: &Reference, _platform: &Platform) -> Result<Image, BaseError> {
        let found = self.0.resolve(&image.to_string());
        let found = found.map_err(|error| BaseError::new(error.to_string(), None))?;
        found.ok_or_else(|| {
            BaseError::new(format!("no image `{}` in the store", image.familiar()), None)
        })
    }
}

type Action = dyn Fn(&RunStep, &mut dyn FnMut(Stream, &[u8])) -> RunOutcome + Send + Sync;

/// Does what its commands say, in a small language of its own:
/// `write PATH CONTENT`, `mkdir PATH`, `echo TEXT`, `fail CODE`, `oom`, `env`, `mounts`.
#[derive(Default)]
pub(super) struct Pretender {
    pub(super) ran: Mutex<Vec<String>>,
    pub(super) steps: Mutex<Vec<RunStep>>,
    /// Called for each step before its commands.
    pub(super) hook: Mutex<Option<Arc<Action>>>,
}

impl Executor for Pretender {
    fn run(
        &self,
        step: &RunStep,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<RunOutcome, ExecError> {
        let command = step.args.last().cloned().unwrap_or_default();
        self.ran.lock().unwrap().push(command.clone());
        self.steps.lock().unwrap().push(step.clone());
        let hook = self.hook.lock().unwrap().clone();
        if let Some(hook) = hook {
            let outcome = hook(step, output);
            if outcome.code != 0 {
                return Ok(outcome);
            }
        }
        for part in command.split(';') {
            let mut words = part.trim().splitn(3, ' ');
            let (verb, path) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
            let rest = words.next().unwrap_or("");
            match verb {
                "write" => put(&step.upper, path.trim_start_matches('/'), rest),
                "mkdir" => file::create_dirs(&step.upper.join(path.trim_start_matches('/')), 0o755)
                    .unwrap(),
                "echo" => output(Stream::Stdout, format!("{path} {rest}\n").as_bytes()),
                "fail" => return Ok(RunOutcome::exited(path.parse().unwrap())),
                "oom" => {
                    let memory =
                        OutOfMemory { limit_bytes: Some(64 << 20), peak_bytes: Some(64 << 20) };
                    return Ok(RunOutcome {
                        code: 137,
                        signal: Some(9),
                        out_of_memory: Some(memory),
                    });
                }
                _ => {}
            }
        }
        Ok(RunOutcome::exited(0))
    }
}

/// An error as it is shown.
pub(super) fn told(error: &BuildError) -> String {
    match error.diagnosed() {
        Some(diagnosed) => diagnosed
            .diagnostics
            .iter()
            .map(|diagnostic| render::full(diagnostic, Some(&diagnosed.source), false))
            .collect(),
        None => format!("error: {error}\nhint: {:?}\n", error.hint()),
    }
}

/// The files of a layer: mode, path, owner, time, content.
pub(super) fn listing(layer: &Layer) -> String {
    let mut text = String::new();
    list(&Dir::open(&layer.path).unwrap(), "", &mut text);
    text
}

fn list(dir: &Dir, prefix: &str, text: &mut String) {
    for entry in dir.list().unwrap() {
        let stat = dir.stat(&entry.name).unwrap();
        let path = format!("{prefix}{}", entry.name.to_string_lossy());
        let time = match stat.modified.seconds {
            CREATED => String::new(),
            other => format!(" t={other}"),
        };
        let owner = match (stat.uid, stat.gid) {
            (0, 0) => String::new(),
            (uid, gid) => format!(" {uid}:{gid}"),
        };
        let links = if stat.links > 1 && stat.kind == FileKind::File { " linked" } else { "" };
        let what = match stat.kind {
            FileKind::Directory => "/".to_owned(),
            FileKind::Symlink => {
                format!(" -> {}", String::from_utf8_lossy(&dir.read_link(&entry.name).unwrap()))
            }
            FileKind::File => {
                let bytes = file::read(&dir.path().join(&entry.name)).unwrap();
                format!(" = {}", String::from_utf8_lossy(&bytes).escape_default())
            }
            other => format!(" {other:?} {:?}", stat.represents),
        };
        writeln!(text, "{:04o} {path}{what}{owner}{time}{links}", stat.mode).unwrap();
        if stat.kind == FileKind::Directory {
            list(&dir.open_dir(&entry.name).unwrap(), &format!("{path}/"), text);
        }
    }
}
