//! Entry points for fuzzing: each takes any bytes, may refuse them, and must not panic.

use ureq::http::{HeaderValue, Uri};

use crate::challenge::Challenge;
use crate::client::{escape, token_of};
use crate::http::{detail_in, origin, resolve, shown};

/// Reads what a registry and its token server answer: a challenge, a token, an error.
pub fn answer(bytes: &[u8]) {
    if let Some(token) = token_of(bytes) {
        HeaderValue::from_str(&format!("Bearer {token}")).expect("a token fits into a header");
    }
    let detail = detail_in(bytes);
    assert!(!detail.contains(char::is_control) && detail.chars().count() <= 302, "{detail:?}");
    let header = String::from_utf8_lossy(bytes);
    if let Some(Challenge::Bearer { realm, service, scope }) = Challenge::parse(&header) {
        assert!(!shown(&realm).contains(['?', '#']), "a query is shown");
        for value in service.into_iter().chain(scope) {
            let escaped = format!("https://a.test/?service={}", escape(&value));
            escaped.parse::<Uri>().expect("an escaped value fits into an address");
        }
    }
}

/// Follows a redirection. What counts as the same registry is the same host, port and scheme for who
/// connects to it too, since it gets to see who asks.
pub fn location(text: &str) {
    const BASE: &str = "https://registry.test:5000/v2/a/blobs/uploads/?x=y";
    let next = resolve(BASE, text);
    if origin(&next) != origin(BASE) {
        return;
    }
    // What is no address is not asked.
    let Ok(uri) = next.parse::<Uri>() else { return };
    let place = (uri.scheme_str(), uri.host(), uri.port_u16());
    assert_eq!(place, (Some("https"), Some("registry.test"), Some(5000)), "{next}");
}

#[cfg(test)]
mod tests {
    use corten_testkit::mutations;

    #[test]
    fn answers_that_are_nearly_right_never_panic() {
        for answer in [
            r#"Bearer realm="https://a.test/token?x",service="r,\"s",scope=repository:a/b:pull"#,
            r#"{"token":"abc","expires_in":300}"#,
            r#"{"access_token":"abc"}"#,
            r#"{"errors":[{"code":"DENIED","message":"no\n"}]}"#,
        ] {
            mutations(answer.as_bytes(), super::answer);
        }
    }

    #[test]
    fn a_redirection_to_another_host_is_never_taken_for_the_same() {
        for location in [
            "https://registry.test:5000/v2/x",
            "https://registry.test:5000@b.test/",
            "https://registry.test:5000\\@b.test/",
            "//registry.test:5000/x",
            "/v2/x?y",
            "x/../y",
            "?z",
            "",
        ] {
            mutations(location.as_bytes(), |bytes| {
                super::location(&String::from_utf8_lossy(bytes));
            });
        }
    }
}
