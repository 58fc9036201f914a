use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;

/// The process environment as it was at the start, as a value.
#[derive(Debug, Clone, Default)]
pub(crate) struct Environment {
    variables: BTreeMap<OsString, OsString>,
}

/// The proxy variables that Docker predefines as build arguments, in both spellings.
const PROXY_VARIABLES: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// Where distributions keep the bundle of certificate authorities that the host trusts.
const CA_BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

impl Environment {
    pub(crate) fn capture() -> Self {
        Self { variables: std::env::vars_os().collect() }
    }

    #[cfg(test)]
    pub(crate) fn from_pairs(pairs: &[(&str, &str)]) -> Self {
        Self { variables: pairs.iter().map(|(k, v)| (k.into(), v.into())).collect() }
    }

    /// The value of `name` when it is set, not empty and valid UTF-8.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(std::ffi::OsStr::new(name))?.to_str().filter(|value| !value.is_empty())
    }

    /// All of it, for a program that is started as if the user had done so.
    pub(crate) fn all(&self) -> Vec<(String, OsString)> {
        let pair = |(name, value): (&OsString, &OsString)| {
            Some((name.to_str()?.to_owned(), value.clone()))
        };
        self.variables.iter().filter_map(pair).collect()
    }

    /// All of it, byte for byte, for this program when it is executed again.
    pub(crate) fn pairs(&self) -> Vec<(OsString, OsString)> {
        self.variables.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        let value = self.variables.get(std::ffi::OsStr::new(name))?;
        (!value.is_empty()).then(|| PathBuf::from(value))
    }

    /// The home directory, or `/` where none is set (a service without a login).
    pub(crate) fn home(&self) -> PathBuf {
        self.path("HOME").unwrap_or_else(|| PathBuf::from("/"))
    }

    /// The proxy settings of the host as `NAME=value` pairs, in both spellings where set.
    pub(crate) fn proxies(&self) -> Vec<(String, String)> {
        PROXY_VARIABLES
            .iter()
            .filter_map(|name| Some(((*name).to_owned(), self.get(name)?.to_owned())))
            .collect()
    }

    /// The host's bundle of trusted certificate authorities, `SSL_CERT_FILE` first.
    pub(crate) fn ca_bundle(&self) -> Option<PathBuf> {
        self.path("SSL_CERT_FILE")
            .into_iter()
            .chain(CA_BUNDLES.iter().map(PathBuf::from))
            .find(|path| path.is_file())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let environment = Environment::from_pairs(&[("CORTEN_ROOT", ""), ("HOME", "/home/a")]);
        assert_eq!(environment.path("CORTEN_ROOT"), None);
        assert_eq!(environment.home(), PathBuf::from("/home/a"));
    }

    #[test]
    fn proxies_keep_the_spelling_they_were_set_with() {
        let environment = Environment::from_pairs(&[("https_proxy", "p:1"), ("NO_PROXY", "x")]);
        let names: Vec<String> = environment.proxies().into_iter().map(|pair| pair.0).collect();
        assert_eq!(names, ["https_proxy", "NO_PROXY"]);
    }
}
