//! What the hooks of vendors would do, done by ourselves: no program of the host is run.
//!
//! The hooks that NVIDIA's descriptions name make links to libraries, tell the linker where those are,
//! and set modes. By their arguments, all of it is known before the container is made. Libraries get
//! links in a directory of `/dev`, which is in memory; what must be at a certain path is mounted there.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use super::spec::Hook;
use crate::spec::{BindMount, Mount};

/// Where libraries of devices are found by the names that programs ask for.
pub const LIBRARIES: &str = "/dev/corten/lib";

/// Links to links to links: more is a circle.
const DEPTH_MAX: usize = 8;

/// A hook that we know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Known {
    /// Links as `target::link`.
    Links(Vec<(PathBuf, PathBuf)>),
    /// The linker shall find what is in these directories.
    Libraries(Vec<PathBuf>),
    /// The libraries of the image for older drivers shall be found, where they are newer.
    Compatibility,
    /// It asks for what is so in any case.
    Nothing,
}

/// Understands a hook by its arguments; `None` if it does something else.
pub(super) fn understand(hook: &Hook) -> Option<Known> {
    const NAMES: [&str; 5] = [
        "create-symlinks",
        "update-ldcache",
        "chmod",
        "enable-cuda-compat",
        "disable-device-node-modification",
    ];
    let at = hook.args.iter().position(|word| NAMES.contains(&word.as_str()))?;
    let options = options(hook.args.get(at + 1..)?);
    let all = |name: &'static str| {
        options.iter().filter(move |(key, _)| *key == name).map(|(_, value)| *value)
    };
    match hook.args.get(at)?.as_str() {
        "create-symlinks" => {
            let pair = |text: &str| {
                let (target, link) = text.split_once("::")?;
                let link = plain(Path::new(link))?;
                (!target.is_empty()).then(|| (PathBuf::from(target), link))
            };
            all("link").map(pair).collect::<Option<_>>().map(Known::Links)
        }
        "update-ldcache" => {
            let folders = all("folder").flat_map(|text| text.split(','));
            folders.map(|text| plain(Path::new(text))).collect::<Option<_>>().map(Known::Libraries)
        }
        "chmod" => {
            // Directories that are made for nodes have this mode.
            let usual = all("mode").all(|mode| matches!(mode, "755" | "0755" | "0o755"));
            let of_dev = all("path").all(|path| Path::new(path).starts_with("/dev"));
            (usual && of_dev).then_some(Known::Nothing)
        }
        "enable-cuda-compat" => Some(Known::Compatibility),
        // No container makes nodes, so that the driver's tools cannot either.
        "disable-device-node-modification" => Some(Known::Nothing),
        _ => None,
    }
}

/// Reads `--name value` and `--name=value`.
fn options(words: &[String]) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some(name) = word.strip_prefix("--") else { continue };
        match name.split_once('=') {
            Some(pair) => found.push(pair),
            None => found.extend(words.next().map(|value| (name, value.as_str()))),
        }
    }
    found
}

/// What takes the place of links.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Linked {
    /// In [`LIBRARIES`]: name and what it leads to.
    pub libraries: BTreeMap<String, PathBuf>,
    /// At places that are not searched for libraries.
    pub mounts: Vec<Mount>,
    /// Links whose target is nothing that the description mounts.
    pub lost: Vec<PathBuf>,
}

/// Decides where the links go. `names` is how the mounted libraries call themselves, by their path in the
/// container.
pub(super) fn plan_links(
    mounts: &[Mount],
    names: &BTreeMap<PathBuf, String>,
    links: &[(PathBuf, PathBuf)],
    folders: &[PathBuf],
) -> Linked {
    let mut linked = Linked::default();
    let binds = mounts.iter().filter_map(|mount| match mount {
        Mount::Bind(bind) => Some((bind.target.clone(), bind)),
        Mount::Tmpfs(_) => None,
    });
    let binds: BTreeMap<PathBuf, &BindMount> = binds.collect();
    // A library beside its file under the name that it gives itself, as the linker's tool would link it.
    let mut known: BTreeMap<PathBuf, PathBuf> = BTreeMap::new();
    for (path, name) in names {
        let Some(folder) = path.parent() else { continue };
        known.insert(folder.join(name), path.clone());
        if folders.iter().any(|searched| searched == folder) {
            linked.libraries.insert(name.clone(), path.clone());
        }
    }
    let by_link: BTreeMap<&Path, &Path> =
        links.iter().map(|(target, link)| (link.as_path(), target.as_path())).collect();
    for (target, link) in links {
        let Some(path) = resolve(target, link, &binds, &known, &by_link) else {
            linked.lost.push(link.clone());
            continue;
        };
        if path == *link || binds.contains_key(link) {
            continue;
        }
        let searched = link.parent().is_some_and(|at| folders.iter().any(|folder| folder == at));
        let name = link.file_name().and_then(|name| name.to_str());
        match (name, binds.get(&path)) {
            (Some(name), _) if searched && name.contains(".so") => {
                linked.libraries.insert(name.to_owned(), path);
            }
            (_, Some(bind)) => {
                let bind = BindMount { target: link.clone(), ..(*bind).clone() };
                linked.mounts.push(Mount::Bind(bind));
            }
            (_, None) => linked.lost.push(link.clone()),
        }
    }
    linked
}

/// Finds the mounted file that a link leads to.
fn resolve(
    target: &Path,
    link: &Path,
    binds: &BTreeMap<PathBuf, &BindMount>,
    known: &BTreeMap<PathBuf, PathBuf>,
    by_link: &BTreeMap<&Path, &Path>,
) -> Option<PathBuf> {
    let (mut target, mut link) = (target, link);
    for _ in 0..DEPTH_MAX {
        let path = plain(&link.parent()?.join(target))?;
        if binds.contains_key(&path) {
            return Some(path);
        }
        if let Some(path) = known.get(&path) {
            return Some(path.clone());
        }
        let (found, next) = by_link.get_key_value(path.as_path())?;
        (link, target) = (found, next);
    }
    None
}

/// An absolute path without detours; `..` at the root stays there.
fn plain(path: &Path) -> Option<PathBuf> {
    if !path.is_absolute() {
        return None;
    }
    let mut clean = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::ParentDir => {
                clean.pop();
            }
            Component::Normal(name) => clean.push(name),
            _ => {}
        }
    }
    Some(clean)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::BindOptions;

    fn hook(words: &str) -> Hook {
        Hook {
            name: "createContainer".to_owned(),
            path: "/usr/bin/nvidia-cdi-hook".into(),
            args: words.split(' ').map(str::to_owned).collect(),
        }
    }

    fn bind(path: &str) -> Mount {
        Mount::Bind(BindMount {
            source: Path::new("/host").join(path.trim_start_matches('/')),
            target: path.into(),
            readonly: true,
            recursive: true,
            options: BindOptions::default(),
        })
    }

    #[test]
    fn hooks_are_known_by_their_words() {
        let links = understand(&hook(
            "nvidia-cdi-hook create-symlinks --link libcuda.so.1::/usr/lib/libcuda.so --link=../a.so::/usr/lib/gbm/b.so",
        ));
        let pair = |target: &str, link: &str| (PathBuf::from(target), PathBuf::from(link));
        let expected =
            vec![pair("libcuda.so.1", "/usr/lib/libcuda.so"), pair("../a.so", "/usr/lib/gbm/b.so")];
        assert_eq!(links, Some(Known::Links(expected)));
        let folders = Known::Libraries(vec!["/usr/lib64".into(), "/usr/lib64/vdpau".into()]);
        let words = "nvidia-ctk hook update-ldcache --folder /usr/lib64 --folder /usr/lib64/vdpau";
        assert_eq!(understand(&hook(words)), Some(folders));
        let words = "nvidia-cdi-hook chmod --mode 755 --path /dev/dri";
        assert_eq!(understand(&hook(words)), Some(Known::Nothing));
        for words in [
            "nvidia-cdi-hook chmod --mode 4755 --path /dev/dri",
            "nvidia-cdi-hook chmod --mode 755 --path /etc",
            "nvidia-cdi-hook create-symlinks --link a",
            "nvidia-cdi-hook create-symlinks --link a::b",
            "vendor-tool do-something",
        ] {
            assert_eq!(understand(&hook(words)), None, "{words}");
        }
    }

    #[test]
    fn libraries_are_linked_in_memory_and_other_links_are_mounts() {
        let (lib, gbm) = ("/usr/lib/libcuda.so.570.86", "/usr/lib/libnvidia-allocator.so.570.86");
        let mounts = [bind(lib), bind(gbm), bind("/usr/bin/nvidia-smi")];
        let names = BTreeMap::from([
            (PathBuf::from(lib), "libcuda.so.1".to_owned()),
            (PathBuf::from(gbm), "libnvidia-allocator.so.1".to_owned()),
        ]);
        let link = |target: &str, link: &str| (PathBuf::from(target), PathBuf::from(link));
        let links = [
            link("libcuda.so.1", "/usr/lib/libcuda.so"),
            link("../libnvidia-allocator.so.1", "/usr/lib/gbm/nvidia-drm_gbm.so"),
            link("libcuda.so", "/usr/lib/libcuda-again.so"),
            link("nowhere.so", "/usr/lib/lost.so"),
            link("circle.so", "/usr/lib/circle.so"),
            link("../../../../etc/passwd", "/usr/lib/passwd.so"),
        ];
        let linked = plan_links(&mounts, &names, &links, &["/usr/lib".into()]);
        let shown: Vec<String> = linked
            .libraries
            .iter()
            .map(|(name, path)| format!("{name} {}", path.display()))
            .collect();
        assert_eq!(
            shown,
            [
                "libcuda-again.so /usr/lib/libcuda.so.570.86",
                "libcuda.so /usr/lib/libcuda.so.570.86",
                "libcuda.so.1 /usr/lib/libcuda.so.570.86",
                "libnvidia-allocator.so.1 /usr/lib/libnvidia-allocator.so.570.86",
            ]
        );
        let [Mount::Bind(mounted)] = linked.mounts.as_slice() else { panic!("{linked:?}") };
        assert_eq!(mounted.target, Path::new("/usr/lib/gbm/nvidia-drm_gbm.so"));
        assert_eq!(mounted.source, Path::new("/host/usr/lib/libnvidia-allocator.so.570.86"));
        assert_eq!(
            linked.lost,
            ["/usr/lib/lost.so", "/usr/lib/circle.so", "/usr/lib/passwd.so"].map(PathBuf::from)
        );
    }
}
