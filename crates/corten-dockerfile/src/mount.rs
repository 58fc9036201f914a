//! The values of `RUN --mount`, `--network`, `--security` and `--device`.

use corten_diag::{Diagnostic, Span, suggest};

use crate::ast::Word;
use crate::csv;
use crate::word::WordError;

/// The value of one `--mount`, not yet expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountSpec {
    /// The whole value.
    pub word: Word,
    pub fields: Vec<MountField>,
}

/// One field of a mount: `key=value` or a bare `key`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountField {
    /// In lower case.
    pub key: String,
    /// None when there was no `=`.
    pub value: Option<String>,
    /// As written, for messages.
    pub text: String,
}

/// What is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MountType {
    Bind,
    Cache,
    Tmpfs,
    Secret,
    Ssh,
}

/// Who may use a cache at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Sharing {
    Shared,
    Private,
    Locked,
}

/// A mount with all variables expanded and all rules of its type checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub kind: MountType,
    /// A stage, a context or an image.
    pub from: Option<String>,
    pub source: Option<String>,
    pub target: Option<String>,
    /// As said, else by type: caches and tmpfs are writable, all others are not.
    pub read_only: bool,
    /// For `tmpfs`, in bytes.
    pub size_bytes: Option<u64>,
    /// `id=`: of a cache, a secret or an agent.
    pub id: Option<String>,
    pub sharing: Option<Sharing>,
    pub required: bool,
    /// `env=`: the variable that a secret is put in; the empty name stands for the secret's own.
    pub env: Option<String>,
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

/// The network of a `RUN`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Network {
    #[default]
    Default,
    None,
    Host,
}

/// The security of a `RUN`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Security {
    #[default]
    Sandbox,
    Insecure,
}

/// A device wished for by a `RUN`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Device {
    /// `vendor/class` or `vendor/class=name`; may be empty.
    pub name: String,
    pub required: bool,
}

/// Why a mount or a device was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountError {
    pub message: String,
    pub hint: Option<String>,
}

impl Network {
    pub(crate) const NAMES: [(&'static str, Self); 3] =
        [("default", Self::Default), ("none", Self::None), ("host", Self::Host)];
}

impl Security {
    pub(crate) const NAMES: [(&'static str, Self); 2] =
        [("sandbox", Self::Sandbox), ("insecure", Self::Insecure)];
}

impl MountType {
    const NAMES: [(&'static str, Self); 5] = [
        ("bind", Self::Bind),
        ("cache", Self::Cache),
        ("tmpfs", Self::Tmpfs),
        ("secret", Self::Secret),
        ("ssh", Self::Ssh),
    ];

    /// The name, as written in `type=`.
    pub fn as_str(self) -> &'static str {
        Self::NAMES.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }
}

impl Sharing {
    const NAMES: [(&'static str, Self); 3] =
        [("shared", Self::Shared), ("private", Self::Private), ("locked", Self::Locked)];
}

impl std::fmt::Display for MountError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for MountError {}

impl MountError {
    fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// An error about a word that is none of those known.
    fn unknown(message: String, word: &str, known: &[&'static str]) -> Self {
        let hint = match suggest::nearest(word, known) {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => format!("use one of `{}`", known.join("`, `")),
        };
        Self { message, hint: Some(hint) }
    }

    /// The error as a diagnostic about a place.
    pub fn diagnostic(self, span: Span) -> Diagnostic {
        let diagnostic = Diagnostic::error(self.message).at(span);
        match self.hint {
            Some(hint) => diagnostic.with_hint(hint),
            None => diagnostic,
        }
    }
}

/// Expands the variables of one value.
pub type Expand<'a> = dyn FnMut(&str) -> Result<String, WordError> + 'a;

/// The keys that a mount knows, and those that mean the same.
const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "required",
    "size",
    "id",
    "sharing",
    "mode",
    "uid",
    "gid",
    "env",
];

impl MountSpec {
    /// Reads the value of a `--mount`: fields only, since variables may stand in all values.
    pub(crate) fn parse(word: Word) -> Result<Self, MountError> {
        let texts = csv::fields(&word.text)
            .map_err(|error| MountError::new(format!("invalid value of `--mount`: {error}")))?;
        let mut fields = Vec::with_capacity(texts.len());
        for text in texts {
            let (key, value) = match text.split_once('=') {
                Some((key, value)) => (key.to_lowercase(), Some(value.to_owned())),
                None => (text.to_lowercase(), None),
            };
            let from = value.as_deref().filter(|_| key == "from").unwrap_or_default();
            if from.find('$').is_some_and(|at| at + 1 != from.len()) {
                let message = "variables do not work in `from` of a mount";
                let hint = "give the image a name with `FROM image AS name` and mount from that";
                return Err(MountError { message: message.into(), hint: Some(hint.into()) });
            }
            fields.push(MountField { key, value, text });
        }
        Ok(Self { word, fields })
    }

    /// The stage, context or image that is mounted from, as written.
    pub fn from(&self) -> Option<&str> {
        let field = self.fields.iter().rev().find(|field| field.key == "from")?;
        field.value.as_deref().filter(|from| !from.is_empty())
    }

    /// Expands all values and checks the mount as a whole.
    pub fn resolve(&self, expand: &mut Expand<'_>) -> Result<Mount, MountError> {
        let mut mount = Mount::default();
        let mut read_only = None;
        for field in &self.fields {
            match &field.value {
                None => mount.set_bare(field, &mut read_only)?,
                Some(value) => {
                    let value = expand(value).map_err(|error| MountError::new(error.message))?;
                    mount.set(field, value, &mut read_only)?;
                }
            }
        }
        let writable = matches!(mount.kind, MountType::Cache | MountType::Tmpfs);
        mount.read_only = read_only.unwrap_or(!writable);
        mount.check()?;
        Ok(mount)
    }
}

impl Default for Mount {
    fn default() -> Self {
        Self {
            kind: MountType::Bind,
            from: None,
            source: None,
            target: None,
            read_only: false,
            size_bytes: None,
            id: None,
            sharing: None,
            required: false,
            env: None,
            mode: None,
            uid: None,
            gid: None,
        }
    }
}

impl Mount {
    /// A key without a value.
    fn set_bare(
        &mut self,
        field: &MountField,
        read_only: &mut Option<bool>,
    ) -> Result<(), MountError> {
        match field.key.as_str() {
            "readonly" | "ro" => *read_only = Some(true),
            "readwrite" | "rw" => *read_only = Some(false),
            "required" if self.may_be_required() => self.required = true,
            "required" => return Err(self.misplaced("required")),
            key if KEYS.contains(&key) => {
                let message = format!("the key `{key}` of a mount needs a value");
                return Err(MountError::new(message));
            }
            key => {
                let message = format!("unknown key `{}` of a mount", field.text);
                return Err(MountError::unknown(message, key, &KEYS));
            }
        }
        Ok(())
    }

    fn set(
        &mut self,
        field: &MountField,
        value: String,
        read_only: &mut Option<bool>,
    ) -> Result<(), MountError> {
        let some = |value: String| Some(value).filter(|value| !value.is_empty());
        match field.key.as_str() {
            "type" => self.kind = choice(&value.to_lowercase(), "type", &MountType::NAMES)?,
            "from" => self.from = some(value),
            "source" | "src" => self.source = some(value),
            "target" | "dst" | "destination" => self.target = some(value),
            "readonly" | "ro" => *read_only = Some(truth(&field.key, &value)?),
            "readwrite" | "rw" => *read_only = Some(!truth(&field.key, &value)?),
            "required" if self.may_be_required() => self.required = truth("required", &value)?,
            "size" if self.kind == MountType::Tmpfs => {
                let size = size_bytes(&value).ok_or_else(|| invalid("size", &value))?;
                self.size_bytes = Some(size);
            }
            "required" | "size" => return Err(self.misplaced(&field.key)),
            "id" => self.id = some(value),
            "sharing" => {
                self.sharing = Some(choice(&value.to_lowercase(), "sharing", &Sharing::NAMES)?);
            }
            "mode" => self.mode = Some(number("mode", &value, 8)?),
            "uid" => self.uid = Some(number("uid", &value, 10)?),
            "gid" => self.gid = Some(number("gid", &value, 10)?),
            "env" => self.env = Some(value),
            key => {
                let message = format!("unknown key `{key}` of a mount");
                return Err(MountError::unknown(message, key, &KEYS));
            }
        }
        Ok(())
    }

    fn may_be_required(&self) -> bool {
        matches!(self.kind, MountType::Secret | MountType::Ssh)
    }

    fn misplaced(&self, key: &str) -> MountError {
        let kind = self.kind.as_str();
        let mut error = MountError::new(format!("a mount of type `{kind}` has no key `{key}`"));
        let wants = if key == "size" { "tmpfs" } else { "secret" };
        error.hint = Some(format!("write `type={wants}` before it"));
        error
    }

    fn check(&self) -> Result<(), MountError> {
        let kind = self.kind.as_str();
        let owned = matches!(self.kind, MountType::Secret | MountType::Ssh | MountType::Cache);
        let keys = [("mode", self.mode), ("uid", self.uid), ("gid", self.gid)];
        if let Some((key, _)) = keys.iter().find(|(_, value)| !owned && value.is_some()) {
            let message = format!("a mount of type `{kind}` has no key `{key}`");
            return Err(MountError::new(message));
        }
        if self.sharing.is_some() && self.kind != MountType::Cache {
            let message = format!("a mount of type `{kind}` has no key `sharing`");
            return Err(MountError::new(message));
        }
        if self.kind != MountType::Secret {
            return Ok(());
        }
        if self.from.is_some() {
            return Err(MountError::new("a mount of type `secret` has no key `from`"));
        }
        match (&self.source, &self.id, &self.target) {
            (Some(_), Some(_), _) => {
                Err(MountError::new("`source` and `id` of a secret name the same thing twice"))
            }
            (None, None, None) => {
                let message = "a mount of type `secret` needs an `id` or a `target`";
                Err(MountError::new(message))
            }
            _ => Ok(()),
        }
    }
}

impl Device {
    /// Reads the value of a `--device`.
    pub(crate) fn parse(text: &str) -> Result<Self, MountError> {
        let fields = csv::fields(text)
            .map_err(|error| MountError::new(format!("invalid value of `--device`: {error}")))?;
        let mut device = Self::default();
        for field in fields {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key.to_lowercase(), Some(value)),
                None => (field.to_lowercase(), None),
            };
            match (key.as_str(), value) {
                ("required", None) => device.required = true,
                ("required", Some(value)) => device.required = truth("required", value)?,
                ("name", Some(value)) if device.name.is_empty() => {
                    value.clone_into(&mut device.name);
                }
                ("name", Some(_)) => {
                    let message = format!("the device is already named `{}`", device.name);
                    return Err(MountError::new(message));
                }
                _ if device.name.is_empty() => device.name = field,
                (key, _) => {
                    let message = format!("unknown key `{key}` of a device");
                    return Err(MountError::unknown(message, key, &["name", "required"]));
                }
            }
        }
        Ok(device)
    }
}

fn invalid(key: &str, value: &str) -> MountError {
    MountError::new(format!("invalid value `{value}` for `{key}`"))
}

fn choice<T: Copy>(value: &str, key: &str, choices: &[(&'static str, T)]) -> Result<T, MountError> {
    if let Some((_, chosen)) = choices.iter().find(|(name, _)| *name == value) {
        return Ok(*chosen);
    }
    let names: Vec<&'static str> = choices.iter().map(|(name, _)| *name).collect();
    Err(MountError::unknown(format!("invalid value `{value}` for `{key}`"), value, &names))
}

/// Reads a truth value in any of the spellings that Go takes.
fn truth(key: &str, value: &str) -> Result<bool, MountError> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(invalid(key, value)),
    }
}

fn number(key: &str, value: &str, radix: u32) -> Result<u32, MountError> {
    match u32::from_str_radix(value, radix) {
        // A sign is no digit.
        Ok(number) if !value.starts_with('+') => Ok(number),
        _ => Err(invalid(key, value)),
    }
}

/// Reads a size such as `64m`, `1.5GiB` or `512`; units are powers of 1024.
pub fn size_bytes(text: &str) -> Option<u64> {
    let last = text.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ')?;
    let (number, unit) = match text.as_bytes().get(last) {
        Some(b' ') => (&text[..last], &text[last + 1..]),
        _ => text.split_at(last + 1),
    };
    let number: f64 = number.parse().ok().filter(|number: &f64| number.is_finite())?;
    let unit = unit.to_ascii_lowercase();
    let power = match unit.as_bytes() {
        [] | [b'b'] => 0,
        [first] | [first, b'b'] | [first, b'i', b'b'] => {
            b"kmgtp".iter().position(|known| known == first)? + 1
        }
        _ => return None,
    };
    let scale = (0..power).fold(1.0, |scale: f64, _| scale * 1024.0);
    let size = number * scale;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the bounds are checked, and what is after the point is dropped on purpose"
    )]
    (0.0..9.2e18).contains(&size).then_some(size as u64)
}
