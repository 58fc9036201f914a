//! Which steps a build knows, beyond those that it looked at.
//!
//! A step whose definition is known needs nothing of the stages that it takes files from, and they
//! are not evaluated. A cache that is exported with all steps shall have them all the same, or else
//! it would lose with every export what the build before it had made. So their keys are followed
//! from record to record, and no layer is fetched for it.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use corten_oci::digest::DiffId;
use corten_store::{CacheKey, Layer};

use super::{Slot, Solver, StageOutput, StepAt, all_below, definition_key};
use crate::cache::KnownStep;
use crate::diagnose::StepError;
use crate::error::BuildError;
use crate::graph::{Base, Op, StageId};

impl Solver<'_> {
    /// All steps that a cache could record, and which of them a target is made from.
    pub(super) fn known_steps(&self, target: StageId) -> Result<Vec<KnownStep>, BuildError> {
        if self.tools.all_steps {
            self.follow_stages().map_err(|error| self.step_failure(target, error))?;
        }
        let chain = self.chain_of(target);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.iter().map(|(stage, key, layer)| KnownStep {
            key: *key,
            layer: *layer,
            of_target: chain.contains(stage),
        });
        Ok(known.collect())
    }

    fn step_failure(&self, target: StageId, error: StepError) -> BuildError {
        match error {
            StepError::Store(error) => error.into(),
            error => {
                let stage = self.graph.stage(target);
                match stage.steps.first() {
                    Some(step) => drop(self.fail(step, &error)),
                    None => drop(error),
                }
                self.take_failure()
            }
        }
    }

    /// The target and the stages that it is made from.
    fn chain_of(&self, target: StageId) -> BTreeSet<StageId> {
        let mut chain = BTreeSet::new();
        let mut at = target;
        while chain.insert(at) {
            if let Base::Stage(parent) = &self.graph.stage(at).base {
                at = *parent;
            }
        }
        chain
    }

    /// Follows the stages that were not evaluated; a stage comes after those that it is made from.
    fn follow_stages(&self) -> Result<(), StepError> {
        let mut outputs: Vec<Option<Vec<DiffId>>> = Vec::new();
        for index in 0..self.graph.stages.len() {
            let id = StageId(index);
            let output = match self.evaluated(id) {
                Some(layers) => Some(layers),
                None => self.follow(id, &outputs)?,
            };
            outputs.push(output);
        }
        Ok(())
    }

    fn evaluated(&self, id: StageId) -> Option<Vec<DiffId>> {
        let slot = self.slots[id.0].0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*slot {
            Slot::Done(Ok(output)) => {
                Some(output.layers.iter().map(|layer| layer.diff_id).collect())
            }
            _ => None,
        }
    }

    /// Goes from step to step as long as each is known; `None` if not all are.
    fn follow(
        &self,
        id: StageId,
        outputs: &[Option<Vec<DiffId>>],
    ) -> Result<Option<Vec<DiffId>>, StepError> {
        let stage = self.graph.stage(id);
        let mut layers: Vec<DiffId> = match &stage.base {
            Base::Image { image: Some(image), .. } => {
                image.layers.iter().map(|layer| layer.diff_id).collect()
            }
            Base::Scratch | Base::Image { image: None, .. } => Vec::new(),
            Base::Stage(parent) => match outputs.get(parent.0) {
                Some(Some(layers)) => layers.clone(),
                _ => return Ok(None),
            },
        };
        if !self.may_know(stage) {
            return Ok(None);
        }
        for (step, defined) in stage.steps.iter().zip(&self.definitions.steps[id.0]) {
            let is_linked = matches!(&step.op, Op::Copy(copy) if copy.link);
            let key = if is_linked {
                // Its key has the directories that it goes to, and they are in the layers below.
                let Some(below) = self.layers(&layers)? else { return Ok(None) };
                let below = Arc::new(StageOutput::new(below));
                Self::definition_key(&StepAt { id, stage, step, defined }, &below)?
            } else {
                definition_key(defined, &all_below(layers.iter()))
            };
            let Some(layer) = self.record_of(&key)? else { return Ok(None) };
            self.note(id, &key, &layer);
            layers.push(layer);
        }
        Ok(Some(layers))
    }

    fn record_of(&self, key: &CacheKey) -> Result<Option<DiffId>, StepError> {
        if let Some(id) = self.tools.store.step(key)?.and_then(|record| record.layer) {
            return Ok(Some(id.diff_id()));
        }
        Ok(self.tools.imports.step(key, self.tools.reporter))
    }

    fn layers(&self, diff_ids: &[DiffId]) -> Result<Option<Vec<Layer>>, StepError> {
        let (store, imports) = (self.tools.store, self.tools.imports);
        let mut layers = Vec::new();
        for diff_id in diff_ids {
            let layer = match store.layer_pinned(diff_id)? {
                Some(layer) => Some(layer),
                None => imports.layer_by_diff_id(diff_id, store, self.tools.reporter),
            };
            let Some(layer) = layer else { return Ok(None) };
            layers.push(layer);
        }
        Ok(Some(layers))
    }
}
