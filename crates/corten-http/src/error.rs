//! Settings of the host that cannot be used.

use std::path::PathBuf;

use corten_sys::error::IoError;

/// Options that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The certificates cannot be read.
    #[error("failed to read the CA certificates")]
    Read(#[source] IoError),
    /// There is no certificate in the file.
    #[error("the CA bundle `{}` has no usable certificate", .0.display())]
    NoCertificate(PathBuf),
    /// A proxy cannot be used.
    #[error("the proxy `{proxy}` for `{scheme}` addresses is not usable")]
    Proxy {
        /// What it is for: `http` or `https`.
        scheme: &'static str,
        /// The proxy without its user and password.
        proxy: String,
        /// Why.
        #[source]
        source: Box<ureq::Error>,
    },
}

impl HttpError {
    /// What to do.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Read(_) | Self::NoCertificate(_) => {
                "name a file of certificates in PEM form with `SSL_CERT_FILE`".to_owned()
            }
            Self::Proxy { scheme, .. } => format!(
                "look at the variable `{}_PROXY`: a proxy is `http://[USER:PASSWORD@]HOST:PORT`",
                scheme.to_ascii_uppercase()
            ),
        })
    }

    /// The message and why, in one line, for those who can keep no chain of errors.
    pub fn line(&self) -> String {
        let mut line = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            line.push_str(&format!(": {error}"));
            cause = error.source();
        }
        line
    }
}

/// The proxy for people. It may have no scheme, and a password with a slash in it.
pub(crate) fn without_user(proxy: &str) -> String {
    let (scheme, rest) = match proxy.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), proxy),
    };
    format!("{scheme}{}", rest.rsplit('@').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_shown_without_its_user_however_it_is_written() {
        for (proxy, shown) in [
            ("http://u:hidden@p.test:1", "http://p.test:1"),
            ("u:hidden@p.test:1", "p.test:1"),
            ("http://u:hid/den@p.test", "http://p.test"),
            ("http://u:hid@den@p.test", "http://p.test"),
            ("p.test", "p.test"),
            ("", ""),
        ] {
            assert_eq!(without_user(proxy), shown);
        }
    }
}
