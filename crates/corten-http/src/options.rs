//! What the host says about HTTP, and what is made of it once something is asked for.

use std::path::PathBuf;
use std::sync::OnceLock;

use crate::error::HttpError;

/// How servers are reached from this machine.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HttpOptions {
    /// Certificates to trust instead of those of the host, as a PEM file.
    pub ca_bundle: Option<PathBuf>,
    /// The proxy for `http` addresses.
    pub http_proxy: Option<String>,
    /// The proxy for `https` addresses.
    pub https_proxy: Option<String>,
    /// Hosts that are reached without a proxy, separated by commas.
    pub no_proxy: Option<String>,
}

impl std::fmt::Debug for HttpOptions {
    /// Proxies may have passwords, so they are not shown.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("HttpOptions")
            .field("ca_bundle", &self.ca_bundle)
            .finish_non_exhaustive()
    }
}

/// What is made of the options when it is used first: certificates are read then, and a command that
/// fetches nothing does not fail for want of them.
pub struct OnFirstUse<T> {
    options: HttpOptions,
    made: OnceLock<T>,
}

impl<T> std::fmt::Debug for OnFirstUse<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("OnFirstUse").field("options", &self.options).finish_non_exhaustive()
    }
}

impl<T> OnFirstUse<T> {
    /// Keeps the options; nothing is read yet.
    pub fn new(options: HttpOptions) -> Self {
        Self { options, made: OnceLock::new() }
    }

    /// Returns what was made, or makes it. After a failure the next call tries again.
    pub fn get(
        &self,
        make: impl FnOnce(&HttpOptions) -> Result<T, HttpError>,
    ) -> Result<&T, HttpError> {
        if let Some(made) = self.made.get() {
            return Ok(made);
        }
        let made = make(&self.options)?;
        Ok(self.made.get_or_init(|| made))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_in_no_debug_text() {
        let proxy = Some("http://user:hidden@proxy.test".to_owned());
        let options =
            HttpOptions { https_proxy: proxy.clone(), http_proxy: proxy, ..HttpOptions::default() };
        let shown = format!("{options:?} {:?}", OnFirstUse::<()>::new(options.clone()));
        assert!(!shown.contains("hidden") && !shown.contains("proxy.test"), "{shown}");
    }

    #[test]
    fn what_could_not_be_made_is_tried_again_and_then_kept() {
        let lazy = OnFirstUse::new(HttpOptions::default());
        assert!(lazy.get(|_| Err(HttpError::NoCertificate(PathBuf::new()))).is_err());
        assert_eq!(lazy.get(|_| Ok(1)).unwrap(), &1);
        assert_eq!(lazy.get(|_| Ok(2)).unwrap(), &1);
    }
}
