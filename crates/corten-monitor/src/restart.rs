//! When a container that has ended is started again.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The first pause before a container is started again; each further one is twice as long.
const PAUSE_MIN: Duration = Duration::from_millis(100);

/// No pause is longer.
const PAUSE_MAX: Duration = Duration::from_mins(1);

/// One that has run for so long has recovered: the pauses begin anew.
const RECOVERED: Duration = Duration::from_secs(10);

/// Docker's restart policies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never.
    #[default]
    No,
    /// When it ends with another code than 0; at most so many times.
    OnFailure { max: Option<u32> },
    /// Always, after a boot too.
    Always,
    /// Always, but after a boot only if it was not stopped by hand.
    UnlessStopped,
}

/// A policy that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no restart policy")]
pub struct ParseRestartError(String);

impl ParseRestartError {
    /// What to write instead.
    pub fn hint(&self) -> &'static str {
        "write `no`, `on-failure`, `on-failure:3`, `always` or `unless-stopped`"
    }
}

impl FromStr for Restart {
    type Err = ParseRestartError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unknown = || ParseRestartError(text.to_owned());
        match text.split_once(':') {
            None => match text {
                "no" | "" => Ok(Self::No),
                "on-failure" => Ok(Self::OnFailure { max: None }),
                "always" => Ok(Self::Always),
                "unless-stopped" => Ok(Self::UnlessStopped),
                _ => Err(unknown()),
            },
            Some(("on-failure", count)) => {
                let max = count.parse().map_err(|_| unknown())?;
                Ok(Self::OnFailure { max: Some(max).filter(|max| *max > 0) })
            }
            Some(_) => Err(unknown()),
        }
    }
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => f.write_str("no"),
            Self::OnFailure { max: None } => f.write_str("on-failure"),
            Self::OnFailure { max: Some(max) } => write!(f, "on-failure:{max}"),
            Self::Always => f.write_str("always"),
            Self::UnlessStopped => f.write_str("unless-stopped"),
        }
    }
}

impl Restart {
    /// Returns true if a container that ended with this code is started again, after so many times
    /// that it was already.
    pub(crate) fn applies(self, code: i32, restarts: u32) -> bool {
        match self {
            Self::No => false,
            Self::OnFailure { max } => code != 0 && max.is_none_or(|max| restarts < max),
            Self::Always | Self::UnlessStopped => true,
        }
    }
}

/// The pauses between the ends and the starts of one container.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: PAUSE_MIN }
    }
}

impl Backoff {
    /// Returns how long to wait after a program that ran for this time.
    pub(crate) fn pause(&mut self, ran: Duration) -> Duration {
        if ran >= RECOVERED {
            self.next = PAUSE_MIN;
        }
        let pause = self.next;
        self.next = (pause * 2).min(PAUSE_MAX);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn policies_are_read_and_printed() {
        for text in ["no", "on-failure", "on-failure:3", "always", "unless-stopped"] {
            assert_eq!(text.parse::<Restart>().unwrap().to_string(), text);
        }
        assert_eq!("on-failure:0".parse(), Ok(Restart::OnFailure { max: None }));
        for text in ["never", "on-failure:", "on-failure:-1", "always:3", "ON-FAILURE"] {
            assert!(text.parse::<Restart>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_policy_says_who_is_started_again() {
        let limited = Restart::OnFailure { max: Some(2) };
        assert!(limited.applies(1, 0) && limited.applies(137, 1));
        assert!(!limited.applies(0, 0) && !limited.applies(1, 2));
        assert!(Restart::Always.applies(0, 1000) && !Restart::No.applies(1, 0));
    }

    #[test]
    fn pauses_grow_to_a_minute_and_begin_anew_after_a_good_run() {
        let mut backoff = Backoff::default();
        let short = Duration::from_secs(1);
        let pauses: Vec<u128> = (0..4).map(|_| backoff.pause(short).as_millis()).collect();
        assert_eq!(pauses, [100, 200, 400, 800]);
        let longest = (0..20).map(|_| backoff.pause(short)).max();
        assert_eq!(longest, Some(PAUSE_MAX));
        assert_eq!(backoff.pause(RECOVERED), PAUSE_MIN);
    }
}
