//! Operating system and processor of an image.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A platform such as `linux/amd64` or `linux/arm/v7`, in the spelling of Go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Platform {
    /// The processor, for example `amd64`.
    pub architecture: String,
    /// The operating system, for example `linux`.
    pub os: String,
    /// The variant of the processor, for example `v7`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

/// The longest part of a name; real ones have ten letters at most.
const PART_BYTES_MAX: usize = 32;

/// Text that is not a platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a platform: expected `os/architecture` or `os/architecture/variant`")]
pub struct PlatformError {
    text: String,
}

impl Platform {
    /// Builds a platform and normalises its names as containerd does.
    pub fn new(os: &str, architecture: &str, variant: Option<&str>) -> Self {
        let os = match os.to_ascii_lowercase().as_str() {
            "macos" => "darwin".to_owned(),
            other => other.to_owned(),
        };
        let variant = variant.map(str::to_ascii_lowercase).filter(|variant| !variant.is_empty());
        let architecture = architecture.to_ascii_lowercase();
        let (architecture, variant) = match (architecture.as_str(), variant.as_deref()) {
            ("x86_64" | "x86-64", variant) => ("amd64", variant.filter(|v| *v != "v1")),
            ("amd64", Some("v1")) => ("amd64", None),
            ("i386" | "i486" | "i586" | "i686", _) => ("386", None),
            ("aarch64" | "arm64", None | Some("8" | "v8")) => ("arm64", None),
            ("aarch64", variant) => ("arm64", variant),
            ("armhf", _) | ("arm", None | Some("7")) => ("arm", Some("v7")),
            ("armel", _) | ("arm", Some("6")) => ("arm", Some("v6")),
            ("arm", Some("5")) => ("arm", Some("v5")),
            ("arm", Some("8")) => ("arm", Some("v8")),
            (architecture, variant) => (architecture, variant),
        };
        Self { os, architecture: architecture.to_owned(), variant: variant.map(ToOwned::to_owned) }
    }

    /// Returns the platform that this program was built for.
    pub fn host() -> Self {
        Self::new(std::env::consts::OS, std::env::consts::ARCH, None)
    }

    /// Returns true if an image of platform `image` runs natively where `self` is asked for.
    pub fn accepts(&self, image: &Self) -> bool {
        let (wanted, image) = (self.normalised(), image.normalised());
        wanted.os == image.os
            && wanted.architecture == image.architecture
            && (wanted.variant == image.variant || image.variant.is_none())
    }

    /// Returns the platform in the one spelling that comparisons need.
    #[must_use]
    pub fn normalised(&self) -> Self {
        Self::new(&self.os, &self.architecture, self.variant.as_deref())
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let error = || PlatformError { text: text.chars().take(100).collect() };
        let valid = |part: &&str| {
            let good = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
            // Directories are named by it, and tables show it.
            (1..=PART_BYTES_MAX).contains(&part.len())
                && part.starts_with(|first: char| first.is_ascii_alphanumeric())
                && part.bytes().all(good)
        };
        let parts: Vec<&str> = text.split('/').collect();
        if !parts.iter().all(valid) {
            return Err(error());
        }
        match parts.as_slice() {
            [os, architecture] => Ok(Self::new(os, architecture, None)),
            [os, architecture, variant] => Ok(Self::new(os, architecture, Some(variant))),
            _ => Err(error()),
        }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(formatter, "/{variant}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised_as_containerd_does() {
        let table = [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("Linux/AArch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("linux/i686", "linux/386"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("linux/riscv64", "linux/riscv64"),
        ];
        for (text, expected) in table {
            assert_eq!(text.parse::<Platform>().unwrap().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_a_platform_is_refused() {
        let long = format!("linux/{}", "a".repeat(33));
        let paths = ["linux/..", "../x", "linux/../x", "linux/./x", "-a/b"];
        let others = ["", "linux", "/", "linux/", "linux/amd64/v1/x", "linux/am d64", &long];
        for text in paths.into_iter().chain(others) {
            assert!(text.parse::<Platform>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_image_without_variant_runs_on_any_variant() {
        let image: Platform = "linux/amd64".parse().unwrap();
        let wanted: Platform = "linux/amd64/v3".parse().unwrap();
        assert!(wanted.accepts(&image));
        assert!(!image.accepts(&wanted));
    }
}
