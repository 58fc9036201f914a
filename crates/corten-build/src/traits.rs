//! What a build needs of its neighbours; the program passes it in.

use corten_diag::Stream;
use corten_oci::platform::Platform;
use corten_oci::reference::Reference;
use corten_store::Image;

use crate::run::{ExecError, RunOutcome, RunStep};

/// Gives base images, and knows what can be executed.
///
/// A build asks once for each base that its target needs, while it is planned and from one thread.
pub trait Bases: Sync {
    fn base(&self, image: &Reference, platform: &Platform) -> Result<Image, BaseError>;

    /// Says why programs of a platform cannot be executed here, if they cannot; asked before a base
    /// image that a `RUN` needs.
    fn can_execute(&self, platform: &Platform) -> Result<(), BaseError> {
        let host = Platform::host();
        if host.os == platform.os && host.architecture == platform.architecture {
            return Ok(());
        }
        Err(BaseError::new(
            format!("`{host}` has no way to execute programs of `{platform}`"),
            None,
        ))
    }
}

/// Why a base image cannot be had.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct BaseError {
    /// Lower case, no period: `no image golden.internal/x:1 in the store`.
    pub message: String,
    pub hint: Option<String>,
    #[source]
    pub source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl BaseError {
    /// An error without a cause of its own.
    pub fn new(message: impl Into<String>, hint: Option<String>) -> Self {
        Self { message: message.into(), hint, source: None }
    }
}

/// Carries out `RUN` steps; called from several threads.
pub trait Executor: Sync {
    /// Runs a step to its end and hands over what it writes as it comes.
    ///
    /// A program that fails is an outcome; an error is what kept the program from running.
    fn run(
        &self,
        step: &RunStep,
        output: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<RunOutcome, ExecError>;

    /// Lets the person at the terminal look around where a step failed, until they leave. The step's
    /// program is a shell. Called for one step of a build at most, after all others were stopped.
    fn shell(&self, step: &RunStep) -> Result<(), ExecError> {
        let reason = format!("no terminal for `{}`", step.args.join(" "));
        Err(ExecError::Unavailable { reason })
    }
}
