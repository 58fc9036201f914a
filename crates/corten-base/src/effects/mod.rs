//! What maintainer scripts would have done, done without running them.
//!
//! Each effect looks at what the packages brought and does its part if that is there; none is
//! switched by hand. Together they are a closed list, and [`crate::scripts`] says which script is
//! covered by which of them. [`VERSION`] changes when the result of any effect changes.

mod alternatives;
mod apt;
mod ca;
mod debconf;
mod der;
mod dpkg;
mod elf;
mod ldcache;
mod pam;
mod python;
mod system;
mod users;
mod usrmerge;
mod wheel;
mod zip;

use crate::filter::Filter;
use crate::recipe::Recipe;
use crate::rootfs::{Rootfs, RootfsError};
use crate::sources::Mirrors;
use crate::unpack::Unpacked;

pub(crate) use alternatives::parse_calls;

/// The version of the effects as a whole; part of the lock.
pub(crate) const VERSION: u32 = 2;

/// An effect that could not be had.
#[derive(Debug, thiserror::Error)]
pub enum EffectError {
    /// The root file system does not allow it.
    #[error("failed to apply the effect `{effect}`")]
    Rootfs {
        /// The effect.
        effect: &'static str,
        /// Why.
        #[source]
        source: RootfsError,
    },
    /// A file of a package is not what it must be.
    #[error("failed to apply the effect `{effect}`: `/{path}` {problem}")]
    Input {
        /// The effect.
        effect: &'static str,
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// What effects work on.
#[derive(Debug)]
pub(crate) struct Context<'c, 's> {
    pub(crate) rootfs: &'c mut Rootfs<'s>,
    /// The packages, ordered by name.
    pub(crate) packages: &'c [Unpacked],
    pub(crate) recipe: &'c Recipe,
    pub(crate) filter: &'c Filter,
    pub(crate) architecture: &'c str,
    /// The mirrors that apt in the image will use.
    pub(crate) mirrors: &'c Mirrors,
    /// Names of packages that were not asked for but needed.
    pub(crate) automatic: &'c [&'c str],
}

impl Context<'_, '_> {
    fn package(&self, name: &str) -> Option<&Unpacked> {
        self.packages.iter().find(|package| package.is_installed && package.name == name)
    }

    /// The triplet in the paths of libraries.
    fn triplet(&self) -> &'static str {
        match self.architecture {
            "arm64" => "aarch64-linux-gnu",
            _ => "x86_64-linux-gnu",
        }
    }
}

type Effect = fn(&mut Context<'_, '_>) -> Result<(), EffectError>;

/// All effects in the order in which they are applied: later ones see what earlier ones did.
const EFFECTS: [(&str, Effect); 13] = [
    ("usrmerge", usrmerge::apply),
    ("system", system::apply),
    ("users", users::apply),
    ("shells", system::shells),
    ("alternatives", alternatives::apply),
    ("pam", pam::apply),
    ("time-zone", system::time_zone),
    ("ca-certificates", ca::apply),
    ("python", python::apply),
    ("debconf", debconf::apply),
    ("apt", apt::apply),
    ("dpkg", dpkg::apply),
    ("ldcache", ldcache::apply),
];

/// Returns the names of all effects.
#[cfg(test)]
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    EFFECTS.iter().map(|(name, _)| *name)
}

/// Applies all effects.
pub(crate) fn apply(context: &mut Context<'_, '_>) -> Result<(), EffectError> {
    EFFECTS.iter().try_for_each(|(_, effect)| effect(context))
}

/// Puts the name of an effect around what the root file system refused.
fn of<T>(effect: &'static str) -> impl Fn(RootfsError) -> Result<T, EffectError> {
    move |source| Err(EffectError::Rootfs { effect, source })
}
