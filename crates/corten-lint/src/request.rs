//! What a check is asked about, and what it asks back.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use corten_dockerfile::ignore::Ignore;

/// What a build of the file would be given.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    pub build_args: BTreeMap<String, String>,
    /// The stage that is built; none for the last.
    pub target: Option<String>,
    /// Looks into stages that the target does not need, too.
    pub all_stages: bool,
    /// The platform of this machine.
    pub host: PlatformName,
    /// The platform that is built for.
    pub platform: PlatformName,
    /// The ignore file of the context.
    pub ignore: Option<&'a Ignore>,
    /// Names of further contexts; a stage of such a name is not looked into.
    pub contexts: BTreeSet<String>,
    /// Takes the place of the file's `check` directive.
    pub options: Option<String>,
}

/// A platform, its names normalised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformName {
    pub os: String,
    pub architecture: String,
    pub variant: Option<String>,
}

impl fmt::Display for PlatformName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// What an image gives to a stage that begins with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BaseImage {
    pub env: Vec<(String, String)>,
    /// A `SHELL` was set.
    pub has_shell: bool,
    /// The triggers, as texts of instructions.
    pub on_build: Vec<String>,
    pub platform: Option<PlatformName>,
}

/// What lies outside of the file.
pub trait Surroundings {
    /// The image of that name; none when it is not known here.
    fn base(&self, image: &str, platform: &PlatformName) -> Option<BaseImage>;
    /// Whether the text could be the name of an image.
    fn is_image_name(&self, text: &str) -> bool;
    /// The platform that the text names.
    fn platform(&self, text: &str) -> Option<PlatformName>;
}
