//! Where a name in `FROM` leads: the store, the `[images]` table, a golden base made on first use.

use std::path::Path;

use corten_base::{BaseOptions, HttpTransport, Mirrors, Recipe, recipe, sources};
use corten_build::{BaseError, Bases};
use corten_diag::{Event, Reporter};
use corten_http::HttpOptions;
use corten_oci::platform::Platform;
use corten_oci::reference::Reference;
use corten_runtime::emulation;
use corten_store::{Image, Store, StoreError};
use corten_sys::clock::SystemClock;

use crate::error::CliError;
use crate::settings::Settings;

/// The registry name that nobody can register: its images are made here.
pub(crate) const GOLDEN: &str = "golden.internal";

/// Finds or makes base images.
pub(crate) struct Resolver<'a> {
    store: &'a Store,
    settings: &'a Settings,
    reporter: &'a dyn Reporter,
    plan_only: bool,
}

impl<'a> Resolver<'a> {
    pub(crate) fn new(
        store: &'a Store,
        settings: &'a Settings,
        reporter: &'a dyn Reporter,
    ) -> Self {
        Self { store, settings, reporter, plan_only: false }
    }

    /// For a plan that is only shown: nothing has to be executed.
    pub(crate) fn for_plan(self) -> Self {
        Self { plan_only: true, ..self }
    }

    /// Resolves a name. A mapping goes before the store, so that it holds for everyone alike.
    pub(crate) fn resolve(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Image, BaseError> {
        let mapped = self.mapped(reference)?;
        let wanted = mapped.as_ref().unwrap_or(reference);
        if let Some(mapped) = &mapped {
            self.reporter.report(Event::Notice(format!(
                "`{}` is `{}` here, by the [images] table of corten.toml",
                reference.familiar(),
                mapped.familiar()
            )));
        }
        let is_golden = wanted.registry() == GOLDEN;
        match self.in_store(wanted, platform) {
            // A golden base is made for each platform that somebody asks for.
            Ok(Some(image)) if is_golden && !platform.accepts(&image.config.platform()) => {}
            Err(StoreError::PlatformMissing { .. }) if is_golden => {}
            Ok(Some(image)) => return Ok(image),
            Ok(None) => {}
            Err(error) => return Err(not_looked_up(wanted, error)),
        }
        if is_golden {
            return self.make(wanted, platform);
        }
        Err(unknown(reference, wanted))
    }

    /// The image of that name if it is here already; none is made for the question.
    pub(crate) fn known(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Option<Image>, BaseError> {
        let mapped = self.mapped(reference)?;
        let wanted = mapped.as_ref().unwrap_or(reference);
        self.in_store(wanted, platform).map_err(|error| not_looked_up(wanted, error))
    }

    fn in_store(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<Option<Image>, StoreError> {
        self.store.resolve_for(&reference.to_string(), platform)
    }

    /// The `[images]` entry for a name, written short or in full.
    fn mapped(&self, reference: &Reference) -> Result<Option<Reference>, BaseError> {
        let bad = |text: &str, error: corten_oci::reference::ReferenceError| BaseError {
            message: format!("`{text}` in the [images] table of corten.toml is no image name"),
            hint: None,
            source: Some(Box::new(error)),
        };
        for (from, to) in &self.settings.config.images {
            let name: Reference = from.parse().map_err(|error| bad(from, error))?;
            if name == *reference {
                return to.parse().map(Some).map_err(|error| bad(to, error));
            }
        }
        Ok(None)
    }

    /// Makes a golden base and gives it its names.
    fn make(&self, wanted: &Reference, platform: &Platform) -> Result<Image, BaseError> {
        let recipe = recipe::find(&wanted.to_string()).map_err(|error| {
            let hint = error.hint();
            BaseError::new(error.to_string(), hint)
        })?;
        let of = if platform.normalised() == Platform::host() {
            String::new()
        } else {
            format!(" for {platform}")
        };
        self.reporter.report(Event::Notice(format!(
            "`{}`{of} is not in the store: making it from Debian packages",
            wanted.familiar()
        )));
        self.make_from(&recipe, platform).map_err(|error| BaseError {
            message: format!("failed to make the base image `{}`", wanted.familiar()),
            hint: error.hints.first().cloned(),
            source: Some(error.error),
        })
    }

    fn make_from(&self, recipe: &Recipe, platform: &Platform) -> Result<Image, CliError> {
        let setup = BaseSetup::new(self.settings, None)?;
        let options = setup.options(platform);
        let (image, _) = corten_base::build(recipe, &options, self.store, self.reporter)?;
        for name in recipe.references() {
            self.store.tag_platform(&name, &image)?;
        }
        Ok(image)
    }
}

impl Bases for Resolver<'_> {
    fn base(&self, image: &Reference, platform: &Platform) -> Result<Image, BaseError> {
        self.resolve(image, platform)
    }

    fn can_execute(&self, platform: &Platform) -> Result<(), BaseError> {
        if self.plan_only {
            return Ok(());
        }
        match emulation::execution(platform) {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(refused)) => Err(BaseError::new(refused.to_string(), Some(refused.hint()))),
            Err(error) => {
                let source: Option<Box<dyn std::error::Error + Send + Sync>> =
                    Some(Box::new(error));
                let message = format!("failed to find out how `{platform}` can be executed");
                Err(BaseError { message, hint: None, source })
            }
        }
    }
}

fn not_looked_up(reference: &Reference, error: StoreError) -> BaseError {
    let hint = error.hint();
    let message = format!("failed to look up `{}`", reference.familiar());
    BaseError { message, hint, source: Some(Box::new(error)) }
}

/// Says exactly what to write, since no registry is asked.
fn unknown(asked: &Reference, wanted: &Reference) -> BaseError {
    let full = wanted.to_string();
    let Some(candidate) = golden_for(wanted) else {
        return BaseError::new(
            format!("no image `{}` in the store", asked.familiar()),
            Some(
                "`corten images` lists what is there; build one with `corten build -t`, load one with\n\
                 `corten load -i FILE`, or map the name to a base that is made here in the [images]\n\
                 table of corten.toml (`corten base list`)"
                    .to_owned(),
            ),
        );
    };
    BaseError::new(
        format!(
            "no image `{}` in the store, and no entry for it in the [images] table",
            asked.familiar()
        ),
        Some(format!(
            "write this to corten.toml to use a base made here from Debian packages:\n\
             [images]\n\
             \"{full}\" = \"{candidate}\"\n\
             or load the image: `corten load -i FILE`"
        )),
    )
}

/// The golden base whose name and tag come nearest: `python:3.11-slim` has one of its own.
fn golden_for(wanted: &Reference) -> Option<String> {
    let name = wanted.repository().rsplit('/').next()?;
    let tag = wanted.tag()?;
    let names: Vec<Reference> = recipe::catalogue()
        .iter()
        .flat_map(|recipe| recipe.references().collect::<Vec<_>>())
        .collect();
    let mut of_this_name = names.iter().filter(|reference| reference.repository() == name);
    let exact = of_this_name.clone().find(|reference| reference.tag() == Some(tag));
    exact.or_else(|| of_this_name.next()).map(ToString::to_string)
}

/// What a golden base is made with: mirrors by flag, by corten.toml, or the host's apt sources.
pub(crate) struct BaseSetup {
    mirrors: Mirrors,
    transport: HttpTransport,
    allow_expired: bool,
    epoch: Option<i64>,
}

impl BaseSetup {
    /// `mirrors` are those of the command line, if there are any.
    pub(crate) fn new(settings: &Settings, mirrors: Option<Mirrors>) -> Result<Self, CliError> {
        let table = &settings.config.base;
        let mirrors = match (mirrors, &table.mirror) {
            (Some(mirrors), _) => mirrors,
            (None, Some(archive)) => named_mirrors(archive, table.security_mirror.as_deref())?,
            (None, None) => Mirrors::from_sources(
                &sources::from_apt(Path::new("/etc/apt")).map_err(CliError::new)?,
            ),
        };
        let environment = &settings.environment;
        let http = http_options(settings);
        Ok(Self {
            mirrors,
            transport: HttpTransport::new(&http)?,
            allow_expired: table.allow_expired_index.unwrap_or(false),
            epoch: environment.get("SOURCE_DATE_EPOCH").and_then(|text| text.parse().ok()),
        })
    }

    pub(crate) fn options(&self, platform: &Platform) -> BaseOptions<'_> {
        let architecture = debian_architecture(platform);
        let mut options =
            BaseOptions::new(self.mirrors.clone(), &architecture, &self.transport, &SystemClock);
        options.allow_expired = self.allow_expired;
        options.epoch = self.epoch;
        options
    }
}

/// How HTTP is spoken here: with the host's certificates and proxies.
pub(crate) fn http_options(settings: &Settings) -> HttpOptions {
    let environment = &settings.environment;
    let proxy = |upper: &str, lower: &str| {
        environment.get(lower).or_else(|| environment.get(upper)).map(str::to_owned)
    };
    HttpOptions {
        ca_bundle: environment.ca_bundle(),
        // Upper-case HTTP_PROXY is honoured as well: we are no CGI program.
        http_proxy: proxy("HTTP_PROXY", "http_proxy"),
        https_proxy: proxy("HTTPS_PROXY", "https_proxy"),
        no_proxy: proxy("NO_PROXY", "no_proxy"),
    }
}

/// Mirrors that were named by hand; the security one follows from the other where it can.
pub(crate) fn named_mirrors(archive: &str, security: Option<&str>) -> Result<Mirrors, CliError> {
    let security = security.map(|url| format!("security={url}"));
    Mirrors::parse([archive].into_iter().chain(security.as_deref())).map_err(|error| {
        CliError::new(error).hint("for example `--mirror https://mirror.example/debian`".to_owned())
    })
}

/// Debian's name of the platform's architecture.
fn debian_architecture(platform: &Platform) -> String {
    match (platform.architecture.as_str(), platform.variant.as_deref()) {
        ("386", _) => "i386".to_owned(),
        ("arm", Some("v5" | "v6")) => "armel".to_owned(),
        ("arm", _) => "armhf".to_owned(),
        ("ppc64le", _) => "ppc64el".to_owned(),
        (architecture, _) => architecture.to_owned(),
    }
}
