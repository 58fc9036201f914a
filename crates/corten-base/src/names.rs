//! Names of hosts, asked for once.
//!
//! The HTTP library asks for the address of the host before each request, also when it then uses a
//! connection that is open. A base has a hundred packages from one or two hosts, fetched eight at a
//! time, and name servers drop questions that come in such bursts: each costs five seconds, and three
//! bursts were most of a build.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;

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
}
