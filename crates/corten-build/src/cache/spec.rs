//! What `--cache-from` and `--cache-to` say, as BuildKit spells it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use corten_diag::suggest;
use corten_oci::reference::{Reference, ReferenceError};
use corten_store::archive::Compression;

use crate::output::{SpecError, split_fields};

/// The level of zstd when none is given: zstd's own.
const ZSTD_LEVEL: i32 = 3;

/// The level of gzip when none is given: zlib's own.
const GZIP_LEVEL: u32 = 6;

/// The tag of a cache in a directory that names none.
const DEFAULT_TAG: &str = "latest";

/// Where a cache is taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheFrom {
    pub place: ImportPlace,
}

/// The places that are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportPlace {
    /// An OCI layout, and which of its entries.
    Local { path: PathBuf, tag: String },
    /// A cache or an image in a registry.
    Registry { reference: Reference, insecure: bool },
}

/// Where the cache goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheTo {
    pub place: ExportPlace,
    pub mode: Mode,
    pub mounts: MountChoice,
    pub compression: Compression,
    /// A failure is a warning.
    pub ignore_error: bool,
}

/// The places that are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExportPlace {
    /// An OCI layout, and the name of the entry.
    Local { path: PathBuf, tag: String },
    /// A repository with a tag.
    Registry { reference: Reference, insecure: bool },
    /// The image itself.
    Inline,
}

/// Which steps are exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Those of the target and of the stages that it is made from.
    Min,
    /// All that the build knows.
    Max,
}

/// Which cache mounts are exported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountChoice {
    All,
    None,
    /// Those with these ids.
    Some(Vec<String>),
}

impl MountChoice {
    /// Whether a mount is wanted.
    pub(crate) fn wants(&self, id: &str) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Some(ids) => ids.iter().any(|own| own == id),
        }
    }
}

/// A flag that cannot be followed.
#[derive(Debug, thiserror::Error)]
pub enum CacheSpecError {
    #[error(transparent)]
    Fields(SpecError),
    #[error("`{field}` is not `KEY=VALUE`")]
    Pair { field: String },
    #[error("the key `{key}` is given twice")]
    Twice { key: String },
    #[error("`{spec}` has no type")]
    NoType { spec: String },
    #[error("the cache type `{name}` is not known")]
    Type { name: String, types: &'static [&'static str] },
    #[error("the cache type `{name}` is not supported")]
    Unsupported { name: String },
    #[error("a cache cannot be imported as `type=inline`")]
    InlineImport,
    #[error("the cache type `{kind}` does not know the key `{key}`")]
    Key { kind: &'static str, key: String, known: Vec<&'static str> },
    #[error("the cache type `{kind}` needs `{key}`")]
    Missing { kind: &'static str, key: &'static str, example: &'static str },
    #[error("`{key}={value}` is not understood")]
    Value { key: String, value: String, expected: &'static str },
    #[error("`{value}` cannot be the name of a cache")]
    Name {
        value: String,
        #[source]
        source: ReferenceError,
    },
}

impl CacheSpecError {
    /// What to write instead.
    pub fn hint(&self) -> Option<String> {
        let known = |names: &[&str]| {
            names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
        };
        let near = |word: &str, names: &[&str], what: &str| match suggest::nearest(word, names) {
            Some(near) => format!("did you mean `{near}`? {what} {}", known(names)),
            None => format!("{} {}", what.to_lowercase(), known(names)),
        };
        Some(match self {
            Self::Fields(error) => return error.hint(),
            Self::Pair { .. } | Self::NoType { .. } => {
                "write `type=TYPE,KEY=VALUE`, such as `type=local,dest=DIRECTORY`".to_owned()
            }
            Self::Type { name, types } => near(name, types, "There are"),
            Self::Unsupported { .. } => {
                "`type=local` makes a directory, which the cache step of a \
                                         CI service or a synchronising tool can carry; \
                                         `type=registry` needs a registry"
                    .to_owned()
            }
            Self::InlineImport => "name the image: `type=registry,ref=IMAGE`".to_owned(),
            Self::Key { key, known, .. } => near(key, known, "It knows"),
            Self::Missing { example, .. } => format!("write `{example}`"),
            Self::Value { expected, .. } => format!("write {expected}"),
            Self::Twice { .. } | Self::Name { .. } => return None,
        })
    }
}

/// The types with what they know, in groups.
type Types = [(&'static str, &'static [&'static [&'static str]])];

const FROM_TYPES: &Types =
    &[("local", &[&["src", "tag"]]), ("registry", &[&["ref", "registry.insecure"]])];

/// What says how a cache is made that has a manifest of its own.
const MANIFEST_KEYS: &[&str] = &[
    "mode",
    "mounts",
    "compression",
    "compression-level",
    "force-compression",
    "oci-mediatypes",
    "image-manifest",
    "ignore-error",
];

const TO_TYPES: &Types = &[
    ("local", &[&["dest", "tag"], MANIFEST_KEYS]),
    ("registry", &[&["ref", "registry.insecure"], MANIFEST_KEYS]),
    ("inline", &[&["mode", "ignore-error"]]),
];

/// The types of BuildKit that belong to one service each.
const SERVICES: [&str; 3] = ["gha", "s3", "azblob"];

impl CacheFrom {
    /// Parses one `--cache-from`; a name alone is one in a registry.
    pub fn parse(spec: &str) -> Result<Self, CacheSpecError> {
        let fields = split_fields(spec).map_err(CacheSpecError::Fields)?;
        if let [name] = fields.as_slice()
            && !name.contains('=')
        {
            let place = ImportPlace::Registry { reference: reference(name)?, insecure: false };
            return Ok(Self { place });
        }
        let mut fields = Fields::new(spec, &fields, FROM_TYPES, &["local", "registry"])?;
        let place = if fields.kind == "local" {
            let example = "type=local,src=DIRECTORY";
            let path = PathBuf::from(fields.required("src", example)?);
            ImportPlace::Local { path, tag: fields.tag() }
        } else {
            let reference = reference(&fields.required("ref", "type=registry,ref=NAME")?)?;
            let insecure = fields.flag("registry.insecure")?.unwrap_or(false);
            ImportPlace::Registry { reference, insecure }
        };
        Ok(Self { place })
    }
}

impl CacheTo {
    /// The records of the image's layers in the image itself.
    pub fn inline() -> Self {
        Self {
            place: ExportPlace::Inline,
            mode: Mode::Min,
            mounts: MountChoice::None,
            compression: Compression::Zstd { level: ZSTD_LEVEL },
            ignore_error: false,
        }
    }

    /// Parses one `--cache-to`; a name alone is one in a registry.
    pub fn parse(spec: &str) -> Result<Self, CacheSpecError> {
        let fields = split_fields(spec).map_err(CacheSpecError::Fields)?;
        if let [name] = fields.as_slice()
            && !name.contains('=')
        {
            let place = ExportPlace::Registry { reference: reference(name)?, insecure: false };
            return Ok(Self { place, mounts: MountChoice::All, ..Self::inline() });
        }
        if fields.as_slice() == ["type=inline"] {
            return Ok(Self::inline());
        }
        let mut fields = Fields::new(spec, &fields, TO_TYPES, &["local", "registry", "inline"])?;
        let place = match fields.kind {
            "local" => {
                let example = "type=local,dest=DIRECTORY";
                let path = PathBuf::from(fields.required("dest", example)?);
                ExportPlace::Local { path, tag: fields.tag() }
            }
            "registry" => {
                let reference = reference(&fields.required("ref", "type=registry,ref=NAME")?)?;
                let insecure = fields.flag("registry.insecure")?.unwrap_or(false);
                ExportPlace::Registry { reference, insecure }
            }
            _ => ExportPlace::Inline,
        };
        let mode = match fields.take("mode").as_deref() {
            None | Some("min") => Mode::Min,
            Some("max") => Mode::Max,
            Some(other) => return Err(wrong("mode", other, "`min` or `max`")),
        };
        // Layers are always made anew or taken from a cache, in OCI's types and as an image manifest:
        // only what would ask for something else is refused.
        fields.flag("force-compression")?;
        for key in ["oci-mediatypes", "image-manifest"] {
            if fields.flag(key)? == Some(false) {
                return Err(wrong(key, "false", "`true`, or leave it out"));
            }
        }
        let ignore_error = fields.flag("ignore-error")?.unwrap_or(false);
        let mounts = fields.mounts();
        Ok(Self { place, mode, mounts, compression: fields.compression()?, ignore_error })
    }
}

fn reference(text: &str) -> Result<Reference, CacheSpecError> {
    text.parse().map_err(|source| CacheSpecError::Name { value: text.to_owned(), source })
}

fn wrong(key: &str, value: &str, expected: &'static str) -> CacheSpecError {
    CacheSpecError::Value { key: key.to_owned(), value: value.to_owned(), expected }
}

struct Fields {
    kind: &'static str,
    values: BTreeMap<String, String>,
}

impl Fields {
    fn new(
        spec: &str,
        fields: &[String],
        types: &Types,
        names: &'static [&'static str],
    ) -> Result<Self, CacheSpecError> {
        let mut values = BTreeMap::new();
        for field in fields {
            let (key, value) = field
                .split_once('=')
                .ok_or_else(|| CacheSpecError::Pair { field: field.clone() })?;
            let key = key.trim().to_lowercase();
            if values.insert(key.clone(), value.to_owned()).is_some() {
                return Err(CacheSpecError::Twice { key });
            }
        }
        let no_type = || CacheSpecError::NoType { spec: spec.to_owned() };
        let name = values.remove("type").ok_or_else(no_type)?;
        let Some((kind, known)) = types.iter().find(|(kind, _)| *kind == name) else {
            return Err(match name.as_str() {
                "inline" => CacheSpecError::InlineImport,
                name if SERVICES.contains(&name) => {
                    CacheSpecError::Unsupported { name: name.to_owned() }
                }
                _ => CacheSpecError::Type { name, types: names },
            });
        };
        let known = known.concat();
        if let Some(key) = values.keys().find(|key| !known.contains(&key.as_str())) {
            return Err(CacheSpecError::Key { kind, key: key.clone(), known });
        }
        Ok(Self { kind, values })
    }

    fn take(&mut self, key: &str) -> Option<String> {
        self.values.remove(key)
    }

    fn required(
        &mut self,
        key: &'static str,
        example: &'static str,
    ) -> Result<String, CacheSpecError> {
        let kind = self.kind;
        let value = self.take(key).filter(|value| !value.is_empty());
        value.ok_or(CacheSpecError::Missing { kind, key, example })
    }

    fn tag(&mut self) -> String {
        self.take("tag").filter(|tag| !tag.is_empty()).unwrap_or_else(|| DEFAULT_TAG.to_owned())
    }

    fn flag(&mut self, key: &str) -> Result<Option<bool>, CacheSpecError> {
        let Some(value) = self.take(key) else { return Ok(None) };
        parse_bool(&value).map(Some).ok_or_else(|| wrong(key, &value, "`true` or `false`"))
    }

    fn mounts(&mut self) -> MountChoice {
        let Some(value) = self.take("mounts") else { return MountChoice::All };
        match parse_bool(&value) {
            Some(true) => MountChoice::All,
            Some(false) => MountChoice::None,
            None => MountChoice::Some(
                value.split(';').filter(|id| !id.is_empty()).map(ToOwned::to_owned).collect(),
            ),
        }
    }

    fn compression(&mut self) -> Result<Compression, CacheSpecError> {
        let level = self.take("compression-level");
        let number = |largest: i32, expected: &'static str| {
            let Some(value) = level.as_deref() else { return Ok(None) };
            let number = value.parse::<i32>().ok().filter(|level| (0..=largest).contains(level));
            number.map(Some).ok_or_else(|| wrong("compression-level", value, expected))
        };
        match self.take("compression").as_deref() {
            None | Some("zstd") => {
                let level = number(22, "a number from 0 to 22")?.filter(|level| *level > 0);
                Ok(Compression::Zstd { level: level.unwrap_or(ZSTD_LEVEL) })
            }
            Some("gzip") => {
                let level = number(9, "a number from 0 to 9")?;
                Ok(Compression::Gzip { level: level.map_or(GZIP_LEVEL, i32::unsigned_abs) })
            }
            Some("uncompressed") => Ok(Compression::Uncompressed),
            Some(other) => Err(wrong("compression", other, "`zstd`, `gzip` or `uncompressed`")),
        }
    }
}

/// What Go's `strconv.ParseBool` takes.
fn parse_bool(value: &str) -> Option<bool> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}
