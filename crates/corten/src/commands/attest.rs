//! `--provenance`, `--attest` and `--sbom` of `corten build`.

use corten_build::output::{Output, Request};
use corten_build::{BuildOptions, ProvenanceMode};
use corten_store::archive::Form;

use super::Context;
use crate::cli::BuildArgs;
use crate::error::CliError;

/// What is said when a list of packages is asked for.
const NO_SBOM: &str =
    "no SBOM is made of what a build installs; `--provenance` states its materials";

/// What one flag asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Provenance(Option<ProvenanceMode>),
    Sbom(bool),
}

/// Reads the flags; of several, the last one counts, as in buildx.
pub(super) fn provenance(
    context: &Context,
    arguments: &BuildArgs,
) -> Result<Option<ProvenanceMode>, CliError> {
    let mut mode = None;
    let mut wants_sbom = match &arguments.sbom {
        Some(text) => truth(text).unwrap_or(true),
        None => false,
    };
    let mut asked = Vec::new();
    if let Some(text) = &arguments.provenance {
        asked.push(provenance_of(text).ok_or_else(|| wrong("provenance", text))?);
    }
    for text in &arguments.attest {
        asked.push(attest_of(text).ok_or_else(|| wrong("attest", text))?);
    }
    for one in asked {
        match one {
            Asked::Provenance(asked) => mode = asked,
            Asked::Sbom(asked) => wants_sbom = asked,
        }
    }
    if wants_sbom && !arguments.shared.quiet {
        context.ui.warning(NO_SBOM);
    }
    Ok(mode)
}

/// Says it when a statement is asked for that has no place.
pub(super) fn check(
    context: &Context,
    arguments: &BuildArgs,
    options: &BuildOptions,
    request: &Request,
) {
    let has_place = |output: &Output| match output {
        Output::Archive(archive) => archive.form != Form::Docker,
        Output::Image(image) => image.push.is_some(),
        _ => false,
    };
    let is_kept = arguments.metadata_file.is_some() || request.outputs.iter().any(has_place);
    if options.provenance.is_some() && !is_kept && !arguments.shared.quiet {
        context.ui.warning(
            "the provenance is not kept: `type=oci`, `--push` and `--metadata-file` have a place for it",
        );
    }
}

fn wrong(flag: &str, text: &str) -> CliError {
    CliError::new(format!("`--{flag}={text}` is not known")).hint(
        "write `--provenance=true`, `--provenance=mode=max`, or `--attest type=provenance,mode=max`"
            .to_owned(),
    )
}

fn truth(text: &str) -> Option<bool> {
    match text {
        "true" | "1" => Some(true),
        "false" | "0" => Some(false),
        _ => None,
    }
}

/// `true`, `false`, or fields.
fn provenance_of(text: &str) -> Option<Asked> {
    match truth(text) {
        Some(true) => Some(Asked::Provenance(Some(ProvenanceMode::Min))),
        Some(false) => Some(Asked::Provenance(None)),
        None => fields(text.split(',')),
    }
}

/// `mode=min|max`, `disabled=BOOL`, and `version` and `builder-id`, which buildx knows.
fn fields<'a>(parts: impl Iterator<Item = &'a str>) -> Option<Asked> {
    let (mut mode, mut disabled) = (ProvenanceMode::Min, false);
    for part in parts {
        match part.split_once('=')? {
            ("mode", "min") => mode = ProvenanceMode::Min,
            ("mode", "max") => mode = ProvenanceMode::Max,
            ("disabled", value) => disabled = truth(value)?,
            ("version", "v1") | ("inline-only", _) => {}
            _ => return None,
        }
    }
    Some(Asked::Provenance((!disabled).then_some(mode)))
}

/// `type=provenance,…` or `type=sbom,…`.
fn attest_of(text: &str) -> Option<Asked> {
    let kind = text.split(',').find_map(|part| part.strip_prefix("type="))?;
    let others = text.split(',').filter(|part| !part.starts_with("type="));
    match kind {
        "provenance" => fields(others),
        "sbom" => {
            let disabled = others.filter_map(|part| part.strip_prefix("disabled=")).next_back();
            Some(Asked::Sbom(!disabled.and_then(truth).unwrap_or(false)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn provenance_is_asked_for_as_in_buildx() {
        let min = Some(Asked::Provenance(Some(ProvenanceMode::Min)));
        let max = Some(Asked::Provenance(Some(ProvenanceMode::Max)));
        let none = Some(Asked::Provenance(None));
        for (text, expected) in [
            ("true", min),
            ("false", none),
            ("mode=min", min),
            ("mode=max", max),
            ("mode=max,version=v1", max),
            ("mode=max,disabled=true", none),
            ("mode=all", None),
            ("version=v0.2", None),
            ("yes", None),
        ] {
            assert_eq!(provenance_of(text), expected, "{text}");
        }
    }

    #[test]
    fn attestations_have_a_type() {
        let max = Asked::Provenance(Some(ProvenanceMode::Max));
        assert_eq!(attest_of("type=provenance,mode=max"), Some(max));
        assert_eq!(attest_of("mode=max,type=provenance"), Some(max));
        assert_eq!(attest_of("type=sbom,generator=x"), Some(Asked::Sbom(true)));
        assert_eq!(attest_of("type=sbom,disabled=true"), Some(Asked::Sbom(false)));
        assert_eq!(attest_of("type=vex"), None);
        assert_eq!(attest_of("mode=max"), None);
    }
}
