//! Checks of a Dockerfile.
//!
//! ```text
//! text ─► corten_dockerfile::parse ─► Model ─► each Rule of RULES ─► Report
//!                      Request, Surroundings ──┘        ▲
//!                      # check=…, build argument ──► Config
//! ```
//!
//! A [`Model`] is the file with its stages resolved as a build would resolve them: words expanded,
//! triggers put in their place, what a stage inherits carried over. A rule is a pure function over
//! it that gives findings; [`RULES`] is the table of them. Whether a finding counts is decided in one
//! place, by the [`Config`] of the file and by the comments before the instruction.
//!
//! The rules of today are those of the frontend's own build checks: they have the same names and
//! fire at the same places. Other sets of rules go into the same table.
//!
//! What this crate is not: it does not say whether a file can be built. What stands behind the first
//! mistake is not looked at. It reads no file, no store and no environment: what it needs to know of
//! images and names it asks [`Surroundings`].
#![forbid(unsafe_code)]

mod config;
mod expand;
mod model;
mod outline;
mod report;
mod request;
mod rules;
mod targets;
mod walk;

#[cfg(test)]
mod tests;

pub use config::{Choice, Config, ConfigError};
pub use model::{Model, Step};
pub use outline::{Outline, Parameter, Wanted, outline};
pub use report::{Report, check, join};
pub use request::{BaseImage, PlatformName, Request, Surroundings};
pub use rules::{RULES, Rule, named as rule};
pub use targets::{Target, targets};
