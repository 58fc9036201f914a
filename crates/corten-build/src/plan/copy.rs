//! `COPY` and `ADD`.

use corten_diag::{Diagnostic, Span};
use corten_dockerfile::{Add, Copy, InlineFile as InlineWord, Instruction, Word, word};

use super::instruction::Dispatcher;
use super::{PlanResult, Planned, Scope, error};
use crate::config::LayerMade;
use crate::copy::mode::ModeChange;
use crate::copy::select::clean;
use crate::graph::{CopyOp, InlineFile, Input, Op, SourceWord};
use crate::remote::{Source, without_credentials};

/// What both instructions have.
struct Common<'a> {
    keyword: &'static str,
    sources: &'a [Word],
    files: &'a [InlineWord],
    dest: &'a Word,
    chown: Option<&'a Word>,
    chmod: Option<&'a Word>,
    excludes: &'a [Word],
    link: bool,
    parents: bool,
}

pub(super) fn plan_copy(
    dispatcher: &mut Dispatcher<'_, '_>,
    planned: &mut Planned,
    each: &Instruction,
    copy: &Copy,
) -> PlanResult<()> {
    let input = match &copy.from {
        Some(from) => {
            if word::variables(&from.text, dispatcher.planner.escape).is_empty() {
                dispatcher.input(&from.text, from.span)?
            } else {
                let diagnostic = Diagnostic::error("variables do not work in `--from`");
                let hint = "give the image a name with `FROM image AS name` and copy from that";
                return Err(Box::new(diagnostic.at(from.span).with_hint(hint)));
            }
        }
        None => Input::Context,
    };
    let common = Common {
        keyword: "COPY",
        sources: &copy.sources,
        files: &copy.files,
        dest: &copy.dest,
        chown: copy.chown.as_ref(),
        chmod: copy.chmod.as_ref(),
        excludes: &copy.excludes,
        link: copy.link,
        parents: copy.parents,
    };
    let op = plan_common(dispatcher, planned, input, &common)?;
    for source in &op.sources {
        if is_remote(&source.text) {
            let diagnostic = Diagnostic::error("`COPY` cannot take a URL").at(source.span);
            return Err(Box::new(diagnostic.with_hint("`ADD` is the instruction for it")));
        }
    }
    dispatcher.push(planned, each, Op::Copy(op));
    Ok(())
}

pub(super) fn plan_add(
    dispatcher: &mut Dispatcher<'_, '_>,
    planned: &mut Planned,
    each: &Instruction,
    add: &Add,
) -> PlanResult<()> {
    let common = Common {
        keyword: "ADD",
        sources: &add.sources,
        files: &add.files,
        dest: &add.dest,
        chown: add.chown.as_ref(),
        chmod: add.chmod.as_ref(),
        excludes: &add.excludes,
        link: add.link,
        parents: false,
    };
    let mut op = plan_common(dispatcher, planned, Input::Context, &common)?;
    op.unpack = add.unpack.unwrap_or(true);
    op.unpack_remote = add.unpack.unwrap_or(false);
    let scope = Scope::new(&planned.variables, dispatcher.planner.escape);
    let checksum = add.checksum.as_ref().map(|word| scope.expand(word)).transpose()?;
    let checksum = checksum.as_deref().zip(add.checksum.as_ref().map(|word| word.span));
    for source in &mut op.sources {
        source.remote = remote(source, add.keep_git_dir, checksum)?.map(Input::Remote);
        if source.remote.is_some() {
            // From here on the text is only shown.
            source.text = without_credentials(&source.text);
        }
    }
    if let Some((_, span)) = checksum {
        match op.sources.as_slice() {
            [one] if one.remote.is_some() => {}
            [one] if one.remote.is_none() => {
                return error("`--checksum` is only for sources that are fetched", span);
            }
            _ => return error("`--checksum` needs exactly one source", span),
        }
    }
    let is_git = |source: &SourceWord| matches!(source.remote, Some(Input::Remote(Source::Git(_))));
    if add.keep_git_dir == Some(true) && !op.sources.iter().any(is_git) {
        return error("`--keep-git-dir` is only for sources that are git repositories", each.span);
    }
    dispatcher.push(planned, each, Op::Copy(op));
    Ok(())
}

/// What a source names elsewhere, if it does.
fn remote(
    source: &SourceWord,
    keep_git_dir: Option<bool>,
    checksum: Option<(&str, Span)>,
) -> PlanResult<Option<Source>> {
    let shown = without_credentials(&source.text);
    let failed = |cause: &dyn std::fmt::Display, span: Span| {
        Box::new(Diagnostic::error(format!("failed to use `{shown}`: {cause}")).at(span))
    };
    let parsed = Source::parse(&source.text).map_err(|cause| failed(&cause, source.span))?;
    let Some(mut parsed) = parsed else { return Ok(None) };
    match (&mut parsed, checksum) {
        (Source::Http(http), Some((text, span))) => {
            http.checksum = Some(text.parse().map_err(|cause| failed(&cause, span))?);
        }
        (Source::Git(git), Some((text, span))) => {
            git.set_commit(text).map_err(|cause| failed(&cause, span))?;
        }
        (_, None) => {}
    }
    if let (Source::Git(git), Some(keep)) = (&mut parsed, keep_git_dir) {
        git.keep_git_dir = keep;
    }
    Ok(Some(parsed))
}

fn plan_common(
    dispatcher: &Dispatcher<'_, '_>,
    planned: &mut Planned,
    input: Input,
    common: &Common<'_>,
) -> PlanResult<CopyOp> {
    let scope = Scope::new(&planned.variables, dispatcher.planner.escape);
    let mut sources = Vec::new();
    for word in common.sources {
        let text = scope.expand(word)?;
        sources.push(SourceWord { text, span: word.span, literal: false, remote: None });
    }
    let written = scope.expand(common.dest)?;
    let optional = |word: Option<&Word>| word.map(|word| scope.expand(word)).transpose();
    let (owner, chmod) = (optional(common.chown)?, optional(common.chmod)?);
    let owner = owner.filter(|owner| !owner.is_empty());
    let chmod = chmod.filter(|chmod| !chmod.is_empty());
    let mode = match (&chmod, common.chmod) {
        (Some(text), Some(word)) => match ModeChange::parse(text) {
            Ok(mode) => Some(mode),
            Err(cause) => return error(cause.to_string(), word.span),
        },
        _ => None,
    };
    // As in BuildKit, these are taken as they are written.
    let excludes = common.excludes.iter().map(|word| word.text.clone()).collect();
    let inline = common.files.iter().map(|file| inline(file, &scope)).collect::<PlanResult<_>>()?;
    let created_by = created_by(common, &sources, owner.as_deref(), chmod.as_deref(), &written);
    let dest = destination(planned.config.working_dir(), &written);
    planned.config.add_history(created_by, LayerMade::Yes);
    Ok(CopyOp {
        input,
        sources,
        inline,
        dest,
        owner,
        mode,
        link: common.link,
        parents: common.parents,
        excludes,
        unpack: false,
        unpack_remote: false,
    })
}

fn inline(file: &InlineWord, scope: &Scope<'_>) -> PlanResult<InlineFile> {
    let content = if file.expand {
        let lookup = |name: &str| scope.lookup(name);
        word::expand_heredoc(&file.content, &lookup)
            .map_err(|cause| Box::new(Diagnostic::error(cause.message).at(file.span)))?
    } else {
        file.content.clone()
    };
    if file.name.contains('/') || file.name.is_empty() || file.name == ".." || file.name == "." {
        return inline_name(&file.name, file.span);
    }
    Ok(InlineFile { name: file.name.clone(), content })
}

fn inline_name<T>(name: &str, span: Span) -> PlanResult<T> {
    error(format!("`{name}` cannot be the name of a file"), span)
}

/// The text in the history, in BuildKit's order.
fn created_by(
    common: &Common<'_>,
    sources: &[SourceWord],
    owner: Option<&str>,
    chmod: Option<&str>,
    dest: &str,
) -> String {
    let mut text = common.keyword.to_owned();
    if common.parents {
        text.push_str(" --parents");
    }
    if let Some(owner) = owner {
        text.push_str(&format!(" --chown={owner}"));
    }
    if let Some(chmod) = chmod {
        text.push_str(&format!(" --chmod={chmod}"));
    }
    for source in sources {
        text.push_str(&format!(" {}", without_credentials(&source.text)));
    }
    for file in common.files {
        text.push_str(&format!(" <<{}", file.name));
    }
    text.push_str(&format!(" {dest} # buildkit"));
    text
}

/// Makes a destination absolute; a slash or a dot at its end says that it is a directory.
fn destination(working_dir: &str, dest: &str) -> String {
    let joined =
        if dest.starts_with('/') { dest.to_owned() } else { format!("{working_dir}/{dest}") };
    let is_directory =
        dest.is_empty() || dest.ends_with('/') || dest == "." || dest.ends_with("/.");
    let clean = clean(&joined);
    let clean = String::from_utf8_lossy(&clean);
    match (clean.is_empty(), is_directory) {
        (true, _) => "/".to_owned(),
        (false, true) => format!("/{clean}/"),
        (false, false) => format!("/{clean}"),
    }
}

/// Whether a source is fetched rather than copied.
fn is_remote(source: &str) -> bool {
    const SCHEMES: [&str; 5] = ["http://", "https://", "git://", "ssh://", "git@"];
    SCHEMES.iter().any(|scheme| source.starts_with(scheme))
}
