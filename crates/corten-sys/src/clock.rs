//! Time as an input, so that tests and reproducible builds choose it.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A moment of the wall clock, in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    /// Whole seconds since 1970-01-01T00:00:00Z; negative before it.
    pub seconds: i64,
    /// Nanoseconds within the second, below 1,000,000,000.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// Builds a timestamp of whole seconds.
    pub const fn from_seconds(seconds: i64) -> Self {
        Self { seconds, nanoseconds: 0 }
    }
}

/// A source of time.
pub trait Clock: Sync + Send {
    /// Returns the time of day.
    fn now(&self) -> Timestamp;

    /// Returns a time that never goes back, for measuring; its zero has no meaning.
    fn monotonic(&self) -> Duration;
}

/// The clock of the host.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let time = clock_gettime(ClockId::Realtime);
        Timestamp {
            seconds: time.tv_sec,
            nanoseconds: u32::try_from(time.tv_nsec).unwrap_or_default(),
        }
    }

    fn monotonic(&self) -> Duration {
        let time = clock_gettime(ClockId::Monotonic);
        Duration::new(
            u64::try_from(time.tv_sec).unwrap_or_default(),
            u32::try_from(time.tv_nsec).unwrap_or_default(),
        )
    }
}

/// A clock that stands still, for tests.
#[derive(Debug, Clone, Copy)]
pub struct FixedClock(pub Timestamp);

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        self.0
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}
