//! Containers and RUN steps on the real kernel, by the program's own command line.

mod agents;
mod attach;
mod boot;
mod build;
mod conformance;
mod cp;
mod devices;
mod doctor;
mod entitlements;
mod escape;
mod exec;
mod files;
mod interrupted;
mod isolation;
mod life;
mod links;
mod locks;
mod networks;
mod outputs;
mod pause;
mod platforms;
mod rootless;
mod run;
mod shell;
mod tuning;
mod volumes;
