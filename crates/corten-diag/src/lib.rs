//! What Corten tells people.
//!
//! This crate holds the values that every engine uses to talk: places in a text ([`Span`],
//! [`SourceFile`]), messages about such places ([`Diagnostic`]), what happens while an engine works
//! ([`Event`], [`Reporter`]), and the renderers that turn a diagnostic into text or JSON.
//!
//! It is pure: it prints nothing, reads no file and no clock, and it knows nothing of images. Who
//! prints, and whether with colour, is decided in the program's `ui`.
#![forbid(unsafe_code)]

mod diagnostic;
mod event;
pub mod render;
mod source;
mod span;
pub mod suggest;

pub use diagnostic::{Diagnostic, Label, Severity};
pub use event::{Collect, Event, Outcome, Reporter, Silent, StepId, Stream, Unit};
pub use source::{Position, SourceFile};
pub use span::{Span, Spanned};

#[cfg(test)]
mod tests;
