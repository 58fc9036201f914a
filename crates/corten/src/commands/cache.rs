//! `--cache-from` and `--cache-to` of `corten build`.

use corten_build::cache::{
    self, CacheFrom, CacheSpecError, CacheTo, ExportPlace, Exported, ImportPlace, Imports, Mode,
};
use corten_build::output::{Annotation, Output, Request};
use corten_build::{BuildOptions, Target, Tools};
use corten_diag::Event;
use corten_oci::reference::Reference;
use corten_registry::Client;

use super::Context;
use crate::cli::BuildArgs;
use crate::error::CliError;
use crate::ui;

/// The build argument by which Docker asks for `type=inline`.
const INLINE_ARGUMENT: &str = "BUILDKIT_INLINE_CACHE";

/// What the flags ask for.
pub(super) struct Caches {
    from: Vec<CacheFrom>,
    to: Vec<CacheTo>,
}

impl Caches {
    /// Reads the flags.
    pub(super) fn of(arguments: &BuildArgs, options: &BuildOptions) -> Result<Self, CliError> {
        let wrong = |flag: &'static str| {
            move |error: CacheSpecError| {
                let hint = error.hint();
                CliError::new(Flag { flag, error }).hint(hint)
            }
        };
        let mut caches = Self { from: Vec::new(), to: Vec::new() };
        for spec in &arguments.cache_from {
            caches.from.push(CacheFrom::parse(spec).map_err(wrong("cache-from"))?);
        }
        for spec in &arguments.cache_to {
            caches.to.push(CacheTo::parse(spec).map_err(wrong("cache-to"))?);
        }
        if !arguments.tls_verify {
            caches.trust_all();
        }
        let is_inline = |to: &CacheTo| to.place == ExportPlace::Inline;
        let asked = options.build_args.get(INLINE_ARGUMENT).is_some_and(|value| value == "1");
        if asked && !caches.to.iter().any(is_inline) {
            caches.to.push(CacheTo::inline());
        }
        Ok(caches)
    }

    /// Refuses a cache that would take the place of the image under its own name.
    pub(super) fn check(&self, outputs: &Request) -> Result<(), CliError> {
        let place = |name: &Reference| {
            let tag = name.tag().unwrap_or("latest").to_owned();
            (name.registry().to_owned(), name.repository().to_owned(), tag)
        };
        let pushed = outputs.outputs.iter().filter_map(|output| match output {
            Output::Image(image) if image.push.is_some() => Some(&image.names),
            _ => None,
        });
        let names: Vec<_> =
            pushed.flat_map(|own| own.iter().chain(&outputs.names)).map(place).collect();
        for to in &self.to {
            let ExportPlace::Registry { reference, .. } = &to.place else { continue };
            if names.contains(&place(reference)) {
                let name = reference.familiar();
                let message = format!("the cache `{name}` would replace the image of that name");
                let hint = "give the cache a tag of its own, such as `cache`, or keep it in the \
                            image with `--cache-to type=inline`";
                return Err(CliError::new(message).hint(hint.to_owned()));
            }
        }
        Ok(())
    }

    fn trust_all(&mut self) {
        for from in &mut self.from {
            if let ImportPlace::Registry { insecure, .. } = &mut from.place {
                *insecure = true;
            }
        }
        for to in &mut self.to {
            if let ExportPlace::Registry { insecure, .. } = &mut to.place {
                *insecure = true;
            }
        }
    }

    /// Names the caches that are taken from.
    pub(super) fn imports(&self, client: &Client) -> Imports {
        Imports::new(&self.from, client)
    }

    /// Whether steps that need not be looked at are wanted too.
    pub(super) fn wants_all_steps(&self) -> bool {
        self.to.iter().any(|to| to.mode == Mode::Max)
    }

    /// What goes into the images themselves.
    pub(super) fn annotations(&self, targets: &[Target]) -> Vec<Annotation> {
        let is_inline = |to: &CacheTo| to.place == ExportPlace::Inline;
        let targets = if self.to.iter().any(is_inline) { targets } else { &[] };
        targets.iter().map(cache::inline_annotation).collect()
    }

    /// Exports what the build made.
    pub(super) fn export(
        &self,
        options: &BuildOptions,
        targets: &[Target],
        tools: &Tools<'_>,
        client: &Client,
    ) -> Result<Vec<Exported>, CliError> {
        let Tools { store, imports, reporter, .. } = *tools;
        let own = store.cache_mounts_dir();
        let mounts_directory = options.run.cache_directory.as_ref().unwrap_or(&own);
        let steps: Vec<_> =
            targets.iter().flat_map(|target| target.steps.iter().cloned()).collect();
        let mounts = targets.first().map(|target| target.mounts.as_slice()).unwrap_or_default();
        let export = cache::Export {
            steps: &steps,
            mounts,
            mounts_directory,
            store,
            imports,
            client,
            reporter,
        };
        let mut exported = Vec::new();
        for to in &self.to {
            match cache::export(to, &export) {
                Ok(done) => exported.extend(done),
                Err(error) if to.ignore_error => {
                    let warning = format!("the cache was not exported: {}", error.with_causes());
                    reporter.report(Event::Warning(warning));
                }
                Err(error) => {
                    let hint = error.hint();
                    return Err(CliError::new(error).hint(hint));
                }
            }
        }
        Ok(exported)
    }
}

/// Says what was exported.
pub(super) fn report(context: &Context, arguments: &BuildArgs, exported: &[Exported]) {
    if arguments.shared.quiet {
        return;
    }
    for done in exported {
        let count = |count: usize, what: &str| {
            format!("{count} {what}{}", if count == 1 { "" } else { "s" })
        };
        context.ui.status(&format!(
            "cache {}  {}, {}, {}  {}, {} new",
            done.place,
            count(done.steps, "record"),
            count(done.layers, "layer"),
            count(done.mounts, "cache mount"),
            ui::bytes(done.bytes),
            ui::bytes(done.new_bytes),
        ));
    }
}

/// A value of a flag that cannot be read; the specification says why.
#[derive(Debug, thiserror::Error)]
#[error("failed to read `--{flag}`: {error}")]
struct Flag {
    flag: &'static str,
    error: CacheSpecError,
}
