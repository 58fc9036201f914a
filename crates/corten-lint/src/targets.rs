//! What of a file can be built.

use corten_diag::Span;
use corten_dockerfile::stages::Stages;
use corten_dockerfile::{Dockerfile, Kind, Word};

/// One stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    pub name: Option<String>,
    /// It is built when none is asked for.
    pub is_default: bool,
    /// From the comment before it.
    pub description: Option<String>,
    /// The image, as written.
    pub base: String,
    /// The platform, as written.
    pub platform: Option<String>,
    /// The place of its `FROM`.
    pub place: Span,
}

/// Lists the stages of a file, in order.
pub fn targets(file: &Dockerfile, stages: &Stages) -> Vec<Target> {
    let last = stages.stages.len().saturating_sub(1);
    let target = |stage: &corten_dockerfile::stages::Stage| {
        let from = file.instructions.get(stage.from)?;
        let Kind::From { platform, image, .. } = &from.kind else { return None };
        let name = stage.name.clone();
        Some(Target {
            description: name.as_deref().and_then(|name| description(&from.comments, name)),
            name,
            is_default: stage.index == last,
            base: image.text.clone(),
            platform: platform.as_ref().map(|platform| platform.text.clone()),
            place: from.span,
        })
    };
    stages.stages.iter().filter_map(target).collect()
}

/// The rest of the first comment that begins with the name.
pub(crate) fn description(comments: &[Word], name: &str) -> Option<String> {
    let rest =
        |comment: &Word| comment.text.strip_prefix(name)?.strip_prefix(' ').map(ToOwned::to_owned);
    comments.iter().find_map(rest).filter(|_| !name.is_empty())
}
