//! A container that runs in the foreground of a command and answers requests as one in the background.
//!
//! The command itself is what a monitor is otherwise, without a process or a waiting thread for it: the
//! socket is looked at while the container's output is, and only a request gets a thread.

use std::cell::RefCell;
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::sync::Arc;

use corten_diag::Stream;
use corten_runtime::{Io, Outcome, Output, RunError, Running, Visitor};
use corten_store::RunningContainer;
use corten_sys::clock::{Clock as _, SystemClock};
use corten_sys::error::IoError;

use crate::attach::Ending;
use crate::control::{self, Ended};
use crate::definition::Definition;
use crate::error::MonitorError;
use crate::health;
use crate::log;
use crate::serve::receive;
use crate::shared::{Planned, Shared};

/// A container that this process runs in the foreground.
#[derive(Debug)]
pub struct Foreground {
    shared: Arc<Shared>,
    listener: UnixListener,
    folder: PathBuf,
    /// At its end; what it writes is not kept.
    goes_away: bool,
}

impl Foreground {
    /// Begins to listen for requests. What a container writes that goes away at its end is not kept:
    /// nobody could read it for longer than it is shown.
    pub fn new(container: &RunningContainer, definition: Definition) -> Result<Self, MonitorError> {
        let folder = container.folder();
        let listener = control::listen(&folder)?;
        listener.set_nonblocking(true).map_err(MonitorError::Start)?;
        let goes_away = container.record().remove_at_end;
        let shared = Arc::new(Shared::new(definition, container));
        Ok(Self { shared, listener, folder, goes_away })
    }

    /// Runs the container to its end, and passes signals on to it if that is wanted. The error of the log is that of a part that could not be kept.
    pub fn run(
        &self,
        planned: Planned,
        forward_signals: bool,
    ) -> Result<(Outcome, Option<IoError>), RunError> {
        let planned = Arc::new(planned);
        self.shared.planned(&planned);
        let log = RefCell::new(Log { writer: None, lost: None });
        let mut look = |stream: Stream, bytes: &[u8]| {
            if !self.goes_away {
                log.borrow_mut().write(self, stream, bytes);
            }
            self.shared.publish(stream, bytes);
        };
        let started = |running: Running| {
            planned.peers.check().map_err(std::io::Error::other)?;
            self.shared.began(running)
        };
        let answer = || {
            // Several may have come; who is gone already needs no answer.
            while let Ok((stream, _)) = self.listener.accept() {
                receive(stream, &self.shared);
            }
        };
        let io = Io {
            started: Some(&started),
            output: Output::Shown(&mut look),
            visitor: Some(Visitor { knocks: self.listener.as_fd(), answer: &answer }),
            forward_signals,
            ..Io::inherit()
        };
        if let Some(health) = &self.shared.definition().health {
            // Without a thread for it, its health is not known.
            health::watch(&self.shared, health, self.folder.clone()).unwrap_or_default();
        }
        let outcome = corten_runtime::run(&planned.plan, io);
        let ended = outcome
            .as_ref()
            .map_or(Ended { code: 125, oom_killed: false }, |outcome| Ending::of(outcome).ended);
        if outcome.is_ok() {
            self.shared.tell_died(ended);
        }
        self.shared.ended(ended);
        Ok((outcome?, log.into_inner().finish()))
    }

    /// Why an event could not be written down, if that was so.
    pub fn unwritten(&self) -> Option<String> {
        self.shared.unwritten()
    }

    /// Tells those who wait or look on, once the end is written down.
    pub fn farewell(&self, ending: &Ending) {
        if self.goes_away {
            self.shared.tell("destroy", &[]);
        }
        self.shared.tell_end(ending);
        self.shared.farewell();
    }
}

/// The log, which is opened with the first that is written.
struct Log {
    writer: Option<log::Writer>,
    lost: Option<IoError>,
}

impl Log {
    fn write(&mut self, container: &Foreground, stream: Stream, bytes: &[u8]) {
        if self.lost.is_some() {
            return;
        }
        let now = SystemClock.now();
        let written = match &mut self.writer {
            Some(writer) => writer.write(stream, bytes, now),
            None => self.open(container).and_then(|writer| writer.write(stream, bytes, now)),
        };
        self.lost = written.err();
    }

    fn open(&mut self, container: &Foreground) -> Result<&mut log::Writer, IoError> {
        let folder = log::folder(&container.folder);
        let writer = log::Writer::open(&folder, container.shared.definition().log)?;
        Ok(self.writer.insert(writer))
    }

    fn finish(mut self) -> Option<IoError> {
        let finished = self.writer.as_mut().map(|writer| writer.finish(SystemClock.now()));
        self.lost.or(finished.and_then(Result::err))
    }
}
