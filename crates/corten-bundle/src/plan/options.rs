//! Mount options as the specification and `mount(8)` name them, sorted by who carries them out.

use libc::{MS_PRIVATE, MS_REC, MS_SHARED, MS_SLAVE, MS_UNBINDABLE};

const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;
/// A field of bits, of which `relatime` is none.
const ATIME: u64 = libc::MOUNT_ATTR__ATIME;
const NOATIME: u64 = libc::MOUNT_ATTR_NOATIME;
const STRICTATIME: u64 = libc::MOUNT_ATTR_STRICTATIME;
const NODIRATIME: u64 = libc::MOUNT_ATTR_NODIRATIME;
const NOSYMFOLLOW: u64 = libc::MOUNT_ATTR_NOSYMFOLLOW;

/// What an option adds to and takes from the attributes of a mount.
struct Attribute {
    name: &'static str,
    set: u64,
    clear: u64,
}

const fn attribute(name: &'static str, set: u64, clear: u64) -> Attribute {
    Attribute { name, set, clear }
}

/// Each also with an `r` before it: then it holds for the mounts below, too.
const ATTRIBUTES: &[Attribute] = &[
    attribute("ro", RDONLY, 0),
    attribute("rw", 0, RDONLY),
    attribute("nosuid", NOSUID, 0),
    attribute("suid", 0, NOSUID),
    attribute("nodev", NODEV, 0),
    attribute("dev", 0, NODEV),
    attribute("noexec", NOEXEC, 0),
    attribute("exec", 0, NOEXEC),
    attribute("nodiratime", NODIRATIME, 0),
    attribute("diratime", 0, NODIRATIME),
    attribute("relatime", 0, ATIME),
    attribute("norelatime", STRICTATIME, ATIME),
    attribute("noatime", NOATIME, ATIME),
    attribute("atime", 0, ATIME),
    attribute("strictatime", STRICTATIME, ATIME),
    attribute("nostrictatime", 0, ATIME),
    attribute("nosymfollow", NOSYMFOLLOW, 0),
    attribute("symfollow", 0, NOSYMFOLLOW),
];

/// Those of the file system itself, which `fsconfig` knows by the same names.
const OF_FILE_SYSTEM: &[&str] = &["sync", "dirsync", "lazytime", "mand", "iversion", "silent"];
/// Those that are so without being said.
const DEFAULT: &[&str] =
    &["defaults", "async", "nolazytime", "nomand", "noiversion", "loud", "remount"];

const PROPAGATION: &[(&str, u64, bool)] = &[
    ("private", MS_PRIVATE, false),
    ("shared", MS_SHARED, false),
    ("slave", MS_SLAVE, false),
    ("unbindable", MS_UNBINDABLE, false),
    ("rprivate", MS_PRIVATE, true),
    ("rshared", MS_SHARED, true),
    ("rslave", MS_SLAVE, true),
    ("runbindable", MS_UNBINDABLE, true),
];
const _: () = assert!(MS_REC != 0);

/// How a mount's owners are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mapped {
    /// This mount alone.
    Itself,
    /// The ones below it, too.
    Recursive,
}

/// Options in the form in which they are carried out.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Options {
    pub bind: bool,
    /// The mounts below the source come along.
    pub recursive: bool,
    /// `MOUNT_ATTR_*`.
    pub set: u64,
    pub clear: u64,
    /// For the mounts below, too.
    pub set_all: u64,
    pub clear_all: u64,
    /// In this order; true for the mounts below, too.
    pub propagation: Vec<(u64, bool)>,
    pub mapped: Option<Mapped>,
    pub copy_up: bool,
    /// For the file system.
    pub data: Vec<(String, Option<String>)>,
}

pub(crate) fn parse<S: AsRef<str>>(options: &[S]) -> Options {
    let mut parsed = Options::default();
    for option in options.iter().map(AsRef::as_ref).filter(|option| !option.is_empty()) {
        parsed.add(option);
    }
    parsed
}

/// Every option that is known by name, for `features`.
pub(crate) fn names() -> Vec<String> {
    let mut names: Vec<String> =
        ["bind", "rbind", "idmap", "ridmap", "tmpcopyup"].map(str::to_owned).to_vec();
    names.extend(
        ATTRIBUTES.iter().flat_map(|known| [known.name.to_owned(), format!("r{}", known.name)]),
    );
    names.extend(PROPAGATION.iter().map(|(name, _, _)| (*name).to_owned()));
    names.extend(OF_FILE_SYSTEM.iter().chain(DEFAULT).map(|name| (*name).to_owned()));
    names.sort();
    names.dedup();
    names
}

impl Options {
    fn add(&mut self, option: &str) {
        let find = |name: &str| ATTRIBUTES.iter().find(|known| known.name == name);
        match option {
            "bind" => self.bind = true,
            "rbind" => (self.bind, self.recursive) = (true, true),
            "idmap" => self.mapped = Some(Mapped::Itself),
            "ridmap" => self.mapped = Some(Mapped::Recursive),
            "tmpcopyup" => self.copy_up = true,
            _ if DEFAULT.contains(&option) => {}
            _ => {
                if let Some(found) = PROPAGATION.iter().find(|(name, _, _)| *name == option) {
                    self.propagation.push((found.1, found.2));
                } else if let Some(found) = find(option) {
                    apply(&mut self.set, &mut self.clear, found);
                } else if let Some(found) = option.strip_prefix('r').and_then(find) {
                    apply(&mut self.set_all, &mut self.clear_all, found);
                } else {
                    let (key, value) = match option.split_once('=') {
                        Some((key, value)) => (key, Some(value.to_owned())),
                        None => (option, None),
                    };
                    self.data.push((key.to_owned(), value));
                }
            }
        }
    }
}

/// A later option counts.
fn apply(set: &mut u64, clear: &mut u64, option: &Attribute) {
    *set = *set & !option.clear | option.set;
    *clear |= option.clear | option.set & ATIME;
    if option.clear == 0 {
        *clear &= !option.set;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_go_to_who_carries_them_out() {
        let parsed =
            parse(&["nosuid", "strictatime", "mode=755", "size=64k", "sync", "newinstance"]);
        assert_eq!((parsed.set, parsed.clear), (NOSUID | STRICTATIME, ATIME));
        let data: Vec<_> =
            parsed.data.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
        assert_eq!(
            data,
            [("mode", Some("755")), ("size", Some("64k")), ("sync", None), ("newinstance", None)]
        );
    }

    #[test]
    fn the_last_of_two_opposites_counts() {
        let parsed = parse(&["ro", "rw"]);
        assert_eq!((parsed.set, parsed.clear), (0, RDONLY));
        let parsed = parse(&["rw", "ro"]);
        assert_eq!((parsed.set, parsed.clear), (RDONLY, 0));
        let parsed = parse(&["noatime", "relatime"]);
        assert_eq!((parsed.set, parsed.clear & ATIME), (0, ATIME));
    }

    #[test]
    fn an_r_before_an_attribute_means_the_mounts_below_too() {
        let parsed = parse(&["rbind", "rro", "rnoexec", "rslave", "ro"]);
        assert!(parsed.bind && parsed.recursive);
        assert_eq!((parsed.set, parsed.set_all), (RDONLY, RDONLY | NOEXEC));
        assert_eq!(parsed.propagation, [(MS_SLAVE, true)]);
        assert!(parsed.data.is_empty());
        assert_eq!(parse(&["rw"]).clear_all, 0);
    }

    #[test]
    fn names_are_told_once() {
        let names = names();
        assert!(names.contains(&"rnosymfollow".to_owned()) && names.contains(&"rw".to_owned()));
        assert_eq!(names.iter().filter(|name| *name == "rro").count(), 1);
    }
}
