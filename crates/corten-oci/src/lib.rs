//! The nouns of images: digests, references, platforms, manifests, configs, trees and layer tars.
//!
//! Everything here is a value or a function on values and on `Read`/`Write`. There are no files, no
//! clock and no network, so that every part can be fuzzed and compared.
//!
//! Invariants:
//! - Bytes from outside are read under the maxima in [`limits`], and no input panics.
//! - [`tar::Writer`] is canonical: the same tree gives the same bytes on every machine, for ever. A
//!   golden digest in the tests holds it to that.
//! - [`digest::Digest`], [`digest::DiffId`] and [`digest::ImageId`] are different types since they
//!   are the most confused values of this field.

#![forbid(unsafe_code)]

pub mod attestation;
pub mod digest;
pub mod fuzz;
pub mod image;
pub mod json;
pub mod limits;
pub mod platform;
pub mod reference;
pub mod tar;
pub mod time;
pub mod tree;
