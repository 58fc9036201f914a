//! `--network`, `--add-host`, `--dns` and `--expose`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::OptionError;
use crate::network::ports::{HostPort, PortMapping};
use crate::network::{DEFAULT_NETWORK, HostAddress, Mac, ports};

/// What a container's network is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetworkOption {
    /// Only loopback.
    None,
    /// The host's.
    Host,
    /// That of a container.
    Container(String),
    /// A place on this one.
    Place(NetworkPlace),
}

/// A place on a network.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetworkPlace {
    /// The network; that of all containers which ask for none is called `bridge`.
    pub name: String,
    /// Further names of the container.
    pub aliases: Vec<String>,
    /// Its address.
    pub ipv4: Option<Ipv4Addr>,
    /// Its address of IPv6.
    pub ipv6: Option<Ipv6Addr>,
    /// Its hardware address.
    pub mac: Option<Mac>,
    /// Which of several networks leads out.
    pub gateway_priority: i32,
}

const EXPECTED: &str = "a network";
const EXAMPLE: &str = "name=web,alias=db,ip=10.216.0.9";

/// Reads `none`, `host`, `container:NAME`, the name of a network, or `name=…,alias=…,ip=…,ip6=…`.
pub fn parse_network(text: &str) -> Result<NetworkOption, OptionError> {
    match text {
        "" => return Err(OptionError::new(text, EXPECTED, EXAMPLE)),
        "none" => return Ok(NetworkOption::None),
        "host" => return Ok(NetworkOption::Host),
        _ => {}
    }
    if let Some(container) = text.strip_prefix("container:") {
        if container.is_empty() {
            return Err(OptionError::new(text, EXPECTED, "container:db"));
        }
        return Ok(NetworkOption::Container(container.to_owned()));
    }
    if !text.contains('=') {
        let name = if text == "default" { DEFAULT_NETWORK } else { text };
        let place = NetworkPlace { name: name.to_owned(), ..NetworkPlace::default() };
        return Ok(NetworkOption::Place(place));
    }
    let mut place = NetworkPlace::default();
    for part in text.split(',') {
        let wrong = || OptionError::new(text, EXPECTED, EXAMPLE);
        let (name, value) = part.split_once('=').ok_or_else(wrong)?;
        match name {
            "name" => value.clone_into(&mut place.name),
            "alias" => place.aliases.push(parse_alias(value)?),
            "ip" => place.ipv4 = Some(value.parse().map_err(|_| wrong())?),
            "ip6" => place.ipv6 = Some(value.parse().map_err(|_| wrong())?),
            "mac-address" => place.mac = Some(parse_mac(value)?),
            "gw-priority" => place.gateway_priority = value.parse().map_err(|_| wrong())?,
            _ => return Err(wrong()),
        }
    }
    match place.name.as_str() {
        "" | "none" | "host" => Err(OptionError::new(text, EXPECTED, EXAMPLE)),
        "default" => {
            DEFAULT_NETWORK.clone_into(&mut place.name);
            Ok(NetworkOption::Place(place))
        }
        _ => Ok(NetworkOption::Place(place)),
    }
}

/// Reads a further name of a container: parts of letters, digits, `-` and `_`, with dots between.
pub fn parse_alias(text: &str) -> Result<String, OptionError> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    let is_label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(plain);
    if text.len() <= 253 && text.split('.').all(is_label) {
        return Ok(text.to_owned());
    }
    Err(OptionError::new(text, "a name that can be looked up", "db"))
}

/// Reads a hardware address.
pub fn parse_mac(text: &str) -> Result<Mac, OptionError> {
    let wrong = |_| OptionError::new(text, "a hardware address", "02:42:ac:11:00:02");
    text.parse().map_err(wrong)
}

/// Reads a line for `/etc/hosts`: `NAME:ADDRESS` or `NAME=ADDRESS`, `host-gateway` being the host.
pub fn parse_host(text: &str) -> Result<(String, HostAddress), OptionError> {
    let wrong = || OptionError::new(text, "a name with an address", "db:192.0.2.9");
    // An address of IPv6 has colons, a name has none.
    let at = text.find([':', '=']).ok_or_else(wrong)?;
    let (name, address) =
        (text.get(..at).unwrap_or_default(), text.get(at + 1..).unwrap_or_default());
    if name.is_empty() || name.bytes().any(|byte| byte.is_ascii_whitespace() || byte == b'#') {
        return Err(wrong());
    }
    if address == "host-gateway" {
        return Ok((name.to_owned(), HostAddress::Gateway));
    }
    let address =
        address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    Ok((name.to_owned(), HostAddress::Address(address)))
}

/// Reads the address of a name server.
pub fn parse_dns(text: &str) -> Result<IpAddr, OptionError> {
    text.parse().map_err(|_| OptionError::new(text, "the address of a name server", "192.0.2.53"))
}

/// Reads a domain that is searched, or a word of the `options` line: one word.
pub fn parse_dns_word(text: &str) -> Result<String, OptionError> {
    let is_word = !text.is_empty() && !text.bytes().any(|byte| byte.is_ascii_whitespace());
    if is_word {
        Ok(text.to_owned())
    } else {
        Err(OptionError::new(text, "one word", "example.com"))
    }
}

/// Reads ports that a container listens on, `PORT[-PORT][/udp]`, as mappings to any port of the host.
pub fn parse_expose(text: &str) -> Result<Vec<PortMapping>, OptionError> {
    let wrong = || OptionError::new(text, "a port of the container", "8080/tcp");
    let mappings = ports::parse(text).map_err(|_| wrong())?;
    let is_plain = |one: &PortMapping| one.host_port == HostPort::Any && one.host_address.is_none();
    if text.contains(':') || !mappings.iter().all(is_plain) { Err(wrong()) } else { Ok(mappings) }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    #[test]
    fn networks_are_read_in_both_forms() {
        let mut all = String::new();
        for text in [
            "none",
            "host",
            "bridge",
            "default",
            "web",
            "container:db",
            "name=web",
            "name=web,alias=a,alias=b,ip=10.1.0.9,ip6=fd00::9,mac-address=02:00:00:00:00:01,gw-priority=3",
            "name=default,ip=10.1.0.9",
            "",
            "container:",
            "name=host",
            "alias=a",
            "name=web,ip=fd00::9",
            "name=web,speed=9",
            "name=web,alias=a b",
            "name=web,mac-address=01:00:00:00:00:01",
        ] {
            let found = match parse_network(text) {
                Ok(found) => format!("{found:?}"),
                Err(error) => format!("error: {error}"),
            };
            all += &format!("{text}\n    {found}\n");
        }
        expect![[r#"
            none
                None
            host
                Host
            bridge
                Place(NetworkPlace { name: "bridge", aliases: [], ipv4: None, ipv6: None, mac: None, gateway_priority: 0 })
            default
                Place(NetworkPlace { name: "bridge", aliases: [], ipv4: None, ipv6: None, mac: None, gateway_priority: 0 })
            web
                Place(NetworkPlace { name: "web", aliases: [], ipv4: None, ipv6: None, mac: None, gateway_priority: 0 })
            container:db
                Container("db")
            name=web
                Place(NetworkPlace { name: "web", aliases: [], ipv4: None, ipv6: None, mac: None, gateway_priority: 0 })
            name=web,alias=a,alias=b,ip=10.1.0.9,ip6=fd00::9,mac-address=02:00:00:00:00:01,gw-priority=3
                Place(NetworkPlace { name: "web", aliases: ["a", "b"], ipv4: Some(10.1.0.9), ipv6: Some(fd00::9), mac: Some(Mac([2, 0, 0, 0, 0, 1])), gateway_priority: 3 })
            name=default,ip=10.1.0.9
                Place(NetworkPlace { name: "bridge", aliases: [], ipv4: Some(10.1.0.9), ipv6: None, mac: None, gateway_priority: 0 })

                error: `` is not a network
            container:
                error: `container:` is not a network
            name=host
                error: `name=host` is not a network
            alias=a
                error: `alias=a` is not a network
            name=web,ip=fd00::9
                error: `name=web,ip=fd00::9` is not a network
            name=web,speed=9
                error: `name=web,speed=9` is not a network
            name=web,alias=a b
                error: `a b` is not a name that can be looked up
            name=web,mac-address=01:00:00:00:00:01
                error: `01:00:00:00:00:01` is not a hardware address
        "#]].assert_eq(&all);
    }

    #[test]
    fn lines_of_hosts_are_read() {
        let host = |text: &str| parse_host(text).ok();
        let address = |text: &str| HostAddress::Address(text.parse().unwrap());
        assert_eq!(host("db:192.0.2.9"), Some(("db".to_owned(), address("192.0.2.9"))));
        assert_eq!(host("db=192.0.2.9"), Some(("db".to_owned(), address("192.0.2.9"))));
        assert_eq!(host("db:fd00::1"), Some(("db".to_owned(), address("fd00::1"))));
        assert_eq!(host("db:[fd00::1]"), Some(("db".to_owned(), address("fd00::1"))));
        assert_eq!(host("host:host-gateway"), Some(("host".to_owned(), HostAddress::Gateway)));
        for text in
            ["", "db", "db:", ":192.0.2.9", "a b:192.0.2.9", "db:example.com", "#:192.0.2.9"]
        {
            assert_eq!(host(text), None, "{text}");
        }
    }

    #[test]
    fn exposed_ports_are_read() {
        assert_eq!(parse_expose("80").unwrap().len(), 1);
        assert_eq!(parse_expose("8000-8003/udp").unwrap().len(), 4);
        for text in ["", "80:80", "x", "0", "127.0.0.1::80"] {
            assert!(parse_expose(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_that_nobody_can_look_up_are_refused() {
        for text in ["db", "db-1", "my_db", "db.back"] {
            assert_eq!(parse_alias(text).unwrap(), text);
        }
        for text in ["", ".", "db.", "a b", "ü", &"a".repeat(64)] {
            assert!(parse_alias(text).is_err(), "{text}");
        }
    }
}
