//! Records what the steps of a build fetch, compares it with a lock, and replays it; or keeps what
//! package managers download.
//!
//! ```text
//!  step, in a network of its own with loopback alone
//!    │  HTTP in absolute form, or CONNECT and TLS with a certificate of this build
//!    ▼
//!  serve()  one thread a connection ──► exchange()
//!                                         known in this build or by the lock ──► from the store
//!                                         else Upstream ──► hashed and stored on its way through
//! ```
//!
//! A [`Recorder`] is for one build; a [`StepRecorder`] is what one step speaks to. What was fetched
//! comes out as a list of [`Fetched`], which a lock file, a cached step and provenance are made of.
//!
//! With [`Policy::Cache`] nothing is recorded: packages are kept for other builds, everything else
//! is passed on; see `keep`.
//!
//! Invariants of a recorded build:
//! - One address has one content during a build: who asks again gets what the first one got.
//! - Nothing secret is recorded: no credentials of an address, no `Authorization`, no cookies, no
//!   signatures in queries. They reach the server they are meant for and nothing else.
//! - The last bytes of something that must be as the lock says are held back until its digest is
//!   known, so that a wrong file is never received whole.
//! - The key of the certificate authority is in memory only and ends with the build.
//!
//! What this crate is not: it knows no Dockerfile, no lock file format and no namespace; the
//! listening socket is given to it.
#![forbid(unsafe_code)]

mod address;
mod authority;
mod classify;
mod entry;
mod exchange;
pub mod fuzz;
mod http;
mod keep;
mod recorder;
mod serve;
mod upstream;

#[cfg(test)]
mod tests;

pub use address::recorded_url;
pub use classify::classify;
pub use entry::{Artifact, Class, Fetched, Kind, RequestKey};
pub use recorder::{Policy, RecordError, Recorder, Refusal, StepRecorder, Told};
pub use upstream::{
    HttpUpstream, Reach, Upstream, UpstreamError, UpstreamRequest, UpstreamResponse,
};

/// Where a recorder listens within the network of its step. Nothing else is in that network, so any
/// port would do; this one is assigned to nobody and below those that programs get by chance.
pub const LISTEN_PORT: u16 = 28653;

/// The largest thing that is fetched: model weights have some hundred GB at most in one file.
pub const BODY_BYTES_MAX: u64 = 512 << 30;
