//! Addresses as they are asked for, and as they may be written down.

use std::str::FromStr;

/// What stands for a value that must not be written down.
const REDACTED: &str = "redacted";

/// Parameters of a query whose values are secrets or parts of a signature, in lower case.
const SECRET_PARAMETERS: [&str; 23] = [
    "access_key",
    "access_token",
    "accesskey",
    "api_key",
    "apikey",
    "auth",
    "auth_token",
    "authorization",
    "awsaccesskeyid",
    "credential",
    "expires",
    "jwt",
    "key",
    "key-pair-id",
    "passwd",
    "password",
    "policy",
    "private_token",
    "secret",
    "sig",
    "signature",
    "token",
    "x-access-token",
];

/// The same for families of them: signed addresses of object stores.
const SECRET_PREFIXES: [&str; 2] = ["x-amz-", "x-goog-"];

/// Parts of a shared access signature, which are only that beside `sig`.
const SHARED_ACCESS: [&str; 11] =
    ["se", "sip", "ske", "skoid", "sks", "skt", "sktid", "skv", "sp", "spr", "st"];

/// A server: what a connection leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    /// Whether it is spoken to over TLS.
    pub(crate) secure: bool,
    /// In lower case; an IPv6 address in brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Origin {
    /// Reads `host:port`, or `host` alone.
    pub(crate) fn parse(authority: &str, secure: bool) -> Option<Self> {
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let default = if secure { 443 } else { 80 };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => {
                (host, if port.is_empty() { default } else { decimal(port)? })
            }
            _ => (authority, default),
        };
        let is_host = match host.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').is_some_and(|name| is_of(name, b".:")),
            None => is_of(host, b"-._"),
        };
        if !is_host {
            return None;
        }
        Some(Self { secure, host: host.to_ascii_lowercase(), port })
    }

    /// The name without brackets, as certificates have it.
    pub(crate) fn name(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    /// The address of a path on it.
    pub(crate) fn url(&self, path: &str) -> String {
        let (scheme, default) = if self.secure { ("https", 443) } else { ("http", 80) };
        let host = &self.host;
        if self.port == default {
            format!("{scheme}://{host}{path}")
        } else {
            format!("{scheme}://{host}:{}{path}", self.port)
        }
    }
}

/// Reads an absolute address of HTTP into its server and path.
pub(crate) fn split(url: &str) -> Option<(Origin, String)> {
    let (scheme, rest) = url.split_once("://")?;
    let secure = match scheme.to_ascii_lowercase().as_str() {
        "http" => false,
        "https" => true,
        _ => return None,
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let path = path.split('#').next().unwrap_or_default();
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    Some((Origin::parse(authority, secure)?, path))
}

/// Whether a text has letters, digits and some other characters, and at least one of them.
fn is_of(text: &str, others: &[u8]) -> bool {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || others.contains(&byte);
    !text.is_empty() && text.bytes().all(is_known)
}

/// Reads a number of digits alone: Rust would take a sign too.
pub(crate) fn decimal<N: FromStr>(text: &str) -> Option<N> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

/// The address as it is recorded: without credentials and fragment, and with the values of secret
/// parameters replaced, so that the same thing signed anew has the same address.
pub fn recorded_url(url: &str) -> String {
    let Some((origin, path)) = split(url) else { return without_query(url) };
    let Some((path, query)) = path.split_once('?') else { return origin.url(&path) };
    let names: Vec<String> = query.split('&').map(name_of).collect();
    let is_shared_access = names.iter().any(|name| name == "sig");
    let is_secret = |name: &str| {
        SECRET_PARAMETERS.contains(&name)
            || SECRET_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
            || (is_shared_access && SHARED_ACCESS.contains(&name))
    };
    let pairs = query.split('&').zip(&names).map(|(pair, name)| match pair.split_once('=') {
        Some((written, _)) if is_secret(name) => format!("{written}={REDACTED}"),
        _ => pair.to_owned(),
    });
    let query: Vec<String> = pairs.collect();
    format!("{}?{}", origin.url(path), query.join("&"))
}

/// Whether something was left out of a recorded address, so that it cannot be asked for.
pub(crate) fn is_redacted(recorded: &str) -> bool {
    recorded.contains(&format!("={REDACTED}"))
}

/// What is left to write down of something that is no address of HTTP, such as a relative one.
fn without_query(text: &str) -> String {
    let text = text.split(['?', '#']).next().unwrap_or_default();
    match text.split_once("://") {
        Some((scheme, rest)) => {
            let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
            let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
            format!("{scheme}://{host}/{path}")
        }
        None => text.to_owned(),
    }
}

/// The name of a parameter in lower case, decoded.
fn name_of(pair: &str) -> String {
    let name = pair.split_once('=').map_or(pair, |(name, _)| name);
    decode(name).to_ascii_lowercase()
}

/// Replaces `%41` by `A`; what is no such code stays as it is.
pub(crate) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = match (first, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)),
            _ => None,
        };
        if let Some((high, low)) = code {
            bytes.push(high << 4 | low);
            rest = tail.get(2..).unwrap_or_default();
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    u8::try_from(char::from(digit).to_digit(16)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_recorded_without_what_is_secret() {
        for (url, recorded) in [
            ("http://a.test", "http://a.test/"),
            ("HTTP://A.Test:80/X?b=c#d", "http://a.test/X?b=c"),
            ("https://u:pw@a.test:443/x", "https://a.test/x"),
            ("https://u:pw@a.test:8443/x@y", "https://a.test:8443/x@y"),
            ("https://[::1]:8443/x", "https://[::1]:8443/x"),
            ("https://a.test/f?token=s3cret&v=1", "https://a.test/f?token=redacted&v=1"),
            (
                "https://a.test/f?X-Amz-Date=1&x-amz-signature=2&n=3",
                "https://a.test/f?X-Amz-Date=redacted&x-amz-signature=redacted&n=3",
            ),
            (
                "https://a.test/f?sp=r&se=2&sig=3",
                "https://a.test/f?sp=redacted&se=redacted&sig=redacted",
            ),
            ("https://a.test/f?sp=r&se=2", "https://a.test/f?sp=r&se=2"),
            ("https://a.test/f?%74oken=x", "https://a.test/f?%74oken=redacted"),
            ("../other?token=x", "../other"),
            ("ftp://u:p@a.test/x?y", "ftp://a.test/x"),
        ] {
            assert_eq!(recorded_url(url), recorded, "{url}");
        }
    }

    #[test]
    fn a_server_is_a_name_and_a_port() {
        let of = |text: &str| Origin::parse(text, true).map(|origin| (origin.host, origin.port));
        assert_eq!(of("A.test:8443"), Some(("a.test".to_owned(), 8443)));
        assert_eq!(of("a.test"), Some(("a.test".to_owned(), 443)));
        assert_eq!(of("[::1]:1"), Some(("[::1]".to_owned(), 1)));
        assert_eq!(of("[::1]"), Some(("[::1]".to_owned(), 443)));
        for bad in [
            "",
            ":1",
            "a b",
            "a.test:x",
            "a.test:99999",
            "a/b",
            "a::1",
            "a:1:2",
            "[a",
            "a]",
            "[]:1",
            "a:+1",
            "a[b]",
        ] {
            assert_eq!(of(bad), None, "{bad}");
        }
    }
}
