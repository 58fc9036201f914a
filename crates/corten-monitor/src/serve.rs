//! The monitor's side of the socket, in threads beside the one that runs the container.

use std::os::fd::AsFd as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use corten_runtime::{Live, Notice, SharedMemory, network};
use corten_sys::error::IoError;
use corten_sys::socket;

use crate::attach::Client;
use crate::control::{self, HANDED_OVER, Reply, Request};
use crate::error::{Failed, MonitorError};
use crate::execute;
use crate::shared::{NOTHING_RUNS, Shared, spawn};

/// Answers requests until the process ends.
pub(crate) fn serve(listener: UnixListener, shared: &Arc<Shared>) -> Result<(), MonitorError> {
    let shared = shared.clone();
    let accept = move || {
        for stream in listener.incoming() {
            // A client that is gone already needs no answer.
            let Ok(stream) = stream else { continue };
            receive(stream, &shared);
        }
    };
    spawn(accept).map_err(MonitorError::Start)
}

/// Answers one request, in a thread of its own since the answer may take its time.
pub(crate) fn receive(stream: UnixStream, shared: &Arc<Shared>) {
    let answered = shared.clone();
    shared.asks();
    let answer = move || {
        answer(&stream, &answered);
        drop(stream);
        answered.is_answered();
    };
    // One for whom there is no room sees the end of its connection.
    if spawn(answer).is_err() {
        shared.is_answered();
    }
}

/// Ends the container when the machine, or a person, asks the monitor itself to end.
pub(crate) fn heed_signals(shared: &Arc<Shared>) -> Result<(), MonitorError> {
    let shared = shared.clone();
    let heed = move || {
        while let Ok(received) = corten_sys::signals::wait_any() {
            let definition = shared.definition();
            let timeout = Duration::from_secs(definition.stop_timeout_seconds.into());
            if [libc::SIGTERM, libc::SIGINT].contains(&received)
                && shared.stop(definition.stop_signal, timeout).is_err()
            {
                break;
            }
        }
    };
    spawn(heed).map_err(MonitorError::Start)
}

fn answer(stream: &UnixStream, shared: &Shared) {
    let request = match control::receive(stream) {
        Ok(Some(request)) => request,
        Ok(None) => return,
        Err(error) => {
            let reply = Reply::error(format!("not a request: {error}"));
            control::send(stream, &reply).unwrap_or_default();
            return;
        }
    };
    let done = match request {
        Request::Signal { signal } => shared
            .signal(signal)
            .map(|was_there| if was_there { Reply::default() } else { Reply::error(NOTHING_RUNS) }),
        Request::Process => shared.running().map(|target| {
            let process = target.map(|target| {
                let private = target.planned.spec.shared_memory != SharedMemory::Shareable;
                (target.pid, !private)
            });
            Reply { process, ..Reply::default() }
        }),
        Request::Execute(request) => return execute::answer(stream, shared, &request),
        Request::Attach { input } => return attach(stream, shared, input),
        Request::Stop { signal, timeout_seconds } => {
            let definition = shared.definition();
            let seconds = timeout_seconds.unwrap_or(definition.stop_timeout_seconds);
            let signal = signal.unwrap_or(definition.stop_signal);
            let stopped = shared.stop(signal, Duration::from_secs(seconds.into()));
            stopped.map(|()| Reply::default())
        }
        Request::Pause => Ok(set_paused(shared, true)),
        Request::Unpause => Ok(set_paused(shared, false)),
        Request::ServeNames => serve_names(shared),
        Request::Processes => {
            look(shared, |live| Ok(Reply { processes: live.processes()?, ..Reply::default() }))
        }
        Request::Usage => {
            look(shared, |live| Ok(Reply { usage: Some(live.usage()?), ..Reply::default() }))
        }
        Request::Update { definition } => Ok(match shared.update(*definition) {
            Ok(notices) => Reply {
                warnings: notices.iter().map(Notice::to_string).collect(),
                ..Reply::default()
            },
            Err(failed) => refused(failed),
        }),
        Request::Wait => Ok(Reply { ended: shared.wait(), ..Reply::default() }),
    };
    let reply = done.unwrap_or_else(|error| Reply::error(error.to_string()));
    // Who has gone away meanwhile does not want to know.
    control::send(stream, &reply).unwrap_or_default();
}

/// Takes the socket of somebody who wants to be attached. Who has gone away meanwhile, is not.
fn attach(stream: &UnixStream, shared: &Shared, input: bool) {
    if control::send(stream, &Reply::default()).is_err() {
        return;
    }
    let mut word = [0; HANDED_OVER.len()];
    let Ok(received) = socket::receive(stream.as_fd(), &mut word) else { return };
    if received.length == 0 || word != *HANDED_OVER {
        return;
    }
    if let Some(socket) = received.fds.into_iter().next() {
        // Without a descriptor to spare, the client hears what the container writes all the same.
        shared.attach(Client::new(socket, input)).unwrap_or_default();
    }
}

fn refused(Failed { message, hint, .. }: Failed) -> Reply {
    Reply { hint, ..Reply::error(message) }
}

fn set_paused(shared: &Shared, is_paused: bool) -> Reply {
    match (shared.set_paused(is_paused), is_paused) {
        (Ok(true), _) => Reply::default(),
        (Ok(false), true) => Reply::error("the container is paused already"),
        (Ok(false), false) => Reply::error("the container is not paused"),
        (Err(failed), _) => refused(failed),
    }
}

/// Looks at what runs.
fn look(
    shared: &Shared,
    look: impl FnOnce(&Live<'_>) -> Result<Reply, IoError>,
) -> std::io::Result<Reply> {
    let Some(target) = shared.running()? else { return Ok(Reply::error(NOTHING_RUNS)) };
    look(&Live::new(&target.planned.plan, target.pid)).map_err(std::io::Error::other)
}

fn serve_names(shared: &Shared) -> std::io::Result<Reply> {
    let Some(target) = shared.running()? else { return Ok(Reply::error(NOTHING_RUNS)) };
    let spec = &target.planned.spec;
    match network::serve_names(&spec.id, &spec.networking.names) {
        Ok(()) => Ok(Reply::default()),
        Err(error) => Ok(refused(Failed { hint: error.hint(), ..Failed::of(&error) })),
    }
}
