//! Decides how the root file system is put together.

use std::path::Path;

use super::identity::Identity;
use crate::error::PlanError;
use crate::facts::HostFacts;
use crate::spec::ContainerSpec;
use crate::steps::{Overlay, OverlayMethod, RootStep, Upper};

pub(super) fn plan(
    spec: &ContainerSpec,
    facts: &HostFacts,
    identity: Identity<'_>,
) -> Result<RootStep, PlanError> {
    let rootfs = &spec.rootfs;
    for path in rootfs.lowers.iter().chain(&rootfs.upper).chain(&rootfs.work) {
        absolute("layer", path)?;
    }
    let upper = match (&rootfs.upper, &rootfs.work) {
        (Some(upper), Some(work)) => Upper::Directory { upper: upper.clone(), work: work.clone() },
        (None, None) => Upper::Memory,
        _ => return Err(PlanError::UpperWithoutWork),
    };
    let map_owners = identity.maps_owners() && !rootfs.keep_owners;
    if rootfs.lowers.is_empty() {
        return match upper {
            Upper::Directory { upper, .. } => Ok(RootStep::Directory { path: upper, map_owners }),
            Upper::Memory => Err(PlanError::NoLayers),
        };
    }
    Ok(RootStep::Overlay(Overlay {
        lowers: rootfs.lowers.clone(),
        upper,
        map_owners,
        owner: identity.outside(0, 0).0,
        options: options(spec, facts),
        // Layers as detached mounts: overlayfs takes descriptors from 6.13 on, of detached mounts
        // from 6.15 on.
        method: if facts.kernel_at_least(6, 15) {
            OverlayMethod::Descriptors
        } else {
            OverlayMethod::Paths
        },
    }))
}

/// What the upper directory holds must mean the same as a layer, for every kernel's defaults.
fn options(spec: &ContainerSpec, facts: &HostFacts) -> Vec<(String, Option<String>)> {
    let mut options = Vec::new();
    if facts.is_rootless() {
        // It implies the three below and refuses to be told so.
        options.push(("userxattr".to_owned(), None));
    } else {
        for key in ["redirect_dir", "metacopy", "index"] {
            options.push((key.to_owned(), Some("off".to_owned())));
        }
    }
    if spec.rootfs.volatile && facts.kernel_at_least(5, 10) {
        options.push(("volatile".to_owned(), None));
    }
    options
}

pub(super) fn absolute(what: &'static str, path: &Path) -> Result<(), PlanError> {
    use std::path::Component;
    if !path.is_absolute() {
        return Err(PlanError::RelativePath { what, path: path.to_owned() });
    }
    if path.components().any(|component| component == Component::ParentDir) {
        return Err(PlanError::ParentInPath { what, path: path.to_owned() });
    }
    if path.as_os_str().as_encoded_bytes().contains(&0) {
        let text = path.display().to_string();
        return Err(PlanError::NulByte { what, text });
    }
    Ok(())
}
