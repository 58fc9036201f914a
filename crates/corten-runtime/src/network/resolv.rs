//! What a container's `/etc/resolv.conf` and `/etc/hosts` say. Pure but for [`HostResolver::read`].

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;

use corten_sys::error::IoError;
use corten_sys::file;
use serde::Serialize;

use super::Notice;
use super::names::SERVER;
use super::networking::NameOptions;
use crate::spec::Network;

/// The host's resolver configuration.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Where systemd-resolved keeps the servers that it asks itself.
const SYSTEMD_UPSTREAM: &str = "/run/systemd/resolve/resolv.conf";

/// A resolver configuration is a few lines; more is not one.
const RESOLV_CONF_BYTES_MAX: u64 = 64 * 1024;

/// The resolver configuration of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct HostResolver {
    /// The text of `/etc/resolv.conf`, if it is there.
    pub resolv_conf: Option<String>,
    /// The text of systemd-resolved's list of real servers, if it is there.
    pub systemd_upstream: Option<String>,
}

impl HostResolver {
    /// Reads the host's files; one that is not there is `None`.
    pub fn read() -> Result<Self, IoError> {
        let read = |path| {
            let bytes = file::read_optional(Path::new(path), RESOLV_CONF_BYTES_MAX)?;
            Ok::<_, IoError>(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
        };
        Ok(Self { resolv_conf: read(RESOLV_CONF)?, systemd_upstream: read(SYSTEMD_UPSTREAM)? })
    }

    /// Returns the servers that the host asks.
    pub(super) fn own_nameservers(&self) -> Vec<IpAddr> {
        let own = self.resolv_conf.as_deref().unwrap_or_default();
        own.lines().filter_map(nameserver).collect()
    }

    /// Returns every server that either file names.
    pub(super) fn nameservers(&self) -> Vec<IpAddr> {
        let texts = [self.resolv_conf.as_deref(), self.systemd_upstream.as_deref()];
        texts.into_iter().flatten().flat_map(|text| text.lines().filter_map(nameserver)).collect()
    }
}

/// The text of a container's `/etc/resolv.conf`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvConf {
    /// What to write.
    pub text: String,
    /// What people should know.
    pub notices: Vec<Notice>,
}

/// Decides what a container's `/etc/resolv.conf` says.
///
/// Servers on the host's loopback addresses (systemd-resolved, dnsmasq, unbound) cannot be
/// reached from a network namespace of its own; systemd-resolved says whom it asks itself. For a
/// container without root, `helper` answers where no other server can be reached (see
/// [`super::helper_nameserver`]). A container on networks with names asks its own server, which asks
/// the others.
pub fn plan_resolv_conf(
    network: Network,
    host: &HostResolver,
    helper: Option<IpAddr>,
    wanted: &NameOptions,
) -> ResolvConf {
    let own = host.resolv_conf.as_deref().unwrap_or_default();
    if network == Network::User {
        let mut wanted = NameOptions { servers: vec![SERVER.into()], ..wanted.clone() };
        let options = wanted.options.iter().map(String::as_str);
        let hosts = own.lines().filter(|line| first_word(line) == Some("options"));
        let known = options.chain(hosts.flat_map(|line| line.split_whitespace().skip(1)));
        let known: Vec<String> = known.map(str::to_owned).collect();
        if !known.iter().any(|option| option.starts_with("ndots:")) {
            // Names without a dot are those of containers: they are asked for as they are, first.
            wanted.options = known;
            wanted.options.push("ndots:0".to_owned());
        }
        let text = with_wishes(own.lines().collect(), &wanted);
        return ResolvConf { text, notices: Vec::new() };
    }
    // Without a network no server can be reached, and with the host's every one can.
    if network != Network::Default || !wanted.servers.is_empty() {
        let text = if wanted.is_empty() {
            with_newline(own)
        } else {
            with_wishes(own.lines().collect(), wanted)
        };
        return ResolvConf { text, notices: Vec::new() };
    }
    let reachable = |text: &str| text.lines().filter_map(nameserver).any(is_reachable);
    let upstream = host.systemd_upstream.as_deref().filter(|text| reachable(text));
    let source = if reachable(own) { own } else { upstream.unwrap_or(own) };
    let kept: Vec<&str> = source
        .lines()
        .filter(|line| !is_nameserver_line(line) || nameserver(line).is_some_and(is_reachable))
        .collect();
    let helper = helper.filter(|_| !reachable(source));
    let first = helper.map(|address| format!("nameserver {address}\n")).unwrap_or_default();
    let mut notices = Vec::new();
    if !reachable(source) && helper.is_none() {
        notices.push(Notice::warning(format!(
            "the container has no name server: {}; give it one with `--dns`, or use `--network host`",
            if own.lines().any(is_nameserver_line) {
                "those of the host listen on its loopback addresses only"
            } else {
                "the host has none"
            }
        )));
    }
    ResolvConf { text: first + &with_wishes(kept, wanted), notices }
}

/// Puts what was wished for in the place of what the host has.
fn with_wishes(lines: Vec<&str>, wanted: &NameOptions) -> String {
    let is_replaced = |line: &&str| match first_word(line) {
        Some("nameserver") => !wanted.servers.is_empty(),
        Some("search" | "domain") => !wanted.search.is_empty(),
        Some("options") => !wanted.options.is_empty(),
        _ => false,
    };
    let mut text = String::new();
    for server in &wanted.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    // As in Docker, a dot alone means that nothing is searched.
    let search: Vec<&str> =
        wanted.search.iter().map(String::as_str).filter(|domain| *domain != ".").collect();
    if !search.is_empty() {
        text.push_str(&format!("search {}\n", search.join(" ")));
    }
    if !wanted.options.is_empty() {
        text.push_str(&format!("options {}\n", wanted.options.join(" ")));
    }
    let kept: Vec<&str> = lines.into_iter().filter(|line| !is_replaced(line)).collect();
    text + &with_newline(&kept.join("\n"))
}

fn first_word(line: &str) -> Option<&str> {
    line.split_whitespace().next()
}

fn with_newline(text: &str) -> String {
    let mut text = text.to_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

fn is_nameserver_line(line: &str) -> bool {
    first_word(line) == Some("nameserver")
}

/// Returns the server that a line names; the scope of a link-local address is cut off.
fn nameserver(line: &str) -> Option<IpAddr> {
    let mut words = line.split_whitespace();
    if words.next()? != "nameserver" {
        return None;
    }
    words.next()?.split('%').next()?.parse().ok()
}

/// Returns true if a container on the bridge can reach the server: not on the host's loopback,
/// and by IPv4, since the bridge has no IPv6.
fn is_reachable(server: IpAddr) -> bool {
    match server {
        IpAddr::V4(server) => !server.is_loopback() && !server.is_unspecified(),
        IpAddr::V6(_) => false,
    }
}

/// Writes a container's `/etc/hosts`.
///
/// Without an address of its own the host name means 127.0.1.1, as on Debian, so that programs
/// that look up their own name find it.
pub fn hosts_file(hostname: &str, addresses: &[IpAddr], extra: &[(String, IpAddr)]) -> String {
    let mut text = String::from(
        "127.0.0.1\tlocalhost\n\
         ::1\tlocalhost ip6-localhost ip6-loopback\n",
    );
    if !hostname.is_empty() && hostname != "localhost" {
        let none = [IpAddr::from([127, 0, 1, 1])];
        for own in if addresses.is_empty() { none.as_slice() } else { addresses } {
            append(&mut text, *own, hostname);
        }
    }
    for (name, address) in extra {
        append(&mut text, *address, name);
    }
    text
}

fn append(text: &mut String, address: IpAddr, name: &str) {
    writeln!(text, "{address}\t{name}").expect("writing to a string does not fail");
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;

    fn check(network: Network, own: Option<&str>, upstream: Option<&str>, expected: &Expect) {
        let host = HostResolver {
            resolv_conf: own.map(str::to_owned),
            systemd_upstream: upstream.map(str::to_owned),
        };
        let plan = plan_resolv_conf(network, &host, None, &NameOptions::default());
        let notices = plan.notices.iter().fold(String::new(), |text, one| text + &one.text + "\n");
        expected.assert_eq(&format!("{}---\n{notices}", plan.text));
    }

    #[test]
    fn servers_that_can_be_reached_are_copied_with_all_else() {
        let own = "# made by dhcp\nsearch corp.example\nnameserver 192.0.2.53\noptions ndots:2\n";
        check(
            Network::Default,
            Some(own),
            None,
            &expect![[r#"
            # made by dhcp
            search corp.example
            nameserver 192.0.2.53
            options ndots:2
            ---
        "#]],
        );
    }

    #[test]
    fn the_stub_of_systemd_resolved_is_replaced_by_whom_it_asks() {
        check(
            Network::Default,
            Some("nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch .\n"),
            Some("nameserver 192.0.2.1\nnameserver 192.0.2.2\nsearch corp.example\n"),
            &expect![[r#"
                nameserver 192.0.2.1
                nameserver 192.0.2.2
                search corp.example
                ---
            "#]],
        );
    }

    #[test]
    fn a_loopback_server_beside_others_is_left_out() {
        check(
            Network::Default,
            Some("nameserver 127.0.0.1\nnameserver 192.0.2.1"),
            Some("nameserver 192.0.2.99\n"),
            &expect![[r#"
                nameserver 192.0.2.1
                ---
            "#]],
        );
    }

    #[test]
    fn only_loopback_servers_are_told_of() {
        check(
            Network::Default,
            Some("nameserver 127.0.0.1\nnameserver ::1\n"),
            None,
            &expect![[r#"
                ---
                the container has no name server: those of the host listen on its loopback addresses only; give it one with `--dns`, or use `--network host`
            "#]],
        );
    }

    #[test]
    fn a_helper_answers_only_where_no_other_server_can_be_reached() {
        let plan = |text: &str| {
            let host = HostResolver { resolv_conf: Some(text.to_owned()), systemd_upstream: None };
            let helper = Some(IpAddr::from([169, 254, 1, 1]));
            let plan = plan_resolv_conf(Network::Default, &host, helper, &NameOptions::default());
            assert_eq!(plan.notices, []);
            plan.text
        };
        assert_eq!(
            plan("search a.example\nnameserver 127.0.0.1\n"),
            "nameserver 169.254.1.1\nsearch a.example\n"
        );
        assert_eq!(plan("nameserver 192.0.2.1\n"), "nameserver 192.0.2.1\n");
    }

    #[test]
    fn an_upstream_of_loopback_servers_is_no_help() {
        check(
            Network::Default,
            Some("nameserver 127.0.0.53\n"),
            Some("nameserver 127.0.0.1\n"),
            &expect![[r#"
                ---
                the container has no name server: those of the host listen on its loopback addresses only; give it one with `--dns`, or use `--network host`
            "#]],
        );
    }

    #[test]
    fn a_server_by_ipv6_cannot_be_reached_from_the_bridge() {
        check(
            Network::Default,
            Some("nameserver fe80::1%eth0\nnameserver 2001:db8::53\nnameserver 192.0.2.1\n"),
            None,
            &expect![[r#"
                nameserver 192.0.2.1
                ---
            "#]],
        );
    }

    #[test]
    fn a_host_without_the_file_is_told_of() {
        check(
            Network::Default,
            None,
            None,
            &expect![[r#"
                ---
                the container has no name server: the host has none; give it one with `--dns`, or use `--network host`
            "#]],
        );
    }

    #[test]
    fn with_the_hosts_network_the_file_is_copied() {
        check(
            Network::Host,
            Some("nameserver 127.0.0.53\n"),
            None,
            &expect![[r#"
            nameserver 127.0.0.53
            ---
        "#]],
        );
    }

    #[test]
    fn a_word_that_only_begins_like_nameserver_is_kept() {
        check(
            Network::Default,
            Some("nameservers 127.0.0.1\n  nameserver 192.0.2.1\n"),
            None,
            &expect![[r#"
                nameservers 127.0.0.1
                  nameserver 192.0.2.1
                ---
            "#]],
        );
    }

    #[test]
    fn the_hosts_file_names_the_container() {
        let extra = [("db".to_owned(), IpAddr::from([10, 213, 0, 9]))];
        let text = hosts_file("web", &[IpAddr::from([10, 213, 0, 2])], &extra);
        expect![[r#"
            127.0.0.1	localhost
            ::1	localhost ip6-localhost ip6-loopback
            10.213.0.2	web
            10.213.0.9	db
        "#]]
        .assert_eq(&text);
    }

    #[test]
    fn without_an_address_the_name_is_found_all_the_same() {
        expect![[r#"
            127.0.0.1	localhost
            ::1	localhost ip6-localhost ip6-loopback
            127.0.1.1	web
        "#]]
        .assert_eq(&hosts_file("web", &[], &[]));
    }

    #[test]
    fn a_host_named_localhost_is_not_named_twice() {
        expect![[r#"
            127.0.0.1	localhost
            ::1	localhost ip6-localhost ip6-loopback
        "#]]
        .assert_eq(&hosts_file("localhost", &[], &[]));
    }
}
