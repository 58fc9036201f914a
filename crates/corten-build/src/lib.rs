//! From a Dockerfile to a graph, and from the graph to an image.
//!
//! ```text
//! BuildOptions ──► parse ──► plan()   pure but for the bases that it asks for ──► Graph
//!                                                                                  │
//!   solve()   demanded from the target backwards, stages in parallel               ▼
//!     per step:    key from definition, the layers below and the content that is read
//!                    ├─ known ──► the layer
//!                    └─ not   ──► copy: a function of trees │ run: the Executor ──► Store::commit
//!   output         configuration and manifest ──► Store::put_image, Store::tag
//!                  or archives, a tar or a directory ──► files
//! ```
//!
//! What this crate is not: it prints nothing, reads no environment, knows no registry. Base images
//! come from [`Bases`], `RUN` is carried out by an [`Executor`], and what happens is told to a
//! [`Reporter`].
//!
//! Invariants:
//! - The same Dockerfile, options, context and bases give the same image on every machine, as far as
//!   the programs in `RUN` do. Files of the context get the epoch as time and root as owner.
//! - `COPY` never mounts anything: it is computed as a tree and then written.
//! - The directory that a `RUN` writes to becomes the layer; nothing is copied afterwards.
//! - A wrong key is worse than a missed one: when in doubt, a step is done again.
#![forbid(unsafe_code)]

pub mod cache;
mod config;
mod contexts;
mod copy;
mod define;
mod diagnose;
mod epoch;
mod error;
mod execute;
mod export;
mod files;
pub mod fuzz;
pub mod graph;
mod key;
mod lock;
mod options;
pub mod output;
mod plan;
mod provenance;
pub mod recording;
pub mod remote;
mod run;
mod solve;
pub mod ssh;
mod traits;
pub mod verify;

#[cfg(test)]
mod tests;

use corten_diag::{Event, Reporter};
use corten_store::{Image, Store};

pub use copy::mode::{ModeChange, ModeError};
pub use corten_record as record;
pub use corten_runtime::Network;
pub use epoch::settle_epoch;
pub use error::{BuildError, Diagnosed};
pub use export::complete_history;
pub use graph::Graph;
pub use key::KEY_VERSION;
pub use options::{
    BuildOptions, Context, DOCKERFILE_BYTES_MAX, DeviceGrant, DockerfileText, Entitlements,
    IgnoreText, NamedContext, RunOptions, Secret,
};
pub use plan::plan as plan_dockerfile;
pub use plan::{ChangeError, change_config};
pub use provenance::{PREDICATE_TYPE as PROVENANCE_TYPE, ProvenanceMode};
pub use run::{
    Downloads, ExecError, OutOfMemory, RunOutcome, RunStep, RuntimeExecutor, StepLimits, StepMount,
    StepMountKind, StepTuning, Terminal,
};
pub use solve::{Target, Tools, solve, solve_targets};
pub use traits::{BaseError, Bases, Executor};

/// Plans a build; what is worth saying goes to the reporter.
pub fn plan(
    options: &BuildOptions,
    bases: &dyn Bases,
    reporter: &dyn Reporter,
) -> Result<Graph, BuildError> {
    let dockerfile = corten_dockerfile::parse(&options.dockerfile.text);
    let graph = plan_dockerfile(&dockerfile, options, Some(bases))?;
    for warning in &graph.warnings {
        reporter.report(Event::Diagnostic(warning.clone()));
    }
    for name in unknown_stages(&dockerfile, &options.no_cache_filter) {
        reporter.report(Event::Warning(format!(
            "no stage is called `{name}`: `--no-cache-filter` does nothing"
        )));
    }
    Ok(graph)
}

/// Builds the image of the first platform, stores it and gives it its names.
pub fn build(
    options: &BuildOptions,
    store: &Store,
    bases: &dyn Bases,
    executor: &dyn Executor,
    reporter: &dyn Reporter,
) -> Result<Image, BuildError> {
    let graph = plan(options, bases, reporter)?;
    let imports = cache::Imports::none();
    solve(
        &graph,
        options,
        &Tools { store, executor, reporter, imports: &imports, all_steps: false },
    )
}

/// Builds what outputs are then made of, for each platform; nothing gets a name.
pub fn build_targets(
    options: &BuildOptions,
    bases: &dyn Bases,
    tools: &Tools<'_>,
) -> Result<Vec<Target>, BuildError> {
    let graph = plan(options, bases, tools.reporter)?;
    solve_targets(&graph, options, tools)
}

/// Names and numbers that are no stage's.
fn unknown_stages<'n>(
    dockerfile: &corten_dockerfile::Dockerfile,
    names: &'n [String],
) -> Vec<&'n String> {
    let stages = corten_dockerfile::stages::stages(dockerfile).stages;
    let is_known = |name: &String| {
        stages.iter().any(|stage| match &stage.name {
            Some(own) => own.eq_ignore_ascii_case(name),
            None => stage.index.to_string() == *name,
        })
    };
    names.iter().filter(|name| !is_known(name)).collect()
}
