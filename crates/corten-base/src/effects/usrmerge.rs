//! What is left of the links of a merged `/usr`.
//!
//! All of them are there before the first package comes, as in every bootstrap of Debian, and the
//! script of usr-is-merged then removes those for other word sizes that no package came for.

use super::{Context, EffectError, of};
use crate::rootfs::RootfsError;

/// The links that the script looks at.
const WORD_SIZES: [&str; 4] = ["lib64", "lib32", "libo32", "libx32"];

/// Does what the script of usr-is-merged does.
pub(super) fn apply(context: &mut Context<'_, '_>) -> Result<(), EffectError> {
    if context.package("usr-is-merged").is_none() {
        return Ok(());
    }
    WORD_SIZES.iter().try_for_each(|name| remove_unowned(context, name)).or_else(of("usrmerge"))
}

fn remove_unowned(context: &mut Context<'_, '_>, name: &str) -> Result<(), RootfsError> {
    let folder = format!("usr/{name}");
    let is_owned = |path: &str| {
        let installed = context.packages.iter().filter(|package| package.is_installed);
        installed
            .flat_map(|package| &package.entries)
            .any(|entry| entry.path.as_bytes() == path.as_bytes())
    };
    let (link_is_owned, folder_is_owned) = (is_owned(name), is_owned(&folder));
    let rootfs = &mut *context.rootfs;
    if link_is_owned || !rootfs.has_name(name) {
        return Ok(());
    }
    rootfs.remove(name)?;
    if !folder_is_owned && rootfs.list(&folder).is_empty() {
        rootfs.remove(&folder)?;
    }
    Ok(())
}
