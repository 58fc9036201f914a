//! Devices by the Container Device Interface, up to version 1.0 of its specification: files of
//! vendors that say what a container needs for a device such as `nvidia.com/gpu=0`.
//!
//! Everything but [`read`] and [`Injection::check`] is pure.

mod document;
mod error;
mod hooks;
mod inject;
mod read;
mod soname;
mod spec;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use document::{parse_json, parse_yaml};

pub use error::{CdiError, Fault};
pub use hooks::LIBRARIES;
pub use inject::{Injection, check_device};
pub use read::{DIRECTORIES, read};
pub(crate) use spec::is_access;
pub use spec::{DeviceNode, Edits, Form, Hook, HostMount, NodeKind, Spec, SpecDevice, parse};

/// The annotation by which `BuildKit` groups devices.
const CLASS_ANNOTATION: &str = "org.mobyproject.buildkit.device.class";

/// All devices that are described.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registry {
    /// Where descriptions were looked for, in order of rising priority.
    pub directories: Vec<PathBuf>,
    /// What is wrong with files, one line each. The devices of other files are known all the same.
    pub problems: Vec<String>,
    specs: Vec<Described>,
    /// By `vendor/class=name`.
    devices: BTreeMap<String, Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Described {
    path: PathBuf,
    priority: usize,
    spec: Spec,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    /// Specifications and the place of the device in each: more than one is a conflict.
    places: Vec<(usize, usize)>,
}

impl Registry {
    /// Knows no device yet.
    pub fn new(directories: Vec<PathBuf>) -> Self {
        Self { directories, ..Self::default() }
    }

    /// Adds the text of a file. A device of a higher priority hides those of lower ones.
    pub fn add(&mut self, path: &Path, priority: usize, text: &str) {
        let form = match path.extension() {
            Some(extension) if extension == "json" => Form::Json,
            _ => Form::Yaml,
        };
        let spec = match parse(text, form) {
            Ok(spec) => spec,
            Err(fault) => {
                self.problem(path, &fault);
                return;
            }
        };
        let index = self.specs.len();
        for (place, device) in spec.devices.iter().enumerate() {
            let name = format!("{}={}", spec.kind, device.name);
            let entry = self.devices.entry(name).or_insert_with(|| Entry { places: Vec::new() });
            let known = entry.places.first().and_then(|(index, _)| self.specs.get(*index));
            match known.map(|known| known.priority.cmp(&priority)) {
                Some(std::cmp::Ordering::Less) => entry.places = vec![(index, place)],
                Some(std::cmp::Ordering::Greater) => {}
                Some(std::cmp::Ordering::Equal) | None => entry.places.push((index, place)),
            }
        }
        self.specs.push(Described { path: path.to_owned(), priority, spec });
    }

    /// Notes what is wrong with a file.
    fn problem(&mut self, path: &Path, fault: &Fault) {
        let line = fault.line.map_or_else(String::new, |line| format!(":{line}"));
        self.problems.push(format!("{}{line}: {fault}", path.display()));
    }

    /// The names of all devices, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.devices.keys().map(String::as_str)
    }

    /// Finds the devices that a name stands for: `vendor/class=name` is one, `vendor/class` the
    /// first of its kind, `vendor/class=*` all of them, and anything else the class that a device
    /// has by annotation.
    pub fn find(&self, wanted: &str) -> Result<Vec<String>, CdiError> {
        let kind = wanted.split('=').next().unwrap_or_default();
        let of_kind = |name: &&str| name.split('=').next() == Some(kind);
        let mut found: Vec<String> = match wanted.split_once('=').map(|(_, name)| name) {
            None | Some("") => self.names().filter(of_kind).take(1).map(str::to_owned).collect(),
            Some("*") => self.names().filter(of_kind).map(str::to_owned).collect(),
            Some(_) => self.names().filter(|name| *name == wanted).map(str::to_owned).collect(),
        };
        if found.is_empty() {
            found = self
                .names()
                .filter(|name| self.has_class(name, wanted))
                .map(str::to_owned)
                .collect();
        }
        if found.is_empty() {
            return Err(CdiError::NotFound {
                name: wanted.to_owned(),
                known: self.names().map(str::to_owned).collect(),
                directories: self.directories.clone(),
                problems: self.problems.clone(),
            });
        }
        Ok(found)
    }

    fn has_class(&self, name: &str, class: &str) -> bool {
        let Ok((described, device)) = self.get(name) else { return false };
        let own = device.annotations.get(CLASS_ANNOTATION);
        let class_of = own.or_else(|| described.spec.annotations.get(CLASS_ANNOTATION));
        class_of.is_some_and(|known| known == class)
    }

    fn get(&self, name: &str) -> Result<(&Described, &SpecDevice), CdiError> {
        let places = self.devices.get(name).map_or(&[][..], |entry| &entry.places);
        let of = |(spec, device): &(usize, usize)| {
            let described = self.specs.get(*spec)?;
            Some((described, described.spec.devices.get(*device)?))
        };
        let found: Vec<_> = places.iter().filter_map(of).collect();
        match found.as_slice() {
            [one] => Ok(*one),
            several => Err(CdiError::Conflict {
                name: name.to_owned(),
                files: several.iter().map(|(described, _)| described.path.clone()).collect(),
            }),
        }
    }

    /// Gathers what a container needs for these devices, each once.
    pub fn inject(&self, wanted: &[String]) -> Result<Injection, CdiError> {
        let mut injection = Injection::default();
        let mut specs = BTreeSet::new();
        let mut devices = BTreeSet::new();
        for each in wanted {
            for name in self.find(each)? {
                if !devices.insert(name.clone()) {
                    continue;
                }
                let (described, device) = self.get(&name)?;
                if specs.insert(&described.path) {
                    injection.add(&described.spec.kind, &described.spec.edits)?;
                }
                injection.add(&name, &device.edits)?;
            }
        }
        Ok(injection)
    }
}

/// Returns true if this is the whole name of a device, `vendor/class=name`.
pub fn is_qualified(text: &str) -> bool {
    let Some((kind, name)) = text.split_once('=') else { return false };
    let Some((vendor, class)) = kind.split_once('/') else { return false };
    spec::is_qualifier(vendor) && spec::is_qualifier(class) && spec::is_device_name(name)
}
