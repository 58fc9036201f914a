//! The plans for several platforms become one.
//!
//! A stage that is the same for two platforms is there once: what `FROM --platform=$BUILDPLATFORM`
//! begins and no `TARGETARCH` distinguishes is done once and for all.

use std::collections::BTreeMap;

use crate::graph::{Base, Graph, GraphTarget, Input, Op, RunMountKind, Stage, StageId};

/// Joins plans of the same Dockerfile, each with one target; the order of the targets stays.
pub(super) fn merge(plans: Vec<Graph>) -> Option<Graph> {
    let mut plans = plans.into_iter();
    let first = plans.next()?;
    let mut merged = Graph { stages: Vec::new(), targets: Vec::new(), ..first.clone() };
    let mut known: BTreeMap<String, StageId> = BTreeMap::new();
    for plan in std::iter::once(first).chain(plans) {
        let mut places: Vec<StageId> = Vec::new();
        for mut stage in plan.stages {
            move_inputs(&mut stage, &places);
            let built_for = std::mem::take(&mut stage.built_for);
            // Everything of a stage is in its text for debugging, the layers of its base included.
            let id = *known.entry(format!("{stage:?}")).or_insert(StageId(merged.stages.len()));
            if id.0 == merged.stages.len() {
                merged.stages.push(stage);
            }
            for platform in built_for {
                let known = &mut merged.stages[id.0].built_for;
                if !known.contains(&platform) {
                    known.push(platform);
                }
            }
            places.push(id);
        }
        let moved = |target: GraphTarget| GraphTarget { stage: places[target.stage.0], ..target };
        merged.targets.extend(plan.targets.into_iter().map(moved));
        for warning in plan.warnings {
            if !merged.warnings.contains(&warning) {
                merged.warnings.push(warning);
            }
        }
    }
    Some(merged)
}

/// Lets a stage refer to the stages that it needs where they are now; they come before it.
fn move_inputs(stage: &mut Stage, places: &[StageId]) {
    if let Base::Stage(id) = &mut stage.base {
        *id = places[id.0];
    }
    for step in &mut stage.steps {
        match &mut step.op {
            Op::Copy(copy) => {
                move_input(&mut copy.input, places);
                for source in &mut copy.sources {
                    if let Some(input) = &mut source.remote {
                        move_input(input, places);
                    }
                }
            }
            Op::Run(run) => {
                for mount in &mut run.mounts {
                    match &mut mount.kind {
                        RunMountKind::Bind { input, .. }
                        | RunMountKind::Cache { seed: Some((input, _)), .. } => {
                            move_input(input, places);
                        }
                        _ => {}
                    }
                }
            }
            Op::Workdir(_) => {}
        }
    }
}

fn move_input(input: &mut Input, places: &[StageId]) {
    if let Input::Stage(id) = input {
        *id = places[id.0];
    }
}
