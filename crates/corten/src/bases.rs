//! Where a name in `FROM` leads: the store, the `[images]` table, a golden base made on first use.

use std::path::Path;

use corten_base::{BaseOptions, HttpOptions, HttpTransport, Mirrors, Recipe, recipe, sources};
use corten_build::{BaseError, Bases};
use corten_diag::{Event, Reporter};
use corten_oci::platform::Platform;
use corten_oci::reference::Reference;
use corten_store::{Image, Store};
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
}

impl<'a> Resolver<'a> {
    pub(crate) fn new(
        store: &'a Store,
        settings: &'a Settings,
        reporter: &'a dyn Reporter,
    ) -> Self {
        Self { store, settings, reporter }
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
        if let Some(image) = self.in_store(wanted)? {
            return Ok(image);
        }
        if wanted.registry() == GOLDEN {
            return self.make(wanted, platform);
        }
        Err(unknown(reference, wanted))
    }

    /// The image of that name if it is here already; none is made for the question.
    pub(crate) fn known(&self, reference: &Reference) -> Result<Option<Image>, BaseError> {
        let mapped = self.mapped(reference)?;
        self.in_store(mapped.as_ref().unwrap_or(reference))
    }

    fn in_store(&self, reference: &Reference) -> Result<Option<Image>, BaseError> {
        self.store.resolve(&reference.to_string()).map_err(|source| {
            let hint = source.hint();
            BaseError {
                message: format!("failed to look up `{}`", reference.familiar()),
                hint,
                source: Some(Box::new(source)),
            }
        })
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
        if *platform != Platform::host() {
            return Err(BaseError::new(
                format!("`{}` is made for {} only", wanted.familiar(), Platform::host()),
                Some("leave out `--platform`".to_owned()),
            ));
        }
        self.reporter.report(Event::Notice(format!(
            "`{}` is not in the store: making it from Debian packages",
            wanted.familiar()
        )));
        self.make_from(&recipe).map_err(|error| BaseError {
            message: format!("failed to make the base image `{}`", wanted.familiar()),
            hint: error.hints.first().cloned(),
            source: Some(error.error),
        })
    }

    fn make_from(&self, recipe: &Recipe) -> Result<Image, CliError> {
        let setup = BaseSetup::new(self.settings, None)?;
        let (image, _) = corten_base::build(recipe, &setup.options(), self.store, self.reporter)?;
        for name in recipe.references() {
            self.store.tag(&name, &image.id)?;
        }
        Ok(image)
    }
}

impl Bases for Resolver<'_> {
    fn base(&self, image: &Reference, platform: &Platform) -> Result<Image, BaseError> {
        self.resolve(image, platform)
    }
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
            transport: HttpTransport::new(&http).map_err(CliError::new)?,
            allow_expired: table.allow_expired_index.unwrap_or(false),
            epoch: environment.get("SOURCE_DATE_EPOCH").and_then(|text| text.parse().ok()),
        })
    }

    pub(crate) fn options(&self) -> BaseOptions<'_> {
        let architecture = debian_architecture(&Platform::host());
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
