//! Durations, sizes, ports and lines of values.

use expect_test::expect;

use crate::{csv, duration, mount, port};

fn lines<T: std::fmt::Debug, E: std::fmt::Display>(
    texts: &[&str],
    read: impl Fn(&str) -> Result<T, E>,
) -> String {
    let mut out = String::new();
    for text in texts {
        let became = match read(text) {
            Ok(value) => format!("{value:?}"),
            Err(error) => error.to_string(),
        };
        super::line(&mut out, &format!("{text:?} => {became}"));
    }
    out
}

#[test]
fn durations_are_written_as_in_go() {
    let texts = [
        "1s",
        "1m30s",
        "1.5h",
        ".5s",
        "1.s",
        "100ms",
        "1us",
        "1µs",
        "1μs",
        "1ns",
        "0",
        "+5s",
        "-0s",
        "0.123456789012345678901s",
        "9223372036854775807ns",
    ];
    expect![[r#"
        "1s" => 1s
        "1m30s" => 90s
        "1.5h" => 5400s
        ".5s" => 500ms
        "1.s" => 1s
        "100ms" => 100ms
        "1us" => 1µs
        "1µs" => 1µs
        "1μs" => 1µs
        "1ns" => 1ns
        "0" => 0ns
        "+5s" => 5s
        "-0s" => 0ns
        "0.123456789012345678901s" => 123.456789ms
        "9223372036854775807ns" => 9223372036.854775807s
    "#]].assert_eq(&lines(&texts, duration::parse));
}

#[test]
fn other_durations_are_refused() {
    let texts = [
        "",
        "1",
        "s",
        ".s",
        "1x",
        "-1s",
        "1 s",
        "1s2",
        "--1s",
        "+",
        "9223372036854775808ns",
        "99999999999999999999h",
        "3000000h",
        "1e3s",
    ];
    expect![""].assert_eq(&lines(&texts, duration::parse));
}

#[test]
fn sizes_are_powers_of_1024() {
    let texts = [
        "0", "1", "1b", "1k", "1K", "1kb", "1KiB", "1.5m", "2 g", "1t", "1p", ".5k", "1e3", "",
        "k", "1x", "1kib ", "1bb", "1kx", "-1", "9p", "9999999p", "1..2",
    ];
    let read = |text: &str| mount::size_bytes(text).ok_or("none");
    expect![""].assert_eq(&lines(&texts, read));
}

#[test]
fn ports_have_numbers_and_protocols() {
    let texts = [
        "80",
        "80/tcp",
        "53/UDP",
        "9/sctp",
        "80-82/udp",
        "80-80",
        "80/",
        "0",
        "65535",
        "8080:80",
        "127.0.0.1:8080:80",
        "[::1]:8080:80",
        "::1:8080:80",
        "8000-8001:80",
        "8000-8001:80-81",
        "127.0.0.1::80",
    ];
    let read = |text: &str| {
        port::parse(text).map(|exposed| {
            let ports: Vec<String> = exposed.ports.iter().map(ToString::to_string).collect();
            (ports.join(" "), exposed.has_host_part, exposed.protocol_in_upper_case)
        })
    };
    expect![""].assert_eq(&lines(&texts, read));
}

#[test]
fn other_ports_are_refused() {
    let texts = [
        "",
        "/tcp",
        "80/x",
        "x",
        "65536",
        "-1",
        "82-80",
        "80-",
        "-80",
        "x:80",
        "8000-8001:80-82",
        "localhost:80:80",
        "[::1:80:80",
        "80/tcp/udp",
    ];
    expect![""].assert_eq(&lines(&texts, port::parse));
}

#[test]
fn values_are_cut_at_commas() {
    let texts = [
        "a",
        "a,b",
        "a,,b",
        ",",
        "a,",
        "\"a,b\",c",
        "\"a\"\"b\"",
        "\"\"",
        "a b , c",
        "a\r\n",
        "",
        "\"a",
        "\"a\"b",
        "a\"b",
        "\n",
    ];
    expect![""].assert_eq(&lines(&texts, csv::fields));
}
