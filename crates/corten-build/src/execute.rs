//! One step is carried out: a staging directory is filled and becomes a layer.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};

use corten_diag::{Diagnostic, Event};
use corten_record::Fetched;
use corten_store::{Layer, Seal};

use crate::copy::owner::{self, Databases};
use crate::copy::select::Selection;
use crate::copy::{self, CopyError, Copying, Place};
use crate::define::Contexts;
use crate::diagnose::StepError;
use crate::files::{Directories, Files};
use crate::graph::{CopyOp, Graph, Input, Op, Stage, Step, WorkdirOp};
use crate::options::BuildOptions;
use crate::recording::Session;
use crate::run;
use crate::run::downloads::DownloadCache;
use crate::solve::{StageOutput, Tools};

/// How overlayfs marks an opaque directory.
const OPAQUE: &[u8] = b"trusted.overlay.opaque";

/// The same within a user namespace.
const OPAQUE_IN_USER_NAMESPACE: &[u8] = b"user.overlay.opaque";

/// Everything that one step needs.
pub(crate) struct Execution<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) options: &'a BuildOptions,
    pub(crate) tools: &'a Tools<'a>,
    pub(crate) contexts: &'a Contexts,
    pub(crate) stage: &'a Stage,
    pub(crate) step: &'a Step,
    /// The layers below.
    pub(crate) below: &'a StageOutput,
    /// The stages that files come from, in the order of the inputs.
    pub(crate) inputs: &'a [Option<Arc<StageOutput>>],
    /// What is taken, in the same order.
    pub(crate) selections: &'a [Option<Arc<Selection>>],
    pub(crate) cancelled: &'a Arc<AtomicBool>,
    /// What the build has warned of already.
    pub(crate) told: &'a Mutex<BTreeSet<String>>,
    /// Set when what is fetched is recorded.
    pub(crate) session: Option<&'a Session<'a>>,
    /// Set when downloads are kept for other builds.
    pub(crate) downloads: Option<&'a DownloadCache<'a>>,
}

/// What a step made.
pub(crate) struct Made {
    pub(crate) layer: Layer,
    /// What it fetched, if that was recorded.
    pub(crate) fetched: Option<Vec<Fetched>>,
}

impl Execution<'_> {
    /// Warns of something that is the same for every step, once a build.
    pub(crate) fn warn_once(&self, text: &str) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.insert(text.to_owned()) {
            self.tools.reporter.report(Event::Warning(text.to_owned()));
        }
    }

    /// Makes the layer.
    pub(crate) fn run(&self) -> Result<Made, StepError> {
        let layer = match &self.step.op {
            Op::Copy(op) => self.copy(op)?,
            Op::Workdir(op) => self.workdir(op)?,
            Op::Run(op) => return run::step::run(self, op),
        };
        Ok(Made { layer, fetched: None })
    }

    fn copy(&self, op: &CopyOp) -> Result<Layer, StepError> {
        let staging = self.tools.store.stage()?;
        let selection = self.selections.first().and_then(Option::as_deref);
        let empty = Selection::default();
        let keeps_metadata = matches!(op.input, Input::Stage(_));
        let owner = op.owner.as_deref().map(|owner| self.owner(owner)).transpose()?;
        let selection = selection.unwrap_or(&empty);
        let files = self.below.files()?;
        let directories = Directories::new(files);
        let is_linked = op.link && copy::directories_below(op, selection, files)?.is_some();
        let below: &dyn Files = if is_linked { &directories } else { files };
        let place = self.place(staging.tree(), staging.work());
        copy::copy(&Copying { op, selection, keeps_metadata, below, owner }, &place)?;
        Ok(self.tools.store.commit(staging, &self.seal())?)
    }

    fn workdir(&self, op: &WorkdirOp) -> Result<Layer, StepError> {
        let staging = self.tools.store.stage()?;
        let owner = match op.user.as_str() {
            "" => None,
            user => Some(self.owner(user)?),
        };
        let place = self.place(staging.tree(), staging.work());
        copy::workdir(op, self.below.files()?, owner, &place)?;
        Ok(self.tools.store.commit(staging, &self.seal())?)
    }

    /// The ids of an owner by the image's own user database.
    fn owner(&self, owner: &str) -> Result<(u32, u32), StepError> {
        let databases = if owner::is_numeric(owner) {
            Databases::default()
        } else {
            Databases::read(self.below.files()?.snapshot())?
        };
        let owner = owner::resolve(&databases, owner).map_err(CopyError::from)?;
        if self.below.layers.is_empty()
            && let Some(error) = owner.unknown.first()
        {
            // As in BuildKit: with nothing below there is nobody to ask.
            return Err(CopyError::from(error.clone()).into());
        }
        for error in &owner.unknown {
            let message = format!("{error}: the files get the owner {}:{}", owner.uid, owner.gid);
            let mut warning = Diagnostic::warning(message).at(self.step.place.span);
            warning.hint = error.hint();
            self.tools.reporter.report(Event::Diagnostic(warning));
        }
        Ok((owner.uid, owner.gid))
    }

    pub(crate) fn place<'p>(
        &self,
        tree: &'p std::path::Path,
        spool: &'p std::path::Path,
    ) -> Place<'p> {
        let in_user_namespace = self.tools.store.in_user_namespace();
        let opaque = if in_user_namespace { OPAQUE_IN_USER_NAMESPACE } else { OPAQUE };
        Place { tree, spool, opaque, epoch: self.stage.epoch }
    }

    pub(crate) fn seal(&self) -> Seal<'static> {
        Seal { epoch: Some(self.stage.epoch), drop: &[] }
    }
}
