//! The program as people use it: arguments in, exit code and text out.
#![forbid(unsafe_code)]

mod archives;
mod images;
mod privileged;
mod usage;
mod world;
