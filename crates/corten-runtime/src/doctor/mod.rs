//! Whether containers can run on this host, and what to install or change.
//!
//! [`Facts::gather`] looks and tries, [`judge`] decides; nothing is decided while looking.

mod facts;
mod judge;

#[cfg(test)]
mod tests;

pub use facts::{Driver, Facts, Ids, Space, Tried};
pub use judge::{Check, Verdict, judge};
