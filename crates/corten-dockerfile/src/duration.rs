//! Durations as Go writes them: `1h30m`, `1.5s`, `300ms`.

use std::fmt;
use std::time::Duration;

/// Why a text is no duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DurationError {
    /// It is not made of numbers with units.
    Malformed,
    /// A number has no unit.
    MissingUnit,
    UnknownUnit,
    /// It is below zero.
    Negative,
    /// It is longer than 292 years.
    TooLong,
}

impl fmt::Display for DurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "it is not a number with a unit",
            Self::MissingUnit => "a unit is missing",
            Self::UnknownUnit => "the units are `h`, `m`, `s`, `ms`, `us` and `ns`",
            Self::Negative => "it is below zero",
            Self::TooLong => "it is too long",
        })
    }
}

impl std::error::Error for DurationError {}

/// Longest duration that Go can hold, in nanoseconds.
const LONGEST_NS: u128 = i64::MAX as u128;

/// Reads a duration; a lone `0` needs no unit.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(DurationError::Malformed);
    }
    let mut total_ns: u128 = 0;
    while !rest.is_empty() {
        total_ns += term(&mut rest)?;
        // The lowest number has no positive counterpart, but it is negative anyhow.
        if total_ns > LONGEST_NS + u128::from(negative) {
            return Err(DurationError::TooLong);
        }
    }
    if negative && total_ns > 0 {
        return Err(DurationError::Negative);
    }
    let total_ns = u64::try_from(total_ns).map_err(|_| DurationError::TooLong)?;
    Ok(Duration::from_nanos(total_ns))
}

/// Reads a number and its unit.
fn term(rest: &mut &str) -> Result<u128, DurationError> {
    let whole = digits(rest);
    let fraction = match rest.strip_prefix('.') {
        Some(after) => {
            *rest = after;
            digits(rest)
        }
        None => "",
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(DurationError::Malformed);
    }
    let length = rest.find(|c: char| c == '.' || c.is_ascii_digit()).unwrap_or(rest.len());
    let (unit, after) = rest.split_at(length);
    *rest = after;
    let unit_ns: u128 = match unit {
        "" => return Err(DurationError::MissingUnit),
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60 * 1_000_000_000,
        "h" => 3_600 * 1_000_000_000,
        _ => return Err(DurationError::UnknownUnit),
    };
    let whole: u64 = match whole {
        "" => 0,
        digits => digits.parse().map_err(|_| DurationError::TooLong)?,
    };
    // Digits beyond those that reach a nanosecond of an hour cannot matter.
    let fraction = &fraction[..fraction.len().min(18)];
    let scale = 10_u128.pow(u32::try_from(fraction.len()).unwrap_or_default());
    let fraction: u128 = fraction.parse().unwrap_or_default();
    Ok(u128::from(whole) * unit_ns + fraction * unit_ns / scale)
}

/// Takes the digits at the beginning.
fn digits<'a>(rest: &mut &'a str) -> &'a str {
    let length = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (digits, after) = rest.split_at(length);
    *rest = after;
    digits
}
