//! Contexts of a build that are no directories of the host.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use corten_build::NamedContext;
use corten_build::recording::Recording;
use corten_build::remote::{
    MainContext, OpenedContext, RemoteError, Remotes, is_http, without_credentials,
};
use corten_build::ssh::{HostSocket, SshAgent};
use corten_diag::{Event, Reporter};
use corten_oci::platform::Platform;
use corten_store::archive::{self, LoadOptions};
use corten_store::{Image, Store};

use super::{Context, ssh};
use crate::cli::SharedArgs;
use crate::error::CliError;
use crate::fetch;
use crate::ui::Ui;

/// What a build takes that is no directory of the host; it is there as long as this value.
#[derive(Debug)]
pub(super) struct Opened {
    /// The main context; `None` for a directory.
    pub(super) context: Option<OpenedContext>,
    /// Images of OCI layouts, by the text of their flag.
    layouts: BTreeMap<String, Vec<Image>>,
    /// Protects their layers from being removed meanwhile.
    store: Option<Store>,
    /// How more is fetched, with the agent that was given.
    pub(super) remotes: Remotes,
    /// Agents by id.
    pub(super) agents: BTreeMap<String, SshAgent>,
    /// Answers `git`.
    #[expect(dead_code, reason = "it is held, not read")]
    agent: Option<HostSocket>,
}

impl Opened {
    /// Reads one `--build-context`.
    pub(super) fn named(&self, text: &str) -> Result<(String, NamedContext), CliError> {
        match (self.layouts.get(text), text.split_once('=')) {
            (Some(image), Some((name, _))) => {
                Ok((name.to_owned(), NamedContext::Found(image.clone())))
            }
            _ => named(text),
        }
    }
}

/// Opens what must be read or fetched before the Dockerfile is known.
/// `recording` says what a context that is fetched is compared with; it is asked only then.
pub(super) fn open(
    context: &Context,
    arguments: &SharedArgs,
    recording: &dyn Fn() -> Result<Recording, CliError>,
) -> Result<Opened, CliError> {
    let agents = ssh::agents(context, &arguments.agents)?;
    let mut remotes = fetch::remotes(&context.settings);
    let agent = ssh::for_git(context, &agents, &mut remotes)?;
    for text in &arguments.secrets {
        let (id, secret) = super::build::secret(context, text)?;
        remotes.secrets.insert(id, secret);
    }
    let main = open_main(context, arguments, &remotes, recording)?;
    let layouts = BTreeMap::new();
    let mut opened = Opened { context: main, layouts, store: None, remotes, agents, agent };
    let mut platforms = platforms(&arguments.platforms)?;
    if platforms.is_empty() {
        platforms.push(Platform::host());
    }
    for text in &arguments.build_contexts {
        let Some((_, value)) = text.split_once('=') else { continue };
        let Some(layout) = value.strip_prefix("oci-layout://") else { continue };
        let store = match opened.store.take() {
            Some(store) => store,
            None => context.store()?,
        };
        let (path, chosen) = layout_parts(layout);
        let mut images = Vec::new();
        for platform in &platforms {
            let options = LoadOptions::new(platform.clone());
            images.push(archive::load_one(&store, Path::new(path), &options, chosen)?);
        }
        opened.layouts.insert(text.clone(), images);
        opened.store = Some(store);
    }
    Ok(opened)
}

/// Reads the platforms of a build; each counts once.
pub(super) fn platforms(texts: &[String]) -> Result<Vec<Platform>, CliError> {
    let mut platforms: Vec<Platform> = Vec::new();
    for text in texts {
        let platform: Platform = text.trim().parse()?;
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    Ok(platforms)
}

/// `DIR[:TAG][@DIGEST]`; the digest goes before the tag.
fn layout_parts(text: &str) -> (&str, Option<&str>) {
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest)),
        None => (text, None),
    };
    match rest.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
        Some((path, tag)) => (path, digest.or(Some(tag))),
        None => (rest, digest),
    }
}

/// Opens the main context when it is a stream or lies elsewhere; `None` for a directory.
fn open_main(
    context: &Context,
    arguments: &SharedArgs,
    remotes: &Remotes,
    recording: &dyn Fn() -> Result<Recording, CliError>,
) -> Result<Option<OpenedContext>, CliError> {
    let file = arguments.file.as_deref();
    let told_by = Talk { ui: &context.ui, quiet: arguments.quiet };
    let off = Recording::Off;
    if arguments.context.as_os_str() == "-" {
        if file.is_some_and(|path| path.as_os_str() == "-") {
            let message = "standard input cannot be both the context and the Dockerfile";
            return Err(CliError::new(message)
                .hint("give the context as a directory, or `--file` as a path in it".to_owned()));
        }
        let mut reader = std::io::stdin().lock();
        let name = "the context on standard input".to_owned();
        let from = MainContext::Stream { name, reader: &mut reader };
        let store = context.store()?;
        return told(OpenedContext::open(from, remotes, &store, &told_by, &off)).map(Some);
    }
    let Some(text) = arguments.context.to_str() else { return Ok(None) };
    let Some(source) = fetch::source(text)? else { return Ok(None) };
    let recording = recording()?;
    let store = context.store()?;
    let from = MainContext::Remote(source);
    told(OpenedContext::open(from, remotes, &store, &told_by, &recording)).map(Some)
}

/// Gives an error its hint.
pub(super) fn told<T>(result: Result<T, RemoteError>) -> Result<T, CliError> {
    result.map_err(|error| {
        let hint = error.hint();
        CliError::new(error).hint(hint)
    })
}

/// `NAME=DIR`, or an address, an image, a stage.
pub(super) fn named(text: &str) -> Result<(String, NamedContext), CliError> {
    let form = || {
        let shown = without_credentials(text);
        CliError::new(format!(
            "`--build-context {shown}` is not `NAME=DIR|URL|docker-image://IMAGE`"
        ))
        .hint("for example `--build-context models=../models`".to_owned())
    };
    let (name, value) = text.split_once('=').ok_or_else(form)?;
    if name.is_empty() || value.is_empty() {
        return Err(form());
    }
    let name = name.to_owned();
    if let Some(image) = value.strip_prefix("docker-image://") {
        return Ok((name, NamedContext::Image(image.parse()?)));
    }
    if let Some(stage) = value.strip_prefix("target:") {
        return Ok((name, NamedContext::Stage(stage.to_owned())));
    }
    if let Some(source) = fetch::source(value)? {
        return Ok((name, NamedContext::Remote(source)));
    }
    if value.contains("://") && !is_http(value) {
        return Err(form());
    }
    corten_sys::file::metadata(Path::new(value))?;
    Ok((name, NamedContext::Directory(PathBuf::from(value))))
}

/// Says what is fetched, before there is a Dockerfile that progress could be about.
struct Talk<'a> {
    ui: &'a Ui,
    quiet: bool,
}

impl Reporter for Talk<'_> {
    fn report(&self, event: Event) {
        if let (Event::Notice(text), false) = (event, self.quiet) {
            self.ui.note(&text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_further_context_is_told_by_its_form() {
        let of = |text: &str| named(text).map(|(_, context)| context);
        assert!(matches!(of("base=docker-image://python:3.11"), Ok(NamedContext::Image(_))));
        assert!(matches!(of("d=/"), Ok(NamedContext::Directory(_))));
        assert!(matches!(of("d=target:one"), Ok(NamedContext::Stage(_))));
        for text in ["d=https://a.test/b", "d=https://a.test/b.git#x:y", "d=git@a.test:b"] {
            assert!(matches!(of(text), Ok(NamedContext::Remote(_))), "{text}");
        }
        for text in ["d", "=x", "d=", "d=ftp://a.test/b", "d=/no/such/directory"] {
            assert!(of(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_image_of_a_layout_is_named_by_tag_or_digest() {
        assert_eq!(layout_parts("dir"), ("dir", None));
        assert_eq!(layout_parts("a:b/dir:v1"), ("a:b/dir", Some("v1")));
        assert_eq!(layout_parts("dir@sha256:0"), ("dir", Some("sha256:0")));
        assert_eq!(layout_parts("dir:v1@sha256:0"), ("dir", Some("sha256:0")));
    }
}
