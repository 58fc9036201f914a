//! From a recipe to an image in the store.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use corten_diag::{Event, Reporter, Unit};
use corten_oci::digest::{Digest, HashingReader};
use corten_oci::image::{ContainerConfig, History, ImageConfig, RootFs};
use corten_oci::platform::Platform;
use corten_oci::tar::TarError;
use corten_oci::time::rfc3339;
use corten_store::{CacheKey, Image, Layer, StepRecord, Store, StoreError};
use corten_sys::clock::Clock;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::effects::{self, Context};
use crate::error::BaseError;
use crate::fetch::{Fetcher, Wanted};
use crate::filter::Filter;
use crate::keyring::Keyring;
use crate::lock::{self, Archive, Evidence, Lock, LockError, Pins};
use crate::packages::Universe;
use crate::recipe::Recipe;
use crate::resolve::{self, Reason, Request, ResolveError};
use crate::rootfs::Rootfs;
use crate::scripts::{self, Coverage, Script, Uncovered};
use crate::sources::Mirrors;
use crate::spool::Spool;
use crate::suites::{self, Indexed};
use crate::transport::Transport;
use crate::unpack::{self, Identity, UnpackError, Unpacked};
use crate::version;

/// The version of everything between packages and layer that is not an effect.
const ASSEMBLY: u32 = 1;

/// The version of the choice of packages.
const RESOLVER: u32 = 1;

/// The cache of chosen packages per set of indexes.
const SELECTION_CACHE: &str = "base-selection";

/// The tar passes between two threads in pieces of this size …
const PIECE_BYTES: usize = 256 * 1024;

/// … of which so many may wait.
const PIECES: usize = 8;

/// The largest time that a package may bring: the first second of the year 2100. A later one is a
/// mistake of whoever built the package, and would make every file of the image look new.
const MTIME_MAX: i64 = 4_102_444_800;

/// What a build needs besides the recipe.
#[derive(Clone)]
pub struct BaseOptions<'o> {
    /// Where packages are fetched from.
    pub mirrors: Mirrors,
    /// What apt in the image will use, if not the same.
    pub image_mirrors: Option<Mirrors>,
    /// The keys that may sign.
    pub keyring: Keyring,
    /// The architecture, as Debian names it.
    pub architecture: String,
    /// Whether only what the store has may be used.
    pub offline: bool,
    /// Whether an index may be used that has expired.
    pub allow_expired: bool,
    /// Whether a script that no effect covers is an error.
    pub strict: bool,
    /// The newest time that anything in the image may have; without it, the newest of the packages.
    pub epoch: Option<i64>,
    /// What to build exactly.
    pub lock: Option<Lock>,
    /// How bytes come from the mirror.
    pub transport: &'o dyn Transport,
    /// The time, for the dates of indexes.
    pub clock: &'o dyn Clock,
}

impl std::fmt::Debug for BaseOptions<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("BaseOptions")
            .field("mirrors", &self.mirrors.without_credentials())
            .field("architecture", &self.architecture)
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

impl<'o> BaseOptions<'o> {
    /// Names what has no default; everything else is as strict as it can be.
    pub fn new(
        mirrors: Mirrors,
        architecture: &str,
        transport: &'o dyn Transport,
        clock: &'o dyn Clock,
    ) -> Self {
        Self {
            mirrors,
            image_mirrors: None,
            keyring: Keyring::debian(),
            architecture: architecture.to_owned(),
            offline: false,
            allow_expired: false,
            strict: false,
            epoch: None,
            lock: None,
            transport,
            clock,
        }
    }
}

/// Builds a golden base, or finds that the store has it, and returns it with its lock.
///
/// The image has no name yet: the caller tags it.
pub fn build(
    recipe: &Recipe,
    options: &BaseOptions<'_>,
    store: &Store,
    reporter: &dyn Reporter,
) -> Result<(Image, Lock), BaseError> {
    if !recipe.architectures.contains(&options.architecture) {
        return Err(BaseError::Architecture {
            recipe: recipe.name.clone(),
            architecture: options.architecture.clone(),
            known: recipe.architectures.clone(),
        });
    }
    let fetcher =
        Fetcher { transport: options.transport, store, reporter, offline: options.offline };
    let job = Job { recipe, options, fetcher, store, reporter };
    let (packages, evidence) = match &options.lock {
        Some(lock) => (job.locked(lock)?, lock.evidence.clone()),
        None => job.select()?,
    };
    let Made { pins, uncovered } = job.layer(packages)?;
    if let Some(lock) = options.lock.as_ref().filter(|lock| lock.pins.layer != pins.layer) {
        return Err(BaseError::NotReproduced { expected: lock.pins.layer, found: pins.layer });
    }
    job.report_uncovered(&uncovered)?;
    let image = job.image(&pins)?;
    Ok((image, Lock { schema: lock::SCHEMA, pins, evidence: Evidence { uncovered, ..evidence } }))
}

#[derive(Clone, Copy)]
struct Job<'j> {
    recipe: &'j Recipe,
    options: &'j BaseOptions<'j>,
    fetcher: Fetcher<'j>,
    store: &'j Store,
    reporter: &'j dyn Reporter,
}

/// What decides a layer, as the key of the cached step.
#[derive(Serialize)]
struct Key<'k> {
    step: &'static str,
    recipe: Digest,
    architecture: &'k str,
    assembly: u32,
    effects: u32,
    epoch: Option<i64>,
    image_mirrors: &'k Mirrors,
    packages: Vec<KeyPackage<'k>>,
}

/// Of a package: name, version, architecture, digest, whether it was only needed, and which files.
type KeyPackage<'k> = (&'k str, &'k str, &'k str, Digest, bool, &'k [String]);

/// A layer that is in the store, as the cached step remembers it.
#[derive(Debug, Serialize, Deserialize)]
struct Made {
    pins: Pins,
    uncovered: Vec<Uncovered>,
}

fn stored(what: &'static str) -> impl Fn(StoreError) -> BaseError {
    move |source| BaseError::Store { what, source: Box::new(source) }
}

impl Job<'_> {
    /// Checks that a lock is for this build, and returns its packages.
    fn locked(&self, lock: &Lock) -> Result<Vec<lock::Package>, BaseError> {
        let pins = &lock.pins;
        let mismatch = |what, found: &str, expected: &str| {
            let (found, expected) = (found.to_owned(), expected.to_owned());
            Err(LockError::Mismatch { what, found, expected }.into())
        };
        if pins.recipe_digest != self.recipe.digest() {
            let expected = format!("{} ({})", self.recipe.name, self.recipe.digest().short());
            return mismatch(
                "the recipe",
                &format!("{} ({})", pins.recipe, pins.recipe_digest.short()),
                &expected,
            );
        }
        if pins.architecture != self.options.architecture {
            return mismatch("the architecture", &pins.architecture, &self.options.architecture);
        }
        if (pins.assembly, pins.effects) != (ASSEMBLY, effects::VERSION) {
            let found = format!("{}.{}", pins.assembly, pins.effects);
            return mismatch("the assembly", &found, &format!("{ASSEMBLY}.{}", effects::VERSION));
        }
        Ok(pins.packages.clone())
    }

    /// Chooses the packages from the signed indexes.
    fn select(&self) -> Result<(Vec<lock::Package>, Evidence), BaseError> {
        if self.options.mirrors.is_empty() {
            return Err(BaseError::NoMirror);
        }
        let indexes = suites::load(self.recipe, self.options, &self.fetcher)?;
        let digests: Vec<(Archive, Digest)> =
            indexes.iter().map(|index| (index.archive, index.evidence.index_digest)).collect();
        let key = (RESOLVER, self.recipe.digest(), &self.options.architecture, digests);
        let key = Digest::of(&corten_oci::json::canonical(&key)).hex();
        let cached =
            self.store.aux(SELECTION_CACHE, &key).map_err(stored("the choice of packages"))?;
        let cached = cached.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let packages = if let Some(packages) = cached {
            packages
        } else {
            let packages = self.resolve(&indexes)?;
            let bytes = corten_oci::json::canonical(&packages);
            self.store
                .put_aux(SELECTION_CACHE, &key, &bytes)
                .map_err(stored("the choice of packages"))?;
            packages
        };
        let suites = indexes.into_iter().map(|index| index.evidence).collect();
        Ok((packages, Evidence { suites, uncovered: Vec::new() }))
    }

    fn resolve(&self, indexes: &[Indexed]) -> Result<Vec<lock::Package>, BaseError> {
        let read = |index: &Indexed| {
            suites::read_index(&self.fetcher, &index.evidence.index, &index.evidence.index_digest)
        };
        let texts = indexes.par_iter().map(read).collect::<Result<Vec<String>, BaseError>>()?;
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let universe = Universe::new(&texts, &self.options.architecture);
        let request = Request {
            required: self.recipe.packages.required,
            add: self.recipe.packages.add.iter().map(String::as_str).collect(),
            exclude: self
                .recipe
                .packages
                .exclude
                .iter()
                .map(String::as_str)
                .collect::<BTreeSet<_>>(),
        };
        let choices =
            resolve::resolve(&universe, &request).map_err(|source| self.unresolved(source))?;
        let pin = |number: u32, reason: &str, automatic: bool, part: &[String]| {
            let package = universe.package(number);
            let location = package.location().map_err(|field| BaseError::Description {
                package: package.name.to_owned(),
                field,
            })?;
            Ok::<_, BaseError>(lock::Package {
                name: package.name.to_owned(),
                version: package.version.to_owned(),
                architecture: package.architecture.to_owned(),
                source: package.source().to_owned(),
                sha256: location.sha256,
                size_bytes: location.size_bytes,
                archive: indexes.get(package.index).map_or(Archive::Main, |index| index.archive),
                filename: location.filename,
                why: reason.to_owned(),
                automatic,
                part: part.to_vec(),
                scripts: BTreeMap::new(),
            })
        };
        let mut pins = BTreeMap::new();
        for part in &self.recipe.packages.part {
            let number =
                resolve::newest(&universe, &part.name).map_err(|source| self.unresolved(source))?;
            pins.insert(
                part.name.clone(),
                pin(number, "some of its files are named by the recipe", false, &part.files)?,
            );
        }
        for choice in &choices {
            let automatic = matches!(choice.reason, Reason::NeededBy(_));
            let pin = pin(choice.number, &choice.reason.to_string(), automatic, &[])?;
            pins.insert(pin.name.clone(), pin);
        }
        Ok(pins.into_values().collect())
    }

    fn unresolved(&self, source: ResolveError) -> BaseError {
        BaseError::Resolve { recipe: self.recipe.name.clone(), source: Box::new(source) }
    }

    /// Makes the layer, or finds it, and returns everything that decided it.
    fn layer(&self, packages: Vec<lock::Package>) -> Result<Made, BaseError> {
        let locked = self.options.lock.as_ref().map(|lock| &lock.pins);
        let image_mirrors = match (locked, &self.options.image_mirrors) {
            (Some(pins), _) => pins.image_mirrors.clone(),
            (None, Some(mirrors)) => mirrors.without_credentials(),
            (None, None) => self.options.mirrors.without_credentials(),
        };
        // Only the first of each is written into the image.
        let image_mirrors = Mirrors {
            archive: image_mirrors.archive.into_iter().take(1).collect(),
            security: image_mirrors.security.into_iter().take(1).collect(),
        };
        let epoch = locked.map(|pins| pins.epoch).or(self.options.epoch);
        let key = Key {
            step: "corten-base",
            recipe: self.recipe.digest(),
            architecture: &self.options.architecture,
            assembly: ASSEMBLY,
            effects: effects::VERSION,
            epoch,
            image_mirrors: &image_mirrors,
            packages: packages
                .iter()
                .map(|p| {
                    let (name, version, architecture) =
                        (p.name.as_str(), p.version.as_str(), p.architecture.as_str());
                    (name, version, architecture, p.sha256, p.automatic, p.part.as_slice())
                })
                .collect(),
        };
        let key = CacheKey(Digest::of(&corten_oci::json::canonical(&key)));
        if let Some(record) = self.store.step(&key).map_err(stored("the layer"))?
            && let Ok(mut made) = serde_json::from_value::<Made>(record.payload)
            && self.store.layer_by_diff_id(&made.pins.layer).map_err(stored("the layer"))?.is_some()
        {
            // The table may have learnt since then.
            let coverage = Coverage::embedded();
            made.uncovered.retain(|script| !coverage.knows(script));
            return Ok(made);
        }
        let (made, layer) = self.assemble(packages, epoch, image_mirrors)?;
        let payload = serde_json::to_value(&made).expect("pins have only text as map keys");
        let record = StepRecord { layer: Some(layer.id), payload, blobs: Vec::new() };
        self.store.put_step(&key, &record).map_err(stored("the layer"))?;
        Ok(made)
    }

    fn assemble(
        &self,
        mut packages: Vec<lock::Package>,
        epoch: Option<i64>,
        image_mirrors: Mirrors,
    ) -> Result<(Made, Layer), BaseError> {
        self.fetch(&packages)?;
        let staging = self.store.stage().map_err(stored("the packages"))?;
        let spool = Spool::new(staging.work());
        let filter = Filter::new(&self.recipe.files.exclude, &self.recipe.files.include);
        let unpacked = self.unpack(&packages, &filter, &spool)?;
        let epoch = epoch.unwrap_or_else(|| newest(&unpacked));
        let coverage = Coverage::embedded();
        let mut uncovered = Vec::new();
        for (pin, package) in
            packages.iter_mut().zip(&unpacked).filter(|(pin, _)| pin.part.is_empty())
        {
            let script = Script {
                name: &package.name,
                version: &package.version,
                architecture: &self.options.architecture,
            };
            pin.scripts = scripts::digests(&package.control);
            uncovered.extend(coverage.uncovered(&script, &package.control));
        }
        let mut rootfs = Rootfs::new(&spool, epoch);
        rootfs.merge_usr(&self.options.architecture)?;
        rootfs.merge(&unpacked)?;
        let automatic: Vec<&str> = packages
            .iter()
            .filter(|package| package.automatic)
            .map(|package| package.name.as_str())
            .collect();
        effects::apply(&mut Context {
            rootfs: &mut rootfs,
            packages: &unpacked,
            recipe: self.recipe,
            filter: &filter,
            architecture: &self.options.architecture,
            mirrors: &image_mirrors,
            automatic: &automatic,
        })?;
        let layer = commit(self.store, &rootfs)?;
        let pins = Pins {
            recipe: self.recipe.name.clone(),
            recipe_digest: self.recipe.digest(),
            architecture: self.options.architecture.clone(),
            assembly: ASSEMBLY,
            effects: effects::VERSION,
            epoch,
            image_mirrors,
            layer: layer.diff_id,
            packages,
        };
        Ok((Made { pins, uncovered }, layer))
    }

    fn fetch(&self, packages: &[lock::Package]) -> Result<(), BaseError> {
        let wanted: Vec<Wanted> = packages
            .iter()
            .map(|package| {
                let mirrors = match package.archive {
                    Archive::Main => &self.options.mirrors.archive,
                    Archive::Security => &self.options.mirrors.security,
                };
                Wanted {
                    name: format!("the package `{} {}`", package.name, package.version),
                    urls: mirrors.iter().map(|uri| format!("{uri}/{}", package.filename)).collect(),
                    sha256: package.sha256,
                    size_bytes: package.size_bytes,
                }
            })
            .collect();
        Ok(self.fetcher.ensure("packages", &wanted)?)
    }

    fn unpack(
        &self,
        packages: &[lock::Package],
        filter: &Filter,
        spool: &Spool,
    ) -> Result<Vec<Unpacked>, BaseError> {
        let done = AtomicU64::new(0);
        // The largest first, so that no thread is left with one at the end.
        let mut order: Vec<usize> = (0..packages.len()).collect();
        order.sort_by_key(|at| std::cmp::Reverse(packages[*at].size_bytes));
        let unpack_one = |at: &usize| {
            let unpacked = self.unpack_one(&packages[*at], filter, spool)?;
            self.reporter.report(Event::Progress {
                task: "unpacking".to_owned(),
                done: done.fetch_add(1, Ordering::Relaxed) + 1,
                total: Some(packages.len() as u64),
                unit: Unit::Items,
            });
            Ok((*at, unpacked))
        };
        let unpacked = order
            .par_iter()
            .with_max_len(1)
            .map(unpack_one)
            .collect::<Result<BTreeMap<_, _>, BaseError>>()?;
        Ok(unpacked.into_values().collect())
    }

    fn unpack_one(
        &self,
        package: &lock::Package,
        filter: &Filter,
        spool: &Spool,
    ) -> Result<Unpacked, BaseError> {
        let title = || format!("{} {}", package.name, package.version);
        let file = self.store.open_blob(&package.sha256).map_err(stored("a package"))?;
        let missing =
            || crate::fetch::FetchError::Offline { name: format!("the package `{}`", title()) };
        let mut file = HashingReader::new(file.ok_or_else(missing)?);
        let identity = Identity {
            name: &package.name,
            version: &package.version,
            architecture: &package.architecture,
        };
        let part = Filter::only(&package.part);
        let filter = if package.part.is_empty() { filter } else { &part };
        let unpacked = unpack::unpack(&mut file, &identity, filter, spool);
        let rest = io::copy(&mut file, &mut io::sink());
        let (found, _) = file.finish();
        if rest.is_ok() && found != package.sha256 {
            return Err(BaseError::Damaged { package: title(), found });
        }
        let mut unpacked = unpacked.map_err(|source: UnpackError| BaseError::Unpack {
            package: title(),
            source: Box::new(source),
        })?;
        unpacked.is_installed = package.part.is_empty();
        Ok(unpacked)
    }

    /// Says which scripts were neither run nor replaced.
    fn report_uncovered(&self, uncovered: &[Uncovered]) -> Result<(), BaseError> {
        if self.options.strict && !uncovered.is_empty() {
            return Err(BaseError::Uncovered { scripts: uncovered.to_vec() });
        }
        for Uncovered { package, script, .. } in uncovered {
            let text = format!(
                "the {script} script of {package} was not run, and no effect is known to replace it"
            );
            self.reporter.report(Event::Warning(text));
        }
        Ok(())
    }

    fn image(&self, pins: &Pins) -> Result<Image, BaseError> {
        let layer = self.store.layer_by_diff_id(&pins.layer).map_err(stored("the layer"))?;
        let layer =
            layer.ok_or(StoreError::LayerMissing(pins.layer)).map_err(stored("the layer"))?;
        let lock = self.store.put_blob(&pins.to_bytes()).map_err(stored("the lock"))?;
        let annotations = annotations(self.recipe, pins, lock);
        let config = config(self.recipe, pins);
        self.store.put_image(&config, &[layer], &annotations).map_err(stored("the image"))
    }
}

/// The newest time of any file in the packages.
fn newest(packages: &[Unpacked]) -> i64 {
    let times =
        packages.iter().flat_map(|package| package.entries.iter().map(|entry| entry.meta.mtime));
    times.filter(|time| (0..MTIME_MAX).contains(time)).max().unwrap_or_default()
}

/// The version that people look for: that of Python, or that of Debian.
fn title_version(recipe: &Recipe, pins: &Pins) -> Option<String> {
    let of = |name: &str| {
        pins.packages
            .iter()
            .find(|package| package.name == name)
            .map(|package| package.version.as_str())
    };
    match &recipe.python {
        Some(python) => of(&format!("python{}", python.version))
            .map(|found| version::upstream(found).to_owned()),
        None => of("base-files").map(|found| found.split('+').next().unwrap_or(found).to_owned()),
    }
}

fn annotations(recipe: &Recipe, pins: &Pins, lock: Digest) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::from([
        ("org.opencontainers.image.title", recipe.title.clone()),
        ("org.opencontainers.image.description", recipe.description.clone()),
        ("org.opencontainers.image.created", rfc3339(pins.epoch)),
        ("org.opencontainers.image.ref.name", recipe.reference.clone()),
        ("io.corten.base.recipe", recipe.name.clone()),
        ("io.corten.base.recipe.digest", pins.recipe_digest.to_string()),
        ("io.corten.base.lock", lock.to_string()),
    ]);
    if let Some(version) = title_version(recipe, pins) {
        annotations.insert("org.opencontainers.image.version", version);
    }
    annotations.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn config(recipe: &Recipe, pins: &Pins) -> ImageConfig {
    let created = Some(rfc3339(pins.epoch));
    let mut env = recipe.config.env.clone();
    if let Some(version) = title_version(recipe, pins).filter(|_| recipe.python.is_some()) {
        env.push(format!("PYTHON_VERSION={version}"));
    }
    let platform = Platform::new("linux", &pins.architecture, None);
    ImageConfig {
        created: created.clone(),
        architecture: platform.architecture,
        os: platform.os,
        variant: platform.variant,
        config: ContainerConfig {
            user: recipe.config.user.clone(),
            env,
            entrypoint: recipe.config.entrypoint.clone(),
            cmd: recipe.config.cmd.clone(),
            working_dir: recipe.config.workdir.clone(),
            labels: recipe.config.labels.clone(),
            ..ContainerConfig::default()
        },
        rootfs: RootFs { diff_ids: vec![pins.layer], ..RootFs::default() },
        history: vec![History {
            created,
            created_by: Some(format!("corten base build {}", recipe.name)),
            comment: Some("from signed Debian packages, without running their scripts".to_owned()),
            ..History::default()
        }],
        ..ImageConfig::default()
    }
}

/// Gives the tar of the root file system to the store while it is being written.
fn commit(store: &Store, rootfs: &Rootfs<'_>) -> Result<Layer, BaseError> {
    let (sender, receiver) = sync_channel(PIECES);
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            let mut out = BufWriter::with_capacity(PIECE_BYTES, Sender(sender));
            let written = rootfs.write_tar(&mut out)?;
            out.flush().map_err(TarError::Write)?;
            Ok::<u64, TarError>(written)
        });
        let mut reader = Pieces { receiver: Some(receiver), piece: Vec::new(), at: 0, bytes: 0 };
        let imported = store.import_layer(&mut reader, None);
        let received = reader.bytes;
        // If the store gave up, the writer must not wait for somebody to take more.
        drop(reader.receiver.take());
        let written = writer.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        match (written, imported) {
            (Ok(written), Ok(layer)) if written == received => Ok(layer),
            (Ok(_), Ok(_)) => Err(BaseError::Layer(TarError::Truncated { offset: received })),
            // That nobody takes the tar any more is what the writer sees of the store's failure.
            (Err(TarError::Write(_)) | Ok(_), Err(source)) => Err(stored("the layer")(source)),
            (Err(source), _) => Err(BaseError::Layer(source)),
        }
    })
}

struct Sender(SyncSender<Vec<u8>>);

impl Write for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Pieces {
    receiver: Option<Receiver<Vec<u8>>>,
    piece: Vec<u8>,
    at: usize,
    bytes: u64,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.piece.len() {
            let next = self.receiver.as_ref().and_then(|receiver| receiver.recv().ok());
            let Some(piece) = next else { return Ok(0) };
            self.piece = piece;
            self.at = 0;
        }
        let waiting = self.piece.get(self.at..).unwrap_or_default();
        let count = waiting.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), waiting.get(..count)) {
            to.copy_from_slice(from);
        }
        self.at += count;
        self.bytes += count as u64;
        Ok(count)
    }
}
