//! RFC 3339, the spelling of time in image configurations.

use jiff::Timestamp;

/// Formats seconds since 1970 in UTC; beyond the years that RFC 3339 can name, the nearest that it can.
pub fn rfc3339(epoch_seconds: i64) -> String {
    let (min, max) = (Timestamp::MIN.as_second() + 1, Timestamp::MAX.as_second());
    let clamped = epoch_seconds.clamp(min.max(-62_135_596_800), max.min(253_402_207_200));
    Timestamp::from_second(clamped).unwrap_or(Timestamp::UNIX_EPOCH).to_string()
}

/// Formats a time with nanoseconds, always nine digits, so that texts compare as the times do.
pub fn rfc3339_nanos(epoch_seconds: i64, nanoseconds: u32) -> String {
    let whole = rfc3339(epoch_seconds);
    format!("{}.{nanoseconds:09}Z", whole.trim_end_matches('Z'))
}

/// Returns seconds since 1970, the fraction cut off; `None` if the text is no such time.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    // jiff reads more than RFC 3339 (for example a bare space instead of the T); dates from other
    // tools are better read than refused.
    let time: Timestamp = text.trim().parse().ok()?;
    Some(time.as_nanosecond().div_euclid(1_000_000_000)).and_then(|s| i64::try_from(s).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_printed_in_utc_and_read_with_offset_and_fraction() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(1_700_000_000), "2023-11-14T22:13:20Z");
        assert_eq!(parse_rfc3339("2023-11-14T22:13:20Z"), Some(1_700_000_000));
        assert_eq!(parse_rfc3339("2023-11-14T23:13:20.999999999+01:00"), Some(1_700_000_000));
        assert_eq!(parse_rfc3339("0001-01-01T00:00:00Z"), Some(-62_135_596_800));
        assert_eq!(parse_rfc3339("1969-12-31T23:59:59.5Z"), Some(-1));
        assert_eq!(parse_rfc3339("yesterday"), None);
    }

    #[test]
    fn times_with_nanoseconds_compare_as_texts() {
        assert_eq!(rfc3339_nanos(1_700_000_000, 5), "2023-11-14T22:13:20.000000005Z");
        assert!(rfc3339_nanos(1, 999_999_999) < rfc3339_nanos(2, 0));
        assert_eq!(parse_rfc3339(&rfc3339_nanos(7, 3)), Some(7));
    }

    #[test]
    fn any_number_of_seconds_has_a_spelling() {
        for seconds in [i64::MIN, i64::MAX, -62_135_596_801, 253_402_300_800] {
            assert!(parse_rfc3339(&rfc3339(seconds)).is_some(), "{seconds}");
        }
    }
}
