//! Dockerfile text to a lossless tree.
//!
//! [`parse`] never fails and never panics: it gives a [`Dockerfile`] with instructions, the tokens
//! that cover every byte of the text, and diagnostics that each have a span. The grammar is that of
//! the `docker/dockerfile:1` frontend, quirks included, so that a file means here what it means
//! there.
//!
//! The other modules are the rest of the language: [`word`] expands variables, [`stages`] finds
//! build stages and global arguments, [`mount`] reads `RUN --mount` and its siblings, [`port`] reads
//! `EXPOSE`, [`ignore`] matches `.dockerignore`, [`glob`] matches wildcards of `COPY` and `ADD`.
//!
//! Nothing here touches a file, the environment or a clock.
#![forbid(unsafe_code)]

pub mod ast;
mod csv;
pub mod duration;
pub mod glob;
pub mod ignore;
pub mod mount;
mod parse;
pub mod port;
pub mod stages;
pub mod word;

pub use ast::*;
pub use parse::parse;

#[cfg(test)]
mod tests;
