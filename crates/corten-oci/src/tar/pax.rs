//! PAX records: `length key=value\n`.

use std::collections::BTreeMap;

/// Records by key; a later one replaces an earlier one.
pub(super) type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// Encodes records in the order of their keys.
pub(super) fn encode(records: &Records) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, value) in records {
        // The length counts itself: try with as many digits as the rest has, and once more.
        let rest = key.len() + value.len() + 3;
        let mut total = rest + digits(rest);
        if rest + digits(total) != total {
            total = rest + digits(total);
        }
        bytes.extend_from_slice(total.to_string().as_bytes());
        bytes.push(b' ');
        bytes.extend_from_slice(key);
        bytes.push(b'=');
        bytes.extend_from_slice(value);
        bytes.push(b'\n');
    }
    bytes
}

fn digits(number: usize) -> usize {
    number.to_string().len()
}

/// Decodes records in the order in which they stand; `None` if they are malformed.
pub(super) fn decode(mut bytes: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        // Some writers fill up with NULs.
        if bytes.iter().all(|&byte| byte == 0) {
            break;
        }
        let space = bytes.iter().position(|&byte| byte == b' ')?;
        let length = std::str::from_utf8(bytes.get(..space)?).ok()?;
        if !length.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let length: usize = length.parse().ok()?;
        let record = bytes.get(space + 1..length)?;
        let record = record.strip_suffix(b"\n")?;
        let equals = record.iter().position(|&byte| byte == b'=')?;
        let (key, value) = (record.get(..equals)?, record.get(equals + 1..)?);
        if key.is_empty() {
            return None;
        }
        records.push((key, value));
        bytes = bytes.get(length..)?;
    }
    Some(records)
}

/// The name of an attribute may have an `=`, which would end the key: written as GNU tar does.
pub(super) fn encode_xattr_name(name: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(name.len());
    for &byte in name {
        match byte {
            b'%' => encoded.extend_from_slice(b"%25"),
            b'=' => encoded.extend_from_slice(b"%3D"),
            byte => encoded.push(byte),
        }
    }
    encoded
}

pub(super) fn decode_xattr_name(name: &[u8]) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some((&byte, after)) = rest.split_first() {
        if let Some(after) = rest.strip_prefix(b"%25") {
            decoded.push(b'%');
            rest = after;
        } else if let Some(after) = rest.strip_prefix(b"%3D") {
            decoded.push(b'=');
            rest = after;
        } else {
            decoded.push(byte);
            rest = after;
        }
    }
    decoded
}

/// Parses a decimal time with a fraction into whole seconds (rounded down) and nanoseconds.
pub(super) fn parse_time(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let negative = whole.starts_with('-');
    let seconds: i64 = match whole {
        "" | "-" => 0,
        whole => whole.parse().ok()?,
    };
    let mut nanoseconds: u32 = 0;
    for place in 0..9 {
        let digit = fraction.as_bytes().get(place).map_or(0, |digit| digit - b'0');
        nanoseconds = nanoseconds * 10 + u32::from(digit);
    }
    if negative && nanoseconds > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds));
    }
    Some((seconds, nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_counts_itself_at_every_change_of_digits() {
        for length in [0, 1, 4, 5, 6, 93, 94, 95, 990, 991, 992, 9989, 9990] {
            let value = vec![b'v'; length];
            let records = Records::from([(b"key".to_vec(), value.clone())]);
            let bytes = encode(&records);
            assert_eq!(decode(&bytes).unwrap(), [(&b"key"[..], value.as_slice())], "{length}");
        }
    }

    #[test]
    fn malformed_records_are_refused() {
        for bytes in [
            &b"x"[..],
            b"5 a=b",
            b"99 a=b\n",
            b"0 a=b\n",
            b"1 a=b\n",
            b"6 a=bc\n",
            b"6 aab\n",
            b"5 =b\n",
            b"+6 a=b\n",
            b" a=b\n",
            b"99999999999999999999999 a=b\n",
        ] {
            assert_eq!(decode(bytes), None, "{}", String::from_utf8_lossy(bytes));
        }
        assert_eq!(decode(b"6 a=b\n"), Some(vec![(&b"a"[..], &b"b"[..])]));
    }

    #[test]
    fn times_round_down() {
        assert_eq!(parse_time(b"1.5"), Some((1, 500_000_000)));
        assert_eq!(parse_time(b"-1.5"), Some((-2, 500_000_000)));
        assert_eq!(parse_time(b"-0.25"), Some((-1, 750_000_000)));
        assert_eq!(parse_time(b"7"), Some((7, 0)));
        assert_eq!(parse_time(b"7.1234567899"), Some((7, 123_456_789)));
        assert_eq!(parse_time(b"x"), None);
        assert_eq!(parse_time(b"1.-5"), None);
    }

    #[test]
    fn attribute_names_survive_an_equals_sign() {
        let name = b"user.a=b%3Dc";
        assert_eq!(decode_xattr_name(&encode_xattr_name(name)), name);
        assert_eq!(decode_xattr_name(b"user.a%b%2"), b"user.a%b%2");
    }
}
