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
    "#]]
    .assert_eq(&lines(&texts, duration::parse));
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
    expect![[r#"
        "" => it is not a number with a unit
        "1" => a unit is missing
        "s" => it is not a number with a unit
        ".s" => it is not a number with a unit
        "1x" => the units are `h`, `m`, `s`, `ms`, `us` and `ns`
        "-1s" => it is below zero
        "1 s" => the units are `h`, `m`, `s`, `ms`, `us` and `ns`
        "1s2" => a unit is missing
        "--1s" => it is not a number with a unit
        "+" => it is not a number with a unit
        "9223372036854775808ns" => it is too long
        "99999999999999999999h" => it is too long
        "3000000h" => it is too long
        "1e3s" => the units are `h`, `m`, `s`, `ms`, `us` and `ns`
    "#]]
    .assert_eq(&lines(&texts, duration::parse));
}

#[test]
fn sizes_are_powers_of_1024() {
    let texts = [
        "0", "1", "1b", "1k", "1K", "1kb", "1KiB", "1.5m", "2 g", "1t", "1p", ".5k", "1e3", "",
        "k", "1x", "1kib ", "1bb", "1kx", "-1", "9p", "9999999p", "1..2",
    ];
    let read = |text: &str| mount::size_bytes(text).ok_or("none");
    expect![[r#"
        "0" => 0
        "1" => 1
        "1b" => 1
        "1k" => 1024
        "1K" => 1024
        "1kb" => 1024
        "1KiB" => 1024
        "1.5m" => 1572864
        "2 g" => 2147483648
        "1t" => 1099511627776
        "1p" => 1125899906842624
        ".5k" => 512
        "1e3" => 1000
        "" => none
        "k" => none
        "1x" => none
        "1kib " => none
        "1bb" => none
        "1kx" => none
        "-1" => none
        "9p" => 10133099161583616
        "9999999p" => none
        "1..2" => none
    "#]]
    .assert_eq(&lines(&texts, read));
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
    expect![[r#"
        "80" => ("80/tcp", false, false)
        "80/tcp" => ("80/tcp", false, false)
        "53/UDP" => ("53/udp", false, true)
        "9/sctp" => ("9/sctp", false, false)
        "80-82/udp" => ("80/udp 81/udp 82/udp", false, false)
        "80-80" => ("80/tcp", false, false)
        "80/" => ("80/tcp", false, false)
        "0" => ("0/tcp", false, false)
        "65535" => ("65535/tcp", false, false)
        "8080:80" => ("80/tcp", true, false)
        "127.0.0.1:8080:80" => ("80/tcp", true, false)
        "[::1]:8080:80" => ("80/tcp", true, false)
        "::1:8080:80" => ("80/tcp", true, false)
        "8000-8001:80" => ("80/tcp", true, false)
        "8000-8001:80-81" => ("80/tcp 81/tcp", true, false)
        "127.0.0.1::80" => ("80/tcp", true, false)
    "#]]
    .assert_eq(&lines(&texts, read));
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
    expect![[r#"
        "" => a port number is missing
        "/tcp" => a port number is missing
        "80/x" => unknown protocol `x`
        "x" => invalid port `x`
        "65536" => invalid port `65536`
        "-1" => invalid port `-1`
        "82-80" => invalid port `82-80`
        "80-" => invalid port `80-`
        "-80" => invalid port `-80`
        "x:80" => invalid port `x` of the host
        "8000-8001:80-82" => the ranges `80-82` and `8000-8001` differ in length
        "localhost:80:80" => invalid address `localhost`
        "[::1:80:80" => invalid address `[::1`
        "80/tcp/udp" => unknown protocol `tcp/udp`
    "#]]
    .assert_eq(&lines(&texts, port::parse));
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
    expect![[r#"
        "a" => ["a"]
        "a,b" => ["a", "b"]
        "a,,b" => ["a", "", "b"]
        "," => ["", ""]
        "a," => ["a", ""]
        "\"a,b\",c" => ["a,b", "c"]
        "\"a\"\"b\"" => ["a\"b"]
        "\"\"" => [""]
        "a b , c" => ["a b ", " c"]
        "a\r\n" => ["a"]
        "" => it is empty
        "\"a" => a double quote is not closed, or text follows it
        "\"a\"b" => a double quote is not closed, or text follows it
        "a\"b" => a double quote stands inside a field
        "\n" => it is empty
    "#]]
    .assert_eq(&lines(&texts, csv::fields));
}
