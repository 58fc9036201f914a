//! What is mounted into a container: directories of the host, memory, and volumes.

use std::path::{Path, PathBuf};

use corten_runtime::options::{self, MountSource, VolumeMount, VolumeSource};
use corten_runtime::{BindMount, BindOptions, Mount};
use corten_store::{Filling, Image, Store};

use super::options::existing;
use crate::cli::ContainerArgs;
use crate::commands::flag;
use crate::error::CliError;

/// A volume that a container has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct UsedVolume {
    pub name: String,
    /// It was made for this container, and goes with it where that is asked for.
    pub anonymous: bool,
    target: PathBuf,
    copies: bool,
}

impl UsedVolume {
    /// Makes it, and fills it with what the image has there, unless it is in use already.
    pub(super) fn make(&self, store: &Store, image: &Image) -> Result<(), CliError> {
        let filling = self.copies.then_some(Filling { image, target: &self.target });
        Ok(store.use_volume(&self.name, self.anonymous, filling)?)
    }
}

/// What the flags and the image ask for.
pub(super) struct Mounts<'a> {
    store: &'a Store,
    mounts: Vec<Mount>,
    volumes: Vec<UsedVolume>,
}

impl<'a> Mounts<'a> {
    /// Reads the flags and the image's `VOLUME`s. Mounts come with those that contain others first.
    pub(super) fn of(
        arguments: &ContainerArgs,
        image: &Image,
        store: &'a Store,
        cwd: &Path,
    ) -> Result<(Vec<Mount>, Vec<UsedVolume>), CliError> {
        let mut all = Self { store, mounts: Vec::new(), volumes: Vec::new() };
        for text in &arguments.volumes {
            match flag("volume", options::parse_volume(text, cwd))? {
                VolumeSource::Host(mount) => all.mounts.push(Mount::Bind(existing(mount)?)),
                VolumeSource::Volume(volume) => all.volume(volume)?,
            }
        }
        for text in &arguments.mounts {
            match flag("mount", options::parse_mount(text, cwd))? {
                MountSource::Mount(Mount::Bind(mount)) => {
                    all.mounts.push(Mount::Bind(existing(mount)?));
                }
                MountSource::Mount(mount) => all.mounts.push(mount),
                MountSource::Volume(volume) => all.volume(volume)?,
            }
        }
        for text in &arguments.tmpfs {
            all.mounts.push(Mount::Tmpfs(flag("tmpfs", options::parse_tmpfs(text))?));
        }
        for path in &image.config.config.volumes {
            let target: PathBuf = Path::new("/").join(path).components().collect();
            if target != Path::new("/") && all.mounts.iter().all(|known| at(known) != target) {
                all.volume(VolumeMount { name: None, target, readonly: false, copies: true })?;
            }
        }
        all.mounts.sort_by_key(|mount| at(mount).components().count());
        Ok((all.mounts, all.volumes))
    }

    fn volume(&mut self, volume: VolumeMount) -> Result<(), CliError> {
        let VolumeMount { name, target, readonly, copies } = volume;
        let anonymous = name.is_none();
        let name = name.unwrap_or_else(super::new_id);
        let source = self.store.volume_data(&name)?;
        let options = BindOptions::default();
        let bind =
            BindMount { source, target: target.clone(), readonly, recursive: false, options };
        self.mounts.push(Mount::Bind(bind));
        self.volumes.push(UsedVolume { name, anonymous, target, copies });
        Ok(())
    }
}

fn at(mount: &Mount) -> &Path {
    match mount {
        Mount::Bind(bind) => &bind.target,
        Mount::Tmpfs(tmpfs) => &tmpfs.target,
    }
}
