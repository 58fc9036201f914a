//! One CDI specification: what it may say, and what must be true of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::document::{Node, Value};
use super::{Fault, parse_json, parse_yaml};

/// The versions of the specification that are understood.
const VERSIONS: [&str; 9] =
    ["0.1.0", "0.2.0", "0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0"];

/// How the text of a specification is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    Json,
    Yaml,
}

/// A kind of devices and what a container needs for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec {
    /// `vendor/class`.
    pub kind: String,
    pub annotations: BTreeMap<String, String>,
    pub devices: Vec<SpecDevice>,
    /// What a container needs that has any of the devices.
    pub edits: Edits,
}

/// A device of a specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpecDevice {
    pub name: String,
    pub annotations: BTreeMap<String, String>,
    pub edits: Edits,
}

/// What a container needs for a device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edits {
    /// `NAME=value` each.
    pub env: Vec<String>,
    pub nodes: Vec<DeviceNode>,
    pub mounts: Vec<HostMount>,
    pub additional_gids: Vec<u32>,
    pub hooks: Vec<Hook>,
    /// It asks for cache and memory bandwidth of its own.
    pub rdt: bool,
}

impl Edits {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A device node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceNode {
    /// In the container.
    pub path: PathBuf,
    pub host_path: PathBuf,
    pub kind: Option<NodeKind>,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    /// Letters of `rwm`; all when absent.
    pub permissions: Option<String>,
    pub mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

/// What a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeKind {
    Character,
    Block,
    Pipe,
}

impl NodeKind {
    /// With an article.
    pub(super) fn shown(self) -> &'static str {
        match self {
            Self::Character => "a character device",
            Self::Block => "a block device",
            Self::Pipe => "a pipe",
        }
    }
}

/// Something of the host that is mounted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostMount {
    pub host_path: PathBuf,
    pub container_path: PathBuf,
    pub options: Vec<String>,
    /// `bind`, or the type of a file system; empty is `bind`.
    pub kind: String,
}

/// A program of the host that the vendor would like to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// When: `createContainer` and so on.
    pub name: String,
    pub path: PathBuf,
    pub args: Vec<String>,
}

/// Reads a specification; a text that is not one names the place and the reason.
pub fn parse(text: &str, form: Form) -> Result<Spec, Fault> {
    let root = match form {
        Form::Json => parse_json(text)?,
        Form::Yaml => parse_yaml(text)?,
    };
    Place { node: &root, path: String::new() }.spec()
}

/// A value with the way to it.
#[derive(Clone)]
struct Place<'a> {
    node: &'a Node,
    path: String,
}

impl<'a> Place<'a> {
    fn refuse<T>(&self, reason: impl Into<String>) -> Result<T, Fault> {
        Err(Fault::new(self.node.line, &self.path, reason))
    }

    /// The fields of a mapping, which may have these and no other.
    fn fields(&self, known: &[&str]) -> Result<BTreeMap<&'a str, Place<'a>>, Fault> {
        let Value::Map(fields) = &self.node.value else {
            return self.refuse(format!("it is {}, not a mapping", self.node.value.kind()));
        };
        let mut found = BTreeMap::new();
        for (name, node) in fields {
            let place = self.below(name, node);
            if !known.is_empty() && !known.contains(&name.as_str()) {
                return place.refuse("no such field is known");
            }
            if node.value != Value::Null {
                found.insert(name.as_str(), place);
            }
        }
        Ok(found)
    }

    fn below(&self, name: &str, node: &'a Node) -> Self {
        let dot = if self.path.is_empty() { "" } else { "." };
        Self { node, path: format!("{}{dot}{name}", self.path) }
    }

    fn items(&self) -> Result<Vec<Self>, Fault> {
        let Value::List(items) = &self.node.value else {
            return self.refuse(format!("it is {}, not a list", self.node.value.kind()));
        };
        let item = |(index, node)| Self { node, path: format!("{}[{index}]", self.path) };
        Ok(items.iter().enumerate().map(item).collect())
    }

    fn text(&self) -> Result<&'a str, Fault> {
        match &self.node.value {
            Value::Scalar { text, .. } if text.contains('\0') => self.refuse("it has a NUL byte"),
            Value::Scalar { text, .. } => Ok(text),
            other => self.refuse(format!("it is {}, not a text", other.kind())),
        }
    }

    fn texts(&self) -> Result<Vec<String>, Fault> {
        self.items()?.iter().map(|item| Ok(item.text()?.to_owned())).collect()
    }

    /// A number without sign; octal and hexadecimal as YAML has them.
    fn number(&self) -> Result<u32, Fault> {
        let parsed = match &self.node.value {
            Value::Scalar { text, quoted: false } => {
                let (digits, radix) = if let Some(digits) = text.strip_prefix("0x") {
                    (digits, 16)
                } else if let Some(digits) = text.strip_prefix("0o") {
                    (digits, 8)
                } else if text.len() > 1 && text.starts_with('0') {
                    (text.as_str(), 8)
                } else {
                    (text.as_str(), 10)
                };
                u32::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with('+'))
            }
            _ => None,
        };
        match parsed {
            Some(number) => Ok(number),
            None => self.refuse("it is not a number from 0 to 4294967295"),
        }
    }

    /// An absolute path without detours.
    fn path(&self) -> Result<PathBuf, Fault> {
        let text = self.text()?;
        if !text.starts_with('/') {
            return self.refuse(format!("`{text}` is not an absolute path"));
        }
        if text.split('/').any(|part| part == "..") {
            return self.refuse(format!("`{text}` has a `..` in it"));
        }
        Ok(PathBuf::from(text))
    }

    fn annotations(&self) -> Result<BTreeMap<String, String>, Fault> {
        let fields = self.fields(&[])?;
        fields.into_iter().map(|(name, at)| Ok((name.to_owned(), at.text()?.to_owned()))).collect()
    }

    fn spec(&self) -> Result<Spec, Fault> {
        let known = ["cdiVersion", "kind", "annotations", "devices", "containerEdits"];
        let fields = self.fields(&known)?;
        let version = self.required(&fields, "cdiVersion")?;
        let number = version.text()?;
        if !VERSIONS.contains(&number.trim_start_matches('v')) {
            return version.refuse(format!("version `{number}` is not known; 0.1.0 to 1.0.0 are"));
        }
        let kind = self.required(&fields, "kind")?;
        let annotations = optional(&fields, "annotations", Self::annotations)?;
        let devices = self.required(&fields, "devices")?;
        let mut names = BTreeSet::new();
        let mut list = Vec::new();
        for place in devices.items()? {
            let device = place.device()?;
            if !names.insert(device.name.clone()) {
                return place.refuse(format!("the device `{}` is there twice", device.name));
            }
            list.push(device);
        }
        if list.is_empty() {
            return devices.refuse("there are no devices");
        }
        Ok(Spec {
            kind: kind.kind()?,
            annotations,
            devices: list,
            edits: optional(&fields, "containerEdits", Self::edits)?,
        })
    }

    fn required(&self, fields: &BTreeMap<&str, Place<'a>>, name: &str) -> Result<Place<'a>, Fault> {
        match fields.get(name) {
            Some(place) => Ok(place.clone()),
            None => self.refuse(format!("`{name}` is missing")),
        }
    }

    fn kind(&self) -> Result<String, Fault> {
        let text = self.text()?;
        match text.split_once('/') {
            Some((vendor, class)) if is_qualifier(vendor) && is_qualifier(class) => {
                Ok(text.to_owned())
            }
            _ => self.refuse(format!(
                "`{text}` is not `vendor/class`, each of letters, digits, `_`, `-` and `.`"
            )),
        }
    }

    fn device(&self) -> Result<SpecDevice, Fault> {
        let fields = self.fields(&["name", "annotations", "containerEdits"])?;
        let name = self.required(&fields, "name")?;
        let text = name.text()?;
        if !is_device_name(text) {
            return name.refuse(format!(
                "`{text}` is no name of a device: letters, digits, `_`, `-`, `.` and `:`"
            ));
        }
        let edits = self.required(&fields, "containerEdits")?;
        let read = edits.edits()?;
        if read.is_empty() {
            return edits.refuse("the device changes nothing");
        }
        let annotations = optional(&fields, "annotations", Self::annotations)?;
        Ok(SpecDevice { name: text.to_owned(), annotations, edits: read })
    }

    fn edits(&self) -> Result<Edits, Fault> {
        let known = ["env", "deviceNodes", "mounts", "hooks", "additionalGids", "intelRdt"];
        let fields = self.fields(&known)?;
        let edits = Edits {
            env: list(&fields, "env", Self::variable)?,
            nodes: list(&fields, "deviceNodes", Self::device_node)?,
            mounts: list(&fields, "mounts", Self::mount)?,
            additional_gids: list(&fields, "additionalGids", Self::number)?,
            hooks: list(&fields, "hooks", Self::hook)?,
            rdt: fields.contains_key("intelRdt"),
        };
        Ok(edits)
    }

    fn variable(&self) -> Result<String, Fault> {
        let text = self.text()?;
        match text.split_once('=') {
            Some((name, _)) if !name.is_empty() => Ok(text.to_owned()),
            _ => self.refuse(format!("`{text}` is not `NAME=value`")),
        }
    }

    fn device_node(&self) -> Result<DeviceNode, Fault> {
        let known =
            ["path", "hostPath", "type", "major", "minor", "fileMode", "permissions", "uid", "gid"];
        let fields = self.fields(&known)?;
        let number = |name: &str| fields.get(name).map(Self::number).transpose();
        let path = self.required(&fields, "path")?.path()?;
        let host_path = fields.get("hostPath").map(Self::path).transpose()?;
        let kind = match fields.get("type") {
            None => None,
            Some(place) => match place.text()? {
                "" => None,
                "c" | "u" => Some(NodeKind::Character),
                "b" => Some(NodeKind::Block),
                "p" => Some(NodeKind::Pipe),
                other => return place.refuse(format!("`{other}` is none of `c`, `u`, `b`, `p`")),
            },
        };
        let permissions = match fields.get("permissions") {
            None => None,
            Some(place) => match place.text()? {
                "" => None,
                text if is_access(text) => Some(text.to_owned()),
                text => return place.refuse(format!("`{text}` has letters other than `rwm`")),
            },
        };
        Ok(DeviceNode {
            host_path: host_path.unwrap_or_else(|| path.clone()),
            path,
            kind,
            major: number("major")?,
            minor: number("minor")?,
            permissions,
            mode: number("fileMode")?,
            uid: number("uid")?,
            gid: number("gid")?,
        })
    }

    fn mount(&self) -> Result<HostMount, Fault> {
        let fields = self.fields(&["hostPath", "containerPath", "options", "type"])?;
        let kind = fields.get("type").map(Self::text).transpose()?.unwrap_or_default();
        let host_path = self.required(&fields, "hostPath")?;
        let host_path = match kind {
            // Its source is a name, not a path.
            "tmpfs" => PathBuf::from(host_path.text()?),
            _ => host_path.path()?,
        };
        Ok(HostMount {
            host_path,
            container_path: self.required(&fields, "containerPath")?.path()?,
            options: fields.get("options").map(Self::texts).transpose()?.unwrap_or_default(),
            kind: kind.to_owned(),
        })
    }

    fn hook(&self) -> Result<Hook, Fault> {
        const HOOKS: [&str; 6] = [
            "prestart",
            "createRuntime",
            "createContainer",
            "startContainer",
            "poststart",
            "poststop",
        ];
        let fields = self.fields(&["hookName", "path", "args", "env", "timeout"])?;
        let name = self.required(&fields, "hookName")?;
        let text = name.text()?;
        if !HOOKS.contains(&text) {
            return name.refuse(format!("`{text}` is no hook of a container"));
        }
        Ok(Hook {
            name: text.to_owned(),
            path: self.required(&fields, "path")?.path()?,
            args: fields.get("args").map(Self::texts).transpose()?.unwrap_or_default(),
        })
    }
}

fn optional<'a, T: Default>(
    fields: &BTreeMap<&str, Place<'a>>,
    name: &str,
    read: impl Fn(&Place<'a>) -> Result<T, Fault>,
) -> Result<T, Fault> {
    fields.get(name).map_or_else(|| Ok(T::default()), read)
}

fn list<'a, T>(
    fields: &BTreeMap<&str, Place<'a>>,
    name: &str,
    read: impl Fn(&Place<'a>) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    match fields.get(name) {
        None => Ok(Vec::new()),
        Some(place) => place.items()?.iter().map(read).collect(),
    }
}

/// A vendor or a class: begins with a letter and ends with a letter or a digit.
pub(super) fn is_qualifier(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
}

/// A device: begins and ends with a letter or a digit.
pub(super) fn is_device_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_-.:".contains(c))
}

/// Letters of `rwm`, each at most once.
pub(crate) fn is_access(text: &str) -> bool {
    let once = |letter: char| text.chars().filter(|c| *c == letter).count() == 1;
    !text.is_empty() && text.chars().all(|c| "rwm".contains(c) && once(c))
}
