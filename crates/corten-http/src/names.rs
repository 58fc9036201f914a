//! Names of hosts: asked for once, and perhaps only for hosts elsewhere.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, PoisonError};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

use crate::resolver::Stub;

/// Whose addresses are found. Each server's is asked for once while the program runs.
///
/// The HTTP library asks before each request, also when it then uses a connection that is open. Packages
/// come by the hundred from one or two hosts, several at a time, and name servers drop questions that
/// come in such bursts: each costs five seconds, and a few bursts were most of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Names {
    /// Every host's.
    All,
    /// An address of this machine's own loopback is as good as none, but for the proxy's.
    Outward,
}

/// Whether a host is named as one of this machine; an IPv6 address has no brackets.
pub fn is_own_machine(name: &str) -> bool {
    let name = name.trim_end_matches('.');
    name == "localhost"
        || name.ends_with(".localhost")
        // Numbers in the forms of `inet_aton` are left to who resolves them.
        || name.parse::<IpAddr>().is_ok_and(is_loopback)
}

fn is_loopback(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || address.is_unspecified()
}

/// Looks names up, and gives no address of this machine's loopback but for the proxy's.
#[derive(Debug)]
pub(crate) struct Outward {
    allowed: Option<String>,
    inner: Remembering<Stub>,
}

impl Outward {
    /// `allowed` is the host of the proxy, if there is one.
    pub(crate) fn new(allowed: Option<String>) -> Self {
        Self { allowed, inner: Remembering::default() }
    }
}

impl Resolver for Outward {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let found = self.inner.resolve(uri, config, timeout)?;
        if self.allowed.is_some() && uri.host() == self.allowed.as_deref() {
            return Ok(found);
        }
        if found.iter().any(|address| is_loopback(address.ip())) {
            return Err(ureq::Error::HostNotFound);
        }
        Ok(found)
    }
}

/// Remembers what a resolver found for as long as the program runs.
#[derive(Debug, Default)]
pub(crate) struct Remembering<R> {
    resolver: R,
    known: Mutex<BTreeMap<String, Vec<SocketAddr>>>,
}

impl<R: Resolver> Resolver for Remembering<R> {
    fn resolve(
        &self,
        uri: &Uri,
        config: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, ureq::Error> {
        let key = match (uri.scheme_str(), uri.authority()) {
            (Some(scheme), Some(authority)) => format!("{scheme}://{authority}"),
            _ => return self.resolver.resolve(uri, config, timeout),
        };
        // Held while asking, so that the others wait for the answer and do not ask too.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(addresses) = known.get(&key) {
            let mut found = self.resolver.empty();
            for address in addresses {
                found.push(*address);
            }
            return Ok(found);
        }
        let found = self.resolver.resolve(uri, config, timeout)?;
        known.insert(key, found.iter().copied().collect());
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU16, Ordering};

    use super::*;

    /// Answers each question with another port, the first with none at all.
    #[derive(Debug, Default)]
    struct Counting(AtomicU16);

    impl Resolver for Counting {
        fn resolve(
            &self,
            _uri: &Uri,
            _config: &Config,
            _timeout: NextTimeout,
        ) -> Result<ResolvedSocketAddrs, ureq::Error> {
            let port = self.0.fetch_add(1, Ordering::Relaxed);
            if port == 0 {
                return Err(ureq::Error::HostNotFound);
            }
            let mut found = self.empty();
            found.push(SocketAddr::from(([127, 0, 0, 1], port)));
            Ok(found)
        }
    }

    #[test]
    fn a_host_is_asked_for_until_there_is_an_answer_and_not_again() {
        let names = Remembering::<Counting>::default();
        let ask = |uri: &'static str| {
            let found = names
                .resolve(&Uri::from_static(uri), &Config::default(), NextTimeout::default())
                .ok()?;
            found.first().map(SocketAddr::port)
        };
        let ports = [
            ask("http://m.test/a"),
            ask("http://m.test/a"),
            ask("http://m.test/b"),
            ask("http://other.test/a"),
            ask("http://m.test/c"),
            ask("https://m.test/a"),
        ];
        assert_eq!(ports, [None, Some(1), Some(1), Some(2), Some(1), Some(3)]);
    }
    #[test]
    fn this_machine_has_many_names() {
        for name in [
            "localhost",
            "localhost.",
            "x.localhost",
            "127.8.9.1",
            "::1",
            "0.0.0.0",
            "::ffff:127.0.0.1",
        ] {
            assert!(is_own_machine(name), "{name}");
        }
        for name in ["localhost.test", "10.0.0.1", "host.test", ""] {
            assert!(!is_own_machine(name), "{name}");
        }
    }

    #[test]
    fn only_the_proxy_may_be_on_this_machine() {
        let ask = |allowed: Option<&str>, uri: &'static str| {
            let resolver = Outward::new(allowed.map(str::to_owned));
            let found = resolver.resolve(
                &Uri::from_static(uri),
                &Config::default(),
                NextTimeout::default(),
            );
            found.is_ok()
        };
        assert!(!ask(None, "http://127.0.0.1:1/"));
        assert!(ask(Some("127.0.0.1"), "http://127.0.0.1:1/"));
        assert!(!ask(Some("127.0.0.1"), "http://127.0.0.2:1/"));
        assert!(ask(None, "http://192.0.2.1:1/"));
    }
}
