//! What flags say about the end of a container: signals, and what is kept of its output.

use super::OptionError;

/// The signals that have names, by their numbers on x86-64 and arm64, signal(7).
const NAMES: [(&str, i32); 32] = [
    ("HUP", libc::SIGHUP),
    ("INT", libc::SIGINT),
    ("QUIT", libc::SIGQUIT),
    ("ILL", libc::SIGILL),
    ("TRAP", libc::SIGTRAP),
    ("ABRT", libc::SIGABRT),
    ("BUS", libc::SIGBUS),
    ("FPE", libc::SIGFPE),
    ("KILL", libc::SIGKILL),
    ("USR1", libc::SIGUSR1),
    ("SEGV", libc::SIGSEGV),
    ("USR2", libc::SIGUSR2),
    ("PIPE", libc::SIGPIPE),
    ("ALRM", libc::SIGALRM),
    ("TERM", libc::SIGTERM),
    ("STKFLT", libc::SIGSTKFLT),
    ("CHLD", libc::SIGCHLD),
    ("CONT", libc::SIGCONT),
    ("STOP", libc::SIGSTOP),
    ("TSTP", libc::SIGTSTP),
    ("TTIN", libc::SIGTTIN),
    ("TTOU", libc::SIGTTOU),
    ("URG", libc::SIGURG),
    ("XCPU", libc::SIGXCPU),
    ("XFSZ", libc::SIGXFSZ),
    ("VTALRM", libc::SIGVTALRM),
    ("PROF", libc::SIGPROF),
    ("WINCH", libc::SIGWINCH),
    ("IO", libc::SIGIO),
    ("PWR", libc::SIGPWR),
    ("SYS", libc::SIGSYS),
    ("POLL", libc::SIGIO),
];

/// The first and the last of the signals without a meaning, as glibc counts them and images name them.
const REALTIME: std::ops::RangeInclusive<i32> = 34..=64;

/// Reads a signal: `TERM`, `SIGTERM`, `15`, `RTMIN+3`; upper and lower case are the same.
pub fn parse_signal(text: &str) -> Result<i32, OptionError> {
    let unknown = || OptionError::new(text, "a signal", "SIGTERM");
    if let Ok(number) = text.parse::<i32>() {
        return Some(number).filter(|n| (1..=*REALTIME.end()).contains(n)).ok_or_else(unknown);
    }
    let upper = text.to_ascii_uppercase();
    let name = upper.strip_prefix("SIG").unwrap_or(&upper);
    if let Some((_, number)) = NAMES.iter().find(|(known, _)| *known == name) {
        return Ok(*number);
    }
    let offset = |prefix: &str, sign: char| match name.strip_prefix(prefix)? {
        "" => Some(0),
        rest => rest.strip_prefix(sign)?.parse::<i32>().ok(),
    };
    let from_first = offset("RTMIN", '+').and_then(|count| REALTIME.start().checked_add(count));
    let from_last = offset("RTMAX", '-').and_then(|count| REALTIME.end().checked_sub(count));
    from_first.or(from_last).filter(|number| REALTIME.contains(number)).ok_or_else(unknown)
}

/// What `--log-opt` sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogOption {
    /// `max-size=10m`: a file that has grown to this is put aside.
    MaxSizeBytes(u64),
    /// `max-file=3`: how many files there are.
    MaxFiles(u32),
    /// `retention=7d`: after how many seconds a line goes.
    RetentionSeconds(u64),
}

/// Reads an option of the log, `NAME=VALUE`.
pub fn parse_log_option(text: &str) -> Result<LogOption, OptionError> {
    let unknown = || OptionError::new(text, "an option of the log", "max-size=10m");
    let (name, value) = text.split_once('=').ok_or_else(unknown)?;
    match name {
        // Docker's -1 is no limit.
        "max-size" if value == "-1" => Ok(LogOption::MaxSizeBytes(u64::MAX)),
        "max-size" => super::parse_bytes(value).map(LogOption::MaxSizeBytes),
        "max-file" => {
            let count = value.parse().ok().filter(|count| *count > 0).ok_or_else(unknown)?;
            Ok(LogOption::MaxFiles(count))
        }
        "retention" => age(value).map(LogOption::RetentionSeconds).ok_or_else(|| {
            OptionError::new(text, "an option of the log: its time has no unit", "retention=7d")
        }),
        _ => Err(unknown()),
    }
}

/// Reads a number of days, hours, minutes or seconds.
fn age(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "d" => 24 * 60 * 60,
        "h" => 60 * 60,
        "m" => 60,
        "s" => 1,
        _ => return None,
    };
    number.parse::<u64>().ok().filter(|number| *number > 0)?.checked_mul(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_have_names_and_numbers() {
        for (text, number) in [
            ("TERM", 15),
            ("sigkill", 9),
            ("2", 2),
            ("SIGRTMIN", 34),
            ("RTMIN+3", 37),
            ("rtmax-1", 63),
            ("RTMAX", 64),
            ("64", 64),
        ] {
            assert_eq!(parse_signal(text), Ok(number), "{text}");
        }
        for text in ["", "0", "65", "-1", "TERMINATE", "RTMIN-1", "RTMIN+31", "RTMAX-31", "SIG"] {
            assert!(parse_signal(text).is_err(), "{text}");
        }
    }

    #[test]
    fn options_of_the_log_are_those_of_docker() {
        assert_eq!(parse_log_option("max-size=10k"), Ok(LogOption::MaxSizeBytes(10 * 1024)));
        assert_eq!(parse_log_option("max-size=-1"), Ok(LogOption::MaxSizeBytes(u64::MAX)));
        assert_eq!(parse_log_option("max-file=3"), Ok(LogOption::MaxFiles(3)));
        assert_eq!(parse_log_option("retention=7d"), Ok(LogOption::RetentionSeconds(604_800)));
        assert_eq!(parse_log_option("retention=90m"), Ok(LogOption::RetentionSeconds(5400)));
        for text in [
            "retention=7",
            "retention=",
            "retention=0d",
            "retention=é",
            "max-file=0",
            "max-size=x",
            "max-size",
            "labels=a",
        ] {
            assert!(parse_log_option(text).is_err(), "{text}");
        }
    }
}
