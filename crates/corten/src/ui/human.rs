//! Sizes, ages and durations as people read them.

use std::time::Duration;

/// `56.2MB`: decimal units, as Docker prints sizes.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["B", "kB", "MB", "GB", "TB", "PB"];
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 {
        return format!("{count}B");
    }
    let digits = if value >= 99.95 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.digits$}{}", UNITS[unit])
}

/// `2 GiB` or `1.5 MiB`: binary units, as memory limits are given.
pub(crate) fn bytes_binary(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut scale = 1_u64;
    while count / scale >= 1024 && unit + 1 < UNITS.len() {
        scale *= 1024;
        unit += 1;
    }
    let tenths = count.saturating_mul(10).saturating_add(scale / 2) / scale;
    if tenths.is_multiple_of(10) {
        format!("{} {}", tenths / 10, UNITS[unit])
    } else {
        format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
    }
}

/// `3 hours ago`, in Docker's words.
pub(crate) fn age(then: i64, now: i64) -> String {
    let seconds = now.saturating_sub(then);
    let (count, unit) = match seconds {
        i64::MIN..=0 => return "just now".to_owned(),
        1..=59 => (seconds, "second"),
        60..=3599 => (seconds / 60, "minute"),
        3600..=86_399 => (seconds / 3600, "hour"),
        86_400..=1_209_599 => (seconds / 86_400, "day"),
        1_209_600..=5_183_999 => (seconds / 604_800, "week"),
        5_184_000..=63_071_999 => (seconds / 2_592_000, "month"),
        _ => (seconds / 31_536_000, "year"),
    };
    format!("{count} {unit}{} ago", if count == 1 { "" } else { "s" })
}

/// `12 ms`, `3.4 s` or `2 min 5 s`.
pub(crate) fn duration(elapsed: Duration) -> String {
    let milliseconds = elapsed.as_millis();
    match milliseconds {
        0..=999 => format!("{milliseconds} ms"),
        1000..=59_949 => format!("{:.1} s", elapsed.as_secs_f64()),
        _ => {
            let seconds = (milliseconds + 500) / 1000;
            format!("{} min {} s", seconds / 60, seconds % 60)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        let cases = [
            (0, "0B"),
            (999, "999B"),
            (1000, "1.00kB"),
            (56_249_999, "56.2MB"),
            (999_499_999, "999MB"),
            (999_999_999, "1.00GB"),
            (2_010_224_640, "2.01GB"),
        ];
        for (count, text) in cases {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn memory_is_shown_in_the_units_it_is_given_in() {
        let cases =
            [(512, "512 B"), (64 << 20, "64 MiB"), (3 << 29, "1.5 GiB"), (2 << 30, "2 GiB")];
        for (count, text) in cases {
            assert_eq!(bytes_binary(count), text);
        }
    }

    #[test]
    fn ages_are_dockers() {
        assert_eq!(age(0, 59), "59 seconds ago");
        assert_eq!(age(0, 3600), "1 hour ago");
        assert_eq!(age(0, 86_400 * 15), "2 weeks ago");
        assert_eq!(age(10, 5), "just now");
    }

    #[test]
    fn durations_grow_with_their_unit() {
        assert_eq!(duration(Duration::from_millis(9)), "9 ms");
        assert_eq!(duration(Duration::from_millis(3_440)), "3.4 s");
        assert_eq!(duration(Duration::from_secs(125)), "2 min 5 s");
    }
}
