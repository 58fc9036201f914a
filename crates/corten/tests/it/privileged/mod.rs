//! Containers and RUN steps on the real kernel, by the program's own command line.

mod build;
mod interrupted;
mod rootless;
mod run;
