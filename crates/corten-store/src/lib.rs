//! The local content store: blobs, layers, images, references, build cache, leases, clean-up.
//!
//! Plain files below one directory, without a database and without a daemon. What this crate is not:
//! it never fetches anything, mounts nothing and decides nothing about images.
//!
//! # Layout
//!
//! ```text
//! ROOT/
//!   FORMAT                       version and features; written last when a store is made
//!   lock/gc                      see "Concurrency"
//!   blobs/sha256/ab/cdef…        configurations, manifests and other content, by digest
//!   layers/<diff id>/tree/       one layer as a directory, ready as an overlay lower directory
//!   layers/<diff id>/meta.json   what is known about it
//!   layers/<diff id>/recipe.zst  only for imported layers: everything of their tar but content
//!   layers/<diff id>/aside/      only for odd imported layers: content that the tar replaces itself
//!   images/<config hex>.json     an image: its manifest and layers
//!   indexes/<digest hex>.json    an index: the images of several platforms
//!   refs/<escaped name>.json     a name for an image or an index
//!   steps/ab/<key>.json          build cache: a step and the layer that it made
//!   aux/<kind>/<key hex>         small caches; may vanish at any time
//!   aux/downloads/<address hex>  what an address had; keeps its blob
//!   holds/<name>.json            what outlives processes: the layers of existing containers
//!   leases/<id>                  what a live process uses; locked while it lives
//!   tmp/<lease>/                 work in progress of that process
//!   containers/                  belongs to the container commands
//!   volumes/<name>/              directories that outlive containers
//!   networks/<name>.json         what containers are on
//!   caches/<name>                a directory of `RUN --mount=type=cache`
//!   caches/<name>.linked/        the same while steps have it as a part of their root
//!   caches/<name>.lock           held by who uses it
//! ```
//!
//! # Invariants
//!
//! 1. A name outside `tmp/` appears only by rename of something complete; see "Durability" for what
//!    is synced before. What is in `tmp/` may be deleted once its lease is dead.
//! 2. The name of a blob is its digest and the name of a layer is its DiffID, so two processes that
//!    make the same thing make the same name, and losing that race is success.
//! 3. Bytes from outside are hashed while they are read and have a limit before they are read.
//! 4. A layer's files never change once it has its name.
//!
//! # Durability
//!
//! A killed process loses nothing that it was promised, since the page cache outlives it. Power is
//! another matter, and there are two classes:
//!
//! - *Durable*: blobs, images, indexes, names, holds and containers. Each is synced before its name appears,
//!   and then its directory, in the order in which they need each other. A name that moves stands
//!   for the old image or the new one, never for none.
//! - *Volatile*: layers, cached steps and small caches. They are not synced, since all of them can be
//!   made again and each shows by itself whether it is whole. A torn step or cache reads as a miss.
//!   The `meta.json` of a layer names the boot that made it; another boot proves the layer before its
//!   first use by hashing it against its name, and then notes that the disk has it. If power failed
//!   before the kernel had written it, some seconds after it was made, the layer is absent: a cache
//!   miss, or an image that says what it lacks and must be pulled or built again. Never is torn
//!   content taken for whole.
//!
//! [`Store::settle`] makes layers durable when there is time. So a build that changes one line waits
//! for the disk only for its image and its name, whatever its layers hold.
//!
//! # Concurrency
//!
//! Any number of processes use a store at once. `lock/gc` is held shared in the short windows in
//! which something appears or is pinned, and exclusively by [`Store::gc`] and [`Store::fsck`] while
//! they decide. What a process uses is listed in its lease, whose lock the kernel releases when the
//! process dies; collection keeps what live leases list and removes the leavings of dead ones.

#![forbid(unsafe_code)]

pub mod archive;
mod aside;
mod aux;

mod blobs;
mod cache_mounts;
mod changes;
mod containers;
mod downloads;
mod emit;
mod error;
mod events;
mod fsck;
mod gc;
mod images;
mod indexes;
mod layer;
mod layout;
mod lease;
mod linked;
mod merged;
mod networks;
mod recipe;
mod refs;
mod seal;
mod snapshot;
mod staging;
mod steps;
mod store;
mod unpack;
mod usage;
mod volumes;
mod walk;
mod write;

#[cfg(test)]
mod tests;

pub use blobs::Expect;
pub use cache_mounts::CacheMounts;
pub use changes::{Change, ChangeKind};
pub use containers::{
    Container, ContainerRecord, ContainerState, HeldFiles, RunningContainer, current_record,
};
pub use downloads::{Download, Downloads};
pub use error::StoreError;
pub use events::{Actor, Event, EventKind, Journal};
pub use fsck::{FsckReport, Problem, Repair};
pub use gc::{GcPolicy, GcReport};
pub use images::Image;
pub use indexes::{ImageIndex, Member, NewMember};
pub use layer::{Layer, LayerId, overlay_lowers};
pub use lease::Lease;
pub use linked::LinkedCache;
pub use merged::{Merged, MergedEntry};
pub use networks::{ContainerNetwork, NetworkRecord, NetworkShape};
pub use refs::{Found, TagTarget, Tagged};
pub use seal::Seal;
pub use snapshot::{Links, Resolved, Snapshot, SnapshotEntry};
pub use staging::Staging;
pub use steps::{CacheKey, StepRecord};
pub use store::{Host, Store, StoreOptions};
pub use usage::Usage;
pub use volumes::{Filling, Volume};
