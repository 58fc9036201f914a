//! What the host's files say about names: `hosts(5)` and `resolv.conf(5)`. Pure.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

/// As the C library has it: names with fewer dots are looked for in the search list first.
const DOTS_MIN: usize = 1;

/// Of more servers than this, the C library asks the first ones only.
const SERVERS_MAX: usize = 3;

/// Of more domains than this, later ones are passed over: each is a question of its own.
const DOMAINS_MAX: usize = 6;

const TIMEOUT: Duration = Duration::from_secs(5);
const TIMEOUT_MAX_SECONDS: u64 = 30;
const ATTEMPTS: u32 = 2;
const ATTEMPTS_MAX: u32 = 5;

/// Returns the addresses that the text of a hosts file gives a name, in its order.
pub(super) fn in_hosts(text: &str, name: &str) -> Vec<IpAddr> {
    let name = name.trim_end_matches('.');
    let line = |line: &str| {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let address = words.next()?.split('%').next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
    };
    text.lines().filter_map(line).collect()
}

/// Whom to ask for names, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResolvConf {
    pub(super) servers: Vec<IpAddr>,
    search: Vec<String>,
    dots_min: usize,
    /// How long one server may take.
    pub(super) timeout: Duration,
    /// How often all servers are asked.
    pub(super) attempts: u32,
    /// Whether to ask over TCP from the start.
    pub(super) tcp: bool,
}

impl ResolvConf {
    /// Reads the text of `resolv.conf`; what is unknown or wrong in it is passed over, as everywhere.
    pub(super) fn parse(text: &str) -> Self {
        let mut this = Self {
            servers: Vec::new(),
            search: Vec::new(),
            dots_min: DOTS_MIN,
            timeout: TIMEOUT,
            attempts: ATTEMPTS,
            tcp: false,
        };
        for line in text.lines() {
            let mut words = line.split(['#', ';']).next().unwrap_or_default().split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let server = words.next().and_then(|word| word.split('%').next());
                    this.servers.extend(server.and_then(|server| server.parse::<IpAddr>().ok()));
                }
                // The last line of either kind holds.
                Some("search") => this.search = words.map(str::to_owned).collect(),
                Some("domain") => this.search = words.take(1).map(str::to_owned).collect(),
                Some("options") => words.for_each(|word| this.option(word)),
                _ => {}
            }
        }
        this.servers.truncate(SERVERS_MAX);
        this.search.truncate(DOMAINS_MAX);
        if this.servers.is_empty() {
            this.servers.push(Ipv4Addr::LOCALHOST.into());
        }
        this
    }

    fn option(&mut self, word: &str) {
        let (name, value) = word.split_once(':').unwrap_or((word, ""));
        match (name, value.parse::<u32>()) {
            ("ndots", Ok(dots)) => self.dots_min = dots.min(15) as usize,
            ("timeout", Ok(seconds)) => {
                let seconds = u64::from(seconds).clamp(1, TIMEOUT_MAX_SECONDS);
                self.timeout = Duration::from_secs(seconds);
            }
            ("attempts", Ok(attempts)) => self.attempts = attempts.clamp(1, ATTEMPTS_MAX),
            ("use-vc", _) => self.tcp = true,
            _ => {}
        }
    }

    /// Returns the full names that a name may stand for, in the order in which to ask for them.
    pub(super) fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(absolute) = name.strip_suffix('.') {
            return vec![absolute.to_owned()];
        }
        let in_domains = self.search.iter().map(|domain| domain.trim_matches('.'));
        let in_domains = in_domains.map(|domain| match domain {
            "" => name.to_owned(),
            domain => format!("{name}.{domain}"),
        });
        let own = std::iter::once(name.to_owned());
        let mut names: Vec<String> = if name.matches('.').count() >= self.dots_min {
            own.chain(in_domains).collect()
        } else {
            in_domains.chain(own).collect()
        };
        let mut seen = std::collections::BTreeSet::new();
        names.retain(|name| seen.insert(name.clone()));
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hosts_file_names_addresses() {
        let text =
            "127.0.0.1 localhost\n# 9.9.9.9 a\n10.0.0.7\tA.example a # b\nfe80::1%eth0 a\nx a\n";
        let found = |name| in_hosts(text, name).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(found("a"), ["10.0.0.7", "fe80::1"]);
        assert_eq!(found("a.EXAMPLE."), ["10.0.0.7"]);
        assert_eq!(found("b"), [""; 0]);
    }

    #[test]
    fn servers_and_options_are_read() {
        let text = "nameserver 10.0.0.1\nnameserver fe80::1%eth0\nnameserver x\n; comment\n\
                    options ndots:2 timeout:0 attempts:9 use-vc edns0\n";
        let conf = ResolvConf::parse(text);
        assert_eq!(
            conf.servers.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["10.0.0.1", "fe80::1"]
        );
        assert_eq!((conf.timeout.as_secs(), conf.attempts, conf.tcp), (1, 5, true));
    }

    #[test]
    fn without_a_server_the_own_machine_is_asked() {
        assert_eq!(ResolvConf::parse("").servers, [IpAddr::from([127, 0, 0, 1])]);
    }

    #[test]
    fn short_names_are_looked_for_in_the_search_list_first() {
        let conf = ResolvConf::parse("domain x\nsearch a.example b.example. .\n");
        assert_eq!(conf.candidates("host"), ["host.a.example", "host.b.example", "host"]);
        assert_eq!(
            conf.candidates("host.org"),
            ["host.org", "host.org.a.example", "host.org.b.example"]
        );
        assert_eq!(conf.candidates("host."), ["host"]);
    }
}
