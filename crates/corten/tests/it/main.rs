//! The program as people use it: arguments in, exit code and text out.
#![forbid(unsafe_code)]

mod archives;
mod attestations;
mod checks;
mod images;
mod locks;
mod outputs;
mod platforms;
mod privileged;
mod sources;
mod usage;
mod world;
