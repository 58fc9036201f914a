//! The monitor's side of the socket, in threads beside the one that runs the container.

use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::Duration;

use crate::control::{self, Reply, Request};
use crate::definition::Definition;
use crate::error::MonitorError;
use crate::execute;
use crate::shared::{NOTHING_RUNS, Shared, spawn};

/// Answers requests until the process ends.
pub(crate) fn serve(
    listener: UnixListener,
    shared: &Arc<Shared>,
    definition: &Definition,
) -> Result<(), MonitorError> {
    let shared = shared.clone();
    let signal = definition.stop_signal;
    let timeout = definition.stop_timeout_seconds;
    let accept = move || {
        for stream in listener.incoming() {
            // A client that is gone already needs no answer; neither does one for which there is no
            // room: it sees the end of its connection.
            let Ok(stream) = stream else { continue };
            let answered = shared.clone();
            shared.asks();
            let answer = move || {
                answer(&stream, &answered, (signal, timeout));
                drop(stream);
                answered.is_answered();
            };
            if spawn(answer).is_err() {
                shared.is_answered();
            }
        }
    };
    spawn(accept).map_err(MonitorError::Start)
}

/// Ends the container when the machine, or a person, asks the monitor itself to end.
pub(crate) fn heed_signals(
    shared: &Arc<Shared>,
    definition: &Definition,
) -> Result<(), MonitorError> {
    let shared = shared.clone();
    let (signal, timeout) = (definition.stop_signal, definition.stop_timeout_seconds);
    let heed = move || {
        while let Ok(received) = corten_sys::signals::wait_any() {
            if [libc::SIGTERM, libc::SIGINT].contains(&received)
                && shared.stop(signal, Duration::from_secs(timeout.into())).is_err()
            {
                break;
            }
        }
    };
    spawn(heed).map_err(MonitorError::Start)
}

fn answer(stream: &UnixStream, shared: &Shared, (stop_signal, stop_timeout): (i32, u32)) {
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
        Request::Execute(request) => return execute::answer(stream, shared, &request),
        Request::Stop { signal, timeout_seconds } => {
            let timeout = Duration::from_secs(timeout_seconds.unwrap_or(stop_timeout).into());
            shared.stop(signal.unwrap_or(stop_signal), timeout).map(|()| Reply::default())
        }
        Request::Wait => Ok(Reply { ended: shared.wait(), ..Reply::default() }),
    };
    let reply = done.unwrap_or_else(|error| Reply::error(error.to_string()));
    // Who has gone away meanwhile does not want to know.
    control::send(stream, &reply).unwrap_or_default();
}
