//! One stage: what it begins with, the triggers of that, and its instructions.

use corten_diag::{Diagnostic, Span, suggest};
use corten_dockerfile::{Instruction, Kind};
use corten_oci::platform::Platform;
use corten_oci::reference::Reference;
use corten_store::Image;

use super::scope::Variables;
use super::{PlanResult, Planned, Planner, error, instruction};
use crate::config::{LayerMade, StageConfig};
use crate::graph::{Base, CopyOp, Input, Op, Place, SourceWord, Stage, Step};
use crate::options::NamedContext;

/// Plans the stage with this number in the file.
pub(super) fn plan_stage(planner: &mut Planner<'_>, index: usize) -> PlanResult<Planned> {
    let file_stage = &planner.file_stages[index];
    let (from, image) = (file_stage.from, file_stage.image);
    let instructions = file_stage.instructions;
    let name = file_stage.name.map_or_else(|| index.to_string(), ToOwned::to_owned);
    let place = Place { span: from.span, trigger: None };
    let platform = stage_platform(planner, index)?;
    let base_name = planner.expand_global(image)?;
    if base_name.is_empty() {
        let message = format!("the base image `{}` expands to nothing", image.text);
        let hint = "declare the argument before the first `FROM` and give it a value";
        return Err(Box::new(Diagnostic::error(message).at(image.span).with_hint(hint)));
    }
    check_runs(planner, index, &base_name, platform.as_ref())?;
    let override_of_stage = planner.file_stages[index].name.and_then(|n| planner.named_context(n));
    let mut planned = match override_of_stage {
        Some((context_name, context)) => {
            // The whole stage is replaced by a further context of its name.
            let named = (context_name, context);
            let mut planned = begin_from_context(planner, index, named, platform.as_ref(), place)?;
            planned.stage.name = name;
            planned.stage.config = planned.config.image.clone();
            return Ok(planned);
        }
        None => begin(planner, index, &base_name, platform.as_ref(), place)?,
    };
    planned.stage.name = name;
    planned.platform = platform.unwrap_or(planned.platform);
    let triggers = std::mem::take(&mut planned.triggers);
    for trigger in &triggers {
        let parsed = parse_trigger(trigger, from.span)?;
        for triggered in &parsed {
            let dispatcher = instruction::Dispatcher {
                planner,
                index,
                trigger: Some((trigger.as_str(), from.span)),
            };
            dispatcher.dispatch(&mut planned, triggered)?;
        }
    }
    for each in instructions {
        instruction::Dispatcher { planner, index, trigger: None }.dispatch(&mut planned, each)?;
    }
    planned.triggers.clone_from(&planned.config.image.config.on_build);
    planned.stage.config = planned.config.image.clone();
    Ok(planned)
}

/// Refuses programs that cannot be executed here before the base image is made or anything is run.
fn check_runs(
    planner: &Planner<'_>,
    index: usize,
    base_name: &str,
    platform: Option<&Platform>,
) -> PlanResult<()> {
    let is_run = |instruction: &&Instruction| matches!(instruction.kind, Kind::Run(_));
    let Some(run) = planner.file_stages[index].instructions.iter().find(is_run) else {
        return Ok(());
    };
    let span = run.span;
    let platform = match (platform, planner.stage_by_name(base_name, index)) {
        (Some(platform), _) => platform.clone(),
        (None, Some(parent)) => continued_platform(planner, parent)?,
        (None, None) => planner.platform.clone(),
    };
    planner.check_can_run(&platform, span)
}

/// The platform of a stage that another one continues.
fn continued_platform(planner: &Planner<'_>, index: usize) -> PlanResult<Platform> {
    if let Some(platform) = stage_platform(planner, index)? {
        return Ok(platform);
    }
    let base_name = planner.expand_global(planner.file_stages[index].image)?;
    match planner.stage_by_name(&base_name, index) {
        Some(parent) => continued_platform(planner, parent),
        None => Ok(planner.platform.clone()),
    }
}

fn stage_platform(planner: &Planner<'_>, index: usize) -> PlanResult<Option<Platform>> {
    let Some(word) = planner.file_stages[index].platform else { return Ok(None) };
    let text = planner.expand_global(word)?;
    if text.is_empty() {
        return error(format!("the platform `{}` expands to nothing", word.text), word.span);
    }
    match text.parse() {
        Ok(platform) => Ok(Some(platform)),
        Err(cause) => error(format!("{cause}"), word.span),
    }
}

/// Begins a stage with what `FROM` names: another stage, a context, `scratch`, or an image.
fn begin(
    planner: &mut Planner<'_>,
    index: usize,
    name: &str,
    platform: Option<&Platform>,
    place: Place,
) -> PlanResult<Planned> {
    if let Some(parent) = planner.stage_by_name(name, index) {
        let id = planner.plan_file_stage(parent)?;
        return Ok(begin_from_stage(planner, id, place));
    }
    let span = planner.file_stages[index].image.span;
    if let Some(named) = planner.named_context(name) {
        return begin_from_context(planner, index, named, platform, place);
    }
    let wanted = platform.cloned().unwrap_or_else(|| planner.platform.clone());
    if name == "scratch" {
        return Ok(begin_from_scratch(planner, &wanted, place));
    }
    begin_from_image(planner, name, &wanted, Place { span, ..place })
}

fn begin_from_scratch(planner: &Planner<'_>, platform: &Platform, place: Place) -> Planned {
    let epoch = planner.epoch.unwrap_or(0);
    let config = StageConfig::scratch(platform, epoch);
    planned(Base::Scratch, config, platform.clone(), epoch, place)
}

fn begin_from_stage(planner: &Planner<'_>, id: crate::graph::StageId, place: Place) -> Planned {
    let parent = &planner.stages[id.0];
    let config = parent.config.continued();
    let base = Base::Stage(id);
    let mut planned = planned(base, config, parent.platform.clone(), parent.stage.epoch, place);
    // A stage sees the arguments of the stage that it continues.
    let mut variables = parent.variables.clone();
    for (name, value) in planned.variables.pairs() {
        variables.set(name, value);
    }
    planned.variables = variables;
    planned.args.clone_from(&parent.args);
    planned.triggers.clone_from(&parent.triggers);
    planned
}

fn begin_from_context(
    planner: &mut Planner<'_>,
    index: usize,
    (name, context): (&str, &NamedContext),
    platform: Option<&Platform>,
    place: Place,
) -> PlanResult<Planned> {
    let wanted = platform.cloned().unwrap_or_else(|| planner.platform.clone());
    match context {
        NamedContext::Directory(_) | NamedContext::Remote(_) => {
            Ok(begin_from_files(planner, name, &wanted, place))
        }
        NamedContext::Stage(stage) => {
            let span = planner.file_stages[index].image.span;
            let parent = planner.context_stage(stage, span)?;
            if parent >= index {
                let message = format!("the stage `{stage}` is not there yet");
                return error(message, span);
            }
            let id = planner.plan_file_stage(parent)?;
            Ok(begin_from_stage(planner, id, place))
        }
        NamedContext::Image(reference) => {
            begin_from_image(planner, &reference.to_string(), &wanted, place)
        }
        NamedContext::Found(images) => begin_from_found(planner, name, images, &wanted, place),
    }
}

/// Begins with the files of a context: a step of its own copies them.
fn begin_from_files(
    planner: &Planner<'_>,
    name: &str,
    platform: &Platform,
    place: Place,
) -> Planned {
    let mut planned = begin_from_scratch(planner, platform, place.clone());
    let title = format!("FROM {name}");
    planned.config.add_history(format!("{title} # buildkit"), LayerMade::Yes);
    let source = SourceWord { text: "/".to_owned(), span: place.span, literal: true, remote: None };
    let op = Op::Copy(CopyOp {
        input: Input::Named(name.to_owned()),
        sources: vec![source],
        inline: Vec::new(),
        dest: "/".to_owned(),
        owner: None,
        mode: None,
        link: false,
        parents: false,
        excludes: Vec::new(),
        unpack: false,
        unpack_remote: false,
    });
    planned.stage.steps.push(Step { number: 0, title, place, op });
    planned
}

/// Begins a stage with an image; its place is where it is named.
pub(super) fn begin_from_image(
    planner: &mut Planner<'_>,
    text: &str,
    platform: &Platform,
    place: Place,
) -> PlanResult<Planned> {
    let span = place.span;
    let reference: Reference = match text.parse() {
        Ok(reference) => reference,
        Err(cause) => return Err(near_stage(planner, text, format!("{cause}"), span)),
    };
    let Some(bases) = planner.bases else {
        let epoch = planner.epoch.unwrap_or(0);
        let config = StageConfig::from_image(&StageConfig::scratch(platform, epoch).image, epoch);
        let base = Base::Image { reference: reference.clone(), image: None };
        let mut planned = planned(base, config, platform.clone(), epoch, place);
        planned.stage.name = reference.familiar();
        return Ok(planned);
    };
    let key = (reference.to_string(), platform.clone());
    let known = planner.known_bases.get(&key).cloned();
    let image = match known.map_or_else(|| bases.base(&reference, platform), Ok) {
        Ok(image) => image,
        Err(cause) => {
            let mut diagnostic = near_stage(planner, text, cause.message.clone(), span);
            diagnostic.notes.extend(crate::diagnose::causes(&cause));
            if let Some(hint) = cause.hint {
                diagnostic.hint = Some(hint);
            }
            return Err(diagnostic);
        }
    };
    planner.known_bases.insert(key, image.clone());
    begin_with(planner, &reference, image, platform, place)
}

/// Begins a stage with an image that a further context is.
pub(super) fn begin_from_found(
    planner: &mut Planner<'_>,
    name: &str,
    images: &[Image],
    platform: &Platform,
    place: Place,
) -> PlanResult<Planned> {
    let fits = |image: &&Image| platform.accepts(&image.config.platform());
    let Some(image) = images.iter().find(fits).or(images.first()) else {
        return error(format!("the context `{name}` has no image"), place.span);
    };
    match name.parse() {
        Ok(reference) => begin_with(planner, &reference, image.clone(), platform, place),
        Err(cause) => {
            error(format!("the context `{name}` has no usable name: {cause}"), place.span)
        }
    }
}

/// Begins a stage with an image that is there.
fn begin_with(
    planner: &mut Planner<'_>,
    reference: &Reference,
    image: Image,
    platform: &Platform,
    place: Place,
) -> PlanResult<Planned> {
    check_platform(planner, reference, &image, platform, place.span)?;
    let created = image.config.created.as_deref().and_then(corten_oci::time::parse_rfc3339);
    // Go writes the year 1 for a time that is not known.
    let epoch = planner.epoch.or(created.filter(|seconds| *seconds > 0)).unwrap_or(0);
    let mut config = StageConfig::from_image(&image.config, epoch);
    crate::export::complete_history(&mut config.image, image.layers.len());
    let triggers = image.config.config.on_build.clone();
    let platform = image.config.platform();
    let base = Base::Image { reference: reference.clone(), image: Some(Box::new(image)) };
    let mut planned = planned(base, config, platform, epoch, place);
    planned.stage.name = reference.familiar();
    planned.triggers = triggers;
    Ok(planned)
}

/// Refuses a base for another platform than the one asked for; if none was asked for, the base decides
/// and it is said.
fn check_platform(
    planner: &mut Planner<'_>,
    reference: &Reference,
    image: &Image,
    wanted: &Platform,
    span: Span,
) -> PlanResult<()> {
    let (found, wanted) = (image.config.platform().normalised(), wanted.normalised());
    let is_known = !found.architecture.is_empty();
    if !is_known || (&found.os, &found.architecture) == (&wanted.os, &wanted.architecture) {
        return Ok(());
    }
    let name = reference.familiar();
    let message = format!("the image `{name}` is for `{found}` and not for `{wanted}`");
    if !planner.options.platforms.is_empty() || wanted != planner.host.normalised() {
        let hint = format!("load or build `{name}` for `{wanted}`, or leave the platform out");
        return Err(Box::new(Diagnostic::error(message).at(span).with_hint(hint)));
    }
    planner.warnings.push(Diagnostic::warning(message).at(span));
    Ok(())
}

/// An error about an image; a stage of nearly that name may have been meant.
fn near_stage(planner: &Planner<'_>, text: &str, message: String, span: Span) -> Box<Diagnostic> {
    let names: Vec<&str> = planner.file_stages.iter().filter_map(|stage| stage.name).collect();
    let diagnostic = Diagnostic::error(message).at(span);
    Box::new(match suggest::nearest(text, &names) {
        Some(near) => diagnostic.with_hint(format!("did you mean the stage `{near}`?")),
        None => diagnostic,
    })
}

fn planned(
    base: Base,
    config: StageConfig,
    platform: Platform,
    epoch: i64,
    place: Place,
) -> Planned {
    let mut variables = Variables::default();
    for variable in &config.image.config.env {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        variables.set(name, value);
    }
    let stage = Stage {
        name: String::new(),
        platform: platform.clone(),
        built_for: Vec::new(),
        base,
        steps: Vec::new(),
        epoch,
        config: config.image.clone(),
        place,
    };
    Planned { stage, config, variables, args: Vec::new(), platform, triggers: Vec::new() }
}

/// Reads a trigger: one instruction of the few that may be one.
fn parse_trigger(text: &str, span: Span) -> PlanResult<Vec<Instruction>> {
    let parsed = corten_dockerfile::parse(text);
    let at_from = |message: String| {
        let diagnostic = Diagnostic::error(message).at(span);
        Box::new(diagnostic.with_note(format!("in the trigger `{text}` of the base image")))
    };
    if let Some(first) = parsed.diagnostics.iter().find(|diagnostic| diagnostic.is_error()) {
        return Err(at_from(first.message.clone()));
    }
    match parsed.instructions.as_slice() {
        [one] if matches!(one.kind, Kind::From { .. } | Kind::OnBuild(_) | Kind::Maintainer(_)) => {
            Err(at_from(format!("`{}` cannot be a trigger", one.name)))
        }
        [_] => Ok(parsed.instructions),
        _ => Err(at_from("a trigger must be one instruction".to_owned())),
    }
}
