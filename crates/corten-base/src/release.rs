//! The signed table of contents of a suite: `InRelease`.
//!
//! Nothing from the archive is believed before a key of the keyring has signed for it: the signature
//! covers the digests of the indexes, the indexes hold the digests of the packages. The text that is
//! parsed is the text that was verified, never the file around it.

use std::collections::BTreeMap;

use corten_oci::digest::Digest;
use corten_sys::clock::Timestamp;
use jiff::civil;

use crate::deb822;
use crate::keyring::{Keyring, SignatureError};

/// How far ahead of our clock the date of a release may be: clocks of hosts differ, and apt's limit
/// of 10 seconds made builds fail on hosts without time synchronisation.
const FUTURE_SECONDS_MAX: i64 = 3600;

/// An `InRelease` whose signature was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Release {
    /// `Debian` for what Debian publishes.
    pub(crate) origin: String,
    /// The name that does not change, for example `bookworm` or `bookworm-security`.
    pub(crate) codename: String,
    /// The changing name, for example `oldstable`.
    pub(crate) suite: String,
    /// When it was made, in seconds since 1970.
    pub(crate) date: i64,
    /// Until when it may be used, in seconds since 1970.
    pub(crate) valid_until: Option<i64>,
    /// Whether indexes can be fetched under their digest.
    pub(crate) by_hash: bool,
    /// The indexes by path below the suite.
    pub(crate) files: BTreeMap<String, FileEntry>,
    /// The fingerprints of the keys that signed, in hexadecimal, sorted.
    pub(crate) signers: Vec<String>,
    /// The digest of the file as it was fetched.
    pub(crate) sha256: Digest,
}

/// One file that a release lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileEntry {
    /// The digest.
    pub(crate) sha256: Digest,
    /// The size in bytes.
    pub(crate) size_bytes: u64,
}

/// A release that must not be used.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// The file is no signed text, or no trusted key signed it.
    #[error("the signature is not valid")]
    Signature(#[from] SignatureError),
    /// A field that the format demands is missing or cannot be read.
    #[error("the field `{0}` is missing or malformed")]
    Field(&'static str),
    /// It says that it is something else than what was asked for.
    #[error("it is for `{found}`, not for `{expected}`")]
    WrongSuite {
        /// What was asked for.
        expected: String,
        /// What it says.
        found: String,
    },
    /// It is older than it may be used.
    #[error("it expired on {valid_until}, {days} days ago")]
    Expired {
        /// The date, in RFC 3339.
        valid_until: String,
        /// Whole days since then.
        days: i64,
    },
    /// It comes from the future, so either clock is wrong.
    #[error("it is dated {date}, but the clock of this host says {now}")]
    FromTheFuture {
        /// The date, in RFC 3339.
        date: String,
        /// Our time, in RFC 3339.
        now: String,
    },
}

impl Release {
    /// Verifies and parses an `InRelease`. The dates are not checked: see [`Release::check_dates`].
    pub(crate) fn verify(
        bytes: &[u8],
        keyring: &Keyring,
        now: Timestamp,
    ) -> Result<Self, ReleaseError> {
        let signed = keyring.verify_cleartext(bytes, now)?;
        let mut release = Self::parse(&signed.text)?;
        release.signers = signed.signers;
        release.sha256 = Digest::of(bytes);
        Ok(release)
    }

    fn parse(text: &str) -> Result<Self, ReleaseError> {
        let fields = deb822::paragraphs(text).next().unwrap_or_default();
        let required = |name: &'static str| {
            fields.get(name).filter(|value| !value.is_empty()).ok_or(ReleaseError::Field(name))
        };
        let date =
            |name: &'static str, value: &str| parse_date(value).ok_or(ReleaseError::Field(name));
        let mut files = BTreeMap::new();
        for line in required("SHA256")?.lines().filter(|line| !line.trim_ascii().is_empty()) {
            let (path, entry) = parse_entry(line).ok_or(ReleaseError::Field("SHA256"))?;
            files.insert(path.to_owned(), entry);
        }
        Ok(Self {
            origin: fields.text("Origin").to_owned(),
            codename: required("Codename")?.to_owned(),
            suite: fields.text("Suite").to_owned(),
            date: date("Date", required("Date")?)?,
            valid_until: fields
                .get("Valid-Until")
                .map(|value| date("Valid-Until", value))
                .transpose()?,
            by_hash: fields.text("Acquire-By-Hash") == "yes",
            files,
            signers: Vec::new(),
            sha256: Digest::of(&[]),
        })
    }

    /// Refuses a release that is for another suite than the one asked for.
    pub(crate) fn check_suite(&self, expected: &str) -> Result<(), ReleaseError> {
        if self.codename == expected || self.suite == expected {
            return Ok(());
        }
        Err(ReleaseError::WrongSuite {
            expected: expected.to_owned(),
            found: self.codename.clone(),
        })
    }

    /// Refuses a release that has expired or lies in the future.
    pub(crate) fn check_dates(&self, now: Timestamp) -> Result<(), ReleaseError> {
        let now = now.seconds;
        if self.date.saturating_sub(now) > FUTURE_SECONDS_MAX {
            let spell = corten_oci::time::rfc3339;
            return Err(ReleaseError::FromTheFuture { date: spell(self.date), now: spell(now) });
        }
        match self.valid_until {
            Some(until) if until < now => Err(ReleaseError::Expired {
                valid_until: corten_oci::time::rfc3339(until),
                days: now.saturating_sub(until) / 86400,
            }),
            _ => Ok(()),
        }
    }
}

fn parse_entry(line: &str) -> Option<(&str, FileEntry)> {
    let mut words = line.split_ascii_whitespace();
    let sha256 = Digest::from_hex(words.next()?).ok()?;
    let size_bytes = words.next()?.parse().ok()?;
    let path = words.next()?;
    let safe = path.split('/').all(|part| !matches!(part, "" | "." | ".."));
    (safe && words.next().is_none()).then_some((path, FileEntry { sha256, size_bytes }))
}

/// Reads the one form of date that Debian writes: `Sat, 11 Jul 2026 10:16:37 UTC`.
fn parse_date(text: &str) -> Option<i64> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, rest) = text.split_once(',')?;
    let words: Vec<&str> = rest.split_ascii_whitespace().collect();
    let [day, month, year, time, "UTC" | "GMT" | "+0000"] = words.as_slice() else { return None };
    let month = MONTHS.iter().position(|name| name == month)? + 1;
    let mut clock = time.splitn(3, ':').map(|part| part.parse::<i8>().ok());
    let (hour, minute, second) = (clock.next()??, clock.next()??, clock.next()??);
    let month = i8::try_from(month).ok()?;
    let date =
        civil::DateTime::new(year.parse().ok()?, month, day.parse().ok()?, hour, minute, second, 0)
            .ok()?;
    Some(date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Origin: Debian\nSuite: oldstable\nCodename: bookworm\n\
        Date: Sat, 11 Jul 2026 10:16:37 UTC\nValid-Until: Sat, 18 Jul 2026 10:16:37 UTC\nAcquire-By-Hash: yes\n\
        SHA256:\n e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  7 main/binary-amd64/Packages.xz\n";

    #[test]
    fn the_fields_of_a_release_are_read() {
        let release = Release::parse(TEXT).unwrap();
        assert_eq!(release.codename, "bookworm");
        assert_eq!(release.date, 1_783_764_997);
        assert!(release.by_hash);
        assert_eq!(release.files["main/binary-amd64/Packages.xz"].size_bytes, 7);
        assert!(
            release.check_suite("bookworm").is_ok() && release.check_suite("oldstable").is_ok()
        );
        let wrong = release.check_suite("trixie").unwrap_err().to_string();
        assert_eq!(wrong, "it is for `bookworm`, not for `trixie`");
    }

    #[test]
    fn dates_are_in_utc() {
        assert_eq!(parse_date("Thu, 01 Jan 1970 00:00:01 UTC"), Some(1));
        assert_eq!(parse_date("Sat, 11 Jul 2026 10:16:37 UTC"), Some(1_783_764_997));
        for bad in [
            "",
            "Sat, 31 Feb 2026 10:16:37 UTC",
            "Sat, 11 Jul 2026 10:16:37 CET",
            "Sat, 11 Foo 2026 1:1:1 UTC",
        ] {
            assert_eq!(parse_date(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_expired_release_or_one_from_the_future_is_refused() {
        let release = Release::parse(TEXT).unwrap();
        let at = |seconds| release.check_dates(Timestamp::from_seconds(seconds));
        assert!(at(release.date).is_ok());
        assert!(at(release.date - FUTURE_SECONDS_MAX).is_ok());
        let early = at(release.date - FUTURE_SECONDS_MAX - 1).unwrap_err().to_string();
        assert!(early.contains("the clock of this host says 2026-07-11T09:16:36Z"), "{early}");
        let late = at(release.date + 10 * 86400).unwrap_err().to_string();
        assert_eq!(late, "it expired on 2026-07-18T10:16:37Z, 3 days ago");
    }

    #[test]
    fn a_release_with_a_missing_field_or_an_unsafe_path_is_refused() {
        let refused =
            |from: &str, to: &str| Release::parse(&TEXT.replace(from, to)).unwrap_err().to_string();
        assert!(refused("Codename: bookworm\n", "").contains("`Codename`"));
        assert!(refused("Date: Sat, ", "Date: ").contains("`Date`"));
        assert!(refused("main/binary", "../main").contains("`SHA256`"));
        assert!(refused("  7 ", "  x ").contains("`SHA256`"));
    }
}
