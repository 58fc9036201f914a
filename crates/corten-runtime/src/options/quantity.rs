//! Sizes, processor shares and limits.

use std::path::{Path, PathBuf};

use super::OptionError;
use crate::spec::{Rlimit, RlimitKind};

/// Parses a size as Docker does: a number with an optional `b`, `k`, `m`, `g` or `t`, each a
/// power of 1024, alone or with `b` or `ib` after it.
pub fn parse_bytes(text: &str) -> Result<u64, OptionError> {
    let error = || OptionError::new(text, "a size in bytes", "512m");
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(lower.len());
    let (number, unit) = lower.split_at(digits);
    let shift = match unit.trim() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        "p" | "pb" | "pib" => 50,
        _ => return Err(error()),
    };
    let scale = 1_u64 << shift;
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(scale).ok_or_else(error);
    }
    decimal(number, scale).ok_or_else(error)
}

/// `1.5` times a scale, in whole numbers: the fraction is cut after nine digits.
fn decimal(number: &str, scale: u64) -> Option<u64> {
    const BILLION: u128 = 1_000_000_000;
    let (whole, fraction) = number.split_once('.')?;
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let whole: u128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut digits: String = fraction.chars().take(9).collect();
    if !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    while digits.len() < 9 {
        digits.push('0');
    }
    let fraction: u128 = digits.parse().ok()?;
    let billionths = whole.checked_mul(BILLION)?.checked_add(fraction)?;
    u64::try_from(billionths.checked_mul(u128::from(scale))? / BILLION).ok()
}

/// Parses `--cpus`: a decimal number of processors, to thousandths of one.
pub fn parse_cpus(text: &str) -> Result<u64, OptionError> {
    let error = || OptionError::new(text, "a number of processors greater than 0.01", "1.5");
    let text = text.trim();
    let millis = match text.parse::<u64>() {
        Ok(whole) => whole.checked_mul(1000),
        Err(_) => decimal(text, 1000),
    };
    // The kernel's smallest quota is a millisecond in each tenth of a second.
    millis.filter(|millis| (10..=1_000_000).contains(millis)).ok_or_else(error)
}

/// Parses `--device-read-bps` and its like, `/dev/NAME:NUMBER`; `is_size` reads `1m` as bytes.
pub fn parse_block_limit(text: &str, is_size: bool) -> Result<(PathBuf, u64), OptionError> {
    let error = || OptionError::new(text, "a limit `/dev/NAME:NUMBER`", "/dev/sda:10m");
    let (path, value) = text.rsplit_once(':').ok_or_else(error)?;
    let path = Path::new(path);
    let value = if is_size { parse_bytes(value)? } else { value.parse().map_err(|_| error())? };
    if path.is_absolute() && value > 0 { Ok((path.to_owned(), value)) } else { Err(error()) }
}

/// Parses `--memory-swap`: a size, or `-1` for as much as there is.
pub fn parse_swap(text: &str) -> Result<u64, OptionError> {
    if text == "-1" { Ok(u64::MAX) } else { parse_bytes(text) }
}

/// Parses `--ulimit NAME=SOFT[:HARD]`; `-1` or `unlimited` is no limit.
pub fn parse_ulimit(text: &str) -> Result<Rlimit, OptionError> {
    let error = || OptionError::new(text, "a limit `NAME=SOFT[:HARD]`", "nofile=1024:2048");
    let (name, values) = text.split_once('=').ok_or_else(error)?;
    let kind = kind_of(name).ok_or_else(error)?;
    let number = |value: &str| match value {
        "-1" | "unlimited" => Some(u64::MAX),
        value => value.parse().ok(),
    };
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let (soft, hard) = number(soft).zip(number(hard)).ok_or_else(error)?;
    if soft > hard {
        return Err(OptionError::new(
            text,
            "a limit whose soft value is at most the hard one",
            "nofile=1024:2048",
        ));
    }
    Ok(Rlimit { kind, soft, hard })
}

fn kind_of(name: &str) -> Option<RlimitKind> {
    Some(match name {
        "as" => RlimitKind::AddressSpace,
        "core" => RlimitKind::Core,
        "cpu" => RlimitKind::Cpu,
        "data" => RlimitKind::Data,
        "fsize" => RlimitKind::FileSize,
        "locks" => RlimitKind::Locks,
        "memlock" => RlimitKind::LockedMemory,
        "msgqueue" => RlimitKind::MessageQueue,
        "nice" => RlimitKind::Nice,
        "nofile" => RlimitKind::OpenFiles,
        "nproc" => RlimitKind::Processes,
        "rss" => RlimitKind::ResidentSet,
        "rtprio" => RlimitKind::RealtimePriority,
        "rttime" => RlimitKind::RealtimeTime,
        "sigpending" => RlimitKind::PendingSignals,
        "stack" => RlimitKind::Stack,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_powers_of_1024() {
        let cases = [
            ("0", 0),
            ("1024", 1024),
            ("64b", 64),
            ("2k", 2048),
            ("512m", 512 << 20),
            ("2G", 2 << 30),
            ("2GiB", 2 << 30),
            ("1.5g", 3 << 29),
            (".5k", 512),
            (" 1 mb ", 1 << 20),
        ];
        for (text, bytes) in cases {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn nonsense_is_not_a_size() {
        for text in ["", "m", "-1", "1x", "1.2.3", "1e3", "99999999999g", ".", "١m"] {
            assert!(parse_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn processors_are_counted_in_thousandths() {
        assert_eq!(parse_cpus("1.5"), Ok(1500));
        assert_eq!(parse_cpus("2"), Ok(2000));
        assert_eq!(parse_cpus("0.01"), Ok(10));
        for text in ["0", "0.001", "-1", "x", "", "10000000"] {
            assert!(parse_cpus(text).is_err(), "{text}");
        }
    }

    #[test]
    fn limits_of_disks_name_a_device() {
        let parsed = parse_block_limit("/dev/sda:10m", true).unwrap();
        assert_eq!(parsed, (PathBuf::from("/dev/sda"), 10 << 20));
        assert_eq!(parse_block_limit("/dev/sda:100", false).unwrap().1, 100);
        for text in ["/dev/sda", "sda:1", "/dev/sda:0", "/dev/sda:x", ":1"] {
            assert!(parse_block_limit(text, false).is_err(), "{text}");
        }
        assert!(parse_block_limit("/dev/sda:1m", false).is_err());
        assert_eq!(parse_swap("-1"), Ok(u64::MAX));
        assert_eq!(parse_swap("1g"), Ok(1 << 30));
    }

    #[test]
    fn limits_have_a_soft_and_a_hard_value() {
        let limit = parse_ulimit("nofile=1024:2048").unwrap();
        assert_eq!((limit.soft, limit.hard), (1024, 2048));
        let limit = parse_ulimit("core=-1").unwrap();
        assert_eq!((limit.soft, limit.hard), (u64::MAX, u64::MAX));
        for text in ["nofile", "nofile=", "nofile=2:1", "bogus=1", "nofile=a"] {
            assert!(parse_ulimit(text).is_err(), "{text}");
        }
    }
}
