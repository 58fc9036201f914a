//! Whole builds on real stores, with an executor that only pretends.
//!
//! They write files that belong to root, so all but the world itself is below `privileged`.

mod privileged;
mod world;
