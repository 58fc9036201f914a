//! What `--output` says: `type=oci,dest=image.tar` and the like, as BuildKit spells it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use corten_diag::suggest;
use corten_oci::platform::Platform;
use corten_oci::reference::Reference;
use corten_store::archive::{Compression, Form};

use super::annotation::{Annotation, Subject};

/// The level of gzip when none is given: zlib's own.
const GZIP_LEVEL: u32 = 6;

/// The level of zstd when none is given: zstd's own.
const ZSTD_LEVEL: i32 = 3;

/// One place where the result goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Into the store.
    Image(ImageOutput),
    /// An archive of the image.
    Archive(ArchiveOutput),
    /// The files of the image, in a directory.
    Local(LocalOutput),
    /// The files of the image, as a tar.
    Tar(TarOutput),
    /// Nowhere: the steps are done and remembered.
    CacheOnly,
}

/// The files of an image in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalOutput {
    pub path: PathBuf,
    /// Whether each platform has a directory of its own in it; with several platforms when absent.
    pub split: Option<bool>,
}

/// The files of an image as a tar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TarOutput {
    pub destination: Destination,
    /// Whether each platform has a directory of its own in it; with several platforms when absent.
    pub split: Option<bool>,
}

/// An image in the store, in a registry or in both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageOutput {
    /// Whether it goes into the store.
    pub store: bool,
    /// How it goes to the registries of its names, if it does.
    pub push: Option<Push>,
    /// Names besides those of the build.
    pub names: Vec<Reference>,
    pub annotations: Vec<Annotation>,
}

impl Default for ImageOutput {
    fn default() -> Self {
        Self { store: true, push: None, names: Vec::new(), annotations: Vec::new() }
    }
}

/// How an image is pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Push {
    /// How layers are compressed.
    pub compression: Compression,
    /// Whether the identity of the registry need not be proven.
    pub insecure: bool,
}

impl Default for Push {
    fn default() -> Self {
        Self { compression: Compression::Gzip { level: GZIP_LEVEL }, insecure: false }
    }
}

/// An image in a file or a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveOutput {
    pub form: Form,
    /// False for an OCI layout in a directory.
    pub tar: bool,
    pub destination: Destination,
    /// Names besides those of the build.
    pub names: Vec<Reference>,
    pub annotations: Vec<Annotation>,
    pub compression: Compression,
}

/// Where bytes go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    Stdout,
    Path(PathBuf),
}

/// A specification that cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    #[error("`{spec}` has a quotation mark without its pair")]
    Quote { spec: String },
    #[error("`{field}` is not `KEY=VALUE`")]
    Pair { field: String },
    #[error("the key `{key}` is given twice")]
    Twice { key: String },
    #[error("the output `{spec}` has no type")]
    NoType { spec: String },
    #[error("the output type `{name}` is not known")]
    Type { name: String },
    #[error("the output type `{kind}` does not know the key `{key}`")]
    Key { kind: &'static str, key: String },
    #[error("`{key}={value}` is not understood")]
    Value { key: String, value: String, expected: &'static str },
    #[error("the output type `{kind}` needs a destination")]
    NoDestination { kind: &'static str },
    #[error("`{what}` cannot be done for an output of type `{kind}`")]
    Unsupported { kind: &'static str, what: String, instead: &'static str },
    #[error("an image without a name cannot be pushed")]
    PushWithoutName,
    #[error("`{value}` cannot be the name of an image")]
    Name {
        value: String,
        #[source]
        source: corten_oci::reference::ReferenceError,
    },
    #[error("`{text}` is no annotation")]
    Annotation { text: String },
    #[error("`{subject}` is nothing that an annotation can be put on")]
    AnnotationSubject { subject: String },
    #[error("the annotation `{key}` is for an index, and a build for one platform has none")]
    AnnotationIndex { key: String },
    #[error("the annotation `{key}` is for the index of all platforms, and names one of them")]
    AnnotationIndexPlatform { key: String },
    #[error("an output of type `docker` has one platform, and the build has {count}")]
    DockerPlatforms { count: usize },
    #[error("`{text}` is no platform")]
    AnnotationPlatform {
        text: String,
        #[source]
        source: corten_oci::platform::PlatformError,
    },
    #[error("two outputs go to standard output")]
    StdoutTwice,
}

/// What everything that has a manifest knows.
const MANIFEST_KEYS: &[&str] = &[
    "name",
    "annotation.*",
    "compression",
    "compression-level",
    "force-compression",
    "oci-mediatypes",
    "rewrite-timestamp",
];

/// What images know besides, which may be pushed.
const PUSH_KEYS: &[&str] = &["push", "registry.insecure"];

/// The types with what they know, in groups.
const TYPES: [(&str, &[&[&str]]); 7] = [
    ("image", &[MANIFEST_KEYS, PUSH_KEYS]),
    ("registry", &[MANIFEST_KEYS, PUSH_KEYS]),
    ("oci", &[&["dest", "tar"], MANIFEST_KEYS]),
    ("docker", &[&["dest", "name", "annotation.*", "compression", "rewrite-timestamp"]]),
    ("local", &[&["dest", "mode", "platform-split", "rewrite-timestamp"]]),
    ("tar", &[&["dest", "platform-split", "rewrite-timestamp"]]),
    ("cacheonly", &[]),
];

impl SpecError {
    /// What to write instead.
    pub fn hint(&self) -> Option<String> {
        let known = |names: &[&str]| {
            names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        };
        let near = |word: &str, names: &[&str]| match suggest::nearest(word, names) {
            Some(near) => format!("did you mean `{near}`? It knows {}", known(names)),
            None => format!("it knows {}", known(names)),
        };
        let types = TYPES.map(|(name, _)| name);
        Some(match self {
            Self::Quote { .. } => {
                "quote a whole field, with double quotes: `type=image,\"name=a,b\"`".to_owned()
            }
            Self::Pair { .. } | Self::NoType { .. } => {
                "write `type=TYPE,KEY=VALUE`, or a directory alone".to_owned()
            }
            Self::Type { name } => match suggest::nearest(name, &types) {
                Some(near) => format!("did you mean `{near}`? There are {}", known(&types)),
                None => format!("there are {}", known(&types)),
            },
            Self::Key { kind, key } => match keys(kind).as_slice() {
                [] => "it knows no keys".to_owned(),
                names => near(key, names),
            },
            Self::Value { expected, .. } => format!("write {expected}"),
            Self::NoDestination { kind: "local" } => "write `type=local,dest=DIRECTORY`".to_owned(),
            Self::NoDestination { kind } => {
                format!("write `type={kind},dest=FILE`; `-` is standard output")
            }
            Self::Unsupported { instead, .. } => (*instead).to_owned(),
            Self::PushWithoutName => {
                "name it with `--tag REGISTRY/NAME[:TAG]`, or `name=…` in the output".to_owned()
            }
            Self::Annotation { .. } => {
                "write `NAME=VALUE` or `manifest-descriptor:NAME=VALUE`".to_owned()
            }
            Self::AnnotationSubject { subject } => {
                let known = known(&Subject::NAMES);
                match suggest::nearest(subject, &Subject::NAMES) {
                    Some(near) => format!("did you mean `{near}`? There are {known}"),
                    None => format!("there are {known}"),
                }
            }
            Self::AnnotationIndex { .. } => {
                "put it on the `manifest` or the `manifest-descriptor`".to_owned()
            }
            Self::AnnotationIndexPlatform { .. } => {
                "leave the platform out, or put it on the `manifest[PLATFORM]`".to_owned()
            }
            Self::DockerPlatforms { .. } => {
                "`type=oci,dest=FILE` has all of them, and `docker load` reads it".to_owned()
            }
            Self::StdoutTwice => "give one of them a file: `dest=FILE`".to_owned(),
            Self::Twice { .. } | Self::Name { .. } | Self::AnnotationPlatform { .. } => {
                return None;
            }
        })
    }
}

fn keys(kind: &str) -> Vec<&'static str> {
    let found = TYPES.iter().find(|(name, _)| *name == kind);
    found.map(|(_, groups)| groups.concat()).unwrap_or_default()
}

impl Output {
    /// Parses one `--output`.
    pub fn parse(spec: &str) -> Result<Self, SpecError> {
        let fields = fields(spec)?;
        if let [field] = fields.as_slice()
            && !field.starts_with("type=")
        {
            // BuildKit takes `dest=x` for a directory, which nobody means; `./dest=x` is one.
            let is_forgotten = field.is_empty()
                || field.split_once('=').is_some_and(|(key, _)| !key.contains('/'));
            return match field.as_str() {
                "-" => Ok(Self::Tar(TarOutput { destination: Destination::Stdout, split: None })),
                _ if is_forgotten => Err(SpecError::NoType { spec: spec.to_owned() }),
                directory => {
                    Ok(Self::Local(LocalOutput { path: PathBuf::from(directory), split: None }))
                }
            };
        }
        Fields::new(spec, &fields)?.output()
    }

    /// Returns true if it writes to standard output.
    pub fn is_stdout(&self) -> bool {
        match self {
            Self::Tar(tar) => tar.destination == Destination::Stdout,
            Self::Archive(archive) => archive.destination == Destination::Stdout,
            _ => false,
        }
    }
}

/// Parses all `--output`s together.
pub fn parse_all(specs: &[String]) -> Result<Vec<Output>, SpecError> {
    let outputs: Vec<Output> =
        specs.iter().map(|spec| Output::parse(spec)).collect::<Result<_, _>>()?;
    if outputs.iter().filter(|output| output.is_stdout()).count() > 1 {
        return Err(SpecError::StdoutTwice);
    }
    Ok(outputs)
}

/// Refuses what does not go together with the number of platforms.
pub fn check_platforms(
    outputs: &[Output],
    annotations: &[Annotation],
    platforms: usize,
) -> Result<(), SpecError> {
    let own = outputs.iter().flat_map(|output| match output {
        Output::Image(image) => image.annotations.as_slice(),
        Output::Archive(archive) => archive.annotations.as_slice(),
        _ => &[],
    });
    if platforms == 1 {
        let mut all = own.chain(annotations);
        return match all.find(|annotation| annotation.subject.is_of_index()) {
            Some(found) => Err(SpecError::AnnotationIndex { key: found.key.clone() }),
            None => Ok(()),
        };
    }
    let is_docker = |output: &Output| {
        matches!(output, Output::Archive(ArchiveOutput { form: Form::Docker, .. }))
    };
    if outputs.iter().any(is_docker) {
        return Err(SpecError::DockerPlatforms { count: platforms });
    }
    Ok(())
}

/// Splits at commas outside of fields in double quotes, in which `""` is a quotation mark.
pub(crate) fn fields(spec: &str) -> Result<Vec<String>, SpecError> {
    let unpaired = || SpecError::Quote { spec: spec.to_owned() };
    let mut fields = Vec::new();
    let mut rest = spec;
    loop {
        let (field, after) = if let Some(quoted) = rest.strip_prefix('"') {
            let mut field = String::new();
            let mut rest = quoted;
            loop {
                let (start, end) = rest.split_once('"').ok_or_else(unpaired)?;
                field.push_str(start);
                match end.strip_prefix('"') {
                    Some(more) => {
                        field.push('"');
                        rest = more;
                    }
                    None => break (field, end),
                }
            }
        } else {
            let end = rest.find(',').unwrap_or(rest.len());
            let (field, after) = rest.split_at(end);
            if field.contains('"') {
                return Err(unpaired());
            }
            (field.to_owned(), after)
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(more) => rest = more,
            None if after.is_empty() => return Ok(fields),
            None => return Err(unpaired()),
        }
    }
}

/// The keys of a specification, taken one by one.
struct Fields {
    kind: &'static str,
    values: BTreeMap<String, String>,
    annotations: Vec<Annotation>,
}

impl Fields {
    fn new(spec: &str, fields: &[String]) -> Result<Self, SpecError> {
        let mut values = BTreeMap::new();
        let mut annotations = Vec::new();
        for field in fields {
            let (key, value) =
                field.split_once('=').ok_or_else(|| SpecError::Pair { field: field.clone() })?;
            if let Some(annotation) = Annotation::of_key(key.trim(), value)? {
                annotations.push(annotation);
                continue;
            }
            let key = key.trim().to_lowercase();
            if values.insert(key.clone(), value.to_owned()).is_some() {
                return Err(SpecError::Twice { key });
            }
        }
        let name =
            values.remove("type").ok_or_else(|| SpecError::NoType { spec: spec.to_owned() })?;
        let Some((kind, known)) = TYPES.iter().find(|(kind, _)| *kind == name) else {
            return Err(SpecError::Type { name });
        };
        let known = known.concat();
        if let Some(key) = values.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(SpecError::Key { kind, key: key.clone() });
        }
        if !annotations.is_empty() && !known.contains(&"annotation.*") {
            return Err(SpecError::Key { kind, key: "annotation".to_owned() });
        }
        Ok(Self { kind, values, annotations })
    }

    fn output(mut self) -> Result<Output, SpecError> {
        // Times are clamped already when a layer is made, so either answer is followed.
        self.flag("rewrite-timestamp")?;
        match self.kind {
            "image" => self.image(),
            "registry" => self.registry(),
            "oci" => self.oci(),
            "docker" => self.docker(),
            "local" => self.local(),
            "tar" => {
                let split = self.flag("platform-split")?;
                let destination = self.destination().unwrap_or(Destination::Stdout);
                Ok(Output::Tar(TarOutput { destination, split }))
            }
            _ => Ok(Output::CacheOnly),
        }
    }

    fn image(mut self) -> Result<Output, SpecError> {
        if self.flag("push")? == Some(true) {
            return self.pushed(true);
        }
        self.flag("registry.insecure")?;
        self.flag("force-compression")?;
        if self.flag("oci-mediatypes")? == Some(false) {
            return Err(self.unsupported(
                "oci-mediatypes=false",
                "the store has OCI manifests; `type=oci,oci-mediatypes=false,dest=FILE` writes \
                 Docker's",
            ));
        }
        self.uncompressed("the store keeps files, not archives; `type=oci,dest=FILE` compresses")?;
        let names = self.names()?;
        let annotations = self.annotations;
        Ok(Output::Image(ImageOutput { names, annotations, ..ImageOutput::default() }))
    }

    fn registry(mut self) -> Result<Output, SpecError> {
        if self.flag("push")? == Some(false) {
            return Err(self.unsupported("push=false", "`type=image` goes into the store"));
        }
        self.pushed(false)
    }

    fn pushed(mut self, store: bool) -> Result<Output, SpecError> {
        if self.flag("oci-mediatypes")? == Some(false) {
            return Err(self.unsupported(
                "oci-mediatypes=false",
                "registries take OCI manifests: leave it out",
            ));
        }
        // What was compressed before has the same bytes as what would be compressed now.
        self.flag("force-compression")?;
        let insecure = self.flag("registry.insecure")?.unwrap_or(false);
        let compression = if self.values.contains_key("compression") {
            self.compression()?
        } else {
            self.values.insert("compression".to_owned(), "gzip".to_owned());
            self.compression()?
        };
        let names = self.names()?;
        let push = Some(Push { compression, insecure });
        Ok(Output::Image(ImageOutput { store, push, names, annotations: self.annotations }))
    }

    fn oci(mut self) -> Result<Output, SpecError> {
        let tar = self.flag("tar")?.unwrap_or(true);
        // There is nothing compressed yet that could be taken as it is.
        self.flag("force-compression")?;
        let compression = self.compression()?;
        let form = match self.flag("oci-mediatypes")? {
            Some(false) if matches!(compression, Compression::Zstd { .. }) => {
                return Err(self.unsupported(
                    "compression=zstd,oci-mediatypes=false",
                    "Docker's media types have no zstd: leave `oci-mediatypes` out",
                ));
            }
            Some(false) => Form::OciWithDockerTypes,
            _ => Form::Oci,
        };
        let destination = self.destination().unwrap_or(Destination::Stdout);
        if !tar && destination == Destination::Stdout {
            return Err(SpecError::NoDestination { kind: self.kind });
        }
        let names = self.names()?;
        let annotations = self.annotations;
        Ok(Output::Archive(ArchiveOutput {
            form,
            tar,
            destination,
            names,
            annotations,
            compression,
        }))
    }

    /// Without a destination, Docker loads the image, which is to have it in the store.
    fn docker(mut self) -> Result<Output, SpecError> {
        self.uncompressed("old readers know no others: `type=oci,dest=FILE` compresses")?;
        let names = self.names()?;
        let destination = self.destination();
        let annotations = self.annotations;
        Ok(match destination {
            None => Output::Image(ImageOutput { names, annotations, ..ImageOutput::default() }),
            Some(destination) => Output::Archive(ArchiveOutput {
                form: Form::Docker,
                tar: true,
                destination,
                names,
                annotations,
                compression: Compression::Uncompressed,
            }),
        })
    }

    fn local(mut self) -> Result<Output, SpecError> {
        let split = self.flag("platform-split")?;
        if let Some(mode) = self.values.remove("mode")
            && mode != "copy"
        {
            return Err(self.unsupported(
                &format!("mode={mode}"),
                "files are copied over what is there and nothing is deleted: remove the directory \
                 first",
            ));
        }
        match self.destination() {
            Some(Destination::Path(path)) => Ok(Output::Local(LocalOutput { path, split })),
            _ => Err(SpecError::NoDestination { kind: self.kind }),
        }
    }

    fn destination(&mut self) -> Option<Destination> {
        let value = self.values.remove("dest").filter(|value| !value.is_empty())?;
        Some(match value.as_str() {
            "-" => Destination::Stdout,
            _ => Destination::Path(PathBuf::from(value)),
        })
    }

    fn names(&mut self) -> Result<Vec<Reference>, SpecError> {
        let value = self.values.remove("name").unwrap_or_default();
        let names = value.split(',').map(str::trim).filter(|name| !name.is_empty());
        names
            .map(|name| {
                name.parse().map_err(|source| SpecError::Name { value: name.to_owned(), source })
            })
            .collect()
    }

    fn flag(&mut self, key: &str) -> Result<Option<bool>, SpecError> {
        let Some(value) = self.values.remove(key) else { return Ok(None) };
        // What Go's `strconv.ParseBool` takes.
        match value.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Some(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Some(false)),
            _ => {
                Err(SpecError::Value { key: key.to_owned(), value, expected: "`true` or `false`" })
            }
        }
    }

    fn compression(&mut self) -> Result<Compression, SpecError> {
        let name = self.values.remove("compression");
        let level = self.values.remove("compression-level");
        let number = |largest: i32, expected: &'static str| {
            let Some(value) = level.clone() else { return Ok(None) };
            let number = value.parse::<i32>().ok().filter(|level| (0..=largest).contains(level));
            let key = "compression-level".to_owned();
            number.map(Some).ok_or(SpecError::Value { key, value, expected })
        };
        match name.as_deref() {
            Some("gzip") => {
                let level = number(9, "a number from 0 to 9")?;
                let level = level.map_or(GZIP_LEVEL, i32::unsigned_abs);
                Ok(Compression::Gzip { level })
            }
            Some("zstd") => {
                let level = number(22, "a number from 0 to 22")?.filter(|level| *level > 0);
                Ok(Compression::Zstd { level: level.unwrap_or(ZSTD_LEVEL) })
            }
            None | Some("uncompressed") if level.is_some() => Err(self.unsupported(
                "compression-level without compression",
                "add `compression=gzip` or `compression=zstd`",
            )),
            None | Some("uncompressed") => Ok(Compression::Uncompressed),
            Some(other) => Err(SpecError::Value {
                key: "compression".to_owned(),
                value: other.to_owned(),
                expected: "`uncompressed`, `gzip` or `zstd`",
            }),
        }
    }

    fn uncompressed(&mut self, instead: &'static str) -> Result<(), SpecError> {
        let what = format!("compression={}", self.values.get("compression").map_or("", |v| v));
        match self.compression()? {
            Compression::Uncompressed => Ok(()),
            _ => Err(self.unsupported(&what, instead)),
        }
    }

    fn unsupported(&self, what: &str, instead: &'static str) -> SpecError {
        SpecError::Unsupported { kind: self.kind, what: what.to_owned(), instead }
    }
}

/// The annotations for a platform, those of the output over those of the build.
pub(super) fn annotations(
    subject: Subject,
    platform: &Platform,
    lists: [&[Annotation]; 2],
) -> BTreeMap<String, String> {
    let all = lists.into_iter().flatten().filter(|annotation| {
        annotation.subject == subject
            && annotation
                .platform
                .as_ref()
                .is_none_or(|of| of.normalised() == platform.normalised())
    });
    all.map(|annotation| (annotation.key.clone(), annotation.value.clone())).collect()
}

/// The annotations of an index or of its descriptor, those of the output over those of the build.
pub(super) fn index_annotations(
    subject: Subject,
    lists: [&[Annotation]; 2],
) -> BTreeMap<String, String> {
    let all = lists.into_iter().flatten().filter(|annotation| annotation.subject == subject);
    all.map(|annotation| (annotation.key.clone(), annotation.value.clone())).collect()
}
