//! The monitor's side: whom output goes to.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use corten_diag::Stream;
use corten_sys::clock::{Clock as _, SystemClock};
use corten_sys::socket;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{ENDING, ERRORS, Ending, INPUT, OUTPUT, TERMINAL};

/// A client of pipes that has not taken what waits for it, some 200 kB, after this time is let go:
/// nobody who looks on holds the container up for longer.
const PATIENCE: Duration = Duration::from_secs(2);

/// The same for a terminal, whose reader may be a person on a slow line.
const PATIENCE_WITH_TERMINAL: Duration = Duration::from_secs(10);

/// Whom output goes to.
#[derive(Debug, Default)]
pub(crate) struct Clients(Mutex<Vec<Client>>);

/// Somebody who is attached.
#[derive(Debug)]
pub(crate) struct Client {
    socket: OwnedFd,
    /// Whether it wants to be read.
    wants_input: bool,
    /// It has the terminal, or what it may have of the pipes.
    has_input: bool,
}

impl Client {
    pub(crate) fn new(socket: OwnedFd, wants_input: bool) -> Self {
        Self { socket, wants_input, has_input: false }
    }
}

impl Clients {
    fn lock(&self) -> MutexGuard<'_, Vec<Client>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, client: Client) {
        self.lock().push(client);
    }

    /// Sends what the container has written to everybody. Who has gone, or is too slow, gets nothing more.
    pub(crate) fn publish(&self, stream: Stream, bytes: &[u8], with_terminal: bool) {
        let kind = if stream == Stream::Stderr { ERRORS } else { OUTPUT };
        let patience = if with_terminal { PATIENCE_WITH_TERMINAL } else { PATIENCE };
        self.lock().retain(|client| send(client, kind, bytes, patience).unwrap_or_default());
    }

    /// Gives the program's terminal or input to those who have not got it. Returns whether somebody has
    /// what it reads now.
    pub(crate) fn give(
        &self,
        terminal: Option<BorrowedFd<'_>>,
        input: Option<BorrowedFd<'_>>,
    ) -> bool {
        let mut is_taken = false;
        self.lock().retain_mut(|client| {
            if client.has_input {
                return true;
            }
            client.has_input = true;
            let (kind, fd) = match (terminal, input.filter(|_| client.wants_input)) {
                (Some(terminal), _) => (TERMINAL, terminal),
                (None, Some(input)) => (INPUT, input),
                (None, None) => return true,
            };
            let sent = socket::send(client.socket.as_fd(), &[kind], &[fd]).is_ok();
            is_taken |= sent && kind == INPUT;
            sent
        });
        is_taken
    }

    /// Tells everybody that the program has ended, which is the last that they hear.
    pub(crate) fn end(&self, ending: &Ending) {
        // Texts and numbers are always JSON.
        let bytes = serde_json::to_vec(ending).unwrap_or_default();
        for client in std::mem::take(&mut *self.lock()) {
            // Who does not take it sees the end of the messages all the same.
            send(&client, ENDING, &bytes, PATIENCE).unwrap_or_default();
        }
    }
}

/// Sends a message; false if the client has not taken what came before within the time.
fn send(client: &Client, kind: u8, bytes: &[u8], patience: Duration) -> io::Result<bool> {
    let began = SystemClock.monotonic();
    while !socket::try_send(client.socket.as_fd(), &[kind], bytes)? {
        let left = patience.saturating_sub(SystemClock.monotonic().saturating_sub(began));
        if left.is_zero() {
            return Ok(false);
        }
        let timeout = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut fds = [PollFd::new(&client.socket, PollFlags::OUT)];
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(true)
}
