//! What the checks ask about images and names.

use std::sync::atomic::{AtomicBool, Ordering};

use corten_build::{BaseError, Bases};
use corten_lint::{BaseImage, PlatformName, Surroundings};
use corten_oci::platform::Platform;
use corten_oci::reference::Reference;
use corten_store::Image;

use crate::bases::Resolver;

/// The images that are here. None is made or asked for elsewhere.
pub(super) struct Known<'a> {
    resolver: Option<&'a Resolver<'a>>,
    missed: AtomicBool,
}

impl<'a> Known<'a> {
    pub(super) fn new(resolver: Option<&'a Resolver<'a>>) -> Self {
        Self { resolver, missed: AtomicBool::new(false) }
    }

    /// Whether an image was asked for that is not here.
    pub(super) fn missed(&self) -> bool {
        self.missed.load(Ordering::Relaxed)
    }

    fn image(&self, reference: &Reference, platform: &Platform) -> Option<Image> {
        // A store that fails to answer is not the file's fault: the image is unknown then.
        let known = |resolver: &Resolver<'_>| resolver.known(reference, platform).ok().flatten();
        let found = self.resolver.and_then(known);
        if found.is_none() {
            self.missed.store(true, Ordering::Relaxed);
        }
        found
    }
}

impl Bases for Known<'_> {
    fn base(&self, image: &Reference, platform: &Platform) -> Result<Image, BaseError> {
        let missing = || BaseError::new(format!("no image `{}` here", image.familiar()), None);
        self.image(image, platform).ok_or_else(missing)
    }

    /// Nothing is executed to check a file.
    fn can_execute(&self, _platform: &Platform) -> Result<(), BaseError> {
        Ok(())
    }
}

impl Surroundings for Known<'_> {
    fn base(&self, image: &str, platform: &PlatformName) -> Option<BaseImage> {
        let PlatformName { os, architecture, variant } = platform;
        let platform = Platform::new(os, architecture, variant.as_deref());
        let image = self.image(&image.parse().ok()?, &platform)?.config;
        let pair = |text: &String| {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            (name.to_owned(), value.to_owned())
        };
        let platform = Platform::new(&image.os, &image.architecture, image.variant.as_deref());
        Some(BaseImage {
            env: image.config.env.iter().map(pair).collect(),
            has_shell: !image.config.shell.is_empty(),
            on_build: image.config.on_build,
            platform: Some(named(platform)),
        })
    }

    fn is_image_name(&self, text: &str) -> bool {
        text.parse::<Reference>().is_ok()
    }

    /// Docker takes a system or a processor alone, too.
    fn platform(&self, text: &str) -> Option<PlatformName> {
        let host = Platform::host();
        let platform = match text {
            "linux" | "windows" | "darwin" | "macos" | "freebsd" => {
                Platform::new(text, &host.architecture, None)
            }
            _ if text.contains('/') => text.parse().ok()?,
            _ => format!("{}/{text}", host.os).parse().ok()?,
        };
        Some(named(platform))
    }
}

pub(super) fn named(platform: Platform) -> PlatformName {
    let Platform { os, architecture, variant } = platform;
    PlatformName { os, architecture, variant }
}
