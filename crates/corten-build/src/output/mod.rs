//! Where the result of a build goes: into the store, or to files.
//!
//! `spec` and `annotation` parse what was asked for and touch nothing; `check` looks at the
//! destinations before the build begins; `write` carries out. The same build gives the same bytes of
//! every archive. A file has its name when it is complete; a directory is copied over, never
//! followed out of and nothing in it is deleted.

mod annotation;
mod local;
mod metadata;
mod push;
mod spec;
mod write;

#[cfg(test)]
mod tests;

pub use annotation::{Annotation, Subject};
pub use metadata::metadata;
pub(crate) use spec::fields as split_fields;
pub use spec::{
    ArchiveOutput, Destination, ImageOutput, LocalOutput, Output, Push, SpecError, TarOutput,
    check_platforms, parse_all,
};
pub use write::{OutputError, Request, Written, check, write};
