//! The order of Debian versions, as dpkg defines it.

use std::cmp::Ordering;

/// Compares two versions: epoch, upstream version, Debian revision.
///
/// The order is total on all texts, well-formed or not; versions that differ only in leading zeros of
/// numbers, or in a revision of `0` that is left out, are equal.
pub(crate) fn compare(left: &str, right: &str) -> Ordering {
    let (left, right) = (Parts::of(left), Parts::of(right));
    compare_part(left.epoch, right.epoch)
        .then_with(|| compare_part(left.upstream, right.upstream))
        .then_with(|| compare_part(left.revision, right.revision))
}

/// Returns the version without epoch and Debian revision.
pub(crate) fn upstream(version: &str) -> &str {
    Parts::of(version).upstream
}

struct Parts<'v> {
    epoch: &'v str,
    upstream: &'v str,
    revision: &'v str,
}

impl<'v> Parts<'v> {
    fn of(version: &'v str) -> Self {
        let version = version.trim_ascii();
        let (epoch, rest) = version.split_once(':').unwrap_or(("", version));
        let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
        Self { epoch, upstream, revision }
    }
}

/// Runs of other characters and runs of digits are compared in turn.
fn compare_part(left: &str, right: &str) -> Ordering {
    let (mut left, mut right) = (left.as_bytes(), right.as_bytes());
    while !left.is_empty() || !right.is_empty() {
        let (text_left, rest_left) = split(left, |byte| !byte.is_ascii_digit());
        let (text_right, rest_right) = split(right, |byte| !byte.is_ascii_digit());
        let (number_left, after_left) = split(rest_left, u8::is_ascii_digit);
        let (number_right, after_right) = split(rest_right, u8::is_ascii_digit);
        let order = compare_text(text_left, text_right)
            .then_with(|| compare_number(number_left, number_right));
        if order.is_ne() {
            return order;
        }
        (left, right) = (after_left, after_right);
    }
    Ordering::Equal
}

fn split(text: &[u8], belongs: impl Fn(&u8) -> bool) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| !belongs(byte)).unwrap_or(text.len());
    text.split_at_checked(end).unwrap_or((text, &[]))
}

/// A tilde sorts before the end, the end before letters, letters before all else.
fn compare_text(left: &[u8], right: &[u8]) -> Ordering {
    let weight = |byte: Option<&u8>| match byte {
        Some(b'~') => -1,
        None => 0,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
        Some(byte) => i32::from(*byte) + 256,
    };
    (0..left.len().max(right.len()))
        .map(|at| weight(left.get(at)).cmp(&weight(right.get(at))))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// Numbers of any length: without leading zeros, the longer one is the larger.
fn compare_number(left: &[u8], right: &[u8]) -> Ordering {
    let (_, left) = split(left, |byte| *byte == b'0');
    let (_, right) = split(right, |byte| *byte == b'0');
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_order_is_that_of_dpkg() {
        // Each line is in ascending order.
        let ascending: &[&[&str]] = &[
            &[
                "1.0~~", "1.0~~a", "1.0~", "1.0", "1.0a", "1.0+b", "1.0.1", "1.1", "1.10", "2",
                "1:0",
            ],
            &["3.11.2-6+deb12u5", "3.11.2-6+deb12u6", "3.11.2-6+deb12u10", "3.11.2-7"],
            &["2.36-9", "2.36-9+deb12u1", "2.36-9+deb12u14", "2.36-10"],
            &["1-1~bpo12+1", "1-1", "1-1.1"],
            &["99999999999999999999", "100000000000000000000"],
            &["", "0.1"],
        ];
        for line in ascending {
            for pair in line.windows(2) {
                assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
                assert_eq!(compare(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
            }
        }
    }

    #[test]
    fn zeros_and_a_missing_epoch_or_revision_do_not_matter() {
        for (left, right) in
            [("0:1.0-0", "1.0"), ("1.00", "1.0"), ("01.0", "1.0"), ("1.0-00", "1.0")]
        {
            assert_eq!(compare(left, right), Ordering::Equal, "{left} {right}");
        }
        assert_eq!(upstream("1:2.36-1-9+deb12u1"), "2.36-1");
    }

    proptest! {
        #[test]
        fn the_order_is_total(a in "[0-2a:~+.-]{0,8}", b in "[0-2a:~+.-]{0,8}", c in "[0-2a:~+.-]{0,8}") {
            prop_assert_eq!(compare(&a, &a), Ordering::Equal);
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
            if compare(&a, &b).is_le() && compare(&b, &c).is_le() {
                prop_assert!(compare(&a, &c).is_le());
            }
        }

        #[test]
        fn a_tilde_makes_a_version_smaller_and_a_suffix_larger(version in "[0-9]\\.[0-9]{1,3}") {
            prop_assert_eq!(compare(&format!("{version}~rc1"), &version), Ordering::Less);
            prop_assert_eq!(compare(&format!("{version}+deb12u1"), &version), Ordering::Greater);
        }
    }
}
